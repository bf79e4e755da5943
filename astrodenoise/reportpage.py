# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A report as one self-contained page: no network, no other file, every pixel inside."""

import json
import re
import shlex
from html import escape
from pathlib import Path

from astrodenoise._version import __version__
from astrodenoise.atomic import atomic_write
from astrodenoise.reportdata import NO_NUMBER, NOT_TESTABLE
from astrodenoise.reportfigures import draw_figures
from astrodenoise.reportpixels import BUDGET, pack_layers
from astrodenoise.reporttables import noise_table, provenance_table, truth_section, typeset

__all__ = ['command_of', 'make_page', 'write_page']

DATA = Path(__file__).parent / 'report_data'
PICTURES = ('.png', '.tif', '.tiff')
USUAL = ('mono', 'colour')  # models that a frame gets without asking
QUESTIONS = ('invented', 'lost', 'moved')
FIRST = {'passed': 3, 'failed': 8}  # positions that are shown at once
SIGMA, TIMES, MINUS = '\u03c3', '\u00d7', '\u2212'
TOKEN = re.compile(r'\{\{(\w+)\}\}')


def write_page(path, report, *, overwrite=False, budget=BUDGET):
    """
    Write the page of a report.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file; it appears when it is complete, or not at all.
    report : `~astrodenoise.reportdata.Report`
        The report.
    overwrite : bool, optional
        Replace a file of that name.
    budget : int, optional
        Bytes that the deflated pixels may have; a frame that needs more is shown binned, with
        pieces in full resolution.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set.
    """
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.write(make_page(report, budget=budget).encode())


def make_page(report, *, budget=BUDGET):
    """
    Make the page of a report.

    Parameters
    ----------
    report : `~astrodenoise.reportdata.Report`
        The report.
    budget : int, optional
        As for `write_page`.

    Returns
    -------
    page : str
        HTML, with style, script and pixels inside.
    """
    content = report.to_dict()
    places = _places(content)
    scenes, scaling = pack_layers(
        report.layers, [(place['x'], place['y']) for place in places], budget=budget
    )
    parts = {name: (DATA / f'report.{kind}').read_text(encoding='utf-8')
             for name, kind in (('style', 'css'), ('script', 'js'))}  # fmt: skip
    names = report.names
    parts |= {
        'title': escape(f'{content["files"]["noisy"]}: report'),
        'heading': escape(content['files']['noisy']),
        'facts': _facts(content, names),
        'warnings': ''.join(f'<p class="warning"><b>Warning.</b> {escape(_sentence(text))}</p>'
                            for text in content['warnings']),
        'questions': _questions(content, names),
        'uses': _uses(content),
        'checks': _checks(content),
        'truth': truth_section(content),
        'figures': _figures(content, names),
        'noise': noise_table(content, names),
        'provenance': provenance_table(content),
        'notes': _notes(content),
        'footer': f'Made by astrodenoise {escape(__version__)}. This page holds all it shows and '
                  'asks nothing of a network. Positions count from 0 at the first pixel.',
        'strength_hint': _strength_hint(content),
        'pixels_hint': _pixels_hint(scenes, scaling),
        'about': _json(_about(report, content, places, scenes, scaling, names)),
        'pixels': '\n'.join(
            f'<script type="text/plain" id="pixels-{i}-{name}">{text}</script>'
            for i, scene in enumerate(scenes) for name, text in scene.layers.items()
        ),
    }  # fmt: skip
    template = (DATA / 'report.html').read_text(encoding='utf-8')
    return TOKEN.sub(lambda match: parts[match[1]], template)


def _json(value):
    """JSON that may stand in a page."""
    return json.dumps(value, allow_nan=False).replace('<', '\\u003c')


def command_of(report):
    """
    Give the command that makes the denoised frame again, with another strength.

    Parameters
    ----------
    report : `~astrodenoise.reportdata.Report`
        The report.

    Returns
    -------
    command : str
        With numbers in braces, ``{0.5}``, that the strength of the page multiplies; for other
        denoisers the sum that does the same.
    """
    record, noisy = report.provenance, report.files['noisy']
    if 'model' not in record:
        return 'noisy - {1} * (noisy - denoised)'
    target = Path(noisy)
    packed = target.suffix.lower() in ('.gz', '.fz')
    stem = Path(target.stem).stem if packed else target.stem
    suffix = target.suffix if target.suffix.lower() in PICTURES else '.fits'
    words = ['astrodenoise', 'denoise', shlex.quote(noisy), '-o',
             shlex.quote(f'{stem}-denoised{suffix}')]  # fmt: skip
    if 'denoised' in report.files:
        words += ['--like', shlex.quote(report.files['denoised'])]
    else:
        if record['model'] not in USUAL:
            words += ['--model', shlex.quote(str(record['model']))]
        if len(report.shape) == 3:
            words += ['--channels', str(record.get('channels', 'separate'))]
    for key in ('strength', 'strength_chroma', 'strength_coarse'):
        if record.get(key) is not None:
            words += [f'--{key.replace("_", "-")}', f'{{{record[key]:g}}}']
    return ' '.join(words)


def _about(report, content, places, scenes, scaling, names):
    """What the page's script needs to know."""
    shape = report.layers.noisy.shape
    return scaling | {
        'planes': shape[0], 'height': shape[1], 'width': shape[2],
        'colour': len(names) == 3, 'names': names,
        'unit': content['unit'], 'upward': report.layers.upward,
        'layers': list(scenes[0].layers), 'places': places,
        'scenes': [{key: getattr(scene, key) for key in ('x', 'y', 'width', 'height', 'bin')}
                   for scene in scenes],
        'command': command_of(report),
    }  # fmt: skip


def _places(content):
    return [
        {'kind': check['key'], **{k: place[k] for k in ('x', 'y', 'planes')},
         'box': place.get('box', 0)}
        for check in content['checks'] if check['key'] in QUESTIONS for place in check['positions']
    ]  # fmt: skip


# Parts of the page


def _facts(content, names):
    height, width = content['shape'][-2:]
    facts = [f'{width} {TIMES} {height} px' + (f', {len(names)} planes' if names else '')]
    record = content['provenance']
    if content['unit']:
        facts.append(content['unit'])
    n_out = content['pixels']['all'] - content['pixels']['valid']
    if n_out:
        facts.append(f'{n_out} px do not count (masked, saturated or without data)')
    if record.get('model'):
        version = record.get('model_version', '')
        facts.append(f'denoised by model {record["model"]} {version}'.rstrip())
    else:
        facts.append(f'denoised: {content["files"].get("denoised", "here")}')
    return escape('; '.join(facts))


def _state(state, kind=None):
    kind = {NOT_TESTABLE: 'open', 'not shown': 'open'}.get(state, kind or state)
    return f'<span class="state {kind}">{escape(state)}</span>'


def _questions(content, names):
    parts, first = [], 0
    flux = next(check for check in content['checks'] if check['key'] == 'flux')
    for key in QUESTIONS:
        check = next(check for check in content['checks'] if check['key'] == key)
        state, line = check['state'], check['words']
        if key == 'moved':
            line += f' Flux of stars of S/N over 50: {_flux_words(flux)}.'
            state = flux['state'] if flux['state'] == 'failed' else state
        buttons = [
            f'<li><button type="button" data-place="{first + i}">{_place(key, place, names)}'
            '</button></li>'
            for i, place in enumerate(check['positions'])
        ]
        first += len(buttons)
        parts.append(
            f'<article class="question" id="question-{key}"><header><h3>{check["title"]}</h3>'
            f'{_state(state)}</header><p class="number">{typeset(check["number"])}</p>'
            f'<p class="line">{typeset(line)}</p>{_folded(buttons, FIRST.get(state, 3))}</article>'
        )
    return ''.join(parts)


def _flux_words(flux):
    return flux['number'] if flux['number'] != NO_NUMBER else flux['words'].rstrip('.').lower()


def _folded(buttons, first):
    if not buttons:
        return ''
    shown = f'<ul class="places">{"".join(buttons[:first])}</ul>'
    rest = buttons[first:]
    if not rest:
        return shown
    return (
        f'{shown}<details class="more"><summary>{len(rest)} more</summary>'
        f'<ul class="places">{"".join(rest)}</ul></details>'
    )


def _place(key, place, names):
    """What stands on the button of a position."""
    if key == 'moved':
        what, number = f'{place["box"]} px box', f'{place["change"]:+.1f} {TIMES}'
    elif key == 'invented':
        what, number = f'shown {place["shown"]:.1f}', f'had {place["evidence"]:.1f}'
    else:
        what, number = f'had {place["evidence"]:.1f}', f'left {place["shown"]:.1f}'
    planes = ' '.join(names[i] for i in place['planes']) if names else ''
    return (
        f'<span>{place["x"]}, {place["y"]}</span>'
        f'<span class="what">{typeset(f"{what} {planes}".rstrip())}</span>'
        f'<span>{typeset(number)}</span>'
    )


def _uses(content):
    return ''.join(
        f'<li>{_state(use["state"])}<h3>{escape(use["use"])}</h3><p>{escape(_sentence(use["words"]))}'
        '</p></li>'
        for use in content['uses']
    )


def _sentence(text):
    """Make words a sentence."""
    return f'{text[:1].upper()}{text[1:]}{"" if text.endswith(".") else "."}'


def _checks(content):
    return ''.join(
        f'<article class="check"><header><h3>{escape(check["title"])}</h3>{_state(check["state"])}'
        f'</header><p class="tested">{typeset(check["tested"])}.</p>'
        f'<dl><dt>found</dt><dd>{typeset(check["number"])}</dd>'
        f'<dt>bound</dt><dd>{typeset(check["bound"])}</dd></dl>'
        f'<p>{typeset(check["words"])}</p></article>'
        for check in content['checks']
    )


def _figures(content, names):
    parts = []
    if names:
        parts.append('<div class="tabs" role="group" aria-label="Plane">' + ''.join(
            f'<button type="button" data-shows="figures-{i}" aria-pressed="{str(not i).lower()}">'
            f'{escape(name.capitalize())}</button>' for i, name in enumerate(names)
        ) + '</div>')  # fmt: skip
    for i, plane in enumerate(content['planes']):
        figures = ''.join(
            f'<figure><h3>{escape(title)}</h3>{svg}<figcaption>{typeset(caption)}</figcaption>'
            '</figure>'
            for title, svg, caption in draw_figures(plane)
        )
        hidden = ' hidden' if i else ''
        parts.append(f'<div class="figures" id="figures-{i}"{hidden}>{figures}</div>')
    return ''.join(parts)


def _notes(content):
    if not content['notes']:
        return ''
    items = ''.join(f'<li>{escape(_sentence(text))}</li>' for text in content['notes'])
    return (
        '<section aria-labelledby="notes-title"><h2 id="notes-title">Notes</h2>'
        f'<ul class="notes">{items}</ul></section>'
    )


def _strength_hint(content):
    if 'model' in content['provenance']:
        return 'Computed in this page from what was removed. The command makes the same as a file:'
    return 'Computed in this page from what was removed. The same with any calculator of images:'


def _pixels_hint(scenes, scaling):
    fine, coarse = (f'1/{1 / scaling["steps"][name]:g}' for name in ('denoised', 'residual'))
    text = (
        f'This page holds the denoised frame to {fine} {SIGMA} and what was removed to {coarse} '
        f'{SIGMA}. Drag to move, pinch or scroll to zoom, drag the handle to compare.'
    )
    side = scenes[0].bin
    if side > 1:
        text += (
            f' The frame is too large for a page: {side} {TIMES} {side} px are taken together, '
            f'which averages their noise, too; {len(scenes) - 1} pieces of it, round what is '
            'listed, are in full size.'
        )
    return text
