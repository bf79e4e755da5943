# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How far the work is: a bar on a terminal, and lines of JSON for other programs.

Work is counted in pixels, which say how long it takes; tiles have many sizes.
"""

import contextlib
import json
import re
import sys
import time

__all__ = ['PixelBar', 'counted_files', 'events_to', 'tell_event', 'warnings_in']

FEWEST = 0.2  # s between two lines on progress
SHOWN = '{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} Mpx [{elapsed}<{remaining}, '
WARNING = re.compile(r'astrodenoise: (.+?): warning: (.+)')
_STREAMS: list = []  # where lines of JSON go, if anywhere


@contextlib.contextmanager
def events_to(stream):
    """
    Write what is told as lines of JSON.

    Parameters
    ----------
    stream : file object or None
        Where they go; None for nowhere.

    Yields
    ------
    nothing : None
        They go there as long as the context is open.
    """
    if stream is None:
        yield
        return
    _STREAMS.append(stream)
    try:
        yield
    finally:
        _STREAMS.remove(stream)


def tell_event(event, **values):
    """
    Write one line of JSON, if somebody asked for them.

    Parameters
    ----------
    event : str
        What happened.
    **values
        What there is to tell of it, of plain types.
    """
    for stream in _STREAMS:
        stream.write(json.dumps({'event': event, **values}) + '\n')
        stream.flush()


def warnings_in(said):
    """
    Find the warnings in what a worker wrote.

    Parameters
    ----------
    said : str
        Lines of stderr.

    Returns
    -------
    warnings : list of (str, str)
        What each is about, and its text.
    """
    return [match.groups() for match in map(WARNING.fullmatch, said.splitlines()) if match]


class PixelBar:
    """
    Counts the pixels of a file as they are denoised.

    It is a ``progress_bar`` of `astrodenoise.denoise`: it wraps the tiles of one part of a frame
    after the other, and takes each for the number of pixels that are done with it.

    Parameters
    ----------
    file : str
        The file.
    label : str, optional
        What the bar calls it.
    clock : callable, optional
        Gives the time in seconds.
    """

    def __init__(self, file, label=None, *, clock=time.monotonic):
        self._file, self._label, self._clock = file, label or file, clock
        self._done = self._total = 0
        self._start = self._told = None
        self._bar = None

    def expect(self, n_pixels):
        """
        Say how many there are.

        Parameters
        ----------
        n_pixels : int
            All pixels of the file that will be denoised.
        """
        self._total = n_pixels
        self._bar = _bar(
            self._label, n_pixels / 1e6, unit='Mpx', bar_format=SHOWN + '{rate_noinv_fmt}]'
        )

    def __call__(self, shares):
        """Pass on the tiles; one is asked for when it is done."""
        if self._start is None:
            self._start = self._clock()
        return map(self._counted, shares)

    def close(self):
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()

    def _counted(self, share):
        """Count the pixels of a tile, but for surroundings that nobody asked for."""
        new = min(share, self._total - self._done)
        self._done += new
        if self._bar is not None:
            self._bar.update(new / 1e6)
        now = self._clock()
        is_last = new and self._done == self._total
        if is_last or (new and (self._told is None or now - self._told >= FEWEST)):
            self._told = now
            self._tell(now)
        return share

    def _tell(self, now):
        rate = self._done / max(now - self._start, 1e-3) / 1e6
        tell_event(
            'progress', file=self._file, unit='Mpx', done=round(self._done / 1e6, 4),
            of=round(self._total / 1e6, 4), mpx_per_s=round(rate, 3),
            eta_s=round((self._total - self._done) / 1e6 / rate, 1),
        )  # fmt: skip


def counted_files(outcomes, n_files, *, quiet=False, clock=time.monotonic):
    """
    Show how many of some files are done, and how fast.

    Parameters
    ----------
    outcomes : iterable of `astrodenoise.manifest.Outcome`
        Of the files, as they are done.
    n_files : int
        All of them.
    quiet : bool, optional
        Show nothing.
    clock : callable, optional
        Gives the time in seconds.

    Yields
    ------
    outcome : `astrodenoise.manifest.Outcome`
        The same.
    """
    bar = None if quiet else _bar('denoise', n_files, unit='file')
    start, megapixels = clock(), 0.0
    with contextlib.nullcontext() if bar is None else contextlib.closing(bar):
        for done, outcome in enumerate(outcomes, start=1):
            megapixels += outcome.megapixels or 0
            elapsed = max(clock() - start, 1e-3)
            if bar is not None:
                bar.set_postfix_str(f'{megapixels / elapsed:.2f} Mpx/s', refresh=False)
                bar.update()
            if not quiet:
                tell_event(
                    'progress', file=None, unit='file', done=done, of=n_files,
                    mpx_per_s=round(megapixels / elapsed, 3),
                    eta_s=round((n_files - done) * elapsed / done, 1),
                )  # fmt: skip
            yield outcome


def _bar(label, total, **options):
    """Make a bar on a terminal; None where there is nothing that draws one."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(desc=label, total=total, leave=False, file=sys.stderr, disable=None, **options)
