# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
FITS: one image out of a file, and back into a copy of it.

The file is copied byte for byte around the chosen image, whose own cards stay
as raw text but for those that describe how its pixels are stored.
"""

import contextlib
import gzip
import io
import logging
import os
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty

from astrodenoise.filecontext import FrameContext, FrameError

__all__ = ['read_fits', 'write_fits']

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


def read_fits(path, *, ext=None, unit=None):
    """
    Read the chosen image of a FITS file and its companion planes.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, plain, gzipped or tile-compressed.
    ext : int or str, optional
        As for `astrodenoise.files.read_frame`.
    unit : str or `~astropy.units.Unit`, optional
        As for `astrodenoise.files.read_frame`.

    Returns
    -------
    ccd : `~astropy.nddata.CCDData`
        The frame.
    context : `~astrodenoise.filecontext.FrameContext`
        For `write_fits`.

    Raises
    ------
    FrameError
        If the file is damaged or has no such image.
    """
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


def write_fits(handle, path, ccd, context, *, keep_uncertainty=True, alone=False):
    """
    Write the FITS file that a frame came from, with new pixels and cards.

    Parameters
    ----------
    handle : file object
        Open for writing bytes.
    path : str or `~os.PathLike`
        Its final name, which decides on compression.
    ccd : `~astropy.nddata.CCDData`
        The frame.
    context : `~astrodenoise.filecontext.FrameContext`
        What `read_fits` gave with it.
    keep_uncertainty, alone : bool, optional
        As for `astrodenoise.files.write_frame`.
    """
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
