# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What the command line tells: reasons in one line, warnings, the log, progress."""

import contextlib
import functools
import logging
import os
import sys
import traceback
import warnings

from astrodenoise.progress import tell_event

__all__ = [
    'above_bars',
    'despite_closed_pipes',
    'logging_to_stderr',
    'make_progress_bar',
    'reason_of',
    'show_warnings',
    'tell',
    'tell_failed',
    'trace',
]


class _Stream:
    """A standard stream that goes silent when its reader has left."""

    def __init__(self, stream, name):
        self._stream, self._name = stream, name

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self):
        self._attempt(self._stream.flush)

    def _attempt(self, do, *arguments):
        try:
            do(*arguments)
        except OSError as error:
            with contextlib.suppress(OSError):  # what is buffered goes nowhere, without more errors
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            if isinstance(error, BrokenPipeError) or self._name == 'stderr':
                return
            msg = (
                f'the standard output cannot be written: {error.strerror}; send it elsewhere and '
                'run this again (what files were written are complete)'
            )
            raise OSError(msg) from error


@contextlib.contextmanager
def despite_closed_pipes():
    """
    Go on with the work when nobody reads what is told any more, as after ``| head``.

    Yields
    ------
    nothing : None
        As long as the context is open.

    Raises
    ------
    OSError
        Inside, where stdout cannot be written for another reason, such as a full disk.
    """
    with contextlib.ExitStack() as stack:
        for name, redirect in (
            ('stdout', contextlib.redirect_stdout), ('stderr', contextlib.redirect_stderr)
        ):  # fmt: skip
            if (stream := getattr(sys, name)) is not None:
                stack.enter_context(redirect(_Stream(stream, name)))
        yield


def tell(message):
    """
    Write a line to stderr.

    Parameters
    ----------
    message : str
        The line.
    """
    sys.stderr.write(f'astrodenoise: {message}\n')


def reason_of(error):
    """
    Say in one line why something failed.

    Parameters
    ----------
    error : Exception
        What was raised.

    Returns
    -------
    reason : str
        Its message, with its type where that tells more.
    """
    text = ' '.join(str(error).split())
    if isinstance(error, MemoryError):
        return f'not enough memory {text}'.rstrip()
    if isinstance(error, (OSError, ValueError, TypeError, ImportError)) and text:
        return text
    return f'{type(error).__name__}: {text}'


def tell_failed(args, source, error):
    """
    Name a file that failed, and why, in one line.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``verbose``.
    source : str
        The file.
    error : Exception
        What was raised.
    """
    reason = reason_of(error)
    tell(reason if reason.startswith(str(source)) else f'{source}: {reason}')
    trace(args)


def trace(args):
    """
    Show the traceback of what was just raised to those who want all.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``verbose``, 2 or more.
    """
    if args.verbose > 1:
        traceback.print_exc()


@contextlib.contextmanager
def logging_to_stderr(verbose):
    """
    Send the package's log to stderr.

    Parameters
    ----------
    verbose : int
        0: warnings, 1: what was decided, 2: all.

    Yields
    ------
    nothing : None
        The log goes there as long as the context is open.
    """
    logger = logging.getLogger('astrodenoise')
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('astrodenoise: %(message)s'))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def show_warnings(args, name):
    """
    Show our warnings in one line each, those of other packages with -v.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``verbose``.
    name : str
        What they are about.

    Yields
    ------
    nothing : None
        They are shown as long as the context is open.
    """
    from astrodenoise.exceptions import AstrodenoiseWarning

    def show(message, *_):
        tell(f'{name}: warning: {reason_of(message)}')
        tell_event('warning', file=name, message=reason_of(message))

    with warnings.catch_warnings():
        warnings.simplefilter('default' if args.verbose else 'ignore')
        warnings.simplefilter('always', AstrodenoiseWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def above_bars():
    """
    Write lines to a terminal without breaking a progress bar.

    Yields
    ------
    nothing : None
        The bar is off the screen as long as the context is open.
    """
    tqdm = sys.modules.get('tqdm')
    with contextlib.nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(sys.stderr):
        yield


def make_progress_bar(args, name, *, unit='tile'):
    """
    Give the wrapper that shows progress on a terminal.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``quiet``.
    name : str
        What is worked on.
    unit : str, optional
        What is counted.

    Returns
    -------
    bar : callable or None
        Wraps an iterable.
    """
    if args.quiet:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return functools.partial(tqdm, desc=name, unit=unit, leave=False, file=sys.stderr, disable=None)
