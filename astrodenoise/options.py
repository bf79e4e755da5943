# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The arguments of ``denoise()`` that do not depend on the frame."""

import numbers
from dataclasses import dataclass, replace

import numpy as np

from astrodenoise.controls import Controls
from astrodenoise.tiling import fitting_tile

__all__ = ['Options', 'check_choice', 'check_controls', 'check_number']


@dataclass(frozen=True)
class Options:
    """
    The arguments of `astrodenoise.denoise` that do not depend on the frame, under their names.

    Attributes
    ----------
    overlap, strength, limit : float
        Numbers of `astrodenoise.denoise`.
    model, channels, uncertainty, blend, device, precision : str
        Its choices.
    tile_size, batch_size : int, 'auto' or None
        Its sizes.
    progress_bar : callable
        Its wrapper.
    strength_chroma, strength_coarse, keep_grain : float or None
        Its shares of parts of the noise.
    """

    overlap: float = 0.25
    model: str = 'default'
    strength: float = 1.0
    limit: float | None = 6.0
    channels: str | None = None
    uncertainty: str | None = 'keep'
    tile_size: int | str = 'auto'
    blend: str = 'gaussian'
    batch_size: int | None = None
    device: str = 'auto'
    precision: str = 'auto'
    progress_bar: object = None
    strength_chroma: float | None = None
    strength_coarse: float | None = None
    keep_grain: float = 0.0

    @property
    def controls(self):
        """What is taken of the noise (`astrodenoise.controls.Controls`)."""
        return Controls(
            self.strength, self.strength_chroma, self.strength_coarse, self.keep_grain
        )

    def check(self):
        """
        Raise for everything that can be wrong before a frame is looked at.

        Raises
        ------
        TypeError
            If an argument is of a wrong type.
        ValueError
            If a value is none of those that there are, or out of its range.
        """
        check_choice('uncertainty', self.uncertainty, ('keep', 'predict', None))
        check_choice('channels', self.channels, (None, 'separate', 'joint'))
        check_choice('blend', self.blend, ('gaussian', 'none'))
        check_controls(self.controls)
        check_number('overlap', self.overlap, 0, 0.75)
        if self.blend == 'none' and self.overlap != 0:
            msg = f"blend='none' is tiling without overlap: pass overlap=0, got {self.overlap}"
            raise ValueError(msg)
        if self.limit is not None:
            check_number('limit', self.limit, 0.1, np.inf)
        for name, value, low, high in (
            ('tile_size', self.tile_size, 64, 2048),
            ('batch_size', self.batch_size, 1, 4096),
        ):
            if (name, value) in (('batch_size', None), ('tile_size', 'auto')):
                continue
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                usual = " or 'auto'" if name == 'tile_size' else ''
                msg = f'{name} must be a whole number{usual}, got {value!r}'
                raise TypeError(msg)
            if not low <= value <= high:
                msg = f'{name} must be {low} to {high}, got {value}'
                raise ValueError(msg)
        if self.progress_bar is not None and not callable(self.progress_bar):
            msg = f'progress_bar must wrap an iterable, like tqdm.tqdm; got {self.progress_bar!r}'
            raise TypeError(msg)
        if self.uncertainty == 'predict' and not self.controls.plain:
            msg = (
                "uncertainty='predict' is known for one strength of all noise: leave out "
                'strength_chroma, strength_coarse and keep_grain'
            )
            raise ValueError(msg)

    def for_frame(self, shape):
        """
        Choose what is to be chosen by the frame.

        Parameters
        ----------
        shape : tuple of int
            Its planes, height and width.

        Returns
        -------
        options : `Options`
            With the size of tiles, and their overlap as a share of it.
        """
        if self.tile_size != 'auto':
            return self
        tile_size, overlap = fitting_tile(shape[1:], self.overlap)
        return replace(self, tile_size=tile_size, overlap=overlap)


def check_controls(controls):
    """
    Raise unless all shares are numbers from 0 to 1.

    Parameters
    ----------
    controls : `astrodenoise.controls.Controls`
        The shares.

    Raises
    ------
    TypeError, ValueError
        If one of them is not.
    """
    for name, value in vars(controls).items():
        if value is not None or name in ('strength', 'keep_grain'):
            check_number(name, value, 0, 1)


def check_choice(name, value, choices):
    """
    Raise unless a value is one of several.

    Parameters
    ----------
    name : str
        What it is, for the message.
    value : object
        What was given.
    choices : tuple
        Strings, and None where it may be that.

    Raises
    ------
    ValueError
        If it is another.
    """
    if not (value is None or isinstance(value, str)) or value not in choices:
        msg = f'{name} must be one of {choices}, got {value!r}'
        raise ValueError(msg)


def check_number(name, value, low, high):
    """
    Raise unless a value is a number within bounds.

    Parameters
    ----------
    name : str
        What it is, for the message.
    value : object
        What was given.
    low, high : float
        Bounds, themselves allowed.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is out of bounds.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        msg = f'{name} must be a number, got {value!r}'
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f'{name} must be from {low} to {high}, got {value}'
        raise ValueError(msg)
