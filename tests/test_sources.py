# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Measures of stars, galaxies and detections on cases whose answer is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, stats

from astrodenoise.measures.detections import (
    completeness,
    false_peaks,
    filter_noise,
    find_stars,
    invented_and_lost,
    matched_filter,
    moffat,
    peaks,
    recovered_flux,
)
from astrodenoise.measures.shapes import adaptive_moments, shape_changes, stacked_width, stamps_at
from astrodenoise.measures.sources import (
    Stars,
    aperture_flux,
    aperture_noise,
    band_leakage,
    galaxy_light,
    measure_stars,
    patch_flux,
    response,
    rings,
    star_colour,
)

SHAPE = (400, 400)
SIGMA = np.ones(SHAPE)
FWHM = 3.0


def gaussian(shape, y, x, fwhm, *, flux=1.0, e1=0.0):
    """A Gaussian star, sampled at the pixels."""
    rows, columns = np.indices(shape)
    s2 = (fwhm / 2.3548) ** 2
    form = (columns - x) ** 2 / (s2 * (1 + e1)) + (rows - y) ** 2 / (s2 * (1 - e1))
    return flux * np.exp(-form / 2) / (2 * np.pi * s2 * np.sqrt(1 - e1**2))


def grid(step=25, *, jitter=0.0, rng=None):
    """Positions far from each other."""
    at = np.arange(step, SHAPE[0] - step + 1, step, dtype=float)
    y, x = (part.ravel() for part in np.meshgrid(at, at, indexing='ij'))
    if jitter:
        y, x = (part + rng.uniform(-jitter, jitter, part.size) for part in (y, x))
    return y, x


def field(y, x, flux, fwhm=FWHM, **shape):
    """Stars at positions; each drawn where it shines."""
    image, half = np.zeros(SHAPE), 12
    for at_y, at_x, light in zip(y, x, np.broadcast_to(flux, np.shape(y)), strict=True):
        row, column = round(at_y), round(at_x)
        stamp = gaussian((25, 25), at_y - row + 12, at_x - column + 12, fwhm, flux=light, **shape)
        image[row - half : row + half + 1, column - half : column + half + 1] += stamp
    return image


def within(figure, value, n_sigma=4.0):
    assert figure.testable, figure.why
    return abs(figure.value - value) <= n_sigma * figure.error


# Stars in the truth


def test_stars_are_measured_without_their_background():
    y, x = grid()
    stars = measure_stars(50 + field(y, x, 100.0), y, x, FWHM)
    assert len(stars) == len(y)
    assert_allclose(stars.background, 50, atol=1e-6)
    # of a Gaussian a disc of 1.5 FWHM holds all but 2^-9
    assert_allclose(stars.flux, 100 * (1 - 2**-9), rtol=2e-3)


def test_stars_at_the_border_or_without_flux_are_left_out():
    y, x = np.array([3.0, 200.0, 100.0]), np.array([200.0, 200.0, 100.0])
    stars = measure_stars(field([200], [200], 10.0), y, x, FWHM)
    assert_array_equal(stars.y, [200])


@pytest.mark.parametrize('fwhm', [2.2, 4.0])
def test_stars_are_found(rng, fwhm):
    y, x = grid(jitter=4, rng=rng)
    truth = 30 + field(y, x, np.geomspace(30, 3000, y.size), fwhm)
    truth += field([100.0], [300.0], 3000, 3 * fwhm)  # a galaxy is none
    found_y, found_x, width = find_stars(truth, 1.0)
    assert width == pytest.approx(fwhm, rel=0.03)
    distance = np.hypot(found_y[:, None] - y, found_x[:, None] - x)
    assert np.mean(distance.min(axis=0) < 0.1) > 0.97
    assert np.all(distance.min(axis=1) < 1)


def test_a_frame_without_stars_has_no_width():
    y, x, width = find_stars(np.zeros(SHAPE), 1.0)
    assert (len(y), len(x)) == (0, 0)
    assert np.isnan(width)


# Fluxes


@pytest.fixture
def faint_stars(rng):
    """Stars of aperture S/N 8, and their noise."""
    y, x = grid(20, jitter=3, rng=rng)
    truth = field(y, x, 8 * np.sqrt(np.pi * (1.5 * FWHM) ** 2))
    return truth, rng.normal(0, 1, SHAPE), measure_stars(truth, y, x, FWHM)


def test_dimmed_stars_have_a_flux_bias(faint_stars):
    truth, noise, stars = faint_stars
    found = aperture_flux(truth, truth + noise, 0.9 * truth, stars, sigma=SIGMA)
    assert found['percent 5-12'].value == pytest.approx(-10, abs=0.05)
    assert found['sigma 5-12'].value == pytest.approx(-0.8, rel=0.1)
    assert found['percent 5-12'].count == len(stars)
    assert found['scatter 5-12'].value < 0.05
    assert not found['percent >50'].testable


def test_noise_alone_is_no_bias_and_its_scatter_is_known(faint_stars):
    truth, noise, stars = faint_stars
    found = aperture_flux(truth, truth + noise, truth + 0.7 * noise, stars, sigma=SIGMA)
    assert within(found['sigma 5-12'], 0)
    assert found['scatter 5-12'].value == pytest.approx(0.7)


def test_aperture_noise_of_correlated_noise(rng):
    y, x = grid()
    white = rng.normal(0, 1, (800, 800))
    sigma = np.ones_like(white)
    area = np.pi * 4.5**2
    assert_allclose(aperture_noise(white, sigma, y, x, 4.5), np.sqrt(area), rtol=0.06)
    smooth = ndimage.gaussian_filter(white, 1.5)
    smooth /= smooth.std()
    sums = ndimage.convolve(smooth, (np.hypot(*np.mgrid[-5:6, -5:6]) <= 4.5).astype(float))
    found = aperture_noise(smooth, sigma, y, x, 4.5)[0]
    assert found == pytest.approx(sums.std() * np.sqrt(area / 69), rel=0.15)  # 69 whole px


@pytest.mark.parametrize('share', [1.0, 0.7])
def test_response(rng, share):
    y, x = grid(40)
    frame = rng.normal(0, 1, SHAPE)
    found = response(lambda a: share * a + 3, frame, y, x, moffat(FWHM), snr=20, sigma=1.0)
    assert found.value == pytest.approx(share)
    assert found.count == len(y)


def test_response_of_a_threshold_is_nothing(rng):
    y, x = grid(40)
    psf = moffat(FWHM)
    found = response(lambda a: np.minimum(a, 0.1), np.zeros(SHAPE), y, x, psf, snr=100, sigma=1.0)
    assert found.value < 0.3


def test_colour(rng):
    y, x = grid()
    truth = np.stack([field(y, x, flux) for flux in (100.0, 200.0, 300.0)])
    flux = np.stack([measure_stars(plane, y, x, FWHM).flux for plane in truth])
    denoised = truth * np.array([1.0, 0.9, 0.9])[:, None, None]
    found = star_colour(truth, denoised, y, x, flux, radius=4.5)
    assert found['colour 0-1'].value == pytest.approx(2.5 * np.log10(0.9), abs=1e-3)
    assert found['colour 1-2'].value == pytest.approx(0, abs=1e-6)


def test_leakage():
    y, x = grid(50)
    source = field(y, x, 100.0)
    truth = np.stack([source, 0 * source, 0 * source])
    denoised = np.stack([0.96 * source, 0.04 * source, 0 * source])
    flux = measure_stars(source, y, x, FWHM).flux
    found = band_leakage(truth, denoised, y, x, flux, plane=0, radius=4.5)
    assert sorted(found) == ['leakage 1', 'leakage 2']
    assert found['leakage 1'].value == pytest.approx(4, rel=1e-2)
    assert found['leakage 2'].value == 0


def test_galaxies():
    y, x, radius = np.array([100.0, 300.0]), np.array([200.0, 150.0]), np.array([40.0, 40.0])
    truth, wide = (
        5 + sum(gaussian(SHAPE, a, b, w, flux=1000) for a, b in zip(y, x, strict=True))
        for w in (12.0, 13.2)
    )
    found = galaxy_light(truth, 5 + 0.97 * (wide - 5), y, x, radius, background=5.0)
    assert found['flux'].value == pytest.approx(-3, abs=0.01)
    assert found['radius'].value == pytest.approx(10, abs=0.3)


def test_rings():
    y, x = grid(100)
    distance = np.min([np.hypot(*(np.indices(SHAPE) - [[[a]], [[b]]])) for a, b in zip(y, x,
                       strict=True)], axis=0)  # fmt: skip
    error = np.where((distance >= 3 * FWHM) & (distance < 5 * FWHM), -0.1, 0.0)
    error[distance < 2 * FWHM] = 7.0  # the star itself
    found = rings(error, y, x, FWHM)
    assert found['ring 3-5'].value == pytest.approx(-0.1, abs=0.01)
    assert abs(found['ring 8-12'].value) < 1e-6
    assert list(found) == ['ring 2-3', 'ring 3-5', 'ring 5-8', 'ring 8-12', 'ring 12-20']


def test_rings_leave_out_what_is_not_known():
    error = np.full(SHAPE, 0.5)
    error[:, 200:] = np.nan
    assert rings(error, [200.0], [200.0], FWHM)['ring 5-8'].value == pytest.approx(0.5)


def test_patches(rng):
    patch = gaussian(SHAPE, 200, 200, 60, flux=2000.0)
    flux = patch[np.hypot(*(np.indices(SHAPE) - 200)) <= 50].sum()
    found = patch_flux(patch, 0.95 * patch, [200.0], [200.0], [flux], radius=50)
    assert found.value == pytest.approx(0.95, abs=1e-3)


# Shapes


@pytest.mark.parametrize(('fwhm', 'e1'), [(2.5, 0.0), (4.0, 0.0), (4.0, 0.3)])
def test_moments_of_a_gaussian(fwhm, e1):
    stamp = gaussian((25, 25), 12.3, 11.8, fwhm, e1=e1)
    found = adaptive_moments(stamp[None], 3.0)
    assert found.fwhm[0] == pytest.approx(fwhm * (1 - e1**2) ** 0.25, rel=2e-3)
    assert found.e1[0] == pytest.approx(e1, abs=2e-3)
    assert found.e2[0] == pytest.approx(0, abs=2e-3)
    assert (found.y[0], found.x[0]) == (pytest.approx(0.3, abs=1e-3), pytest.approx(-0.2, abs=1e-3))


def test_turned_star_has_the_other_ellipticity():
    stamp = gaussian((25, 25), 12, 12, 4.0, e1=0.3)
    turned = ndimage.rotate(stamp, -45, reshape=False, order=3)
    found = adaptive_moments(turned[None], 4.0)
    assert found.e2[0] == pytest.approx(0.3, abs=0.01)
    assert found.e1[0] == pytest.approx(0, abs=0.01)


def test_no_star_has_no_shape(rng):
    stamps = np.stack([np.zeros((15, 15)), -gaussian((15, 15), 7, 7, 3)])
    assert np.isnan(adaptive_moments(stamps, 3.0).fwhm).all()


def test_shapes_that_change(rng):
    y, x = grid(jitter=1, rng=rng)
    truth = 20 + field(y, x, 1000.0, 3.0)
    changed = 20 + field(y + 0.05, x - 0.02, 900.0, 3.3, e1=0.1)
    found = shape_changes(truth, changed, y, x, fwhm=3.0, background=20.0)
    assert found['fwhm'].value == pytest.approx(100 * (1.1 * 0.99**0.25 - 1), abs=0.3)
    assert found['e1'].value == pytest.approx(0.1, abs=3e-3)
    assert found['x'].value == pytest.approx(-0.02, abs=2e-3)
    assert found['y'].value == pytest.approx(0.05, abs=2e-3)
    assert abs(found['phase'].value) < 5e-3
    assert found['peak'].value == pytest.approx(100 * (0.9 / 1.1**2 - 1), abs=3)


def test_centroids_that_are_drawn_to_the_pixels(rng):
    y, x = grid(jitter=1, rng=rng)
    drawn = [at - 0.03 * np.sin(2 * np.pi * at) for at in (y, x)]
    truth = field(y, x, 1000.0)
    found = shape_changes(truth, field(*drawn, 1000.0), y, x, fwhm=3.0)
    assert found['phase'].value == pytest.approx(-0.03, abs=5e-3)
    assert abs(found['x'].value) < 6e-3


def test_stack_of_faint_stars(rng):
    y, x = grid(20, jitter=0.5, rng=rng)
    flux = 8 * np.sqrt(4 * np.pi) * 3 / 2.3548  # matched-filter S/N of 8 in noise of 1
    truth = 20 + field(y, x, flux)
    noise = rng.normal(0, 0.3, SHAPE)
    kept = stacked_width(truth, truth + noise, y, x, fwhm=3.0, background=20.0)
    assert within(kept, 0)
    wide = stacked_width(
        truth, 20 + field(y, x, flux, 3.3) + noise, y, x, fwhm=3.0, background=20.0
    )
    # the pixels' phases widen both stacks alike, so a little less than 10 %
    assert within(wide, 9.3)
    assert wide.error < 1


def test_stamps_leave_the_border_out():
    image = np.arange(400.0).reshape(20, 20)
    assert_array_equal(stamps_at(image, [5.2], [6.6], 1)[0], image[4:7, 6:9])
    found = shape_changes(image, image, [2.0], [2.0], fwhm=3.0)
    assert found['fwhm'].count == 0


# Detection


def test_matched_filter_of_a_star_and_of_noise(rng):
    psf = moffat(FWHM)
    sigma = np.linspace(1, 3, 400) * np.ones(SHAPE)
    image = np.zeros(SHAPE)
    half = psf.shape[0] // 2
    image[200 - half : 200 + half + 1, 100 - half : 100 + half + 1] += 60 * psf
    snr = matched_filter(image, psf, sigma)
    expected = 60 * np.sqrt(np.sum(psf**2 / sigma[188:213, 88:113] ** 2))
    assert snr.max() == snr[200, 100] == pytest.approx(expected)
    noise = matched_filter(sigma * rng.normal(0, 1, SHAPE), psf, sigma)
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert filter_noise(noise, np.ones(SHAPE, bool)) == pytest.approx(1, abs=0.05)
    assert filter_noise(noise, np.zeros(SHAPE, bool)) == 1


def test_a_psf_that_is_not_symmetric_is_not_turned():
    psf = np.zeros((5, 5))
    psf[2, 2], psf[2, 4] = 0.7, 0.3
    image = np.zeros((20, 20))
    image[8:13, 8:13] = psf
    assert np.unravel_index(matched_filter(image, psf, 1.0).argmax(), image.shape) == (10, 10)


def test_moffat_has_its_width():
    psf = moffat(6.0, beta=2.5)
    assert psf.sum() == pytest.approx(1)
    middle = psf.shape[0] // 2
    half = np.interp(-psf.max() / 2, -psf[middle, middle:], np.arange(middle + 1))
    assert 2 * half == pytest.approx(6, rel=0.03)


def test_peaks():
    image = np.zeros((20, 20))
    image[4, 5], image[10, 12], image[15, 3] = 6, 4, 9
    y, x, height = peaks(image, 5)
    assert_array_equal([y, x, height], [[4, 15], [5, 3], [6, 9]])
    where = np.ones(image.shape, bool)
    where[:10] = False
    assert_array_equal(peaks(image, 5, where=where)[2], [9])


def peak_map(y, x, height):
    snr = np.zeros((2000, 1000))
    snr[np.round(y).astype(int), np.round(x).astype(int)] = height
    return snr


def test_completeness_is_taken_at_the_number_of_false_detections(rng):
    # two Mpx may have two false detections: the third false peak is the threshold
    false = peak_map([10, 30, 50, 70], [10, 10, 10, 10], [9.0, 8.0, 6.0, 3.0])
    y, x = np.arange(100, 1900, 20), np.full(90, 500)
    snr = false + peak_map(y, x, np.linspace(4, 8, 90))
    blank = np.ones(snr.shape, bool)
    options = {'low': 3, 'high': 7, 'radius': 3.0, 'blank': blank}
    strength = np.where(np.arange(90) < 80, 5.0, 20.0)
    found = completeness(snr, y + 1, x, strength, **options)
    counted = np.linspace(4, 8, 90)[:80]
    assert found.value == pytest.approx(np.mean(counted > 6))
    assert found.count == 80
    more = completeness(snr, y + 1, x, strength, false_per_mpx=1.5, **options)
    assert more.value == pytest.approx(np.mean(counted > 3))


def test_completeness_of_the_matched_filter_in_white_noise(rng):
    shape, psf = (1200, 1200), moffat(2.8)
    ys, xs = (part.ravel() for part in np.meshgrid(*[np.arange(25, 1190, 35)] * 2))
    unit = np.sqrt(np.sum(psf**2))
    image = np.zeros(shape)
    image[ys, xs] = 5 / unit
    image = ndimage.convolve(image, psf, mode='constant') + rng.normal(0, 1, shape)
    snr = matched_filter(image, psf, 1.0)
    found = completeness(
        snr, ys, xs, np.full(ys.size, 5.0), low=3, high=7, blank=np.ones(shape, bool), radius=2.8
    )
    false = np.sort(peaks(snr, 3.5, where=~ndimage.binary_dilation(
        peak_mask(shape, ys, xs), iterations=4))[2])[::-1]  # fmt: skip
    # S/N 5 with noise of 1, and the best of a few positions is a little higher
    assert found.value == pytest.approx(stats.norm.sf(false[1] - 5.1), abs=0.08)


def peak_mask(shape, y, x):
    mask = np.zeros(shape, bool)
    mask[y, x] = True
    return mask


def test_a_small_frame_tells_no_completeness():
    snr = np.zeros((100, 100))
    y = x = np.arange(10, 90, 5)
    found = completeness(snr, y, x, np.full(y.size, 5.0), low=3, high=7, blank=snr == 0, radius=2.0)
    assert found.why == 'too little blank sky for 1 false detection per Mpx'


def test_false_peaks_of_white_noise(rng):
    snr = peak_map([10, 500, 900], [10, 500, 900], [5.5, 4.9, 7.0])
    blank = np.ones(snr.shape, bool)
    assert false_peaks(snr, blank).value == pytest.approx(1.0)
    blank[:100] = False
    assert false_peaks(snr, blank).value == pytest.approx(1 / 1.9)


def test_invented_and_lost():
    y, x = np.array([10, 100, 200, 300]), np.array([20, 100, 200, 300])
    noisy = peak_map(y, x, [8.0, 20.0, 2.0, 6.0])
    denoised = peak_map(np.add(y, [1, 0, 0, 0]), x, [7.0, 5.0, 6.0, 6.0])
    figures, positions = invented_and_lost(noisy, denoised, radius=3.0)
    assert positions == {'invented': [[200, 200]], 'lost': [[100, 100]]}
    assert (figures['invented'].value, figures['lost'].value) == (1, 1)


def test_sources_that_move_are_lost_and_invented():
    noisy, denoised = (peak_map([10], [x], [8.0]) for x in (100, 105))
    _, positions = invented_and_lost(noisy, denoised, radius=3.0)
    assert positions == {'invented': [[105, 10]], 'lost': [[100, 10]]}
    valid = np.zeros(noisy.shape, bool)
    _, positions = invented_and_lost(noisy, denoised, radius=3.0, valid=valid)
    assert positions == {'invented': [], 'lost': []}


def test_recovered_flux(rng):
    y, x = grid(20)
    psf = moffat(FWHM)
    unit = np.sqrt(np.sum(psf**2))
    image = np.zeros(SHAPE)
    image[y.astype(int), x.astype(int)] = 4 / unit
    truth = ndimage.convolve(image, psf, mode='constant')
    error = matched_filter(0.6 * truth - truth, psf, 1.0)
    strength = np.full(y.size, 4.0)
    found = recovered_flux(error, y, x, strength, low=3, high=5)
    assert found.value == pytest.approx(0.6, abs=0.01)
    assert not recovered_flux(error, y, x, strength, low=5, high=10).testable


def test_choosing_stars():
    stars = Stars(*(np.arange(4.0) + i for i in range(4)), fwhm=2.0)
    assert stars.radius == 3
    bright = stars[stars.flux > 3]
    assert_array_equal(bright.y, [2, 3])
    assert bright.fwhm == 2


def test_peaks_that_are_not_alike_tell_no_fwhm():
    y, x = np.mgrid[:128, :128]
    image = np.zeros((128, 128))
    for row, column, width in ((40, 40, 1.2), (80, 90, 5.0)):
        image += 500 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    rows, columns, fwhm = find_stars(image, 1.0, threshold=30.0)
    assert len(rows) == len(columns) == 0
    assert np.isnan(fwhm)
