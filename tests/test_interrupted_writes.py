# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Every command that writes, when its file is all but complete: a disk that fills, a signal.

The old file stays byte for byte, nothing partial is left, and again gives what it always gives.
Real disks that are full and signals to real processes are in `test_faults`.
"""

import errno
import os
import signal

import numpy as np
import pytest
from astropy.io import fits

import astrodenoise
from astrodenoise import atomic
from astrodenoise.cli import main

MODEL = ('--model', 'fast')
COMMANDS = {
    'denoise': (['denoise', 'in.fits', '-o', 'TARGET', *MODEL], 'new.fits'),
    'blend': (['blend', 'in.fits', 'noise.fits', '-o', 'TARGET', '--strength', '0.5'], 'new.fits'),
    'report': (['report', 'in.fits', 'clean.fits', '-o', 'TARGET'], 'new.json'),
    'check': (['check', 'in.fits', '--json', 'TARGET', '--sources', '20', *MODEL], 'new.json'),
}
OLD = b'what was here before'


def no_space():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = {  # and the status and the words of the one line
    'disk full': (no_space, 1, 'No space left on device'),
    'Ctrl-C': (lambda: signal.raise_signal(signal.SIGINT), 130, 'interrupted'),
    'SIGTERM': (lambda: signal.raise_signal(signal.SIGTERM), 130, 'interrupted'),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Write a frame, and its denoised image and noise."""
    folder = tmp_path_factory.mktemp('frames')
    data = np.random.default_rng(1).normal(500, 10, (256, 256)).astype(np.float32)
    fits.PrimaryHDU(data).writeto(folder / 'in.fits')
    outputs = ('-o', str(folder / 'clean.fits'), '--residual', str(folder / 'noise.fits'))
    assert main(['denoise', str(folder / 'in.fits'), *outputs, *MODEL, '-q']) == 0
    return folder


def content(path):
    """Give what a command wrote, without the seconds that it took."""
    if path.suffix == '.fits':
        with fits.open(path) as hdus:
            return [None if hdu.data is None else hdu.data.tobytes() for hdu in hdus]
    return [line for line in path.read_text().splitlines() if '"seconds"' not in line]


@pytest.mark.parametrize('name', COMMANDS)
def test_faults_at_the_end_of_a_write(name, folder, tmp_path, monkeypatch, capsys):
    words, target = COMMANDS[name]
    target = tmp_path / target
    names = {path.name: str(path) for path in folder.iterdir()} | {'TARGET': str(target)}
    command = [names.get(word, word) for word in words] + ['-q', '--overwrite']
    if name == 'check':  # what takes long is done once
        once = {}
        real = astrodenoise.check_frame
        monkeypatch.setattr(
            astrodenoise, 'check_frame',
            lambda *args, **options: once.get(0) or once.setdefault(0, real(*args, **options)),
        )  # fmt: skip
    assert main(command) == 0
    undisturbed = content(target)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    target.write_bytes(OLD)
    capsys.readouterr()
    for happens, expected, said in FAULTS.values():
        seen = []

        def fsync(_, happens=happens, seen=seen):
            seen.extend(entry for entry in os.listdir(tmp_path) if entry.endswith('.part'))
            happens()

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, 'fsync', fsync)
            assert main(command) == expected
        assert len(seen) == 1  # it was in the middle of the file
        lines = [line for line in capsys.readouterr().err.splitlines() if ': warning: ' not in line]
        assert len(lines) == 1
        assert lines[0].startswith('astrodenoise: ')
        assert said in lines[0]
        assert os.listdir(tmp_path) == [target.name]
        assert target.read_bytes() == OLD
    assert main(command) == 0
    assert content(target) == undisturbed
    assert os.listdir(tmp_path) == [target.name]
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert after == before


def test_source_that_is_replaced_while_it_is_denoised(folder, tmp_path, monkeypatch):
    """What was opened is denoised to its end, and the new file stays as it is."""
    from astrodenoise import engine

    source, other = tmp_path / 'in.fits', tmp_path / 'other.fits'
    source.write_bytes((folder / 'in.fits').read_bytes())
    fits.PrimaryHDU(np.full((99, 99), 7, np.float32)).writeto(other)
    new, real = other.read_bytes(), engine.Engine.predictor

    def predictor(*arguments, **keywords):
        os.replace(other, source)
        return real(*arguments, **keywords)

    monkeypatch.setattr(engine.Engine, 'predictor', predictor)
    target = tmp_path / 'out.fits'
    assert main(['denoise', str(source), '-o', str(target), *MODEL, '-q']) == 0
    assert source.read_bytes() == new
    assert content(target) == content(folder / 'clean.fits')
    assert sorted(os.listdir(tmp_path)) == ['in.fits', 'out.fits']
