# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A given plane of sigma: a hypothesis, smoothed so that it carries no pixel's own noise.

Its law of the signal is divided out first and multiplied back afterwards, so that the cores of
stars are not diluted; its level is compared with what the frame itself shows.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from astrodenoise.background import fill_nearest
from astrodenoise.exceptions import NoiseMismatchWarning
from astrodenoise.noisemodel import signal_level

__all__ = ['TOLERANCE', 'SigmaPlane', 'level_factor', 'sample_of', 'sigma_plane']

TOLERANCE = 0.15  # beyond this the frame's own level of noise counts
SMOOTH = 5  # px, box over which a given variance is averaged
SAMPLE = 200_000  # pixels that tell the law of a given plane


@dataclass(frozen=True)
class SigmaPlane:
    """
    How a given plane of sigma is read.

    Attributes
    ----------
    first : float
        Its median, in the unit of the data.
    start, slope : float
        Law of its variance against the signal, in units of the square of ``first``.
    floor : float
        Least variance, in the same unit.
    factor : float
        What the smoothed plane is divided by.
    """

    first: float
    start: float
    slope: float
    floor: float
    factor: float = 1.0

    def smoothed(self, sigma, data, good, background):
        """
        Smooth a plane, or a part of it.

        Parameters
        ----------
        sigma, data : `numpy.ndarray`, (H, W)
            What was given, and the pixels that it belongs to.
        good : `numpy.ndarray`, (H, W), bool
            The pixels that count.
        background : `numpy.ndarray`, (H, W)
            Their level on 20 px.

        Returns
        -------
        plane : `numpy.ndarray`, (H, W), float32 or float64
            Sigma of each pixel; where none is known that of the nearest.
        """
        known = _known(sigma, good)
        signal = signal_level(np.where(good, data, background), background, self.first)
        variance = np.where(known, sigma, self.first).astype(float) ** 2 / self.first**2
        law = np.maximum(self.start + self.slope * signal, self.floor)
        relative = fill_nearest(variance / law, known) if known.any() else np.ones_like(law)
        relative = ndimage.uniform_filter(relative, SMOOTH, mode='nearest')
        plane = np.sqrt(np.maximum(relative, 1e-12) * law) * (self.first / self.factor)
        return plane.astype(np.float32 if 1e-30 < self.first < 1e30 else np.float64)


def _known(sigma, good):
    """Pixels whose sigma can be one."""
    with np.errstate(invalid='ignore'):
        return good & np.isfinite(sigma) & (sigma > 0)


def sample_of(sigma, data, good, background):
    """
    Take a sample that tells the law of a plane of sigma.

    Parameters
    ----------
    sigma, data, good, background : `numpy.ndarray`, (H, W)
        As for `SigmaPlane.smoothed`.

    Returns
    -------
    sample : `numpy.ndarray`, (2, n), float64
        Signal and sigma of pixels; none where no sigma is known.
    """
    known = _known(sigma, good)
    if not known.any():
        return np.empty((2, 0))
    first = float(np.median(sigma[known]))
    signal = signal_level(np.where(good, data, background), background, first)[known]
    step = max(1, signal.size // SAMPLE)
    return np.stack([signal[::step], sigma[known][::step].astype(float)])


def sigma_plane(sample):
    """
    Find how a plane of sigma is to be read.

    Parameters
    ----------
    sample : `numpy.ndarray`, (2, n)
        As `sample_of` gives it.

    Returns
    -------
    plane : `SigmaPlane`
        With a factor of 1.

    Raises
    ------
    ValueError
        If no sigma is known.
    """
    signal, sigma = sample
    if not signal.size:
        msg = (
            'noise holds no positive finite sigma at any usable pixel: pass noise="measure" '
            '(--noise measure)'
        )
        raise ValueError(msg)
    first = float(np.median(sigma))
    variance = sigma**2 / first**2
    start, slope = _law(signal, variance)
    return SigmaPlane(first, start, slope, 0.1 * float(np.quantile(variance, 0.02)))


def _law(level, variance):
    """Straight law of a plane's variance against the signal: (start, slope), slope 0 if none."""
    order = np.argsort(level)
    n_bins = min(32, level.size // 20)
    if n_bins < 4:
        return float(np.median(variance)), 0.0
    x, y = (
        np.array([np.median(part) for part in np.array_split(a[order], n_bins)])
        for a in (level, variance)
    )
    centre = x.mean()
    slope, middle = np.polyfit(x - centre, y, 1)
    start = middle - slope * centre
    if slope * (x[-1] - x[0]) < 0.05 * np.median(y):
        return float(np.median(variance)), 0.0
    return float(start), float(slope)


def level_factor(given, own, measured):
    """
    Compare the level of a given noise with the frame's own.

    Parameters
    ----------
    given, own : float
        Medians of the two.
    measured : `astrodenoise.noisemodel.PlaneNoise`
        What the frame shows.

    Returns
    -------
    factor : float
        By which the given noise is too large; 1 within 15 %.  Warns beyond.
    """
    if own == 0 or measured.evidence(measured.sigma * given / own) < 1:
        message = 'the frame shows no noise of that size and stays nearly as it is'
        factor = 1.0
    elif abs(np.log(given / own)) > np.log1p(TOLERANCE):
        message = "the measured level is used, with the given plane's shape"
        factor = given / own
    else:
        return 1.0
    warnings.warn(
        f'the given noise has a median sigma of {given:.4g}, the frame itself shows {own:.4g}: '
        f'{message}',
        NoiseMismatchWarning,
        stacklevel=6,
    )
    return factor
