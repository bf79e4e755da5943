# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise denoise``."""

import contextlib
import sys
from pathlib import Path

from astrodenoise.arguments import add_denoise as add_arguments
from astrodenoise.atomic import remove_stale
from astrodenoise.commands.status import DONE, SOME_FAILED
from astrodenoise.console import above_bars, make_progress_bar, show_warnings, tell
from astrodenoise.manifest import kept

__all__ = ['HELP', 'NAME', 'add_arguments', 'run']

NAME = 'denoise'
HELP = 'denoise files'


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
    failed = 0
    with contextlib.closing(_outcomes(jobs, args)) as outcomes:
        for outcome in kept(outcomes, args.manifest):
            failed += outcome.status == 'failed'
            with above_bars():
                sys.stderr.write(outcome.said)
                _report(args, outcome)
    if failed and len(jobs) > 1:
        tell(f'{failed} of {len(jobs)} files failed')
    return SOME_FAILED if failed else DONE


def _outcomes(jobs, args):
    """Do the files, here or on a cluster, and yield what became of each."""
    from astrodenoise.jobs import run_job

    folders = {path.parent for job in jobs for path in (job.target, job.residual, job.mask) if path}
    _remove_stale(folders)  # of a run that was killed
    if args.workers is None and args.scheduler is None:
        for job in jobs:
            bar = make_progress_bar(args, Path(job.source).name)
            yield run_job(job, args, progress_bar=bar)
    elif jobs:
        try:
            yield from _on_cluster(jobs, args)
        finally:
            _remove_stale(folders)  # of workers that were killed


def _on_cluster(jobs, args):
    from astrodenoise import scaleout

    if args.scheduler is not None:
        jobs, args = scaleout.everywhere(jobs, args)
    bar = make_progress_bar(args, 'denoise', unit='file') or (lambda outcomes, **_: outcomes)
    with scaleout.connect(args, len(jobs)) as (client, threads):
        outcomes = scaleout.run_jobs(jobs, args, client, threads=threads)
        with contextlib.closing(outcomes):
            yield from bar(outcomes, total=len(jobs))


def _remove_stale(folders):
    for folder in folders:
        remove_stale(folder)


def _report(args, outcome):
    if args.quiet or outcome.status == 'failed':
        return
    if outcome.status == 'skipped':
        print(f'{outcome.input}: skipped, {outcome.note}', flush=True)
    else:
        text = f'{outcome.input} -> {outcome.output}  {outcome.seconds:.1f} s{outcome.note}'
        print(text, flush=True)
