# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""One plane before and after denoising, with all that can be measured of it without a truth."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from astrodenoise.background import fill_nearest, local_level
from astrodenoise.measures import curves, findings, residuals
from astrodenoise.measures.figures import Figure, block_sums, mean_ratio, root_ratio
from astrodenoise.measures.starlight import StarChanges, compare_stars

__all__ = ['Examination', 'examine_plane']

MIDDLE = 2048  # px, side of the piece in which stars and curves are looked at
LEAST = 400  # px without sources
ROUGH = 0.1  # sigma, of the Laplacian of the scene below which it is smooth
UNTOUCHED = 1e-6  # sigma, rms of a residual that is none


@dataclass(frozen=True, eq=False)
class Examination:
    """
    What was measured of a plane.

    Attributes
    ----------
    evidence : `astrodenoise.measures.findings.SourceEvidence`
        Its sources before and after.
    sizes, beyond : list of `astrodenoise.measures.findings.Move`
        The boxes that changed most.
    stars : `astrodenoise.measures.starlight.StarChanges`
        Its stars, of the middle.
    figures : dict of `astrodenoise.measures.figures.Figure`
        'sky' (mean change in sigma), 'size' (rms of the residual in sigma), 'lag 1' and 'lag 2'
        (autocorrelation of the residual), 'seams'.
    histogram, spectra, correlations : dict or None
        As `astrodenoise.measures.curves` gives them.
    quiet : float
        Share of the plane's middle without sources.
    pixels : int
        That count, of the whole plane.
    middle : tuple of slice
        Rows and columns of the piece in which stars and curves were looked at.
    """

    evidence: findings.SourceEvidence
    sizes: list
    beyond: list
    stars: StarChanges
    figures: dict
    histogram: dict | None
    spectra: dict | None
    correlations: dict | None
    quiet: float
    pixels: int
    middle: tuple


def examine_plane(noisy, denoised, noise, sigma, valid, *, limit=6.0, tiles=None):
    """
    Measure what can be measured of a plane without its truth.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        The plane before and after.
    noise : `astrodenoise.noisemodel.PlaneNoise`
        Noise of ``noisy``.
    sigma : float or `numpy.ndarray`, (H, W)
        The same of each pixel.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    limit : float, optional
        Boxes that changed by more than that many times their noise are listed.
    tiles : tuple of (int, float), optional
        Side and overlap of the tiles in which the frame was denoised.

    Returns
    -------
    examination : `Examination`
        All of it.
    """
    noisy, denoised = (fill_nearest(frame, valid) for frame in (noisy, denoised))
    sigma = np.broadcast_to(np.asarray(sigma), noisy.shape)
    change = (valid * ((denoised - noisy) / sigma)).astype(np.float32)
    sizes, beyond = findings.largest_moves(change, noise.correlation, limit=limit)
    sources = findings.weigh_sources(noisy, denoised, sigma, valid)
    middle = tuple(slice(max(n - MIDDLE, 0) // 2, min(n + MIDDLE, 2 * n) // 2)
                   for n in noisy.shape)  # fmt: skip
    n_pixels, shape = int(np.count_nonzero(valid)), noisy.shape
    noisy, denoised, sigma, valid, change = (
        part[middle] for part in (noisy, denoised, sigma, valid, change)
    )
    levels = [local_level(frame, valid) for frame in (noisy, denoised)]
    quiet = findings.quiet_pixels(denoised, levels[1].fine_whole(), sigma, valid)
    own = {
        name: (frame - level.wide_at(*(np.arange(n) for n in frame.shape))) / sigma
        for name, frame, level in zip(('noisy', 'denoised'), (noisy, denoised), levels, strict=True)
    }
    spectra = curves.power_spectra(own | {'residual': -change}, quiet)
    if spectra is not None:
        spectra['noise'] = curves.noise_spectrum(noise.correlation)
    return Examination(
        evidence=sources,
        sizes=sizes,
        beyond=beyond,
        stars=compare_stars(
            noisy, denoised, sigma, valid, fwhm=sources.fwhm, correlation=noise.correlation
        ),
        figures={
            **_figures(change, quiet),
            'seams': _seams(denoised / sigma, valid, tiles, shape, middle, change),
        },
        histogram=curves.residual_histogram(-change, quiet),
        spectra=spectra,
        correlations=curves.axis_correlations(-change, quiet),
        quiet=float(np.mean(quiet)),
        pixels=n_pixels,
        middle=middle,
    )


def _figures(change, quiet):
    """Figures of the residual where there are no sources."""
    count = int(np.count_nonzero(quiet))
    sums, numbers = block_sums([change, 1.0], quiet)
    squares, _ = block_sums([np.square(change, dtype=float), 1.0], quiet)
    figures = {
        'sky': Figure('mean change of the sky', mean_ratio, sums, numbers, 'sigma', 4,
                      count=count, least=LEAST),
        'size': Figure('rms of the residual', root_ratio, squares, numbers, 'sigma', 3,
                       count=count, least=LEAST),
    }  # fmt: skip
    for lag in (1, 2):
        if count and np.std(change[quiet]) > UNTOUCHED:
            figures[f'lag {lag}'] = residuals.autocorrelation(-change, quiet, lag=lag)
        else:
            figures[f'lag {lag}'] = Figure(f'lag-{lag} autocorrelation', reason='nothing changed')
    return figures


def _seams(image, valid, tiles, shape, middle, change):
    """Seams of the tiles, where they are known and the scene is smooth."""
    if tiles is None:
        return Figure('seams of tiles', reason='the tiles of this denoiser are not known')
    if not np.any(change):
        return Figure('seams of tiles', reason='nothing changed')
    lines = []
    for n, part in zip(shape, middle, strict=True):
        whole = residuals.tile_lines(n, tile_size=tiles[0], overlap=tiles[1])
        inside = (whole > part.start) & (whole < part.stop)
        lines.append(whole[inside] - part.start)
    if not any(len(own) for own in lines):
        return Figure('seams of tiles', reason='one tile covers the frame')
    rough = np.abs(ndimage.gaussian_laplace(image, 1.0)) > ROUGH
    return residuals.seams(image, lines, ~ndimage.maximum_filter(rough | ~valid, 7))
