# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Nothing moves out of proportion to its noise, on any scale.

The mean change over every box of 1 to 33 px stays within a limit times the noise of that box's
mean.  For a sound result this changes nothing; it bounds the damage of a network that runs away.
"""

import numpy as np
from scipy import ndimage

from astrodenoise.noisemodel import LAGS

__all__ = ['BOXES', 'REACH', 'box_means', 'box_noise', 'hold_back', 'patterned_noise']

BOXES = (1, 3, 5, 9, 17, 33)
REACH = 96  # px around a block within which it is decided what is held back
SAMPLE = 5  # px between the boxes that tell the spread of their means
MANY = 10  # boxes along a side, below which their spread says nothing
QUARTER = 0.31864  # of the sizes of a Gaussian's values lie below this many sigma
PATTERNED = 4.0  # times the noise of a box by its correlation: the most that patterns add
ROUNDS = 7  # that bring boxes to their bounds; holding one back can raise another's mean
LAST = 0.8  # of its bound a box is brought to in the round after these, to its square in the next
MOST_ROUNDS = 60  # by then 10^130 would be 1; no more than 7 were seen


def box_noise(box, correlation):
    """
    Noise of the mean of a box in units of a pixel's noise.

    Parameters
    ----------
    box : int
        Side in px.
    correlation : sequence of float
        Autocorrelation at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    noise : float
        1 / box for white noise, more where neighbours agree.
    """
    total = 1.0
    for (dy, dx), rho in zip(LAGS, correlation, strict=True):
        # each lag stands for itself and its opposite
        total += 2 * rho * max(0, 1 - abs(dy) / box) * max(0, 1 - abs(dx) / box)
    return float(np.sqrt(max(total, 0.25)) / box)


def patterned_noise(means, box, correlation):
    """
    Noise of a box's mean, patterns included.

    Blotches and bands make boxes noisier than neighbours' correlation says.  They are all over the
    frame, so that boxes side by side differ by them nearly everywhere; at a single mistake few do.

    Parameters
    ----------
    means : `numpy.ndarray`, (H, W)
        What `box_means` gives of the removed noise.
    box : int
        Side in px.
    correlation : sequence of float
        Autocorrelation at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    noise : float
        In units of a pixel's noise.
    """
    noise = box_noise(box, correlation)
    if box == 1 or min(means.shape) < MANY * box:
        return noise
    spread = _spread(means, box)
    sure = 1 + 10 * max(box, SAMPLE) / np.sqrt(means.size)  # few boxes spread by chance
    return min(spread, PATTERNED * noise) if spread > sure * noise else noise


def _spread(means, box):
    """Typical difference of boxes side by side, as the rms of one of them."""
    half = box // 2
    means = means[half:-half:SAMPLE, half:-half]
    difference = (means[:, box:] - means[:, :-box])[:, ::SAMPLE]
    return float(np.quantile(np.abs(difference), 0.25) / QUARTER / np.sqrt(2))


def hold_back(r, limit, correlation):
    """
    Pull the removed noise back where a box would move too far.

    Parameters
    ----------
    r : `numpy.ndarray`, (H, W), float32
        Noise to remove in units of sigma; changed in place where needed.
    limit : float
        Largest mean of a box in units of that mean's own noise.
    correlation : sequence of float
        Autocorrelation of the noise at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    r : `numpy.ndarray`, (H, W), float32
        Every box of ``BOXES`` within the limit: of its noise by the correlation or, where boxes
        side by side differ by more than that all over the frame, of what they differ by, at most 4
        times as much.
    limited : `numpy.ndarray`, (H, W), bool, or None
        The pixels that were held back; None when there are none.
    """
    limited, bounds = None, {}
    for number in range(MOST_ROUNDS):
        # every pixel of a box that is above shrinks, faster from round to round
        goal = LAST ** max(number - ROUNDS + 1, 0)
        factor = _factor(r, bounds, limit, correlation, goal)
        if factor is None:
            break
        r *= factor
        limited = (factor < 1) if limited is None else limited | (factor < 1)
    return r, limited


def box_means(r, box):
    """
    Give the mean of the box around each pixel.

    Parameters
    ----------
    r : `numpy.ndarray`, (H, W)
        Any plane.
    box : int
        Side in px, odd.

    Returns
    -------
    means : `numpy.ndarray`, (H, W)
        0 where the box would reach beyond the frame.
    """
    if box == 1:
        return r
    if min(r.shape) < box:
        return np.zeros_like(r)
    mean = ndimage.uniform_filter(r, box, mode='constant')
    half = box // 2
    mean[:half] = mean[-half:] = 0
    mean[:, :half] = mean[:, -half:] = 0
    return mean


def _factor(r, bounds, limit, correlation, goal):
    """Factor that brings each box near its bound, None when all are; the first call sets bounds."""
    factor = None
    for box in BOXES:
        mean = box_means(r, box)
        if box not in bounds:
            bounds[box] = limit * patterned_noise(mean, box, correlation)
        bound, mean = bounds[box], np.abs(mean)
        if mean.max() <= bound * (1 + 1e-6):
            continue
        allowed = np.where(mean > bound, goal * bound / np.maximum(mean, 1e-30), 1)
        allowed = allowed.astype(np.float32)
        if box > 1:  # every pixel obeys the strictest box that holds it; then without steps
            allowed = ndimage.minimum_filter(allowed, box, mode='nearest')
            smooth = ndimage.uniform_filter(allowed, box, mode='nearest')
            allowed = np.minimum(allowed, smooth)
        factor = allowed if factor is None else np.minimum(factor, allowed)
    return factor
