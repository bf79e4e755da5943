# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Shapes of stars: width, peak, ellipticity and centroid, against the truth's.

All stars are measured at once, by adaptive moments: a Gaussian weight is matched to each star, so
that neither noise far out nor the profile's wings count much.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from astrodenoise.measures.figures import Figure, blocks_of, median

__all__ = ['Shapes', 'adaptive_moments', 'shape_changes', 'stacked_width', 'stamps_at']

TO_FWHM = 2 * np.sqrt(2 * np.log(2))
ITERATIONS = 40  # each halves what is left of the mismatch
STACK_HALF = 12  # px, the same for every FWHM: scenes are stacked together
LARGEST = 4.0  # of the expected width: beyond this the weight has run away


@dataclass(frozen=True, eq=False)
class Shapes:
    """
    Adaptive moments of stars.

    Attributes
    ----------
    fwhm : `numpy.ndarray`, (n,)
        Of the Gaussian of the same moments, geometric mean of its axes, in px; NaN where there is
        no star.
    e1, e2 : `numpy.ndarray`, (n,)
        Ellipticity: (Mxx - Myy) and 2 Mxy over (Mxx + Myy).
    y, x : `numpy.ndarray`, (n,)
        Centroid from the middle of the stamp, in px.
    """

    fwhm: np.ndarray
    e1: np.ndarray
    e2: np.ndarray
    y: np.ndarray
    x: np.ndarray


def stamps_at(image, y, x, half):
    """
    Cut square stamps round the pixels nearest to positions.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The frame.
    y, x : `numpy.ndarray`, (n,)
        Positions in px; each at least ``half`` px inside the frame.
    half : int
        Half of a stamp's side in px.

    Returns
    -------
    stamps : `numpy.ndarray`, (n, 2 half + 1, 2 half + 1)
        In the unit of the frame.
    """
    at = np.arange(-half, half + 1)
    rows, columns = (np.round(np.asarray(place)).astype(int) for place in (y, x))
    return image[rows[:, None, None] + at[:, None], columns[:, None, None] + at]


def adaptive_moments(stamps, fwhm):
    """
    Measure stars by the Gaussian weight that has the moments of the star itself.

    With a weight of covariance M the weighted second moments of a Gaussian star of the same
    covariance are M / 2, and its weighted centroid lies at the weight's.  Both are iterated on.

    Parameters
    ----------
    stamps : `numpy.ndarray`, (n, s, s)
        Stars without their background, near the middle of odd stamps.
    fwhm : float
        First guess of their width in px.

    Returns
    -------
    shapes : `Shapes`
        One entry per star.
    """
    stamps = np.asarray(stamps, float)
    at = np.arange(stamps.shape[1]) - stamps.shape[1] // 2
    n, start = len(stamps), (fwhm / TO_FWHM) ** 2
    y, x, xy = np.zeros(n), np.zeros(n), np.zeros(n)
    xx, yy = np.full(n, start), np.full(n, start)
    with np.errstate(all='ignore'):
        for _ in range(ITERATIONS):
            dy, dx = at[None, :, None] - y[:, None, None], at[None, None, :] - x[:, None, None]
            det = xx * yy - xy**2
            form = (
                yy[:, None, None] * dx**2 - 2 * xy[:, None, None] * dx * dy
                + xx[:, None, None] * dy**2
            ) / det[:, None, None]  # fmt: skip
            light = stamps * np.exp(-0.5 * form)
            flux = light.sum((1, 2))
            y = y + 2 * (light * dy).sum((1, 2)) / flux
            x = x + 2 * (light * dx).sum((1, 2)) / flux
            yy = 2 * (light * dy**2).sum((1, 2)) / flux
            xx = 2 * (light * dx**2).sum((1, 2)) / flux
            xy = 2 * (light * dx * dy).sum((1, 2)) / flux
        det = xx * yy - xy**2
        good = (flux > 0) & (xx > 0) & (yy > 0) & (det > 0)
        good &= (det < (LARGEST**2 * start) ** 2) & (np.hypot(y, x) < stamps.shape[1] / 4)
        values = TO_FWHM * np.sqrt(np.sqrt(det)), (xx - yy) / (xx + yy), 2 * xy / (xx + yy), y, x
    return Shapes(*(np.where(good, value, np.nan) for value in values))


def shape_changes(truth, image, y, x, *, fwhm, background=0.0):
    """
    Compare the shapes of stars with those that the same stars have in the truth.

    Star by star, by `adaptive_moments` in stamps of 2 FWHM on either side; every figure is a
    median over the stars: the FWHM over the truth's - 1; the peak (the truth's brightest pixel,
    above the background) over the truth's - 1; both components of the ellipticity, and of the
    centroid, minus the truth's; and the centroid's error against sub-pixel phase, twice the mean
    of dx sin(2 pi x) and of dy sin(2 pi y), which is 0 where the error does not follow the pixels.

    Parameters
    ----------
    truth, image : `numpy.ndarray`, (H, W)
        Frames.
    y, x : `numpy.ndarray`, (n,)
        Positions of isolated stars of high S/N (over 30), in px.
    fwhm : float
        Of the stars in px.
    background : float or `numpy.ndarray`, (n,), optional
        Of each star, in the unit of the frames.

    Returns
    -------
    figures : dict of `Figure`
        'fwhm' and 'peak' (%), 'e1', 'e2', 'x', 'y' (px), 'phase' (px).
    """
    half = _half(fwhm)
    inside = _inside(y, x, half, truth.shape)
    y, x = np.asarray(y, float)[inside], np.asarray(x, float)[inside]
    level = np.broadcast_to(background, inside.shape)[inside, None, None]
    stars = [stamps_at(frame, y, x, half) - level for frame in (truth, image)]
    true, found = (adaptive_moments(stamps, fwhm) for stamps in stars)
    core = np.zeros(stars[0].shape[1:], bool)
    core[half - 1 : half + 2, half - 1 : half + 2] = True
    core = [stamps[:, core] for stamps in stars]
    brightest = np.argmax(core[0], axis=1) if len(y) else np.empty(0, int)
    peaks = [np.take_along_axis(part, brightest[:, None], 1)[:, 0] for part in core]
    phases = [
        2 * np.sin(2 * np.pi * at) * (new - old)
        for at, new, old in ((x, found.x, true.x), (y, found.y, true.y))
    ]
    with np.errstate(all='ignore'):
        rows = {
            'fwhm': ('FWHM of stars', 100 * (found.fwhm / true.fwhm - 1), '%', 2),
            'peak': ('peak of stars', 100 * (peaks[1] / peaks[0] - 1), '%', 2),
            'e1': ('ellipticity e1 of stars', found.e1 - true.e1, '', 4),
            'e2': ('ellipticity e2 of stars', found.e2 - true.e2, '', 4),
            'x': ('centroid of stars in x', found.x - true.x, 'px', 4),
            'y': ('centroid of stars in y', found.y - true.y, 'px', 4),
        }
    groups = blocks_of(y, x, truth.shape)
    figures = {
        key: _star_figure(label, median, values[:, None], groups, unit, decimals)
        for key, (label, values, unit, decimals) in rows.items()
    }
    figures['phase'] = _star_figure(
        'centroid against sub-pixel phase', _mean, np.column_stack(phases), groups, 'px', 4
    )
    return figures


def stacked_width(truth, image, y, x, *, fwhm, background=0.0):
    """
    Compare the width of a stack of stars with that of the truth's stack.

    The stamps round the nearest pixels are averaged, without shifting them below a pixel, in both
    frames alike: faint stars whose own width the noise hides.

    Parameters
    ----------
    truth, image : `numpy.ndarray`, (H, W)
        Frames.
    y, x : `numpy.ndarray`, (n,)
        Positions of the stars in px.
    fwhm : float
        Of the stars in px.
    background : float or `numpy.ndarray`, (n,), optional
        Of each star, in the unit of the frames.

    Returns
    -------
    figure : `Figure`
        FWHM by `adaptive_moments` of the stack over that of the truth's stack, minus 1, in %.
    """
    half = STACK_HALF
    inside = _inside(y, x, half, truth.shape)
    y, x = np.asarray(y, float)[inside], np.asarray(x, float)[inside]
    level = np.broadcast_to(background, inside.shape)[inside, None, None]
    size = (2 * half + 1) ** 2
    stars = [
        (stamps_at(frame, y, x, half) - level).reshape(len(y), size) for frame in (truth, image)
    ]
    return _star_figure(
        'FWHM of the stack of faint stars', partial(_stack_ratio, fwhm=fwhm),
        np.concatenate(stars, axis=1).astype(np.float32), blocks_of(y, x, truth.shape), '%', 2,
        least=20,
    )  # fmt: skip


def _stack_ratio(samples, fwhm):
    side = round(np.sqrt(samples.shape[1] / 2))
    stacks = samples.mean(axis=0).reshape(2, side, side)
    true, found = adaptive_moments(stacks, fwhm).fwhm
    return 100 * (found / true - 1)


def _star_figure(label, statistic, samples, groups, unit, decimals, least=5):
    good = np.isfinite(samples).all(axis=1)
    return Figure(
        label, statistic, samples[good], groups[good], unit, decimals,
        count=int(good.sum()), least=least, of='stars',
    )  # fmt: skip


def _mean(samples):
    return np.mean(samples)


def _half(fwhm):
    """Half of a stamp's side: 2 FWHM, 4 px at least."""
    return max(4, int(np.ceil(2 * fwhm)))


def _inside(y, x, half, shape):
    """Which stamps lie inside the frame."""
    rows, columns = (np.round(np.asarray(place, float)) for place in (y, x))
    return (
        (rows >= half) & (rows < shape[0] - half)
        & (columns >= half) & (columns < shape[1] - half)
    )  # fmt: skip
