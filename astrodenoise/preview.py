# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A small part of a frame, denoised as in the whole: its noise, its level, its tiles are the frame's.

The pixels have the bits that they have in the whole frame, but where some are held back by the
limit: its bounds are measured in a part's surroundings, which are the blocks of the whole there.
"""

import contextlib
import copy
import re

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDDataRef

from astrodenoise.controls import RADIUS, share_of
from astrodenoise.frames import is_lazy, open_frame
from astrodenoise.mosaic import MosaicFrame, as_mosaic
from astrodenoise.options import Options
from astrodenoise.preparation import start_of
from astrodenoise.provenance import check_keyword, write_record
from astrodenoise.removal import remove_noise

__all__ = ['Preview', 'cutout_of', 'moved_cards', 'part_around']

PIXEL_CARD = re.compile(r'(CRPIX|LTV)([12])[A-Z]?')  # what counts pixels from the frame's corner


class Preview:
    """
    A frame that was looked at once, parts of which are denoised when they are asked for.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame, (H, W) or (N, H, W), as for `astrodenoise.denoise`.  Not changed.
    overlap : float, optional
        As for `astrodenoise.denoise`.
    noise, star_mask, bayer, saturation : object, optional
        As for `astrodenoise.denoise`.
    **options
        The other arguments of `astrodenoise.denoise`, such as ``model`` and ``strength``.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.denoise`.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise.preview import Preview
    >>> noisy = np.random.default_rng(0).normal(100, 5, (300, 400)).astype('f4')
    >>> Preview(noisy).cutout(200, 150, 64).shape
    (64, 64)
    """

    def __init__(
        self, ccd, overlap=0.25, *, noise=None, star_mask=None, bayer=None, saturation=None,
        **options,
    ):  # fmt: skip
        if is_lazy(ccd):
            msg = 'a dask array is denoised where it is computed: denoise(ccd)[y0:y1, x0:x1]'
            raise TypeError(msg)
        settings = Options(overlap, **options)
        settings.check()
        self._frame = as_mosaic(open_frame(ccd), bayer, channels=settings.channels)
        self._start = start_of(
            self._frame, settings, noise=noise, star_mask=star_mask, saturation=saturation
        )

    def cutout(self, x, y, width, height=None, *, add_keyword=True):
        """
        Denoise the part around a pixel.

        Parameters
        ----------
        x, y : int
            Column and row of the pixel at its centre, counted from 0.
        width, height : int, optional
            Size in pixels; a square by default.  At the frame's border the part is moved inwards.
        add_keyword : bool, str, `~ccdproc.Keyword` or dict, optional
            As for `astrodenoise.denoise`.

        Returns
        -------
        clean : same type as the frame
            The part, with its world coordinates.

        Raises
        ------
        TypeError, ValueError
            If the pixel is not in the frame or the part is empty.
        """
        part = part_around(self._frame, x, y, width, height)
        return cutout_of(self._frame, self._start, part, add_keyword=add_keyword)


def part_around(frame, x, y, width, height=None):
    """
    Find the rows and columns around a pixel.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame; the parts of a mosaic begin where its pattern does.
    x, y : int
        Column and row, counted from 0.
    width, height : int, optional
        Size in pixels; a square by default.

    Returns
    -------
    rows, cols : slice
        Within the frame.

    Raises
    ------
    TypeError, ValueError
        If the pixel is not in the frame or the part is empty.
    """
    mosaic = isinstance(frame, MosaicFrame)
    shape = (frame.whole if mosaic else frame).shape[1:]
    height = width if height is None else height
    part = []
    for name, centre, size, n in (('y', y, height, shape[0]), ('x', x, width, shape[1])):
        for what, value in ((name, centre), ('size', size)):
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                msg = f'{what} must be a whole number of pixels, got {value!r}'
                raise TypeError(msg)
        if not 0 <= centre < n:
            msg = f'{name} must be 0 to {n - 1} in this frame, got {centre}'
            raise ValueError(msg)
        if size < 1:
            msg = f'size must be at least 1 px, got {size}'
            raise ValueError(msg)
        first = max(min(int(centre) - int(size) // 2, n - int(size)), 0)
        stop = min(first + int(size), n)
        if mosaic:
            first, stop = first - first % 2, min(stop + stop % 2, n)
        part.append(slice(first, stop))
    return tuple(part)


def cutout_of(frame, start, part, *, add_keyword=True):
    """
    Denoise a part of a frame.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    start : `astrodenoise.preparation.Start`
        Of the frame.
    part : tuple of slice
        Rows and columns.
    add_keyword : bool, str, `~ccdproc.Keyword` or dict, optional
        As for `astrodenoise.denoise`.

    Returns
    -------
    clean : object
        The part, of the frame's type; its record tells where it lies: ``part``, its first column
        and row, width and height.
    """
    original, inner = open_frame(_cut(frame, *part)), part
    check_keyword(add_keyword, original.meta)
    cut, mosaic = original, isinstance(frame, MosaicFrame)
    if mosaic:
        cut = as_mosaic(original, frame.pattern)
        inner = tuple(slice(s.start // 2, -(-s.stop // 2)) for s in part)
    result, sigma, limited = _denoised(frame, start, inner)
    clean = cut.close(result, uncertainty=start.settings.uncertainty, sigma=sigma)
    if cut.meta is None:
        return clean
    rows, cols = part
    record = start.record(frame, limited)
    record = frame.told(record) if mosaic else record
    record['part'] = [cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start]
    write_record(clean.meta, record, add_keyword)
    for key in [key for key in clean.meta if PIXEL_CARD.fullmatch(str(key))]:
        offset = part[1 if PIXEL_CARD.fullmatch(key)[2] == '1' else 0].start
        if isinstance(clean.meta[key], int | float):
            clean.meta[key] -= offset
    return clean


def _denoised(frame, start, part):
    """New pixels of a part, their sigma, and how many of each plane were held back."""
    settings = start.settings
    controls, joint = settings.controls, settings.channels == 'joint'
    margin = 0 if controls.plain else RADIUS
    wide = tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(part, frame.shape[1:], strict=True)
    )
    shape = (frame.shape[0], *(s.stop - s.start for s in wide))
    errors = frame.wants_sigma(settings.uncertainty)
    result = np.empty(shape, frame.dtype)
    sigma, limited = np.empty(shape, np.float32) if errors else None, []
    for block in remove_noise(
        frame, start.known, start.engine, settings, find_stars=start.find_stars, errors=errors,
        as_noise=not controls.plain, region=wide, as_one=True,
    ):  # fmt: skip
        result[block.planes] = block.data
        limited += block.limited
        if errors:
            sigma[block.planes] = block.error
    inner = (slice(None), *(
        slice(s.start - w.start, s.stop - w.start) for s, w in zip(part, wide, strict=True)
    ))  # fmt: skip
    if not controls.plain:
        result = share_of(result, controls, joint=joint)
    result = np.ascontiguousarray(result[inner])
    if not controls.plain:
        result = frame.window(slice(0, shape[0]), *part).data - result
    return result, np.ascontiguousarray(sigma[inner]) if errors else None, limited


def _cut(frame, rows, cols):
    """Cut a part out of the object that a frame was opened from."""
    original = frame.original
    if frame.data is None:  # of a file
        piece = frame.piece(slice(None), rows, cols)
        return CCDData(
            piece.data, unit=piece.unit, mask=piece.mask, uncertainty=piece.uncertainty,
            meta=copy.copy(original.meta),
        )  # fmt: skip
    part = (rows, cols) if frame.ndim == 2 else (slice(None), rows, cols)
    if isinstance(original, NDData) and not hasattr(original, '__getitem__'):
        return NDData(NDDataRef(original)[part])
    return original[part]


def moved_cards(cards, part):
    """
    Move the reference pixel in the cards of a header.

    Parameters
    ----------
    cards : sequence of str
        Cards of 80 characters; those that cannot be read stay as they are.
    part : tuple of slice
        Rows and columns of the part of the frame that the cards will be of.

    Returns
    -------
    cards : tuple of str
        The same but for ``CRPIX`` and ``LTV``.
    """
    moved = []
    for card in cards:
        match = PIXEL_CARD.fullmatch(card[:8].rstrip())
        if match:
            with contextlib.suppress(fits.VerifyError, TypeError, ValueError):
                old = fits.Card.fromstring(card)
                offset = part[1 if match[2] == '1' else 0].start
                card = str(fits.Card(old.keyword, old.value - offset, old.comment)).ljust(80)
        moved.append(card)
    return tuple(moved)
