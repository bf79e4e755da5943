# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What it costs to denoise after the stretch instead of before it.

``python benchmarks/workflow.py`` prints a table.  Scenes of `scenes.py` are denoised while they are
linear and then stretched, or stretched and then denoised: as floating point, in 16 bits and in 8.
All are compared with the truth under the same stretch: by how many dB the squared error is smaller
than that of the noisy frame.
"""

import argparse
import sys
import warnings

import numpy as np
from scenes import make_scene

from astrodenoise import denoise

KINDS = ('stars', 'galaxy', 'nebula', 'faint')
BLACK, SOFT, WHITE = -3.0, 3.0, 300.0  # sigma over the sky: of black, of the bend, of white
LEVELS = {'16 bits': 65535, '8 bits': 255}


def stretched(frame, scene, levels=None):
    """
    Stretch a frame to 0..1.

    Parameters
    ----------
    frame : `numpy.ndarray`, (H, W)
        Linear.
    scene : `scenes.Scene`
        Where it comes from, for the sky and its noise.
    levels : int, optional
        Of a picture, which is clipped, too.  The default leaves the values as they are.

    Returns
    -------
    picture : `numpy.ndarray`, (H, W), float64
        The stretched frame.
    """
    height = (np.asarray(frame, float) - scene.sky) / sky_sigma(scene)
    low, high = np.arcsinh(np.array([BLACK, WHITE]) / SOFT)
    picture = (np.arcsinh(height / SOFT) - low) / (high - low)
    if levels is None:
        return picture
    return np.rint(np.clip(picture, 0, 1) * levels) / levels


def sky_sigma(scene):
    """
    Give the noise of the sky.

    Parameters
    ----------
    scene : `scenes.Scene`
        The scene.

    Returns
    -------
    sigma : float
        In electrons.
    """
    return float(np.hypot(np.sqrt(scene.sky / scene.gain), scene.read_noise))


def gains(scene):
    """
    Measure one scene.

    Parameters
    ----------
    scene : `scenes.Scene`
        The scene.

    Returns
    -------
    gains : dict
        The dB of each way in the sky, in faint and in bright structure.
    """
    height = (scene.truth_electrons - scene.sky) / sky_sigma(scene)
    regions = {
        'sky': height < 0.3,
        'faint': (height >= 0.3) & (height < 5),
        'bright': (height >= 5) & (height < 100),
    }
    noisy = scene.observe(np.random.default_rng([7, scene.seed]))
    ways = {'linear, then stretched': (stretched(denoise(noisy), scene), None)}
    ways['stretched, then denoised'] = denoise(stretched(noisy, scene)), None
    for name, levels in LEVELS.items():
        picture = (stretched(noisy, scene, levels) * levels).astype(np.float32)
        ways[f'the same, {name}'] = denoise(picture) / levels, levels
    found = {}
    for way, (result, levels) in ways.items():
        truth = stretched(scene.truth_electrons, scene)
        before = stretched(noisy, scene) - truth
        if levels:
            truth = np.clip(truth, 0, 1)
            before = stretched(noisy, scene, levels) - truth
        error = result - truth
        found[way] = {
            name: 10 * np.log10(np.mean(before[inside] ** 2) / np.mean(error[inside] ** 2))
            for name, inside in regions.items()
            if inside.sum() > 2000
        }
    return found


def main(arguments=None):
    """
    Print the table.

    Parameters
    ----------
    arguments : list of str, optional
        The command line's.

    Returns
    -------
    status : int
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--seeds', type=int, default=4, help='scenes of each kind')
    parser.add_argument('--size', type=int, default=512, help='px, side of the frames')
    args = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = [
            gains(make_scene(kind, 'mid', seed, size=args.size))
            for kind in KINDS
            for seed in range(args.seeds)
        ]
    print(f'{"way":26}  {"sky":>12}  {"faint":>12}  {"bright":>12}')
    for way in found[0]:
        cells = []
        for region in ('sky', 'faint', 'bright'):
            values = [one[way][region] for one in found if region in one[way]]
            error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            cells.append(f'{np.mean(values):5.1f} ± {error:.1f}')
        print(f'{way:26}  ' + '  '.join(f'{cell:>12}' for cell in cells))
    return 0


if __name__ == '__main__':
    sys.exit(main())
