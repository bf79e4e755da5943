# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Which devices are there, what they compute in, and what of their errors is theirs."""


import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from astrodenoise import denoise, devices
from astrodenoise.cli import make_parser
from astrodenoise.devices import (
    PRECISIONS,
    Device,
    choose_device,
    choose_precision,
    trouble_of,
)


@pytest.fixture
def machine(monkeypatch):
    """Give a function that says what GPUs the machine has."""

    def have(*, capabilities=(), mps=False):
        def capability(device):
            return capabilities[int(device.partition(':')[2] or 0)]

        monkeypatch.setattr(torch.cuda, 'is_available', lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, 'get_device_capability', capability)
        monkeypatch.setattr(torch.mps, 'is_available', lambda: mps)

    return have


def test_auto_takes_the_fastest_that_is_there(machine):
    machine()
    assert choose_device('auto') == 'cpu'
    machine(mps=True)
    assert choose_device('auto') == 'mps'
    machine(mps=True, capabilities=[(8, 0)])
    assert choose_device('auto') == 'cuda'


def test_a_device_by_name(machine):
    machine(capabilities=[(8, 0), (7, 0)])
    for name in ('cpu', 'cuda', 'cuda:0', 'cuda:1'):
        assert choose_device(name) == name


@pytest.mark.parametrize('name', ['abacus', 'cuda:', 'cuda:first', 'cuda:-1', 'cpu:3', None])
def test_an_unknown_device(machine, name):
    machine(capabilities=[(8, 0)])
    with pytest.raises(ValueError, match='device must be one of'):
        choose_device(name)


def test_a_device_that_is_not_there(machine):
    machine(capabilities=[(8, 0)])
    for name in ('cuda:1', 'mps'):
        with pytest.raises(ValueError, match=f"'{name}' is not there on this machine"):
            choose_device(name)


def test_denoise_names_a_device_that_is_not_there(machine, rng):
    machine()
    with pytest.raises(ValueError, match="'cuda' is not there on this machine: pass device='auto'"):
        denoise(rng.normal(100, 5, (64, 64)), device='cuda')


@pytest.mark.parametrize(
    ('capability', 'precision'),
    [
        ((6, 1), 'float32'),
        ((7, 0), 'float16'),
        ((7, 5), 'float16'),
        ((8, 0), 'bfloat16'),
        ((12, 0), 'bfloat16'),
    ],
)
def test_cuda_computes_in_what_it_has_circuits_for(machine, capability, precision):
    machine(capabilities=[(1, 0), capability])
    assert choose_precision('auto', 'cuda:1') == precision
    assert choose_precision('float32', 'cuda:1') == 'float32'


def test_cuda_that_does_not_answer_gets_float32(monkeypatch):
    def capability(device):
        msg = 'CUDA unknown error - this may be due to an incorrectly set up environment'
        raise RuntimeError(msg)

    monkeypatch.setattr(torch.cuda, 'get_device_capability', capability)
    assert choose_precision('auto', 'cuda') == 'float32'


@pytest.mark.parametrize(('flag', 'precision'), [(True, 'bfloat16'), (False, 'float32')])
def test_the_processor_computes_in_what_its_flags_say(monkeypatch, flag, precision):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: flag)
    assert choose_precision('auto', 'cpu') == precision
    assert choose_precision('auto', 'mps') == 'float32'
    assert choose_precision('bfloat16', 'cpu') == 'bfloat16'


def test_a_precision_without_use():
    with pytest.raises(ValueError, match='precision must be one of'):
        choose_precision('float8', 'cpu')
    with pytest.raises(ValueError, match="'float16' is for GPUs"):
        choose_precision('float16', 'cpu')


def test_the_command_line_offers_every_precision():
    for precision in PRECISIONS:
        arguments = ['denoise', 'in.fits', '-o', 'out.fits', '--precision', precision]
        assert make_parser().parse_args(arguments).precision == precision


@pytest.mark.parametrize(
    ('error', 'trouble'),
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), 'memory'),
        (MemoryError(), 'memory'),
        (RuntimeError('MPS backend out of memory (MPS allocated: 9.06 GB)'), 'memory'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 'memory'),
        (RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling'), 'memory'),
        (torch.AcceleratorError('CUDA error: out of memory'), 'memory'),
        (RuntimeError('GET was unable to find an engine to execute this computation'), 'memory'),
        (torch.AcceleratorError('CUDA error: an illegal memory access'), 'lost'),
        (RuntimeError('CUDA error: device-side assert triggered'), 'lost'),
        (RuntimeError('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED'), 'lost'),
        (RuntimeError('HIP error: the operation cannot be performed'), 'lost'),
        (RuntimeError('Given groups=1, weight of size [16, 6, 3, 3], expected input'), None),
        (RuntimeError('Expected all tensors to be on the same device, but found cuda:0'), None),
        (ValueError('CUDA error: out of memory'), None),
    ],
)
def test_trouble_is_told_from_mistakes(error, trouble):
    assert trouble_of(error) == trouble


def test_real_errors_of_the_processor():
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 50)
    assert trouble_of(full.value) == 'memory'
    with pytest.raises(RuntimeError) as mistake:
        torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 2, 8, 8))
    assert trouble_of(mistake.value) is None


class Double(torch.nn.Module):
    """A network that gives its input, twice, and remembers in what it came."""

    dtype = torch.float32

    def shorten(self, dtype):
        self.dtype = dtype

    def forward(self, features, condition):
        self.layout = features.is_contiguous(memory_format=torch.channels_last)
        return features + condition.sum(), features


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_a_batch_goes_there_and_back(rng, precision):
    device = Device('cpu', precision)
    network = device.load(Double())
    tiles = rng.normal(size=(3, 2, 64, 64)).astype(np.float32)
    result = device.run(network, tiles, np.full((1, 4), 0.25, np.float32))
    assert_array_equal(result, np.concatenate([tiles + 1, tiles], axis=1))
    assert result.dtype == np.float32
    assert network.dtype == getattr(torch, precision)
    assert network.layout
    assert not network.training


def test_the_same_device_in_another_precision():
    device = Device('cuda:1', 'float16')
    other = device.at('float32')
    assert (other.name, other.kind, other.precision) == ('cuda:1', 'cuda', 'float32')
    assert device.precision == 'float16'


def test_cudas_float32_is_whole_and_its_flags_come_back():
    before = torch.backends.cudnn.allow_tf32
    with devices._cuda_session():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
        assert devices._CUDA_LOCK.locked()
    assert torch.backends.cudnn.allow_tf32 == before
    assert not devices._CUDA_LOCK.locked()


@pytest.mark.parametrize('name', ['cpu', 'cuda', 'mps'])
def test_only_its_own_cache_is_emptied(monkeypatch, name):
    emptied = []
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append('cuda'))
    monkeypatch.setattr(torch.mps, 'empty_cache', lambda: emptied.append('mps'))
    Device(name, 'float32').free()
    assert emptied == [name] * (name != 'cpu')


def test_tiles_go_to_cuda_from_pinned_memory(monkeypatch):
    steps = []

    class Tensor:
        def pin_memory(self):
            steps.append('pinned')
            return self

        def to(self, name, *, non_blocking=False):
            steps.append((name, non_blocking))
            return self

    monkeypatch.setattr(torch, 'from_numpy', lambda array: Tensor())
    Device('cuda:1', 'float32')._send(np.zeros(3, np.float32))
    assert steps == ['pinned', ('cuda:1', True)]
