# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
FITS, the way back: images into a copy of the file that they came from.

The file is copied byte for byte around them, and their own cards stay as raw text but for those
that describe how the pixels are stored.
"""

import contextlib
import dataclasses
import io
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.exceptions import AstropyWarning

from astrodenoise.fitsbytes import BLOCK, CARD, open_bytes

__all__ = ['fits_writer']

_COPY = 1 << 22  # bytes copied or converted at once
_STORAGE = {'BSCALE', 'BZERO', 'BLANK', 'CHECKSUM', 'DATASUM'}  # true of the old pixels only
_RECORD = {'DENOISE', 'DENOISED'}  # cards of which the newest denoising owns the value
_OWN = {'EXTNAME', 'EXTVER', 'EXTLEVEL', 'HISTORY', 'COMMENT', ''}  # not of a new extension


@contextlib.contextmanager
def fits_writer(handle, path, contexts, *, dropped=(), alone=False):
    """
    Write a FITS file with some of its images exchanged.

    Parameters
    ----------
    handle : file object
        Open for writing bytes.
    path : str or `~os.PathLike`
        Its final name, which decides on compression.
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        Of the images that will be written, all of one file.
    dropped : sequence of (int, int), optional
        First and last byte of HDUs of that file that are left out.
    alone : bool, optional
        Write the images and their headers only: one is the primary HDU, several are extensions.

    Yields
    ------
    writer : object
        ``writer.write(ccd, context)`` for each context in order, and ``writer.append(...)``.
    """
    with contextlib.nullcontext() if alone else open_bytes(contexts[0].path) as original:
        writer = _Writer(handle, path, original, sorted(dropped), several=len(contexts) > 1)
        yield writer
        writer.finish()


class _Writer:
    """Copies the original up to each image, writes the image, and goes on behind it."""

    def __init__(self, handle, path, original, dropped, *, several):
        self.handle, self.original, self.dropped = handle, original, dropped
        self.compress = Path(path).suffix.lower() == '.fz'
        self.several = several
        self.position = 0
        self.appended = []

    def write(self, ccd, context):
        """Write an image in the place of the one that it was made of."""
        alone = self.original is None
        if not alone:
            self._copy_to(context.span[0])
            self.position = context.span[1]
        elif self.several and not self.position:
            self.position = self.handle.write(_header_bytes(_cards_of(fits.PrimaryHDU().header)))
        self._write_image(ccd, context, as_extension=self.several if alone else context.hdu > 0)

    def append(self, name, values, context, comment):
        """Write a plane of an image as an extension of its own at the end of the file."""
        header = fits.Header()
        header['EXTNAME'] = name
        header['EXTVER'] = (context.version, f'of the image that {name} belongs to')
        header.add_comment(comment)
        cards = tuple(
            card for card in context.cards if card[:8].rstrip() not in _OWN | {'CONTINUE'}
        )
        context = dataclasses.replace(context, cards=cards, keywords=())
        self.appended.append((CCDData(values, unit='', meta=header), context))

    def finish(self):
        """Copy what follows the last image and write what was appended."""
        if self.original is not None:
            self._copy_to(None)
        for ccd, context in self.appended:
            self._write_image(ccd, context, as_extension=True)

    def _copy_to(self, stop):
        for start, end in self.dropped:
            if start >= self.position and (stop is None or end <= stop):
                _copy(self.original, self.handle, self.position, start)
                self.position = end
        _copy(self.original, self.handle, self.position, stop)

    def _write_image(self, ccd, context, *, as_extension):
        dtype = np.dtype('>f8' if ccd.data.dtype.itemsize == 8 else '>f4')
        with warnings.catch_warnings():
            # Headers in the wild break the standard, and stay as they are.
            warnings.simplefilter('ignore', AstropyWarning)
            cards = _new_cards(context, ccd, dtype, is_extension=as_extension or self.compress)
            if self.compress:
                _write_compressed(self.handle, cards, ccd.data, context, is_first=not as_extension)
            else:
                _write_plain(self.handle, cards, ccd.data, dtype, context)


def _copy(source, target, start, stop):
    """Copy the bytes from `start` to `stop` to full blocks."""
    source.seek(start)
    copied = 0
    while stop is None or start + copied < stop:
        part = source.read(_COPY if stop is None else min(_COPY, stop - start - copied))
        if not part:
            break
        target.write(part)
        copied += len(part)
    target.write(bytes(-copied % BLOCK))  # a last block may lack its padding


def _cards_of(header):
    return [str(card).ljust(CARD) for card in header.cards]


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
        else f'{keyword:8}= {value:{"<" if keyword == "XTENSION" else ">"}20}'.ljust(CARD)
        for keyword, value in structure.items()
    ]
    left_out = _STORAGE | _RECORD | {'SIMPLE', 'XTENSION', 'PCOUNT', 'GCOUNT'} | set(structure)
    left_out.add('EXTEND' if is_extension else 'INHERIT')
    left_out |= {f'NAXIS{i}' for i in range(len(shape) + 1, 4)}  # a plane of a cube has two
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
            added += [text[i : i + CARD].ljust(CARD) for i in range(0, len(text), CARD)]
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
    text = ''.join(cards) + 'END'.ljust(CARD)
    return (text + ' ' * (-len(text) % BLOCK)).encode('latin-1', 'replace')


def _image_bytes(data, dtype):
    """Bytes of an image in FITS order, a part at a time, with the padding."""
    values = data.reshape(-1)
    step = 256 * BLOCK  # whole blocks, so that only the last part is padded
    for start in range(0, len(values), step):
        part = values[start : start + step].astype(dtype).tobytes()
        yield part + bytes(-len(part) % BLOCK)


def _write_compressed(handle, cards, data, context, *, is_first):
    text = re.sub(r'[^ -~]', '?', ''.join(cards))  # astropy writes nothing else
    header = fits.Header.fromstring(text + 'END'.ljust(CARD))
    native = np.asarray(data, dtype=data.dtype.newbyteorder('='))
    hdu = fits.CompImageHDU(native, header, compression_type='GZIP_2', quantize_level=0.0)
    packed = io.BytesIO()
    # A compressed image is always an extension: an empty primary HDU comes before it.
    with fits.HDUList([fits.PrimaryHDU(), hdu]) as hdus:
        hdus.writeto(packed, output_verify='silentfix+ignore', checksum=_has_checksum(context))
    handle.write(packed.getbuffer() if is_first else packed.getbuffer()[BLOCK:])


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
    cards = [*cards, f"DATASUM = '{datasum}'".ljust(CARD)]
    zeros = _sum32(_header_bytes([*cards, f"CHECKSUM= '{'0' * 16}'".ljust(CARD)]), datasum)
    return [*cards, f"CHECKSUM= '{_encode_checksum(zeros ^ 0xFFFFFFFF)}'".ljust(CARD)]


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
