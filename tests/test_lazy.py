# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Dask arrays stay lazy and give the bits that numpy gives."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, NDData, StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from astrodenoise import denoise, lazy, measure_noise, read_provenance, sections, survey
from helpers import examples

da = pytest.importorskip('dask.array')

SHAPE = (3, 330, 290)
KEYS = {'model': 'fast', 'tile_size': 64, 'precision': 'bfloat16'}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Divide frames as small as those of the tests."""
    monkeypatch.setattr(sections, 'BLOCK', 64)
    monkeypatch.setattr(survey, 'PANEL', 128)
    monkeypatch.setattr(lazy, 'CHUNK', 2)


@pytest.fixture(scope='module')
def planes():
    """Give three planes with stars, a gap and noise that follows the signal."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    truth = np.full(SHAPE[1:], 400.0)
    for row, column in rng.uniform(0, 290, (40, 2)):
        truth += rng.uniform(20, 900) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    frame = truth + rng.normal(size=SHAPE) * np.sqrt(truth / 9)
    frame[:, 250:, 200:] = 0
    return frame.astype(np.float32)


def chunks_of(data, n):
    """Draw chunks of an axis."""
    cuts = data.draw(st.sets(st.integers(1, n - 1), max_size=5))
    return tuple(np.diff([0, *sorted(cuts), n]).tolist())


@examples(3)
@given(data=st.data(), channels=st.sampled_from([None, 'joint']))
def test_any_chunks_give_the_bits_of_numpy(planes, data, channels):
    chunks = tuple(chunks_of(data, n) for n in SHAPE)
    clean = denoise(da.from_array(planes, chunks=chunks), channels=channels, **KEYS)
    assert isinstance(clean, da.Array)
    assert (clean.shape, clean.dtype) == (SHAPE, np.float32)
    assert_array_equal(clean.compute(), denoise(planes, channels=channels, **KEYS))


@pytest.mark.parametrize('uncertainty', ['keep', 'predict', None])
@pytest.mark.parametrize('kind', [None, StdDevUncertainty, InverseVariance])
def test_ccddata_stays_lazy_with_all_its_planes(planes, kind, uncertainty):
    frame = planes[0]
    mask = np.zeros(frame.shape, bool)
    mask[100:104, 30:200] = True
    sigma = np.sqrt(np.maximum(frame, 300) / 9)

    def make(wrap):
        values = None if kind is None else wrap(sigma if kind is StdDevUncertainty else sigma**-2)
        given = None if kind is None else kind(values)
        return CCDData(wrap(frame), unit='adu', mask=wrap(mask), uncertainty=given,
                       meta={'OBJECT': 'made'})  # fmt: skip

    ccd = make(lambda a: da.from_array(a, chunks=(111, 97)))
    whole = denoise(make(lambda a: a), uncertainty=uncertainty, **KEYS)
    clean = denoise(ccd, uncertainty=uncertainty, **KEYS)
    assert type(clean) is CCDData
    assert isinstance(clean.data, da.Array)
    assert_array_equal(clean.data.compute(), whole.data)
    assert_array_equal(np.asarray(clean.mask), mask)
    assert clean.unit == u.adu
    assert clean.meta['OBJECT'] == 'made'
    assert type(clean.uncertainty) is type(whole.uncertainty)
    if whole.uncertainty is not None:
        assert_array_equal(np.asarray(clean.uncertainty.array), whole.uncertainty.array)
    records = [read_provenance(one) for one in (clean, whole)]
    for record in records:
        for plane in record['planes']:
            plane.pop('limited')
    assert records[0] == records[1]


def test_nothing_is_computed_but_the_statistics(planes):
    frame, seen = planes[0], []

    def look(block):
        seen.append(block.shape)
        return block

    source = da.from_array(frame, chunks=(66, 58)).map_blocks(look, dtype=frame.dtype, meta=frame)
    clean = denoise(source, noise=measure_noise(frame), **KEYS)
    n_seen = len(seen)
    assert sum(np.prod(shape) for shape in seen) < 3 * frame.size  # once, with margins
    part = clean[:40, :40].compute()
    assert sum(np.prod(shape) for shape in seen[n_seen:]) <= frame.size
    assert part.shape == (40, 40)


def test_star_masks_and_given_noise(planes):
    frame = planes[0]
    stars = (frame > 600).astype(np.float32)
    for keys in ({'star_mask': stars}, {'star_mask': True}, {'noise': 7.0}, {'strength': 0.5}):
        clean = denoise(da.from_array(frame, chunks=100), **keys, **KEYS)
        assert_array_equal(clean.compute(), denoise(frame, **keys, **KEYS))


def test_noise_is_measured_without_the_whole_frame(planes):
    frame = planes[0]
    noise = measure_noise(da.from_array(frame, chunks=100))
    assert noise.to_json() == measure_noise(frame).to_json()


def test_integers_and_float64(planes):
    for frame in (planes[0].round().astype(np.uint16), planes[0].astype(np.float64)):
        clean = denoise(da.from_array(frame, chunks=100), **KEYS)
        whole = denoise(frame, **KEYS)
        assert clean.dtype == whole.dtype
        assert_array_equal(clean.compute(), whole)


def test_bad_input_is_refused_before_anything_is_computed(planes):
    def fail(block):
        pytest.fail('a block was computed')

    source = da.from_array(planes[0], chunks=100).map_blocks(fail, dtype='f4', meta=planes[:0, 0])
    with pytest.raises(ValueError, match=r'bayer=.* in memory'):
        denoise(source, bayer='RGGB')
    with pytest.raises(ValueError, match=r'joint.* three planes'):
        denoise(source, channels='joint')
    with pytest.raises(TypeError, match='complex'):
        denoise(da.zeros((64, 64), dtype=complex))
    with pytest.raises(ValueError, match='compute_chunk_sizes'):
        denoise(source[source[:, 0] > 0])


def test_a_frame_without_any_valid_pixel():
    for n in (90, 400):  # one panel, and several
        with pytest.raises(ValueError, match='nothing is left'):
            denoise(da.full((n, n), np.nan, chunks=80, dtype='f4'))


def test_a_small_frame_is_looked_at_as_a_whole(planes):
    frame = planes[0][:120, :130]
    assert_array_equal(denoise(da.from_array(frame, chunks=50), **KEYS).compute(),
                       denoise(frame, **KEYS))  # fmt: skip
    ndd = denoise(NDData(da.from_array(frame, chunks=50)), **KEYS)
    assert_array_equal(np.asarray(ndd.data), denoise(NDData(frame), **KEYS).data)


def test_on_a_cluster_of_processes(planes):
    distributed = pytest.importorskip('distributed')
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            host='127.0.0.1', worker_dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        # the workers divide frames as their own modules say: their blocks are the usual ones
        client.run(_divide)
        frame = da.from_array(planes[0], chunks=(100, 120))
        clean = denoise(frame, **KEYS)
        assert_array_equal(clean.compute(), denoise(planes[0], **KEYS))


def _divide():
    """Divide frames as this process does in its tests."""
    from astrodenoise import sections as their_sections

    their_sections.BLOCK = 64
