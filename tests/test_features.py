# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The network's input knows nothing of units, levels and gradients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.estimate import measure_plane
from astrodenoise.features import N_CONDITION, N_FEATURES, NormalisedPlane, condition
from astrodenoise.noisemodel import LAGS, PlaneNoise, signal_level

SHAPE = (128, 160)


@pytest.fixture
def data(rng):
    return 100 + 5 * rng.normal(size=SHAPE)


def normalised(data, noise=None, valid=None):
    """Normalise a plane."""
    valid = np.ones(data.shape, bool) if valid is None else valid
    return NormalisedPlane(data, valid, noise or measure_plane(data, valid))


def test_shape_and_dtype(data):
    features = normalised(data).whole()
    assert features.shape == (N_FEATURES, *SHAPE)
    assert features.dtype == np.float32
    assert condition(measure_plane(data, np.ones(SHAPE, bool))).shape == (N_CONDITION,)
    assert len(LAGS) == N_CONDITION


def test_scale_and_plane_do_not_show(data):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    plain = normalised(data).whole()
    lifted = normalised(1e-7 * (data + 1000 * 5 + 2 * y - 3 * x)).whole()
    assert np.sqrt(np.mean((lifted - plain)[:2] ** 2)) < 0.02


def test_noise_has_unit_rms_in_the_local_contrast(data):
    contrast = normalised(data).whole()[1] / 0.25
    assert abs(contrast.std() - 1) < 0.03
    assert abs(contrast.mean()) < 0.02


def test_tiles_are_cut_from_the_whole(data):
    plane = normalised(data)
    rows, cols = np.array([3, 2, 1, 0, 1, 2]), np.arange(150, 160)
    assert_array_equal(plane.cut(rows, cols), plane.whole()[:, rows][:, :, cols])


def test_invalid_pixels_look_like_their_surroundings(data):
    valid = np.ones(SHAPE, bool)
    valid[60:64, 60:64] = False
    spoilt = np.where(valid, data, np.nan)
    features = normalised(spoilt, valid=valid).whole()
    assert np.isfinite(features).all()
    assert_array_equal(features[5], valid)
    assert_allclose(features[1][~valid], 0)


def test_sigma_of_bright_stars_follows_the_law():
    y, x = np.mgrid[:64, :64]
    scene = 500 * np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / 2 / 1.3**2)
    data = scene + np.random.default_rng(1).normal(size=scene.shape)
    noise = PlaneNoise(data.shape, 0.0, 1.0, slope=0.2)
    sigma = normalised(data, noise).sigma
    assert_allclose(sigma[32, 32], np.sqrt(1 + 0.2 * 500), rtol=0.1)
    assert_allclose(sigma[5, 5], 1, rtol=0.15)


def test_sigma_does_not_carry_a_pixel_s_own_noise():
    noise = np.random.default_rng(2).normal(size=(256, 256))
    level = signal_level(noise, np.zeros_like(noise), 1.0)
    # taken from the pixel itself this would be 1
    assert np.corrcoef(level.ravel(), noise.ravel())[0, 1] < 0.7
    assert level.std() < 0.1
