# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The settings of ``astrodenoise denoise``: given, taken from another frame's record, or usual."""

import argparse
import warnings

from astrodenoise.companions import extension, split_name
from astrodenoise.exceptions import AstrodenoiseWarning
from astrodenoise.files import read_records
from astrodenoise.weights import describe, list_models

__all__ = ['fill']

USUAL = {
    'model': 'default',
    'strength': 1.0,
    'strength_chroma': None,
    'strength_coarse': None,
    'keep_grain': 0.0,
    'limit': 6.0,
    'channels': None,
    'bayer': None,
    'overlap': 0.25,
    'tile_size': 'auto',
    'blend': 'gaussian',
    'precision': 'auto',
    'star_mask': None,
}
RECORDED = {name: name for name in USUAL} | {'tile_size': 'tile'}  # their names in a record
GIVEN = {'given', 'gain, read noise'}  # sources of a noise that only its user knows


def fill(args):
    """
    Fill in the settings that were not given, from ``args.like`` or with what is usual.

    Parameters
    ----------
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``; those that were not given are None and are set.

    Raises
    ------
    argparse.ArgumentError
        If the file of ``args.like`` cannot be read or has no record, or its model is not here.
    """
    found = {} if args.like is None else _recorded(args)
    for name, usual in USUAL.items():
        if getattr(args, name) is None:
            setattr(args, name, found.get(name, usual))


def _recorded(args):
    """Settings of the record in the header of another file."""
    record = _read_record(args.like)
    found = {name: record[key] for name, key in RECORDED.items() if key in record}
    if args.model is None:
        _check_model(record, args.like)
    mask = found.pop('star_mask', None)
    if mask is True:
        found['star_mask'] = True
    elif mask and args.star_mask is None:
        _warn('its stars were protected by a mask that was given: give it with --star-mask FILE')
    sources = {plane.get('noise') for plane in record.get('planes', [])}
    given = (args.noise, args.gain, args.err, args.var, args.weight)
    if sources & GIVEN and all(option is None for option in given):
        _warn('its noise was given: give it here, too, or it is measured')
    return found


def _read_record(name):
    path, ext = split_name(name)
    try:
        found = read_records(path)
    except OSError as error:
        reason = str(error).removeprefix(f'{path}: ')
        msg = f'--like {name}: {reason}'
        raise argparse.ArgumentError(None, msg) from error
    records = [record for i, (key, record) in enumerate(found) if _is_named(ext, i, key)]
    if not records:
        msg = f'--like {name}: has no extension {ext}'
        raise argparse.ArgumentError(None, msg)
    records = [record for record in records if record]
    if not records:
        msg = f'--like {name}: no header of it has a record of astrodenoise; was it denoised?'
        raise argparse.ArgumentError(None, msg)
    return records[0]


def _is_named(ext, number, key):
    """Whether an image is the one that was named, if one was."""
    wanted = None if ext is None else extension(ext)
    if isinstance(wanted, str):
        return wanted.upper() == key[0].upper()
    return wanted in (None, number) or wanted == (key[0].upper(), key[1])


def _check_model(record, like):
    """Refuse a model that is not here, and say where its weights are others."""
    model = record.get('model')
    if model not in list_models():
        msg = f'--like {like}: was made with the weights file {model}; give it with --model'
        raise argparse.ArgumentError(None, msg)
    here, there = describe(model)['sha256'][:12], record.get('weights')
    if here != there:
        _warn(f'it was made with other weights of model {model}: {there}, not {here}')


def _warn(message):
    warnings.warn(message, AstrodenoiseWarning, stacklevel=4)
