# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise of a large plane from panels that are measured one by one.

Each panel is measured as a frame of its own; here their cells are laid side by side, and the law,
the map and the sky are those of all cells.  The calmest panels tell how the noise is correlated.
"""

from dataclasses import dataclass

import numpy as np

from astrodenoise.cells import fill_cells
from astrodenoise.estimate import CALM_SHARE, measure_cells, visible
from astrodenoise.noisemap import even_map, fit_law, resize_cells, sky_of_cells
from astrodenoise.noisemodel import MAP_BLOCK, PlaneNoise

__all__ = ['Panel', 'measure_panel', 'merge_panels']

FEWEST = 64  # valid pixels of a panel, below which it tells nothing


@dataclass(frozen=True, eq=False)
class Panel:
    """
    What a panel of a plane showed.

    Attributes
    ----------
    rows, cols : slice
        Where it lies.
    noise : `astrodenoise.noisemodel.PlaneNoise`
        Its own noise.
    cells : `astrodenoise.estimate.Cells` or None
        None where no noise can be seen.
    n_valid : int
        Its valid pixels.
    """

    rows: slice
    cols: slice
    noise: PlaneNoise
    cells: object
    n_valid: int


def measure_panel(rows, cols, data, valid, level, *, integer=False):
    """
    Measure the noise of one panel.

    Parameters
    ----------
    rows, cols : slice
        Where it lies in the plane.
    data : `numpy.ndarray`, (H, W), float
        Its pixels.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    level : `astrodenoise.background.LocalLevel`
        The panel's local level.
    integer : bool, optional
        Whether the data came as integers.

    Returns
    -------
    panel : `Panel`
        What `merge_panels` takes.
    """
    n_valid = int(np.count_nonzero(valid))
    noise, cells = PlaneNoise(data.shape, level.plane[0], 0.0), None
    if n_valid >= FEWEST:
        noise, cells = measure_cells(data, valid, integer=integer, level=level)
    return Panel(rows, cols, noise, cells, n_valid)


def merge_panels(panels, shape, dtype):
    """
    Make one noise of those of all panels.

    Parameters
    ----------
    panels : list of list of `Panel`
        Rows of panels that cover the plane.
    shape : tuple of int
        Of the plane.
    dtype : `numpy.dtype`
        Of its pixels.

    Returns
    -------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        With ``sigma`` 0 when no noise can be seen.
    """
    seen = [panel for row in panels for panel in row if panel.cells is not None]
    step = _common_step(panels)
    if not seen:
        sky = float(np.median([panel.noise.sky for row in panels for panel in row]))
        return PlaneNoise(tuple(shape), sky, 0.0, step=step)
    base, scale = seen[0].noise.sky, seen[0].noise.sigma or 1.0
    levels = (_lay(panels, 'levels') - base) / scale
    sigmas = _lay(panels, 'sigmas') / scale
    known = sigmas > 0
    knots, law, slope = fit_law(levels[known], sigmas[known])
    ratios = fill_cells(np.where(known, sigmas, np.nan) / np.sqrt(np.interp(levels, knots, law)))
    grid, median_ratio = _map(panels, ratios, shape, (base, scale, knots, law))
    calm = _calmest(seen)
    ratio = float(np.median([panel.noise.ratio for panel in calm]))
    sky = sky_of_cells(levels, float(np.nanmedian(sigmas[known])))
    at_sky = float(np.interp(sky, knots, law))
    sigma = median_ratio * ratio * np.sqrt(at_sky) * scale
    return PlaneNoise(
        shape=tuple(int(n) for n in shape),
        sky=float(sky * scale + base),
        sigma=visible(sigma, dtype, max(panel.cells.largest for panel in seen)),
        levels=[float(v * scale + base) for v in knots],
        law=[float(v / at_sky) for v in law],
        slope=float(slope / at_sky / scale),
        grid=grid,
        correlation=np.median([panel.noise.correlation for panel in calm], axis=0).tolist(),
        ratio=ratio,
        rows=_profile(panels),
        columns=_profile(zip(*panels, strict=True), name='columns'),
        step=step,
    )


def _common_step(panels):
    """Common step of whole-numbered data, 0 where a panel has none."""
    steps = [panel.noise.step for row in panels for panel in row if panel.n_valid]
    if not steps or min(steps) == 0:
        return 0.0
    return float(np.gcd.reduce(np.array(steps, np.int64)))


def _lay(panels, name):
    """Lay the panels' cells side by side; NaN where a panel knows nothing."""
    heights = [_n_cells(row, axis=0) for row in panels]
    widths = [_n_cells(column, axis=1) for column in zip(*panels, strict=True)]
    return np.block([
        [
            np.full((height, width), np.nan) if panel.cells is None else getattr(panel.cells, name)
            for panel, width in zip(row, widths, strict=True)
        ]
        for row, height in zip(panels, heights, strict=True)
    ])  # fmt: skip


def _n_cells(line, axis):
    """Cells along one side of the panels of a row (axis 0) or a column (axis 1)."""
    return max((panel.cells.levels.shape[axis] for panel in line if panel.cells), default=1)


def _map(panels, ratios, shape, law):
    """Relative noise over the plane, and the median of the noise over its law."""
    smooth, median, even = even_map(ratios, shape)
    if even:
        return [[1.0]], median
    blocks = tuple(-(-n // MAP_BLOCK) for n in shape)
    grid = resize_cells(smooth, blocks) / median
    for panel in (panel for row in panels for panel in row):
        if panel.cells is None or panel.cells.block_levels is None:
            continue
        own = _own_map(panel)  # which follows hard edges
        base, scale, knots, variances = law
        relative = (panel.cells.block_levels - base) / scale
        own /= np.sqrt(np.interp(relative, knots, variances)) * scale * median
        first = panel.rows.start // MAP_BLOCK, panel.cols.start // MAP_BLOCK
        grid[tuple(slice(a, a + n) for a, n in zip(first, own.shape, strict=True))] = own
    return grid.astype(np.float32), median


def _own_map(panel):
    """Finest noise of a panel's blocks by its own map and law, in the unit of the data."""
    noise = panel.noise
    law = np.sqrt(np.interp(panel.cells.block_levels, noise.levels, noise.law))
    return np.asarray(noise.grid) * law * (noise.sigma / noise.ratio)


def _calmest(seen):
    """Panels whose calm cells are the calmest: the same share of them as of cells in a panel."""
    unrest = np.array([panel.cells.unrest for panel in seen])
    limit = np.quantile(unrest, CALM_SHARE)
    return [panel for panel in seen if panel.cells.unrest <= limit]


def _profile(lines, *, name='rows'):
    """Mean noise of each row or column over the panels that it passes through."""
    profile = []
    for line in lines:
        seen = [panel for panel in line if panel.cells is not None]
        if seen:
            values = [getattr(panel.noise, name) for panel in seen]
            profile += np.average(values, axis=0, weights=[p.n_valid for p in seen]).tolist()
        else:
            part = line[0].rows if name == 'rows' else line[0].cols
            profile += [0.0] * (part.stop - part.start)
    return profile
