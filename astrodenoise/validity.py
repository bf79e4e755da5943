# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Pixels that carry no noise to remove: no data, saturated, clipped at a floor.

They come back as they were, and no statistic of the noise may count them.  The rules look at values
alone, so that whole numbers stored as floats are treated like integers:

no data
    A run of one exact value that touches the frame's border or exceeds 64 px: the edges of a
    mosaic, a dead column, a filled patch.  Whole numbers of little noise repeat by chance as well
    (with sigma = 0.5 steps two thirds of the sky are one value, which percolates), hence a run
    counts only if it holds a square or line so large that the share of its value *around it* would
    make one by chance less than once in a hundred frames.  A frame of one value has no such
    surroundings and stays valid; so does one that nearly always has one value (Poisson of mean
    0.01).
saturated
    At or above the level that is given.  Else, 10 sigma above the sky at least: the values of runs
    as above, and the frame's own maximum if adjacent pixels share it and fewer lie within one sigma
    (at least one step) below: a smooth star has more pixels just below its maximum than at it.
clipped at a floor
    Pixels at the frame's minimum if they are 10 at least and clearly more than the next two bins
    above permit, because a noise law's tail is log-concave: n0 <= n1^2 / n2.  Where steps are
    coarser than sigma / 2 a clipped sky looks like a genuine law of small numbers (Poisson of mean
    0.5 has 60 % zeros), and nothing is declared.  Or if nearly nothing else lies within 5 sigma
    above them: bad pixels that were set to one value.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ['CLIPPED', 'NOISY', 'NO_DATA', 'SATURATED', 'Validity', 'invalid_pixels']

NOISY, NO_DATA, SATURATED, CLIPPED = range(4)

MAX_RUN = 64  # pixels that a run inside the frame may have
SIDES = (3, 5, 9, 17, 33)  # of the squares that a run must hold, the smallest one that tells
MAX_BY_CHANCE = 0.01  # squares per frame
MAX_SHARE = 0.4  # of a value around its run; from 0.59 on its neighbours connect without end
MAX_VALUES = 8  # different values of no data in one plane
SKY_SAMPLE = 200_000  # pixels that tell the sky and its noise well enough here
TRIMMED_MEAN_TO_SIGMA = 1.0762  # |difference of two Gaussians|, its largest tenth left out


@dataclass(frozen=True, eq=False)
class Validity:
    """
    Which pixels of a plane carry no noise, and why.

    Attributes
    ----------
    reason : `numpy.ndarray`, (H, W), uint8
        ``NOISY`` (0) for ordinary pixels and those that were no candidates, else ``NO_DATA``,
        ``SATURATED`` or ``CLIPPED``.
    """

    reason: np.ndarray

    @property
    def invalid(self):
        """Pixels of any reason: bool, (H, W)."""
        return self.reason != NOISY

    @property
    def no_data(self):
        """Pixels of runs of one exact value that are not saturated: bool, (H, W)."""
        return self.reason == NO_DATA

    @property
    def saturated(self):
        """Pixels at the upper end: bool, (H, W)."""
        return self.reason == SATURATED

    @property
    def clipped(self):
        """Pixels at the lower end: bool, (H, W)."""
        return self.reason == CLIPPED

    @property
    def counts(self):
        """Number of pixels of each reason: dict of int."""
        n = np.bincount(self.reason.ravel(), minlength=4)
        return {
            'no_data': int(n[NO_DATA]),
            'saturated': int(n[SATURATED]),
            'clipped': int(n[CLIPPED]),
        }


def invalid_pixels(plane, valid, *, saturation=None):
    """
    Find the pixels that carry no noise to remove.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W)
        Pixels in any unit, float or integer; not changed.
    valid : `numpy.ndarray`, (H, W), bool
        Pixels to look at: neither masked nor non-finite.
    saturation : float, optional
        Level in the unit of ``plane`` from which on pixels are saturated.  By default the plane's
        own maximum is looked at.

    Returns
    -------
    validity : `Validity`
        The reason of each pixel.  All ``NOISY`` for a plane of one value.

    Raises
    ------
    ValueError
        If ``plane`` is not two-dimensional or ``valid`` is of another shape.
    """
    if plane.ndim != 2 or valid.shape != plane.shape:
        msg = f'plane has the shape {plane.shape} and valid {valid.shape}; expected (H, W) of both.'
        raise ValueError(msg)
    reason = np.zeros(plane.shape, dtype=np.uint8)
    if not valid.any() or plane[valid].min() == plane[valid].max():
        return Validity(reason)
    no_data = _no_data(plane, valid)
    reason[no_data] = NO_DATA
    rest = valid & ~no_data
    if saturation is not None:
        reason[valid & (plane >= saturation)] = SATURATED
    if not rest.any():
        return Validity(reason)
    sky, sigma = _sky_and_sigma(plane, rest)
    if sigma == 0:  # no noise in sight, so no law to judge by
        return Validity(reason)
    if saturation is None:
        # runs far above the sky are no gaps but large stars; small ones have the same value
        runs = np.unique(plane[no_data & (plane > sky + 10 * sigma)])
        if runs.size > 0:
            reason[valid & np.isin(plane, runs)] = SATURATED
        reason[_piled_up_at_top(plane, valid & (reason == NOISY), sky, sigma)] = SATURATED
    reason[_piled_up_at_floor(plane, rest & (reason == NOISY), sigma)] = CLIPPED
    return Validity(reason)


def _no_data(plane, valid):
    """Find runs of one exact value that noise does not make."""
    found = np.zeros(plane.shape, dtype=bool)
    for value in _repeated_values(plane, valid):
        run = _run_of(value, plane, valid)
        if run is not None:
            found |= run
    return found


def _repeated_values(plane, valid):
    """Find the values that fill squares or lines, those of the largest squares first."""
    right = plane[:, 1:] == plane[:, :-1]
    below = plane[1:] == plane[:-1]
    if not valid.all():
        right &= valid[:, 1:] & valid[:, :-1]
        below &= valid[1:] & valid[:-1]
    found = {}  # a set that keeps its order
    for side in SIDES[2::-1]:
        values = []
        if min(plane.shape) >= side:
            square = _all_in(_all_in(right, side - 1, 1), side, 0)
            square &= _all_in(below, side - 1, 0)[:, :square.shape[1]]
            values.append(_first_of(plane, square))
        for same, axis in ((right, 1), (below, 0)):
            n = max(side**2, MAX_RUN + 1)
            values.append(_first_of(plane, _lines(same, n - 1, axis)))
            ends = np.take(same, [0, -1], axis=1 - axis)
            ends = _all_in(ends, side**2 - 1, axis)
            values.append(_first_of(np.take(plane, [0, -1], axis=1 - axis), ends))
        values, counts = np.unique(np.concatenate(values), return_counts=True)
        found |= dict.fromkeys(values[np.argsort(-counts, kind='stable')])
    return list(found)[:MAX_VALUES]


def _first_of(plane, windows):
    """Values of the first pixel of each true window."""
    return plane[:windows.shape[0], :windows.shape[1]][windows]


def _run_of(value, plane, valid):
    """Find the runs of a value, `None` if chance may have made them."""
    same = (plane == value) & valid
    box = _box_around(same, 2 * SIDES[-1] + 1)
    same, valid = same[box], valid[box]
    if not (valid & ~same).any():
        return None
    share = 0.0
    for side in SIDES:
        if plane.size * share ** (side**2) >= MAX_BY_CHANCE:
            continue  # chance makes squares of this size, too
        core = _squares_and_lines(same, side)
        if not core.any():
            return None
        share = _share_around(core, same, valid, side)
        if plane.size * share ** (side**2) < MAX_BY_CHANCE:
            run = np.zeros(plane.shape, dtype=bool)
            # where the value is common it also adheres to the run by chance: then the core alone
            run[box] = _large_or_at_border(same if share < MAX_SHARE else core, core)
            return run
    return None


def _box_around(mask, margin):
    """Slices of the smallest box with all of a mask, and a margin where the frame has one."""
    box = []
    for axis in (0, 1):
        at = np.flatnonzero(mask.any(axis=1 - axis))
        box.append(slice(max(at[0] - margin, 0), at[-1] + margin + 1))
    return tuple(box)


def _squares_and_lines(same, side):
    """Keep what lies in a square of one value, or in a line of as many pixels."""
    core = np.zeros(same.shape, dtype=bool)
    if min(same.shape) >= side:
        square = _all_in(_all_in(same, side, 0), side, 1)
        core |= _widened(_widened(square, side, 0), side, 1)
    for axis in (0, 1):
        core |= _lines(same, max(side**2, MAX_RUN + 1), axis)
        for edge in (0, -1):  # a frame's outermost pixels may be the rest of a square
            at = (edge, slice(None)) if axis == 1 else (slice(None), edge)
            core[at] |= _lines(same[at], side**2, 0)
    return core


def _lines(same, n, axis):
    """Keep what lies in a line of ``n`` pixels along an axis."""
    coarse = _all_in(np.moveaxis(same, axis, 0)[::8], max(n // 8, 1), 0)  # a quick look first
    if same.shape[axis] < n or not coarse.any():
        return np.zeros_like(same)
    return _widened(_all_in(same, n, axis), n, axis)


def _share_around(core, same, valid, reach):
    """
    Share of a value among the pixels within ``reach`` of its core.

    What the core encloses are specks in it.  Where these are many beside its surroundings, the
    core is noise that is nearly always one value, and the share within it tells.
    """
    size = 2 * reach + 1
    wide = _widened(_widened(core, size, 0), size, 1)  # with ``reach`` pixels outside of the frame
    closed = _all_in(_all_in(wide, size, 0), size, 1)
    n_specks = np.count_nonzero(closed & valid & ~same)
    around = valid & ~closed
    near = around & wide[reach:-reach, reach:-reach]
    n_near = np.count_nonzero(near)
    if n_near >= max(MAX_RUN, 10 * n_specks):
        around = near
    elif n_specks > 0 or not around.any():
        around = closed & valid
    return np.count_nonzero(around & same) / np.count_nonzero(around)


def _large_or_at_border(runs, core):
    """Keep the connected runs that hold a part of the core and are large or touch the border."""
    labels, n = ndimage.label(runs)
    keep = np.zeros(n + 1, dtype=bool)
    keep[labels[core]] = True
    large = np.bincount(labels.ravel(), minlength=n + 1) > MAX_RUN
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        large[edge] = True
    keep &= large
    keep[0] = False
    return keep[labels]


def _windows(mask, n, axis, operation):
    """Combine each window of ``n`` pixels along an axis, which gets shorter by ``n - 1``."""
    mask = np.moveaxis(mask, axis, 0)
    length = 1
    while length < n:
        step = min(length, n - length)
        mask = operation(mask[step:], mask[:max(len(mask) - step, 0)])
        length += step
    return np.moveaxis(mask, 0, axis)


def _all_in(mask, n, axis):
    """Whether all pixels of each window are true."""
    return _windows(mask, n, axis, np.logical_and)


def _any_in(mask, n, axis):
    """Whether any pixel of each window is true."""
    return _windows(mask, n, axis, np.logical_or)


def _widened(windows, n, axis):
    """Give the pixels that lie in a true window: undoes the shortening of `_all_in`."""
    width = [(0, 0)] * windows.ndim
    width[axis] = (n - 1, n - 1)
    return _any_in(np.pad(windows, width), n, axis)


def _sky_and_sigma(plane, good):
    """Estimate the median and the noise of neighbours, well enough for the rules here."""
    step = max(1, plane.size // SKY_SAMPLE)
    rows, good = plane[::step], good[::step]
    pairs = good[:, 1:] & good[:, :-1]
    if not pairs.any():
        return 0.0, 0.0
    rows = rows.astype(np.float64)
    with np.errstate(invalid='ignore'):  # infinities that are not good
        difference = np.abs(rows[:, 1:] - rows[:, :-1])[pairs]
    # a mean, because a median of whole numbers jumps; the largest are edges and stars
    largest = np.percentile(difference, 90)
    sigma = TRIMMED_MEAN_TO_SIGMA * difference[difference <= largest].mean()
    steps = difference[difference > 0]
    # whole numbers of less noise than half a step are like those of half a step
    return np.median(rows[good]), max(sigma, steps.min() / 2) if steps.size else 0.0


def _piled_up_at_top(plane, good, sky, sigma):
    """Find the pixels at the maximum if they are saturated."""
    none = np.zeros(plane.shape, dtype=bool)
    values = plane[good]
    top = values.max()
    if top <= sky + 10 * sigma:
        return none
    at_top = good & (plane == top)
    n_top = np.count_nonzero(at_top)
    pairs = np.count_nonzero(at_top[:, 1:] & at_top[:, :-1])
    pairs += np.count_nonzero(at_top[1:] & at_top[:-1])
    below = np.float64(top) - values[values < top].astype(np.float64)
    n_below = np.count_nonzero(below <= max(sigma, below.min()))
    return at_top if n_top >= 3 and pairs >= 2 and n_top > 2 * n_below else none


def _piled_up_at_floor(plane, good, sigma):
    """Find the pixels at the minimum if they are clipped or were set to one value."""
    none = np.zeros(plane.shape, dtype=bool)
    values = plane[good]
    if values.size == 0:
        return none
    floor = values.min()
    n_floor = np.count_nonzero(values == floor)
    above = values[(values > floor) & (values <= floor + 5 * sigma)] - np.float64(floor)
    if n_floor < 10:
        return none
    at_floor = good & (plane == floor)
    if above.size < n_floor / 10:  # far below all others
        return at_floor if n_floor < values.size / 2 else none
    step = above.min()
    width = step * max(1, np.ceil(sigma / 8 / step))
    if width > sigma / 2:  # too coarse to tell
        return none
    edges = np.array([0.5 * step, width + 0.5 * step, 2 * width + 0.5 * step])
    next_1, next_2 = np.histogram(above, edges)[0]
    if next_1 == 0 or next_2 == 0:
        return none
    natural = next_1**2 / next_2
    scatter = np.sqrt(4 / next_1 + 1 / next_2)
    return at_floor if n_floor > natural * (1.5 + 5 * scatter) else none
