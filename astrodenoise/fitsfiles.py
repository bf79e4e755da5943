# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
FITS: images out of a file, with their companion planes and what is needed to write them back.

`astrodenoise.fitswriter` is the way back.
"""

import logging
import re
import threading
import weakref

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from astrodenoise.companions import (
    PlaneFiles,
    extension,
    find_mask,
    find_uncertainty,
    read_companions,
    uncertainty_class,
)
from astrodenoise.filecontext import FrameContext, FrameError
from astrodenoise.fitsbytes import CARD, FitsBytes
from astrodenoise.fitslayouts import TABLES, bad_pixels, find_images, is_image

__all__ = ['FitsImages', 'FitsSection']

logger = logging.getLogger(__name__)


class FitsImages:
    """
    The chosen images of a FITS file, plain, gzipped or tile-compressed.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    ext : int, str or list, optional
        As for `astrodenoise.files.open_frames`.
    unit : str or `~astropy.units.Unit`, optional
        As for `astrodenoise.files.open_frames`.
    planes : `~astrodenoise.companions.PlaneFiles`, optional
        What is read from other files.

    Attributes
    ----------
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        One per image, in the order of the file.

    Raises
    ------
    FrameError
        If the file is damaged or has no such image.
    """

    def __init__(self, path, *, ext=None, unit=None, planes=None):
        self._path, self._unit, self._planes = path, unit, planes or PlaneFiles()
        self._bytes = FitsBytes(path)
        with fits.open(self._bytes.source()) as hdus:
            frames = find_images(hdus)
            self.contexts = [self._context(hdus, i, frames) for i in _choose(hdus, ext, path)]

    def read(self, context):
        """
        Read one of the images and its companion planes.

        Parameters
        ----------
        context : `~astrodenoise.filecontext.FrameContext`
            One of ``contexts``.

        Returns
        -------
        ccd : `~astropy.nddata.CCDData`
            The frame.

        Raises
        ------
        FrameError
            If a companion plane is missing or of another shape.
        """
        with fits.open(self._bytes.source()) as hdus:
            header = hdus[context.hdu].header.copy()
            uncertainty, mask = read_companions(hdus, context.hdu, self._bytes, self._planes)
            unit = _unit(header, self._unit, self._path)
            values = self._bytes.decoded(hdus, context.hdu)
            return CCDData(values, unit=unit, meta=header, mask=mask, uncertainty=uncertainty)

    def read_in_pieces(self, context):
        """
        Open one of the images and its companion planes, to be read when they are sliced.

        Parameters
        ----------
        context : `~astrodenoise.filecontext.FrameContext`
            One of ``contexts``.

        Returns
        -------
        ccd : `~astropy.nddata.CCDData` or None
            The frame; None where that is not possible: packed files, weights (whose level all of
            the frame tells) and planes of other files.
        """
        others = self._planes.uncertainty, self._planes.dq
        is_packed = self._bytes.content is not None or self._bytes.unbounded
        if is_packed or context.weight or others != (None, None):
            return None
        hdus = fits.open(self._path, memmap=False)  # a memory map would count as memory
        if isinstance(hdus[context.hdu], fits.CompImageHDU):
            hdus.close()
            return None
        header, lock = hdus[context.hdu].header.copy(), threading.Lock()
        ccd = CCDData(
            FitsSection(hdus[context.hdu], lock),
            unit=_unit(header, self._unit, self._path),
            meta=header,
        )
        weakref.finalize(ccd.data, hdus.close)
        kind, number = find_uncertainty(hdus, context.hdu)
        if number is not None:
            ccd.uncertainty = uncertainty_class(hdus[number], kind)(
                FitsSection(hdus[number], lock)
            )
        number, headers = find_mask(hdus, context.hdu)
        if number is not None:
            bits = self._planes.dq_bits
            ccd.mask = FitsSection(
                hdus[number], lock, lambda values: bad_pixels(values, headers, bits)
            )
        return ccd

    def _context(self, hdus, index, frames):
        hdu = hdus[index]
        if isinstance(hdu, fits.CompImageHDU):
            cards = _split_cards(hdu.header.tostring(padding=False))
        else:
            head = self._bytes.read(*self._bytes.spans[index][:2])
            cards = _split_cards(head.decode('latin-1'))
        kind, number = find_uncertainty(hdus, index)
        versions = [hdus[i].ver for i in frames]
        version = hdu.ver if versions.count(hdu.ver) < 2 else index
        old = [i for i, h in enumerate(hdus) if (h.name, h.ver) == ('PRED_ERR', version)]
        given = self._planes.uncertainty
        return FrameContext(
            path=self._path,
            kind='fits',
            dtype=_dtype(self._path, index, hdu.header),
            channels=_channels(hdu.header, len(hdu.shape)),
            shape=hdu.shape,
            hdu=index,
            key=(hdu.name, hdu.ver),
            label=f'{hdu.name},{hdu.ver}' if hdu.name and index else str(index),
            n_images=len(frames),
            version=version,
            weight=(given[0] if given else kind) == 'weight',
            cards=cards,
            keywords=tuple(hdu.header.keys()),
            span=self._bytes.padded(index),
            uncertainty_span=None if number is None else self._bytes.padded(number),
            predicted_span=self._bytes.padded(old[0]) if old else None,
        )


class FitsSection:
    """
    The pixels of an image in an open FITS file, read when they are sliced.

    Parameters
    ----------
    hdu : `~astropy.io.fits.ImageHDU`
        The image.
    lock : `threading.Lock`
        Of the file, which has one position for all of its images.
    convert : callable, optional
        Makes of the values what is wanted.

    Attributes
    ----------
    shape : tuple of int
        Of the image.
    dtype : `numpy.dtype`
        Of what is read.
    """

    def __init__(self, hdu, lock, convert=None):
        self._section, self._lock, self._convert = hdu.section, lock, convert
        self.shape = hdu.shape
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))
        self.dtype = self[(slice(0, 1),) * self.ndim].dtype

    def __getitem__(self, part):
        """Read a part of the image."""
        with self._lock:
            values = self._section[part]
        return values if self._convert is None else self._convert(values)

    def __array__(self, dtype=None, copy=None):
        """Read all of the image."""
        return np.asarray(self[(slice(None),) * self.ndim], dtype=dtype)

    def __deepcopy__(self, memo):
        """A file is not changed, so that one is enough."""
        return self


def _dtype(path, index, header):
    bitpix = header['BITPIX']
    if bitpix not in fits.BITPIX2DTYPE:
        known = sorted(fits.BITPIX2DTYPE)
        msg = f'{path}: is damaged: HDU {index} has BITPIX = {bitpix}; expected one of {known}'
        raise FrameError(msg)
    return np.dtype(fits.BITPIX2DTYPE[bitpix])


def _choose(hdus, ext, path):
    """Numbers of the images to read, in the order of the file."""
    if ext is None or 'all' in _listed(ext):
        indices = find_images(hdus)
        if not indices:
            msg = f'{path}: holds no image with 2 or 3 axes, only: {_listing(hdus)}'
            raise FrameError(msg)
        return indices[:1] if ext is None else indices
    return sorted({_index_of(hdus, one, path) for one in _listed(ext)})


def _listed(ext):
    return list(ext) if isinstance(ext, list | tuple) else [ext]


def _index_of(hdus, ext, path):
    try:
        index = hdus.index_of(extension(ext))
        hdu = hdus[index]
    except (KeyError, IndexError) as error:
        msg = f'{path}: has no extension {ext}, only: {_listing(hdus)}'
        raise FrameError(msg) from error
    if not is_image(hdu) or len(hdu.shape) not in (2, 3):
        msg = f'{path}: extension {ext} is {_describe(hdu)}; an image with 2 or 3 axes is needed'
        raise FrameError(msg)
    return index


def _listing(hdus):
    return ', '.join(
        f'{i} {hdu.name or "(no name)"} {_describe(hdu)}' for i, hdu in enumerate(hdus)
    )


def _describe(hdu):
    if isinstance(hdu, TABLES) or not hdu.is_image:
        return 'a table'
    return f'an image of {"x".join(map(str, hdu.shape))}' if is_image(hdu) else 'without data'


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
    cards = [text[i : i + CARD].ljust(CARD) for i in range(0, len(text), CARD)]
    ends = [i for i, card in enumerate(cards) if card.rstrip() == 'END']
    return tuple(cards[: ends[0]] if ends else cards)
