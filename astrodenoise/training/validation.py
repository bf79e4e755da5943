# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How good a network in training is, on scenes that are held out."""

import math

import numpy as np
import torch

from astrodenoise.training.library import VALIDATION_SEED
from astrodenoise.training.tiles import Tiles, scene_tiles

__all__ = ['validate', 'validation_tiles']

BATCH_SIZE = 16
LEAST_NOISE = 1e-4  # sigma^2 of a pixel


def validation_tiles(library, config):
    """
    Make the held-out tiles: simulated scenes of other seeds, real ones of other objects.

    Parameters
    ----------
    library : `astrodenoise.training.library.Library`
        Holds the scenes.
    config : `astrodenoise.training.config.TrainingConfig`
        What is trained.

    Returns
    -------
    tiles : dict of str to `astrodenoise.training.tiles.Tiles`
        By kind of scene; the same for every call.
    """
    by_kind = {}
    for number, scene in enumerate(library.held_out):
        kind = 'real' if scene.brightest else scene.name.split('-')[0]
        tiles = scene_tiles(
            scene, (VALIDATION_SEED, number), tile_size=config.data.tile_size,
            ranges=config.noise, pair_share=1.0,
        )  # fmt: skip
        by_kind.setdefault(kind, []).append(tiles)
    return {kind: Tiles.join(stacks) for kind, stacks in by_kind.items()}


@torch.inference_mode()
def validate(network, tiles, *, device='cpu', precision='float32'):
    """
    Measure a network on held-out tiles.

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        The network.
    tiles : dict of str to `astrodenoise.training.tiles.Tiles`
        By kind of scene.
    device, precision : str, optional
        Where and how.

    Returns
    -------
    gains : dict of str to float
        Gain in dB in units of sigma by kind, 'mean', and 'calibration': the rms of error over s.
    """
    gains, scores = {}, []
    for kind, stack in tiles.items():
        noise = error = 0.0
        for start in range(0, len(stack), BATCH_SIZE):
            part = stack.select(range(start, min(start + BATCH_SIZE, len(stack)))).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16'):
                r, log_s = network(part.features, part.condition)
            square = part.weight * (r - part.target) ** 2
            noise += float(torch.sum(part.weight * part.target**2))
            error += float(torch.sum(square))
            total = float(part.weight.sum())
            variance = torch.exp(2 * log_s) + part.own[:, :, None, None]
            scores.append(float(torch.sum(square / variance)) / max(total, 1.0))
        if noise > LEAST_NOISE * float(stack.weight.sum()):  # else there is nothing to gain
            gains[kind] = 10 * math.log10(noise / max(error, 1e-12))
    gains['mean'] = float(np.mean(list(gains.values()))) if gains else 0.0
    gains['calibration'] = float(np.sqrt(np.mean(scores)))
    return gains
