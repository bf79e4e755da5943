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
from astrodenoise.weightscard import MAX_PARAMETERS, check_card, read_card

__all__ = ['Weights', 'describe', 'list_models', 'load_weights', 'save_weights']

FOLDER = Path(__file__).parent / 'weights_data'
CARD_KEYS = {'name', 'version', 'architecture', 'sha256', 'licence', 'training', 'metrics'}
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
        card = read_card(path)
    except (OSError, ValueError, RecursionError) as error:
        msg = f'the card {path} of model {str(name)!r} cannot be read: {error}'
        raise WeightsError(msg) from error
    missing = sorted(CARD_KEYS - set(card)) if isinstance(card, dict) else sorted(CARD_KEYS)
    if missing:
        msg = f'the card {path} lacks {missing}: get the model again from where it came'
        raise WeightsError(msg)
    try:
        check_card(card)
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
    check_card(whole)
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
