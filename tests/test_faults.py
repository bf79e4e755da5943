# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Faults of the machine: the original stays, nothing partial is left, one line says why, again works.

Elsewhere: killed workers and interrupted clusters in `test_scaleout`, memory of a GPU that runs
out in `test_engine`, signals in the middle of a file in `test_cli`, files that appear meanwhile and
links that cannot be made in `test_files`.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits

from astrodenoise import engine
from astrodenoise.cli import main
from helpers import ROOT

SIDE = 128
MODEL = ('--model', 'fast')


def write_frame(path, side=SIDE, seed=1):
    """Write a frame of sky noise."""
    data = np.random.default_rng(seed).normal(500, 10, (side, side)).astype(np.float32)
    fits.PrimaryHDU(data).writeto(path)
    return path


def state(path):
    return hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """Write the frame of these tests and what comes of it."""
    folder = tmp_path_factory.mktemp('undisturbed')
    source = write_frame(folder / 'in.fits')
    for name in ('out', 'noise'):
        option = ['--residual', str(folder / 'noise.fits')] if name == 'noise' else []
        target = folder / ('out.fits' if name == 'out' else 'full.fits')
        assert main(['denoise', str(source), '-o', str(target), *MODEL, '-q', *option]) == 0
    return folder


@pytest.fixture
def frame(undisturbed, tmp_path):
    """Give a copy of the frame; check at the end that nobody touched it."""
    path = tmp_path / 'in.fits'
    shutil.copy(undisturbed / 'in.fits', path)
    before = state(path)
    yield path
    if path.exists():
        assert state(path) == before


def in_process(capsys, *arguments):
    """Run the command here; its status and the lines that it said on stderr."""
    capsys.readouterr()
    status = main([*map(str, arguments)])
    return status, capsys.readouterr().err.splitlines()


def process(*arguments, before='', **keywords):
    """Run the command as a process of its own, after some code."""
    code = f'import sys; from astrodenoise.cli import main\n{before}\nsys.exit(main(sys.argv[1:]))'
    return subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, **keywords,
    )  # fmt: skip


def before_batches(monkeypatch, happens):
    """Let something happen before each batch of tiles, which is told the batch's number."""
    real, numbers = engine.Engine.predictor, itertools.count()

    def predictor(*arguments, **keywords):
        predict = real(*arguments, **keywords)

        def disturbed(batch):
            happens(next(numbers))
            return predict(batch)

        return disturbed

    monkeypatch.setattr(engine.Engine, 'predictor', predictor)


def same_pixels(path, other):
    return np.array_equal(fits.getdata(path), fits.getdata(other))


@contextlib.contextmanager
def mounted(folder, options):
    """Mount a file system in memory on a folder; skips where that is not allowed."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip('a disk that is really full or locked is made with the command mount')
    if done.returncode != 0:
        pytest.skip(f'only root may mount the small disk that fills up: {done.stderr.strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', str(folder)], check=True)


# --- the disk ------------------------------------------------------------------------------------

COMMANDS = {
    'denoise': ['denoise', 'IN', '-o', 'OUT/new.fits', *MODEL],
    'residual': ['denoise', 'IN', '-o', 'HERE/new.fits', '--residual', 'OUT/noise.fits', *MODEL],
    'blend': ['blend', 'IN', 'NOISE', '-o', 'OUT/new.fits', '--strength', '0.5'],
    'report': ['report', 'IN', 'CLEAN', '-o', 'OUT/page.html'],
    'picture': ['report', 'IN', 'CLEAN', '-o', 'OUT/page.png'],
    'json': ['report', 'IN', 'CLEAN', '-o', 'OUT/page.json'],
    'check': ['check', 'IN', '--json', 'OUT/page.json', '--sources', '20', *MODEL],
    'plot': ['check', 'IN', '--plot', 'OUT/page.png', '--sources', '20', *MODEL],
    'demo': ['demo', '-o', 'OUT/.'],
}


def filled(command, frame, folder, undisturbed):
    """Put real paths into a command."""
    places = {
        'IN': frame, 'OUT': folder, 'NOISE': undisturbed / 'noise.fits',
        'CLEAN': undisturbed / 'out.fits', 'HERE': frame.parent,
    }  # fmt: skip
    for word in command:
        head, slash, tail = word.partition('/')
        yield f'{places.get(head, head)}{slash}{tail}'


@pytest.mark.parametrize('name', COMMANDS)
def test_disk_full(name, frame, undisturbed, tmp_path, capsys):
    """A real file system of 4 kB: one line names it, it holds nothing afterwards."""
    with mounted(tmp_path / 'small', 'size=4k') as folder:
        status, lines = in_process(capsys, *filled(COMMANDS[name], frame, folder, undisturbed))
        assert status == 1
        errors = [line for line in lines if 'warning' not in line]
        assert len(errors) == 1
        assert str(folder) in errors[0]
        assert 'cannot be written: No space left on device' in errors[0]
        assert os.listdir(folder) == []
    # neither of two outputs is there without the other
    assert set(os.listdir(tmp_path)) == {'in.fits', 'small'}


@pytest.mark.parametrize('name', COMMANDS)
def test_disk_read_only(name, frame, undisturbed, tmp_path, capsys):
    with mounted(tmp_path / 'locked', 'ro') as folder:
        status, lines = in_process(capsys, *filled(COMMANDS[name], frame, folder, undisturbed))
        errors = [line for line in lines if 'warning' not in line]
        assert status in (1, 2)
        assert str(folder) in errors[-1]
        assert 'nothing can be written' in errors[-1]
        assert os.listdir(folder) == []
    assert set(os.listdir(tmp_path)) == {'in.fits', 'locked'}


def test_file_that_may_not_grow(frame, undisturbed, tmp_path):
    """The system refuses more bytes in the middle of the file."""
    limit = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))'
    done = process('denoise', frame, '-o', tmp_path / 'out.fits', *MODEL, '-q', before=limit)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'astrodenoise: {frame}: ')
    assert 'File too large' in line
    assert os.listdir(tmp_path) == ['in.fits']
    assert process('denoise', frame, '-o', tmp_path / 'out.fits', *MODEL, '-q').returncode == 0
    assert same_pixels(tmp_path / 'out.fits', undisturbed / 'out.fits')


def test_folder_that_vanishes(frame, undisturbed, tmp_path, monkeypatch, capsys):
    """The target's folder is removed while a frame is denoised."""
    folder = tmp_path / 'out'
    folder.mkdir()
    before_batches(monkeypatch, lambda number: number or folder.rmdir())
    target = folder / 'out.fits'
    status, lines = in_process(capsys, 'denoise', frame, '-o', target, *MODEL, '-q')
    assert status == 1
    (line,) = lines
    assert str(folder) in line
    assert os.listdir(tmp_path) == ['in.fits']
    monkeypatch.undo()
    folder.mkdir()
    assert in_process(capsys, 'denoise', frame, '-o', target, *MODEL, '-q') == (0, [])
    assert same_pixels(target, undisturbed / 'out.fits')


# --- the source ----------------------------------------------------------------------------------


@pytest.mark.parametrize('change', ['removed', 'cut', 'emptied'])
def test_source_that_changes_while_it_is_read(change, frame, tmp_path):
    """The file is opened, then somebody else touches it; not even a cut one ends the process."""
    code = f"""
import os
from astrodenoise import files
real = files.open_frames
def open_frames(path, **keywords):
    contexts, read = real(path, **keywords)
    def read_late(context, **options):
        {{'removed': os.unlink, 'cut': lambda p: os.truncate(p, 20_000),
          'emptied': lambda p: os.truncate(p, 0)}}[{change!r}](path)
        return read(context, **options)
    return contexts, read_late
files.open_frames = open_frames
from astrodenoise import batch, frametasks
for module in (batch, frametasks):
    if hasattr(module, 'open_frames'):
        module.open_frames = open_frames
"""
    copy = tmp_path / 'copy.fits'
    shutil.copy(frame, copy)
    done = process('denoise', copy, '-o', tmp_path / 'out.fits', *MODEL, '-q', before=code)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'astrodenoise: {copy}: ')
    left = {'in.fits', 'copy.fits'} if change != 'removed' else {'in.fits'}
    assert set(os.listdir(tmp_path)) == left


# --- the processor and its memory ----------------------------------------------------------------


@pytest.mark.parametrize(
    'error', [RuntimeError('no such kernel'), ValueError('odd tile'), MemoryError()]
)
def test_network_that_fails_in_a_batch(error, frame, undisturbed, tmp_path, monkeypatch, capsys):
    def fail(_):
        raise error

    before_batches(monkeypatch, fail)
    target = tmp_path / 'out.fits'
    arguments = ('denoise', frame, '-o', target, *MODEL, '-q')
    status, lines = in_process(capsys, *arguments)
    assert status == 1
    (line,) = lines
    assert line.startswith(f'astrodenoise: {frame}: ')
    assert (str(error) or 'not enough memory') in line
    assert os.listdir(tmp_path) == ['in.fits']
    monkeypatch.undo()
    assert in_process(capsys, *arguments) == (0, [])
    assert same_pixels(target, undisturbed / 'out.fits')


def test_memory_that_ends(tmp_path):
    """A frame for which there is no memory is one line, and the next one is denoised."""
    large, small = write_frame(tmp_path / 'a.fits', 3000), write_frame(tmp_path / 'b.fits')
    before = f"""
import resource
main(['denoise', {str(small)!r}, '-o', {str(tmp_path / 'first.fits')!r}, '-q', '--model', 'fast'])
size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, resource.RLIM_INFINITY))
"""
    out = tmp_path / 'out'
    done = process('denoise', large, small, '-o', out, *MODEL, '-q', before=before)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f'astrodenoise: {large}: not enough memory')
    assert lines[1:] == ['astrodenoise: 1 of 2 files failed']
    assert os.listdir(out) == ['b.fits']
    assert same_pixels(out / 'b.fits', tmp_path / 'first.fits')


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['Ctrl-C', 'SIGTERM'])
def test_signal_in_the_middle_of_a_frame(number, tmp_path):
    """A real process is stopped while the network works; what was there before stays."""
    source, target = write_frame(tmp_path / 'in.fits', 1800), tmp_path / 'out.fits'
    target.write_bytes(b'what was here')
    before = state(source), state(target)
    command = [
        *(sys.executable, '-m', 'astrodenoise.cli', 'denoise', source, '-o', target, *MODEL),
        *('--overwrite', '--json'),
    ]
    running = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in running.stdout:
        if '"progress"' in line:
            break
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == 'astrodenoise: interrupted'
    assert 'Traceback' not in errors
    assert (state(source), state(target)) == before
    assert set(os.listdir(tmp_path)) == {'in.fits', 'out.fits'}


def test_nobody_listens(frame, undisturbed, tmp_path):
    """``| head`` closes the output: the frames are denoised, and nothing is said of the pipe."""
    sources = [shutil.copy(frame, tmp_path / f'{i}.fits') for i in range(3)]
    running = subprocess.Popen(
        [
            *(sys.executable, '-m', 'astrodenoise.cli', 'denoise', *map(str, sources)),
            *('-o', str(tmp_path / 'out'), *MODEL),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    running.stdout.close()
    errors = running.stderr.read()
    running.stderr.close()
    running.wait(timeout=60)
    assert (running.returncode, errors) == (0, '')
    assert sorted(os.listdir(tmp_path / 'out')) == ['0.fits', '1.fits', '2.fits']
    for path in (tmp_path / 'out').iterdir():
        assert same_pixels(path, undisturbed / 'out.fits')


# --- the clock -----------------------------------------------------------------------------------


def test_clock_that_goes_back(frame, undisturbed, tmp_path, monkeypatch, capsys):
    """Neither the result nor what is said of the time becomes nonsense."""
    back, real = itertools.count(), time.time
    monkeypatch.setattr(time, 'time', lambda: real() - 3600 * next(back))
    target = tmp_path / 'out.fits'
    assert main(['denoise', str(frame), '-o', str(target), *MODEL]) == 0
    told = capsys.readouterr()
    assert 'Traceback' not in told.err
    assert '-> ' in told.out
    assert ' -' not in told.out.split('->')[1]  # no negative seconds
    assert same_pixels(target, undisturbed / 'out.fits')
