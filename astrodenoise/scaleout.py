# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Folders of frames on several processes, of this machine or of a cluster.

A file is a task of `dask.distributed`; only names, options and outcomes travel.  Workers read and
write the files themselves, so they must see the same file system.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import io
import logging
import multiprocessing
import os
import signal
import threading
import uuid
from pathlib import Path

from astrodenoise.atomic import remove_stale
from astrodenoise.batch import check_options, plan
from astrodenoise.console import logging_to_stderr, reason_of, tell_failed
from astrodenoise.jobs import run_job
from astrodenoise.manifest import Outcome, kept, time_now

__all__ = ['connect', 'denoise_files', 'everywhere', 'run_jobs']

log = logging.getLogger(__name__)

# that hold names of files
FILE_OPTIONS = ('err', 'var', 'weight', 'dq', 'star_mask', 'noise_file', 'save_noise')
ALLOWED_FAILURES = 2  # processes that a file may take down before it is given up, less one
POLL = 2.0  # seconds after which new workers are looked for
PATIENCE = 30  # seconds to wait for a cluster

_ONE_AT_A_TIME = threading.Lock()  # of a process: torch uses all its threads, stderr is gathered


def denoise_files(inputs, output, client, *, progress_bar=None, **options):
    """
    Denoise files on a cluster, as ``astrodenoise denoise`` does.

    Parameters
    ----------
    inputs : list of str or path-like
        The files to read.
    output : str or path-like
        The folder to write to; of one input it may be a file.
    client : `distributed.Client`
        Of a cluster whose workers have this package and see the same files.
    progress_bar : callable, optional
        Wraps an iterable and returns one, for example `tqdm.tqdm`.
    **options : dict
        The options of the command line by their names, dashes as underscores, such as
        ``strength=0.5``, ``resume=True``, ``manifest='night.jsonl'``; their values are those that
        `astrodenoise.denoise` takes.

    Returns
    -------
    outcomes : list of `astrodenoise.manifest.Outcome`
        One per input, in the order in which they were done.  A file that fails is one of them.

    Raises
    ------
    TypeError
        If there is no such option.
    ValueError
        If options contradict each other, or the names of the files do.
    """
    from astrodenoise import settings
    from astrodenoise.arguments import denoise_options

    args = denoise_options([os.fspath(name) for name in inputs], os.fspath(output), **options)
    args.scheduler = client.scheduler.address
    try:
        settings.fill(args)
        check_options(args)
        jobs = plan(
            args.inputs, args.output, residual=args.residual, mask=args.mask,
            manifest=args.manifest,
        )  # fmt: skip
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    bar = progress_bar or iter
    return list(kept(bar(run_jobs(*everywhere(jobs, args), client)), args.manifest))


@contextlib.contextmanager
def connect(args, n_jobs):
    """
    Start worker processes on this machine, or connect to a cluster.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``workers``, ``scheduler`` and ``verbose``.
    n_jobs : int
        The number of files: no more processes are started.

    Yields
    ------
    client : `distributed.Client`
        Closed afterwards, with what was started.
    threads : int or None
        That torch takes in a worker; None: as many as the worker has.

    Raises
    ------
    argparse.ArgumentError
        If dask.distributed is not installed, or there is no scheduler at that address.
    """
    option = '--scheduler' if args.scheduler else '--workers'
    try:
        import dask
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    except ImportError as error:
        msg = f"{option} needs dask.distributed: pip install 'astrodenoise[dask]'"
        raise argparse.ArgumentError(None, msg) from error
    level = logging.CRITICAL if args.verbose < 2 else logging.WARNING
    # for good: the cluster gives back what it found, and its connections still talk when it is gone
    for handler in logging.getLogger('distributed').handlers:
        handler.setLevel(level)
    if args.scheduler:
        with _existing(Client, args.scheduler) as client:
            yield client, None
        return
    n_workers = max(1, min(args.workers, n_jobs))
    threads = _threads(CPU_COUNT, n_workers)
    settings = {
        'distributed.scheduler.allowed-failures': ALLOWED_FAILURES,
        # dask's own settings give freed memory back at once, which costs half of the speed here
        'distributed.nanny.pre-spawn-environ': {
            'MALLOC_TRIM_THRESHOLD_': None, 'OMP_NUM_THREADS': threads,
        },
    }  # fmt: skip
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host='127.0.0.1',  # nobody else's business
            scheduler_kwargs={'dashboard': False, 'dashboard_address': '127.0.0.1:0'},
            memory_limit=None,  # a frame may take what there is: nothing is kept in dask
            preload=[__name__],
            silence_logs=level,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        try:
            yield client, threads
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # now: nobody waits for the end of a frame
            raise


def dask_setup(_worker):
    """Prepare a process that `connect` started; dask calls it by this name."""
    # Ctrl-C reaches all processes of a terminal, and the first one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _existing(make_client, address):
    try:
        return make_client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = f'--scheduler {address}: cannot be reached: {reason_of(error)}'
        raise argparse.ArgumentError(None, msg) from error


def _threads(n_cpus, n_workers):
    """Give the threads of each process: a share of the machine, or what the user set."""
    told = os.environ.get('OMP_NUM_THREADS', '')
    return int(told) if told.isdigit() and int(told) else max(1, n_cpus // n_workers)


def everywhere(jobs, args):
    """
    Write names of files such that they hold in any folder of any machine.

    Parameters
    ----------
    jobs : list of `astrodenoise.batch.Job`
        What is read and written.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``.

    Returns
    -------
    jobs : list of `astrodenoise.batch.Job`
        The same with absolute paths.
    args : `argparse.Namespace`
        The same.
    """
    moved = {
        name: os.path.abspath(value)
        for name in FILE_OPTIONS
        if isinstance(value := getattr(args, name), str)
    }
    if Path(args.model).suffix == '.safetensors':
        moved['model'] = os.path.abspath(args.model)
    paths = ('target', 'residual', 'mask')
    jobs = [
        dataclasses.replace(
            job,
            source=os.path.abspath(job.source),
            **{name: path and path.absolute() for name in paths for path in [getattr(job, name)]},
        )
        for job in jobs
    ]
    return jobs, argparse.Namespace(**(vars(args) | moved))


def run_jobs(jobs, args, client, *, threads=None):
    """
    Give each file to a worker and yield what became of it.

    No more files are handed out than there are workers: one that takes its process down is then
    the only one that is blamed for it.

    Parameters
    ----------
    jobs : list of `astrodenoise.batch.Job`
        What is read and written, by names that hold for the workers.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``, filled in.
    client : `distributed.Client`
        Of the cluster.
    threads : int, optional
        That torch takes in a worker, by default as many as the worker has.

    Yields
    ------
    outcome : `astrodenoise.manifest.Outcome`
        In the order in which the files are done.

    Raises
    ------
    ConnectionError
        If the cluster is lost.
    """
    plain = {name: value for name, value in vars(args).items() if name not in ('run', 'parser')}
    waiting, running, seen = collections.deque(enumerate(jobs)), {}, set()
    run = uuid.uuid4().hex
    try:
        while waiting or running:
            workers = set(_asked(client.nthreads))
            if not workers and not running:
                log.warning('the cluster has no workers: waiting for some')
            seen |= workers
            while waiting and len(running) < max(1, len(workers)):
                number, job = waiting.popleft()
                key = f'astrodenoise-{run}-{number}'
                future = client.submit(
                    _work, job, plain, threads, _is_new(job), key=key, pure=False
                )
                running[future] = job
            for future in _finished(client, running):
                yield _outcome(future, running.pop(future))
        if lost := seen - set(_asked(client.nthreads)):
            _tidy(client, jobs, lost)
    finally:
        with contextlib.suppress(Exception):  # there may be no cluster any more
            client.cancel(list(running))


def _is_new(job):
    """Tell whether whatever is found later must be of this run."""
    return not any(path.exists() for path in (job.target, job.residual, job.mask) if path)


def _asked(ask):
    try:
        return ask()
    except (OSError, RuntimeError) as error:
        raise _lost() from error


def _lost():
    msg = 'the cluster was lost: run it again with --resume for the files that are not done'
    return ConnectionError(msg)


def _finished(client, futures):
    """Wait for some of the futures; none after a while, so that new workers get work."""
    from concurrent.futures import CancelledError

    from distributed import wait

    try:
        with client.as_current():
            return list(wait(list(futures), timeout=POLL, return_when='FIRST_COMPLETED').done)
    except TimeoutError:
        return []
    except CancelledError as error:
        raise _lost() from error


def _outcome(future, job):
    """Give what became of a file, whatever became of its task."""
    error = future.exception() if future.status == 'error' else None
    if future.status in ('cancelled', 'lost'):
        raise _lost()
    if error is None:
        return future.result()
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        error = ChildProcessError(
            'every process that worked on it died (no memory, a crash or killed from outside)'
        )
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        tell_failed(argparse.Namespace(verbose=0), job.source, error)
    return Outcome(
        job.source, str(job.target), 'failed', reason=reason_of(error), time=time_now(),
        said=said.getvalue(),
    )  # fmt: skip


def _work(job, options, threads, is_new):
    """
    Do one file in a worker.

    Where there was no output when the run began (``is_new``), one that is there now was written by
    a process that died before it could say so.
    """
    from distributed import get_worker

    worker = get_worker()
    args = argparse.Namespace(**options)
    args.resume = args.resume or is_new
    args.overwrite = args.overwrite or (is_new and not job.target.exists())
    said = io.StringIO()
    with (
        _ONE_AT_A_TIME,
        contextlib.redirect_stderr(said),
        logging_to_stderr(args.verbose),
        _torch_threads(threads or worker.state.nthreads),
    ):
        _tidy_once(job.target.parent)
        outcome = run_job(job, args)
    if outcome.status == 'skipped' and not options['resume']:
        outcome = dataclasses.replace(outcome, status='done', note='')
    return dataclasses.replace(outcome, worker=worker.address, said=said.getvalue())


@contextlib.contextmanager
def _torch_threads(number):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _tidy_once(folder):
    """Remove what processes that died left, when a process first writes to a folder."""
    remove_stale(folder)


def _tidy(client, jobs, lost):
    """Remove what workers that were lost left, on their hosts."""
    hosts = {_host(address) for address in lost}
    there = {_host(address): address for address in client.nthreads()}
    workers = [address for host, address in there.items() if host in hosts]
    folders = {job.target.parent for job in jobs}
    if workers:
        client.run(_remove_all, folders, workers=workers, on_error='ignore')


def _host(address):
    return address.rpartition(':')[0]


def _remove_all(folders):
    for folder in folders:
        remove_stale(folder)
