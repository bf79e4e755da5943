# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a photometrist asks of the weights, row by row, against its bound.

``python benchmarks/bounds.py`` prints one table: the measure, the figure with its standard error,
the noisy frame's where it says something, the bound, and whether it is met: figure and two
standard errors.  Measures are those of `astrodenoise.quality`; the fields are drawn with GalSim, on
white noise of sigma 1 unless another noise is named.  ``--scale`` sets how much sky is measured.
"""

import argparse
import json
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
import scenes
import tables
import variants
from astropy.nddata import CCDData
from fields import (
    BANDS,
    SIZE,
    blank_noises,
    draw_psf,
    posterior_correlation,
    posterior_mean,
    random,
    stacked,
    star_field,
)
from scipy import ndimage

from astrodenoise import denoise
from astrodenoise.measures import detections, pixels, residuals, sources
from astrodenoise.measures.figures import Evaluation, Figure, combine
from astrodenoise.quality import evaluate

DENSE, SPARSE, CROWDED = 1000.0, 250.0, 6000.0  # stars per Mpx
PATCHES = ((0.3, 50, 0.02), (0.1, 100, 0.05))  # sigma per px, px across, largest error


@dataclass(frozen=True)
class Row:
    """
    One line of the table.

    Attributes
    ----------
    measure : str
        What is measured.
    figure : `~astrodenoise.measures.figures.Figure`
        In the denoised frames.
    low, high : float
        Bounds.
    noisy : `~astrodenoise.measures.figures.Figure`, optional
        In the noisy frames.
    """

    measure: str
    figure: object
    low: float = -np.inf
    high: float = np.inf
    noisy: object = None

    @property
    def met(self):
        """
        Compare the figure with its bounds.

        Returns
        -------
        verdict : str
            'yes' where figure and two standard errors are inside, 'in errors' where the figure is.
        """
        if not self.figure.testable:
            return self.figure.why
        if np.isinf(self.low) and np.isinf(self.high):
            return '-'
        return tables.verdict(self.figure.value, self.figure.error, self.low, self.high)

    @property
    def cells(self):
        """
        Write the line.

        Returns
        -------
        cells : list of str
            Measure, noisy, denoised, bound, verdict.
        """
        figures = (self.noisy, self.figure)
        texts = ['-' if f is None or not f.testable else _text(f) for f in figures]
        return [self.measure, *texts, tables.bound_text(self.low, self.high), self.met]


def _text(figure):
    digits = max(figure.decimals, 3)
    error = figure.error
    tail = f'±{error:.{digits}f}' if np.isfinite(error) else ''
    return f'{figure.value:.{digits}f}{tail} {figure.unit}'.strip() + f' (n={figure.count})'


# ----------------------------------------------------------------------------------- the denoiser

class Denoiser:
    """
    The weights that are measured.

    Parameters
    ----------
    model, colour_model : str
        Of single planes and of three.
    """

    def __init__(self, model, colour_model):
        self.model, self.colour_model = model, colour_model

    def __call__(self, noisy, **options):
        """
        Denoise a frame as ``denoise(frame)`` does.

        Parameters
        ----------
        noisy : `numpy.ndarray`
            (H, W), or (3, H, W) together.
        **options
            Of `astrodenoise.denoise`.

        Returns
        -------
        clean, error : `numpy.ndarray`
            Pixels, and the error that is predicted for each.
        """
        if noisy.ndim == 3:
            options |= {'channels': 'joint', 'model': self.colour_model}
        else:
            options |= {'model': self.model}
        frame = CCDData(noisy.astype(np.float32), unit='adu')
        clean = denoise(frame, uncertainty='predict', **options)
        return clean.data.astype(float), clean.uncertainty.array


def evaluated(denoiser, truth, noise, *, level=100.0, **known):
    """
    Denoise a field and evaluate it.

    Parameters
    ----------
    denoiser : `Denoiser`
        What is measured.
    truth, noise : `numpy.ndarray`, (H, W)
        In sigma.
    level : float, optional
        Of the sky, in sigma.
    **known
        Of `astrodenoise.quality.evaluate`.

    Returns
    -------
    evaluation : `~astrodenoise.measures.figures.Evaluation`
        All figures.
    pull : `numpy.ndarray`, (H, W)
        Error of each pixel over the predicted one.
    """
    noisy = truth + level + noise
    clean, error = denoiser(noisy)
    found = evaluate(truth + level, noisy, clean, sigma=1.0, sky=level, error_map=error, **known)
    return found, (clean - truth - level) / error


def number(options, mpx):
    """
    Give the number of fields for an area.

    Parameters
    ----------
    options : `argparse.Namespace`
        With the scale.
    mpx : float
        Area at scale 1 in Mpx.

    Returns
    -------
    n : int
        Two at least.
    """
    return max(2, round(options.scale * mpx * 1e6 / SIZE**2))


# --------------------------------------------------------------------------------- groups of rows

def photometry(options, denoiser):
    """
    Fluxes and shapes of stars in dense and sparse fields, and what is detected there.

    Stars of matched-filter S/N 4 to 400, log-uniform, at random places.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    for name, density, mpx in (('dense', DENSE, 12), ('sparse', SPARSE, 30)):
        fields, pulls = [], []
        for seed in range(number(options, mpx)):
            rng = random(1, int(density), seed)
            truth, stars, strength, fwhm = star_field(rng, density)
            field, pull = evaluated(denoiser, truth, rng.normal(size=truth.shape), stars=stars,
                                    fwhm=fwhm)
            fields.append(field)
            x, y = np.round(stars[(strength > 3) & (strength < 8)]).astype(int).T
            pulls.append(np.abs(pull[y, x]))
        found = combine(fields)
        f, noisy = found.figures, found.noisy
        for part, unit, bound in (('>50', 'percent', 0.2), ('12-50', 'percent', 0.5),
                                  ('5-12', 'sigma', 0.15)):
            yield Row(f'flux bias at aperture S/N {part}, {name}', f[f'flux.{unit} {part}'],
                      -bound, bound)
        for key in (k for k in f if k.startswith('flux.scatter')):
            yield Row(f'scatter of fluxes over the noisy one, {key.split()[-1]}, {name}', f[key],
                      0.65, 1.0)
        for width in (1, 1.96):
            yield Row(f'peaks of stars of S/N 3-8 within {width:g} predicted errors, {name}',
                      share_within(pulls, width))
        if name == 'dense':
            yield from shape_rows(f, noisy)
            for low, bound in ((3, 0.6), (5, 0.92)):
                key = f'recovered {low}-{2 * low - (low == 3)}'
                exact = posterior_mean(density, low, 5 if low == 3 else 10)
                yield Row(f'recovered flux at S/N {key.split()[-1]} (exact posterior mean '
                          f'{exact:.2f})', f[key], bound, np.inf)
        for key in (k for k in f if k.startswith('completeness')):
            yield Row(f'{key} at 1 false per Mpx, {name}', f[key],
                      noisy[key].value - 0.02 if noisy[key].testable else -np.inf, np.inf,
                      noisy[key])
        for key in ('invented', 'lost'):
            yield Row(f'{key} sources, {name}', f[key], -np.inf, 0.0)


def share_within(pulls, width):
    """
    Give the share of errors that lie within so many predicted ones.

    Parameters
    ----------
    pulls : list of `numpy.ndarray`
        Sizes of errors over predicted errors, one array per field.
    width : float
        How many.

    Returns
    -------
    figure : `Figure`
        From 0 to 1.
    """
    groups = np.repeat(np.arange(len(pulls)), [part.size for part in pulls])
    samples = (np.concatenate(pulls) <= width)[:, None]
    return Figure('share', lambda values: float(np.mean(values)), samples, groups, '', 3,
                  count=samples.size, of='stars')


def shape_rows(f, noisy):
    """
    Rows of stars' shapes.

    Parameters
    ----------
    f, noisy : dict
        Figures of an evaluation, and those of the noisy frame.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    bounds = {'fwhm': 0.5, 'peak': 1.0, 'ellipticity': 0.005, 'e': 0.005, 'x': 0.01, 'y': 0.01}
    for key in (k for k in f if k.startswith('shape.')):
        name = key.split('.', 1)[1]
        bound = next((b for n, b in bounds.items() if name.startswith(n)), None)
        if name == 'stack':
            bound = 3.0
        if bound is not None:
            yield Row(f'star shape, {f[key].label}', f[key], -bound, bound, noisy.get(key))


def calibration_rows(f, name):
    """
    Rows of the predicted error.

    Parameters
    ----------
    f : dict
        Figures of an evaluation.
    name : str
        What was evaluated.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    for key in (k for k in f if k.startswith('calibration.')):
        label = f[key].label
        if '1.96' in label:
            yield Row(f'{label}, {name}', f[key], 0.93, 0.965)
        elif 'within' in label or 'cover' in label:
            yield Row(f'{label}, {name}', f[key], 0.66, 0.76)
        else:
            yield Row(f'{label}, {name}', f[key], 0.95, 1.05)


def crowding(options, denoiser):
    """
    Detection in crowded fields and over nebulosity.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    fields, clouds = [], []
    for seed in range(number(options, 6)):
        rng = random(2, seed)
        truth, stars, _, fwhm = star_field(rng, CROWDED, snr=(2.0, 200.0))
        fields.append(evaluated(denoiser, truth, rng.normal(size=truth.shape), stars=stars,
                                fwhm=fwhm)[0])
        truth, stars, _, fwhm = star_field(rng, DENSE, size=512)
        nebula = scenes.make_scene('nebula', 'mid', 100 + seed)
        cloud = (nebula.truth_electrons - nebula.sky) / np.sqrt(nebula.sky)
        cloud = ndimage.gaussian_filter(cloud, 1.5)
        clouds.append(evaluated(denoiser, truth + cloud, rng.normal(size=truth.shape),
                                stars=stars, fwhm=fwhm)[0])
    for name, group in (('crowded', fields), ('over nebulosity', clouds)):
        found = combine(group)
        f, noisy = found.figures, found.noisy
        for key in (k for k in f if k.startswith('completeness')):
            low = noisy[key].value + 0.05 if noisy[key].testable else -np.inf
            yield Row(f'{key} at 1 false per Mpx, {name}', f[key], low, np.inf, noisy[key])
        for key in ('invented', 'lost'):
            yield Row(f'{key} sources, {name}', f[key], -np.inf, 0.0)


def responses(options, denoiser):
    """
    Response of the output to a source.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    for snr in (10.0, 30.0, 100.0, 1000.0):
        figures = []
        for seed in range(max(2, round(options.scale * 3))):
            rng = random(3, int(snr), seed)
            psf, fwhm, _ = draw_psf(rng)
            stamp = psf.drawImage(nx=31, ny=31, scale=1.0, method='no_pixel').array
            line = np.arange(40, 1024 - 40, 48)
            x, y = (part.ravel() for part in np.meshgrid(line, line))
            figures.append(sources.response(
                lambda frame: denoiser(frame, noise=1.0)[0], rng.normal(100, 1, (1024, 1024)), y, x,
                stamp / stamp.sum(), snr=snr, sigma=1.0, radius=1.5 * fwhm))
        yield Row(f'response to a source of S/N {snr:g}', pool(figures), 0.99, 1.01)


def pool(figures):
    """
    Pool one figure over fields.

    Parameters
    ----------
    figures : list of `Figure`
        Of one measure.

    Returns
    -------
    figure : `Figure`
        Of all.
    """
    return combine([Evaluation({'it': figure}, {}, {}, ()) for figure in figures]).figures['it']


def halos(options, denoiser):
    """
    Rings round bright stars, and galaxies.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    fields = []
    for seed in range(number(options, 8)):
        rng = random(4, seed)
        truth, stars, _, fwhm = star_field(rng, 0, snr=(150, 3000), placed=150)
        fields.append(evaluated(denoiser, truth, rng.normal(size=truth.shape), stars=stars,
                                fwhm=fwhm)[0])
    f = combine(fields).figures
    for key in (k for k in f if k.startswith('rings.')):
        yield Row(f[key].label, f[key], -0.02, 0.02)
    fields = []
    for seed in range(number(options, 8)):
        rng = random(5, seed)
        psf, fwhm, _ = draw_psf(rng)
        image, places = scenes.blank(SIZE), []
        for y in range(64, SIZE - 63, 80):
            for x in range(64, SIZE - 63, 80):
                radius = rng.uniform(2.0, 6.0)
                index = float(rng.choice([1.0, 1.5, 2.0]))
                light = galsim.Sersic(n=index, half_light_radius=radius, trunc=6 * radius)
                light = light.shear(g1=rng.normal(0, 0.15), g2=rng.normal(0, 0.15))
                light = galsim.Convolve(light, psf)
                stamp = light.drawImage(nx=73, ny=73, scale=1.0, method='no_pixel').array
                strength = np.exp(rng.uniform(np.log(30), np.log(300)))
                flux = strength / np.sqrt(np.sum(stamp**2))
                scenes.draw(image, light * flux, x, y, 36)
                places.append((x, y, 4 * radius + fwhm))
        truth = image.array
        fields.append(evaluated(denoiser, truth, rng.normal(size=truth.shape), galaxies=places,
                                fwhm=fwhm)[0])
    found = combine(fields)
    for key, bound in (('flux', 0.5), ('radius', 1.0)):
        key = f'galaxies.{key}'
        yield Row(f'{found.figures[key].label}, S/N over 30', found.figures[key], -bound, bound,
                  found.noisy.get(key))


def blank_sky(options, denoiser):
    """
    What comes out of a sky without any source.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    psf = detections.moffat(2.8)
    everything = np.ones((SIZE, SIZE), bool)
    for kind, (name, make) in enumerate(blank_noises().items()):
        false, shift, scatter, mottled, rho, output = [], [], [], [], {}, []
        for seed in range(number(options, 50)):
            rng = random(6, kind, seed)
            noise = make(rng, (SIZE, SIZE))
            sigma = noise.std()
            noisy = 100 * sigma + noise
            clean, _ = denoiser(noisy)
            after, before = (clean - 100 * sigma) / sigma, noise / sigma
            filtered = detections.matched_filter(before, psf, 1.0)
            own = detections.filter_noise(filtered, everything)
            false.append(detections.false_peaks(
                detections.matched_filter(after, psf, 1.0) / own, everything))
            shift.append(residuals.sky_shift(after, everything))
            scatter.append(residuals.block_scatter(before, after, everything))
            mottled.append(residuals.mottle(before, after, everything))
            output.append(residuals.output_correlation(before - after, after, everything))
            for lag in (1, 2):
                rho.setdefault(lag, []).append(lag_difference(before - after, before, lag))
        yield Row(f'false peaks per Mpx, {name}', pool(false), -np.inf, 0.25)
        yield Row(f'mean shift of the sky, {name}', pool(shift), -0.01, 0.01)
        yield Row(f'scatter of 128 px blocks beyond the noise, {name}', pool(scatter), -np.inf,
                  0.003)
        yield Row(f'mottle, {name}', pool(mottled), -np.inf, 0.35)
        for lag, figures in rho.items():
            yield Row(f'lag {lag} of the residual against the noise, {name}', pool(figures), -0.02,
                      0.02)
        exact = f' (exact posterior mean {posterior_correlation(DENSE):.2f})' * (name == 'white')
        yield Row(f'residual and output correlate, {name}{exact}', pool(output), -0.01, 0.01)


def lag_difference(residual, noise, lag):
    """
    Compare the autocorrelation of a residual with that of the noise.

    Parameters
    ----------
    residual, noise : `numpy.ndarray`, (H, W)
        In sigma.
    lag : int
        In px.

    Returns
    -------
    figure : `Figure`
        Their difference.
    """
    everything = np.ones(noise.shape, bool)
    own, theirs = (residuals.autocorrelation(plane, everything, lag=lag)
                   for plane in (residual, noise))

    def difference(sums):
        product, square, product_there, square_there = sums.sum(axis=0)
        return product / square - product_there / square_there

    samples = np.column_stack([own.samples, theirs.samples])
    return replace(own, label=f'lag {lag}', statistic=difference, samples=samples)


def faint_patches(options, denoiser):
    """
    Discs of low surface brightness, half of them beside bright stars.

    All of their light is what 1.5 of their radii hold; within their edge, what one radius and 3 px
    hold: what is blurred across an edge of low S/N is lost there, and is not lost in all.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    y, x = np.indices((SIZE, SIZE), dtype=float)
    for depth, across, bound in PATCHES:
        found = {'all of their light': [], 'within their edge': []}
        step = 2.5 * across
        for seed in range(number(options, 16 * across / 50)):
            rng = random(7, across, seed)
            psf, _, unit = draw_psf(rng)
            line = np.arange(step / 2 + 20, SIZE - step / 2, step)
            places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
            patches = np.zeros((SIZE, SIZE))
            for px, py in places:
                patches += depth * (np.hypot(y - py, x - px) < across / 2)
            patches = ndimage.gaussian_filter(patches, 1.5)
            stars = [(px + across / 2 + 12, py, 500 / unit) for px, py in places[::2]]
            truth = 100 + patches + scenes.star_light(SIZE, psf, stars)
            clean, _ = denoiser(truth + rng.normal(size=truth.shape))
            for figures, radius in zip(found.values(), (0.75 * across, across / 2 + 3),
                                       strict=True):
                flux = sources.aperture_sums(patches, places[:, 1], places[:, 0], radius)
                figures.append(sources.patch_flux(
                    truth, clean, places[:, 1], places[:, 0], flux, radius=radius))
        for name, figures in found.items():
            yield Row(f'flux of patches of {depth} sigma over {across} px, {name}', pool(figures),
                      1 - bound, 1 + bound)


def patterns(options, denoiser):
    """
    Row banding and blotches of colour, in the sky and over objects; colours and leakage.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    sky, objects = [], []
    for seed in range(max(2, round(8 * options.scale))):
        for kind, kept in (('stars', sky), ('galaxy', objects), ('nebula', objects)):
            scene = scenes.make_scene(kind, 'mid', 200 + seed)
            rng = random(8, seed, scenes.KINDS.index(kind))
            offsets = BANDS * rng.normal(size=512)
            truth = (scene.truth_electrons - scene.sky) / scene.sigma
            noisy = (truth + rng.normal(size=truth.shape) + offsets[:, None]) * scene.sigma
            clean, _ = denoiser(noisy + scene.sky)
            error = (clean - scene.truth_electrons) / scene.sigma
            where = truth < 0.3 if kept is sky else truth > 0.3
            kept.append(residuals.banding_left(error, offsets, where))
    yield Row('row banding of 0.2 sigma left, sky', pool(sky), -np.inf, 0.10)
    yield Row('row banding of 0.2 sigma left, over objects', pool(objects), -np.inf, 0.25)
    left = {'sky': [], 'over objects': []}
    for seed in range(max(2, round(8 * options.scale))):
        for kind in ('stars', 'nebula'):
            planes = variants.colour_scene(kind, 'mid', 200 + seed)
            truth, sigma = (np.stack([getattr(p, name) for p in planes])
                            for name in ('truth_electrons', 'sigma'))
            rng = random(9, seed)
            pattern = variants.blotch_pattern((512, 512), (8, 16)[seed % 2], rng)
            pattern = 0.3 * pattern / pattern.std()
            noisy = variants.observe_colour(planes, 200 + seed) + pattern * sigma
            clean, _ = denoiser(noisy)
            level = np.mean([(t - p.sky) / s
                             for t, p, s in zip(truth, planes, sigma, strict=True)], axis=0)
            name = 'sky' if kind == 'stars' else 'over objects'
            where = level < 0.3 if kind == 'stars' else level > 0.3
            left[name].append(residuals.blotches_left((clean - truth) / sigma, pattern, where))
    for (name, figures), bound in zip(left.items(), (0.10, 0.50), strict=True):
        yield Row(f'blotches of colour of 0.3 sigma left, {name}', pool(figures), -np.inf, bound)
    yield from colours(options, denoiser)


def colours(options, denoiser):
    """
    Colours of stars, and what of a source in one plane comes out in the others.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    colour, leak = {}, []
    for seed in range(number(options, 8)):
        rng = random(10, seed)
        psf, fwhm, unit = draw_psf(rng)
        line = np.arange(40, SIZE - 40, 45)
        places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        places = places + rng.uniform(-0.5, 0.5, places.shape)
        single = rng.random(len(places)) < 0.4
        strength = np.exp(rng.uniform(np.log(90), np.log(500), len(places)))
        tint = 10 ** (0.4 * np.outer([-1, 0, 1], rng.normal(0, 0.5, len(places))))
        tint[:, single] = np.array([0, 1, 0])[:, None]
        truth = np.stack([
            scenes.star_light(SIZE, psf, [(*place, flux) for place, flux in
                                          zip(places, factor * strength / unit, strict=True)
                                          if flux > 0])
            for factor in tint])
        noisy = 100 + truth + rng.normal(size=truth.shape)
        clean, _ = denoiser(noisy)
        radius = 1.5 * fwhm
        own = np.stack([sources.aperture_sums(plane, places[:, 1], places[:, 0], radius)
                        for plane in truth])
        many = ~single & (own.min(0) > 50 * np.sqrt(np.pi) * radius)
        for key, figure in sources.star_colour(
                truth + 100, clean, places[many, 1], places[many, 0], own[:, many],
                radius=radius).items():
            colour.setdefault(key, []).append(figure)
        found = sources.band_leakage(
            truth + 100, clean, places[single, 1], places[single, 0], own[1, single], plane=1,
            radius=radius)
        leak += found.values()
    for key, figures in colour.items():
        yield Row(f'colour of stars, planes {key.split()[-1]}', pool(figures), -0.005, 0.005)
    yield Row('leakage of a source in one plane', pool(leak), -1.0, 1.0)


def levels(options, denoiser):
    """
    Gain on levels and slopes against that on a sky of 0, scene by scene.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    x = np.arange(512.0)
    planes = {'10 sigma': 10, '100 sigma': 100, '1000 sigma': 1000, '0.1 sigma per px': 0.1 * x,
              '1 sigma per px': x}
    lost = {name: [] for name in planes}
    for seed in range(max(2, round(4 * options.scale))):
        for kind in ('stars', 'galaxy'):
            scene = scenes.make_scene(kind, 'mid', 300 + seed)
            truth = (scene.truth_electrons - scene.sky) / np.sqrt(scene.sky)
            noise = random(11, seed).normal(size=truth.shape)
            plain = np.mean((denoiser(truth + noise)[0] - truth) ** 2)
            for name, plane in planes.items():
                error = denoiser(truth + noise + plane)[0] - truth - plane
                lost[name].append(10 * np.log10(np.mean(error**2) / plain))
    for name, values in lost.items():
        samples = np.array(values)[:, None]
        figure = Figure('gain lost', lambda s: float(np.mean(s)), samples,
                        np.arange(len(samples)), 'dB', 3, count=len(samples), of='scenes')
        yield Row(f'gain lost on {name}', figure, -np.inf, 1.0)


def error_map(options, denoiser):
    """
    Size of the errors against the predicted ones, by level of noise and correlation.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.
    denoiser : `Denoiser`
        What is measured.

    Yields
    ------
    row : `Row`
        One after the other.
    """
    for correlated in (False, True):
        for level in scenes.LEVELS:
            found = {}
            for seed in range(max(2, round(4 * options.scale))):
                for kind in scenes.KINDS:
                    scene = scenes.make_scene(kind, level, 400 + seed)
                    rng = random(12, seed, scenes.KINDS.index(kind))
                    if correlated:
                        noisy = scene.truth_electrons + scene.sigma * stacked(rng, (512, 512))
                    else:
                        noisy = scene.observe(rng)
                    clean, error = denoiser(noisy)
                    after = (clean - scene.truth_electrons) / scene.sigma
                    signal = (scene.truth_electrons - scene.sky) / scene.sigma
                    extended = kind in ('nebula', 'galaxy')
                    known = np.ones(signal.shape, bool) if extended else (
                        (signal < 0.3) | (signal > 5))
                    for key, figure in pixels.error_calibration(
                            after, error / scene.sigma, signal, valid=known).items():
                        found.setdefault(key, []).append(figure)
            name = f'{level} noise, {"stacks" if correlated else "white"}'
            yield from calibration_rows(
                {f'calibration.{key}': pool(group) for key, group in found.items()}, name)


GROUPS = {
    'photometry': photometry, 'crowding': crowding, 'response': responses, 'halos': halos,
    'blank': blank_sky, 'patches': faint_patches, 'patterns': patterns, 'levels': levels,
    'errors': error_map,
}


# --------------------------------------------------------------------------------------- the text

def lines_of(rows, *, rst=False):
    """
    Write the table.

    Parameters
    ----------
    rows : list of list of str
        Cells.
    rst : bool, optional
        Whether as reStructuredText.

    Returns
    -------
    lines : list of str
        Columns aligned.
    """
    rows = [['measure', 'noisy', 'denoised', 'bound', 'met'], *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    rule = '  '.join('=' * width for width in widths) if rst else '-+-'.join(
        '-' * width for width in widths)
    join = '  ' if rst else ' | '
    lines = [join.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]
    lines.insert(1, rule)
    return [rule, *lines, rule] if rst else lines


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
        What to do.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--model', default='mono', help='weights of single planes')
    parser.add_argument('--colour-model', default='colour', help='weights of three planes')
    parser.add_argument('--only', nargs='+', choices=GROUPS, default=list(GROUPS))
    parser.add_argument('--scale', type=float, default=1.0, help='share of the full area')
    parser.add_argument('--rst', action='store_true', help='print the table for the documentation')
    parser.add_argument('--json', type=Path, help='file to write all figures to')
    return parser.parse_args(arguments)


def main(arguments=None):
    """
    Measure and print.

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
    denoiser, rows = Denoiser(options.model, options.colour_model), []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of limits and laws: what counts is in the table
        for name in options.only:
            for row in GROUPS[name](options, denoiser):
                print(' | '.join(row.cells), file=sys.stderr, flush=True)
                rows.append(row)
    print('\n'.join(lines_of([row.cells for row in rows], rst=options.rst)))
    if options.json:
        content = [{'measure': row.measure, 'met': row.met, 'low': row.low, 'high': row.high,
                    **row.figure.to_dict()} for row in rows]
        text = json.dumps({'command': sys.argv[1:], 'rows': content}, indent=1)
        options.json.write_text(text.replace('-Infinity', 'null').replace('Infinity', 'null')
                                + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
