# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A network on a device, and what to do when the device gives out."""

import logging
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np
import torch
from torch import nn

from astrodenoise.devices import Device, choose_device, choose_precision, trouble_of
from astrodenoise.exceptions import DeviceWarning
from astrodenoise.model import ResUNet
from astrodenoise.tiling import blend_tiles
from astrodenoise.weights import load_weights

__all__ = ['Engine', 'load_engine']

log = logging.getLogger(__name__)

SMALLEST_PART = 64  # px; the side below which a tile is not divided
MAX_ENGINES = 8
PROCESSOR_BATCH = 2**17  # px of a batch: more than that leaves the cache, and costs a quarter
GPU_BATCH = 2**21  # px
GPU_WORKERS = 2  # one makes the input of the next batch
_WORKER = threading.local()


@dataclass(frozen=True)
class _Plan:
    """How batches run: where, how many tiles at once, tiles of what side; None is no bound."""

    device: Device
    network: nn.Module
    n_tiles: int | None = None
    side: int | None = None


class Engine:
    """
    A network on a device.

    A device that gives out ends no frame.  Where memory runs out, batches go in halves from then
    on, then tiles in overlapping parts of half their side, then everything goes to the processor;
    a device that fails or gives values that are no finite numbers is left at once.  One warning
    says so, and ``device`` and ``precision`` say what is in use.  Threads may share an engine.

    Parameters
    ----------
    weights : `astrodenoise.weights.Weights`
        Verified weights.
    device : `astrodenoise.devices.Device`
        Where to compute.

    Attributes
    ----------
    weights : `astrodenoise.weights.Weights`
        The same.
    origin : tuple of str or None
        Model, device and precision that `load_engine` was asked for.
    """

    def __init__(self, weights, device):
        self.weights, self.origin = weights, None
        self._lock = threading.Lock()
        self._news, self._warned, self._short = None, False, False
        self._plan = self._start(device)
        self._tell()

    def __reduce__(self):
        """Travel as a name: another process loads its own, once."""
        if self.origin is None:
            msg = 'only an engine that load_engine() gave can travel to another process'
            raise TypeError(msg)
        return load_engine, self.origin

    @property
    def device(self):
        """Name of the device in use (str)."""
        return self._plan.device.name

    @property
    def precision(self):
        """Precision of the convolutions but the first and the last (str)."""
        return self._plan.device.precision

    @property
    def part_size(self):
        """Side in px of the parts that tiles are divided into, None where they are whole (int)."""
        return self._plan.side

    @property
    def short_of_memory(self):
        """Whether memory has run out, so that another try may be worth it (bool)."""
        return self._short

    def predictor(self, condition):
        """
        Bind the description of a frame's noise.

        Parameters
        ----------
        condition : `numpy.ndarray`, (planes * condition,), float32
            The noise's correlation.

        Returns
        -------
        predict : callable
            (B, planes * features, t, t) float32 to (B, 2 * planes, t, t) float32: r, then log s.
            `MemoryError` where a single tile is too much for the processor's memory, too.
        """
        # one row for all tiles: a product of another size could round in another way
        condition = np.array(condition, np.float32)[None]

        def predict(batch):
            while True:
                plan = self._plan
                prediction, trouble = self._attempt(plan, batch, condition)
                if trouble is None:
                    self._tell()
                    return prediction
                # out of reach of the error, whose traceback holds what fills the memory
                self._step_down(plan, *trouble, batch.shape)

        return predict

    def batch_size(self, tile_size):
        """
        Give the number of tiles that are best predicted at once.

        Parameters
        ----------
        tile_size : int
            Side of a tile in px.

        Returns
        -------
        batch_size : int
            As many as fit the processor's cache, or as keep a GPU busy.
        """
        pixels = PROCESSOR_BATCH if self._plan.device.kind == 'cpu' else GPU_BATCH
        return max(1, pixels // tile_size**2)

    @contextmanager
    def workers(self):
        """
        Predict in several threads, on the processor each with one thread of torch.

        That keeps every core busy with the making of the network's input, too, and gives the same
        bits for any number of cores.

        Yields
        ------
        in_order : callable
            ``in_order(function, items)`` gives ``function(item)`` for each item, in their order.
        """
        cores = torch.get_num_threads()
        n_workers = cores if self._plan.device.kind == 'cpu' else GPU_WORKERS
        if n_workers == 1:
            yield map
            return
        pool = ThreadPoolExecutor(n_workers, initializer=_be_a_worker)
        try:
            yield partial(self._in_order, pool, 2 * n_workers)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # new threads would take over what a worker has

    def _in_order(self, pool, ahead, function, items):
        """Work a few items ahead."""
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, future):
        result = future.result()
        self._tell()
        return result

    def _attempt(self, plan, batch, condition):
        """Give a prediction and None, or None and the device's trouble with its words."""
        try:
            prediction = _run(plan, batch, condition)
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None or (trouble == 'lost' and plan.device.kind == 'cpu'):
                raise
            return None, (trouble, _first_line(error))
        if plan.device.kind != 'cpu' and not np.isfinite(prediction).all():
            return None, ('nonsense', 'it gave values that are no finite numbers')
        return prediction, None

    def _step_down(self, plan, trouble, words, shape):
        """Change the plan that has failed, unless another thread has done it already."""
        with self._lock:
            if plan is self._plan:
                self._plan = self._next_plan(plan, trouble, words, shape)
        if trouble == 'memory':
            plan.device.free()

    def _next_plan(self, plan, trouble, words, shape):
        """Choose the next plan, the one that changes least first."""
        device = plan.device
        if trouble == 'nonsense' and device.precision == 'float16':
            log.info('float16 overflows on %s: float32 from here on', device.name)
            exact = device.at('float32')
            return replace(plan, device=exact, network=exact.load(self._new_network()))
        if trouble != 'memory':
            return self._on_processor(device, trouble, f'{device.name} failed ({words})')
        n_tiles = min(shape[0], plan.n_tiles or shape[0])
        if n_tiles > 1:
            log.info('memory of %s ran out: %d tiles at once from here on',
                     device.name, -(-n_tiles // 2))  # fmt: skip
            return replace(plan, n_tiles=-(-n_tiles // 2))
        tile = max(shape[-2:])
        if device.kind == 'cpu':
            msg = (
                f'memory ran out for one tile of {tile} px ({words}): pass a smaller '
                'tile_size (256 is usual), batch_size=1, or close other programs'
            )
            raise MemoryError(msg)
        stride = self.weights.config.stride
        side = min(tile, plan.side or tile) // 2 // stride * stride
        if side < SMALLEST_PART:
            return self._on_processor(device, trouble, f'memory of {device.name} ran out')
        self._short = True
        self._news = (
            f'memory of {device.name} ran out for one tile of {tile} px, which is computed in '
            f'parts of {side} px: pass tile_size={side}, or close what else uses the device'
        )
        return replace(plan, n_tiles=1, side=side)

    def _on_processor(self, device, trouble, what):
        """Load the network anew, because what is on a failed device cannot be read."""
        # float32 may have been asked for; half precision was for speed, as the processor's own is
        precision = 'float32' if device.precision == 'float32' else 'auto'
        processor = Device('cpu', choose_precision(precision, 'cpu'))
        self._short = trouble == 'memory'
        advice = (
            "pass a smaller tile_size or device='cpu', or close what else uses it"
            if self._short
            else "look at its driver, or pass device='cpu'; a new process tries it again"
        )
        self._news = f'{what}: the processor computes instead ({processor.precision}); {advice}'
        return _Plan(processor, processor.load(self._new_network()))

    def _start(self, device):
        """Load the network onto the device, or onto the processor where that fails."""
        try:
            return _Plan(device, device.load(self._new_network()))
        except Exception as error:
            trouble = trouble_of(error)
            if trouble is None or device.kind == 'cpu':
                raise
            what = f'{device.name} cannot be used ({_first_line(error)})'
        return self._on_processor(device, trouble, what)

    def _new_network(self):
        network = ResUNet(self.weights.config)
        network.load_state_dict(self.weights.tensors)
        return network

    def _tell(self):
        """Warn once of what has happened, when it is known how far it went."""
        if getattr(_WORKER, 'here', False):  # the thread that waits for this one will
            return
        with self._lock:
            news, self._news = self._news, None
            warned = self._warned
            self._warned = warned or news is not None
        if news is None:
            return
        if warned:
            log.warning(news)
        else:
            warnings.warn(news, DeviceWarning, stacklevel=_levels_to_the_caller())


def _be_a_worker():
    """Begin a thread beside others that are as busy."""
    _WORKER.here = True
    torch.set_num_threads(1)


def _run(plan, batch, condition):
    """Predict a batch in as many pieces as the plan says."""
    if plan.side is not None and plan.side < max(batch.shape[-2:]):
        return np.stack([_run_in_parts(plan, tile, condition) for tile in batch])
    step = plan.n_tiles or len(batch)
    pieces = [
        plan.device.run(plan.network, batch[first : first + step], condition)
        for first in range(0, len(batch), step)
    ]
    return np.concatenate(pieces) if len(pieces) > 1 else pieces[0]


def _run_in_parts(plan, tile, condition):
    """Predict a tile as a frame of smaller tiles, all on the network's grid of halved pixels."""
    grid = 2 * plan.network.config.stride
    return blend_tiles(
        tile.shape[1:],
        lambda rows, cols: tile[:, rows[:, None], cols],
        lambda parts: plan.device.run(plan.network, parts, condition),
        n_out=2 * plan.network.config.planes,
        tile_size=plan.side,
        overlap=grid * ceil(0.25 * plan.side / grid) / plan.side,
        batch_size=1,
    )


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]


def _levels_to_the_caller():
    """Count the frames of the stack from the calling function to the first one not of ours."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get('__name__', '').startswith('astrodenoise.'):
        level, frame = level + 1, frame.f_back
    return level


_LOCK = threading.Lock()
_ENGINES: dict = {}  # by model, device and precision; the oldest first


def load_engine(model, device='auto', precision='auto'):
    """
    Load a network, or give the one that is loaded already.

    Parameters
    ----------
    model : str
        A shipped model's name or the path of a safetensors file.
    device, precision : str, optional
        See `astrodenoise.devices.choose_device` and `astrodenoise.devices.choose_precision`.

    Returns
    -------
    engine : `Engine`
        The same object for the same arguments: a second call reads no file.  A new one where
        the device's memory ran out, because it may be free again; an engine whose device failed
        stays on the processor.

    Raises
    ------
    ValueError
        If device or precision are not to be had, or the weights are not sound.
    """
    asked = str(model), device, precision
    device = choose_device(device)
    precision = choose_precision(precision, device)
    key = str(model), device, precision
    with _LOCK:
        engine = _ENGINES.get(key)
        if engine is None or engine.short_of_memory:
            weights = load_weights(model) if engine is None else engine.weights
            engine = Engine(weights, Device(device, precision))
            engine.origin = asked
            _ENGINES.pop(key, None)
            _ENGINES[key] = engine
            if len(_ENGINES) > MAX_ENGINES:
                del _ENGINES[next(iter(_ENGINES))]
        return engine
