# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Weights are data: verified, described, never run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from astrodenoise import weights
from astrodenoise.engine import load_engine
from astrodenoise.exceptions import WeightsError
from astrodenoise.model import ModelConfig, ResUNet
from astrodenoise.weights import FOLDER, describe, list_models, load_weights, save_weights

CARD = {'name': 'small', 'version': '1', 'licence': 'x', 'training': {}, 'metrics': {}}
SMALL = ModelConfig(widths=(8, 16), blocks=(1, 1))


@pytest.fixture
def small(tmp_path):
    """Write the weights of a small network."""
    path = tmp_path / 'small.safetensors'
    save_weights(path, ResUNet(SMALL).state_dict(), SMALL, CARD)
    return path


def change_card(path, **changes):
    """Change a card."""
    card = json.loads(path.with_suffix('.json').read_text())
    card.update(changes)
    path.with_suffix('.json').write_text(json.dumps(card))


@pytest.mark.parametrize('name', list_models())
def test_shipped_weights_are_sound(name):
    loaded, card = load_weights(name), describe(name)
    assert loaded.name == name
    assert card['licence']
    assert card['training']['scenes']
    assert card['bytes'] <= 12e6
    assert sum(value.numel() for value in loaded.tensors.values()) == card['parameters'] <= 6e6


def test_mono_is_shipped_and_nothing_but_data():
    assert 'mono' in list_models()
    assert {path.suffix for path in FOLDER.iterdir()} <= {'.safetensors', '.json'}


def test_a_file_of_ones_own(small):
    loaded = load_weights(small)
    assert loaded.config == SMALL
    assert loaded.sha256 == describe(small)['sha256']
    assert all(value.dtype == torch.float32 for value in loaded.tensors.values())


def test_changed_weights_are_refused(small):
    content = bytearray(small.read_bytes())
    content[-1] ^= 1
    small.write_bytes(content)
    with pytest.raises(WeightsError, match='SHA-256'):
        load_weights(small)


def test_missing_files_are_named(small):
    small.unlink()
    with pytest.raises(WeightsError, match='missing'):
        load_weights(small)
    small.with_suffix('.json').unlink()
    with pytest.raises(WeightsError, match='cannot be read'):
        load_weights(small)


@pytest.mark.parametrize('name', ['../mono', 'nothing', ''])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(WeightsError, match='mono'):
        load_weights(name)


def test_a_card_that_lacks_entries(small):
    small.with_suffix('.json').write_text('{"name": "small"}')
    with pytest.raises(WeightsError, match='lacks'):
        load_weights(small)
    small.with_suffix('.json').write_text('no json')
    with pytest.raises(WeightsError, match='cannot be read'):
        load_weights(small)
    with pytest.raises(ValueError, match='lacks'):
        save_weights(small, {}, SMALL, {'name': 'x'})


def test_tensors_of_another_network(small):
    change_card(small, architecture={**SMALL.to_dict(), 'widths': [8, 8]})
    with pytest.raises(WeightsError, match='does not fit'):
        load_weights(small)
    change_card(small, architecture={'depth': 3})
    with pytest.raises(WeightsError, match='damaged'):
        load_weights(small)


def test_values_that_are_no_numbers(small):
    tensors = load_file(small)
    tensors['last.bias'][0] = float('nan')
    save_weights(small, tensors, SMALL, CARD)
    with pytest.raises(WeightsError, match='finite'):
        load_weights(small)


def test_a_pickle_is_never_read(small):
    torch.save({'evil': 1}, small)
    change_card(small, sha256=weights.hashlib.sha256(small.read_bytes()).hexdigest())
    with pytest.raises(WeightsError, match='damaged'):
        load_weights(small)


def test_a_network_is_loaded_once(small, monkeypatch):
    first = load_engine(small, 'cpu', 'float32')
    shutil.rmtree(small.parent)
    assert load_engine(small, 'cpu', 'float32') is first


def test_half_precision_files_are_read_as_float32(small):
    tensors = {key: value.half() for key, value in load_file(small).items()}
    save_weights(small, tensors, SMALL, CARD)
    assert load_weights(small).tensors['first.weight'].dtype == torch.float32


@pytest.mark.parametrize(
    ('name', 'gflop', 'megabytes'), [('mono', 16, 12), ('fast', 4, 3), ('fast_colour', 4, 3)]
)
def test_shipped_models_keep_to_their_budgets(name, gflop, megabytes):
    """Work of a tile of 256 px, two operations for each multiplication with its addition."""
    weights = load_weights(name)
    network, config = ResUNet(weights.config), weights.config
    tile = torch.zeros(1, config.planes * config.features, 256, 256)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(tile, torch.zeros(1, config.planes * config.condition))
    assert counter.get_total_flops() <= gflop * 1e9
    assert describe(name)['bytes'] <= megabytes * 1e6
    assert describe(name)['parameters'] <= 6e6
