# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""`star_mask=`: stars keep their pixels, and no disc is left round them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData

from astrodenoise import denoise, read_provenance, star_mask

SIGMA = 5.0
PLACES = [(24, 24), (24, 72), (72, 24), (72, 72), (48, 48)]


@pytest.fixture(scope='module')
def truth():
    """Give bright stars of FWHM 3 px on an empty sky."""
    y, x = np.mgrid[:96, :96]
    stars = sum(np.exp(-((y - row) ** 2 + (x - column) ** 2) / 3.25) for row, column in PLACES)
    return 100 + 300 * SIGMA * stars


@pytest.fixture(scope='module')
def noisy(truth):
    noise = np.random.default_rng(9).normal(0, SIGMA, truth.shape)
    return (truth + noise).astype(np.float32)


@pytest.fixture(scope='module')
def plain(noisy):
    return denoise(noisy, noise=SIGMA)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize('kind', ['made', 'array', 'edited'])
def test_stars_keep_their_pixels_and_the_sky_does_not(noisy, truth, plain, kind):
    mask = True if kind == 'made' else star_mask(noisy, noise=SIGMA)
    if kind == 'edited':
        mask[:48] = 0
    clean = denoise(noisy, noise=SIGMA, star_mask=mask)
    core = truth - 100 > 20 * SIGMA
    lower = np.arange(96)[:, None] > 55
    assert rms((clean - noisy)[core & lower]) < 0.3 * rms((plain - noisy)[core & lower])
    sky = truth - 100 < 0.05 * SIGMA
    assert rms((clean - truth)[sky]) == pytest.approx(rms((plain - truth)[sky]), rel=0.3)
    if kind == 'edited':
        np.testing.assert_array_equal(clean[:40], plain[:40])


def test_a_mask_leaves_no_disc(noisy, truth, plain):
    rows, columns = np.mgrid[:96, :96]
    disc = np.any([np.hypot(rows - y, columns - x) < 14 for y, x in PLACES], axis=0)
    clean = denoise(noisy, noise=SIGMA, star_mask=disc.astype(float))
    dark = disc & (truth - 100 < 0.05 * SIGMA)  # in the mask, but beyond the star's light
    assert np.count_nonzero(dark) > 1000
    assert rms((clean - truth)[dark]) < 1.3 * rms((plain - truth)[dark])
    assert rms((clean - truth)[dark]) < 0.25 * SIGMA


def test_no_mask_is_a_mask_of_zeros(noisy, plain):
    nothing = np.zeros(noisy.shape)
    np.testing.assert_array_equal(denoise(noisy, noise=SIGMA, star_mask=nothing), plain)
    np.testing.assert_array_equal(denoise(noisy, noise=SIGMA, star_mask=False), plain)


def test_the_header_says_whether_stars_were_kept(noisy):
    ccd = CCDData(noisy, unit='adu')
    mask = star_mask(ccd)
    for given, said in ((None, None), (True, True), (mask, 'given')):
        clean = denoise(ccd, star_mask=given)
        assert read_provenance(clean)['star_mask'] == said


@pytest.mark.parametrize(
    ('mask', 'error', 'message'),
    [
        (np.zeros((95, 96)), ValueError, r'shape \(95, 96\), the frame \(96, 96\)'),
        (np.full((96, 96), 1.5), ValueError, 'must lie in 0'),
        (np.where(np.eye(96) > 0, np.nan, 0), ValueError, '96 NaN'),
        ('stars', TypeError, 'must be None, True or an array'),
        (np.zeros((96, 96)) * u.adu, u.UnitsError, 'star_mask is in adu'),
    ],
)  # fmt: skip
def test_wrong_masks_say_what_is_expected(noisy, mask, error, message):
    with pytest.raises(error, match=message):
        denoise(noisy, star_mask=mask)
