# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How Sphinx builds the documentation: ``sphinx-build -W -b html docs docs/_build/html``."""

import sys
import tomllib
from pathlib import Path

from sphinx_astropy.conf.v3 import *  # Astropy's own settings and theme

import astrodenoise

with (Path(__file__).parents[1] / 'pyproject.toml').open('rb') as file:
    metadata = tomllib.load(file)['project']

project = metadata['name']
author = metadata['authors'][0]['name']
copyright = f'2026, {author}'
version = release = astrodenoise.__version__

extensions += ['sphinx_copybutton', 'sphinx_design']
copybutton_prompt_text = r'>>> |\.\.\. |\$ |> '
copybutton_prompt_is_regexp = True
html_title = f'{project} {release}'
html_static_path = ['_static']

# the documentation builds without a network: the names of other projects stay plain text
intersphinx_mapping = {}

sys.path.insert(0, str(Path(__file__).with_name('tutorials')))  # skies.py, what they start from
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [('png', 110)]
html_css_files = ['wide.css']
