# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Pairs of a real noisy and a clean frame: read, compared, brought to one unit.

A network learns whatever differs between the two frames of a pair as noise.  Hence only noise may:
they must show the same sky on the same grid (within 0.3 px), with the same zero
point (2 %) and on one straight line from faint to bright.  Seeing may differ: the photometric
relation is fitted on frames smoothed over 4 px, with a term for the width of the stars.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from astrodenoise.estimate import MIN_PIXELS, fine_scale_sigma, measure_plane
from astrodenoise.training.framefiles import frame_files, read_planes
from astrodenoise.training.photometry import PairError, match_photometry
from astrodenoise.training.registration import check_registration
from astrodenoise.validity import NOISY, SATURATED, invalid_pixels

__all__ = ['Pair', 'PairError', 'check_pair', 'finest_noise', 'light_difference', 'load_pairs']

log = logging.getLogger(__name__)

MIN_SIDE = 32  # px
BRIGHT, MIN_BRIGHT = 20.0, 100  # sigma, and pixels, that tell the difference of two seeings
SEEING = 0.05, 0.5  # of the light, the range of that difference
FAINT = 1.0  # sigma, below which a pixel is sky
MIN_SHARE = 0.1  # of the pixels, valid in both frames

MAX_CLEANNESS = 0.5  # noise of the clean frame over that of the noisy one
SHARED = 0.5  # noise of the difference over that of the noisy frame: less, and they share it


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
    resampled : bool
        Whether the clean frame may have more noise than its finest scale shows.
    counts : `numpy.ndarray`, (P, H, W), bool, or None
        Where the frames are compared, if that is not all of ``valid``; the rest is only shown.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    valid: np.ndarray
    cleanness: float
    resampled: bool = False
    counts: np.ndarray | None = None

    @property
    def compared(self):
        """Pixels whose noise is learnt (array, (P, H, W), bool)."""
        return self.valid if self.counts is None else self.counts

    @property
    def own(self):
        """Variance of the clean frame's own noise at the sky, in units of sigma (float)."""
        if self.cleanness < MAX_CLEANNESS and not self.resampled:
            return self.cleanness**2
        smooth = ndimage.gaussian_filter(self.clean, (0, 2, 2))
        calm = self.compared & (smooth < FAINT)
        difference = (self.noisy - self.clean)[calm if calm.any() else self.compared]
        low, high = np.percentile(difference, [15.87, 84.13])
        return max(self.cleanness**2, float((high - low) / 2) ** 2 - 1)

    @property
    def seeing(self):
        """Share of bright pixels' light by which the frames differ beside their noise (float)."""
        return light_difference(self.noisy, self.clean, self.compared)


def light_difference(noisy, clean, valid):
    """
    Tell by what share of the light two frames differ where it outshines the noise.

    Parameters
    ----------
    noisy, clean : `numpy.ndarray`
        In units of the noise of the first, over a sky of 0.
    valid : `numpy.ndarray`, bool
        The pixels that count.

    Returns
    -------
    share : float
        Robust rms, 0.05 at least, as the seeing of a night makes it; 0.5 at most.
    """
    bright = valid & (clean > BRIGHT)
    if np.count_nonzero(bright) < MIN_BRIGHT:
        return SEEING[0]
    ratio = (noisy - clean)[bright] / clean[bright]
    low, high = np.percentile(ratio, [15.87, 84.13])
    return float(np.clip((high - low) / 2, *SEEING))


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
    files = frame_files(place)
    if not files:
        msg = f'{str(place)!r} holds no frame: put FITS, TIFF, PNG or JPEG files there'
        raise FileNotFoundError(msg)
    return files


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
        frames.append(read_planes(files[side][name][0]))
    (noisy, good), (clean, clean_good) = frames
    _check_shapes(noisy, clean)
    return check_pair(noisy, clean, good & clean_good, name=name, **keywords)


# --- one pair ------------------------------------------------------------------------------------


def check_pair(noisy, clean, valid=None, *, shown=None, name='', noise2noise=False, max_shift=0.3):
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
    shown : `numpy.ndarray` of bool, optional
        Of their shape: the pixels that a network is to see, those that are not compared included.
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
    seen = np.zeros(noisy.shape, bool) if shown is None else np.reshape(shown, noisy.shape)
    label = name or 'pair'
    planes = []
    for number, plane in enumerate(zip(noisy, clean, given, seen, strict=True)):
        where = f'plane {number}: ' if len(noisy) > 1 else ''
        try:
            planes.append(_match_plane(*plane, label, noise2noise, max_shift))
        except PairError as error:
            msg = f'{where}{error}'
            raise PairError(msg) from None
    noisy, clean, valid, cleanness = zip(*planes, strict=True)
    planes = (np.stack(part) for part in (noisy, clean, valid))
    pair = Pair(name, *planes, max(cleanness), resampled=noise2noise)
    return pair if shown is None else replace(pair, valid=seen, counts=pair.valid)


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


def _match_plane(noisy, clean, given, seen, label, noise2noise, max_shift):
    """Check one plane; noisy and matched clean in units of sigma, valid, cleanness."""
    taken = noisy
    good = _valid_in_both(noisy, clean, given)
    noise = measure_plane(noisy, good)
    if noise.sigma == 0:
        msg = 'the noisy frame shows no noise: is it the clean one, or was it denoised?'
        raise PairError(msg)
    noisy, clean = (np.where(good, a, np.median(a[good])) for a in (noisy, clean))
    registered = check_registration(noisy, clean, good, label=label, max_shift=max_shift)
    fine, clean_fine = (finest_noise(a, good) for a in (noisy, clean))
    fine = fine or noise.sigma
    matched, scale = match_photometry(
        noisy, clean, good, fine, clean_fine, label=label, registered=registered
    )
    cleanness = scale * clean_fine / fine
    _check_noise(noisy - matched, good, fine, cleanness, noise2noise)
    noisy = np.where(seen & ~good, taken, noisy)
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
    gap = np.abs(clean - sky) > finest_noise(noisy, given)
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


def finest_noise(plane, good):
    """
    Measure the noise of a plane's finest scale.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W)
        Any.
    good : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    sigma : float
        0 where no pixel has all its neighbours.
    """
    if good.all():
        return fine_scale_sigma(plane)
    kernel = np.array([1.0, -2.0, 1.0])
    fine = ndimage.convolve(np.where(good, plane, 0), np.outer(kernel, kernel) / 6)
    inner = ndimage.minimum_filter(good, size=3, mode='constant')
    return 1.4826 * float(np.median(np.abs(fine[inner]))) if inner.any() else 0.0


def _check_noise(difference, good, fine, cleanness, noise2noise):
    """Refuse a clean frame that holds the noisy one's noise, or as much of its own."""
    left = finest_noise(difference, good) / fine
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
