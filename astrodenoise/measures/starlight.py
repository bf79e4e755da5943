# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stars of a frame before and after denoising, without a truth: their light and their width."""

from dataclasses import dataclass

import numpy as np

from astrodenoise.limit import box_noise
from astrodenoise.measures import detections, shapes, sources
from astrodenoise.measures.comparison import isolated, usable
from astrodenoise.measures.figures import Figure, blocks_of, median

__all__ = ['StarChanges', 'compare_stars']

LEAST_SNR = 8.0  # matched filter, of stars that are searched
SHAPE_SNR = 30.0  # aperture, of stars whose width is compared
FLUX_BINS = ((12, 50), (50, np.inf))  # S/N of the aperture
MOST = 3000  # stars, the brightest


@dataclass(frozen=True, eq=False)
class StarChanges:
    """
    What became of stars.

    Attributes
    ----------
    figures : dict of `~astrodenoise.measures.figures.Figure`
        'flux 12-50' and 'flux >50': median change of the flux in %, by aperture S/N; 'fwhm': median
        change of the FWHM in %.
    x, y : `numpy.ndarray`, (n,)
        Positions in px.
    snr, change : `numpy.ndarray`, (n,)
        S/N of the aperture in the original, and the change of its flux in %.
    before, after : `numpy.ndarray`, (m,)
        FWHM in px of isolated stars of S/N over 30.
    """

    figures: dict
    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    change: np.ndarray
    before: np.ndarray
    after: np.ndarray


def compare_stars(noisy, denoised, sigma, valid, *, fwhm, correlation):
    """
    Compare the stars of a plane before and after.

    Fluxes are sums over 1.5 FWHM; their change is that of the sum, as a share of the star's own
    flux.  It holds the noise of the original, which averages out over many stars.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        The plane before and after, finite.
    sigma : `numpy.ndarray`, (H, W)
        Noise of each pixel of ``noisy``, in its unit.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    fwhm : float
        Of a star in px.
    correlation : sequence of float
        Autocorrelation of the noise at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    changes : `StarChanges`
        Stars whose aperture holds none but valid pixels.
    """
    y, x, _ = detections.find_stars(noisy, sigma, fwhm=fwhm, threshold=LEAST_SNR, valid=valid)
    stars = sources.measure_stars(noisy, y, x, fwhm)
    stars = stars[usable(valid, stars)]
    if len(stars) > MOST:
        stars = stars[np.sort(np.argsort(-stars.flux)[:MOST])]
    # noise of a sum over an aperture, taken as a square of that area
    side = np.sqrt(np.pi) * stars.radius
    noise = side * box_noise(side, correlation) * np.sqrt(
        sources.aperture_sums(sigma**2, stars.y, stars.x, stars.radius)
    )  # fmt: skip
    snr = stars.flux / noise
    moved = sources.aperture_sums(denoised - noisy, stars.y, stars.x, stars.radius)
    change = 100 * moved / stars.flux
    groups = blocks_of(stars.y, stars.x, noisy.shape)
    bright = isolated(stars)
    bright = bright[np.isin(bright.y, stars.y[snr > SHAPE_SNR])]
    widths = shapes.shape_changes(
        noisy, denoised, bright.y, bright.x, fwhm=fwhm, background=bright.background
    )
    before, after = (_widths(frame, bright) for frame in (noisy, denoised))
    known = np.isfinite(before) & np.isfinite(after)
    figures = {'fwhm': widths['fwhm']}
    for low, high in FLUX_BINS:
        chosen = (snr >= low) & (snr < high)
        name = f'flux {low}-{high}' if np.isfinite(high) else f'flux >{low}'
        figures[name] = Figure(
            f'change of {name}', median, change[chosen, None], groups[chosen], '%',
            count=int(chosen.sum()), least=10, of='stars',
        )  # fmt: skip
    return StarChanges(
        figures, stars.x, stars.y, snr, change, before[known], after[known],
    )  # fmt: skip


def _widths(frame, stars):
    """FWHM of stars in px, NaN where it cannot be measured; their stamps lie inside."""
    half = max(4, int(np.ceil(2 * stars.fwhm)))
    stamps = shapes.stamps_at(frame, stars.y, stars.x, half) - stars.background[:, None, None]
    return shapes.adaptive_moments(stamps, stars.fwhm).fwhm
