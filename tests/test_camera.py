# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a reduction and late processing do to noise and signal."""

import io

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from astrodenoise.training.camera import KERNELS, resampling, stacked_noise, walking_noise
from astrodenoise.training.processing import jpeg, midtones, sharpen

SHAPE = (192, 160)


def rows_correlation(noise, lag):
    """Autocorrelation along the columns."""
    return float(np.mean(noise[:, lag:] * noise[:, : noise.shape[1] - lag]) / np.mean(noise**2))


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('scale', [1.0, 0.7])
def test_resampling_keeps_a_level_and_its_place(kernel, scale):
    matrix = resampling(40, 60, scale=scale, shift=5.3, kernel=kernel, drop=1.0)
    inner = matrix.sum(axis=1)
    assert_allclose(inner, inner[0], rtol=0.02)
    at = matrix @ np.arange(60) / inner
    assert_allclose(
        at,
        np.arange(40) * scale + 5.3,
        atol=0.06 if kernel == 'lanczos' else 0.02 + (0.25 if kernel == 'drizzle' else 0),
    )


def test_a_shift_by_half_a_pixel_halves_the_variance_along_it():
    white = np.random.default_rng(0).normal(size=(400, 300)).astype(np.float32)
    shifted = white @ resampling(290, 300, shift=4.5).T
    assert np.var(shifted) == pytest.approx(0.5, rel=0.02)
    assert rows_correlation(shifted, 1) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('seed', range(6))
def test_stacks_have_unit_noise_and_are_functions_of_their_seeds(seed):
    draws = [
        stacked_noise(np.random.default_rng(seed), torch.Generator().manual_seed(seed), SHAPE)
        for _ in range(2)
    ]
    assert torch.equal(*draws)
    noise = draws[0].numpy()
    assert noise.shape == SHAPE
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert rows_correlation(noise, 1) > -0.05
    assert abs(rows_correlation(noise, 12)) < 0.05


@pytest.mark.parametrize('seed', range(4))
def test_walking_noise_is_correlated_along_the_drift_alone(seed):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    noise = walking_noise(rng, generator, (256, 256)).numpy()
    power = np.abs(np.fft.fft2(noise)) ** 2
    correlation = np.fft.fftshift(np.fft.ifft2(power).real) / np.sum(noise**2)
    y, x = np.indices((256, 256)) - 128
    inside = (np.hypot(y, x) < 12) & (correlation > 0.25)
    spread = np.linalg.eigvalsh(np.cov(np.stack([y[inside], x[inside]])))
    assert spread[1] > 2.5 * max(spread[0], 0.3)


def test_sharpening_raises_noise_and_keeps_the_mean():
    noisy = torch.randn(96, 96, generator=torch.Generator().manual_seed(1)) + 7
    sharp = sharpen(noisy, 1.0, 1.5)
    assert float(sharp.mean()) == pytest.approx(float(noisy.mean()), abs=0.02)
    assert float(sharp.std()) > 1.5 * float(noisy.std())


def test_midtones_go_through_their_three_points():
    at = torch.tensor([0.0, 0.2, 1.0, 3.0, -1.0])
    assert_allclose(midtones(at, 0.2), [0, 0.5, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize('quality', [60, 90, 100])
def test_jpeg_is_that_of_a_library(quality):
    noise = np.random.default_rng(2).normal(90, 12, (64, 72))
    picture = np.round(noise).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'jpeg', quality=quality)
    expected = np.asarray(Image.open(buffer)).astype(float)
    ours = np.round(jpeg(picture.astype(np.float32), quality)).clip(0, 255)
    loss = np.std(expected - picture)  # a coefficient at half a step may be rounded either way
    assert np.std(ours - expected) < 0.15 * loss + 0.3
