# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Tile-compressed images whose headers or tiles claim more than is there.

Astropy takes both at their word: it asks for all the memory that a header declares, and its
decoders of PLIO and HCOMPRESS read and write beyond a tile that says to be longer than it is, which
can end the process.  What the outside of a tile tells is checked here; because more may be wrong in
it, `astrodenoise.fitsbytes` has such images decoded by another process.
"""

import itertools
import math
import struct

import numpy as np
from astropy.io import fits

from astrodenoise.filecontext import FrameError

__all__ = ['check_declared', 'check_streams', 'is_unbounded']

MOST_PACKED = 2**16  # bytes of pixels that a byte of a compressed image may stand for


def check_declared(path, index, hdu):
    """
    Refuse a compressed image that declares more than its tiles can hold.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.
    index : int
        Number of the HDU.
    hdu : `~astropy.io.fits.BinTableHDU`
        It, opened as a table; of other kinds than compressed images nothing is asked.

    Raises
    ------
    FrameError
        If a size is no number, or does not go with the others.
    """
    if not _is_compressed(hdu):
        return
    header = hdu.header

    def whole(key, default=None):
        value = header.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _damaged(path, index, f'has {key} = {value!r}, not a whole number')
        return value

    sides, tiles = _layout(whole)
    if min([*sides, *tiles], default=1) < 1:
        raise _damaged(path, index, f'declares {sides} px in tiles of {tiles}')
    declared = math.prod(-(-n // m) for n, m in zip(sides, tiles, strict=True))
    there = whole('NAXIS2')
    if declared != there:
        raise _damaged(path, index, f'declares {declared} tiles, {there} are there')
    n_bytes = math.prod(sides) * abs(whole('ZBITPIX')) // 8
    held = whole('NAXIS1') * there + whole('PCOUNT', 0)
    if n_bytes > MOST_PACKED * held:
        raise _damaged(path, index, f'declares {n_bytes} bytes of pixels in {held}')


def is_unbounded(hdu):
    """
    Tell whether the decoder of a compressed image trusts the lengths in its tiles.

    Parameters
    ----------
    hdu : `~astropy.io.fits.BinTableHDU`
        Any HDU; a compressed image is opened as a table.

    Returns
    -------
    unbounded : bool
        Then `check_streams` has to look at them first, and another process decodes them.
    """
    return _is_compressed(hdu) and hdu.header.get('ZCMPTYPE') in _IS_SOUND


def check_streams(path, index, header, dtype, table):
    """
    Refuse tiles that are not as long as they say.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.
    index : int
        Number of the HDU.
    header : `~astropy.io.fits.Header`
        Of the HDU, which `check_declared` has taken.
    dtype : `numpy.dtype`
        Of a row of its table.
    table : bytes
        Its table and heap.

    Raises
    ------
    FrameError
        If a tile lies outside of the heap, or holds less or more than it says.
    """
    kind, n_rows = header['ZCMPTYPE'], header['NAXIS2']
    lengths = [
        [min(m, n - first) for first in range(0, n, m)]
        for n, m in zip(*_layout(header.get), strict=True)
    ]
    n_pixels = map(math.prod, itertools.product(*reversed(lengths)))  # first axis fastest
    rows = np.frombuffer(table, dtype.newbyteorder('>'), n_rows)
    heap = header.get('THEAP', rows.nbytes)
    width = 2 if kind == 'PLIO_1' else 1  # bytes of an element
    pointers = rows['COMPRESSED_DATA'].reshape(n_rows, 2).astype(np.int64)
    for (n, start), expected in zip(pointers, n_pixels, strict=True):
        first, last = heap + start, heap + start + width * n
        is_inside = n >= 0 and heap <= first and last <= len(table)
        if not is_inside or (n > 0 and not _IS_SOUND[kind](table[first:last], expected)):
            raise _damaged(path, index, f'has a {kind} tile that is not as long as it says')


def _is_compressed(hdu):
    """Whether Astropy takes a table for a compressed image: any ZIMAGE but F will do."""
    return isinstance(hdu, fits.BinTableHDU) and bool(hdu.header.get('ZIMAGE'))


def _layout(card):
    """Sides of the image and of its tiles, the first axis first; by default a tile is a row."""
    axes = range(1, card('ZNAXIS') + 1)
    sides = [card(f'ZNAXIS{i}') for i in axes]
    return sides, [card(f'ZTILE{i}', sides[0] if i == 1 else 1) for i in axes]


def _damaged(path, index, what):
    return FrameError(f'{path}: is damaged: HDU {index} {what}')


def _is_line_list(content, _):
    """Whether a tile of PLIO has as many words as it says."""
    words = np.frombuffer(content, '>i2').astype(np.int64)
    if len(words) >= 3 and 0 < words[2] <= len(words):
        return True
    if len(words) < 5 or words[2] > 0:
        return False
    # a later form says length and first word in other places
    return 0 <= words[3] + (words[4] << 15) <= len(words) and 0 <= words[1] <= len(words)


def _is_hcompressed(content, n_pixels):
    """Whether a tile of HCOMPRESS has as many pixels as are expected."""
    if len(content) < 14 or content[:2] != b'\xdd\x99':
        return False
    height, width = struct.unpack('>ii', content[2:10])
    return min(height, width) > 0 and height * width == n_pixels


_IS_SOUND = {'PLIO_1': _is_line_list, 'HCOMPRESS_1': _is_hcompressed}
