# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Pictures: PNG, grey or RGB, in their own depth, and what other kinds of them need, too."""

import dataclasses
import re
import struct
import threading
import warnings
import zlib

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from astrodenoise.exceptions import ClippedWarning
from astrodenoise.filecontext import FrameContext, FrameError, missing_package

__all__ = [
    'PNG_SIGNATURE',
    'at_depth',
    'in_range',
    'picture_frame',
    'picture_pixels',
    'read_png',
    'record_texts',
    'refuse_picture',
    'write_png',
]

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Chunks that describe the picture whatever its pixels are: colour, size on paper, text.
_PNG_KEPT = {
    *(b'iCCP', b'gAMA', b'cHRM', b'cICP', b'sRGB'),
    *(b'pHYs', b'tEXt', b'zTXt', b'iTXt', b'eXIf'),
}
_PNG_COLOURS = {3: 'has a palette of colours', 4: 'has an alpha channel', 6: 'has an alpha channel'}
_RECORD = b'astrodenoise\0'  # begins the text chunk of a record
_RECORD_KEY = re.compile(r'DENOIS\d{2,}')  # as `astrodenoise.provenance` calls them in a dict
_RATIO = 1040  # bytes that a byte of deflate can stand for at most
_ADVICE = {
    'alpha': 'flatten it or remove the channel, then ',
    'palette': 'convert it to RGB, then ',
    'two levels': 'go back to the original, and ',
}
_DEPTHS = {'16': np.dtype(np.uint16), '32f': np.dtype(np.float32)}
_ORDER = [np.dtype(name) for name in ('u1', 'u2', 'u4', 'f4', 'f8')]  # of depths
_pillow_lock = threading.Lock()


def refuse_picture(path, what, advice=''):
    """
    Refuse a picture of a kind that would lose something.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    what : str
        What it is or has.
    advice : str, optional
        What to do first, ending in ', then '.

    Raises
    ------
    FrameError
        Always.
    """
    msg = f'{path}: {what}; {advice}save it as grey or RGB with 8 or 16 bits, without alpha'
    raise FrameError(msg)


def picture_frame(path, kind, pixels, unit, extras, records=()):
    """
    Make the frame and the context of a picture.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    kind : str
        Its format.
    pixels : `numpy.ndarray`, (H, W) or (H, W, 3)
        As in the file.
    unit : str, `~astropy.units.Unit` or None
        Of the pixels, adu where it is None.
    extras : dict
        What is written back beside the pixels.
    records : sequence of str, optional
        Of the denoising, first to last.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame, (H, W) or (3, H, W).
    context : `~astrodenoise.filecontext.FrameContext`
        For writing.
    """
    data = pixels if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    data = data.astype(data.dtype.newbyteorder('='), copy=False)
    channels = 'joint' if data.ndim == 3 else None
    context = FrameContext(path, kind, data.dtype, channels=channels, extras=extras)
    meta = {'DENOISED': True} if records else {}
    meta |= {f'DENOIS{i:02d}': text for i, text in enumerate(records, start=1)}
    return CCDData(data, unit=u.adu if unit is None else u.Unit(unit), meta=meta), context


def record_texts(meta):
    """
    Give the records of the denoising of a picture.

    Parameters
    ----------
    meta : dict
        Of the frame.

    Returns
    -------
    records : list of str
        First to last.
    """
    return [str(value) for key, value in meta.items() if _RECORD_KEY.fullmatch(str(key))]


def at_depth(context, depth):
    """
    Give the context of a picture that is written in a greater depth.

    Parameters
    ----------
    context : `~astrodenoise.filecontext.FrameContext`
        As it was read.
    depth : {'16', '32f'} or None
        Bits of a sample, ``f`` for floating point, where the whole range becomes 0 to 1. None
        keeps that of the file.

    Returns
    -------
    context : `~astrodenoise.filecontext.FrameContext`
        For writing.

    Raises
    ------
    FrameError
        If the file is no picture, or deeper already.
    """
    if depth is None:
        return context
    if context.kind == 'fits':
        msg = f'{context.path}: FITS is always written as floating point: leave --depth out'
        raise FrameError(msg)
    old, new = context.dtype, _DEPTHS[depth]
    if _ORDER.index(new) < _ORDER.index(old):
        msg = f'{context.path}: its pixels are {old}, more than --depth {depth}: leave it out'
        raise FrameError(msg)
    tops = [np.iinfo(dtype).max if dtype.kind == 'u' else 1 for dtype in (old, new)]
    scale = 1.0 if old == new else tops[1] / tops[0]
    return dataclasses.replace(context, dtype=new, scale=scale)


def in_range(data, context, path):
    """
    Give samples in the type of the file to write, rounded and clipped where that is of integers.

    Parameters
    ----------
    data : `numpy.ndarray`
        Of any shape and type.
    context : `~astrodenoise.filecontext.FrameContext`
        With the type.
    path : str or `~os.PathLike`
        The file that will be written, for the warning.

    Returns
    -------
    samples : `numpy.ndarray`
        Of the type, in this machine's byte order.
    """
    dtype = context.dtype.newbyteorder('=')
    if context.scale != 1:
        data = data * np.float64(context.scale)
    if dtype.kind != 'u' or data.dtype == dtype:
        return data.astype(dtype, copy=False)
    top = np.iinfo(dtype).max
    if dtype.itemsize > 2:
        data = data.astype(np.float64)  # float32 would round its greatest value up
    data = np.rint(data)
    outside = data.size - np.count_nonzero((data >= 0) & (data <= top))
    if outside:
        name = ' under a name that ends in .tif' if str(path).lower().endswith('.png') else ''
        warnings.warn(
            f'{path}: {outside} of {data.size} pixel values lay outside 0 to {top} and were '
            f'clipped; --depth 32f keeps them{name}',
            ClippedWarning,
            stacklevel=2,
        )
        # A value that is no number has no grey level either: black.
        data = np.clip(np.nan_to_num(data, nan=0.0), 0, top)
    return data.astype(dtype)


def picture_pixels(data, context, path):
    """
    Give the pixels of a picture.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W) or (3, H, W), float
        A frame.
    context : `~astrodenoise.filecontext.FrameContext`
        With the picture's type.
    path : str or `~os.PathLike`
        The file that will be written, for the warning.

    Returns
    -------
    pixels : `numpy.ndarray`, (H, W) or (H, W, 3)
        Of that type.
    """
    data = in_range(data, context, path)
    return np.ascontiguousarray(data if data.ndim == 2 else np.moveaxis(data, 0, -1))


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
        raise missing_package(path, 'reading PNG', 'pillow') from error
    chunks = _png_chunks(path)
    _check_png(path, chunks)
    with _open_large(Image, path) as image:
        if image.mode not in ('L', 'I;16', 'RGB'):
            refuse_picture(path, f'is PNG of mode {image.mode}')
        is_deep_colour = image.tile[0].args == 'RGB;16B'
        pixels = np.array(image)
    if is_deep_colour:
        # Pillow gives the high bytes alone; read as little-endian, it gives the low ones.
        with _open_large(Image, path) as image:
            image.tile = [image.tile[0]._replace(args='RGB;16L')]
            pixels = pixels.astype(np.uint16) << 8 | np.asarray(image)
    records = [body[len(_RECORD) :] for name, body in chunks if _is_record(name, body)]
    kept = [chunk for chunk in chunks if chunk[0] in _PNG_KEPT and not _is_record(*chunk)]
    extras = {'chunks': kept, 'iccprofile': _png_profile(kept)}
    return picture_frame(
        path, 'png', pixels, unit, extras, [text.decode('latin-1') for text in records]
    )


def _open_large(image_module, path):
    """Open a picture of any size: what it declares was compared with what is there."""
    with _pillow_lock:
        limit, image_module.MAX_IMAGE_PIXELS = image_module.MAX_IMAGE_PIXELS, None
        try:
            return image_module.open(path)
        finally:
            image_module.MAX_IMAGE_PIXELS = limit


def _check_png(path, chunks):
    """Refuse what is no grey or RGB picture, or declares more than it can hold."""
    names = [name for name, _ in chunks]
    if names[:1] != [b'IHDR'] or len(chunks[0][1]) != 13:
        msg = 'it has no header'
        raise ValueError(msg)
    width, height, bits, colour = struct.unpack('>IIBB', chunks[0][1][:10])
    if colour in _PNG_COLOURS or b'tRNS' in names:
        kind = 'palette' if colour == 3 else 'alpha'
        what = _PNG_COLOURS.get(colour, 'has a transparent colour')
        refuse_picture(path, f'is PNG and {what}', _ADVICE[kind])
    if b'acTL' in names:
        refuse_picture(path, 'is PNG with several pictures', 'take the one to denoise, then ')
    if bits == 1:
        refuse_picture(path, 'is PNG with 1 bit, black and white', _ADVICE['two levels'])
    there = sum(len(body) for name, body in chunks if name == b'IDAT')
    declared = height * (width * bits * (3 if colour == 2 else 1) // 8)
    if declared > there * _RATIO + 1024:
        msg = f'it is {width} x {height} by its header, and {there} bytes of pixels are there'
        raise ValueError(msg)


def _png_chunks(path):
    """Names and contents of all chunks of a PNG file."""
    content = memoryview(path.read_bytes())
    chunks, place = [], len(PNG_SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack('>I', content[place : place + 4])
        body = content[place + 8 : place + 8 + length]
        name = bytes(content[place + 4 : place + 8])
        chunks.append((name, body if name == b'IDAT' else bytes(body)))
        place += length + 12
    return chunks


def _is_record(name, body):
    return name == b'tEXt' and bytes(body[: len(_RECORD)]) == _RECORD


def _png_profile(chunks):
    """ICC profile of a PNG file, None where there is none that can be used."""
    for name, body in chunks:
        if name == b'iCCP':
            try:
                return zlib.decompress(body.partition(b'\0')[2][1:])
            except zlib.error:
                return None
    return None


def _png_chunk(name, body):
    checksum = struct.pack('>I', zlib.crc32(name + body))
    return struct.pack('>I', len(body)) + name + body + checksum


def write_png(handle, pixels, extras, records=()):
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
    records : sequence of str, optional
        Of the denoising, first to last.
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
    chunks = extras.get('chunks', ())
    if extras.get('iccprofile') and not chunks:  # of a picture of another kind
        packed = zlib.compress(extras['iccprofile'])
        handle.write(_png_chunk(b'iCCP', b'ICC profile\0\0' + packed))
    for name, body in chunks:
        handle.write(_png_chunk(name, body))
    for text in records:
        handle.write(_png_chunk(b'tEXt', _RECORD + text.encode('latin-1', 'replace')))
    handle.write(_png_chunk(b'IDAT', zlib.compress(filtered.tobytes(), 6)))
    handle.write(_png_chunk(b'IEND', b''))
