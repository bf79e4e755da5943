# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The denoisers that are compared, each told the true noise of the frame.

A method is a function ``method(noisy, sigma, gain, read_noise) -> denoised``.  Peers made for white
Gaussian noise work behind the generalised Anscombe transform with the true gain and read noise,
its inverse unbiased; where the noise does not depend on the signal (``gain`` None) they work on
the frame divided by its sigma.

BM3D (the ``bm3d`` package) may be used for non-commercial purposes only: it is compared with here
and is no dependency of the package.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy import ndimage

__all__ = ['CACHE', 'METHODS', 'Method', 'run']

CACHE = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'astrodenoise-bench'
UNIT_SIGMA = 20 / 255  # the noise in the [0, 1] picture that BM3D's thresholds are made for


# ----------------------------------------------------- a domain in which the noise is white, unit

def stabilise(noisy, sigma, gain, read_noise):
    """
    Map a frame to unit noise: generalised Anscombe transform, or division by sigma.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) frame.
    sigma : `numpy.ndarray`
        (H, W) its noise.
    gain : float or None
        Electrons per unit of the frame, None for noise that does not depend on the signal.
    read_noise : float
        Gaussian part of the noise, in the unit of the frame.

    Returns
    -------
    stable : `numpy.ndarray`
        (H, W) float64.
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
        (H, W) denoised frame in the domain of unit noise.
    sigma, gain, read_noise
        As in `stabilise`.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W) float64, in the unit of the frame.
    """
    if gain is None:
        return stable * sigma
    d, root = np.maximum(stable, 2.0 * np.sqrt(0.375)), np.sqrt(1.5)
    electrons = 0.25 * d**2 + 0.25 * root / d - 1.375 / d**2 + 0.625 * root / d**3 - 0.125
    return electrons / gain - gain * read_noise**2


def in_unit_noise(denoiser):
    """
    Let a denoiser for white noise of sigma 1 work on any frame.

    Parameters
    ----------
    denoiser : callable
        (H, W) array -> (H, W) array.

    Returns
    -------
    method : callable
        ``method(noisy, sigma, gain, read_noise) -> denoised``.
    """
    def method(noisy, sigma, gain, read_noise):
        stable = stabilise(noisy, sigma, gain, read_noise)
        return restore(denoiser(stable), sigma, gain, read_noise)

    return method


# -------------------------------------------------------------------------------------- the peers

def bm3d(stable):
    """
    Denoise with BM3D, the profile 'np'.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) frame with noise of sigma 1.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from bm3d import BM3DProfile
    from bm3d import bm3d as block_matching

    profile = BM3DProfile()
    profile.num_threads = 1  # more threads give slightly different results each time
    level = np.median(stable)
    return block_matching((stable - level) * UNIT_SIGMA, UNIT_SIGMA, profile) / UNIT_SIGMA + level


def nl_means(stable):
    """
    Denoise with non-local means.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) frame with noise of sigma 1.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(stable, patch_size=7, patch_distance=11, h=0.6, sigma=1.0,
                            fast_mode=True)


def wavelet(stable, *, shifts=3):
    """
    Denoise with BayesShrink of wavelets, averaged over shifts of the frame.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) frame with noise of sigma 1.
    shifts : int, optional
        Shifts by 0 to this many px along each axis.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from skimage.restoration import denoise_wavelet

    total = np.zeros_like(stable)
    for shift in np.ndindex(shifts + 1, shifts + 1):
        moved = denoise_wavelet(np.roll(stable, shift, (0, 1)), sigma=1.0, method='BayesShrink',
                                mode='soft', wavelet='db2', rescale_sigma=False)
        total += np.roll(moved, (-shift[0], -shift[1]), (0, 1))
    return total / (shifts + 1) ** 2


def total_variation(weight):
    """
    Make a total-variation denoiser (Chambolle).

    Parameters
    ----------
    weight : float
        Weight of the total variation, in sigma.

    Returns
    -------
    denoiser : callable
        (H, W) frame with noise of sigma 1 -> (H, W).
    """
    def denoiser(stable):
        from skimage.restoration import denoise_tv_chambolle

        return denoise_tv_chambolle(stable, weight=weight, eps=2e-5, max_num_iter=300)

    return denoiser


def gaussian(width):
    """
    Make a Gaussian filter.

    Parameters
    ----------
    width : float
        Standard deviation in px.

    Returns
    -------
    method : callable
        ``method(noisy, sigma, gain, read_noise) -> denoised``.
    """
    def method(noisy, sigma, gain, read_noise):
        return ndimage.gaussian_filter(noisy.astype(float), width)

    return method


def unchanged(noisy, sigma, gain, read_noise):
    """
    Give the noisy frame back.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) frame.
    sigma, gain, read_noise
        Not used.

    Returns
    -------
    denoised : `numpy.ndarray`
        The frame.
    """
    return noisy


# ------------------------------------------------------------------------------------------- ours

def ours_measured(noisy, sigma, gain, read_noise, *, model='default'):
    """
    Denoise with this package as most people will: an array, and nothing else is known.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) frame.
    sigma, gain, read_noise
        Not used: the package measures the noise.
    model : str, optional
        Name of the weights.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from astrodenoise import denoise

    return denoise(noisy, model=model, noise=None)


def ours_told(noisy, sigma, gain, read_noise, *, model='default'):
    """
    Denoise with this package, told the noise of each pixel as the peers are.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) frame.
    sigma : `numpy.ndarray`
        (H, W) its noise.
    gain, read_noise
        Not used.
    model : str, optional
        Name of the weights.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from astrodenoise import denoise

    return denoise(noisy, model=model, noise=np.asarray(sigma, dtype=np.float32))


# ------------------------------------------------------------------------------ table and cache

@dataclass(frozen=True)
class Method:
    """
    A denoiser, and what its result depends on beside the frame and its noise.

    Attributes
    ----------
    function : callable
        ``function(noisy, sigma, gain, read_noise) -> denoised``.
    package : str
        The distribution whose version matters; empty for scipy's filters.
    params : dict
        Parameters that matter; change them when the function changes.
    cached : bool
        Whether results are kept on disk.
    """

    function: Callable
    package: str = ''
    params: dict = field(default_factory=dict)
    cached: bool = True


METHODS = {
    'noisy': Method(unchanged, cached=False),
    'gauss 0.8': Method(gaussian(0.8), cached=False),
    'gauss 1.2': Method(gaussian(1.2), cached=False),
    'tv 1.0': Method(in_unit_noise(total_variation(1.0)), 'scikit-image', {'weight': 1.0}),
    'tv 2.0': Method(in_unit_noise(total_variation(2.0)), 'scikit-image', {'weight': 2.0}),
    'wavelet': Method(in_unit_noise(wavelet), 'scikit-image', {'wavelet': 'db2', 'shifts': 3}),
    'nl-means': Method(in_unit_noise(nl_means), 'scikit-image', {'h': 0.6, 'patch': (7, 11)}),
    'bm3d': Method(in_unit_noise(bm3d), 'bm3d', {'profile': 'np', 'unit_sigma': 20}),
    'ours (measured)': Method(ours_measured, cached=False),
    'ours (told)': Method(ours_told, cached=False),
}


def cache_key(name, method, noisy, sigma, gain, read_noise):
    """
    Name a result by everything that it depends on.

    Parameters
    ----------
    name : str
        The method's name.
    method : `Method`
        The method.
    noisy, sigma : `numpy.ndarray`
        (H, W) frame and its noise.
    gain, read_noise : float or None
        See `stabilise`.

    Returns
    -------
    key : str
        64 hexadecimal digits.
    """
    try:
        release = version(method.package) if method.package else ''
    except PackageNotFoundError:
        release = 'absent'
    digest = hashlib.sha256()
    for array in (noisy, sigma.astype(np.float32)):
        digest.update(f'{array.shape} {array.dtype.str}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr((name, release, sorted(method.params.items()), gain, read_noise)).encode())
    return digest.hexdigest()


def run(name, noisy, sigma, gain, read_noise, *, cache=CACHE, **keywords):
    """
    Denoise a frame with a method, or fetch the result of an earlier run.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    noisy : `numpy.ndarray`
        (H, W) float32 frame.
    sigma : `numpy.ndarray`
        (H, W) its true noise.
    gain, read_noise : float or None
        See `stabilise`.
    cache : path-like, optional
        Folder of results.
    **keywords
        Handed to the method.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W) float64.
    seconds : float
        Time that it took when it was made.
    """
    method = METHODS[name]
    key = cache_key(name, method, noisy, sigma, gain, read_noise) if method.cached else ''
    path = Path(cache) / key[:2] / f'{key}.npz'
    if method.cached and path.exists():
        with np.load(path) as kept:
            return kept['denoised'].astype(float), float(kept['seconds'])
    start = time.perf_counter()
    denoised = np.asarray(method.function(noisy, sigma, gain, read_noise, **keywords))
    seconds = time.perf_counter() - start
    if method.cached:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'{key}.{os.getpid()}.part.npz')
        np.savez(temporary, denoised=denoised.astype(np.float32), seconds=seconds)
        temporary.replace(path)
    return denoised.astype(float), seconds
