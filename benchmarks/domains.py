# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Domains in which denoisers made for white Gaussian noise, or for pictures, do their best."""

import numpy as np

__all__ = ['darkest_level', 'fitted_plane', 'in_unit_noise', 'restore', 'spectrum', 'stabilise']

BLOCK = 32  # px, side of the blocks whose medians show a gradient
CLIP = 2.0  # standard deviations from the plane beyond which a block holds an object
ROUNDS = 20  # of leaving such blocks out
STEEP = 3.0  # sigma over the frame, below which a gradient is left to the denoiser
DARKEST = 0.01  # quantile of the frame that is taken for the sky, 2.33 sigma below its level


def fitted_plane(image, sigma=1.0):
    """
    Fit a plane to the sky of a frame.

    Parameters
    ----------
    image : `numpy.ndarray`
        (..., H, W) frame.
    sigma : `numpy.ndarray` or float, optional
        (..., 1, 1) its noise.

    Returns
    -------
    plane : `numpy.ndarray`
        Of the shape of ``image``, mean 0; 0 everywhere unless it rises by 3 sigma.
    """
    height, width = image.shape[-2:]
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    shape = height // BLOCK, BLOCK, width // BLOCK, BLOCK
    if 0 in shape:
        return np.zeros(image.shape)

    def blocks(plane, reduce):
        cut = plane[:shape[0] * BLOCK, :shape[2] * BLOCK].reshape(shape)
        return reduce(cut, axis=(1, 3)).ravel()

    design = np.column_stack([blocks(y, np.mean), blocks(x, np.mean), np.ones(shape[0] * shape[2])])
    planes = []
    limits = np.broadcast_to(STEEP * np.asarray(sigma), (*image.shape[:-2], 1, 1)).ravel()
    for frame, limit in zip(image.reshape(-1, height, width), limits, strict=True):
        medians = blocks(frame, np.median)
        keep = np.ones(medians.size, bool)
        for _ in range(ROUNDS):
            fit = np.linalg.lstsq(design[keep], medians[keep], rcond=None)[0]
            left = medians - design @ fit
            spread = 1.4826 * np.median(np.abs(left[keep]))
            keep = left < max(CLIP * spread, limit / 10)
        plane = fit[0] * y + fit[1] * x
        planes.append(plane if np.ptp(plane) > limit else np.zeros_like(plane))
    return np.reshape(planes, image.shape)


def darkest_level(image, sigma=1.0):
    """
    Find the level of the darkest part of a frame.

    Parameters
    ----------
    image : `numpy.ndarray`
        (..., H, W) frame.
    sigma : `numpy.ndarray` or float, optional
        (..., 1, 1) its noise.

    Returns
    -------
    level : `numpy.ndarray`
        (..., 1, 1), the sky where there is one.
    """
    return np.quantile(image, DARKEST, axis=(-2, -1), keepdims=True) + 2.33 * sigma


def stabilise(noisy, sigma, gain, read_noise):
    """
    Map a frame to unit noise: generalised Anscombe transform, or division by sigma.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (..., H, W) frame.
    sigma : `numpy.ndarray`
        Its noise, of the same shape.
    gain : float or None
        Electrons per unit of the frame, None for noise that does not depend on the signal.
    read_noise : float
        Gaussian part of the noise, in the unit of the frame.

    Returns
    -------
    stable : `numpy.ndarray`
        Of the same shape, float64.
    """
    if gain is None:
        return noisy.astype(float) / sigma
    electrons, variance = gain * noisy.astype(float), (gain * read_noise) ** 2
    return 2.0 * np.sqrt(np.maximum(electrons + 0.375 + variance, 0.0))


def restore(stable, sigma, gain, read_noise):
    """
    Undo `stabilise` without bias.

    The closed form of Makitalo and Foi (2013) for Poisson-Gaussian noise.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (..., H, W) denoised frame in the domain of unit noise.
    sigma, gain, read_noise
        As in `stabilise`.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape, float64, in the unit of the frame.
    """
    if gain is None:
        return stable * sigma
    d, root = np.maximum(stable, 2.0 * np.sqrt(0.375)), np.sqrt(1.5)
    electrons = 0.25 * d**2 + 0.25 * root / d - 1.375 / d**2 + 0.625 * root / d**3 - 0.125
    return electrons / gain - gain * read_noise**2


def in_unit_noise(denoiser):
    """
    Let a denoiser for white noise of sigma 1 work on any frame.

    A steep plane is taken off before and added again where the noise does not depend on the
    signal: block matching and networks for pictures know no gradients of many sigma.

    Parameters
    ----------
    denoiser : callable
        (..., H, W) array -> array of the same shape.

    Returns
    -------
    method : callable
        ``method(noisy, sigma, gain, read_noise, **keywords) -> denoised``.
    """
    def method(noisy, sigma, gain, read_noise, **keywords):
        stable = stabilise(noisy, sigma, gain, read_noise)
        plane = fitted_plane(stable) if gain is None else 0.0
        return restore(denoiser(stable - plane, **keywords) + plane, sigma, gain, read_noise)

    return method


def spectrum(autocorrelation, shape):
    """
    Give the power spectrum of correlated noise.

    Parameters
    ----------
    autocorrelation : `numpy.ndarray`
        (k, k) correlation by distance, 1 in the middle, k odd.
    shape : tuple of int
        Of the frame.

    Returns
    -------
    power : `numpy.ndarray`
        Of that shape, not negative, mean 1, in the order of `numpy.fft.fft2`.
    """
    reach = autocorrelation.shape[0] // 2
    full = np.zeros(shape)
    full[:2 * reach + 1, :2 * reach + 1] = autocorrelation
    power = np.maximum(np.fft.fft2(np.roll(full, (-reach, -reach), (0, 1))).real, 1e-3)
    return power / power.mean()
