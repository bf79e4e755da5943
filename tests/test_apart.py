# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What may end a process is called in another one, and comes back as if it had been called here."""

import logging
import os
import signal
import sys

import numpy as np
import pytest
from astropy.io import fits
from badframes import deadly_tile

from astrodenoise import apart, fitsbytes
from astrodenoise.apart import call_apart
from astrodenoise.cli import main
from astrodenoise.filecontext import FrameError
from astrodenoise.files import read_frame


def double(values):
    return os.getpid(), 2 * values


def speak(words):
    sys.stdout.write(words)
    logger = logging.getLogger('astrodenoise.apart')
    logger.info('%s as info', words)
    logger.debug('%s as debug', words)
    return len(words)


def fail(text):
    msg = f'failed with {text}'
    raise FrameError(msg)


def test_another_process_gives_the_result():
    values = np.random.default_rng(1).normal(size=(300, 500)).astype('>f4')
    process, doubled = call_apart(double, values)
    assert process != os.getpid()
    assert doubled.tobytes() == (2 * values).tobytes()


def test_an_error_is_raised_here():
    with pytest.raises(FrameError, match='failed with a reason'):
        call_apart(fail, 'a reason')


def fail_strangely(text):
    class StrangeError(Exception):
        """No module has this class, so that it cannot be pickled."""

    raise StrangeError(text)


def test_an_error_that_cannot_travel_is_told():
    with pytest.raises(ChildProcessError, match='StrangeError: a reason'):
        call_apart(fail_strangely, 'a reason')


def test_what_is_logged_is_logged_here(caplog, capfd):
    caplog.set_level(logging.INFO, 'astrodenoise')
    assert call_apart(speak, 'some words') == 10  # what is printed is no part of the answer
    assert [record.getMessage() for record in caplog.records] == ['some words as info']
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('name', ['SIGSEGV', 'SIGABRT', 'SIGKILL'])
def test_a_death_is_named(name):
    with pytest.raises(ChildProcessError, match=f'ended by {name}'):
        call_apart(signal.raise_signal, getattr(signal, name))


def test_an_end_without_an_answer_is_told():
    with pytest.raises(ChildProcessError, match='ended with 7'):
        call_apart(os._exit, 7)


def test_nothing_of_the_current_folder_is_loaded(tmp_path, monkeypatch):
    (tmp_path / 'pickle.py').write_text('raise SystemExit("loaded")', encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    assert call_apart(len, 'four') == 4


def test_without_another_python_it_is_called_here(monkeypatch):
    monkeypatch.setattr(sys, 'executable', '')
    assert call_apart(double, 3) == (os.getpid(), 6)


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
