# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Weights are data: verified, described, never run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from astrodenoise import denoise, read_provenance, weights
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


# --- cards and files that are not what they should be ---------------------------------------------

WIDE = {**SMALL.to_dict(), 'widths': [10**9, 10**9]}
BILLION = {**SMALL.to_dict(), 'widths': [4096, 4096], 'blocks': [4, 4]}


def one_line(error):
    """Give an error's text, which may have one line and no more than a terminal shows."""
    text = str(error.value)
    assert '\n' not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'name': 3}, 'name is 3, not a text'),
        ({'name': ''}, 'name is'),
        ({'name': 'x' * 10**5}, 'name is'),
        ({'name': 'a\x1b[2Jb'}, 'name is .* not a text that can be printed'),
        ({'training': {'notes': ['a\rb']}}, 'training.notes is'),
        ({'version': 1}, 'version is 1, not a text'),
        ({'licence': None}, 'licence is None'),
        ({'sha256': 'abc'}, 'sha256 is'),
        ({'sha256': 'G' * 64}, 'sha256 is'),
        ({'training': []}, r'training is \[\], not a table'),
        ({'metrics': 'good'}, 'metrics is'),
        ({'parameters': 1.5}, 'parameters is 1.5, not a whole number'),
        ({'parameters': True}, 'parameters is True'),
        ({'calibration': [1]}, 'calibration is'),
        ({'trained_range': 7}, 'trained_range is'),
        ({'architecture': None}, 'architecture is None'),
        ({'architecture': {'kind': 'transformer'}}, r"unknown entries \['kind'\]"),
        ({'architecture': {}}, 'architecture.widths is None'),
        ({'architecture': WIDE}, 'architecture.widths is'),
        ({'architecture': BILLION}, 'parameters; at most 100000000'),
        ({'architecture': {**WIDE, 'widths': [8] * 8, 'blocks': [1] * 8}}, 'architecture.widths'),
        ({'architecture': {**WIDE, 'widths': '88'}}, 'architecture.widths'),
        ({'architecture': {**WIDE, 'widths': [8, 16.0]}}, 'architecture.widths'),
        ({'architecture': {**WIDE, 'widths': [8, True]}}, 'architecture.widths'),
        ({'architecture': {**SMALL.to_dict(), 'blocks': [1, 10**6]}}, 'architecture.blocks'),
        ({'architecture': {**SMALL.to_dict(), 'blocks': [1, 1, 1]}}, 'as long as'),
        ({'architecture': {**SMALL.to_dict(), 'planes': 0}}, 'architecture.planes is 0'),
        ({'architecture': {**SMALL.to_dict(), 'planes': 10**9}}, 'architecture.planes'),
        ({'architecture': {**SMALL.to_dict(), 'features': -1}}, 'architecture.features'),
        ({'architecture': {**SMALL.to_dict(), 'condition': '6'}}, 'architecture.condition'),
    ],
)
def test_an_entry_of_a_card_that_cannot_be_is_named(small, monkeypatch, changes, said):
    """Before the weights are read, so that no memory is taken for a network that cannot be."""
    change_card(small, **changes)
    monkeypatch.setattr(weights, '_verified', None)
    for read in (describe, load_weights):
        with pytest.raises(WeightsError, match=said) as error:
            read(small)
        one_line(error)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{"name": NaN}', 'NaN is no number'),
        ('{"name": -Infinity}', '-Infinity is no number'),
        ('{"name": "a", "name": "b"}', r"\['name'\] stand in it twice"),
        ('{"training": {"steps": 1, "steps": 2}}', r"\['steps'\] stand in it twice"),
        ('[' * 10**5, 'cannot be read'),
        ('{"a":' * 10**5, 'cannot be read'),
        ('{"name": ' + '9' * 5000 + '}', 'cannot be read'),
        (' ' * 2**21, 'more than 1048576 bytes'),
        ('null', 'lacks'),
        ('[]', 'lacks'),
        ('"x"', 'lacks'),
        ('', 'cannot be read'),
        ('\ud800', 'cannot be read'),
    ],
    ids=range(13),
)
def test_text_that_is_no_card_is_refused_in_one_line(small, text, said):
    small.with_suffix('.json').write_bytes(text.encode('utf-8', 'surrogatepass'))
    with pytest.raises(WeightsError, match=said) as error:
        load_weights(small)
    one_line(error)


def test_numbers_that_overflow_and_entries_in_entries_are_refused(small):
    path = small.with_suffix('.json')
    sound = path.read_text()
    path.write_text(sound.replace('"metrics": {}', '"metrics": {"gain": 1e999}'))
    with pytest.raises(WeightsError, match=r'metrics\.gain is inf, not a finite number'):
        load_weights(small)
    path.write_text(sound.replace('"metrics": {}', '"metrics": ' + '{"a":' * 40 + '1' + '}' * 40))
    with pytest.raises(WeightsError, match='no deeper'):
        load_weights(small)


@pytest.mark.parametrize('suffix', ['.pt', '.pth', '.ckpt', '.pkl', '.bin'])
def test_pickles_are_refused_by_name_and_never_opened(tmp_path, suffix, capsys):
    trap = tmp_path / 'ran'
    path = tmp_path / f'evil{suffix}'
    torch.save({'weights': Trap(trap)}, path)
    for read in (describe, load_weights, lambda name: load_engine(name, 'cpu', 'float32')):
        with pytest.raises(WeightsError, match='never read here') as error:
            read(path)
        one_line(error)
    assert not trap.exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def rewrite(path, content):
    """Change the weights and let the card say so, as who means harm would."""
    path.write_bytes(content)
    change_card(path, sha256=weights.hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content[:4],
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: content + b'x',
        lambda content: b'',
        lambda content: (2**63).to_bytes(8, 'little') + content[8:],
        lambda content: (2**64 - 1).to_bytes(8, 'little') + content[8:],
        lambda content: (200_000_000).to_bytes(8, 'little') + content[8:],
        lambda content: (10**5).to_bytes(8, 'little') + b'{' * 10**5 + content,
        lambda content: (10**5).to_bytes(8, 'little') + b'[' * 10**5 + content,
        lambda content: content.replace(b'"F32"', b'"F99"'),
        lambda content: content.replace(b'"shape":[8', b'"shape":[9'),
        lambda content: content[:8] + b'\xff' * 40 + content[48:],
        lambda content: b'\x80\x04cposix\nsystem\n' + content,
        lambda content: b'PK\x03\x04' + content,
    ],
    ids=range(15),
)
def test_damaged_headers_are_refused_in_one_line(small, damage):
    rewrite(small, damage(small.read_bytes()))
    with pytest.raises(WeightsError, match=r'damaged|does not fit') as error:
        load_weights(small)
    one_line(error)


@pytest.mark.parametrize('suffix', ['.safetensors', '.json'])
def test_links_are_refused_in_one_line(small, suffix):
    path = small.with_suffix(suffix)
    path.rename(path.with_name(f'real{suffix}'))
    path.symlink_to(f'real{suffix}')
    with pytest.raises(WeightsError, match='is a symbolic link') as error:
        load_weights(small)
    one_line(error)


def test_a_file_larger_than_any_network_is_not_read(small, monkeypatch):
    with small.open('r+b') as file:
        file.truncate(8 * weights.MAX_PARAMETERS + 1)  # a hole, which takes no disk
    monkeypatch.setattr(Path, 'read_bytes', None)
    with pytest.raises(WeightsError, match='bytes; at most'):
        load_weights(small)


def test_whole_numbers_are_no_weights(small):
    tensors = load_file(small)
    tensors['last.bias'] = tensors['last.bias'].int()
    save_weights(small, tensors, SMALL, CARD)
    with pytest.raises(WeightsError, match=r'last\.bias is torch\.int32'):
        load_weights(small)


def test_what_could_not_be_measured_is_written_as_null(small):
    card = CARD | {'metrics': {'gain': float('nan'), 'all': [1.0, float('inf')]}}
    save_weights(small, load_file(small), SMALL, card)
    assert describe(small)['metrics'] == {'gain': None, 'all': [1.0, None]}


def test_a_card_that_could_not_be_read_is_not_written(small):
    before = small.with_suffix('.json').read_bytes()
    with pytest.raises(ValueError, match='version is 7'):
        save_weights(small, load_file(small), SMALL, CARD | {'version': 7})
    assert small.with_suffix('.json').read_bytes() == before


@pytest.mark.parametrize('name', list_models())
def test_shipped_weights_that_were_changed_are_refused(tmp_path, monkeypatch, name):
    for suffix in ('.safetensors', '.json'):
        shutil.copy(FOLDER / f'{name}{suffix}', tmp_path)
    monkeypatch.setattr(weights, 'FOLDER', tmp_path)
    load_weights(name)
    path = tmp_path / f'{name}.safetensors'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match='SHA-256'):
        load_weights(name)


def test_the_record_names_a_file_of_ones_own(small):
    frame = CCDData(np.random.default_rng(0).normal(100, 5, (96, 96)), unit='adu')
    clean = denoise(frame, model=small, tile_size=64, limit=None)
    record = read_provenance(clean.meta)
    assert (record['model'], record['weights']) == ('small', describe(small)['sha256'][:12])


def test_a_file_that_claims_to_be_a_shipped_model_goes_by_its_own_name(small, tmp_path):
    change_card(small, name='mono')
    assert load_weights(small).name == 'small.safetensors'
    for suffix in ('.safetensors', '.json'):
        shutil.copy(FOLDER / f'fast{suffix}', tmp_path / f'copy{suffix}')
    assert load_weights(tmp_path / 'copy.safetensors').name == 'fast'  # it is


def test_the_cards_say_with_what_they_were_made():
    """What is known of the shipped ones; `export_weights` adds the commit and more from now on."""
    for name in list_models():
        card = describe(name)
        assert {'astrodenoise', 'numpy', 'python', 'scipy', 'torch'} <= set(card['versions'])
        training = card['training']
        assert {'data', 'noise', 'loss', 'optimiser', 'start', 'steps', 'tiles'} <= set(training)
        assert isinstance(training['data']['seed'], int)
