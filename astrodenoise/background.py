# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The local level of a plane: what is smooth on 20 px and on 110 px, stars left out.

A level or a gradient is no structure.  Both levels follow any plane that is added to the frame
exactly, so a pixel's contrast to them does not know of it.  Nor does it know of what is far away:
the tilt that medians are freed of is that of their own surroundings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

__all__ = ['BLOCK', 'LocalLevel', 'fill_nearest', 'local_level']

BLOCK = 4  # pixels of a fine block's side
FINE = 5  # blocks of the fine median's side: 20 px
WIDE_BLOCK = 4  # fine blocks of a wide block's side: 16 px
STRIP = 64  # rows of blocks whose medians are taken at once
WIDE = 7  # wide blocks of the wide median's side: 112 px
LAG = 8  # fine blocks between those whose difference is a slope: 32 px
TILT = 13  # wide blocks over which a tilt is found: 208 px


def fill_nearest(values, good):
    """
    Fill what is not good with the nearest good value.

    Parameters
    ----------
    values : `numpy.ndarray`
        Any array.
    good : `numpy.ndarray` of bool
        Where ``values`` can be used; at least one element must be.

    Returns
    -------
    filled : `numpy.ndarray`
        ``values`` itself when everything is good, else a copy.
    """
    if good.all():
        return values
    index = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    return values[tuple(index)]


def _block_reduce(values, block, reduce):
    """Reduce square blocks with ``reduce``; what is over at the right and below is repeated."""
    pad = [(0, -n % block) for n in values.shape]
    if any(after for _, after in pad):
        values = np.pad(values, pad, mode='edge')
    ny, nx = (n // block for n in values.shape)
    return reduce(values.reshape(ny, block, nx, block))


def _totals(values):
    """Sum of each block; by strides, because numpy is slow along short axes."""
    across = values[..., 0].astype(np.float64)
    for column in range(1, values.shape[3]):
        across += values[..., column]
    total = across[:, 0].copy()
    for row in range(1, values.shape[1]):
        total += across[:, row]
    return total


def _medians(values, size, *, mode, tilt=None, at=None, in_order=map):
    """
    Median of ``size`` x ``size`` blocks around each; thrice as fast as scipy's filter.

    ``tilt``, (2, ny, nx), is taken off the surroundings of each: slopes over ``at``, the positions
    of rows and columns.
    """
    half = size // 2
    padded = np.pad(values, half, mode=mode)
    if tilt is not None:
        # how far each of a block's surroundings is, also where they are mirrored
        away = [sliding_window_view(np.pad(p, half, mode=mode), size) - p[:, None] for p in at]

    def strip(start):
        rows = slice(start, start + STRIP)
        around = sliding_window_view(padded[start : start + STRIP + size - 1], (size, size))
        if tilt is not None:
            down = tilt[0, rows, :, None] * away[0][rows, None]
            across = tilt[1, rows, :, None] * away[1]
            around = around - down[..., None]
            around -= across[:, :, None]
        around = around.reshape(-1, size**2)
        middle = np.partition(around, size**2 // 2, axis=-1)[:, size**2 // 2]
        return middle.reshape(-1, values.shape[1])

    return np.concatenate(list(in_order(strip, range(0, len(values), STRIP))))


def _block_means(data, valid, block):
    """Means of the valid pixels in square blocks, float64, and which blocks have any."""
    if valid.all():
        means = _block_reduce(data, block, _totals) / block**2
        return means, np.ones(means.shape, bool)
    count = _block_reduce(valid, block, _totals)
    means = _block_reduce(np.where(valid, data, 0), block, _totals) / np.maximum(count, 1)
    # a block of few pixels is too noisy to stand beside full ones
    return means, count >= block


def _fit_plane(blocks):
    """Fit a plane to the median-filtered blocks: (level, slope in y, slope in x) in blocks."""
    middle = _medians(blocks, FINE, mode='edge')
    # near the border the filter itself does not follow a plane
    inner = tuple(slice(min(FINE // 2, (n - 1) // 2), n - min(FINE // 2, (n - 1) // 2))
                  for n in blocks.shape)
    middle = middle[inner]
    slopes = []
    for axis, n in enumerate(middle.shape):
        line = middle.mean(axis=1 - axis)
        at = np.arange(n) - (n - 1) / 2
        slopes.append(float(np.sum(at * line) / np.sum(at**2)) if n > 1 else 0.0)
    return float(middle.mean()), *slopes


def _members(n):
    """Fine blocks of each wide one; the last is repeated where they are too few."""
    n_wide = -(-n // WIDE_BLOCK)
    return np.minimum(np.arange(n_wide * WIDE_BLOCK), n - 1).reshape(n_wide, WIDE_BLOCK)


def _tilts(blocks):
    """
    Find the tilt of each wide block's surroundings: slopes in y and x per fine block.

    Medians of differences follow a plane exactly, and stars are as often before as behind.
    """
    tilts = []
    for axis, n in enumerate(blocks.shape):
        before = np.clip(np.arange(n) - LAG // 2, 0, max(n - 1 - LAG, 0))
        after = np.minimum(before + LAG, n - 1)
        rise = np.take(blocks, after, axis=axis) - np.take(blocks, before, axis=axis)
        way = np.maximum(after - before, 1)  # a single block has no slope
        slopes = rise / np.expand_dims(way, 1 - axis)
        slopes = _block_reduce(slopes, WIDE_BLOCK, _medians_inside)
        for size in ((TILT, 1), (1, TILT)):
            slopes = ndimage.median_filter(slopes, size=size, mode='reflect')
        tilts.append(slopes)
    return np.stack(tilts)


def _medians_inside(values):
    """Median of each block."""
    return np.median(values.transpose(0, 2, 1, 3).reshape(*values.shape[::2], -1), axis=-1)


def _median_blocks(blocks, tilts):
    """Median of each wide block, freed of its tilt."""
    rows, cols = (_members(n) for n in blocks.shape)
    middle = (WIDE_BLOCK - 1) / 2
    down, across = (
        i - WIDE_BLOCK * np.arange(len(i))[:, None] - middle for i in (rows, cols)
    )
    inside = blocks[rows[:, None, :, None], cols[None, :, None, :]]
    inside = inside - tilts[0][..., None, None] * down[:, None, :, None]
    inside -= tilts[1][..., None, None] * across[None, :, None, :]
    return np.median(inside.reshape(*tilts.shape[1:], -1), axis=-1)


def _with_border(grid):
    """Lay one more block around a grid, in a line with the two before it."""
    return np.pad(grid, 1, mode='reflect', reflect_type='odd')


def _interpolate(grid, block, rows, cols):
    """Bilinear values of a block grid at the pixels of ``rows`` x ``cols``."""

    def position(index, n):
        at = np.clip((index + 0.5) / block - 0.5, 0, n - 1)
        low = np.minimum(at.astype(np.intp), max(n - 2, 0))
        return low, np.minimum(low + 1, n - 1), at - low

    rows, cols = np.asarray(rows), np.asarray(cols)
    y0, y1, fy = position(rows, grid.shape[0])
    x0, x1, fx = position(cols, grid.shape[1])
    if cols.size < 2 * block or cols[-1] - cols[0] != cols.size - 1 or (np.diff(cols) != 1).any():
        lines = grid[y0] * (1 - fy)[:, None] + grid[y1] * fy[:, None]
        return lines[:, x0] * (1 - fx) + lines[:, x1] * fx
    # pixels in a row: every block-th of them is as far from its blocks, and none is looked up
    lines = grid[y0, x0[0] : x1[-1] + 1] * (1 - fy)[:, None]
    lines += grid[y1, x0[0] : x1[-1] + 1] * fy[:, None]
    result = np.empty((rows.size, cols.size))
    for phase in range(block):
        left, right, share = (a[phase::block] for a in (x0, x1, fx))
        inner = slice(1, max(left.size - 1, 1))  # at the ends of the grid blocks repeat
        for part in (slice(0, 1), inner, slice(max(left.size - 1, 1), None)):
            low, high, f = left[part], right[part], share[part]
            if not low.size:
                continue
            a, b = (lines[:, i[0] - x0[0] : i[-1] - x0[0] + 1] for i in (low, high))
            result[:, phase::block][:, part] = a * (1 - f) + b * f
    return result


@dataclass(frozen=True)
class LocalLevel:
    """
    The fine and the wide level of one plane, or a part of it, on coarse grids.

    Attributes
    ----------
    shape : tuple of int
        Shape in pixels.
    plane : tuple of float
        Level at the centre of the whole plane, slope in y and in x per fine block.
    fine_grid, wide_grid : `numpy.ndarray`, float64
        What is left of the levels over that plane, one value per block and one more all around.
    centre : tuple of float
        Where the centre of the whole plane lies, in fine blocks from the part's first.
    """

    shape: tuple
    plane: tuple
    fine_grid: np.ndarray
    wide_grid: np.ndarray
    centre: tuple

    @property
    def fine(self):
        """What is left of the level on 20 px over the plane, one value per block."""
        return self.fine_grid[1:-1, 1:-1]

    def _at(self, grid, block, rows, cols):
        """Evaluate a grid, which begins a block before the first pixel."""
        around = (np.asarray(i) + block for i in (rows, cols))
        return self._plane_at(rows, cols) + _interpolate(grid, block, *around)

    def _plane_at(self, rows, cols):
        y, x = ((np.asarray(i) + 0.5) / BLOCK - 0.5 for i in (rows, cols))
        return _tilted(self.plane, self.centre, y, x)

    def fine_at(self, rows, cols):
        """
        Evaluate the level on 20 px.

        Parameters
        ----------
        rows, cols : `numpy.ndarray` of int
            Indices of pixels, in any order.

        Returns
        -------
        level : `numpy.ndarray`, (rows, cols), float64
            In the unit of the data.
        """
        return self._at(self.fine_grid, BLOCK, rows, cols)

    def fine_whole(self):
        """
        Evaluate the level on 20 px at every pixel.

        Returns
        -------
        level : `numpy.ndarray`, (H, W), float64
            In the unit of the data.
        """
        return self.fine_at(*(np.arange(n) for n in self.shape))

    def wide_at(self, rows, cols):
        """
        Evaluate the level on 110 px.

        Parameters
        ----------
        rows, cols : `numpy.ndarray` of int
            Indices of pixels, in any order.

        Returns
        -------
        level : `numpy.ndarray`, (rows, cols), float64
            In the unit of the data.
        """
        return self._at(self.wide_grid, BLOCK * WIDE_BLOCK, rows, cols)


def _tilted(plane, centre, y, x):
    """Values of a plane at rows ``y`` and columns ``x``, in blocks."""
    level, slope_y, slope_x = plane
    return level + (slope_y * (y - centre[0]))[:, None] + slope_x * (x - centre[1])


def local_level(data, valid, *, plane=None, first=(0, 0), shape=None, in_order=map):
    """
    Find the local level of a plane on two scales.

    Block means are taken and median filtered, freed of the tilt of their surroundings: bright stars
    do not lift the level, any plane added to the data is followed exactly up to the border, and
    what is farther than 224 px changes nothing.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W), float
        One plane, or a part of one.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    plane : tuple of float, optional
        ``LocalLevel.plane`` of the whole, where the data are a part; fitted by default.
    first : tuple of int, optional
        Row and column of the whole with which the part begins, multiples of 16.
    shape : tuple of int, optional
        Shape of the whole.
    in_order : callable, optional
        ``in_order(function, items)`` gives ``function(item)`` for each; several at once, maybe.

    Returns
    -------
    level : `LocalLevel`
        Evaluate it with its methods.
    """
    blocks, good = _block_means(data, valid, BLOCK)
    if not good.any():
        good = np.ones_like(good)
    blocks = fill_nearest(blocks, good)
    centre = tuple(
        (-(-n // BLOCK) - 1) / 2 - start // BLOCK
        for n, start in zip(data.shape if shape is None else shape, first, strict=True)
    )
    if plane is None:
        plane = tuple(float(v) for v in _fit_plane(blocks))
    rest = blocks - _tilted(plane, centre, *(np.arange(n) for n in blocks.shape))
    tilts = _tilts(rest)
    everywhere = [np.arange(n) for n in rest.shape]
    fine_tilts = np.stack([_interpolate(one, WIDE_BLOCK, *everywhere) for one in tilts])
    fine = _medians(
        rest, FINE, mode='symmetric', tilt=fine_tilts, at=everywhere, in_order=in_order
    )
    wide = _medians(
        _median_blocks(rest, tilts), WIDE, mode='symmetric', tilt=tilts,
        at=[WIDE_BLOCK * np.arange(n) for n in tilts.shape[1:]],
    )  # fmt: skip
    return LocalLevel(
        data.shape,
        plane,
        _with_border(fine),
        _with_border(wide),
        centre,
    )
