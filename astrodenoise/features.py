# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The network's input: a plane in units of its own noise.

Training and use share this module, so that a network never meets planes made in another way.
"""

import numpy as np

from astrodenoise.background import local_level
from astrodenoise.noisemodel import LAGS, signal_level

__all__ = ['N_CONDITION', 'N_FEATURES', 'NormalisedPlane', 'condition']

N_FEATURES = 6
N_CONDITION = len(LAGS)
CONTRAST_CLIP = 30.0  # sigma; beyond it the compressed channel alone speaks
CONTRAST_SCALE = 0.25  # brings the local contrast to the size of the other channels
STRIP = 256  # rows whose sigma is worked out at once
WIDE_GAIN = 4.0  # noise of the fine level is about 0.06 sigma: lift it into view


class NormalisedPlane:
    """
    A plane, its noise and its local level, cut into the network's input where it is needed.

    The channels are: asinh of the contrast to the level on 110 px; the contrast to the level on
    20 px, clipped at 30; asinh of 4 times the difference of these two levels; the logarithm of
    sigma over sigma of the sky; the row and column profile of the noise; validity.  Contrasts are
    in units of sigma.  None of them changes when a level or a gradient is added to the plane.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W), float
        One plane.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that can be used; the others are seen as their surroundings.
    noise : `astrodenoise.noisemodel.PlaneNoise`
        The plane's noise.
    level : `astrodenoise.background.LocalLevel`, optional
        The plane's local level when it is known already.
    missing : bool, optional
        As below, where this is a part of a plane.
    in_order : callable, optional
        ``in_order(function, items)`` gives ``function(item)`` for each; several at once, maybe.

    Attributes
    ----------
    sigma : `numpy.ndarray`, (H, W), or float
        Rms noise of each pixel in the unit of the data; a number when it is the same for all.
    missing : bool
        Whether there is nothing to denoise: no noise, or no valid pixel.
    """

    def __init__(self, data, valid, noise, *, level=None, missing=None, in_order=map):
        self.level = level if level is not None else local_level(data, valid)
        self.everything = bool(valid.all())
        self.data, self.valid, self.noise = data, valid, noise
        self.missing = missing
        if missing is None:
            self.missing = noise.sigma == 0 or not valid.any()
        self.sigma = noise.sigma if noise.even else self._sigma_plane(in_order)
        height, width = data.shape
        self._rows = np.asarray(noise.rows or [0.0] * height, np.float32)
        self._columns = np.asarray(noise.columns or [0.0] * width, np.float32)

    def _sigma_plane(self, in_order):
        """Sigma of every pixel, the law taken at its signal level."""
        if self.noise.plane is not None or (len(self.noise.law) == 1 and not self.noise.slope):
            return self.noise.sigma_at(None)
        height = len(self.data)
        sigma = np.empty(self.data.shape, self.noise.sigma_type)
        # float64 in between: not of the whole plane at once
        strips = [slice(start, min(start + STRIP, height)) for start in range(0, height, STRIP)]
        for rows, strip in zip(strips, in_order(self._sigma_of_rows, strips), strict=True):
            sigma[rows] = strip
        return sigma

    def _sigma_of_rows(self, strip):
        """Sigma of some rows, for which their neighbours are looked at, too."""
        rows = slice(max(strip.start - 1, 0), min(strip.stop + 1, len(self.data)))
        cols = slice(0, self.data.shape[1])
        background = self.level.fine_at(*(np.arange(s.start, s.stop) for s in (rows, cols)))
        data, noise = self.data[rows], self.noise.part(rows, cols)
        if not self.everything:
            data = np.where(self.valid[rows], data, background)
        first = noise.sigma_at(background)
        sigma = noise.sigma_at(signal_level(data, background, first))
        return sigma[strip.start - rows.start : strip.stop - rows.start]

    def cut(self, rows, cols):
        """
        Make the network's input for some pixels.

        Parameters
        ----------
        rows, cols : `numpy.ndarray` of int
            Indices of the plane's rows and columns, in any order.

        Returns
        -------
        features : `numpy.ndarray`, (6, rows, cols), float32
            The channels; zeros where the plane is missing.
        """
        if self.missing:
            return np.zeros((N_FEATURES, len(rows), len(cols)), np.float32)
        at = np.ix_(rows, cols)
        fine, wide = self.level.fine_at(rows, cols), self.level.wide_at(rows, cols)
        sigma = self.sigma[at] if isinstance(self.sigma, np.ndarray) else self.sigma
        data, valid = self.data[at], self.valid[at]
        if not self.everything:
            data = np.where(valid, data, fine)
        features = np.empty((N_FEATURES, len(rows), len(cols)), np.float32)
        features[0] = np.arcsinh((data - wide) / sigma)
        features[1] = CONTRAST_SCALE * np.clip((data - fine) / sigma, -CONTRAST_CLIP, CONTRAST_CLIP)
        features[2] = np.arcsinh(WIDE_GAIN * (fine - wide) / sigma)
        features[3] = np.log(sigma / self.noise.sigma)
        features[4] = WIDE_GAIN * (self._rows[rows][:, None] + self._columns[cols])
        features[5] = valid
        return features

    def contrast(self, part):
        """
        Give the light over the level on 20 px.

        Parameters
        ----------
        part : tuple of slice
            Rows and columns.

        Returns
        -------
        contrast : `numpy.ndarray`, float64
            Of that part, in units of sigma.
        """
        level = self.level.fine_at(*(np.arange(s.start, s.stop) for s in part))
        sigma = self.sigma[part] if isinstance(self.sigma, np.ndarray) else self.sigma
        return (self.data[part] - level) / sigma

    def whole(self):
        """
        Make the network's input for the whole plane.

        Returns
        -------
        features : `numpy.ndarray`, (6, H, W), float32
            The channels.
        """
        return self.cut(*(np.arange(n) for n in self.data.shape))


def condition(noise):
    """
    Describe the noise's correlation to the network.

    Parameters
    ----------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        The plane's noise.

    Returns
    -------
    condition : `numpy.ndarray`, (6,), float32
        The autocorrelation at the lags of `astrodenoise.noisemodel.LAGS`.
    """
    return np.asarray(noise.correlation, np.float32)
