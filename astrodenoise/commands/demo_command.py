# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise demo``."""

from pathlib import Path

from astrodenoise.argtypes import check_parent
from astrodenoise.commands.command import DONE, Command
from astrodenoise.console import make_progress_bar, show_warnings

__all__ = ['COMMAND']


def _add_arguments(parser):
    add = parser.add_argument
    add('-o', '--output', default='astrodenoise-demo', metavar='DIR',
        help='folder for the files (default: %(default)s)')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('-q', '--quiet', action='store_true', help='no progress')


def _run(args):
    from astrodenoise.demo import run_demo

    folder = Path(args.output)
    check_parent('-o', folder)
    with show_warnings(args, 'demo'):
        text = run_demo(
            folder, overwrite=args.overwrite, progress_bar=make_progress_bar(args, 'demo')
        )
    print(text)
    return DONE


COMMAND = Command('demo', 'make a frame, denoise it and measure what changed', _add_arguments, _run)
