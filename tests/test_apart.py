# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What may end a process is decoded in another one, and comes back as if it had been done here."""

import sys

import numpy as np
import pytest
from astropy.io import fits
from badframes import deadly_tile, packed

from astrodenoise import apart, fitsbytes
from astrodenoise.apart import decode_apart
from astrodenoise.cli import main
from astrodenoise.filecontext import FrameError
from astrodenoise.files import read_frame


@pytest.fixture
def packed_file(tmp_path):
    path = tmp_path / 'packed.fits'
    path.write_bytes(packed('HCOMPRESS_1', np.int16))
    return path


def do_instead(monkeypatch, code):
    """Let the other process do something else."""
    monkeypatch.setattr(apart, '_CODE', code)


@pytest.mark.parametrize('in_memory', [False, True])
def test_another_process_gives_the_pixels(packed_file, in_memory):
    content = packed_file.read_bytes() if in_memory else None
    path = 'nowhere' if in_memory else packed_file
    values, expected = decode_apart(path, content, 1), fits.getdata(packed_file, 1)
    assert values.dtype == expected.dtype
    assert values.tobytes() == expected.tobytes()


def test_an_error_is_told_in_its_words(packed_file):
    with pytest.raises(ChildProcessError, match='list index out of range'):
        decode_apart(packed_file, None, 7)


@pytest.mark.parametrize('name', ['SIGSEGV', 'SIGABRT', 'SIGKILL'])
def test_a_death_is_named(packed_file, monkeypatch, name):
    do_instead(monkeypatch, f'import signal; signal.raise_signal(signal.{name})')
    with pytest.raises(ChildProcessError, match=f'ended by {name}'):
        decode_apart(packed_file, None, 1)


def test_an_end_without_words_is_told(packed_file, monkeypatch):
    do_instead(monkeypatch, 'import os; os._exit(7)')
    with pytest.raises(ChildProcessError, match='ended with 7'):
        decode_apart(packed_file, None, 1)


def test_too_little_memory_is_that_here_too(packed_file, monkeypatch):
    do_instead(monkeypatch, 'import numpy; numpy.empty(2**57)')
    with pytest.raises(MemoryError, match='allocate'):
        decode_apart(packed_file, None, 1)


def test_an_answer_is_never_run(packed_file, monkeypatch, tmp_path):
    """Whatever a file makes of the other process: of its answer only numbers are taken."""
    mark = tmp_path / 'mark'
    code = f"""
import pathlib, pickle, sys
class Order:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path({str(mark)!r}),)
sys.stdout.buffer.write(pickle.dumps(Order()))
"""
    do_instead(monkeypatch, code)
    with pytest.raises(ValueError, match='pickle'):
        decode_apart(packed_file, None, 1)
    assert not mark.exists()


def test_nothing_of_the_current_folder_is_loaded(packed_file, tmp_path, monkeypatch):
    (tmp_path / 'signal.py').write_text('raise SystemExit("loaded")', encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    assert decode_apart('packed.fits', None, 1).shape == fits.getdata(packed_file, 1).shape


def test_without_another_python_it_is_decoded_here(packed_file, monkeypatch):
    monkeypatch.setattr(sys, 'executable', '')
    assert np.array_equal(decode_apart(packed_file, None, 1), fits.getdata(packed_file, 1))


def test_a_decoder_that_dies_takes_one_file_with_it(tmp_path, monkeypatch, capsys):
    """A tile that really ends the process, had its size not been looked at before."""
    path = tmp_path / 'deadly.fits'
    path.write_bytes(deadly_tile())
    with pytest.raises(FrameError, match='not as long as it says'):
        read_frame(path)
    monkeypatch.setattr(fitsbytes, 'check_streams', lambda *_: None)
    good = tmp_path / 'good.fits'
    fits.writeto(good, np.random.default_rng(2).normal(300, 5, (96, 96)))
    out = tmp_path / 'out'
    status = main(['denoise', str(path), str(good), '-o', str(out), '--model', 'fast'])
    told = capsys.readouterr()
    assert status == 1
    assert f'{path}: cannot be read as FITS: the process that unpacked it' in told.err
    assert 'SIGSEGV' in told.err
    assert [file.name for file in out.iterdir()] == ['good.fits']


@pytest.mark.parametrize('option', ['--dq', '--err'])
def test_a_plane_of_another_file_is_read_as_carefully(tmp_path, monkeypatch, capsys, option):
    path, good = tmp_path / 'deadly.fits', tmp_path / 'good.fits'
    path.write_bytes(deadly_tile())
    fits.writeto(good, np.random.default_rng(2).normal(300, 5, (96, 96)))
    command = ['denoise', str(good), '-o', str(tmp_path / 'out'), option, str(path)]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert f'{option} {path}: is damaged: HDU 1 has a HCOMPRESS_1 tile' in told
    monkeypatch.setattr(fitsbytes, 'check_streams', lambda *_: None)
    assert main(command) == 1
    told = capsys.readouterr().err
    assert f'{option} {path}: cannot be read as FITS: the process that unpacked it' in told


def test_only_what_trusts_its_input_costs_a_process(tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError(args)

    monkeypatch.setattr(apart.subprocess, 'run', refuse)
    path = tmp_path / 'plain.fits'
    fits.writeto(path, np.ones((96, 96), 'f4'))
    assert read_frame(path)[0].shape == (96, 96)
