# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Frames in files: read them, write them back with nothing changed but the pixels.

A FITS file is copied byte for byte around the one image that was chosen, so
that every other HDU, and every card of the image's own header that does not
describe how its pixels are stored, stays as it was (broken cards too). The
pixels are written as floating point, lossless. The output's name decides how:
``.fz`` tile-compresses the image (GZIP_2; Astropy mends broken cards there),
``.gz`` compresses the whole file, any other name gives a plain image, whatever
the input was.

PNG and TIFF pictures (8 or 16 bits, TIFF also floating point, grey or RGB)
keep their depth: the denoised values are rounded and clipped to its range.
"""

import gzip
import warnings
from pathlib import Path

from astropy.utils.exceptions import AstropyWarning

from astrodenoise.atomic import atomic_write, check_target
from astrodenoise.filecontext import FrameError
from astrodenoise.fitsfiles import read_fits, write_fits
from astrodenoise.pictures import (
    PNG_SIGNATURE,
    picture_pixels,
    read_png,
    read_tiff,
    write_png,
    write_tiff,
)

__all__ = ['check_output', 'read_frame', 'write_frame']

_PICTURE_SUFFIXES = {'.png': 'png', '.tif': 'tiff', '.tiff': 'tiff'}


def read_frame(path, *, ext=None, unit=None):
    """
    Read a frame from a FITS, PNG or TIFF file.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file. FITS may be plain, gzipped or tile-compressed, with any
        number of extensions.
    ext : int or str, optional
        The FITS image to read: its number (0 is the primary HDU), its name
        (``'SCI'``) or name and version (``'SCI,2'``). The default is the first
        image with two or three axes.
    unit : str or `~astropy.units.Unit`, optional
        The unit of the pixels. The default is the header's ``BUNIT``, or
        ``adu`` where that is missing or no unit; the card itself stays as it is.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame, (H, W) or (N, H, W), in the file's own type and byte order,
        with the header as its ``meta`` (world coordinates included, ``wcs`` is
        not set). An extension ``ERR`` or ``UNCERT`` of the same shape and
        version is its uncertainty, ``DQ`` or ``MASK`` (nonzero is bad) its mask.
    context : `FrameContext`
        For `write_frame`.

    Raises
    ------
    FrameError
        If the file is missing, damaged, of another format, or has no such image.
    """
    path = Path(path)
    kind = _sniff(path)
    if kind != 'fits' and ext is not None:
        msg = f'{path}: ext={ext!r} was given, but a {kind.upper()} picture has no extensions'
        raise FrameError(msg)
    try:
        with warnings.catch_warnings():
            # Headers in the wild break the standard; what cannot be used is raised below.
            warnings.simplefilter('ignore', AstropyWarning)
            if kind == 'fits':
                return read_fits(path, ext=ext, unit=unit)
            return {'png': read_png, 'tiff': read_tiff}[kind](path, unit)
    except (FrameError, MemoryError):
        raise
    except Exception as error:
        msg = f'{path}: cannot be read as {kind.upper()}: {error}'
        raise FrameError(msg) from error


def write_frame(path, ccd, context, *, overwrite=False, keep_uncertainty=True, alone=False):
    """
    Write a frame as its file was, with its pixels and its new header cards.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write. It appears when it is complete, or not at all.
    ccd : `~astropy.nddata.CCDData`
        The frame, of the shape that was read. Cards that were added to its
        ``meta`` are appended to the header.
    context : `FrameContext`
        What `read_frame` gave with the frame.
    overwrite : bool, optional
        Replace a file of that name.
    keep_uncertainty : bool, optional
        Keep the HDU that the uncertainty was read from.
    alone : bool, optional
        Write the image and its header only, without the other HDUs.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set.
    FrameError
        If the format of the input cannot be written under this name.
    """
    check_output(path, context, overwrite=overwrite)
    if context.kind != 'fits':
        kind = _PICTURE_SUFFIXES[Path(path).suffix.lower()]
        write = {'png': write_png, 'tiff': write_tiff}[kind]
        with atomic_write(path, overwrite=overwrite) as handle:
            write(handle, picture_pixels(ccd.data, context.dtype), context.extras)
        return
    keywords = {'keep_uncertainty': keep_uncertainty, 'alone': alone}
    with atomic_write(path, overwrite=overwrite) as handle, warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyWarning)
        if Path(path).suffix.lower() == '.gz':
            # No name and no time inside: equal frames give equal files.
            with gzip.GzipFile('', 'wb', compresslevel=6, fileobj=handle, mtime=0) as packed:
                write_fits(packed, path, ccd, context, **keywords)
        else:
            write_fits(handle, path, ccd, context, **keywords)


def check_output(path, context, *, overwrite=False):
    """
    Refuse a name that `write_frame` could not write to, before any work is done.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write.
    context : `FrameContext`
        What `read_frame` gave with the frame.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set.
    FrameError
        If the format of the input cannot be written under this name.
    """
    kind = _PICTURE_SUFFIXES.get(Path(path).suffix.lower(), 'fits')
    if (kind == 'fits') != (context.kind == 'fits'):
        wanted = '.fits' if context.kind == 'fits' else '.png or .tif'
        msg = (
            f'{path}: {context.path.name} is {context.kind.upper()} and its output is of the same '
            f'kind; give a name that ends in {wanted}'
        )
        raise FrameError(msg)
    if kind == 'png' and context.dtype.kind == 'f':
        msg = f'{path}: PNG holds no floating point values; give a name that ends in .tif'
        raise FrameError(msg)
    check_target(path, overwrite=overwrite)


def _sniff(path):
    """Tell the format of a file by its first bytes."""
    try:
        with open(path, 'rb') as handle:
            head = handle.read(16)
    except OSError as error:
        msg = f'{path}: cannot be opened: {error.strerror}'
        raise FrameError(msg) from error
    if head.startswith((b'SIMPLE  =', b'\x1f\x8b')):
        return 'fits'
    if head.startswith(PNG_SIGNATURE):
        return 'png'
    if head.startswith((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')):
        return 'tiff'
    reason = f'it begins with {head!r}' if head else 'it is empty'
    msg = f'{path}: is no FITS, PNG or TIFF file ({reason})'
    raise FrameError(msg)
