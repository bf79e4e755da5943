# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""FITS files as bytes: unpacked, whole, and where in them the HDUs lie."""

import gzip
import io
import os
import zlib

from astropy.io import fits

from astrodenoise.apart import decode_apart
from astrodenoise.compressedtiles import check_declared, check_streams, is_unbounded
from astrodenoise.filecontext import FrameError
from astrodenoise.fitslayouts import TABLES

__all__ = ['BLOCK', 'CARD', 'FitsBytes', 'open_bytes']

BLOCK = 2880  # bytes: every part of a FITS file is a multiple of it
CARD = 80  # bytes of a header card
_GZIP = b'\x1f\x8b'


class FitsBytes:
    """
    A FITS file that is there as a whole.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file, plain or gzipped.

    Attributes
    ----------
    path : str or `~os.PathLike`
        The file.
    content : bytes or None
        Of a gzipped file, unpacked.
    spans : list of (int, int, int)
        First byte of the header, of the data and after the data, per HDU.
    unbounded : set of int
        Numbers of the images whose decoder may end the process.

    Raises
    ------
    FrameError
        If it is cut off, or its headers do not go with what is there.
    OSError
        If it is no FITS file.
    """

    def __init__(self, path):
        self.path, self.content = path, None
        with open(path, 'rb') as handle:
            head = handle.read(6)
        if head.startswith(_GZIP):
            self.content = _gunzip(path)
        elif head != b'SIMPLE':
            msg = f'it is neither plain nor gzipped FITS, it begins with {head!r}'
            raise OSError(msg)
        self.spans, headers = self._look()
        self._check_size()
        self.unbounded = set(headers)
        for index, (header, dtype) in headers.items():
            check_streams(path, index, header, dtype, self.read(*self.spans[index][1:]))

    def source(self):
        """
        Give what Astropy opens.

        Returns
        -------
        source : str, `~os.PathLike` or file object
            For `astropy.io.fits.open`.
        """
        return self.path if self.content is None else io.BytesIO(self.content)

    def read(self, start, stop):
        """
        Read bytes.

        Parameters
        ----------
        start, stop : int
            The first, and the first that is not wanted.

        Returns
        -------
        part : bytes
            Unpacked.
        """
        if self.content is not None:
            return self.content[start:stop]
        with open(self.path, 'rb') as handle:
            handle.seek(start)
            return handle.read(stop - start)

    def decoded(self, hdus, index):
        """
        Read the pixels of an image, in another process where that is safer.

        Parameters
        ----------
        hdus : `~astropy.io.fits.HDUList`
            The file, opened.
        index : int
            Number of the HDU.

        Returns
        -------
        values : `numpy.ndarray`
            As Astropy gives them.

        Raises
        ------
        ChildProcessError
            If a tile ends its decoder.
        """
        if index in self.unbounded:
            return decode_apart(self.path, self.content, index)
        return hdus[index].data

    def padded(self, index):
        """
        Give the place of an HDU with its padding.

        Parameters
        ----------
        index : int
            Its number.

        Returns
        -------
        span : (int, int)
            First byte of the header, and after the padding of the data.
        """
        start, _, stop = self.spans[index]
        return start, -(-stop // BLOCK) * BLOCK

    def _look(self):
        """Spans, and of images whose decoder trusts its input the header and type of a row."""
        with fits.open(self.source(), disable_image_compression=True) as hdus:
            self._check_headers(hdus)
            places = [(hdu.fileinfo(), hdu.size) for hdu in hdus]
            packed = {
                i: (hdu.header.copy(), hdu.columns.dtype)
                for i, hdu in enumerate(hdus)
                if is_unbounded(hdu)
            }
        return [(at['hdrLoc'], at['datLoc'], at['datLoc'] + n) for at, n in places], packed

    def _check_headers(self, hdus):
        index = 0
        try:  # Astropy gives an HDU that it does not understand fewer attributes
            for hdu in hdus:
                _ = hdu.fileinfo, hdu.size
                if hdu.is_image and not isinstance(hdu, TABLES):  # as which packed ones are opened
                    _ = hdu.shape
                check_declared(self.path, index, hdu)
                index += 1
        except (AttributeError, fits.VerifyError) as error:
            why = f'is damaged: the header of HDU {index} has cards that cannot be read'
            if index == 0:
                why = 'is no standard FITS file by its own header (SIMPLE = F)'
            msg = f'{self.path}: {why}'
            raise FrameError(msg) from error

    def _check_size(self):
        size = os.path.getsize(self.path) if self.content is None else len(self.content)
        for index, (_, _, stop) in enumerate(self.spans):
            if stop > size:
                msg = (
                    f'{self.path}: is truncated: HDU {index} ends at byte {stop}, '
                    f'the file at {size}'
                )
                raise FrameError(msg)
        rest = self.padded(-1)[1]
        if self.read(rest, rest + 8) == b'XTENSION':
            msg = f'{self.path}: is truncated: the header of HDU {len(self.spans)} has no end'
            raise FrameError(msg)


def open_bytes(path):
    """
    Open a FITS file for reading its bytes, unpacked.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file, gzipped or not.

    Returns
    -------
    handle : file object
        Open for reading.
    """
    with open(path, 'rb') as handle:
        packed = handle.read(2) == _GZIP
    return gzip.open(path) if packed else open(path, 'rb')


def _gunzip(path):
    try:
        with gzip.open(path) as handle:
            return handle.read()
    except (EOFError, OSError, zlib.error) as error:
        msg = f'{path}: is no complete gzip file: {error}'
        raise FrameError(msg) from error
