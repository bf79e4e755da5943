# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Cells of a plane, and one robust number for each."""

import numpy as np

from astrodenoise.background import fill_nearest

__all__ = [
    'CELL',
    'MEDIAN_TO_SIGMA',
    'N_SIGMA_CLIP',
    'cell_statistic',
    'fill_cells',
    'make_cells',
    'median_sigma',
]

CELL = 64  # px, side of a cell of statistics
N_SIGMA_CLIP = 4.0  # outliers beyond this count as this
MEDIAN_TO_SIGMA = 1.482602218505602  # of the absolute values of a Gaussian


def make_cells(shape):
    """
    Divide a plane into cells of about ``CELL`` px.

    Parameters
    ----------
    shape : tuple of int
        Of the plane.

    Returns
    -------
    cells : list of list of tuple of slice
        Rows of cells that cover it.
    """
    edges = [np.linspace(0, n, max(1, round(n / CELL)) + 1).astype(int) for n in shape]
    return [
        [(slice(y0, y1), slice(x0, x1)) for x0, x1 in zip(edges[1][:-1], edges[1][1:], strict=True)]
        for y0, y1 in zip(edges[0][:-1], edges[0][1:], strict=True)
    ]


def cell_statistic(cells, values, good, statistic, *, min_share=0.12, step=1):
    """
    Take one number per cell from its good pixels.

    Parameters
    ----------
    cells : list of list of tuple of slice
        As `make_cells` gives them.
    values : `numpy.ndarray`, (H, W)
        The plane.
    good : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    statistic : callable
        1-D array to a number.
    min_share : float, optional
        Share of a cell that must be good.
    step : int, optional
        Every ``step``-th pixel of every ``step``-th row is taken.

    Returns
    -------
    result : `numpy.ndarray`, (rows, columns)
        NaN where there are too few.
    """
    result = np.full((len(cells), len(cells[0])), np.nan)
    everything = good.all()
    for i, line in enumerate(cells):
        for j, cell in enumerate(line):
            inside = values[cell][::step, ::step]
            chosen = inside.ravel() if everything else inside[good[cell][::step, ::step]]
            if chosen.size >= max(min_share * inside.size, 16):
                result[i, j] = statistic(chosen)
    return result


def _median(values):
    """Median by partition (a view is not changed)."""
    middle = values.size // 2
    return np.partition(values, middle)[middle]


def median_sigma(values):
    """
    Take sigma from the median of absolute values.

    Parameters
    ----------
    values : `numpy.ndarray`
        Of mean 0.

    Returns
    -------
    sigma : float
        Of a Gaussian with that median.
    """
    return MEDIAN_TO_SIGMA * _median(np.abs(values))


def fill_cells(statistic):
    """
    Fill the cells without a number from their neighbours.

    Parameters
    ----------
    statistic : `numpy.ndarray`, (rows, columns)
        NaN where there is no number.

    Returns
    -------
    filled : `numpy.ndarray`, (rows, columns)
        Zeros when there are none at all.
    """
    known = np.isfinite(statistic)
    if not known.any():
        return np.zeros_like(statistic)
    return fill_nearest(statistic, known)
