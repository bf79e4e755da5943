# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The noise of a frame from what is given, checked against what the frame shows."""

import json

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from astrodenoise import FrameNoise, measure_noise
from astrodenoise.background import local_level
from astrodenoise.frames import open_frame
from astrodenoise.noise import frame_noise, leave_out_invalid
from astrodenoise.noisemodel import MAP_BLOCK, PlaneNoise

SHAPE = (160, 192)


def noise_of(data, noise):
    """Make the noise model of a bare array."""
    frame = open_frame(data)
    leave_out_invalid(frame)
    levels = [local_level(*plane) for plane in zip(frame.data, frame.valid, strict=True)]
    return frame_noise(frame, noise, levels).planes[0]


@pytest.fixture
def stars(rng):
    """Give stars with photon noise, their truth and the true sigma."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = np.full(SHAPE, 100.0)
    for row in range(20, 150, 40):
        for col in range(20, 180, 40):
            truth += 3000 * np.exp(-((y - row) ** 2 + (x - col) ** 2) / 2 / 1.5**2)
    sigma = np.sqrt(truth + 25)
    return truth + sigma * rng.normal(size=SHAPE), truth, sigma


def test_a_plane_of_sigma_keeps_the_cores_of_stars(stars):
    data, truth, sigma = stars
    made = noise_of(data, sigma).plane
    core = truth > 1500
    assert_allclose(np.median(made[core] / sigma[core]), 1, atol=0.1)
    assert_allclose(np.median(made / sigma), 1, atol=0.03)


def test_a_plane_that_carries_the_pixels_own_noise_is_smoothed(stars):
    data, _, sigma = stars
    own = np.sqrt(np.maximum(data, 1) + 25)  # as a deviation made from the noisy pixel
    made = noise_of(data, own).plane
    sky = sigma < 1.02 * np.sqrt(125)
    noise = (data - 100)[sky]
    assert np.corrcoef(own[sky], noise)[0, 1] > 0.95
    assert abs(np.corrcoef(made[sky], noise)[0, 1]) < 0.35
    assert abs(np.mean(noise / made[sky])) < 0.02


def test_zero_and_missing_sigma_take_those_around(stars):
    data, _, sigma = stars
    holes = sigma.copy()
    holes[::5, ::7] = 0
    holes[3] = np.nan
    holes[9] = -1
    assert_allclose(np.median(noise_of(data, holes).plane / sigma), 1, atol=0.03)


def test_a_map_is_interpolated_between_its_blocks():
    grid = [[1.0, 2.0], [1.0, 2.0]]
    noise = PlaneNoise((2 * MAP_BLOCK, 2 * MAP_BLOCK), 0.0, 3.0, grid=grid)
    sigma = noise.sigma_at(None)
    assert_allclose(sigma[:, 0], 3)
    assert_allclose(sigma[:, -1], 6)
    assert (np.diff(sigma[0]) >= 0).all()


def test_a_law_goes_on_above_its_last_level():
    noise = PlaneNoise((1, 3), 0.0, 2.0, levels=[0.0, 10.0], law=[1.0, 2.0], slope=0.1)
    assert_allclose(noise.sigma_at(np.array([[-5.0, 5.0, 30.0]])), 2 * np.sqrt([[1, 1.5, 4]]))


def test_json_holds_everything_but_planes_of_sigma(stars):
    data, _, sigma = stars
    noise = measure_noise(CCDData(data, unit='adu'))
    again = FrameNoise.from_json(noise.to_json())
    assert again == noise
    assert again.unit == 'adu'
    assert json.loads(noise.to_json())['planes'][0]['source'] == 'measured'
    held = FrameNoise((noise_of(data, sigma),))
    with pytest.raises(ValueError, match='as an image'):
        held.to_json()


def test_a_measured_noise_must_fit(stars):
    data, _, sigma = stars
    noise = measure_noise(data)
    with pytest.raises(ValueError, match='planes'):
        noise_of(np.stack([data, data]), noise)
    with pytest.raises(ValueError, match='not'):
        noise_of(data[:50], FrameNoise((noise_of(data, sigma),)))
    assert noise_of(data[:50], noise).sigma == noise.planes[0].sigma


def test_small_frames_take_what_is_given():
    noise = noise_of(np.random.default_rng(0).normal(size=(5, 9)), np.full((5, 9), 2.0))
    assert_allclose(noise.plane, 2, rtol=1e-6)
    assert noise_of(np.zeros((5, 9)), 2.0).sigma == 2


def test_what_a_frame_does_not_show_is_not_removed(rng):
    y, x = np.mgrid[:128, :128]
    noiseless = 500 * np.exp(-((y - 64) ** 2 + (x - 60) ** 2) / 300.0)
    noisy = noiseless + rng.normal(size=noiseless.shape)
    flat = noiseless + 0.01 * rng.normal(size=noiseless.shape)
    shown = [noise_of(frame, 1.0).shown for frame in (noisy, flat, noiseless)]
    assert shown[0] == 1
    assert 0 < shown[1] < 0.7
    assert shown[2] < 0.1
