# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What became of each file of a run, and the JSON lines that keep it."""

import argparse
import contextlib
import dataclasses
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

__all__ = ['Outcome', 'check_manifest', 'kept', 'this_process', 'time_now']

STATUSES = ('done', 'skipped', 'failed')


@dataclasses.dataclass(frozen=True)
class Outcome:
    """
    What became of one file.

    Attributes
    ----------
    input, output : str
        The file that was read and the one that was to be written.
    status : {'done', 'skipped', 'failed'}
        Skipped is what was there already, of the same settings.
    seconds : float
        How long it took.
    reason : str
        Of a failure, in one line.
    megapixels : float or None
        Of the images that were denoised; None where that is not known.
    weights : str or None
        12 hex digits of the SHA-256 of the weights; several are joined by commas.
    worker : str
        ``HOST:PID`` of the process, or the address of the cluster's worker.
    time : str
        When it was over: UTC, ISO 8601.
    note : str
        What else is told of it.
    said : str
        Lines for stderr that a worker gathered: warnings, the reason, the log.
    images : tuple of dict
        What was found in each image that was denoised.
    """

    input: str
    output: str
    status: str
    seconds: float = 0.0
    reason: str = ''
    megapixels: float | None = None
    weights: str | None = None
    worker: str = ''
    time: str = ''
    note: str = ''
    said: str = ''
    images: tuple = ()

    def line(self):
        """
        Write it as one line of a manifest.

        Returns
        -------
        line : str
            JSON, with the end of the line; ``reason`` is there of failures only, ``note``,
            ``said`` and ``images`` are not.
        """
        values = dataclasses.asdict(self)
        del values['note'], values['said'], values['images']
        if self.status != 'failed':
            del values['reason']
        return json.dumps(values) + '\n'


def this_process():
    """
    Name this process among those of several machines.

    Returns
    -------
    name : str
        ``HOST:PID``.
    """
    return f'{socket.gethostname()}:{os.getpid()}'


def time_now():
    """
    Give the time as a manifest has it.

    Returns
    -------
    time : str
        UTC, ISO 8601, to the millisecond.
    """
    return datetime.now(UTC).isoformat(timespec='milliseconds')


def check_manifest(name):
    """
    Refuse, before any work, what lines of a manifest cannot be appended to.

    Parameters
    ----------
    name : str
        The file.

    Raises
    ------
    argparse.ArgumentError
        If its folder is not there, or it is a file of another kind.
    """
    path = Path(name)
    if not path.absolute().parent.is_dir():
        msg = f'--manifest {name}: there is no folder {path.parent}; make it first'
        raise argparse.ArgumentError(None, msg)
    if not path.exists():
        return
    if not path.is_file():
        msg = f'--manifest {name}: is no ordinary file; give another name'
        raise argparse.ArgumentError(None, msg)
    with open(path, 'rb') as handle:
        if handle.read(1) not in (b'', b'{'):
            msg = f'--manifest {name}: is a file of another kind; give another name'
            raise argparse.ArgumentError(None, msg)


def kept(outcomes, name):
    """
    Write each outcome to a manifest when it is there, and pass it on.

    Parameters
    ----------
    outcomes : iterable of `Outcome`
        Of the files, as they are done.
    name : str or None
        The manifest, which is appended to; None for none.

    Yields
    ------
    outcome : `Outcome`
        The same, its line on the disk.

    Raises
    ------
    OSError
        If the manifest cannot be written.
    """
    if name is None:
        yield from outcomes
        return
    with open(name, 'ab', buffering=0) as handle:
        _end_line(name, handle)
        for outcome in outcomes:
            handle.write(outcome.line().encode())  # one write: a line is there whole, or not
            yield outcome


def _end_line(name, handle):
    """End a line that a full disk cut short."""
    with open(name, 'rb') as old, contextlib.suppress(OSError):
        old.seek(-1, os.SEEK_END)
        if old.read(1) != b'\n':
            handle.write(b'\n')
