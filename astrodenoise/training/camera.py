# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How exposures become a frame, and what that does to their noise, by doing it.

White noise goes through the steps of a reduction: debayering, a shift and a change of scale by
interpolation or drizzle, the mean of several exposures; and what is fixed on the detector walks
over the sky where a telescope drifts without being dithered.
"""

import numpy as np
import torch
from torch.nn import functional

__all__ = ['resampling', 'stacked_noise', 'walking_noise']

KERNELS = ('linear', 'cubic', 'lanczos', 'drizzle')
MOST_EXPOSURES = 4  # resampled one by one; the noise of more is correlated like theirs


def _kernel(name, distance, drop, scale):
    """Weight of input pixels at a distance, in input px, from an output pixel."""
    d = np.abs(distance)
    if name == 'linear':
        return np.maximum(0, 1 - d)
    if name == 'cubic':  # Keys, a = -1/2
        inner = (1.5 * d - 2.5) * d**2 + 1
        outer = ((-0.5 * d + 2.5) * d - 4) * d + 2
        return np.where(d < 1, inner, np.where(d < 2, outer, 0))
    if name == 'lanczos':
        return np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0)
    # the overlap of a drop with an output pixel
    return np.clip((drop + scale) / 2 - d, 0, min(drop, scale))


def resampling(n_out, n_in, *, scale=1.0, shift=0.0, kernel='linear', drop=1.0):
    """
    Give the matrix that resamples one axis.

    Parameters
    ----------
    n_out, n_in : int
        Output and input pixels.
    scale : float, optional
        Input pixels per output pixel.
    shift : float, optional
        Of the first output pixel, in input px.
    kernel : {'linear', 'cubic', 'lanczos', 'drizzle'}, optional
        How an output pixel takes from input pixels.
    drop : float, optional
        Side of a drizzled pixel in input px.

    Returns
    -------
    matrix : `numpy.ndarray`, (n_out, n_in), float32
        Weights; their rows add up to 1 but for drizzle.
    """
    at = np.arange(n_out) * scale + shift
    weights = _kernel(kernel, at[:, None] - np.arange(n_in), drop, scale)
    if kernel != 'drizzle':
        weights = weights / weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _debayer(noise, plane):
    """Keep a plane's pixels of a red-green-green-blue mosaic and fill in by averages."""
    kept = torch.zeros_like(noise)
    if plane == 1:
        kept[::2, 1::2], kept[1::2, ::2] = noise[::2, 1::2], noise[1::2, ::2]
        kernel = [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]]
    else:
        first = 0 if plane == 0 else 1
        kept[first::2, first::2] = noise[first::2, first::2]
        kernel = [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    kernel = noise.new_tensor(kernel)
    padded = functional.pad(kept[None, None], (1, 1, 1, 1), mode='reflect')
    return functional.conv2d(padded, kernel[None, None])[0, 0]


def stacked_noise(rng, generator, shape, *, plane=1, device='cpu'):
    """
    Draw the noise of a stack of registered exposures.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Draws what happens.
    generator : `torch.Generator`
        Draws the noise.
    shape : tuple of int
        Shape of the frame.
    plane : {0, 1, 2}, optional
        Colour of a mosaic's pixels.
    device : `torch.device` or str, optional
        Where to draw.

    Returns
    -------
    noise : `torch.Tensor`, (H, W), float32
        Of rms 1.
    """
    kernel = str(rng.choice(KERNELS))
    mosaic = rng.random() < 0.4
    drop, scale = 1.0, 1.0
    if kernel == 'drizzle':
        scale = float(rng.choice([1.0, rng.uniform(0.5, 1.0)]))
        drop = float(rng.uniform(max(scale, 0.6), 1.0))
    elif rng.random() < 0.3:
        scale = float(rng.uniform(0.6, 1.05))
    total = weight = 0.0
    for _ in range(int(rng.integers(1, MOST_EXPOSURES + 1))):
        shifts = rng.uniform(2, 3, 2)
        sizes = [int(np.ceil(n * scale)) + 6 for n in shape]
        white = torch.randn(sizes, generator=generator, device=device)
        if mosaic:
            white = _debayer(white, plane)
        down, across = (
            torch.from_numpy(resampling(n, m, scale=scale, shift=s, kernel=kernel, drop=drop))
            for n, m, s in zip(shape, sizes, shifts, strict=True)
        )
        down, across = down.to(device), across.to(device)
        total = total + down @ white @ across.T
        weight = weight + down.sum(1)[:, None] * across.sum(1)
    noise = total / weight
    return noise / noise.std()


def walking_noise(rng, generator, shape, *, device='cpu'):
    """
    Draw what hot pixels and columns leave in a stack that drifted without being dithered.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Draws what happens.
    generator : `torch.Generator`
        Draws the pattern.
    shape : tuple of int
        Shape of the frame.
    device : `torch.device` or str, optional
        Where to draw.

    Returns
    -------
    noise : `torch.Tensor`, (H, W), float32
        Of rms 1.
    """
    length = float(np.exp(rng.uniform(np.log(4), np.log(60))))
    angle = rng.uniform(0, np.pi)
    large = [n + 64 for n in shape]  # the far side comes in where the transform is periodic
    fixed = torch.randn(large, generator=generator, device=device)
    hot = torch.rand(large, generator=generator, device=device) < rng.uniform(1e-3, 2e-2)
    fixed = torch.where(hot, fixed.abs() * fixed * float(rng.uniform(2, 10)), 0.3 * fixed)
    # a path of uniform speed: the transform of a line is a sinc along it
    along = torch.fft.fftfreq(large[0], device=device)[:, None] * np.sin(angle)
    along = along + torch.fft.rfftfreq(large[1], device=device) * np.cos(angle)
    spectrum = torch.fft.rfft2(fixed) * torch.sinc(along * length)
    noise = torch.fft.irfft2(spectrum, large)[: shape[0], : shape[1]]
    noise = noise - noise.mean()
    return noise / noise.std()
