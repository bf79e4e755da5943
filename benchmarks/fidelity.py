# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How close a denoised frame comes to the truth, against the peers.

``python benchmarks/fidelity.py`` prints a table for each class of scene and noise level and their
means.  `benchmarks/README.rst` says what the columns mean.
"""

import argparse
import hashlib
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import peers
import scenes
from astropy.nddata import CCDData
from photutils.aperture import CircularAperture
from scipy import ndimage, spatial
from skimage.metrics import structural_similarity

from astrodenoise import denoise, read_provenance

ROOT = Path(__file__).resolve().parent.parent

SKY, BRIGHT = 0.3, 5.0  # sigma above the sky: below is sky, in between faint, above bright
MIN_PIXELS = 400  # of a region, below which its figures are left out
MOTTLE = 6.0  # px, the Gaussian below whose width errors are not mottle
SSIM_SOFTENING = 3.0  # sigma, of the asinh stretch on which SSIM is taken
SSIM_WHITE = 10.0  # sigma above the sky that white is at least: sparse fields end lower
MIN_STARS = 5  # of a bin, below which it is left out
APERTURE = 1.5  # FWHM, radius
CROWDING = 0.1  # largest share of neighbours' light in the aperture of an isolated star
STAR_BINS = ((5, 12), (12, 20), (20, 50), (50, np.inf))  # aperture S/N
BLOCK = 64  # px, side of the blocks over which real pairs are bootstrapped
N_BOOTSTRAP = 300
CONTROL = {  # dB at the middle level on other scenes of these five classes, made independently
    'gauss 0.8': 8.78, 'gauss 1.2': 11.31, 'tv 2.0': 15.70, 'wavelet': 15.25, 'nl-means': 15.30,
    'bm3d': 18.77,
}
CONTROL_WITHIN = 0.7  # dB
COLUMNS = {  # figure of a scene -> heading, decimals
    'gain': ('gain dB', 2), 'over_bm3d': ('over bm3d', 2), 'gain_sky': ('sky', 2),
    'gain_faint': ('faint', 2), 'gain_bright': ('bright', 2), 'ssim': ('SSIM', 4),
    'sky_shift': ('sky shift', 4), 'sky_rms': ('sky rms', 3), 'mottle': ('mottle', 2),
}


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


def regions(level):
    """
    Split a frame by its signal.

    Parameters
    ----------
    level : `numpy.ndarray`
        (H, W) signal above the sky in units of the local noise.

    Returns
    -------
    regions : dict
        'sky', 'faint' and 'bright' -> (H, W) bool.
    """
    return {'sky': level < SKY, 'faint': (level >= SKY) & (level < BRIGHT),
            'bright': level >= BRIGHT}


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
    light = (np.quantile(scene.truth_electrons, 0.995) - scene.sky) / unit
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


def low_frequency(error, sky):
    """
    Measure the large-scale error of the sky.

    Parameters
    ----------
    error : `numpy.ndarray`
        (H, W) error in sigma.
    sky : `numpy.ndarray`
        (H, W) bool, the pixels that count.

    Returns
    -------
    rms : float
        Of the error smoothed over the sky's pixels alone.
    """
    smooth = ndimage.gaussian_filter(error * sky, MOTTLE)
    weight = ndimage.gaussian_filter(sky.astype(float), MOTTLE)
    inside = sky & (weight > 0.5)
    return np.sqrt(np.mean((smooth[inside] / weight[inside]) ** 2)) if inside.any() else np.nan


def pixel_figures(scene, noisy, denoised):
    """
    Compare a denoised frame with the truth, pixel by pixel.

    Parameters
    ----------
    scene : `scenes.Scene`
        The truth.
    noisy, denoised : `numpy.ndarray`
        (H, W) frames.

    Returns
    -------
    figures : dict
        Those of `COLUMNS`, without the difference to another method.
    """
    sigma = scene.sigma
    before, after = ((image - scene.truth_electrons) / sigma for image in (noisy, denoised))
    parts = regions((scene.truth_electrons - scene.sky) / sigma)
    figures = {'gain': decibel(np.mean(before**2), np.mean(after**2))}
    for name, part in parts.items():
        enough = part.sum() >= MIN_PIXELS
        figures[f'gain_{name}'] = (
            decibel(np.mean(before[part]**2), np.mean(after[part]**2)) if enough else np.nan)
    figures['ssim'] = structural_similarity(
        stretched(scene.truth_electrons, scene), stretched(denoised, scene), data_range=1.0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    sky = parts['sky']
    enough = sky.sum() >= MIN_PIXELS
    figures['sky_shift'] = np.mean(after[sky]) if enough else np.nan
    figures['sky_rms'] = np.sqrt(np.mean(after[sky]**2)) if enough else np.nan
    figures['mottle'] = (low_frequency(after, sky) / low_frequency(before, sky) if enough
                         else np.nan)
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
        draws = rng.integers(0, block.max() + 1, (N_BOOTSTRAP, block.max() + 1))
        trials = np.array([decibel(*(total[draw].sum() for total in sums)) for draw in draws])
        errors[key] = trials.std() if np.isfinite(trials).all() else np.nan
        all_trials = trials if all_trials is None else all_trials
    return figures, errors, all_trials


# ------------------------------------------------------------------------------ over many scenes

def mean_with_error(values, strata, rng):
    """
    Average a figure over scenes, with its error by bootstrap over the scenes of each stratum.

    Parameters
    ----------
    values : sequence of float
        One per scene; NaN where the scene has none.
    strata : sequence
        Class and level of each scene, within which scenes are drawn.
    rng : `numpy.random.Generator`
        For the bootstrap.

    Returns
    -------
    mean, error : float
        The error is NaN where no stratum has two scenes, and corrected for their small number.
    """
    values, strata = np.asarray(values, float), np.asarray(strata)
    good = np.isfinite(values)
    values, strata = values[good], strata[good]
    if not values.size:
        return np.nan, np.nan
    trials, known = np.zeros(N_BOOTSTRAP), False
    for stratum in np.unique(strata):
        own = values[strata == stratum]
        if own.size > 1:
            means = own[rng.integers(0, own.size, (N_BOOTSTRAP, own.size))].mean(1) - own.mean()
            trials += means * np.sqrt(own.size / (own.size - 1)) * own.size / values.size
            known = True
    return values.mean(), trials.std() if known else np.nan


def star_bias(tables, rng):
    """
    Give the median flux error of stars by S/N, with its error by bootstrap.

    Parameters
    ----------
    tables : list of `numpy.ndarray`
        One (3, n) table of `star_figures` per scene.
    rng : `numpy.random.Generator`
        Draws scenes, and stars within each.

    Returns
    -------
    bins : list of dict
        n, percent, percent_error, sigmas, sigmas_error for each of `STAR_BINS`.
    """
    bins = []
    for low, high in STAR_BINS:
        chosen = [table[1:, (table[0] >= low) & (table[0] < high)] for table in tables]
        chosen = [table for table in chosen if table.shape[1]]
        n = sum(table.shape[1] for table in chosen)
        if n < MIN_STARS:
            bins.append({'n': n})
            continue
        trials = []
        for _ in range(N_BOOTSTRAP):
            drawn = [chosen[i] for i in rng.integers(0, len(chosen), len(chosen))]
            drawn = [t[:, rng.integers(0, t.shape[1], t.shape[1])] for t in drawn]
            trials.append(np.median(np.concatenate(drawn, axis=1), axis=1))
        middle = np.median(np.concatenate(chosen, axis=1), axis=1)
        percent_error, sigmas_error = np.std(trials, axis=0)
        bins.append({'n': n, 'percent': 100 * middle[0], 'percent_error': 100 * percent_error,
                     'sigmas': middle[1], 'sigmas_error': sigmas_error})
    return bins


def summarise(records, methods):
    """
    Pool the figures of scenes.

    Parameters
    ----------
    records : list of dict
        As `measure` makes them.
    methods : sequence of str
        The rows.

    Returns
    -------
    table : dict
        Method -> column -> [value, error], and 'stars' -> bins.
    """
    strata = [f'{record["kind"]} {record["level"]}' for record in records]
    table = {}
    for method in methods:
        rng = np.random.default_rng(20)
        table[method] = row = {}
        for column in COLUMNS:
            values = [record['figures'][method].get(column, np.nan) for record in records]
            row[column] = mean_with_error(values, strata, rng)
            if len(records) == 1 and 'errors' in records[0]:
                error = records[0]['errors'][method].get(column, np.nan)
                row[column] = (row[column][0], error)
        row['stars'] = star_bias([record['stars'][method] for record in records
                                  if method in record['stars']], rng)
        row['seconds per Mpx'] = np.median([record['seconds'][method] / record['mpx']
                                            for record in records])
    return table


# -------------------------------------------------------------------------------------- the runs

def measure(scene, methods, keywords):
    """
    Run all methods on one scene or pair.

    Parameters
    ----------
    scene : `scenes.Scene` or `scenes.Pair`
        What is denoised.
    methods : sequence of str
        Which methods.
    keywords : dict
        Method -> keyword arguments.

    Returns
    -------
    record : dict
        Name, kind, level, and figures, stars and seconds by method.
    """
    record = {'name': scene.name, 'kind': scene.kind, 'level': scene.level,
              'figures': {}, 'stars': {}, 'seconds': {}}
    real, trials = isinstance(scene, scenes.Pair), {}
    if real:
        noisy, record['errors'] = scene.frame, {}
    else:
        kind = (*scenes.KINDS, *scenes.REAL_KINDS).index(scene.kind)
        level = tuple(scenes.LEVELS).index(scene.level)
        noisy = scene.observe(np.random.default_rng([0x0B5, kind, level, scene.seed]))
    record['mpx'] = noisy.size / 1e6
    for method in methods:
        denoised, record['seconds'][method] = peers.run(
            method, noisy, scene.sigma, scene.gain, scene.read_noise, **keywords.get(method, {}))
        if real:
            record['figures'][method], record['errors'][method], trials[method] = pair_figures(
                scene, denoised, np.random.default_rng(64))  # the same draws for each method
        else:
            record['figures'][method] = pixel_figures(scene, noisy, denoised)
            record['stars'][method] = star_figures(scene, denoised)
    if 'bm3d' in methods:
        reference = record['figures']['bm3d']['gain']
        for method, figures in record['figures'].items():
            figures['over_bm3d'] = figures['gain'] - reference
            if real:
                record['errors'][method]['over_bm3d'] = np.std(trials[method] - trials['bm3d'])
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
    scene : `scenes.Scene` or `scenes.Pair`
        One after the other.
    """
    for kind in scenes.KINDS:
        for level in options.levels if kind in options.kinds else ():
            n = options.seeds if level == 'mid' else max(options.seeds - 1, 1)
            for seed in range(n):
                yield scenes.make_scene(kind, level, seed)
    yield from scenes.real_scenes(options.data, kinds=options.kinds, levels=options.levels)
    if 'mid' in options.levels:
        pairs = [kind for kind in scenes.PAIR_KINDS if kind in options.kinds]
        yield from scenes.real_pairs(options.data, kinds=pairs)


# --------------------------------------------------------------------------------------- the text

def number(value, error, decimals):
    """
    Write a figure with its standard error.

    Parameters
    ----------
    value, error : float
        NaN means that there is none.
    decimals : int
        Of both.

    Returns
    -------
    text : str
        As '18.77±0.12', without the error where there is none, or '-'.
    """
    if not np.isfinite(value):
        return '-'
    text = f'{value:.{decimals}f}'
    return f'{text}±{error:.{decimals}f}' if np.isfinite(error) else text


def lines_of(title, table, stars=True):
    """
    Write one table.

    Parameters
    ----------
    title : str
        Its heading.
    table : dict
        As `summarise` makes it.
    stars : bool, optional
        Whether there are stars to show.

    Returns
    -------
    lines : list of str
        Pipe-separated, columns aligned.
    """
    shown = [column for column in COLUMNS
             if any(np.isfinite(row[column][0]) for row in table.values())]
    rows = [['method', *(COLUMNS[column][0] for column in shown)]]
    any_row = next(iter(table.values()))
    bins = [i for i, part in enumerate(any_row['stars']) if stars and part['n'] >= MIN_STARS]
    for i in bins:
        low, high = STAR_BINS[i]
        name = f'S/N {low}-{high}' if np.isfinite(high) else f'S/N > {low}'
        rows[0].append(f'{name} (n={any_row["stars"][i]["n"]})')
    for method, row in table.items():
        cells = [number(*row[column], COLUMNS[column][1]) for column in shown]
        for i in bins:
            part = row['stars'][i]
            cells.append(f'{number(part["percent"], part["percent_error"], 1)} % '
                         f'({number(part["sigmas"], part["sigmas_error"], 2)} s)')
        rows.append([method, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ['-' * width for width in widths])
    text = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + ' |' for row in rows]
    return ['', title, '', *text]


def matrix_lines(cells, methods):
    """
    Write the gain of every method in every cell: the table to look at first.

    Parameters
    ----------
    cells : dict
        (kind, level) -> table of `summarise`.
    methods : sequence of str
        The rows.

    Returns
    -------
    lines : list of str
        Pipe-separated.
    """
    rows = [['gain in dB', *(' '.join(cell) for cell in cells)]]
    for method in methods:
        rows.append([method, *(number(table[method]['gain'][0], np.nan, 2)
                               for table in cells.values())])
    columns = list(zip(*rows, strict=True))  # turned: a row for each cell keeps lines short
    widths = [max(len(cell) for cell in column) for column in zip(*columns, strict=True)]
    columns.insert(1, ['-' * width for width in widths])
    return ['', 'Gain in dB, all pixels', '',
            *('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
              + ' |' for row in columns)]


def control_lines(table):
    """
    Check that the peers do as well as they did on independent scenes of the same classes.

    Parameters
    ----------
    table : dict
        The mean over the simulated scenes at the middle level.

    Returns
    -------
    lines : list of str
        One for each peer.
    """
    lines = ['', f'Control: peers at the middle level, within {CONTROL_WITHIN} dB of known figures']
    for method, known in CONTROL.items():
        if method in table:
            gain, error = table[method]['gain']
            verdict = 'ok' if abs(gain - known) <= CONTROL_WITHIN else 'OUTSIDE'
            lines.append(f'  {method:10s} {number(gain, error, 2):>11s}, known {known:5.2f}, '
                         f'{gain - known:+.2f}: {verdict}')
    return lines


def hashes(methods, model):
    """
    Identify what the figures depend on.

    Parameters
    ----------
    methods : sequence of str
        The rows; ours adds what the package records of itself.
    model : str
        Name of our weights.

    Returns
    -------
    identity : dict
        SHA-256 of these files, versions of packages, and our weights and settings.
    """
    identity = {f'sha256 {name}': hashlib.sha256((ROOT / 'benchmarks' / name).read_bytes())
                .hexdigest() for name in ('scenes.py', 'peers.py', 'fidelity.py')}
    for package in ('numpy', 'scipy', 'galsim', 'scikit-image', 'bm3d', 'photutils', 'torch',
                    'astrodenoise'):
        try:
            identity[package] = version(package)
        except PackageNotFoundError:
            identity[package] = 'from the checkout' if package == 'astrodenoise' else 'absent'
    if any(name.startswith('ours') for name in methods):
        flat = np.random.default_rng(0).normal(0.0, 1.0, (64, 64))
        identity['ours'] = read_provenance(denoise(CCDData(flat, unit='adu'), model=model).meta)
        identity['ours'].pop('planes', None)
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
    every = (*scenes.KINDS, *scenes.REAL_KINDS, *scenes.PAIR_KINDS)
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true',
                        help='one simulated scene of each class at the middle level')
    parser.add_argument('--seeds', type=int, default=3, metavar='N',
                        help='scenes of each class at the middle level; one less at the others')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures there')
    parser.add_argument('--only', nargs='+', metavar='METHOD',
                        help='methods whose names start so, for example: ours bm3d')
    parser.add_argument('--model', default='default', help='weights of ours')
    parser.add_argument('--kinds', nargs='+', choices=every, default=every, metavar='KIND',
                        help=f'of {", ".join(every)}')
    parser.add_argument('--levels', nargs='+', choices=tuple(scenes.LEVELS),
                        default=tuple(scenes.LEVELS), metavar='LEVEL')
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data',
                        help='folder of real frames; left out where it does not exist')
    options = parser.parse_args(arguments)
    if options.quick:
        options.seeds, options.levels = 1, ('mid',)
        options.kinds = [kind for kind in options.kinds if kind in scenes.KINDS]
    return options


def chosen_methods(only):
    """
    Choose the methods to run.

    Parameters
    ----------
    only : list of str or None
        Beginnings of their names; None for all.

    Returns
    -------
    methods : list of str
        In the order of the table.
    """
    return [name for name in peers.METHODS
            if only is None or any(name.startswith(part) for part in only)]


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
    methods = chosen_methods(options.only)
    if not methods:
        print('no method is left to run', file=sys.stderr)
        return 2
    keywords = {name: {'model': options.model} for name in methods if name.startswith('ours')}
    identity, records = hashes(methods, options.model), []  # now: files may change meanwhile
    for scene in all_scenes(options):
        print(f'\r{scene.name} {scene.level:20s}', end='', file=sys.stderr, flush=True)
        records.append(measure(scene, methods, keywords))
    print(file=sys.stderr)
    cells = {}
    for record in records:
        cells.setdefault((record['kind'], record['level']), []).append(record)
    simulated = [record for record in records if record['kind'] in scenes.KINDS]
    for level in options.levels:
        cells['simulated', level] = [r for r in simulated if r['level'] == level]
    cells['simulated', 'all'] = simulated
    for record in records:
        if record['kind'] in scenes.PAIR_KINDS:
            cells[record['name'], 'pair'] = [record]
    cells = {key: summarise(group, methods) for key, group in cells.items()
             if group and key[0] not in scenes.PAIR_KINDS}
    lines = [f'scenes.py sha256 {identity["sha256 scenes.py"]}']
    if 'ours' in identity:
        lines.append('ours ' + ' '.join(f'{key}={item}' for key, item in identity['ours'].items()))
    lines += matrix_lines(cells, methods)
    for (kind, level), table in cells.items():
        lines += lines_of(f'{kind}, {level}', table)
    if ('simulated', 'mid') in cells:
        lines += control_lines(cells['simulated', 'mid'])
    print('\n'.join(lines))
    if options.json:
        save(options.json, identity, cells, records)
    return 0


def save(path, identity, cells, records):
    """
    Write all figures as JSON.

    Parameters
    ----------
    path : `pathlib.Path`
        The file.
    identity : dict
        What the figures depend on.
    cells : dict
        (kind, level) -> table.
    records : list of dict
        Figures of each scene; the tables of single stars are left out.
    """
    def plain(value):
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, float | np.floating):
            return float(value) if np.isfinite(value) else None
        return value

    kept = [{key: value for key, value in record.items() if key != 'stars'} for record in records]
    content = {'identity': identity, 'command': sys.argv[1:],
               'tables': {' '.join(key): table for key, table in cells.items()}, 'scenes': kept}
    path.write_text(json.dumps(plain(content), indent=1, allow_nan=False) + '\n')


if __name__ == '__main__':
    sys.exit(main())
