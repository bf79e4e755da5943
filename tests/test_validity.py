# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Pixels that carry no noise: what is found, and that ordinary noise never is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrodenoise.validity import CLIPPED, NO_DATA, NOISY, SATURATED, invalid_pixels

SHAPE = (300, 400)
LOW_NOISE = [0.3, 0.5, 0.8, 1, 1.2, 2, 16]  # sigma in steps of an integer frame


def find(plane, valid=None, **kwargs):
    plane = np.asarray(plane)
    return invalid_pixels(plane, np.isfinite(plane) if valid is None else valid, **kwargs)


def integers(rng, sigma, sky=1000.0, shape=SHAPE):
    return np.rint(rng.normal(sky, sigma, shape))


def add_stars(rng, plane, peaks, fwhm=4.0):
    y, x = np.indices(plane.shape)
    scene = plane.astype(float)
    for peak in peaks:
        cy, cx = rng.uniform(20, np.array(plane.shape) - 20)
        scene += peak * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) * 2.77 / fwhm**2)
    return scene


def assert_all_noisy(validity):
    assert validity.counts == {'no_data': 0, 'saturated': 0, 'clipped': 0}
    assert not validity.invalid.any()


# --- no false alarms -------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('sky', [0, 30000])
def test_gaussian_noise_is_noise(rng, dtype, sky):
    assert_all_noisy(find(rng.normal(sky, 5, SHAPE).astype(dtype)))


@pytest.mark.parametrize('sigma', LOW_NOISE)
@pytest.mark.parametrize('step', [1, 16])
@pytest.mark.parametrize('sky', [1000, 1000.5])
def test_integers_keep_their_sky(rng, sigma, step, sky):
    assert_all_noisy(find((step * integers(rng, sigma, sky)).astype(np.uint16)))


@pytest.mark.parametrize('sigma', LOW_NOISE)
def test_integers_on_a_gradient_keep_their_sky(rng, sigma):
    gradient = np.linspace(0, 7, SHAPE[0])[:, np.newaxis]
    assert_all_noisy(find(integers(rng, sigma, 100 + gradient)))


@pytest.mark.parametrize('sigma', [0.3, 2])
def test_integers_scaled_to_floats_keep_their_sky(rng, sigma):
    assert_all_noisy(find((integers(rng, sigma) / 65535).astype(np.float32)))


@pytest.mark.parametrize('mean', [0.003, 0.01, 0.05, 0.5, 1, 5])
def test_zeros_of_a_poisson_law_are_no_gaps(rng, mean):
    assert_all_noisy(find(rng.poisson(mean, SHAPE)))


def test_zeros_of_a_flat_fielded_poisson_law_are_no_gaps(rng):
    assert_all_noisy(find(rng.poisson(1.2, SHAPE) / rng.normal(1, 0.05, SHAPE)))


@pytest.mark.parametrize('means', [(0.1, 5), (0.01, 1), (0.3, 50)])
def test_a_step_in_a_poisson_law_makes_no_gap(rng, means):
    mean = np.repeat(means, SHAPE[1] // 2) * np.ones((SHAPE[0], 1))
    assert_all_noisy(find(rng.poisson(mean)))


@pytest.mark.parametrize('fwhm', [1.5, 3, 8])
@pytest.mark.parametrize('sigma', [0.5, 5])
def test_tops_of_stars_are_not_saturated(rng, fwhm, sigma):
    scene = add_stars(rng, np.full(SHAPE, 1000.0), 10 ** rng.uniform(2, 4.7, 40), fwhm)
    frame = np.rint(rng.normal(scene, np.sqrt(sigma**2 + (scene - 1000) / 4)))
    assert_all_noisy(find(frame.astype(np.uint16)))


@pytest.mark.parametrize('sigma', [0.5, 1, 4])
def test_a_smooth_top_of_8_bits_is_not_saturated(rng, sigma):
    scene = add_stars(rng, np.full(SHAPE, 20.0), [180], fwhm=120)
    assert_all_noisy(find(np.rint(rng.normal(scene, sigma)).astype(np.uint8)))


def test_a_smooth_top_without_noise_is_not_saturated(rng):
    scene = add_stars(rng, np.full(SHAPE, 20.0), [180], fwhm=60)
    noise = np.where(scene < 100, rng.normal(0, 2, SHAPE), 0)
    frame = np.rint(scene + noise).astype(np.uint8)
    assert np.count_nonzero(frame == frame.max()) > 5
    assert not find(frame).saturated.any()


def test_hot_pixels_are_not_saturated_stars(rng):
    frame = rng.normal(1000, 5, SHAPE)
    frame[10::40, 10::40] = 65535  # none beside another: what is not noise stays
    assert_all_noisy(find(frame))


def test_a_ceiling_within_the_noise_is_not_saturation(rng):
    assert_all_noisy(find(np.minimum(rng.normal(1000, 5, SHAPE), 1005)))


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (1, 200), (200, 1)])
def test_tiny_planes_are_noise(rng, shape):
    assert_all_noisy(find(rng.normal(0, 1, shape)))


@pytest.mark.parametrize('shape', [(1, 1), (5, 5), (100, 200)])
def test_a_constant_plane_stays_valid(shape):
    assert_all_noisy(find(np.full(shape, 7.0)))


def test_a_constant_plane_with_one_hot_pixel_stays_valid():
    plane = np.full(SHAPE, 7.0)
    plane[30, 40] = 100
    assert_all_noisy(find(plane))


# --- no data ---------------------------------------------------------------------------------


@pytest.mark.parametrize('sigma', [0.3, 0.5, 1, 2, 50])
def test_zero_borders_are_found_to_the_pixel(rng, sigma):
    plane = integers(rng, sigma)
    y, x = np.indices(SHAPE)
    gap = (x + 0.05 * y < 20) | (y >= SHAPE[0] - 12)  # a rotated and a straight edge
    plane[gap] = 0
    validity = find(plane)
    assert np.array_equal(validity.no_data, gap)
    assert np.array_equal(validity.invalid, gap)


@pytest.mark.parametrize('width', [1, 2, 3])
@pytest.mark.parametrize('edge', ['top', 'bottom', 'left', 'right'])
def test_thin_borders_are_found(rng, width, edge):
    plane = rng.normal(100, 3, SHAPE).astype(np.float32)
    gap = np.zeros(SHAPE, dtype=bool)
    at = slice(width) if edge in ('top', 'left') else slice(-width, None)
    gap[at if edge in ('top', 'bottom') else (slice(None), at)] = True
    plane[gap] = 0
    assert np.array_equal(find(plane).no_data, gap)


@pytest.mark.parametrize('sigma', [0.5, 1])
def test_a_border_with_the_value_of_the_sky_is_found(rng, sigma):
    plane = integers(rng, sigma)
    plane[:30] = 1000  # 68 or 38 % of the sky, too
    no_data = find(plane).no_data
    # chance makes its own edge ragged, but it must not grow into the sky
    assert no_data[:28].mean() > 0.9
    assert no_data[32:].mean() < 0.002


def test_a_border_is_found_among_commoner_values(rng):
    plane = integers(rng, 0.3, 100 + np.linspace(0, 12, SHAPE[0])[:, np.newaxis])
    plane[:, -5:] = 0
    assert np.array_equal(find(plane).no_data, plane == 0)


def test_patches_and_dead_columns_are_found(rng):
    plane = rng.normal(100, 3, SHAPE).astype(np.float32)
    gap = np.zeros(SHAPE, dtype=bool)
    gap[:, 200] = True
    gap[40:60, 50:70] = True
    plane[gap] = 95  # within the noise, so that no other rule sees it
    assert np.array_equal(find(plane).no_data, gap)


@pytest.mark.parametrize(('size', 'found'), [(8, False), (9, True)])
def test_a_run_inside_the_frame_must_exceed_64_pixels(rng, size, found):
    plane = rng.normal(100, 3, SHAPE)
    plane[50:50 + size, 60:60 + size] = 95
    assert find(plane).no_data.sum() == found * size**2


def test_two_values_of_no_data_and_masked_pixels(rng):
    plane = rng.normal(100, 3, SHAPE)
    plane[:10] = np.nan
    plane[10:20] = 0
    plane[-10:] = -32768
    plane[100, 100] = np.inf
    validity = find(plane)
    assert validity.no_data[10:20].all()
    assert validity.no_data[-10:].all()
    assert validity.counts['no_data'] == 20 * SHAPE[1]
    assert not validity.invalid[:10].any()


def test_masked_pixels_do_not_make_a_run(rng):
    plane = rng.normal(100, 3, SHAPE)
    plane[100:150, 100:150] = 0
    valid = np.ones(SHAPE, dtype=bool)
    valid[100:150, 100:150] = False
    assert_all_noisy(find(plane, valid))


def test_a_frame_that_is_mostly_no_data(rng):
    plane = np.zeros(SHAPE)
    plane[100:160, 120:200] = rng.normal(100, 3, (60, 80))
    assert np.array_equal(find(plane).no_data, plane == 0)


# --- saturated -------------------------------------------------------------------------------


@pytest.mark.parametrize(('level', 'step'), [(65535, 1), (65520, 16), (60000.5, 0)])
def test_saturated_stars_are_found(rng, level, step):
    scene = add_stars(rng, np.full(SHAPE, 1000.0), 10 ** rng.uniform(3, 5.5, 60))
    frame = rng.normal(scene, np.sqrt(100 + scene - 1000))
    frame = np.minimum(step * np.rint(frame / step) if step else frame, level)
    assert np.count_nonzero(frame == level) > 50
    validity = find(frame)
    assert np.array_equal(validity.saturated, frame == level)
    assert np.array_equal(validity.invalid, frame == level)


def test_a_large_plateau_below_the_maximum_is_saturated(rng):
    scene = add_stars(rng, np.full(SHAPE, 1000.0), [2e5, 2e5, 5e4], fwhm=12)
    frame = np.minimum(np.rint(rng.normal(scene, 10)), 13583)
    frame[np.unravel_index(frame.argmax(), SHAPE)] = 13639  # seen in raw frames of a DSLR
    assert np.array_equal(find(frame).saturated, frame == 13583)


def test_clipped_whites_of_8_bits_are_saturated(rng):
    scene = add_stars(rng, np.full(SHAPE, 30.0), 10 ** rng.uniform(1, 3.5, 40))
    frame = np.clip(np.rint(rng.normal(scene, 3)), 0, 255).astype(np.uint8)
    assert np.array_equal(find(frame).saturated, frame == 255)


def test_a_given_level_decides(rng):
    frame = add_stars(rng, rng.normal(1000, 10, SHAPE), 10 ** rng.uniform(3, 5, 30))
    frame[:10] = 65535  # no data, but above the level
    validity = find(frame, saturation=20000)
    assert np.array_equal(validity.saturated, frame >= 20000)
    assert_all_noisy(find(frame[10:], saturation=1e6))


# --- clipped at a floor ----------------------------------------------------------------------


@pytest.mark.parametrize('offset', [-0.3, 0, 0.5, 1, 1.5, 2.5])
def test_a_clipped_floor_of_floats_is_found(rng, offset):
    frame = np.maximum(rng.normal(offset * 5, 5, SHAPE), 0).astype(np.float32)
    assert np.array_equal(find(frame).clipped, frame == 0)


@pytest.mark.parametrize('sigma', [4, 16, 50])
def test_a_clipped_floor_of_integers_is_found(rng, sigma):
    frame = np.maximum(integers(rng, sigma, 1.5 * sigma), 0).astype(np.uint16)
    assert 0.06 < np.mean(frame == 0) < 0.09
    assert np.array_equal(find(frame).clipped, frame == 0)


def test_a_floor_with_steps_too_coarse_to_tell_stays(rng):
    assert_all_noisy(find(np.maximum(integers(rng, 1, 1.5), 0)))


def test_scattered_pixels_of_one_low_value_are_found(rng):
    for sigma, noise in ((3, rng.normal(100, 3, SHAPE)), (0.3, integers(rng, 0.3, 100))):
        bad = rng.random(SHAPE) < 0.002
        noise[bad] = 0
        assert np.array_equal(find(noise).clipped, bad), sigma


def test_all_reasons_in_one_frame(rng):
    frame = add_stars(rng, rng.normal(10, 10, SHAPE), 10 ** rng.uniform(3, 5, 30))
    frame = np.clip(frame, 0, 5000)
    frame[:, :15] = -100
    reason = find(frame).reason
    assert reason.dtype == np.uint8
    assert set(np.unique(reason)) == {NOISY, NO_DATA, SATURATED, CLIPPED}
    assert np.array_equal(reason == NO_DATA, frame == -100)
    assert np.array_equal(reason == SATURATED, frame == 5000)
    assert np.array_equal(reason == CLIPPED, frame == 0)


# --- properties ------------------------------------------------------------------------------


@given(
    scale=st.integers(-20, 20), shift=st.integers(-5, 5), turns=st.integers(0, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_units_and_orientation_do_not_matter(scale, shift, turns, seed):
    rng = np.random.default_rng(seed)
    frame = np.clip(add_stars(rng, integers(rng, 4, 6, (90, 100)), [1e4, 1e5]), 0, 3000)
    frame[:, :7] = -50
    frame = np.rint(frame)
    other = np.rot90(2.0**scale * (frame + 1000 * shift), turns)
    assert np.array_equal(find(other).reason, np.rot90(find(frame).reason, turns))


def test_the_plane_is_not_changed_and_may_be_read_only(rng):
    frame = np.maximum(rng.normal(5, 5, SHAPE), 0)
    before = frame.copy()
    frame.flags.writeable = False
    find(frame)
    assert np.array_equal(frame, before)


def test_an_all_masked_plane_has_no_reasons(rng):
    assert_all_noisy(find(rng.normal(0, 1, SHAPE), np.zeros(SHAPE, dtype=bool)))


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r'\(3, 4\) and valid \(4, 3\)'):
        invalid_pixels(np.zeros((3, 4)), np.ones((4, 3), dtype=bool))
    with pytest.raises(ValueError, match=r'expected \(H, W\)'):
        invalid_pixels(np.zeros((2, 3, 4)), np.ones((2, 3, 4), dtype=bool))
