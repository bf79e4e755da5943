# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is known of a plane before its noise is removed."""

from dataclasses import dataclass

import numpy as np

__all__ = ['Known', 'is_constant', 'light_of']


@dataclass(frozen=True, eq=False)
class Known:
    """
    What is known of a whole plane before its noise is removed.

    Attributes
    ----------
    noise : `astrodenoise.noisemodel.PlaneNoise`
        Its noise.
    tilt : tuple of float
        ``LocalLevel.plane`` of the plane.
    light : float
        Level of extended light over the sky that 1 % of the plane exceeds, in the unit of the data.
    counts : dict of int
        Pixels that are 'invalid', and of these 'saturated'.
    n_pixels : int
        Of the plane.
    constant : bool
        Whether all valid pixels have one value.
    level : `astrodenoise.background.LocalLevel` or None
        Its local level, where the whole of it is kept.
    reading : `astrodenoise.sigmaplane.SigmaPlane` or None
        How a given sigma of each pixel is read, where the noise does not hold it.
    marks : `astrodenoise.marks.Marks` or None
        Pixels that carry no noise, where the frame's ``valid`` does not leave them out.
    """

    noise: object
    tilt: tuple
    light: float
    counts: dict
    n_pixels: int
    constant: bool
    level: object = None
    reading: object = None
    marks: object = None

    @classmethod
    def of_plane(cls, plane):
        """
        Say what is known of a plane that was normalised as a whole.

        Parameters
        ----------
        plane : `astrodenoise.features.NormalisedPlane`
            The plane.

        Returns
        -------
        known : `Known`
            Without its level.
        """
        counts = {'invalid': int(np.count_nonzero(~plane.valid)), 'saturated': 0}
        light = light_of(plane.level.fine)
        constant = is_constant(plane.data[plane.valid])
        return cls(plane.noise, plane.level.plane, light, counts, plane.valid.size, constant)

    @property
    def missing(self):
        """Whether there is nothing to denoise: no noise, or no valid pixel (bool)."""
        return self.noise.sigma == 0 or self.counts['invalid'] == self.n_pixels


def light_of(values):
    """
    Give the level of extended light that 1 % of a plane exceeds.

    Parameters
    ----------
    values : `numpy.ndarray`
        Of its level over the plane's own tilt.

    Returns
    -------
    light : float
        Over the median.
    """
    return float(np.quantile(values, 0.99) - np.median(values))


def is_constant(values):
    """
    Tell whether pixels have one value.

    Parameters
    ----------
    values : `numpy.ndarray`
        The pixels.

    Returns
    -------
    constant : bool
        Whether they have, or there are none.
    """
    return values.size == 0 or bool(values.min() == values.max())
