# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Types of arguments of the command line."""

import argparse
import math
import re
import sys

__all__ = [
    'bayer_pattern',
    'check_model',
    'check_parent',
    'count',
    'duration',
    'noise_level',
    'number',
    'positive',
    'unit',
]

_SECONDS = {'': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86400}


def number(low, high, what):
    """
    Make a type for argparse: a number of a range.

    Parameters
    ----------
    low, high : float
        The range.
    what : str
        What it has to be, for the message.

    Returns
    -------
    convert : callable
        Text to float.
    """

    def convert(text):
        value = float(text)
        if not low <= value <= high or not math.isfinite(value):
            msg = f'{what}, got {text}'
            raise argparse.ArgumentTypeError(msg)
        return value

    convert.__name__ = 'number'  # argparse names it where the text is no number
    return convert


positive = number(sys.float_info.min, math.inf, 'must be positive')


def noise_level(text):
    """
    Read a sigma.

    Parameters
    ----------
    text : str
        A positive number, or ``measure``.

    Returns
    -------
    noise : float or str
        As `astrodenoise.denoise` takes it.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is neither.
    """
    return text if text == 'measure' else positive(text)


noise_level.__name__ = 'number'  # argparse names it where the text is no number


def bayer_pattern(text):
    """
    Read the pattern of a colour mosaic.

    Parameters
    ----------
    text : str
        ``RGGB`` and its like, ``header`` or ``none``, in letters of any size.

    Returns
    -------
    bayer : str or bool
        As `astrodenoise.denoise` takes it.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none of these.
    """
    words = {'HEADER': True, 'NONE': False}
    word = text.upper()
    if word not in words and word not in ('RGGB', 'BGGR', 'GRBG', 'GBRG'):
        msg = f"must be RGGB, BGGR, GRBG, GBRG, 'header' or 'none', got {text}"
        raise argparse.ArgumentTypeError(msg)
    return words.get(word, word)


def count(text):
    """
    Read a whole number from 1 on.

    Parameters
    ----------
    text : str
        The number.

    Returns
    -------
    value : int
        The number.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is below 1.
    """
    value = int(text)
    if value < 1:
        msg = f'must be at least 1, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return value


count.__name__ = 'number'  # argparse names it where the text is no number


def duration(text):
    """
    Read a time as seconds.

    Parameters
    ----------
    text : str
        ``90``, ``90s``, ``9m``, ``2h``, ``1h30m``.

    Returns
    -------
    seconds : float
        The time.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no such time.
    """
    parts = re.findall(r'(\d+(?:\.\d+)?)([smhd]?)', text)
    if not parts or ''.join(number + letter for number, letter in parts) != text:
        msg = f'must be a time such as 90s, 9m or 1h30m, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return sum(float(number) * _SECONDS[letter] for number, letter in parts)


def unit(text):
    """
    Read a unit.

    Parameters
    ----------
    text : str
        As Astropy writes it.

    Returns
    -------
    unit : `~astropy.units.UnitBase`
        The unit.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.
    """
    from astropy import units as u

    try:
        return u.Unit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(' '.join(str(error).split())) from error


def check_parent(option, path):
    """
    Refuse a name in a folder that is not there.

    Parameters
    ----------
    option : str
        What the user gave the name to.
    path : `~pathlib.Path`
        The file or folder to be made.

    Raises
    ------
    argparse.ArgumentError
        If there is no such folder.
    """
    if not path.absolute().parent.is_dir():
        msg = f'{option} {path}: there is no folder {path.parent}; make it first'
        raise argparse.ArgumentError(None, msg)


def check_model(name):
    """
    Refuse a model that is not there.

    Parameters
    ----------
    name : str or None
        A model or a weights file; None where none was given.

    Raises
    ------
    argparse.ArgumentError
        If there is no such model, or its card cannot be read.
    """
    if name in (None, 'default'):  # it is two
        return
    from astrodenoise.weights import describe

    try:
        describe(name)
    except ValueError as error:
        raise argparse.ArgumentError(None, ' '.join(str(error).split())) from error
