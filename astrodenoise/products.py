# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What comes beside a denoised frame: that which was taken out of it."""

import hashlib

import numpy as np
from astropy import units as u

from astrodenoise.frames import open_frame
from astrodenoise.provenance import write_residual_of

__all__ = ['identity_of', 'residual', 'whole_residual']


def residual(ccd, clean):
    """
    Give what was taken out of a frame: the frame minus its denoised version.

    Of a good result it looks like noise; what looks like a source, a star's ring or a galaxy's arm
    was taken for noise.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame before, (H, W) or (N, H, W), any float or integer dtype.  Not changed.
    clean : object
        What `~astrodenoise.denoise` made of it, of the same shape and in the same unit.

    Returns
    -------
    removed : same type as ``ccd``
        ``ccd - clean``, float32, or float64 for float64 and wide integers.  Mask, flags, WCS, PSF,
        unit, metadata and uncertainty are copies of those of ``ccd``, whose noise the residual
        shows; pixels that denoising leaves alone are 0, or NaN where they are not finite.  A
        header gets HISTORY lines that say what this is the residual of and how that was denoised
        (a dict the strings ``RESIDUAL`` and ``RESIDREC``), but not ``DENOISED``, since a residual
        is no denoised frame; they are left out where ``astrodenoise.conf.auto_logging`` is `False`.

    Raises
    ------
    TypeError
        If one of the two is no frame.
    ValueError
        If their shapes differ, or one of them is empty or has no valid pixel.
    `~astropy.units.UnitsError`
        If their units differ.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import denoise, residual
    >>> frame = np.random.default_rng(0).normal(100, 5, (96, 96))
    >>> removed = residual(frame, denoise(frame))
    >>> bool(4.5 < removed.std() < 5.5)
    True
    """
    frame, other = open_frame(ccd), open_frame(clean)
    shapes = [one.data.shape[3 - one.ndim :] for one in (frame, other)]
    if shapes[0] != shapes[1]:
        msg = (
            f'ccd has the shape {shapes[0]} and clean {shapes[1]}; expected a frame and its '
            'denoised version, which have the same.'
        )
        raise ValueError(msg)
    if frame.unit != other.unit:
        msg = (
            f'ccd is in {frame.unit or "no unit"} and clean in {other.unit or "no unit"}; expected '
            'a frame and its denoised version, which have the same. Convert one of them.'
        )
        raise u.UnitsError(msg)
    with np.errstate(invalid='ignore'):  # infinity minus infinity
        removed = (frame.data - other.data).astype(frame.data.dtype, copy=False)
    frame.valid[:] = True  # masked pixels are differences, too, and not the original's values
    result = frame.close(removed)
    if frame.meta is not None:
        write_residual_of(result.meta, other.meta, frame=identity_of(frame))
    return result


def whole_residual(frame, noise, clean):
    """
    Give what full strength takes out of a frame, whatever was taken out of it.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.  Its ``valid`` is no more what it was.
    noise : `numpy.ndarray`, (N, H, W)
        What is removed at full strength.
    clean : object
        What was made of the frame, for the record.

    Returns
    -------
    removed : object
        Of the frame's type; `astrodenoise.blend` takes it.
    """
    identity = identity_of(frame)
    for one in {id(f): f for f in (frame, getattr(frame, 'whole', frame))}.values():
        one.valid[:] = True
    noise = np.where(np.isfinite(frame.data), noise, noise.dtype.type(np.nan))
    result = frame.close(noise)
    if frame.meta is not None:
        write_residual_of(result.meta, clean.meta, frame=identity, whole=True)
    return result


def identity_of(frame):
    """
    Give what the pixels of a frame are known by.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.

    Returns
    -------
    digits : str
        12 hex digits of the SHA-256 of its pixels, however they are stored.
    """
    pixels = getattr(frame, 'whole', frame).data
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('<'))
    return hashlib.sha256(memoryview(pixels).cast('B')).hexdigest()[:12]
