# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What the uncertainty of a denoised frame is worth: pulls of fluxes, correlation of errors."""

from dataclasses import dataclass

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from photutils.aperture import CircularAperture, aperture_photometry

from astrodenoise import denoise

SKY, FWHM = 1000.0, 3.0  # electrons per pixel, px
REACH = 15  # px, of a star's light
LAGS = (1, 2, 4, 8)  # px


@dataclass
class Measured:
    """
    Photometry of one simulated field.

    Attributes
    ----------
    snr : `numpy.ndarray`
        Of each star's flux in its aperture, before denoising.
    pulls : dict
        (flux - true flux) / its error, of each star: 'noisy' (before denoising), 'keep' and
        'predict' (after), the errors of the pixels added in quadrature by photutils.
    correlation : list of float
        Of the errors of denoised pixels with those at `LAGS`, mean of rows and columns.
    error : float
        Rms error of denoised pixels in units of the noise before.
    """

    snr: np.ndarray
    pulls: dict
    correlation: list
    error: float


def star_field(rng, size, *, snr=(4, 200), radius=FWHM, spacing=32):
    """Give a noiseless field of stars that do not touch, in electrons, and their positions."""
    at = np.arange(REACH + 5, size - REACH - 5, spacing)
    y, x = (a.ravel() + rng.uniform(-4, 4, a.size) for a in np.meshgrid(at, at, indexing='ij'))
    # of the noise of the sky in the aperture
    noise = np.sqrt(np.pi * radius**2 * SKY)
    flux = noise * np.exp(rng.uniform(*np.log(snr), y.size))
    truth = np.full((size, size), SKY)
    rows, cols = np.mgrid[:size, :size]
    core = FWHM / (2 * np.sqrt(2 ** (1 / 3.2) - 1))
    for star in zip(y, x, flux, strict=True):
        near = tuple(slice(int(at) - REACH, int(at) + REACH + 1) for at in star[:2])
        distance = (rows[near] - star[0]) ** 2 + (cols[near] - star[1]) ** 2
        profile = (1 + distance / core**2) ** -3.2  # a Moffat star
        truth[near] += star[2] * profile * 2.2 / (np.pi * core**2)
    return truth, np.transpose([x, y])


def correlation_at(errors, lag):
    """Autocorrelation of a plane at a lag along rows and along columns, their mean."""
    errors = errors - errors.mean()
    pairs = (errors[lag:] * errors[:-lag]).mean(), (errors[:, lag:] * errors[:, :-lag]).mean()
    return np.mean(pairs) / np.var(errors)


def measure_field(rng, size=512, *, given=False, **keywords):
    """Denoise a simulated field and measure its stars before and after, sky known."""
    truth, positions = star_field(rng, size, **keywords)
    noisy = rng.poisson(truth).astype(np.float32)
    ccd = CCDData(noisy, unit='electron')
    if given:
        ccd.uncertainty = StdDevUncertainty(np.sqrt(np.maximum(noisy, 1)))
    apertures = CircularAperture(positions, r=keywords.get('radius', FWHM))

    def photometry(data, error):
        table = aperture_photometry(data - SKY, apertures, error=error)
        return np.array(table['aperture_sum']), np.array(table['aperture_sum_err'])

    expected, error = photometry(truth, np.sqrt(truth))
    pulls = {'noisy': (photometry(noisy, np.sqrt(truth))[0] - expected) / error}
    for how in ('keep', 'predict'):
        clean = denoise(ccd, uncertainty=how)
        flux, sigma = photometry(clean.data, clean.uncertainty.array)
        pulls[how] = (flux - expected) / sigma
    errors = (clean.data - truth) / np.sqrt(truth)
    correlation = [correlation_at(errors, lag) for lag in LAGS]
    return Measured(expected / error, pulls, correlation, float(np.sqrt(np.mean(errors**2))))


@pytest.fixture(scope='module', params=[False, True], ids=['measured noise', 'own uncertainty'])
def fields(request):
    """Give the photometry of two fields, their noise measured or known."""
    return [
        measure_field(np.random.default_rng(seed), 320, given=request.param, spacing=22)
        for seed in (71, 72)
    ]


def rms_pull(fields, how, *, least=8.0):
    """Root mean square of the pulls of stars from a signal-to-noise ratio on."""
    pulls = np.concatenate([field.pulls[how][field.snr >= least] for field in fields])
    assert pulls.size > 200
    return np.sqrt(np.mean(pulls**2))


def test_the_kept_uncertainty_is_right_for_fluxes(fields):
    assert 0.8 < rms_pull(fields, 'keep') < 1.15
    assert 0.8 < rms_pull(fields, 'noisy') < 1.15  # what the same photometry tells before


def test_the_predicted_error_is_far_too_small_for_fluxes(fields):
    assert rms_pull(fields, 'predict') > 1.6


def test_errors_of_denoised_pixels_are_small_and_correlated(fields):
    assert np.mean([field.error for field in fields]) < 0.2
    at_1, _, at_4, at_8 = np.mean([field.correlation for field in fields], axis=0)
    assert at_1 > 0.4
    assert at_4 < 0.2
    assert abs(at_8) < 0.1
