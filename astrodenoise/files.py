# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Frames in files: read them, write them back with nothing changed but the pixels.

A FITS file is copied byte for byte around the images that were chosen, so
that every other HDU, and every card of an image's own header that does not
describe how its pixels are stored, stays as it was (broken cards too). The
pixels are written as floating point, lossless. The output's name decides how:
``.fz`` tile-compresses the image (GZIP_2; Astropy mends broken cards there),
``.gz`` compresses the whole file, any other name gives a plain image, whatever
the input was.

PNG and TIFF pictures (grey or RGB) and XISF images keep their depth, or get a
greater one: where it is of integers, the denoised values are rounded, and
clipped to its range with a warning. An XISF file is copied around its images.
"""

import contextlib
import dataclasses
import gzip
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from astrodenoise.atomic import atomic_write, check_target
from astrodenoise.filecontext import FrameError
from astrodenoise.fitsfiles import FitsImages
from astrodenoise.fitswriter import fits_writer
from astrodenoise.pictures import (
    PNG_SIGNATURE,
    picture_pixels,
    read_png,
    record_texts,
    write_png,
)
from astrodenoise.provenance import read_provenance
from astrodenoise.tiffpictures import read_tiff, write_tiff
from astrodenoise.xisffiles import XisfImages, xisf_writer

__all__ = [
    'check_output',
    'frame_writer',
    'open_frames',
    'read_frame',
    'read_mask_picture',
    'read_records',
    'write_frame',
]

_SUFFIXES = {'.png': 'png', '.tif': 'tiff', '.tiff': 'tiff', '.xisf': 'xisf'}
_WANTED = {'fits': '.fits', 'png': '.png or .tif', 'tiff': '.tif or .png', 'xisf': '.xisf'}
_XISF = b'XISF0100'


def open_frames(path, *, ext=None, unit=None, planes=None):
    """
    Look into a FITS, XISF, PNG or TIFF file for its frames.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file. FITS may be plain, gzipped or tile-compressed, with any
        number of extensions.
    ext : int, str or list of them, optional
        The FITS images to read: number (0 is the primary HDU), name (``'SCI'``),
        name and version (``'SCI,2'``), or ``'all'`` that are frames of the sky.
        The default is the first of these. Images of XISF have numbers from 0 on
        and may have names.
    unit : str or `~astropy.units.Unit`, optional
        The unit of the pixels. The default is the header's ``BUNIT``, or
        ``adu`` where that is missing or no unit; the card itself stays as it is.
    planes : `~astrodenoise.companions.PlaneFiles`, optional
        Uncertainty and mask from other files.

    Returns
    -------
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        One per image, in the order of the file, for ``read`` and `write_frame`.
    read : callable
        Gives the `~astropy.nddata.CCDData` of one of them, as `read_frame` does, weights included
        (`astrodenoise.weightmap` finds their level). With ``in_pieces=True`` the pixels of a FITS
        image are read when they are sliced; None where its storage does not allow it.

    Raises
    ------
    FrameError
        If the file is missing, damaged, of another format, or has no such image.
    """
    path = Path(path)
    kind = _sniff(path)
    if kind != 'fits' and planes is not None:
        msg = f'{path}: {kind.upper()} has no companion planes; save it as FITS'
        raise FrameError(msg)
    if kind in ('png', 'tiff') and ext is not None:
        msg = f'{path}: a {kind.upper()} picture has no extensions, {ext!r}'
        raise FrameError(msg)
    with _named_errors(path, kind):
        if kind == 'fits':
            images = FitsImages(path, ext=ext, unit=unit, planes=planes)
        elif kind == 'xisf':
            images = XisfImages(path, ext=ext, unit=unit)
        else:
            ccd, context = {'png': read_png, 'tiff': read_tiff}[kind](path, unit)
    if kind in ('png', 'tiff'):
        return [dataclasses.replace(context, shape=ccd.shape)], lambda _, **__: ccd

    def read(context, *, in_pieces=False):
        with _named_errors(path, kind):
            is_sliced = in_pieces and kind == 'fits'
            return images.read_in_pieces(context) if is_sliced else images.read(context)

    return images.contexts, read


@contextlib.contextmanager
def _named_errors(path, kind):
    """Raise whatever a damaged file leads to as an error that names it."""
    try:
        with warnings.catch_warnings():
            # Headers in the wild break the standard; what cannot be used is raised below.
            warnings.simplefilter('ignore', AstropyWarning)
            yield
    except (FrameError, MemoryError):
        raise
    except Exception as error:
        reason = str(error)
        if not isinstance(error, (OSError, ValueError)):  # what readers stumble over, not say
            reason = f'it is damaged, or not of the standard ({type(error).__name__}: {error})'
        msg = f'{path}: cannot be read as {kind.upper()}: {reason}'
        raise FrameError(msg) from error


def read_frame(path, *, ext=None, unit=None, planes=None):
    """
    Read one frame from a FITS, XISF, PNG or TIFF file.

    Parameters
    ----------
    path : str or `~os.PathLike`
        As for `open_frames`.
    ext : int or str, optional
        As for `open_frames`, of one image.
    unit : str or `~astropy.units.Unit`, optional
        As for `open_frames`.
    planes : `~astrodenoise.companions.PlaneFiles`, optional
        As for `open_frames`.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame, (H, W) or (N, H, W), in the file's own type and byte order,
        with the header as its ``meta`` (world coordinates included, ``wcs`` is
        not set). Extensions of the same shape and version are its uncertainty
        and mask, see `astrodenoise.fitslayouts`; a weight, whose level may be any, is left out.
    context : `~astrodenoise.filecontext.FrameContext`
        For `write_frame`.

    Raises
    ------
    FrameError
        If the file is missing, damaged, of another format, or has no such image.
    """
    contexts, read = open_frames(path, ext=ext, unit=unit, planes=planes)
    ccd = read(contexts[0])
    if contexts[0].weight:
        ccd.uncertainty = None
    return ccd, contexts[0]


def read_records(path):
    """
    Read what each image of a file says of its denoising.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.

    Returns
    -------
    records : list of ((str, int), dict)
        Name and version of each image, HDU or picture, with the record of its last denoising;
        empty where it has none.

    Raises
    ------
    FrameError
        If the file is missing, damaged or of another format.
    """
    path = Path(path)
    kind = _sniff(path)
    if kind in ('png', 'tiff'):
        ccd, context = read_frame(path)
        return [(context.key, read_provenance(ccd))]
    with _named_errors(path, kind):
        if kind == 'xisf':
            return [(key, read_provenance(header)) for key, header in XisfImages(path).headers()]
        with fits.open(path) as hdus:
            return [((hdu.name, hdu.ver), read_provenance(hdu.header)) for hdu in hdus]


def read_mask_picture(path, shape, *, option):
    """
    Read a mask that was painted or edited as a picture.

    Parameters
    ----------
    path : str or `~os.PathLike`
        A PNG, TIFF or XISF file, grey; black is 0, white is 1, floating point is taken as it is.
    shape : tuple of int
        That of the frame.
    option : str
        What the user gave the name to, for the messages.

    Returns
    -------
    mask : `numpy.ndarray`, (H, W)
        Floating point.

    Raises
    ------
    FrameError
        If it cannot be read, or is of another shape.
    """
    ccd, context = read_frame(path)
    if ccd.shape != shape[-2:]:
        msg = f'{option} {path}: its shape is {ccd.shape}, that of the image {shape}'
        raise FrameError(msg)
    top = 1 if context.dtype.kind == 'f' else np.iinfo(context.dtype).max
    return ccd.data.astype(np.float32) / np.float32(top)


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
    dropped = [] if keep_uncertainty or alone else [context.uncertainty_span]
    with frame_writer(path, [context], overwrite=overwrite, dropped=dropped, alone=alone) as writer:
        writer.write(ccd, context)


@contextlib.contextmanager
def frame_writer(path, contexts, *, overwrite=False, dropped=(), alone=False):
    """
    Write several frames as their file was.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write. It appears when it is complete, or not at all.
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        Of the frames that will be written, as `open_frames` gave them.
    overwrite : bool, optional
        Replace a file of that name.
    dropped : sequence of (int, int) or None, optional
        First and last byte of HDUs of the original that are left out.
    alone : bool, optional
        Write the images and their headers only, without the other HDUs.

    Yields
    ------
    writer : object
        ``writer.write(ccd, context)`` takes one frame after the other, in the order of
        ``contexts``; ``writer.append(name, values, context, comment)`` adds a plane of a FITS
        image as an extension at the end of the file.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set.
    FrameError
        If the format of the input cannot be written under this name.
    """
    check_output(path, contexts[0], overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(atomic_write(path, overwrite=overwrite))
        if contexts[0].kind == 'xisf':
            yield stack.enter_context(xisf_writer(handle, path, contexts, alone=alone))
            return
        if contexts[0].kind != 'fits':
            yield _PictureWriter(handle, path)
            return
        if Path(path).suffix.lower() == '.gz':
            # No name and no time inside: equal frames give equal files.
            handle = stack.enter_context(
                gzip.GzipFile('', 'wb', compresslevel=6, fileobj=handle, mtime=0)
            )
        spans = [span for span in dropped if span is not None]
        yield stack.enter_context(fits_writer(handle, path, contexts, dropped=spans, alone=alone))


class _PictureWriter:
    """Writes the one frame of a picture."""

    def __init__(self, handle, path):
        self.handle, self.path = handle, path
        self.kind = _SUFFIXES[Path(path).suffix.lower()]

    def write(self, ccd, context):
        write = {'png': write_png, 'tiff': write_tiff}[self.kind]
        pixels = picture_pixels(ccd.data, context, self.path)
        write(self.handle, pixels, context.extras, record_texts(ccd.meta))


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
    kind = _SUFFIXES.get(Path(path).suffix.lower(), 'fits')
    if kind != context.kind and {kind, context.kind} != {'png', 'tiff'}:
        msg = (
            f'{path}: {context.path.name} is {context.kind.upper()} and its output is of the same '
            f'kind; give a name that ends in {_WANTED[context.kind]}'
        )
        raise FrameError(msg)
    if kind == 'png' and context.dtype not in (np.uint8, np.uint16):
        what = 'no floating point values' if context.dtype.kind == 'f' else '16 bits at most'
        msg = f'{path}: PNG holds {what}; give a name that ends in .tif'
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
    if head.startswith(_XISF):
        return 'xisf'
    if head.startswith(PNG_SIGNATURE):
        return 'png'
    if head.startswith((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')):
        return 'tiff'
    if head.startswith(b'\xff\xd8\xff'):
        msg = (
            f'{path}: is JPEG, whose compression has changed the noise; go back to the original, '
            'and save it as TIFF with 16 bits'
        )
        raise FrameError(msg)
    reason = f'it begins with {head!r}' if head else 'it is empty'
    msg = f'{path}: is no FITS, XISF, PNG or TIFF file ({reason})'
    raise FrameError(msg)
