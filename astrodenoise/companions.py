# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The planes that go with an image: its uncertainty and mask, of its own file or of others."""

import dataclasses
import logging
import os
import re
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

from astrodenoise.filecontext import FrameError
from astrodenoise.fitsbytes import FitsBytes
from astrodenoise.fitslayouts import bad_pixels, find_companion, is_image

__all__ = [
    'PlaneFiles',
    'extension',
    'find_mask',
    'find_uncertainty',
    'read_companions',
    'read_plane',
    'split_name',
    'uncertainty_class',
]

logger = logging.getLogger(__name__)

UNCERTAINTIES = {
    'sigma': StdDevUncertainty,
    'variance': VarianceUncertainty,
    'weight': InverseVariance,
}
OF_CLASS = {cls.__name__: cls for cls in UNCERTAINTIES.values()}  # as CCDData.write names them
OPTIONS = {'sigma': '--err', 'variance': '--var', 'weight': '--weight'}


@dataclasses.dataclass(frozen=True)
class PlaneFiles:
    """
    Planes that are read from other files than the image's.

    Attributes
    ----------
    uncertainty : (str, str) or None
        What the plane holds, ``'sigma'``, ``'variance'`` or ``'weight'``, and its file: a name,
        ``NAME[EXT]``, or a folder that holds a file of the image's name.
    dq : str or None
        The same of the mask.
    dq_bits : tuple or None
        As `astrodenoise.fitslayouts.read_bits` gives them, for any mask.
    """

    uncertainty: tuple | None = None
    dq: str | None = None
    dq_bits: tuple | None = None


def find_uncertainty(hdus, index):
    """
    Find the extension that holds an image's uncertainty.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.
    index : int
        The number of the image.

    Returns
    -------
    kind : str or None
        ``'sigma'``, ``'variance'`` or ``'weight'`` (inverse variance up to a factor).
    number : int or None
        The number of its HDU.
    """
    kind, number = find_companion(hdus, index, UNCERTAINTIES)
    if number is None:
        return None, None
    name = hdus[number].header.get('UTYPE')
    if name is not None and str(name) not in OF_CLASS:
        logger.info('%s is not used: UTYPE %s', hdus[number].name, name)
        return None, None
    return kind, number


def uncertainty_class(hdu, kind):
    """
    Give the class of an uncertainty: what the file says, else what its kind is.

    Parameters
    ----------
    hdu : `~astropy.io.fits.ImageHDU`
        It.
    kind : str
        As `find_uncertainty` gives it.

    Returns
    -------
    cls : type
        A subclass of `~astropy.nddata.NDUncertainty`.
    """
    return OF_CLASS.get(str(hdu.header.get('UTYPE')), UNCERTAINTIES[kind])


def find_mask(hdus, index):
    """
    Find the extension that holds an image's mask or data quality.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.
    index : int
        The number of the image.

    Returns
    -------
    number : int or None
        The number of its HDU.
    headers : list of `~astropy.io.fits.Header`
        What `astrodenoise.fitslayouts.bad_pixels` takes.
    """
    _, number = find_companion(hdus, index, ['mask'])
    if number is None:
        return None, []
    return number, [hdus[number].header, hdus[0].header, hdus[index].header]


def read_companions(hdus, index, fits_bytes, planes):
    """
    Read the uncertainty and the mask of an image.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        The file.
    index : int
        The number of the image.
    fits_bytes : `~astrodenoise.fitsbytes.FitsBytes`
        The same file.
    planes : `PlaneFiles`
        What is read from other files instead.

    Returns
    -------
    uncertainty : `~astropy.nddata.NDUncertainty` or None
        In the unit of the image; of a weight the level may be any.
    mask : `numpy.ndarray`, bool, or None
        True where a pixel is bad, or has no weight.

    Raises
    ------
    FrameError
        If another file lacks the plane, or its shape is not the image's.
    """
    mask, path = _read_mask(hdus, index, fits_bytes, planes), fits_bytes.path
    if planes.uncertainty is not None:
        kind, name = planes.uncertainty
        values, _ = _read_other(name, hdus[index], path, OPTIONS[kind])
        cls = UNCERTAINTIES[kind]
    else:
        kind, number = find_uncertainty(hdus, index)
        if number is None:
            return None, mask
        values = fits_bytes.decoded(hdus, number)
        cls = uncertainty_class(hdus[number], kind)
        logger.info('%s: %s from %s,%d', path, kind, hdus[number].name, hdus[number].ver)
    if kind == 'weight':
        without = ~(values > 0)  # nothing was observed there
        mask = without if mask is None else mask | without
    return cls(values), mask


def _read_other(name, hdu, path, option):
    return read_plane(name, path, key=(hdu.name, hdu.ver), shape=hdu.shape, option=option)


def _read_mask(hdus, index, fits_bytes, planes):
    path = fits_bytes.path
    if planes.dq is not None:
        values, headers = _read_other(planes.dq, hdus[index], path, '--dq')
        headers = [*headers, hdus[0].header, hdus[index].header]
        name = f'--dq {planes.dq}'
    else:
        number, headers = find_mask(hdus, index)
        if number is None:
            return None
        hdu = hdus[number]
        values, name = fits_bytes.decoded(hdus, number), f'{hdu.name},{hdu.ver}'
    try:
        mask = bad_pixels(values, headers, planes.dq_bits)
    except ValueError as error:
        msg = f'{path}: --dq-bits: {error}'
        raise FrameError(msg) from error
    logger.info('%s: %d pixels masked by %s', path, np.count_nonzero(mask), name)
    return mask


def read_plane(name, path, *, key, shape, option):
    """
    Read a plane of an image from another FITS file.

    Parameters
    ----------
    name : str
        The file, ``NAME[EXT]``, or a folder that holds a file of the image's name. Without
        ``[EXT]``, the extension of the image's name and version is taken, else the first image.
    path : `~pathlib.Path`
        The file of the image.
    key : (str, int)
        The image's name and version.
    shape : tuple of int
        The image's shape.
    option : str
        What the user gave the name to, for the messages.

    Returns
    -------
    values : `numpy.ndarray`
        Of the image's shape, or that of one of its planes.
    headers : list of `~astropy.io.fits.Header`
        The plane's own and the primary one.

    Raises
    ------
    FrameError
        If the file is missing or damaged, has no such image, or its shape is another.
    """
    file, ext = split_name(name)
    if os.path.isdir(file):
        file = os.path.join(file, Path(path).name)
    try:
        fits_bytes = FitsBytes(file)
        with fits.open(fits_bytes.source()) as hdus:
            number = _find_plane(hdus, ext, key)
            values = None if number is None else fits_bytes.decoded(hdus, number)
            headers = [] if number is None else [hdus[number].header, hdus[0].header]
    except FrameError as error:
        msg = f'{option} {error}'
        raise FrameError(msg) from error
    except OSError as error:
        msg = f'{option} {name}: cannot be read as FITS: {error.strerror or error}'
        raise FrameError(msg) from error
    if values is None:
        msg = f'{option} {name}: has no image' + ('' if ext is None else f' {ext}')
        raise FrameError(msg)
    if values.shape not in (shape, shape[-2:]):
        msg = f'{option} {name}: its shape is {values.shape}, that of the image {shape}'
        raise FrameError(msg)
    return values, headers


def _find_plane(hdus, ext, key):
    """Find the number of a plane's HDU: as asked for, of the image's name, or the first image."""
    if ext is not None:
        try:
            number = hdus.index_of(extension(ext))
            return number if is_image(hdus[number]) else None
        except (KeyError, IndexError):
            return None
    images = [number for number, hdu in enumerate(hdus) if is_image(hdu)]
    alike = [number for number in images if (hdus[number].name, hdus[number].ver) == key]
    return next(iter(alike + images), None)


def split_name(name):
    """
    Split ``FILE[EXT]``.

    Parameters
    ----------
    name : str
        A file's name, with or without an extension in brackets.

    Returns
    -------
    file : str
        The file's name.
    ext : str or None
        The extension.
    """
    match = re.fullmatch(r'(.+)\[([^\[\]]+)\]', name)
    if match is None or os.path.exists(name):
        return name, None
    return match[1], match[2]


def extension(ext):
    """
    Translate the user's word for an extension to what Astropy takes.

    Parameters
    ----------
    ext : int or str
        ``3``, ``'3'``, ``'SCI'`` or ``'SCI,3'``.

    Returns
    -------
    key : int, str or (str, int)
        Number, name, or name and version.
    """
    name, _, version = str(ext).partition(',')
    if version.strip().isdigit():
        return name.strip(), int(version)
    return int(name) if name.strip().isdigit() else name.strip()
