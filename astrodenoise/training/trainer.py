# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""One explicit training loop (paper section 2.6)."""

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch

from astrodenoise.model import ResUNet
from astrodenoise.training.checkpoint import load_checkpoint, save_checkpoint
from astrodenoise.training.config import TrainingConfig, load_config
from astrodenoise.training.losses import calibration_loss, residual_loss
from astrodenoise.training.tiles import (
    VALIDATION_SEED,
    Scene,
    scene_library,
    scene_tiles,
    split_by_scene,
    tile_rounds,
)

__all__ = ['learning_rate', 'train', 'validate']

log = logging.getLogger(__name__)


def learning_rate(step, optimiser):
    """
    Give the learning rate of a step: a warm-up, a plateau, a half cosine down to zero.

    Parameters
    ----------
    step : int
        Counted from 0.
    optimiser : `astrodenoise.training.config.OptimiserConfig`
        Its lengths and its plateau.

    Returns
    -------
    rate : float
        A pure function of the step.
    """
    rise = min(1.0, (step + 1) / max(optimiser.warmup_steps, 1))
    left = min(1.0, max(optimiser.steps - step, 0) / max(optimiser.decay_steps, 1))
    return optimiser.learning_rate * rise * 0.5 * (1 - math.cos(math.pi * left))


def _loss(network, tiles, optimiser, device, precision):
    """Loss of a batch and its two parts."""
    features = tiles.features.to(device).contiguous(memory_format=torch.channels_last)
    target, weight = tiles.target.to(device), tiles.weight.to(device)
    with torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16'):
        r, log_s = network(features, tiles.condition.to(device))
    residual = residual_loss(r, target, weight)
    calibration = calibration_loss(log_s, r, target, weight)
    return residual + optimiser.calibration * calibration, residual, calibration


def validation_tiles(config, material):
    """
    Make the held-out tiles: simulated scenes of other seeds, real ones of other objects.

    Parameters
    ----------
    config : `astrodenoise.training.config.TrainingConfig`
        What is trained.
    material : list of (str, `numpy.ndarray`)
        Real clean scenes.

    Returns
    -------
    tiles : dict of str to `astrodenoise.training.tiles.Tiles`
        By kind of scene; the same for every call.
    """
    data = config.data
    scenes = scene_library(
        data.validation_scenes, size=data.scene_size, seed=VALIDATION_SEED + data.seed,
        kinds=data.kinds,
    )
    held_out = [Scene(name, image, 1.0) for name, image in material if split_by_scene(name)]
    by_kind = {}
    for number, scene in enumerate(scenes + held_out[: data.validation_scenes // 3]):
        kind = 'real' if scene.brightest else scene.name.split('-')[0]
        tiles = scene_tiles(
            scene, (VALIDATION_SEED, number), tile_size=data.tile_size, ranges=config.noise
        )
        by_kind.setdefault(kind, []).append(tiles)
    return {kind: type(stacks[0]).join(stacks) for kind, stacks in by_kind.items()}


@torch.inference_mode()
def validate(network, tiles, *, batch_size=16, device='cpu', precision='float32'):
    """
    Measure a network on held-out tiles.

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        The network.
    tiles : dict of str to `astrodenoise.training.tiles.Tiles`
        By kind of scene.
    batch_size : int, optional
        Tiles at once.
    device, precision : str, optional
        Where and how.

    Returns
    -------
    gains : dict of str to float
        Gain in dB in units of sigma by kind, and 'calibration': the rms of error over s.
    """
    gains, scores = {}, []
    for kind, stack in tiles.items():
        noise = error = 0.0
        for start in range(0, len(stack), batch_size):
            part = stack.select(range(start, min(start + batch_size, len(stack))))
            features = part.features.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16'):
                r, log_s = network(features, part.condition.to(device))
            target, weight = part.target.to(device), part.weight.to(device)
            square = weight * (r - target) ** 2
            noise += float(torch.sum(weight * target**2))
            error += float(torch.sum(square))
            scores.append(float(torch.sum(square * torch.exp(-2 * log_s)) / weight.sum()))
        gains[kind] = 10 * math.log10(noise / max(error, 1e-12))
    gains['mean'] = float(np.mean(list(gains.values())))
    gains['calibration'] = float(np.sqrt(np.mean(scores)))
    return gains


class _Log:
    """Numbers of a training: a line each in a JSON file, and TensorBoard where it is installed."""

    def __init__(self, folder):
        self.path = Path(folder) / 'log.jsonl'
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder))
        except ImportError:
            self.board = None

    def write(self, step, **values):
        """Write named numbers."""
        with self.path.open('a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, **values}) + '\n')
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def pictures(self, step, network, tiles, device):
        """Show noisy, predicted, clean and residual of one tile, contrasts in sigma."""
        if self.board is None:
            return
        part = tiles.select([0])
        with torch.inference_mode():
            r, _ = network(part.features.to(device), part.condition.to(device))
        noisy = torch.sinh(part.features[0, 0])
        clean = noisy - part.target[0, 0]
        predicted = noisy - r[0, 0].cpu()
        panels = [torch.asinh(p / 2) / 4 + 0.3 for p in (noisy, predicted, clean)]
        panels.append((noisy - predicted) / 8 + 0.5)
        picture = torch.cat(panels, dim=1).clamp(0, 1)[None]
        self.board.add_image('noisy predicted clean residual', picture, step)

    def close(self):
        """Close the file."""
        if self.board is not None:
            self.board.close()


def _read_material(config):
    """Read the real scenes where the configuration names a folder."""
    if not config.data.material:
        return [], {}
    from astrodenoise.training.material import load_material

    return load_material(config.data.material)


def train(config, *, resume=False, time_limit=None, device=None, precision=None, output=None):
    """
    Train a network.

    Parameters
    ----------
    config : str, path-like or `astrodenoise.training.config.TrainingConfig`
        What to train; a name of a preset or a TOML file.
    resume : bool, optional
        Go on from the checkpoint in the output folder.
    time_limit : float, optional
        Seconds after which a checkpoint is written and the training stops.
    device : str, optional
        'cuda' where there is one, else 'cpu'.
    precision : {'bfloat16', 'float32'}, optional
        Of the convolutions but the first and the last; bfloat16 by default on CUDA and on
        processors that have it.
    output : str or path-like, optional
        Folder of checkpoints and logs, instead of the configuration's.

    Returns
    -------
    result : dict
        Steps done, gains of the last validation, tiles per second, share of the time that the
        data took, folder.

    Raises
    ------
    FileExistsError
        If the folder holds a checkpoint and ``resume`` is False.
    """
    if not isinstance(config, TrainingConfig):
        config = load_config(config)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    precision = precision or _default_precision(device)
    folder = Path(output or config.output)
    if not resume and (folder / 'checkpoint.safetensors').exists():
        msg = f'{str(folder)!r} holds a checkpoint: resume it, or name another output folder'
        raise FileExistsError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    optimiser, data = config.optimiser, config.data
    torch.manual_seed(data.seed)
    network = ResUNet(config.model).to(device, memory_format=torch.channels_last)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    adam = torch.optim.AdamW(
        network.parameters(), optimiser.learning_rate, weight_decay=optimiser.weight_decay
    )
    state = {'step': 0, 'round': 0, 'tile': 0, 'sources': {}}
    if resume:
        state |= load_checkpoint(folder, network, average, adam)
    began = time.monotonic()
    material, sources = _read_material(config)
    scenes = scene_library(
        data.scenes, size=data.scene_size, seed=data.seed, kinds=data.kinds, material=material
    )
    held_out = validation_tiles(config, material)
    state |= {'config': config.to_dict(), 'sources': {'simulated': data.scenes, **sources}}
    log.info('%d scenes, %d parameters, %s on %s, from step %d', len(scenes),
             sum(p.numel() for p in network.parameters()), precision, device, state['step'])
    rounds = tile_rounds(
        scenes, data.seed, start=state['round'], round_scenes=data.round_scenes,
        tile_size=data.tile_size, ranges=config.noise,
    )
    writer = _Log(folder)
    averaged = ResUNet(config.model).to(device, memory_format=torch.channels_last).eval()
    data_time = loop_time = 0.0
    gains, n_tiles, saved, tiles = {}, 0, time.monotonic(), None
    losses = []
    while state['step'] < optimiser.steps:
        started = time.monotonic()
        if time_limit is not None and started - began > time_limit:
            break
        if tiles is None or state['tile'] + optimiser.batch_size > len(tiles):
            if tiles is not None:
                state |= {'round': state['round'] + 1, 'tile': 0}
            tiles = next(rounds)
            data_time += time.monotonic() - started
            if state['tile'] + optimiser.batch_size > len(tiles):
                msg = f'a round of {len(tiles)} tiles is less than a batch: raise round_scenes'
                raise ValueError(msg)
        batch = tiles.select(range(state['tile'], state['tile'] + optimiser.batch_size))
        for group in adam.param_groups:
            group['lr'] = learning_rate(state['step'], optimiser)
        loss, residual, calibration = _loss(network, batch, optimiser, device, precision)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), optimiser.clip_norm)
        adam.step()
        # a young average follows faster, so that it does not carry the random start along
        decay = min(optimiser.average, (1 + state['step']) / (10 + state['step']))
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        losses.append((float(residual.detach()), float(calibration.detach())))
        state |= {'step': state['step'] + 1, 'tile': state['tile'] + optimiser.batch_size}
        n_tiles += optimiser.batch_size
        loop_time += time.monotonic() - started
        step = state['step']
        if step % optimiser.log_every == 0:
            mean = np.mean(losses[-optimiser.log_every :], axis=0)
            rate, share = n_tiles / loop_time, data_time / loop_time
            writer.write(step, loss=float(mean[0]), calibration_loss=float(mean[1]),
                         tiles_per_second=rate, data_share=share)
            log.info('step %d: loss %.4f (%.2f dB), %.1f tiles/s, data %.0f %%',
                     step, mean[0], -10 * math.log10(mean[0]), rate, 100 * share)
        if step % optimiser.validate_every == 0 or step == optimiser.steps:
            averaged.load_state_dict(average)
            gains = validate(averaged, held_out, device=device, precision=precision)
            writer.write(step, **{f'gain_{k}': v for k, v in gains.items()})
            writer.pictures(step, averaged, next(iter(held_out.values())), device)
            log.info('step %d: %s', step, ', '.join(f'{k} {v:.2f}' for k, v in gains.items()))
            state['gains'] = gains
        if time.monotonic() - saved > 60 * optimiser.checkpoint_minutes:
            save_checkpoint(folder, network, average, adam, state)
            saved = time.monotonic()
    save_checkpoint(folder, network, average, adam, state)
    writer.close()
    return {
        'step': state['step'],
        'gains': state.get('gains', gains),
        'tiles_per_second': n_tiles / loop_time if loop_time else 0.0,
        'data_share': data_time / loop_time if loop_time else 0.0,
        'losses': [residual for residual, _ in losses],
        'folder': str(folder),
    }


def _default_precision(device):
    """Bfloat16 where the hardware has it."""
    if device == 'cuda':
        return 'bfloat16' if torch.cuda.is_bf16_supported() else 'float32'
    return 'bfloat16' if torch.cpu._is_avx512_bf16_supported() else 'float32'
