# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How noise is correlated, and by how much the rms of a pixel exceeds its finest scale.

Read where the frame is calm.  Unseen stars are correlated too; they show by their skewness, and
then only the scales finer than they are tell of the noise.
"""

import numpy as np
from scipy import ndimage

from astrodenoise.cells import N_SIGMA_CLIP, cell_statistic, median_sigma
from astrodenoise.noisemodel import LAGS

__all__ = ['total_noise']

RESTLESS = 0.2  # sigma; calm cells whose level varies by more than this are not calm
SHORT = 7  # px, box whose mean stands for structure where no cell is calm
CROWDED = 0.12  # skewness of 3x3 means above which they hold unseen stars
COHERENT = 50  # px, the largest area in which noise counts as one draw of that skewness
BLOCK = 48  # px, side of the pieces whose power spectra are averaged
UNTOUCHED = 0.35  # cycles per px; unseen stars have next to no power beyond
NEXT = 0.42  # from there to here the power tells how it goes on below
FLAT = 1.6  # ratio of the power there to that beyond 0.55, up to which noise is nearly white


def _correlation(unit, good):
    """Autocorrelation at `LAGS` of unit-variance noise over the good pixels."""
    held = np.clip(unit, -N_SIGMA_CLIP, N_SIGMA_CLIP)
    values = np.where(good, held, 0).astype(np.float32)
    height, width = values.shape
    total = np.sum(values**2, dtype=np.float64)
    count = np.count_nonzero(good)
    if count < 64 or total == 0:
        return [0.0] * len(LAGS)
    result = []
    for dy, dx in LAGS:
        a = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        b = (slice(dy, height), slice(max(0, dx), width + min(0, dx)))
        pairs = np.count_nonzero(good[a] & good[b])
        product = np.sum(values[a] * values[b], dtype=np.float64)
        result.append(float(np.clip(product / max(pairs, 1) / (total / count), -1, 1)))
    return result


def _rms(values):
    """Rms with outliers held at 4 times itself."""
    square = values**2
    rms = median_sigma(values) or np.sqrt(np.mean(square))
    for _ in range(3):
        rms = np.sqrt(np.mean(np.minimum(square, (N_SIGMA_CLIP * rms) ** 2)))
    return rms


def _rms_ratio(unit, calm, cells):
    """Rms of a pixel over its finest scale: the median of the calm cells."""
    ratios = cell_statistic(cells, unit, calm, _rms)
    return float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else 1.0


def _skewness(unit, calm):
    """How much further the 3x3 means reach up than down, and the error of that."""
    means = ndimage.uniform_filter(unit, 3, mode='nearest')[calm]
    if means.size < COHERENT:
        return 0.0, np.inf
    scaled = (means - np.median(means)) / max(np.std(means), 1e-30)
    error = np.sqrt(6 * COHERENT / means.size)
    return float(np.mean(np.clip(scaled, -N_SIGMA_CLIP, N_SIGMA_CLIP) ** 3)), error


def _spectrum(unit, calm):
    """Power spectrum of calm pixels, averaged over blocks; None where there is no block."""
    line = np.hanning(BLOCK + 2)[1:-1]
    window = (line[:, None] * line).astype(np.float32)
    total, weight = 0.0, 0.0
    for y in range(0, unit.shape[0] - BLOCK + 1, BLOCK):
        for x in range(0, unit.shape[1] - BLOCK + 1, BLOCK):
            part = np.s_[y : y + BLOCK, x : x + BLOCK]
            if np.mean(calm[part]) < 0.5:
                continue
            held = np.where(calm[part], np.clip(unit[part], -N_SIGMA_CLIP, N_SIGMA_CLIP), 0)
            total = total + np.abs(np.fft.fft2(window * held)) ** 2
            weight += float(np.sum(window[calm[part]] ** 2))
    return total / weight if weight else None


def _behind_stars(unit, calm):
    """
    Noise behind unseen stars: the power of the fine scales, carried on to the coarse ones.

    A star's image has next to no power beyond 0.35 cycles per px.  There white noise is flat; noise
    that falls steeply there is correlated by itself, and what it does below cannot be told: None.
    """
    power = _spectrum(unit, calm)
    if power is None:
        return None
    line = np.fft.fftfreq(BLOCK)
    k = np.hypot(line[:, None], line)
    edge = np.mean(power[(k >= UNTOUCHED) & (k < NEXT)])
    if edge > FLAT * np.mean(power[k > 0.55]):
        return None
    fall = edge / np.mean(power[(k >= NEXT) & (k < 2 * NEXT - UNTOUCHED)])
    power[k < UNTOUCHED] = edge * np.clip(fall, 1.0, 2.0)
    kernel = np.zeros(power.shape)  # that of `astrodenoise.estimate`, which gave the unit
    second = np.array([1, -2, 1])
    kernel[:3, :3] = np.outer(second, second) / 6
    finest = np.mean(power * np.abs(np.fft.fft2(kernel)) ** 2)
    autocovariance = np.fft.ifft2(power).real
    rho = [float(autocovariance[lag] / autocovariance[0, 0]) for lag in LAGS]
    return float(np.sqrt(np.mean(power) / finest)), rho


def total_noise(unit, calm, cells, unrest):
    """
    Rms of a pixel over its finest scale, and the noise's correlation.

    Where even the calm cells hold structure on 20 px, only what differs from the mean of 7x7 px
    counts; that mean's own noise is put back from the correlation.

    Parameters
    ----------
    unit : `numpy.ndarray`, (H, W), float
        Contrast to the local level in units of the finest scale's sigma.
    calm : `numpy.ndarray`, (H, W), bool
        The pixels that tell.
    cells : list of list of tuple of slice
        As `astrodenoise.cells.make_cells` gives them.
    unrest : float
        How much the level of calm cells varies, in the same unit.

    Returns
    -------
    ratio : float
        Rms of a pixel over what its finest scale alone would make of white noise; 0 where the
        pixels are all alike.
    correlation : list of float
        Autocorrelation at `astrodenoise.noisemodel.LAGS`.
    """
    ratio = _rms_ratio(unit, calm, cells)
    if ratio == 0:
        return 0.0, [0.0] * len(LAGS)
    if unrest < RESTLESS * ratio:
        return ratio, _correlation(unit / ratio, calm)
    fine = unit - ndimage.uniform_filter(unit, SHORT, mode='nearest')
    skewness, error = _skewness(fine, calm)
    if skewness > max(CROWDED, 5 * error):
        behind = _behind_stars(fine, calm)
        if behind is not None:
            return behind
    short_ratio = _rms_ratio(fine, calm, cells)
    if short_ratio > 0.97 * ratio:
        return ratio, _correlation(unit / ratio, calm)
    seen = np.array(_correlation(fine / short_ratio, calm))
    total = max(1 + 2 * seen.sum(), 0.1)
    share = total / (SHORT**2 - 2 * len(LAGS) + 2 * seen.sum())
    ratio = min(ratio, short_ratio / np.sqrt(1 - min(share, 0.5)))
    return ratio, [float(rho) for rho in seen * (1 - share) + share]


