# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Light of stars, galaxies and patches in a denoised frame, against the truth.

Every flux is measured with the same aperture on the output and on the truth, so that an error of a
flux is the sum of (output - truth) over the aperture; neighbours and backgrounds cancel.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from astrodenoise.measures.figures import Figure, blocks_of, median
from astrodenoise.measures.shapes import adaptive_moments, stamps_at

__all__ = [
    'APERTURE',
    'SNR_BINS',
    'Stars',
    'aperture_flux',
    'aperture_noise',
    'aperture_sums',
    'band_leakage',
    'galaxy_light',
    'measure_stars',
    'patch_flux',
    'response',
    'rings',
    'star_colour',
]

APERTURE = 1.5  # FWHM, radius
SNR_BINS = ((5, 12), (12, 50), (50, np.inf))  # of the aperture
ANNULUS = (3.0, 5.0)  # FWHM, of a star's background
RINGS = (2, 3, 5, 8, 12, 20)  # FWHM, edges of the annuli round bright stars
GROWTH = 32  # radii of a growth curve
STEP = 0.1  # of the flux, by which a source is changed to see the response


@dataclass(frozen=True, eq=False)
class Stars:
    """
    Stars of a truth.

    Attributes
    ----------
    y, x : `numpy.ndarray`, (n,)
        Positions in px.
    flux : `numpy.ndarray`, (n,)
        In an aperture of 1.5 FWHM, without background.
    background : `numpy.ndarray`, (n,)
        Of a pixel.
    fwhm : float
        Of a star in px.
    """

    y: np.ndarray
    x: np.ndarray
    flux: np.ndarray
    background: np.ndarray
    fwhm: float

    @property
    def radius(self):
        """Radius of the aperture in px (float)."""
        return APERTURE * self.fwhm

    def __len__(self):
        return len(self.x)

    def __getitem__(self, chosen):
        parts = (part[chosen] for part in (self.y, self.x, self.flux, self.background))
        return Stars(*parts, self.fwhm)


def measure_stars(truth, y, x, fwhm):
    """
    Measure stars in the truth: the aperture's flux and the background.

    The background is the median of the pixels at 3 to 5 FWHM.  Stars whose annulus leaves the frame
    or that have no flux are left out.

    Parameters
    ----------
    truth : `numpy.ndarray`, (H, W)
        Noiseless frame.
    y, x : `numpy.ndarray`, (n,)
        Positions in px.
    fwhm : float
        Of a star in px.

    Returns
    -------
    stars : `Stars`
        Those that were measured.
    """
    half = int(np.ceil(ANNULUS[1] * fwhm))
    y, x = np.asarray(y, float), np.asarray(x, float)
    inside = (np.round(y) >= half) & (np.round(y) < truth.shape[0] - half)
    inside &= (np.round(x) >= half) & (np.round(x) < truth.shape[1] - half)
    y, x = y[inside], x[inside]
    at = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    ring = (at >= ANNULUS[0] * fwhm) & (at <= ANNULUS[1] * fwhm)
    background = np.zeros(len(y))
    for start in range(0, len(y), 500):  # bounds the memory
        part = slice(start, start + 500)
        background[part] = np.median(stamps_at(truth, y[part], x[part], half)[:, ring], axis=1)
    radius = APERTURE * fwhm
    flux = aperture_sums(truth, y, x, radius) - background * np.pi * radius**2
    stars = Stars(y, x, flux, background, fwhm)
    return stars[flux > 0]


def aperture_noise(noise, sigma, y, x, radius):
    """
    Give the noise of apertures, correlation included.

    The root of the sum of sigma squared, times the ratio by which the sums of the noise over a grid
    of apertures exceed that: 1 for white noise.

    Parameters
    ----------
    noise : `numpy.ndarray`, (H, W)
        Noisy frame minus truth.
    sigma : `numpy.ndarray`, (H, W)
        True noise of each pixel, in the unit of the frame.
    y, x : `numpy.ndarray`, (n,)
        Positions in px.
    radius : float
        Of the apertures in px.

    Returns
    -------
    noise : `numpy.ndarray`, (n,)
        Rms of the sum over each aperture.
    """
    step = 2 * radius + 1
    rows, columns = (np.arange(radius + 1, n - radius - 1, step) for n in noise.shape)
    factor = 1.0
    if len(rows) * len(columns) >= 25:
        rows, columns = (part.ravel() for part in np.meshgrid(rows, columns, indexing='ij'))
        pulls = aperture_sums(noise, rows, columns, radius)
        pulls /= np.sqrt(aperture_sums(sigma**2, rows, columns, radius))
        factor = np.subtract(*np.percentile(pulls, [84.13, 15.87])) / 2
    return factor * np.sqrt(aperture_sums(sigma**2, y, x, radius))


def aperture_flux(truth, noisy, denoised, stars, *, sigma):
    """
    Measure bias and scatter of stars' fluxes, by their aperture S/N.

    Bias is the median over the stars of (measured - truth), over the star's own flux in %, and over
    the noise of its aperture in the noisy frame.  Scatter is half the range from the 16th to the
    84th percentile of (measured - truth) over the aperture's noise, relative to the noisy frame's.

    Parameters
    ----------
    truth, noisy, denoised : `numpy.ndarray`, (H, W)
        Frames.
    stars : `Stars`
        As `measure_stars` gives them; aperture S/N is their flux over the aperture's noise.
    sigma : `numpy.ndarray`, (H, W)
        True noise of each pixel, in the unit of the frames.

    Returns
    -------
    figures : dict of `Figure`
        'percent 5-12', 'sigma 5-12', 'scatter 5-12' and so on for 12-50 and over 50.
    """
    noise = aperture_noise(noisy - truth, sigma, stars.y, stars.x, stars.radius)
    before, after = (
        aperture_sums(frame - truth, stars.y, stars.x, stars.radius) for frame in (noisy, denoised)
    )
    ratio = stars.flux / noise
    groups = blocks_of(stars.y, stars.x, truth.shape)
    percent = np.column_stack([100 * after / stars.flux])
    pulls = np.column_stack([after / noise, before / noise])
    rows = (
        ('percent', 'flux bias', median, percent, '%'),
        ('sigma', 'flux bias', median, pulls, 'sigma'),
        ('scatter', 'flux scatter over the noisy one', _scatter_ratio, pulls, ''),
    )
    figures = {}
    for low, high in SNR_BINS:
        chosen = (ratio >= low) & (ratio < high)
        name = f'{low}-{high}' if np.isfinite(high) else f'>{low}'
        for key, label, statistic, values, unit in rows:
            figures[f'{key} {name}'] = Figure(
                f'{label}, S/N {name}', statistic, values[chosen], groups[chosen], unit,
                count=int(chosen.sum()), least=10, of='stars',
            )  # fmt: skip
    return figures


def _scatter_ratio(samples):
    low, high = np.percentile(samples, [15.87, 84.13], axis=0)
    after, before = high - low
    return after / before


def response(denoiser, frame, y, x, psf, *, snr, sigma, radius=None):
    """
    Measure d(output)/d(input) of a source.

    Sources are put into the frame at all positions, once 10 % brighter and once 10 % fainter than
    the S/N says, and both frames are denoised.  The response is the difference of the outputs over
    that of the inputs, each summed over an aperture.

    Parameters
    ----------
    denoiser : callable
        Takes a frame (H, W) and gives the denoised one; the noise should be fixed.
    frame : `numpy.ndarray`, (H, W)
        A noisy frame.
    y, x : `numpy.ndarray`, (n,)
        Positions of whole px, far enough from each other and the border for the stamp.
    psf : `numpy.ndarray`, (s, s)
        The source, of odd side and sum 1.
    snr : float
        Matched-filter S/N of the sources.
    sigma : float or `numpy.ndarray`, (H, W)
        True noise of a pixel, in the unit of the frame.
    radius : float, optional
        Of the aperture in px. The default is 1.5 times the FWHM of the source.

    Returns
    -------
    figure : `Figure`
        The median over the positions: 1 where every change of a source comes out in full.
    """
    y, x = (np.round(np.asarray(at)).astype(int) for at in (y, x))
    half = psf.shape[0] // 2
    if radius is None:
        radius = APERTURE * float(adaptive_moments(psf[None], half / 2).fwhm[0])
    local = np.broadcast_to(sigma, frame.shape)[y, x]
    flux = snr * local / np.sqrt(np.sum(psf**2))
    source = np.zeros(frame.shape)
    at = np.arange(-half, half + 1)
    rows, columns = y[:, None, None] + at[:, None], x[:, None, None] + at
    np.add.at(source, (rows, columns), flux[:, None, None] * psf)
    bright, faint = (frame + (1 + part) * source for part in (STEP, -STEP))
    change = np.asarray(denoiser(bright), float) - np.asarray(denoiser(faint), float)
    ratio = aperture_sums(change, y, x, radius) / aperture_sums(2 * STEP * source, y, x, radius)
    return Figure(
        f'response to a source of S/N {snr:g}', median, ratio[:, None],
        blocks_of(y, x, frame.shape), '', 4, count=len(ratio), of='sources',
    )  # fmt: skip


def star_colour(truth, denoised, y, x, flux, *, radius):
    """
    Measure the error of stars' colours.

    Parameters
    ----------
    truth, denoised : `numpy.ndarray`, (N, H, W)
        Frames of N planes.
    y, x : `numpy.ndarray`, (n,)
        Positions in px.
    flux : `numpy.ndarray`, (N, n)
        The star's own flux in the aperture, in each plane.
    radius : float
        Of the apertures in px.

    Returns
    -------
    figures : dict of `Figure`
        'colour 0-1' and so on: the median over the stars of the colour (plane minus next plane)
        minus the true one, in mag.
    """
    flux = np.asarray(flux, float)
    found = [
        own + aperture_sums(after - before, y, x, radius)
        for own, after, before in zip(flux, denoised, truth, strict=True)
    ]
    with np.errstate(all='ignore'):
        error = -2.5 * np.log10(np.array(found) / flux)
    groups = blocks_of(y, x, truth.shape[1:])
    figures = {}
    for plane in range(len(flux) - 1):
        colour = error[plane] - error[plane + 1]
        good = np.isfinite(colour)
        figures[f'colour {plane}-{plane + 1}'] = Figure(
            f'colour of stars, plane {plane} - {plane + 1}', median, colour[good, None],
            groups[good], 'mag', 4, count=int(good.sum()), least=10, of='stars',
        )  # fmt: skip
    return figures


def band_leakage(truth, denoised, y, x, flux, *, plane, radius):
    """
    Measure what of a source in one plane only comes out in the others.

    Parameters
    ----------
    truth, denoised : `numpy.ndarray`, (N, H, W)
        Frames of N planes.
    y, x : `numpy.ndarray`, (n,)
        Positions of sources that are in one plane only, in px.
    flux : `numpy.ndarray`, (n,)
        Their flux in the aperture.
    plane : int
        Which plane they are in.
    radius : float
        Of the apertures in px.

    Returns
    -------
    figures : dict of `Figure`
        'leakage 0' and so on for every other plane: the median over the sources of (output - truth)
        in the aperture there, in % of the source's flux.
    """
    groups = blocks_of(y, x, truth.shape[1:])
    figures = {}
    for other in range(len(truth)):
        if other != plane:
            leaked = aperture_sums(denoised[other] - truth[other], y, x, radius)
            share = 100 * leaked / np.asarray(flux)
            figures[f'leakage {other}'] = Figure(
                f'leakage from plane {plane} to {other}', median, share[:, None], groups, '%',
                count=len(share), least=5, of='sources',
            )  # fmt: skip
    return figures


def galaxy_light(truth, denoised, y, x, radius, *, background=0.0):
    """
    Measure flux and half-light radius of galaxies from growth curves.

    Sums over 32 concentric apertures up to each galaxy's radius; the half-light radius is where the
    curve reaches half of its last value, linear in between.  Medians over the galaxies.

    Parameters
    ----------
    truth, denoised : `numpy.ndarray`, (H, W)
        Frames.
    y, x, radius : `numpy.ndarray`, (n,)
        Position, and radius that holds the galaxy's light, in px.
    background : float or `numpy.ndarray`, (n,), optional
        Level that the galaxies stand on, in the unit of the frames.

    Returns
    -------
    figures : dict of `Figure`
        'flux' and 'radius': over the truth's, minus 1, in %.
    """
    background = np.broadcast_to(background, np.shape(y))
    rows = []
    for place in zip(np.atleast_1d(y), np.atleast_1d(x), radius, background, strict=True):
        curves = [_growth(frame, *place) for frame in (truth, denoised)]
        rows.append([100 * (new / old - 1) for old, new in zip(*curves, strict=True)])
    rows = np.reshape(rows, (-1, 2))
    groups = blocks_of(y, x, truth.shape)
    names = (('flux', 'flux of galaxies'), ('radius', 'half-light radius of galaxies'))
    return {
        key: Figure(label, median, rows[:, [i]], groups, '%', count=len(rows), of='galaxies')
        for i, (key, label) in enumerate(names)
    }


def _growth(frame, y, x, radius, background):
    """Flux within a radius, and the radius of half of it."""
    radii = radius * np.arange(1, GROWTH + 1) / GROWTH
    curve = [aperture_sums(frame, [y], [x], r)[0] - background * np.pi * r**2 for r in radii]
    curve, radii = np.append(0.0, curve), np.append(0.0, radii)
    above = np.argmax(curve >= curve[-1] / 2)
    part = (curve[-1] / 2 - curve[above - 1]) / (curve[above] - curve[above - 1])
    return curve[-1], radii[above - 1] + part * (radii[above] - radii[above - 1])


def rings(error, y, x, fwhm):
    """
    Measure rings round bright stars: the mean error in annuli.

    Parameters
    ----------
    error : `numpy.ndarray`, (H, W)
        Output minus truth, in sigma; NaN where a pixel does not count.
    y, x : `numpy.ndarray`, (n,)
        Positions of bright stars in px.
    fwhm : float
        Of a star in px.

    Returns
    -------
    figures : dict of `Figure`
        'ring 2-3', '3-5', '5-8', '8-12' and '12-20' (FWHM): mean error in sigma of the pixels at
        that distance, over all stars.
    """
    known = np.isfinite(error)
    error = np.where(known, error, 0.0)
    groups = blocks_of(y, x, error.shape)
    sums = [
        np.column_stack([aperture_sums(plane, y, x, edge * fwhm) for edge in RINGS])
        for plane in (error, known.astype(float))
    ]
    figures = {}
    for i, (inner, outer) in enumerate(pairwise(RINGS)):
        samples = np.column_stack([part[:, i + 1] - part[:, i] for part in sums])
        figures[f'ring {inner}-{outer}'] = Figure(
            f'ring at {inner}-{outer} FWHM of bright stars', _weighted, samples, groups, 'sigma',
            4, count=len(samples), of='stars',
        )  # fmt: skip
    return figures


def _weighted(samples):
    total, area = samples.sum(axis=0)
    return total / area


def patch_flux(truth, denoised, y, x, flux, *, radius):
    """
    Measure the flux of patches of low surface brightness in a disc.

    Parameters
    ----------
    truth, denoised : `numpy.ndarray`, (H, W)
        Frames.
    y, x : `numpy.ndarray`, (n,)
        Centres of the patches in px.
    flux : `numpy.ndarray`, (n,)
        The patch's own flux in the disc.
    radius : float
        Of the disc in px.

    Returns
    -------
    figure : `Figure`
        Sum of all patches' fluxes over the sum of the true ones.
    """
    found = np.asarray(flux) + aperture_sums(denoised - truth, y, x, radius)
    return Figure(
        'flux of patches', _weighted, np.column_stack([found, flux]),
        blocks_of(y, x, truth.shape), count=len(found), of='patches',
    )  # fmt: skip


def aperture_sums(image, y, x, radius):
    """
    Sum a frame over circular apertures.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The frame.
    y, x : `numpy.ndarray`, (n,)
        Centres in px.
    radius : float
        In px.

    Returns
    -------
    sums : `numpy.ndarray`, (n,)
        Pixels count by the share that lies inside.
    """
    from photutils.aperture import CircularAperture

    places = np.column_stack([x, y])
    if not len(places):
        return np.empty(0)
    return np.atleast_1d(CircularAperture(places, radius).do_photometry(np.asarray(image))[0])
