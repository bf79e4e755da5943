# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames outside the range that the weights were trained on."""

import json
import shutil
import warnings

import numpy as np
import pytest

from astrodenoise import denoise
from astrodenoise.exceptions import UnlikeTrainingWarning, WeightsError
from astrodenoise.features import NormalisedPlane
from astrodenoise.known import Known
from astrodenoise.measures.detections import moffat
from astrodenoise.noisemodel import PlaneNoise
from astrodenoise.trainedrange import frame_range, outside, star_fwhm
from astrodenoise.training.calibration import trained_range
from astrodenoise.training.config import load_config
from astrodenoise.weights import FOLDER

SHAPE = (256, 256)


def plane_of(data, *, valid=None, **noise):
    """Normalise a plane of white noise of sigma 1."""
    valid = np.ones(data.shape, bool) if valid is None else valid
    return NormalisedPlane(data, valid, PlaneNoise(data.shape, 0.0, 1.0, **noise))


def star_field(rng, fwhm):
    """Draw a grid of bright stars on noise of sigma 1."""
    data = rng.normal(size=SHAPE)
    psf = moffat(fwhm)
    half = psf.shape[0] // 2
    for y in range(48, 220, 56):
        for x in range(48, 220, 56):
            data[y - half : y + half + 1, x - half : x + half + 1] += 3000 * fwhm**2 * psf
    return data


@pytest.mark.parametrize('fwhm', [2.0, 3.5, 5.0])
def test_fwhm_is_that_of_the_stars(rng, fwhm):
    # wings make the Gaussian of equal moments a little wider
    assert star_fwhm(plane_of(star_field(rng, fwhm))) == pytest.approx(1.13 * fwhm, rel=0.1)


def test_nothing_is_said_of_fwhm_without_stars(rng):
    assert np.isnan(star_fwhm(plane_of(rng.normal(size=SHAPE))))
    assert np.isnan(star_fwhm(plane_of(rng.normal(size=(40, 300)))))


def test_each_quantity_is_found(rng):
    valid = rng.random(SHAPE) > 0.3
    data = rng.normal(size=SHAPE)
    data[:40] += 50
    plane = plane_of(data, valid=valid, step=0.5, correlation=[0.2, 0.4, 0, 0, 0, 0])
    found = frame_range([Known.of_plane(plane)] * 2, [plane, plane])
    assert found['masked'] == pytest.approx(0.3, abs=0.02)
    assert found['sigma_per_step'] == pytest.approx(2)
    assert found['correlation'] == pytest.approx(0.3)
    assert np.all(found['level'] > 20)


def test_what_lies_outside_is_named_with_value_and_range(rng):
    plane = plane_of(rng.normal(size=SHAPE), correlation=[0.5, 0.7, 0, 0, 0, 0])
    trained = {'correlation': (-0.1, 0.4), 'masked': (None, 0.4), 'sigma_per_step': (0.67, None)}
    assert outside(trained, [Known.of_plane(plane)], [plane]) == [
        'the correlation of neighbouring pixels is 0.6, trained were -0.1 to 0.4'
    ]
    assert outside(None, [Known.of_plane(plane)], [plane]) == []
    assert outside(trained, [], []) == []


@pytest.fixture
def narrow(tmp_path):
    """Give weights whose card says that they know white noise alone."""
    for suffix in ('.safetensors', '.json'):
        shutil.copy(FOLDER / f'mono{suffix}', tmp_path)
    path = tmp_path / 'mono.json'
    card = json.loads(path.read_text())
    card['trained_range'] = {'correlation': [-0.1, 0.1], 'masked': [None, 0.5]}
    path.write_text(json.dumps(card))
    return path


def test_one_warning_for_a_frame_outside(narrow, rng):
    noise = rng.normal(size=(128, 128))
    model = str(narrow.with_suffix('.safetensors'))
    smooth = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)).astype(np.float32)
    with pytest.warns(UnlikeTrainingWarning, match='trained were -0.1 to 0.1') as seen:
        denoise(smooth, model=model)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        denoise(noise.astype(np.float32), model=model)


@pytest.mark.parametrize('damaged', [[1, 2], {'fwhm': 3}, {'fwhm': [1, 'wide']}])
def test_damaged_ranges_are_refused(narrow, damaged):
    card = json.loads(narrow.read_text())
    card['trained_range'] = damaged
    narrow.write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r'trained[ _]range'):
        denoise(
            np.ones((64, 64)) * np.arange(64),
            model=str(narrow.with_suffix('.safetensors')),
            noise=1.0,
        )


def test_trained_frames_are_measured_as_a_users_are():
    ranges = trained_range(load_config('smoke'), n_scenes=6)
    assert ranges['sigma_per_step'] == [pytest.approx(2 / 3, abs=0.01), None]
    low, high = ranges['correlation']
    assert -0.3 < low <= high < 1
    assert ranges['masked'][0] is None
