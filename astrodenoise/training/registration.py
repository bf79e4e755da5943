# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Whether the two frames of a pair lie on the same grid: their shift to a fraction of a pixel."""

import logging

import numpy as np
from scipy import fft, ndimage

from astrodenoise.background import local_level
from astrodenoise.training.photometry import CELL, N_SIGMA, PairError, score_covariance

__all__ = ['check_registration', 'measure_shift']

log = logging.getLogger(__name__)

MAX_LAG = 64  # px, of the search for the shift
PEAK = 12  # px around the cross-correlation's peak that are not its background
MIN_PEAK = 6  # times the scatter of that background, else there is no peak
POINT = 1.0  # px, sigma of the smoothing before the frames are correlated
COARSE = 2.5  # px, the same where fixed pattern, which is of single pixels, may lead astray
BRIGHT = 30.0  # sigma; brighter pixels count as this, so that no single star rules
MAX_SHIFT_ERROR = 0.3  # px; a shift that is less certain is not measured


def check_registration(noisy, clean, good, *, label='', max_shift=0.3):
    """
    Refuse frames that lie apart.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`, (H, W)
        The frames.
    good : `numpy.ndarray`, (H, W), bool
        Pixels that can be compared.
    label : str, optional
        What the log calls the pair.
    max_shift : float, optional
        How far they may lie apart, in px.

    Returns
    -------
    registered : bool
        False where there is too little to measure, which is logged.

    Raises
    ------
    PairError
        If they lie further apart than that and twice the shift's own error.
    """
    shift, error = measure_shift(noisy, clean, good)
    if not error < MAX_SHIFT_ERROR:
        log.info('%s: too little signal to measure the shift; taken as registered', label)
        return False
    if np.hypot(*shift) > max_shift + 2 * error:
        other, other_error = measure_shift(noisy, clean, good, point=COARSE)
        apart = np.hypot(*np.subtract(other, shift))
        if other_error < MAX_SHIFT_ERROR and apart > N_SIGMA * np.hypot(error, other_error):
            shift, error = other, other_error  # of the sky, not of the camera's fixed pattern
    if np.hypot(*shift) > max_shift + 2 * error:
        msg = (
            f'the clean frame lies ({shift[1]:+.2f}, {shift[0]:+.2f}) px in x and y from the noisy '
            f'one (error {error:.2f}), expected within {max_shift:g} px: register and resample the '
            'clean frame to the grid of the noisy one'
        )
        raise PairError(msg)
    return True


def _features(plane, good, point):
    """What stands out of the local level, in sigma; bright pixels held back."""
    contrast = np.where(good, plane - local_level(plane, good).fine_whole(), 0)
    contrast = ndimage.gaussian_filter(contrast, point, mode='constant')
    spread = 1.4826 * np.median(np.abs(contrast[good]))
    if spread == 0:
        spread = np.std(contrast[good]) or 1.0
    contrast = np.clip(contrast / spread, -BRIGHT, BRIGHT)
    return np.where(good, contrast, 0).astype(np.float32)


def measure_shift(noisy, clean, good, *, point=POINT, max_lag=MAX_LAG):
    """
    Measure how far two frames lie apart.

    The peak of the cross-correlation, each lag normalised by the pixels that overlap there.  What
    is left of the noisy frame there tells the error.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`, (H, W)
        The frames.
    good : `numpy.ndarray`, (H, W), bool
        Pixels that can be compared.
    point : float, optional
        Sigma in px of the smoothing before.
    max_lag : int, optional
        Largest shift in px that is looked for, and at most a quarter of the shorter side.

    Returns
    -------
    shift : tuple of float
        Of the clean frame against the noisy one, (y, x) in px.
    error : float
        Of the shift in px; infinite where there is no peak.
    """
    noisy, clean = (_features(a, good, point) for a in (noisy, clean))
    lag = min(max_lag, min(good.shape) // 4)
    correlation = _cross_correlation(noisy, clean, good, lag)
    y, x = np.unravel_index(np.argmax(correlation), correlation.shape)
    nowhere = (0.0, 0.0), np.inf
    if min(y, x) < 1 or max(y, x) > 2 * lag - 1:
        return nowhere
    peak = correlation[y - 1 : y + 2, x - 1 : x + 2]
    rows, cols = np.ogrid[: 2 * lag + 1, : 2 * lag + 1]
    reach = min(PEAK, lag // 2)
    far = (np.abs(rows - y) > reach) | (np.abs(cols - x) > reach)
    if peak[1, 1] < MIN_PEAK * np.std(correlation[far]) or peak.min() <= 0:
        return nowhere
    offset = _summit(np.log(peak))
    if np.abs(offset).max() > 1:
        return nowhere
    shift = (float(y - lag + offset[0]), float(x - lag + offset[1]))
    return shift, _shift_error(noisy, clean, good, shift, peak)


def _shift_error(noisy, clean, good, shift, peak):
    """Error of the place of a peak in px: scatter of the slope there over its curvature."""
    clean = ndimage.shift(clean, np.negative(shift), order=3)
    overlap = good * (ndimage.shift(good.astype(np.float32), np.negative(shift), order=1) > 0.99)
    power = np.sqrt(np.sum(overlap * noisy**2) * np.sum(overlap * clean**2))
    scale = np.sum(overlap * noisy * clean) / np.sum(overlap * clean**2)
    slopes = np.stack(np.gradient(clean))
    variance = np.diag(score_covariance(slopes * overlap * (noisy - scale * clean), CELL))
    curvature = [2 * line[1] - line[0] - line[2] for line in (peak[:, 1], peak[1])]
    return float(np.hypot(*(np.sqrt(variance) / (power * np.maximum(curvature, 1e-9)))))


def _cross_correlation(noisy, clean, good, lag):
    """Correlation coefficient at lags (y, x) from -lag to lag, over what is good in both."""
    shape = [fft.next_fast_len(n + lag, real=True) for n in good.shape]

    def spectrum(values):
        return fft.rfft2(values.astype(np.float32), shape)

    def at_lags(product):
        values = fft.irfft2(product, shape)
        return np.roll(values, (lag, lag), axis=(0, 1))[: 2 * lag + 1, : 2 * lag + 1]

    mask = spectrum(good)
    product = at_lags(np.conj(spectrum(noisy)) * spectrum(clean))
    noisy_power = at_lags(np.conj(spectrum(noisy**2)) * mask)
    clean_power = at_lags(np.conj(mask) * spectrum(clean**2))
    return product / np.sqrt(np.maximum(noisy_power * clean_power, 1e-12))


def _summit(peak):
    """Place (y, x) of the maximum of the paraboloid through 3x3 values, from their centre."""
    y, x = (a.ravel() - 1.0 for a in np.mgrid[:3, :3])
    terms = np.stack([np.ones(9), y, x, y * y, x * x, x * y], axis=1)
    _, b_y, b_x, c_yy, c_xx, c_xy = np.linalg.lstsq(terms, peak.ravel(), rcond=None)[0]
    curvature = np.array([[2 * c_yy, c_xy], [c_xy, 2 * c_xx]])
    if np.linalg.det(curvature) <= 0:
        return np.array([np.inf, np.inf])
    return np.linalg.solve(curvature, [-b_y, -b_x])
