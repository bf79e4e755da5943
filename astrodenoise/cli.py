# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command ``astrodenoise``.

Everything but the parser is imported where it is used, so that ``--help`` and
wrong usage answer at once.
"""

import argparse
import contextlib
import signal
import sys
import threading

from astrodenoise._version import __version__
from astrodenoise.commands import (
    blend_command,
    check_command,
    demo_command,
    denoise_command,
    evaluate_command,
    models_command,
    report_command,
    train_command,
)
from astrodenoise.commands.command import INTERRUPTED, SOME_FAILED, WRONG_USAGE
from astrodenoise.console import despite_closed_pipes, logging_to_stderr, reason_of, tell, trace

__all__ = ['main', 'make_parser']

COMMANDS = (
    denoise_command,
    blend_command,
    report_command,
    check_command,
    evaluate_command,
    train_command,
    models_command,
    demo_command,
)


def make_parser():
    """
    Make the parser of the command line.

    Returns
    -------
    parser : `argparse.ArgumentParser`
        What it parses has ``run``, the function, and ``parser``, that of the command.
    """
    parser = argparse.ArgumentParser(
        prog='astrodenoise',
        description='Remove the noise of deep-sky frames.',
        epilog='Exit status: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted.',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in (module.COMMAND for module in COMMANDS):
        one = commands.add_parser(
            command.name, help=command.help_text, description=f'{command.help_text.capitalize()}.'
        )
        one.add_argument(
            '-v', '--verbose', action='count', default=0,
            help='say what was decided; twice: all of it',
        )
        command.add_arguments(one)
        one.set_defaults(run=command.run, parser=one)
    return parser


def main(argv=None):
    """
    Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        The arguments. The default is those of the process.

    Returns
    -------
    status : int
        0 when all was done, 1 when some files failed, 2 for wrong usage, 130
        when it was interrupted.
    """
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or wrong usage: argparse has told
        return stop.code
    with despite_closed_pipes(), logging_to_stderr(args.verbose), _terminable():
        try:
            status = args.run(args)
            if sys.stdout is not None:
                sys.stdout.flush()  # so that what cannot be written is known before the end
            return status
        except argparse.ArgumentError as error:
            with contextlib.suppress(SystemExit):
                args.parser.error(str(error))
            return WRONG_USAGE
        except KeyboardInterrupt:
            tell('interrupted')
            return INTERRUPTED
        except Exception as error:
            tell(reason_of(error))
            trace(args)
            return SOME_FAILED


@contextlib.contextmanager
def _terminable():
    """Let a termination from outside (a batch system's) clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == '__main__':
    sys.exit(main())
