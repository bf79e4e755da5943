# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The measured noise is that of the frame, whatever the frame shows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from astrodenoise.estimate import measure_plane
from astrodenoise.features import NormalisedPlane
from astrodenoise.noisemap import fit_law
from astrodenoise.training.scenes import draw_scene
from astrodenoise.training.stars import PointSpread, add_stars

SHAPE = (512, 512)


def measure(data, *, valid=None, integer=False):
    """Measure a plane."""
    return measure_plane(data, np.ones(data.shape, bool) if valid is None else valid,
                         integer=integer)


def share_within(data, true, *, tolerance=0.1, valid=None):
    """Share of the pixels whose sigma is known to within a tolerance."""
    valid = np.ones(data.shape, bool) if valid is None else valid
    sigma = NormalisedPlane(data, valid, measure_plane(data, valid)).sigma
    return np.mean((np.abs(np.broadcast_to(sigma / true, data.shape) - 1) < tolerance)[valid])


@pytest.mark.parametrize('kind', ['stars', 'cluster', 'galaxy', 'nebula', 'faint', 'blank'])
@pytest.mark.parametrize('seed', [101, 102])
def test_sigma_of_the_sky_is_within_5_percent(kind, seed):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, SHAPE, kind)
    noise = measure((50 + 3 * (scene + rng.normal(size=SHAPE))).astype(np.float32))
    assert abs(noise.sigma / 3 - 1) < 0.05


def test_nebula_that_fills_half_the_frame_with_photon_noise(rng):
    scene = 20 * np.exp(-0.5 * ((np.mgrid[:512, :512][0] - 100) / 120) ** 2)
    true = np.sqrt(1 + 0.3 * scene)
    data = (scene + true * rng.normal(size=SHAPE)).astype(np.float32)
    noise = measure(data)
    assert abs(noise.sigma / np.sqrt(1 + 0.3 * noise.sky) - 1) < 0.05
    assert share_within(data, true) > 0.95


def test_noise_that_falls_with_the_signal_is_followed(rng):
    scene = np.mgrid[:512, :512][1] / 511 * 30
    true = 1 / np.sqrt(1 + (scene / 10) ** 2)
    data = (scene + true * rng.normal(size=SHAPE)).astype(np.float32)
    assert share_within(data, true) > 0.9


def test_vignette(rng):
    y, x = np.mgrid[:512, :512]
    light = 0.4 + 0.6 * np.exp(-((y - 256) ** 2 + (x - 256) ** 2) / 2 / 180**2)
    data = (10 / light * rng.normal(size=SHAPE)).astype(np.float32)
    assert share_within(data, 10 / light) > 0.95


def test_mosaic_of_two_depths_with_a_hard_edge(rng):
    true = np.where(np.mgrid[:512, :512][1] < 250, 1.0, 2.0)
    data = (true * rng.normal(size=SHAPE)).astype(np.float32)
    assert share_within(data, true) > 0.95


def test_dithered_border(rng):
    true = np.ones((1024, 1024))
    for number, width in enumerate((24, 18, 12, 6)):
        true[:width] = np.sqrt(8 / (7 - number))
    data = (true * rng.normal(size=true.shape)).astype(np.float32)
    assert share_within(data, true) > 0.95


def test_a_tenth_of_the_frame_without_data(rng):
    data = (100 + 5 * rng.normal(size=SHAPE)).astype(np.float32)
    data[:52] = 0
    valid = data != 0
    noise = measure(data, valid=valid)
    assert abs(noise.sigma / 5 - 1) < 0.03
    assert share_within(data, 5.0, valid=valid) > 0.95


@pytest.mark.parametrize('sigma', [0.5, 0.8, 1.2, 2, 16])
@pytest.mark.parametrize('step', [1, 4, 16])
def test_integers_from_half_a_step_up(rng, sigma, step):
    data = step * np.round(1000 + sigma * rng.normal(size=SHAPE)).astype(np.float32)
    noise = measure(data, integer=True)
    # rounding is a part of the noise
    assert abs(noise.sigma / (step * np.hypot(sigma, 12**-0.5)) - 1) < 0.05
    assert noise.step == step


@pytest.mark.parametrize('width', [0.5, 0.8, 1.0])
def test_correlated_noise_keeps_the_rms_of_a_pixel(rng, width):
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), width, mode='wrap')
    noise /= noise.std()
    measured = measure((7 * noise).astype(np.float32))
    assert abs(measured.sigma / 7 - 1) < 0.1
    expected = [np.mean(noise * np.roll(noise, lag, (0, 1))) for lag in
                ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))]
    assert_allclose(measured.correlation, expected, atol=0.04)


@pytest.mark.parametrize('seed', [101, 103, 105])
def test_unseen_stars_are_no_noise(seed):
    rng = np.random.default_rng(seed)
    psf = PointSpread(rng)
    psf._set_fwhm(2.8)
    image = np.zeros(SHAPE)
    y, x = rng.uniform(-10, 522, (2, 30_000))
    add_stars(image, psf, y, x, np.minimum(1 / rng.random(30_000), 3000) / psf.matched)
    crowded = measure((5 * (image + rng.normal(size=SHAPE))).astype(np.float32))
    assert abs(crowded.sigma / 5 - 1) < 0.1
    assert_allclose(crowded.correlation, 0, atol=0.08)


def test_white_noise_is_uncorrelated(rng):
    measured = measure(rng.normal(size=SHAPE).astype(np.float32))
    assert_allclose(measured.correlation, 0, atol=0.02)
    assert measured.even


def test_row_banding_shows_in_the_profile(rng):
    bands = 0.3 * rng.normal(size=(512, 1))
    noise = measure((bands + rng.normal(size=SHAPE)).astype(np.float32))
    profile = np.array(noise.rows)
    assert np.corrcoef(profile, bands[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize('scale', [2.0**-100, 2.0**-3, 2.0**40])
def test_scale_by_a_power_of_two_is_exact(rng, scale):
    data = rng.normal(size=(128, 128))
    plain, scaled = measure(data), measure(data * scale)
    assert scaled.sigma == plain.sigma * scale
    assert scaled.correlation == plain.correlation


def test_levels_and_gradients_do_not_matter(rng):
    data = rng.normal(size=SHAPE)
    y, x = np.mgrid[:512, :512]
    plain, lifted = measure(data), measure(data + 1000 + y - 0.5 * x)
    assert abs(lifted.sigma / plain.sigma - 1) < 0.01


def test_sky_level_of_a_star_field(rng):
    scene = draw_scene(np.random.default_rng(5), SHAPE, 'stars')
    noise = measure((100 + 4 * (scene + rng.normal(size=SHAPE))).astype(np.float32))
    assert abs(noise.sky - 100) < 0.1 * 4


def test_a_ramp_alone_has_no_noise():
    """Its level is the ramp but for rounding, which is divided by nothing."""
    ramps = np.ones((64, 64)) * np.arange(64), np.add.outer(np.arange(90.0), 0.3 * np.arange(70))
    for ramp in ramps:
        assert measure_plane(ramp, np.ones(ramp.shape, bool)).sigma < 1e-6


def test_frames_that_show_no_noise_have_sigma_zero():
    assert measure(np.full(SHAPE, 3.0, np.float32)).sigma == 0


@pytest.mark.parametrize('shape', [(31, 33), (2000, 7)])
def test_too_few_pixels_say_what_to_do(rng, shape):
    with pytest.raises(ValueError, match='pass noise='):
        measure(rng.normal(size=shape))


@pytest.mark.parametrize('reach', [3e-12, 1e-9, 40.0])
def test_law_far_from_zero_is_fitted_without_a_warning(reach):
    levels = 1000 + np.linspace(0, reach, 60)
    variance = 1e-30 * (1 + np.linspace(0, 1, 60))
    found, law, slope = fit_law(levels, np.sqrt(variance))
    assert_allclose(np.interp(levels, found, law), variance, rtol=0.1)
    assert slope == pytest.approx(1e-30 / reach, rel=0.1)
