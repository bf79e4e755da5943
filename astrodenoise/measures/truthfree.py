# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What can be said of a denoised real frame with a second exposure of the same field."""

import numpy as np
from scipy import ndimage

from astrodenoise.background import local_level
from astrodenoise.estimate import measure_plane
from astrodenoise.measures import detections, pixels, residuals, sources
from astrodenoise.measures.comparison import (
    filled,
    fitted_sigma,
    seam_figure,
    star_width,
    usable,
    whiteness,
)
from astrodenoise.measures.figures import Evaluation, Figure

__all__ = ['measure_pair']

SMOOTH = 2.0  # px, of what tells the signal: chosen by less, noise would choose itself
LEAST_SNR = 12.0  # matched filter, of stars that are searched
PHOTOMETRY = 0.02  # difference of the exposures' brightness beyond which a note is made
NEEDS_TRUTH = {
    'flux.sigma 5-12': ('flux bias, S/N 5-12', 'stars chosen by noisy light are biased'),
    'flux.scatter': ('flux scatter', 'needs a truth'),
    'shape': ('shapes, colours and rings of stars', 'needs a truth'),
    'completeness': ('completeness and false peaks', 'needs a truth'),
    'calibration': ('error over predicted error', 'needs a truth'),
}


def measure_pair(first, second, denoised, valid, *, sigma=None, sigma_second=None, fwhm=None):
    """
    Take all figures of a plane that need no truth.

    Parameters
    ----------
    first, second, denoised : `numpy.ndarray`, (H, W)
        Two exposures with independent noise, and what was made of the first.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    sigma, sigma_second, fwhm : optional
        As `astrodenoise.quality.evaluate_pair` takes them.

    Returns
    -------
    evaluation : `~astrodenoise.measures.figures.Evaluation`
        Of the plane.

    Raises
    ------
    ValueError
        If no pixel counts, or the noise must be measured and cannot be.
    """
    first, second, denoised = filled((first, second, denoised), valid)
    mean = ndimage.gaussian_filter((first + second) / 2, SMOOTH)
    both = _sigmas(first, second, mean, valid, sigma, sigma_second)
    noise = valid * (first - second) / np.hypot(*both)
    sky = measure_plane((first + second) / 2, valid).sky
    level = (mean - sky) / both[0]
    in_sky = pixels.regions(level)['sky'] & valid
    # what is compared with the first exposure is not chosen by it
    by_second = ndimage.gaussian_filter(second, SMOOTH) - sky
    by_second = pixels.regions(by_second / both[0])['sky'] & valid
    change, error = ((denoised - frame) / both[0] for frame in (first, second))
    figures, noisy = whiteness(-change, noise, denoised / both[0], in_sky)
    gains = pixels.pair_gains(
        first, denoised, second, sigma=both[0], variance=both[1] ** 2, level=level, valid=valid
    )
    stars, width, notes = _stars(first, second, both, fwhm, valid)
    found, positions = _sources(first, denoised, both[0], width, in_sky, valid)
    figures = {
        **{f'gain.{key}': figure for key, figure in gains.items()},
        'sky shift': residuals.sky_shift(change, by_second),
        'block scatter': residuals.block_scatter(noise * np.hypot(*both) / both[0], error, in_sky),
        **_bands(denoised / both[0], in_sky),
        **figures,
        'seams': seam_figure(denoised / both[0], mean / both[0], valid),
        **_fluxes(first, second, denoised, stars, both[0]),
        **found,
    }
    noisy |= _bands(first / both[0], in_sky)
    for key, (label, reason) in NEEDS_TRUTH.items():
        figures[key] = Figure(label, reason=reason)
    return Evaluation(figures, noisy, positions, notes + _photometry(first, second, level, valid))


def _sigmas(first, second, mean, valid, sigma, sigma_second):
    """Sigma of both exposures, scaled together to what their difference shows."""
    given = [None if s is None else np.broadcast_to(np.asarray(s, float), mean.shape)
             for s in (sigma, sigma_second)]  # fmt: skip
    if all(s is not None for s in given):
        return given
    found = [
        fitted_sigma(frame, mean, np.zeros(mean.shape), valid) if s is None else s
        for frame, s in zip((first, second), given, strict=True)
    ]
    pulls = (first - second)[valid] / np.hypot(*found)[valid]
    scale = np.subtract(*np.percentile(pulls, [84.13, 15.87])) / 2
    return [scale * f if s is None else s for f, s in zip(found, given, strict=True)]


def _stars(first, second, both, fwhm, valid):
    """Bright stars of the mean of both exposures."""
    mean = (first + second) / 2
    y, x, width = detections.find_stars(
        mean, np.hypot(*both) / 2, fwhm=fwhm, threshold=LEAST_SNR, valid=valid
    )
    width, notes = star_width(width)
    stars = sources.measure_stars(mean, y, x, width)
    return stars[usable(valid, stars)], width, notes


def _fluxes(first, second, denoised, stars, sigma):
    """Median change of fluxes against the noisy frame, whose own noise averages out."""
    noisy = first + (second - first) / np.sqrt(2)  # of this noise, to the first exposure
    figures = sources.aperture_flux(first, noisy, denoised, stars, sigma=sigma)
    kept = {
        key: figure
        for key, figure in figures.items()
        if not key.startswith('scatter') and not key.endswith('5-12')
    }
    return {f'flux.{key}': figure for key, figure in kept.items()}


def _bands(image, sky):
    return {
        'banding rows': residuals.banding_amplitude(image, sky),
        'banding columns': residuals.banding_amplitude(image, sky, axis=1),
    }


def _sources(first, denoised, sigma, width, sky, valid):
    """Invented and lost sources."""
    background = local_level(first, valid).fine_whole()
    psf = detections.moffat(width)
    maps = [
        detections.matched_filter((frame - background) * valid, psf, sigma)
        for frame in (first, denoised)
    ]
    noise = detections.filter_noise(maps[0], sky)
    return detections.invented_and_lost(maps[0] / noise, maps[1] / noise, radius=width, valid=valid)


def _photometry(first, second, level, valid):
    """A note where the exposures differ in brightness."""
    bright = pixels.regions(level)['bright'] & valid
    if np.count_nonzero(bright) < pixels.LEAST:
        return ()
    a, b = (frame[bright] - np.median(frame[valid & ~bright]) for frame in (first, second))
    ratio = np.sum(a * b) / np.sum(a * a)
    if not abs(ratio - 1) > PHOTOMETRY:
        return ()
    return (f'the exposures differ in brightness by a factor of {ratio:.3f}: match them first',)
