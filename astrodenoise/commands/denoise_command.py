# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise denoise``."""

import contextlib
import sys
from pathlib import Path

from astrodenoise.arguments import add_denoise
from astrodenoise.atomic import remove_stale
from astrodenoise.commands.command import DONE, INTERRUPTED, SOME_FAILED, Command
from astrodenoise.console import above_bars, show_warnings, tell
from astrodenoise.manifest import STATUSES, kept
from astrodenoise.progress import (
    PixelBar,
    counted_files,
    events_to,
    tell_event,
    warnings_in,
)

__all__ = ['COMMAND']


def _run(args):
    from astrodenoise import batch, settings

    if args.like is None:
        settings.fill(args)
    else:
        with show_warnings(args, f'--like {args.like}'):
            settings.fill(args)
    batch.check_options(args)
    jobs = batch.plan(
        args.inputs, args.output, residual=args.residual, mask=args.mask, manifest=args.manifest
    )
    if args.shard is not None:
        jobs = batch.shard(jobs, *args.shard)
    counts, status = dict.fromkeys(STATUSES, 0), SOME_FAILED
    with events_to(sys.stdout if args.json else None):
        try:
            with contextlib.closing(_outcomes(jobs, args)) as outcomes:
                for outcome in kept(outcomes, args.manifest):
                    counts[outcome.status] += 1
                    with above_bars():
                        sys.stderr.write(outcome.said)
                        _report(args, outcome)
            status = SOME_FAILED if counts['failed'] else DONE
        except KeyboardInterrupt:
            status = INTERRUPTED
            raise
        finally:
            tell_event('end', **counts, status=status)
    if counts['failed'] and len(jobs) > 1:
        tell(f'{counts["failed"]} of {len(jobs)} files failed')
    return status


def _outcomes(jobs, args):
    """Do the files, here or on a cluster, and yield what became of each."""
    from astrodenoise.jobs import run_job

    folders = {path.parent for job in jobs for path in (job.target, job.residual, job.mask) if path}
    _remove_stale(folders)  # of a run that was killed
    if args.workers is None and args.scheduler is None:
        for job in jobs:
            tell_event('start', file=job.source, output=str(job.target))
            bar = None if args.quiet else PixelBar(job.source, Path(job.source).name)
            with contextlib.nullcontext() if bar is None else contextlib.closing(bar):
                outcome = run_job(job, args, progress_bar=bar)
            yield outcome
    elif jobs:
        try:
            yield from _on_cluster(jobs, args)
        finally:
            _remove_stale(folders)  # of workers that were killed


def _on_cluster(jobs, args):
    from astrodenoise import scaleout

    if args.scheduler is not None:
        jobs, args = scaleout.everywhere(jobs, args)
    with scaleout.connect(args, len(jobs)) as (client, threads):
        outcomes = scaleout.run_jobs(jobs, args, client, threads=threads)
        with contextlib.closing(outcomes):
            yield from counted_files(outcomes, len(jobs), quiet=args.quiet)


def _remove_stale(folders):
    for folder in folders:
        remove_stale(folder)


def _report(args, outcome):
    """Tell what became of a file."""
    for name, message in warnings_in(outcome.said):  # of a worker
        tell_event('warning', file=name, message=message)
    what = {'file': outcome.input, 'output': outcome.output, 'seconds': outcome.seconds}
    if outcome.status == 'done':
        rate = (outcome.megapixels or 0) / max(outcome.seconds, 1e-3)
        what |= {'megapixels': outcome.megapixels, 'mpx_per_s': round(rate, 3)}
        what |= {'images': list(outcome.images), 'note': outcome.note.strip()}
    elif outcome.status == 'skipped':
        what['note'] = outcome.note
    else:
        what['reason'] = outcome.reason
    tell_event(outcome.status, **what)
    if args.quiet or outcome.status == 'failed':
        return
    if outcome.status == 'skipped':
        text = f'{outcome.input}: skipped, {outcome.note}'
    else:
        text = f'{outcome.input} -> {outcome.output}  {outcome.seconds:.1f} s{outcome.note}'
    print(text, flush=True, file=sys.stderr if args.json else sys.stdout)


COMMAND = Command('denoise', 'denoise files', add_denoise, _run)
