# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise train``."""

import argparse
from pathlib import Path

from astrodenoise.argtypes import check_parent, duration
from astrodenoise.commands.status import DONE
from astrodenoise.console import reason_of

__all__ = ['HELP', 'NAME', 'add_arguments', 'run']

NAME = 'train'
HELP = 'train a network'


def add_arguments(parser):
    """
    Add the arguments of the command to its parser.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.
    """
    add = parser.add_argument
    add('config', metavar='CONFIG',
        help='TOML file, or a preset: default, colour, fast, fast_colour, paper, smoke')
    add('-o', '--output', metavar='DIR', help="folder of checkpoints and logs, instead of CONFIG's")
    add('--resume', action='store_true', help='go on from the last checkpoint')
    add('--time-limit', type=duration, metavar='TIME',
        help='stop with a checkpoint after 90s, 9m, 2h ...')
    add('--device', help='cpu or cuda (default: the best there is)')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--pack', metavar='FILE',
        help='do not train: write all scenes, star masks and pairs to a file of 50 MB at most, for '
             '`python -m astrodenoise.training CONFIG --data FILE` where only torch is installed')
    group.add_argument('--data', metavar='FILE', help='train on such a file')
    parser.set_defaults(verbose=1)  # the log of the losses is what one waits for


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
