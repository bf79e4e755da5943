# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The whole way of a frame: open, measure, cut, predict, blend, close."""

import logging
import warnings

import numpy as np
from astropy.nddata import NDData

from astrodenoise._version import __version__
from astrodenoise.background import local_level
from astrodenoise.errormap import calibrate, error_at_strength
from astrodenoise.exceptions import (
    AlreadyDenoisedWarning,
    LimitedWarning,
    NoNoiseWarning,
    UnlikeTrainingWarning,
)
from astrodenoise.features import NormalisedPlane, condition
from astrodenoise.frames import open_frame
from astrodenoise.limit import hold_back
from astrodenoise.mosaic import MosaicFrame, as_mosaic, check_peaks
from astrodenoise.noise import frame_noise, leave_out_invalid
from astrodenoise.options import Options, check_number
from astrodenoise.protection import check_star_mask, kept_share, stars_of
from astrodenoise.provenance import check_keyword, is_denoised
from astrodenoise.tiling import blend_tiles, n_tiles
from astrodenoise.trainedrange import outside

__all__ = ['denoise']

log = logging.getLogger(__name__)

BATCH_SIZE = 8
MODELS = {'default': ('mono', 'colour')}  # of single planes, of three together
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
    tile_size=256,
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
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame, (H, W) or (N, H, W), any float or integer dtype and byte order.  Not changed.
    overlap : float, optional
        Share of a tile's side that neighbouring tiles have in common, 0 to 0.75 (paper section 3).
    model : str, optional
        'default' ('colour' for three planes together, else 'mono'), the name of a shipped model
        ('fast': plane by plane, a quarter of the work of 'mono'), or the path of a safetensors
        file with its card.
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
    tile_size : int, optional
        Side of a tile in px, 64 to 2048, a multiple of the network's stride.
    blend : {'gaussian', 'none'}, optional
        'none' with ``overlap=0`` is naive tiling, kept for comparison (paper section 4.2).
    batch_size : int, optional
        Tiles that go through the network at once; does not change the result.
    device : str, optional
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : {'auto', 'float32', 'bfloat16'}, optional
        'auto' takes bfloat16 where the processor has it.
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
    frame = as_mosaic(open_frame(ccd), bayer, channels=channels)
    check_keyword(add_keyword, frame.meta)
    if channels == 'joint' and len(frame.data) != 3:
        msg = (
            f"channels='joint' needs three planes of one camera, the frame has {len(frame.data)}: "
            "drop an alpha plane, data[:3], or pass channels='separate'"
        )
        raise ValueError(msg)
    if uncertainty == 'predict' and not isinstance(ccd, NDData):
        msg = (
            f"uncertainty='predict' needs a CCDData or NDData, a {type(ccd).__name__} has no place "
            'for it: wrap the frame, CCDData(frame, unit=...)'
        )
        raise ValueError(msg)
    star_mask = check_star_mask(star_mask, frame)
    _warn_if_denoised(frame)
    validity = leave_out_invalid(frame, saturation=_saturation_level(saturation, frame))
    levels = [local_level(*plane) for plane in zip(frame.data, frame.valid, strict=True)]
    measured = _noise_or_constant(frame, noise, levels)
    engine = _load_engine(settings)
    planes = [
        NormalisedPlane(data, valid, plane_noise, level=level)
        for data, valid, plane_noise, level in zip(
            frame.data, frame.valid, measured.planes, levels, strict=True
        )
    ]
    _warn_if_unlike(engine.weights, planes)
    stars = _star_masks(star_mask, planes, validity)
    result, counts, errors = frame.data.copy(), [], []
    n_together = engine.weights.config.planes
    for first in range(0, len(planes), n_together):
        together = slice(first, first + n_together)
        held, s = _remove_noise(
            result[together], planes[together], stars[together], engine, settings
        )
        counts += held
        errors += [
            np.broadcast_to(np.float32(plane.sigma * error), plane.data.shape)
            for plane, error in zip(planes[together], s, strict=True)
        ]
    if isinstance(frame, MosaicFrame):
        check_peaks(planes, result)
    _warn_if_limited(counts, frame)
    record = _record(settings, engine, frame, measured, validity, counts)
    record['star_mask'] = 'given' if isinstance(star_mask, np.ndarray) else star_mask
    return frame.close(
        result,
        uncertainty=uncertainty,
        sigma=np.stack(errors),
        record=record,
        add_keyword=add_keyword,
    )


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
            stacklevel=3,
        )


def _noise_or_constant(frame, noise, levels):
    """Noise of each plane; a plane without any must be constant or have its noise given."""
    measured = frame_noise(frame, noise, levels)
    for data, good, plane in zip(frame.data, frame.valid, measured.planes, strict=True):
        if plane.sigma > 0:
            continue
        values = data[good]
        if values.size and values.min() != values.max():
            msg = (
                'the frame varies, but no noise can be measured in it (it may be noiseless or '
                'coarsely quantised): pass noise= with the sigma of a pixel'
            )
            raise ValueError(msg)
        warnings.warn(
            'the frame is constant and comes back as it is', NoNoiseWarning, stacklevel=3
        )
    return measured


def _load_engine(settings):
    """Load the network and check that the tiles fit it."""
    from astrodenoise.engine import load_engine

    pair = MODELS.get(settings.model, (settings.model, settings.model))
    model = pair[settings.channels == 'joint']
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


def _star_masks(star_mask, planes, validity):
    """Masks of the stars that are protected, None where there are none."""
    if star_mask is None:
        return [None] * len(planes)
    if star_mask is True:
        return [stars_of(plane, why.saturated) for plane, why in zip(planes, validity, strict=True)]
    return list(star_mask)


def _remove_noise(data, planes, stars, engine, settings):
    """
    Take the noise out of planes, in place; less of it where there are stars to protect.

    Returns the number of pixels of each plane that were held back, and the error of each pixel in
    units of sigma: 1 unless it is asked for.
    """
    if settings.strength == 0 or all(plane.missing for plane in planes):
        return [0] * len(planes), [1.0] * len(planes)
    shape = data.shape[1:]
    tiles = n_tiles(shape, settings.tile_size, settings.overlap)
    predict = engine.predictor(np.concatenate([condition(plane.noise) for plane in planes]))
    # the predicted error is blended only where somebody looks at it
    n_out = (2 if settings.uncertainty == 'predict' else 1) * len(planes)
    out = blend_tiles(
        shape,
        lambda rows, cols: np.concatenate([plane.cut(rows, cols) for plane in planes]),
        lambda batch: predict(batch)[:, :n_out],
        n_out=n_out,
        tile_size=settings.tile_size,
        overlap=settings.overlap,
        blend=settings.blend,
        batch_size=min(settings.batch_size or BATCH_SIZE, tiles),
        progress_bar=settings.progress_bar,
    )
    noise, log_s = out[: len(planes)], out[len(planes) :]
    strengths, counts = [], []
    for r, plane, mask, pixels in zip(noise, planes, stars, data, strict=True):
        strengths.append(_strength(settings.strength, mask, plane, r))
        counts.append(_take(r, pixels, plane, strengths[-1], settings.limit))
    if settings.uncertainty != 'predict':
        return counts, [1.0] * len(planes)
    table = engine.weights.calibration
    return counts, [
        _error(plane, logarithm, table, strength)
        for plane, logarithm, strength in zip(planes, log_s, strengths, strict=True)
    ]


def _strength(strength, mask, plane, r):
    """Share of the noise to remove, of each pixel where stars are protected."""
    if mask is None or plane.missing:
        return np.float32(strength)
    return np.float32(strength) * (1 - kept_share(mask, plane, r))


def _error(plane, log_s, table, strength):
    """Expected error of each pixel in units of sigma; pixels that stay keep their noise."""
    if plane.missing:
        return 1.0
    s = calibrate(log_s, plane.noise.correlation, table) * np.float32(plane.noise.shown)
    return np.where(plane.valid, error_at_strength(s, strength), 1)


def _take(r, data, plane, strength, limit):
    """Take the noise ``r`` from a plane's data, in place; the number of pixels held back."""
    if plane.missing:
        return 0
    r[~plane.valid] = 0
    limited = None
    if limit is not None:
        r, limited = hold_back(r, limit, plane.noise.correlation)
    r *= strength * np.float32(plane.noise.shown)
    # pixels without noise to remove are copied, never computed
    np.copyto(data, data - plane.sigma * r.astype(data.dtype), where=plane.valid)
    return 0 if limited is None else int(np.count_nonzero(limited & plane.valid))


def _warn_if_unlike(weights, planes):
    """Say in one warning what of the frame the weights were not trained on."""
    texts = outside(weights.trained_range, planes)
    if texts:
        warnings.warn(
            f'the frame is unlike what model {weights.name!r} was trained on: {"; ".join(texts)}; '
            'look at the residual before you trust the result',
            UnlikeTrainingWarning,
            stacklevel=3,
        )


def _warn_if_limited(counts, frame):
    """Name the pixels that were held back when they are many."""
    n_usable = np.count_nonzero(frame.valid)
    if sum(counts) > max(MANY_LIMITED * n_usable, 1):
        warnings.warn(
            f'{sum(counts)} of {n_usable} pixels would have moved out of proportion to their '
            'noise and were held back: the frame is unlike what the network knows, or its noise '
            'is not what was given',
            LimitedWarning,
            stacklevel=3,
        )


def _record(settings, engine, frame, measured, validity, counts):
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
                'sky': float(noise.sky),
                'sigma': float(noise.sigma),
                'noise': noise.source,
                'correlation': [round(float(rho), 3) for rho in noise.correlation],
                'invalid': int(np.count_nonzero(~valid)),
                'saturated': int(np.count_nonzero(reasons.saturated)),
                'limited': int(limited),
            }
            for noise, valid, reasons, limited in zip(
                measured.planes, frame.valid, validity, counts, strict=True
            )
        ],
    }
