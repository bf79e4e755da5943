# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is checked, measured and loaded before any noise is removed."""

import threading
import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from astropy.nddata import NDData

from astrodenoise._version import __version__
from astrodenoise.exceptions import (
    AlreadyDenoisedWarning,
    NoNoiseWarning,
    UnlikeTrainingWarning,
)
from astrodenoise.options import Options, check_number
from astrodenoise.protection import check_star_mask
from astrodenoise.provenance import is_denoised
from astrodenoise.removal import normalise
from astrodenoise.sections import MARGIN, widened
from astrodenoise.survey import survey_frame
from astrodenoise.trainedrange import outside

__all__ = ['Start', 'middles', 'model_of', 'saturation_level', 'start_of']

MIDDLE = 1024  # px, side of the piece of a frame in which its stars are looked at
# of single planes, of three together
MODELS = {'default': ('mono', 'colour'), 'fast': ('fast', 'fast_colour')}


@dataclass(frozen=True, eq=False)
class Start:
    """
    All that is needed to denoise a frame or parts of it.

    Attributes
    ----------
    settings : `astrodenoise.options.Options`
        What was asked for, for this frame.
    known : list of `astrodenoise.known.Known`
        Of each plane.
    engine : `astrodenoise.engine.Engine`
        The network.
    find_stars : bool
        Whether stars are looked for that keep their pixels.
    """

    settings: Options
    known: list
    engine: object
    find_stars: bool

    def record(self, frame, limited):
        """
        Tell what was done, for the metadata.

        Parameters
        ----------
        frame : `astrodenoise.frames.Frame`
            The frame.
        limited : list of int or None
            Pixels of each plane that were held back; None where that is not known.

        Returns
        -------
        record : dict
            What `astrodenoise.provenance.write_record` takes.
        """
        stars = 'given' if frame.stars is not None else self.find_stars or None
        record = _record(self.settings, self.engine, self.known, limited)
        return record | {'star_mask': stars}


def start_of(frame, settings, *, noise=None, star_mask=None, saturation=None, known=None):
    """
    Check what was asked for, measure a frame and load the network.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    settings : `astrodenoise.options.Options`
        What was asked for, checked.
    noise, star_mask, saturation : object, optional
        As in `astrodenoise.denoise`.
    known : list of `astrodenoise.known.Known`, optional
        What an earlier look at the frame has told; then ``noise`` and ``saturation`` have no say.

    Returns
    -------
    start : `Start`
        What `astrodenoise.core.denoise_frame` goes on with.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As `astrodenoise.denoise`.
    """
    settings = settings.for_frame(frame.shape)
    _check_planes(frame, settings)
    star_mask = check_star_mask(star_mask, frame)
    frame.stars = None if star_mask is True else star_mask
    _warn_if_denoised(frame)
    # torch takes a second to load: another core does so while this one measures
    threading.Thread(target=import_module, args=('torch',)).start()
    if known is None:
        known = survey_frame(frame, noise, saturation=saturation_level(saturation, frame))
    _check_noise(known)
    engine = _load_engine(settings)
    _warn_if_unlike(engine.weights, frame, known)
    return Start(settings, known, engine, star_mask is True)


def _check_planes(frame, settings):
    """Refuse what does not go with the planes that the frame has."""
    settings.controls.check(frame.shape[0], joint=settings.channels == 'joint')
    if settings.uncertainty == 'predict' and not isinstance(frame.original, NDData):
        msg = (
            "uncertainty='predict' needs a CCDData or NDData, a "
            f'{type(frame.original).__name__} has no place for it: wrap the frame, '
            'CCDData(frame, unit=...)'
        )
        raise ValueError(msg)


def saturation_level(saturation, frame):
    """
    Bring the saturation level to the unit of the data.

    Parameters
    ----------
    saturation : None, float or `~astropy.units.Quantity`
        As `astrodenoise.denoise` takes it.
    frame : `astrodenoise.frames.Frame`
        The frame.

    Returns
    -------
    level : float or None
        Without a unit.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If it is no number, or of another unit.
    """
    if saturation is None:
        return None
    saturation = frame.value_of(saturation, 'saturation')
    check_number('saturation', saturation, -np.inf, np.inf)
    return float(saturation)


def _warn_if_denoised(frame):
    """Denoising twice sees correlated, predicted noise: say so."""
    if frame.meta is not None and is_denoised(frame.meta):
        warnings.warn(
            'this frame was denoised before (its header says so); the noise that is left is not '
            'of the kind the network knows: denoise the original once',
            AlreadyDenoisedWarning,
            stacklevel=5,
        )


def _check_noise(known):
    """Refuse a plane without any noise, unless it is constant or its noise is given."""
    for one in known:
        if one.noise.sigma > 0:
            continue
        if not one.constant:
            msg = (
                'the frame varies, but no noise can be measured in it (it may be noiseless, '
                'coarsely quantised or full of holes): pass noise= (--noise) with the sigma of a '
                'pixel'
            )
            raise ValueError(msg)
        warnings.warn(
            'the frame is constant and comes back as it is', NoNoiseWarning, stacklevel=5
        )


def model_of(name, *, joint=False):
    """
    Give the model that a name stands for.

    Parameters
    ----------
    name : str
        A pair of ``MODELS``, a shipped model or a file.
    joint : bool, optional
        Whether three planes go together.

    Returns
    -------
    model : str
        What `astrodenoise.engine.load_engine` takes.
    """
    return MODELS.get(name, (name, name))[joint]


def _load_engine(settings):
    """Load the network and check that the tiles fit it."""
    from astrodenoise.engine import load_engine

    model = model_of(settings.model, joint=settings.channels == 'joint')
    engine = load_engine(model, settings.device, settings.precision)
    config = engine.weights.config
    if config.planes != 1 and settings.channels != 'joint':
        msg = (
            f"model {settings.model!r} takes {config.planes} planes together: pass channels='joint'"
            ', or use a mono model'
        )
        raise ValueError(msg)
    if settings.tile_size % config.stride:
        msg = (
            f'tile_size must be a multiple of {config.stride} for model {settings.model!r}, '
            f'got {settings.tile_size}'
        )
        raise ValueError(msg)
    return engine


def middles(frame, known):
    """
    Normalise the middle of each plane, where stars are looked at.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    known : list of `astrodenoise.known.Known`
        Of each plane.

    Returns
    -------
    planes : list of `astrodenoise.features.NormalisedPlane`
        Their middles of about 1024 px.
    """
    rows, cols = (
        widened(slice(max(n - MIDDLE, 0) // 2, min(n + MIDDLE, 2 * n) // 2), MARGIN, n)
        for n in frame.shape[1:]
    )
    window = frame.window(slice(None), rows, cols)
    return normalise(window, known, rows, cols, frame.shape[1:])[0]


def _warn_if_unlike(weights, frame, known):
    """Say in one warning what of the frame the weights were not trained on."""
    texts = outside(weights.trained_range, known, middles(frame, known))
    if texts:
        warnings.warn(
            f'the frame is unlike what model {weights.name!r} was trained on: {"; ".join(texts)}; '
            'look at the residual before you trust the result',
            UnlikeTrainingWarning,
            stacklevel=5,
        )


def _record(settings, engine, known, limited):
    """What was done, for the metadata."""
    import torch

    weights = engine.weights
    return settings.controls.told({
        'version': __version__,
        'torch': torch.__version__.split('+')[0],
        'model': weights.name,
        'model_version': weights.version,
        'weights': weights.sha256[:12],
        'overlap': float(settings.overlap),
        'tile': int(settings.tile_size),
        'blend': settings.blend,
        'strength': float(settings.strength),
        'limit': None if settings.limit is None else float(settings.limit),
        'channels': settings.channels or 'separate',
        'precision': engine.precision,
        'device': engine.device.split(':')[0],
        'planes': [
            {
                'sky': float(one.noise.sky),
                'sigma': float(one.noise.sigma),
                'noise': one.noise.source,
                'correlation': [round(float(rho), 3) for rho in one.noise.correlation],
                **one.counts,
                'limited': n_limited,
            }
            for one, n_limited in zip(known, limited or [None] * len(known), strict=True)
        ],
    })
