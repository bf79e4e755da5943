# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""From cells to a plane: the law of the signal level, the map of the noise, and the sky."""

import numpy as np
from scipy import ndimage

from astrodenoise.cells import MEDIAN_TO_SIGMA
from astrodenoise.noisemodel import MAP_BLOCK

__all__ = ['even_map', 'fit_law', 'noise_map', 'resize_cells', 'sky_of_cells']

MAP_STEP = 1.5  # neighbours that differ by more than this may have a hard edge between them


def fit_law(levels, sigmas):
    """
    Fit the law of the signal level.

    Parameters
    ----------
    levels, sigmas : `numpy.ndarray`, (n,)
        Level and finest noise of cells.

    Returns
    -------
    knots, law : list of float
        Levels, and the variances there; a single one when the noise does not follow the signal.
    slope : float
        Of the variance above the last level.
    """
    variance = sigmas**2
    flat = [float(np.median(levels))], [float(np.median(variance))], 0.0
    if levels.size < 12:
        return flat
    order = np.argsort(levels)
    x, y = levels[order], variance[order]
    n_bins = int(min(12, x.size // 6))
    bins_x = np.array([np.median(part) for part in np.array_split(x, n_bins)])
    bins_y = np.array([np.median(part) for part in np.array_split(y, n_bins)])
    reach = bins_x[-1] - bins_x[0]
    if reach < 2 * np.sqrt(np.median(y)):
        return flat
    centre = bins_x.mean()  # far from 0 a fit about 0 is badly conditioned
    slope, middle = np.polyfit(bins_x - centre, bins_y, 1)
    scatter = MEDIAN_TO_SIGMA * np.median(np.abs(y - np.interp(x, bins_x, bins_y)))
    error = scatter / np.sqrt(x.size) / max(np.std(x), 1e-300)
    if abs(slope) < 5 * error or abs(slope) * reach < 0.08 * np.median(y):
        return flat
    line = middle + slope * (bins_x - centre)
    bent = np.abs(bins_y - line) > 4 * scatter / np.sqrt(x.size / n_bins) + 0.05 * line
    if bent.any() or line.min() <= 0:
        rising = slope > 0
        smooth = np.maximum.accumulate(bins_y) if rising else np.minimum.accumulate(bins_y)
    else:
        smooth = line
    keep = np.concatenate([[True], np.diff(bins_x) > 0])
    return bins_x[keep].tolist(), smooth[keep].tolist(), max(float(slope), 0.0)


def even_map(ratio, shape):
    """
    Smooth the ratios of cells, and tell whether they are the same all over.

    Parameters
    ----------
    ratio : `numpy.ndarray`, (rows, columns)
        Noise of each cell over what the law gives.
    shape : tuple of int
        Of the plane in pixels.

    Returns
    -------
    smooth : `numpy.ndarray`, (rows, columns)
        Medians of 3 x 3 cells.
    median : float
        Of these.
    even : bool
        Whether their scatter is no more than the estimator's own.
    """
    smooth = _median_cells(ratio)
    pixels = np.prod(shape) / ratio.size
    own_scatter = 2.2 / np.sqrt(pixels)
    median = np.median(smooth)
    spread = MEDIAN_TO_SIGMA * np.median(np.abs(smooth / median - 1))
    extremes = np.quantile(smooth, [0.02, 0.98]) / median
    even = spread < 1.3 * own_scatter and extremes[0] > 0.93 and extremes[1] < 1.07
    return smooth, median, even


def noise_map(ratio, shape, fine):
    """
    Make the map of relative noise over the field from the ratios of cells.

    Where neighbouring cells differ by much the map steps where the noise itself does.

    Parameters
    ----------
    ratio : `numpy.ndarray`, (rows, columns)
        Noise of each cell over what the law gives.
    shape : tuple of int
        Of the plane in pixels.
    fine : callable
        Gives its finest scale over what the law gives, (H, W).

    Returns
    -------
    grid : list of list of float
        Relative noise in blocks of 8 px; [[1.0]] when even.
    median : float
        Median of the ratios.
    steps : bool
        Whether there are hard edges.
    """
    smooth, median, even = even_map(ratio, shape)
    if even:
        return [[1.0]], median, False
    blocks = tuple(-(-n // MAP_BLOCK) for n in shape)
    grid = resize_cells(smooth, blocks)
    low = ndimage.minimum_filter(smooth, size=3, mode='nearest')
    high = ndimage.maximum_filter(smooth, size=3, mode='nearest')
    steep = high > MAP_STEP * low
    steps = bool(steep.any())
    if steps:
        low, high, steep = (_nearest(a, blocks) for a in (low, high, steep))
        choices = np.stack([grid, low, high])
        local = np.maximum(_local_fine_sigma(fine(), blocks), 1e-3)
        nearest = np.argmin(np.abs(np.log(choices / local)), axis=0)
        chosen = np.take_along_axis(choices, nearest[None], axis=0)[0]
        grid = np.where(steep, chosen, grid)
    return (grid / median).tolist(), median, steps


def _extend(cells):
    """One more cell on each side that goes on with the slope at the border."""
    if min(cells.shape) < 2:
        return np.pad(cells, 1, mode='edge')
    outer = np.pad(cells, 1, mode='reflect', reflect_type='odd')
    edge = np.pad(cells, 1, mode='edge')
    return np.clip(outer, 0.7 * edge, 1.4 * edge)


def _median_cells(cells):
    """Median of 3x3 cells that keeps a slope up to the border."""
    if min(cells.shape) < 3:
        return cells
    return ndimage.median_filter(_extend(cells), size=3, mode='nearest')[1:-1, 1:-1]


def resize_cells(cells, blocks):
    """
    Interpolate cells at the centres of blocks, with the slope kept at the border.

    Parameters
    ----------
    cells : `numpy.ndarray`, (rows, columns)
        One value per cell.
    blocks : tuple of int
        Numbers of blocks down and across.

    Returns
    -------
    grid : `numpy.ndarray`, of shape ``blocks``
        Bilinear values.
    """
    at = [
        (np.arange(n) + 0.5) * m / n + 0.5 for n, m in zip(blocks, cells.shape, strict=True)
    ]
    grid = np.meshgrid(*at, indexing='ij')
    return ndimage.map_coordinates(_extend(cells), grid, order=1, mode='nearest')


def _nearest(cells, blocks):
    """Values of the cells in which blocks lie."""
    index = [
        np.minimum((np.arange(n) + 0.5) * m // n, m - 1).astype(int)
        for n, m in zip(blocks, cells.shape, strict=True)
    ]
    return cells[np.ix_(*index)]


def _local_fine_sigma(fine, blocks):
    """Fine sigma, relative to the law, around each block of 8 px from 24 px."""
    pad = [(1, 1 + n * MAP_BLOCK - m - 2) for n, m in zip(blocks, fine.shape, strict=True)]
    padded = np.pad(np.minimum(np.abs(fine), 1e3), pad, mode='reflect')
    shaped = padded.reshape(blocks[0], MAP_BLOCK, blocks[1], MAP_BLOCK)
    medians = np.median(shaped.transpose(0, 2, 1, 3).reshape(*blocks, -1), axis=-1)
    return MEDIAN_TO_SIGMA * ndimage.median_filter(medians, size=3, mode='nearest')


def sky_of_cells(levels, sigma):
    """
    Find the level of the sky: the clipped lower part of the cells' levels.

    Parameters
    ----------
    levels : `numpy.ndarray`
        Of the cells; NaN where unknown.
    sigma : float
        Their noise, in the same unit.

    Returns
    -------
    sky : float
        In the same unit.
    """
    values = np.sort(levels[np.isfinite(levels)])
    values = values[: max(1, int(np.ceil(0.7 * values.size)))]
    for _ in range(10):
        middle = np.median(values)
        spread = max(MEDIAN_TO_SIGMA * np.median(np.abs(values - middle)), 0.02 * sigma)
        kept = values[np.abs(values - middle) <= 2.5 * spread]
        if kept.size == values.size or kept.size == 0:
            break
        values = kept
    return float(np.median(values))
