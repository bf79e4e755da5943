# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Exit statuses."""

__all__ = ['DONE', 'INTERRUPTED', 'SOME_FAILED', 'WRONG_USAGE']

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
