# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Every code block of the documentation runs.

Python stands in doctests (pytest runs them) or in plot directives (the build of the documentation
runs them); what stands in other blocks is run or read here.
"""

import re
import shlex
import shutil
import tomllib
from glob import glob

import numpy as np
import pytest
import tifffile
from astropy.nddata import CCDData

from astrodenoise import cli, denoise
from astrodenoise.training.config import load_config
from helpers import ROOT

PAGES = sorted([*(ROOT / 'docs').rglob('*.rst'), ROOT / 'README.rst', ROOT / 'CONTRIBUTING.rst'])
# programs of others, which a page may call
OTHERS = ('.', 'python3', 'pip', 'pipx', 'uv', 'dask', 'jq', 'torchrun', 'tensorboard', 'tox')
# are read by the parser, not run: they take long or files of archives
LONG = ('train', '--scheduler', '--workers', '$SLURM', 'jabc01', 'ooi.fits', 'mine/')


def blocks_of(page):
    """Give the literal blocks of a page: their language, options and lines."""
    lines = page.read_text(encoding='utf-8').split('\n')
    for number, line in enumerate(lines):
        directive = re.match(r'( *)\.\. (code-block|plot|doctest-skip|code|highlight)::(.*)', line)
        literal = re.search(r'(^|[^:])::$', line) and not line.lstrip().startswith('.. ')
        if not directive and not literal:
            continue
        indent = len(line) - len(line.lstrip())
        body = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= indent:
                break
            body.append(following.strip())
        language = 'literal'
        if directive:
            language = directive[3].strip() if 'code' in directive[2] else directive[2]
        yield f'{page.name}:{number + 1}', language, [one for one in body if one]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(lines):
    """Give the commands of a console block, continued lines joined; the rest is output."""
    commands = []
    for line in lines:
        if line.startswith('$ '):
            commands.append(line[2:])
        elif line.startswith('> ') and commands and commands[-1].endswith('\\'):
            commands[-1] = commands[-1][:-1] + line[2:]
    return [re.sub(r'\s+#.*| &$', '', command) for command in commands]


CONSOLE = [
    pytest.param(command, id=f'{where}-{command[:60]}')
    for where, language, lines in BLOCKS
    if language == 'console'
    for command in commands_of(lines)
]
OURS = [one for one in CONSOLE if one.values[0].startswith('astrodenoise')]


@pytest.mark.parametrize(('where', 'language', 'lines'), BLOCKS)
def test_every_block_is_of_a_kind_that_is_run(where, language, lines):
    """No block of code is only looked at: Python is a doctest or a plot, the rest is run below."""
    assert language in ('console', 'toml', 'plot', 'text') or where.startswith('README')
    if language == 'plot':
        code = [line for line in lines if not line.startswith(':')]
        assert code
    if language == 'console':
        assert commands_of(lines)


@pytest.mark.parametrize('command', CONSOLE)
def test_programs_of_others_are_named(command):
    program = command.split()[0]
    assert program == 'astrodenoise' or program in OTHERS or program == 'python'
    for script in re.findall(r'^python ((?:benchmarks|integrations)/\S+\.py)', command):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize('command', OURS)
def test_the_parser_takes_the_commands_of_the_pages(command):
    """Options in the documentation exist and take what is given to them."""
    words = shlex.split(re.sub(r'\$\w+', '1', command))[1:]
    if words in (['--help'], ['denoise', '--help'], ['--version']):
        return
    assert cli.make_parser().parse_args(words).run  # else it exits


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """Make a folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp('pages')
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:96, :96]
    star = 900 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 5)
    truth = CCDData((300 + star).astype(np.float32), unit='adu')
    (folder / 'night').mkdir()

    def noisy():
        return CCDData((300 + star + rng.normal(0, 12, star.shape)).astype(np.float32), unit='adu')

    truth.write(folder / 'truth.fits')
    for name in ('stack', 'noisy', 'other', 'first', 'second', 'night/first', 'night/second'):
        noisy().write(folder / f'{name}.fits')
    colour = CCDData(np.stack([noisy().data for _ in range(3)]), unit='adu')
    colour.write(folder / 'flat.fits')
    picture = np.stack([noisy().data[::-1]] * 3, axis=-1)
    tifffile.imwrite(folder / 'picture.tif', np.clip(picture, 0, 65535).astype(np.uint16))
    for name in ('truth', 'noisy', 'denoised'):
        (folder / name).mkdir()
    truth.write(folder / 'truth/a.fits')
    frame = noisy()
    frame.write(folder / 'noisy/a.fits')
    denoise(frame).write(folder / 'denoised/a.fits')
    denoise(noisy()).write(folder / 'denoised.fits')
    return folder


def short_commands(lines):
    """Give those of our commands that take no longer than a moment and no archive's own files."""
    ours = [one for one in commands_of(lines) if one.startswith('astrodenoise')]
    return [one for one in ours if not any(word in one for word in LONG)]


@pytest.mark.parametrize(
    'commands',
    [
        pytest.param(short_commands(lines), id=where)
        for where, language, lines in BLOCKS
        if language == 'console' and short_commands(lines)
    ],
)
def test_the_commands_of_the_pages_run(commands, frames, tmp_path, monkeypatch, capsys):
    """What a page tells to type does what it should, one command after the other."""
    folder = tmp_path / 'own'
    shutil.copytree(frames, folder)
    monkeypatch.chdir(folder)
    for command in commands:
        words = [part for word in shlex.split(command)[1:] for part in expanded(word)]
        assert cli.main(words) == 0, command
        assert capsys.readouterr().out, command


def expanded(word):
    return sorted(glob(word)) if '*' in word else [word]


@pytest.mark.parametrize(
    'lines', [pytest.param(lines, id=where) for where, lang, lines in BLOCKS if lang == 'toml']
)
def test_the_configurations_of_the_pages_are_read(lines, tmp_path):
    """A TOML block is a configuration that a training takes."""
    text = '\n'.join(lines)
    tomllib.loads(text)
    path = tmp_path / 'config.toml'
    path.write_text(text, encoding='utf-8')
    assert load_config(str(path)).name
