# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Scenes, synthetic noise, tiles, losses and the loop."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.estimate import fine_scale_sigma
from astrodenoise.training import material, trainer
from astrodenoise.training.config import load_config
from astrodenoise.training.export import export_weights
from astrodenoise.training.losses import calibration_loss, residual_loss
from astrodenoise.training.scenes import KINDS, PointSpread, add_stars, draw_scene
from astrodenoise.training.synthesis import NoiseRanges, correlation_kernel, observe
from astrodenoise.training.tiles import (
    VALIDATION_SEED,
    Scene,
    scene_library,
    scene_tiles,
    split_by_scene,
    tile_rounds,
)
from astrodenoise.training.trainer import learning_rate, train
from astrodenoise.weights import load_weights
from helpers import run_python

QUIET = NoiseRanges(
    exposure=(1, 1), shot=0, correlated=0, banding=0, blotches=0, depth=0, low_noise=0, stretched=0,
    quantised=0, saturated=0, masked=0, planes=0, told=0,
)  # fmt: skip


# --- scenes --------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
def test_scenes_are_finite_and_the_same_for_a_seed(kind):
    one, two = (draw_scene(np.random.default_rng(4), (96, 128), kind) for _ in range(2))
    assert one.shape == (96, 128)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert_array_equal(one, two)
    assert kind == 'blank' or one.max() > 0.3


def test_unknown_kinds_are_refused(rng):
    with pytest.raises(ValueError, match='kind must be one of'):
        draw_scene(rng, (64, 64), 'planet')


@pytest.mark.parametrize('seed', range(4))
def test_stars_keep_their_flux_and_width(seed):
    psf = PointSpread(np.random.default_rng(seed))
    psf.spikes = 0
    image = np.zeros((121, 121))
    add_stars(image, psf, np.array([60.3]), np.array([59.6]), np.array([1e6]))
    wings = (1 + (40 / psf.alpha) ** 2) ** (1 - psf.beta)  # Moffat light beyond 40 px
    assert abs(image.sum() / 1e6 - 1) < wings + 0.05
    assert image.argmax() in (60 * 121 + 60, 60 * 121 + 59, 61 * 121 + 60)


# --- noise ---------------------------------------------------------------------------------------


def observed(seed, **changes):
    """Observe a flat scene with one kind of noise switched on."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    clean = torch.zeros(256, 256)
    return observe(clean, rng, generator, ranges=replace(QUIET, **changes))


def test_plain_noise_is_white_of_unit_rms():
    seen = observed(1)
    noise = (seen.noisy - seen.clean).numpy()
    assert abs(noise.std() - 1) < 0.02
    assert abs(np.mean(noise[1:] * noise[:-1])) < 0.02


@pytest.mark.parametrize(
    'changes',
    [
        {'shot': 1.0, 'shot_gain': (0.2, 0.2)},
        {'shot': 1.0, 'shot_gain': (0.01, 0.01)},
        {'correlated': 1.0},
        {'banding': 1.0},
        {'blotches': 1.0},
        {'depth': 1.0},
        {'quantised': 1.0},
        {'stretched': 1.0},
        {'planes': 1.0},
    ],
)
@pytest.mark.parametrize('seed', [2, 3])
def test_sigma_is_the_rms_of_the_noise(changes, seed):
    seen = observed(seed, **changes)
    unit = ((seen.noisy - seen.clean) / seen.sigma).numpy()
    assert abs(unit.std() - 1) < 0.12
    assert abs(unit.mean()) < 0.1


def test_photon_noise_grows_with_the_signal():
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    clean = torch.zeros(256, 256)
    clean[:, 128:] = 100
    seen = observe(clean, rng, generator, ranges=replace(QUIET, shot=1, shot_gain=(0.05, 0.05)))
    noise = seen.noisy - seen.clean
    assert float(noise[:, 128:].std() / noise[:, :128].std()) == pytest.approx(np.sqrt(6), rel=0.05)


def test_low_noise_variants_teach_to_leave_clean_tiles_alone():
    seen = observed(5, low_noise=1.0)
    assert float((seen.noisy - seen.clean).std()) <= 0.52
    assert seen.told


def test_bad_and_saturated_pixels_are_marked():
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    clean = torch.full((128, 128), 1e5)
    seen = observe(clean, rng, generator, ranges=replace(QUIET, saturated=1.0))
    assert not seen.valid.any()
    assert not observed(7, masked=1.0).valid.all()


@pytest.mark.parametrize('seed', range(8))
def test_kernels_keep_the_rms(seed):
    kernel = correlation_kernel(np.random.default_rng(seed))
    assert_allclose(np.sum(kernel**2), 1, rtol=1e-5)


# --- tiles ---------------------------------------------------------------------------------------


def test_tiles_are_a_function_of_the_seed():
    scene = Scene('x', draw_scene(np.random.default_rng(1), (160, 160), 'stars'))
    one, two = (scene_tiles(scene, (5, 6), tile_size=64) for _ in range(2))
    assert len(one) == 4
    for name in ('features', 'condition', 'target', 'weight'):
        assert_array_equal(getattr(one, name), getattr(two, name))


def test_target_is_the_noise_in_units_of_the_sigma_that_is_told():
    scene = Scene('x', np.zeros((256, 256), np.float32))
    tiles = scene_tiles(scene, 3, tile_size=128, ranges=QUIET)
    assert abs(float(tiles.target.std()) - 1) < 0.03
    contrast = tiles.features[:, 1] / 0.25  # of a blank frame: the noise less its local mean
    assert np.corrcoef(contrast.ravel(), tiles.target.ravel())[0, 1] > 0.99


def test_rounds_start_anywhere():
    library = scene_library(3, size=128, seed=2)
    rounds = tile_rounds(library, 9, round_scenes=2, tile_size=64)
    next(rounds)
    second = next(rounds)
    again = next(tile_rounds(library, 9, start=1, round_scenes=2, tile_size=64))
    assert_array_equal(second.target, again.target)


def test_split_is_by_object_and_about_one_in_five():
    names = [f'object {n}' for n in range(2000)]
    held_out = [split_by_scene(name) for name in names]
    assert 0.17 < np.mean(held_out) < 0.23
    assert held_out == [split_by_scene(name) for name in names]
    library = scene_library(1, size=64, material=[(n, np.zeros((64, 64))) for n in names[:50]])
    assert not any(split_by_scene(scene.name) for scene in library[1:])


def test_validation_scenes_are_never_trained_on():
    trained = {scene.name for scene in scene_library(4, size=64, seed=1)}
    assert trained.isdisjoint(
        scene.name for scene in scene_library(4, size=64, seed=VALIDATION_SEED + 1)
    )


# --- real material -------------------------------------------------------------------------------


def test_pictures_that_are_clipped_are_left_out(tmp_path, rng):
    image_module = pytest.importorskip('PIL.Image')
    folder = tmp_path / 'pictures'
    folder.mkdir()
    y, x = np.mgrid[:600, :600]
    glow = 60 + 120 * np.exp(-((y - 300) ** 2 + (x - 300) ** 2) / 2 / 90**2)
    good = np.stack([glow + rng.normal(0, 1.5, glow.shape) for _ in range(3)], axis=-1)
    clipped = np.where(y[..., None] < 300, 0, good)
    for name, pixels in (('good.jpg', good), ('clipped.jpg', clipped)):
        image_module.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=97)
    scenes, passed = material.load_material(tmp_path)
    assert {name for name, _ in scenes} == {'good.jpg'}
    assert passed['pictures'] == len(scenes)
    scene = scenes[0][1]
    # its own noise is at most a fifth of the unit that is added
    assert fine_scale_sigma(scene) < 0.25
    assert scene.max() > 3


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder'):
        material.load_material(tmp_path / 'nothing')


def test_shared_frames_pass(shared_data):
    scenes, passed = material.load_material(shared_data / 'train')
    assert passed['pictures'] > 20
    assert all(np.isfinite(scene).all() for _, scene in scenes)
    assert not any(name.startswith(material.PLATES) for name, _ in scenes)


# --- losses --------------------------------------------------------------------------------------


def test_residual_loss_is_the_mean_square_over_what_counts():
    target = torch.zeros(1, 1, 2, 2)
    weight = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    r = torch.tensor([[[[1.0, 2.0], [0.0, 100.0]]]])
    assert float(residual_loss(r, target, weight)) == pytest.approx(5 / 3)
    assert float(residual_loss(r, target, torch.zeros_like(r))) == 0


def test_calibration_loss_is_least_where_s_is_the_rms_error():
    torch.manual_seed(0)
    target, r = torch.zeros(1, 1, 100, 100), 0.3 * torch.randn(1, 1, 100, 100)
    weight = torch.ones_like(r)
    losses = {
        s: float(calibration_loss(torch.full_like(r, np.log(s)), r, target, weight))
        for s in (0.2, 0.27, 0.3, 0.33, 0.5)
    }
    assert min(losses, key=losses.get) == 0.3


def test_calibration_does_not_move_r():
    r = torch.zeros(1, 1, 2, 2, requires_grad=True)
    log_s = torch.zeros(1, 1, 2, 2, requires_grad=True)
    calibration_loss(log_s, r, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).backward()
    assert r.grad is None
    assert log_s.grad is not None


# --- the loop ------------------------------------------------------------------------------------


def short(tmp_path, **changes):
    """Give a very short training."""
    config = load_config('smoke')
    optimiser = replace(config.optimiser, **({'steps': 8, 'validate_every': 4} | changes))
    data = replace(config.data, scenes=3, scene_size=128, round_scenes=4)
    return replace(config, optimiser=optimiser, data=data, output=str(tmp_path))


def interrupted_after(steps, config, monkeypatch, clock):
    """Train until a time limit comes after some steps."""
    done = []

    def rate(step, optimiser):
        done.append(step)
        return learning_rate(step, optimiser)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, 'learning_rate', rate)
        patched.setattr(
            trainer.time, 'monotonic', lambda: next(clock) * 1e-9 + 100 * (len(done) >= steps)
        )
        return train(config, precision='float32', time_limit=50)


def test_smoke_training_learns_and_its_weights_can_be_used(tmp_path):
    result = train('smoke', output=tmp_path, precision='float32')
    assert result['step'] == 60
    assert np.mean(result['losses'][-10:]) < 0.7 * np.mean(result['losses'][:10])
    assert result['gains']['mean'] > 1.5
    card = export_weights(tmp_path, tmp_path / 'smoke.safetensors', version='1')
    assert load_weights(tmp_path / 'smoke.safetensors').name == 'smoke'
    assert card['training']['steps'] == 60
    assert card['training']['scenes'] == {'simulated': 8}
    assert 'material' not in card['training']['data']
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert any('gain_mean' in line for line in log)


def test_resumed_training_is_the_unbroken_one(tmp_path, monkeypatch):
    unbroken = train(short(tmp_path / 'a'), precision='float32')
    # a clock that passes the limit after five steps
    config, clock = short(tmp_path / 'b'), iter(range(10**6))
    stopped = interrupted_after(5, config, monkeypatch, clock)
    assert stopped['step'] == 5
    resumed = train(config, precision='float32', resume=True)
    assert_allclose(stopped['losses'] + resumed['losses'], unbroken['losses'], rtol=1e-6)
    assert_allclose(resumed['gains']['mean'], unbroken['gains']['mean'], rtol=1e-5)


def test_time_limit_stops_and_keeps_a_checkpoint(tmp_path):
    result = train(short(tmp_path, steps=10**6), precision='float32', time_limit=2)
    assert 0 < result['step'] < 10**6
    assert (tmp_path / 'checkpoint.safetensors').is_file()
    assert result['tiles_per_second'] > 0


def test_a_checkpoint_is_not_overwritten_by_chance(tmp_path):
    train(short(tmp_path, steps=1))
    with pytest.raises(FileExistsError, match='resume'):
        train(short(tmp_path, steps=1))
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        train(short(tmp_path / 'none'), resume=True)


def test_learning_rate_rises_stays_and_falls():
    optimiser = load_config('default').optimiser
    rates = np.array([learning_rate(step, optimiser) for step in range(optimiser.steps + 1)])
    assert rates.argmax() >= optimiser.warmup_steps - 1
    assert rates.max() == optimiser.learning_rate
    assert rates[-1] == 0
    assert (np.diff(rates[-optimiser.decay_steps :]) < 0).all()


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('steps =', 'no valid TOML'),
        ('[optimiser]\nstep = 3', 'unknown keys'),
        ('[optimizer]\nsteps = 3', 'unknown entries'),
    ],
)
def test_mistakes_in_a_configuration_are_named(tmp_path, text, match):
    path = tmp_path / 'config.toml'
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        load_config(path)
    with pytest.raises(FileNotFoundError, match='smoke'):
        load_config(tmp_path / 'nothing.toml')


def test_training_runs_without_astropy_photutils_and_galsim(tmp_path):
    config = tmp_path / 'config.toml'
    config.write_text(
        '[model]\nwidths = [8, 8]\nblocks = [1, 1]\n'
        '[data]\nscenes = 2\nscene_size = 128\ntile_size = 64\nround_scenes = 2\n'
        'validation_scenes = 1\n[optimiser]\nsteps = 2\nbatch_size = 4\n'
    )
    run_python(
        'import sys\n'
        "for name in ('astropy', 'photutils', 'galsim', 'ccdproc'):\n"
        '    sys.modules[name] = None\n'
        'from astrodenoise.training.__main__ import main\n'
        f"raise SystemExit(main([{str(config)!r}, '--output', {str(tmp_path / 'run')!r}]))",
    )
    assert (tmp_path / 'run' / 'checkpoint.safetensors').is_file()
