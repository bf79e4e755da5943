# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The tables of a report's page: figures against the truth, noise, provenance."""

import json
import re
from html import escape

from astrodenoise.reportdata import NO_NUMBER

__all__ = ['noise_table', 'provenance_table', 'truth_section', 'typeset']

SIGMA, MINUS = '\u03c3', '\u2212'
FIRST = 6  # figures against the truth that are seen at once: gains, and the sky


def typeset(text):
    """
    Make a text HTML, with the signs of its numbers as they are printed.

    Parameters
    ----------
    text : str
        Plain.

    Returns
    -------
    html : str
        Escaped.
    """
    text = re.sub(r'(?<![\w)])-(?=\d)', MINUS, text)
    return escape(re.sub(r'\bsigma\b', SIGMA, text))


def _table(head, rows):
    """A table whose columns after the first are numbers."""
    lines = []
    for cells, tag in [*(((head, 'th'),) if head else ()), *((row, 'td') for row in rows)]:
        first, *others = (typeset(str(cell)) for cell in cells)
        scopes = ('col', ' scope="col"') if tag == 'th' else ('row', '')
        numbers = ''.join(f'<{tag}{scopes[1]} class="n">{cell}</{tag}>' for cell in others)
        lines.append(f'<tr><th scope="{scopes[0]}">{first}</th>{numbers}</tr>')
    return _scrolled(''.join(lines))


def _scrolled(rows):
    return (
        '<div class="scroll" role="region" aria-label="table" tabindex="0"><table>'
        f'{rows}</table></div>'
    )


def truth_section(content):
    """
    Show the figures against the truth.

    Parameters
    ----------
    content : dict
        What `astrodenoise.reportdata.Report.to_dict` gives.

    Returns
    -------
    section : str
        HTML, empty where there is no truth.
    """
    evaluation = content['evaluation']
    if evaluation is None:
        return ''
    rows, missing = [], []
    for key, figure in evaluation['figures'].items():
        if figure['value'] is None:
            missing.append(f'{figure["label"]}: {figure["not_testable"]}')
            continue
        before = evaluation['noisy'].get(key)
        rows.append((figure['label'], _number(before), _number(figure)))
    head = ('against the truth', 'noisy', 'denoised')
    table = _table(head, rows[:FIRST])
    if rows[FIRST:]:
        more = f'{len(rows) - FIRST} more figures'
        table += f'<details class="plain"><summary>{more}</summary>{_table(head, rows[FIRST:])}'
        table += '</details>'
    notes = [f'Note: {note}.' for note in evaluation['notes']]
    rest = ''.join(f'<li>{typeset(text)}</li>' for text in missing)
    return (
        '<section aria-labelledby="truth-title"><h2 id="truth-title">Against the truth</h2>'
        f'{table}<p class="hint">{typeset(" ".join(notes))}</p>'
        f'<details class="plain"><summary>Not testable here: {len(missing)}</summary>'
        f'<ul class="notes">{rest}</ul></details></section>'
    )


def _number(figure):
    if figure is None or figure['value'] is None:
        return ''
    value, error = figure['value'], figure['error']
    digits = 4 if abs(value) < 0.1 else 3 if abs(value) < 10 else 1
    spread = '' if error is None else f' ± {error:.{digits}f}'
    return f'{value:.{digits}f}{spread} {figure["unit"]}'.rstrip()


def noise_table(content, names):
    """
    Show the noise model of each plane.

    Parameters
    ----------
    content : dict
        What `astrodenoise.reportdata.Report.to_dict` gives.
    names : list of str
        Of the planes, empty where there is one.

    Returns
    -------
    table : str
        HTML.
    """
    planes, unit = content['planes'], content['unit']
    rows = []

    def row(title, give):
        rows.append((title, *(give(plane) if plane['noise'] else NO_NUMBER for plane in planes)))

    in_unit = f' / {unit}' if unit else ''
    row(f'Level of the sky{in_unit}', lambda p: f'{p["noise"]["sky"]:.6g}')
    row(f'{SIGMA} of a pixel at the sky{in_unit}', lambda p: f'{p["noise"]["sigma"]:.5g}')
    row(f'{SIGMA} that the denoiser used', lambda p: _used(p))
    row(f'{SIGMA} over the field, 5 to 95 %', lambda p: _span(*p['noise']['map']))
    row('Correlation at lag 1: x, y', lambda p: _correlation(p, (0, 1), (1, 0)))
    row('Correlation at lag 2: x, y', lambda p: _correlation(p, (0, 2), (2, 0)))
    row('Bands: rms of rows, columns', lambda p: '{rows:.3f}, {columns:.3f} {sigma}'.format(
        **p['noise']['banding'], sigma=SIGMA))  # fmt: skip
    row('Step of the values', lambda p: f'{p["noise"]["step"]:g}' if p['noise']['step'] else 'none')
    row('FWHM of the matched filter', lambda p: _width_words(p))
    head = ('', *(name for name in names)) if names else ()
    return _table(head, rows)


def _span(low, high):
    return f'{low:.3f} to {high:.3f}'


def _used(plane):
    used = plane.get('recorded', {}).get('sigma')
    if used is None:
        return 'not known'
    return f'{used:.5g} ({plane["recorded"].get("noise", "?")})'


def _correlation(plane, *lags):
    own = {(one['dy'], one['dx']): one['rho'] for one in plane['noise']['correlation']}
    return ', '.join(f'{own[lag]:+.3f}' for lag in lags)


def _width_words(plane):
    if 'fwhm' not in plane:
        return NO_NUMBER
    stars = plane['fwhm_stars']
    return f'{plane["fwhm"]:.2f} px ({f"{stars} stars" if stars else "assumed"})'


def provenance_table(content):
    """
    Show what the denoised frame says of how it was made.

    Parameters
    ----------
    content : dict
        What `astrodenoise.reportdata.Report.to_dict` gives.

    Returns
    -------
    table : str
        HTML.
    """
    record = content['provenance']
    files = [(f'File: {name}', text) for name, text in content['files'].items()]
    if not record:
        rest = [('Record', 'the denoised frame does not say how it was made')]
    else:
        rest = [(key.replace('_', ' ').capitalize(), _told(value))
                for key, value in record.items() if key != 'planes']  # fmt: skip
        for i, plane in enumerate(record.get('planes', [])):
            told = ', '.join(f'{key} {_told(value)}' for key, value in plane.items())
            rest.append((f'Plane {i}', told))
    rows = ''.join(f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>'
                   for key, text in [*files, *rest])  # fmt: skip
    return _scrolled(rows)


def _told(value):
    if isinstance(value, float):
        return f'{value:.6g}'
    return json.dumps(value) if isinstance(value, list | dict) else str(value)
