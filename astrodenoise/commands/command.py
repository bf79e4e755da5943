# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a command is, and the exit statuses."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ['DONE', 'INTERRUPTED', 'SOME_FAILED', 'WRONG_USAGE', 'Command']

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """
    A command of the command line.

    Attributes
    ----------
    name, help_text : str
        What it is called, and what it does.
    add_arguments : callable
        Adds its arguments to the `argparse.ArgumentParser` that it is given.
    run : callable
        Takes what was parsed and gives the exit status.  Wrong usage raises
        `argparse.ArgumentError`; any other error is told in one line.
    """

    name: str
    help_text: str
    add_arguments: Callable
    run: Callable
