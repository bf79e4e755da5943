# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The command ``astrodenoise``.

Everything but the parser is imported where it is used, so that ``--help`` and
wrong usage answer at once.
"""

import argparse
import contextlib
import functools
import logging
import math
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

from astrodenoise import __version__

__all__ = ['main']

_DONE, _SOME_FAILED, _WRONG_USAGE, _INTERRUPTED = 0, 1, 2, 130
_SECONDS = {'': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86400}


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
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or wrong usage: argparse has told
        return stop.code
    with _logging(args.verbose), _terminable():
        try:
            return args.run(args)
        except argparse.ArgumentError as error:
            with contextlib.suppress(SystemExit):
                args.parser.error(str(error))
            return _WRONG_USAGE
        except KeyboardInterrupt:
            _tell('interrupted')
            return _INTERRUPTED
        except Exception as error:
            _tell(_reason(error))
            _trace(args)
            return _SOME_FAILED


# What is told


def _tell(message):
    print(f'astrodenoise: {message}', file=sys.stderr)


def _reason(error):
    """Say in one line why something failed."""
    text = ' '.join(str(error).split())
    if isinstance(error, MemoryError):
        return f'not enough memory {text}'.rstrip()
    if isinstance(error, (OSError, ValueError, TypeError, ImportError)) and text:
        return text
    return f'{type(error).__name__}: {text}'


def _tell_failed(args, source, error):
    """Name a file that failed, and why, in one line."""
    reason = _reason(error)
    _tell(reason if reason.startswith(str(source)) else f'{source}: {reason}')
    _trace(args)


def _trace(args):
    if args.verbose > 1:
        traceback.print_exc()


@contextlib.contextmanager
def _logging(verbose):
    """Send the package's log to stderr: warnings, with -v what was decided, with -vv all."""
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


@contextlib.contextmanager
def _warnings(args, name):
    """Show our warnings in one line each, those of other packages with -v."""
    from astrodenoise.exceptions import AstrodenoiseWarning

    def show(message, *_):
        _tell(f'{name}: warning: {_reason(message)}')

    with warnings.catch_warnings():
        warnings.simplefilter('default' if args.verbose else 'ignore')
        warnings.simplefilter('always', AstrodenoiseWarning)
        warnings.showwarning = show
        yield


def _progress_bar(args, name):
    """Give the wrapper that shows the tiles' progress on a terminal, or None."""
    if args.quiet:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return functools.partial(
        tqdm, desc=name, unit='tile', leave=False, file=sys.stderr, disable=None
    )


# Types of arguments


def _number(low, high, what):
    """Make a type for argparse: a number from `low` to `high`."""

    def convert(text):
        value = float(text)
        if not low <= value <= high or not math.isfinite(value):
            msg = f'{what}, got {text}'
            raise argparse.ArgumentTypeError(msg)
        return value

    convert.__name__ = 'number'  # argparse names it where the text is no number
    return convert


_positive = _number(sys.float_info.min, math.inf, 'must be positive')


def _tile_size(text):
    value = int(text)
    if not 64 <= value <= 2048 or value % 8:
        msg = f'must be a multiple of 8 from 64 to 2048, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return value


def _noise(text):
    return text if text == 'measure' else _positive(text)


def _unit(text):
    from astropy import units as u

    try:
        return u.Unit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(' '.join(str(error).split())) from error


def _duration(text):
    """Read ``90``, ``90s``, ``9m``, ``2h`` or ``1h30m`` as seconds."""
    parts = re.findall(r'(\d+(?:\.\d+)?)([smhd]?)', text)
    if not parts or ''.join(number + letter for number, letter in parts) != text:
        msg = f'must be a time such as 90s, 9m or 1h30m, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return sum(float(number) * _SECONDS[letter] for number, letter in parts)


# The parser


def _parser():
    parser = argparse.ArgumentParser(
        prog='astrodenoise',
        description='Remove the noise of deep-sky frames.',
        epilog='Exit status: 0 all done, 1 some files failed, 2 wrong usage, 130 interrupted.',
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for add, run, help_text in (
        (_add_denoise, _run_denoise, 'denoise files'),
        (_add_train, _run_train, 'train a network'),
        (_add_evaluate, _run_evaluate, 'measure how good a denoised frame is'),
        (_add_models, _run_models, 'list the models, or describe one'),
        (_add_demo, _run_demo, 'make a frame, denoise it and measure what changed'),
    ):
        name = add.__name__.removeprefix('_add_')
        command = commands.add_parser(
            name, help=help_text, description=f'{help_text.capitalize()}.'
        )
        command.add_argument(
            '-v', '--verbose', action='count', default=0,
            help='say what was decided; twice: all of it',
        )
        add(command)
        command.set_defaults(run=run, parser=command)
    return parser


def _add_denoise(parser):
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        'The output has the pixels and the record of the denoising changed and nothing else.\n'
        'Its name says how it is stored: .fits plain, .fits.fz tile-compressed (lossless),\n'
        '.fits.gz gzipped. Pictures (PNG, TIFF) give pictures of the same depth.'
    )
    add = parser.add_argument
    add('inputs', nargs='+', metavar='IN', help='FITS, PNG or TIFF file')
    add('-o', '--output', required=True, metavar='OUT|DIR',
        help='file to write; for several inputs, or where it is a folder or ends in a slash, '
             'the folder to write them to under their own names')
    add('--ext', help='FITS image: number, name, or name,version (default: the first image)')
    add('--unit', type=_unit, help='unit of the pixels (default: BUNIT, else adu)')
    add('--residual', metavar='FILE|DIR', help='also write input minus output, as -o does')

    group = parser.add_argument_group('denoising')
    add = group.add_argument
    add('--model', default='default', help='name of a model or a weights file')
    add('--strength', type=_number(0, 1, 'must lie in 0 to 1'), default=1.0, metavar='S',
        help='part of the noise to remove, 0 to 1 (default: 1)')
    add('--limit', type=_number(0.1, math.inf, 'must be at least 0.1'), default=6.0, metavar='L',
        help='most that any area may change, in sigma of its mean (default: 6)')
    add('--channels', choices=('joint', 'separate'),
        help='three planes are colours of one camera, or each plane is denoised for itself '
             '(default: what the file says)')
    add('--saturation', type=_positive, metavar='VALUE',
        help='pixels from this value on are kept as they are')

    group = parser.add_argument_group('noise', 'The default is ERR or UNCERT, else measured.')
    add = group.add_argument
    add('--noise', type=_noise, metavar='VALUE|measure',
        help='sigma in the unit of the pixels, or measure it whatever the file says')
    add('--gain', type=_positive, metavar='G',
        help='electrons per unit of the pixels, of a single exposure with its sky')
    add('--read-noise', type=_number(0, math.inf, 'must not be negative'), metavar='R',
        help='in electrons, with --gain')
    add('--uncertainty', choices=('keep', 'none'), default='keep',
        help='keep the uncertainty extension of the image in the output, or leave it out')

    group = parser.add_argument_group('computing')
    add = group.add_argument
    add('--overlap', type=_number(0, 0.75, 'must lie in 0 to 0.75'), default=0.25, metavar='F',
        help='part of a tile that the next one covers too (default: 0.25)')
    add('--tile-size', type=_tile_size, default=256, metavar='N', help='in pixels (default: 256)')
    add('--blend', choices=('gaussian', 'none'), default='gaussian',
        help='feather the tiles, or lay them side by side (with --overlap 0)')
    add('--device', default='auto', help='cpu, cuda, mps ... (default: the best there is)')
    add('--precision', choices=('auto', 'float32', 'bfloat16'), default='auto',
        help='of the network (default: bfloat16 where the processor has it)')

    group = parser.add_argument_group('files')
    add = group.add_argument
    add('--overwrite', action='store_true', help='replace files that exist')
    add('--resume', action='store_true', help='skip inputs whose output exists')
    add('-q', '--quiet', action='store_true', help='no progress and no list of what was done')


def _add_train(parser):
    add = parser.add_argument
    add('config', metavar='CONFIG',
        help='TOML file, or a preset: default, colour, paper, smoke')
    add('-o', '--output', metavar='DIR', help="folder of checkpoints and logs, instead of CONFIG's")
    add('--resume', action='store_true', help='go on from the last checkpoint')
    add('--time-limit', type=_duration, metavar='TIME',
        help='stop with a checkpoint after 90s, 9m, 2h ...')
    add('--device', help='cpu or cuda (default: the best there is)')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--pack', metavar='FILE',
        help='do not train: write all scenes, star masks and pairs to a file of 50 MB at most, for '
             '`python -m astrodenoise.training CONFIG --data FILE` where only torch is installed')
    group.add_argument('--data', metavar='FILE', help='train on such a file')
    parser.set_defaults(verbose=1)  # the log of the losses is what one waits for


def _add_evaluate(parser):
    add = parser.add_argument
    add('truth', metavar='TRUTH', help='file of the noiseless frame, or a folder of them')
    add('noisy', metavar='NOISY', help='the noisy frame, or a folder of files of the same names')
    add('denoised', metavar='DENOISED', nargs='?',
        help='the denoised frame, or a folder (default: NOISY is denoised)')
    add('--pair', action='store_true',
        help='TRUTH is a second exposure of the field with noise of its own')
    add('--model', help='name of a model or a weights file that denoises NOISY')
    add('--json', nargs='?', const='-', metavar='FILE',
        help='write all figures to a file, or print them as JSON (without FILE, as the last '
             'argument)')
    add('--overwrite', action='store_true', help='replace a FILE that exists')
    add('-q', '--quiet', action='store_true', help='no progress')


def _add_models(parser):
    parser.add_argument(
        'name', nargs='?', metavar='NAME', help='model to describe, or a weights file'
    )


def _add_demo(parser):
    add = parser.add_argument
    add('-o', '--output', default='astrodenoise-demo', metavar='DIR',
        help='folder for the files (default: %(default)s)')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('-q', '--quiet', action='store_true', help='no progress')


# denoise


def _run_denoise(args):
    from astrodenoise import batch

    batch.check_options(args)
    jobs = batch.plan(args.inputs, args.output, args.residual)
    failed = 0
    for source, target, residual in jobs:
        if args.resume and target.exists():
            _report(args, f'{source}: skipped, {target} exists')
            continue
        start = time.perf_counter()
        try:
            with _warnings(args, source):
                bar = _progress_bar(args, Path(source).name)
                batch.denoise_file(source, target, residual, args, progress_bar=bar)
        except Exception as error:  # one bad file is no reason to leave the others
            failed += 1
            _tell_failed(args, source, error)
        else:
            _report(args, f'{source} -> {target}  {time.perf_counter() - start:.1f} s')
    if failed and len(jobs) > 1:
        _tell(f'{failed} of {len(jobs)} files failed')
    return _SOME_FAILED if failed else _DONE


def _report(args, message):
    if not args.quiet:
        print(message, flush=True)


# evaluate, train, models, demo


def _run_evaluate(args):
    from astrodenoise.evaluation import evaluate_files

    if args.json not in (None, '-'):
        _check_parent('--json', Path(args.json))
    with _warnings(args, 'evaluate'):
        text, n_failed = evaluate_files(
            args,
            failed=functools.partial(_tell_failed, args),
            progress_bar=_progress_bar(args, 'evaluate'),
        )
    if text:
        print(text)
    return _SOME_FAILED if n_failed else _DONE


def _run_train(args):
    from astrodenoise.training.config import load_config

    try:
        config = load_config(args.config)
    except (OSError, TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, _reason(error)) from error
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
            raise argparse.ArgumentError(None, _reason(error)) from error
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
    with _warnings(args, 'demo'):
        text = run_demo(
            folder, overwrite=args.overwrite, progress_bar=_progress_bar(args, 'demo')
        )
    print(text)
    return _DONE


if __name__ == '__main__':
    sys.exit(main())
