# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise of a frame: measured, from a plane of sigma, or from gain and read noise.

A given plane of sigma is a hypothesis: it is smoothed, so that it carries no pixel's own noise,
and its level is compared with what the frame itself shows.
"""

import logging
import warnings
from dataclasses import replace

import numpy as np
from scipy import ndimage

from astrodenoise.background import fill_nearest
from astrodenoise.estimate import MIN_PIXELS, measure_plane
from astrodenoise.exceptions import NoiseMismatchWarning
from astrodenoise.noisemodel import FrameNoise, PlaneNoise, signal_level
from astrodenoise.validity import invalid_pixels

__all__ = ['frame_noise', 'leave_out_invalid', 'measure_noise']

log = logging.getLogger(__name__)

TOLERANCE = 0.15  # beyond this the frame's own level of noise counts
SMOOTH = 5  # px, box over which a given variance is averaged
LAW_SAMPLE = 200_000  # pixels that tell the law of a given plane


def leave_out_invalid(frame, *, saturation=None):
    """
    Leave out the pixels whose noise cannot be known: no data, saturated, clipped at a floor.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        An opened frame; its ``valid`` is changed in place.
    saturation : float, optional
        Level at and above which pixels are saturated, in the unit of the data.

    Returns
    -------
    validity : list of `astrodenoise.validity.Validity`
        What was found, one per plane.
    """
    if saturation is None:
        saturation = frame.saturation
    found = []
    for data, valid in zip(frame.data, frame.valid, strict=True):
        found.append(invalid_pixels(data, valid, saturation=saturation))
        valid &= ~found[-1].invalid
    return found


def measure_noise(ccd, *, saturation=None):
    """
    Measure the noise of a frame, to be used for as many calls as you like.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame, (H, W) or (N, H, W).
    saturation : float, optional
        Level at and above which pixels are saturated, in the unit of the data; by default what
        the header or the frame's own pile-up says.

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
    from astrodenoise.frames import open_frame

    frame = open_frame(ccd)
    leave_out_invalid(frame, saturation=saturation)
    planes = [
        measure_plane(data, valid, integer=frame.integer)
        for data, valid in zip(frame.data, frame.valid, strict=True)
    ]
    return FrameNoise(tuple(planes), '' if frame.unit is None else str(frame.unit))


def frame_noise(frame, noise, levels):
    """
    Make one noise model per plane from what was given and what the frame shows.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        An opened frame.
    noise : None, 'measure', float, array, `~astropy.nddata.NDUncertainty`, pair or `FrameNoise`
        As `astrodenoise.denoise` takes it.
    levels : list of `astrodenoise.background.LocalLevel`
        The local level of each plane.

    Returns
    -------
    noise : `FrameNoise`
        In the unit of the data.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If ``noise`` is not one of the above, does not fit the frame, or cannot be measured.
    """
    if noise is None:
        noise = 'measure' if frame.sigma is None else frame.sigma
        source = 'uncertainty'
    else:
        source = 'given'
    unit = '' if frame.unit is None else str(frame.unit)
    if isinstance(noise, FrameNoise):
        return _fitted(noise, frame)
    if isinstance(noise, str) and noise != 'measure':
        msg = f"noise must be 'measure', a number, an array or the like, got {noise!r}"
        raise ValueError(msg)
    planes = []
    for number, (data, good, level) in enumerate(zip(frame.data, frame.valid, levels, strict=True)):
        if isinstance(noise, str):
            planes.append(measure_plane(data, good, integer=frame.integer, level=level))
            continue
        measured = _measured_or_none(data, good, frame, level)
        if isinstance(noise, tuple):
            planes.append(_from_gain(noise, frame, data, good, measured))
            continue
        sigma = _sigma_of(noise, frame, number)
        if sigma.ndim == 0:
            planes.append(_told(float(sigma), data, good, measured, source))
        else:
            planes.append(_from_plane(sigma, data, good, level, measured, source))
    return FrameNoise(tuple(planes), unit)


def _fitted(noise, frame):
    """Check that a measured noise fits a frame; on a crop its map and profiles do not hold."""
    if len(noise.planes) != len(frame.data):
        msg = f'noise= holds {len(noise.planes)} planes, the frame has {len(frame.data)}'
        raise ValueError(msg)
    shape = tuple(frame.data.shape[1:])
    planes = []
    for plane in noise.planes:
        if plane.shape != shape:
            if plane.plane is not None:
                msg = f'noise= holds a sigma for pixels of shape {plane.shape}, not {shape}'
                raise ValueError(msg)
            plane = replace(plane, shape=shape, grid=[[1.0]], rows=[], columns=[])
        planes.append(plane)
    return FrameNoise(tuple(planes), noise.unit)


def _measured_or_none(data, good, frame, level):
    """Measured noise of a plane, None where it cannot be known."""
    if np.count_nonzero(good) < MIN_PIXELS or min(data.shape) < 8:
        return None
    return measure_plane(data, good, integer=frame.integer, level=level)


def _sigma_of(noise, frame, number):
    """One plane's sigma in the unit of the data, of no dimension or (H, W)."""
    from astropy.nddata import NDUncertainty, StdDevUncertainty

    if isinstance(noise, NDUncertainty):
        unit = noise.unit
        noise = noise.represent_as(StdDevUncertainty)
        noise = noise.array if unit is None else noise.array * noise.unit
    noise = frame.value_of(noise, 'noise')
    try:
        sigma = np.asarray(noise, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = (
            'noise must be None, "measure", a number or array of sigma, an NDUncertainty, a '
            f'FrameNoise or a (gain, read_noise) tuple of Quantities, got {type(noise).__name__}'
        )
        raise TypeError(msg) from error
    if sigma.ndim == 0:
        if not sigma > 0 or not np.isfinite(sigma):
            msg = f'noise must be a positive number of sigma, got {float(sigma)}'
            raise ValueError(msg)
        return sigma
    if sigma.shape == frame.data.shape:
        return sigma[number]
    if sigma.shape == frame.data.shape[1:]:
        return sigma
    msg = f'noise has shape {sigma.shape}, the frame {frame.data.shape[1:]}: they must agree'
    raise ValueError(msg)


def _told(sigma, data, good, measured, source):
    """A number of sigma is an order; what the frame shows only describes its correlation."""
    shown = 1.0 if measured is None else measured.evidence(sigma)
    if shown < 1:
        log.info('sigma %g was given, the frame shows no such noise: it stays as it is', sigma)
    if measured is None or shown < 1:
        sky = float(np.median(data[good])) if good.any() else 0.0
        return PlaneNoise(data.shape, sky, sigma, source=source, shown=shown)
    if abs(np.log(measured.sigma / sigma)) > np.log1p(TOLERANCE):
        log.info('sigma %g was given, %g is measured: the given one is used', sigma, measured.sigma)
    return measured.told(
        sigma, levels=[measured.sky], law=[1.0], slope=0.0, grid=[[1.0]], source=source
    )


def _plane_law(level, variance):
    """Straight law of a plane's variance against the signal: (start, slope), slope 0 if none."""
    step = max(1, level.size // LAW_SAMPLE)
    level, variance = level[::step], variance[::step]
    order = np.argsort(level)
    n_bins = min(32, level.size // 20)
    if n_bins < 4:
        return float(np.median(variance)), 0.0
    x, y = (
        np.array([np.median(part) for part in np.array_split(a[order], n_bins)])
        for a in (level, variance)
    )
    centre = x.mean()
    slope, middle = np.polyfit(x - centre, y, 1)
    start = middle - slope * centre
    if slope * (x[-1] - x[0]) < 0.05 * np.median(y):
        return float(np.median(variance)), 0.0
    return float(start), float(slope)


def _smoothed_plane(sigma, data, good, background):
    """
    Smooth a plane of sigma over 5 px without diluting the cores of stars.

    Its law of the signal is divided out first and multiplied back afterwards.
    """
    known = good & np.isfinite(sigma) & (sigma > 0)
    if not known.any():
        msg = 'noise holds no positive finite sigma at any usable pixel: pass noise="measure"'
        raise ValueError(msg)
    first = float(np.median(sigma[known]))
    signal = signal_level(np.where(good, data, background), background, first)
    unit = first**2
    variance = np.where(known, sigma, first) ** 2 / unit
    start, slope = _plane_law(signal[known], variance[known])
    floor = 0.1 * float(np.quantile(variance[known], 0.02))
    law = np.maximum(start + slope * signal, floor)
    relative = fill_nearest(variance / law, known)
    relative = ndimage.uniform_filter(relative, SMOOTH, mode='nearest')
    return np.sqrt(np.maximum(relative, 1e-12) * law) * first


def _from_plane(sigma, data, good, level, measured, source):
    """Noise from a plane of sigma, its level checked against the frame's own."""
    background = level.fine_whole()
    plane = _smoothed_plane(sigma, data, good, background)
    noise = measured or PlaneNoise(data.shape, float(np.median(data[good])), 1.0)
    if measured is not None:
        plane = plane / _mismatch(plane, measured, good, background)
    near_sky = good & (background <= np.median(background[good]))
    at_sky = float(np.median(plane[near_sky] if near_sky.any() else plane[good]))
    kind = np.float32 if 1e-30 < at_sky < 1e30 else np.float64
    return noise.told(
        at_sky, plane=plane.astype(kind), levels=[noise.sky], law=[1.0], slope=0.0, grid=[[1.0]],
        source=source, shown=1.0 if measured is None else measured.evidence(at_sky),
    )  # fmt: skip


def _mismatch(plane, measured, good, background):
    """Factor by which a given sigma is too large, 1 within the tolerance; warns beyond it."""
    own = measured.sigma_at(background)
    given, own = float(np.median(plane[good])), float(np.median(own[good]))
    if own == 0 or measured.evidence(measured.sigma * given / own) < 1:
        message = 'the frame shows no noise of that size and stays nearly as it is'
        factor = 1.0
    elif abs(np.log(given / own)) > np.log1p(TOLERANCE):
        message = "the measured level is used, with the given plane's shape"
        factor = given / own
    else:
        return 1.0
    warnings.warn(
        f'the given noise has a median sigma of {given:.4g}, the frame itself shows {own:.4g}: '
        f'{message}',
        NoiseMismatchWarning,
        stacklevel=5,
    )
    return factor


def _from_gain(pair, frame, data, good, measured):
    """Noise of a single exposure from its gain and read noise, the sky still in it."""
    gain, read_noise = _gain_and_read_noise(pair, frame)
    sky = measured.sky if measured is not None else float(np.median(data[good]))
    n_combined = _number(frame.meta, 'NCOMBINE')
    if sky <= 0 or (n_combined or 1) > 1:
        reason = f'its sky is {sky:.4g}' if sky <= 0 else f'NCOMBINE is {n_combined:g}'
        msg = (
            'noise=(gain, read_noise) holds for a single exposure in counts with its sky still '
            f'in, but {reason}: pass noise="measure" or a sigma'
        )
        raise ValueError(msg)
    at_zero = max(read_noise**2, 0.01 * sky) / gain**2
    at_sky = read_noise**2 / gain**2 + sky / gain
    noise = measured or PlaneNoise(data.shape, sky, 1.0)
    sigma = float(np.sqrt(at_sky))
    if measured is not None:
        flat = np.full((1, 1), sigma)
        sigma /= _mismatch(flat, replace(measured, shape=(1, 1), grid=[[1.0]], plane=None),
                           np.ones((1, 1), bool), np.full((1, 1), sky))
    return noise.told(
        sigma, levels=[0.0], law=[at_zero / at_sky], slope=1 / gain / at_sky, grid=[[1.0]],
        source='gain, read noise',
    )


def _gain_and_read_noise(pair, frame):
    """Gain in electrons per unit of the data and read noise in electrons."""
    from astropy import units as u

    if len(pair) != 2:
        msg = f'noise must be a pair (gain, read_noise), got {len(pair)} values'
        raise ValueError(msg)
    counts = u.dimensionless_unscaled if frame.unit is None else frame.unit
    if counts not in (u.adu, u.electron, u.photon, u.count, u.dimensionless_unscaled):
        msg = f'(gain, read_noise) needs a frame in counts or electrons, this one is in {counts}'
        raise u.UnitsError(msg)
    expected = (u.electron / counts, u.electron)
    values = []
    for name, value, unit in zip(('gain', 'read_noise'), pair, expected, strict=True):
        if not isinstance(value, u.Quantity):
            msg = f'{name} must be a Quantity in {unit}, got {value!r}'
            raise TypeError(msg)
        try:
            values.append(float(value.to_value(unit)))
        except u.UnitConversionError as error:
            msg = f'{name} is in {value.unit}, expected {unit}'
            raise u.UnitsError(msg) from error
    gain, read_noise = values
    if not (gain > 0 and read_noise >= 0 and np.isfinite(gain + read_noise)):
        msg = f'gain must be positive and read_noise not negative, got {gain} and {read_noise}'
        raise ValueError(msg)
    return gain, read_noise


def _number(meta, key):
    """A number of the header, None when it has none."""
    value = None if meta is None else meta.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None
