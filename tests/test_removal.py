# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Block by block the same bits come out, however a frame is divided."""

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from astrodenoise import denoise, removal, sections, survey
from astrodenoise.engine import load_engine
from astrodenoise.frames import open_frame
from astrodenoise.options import Options
from astrodenoise.removal import remove_noise
from astrodenoise.sections import block_edges, widened
from astrodenoise.survey import survey_frame
from helpers import examples

SHAPE = (560, 610)


@pytest.fixture
def small_blocks(monkeypatch):
    """Divide frames as small as those of the tests."""
    monkeypatch.setattr(sections, 'BLOCK', 128)
    monkeypatch.setattr(survey, 'PANEL', 256)


@pytest.fixture(scope='module')
def noisy():
    """Give a field with stars, a nebula, a dead corner and saturated pixels."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = 500 + 0.1 * x + 300 * np.exp(-((y - 200) ** 2 + (x - 300) ** 2) / 2 / 90**2)
    for row, column, flux in zip(
        rng.uniform(0, SHAPE[0], 90), rng.uniform(0, SHAPE[1], 90), 10 ** rng.uniform(2, 4.5, 90),
        strict=True,
    ):  # fmt: skip
        truth += flux / 25 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    frame = truth + rng.normal(size=SHAPE) * np.sqrt(truth / 4)
    frame[400:, :90] = 0
    return np.minimum(frame, 1500).astype(np.float32)


def options(**changes):
    """Give the options of a call, tiles as small as the frame."""
    usual = {
        'overlap': 0.25, 'model': 'fast', 'strength': 1.0, 'limit': 6.0, 'channels': None,
        'uncertainty': 'keep', 'tile_size': 64, 'blend': 'gaussian', 'batch_size': None,
        'device': 'cpu', 'precision': 'float32', 'progress_bar': None,
    }  # fmt: skip
    return Options(**usual | changes)


def laid(blocks, shape):
    """Lay blocks into a frame that is NaN elsewhere."""
    result, n_blocks = np.full(shape, np.nan, np.float32), 0
    for block in blocks:
        result[block.planes, block.rows, block.cols] = block.data
        n_blocks += 1
    return result, n_blocks


@given(n=st.integers(1, 40000), size=st.sampled_from([128, 1024, 1280]))
def test_blocks_cover_an_axis_in_multiples_of_16(n, size):
    edges = block_edges(n, size=size)
    assert (edges[0], edges[-1]) == (0, n)
    lengths = np.diff(edges)
    assert (lengths > 0).all()
    assert all(edge % 16 == 0 for edge in edges[:-1])
    assert len(lengths) == 1 or 0.5 * size < lengths.min() <= lengths.max() < 1.6 * size


@given(data=st.data())
def test_a_part_is_widened_within_its_axis(data):
    n = data.draw(st.integers(1, 5000))
    start = data.draw(st.integers(0, n - 1))
    part = slice(start, data.draw(st.integers(start + 1, n)))
    wide = widened(part, 100, n)
    assert wide.start % 16 == 0
    assert 0 <= wide.start <= max(part.start - 100, 0)
    assert wide.stop == min(part.stop + 100, n)


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize(
    'changes',
    [{}, {'precision': 'bfloat16'}, {'tile_size': 128, 'overlap': 0.5}, {'uncertainty': 'predict'}],
)
def test_a_region_is_what_the_whole_is_there(noisy, changes):
    """Any rectangle of blocks has the bits that it has in the whole frame."""
    engine = load_engine('fast', 'cpu', changes.get('precision', 'float32'))
    frame = open_frame(noisy)
    known = survey_frame(frame, None)
    chosen = options(**changes)
    whole, n_blocks = laid(remove_noise(frame, known, engine, chosen), frame.shape)
    assert n_blocks == 20
    assert np.isfinite(whole).all()
    rows, cols = (block_edges(n) for n in SHAPE)
    for region in ((slice(rows[1], rows[3]), slice(cols[1], cols[3])),
                   (slice(rows[2], rows[4]), slice(cols[0], cols[1]))):  # fmt: skip
        part, _ = laid(remove_noise(frame, known, engine, chosen, region=region), frame.shape)
        inside = np.zeros(frame.shape, bool)
        inside[:, *region] = True
        assert_array_equal(np.isfinite(part), inside)
        assert_array_equal(part[inside], whole[inside])


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize('star_mask', [None, True])
def test_windows_and_bands_change_no_bit(noisy, star_mask, monkeypatch):
    ccd = CCDData(noisy, unit='adu', uncertainty=StdDevUncertainty(np.sqrt(noisy / 4 + 1)))
    keys = {'model': 'fast', 'tile_size': 64, 'star_mask': star_mask, 'noise': 'measure'}
    whole = denoise(ccd, **keys)
    monkeypatch.setattr(removal, 'WINDOW', 1)
    monkeypatch.setattr(removal, 'BAND', 2)
    pieces = denoise(ccd, **keys)
    assert_array_equal(pieces.data, whole.data)
    assert pieces.header['DENOIS01'] == whole.header['DENOIS01']


def test_one_block_or_many_agree(noisy, monkeypatch):
    """What a block holds back depends on its surroundings, not on the division."""
    whole = denoise(noisy, model='fast')
    monkeypatch.setattr(sections, 'BLOCK', 128)
    assert_array_equal(denoise(noisy, model='fast'), whole)


def test_given_sigma_is_read_the_same_in_windows(noisy, small_blocks, monkeypatch):
    sigma = np.sqrt(np.maximum(noisy, 400) / 4).astype(np.float32)
    sigma[100:103, 50:80] = np.nan
    ccd = CCDData(noisy, unit='adu', uncertainty=StdDevUncertainty(sigma))
    in_windows = denoise(ccd, model='fast', tile_size=64)
    monkeypatch.setattr(survey, 'PANEL', 10_000)
    whole = denoise(ccd, model='fast', tile_size=64)
    change = (in_windows.data - whole.data) / sigma
    assert np.sqrt(np.nanmean(change**2)) < 0.05  # panels of 256 px tell less than larger ones


@pytest.mark.usefixtures('small_blocks')
def test_tiles_without_a_valid_pixel_are_not_predicted(noisy):
    masked = CCDData(noisy, unit='adu', mask=np.zeros(SHAPE, bool))
    masked.mask[:, 300:] = True
    engine = load_engine('fast', 'cpu', 'float32')
    predictor, n_tiles = engine.predictor, []

    class Counting:
        def __getattr__(self, name):
            return getattr(engine, name)

        def predictor(self, condition):
            predict = predictor(condition)
            return lambda batch: n_tiles.append(len(batch)) or predict(batch)

    counts = []
    for ccd in (CCDData(noisy, unit='adu'), masked):
        n_tiles.clear()
        frame = open_frame(ccd)
        known = survey_frame(frame, 10.0)
        result, _ = laid(remove_noise(frame, known, Counting(), options()), frame.shape)
        counts.append(sum(n_tiles))
    assert counts[1] < 0.65 * counts[0]
    assert_array_equal(result[0][masked.mask], noisy[masked.mask])


@given(
    pixel=st.floats(-1e6, 1e6, width=32), noise=st.floats(-1e4, 1e4, width=32),
    dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_removed_noise_is_the_residual_of_the_result(pixel, noise, dtype):
    """Whatever is rounded: less the noise the pixel differs by just that noise."""
    pixels, noises = np.full(3, pixel, dtype), np.array([noise, noise / 3, noise * 7e-4], dtype)
    removed = removal._as_difference(pixels, noises)
    assert removed.dtype == dtype
    assert_array_equal(pixels - (pixels - removed), removed)
    # and it is the noise but for the rounding of the two pixels
    larger = np.maximum(abs(pixels), abs(pixels - noises))
    assert (abs(removed - noises) <= 1.5 * np.spacing(larger)).all()


@examples(10)
@given(batch_size=st.integers(1, 30))
def test_batches_change_no_bit(noisy, batch_size):
    part = noisy[:200, :150]
    one = denoise(part, model='fast', tile_size=64)
    assert_array_equal(denoise(part, model='fast', tile_size=64, batch_size=batch_size), one)
