# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Scenes, synthetic noise, tiles, the library and its real material."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.estimate import fine_scale_sigma
from astrodenoise.training import material
from astrodenoise.training.config import load_config
from astrodenoise.training.library import Scene, make_library, split_by_scene, with_stars
from astrodenoise.training.losses import LossConfig
from astrodenoise.training.scenes import KINDS, draw_scene
from astrodenoise.training.stars import PointSpread, add_stars
from astrodenoise.training.synthesis import (
    NoiseRanges,
    correlation_kernel,
    observe,
    observe_planes,
)
from astrodenoise.training.tiles import scene_tiles, tile_rounds

SHARES = {entry.name: 0.0 for entry in fields(NoiseRanges) if isinstance(entry.default, float)}
QUIET = NoiseRanges(exposure=(1, 1), **SHARES)


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
        {'walking': 1.0},
        {'sharpened': 1.0},
        {'pictures': 1.0},
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


def test_pixels_cut_off_below_are_no_data():
    seen = observed(6, clipped=1.0)
    floor = float(seen.noisy.min())
    assert 0.0005 < float((~seen.valid).float().mean()) < 0.3
    assert_array_equal(~seen.valid, seen.noisy == floor)


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
    scene = Scene('x', draw_scene(np.random.default_rng(1), (160, 160), 'stars', n_planes=1))
    one, two = (scene_tiles(scene, (5, 6), tile_size=64) for _ in range(2))
    assert len(one) == 4
    for name in ('features', 'condition', 'target', 'weight', 'stars'):
        assert_array_equal(getattr(one, name), getattr(two, name))


def test_target_is_the_noise_in_units_of_the_sigma_that_is_told():
    scene = Scene('x', np.zeros((1, 256, 256), np.float32))
    tiles = scene_tiles(scene, 3, tile_size=128, ranges=QUIET)
    assert abs(float(tiles.target.std()) - 1) < 0.03
    contrast = tiles.features[:, 1] / 0.25  # of a blank frame: the noise less its local mean
    assert np.corrcoef(contrast.ravel(), tiles.target.ravel())[0, 1] > 0.99


def small(**changes):
    """Give a configuration with a few small scenes."""
    config = load_config('smoke')
    data = replace(
        config.data, **({'scenes': 3, 'scene_size': 128, 'validation_scenes': 3} | changes)
    )
    return replace(config, data=data)


def test_rounds_start_anywhere():
    scenes = make_library(small()).scenes
    rounds = tile_rounds(scenes, 9, round_scenes=2, tile_size=64)
    next(rounds)
    second = next(rounds)
    again = next(tile_rounds(scenes, 9, start=1, round_scenes=2, tile_size=64))
    assert_array_equal(second.target, again.target)


def test_rounds_prepared_ahead_are_the_same():
    scenes = make_library(small()).scenes
    plain = tile_rounds(scenes, 9, round_scenes=2, tile_size=64)
    ahead = tile_rounds(scenes, 9, round_scenes=2, tile_size=64, ahead=2)
    for _ in range(3):
        assert_array_equal(next(plain).target, next(ahead).target)


def test_processes_share_the_rounds():
    scenes = make_library(small()).scenes
    alone = tile_rounds(scenes, 9, round_scenes=2, tile_size=64)
    team = [tile_rounds(scenes, 9, start=n, every=2, round_scenes=2, tile_size=64) for n in (0, 1)]
    for number in range(4):
        assert_array_equal(next(alone).target, next(team[number % 2]).target)


def test_clean_and_noisy_differ_by_the_target():
    scene = Scene('x', draw_scene(np.random.default_rng(3), (128, 128), 'galaxy', n_planes=1))
    tiles = scene_tiles(scene, 4, tile_size=64, ranges=QUIET)
    assert_allclose(tiles.noisy, tiles.clean + tiles.target, rtol=1e-4, atol=1e-3)
    assert tiles.ground_truth.shape == (4, 2, 64, 64)
    # the contrast of the clean tile has no grain
    assert fine_scale_sigma(tiles.clean[0, 0].numpy()) < 0.2


# --- planes seen together ------------------------------------------------------------------------


def test_planes_of_a_scene_show_the_same_objects_in_colours_of_their_own():
    scene = draw_scene(np.random.default_rng(8), (128, 128), 'galaxy', n_planes=3)
    assert scene.shape == (3, 128, 128)
    red, green, blue = scene.reshape(3, -1)
    assert np.corrcoef(red, blue)[0, 1] > 0.5
    assert not np.allclose(red, blue * (red.max() / blue.max()), rtol=0.05, atol=0.1)
    assert not np.allclose(red, green)


def test_planes_of_one_camera_have_noise_of_one_kind_but_their_own():
    clean = torch.zeros(3, 256, 256)
    rng, generator = np.random.default_rng(2), torch.Generator().manual_seed(2)
    seen = observe_planes(clean, rng, generator, ranges=replace(QUIET, correlated=1.0))
    noise = torch.stack([(s.noisy - s.clean).flatten() for s in seen]).numpy()
    assert np.abs(np.corrcoef(noise)[np.triu_indices(3, 1)]).max() < 0.02
    neighbours = [
        np.corrcoef(n.reshape(256, 256)[:, 1:].ravel(), n.reshape(256, 256)[:, :-1].ravel())[0, 1]
        for n in noise
    ]
    assert np.ptp(neighbours) < 0.03
    unlike = replace(QUIET, correlated=1.0, unlike=1.0)
    seen = observe_planes(clean, rng, generator, ranges=unlike)
    noise = [(s.noisy - s.clean).numpy() for s in seen]
    neighbours = [np.corrcoef(n[:, 1:].ravel(), n[:, :-1].ravel())[0, 1] for n in noise]
    assert np.ptp(neighbours) > 0.03


def test_chroma_blotches_cancel_in_the_sum():
    clean = torch.zeros(3, 256, 256)
    ranges = replace(QUIET, blotches=1.0, blotch_sigma=(0.5, 0.5))
    rng, generator = np.random.default_rng(2), torch.Generator().manual_seed(2)
    seen = observe_planes(clean, rng, generator, ranges=ranges)
    noise = torch.stack([s.noisy - s.clean for s in seen])

    def coarse(image):
        return float(torch.nn.functional.avg_pool2d(image[None], 4).std())

    # white noise of rms 1 leaves 1/4 in means of 16 pixels
    assert coarse(noise[0]) > 0.35
    assert coarse(noise.mean(dim=0)) == pytest.approx(0.25 / np.sqrt(3), rel=0.1)
    for plane in seen:
        assert float(((plane.noisy - plane.clean) / plane.sigma).std()) == pytest.approx(
            1, abs=0.05
        )


def test_missing_planes_are_zeros_that_do_not_count():
    scene = Scene('x', draw_scene(np.random.default_rng(1), (128, 128), 'stars', n_planes=3))
    tiles = scene_tiles(scene, 3, tile_size=64, ranges=replace(QUIET, missing=1.0))
    counts = tiles.weight.sum(dim=(0, 2, 3))
    missing = int(counts.argmin())
    assert counts[missing] == 0
    assert not tiles.features[:, 6 * missing : 6 * missing + 6].any()
    assert sorted(counts > 0) == [False, True, True]


# --- pairs ---------------------------------------------------------------------------------------


def paired(rng):
    """Give a scene with a real noisy frame."""
    clean = draw_scene(np.random.default_rng(7), (128, 128), 'stars', n_planes=1).clip(-5, 50)
    noisy = clean + rng.normal(0, 1, clean.shape).astype(np.float32)
    valid = np.ones(clean.shape, bool)
    return Scene('pair', clean, brightest=1.0, noisy=noisy, valid=valid)


def test_pairs_are_shown_with_their_own_noise_or_with_added_noise(rng):
    scene = paired(rng)
    real = [scene_tiles(scene, (1, n), tile_size=128, pair_share=1.0) for n in range(2)]
    own = (scene.noisy - scene.image).ravel()
    for tiles in real:
        # turned in any way, but the same values
        ratio = np.sort(tiles.target.numpy().ravel()) / np.sort(own)
        assert np.median(ratio) == pytest.approx(1, abs=0.05)
        assert np.std(ratio[np.abs(np.sort(own)) > 0.5]) < 0.01
        # seeing rules bright stars: they count less
        bright = tiles.clean > 15
        assert float(tiles.weight[bright].max()) < 0.65 < float(tiles.weight[~bright].median())
    added = scene_tiles(scene, (1, 0), tile_size=128, ranges=QUIET, pair_share=0.0)
    assert not np.allclose(np.sort(added.target.numpy().ravel()), np.sort(own), rtol=1e-3)


# --- star masks of scenes ------------------------------------------------------------------------


def test_star_masks_go_with_the_tiles():
    scene = with_stars(
        Scene('x', draw_scene(np.random.default_rng(7), (128, 128), 'stars', n_planes=1))
    )
    assert scene.stars.shape == (3, 128, 128)
    faint, nominal, bright = (mask.mean() for mask in scene.stars)
    assert faint <= nominal <= bright
    tiles = scene_tiles(scene, 2, tile_size=128, ranges=QUIET)
    assert 0 < float(tiles.stars.mean()) < 0.5
    assert float(tiles.stars.max()) > 0.95
    # the mask is turned as the scene is: what is brightest lies in it
    brightest = tiles.clean[0, 0] > 0.7 * tiles.clean.max()
    assert float(tiles.stars[0, 0][brightest].mean()) > 0.7
    assert_array_equal(tiles.ground_truth[:, 1:], tiles.stars)


def test_masks_are_made_where_the_loss_looks_at_them():
    assert all(scene.stars is None for scene in make_library(small()).scenes)
    looking = replace(small(), loss=LossConfig(gamma=0.1))
    library = make_library(looking)
    assert all(scene.stars is not None for scene in library.scenes + library.held_out)


# --- the split -----------------------------------------------------------------------------------


def test_split_is_by_object_and_about_one_in_five():
    names = [f'object {n}' for n in range(2000)]
    held_out = [split_by_scene(name) for name in names]
    assert 0.17 < np.mean(held_out) < 0.23
    assert held_out == [split_by_scene(name) for name in names]


def test_no_scene_is_in_both_parts():
    library = make_library(small())
    assert {s.name for s in library.scenes}.isdisjoint(s.name for s in library.held_out)
    assert len(library.held_out) == 3


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match='0 scenes for training'):
        make_library(small(scenes=0))


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
    scene = scenes[0][1][0]
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
