# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The ResUNet keeps its budgets and sees nothing but its tile."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from astrodenoise.features import N_CONDITION, N_FEATURES
from astrodenoise.model import ModelConfig, ResUNet
from astrodenoise.training.config import load_config

SMALL = ModelConfig(widths=(8, 16, 16), blocks=(1, 1, 1))


def random_network(config, seed=0):
    """Make a network whose every weight is random, so that nothing is the identity."""
    torch.manual_seed(seed)
    network = ResUNet(config).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(0, 0.08)
    return network


@pytest.mark.parametrize('planes', [1, 3])
def test_shapes(planes):
    config = ModelConfig(planes=planes, widths=(8, 16, 16), blocks=(1, 1, 1))
    network = random_network(config)
    r, log_s = network(
        torch.randn(2, planes * N_FEATURES, 32, 64), torch.zeros(2, planes * N_CONDITION)
    )
    assert r.shape == log_s.shape == (2, planes, 32, 64)
    assert r.dtype == log_s.dtype == torch.float32


def test_default_stays_within_its_budget():
    config = load_config('default').model
    network = ResUNet(config)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, N_FEATURES, 256, 256), torch.zeros(1, N_CONDITION))
    assert counter.get_total_flops() <= 16e9
    assert sum(value.numel() for value in network.parameters()) <= 6e6
    assert config.features == N_FEATURES
    assert config.condition == N_CONDITION


def test_tiles_of_a_batch_do_not_see_each_other():
    network = random_network(SMALL)
    tiles, condition = torch.randn(3, N_FEATURES, 32, 32), torch.randn(3, N_CONDITION)
    together = network(tiles, condition)[0]
    alone = network(tiles[1:2], condition[1:2])[0]
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-6)


def test_every_input_and_the_condition_matter():
    network = random_network(SMALL)
    tiles = torch.randn(1, N_FEATURES, 32, 32, requires_grad=True)
    condition = torch.randn(1, N_CONDITION, requires_grad=True)
    r, log_s = network(tiles, condition)
    (r.sum() + log_s.sum()).backward()
    assert (tiles.grad.abs().sum(dim=(0, 2, 3)) > 0).all()
    assert (condition.grad.abs() > 0).all()


def test_bfloat16_leaves_first_and_last_convolution_in_float32():
    network = random_network(SMALL)
    seen = {}
    for name in ('first', 'last', 'bottleneck'):
        getattr(network, name).register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(name, out.dtype)
        )
    with torch.autocast('cpu', torch.bfloat16):
        network(torch.randn(1, N_FEATURES, 32, 32), torch.zeros(1, N_CONDITION))
    assert seen['first'] == seen['last'] == torch.float32


def test_no_layer_sums_over_a_batch_or_over_space():
    allowed = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    leaves = [m for m in random_network(SMALL).modules() if not list(m.children())]
    assert all(isinstance(leaf, allowed) for leaf in leaves)


@pytest.mark.parametrize(
    'wrong',
    [{'widths': (8,), 'blocks': (1,)}, {'widths': (8, 8)}, {'planes': 0}, {'condition': -1}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r'length|positive'):
        ModelConfig(**wrong)


def test_configuration_round_trip():
    assert ModelConfig(**SMALL.to_dict()) == SMALL
    assert SMALL.stride == 4


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_shortened_networks_keep_their_ends(dtype):
    network = ResUNet(ModelConfig(widths=(8, 16), blocks=(1, 1)))
    network.shorten(dtype)
    kinds = {name: module.weight.dtype for name, module in network.named_modules()
             if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)}  # fmt: skip
    ends = {name for name, kind in kinds.items() if kind == torch.float32}
    assert ends == {'first', 'last'}
    assert set(kinds.values()) == {torch.float32, dtype}
