# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command ``astrodenoise``.

Everything but the parser is imported where it is used, so that ``--help`` and
wrong usage answer at once.
"""

import argparse
import contextlib
import functools
import signal
import sys
import threading
from pathlib import Path

from astrodenoise.arguments import make_parser
from astrodenoise.atomic import remove_stale
from astrodenoise.console import (
    above_bars,
    logging_to_stderr,
    make_progress_bar,
    reason_of,
    show_warnings,
    tell,
    tell_failed,
    trace,
)
from astrodenoise.manifest import kept

__all__ = ['main']

_DONE, _SOME_FAILED, _WRONG_USAGE, _INTERRUPTED = 0, 1, 2, 130


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
    parser = make_parser(_RUNS)
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or wrong usage: argparse has told
        return stop.code
    with logging_to_stderr(args.verbose), _terminable():
        try:
            return args.run(args)
        except argparse.ArgumentError as error:
            with contextlib.suppress(SystemExit):
                args.parser.error(str(error))
            return _WRONG_USAGE
        except KeyboardInterrupt:
            tell('interrupted')
            return _INTERRUPTED
        except Exception as error:
            tell(reason_of(error))
            trace(args)
            return _SOME_FAILED


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


def _run_denoise(args):
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
    return _SOME_FAILED if failed else _DONE


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


def _run_evaluate(args):
    from astrodenoise.evaluation import evaluate_files

    if args.json not in (None, '-'):
        _check_parent('--json', Path(args.json))
    with show_warnings(args, 'evaluate'):
        text, n_failed = evaluate_files(
            args,
            failed=functools.partial(tell_failed, args),
            progress_bar=make_progress_bar(args, 'evaluate'),
        )
    if text:
        print(text)
    return _SOME_FAILED if n_failed else _DONE


def _run_train(args):
    from astrodenoise.training.config import load_config

    try:
        config = load_config(args.config)
    except (OSError, TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, reason_of(error)) from error
    if args.pack:
        _check_parent('--pack', Path(args.pack))  # before minutes of work
        from astrodenoise.training.library import make_library
        from astrodenoise.training.pack import write_pack

        counts = write_pack(args.pack, make_library(config))
        print(f'{args.pack}: ' + ', '.join(f'{n} {name}' for name, n in counts.items()))
        return _DONE
    from astrodenoise.training.trainer import train

    train(
        config,
        resume=args.resume,
        time_limit=args.time_limit,
        device=args.device,
        output=args.output,
        data=args.data,
    )
    return _DONE


def _run_models(args):
    from astrodenoise.exceptions import WeightsError
    from astrodenoise.weights import describe, list_models

    if args.name is None:
        lines = _table([describe(name) | {'name': name} for name in list_models()])
    else:
        try:
            lines = _lines(describe(args.name))
        except WeightsError as error:
            raise argparse.ArgumentError(None, reason_of(error)) from error
    print('\n'.join(lines))
    return _DONE


def _lines(card, indent=''):
    """Lay out a card: one line per entry, nested ones below."""
    width = max((len(str(key)) for key in card), default=0)
    for key, value in card.items():
        if isinstance(value, dict):
            yield f'{indent}{key}'
            yield from _lines(value, indent + '  ')
        else:
            text = ', '.join(map(str, value)) if isinstance(value, list) else value
            yield f'{indent}{key:<{width}}  {text}'


def _table(rows):
    """Lay out the entries that say at a glance which model is which."""
    columns = ['name', 'version', 'parameters', 'bytes', 'licence']
    cells = [columns] + [[str(row.get(key, '')) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        text = '  '.join(f'{cell:<{n}}' for cell, n in zip(line, widths, strict=True))
        yield text.rstrip()


def _check_parent(option, path):
    """Raise where the folder that something goes to is not there."""
    if not path.absolute().parent.is_dir():
        msg = f'{option} {path}: there is no folder {path.parent}; make it first'
        raise argparse.ArgumentError(None, msg)


def _run_demo(args):
    from astrodenoise.demo import run_demo

    folder = Path(args.output)
    _check_parent('-o', folder)
    with show_warnings(args, 'demo'):
        text = run_demo(
            folder, overwrite=args.overwrite, progress_bar=make_progress_bar(args, 'demo')
        )
    print(text)
    return _DONE


_RUNS = {
    'denoise': _run_denoise,
    'train': _run_train,
    'evaluate': _run_evaluate,
    'models': _run_models,
    'demo': _run_demo,
}


if __name__ == '__main__':
    sys.exit(main())
