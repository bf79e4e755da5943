# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What was done to a frame, written into its metadata and read back.

In a `~astropy.io.fits.Header`::

    DENOISE = 'astrodenoise 1.0 default 0123456789ab overlap=0.25 tile=256'
    DENOISED=                    T / noise removed by astrodenoise
    HISTORY astrodenoise 1/2 version="1.0" torch=2.13.0 model=default overlap=0.25
    HISTORY astrodenoise 2/2 channels=separate sky=[1034.5] sigma=[12.25]

``DENOISE`` is one card and tells of the last run.  The HISTORY lines hold the whole record of every
run: items ``key=value`` with the value in JSON, or bare where a string cannot be taken for anything
else, in pure ASCII.  A line is at most 72 characters; ``1/2`` counts the lines of a record, and a
``+`` behind it says that the line goes on within a word (no space was there).

In a dict ``DENOISE`` and ``DENOISED`` are the same keys (capitals, where ccdproc would write
``denoise``: so the name is the same before and after a file), and the records are the strings
``DENOIS01``, ``DENOIS02`` and so on, because a dict has no HISTORY and only simple values can be
written to FITS.

A residual is no denoised frame.  It has two HISTORY lines, or the string ``RESIDUAL`` in a dict,
and the record of the run under another name (``RESIDREC`` in a dict), with what its frame is known
by::

    HISTORY residual: the frame minus its denoised version
    HISTORY of astrodenoise 1.0 default 0123456789ab overlap=0.25 tile=256
    HISTORY residual 1/2 version="1.0" torch=2.13.0 model=default overlap=0.25
    HISTORY residual 2/2 channels=separate sky=[1034.5] frame=89abcdef0123
"""

import json
import re
from collections.abc import Mapping

import numpy as np
from astropy import units as u
from astropy.io import fits

from astrodenoise.controls import Controls

__all__ = [
    'check_keyword',
    'is_denoised',
    'read_provenance',
    'read_residual_of',
    'write_record',
    'write_residual_of',
]

NAME = 'astrodenoise'
KEYWORD = 'DENOISE'
FLAG = 'DENOISED'
RESIDUAL, RESIDUAL_RECORD = 'RESIDUAL', 'RESIDREC'
RECORD_KEY = re.compile(r'DENOIS\d{2,}')
LINE_WIDTH = 72  # characters of a HISTORY card
VALUE_WIDTH = 68  # characters of a string that needs no CONTINUE card
KEY_WIDTH = 40  # characters of a long keyword that leave room for any number
LINES = {
    name: re.compile(rf'{name} (\d+)/(\d+)(?:([ +])(.*))?') for name in (NAME, 'residual')
}
PRINTABLE = re.compile(r'[ -~]*')
STANDARD_KEY = re.compile(r'[A-Z0-9_-]{1,8}|HIERARCH .*')
ITEM_KEY = re.compile(r' *([A-Za-z_]\w*)=', re.ASCII)
BARE = re.compile(r'[A-Za-z0-9_][\w.:/+-]*', re.ASCII)
DETECTOR_CARDS = ('GAIN', 'EGAIN', 'RDNOISE', 'READNOIS')  # noise laws that hold no longer


def write_record(meta, record, add_keyword=True):
    """
    Write what was done into the metadata of a result.

    Parameters
    ----------
    meta : `astropy.io.fits.Header` or dict
        Changed in place.
    record : dict
        What was done: keys that are words, values that are `None`, bool, int, float, str, or lists
        of them (one element per plane), numpy's included.
    add_keyword : bool, str, `ccdproc.Keyword`, dict or `None`, optional
        As in ccdproc.  `True`: the keyword ``DENOISE``, unless ``astrodenoise.conf.auto_logging``
        is `False`.  `False` or `None`: ``meta`` stays as it is.  A string is a keyword without a
        value; a ccdproc.Keyword or a dict gives keywords and values.  These stand in place of
        ``DENOISE``; the record is written all the same.

    Raises
    ------
    TypeError
        If ``add_keyword`` or a value of ``record`` is of another type.
    ValueError
        If a key of ``record`` is no word, or a keyword cannot stand in a FITS header.
    """
    check_keyword(add_keyword, meta)
    if not add_keyword:
        return
    text = _encode(record)  # before anything is changed
    logging = _auto_logging()
    if add_keyword is True and logging:
        meta[KEYWORD] = _summary(record)
    for key, value in _keyword_items(add_keyword).items():
        _insert(meta, key, value)
    if logging:
        _add_record(meta, text)


def write_residual_of(meta, clean_meta, *, frame=None, whole=False):
    """
    Write into the metadata of a residual what it is the residual of.

    Parameters
    ----------
    meta : `astropy.io.fits.Header` or dict
        Of the residual, a copy of the frame's own; changed in place, unless
        ``astrodenoise.conf.auto_logging`` is `False`.
    clean_meta : `astropy.io.fits.Header`, dict or `None`
        Of the denoised frame.
    frame : str, optional
        What the pixels of the frame are known by.
    whole : bool, optional
        The residual is what full strength removes, whatever was taken.
    """
    if not _auto_logging():
        return
    record = read_provenance(clean_meta)
    if record and whole:
        record = Controls().told(record)
    if record and frame is not None:
        record['frame'] = frame
    denoiser = _summary(record) if record else 'an unknown denoiser: it left no record'
    if isinstance(meta, fits.Header):
        meta.add_history('residual: the frame minus its denoised version')
        meta.add_history(f'of {denoiser}')
        if record:
            _add_history(meta, 'residual', _encode(record))
    else:
        meta[RESIDUAL] = f'of {denoiser}'
        if record:
            meta[RESIDUAL_RECORD] = _encode(record)


def read_residual_of(meta):
    """
    Read from the metadata of a residual how its frame was denoised.

    Parameters
    ----------
    meta : `astropy.io.fits.Header`, dict or `None`
        Of the residual.

    Returns
    -------
    record : dict
        As `read_provenance` gives it of the denoised frame, its strength that of the residual, and
        ``frame``, what the frame's pixels are known by; empty where there is none.
    """
    if isinstance(meta, fits.Header):
        texts = _join(meta.get('HISTORY', []), 'residual')
    else:
        texts = [meta[RESIDUAL_RECORD]] if meta and RESIDUAL_RECORD in meta else []
    return _decode(texts[-1]) if texts else {}


def check_keyword(add_keyword, meta=None):
    """
    Check an ``add_keyword`` argument before the work is done.

    Parameters
    ----------
    add_keyword : object
        As for `write_record`.
    meta : `astropy.io.fits.Header` or dict, optional
        What it will be written to.

    Raises
    ------
    TypeError
        If it is of a wrong type.
    ValueError
        If a keyword cannot stand in a FITS header.
    """
    items = _keyword_items(add_keyword)
    if not isinstance(meta, fits.Header):
        return
    for key, value in items.items():
        if not isinstance(key, str):
            msg = f'add_keyword has the keyword {key!r}; expected a string for a FITS header.'
            raise TypeError(msg)
        try:
            _insert(fits.Header(), key, value)
            fault = f'it is longer than {KEY_WIDTH}' if len(key) > KEY_WIDTH else ''
        except ValueError as error:
            fault = error
        if fault:
            msg = f'add_keyword has the keyword {key!r}, which no FITS header can have: {fault}'
            raise ValueError(msg)


def read_provenance(header, *, every=False):
    """
    Read what `~astrodenoise.denoise` wrote into a header.

    Parameters
    ----------
    header : `astropy.io.fits.Header`, dict, or an object with ``meta``
        A header or a frame.
    every : bool, optional
        Give the records of all runs, first to last.

    Returns
    -------
    record : dict, or list of dict
        The record of the last run, empty if there is none.  With ``every``, a list.  A record of
        which lines are missing is left out.

    Raises
    ------
    TypeError
        If ``header`` has no metadata.
    """
    records = [_decode(text) for text in _texts(_meta_of(header))]
    if every:
        return records
    return records[-1] if records else {}


def is_denoised(header):
    """
    Say whether a frame was denoised before.

    Parameters
    ----------
    header : `astropy.io.fits.Header`, dict, or an object with ``meta``
        A header or a frame.

    Returns
    -------
    denoised : bool
        Whether ``DENOISED`` is true there.

    Raises
    ------
    TypeError
        If ``header`` has no metadata.
    """
    try:
        value = _meta_of(header).get(FLAG)
    except fits.VerifyError:  # a broken card
        return False
    return isinstance(value, bool | np.bool_) and bool(value)


def _auto_logging():
    """Whether keywords are written unasked."""
    from astrodenoise import conf  # here, so that this module needs no configuration

    return conf.auto_logging


def _meta_of(header):
    """Find the metadata of what was given; nothing where there can be none."""
    meta = getattr(header, 'meta', header)
    if meta is None:
        return {}
    if not isinstance(meta, Mapping):
        msg = (
            f'header is a {type(header).__name__}; expected a FITS header, a dict or a frame with '
            'meta.'
        )
        raise TypeError(msg)
    return meta


def _keyword_items(add_keyword):
    """Keywords and values that the user asked for."""
    if not add_keyword or add_keyword is True:
        return {}
    if isinstance(add_keyword, str):
        return {add_keyword: None}
    if hasattr(add_keyword, 'name') and hasattr(add_keyword, 'value'):  # ccdproc.Keyword
        return {add_keyword.name: add_keyword.value}
    if hasattr(add_keyword, 'items'):
        return dict(add_keyword.items())
    msg = (
        f'add_keyword is a {type(add_keyword).__name__}; expected a bool, None, a string, a '
        'ccdproc.Keyword or a dict.'
    )
    raise TypeError(msg)


def _insert(meta, key, value):
    """Set a keyword; in a header the value is made such that FITS can hold it."""
    if not isinstance(meta, fits.Header):
        meta[key] = value
        return
    comment = ''
    if isinstance(value, u.Quantity) and value.isscalar:
        value, comment = value.value, f'[{value.unit}]'  # where FITS has its units
    if isinstance(value, np.generic):
        value = value.item()
    number = isinstance(value, bool | int | float) and np.isfinite(value)
    if not number and value is not None:
        value = str(value)
        if not PRINTABLE.fullmatch(value):
            value = value.encode('unicode_escape').decode()
    if not STANDARD_KEY.fullmatch(key.upper()):
        key = f'HIERARCH {key}'  # what Astropy makes of it, but with a warning
    # a comment that would have to be cut is none
    meta[key] = (value, comment) if comment and len(key + comment) < KEY_WIDTH else value


def _summary(record):
    """Tell the most important things in one card."""
    widths = {'version': 10, 'weights': 12, 'overlap': 6, 'tile': 4}
    words = {key: _word(record.get(key, '?'))[:width] for key, width in widths.items()}
    head = f'{NAME} {words["version"]} '
    tail = f' {words["weights"]} overlap={words["overlap"]} tile={words["tile"]}'
    return head + _word(record.get('model', '?'))[:VALUE_WIDTH - len(head + tail)] + tail


def _word(value):
    """Make anything one word that FITS can hold."""
    return re.sub(r'[^\w.:/+?-]+', '_', str(value), flags=re.ASCII)


def _encode(record):
    """Write a record as one line of text."""
    items = []
    for key, value in record.items():
        if not (isinstance(key, str) and ITEM_KEY.fullmatch(f'{key}=')):
            msg = f'The record has the key {key!r}; expected a word of a-z, 0-9 and _.'
            raise ValueError(msg)
        items.append(f'{key}={_value_text(value)}')
    return ' '.join(items)


def _value_text(value):
    """Write a value as JSON in printable ASCII, without two spaces in a row."""
    if isinstance(value, str) and BARE.fullmatch(value) and not _is_json(value):
        return value
    text = json.dumps(value, separators=(',', ':'), default=_plain)
    # a quote and a slash in a row are misread by Astropy
    text = text.replace("'", r'\u0027')
    # of spaces only single ones survive the end of a line
    return re.sub(r'(?<= ) ', r'\\u0020', text)


def _plain(value):
    """Convert numpy's numbers and arrays for JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    msg = f'The record holds a {type(value).__name__}; expected None, bool, number, str or a list.'
    raise TypeError(msg)


def _is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _decode(text):
    """Read a record from its line of text; what follows an item that cannot be read is left out."""
    decoder = json.JSONDecoder()
    record, at = {}, 0
    while match := ITEM_KEY.match(text, at):
        at = match.end()
        bare = BARE.match(text, at)
        word = bare.group() if bare else ''
        if word and not _is_json(word):
            record[match.group(1)], at = word, bare.end()
            continue
        try:
            record[match.group(1)], at = decoder.raw_decode(text, at)
        except ValueError:
            break
    return record


def _add_record(meta, text):
    """Set the flag and append a record to those that are there."""
    if not isinstance(meta, fits.Header):
        meta[FLAG] = True
        meta[f'DENOIS{len(_texts(meta)) + 1:02d}'] = text
        return
    meta[FLAG] = (True, f'noise removed by {NAME}')
    _add_history(meta, NAME, text)
    cards = [card for card in DETECTOR_CARDS if card in meta]
    note = f'true of the frame before denoising only: {", ".join(cards)}'
    if cards and note not in meta['HISTORY']:
        meta.add_history(note)


def _add_history(meta, name, text):
    """Write a long text as numbered lines of HISTORY."""
    lines = _split(text)
    for i, (mark, line) in enumerate(lines, start=1):
        meta.add_history(f'{name} {i}/{len(lines)}{mark}{line}')


def _split(text):
    """Split a text into lines; each has a mark that says how it joins the one before."""
    width = LINE_WIDTH - len(f'{NAME} 999/999 ')
    lines, mark = [], ' '
    while len(text) > width:
        cut = text.rfind(' ', 1, width + 1)
        if cut > 0:
            lines.append((mark, text[:cut]))
            text, mark = text[cut + 1:], ' '
        else:
            cut = text.rfind(',', 1, width) + 1 or width  # within a list or a long word
            lines.append((mark, text[:cut]))
            text, mark = text[cut:], '+'
    return [*lines, (mark, text)]


def _texts(meta):
    """Find the texts of all records, first to last."""
    numbered = [key for key in meta if isinstance(key, str) and RECORD_KEY.fullmatch(key)]
    texts = [str(meta[key]) for key in numbered]
    if isinstance(meta, fits.Header) and 'HISTORY' in meta:
        texts += _join(meta['HISTORY'], NAME)
    return texts


def _join(lines, name):
    """Join lines of HISTORY to texts; records of which lines are missing are left out."""
    texts, parts, expected = [], [], None
    for match in filter(None, map(LINES[name].fullmatch, map(str, lines))):
        number, total = int(match[1]), int(match[2])
        if number == 1:
            parts = []
        elif (number, total) != expected:
            continue
        parts.append((' ' if number > 1 and match[3] == ' ' else '') + (match[4] or ''))
        expected = number + 1, total
        if number == total:
            texts.append(''.join(parts))
    return texts
