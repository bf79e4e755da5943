# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Stars that keep their pixels: less of the noise is taken where a star's own light stands out.

A mask alone would leave a disc of noise round every star.  What is kept is the mask times the share
that the star's light has, so that it fades with the star and ends before the mask does.
"""

import numpy as np
from astropy.nddata import NDData

from astrodenoise.starmask import mask_stars

__all__ = ['check_star_mask', 'kept_share', 'stars_of']

HALF = 5.0  # sigma: a star's light of which half is kept


def check_star_mask(star_mask, frame):
    """
    Check a mask of stars that was given.

    Parameters
    ----------
    star_mask : None, bool, array or `~astropy.nddata.NDData`
        As in `astrodenoise.denoise`.
    frame : `astrodenoise.frames.Frame`
        The frame.

    Returns
    -------
    star_mask : None, True or `numpy.ndarray`, (N, H, W), float32
        One mask for each plane.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If its shape is not the frame's, or values lie outside 0 to 1.
    """
    if star_mask is None or isinstance(star_mask, bool | np.bool_):
        return True if star_mask else None
    values = star_mask.data if isinstance(star_mask, NDData) else star_mask
    values = np.asarray(frame.value_of(values, 'star_mask'))
    if values.dtype.kind not in 'biuf':
        msg = (
            'star_mask must be None, True or an array of 0 to 1, got '
            f'{type(star_mask).__name__} of dtype {values.dtype}'
        )
        raise TypeError(msg)
    shape = frame.shape
    if values.shape not in (shape, shape[1:]):
        msg = f'star_mask has the shape {values.shape}, the frame {shape[3 - frame.ndim :]}'
        raise ValueError(msg)
    if not (np.all(values >= 0) and np.all(values <= 1)):
        msg = (
            f'star_mask must lie in 0 (denoise) to 1 (keep), got {np.nanmin(values):.4g} to '
            f'{np.nanmax(values):.4g} and {np.count_nonzero(np.isnan(values))} NaN'
        )
        raise ValueError(msg)
    return np.broadcast_to(values.astype(np.float32), shape)


def stars_of(plane, part, saturated):
    """
    Make the mask of a plane's stars.

    Parameters
    ----------
    plane : `astrodenoise.features.NormalisedPlane`
        The plane before its noise is removed.
    part : tuple of slice
        Rows and columns that are looked at.
    saturated : `numpy.ndarray`, (H, W), bool
        Pixels of the plane that belong to stars though they are not valid.

    Returns
    -------
    mask : `numpy.ndarray`, float32
        Of the part, as `astrodenoise.star_mask` makes it.
    """
    # what neighbours share is not averaged out at the scales of stars
    correlated = np.sqrt(max(1.0, 1 + 2 * sum(plane.noise.correlation)))
    sigma = np.broadcast_to(plane.sigma * correlated, plane.data.shape)
    return mask_stars(
        plane.data[part], sigma[part], valid=plane.valid[part], saturated=saturated[part]
    )


def kept_share(mask, plane, part, r):
    """
    Give the share of the noise that each pixel keeps.

    Parameters
    ----------
    mask : `numpy.ndarray`, (h, w)
        0 to 1, the stars.
    plane : `astrodenoise.features.NormalisedPlane`
        The plane.
    part : tuple of slice
        Rows and columns of the plane that ``mask`` and ``r`` are of.
    r : `numpy.ndarray`, (h, w)
        Its noise in units of sigma.

    Returns
    -------
    share : `numpy.ndarray`, (h, w), float32
        The mask times ``light / (light + 5)``, with the star's light over its surroundings in units
        of sigma and without noise: 0 outside of stars, towards 1 in the cores of bright ones.
    """
    light = plane.contrast(part) - r
    light = np.maximum(np.where(plane.valid[part], light, 0), 0)
    return (mask * light / (light + HALF)).astype(np.float32)
