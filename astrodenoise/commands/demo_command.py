# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise demo``."""

from pathlib import Path

from astrodenoise.argtypes import check_parent
from astrodenoise.commands.status import DONE
from astrodenoise.console import make_progress_bar, show_warnings

__all__ = ['HELP', 'NAME', 'add_arguments', 'run']

NAME = 'demo'
HELP = 'make a frame, denoise it and measure what changed'


def add_arguments(parser):
    """
    Add the arguments of the command to its parser.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.
    """
    add = parser.add_argument
    add('-o', '--output', default='astrodenoise-demo', metavar='DIR',
        help='folder for the files (default: %(default)s)')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('-q', '--quiet', action='store_true', help='no progress')


def run(args):
    """
    Run the command.

    Parameters
    ----------
    args : `argparse.Namespace`
        What was parsed.

    Returns
    -------
    status : int
        The exit status.

    Raises
    ------
    argparse.ArgumentError
        If the command was used wrongly.
    """
    from astrodenoise.demo import run_demo

    folder = Path(args.output)
    check_parent('-o', folder)
    with show_warnings(args, 'demo'):
        text = run_demo(
            folder, overwrite=args.overwrite, progress_bar=make_progress_bar(args, 'demo')
        )
    print(text)
    return DONE
