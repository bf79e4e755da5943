# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Weights are inverse variances up to a factor; the frame tells which."""

import numpy as np
from astropy.nddata import InverseVariance

from astrodenoise.background import local_level
from astrodenoise.estimate import measure_plane
from astrodenoise.frames import open_frame
from astrodenoise.noise import leave_out_invalid

__all__ = ['fit_level']


def fit_level(ccd, *, saturation=None):
    """
    Scale a frame's weights to inverse variances, in place.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        Its uncertainty is an `~astropy.nddata.InverseVariance` of any level; afterwards its median
        sigma is that which the frame shows, plane by plane.
    saturation : float, optional
        As for `astrodenoise.denoise`.

    Raises
    ------
    ValueError
        If the noise of the frame cannot be measured.
    """
    frame = open_frame(ccd)
    leave_out_invalid(frame, saturation=saturation)
    factors = []
    for data, valid, sigma in zip(frame.data, frame.valid, frame.sigma, strict=True):
        known = valid & np.isfinite(sigma) & (sigma > 0)
        level = local_level(data, valid)
        measured = measure_plane(data, valid, integer=frame.integer, level=level)
        own = np.median(np.broadcast_to(measured.sigma_at(level.fine_whole()), data.shape)[known])
        factors.append(np.median(sigma[known]) / own if own > 0 else 1.0)
    weight = np.asarray(ccd.uncertainty.array, dtype=np.float64)
    factor = np.square(factors).reshape(-1, *(1,) * 2)
    scaled = weight * (factor if ccd.data.ndim == 3 else factor[0, 0, 0])
    ccd.uncertainty = InverseVariance(scaled)
