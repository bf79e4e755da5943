# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Errors and warnings of astrodenoise."""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    'AlreadyDenoisedWarning',
    'AstrodenoiseWarning',
    'ClippedWarning',
    'DeviceWarning',
    'LimitedWarning',
    'MosaicWarning',
    'NoNoiseWarning',
    'NoiseMismatchWarning',
    'UnlikeTrainingWarning',
    'WeightsError',
]


class AstrodenoiseWarning(AstropyUserWarning):
    """Base class of the warnings that astrodenoise gives."""


class NoNoiseWarning(AstrodenoiseWarning):
    """The frame has no measurable noise and comes back as it is."""


class NoiseMismatchWarning(AstrodenoiseWarning):
    """A given noise and the frame's own measured noise do not agree."""


class LimitedWarning(AstrodenoiseWarning):
    """Pixels would have moved out of proportion to their noise and were held back."""


class MosaicWarning(AstrodenoiseWarning):
    """The header speaks of a raw colour mosaic, and the call does not say what to do with it."""


class UnlikeTrainingWarning(AstrodenoiseWarning):
    """The frame lies outside the range that the weights were trained on."""


class DeviceWarning(AstrodenoiseWarning):
    """The device failed or its memory ran out, and the frame was computed in another way."""


class AlreadyDenoisedWarning(AstrodenoiseWarning):
    """The frame's header says that it was denoised before."""


class ClippedWarning(AstrodenoiseWarning):
    """Pixels lay outside the range of an integer file and were clipped to it."""


class WeightsError(ValueError):
    """A weights file is missing, damaged, changed or of another make."""
