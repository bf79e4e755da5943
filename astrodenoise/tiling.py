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

from operator import index

import numpy as np

__all__ = ['blend_tiles', 'n_tiles', 'tile_starts', 'window']

BLENDS = ('gaussian', 'none')
MAX_OVERLAP = 0.75
MIN_TILE, MAX_TILE = 64, 2048
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


def n_tiles(shape, tile_size, overlap):
    """
    Count the tiles of a frame, without the copies that fill up a last batch.

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
        ``predict(batch)`` takes ``(batch_size, C, tile_size, tile_size)`` float32 and gives
        ``(batch_size, n_out, tile_size, tile_size)``.  The next call gets the same array, filled
        anew.  The last batch is filled up with copies of its last tile.
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
    height, width = _check_shape(shape)
    _check_grid(tile_size, overlap)
    _check_blend(blend, overlap)
    _check_count('n_out', n_out)
    _check_count('batch_size', batch_size)
    weights = window(tile_size, blend)
    tops, row_weight = _lay_tiles(height, weights, overlap)
    lefts, col_weight = _lay_tiles(width, weights, overlap)
    tiles = [(top, left) for top in tops for left in lefts]
    batches = [tiles[i:i + batch_size] for i in range(0, len(tiles), batch_size)]

    accumulator = np.zeros((n_out, height, width), dtype=np.float32)
    tile_weight = np.outer(weights, weights)
    batch = None
    for corners in batches if progress_bar is None else progress_bar(batches):
        batch = _fill_batch(batch, corners, cut, shape, tile_size, batch_size)
        predicted = np.asarray(predict(batch))
        _check_array('predict', predicted, (batch_size, n_out, tile_size, tile_size))
        for corner, prediction in zip(corners, predicted, strict=False):  # drops the surplus
            _add_tile(accumulator, prediction, tile_weight, *corner)
    for y, weight in enumerate(row_weight):  # row by row: no weight map of the frame's size
        accumulator[:, y] /= weight * col_weight
    return accumulator


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


def _fill_batch(batch, corners, cut, shape, tile_size, batch_size):
    """Cut tiles into ``batch`` (made at the first call) and fill it up with the last one."""
    for i, (top, left) in enumerate(corners):
        tile = np.asarray(cut(_mirrored(top, tile_size, shape[0]),
                              _mirrored(left, tile_size, shape[1])))
        if batch is None:
            n_in = len(tile) if tile.ndim == 3 else 1
            _check_array('cut', tile, (n_in, tile_size, tile_size))
            batch = np.empty((batch_size, *tile.shape), dtype=np.float32)
        _check_array('cut', tile, batch.shape[1:])
        batch[i] = tile
    batch[len(corners):] = batch[len(corners) - 1]
    return batch


def _add_tile(accumulator, prediction, tile_weight, top, left):
    """Add the part of a weighted prediction that lies in the frame."""
    size = len(tile_weight)
    height, width = accumulator.shape[1:]
    rows = slice(max(top, 0), min(top + size, height))
    cols = slice(max(left, 0), min(left + size, width))
    inside = (slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left))
    accumulator[:, rows, cols] += prediction[:, *inside] * tile_weight[inside]


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
