# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames that are read piece by piece: of dask, or from a file."""

import numpy as np
from astropy.nddata import NDData

from astrodenoise.frames import (
    Opened,
    Window,
    array_of,
    check_frame,
    float_dtype,
    read_planes,
    saturate_card,
    unit_of,
)

__all__ = ['PiecewiseFrame']


class PiecewiseFrame(Opened):
    """
    A frame whose pixels are read piece by piece.

    Parameters
    ----------
    ccd : `~astropy.nddata.NDData` or array
        Whose pixels, mask and uncertainty have ``shape``, ``dtype`` and give an array when they are
        sliced.

    Attributes
    ----------
    unit, integer, saturation, meta, original, stars : object
        As in `astrodenoise.frames.Frame`.
    sigma : object or None
        None where no sigma of each pixel is wanted.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.frames.open_frame`, but for what only the values show.
    """

    data = None  # all of them are never at hand

    def __init__(self, ccd):
        self._pixels = array_of(ccd)
        check_frame(ccd, self._pixels)
        nddata = isinstance(ccd, NDData)
        self.original, self.unit = ccd, unit_of(ccd)
        self.meta = ccd.meta if nddata else None
        self.integer = self._pixels.dtype.kind in 'iu'
        self.saturation = saturate_card(self.meta)
        self.stars = None
        # whether there is one; its values are read with the pixels
        has_sigma = nddata and getattr(ccd.uncertainty, 'array', None) is not None
        self.sigma = ccd.uncertainty if has_sigma else None

    def __repr__(self):
        """Say what it is in one line."""
        return f'<{type(self).__name__} of a {type(self.original).__name__}: {self.shape}>'

    @property
    def shape(self):
        """Planes, height and width: (N, H, W)."""
        return (1,) * (3 - self._pixels.ndim) + tuple(self._pixels.shape)

    @property
    def dtype(self):
        """Of the planes that are read."""
        return float_dtype(self._pixels.dtype)

    def window(self, planes, rows, cols):
        """
        Read a part of the frame.

        Parameters
        ----------
        planes, rows, cols : slice
            The part.

        Returns
        -------
        window : `Window`
            New arrays.
        """
        data, valid, sigma = read_planes(self.piece(planes, rows, cols))
        stars = None if self.stars is None else self.stars[planes, rows, cols]
        return Window(data, valid, None, None if self.sigma is None else sigma, stars)

    def piece(self, planes, rows, cols):
        """
        Give a part as an object of its own.

        Parameters
        ----------
        planes, rows, cols : slice
            The part.

        Returns
        -------
        piece : `~astropy.nddata.NDData` or `numpy.ndarray`
            Its pixels, mask and uncertainty as numpy arrays; an array where the frame is one.
        """
        part = (planes, rows, cols)[3 - self._pixels.ndim :]
        pixels = np.asarray(self._pixels[part])
        if not isinstance(self.original, NDData):
            return pixels
        mask, uncertainty = self.original.mask, self.original.uncertainty
        piece = NDData(pixels, unit=self.unit)
        if mask is not None:
            piece.mask = mask if np.isscalar(mask) else np.asarray(mask[part])
        if self.sigma is not None:
            values = np.asarray(uncertainty.array[part])
            piece.uncertainty = type(uncertainty)(values, unit=uncertainty.unit)
        return piece

    def _finish(self, planes):
        return planes if self.ndim == 3 else planes[0]
