# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Devices: which are there, in which precision they compute, how tiles travel to them and back.

The frame and its sums stay on the host and only batches of tiles travel, because then the memory
of a device never bounds the size of a frame.
"""

import copy
import re
import threading
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

__all__ = ['DEVICES', 'PRECISIONS', 'Device', 'choose_device', 'choose_precision', 'trouble_of']

DEVICES = ('auto', 'cpu', 'cuda', 'mps')
PRECISIONS = ('auto', 'float32', 'bfloat16', 'float16')
LONE_TILE = 256  # px; the processor's convolutions of one smaller tile alone round in another way
BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY = (8, 0), (7, 0)  # the first of CUDA's that compute in it

# what torch says when there is no memory; cuDNN finds no engine where none of them has room
MEMORY = re.compile(
    r"out of memory|can't allocate memory|_ALLOC_FAILED|could not allocate"
    r'|^(GET|FIND) was unable to find an engine|^Unable to find a valid cuDNN algorithm'
)
# what it says when the device itself failed; other errors about CUDA are mistakes in a program
LOST = re.compile(
    r'(CUDA( driver| unknown)?|HIP|cuDNN|MIOpen) error|cuDNN version incompatibility|miopenStatus'
    r'|No (CUDA|HIP) GPUs are available|Unexpected error from cudaGetDeviceCount'
)

# cuDNN's flags belong to the process: one batch at a time, a GPU would not compute two faster
_CUDA_LOCK = threading.Lock()


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
    kind, colon, number = str(device).partition(':')
    if kind not in there or (colon and not (kind == 'cuda' and number.isdecimal())):
        msg = f"device must be one of {DEVICES} (or 'cuda:N'), got {device!r}"
        raise ValueError(msg)
    if not there[kind] or (number and int(number) >= torch.cuda.device_count()):
        msg = f"device {device!r} is not there on this machine: pass device='auto' or 'cpu'"
        raise ValueError(msg)
    return str(device)


def choose_precision(precision, device):
    """
    Name the precision of the convolutions but the first and the last.

    Parameters
    ----------
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
        'auto' reads the processor's flags or the GPU's compute capability; it never times
        anything, so that a loaded machine gives the same result.
    device : str
        A device that is there.

    Returns
    -------
    precision : {'float32', 'bfloat16', 'float16'}
        What is used.

    Raises
    ------
    ValueError
        If the precision is unknown, or the device has no use for it.
    """
    if precision not in PRECISIONS:
        msg = f'precision must be one of {PRECISIONS}, got {precision!r}'
        raise ValueError(msg)
    if precision == 'float16' and device == 'cpu':
        msg = "precision 'float16' is for GPUs: pass precision='auto' on the processor"
        raise ValueError(msg)
    if precision != 'auto':
        return precision
    if device.startswith('cuda'):
        return _cuda_precision(device)
    # MPS: float32, because bfloat16 hangs on chip and macOS there and torch cannot be asked
    fast = device == 'cpu' and torch.cpu._is_avx512_bf16_supported()
    return 'bfloat16' if fast else 'float32'


def _cuda_precision(device):
    """Take what a GPU has circuits for; float32 where it does not even answer."""
    try:
        capability = torch.cuda.get_device_capability(device)
    except Exception as error:
        if trouble_of(error) is None:
            raise
        return 'float32'
    if capability >= BFLOAT16_CAPABILITY:
        return 'bfloat16'
    return 'float16' if capability >= FLOAT16_CAPABILITY else 'float32'


def trouble_of(error):
    """
    Tell a device that gave out from a mistake.

    Parameters
    ----------
    error : Exception
        What came out of a computation.

    Returns
    -------
    trouble : {'memory', 'lost', None}
        Memory ran out; the device failed; None: neither, the error is to be raised.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return 'memory'
    if isinstance(error, RuntimeError) and MEMORY.search(text):
        return 'memory'
    if isinstance(error, torch.AcceleratorError | torch.cuda.DeferredCudaCallError):
        return 'lost'
    return 'lost' if isinstance(error, RuntimeError) and LOST.match(text) else None


class Device:
    """
    Where a network runs.

    Parameters
    ----------
    name : str
        'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : {'float32', 'bfloat16', 'float16'}
        Of the convolutions but the first and the last.

    Attributes
    ----------
    name, precision : str
        The same.
    """

    def __init__(self, name, precision):
        self.name, self.precision = name, precision

    @property
    def kind(self):
        """The name without a number (str)."""
        return self.name.partition(':')[0]

    def at(self, precision):
        """
        Give the same device in another precision.

        Parameters
        ----------
        precision : {'float32', 'bfloat16', 'float16'}
            The precision.

        Returns
        -------
        device : `Device`
            A copy.
        """
        other = copy.copy(self)
        other.precision = precision
        return other

    def load(self, network):
        """
        Bring a network to the device.

        Parameters
        ----------
        network : `torch.nn.Module`
            The network, which is changed.

        Returns
        -------
        network : `torch.nn.Module`
            The same, ready to predict.
        """
        if self.precision != 'float32':
            network.shorten(getattr(torch, self.precision))
        return network.to(self.name, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def run(self, network, features, condition):
        """
        Send a batch there, predict it, fetch the result.

        Parameters
        ----------
        network : `torch.nn.Module`
            What `load` gave.
        features : `numpy.ndarray`, (B, planes * features, h, w), float32
            The tiles.
        condition : `numpy.ndarray`, (1, planes * condition), float32
            The noise's correlation, one row for all tiles.

        Returns
        -------
        prediction : `numpy.ndarray`, (B, 2 * planes, h, w), float32
            r, then log s, in units of sigma.
        """
        n_tiles = len(features)
        if self.kind == 'cpu' and n_tiles == 1 and features.shape[-1] < LONE_TILE:
            features = np.repeat(features, 2, axis=0)  # for the bits of a larger batch
        with self._as_recorded():
            tiles = self._send(features).contiguous(memory_format=torch.channels_last)
            r, log_s = network(tiles, self._send(condition))
            return torch.cat((r, log_s), dim=1)[:n_tiles].cpu().numpy()

    def free(self):
        """Give memory that torch keeps for later back to the device."""
        if self.kind == 'cuda':
            torch.cuda.empty_cache()
        elif self.kind == 'mps':
            torch.mps.empty_cache()

    def _send(self, array):
        """Copy to the device; to CUDA from pinned memory, which does not wait for the copy."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.kind != 'cuda':
            return tensor.to(self.name)
        return tensor.pin_memory().to(self.name, non_blocking=True)

    def _as_recorded(self):
        """Compute in the precision that the record names, and the same bits in every run."""
        return _cuda_session() if self.kind == 'cuda' else nullcontext()


@contextmanager
def _cuda_session():
    """Have CUDA for one batch, float32 without the short mantissa that cuDNN would put for it."""
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with _CUDA_LOCK, exact:
        yield
