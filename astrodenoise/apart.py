# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Call in another process what may end the process that it runs in."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import warnings

__all__ = ['answer', 'call_apart']

_SERVE = 'import sys; from astrodenoise.apart import answer; answer(sys.stdin.buffer, sys.stdout)'


def call_apart(function, *args):
    """
    Call a function in a new Python, which may die of it.

    Parameters
    ----------
    function : callable
        A function of a module, or the method of an object that can be pickled.
    *args
        What it takes; all of it can be pickled.

    Returns
    -------
    result : object
        What it gave. What it logged is logged here.

    Raises
    ------
    ChildProcessError
        If the other process ended without an answer, or with an error that cannot be pickled.
    Exception
        Whatever the function raised.
    """
    if not sys.executable or getattr(sys, 'frozen', False):
        return function(*args)  # inside another program there is no other Python to start
    # what this process can import, in its order; -P: and nothing that lies in the current folder
    places = os.pathsep.join(map(os.path.abspath, sys.path))
    level = logging.getLogger('astrodenoise').getEffectiveLevel()
    done = subprocess.run(
        [sys.executable, '-P', '-c', _SERVE],
        input=pickle.dumps((level, function, args)),
        capture_output=True,
        env=os.environ | {'PYTHONPATH': places},
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(_last_words(done))
    result, error, records = pickle.loads(done.stdout)
    for record in records:
        logging.getLogger(record.name).handle(record)
    if error is not None:
        raise error
    return result


def answer(source, sink):
    """
    Call what another process asks for; the other side of `call_apart`.

    Parameters
    ----------
    source : file object
        Where the call is read from.
    sink : file object
        Standard output: result, error and log records are written to its bytes.
    """
    target = os.fdopen(os.dup(sink.fileno()), 'wb')
    os.dup2(2, sink.fileno())  # what the function prints is no part of the answer
    level, function, args = pickle.load(source)
    logger, records = logging.getLogger('astrodenoise'), []
    logger.setLevel(level)
    handler = _Keeper(records)
    logger.addHandler(handler)
    result = error = None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            result = function(*args)
        except Exception as raised:
            error = _portable(raised)
    logger.removeHandler(handler)
    with target:
        pickle.dump((result, error, records), target, protocol=pickle.HIGHEST_PROTOCOL)


class _Keeper(logging.Handler):
    """Keeps records in a list, in a form that can be pickled."""

    def __init__(self, records):
        super().__init__()
        self._records = records

    def emit(self, record):
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._records.append(record)


def _portable(error):
    """The error; where it cannot be pickled, as those of decoders in C, another that says it."""
    try:
        pickle.dumps(error)
    except Exception:
        return ChildProcessError(f'{type(error).__name__}: {error}')
    return error


def _last_words(done):
    if done.returncode < 0:
        return f'the process that unpacked it was ended by {signal.Signals(-done.returncode).name}'
    lines = done.stderr.decode(errors='replace').strip().splitlines()
    return f'the process that unpacked it ended with {done.returncode}' + (
        f': {lines[-1]}' if lines else ''
    )
