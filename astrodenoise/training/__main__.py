# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``python -m astrodenoise.training CONFIG``: train where only torch, NumPy and SciPy are."""

import argparse
import logging
import sys

from astrodenoise.training.trainer import train


def main(argv=None):
    """
    Run a training from the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments, those of the process by default.

    Returns
    -------
    code : int
        0 when the training ended or reached its time limit.
    """
    parser = argparse.ArgumentParser(prog='python -m astrodenoise.training')
    parser.add_argument('config', help='a TOML file or the name of a preset')
    parser.add_argument('--resume', action='store_true', help='go on from the checkpoint')
    parser.add_argument('--time-limit', type=float, help='seconds')
    parser.add_argument('--output', help='folder of checkpoints and logs')
    parser.add_argument('--data', help='a pack of scenes, made by astrodenoise train --pack')
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s', stream=sys.stdout)
    train(
        options.config,
        resume=options.resume,
        time_limit=options.time_limit,
        output=options.output,
        data=options.data,
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
