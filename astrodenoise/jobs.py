# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""One file of a run: skipped, done or failed."""

import math
import time

from astrodenoise import batch
from astrodenoise.console import reason_of, tell_failed
from astrodenoise.manifest import Outcome, this_process, time_now

__all__ = ['run_job']


def run_job(job, args, *, progress_bar=None):
    """
    Do one file, or skip it, and say what became of it; a failure is told on stderr.

    Parameters
    ----------
    job : `astrodenoise.batch.Job`
        The file, and what is written.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``, filled in.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Returns
    -------
    outcome : `astrodenoise.manifest.Outcome`
        What became of it.
    """
    start = time.perf_counter()
    status, reason, done, facts = 'failed', '', batch.Done(), {}
    try:
        status, done = _done_or_skipped(job, args, progress_bar)
        facts = {'megapixels': done.megapixels}
        if args.manifest is not None:
            facts = _facts(job, args)
    except Exception as error:  # one bad file is no reason to leave the others
        tell_failed(args, job.source, error)
        status, reason = 'failed', reason_of(error)
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(
        job.source, str(job.target), status, seconds, reason,
        worker=this_process(), time=time_now(), note=done.note, images=done.images, **facts,
    )  # fmt: skip


def _done_or_skipped(job, args, progress_bar):
    from astrodenoise.resume import earlier_result

    note = earlier_result(job, args) if args.resume else None
    if note is not None:
        return 'skipped', batch.Done(note)
    try:
        return 'done', batch.denoise_file(job, args, progress_bar=progress_bar)
    except FileExistsError:
        # it may have appeared meanwhile: a cluster may give a file to two workers
        note = earlier_result(job, args) if args.resume and job.target.exists() else None
        if note is None:
            raise
        return 'skipped', batch.Done(note)


def _facts(job, args):
    """Give the size of what was denoised, and with which weights."""
    from astrodenoise.files import open_frames
    from astrodenoise.resume import weights_asked

    contexts, _ = open_frames(job.source, ext=args.ext)
    weights = dict.fromkeys(weights_asked(args, context)[1] for context in contexts)
    return {
        'megapixels': sum(math.prod(context.shape) for context in contexts) / 1e6,
        'weights': ','.join(weights),
    }
