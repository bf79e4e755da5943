# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Star masks: stars are covered, nebulae and galaxies are not."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from astrodenoise import star_mask
from astrodenoise.starmask import mask_stars
from astrodenoise.training.scenes import galaxy, nebula
from astrodenoise.training.stars import PointSpread, add_stars, field_stars
from helpers import examples

SHAPE = (256, 256)


def light(rng, kind, psf):
    """Light without stars, up to some tens of sigma bright."""
    if kind == 'nebula':
        return nebula(rng, SHAPE) * np.exp(rng.uniform(np.log(5), np.log(50)))
    if kind == 'galaxy':
        image = galaxy(rng, SHAPE) * np.exp(rng.uniform(np.log(3), np.log(30)))
        return ndimage.gaussian_filter(np.minimum(image, 3000), psf.fwhm / 2.355)
    return np.zeros(SHAPE)


def exposed(rng, image, noisy):
    """The image with photon noise, or without; and its sigma."""
    sigma = np.sqrt(1 + 0.03 * np.maximum(image, 0))
    return image + noisy * rng.normal(0, 1, SHAPE) * sigma, sigma


def share_covered(kind, seeds, noisy, transform=lambda image: image):
    """Covered share of stars above S/N 10, and masked share of the light without its stars."""
    covered, masked = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        psf = PointSpread(rng)
        base = light(rng, kind, psf)
        image = base.copy()
        y, x, flux = field_stars(rng, SHAPE, psf, 1000)
        add_stars(image, psf, y, x, flux)
        seen, sigma = exposed(rng, image, noisy)
        mask = transform(seen / sigma)
        row, col = (np.round(a).astype(int) for a in (y, x))
        inside = (row > 3) & (col > 3) & (row < SHAPE[0] - 4) & (col < SHAPE[1] - 4)
        row, col = (a.clip(0, SHAPE[0] - 1) for a in (row, col))
        apart = np.hypot(y[:, None] - y, x[:, None] - x) >= 2 * psf.fwhm
        apart = np.all(apart | (flux <= flux[:, None]), axis=1)
        chosen = inside & apart & (flux * psf.matched > 10 * sigma[row, col])
        covered.append(mask[row, col][chosen] > 0.5)
        if kind != 'sky':
            seen, sigma = exposed(rng, base, noisy)
            masked.append((transform(seen / sigma) > 0.5)[base > 1])
    return np.mean(np.concatenate(covered)), np.mean(np.concatenate(masked)) if masked else 0.0


# --- what is masked ------------------------------------------------------------------------------


@pytest.mark.parametrize('noisy', [False, True])
@pytest.mark.parametrize(('kind', 'least'), [('sky', 0.98), ('galaxy', 0.97), ('nebula', 0.93)])
def test_stars_are_covered_and_other_light_is_not(kind, least, noisy):
    covered, masked = share_covered(kind, range(12), noisy, lambda a: mask_stars(a, 1.0))
    assert covered > least
    assert masked < 0.03


@pytest.mark.parametrize('fwhm', [1.5, 3.0, 5.0])
def test_stars_of_any_width_are_covered(fwhm, rng):
    psf = PointSpread(rng)
    psf = psf.widened(fwhm / psf.fwhm)
    at = np.arange(24, 256, 48)
    y, x = (a.ravel() + rng.uniform(-0.5, 0.5, at.size**2) for a in np.meshgrid(at, at))
    flux = np.linspace(10, 200, y.size) / psf.matched
    image = rng.normal(0, 1, SHAPE)
    add_stars(image, psf, y, x, flux)
    mask = mask_stars(image, 1.0)
    covered = mask[np.round(y).astype(int), np.round(x).astype(int)] > 0.5
    assert covered.mean() > 0.95
    # the sky between them is free
    assert np.mean(mask > 0.5) < 0.25


def test_stretched_frames_are_masked_as_linear_ones(rng):
    soft = 20.0

    def stretched(image):
        # a stretch compresses noise and light alike: sigma is what the sky shows
        return mask_stars(np.arcsinh(image / soft), 1 / soft)

    covered, _ = share_covered('sky', range(6), True, stretched)
    assert covered > 0.95
    _, masked = share_covered('nebula', range(6), True, stretched)
    assert masked < 0.03


def test_mask_grows_with_the_star():
    image = np.zeros((128, 384))
    y, x = np.mgrid[:128, :384]
    for column, peak in ((64, 20), (192, 300), (320, 5000)):
        r2 = (y - 64) ** 2 + (x - column) ** 2
        image += peak * (1 + r2 / 4) ** -3.0
    mask = mask_stars(image, 1.0)
    faint, middle, bright = (np.sum(mask[:, c - 60 : c + 60] > 0.5) for c in (64, 192, 320))
    assert 5 < faint < middle < bright < 1000


def test_mask_is_soft(rng):
    image = rng.normal(0, 1, SHAPE)
    add_stars(image, PointSpread(rng), *rng.uniform(20, 236, (2, 30)), np.full(30, 5e3))
    mask = mask_stars(image, 1.0)
    assert mask.dtype == np.float32
    assert 0 <= mask.min() < 0.01
    assert mask.max() <= 1
    steps = [np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 0.45  # a Gaussian of 1 px falls by 0.4 per px
    hard = mask_stars(image, 1.0, blur=0)
    assert_array_equal(np.unique(hard), [0, 1])


def test_options_change_what_they_say(rng):
    image = rng.normal(0, 1, SHAPE)
    add_stars(image, PointSpread(rng), *rng.uniform(20, 236, (2, 60)), np.geomspace(30, 3e3, 60))
    sizes = [mask_stars(image, 1.0, n_sigma=n).sum() for n in (4, 8, 20)]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    sizes = [mask_stars(image, 1.0, dilate=d).sum() for d in (1, 1.5, 2)]
    assert sizes[0] < sizes[1] < sizes[2]


# --- what has no stars ---------------------------------------------------------------------------


def test_nothing_but_noise_gives_an_empty_mask():
    # one 5 sigma peak in some Mpx is chance; at the border no more of them than elsewhere
    frames = [np.random.default_rng(seed).normal(0, 1, SHAPE) for seed in range(16)]
    found = [mask_stars(frame, 1.0).max() > 0 for frame in frames]
    assert np.sum(found) <= 1


@pytest.mark.parametrize('noise', [None, 1.0])
@pytest.mark.parametrize('value', [0.0, 7.0])
def test_constant_frames_give_empty_masks(value, noise):
    mask = star_mask(np.full((64, 80), value), noise=noise)
    assert_array_equal(mask, np.zeros((64, 80), np.float32))


def test_planes_and_gradients_are_no_stars(rng):
    y, x = np.mgrid[:256, :256]
    image = rng.normal(0, 1, SHAPE) + 300 + 2.0 * x - 1.0 * y
    assert mask_stars(image, 1.0).max() == 0


def test_no_usable_pixel_gives_an_empty_mask():
    assert not mask_stars(np.ones((32, 32)), 1.0, valid=np.zeros((32, 32), bool)).any()


# --- properties ----------------------------------------------------------------------------------


@given(factor=st.sampled_from([1e-20, 1e-3, 7.0, 1e12]), offset=st.floats(-1e3, 1e3))
@examples(10)
def test_unit_and_level_do_not_matter(factor, offset):
    rng = np.random.default_rng(3)
    image = rng.normal(0, 1, (96, 96))
    add_stars(image, PointSpread(rng), *rng.uniform(10, 86, (2, 12)), np.geomspace(50, 2e3, 12))
    mask = mask_stars(image, 1.0)
    assert mask.max() > 0.9
    assert np.mean((mask_stars((image + offset) * factor, factor) > 0.5) != (mask > 0.5)) < 1e-3


def test_invalid_pixels_make_no_stars(rng):
    image = rng.normal(0, 1, SHAPE)
    valid = rng.random(SHAPE) > 0.02
    image[~valid] = np.nan
    assert mask_stars(image, 1.0, valid=valid).max() == 0


def test_gaps_make_no_stars_of_noise():
    # a repeated pixel of noise, filtered, is many sigma high
    for seed in range(10):
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 1, SHAPE)
        gaps = ndimage.binary_dilation(rng.random(SHAPE) < 0.01, iterations=2)
        image[gaps] = np.nan
        assert mask_stars(image, 1.0, valid=~gaps).max() == 0, seed


@pytest.mark.parametrize('dead', [1, 3])
def test_a_star_is_found_around_dead_pixels(dead, rng):
    image = rng.normal(0, 1, SHAPE)
    psf = PointSpread(rng)
    psf = psf.widened(4 / psf.fwhm)
    add_stars(image, psf, np.array([100.0]), np.array([120.0]), np.array([100.0]) / psf.matched)
    half = dead // 2
    image[100 - half : 101 + half, 120 - half : 121 + half] = np.nan
    mask = mask_stars(image, 1.0)
    assert mask[98:103, 118:123].max() > 0.5
    assert np.mean(mask > 0.5) < 0.01


def test_sigma_may_be_a_plane(rng):
    image = rng.normal(0, 1, SHAPE)
    y, x = rng.uniform(20, 236, (2, 20))
    add_stars(image, PointSpread(rng), y, x, np.geomspace(200, 3e3, 20))
    mask = mask_stars(image, 1.0)
    assert_array_equal(mask_stars(image, np.ones(SHAPE)), mask)
    uneven = np.linspace(1, 4, SHAPE[1]) * np.ones(SHAPE)
    # the sky's level is no structure, whatever its sigma is
    masks = [mask_stars(uneven * image + level, uneven) for level in (0, 500)]
    assert np.mean((masks[0] > 0.5) != (masks[1] > 0.5)) < 1e-3
    assert np.mean((masks[0] > 0.5) != (mask > 0.5)) < 0.01
    unknown = uneven.copy()
    unknown[:40] = 0
    unknown[60:70] = np.nan
    assert np.isfinite(mask_stars(uneven * image, unknown)).all()


@pytest.mark.parametrize(
    ('given', 'error', 'match'),
    [
        ({'sigma': 0.0}, ValueError, 'sigma must be positive'),
        ({'sigma': '1'}, TypeError, 'sigma must be a number'),
        ({'sigma': np.ones(3)}, ValueError, 'sigma has the shape'),
        ({'valid': np.ones((3, 3), bool)}, ValueError, 'valid has the shape'),
        ({'luminance': np.ones((3, 8, 8))}, ValueError, 'expected one plane'),
    ],
)
def test_mistakes_in_a_plane_are_named(given, error, match):
    with pytest.raises(error, match=match):
        mask_stars(**({'luminance': np.ones((8, 8)), 'sigma': 1.0} | given))


# --- frames --------------------------------------------------------------------------------------


@pytest.fixture
def frame(rng):
    image = rng.normal(0, 1, SHAPE)
    psf = PointSpread(rng)
    y, x = rng.uniform(20, 236, (2, 40))
    add_stars(image, psf, y, x, np.geomspace(30, 3e3, 40) / psf.matched)
    return 500 + 12 * image, y, x


def test_frames_of_all_kinds_give_the_same_mask(frame):
    data, y, x = frame
    mask = star_mask(data)
    assert mask.shape == SHAPE
    assert np.mean(mask[np.round(y).astype(int), np.round(x).astype(int)] > 0.5) > 0.95
    for other in (data * u.adu, CCDData(data, unit='adu'), CCDData(data[None], unit='adu')):
        assert_array_equal(star_mask(other), mask)


def test_colour_frames_are_masked_by_their_luminance(frame, rng):
    data, y, x = frame
    planes = np.stack([data * f + rng.normal(0, 6, SHAPE) for f in (0.8, 1.0, 1.3)])
    mask = star_mask(planes)
    assert mask.shape == SHAPE
    assert np.mean(mask[np.round(y).astype(int), np.round(x).astype(int)] > 0.5) > 0.95
    with pytest.raises(ValueError, match='one plane or of three'):
        star_mask(planes[:2])


def test_saturated_and_masked_pixels(frame):
    data, y, x = frame
    row, col = round(y[-1]), round(x[-1])
    level = float(data[row, col] * 0.3)
    mask = star_mask(np.minimum(data, level), saturation=level)
    assert mask[row, col] > 0.9
    ccd = CCDData(data, unit='adu', mask=np.zeros(SHAPE, bool))
    ccd.mask[100:110, 100:110] = True
    ccd.data[100:110, 100:110] = np.nan
    assert_allclose(star_mask(ccd)[103:107, 103:107], 0, atol=0.5)


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'n_sigma': 0}, ValueError, 'n_sigma must be positive'),
        ({'n_sigma': '5'}, TypeError, 'n_sigma must be a number'),
        ({'dilate': True}, TypeError, 'dilate must be a number'),
        ({'dilate': -1}, ValueError, 'dilate must be positive'),
        ({'blur': -1}, ValueError, 'blur must be zero or positive'),
        ({'blur': np.inf}, ValueError, 'and finite'),
        ({'saturation': 'full'}, TypeError, 'saturation must be a number'),
        ({'saturation': np.nan}, ValueError, 'saturation must be of any sign and finite'),
        ({'saturation': 3 * u.s}, u.UnitsError, 'saturation is in s'),
        ({'noise': -3}, ValueError, 'positive'),
    ],
)
def test_mistakes_are_named(frame, options, error, match):
    with pytest.raises(error, match=match):
        star_mask(frame[0], **options)
