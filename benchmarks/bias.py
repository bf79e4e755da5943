# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Bias of stars' fluxes against their S/N and the density of the field.

``python benchmarks/bias.py`` prints a table; ``--figure FILE`` draws it.  Stars of matched-filter
S/N 2 to 400, log-uniform, at random places of white noise of sigma 1; apertures of 1.5 FWHM.
Beside it stands the share that the exact posterior mean of one star keeps, by calculation.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import tables
from bounds import Denoiser
from fields import posterior_mean, random, star_field

from astrodenoise.measures import sources

DENSITIES = (100, 1000, 5000)  # stars per Mpx
EDGES = (3, 5, 8, 12, 20, 40, 100, 400)  # matched-filter S/N
N_BOOTSTRAP = 300


def errors_of_fluxes(denoiser, density, seed):
    """
    Denoise a field and measure its stars.

    Parameters
    ----------
    denoiser : `bounds.Denoiser`
        What is measured.
    density, seed : int
        Stars per Mpx, and which field.

    Returns
    -------
    strength, error : `numpy.ndarray`, (n,)
        Matched-filter S/N, and error of the aperture's flux over the star's own flux there.
    """
    rng = random(13, density, seed)
    truth, stars, strength, fwhm = star_field(rng, density)
    clean, _ = denoiser(truth + 100 + rng.normal(size=truth.shape))
    radius = 1.5 * fwhm
    inside = np.all((stars > radius + 1) & (stars < len(truth) - radius - 2), axis=1)
    x, y = stars[inside].T
    error = sources.aperture_sums(clean - truth - 100, y, x, radius)
    # the flux of a star of S/N 1 in its aperture: white noise of sigma 1, Moffat profile
    alone, place, own, _ = star_field(random(13, density, seed), 0, snr=(1.0, 1.0 + 1e-9), size=97,
                                      placed=48)
    unit = sources.aperture_sums(alone, place[:1, 1], place[:1, 0], radius)[0] / own[0]
    return strength[inside], error / (unit * strength[inside])


def curve(denoiser, density, *, n_fields):
    """
    Measure the bias by S/N.

    Parameters
    ----------
    denoiser : `bounds.Denoiser`
        What is measured.
    density : int
        Stars per Mpx.
    n_fields : int
        Fields of 1 Mpx.

    Returns
    -------
    rows : list of tuple
        Low and high S/N, number of stars, median error in % and its standard error, and the same
        that the exact posterior mean has.
    """
    strength, error = np.concatenate(
        [errors_of_fluxes(denoiser, density, seed) for seed in range(n_fields)], axis=1)
    rng, rows = np.random.default_rng(14), []
    for low, high in pairwise(EDGES):
        own = 100 * error[(strength >= low) & (strength < high)]
        trials = np.median(rng.choice(own, (N_BOOTSTRAP, own.size)), axis=1)
        exact = 100 * (posterior_mean(density, low, high) - 1)
        rows.append((low, high, own.size, float(np.median(own)), float(trials.std()), exact))
    return rows


def n_fields(density, mpx):
    """
    Give the number of fields of a density.

    Parameters
    ----------
    density : int
        Stars per Mpx.
    mpx : int
        Fields at 1000 stars per Mpx.

    Returns
    -------
    n : int
        Up to four times as many where stars are few, down to a third.
    """
    return max(1, round(mpx * min(4.0, max(1000 / density, 1 / 3))))


def lines_of(curves):
    """
    Write the table as reStructuredText.

    Parameters
    ----------
    curves : dict
        Density -> rows of `curve`.

    Returns
    -------
    lines : list of str
        Of a simple table.
    """
    cells = [['S/N', *(f'{density} per Mpx' for density in curves)]]
    for rows in zip(*curves.values(), strict=True):
        low, high = rows[0][:2]
        cells.append([f'{low}-{high}', *(f'{value:+.1f}±{error:.1f} % ({exact:+.0f}), n={n}'
                                         for _, _, n, value, error, exact in rows)])
    return tables.as_rst(tables.aligned(cells))


def draw(curves, path):
    """
    Draw the curves.

    Parameters
    ----------
    curves : dict
        Density -> rows of `curve`.
    path : `pathlib.Path`
        Of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axes = figure.add_subplot()
    for colour, (density, rows) in zip(('C0', 'C1', 'C3'), curves.items(), strict=True):
        low, high, _, value, error, exact = np.array(rows).T
        middle = np.sqrt(low * high)
        axes.errorbar(middle, value, 2 * error, color=colour, marker='o', capsize=2,
                      label=f'{density} stars per Mpx')
        axes.plot(middle, exact, color=colour, ls='--', lw=1)
    axes.plot([], [], color='0.5', ls='--', lw=1, label='exact posterior mean of one star')
    axes.axhline(0, color='0.6', lw=0.8)
    axes.set(xscale='log', xlabel='matched-filter S/N', ylabel='bias of the flux in %',
             ylim=(-80, 8))
    axes.set_xticks([4, 6, 10, 20, 50, 100, 200], ['4', '6', '10', '20', '50', '100', '200'])
    axes.legend(frameon=False, loc='lower right')
    FigureCanvasAgg(figure).print_png(path, metadata={'Software': None})


def main(arguments=None):
    """
    Measure, print and draw.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--model', default='mono', help='weights of single planes')
    parser.add_argument('--mpx', type=int, default=12,
                        help='Mpx of sky at 1000 stars per Mpx; more where there are fewer')
    parser.add_argument('--figure', type=Path, help='PNG file to draw the curves to')
    options = parser.parse_args(arguments)
    denoiser = Denoiser(options.model, 'colour')
    curves = {density: curve(denoiser, density, n_fields=n_fields(density, options.mpx))
              for density in DENSITIES}
    print('\n'.join(lines_of(curves)))
    if options.figure:
        draw(curves, options.figure)
    return 0


if __name__ == '__main__':
    sys.exit(main())
