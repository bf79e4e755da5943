# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Noise like that of a frame, drawn anew: its map, its law, its correlation, its bands, its rounding.

A model of the noise knows the correlation at a few lags.  What lies beyond is carried on, and the
nearest spectrum that has these lags and no negative power is taken.
"""

import numpy as np
from scipy import fft

from astrodenoise.noisemodel import LAGS

__all__ = ['NoiseField', 'noise_twin']

SIDE = 64  # px, side of the field on which the spectrum is found
ROUNDS = 200
CARRIED = 0.05  # correlation at 2 px from which on it goes on beyond
SURE = 4.0  # errors of the variance of a profile over chance's, from which on there are bands
LARGEST = 0.9  # share of the variance that bands and rounding may have


class NoiseField:
    """
    The noise of a plane in units of its own sigma.

    Parameters
    ----------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        What was measured of it.

    Attributes
    ----------
    bands : tuple of `numpy.ndarray` or None
        Profiles of rows and columns in units of sigma, None where there are no bands.
    correlation : `numpy.ndarray`, (64, 64)
        Autocorrelation at all lags, bands included, lag 0 first.
    """

    def __init__(self, noise):
        measured = dict(zip(LAGS, noise.correlation, strict=True))
        self.bands = tuple(
            _bands(profile, n, [measured[0, k] if axis == 0 else measured[k, 0] for k in (1, 2)])
            for axis, (profile, n) in enumerate(
                zip((noise.rows, noise.columns), noise.shape[::-1], strict=True)
            )
        )
        shares = [0.0 if band is None else float(np.mean(band**2)) for band in self.bands]
        self._rest = 1 - min(sum(shares), LARGEST)  # share of the variance without bands
        for dy, dx in LAGS:  # a band is the same all along
            along = shares[0] * (dy == 0) + shares[1] * (dx == 0)
            measured[dy, dx] = np.clip((measured[dy, dx] - along) / self._rest, -1, 1)
        power = _spectrum(measured)
        self.correlation = self._rest * fft.ifft2(power).real
        self.correlation[0] += shares[0]
        self.correlation[:, 0] += shares[1]
        self._kernel = fft.fftshift(fft.ifft2(np.sqrt(power)).real)

    def draw(self, rng, shape, *, bands=True):
        """
        Draw noise of rms 1.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of randomness.
        shape : tuple of int
            Height and width in px.
        bands : bool, optional
            With the plane's own bands; without them it is the part that pixels make.

        Returns
        -------
        noise : `numpy.ndarray`, (H, W), float64
            In units of sigma.
        """
        large = [fft.next_fast_len(n + SIDE, real=True) for n in shape]
        white = rng.standard_normal(large)
        field = fft.irfft2(fft.rfft2(white) * fft.rfft2(self._kernel, large), large)
        field = field[: shape[0], : shape[1]]
        if not bands or all(band is None for band in self.bands):
            return field
        field *= np.sqrt(self._rest)
        rows, columns = self.bands
        if rows is not None:
            field += np.resize(rows, shape[0])[:, None]
        if columns is not None:
            field += np.resize(columns, shape[1])
        return field

    def filter_noise(self, template):
        """
        Give the noise of a matched filter over what white noise would make.

        Parameters
        ----------
        template : `numpy.ndarray`, (s, s)
            What the frame is filtered with.

        Returns
        -------
        ratio : float
            1 for white noise, more where neighbours share noise.
        """
        side = 2 * template.shape[0]
        own = fft.ifft2(np.abs(fft.fft2(template, (side, side))) ** 2).real
        reach = min(template.shape[0] - 1, SIDE // 2 - 1)
        lags = np.arange(-reach, reach + 1)
        total = np.sum(own[np.ix_(lags, lags)] * self.correlation[np.ix_(lags, lags)])
        return float(np.sqrt(max(total, 0.0) / own[0, 0]))


def _bands(profile, n, neighbours):
    """Take from a profile of row or column means what white noise of its pixels leaves in it."""
    if len(profile) < 16:
        return None
    profile = np.asarray(profile) - np.mean(profile)
    # neighbours along the line share noise, a band being the same for all of them
    spread = 1.4826 * np.median(np.abs(profile - np.median(profile)))
    shared = max(min(*neighbours, spread**2), 0.0)
    chance = max(1 + 2 * (sum(neighbours) - 2 * shared), 0.2) / n
    error = 2.3 / np.sqrt(len(profile))  # of the variance, by the median of absolute deviations
    if spread**2 < (1 + SURE * error) * chance:
        return None
    return profile * np.sqrt(1 - chance / spread**2)


def _spectrum(measured):
    """Power spectrum, of mean 1, of noise with the correlation that was measured."""
    start = np.zeros((SIDE, SIDE))
    along = [_carried(measured[lag, 0], measured[2 * lag, 0]) for lag in (1,)]
    across = [_carried(measured[0, lag], measured[0, 2 * lag]) for lag in (1,)]
    line = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))
    start += along[0][line][:, None] * across[0][line]
    known = [(0, 0, 1.0)]
    known += [(dy % SIDE, dx % SIDE, rho) for (dy, dx), rho in measured.items()]
    known += [(-dy % SIDE, -dx % SIDE, rho) for (dy, dx), rho in measured.items()]
    rows, columns, values = (np.array(part) for part in zip(*known, strict=True))
    rho = start
    for _ in range(ROUNDS):
        rho[rows.astype(int), columns.astype(int)] = values
        power = np.maximum(fft.fft2(rho).real, 0)
        rho = fft.ifft2(power).real
    return power / power.mean()


def _carried(first, second):
    """Autocorrelation along an axis from its first two lags: it falls at least as fast as there."""
    rho = np.zeros(SIDE // 2 + 1)
    rho[:3] = 1, first, second
    if min(first, second) < CARRIED:
        return rho
    fall = np.log(second / first)
    bend = min(fall - np.log(first), 0.0)
    for lag in range(3, rho.size):
        fall = min(fall + bend, -0.05)
        rho[lag] = rho[lag - 1] * np.exp(fall)
    return rho


def noise_twin(level, noise, rng):
    """
    Make a synthetic plane that has the level and the noise of one, and nothing else.

    Parameters
    ----------
    level : `numpy.ndarray`, (H, W)
        Smooth level, in the unit of the data.
    noise : `astrodenoise.noisemodel.PlaneNoise`
        Noise of the plane: its map, law, correlation, bands and rounding are drawn anew.
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    twin : `numpy.ndarray`, (H, W), float64
        In the unit of the data.
    """
    sigma = np.asarray(noise.sigma_at(level), float)
    field = NoiseField(noise).draw(rng, level.shape)
    rounding = noise.step**2 / 12
    twin = level + np.sqrt(np.maximum(sigma**2 - rounding, (1 - LARGEST) * sigma**2)) * field
    return np.round(twin / noise.step) * noise.step if noise.step else twin
