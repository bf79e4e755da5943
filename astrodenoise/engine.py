# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A network on a device: precision, batches, what to do when memory runs out."""

import logging
import threading
from functools import lru_cache

import numpy as np
import torch

from astrodenoise.model import ResUNet
from astrodenoise.weights import load_weights

__all__ = ['DEVICES', 'PRECISIONS', 'Engine', 'choose_device', 'choose_precision', 'load_engine']

log = logging.getLogger(__name__)

DEVICES = ('auto', 'cpu', 'cuda', 'mps')
PRECISIONS = ('auto', 'float32', 'bfloat16')


def choose_device(device):
    """
    Name the device to compute on.

    Parameters
    ----------
    device : str
        'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.

    Returns
    -------
    device : str
        One that is there.

    Raises
    ------
    ValueError
        If the device is unknown or is not there.
    """
    there = {'cpu': True, 'cuda': torch.cuda.is_available(), 'mps': torch.mps.is_available()}
    if device == 'auto':
        return next(name for name in ('cuda', 'mps', 'cpu') if there[name])
    kind = str(device).split(':')[0]
    if kind not in there:
        msg = f"device must be one of {DEVICES} (or 'cuda:N'), got {device!r}"
        raise ValueError(msg)
    if not there[kind]:
        msg = f"device {device!r} is not there on this machine: pass device='auto' or 'cpu'"
        raise ValueError(msg)
    return str(device)


def choose_precision(precision, device):
    """
    Name the precision of the convolutions but the first and the last.

    Parameters
    ----------
    precision : {'auto', 'float32', 'bfloat16'}
        'auto' reads the processor's flags; it never times anything, so that a loaded machine gives
        the same result.
    device : str
        A device that is there.

    Returns
    -------
    precision : {'float32', 'bfloat16'}
        What is used.

    Raises
    ------
    ValueError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        msg = f'precision must be one of {PRECISIONS}, got {precision!r}'
        raise ValueError(msg)
    if precision != 'auto':
        return precision
    if device.startswith('cuda'):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device == 'cpu' and torch.cpu._is_avx512_bf16_supported()
    return 'bfloat16' if fast else 'float32'


class Engine:
    """
    A network on a device.

    Parameters
    ----------
    weights : `astrodenoise.weights.Weights`
        Verified weights.
    device : str
        Where to compute.
    precision : {'float32', 'bfloat16'}
        Of the convolutions but the first and the last.
    """

    def __init__(self, weights, device, precision):
        self.weights, self.device, self.precision = weights, device, precision
        network = ResUNet(weights.config)
        network.load_state_dict(weights.tensors)
        self.network = network.to(device, memory_format=torch.channels_last).eval()

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
        """
        # one row for all tiles: a product of another size could round in another way
        condition = torch.as_tensor(np.asarray(condition, np.float32), device=self.device)[None]

        @torch.inference_mode()
        def run(batch):
            features = torch.from_numpy(np.ascontiguousarray(batch))
            features = features.to(self.device).contiguous(memory_format=torch.channels_last)
            kind = self.device.split(':')[0]
            with torch.autocast(kind, torch.bfloat16, enabled=self.precision == 'bfloat16'):
                r, log_s = self.network(features, condition)
            return torch.cat((r, log_s), dim=1).cpu().numpy()

        return _Halving(run)


class _Halving:
    """Run batches; where memory runs out, run them in halves from then on."""

    def __init__(self, run):
        self._run, self._parts = run, 1

    def __call__(self, batch):
        while True:
            try:
                parts = [self._run(part) for part in np.array_split(batch, self._parts)]
                return np.concatenate(parts) if len(parts) > 1 else parts[0]
            except torch.OutOfMemoryError:
                if self._parts >= len(batch):
                    raise
                self._parts = min(2 * self._parts, len(batch))
                torch.cuda.empty_cache()
                log.warning('memory ran out: batches of %d tiles go in %d parts from here on',
                            len(batch), self._parts)


_LOCK = threading.Lock()


@lru_cache(maxsize=8)
def _cached_engine(model, device, precision):
    return Engine(load_weights(model), device, precision)


def load_engine(model, device='auto', precision='auto'):
    """
    Load a network, or give the one that is loaded already.

    Parameters
    ----------
    model : str
        A shipped model's name or the path of a safetensors file.
    device, precision : str, optional
        See `choose_device` and `choose_precision`.

    Returns
    -------
    engine : `Engine`
        The same object for the same arguments: a second call reads no file.

    Raises
    ------
    ValueError
        If device or precision are not to be had, or the weights are not sound.
    """
    device = choose_device(device)
    with _LOCK:
        return _cached_engine(str(model), device, choose_precision(precision, device))
