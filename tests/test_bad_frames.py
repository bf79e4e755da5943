# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A folder of bad files ends file by file, in a result or in one line that says why not."""

import hashlib
import re
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from badframes import SHAPE, SIGMA, scene, write_corpus

from astrodenoise import denoise, measure_noise
from helpers import ROOT

LINE = re.compile(r'astrodenoise: (?P<file>\S+?): (?P<warning>warning: )?(?P<text>.+)')
PATIENCE = 30  # s without a word from the command
ADDRESSES = 16 * 2**30  # bytes
COMMAND = f"""
import re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESSES}, {ADDRESSES}))
from astrodenoise.cli import main
status = main(sys.argv[1:])
try:  # ru_maxrss begins with what the process had that started this one
    print(re.search('VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])
except FileNotFoundError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""
MOST_MEMORY = 1500  # MB; the command itself takes 500, the largest of the files 200 unpacked


def run_patiently(command, **keywords):
    """Run a command that may not be silent for long; what it said, and its status."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
    )
    last, said = [time.monotonic()], ([], [])

    def listen(stream, lines):
        for line in stream:
            lines.append(line.rstrip('\n'))
            last[0] = time.monotonic()

    threads = [
        threading.Thread(target=listen, args=(stream, lines))
        for stream, lines in zip((process.stdout, process.stderr), said, strict=True)
    ]
    for thread in threads:
        thread.start()
    while process.poll() is None:
        if time.monotonic() - last[0] > PATIENCE:
            process.kill()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    process.stdout.close()
    process.stderr.close()
    return SimpleNamespace(out=said[0], err=said[1], status=process.returncode)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    """Write the corpus, and denoise all of it in one go."""
    folder = tmp_path_factory.mktemp('corpus')
    files = write_corpus(folder)
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in files.values()}
    target = tmp_path_factory.mktemp('out')
    command = [
        *(sys.executable, '-c', COMMAND, 'denoise', *map(str, files.values())),
        *('-o', str(target), '--model', 'fast'),
    ]
    done = run_patiently(command, cwd=ROOT)
    memory = int(done.out.pop()) / 1024
    failed, warned, other = {}, {}, []
    for line in done.err:
        match = LINE.fullmatch(line)
        if match is None:
            other.append(line)
            continue
        where = warned if match['warning'] else failed
        where.setdefault(match['file'], []).append(match['text'])
    written = {line.split(' -> ')[0]: line.split(' -> ')[1].split('  ')[0] for line in done.out}
    return SimpleNamespace(
        files=files, before=before, target=target, done=done, memory=memory,
        failed=failed, warned=warned, other=other, written=written,
    )  # fmt: skip


def test_there_are_enough(corpus):
    assert len(corpus.files) >= 200
    kinds = Counter(name.split(':')[0] for name in corpus.files)
    assert min(kinds.values()) >= 5


def test_the_files_are_always_the_same(corpus, tmp_path):
    for name, path in write_corpus(tmp_path).items():
        before = corpus.before[corpus.files[name]]
        assert hashlib.sha256(path.read_bytes()).digest() == before, name


def test_a_wrong_bitpix_is_named(corpus):
    for name in ('header: BITPIX  =                  -33', 'compressed: RICE_1 ZBITPIX wrong'):
        (reason,) = corpus.failed[str(corpus.files[name])]
        assert 'BITPIX' in reason
        assert '-64' in reason  # among what is expected


@pytest.mark.parametrize('key', ['ZNAXIS', 'ZNAXIS1', 'ZTILE2', 'ZBITPIX'])
def test_a_size_of_a_compressed_image_that_is_no_number_is_named(corpus, key):
    for value in ("'96'", '96.5', 'T', ''):
        (reason,) = corpus.failed[str(corpus.files[f'compressed: {key} = {value}'])]
        assert f'{key} = ' in reason


def test_samples_of_no_kind_are_named(corpus):
    (reason,) = corpus.failed[str(corpus.files['picture: samples of no bits.tif'])]
    assert '0-bit samples' in reason


@pytest.mark.parametrize('name', ['page of no tags in a circle.tif', 'page in a circle.tif'])
def test_pages_without_end_are_named(corpus, name):
    (reason,) = corpus.failed[str(corpus.files[f'picture: {name}'])]
    assert 'leads back' in reason


@pytest.mark.parametrize(
    'name', ['XTENSION with rubbish', 'blanks before XTENSION', 'header of blanks']
)
def test_an_extension_that_cannot_be_read_is_named(corpus, name):
    (reason,) = corpus.failed[str(corpus.files[f'extension: {name}'])]
    assert 'the header of HDU' in reason
    assert 'Error' not in reason


@pytest.mark.parametrize(
    'name',
    ['PLIO_1 tile without end', 'HCOMPRESS_1 of other tiles', 'HCOMPRESS_1 of negative size'],
)
def test_a_tile_that_claims_more_than_it_has_is_refused(corpus, name):
    """The decoders go on in memory that is not theirs, and now and then end the process."""
    (reason,) = corpus.failed[str(corpus.files[f'compressed: {name}'])]
    assert 'not as long as it says' in reason


def test_a_decoder_is_heard(corpus):
    (reason,) = corpus.failed[str(corpus.files['compressed: HCOMPRESS_1 damaged inside'])]
    assert 'CfitsioException: ' in reason
    assert 'pickle' not in reason.lower()


def test_each_ends_in_a_result_or_in_one_line(corpus):
    for name, path in corpus.files.items():
        path = str(path)
        reasons = corpus.failed.get(path, [])
        assert (path in corpus.written) + len(reasons) == 1, (name, reasons)
        for reason in reasons:
            assert len(reason) > 20, (name, reason)
    assert not set(corpus.failed) & set(corpus.warned)  # no second line for a refused file
    n_failed = len(corpus.failed)
    assert corpus.other == [f'astrodenoise: {n_failed} of {len(corpus.files)} files failed']
    assert 50 < n_failed < len(corpus.files) - 100  # neither all nor none
    assert corpus.done.status == 1


def test_what_is_sound_is_denoised(corpus):
    """Odd is not bad: each kind of storage, and what other programs leave behind."""
    kinds = ('RICE_1', 'GZIP_1', 'GZIP_2', 'HCOMPRESS_1')
    sound = {f'compressed: {one} {how}' for one in kinds
             for how in ('float32', 'int16', 'uint16', 'coarse', 'dithered')}  # fmt: skip
    depths = (8, 16, 32, 64, -32, -64)
    sound |= {f'type: BITPIX {n}{how}' for n in depths for how in ('', ' scaled')}
    sound |= {f'header: {odd}' for odd in (
        'EXPTIME twice', 'HIERARCH', 'comments alone', "BUNIT = 'counts per fortnight'",
        'SATURATE = 0', 'CRPIX1 = NaN', 'MJD-OBS = NaN', 'no value', 'open quote',
    )}  # fmt: skip
    sound |= {
        'compressed: gzipped', 'compressed: PLIO_1', 'cut: planes HDU 3 hdrLoc +0',
        'extension: BinTableHDU by the name of PRIMARY',
        'extension: TableHDU by the name of PRIMARY', 'extension: table, then image',
        'extension: rubbish behind', 'pixels: hot 1e+30',
        'pixels: one inf', 'pixels: denormals', 'picture: good.xisf',
    }  # fmt: skip
    for name in sorted(sound):
        path = str(corpus.files[name])
        assert path in corpus.written, (name, corpus.failed.get(path))


def test_nothing_partial_is_left(corpus):
    names = {path.name for path in corpus.target.iterdir()}
    assert names == {name.rsplit('/', 1)[-1] for name in corpus.written.values()}


def test_originals_are_untouched(corpus):
    for path, digest in corpus.before.items():
        assert hashlib.sha256(path.read_bytes()).digest() == digest


def test_memory_is_that_of_what_the_files_hold(corpus):
    """Files that declare up to 10^37 bytes are among them."""
    assert corpus.memory < MOST_MEMORY


def first_image(path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with fits.open(path) as hdus:
            return next(hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None)


def test_results_have_the_shape_and_keep_what_is_no_number(corpus):
    count = 0
    for path, target in corpus.written.items():
        if not path.endswith('.fits') or 'cut' in path:
            continue
        before, after = first_image(path), first_image(target)
        assert after.shape == before.shape, path
        assert np.array_equal(np.isfinite(after), np.isfinite(before)), path
        count += 1
    assert count > 100


@pytest.mark.parametrize('value', [1e20, 1e30, -1e30, 3.4e38])
def test_a_broken_pixel_spoils_nothing(value):
    """Neither the noise of a frame nor its result, however broken the pixel."""
    good = scene()
    broken = good.copy()
    broken[20, 20] = value
    noise, usual = measure_noise(broken).planes[0], measure_noise(good).planes[0]
    assert noise.sigma == pytest.approx(usual.sigma, rel=0.01)
    assert noise.sky == pytest.approx(usual.sky, abs=0.1 * SIGMA)
    clean, reference = denoise(broken, model='fast'), denoise(good, model='fast')
    assert clean[20, 20] == broken[20, 20]
    y, x = np.indices(SHAPE)
    far = np.hypot(y - 20, x - 20) > 36
    assert np.std((clean - reference)[far]) < 0.1 * SIGMA
    assert np.std((clean - reference)[~far & (broken == good)]) < 0.6 * SIGMA
