# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
One plane with what it is compared with, and what every measure needs to know of it.

Sigma, sky, stars and their width are found where they are not given.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage, spatial

from astrodenoise.background import fill_nearest, local_level
from astrodenoise.estimate import MIN_PIXELS, measure_plane
from astrodenoise.measures import detections, pixels, residuals, sources
from astrodenoise.tiling import fitting_tile

__all__ = [
    'Comparison',
    'filled',
    'fitted_sigma',
    'isolated',
    'open_comparison',
    'seam_figure',
    'star_places',
    'star_width',
    'usable',
    'whiteness',
    'whole',
]

SKY_QUANTILE, SKY_SMOOTH = 0.05, 2.0  # of the smoothed truth: the level of the sky; px
CLIP = 5.0  # sigma
ISOLATION, NEIGHBOUR = 4.0, 0.1  # FWHM, and flux of a neighbour that counts
ROUGH = 0.1  # sigma, of the Laplacian of the scene below which it is smooth
NOISY_TRUTH = 0.1  # of the frame's sigma: a note is made
DEFAULT_WIDTH = 3.0  # px, FWHM of the filter where no star tells it


@dataclass(frozen=True, eq=False)
class Comparison:
    """
    A denoised plane and its truth.

    Attributes
    ----------
    truth, noisy, denoised : `numpy.ndarray`, (H, W)
        Finite everywhere: what does not count holds its nearest neighbour.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    sigma : `numpy.ndarray`, (H, W)
        True noise of each pixel of ``noisy``.
    level : `numpy.ndarray`, (H, W)
        The truth above the sky, in sigma.
    y, x : `numpy.ndarray`, (n,)
        All stars, in px.
    fwhm : float
        Of a star in px.
    error_map : `numpy.ndarray`, (H, W), or None
        Predicted error of ``denoised``, in the unit of the frames.
    notes : tuple of str
        What a reader of the figures must know.
    """

    truth: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    valid: np.ndarray
    sigma: np.ndarray
    level: np.ndarray
    y: np.ndarray
    x: np.ndarray
    fwhm: float
    error_map: np.ndarray | None = None
    notes: tuple = ()

    @cached_property
    def before(self):
        """Noise of the noisy frame in sigma, 0 where no pixel counts."""
        return self.valid * (self.noisy - self.truth) / self.sigma

    @cached_property
    def after(self):
        """Error of the denoised frame in sigma, 0 where no pixel counts."""
        return self.valid * (self.denoised - self.truth) / self.sigma

    @cached_property
    def residual(self):
        """What was taken away, in sigma."""
        return self.valid * (self.noisy - self.denoised) / self.sigma

    @cached_property
    def sky(self):
        """The pixels of the sky (bool)."""
        return pixels.regions(self.level)['sky'] & self.valid

    @cached_property
    def light(self):
        """The truth without its level on 20 px."""
        return self.truth - self.background

    @cached_property
    def background(self):
        """The level of the truth on 20 px."""
        return local_level(self.truth, self.valid).fine_whole()

    @cached_property
    def strength(self):
        """Matched-filter S/N of the truth's own light."""
        return self.filtered(self.light)

    @cached_property
    def stars(self):
        """Stars whose aperture holds none but valid pixels."""
        stars = sources.measure_stars(self.truth, self.y, self.x, self.fwhm)
        return stars[usable(self.valid, stars)]

    @cached_property
    def psf(self):
        """The PSF of the matched filter."""
        return detections.moffat(self.fwhm)

    def filtered(self, frame):
        """
        Give the matched-filter S/N of a frame in units of the pixels' sigma.

        Parameters
        ----------
        frame : `numpy.ndarray`, (H, W)
            Without its background.

        Returns
        -------
        snr : `numpy.ndarray`, (H, W)
            Dimensionless.
        """
        return detections.matched_filter(frame * self.valid, self.psf, self.sigma)


def open_comparison(
    truth, noisy, denoised, valid, *, sigma=None, sky=None, stars=None, fwhm=None, error_map=None
):
    """
    Find out about a plane what was not given.

    Parameters
    ----------
    truth, noisy, denoised : `numpy.ndarray`, (H, W)
        Frames in one unit.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    sigma, sky, stars, fwhm, error_map : optional
        As `astrodenoise.quality.evaluate` takes them.

    Returns
    -------
    comparison : `Comparison`
        What the measures take.

    Raises
    ------
    ValueError
        If no pixel counts, or the noise must be measured and cannot be.
    """
    truth, noisy, denoised = filled((truth, noisy, denoised), valid)
    if sigma is None:
        sigma = fitted_sigma(noisy, truth, noisy - truth, valid)
    sigma = np.broadcast_to(np.asarray(sigma, float), truth.shape)
    if sky is None:
        smooth = ndimage.gaussian_filter(truth, SKY_SMOOTH)
        sky = np.quantile(smooth[valid], SKY_QUANTILE)
    notes = _notes_of_truth(truth, sigma, valid)
    if stars is None:
        y, x, width = detections.find_stars(truth, sigma, fwhm=fwhm, valid=valid)
    else:
        y, x = star_places(stars)
        width = fwhm or detections.find_stars(truth, sigma, valid=valid)[2]
    width, more = star_width(width)
    return Comparison(
        truth, noisy, denoised, valid, sigma, (truth - sky) / sigma, y, x, width,
        None if error_map is None else np.asarray(error_map, float), notes + more,
    )  # fmt: skip


def filled(frames, valid):
    """
    Fill what does not count with the nearest that does.

    Parameters
    ----------
    frames : sequence of `numpy.ndarray`
        (H, W) each.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    frames : list of `numpy.ndarray`
        Finite where they were finite at the pixels that count.

    Raises
    ------
    ValueError
        If no pixel counts.
    """
    if not valid.any():
        msg = 'no pixel is finite and valid in all frames: there is nothing to compare'
        raise ValueError(msg)
    return [fill_nearest(frame, valid) for frame in frames]


def _notes_of_truth(truth, sigma, valid):
    if np.count_nonzero(valid) < MIN_PIXELS or min(truth.shape) < 8:
        return ()
    share = measure_plane(truth, valid).sigma / np.median(sigma[valid])
    if share < NOISY_TRUTH:
        return ()
    return (
        f'the truth has noise of its own, {share:.2f} of the noisy frame: every error holds it',
    )


def star_width(width):
    """
    Take a default where no star tells the width.

    Parameters
    ----------
    width : float
        FWHM in px, or NaN.

    Returns
    -------
    width : float
        FWHM in px.
    notes : tuple of str
        That it is a default.
    """
    if np.isfinite(width):
        return float(width), ()
    note = f'no star tells the FWHM: the matched filter is made for {DEFAULT_WIDTH:g} px'
    return DEFAULT_WIDTH, (note,)


def star_places(stars):
    """
    Read positions from an array or a table.

    Parameters
    ----------
    stars : `numpy.ndarray`, (n, 2), or table
        Positions x, y in px, or a table with columns ``x`` and ``y``.

    Returns
    -------
    y, x : `numpy.ndarray`, (n,)
        In px.
    """
    names = getattr(stars, 'colnames', None) or getattr(getattr(stars, 'dtype', None), 'names', ())
    if names:
        return np.asarray(stars['y'], float), np.asarray(stars['x'], float)
    places = np.asarray(stars, float).reshape(-1, 2)
    return places[:, 1], places[:, 0]


def fitted_sigma(frame, level, noise, valid):
    """
    Give the sigma of each pixel: the frame's own noise law, scaled to what its noise is.

    Parameters
    ----------
    frame : `numpy.ndarray`, (H, W)
        The noisy frame, whose law is measured.
    level : `numpy.ndarray`, (H, W)
        Its signal without noise.
    noise : `numpy.ndarray`, (H, W)
        Its noise.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    sigma : `numpy.ndarray`, (H, W), float64
        In the unit of the frame.

    Raises
    ------
    ValueError
        If the frame is too small or shows no noise.
    """
    plane = measure_plane(frame, valid)
    if plane.sigma == 0:
        msg = 'the noisy frame shows no noise: pass sigma= with that of a pixel'
        raise ValueError(msg)
    sigma = plane.sigma_at(level).astype(float)
    pulls = (noise / sigma)[valid]
    scale = np.std(pulls)
    for _ in range(5):
        scale = np.std(pulls[abs(pulls) <= CLIP * scale])
    return sigma * (scale or 1.0)


def usable(valid, stars):
    """
    Tell the stars whose aperture holds none but valid pixels.

    Parameters
    ----------
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    stars : `astrodenoise.measures.sources.Stars`
        Inside the frame.

    Returns
    -------
    usable : `numpy.ndarray`, (n,), bool
        Which of them are.
    """
    near = ndimage.minimum_filter(valid, 2 * int(np.ceil(stars.radius)) + 1)
    return near[whole(stars.y), whole(stars.x)]


def isolated(stars):
    """
    Choose the stars without a neighbour of a tenth of their flux within 4 FWHM.

    Parameters
    ----------
    stars : `astrodenoise.measures.sources.Stars`
        All stars.

    Returns
    -------
    stars : `astrodenoise.measures.sources.Stars`
        Those.
    """
    alone = np.ones(len(stars), bool)
    if len(stars) > 1:
        tree = spatial.cKDTree(np.column_stack([stars.y, stars.x]))
        i, j = tree.query_pairs(ISOLATION * stars.fwhm, output_type='ndarray').T
        alone[i[stars.flux[j] > NEIGHBOUR * stars.flux[i]]] = False
        alone[j[stars.flux[i] > NEIGHBOUR * stars.flux[j]]] = False
    return stars[alone]


def whole(at):
    """
    Round positions to whole pixels.

    Parameters
    ----------
    at : `numpy.ndarray`
        In px.

    Returns
    -------
    at : `numpy.ndarray` of int
        In px.
    """
    return np.round(at).astype(int)


def whiteness(residual, noise, output, sky):
    """
    Measure the residual of the sky: autocorrelation, and correlation with the output.

    Parameters
    ----------
    residual, noise, output : `numpy.ndarray`, (H, W)
        Noisy minus denoised, the noise itself, and the denoised frame, in sigma.
    sky : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'residual lag 1', 'residual lag 2', 'residual output'.
    own : dict of `Figure`
        The noise's own lags.
    """
    figures, own = (
        {f'residual lag {lag}': residuals.autocorrelation(plane, sky, lag=lag) for lag in (1, 2)}
        for plane in (residual, noise)
    )
    for key, figure in figures.items():
        figures[key] = replace(figure, label=f'residual in the sky, {figure.label}')
    figures['residual output'] = residuals.output_correlation(residual, output, sky)
    return figures, own


def seam_figure(image, scene, valid):
    """
    Measure the seams of default tiles where the scene is smooth.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The output, or its error, in sigma.
    scene : `numpy.ndarray`, (H, W)
        The scene, with little noise, in sigma.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    figure : `Figure`
        As `astrodenoise.measures.residuals.seams` gives it.
    """
    rough = np.abs(ndimage.gaussian_laplace(scene, 1.0)) > ROUGH
    tile_size, overlap = fitting_tile(image.shape, 0.25)
    lines = tuple(
        residuals.tile_lines(n, tile_size=tile_size, overlap=overlap) for n in image.shape
    )
    return residuals.seams(image, lines, ~ndimage.maximum_filter(rough | ~valid, 7))
