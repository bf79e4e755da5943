# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How Sphinx builds the documentation: ``sphinx-build -W -b html docs docs/_build/html``."""

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

extensions += ['sphinx_copybutton']
copybutton_prompt_text = '>>> '
html_title = f'{project} {release}'
html_static_path = ['_static'] if Path(__file__).with_name('_static').is_dir() else []

# the documentation builds without a network: the names of other projects stay plain text
intersphinx_mapping = {}
