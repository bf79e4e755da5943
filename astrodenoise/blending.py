# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Another strength without another run: a frame, and the noise that was removed from it.

What a run takes is a share of the noise that it removes at full strength, and so is what is taken
here, by the same arithmetic on the same numbers.
"""

import dataclasses
import itertools

import numpy as np
from astropy import units as u

from astrodenoise.controls import Controls
from astrodenoise.filecontext import FrameError
from astrodenoise.files import check_output, frame_writer, open_frames
from astrodenoise.frames import array_of, open_frame
from astrodenoise.mosaic import as_mosaic
from astrodenoise.options import check_choice, check_controls
from astrodenoise.pictures import at_depth
from astrodenoise.products import identity_of
from astrodenoise.provenance import check_keyword, read_residual_of, write_record

__all__ = ['blend', 'blend_files']


def blend(
    ccd,
    removed,
    *,
    strength=1.0,
    strength_chroma=None,
    strength_coarse=None,
    keep_grain=0.0,
    channels=None,
    add_keyword=True,
):
    """
    Denoise a frame at another strength, from the noise that one run removed.

    It is arithmetic and loads no network.  With the file that ``astrodenoise denoise --residual``
    wrote, or `~astrodenoise.residual` of a run at full strength, the result has the bits of a run
    with these strengths.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame before, (H, W) or (N, H, W), any float or integer dtype.  Not changed.
    removed : same type as ``ccd``
        What was removed from it at full strength: of ``astrodenoise denoise --residual``, or
        `~astrodenoise.residual` of a run with ``strength=1``.
    strength, strength_chroma, strength_coarse, keep_grain : float, optional
        As in `~astrodenoise.denoise`.
    channels : {None, 'separate', 'joint'}, optional
        As in `~astrodenoise.denoise`; by default what the header of ``removed`` says.
    add_keyword : bool, str, `~ccdproc.Keyword` or dict, optional
        As in `~astrodenoise.denoise`.

    Returns
    -------
    clean : same type as ``ccd``
        As `~astrodenoise.denoise` gives it.  An uncertainty is the frame's own; where it has none
        there is none.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If an argument is of a wrong type, value or unit, or ``removed`` is not of this frame or not
        of full strength.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import blend, denoise, residual
    >>> noisy = np.random.default_rng(0).normal(100, 5, (96, 96))
    >>> removed = residual(noisy, denoise(noisy))
    >>> half = blend(noisy, removed, strength=0.5)
    >>> bool(2 < half.std() < 3)
    True
    """
    controls = Controls(strength, strength_chroma, strength_coarse, keep_grain)
    check_controls(controls)
    check_choice('channels', channels, (None, 'separate', 'joint'))
    record = read_residual_of(getattr(removed, 'meta', None))
    frame = as_mosaic(open_frame(ccd), record.get('bayer') or False)
    check_keyword(add_keyword, frame.meta)
    noise = _noise_of(removed, frame, record)
    joint = (channels or record.get('channels')) == 'joint'
    controls.check(frame.shape[0], joint=joint)
    result = frame.less(noise, controls, joint=joint)
    told = controls.told(record or {'strength': 1.0})
    told.pop('frame', None)
    clean = frame.close(result)
    if frame.meta is not None:  # a mosaic would count its pixels once more
        write_record(clean.meta, told, add_keyword)
    return clean


def _noise_of(removed, frame, record):
    """Give the planes of the removed noise, checked against their frame."""
    shape, original = (np.shape(array_of(one)) for one in (removed, frame.original))
    if shape != original:
        msg = f'the residual has the shape {shape} and the frame {original}: it is of another frame'
        raise ValueError(msg)
    if record.get('frame', identity := identity_of(frame)) != identity:
        msg = (
            'the residual is of a frame with other pixels: give the very frame that was denoised, '
            'or denoise this one with --residual'
        )
        raise ValueError(msg)
    names = {field.name for field in dataclasses.fields(Controls)}
    made = Controls(**{name: record[name] for name in names & set(record)})
    if not made.usual:
        how = ', '.join(f'{name}={value}' for name, value in vars(made).items() if value)
        msg = (
            f'the residual is that of a run with {how}, which does not hold all of the noise: '
            'take that of strength 1, or what --residual wrote'
        )
        raise ValueError(msg)
    other = as_mosaic(open_frame(removed), record.get('bayer') or False)
    if other.unit != frame.unit:
        units = [one.unit or 'no unit' for one in (other, frame)]
        msg = f'the residual is in {units[0]} and the frame in {units[1]}: convert one of them'
        raise u.UnitsError(msg)
    noise = other.data.astype(frame.dtype, copy=False)
    return np.where(frame.valid & np.isfinite(noise), noise, frame.dtype.type(0))


def blend_files(
    frame, residual, output, *, ext=None, unit=None, depth=None, overwrite=False, **shares
):
    """
    Denoise a file at another strength, from the residual of one run.

    Parameters
    ----------
    frame, residual : str or path-like
        The file that was denoised, and what ``astrodenoise denoise --residual`` wrote of it.
    output : str or path-like
        The file to write.
    ext : int, str or list of them, optional
        Images of the frame, as for `astrodenoise.files.open_frames`, which the residual has in this
        order; by default those of the same names.
    unit : str or `~astropy.units.Unit`, optional
        Unit of the pixels, as for `astrodenoise.files.open_frames`.
    depth : {None, '16', '32f'}, optional
        Of a picture or XISF to write, as for ``astrodenoise denoise``.
    overwrite : bool, optional
        Replace a file of that name.
    **shares : dict
        As for `blend`.

    Raises
    ------
    FrameError
        If a file cannot be read, or the residual has other images, or no record.
    FileExistsError
        If there is a file of the output's name and ``overwrite`` is not set.
    ValueError
        If the residual is not of this frame.
    """
    removed, read_removed = open_frames(residual, **_images(residual, None), unit=unit)
    chosen, read = open_frames(frame, **_images(frame, ext), unit=unit)
    if ext is None and len(chosen) > 1:
        keys = [context.key for context in removed]
        chosen = [context for context in chosen if context.key in keys]
    if len(chosen) != len(removed):
        msg = (
            f'{residual}: has {len(removed)} images, of which {len(chosen)} are found in {frame}: '
            'say with --ext which of them were denoised'
        )
        raise FrameError(msg)
    chosen = [at_depth(context, depth) for context in chosen]
    check_output(output, chosen[0], overwrite=overwrite)

    def blended(context, other):
        noise = read_removed(other)
        if not read_residual_of(noise.meta):
            msg = (
                f'{residual}: has no record of what it is the residual of: '
                '`astrodenoise denoise --residual` writes one'
            )
            raise FrameError(msg)
        try:
            return blend(read(context), noise, **shares)
        except (TypeError, ValueError) as error:
            msg = f'{residual}: {error}'
            raise ValueError(msg) from error

    results = ((blended(*pair), pair[0]) for pair in zip(chosen, removed, strict=True))
    # the output is opened when there is something to write
    results = itertools.chain([next(results)], results)
    with frame_writer(output, chosen, overwrite=overwrite) as writer:
        for clean, context in results:
            writer.write(clean, context)


def _images(path, ext):
    """Give what is read of a file: all of its images where it may have several."""
    contexts, _ = open_frames(path)
    return {'ext': ext or 'all'} if contexts[0].kind == 'fits' else {'ext': ext}
