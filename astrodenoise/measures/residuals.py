# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What is left in the sky: shifts, mottle, bands, blotches, seams, and the whiteness of the residual.

Errors and residuals are in units of each pixel's true sigma throughout: (frame - truth) / sigma.
"""

import numpy as np
from scipy import ndimage

from astrodenoise.measures.figures import (
    BLOCK,
    Figure,
    block_numbers,
    block_sums,
    mean_ratio,
    root_ratio,
)
from astrodenoise.tiling import tile_starts

__all__ = [
    'autocorrelation',
    'banding_amplitude',
    'banding_left',
    'block_scatter',
    'blotches_left',
    'mottle',
    'output_correlation',
    'pattern_left',
    'seams',
    'sky_shift',
    'tile_lines',
]

LARGE_BLOCK = 128  # px
MOTTLE = 6.0  # px, sigma of the Gaussian
SEGMENT = 32  # px of a row whose mean is one sample of its offset
NEAR_LINE = 8  # px round a tile's edge that are not 'elsewhere'
LOCAL = 32  # px, sigma of the Gaussian that takes the level off the output
LEAST_SKY = 400  # px


def sky_shift(error, sky):
    """
    Give the mean error of the sky.

    Parameters
    ----------
    error : `numpy.ndarray`, (H, W)
        In sigma.
    sky : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    figure : `Figure`
        In sigma.
    """
    return _pixels('mean shift of the sky', mean_ratio, [error, 1.0], sky, 'sigma', 4)


def block_scatter(before, after, sky, *, side=LARGE_BLOCK):
    """
    Give the rms between the sky's block means beyond what the noise itself gives.

    The variance of the block means of the output's error, about their mean, minus that of the
    noise's, as a root with its sign: 0 where every block keeps the mean that it had in the noisy
    frame, negative where less is left.

    Parameters
    ----------
    before, after : `numpy.ndarray`, (H, W)
        Noise, and error of the output, in sigma.
    sky : `numpy.ndarray`, (H, W), bool
        The pixels that count; blocks of less than half of them are left out.
    side : int, optional
        Of a block in px.

    Returns
    -------
    figure : `Figure`
        In sigma.
    """
    sums, numbers = block_sums([before, after, 1.0], sky, side)
    size = np.bincount(block_numbers(sky.shape, side).ravel())[numbers]
    full = (sums[:, 2] >= size / 2) & (size >= side**2 / 2)
    means = sums[full, :2] / sums[full, 2:]
    return Figure(
        f'rms between {side} px block means beyond the noise', _excess, means, numbers[full],
        'sigma', 4, count=len(means), least=4, of='blocks',
    )  # fmt: skip


def _excess(means):
    before, after = means.var(axis=0)
    return np.sign(after - before) * np.sqrt(abs(after - before))


def mottle(before, after, sky, *, scale=MOTTLE):
    """
    Compare errors on large scales: what is left of the noise smoothed by a Gaussian of 6 px.

    Parameters
    ----------
    before, after : `numpy.ndarray`, (H, W)
        Noise, and error of the output, in sigma.
    sky : `numpy.ndarray`, (H, W), bool
        The pixels that count, in smoothing too.
    scale : float, optional
        Sigma of the Gaussian in px.

    Returns
    -------
    figure : `Figure`
        Rms of the smoothed error over that of the smoothed noise.
    """
    weight = ndimage.gaussian_filter(sky.astype(float), scale)
    inside = sky & (weight > 0.5)
    smooth = [ndimage.gaussian_filter(error * sky, scale) for error in (after, before)]
    squares = [(part / np.maximum(weight, 0.5)) ** 2 for part in smooth]
    return _pixels(f'mottle ({scale:g} px)', root_ratio, squares, inside, '', 3)


def pattern_left(error, pattern, where):
    """
    Give the share of a known pattern that is left: the projection of the error on it.

    Parameters
    ----------
    error, pattern : `numpy.ndarray`, (H, W) or (N, H, W)
        Output minus the truth without the pattern, and the pattern that the noisy frame had, in
        one unit.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    figure : `Figure`
        Sum of error times pattern over that of the pattern squared: 1 where it is as it was, 0
        where it is gone.
    """
    product, square = (_plane_sum(pattern * other) for other in (error, pattern))
    return _pixels('share of the pattern left', mean_ratio, [product, square], where, '', 3)


def _plane_sum(values):
    return values if values.ndim == 2 else values.sum(axis=0)


def blotches_left(error, pattern, where, *, scales=(4.0, 16.0)):
    """
    Give the share of known blotches of colour that is left in the colour differences.

    Parameters
    ----------
    error, pattern : `numpy.ndarray`, (3, H, W)
        As for `pattern_left`.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    scales : tuple of float, optional
        FWHM in px of the Gaussians whose difference is looked at.

    Returns
    -------
    figure : `Figure`
        `pattern_left` of the differences to the middle plane, on these scales.
    """
    small, large = (scale / (2 * np.sqrt(2 * np.log(2))) for scale in scales)

    def band(planes):
        colours = [planes[i] - planes[1] for i in (0, 2)]
        return np.stack([
            ndimage.gaussian_filter(c, small) - ndimage.gaussian_filter(c, large) for c in colours
        ])  # fmt: skip

    return pattern_left(band(np.asarray(error, float)), band(np.asarray(pattern, float)), where)


def banding_left(error, offsets, where, *, axis=0):
    """
    Give the share of known offsets of rows (or columns) that is left.

    The means of the error over the pixels of each row are projected on the true offsets, both
    without their mean.

    Parameters
    ----------
    error : `numpy.ndarray`, (H, W)
        Output minus the truth without bands, in sigma.
    offsets : `numpy.ndarray`, (H,) or (W,)
        What was added to each row or column, in sigma.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    axis : {0, 1}, optional
        0 for offsets of rows, 1 of columns.

    Returns
    -------
    figure : `Figure`
        1 where they are as they were, 0 where they are gone.
    """
    if axis:
        error, where = error.T, where.T
    count = where.sum(axis=1)
    used = count > 0
    means = np.sum(error * where, axis=1)[used] / count[used]
    offsets = np.asarray(offsets, float)[used]
    means, offsets = means - means.mean(), offsets - offsets.mean()
    return Figure(
        f'share left of the offsets of {("rows", "columns")[axis]}', mean_ratio,
        np.column_stack([means * offsets, offsets**2]), np.flatnonzero(used) // 16,
        count=int(used.sum()), least=16, of=('rows', 'columns')[axis],
    )  # fmt: skip


def banding_amplitude(image, where, *, axis=0):
    """
    Measure the rms of random offsets of rows (or columns) without knowing them.

    An analysis of variance: adjacent rows are subtracted, and the means of segments of 32 px of the
    difference compared.  What all segments of a row have in common, beyond what their scatter
    explains, is twice the variance of the offsets.  A level that changes slowly is no band; bands
    of several rows of one offset count less than they are.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        A frame, or its error, in sigma.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count; segments of less than half of them are left out.
    axis : {0, 1}, optional
        0 for offsets of rows, 1 of columns.

    Returns
    -------
    figure : `Figure`
        Rms of the offsets in sigma, with a sign: negative where the variance comes out so.
    """
    if axis:
        image, where = image.T, where.T
    both = where[1:] & where[:-1]
    number = np.arange(image.shape[1]) // SEGMENT
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    step = np.where(both, np.diff(np.asarray(image, float), axis=0), 0.0)
    count = np.add.reduceat(both, starts, axis=1, dtype=float)
    used = count >= SEGMENT / 2
    means = np.where(used, np.add.reduceat(step, starts, axis=1) / np.maximum(count, 1), 0.0)
    n = used.sum(axis=1)
    rows = n >= 3
    means, used, n = means[rows], used[rows], n[rows]
    middle = means.sum(axis=1) / n
    scatter = np.sum(used * (means - middle[:, None]) ** 2, axis=1) / (n - 1)
    name = ('rows', 'columns')[axis]
    return Figure(
        f'banding of {name}', _signed_root, np.column_stack([(middle**2 - scatter / n) / 2]),
        np.flatnonzero(rows) // 16, 'sigma', 4, count=int(rows.sum()), least=32, of=name,
    )  # fmt: skip


def _signed_root(samples):
    mean = samples[:, 0].mean()
    return np.sign(mean) * np.sqrt(abs(mean))


def autocorrelation(image, where, *, lag=1):
    """
    Give the autocorrelation of a plane at a lag, the mean of both axes.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        Noise or residual in sigma.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count: pairs of which both do.
    lag : int, optional
        In px.

    Returns
    -------
    figure : `Figure`
        0 for white noise, 1 for equal neighbours.
    """
    values = np.where(where, image, 0.0)
    if where.any():
        values = np.where(where, values - values[where].mean(), 0.0)
    product, square = np.zeros(image.shape), np.zeros(image.shape)
    for axis in (0, 1):
        near, far = (
            tuple(part if i == axis else slice(None) for i in (0, 1))
            for part in (slice(None, -lag), slice(lag, None))
        )
        pair = where[near] & where[far]
        product[near] += pair * values[near] * values[far]
        square[near] += pair * (values[near] ** 2 + values[far] ** 2) / 2
    return _pixels(f'lag-{lag} autocorrelation', mean_ratio, [product, square], where, '', 4)


def output_correlation(residual, output, sky):
    """
    Correlate what was taken away with what is left.

    Pearson's correlation of residual and output over the sky, the output without its level on
    32 px: light that was taken away by mistake looks like what is left.

    Parameters
    ----------
    residual, output : `numpy.ndarray`, (H, W)
        Noisy minus denoised, and denoised, in sigma.
    sky : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    figure : `Figure`
        Between -1 and 1.
    """
    weight = np.maximum(ndimage.gaussian_filter(sky.astype(float), LOCAL), 1e-3)
    middle = output[sky].mean() if sky.any() else 0.0
    output = np.where(sky, output - middle, 0.0)
    output = np.where(sky, output - ndimage.gaussian_filter(output, LOCAL) / weight, 0.0)
    residual = np.where(sky, residual, 0.0)
    planes = [residual, output, residual**2, output**2, residual * output, 1.0]
    return _pixels('correlation of residual and output', _pearson, planes, sky, '', 4)


def _pearson(sums):
    a, b, aa, bb, ab, n = sums.sum(axis=0)
    return (ab - a * b / n) / np.sqrt((aa - a * a / n) * (bb - b * b / n))


def tile_lines(n, *, tile_size=256, overlap=0.25):
    """
    Find the edges of all tiles along one axis.

    Parameters
    ----------
    n : int
        Length of the axis in px.
    tile_size : int, optional
        Side of a tile in px.
    overlap : float, optional
        Share of a tile that the next one covers again.

    Returns
    -------
    lines : `numpy.ndarray` of int
        First and past-the-last px of each tile, those inside the frame: line i lies between px
        i - 1 and px i.
    """
    starts, pad, _ = tile_starts(n, tile_size, overlap)
    edges = np.unique(np.concatenate([starts, starts + tile_size]) - pad)
    return edges[(edges > 0) & (edges < n)]


def seams(image, lines, where):
    """
    Compare second differences across the edges of tiles with those elsewhere.

    The absolute second differences whose middle is the px before or behind a line, over those
    whose middle is more than 8 px from all lines; both directions enter with equal weight per px.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The output, or better its error in sigma.
    lines : tuple of `numpy.ndarray`
        Lines along the first and the second axis, as `tile_lines` gives them.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count as the middle of a difference: where the scene is smooth.

    Returns
    -------
    figure : `Figure`
        1 where there is no seam.
    """
    samples, groups = [np.empty((0, 4))], [np.empty(0, int)]
    for axis, own in enumerate(lines):
        if not len(own):
            continue
        second = np.abs(np.diff(np.moveaxis(image, axis, 0), 2, axis=0))
        part = np.moveaxis(where, axis, 0)[1:-1]
        place = np.arange(1, len(second) + 1)  # px of the middle
        away = np.abs(place[:, None] - own).min(axis=1)
        beside = np.isin(place, np.concatenate([own - 1, own]))
        elsewhere = (away > NEAR_LINE) & (np.abs(place[:, None] + 1 - own).min(axis=1) > NEAR_LINE)
        sums = [
            np.sum(values[chosen], axis=0, dtype=float)
            for chosen in (beside, elsewhere)
            for values in (second * part, part)
        ]
        number = np.arange(part.shape[1]) // BLOCK
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        samples.append(np.add.reduceat(np.stack(sums, axis=1), starts, axis=0))
        groups.append(2 * np.arange(len(starts)) + axis)
    samples = np.concatenate(samples)
    return Figure(
        'seams of tiles', _seam_ratio, samples, np.concatenate(groups),
        count=int(samples[:, 1].sum()), least=LEAST_SKY,
    )  # fmt: skip


def _seam_ratio(sums):
    on, n_on, off, n_off = sums.sum(axis=0)
    return (on / n_on) / (off / n_off)


def _pixels(label, statistic, planes, where, unit, decimals):
    """Make a figure of sums over the blocks of a frame."""
    sums, numbers = block_sums(planes, where)
    return Figure(
        label, statistic, sums, numbers, unit, decimals,
        count=int(np.count_nonzero(where)), least=LEAST_SKY,
    )  # fmt: skip
