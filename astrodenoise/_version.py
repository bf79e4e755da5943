# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The version of astrodenoise; a plain text, since a clone may come without tags."""

__all__ = ['__version__']

__version__ = '0.1.0.dev0'
