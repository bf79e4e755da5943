# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
One image of a file: denoised as a whole, piece by piece, or a part of it.

The arguments are those of ``astrodenoise denoise``.
"""

import dataclasses
import math

from astrodenoise.atomic import atomic_write
from astrodenoise.console import show_warnings

__all__ = ['LARGE', 'as_fits', 'denoise_image']

LARGE = 2**24  # pixels, beyond which a frame is read and written piece by piece


def as_fits(context):
    """
    Give the context of what is made of an image and is written as FITS, whatever its file is.

    Parameters
    ----------
    context : `~astrodenoise.filecontext.FrameContext`
        Of the image.

    Returns
    -------
    context : `~astrodenoise.filecontext.FrameContext`
        Of a FITS image, with no cards but those of its ``meta``.
    """
    return dataclasses.replace(context, kind='fits', scale=1.0, cards=(), keywords=(), extras={})


def denoise_image(job, context, read, args, *, progress_bar=None, several=False):
    """
    Denoise one image of a file.

    Parameters
    ----------
    job : `astrodenoise.batch.Job`
        The file, and what is written.
    context : `~astrodenoise.filecontext.FrameContext`
        Of the image.
    read : callable
        What `astrodenoise.files.open_frames` gave.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``, filled in.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.
    several : bool, optional
        Whether the file has others that are denoised.

    Returns
    -------
    context : `~astrodenoise.filecontext.FrameContext`
        Of what is written.
    clean : `~astropy.nddata.CCDData`
        The denoised image.
    removed, mask : `~astropy.nddata.CCDData` or None
        All of the noise that was found, and the mask of the stars, where they are asked for.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As `astrodenoise.denoise`.
    """
    from astrodenoise.diskframes import DiskFrame
    from astrodenoise.frames import open_frame

    name = f'{job.source}[{context.label}]' if several else job.source
    with show_warnings(args, name):
        try:
            if args.preview is not None:
                return *_previewed(context, read, args, progress_bar), None, None
            if _goes_in_pieces(job, context, args):
                ccd = read(context, in_pieces=True)
                if ccd is not None and _can_be_told(ccd, args):
                    frame = DiskFrame(ccd, job.target.parent)
                    clean, _ = _denoised(frame, ccd, context, args, progress_bar)
                    return context, clean, None, None
            ccd = _read_whole(context, read, args)
            mask = None if job.mask is None else _found_stars(ccd, context, args)
            clean, removed = _denoised(
                open_frame(ccd), ccd, context, args, progress_bar,
                with_residual=job.residual is not None,
            )  # fmt: skip
            if removed is not None:
                _with_header(removed, clean)
        except (TypeError, ValueError) as error:
            if not several or str(error).startswith(job.source):
                raise
            msg = f'{name}: {error}'
            raise ValueError(msg) from error
    return context, clean, removed, mask


def _with_header(removed, clean):
    """Give the residual of a picture the header that it has none of."""
    from astropy.io import fits

    from astrodenoise.provenance import read_residual_of, write_residual_of

    if not isinstance(removed.meta, fits.Header):
        frame = read_residual_of(removed.meta).get('frame')
        removed.meta = fits.Header()
        write_residual_of(removed.meta, clean.meta, frame=frame, whole=True)


def _read_whole(context, read, args):
    """Read an image with all that belongs to it."""
    ccd = read(context)
    if context.weight and all(one is None for one in (args.noise, args.gain, args.noise_file)):
        from astrodenoise.weightmap import fit_level

        fit_level(ccd, saturation=args.saturation)
    return ccd


def _goes_in_pieces(job, context, args):
    """Whether a frame is too large to be held in memory without need."""
    return (
        context.kind == 'fits'
        and math.prod(context.shape) > LARGE
        and job.residual is None
        and job.mask is None
        and not args.bayer
        and not isinstance(args.star_mask, str)
        and job.target.suffix.lower() != '.fz'
    )


def _can_be_told(ccd, args):
    """Whether the error that is predicted can be given as the frame's own kind."""
    from astropy.nddata import StdDevUncertainty

    return args.uncertainty != 'predict' or isinstance(
        ccd.uncertainty, StdDevUncertainty | type(None)
    )


def _denoised(frame, ccd, context, args, progress_bar, *, with_residual=False):
    """Denoise an opened frame, in memory or piece by piece; and what full strength removes."""
    from astrodenoise import residual
    from astrodenoise.core import denoise_frame
    from astrodenoise.mosaic import as_mosaic

    settings = _settings(context, args, progress_bar, in_pieces=frame.data is None)
    frame = as_mosaic(frame, args.bayer, channels=settings.channels)
    earlier, looked = _looks(frame, ccd, args)
    # at full strength what is removed is what is missing
    needs_more = with_residual and not settings.controls.usual
    result = denoise_frame(
        frame,
        settings,
        **earlier,
        star_mask=_given_star_mask(context, args),
        saturation=args.saturation,
        with_residual=needs_more,
        looked=looked,
    )
    if needs_more:
        return result
    return result, residual(ccd, result) if with_residual else None


def _previewed(context, read, args, progress_bar):
    """Denoise a part of an image: its context, and the part."""
    from astrodenoise.frames import open_frame
    from astrodenoise.mosaic import as_mosaic
    from astrodenoise.pieces import PiecewiseFrame
    from astrodenoise.preparation import start_of
    from astrodenoise.preview import cutout_of, moved_cards, part_around

    whole = context.kind != 'fits' or context.weight or args.bayer
    ccd = None if whole else read(context, in_pieces=True)
    frame = open_frame(_read_whole(context, read, args)) if ccd is None else PiecewiseFrame(ccd)
    settings = _settings(context, args, progress_bar, in_pieces=frame.data is None)
    frame = as_mosaic(frame, args.bayer, channels=settings.channels)
    part = part_around(frame, *args.preview)
    earlier, looked = _looks(frame, frame.original, args)
    start = start_of(
        frame, settings, **earlier, star_mask=_given_star_mask(context, args),
        saturation=args.saturation,
    )  # fmt: skip
    looked(frame, start.known)
    clean = cutout_of(frame, start, part)
    cards = moved_cards(context.cards, part)
    return dataclasses.replace(context, shape=clean.shape, cards=cards), clean


def _looks(frame, ccd, args):
    """What an earlier look at a frame tells, and what is to be done after this one."""
    earlier = {'noise': _given_noise(ccd, args)}
    if not (args.noise_file or args.save_noise):
        return earlier, lambda *_: None
    from astrodenoise.noisefiles import frame_key, known_text, read_noise_file

    key = frame_key(frame)
    if args.noise_file:
        earlier['noise'], known_of = read_noise_file(args.noise_file)
        earlier['known'] = known_of(key, args.saturation)

    def save(frame, known):
        if args.save_noise:
            text = known_text(frame, known, key, saturation=args.saturation)
            with atomic_write(args.save_noise, overwrite=args.overwrite) as handle:
                handle.write(text.encode())

    return earlier, save


def _settings(context, args, progress_bar=None, *, in_pieces=False):
    """Give what does not depend on the frame, checked."""
    from astrodenoise.options import Options

    uncertainty = None if args.uncertainty == 'none' else args.uncertainty
    if in_pieces and uncertainty == 'keep':  # as it is, in the file
        uncertainty = None
    settings = Options(
        overlap=args.overlap,
        model=args.model,
        strength=args.strength,
        strength_chroma=args.strength_chroma,
        strength_coarse=args.strength_coarse,
        keep_grain=args.keep_grain,
        limit=args.limit,
        channels=args.channels or context.channels,
        uncertainty=uncertainty,
        tile_size=args.tile_size,
        blend=args.blend,
        device=args.device,
        precision=args.precision,
        progress_bar=progress_bar,
    )
    settings.check()
    return settings


def _given_noise(ccd, args):
    if args.gain is None:
        return args.noise
    from astropy import units as u

    return args.gain * u.electron / ccd.unit, args.read_noise * u.electron


def _given_star_mask(context, args):
    """Read the mask that protects stars; True where they are to be found."""
    if not isinstance(args.star_mask, str):
        return args.star_mask
    from astrodenoise.companions import read_plane
    from astrodenoise.files import read_mask_picture

    option = '--star-mask'
    if args.star_mask.lower().endswith(('.png', '.tif', '.tiff', '.xisf')):
        return read_mask_picture(args.star_mask, context.shape, option=option)
    plane, _ = read_plane(
        args.star_mask, context.path, key=context.key, shape=context.shape, option=option
    )
    return plane


def _found_stars(ccd, context, args):
    """Make a frame of the mask of the stars: 0 to 1, as `denoise` takes it."""
    from astropy.nddata import CCDData

    from astrodenoise import star_mask

    noise = _given_noise(ccd, args)
    mask = _given_star_mask(context, args)
    if mask is None or mask is True:
        mask = star_mask(ccd, noise=noise, saturation=args.saturation)
    meta = ccd.meta.copy()
    meta.add_history('astrodenoise: this is the mask of its stars, 0 to 1')
    return CCDData(mask, unit='', meta=meta)


