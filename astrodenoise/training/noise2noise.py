# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What to learn from exposures of one field: each beside the mean of others, on its own grid.

The exposure itself is never resampled, since that changes its noise; the others are moved to its
grid, brought to its brightness and blurred to its seeing.  A part of the sky is held out.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from astrodenoise.measures.shapes import TO_FWHM
from astrodenoise.training.alignment import resample
from astrodenoise.training.exposures import LEAST_MOVED, N_THREADS
from astrodenoise.training.pairs import PairError, check_pair
from astrodenoise.training.seeing import blurred, match_seeing

__all__ = ['HeldOut', 'held_out_band', 'learn_from']

log = logging.getLogger(__name__)

WINDOW = 1024  # px, side of a part of a large field
HELD_OUT = 0.25  # of the field
BORDER = 8  # px, round what is held out
MOST_INPUTS, MOST_SCORED, MOST_OTHERS = 12, 6, 8
BLURRIER = 0.05  # of the stars' variance, by which others may be wider than the exposure
SEEING = 0.15  # of the light, by which exposures may differ beside their noise
FARTHEST, OUTLIER = 8.0, 6.0  # sigma, of the exposure from the others, of these from each other
BLOCK = 16  # px, of medians that tell the difference of two skies
LEAST = 2048  # px, of a part that is trained on or held out


@dataclass(frozen=True, eq=False)
class HeldOut:
    """
    A frame and what others show of its sky, where nothing was learnt.

    Attributes
    ----------
    name : str
        Of the exposure or of the pair.
    noisy : `numpy.ndarray`, (P, H, W), float32
        As it was taken; NaN at pixels without data and at saturated ones.
    first : `numpy.ndarray`, (P, H, W), float32
        The mean of other exposures, or a clean frame, in the unit of ``noisy``.
    second : `numpy.ndarray`, (P, H, W), float32, or None
        The mean of further exposures.
    where : `numpy.ndarray`, (P, H, W), bool
        Held out and comparable.
    sigma : `numpy.ndarray`, (P,)
        Noise of a pixel of ``noisy``.
    own : float or None
        Variance of the noise of ``first`` in units of that of ``noisy``, where it is known.
    """

    name: str
    noisy: np.ndarray
    first: np.ndarray
    second: np.ndarray | None
    where: np.ndarray
    sigma: np.ndarray
    own: float | None = None


def held_out_band(shape):
    """
    Choose the part of a small field that is held out.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    held : tuple of slice
        A quarter of the field, at the end of its longer side.
    kept : tuple of slice
        The rest.
    """
    height, width = shape
    if width >= height:
        cut = width - int(HELD_OUT * width)
        return (slice(0, height), slice(cut, width)), (slice(0, height), slice(0, cut))
    cut = height - int(HELD_OUT * height)
    return (slice(cut, height), slice(0, width)), (slice(0, cut), slice(0, width))


def _parts(shape):
    """Parts of the sky to learn from, parts that are held out; as places of the reference."""
    counts = [max(1, n // WINDOW) for n in shape]
    if counts[0] * counts[1] < 4:
        held, kept = held_out_band(shape)
        return [kept], [held]
    edges = [
        np.linspace(0, n, count + 1).astype(int) for n, count in zip(shape, counts, strict=True)
    ]
    cells = [
        (slice(*edges[0][i : i + 2]), slice(*edges[1][j : j + 2]))
        for i in range(counts[0])
        for j in range(counts[1])
    ]
    held = cells[3::4]
    return [cell for cell in cells if cell not in held], held


def learn_from(field):
    """
    Make pairs of a field's exposures, and frames to score a network with.

    Parameters
    ----------
    field : `astrodenoise.training.exposures.Field`
        Aligned exposures.

    Returns
    -------
    pairs : list of `astrodenoise.training.pairs.Pair`
        To learn from: each exposure with the mean of others that moved against it.
    held_out : list of `HeldOut`
        Other parts of the sky.

    Raises
    ------
    PairError
        If there are too few pixels, or no exposure has others as sharp as itself that moved.
    """
    partners = {i: _partners(field, i) for i in range(len(field.exposures))}
    inputs = [i for i, others in partners.items() if others]
    if not inputs:
        msg = (
            f'no exposure of {field.name!r} has another that moved by more than {LEAST_MOVED:g} px '
            'against it and whose stars are as sharp: give more exposures'
        )
        raise PairError(msg)
    others = {i: _spread(partners[i], MOST_OTHERS) for i in inputs}
    kept, held = _parts(field.exposures[0].shape)
    bad = {}

    def pair_of(number, i):
        try:
            return _pair(field, i, others[i], kept[number % len(kept)], held)
        except PairError as error:
            bad[field.exposures[i].name] = f'beside the mean of others as the clean frame, {error}'
            return None

    def held_out_of(number, i):
        return _held_out(field, i, others[i], held[number % len(held)])

    with ThreadPoolExecutor(N_THREADS) as pool:
        pairs = list(pool.map(pair_of, *zip(*enumerate(_spread(inputs, MOST_INPUTS)), strict=True)))
        scored = list(
            pool.map(held_out_of, *zip(*enumerate(_spread(inputs, MOST_SCORED)), strict=True))
        )
    pairs = [pair for pair in pairs if pair is not None]
    scored = [one for one in scored if np.count_nonzero(one.where) >= LEAST]
    for name, reason in bad.items():
        log.warning('%s: exposure %s is not learnt from: %s', field.name, name, reason)
    if not pairs or not scored:
        reasons = '; '.join(f'{name}: {reason}' for name, reason in bad.items())
        msg = (
            f'{field.name!r} gives {len(pairs)} pairs to learn from and {len(scored)} to score '
            f'with, {LEAST} px at least of each: give larger exposures, or more of them'
            + (f' ({reasons})' if reasons else '')
        )
        raise PairError(msg)
    return pairs, scored


def _spread(items, n):
    """At most n of many, evenly spaced."""
    if len(items) <= n:
        return list(items)
    return [items[k] for k in np.linspace(0, len(items) - 1, n).round().astype(int)]


def _partners(field, i):
    """Exposures that moved against one and are not blurrier."""
    one = field.exposures[i]
    variance = (one.sighting.fwhm / TO_FWHM) ** 2
    return [
        j
        for j, other in enumerate(field.exposures)
        if field.moved[i, j] > LEAST_MOVED
        and _broader(one, other) > -BLURRIER * variance
    ]


def _broader(one, other):
    """Variance in px^2 by which an exposure's stars are wider than another's."""
    return other.narrower - one.narrower


def _pair(field, i, others, part, held):
    """Pair of an exposure for a part of the sky."""
    one = field.exposures[i]
    box = _box(one, part)
    if box is None:
        msg = 'it does not show the part of the sky that it should'
        raise PairError(msg)
    noisy = one.data[(slice(None), *box)]
    clean, _, known = _others(field, one, others, box)
    valid = known & ~_is_held(one, box, held, BORDER)
    if np.count_nonzero(valid) < LEAST:
        msg = f'{np.count_nonzero(valid)} pixels can be compared, {LEAST} are needed'
        raise PairError(msg)
    shown = one.shown[(slice(None), *box)]
    name = f'{field.name}/{one.name}'
    return check_pair(noisy, clean, valid, shown=shown, name=name, noise2noise=True)


def _held_out(field, i, others, part):
    """Frame of an exposure for a part of the sky that is held out."""
    one = field.exposures[i]
    box = _box(one, part)
    shape = one.shape
    if shape[0] * shape[1] <= 2 * WINDOW**2:  # with all of its surroundings
        box = (slice(0, shape[0]), slice(0, shape[1]))
    if box is None:
        empty = np.zeros((len(one.data), 1, 1), np.float32)
        return HeldOut(one.name, empty, empty, None, empty > 0, one.sigma)
    _, halves, known = _others(field, one, others, box)
    where = known & _is_held(one, box, [part], -BORDER)
    at = (slice(None), *box)
    noisy = np.where(one.shown[at], one.data[at], np.nan).astype(np.float32)
    return HeldOut(f'{field.name}/{one.name}', noisy, *halves, where, one.sigma)


def _box(one, part):
    """Rows and columns of an exposure that show a part of the sky; None where it shows none."""
    (top, bottom), (left, right) = ((s.start, s.stop - 1) for s in part)
    corners = one.seen(np.array([[y, x] for y in (top, bottom) for x in (left, right)], float))
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, one.shape)
    if (high - low < 64).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _is_held(one, box, parts, border):
    """Pixels of a box that show one of these parts of the sky, with a border round them."""
    rows, columns = (np.arange(s.start, s.stop) for s in box)
    places = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1)
    y, x = np.moveaxis(one.seen.inverse()(places), -1, 0)
    held = np.zeros(y.shape, bool)
    for rows, columns in parts:
        held |= (
            (y >= rows.start - border) & (y < rows.stop + border)
            & (x >= columns.start - border) & (x < columns.stop + border)
        )  # fmt: skip
    return held


def _others(field, one, others, box):
    """
    Mean of other exposures on an exposure's grid, or the means of two halves of them.

    Gives the mean, the halves (the second is None for a single exposure) and the pixels that can
    be compared in all of these.
    """
    planes = [
        _plane_of_others(field, one, others, box, plane) for plane in range(len(one.data))
    ]
    mean, first, second, known = zip(*planes, strict=True)
    halves = np.stack(first), None if second[0] is None else np.stack(second)
    return np.stack(mean), halves, np.stack(known)


def _plane_of_others(field, one, others, box, plane):
    noisy = one.data[plane][box].astype(np.float64)
    valid = one.valid[plane][box]
    stack, sigmas = [], []
    for number in others:
        other = field.exposures[number]
        factor = other.scale[plane] / one.scale[plane]
        moved, known = resample(other.data[plane], other.valid[plane], one.to(other), box)
        moved, known = blurred(factor * moved, known, _broader(one, other))
        moved += _sky_difference(noisy - moved, valid & known)
        stack.append(np.where(known, moved, np.nan))
        sigmas.append(factor * other.sigma[plane])
    stack, sigmas = np.array(stack), np.array(sigmas)
    sky = float(np.median(noisy[valid])) if valid.any() else 0.0
    _drop_outliers(stack, sigmas, sky)
    groups = [slice(None)]
    if len(stack) > 1:
        groups = [slice(0, None, 2), slice(1, None, 2)]
    means = [_mean(stack[group], sigmas[group]) for group in groups]
    known = valid & np.all([count > 0 for _, count in means], axis=0)
    mean = np.mean([mean for mean, _ in means], axis=0)
    spread = np.hypot(one.sigma[plane], SEEING * np.abs(mean - sky))
    strange = known & (np.abs(noisy - mean) > FARTHEST * np.hypot(spread, sigmas.min()))
    known &= ~ndimage.binary_dilation(strange)
    means = [np.where(known, value, sky) for value, _ in means]
    means = match_seeing(noisy, means, known, one.sigma[plane], sky)
    means = [np.where(known, value, sky).astype(np.float32) for value in means]
    second = means[1] if len(means) > 1 else None
    return np.mean(means, axis=0), means[0], second, known


def _drop_outliers(stack, sigmas, sky):
    """Leave out what is far from the others' median, such as cosmic rays; of three or more."""
    if len(stack) < 3:
        return
    with np.errstate(all='ignore'):
        middle = _median(stack)
        spread = np.hypot(sigmas[:, None, None], SEEING * np.abs(middle - sky))
        far = np.abs(stack - middle) > OUTLIER * spread
    for plane, outliers in zip(stack, far, strict=True):
        plane[ndimage.binary_dilation(outliers)] = np.nan  # its wings, too


def _median(stack):
    """Median over the exposures that show a pixel; NaN where there is none."""
    known = np.isfinite(stack)
    ordered = np.sort(stack, axis=0)  # NaN come last
    count = known.sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, len(stack) - 1)
    parts = [np.take_along_axis(ordered, at[None], axis=0)[0] for at in (low, high)]
    return np.where(count > 0, (parts[0] + parts[1]) / 2, np.nan)


def _mean(stack, sigmas):
    """Mean weighted by the noise, and how many exposures it is of."""
    known = np.isfinite(stack)
    weight = known / sigmas[:, None, None] ** 2
    total = weight.sum(axis=0)
    mean = np.sum(np.where(known, stack, 0) * weight, axis=0) / np.maximum(total, 1e-300)
    return mean, known.sum(axis=0)


def _sky_difference(difference, good):
    """Level and gradient by which two frames differ, from medians of blocks, (H, W)."""
    height, width = difference.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = np.where(good, difference, np.nan)[: rows * BLOCK, : columns * BLOCK]
    blocks = blocks.reshape(rows, BLOCK, columns, BLOCK)
    blocks = blocks.transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    share = np.isfinite(blocks).mean(axis=1)
    if not (share > 0.5).any():
        return np.zeros(difference.shape)
    chosen = np.flatnonzero(share > 0.5)
    medians = np.nanmedian(blocks[chosen], axis=1)
    y, x = ((chosen // columns) / rows, (chosen % columns) / columns)
    terms = np.stack([np.ones(len(chosen)), y - 0.5, x - 0.5], axis=1)
    if len(chosen) < 12:
        return np.full(difference.shape, np.median(medians))
    values = np.linalg.lstsq(terms, medians, rcond=None)[0]
    for _ in range(3):  # without blocks that hold a bright star
        rest = medians - terms @ values
        near = np.abs(rest) < 3 * 1.4826 * np.median(np.abs(rest)) + 1e-12
        values = np.linalg.lstsq(terms[near], medians[near], rcond=None)[0]
    at_y = (np.arange(height) - BLOCK / 2 + 0.5) / (rows * BLOCK) - 0.5
    at_x = (np.arange(width) - BLOCK / 2 + 0.5) / (columns * BLOCK) - 0.5
    return values[0] + values[1] * at_y[:, None] + values[2] * at_x
