# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Raw frames of one-shot-colour cameras: a Bayer mosaic as four planes of half its size, and back.

Neighbours in a mosaic are of different colours: its checkerboard is neither noise nor structure of
the sky.  The pixels of one place of the 2 x 2 cell are a plane like any other, of one colour, with
a sky and a noise of its own (the two greens, too).  The four are in the order of the pattern's
letters: top left, top right, bottom left, bottom right of the array's first 2 x 2 pixels.
"""

import warnings
from dataclasses import dataclass
from numbers import Real

import numpy as np

from astrodenoise.exceptions import MosaicWarning
from astrodenoise.frames import Frame, read_card

__all__ = [
    'PATTERNS',
    'MosaicFrame',
    'as_mosaic',
    'check_peaks',
    'join_mosaic',
    'read_pattern',
    'split_mosaic',
]

PATTERNS = ('RGGB', 'BGGR', 'GRBG', 'GBRG')
PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))  # (row, column) in the 2 x 2 cell
PATTERN_CARDS = ('BAYERPAT', 'BAYRPAT', 'COLORTYP')
NO_MOSAIC = ('', 'NONE', 'MONO', 'COLOR', 'RGB')  # what cameras write there otherwise
UNDERSAMPLED = 2.0  # px, FWHM in the half-size planes
SHARP = 1.5  # px, FWHM with which such stars are searched
SAMPLE = 1024  # px, side of the piece in which stars are looked at
BRIGHT = 30.0  # matched-filter S/N of the stars whose peaks tell
FEWEST = 5  # stars
MAX_LOSS = 0.02  # of the peak
DEBAYER = 'debayer the frame first and denoise its colours as (3, H, W)'


@dataclass(eq=False, repr=False)
class MosaicFrame(Frame):
    """
    The four planes of a mosaic; it closes to the whole mosaic.

    Sides of odd length are filled up with pixels that are not valid.

    Attributes
    ----------
    data, valid, sigma : `numpy.ndarray`, (4, h, w)
        As in `astrodenoise.frames.Frame`, plane by plane; ``sigma`` may be `None`.
    unit, integer, saturation, saturated, stars, meta, original : object
        As in `astrodenoise.frames.Frame`.
    pattern : str
        Colours of the planes, such as 'RGGB'.
    whole : `astrodenoise.frames.Frame`
        The mosaic as one plane.
    """

    pattern: str
    whole: Frame

    def value_of(self, thing, name):
        """
        Take the unit off what was given with the frame, and split it as the mosaic is split.

        Parameters
        ----------
        thing : object
            A quantity is brought to the unit of ``data``, an array of (H, W) to (4, h, w), which
            may be its shape already.
        name : str
            What it is, for the message.

        Returns
        -------
        value : object
            Without a unit.

        Raises
        ------
        ValueError
            If it is an array of another shape than the mosaic.
        `~astropy.units.UnitsError`
            If its unit does not fit.
        """
        value = super().value_of(thing, name)
        if np.shape(value) in ((), self.data.shape):
            return value
        shape = self.whole.data.shape
        if np.shape(value) not in (shape, shape[1:]):
            msg = f'{name} has shape {np.shape(value)}, the mosaic {shape[1:]}: they must agree'
            raise ValueError(msg)
        return split_mosaic(np.reshape(value, shape[1:]))  # of (1, H, W), too

    def close(self, planes, *, uncertainty='keep', sigma=None, record=None, add_keyword=True):
        """
        Make an object of the original's type around the mosaic of new planes.

        Parameters
        ----------
        planes : `numpy.ndarray`, (4, h, w)
            The new pixels in the unit of ``data``.
        uncertainty : {'keep', 'predict', None}, optional
            As in `astrodenoise.frames.Frame.close`.
        sigma : `numpy.ndarray`, (4, h, w), optional
            Standard deviation of each pixel in the unit of ``data``.
        record : dict, optional
            What was done; the pattern is added.
        add_keyword : bool, str, `ccdproc.Keyword`, dict or `None`, optional
            As in `astrodenoise.frames.Frame.close`.

        Returns
        -------
        result : object
            Of the original's type and shape.
        """
        shape = self.whole.data.shape[1:]
        self.whole.valid[0] &= join_mosaic(self.valid, shape)
        return self.whole.close(
            join_mosaic(planes, shape)[np.newaxis],
            uncertainty=uncertainty,
            sigma=None if sigma is None else join_mosaic(sigma, shape)[np.newaxis],
            record=None if record is None else self.told(record),
            add_keyword=add_keyword,
        )

    def told(self, record):
        """
        Tell of the mosaic: pixels that only fill up a side are not its own.

        Parameters
        ----------
        record : dict
            What was done with its planes.

        Returns
        -------
        record : dict
            With its pattern.
        """
        planes = []
        for entry, (y, x), data in zip(record['planes'], PLACES, self.data, strict=True):
            filled = data.size - self.whole.data[0, y::2, x::2].size
            planes.append({**entry, 'invalid': entry['invalid'] - filled})
        return {**record, 'bayer': self.pattern, 'planes': planes}


def as_mosaic(frame, bayer, *, channels=None):
    """
    Split a frame that is a mosaic; any other is given back.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        An opened frame.
    bayer : None, bool or str
        As in `astrodenoise.denoise`.  With `None` a frame whose header names a mosaic gets a
        `~astrodenoise.exceptions.MosaicWarning`.
    channels : {None, 'separate', 'joint'}, optional
        As in `astrodenoise.denoise`.

    Returns
    -------
    frame : `astrodenoise.frames.Frame` or `MosaicFrame`
        What was given, or its four planes.

    Raises
    ------
    TypeError
        If ``bayer`` is neither None, bool nor str.
    ValueError
        If it is no pattern, the header has none, or the frame is no single plane.
    """
    pattern = bayer
    if not (bayer is None or isinstance(bayer, bool | str)):
        msg = f'bayer must be True, False, None or one of {PATTERNS}, got {bayer!r}'
        raise TypeError(msg)
    if bayer is None and frame.shape[0] == 1:
        _warn_if_mosaic(frame)
    if bayer is None or bayer is False:
        return frame
    if frame.shape[0] != 1:
        msg = (
            f'bayer={bayer!r} is about a raw mosaic of shape (H, W), the frame has the shape '
            f'{frame.shape}: leave bayer None, or give one mosaic after the other'
        )
        raise ValueError(msg)
    if channels == 'joint':
        msg = (
            "channels='joint' needs three planes whose pixels see the same place, those of a "
            f'mosaic do not: leave channels None, or {DEBAYER}'
        )
        raise ValueError(msg)
    if bayer is True:
        pattern = read_pattern(frame.meta, frame.shape[1])
        if pattern is None:
            msg = (
                f'bayer=True takes the pattern from the header, which has none in '
                f'{", ".join(PATTERN_CARDS)}: give it, bayer={PATTERNS[0]!r}'
            )
            raise ValueError(msg)
    if frame.data is None:
        msg = f'bayer={bayer!r} needs the mosaic in memory: pass ccd.compute(), or a smaller part'
        raise ValueError(msg)
    return _split(frame, _checked(pattern, 'bayer'))


def read_pattern(meta, height):
    """
    Read the Bayer pattern of a frame's first 2 x 2 pixels from its header.

    From BAYERPAT (BAYRPAT, COLORTYP), moved by XBAYROFF and YBAYROFF.  Where ROWORDER is
    'BOTTOM-UP' the pattern is that of the sensor's top, the array's last row.

    Parameters
    ----------
    meta : `astropy.io.fits.Header`, dict or `None`
        The metadata.
    height : int
        Rows of the frame.

    Returns
    -------
    pattern : str or `None`
        Such as 'RGGB'; `None` where the header names none.

    Raises
    ------
    ValueError
        If it is another than the four of Bayer, or an offset is no whole number.
    """
    key, pattern = _pattern_card(meta)
    if key is None:
        return None
    pattern = _checked(pattern, key)
    right, down = (_offset(meta, name) for name in ('XBAYROFF', 'YBAYROFF'))
    if str(read_card(meta, 'ROWORDER')).strip().upper() == 'BOTTOM-UP':
        down += height - 1
    return ''.join(pattern[2 * ((y + down) % 2) + (x + right) % 2] for y, x in PLACES)


def split_mosaic(mosaic):
    """
    Take the four planes of half the size out of a mosaic.

    Parameters
    ----------
    mosaic : `numpy.ndarray`, (H, W)
        Of any dtype.

    Returns
    -------
    planes : `numpy.ndarray`, (4, h, w)
        In the order of a pattern's letters; h and w are half of H and W, rounded up.  Where a side
        is odd, the last pixels of the shorter planes repeat those before.

    Raises
    ------
    ValueError
        If ``mosaic`` is not two-dimensional.
    """
    if np.ndim(mosaic) != 2:
        msg = f'a mosaic is of shape (H, W), got {np.shape(mosaic)}'
        raise ValueError(msg)
    fill = [(0, n % 2) for n in mosaic.shape]
    mosaic = np.pad(mosaic, fill, mode='reflect') if any(map(any, fill)) else mosaic
    return np.stack([mosaic[y::2, x::2] for y, x in PLACES])


def join_mosaic(planes, shape):
    """
    Put four planes back into a mosaic.

    Parameters
    ----------
    planes : `numpy.ndarray`, (4, h, w)
        What `split_mosaic` gave.
    shape : tuple of int
        (H, W) of the mosaic.

    Returns
    -------
    mosaic : `numpy.ndarray`, (H, W)
        Of the dtype of ``planes``.
    """
    mosaic = np.empty(shape, planes.dtype)
    for (y, x), plane in zip(PLACES, planes, strict=True):
        place = mosaic[y::2, x::2]
        place[...] = plane[: place.shape[0], : place.shape[1]]
    return mosaic


def check_peaks(planes, result):
    """
    Refuse a mosaic whose undersampled stars lose their peaks.

    Looked at are stars over a S/N of 30 where they measure less than 2 px in the half-size planes.

    Parameters
    ----------
    planes : list of `astrodenoise.features.NormalisedPlane`
        The mosaic's planes before.
    result : `numpy.ndarray`, (4, h, w)
        And after.

    Raises
    ------
    ValueError
        If the median star has lost more than 2 % of its brightest pixel, beyond three standard
        errors.
    """
    found = [_peak_changes(*pair) for pair in zip(planes, result, strict=True)]
    changes = np.concatenate([changes for changes, _ in found])
    if len(changes) < FEWEST:
        return
    middle = np.median(changes)
    error = 1.2533 * 1.4826 * np.median(abs(changes - middle)) / np.sqrt(len(changes))
    if middle + 3 * error < -MAX_LOSS:
        fwhm = np.nanmin([fwhm for _, fwhm in found])
        msg = (
            f"the stars measure {fwhm:.2f} px in the mosaic's half-size planes and lose "
            f'{-100 * middle:.1f} % of their peaks: {DEBAYER}'
        )
        raise ValueError(msg)


def _peak_changes(plane, result):
    """Relative change of the peaks of a plane's stars, and their FWHM; none where it is wide."""
    from astrodenoise.measures.detections import matched_filter, moffat, peaks

    rows, columns = (
        np.arange(max(0, (n - SAMPLE) // 2), min(n, (n + SAMPLE) // 2)) for n in result.shape
    )
    if plane.missing:
        return np.empty(0), np.nan
    at = np.ix_(rows, columns)
    before, after, valid = plane.data[at], result[at], plane.valid[at]
    light = np.where(valid, before - plane.level.fine_at(rows, columns), 0).astype(float)
    sigma = np.broadcast_to(plane.sigma, result.shape)[at]
    # the filter's peak: the brightest pixel would often be so by its noise
    y, x, _ = peaks(matched_filter(light, moffat(SHARP), sigma), BRIGHT, where=valid)
    fwhm = _sharpness(light, y, x)
    if not fwhm < UNDERSAMPLED:
        return np.empty(0), np.nan
    return (after - before)[y, x] / light[y, x], fwhm


def _sharpness(light, y, x):
    """FWHM of stars of any phase, as a disc of the pixels above half of their peaks; else NaN."""
    if not len(y):
        return np.nan
    from astrodenoise.measures.shapes import stamps_at

    stars = stamps_at(np.pad(light, 2), y + 2, x + 2, 2)
    n_above = np.count_nonzero(2 * stars > stars[:, 2:3, 2:3], axis=(1, 2))
    return 2 * np.sqrt(np.mean(n_above) / np.pi)


def _split(frame, pattern):
    """The four planes of a mosaic as a frame."""
    data = split_mosaic(frame.data[0])
    data.flags.writeable = False
    valid = split_mosaic(frame.valid[0])
    height, width = frame.data.shape[1:]
    valid[2:, height // 2 :] = False  # beyond an odd side
    valid[1::2, :, width // 2 :] = False
    sigma = None if frame.sigma is None else split_mosaic(frame.sigma[0])
    return MosaicFrame(
        data, valid, sigma, frame.unit, frame.integer, frame.saturation, frame.meta,
        frame.original, pattern, frame,
    )  # fmt: skip


def _warn_if_mosaic(frame):
    """Say that a mosaic is about to be taken for a picture of one colour."""
    key, pattern = _pattern_card(frame.meta)
    if key is None:
        return
    advice = 'pass bayer=True for four planes of one colour each'
    if pattern not in PATTERNS:
        advice = DEBAYER
    warnings.warn(
        f'{key}={pattern!r} in the header says that this is a raw colour mosaic, and it is taken '
        f'for a frame of one colour: {advice}, or bayer=False if it is debayered',
        MosaicWarning,
        stacklevel=4,
    )


def _pattern_card(meta):
    """Name and value of the card that names a mosaic; two times None where there is none."""
    for key in PATTERN_CARDS:
        value = read_card(meta, key)
        text = '' if value is None or value is False else str(value).strip().upper()
        if text not in NO_MOSAIC:
            return key, text
    return None, None


def _offset(meta, key):
    """Whole number of an offset's card, 0 where there is none."""
    value = read_card(meta, key)
    if value is None:
        return 0
    if not isinstance(value, Real) or not float(value).is_integer():
        msg = (
            f'{key}={value!r} in the header is no whole number of px: give the pattern of the '
            f"frame's first 2 x 2 px, bayer={PATTERNS[0]!r}"
        )
        raise ValueError(msg)
    return int(value)


def _checked(pattern, name):
    """The pattern in capitals; raises unless it is one of Bayer's."""
    found = pattern.strip().upper()
    if found in PATTERNS:
        return found
    kind = 'the pattern of an X-Trans sensor' if len(found) == 36 or 'TRANS' in found else 'unknown'
    msg = f'{name}={pattern!r} is {kind}; known are {", ".join(PATTERNS)}. For others {DEBAYER}'
    raise ValueError(msg)
