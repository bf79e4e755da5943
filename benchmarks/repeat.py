# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Does training repeat?  The first steps of a shipped network's recipe, twice, and as recorded.

``python benchmarks/repeat.py`` trains the first 200 steps of the preset ``fast`` on the processor
in two processes, one after the other, on a library of few simulated scenes, and compares their
losses bit by bit; then it compares them with the curve in ``repeat.json``, which ``--record``
renews.  The same processor and versions give that curve; on others a sum may round in another way,
and 200 steps make much of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from astrodenoise.training.versions import made_with

CURVE = Path(__file__).with_name('repeat.json')
SCENES, HELD_OUT = 24, 2  # instead of the recipe's hundreds, which take longer than the steps
DIGITS = 7  # of the recorded losses
PARTS = 10  # of the curve that is printed


def first_steps(preset, steps):
    """
    Give the beginning of a recipe: its rates, its batches, its noise, fewer scenes.

    Parameters
    ----------
    preset : str
        Name of a training's preset.
    steps : int
        How many.

    Returns
    -------
    config : `astrodenoise.training.config.TrainingConfig`
        Ends after these steps.
    """
    from astrodenoise.training.config import load_config

    config = load_config(preset)
    whole = config.optimiser
    if steps > whole.steps - whole.decay_steps:
        most = whole.steps - whole.decay_steps
        msg = f'{preset} lowers its rate after {most} steps: ask for fewer'
        raise ValueError(msg)
    # a decay of no steps leaves the rates of the first steps as they are in the whole training
    optimiser = replace(whole, steps=steps, decay_steps=0, validate_every=steps)
    data = replace(config.data, scenes=SCENES, validation_scenes=HELD_OUT)
    return replace(config, data=data, optimiser=optimiser)


def train_once(preset, steps, precision, n_threads):
    """Train in this process; its losses, its gain on the held-out scenes, its seconds."""
    import torch

    from astrodenoise.training.trainer import train

    torch.set_num_threads(n_threads)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            first_steps(preset, steps), device='cpu', precision=precision, output=folder
        )
    return {
        'losses': result['losses'],
        'gain': result['gains']['mean'],
        'seconds': time.monotonic() - began,
    }


def in_a_process(args):
    """Train in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'once.json'
        command = [
            sys.executable, __file__, '--once', path, '--preset', args.preset, '--steps',
            args.steps, '--precision', args.precision, '--threads', args.threads,
        ]  # fmt: skip
        env = os.environ | {'OMP_NUM_THREADS': str(args.threads)}
        subprocess.run(list(map(str, command)), env=env, check=True)
        return json.loads(path.read_text(encoding='utf-8'))


def largest_difference(losses, others):
    """
    Compare two curves.

    Parameters
    ----------
    losses, others : sequence of float
        Of the same steps.

    Returns
    -------
    difference : float
        The largest of a step, relative.
    """
    losses, others = np.asarray(losses), np.asarray(others)
    if losses.shape != others.shape:
        msg = f'curves of {losses.size} and of {others.size} steps do not compare'
        raise ValueError(msg)
    return float(np.max(np.abs(losses / others - 1)))


def record(args, run):
    """Write the curve that later runs are compared with."""
    curve = {
        'preset': args.preset,
        'steps': args.steps,
        'precision': args.precision,
        'threads': args.threads,
        'scenes': SCENES,
        'versions': made_with(),
        'gain in dB': round(run['gain'], 4),
        'losses': [float(f'{loss:.{DIGITS}g}') for loss in run['losses']],
    }
    CURVE.write_text(json.dumps(curve, indent=1) + '\n', encoding='utf-8')


def compare(args, run):
    """Print how far the recorded curve is."""
    if not CURVE.is_file():
        print(f'no curve is recorded in {CURVE.name}: --record writes one')
        return
    curve = json.loads(CURVE.read_text(encoding='utf-8'))
    asked = {key: getattr(args, key) for key in ('preset', 'steps', 'precision', 'threads')}
    if unlike := {key: curve[key] for key, value in asked.items() if curve[key] != value}:
        print(f'the recorded curve is one of {unlike}, which does not compare')
        return
    here = made_with()
    changed = {key: value for key, value in curve['versions'].items() if here[key] != value}
    difference = largest_difference(run['losses'], curve['losses'])
    print(f'recorded curve: largest difference of a step {difference:.2e}, '
          f'gain {run["gain"]:.4f} dB, recorded {curve["gain in dB"]:.4f} dB')
    print(f'recorded with {changed}, here {here}' if changed else 'the versions are the same')


def main(arguments=None):
    """Train twice and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--preset', default='fast', help='whose recipe (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=200, help='how many (default: %(default)s)')
    parser.add_argument('--precision', default='float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--threads', type=int, default=1, help='of torch (default: %(default)s)')
    parser.add_argument('--record', action='store_true', help=f'write {CURVE.name}')
    parser.add_argument('--once', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.once:
        result = train_once(args.preset, args.steps, args.precision, args.threads)
        args.once.write_text(json.dumps(result), encoding='utf-8')
        return 0
    runs = [in_a_process(args) for _ in range(2)]
    first, second = (run['losses'] for run in runs)
    for part in np.array_split(np.arange(len(first)), min(PARTS, len(first))):
        mean = np.mean(np.take(first, part))
        print(f'steps {part[0] + 1:4d} to {part[-1] + 1:4d}: loss {mean:.5f}')
    print(f'held-out scenes: {runs[0]["gain"]:.4f} and {runs[1]["gain"]:.4f} dB')
    print('seconds: ' + ' and '.join(f'{run["seconds"]:.0f}' for run in runs))
    same = first == second and runs[0]['gain'] == runs[1]['gain']
    print('the two trainings have the same bits' if same else
          f'the two trainings differ by up to {largest_difference(first, second):.2e} of a loss')
    if args.record:
        record(args, runs[0])
    else:
        compare(args, runs[0])
    return 0 if same else 1


if __name__ == '__main__':
    sys.exit(main())
