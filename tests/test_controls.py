# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Shares of the removed noise: an exact partition, the same bits however a frame is divided."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise import controls as module
from astrodenoise import denoise, read_provenance, sections, survey
from astrodenoise.controls import LUMINANCE, RADIUS, Controls, less_noise, share_of
from astrodenoise.frames import Opened, open_frame

SHAPE = (3, 90, 110)
shares = st.just(0.0) | st.floats(2.0**-60, 1, width=32)  # smaller ones round what they leave


@pytest.fixture(scope='module')
def noise():
    """Give noise with blotches, of unequal planes, with pixels and an area from which none goes."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=SHAPE) * np.array([1.0, 0.7, 1.6])[:, None, None]
    noise += np.cos(np.arange(110) / 7) + 0.5 * rng.normal(size=(3, 1, 110))
    noise[:, 30:50, 40:70] = 0
    noise[0, 10, 12] = noise[1, 80:, 5] = 0
    return noise.astype(np.float32)


@given(strength=shares, chroma=st.none() | shares, coarse=st.none() | shares, grain=shares,
       joint=st.booleans(), dtype=st.sampled_from(['f4', 'f8']))  # fmt: skip
def test_shares_are_linear_in_the_noise_and_leave_the_rest_alone(
    noise, strength, chroma, coarse, grain, joint, dtype
):
    noise = noise.astype(dtype)
    asked = Controls(strength, chroma if joint else None, coarse, grain)
    taken = share_of(noise, asked, joint=joint)
    assert taken.dtype == dtype
    assert not taken[noise == 0].any()
    # powers of two change no bit, others change the last
    assert_array_equal(share_of(-4 * noise, asked, joint=joint), -4 * taken)
    other = np.where(noise == 0, 0, np.roll(noise[:, ::-1], 9, axis=2) + 3 * noise)
    other = np.where((noise != 0) & (other == 0), 1, other).astype(dtype)
    both = share_of(noise + 2 * other, asked, joint=joint)
    if (noise + 2 * other != 0).sum() == (noise != 0).sum():  # else another area is left out
        assert_allclose(both, taken + 2 * share_of(other, asked, joint=joint), atol=1e-4)


@pytest.mark.parametrize('joint', [False, True])
def test_parts_add_up_to_the_whole(noise, joint):
    """Each part alone, taken in full, and together: nothing is counted twice, nothing is lost."""
    fine = share_of(noise, Controls(1, 0 if joint else None, 0), joint=joint)
    coarse = share_of(noise, Controls(0, 0 if joint else None, 1), joint=joint)
    colour = share_of(noise, Controls(0, 1, 0), joint=True) if joint else 0 * noise
    assert_allclose(fine + coarse + colour, noise, atol=2e-6)
    for part in (fine, coarse, colour) if joint else (fine, coarse):
        assert 0.2 < part.std() < 1.3
    grain = share_of(noise, Controls(keep_grain=0.3), joint=joint)
    assert_allclose(grain, noise - 0.3 * fine, atol=2e-6)
    every = share_of(noise, Controls(0.5, 0.9 if joint else None, 0.8, 0.4), joint=joint)
    assert_allclose(every, 0.5 * 0.6 * fine + 0.8 * coarse + 0.9 * colour, atol=2e-6)


@pytest.mark.parametrize('joint', [False, True])
def test_full_strength_is_the_noise_and_none_is_nothing(noise, joint):
    assert_array_equal(share_of(noise, Controls(), joint=joint), noise)
    frame = 100 + noise
    frame[:, 30:35, 40:50] = np.array([np.nan, -0.0, np.inf, -np.inf, 60000])[:, None]
    for nothing in (Controls(0), Controls(0, 0 if joint else None, 0, 0.5)):
        parts = less_noise(lambda rows: frame[:, rows], noise, nothing, joint=joint)
        result = np.concatenate([part for _, part in parts], axis=1)
        assert result.tobytes() == frame.tobytes()


@given(one=shares, other=shares)
def test_strength_of_colour_leaves_the_luminance(noise, one, other):
    luminance = [
        np.tensordot(LUMINANCE, share_of(noise, Controls(0.6, chroma), joint=True), 1)
        for chroma in (one, other)
    ]
    everywhere = (noise != 0).all(axis=0)
    assert_allclose(*(plane[everywhere] for plane in luminance), atol=2e-6)


def test_what_stays_without_colour_is_grey(noise):
    everywhere = (noise != 0).all(axis=0)
    left = (noise - share_of(noise, Controls(0.6, 1), joint=True))[:, everywhere]
    assert np.abs(left - left.mean(axis=0)).max() < 1e-5
    assert left.std() > 0.2
    # as where a plane has none, the luminance is that of the others
    part = (noise[0] == 0) & (noise[1] != 0)
    left = (noise - share_of(noise, Controls(0.6, 1), joint=True))[1:, part]
    assert_allclose(*left, atol=1e-5)


def test_strength_of_coarse_leaves_the_fine(rng):
    """In the power spectrum, by the Gaussian of 8 px: nothing below 6 px, all above 40 px."""
    noise = rng.normal(size=(1, 256, 256)).astype(np.float32)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    window = np.outer(np.hanning(256), np.hanning(256))

    def spectrum(part):
        return np.abs(np.fft.fft2(part[0] * window)) ** 2

    whole = spectrum(noise)
    left = spectrum(noise - share_of(noise, Controls(0.0, None, 1.0)))
    fine, coarse = frequency > 1 / 6, (frequency < 1 / 40) & (frequency > 1 / 100)
    assert left[fine].sum() == pytest.approx(whole[fine].sum(), rel=0.01)
    assert left[coarse].sum() < 0.03 * whole[coarse].sum()
    kept = spectrum(noise - share_of(noise, Controls(keep_grain=0.5)))
    assert kept[fine].sum() == pytest.approx(0.25 * whole[fine].sum(), rel=0.01)
    assert kept[coarse].sum() < 0.01 * whole[coarse].sum()


def test_coarse_does_not_fade_at_gaps_and_borders():
    """A blotch that goes on beyond them goes whole: what is missing has no say."""
    noise = np.ones((1, 60, 60), np.float32)
    noise[0, 20:40, 30:] = 0
    taken = share_of(noise, Controls(0, None, 1))
    assert_allclose(taken, noise, atol=1e-6)


@pytest.mark.parametrize('joint', [False, True])
@given(data=st.data())
def test_strips_and_windows_change_no_bit(noise, joint, data):
    asked = Controls(0.7, 0.9 if joint else None, 0.4, 0.2)
    whole = 100 - share_of(noise, asked, joint=joint)
    rows, cols = (sorted(data.draw(st.sets(st.integers(0, n), min_size=2, max_size=2)))
                  for n in SHAPE[1:])  # fmt: skip
    first = [max(start - RADIUS, 0) for start in (rows[0], cols[0])]
    window = noise[:, first[0] : rows[1] + RADIUS, first[1] : cols[1] + RADIUS]
    part = share_of(window, asked, joint=joint)[:, rows[0] - first[0] :, cols[0] - first[1] :]
    part = part[:, : rows[1] - rows[0], : cols[1] - cols[0]]
    assert_array_equal(100 - part, whole[:, slice(*rows), slice(*cols)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'STRIP', data.draw(st.integers(1, 3 * 110 * 40)))
        result = noise.copy()  # its memory is used, as that of a frame is
        for at, pixels in less_noise(lambda rows: 100 + 0 * noise[:, rows], result, asked,
                                     joint=joint):  # fmt: skip
            result[:, at] = pixels
    assert_array_equal(result, whole)


def test_a_record_tells_what_is_not_as_usual():
    record = {'version': '1', 'strength': 1.0, 'limit': 6.0}
    assert Controls().told(record) == record
    told = Controls(0.5, 0.5, 1, 0.25).told(record)
    assert list(told.items()) == [
        ('version', '1'), ('strength', 0.5), ('strength_coarse', 1.0), ('keep_grain', 0.25),
        ('limit', 6.0),
    ]  # fmt: skip
    assert Controls().told(told) == record
    assert Controls(0.5, 0.5).plain
    assert not Controls(0.5, 1).plain
    assert not Controls(1, None, None, 0.1).plain


# ways of a frame through denoise()

KEYS = {'model': 'fast', 'tile_size': 64, 'precision': 'float32'}
ASKED = {'strength': 0.7, 'strength_coarse': 0.9, 'keep_grain': 0.25}


@pytest.fixture
def small_blocks(monkeypatch):
    """Divide frames as small as those of the tests."""
    monkeypatch.setattr(sections, 'BLOCK', 64)
    monkeypatch.setattr(survey, 'PANEL', 128)
    monkeypatch.setattr(module, 'STRIP', 10_000)


@pytest.fixture(scope='module')
def frame():
    """Give three planes with stars, a gap and saturated pixels."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:210, :190]
    truth = np.full((210, 190), 400.0)
    for row, column in rng.uniform(0, 190, (20, 2)):
        truth += rng.uniform(20, 900) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    frame = truth + rng.normal(size=(3, 210, 190)) * np.sqrt(truth / 9)
    frame[:, 170:, 120:] = 0
    return np.minimum(frame, 900).astype(np.float32)


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize('keys', [
    {}, {'channels': 'joint', 'strength_chroma': 1.0, 'model': 'fast'}, {'strength': 0.4},
])  # fmt: skip
def test_dask_has_the_bits_of_numpy(frame, keys):
    da = pytest.importorskip('dask.array')
    keys = KEYS | ({} if 'strength' in keys else ASKED) | keys
    whole = denoise(frame, **keys)
    for chunks in ((3, 70, 100), (1, 210, 11)):
        clean = denoise(da.from_array(frame, chunks=chunks), **keys)
        assert isinstance(clean, da.Array)
        assert clean.dtype == np.float32
        assert_array_equal(clean.compute(), whole)
    part = denoise(da.from_array(CCDData(frame[0], unit='adu').data, chunks=64), **KEYS, **ASKED)
    assert_array_equal(part.compute(), denoise(frame[0], **KEYS, **ASKED))


@pytest.mark.usefixtures('small_blocks')
def test_pixels_without_noise_come_back_as_they_were(frame):
    ccd = CCDData(frame.copy(), unit='adu', mask=np.zeros(frame.shape, bool), meta=fits.Header())
    ccd.mask[:, 40:42] = True
    ccd.data[:, 60, 7] = np.nan
    ccd.data[1, 80, 9] = np.inf
    clean = denoise(ccd, channels='joint', strength_chroma=0.5, strength_coarse=0.2, **KEYS)
    same = ccd.mask | ~np.isfinite(ccd.data) | (frame == 0) | (frame == 900)
    assert same.sum() > 3000
    assert_array_equal(clean.data[same], ccd.data[same])
    assert (clean.data[~same] != ccd.data[~same]).mean() > 0.99
    record = read_provenance(clean)
    names = 'strength', 'strength_chroma', 'strength_coarse'
    assert [record[name] for name in names] == [1, 0.5, 0.2]
    assert 'keep_grain' not in record


def test_one_strength_for_all_needs_no_second_look(frame, monkeypatch):
    monkeypatch.setattr(Opened, 'less', None)
    same = denoise(frame, strength=0.5, strength_coarse=0.5, keep_grain=0, **KEYS)
    assert_array_equal(same, denoise(frame, strength=0.5, **KEYS))


def test_a_mosaic_is_divided_in_its_own_planes(frame):
    mosaic = frame[0][:208, :188]
    clean = denoise(mosaic, bayer='RGGB', **ASKED, **KEYS)
    plain = [denoise(mosaic, bayer='RGGB', strength=s, **KEYS) for s in (0, 1)]
    assert_array_equal(plain[0], mosaic)
    noise = plain[0].astype(float) - plain[1]
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        of_colour = noise[None, y::2, x::2].copy()
        taken = share_of(of_colour, Controls(0.7, None, 0.9, 0.25))[0]
        assert_allclose(clean[y::2, x::2], mosaic[y::2, x::2] - taken, atol=1e-3)


@pytest.mark.parametrize(
    ('keys', 'error', 'text'),
    [
        ({'strength_chroma': 0.5}, ValueError, 'strength_chroma is about three planes'),
        ({'strength_chroma': 1.5, 'channels': 'joint'}, ValueError, 'strength_chroma must be'),
        ({'strength_coarse': -0.1}, ValueError, 'strength_coarse must be'),
        ({'keep_grain': None}, TypeError, 'keep_grain must be a number'),
        ({'keep_grain': 0.5, 'uncertainty': 'predict'}, ValueError, 'known for one strength'),
    ],
)
def test_wrong_shares_are_refused_before_any_work(frame, keys, error, text):
    with pytest.raises(error, match=text):
        denoise(frame, **keys)


def test_planes_are_opened_as_they_are(frame):
    assert open_frame(frame).less(np.zeros_like(frame), Controls(0.5)).tobytes() == frame.tobytes()
