# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""One explicit training loop (paper section 2.6)."""

import contextlib
import logging
import math
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import torch

from astrodenoise.model import ResUNet
from astrodenoise.training.checkpoint import FILE, load_checkpoint, save_checkpoint
from astrodenoise.training.config import TrainingConfig, load_config
from astrodenoise.training.journal import Journal
from astrodenoise.training.library import Library, make_library
from astrodenoise.training.losses import composite_loss
from astrodenoise.training.pack import read_pack
from astrodenoise.training.start import start_from
from astrodenoise.training.team import join_team
from astrodenoise.training.tiles import tile_rounds
from astrodenoise.training.validation import validate, validation_tiles
from astrodenoise.training.versions import made_with

__all__ = ['learning_rate', 'train']

log = logging.getLogger(__name__)

AHEAD = 2  # rounds prepared while a GPU works; on a CPU they would take the network's own time


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


class _Weights:
    """The network, its moving average and its optimiser."""

    def __init__(self, config, team, precision):
        self.config, self.team, self.precision = config, team, precision
        self.kind = torch.device(team.device).type
        torch.manual_seed(config.data.seed)
        self.network = self._new_network()
        if config.start:
            start_from(self.network, config.start)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        optimiser = config.optimiser
        self.adam = torch.optim.AdamW(
            self.network.parameters(), optimiser.learning_rate, weight_decay=optimiser.weight_decay
        )
        self.model = team.wrap(self.network)

    def _new_network(self):
        network = ResUNet(self.config.model)
        return network.to(self.team.device, memory_format=torch.channels_last)

    def gradient(self, tiles):
        """Set the gradient of a batch's loss, averaged over the team; the loss by part."""
        tiles = tiles.to(self.team.device)
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.precision == 'bfloat16'):
            r, log_s = self.model(tiles.features, tiles.condition)
        loss, parts = composite_loss(r, log_s, tiles, self.config.loss)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        return {'loss': float(loss.detach()), **parts}

    def move(self, step):
        """Take the step that the gradient says."""
        optimiser = self.config.optimiser
        for group in self.adam.param_groups:
            group['lr'] = learning_rate(step, optimiser)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), optimiser.clip_norm)
        self.adam.step()
        # a young average follows faster, so that it does not carry the random start along
        decay = min(optimiser.average, (1 + step) / (10 + step))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def averaged(self):
        """The network with the averaged weights."""
        network = self._new_network()
        network.load_state_dict(self.average)
        return network.eval()


class _Stream:
    """Batches of this process, one after the other, and the time that it waited for them."""

    def __init__(self, scenes, config, team, place):
        self.place = place
        self.size = max(1, config.optimiser.batch_size // team.size)
        self.waited = 0.0
        on_cpu = team.device == 'cpu'
        data = config.data
        self.rounds = tile_rounds(
            scenes, data.seed, start=place['round'], every=team.size,
            round_scenes=data.round_scenes, tile_size=data.tile_size, ranges=config.noise,
            pair_share=data.pair_share, real_share=data.real_share,
            n_threads=2 if on_cpu else os.cpu_count() or 2, ahead=0 if on_cpu else AHEAD,
        )  # fmt: skip
        self.every, self.tiles = team.size, None

    def next(self):
        """Give the next batch; what is left of a round that is less than one is passed over."""
        if self.tiles is None or self.place['tile'] + self.size > len(self.tiles):
            if self.tiles is not None:
                self.place = {'round': self.place['round'] + self.every, 'tile': 0}
            began = time.monotonic()
            self.tiles = next(self.rounds)
            self.waited += time.monotonic() - began
            if self.size > len(self.tiles):
                msg = (
                    f'a round of {len(self.tiles)} tiles is less than a batch of {self.size}: '
                    'raise [data] round_scenes, or lower [optimiser] batch_size'
                )
                raise ValueError(msg)
        first = self.place['tile']
        self.place = {**self.place, 'tile': first + self.size}
        return self.tiles.select(range(first, first + self.size))


@contextlib.contextmanager
def _asked_to_stop():
    """Let Ctrl-C and SIGTERM end the training after the step at hand, with a checkpoint."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(*_):
        if asked.is_set():  # asked twice: at once
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    config, *, resume=False, time_limit=None, device=None, precision=None, output=None, data=None
):
    """
    Train a network; under ``torchrun`` its processes share every batch.

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
    data : str, path-like or `astrodenoise.training.library.Library`, optional
        A pack of scenes, see `astrodenoise.training.pack`, or the scenes themselves, instead of
        drawing and reading them.

    Returns
    -------
    result : dict
        Steps done, gains of the last validation, tiles per second, share of the time that the
        data took, mean squared error of every step, folder.

    Raises
    ------
    FileExistsError
        If the folder holds a checkpoint and ``resume`` is False.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    """
    if not isinstance(config, TrainingConfig):
        config = load_config(config)
    folder = Path(output or config.output)
    if not resume and (folder / FILE).exists():
        msg = f'{str(folder)!r} holds a checkpoint: resume it, or name another output folder'
        raise FileExistsError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    with join_team(device) as team, _asked_to_stop() as asked:
        precision = precision or _default_precision(team.device)
        result = _train(config, team, folder, precision, resume, time_limit, data, asked)
    if asked.is_set():
        raise KeyboardInterrupt
    return result


def _train(config, team, folder, precision, resume, time_limit, data, asked):
    """Bring everything together, and loop."""
    began = time.monotonic()
    optimiser = config.optimiser
    weights = _Weights(config, team, precision)
    state = {'step': 0, 'places': []}
    if resume:
        state |= load_checkpoint(folder, weights.network, weights.average, weights.adam)
    library = data if isinstance(data, Library) else None
    library = library or (read_pack(data) if data else make_library(config))
    held_out = validation_tiles(library, config) if team.rank == 0 else {}
    stream = _Stream(library.scenes, config, team, _place(state['places'], team))
    state |= {
        'config': config.to_dict(), 'sources': library.sources, 'versions': made_with(),
        'precision': precision, 'device': team.device, 'processes': team.size,
        'threads': torch.get_num_threads(),
    }  # fmt: skip
    journal = Journal(folder) if team.rank == 0 else None
    log.info('%d scenes, %d parameters, %s on %s, from step %d', len(library.scenes),
             sum(p.numel() for p in weights.network.parameters()), precision, team.device,
             state['step'])
    record, saved, first = [], time.monotonic(), state['step']
    loop_began = time.monotonic()
    while state['step'] < optimiser.steps:
        now = time.monotonic()
        if team.any(asked.is_set() or (time_limit is not None and now - began > time_limit)):
            break
        record.append(weights.gradient(stream.next()))
        weights.move(state['step'])
        state['step'] = step = state['step'] + 1
        validated = step % optimiser.validate_every == 0 or step == optimiser.steps
        if journal and step % optimiser.log_every == 0:
            elapsed = time.monotonic() - loop_began
            rate = (step - first) * stream.size * team.size / elapsed
            _tell(journal, step, record[-optimiser.log_every :], rate, stream.waited / elapsed)
        if journal and validated:
            state['gains'] = _validate(journal, step, weights, held_out)
        if team.any(time.monotonic() - saved > 60 * optimiser.checkpoint_minutes):
            _save(folder, weights, state, stream, team)
            saved = time.monotonic()
    elapsed = time.monotonic() - loop_began
    _save(folder, weights, state, stream, team)
    if journal:
        journal.close()
    return {
        'step': state['step'],
        'gains': state.get('gains', {}),
        'tiles_per_second': (state['step'] - first) * stream.size * team.size / max(elapsed, 1e-9),
        'data_share': stream.waited / max(elapsed, 1e-9),
        'losses': [parts['mse'] for parts in record],
        'folder': str(folder),
    }


def _place(places, team):
    """Where this process goes on; another number of processes begins after the last round."""
    if len(places) == team.size:
        return places[team.rank]
    last = max((place['round'] for place in places), default=-1)
    return {'round': last + 1 + team.rank, 'tile': 0}


def _save(folder, weights, state, stream, team):
    """Write a checkpoint of the whole team."""
    state['places'] = team.gather(stream.place)
    if team.rank == 0:
        save_checkpoint(folder, weights.network, weights.average, weights.adam, state)


def _tell(journal, step, record, rate, share):
    """Write the means of the last steps."""
    means = {name: float(np.mean([parts[name] for parts in record])) for name in record[0]}
    journal.write(step, **means, tiles_per_second=rate, data_share=share)
    text = ', '.join(f'{name} {value:.4f}' for name, value in means.items())
    log.info('step %d: %s (%.2f dB), %.1f tiles/s, data %.0f %%',
             step, text, -10 * math.log10(max(means['mse'], 1e-12)), rate, 100 * share)


def _validate(journal, step, weights, held_out):
    """Measure the averaged weights on the held-out tiles and show some of them."""
    network = weights.averaged()
    device = weights.team.device
    gains = validate(network, held_out, device=device, precision=weights.precision)
    journal.write(step, **{f'gain_{kind}': value for kind, value in gains.items()})
    journal.show(step, network, held_out, device)
    log.info('step %d: %s', step, ', '.join(f'{k} {v:.2f}' for k, v in gains.items()))
    return gains


def _default_precision(device):
    """Bfloat16 where the hardware has it."""
    if device.startswith('cuda'):
        return 'bfloat16' if torch.cuda.is_bf16_supported() else 'float32'
    return 'bfloat16' if torch.cpu._is_avx512_bf16_supported() else 'float32'
