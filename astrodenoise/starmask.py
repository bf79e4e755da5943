# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Soft star masks: detect, dilate, blur (paper section 2.3).

A star is what stands out of its surroundings in every direction.  A filament, a front or the edge
of a disk does not do so along itself, and a nebula's knots stand out by little of their brightness.
"""

from numbers import Real

import numpy as np
from scipy import ndimage

from astrodenoise.background import local_level

__all__ = ['LUMINANCE', 'mask_stars', 'star_mask']

SCALES = ((0.8, 4), (1.5, 6), (2.5, 10), (4.0, 18))  # px: sigma of the filter, distance compared
DIRECTIONS = ((0, 1), (1, 0), (0.7, 0.7), (0.7, -0.7))
CONTRAST, CERTAIN = 0.15, 0.8  # of the light that a star stands on, at least
HILL = 0.8  # of what something exceeds further away, at least: a star's light ends
LOST = 1.5  # of the light that a star stands on: what is fainter cannot be told from it
SMALLEST = 1.5  # px, radius of a mask before it grows with the star
BRIDGE = 1.5  # px, sigma of the Gaussian that closes small gaps in the pixels
STAMP = 10  # px, half size of what the width of stars is measured on
BRIGHTEST = 60  # stars that it is measured on
LARGEST = 60.0  # px, radius of a mask
LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709


def star_mask(ccd, *, n_sigma=5.0, noise=None, saturation=None, dilate=1.0, blur=1.0):
    """
    Make a soft mask of a frame's stars (paper section 2.3).

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame, (H, W), or (3, H, W) as red, green and blue: of these the luminance is taken,
        each plane in units of its noise.  Linear or stretched.
    n_sigma : float, optional
        Significance from which on something is a star.
    noise : optional
        As in `~astrodenoise.denoise`.
    saturation : float or `~astropy.units.Quantity`, optional
        As in `~astrodenoise.denoise`; saturated pixels belong to stars.
    dilate : float, optional
        Factor on the radius of each star's mask; 1 reaches to where its light is lost in noise.
    blur : float, optional
        Sigma of the Gaussian that softens the mask, in px.

    Returns
    -------
    mask : `numpy.ndarray`, (H, W), float32
        0 where no star is, 1 in its core.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If an argument is of the wrong type, value or unit.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import star_mask
    >>> y, x = np.mgrid[:64, :64]
    >>> frame = 50 * np.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 4)
    >>> frame += np.random.default_rng(0).normal(100, 1, frame.shape)
    >>> mask = star_mask(frame)
    >>> bool(mask[20, 40] > 0.9), bool(mask[50, 10] < 0.1)
    (True, True)
    """
    from astrodenoise.frames import open_frame
    from astrodenoise.noise import frame_noise, leave_out_invalid

    _check_options(n_sigma, dilate, blur)
    frame = open_frame(ccd)
    if len(frame.data) not in (1, 3):
        msg = f'a star mask is made of one plane or of three, the frame has {len(frame.data)}'
        raise ValueError(msg)
    if saturation is not None:
        saturation = frame.value_of(saturation, 'saturation')
        _check_number('saturation', saturation, 'of any sign')
    at_top = leave_out_invalid(frame, saturation=saturation)
    levels = [local_level(*plane) for plane in zip(frame.data, frame.valid, strict=True)]
    measured = frame_noise(frame, noise, levels)
    factors = LUMINANCE if len(frame.data) == 3 else (1.0,)
    image, variance = 0.0, 0.0
    for factor, data, level, plane in zip(
        factors, frame.data, levels, measured.planes, strict=True
    ):
        if plane.sigma > 0:  # a plane without noise is constant
            finite = np.where(np.isfinite(data), data, plane.sky)
            image = image + factor * (finite - plane.sky) / plane.sigma_at(level.fine_whole())
            # what neighbours share is not averaged out at the scales of stars
            variance += factor**2 * max(1.0, 1 + 2 * sum(plane.correlation))
    if variance == 0:
        return np.zeros(frame.data.shape[1:], np.float32)
    return mask_stars(
        image, np.sqrt(variance), n_sigma=n_sigma, valid=frame.valid.all(axis=0),
        saturated=at_top.any(axis=0), dilate=dilate, blur=blur,
    )  # fmt: skip


def mask_stars(
    luminance, sigma, *, n_sigma=5.0, valid=None, saturated=None, dilate=1.0, blur=1.0
):
    """
    Make a soft mask of the stars of one plane (paper section 2.3), noisy or not.

    Parameters
    ----------
    luminance : `numpy.ndarray`, (H, W)
        The plane, in any unit.  Pixels that are not finite are not used.
    sigma : float or `numpy.ndarray`, (H, W)
        Rms noise of a pixel that the plane has, or will get, in the unit of ``luminance``.  In a
        plane of it, pixels that are not finite and positive are not used.
    n_sigma : float, optional
        Significance from which on something is a star.
    valid, saturated : `numpy.ndarray`, (H, W), bool, optional
        Pixels that can be used, and those that belong to stars though they cannot.
    dilate : float, optional
        Factor on the radius of each star's mask; 1 reaches to where its light is lost in noise.
    blur : float, optional
        Sigma of the Gaussian that softens the mask, in px.

    Returns
    -------
    mask : `numpy.ndarray`, (H, W), float32
        0 where no star is, 1 in its core.

    Raises
    ------
    TypeError
        If a number is none.
    ValueError
        If a number is not positive or ``blur`` negative, or if the shapes differ.
    """
    _check_options(n_sigma, dilate, blur)
    shape = luminance.shape
    usable = _usable(luminance, sigma, valid, saturated)
    if not usable.any():
        return np.zeros(shape, np.float32)
    # the level first: divided by an uneven sigma it would be structure
    image = luminance - np.median(luminance[usable])
    image = np.divide(image, sigma, out=np.zeros(shape), where=usable).astype(np.float32)
    level = local_level(image, usable).fine_whole().astype(np.float32)
    image, usable = _bridge_gaps(image, level, usable)
    y, x, fwhm = _find(image, level, n_sigma, usable)
    core = np.zeros(shape, bool) if saturated is None else saturated.copy()
    peaks = (image - level)[y, x]
    # to where a Moffat profile of beta 3 is lost in the noise, or in the light it stands on
    lost = np.maximum(1, LOST * (level - np.quantile(level[usable], 0.05))[y, x])
    reach = np.sqrt(np.maximum(peaks / lost, 1) ** (1 / 3) - 1)
    radius = dilate * (SMALLEST + 0.9 * fwhm * reach)
    if core.any():
        labels, n = ndimage.label(core, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())[1:]
        ys, xs = np.array(ndimage.center_of_mass(core, labels, np.arange(1, n + 1))).T.round()
        y, x = (np.concatenate([a, b.astype(int)]) for a, b in ((y, ys), (x, xs)))
        radius = np.concatenate([radius, dilate * (2 * np.sqrt(areas / np.pi) + fwhm)])
    mask = _discs(shape, y, x, np.minimum(radius, LARGEST)) | core
    mask = ndimage.gaussian_filter(mask.astype(np.float32), blur, truncate=3)
    return np.clip(mask, 0, 1)


def _check_options(n_sigma, dilate, blur):
    """Raise for what a mask cannot be made with."""
    _check_number('n_sigma', n_sigma, 'positive')
    _check_number('dilate', dilate, 'positive')
    _check_number('blur', blur, 'zero or positive')


def _check_number(name, value, kind):
    """Raise unless a value is a finite number of a kind."""
    if not isinstance(value, Real) or isinstance(value, bool):
        msg = f'{name} must be a number, got {value!r}'
        raise TypeError(msg)
    fits = {'positive': value > 0, 'zero or positive': value >= 0, 'of any sign': True}[kind]
    if not (fits and np.isfinite(value)):
        msg = f'{name} must be {kind} and finite, got {value}'
        raise ValueError(msg)


def _usable(luminance, sigma, valid, saturated):
    """Pixels that have a value and a sigma; raises where shapes or sigma are wrong."""
    shape = luminance.shape
    given = {'sigma': sigma, 'valid': valid, 'saturated': saturated}
    if np.ndim(sigma) == 0:
        del given['sigma']
        _check_number('sigma', sigma, 'positive')
    for name, plane in given.items():
        if plane is not None and plane.shape != shape:
            msg = f'{name} has the shape {plane.shape}; expected that of luminance, {shape}'
            raise ValueError(msg)
    if len(shape) != 2:
        msg = f'luminance has the shape {shape}; expected one plane, (H, W)'
        raise ValueError(msg)
    usable = np.isfinite(luminance) & np.isfinite(sigma) & (np.asarray(sigma) > 0)
    if valid is not None:
        usable &= valid if saturated is None else valid | saturated
    return usable


def _bridge_gaps(image, level, usable):
    """
    Fill what is not usable with what is around it, where that is near, else with the level.

    A mean of many: the nearest pixel, repeated, would be noise that no filter averages out.
    """
    if usable.all():
        return image, usable
    share, light = (
        ndimage.gaussian_filter(plane.astype(np.float32), BRIDGE, mode='nearest', truncate=3)
        for plane in (usable, np.where(usable, image - level, 0))
    )
    near = share > 0.5
    bridge = level + np.where(near, light / np.maximum(share, 0.5), 0)
    return np.where(usable, image, bridge), usable | near


def _find(image, level, n_sigma, usable):
    """Positions of stars, and their FWHM: those beyond doubt say how wide a star is."""
    base = level - np.quantile(level[usable], 0.05)
    contrast = image - level  # of smooth light nothing is left that could round
    certain = np.zeros_like(image)
    for width, distance in SCALES:
        _add(certain, contrast, base, width, (distance, 2 * distance), CERTAIN)
    y, x = _peaks(certain, n_sigma, usable)
    fwhm = _width(contrast, y, x)
    width, distance = 0.6 * fwhm / 2.355, max(2, round(1.5 * fwhm))
    _add(certain, contrast, base, width, (distance, 2 * distance), CONTRAST)
    return *_peaks(certain, n_sigma, usable), fwhm


def _add(significance, contrast, base, width, distances, least):
    """
    Raise the significance where something is seen at a scale.

    It must exceed what is near by a share of the light it stands on, and be no hill: what is
    further away lies no deeper.
    """
    # zeros outside: a repeated border would count its own noise several times
    smooth = ndimage.gaussian_filter(contrast, width, mode='constant', truncate=3)
    near, far = (np.minimum(_outstanding(smooth, d), smooth) for d in distances)
    seen = (near > least * base) & (near > HILL * far) & (smooth == _highest_around(smooth))
    impulse = np.zeros(2 * round(3 * width) + 3)
    impulse[impulse.size // 2] = 1
    noise = np.sum(ndimage.gaussian_filter1d(impulse, width, truncate=3) ** 2)  # in both axes
    np.maximum(significance, np.where(seen, near / np.float32(noise), 0), out=significance)


def _peaks(significance, n_sigma, usable):
    """Positions of the peaks of a map."""
    from photutils.detection import find_peaks

    significance = np.where(usable, significance, 0)
    if not (significance > n_sigma).any():
        return np.empty(0, int), np.empty(0, int)
    found = find_peaks(significance, n_sigma, box_size=3)
    return np.asarray(found['y_peak']), np.asarray(found['x_peak'])


def _highest_around(image):
    """The highest of each pixel's neighbourhood."""
    return ndimage.maximum_filter(image, 3, mode='nearest')


def _outstanding(image, distance):
    """By how much a pixel exceeds the lower of two opposite ones, in the least of directions."""
    padded = np.pad(image, distance, mode='edge')
    height, width = image.shape
    least = np.full_like(image, np.inf)
    for direction in DIRECTIONS:
        dy, dx = (round(distance * part) for part in direction)
        there, opposite = (
            padded[distance + s * dy : distance + s * dy + height,
                   distance + s * dx : distance + s * dx + width]
            for s in (1, -1)
        )
        np.minimum(least, image - np.minimum(there, opposite), out=least)
    return least


def _width(contrast, y, x):
    """Median FWHM of the brightest stars: as a disc of the pixels above half of the peak."""
    height, width = contrast.shape
    inside = (y >= STAMP) & (y < height - STAMP) & (x >= STAMP) & (x < width - STAMP)
    y, x = y[inside], x[inside]
    if not y.size:
        return 3.0
    brightest = np.argsort(contrast[y, x])[-BRIGHTEST:]
    at = np.arange(-STAMP, STAMP + 1)
    stamps = contrast[y[brightest, None, None] + at[:, None], x[brightest, None, None] + at]
    peaks = stamps[:, STAMP, STAMP]
    near = np.hypot(at[:, None], at) <= STAMP * 0.7
    n_above = np.count_nonzero((stamps > 0.5 * peaks[:, None, None]) & near, axis=(1, 2))
    return float(np.clip(np.median(2 * np.sqrt(n_above / np.pi)), 1.5, 8))


def _discs(shape, y, x, radius):
    """Discs of several radii: each to the next half pixel."""
    mask = np.zeros(shape, bool)
    radius = np.ceil(2 * radius) / 2
    for size in np.unique(radius):
        chosen = radius == size
        half = int(size)
        at = np.arange(-half, half + 1)
        dy, dx = np.nonzero(np.hypot(at[:, None], at) <= size)
        rows = y[chosen, None] + at[dy]
        cols = x[chosen, None] + at[dx]
        inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
        mask[rows[inside], cols[inside]] = True
    return mask
