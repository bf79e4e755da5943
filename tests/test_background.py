# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The local level follows planes exactly and ignores stars."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from astrodenoise.background import fill_nearest, local_level


def whole(level, name):
    """Evaluate one of the levels at every pixel."""
    return getattr(level, name)(*(np.arange(n) for n in level.shape))


@pytest.mark.parametrize('name', ['fine_at', 'wide_at'])
@pytest.mark.parametrize('shape', [(128, 128), (97, 203)])
def test_added_plane_is_followed_up_to_the_border(rng, shape, name):
    noise = rng.normal(size=shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = 1000 + 1.0 * y - 0.7 * x
    valid = np.ones(shape, bool)
    before = whole(local_level(noise, valid), name)
    after = whole(local_level(noise + plane, valid), name)
    # the blocks that stick out beyond the frame are the only ones that do not follow exactly
    assert np.std(after - before - plane) < 0.1
    if shape == (128, 128):
        assert np.abs(after - before - plane).max() < 0.05


@given(scale=st.integers(-60, 60))
def test_scale_by_a_power_of_two_gives_the_same_bits(scale):
    data = np.random.default_rng(3).normal(size=(64, 64))
    valid = np.ones(data.shape, bool)
    scaled = whole(local_level(data * 2.0**scale, valid), 'fine_at')
    assert_allclose(scaled, whole(local_level(data, valid), 'fine_at') * 2.0**scale, rtol=1e-9)


def test_a_bright_star_does_not_lift_the_level(rng):
    data = rng.normal(size=(256, 256))
    valid = np.ones(data.shape, bool)
    empty = whole(local_level(data, valid), 'fine_at')
    y, x = np.mgrid[:256, :256]
    star = data + 1e4 * np.exp(-((y - 128) ** 2 + (x - 128) ** 2) / 2 / 1.5**2)
    # three times the noise of a block's mean
    assert np.abs(whole(local_level(star, valid), 'fine_at') - empty).max() < 0.75


def test_invalid_pixels_do_not_count(rng):
    data = rng.normal(size=(128, 128))
    valid = np.ones(data.shape, bool)
    valid[40:60, 40:90] = False
    spoilt = np.where(valid, data, np.nan)
    a, b = (whole(local_level(d, valid), 'fine_at') for d in (data, spoilt))
    assert_allclose(a, b)
    assert np.isfinite(a).all()


@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (1, 300), (7, 64)])
def test_small_frames_have_a_level(shape):
    level = local_level(np.full(shape, 7.0), np.ones(shape, bool))
    assert_allclose(whole(level, 'fine_at'), 7)
    assert_allclose(whole(level, 'wide_at'), 7)


def test_indices_in_any_order(rng):
    level = local_level(rng.normal(size=(64, 80)), np.ones((64, 80), bool))
    rows, cols = np.array([5, 0, 63]), np.array([79, 3])
    assert_allclose(level.fine_at(rows, cols), whole(level, 'fine_at')[np.ix_(rows, cols)])


def test_fill_nearest_takes_the_nearest_good_value():
    values = np.array([[1.0, np.nan, np.nan, 4.0]])
    assert_allclose(fill_nearest(values, np.isfinite(values)), [[1, 1, 4, 4]])
