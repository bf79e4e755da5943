# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise of a plane, measured from its pixels.

Robust against stars, nebulosity and gradients: the finest scale of the noise is read where no
source is detected, and the calmest part of the frame says what that scale leaves out.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from astrodenoise.background import local_level
from astrodenoise.cells import (
    N_SIGMA_CLIP,
    cell_statistic,
    fill_cells,
    make_cells,
    median_sigma,
)
from astrodenoise.correlation import total_noise
from astrodenoise.noisemap import fit_law, noise_map, sky_of_cells
from astrodenoise.noisemodel import MAP_BLOCK, PlaneNoise

__all__ = ['Cells', 'check_size', 'fine_scale_sigma', 'measure_cells', 'measure_plane', 'visible']

MIN_PIXELS = 1024  # fewer valid pixels than this cannot tell their noise
N_SIGMA_MASK = 4.0  # sources above this are left out, on 3x3 means
FARTHEST = 1e9  # of the usual contrast: what a broken pixel shows; squares stay in float32
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
    # neighbours share most of their means, so that every other one of each line will do
    spread = cell_statistic(cells, smooth, good, _lower_spread, step=2)
    # one ratio of smoothed to fine noise for the frame: that of its calmer cells
    known = np.isfinite(spread) & (fine_sigma > 0)
    ratio = np.quantile(spread[known] / fine_sigma[known], 0.25) if known.any() else 1 / 3
    threshold = _spread_cells(cells, N_SIGMA_MASK * ratio * fine_sigma, contrast.shape)
    sources = np.abs(smooth) > threshold
    return ndimage.maximum_filter(sources, size=5, mode='nearest')


def _profile(unit, good, axis):
    """Mean of each row (axis 1) or column (axis 0) in sigma, held back where few pixels count."""
    count = good.sum(axis=axis)
    total = np.where(good, unit, 0).sum(axis=axis, dtype=np.float64)
    return total / (count + 0.05 * good.shape[axis] + 1)


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
    spread = cell_statistic(cells, above, good, np.std, step=4)
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


@dataclass(frozen=True, eq=False)
class Cells:
    """
    What the cells of a plane showed of its noise.

    Attributes
    ----------
    levels, sigmas : `numpy.ndarray`, (rows, columns)
        Level and finest noise of each cell in the unit of the data; NaN or 0 where unknown.
    unrest : float
        How much the level varies in the calm cells, in units of the noise.
    block_levels : `numpy.ndarray` or None
        Level at each block of the noise map where that has hard edges.
    largest : float
        Absolute value that hardly a pixel exceeds.
    """

    levels: np.ndarray
    sigmas: np.ndarray
    unrest: float
    block_levels: np.ndarray | None
    largest: float


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
    check_size(int(np.count_nonzero(valid)), data.shape)
    return measure_cells(data, valid, integer=integer, level=level)[0]


def check_size(n_valid, shape):
    """
    Raise where there are too few pixels to measure their noise.

    Parameters
    ----------
    n_valid : int
        Valid pixels of a plane.
    shape : tuple of int
        Its shape.

    Raises
    ------
    ValueError
        If fewer than 1024 pixels are valid, or the plane is smaller than 8 px on a side.
    """
    if n_valid < MIN_PIXELS or min(shape) < 8:
        msg = (
            f'{n_valid} valid pixels in a plane of shape {tuple(shape)} are too few to measure '
            f'their noise ({MIN_PIXELS} are needed, 8 px on a side; masked, saturated and empty '
            'ones do not count): pass noise= (--noise) with the sigma of a pixel'
        )
        raise ValueError(msg)


def measure_cells(data, valid, *, integer=False, level=None):
    """
    Measure the noise of one plane, or a panel of one, and tell what its cells showed.

    Parameters
    ----------
    data, valid : `numpy.ndarray`
        As for `measure_plane`.
    integer, level : bool, `astrodenoise.background.LocalLevel`, optional
        As for `measure_plane`.

    Returns
    -------
    noise : `PlaneNoise`
        With ``sigma`` 0 when no noise can be seen.
    cells : `Cells` or None
        None when no noise can be seen.
    """
    shape = data.shape
    step = _quantisation_step(data, valid, integer)
    if level is None:
        level = local_level(data, valid)
    background = level.fine_whole()

    def nothing():
        sky = sky_of_cells(level.fine + level.plane[0], 0)
        return PlaneNoise(shape, sky, 0.0, step=step), None

    contrast = np.where(valid, data - background, 0)
    scale = _power_of_two(contrast, valid)
    if scale == 0:
        return nothing()
    contrast = np.clip(contrast / scale, -FARTHEST, FARTHEST).astype(np.float32)
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
        return nothing()

    above = ((background - level.plane[0]) / scale)[1:-1, 1:-1]
    levels = cell_statistic(cells, above, good, np.mean)
    knots, law, slope = fit_law(levels[known], fine_sigma[known])
    expected = np.sqrt(np.interp(levels, knots, law))
    ratio_map = fill_cells(np.where(known, fine_sigma, np.nan) / expected)
    grid, median_ratio, steps = noise_map(
        ratio_map,
        fine.shape,
        lambda: fine / np.sqrt(np.interp(above, knots, law) if len(law) > 1 else law[0]),
    )

    shaped = PlaneNoise(
        shape,
        0.0,
        float(median_ratio * np.sqrt(law[0])),
        levels=knots,
        law=[value / law[0] for value in law],
        slope=slope / law[0],
        grid=grid,
    )
    unit = inner / shaped.part(*(slice(1, n - 1) for n in shape)).sigma_at(above)
    calm, unrest = _calm_pixels(good, cells, above, fine_sigma)
    ratio, correlation = total_noise(unit, calm, cells, unrest)
    if ratio == 0:
        return nothing()
    unit = np.clip(unit / ratio, -N_SIGMA_CLIP, N_SIGMA_CLIP)

    sky = sky_of_cells(levels, float(np.nanmedian(fine_sigma)))
    at_sky = float(np.interp(sky, knots, law))
    largest = _usual_largest(data, valid)
    sigma_sky = visible(median_ratio * ratio * np.sqrt(at_sky) * scale, data.dtype, largest)
    rows, columns = _profile(unit, good, 1), _profile(unit, good, 0)
    noise = PlaneNoise(
        shape=tuple(int(n) for n in shape),
        sky=float(sky * scale + level.plane[0]),
        sigma=sigma_sky,
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
    block_levels = None
    if steps:
        at = (np.minimum(np.arange(MAP_BLOCK // 2, n + MAP_BLOCK, MAP_BLOCK), n - 1) for n in shape)
        block_levels = level.fine_at(*at)[: len(grid), : len(grid[0])]
    return noise, Cells(
        levels * scale + level.plane[0], fine_sigma * scale, unrest, block_levels, largest
    )


def _usual_largest(data, valid):
    """Absolute value that one pixel in a hundred exceeds: a hot one tells no rounding."""
    sample = np.abs(data[::3, ::3][valid[::3, ::3]])
    if sample.size < 64:
        sample = np.abs(data[valid])
    place = min(int(0.99 * sample.size), sample.size - 1)
    return float(np.partition(sample, place)[place])


def visible(sigma, dtype, largest):
    """
    Take the rounding of the data's own type for no noise.

    Parameters
    ----------
    sigma : float
        Measured noise.
    dtype : `numpy.dtype`
        Of the data.
    largest : float
        Absolute value that hardly a pixel exceeds.

    Returns
    -------
    sigma : float
        0 where it is no more than the rounding.
    """
    return 0.0 if sigma < 2 * np.spacing(dtype.type(largest)) else float(sigma)
