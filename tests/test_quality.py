# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Measures of pixels and of the sky on cases whose answer is known, and the whole evaluation."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from astrodenoise.measures.detections import moffat
from astrodenoise.measures.figures import combine
from astrodenoise.measures.pixels import (
    error_calibration,
    pair_gains,
    region_gains,
    regions,
    residual_power,
)
from astrodenoise.measures.residuals import (
    autocorrelation,
    banding_amplitude,
    banding_left,
    block_scatter,
    blotches_left,
    mottle,
    output_correlation,
    pattern_left,
    seams,
    sky_shift,
    tile_lines,
)
from astrodenoise.quality import evaluate, evaluate_pair

SHAPE = (256, 256)
EVERYWHERE = np.ones(SHAPE, bool)
SKY = np.zeros(SHAPE)


@pytest.fixture
def noise(rng):
    """White noise of sigma 1."""
    return rng.normal(0, 1, SHAPE)


def within(figure, value, *, n_sigma=4.0, error=None):
    """Whether a figure is at a value, by its own error."""
    assert figure.testable, figure.why
    error = figure.error if error is None else error
    return abs(figure.value - value) <= n_sigma * error


# Pixels


def test_regions():
    found = regions(np.array([-9.0, 0.29, 0.3, 4.9, 5.0, 100.0]))
    assert_array_equal(found['sky'], [1, 1, 0, 0, 0, 0])
    assert_array_equal(found['faint'], [0, 0, 1, 1, 0, 0])
    assert_array_equal(found['bright'], [0, 0, 0, 0, 1, 1])


def test_gain_of_each_region(noise):
    level = np.repeat([0.0, 1.0, 10.0, 10.0], 64)[:, None] * np.ones(SHAPE)
    left = np.select([level == 0, level == 1], [0.1, 0.5], 1.0)
    gains = region_gains(noise, left * noise, level)
    assert gains['sky'].value == pytest.approx(20)
    assert gains['faint'].value == pytest.approx(20 * np.log10(2))
    assert gains['bright'].value == pytest.approx(0, abs=1e-9)
    assert gains['all'].value == pytest.approx(-10 * np.log10((0.01 + 0.25 + 2) / 4), abs=0.1)
    assert gains['sky'].count == 64 * 256


def test_gain_leaves_out_what_is_not_valid(noise):
    valid = EVERYWHERE.copy()
    valid[:100] = False
    after = np.where(valid, noise / 2, 1e6)
    assert region_gains(noise, after, SKY, valid=valid)['sky'].value == pytest.approx(6.0206)
    assert not region_gains(noise, after, SKY, valid=valid & False)['sky'].testable


def test_gaussian_errors_are_covered_as_they_should(noise):
    s = np.linspace(0.1, 0.5, 256) * np.ones(SHAPE)
    found = error_calibration(s * noise, s, SKY)
    assert within(found['sky rms'], 1)
    assert within(found['sky within 1'], 0.6827)
    assert within(found['sky within 1.96'], 0.95)
    assert found['all rms'].value == found['sky rms'].value
    assert not found['bright rms'].testable


def test_an_error_map_of_half_the_size(noise):
    assert within(error_calibration(noise, np.full(SHAPE, 0.5), SKY)['all rms'], 2)


def test_residual_of_a_posterior_mean(rng, noise):
    # signal and noise of equal variance: the posterior mean halves the frame, s^2 is 1/2
    signal = rng.normal(0, 1, SHAPE)
    residual = (signal + noise) / 2
    s = np.full(SHAPE, np.sqrt(0.5))
    assert within(residual_power(residual, s, SKY)['all'], 0)


@pytest.mark.parametrize('references', [1, 2])
def test_pair_gain_needs_no_truth(rng, noise, references):
    truth = 100 * np.sin(np.arange(256) / 9) * np.ones(SHAPE)
    sigma = 3.0
    noisy, denoised = truth + sigma * noise, truth + 0.5 * sigma * noise
    first, second = (truth + sigma * rng.normal(0, 1, SHAPE) for _ in range(2))
    if references == 2:
        found = pair_gains(noisy, denoised, first, second, sigma=sigma)
    else:
        found = pair_gains(noisy, denoised, first, sigma=sigma, variance=sigma**2)
    assert list(found) == ['all']
    assert within(found['all'], 20 * np.log10(2))
    assert found['all'].error < 0.3


def test_one_reference_needs_its_variance(noise):
    with pytest.raises(ValueError, match='variance'):
        pair_gains(noise, noise, noise, sigma=1.0)


def test_error_below_the_noise_of_the_reference_is_told(noise):
    found = pair_gains(noise, 0 * noise, noise, sigma=1.0, variance=2.0)
    assert found['all'].why == 'the error is not above the noise of the reference'


# Sky


def test_sky_shift(noise):
    found = sky_shift(0.3 * noise + 0.05, EVERYWHERE)
    assert within(found, 0.05)
    assert found.error == pytest.approx(0.3 / 256, rel=0.6)


def test_block_scatter(rng):
    before = rng.normal(0, 1, (512, 512))
    sky = np.ones_like(before, bool)
    offsets = np.kron(rng.normal(0, 1, (4, 4)), np.ones((128, 128)))
    offsets *= 0.1 / offsets.std()
    assert block_scatter(before, before, sky).value == 0
    assert block_scatter(before, before + offsets, sky).value == pytest.approx(0.1, rel=0.3)
    assert block_scatter(before + offsets, before, sky).value == pytest.approx(-0.1, rel=0.3)


def test_mottle(noise):
    smooth = ndimage.gaussian_filter(noise, 0.7)
    assert mottle(noise, noise, EVERYWHERE).value == pytest.approx(1)
    assert mottle(noise, 0.25 * noise, EVERYWHERE).value == pytest.approx(0.25)
    assert mottle(noise, smooth, EVERYWHERE).value > 0.97  # what is fine is no mottle
    assert mottle(noise, noise - ndimage.gaussian_filter(noise, 40), EVERYWHERE).value > 0.9


def test_pattern_left(rng, noise):
    pattern = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 5)
    assert pattern_left(0.2 * pattern, pattern, EVERYWHERE).value == pytest.approx(0.2)
    assert within(pattern_left(noise, pattern, EVERYWHERE), 0)


def test_blotches_left(rng):
    pattern = ndimage.gaussian_filter(rng.normal(0, 1, (3, *SHAPE)), (0, 4, 4))
    pattern -= pattern.mean(axis=0)
    grey = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 4)  # no colour, so no blotch
    assert blotches_left(0.3 * pattern + grey, pattern, EVERYWHERE).value == pytest.approx(0.3)


@pytest.mark.parametrize('axis', [0, 1])
def test_banding(rng, noise, axis):
    offsets = rng.normal(0, 0.5, 256)
    bands = offsets[:, None] if axis == 0 else offsets
    slope = np.linspace(0, 3, 256)[:, None] + np.linspace(0, 5, 256)
    where = rng.random(SHAPE) < 0.9
    left = banding_left(0.2 * bands + 0 * noise, offsets, where, axis=axis)
    assert left.value == pytest.approx(0.2)
    assert within(banding_left(noise, offsets, where, axis=axis), 0)
    found = banding_amplitude(noise + bands + slope, where, axis=axis)
    assert found.value == pytest.approx(0.5, rel=0.15)
    assert abs(banding_amplitude(noise + bands, where, axis=1 - axis).value) < 0.06


def test_correlated_noise_is_no_banding(noise):
    smooth = ndimage.gaussian_filter(noise, 1.5)
    assert abs(banding_amplitude(smooth / smooth.std(), EVERYWHERE).value) < 0.1


@pytest.mark.parametrize('lag', [1, 2])
def test_autocorrelation(noise, lag):
    assert within(autocorrelation(noise + 7, EVERYWHERE, lag=lag), 0)
    smooth = ndimage.uniform_filter(noise, (3, 3))
    # boxes of three share two pixels, then one
    assert within(autocorrelation(smooth, EVERYWHERE, lag=lag), (3 - lag) / 3)


def test_autocorrelation_of_a_part(rng, noise):
    where = rng.random(SHAPE) < 0.5
    smooth = ndimage.uniform_filter(noise, (3, 3))
    spoilt = np.where(where, smooth, 1e3)
    assert within(autocorrelation(spoilt, where), 2 / 3)


def test_output_correlation(rng, noise):
    other = rng.normal(0, 1, SHAPE)
    level = np.linspace(0, 50, 256)[:, None]  # a gradient in the output is none
    assert within(output_correlation(noise, other + level, EVERYWHERE), 0)
    mixed = (noise + other) / np.sqrt(2)
    assert output_correlation(noise, mixed, EVERYWHERE).value == pytest.approx(0.707, abs=0.02)


def test_seams(noise):
    lines = (np.array([64, 128, 192]),) * 2
    smooth = ndimage.gaussian_filter(noise, 2)
    assert within(seams(smooth, lines, EVERYWHERE), 1)
    steps = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((64, 64)))
    assert seams(smooth + smooth.std() * steps, lines, EVERYWHERE).value > 3
    beside = (np.array([80, 144, 208]),) * 2
    stepped = smooth + smooth.std() * np.roll(steps, 40, (0, 1))
    assert seams(stepped, beside, EVERYWHERE).value < 1.1


def test_one_tile_has_no_seams(noise):
    found = seams(noise, (np.empty(0, int),) * 2, EVERYWHERE)
    assert not found.testable


def test_tile_lines_are_where_tiles_end():
    # tiles of 256 that share 64 begin at -32, 160, 352 ...
    assert_array_equal(tile_lines(500), [160, 224, 352, 416])
    assert_array_equal(tile_lines(512, overlap=0), [256])


# All of it


def star_field(rng, shape=SHAPE, *, n=60, low=20, high=400, fwhm=3.0):
    """A truth of stars of matched-filter S/N `low` to `high` on a sky of 100."""
    psf = moffat(fwhm)
    half = psf.shape[0] // 2
    truth = np.zeros(np.add(shape, 2 * half))
    ys, xs = (rng.integers(20, side - 20, n) for side in shape)
    unit = np.sqrt(np.sum(psf**2))
    for y, x, snr in zip(ys, xs, np.geomspace(low, high, n), strict=True):
        truth[y : y + 2 * half + 1, x : x + 2 * half + 1] += snr / unit * psf
    return 100 + truth[half:-half, half:-half], np.column_stack([xs, ys])


def test_a_frame_that_is_left_as_it_is(rng, noise):
    truth, _ = star_field(rng)
    noisy = truth + 2 * noise
    found = evaluate(truth, noisy, noisy, sigma=2.0)
    figures = found.figures
    for name in ('all', 'sky', 'faint'):
        assert figures[f'gain.{name}'].value == pytest.approx(0, abs=1e-9)
    assert figures['mottle'].value == pytest.approx(1)
    assert figures['block scatter'].value == pytest.approx(0, abs=1e-9)
    assert within(figures['flux.percent 12-50'], 0)
    assert figures['flux.scatter 12-50'].value == pytest.approx(1)
    assert found.positions == {'invented': [], 'lost': []}
    assert figures['sky shift'].value == found.noisy['sky shift'].value


def test_a_perfect_denoiser(rng, noise):
    truth, _ = star_field(rng)
    found = evaluate(truth, truth + 2 * noise, truth, sigma=2.0).figures
    assert found['sky shift'].value == 0
    assert found['mottle'].value == 0
    assert found['flux.percent >50'].value == 0
    for name in ('fwhm', 'peak', 'e1', 'x', 'phase'):
        assert found[f'shape.{name}'].value == pytest.approx(0, abs=1e-9)
    assert not found['gain.all'].testable  # there is no error to compare with
    assert within(found['residual lag 1'], 0)
    assert found['lost'].value == 0


def test_sigma_and_stars_are_found(rng, noise):
    truth, places = star_field(rng, n=40)
    noisy = truth + 5 * noise
    told = evaluate(truth, noisy, noisy, sigma=5.0, stars=places, fwhm=3.0)
    found = evaluate(truth, noisy, noisy)
    assert found.figures['gain.all'].value == pytest.approx(0, abs=1e-9)
    pairs = [(e.figures['flux.sigma 12-50'], e.figures['calibration']) for e in (told, found)]
    assert abs(pairs[0][0].count - pairs[1][0].count) <= 4
    assert pairs[1][1].why == 'no error map was given'


def test_stars_that_lose_light_are_seen(rng, noise):
    truth, _ = star_field(rng)
    dimmed = 100 + 0.9 * (truth - 100)
    found = evaluate(truth, truth + noise, dimmed, sigma=1.0).figures
    assert found['flux.percent >50'].value == pytest.approx(-10, abs=0.2)
    assert found['shape.peak'].value == pytest.approx(-10, abs=0.2)
    assert found['shape.fwhm'].value == pytest.approx(0, abs=0.2)


def test_error_map(rng, noise):
    truth, _ = star_field(rng)
    denoised = truth + 2 * 0.2 * rng.normal(0, 1, SHAPE)
    found = evaluate(
        truth, truth + 2 * noise, denoised, sigma=2.0, error_map=np.full(SHAPE, 0.4)
    ).figures
    assert within(found['calibration.sky rms'], 1)
    assert within(found['calibration.sky within 1'], 0.6827)


def test_invalid_pixels_do_not_count(rng, noise):
    truth, _ = star_field(rng)
    noisy = truth + 2 * noise
    spoilt = noisy.copy()
    spoilt[40:80, 40:80] = np.nan
    valid = EVERYWHERE.copy()
    valid[100:110] = False
    denoised = np.where(valid, truth + noise, 1e9)
    found = evaluate(truth, spoilt, denoised, sigma=2.0, valid=valid).figures
    assert found['gain.all'].value == pytest.approx(6.02, abs=0.01)
    assert found['gain.all'].count == 256 * 246 - 1600
    assert found['invented'].value == 0


def test_a_noisy_truth_is_told(rng, noise):
    truth, _ = star_field(rng)
    noisy = truth + 2 * noise
    deep = truth + rng.normal(0, 1, SHAPE)
    (note,) = evaluate(deep, noisy, noisy, sigma=2.0).notes
    assert 'the truth has noise of its own, 0.5' in note


def test_blank_sky(noise):
    found = evaluate(np.full(SHAPE, 50.0), 50 + noise, 50 + noise / 9, sigma=1.0)
    assert found.figures['false peaks'].value == 0
    assert found.figures['gain.sky'].value == pytest.approx(20 * np.log10(9))
    assert found.notes == ('no star tells the FWHM: the matched filter is made for 3 px',)
    assert not found.figures['flux.sigma 5-12'].testable


def test_planes_are_pooled_and_have_colours(rng):
    truth, _ = star_field(rng)
    truth = np.stack([truth, truth, truth])
    noisy = truth + rng.normal(0, 1, truth.shape)
    denoised = truth.copy()
    denoised[0] = 100 + (truth[0] - 100) / 10**0.4  # one magnitude fainter
    found = evaluate(truth, noisy, denoised, sigma=1.0)
    assert found.figures['colour 0-1'].value == pytest.approx(1, abs=0.01)
    assert found.figures['colour 1-2'].value == 0
    assert found.figures['sky shift'].count == 3 * evaluate(
        truth[0], noisy[0], denoised[0], sigma=1.0
    ).figures['sky shift'].count  # fmt: skip


def test_one_plane_has_no_colour(rng, noise):
    truth, _ = star_field(rng)
    found = evaluate(truth, truth + noise, truth, sigma=1.0).figures
    assert found['colour'].why == 'there is one plane'


def test_galaxies_are_measured_where_they_are_given(noise):
    y, x = np.mgrid[:256, :256]
    truth = 10 + 300 * np.exp(-np.hypot(y - 128, x - 100) / 6)
    options = {'sigma': 1.0, 'sky': 10.0, 'galaxies': [(100, 128, 40)]}
    found = evaluate(truth, truth + noise, 10 + 0.98 * (truth - 10), **options).figures
    assert found['galaxies.flux'].value == pytest.approx(-2, abs=0.3)
    assert found['galaxies.radius'].value == pytest.approx(0, abs=0.1)


def test_several_frames_are_combined(rng):
    evaluations = []
    for _ in range(3):
        truth, _ = star_field(rng)
        noise = rng.normal(0, 1, SHAPE)
        evaluations.append(evaluate(truth, truth + noise, truth + noise / 2, sigma=1.0))
    pooled = combine(evaluations)
    assert pooled.scenes == 3
    assert pooled.figures['gain.all'].value == pytest.approx(6.0206)
    assert pooled.figures['gain.all'].count == 3 * 256**2
    assert '3 scenes' not in str(pooled)
    assert json.loads(pooled.to_json())['scenes'] == 3


def test_shapes_must_agree(noise):
    with pytest.raises(ValueError, match=r'truth \(256, 256\), noisy \(256, 255\)'):
        evaluate(noise, noise[:, 1:], noise)
    with pytest.raises(ValueError, match=r'must be \(H, W\) or \(N, H, W\)'):
        evaluate(noise[0], noise[0], noise[0])
    with pytest.raises(ValueError, match='first'):
        evaluate_pair(noise, noise[1:], noise)


def test_nothing_to_compare(noise):
    with pytest.raises(ValueError, match='no pixel is finite'):
        evaluate(noise, np.full(SHAPE, np.nan), noise)


def test_noise_that_cannot_be_seen(noise):
    with pytest.raises(ValueError, match='pass sigma='):
        evaluate(SKY, SKY, SKY)


# A second exposure instead of a truth


def test_pair(rng, noise):
    truth, _ = star_field(rng)
    first, second = truth + 2 * noise, truth + 2 * rng.normal(0, 1, SHAPE)
    denoised = truth + noise
    found = evaluate_pair(first, second, denoised)
    figures = found.figures
    assert within(figures['gain.all'], 20 * np.log10(2))
    assert within(figures['sky shift'], 0)
    assert within(figures['residual lag 1'], 0)
    assert within(figures['flux.percent >50'], 0)
    assert figures['shape'].why == 'needs a truth'
    assert found.positions == {'invented': [], 'lost': []}
    assert found.notes == ()


def test_pair_with_given_sigma(rng, noise):
    truth, _ = star_field(rng)
    first, second = truth + 2 * noise, truth + 3 * rng.normal(0, 1, SHAPE)
    found = evaluate_pair(first, second, truth + noise, sigma=2.0, sigma_second=3.0).figures
    assert within(found['gain.all'], 20 * np.log10(2))


def test_pair_sees_invented_and_lost_stars(rng, noise):
    truth, _ = star_field(rng, n=4)
    star = star_field(np.random.default_rng(1), n=1, low=40, high=40)[0] - 100
    first, second = (truth + star + rng.normal(0, 1, SHAPE) for _ in range(2))
    y, x = np.unravel_index(star.argmax(), SHAPE)
    moved = np.roll(star, 30, axis=1)
    found = evaluate_pair(first, second, truth + moved + noise / 10)
    assert found.positions['lost'] == [[pytest.approx(x, abs=1), pytest.approx(y, abs=1)]]
    assert found.positions['invented'] == [
        [pytest.approx((x + 30) % 256, abs=1), pytest.approx(y, abs=1)]
    ]


def test_exposures_of_unequal_brightness_are_told(rng, noise):
    truth, _ = star_field(rng, low=200, high=2000)
    first = truth + noise
    second = 100 + 1.2 * (truth - 100) + rng.normal(0, 1, SHAPE)
    (note,) = evaluate_pair(first, second, first).notes
    assert 'brightness by a factor of 1.2' in note


def test_frames_of_unequal_seeing_are_combined(rng):
    evaluations = []
    for fwhm in (2.5, 4.0):
        truth, places = star_field(rng, low=6, high=11, fwhm=fwhm)
        noise = rng.normal(0, 1, SHAPE)
        evaluations.append(
            evaluate(truth, truth + noise, truth, sigma=1.0, stars=places, fwhm=fwhm)
        )
    stack = combine(evaluations).figures['shape.stack']
    assert stack.count > max(e.figures['shape.stack'].count for e in evaluations)
    assert stack.value == pytest.approx(0, abs=1e-4)
