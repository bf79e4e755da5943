# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The whole way of a frame: open, measure, cut, predict, blend, close; or its first two steps."""

import logging
import threading
import warnings
from importlib import import_module

import numpy as np
from astropy.nddata import NDData

from astrodenoise._version import __version__
from astrodenoise.exceptions import (
    AlreadyDenoisedWarning,
    LimitedWarning,
    NoNoiseWarning,
    UnlikeTrainingWarning,
)
from astrodenoise.frames import is_lazy, open_frame
from astrodenoise.mosaic import MosaicFrame, as_mosaic, check_peaks
from astrodenoise.noisemodel import FrameNoise
from astrodenoise.options import Options, check_number
from astrodenoise.protection import check_star_mask
from astrodenoise.provenance import check_keyword, is_denoised
from astrodenoise.removal import normalise, remove_noise
from astrodenoise.sections import MARGIN, widened
from astrodenoise.survey import survey_frame
from astrodenoise.trainedrange import outside

__all__ = ['denoise', 'denoise_frame', 'measure_noise', 'model_of']

log = logging.getLogger(__name__)

MIDDLE = 1024  # px, side of the piece of a frame in which its stars are looked at
# of single planes, of three together
MODELS = {'default': ('mono', 'colour'), 'fast': ('fast', 'fast_colour')}
MANY_LIMITED = 1e-4  # share of the pixels above which the limit is worth a warning


def denoise(
    ccd,
    overlap=0.25,
    *,
    model='default',
    strength=1.0,
    limit=6.0,
    noise=None,
    star_mask=None,
    channels=None,
    bayer=None,
    saturation=None,
    uncertainty='keep',
    tile_size='auto',
    blend='gaussian',
    batch_size=None,
    device='auto',
    precision='auto',
    progress_bar=None,
    add_keyword=True,
):
    """
    Remove the noise of a deep-sky frame.

    The last pixel step of a reduction: on the final frame, after calibration, cosmic-ray
    rejection, registration and combination, before detection or display; never on frames that
    are still to be combined.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity`, \
            `numpy.ndarray` or `dask.array.Array`
        The frame, (H, W) or (N, H, W), any float or integer dtype and byte order.  Not changed.
        Dask arrays stay lazy: only statistics are computed at once.
    overlap : float, optional
        Share of a tile's side that neighbouring tiles have in common, 0 to 0.75 (paper section 3);
        with ``tile_size='auto'`` of 128 px.
    model : str, optional
        'default' ('colour' for three planes together, else 'mono'), 'fast' (a quarter of the work:
        'fast_colour', else 'fast'), the name of a shipped model, or the path of a safetensors file
        with its card.
    strength : float, optional
        Share of the noise that is removed, 0 to 1; 0 gives the frame back bit for bit.
    limit : float or None, optional
        The mean change over every box of 1 to 33 px stays within this many times the noise of that
        box's mean.  It bounds damage; it proves no faint source.  None: no limit.
    noise : None, 'measure', float, array, `~astropy.nddata.NDUncertainty`, tuple or FrameNoise, \
            optional
        Sigma of a pixel's noise.  None takes the frame's uncertainty, or measures where there is
        none.  A plane of sigma is smoothed over 5 px and its level checked against the frame.  A
        ``(gain, read_noise)`` tuple of Quantities holds for a single exposure with its sky in.
    star_mask : None, True, array or `~astropy.nddata.NDData`, optional
        Stars that keep their pixels, in the frame's shape or that of one plane: 0 is denoised, 1
        is kept as far as the star's own light outweighs the noise, half of it at 5 sigma, so that
        no disc is left.  True makes the mask as `~astrodenoise.star_mask` does.
    channels : {None, 'separate', 'joint'}, optional
        How planes are taken: each by itself (default), or three together as one camera's red,
        green and blue.
    bayer : {None, True, False, 'RGGB', 'BGGR', 'GRBG', 'GBRG'}, optional
        The frame is a raw colour mosaic, (H, W): its four planes of half the size are denoised
        each by itself and put back.  A pattern names the colours of the first 2 x 2 px, True
        takes it from the header.  False: debayered, whatever the header says; None the same,
        with a warning.
    saturation : float or `~astropy.units.Quantity`, optional
        Pixels at or above it come back as they are; by default the header's SATURATE or the
        frame's own pile-up.
    uncertainty : {'keep', 'predict', None}, optional
        'keep': the frame's own, or the sigma that was used where it has none; the right size for
        sums over apertures, because the errors of denoised pixels are correlated.  'predict': the
        expected error of each single pixel, for maps and thresholds, never to be added in
        quadrature.  None: none.
    tile_size : int or 'auto', optional
        Side of a tile in px, 64 to 2048, a multiple of the network's stride; the paper's is 256.
        'auto' takes 256 to 512, what computes the fewest pixels twice; within 0.01 sigma the same.
    blend : {'gaussian', 'none'}, optional
        'none' with ``overlap=0`` is naive tiling, kept for comparison (paper section 4.2).
    batch_size : int, optional
        Tiles that go through the network at once; does not change the result.  By default what
        fits the processor's cache, or keeps a GPU busy.
    device : str, optional
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}, optional
        'auto' takes what the processor or the GPU has circuits for: bfloat16, else float16 (GPUs
        alone), else float32.
    progress_bar : callable, optional
        Wraps an iterable and returns one, for example `tqdm.tqdm`.
    add_keyword : bool, str, `~ccdproc.Keyword` or dict, optional
        As in ccdproc: whether and how the call is recorded in the metadata.

    Returns
    -------
    clean : same type as ``ccd``
        Float32, or float64 for float64 and wide integers; unit, mask, flags, WCS, PSF and metadata
        kept.  Masked, non-finite, no-data and saturated pixels come back exactly as they were.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If an argument is of the wrong type, value or unit; before any weights are loaded.

    Notes
    -----
    The network is a ResUNet trained on frames in units of their own noise, so the result follows
    any change of scale and level of the frame.  The method is that of Regordosa, *Denoising
    Pipeline for Deep-Sky Astrophotography*, with the changes that linear data need.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import denoise
    >>> noisy = np.random.default_rng(0).normal(100, 5, (96, 96))
    >>> clean = denoise(noisy)
    >>> bool(clean.std() < 1)
    True
    """
    settings = Options(
        overlap, model, strength, limit, channels, uncertainty, tile_size, blend, batch_size,
        device, precision, progress_bar,
    )
    settings.check()
    frame = as_mosaic(_open(ccd), bayer, channels=channels)
    return denoise_frame(
        frame, settings, noise=noise, star_mask=star_mask, saturation=saturation,
        add_keyword=add_keyword,
    )  # fmt: skip


def measure_noise(ccd, *, saturation=None):
    """
    Measure the noise of a frame, to be used for as many calls as you like.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity`, \
            `numpy.ndarray` or `dask.array.Array`
        The frame, (H, W) or (N, H, W).
    saturation : float or `~astropy.units.Quantity`, optional
        Level at and above which pixels are saturated; by default what the header or the frame's
        own pile-up says.

    Returns
    -------
    noise : `~astrodenoise.FrameNoise`
        One model per plane, in the unit of the data; ``denoise(..., noise=)`` takes it.

    Raises
    ------
    TypeError
        If the frame is of another type.
    ValueError
        If it has other dimensions, or too few valid pixels.
    """
    frame = _open(ccd)
    known = survey_frame(frame, 'measure', saturation=_saturation_level(saturation, frame))
    unit = '' if frame.unit is None else str(frame.unit)
    return FrameNoise(tuple(one.noise for one in known), unit)


def _open(ccd):
    """Open any input as a frame."""
    if not is_lazy(ccd):
        return open_frame(ccd)
    from astrodenoise.lazy import LazyFrame

    return LazyFrame(ccd)


def denoise_frame(frame, settings, *, noise=None, star_mask=None, saturation=None,
                  add_keyword=True):  # fmt: skip
    """
    Remove the noise of an opened frame: measure, cut, predict, blend, close.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    settings : `astrodenoise.options.Options`
        What was asked for, checked.
    noise, star_mask, saturation, add_keyword : object, optional
        As in `denoise`.

    Returns
    -------
    clean : object
        Of the type that the frame was opened from.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As `denoise`.
    """
    settings = settings.for_frame(frame.shape)
    check_keyword(add_keyword, frame.meta)
    _check_planes(frame, settings)
    star_mask = check_star_mask(star_mask, frame)
    frame.stars = None if star_mask is True else star_mask
    _warn_if_denoised(frame)
    # torch takes a second to load: another core does so while this one measures
    threading.Thread(target=import_module, args=('torch',)).start()
    known = survey_frame(frame, noise, saturation=_saturation_level(saturation, frame))
    _check_noise(known)
    engine = _load_engine(settings)
    _warn_if_unlike(engine.weights, frame, known)
    errors = frame.wants_sigma(settings.uncertainty)
    result, sigma, limited = frame.filled(
        remove_noise, known, engine, settings, find_stars=star_mask is True, errors=errors
    )
    if isinstance(frame, MosaicFrame):
        check_peaks(_middles(frame, known), result)
    _warn_if_limited(limited, known)
    record = _record(settings, engine, known, limited)
    record['star_mask'] = star_mask if frame.stars is None else 'given'
    return frame.close(
        result, uncertainty=settings.uncertainty, sigma=sigma, record=record,
        add_keyword=add_keyword,
    )  # fmt: skip


def _check_planes(frame, settings):
    """Refuse what does not go with the planes that the frame has."""
    if settings.channels == 'joint' and frame.shape[0] != 3:
        msg = (
            f"channels='joint' needs three planes of one camera, the frame has {frame.shape[0]}: "
            "drop an alpha plane, data[:3], or pass channels='separate'"
        )
        raise ValueError(msg)
    if settings.uncertainty == 'predict' and not isinstance(frame.original, NDData):
        msg = (
            "uncertainty='predict' needs a CCDData or NDData, a "
            f'{type(frame.original).__name__} has no place for it: wrap the frame, '
            'CCDData(frame, unit=...)'
        )
        raise ValueError(msg)


def _saturation_level(saturation, frame):
    """Bring the saturation level to the unit of the data."""
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
            stacklevel=4,
        )


def _check_noise(known):
    """Refuse a plane without any noise, unless it is constant or its noise is given."""
    for one in known:
        if one.noise.sigma > 0:
            continue
        if not one.constant:
            msg = (
                'the frame varies, but no noise can be measured in it (it may be noiseless or '
                'coarsely quantised): pass noise= with the sigma of a pixel'
            )
            raise ValueError(msg)
        warnings.warn(
            'the frame is constant and comes back as it is', NoNoiseWarning, stacklevel=4
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


def _middles(frame, known):
    """Normalise the middle of each plane, where stars are looked at."""
    rows, cols = (
        widened(slice(max(n - MIDDLE, 0) // 2, min(n + MIDDLE, 2 * n) // 2), MARGIN, n)
        for n in frame.shape[1:]
    )
    window = frame.window(slice(None), rows, cols)
    return normalise(window, known, rows, cols, frame.shape[1:])[0]


def _warn_if_unlike(weights, frame, known):
    """Say in one warning what of the frame the weights were not trained on."""
    texts = outside(weights.trained_range, known, _middles(frame, known))
    if texts:
        warnings.warn(
            f'the frame is unlike what model {weights.name!r} was trained on: {"; ".join(texts)}; '
            'look at the residual before you trust the result',
            UnlikeTrainingWarning,
            stacklevel=4,
        )


def _warn_if_limited(limited, known):
    """Name the pixels that were held back when they are many."""
    if limited is None:  # not known before the pixels are computed
        return
    n_usable = sum(one.n_pixels - one.counts['invalid'] for one in known)
    n_limited = sum(limited)
    if n_limited > max(MANY_LIMITED * n_usable, 1):
        warnings.warn(
            f'{n_limited} of {n_usable} pixels would have moved out of proportion to their '
            'noise and were held back: the frame is unlike what the network knows, or its noise '
            'is not what was given',
            LimitedWarning,
            stacklevel=4,
        )


def _record(settings, engine, known, limited):
    """What was done, for the metadata."""
    import torch

    weights = engine.weights
    return {
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
    }
