# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The expected error of denoised pixels."""

import json
import shutil

import numpy as np
import pytest
import torch
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_allclose

from astrodenoise import denoise
from astrodenoise.errormap import CLASSES, calibrate, correlation_class, error_at_strength
from astrodenoise.exceptions import WeightsError
from astrodenoise.model import ResUNet
from astrodenoise.training.calibration import BINS, LEAST, calibration_table, measure_errors
from astrodenoise.training.config import load_config
from astrodenoise.weights import FOLDER, load_weights

WHITE = [0.0] * 6


@pytest.fixture
def frame(rng):
    return CCDData(rng.normal(100, 5, (96, 112)).astype(np.float32), unit='adu')


def test_classes_follow_the_correlation_of_direct_neighbours():
    assert correlation_class([0.02, -0.03, 0.9, 0.9, 0.9, 0.9]) == 'white'
    assert correlation_class([0.3, 0.1, 0, 0, 0, 0]) == 'weak'
    assert correlation_class([0.5, 0.5, 0, 0, 0, 0]) == 'strong'


def test_calibration_follows_the_table_of_its_class():
    table = {'log_s': [-2.0, -1.0], 'factor': {name: [2.0, 4.0] for name in CLASSES}}
    table['factor']['strong'] = [1.0, 1.0]
    log_s = np.array([[-3.0, -2.0], [-1.5, 0.0]], np.float32)
    assert_allclose(calibrate(log_s, WHITE, table), np.exp(log_s) * [[2, 2], [3, 4]], rtol=1e-6)
    assert_allclose(calibrate(log_s, [0.6] * 6, table), np.exp(log_s), rtol=1e-6)
    assert_allclose(calibrate(log_s, WHITE, None), np.exp(log_s), rtol=1e-6)


def test_error_at_strength_is_that_of_a_posterior_mean():
    rng = np.random.default_rng(1)
    removed = 0.8 * rng.normal(size=200_000)
    noise = removed + 0.6 * rng.normal(size=200_000)
    for strength in (0.0, 0.4, 1.0):
        left = noise - strength * removed
        assert left.std() == pytest.approx(error_at_strength(0.6, strength), rel=0.01)


def test_table_brings_errors_to_their_size():
    rng = np.random.default_rng(2)
    log_s = rng.uniform(-4, 0, 40 * LEAST)
    true = 1 + 0.5 * np.tanh(log_s + 2)  # what the network is wrong by
    errors = {name: (log_s, true * rng.normal(size=log_s.size)) for name in CLASSES}
    table = calibration_table(errors)
    corrected = errors['white'][1] * np.exp(log_s) / calibrate(log_s, WHITE, table)
    for low, high in ((-4, -3), (-2, -1), (-1, 0)):
        part = corrected[(log_s >= low) & (log_s < high)]
        assert part.std() == pytest.approx(1, abs=0.02)
    assert_allclose(table['q68']['weak'], 1, atol=0.06)
    assert_allclose(table['q95']['weak'], 1.96, atol=0.1)
    assert len(table['log_s']) == len(BINS) - 1


def test_a_class_without_errors_is_an_error():
    with pytest.raises(ValueError, match='measure more scenes'):
        calibration_table({})


@pytest.mark.parametrize('kind', [None, StdDevUncertainty, VarianceUncertainty])
def test_predicted_error_is_that_of_a_pixel(frame, kind):
    sigma = np.full(frame.shape, 5.0)
    if kind is not None:
        frame.uncertainty = kind(sigma if kind is StdDevUncertainty else sigma**2)
    clean = denoise(frame, uncertainty='predict')
    error = clean.uncertainty.represent_as(StdDevUncertainty).array
    assert type(clean.uncertainty) is (kind or StdDevUncertainty)
    assert 0.3 < np.sqrt(np.mean((clean.data - 100) ** 2)) / np.median(error) < 1.5
    assert_allclose(clean.data, denoise(frame).data)


def test_predicted_error_of_pixels_that_stay_is_their_noise(frame):
    frame.mask = np.zeros(frame.shape, bool)
    frame.mask[20:30, 40:50] = True
    clean = denoise(frame, uncertainty='predict', noise=5.0)
    assert_allclose(clean.uncertainty.array[frame.mask], 5, rtol=1e-5)
    nothing = denoise(frame, uncertainty='predict', noise=5.0, strength=0)
    assert_allclose(nothing.uncertainty.array, 5, rtol=1e-5)


def test_predicted_error_of_three_planes(rng):
    frame = CCDData(rng.normal(100, 5, (3, 96, 96)).astype(np.float32), unit='adu')
    frame.mask = np.zeros(frame.shape, bool)
    frame.mask[1] = True  # a missing plane
    clean = denoise(frame, uncertainty='predict', channels='joint', noise=5.0)
    assert_allclose(clean.uncertainty.array[1], 5, rtol=1e-5)
    assert np.median(clean.uncertainty.array[0]) < 2


def test_arrays_have_no_place_for_it(frame):
    with pytest.raises(ValueError, match='wrap the frame'):
        denoise(frame.data, uncertainty='predict')


@pytest.mark.parametrize(
    'table',
    [
        {},
        {'log_s': [0.0, 1.0], 'factor': {'white': [1, 1]}},
        {'log_s': [1.0, 0.0], 'factor': {name: [1.0, 1.0] for name in CLASSES}},
        {'log_s': [0.0, 1.0], 'factor': {name: [1.0, -1.0] for name in CLASSES}},
        {'log_s': [0.0, 1.0], 'factor': {name: [1.0] for name in CLASSES}},
    ],
)
def test_damaged_tables_are_refused(tmp_path, table):
    for suffix in ('.safetensors', '.json'):
        shutil.copy(FOLDER / f'mono{suffix}', tmp_path)
    card = json.loads((tmp_path / 'mono.json').read_text())
    card['calibration'] = table
    (tmp_path / 'mono.json').write_text(json.dumps(card))
    with pytest.raises(WeightsError, match='calibration'):
        load_weights(tmp_path / 'mono.safetensors')


def test_errors_of_a_network_that_removes_nothing_are_the_noise():
    config = load_config('smoke')
    network = ResUNet(config.model).eval()
    for part in (network.last.weight, network.last.bias):
        torch.nn.init.zeros_(part)
    errors = measure_errors(network, config, n_scenes=4)
    assert set(errors) <= set(CLASSES)
    log_s = np.concatenate([pair[0] for pair in errors.values()])
    error = np.concatenate([pair[1] for pair in errors.values()])
    assert_allclose(log_s, 0)
    # noise in units of the sigma that is measured; seen sources do not count
    assert np.median(np.abs(error)) * 1.4826 == pytest.approx(1, abs=0.1)
