# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise evaluate``."""

import functools
from pathlib import Path

from astrodenoise.argtypes import check_parent
from astrodenoise.commands.command import DONE, SOME_FAILED, Command
from astrodenoise.console import make_progress_bar, show_warnings, tell_failed

__all__ = ['COMMAND']


def _add_arguments(parser):
    add = parser.add_argument
    add('truth', metavar='TRUTH', help='file of the noiseless frame, or a folder of them')
    add('noisy', metavar='NOISY', help='the noisy frame, or a folder of files of the same names')
    add('denoised', metavar='DENOISED', nargs='?',
        help='the denoised frame, or a folder (default: NOISY is denoised)')
    add('--pair', action='store_true',
        help='TRUTH is a second exposure of the field with noise of its own')
    add('--model', help='name of a model or a weights file that denoises NOISY')
    add('--json', nargs='?', const='-', metavar='FILE',
        help='write all figures to a file, or print them as JSON (without FILE, as the last '
             'argument)')
    add('--overwrite', action='store_true', help='replace a FILE that exists')
    add('-q', '--quiet', action='store_true', help='no progress')


def _run(args):
    from astrodenoise.evaluation import evaluate_files

    if args.json not in (None, '-'):
        check_parent('--json', Path(args.json))
    with show_warnings(args, 'evaluate'):
        text, n_failed = evaluate_files(
            args,
            failed=functools.partial(tell_failed, args),
            progress_bar=make_progress_bar(args, 'evaluate'),
        )
    if text:
        print(text)
    return SOME_FAILED if n_failed else DONE


COMMAND = Command('evaluate', 'measure how good a denoised frame is', _add_arguments, _run)
