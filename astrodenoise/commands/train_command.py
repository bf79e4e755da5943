# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise train``."""

import argparse
import contextlib
import functools
import logging
from pathlib import Path

from astrodenoise.argtypes import check_parent, count, duration
from astrodenoise.commands.command import DONE, SOME_FAILED, Command
from astrodenoise.console import reason_of, show_warnings, tell

__all__ = ['COMMAND']

QUARTER = 900.0  # s, time limit of fine-tuning


def _add_arguments(parser):
    add = parser.add_argument
    add('config', metavar='CONFIG', nargs='?',
        help='TOML file, or a preset: default, colour, fast, fast_colour, paper, smoke')
    add('-o', '--output', metavar='DIR',
        help="folder of checkpoints and logs, instead of CONFIG's; for fine-tuning that of the new "
             'weights, too, which get its name')
    add('--resume', action='store_true', help='go on from the last checkpoint')
    add('--time-limit', type=duration, metavar='TIME',
        help='stop with a checkpoint after 90s, 9m, 2h ... (fine-tuning: 15m, all included)')
    add('--device', help='cpu or cuda (default: the best there is)')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--pack', metavar='FILE',
        help='do not train: write all scenes, star masks and pairs to a file of 50 MB at most, for '
             '`python -m astrodenoise.training CONFIG --data FILE` where only torch is installed')
    group.add_argument('--data', metavar='FILE', help='train on such a file')
    tuning = parser.add_argument_group('fine-tuning, without CONFIG')
    tuning.add_argument('--from', dest='base', metavar='MODEL',
        help='weights to start from: default, fast, a model or a weights file (default: default)')
    frames = tuning.add_mutually_exclusive_group()
    frames.add_argument('--pairs', metavar='DIR',
        help='folder with noisy/ and clean/ and files of equal names')
    frames.add_argument('--exposures', metavar='DIR',
        help='folder of two exposures of one field or more, which moved by more than 5 px against '
             'each other; or a folder of such for each field')
    tuning.add_argument('--steps', type=count, metavar='N', help='stop after so many steps')
    tuning.add_argument('--licence', metavar='TEXT',
        help='licence of the new weights, for their card')
    parser.set_defaults(verbose=1)  # the log of the losses is what one waits for


def _run(args):
    _check_usage(args)
    if args.config is None:
        return _fine_tune(args)
    from astrodenoise.training.config import load_config

    try:
        config = load_config(args.config)
    except (OSError, TypeError, ValueError) as error:
        raise argparse.ArgumentError(None, reason_of(error)) from error
    if args.pack:
        check_parent('--pack', Path(args.pack))  # before minutes of work
        from astrodenoise.training.library import make_library
        from astrodenoise.training.pack import write_pack

        counts = write_pack(args.pack, make_library(config))
        print(f'{args.pack}: ' + ', '.join(f'{n} {name}' for name, n in counts.items()))
        return DONE
    from astrodenoise.training.trainer import train

    train(
        config,
        resume=args.resume,
        time_limit=args.time_limit,
        device=args.device,
        output=args.output,
        data=args.data,
    )
    return DONE


def _check_usage(args):
    """Refuse what contradicts itself: CONFIG says what is trained, or the options do."""
    tuning = {
        '--from': args.base, '--pairs': args.pairs, '--exposures': args.exposures,
        '--steps': args.steps, '--licence': args.licence,
    }  # fmt: skip
    given = [name for name, value in tuning.items() if value is not None]
    if args.config is not None:
        if given:
            msg = f'CONFIG {args.config} and {given[0]} contradict each other: CONFIG says it all'
            raise argparse.ArgumentError(None, msg)
        return
    if not given:
        msg = 'give CONFIG, or --pairs DIR or --exposures DIR to fine-tune'
        raise argparse.ArgumentError(None, msg)
    if args.pairs is None and args.exposures is None:
        msg = f'{given[0]} needs frames: give --pairs DIR or --exposures DIR'
        raise argparse.ArgumentError(None, msg)
    for name, value in (('--pack', args.pack), ('--data', args.data)):
        if value is not None:
            msg = f'{name} goes with CONFIG, not with fine-tuning'
            raise argparse.ArgumentError(None, msg)
    if args.output is None:
        msg = 'fine-tuning needs -o DIR: the folder of the new weights, which get its name'
        raise argparse.ArgumentError(None, msg)
    check_parent('-o', Path(args.output))


def _fine_tune(args):
    """Fine-tune, and tell what came of it."""
    from astrodenoise.preparation import model_of
    from astrodenoise.training.finetune import fine_tune

    base = args.base or 'default'
    with show_warnings(args, 'train'), _quiet_reader():
        outcome = fine_tune(
            args.output,
            base=lambda n_planes: model_of(base, joint=n_planes == 3),
            denoiser=functools.partial(_denoiser, device=args.device),
            pairs=args.pairs,
            exposures=args.exposures,
            time_limit=QUARTER if args.time_limit is None else args.time_limit,
            steps=args.steps,
            resume=args.resume,
            device=args.device,
            licence=args.licence,
        )
    print(f'{outcome.weights}: after {outcome.steps} steps, {outcome.verdict.reason()}')
    if outcome.figure is not None:
        print(outcome.figure)
    if outcome.verdict.accepted:
        return DONE
    tell(
        f'{outcome.weights}: the new weights are refused; the training is kept: go on with '
        '--resume, or give more frames'
    )
    return SOME_FAILED


@contextlib.contextmanager
def _quiet_reader():
    """Leave out what is told of every single file."""
    reader = logging.getLogger('astrodenoise.fitsfiles')
    level = reader.level
    reader.setLevel(logging.WARNING)
    try:
        yield
    finally:
        reader.setLevel(level)


def _denoiser(model, device=None):
    """Denoise planes as users do, with the weights of a name or a file."""
    import warnings

    from astrodenoise.core import denoise
    from astrodenoise.exceptions import AstrodenoiseWarning

    def denoise_planes(planes):
        joint = len(planes) == 3
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', AstrodenoiseWarning)  # of simulated scenes
            result = denoise(
                planes if joint else planes[0], model=model, device=device or 'auto',
                channels='joint' if joint else None,
            )  # fmt: skip
        return result.reshape(planes.shape)

    return denoise_planes


COMMAND = Command(
    'train',
    'train a network, or fine-tune one on frames of your own',
    _add_arguments,
    _run,
)
