# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Pairs of noisy and clean frames: what is accepted, what is refused and why."""

import logging
import re

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.training import pairs as module
from astrodenoise.training import photometry, registration
from astrodenoise.training.pairs import PairError, check_pair, load_pairs
from helpers import examples

SIDE = 160
SKY, SIGMA = 500.0, 10.0
LOGGER = 'astrodenoise.training'


def sky_with_stars(seed=0, *, side=SIDE, n=60, shift=(0, 0), width=1.5, flux=(300, 30000)):
    """Draw a noiseless field of stars and a nebula; fluxes in the unit of a noise of SIGMA."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(float)
    image = np.full((side, side), SKY)
    image += 60 * np.exp(-((y - side / 2) ** 2 + (x - side / 3) ** 2) / 2 / 20**2)
    places = rng.uniform(0, side, (n, 2))
    fluxes = np.exp(rng.uniform(*np.log(flux), n))
    for place, light in zip(places, fluxes, strict=True):
        at_y, at_x = place + shift
        star = np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 2 / width**2)
        image += light / (2 * np.pi * width**2) * star
    return image


CLEAN = sky_with_stars()


def noisy_of(clean, seed=1, sigma=SIGMA):
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


def clean_frame(seed=2, sigma=2.0, **keywords):
    """Give a stack: the same sky, little noise."""
    return noisy_of(sky_with_stars(**keywords) if keywords else CLEAN, seed, sigma)


NOISY, STACK = noisy_of(CLEAN), clean_frame()


def write_fits(path, data):
    fits.writeto(path, np.asarray(data, np.float32))


@pytest.fixture
def folder(tmp_path):
    """Give a folder with one good pair, m31."""
    for side, data in (('noisy', NOISY), ('clean', STACK)):
        (tmp_path / side).mkdir()
        write_fits(tmp_path / side / 'm31.fits', data)
    return tmp_path


def reason(folder, name='bad', **keywords):
    """Load the folder, give the reason why a pair is left out; the good one must be there."""
    found, bad = load_pairs(folder, **keywords)
    assert [pair.name for pair in found] == ['m31']
    return bad[name]


def add(folder, noisy, clean, name='bad'):
    write_fits(folder / 'noisy' / f'{name}.fits', noisy)
    write_fits(folder / 'clean' / f'{name}.fits', clean)


# --- a good pair ---------------------------------------------------------------------------------


def test_pair_is_in_units_of_its_noise_over_a_sky_of_zero(folder):
    (pair,), bad = load_pairs(folder)
    assert bad == {}
    assert pair.name == 'm31'
    for array, kind in ((pair.noisy, np.float32), (pair.clean, np.float32), (pair.valid, bool)):
        assert array.shape == (1, SIDE, SIDE)
        assert array.dtype == kind
    assert pair.valid.mean() > 0.99
    assert pair.cleanness == pytest.approx(0.2, abs=0.03)
    difference = pair.noisy - pair.clean
    assert difference.std() == pytest.approx(np.hypot(1, 0.2), rel=0.06)
    assert abs(difference.mean()) < 0.02
    assert abs(np.median(pair.noisy)) < 1


def test_sky_and_gradient_of_the_clean_frame_are_corrected():
    gradient = np.linspace(-30, 30, SIDE)
    pair = check_pair(NOISY, STACK - 137 + gradient)
    difference = (pair.noisy - pair.clean)[0]
    # means of a third of the frame, noise 1 / sqrt(8500) each
    for part in np.array_split(difference, 3, axis=1):
        assert abs(part.mean()) < 0.06


@pytest.mark.parametrize('scale', [0.985, 1.015])
def test_scale_within_the_tolerance_is_corrected(scale):
    pair = check_pair(NOISY, STACK / scale)
    expected = check_pair(NOISY, CLEAN + 1e-3 * (STACK - CLEAN))
    bright = expected.clean[0] > 20
    ratio = np.median(pair.clean[0][bright] / expected.clean[0][bright])
    assert ratio == pytest.approx(1, abs=0.01)


@given(factor=st.floats(1e-6, 1e6), offset=st.floats(-1e4, 1e4))
@examples(8)
def test_unit_and_zero_level_of_the_frames_do_not_matter(factor, offset):
    expected = check_pair(NOISY, STACK)
    pair = check_pair(factor * (NOISY + offset), factor * (STACK + offset))
    assert_allclose(pair.noisy, expected.noisy, atol=1e-3, rtol=1e-3)
    assert_allclose(pair.clean, expected.clean, atol=1e-3, rtol=1e-3)
    assert_array_equal(pair.valid, expected.valid)


def test_invalid_pixels_do_not_matter():
    noisy, clean = NOISY.copy(), STACK.copy()
    noisy[40:50, 60:90] = np.nan
    clean[:, 100:103] = np.inf
    clean[-20:] = 0  # the border of a stack
    mask = np.zeros(noisy.shape, bool)
    mask[5:9] = True
    noisy[mask] = 1e7
    pair = check_pair(noisy, clean, ~mask)
    expected = check_pair(NOISY, STACK)
    for area in (np.s_[0, 40:50, 60:90], np.s_[0, :, 100:103], np.s_[0, -20:], np.s_[0, 5:9]):
        assert not pair.valid[area].any()
    assert pair.valid.mean() > 0.75
    assert np.isfinite(pair.noisy).all()
    assert np.isfinite(pair.clean).all()
    ratio = pair.clean[pair.valid] - expected.clean[pair.valid]
    assert abs(np.median(ratio)) < 0.05


def test_saturated_pixels_are_left_out():
    noisy, clean = (np.minimum(a, 2000) for a in (NOISY, STACK))
    pair = check_pair(noisy, clean)
    assert not pair.valid[0][(noisy == 2000) | (clean == 2000)].any()
    assert np.count_nonzero(~pair.valid) > 10


def test_clean_frame_without_any_noise_keeps_its_flat_sky():
    clean = np.where(CLEAN > SKY + 3, CLEAN, SKY)  # most of the sky is one value
    pair = check_pair(noisy_of(clean), clean)
    assert pair.valid.mean() > 0.99
    assert pair.cleanness < 0.05


# --- kinds of files ------------------------------------------------------------------------------


def write_picture(path, data):
    """Write a picture: float TIFF, 16-bit PNG, 8-bit JPEG."""
    if path.suffix == '.tif':
        pytest.importorskip('tifffile').imwrite(path, data.astype(np.float32))
        return
    image = pytest.importorskip('PIL.Image')
    if path.suffix == '.png':
        image.fromarray(np.rint(data).clip(0, 65535).astype(np.uint16)).save(path)
    else:
        image.fromarray(np.rint(data).clip(0, 255).astype(np.uint8)).save(path, quality=97)


@pytest.mark.parametrize('names', [('a.fits', 'a.tif'), ('a.png', 'a.png'), ('a.fits.gz', 'a.fit')])
def test_kinds_of_files_go_together(tmp_path, names):
    for side, name, data in zip(('noisy', 'clean'), names, (NOISY, STACK), strict=True):
        (tmp_path / side).mkdir()
        write = write_fits if '.fit' in name else write_picture
        write(tmp_path / side / name, data)
    (pair,), bad = load_pairs(tmp_path)
    assert (pair.name, bad) == ('a', {})
    assert pair.cleanness == pytest.approx(0.2, abs=0.06)


def test_colour_jpeg(tmp_path):
    image = pytest.importorskip('PIL.Image')
    scene = (CLEAN - SKY) / 12 + 60
    for side, sigma, seed in (('noisy', 6, 1), ('clean', 0.5, 2)):
        (tmp_path / side).mkdir()
        planes = [noisy_of(scene * tint, seed + n, sigma) for n, tint in enumerate((1, 0.8, 0.6))]
        pixels = np.rint(np.stack(planes, axis=-1)).clip(0, 255).astype(np.uint8)
        path = tmp_path / side / 'a.jpg'
        image.fromarray(pixels).save(path, quality=98, subsampling=0)
    (pair,), _ = load_pairs(tmp_path)
    assert pair.noisy.shape == (3, SIDE, SIDE)
    assert pair.cleanness < 0.4
    assert (pair.noisy - pair.clean)[pair.valid].std() == pytest.approx(1, abs=0.15)


# --- folders -------------------------------------------------------------------------------------


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no folder .*nothing'):
        load_pairs(tmp_path / 'nothing')
    with pytest.raises(FileNotFoundError, match="holds no folder 'noisy'"):
        load_pairs(tmp_path)
    (tmp_path / 'noisy').mkdir()
    with pytest.raises(FileNotFoundError, match=r'noisy.* holds no frame'):
        load_pairs(tmp_path)
    write_fits(tmp_path / 'noisy' / 'a.fits', NOISY)
    with pytest.raises(FileNotFoundError, match="holds no folder 'clean'"):
        load_pairs(tmp_path)


def test_no_name_in_common_names_both_folders(tmp_path):
    for side, name in (('noisy', 'a'), ('clean', 'b')):
        (tmp_path / side).mkdir()
        write_fits(tmp_path / side / f'{name}.fits', NOISY)
    with pytest.raises(ValueError, match=r'noisy.* \(a\) .*clean.* \(b\): give .* the same name'):
        load_pairs(tmp_path)


def test_names_without_partner_are_told_and_logged(folder, caplog):
    write_fits(folder / 'noisy' / 'lonely.fits', NOISY)
    write_fits(folder / 'clean' / 'other.fits', STACK)
    (folder / 'noisy' / 'notes.txt').write_text('no frame')
    with caplog.at_level(logging.WARNING, LOGGER):
        found, bad = load_pairs(folder)
    assert len(found) == 1
    assert set(bad) == {'lonely', 'other'}
    assert 'noisy/lonely.fits has no partner' in bad['lonely']
    assert "'other' is expected in noisy/" in bad['other']
    assert 'pair lonely is left out' in caplog.text


def test_two_files_of_one_name(folder):
    add(folder, NOISY, STACK)
    write_picture(folder / 'clean' / 'bad.png', STACK)
    assert 'several files of this name (bad.fits, bad.png)' in reason(folder)


def test_damaged_files_are_named(folder):
    add(folder, NOISY, STACK)
    path = folder / 'clean' / 'bad.fits'
    path.write_bytes(path.read_bytes()[:20000])
    assert 'bad.fits' in reason(folder)
    path.write_bytes(b'what is this?')
    assert 'no FITS, XISF, PNG or TIFF' in reason(folder)


def test_when_all_are_bad_each_reason_is_told(tmp_path):
    for side in ('noisy', 'clean'):
        (tmp_path / side).mkdir()
    add(tmp_path, NOISY, NOISY, 'm31')
    add(tmp_path, NOISY, np.ones((SIDE, SIDE)), 'm33')
    with pytest.raises(ValueError, match='none of the 2 pairs') as caught:
        load_pairs(tmp_path)
    assert 'm31: the noisy and the clean frame are identical' in str(caught.value)
    assert 'm33: the clean frame has the one value 1' in str(caught.value)


# --- frames that are no pair ---------------------------------------------------------------------

CLOSE = r'[+-]0\.0\d'  # px
BAD = {
    'shape': (NOISY, STACK[:, :-3], '160 x 160 px, the clean one 157 x 160 px'),
    'planes': (np.stack([NOISY] * 3), STACK, '3 planes, the clean one 1'),
    'two planes': (np.stack([NOISY] * 2), np.stack([STACK] * 2), '2 planes; expected 1, or 3'),
    'NaN': (NOISY, np.full_like(STACK, np.nan), 'masked, NaN or infinite'),
    'constant': (NOISY, np.full_like(STACK, 7), 'clean frame has the one value 7'),
    'few': (np.where(np.arange(SIDE) < 12, NOISY, np.nan), STACK, 'at least 2560 are needed'),
    'small': (NOISY[:20], STACK[:20], '32 px on a side'),
    'identical': (NOISY, NOISY, 'are identical'),
    'noiseless': (CLEAN, STACK, 'noisy frame shows no noise|of the noise of the noisy one'),
    'scale': (NOISY, STACK / 1.1, r'the noisy frame is 1\.(09|10)\d* times the clean one'),
    'unit': (NOISY, STACK / 65535, r'the noisy frame is 6\.5\d*e\+04 times'),
    'stretched': (NOISY, 1000 * np.arcsinh((STACK - SKY) / 30), 'stretched'),
    'gamma': (NOISY, 45 * np.maximum(STACK, 0) ** 0.5, 'one of the frames was stretched'),
    'pixel': (NOISY, np.roll(STACK, 1, axis=1), rf'\(\+(0\.9\d|1\.0\d), {CLOSE}\) px in x and y'),
    'half': (NOISY, clean_frame(shift=(0.6, 0)), rf'\({CLOSE}, \+0\.(5|6)\d\) px in x and y'),
    'far': (NOISY, np.roll(STACK, (20, -31), axis=(0, 1)), r'\(-3[01]\.\d\d, \+(19|20)\.\d\d\) px'),
    'flipped': (NOISY, STACK[::-1], 'unless they show another sky'),
    'as noisy': (NOISY, noisy_of(CLEAN, 7), 'set noise2noise = true'),
    'same noise': (NOISY, 0.4 * STACK + 0.6 * NOISY, 'holds the same noise'),
    'blurred': (noisy_of(sky_with_stars(width=4.5)), STACK, 'in the clean frame are sharper by'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_pairs_are_left_out_with_the_reason(folder, kind):
    noisy, clean, expected = BAD[kind]
    add(folder, noisy, clean)
    assert re.search(expected, reason(folder))


def test_check_pair_raises_the_reason_with_the_plane():
    noisy = np.stack([noisy_of(CLEAN, n) for n in range(3)])
    clean = np.stack([clean_frame(10 + n) for n in range(3)])
    assert check_pair(noisy, clean).noisy.shape == (3, SIDE, SIDE)
    clean[1] = np.roll(clean[1], 2, axis=0)
    with pytest.raises(PairError, match='plane 1: the clean frame lies'):
        check_pair(noisy, clean)


def test_exposures_with_noise_of_their_own_are_pairs_when_asked_for(folder):
    add(folder, NOISY, noisy_of(CLEAN, 7))
    found, bad = load_pairs(folder, noise2noise=True)
    assert [pair.name for pair in found] == ['bad', 'm31']
    assert bad == {}
    assert found[0].cleanness == pytest.approx(1, abs=0.1)
    with pytest.raises(PairError, match='holds the same noise'):
        check_pair(NOISY, 1.001 * NOISY, noise2noise=True)


# --- registration and photometry -----------------------------------------------------------------


def measured_shift(noisy, clean, valid=None):
    good = np.ones(noisy.shape, bool) if valid is None else valid
    return registration.measure_shift(noisy, clean, good)


@pytest.mark.parametrize('shift', [(0, 0), (0.2, -0.1), (0.5, 0.5), (-0.7, 0.3), (3.3, -5.4)])
@pytest.mark.parametrize('seed', [3, 4])
def test_shifts_are_measured_below_a_tenth_of_a_pixel(shift, seed):
    noisy = noisy_of(sky_with_stars(seed), seed)
    clean = noisy_of(sky_with_stars(seed, shift=shift), seed + 50, 2.0)
    found, error = measured_shift(noisy, clean)
    assert_allclose(found, shift, atol=0.1)
    assert error < 0.15


def test_holes_do_not_pull_the_shift_to_zero(rng):
    clean = clean_frame(shift=(0.0, 2.0))
    valid = rng.random(clean.shape) > 0.1
    valid[60:90, 20:80] = False
    found, _ = measured_shift(NOISY, clean, valid)
    assert_allclose(found, (0, 2), atol=0.15)


def test_fixed_pattern_that_moved_is_no_shift(rng):
    # what a stack of shifted exposures holds of a pattern that stayed in place
    pattern = rng.normal(0, 25, CLEAN.shape)
    clean = sky_with_stars(n=20, width=3, flux=(2000, 3000))
    noisy = noisy_of(clean) + pattern
    stack = noisy_of(clean, 2, 2.0) + np.roll(pattern, 12, axis=1)
    assert_allclose(measured_shift(noisy, stack)[0], (0, 12), atol=0.3)
    assert registration.check_registration(noisy, stack, np.ones(clean.shape, bool))


def test_shift_within_the_limit_given_passes():
    clean = clean_frame(shift=(0.6, 0))
    assert check_pair(NOISY, clean, max_shift=0.7).valid.any()


def test_featureless_sky_is_taken_as_it_is_and_that_is_logged(caplog):
    sky = np.full((SIDE, SIDE), SKY)
    with caplog.at_level(logging.INFO, LOGGER):
        pair = check_pair(noisy_of(sky, 3), noisy_of(sky, 4, 2.0), name='blank')
    assert 'blank: too little signal to measure the shift' in caplog.text
    assert 'blank: too little signal to measure the zero point' in caplog.text
    assert (pair.noisy - pair.clean).std() == pytest.approx(1.02, abs=0.03)


@pytest.mark.parametrize('scale', [0.8, 0.99, 1.0, 1.04])
@pytest.mark.parametrize('width', [1.2, 1.5, 2.2])
def test_scales_are_found_whatever_the_seeing(scale, width):
    clean = noisy_of(sky_with_stars(width=width), 8, 2.0)
    good = np.ones(clean.shape, bool)
    smoothed = photometry._smoothed(NOISY, clean / scale, good, SIGMA, 2.0 / scale)
    relation = photometry._relate(smoothed)
    assert relation.scale == pytest.approx(scale, rel=0.01)
    assert relation.broader == pytest.approx(1.5**2 - width**2, abs=0.5)
    assert abs(relation.bend) < 0.05


def test_noise_of_the_clean_frame_does_not_lower_the_scale():
    scales = []
    for seed in range(6):
        scene = sky_with_stars(seed, flux=(300, 2000))
        pair = noisy_of(scene, seed + 10), noisy_of(scene, seed + 20)
        good = np.ones(scene.shape, bool)
        scales.append(photometry._relate(photometry._smoothed(*pair, good, SIGMA, SIGMA)).scale)
    assert np.mean(scales) == pytest.approx(1, abs=0.02)


@given(seed=st.integers(0, 10**6), width=st.floats(1.2, 2.2), n=st.integers(0, 120))
@examples(10)
def test_good_pairs_pass(seed, width, n):
    noisy = noisy_of(sky_with_stars(seed, n=n), seed + 1)
    clean = noisy_of(sky_with_stars(seed, n=n, width=width, shift=(0.1, -0.1)), seed + 2, 3.0)
    assert check_pair(noisy, clean).cleanness < 0.5


# --- real frames ---------------------------------------------------------------------------------


def real_frame(shared_data, name):
    data, _ = module.read_planes(shared_data / 'train' / 'real_sao_bulge' / f'{name}.fits.fz')
    return np.asarray(data[0], float)


def test_real_stack_is_matched(shared_data):
    single, stack = (
        real_frame(shared_data, f'aligned_{kind}') for kind in ('single_ref', 'stack_others')
    )
    # its exposures were brought to the same peaks, not fluxes, while their seeing varied:
    # 0.925 follows from the exposure times and the factors that were applied
    with pytest.raises(PairError, match=r'is 0\.92\d+ times the clean one'):
        check_pair(single, stack)
    pair = check_pair(single, 0.9235 * stack)
    assert pair.cleanness < 0.25
    with pytest.raises(PairError, match=r'lies \([+-][01]\.\d+, [+-]0\.\d+\) px'):
        check_pair(single, 0.9235 * np.roll(stack, 1, axis=1))


@pytest.mark.parametrize(
    ('one', 'other', 'move', 'ratio'),
    [('0103', '0104', (0, 0), 1), ('0108', '0109', (0, 0), 1), ('0100', '0101', (-4, 17), 1),
     ('0099', '0098', (0, 0), 200 / 300)],
)  # fmt: skip
def test_real_exposures_are_pairs(shared_data, one, other, move, ratio):
    noisy, clean = (real_frame(shared_data, f'AKB13475I{name}') for name in (one, other))
    clean = ratio * np.roll(clean, move, axis=(0, 1))
    noisy, clean = (a[24:-24, 24:-24] for a in (noisy, clean))
    pair = check_pair(noisy, clean, noise2noise=True, max_shift=0.5)
    assert pair.valid.mean() > 0.98
    with pytest.raises(PairError, match='lies'):
        check_pair(noisy, np.roll(clean, 1, axis=0), noise2noise=True)
