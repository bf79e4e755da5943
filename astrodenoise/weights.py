# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Named weights: find, verify, describe.

Weights are data: safetensors with a JSON card beside them, never a pickle.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astrodenoise.errormap import CLASSES
from astrodenoise.exceptions import WeightsError

__all__ = ['Weights', 'describe', 'list_models', 'load_weights', 'save_weights']

FOLDER = Path(__file__).parent / 'weights_data'
CARD_KEYS = {'name', 'version', 'architecture', 'sha256', 'licence', 'training', 'metrics'}
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
PICKLES = ('.pt', '.pth', '.ckpt', '.pkl', '.pickle', '.bin')
DTYPES = ('float16', 'bfloat16', 'float32', 'float64')


@dataclass(frozen=True)
class Weights:
    """
    Verified weights.

    Attributes
    ----------
    name, version : str
        As its card says; a file's own name where that claims to be a shipped model and is not.
    config : `astrodenoise.model.ModelConfig`
        The network's shape.
    tensors : dict
        Name to `torch.Tensor`, float32.
    sha256 : str
        Of the file.
    calibration : dict or None
        Table for `astrodenoise.errormap.calibrate`.
    trained_range : dict or None
        What frames were trained on, see `astrodenoise.trainedrange`.
    """

    name: str
    version: str
    config: object
    tensors: dict
    sha256: str
    calibration: dict | None = None
    trained_range: dict | None = None


def list_models():
    """
    List the shipped models.

    Returns
    -------
    names : list of str
        What ``model=`` takes, beside 'default' and a file's path.
    """
    return sorted(path.stem for path in FOLDER.glob('*.json'))


def describe(name):
    """
    Give the card of a model.

    Parameters
    ----------
    name : str
        A shipped model's name, or the path of a safetensors file with its card beside it.

    Returns
    -------
    card : dict
        Architecture, training, data sources and licences, metrics, SHA-256.

    Raises
    ------
    WeightsError
        If there is no such model, or its card is damaged.
    """
    path = _card_path(name)
    _refuse_link(path)
    try:
        card = _read_card(path)
    except (OSError, ValueError, RecursionError) as error:
        msg = f'the card {path} of model {str(name)!r} cannot be read: {error}'
        raise WeightsError(msg) from error
    missing = sorted(CARD_KEYS - set(card)) if isinstance(card, dict) else sorted(CARD_KEYS)
    if missing:
        msg = f'the card {path} lacks {missing}: get the model again from where it came'
        raise WeightsError(msg)
    try:
        _check_card(card)
    except ValueError as error:
        msg = f'the card {path} of model {str(name)!r} is damaged: {error}'
        raise WeightsError(msg) from error
    return card


def _card_path(name):
    """Find the card of a shipped model or of a user's file."""
    suffix = Path(str(name)).suffix
    if suffix == '.safetensors':
        return Path(name).with_suffix('.json')
    if suffix in PICKLES:
        msg = (
            f'the model {str(name)!r} is a pickle, which runs code when it is read, and is never '
            'read here: give a .safetensors file with its card'
        )
        raise WeightsError(msg)
    path = FOLDER / f'{name}.json'
    if path.parent != FOLDER or not path.is_file():
        msg = (
            f'there is no model {str(name)!r}: shipped are {list_models()}; a file of your own is '
            'given by its path, which ends in .safetensors'
        )
        raise WeightsError(msg)
    return path


def _refuse_link(path):
    """Read a user's own file itself; some installers make the shipped ones links."""
    if path.parent != FOLDER and path.is_symlink():
        msg = f'{path} is a symbolic link, which can lead anywhere: give the file that it leads to'
        raise WeightsError(msg)


def _read_card(path):
    """Read JSON that says everything once, in numbers that are finite."""

    def once(pairs):
        keys = [key for key, _ in pairs]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
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


def _check_card(card):
    """Raise a ValueError that names the entry which cannot be."""
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


def load_weights(name):
    """
    Read and verify weights.

    Parameters
    ----------
    name : str or path-like
        A shipped model's name or the path of a safetensors file.

    Returns
    -------
    weights : `Weights`
        Tensors in float32 that fit the network of their card.

    Raises
    ------
    WeightsError
        If the file is missing or damaged, its SHA-256 is not that of its card, or its tensors do
        not fit the network or are not finite.
    """
    card = describe(name)
    path = _card_path(name).with_suffix('.safetensors')
    _refuse_link(path)
    if not path.is_file():
        msg = (
            f'the weights {path} of model {str(name)!r} are missing: install astrodenoise again, '
            'or give the path of the right file'
        )
        raise WeightsError(msg)
    if path.stat().st_size > 8 * MAX_PARAMETERS:
        msg = f'{path} has {path.stat().st_size} bytes; at most {8 * MAX_PARAMETERS} are read'
        raise WeightsError(msg)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != card['sha256']:
        msg = (
            f'{path} is not the file that its card describes (SHA-256 {sha256[:12]}, expected '
            f'{card["sha256"][:12]}): it was changed or damaged; get it again'
        )
        raise WeightsError(msg)
    config, tensors = _verified(path, card, content)
    return Weights(
        _name_of(path, card), card['version'], config, tensors, sha256,
        _calibration(path, card), _trained_range(path, card),
    )  # fmt: skip


def _name_of(path, card):
    """Name in its card, but for a file that bears a shipped model's and is another."""
    name = card['name']
    claims = path.parent != FOLDER and name in list_models()
    return path.name if claims and describe(name)['sha256'] != card['sha256'] else name


def _trained_range(path, card):
    """Pairs of bounds, checked; None where the card has none."""
    ranges = card.get('trained_range')
    if ranges is None:
        return None
    try:
        return {str(key): _bounds(*pair) for key, pair in ranges.items()}
    except (AttributeError, TypeError, ValueError) as error:
        msg = f'{path}: the trained range in its card is damaged: {error!r}'
        raise WeightsError(msg) from error


def _bounds(low, high):
    return tuple(None if value is None else float(value) for value in (low, high))


def _calibration(path, card):
    """Table of the predicted errors, checked; None where the card has none."""
    table = card.get('calibration')
    if table is None:
        return None
    try:
        at, factor = table['log_s'], table['factor']
        sound = sorted(factor) == sorted(CLASSES) and np.all(np.diff(at) > 0)
        sound = sound and all(
            len(row) == len(at) and np.all(np.isfinite(row)) and min(row) > 0
            for row in factor.values()
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f'{path}: the calibration in its card is damaged: {error!r}'
        raise WeightsError(msg) from error
    if not sound:
        msg = (
            f'{path}: the calibration in its card needs one positive factor per bin of log_s for '
            f'each of {list(CLASSES)}'
        )
        raise WeightsError(msg)
    return {'log_s': at, 'factor': factor}


def _verified(path, card, content):
    """Tensors of a file, checked against the network that its card names."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from astrodenoise.model import ModelConfig, ResUNet

    try:
        tensors = load(content)
        config = ModelConfig(**card['architecture'])
    except (SafetensorError, TypeError, ValueError) as error:
        msg = f'{path} or its card is damaged: {error}'
        raise WeightsError(msg) from error
    with torch.device('meta'):
        expected = {k: tuple(v.shape) for k, v in ResUNet(config).state_dict().items()}
    found = {k: tuple(v.shape) for k, v in tensors.items()}
    if found != expected:
        wrong = sorted(set(expected.items()) ^ set(found.items()))[:4]
        msg = f'{path} does not fit the network of its card, for example {wrong}'
        raise WeightsError(msg)
    for key, value in tensors.items():
        if str(value.dtype).removeprefix('torch.') not in DTYPES:
            msg = f'{path}: tensor {key} is {value.dtype}; weights are one of {list(DTYPES)}'
            raise WeightsError(msg)
        if not bool(torch.isfinite(value.float()).all()):
            msg = f'{path}: tensor {key} has values that are no finite numbers'
            raise WeightsError(msg)
    return config, {key: value.float() for key, value in tensors.items()}


def save_weights(path, tensors, config, card):
    """
    Write weights and their card, each first under another name.

    Parameters
    ----------
    path : path-like
        Ends in .safetensors; the card goes beside it.
    tensors : dict
        Name to `torch.Tensor`.
    config : `astrodenoise.model.ModelConfig`
        The network's shape.
    card : dict
        What is to be known of the weights; architecture, size and SHA-256 are filled in.

    Returns
    -------
    card : dict
        The whole card.

    Raises
    ------
    ValueError
        If the card lacks what every card says, or has entries that no card may have.
    """
    from safetensors.torch import save

    path = Path(path)
    content = save({key: value.contiguous() for key, value in tensors.items()})
    numbers = [np.prod(value.shape, dtype=int) for value in tensors.values()]
    whole = {
        **_plain(card),
        'architecture': config.to_dict(),
        'parameters': int(sum(numbers)),
        'bytes': len(content),
        'sha256': hashlib.sha256(content).hexdigest(),
    }
    missing = sorted(CARD_KEYS - set(whole))
    if missing:
        msg = f'a card says {sorted(CARD_KEYS)}; this one lacks {missing}'
        raise ValueError(msg)
    _check_card(whole)
    text = json.dumps(whole, indent=2, sort_keys=True, allow_nan=False) + '\n'
    for target, data in ((path, content), (path.with_suffix('.json'), text.encode())):
        temporary = target.with_name(f'.{target.name}.new')
        temporary.write_bytes(data)
        os.replace(temporary, target)
    return whole


def _plain(value):
    """Write what could not be measured as null: JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
