# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The paper's claims of section 4.1 as numbers, one by one.

``python benchmarks/claims.py`` prints one table: what the claim is, how it is measured, the figure
in the noisy frame and in the denoised one, and whether it meets its bound.  The truth comes from
`scenes.py`, colour and blotches from `variants.py`; banding, faint patches and gradients are added
here.  The docstring of each function of `CLAIMS` defines its measures.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import fidelity
import galsim
import numpy as np
import scenes
import tables
import variants
from astropy.nddata import CCDData
from photutils.aperture import CircularAperture
from scipy import ndimage, optimize
from variants import BLOTCH_CELLS, PLANES, blotch_pattern, observe_colour, random

from astrodenoise import denoise, read_provenance
from astrodenoise.measures.pixels import regions

SIZE = 512  # px, side of the frames
SEEDS, QUICK_SEEDS = 8, 2
N_BOOTSTRAP = 300

BANDING = (0.1, 0.2, 0.3)  # sigma rms of the row offsets
STAR_BOOST = 4.0  # of the fluxes, in the fields whose stars are fitted and compared
FIT_SN, COLOUR_SN = 30.0, 50.0  # least aperture S/N of the stars that are fitted, and compared
FAINT = 5.0  # sigma above the sky, the brightest structure that counts as faint
PATCH_STEP = 64  # px between the injected patches
PATCH_PEAKS = (0.5, 1.0, 2.0, 4.0)  # sigma, ends of the ranges of peaks: S/N of 4, 9 and 18
PATCH_FLUX = (0.5, 0.9, 0.95)  # least median flux in each: below S/N 5 no denoiser knows all of it
PATCH_RADIUS = (3.0, 6.0)  # px, half-light
GRADIENT = 0.5  # sigma from one edge of the frame to the other
BOX = 16  # px, of the box means that contrast is taken from

colour_scene = cache(variants.colour_scene)


@dataclass
class Row:
    """
    One line of the table.

    Attributes
    ----------
    claim, measure : str
        What is claimed and what is measured.
    noisy, denoised : tuple of float
        Figure and standard error in the noisy and in the denoised frames.
    gain : tuple of float or None
        By how many dB the figure is smaller in the denoised frames, and its standard error, where
        the figure is an error.
    low, high : float
        Bound on the gain where there is one, else on the denoised figure.
    decimals : int
        Of the figures.
    """

    claim: str
    measure: str
    noisy: tuple
    denoised: tuple
    gain: tuple | None = None
    low: float = -np.inf
    high: float = np.inf
    decimals: int = 3

    @property
    def met(self):
        """
        Compare the figure with its bound.

        Returns
        -------
        verdict : str
            'yes' if the figure with two standard errors on either side is inside, 'no' if the
            figure is outside, else 'in errors'.
        """
        return tables.verdict(*(self.gain or self.denoised), self.low, self.high)

    @property
    def bound(self):
        """
        Write the bound.

        Returns
        -------
        text : str
            As '>= 15 dB' or '0.99 to 1.01'.
        """
        return tables.bound_text(self.low, self.high, ' dB' if self.gain else '')


# --------------------------------------------------------------------------- figures over scenes

def pooled(statistic, *samples):
    """
    Take a statistic over all scenes, with its error by bootstrap over the scenes.

    Parameters
    ----------
    statistic : callable
        Gives a number for the samples, each joined over the scenes that were drawn.
    *samples : list of array_like
        One array per scene, the same scenes in each.

    Returns
    -------
    value, error : float
        The error is NaN for a single scene, and corrected for a small number of them.
    """
    samples = [[np.atleast_1d(part) for part in sample] for sample in samples]
    n = len(samples[0])
    if not n or not sum(part.size for part in samples[0]):
        return np.nan, np.nan
    value = statistic(*(np.concatenate(sample) for sample in samples))
    if n == 1:
        return float(value), np.nan
    rng, trials = np.random.default_rng(41), []
    while len(trials) < N_BOOTSTRAP:
        draw = rng.integers(0, n, n)
        parts = [np.concatenate([sample[i] for i in draw]) for sample in samples]
        if parts[0].size:
            trials.append(statistic(*parts))
    return float(value), float(np.std(trials) * np.sqrt(n / (n - 1)))


def root(squares):
    """
    Average mean squares of scenes.

    Parameters
    ----------
    squares : `numpy.ndarray`
        Mean squares.

    Returns
    -------
    rms : float
        Over all scenes.
    """
    return np.sqrt(np.mean(squares))


def decibels(before, after):
    """
    Compare mean squares.

    Parameters
    ----------
    before, after : `numpy.ndarray`
        Mean squares of the same scenes.

    Returns
    -------
    gain : float
        In dB, positive where ``after`` is smaller.
    """
    return 10.0 * np.log10(np.mean(before) / np.mean(after))


def error_row(claim, measure, before, after, *, low, decimals=3):
    """
    Make the row of an error that should be smaller afterwards.

    Parameters
    ----------
    claim, measure : str
        As for a `Row`.
    before, after : list of array_like
        Mean squares of the scenes.
    low : float
        Least gain in dB.
    decimals : int, optional
        Of the figures.

    Returns
    -------
    row : `Row`
        Rms, and the gain.
    """
    return Row(claim, measure, pooled(root, before), pooled(root, after),
               pooled(decibels, before, after), low=low, decimals=decimals)


def row_of(claim, measure, statistic, before, after, **bounds):
    """
    Make the row of a figure that has a bound itself.

    Parameters
    ----------
    claim, measure : str
        As for a `Row`.
    statistic : callable
        Of the scenes' values.
    before, after : list of array_like
        Values of the scenes in the noisy and in the denoised frames.
    **bounds : dict
        ``low``, ``high`` and ``decimals`` of the `Row`.

    Returns
    -------
    row : `Row`
        The figures.
    """
    return Row(claim, measure, pooled(statistic, before), pooled(statistic, after), **bounds)


def band(image, small, large):
    """
    Keep the structure between two scales.

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W).
    small, large : float
        FWHM in px of the Gaussians whose difference is taken; 1 and less do not smooth.

    Returns
    -------
    part : `numpy.ndarray`
        (H, W), without mean.
    """
    to_sigma = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
    fine = ndimage.gaussian_filter(image, small * to_sigma) if small > 1 else image
    return fine - ndimage.gaussian_filter(image, large * to_sigma)


def mean_square(values):
    """
    Average squares.

    Parameters
    ----------
    values : `numpy.ndarray`
        Any shape.

    Returns
    -------
    mean_square : float
        Of all values.
    """
    return np.mean(np.square(values))


def share_left(error, pattern):
    """
    Project an error on a pattern that should be gone.

    Parameters
    ----------
    error, pattern : `numpy.ndarray`
        Of one shape.

    Returns
    -------
    share : float
        1 where the pattern is as it was, 0 where it is gone.
    """
    return np.sum(error * pattern) / np.sum(pattern**2)


# ------------------------------------------------------------------------------ frames and runs

@cache
def run(kind, level, seed, model):
    """
    Denoise a frame of a simulated scene.

    Parameters
    ----------
    kind, level : str
        Of `scenes.KINDS` and `scenes.LEVELS`.
    seed : int
        Of the scene.
    model : str
        Weights.

    Returns
    -------
    scene : `scenes.Scene`
        The truth.
    noisy, denoised : `numpy.ndarray`
        (H, W) frames.
    """
    scene = scenes.make_scene(kind, level, seed, size=SIZE)
    noisy = scene.observe(random(1, scenes.KINDS.index(kind), seed))
    return scene, noisy, denoise(noisy, model=model)


def errors(scene, *images):
    """
    Give errors in units of the noise.

    Parameters
    ----------
    scene : `scenes.Scene`
        The truth.
    *images : `numpy.ndarray`
        (H, W) frames.

    Returns
    -------
    errors : list of `numpy.ndarray`
        (H, W) each, in sigma of each pixel.
    """
    return [(image - scene.truth_electrons) / scene.sigma for image in images]


# ------------------------------------------------------------------------------------ the claims

def grain(options):
    """
    Measure what is left of sensor noise and of small-scale random grain.

    Rms of (frame - truth) in sigma over all five kinds of scene at the middle level: all of it,
    and its part on scales of 1 to 4 px (the frame minus itself smoothed by 4 px FWHM).

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    parts = {'all': ([], []), 'fine': ([], [])}
    for seed in range(options.seeds):
        for kind in scenes.KINDS:
            for i, error in enumerate(errors(*run(kind, 'mid', seed, options.model))):
                parts['all'][i].append(mean_square(error))
                parts['fine'][i].append(mean_square(band(error, 1, 4)))
    return [error_row('sensor noise removed', 'rms of the error, sigma', *parts['all'], low=15),
            error_row('grain removed', 'the same on 1-4 px', *parts['fine'], low=15)]


def banding(options):
    """
    Measure what is left of offsets of rows.

    Each row of a frame of stars, or of a nebula, gets an offset, random with the given rms in
    sigma of the sky.  Figures: rms of the row means of the error in sigma (the noise itself gives
    0.044 for 512 px); and the share of the true offsets that is left in them (their projection).

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    claim, rows = 'banding removed', []
    for kind, least, most in (('stars', 10, 0.1), ('nebula', 6, 0.25)):
        left = ([], [])
        for amplitude in BANDING:
            squares = ([], [])
            for seed in range(options.seeds):
                scene, noisy, _ = run(kind, 'mid', seed, options.model)
                rng = random(4, round(100 * amplitude), seed)
                offsets = amplitude * rng.normal(size=noisy.shape[0])
                unit = fidelity.sky_sigma(scene)
                banded = noisy + (unit * offsets[:, None]).astype(np.float32)
                for i, image in enumerate((banded, denoise(banded, model=options.model))):
                    means = np.mean(image - scene.truth_electrons, axis=1) / unit
                    squares[i].append(mean_square(means - means.mean()))
                    if amplitude >= 0.2:
                        left[i].append(share_left(means, offsets))
            rows.append(error_row(claim, f'rms of row means, {amplitude:g} sigma in {kind}',
                                  *squares, low=least))
        rows.append(row_of(claim, f'share left of 0.2-0.3 sigma in {kind}', np.mean, *left,
                           high=most))
    return rows


def blotches(options):
    """
    Measure what is left of chroma blotches.

    Three planes get low-resolution fluctuations, 8 or 16 px from node to node (splines between),
    0.3 sigma rms in each and zero in the mean of the three.  Figures: rms of the error of the
    colour differences R - G and B - G in sigma on scales of 4 to 16 px, and the share of the true
    blotches that is left in them.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    claim, rows = 'chroma blotching removed', []
    for kind, least, most in (('stars', 10, 0.1), ('nebula', 6, 0.5)):
        squares, left = ([], []), ([], [])
        for seed in range(options.seeds):
            planes = colour_scene(kind, 'mid', seed)
            units = np.array([fidelity.sky_sigma(plane) for plane in planes])[:, None, None]
            truth = np.stack([plane.truth_electrons for plane in planes])
            cell = BLOTCH_CELLS[seed % len(BLOTCH_CELLS)]
            pattern = blotch_pattern(truth.shape[1:], cell, random(5, seed))
            blotched = observe_colour(planes, seed) + (units * pattern).astype(np.float32)
            clean = denoise(blotched, channels='joint', model=options.colour_model)
            for i, image in enumerate((blotched, clean)):
                error = (image - truth) / units
                found = [band(error[j] - error[1], 4, 16) for j in (0, 2)]
                true = [band(pattern[j] - pattern[1], 4, 16) for j in (0, 2)]
                squares[i].append(mean_square(found))
                left[i].append(share_left(np.stack(found), np.stack(true)))
        rows.append(error_row(claim, f'rms of colour errors on 4-16 px, {kind}', *squares,
                              low=least))
        rows.append(row_of(claim, f'share of the blotches left, {kind}', np.mean, *left, high=most))
    return rows


def star_profiles(options):
    """
    Measure whether stars keep their profile.

    Isolated stars of aperture S/N over 30 in fields of bright stars at the low level of noise.
    FWHM: of a circular Moffat profile fitted to the frame over that of one fitted to the truth.
    Peak: the brightest pixel of the truth above the sky, in the frame over that in the truth.
    Medians over all stars.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    widths, peaks, n = ([], []), ([], []), 0
    for seed in range(options.seeds):
        scene = colour_scene('stars', 'low', seed, STAR_BOOST)[1]
        noisy = scene.observe(random(9, seed))
        images = noisy, denoise(noisy, model=options.model)
        places, own, radius = fidelity.isolated_stars(scene)
        noise = CircularAperture(places, radius).do_photometry(scene.sigma**2)[0] ** 0.5
        places = places[own > FIT_SN * noise]
        truth = [fit_star(scene, scene.truth_electrons, *place) for place in places]
        n += len(places)
        for i, image in enumerate(images):
            found = [fit_star(scene, image, *place) for place in places]
            ratio = np.array(found).reshape(-1, 2) / np.array(truth).reshape(-1, 2)
            widths[i].append(ratio[:, 0])
            peaks[i].append(ratio[:, 1])
    claim, of = 'star profiles kept', f'{n} stars of S/N > {FIT_SN:g}'
    return [row_of(claim, f'FWHM, ratio to the truth, {of}', np.nanmedian, *widths,
                   low=0.995, high=1.005, decimals=4),
            row_of(claim, 'peak, ratio to the truth', np.nanmedian, *peaks,
                   low=0.99, high=1.01, decimals=4)]


def fit_star(scene, image, x, y):
    """
    Fit a star.

    Parameters
    ----------
    scene : `scenes.Scene`
        The truth, whose noise weighs the pixels.
    image : `numpy.ndarray`
        (H, W) frame.
    x, y : float
        Where the star is.

    Returns
    -------
    fwhm, peak : float
        In px (NaN where the fit does not succeed), and in electrons at the brightest pixel of the
        truth.
    """
    fwhm = scene.stars['fwhm'][0]
    radius = int(np.ceil(2 * fwhm))
    row, column = round(y), round(x)
    rows = slice(max(row - radius, 0), row + radius + 1)
    columns = slice(max(column - radius, 0), column + radius + 1)
    stamp, truth = image[rows, columns] - scene.sky, scene.truth_electrons[rows, columns]
    down, across = np.mgrid[:stamp.shape[0], :stamp.shape[1]]
    down, across = down + rows.start - y, across + columns.start - x

    def misfit(values):
        flux, dx, dy, width, level = values
        profile = fidelity.moffat(np.hypot(across - dx, down - dy), abs(width))
        return ((flux * profile + level - stamp) / scene.sigma[rows, columns]).ravel()

    core = (np.abs(down) <= 1) & (np.abs(across) <= 1)
    brightest = np.argmax(np.where(core, truth, -np.inf))
    found = optimize.least_squares(misfit, (stamp.sum(), 0.0, 0.0, fwhm, 0.0))
    return abs(found.x[3]) if found.success else np.nan, stamp.flat[brightest]


def star_colours(options):
    """
    Measure whether stars keep their colour.

    Stars of aperture S/N over 50 in all three planes of fields of bright stars at the low level,
    each with a colour of its own: error of the colours R - G and B - G in mag against the truth,
    from the same apertures of 1.5 FWHM.  Figures: the median error, and the median of its absolute
    value, which holds the scatter of the noise.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    shifts, n = ([], []), 0
    for seed in range(options.seeds):
        planes = colour_scene('stars', 'low', seed, STAR_BOOST)
        noisy = observe_colour(planes, seed)
        images = noisy, denoise(noisy, channels='joint', model=options.colour_model)
        apertures = CircularAperture(*fidelity.isolated_stars(planes[1])[::2])
        truth, noise = [], []
        for plane in planes:
            truth.append(apertures.do_photometry(plane.truth_electrons - plane.sky)[0])
            noise.append(apertures.do_photometry(plane.sigma**2)[0] ** 0.5)
        keep = np.all(np.array(truth) > COLOUR_SN * np.array(noise), axis=0)
        n += keep.sum()
        for i, image in enumerate(images):
            flux = np.array([apertures.do_photometry(frame - plane.sky)[0][keep]
                             for frame, plane in zip(image, planes, strict=True)])
            magnitude = -2.5 * np.log10(flux / np.array(truth)[:, keep])
            shifts[i].append((magnitude[[0, 2]] - magnitude[1]).ravel())
    sizes = [[np.abs(part) for part in side] for side in shifts]
    claim, of = 'star colour kept', f'{n} stars of S/N > {COLOUR_SN:g}'
    return [row_of(claim, f'median colour error in mag, {of}', np.median, *shifts, low=-0.005,
                   high=0.005, decimals=4),
            row_of(claim, 'median absolute colour error, mag', np.median, *sizes, decimals=4,
                   high=1.05 * pooled(np.median, sizes[0])[0])]


def faint_structure(options):
    """
    Measure whether faint objects keep their structure.

    Patches: galaxies of exponential profile, 0.5 to 4 sigma at their peak, half-light radius 3
    to 6 px, put into faint fields; flux in an aperture of two half-light radii over the truth's,
    median, and the median S/N of a matched filter.  Structure: in faint fields and nebulae, where
    the truth is under 5 sigma above the sky, the correlation with the truth on scales of 2 to 8
    px, and the slope of the frame against the truth on them, which is under 1 where structure is
    smoothed away.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    fluxes, strength = [([], []) for _ in PATCH_FLUX], [[] for _ in PATCH_FLUX]
    likeness, slopes = ([], []), ([], [])
    for seed in range(options.seeds):
        scene, apertures, own, ratios, group = with_patches(
            scenes.make_scene('faint', 'mid', seed, size=SIZE))
        noisy = scene.observe(random(6, seed))
        for j, part in enumerate(strength):
            part.append(ratios[group == j])
        for i, image in enumerate((noisy, denoise(noisy, model=options.model))):
            excess = [aperture.do_photometry(image - scene.truth_electrons)[0][0]
                      for aperture in apertures]
            ratio = 1.0 + np.array(excess) / own
            for j, part in enumerate(fluxes):
                part[i].append(ratio[group == j])
        for kind in ('faint', 'nebula'):
            scene, *images = run(kind, 'mid', seed, options.model)
            bright = (scene.truth_electrons - scene.sky) / scene.sigma > FAINT
            faint = ~ndimage.maximum_filter(bright, 9)
            unit = fidelity.sky_sigma(scene)
            truth = band(scene.truth_electrons / unit, 2, 8)[faint]
            for i, image in enumerate(images):
                found = band(image / unit, 2, 8)[faint]
                likeness[i].append(np.corrcoef(found, truth)[0, 1])
                slopes[i].append(np.sum(found * truth) / np.sum(truth**2))
    claim, rows = 'fine structure kept', []
    for i, (least, part) in enumerate(zip(PATCH_FLUX, fluxes, strict=True)):
        n, middle = len(np.concatenate(part[0])), np.median(np.concatenate(strength[i]))
        measure = (f'flux ratio of {n} patches of {PATCH_PEAKS[i]:g}-{PATCH_PEAKS[i + 1]:g} sigma, '
                   f'S/N {middle:.0f}')
        rows.append(row_of(claim, measure, np.median, *part, low=least, high=1.05))
    return [*rows,
            row_of(claim, 'correlation on 2-8 px, at least the noisy one', np.mean, *likeness,
                   low=pooled(np.mean, likeness[0])[0]),
            row_of(claim, 'slope against the truth on 2-8 px', np.mean, *slopes, low=0.8)]


def with_patches(scene):
    """
    Put patches of low surface brightness into a scene.

    Parameters
    ----------
    scene : `scenes.Scene`
        With stars, whose FWHM the patches get.

    Returns
    -------
    scene : `scenes.Scene`
        With the patches.
    apertures : list of `photutils.aperture.CircularAperture`
        One for each.
    own : `numpy.ndarray`
        Flux of each patch in its aperture.
    ratios : `numpy.ndarray`
        S/N of each in a matched filter.
    group : `numpy.ndarray`
        Number of each patch's range of peaks.
    """
    rng, (height, _) = random(7, scene.seed), scene.truth_electrons.shape
    psf = galsim.Moffat(beta=scenes.BETA, fwhm=scene.stars['fwhm'][0])
    light, apertures = np.zeros_like(scene.truth_electrons), []
    own, ratios, group = [], [], []
    for row in range(PATCH_STEP // 2, height, PATCH_STEP):
        for column in range(PATCH_STEP // 2, height, PATCH_STEP):
            radius = rng.uniform(*PATCH_RADIUS)
            shape = galsim.Exponential(half_light_radius=radius).shear(
                q=rng.uniform(0.5, 1.0), beta=rng.uniform(0, 180) * galsim.degrees)
            image = scenes.blank(height)
            place = column + rng.uniform(-8, 8), row + rng.uniform(-8, 8)
            scenes.draw(image, galsim.Convolve(shape, psf), *place, 8 * radius)
            group.append(len(group) % len(PATCH_FLUX))
            peak = rng.uniform(*PATCH_PEAKS[group[-1]:][:2]) * fidelity.sky_sigma(scene)
            patch = image.array * (peak / image.array.max())
            apertures.append(CircularAperture(place, 2 * radius))
            own.append(apertures[-1].do_photometry(patch)[0][0])
            ratios.append(np.sqrt(np.sum((patch / scene.sigma) ** 2)))
            light += patch
    changed = replace(scene, truth_electrons=scene.truth_electrons + light)
    return changed, apertures, np.array(own), np.array(ratios), np.array(group)


def brightness(options):
    """
    Measure whether brightness and contrast of large objects stay.

    Large galaxies in three planes, each: light above the sky where the truth is over 1 sigma, over
    the truth's; and the mean of (frame - truth) in sigma where the truth is under 0.3 sigma.
    Contrast: the slope of the frame's means over boxes of 16 px against the truth's, all planes.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    flux, shift = ({name: ([], []) for name in PLANES} for _ in range(2))
    slopes = ([], [])
    for seed in range(options.seeds):
        planes = colour_scene('galaxy', 'mid', seed)
        noisy = observe_colour(planes, seed)
        images = noisy, denoise(noisy, channels='joint', model=options.colour_model)
        for name, scene, *pair in zip(PLANES, planes, *images, strict=True):
            level = (scene.truth_electrons - scene.sky) / scene.sigma
            light = (scene.truth_electrons - scene.sky)[level > 1].sum()
            sky = regions(level)['sky']
            truth = box_means(scene.truth_electrons)
            truth = truth - truth.mean()
            for i, image in enumerate(pair):
                flux[name][i].append((image - scene.sky)[level > 1].sum() / light)
                slopes[i].append(np.sum(truth * box_means(image)) / np.sum(truth**2))
                if sky.sum() >= fidelity.MIN_PIXELS:
                    shift[name][i].append(np.mean(errors(scene, image)[0][sky]))
    claim = 'brightness and contrast kept'
    rows = [row_of(claim, f'light of galaxies, ratio to the truth, {name}', np.mean, *flux[name],
                   low=0.995, high=1.005, decimals=4) for name in PLANES]
    rows += [row_of(claim, f'mean shift of the sky, sigma, {name}', np.mean, *shift[name],
                    low=-0.02, high=0.02, decimals=4) for name in PLANES]
    return [*rows, row_of(claim, 'slope of 16 px box means against the truth', np.mean, *slopes,
                          low=0.995, high=1.005, decimals=4)]


def box_means(image):
    """
    Average a frame over boxes.

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W), sides a multiple of `BOX`.

    Returns
    -------
    means : `numpy.ndarray`
        (H / `BOX`, W / `BOX`) float64.
    """
    height, width = (n // BOX for n in image.shape)
    return image.reshape(height, BOX, width, BOX).mean((1, 3), dtype=float)


def gradients(options):
    """
    Measure whether a weak gradient stays.

    A plane of 0.5 sigma of the sky from one edge to the other, in a random direction, is added to
    star fields and faint fields: its slope in the frame minus the truth without it, over its own.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    kept = ([], [])
    for seed in range(options.seeds):
        for kind in ('stars', 'faint'):
            scene, noisy, _ = run(kind, 'mid', seed, options.model)
            angle = random(8, seed).uniform(0, 2 * np.pi)
            y, x = np.mgrid[:noisy.shape[0], :noisy.shape[1]] / noisy.shape[0] - 0.5
            plane = GRADIENT * fidelity.sky_sigma(scene) * (x * np.cos(angle) + y * np.sin(angle))
            plane -= plane.mean()
            tilted = noisy + plane.astype(np.float32)
            for i, image in enumerate((tilted, denoise(tilted, model=options.model))):
                kept[i].append(share_left(image - scene.truth_electrons, plane))
    return [row_of('small gradients kept', f'slope of {GRADIENT:g} sigma per frame, ratio to truth',
                   np.mean, *kept, low=0.98, high=1.02, decimals=4)]


def uniform_areas(options):
    """
    Measure the noise of uniform areas.

    Rms of (frame - truth) in sigma where the truth is under 0.3 sigma above the sky, in star
    fields and faint fields.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    squares = ([], [])
    for seed in range(options.seeds):
        for kind in ('stars', 'faint'):
            scene, *images = run(kind, 'mid', seed, options.model)
            sky = regions((scene.truth_electrons - scene.sky) / scene.sigma)['sky']
            for i, error in enumerate(errors(scene, *images)):
                squares[i].append(mean_square(error[sky]))
    return [error_row('uniform areas smooth', 'rms of the error in the sky, sigma', *squares,
                      low=20)]


def clean_frames(options):
    """
    Measure whether a clean frame stays as it is.

    The noiseless truth of all five kinds of scene is denoised with the sigma of the sky that its
    frames have: rms of the change in that sigma, over scenes and, for the worst, within one.

    Parameters
    ----------
    options : `argparse.Namespace`
        Seeds and models.

    Returns
    -------
    rows : list of `Row`
        Of the table.
    """
    squares = {kind: [] for kind in scenes.KINDS}
    for seed in range(max(options.seeds // 2, 1)):
        for kind in scenes.KINDS:
            scene = run(kind, 'mid', seed, options.model)[0]
            sigma, clean = fidelity.sky_sigma(scene), scene.truth_electrons.astype(np.float32)
            change = denoise(clean, noise=sigma, model=options.model) - clean
            squares[kind].append(mean_square(change / sigma))
    claim, none = 'clean frames unchanged', (0.0, np.nan)
    every = [square for own in squares.values() for square in own]
    worst = max(squares, key=lambda kind: np.mean(squares[kind]))
    return [Row(claim, measure, none, pooled(root, sample), high=0.05)
            for measure, sample in (('rms change, sigma', every),
                                    (f'the same in the worst kind, {worst}', squares[worst]))]


CLAIMS = {
    'grain': grain, 'banding': banding, 'blotches': blotches, 'star-profiles': star_profiles,
    'star-colours': star_colours, 'faint-structure': faint_structure, 'brightness': brightness,
    'gradients': gradients, 'uniform-areas': uniform_areas, 'clean-frames': clean_frames,
}
JOINT = {'blotches', 'star-colours', 'brightness'}  # those that denoise three planes together


# --------------------------------------------------------------------------------- the text

def table_lines(rows, *, rst=False):
    """
    Write the table.

    Parameters
    ----------
    rows : list of `Row`
        Its lines.
    rst : bool, optional
        As reStructuredText, else separated by pipes.

    Returns
    -------
    lines : list of str
        Columns aligned.
    """
    cells = [['claim', 'measure', 'noisy', 'denoised', 'gain in dB', 'bound', 'met']]
    for row in rows:
        figures = [tables.number(*figure, row.decimals) for figure in (row.noisy, row.denoised)]
        gain = tables.number(*row.gain, 2) if row.gain else ''
        cells.append([row.claim, row.measure, *figures, gain, row.bound, row.met])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    if rst:
        text = ['  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                .rstrip() for line in cells]
        rule = '  '.join('=' * width for width in widths)
        return [rule, text[0], rule, *text[1:], rule]
    cells.insert(1, ['-' * width for width in widths])
    return ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            + ' |' for line in cells]


def plain(row):
    """
    Turn a row into what JSON can hold.

    Parameters
    ----------
    row : `Row`
        One line of the table.

    Returns
    -------
    content : dict
        Figures as [value, error], None where there is none.
    """
    content = {'claim': row.claim, 'measure': row.measure, 'bound': row.bound, 'met': row.met}
    for name in ('noisy', 'denoised', 'gain'):
        figure = getattr(row, name)
        content[name] = figure and [float(v) if np.isfinite(v) else None for v in figure]
    return content


def models_used(options):
    """
    Name the weights, as the package records them.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the models and the claims.

    Returns
    -------
    text : dict
        Of single planes and, if a claim needs them, of three together.
    """
    flat = np.random.default_rng(0).normal(0.0, 1.0, (3, 64, 64)).astype(np.float32)
    runs, text = {'one plane': (flat[0], {'model': options.model})}, {}
    if JOINT & set(options.only):
        runs['three planes'] = flat, {'model': options.colour_model, 'channels': 'joint'}
    for name, (frame, keywords) in runs.items():
        record = read_provenance(denoise(CCDData(frame, unit='electron'), **keywords).meta)
        text[name] = f'{record["model"]} version {record["model_version"]}, {record["weights"]}'
    return text


def parse(arguments=None):
    """
    Read the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    options : `argparse.Namespace`
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true', help=f'{QUICK_SEEDS} seeds only')
    parser.add_argument('--seeds', type=int, metavar='N', help=f'{SEEDS} by default')
    parser.add_argument('--only', nargs='+', choices=tuple(CLAIMS), default=tuple(CLAIMS),
                        metavar='CLAIM', help=f'of {", ".join(CLAIMS)}')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    parser.add_argument('--rst', action='store_true', help='print the table for the user guide')
    parser.add_argument('--model', default='default', help='weights for single planes')
    parser.add_argument('--colour-model', default='default',
                        help='weights for three planes; mono takes each by itself')
    options = parser.parse_args(arguments)
    if options.seeds is None:
        options.seeds = QUICK_SEEDS if options.quick else SEEDS
    return options


def main(arguments=None):
    """
    Measure, print the table and write the JSON.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0.
    """
    options = parse(arguments)
    models, rows = models_used(options), []
    for name in options.only:
        print(f'\r{name:20s}', end='', file=sys.stderr, flush=True)
        rows += CLAIMS[name](options)
    print(file=sys.stderr)
    for planes, text in models.items():
        print(f'{planes}: {text}')
    print('\n'.join(['', *table_lines(rows, rst=options.rst)]))
    if options.json:
        content = {'models': models, 'seeds': options.seeds, 'rows': [plain(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
