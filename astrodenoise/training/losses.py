# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The composite loss and its parts, as pure functions of tensors (paper section 2.5).

Everything is in units of sigma.  ``error`` is predicted minus true noise, which is clean minus
denoised pixel; ``weight`` is 0 for pixels that do not count; ``stars`` is the soft star mask.
Every part is a mean over all pixels of the batch and never over those of a mask alone: so a tile
without stars, or with nothing but stars, needs no special case, and the gradients of two half
batches average to that of the whole one.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from astrodenoise.starmask import LUMINANCE

__all__ = [
    'LossConfig',
    'brightness_loss',
    'calibration_loss',
    'composite_loss',
    'luminance',
    'pixel_loss',
    'ssim_loss',
    'structural_similarity',
    'total_variation_loss',
]

SSIM_SIZE, SSIM_SIGMA = 11, 1.5
SSIM_SOFTENING, SSIM_RANGE = 3.0, 10.0  # of asinh(x / 3): faint structure and bright stars alike
BRIGHTNESS_BLOCK = 8


@dataclass(frozen=True)
class LossConfig:
    """
    Weights of the composite loss, ``(1 - beta) pixel + beta SSIM + gamma brightness + delta TV``.

    Attributes
    ----------
    pixel : {'l2', 'l1'}
        The pixel-wise term: squared errors, whose minimum is the posterior mean (unbiased fluxes),
        or absolute ones as in the paper, whose minimum is the median.
    star_weight : float
        Weight of the pixel-wise term in stars' cores, against 1 elsewhere.
    beta, gamma, delta : float
        Of structural similarity, of brightness outside stars, of total variation inside them.
    calibration : float
        Of the term that teaches the network its own error.
    """

    pixel: str = 'l2'
    star_weight: float = 1.0
    beta: float = 0.0
    gamma: float = 0.0
    delta: float = 0.0
    calibration: float = 0.05

    def __post_init__(self):
        if self.pixel not in ('l1', 'l2'):
            msg = f"[loss] pixel must be 'l1' or 'l2', got {self.pixel!r}"
            raise ValueError(msg)
        for name in ('star_weight', 'beta'):
            if not 0 <= getattr(self, name) <= 1:
                msg = f'[loss] {name} must be from 0 to 1, got {getattr(self, name)}'
                raise ValueError(msg)
        for name in ('gamma', 'delta', 'calibration'):
            if not getattr(self, name) >= 0:
                msg = f'[loss] {name} must not be negative, got {getattr(self, name)}'
                raise ValueError(msg)

    @property
    def needs_stars(self):
        """Whether a term looks at the star mask (bool)."""
        return self.star_weight < 1 or self.gamma > 0 or self.delta > 0


def luminance(planes):
    """
    Give the luminance of planes (paper section 2.3).

    Parameters
    ----------
    planes : `torch.Tensor`, (B, P, H, W)
        Three planes as red, green and blue with the weights of Rec. 709; others count alike.

    Returns
    -------
    luminance : `torch.Tensor`, (B, 1, H, W)
        Their weighted mean.
    """
    if planes.shape[1] != len(LUMINANCE):
        return planes.mean(dim=1, keepdim=True)
    factors = planes.new_tensor(LUMINANCE)[None, :, None, None]
    return (factors * planes).sum(dim=1, keepdim=True)


def pixel_loss(error, weight, stars, *, star_weight=0.5, order=1):
    """
    Star-weighted error of each pixel (paper section 2.5, first term).

    Formula: ``mean(weight * (1 - (1 - star_weight) * stars) * |error|**order)``.

    Parameters
    ----------
    error, weight : `torch.Tensor`, (B, P, H, W)
        Errors and what each pixel counts.
    stars : `torch.Tensor`, (B, 1, H, W)
        The star mask, 0 to 1.
    star_weight : float, optional
        Weight where the mask is 1.
    order : {1, 2}, optional
        1 as in the paper; 2 for squared errors.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Mean over all pixels.
    """
    size = error.abs() if order == 1 else error.square()
    return torch.mean(weight * (1 - (1 - star_weight) * stars) * size)


def _blur(image):
    """Gaussian window of SSIM, without padding."""
    at = torch.arange(SSIM_SIZE, dtype=image.dtype, device=image.device) - SSIM_SIZE // 2
    line = torch.exp(-0.5 * (at / SSIM_SIGMA) ** 2)
    line = line / line.sum()
    image = functional.conv2d(image, line[None, None, :, None])
    return functional.conv2d(image, line[None, None, None, :])


def structural_similarity(first, second, *, data_range):
    """
    Map of the structural similarity, with an 11 px Gaussian window of 1.5 px.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Trans. Image Process. 13, 600.

    Parameters
    ----------
    first, second : `torch.Tensor`, (B, P, H, W)
        Images of at least 11 px.
    data_range : float
        Range of their values.

    Returns
    -------
    similarity : `torch.Tensor`, (B, P, H - 10, W - 10)
        1 where they are alike.
    """
    shape = first.shape
    first, second = (a.reshape(-1, 1, *shape[-2:]).float() for a in (first, second))
    both = torch.cat((first, second, first * first, second * second, first * second))
    mean1, mean2, square1, square2, product = _blur(both).chunk(5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    covariance = product - mean1 * mean2
    variances = square1 - mean1**2 + square2 - mean2**2
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean1**2 + mean2**2 + c1) * (variances + c2))
    return similarity.reshape(*shape[:2], *similarity.shape[-2:])


def ssim_loss(denoised, clean, weight):
    """
    One minus the structural similarity of ``asinh(x / 3)`` (paper section 2.5, second term).

    Formula: ``mean(weight * (1 - SSIM(asinh(denoised / 3), asinh(clean / 3))))``, data range 10.

    Parameters
    ----------
    denoised, clean : `torch.Tensor`, (B, P, H, W)
        Contrasts in sigma.
    weight : `torch.Tensor`, (B, P, H, W)
        0 for pixels that do not count.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Mean over all windows that lie inside.
    """
    stretched = (torch.asinh(a / SSIM_SOFTENING) for a in (denoised, clean))
    similarity = structural_similarity(*stretched, data_range=SSIM_RANGE)
    edge = SSIM_SIZE // 2
    return torch.mean(weight[..., edge:-edge, edge:-edge] * (1 - similarity))


def brightness_loss(error, weight, stars):
    """
    Brightness of 8 px blocks of the luminance outside stars (paper section 2.5, third term).

    Formula: ``mean |block mean of (1 - stars) * luminance(weight * error)|``.

    Parameters
    ----------
    error, weight : `torch.Tensor`, (B, P, H, W)
        Errors and what each pixel counts.
    stars : `torch.Tensor`, (B, 1, H, W)
        The star mask, 0 to 1.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Mean over all blocks.
    """
    outside = (1 - stars) * luminance(weight * error)
    return functional.avg_pool2d(outside, BRIGHTNESS_BLOCK).abs().mean()


def total_variation_loss(error, weight, stars):
    """
    Total variation of what is wrong inside stars (paper section 2.5, fourth term).

    Formula: ``mean(stars * (|dx error| + |dy error|))``: of denoised minus clean, since the
    variation of the denoised star itself would flatten its peak.

    Parameters
    ----------
    error, weight : `torch.Tensor`, (B, P, H, W)
        Errors and what each pixel counts.
    stars : `torch.Tensor`, (B, 1, H, W)
        The star mask, 0 to 1.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Mean over all pixels.
    """
    error = weight * error
    dy = (error[..., 1:, :] - error[..., :-1, :]).abs() * stars[..., 1:, :]
    dx = (error[..., 1:] - error[..., :-1]).abs() * stars[..., 1:]
    return (dy.sum() + dx.sum()) / error.numel()


def calibration_loss(log_s, error, weight, own=0.0):
    """
    Negative log-likelihood of the error under a Gaussian of width s; r itself gets no gradient.

    Its minimum is s = rms of the error given what the network sees.

    Parameters
    ----------
    log_s : `torch.Tensor`, (B, P, H, W)
        Logarithm of the network's expected error in units of sigma.
    error, weight : `torch.Tensor`, (B, P, H, W)
        Errors and what each pixel counts.
    own : `torch.Tensor`, (B, P, 1, 1), or float, optional
        Variance of the target's own noise, which is in the errors, too.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Mean over all pixels.
    """
    variance = torch.exp(2 * log_s) + own
    likelihood = 0.5 * (error.detach() ** 2 / variance + torch.log(variance))
    return torch.mean(weight * likelihood)


def composite_loss(r, log_s, tiles, config):
    """
    Loss of a batch: ``(1 - beta) pixel + beta SSIM + gamma brightness + delta TV + calibration``.

    Parameters
    ----------
    r, log_s : `torch.Tensor`, (B, P, H, W)
        What the network gives.
    tiles : `astrodenoise.training.tiles.Tiles`
        What it was shown, with the ground truth.
    config : `LossConfig`
        The terms' weights; a term of weight 0 is not computed.

    Returns
    -------
    loss : `torch.Tensor`, ()
        What is made small.
    parts : dict of str to float
        The terms before their weights: 'pixel', 'ssim', 'brightness', 'tv', 'calibration', and
        'mse', the mean squared error whatever the pixel-wise term is.
    """
    error, weight, own = r - tiles.target, tiles.weight, tiles.own[:, :, None, None]
    order = 1 if config.pixel == 'l1' else 2
    terms = {
        'pixel': (
            1 - config.beta,
            lambda: pixel_loss(
                error, weight, tiles.stars, star_weight=config.star_weight, order=order
            ),
        ),
        'ssim': (config.beta, lambda: ssim_loss(tiles.clean - error, tiles.clean, weight)),
        'brightness': (config.gamma, lambda: brightness_loss(error, weight, tiles.stars)),
        'tv': (config.delta, lambda: total_variation_loss(error, weight, tiles.stars)),
        'calibration': (config.calibration, lambda: calibration_loss(log_s, error, weight, own)),
    }
    loss, parts = 0.0, {}
    for name, (factor, term) in terms.items():
        if factor:
            value = term()
            loss = loss + factor * value
            parts[name] = float(value.detach())
    parts['mse'] = float(torch.mean(weight * error.detach() ** 2))
    return loss, parts
