# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Raw colour mosaics, and frames of several planes."""

import copy
import functools
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import astrodenoise
from astrodenoise import FrameNoise, core, measure_noise, read_provenance
from astrodenoise.exceptions import MosaicWarning
from astrodenoise.features import NormalisedPlane
from astrodenoise.frames import open_frame
from astrodenoise.mosaic import (
    as_mosaic,
    check_peaks,
    join_mosaic,
    read_pattern,
    split_mosaic,
)
from astrodenoise.noisemodel import PlaneNoise
from astrodenoise.removal import remove_noise

denoise = functools.partial(astrodenoise.denoise, tile_size=128)  # small frames, small tiles

SHAPE = (128, 144)
SKIES, SIGMAS = (300.0, 900.0, 910.0, 500.0), (4.0, 9.0, 9.1, 6.0)  # of RGGB


@pytest.fixture
def mosaic(rng):
    """Give a raw frame of sky whose colours differ in level and noise."""
    planes = [rng.normal(sky, sigma, (64, 72)) for sky, sigma in zip(SKIES, SIGMAS, strict=True)]
    return join_mosaic(np.array(planes, np.float32), SHAPE)


def draw_stars(fwhm, snr, rng, *, shape=(192, 192), step=16):
    """
    Draw stars of any phase as one half-size plane of a mosaic sees them.

    Gaussians over pixels that cover half of the distance to the next one; ``snr`` is that of a
    matched filter in noise of 1.  Gives the plane and the positions of the brightest pixels.
    """
    image, places = np.zeros(shape), []
    at, part = np.arange(-7, 8), (np.arange(6) - 2.5) / 12
    for y in range(step // 2, shape[0], step):
        for x in range(step // 2, shape[1], step):
            profiles = [
                np.exp(-4 * np.log(2) * ((at[:, None] + part - phase) / fwhm) ** 2).sum(axis=1)
                for phase in rng.uniform(-0.5, 0.5, 2)
            ]
            star = np.outer(*profiles)
            image[y - 7 : y + 8, x - 7 : x + 8] += snr * star / np.sqrt(np.sum(star**2))
            peak = np.unravel_index(np.argmax(star), star.shape)
            places.append((y - 7 + peak[0], x - 7 + peak[1]))
    return image, tuple(np.transpose(places))


# --- planes of a mosaic ---------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_mosaic_is_split_and_joined_whole(height, width):
    mosaic = np.arange(height * width).reshape(height, width)
    planes = split_mosaic(mosaic)
    assert planes.shape == (4, (height + 1) // 2, (width + 1) // 2)
    assert_array_equal(join_mosaic(planes, mosaic.shape), mosaic)


def test_planes_are_in_the_order_of_the_letters():
    assert split_mosaic(np.array([[1, 2], [3, 4]])).ravel().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match='shape'):
        split_mosaic(np.zeros((2, 2, 2)))


def test_every_plane_is_denoised_as_it_is_alone(mosaic):
    clean = denoise(mosaic, bayer='RGGB')
    assert clean.shape == mosaic.shape
    for plane, alone in zip(split_mosaic(clean), split_mosaic(mosaic), strict=True):
        assert_array_equal(plane, denoise(alone))
    assert_array_equal(clean, denoise(mosaic, bayer='gbrg'))  # a pattern only names the planes


def test_the_checkerboard_stays_and_the_noise_goes(mosaic):
    planes = split_mosaic(denoise(mosaic, bayer='RGGB'))
    for plane, sky, sigma in zip(planes, SKIES, SIGMAS, strict=True):
        assert abs(plane.mean() - sky) < 0.1 * sigma
        assert plane.std() < 0.2 * sigma


@pytest.mark.parametrize('shape', [(127, 144), (128, 143), (97, 99)])
def test_odd_sides(mosaic, shape):
    mosaic = CCDData(mosaic[: shape[0], : shape[1]], unit='adu')
    clean = denoise(mosaic, bayer='RGGB')
    assert clean.shape == shape
    assert np.isfinite(clean.data).all()
    planes = [clean.data[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    for plane, sky, sigma in zip(planes, SKIES, SIGMAS, strict=True):
        assert_allclose(plane, sky, atol=1.5 * sigma)  # the last row and column, too
    assert [plane['invalid'] for plane in read_provenance(clean)['planes']] == [0] * 4


@pytest.mark.parametrize('kind', [np.asarray, NDData, 'ccd', 'quantity'])
def test_the_same_kind_of_object_comes_back(mosaic, kind):
    frame = {
        'ccd': lambda data: CCDData(data, unit='adu'),
        'quantity': lambda data: data * u.adu,
    }.get(kind, kind)(mosaic)
    clean = denoise(frame, bayer='RGGB')
    assert type(clean) is type(frame)
    pixels = getattr(clean, 'data', clean)
    assert_array_equal(np.asarray(getattr(clean, 'value', pixels)), denoise(mosaic, bayer='RGGB'))


def test_whole_numbers_of_a_camera(mosaic):
    clean = denoise(mosaic.round().astype('>u2'), bayer='RGGB')
    assert clean.dtype == np.float32
    assert_allclose(clean, denoise(mosaic, bayer='RGGB'), atol=3)


def test_strength_0_is_the_mosaic(mosaic):
    assert_array_equal(denoise(mosaic[:, :-1], bayer='RGGB', strength=0), mosaic[:, :-1])


# --- everything else that a frame has -------------------------------------------------------------


@pytest.mark.parametrize('kind', [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_mask_flags_and_uncertainty(mosaic, rng, kind):
    sigma = join_mosaic(np.array([np.full((64, 72), value, np.float32) for value in SIGMAS]), SHAPE)
    mask = rng.random(SHAPE) < 0.02
    mosaic[mask] = 5000
    mosaic[40, 41] = np.nan
    ccd = CCDData(
        mosaic, unit='adu', mask=mask, flags=rng.integers(0, 9, SHAPE),
        uncertainty=StdDevUncertainty(sigma).represent_as(kind), meta={'OBJECT': 'NGC 7023'},
    )  # fmt: skip
    before = copy.deepcopy(ccd)
    clean = denoise(ccd, bayer='RGGB')
    assert_array_equal(ccd.data, before.data)
    assert_array_equal(clean.mask, mask)
    assert_array_equal(clean.flags, before.flags)
    assert type(clean.uncertainty) is kind
    assert_array_equal(clean.uncertainty.array, before.uncertainty.array)
    kept = mask | ~np.isfinite(mosaic)
    assert_array_equal(clean.data[kept], mosaic[kept])
    assert [plane['noise'] for plane in read_provenance(clean)['planes']] == ['uncertainty'] * 4
    assert [plane['invalid'] for plane in read_provenance(clean)['planes']] == [
        np.count_nonzero(plane) for plane in split_mosaic(kept)
    ]


def test_the_sigma_of_each_colour_is_the_uncertainty(mosaic):
    for how, factor in (('keep', (0.9, 1.1)), ('predict', (0.0, 0.5))):
        clean = denoise(CCDData(mosaic, unit='adu'), bayer='RGGB', uncertainty=how)
        found = np.median(split_mosaic(clean.uncertainty.array), axis=(1, 2)) / SIGMAS
        assert clean.uncertainty.array.shape == SHAPE
        assert (found > factor[0]).all()
        assert (found < factor[1]).all()


def test_noise_of_every_kind(mosaic):
    sigma = join_mosaic(np.array([np.full((64, 72), value) for value in SIGMAS]), SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for noise in (
            sigma, sigma[np.newaxis] * u.adu, StdDevUncertainty(sigma, unit='adu'), 'measure',
            measure_noise(split_mosaic(mosaic)),
        ):  # fmt: skip
            clean = denoise(CCDData(mosaic, unit='adu'), bayer='RGGB', noise=noise)
            used = [plane['sigma'] for plane in read_provenance(clean)['planes']]
            assert_allclose(used, SIGMAS, rtol=0.1)
    with pytest.raises(ValueError, match=r'\(64, 72\).*\(128, 144\)'):
        denoise(mosaic, bayer='RGGB', noise=sigma[::2, ::2])
    with pytest.raises(ValueError, match='1 planes'):
        denoise(mosaic, bayer='RGGB', noise=FrameNoise((PlaneNoise(SHAPE, 0.0, 1.0),)))
    with pytest.raises(u.UnitsError, match='noise'):
        denoise(mosaic * u.adu, bayer='RGGB', noise=sigma * u.s)


def test_arrays_that_go_with_a_mosaic_are_split(rng):
    frame = as_mosaic(open_frame(np.ones((5, 6))), 'RGGB')
    mask = rng.random((5, 6))
    assert_array_equal(frame.value_of(mask, 'star_mask'), split_mosaic(mask))
    assert frame.value_of(3.0, 'saturation') == 3
    assert frame.value_of(None, 'saturation') is None


def test_a_star_mask_is_split_as_the_mosaic(mosaic):
    mosaic[60:66, 70:76] += 400
    mask = np.zeros(SHAPE)
    mask[58:68, 68:78] = 1
    for star_mask in (True, mask):
        planes = split_mosaic(denoise(mosaic, bayer='RGGB', star_mask=star_mask))
        alone = True if star_mask is True else split_mosaic(star_mask)[2]
        green = np.ascontiguousarray(mosaic[1::2, ::2])
        assert_array_equal(planes[2], denoise(green, star_mask=alone))
        assert not np.array_equal(planes[2], denoise(green))


def test_the_record_names_the_pattern_and_each_plane(mosaic, rng):
    blurred = mosaic + 0.0
    noise = rng.normal(0, 9, (65, 72))
    blurred[1::2, ::2] = 910 + (noise[1:] + noise[:-1]) / np.sqrt(2)  # correlated in y alone
    ccd = CCDData(blurred, unit='adu', meta=fits.Header({'BAYERPAT': 'GRBG'}))
    clean = denoise(ccd, bayer=True)
    record = read_provenance(clean)
    assert record['bayer'] == 'GRBG'
    assert record['channels'] == 'separate'
    assert clean.meta['BAYERPAT'] == 'GRBG'
    correlation = np.array([plane['correlation'] for plane in record['planes']])
    assert_allclose(correlation[2, 1], 0.5, atol=0.1)  # lag (1, 0)
    assert np.abs(np.delete(correlation, 2, axis=0)).max() < 0.1


# --- what says that a frame is a mosaic -----------------------------------------------------------


@pytest.mark.parametrize(
    ('cards', 'pattern'),
    [
        ({'BAYERPAT': 'GRBG'}, 'GRBG'),
        ({'BAYERPAT': 'rggb    '}, 'RGGB'),
        ({'BAYRPAT': 'BGGR'}, 'BGGR'),
        ({'COLORTYP': 'GBRG'}, 'GBRG'),
        ({'bayerpat': 'RGGB'}, 'RGGB'),
        ({'BAYERPAT': 'RGGB', 'XBAYROFF': 0, 'YBAYROFF': 0.0}, 'RGGB'),
        ({'BAYERPAT': 'RGGB', 'XBAYROFF': 1}, 'GRBG'),
        ({'BAYERPAT': 'RGGB', 'YBAYROFF': 1}, 'GBRG'),
        ({'BAYERPAT': 'RGGB', 'XBAYROFF': 1, 'YBAYROFF': -1}, 'BGGR'),
        ({'BAYERPAT': 'RGGB', 'ROWORDER': 'TOP-DOWN'}, 'RGGB'),
        ({'BAYERPAT': 'RGGB', 'ROWORDER': 'BOTTOM-UP'}, 'GBRG'),
        ({'BAYERPAT': 'RGGB', 'ROWORDER': 'bottom-up', 'YBAYROFF': 1}, 'RGGB'),
        ({}, None),
        ({'BAYERPAT': ''}, None),
        ({'COLORTYP': 'MONO'}, None),
        ({'BAYERPAT': 'None', 'COLORTYP': 'RGGB'}, 'RGGB'),
    ],
)
def test_patterns_of_headers(cards, pattern):
    assert read_pattern(cards, 10) == pattern
    if 'bayerpat' not in cards:
        assert read_pattern(fits.Header(cards), 10) == pattern


def test_an_odd_frame_from_the_bottom_up_begins_like_the_sensor():
    assert read_pattern({'BAYERPAT': 'RGGB', 'ROWORDER': 'BOTTOM-UP'}, 11) == 'RGGB'
    assert read_pattern(None, 11) is None


@pytest.mark.parametrize('pattern', ['GGRGGB' * 6, 'XTRANS', 'X-Trans', 'CYYM', 'T', 'RGBG'])
def test_other_patterns_are_refused_with_advice(pattern):
    ccd = CCDData(np.ones((8, 8)), unit='adu', meta={'BAYERPAT': pattern})
    for bayer in (True, pattern):
        with pytest.raises(ValueError, match=r'debayer .*\(3, H, W\)'):
            denoise(ccd, bayer=bayer)
    with pytest.warns(MosaicWarning, match='debayer the frame first'):
        as_mosaic(open_frame(ccd), None)


def test_a_broken_card_says_nothing():
    header = fits.Header.fromstring(f'{"BAYERPAT= RGGB":80}{"END":80}')
    assert read_pattern(header, 10) is None


@pytest.mark.parametrize('offset', ['x', 0.5, np.nan])
def test_a_strange_offset_is_refused(offset):
    with pytest.raises(ValueError, match=r"XBAYROFF.*bayer='RGGB'"):
        read_pattern({'BAYERPAT': 'RGGB', 'XBAYROFF': offset}, 10)


def test_one_warning_for_a_mosaic_that_nobody_named(rng):
    mosaic = rng.normal(900, 5, SHAPE).astype(np.float32)  # the same level in all colours
    ccd = CCDData(mosaic, unit='adu', meta={'BAYERPAT': 'GRBG'})
    with pytest.warns(MosaicWarning, match='bayer=True.*bayer=False') as caught:
        as_one = denoise(ccd, noise=5.0)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        silent = denoise(ccd, bayer=False, noise=5.0)
        denoise(CCDData([mosaic] * 2, unit='adu', meta=ccd.meta))  # planes are no mosaic
        denoise(ccd, bayer=True)
    assert_array_equal(silent.data, as_one.data)
    assert 'bayer' not in read_provenance(silent)


@pytest.mark.parametrize(
    ('frame', 'options', 'kind', 'message'),
    [
        (np.ones((3, 64, 64)), {'bayer': 'RGGB'}, ValueError, r'\(H, W\).*\(3, 64, 64\)'),
        (np.ones((3, 64, 64)), {'bayer': True}, ValueError, r'one mosaic after the other'),
        (np.ones((64, 64)), {'bayer': True}, ValueError, "BAYERPAT.*bayer='RGGB'"),
        (np.ones((64, 64)), {'bayer': 'RGBG'}, ValueError, 'unknown; known are RGGB'),
        (np.ones((64, 64)), {'bayer': 3}, TypeError, 'bayer must be True'),
        (np.ones((64, 64)), {'bayer': 'RGGB', 'channels': 'joint'}, ValueError, 'debayer'),
        (np.ones((64, 64)), {'bayer': 'RGGB', 'model': 'colour'}, ValueError, 'mono'),
    ],
)
def test_wrong_calls(frame, options, kind, message):
    with pytest.raises(kind, match=message):
        denoise(frame, **options, noise=1.0)


# --- undersampled stars ---------------------------------------------------------------------------


@pytest.mark.parametrize('fwhm', [1.0, 1.25, 1.5])
@pytest.mark.parametrize('snr', [30, 100])
def test_undersampled_stars_keep_their_peaks(fwhm, snr, rng):
    changes = []
    for _ in range(3):
        truth, peaks = draw_stars(fwhm, snr, rng)
        noisy = (truth + rng.normal(size=truth.shape)).astype(np.float32)
        changes.append((denoise(noisy) - noisy)[peaks] / truth[peaks].mean())
    assert abs(np.mean(changes)) < 0.02


def as_planes(truth, rng):
    """Four noisy planes as the way of a frame makes them."""
    noisy = truth + rng.normal(size=(4, *truth.shape))
    noise = PlaneNoise(truth.shape, 0.0, 1.0)
    return [NormalisedPlane(plane, np.ones(plane.shape, bool), noise) for plane in noisy]


@pytest.mark.parametrize('fwhm', [1.0, 1.5])
def test_a_mosaic_that_loses_its_peaks_is_refused(fwhm, rng):
    planes = as_planes(draw_stars(fwhm, 60, rng)[0], rng)
    before = np.array([plane.data for plane in planes])
    check_peaks(planes, before)
    check_peaks(planes, 0.99 * before)
    with pytest.raises(ValueError, match=r'lose [345]\.\d %.*debayer the frame first'):
        check_peaks(planes, 0.96 * before)


def test_stars_that_are_wide_or_few_are_not_judged(rng):
    planes = as_planes(draw_stars(3.0, 60, rng)[0], rng)
    check_peaks(planes, np.array([0.9 * plane.data for plane in planes]))
    planes = as_planes(np.zeros((192, 192)), rng)
    check_peaks(planes, np.zeros((4, 192, 192)))


def test_denoise_refuses_it(monkeypatch, rng):
    truth, _ = draw_stars(1.2, 80, rng)
    planes = (truth + rng.normal(size=(4, *truth.shape))).astype(np.float32)
    mosaic = join_mosaic(planes, (384, 384))
    clean = denoise(mosaic, bayer='RGGB')
    assert clean.shape == mosaic.shape

    def blunt(*args, **keywords):
        for block in remove_noise(*args, **keywords):
            block.data[...] *= 0.9
            yield block

    monkeypatch.setattr(core, 'remove_noise', blunt)
    with pytest.raises(ValueError, match=r'1\.\d\d px .* debayer the frame first'):
        denoise(mosaic, bayer='RGGB')


# --- frames of cameras ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('folder', 'bayer', 'pattern'),
    [('real_seestar_ngc7023', True, 'GRBG'), ('real_dslr', 'RGGB', 'RGGB')],
)
def test_frames_of_cameras(shared_data, folder, bayer, pattern):
    path = min((shared_data / 'check' / folder).glob('[Lf]*.fits.fz'))
    data, header = fits.getdata(path, 1, header=True)
    ccd = CCDData(data[:321, :260], unit='adu', meta=header)
    clean = denoise(ccd, bayer=bayer)
    record = read_provenance(clean)
    assert record['bayer'] == pattern
    for plane, entry in zip(split_mosaic(clean.data - ccd.data), record['planes'], strict=True):
        assert abs(np.mean(plane)) < 0.05 * entry['sigma']
        assert 0.5 < np.std(plane) / entry['sigma'] < 1.1  # a Milky Way has stars in its noise
        assert max(np.abs(entry['correlation'])) < 0.4


# --- frames of several planes ---------------------------------------------------------------------


@pytest.mark.parametrize('channels', [None, 'separate', 'joint'])
def test_planes_keep_their_shape_unit_and_record(channels, rng):
    cube = CCDData(rng.normal(100, 5, (3, 96, 80)).astype(np.float32), unit='electron')
    clean = denoise(cube, channels=channels)
    assert clean.shape == cube.shape
    assert clean.unit == u.electron
    record = read_provenance(clean)
    assert record['channels'] == (channels or 'separate')
    assert len(record['planes']) == 3
    assert (clean.data.std(axis=(1, 2)) < 2).all()


@pytest.mark.parametrize('n_planes', [1, 5])
def test_any_number_of_planes_by_themselves(n_planes, rng):
    cube = rng.normal(100, 5, (n_planes, 64, 64)).astype(np.float32)
    for plane, alone in zip(denoise(cube), cube, strict=True):
        assert_array_equal(plane, denoise(alone))


@pytest.mark.parametrize('n_planes', [1, 2, 4])
def test_planes_together_are_three(n_planes, rng):
    cube = rng.normal(100, 5, (n_planes, 64, 64))
    with pytest.raises(ValueError, match=f"channels='joint' needs three.*has {n_planes}.*data.:3."):
        denoise(cube, channels='joint')


def test_one_plane_is_no_colour_frame(rng):
    with pytest.raises(ValueError, match=r'three planes of one camera, the frame has 1'):
        denoise(rng.normal(100, 5, (64, 64)), channels='joint')


@pytest.mark.parametrize('channels', [None, 'separate', 'joint'])
@pytest.mark.parametrize(('n', 'advice'), [(3, r'\(data, -1, 0\)\.$'), (4, r'data\[\.\.\., :3\]')])
def test_colours_in_the_last_axis_are_refused(n, advice, channels):
    with pytest.raises(ValueError, match=f'last axis; expected.*moveaxis.*{advice}'):
        denoise(np.ones((32, 40, n)), channels=channels)


@pytest.mark.parametrize('channels', ['rgb', 'Joint', 3])
def test_unknown_channels(channels):
    with pytest.raises(ValueError, match="'separate', 'joint'"):
        denoise(np.ones((3, 64, 64)), channels=channels)
