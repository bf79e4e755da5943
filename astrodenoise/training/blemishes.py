# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Pixels that tell nothing of the noise of exposures: hot ones, those round saturated stars."""

import numpy as np
from scipy import ndimage

__all__ = ['near_saturated', 'persistent_spikes']

SPIKE = 4.0  # sigma over the median of 3 x 3 px
PERSISTENT = 0.75  # share of the exposures in which a hot pixel stands out
BRIGHT = 20.0  # sigma over the sky, above which what is not valid is a saturated star


def persistent_spikes(planes, sigmas):
    """
    Find hot and dead pixels: what stands out in the same pixel though the sky moved.

    Parameters
    ----------
    planes : sequence of `numpy.ndarray`, (H, W)
        Two exposures that moved against each other, or more.
    sigmas : sequence of float
        Noise of a pixel of each.

    Returns
    -------
    hot : `numpy.ndarray`, (H, W), bool
        Those that differ from their neighbours in three quarters of the exposures.
    """
    balance = np.zeros(planes[0].shape, np.int8)
    for plane, sigma in zip(planes, sigmas, strict=True):
        spike = (plane - ndimage.median_filter(plane, 3)) / sigma
        balance += (spike > SPIKE).astype(np.int8) - (spike < -SPIKE).astype(np.int8)
    return np.abs(balance) >= int(np.ceil(PERSISTENT * len(planes)))


def near_saturated(plane, valid, sigma, reach):
    """
    Find the pixels round saturated stars, whose light differs most from night to night.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W)
        An exposure.
    valid : `numpy.ndarray`, (H, W), bool
        False for saturated pixels.
    sigma : float
        Noise of a pixel.
    reach : int
        How far round them, in px.

    Returns
    -------
    near : `numpy.ndarray`, (H, W), bool
        Saturated pixels included; single ones are no stars.
    """
    if valid.all() or not valid.any():
        return ~valid
    core = ~valid & (plane > np.median(plane[valid]) + BRIGHT * sigma)
    core = ndimage.binary_opening(core, np.ones((2, 2)))
    return ndimage.distance_transform_edt(~core) <= reach if core.any() else core
