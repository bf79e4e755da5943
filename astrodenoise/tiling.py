# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Overlapping tiles over a frame, and one seamless frame back from their predictions.

Section 3 of the paper (Regordosa, "Denoising Pipeline for Deep-Sky Astrophotography"): tiles with
``step = size * (1 - overlap)``, each prediction times a Gaussian window, summed, and divided by the
sum of the windows.  Where the paper is silent:

* the frame is padded outwards by half the overlap on all four sides, then at the right and bottom
  to the grid, so that no pixel rests on a tile's corner alone;
* padding is a mirror without the edge pixel, repeated where the frame is shorter than the padding
  (an axis of one pixel repeats it).  Only indices are mirrored: no padded copy exists;
* the window is separable, so the weight map is the outer product of two 1-D sums, and the
  accumulator is the only array of the frame's size.
"""

from math import ceil
from operator import index

import numpy as np

__all__ = ['Blender', 'batched', 'blend_tiles', 'fitting_tile', 'n_tiles', 'tile_starts', 'window']

BLENDS = ('gaussian', 'none')
MAX_OVERLAP = 0.75
MIN_TILE, MAX_TILE = 64, 2048
SEAM = 128  # px; the overlap of tiles of any size is a share of it
GRID = 32  # px; twice the stride of the deepest network
FITTING = range(256, 513, GRID)  # px, sides of tiles that `fitting_tile` chooses from
SIGMAS_PER_TILE = 6  # the window's sigma is a sixth of the tile


def tile_starts(n, tile_size, overlap):
    """
    Place tiles along one axis (paper, section 3: step and overlap).

    Parameters
    ----------
    n : int
        Length of the frame's axis in pixels, at least 1.
    tile_size : int
        Side of a tile in pixels, 64 to 2048.
    overlap : float
        Fraction of a tile that the next one covers again, 0 to 0.75.

    Returns
    -------
    starts : `numpy.ndarray` of int
        First pixel of each tile, counted along the padded axis: ``starts - pad_before`` are pixels
        of the frame.  Every tile covers at least one pixel of the frame.
    pad_before : int
        Pixels of padding before the frame; there are at least as many behind it.
    padded_length : int
        Length of the padded axis in pixels; the last tile ends there.

    Raises
    ------
    TypeError
        If ``n`` or ``tile_size`` is no integer.
    ValueError
        If an argument is outside its range.
    """
    _check_grid(tile_size, overlap)
    _check_count('the length of an axis of the frame', n)
    step = round(tile_size * (1 - overlap))
    pad = (tile_size - step) // 2
    n_steps = max(0, -(-(n + 2 * pad - tile_size) // step))  # rounded up
    return step * np.arange(n_steps + 1), pad, tile_size + step * n_steps


def fitting_tile(shape, overlap):
    """
    Choose the tiles that compute the fewest pixels twice or beyond the frame.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the frame in pixels.
    overlap : float
        Share of 128 px that neighbouring tiles have in common, rounded up to a multiple of 32 px:
        larger tiles need no wider seams.

    Returns
    -------
    tile_size : int
        A multiple of 32 from 256 to 512 px; larger ones outgrow a processor's cache.
    overlap : float
        The same overlap as a share of that tile.
    """
    # tiles that begin off the network's grid of halved pixels would see the frame in another way
    common = GRID * ceil(overlap * SEAM / GRID)
    work = {size: size**2 * n_tiles(shape, size, common / size) for size in FITTING}
    tile_size = min(work, key=work.get)
    return tile_size, common / tile_size


def n_tiles(shape, tile_size, overlap):
    """
    Count the tiles of a frame.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the frame in pixels.
    tile_size, overlap : int, float
        As for `tile_starts`.

    Returns
    -------
    count : int
        Number of tiles.

    Raises
    ------
    TypeError, ValueError
        As for `tile_starts`, and if ``shape`` has not two axes.
    """
    height, width = _check_shape(shape)
    down, across = (tile_starts(n, tile_size, overlap)[0] for n in (height, width))
    return len(down) * len(across)


def window(tile_size, blend='gaussian'):
    """
    Weigh the pixels along one side of a tile (paper, section 3: Gaussian weighting).

    At a distance d from the centre the weight is ``exp(-d^2 / 2 s^2) - exp(-(n/2)^2 / 2 s^2)``,
    ``n = tile_size`` and ``s = n / 6``: positive in the tile and zero half a pixel outside, so that
    a tile fades out without a step.  A tile's weights are the outer product of two such windows.

    Parameters
    ----------
    tile_size : int
        Side of a tile in pixels, 64 to 2048.
    blend : {'gaussian', 'none'}
        The window above, or ones.

    Returns
    -------
    weights : `numpy.ndarray`
        Dimensionless float32 weights of shape ``(tile_size,)``.

    Raises
    ------
    TypeError
        If ``tile_size`` is no integer.
    ValueError
        If ``tile_size`` is outside its range or ``blend`` is unknown.
    """
    _check_grid(tile_size, overlap=0)
    _check_blend(blend, overlap=0)
    if blend == 'none':
        return np.ones(tile_size, dtype=np.float32)
    distance = np.arange(tile_size) - (tile_size - 1) / 2
    two_variances = 2 * (tile_size / SIGMAS_PER_TILE) ** 2
    just_outside = np.exp(-(tile_size / 2) ** 2 / two_variances)
    return (np.exp(-distance ** 2 / two_variances) - just_outside).astype(np.float32)


def blend_tiles(shape, cut, predict, *, n_out, tile_size=256, overlap=0.25, blend='gaussian',
                batch_size=8, progress_bar=None):
    """
    Predict a frame tile by tile and blend the predictions (paper, section 3).

    Tiles are cut, predicted and summed in row-major order, so the result has the same bits for
    every ``batch_size`` if ``predict`` treats each tile alone.  Memory: the result and one batch.

    Parameters
    ----------
    shape : tuple of int
        Height H and width W of the frame in pixels.
    cut : callable
        ``cut(rows, cols)`` gives the network's input, ``(C, len(rows), len(cols))`` float32; the
        arguments are integer index arrays into the frame, mirrored at its borders.
    predict : callable
        ``predict(batch)`` takes ``(B, C, tile_size, tile_size)`` float32, B being ``batch_size`` or
        less, and gives ``(B, n_out, tile_size, tile_size)``.
    n_out : int
        Number of planes that ``predict`` gives.
    tile_size, overlap : int, float, optional
        As for `tile_starts`.
    blend : {'gaussian', 'none'}, optional
        Feather with `window`, or the paper's naive tiling (section 4.2), which needs overlap 0.
    batch_size : int, optional
        Tiles in one call of ``predict``.
    progress_bar : callable, optional
        Wraps the list of batches, for example `tqdm.tqdm`.

    Returns
    -------
    blended : `numpy.ndarray`
        Shape ``(n_out, H, W)``, float32, in the units of ``predict``.

    Raises
    ------
    TypeError
        If an integer argument is no integer.
    ValueError
        If an argument is outside its range, or ``cut`` or ``predict`` gives a wrong shape.
    """
    blender = Blender(shape, n_out=n_out, tile_size=tile_size, overlap=overlap, blend=blend)
    _check_count('batch_size', batch_size)
    tiles = blender.hand_out(shape[0])
    blender.reserve(tiles)
    batches = batched(tiles, batch_size)
    for corners in batches if progress_bar is None else progress_bar(batches):
        blender.add(corners, predict(blender.cut(corners, cut)))
    return blender.rows(0, shape[0])


def batched(tiles, batch_size):
    """
    Put tiles into batches.

    Parameters
    ----------
    tiles : list
        The tiles.
    batch_size : int
        Tiles in a batch; the last one may have less.

    Returns
    -------
    batches : list of list
        All tiles in their order.
    """
    return [tiles[i:i + batch_size] for i in range(0, len(tiles), batch_size)]


class Blender:
    """
    The tiles of a region of a frame from above to below, and what they predict.

    Only the rows between the first that are still wanted and the last tile's end are held, and a
    pixel is the sum of the same tiles in the same order whatever the region is: the same bits.

    Parameters
    ----------
    shape : tuple of int
        Height H and width W of the frame in pixels.
    n_out : int
        Number of planes that are predicted.
    tile_size, overlap : int, float, optional
        As for `tile_starts`.
    blend : {'gaussian', 'none'}, optional
        As for `blend_tiles`.
    columns : tuple of int, optional
        First column of the region and the one behind its last; all by default.
    first_row : int, optional
        First row of the region.

    Raises
    ------
    TypeError, ValueError
        As for `blend_tiles`.
    """

    def __init__(self, shape, *, n_out, tile_size=256, overlap=0.25, blend='gaussian', columns=None,
                 first_row=0):
        self._shape = height, width = _check_shape(shape)
        _check_grid(tile_size, overlap)
        _check_blend(blend, overlap)
        _check_count('n_out', n_out)
        weights = window(tile_size, blend)
        tops, self._row_weight = _lay_tiles(height, weights, overlap)
        lefts, self._column_weight = _lay_tiles(width, weights, overlap)
        self._tile_weight, self._size = np.outer(weights, weights), tile_size
        self._columns = (0, width) if columns is None else columns
        self._tops = [top for top in tops if top + tile_size > first_row]
        self._lefts = [left for left in lefts
                       if left < self._columns[1] and left + tile_size > self._columns[0]]
        self._first = first_row
        self._sums = np.zeros((n_out, 0, self._columns[1] - self._columns[0]), np.float32)

    def hand_out(self, stop):
        """
        Hand out the tiles that rows need.

        Parameters
        ----------
        stop : int
            The row behind the last that is wanted.

        Returns
        -------
        corners : list of tuple of int
            First row and column of each tile that was not handed out before, in row-major order;
            below 0 in the padding.
        """
        ready = [top for top in self._tops if top < stop]
        self._tops = self._tops[len(ready):]
        return [(top, left) for top in ready for left in self._lefts]

    def reserve(self, corners):
        """
        Make room for the sums of some tiles, before the first of them is added.

        Parameters
        ----------
        corners : list of tuple of int
            What `hand_out` gave.
        """
        stop = max((min(top + self._size, self._shape[0]) for top, _ in corners), default=0)
        n_out, held, width = self._sums.shape
        if stop > self._first + held:
            sums = np.zeros((n_out, stop - self._first, width), np.float32)
            sums[:, :held] = self._sums
            self._sums = sums

    def cut(self, corners, cut):
        """
        Cut some tiles; several threads may do so at once.

        Parameters
        ----------
        corners : list of tuple of int
            What `hand_out` gave; tiles that no pixel needs may be left out.
        cut : callable
            As for `blend_tiles`.

        Returns
        -------
        batch : `numpy.ndarray`, (B, C, tile_size, tile_size), float32
            One tile for each corner.

        Raises
        ------
        ValueError
            If ``cut`` gives a wrong shape.
        """
        size, shape = self._size, self._shape
        batch = None
        for i, (top, left) in enumerate(corners):
            tile = np.asarray(cut(_mirrored(top, size, shape[0]), _mirrored(left, size, shape[1])))
            if batch is None:
                n_in = len(tile) if tile.ndim == 3 else 1
                _check_array('cut', tile, (n_in, size, size))
                batch = np.empty((len(corners), *tile.shape), dtype=np.float32)
            _check_array('cut', tile, batch.shape[1:])
            batch[i] = tile
        return batch

    def add(self, corners, predicted):
        """
        Add the predictions of some tiles to the sums.

        Parameters
        ----------
        corners : list of tuple of int
            The tiles, in the order of `hand_out`.
        predicted : `numpy.ndarray`, (B, n_out, tile_size, tile_size)
            One prediction for each.

        Raises
        ------
        ValueError
            If it has a wrong shape.
        """
        predicted = np.asarray(predicted)
        expected = (len(corners), len(self._sums), self._size, self._size)
        _check_array('predict', predicted, expected)
        for (top, left), prediction in zip(corners, predicted, strict=True):
            corner = top - self._first, left - self._columns[0]
            _add_tile(self._sums, prediction, self._tile_weight, *corner)

    def rows(self, first, stop, *, keep=None):
        """
        Give finished rows.

        Parameters
        ----------
        first, stop : int
            The first row and the one behind the last; all tiles that `hand_out` names for them must
            have been added.
        keep : int, optional
            Row from which on all are wanted again later; the others are forgotten.

        Returns
        -------
        blended : `numpy.ndarray`
            Shape ``(n_out, stop - first, columns of the region)``, float32, in the units of
            ``predict``.
        """
        column_weight = self._column_weight[slice(*self._columns)]
        start = self._first
        if keep is None:
            blended, self._sums = self._sums[:, first - start:stop - start], None
        else:
            blended = self._sums[:, first - start:stop - start].copy()
            self._sums, self._first = self._sums[:, keep - start:], keep
        for y, weight in enumerate(self._row_weight[first:stop]):  # no weight map of that size
            blended[:, y] /= weight * column_weight
        return blended


def _lay_tiles(n, weights, overlap):
    """First pixel of each tile in the frame (below 0 in the padding), and the windows' sum."""
    starts, pad, padded_length = tile_starts(n, len(weights), overlap)
    total = np.zeros(padded_length)
    for start in starts:
        total[start:start + len(weights)] += weights
    return [int(start) - pad for start in starts], total[pad:pad + n]


def _mirrored(start, size, n):
    """Mirror the indices of ``size`` pixels from ``start`` on into an axis of ``n`` pixels."""
    period = max(1, 2 * (n - 1))  # there and back without repeating the edges
    position = np.arange(start, start + size) % period
    return np.minimum(position, period - position)


def _add_tile(sums, prediction, tile_weight, top, left):
    """Add the part of a weighted prediction that lies in the region."""
    size = len(tile_weight)
    height, width = sums.shape[1:]
    rows = slice(max(top, 0), max(min(top + size, height), 0))
    cols = slice(max(left, 0), max(min(left + size, width), 0))
    inside = (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))
    sums[:, rows, cols] += prediction[:, *inside] * tile_weight[inside]


def _check_shape(shape):
    if len(shape) != 2:
        msg = f'shape={tuple(shape)} has {len(shape)} axes; give the height and width of the frame.'
        raise ValueError(msg)
    return shape


def _check_count(name, value):
    if index(value) < 1:
        msg = f'{name} was given as {value}; give a whole number of at least 1.'
        raise ValueError(msg)


def _check_grid(tile_size, overlap):
    if not MIN_TILE <= index(tile_size) <= MAX_TILE:
        msg = f'tile_size={tile_size} is not possible; give {MIN_TILE} to {MAX_TILE} pixels.'
        raise ValueError(msg)
    if not 0 <= overlap <= MAX_OVERLAP:
        msg = (f'overlap={overlap} is not possible; give the fraction of a tile that the next one '
               f'covers again, 0 to {MAX_OVERLAP} (0.25 is usual).')
        raise ValueError(msg)


def _check_blend(blend, overlap):
    if blend not in BLENDS:
        msg = f'blend={blend!r} is unknown; give one of {BLENDS}.'
        raise ValueError(msg)
    if blend == 'none' and overlap != 0:
        msg = (f"blend='none' puts tiles side by side but was given overlap={overlap}; "
               "give overlap=0, or blend='gaussian' to feather the overlap.")
        raise ValueError(msg)


def _check_array(name, array, expected):
    if array.shape != expected:
        msg = f'{name} gave an array of shape {array.shape}; expected {expected}.'
        raise ValueError(msg)
