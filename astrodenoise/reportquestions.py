# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The three questions of a report: invented, lost, moved.

What is found is held against what chance makes of an honest result.
"""

from dataclasses import asdict

import numpy as np
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from astrodenoise.measures.findings import EVIDENCE, LEFT, MOST, SEEN, SHOWN
from astrodenoise.reportdata import FAILED, NO_NUMBER, NOT_TESTABLE, PASSED, Check

__all__ = ['NO_NOISE', 'find_invented', 'find_lost', 'find_moved']

NO_NOISE = 'the noise of the frame cannot be measured'
BEYOND_CHANCE = 0.01  # how probable a finding must be at least to be called chance
TOO_MANY = 0.05  # the same of their number
UNSURE = 1.5  # by what the expected number may be wrong: noise is not quite Gaussian
LISTED = 200  # positions at most
SLACK = 1.02  # of the limit of boxes: the noise that was measured here may differ by as much
MANY_HELD = 1e-4  # share of the pixels that is worth a word


def _merged(planes, number, name, key):
    """Positions of all planes, those within a FWHM taken as one, and how many there are."""
    found = [(source, i, plane.evidence.fwhm) for i, plane in zip(number, planes, strict=True)
             for source in getattr(plane.evidence, name)]  # fmt: skip
    if not found:
        return [], 0
    groups = np.arange(len(found))
    if len(planes) > 1:
        tree = cKDTree([(source.x, source.y) for source, *_ in found])
        pairs = tree.query_pairs(max(fwhm for *_, fwhm in found), output_type='ndarray')
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), [len(found)] * 2)
        _, groups = connected_components(graph, directed=False)
    merged = {}
    for group, (source, i, _) in zip(groups.tolist(), found, strict=True):
        place = merged.setdefault(group, asdict(source) | {'planes': []})
        place['planes'] = sorted({*place['planes'], i})
        if source.chance < place['chance']:
            place |= asdict(source)
    places = sorted(merged.values(), key=lambda p: (p['chance'], -p[key]))
    return places[:LISTED], len(places)


def _against_chance(found, expected):
    """
    Say whether findings are what chance gives.

    Neither may they be so many that chance gives as many in less than 5 % of all frames, nor may
    one of them be such that chance gives one like it in less than 1 %.
    """
    singular = sum(source.chance < BEYOND_CHANCE for source in found)
    as_many = stats.poisson.sf(len(found) - 1, UNSURE * expected)
    return as_many >= TOO_MANY and not singular, singular


def _beyond(count, singular):
    """Name findings that chance does not explain one by one."""
    what = 'it' if count == 1 else 'any of them' if singular >= count else f'{singular} of them'
    return f'Chance does not explain {what}'


def find_invented(planes, number):
    """
    Judge the sources that the original does not show.

    Parameters
    ----------
    planes : list of `~astrodenoise.measures.examination.Examination`
        Of each plane that could be examined.
    number : list of int
        Which planes these are.

    Returns
    -------
    check : `~astrodenoise.reportdata.Check`
        Its verdict, with positions.
    """
    tested = (
        f'Sources of S/N over {SHOWN:g} in the denoised frame for which the original has less than '
        f'{EVIDENCE:g} (matched filter, in units of the noise of the original)'
    )
    bound = 'no more than chance explains'
    shown = sum(plane.evidence.n_shown for plane in planes)
    if not planes:
        return _no_noise('invented', 'Invented?', tested, bound)
    places, count = _merged(planes, number, 'invented', 'shown')
    found = [source for plane in planes for source in plane.evidence.invented]
    expected = sum(plane.evidence.invented_by_chance for plane in planes)
    chance, singular = _against_chance(found, expected)
    of_all = f'{shown} {_sources(planes)}'
    told = f'{count} of {of_all} {_verb(count, "lack")} evidence'
    if not shown:
        words = 'The denoised frame shows no source, so none is invented.'
    elif not places:
        words = f'Every one of the {of_all} has evidence in the original.'
    elif chance:
        words = (
            f'{told}. Chance can explain that: {expected:.1f} would lack it if every source were '
            'real.'
        )
    elif singular:
        words = (
            f'{told}. {_beyond(count, singular)}: look at the list before you believe a faint '
            'source.'
        )
    else:
        words = (
            f'{told}, more than the {expected:.1f} that chance explains: look at the list before '
            'you believe a faint source.'
        )
    return Check(
        'invented', 'Invented?', tested, f'{count} of {shown}', bound,
        PASSED if chance else FAILED, words, float(count), None, tuple(places),
    )  # fmt: skip


def _sources(planes):
    """What is counted: a source of three planes counts three times."""
    return 'sources' if len(planes) == 1 else f'sources of {len(planes)} planes'


def _verb(count, verb):
    return f'{verb}s' if count == 1 else verb


def find_lost(planes, number):
    """
    Judge the sources that the denoised frame does not show.

    Parameters
    ----------
    planes : list of `~astrodenoise.measures.examination.Examination`
        Of each plane that could be examined.
    number : list of int
        Which planes these are.

    Returns
    -------
    check : `~astrodenoise.reportdata.Check`
        Its verdict, with positions.
    """
    tested = (
        f'Sources of S/N over {SEEN:g} in the original of which less than {100 * LEFT:g} % is left '
        'in the denoised frame (matched filter)'
    )
    bound = 'no more than chance explains'
    if not planes:
        return _no_noise('lost', 'Lost?', tested, bound)
    seen = sum(plane.evidence.n_seen for plane in planes)
    if not seen:
        return Check(
            'lost', 'Lost?', tested, '0 of 0', bound, NOT_TESTABLE,
            f'Not testable here: the original has no source of S/N over {SEEN:g}.', 0.0,
        )  # fmt: skip
    places, count = _merged(planes, number, 'lost', 'evidence')
    found = [source for plane in planes for source in plane.evidence.lost]
    expected = sum(plane.evidence.lost_by_chance for plane in planes)
    chance, singular = _against_chance(found, expected)
    of_all = f'{seen} {_sources(planes)}'
    told = f'{count} of {of_all} faded below {100 * LEFT:g} %'
    if not places:
        words = f'None of the {of_all} faded below {100 * LEFT:g} %.'
    elif chance:
        words = (
            f'{told}. Chance can explain that: noise alone has {expected:.1f} such peaks in a '
            'frame of this size.'
        )
    elif singular:
        words = f'{told}. {_beyond(count, singular)}: light was taken for noise.'
    else:
        words = (
            f'{told}, and noise alone has only {expected:.1f} such peaks in a frame of this size: '
            'light was taken for noise.'
        )
    return Check(
        'lost', 'Lost?', tested, f'{count} of {seen}', bound, PASSED if chance else FAILED,
        words, float(count), None, tuple(places),
    )  # fmt: skip


def _times(value):
    return f'{value:.1f} times' if value < 100 else f'{value:.0f} times'


def find_moved(planes, number, limit, held_back):
    """
    Judge the boxes that changed most.

    Parameters
    ----------
    planes : list of `~astrodenoise.measures.examination.Examination`
        Of each plane that could be examined.
    number : list of int
        Which planes these are.
    limit : float
        To what boxes were held.
    held_back : int
        Pixels that would have moved further.

    Returns
    -------
    check : `~astrodenoise.reportdata.Check`
        Its verdict, with positions.
    """
    tested = (
        'Largest change of the mean of any box of 1, 3, 5, 9, 17 and 33 px, over the noise of that '
        'mean (correlation included)'
    )
    bound = f'at most {limit:g} times'
    if not planes:
        return _no_noise('moved', 'Moved?', tested, bound)
    tops = [(i, move) for i, plane in zip(number, planes, strict=True) for move in plane.sizes]
    beyond = [(i, move) for i, plane in zip(number, planes, strict=True) for move in plane.beyond
              if abs(move.change) > SLACK * limit]  # fmt: skip
    largest = max(tops, key=lambda one: abs(one[1].change))[1]
    by_size = {}
    for i, move in tops:
        if move.box not in by_size or abs(move.change) > abs(by_size[move.box][1].change):
            by_size[move.box] = i, move
    listed = beyond or by_size.values()
    listed = sorted(listed, key=lambda one: -abs(one[1].change))
    value = abs(largest.change)
    normal = float(stats.norm.isf(0.5 / max(sum(plane.pixels for plane in planes), 1)))
    if beyond:
        most = 'At least ' if any(len(plane.beyond) == MOST for plane in planes) else ''
        boxes = 'box' if len(beyond) == 1 else 'boxes'
        words = (
            f'{most}{len(beyond)} {boxes} moved out of proportion to the noise, the worst of '
            f'{largest.box} px by {_times(value)} it.'
        )
    else:
        words = (
            f'No box moved by more than {_times(value)} its noise; white noise itself reaches '
            f'{normal:.1f} in as many single pixels.'
        )
    share = held_back / max(sum(plane.pixels for plane in planes), 1)
    if share > MANY_HELD:
        words += f' {100 * share:.2g} % of the pixels would have moved further and were held back.'
    return Check(
        'moved', 'Moved?', tested, _times(value), bound, FAILED if beyond else PASSED, words,
        value, None, tuple({**asdict(move), 'planes': [i]} for i, move in listed),
    )  # fmt: skip


def _no_noise(key, title, tested, bound):
    words = f'Not testable here: {NO_NOISE}.'
    return Check(key, title, tested, NO_NUMBER, bound, NOT_TESTABLE, words)
