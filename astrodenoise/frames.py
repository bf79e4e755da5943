# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Any input to planes, and planes back to an object of the same type.

`open_frame` looks at the object and never changes it; `Frame.close` makes the new one.  Pixels
become floating point as follows, and stay so in the result:

========================================  =========
dtype of the input                        planes
========================================  =========
float16, float32, integers up to 16 bits  float32
float64, longdouble, wider integers       float64
bool, complex, object, strings, records   TypeError
========================================  =========

Any byte order, stride and memory map goes; planes and results are in native byte order.
"""

import copy
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from numbers import Real

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData, StdDevUncertainty
from astropy.utils.masked import Masked

from astrodenoise.controls import less_noise
from astrodenoise.provenance import write_record

__all__ = [
    'NOTHING_VALID',
    'PLANES',
    'Frame',
    'Opened',
    'Window',
    'array_of',
    'check_frame',
    'float_dtype',
    'is_lazy',
    'open_frame',
    'read_card',
    'read_planes',
    'saturate_card',
    'unit_of',
]

# All that an NDData or CCDData can hold, and what becomes of it.
PLANES = {
    'data': 'new', 'uncertainty': 'chosen', 'mask': 'copied', 'flags': 'copied', 'wcs': 'copied',
    'psf': 'copied', 'meta': 'copied', 'unit': 'copied',
}  # fmt: skip
UNCERTAINTIES = ('keep', 'predict', None)
STORAGE_CARDS = ('BZERO', 'BSCALE', 'BLANK')  # about integers in a file, untrue of floats
TYPE_CARDS = ('IMAGETYP', 'OBSTYPE', 'FRAME')
CALIBRATION = 'bias(?:es)?|zeros?|darks?|[dipst]?flats?'
WHAT_KIND = (  # words that stand beside these: 'Master Dark', 'dome flat', 'Flat Field 3'
    'master|super|mean|median|combined|dome|sky|twilight|evening|morning|lamp|internal|led|'
    'frame|field|image|exposure|current'
)
CALIBRATION_TYPE = re.compile(
    rf'(?=.*(?:{CALIBRATION}))(?:(?:{CALIBRATION}|{WHAT_KIND})[\W\d_]*)+', re.IGNORECASE
)
NOTHING_VALID = (
    'Every pixel of the frame is masked, NaN or infinite; nothing is left to denoise.'
)
THREADS = 2  # places that are looked at at once: each takes up to 0.3 GB
EXPECTED = 'CCDData, NDData, Quantity or numpy array of shape (H, W) or (N, H, W)'


@dataclass(frozen=True, eq=False)
class Window:
    """
    A part of a frame.

    Attributes
    ----------
    data, valid, saturated, sigma, stars : `numpy.ndarray`, (n, h, w)
        As in `Frame`; the last three may be `None`.
    """

    data: np.ndarray
    valid: np.ndarray
    saturated: np.ndarray | None
    sigma: np.ndarray | None
    stars: np.ndarray | None = None


class Opened:
    """
    What all frames share, wherever their pixels are: what comes in with them and goes out again.

    ``shape``, ``dtype`` and ``window`` are those of `Frame`.
    """

    def filled(
        self, remove_noise, known, engine, settings, *, find_stars=False, errors=False,
        as_noise=False,
    ):  # fmt: skip
        """
        Have the noise removed, block by block.

        Parameters
        ----------
        remove_noise : callable
            `astrodenoise.removal.remove_noise`.
        known : list of `astrodenoise.known.Known`
            Of each plane.
        engine : `astrodenoise.engine.Engine`
            The network.
        settings : `astrodenoise.options.Options`
            What was asked for.
        find_stars, errors, as_noise : bool, optional
            As for `astrodenoise.removal.remove_noise`.

        Returns
        -------
        result : `numpy.ndarray`, (N, H, W)
            The new pixels, or the noise that is removed from them.
        sigma : `numpy.ndarray`, (N, H, W), float32, or None
            Standard deviation of each pixel, where ``errors`` asks for it.
        limited : list of int
            Pixels of each plane that were held back.
        """
        result = self.empty(self.dtype)
        sigma = self.empty(np.dtype(np.float32)) if errors else None
        limited = np.zeros(self.shape[0], int)
        for block in remove_noise(
            self, known, engine, settings, find_stars=find_stars, errors=errors, as_noise=as_noise
        ):
            at = block.planes, block.rows, block.cols
            result[at] = block.data
            if errors:
                sigma[at] = block.error
            limited[block.planes] += block.limited
        return result, sigma, limited.tolist()

    def less(self, noise, controls, *, joint=False, keep=False):
        """
        Give the frame less a share of the noise that was found in it.

        Parameters
        ----------
        noise : array, (N, H, W)
            What is removed at full strength, as `filled` gave it.
        controls : `astrodenoise.controls.Controls`
            The shares.
        joint : bool, optional
            Whether three planes are colours of one camera.
        keep : bool, optional
            Leave ``noise`` as it is; else its memory is used.

        Returns
        -------
        result : array, (N, H, W)
            The new pixels.
        """
        planes, cols = slice(0, self.shape[0]), slice(0, self.shape[2])
        result = self.empty(self.dtype) if keep else noise

        def read(rows):
            return self.window(planes, rows, cols).data

        for rows, pixels in less_noise(read, noise, controls, joint=joint):
            result[planes, rows, cols] = pixels
        return result

    @property
    def ndim(self):
        """Number of axes of the original: 2 or 3."""
        return np.ndim(array_of(self.original))

    def value_of(self, thing, name):
        """
        Take the unit off what was given with the frame.

        Parameters
        ----------
        thing : object
            A quantity is brought to the unit of ``data``; anything else is given back.
        name : str
            What it is, for the message.

        Returns
        -------
        value : object
            Without a unit.

        Raises
        ------
        `~astropy.units.UnitsError`
            If its unit does not fit.
        """
        if not isinstance(thing, u.Quantity):
            return thing
        unit = u.dimensionless_unscaled if self.unit is None else self.unit
        try:
            return thing.to_value(unit)
        except u.UnitConversionError as error:
            msg = f'{name} is in {thing.unit}, the frame in {unit}: give it in the same unit'
            raise u.UnitsError(msg) from error

    def wants_sigma(self, uncertainty):
        """
        Tell whether `close` makes use of the sigma of each pixel.

        Parameters
        ----------
        uncertainty : {'keep', 'predict', None}
            As for `close`.

        Returns
        -------
        wanted : bool
            Whether the result gets a new uncertainty.
        """
        if uncertainty is None or not isinstance(self.original, NDData):
            return False
        return uncertainty == 'predict' or self.original.uncertainty is None

    def close(self, planes, *, uncertainty='keep', sigma=None, record=None, add_keyword=True):
        """
        Make an object of the original's type around new pixels.

        Pixels outside ``valid`` are copied from the original, never computed.  Mask, flags, wcs,
        psf, unit, metadata and whatever a subclass adds are deep copies; the class is the same.
        An array or Quantity has no place for an uncertainty or metadata, so ``uncertainty``,
        ``sigma`` and ``record`` do nothing there.

        Parameters
        ----------
        planes : `numpy.ndarray`, (N, H, W)
            The new pixels in the unit of ``data``.  Handed over: the result may use its memory.
        uncertainty : {'keep', 'predict', None}, optional
            ``'keep'``: the original's uncertainty, or ``sigma`` as a standard deviation where it
            has none.  ``'predict'``: ``sigma`` in the class of the original's uncertainty
            (standard deviation where it has none that can be converted).  `None`: none.
        sigma : `numpy.ndarray`, (N, H, W), optional
            Standard deviation of each pixel in the unit of ``data``.  Handed over, too.
        record : dict, optional
            What was done, for `~astrodenoise.provenance.write_record`.
        add_keyword : bool, str, `ccdproc.Keyword`, dict or `None`, optional
            As for `~astrodenoise.provenance.write_record`.

        Returns
        -------
        result : object
            Of the original's type, in the dtype of ``data``; shares no memory with the original.
            BZERO, BSCALE and BLANK are gone from its metadata: it is of floats, and they are about
            integers (Astropy leaves them there after it has applied them).

        Raises
        ------
        ValueError
            If ``planes`` or ``sigma`` is of another shape, ``uncertainty`` is unknown, or
            ``'predict'`` lacks its ``sigma``.
        """
        if uncertainty not in UNCERTAINTIES:
            msg = f'uncertainty={uncertainty!r} is unknown; give one of {UNCERTAINTIES}.'
            raise ValueError(msg)
        if uncertainty == 'predict' and sigma is None:
            msg = "uncertainty='predict' needs sigma=, the standard deviation of each pixel."
            raise ValueError(msg)
        pixels = self._finish(planes)
        if sigma is not None:
            sigma = self._shaped('sigma', sigma)
            sigma = sigma if sigma.dtype == np.float32 else sigma.astype(np.float32)
        if not isinstance(self.original, NDData):
            return _rewrap(self.original, pixels)
        result = _copy_around(self.original, pixels, uncertainty=uncertainty == 'keep')
        if uncertainty == 'predict':
            result.uncertainty = _as_kind(self.original.uncertainty, sigma, self.unit)
        elif uncertainty == 'keep' and result.uncertainty is None and sigma is not None:
            result.uncertainty = StdDevUncertainty(sigma, copy=False, unit=self.unit)
        for name in [name for name in result.meta if str(name).upper() in STORAGE_CARDS]:
            del result.meta[name]
        if record is not None:
            write_record(result.meta, record, add_keyword)
        return result

    def _shaped(self, name, planes):
        """Give ``planes`` the original's axes."""
        if planes.shape != self.shape:
            msg = f'{name} has the shape {planes.shape}; expected that of data, {self.shape}.'
            raise ValueError(msg)
        return planes if self.ndim == 3 else planes[0]

    def each(self, function, places, windows):
        """
        Call a function for several places of the frame.

        Parameters
        ----------
        function : callable
            Takes the frame and a place.
        places : list
            What it is called with.
        windows : list of tuple of slice
            Planes, rows and columns that it looks at for each of them.

        Returns
        -------
        results : list
            In the order of ``places``.
        """
        del windows  # all of the frame is within reach
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(partial(function, self), places))

    def empty(self, dtype):
        """
        Make room for planes.

        Parameters
        ----------
        dtype : `numpy.dtype`
            Of the pixels.

        Returns
        -------
        planes : `numpy.ndarray`, (N, H, W)
            Of any values.
        """
        return np.empty(self.shape, dtype)


@dataclass(eq=False, repr=False)
class Frame(Opened):
    """
    The planes of a frame, and the object that they came from.

    Attributes
    ----------
    data : `numpy.ndarray`, (N, H, W), float32 or float64
        The pixels in native byte order, every value as it was: masked ones, NaN and infinity, too.
        Read-only, because it may be the memory of ``original``.
    valid : `numpy.ndarray`, (N, H, W), bool
        Neither masked nor non-finite.  What is set to `False` here before `close` comes back
        exactly as it was.
    sigma : `numpy.ndarray`, (N, H, W), float32, or `None`
        Standard deviation in the unit of ``data`` from the object's uncertainty, as it stands
        there: zeros, NaN and infinities are possible.  `None` where there is none, or one that
        cannot be a standard deviation.
    unit : `astropy.units.UnitBase` or `None`
        Unit of ``data``.
    integer : bool
        Whether the pixels came as integers.
    saturation : float or `None`
        The header's SATURATE card, if it is a number; taken to be in the unit of ``data``.
    meta : `astropy.io.fits.Header`, dict or `None`
        The object's own metadata, not a copy.
    original : object
        What `open_frame` was given.
    saturated : `numpy.ndarray`, (N, H, W), bool, or `None`
        Pixels that are not valid because they are saturated, once they were looked for.
    stars : `numpy.ndarray`, (N, H, W), or `None`
        A given mask of stars that keep their pixels.
    """

    data: np.ndarray
    valid: np.ndarray
    sigma: np.ndarray | None
    unit: u.UnitBase | None
    integer: bool
    saturation: float | None
    meta: object
    original: object
    saturated: np.ndarray | None = field(default=None, kw_only=True)
    stars: np.ndarray | None = field(default=None, kw_only=True)

    def __repr__(self):
        """Say what it is in one line; its arrays would fill a page."""
        return (
            f'<Frame of a {type(self.original).__name__}: {self.data.shape} {self.data.dtype}, '
            f'{np.count_nonzero(self.valid)} valid pixels>'
        )

    @property
    def shape(self):
        """Planes, height and width: (N, H, W)."""
        return self.data.shape

    @property
    def dtype(self):
        """Of ``data``."""
        return self.data.dtype

    def window(self, planes, rows, cols):
        """
        Look at a part of the frame.

        Parameters
        ----------
        planes, rows, cols : slice
            The part.

        Returns
        -------
        window : `Window`
            Views of the frame's own arrays.
        """
        part = planes, rows, cols
        others = (
            None if plane is None else plane[part]
            for plane in (self.saturated, self.sigma, self.stars)
        )
        return Window(self.data[part], self.valid[part], *others)

    def _finish(self, planes):
        """Put the new pixels together with those that must come back as they were."""
        shared = np.may_share_memory(planes, self.data)
        pixels = self._shaped('planes', planes).astype(self.data.dtype, copy=shared)
        if not pixels.flags.writeable:
            pixels = pixels.copy()
        data, valid = (a if self.ndim == 3 else a[0] for a in (self.data, self.valid))
        np.copyto(pixels, data, where=~valid)
        return pixels


def open_frame(ccd):
    """
    Look at a frame as planes of floating-point pixels.

    Parameters
    ----------
    ccd : `astropy.nddata.CCDData`, `astropy.nddata.NDData`, `astropy.units.Quantity` or \
            `numpy.ndarray`
        Of shape (H, W) or (N, H, W); subclasses, `numpy.ma.MaskedArray`,
        `astropy.utils.masked.Masked` and memory maps, too.  It is not changed.

    Returns
    -------
    frame : `Frame`
        Its planes.

    Raises
    ------
    TypeError
        If ``ccd`` is or holds something else (a dask array, a tensor), or its pixels are no real
        numbers.
    ValueError
        If it is empty, has another number of axes, has its colours in the last axis, holds a mask
        or an uncertainty of another shape, no pixel is valid, or its header says that it is a
        bias, a dark or a flat.
    astropy.units.UnitsError
        If its unit is logarithmic, or its uncertainty's unit does not fit its own.
    """
    pixels, _ = _pixels(array_of(ccd))
    check_frame(ccd, pixels)
    data, valid, sigma = read_planes(ccd)
    if not valid.any():
        raise ValueError(NOTHING_VALID)
    meta = ccd.meta if isinstance(ccd, NDData) else None
    integer = pixels.dtype.kind in 'iu'
    return Frame(data, valid, sigma, unit_of(ccd), integer, saturate_card(meta), meta, ccd)


def read_planes(ccd):
    """
    Read the planes of a frame, or of a part of one, that was checked.

    Parameters
    ----------
    ccd : object
        As for `open_frame`.

    Returns
    -------
    data, valid, sigma : `numpy.ndarray`, (N, H, W)
        As in `Frame`.
    """
    nddata = isinstance(ccd, NDData)
    pixels, masked = _pixels(array_of(ccd))
    data = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    with np.errstate(over='ignore'):  # a longdouble beyond float64 is infinite, thus not valid
        data = data.astype(float_dtype(pixels.dtype), copy=False).view()
    data.flags.writeable = False
    valid = np.isfinite(data)
    for mask in (masked, ccd.mask if nddata else None):
        if mask is not None:
            mask = np.asarray(mask if np.isscalar(mask) else _pixels(mask)[0], dtype=bool)
            valid &= ~_fitted('mask', mask, pixels.shape, data.shape)
    return data, valid, _sigma(ccd, pixels.shape, data.shape) if nddata else None


def check_frame(ccd, pixels):
    """
    Refuse what is no frame of the sky.

    Parameters
    ----------
    ccd : object
        As for `open_frame`.
    pixels : array
        Its pixels, of which only shape and dtype are looked at.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `open_frame`.
    """
    _check_pixels(pixels)
    _check_type_cards(ccd.meta if isinstance(ccd, NDData) else None)
    _check_unit(unit_of(ccd))


def unit_of(ccd):
    """
    Give the unit of a frame.

    Parameters
    ----------
    ccd : object
        As for `open_frame`.

    Returns
    -------
    unit : `~astropy.units.UnitBase` or None
        None where it has none.
    """
    return ccd.unit if isinstance(ccd, NDData) else getattr(ccd, 'unit', None)


def is_lazy(ccd):
    """
    Tell whether the pixels of an object are still to be computed.

    Parameters
    ----------
    ccd : object
        A frame or an array.

    Returns
    -------
    lazy : bool
        Whether it is or holds a dask array.
    """
    return type(array_of(ccd)).__module__.split('.')[0] == 'dask'


def array_of(ccd):
    """
    Take the pixels out of an NDData.

    Parameters
    ----------
    ccd : object
        As for `open_frame`.

    Returns
    -------
    pixels : object
        Its ``data``, or what was given.
    """
    return ccd.data if isinstance(ccd, NDData) else ccd


def _pixels(array):
    """Give any kind of array as a plain one that shares its memory, and its mask or `None`."""
    if isinstance(array, Masked):
        return np.asarray(array.unmasked), np.asarray(array.mask)
    if isinstance(array, np.ma.MaskedArray):
        mask = np.ma.getmask(array)
        return np.asarray(np.ma.getdata(array)), None if mask is np.ma.nomask else mask
    if isinstance(array, np.ndarray):
        return np.asarray(array), None
    msg = f'ccd is or holds a {type(array).__name__}; expected {EXPECTED}. {_advice(array)}'
    raise TypeError(msg)


def _advice(thing):
    """How to make a frame of something that is none."""
    package = type(thing).__module__.split('.')[0]
    if isinstance(thing, str | os.PathLike):
        return "Read the file first, for example with CCDData.read(path, unit='adu')."
    if isinstance(thing, fits.HDUList) or hasattr(thing, 'header'):
        return 'Pass the data of one HDU, or CCDData.read(path, unit=...).'
    if package == 'dask':
        return (
            'A dask array is not computed yet: pass ccd.compute(), or for a CCDData set '
            'ccd.data = ccd.data.compute() first.'
        )
    if package == 'torch':
        return 'Convert it with tensor.detach().cpu().numpy().'
    if package == 'cupy':
        return 'Convert it with cupy.asnumpy(array).'
    if hasattr(thing, '__array_namespace__'):
        return 'Copy it to the host yourself, for most libraries with numpy.asarray(array).'
    if isinstance(thing, list | tuple):
        return 'Convert it with numpy.asarray, or denoise one frame after the other.'
    return 'Convert it to a numpy array.'


def _check_pixels(pixels):
    """Refuse arrays that are no frame."""
    shape = pixels.shape
    if pixels.dtype.kind not in 'fiu':
        msg = (
            f'The pixels are of dtype {pixels.dtype}; expected real numbers. Convert them, for '
            'example with astype(numpy.float32).'
        )
        raise TypeError(msg)
    if pixels.ndim not in (2, 3):
        msg = f'The frame has ndim={pixels.ndim} (shape {shape}); expected (H, W) or (N, H, W).'
        raise ValueError(msg)
    if pixels.size == 0:
        msg = f'The frame of shape {shape} is empty; expected at least one pixel.'
        raise ValueError(msg)
    if pixels.ndim == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        alpha = ' and drop the alpha plane: data[..., :3]' if shape[2] == 4 else ''
        msg = (
            f'The frame of shape {shape} seems to have its colours in the last axis; expected '
            f'(N, H, W). Give numpy.moveaxis(data, -1, 0){alpha}.'
        )
        raise ValueError(msg)


def _check_type_cards(meta):
    """Refuse calibration frames: their noise goes down by combining, and they show no sky."""
    for card in TYPE_CARDS:
        value = read_card(meta, card)
        if isinstance(value, str) and CALIBRATION_TYPE.fullmatch(value.strip()):
            msg = (
                f'The header says {card}={value!r}, which is no frame of the sky; expected a '
                'calibrated light frame. Combine calibration frames (ccdproc.combine), calibrate '
                'and combine the lights, and denoise the result. If the card is wrong, correct or '
                f'remove it: del ccd.meta[{card!r}].'
            )
            raise ValueError(msg)


def _check_unit(unit):
    """Refuse magnitudes and the like: their noise is not that of their fluxes."""
    if isinstance(unit, u.FunctionUnitBase) or (unit is not None and unit.is_equivalent(u.dex)):
        msg = f'The unit {unit} is logarithmic; expected a linear one. Convert the frame to flux.'
        raise u.UnitsError(msg)


def float_dtype(dtype):
    """
    Find the dtype of the planes: see the table at the top.

    Parameters
    ----------
    dtype : `numpy.dtype`
        Of the input.

    Returns
    -------
    dtype : `numpy.dtype`
        Float32 or float64.
    """
    small = dtype.itemsize <= (4 if dtype.kind == 'f' else 2)
    return np.dtype(np.float32 if small else np.float64)


def _fitted(name, values, shape, planes):
    """Broadcast something that goes with the frame to its planes."""
    try:
        return np.broadcast_to(values, shape).reshape(planes)
    except ValueError:
        msg = f"The frame's {name} has the shape {values.shape}; expected that of data, {shape}."
        raise ValueError(msg) from None


def _sigma(nddata, shape, planes):
    """Read the uncertainty as a standard deviation in the unit of the data."""
    deviation = _standard_deviation(nddata.uncertainty)
    if deviation is None:
        return None
    array = deviation.array
    values = np.asarray(array) if np.isscalar(array) else _pixels(array)[0]
    if values.dtype.kind not in 'fiu':
        msg = f"The frame's uncertainty is of dtype {values.dtype}; expected real numbers."
        raise TypeError(msg)
    scale = 1.0
    if deviation.unit not in (None, nddata.unit):
        try:
            scale = deviation.unit.to(nddata.unit)
        except (u.UnitConversionError, TypeError):
            msg = (
                f"The uncertainty's unit {deviation.unit} does not fit the data's, {nddata.unit}; "
                'set ccd.uncertainty anew, or to None.'
            )
            raise u.UnitsError(msg) from None
    with np.errstate(over='ignore', under='ignore'):
        values = (values if scale == 1 else values * scale).astype(np.float32)
    return _fitted('uncertainty', values, shape, planes)


def _standard_deviation(uncertainty):
    """Convert an uncertainty to a StdDevUncertainty, `None` where that is not possible."""
    if getattr(uncertainty, 'array', None) is None:
        return None
    if isinstance(uncertainty, StdDevUncertainty):
        return uncertainty  # represent_as would square it and take the root
    try:
        with np.errstate(all='ignore'):  # a variance below 0 or a weight of 0 is no mistake here
            return uncertainty.represent_as(StdDevUncertainty)
    except TypeError:
        return None


def read_card(meta, key):
    """
    Read a card of a header, or its lower-case twin in a dict.

    Parameters
    ----------
    meta : `astropy.io.fits.Header`, dict or `None`
        The metadata.
    key : str
        The keyword.

    Returns
    -------
    value : object
        Of the card; `None` if it is missing or broken.
    """
    if meta is None:
        return None
    try:
        return meta.get(key, meta.get(key.lower()))
    except fits.VerifyError:
        return None


def saturate_card(meta):
    """
    Read the saturation level from a header.

    Parameters
    ----------
    meta : `astropy.io.fits.Header`, dict or `None`
        The metadata.

    Returns
    -------
    level : float or None
        None where there is none, or no positive number.
    """
    level = read_card(meta, 'SATURATE')
    if isinstance(level, bool | np.bool_) or not isinstance(level, Real):
        return None
    return float(level) if 0 < level < np.inf else None  # some write 0 for unknown


def _copy_around(nddata, pixels, *, uncertainty):
    """
    Copy an NDData around other pixels; nothing else changes and nothing is shared.

    ``copy`` and the constructor would do for Astropy's own classes, but ``copy`` shares the flags
    and copies the old pixels, and a subclass may have another constructor and more attributes.
    """
    result = copy.copy(nddata)
    memo = {id(nddata): result}  # who refers to the old object refers to the new one
    replaced = {f'_{plane}' for plane, fate in PLANES.items() if fate != 'copied'}
    for name, value in vars(nddata).items():
        if name not in replaced:
            vars(result)[name] = copy.deepcopy(value, memo)
    old = nddata.uncertainty if uncertainty else None
    vars(result).update(_data=pixels, _uncertainty=copy.deepcopy(old, memo))
    return result


def _rewrap(original, pixels):
    """Make an array of the original's kind."""
    if isinstance(original, Masked):
        return Masked(_rewrap(original.unmasked, pixels), mask=original.mask.copy())
    if isinstance(original, np.ma.MaskedArray):
        mask = np.ma.getmask(original)
        mask = mask if mask is np.ma.nomask else mask.copy()
        return np.ma.MaskedArray(
            pixels, mask, fill_value=original.fill_value, hard_mask=original.hardmask
        )
    if isinstance(original, u.Quantity):
        return type(original)(pixels, unit=original.unit, copy=False)
    return pixels


def _as_kind(uncertainty, sigma, unit):
    """Give a standard deviation in the class of an uncertainty, if that is possible."""
    deviation = StdDevUncertainty(sigma, copy=False, unit=unit)
    if _standard_deviation(uncertainty) is None or isinstance(uncertainty, StdDevUncertainty):
        return deviation
    with np.errstate(divide='ignore', over='ignore'):  # sigma 0 has an infinite weight
        return deviation.represent_as(type(uncertainty))
