# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The same frame gives the same result: bit for bit here, and as recorded everywhere.

``python tests/test_reproducible.py`` renews what is recorded, ``reproducible.json`` beside this
file: on purpose alone, when weights or the method have changed; say so in the changelog.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.nddata import CCDData
from numpy.testing import assert_allclose

from astrodenoise import denoise, read_provenance
from astrodenoise.training.config import load_config
from astrodenoise.training.trainer import train
from astrodenoise.weights import describe, list_models
from helpers import run_python

RECORDED = Path(__file__).with_name('reproducible.json')
SHAPE = (192, 224)
SKY, SIGMA = 100.0, 5.0  # adu
PSF = 1.3  # px, sigma of the stars' Gaussian
STARS = [  # y, x, flux in units of sigma
    (30, 40, 60), (30, 120, 120), (34, 190, 300), (95, 30, 900), (100, 110, 3000), (96, 180, 9000),
    (160, 50, 30), (158, 130, 20000), (150, 200, 500),
]  # fmt: skip
BLOCK = 32  # px, of the means
RADIUS = 5  # px, of the apertures
EXACT = {'device': 'cpu', 'precision': 'float32', 'tile_size': 128}
TOLERANCE = 1e-3  # sigma of a pixel; a flux is a sum of that many
DIGITS = 4  # of what is recorded, in sigma


def frame_of(n_planes):
    """
    Make a frame that is the same with every version of NumPy: its noise is counted, not drawn.

    Each pixel's noise is the sum of twelve bytes of a SHA-256, which is very nearly Gaussian.
    """
    n = n_planes * SHAPE[0] * SHAPE[1]
    counted = b''.join(hashlib.sha256(b'%d' % i).digest()[:24] for i in range(-(-n // 2)))
    digits = np.frombuffer(counted, np.uint8)[: 12 * n].reshape(n, 12)
    noise = (digits.sum(axis=1, dtype=np.int64) - 12 * 127.5) / np.sqrt(12 * (256**2 - 1) / 12)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = 40 * np.exp(-np.hypot((y - 70) / 25, (x - 150) / 40))  # a galaxy
    for at_y, at_x, flux in STARS:
        star = np.exp(-0.5 * ((y - at_y) ** 2 + (x - at_x) ** 2) / PSF**2)
        light = light + flux / (2 * np.pi * PSF**2) * star
    colours = np.array([1.0, 0.8, 1.3])[:n_planes, None, None]
    frame = SKY + SIGMA * (colours * light + noise.reshape(n_planes, *SHAPE))
    return (frame if n_planes > 1 else frame[0]).astype(np.float32)


def denoised(model):
    """Denoise that frame."""
    n_planes = describe(model)['architecture']['planes']
    ccd = CCDData(frame_of(n_planes), unit='adu')
    return denoise(ccd, model=model, channels='joint' if n_planes > 1 else None, **EXACT)


def statistics(model):
    """
    Give what other processors give to 1e-3 sigma: it hardly depends on the order of a sum.

    Returns
    -------
    figures : dict
        SHA-256 of the weights; per plane sigma in adu, the means of blocks and the change of
        apertures' fluxes, both in sigma.
    """
    clean = denoised(model)
    before, after = (np.atleast_3d(a.T).T for a in (frame_of_like(clean), clean.data))
    n, height, width = after.shape
    blocks = (after - SKY).astype(float) / SIGMA
    blocks = blocks.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(2, 4))
    y, x = np.mgrid[:height, :width]
    inside = [np.hypot(y - at_y, x - at_x) <= RADIUS for at_y, at_x, _ in STARS]
    moved = [[float((a - b)[one].sum(dtype=float)) / SIGMA for one in inside]
             for a, b in zip(after, before, strict=True)]  # fmt: skip
    return {
        'sha256': describe(model)['sha256'],
        'sigma': [round(plane['sigma'], DIGITS) for plane in read_provenance(clean.meta)['planes']],
        'blocks': np.round(blocks, DIGITS).tolist(),
        'fluxes': np.round(moved, DIGITS).tolist(),
    }


def frame_of_like(clean):
    """Give the frame that was denoised."""
    return frame_of(len(clean.data) if clean.data.ndim == 3 else 1)


BITS = """
import json, sys
sys.path.insert(0, 'tests')
from test_reproducible import bits_of
print(json.dumps({model: bits_of(model) for model in sys.argv[1:]}))
"""


def bits_of(model):
    """Give a SHA-256 of every bit of the result."""
    return hashlib.sha256(denoised(model).data.tobytes()).hexdigest()


def test_bits_are_the_same_in_every_run():
    models = list_models()
    there = json.loads(run_python(BITS, *models))
    for model in models:
        assert [bits_of(model), bits_of(model)] == [there[model]] * 2


@pytest.mark.parametrize('model', list_models())
def test_results_are_as_recorded(model):
    """Whoever runs this with the same version gets our figures, whatever the processor."""
    recorded = json.loads(RECORDED.read_text(encoding='utf-8'))[model]
    found = statistics(model)
    assert found['sha256'] == recorded['sha256'], 'other weights: record their figures (see above)'
    assert_allclose(found['sigma'], recorded['sigma'], atol=TOLERANCE * SIGMA)
    assert_allclose(found['blocks'], recorded['blocks'], atol=TOLERANCE)
    n_pixels = np.pi * RADIUS**2
    assert_allclose(found['fluxes'], recorded['fluxes'], atol=TOLERANCE * n_pixels)


def test_figures_of_every_shipped_model_are_recorded():
    assert sorted(json.loads(RECORDED.read_text(encoding='utf-8'))) == list_models()


TRAINING = """
import json, sys
sys.path.insert(0, 'tests')
from test_reproducible import trained
print(json.dumps(trained(sys.argv[1])))
"""


def trained(folder, seed=1):
    """Train for a few steps; losses of all, and the gains at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = load_config('smoke')
    data = replace(config.data, scenes=3, scene_size=128, validation_scenes=1, seed=seed)
    optimiser = replace(config.optimiser, steps=20, validate_every=20)
    config = replace(config, data=data, optimiser=optimiser)
    try:
        result = train(config, output=folder, device='cpu', precision='float32')
    finally:
        torch.set_num_threads(before)
    return [result['losses'], result['gains']]


def test_config_and_seed_give_the_same_training_in_another_process(tmp_path):
    here = trained(tmp_path / 'here')
    assert len(here[0]) == 20
    assert json.loads(run_python(TRAINING, str(tmp_path / 'there'))) == here
    files = [tmp_path / name / 'checkpoint.npz' for name in ('here', 'there')]
    with np.load(files[0]) as one, np.load(files[1]) as two:
        names = [name for name in one.files if one[name].dtype.kind == 'f']
        assert len(names) > 10
        for name in names:
            assert one[name].tobytes() == two[name].tobytes(), name


def test_another_seed_gives_another_training(tmp_path):
    assert trained(tmp_path / 'a', seed=1)[0] != trained(tmp_path / 'b', seed=2)[0]


if __name__ == '__main__':
    text = json.dumps({model: statistics(model) for model in list_models()}, indent=1)
    RECORDED.write_text(text + '\n', encoding='utf-8')
