# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a denoised frame invented, lost and moved, told without a truth.

Each finding comes with what chance alone would make of it: a frame of a million pixels has noise
peaks over 5 sigma, and of a thousand true sources some are hardly seen in the original.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from astrodenoise.background import local_level
from astrodenoise.limit import BOXES, box_means, patterned_noise
from astrodenoise.measures import detections
from astrodenoise.measures.comparison import DEFAULT_WIDTH

__all__ = [
    'EVIDENCE',
    'LEFT',
    'MOST',
    'SEEN',
    'SHOWN',
    'Move',
    'Source',
    'SourceEvidence',
    'largest_moves',
    'quiet_pixels',
    'stars_for_width',
    'weigh_sources',
]

SHOWN, EVIDENCE = 4.0, 3.0  # matched-filter S/N: of what is shown, that the original must have
SEEN, LEFT = 5.0, 0.3  # S/N of what is seen in the original, share of it that must be left
NEAR = 0.6  # FWHM, and 1.5 px at least: how far a source may lie from its counterpart
SMOOTH, QUIET = 2.0, 0.3  # px, sigma: smoothed by it, light below that is no source
FOR_WIDTH = (30.0, 12.0)  # S/N of the stars that tell the FWHM: the brighter ones if they are many
WIDTHS = (2.0, 3.0, 4.5, 6.5, 9.0)  # px that stars of the denoised frame are compared with
FEWEST = 5  # of them
BROAD = 6.0  # px, FWHM from which on the level on 20 px would hold part of a star's light
STRIP = 1024  # rows that are filtered at once
MOST = 50  # positions that are listed


@dataclass(frozen=True)
class Source:
    """
    A source that one of the two frames has and the other hardly.

    Attributes
    ----------
    x, y : int
        Position in px, from 0.
    shown, evidence : float
        Matched-filter S/N in the denoised frame and in the original, both in units of the
        original's noise.
    chance : float
        Invented: how many of the sources shown would lack as much if all were real.  Lost: how
        many noise peaks of that height there are in such a frame.
    """

    x: int
    y: int
    shown: float
    evidence: float
    chance: float


@dataclass(frozen=True, eq=False)
class SourceEvidence:
    """
    The sources of a plane before and after.

    Attributes
    ----------
    fwhm : float
        Of the matched filter's PSF in px.
    stars : int
        Stars that tell it, 0 where it is a default.
    n_shown, n_seen : int
        Sources over 4 sigma in the denoised frame, and over 5 sigma in the original.
    invented, lost : tuple of `Source`
        The most significant first.
    invented_by_chance, lost_by_chance : float
        How many to expect if every source shown is real, and if every one lost is a peak of
        Gaussian noise.
    """

    fwhm: float
    stars: int
    n_shown: int
    n_seen: int
    invented: tuple
    lost: tuple
    invented_by_chance: float
    lost_by_chance: float


@dataclass(frozen=True)
class Move:
    """
    A box whose mean changed.

    Attributes
    ----------
    x, y : int
        Its middle in px, from 0.
    box : int
        Its side in px.
    change : float
        Denoised minus noisy, in units of the noise of the box's mean.
    sigma : float
        The same in units of a pixel's noise.
    """

    x: int
    y: int
    box: int
    change: float
    sigma: float


def stars_for_width(noisy, denoised, sigma, valid):
    """
    Find stars that tell the width of the PSF.

    Bright ones of the original; where it does not show five, the width of 2 to 9 px that most
    stars of the denoised plane have to 20 %.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        The plane before and after, finite.
    sigma : `numpy.ndarray`, (H, W)
        Noise of each pixel of ``noisy``.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    fwhm : float
        In px; a default where no five stars tell it.
    count : int
        Stars that tell it, 0 where it is the default.
    """
    for threshold in FOR_WIDTH:
        y, _, fwhm = detections.find_stars(noisy, sigma, threshold=threshold, valid=valid)
        if len(y) >= FEWEST:
            return float(fwhm), len(y)
    found = [
        (len(detections.find_stars(denoised, sigma, fwhm=width, threshold=SHOWN, valid=valid)[0]),
         width)
        for width in WIDTHS
    ]  # fmt: skip
    count, fwhm = max(found)
    if count >= FEWEST:
        return fwhm, count
    return DEFAULT_WIDTH, 0


def quiet_pixels(denoised, level, sigma, valid):
    """
    Tell the pixels without sources, by the denoised plane smoothed by 2 px.

    Parameters
    ----------
    denoised, level : `numpy.ndarray`, (H, W)
        The plane, finite, and its level on 20 px.
    sigma : `numpy.ndarray`, (H, W)
        Noise of each pixel of the noisy plane.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    quiet : `numpy.ndarray`, (H, W), bool
        Where light over the level is under 0.3 sigma, or under what is left of the noise.
    """
    light = np.where(valid, (denoised - level) / sigma, 0).astype(np.float32)
    light = np.abs(ndimage.gaussian_filter(light, SMOOTH))
    left = float(np.median(light[valid])) / stats.norm.ppf(0.75) if valid.any() else 0.0
    return valid & (light < max(QUIET, 3 * left))


def weigh_sources(noisy, denoised, sigma, valid, *, fwhm=None):
    """
    Compare the sources of a plane before and after by the matched filter.

    Invented are those over 4 sigma in the denoised plane for which the original has less than 3.
    Lost are those over 5 sigma in the original of which less than 30 % is left.  Both are judged
    in units of the original's filter noise, measured on the frame, correlation included.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        The plane before and after, finite.
    sigma : `numpy.ndarray`, (H, W)
        Noise of each pixel of ``noisy``, in its unit.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    fwhm : float, optional
        Of the PSF in px.  The default measures it on the frame.

    Returns
    -------
    evidence : `SourceEvidence`
        What was found.
    """
    stars = 0
    if fwhm is None:
        fwhm, stars = stars_for_width(noisy, denoised, sigma, valid)
    psf = detections.moffat(fwhm)
    levels = [local_level(frame, valid) for frame in (noisy, denoised)]
    quiet = quiet_pixels(denoised, levels[1].fine_whole().astype(np.float32), sigma, valid)
    before, after = (
        _filtered(frame, level.wide_at if fwhm > BROAD else level.fine_at, psf, sigma, valid)
        for frame, level in zip((noisy, denoised), levels, strict=True)
    )
    noise = detections.filter_noise(before, quiet)
    before /= noise
    after /= noise
    shown, evidence = _counterparts(after, before, SHOWN, fwhm, valid)
    invented = [
        Source(x, y, value, there, len(shown) * float(stats.norm.cdf(there - value)))
        for (x, y, value), there in zip(shown, evidence, strict=True) if there < EVIDENCE
    ]  # fmt: skip
    heights = np.array([value for *_, value in shown])
    seen, left = _counterparts(before, after, SEEN, fwhm, valid)
    density = _peak_density(before, quiet) * np.count_nonzero(valid)
    lost = [
        Source(x, y, there, value, float(density * _peaks_above(value)))
        for (x, y, value), there in zip(seen, left, strict=True) if there < LEFT * value
    ]  # fmt: skip
    return SourceEvidence(
        fwhm=float(fwhm),
        stars=stars,
        n_shown=len(shown),
        n_seen=len(seen),
        invented=tuple(sorted(invented, key=lambda one: one.chance)),
        lost=tuple(sorted(lost, key=lambda one: one.chance)),
        invented_by_chance=float(np.sum(stats.norm.cdf(EVIDENCE - heights))),
        lost_by_chance=float(density * _peaks_above(SEEN)),
    )


def _filtered(frame, level_at, psf, sigma, valid):
    """Matched-filter S/N of a plane, strip by strip (float32)."""
    height, width = frame.shape
    result = np.empty(frame.shape, np.float32)
    for start in range(0, height, STRIP):
        stop = min(start + STRIP, height)
        first, last = max(start - len(psf), 0), min(stop + len(psf), height)
        background = level_at(np.arange(first, last), np.arange(width))
        light = np.where(valid[first:last], frame[first:last] - background, 0)
        snr = detections.matched_filter(light, psf, sigma[first:last])
        result[start:stop] = snr[start - first : stop - first]
    return result


def _counterparts(snr, other, threshold, fwhm, valid):
    """Sources of a map, as (x, y, height), and the greatest value of the other near each."""
    if not (snr[valid] > threshold).any():
        return [], []
    from photutils.detection import find_peaks

    found = find_peaks(np.where(valid, snr, -np.inf), threshold, box_size=3)
    x, y = np.asarray(found['x_peak']), np.asarray(found['y_peak'])
    radius = max(1.5, NEAR * fwhm)
    half = int(radius)
    disc = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) <= radius
    near = np.pad(other, half, mode='edge')
    rows, cols = np.nonzero(disc)
    there = near[y[:, None] + rows, x[:, None] + cols].max(axis=1)
    places = zip(x.tolist(), y.tolist(), snr[y, x].tolist(), strict=True)
    return list(places), there.tolist()


def _peak_density(snr, quiet):
    """Peaks of a Gaussian field per px, but for the factor that depends on their height."""
    slopes = []
    for axis in (0, 1):
        step = np.diff(snr, axis=axis)
        both = np.moveaxis(quiet, axis, 0)
        both = np.moveaxis(both[1:] & both[:-1], 0, axis)
        slopes.append(np.mean(step[both] ** 2, dtype=float) if both.any() else 0.0)
    return np.sqrt(slopes[0] * slopes[1]) * (2 * np.pi) ** -1.5


def _peaks_above(height):
    return height * np.exp(-0.5 * height**2)


def largest_moves(change, correlation, *, limit=6.0):
    """
    Find the boxes whose mean changed most, in units of the noise of that mean.

    Boxes of 1, 3, 5, 9, 17 and 33 px.  The noise of a mean is that of neighbours' correlation or,
    where boxes side by side differ by more all over the frame, what they differ by, at most four
    times as much: as `astrodenoise.denoise` holds changes back.

    Parameters
    ----------
    change : `numpy.ndarray`, (H, W), float32
        Denoised minus noisy in units of each pixel's noise, 0 where no pixel counts.
    correlation : sequence of float
        Autocorrelation of the noise at `astrodenoise.noisemodel.LAGS`.
    limit : float, optional
        What is beyond is listed.

    Returns
    -------
    sizes : list of `Move`
        The largest of each size, as far as the plane holds such boxes.
    beyond : list of `Move`
        Those beyond the limit, the largest first, at most 50; of boxes that overlap the one that
        changed most.
    """
    sizes, candidates = [], []
    for box in (box for box in BOXES if min(change.shape) >= box):
        means = box_means(change, box)
        noise = patterned_noise(means, box, correlation)
        pulls = np.abs(means) / np.float32(noise)
        highest = np.unravel_index(np.argmax(pulls), pulls.shape)
        sizes.append(_move(means, highest, box, noise))
        if pulls.max() > limit:
            peaks = (pulls > limit) & (pulls == ndimage.maximum_filter(pulls, max(box, 3)))
            y, x = np.nonzero(peaks)
            for i in np.argsort(-pulls[y, x])[: 10 * MOST]:
                candidates.append(_move(means, (y[i], x[i]), box, noise))
    beyond = []
    for move in sorted(candidates, key=lambda one: -abs(one.change)):
        if len(beyond) < MOST and not any(_overlap(move, other) for other in beyond):
            beyond.append(move)
    return sizes, beyond


def _move(means, at, box, noise):
    mean = float(means[at])
    return Move(int(at[1]), int(at[0]), box, mean / noise, mean)


def _overlap(a, b):
    reach = (a.box + b.box) / 2
    return abs(a.x - b.x) < reach and abs(a.y - b.y) < reach
