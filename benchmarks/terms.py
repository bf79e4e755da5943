# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What each term of the training's loss does.

Weights that were trained alike but for one term are measured on the same frames: gain, flux of
stars, their profile, faint patches, the sky.  The first weights are the reference of the gains'
differences, which are paired by scene and so much more certain than the gains.
"""

import argparse
import json
from pathlib import Path

import claims
import fidelity
import numpy as np
import scenes
from photutils.aperture import CircularAperture

from astrodenoise import denoise

COLUMNS = (
    'gain dB', 'difference', 'gain faint', 'flux 5-12 %', 'flux 12-50 %', 'FWHM', 'peak',
    'patches S/N 9', 'sky shift', 'sky rms',
)


def measure(model, seeds):
    """
    Measure weights.

    Parameters
    ----------
    model : str
        Weights.
    seeds : int
        Scenes of each kind.

    Returns
    -------
    figures : dict of str to list
        Of every scene, star or patch.
    """
    figures = {name: [] for name in ('gain', 'gain_faint', 'sky_shift', 'sky_rms')}
    stars = []
    for kind in scenes.KINDS:
        for seed in range(seeds):
            scene, noisy, denoised = claims.run(kind, 'mid', seed, model)
            found = fidelity.pixel_figures(scene, noisy, denoised)
            for name, values in figures.items():
                values.append(float(found[name]))
            stars.append(fidelity.star_figures(scene, denoised))
    ratio, error, _ = np.concatenate(stars, axis=1)
    for name, low, high in (('flux 5-12', 5, 12), ('flux 12-50', 12, 50)):
        figures[name] = (100 * error[(ratio > low) & (ratio < high)]).tolist()
    figures['FWHM'], figures['peak'] = profiles(model, seeds)
    figures['patches'] = patches(model, seeds)
    return figures


def profiles(model, seeds):
    """
    Fit isolated stars of S/N over 30.

    Parameters
    ----------
    model : str
        Weights.
    seeds : int
        Fields.

    Returns
    -------
    widths, peaks : list of float
        Ratios to the fits to the truth.
    """
    ratios = []
    for seed in range(seeds):
        scene = claims.colour_scene('stars', 'low', seed, claims.STAR_BOOST)[1]
        denoised = denoise(scene.observe(claims.random(9, seed)), model=model)
        places, own, radius = fidelity.isolated_stars(scene)
        noise = CircularAperture(places, radius).do_photometry(scene.sigma**2)[0] ** 0.5
        for place in places[own > claims.FIT_SN * noise]:
            found, truth = (claims.fit_star(scene, image, *place)
                            for image in (denoised, scene.truth_electrons))
            ratios.append(np.divide(found, truth))
    return np.array(ratios).reshape(-1, 2).T.tolist()


def patches(model, seeds):
    """
    Recover faint extended patches of 1 to 2 sigma.

    Parameters
    ----------
    model : str
        Weights.
    seeds : int
        Fields.

    Returns
    -------
    ratios : list of float
        Flux over the true one.
    """
    ratios = []
    for seed in range(seeds):
        scene, apertures, own, _, group = claims.with_patches(
            scenes.make_scene('faint', 'mid', seed, size=claims.SIZE))
        denoised = denoise(scene.observe(claims.random(6, seed)), model=model)
        excess = np.array([aperture.do_photometry(denoised - scene.truth_electrons)[0][0]
                           for aperture in apertures])
        ratios += (1 + excess / own)[group == 1].tolist()
    return ratios


def with_error(values, statistic=np.nanmean):
    """
    Give a statistic and its bootstrap error.

    Parameters
    ----------
    values : list of float
        The sample.
    statistic : callable, optional
        Of it.

    Returns
    -------
    value, error : float
        With 400 resamplings.
    """
    values, rng = np.asarray(values, float), np.random.default_rng(1)
    drawn = [statistic(rng.choice(values, values.size)) for _ in range(400)]
    return float(statistic(values)), float(np.std(drawn))


def row(figures, reference):
    """
    Summarise one model.

    Parameters
    ----------
    figures, reference : dict
        As `measure` gives them.

    Returns
    -------
    cells : list of str
        In the order of `COLUMNS`.
    """
    difference = np.subtract(figures['gain'], reference['gain'])
    samples = (
        (figures['gain'], np.nanmean, 2), (difference, np.nanmean, 2),
        (figures['gain_faint'], np.nanmean, 2), (figures['flux 5-12'], np.nanmedian, 1),
        (figures['flux 12-50'], np.nanmedian, 1), (figures['FWHM'], np.nanmedian, 4),
        (figures['peak'], np.nanmedian, 4), (figures['patches'], np.nanmedian, 3),
        (figures['sky_shift'], np.nanmean, 4), (figures['sky_rms'], np.nanmean, 4),
    )
    cells = []
    for values, statistic, decimals in samples:
        value, error = with_error(values, statistic)
        cells.append(f'{value:.{decimals}f}±{error:.{decimals}f}')
    return cells


def main(arguments=None):
    """
    Print the table.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the process by default.
    """
    parser = argparse.ArgumentParser(description=__doc__.strip().split('\n')[0])
    parser.add_argument('models', nargs='+', help='names or files; the first is compared to')
    parser.add_argument('--seeds', type=int, default=3, help='scenes of each kind')
    parser.add_argument('--json', type=Path, help='write all figures there')
    options = parser.parse_args(arguments)
    tables = {model: measure(model, options.seeds) for model in options.models}
    reference = tables[options.models[0]]
    print('| weights | ' + ' | '.join(COLUMNS) + ' |')
    print('| --- ' * (len(COLUMNS) + 1) + '|')
    for model, figures in tables.items():
        print(f'| {Path(model).stem} | ' + ' | '.join(row(figures, reference)) + ' |', flush=True)
    if options.json:
        options.json.write_text(json.dumps(tables))


if __name__ == '__main__':
    main()
