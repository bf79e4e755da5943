# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The pixels of a large plane that carry no noise, kept as rules and packed bits.

The values at which a panel piles up hold for the whole plane: what is saturated in one corner is
saturated in all.  Runs of one exact value are remembered as they lie.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np

from astrodenoise.validity import CLIPPED, NO_DATA, SATURATED, invalid_pixels

__all__ = ['Marks']

RUN = 80  # px around a panel within which a run of one value shows that it is one
MOST_VALUES = 64  # values of saturation in one panel; beyond them the lowest is the level


@dataclass(eq=False)
class Marks:
    """
    Which pixels of a plane carry no noise.

    Attributes
    ----------
    saturation : float or None
        Level at and above which pixels are saturated, as it was given.
    top, floor : set of float
        Values at which pixels are saturated, and clipped.
    gaps, bright : list of (slice, slice, bytes)
        Rows, columns and packed pixels of panels: runs of one exact value, and saturated pixels
        where these are known by their places.
    """

    saturation: float | None = None
    top: set = field(default_factory=set)
    floor: set = field(default_factory=set)
    gaps: list = field(default_factory=list)
    bright: list = field(default_factory=list)

    @classmethod
    def of(cls, place, valid, saturated):
        """
        Remember pixels as they lie.

        Parameters
        ----------
        place : tuple of slice
            Rows and columns.
        valid, saturated : `numpy.ndarray`, (h, w), bool
            Pixels that count, and those of the others that are saturated.

        Returns
        -------
        marks : `Marks`
            Without rules.
        """
        return cls(gaps=_packed(place, ~valid), bright=_packed(place, saturated))

    def look(self, data, valid, inner, place):
        """
        Find the pixels of a panel that carry no noise, and remember what they tell.

        Parameters
        ----------
        data, valid : `numpy.ndarray`, (H, W)
            The panel with `RUN` px around it.
        inner : tuple of slice
            The panel in these.
        place : tuple of slice
            The panel in the plane.

        Returns
        -------
        reason : `numpy.ndarray`, uint8
            Of the panel's pixels, as in `astrodenoise.validity`.
        """
        reason = invalid_pixels(data, valid, saturation=self.saturation).reason
        if self.saturation is None:
            values = np.unique(data[reason == SATURATED])
            if values.size > MOST_VALUES:
                self.saturation = float(values[0])
            self.top.update(values[:MOST_VALUES].tolist())
        self.floor.update(np.unique(data[reason == CLIPPED])[:MOST_VALUES].tolist())
        reason = reason[inner]
        self.gaps += _packed(place, reason == NO_DATA)
        return reason

    def apply(self, data, valid, rows, cols):
        """
        Leave pixels of a window out.

        Parameters
        ----------
        data, valid : `numpy.ndarray`, (h, w)
            The window; not changed.
        rows, cols : slice
            Where it lies in the plane.

        Returns
        -------
        valid : `numpy.ndarray`, (h, w), bool
            Without what carries no noise.
        saturated : `numpy.ndarray`, (h, w), bool
            The pixels that are left out because they are saturated.
        """
        saturated = np.zeros(data.shape, bool)
        if self.saturation is not None:
            saturated |= data >= self.saturation
        for value in self.top:
            saturated |= data == value
        saturated &= valid
        valid = valid & ~saturated
        for value in self.floor:
            valid &= data != value
        for part, gap in _unpacked(self.gaps, rows, cols):
            valid[part] &= ~gap
        for part, bright in _unpacked(self.bright, rows, cols):
            saturated[part] |= bright
        return valid, saturated


def _packed(place, pixels):
    """Pack the pixels of a panel, if there are any."""
    if not pixels.any():
        return []
    return [(*place, zlib.compress(np.packbits(pixels).tobytes(), 1))]


def _unpacked(panels, rows, cols):
    """Give the part of a window that each panel covers, and its pixels."""
    for down, across, packed in panels:
        y, x = _common(down, rows), _common(across, cols)
        if y is None or x is None:
            continue
        shape = down.stop - down.start, across.stop - across.start
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        pixels = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
        part = _moved(y, rows.start), _moved(x, cols.start)
        yield part, pixels[_moved(y, down.start), _moved(x, across.start)]


def _common(a, b):
    """What two slices have in common, None where that is nothing."""
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start, stop) if start < stop else None


def _moved(part, first):
    return slice(part.start - first, part.stop - first)
