# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The settings of astrodenoise, kept in Astropy's way."""

from astropy import config

__all__ = ['Conf', 'conf']


class ConfigItem(config.ConfigItem):
    """A setting that is read from astrodenoise's own folder of settings."""

    rootname = 'astrodenoise'


class Conf(config.ConfigNamespace):
    """Configuration parameters for astrodenoise."""

    auto_logging = ConfigItem(
        True,
        'Whether denoise() records what it did in the metadata of its result. When False, '
        'add_keyword=False need not be given in each call.',
        module='astrodenoise',
    )


conf = Conf()
