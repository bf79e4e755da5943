# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of folders of frames: several processes, a cluster, job arrays, resuming, manifests."""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from faultyworkers import Faults, n_loads
from hypothesis import given
from hypothesis import strategies as st

from astrodenoise import atomic, batch, read_provenance, scaleout, weights
from astrodenoise.cli import main
from astrodenoise.manifest import Outcome, kept
from helpers import ROOT

SIZE = 128
SIGMA = 10.0
SOON = 60  # seconds that nothing here takes


def sky(path, *, seed=1, extensions=0):
    """Write a frame of sky noise, as the primary image or as extensions."""
    rng = np.random.default_rng(seed)
    cards = fits.Header({'BUNIT': 'adu'})
    planes = [
        rng.normal(500, SIGMA, (SIZE, SIZE)).astype(np.float32) for _ in range(extensions or 1)
    ]
    if extensions:
        images = [
            fits.ImageHDU(plane, cards, name='SCI', ver=number)
            for number, plane in enumerate(planes, start=1)
        ]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    else:
        fits.PrimaryHDU(planes[0], cards).writeto(path)
    return path


def run(*args):
    """Denoise on the command line in this process."""
    return main(['denoise', *map(str, args), '--tile-size', '64'])


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text(encoding='utf-8').splitlines()]


def leftovers(folder):
    return [path.name for path in Path(folder).glob('.astrodenoise-*')]


def wait_for(path):
    """Wait for a file with something in it, and give that."""
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text(encoding='utf-8')):
            return text
        time.sleep(0.02)
    pytest.fail(f'{path} did not appear')
    return None


@pytest.fixture(scope='module')
def client():
    """Start the cluster of --workers 2."""
    args = argparse.Namespace(workers=2, scheduler=None, verbose=0)
    with scaleout.connect(args, 9) as (client, threads):
        assert threads >= 1
        client.register_plugin(Faults())
        yield client


@pytest.fixture
def on_cluster(client, tmp_path):
    """Denoise on the command line on that cluster."""

    def denoise(*args):
        return run(*args, '--scheduler', client.scheduler.address)

    return denoise


# A cluster


def test_files_are_those_of_a_serial_run(tmp_path, on_cluster, client, capfd):
    """Files, lines and status are the same; each worker loads the network once."""
    sources = [sky(tmp_path / f'{number}.fits', seed=number) for number in range(6)]
    flat, text = tmp_path / 'flat.fits', tmp_path / 'text.fits'
    fits.PrimaryHDU(np.ones((SIZE, SIZE), np.float32), fits.Header({'BUNIT': 'adu'})).writeto(flat)
    text.write_text('no image', encoding='utf-8')
    inputs = [*sources, flat, text, tmp_path / 'missing.fits']
    before = client.run(n_loads)
    told = []
    for number, denoise in enumerate((run, on_cluster)):
        options = ('-o', f'{tmp_path}/out{number}/', '--precision', 'float32')
        assert denoise(*inputs, *options) == 1
        told.append(capfd.readouterr())
    for source in (*sources, flat):
        one, two = ((tmp_path / f'out{number}' / source.name).read_bytes() for number in (0, 1))
        assert one == two
    assert sorted(told[0].err.splitlines()) == sorted(told[1].err.splitlines())
    assert len(told[1].err.splitlines()) == 4  # one warning, two reasons, the count
    names = [[line.partition(' -> ')[0] for line in one.out.splitlines()] for one in told]
    assert sorted(names[0]) == sorted(names[1])
    after = client.run(n_loads)
    assert set(after) == set(before)
    assert {after[worker] - before[worker] for worker in after} == {1}


def test_killed_worker_loses_nothing(tmp_path, client):
    """A worker that is killed while it writes is replaced; its file is done, no part is left."""
    names = ['a.fits', 'b.fits', 'c.fits', 'slow.fits']
    out = tmp_path / 'out'
    parts = []

    def kill():
        pid = int(wait_for(tmp_path / 'slow.died'))
        parts.extend(leftovers(out))
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    sources = [sky(tmp_path / name) for name in names]
    outcomes = scaleout.denoise_files(reversed(sources), out, client, tile_size=64)
    killer.join()
    assert parts
    assert sorted(os.path.basename(outcome.input) for outcome in outcomes) == names
    assert {outcome.status for outcome in outcomes} == {'done'}
    assert sorted(os.listdir(out)) == names
    assert all(fits.getheader(path)['DENOISED'] is True for path in out.iterdir())


def test_worker_killed_before_it_could_tell(tmp_path, on_cluster, capfd):
    """A file that was complete when its worker died counts as done, not as in the way."""
    source = sky(tmp_path / 'done.fits')
    assert on_cluster(source, '-o', tmp_path / 'out.fits') == 0
    assert (tmp_path / 'done.died').exists()
    captured = capfd.readouterr()
    assert '->' in captured.out
    assert not captured.err


def test_deadly_file(tmp_path, on_cluster, capfd):
    """A file that takes down every worker fails with that reason, the others are done."""
    sources = [sky(tmp_path / f'{name}.fits') for name in ('a', 'deadly', 'b')]
    manifest = tmp_path / 'm.jsonl'
    assert on_cluster(*sources, '-o', tmp_path / 'out', '--manifest', manifest) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith(f'astrodenoise: {sources[1]}: every process that worked on it died')
    assert lines[1:] == ['astrodenoise: 1 of 3 files failed']
    assert sorted(os.listdir(tmp_path / 'out')) == ['a.fits', 'b.fits']
    failed = [line for line in lines_of(manifest) if line['status'] == 'failed']
    assert [line['input'] for line in failed] == [str(sources[1])]
    assert 'died' in failed[0]['reason']


def test_function(tmp_path, client):
    """From Python the same is done, with relative names, too; the progress bar sees each file."""
    sources = [sky(tmp_path / f'{name}.fits') for name in 'ab']
    names = [os.path.relpath(source) for source in sources]
    seen = []

    def bar(outcomes):
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    manifest = tmp_path / 'm.jsonl'
    outcomes = scaleout.denoise_files(
        names, tmp_path / 'out', client, progress_bar=bar, strength=0.5, manifest=str(manifest)
    )
    assert outcomes == seen
    assert {outcome.status for outcome in outcomes} == {'done'}
    assert {outcome.worker for outcome in outcomes} <= set(client.nthreads())
    for path in (tmp_path / 'out').iterdir():
        assert read_provenance(fits.getheader(path))['strength'] == 0.5
    assert len(lines_of(manifest)) == 2


def test_function_refuses(tmp_path, client):
    """Unknown options and colliding names are told before any work."""
    source = str(sky(tmp_path / 'a.fits'))
    for unknown in ('stength', 'shard'):
        with pytest.raises(TypeError, match=f'no option {unknown}'):
            scaleout.denoise_files([source], tmp_path / 'out', client, **{unknown: 0.5})
    with pytest.raises(ValueError, match='give both'):
        scaleout.denoise_files([source], tmp_path / 'out', client, gain=2)
    with pytest.raises(ValueError, match='give another name'):
        scaleout.denoise_files([source], tmp_path, client)


def test_cluster_listens_to_this_machine_only(client):
    """No port of it is open to others."""
    import psutil

    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == '127.0.0.1'


@pytest.mark.parametrize(('verbose', 'level'), [(0, logging.CRITICAL), (2, logging.WARNING)])
def test_connections_that_close_later_say_nothing(client, monkeypatch, verbose, level):
    """Dask is quiet when the cluster is gone, too, unless all was asked for."""
    handler = logging.StreamHandler()  # dask makes one where the application has none
    monkeypatch.setattr(logging.getLogger('distributed'), 'handlers', [handler])
    args = argparse.Namespace(scheduler=client.scheduler.address, verbose=verbose)
    with scaleout.connect(args, 1):
        pass
    assert handler.level == level


@pytest.mark.parametrize(('told', 'threads'), [('', 4), ('3', 3), ('0', 4), ('2,1', 4)])
def test_threads_of_a_process(monkeypatch, told, threads):
    """Processes share the machine, unless the user says how many threads one takes."""
    monkeypatch.setenv('OMP_NUM_THREADS', told)
    assert scaleout._threads(8, 2) == threads
    assert scaleout._threads(2, 8) == (3 if told == '3' else 1)


@pytest.mark.parametrize(
    ('number', 'workers'), [(signal.SIGINT, '2'), (signal.SIGTERM, '1')], ids=['Ctrl-C', 'SIGTERM']
)
def test_interrupt(tmp_path, number, workers):
    """Nothing partial is left, what was complete stays, the manifest says what; status 130."""
    sources = [sky(tmp_path / f'{number}.fits') for number in range(64)]
    manifest = tmp_path / 'm.jsonl'
    command = [
        *(sys.executable, '-m', 'astrodenoise.cli', 'denoise', *sources, '-o', tmp_path / 'out'),
        *('--workers', workers, '--tile-size', '64', '--manifest', manifest),
    ]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    first = process.stdout.readline()
    os.killpg(process.pid, number)  # as a terminal and a batch system do: to all processes
    told, errors = process.communicate(timeout=SOON)
    assert '->' in first
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == 'astrodenoise: interrupted'
    assert len(errors.splitlines()) == 1
    done = [line for line in lines_of(manifest) if line['status'] == 'done']
    outputs = list((tmp_path / 'out').iterdir())
    assert len(first.splitlines() + told.splitlines()) <= len(done) <= len(outputs) < 64
    assert all(fits.getheader(path)['DENOISED'] is True for path in outputs)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--workers', '0'], 'at least 1'),
        (['--workers', 'two'], 'invalid number'),
        (['--workers', '2', '--scheduler', 'tcp://127.0.0.1:1'], 'not allowed'),
        (['--scheduler', 'tcp://127.0.0.1:1'], 'cannot be reached'),
        (['--scheduler', 'nonsense://here'], 'cannot be reached'),
        (['--shard', '0/4'], 'I from 1 to N'),
        (['--shard', '5/4'], 'I from 1 to N'),
        (['--shard', '2'], 'I from 1 to N'),
        (['--manifest', 'nowhere/m.jsonl'], 'there is no folder'),
        (['--manifest', 'IN'], 'give another name'),
        (['--manifest', 'OUT'], 'give another name'),
        (['--manifest', 'OTHER'], 'another kind'),
        (['--manifest', 'FOLDER'], 'no ordinary file'),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, options, reason):
    """It is told before any work, with status 2."""
    monkeypatch.setattr(scaleout, 'PATIENCE', 0.5)
    source, other = sky(tmp_path / 'in.fits'), sky(tmp_path / 'other.fits')
    out = tmp_path / 'out.fits'
    names = {'IN': source, 'OUT': out, 'OTHER': other, 'FOLDER': tmp_path}
    assert run(source, '-o', out, *(names.get(option, option) for option in options)) == 2
    assert reason in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ['in.fits', 'other.fits']


@pytest.mark.parametrize('option', [('--workers', 2), ('--scheduler', 'tcp://127.0.0.1:1')])
def test_without_the_extra(tmp_path, monkeypatch, capsys, option):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, 'distributed', None)
    assert run(sky(tmp_path / 'in.fits'), '-o', tmp_path / 'out.fits', *option) == 2
    assert "pip install 'astrodenoise[dask]'" in capsys.readouterr().err


# Temporary files


def test_stale_files_are_removed(tmp_path):
    """Those of dead processes of this machine go; of living ones and other machines they stay."""
    writer = subprocess.Popen(
        [
            *(sys.executable, '-c'),
            'import sys, time\nfrom astrodenoise.atomic import atomic_write\n'
            'with atomic_write(sys.argv[1]) as handle:\n'
            '    handle.write(b"half")\n    handle.flush()\n    print(flush=True)\n'
            f'    time.sleep({SOON})',
            tmp_path / 'a.fits',
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    writer.stdout.readline()
    (name,) = leftovers(tmp_path)
    assert atomic.remove_stale(tmp_path) == []
    writer.kill()
    writer.communicate()
    elsewhere = name.replace(f'-{atomic._place()}-', '-00000000-')
    for other in (elsewhere, '.astrodenoise-mine.part'):
        (tmp_path / other).touch()
    assert atomic.remove_stale(tmp_path) == [tmp_path / name]
    assert sorted(leftovers(tmp_path)) == sorted([elsewhere, '.astrodenoise-mine.part'])
    assert atomic.remove_stale(tmp_path / 'none') == []


# Job arrays


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_shards_have_each_file_once(jobs, count):
    """They are disjoint, cover all, keep the order and are of one size, within a file."""
    shards = [batch.shard(jobs, index, count) for index in range(1, count + 1)]
    assert sorted(job for shard in shards for job in shard) == sorted(jobs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    numbered = batch.shard(list(range(len(jobs))), 1, count)
    assert numbered == sorted(numbered)


def test_shard(tmp_path, capsys):
    """A share is done; names are checked in all of the inputs, those of no share, too."""
    sources = [sky(tmp_path / f'{name}.fits') for name in 'abc']
    out = tmp_path / 'out'
    assert run(*sources, '-o', out, '--shard', '2/2') == 0
    assert os.listdir(out) == ['b.fits']
    assert run(*sources, '-o', out, '--shard', '9/9') == 0
    assert run(*sources, sources[0], '-o', out, '--shard', '2/4') == 2
    assert 'several inputs are called a.fits' in capsys.readouterr().err


# Resuming


OTHER_SETTINGS = [
    (['--strength', 0.5], [], 'strength 0.5, asked 1.0'),
    ([], ['--limit', 5], 'limit 6.0, asked 5.0'),
    ([], ['--overlap', 0.5], 'overlap 0.25, asked 0.5'),
    ([], ['--blend', 'none', '--overlap', 0], 'blend gaussian, asked none'),
    ([], ['--model', 'fast'], 'weights mono'),
    ([], ['--noise', SIGMA], 'noise measured, asked given'),
    (['--noise', SIGMA], [], 'noise given, asked not given'),
    (['--noise', SIGMA], ['--noise', 11], 'noise 10, asked 11'),
    ([], ['--gain', 2, '--read-noise', 5], 'noise measured, asked gain, read noise'),
    ([], ['--star-mask'], 'star_mask None, asked True'),
    ([], ['--bayer', 'RGGB'], 'bayer None, asked RGGB'),
    ([], ['--bayer', 'header'], 'bayer None, asked True'),
    ([], ['--uncertainty', 'predict'], 'without PRED_ERR'),
    ([], ['--residual', 'RESIDUAL'], 'exists without'),
]


@pytest.mark.parametrize(('first', 'second', 'reason'), OTHER_SETTINGS)
def test_resume_with_other_settings(tmp_path, capsys, first, second, reason):
    """What was made otherwise is no success: it is named, kept, and redone with --overwrite."""
    source, out = sky(tmp_path / 'in.fits'), tmp_path / 'out.fits'
    names = {'RESIDUAL': tmp_path / 'residual.fits'}
    first, second = ([names.get(word, word) for word in words] for words in (first, second))
    assert run(source, '-o', out, '-q', *first) == 0
    before = out.read_bytes()
    assert run(source, '-o', out, '--resume', *first) == 0
    assert 'skipped' in capsys.readouterr().out
    assert run(source, '-o', out, '--resume', *second) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'astrodenoise: {source}: {out} exists with')
    assert reason in error
    assert '--overwrite' in error
    assert error.count('\n') == 1
    assert out.read_bytes() == before


def test_resume_and_overwrite(tmp_path, capsys):
    """Together they redo what is otherwise and keep what is the same."""
    sources = [sky(tmp_path / f'{name}.fits') for name in 'ab']
    out = tmp_path / 'out'
    assert run(sources[0], '-o', f'{out}/', '--strength', 0.5) == 0
    assert run(sources[1], '-o', f'{out}/') == 0
    (out / 'c.fits').write_bytes(b'mine')
    same = (out / 'b.fits').stat().st_mtime_ns
    capsys.readouterr()
    assert run(*sources, sky(tmp_path / 'c.fits'), '-o', out, '--resume', '--overwrite') == 0
    told = capsys.readouterr().out
    assert f'{sources[0]} -> ' in told
    assert f'{sources[1]}: skipped' in told
    assert (out / 'b.fits').stat().st_mtime_ns == same
    assert {read_provenance(fits.getheader(path))['strength'] for path in out.iterdir()} == {1.0}


def test_resume_ignores_what_makes_no_other_result(tmp_path, capsys):
    """Another precision or device is no other setting."""
    source, out = sky(tmp_path / 'in.fits'), tmp_path / 'out.fits'
    assert run(source, '-o', out, '--precision', 'bfloat16', '--noise', 'measure') == 0
    options = ('--precision', 'float32', '--device', 'cpu')
    assert run(source, '-o', out, '--resume', *options) == 0
    assert 'with the same settings' in capsys.readouterr().out


def test_resume_of_several_images(tmp_path, capsys):
    """All images of a file are compared, those that earlier runs had denoised are not counted."""
    source = sky(tmp_path / 'in.fits', extensions=2)
    one, both = tmp_path / 'one.fits', tmp_path / 'both.fits'
    assert run(source, '-o', one) == 0
    assert run(source, '-o', one, '--resume') == 0
    assert run(source, '-o', one, '--resume', '--ext', 'all') == 1
    assert '1 images denoised, asked 2' in capsys.readouterr().err
    assert run(one, '-o', both, '--ext', 2) == 0
    assert run(one, '-o', both, '--ext', 2, '--resume') == 0
    assert 'skipped' in capsys.readouterr().out
    packed = tmp_path / 'packed.fits.fz'
    assert run(source, '-o', packed, '--ext', 'all') == 0
    assert run(source, '-o', packed, '--ext', 'all', '--resume') == 0


@pytest.mark.parametrize('content', [b'mine', None], ids=['no FITS', 'not denoised'])
def test_resume_over_something_else(tmp_path, capsys, content):
    """A file that we did not write is in the way, and stays."""
    source, out = sky(tmp_path / 'in.fits'), tmp_path / 'out.fits'
    out.write_bytes(source.read_bytes() if content is None else content)
    before = out.read_bytes()
    assert run(source, '-o', out, '--resume') == 1
    assert f'{out} exists and ' in capsys.readouterr().err
    assert out.read_bytes() == before


def test_resume_over_a_truncated_output(tmp_path, capsys):
    """An output that was cut when it was copied is no result."""
    source, out = sky(tmp_path / 'in.fits'), tmp_path / 'out.fits'
    assert run(source, '-o', out) == 0
    os.truncate(out, out.stat().st_size - 2 * 2880)
    assert run(source, '-o', out, '--resume') == 1
    assert 'no FITS file that can be used' in capsys.readouterr().err


def test_resume_of_a_picture(tmp_path, capsys):
    """A picture is skipped for its record, not for being there."""
    from PIL import Image

    source, out = tmp_path / 'in.png', tmp_path / 'out.png'
    Image.fromarray(np.full((SIZE, SIZE), 9, np.uint8)).save(source)
    out.write_bytes(b'anything')
    assert run(source, '-o', out, '--resume') == 1
    assert 'exists and is no PNG file that can be used' in capsys.readouterr().err


# Manifests


def test_manifest(tmp_path):
    """Each input has a line when it is done; a second run appends."""
    source, missing = sky(tmp_path / 'in.fits', extensions=2), tmp_path / 'missing.fits'
    out, manifest = tmp_path / 'out', tmp_path / 'm.jsonl'
    options = ('-o', f'{out}/', '--ext', 'all', '--manifest', manifest, '-q')
    start = datetime.now(UTC)
    assert run(source, missing, *options) == 1
    done, failed = lines_of(manifest)
    assert done['input'] == str(source)
    assert done['output'] == str(out / 'in.fits')
    assert done['status'] == 'done'
    assert done['seconds'] > 0
    assert done['megapixels'] == pytest.approx(2 * SIZE**2 / 1e6)
    assert done['weights'] == weights.describe('mono')['sha256'][:12]
    assert done['worker'].endswith(f':{os.getpid()}')
    assert abs((datetime.fromisoformat(done['time']) - start).total_seconds()) < SOON
    assert 'reason' not in done
    assert failed['status'] == 'failed'
    assert 'cannot be opened' in failed['reason']
    assert run(source, missing, *options, '--resume') == 1
    statuses = [line['status'] for line in lines_of(manifest)]
    assert statuses == ['done', 'failed', 'skipped', 'failed']


def test_manifest_is_written_as_files_are_done(tmp_path):
    """Whatever ends a run, the lines of what was done are there, and whole."""
    manifest = tmp_path / 'm.jsonl'
    manifest.write_text('{"cut": "sho', encoding='utf-8')
    outcomes = [Outcome(f'{n}.fits', 'out.fits', 'failed', reason='ü\n"') for n in range(3)]
    for number, outcome in enumerate(kept(outcomes, manifest)):
        lines = manifest.read_text(encoding='utf-8').splitlines()
        assert len(lines) == number + 2
        line = json.loads(lines[-1])
        assert line['input'] == outcome.input
        assert line['reason'] == 'ü\n"'
    assert list(kept(outcomes, None)) == outcomes
