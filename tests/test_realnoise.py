# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Real noise from differences of raw frames: what stays, what goes, and how it is trained on."""

import numpy as np
import pytest
from astropy.io import fits

from astrodenoise.training.config import DataConfig, ModelConfig, TrainingConfig
from astrodenoise.training.library import make_library
from astrodenoise.training.realnoise import load_noise, noise_of_difference
from astrodenoise.training.tiles import scene_tiles

SHAPE = (256, 300)
SIGMA, OFFSETS, FIXED = 7.0, 2.0, 30.0  # adu: noise, offsets of rows, fixed pattern


@pytest.fixture
def raw(rng):
    """Two frames of one detector: a fixed pattern, rows' offsets of their own, stars that moved."""
    fixed = FIXED * rng.normal(size=SHAPE)
    y, x = np.indices(SHAPE)
    stars = rng.uniform(20, 230, (12, 2))

    def frame(shift):
        light = sum(4000 * np.exp(-((y - a - shift) ** 2 + (x - b) ** 2) / 4) for a, b in stars)
        offsets = OFFSETS * rng.normal(size=(SHAPE[0], 1))
        return 500 + 0.02 * x + fixed + light + offsets + SIGMA * rng.normal(size=SHAPE)

    return frame(0.0), frame(3.3), stars


def test_noise_of_a_difference_is_that_of_one_frame_without_what_is_fixed(raw):
    first, second, _ = raw
    noise, valid = noise_of_difference(first, second)
    assert noise[valid].std() == pytest.approx(np.hypot(SIGMA, OFFSETS) / SIGMA, rel=0.03)
    assert abs(noise[valid].mean()) < 0.02
    fixed = (first + second) / 2
    assert abs(np.corrcoef(noise[valid], fixed[valid])[0, 1]) < 0.05


def test_offsets_of_rows_stay_in_the_noise(raw):
    noise, valid = noise_of_difference(*raw[:2])
    rows = np.nanmean(np.where(valid, noise, np.nan), axis=1)
    white = 1 / np.sqrt(valid.sum(axis=1).mean())
    assert np.nanstd(rows) > 3 * white
    assert np.nanstd(rows) == pytest.approx(OFFSETS / SIGMA, rel=0.2)


def test_stars_are_left_out_of_both_frames(raw):
    first, second, stars = raw
    _, valid = noise_of_difference(first, second)
    for shift in (0.0, 3.3):
        y, x = stars.T
        assert not valid[np.round(y + shift).astype(int), np.round(x).astype(int)].any()
    assert valid.mean() > 0.7


def test_training_shows_simulated_scenes_under_real_noise(raw, tmp_path):
    for number, frame in enumerate(raw[:2]):
        fits.writeto(tmp_path / f'{number}.fits', frame.astype(np.float32))
    data = DataConfig(
        scenes=1, scene_size=256, tile_size=64, validation_scenes=1, noise=str(tmp_path)
    )
    model = ModelConfig(widths=(8, 8), blocks=(1, 1))
    library = make_library(TrainingConfig(data=data, model=model))
    assert library.sources['noise'] == 1
    scene = next(s for s in library.scenes + library.held_out if s.name.startswith('noise'))
    assert scene.noisy.shape == scene.image.shape == scene.valid.shape
    tiles = scene_tiles(scene, 1, tile_size=64, pair_share=1.0)
    used = tiles.weight > 0.5
    assert float(tiles.target[used].std()) == pytest.approx(1, abs=0.1)


def test_folders_without_two_frames_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='raw frames'):
        load_noise(tmp_path / 'missing')
    with pytest.raises(ValueError, match='holds 0 FITS frames'):
        load_noise(tmp_path)


def test_real_noise_is_of_one_plane(tmp_path):
    data = DataConfig(scenes=1, validation_scenes=1, noise=str(tmp_path))
    with pytest.raises(ValueError, match='of one plane'):
        make_library(TrainingConfig(data=data, model=ModelConfig(planes=3)))


def test_raw_frames_of_a_camera_give_noise_of_rms_one(shared_data):
    pieces = load_noise(shared_data / 'train' / 'real_cmos_noise')
    assert len(pieces) >= 3
    for _, noise, valid in pieces:
        assert valid.mean() > 0.9
        assert noise[valid].std() == pytest.approx(1, abs=0.1)
