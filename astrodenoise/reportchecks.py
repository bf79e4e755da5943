# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What the measures of a report mean: a verdict for each check, and what the frame is fit for.

A check is passed when its figure and two standard errors lie inside the bound, failed when they lie
outside of it, and not testable here where the frame does not tell.
"""

from dataclasses import replace

import numpy as np

from astrodenoise.measures.figures import combine_figures
from astrodenoise.noisemodel import LAGS
from astrodenoise.reportdata import FAILED, NO_NUMBER, NOT_TESTABLE, PASSED, Check
from astrodenoise.reportquestions import NO_NOISE, find_invented, find_lost, find_moved

__all__ = ['judge', 'uses_of']

MARGIN = 'the bound lies within two standard errors of the figure'
BOUNDS = {'flux >50': 1.0, 'flux 12-50': 3.0, 'fwhm': 1.0, 'sky': 0.01, 'lag': 0.05, 'seams': 0.02}
MOST_REMOVED = 1.05  # sigma, rms of what was removed
MOST_OF_IT = 0.95  # of the noise: where less was removed, the residual lacks a part of it


def judge(planes, noises, *, limit=6.0, strength=1.0, held_back=0):
    """
    Judge the examinations of a frame's planes.

    Parameters
    ----------
    planes : list of `~astrodenoise.measures.examination.Examination` or None
        Of each plane, None where its noise cannot be measured.
    noises : list of `~astrodenoise.noisemodel.PlaneNoise` or None
        Their noise.
    limit : float, optional
        To what boxes were held.
    strength : float, optional
        Share of the noise that was to be removed.
    held_back : int, optional
        Pixels that would have moved further, but were held to the limit.

    Returns
    -------
    checks : list of `~astrodenoise.reportdata.Check`
        'invented', 'lost' and 'moved' first.
    """
    number = [i for i, plane in enumerate(planes) if plane is not None]
    planes, noises = [planes[i] for i in number], [noises[i] for i in number]
    return [
        find_invented(planes, number),
        find_lost(planes, number),
        find_moved(planes, number, limit, held_back),
        *_stars(planes),
        _sky(planes),
        _size(planes, strength),
        _whiteness(planes, noises, strength),
        _seams(planes),
    ]


# Figures with a standard error


def _stars(planes):
    rows = (
        ('flux >50', 'flux', 'Flux of bright stars',
         'Median change of the flux of stars of aperture S/N over 50, in an aperture of 1.5 FWHM',
         ('Bright stars keep their light.', 'Bright stars do not keep their light.')),
        ('flux 12-50', 'faint flux', 'Flux of fainter stars',
         'The same of stars of aperture S/N 12 to 50',
         ('Fainter stars keep their light.', 'Fainter stars do not keep their light.')),
        ('fwhm', 'fwhm', 'Width of stars',
         'Median change of the FWHM of isolated stars of aperture S/N over 30',
         ('Stars are as wide as before.', 'Stars are not as wide as before.')),
    )  # fmt: skip
    for name, key, title, tested, says in rows:
        figures = [plane.stars.figures[name] for plane in planes]
        yield _measured(key, title, tested, figures, BOUNDS[name], says, unit='%', digits=2)


def _sky(planes):
    figures = [plane.figures['sky'] for plane in planes]
    tested = 'Mean of denoised minus noisy where there are no sources'
    says = 'The sky keeps its level.', 'The sky does not keep its level.'
    return _measured(
        'sky', 'Level of the sky', tested, figures, BOUNDS['sky'], says, unit='sigma', digits=4
    )


def _seams(planes):
    figures = [plane.figures['seams'] for plane in planes]
    tested = (
        'Second differences across the edges of the tiles over those elsewhere, where the scene is '
        'smooth'
    )
    says = 'No edge of a tile can be seen.', 'The edges of tiles can be seen.'
    return _measured(
        'seams', 'Seams of tiles', tested, figures, BOUNDS['seams'], says, middle=1.0, digits=3
    )


def _whiteness(planes, noises, strength):
    tested = (
        'Autocorrelation of the residual at lags 1 and 2 px minus that of the noise, where there '
        'are no sources'
    )
    says = (
        'What was removed looks like the noise.',
        'What was removed does not look like the noise.',
    )
    parts = []
    for lag in (1, 2):
        own = np.mean([[noise.correlation[LAGS.index(at)] for at in ((0, lag), (lag, 0))]
                       for noise in noises]) if noises else 0.0  # fmt: skip
        figures = [plane.figures[f'lag {lag}'] for plane in planes]
        parts.append(
            _measured('residual', 'Residual is noise', tested, figures, BOUNDS['lag'], says,
                      middle=float(own), digits=3, relative=True)
        )  # fmt: skip
    # the worse of the two stands for both
    order = (PASSED, NOT_TESTABLE, FAILED)
    worse = max(parts, key=lambda check: (order.index(check.state), abs(check.value or 0)))
    size = _pooled([plane.figures['size'] for plane in planes])
    share = size.value / max(strength, 0.01) if planes and size.testable else 1.0
    if worse.state == FAILED and worse.value < 0 and share < MOST_OF_IT:
        words = (
            f'Not testable here: {100 * (1 - share):.0f} % of the noise could not be told from '
            'structure and stays; what is missing makes the residual less alike.'
        )
        return replace(worse, state=NOT_TESTABLE, words=words)
    return worse


def _size(planes, strength):
    key, title = 'size', 'Size of the residual'
    tested = 'Rms of what was removed where there are no sources, over the measured noise'
    most = MOST_REMOVED * max(strength, 0.2)
    bound = f'at most {most:.2f}'
    figure = _pooled([plane.figures['size'] for plane in planes])
    if figure is None or not figure.testable:
        return _untold(key, title, tested, bound, figure)
    value, error = figure.value, figure.error
    number = _text(value, error, 'sigma', 3, sign=False)
    if not np.isfinite(error):
        words = 'Not testable here: there is too little to know the error of the figure.'
        return Check(key, title, tested, number, bound, NOT_TESTABLE, words, value)
    if value + 2 * error <= most:
        state, words = PASSED, 'No more was removed than there is.'
    elif value - 2 * error > most:
        state, words = FAILED, 'More was removed than there is: light was taken for noise.'
    else:
        state = NOT_TESTABLE
        words = f'Not testable here: {MARGIN}.'
    return Check(key, title, tested, number, bound, state, words, value, error)


def _measured(
    key, title, tested, figures, most, says, *, unit='', digits=2, middle=0.0, relative=False
):
    """Judge a figure that should be near a middle."""
    around = '' if relative or not middle else f'{middle:.2f} '
    bound = f'{around}± {most:g} {unit}'.rstrip()
    figure = _pooled(figures)
    if figure is None or not figure.testable:
        return _untold(key, title, tested, bound, figure)
    value, error = figure.value - (middle if relative else 0), figure.error
    number = _text(value, error, unit, digits, sign=relative or not middle)
    if not np.isfinite(error):
        words = 'Not testable here: there is too little to know the error of the figure.'
        return Check(key, title, tested, number, bound, NOT_TESTABLE, words, value)
    distance = abs(value - (0 if relative else middle))
    if distance + 2 * error <= most:
        state, words = PASSED, says[0]
    elif distance - 2 * error > most:
        state, words = FAILED, says[1]
    else:
        state = NOT_TESTABLE
        words = f'Not testable here: {MARGIN}.'
    return Check(key, title, tested, number, bound, state, words, value, error)


def _pooled(figures):
    return combine_figures(figures, planes=True) if figures else None


def _text(value, error, unit, digits, *, sign=True):
    spread = f' ± {error:.{digits}f}' if np.isfinite(error) else ''
    return f'{value:{"+" if sign else ""}.{digits}f}{spread} {unit}'.rstrip()


def _untold(key, title, tested, bound, figure):
    why = NO_NOISE if figure is None else figure.why
    return Check(key, title, tested, NO_NUMBER, bound, NOT_TESTABLE, f'Not testable here: {why}.')


def _measuring(faint):
    """What is to be known by whoever measures stars in the denoised frame."""
    told = f'by {faint.number}' if faint.value is not None else 'by more than this frame tells'
    return (
        f'For stars of S/N over 50. Those of S/N 12 to 50 changed {told}, fainter ones may come '
        'out too faint. Take errors from the original: those of pixels here are correlated.'
    )


def uses_of(checks):
    """
    Say what a frame is fit for.

    Parameters
    ----------
    checks : list of `~astrodenoise.reportdata.Check`
        As `judge` gives them.

    Returns
    -------
    uses : list of dict
        'use', 'state' ('yes', 'no' or 'not shown') and 'words'.
    """
    of = {check.key: check for check in checks}

    def state(*keys):
        states = [of[key].state for key in keys]
        if FAILED in states:
            return 'no'
        return 'yes' if all(one == PASSED for one in states) else 'not shown'

    def why(*keys):
        bad = [of[key] for key in keys if of[key].state == FAILED]
        bad = bad or [of[key] for key in keys if of[key].state == NOT_TESTABLE]
        return '; '.join(f'{check.title.rstrip("?").lower()}: {check.state}' for check in bad)

    display = 'no' if FAILED in (of[k].state for k in ('invented', 'lost', 'moved', 'seams')) else (
        'yes' if of['invented'].state == of['moved'].state == PASSED else 'not shown'
    )  # fmt: skip
    detection = 'no' if state('invented', 'lost') == 'no' else state('invented')
    # a level that is the same all over does no harm to stars measured against their surroundings
    photometry = 'no' if of['fwhm'].state == FAILED else state('flux', 'moved')
    return [
        {'use': 'Display', 'state': display,
         'words': 'Look at it and show it.' if display == 'yes'
         else why('invented', 'lost', 'moved', 'seams')},
        {'use': 'Detection', 'state': detection,
         'words': 'Find sources in it; take thresholds from the noise of the original, never from '
                  'the scatter that is left here.' if detection == 'yes'
         else why('invented', 'lost')},
        {'use': 'Photometry on the original at these positions', 'state': 'yes',
         'words': 'Always: measure what you found here in the frame before denoising.'},
        {'use': 'Photometry on this frame', 'state': photometry,
         'words': _measuring(of['faint flux']) if photometry == 'yes'
         else why('flux', 'moved', *(('fwhm',) if photometry == 'no' else ()))},
    ]  # fmt: skip
