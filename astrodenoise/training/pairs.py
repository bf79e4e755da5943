# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Pairs of a real noisy and a clean frame: read, compared, brought to one unit.

A network learns whatever differs between the two frames of a pair as noise.  Hence only noise may:
they must show the same sky on the same grid (within 0.3 px), with the same zero
point (2 %) and on one straight line from faint to bright.  Seeing may differ: the photometric
relation is fitted on frames smoothed over 4 px, with a term for the width of the stars.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft, ndimage

from astrodenoise.background import local_level
from astrodenoise.estimate import MIN_PIXELS, fine_scale_sigma, measure_plane
from astrodenoise.validity import NOISY, SATURATED, invalid_pixels

__all__ = ['Pair', 'PairError', 'check_pair', 'load_pairs']

log = logging.getLogger(__name__)

SUFFIXES = ('.fits', '.fit', '.fts', '.fz', '.tif', '.tiff', '.png', '.jpg', '.jpeg')
PACKED = ('.gz', '.fz')  # may stand behind another suffix
MIN_SIDE = 32  # px
MIN_SHARE = 0.1  # of the pixels, valid in both frames

MAX_CLEANNESS = 0.5  # noise of the clean frame over that of the noisy one
SHARED = 0.5  # noise of the difference over that of the noisy frame: less, and they share it

MAX_LAG = 64  # px, of the search for the shift
PEAK = 12  # px around the cross-correlation's peak that are not its background
MIN_PEAK = 6  # times the scatter of that background, else there is no peak
POINT = 1.0  # px, sigma of the smoothing before the frames are correlated
COARSE = 2.5  # px, the same where fixed pattern, which is of single pixels, may lead astray
BRIGHT = 30.0  # sigma; brighter pixels count as this, so that no single star rules
MAX_SHIFT_ERROR = 0.3  # px; a shift that is less certain is not measured

SMOOTH = 4.0  # px, sigma of the smoothing before the frames are compared
MIN_SAMPLES = 64  # of smoothed frames
STRIDE = 2  # px between the samples of smoothed frames
CELL = 16  # px, side of the cells that tell the errors of a fit
ROUNDS = 4  # of reweighting
MODEL_ERROR = 0.03  # of the signal: what differs between frames of a varying sky
MAX_SCALE = 0.02  # deviation of the clean frame's zero point
MAX_BEND = 0.1  # relative change of the slope from faint to bright
MAX_BROADER = 8.0  # px^2, difference of the stars' variances: 6.7 px of FWHM in quadrature
N_SIGMA = 3.0  # a deviation counts beyond this many of its own errors
KNOWN_SCALE = 0.1  # error up to which a scale is called measured


class PairError(ValueError):
    """Two frames are no pair to learn from; the message says why and how to mend it."""


@dataclass(frozen=True, eq=False)
class Pair:
    """
    A noisy and a clean frame of one scene.

    Attributes
    ----------
    name : str
        Name of the files without folder and suffix: the object, for the split.
    noisy : `numpy.ndarray`, (P, H, W), float32
        In units of its own sigma at the level of the sky, plane by plane, over a sky of 0.
    clean : `numpy.ndarray`, (P, H, W), float32
        In the same unit over the same sky, its zero point and sky matched to those of ``noisy``.
    valid : `numpy.ndarray`, (P, H, W), bool
        Finite, not masked, with data and not saturated in both.
    cleanness : float
        Finest-scale noise of the clean frame over that of the noisy one, of the plane where it is
        largest.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    valid: np.ndarray
    cleanness: float


# --- folders -------------------------------------------------------------------------------------


def load_pairs(folder, *, noise2noise=False, max_shift=0.3):
    """
    Read and check the pairs of a folder.

    Parameters
    ----------
    folder : str or path-like
        Holds ``noisy`` and ``clean`` with files of equal names: FITS, TIFF, PNG or JPEG, not
        necessarily of the same kind.
    noise2noise : bool, optional
        Whether the clean frames are other exposures, as noisy as the noisy ones.
    max_shift : float, optional
        How far the frames of a pair may lie apart, in px.

    Returns
    -------
    pairs : list of `Pair`
        In the order of their names.
    bad : dict of str to str
        Why other names are left out; each is logged as a warning.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or holds no frame.
    ValueError
        If no name is in both folders, or none of the pairs can be used.
    """
    files = {side: _frames_of(Path(folder), side) for side in ('noisy', 'clean')}
    bad = _without_partner(files)
    names = sorted(files['noisy'].keys() & files['clean'].keys())
    if not names:
        noisy, clean = (Path(folder) / side for side in files)
        msg = (
            f'no name is both in {str(noisy)!r} ({_some(files["noisy"])}) and in {str(clean)!r} '
            f'({_some(files["clean"])}): give the two frames of a scene the same name'
        )
        raise ValueError(msg)
    pairs = []
    for name in names:
        try:
            pairs.append(_read_pair(name, files, noise2noise=noise2noise, max_shift=max_shift))
        except (OSError, ValueError) as error:  # a file's own fault, or the pair's
            bad[name] = str(error)
    for name, reason in bad.items():
        log.warning('pair %s is left out: %s', name, reason)
    if not pairs:
        reasons = '\n'.join(f'  {name}: {reason}' for name, reason in bad.items())
        msg = f'none of the {len(names)} pairs in {str(folder)!r} can be used:\n{reasons}'
        raise ValueError(msg)
    return pairs, bad


def _frames_of(folder, side):
    """Files of one side by name, a list each; several files may bear one name."""
    if not folder.is_dir():
        msg = f'there is no folder {str(folder)!r} with pairs: give the right one'
        raise FileNotFoundError(msg)
    place = folder / side
    if not place.is_dir():
        msg = (
            f'{str(folder)!r} holds no folder {side!r}: pairs are expected as files of equal names '
            'in its folders noisy and clean'
        )
        raise FileNotFoundError(msg)
    files = {}
    for path in sorted(place.iterdir()):
        name = _name_of(path)
        if name and path.is_file():
            files.setdefault(name, []).append(path)
    if not files:
        msg = f'{str(place)!r} holds no frame: put FITS, TIFF, PNG or JPEG files there'
        raise FileNotFoundError(msg)
    return files


def _name_of(path):
    """Name of a frame without its suffixes, None where the file is no frame."""
    name = path.name
    if name.startswith('.'):
        return None
    packed = name.lower().endswith(PACKED)
    if packed:
        inner = name[:-3]
        if inner.lower().endswith(SUFFIXES):
            return inner.rpartition('.')[0]
    return name.rpartition('.')[0] if name.lower().endswith(SUFFIXES) else None


def _without_partner(files):
    """Say which names are on one side only."""
    bad = {}
    for side, other in (('noisy', 'clean'), ('clean', 'noisy')):
        for name in sorted(files[side].keys() - files[other].keys()):
            bad[name] = (
                f'{side}/{files[side][name][0].name} has no partner: a FITS, TIFF, PNG or JPEG '
                f'file of the name {name!r} is expected in {other}/'
            )
    return bad


def _some(names, n=3):
    """Name a few of many."""
    names = sorted(names)
    return ', '.join(names[:n]) + (f' and {len(names) - n} more' if len(names) > n else '')


def _read_pair(name, files, **keywords):
    """Read and check the pair of a name."""
    frames = []
    for side in ('noisy', 'clean'):
        if len(files[side][name]) > 1:
            found = ', '.join(path.name for path in files[side][name])
            msg = f'{side}/ holds several files of this name ({found}): leave one'
            raise PairError(msg)
        frames.append(_read_frame(files[side][name][0]))
    (noisy, good), (clean, clean_good) = frames
    _check_shapes(noisy, clean)
    return check_pair(noisy, clean, good & clean_good, name=name, **keywords)


def _read_frame(path):
    """Planes (P, H, W) of a file, and which pixels are finite, not masked and not saturated."""
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        data = _read_jpeg(path)
        return data, np.ones(data.shape, bool)
    from astrodenoise.files import read_frame
    from astrodenoise.frames import open_frame

    ccd, _ = read_frame(path)
    try:
        frame = open_frame(ccd)
    except (TypeError, ValueError) as error:
        msg = f'{path}: {error}'
        raise PairError(msg) from error
    valid = frame.valid
    if frame.saturation is not None:
        valid = valid & ~(frame.data >= frame.saturation)
    return frame.data, valid


def _read_jpeg(path):
    """Planes of a JPEG picture, grey or RGB."""
    try:
        from PIL import Image
    except ImportError as error:
        msg = f'{path}: reading JPEG needs Pillow: pip install pillow'
        raise PairError(msg) from error
    with Image.open(path) as picture:
        if picture.mode not in ('L', 'RGB'):
            msg = f'{path}: is JPEG of mode {picture.mode}; save it as grey or RGB'
            raise PairError(msg)
        pixels = np.asarray(picture, np.float32)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


# --- one pair ------------------------------------------------------------------------------------


def check_pair(noisy, clean, valid=None, *, name='', noise2noise=False, max_shift=0.3):
    """
    Compare a noisy and a clean frame and bring them to one unit.

    Where a frame is so empty that the shift or the zero point cannot be measured, the pair is
    taken as it is and that is logged: on featureless sky neither does harm.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`, (H, W) or (P, H, W)
        The frames in one unit; P is 1 or 3.  Neither is changed.
    valid : `numpy.ndarray` of bool, optional
        Of their shape: the pixels that may be used.  Those that are not finite, hold no data or
        are saturated are left out in any case.
    name : str, optional
        The scene's.
    noise2noise : bool, optional
        Whether the clean frame may be as noisy as the noisy one, with noise of its own.
    max_shift : float, optional
        How far the frames may lie apart, in px.

    Returns
    -------
    pair : `Pair`
        Sky (a level and a gradient) and zero point of the clean frame are those of the noisy one.

    Raises
    ------
    PairError
        If the frames are no pair to learn from.
    """
    _check_shapes(noisy, clean)
    noisy, clean = (
        np.asarray(a).reshape(-1, *np.shape(a)[-2:]).astype(np.float64) for a in (noisy, clean)
    )
    if len(noisy) not in (1, 3):
        msg = f'the frames have {len(noisy)} planes; expected 1, or 3 of one camera (R, G, B)'
        raise PairError(msg)
    given = np.ones(noisy.shape, bool) if valid is None else np.reshape(valid, noisy.shape)
    label = name or 'pair'
    planes = []
    for number, plane in enumerate(zip(noisy, clean, given, strict=True)):
        where = f'plane {number}: ' if len(noisy) > 1 else ''
        try:
            planes.append(_match_plane(*plane, label, noise2noise, max_shift))
        except PairError as error:
            msg = f'{where}{error}'
            raise PairError(msg) from None
    noisy, clean, valid, cleanness = zip(*planes, strict=True)
    return Pair(name, np.stack(noisy), np.stack(clean), np.stack(valid), max(cleanness))


def _check_shapes(noisy, clean):
    """Refuse frames of different shapes."""
    if np.shape(noisy)[-2:] != np.shape(clean)[-2:]:
        (h, w), (clean_h, clean_w) = np.shape(noisy)[-2:], np.shape(clean)[-2:]
        msg = (
            f'the noisy frame is {w} x {h} px, the clean one {clean_w} x {clean_h} px: give both '
            'on the same pixel grid (crop or resample the clean one)'
        )
        raise PairError(msg)
    n_noisy, n_clean = (1 if np.ndim(a) == 2 else len(a) for a in (noisy, clean))
    if n_noisy != n_clean:
        msg = (
            f'the noisy frame has {n_noisy} planes, the clean one {n_clean}: give both as mono or '
            'both as RGB'
        )
        raise PairError(msg)


def _match_plane(noisy, clean, given, label, noise2noise, max_shift):
    """Check one plane; noisy and matched clean in units of sigma, valid, cleanness."""
    good = _valid_in_both(noisy, clean, given)
    noise = measure_plane(noisy, good)
    if noise.sigma == 0:
        msg = 'the noisy frame shows no noise: is it the clean one, or was it denoised?'
        raise PairError(msg)
    noisy, clean = (np.where(good, a, np.median(a[good])) for a in (noisy, clean))
    registered = _check_registration(noisy, clean, good, label, max_shift)
    fine, clean_fine = (_finest(a, good) for a in (noisy, clean))
    fine = fine or noise.sigma
    smoothed = _smoothed(noisy, clean, good, fine, clean_fine)
    scale = _accepted_scale(_relate(smoothed), registered, label)
    matched = scale * clean + _sky_difference(smoothed, scale, noisy, clean, good)
    cleanness = scale * clean_fine / fine
    _check_noise(noisy - matched, good, fine, cleanness, noise2noise)
    noisy, matched = (((a - noise.sky) / noise.sigma).astype(np.float32) for a in (noisy, matched))
    return noisy, matched, good, cleanness


def _valid_in_both(noisy, clean, given):
    """Pixels that both frames show, none of them saturated."""
    given = given & np.isfinite(noisy) & np.isfinite(clean)
    _check_extent(given)
    for which, plane in (('noisy', noisy), ('clean', clean)):
        if np.ptp(plane[given]) == 0:
            msg = f'the {which} frame has the one value {plane[given][0]:g}: give the right file'
            raise PairError(msg)
    if np.array_equal(noisy[given], clean[given]):
        msg = 'the noisy and the clean frame are identical: give the clean one, or leave both out'
        raise PairError(msg)
    good = given & ~invalid_pixels(noisy, given).invalid
    reason = invalid_pixels(clean, given).reason
    # a sky of one value is no gap in a frame without noise
    sky = np.median(clean[given])
    gap = np.abs(clean - sky) > _finest(noisy, given)
    good &= ~((reason == SATURATED) | ((reason != NOISY) & gap))
    _check_extent(good)
    return good


def _check_extent(good):
    """Refuse frames with too few pixels to compare."""
    n, needed = np.count_nonzero(good), max(MIN_PIXELS, int(MIN_SHARE * good.size))
    if n < needed or min(good.shape) < MIN_SIDE:
        msg = (
            f'{n} pixels of {good.shape[1]} x {good.shape[0]} are valid in both frames (finite, '
            f'not masked, not saturated); at least {needed} are needed, {MIN_SIDE} px on a side: '
            'give a larger frame or one with a smaller mask'
        )
        raise PairError(msg)


def _finest(plane, good):
    """Noise of a plane's finest scale, with what is not good left out."""
    if good.all():
        return fine_scale_sigma(plane)
    kernel = np.array([1.0, -2.0, 1.0])
    fine = ndimage.convolve(np.where(good, plane, 0), np.outer(kernel, kernel) / 6)
    inner = ndimage.minimum_filter(good, size=3, mode='constant')
    return 1.4826 * float(np.median(np.abs(fine[inner]))) if inner.any() else 0.0


def _check_noise(difference, good, fine, cleanness, noise2noise):
    """Refuse a clean frame that holds the noisy one's noise, or as much of its own."""
    left = _finest(difference, good) / fine
    if left < SHARED and cleanness > MAX_CLEANNESS:
        msg = (
            f'noisy less clean has only {left:.2f} of the noise of the noisy frame: the clean one '
            'holds the same noise; give a frame that was cleaned or stacked from other exposures'
        )
        raise PairError(msg)
    if cleanness > MAX_CLEANNESS and not noise2noise:
        msg = (
            f'the clean frame has {cleanness:.2f} of the noise of the noisy one, expected at most '
            f'{MAX_CLEANNESS}: give a deeper one, or set noise2noise = true if both are exposures '
            'of their own'
        )
        raise PairError(msg)


# --- registration --------------------------------------------------------------------------------


def _check_registration(noisy, clean, good, label, max_shift):
    """Refuse frames that lie apart; False where there is too little to measure, which is logged."""
    shift, error = _measure_shift(noisy, clean, good, POINT)
    if not error < MAX_SHIFT_ERROR:
        log.info('%s: too little signal to measure the shift; taken as registered', label)
        return False
    if np.hypot(*shift) > max_shift + 2 * error:
        other, other_error = _measure_shift(noisy, clean, good, COARSE)
        apart = np.hypot(*np.subtract(other, shift))
        if other_error < MAX_SHIFT_ERROR and apart > N_SIGMA * np.hypot(error, other_error):
            shift, error = other, other_error  # of the sky, not of the camera's fixed pattern
    if np.hypot(*shift) > max_shift + 2 * error:
        msg = (
            f'the clean frame lies ({shift[1]:+.2f}, {shift[0]:+.2f}) px in x and y from the noisy '
            f'one (error {error:.2f}), expected within {max_shift:g} px: register and resample the '
            'clean frame to the grid of the noisy one'
        )
        raise PairError(msg)
    return True


def _features(plane, good, point):
    """What stands out of the local level, in sigma; bright pixels held back."""
    contrast = np.where(good, plane - local_level(plane, good).fine_whole(), 0)
    contrast = ndimage.gaussian_filter(contrast, point, mode='constant')
    spread = 1.4826 * np.median(np.abs(contrast[good]))
    if spread == 0:
        spread = np.std(contrast[good]) or 1.0
    contrast = np.clip(contrast / spread, -BRIGHT, BRIGHT)
    return np.where(good, contrast, 0).astype(np.float32)


def _measure_shift(noisy, clean, good, point):
    """
    Shift (y, x) of the clean frame against the noisy one in px, and its error; smoothed before.

    The peak of the cross-correlation, each lag normalised by the pixels that overlap there.  What
    is left of the noisy frame there tells the error, which is infinite without a peak.
    """
    noisy, clean = (_features(a, good, point) for a in (noisy, clean))
    lag = min(MAX_LAG, min(good.shape) // 4)
    correlation = _cross_correlation(noisy, clean, good, lag)
    y, x = np.unravel_index(np.argmax(correlation), correlation.shape)
    nowhere = (0.0, 0.0), np.inf
    if min(y, x) < 1 or max(y, x) > 2 * lag - 1:
        return nowhere
    peak = correlation[y - 1 : y + 2, x - 1 : x + 2]
    rows, cols = np.ogrid[: 2 * lag + 1, : 2 * lag + 1]
    reach = min(PEAK, lag // 2)
    far = (np.abs(rows - y) > reach) | (np.abs(cols - x) > reach)
    if peak[1, 1] < MIN_PEAK * np.std(correlation[far]) or peak.min() <= 0:
        return nowhere
    offset = _summit(np.log(peak))
    if np.abs(offset).max() > 1:
        return nowhere
    shift = (float(y - lag + offset[0]), float(x - lag + offset[1]))
    return shift, _shift_error(noisy, clean, good, shift, peak)


def _shift_error(noisy, clean, good, shift, peak):
    """Error of the place of a peak in px: scatter of the slope there over its curvature."""
    clean = ndimage.shift(clean, np.negative(shift), order=3)
    overlap = good * (ndimage.shift(good.astype(np.float32), np.negative(shift), order=1) > 0.99)
    power = np.sqrt(np.sum(overlap * noisy**2) * np.sum(overlap * clean**2))
    scale = np.sum(overlap * noisy * clean) / np.sum(overlap * clean**2)
    slopes = np.stack(np.gradient(clean))
    variance = np.diag(_score_covariance(slopes * overlap * (noisy - scale * clean), CELL))
    curvature = [2 * line[1] - line[0] - line[2] for line in (peak[:, 1], peak[1])]
    return float(np.hypot(*(np.sqrt(variance) / (power * np.maximum(curvature, 1e-9)))))


def _cross_correlation(noisy, clean, good, lag):
    """Correlation coefficient at lags (y, x) from -lag to lag, over what is good in both."""
    shape = [fft.next_fast_len(n + lag, real=True) for n in good.shape]

    def spectrum(values):
        return fft.rfft2(values.astype(np.float32), shape)

    def at_lags(product):
        values = fft.irfft2(product, shape)
        return np.roll(values, (lag, lag), axis=(0, 1))[: 2 * lag + 1, : 2 * lag + 1]

    mask = spectrum(good)
    product = at_lags(np.conj(spectrum(noisy)) * spectrum(clean))
    noisy_power = at_lags(np.conj(spectrum(noisy**2)) * mask)
    clean_power = at_lags(np.conj(mask) * spectrum(clean**2))
    return product / np.sqrt(np.maximum(noisy_power * clean_power, 1e-12))


def _summit(peak):
    """Place (y, x) of the maximum of the paraboloid through 3x3 values, from their centre."""
    y, x = (a.ravel() - 1.0 for a in np.mgrid[:3, :3])
    terms = np.stack([np.ones(9), y, x, y * y, x * x, x * y], axis=1)
    _, b_y, b_x, c_yy, c_xx, c_xy = np.linalg.lstsq(terms, peak.ravel(), rcond=None)[0]
    curvature = np.array([[2 * c_yy, c_xy], [c_xy, 2 * c_xx]])
    if np.linalg.det(curvature) <= 0:
        return np.array([np.inf, np.inf])
    return np.linalg.solve(curvature, [-b_y, -b_x])


# --- photometric relation ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Relation:
    """What ``noisy = scale * clean + plane`` came to, each with its error."""

    scale: float
    scale_error: float
    bend: float  # slope of the bright part over that of the faint one, less 1
    bend_error: float
    broader: float  # px^2, variance by which the noisy frame's stars are wider
    broader_error: float


@dataclass(frozen=True)
class _Smoothed:
    """
    Both frames smoothed and sampled.

    ``terms`` make up a linear model of the noisy one with the clean one: level and gradient of the
    sky, then the clean frame's slopes and half its Laplacian.  To first order these take up what a
    remaining shift and the seeing do to smoothed frames, so that the scale is that of whole stars.
    """

    noisy: np.ndarray
    clean: np.ndarray
    weight: np.ndarray
    terms: list
    sigma: float  # of a sample, noise of both frames
    clean_sigma: float


def _smoothed(noisy, clean, good, sigma, clean_sigma):
    """Smooth both frames over their good pixels; sigma is that of white noise in each."""
    coverage = ndimage.gaussian_filter(good.astype(np.float64), SMOOTH, mode='constant')
    pick = (slice(None, None, STRIDE),) * 2

    def smooth(plane):
        values = np.where(good, plane - np.median(plane[good]), 0)
        return ndimage.gaussian_filter(values, SMOOTH, mode='constant') / np.maximum(coverage, 1e-6)

    weight = (good & (coverage > 0.9))[pick].astype(np.float64)
    if weight.sum() < MIN_SAMPLES:  # a mask with many holes
        weight = (good & (coverage > 0.3))[pick].astype(np.float64)
    fine = smooth(clean)
    slopes = [*np.gradient(fine), 0.5 * ndimage.laplace(fine)]
    terms = [np.broadcast_to(a[pick], weight.shape) for a in [*_sky_terms(good.shape), *slopes]]
    own = clean_sigma / np.sqrt(4 * np.pi) / SMOOTH
    both = np.hypot(sigma / np.sqrt(4 * np.pi) / SMOOTH, own)
    return _Smoothed(smooth(noisy)[pick], fine[pick], weight, terms, both, own)


def _sky_terms(shape):
    """Level and gradient over a plane, each within 1."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    return [np.ones(shape), np.broadcast_to(y[:, None], shape), np.broadcast_to(x, shape)]


def _relate(smoothed):
    """Fit the straight relation, and one that may bend between faint and bright."""
    values, cov, weight = _fit(smoothed, smoothed.noisy, [smoothed.clean], [1.0])
    scale = float(values[0])
    size = max(abs(scale), 1e-300)
    bend, bend_error = _bend(smoothed, weight)
    return _Relation(
        scale, float(np.sqrt(cov[0, 0])), bend, bend_error,
        float(values[-1] / size), float(np.sqrt(cov[-1, -1]) / size),
    )  # fmt: skip


def _bend(smoothed, weight):
    """
    Change of the slope between the faint and the bright part, and its error.

    They part where half of what the slope is known by lies on either side.
    """
    sky = _weighted_quantile(smoothed.clean, smoothed.weight, 0.3)
    above = smoothed.clean - sky
    knot = _weighted_quantile(above, weight * np.maximum(above, 0) ** 2, 0.5)
    parts = [np.minimum(above, knot), np.maximum(above - knot, 0)]
    if knot <= 0 or not (parts[1] * weight).any():
        return 0.0, np.inf
    values, cov, _ = _fit(smoothed, smoothed.noisy, parts, [above < knot, above >= knot])
    if not values[0] > 0:
        return 0.0, np.inf
    ratio = float(values[1] / values[0])
    gradient = np.array([-ratio, 1]) / values[0]
    return ratio - 1, float(np.sqrt(gradient @ cov[:2, :2] @ gradient))


def _weighted_quantile(values, weight, share):
    """Value below which that share of the weight lies."""
    order = np.argsort(values, axis=None)
    total = np.cumsum(weight.ravel()[order])
    place = np.searchsorted(total, share * total[-1])
    return float(values.ravel()[order[min(place, order.size - 1)]])


def _fit(smoothed, target, parts, shares):
    """
    Fit parts of the clean frame, the sky and the seeing; outliers and bright pixels count less.

    ``shares`` says where the clean frame's noise enters each part; it makes factors too small and
    is taken out.  Gives values, their covariance and the weights.  Errors come from the residuals'
    sums over cells (they are correlated), and from not knowing that noise better than by itself.
    """
    terms = np.stack([*parts, *smoothed.terms])
    norm = np.sqrt(np.mean(terms**2, axis=(1, 2)))
    norm[norm == 0] = 1
    terms = terms / norm[:, None, None]
    used = smoothed.weight > 0
    weight = smoothed.weight
    for _ in range(ROUNDS):
        matrix = np.einsum('kyx,lyx,yx->kl', terms, terms, weight, optimize=True)
        noise = _noise_matrix(smoothed, weight, shares) / np.outer(norm, norm)
        ratio = np.diag(noise) / np.maximum(np.diag(matrix), 1e-300)
        noise *= min(1, 0.5 / max(ratio.max(), 1e-9))
        inverse = np.linalg.pinv(matrix - noise)
        values = inverse @ np.einsum('kyx,yx->k', terms, weight * target)
        model = np.tensordot(values, terms, axes=1)
        residual = target - model
        scores = _score_covariance(terms * (weight * residual), CELL // STRIDE)
        unsure = noise @ values
        cov = inverse @ (scores + np.outer(unsure, unsure)) @ inverse
        fitted = weight
        # what is expected to be left: noise, and a share of the signal
        expected = np.hypot(smoothed.sigma, MODEL_ERROR * np.abs(model - np.median(model[used])))
        unit = np.abs(residual) / expected
        unit /= max(1.4826 * np.median(unit[used]), 1e-3)
        weight = smoothed.weight / expected**2 / np.maximum(unit / N_SIGMA, 1)
    return values / norm, cov / np.outer(norm, norm), fitted


def _noise_matrix(smoothed, weight, shares):
    """What white noise of the clean frame, smoothed with it, adds to the normal matrix."""
    n_parts, n_sky = len(shares), 3
    matrix = np.zeros((n_parts + len(smoothed.terms),) * 2)
    slope, curved = 1 / (2 * SMOOTH**2), 1 / (2 * SMOOTH**4)
    for k, share in enumerate(shares):
        matrix[k, k] = np.sum(weight * share)
        matrix[k, -1] = matrix[-1, k] = -slope * matrix[k, k]
    for k, factor in zip(range(n_parts + n_sky, len(matrix)), (slope, slope, curved), strict=True):
        matrix[k, k] = factor * weight.sum() if n_parts else 0
    return matrix * smoothed.clean_sigma**2


def _score_covariance(scores, cell):
    """Covariance of the sums of (K, H, W) whose pixels are independent from cell to cell only."""
    for axis in (1, 2):
        scores = np.add.reduceat(scores, np.arange(0, scores.shape[axis], cell), axis=axis)
    scores = scores.reshape(len(scores), -1)
    return scores @ scores.T


def _accepted_scale(relation, registered, label):
    """Factor for the clean frame; refuses a relation that is bent, or of another zero point."""
    if abs(relation.bend) > MAX_BEND + N_SIGMA * relation.bend_error:
        msg = (
            f'bright and faint parts differ by other factors (their ratio is '
            f'{1 + relation.bend:.2f}, error {relation.bend_error:.2f}, expected 1): one of the '
            'frames was stretched or clipped; give both linear, or both with the same stretch'
        )
        raise PairError(msg)
    if abs(relation.broader) > MAX_BROADER + N_SIGMA * relation.broader_error:
        sharper = 'clean' if relation.broader > 0 else 'noisy'
        fwhm, limit = (2.355 * np.sqrt(abs(a)) for a in (relation.broader, MAX_BROADER))
        msg = (
            f'stars in the {sharper} frame are sharper by {fwhm:.1f} px in quadrature of their '
            f'FWHM, expected within {limit:.1f}: give frames of like seeing, neither of them '
            'sharpened or stretched'
        )
        raise PairError(msg)
    if abs(relation.scale - 1) > MAX_SCALE + N_SIGMA * relation.scale_error:
        other = '' if registered else (
            'unless they show another sky (flipped, rotated, far apart, another field), '
        )  # fmt: skip
        msg = (
            f'the noisy frame is {relation.scale:.4g} times the clean one (error '
            f'{relation.scale_error:.2g}), expected 1 within {MAX_SCALE:g}: {other}multiply the '
            'clean frame by that factor'
        )
        raise PairError(msg)
    if relation.scale_error > KNOWN_SCALE:
        log.info('%s: too little signal to measure the zero point; taken as equal', label)
    # a scale that is known less well than the tolerance says little
    return 1 + (relation.scale - 1) / (1 + (relation.scale_error / MAX_SCALE) ** 2)


def _sky_difference(smoothed, scale, noisy, clean, good):
    """Level and gradient to add to ``scale * clean``, (H, W)."""
    middle = np.median(noisy[good]) - scale * np.median(clean[good])
    values, _, _ = _fit(smoothed, smoothed.noisy - scale * smoothed.clean, [], [])
    return middle + sum(v * t for v, t in zip(values[:3], _sky_terms(good.shape), strict=True))
