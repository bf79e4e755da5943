# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What is measured of trained weights for their card, on scenes that are held out.

The size of errors against what the network expects, and the range of the frames it was trained on.
"""

from dataclasses import replace

import numpy as np
import torch

from astrodenoise.errormap import CLASSES, correlation_class
from astrodenoise.known import Known
from astrodenoise.measures.pixels import regions
from astrodenoise.trainedrange import frame_range
from astrodenoise.training.library import recipe, simulate
from astrodenoise.training.synthesis import STEPS, observe_planes
from astrodenoise.training.tiles import normalised_plane, scene_tiles

__all__ = ['calibration_table', 'measure_errors', 'trained_range']

CALIBRATION_SEED = 7_654_321
BINS = np.linspace(-4.5, 0.5, 21)  # edges of log s
EXTENDED = ('nebula', 'galaxy', 'texture')  # kinds whose faint light is no unseen star
MOST = 8.0  # units of s; what is further off is no error of noise
LEAST = 3000  # pixels of a bin, below which it is as its neighbours
OUTERMOST = 0.01  # share of the trained frames beyond either end of a range
MARGIN = 0.1  # of the range, by which a network can be trusted beyond
ONE_SIDED = ('level', 'masked')


@torch.inference_mode()
def measure_errors(network, config, *, n_scenes=96, precision='float32'):
    """
    Collect errors and expected errors on simulated scenes of other seeds.

    Only pixels count of which a user can tell what they are: sky, extended light, and cores of
    stars.  At an unseen faint star the error is the star: no interval that is right on average
    holds it.

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        The network.
    config : `astrodenoise.training.config.TrainingConfig`
        What it was trained on.
    n_scenes : int, optional
        How many.
    precision : {'float32', 'bfloat16'}, optional
        Of the convolutions.

    Returns
    -------
    errors : dict of str to tuple of `numpy.ndarray`
        By class of correlation: log s, and the error over s.
    """
    drawn = recipe(config.data, CALIBRATION_SEED, config.model.planes)
    ranges = replace(config.noise, low_noise=0.0)
    found = {name: [] for name in CLASSES}
    for number in range(n_scenes):
        scene = simulate(drawn | {'number': number})
        tiles = scene_tiles(
            scene, (CALIBRATION_SEED, number), tile_size=config.data.tile_size, ranges=ranges
        )
        with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'):
            r, log_s = network(tiles.features, tiles.condition)
        error = (r - tiles.target) * torch.exp(-log_s)
        known = ~regions(tiles.clean.abs())['faint']
        if scene.name.split('-')[0] in EXTENDED:
            known = torch.ones_like(known)
        known &= tiles.weight > 0.5
        n_condition = config.model.condition
        for plane in range(config.model.planes):
            first = plane * n_condition
            rho = tiles.condition[0, first : first + n_condition].numpy()
            chosen = known[:, plane]
            pair = (log_s[:, plane][chosen].numpy(), error[:, plane][chosen].numpy())
            found[correlation_class(rho)].append(pair)
    return {
        name: tuple(np.concatenate(part) for part in zip(*pairs, strict=True))
        for name, pairs in found.items()
        if pairs
    }


def calibration_table(errors):
    """
    Make the table that brings expected errors to the size of the true ones.

    Parameters
    ----------
    errors : dict
        As `measure_errors` gives it.

    Returns
    -------
    table : dict
        'log_s': centres of the bins; by class of correlation, per bin: 'factor' on s, and 'q68'
        and 'q95', the multiples of the corrected error that hold 68.3 and 95 % of the errors.

    Raises
    ------
    ValueError
        If a class has no bin with enough pixels.
    """
    table = {'log_s': [float(at) for at in (BINS[:-1] + BINS[1:]) / 2]}
    table |= {name: {} for name in ('factor', 'q68', 'q95')}
    for name in CLASSES:
        log_s, error = errors.get(name, (np.empty(0), np.empty(0)))
        rows = np.full((3, len(BINS) - 1), np.nan)
        index = np.clip(np.digitize(log_s, BINS) - 1, 0, len(BINS) - 2)
        for number in range(len(BINS) - 1):
            values = np.abs(error[index == number])
            if values.size < LEAST:
                continue
            factor = np.sqrt(np.mean(np.minimum(values, MOST) ** 2))
            rows[:, number] = factor, *(np.quantile(values, (0.6827, 0.95)) / factor)
        known = np.isfinite(rows[0])
        if not known.any():
            msg = f'no bin of {name} noise has {LEAST} pixels: measure more scenes'
            raise ValueError(msg)
        at = np.arange(rows.shape[1])
        for key, row in zip(('factor', 'q68', 'q95'), rows, strict=True):
            table[key][name] = [
                round(float(value), 4) for value in np.interp(at, at[known], row[known])
            ]
    return table


def trained_range(config, *, n_scenes=200):
    """
    Measure the range of the frames that a configuration trains on, as a user's frames are measured.

    Parameters
    ----------
    config : `astrodenoise.training.config.TrainingConfig`
        What is trained on.
    n_scenes : int, optional
        How many frames are drawn.

    Returns
    -------
    ranges : dict of str to list
        Key of `astrodenoise.trainedrange.NAMES` to [low, high]: the range without its outermost
        per cent on either side, and a tenth of it beyond; None where there is no bound.
    """
    drawn = recipe(config.data, CALIBRATION_SEED, config.model.planes)
    found = {}
    for number in range(n_scenes):
        rng = np.random.default_rng((CALIBRATION_SEED, number))
        generator = torch.Generator().manual_seed(number)
        clean = torch.from_numpy(simulate(drawn | {'number': number}).image)
        seen = observe_planes(clean, rng, generator, ranges=config.noise)
        planes = [normalised_plane(plane) for plane in seen if plane.valid.any()]
        for key, values in frame_range([Known.of_plane(p) for p in planes], planes).items():
            found.setdefault(key, []).extend(values)
    # frames that are whole multiples of a step, but of no whole number, do not show it
    ranges = {'sigma_per_step': [round(1 / STEPS[1], 3), None]}
    for key, values in found.items():
        if values and key not in ranges:
            low, high = np.quantile(values, (OUTERMOST, 1 - OUTERMOST))
            low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
            ranges[key] = [None if key in ONE_SIDED else float(f'{low:.3g}'), float(f'{high:.3g}')]
    return ranges
