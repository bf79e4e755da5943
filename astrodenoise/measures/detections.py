# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Detection of stars before and after: matched filter, completeness, invented and lost sources.

All maps are of matched-filter S/N in units of the *input's* noise, the denoised frame's too: a
source of 5 that is kept whole stands at 5 in both.
"""

from functools import partial

import numpy as np
from scipy import fft, ndimage, spatial

from astrodenoise.background import local_level
from astrodenoise.measures.figures import Figure, block_sums, blocks_of, mean_ratio, median, total
from astrodenoise.measures.shapes import adaptive_moments, stamps_at

__all__ = [
    'completeness',
    'false_peaks',
    'filter_noise',
    'find_stars',
    'invented_and_lost',
    'matched_filter',
    'moffat',
    'peaks',
    'recovered_flux',
]

BETA = 3.0  # of the Moffat profile where no PSF is given
REACH = 4.0  # FWHM, half of a PSF's stamp
FLOOR = 1.0  # S/N below which no peak is looked at
DETECTED, EVIDENCE, LEFT = 5.0, 3.0, 0.3
FIRST_WIDTH = 3.0  # px, FWHM that stars are first searched with
BRIGHTEST = 100  # stars that tell the FWHM
ROUND, ALIKE = 0.25, 0.2  # ellipticity, and difference from the FWHM, of what is no star
MEGA = 1e6  # px per Mpx
FALSE, AREA, SOURCE = range(3)  # rows of the samples of completeness


def moffat(fwhm, *, beta=BETA):
    """
    Draw a Moffat PSF.

    Parameters
    ----------
    fwhm : float
        In px.
    beta : float, optional
        How fast its wings fall.

    Returns
    -------
    psf : `numpy.ndarray`, (s, s)
        Of odd side, 4 FWHM to either side, sum 1.
    """
    half = int(np.ceil(REACH * fwhm))
    fine = (np.arange(-5 * half - 2, 5 * half + 3)) / 5  # five samples across a px
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    profile = (1 + (fine[:, None] ** 2 + fine**2) / alpha**2) ** -beta
    side = 2 * half + 1
    psf = profile.reshape(side, 5, side, 5).sum(axis=(1, 3))
    return psf / psf.sum()


def _convolved(image, kernel):
    """Convolve by Fourier transforms; scipy.signal would load half of scipy for that."""
    shape = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(image.shape, kernel.shape,
                                                                       strict=True)]  # fmt: skip
    product = fft.rfft2(image, shape) * fft.rfft2(kernel, shape)
    first = [(n - 1) // 2 for n in kernel.shape]
    inner = tuple(slice(a, a + n) for a, n in zip(first, image.shape, strict=True))
    return fft.irfft2(product, shape)[inner]


def matched_filter(image, psf, sigma):
    """
    Filter a frame with the PSF: the S/N that a star at each pixel has.

    The sum of image x PSF / sigma^2 over the root of the sum of PSF^2 / sigma^2.  A star of the
    PSF's shape and flux f stands at f times that root; in white noise the map's rms is 1.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        Frame without its background; what is not finite counts as 0.
    psf : `numpy.ndarray`, (s, s)
        Of odd side and sum 1.
    sigma : float or `numpy.ndarray`, (H, W)
        Noise of a pixel, in the unit of the frame.

    Returns
    -------
    snr : `numpy.ndarray`, (H, W)
        Dimensionless.
    """
    weight = 1 / np.broadcast_to(np.asarray(sigma, float), image.shape) ** 2
    light = np.where(np.isfinite(image), image, 0.0) * weight
    turned = psf[::-1, ::-1]
    light = _convolved(light, turned)
    weight = _convolved(weight, turned**2)
    return light / np.sqrt(np.maximum(weight, np.finfo(float).tiny))


def filter_noise(snr, where):
    """
    Measure the noise of a map of matched-filter S/N.

    Half the range from the 16th to the 84th percentile: 1 in white noise of the sigma that the
    filter was told, more where neighbours share noise.

    Parameters
    ----------
    snr : `numpy.ndarray`, (H, W)
        Of the noisy frame.
    where : `numpy.ndarray`, (H, W), bool
        Pixels without sources; 100 at least, else 1 is returned.

    Returns
    -------
    noise : float
        Divide maps by it.
    """
    if np.count_nonzero(where) < 100:
        return 1.0
    return float(np.subtract(*np.percentile(snr[where], [84.13, 15.87])) / 2)


def peaks(snr, threshold, *, where=None):
    """
    Find the local maxima of a map: pixels that no neighbour exceeds.

    Parameters
    ----------
    snr : `numpy.ndarray`, (H, W)
        Any map.
    threshold : float
        What a peak exceeds.
    where : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    y, x : `numpy.ndarray`, (n,), int
        Positions in px.
    height : `numpy.ndarray`, (n,)
        Of the map there.
    """
    found = (snr > threshold) & (snr == ndimage.maximum_filter(snr, 3, mode='nearest'))
    if where is not None:
        found &= where
    y, x = np.nonzero(found)
    return y, x, snr[y, x]


def find_stars(image, sigma, *, fwhm=None, threshold=3.0, valid=None):
    """
    Find the stars of a frame of little or no noise, and their FWHM.

    Peaks of the matched filter; the FWHM is the lower quartile's of the brightest round ones (what
    is wider are galaxies).  Peaks that are elongated, or 20 % wider or narrower, are no stars.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The truth.
    sigma : float or `numpy.ndarray`, (H, W)
        Noise of the noisy frame, in the unit of the frame.
    fwhm : float, optional
        Of a star in px, where it is known.
    threshold : float, optional
        Matched-filter S/N in the noisy frame from which on stars are searched.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    y, x : `numpy.ndarray`, (n,)
        Positions in px, of a part of a pixel.
    fwhm : float
        In px; NaN where no star tells it.
    """
    valid = np.isfinite(image) if valid is None else valid
    image = np.where(valid, image, 0.0)
    light = (image - local_level(image, valid).fine_whole()) * valid
    guess = fwhm or FIRST_WIDTH
    y, x, shapes = _shapes(light, sigma, guess, threshold, valid)
    if fwhm is None:
        tell = (np.hypot(shapes.e1, shapes.e2) < ROUND) & np.isfinite(shapes.fwhm)
        bright = np.flatnonzero(tell)[np.argsort(-light[y, x][tell])[:BRIGHTEST]]
        fwhm = _common(shapes.fwhm[bright])
        if not np.isfinite(fwhm):  # none is round, or no two are alike
            return np.empty(0), np.empty(0), np.nan
        y, x, shapes = _shapes(light, sigma, fwhm, threshold, valid)
    star = (abs(shapes.fwhm / fwhm - 1) < ALIKE) & (np.hypot(shapes.e1, shapes.e2) < ROUND)
    return y[star] + shapes.y[star], x[star] + shapes.x[star], fwhm


def _common(widths):
    """Median of the widths near their lower quartile; NaN where there are none."""
    if not len(widths):
        return np.nan
    alike = widths[abs(widths / np.percentile(widths, 25) - 1) < ALIKE]
    return float(np.median(alike)) if len(alike) else np.nan


def _shapes(light, sigma, fwhm, threshold, valid):
    """Positions and shapes of the peaks of a frame."""
    half = int(np.ceil(2 * fwhm))
    inner = np.zeros(light.shape, bool)
    inner[half:-half, half:-half] = True
    snr = matched_filter(light, moffat(fwhm), sigma)
    y, x, _ = peaks(snr, threshold, where=inner & valid)
    return y, x, adaptive_moments(stamps_at(light, y, x, half), fwhm)


def completeness(snr, y, x, strength, *, low, high, blank, radius, false_per_mpx=1.0):
    """
    Give the share of true sources that are found at a given number of false detections.

    The threshold is set on this very map: so high that peaks further than ``radius`` from all true
    sources, in blank sky, exceed it that often.  A source is found if a peak above the threshold
    lies within ``radius``.

    Parameters
    ----------
    snr : `numpy.ndarray`, (H, W)
        Map in which peaks are detected, in any unit.
    y, x, strength : `numpy.ndarray`, (n,)
        Positions of *all* true sources in px, and their matched-filter S/N.
    low, high : float
        S/N of the sources that are counted.
    blank : `numpy.ndarray`, (H, W), bool
        Where a detection is false.
    radius : float
        In px.
    false_per_mpx : float, optional
        False detections per Mpx of blank sky.

    Returns
    -------
    figure : `Figure`
        From 0 to 1; not testable where the blank sky has less than one false detection to expect.
    """
    strength, places = np.asarray(strength, float), np.column_stack([y, x])
    row, column, height = peaks(snr, FLOOR)
    found = np.zeros(len(strength))
    false = blank[row, column]
    if len(places) and len(row):
        tree = spatial.cKDTree(np.column_stack([row, column]))
        near = tree.query_ball_point(places, radius)
        found = np.array([height[list(own)].max() if own else 0.0 for own in near])
        distance, _ = spatial.cKDTree(places).query(np.column_stack([row, column]))
        false &= distance > radius
    chosen = (strength >= low) & (strength < high)
    area, blocks = block_sums([1.0], blank)
    parts = (
        (FALSE, height[false], blocks_of(row[false], column[false], snr.shape)),
        (AREA, area[:, 0] / MEGA, blocks),
        (SOURCE, found[chosen], blocks_of(places[chosen, 0], places[chosen, 1], snr.shape)),
    )
    return Figure(
        f'completeness at S/N {low:g}-{high:g}, {false_per_mpx:g} false per Mpx',
        partial(_completeness, rate=false_per_mpx),
        np.concatenate([np.column_stack([np.full(len(v), kind), v]) for kind, v, _ in parts]),
        np.concatenate([part for _, _, part in parts]),
        count=int(chosen.sum()), least=10, of='sources',
        reason=f'too little blank sky for {false_per_mpx:g} false detection per Mpx',
    )  # fmt: skip


def _completeness(samples, rate):
    kind, value = samples.T
    allowed = rate * np.sum(value[kind == AREA])
    if allowed < 1 or not np.any(kind == SOURCE):
        return np.nan
    false = np.sort(value[kind == FALSE])[::-1]
    n = int(allowed)
    threshold = false[n] if n < len(false) else FLOOR
    return np.mean(value[kind == SOURCE] > threshold)


def false_peaks(snr, blank, *, threshold=DETECTED):
    """
    Count peaks where there is no source.

    Parameters
    ----------
    snr : `numpy.ndarray`, (H, W)
        Matched-filter S/N of the output in units of the input's measured filter noise.
    blank : `numpy.ndarray`, (H, W), bool
        Sky without sources.
    threshold : float, optional
        Least height of a peak.

    Returns
    -------
    figure : `Figure`
        Peaks per Mpx of blank sky.
    """
    y, x, _ = peaks(snr, threshold, where=blank)
    count = np.zeros(snr.shape)
    count[y, x] = MEGA
    sums, blocks = block_sums([count, 1.0], blank)
    return Figure(
        f'false peaks over {threshold:g} times the input filter noise', mean_ratio, sums, blocks,
        'per Mpx', 2, count=int(np.count_nonzero(blank)), least=10_000,
    )  # fmt: skip


def invented_and_lost(noisy, denoised, *, radius, valid=None):
    """
    Find sources without evidence, and sources that went.

    Invented: peaks over 5 in the output's map with under 3 in the input's within ``radius``.  Lost:
    peaks over 5 in the input's map of which less than 30 % is left in the output's within
    ``radius``.  Chance makes 0.25 peaks per Mpx over 5 in white noise: of those, too, some are
    counted as lost.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        Matched-filter S/N of both, in units of the input's measured filter noise.
    radius : float
        In px; a FWHM is sensible.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'invented' and 'lost': how many.
    positions : dict of list
        'invented' and 'lost' -> [x, y] in px.
    """
    disc = np.hypot(*np.mgrid[-int(radius) : int(radius) + 1, -int(radius) : int(radius) + 1])
    disc = disc <= radius
    near = [ndimage.maximum_filter(snr, footprint=disc) for snr in (noisy, denoised)]
    valid = np.ones(noisy.shape, bool) if valid is None else valid
    figures, positions = {}, {}
    for name, snr, other, least, share in (
        ('invented', denoised, near[0], EVIDENCE, 0.0),
        ('lost', noisy, near[1], 0.0, LEFT),
    ):
        y, x, height = peaks(snr, DETECTED, where=valid)
        gone = other[y, x] < least + share * height
        count = np.zeros(snr.shape)
        count[y[gone], x[gone]] = 1
        sums, blocks = block_sums([count], valid)
        figures[name] = Figure(
            f'{name} sources', total, sums, blocks, '', 0, count=len(y), least=0, of='peaks',
        )  # fmt: skip
        positions[name] = [[int(a), int(b)] for a, b in zip(x[gone], y[gone], strict=True)]
    return figures, positions


def recovered_flux(error, y, x, strength, *, low, high):
    """
    Measure the flux of faint sources by the matched filter at their true places.

    Parameters
    ----------
    error : `numpy.ndarray`, (H, W)
        Matched filter of (output - truth).
    y, x, strength : `numpy.ndarray`, (n,)
        Positions of the sources in px, and their matched-filter S/N.
    low, high : float
        S/N of the sources that are counted.

    Returns
    -------
    figure : `Figure`
        Median of the recovered over the true flux.
    """
    strength = np.asarray(strength, float)
    chosen = (strength >= low) & (strength < high)
    y, x = (np.asarray(at)[chosen] for at in (y, x))
    rows, columns = (np.round(at).astype(int) for at in (y, x))
    ratio = 1 + error[rows, columns] / strength[chosen]
    return Figure(
        f'recovered flux at S/N {low:g}-{high:g}', median, ratio[:, None],
        blocks_of(y, x, error.shape), count=len(ratio), least=10, of='sources',
    )  # fmt: skip
