# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The result does not depend on the precision of the convolutions."""

import numpy as np
import pytest
import torch

from astrodenoise import denoise
from astrodenoise.devices import Device
from astrodenoise.engine import Engine
from astrodenoise.features import N_CONDITION, N_FEATURES
from astrodenoise.model import ResUNet
from astrodenoise.weights import load_weights

SHAPE = (256, 256)
LEVEL, SIGMA = 1000.0, 5.0  # adu
FWHM = 3.0  # px
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
# light behind the stars in sigma, and where it is to be judged
FIELDS = {
    'sky': (np.zeros(SHAPE), np.ones(SHAPE, bool)),
    '300 sigma up': (300 / (1 + np.exp((60 - X) / 8)), X > 100),
    'gradient of 100 sigma': (100 * X / (SHAPE[1] - 1), np.ones(SHAPE, bool)),
    'bright nebula': (
        300 * np.exp(-((Y - 120) ** 2 + (X - 135) ** 2) / (2 * 50**2)),
        np.hypot(Y - 120, X - 135) < 90,
    ),
}


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def stars(rng):
    """Draw stars in sigma, with S/N 20 to 2000, and where those over 50 are."""
    width = FWHM / 2.3548
    light, near = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    for y, x in rng.uniform(8, SHAPE[0] - 8, (30, 2)):
        snr = 10 ** rng.uniform(1.3, 3.3)
        flux = snr * np.sqrt(4 * np.pi) * width  # of the best fit to white noise
        distance = np.hypot(Y - y, X - x)
        light += flux / (2 * np.pi * width**2) * np.exp(-0.5 * (distance / width) ** 2)
        if snr > 50:
            near |= distance <= FWHM
    return light, near


@pytest.fixture(scope='module', params=FIELDS)
def differences(request):
    """Give bfloat16 minus float32 in sigma where it is judged, and near bright stars there."""
    rng = np.random.default_rng(7)
    background, judged = FIELDS[request.param]
    light, near = stars(rng)
    frame = LEVEL + SIGMA * (background + light + rng.normal(size=SHAPE))
    frame = frame.astype(np.float32)
    exact, short = (
        denoise(frame, model='mono', device='cpu', precision=precision).astype(float)
        for precision in ('float32', 'bfloat16')
    )
    assert rms((exact - frame)[judged]) > 0.8 * SIGMA  # there was something to compute
    difference = (short - exact) / SIGMA
    return difference[judged], difference[judged & near]


def test_bfloat16_is_within_its_bounds(differences):
    everywhere, near_stars = differences
    assert 0 < rms(everywhere) < 0.02
    assert abs(np.mean(everywhere)) < 0.002
    assert near_stars.size > 100
    assert rms(near_stars) < 0.1


@pytest.mark.parametrize('model', ['mono', 'fast', 'colour'])
def test_float16_is_exact_enough_and_far_from_its_end(model, rng):
    weights = load_weights(model)
    n_planes = weights.config.planes
    # features of the brightest pixels that there are beside ordinary ones
    tiles = rng.normal(size=(1, n_planes, N_FEATURES, 64, 64)).astype(np.float32)
    tiles[..., :3, 20:30, 20:30] = np.array([18.0, 7.5, 18.0])[:, None, None]
    tiles[..., :3, 40:50, 40:50] = np.array([-18.0, -7.5, -18.0])[:, None, None]
    tiles = tiles.reshape(1, -1, 64, 64)
    condition = np.full(n_planes * N_CONDITION, 0.1, np.float32)
    exact, short = (
        Engine(weights, Device('cpu', precision)).predictor(condition)(tiles)[:, :n_planes]
        for precision in ('float32', 'float16')
    )
    assert 0 < rms(short - exact) < 0.002

    peaks = []
    network = ResUNet(weights.config)
    network.load_state_dict(weights.tensors)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(lambda _, x, y: peaks.append(float(y.abs().max())))
    device = Device('cpu', 'float32')
    device.run(device.load(network), tiles, condition[None])
    assert max(peaks) < 0.1 * torch.finfo(torch.float16).max
