# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How the two frames of a pair compare in brightness: one straight line from faint to bright.

Seeing may differ: the relation is fitted on frames smoothed over 4 px, with a term for the width of
the stars.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ['PairError', 'Relation', 'match_photometry', 'relate_frames', 'score_covariance']

log = logging.getLogger(__name__)

SMOOTH = 4.0  # px, sigma of the smoothing before the frames are compared
MIN_SAMPLES = 64  # of smoothed frames
STRIDE = 2  # px between the samples of smoothed frames
CELL = 16  # px, side of the cells that tell the errors of a fit
ROUNDS = 4  # of reweighting
MODEL_ERROR = 0.03  # of the signal: what differs between frames of a varying sky
MAX_SCALE = 0.02  # deviation of the clean frame's zero point
MAX_BEND = 0.1  # relative change of the slope from faint to bright
MAX_BROADER = 8.0  # px^2, difference of the stars' variances: 6.7 px of FWHM in quadrature
N_SIGMA = 3.0  # a deviation counts beyond this many of its own errors
KNOWN_SCALE = 0.1  # error up to which a scale is called measured


class PairError(ValueError):
    """Two frames are no pair to learn from; the message says why and how to mend it."""


def match_photometry(noisy, clean, good, sigma, clean_sigma, *, label='', registered=True):
    """
    Bring the clean frame of a pair to the zero point and the sky of the noisy one.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`, (H, W)
        The frames.
    good : `numpy.ndarray`, (H, W), bool
        Pixels that can be compared.
    sigma, clean_sigma : float
        Finest-scale noise of each.
    label : str, optional
        What the log calls the pair.
    registered : bool, optional
        Whether they were seen to lie on the same grid.

    Returns
    -------
    matched : `numpy.ndarray`, (H, W)
        The clean frame with its zero point, level and gradient corrected.
    scale : float
        Factor on it.

    Raises
    ------
    PairError
        If the zero points differ by over 2 %, or the relation is not a straight line.
    """
    smoothed = _smoothed(noisy, clean, good, sigma, clean_sigma)
    scale = _accepted_scale(_relate(smoothed), registered, label)
    return scale * clean + _sky_difference(smoothed, scale, noisy, clean, good), scale


@dataclass(frozen=True)
class Relation:
    """
    What ``noisy = scale * clean + plane`` came to.

    Attributes
    ----------
    scale, scale_error : float
        Factor on the clean frame, and its error.
    bend, bend_error : float
        Slope of the bright part over that of the faint one, less 1.
    broader, broader_error : float
        Variance in px^2 by which the noisy frame's stars are wider.
    """

    scale: float
    scale_error: float
    bend: float
    bend_error: float
    broader: float
    broader_error: float


def relate_frames(noisy, clean, good, sigma, clean_sigma):
    """
    Compare two frames of any exposure times in brightness and in the width of their stars.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`, (H, W)
        The frames, on one grid.
    good : `numpy.ndarray`, (H, W), bool
        Pixels that can be compared.
    sigma, clean_sigma : float
        Finest-scale noise of each.

    Returns
    -------
    relation : `Relation`
        Of the first to the second.
    """
    return _relate(_smoothed(noisy, clean, good, sigma, clean_sigma))


@dataclass(frozen=True)
class _Smoothed:
    """
    Both frames smoothed and sampled.

    ``terms`` make up a linear model of the noisy one with the clean one: level and gradient of the
    sky, then the clean frame's slopes and half its Laplacian.  To first order these take up what a
    remaining shift and the seeing do to smoothed frames, so that the scale is that of whole stars.
    """

    noisy: np.ndarray
    clean: np.ndarray
    weight: np.ndarray
    terms: list
    sigma: float  # of a sample, noise of both frames
    clean_sigma: float


def _smoothed(noisy, clean, good, sigma, clean_sigma):
    """Smooth both frames over their good pixels; sigma is that of white noise in each."""
    coverage = ndimage.gaussian_filter(good.astype(np.float64), SMOOTH, mode='constant')
    pick = (slice(None, None, STRIDE),) * 2

    def smooth(plane):
        values = np.where(good, plane - np.median(plane[good]), 0)
        return ndimage.gaussian_filter(values, SMOOTH, mode='constant') / np.maximum(coverage, 1e-6)

    weight = (good & (coverage > 0.9))[pick].astype(np.float64)
    if weight.sum() < MIN_SAMPLES:  # a mask with many holes
        weight = (good & (coverage > 0.3))[pick].astype(np.float64)
    fine = smooth(clean)
    slopes = [*np.gradient(fine), 0.5 * ndimage.laplace(fine)]
    terms = [np.broadcast_to(a[pick], weight.shape) for a in [*_sky_terms(good.shape), *slopes]]
    own = clean_sigma / np.sqrt(4 * np.pi) / SMOOTH
    both = np.hypot(sigma / np.sqrt(4 * np.pi) / SMOOTH, own)
    return _Smoothed(smooth(noisy)[pick], fine[pick], weight, terms, both, own)


def _sky_terms(shape):
    """Level and gradient over a plane, each within 1."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    return [np.ones(shape), np.broadcast_to(y[:, None], shape), np.broadcast_to(x, shape)]


def _relate(smoothed):
    """Fit the straight relation, and one that may bend between faint and bright."""
    values, cov, weight = _fit(smoothed, smoothed.noisy, [smoothed.clean], [1.0])
    scale = float(values[0])
    size = max(abs(scale), 1e-300)
    bend, bend_error = _bend(smoothed, weight)
    return Relation(
        scale, float(np.sqrt(cov[0, 0])), bend, bend_error,
        float(values[-1] / size), float(np.sqrt(cov[-1, -1]) / size),
    )  # fmt: skip


def _bend(smoothed, weight):
    """
    Change of the slope between the faint and the bright part, and its error.

    They part where half of what the slope is known by lies on either side.
    """
    sky = _weighted_quantile(smoothed.clean, smoothed.weight, 0.3)
    above = smoothed.clean - sky
    knot = _weighted_quantile(above, weight * np.maximum(above, 0) ** 2, 0.5)
    parts = [np.minimum(above, knot), np.maximum(above - knot, 0)]
    if knot <= 0 or not (parts[1] * weight).any():
        return 0.0, np.inf
    values, cov, _ = _fit(smoothed, smoothed.noisy, parts, [above < knot, above >= knot])
    if not values[0] > 0:
        return 0.0, np.inf
    ratio = float(values[1] / values[0])
    gradient = np.array([-ratio, 1]) / values[0]
    return ratio - 1, float(np.sqrt(gradient @ cov[:2, :2] @ gradient))


def _weighted_quantile(values, weight, share):
    """Value below which that share of the weight lies."""
    order = np.argsort(values, axis=None)
    total = np.cumsum(weight.ravel()[order])
    place = np.searchsorted(total, share * total[-1])
    return float(values.ravel()[order[min(place, order.size - 1)]])


def _fit(smoothed, target, parts, shares):
    """
    Fit parts of the clean frame, the sky and the seeing; outliers and bright pixels count less.

    ``shares`` says where the clean frame's noise enters each part; it makes factors too small and
    is taken out.  Gives values, their covariance and the weights.  Errors come from the residuals'
    sums over cells (they are correlated), and from not knowing that noise better than by itself.
    """
    terms = np.stack([*parts, *smoothed.terms])
    norm = np.sqrt(np.mean(terms**2, axis=(1, 2)))
    norm[norm == 0] = 1
    terms = terms / norm[:, None, None]
    used = smoothed.weight > 0
    weight = smoothed.weight
    for _ in range(ROUNDS):
        matrix = np.einsum('kyx,lyx,yx->kl', terms, terms, weight, optimize=True)
        noise = _noise_matrix(smoothed, weight, shares) / np.outer(norm, norm)
        ratio = np.diag(noise) / np.maximum(np.diag(matrix), 1e-300)
        noise *= min(1, 0.5 / max(ratio.max(), 1e-9))
        inverse = np.linalg.pinv(matrix - noise)
        values = inverse @ np.einsum('kyx,yx->k', terms, weight * target)
        model = np.tensordot(values, terms, axes=1)
        residual = target - model
        scores = score_covariance(terms * (weight * residual), CELL // STRIDE)
        unsure = noise @ values
        cov = inverse @ (scores + np.outer(unsure, unsure)) @ inverse
        fitted = weight
        # what is expected to be left: noise, and a share of the signal
        expected = np.hypot(smoothed.sigma, MODEL_ERROR * np.abs(model - np.median(model[used])))
        unit = np.abs(residual) / expected
        unit /= max(1.4826 * np.median(unit[used]), 1e-3)
        weight = smoothed.weight / expected**2 / np.maximum(unit / N_SIGMA, 1)
    return values / norm, cov / np.outer(norm, norm), fitted


def _noise_matrix(smoothed, weight, shares):
    """What white noise of the clean frame, smoothed with it, adds to the normal matrix."""
    n_parts, n_sky = len(shares), 3
    matrix = np.zeros((n_parts + len(smoothed.terms),) * 2)
    slope, curved = 1 / (2 * SMOOTH**2), 1 / (2 * SMOOTH**4)
    for k, share in enumerate(shares):
        matrix[k, k] = np.sum(weight * share)
        matrix[k, -1] = matrix[-1, k] = -slope * matrix[k, k]
    for k, factor in zip(range(n_parts + n_sky, len(matrix)), (slope, slope, curved), strict=True):
        matrix[k, k] = factor * weight.sum() if n_parts else 0
    return matrix * smoothed.clean_sigma**2


def score_covariance(scores, cell):
    """
    Covariance of sums over pixels that are independent from cell to cell only.

    Parameters
    ----------
    scores : `numpy.ndarray`, (K, H, W)
        What is summed.
    cell : int
        Side of a cell.

    Returns
    -------
    covariance : `numpy.ndarray`, (K, K)
        Of the K sums.
    """
    for axis in (1, 2):
        scores = np.add.reduceat(scores, np.arange(0, scores.shape[axis], cell), axis=axis)
    scores = scores.reshape(len(scores), -1)
    return scores @ scores.T


def _accepted_scale(relation, registered, label):
    """Factor for the clean frame; refuses a relation that is bent, or of another zero point."""
    if abs(relation.bend) > MAX_BEND + N_SIGMA * relation.bend_error:
        msg = (
            f'bright and faint parts differ by other factors (their ratio is '
            f'{1 + relation.bend:.2f}, error {relation.bend_error:.2f}, expected 1): one of the '
            'frames was stretched or clipped; give both linear, or both with the same stretch'
        )
        raise PairError(msg)
    if abs(relation.broader) > MAX_BROADER + N_SIGMA * relation.broader_error:
        sharper = 'clean' if relation.broader > 0 else 'noisy'
        fwhm, limit = (2.355 * np.sqrt(abs(a)) for a in (relation.broader, MAX_BROADER))
        msg = (
            f'stars in the {sharper} frame are sharper by {fwhm:.1f} px in quadrature of their '
            f'FWHM, expected within {limit:.1f}: give frames of like seeing, neither of them '
            'sharpened or stretched'
        )
        raise PairError(msg)
    if abs(relation.scale - 1) > MAX_SCALE + N_SIGMA * relation.scale_error:
        other = '' if registered else (
            'unless they show another sky (flipped, rotated, far apart, another field), '
        )  # fmt: skip
        msg = (
            f'the noisy frame is {relation.scale:.4g} times the clean one (error '
            f'{relation.scale_error:.2g}), expected 1 within {MAX_SCALE:g}: {other}multiply the '
            'clean frame by that factor'
        )
        raise PairError(msg)
    if relation.scale_error > KNOWN_SCALE:
        log.info('%s: too little signal to measure the zero point; taken as equal', label)
    # a scale that is known less well than the tolerance says little
    return 1 + (relation.scale - 1) / (1 + (relation.scale_error / MAX_SCALE) ** 2)


def _sky_difference(smoothed, scale, noisy, clean, good):
    """Level and gradient to add to ``scale * clean``, (H, W)."""
    middle = np.median(noisy[good]) - scale * np.median(clean[good])
    values, _, _ = _fit(smoothed, smoothed.noisy - scale * smoothed.clean, [], [])
    return middle + sum(v * t for v, t in zip(values[:3], _sky_terms(good.shape), strict=True))
