# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Astrodenoise removes the noise of deep-sky frames.

The names below are loaded when they are first used: ``import astrodenoise`` alone loads neither
numpy nor Astropy, photutils or torch.
"""

from importlib import import_module

from astrodenoise._version import __version__

_MODULE_OF = {
    'FrameNoise': 'noisemodel',
    'blend': 'blending',
    'check_frame': 'trustcheck',
    'conf': '_config',
    'denoise': 'core',
    'measure_noise': 'core',
    'read_provenance': 'provenance',
    'residual': 'products',
    'star_mask': 'starmask',
}

__all__ = [
    'FrameNoise',
    '__version__',
    'blend',
    'check_frame',
    'conf',
    'denoise',
    'measure_noise',
    'read_provenance',
    'residual',
    'star_mask',
]


def __getattr__(name):
    if name not in _MODULE_OF:
        msg = f'module {__name__!r} has no attribute {name!r}'
        raise AttributeError(msg)
    value = getattr(import_module(f'{__name__}.{_MODULE_OF[name]}'), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__():
    return sorted({*globals(), *_MODULE_OF})
