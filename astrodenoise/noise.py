# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise of a frame: measured, from a plane of sigma, or from gain and read noise.

A given plane of sigma is a hypothesis: it is smoothed, so that it carries no pixel's own noise,
and its level is compared with what the frame itself shows.
"""

import logging
from dataclasses import replace

import numpy as np

from astrodenoise.estimate import MIN_PIXELS, measure_plane
from astrodenoise.noisemodel import FrameNoise, PlaneNoise
from astrodenoise.sigmaplane import TOLERANCE, level_factor, sample_of, sigma_plane
from astrodenoise.validity import invalid_pixels

__all__ = [
    'check_kind',
    'fitted',
    'frame_noise',
    'leave_out_invalid',
    'noise_as_told',
    'noise_of_plane',
    'sigma_of',
]

log = logging.getLogger(__name__)


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
    saturated : `numpy.ndarray`, (N, H, W), bool
        The pixels among them that are saturated.
    """
    if saturation is None:
        saturation = frame.saturation
    saturated = np.empty_like(frame.valid)
    for data, valid, at_top in zip(frame.data, frame.valid, saturated, strict=True):
        found = invalid_pixels(data, valid, saturation=saturation)
        valid &= ~found.invalid
        at_top[...] = found.saturated
    return saturated


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
        return fitted(noise, frame)
    check_kind(noise)
    planes = []
    for number, (data, good, level) in enumerate(zip(frame.data, frame.valid, levels, strict=True)):
        if isinstance(noise, str):
            planes.append(measure_plane(data, good, integer=frame.integer, level=level))
            continue
        measured = _measured_or_none(data, good, frame, level)
        sky = _median(data[good]) if measured is None else measured.sky
        sigma = None if isinstance(noise, tuple) else sigma_of(noise, frame)
        if sigma is None or sigma.ndim == 0:
            told = noise if sigma is None else float(sigma)
            planes.append(noise_as_told(told, frame, measured, source, data.shape, sky))
        else:
            planes.append(_from_plane(sigma[number], data, good, level, measured, source))
    return FrameNoise(tuple(planes), unit)


def check_kind(noise):
    """
    Raise unless a text is 'measure'.

    Parameters
    ----------
    noise : object
        As `astrodenoise.denoise` takes it.

    Raises
    ------
    ValueError
        If it is another text.
    """
    if isinstance(noise, str) and noise != 'measure':
        msg = f"noise must be 'measure', a number, an array or the like, got {noise!r}"
        raise ValueError(msg)


def noise_as_told(told, frame, measured, source, shape, sky):
    """
    Make the noise of a plane from a number of sigma, or from gain and read noise.

    Parameters
    ----------
    told : float or tuple
        What was given.
    frame : `astrodenoise.frames.Frame`
        The frame.
    measured : `astrodenoise.noisemodel.PlaneNoise` or None
        What the plane shows, None where that cannot be known.
    source : str
        Where a number came from.
    shape : tuple of int
        Of the plane.
    sky : float
        Its level.

    Returns
    -------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        In the unit of the data.
    """
    if isinstance(told, tuple):
        return _from_gain(told, frame, measured, shape, sky)
    return _told(told, measured, source, shape, sky)


def fitted(noise, frame):
    """
    Check that a measured noise fits a frame; on a crop its map and profiles do not hold.

    Parameters
    ----------
    noise : `FrameNoise`
        What was given.
    frame : `astrodenoise.frames.Frame`
        The frame.

    Returns
    -------
    noise : `FrameNoise`
        Of the frame's shape.

    Raises
    ------
    ValueError
        If it has another number of planes, or holds a plane of sigma of another shape.
    """
    if len(noise.planes) != frame.shape[0]:
        msg = f'noise= holds {len(noise.planes)} planes, the frame has {frame.shape[0]}'
        raise ValueError(msg)
    shape = tuple(frame.shape[1:])
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


def sigma_of(noise, frame):
    """
    Give a sigma in the unit of the data.

    Parameters
    ----------
    noise : float, array, `~astropy.units.Quantity` or `~astropy.nddata.NDUncertainty`
        What was given.
    frame : `astrodenoise.frames.Frame`
        The frame.

    Returns
    -------
    sigma : `numpy.ndarray`, () or (N, H, W)
        One for all pixels, or one for each.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If it is none of these, is not positive, or does not fit the frame.
    """
    from astropy.nddata import NDUncertainty, StdDevUncertainty

    if isinstance(noise, NDUncertainty):
        unit = noise.unit
        noise = noise.represent_as(StdDevUncertainty)
        noise = noise.array if unit is None else noise.array * noise.unit
    noise = frame.value_of(noise, 'noise')
    try:
        sigma = np.asarray(noise)
        if sigma.dtype.kind not in 'fiu' or sigma.dtype.itemsize > 8:
            sigma = sigma.astype(np.float64)
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
    if sigma.shape in (frame.shape, frame.shape[1:]):
        return np.broadcast_to(sigma, frame.shape)
    msg = f'noise has shape {sigma.shape}, the frame {frame.shape[1:]}: they must agree'
    raise ValueError(msg)


def _median(values):
    return float(np.median(values)) if values.size else 0.0


def _told(sigma, measured, source, shape, sky):
    """A number of sigma is an order; what the frame shows only describes its correlation."""
    shown = 1.0 if measured is None else measured.evidence(sigma)
    if shown < 1:
        log.info('sigma %g was given, the frame shows no such noise: it stays as it is', sigma)
    if measured is None or shown < 1:
        return PlaneNoise(shape, sky, sigma, source=source, shown=shown)
    if abs(np.log(measured.sigma / sigma)) > np.log1p(TOLERANCE):
        log.info('sigma %g was given, %g is measured: the given one is used', sigma, measured.sigma)
    return measured.told(
        sigma, levels=[measured.sky], law=[1.0], slope=0.0, grid=[[1.0]], source=source
    )


def _from_plane(sigma, data, good, level, measured, source):
    """Noise from a plane of sigma, its level checked against the frame's own."""
    background = level.fine_whole()
    reading = sigma_plane(sample_of(sigma, data, good, background))
    plane = reading.smoothed(sigma, data, good, background)
    if measured is not None:
        own = float(np.median(measured.sigma_at(background)[good]))
        given = float(np.median(plane[good]))
        reading = replace(reading, factor=level_factor(given, own, measured))
        plane = plane / plane.dtype.type(reading.factor)
    near_sky = good & (background <= np.median(background[good]))
    at_sky = float(np.median(plane[near_sky] if near_sky.any() else plane[good]))
    sky = _median(data[good]) if measured is None else measured.sky
    return noise_of_plane(at_sky, measured, source, data.shape, sky, plane=plane)


def noise_of_plane(at_sky, measured, source, shape, sky, *, plane=None):
    """
    Make the noise of a plane whose sigma was given for each pixel.

    Parameters
    ----------
    at_sky : float
        Sigma at the level of the sky.
    measured : `astrodenoise.noisemodel.PlaneNoise` or None
        What the plane shows, None where that cannot be known.
    source : str
        Where it came from.
    shape : tuple of int
        Of the plane.
    sky : float
        Its level.
    plane : `numpy.ndarray`, (H, W), optional
        Sigma of each pixel, where it is kept.

    Returns
    -------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        In the unit of the data.
    """
    noise = measured or PlaneNoise(shape, sky, 1.0)
    return noise.told(
        at_sky, plane=plane, levels=[noise.sky], law=[1.0], slope=0.0, grid=[[1.0]],
        source=source, shown=1.0 if measured is None else measured.evidence(at_sky),
    )  # fmt: skip


def _from_gain(pair, frame, measured, shape, sky):
    """Noise of a single exposure from its gain and read noise, the sky still in it."""
    gain, read_noise = _gain_and_read_noise(pair, frame)
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
    noise = measured or PlaneNoise(shape, sky, 1.0)
    sigma = float(np.sqrt(at_sky))
    if measured is not None:
        sigma /= level_factor(sigma, measured.sigma, measured)
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
