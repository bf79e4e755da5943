# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Errors of pixels by signal: the gain in dB, and whether an error map tells their size.

Errors are in units of each pixel's true sigma throughout: (frame - truth) / sigma.
"""

import numpy as np

from astrodenoise.measures.figures import Figure, block_sums, decibels, mean_ratio, root_ratio

__all__ = ['error_calibration', 'pair_gains', 'region_gains', 'regions', 'residual_power']

FAINT, BRIGHT = 0.3, 5.0  # sigma above the sky: below is sky, in between faint, above bright
LEAST = 400  # px of a region
COVERAGES = {'within 1': 1.0, 'within 1.96': 1.96}


def regions(level):
    """
    Split a frame by its signal.

    Parameters
    ----------
    level : `numpy.ndarray`, (H, W)
        Signal above the sky in units of each pixel's noise.

    Returns
    -------
    regions : dict
        'sky' (under 0.3), 'faint' (0.3 to 5) and 'bright' (over 5) -> (H, W) bool.
    """
    return {
        'sky': level < FAINT,
        'faint': (level >= FAINT) & (level < BRIGHT),
        'bright': level >= BRIGHT,
    }


def region_gains(before, after, level, *, valid=None):
    """
    Give the gain in dB: ten times the logarithm of the noise's over the error's mean square.

    Parameters
    ----------
    before, after : `numpy.ndarray`, (H, W)
        Noise of the noisy frame, and error of the output, in units of each pixel's true sigma.
    level : `numpy.ndarray`, (H, W)
        Signal above the sky in the same units, which tells the regions.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'all', 'sky', 'faint' and 'bright', in dB.
    """
    return {
        name: _pixels(f'gain, {name}', decibels, [before**2, after**2], part, 'dB', 2)
        for name, part in _parts(level, valid).items()
    }


def error_calibration(after, predicted, level, *, valid=None):
    """
    Compare errors with those that an error map predicts.

    Parameters
    ----------
    after : `numpy.ndarray`, (H, W)
        Error of the output in units of each pixel's true sigma.
    predicted : `numpy.ndarray`, (H, W)
        The error map s in the same units, positive.
    level : `numpy.ndarray`, (H, W)
        Signal above the sky in the same units, which tells the regions.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'all rms' and so on: rms of error / s, 1 where it is right; 'all within 1', 'all within
        1.96' and so on: share of the pixels whose error is within so many s, 0.683 and 0.950 for
        Gaussian errors.
    """
    pull = after / predicted
    figures = {}
    for name, part in _parts(level, valid).items():
        figures[f'{name} rms'] = _pixels(
            f'error over predicted error, rms, {name}', root_ratio, [pull**2, 1.0], part, '', 3
        )
        for key, bound in COVERAGES.items():
            figures[f'{name} {key}'] = _pixels(
                f'errors {key} predicted errors, {name}', mean_ratio,
                [abs(pull) <= bound, 1.0], part, '', 3,
            )  # fmt: skip
    return figures


def residual_power(residual, predicted, level, *, valid=None):
    """
    Compare what was taken away with what the error map predicts.

    For a posterior mean of error s the residual has a variance of 1 - s^2.

    Parameters
    ----------
    residual : `numpy.ndarray`, (H, W)
        Noisy minus denoised, in units of each pixel's true sigma.
    predicted : `numpy.ndarray`, (H, W)
        The error map s in the same units.
    level : `numpy.ndarray`, (H, W)
        Signal above the sky in the same units, which tells the regions.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'all', 'sky', 'faint' and 'bright': rms of the residual over the predicted one, minus 1.
    """
    expected = np.maximum(1 - predicted**2, 0)
    return {
        name: _pixels(
            f'residual over the predicted one - 1, {name}', _root_excess, [residual**2, expected],
            part, '', 3,
        )
        for name, part in _parts(level, valid).items()
    }  # fmt: skip


def _root_excess(sums):
    return root_ratio(sums) - 1


def pair_gains(
    noisy, denoised, first, second=None, *, sigma, variance=None, level=None, valid=None
):
    """
    Give the gain in dB without a truth, from exposures of the same field with independent noise.

    With two references the power of a frame's error is the mean of (frame - first) (frame -
    second); with one it is that of (frame - first)^2 minus the reference's variance.

    Parameters
    ----------
    noisy, denoised : `numpy.ndarray`, (H, W)
        A frame, and what was made of it.
    first, second : `numpy.ndarray`, (H, W)
        References whose noise neither shares.
    sigma : float or `numpy.ndarray`, (H, W)
        Noise of the noisy frame, which weighs the pixels.
    variance : float or `numpy.ndarray`, (H, W), optional
        Of the noise of ``first``, where there is no ``second``.
    level : `numpy.ndarray`, (H, W), optional
        Signal above the sky in sigma, which tells the regions; without it there is 'all' alone.
    valid : `numpy.ndarray`, (H, W), bool, optional
        The pixels that count.

    Returns
    -------
    figures : dict of `Figure`
        'all', 'sky', 'faint' and 'bright', in dB.

    Raises
    ------
    ValueError
        If there is neither a second reference nor the variance of the first.
    """
    if second is None and variance is None:
        msg = 'one reference tells the gain with its variance only: give second= or variance='
        raise ValueError(msg)
    if second is None:
        powers = [(frame - first) ** 2 - variance for frame in (noisy, denoised)]
    else:
        powers = [(frame - first) * (frame - second) for frame in (noisy, denoised)]
    powers = [power / np.square(sigma) for power in powers]
    parts = {'all': np.ones(noisy.shape, bool) if valid is None else valid}
    if level is not None:
        parts = _parts(level, valid)
    return {
        name: _pixels(
            f'gain, {name}', decibels, powers, part, 'dB', 2,
            reason='the error is not above the noise of the reference',
        )
        for name, part in parts.items()
    }  # fmt: skip


def _parts(level, valid):
    """All pixels and the regions, of those that count."""
    valid = np.ones(level.shape, bool) if valid is None else valid
    parts = {'all': np.ones_like(valid), **regions(level)}
    return {name: part & valid for name, part in parts.items()}


def _pixels(label, statistic, planes, where, unit, decimals, *, reason=''):
    sums, numbers = block_sums(planes, where)
    return Figure(
        label, statistic, sums, numbers, unit, decimals,
        count=int(np.count_nonzero(where)), least=LEAST, reason=reason,
    )  # fmt: skip
