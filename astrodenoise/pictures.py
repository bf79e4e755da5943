# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""PNG and TIFF pictures, grey or RGB: read and written in their own depth."""

import struct
import warnings
import zlib

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from astrodenoise.filecontext import FrameContext, FrameError

__all__ = [
    'PNG_SIGNATURE',
    'picture_pixels',
    'read_png',
    'read_tiff',
    'write_png',
    'write_tiff',
]

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Chunks that describe the picture whatever its pixels are: colour, size on paper, text.
_PNG_KEPT = {b'iCCP', b'gAMA', b'cHRM', b'sRGB', b'pHYs', b'tEXt', b'zTXt', b'iTXt', b'eXIf'}
_ICC_PROFILE = 34675  # TIFF tag


def _picture_frame(path, kind, pixels, unit, extras):
    """Make the frame and context of a picture whose pixels are (H, W) or (H, W, 3)."""
    data = pixels if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    channels = 'joint' if data.ndim == 3 else None
    context = FrameContext(path, kind, data.dtype, channels=channels, extras=extras)
    return CCDData(data, unit=u.adu if unit is None else u.Unit(unit)), context


def picture_pixels(data, dtype):
    """
    Give the pixels of a picture: rounded and clipped to its range.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W) or (3, H, W), float
        A frame.
    dtype : `numpy.dtype`
        The picture's type.

    Returns
    -------
    pixels : `numpy.ndarray`, (H, W) or (H, W, 3)
        Of that type.
    """
    if dtype.kind == 'u':
        # A value that is no number has no grey level either: black.
        data = np.nan_to_num(np.rint(data), nan=0.0)
        data = np.clip(data, 0, np.iinfo(dtype).max)
    pixels = data if data.ndim == 2 else np.moveaxis(data, 0, -1)
    return np.ascontiguousarray(pixels, dtype=dtype.newbyteorder('='))


def _refuse_picture(path, what):
    msg = f'{path}: {what}; save it as grey or RGB with 8 or 16 bits, without an alpha channel'
    raise FrameError(msg)


def read_png(path, unit=None):
    """
    Read a PNG picture, grey or RGB.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    unit : str or `~astropy.units.Unit`, optional
        The unit of the pixels, adu by default.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame, (H, W) or (3, H, W).
    context : `~astrodenoise.filecontext.FrameContext`
        For writing.

    Raises
    ------
    FrameError
        If it is no such picture, or the library that reads it is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        msg = f'{path}: reading PNG needs Pillow: pip install pillow'
        raise FrameError(msg) from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # mosaics are large
        image = Image.open(path)
    with image:
        if image.mode not in ('L', 'I;16', 'RGB') or 'transparency' in image.info:
            _refuse_picture(path, f'is PNG of mode {image.mode} or with transparency')
        is_deep_colour = image.tile[0].args == 'RGB;16B'
        pixels = np.array(image)
    if is_deep_colour:
        # Pillow gives the high bytes alone; read as little-endian, it gives the low ones.
        with Image.open(path) as image:
            image.tile = [image.tile[0]._replace(args='RGB;16L')]
            pixels = pixels.astype(np.uint16) << 8 | np.asarray(image)
    return _picture_frame(path, 'png', pixels, unit, {'chunks': _png_chunks(path)})


def _png_chunks(path):
    """Chunks of a PNG file that are written back."""
    content = path.read_bytes()
    kept, place = [], len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack('>I', content[place : place + 4])
        name = content[place + 4 : place + 8]
        if name in _PNG_KEPT:
            kept.append((name, content[place + 8 : place + 8 + length]))
        place += length + 12
    return kept


def _png_chunk(name, body):
    checksum = struct.pack('>I', zlib.crc32(name + body))
    return struct.pack('>I', len(body)) + name + body + checksum


def write_png(handle, pixels, extras):
    """
    Write a PNG picture. Pillow writes no 16-bit colour.

    Parameters
    ----------
    handle : file object
        Open for writing bytes.
    pixels : `numpy.ndarray`, (H, W) or (H, W, 3)
        In the picture's own type.
    extras : dict
        What is written beside the pixels.
    """
    height, width = pixels.shape[:2]
    depth, colour = 8 * pixels.dtype.itemsize, 2 if pixels.ndim == 3 else 0
    rows = pixels.astype(pixels.dtype.newbyteorder('>'), copy=False).reshape(height, -1)
    rows = np.ascontiguousarray(rows).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = 2  # each row less the one above: packs better
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    handle.write(PNG_SIGNATURE)
    head = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    handle.write(_png_chunk(b'IHDR', head))
    for name, body in extras.get('chunks', ()):
        handle.write(_png_chunk(name, body))
    handle.write(_png_chunk(b'IDAT', zlib.compress(filtered.tobytes(), 6)))
    handle.write(_png_chunk(b'IEND', b''))


def _import_tifffile(path):
    try:
        import tifffile
    except ImportError as error:
        msg = f'{path}: TIFF needs tifffile: pip install tifffile'
        raise FrameError(msg) from error
    return tifffile


def read_tiff(path, unit=None):
    """
    Read a TIFF picture, grey or RGB.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    unit : str or `~astropy.units.Unit`, optional
        The unit of the pixels, adu by default.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame, (H, W) or (3, H, W).
    context : `~astrodenoise.filecontext.FrameContext`
        For writing.

    Raises
    ------
    FrameError
        If it is no such picture, or the library that reads it is missing.
    """
    tifffile = _import_tifffile(path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if len(file.pages) > 1:
            _refuse_picture(path, f'holds {len(file.pages)} pages and one is expected')
        if page.extrasamples or page.axes not in ('YX', 'YXS', 'SYX'):
            _refuse_picture(path, f'has an alpha channel or is no picture (axes {page.axes})')
        pixels = page.asarray()
        profile = page.tags.get(_ICC_PROFILE)
        extras = {'iccprofile': profile.value if profile else None}
        extras['description'] = page.description or None
    if page.axes == 'SYX':
        pixels = np.moveaxis(pixels, 0, -1)
    is_known_type = pixels.dtype in (np.uint8, np.uint16, np.float32, np.float64)
    if not is_known_type or pixels.shape[2:] not in ((), (3,)) or page.photometric == 3:
        _refuse_picture(path, f'is TIFF of type {pixels.dtype} and shape {pixels.shape}')
    return _picture_frame(path, 'tiff', pixels, unit, extras)


def write_tiff(handle, pixels, extras):
    """
    Write a TIFF picture.

    Parameters
    ----------
    handle : file object
        Open for writing bytes.
    pixels : `numpy.ndarray`, (H, W) or (H, W, 3)
        In the picture's own type.
    extras : dict
        What is written beside the pixels.
    """
    tifffile = _import_tifffile(handle.name)
    tifffile.imwrite(
        handle,
        pixels,
        photometric='rgb' if pixels.ndim == 3 else 'minisblack',
        metadata=None,
        iccprofile=extras.get('iccprofile'),
        description=extras.get('description'),
        software='astrodenoise',
    )
