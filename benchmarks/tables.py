# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tables of `fidelity.py`: figures of scenes pooled with their errors, and written down."""

import json
import sys
from collections import Counter

import numpy as np
from peers import is_peer

N_BOOTSTRAP = 300
MIN_STARS = 5  # of a bin, below which it is left out
STAR_BINS = ((5, 12), (12, 20), (20, 50), (50, np.inf))  # aperture S/N
CONTROL = {  # dB at the middle level on other scenes of these five classes, made independently
    'gauss 0.8': 8.78, 'gauss 1.2': 11.31, 'tv 2.0': 15.70, 'wavelet': 15.25, 'nl-means': 15.30,
    'starlet': 17.20, 'bm3d': 18.77, 'ffdnet': 18.69, 'oidn': 18.97, 'oidn hdr': 18.45,
}
CONTROL_WITHIN = 0.7  # dB
PARTS = ('', '_sky', '_faint', '_bright')  # ends of the names of gains: all pixels, and regions
COLUMNS = {  # figure of a scene -> heading, decimals
    'gain': ('gain dB', 2), 'over_best': ('over best peer', 2), 'over_bm3d': ('over bm3d', 2),
    'gain_sky': ('sky', 2), 'gain_faint': ('faint', 2), 'gain_bright': ('bright', 2),
    'over_best_sky': ('sky over best', 2), 'over_best_faint': ('faint over best', 2),
    'over_best_bright': ('bright over best', 2), 'over_flat': ('over flat', 2),
    'ssim': ('SSIM', 4), 'sky_shift': ('sky shift', 4), 'sky_rms': ('sky rms', 3),
    'mottle': ('mottle', 2), 'blotches': ('blotches left', 2), 'banding': ('banding left', 2),
}


# ----------------------------------------------------------------------------------- the figures

def best_peer(figures):
    """
    Find the peer that a method has to beat on a scene.

    Parameters
    ----------
    figures : dict
        Method -> figures of the scene, with 'gain' over all pixels.

    Returns
    -------
    name : str or None
        The peer of the highest gain; None where no peer has one.
    """
    gains = {name: own['gain'] for name, own in figures.items()
             if is_peer(name) and np.isfinite(own['gain'])}
    return max(gains, key=gains.get) if gains else None


def compare(figures):
    """
    Add the differences to BM3D and to the best peer of the scene.

    Parameters
    ----------
    figures : dict
        Method -> figures of one scene; 'over_bm3d' and 'over_best' come in, the latter also for
        sky, faint and bright structure, always against the peer that is best over all pixels.

    Returns
    -------
    best : str or None
        Name of that peer.
    """
    best = best_peer(figures)
    for own in figures.values():
        if 'bm3d' in figures:
            own['over_bm3d'] = own['gain'] - figures['bm3d']['gain']
        for part in PARTS if best else ():
            own['over_best' + part] = own['gain' + part] - figures[best]['gain' + part]
    return best


def verdict(value, error, low, high):
    """
    Compare a figure with its bounds.

    Parameters
    ----------
    value, error : float
        The figure and its standard error, NaN where it is not known.
    low, high : float
        Bounds, infinite where there is none.

    Returns
    -------
    verdict : str
        'yes' if the figure with two standard errors on either side is inside, 'no' if the figure is
        outside, else 'in errors'.
    """
    error = 2.0 * error if np.isfinite(error) else 0.0
    if not low <= value <= high:
        return 'no'
    return 'yes' if low <= value - error and value + error <= high else 'in errors'


def bound_text(low, high, unit=''):
    """
    Write bounds.

    Parameters
    ----------
    low, high : float
        Infinite where there is none.
    unit : str, optional
        What follows them.

    Returns
    -------
    text : str
        As '>= 15 dB', '±0.01' or '0.99 to 1.01'; '-' without bounds.
    """
    if np.isinf(low) and np.isinf(high):
        return '-'
    if np.isinf(high):
        return f'>= {low:.3g}{unit}'
    if np.isinf(low):
        return f'<= {high:.3g}{unit}'
    if low == -high:
        return f'±{high:.3g}{unit}'
    return f'{low:.4g} to {high:.4g}{unit}'


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
        As `fidelity.measure` makes them.
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


def overall(records, methods):
    """
    Average over classes of scenes how far a method is above the best peer of each scene.

    Parameters
    ----------
    records : list of dict
        As `fidelity.measure` makes them.
    methods : sequence of str
        Those to judge.

    Returns
    -------
    summary : dict
        Method -> figure -> 'classes' (class -> [value, error]), 'mean' over the classes and
        'worst', which is [class, value, error].
    """
    kinds = list(dict.fromkeys(record['kind'] for record in records))
    summary = {}
    for method in methods:
        summary[method] = rows = {}
        for figure in (*(f'over_best{part}' for part in PARTS), 'over_bm3d'):
            rng, classes = np.random.default_rng(21), {}
            for kind in kinds:
                own = [record for record in records if record['kind'] == kind]
                values = [record['figures'][method].get(figure, np.nan) for record in own]
                pooled = mean_with_error(values, [record['level'] for record in own], rng)
                if np.isfinite(pooled[0]):
                    classes[kind] = pooled
            if classes:
                values, errors = np.array(list(classes.values())).T
                error = np.sqrt(np.sum(errors**2)) / len(errors)  # classes share no scene
                worst = min(classes, key=lambda kind: classes[kind][0])
                rows[figure] = {'classes': classes, 'mean': (values.mean(), error),
                                'worst': (worst, *classes[worst])}
    return summary


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


def aligned(rows):
    """
    Write rows of cells with a line under the first.

    Parameters
    ----------
    rows : list of list of str
        The first is the heading.

    Returns
    -------
    lines : list of str
        Pipe-separated, columns aligned.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rows = [rows[0], ['-' * width for width in widths], *rows[1:]]
    return ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + ' |' for row in rows]


def as_rst(lines):
    """
    Turn pipe-separated tables among lines into simple tables of reStructuredText.

    Parameters
    ----------
    lines : list of str
        Text and tables of `aligned`.

    Returns
    -------
    lines : list of str
        The same, an empty first cell as a backslash and a blank.
    """
    turned, table = [], []
    for line in [*lines, '']:
        if line.startswith('|'):
            table.append([cell.strip() for cell in line.strip('|').split('|')])
            continue
        if table:
            del table[1]
            widths = [max(2, *map(len, column)) for column in zip(*table, strict=True)]
            rule = '  '.join('=' * width for width in widths)
            rows = ['  '.join((cell if cell or i else '\\ ').ljust(width)
                              for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
                    for row in table]
            turned += [rule, rows[0].rstrip(), rule, *(row.rstrip() for row in rows[1:]), rule]
            table = []
        turned.append(line)
    return turned[:-1]


def summary_lines(summary, records):
    """
    Write how far ours is above the best peer: the table to look at first.

    Parameters
    ----------
    summary : dict
        As `overall` makes it.
    records : list of dict
        The scenes, which name their best peers.

    Returns
    -------
    lines : list of str
        For each method a table with a row for each class.
    """
    names = {'over_best': 'all pixels', 'over_best_sky': 'sky', 'over_best_faint': 'faint',
             'over_best_bright': 'bright', 'over_bm3d': 'over bm3d'}
    lines = []
    for method, rows in summary.items():
        shown = [figure for figure in names if figure in rows]
        if not shown:
            continue
        table = [[method, *(names[figure] for figure in shown), 'best peer, scenes']]
        for kind in rows[shown[0]]['classes']:
            best = Counter(record['best'] for record in records if record['kind'] == kind)
            cells = [number(*rows[figure]['classes'].get(kind, (np.nan, np.nan)), 2)
                     for figure in shown]
            table.append([kind, *cells, ', '.join(f'{name} {n}' for name, n in best.most_common())])
        table.append(['mean of classes', *(number(*rows[figure]['mean'], 2) for figure in shown),
                      ''])
        table.append(['worst class', *(f'{number(*rows[figure]["worst"][1:], 2)} '
                                       f'({rows[figure]["worst"][0]})' for figure in shown), ''])
        lines += ['', f'{method}: gain over the best peer of each scene in dB', '', *aligned(table)]
    return lines


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
    return ['', title, '', *aligned(rows)]


def matrix_lines(cells, methods):
    """
    Write the gain of every method in every cell.

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
    turned = [list(column) for column in zip(*rows, strict=True)]  # a row a cell: short lines
    return ['', 'Gain in dB, all pixels', '', *aligned(turned)]


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


def save(path, identity, cells, summary, records):
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
    summary : dict
        As `overall` makes it.
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
               'over the best peer': summary,
               'tables': {' '.join(key): table for key, table in cells.items()}, 'scenes': kept}
    path.write_text(json.dumps(plain(content), indent=1, allow_nan=False) + '\n')
