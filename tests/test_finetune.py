# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Fine-tuning: what is accepted and what is refused, the command, its folder, its mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from dithered import DITHERS, SIDE, SIGMA, SKY, draw, noisy
from scipy import ndimage

from astrodenoise import denoise
from astrodenoise.cli import main
from astrodenoise.commands.train_command import _denoiser as denoiser
from astrodenoise.model import ModelConfig, ResUNet
from astrodenoise.training import acceptance, finetune, ownframes
from astrodenoise.training.acceptance import judge, measure_weights, simulated_stars
from astrodenoise.training.config import load_config
from astrodenoise.training.library import Scene, mixed_library
from astrodenoise.training.losses import calibration_loss
from astrodenoise.training.noise2noise import HeldOut
from astrodenoise.training.pairs import check_pair
from astrodenoise.training.tiles import scene_tiles, tile_rounds
from astrodenoise.training.validation import validate
from astrodenoise.weights import describe, load_weights, save_weights


def held_out_sky(*, seed=0, second=True):
    """Give a held-out frame with two independent means of others."""
    light = draw(seed=seed)
    frames = [noisy(light, 10 * seed + 1)[None].astype(np.float32)]
    frames += [noisy(light, 10 * seed + i, sigma=4)[None].astype(np.float32) for i in (2, 3)]
    where = np.zeros((1, SIDE, SIDE), bool)
    where[:, :, SIDE // 2 :] = True
    return HeldOut('m31', frames[0], frames[1], frames[2] if second else None, where,
                   np.array([SIGMA]))  # fmt: skip


@pytest.fixture(scope='module')
def stars():
    """Give a few simulated star fields."""
    return simulated_stars(1, n_scenes=4, size=320)


@pytest.fixture(scope='module')
def shipped(stars):
    """Give what is measured of the small shipped weights."""
    return measure_weights(denoiser('fast'), [[held_out_sky()]], stars)


# --- acceptance ----------------------------------------------------------------------------------


def test_the_same_weights_are_accepted_but_no_better(shipped, stars):
    verdict = judge(shipped, measure_weights(denoiser('fast'), [[held_out_sky()]], stars))
    assert verdict.accepted
    assert not verdict.improved
    assert all(row.change == 0 for row in verdict.rows)
    assert 'no better than before' in verdict.reason()


def test_weights_that_hardly_changed_are_accepted(shipped, stars, tmp_path):
    model = perturbed(tmp_path, 1e-3)
    verdict = judge(shipped, measure_weights(denoiser(model), [[held_out_sky()]], stars))
    assert verdict.accepted, str(verdict)
    assert any(row.change != 0 for row in verdict.rows)


def perturbed(folder, size):
    """Write the small weights with noise on them."""
    weights = load_weights('fast')
    generator = torch.Generator().manual_seed(1)
    tensors = {
        key: value + size * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        for key, value in weights.tensors.items()
    }
    path = folder / f'perturbed-{size}.safetensors'
    save_weights(path, tensors, weights.config, describe('fast'))
    return str(path)


def test_spoilt_weights_are_refused(shipped, stars, tmp_path):
    model = perturbed(tmp_path, 0.3)
    verdict = judge(shipped, measure_weights(denoiser(model), [[held_out_sky()]], stars))
    assert not verdict.accepted
    assert 'error on held-out sky' in verdict.reason()
    assert 'REFUSED' in str(verdict)


def test_weights_that_erase_faint_stars_are_refused_though_the_sky_got_smoother(shipped, stars):
    small = denoiser('fast')

    def erase(planes):
        clean = small(planes)
        light = clean - np.median(clean)
        sigma = 1.4826 * np.median(np.abs(planes - clean))
        faint = ndimage.maximum_filter(light, (0, 9, 9)) < 6 * sigma
        return np.where(faint, np.median(clean), clean)

    blank = replace(held_out_sky(), where=held_out_sky().where & (draw() < 0.1 * SIGMA))
    before = measure_weights(small, [[blank]], [])
    better = measure_weights(erase, [[blank]], [])
    after = measure_weights(erase, [[held_out_sky()]], stars)
    assert better.scores[:, 0].sum() < before.scores[:, 0].sum()
    verdict = judge(shipped, replace(after, scores=shipped.scores))
    assert not verdict.accepted
    assert any('simulated stars' in row.label for row in verdict.refused)
    assert 'light left of simulated stars' in verdict.reason()


@pytest.mark.parametrize('second', [True, False])
def test_the_score_is_the_power_of_the_error(second, rng):
    one = held_out_sky(second=second)
    truth = (SKY + draw())[None]
    error = 0.5 * SIGMA * rng.normal(size=truth.shape)
    measured = measure_weights(lambda _: truth + error, [[one]], [])
    score = measured.scores[:, 0].sum() / measured.scores[:, 2].sum() - measured.own
    assert score == pytest.approx(0.25, abs=0.03)
    noise = measured.scores[:, 1].sum() / measured.scores[:, 2].sum() - measured.own
    assert noise == pytest.approx(1, abs=0.06)
    assert measured.own == pytest.approx(0 if second else 0.16, abs=0.05)


def test_simulated_stars_are_the_same_for_every_call():
    first, second = (simulated_stars(3, n_scenes=1, size=128) for _ in range(2))
    assert len(first[0]) == 3
    for a, b in zip(first[0], second[0], strict=True):
        assert torch.equal(a.noisy, b.noisy)


def test_a_kind_without_noise_tells_no_gain():
    tiles = scene_tiles(Scene('blank', np.zeros((1, 64, 64), np.float32)), 1, tile_size=64)
    silent = replace(tiles, target=torch.zeros_like(tiles.target))
    network = ResUNet(ModelConfig(widths=(4, 4), blocks=(1, 1))).eval()
    gains = validate(network, {'stars': tiles, 'blank': silent})
    assert set(gains) == {'stars', 'mean', 'calibration'}


# --- the stream ----------------------------------------------------------------------------------


def test_the_frames_make_up_their_share_of_the_tiles(rng):
    noise = rng.normal(0, 1, (1, 64, 64)).astype(np.float32)
    real = Scene('m31', np.zeros_like(noise), noisy=noise, valid=noise < 9, own=0.3)
    simulated = [Scene('blank', np.zeros((1, 128, 128), np.float32)) for _ in range(3)]
    rounds = tile_rounds(
        [real, *simulated], 1, tile_size=32, real_share=0.7, pair_share=1.0, round_scenes=200
    )
    assert float((next(rounds).own > 0).float().mean()) == pytest.approx(0.7, abs=0.1)


def test_the_noise_of_a_target_is_no_error_of_the_network():
    generator = torch.Generator().manual_seed(2)
    error = 0.5 * torch.randn((1, 1, 300, 300), generator=generator)
    error = error + 0.8 * torch.randn((1, 1, 300, 300), generator=generator)
    one = torch.ones_like(error)
    losses = {
        s: float(calibration_loss(np.log(s) * one, error, one, torch.full((1, 1, 1, 1), 0.64)))
        for s in (0.4, 0.45, 0.5, 0.55, 0.6)
    }
    assert min(losses, key=losses.get) == 0.5


def test_other_exposures_have_noise_of_their_own():
    light = draw()
    pair = check_pair(noisy(light, 1), noisy(light, 2, sigma=8), noise2noise=True)
    assert pair.own == pytest.approx(0.64, abs=0.05)
    pair = check_pair(noisy(light, 1), noisy(light, 2, sigma=2))
    assert pair.own == pytest.approx(0.04, abs=0.01)
    config = load_config('smoke')
    config = replace(config, data=replace(config.data, scenes=1, validation_scenes=1))
    library = mixed_library(config, [pair])
    assert [scene.own for scene in library.scenes] == [0.0, pair.own]
    assert all(scene.noisy is None for scene in library.held_out)


def write_pair(folder, name, seed, planes=1):
    for side, sigma in (('noisy', SIGMA), ('clean', 2)):
        (folder / side).mkdir(exist_ok=True)
        light = draw(seed=seed)
        own = seed + int(sigma)
        data = np.stack([noisy(light, own + 100 * i, sigma=sigma) for i in range(planes)])
        fits.writeto(folder / side / f'{name}.fits', np.squeeze(data).astype(np.float32))


def test_few_pairs_keep_a_part_back_many_keep_whole_ones(tmp_path, monkeypatch):
    for seed in range(2):
        write_pair(tmp_path, f'm{seed}', seed)
    material = ownframes.read_material(pairs=tmp_path)
    assert [pair.noisy.shape[2] for pair in material.pairs] == [SIDE * 3 // 4] * 2
    for (held,) in material.held_out:
        assert not held.where[..., : SIDE * 3 // 4 + 8].any()
        assert held.where.any()
    monkeypatch.setattr(ownframes, 'MANY_PAIRS', 2)
    material = ownframes.read_material(pairs=tmp_path)
    assert [pair.noisy.shape[2] for pair in material.pairs] == [SIDE]
    ((held,),) = material.held_out
    assert held.where.mean() > 0.9
    assert held.name not in [pair.name for pair in material.pairs]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def exposures(tmp_path_factory):
    """Give a folder of dithered exposures."""
    folder = tmp_path_factory.mktemp('frames') / 'm31'
    folder.mkdir()
    for number, shift in enumerate(DITHERS[:3]):
        data = noisy(draw(shift=shift), number).astype(np.float32)
        fits.writeto(folder / f'{number}.fits', data)
    return folder


@pytest.fixture
def small(monkeypatch):
    """Make fine-tuning as small as it can be."""
    for name, value in (('N_SIMULATED', 2), ('N_VALIDATION', 1), ('N_CALIBRATION', 0),
                        ('BATCH', 4), ('TILE', 64), ('RATE', 1e-6)):  # fmt: skip
        monkeypatch.setattr(finetune, name, value)
    monkeypatch.setattr(acceptance, 'N_SCENES', 1)
    monkeypatch.setattr(acceptance, 'SCENE_SIZE', 192)


def tune(*arguments):
    return main(['train', '--from', 'fast', '--steps', '2', *map(str, arguments)])


def test_exposures_give_weights_that_denoise(tmp_path, exposures, small, capsys):
    folder = tmp_path / 'mine'
    assert tune('--exposures', exposures, '-o', folder, '--licence', 'CC0') == 0
    output = capsys.readouterr().out
    assert f'{folder / "mine.safetensors"}: after 2 steps, accepted: error on held-out' in output
    card = describe(folder / 'mine.safetensors')
    assert card['name'] == 'mine'
    assert card['base']['name'] == 'fast'
    assert card['base']['sha256'] == describe('fast')['sha256']
    assert card['fine_tuned_on']['frames'] == ['m31/0', 'm31/1', 'm31/2']
    assert card['licence'] == 'CC0'
    assert card['licences'] == {
        'frames': 'CC0', 'weights that were started from': describe('fast')['licence']
    }  # fmt: skip
    assert card['calibration'] == describe('fast')['calibration']
    assert card['metrics']['fine-tuning']['accepted'] is True
    numbers = json.loads((folder / 'acceptance.json').read_text())
    assert numbers['figures'][0]['label'] == 'error on held-out sky'
    frame = noisy(draw(), 9)
    clean = denoise(frame, model=str(folder / 'mine.safetensors'))
    assert np.std(clean - SKY - draw()) < 0.5 * SIGMA
    assert (folder / 'before_after.png').read_bytes().startswith(b'\x89PNG')
    left = {path.name for path in folder.iterdir()}
    assert not [name for name in left if name.startswith(('candidate', '.'))]

    # it goes on, with the same frames alone
    assert main(['train', '--from', 'fast', '--steps', '3', '--exposures', str(exposures), '-o',
                 str(folder), '--resume']) == 0  # fmt: skip
    assert 'after 3 steps' in capsys.readouterr().out
    assert describe(folder / 'mine.safetensors')['version'].endswith('+3')
    other = tmp_path / 'm31'
    other.mkdir()
    for number in range(2):
        (other / f'{number}.fits').symlink_to(exposures / f'{number}.fits')
    assert tune('--exposures', other, '-o', folder, '--resume') == 1
    assert 'is of other frames' in capsys.readouterr().err


def test_refused_weights_bear_another_name_and_nothing_is_lost(
    tmp_path, exposures, small, capsys, monkeypatch
):
    monkeypatch.setattr(finetune, 'RATE', 0.02)
    monkeypatch.setattr(finetune, 'WARMUP', 0)
    folder = tmp_path / 'spoilt'
    assert tune('--exposures', exposures, '-o', folder) == 1
    captured = capsys.readouterr()
    assert 'refused: error on held-out sky' in captured.out
    assert captured.err.splitlines()[-1].endswith(
        'the new weights are refused; the training is kept: go on with --resume, or give more '
        'frames'
    )
    names = {path.name for path in folder.iterdir()}
    assert {'spoilt.safetensors.rejected', 'spoilt.json.rejected', 'checkpoint.npz'} <= names
    assert 'spoilt.safetensors' not in names
    for suffix in ('safetensors', 'json'):
        (folder / f'spoilt.{suffix}.rejected').rename(folder / f'meant.{suffix}')
    assert load_weights(folder / 'meant.safetensors').name == 'spoilt'


def test_pairs_in_colour_start_from_the_colour_weights(tmp_path, small, capsys):
    (tmp_path / 'pairs').mkdir()
    write_pair(tmp_path / 'pairs', 'm31', 0, planes=3)
    arguments = ['--pairs', tmp_path / 'pairs', '-o', tmp_path / 'colour']
    assert tune(*arguments) == 0
    card = describe(tmp_path / 'colour' / 'colour.safetensors')
    assert card['base']['name'] == 'fast_colour'
    assert card['fine_tuned_on']['kind'] == 'pairs'
    capsys.readouterr()
    assert main(['train', '--from', 'mono', *map(str, arguments[:3]), str(tmp_path / 'b')]) == 1
    assert 'the frames have 3 planes' in capsys.readouterr().err


def test_exposures_that_did_not_move_end_the_command_in_one_line(tmp_path, small, capsys):
    folder = tmp_path / 'frames'
    folder.mkdir()
    for number in range(2):
        data = noisy(draw(shift=(0.3 * number, 1.0 * number)), number).astype(np.float32)
        fits.writeto(folder / f'{number}.fits', data)
    assert tune('--exposures', folder, '-o', tmp_path / 'x') == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'moved by at most 1.0 px against each other (measured' in line
    assert not (tmp_path / 'x' / 'checkpoint.npz').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'give CONFIG, or --pairs DIR or --exposures DIR'),
        (['smoke', '--pairs', 'x'], 'contradict each other'),
        (['smoke', '--from', 'mono'], 'contradict each other'),
        (['--from', 'default', '-o', 'x'], '--from needs frames'),
        (['--pairs', 'a', '--exposures', 'b', '-o', 'x'], 'not allowed with'),
        (['--pairs', 'a'], 'needs -o DIR'),
        (['--pairs', 'a', '-o', 'x', '--pack', 'p'], '--pack goes with CONFIG'),
        (['--pairs', 'a', '-o', 'none/x'], 'there is no folder none'),
        (['--pairs', 'a', '-o', 'x', '--steps', '0'], 'must be at least 1'),
        (['--pairs', 'a', '-o', 'x', '--time-limit', 'soon'], 'must be a time'),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments, message, capsys):
    assert main(['train', *arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_folder_with_a_checkpoint_is_not_overwritten(tmp_path, capsys):
    (tmp_path / 'checkpoint.npz').write_bytes(b'x')
    assert tune('--exposures', tmp_path, '-o', tmp_path) == 1
    assert 'holds a checkpoint: resume it' in capsys.readouterr().err
    assert tune('--exposures', tmp_path, '-o', tmp_path / 'new', '--resume') == 1
    assert 'there is no checkpoint' in capsys.readouterr().err
    assert tune('--exposures', tmp_path / 'none', '-o', tmp_path / 'new') == 1
    assert 'there is no folder' in capsys.readouterr().err
