# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""TIFF pictures, grey or RGB: integers of 8, 16 and 32 bits and floating point."""

import logging

import numpy as np

from astrodenoise.filecontext import FrameError, missing_package
from astrodenoise.pictures import picture_frame, refuse_picture

__all__ = ['read_tiff', 'write_tiff']

_ICC_PROFILE = 34675
# ImageHistory of TIFF/EP: what was done to the picture
_HISTORY, _HISTORY_MARK = 37395, 'astrodenoise '
# Tags that are true of the picture whatever its pixels are: what it shows, with what and by whom
# it was taken, how it is turned, its white and primaries, XMP, IPTC and Photoshop's resources.
_KEPT = {
    *(269, 271, 272, 274, 285, 306, 315, 316, 318, 319, 700, 33432, 33723, 34377),
    *(36867, 37510),
}
_DTYPES = [np.dtype(name) for name in ('u1', 'u2', 'u4', 'f4', 'f8')]
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_MOST_PAGES = 1000  # that are counted
_RAW = (32803, 34892)  # photometric interpretations of raw camera files
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}
_MOST = 4100  # bytes that a byte of LZW can stand for at most; more than of deflate
_PACKED_BEST = {34925, 50000}  # LZMA and ZSTD, which pack what is all the same better than that


def _import_tifffile(path):
    try:
        import tifffile
    except ImportError as error:
        raise missing_package(path, 'TIFF', 'tifffile') from error
    # what it logs is raised here as an error, and without a handler it would go to stderr as well
    log = logging.getLogger('tifffile')
    if not log.handlers:
        log.addHandler(logging.NullHandler())
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
        If it is no such picture, or a library that reads it is missing.
    """
    tifffile = _import_tifffile(path)
    with tifffile.TiffFile(path) as file:
        n_pages = _count_pages(path, file)
        if n_pages > 1:
            over = 'over ' if n_pages > _MOST_PAGES else ''
            what = f'is TIFF with {over}{min(n_pages, _MOST_PAGES)} pages'
            refuse_picture(path, what, 'take the one to denoise, then ')
        page = file.pages[0]
        _check_kind(path, page)
        _check_extent(page, path.stat().st_size)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if 'imagecodecs' not in str(error):
                raise
            what = f'TIFF with {page.compression.name} compression'
            raise missing_package(path, what, 'imagecodecs') from error
        extras, records = _extras(page)
        extras['bigtiff'] = file.is_bigtiff
    if page.axes == 'SYX':
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == _WHITE_IS_ZERO:
        pixels = np.iinfo(pixels.dtype).max - pixels
    return picture_frame(path, 'tiff', pixels, unit, extras, records)


def _count_pages(path, file):
    """Count the pages but for previews, one by one: a few bytes can declare them without end."""
    offsets, n_pages = set(), 0
    for page in file.pages:
        if page.offset in offsets:
            msg = f'{path}: is damaged: its list of pages leads back to byte {page.offset}'
            raise FrameError(msg)
        offsets.add(page.offset)
        n_pages += page.index == 0 or not page.keyframe.is_reduced
        if len(offsets) > _MOST_PAGES:
            return len(offsets)
    return n_pages


def _check_kind(path, page):
    """Refuse what is no grey or RGB picture of a known depth."""
    photometric, name = int(page.photometric), getattr(page.photometric, 'name', page.photometric)
    bits = page.bitspersample
    if photometric in _RAW:
        msg = (
            f'{path}: is a raw camera file, whose colours are not interpolated; convert it to FITS '
            'and give --bayer, or develop it to TIFF with 16 bits'
        )
        raise FrameError(msg)
    if bits == 1:
        refuse_picture(
            path, 'is TIFF with 1 bit, black and white', 'go back to the original, and '
        )
    if photometric == _CMYK:
        refuse_picture(path, 'is TIFF in CMYK, colours of a printer', 'convert it to RGB, then ')
    if photometric == _PALETTE:
        refuse_picture(path, 'is TIFF with a palette of colours', 'convert it to RGB, then ')
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        refuse_picture(path, f'is TIFF with colours as {name}', 'convert it to RGB, then ')
    if page.extrasamples:
        advice = 'flatten it or remove the channel, then '
        refuse_picture(path, 'is TIFF with an alpha channel', advice)
    if page.compression not in _LOSSLESS:
        name = getattr(page.compression, 'name', page.compression)
        refuse_picture(
            path, f'is TIFF with {name} compression, which is not lossless',
            'go back to the original, and ',
        )  # fmt: skip
    planes = {_RGB: ('YXS', 'SYX')}.get(photometric, ('YX',))
    dtype = page.dtype  # None: of no kind that tifffile knows, and NumPy takes it for float64
    is_known = dtype is not None and dtype in _DTYPES and bits == 8 * dtype.itemsize
    is_known = is_known and (photometric != _WHITE_IS_ZERO or dtype.kind == 'u')
    if page.axes not in planes or page.samplesperpixel not in (1, 3) or not is_known:
        kind = f'is TIFF with {bits}-bit samples of type {page.dtype} and axes {page.axes}'
        refuse_picture(path, kind)


def _check_extent(page, size):
    """Refuse a picture that declares more than its file can hold, before memory is taken."""
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    parts = [(start, length) for start, length in places if length]
    stop = max((start + length for start, length in parts), default=0)
    there = sum(length for _, length in parts)
    most = {1: 1}.get(int(page.compression), _MOST)
    most = 1 << 16 if page.compression in _PACKED_BEST else most
    if stop > size:
        msg = f'it is truncated: its pixels end at byte {stop}, the file at {size}'
        raise ValueError(msg)
    if page.nbytes > there * most:
        msg = f'its pixels are {page.nbytes} bytes by its header, and {there} are there'
        raise ValueError(msg)


def _extras(page):
    """What is written back beside the pixels, and the records of the denoising."""
    tags = {tag.code: tag for tag in page.tags}
    history = tags[_HISTORY].value if _HISTORY in tags else ''
    lines = str(history).splitlines() if isinstance(history, str) else []
    marked = [line for line in lines if line.startswith(_HISTORY_MARK)]
    resolution = [tags[code].value for code in (282, 283) if code in tags]
    extras = {
        'iccprofile': bytes(tags[_ICC_PROFILE].value) if _ICC_PROFILE in tags else None,
        'description': page.description or None,
        'history': [line for line in lines if line not in marked],
        'tags': [
            (tag.code, int(tag.dtype), tag.count, tag.value, True)
            for tag in page.tags
            if tag.code in _KEPT
        ],
        'is_packed': page.compression != 1,
    }
    if len(resolution) == 2 and all(one[1] for one in resolution):
        unit = int(tags[296].value) if 296 in tags else 2  # inches where it is not said
        extras['resolution'] = (tuple(resolution), unit)
    return extras, [line.removeprefix(_HISTORY_MARK) for line in marked]


def write_tiff(handle, pixels, extras, records=()):
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
    records : sequence of str, optional
        Of the denoising, first to last.
    """
    tifffile = _import_tifffile(handle.name)
    lines = [*extras.get('history', []), *(_HISTORY_MARK + text for text in records)]
    tags = [_tag(*tag) for tag in extras.get('tags', [])]
    if lines:
        tags.append(_tag(_HISTORY, 2, 0, '\n'.join(lines), True))
    resolution, unit = extras.get('resolution', (None, None))
    description = extras.get('description')
    is_packed = extras.get('is_packed', False)
    tifffile.imwrite(
        handle,
        pixels,
        bigtiff=extras.get('bigtiff') or None,
        photometric='rgb' if pixels.ndim == 3 else 'minisblack',
        compression='zlib' if is_packed else None,
        predictor=2 if is_packed and pixels.dtype.kind == 'u' else None,
        metadata=None,
        iccprofile=extras.get('iccprofile'),
        description=None if description is None else description.encode(),
        resolution=resolution,
        resolutionunit=unit,
        software='astrodenoise',
        extratags=tags,
    )


def _tag(code, dtype, count, value, once):
    """Give a tag as tifffile takes it: text in UTF-8, with the byte that ends it."""
    if isinstance(value, str):
        value = value.encode() + b'\0'
        count = len(value)
    return code, dtype, count, value, once
