# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise of a plane, measured from its pixels.

Robust against stars, nebulosity and gradients: the finest scale of the noise is read where no
source is detected, and the calmest part of the frame says what that scale leaves out.
"""

import numpy as np
from scipy import ndimage

from astrodenoise.background import local_level
from astrodenoise.cells import (
    MEDIAN_TO_SIGMA,
    N_SIGMA_CLIP,
    cell_statistic,
    fill_cells,
    make_cells,
    median_sigma,
)
from astrodenoise.correlation import total_noise
from astrodenoise.noisemodel import MAP_BLOCK, PlaneNoise

__all__ = ['fine_scale_sigma', 'measure_plane']

MIN_PIXELS = 1024  # fewer valid pixels than this cannot tell their noise
N_SIGMA_MASK = 4.0  # sources above this are left out, on 3x3 means
MAP_STEP = 1.5  # neighbours that differ by more than this may have a hard edge between them
CALM_SHARE = 0.3  # of the cells, the calmest, tell the total rms and the correlation


def _quantisation_step(data, valid, integer):
    """Greatest common step of whole-numbered data, 0 when there is none."""
    sample = data[::7, ::3][valid[::7, ::3]]
    if sample.size < 64:
        sample = data[valid]
    if not integer and not np.array_equal(sample, np.round(sample)):
        return 0.0
    if sample.size == 0 or np.abs(sample).max() > 2**53:
        return 0.0
    steps = (sample.astype(np.float64) - float(sample.min())).astype(np.int64)
    return float(np.gcd.reduce(steps))


def _fine_scale(values):
    """Apply the 3x3 kernel that no plane passes; white noise keeps its rms (H - 2, W - 2)."""
    across = values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
    return (across[2:] - 2 * across[1:-1] + across[:-2]) / 6


def fine_scale_sigma(plane):
    """
    Rms of a plane's finest scale: its noise, and what structure there is at the scale of a pixel.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W), float
        Every value finite.

    Returns
    -------
    sigma : float
        In the unit of the data, as for white noise.
    """
    return float(median_sigma(_fine_scale(plane).ravel()))


def _inner(valid):
    """Whether the whole 3x3 neighbourhood of each inner pixel is valid."""
    if valid.all():
        return valid[1:-1, 1:-1]
    return ndimage.minimum_filter(valid, size=3)[1:-1, 1:-1]


def _lower_spread(values):
    """Distance from the median down to the 16 % quantile."""
    low, middle = int(0.1587 * values.size), values.size // 2
    parts = np.partition(values, (low, middle))
    return parts[middle] - parts[low]


def _spread_cells(cells, statistic, shape):
    """Give each pixel its cell's number."""
    result = np.empty(shape, np.float32)
    for line, numbers in zip(cells, statistic, strict=True):
        for cell, number in zip(line, numbers, strict=True):
            result[cell] = number
    return result


def _source_mask(contrast, good, cells, fine_sigma):
    """Pixels in sources: 3x3 means far above what the cell's own noise makes."""
    smooth = ndimage.uniform_filter(contrast, 3, mode='nearest')
    spread = cell_statistic(cells, smooth, good, _lower_spread)
    # one ratio of smoothed to fine noise for the frame: that of its calmer cells
    known = np.isfinite(spread) & (fine_sigma > 0)
    ratio = np.quantile(spread[known] / fine_sigma[known], 0.25) if known.any() else 1 / 3
    threshold = _spread_cells(cells, N_SIGMA_MASK * ratio * fine_sigma, contrast.shape)
    sources = np.abs(smooth) > threshold
    return ndimage.maximum_filter(sources, size=5, mode='nearest')


def _fit_law(levels, sigmas):
    """
    Law of the signal level from the cells' levels and fine sigmas.

    Returns the levels, the variances there and the slope above the last one, all in the units of
    the input, or a single level when the noise does not follow the signal.
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


def _noise_map(ratio, shape, fine):
    """
    Relative noise over the field in blocks of 8 px from the cells' ratios.

    Scatter that is no more than the estimator's own counts as even.  Where neighbouring cells
    differ by much the map steps where the noise itself does.
    """
    smooth = _median_cells(ratio)
    pixels = np.prod(shape) / ratio.size
    own_scatter = 2.2 / np.sqrt(pixels)
    median = np.median(smooth)
    spread = MEDIAN_TO_SIGMA * np.median(np.abs(smooth / median - 1))
    extremes = np.quantile(smooth, [0.02, 0.98]) / median
    if spread < 1.3 * own_scatter and extremes[0] > 0.93 and extremes[1] < 1.07:
        return [[1.0]], median
    blocks = tuple(-(-n // MAP_BLOCK) for n in shape)
    grid = _resize(smooth, blocks)
    low = ndimage.minimum_filter(smooth, size=3, mode='nearest')
    high = ndimage.maximum_filter(smooth, size=3, mode='nearest')
    steep = high > MAP_STEP * low
    if steep.any():
        low, high, steep = (_nearest(a, blocks) for a in (low, high, steep))
        choices = np.stack([grid, low, high])
        local = np.maximum(_local_fine_sigma(fine, blocks), 1e-3)
        nearest = np.argmin(np.abs(np.log(choices / local)), axis=0)
        chosen = np.take_along_axis(choices, nearest[None], axis=0)[0]
        grid = np.where(steep, chosen, grid)
    return (grid / median).tolist(), median


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


def _resize(cells, blocks):
    """Bilinear values of cells at the centres of blocks, with the slope kept at the border."""
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


def _profile(unit, good, axis):
    """Mean of each row (axis 1) or column (axis 0) in sigma, held back where few pixels count."""
    count = good.sum(axis=axis)
    total = np.where(good, unit, 0).sum(axis=axis, dtype=np.float64)
    return total / (count + 0.05 * good.shape[axis] + 1)


def _sky(levels, sigma):
    """Level of the sky from the cells' levels: the clipped lower half."""
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


def _power_of_two(contrast, valid):
    """Power of two near the spread of the contrasts, 0 when there is none."""
    sample = np.abs(contrast[::3, ::3][valid[::3, ::3]])
    if sample.size < 64:
        sample = np.abs(contrast[valid])
    spread = float(np.median(sample)) or float(np.mean(sample))
    if spread == 0 or not np.isfinite(spread):
        return 0.0
    return float(2.0 ** np.round(np.log2(spread)))


def _dither(contrast, step):
    """Spread whole-numbered data over their steps: medians of integers come in steps of 1.5."""
    if step < 0.05:
        return contrast, 0.0
    rng = np.random.default_rng(contrast.size)
    noise = rng.random(contrast.shape, dtype=np.float32) - np.float32(0.5)
    return contrast + noise * np.float32(step), step / np.sqrt(12)


def _calm_pixels(good, cells, above, fine_sigma):
    """Good pixels of the calmest cells (few sources, an even level) and how calm they are."""
    source_share = 1 - cell_statistic(cells, good, np.ones_like(good), np.mean)
    spread = cell_statistic(cells, above, good, np.std)
    known = np.isfinite(spread) & (fine_sigma > 0)
    unrest = np.full(spread.shape, np.inf)
    unrest[known] = spread[known] / fine_sigma[known] + 2 * source_share[known]
    n_calm = max(int(np.ceil(CALM_SHARE * unrest.size)), min(4, unrest.size))
    limit = np.partition(unrest.ravel(), n_calm - 1)[n_calm - 1]
    calm = np.zeros_like(good)
    for line, numbers in zip(cells, unrest <= limit, strict=True):
        for cell, chosen in zip(line, numbers, strict=True):
            if chosen:
                calm[cell] = good[cell]
    return calm, float(np.median(unrest[unrest <= limit]))


def measure_plane(data, valid, *, integer=False, level=None):
    """
    Measure the noise of one plane.

    A 3x3 kernel that no plane passes gives the noise's finest scale in cells of 64 px with
    detected sources left out; the law of the signal level and the map are fitted to that; the
    calmest cells say by how much the rms of a pixel exceeds its finest scale, and how the noise
    is correlated.  Statistics run in float64 on data brought to order one by a power of two.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W), float
        One plane.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    integer : bool, optional
        Whether the data came as integers.
    level : `astrodenoise.background.LocalLevel`, optional
        The plane's local level when it is known already.

    Returns
    -------
    noise : `PlaneNoise`
        With ``sigma`` 0 when no noise can be seen.

    Raises
    ------
    ValueError
        If fewer than 1024 pixels are valid, or the plane is smaller than 8 px on a side.
    """
    n_valid = int(np.count_nonzero(valid))
    if n_valid < MIN_PIXELS or min(data.shape) < 8:
        msg = (
            f'{n_valid} valid pixels in a plane of shape {data.shape} are too few to measure '
            f'their noise ({MIN_PIXELS} are needed, 8 px on a side): pass noise= with the sigma '
            'of a pixel'
        )
        raise ValueError(msg)
    shape = data.shape
    step = _quantisation_step(data, valid, integer)
    if level is None:
        level = local_level(data, valid)
    background = level.fine_whole()
    contrast = np.where(valid, data - background, 0)
    scale = _power_of_two(contrast, valid)
    if scale == 0:
        return PlaneNoise(shape, _sky(level.fine + level.plane[0], 0), 0.0, step=step)
    contrast = (contrast / scale).astype(np.float32)
    dithered, dither = _dither(contrast, step / scale)

    good = _inner(valid)
    fine = _fine_scale(dithered)
    cells = make_cells(fine.shape)
    fine_sigma = fill_cells(cell_statistic(cells, fine, good, median_sigma))
    inner = contrast[1:-1, 1:-1]
    good = good & ~_source_mask(inner, good, cells, fine_sigma)
    fine_sigma = cell_statistic(cells, fine, good, median_sigma)
    fine_sigma = np.sqrt(np.maximum(fine_sigma**2 - dither**2, 0))
    known = fine_sigma > 0
    if not known.any():
        return PlaneNoise(shape, _sky(level.fine + level.plane[0], 0), 0.0, step=step)

    above = ((background - level.plane[0]) / scale)[1:-1, 1:-1]
    levels = cell_statistic(cells, above, good, np.mean)
    knots, law, slope = _fit_law(levels[known], fine_sigma[known])
    expected = np.sqrt(np.interp(levels, knots, law))
    ratio_map = fill_cells(np.where(known, fine_sigma, np.nan) / expected)
    relative = fine / np.sqrt(np.interp(above, knots, law) if len(law) > 1 else law[0])
    grid, median_ratio = _noise_map(ratio_map, fine.shape, relative)

    shaped = PlaneNoise(
        shape,
        0.0,
        float(median_ratio * np.sqrt(law[0])),
        levels=knots,
        law=[value / law[0] for value in law],
        slope=slope / law[0],
        grid=grid,
    )
    unit = inner / shaped.sigma_at(np.pad(above, 1, mode='edge'))[1:-1, 1:-1]
    calm, unrest = _calm_pixels(good, cells, above, fine_sigma)
    ratio, correlation = total_noise(unit, calm, cells, unrest)
    unit = np.clip(unit / ratio, -N_SIGMA_CLIP, N_SIGMA_CLIP)

    sky = _sky(levels, float(np.nanmedian(fine_sigma)))
    at_sky = float(np.interp(sky, knots, law))
    sigma_sky = median_ratio * ratio * np.sqrt(at_sky)
    if sigma_sky * scale < 2 * np.spacing(np.abs(data[valid]).max()):
        sigma_sky = 0.0  # the rounding of the data's own type is no noise
    rows, columns = _profile(unit, good, 1), _profile(unit, good, 0)
    return PlaneNoise(
        shape=tuple(int(n) for n in shape),
        sky=float(sky * scale + level.plane[0]),
        sigma=float(sigma_sky * scale),
        levels=[float(v * scale + level.plane[0]) for v in knots],
        law=[float(v / at_sky) for v in law],
        slope=float(slope / at_sky / scale),
        grid=grid,
        correlation=correlation,
        ratio=float(ratio),
        rows=np.pad(rows, 1, mode='edge').tolist(),
        columns=np.pad(columns, 1, mode='edge').tolist(),
        step=step,
    )
