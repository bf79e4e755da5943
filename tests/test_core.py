# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What `denoise` promises, on the shipped weights."""

import copy
import itertools
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDData,
    StdDevUncertainty,
    VarianceUncertainty,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import astrodenoise
from astrodenoise import denoise, measure_noise, read_provenance
from astrodenoise.exceptions import (
    AlreadyDenoisedWarning,
    LimitedWarning,
    NoiseMismatchWarning,
    NoNoiseWarning,
    WeightsError,
)
from astrodenoise.tiling import Blender, fitting_tile, tile_starts
from astrodenoise.training.scenes import draw_scene
from helpers import examples

SHAPE = (192, 160)


@pytest.fixture(scope='module')
def scene():
    """Give a noiseless scene in sigma: a galaxy and stars."""
    return draw_scene(np.random.default_rng(11), SHAPE, 'galaxy').clip(0, 300)


@pytest.fixture(scope='module')
def noisy(scene):
    """Give that scene with noise of 5 adu on a sky of 100 adu."""
    noise = np.random.default_rng(12).normal(size=SHAPE)
    return (100 + 5 * (scene + noise)).astype(np.float32)


def rms(values):
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def error(clean, scene):
    """Rms error of a result in sigma."""
    return rms((clean - 100) / 5 - scene)


def test_most_of_the_noise_goes(noisy, scene):
    assert error(denoise(noisy), scene) < 0.4 * error(noisy, scene)


def test_the_input_is_not_touched(noisy):
    ccd = CCDData(noisy.copy(), unit='adu', mask=noisy > 400, meta={'OBJECT': 'M 51'})
    before = copy.deepcopy(ccd)
    denoise(ccd)
    assert_array_equal(ccd.data, before.data)
    assert_array_equal(ccd.mask, before.mask)
    assert ccd.meta == before.meta
    assert ccd.uncertainty is None


@pytest.mark.parametrize('kind', [np.asarray, NDData, 'ccd', 'quantity'])
def test_the_same_kind_of_object_comes_back(noisy, kind):
    frame = {
        'ccd': lambda data: CCDData(data, unit='adu'),
        'quantity': lambda data: data * u.adu,
    }.get(kind, kind)(noisy)
    clean = denoise(frame)
    assert type(clean) is type(frame)
    pixels = getattr(clean, 'data', clean)
    assert_array_equal(np.asarray(getattr(clean, 'value', pixels)), denoise(noisy))
    if kind in ('ccd', 'quantity'):
        assert clean.unit == u.adu


@pytest.mark.parametrize('dtype', ['>f4', '<f8', '>i2', 'u2', 'i4', 'f2'])
def test_dtypes_and_byte_orders(noisy, dtype):
    clean = denoise(noisy.astype(dtype))
    assert clean.dtype == (np.float64 if dtype in ('<f8', 'i4') else np.float32)
    assert clean.dtype.isnative
    # whole adu of a noise of 5 add little
    assert rms(clean - denoise(noisy)) < 0.3 * 5


@pytest.mark.parametrize('shape', [(1, 1), (1, 40), (7, 3), (33, 257), (300, 64)])
def test_any_size(shape, rng):
    data = rng.normal(10, 2, shape).astype(np.float32)
    clean = denoise(data, noise=2.0)
    assert clean.shape == shape
    assert np.isfinite(clean).all()
    if min(shape) > 30:
        assert rms(clean - 10) < 0.5 * 2


def test_planes_are_separate(noisy):
    cube = np.stack([noisy, noisy[::-1], noisy * 3])
    clean = denoise(cube)
    for plane, alone in zip(clean, cube, strict=True):
        assert_array_equal(plane, denoise(np.ascontiguousarray(alone)))
    assert_array_equal(clean, denoise(cube, channels='joint', model='mono'))
    with pytest.raises(ValueError, match='three planes'):
        denoise(cube[:2], channels='joint')


# --- three planes together -----------------------------------------------------------------------


@pytest.fixture(scope='module')
def colour():
    """Give three planes of one field: truth, and frame with noise of 1."""
    truth = draw_scene(np.random.default_rng(31), (256, 256), 'galaxy', n_planes=3).clip(0, 200)
    return truth, truth + np.random.default_rng(32).normal(0, 1, truth.shape).astype(np.float32)


def test_stars_and_galaxies_are_better_in_joint_planes(rng):
    errors = {'joint': [], 'separate': []}  # in dB
    for seed, kind in enumerate(('stars', 'cluster', 'galaxy')):
        truth = draw_scene(np.random.default_rng(seed), (256, 256), kind, n_planes=3).clip(0, 200)
        noisy = truth + rng.normal(0, 1, truth.shape).astype(np.float32)
        for how, found in errors.items():
            found.append(20 * np.log10(rms(denoise(noisy, channels=how) - truth)))
    assert np.mean(errors['joint']) < np.mean(errors['separate']) - 0.5


def test_joint_planes_have_their_own_units(colour):
    _, noisy = colour
    factors = np.array([1.0, 1e-3, 40.0])[:, None, None]
    levels = np.array([500.0, 0.0, -7.0])[:, None, None]
    clean = denoise(noisy.astype(float), channels='joint')
    other = denoise(noisy * factors + levels, channels='joint')
    assert_allclose((other - levels) / factors, clean, atol=0.02)


def test_a_source_in_one_plane_does_not_leak_into_the_others(rng):
    noise = rng.normal(0, 1, (3, 256, 256))
    y, x = np.mgrid[:256, :256]
    star = sum(
        60 * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 5)
        for at_y in range(32, 256, 64) for at_x in range(32, 256, 64)
    )
    near = star > 1
    without = denoise(noise, channels='joint', noise=1.0)
    noise[0] += star
    with_star = denoise(noise, channels='joint', noise=1.0)
    own = np.sum((with_star - without)[0][near])
    assert own == pytest.approx(star[near].sum(), rel=0.03)
    for plane in (1, 2):
        assert abs(np.sum((with_star - without)[plane][near])) < 0.02 * own


def test_a_constant_or_masked_plane_stays_and_the_others_are_denoised(colour):
    truth, noisy = colour
    flat = noisy.copy()
    flat[1] = 7
    with pytest.warns(NoNoiseWarning):
        clean = denoise(flat, channels='joint')
    assert_array_equal(clean[1], 7)
    for plane in (0, 2):
        assert rms(clean[plane] - truth[plane]) < 0.5
    ccd = CCDData(noisy, unit='adu', mask=np.zeros(noisy.shape, bool))
    ccd.mask[2] = True
    clean = denoise(ccd, channels='joint', noise=1.0).data
    assert_array_equal(clean[2], noisy[2])
    assert rms(clean[0] - truth[0]) < 0.5


def test_the_header_names_the_colour_model(colour):
    record = read_provenance(denoise(CCDData(colour[1], unit='adu'), channels='joint').meta)
    assert (record['model'], record['channels']) == ('colour', 'joint')
    with pytest.raises(ValueError, match="channels='joint'"):
        denoise(colour[1], model='colour')


def test_the_fast_models_are_a_pair_too():
    gains = []  # in dB, of joint planes over separate ones
    for kind, seed in itertools.product(('cluster', 'galaxy'), (40, 41)):
        truth = draw_scene(np.random.default_rng(seed), (256, 256), kind, n_planes=3).clip(0, 200)
        noise = np.random.default_rng(seed - 40).normal(0, 1, truth.shape)
        noisy = CCDData(truth + noise.astype(np.float32), unit='adu')
        separate, joint = (
            denoise(noisy, model='fast', channels=how) for how in ('separate', 'joint')
        )
        assert [read_provenance(clean)['model'] for clean in (separate, joint)] == [
            'fast', 'fast_colour'
        ]  # fmt: skip
        errors = [rms(clean.data - truth) for clean in (separate, joint)]
        gains.append(20 * np.log10(errors[0] / errors[1]))
    assert np.mean(gains) > 0.2
    one = denoise(noisy.data[1], model='fast')
    assert_array_equal(separate.data[1], one)


# --- property 1: scale and level ---------------------------------------------------------------


@pytest.mark.parametrize('exponent', [-90, -3, 0, 7, 90])
def test_scale_by_a_power_of_two_gives_the_same_bits(noisy, exponent):
    factor = np.float32(2.0**exponent)
    assert_array_equal(denoise(noisy * factor), denoise(noisy) * factor)


@examples(8)
@given(exponent=st.floats(-30, 30), level=st.floats(-1e4, 1e4))
def test_scale_and_level_of_the_frame_do_not_matter(noisy, exponent, level):
    factor = 10.0**exponent
    data = noisy.astype(np.float64)
    sigma = 5 * factor
    expected = (denoise(data, precision='float32') - 100) * factor
    # a level in units of sigma, in an input that can carry it
    result = denoise((data - 100) * factor + level * sigma, precision='float32')
    rounding = 4 * np.spacing(abs(level) * sigma) / sigma
    assert rms((result - level * sigma - expected) / sigma) < 1e-4 + rounding


def test_scale_in_bfloat16(noisy):
    result = denoise(3.7 * noisy + 11, precision='bfloat16')
    assert rms((result - 11) / 3.7 - denoise(noisy, precision='bfloat16')) / 5 < 3e-3


# --- property 2: nothing to do ------------------------------------------------------------------


def test_strength_zero_gives_the_frame_back(noisy):
    assert_array_equal(denoise(noisy, strength=0), noisy)


@pytest.mark.parametrize('strength', [0.25, 0.7])
def test_strength_is_a_plain_blend(noisy, strength):
    full = denoise(noisy.astype(float))
    part = denoise(noisy.astype(float), strength=strength)
    assert_allclose(part, noisy + strength * (full - noisy), atol=1e-5 * 5)


# without noise much of a frame looks like runs of one value
@pytest.mark.filterwarnings('ignore::astrodenoise.exceptions.UnlikeTrainingWarning')
def test_noiseless_scenes_are_left_alone():
    changes = []
    for number, kind in enumerate(('galaxy', 'stars', 'nebula', 'cluster', 'faint', 'galaxy')):
        noiseless = draw_scene(np.random.default_rng((11, number)), SHAPE, kind)
        changes.append(rms(denoise(noiseless, noise=1.0) - noiseless))
    assert max(changes) < 0.05


def test_a_constant_frame_comes_back_with_a_warning():
    data = np.full(SHAPE, 7.0)
    with pytest.warns(NoNoiseWarning):
        assert_array_equal(denoise(data), data)


def test_a_frame_that_varies_without_noise_needs_noise():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    data = np.sin(y / 40) + 0.01 * x
    with pytest.raises(ValueError, match='pass noise='):
        denoise(data)


# --- property 3: the limit ----------------------------------------------------------------------


def test_no_box_moves_out_of_proportion(noisy, monkeypatch):
    rows = Blender.rows
    monkeypatch.setattr(Blender, 'rows', lambda *args, **keys: 0 * rows(*args, **keys) + 9)
    with pytest.warns(LimitedWarning, match='held back'):
        clean = denoise(CCDData(noisy, unit='adu'))
    change = (clean.data - noisy) / clean.uncertainty.array
    assert np.abs(change).max() <= 6.01
    assert abs(np.mean(change)) < 6.01 / 33 * 1.2  # the largest box, correlation included
    assert astrodenoise.read_provenance(clean.meta)['planes'][0]['limited'] > 0
    unlimited = denoise(CCDData(noisy, unit='adu'), limit=None)
    assert_allclose((noisy - unlimited.data) / clean.uncertainty.array, 9, rtol=1e-3)


# --- property 4: bad pixels ---------------------------------------------------------------------


@pytest.mark.parametrize('value', [np.nan, np.inf, -1e30, 65535.0])
def test_masked_pixels_come_back_and_do_no_harm(noisy, value):
    mask = np.zeros(SHAPE, bool)
    mask[50:60, 70:75] = True
    spoilt = np.where(mask, np.float32(value), noisy)
    clean = denoise(CCDData(spoilt, unit='adu', mask=mask))
    assert_array_equal(clean.data[mask], spoilt[mask])
    assert_array_equal(clean.mask, mask)
    # what stands in masked pixels is never looked at
    other = denoise(CCDData(np.where(mask, np.float32(3), noisy), unit='adu', mask=mask))
    assert_array_equal(clean.data[~mask], other.data[~mask])
    assert np.isfinite(clean.data[~mask]).all()


def test_nan_without_a_mask(noisy):
    spoilt = noisy.copy()
    spoilt[5, 5:9] = np.nan
    clean = denoise(spoilt)
    assert_array_equal(np.isnan(clean), np.isnan(spoilt))


def test_an_empty_border_and_saturated_stars_come_back(noisy):
    data = noisy.copy()
    data[:20] = 0
    data[100:104, 80:85] = 60000
    clean = denoise(data)
    for kept in (slice(0, 20), (slice(100, 104), slice(80, 85))):
        assert_array_equal(clean[kept], data[kept])
    data[150, 30] = 55555
    clean = denoise(data, saturation=50000 * u.dimensionless_unscaled)
    assert clean[150, 30] == 55555


# --- property 7: levels and gradients -----------------------------------------------------------


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize(('level', 'slope'), [(1000, 0), (-300, 0.3), (0, 1)])
def test_a_level_or_gradient_is_no_structure(precision, level, slope, rng):
    scene = draw_scene(np.random.default_rng(21), (256, 256), 'stars').clip(0, 100)
    data = scene + rng.normal(size=scene.shape)
    y, x = np.mgrid[:256, :256]
    plane = level + slope * y - 0.5 * slope * x
    noise = astrodenoise.FrameNoise(measure_noise(data).planes)
    plain = denoise(data, noise=noise, precision=precision)
    lifted = denoise(data + plane, noise=noise, precision=precision)
    assert rms(lifted - plane - plain) < 0.05


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_gain_does_not_depend_on_the_level_above_the_sky(precision, rng):
    scene = draw_scene(np.random.default_rng(22), (256, 256), 'nebula').clip(0, 100)
    noise = rng.normal(size=scene.shape)
    gains = [
        -20 * np.log10(rms(denoise(scene + noise + level, precision=precision) - scene - level))
        for level in (0, 10, 100, 1000)
    ]
    assert max(gains) - min(gains) < 1


# --- property 8: what is not noise stays ---------------------------------------------------------


def test_single_pixel_impulses_stay(rng):
    data = rng.normal(size=(256, 256))
    places = np.ix_(range(12, 250, 24), range(12, 250, 24))
    data[places] += 20
    clean = denoise(data)
    kept = clean[places] / data[places]
    assert np.median(kept) > 0.9
    neighbours = np.zeros_like(data, bool)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        neighbours[np.ix_(np.arange(12, 250, 24) + dy, np.arange(12, 250, 24) + dx)] = True
    assert abs(np.mean(clean[neighbours])) < 0.03 * 20


# --- noise that is given -------------------------------------------------------------------------


def test_uncertainty_of_every_class_is_used_and_kept(noisy):
    sigma = np.full(SHAPE, 5.0, np.float32)
    made = (StdDevUncertainty(sigma), VarianceUncertainty(sigma**2), InverseVariance(sigma**-2))
    results = []
    for uncertainty in made:
        clean = denoise(CCDData(noisy, unit='adu', uncertainty=uncertainty))
        assert type(clean.uncertainty) is type(uncertainty)
        assert_array_equal(clean.uncertainty.array, uncertainty.array)
        assert astrodenoise.read_provenance(clean.meta)['planes'][0]['noise'] == 'uncertainty'
        results.append(clean.data)
    assert_allclose(results[1], results[0], atol=1e-3)
    assert_allclose(results[2], results[0], atol=1e-3)


def test_sigma_that_was_used_is_the_uncertainty_where_there_is_none(noisy):
    clean = denoise(CCDData(noisy, unit='adu'))
    assert isinstance(clean.uncertainty, StdDevUncertainty)
    assert_allclose(clean.uncertainty.array, 5, rtol=0.15)
    assert denoise(CCDData(noisy, unit='adu'), uncertainty=None).uncertainty is None


def test_an_uncertainty_of_the_wrong_level_is_corrected_with_one_warning(noisy):
    wrong = CCDData(noisy, unit='adu', uncertainty=StdDevUncertainty(np.full(SHAPE, 3.1)))
    with pytest.warns(NoiseMismatchWarning, match=r'3\.1.*shows') as caught:
        clean = denoise(wrong)
    assert len(caught) == 1
    assert rms(clean.data - denoise(noisy)) < 0.05 * 5


def test_a_noisy_uncertainty_is_smoothed(noisy, rng):
    # a median of five frames gives 0.62 of the true sigma with 40 % scatter and zeros
    plane = 0.62 * 5 * rng.lognormal(0, 0.4, SHAPE)
    plane[rng.random(SHAPE) < 0.1] = 0
    plane[3, 3] = np.nan
    with pytest.warns(NoiseMismatchWarning):
        clean = denoise(CCDData(noisy, unit='adu', uncertainty=StdDevUncertainty(plane)))
    assert rms(clean.data - denoise(noisy)) < 0.1 * 5


@pytest.mark.parametrize('given_noise', [5.0, 5 * u.adu, 0.005 * u.Unit('1000 adu')])
def test_a_number_is_an_order(noisy, given_noise):
    clean = denoise(CCDData(noisy, unit='adu'), noise=given_noise)
    assert astrodenoise.read_provenance(clean.meta)['planes'][0]['sigma'] == pytest.approx(5)


def test_gain_and_read_noise_of_a_single_exposure(scene):
    rng = np.random.default_rng(5)
    electrons = 400 + 20.6 * scene
    adu = (rng.poisson(electrons) + rng.normal(0, 5, SHAPE)) / 1.5
    ccd = CCDData(adu, unit='adu')
    pair = (1.5 * u.electron / u.adu, 5 * u.electron)
    clean = denoise(ccd, noise=pair)
    sigma = clean.uncertainty.array
    true = np.sqrt(electrons + 25) / 1.5
    assert np.median(np.abs(sigma / true - 1)) < 0.05
    bright = electrons > 1000
    assert np.median(np.abs(sigma[bright] / true[bright] - 1)) < 0.15
    with pytest.raises(ValueError, match='sky still'):
        denoise(CCDData(adu - np.median(adu) - 20, unit='adu'), noise=pair)
    with pytest.raises(ValueError, match='NCOMBINE'):
        denoise(CCDData(adu, unit='adu', meta={'NCOMBINE': 5}), noise=pair)
    with pytest.raises(u.UnitsError, match='counts'):
        denoise(CCDData(adu, unit='adu / s'), noise=pair)
    with pytest.raises(TypeError, match='Quantity'):
        denoise(ccd, noise=(1.5, 5))


def test_measured_noise_is_used_again(noisy):
    noise = measure_noise(noisy)
    assert_array_equal(denoise(noisy, noise=noise), denoise(noisy))
    again = astrodenoise.FrameNoise.from_json(noise.to_json())
    assert_array_equal(denoise(noisy, noise=again), denoise(noisy))
    crop = denoise(noisy[:100, :100], noise=noise)
    assert rms(crop[:60, :60] - denoise(noisy)[:60, :60]) < 0.15 * 5
    assert 'sigma' in str(noise)


# --- tiles ---------------------------------------------------------------------------------------


def test_batch_size_does_not_change_a_bit(noisy):
    big = np.tile(noisy, (2, 3))
    assert_array_equal(denoise(big, batch_size=1), denoise(big, batch_size=5))


def test_naive_tiling_is_kept_for_comparison(noisy):
    big = np.tile(noisy, (2, 3))
    naive = denoise(big, overlap=0, blend='none')
    assert 0 < rms(naive - denoise(big)) < 0.5 * 5


def seam(error, lines):
    """Mean absolute second difference across lines over that elsewhere."""
    second = np.abs(error[2:] - 2 * error[1:-1] + error[:-2])
    on = np.mean([second[line - 2 : line].mean() for line in lines])
    away = (-40, -25, -13, 17, 31, 45)
    return on / np.mean([second[line - 2 + d : line + d].mean() for line in lines for d in away])


def test_overlapping_tiles_leave_no_seam_where_naive_ones_do(rng):
    data = rng.normal(size=(448, 320)).astype(np.float32)
    naive = denoise(data, noise=1.0, overlap=0, blend='none', tile_size=256)
    smooth = denoise(data, noise=1.0, tile_size=256)
    assert seam(naive, [256]) > 2
    # tiles begin 32 px outside and every 192 px, and overlap by 64 px
    assert 0.8 < seam(smooth, [160, 224, 352]) < 1.2
    assert rms(smooth - denoise(data, noise=1.0, overlap=0.5)) < 0.2 * rms(smooth)


def test_fitting_tiles_are_like_the_papers_and_leave_no_seam(rng):
    frame = rng.normal(size=(600, 700)).astype(np.float32)
    fitting, usual = denoise(frame, noise=1.0), denoise(frame, noise=1.0, tile_size=256)
    assert rms(fitting - usual) < 0.02
    tile_size, overlap = fitting_tile(frame.shape, 0.25)
    starts, pad, _ = tile_starts(frame.shape[0], tile_size, overlap)
    lines = [line - pad for line in (*starts[1:], *(starts[:-1] + tile_size))]
    assert lines
    assert 0.7 < seam(fitting, lines) < 1.3


def test_progress_bar_wraps_the_batches(noisy):
    seen = []

    def bar(iterable):
        for item in iterable:
            seen.append(item)
            yield item

    assert_array_equal(denoise(noisy, progress_bar=bar), denoise(noisy))
    assert seen


# --- metadata ------------------------------------------------------------------------------------


def test_what_was_done_is_recorded(noisy):
    ccd = CCDData(noisy, unit='adu', meta={'OBJECT': 'M 51'})
    clean = denoise(ccd, overlap=0.3, tile_size=256, strength=0.9)
    record = astrodenoise.read_provenance(clean.meta)
    assert clean.meta['OBJECT'] == 'M 51'
    assert record['overlap'] == 0.3
    assert record['strength'] == 0.9
    assert record['model'] == 'mono'
    assert len(record['weights']) == 12
    assert record['precision'] in ('float32', 'bfloat16')
    assert record['planes'][0]['sigma'] == pytest.approx(5, rel=0.1)
    assert 'DENOISE' not in denoise(CCDData(noisy, unit='adu'), add_keyword=False).meta


def test_denoising_twice_is_warned_of(noisy):
    once = denoise(CCDData(noisy, unit='adu'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.simplefilter('ignore', NoiseMismatchWarning)
        with pytest.raises(AlreadyDenoisedWarning, match='denoised before'):
            denoise(once)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'kind', 'text'),
    [
        ({'overlap': 1.0}, ValueError, 'overlap must be from 0 to 0.75'),
        ({'overlap': 'much'}, TypeError, 'overlap must be a number'),
        ({'strength': 1.5}, ValueError, 'strength must be from 0 to 1'),
        ({'strength': np.nan}, ValueError, 'strength'),
        ({'limit': -1}, ValueError, 'limit'),
        ({'blend': 'none'}, ValueError, 'overlap=0'),
        ({'blend': 'linear'}, ValueError, 'blend must be one of'),
        ({'channels': 'rgb'}, ValueError, 'channels must be one of'),
        ({'uncertainty': 'drop'}, ValueError, 'uncertainty must be one of'),
        ({'tile_size': 100}, ValueError, 'multiple of'),
        ({'tile_size': 32}, ValueError, 'tile_size must be 64 to 2048'),
        ({'tile_size': 128.0}, TypeError, 'whole number'),
        ({'batch_size': 0}, ValueError, 'batch_size must be'),
        ({'device': 'tpu'}, ValueError, 'device must be one of'),
        ({'precision': 'half'}, ValueError, 'precision must be one of'),
        ({'progress_bar': True}, TypeError, 'tqdm'),
        ({'noise': 'guess'}, ValueError, 'measure'),
        ({'noise': 0}, ValueError, 'positive'),
        ({'noise': -3.0}, ValueError, 'positive'),
        ({'noise': np.ones((3, 3))}, ValueError, 'shape'),
        ({'noise': np.zeros(SHAPE)}, ValueError, 'no positive'),
        ({'noise': 5 * u.m}, u.UnitsError, 'the frame in adu'),
        ({'noise': {}}, TypeError, 'noise must be'),
        ({'saturation': 5 * u.m}, u.UnitsError, 'saturation'),
        ({'model': 'best'}, WeightsError, 'shipped are'),
        ({'model': '/nowhere/best.safetensors'}, WeightsError, 'cannot be read'),
    ],
)
def test_wrong_arguments_say_what_is_right(noisy, arguments, kind, text):
    with pytest.raises(kind, match=text):
        denoise(CCDData(noisy, unit='adu'), **arguments)


@pytest.mark.parametrize(
    ('frame', 'kind'),
    [
        ([[1.0, 2.0]], TypeError),
        ('frame.fits', TypeError),
        (None, TypeError),
        (np.zeros((2, 2, 2, 2)), ValueError),
        (np.zeros(5), ValueError),
        (np.zeros((0, 5)), ValueError),
        (np.full((64, 64), np.nan), ValueError),
        (CCDData(np.ones((64, 64)), unit='adu', mask=np.ones((64, 64), bool)), ValueError),
        (np.zeros((64, 64, 3)), ValueError),
        (np.zeros((64, 64), complex), TypeError),
        (np.random.default_rng(0).normal(size=(20, 20)), ValueError),
    ],
)
def test_wrong_frames_are_refused(frame, kind):
    with pytest.raises(kind) as caught:
        denoise(frame)
    assert len(str(caught.value)) > 20
