# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The terms of the composite loss, on cases whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.regression import compute_ssim_and_cs

from astrodenoise.training.losses import (
    LossConfig,
    brightness_loss,
    calibration_loss,
    composite_loss,
    luminance,
    pixel_loss,
    ssim_loss,
    structural_similarity,
    total_variation_loss,
)

SIDE = 64


def plane(value=0.0, n_planes=1):
    return torch.full((1, n_planes, SIDE, SIDE), float(value))


def star(y, x, fwhm=3.0, peak=50.0):
    at = torch.arange(SIDE, dtype=torch.float32)
    r2 = (at[:, None] - y) ** 2 + (at - x) ** 2
    return (peak * torch.exp(-4 * np.log(2) * r2 / fwhm**2))[None, None]


def disc(y=32, x=32, radius=10):
    at = torch.arange(SIDE)
    return (((at[:, None] - y) ** 2 + (at - x) ** 2) < radius**2).float()[None, None]


ONE, NONE = plane(1), plane(0)


# --- a flat image --------------------------------------------------------------------------------


@pytest.mark.parametrize('offset', [-0.7, 0.0, 0.3])
def test_flat_offset(offset):
    error = plane(offset)
    assert float(pixel_loss(error, ONE, NONE, order=1)) == pytest.approx(abs(offset))
    assert float(pixel_loss(error, ONE, NONE, order=2)) == pytest.approx(offset**2)
    assert float(brightness_loss(error, ONE, NONE)) == pytest.approx(abs(offset))
    assert float(total_variation_loss(error, ONE, ONE)) == 0
    # of two flat images only the term of the means is left
    x, y = np.arcsinh(offset / 3), 0.0
    c1 = (0.01 * 10) ** 2
    expected = 1 - (2 * x * y + c1) / (x**2 + y**2 + c1)
    assert float(ssim_loss(plane(offset), NONE, ONE)) == pytest.approx(expected, abs=1e-5)


def test_nothing_wrong_is_no_loss():
    image = star(30, 31) + torch.randn(1, 1, SIDE, SIDE, generator=torch.manual_seed(1))
    for loss in (pixel_loss, brightness_loss, total_variation_loss):
        assert float(loss(NONE, ONE, disc())) == 0
    assert float(ssim_loss(image, image, ONE)) == pytest.approx(0, abs=1e-5)


# --- one displaced star --------------------------------------------------------------------------


def test_a_displaced_star_is_seen_by_all_but_brightness():
    clean, denoised = star(35.5, 35.2, fwhm=2), star(35.5, 35.7, fwhm=2)
    error = clean - denoised
    mask = disc(36, 36, 8)
    # what is lost on one side is there on the other, within the same block of 8 px
    assert float(brightness_loss(error, ONE, NONE)) < 0.02 * float(pixel_loss(error, ONE, NONE))
    assert float(total_variation_loss(error, ONE, mask)) > 0.01
    further = clean - star(35.5, 36.2, fwhm=2)
    for loss in (pixel_loss, total_variation_loss):
        assert float(loss(further, ONE, mask)) > 1.5 * float(loss(error, ONE, mask))
    near, far = (float(ssim_loss(image, clean, ONE)) for image in (denoised, clean - further))
    assert far > near > 1e-3


def test_stars_weigh_less_in_the_pixel_term():
    mask = disc()
    share = float(mask.mean())
    assert float(pixel_loss(mask, ONE, mask, star_weight=0.5)) == pytest.approx(0.5 * share)
    assert float(pixel_loss(mask, ONE, mask, star_weight=1.0)) == pytest.approx(share)
    assert float(pixel_loss(1 - mask, ONE, mask, star_weight=0.5)) == pytest.approx(1 - share)


# --- an offset outside and inside the mask -------------------------------------------------------


def test_brightness_counts_outside_stars_only():
    mask = disc()
    assert float(brightness_loss(plane(0.4) * mask, ONE, mask)) == 0
    outside = float(brightness_loss(plane(0.4) * (1 - mask), ONE, mask))
    assert outside == pytest.approx(0.4 * float(1 - mask.mean()), rel=1e-5)


def test_brightness_passes_over_grain():
    grain = torch.randn(4, 1, SIDE, SIDE, generator=torch.manual_seed(2))
    loss = float(brightness_loss(grain, torch.ones_like(grain), torch.zeros_like(grain)))
    # the mean of 64 pixels scatters by 1/8; the mean size of a Gaussian is 0.8 of its rms
    assert loss == pytest.approx(np.sqrt(2 / np.pi) / 8, rel=0.1)


def test_luminance_is_that_of_rec_709():
    colour = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    assert float(luminance(colour)) == pytest.approx(0.2126)
    assert float(luminance(torch.ones(1, 3, 1, 1))) == pytest.approx(1)
    assert float(luminance(torch.full((1, 1, 1, 1), 3.0))) == 3
    # a shift of colour alone does not change the brightness
    chroma = torch.tensor([1 / 0.2126, -1 / 0.7152, 0.0])[None, :, None, None]
    assert float(brightness_loss(chroma.expand(1, 3, SIDE, SIDE), plane(1, 3), NONE)) < 1e-6


# --- ringing inside the mask ---------------------------------------------------------------------


def test_ringing_counts_inside_stars_only():
    at = torch.arange(SIDE)
    ringing = 0.3 * (1 - 2 * ((at[:, None] + at) % 2)).float()[None, None]  # +-0.3 by turns
    n_steps = 2 * SIDE * (SIDE - 1)
    expected = 0.6 * n_steps / SIDE**2
    assert float(total_variation_loss(ringing, ONE, ONE)) == pytest.approx(expected, rel=1e-5)
    assert float(total_variation_loss(ringing, ONE, NONE)) == 0
    mask = disc()
    inside = float(total_variation_loss(ringing, ONE, mask))
    assert inside == pytest.approx(2 * 0.6 * float(mask.mean()), rel=0.02)
    # a star that is too bright as a whole varies less than one that rings
    assert float(total_variation_loss(0.3 * mask, ONE, mask)) < 0.3 * inside


# --- against an independent reference ------------------------------------------------------------


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('n_planes', [1, 3])
def test_structural_similarity_is_that_of_monai(seed, n_planes):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(2, n_planes, 32, 40, generator=generator)
    second = first + 0.5 * torch.randn(2, n_planes, 32, 40, generator=generator)
    ours = structural_similarity(first, second, data_range=10.0)
    theirs, _ = compute_ssim_and_cs(
        first, second, spatial_dims=2, kernel_size=(11, 11), kernel_sigma=(1.5, 1.5),
        data_range=10.0,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


# --- what does not count -------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
def test_pixels_without_weight_do_not_count(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.rand(1, 1, SIDE, SIDE, generator=generator) > 0.3).float()
    error = torch.randn(1, 1, SIDE, SIDE, generator=generator)
    spoilt = torch.where(weight > 0, error, torch.full_like(error, 1e6))
    for loss in (pixel_loss, brightness_loss, total_variation_loss):
        assert float(loss(error, weight, disc())) == pytest.approx(
            float(loss(spoilt, weight, disc())), rel=1e-6
        )


@pytest.mark.parametrize('stars', [NONE, ONE])
def test_tiles_without_stars_and_of_stars_alone_have_finite_gradients(stars):
    error = torch.randn(1, 1, SIDE, SIDE, generator=torch.manual_seed(3)).requires_grad_()
    loss = (
        pixel_loss(error, ONE, stars)
        + brightness_loss(error, ONE, stars)
        + total_variation_loss(error, ONE, stars)
        + ssim_loss(error, NONE, ONE)
    )
    loss.backward()
    assert torch.isfinite(error.grad).all()


# --- the network's own error ---------------------------------------------------------------------


def test_calibration_is_least_where_s_is_the_rms_error():
    error = 0.3 * torch.randn(1, 1, 100, 100, generator=torch.manual_seed(0))
    weight = torch.ones_like(error)
    losses = {
        s: float(calibration_loss(torch.full_like(error, np.log(s)), error, weight))
        for s in (0.2, 0.27, 0.3, 0.33, 0.5)
    }
    assert min(losses, key=losses.get) == 0.3


def test_calibration_does_not_move_r():
    error = torch.ones(1, 1, 2, 2, requires_grad=True)
    log_s = torch.zeros(1, 1, 2, 2, requires_grad=True)
    calibration_loss(log_s, error, torch.ones(1, 1, 2, 2)).backward()
    assert error.grad is None
    assert log_s.grad is not None


# --- all together --------------------------------------------------------------------------------


def batch(n_tiles=2, n_planes=1):
    generator = torch.Generator().manual_seed(5)

    def normal():
        return torch.randn(n_tiles, n_planes, SIDE, SIDE, generator=generator)

    target = normal()
    tiles = SimpleNamespace(
        target=target,
        weight=torch.ones_like(target),
        stars=disc().expand(n_tiles, -1, -1, -1),
        clean=10 * normal(),
        own=torch.zeros(target.shape[:2]),
    )
    return 0.5 * normal(), 0.1 * normal(), tiles


def test_combined_loss_is_the_sum_that_the_paper_gives():
    r, log_s, tiles = batch()
    error = r - tiles.target
    config = LossConfig(pixel='l1', star_weight=0.4, beta=0.2, gamma=0.3, delta=0.05, calibration=0)
    loss, parts = composite_loss(r, log_s, tiles, config)
    weight = tiles.weight
    expected = (
        0.8 * pixel_loss(error, weight, tiles.stars, star_weight=0.4)
        + 0.2 * ssim_loss(tiles.clean - error, tiles.clean, weight)
        + 0.3 * brightness_loss(error, weight, tiles.stars)
        + 0.05 * total_variation_loss(error, weight, tiles.stars)
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert set(parts) == {'pixel', 'ssim', 'brightness', 'tv', 'mse'}
    assert parts['mse'] == pytest.approx(float(torch.mean(error**2)), rel=1e-6)


@pytest.mark.parametrize('n_planes', [1, 3])
def test_halves_of_a_batch_average_to_the_whole(n_planes):
    r, log_s, tiles = batch(4, n_planes)
    config = LossConfig(pixel='l1', star_weight=0.5, beta=0.2, gamma=0.3, delta=0.05)

    def part(first, last):
        cut = SimpleNamespace(**{k: v[first:last] for k, v in vars(tiles).items()})
        return float(composite_loss(r[first:last], log_s[first:last], cut, config)[0])

    assert (part(0, 2) + part(2, 4)) / 2 == pytest.approx(part(0, 4), rel=1e-5)


def test_only_some_losses_look_at_stars():
    assert not LossConfig().needs_stars
    for change in ({'star_weight': 0.5}, {'gamma': 0.1}, {'delta': 0.1}):
        assert LossConfig(**change).needs_stars


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        ({'pixel': 'huber'}, "'l1' or 'l2'"),
        ({'beta': 1.5}, 'beta must be from 0 to 1'),
        ({'star_weight': -1}, 'star_weight must be'),
        ({'gamma': -0.1}, 'gamma must not be negative'),
        ({'delta': float('nan')}, 'delta must not be negative'),
    ],
)
def test_weights_of_the_terms_are_checked(change, match):
    with pytest.raises(ValueError, match=match):
        LossConfig(**change)
