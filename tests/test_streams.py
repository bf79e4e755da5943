# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Standard streams that nobody reads, or that cannot be written: the files are made anyway."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrodenoise.cli import main
from helpers import ROOT

N_FRAMES = 3
MODEL = ('--model', 'fast')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """Frames, and what comes of them where all is told."""
    folder = tmp_path_factory.mktemp('undisturbed')
    for number in range(N_FRAMES):
        data = np.random.default_rng(number).normal(500, 10, (128, 128)).astype(np.float32)
        fits.PrimaryHDU(data).writeto(folder / f'{number}.fits')
    names = [str(folder / f'{number}.fits') for number in range(N_FRAMES)]
    assert main(['denoise', *names, '-o', str(folder / 'out'), *MODEL, '-q']) == 0
    noise = ('-o', str(folder / 'clean.fits'), '--residual', str(folder / 'noise.fits'))
    assert main(['denoise', names[0], *noise, *MODEL, '-q']) == 0
    return folder


@pytest.fixture
def frames(undisturbed, tmp_path):
    """Give copies of the frames; check at the end that nobody touched them."""
    paths = [tmp_path / f'{number}.fits' for number in range(N_FRAMES)]
    for path in paths:
        shutil.copy2(undisturbed / path.name, path)
    yield paths
    for path in paths:
        assert path.read_bytes() == (undisturbed / path.name).read_bytes()
        assert path.stat().st_mtime_ns == (undisturbed / path.name).stat().st_mtime_ns


def told_to(stream, *arguments, unbuffered=False):
    """Run the command with a shell's redirection of its output; its status and stderr."""
    command = [sys.executable, *(['-u'] if unbuffered else []), '-m', 'astrodenoise.cli']
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONUNBUFFERED'}
    # of a pipeline the shell tells the status of the first
    script = f'set -o pipefail; "$@" {stream}'
    done = subprocess.run(
        ['bash', '-c', script, 'bash', *map(str, (*command, *arguments))],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


def same_files(folder, other):
    assert sorted(os.listdir(folder)) == sorted(os.listdir(other))
    for path in folder.iterdir():
        assert np.array_equal(fits.getdata(path), fits.getdata(other / path.name))


@pytest.mark.parametrize(
    ('stream', 'options'),
    [
        ('| true', ()),
        ('| true', ('--json',)),
        ('>&-', ()),
        ('2>&1 | true', ('-vv',)),
    ],
    ids=['pipe closed', 'events', 'no stdout', 'both closed'],
)
def test_all_frames_are_denoised_when_nobody_listens(
    stream, options, frames, undisturbed, tmp_path
):
    """The reader has left, as after ``| head``: status 0, not a word, every file is complete."""
    status, errors = told_to(stream, 'denoise', *frames, '-o', tmp_path / 'out', *MODEL, *options)
    assert status == 0
    assert [line for line in errors if 'Error' in line or 'pipe' in line] == []
    same_files(tmp_path / 'out', undisturbed / 'out')


@pytest.mark.skipif(
    not Path('/dev/full').exists(), reason='/dev/full, which is always full, is of Linux alone'
)
@pytest.mark.parametrize(
    ('command', 'unbuffered'), [('models', True), ('models', False), ('denoise', False)]
)
def test_output_that_is_full_is_told(command, unbuffered, frames, undisturbed, tmp_path):
    """It is one line and status 1; what was written is complete, and again does the rest."""
    out = tmp_path / 'out'
    arguments = ['denoise', *frames, '-o', out, *MODEL] if command == 'denoise' else ['models']
    status, errors = told_to('>/dev/full', *arguments, unbuffered=unbuffered)
    assert status == 1
    (line,) = errors
    assert line.startswith('astrodenoise: the standard output cannot be written: No space left')
    if command == 'denoise':
        assert not list(out.glob('.*'))
        assert told_to('', *arguments, '--resume', '-q') == (0, [])
        same_files(out, undisturbed / 'out')


@pytest.mark.parametrize('command', ['blend', 'report'])
def test_other_commands_end_well_when_nobody_listens(command, frames, undisturbed, tmp_path):
    arguments, target = {
        'blend': (['blend', undisturbed / 'noise.fits'], tmp_path / 'blended.fits'),
        'report': (['report', undisturbed / 'clean.fits'], tmp_path / 'page.html'),
    }[command]
    arguments.insert(1, frames[0])
    status, errors = told_to('| true', *arguments, '-o', target)
    assert [line for line in errors if 'Error' in line or 'pipe' in line] == []
    assert status == 0
    assert target.stat().st_size > 2880
