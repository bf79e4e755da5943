# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The card beside a weights file: JSON that is read and checked entry by entry."""

import json
import math
from collections import Counter

__all__ = ['MAX_PARAMETERS', 'check_card', 'read_card']

KINDS = {  # of the entries that are looked at
    'name': str, 'version': str, 'licence': str, 'sha256': str, 'made': str,
    'architecture': dict, 'training': dict, 'metrics': dict, 'versions': dict,
    'calibration': dict, 'trained_range': dict, 'parameters': int, 'bytes': int,
}  # fmt: skip
OPTIONAL = ('calibration', 'trained_range')  # may be null
SIZES = {'planes': (1, 64), 'features': (1, 64), 'condition': (0, 64)}
LISTS = {'widths': (1, 4096), 'blocks': (1, 64)}
MAX_LEVELS = 7  # a stride of 64 px, the smallest tile
MAX_PARAMETERS = 10**8  # thirty times the largest that is shipped
MAX_CARD, MAX_DEPTH = 2**20, 16  # bytes; entries inside entries


def read_card(path):
    """
    Read JSON that says everything once, in numbers that are finite.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.

    Returns
    -------
    card : object
        Of any type of JSON: `check_card` looks at what it says.

    Raises
    ------
    OSError, ValueError, RecursionError
        If it cannot be read, is too large or is no such JSON.
    """

    def once(pairs):
        counts = Counter(key for key, _ in pairs)
        if twice := sorted(key for key, n in counts.items() if n > 1):
            msg = f'{twice} stand in it twice'
            raise ValueError(msg)
        return dict(pairs)

    def refuse(word):
        msg = f'{word} is no number of JSON'
        raise ValueError(msg)

    if not path.is_file():
        msg = 'there is no such file'
        raise ValueError(msg)
    with path.open('rb') as file:
        content = file.read(MAX_CARD + 1)
    if len(content) > MAX_CARD:
        msg = f'it has more than {MAX_CARD} bytes'
        raise ValueError(msg)
    return json.loads(content.decode('utf-8'), object_pairs_hook=once, parse_constant=refuse)


def check_card(card):
    """
    Look at the types and ranges of what a card says.

    Parameters
    ----------
    card : dict
        With all the entries that it must have.

    Raises
    ------
    ValueError
        If an entry cannot be, which is named; before any memory is taken for its network.
    """
    _check_values('', card, 0)
    for key, kind in KINDS.items():
        if key not in card or (key in OPTIONAL and card[key] is None):
            continue
        if not isinstance(card[key], kind) or isinstance(card[key], bool):
            _refuse(key, card[key], {str: 'a text', dict: 'a table', int: 'a whole number'}[kind])
    if not card['name'] or len(card['name']) > 200:
        _refuse('name', card['name'], 'a text of 1 to 200 characters')
    if len(card['sha256']) != 64 or set(card['sha256']) - set('0123456789abcdef'):
        _refuse('sha256', card['sha256'], '64 hexadecimal digits in lower case')
    _check_architecture(card['architecture'])


def _check_values(where, value, depth):
    """Refuse what JSON can hold and a card cannot: 1e999, controls of a terminal, an abyss."""
    if depth > MAX_DEPTH:
        _refuse(where, '...', f'no deeper than {MAX_DEPTH} entries inside entries')
    if isinstance(value, dict):
        for key, one in value.items():
            _check_values(where, key, depth + 1)
            _check_values(f'{where}.{key}'.lstrip('.'), one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _check_values(where, one, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        _refuse(where, value, 'a finite number')
    elif isinstance(value, str) and not value.replace('\n', ' ').isprintable():
        _refuse(where, value, 'a text that can be printed')


def _check_architecture(sizes):
    """Refuse networks that cannot be, or that no memory holds, before any is taken."""
    if unknown := sorted(set(sizes) - {*SIZES, *LISTS}):
        msg = f'architecture has unknown entries {unknown}; known are {sorted({*SIZES, *LISTS})}'
        raise ValueError(msg)
    for key, (least, most) in SIZES.items():
        if key in sizes and not _whole(sizes[key], least, most):
            _refuse(f'architecture.{key}', sizes[key], f'a whole number of {least} to {most}')
    for key, (least, most) in LISTS.items():
        values = sizes.get(key)
        if (
            not isinstance(values, list)
            or not 2 <= len(values) <= MAX_LEVELS
            or not all(_whole(value, least, most) for value in values)
        ):
            asked = f'a list of 2 to {MAX_LEVELS} whole numbers of {least} to {most}'
            _refuse(f'architecture.{key}', values, asked)
    if len(sizes['widths']) != len(sizes['blocks']):
        _refuse('architecture.blocks', sizes['blocks'], 'as long as architecture.widths')
    # the two 3x3 convolutions of a block are most of a network; the decoder has as many
    pairs = zip(sizes['widths'], sizes['blocks'], strict=True)
    if (n := sum(18 * width**2 * blocks for width, blocks in pairs)) > MAX_PARAMETERS:
        msg = f'architecture has over {n} parameters; at most {MAX_PARAMETERS} are read'
        raise ValueError(msg)


def _whole(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _refuse(where, value, expected):
    text = repr(value)
    text = text if len(text) <= 80 else f'{text[:77]}...'
    msg = f'{where} is {text}, not {expected}'
    raise ValueError(msg)
