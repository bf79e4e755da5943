# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Which extensions of a FITS file belong to an image, and which of its pixels are bad.

A companion plane has the image's shape and version (``EXTVER``) and a name that says what it is.
The bits of a plane of data quality are known for HST, JWST, LSST and DECam.
"""

import logging

import numpy as np
from astropy.io import fits

__all__ = [
    'NAMES', 'TABLES', 'bad_pixels', 'find_companion', 'find_images', 'is_image', 'read_bits',
]  # fmt: skip

logger = logging.getLogger(__name__)

NAMES = {  # of companion planes, what says most of the noise first
    'sigma': ('ERR', 'UNCERT', 'ERROR'),
    'variance': ('VARIANCE', 'VAR'),
    'weight': ('IVAR', 'WEIGHT', 'WHT', 'WT', 'WGT'),
    'mask': ('DQ', 'MASK', 'DQMASK', 'MSK'),
}
SCIENCE = ('SCI', 'IMAGE')  # where there are such images, nothing else is one
AUXILIARY = {  # images that are never frames: counts, coverage, tables of coordinates, our own
    *(name for names in NAMES.values() for name in names),
    *('CTX', 'CON', 'COV', 'COVERAGE', 'EXPMAP', 'AREA', 'WAVELENGTH', 'SAMP', 'TIME', 'FLAGS'),
    *('VAR_POISSON', 'VAR_RNOISE', 'VAR_FLAT', 'WCSDVARR', 'D2IMARR', 'PSFIMAGE', 'PRED_ERR'),
}

# bits of pixels that do not show the sky: lost or no data, dead, saturated or bled into, hit by a
# cosmic ray; hot and warm pixels, charge traps, jumps and the like are corrected and usable
HST_BITS = {
    'ACS': 1 | 2 | 4 | 256 | 2048 | 4096 | 8192,
    'WFC3': 1 | 2 | 4 | 256 | 2048 | 4096 | 8192,
    'STIS': 1 | 2 | 4 | 256 | 8192,
    'WFPC2': 1 | 4 | 8 | 16,
}
JWST_BITS = 1 | 2 | 512  # DO_NOT_USE, SATURATED, NON_SCIENCE
LSST_PLANES = ('NO_DATA', 'SAT', 'BAD', 'UNMASKEDNAN')
DECAM_CODES = (1, 2, 3, 4, 5)  # bad, no value, saturated, bleed trail, cosmic ray
DECAM_BITS = 1 | 2 | 16 | 64  # before version 3.5 of the pipeline: the same
DES_BITS = 1 | 2 | 8 | 16 | 64 | 128  # the same, dead amplifier, bleed at the edge
# a table that is named PRIMARY has is_image = True in Astropy
TABLES = (fits.BinTableHDU, fits.TableHDU)


def is_image(hdu):
    """
    Say whether an HDU holds an image.

    Parameters
    ----------
    hdu : HDU of `astropy.io.fits`
        The HDU.

    Returns
    -------
    image : bool
        Whether it has pixels and is neither a table nor random groups.
    """
    return hdu.is_image and not isinstance(hdu, (*TABLES, fits.GroupsHDU)) and bool(hdu.shape)


def find_images(hdus):
    """
    Find the images of a file that are frames of the sky.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.

    Returns
    -------
    indices : list of int
        The numbers of the HDUs with two or three axes: those called ``SCI`` or ``IMAGE`` where
        there are such, else all whose name is not that of a companion plane or a table of
        coordinates; where only such are left, all of them.
    """
    images = [i for i, hdu in enumerate(hdus) if is_image(hdu) and len(hdu.shape) in (2, 3)]
    for name in SCIENCE:
        science = [i for i in images if hdus[i].name == name]
        if science:
            return science
    return [i for i in images if hdus[i].name not in AUXILIARY] or images


def find_companion(hdus, index, kinds):
    """
    Find the plane that goes with an image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.
    index : int
        The number of the image.
    kinds : sequence of str
        Keys of `NAMES`; the first that is there is taken.

    Returns
    -------
    kind : str or None
        What the plane holds, `None` if there is none.
    number : int or None
        The number of its HDU.
    """
    version, shape = hdus[index].ver, hdus[index].shape
    for kind in kinds:
        for name in NAMES[kind]:
            for number, hdu in enumerate(hdus):
                if number == index or hdu.name != name or hdu.ver != version or not is_image(hdu):
                    continue
                if hdu.shape == shape:
                    return kind, number
                logger.info('%s is not used: its shape is %s, not %s', name, hdu.shape, shape)
    return None, None


def read_bits(text):
    """
    Read which bits of a plane of data quality are bad.

    Parameters
    ----------
    text : str
        ``'all'``, or numbers (decimal or ``0x``) and names, separated by commas or ``+``.

    Returns
    -------
    bits : tuple
        Of int and str, ``('all',)`` for every bit.

    Raises
    ------
    ValueError
        If a part is neither a number that is not negative nor a name.
    """
    bits = []
    for word in text.replace('+', ',').split(','):
        word = word.strip()
        if word.isidentifier():
            bits.append('all' if word.lower() == 'all' else word.upper())
            continue
        try:
            bits.append(int(word, 0))
        except ValueError:
            bits.append(-1)
        if bits[-1] < 0:
            msg = f"must be 'all', or bits such as 256+2048, 0x900 or SAT+NO_DATA, got {text!r}"
            raise ValueError(msg)
    return ('all',) if 'all' in bits else tuple(bits)


def bad_pixels(values, headers, bits=None):
    """
    Find the bad pixels of a plane of data quality.

    Parameters
    ----------
    values : `numpy.ndarray`
        The plane: bits, codes or a plain mask.
    headers : sequence of `~astropy.io.fits.Header`
        The plane's own header and those that tell of the telescope.
    bits : tuple, optional
        As `read_bits` gives them. The default is what the plane's layout says, and every value
        but zero where that is not known.

    Returns
    -------
    bad : `numpy.ndarray`, bool
        Of the same shape.

    Raises
    ------
    ValueError
        If a name in ``bits`` is no mask plane of the header.
    """
    layout, codes = _layout(headers)
    if bits is None:
        bits = codes if layout == 'codes' else (codes,)
    else:
        bits = tuple(_number(bit, headers[0]) for bit in bits)
    if None in bits:
        return values != 0
    whole = values if values.dtype.kind in 'iu' else np.nan_to_num(values).astype(np.int64)
    if layout == 'codes':
        return np.isin(whole, bits)
    total = 0
    for bit in bits:
        total |= bit
    return whole.astype(np.int64) & total != 0


def _number(bit, header):
    """Give the value of a bit, None for all of them."""
    if not isinstance(bit, str):
        return bit
    if bit == 'all':
        return None
    planes = _mask_planes(header)
    if bit not in planes:
        known = f'only {", ".join(planes)}' if planes else 'which names none; give numbers'
        msg = f'{bit} is no mask plane of this file (cards MP_*), {known}'
        raise ValueError(msg)
    return planes[bit]


def _layout(headers):
    """How a plane is to be read, 'bits' or 'codes', and what is bad in it; None: all but zero."""
    planes = _mask_planes(headers[0])
    if planes:
        return 'bits', sum(planes.get(name, 0) for name in LSST_PLANES)
    telescope, instrument = (_text(headers, card) for card in ('TELESCOP', 'INSTRUME'))
    if telescope == 'HST':
        return 'bits', HST_BITS.get(instrument)
    if telescope == 'JWST':
        return 'bits', JWST_BITS
    if instrument != 'DECAM':
        return 'bits', None
    if _text(headers[:1], 'EXTNAME') == 'MSK':
        return 'bits', DES_BITS
    version = _text(headers, 'PLVER').lstrip('V').split('.')
    if not version[0].isdigit():
        return 'bits', None
    old = tuple(int(part) for part in version[:2] if part.isdigit()) < (3, 5)
    return ('bits', DECAM_BITS) if old else ('codes', DECAM_CODES)


def _mask_planes(header):
    """Read the values of the mask planes that LSST's cards name: ``MP_SAT = 1`` is bit 2**1."""
    return {
        card.keyword.removeprefix('MP_'): 1 << card.value
        for card in header.cards
        if card.keyword.startswith('MP_') and isinstance(card.value, int) and 0 <= card.value < 63
    }


def _text(headers, keyword):
    """Read a card of the first header that has it as capital letters, empty where none has."""
    for header in headers:
        try:
            if keyword in header:
                return str(header[keyword]).strip().upper()
        except fits.VerifyError:  # a broken card tells nothing
            continue
    return ''
