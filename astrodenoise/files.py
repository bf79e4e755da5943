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

import contextlib
import dataclasses
import gzip
import io
import logging
import os
import re
import secrets
import struct
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.utils.exceptions import AstropyWarning

__all__ = [
    'FrameContext',
    'FrameError',
    'atomic_write',
    'check_output',
    'read_frame',
    'write_frame',
]

logger = logging.getLogger(__name__)

_BLOCK = 2880  # bytes: every part of a FITS file is a multiple of it
_CARD = 80  # bytes of a header card
_COPY = 1 << 22  # bytes copied or converted at once
_STORAGE = {'BSCALE', 'BZERO', 'BLANK', 'CHECKSUM', 'DATASUM'}  # true of the old pixels only
_RECORD = {'DENOISE', 'DENOISED'}  # cards of which the newest denoising owns the value
_UNCERTAINTY_NAMES = ('ERR', 'UNCERT')
_MASK_NAMES = ('DQ', 'MASK')
_UNCERTAINTIES = {
    cls.__name__: cls for cls in (StdDevUncertainty, VarianceUncertainty, InverseVariance)
}
_PICTURE_SUFFIXES = {'.png': 'png', '.tif': 'tiff', '.tiff': 'tiff'}
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Chunks that describe the picture whatever its pixels are: colour, size on paper, text.
_PNG_KEPT = {b'iCCP', b'gAMA', b'cHRM', b'sRGB', b'pHYs', b'tEXt', b'zTXt', b'iTXt', b'eXIf'}
_ICC_PROFILE = 34675  # TIFF tag


class FrameError(OSError, ValueError):
    """A file holds no frame that can be used; the message names it and the reason."""


@dataclasses.dataclass(frozen=True)
class FrameContext:
    """
    What `write_frame` needs to know of the file that a frame came from.

    Attributes
    ----------
    path : `~pathlib.Path`
        The file.
    kind : {'fits', 'png', 'tiff'}
        Its format.
    dtype : `~numpy.dtype`
        The type of the pixels as they were read.
    channels : {'joint', None}
        ``'joint'`` where the file itself says that its three planes are the
        colours of one camera (a colour picture, ``CTYPE3 = 'RGB'``).
    hdu : int
        The number of the image in the file, 0 for the primary HDU.
    cards : tuple of str
        The cards of the image's header, 80 characters each, as in the file.
    keywords : tuple of str
        The keywords of the header that the frame was given as its ``meta``.
    span : tuple of int
        First byte of the image's header, first byte after its data.
    uncertainty_span : tuple of int or None
        The same of the HDU that the uncertainty came from.
    extras : dict
        Of a picture: what is written back beside its pixels.
    """

    path: Path
    kind: str
    dtype: np.dtype
    channels: str | None = None
    hdu: int = 0
    cards: tuple = ()
    keywords: tuple = ()
    span: tuple = (0, 0)
    uncertainty_span: tuple | None = None
    extras: dict = dataclasses.field(default_factory=dict)


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
                return _read_fits(path, ext, unit)
            return {'png': _read_png, 'tiff': _read_tiff}[kind](path, unit)
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
        write = {'png': _write_png, 'tiff': _write_tiff}[kind]
        with atomic_write(path, overwrite=overwrite) as handle:
            write(handle, _picture(ccd.data, context.dtype), context.extras)
        return
    with atomic_write(path, overwrite=overwrite) as handle, warnings.catch_warnings():
        warnings.simplefilter('ignore', AstropyWarning)
        if Path(path).suffix.lower() == '.gz':
            # No name and no time inside: equal frames give equal files.
            with gzip.GzipFile('', 'wb', compresslevel=6, fileobj=handle, mtime=0) as packed:
                _write_fits(packed, path, ccd, context, keep_uncertainty, alone)
        else:
            _write_fits(handle, path, ccd, context, keep_uncertainty, alone)


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
    _check_target(Path(os.path.realpath(path)), path, overwrite)


@contextlib.contextmanager
def atomic_write(path, *, overwrite=False):
    """
    Open a file that appears under its name when it is complete, or not at all.

    The bytes go to a temporary name in the same folder, are forced to the disk
    and renamed. The temporary file is removed when anything interrupts that.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write. A symbolic link is followed.
    overwrite : bool, optional
        Replace a file of that name.

    Yields
    ------
    handle : file object
        Open for writing bytes.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set, even when
        it appeared while this one was written.
    """
    target = Path(os.path.realpath(path))
    _check_target(target, path, overwrite)
    temporary = target.parent / f'.astrodenoise-{secrets.token_hex(8)}.part'
    try:
        with open(temporary, 'wb', opener=_create) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        _publish(temporary, target, path, overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def _create(path, flags):
    """Open a file that must not be there yet, for `open`; its mode stays a plain 'wb'."""
    return os.open(path, flags | os.O_EXCL, 0o666)


def _check_target(target, path, overwrite):
    """Raise unless `target`, which is named `path` in messages, may be written."""
    if not target.parent.is_dir():
        msg = f'{path}: there is no folder {target.parent}; make it first'
        raise FileNotFoundError(msg)
    if target.exists() and not target.is_file():
        msg = f'{path}: exists and is no ordinary file; give another name'
        raise FileExistsError(msg)
    if target.exists() and not overwrite:
        raise _exists(path)


def _exists(path):
    msg = f'{path}: the file exists; give --overwrite (overwrite=True) to replace it'
    return FileExistsError(msg)


def _publish(temporary, target, path, overwrite):
    """Give a complete file its name."""
    if overwrite:
        os.replace(temporary, target)
    else:
        try:
            os.link(temporary, target)  # unlike a rename, it never replaces a file
        except FileExistsError as error:
            raise _exists(path) from error
        except OSError:  # no hard links on this file system
            if target.exists():
                raise _exists(path) from None
            os.replace(temporary, target)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
    if head.startswith(_PNG_SIGNATURE):
        return 'png'
    if head.startswith((b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')):
        return 'tiff'
    reason = f'it begins with {head!r}' if head else 'it is empty'
    msg = f'{path}: is no FITS, PNG or TIFF file ({reason})'
    raise FrameError(msg)


# FITS: reading


def _read_fits(path, ext, unit):
    content = None
    with open(path, 'rb') as handle:
        if handle.read(2) == b'\x1f\x8b':
            content = _gunzip(path)
    spans = _hdu_spans(path, content)
    with fits.open(_source(path, content)) as hdus:
        index = _choose(hdus, ext, path)
        hdu = hdus[index]
        header = hdu.header.copy()
        data = hdu.data
        uncertainty, uncertainty_index = _read_uncertainty(hdus, index, path)
        mask = _read_mask(hdus, index, path)
        compressed = isinstance(hdu, fits.CompImageHDU)
    if compressed:
        cards = _split_cards(header.tostring(padding=False))
    else:
        cards = _split_cards(_read_bytes(path, content, *spans[index][:2]).decode('latin-1'))
    context = FrameContext(
        path=path,
        kind='fits',
        dtype=data.dtype,
        channels=_channels(header, data.ndim),
        hdu=index,
        cards=cards,
        keywords=tuple(header.keys()),
        span=_padded(spans[index]),
        uncertainty_span=None if uncertainty is None else _padded(spans[uncertainty_index]),
    )
    ccd = CCDData(
        data, unit=_unit(header, unit, path), meta=header, mask=mask, uncertainty=uncertainty
    )
    return ccd, context


def _gunzip(path):
    try:
        with gzip.open(path) as handle:
            return handle.read()
    except (EOFError, OSError, zlib.error) as error:
        msg = f'{path}: is no complete gzip file: {error}'
        raise FrameError(msg) from error


def _source(path, content):
    """Give what `~astropy.io.fits.open` reads: the file, or its unpacked content."""
    return path if content is None else io.BytesIO(content)


def _read_bytes(path, content, start, stop):
    if content is not None:
        return content[start:stop]
    with open(path, 'rb') as handle:
        handle.seek(start)
        return handle.read(stop - start)


def _hdu_spans(path, content):
    """First byte of the header, of the data and after the data, per HDU; raise if any is cut."""
    size = os.path.getsize(path) if content is None else len(content)
    with fits.open(_source(path, content), disable_image_compression=True) as hdus:
        places = [(hdu.fileinfo(), hdu.size) for hdu in hdus]
    spans = [(info['hdrLoc'], info['datLoc'], info['datLoc'] + n) for info, n in places]
    for index, (_, _, stop) in enumerate(spans):
        if stop > size:
            msg = f'{path}: is truncated: HDU {index} ends at byte {stop}, the file at {size}'
            raise FrameError(msg)
    rest = _padded(spans[-1])[1]
    if _read_bytes(path, content, rest, rest + 8) == b'XTENSION':
        msg = f'{path}: is truncated: the header of HDU {len(spans)} has no end'
        raise FrameError(msg)
    return spans


def _padded(span):
    """Header start and data end of an HDU, with the padding."""
    return span[0], -(-span[2] // _BLOCK) * _BLOCK


def _is_image(hdu):
    return hdu.is_image and not isinstance(hdu, fits.GroupsHDU) and bool(hdu.shape)


def _choose(hdus, ext, path):
    """Index of the image to read."""
    listing = ', '.join(
        f'{i} {hdu.name or "(no name)"} {_describe(hdu)}' for i, hdu in enumerate(hdus)
    )
    if ext is None:
        for index, hdu in enumerate(hdus):
            if _is_image(hdu) and len(hdu.shape) in (2, 3):
                return index
        msg = f'{path}: holds no image with 2 or 3 axes, only: {listing}'
        raise FrameError(msg)
    try:
        index = hdus.index_of(_extension(ext))
        hdu = hdus[index]
    except (KeyError, IndexError) as error:
        msg = f'{path}: has no extension {ext}, only: {listing}'
        raise FrameError(msg) from error
    if not _is_image(hdu) or len(hdu.shape) not in (2, 3):
        msg = f'{path}: extension {ext} is {_describe(hdu)}; an image with 2 or 3 axes is needed'
        raise FrameError(msg)
    return index


def _extension(ext):
    """Translate to what astropy takes: ``3``, ``'3'``, ``'SCI'`` and ``'SCI,3'``."""
    name, _, version = str(ext).partition(',')
    if version.strip().isdigit():
        return name.strip(), int(version)
    return int(name) if name.strip().isdigit() else name.strip()


def _describe(hdu):
    if not hdu.is_image:
        return 'a table'
    return f'an image of {"x".join(map(str, hdu.shape))}' if _is_image(hdu) else 'without data'


def _companion(hdus, index, names, path):
    """Index of the HDU that goes with the image: by name, version and shape."""
    version, shape = hdus[index].ver, hdus[index].shape
    for number, hdu in enumerate(hdus):
        if number == index or hdu.name not in names or hdu.ver != version or not _is_image(hdu):
            continue
        if hdu.shape == shape:
            return number
        logger.info('%s: %s is not used: its shape is %s', path, hdu.name, hdu.shape)
    return None


def _read_uncertainty(hdus, index, path):
    number = _companion(hdus, index, _UNCERTAINTY_NAMES, path)
    if number is None:
        return None, None
    name = str(hdus[number].header.get('UTYPE', 'StdDevUncertainty'))
    if name not in _UNCERTAINTIES:
        logger.info('%s: %s is not used: UTYPE %s', path, hdus[number].name, name)
        return None, None
    logger.info('%s: uncertainty from %s', path, hdus[number].name)
    return _UNCERTAINTIES[name](hdus[number].data), number


def _read_mask(hdus, index, path):
    number = _companion(hdus, index, _MASK_NAMES, path)
    if number is None:
        return None
    mask = hdus[number].data != 0
    logger.info('%s: %d pixels masked by %s', path, np.count_nonzero(mask), hdus[number].name)
    return mask


def _value(header, keyword):
    """Read a card's value as text, empty where it is missing or broken."""
    try:
        return str(header.get(keyword, '')).strip()
    except fits.VerifyError:
        return ''


def _channels(header, ndim):
    is_colour = ndim == 3 and header['NAXIS3'] == 3 and _value(header, 'CTYPE3').upper() == 'RGB'
    return 'joint' if is_colour else None


def _unit(header, unit, path):
    if unit is not None:
        return u.Unit(unit)
    text = _value(header, 'BUNIT')
    # Detectors' units come in any case and number; of the others the case has a meaning.
    counts = re.fullmatch(r'(adu|electron|count|dn)s?(\s*/\s*s(?:ec)?)?', text, re.IGNORECASE)
    name = text
    if counts:
        name = counts[1].lower().replace('dn', 'DN') + ('/s' if counts[2] else '')
    try:
        if name:
            return u.Unit(name)
        logger.info('%s: no BUNIT and no unit given: adu is taken', path)
    except ValueError:
        logger.info('%s: BUNIT %r is no unit: adu is taken', path, text)
    return u.adu


def _split_cards(text):
    """Cards of a header, without END and what follows it."""
    cards = [text[i : i + _CARD].ljust(_CARD) for i in range(0, len(text), _CARD)]
    ends = [i for i, card in enumerate(cards) if card.rstrip() == 'END']
    return tuple(cards[: ends[0]] if ends else cards)


# FITS: writing


def _write_fits(handle, path, ccd, context, keep_uncertainty, alone):
    dtype = np.dtype('>f8' if ccd.data.dtype.itemsize == 8 else '>f4')
    as_extension = context.hdu > 0 and not alone
    compress = Path(path).suffix.lower() == '.fz'
    cards = _new_cards(context, ccd, dtype, is_extension=as_extension or compress)
    dropped = context.uncertainty_span if not keep_uncertainty and not alone else None
    source = contextlib.nullcontext() if alone else _open_bytes(context.path)
    with source as original:
        if not alone:
            _copy(original, handle, 0, context.span[0], dropped)
        if compress:
            _write_compressed(handle, cards, ccd.data, context, is_first=not as_extension)
        else:
            _write_plain(handle, cards, ccd.data, dtype, context)
        if not alone:
            _copy(original, handle, context.span[1], None, dropped)


def _open_bytes(path):
    """Open a FITS file for reading its bytes, unpacked."""
    with open(path, 'rb') as handle:
        packed = handle.read(2) == b'\x1f\x8b'
    return gzip.open(path) if packed else open(path, 'rb')


def _copy(source, target, start, stop, dropped):
    """Copy the bytes from `start` to `stop`, without the span `dropped`, to full blocks."""
    if dropped is not None and dropped[0] >= start and (stop is None or dropped[1] <= stop):
        _copy(source, target, start, dropped[0], None)
        start = dropped[1]
    source.seek(start)
    copied = 0
    while stop is None or start + copied < stop:
        part = source.read(_COPY if stop is None else min(_COPY, stop - start - copied))
        if not part:
            break
        target.write(part)
        copied += len(part)
    target.write(bytes(-copied % _BLOCK))  # a last block may lack its padding


def _new_cards(context, ccd, dtype, *, is_extension):
    """Cards of the output: what describes the storage anew, the rest as it was, the added."""
    old = {card[:8].rstrip(): card for card in reversed(context.cards)}
    shape = ccd.data.shape
    structure = {'XTENSION': "'IMAGE   '"} if is_extension else {'SIMPLE': 'T'}
    structure |= {'BITPIX': str(-8 * dtype.itemsize), 'NAXIS': str(len(shape))}
    structure |= {f'NAXIS{i + 1}': str(n) for i, n in enumerate(reversed(shape))}
    structure |= {'PCOUNT': '0', 'GCOUNT': '1'} if is_extension else {}
    cards = [
        old[keyword]
        if keyword in old and old[keyword][10:].split('/')[0].strip() == value
        else f'{keyword:8}= {value:{"<" if keyword == "XTENSION" else ">"}20}'.ljust(_CARD)
        for keyword, value in structure.items()
    ]
    left_out = _STORAGE | _RECORD | {'SIMPLE', 'XTENSION', 'PCOUNT', 'GCOUNT'} | set(structure)
    left_out.add('EXTEND' if is_extension else 'INHERIT')
    skipping = False
    for card in context.cards:
        # A card that continues a long string goes with the card that began it.
        skipping = skipping if card.startswith('CONTINUE') else card[:8].rstrip() in left_out
        if not skipping:
            cards.append(card)
    return cards + _added_cards(context, ccd.meta)


def _added_cards(context, meta):
    """Cards of `meta` that the file's header did not have."""
    if not isinstance(meta, fits.Header):
        return []
    before = Counter(keyword for keyword in context.keywords if keyword not in _RECORD)
    added = []
    for card in meta.cards:
        if before[card.keyword]:
            before[card.keyword] -= 1  # commentary repeats: the first ones are the file's own
        else:
            text = str(card)
            added += [text[i : i + _CARD].ljust(_CARD) for i in range(0, len(text), _CARD)]
    return added


def _write_plain(handle, cards, data, dtype, context):
    if _has_checksum(context):
        datasum = 0
        for part in _image_bytes(data, dtype):
            datasum = _sum32(part, datasum)
        cards = _checksum_cards(cards, datasum)
    handle.write(_header_bytes(cards))
    for part in _image_bytes(data, dtype):
        handle.write(part)


def _header_bytes(cards):
    text = ''.join(cards) + 'END'.ljust(_CARD)
    return (text + ' ' * (-len(text) % _BLOCK)).encode('latin-1', 'replace')


def _image_bytes(data, dtype):
    """Bytes of an image in FITS order, a part at a time, with the padding."""
    values = data.reshape(-1)
    step = 256 * _BLOCK  # whole blocks, so that only the last part is padded
    for start in range(0, len(values), step):
        part = values[start : start + step].astype(dtype).tobytes()
        yield part + bytes(-len(part) % _BLOCK)


def _write_compressed(handle, cards, data, context, *, is_first):
    text = re.sub(r'[^ -~]', '?', ''.join(cards))  # astropy writes nothing else
    header = fits.Header.fromstring(text + 'END'.ljust(_CARD))
    native = np.asarray(data, dtype=data.dtype.newbyteorder('='))
    hdu = fits.CompImageHDU(native, header, compression_type='GZIP_2', quantize_level=0.0)
    packed = io.BytesIO()
    # A compressed image is always an extension: an empty primary HDU comes before it.
    with fits.HDUList([fits.PrimaryHDU(), hdu]) as hdus:
        hdus.writeto(packed, output_verify='silentfix+ignore', checksum=_has_checksum(context))
    handle.write(packed.getbuffer() if is_first else packed.getbuffer()[_BLOCK:])


def _has_checksum(context):
    return any(card.startswith(('CHECKSUM', 'DATASUM')) for card in context.cards)


def _sum32(part, total=0):
    """Add to a FITS checksum: 32-bit words, with the carry added at the low end."""
    total += int(np.frombuffer(part, dtype='>u4').sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _checksum_cards(cards, datasum):
    """Append DATASUM and CHECKSUM, so that the whole HDU sums to minus zero."""
    cards = [*cards, f"DATASUM = '{datasum}'".ljust(_CARD)]
    zeros = _sum32(_header_bytes([*cards, f"CHECKSUM= '{'0' * 16}'".ljust(_CARD)]), datasum)
    return [*cards, f"CHECKSUM= '{_encode_checksum(zeros ^ 0xFFFFFFFF)}'".ljust(_CARD)]


def _encode_checksum(value):
    """Write a checksum in 16 letters and digits (FITS Standard 4.0, appendix J)."""
    columns = []
    for shift in (24, 16, 8, 0):
        quotient, remainder = divmod((value >> shift) & 0xFF, 4)
        column = [quotient + remainder + 48, quotient + 48, quotient + 48, quotient + 48]
        # Step off the punctuation between digits and letters; the sum of a pair stays.
        while any(58 <= c <= 64 or 91 <= c <= 96 for c in column):
            for i in (0, 2):
                if any(58 <= c <= 64 or 91 <= c <= 96 for c in column[i : i + 2]):
                    column[i] += 1
                    column[i + 1] -= 1
        columns.append(column)
    text = ''.join(chr(columns[j][i]) for i in range(4) for j in range(4))
    return text[-1] + text[:-1]  # the value begins at the second byte of a word


# Pictures


def _picture_frame(path, kind, pixels, unit, extras):
    """Make the frame and context of a picture whose pixels are (H, W) or (H, W, 3)."""
    data = pixels if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    channels = 'joint' if data.ndim == 3 else None
    context = FrameContext(path, kind, data.dtype, channels=channels, extras=extras)
    return CCDData(data, unit=u.adu if unit is None else u.Unit(unit)), context


def _picture(data, dtype):
    """Pixels (H, W) or (H, W, 3) of a picture of the given type."""
    if dtype.kind == 'u':
        # A value that is no number has no grey level either: black.
        data = np.nan_to_num(np.rint(data), nan=0.0)
        data = np.clip(data, 0, np.iinfo(dtype).max)
    pixels = data if data.ndim == 2 else np.moveaxis(data, 0, -1)
    return np.ascontiguousarray(pixels, dtype=dtype.newbyteorder('='))


def _refuse_picture(path, what):
    msg = f'{path}: {what}; save it as grey or RGB with 8 or 16 bits, without an alpha channel'
    raise FrameError(msg)


def _read_png(path, unit):
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
    kept, place = [], len(_PNG_SIGNATURE)
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


def _write_png(handle, pixels, extras):
    """Write a PNG file; Pillow writes no 16-bit colour."""
    height, width = pixels.shape[:2]
    depth, colour = 8 * pixels.dtype.itemsize, 2 if pixels.ndim == 3 else 0
    rows = pixels.astype(pixels.dtype.newbyteorder('>'), copy=False).reshape(height, -1)
    rows = np.ascontiguousarray(rows).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = 2  # each row less the one above: packs better
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    handle.write(_PNG_SIGNATURE)
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


def _read_tiff(path, unit):
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


def _write_tiff(handle, pixels, extras):
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
