# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Exposures to fine-tune on: aligned, compared, masked, held out, refused."""

import re

import numpy as np
import pytest
from astropy.io import fits
from dithered import DITHERS, SIDE, SIGMA, SKY, draw, moved, noisy
from numpy.testing import assert_allclose
from scipy import ndimage

from astrodenoise.training import noise2noise
from astrodenoise.training.alignment import Alignment, Sighting, align, resample
from astrodenoise.training.exposures import load_fields, new_exposure, open_field
from astrodenoise.training.noise2noise import held_out_band, learn_from
from astrodenoise.training.photometry import PairError
from astrodenoise.training.seeing import blurred, match_seeing


def exposure(name='a', noise=1, scale=1.0, **keywords):
    return new_exposure(name, noisy(scale * draw(**keywords), noise)[None])


def sighting(frame):
    return Sighting(frame, np.ones(frame.shape, bool), SIGMA)


def box_of(one):
    """Give the rows and columns of an exposure from which its pair is cut."""
    return noise2noise._box(one, held_out_band(one.shape)[1])


def grid():
    line = np.linspace(0, SIDE - 1, 7)
    return np.stack(np.meshgrid(line, line, indexing='ij'), axis=-1).reshape(-1, 2)


@pytest.fixture(scope='module')
def field():
    """Give four dithered exposures of one field."""
    return open_field('m31', [exposure(f'e{i}', i, shift=s) for i, s in enumerate(DITHERS)])


# --- alignment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('shift', 'angle'),
    [((0.37, -0.81), 0), ((12.3, -7.7), 0.8), ((-5.5, 3.2), -2.5), ((0.2, 0.4), 180)],
)
def test_shifts_and_rotations_are_known_to_a_tenth_of_a_pixel(shift, angle):
    here, there = noisy(draw(), 1), noisy(draw(shift=shift, angle=angle), 2)
    found = align(sighting(here), sighting(there))
    error = np.hypot(*(found(grid()) - moved(grid(), shift, angle)).T)
    assert error.max() < 0.1
    assert found.error < 0.1
    back = found.inverse()
    assert_allclose(back(found(grid())), grid(), atol=1e-9)
    assert_allclose(found.then(back)(grid()), grid(), atol=1e-9)


def test_few_stars_are_aligned_by_correlation():
    def nebula(dy, dx):
        rng = np.random.default_rng(5)
        cloud = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE + 60, SIDE + 60)), 4)
        cloud = ndimage.shift(cloud / cloud.std(), (dy, dx), order=3)
        return 10 * cloud[30:-30, 30:-30]

    here, there = (sighting(noisy(nebula(*s), i)) for i, s in enumerate([(0, 0), (7.4, -11.2)]))
    assert min(len(here.stars), len(there.stars)) < 5
    assert_allclose(align(here, there)(grid()) - grid(), [(7.4, -11.2)] * 49, atol=0.15)


def test_exposures_without_anything_in_common_are_not_aligned():
    here, there = noisy(draw(seed=1), 1), noisy(draw(seed=2), 2)
    with pytest.raises(PairError, match=r'cannot be aligned: \d+ and \d+ stars over 12 sigma'):
        align(sighting(here), sighting(there))


def test_resampling_gives_what_the_other_exposure_would_show():
    shift = (3.3, -2.6)
    light = draw(shift=shift)
    valid = np.ones(light.shape, bool)
    valid[100, 50] = False
    light[100, 50] = 1e6
    box = (slice(20, 150), slice(30, 160))
    shown, known = resample(light, valid, Alignment(np.eye(2), np.array(shift)), box)
    truth = draw()[box]
    assert_allclose(shown[known], truth[known], atol=0.01 * truth.max())
    hole = np.argwhere(~known) + np.array([20, 30])
    assert 9 <= len(hole) <= 64
    assert np.abs(hole - (np.array([100, 50]) - shift)).max() < 5


def test_whole_shifts_resample_to_the_same_pixels():
    frame = noisy(draw(), 3)
    box = (slice(10, 100), slice(10, 100))
    shown, known = resample(
        frame, np.ones(frame.shape, bool), Alignment(np.eye(2), np.array([4.0, -7.0])), box
    )
    assert known.all()
    assert_allclose(shown, frame[14:104, 3:93], rtol=1e-9)


# --- what is refused -----------------------------------------------------------------------------


def test_exposures_that_did_not_move_are_refused_with_the_measured_shift():
    with pytest.raises(PairError, match=r'moved by at most 1\.3 px') as caught:
        open_field('m31', [exposure('a', 1), exposure('b', 2, shift=(0.5, -1.2))])
    assert 'more than 5 px' in str(caught.value)
    assert 'dithered' in str(caught.value)


def test_stars_that_interpolation_would_blunt_are_refused():
    frames = [exposure('a', 1, width=0.7), exposure('b', 2, width=0.7, shift=(8.5, 3.5))]
    with pytest.raises(PairError, match=r'less than 1\.8 px FWHM'):
        open_field('m31', frames)


def test_a_field_needs_two_exposures():
    with pytest.raises(PairError, match='1 exposures that can be used, two at least'):
        open_field('m31', [exposure()])


def test_exposures_that_do_not_fit_are_left_out_with_the_reason():
    others = [exposure('a', 1), exposure('b', 2, shift=(9, 3))]
    strange = [exposure('sky', 3, seed=7), new_exposure('small', noisy(draw(side=128), 4)[None])]
    found = open_field('m31', others + strange)
    assert [one.name for one in found.exposures] == ['a', 'b']
    assert 'cannot be aligned' in found.bad['sky']
    assert '128 x 128 px' in found.bad['small']


def test_small_and_noiseless_frames_are_refused():
    with pytest.raises(PairError, match='64 x 80 px, 96 px on a side'):
        new_exposure('a', np.zeros((1, 80, 64)))
    with pytest.raises(PairError, match='no noise'):
        new_exposure('a', np.round(draw(n=3)[None] + SKY))


def test_folders_are_read_and_mistakes_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder'):
        load_fields(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match='holds no frame'):
        load_fields(tmp_path)
    for name in ('m31', 'm33'):
        (tmp_path / name).mkdir()
        for number, shift in enumerate(DITHERS[:2]):
            data = noisy(draw(shift=shift), number).astype(np.float32)
            fits.writeto(tmp_path / name / f'{number}.fits', data)
    fields = load_fields(tmp_path)
    assert [(one.name, len(one.exposures)) for one in fields] == [('m31', 2), ('m33', 2)]
    for path in (tmp_path / 'm31').iterdir():
        fits.setval(path, 'BAYERPAT', value='RGGB')
    with pytest.raises(PairError, match='raw colour mosaic'):
        load_fields(tmp_path / 'm31')


# --- what is masked ------------------------------------------------------------------------------


def test_hot_pixels_are_masked_in_all_exposures(rng):
    places = rng.integers(20, SIDE - 20, (40, 2))
    frames = []
    for number, shift in enumerate(DITHERS[:2]):
        frame = noisy(draw(shift=shift), number)
        frame[tuple(places.T)] += np.where(np.arange(40) % 4, 15, -15) * SIGMA
        frames.append(new_exposure(f'e{number}', frame[None]))
    for one in open_field('m31', frames).exposures:
        assert np.mean(one.valid[0][tuple(places.T)]) < 0.1
        assert np.mean(one.valid) > 0.997  # hardly a star's core


def test_hundreds_of_hot_pixels_do_not_lead_the_alignment_astray(rng):
    places = tuple(rng.integers(0, SIDE, (600, 2)).T)
    frames = []
    for number, shift in enumerate(DITHERS[:2]):
        frame = noisy(draw(shift=shift), number)
        frame[places] += rng.uniform(10, 200, 600) * SIGMA
        frames.append(new_exposure(f'e{number}', frame[None]))
    found = open_field('m31', frames)
    assert found.moved.max() == pytest.approx(np.hypot(*DITHERS[1]), abs=0.1)
    assert all(np.mean(one.valid[0][places]) < 0.1 for one in found.exposures)


def test_stars_of_exposures_that_moved_are_no_hot_pixels(field):
    assert all(np.mean(one.valid) > 0.9995 for one in field.exposures)


def test_cosmic_rays_are_neither_learnt_nor_a_target(rng):
    frames = [noisy(draw(shift=shift), i) for i, shift in enumerate(DITHERS)]
    clean = [frame.copy() for frame in frames]
    hits = {}
    for number, frame in enumerate(frames):
        hits[f'm31/e{number}'] = rng.integers(30, 110, (30, 2))
        frame[tuple(hits[f'm31/e{number}'].T)] += 40 * SIGMA
    fields = [
        open_field('m31', [new_exposure(f'e{i}', f[None]) for i, f in enumerate(part)])
        for part in (frames, clean)
    ]
    learnt = zip(fields[0].exposures, *(learn_from(one)[0] for one in fields), strict=True)
    for one, pair, without in learnt:
        hit = np.zeros(one.shape, bool)
        hit[tuple(hits[pair.name].T)] = True
        hit = hit[box_of(one)]
        assert hit.sum() > 20
        assert np.mean(pair.counts[0][hit]) < 0.05  # but in the cores of bright stars
        both = pair.counts & without.counts & (without.clean < 3)
        assert np.quantile(np.abs(pair.clean - without.clean)[both], 0.995) < 1.0


# --- what is learnt from -------------------------------------------------------------------------


def test_the_exposure_keeps_its_own_pixels(field):
    pairs, _ = learn_from(field)
    assert [pair.name for pair in pairs] == [f'm31/e{i}' for i in range(4)]
    for pair, one in zip(pairs, field.exposures, strict=True):
        taken = one.data[0][box_of(one)]
        good = pair.counts[0]
        slope, start = np.polyfit(taken[good], pair.noisy[0][good], 1)
        assert_allclose(pair.noisy[0], slope * taken + start, atol=1e-3)


def test_others_are_brought_to_brightness_seeing_and_grid():
    frames = [
        exposure('sharp', 1, scale=0.6, width=1.3, shift=(6.4, 1.1)),
        exposure('same', 2, width=1.6, shift=(-7.3, 2.2)),
        exposure('wide', 3, scale=1.5, width=1.7),
    ]
    opened = open_field('m31', frames)
    pairs, held_out = learn_from(opened)
    (pair,) = [pair for pair in pairs if pair.name == 'm31/wide']
    truth = 1.5 * draw(width=1.7)[box_of(opened.exposures[2])] / SIGMA
    good = pair.counts[0] & (truth > 3)
    ratio = np.sum((pair.clean[0] * truth)[good]) / np.sum(truth[good] ** 2)
    assert abs(ratio - 1) < 0.02
    error = (pair.clean[0] - truth)[good]
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(truth[good] ** 2))
    (held,) = [one for one in held_out if one.name == 'm31/wide']
    halves = [(half[0] - SKY) / SIGMA - 1.5 * draw(width=1.7) / SIGMA
              for half in (held.first, held.second)]  # fmt: skip
    calm = held.where[0] & (draw(width=1.7) < SIGMA)
    assert abs(np.corrcoef(*(half[calm] for half in halves))[0, 1]) < 0.15  # noise of their own


def test_an_exposure_that_is_sharper_than_all_others_is_no_input():
    frames = [exposure('sharp', 1, width=1.2), exposure('wide', 2, width=2.0, shift=(8, 8))]
    pairs, held_out = learn_from(open_field('m31', frames))
    assert [pair.name for pair in pairs] == ['m31/wide']
    assert [(one.name, one.second) for one in held_out] == [('m31/wide', None)]


def test_held_out_sky_is_not_learnt_from(field):
    pairs, held_out = learn_from(field)
    columns = held_out_band((SIDE, SIDE))[0][1]
    reference = next(one for one in field.exposures if np.all(one.seen.offset == 0))
    assert len(held_out) == 4
    for number, (pair, held) in enumerate(zip(pairs, held_out, strict=True)):
        shift = np.array(DITHERS[number]) - DITHERS[int(reference.name[1])]
        first = np.array([part.start for part in box_of(field.exposures[number])])
        learnt = np.argwhere(pair.counts[0]) + first - shift  # places of the reference
        scored = np.argwhere(held.where[0]) - shift
        assert learnt[:, 1].max() < columns.start
        assert scored[:, 1].min() > columns.start
        assert len(scored) > 2048


def test_a_blur_widens_stars_by_its_variance():
    light = draw(n=1, seed=3, side=64)
    light = np.zeros((65, 65))
    light[32, 32] = 1.0
    for variance in (0.3, 1.7):
        wide, valid = blurred(light, np.ones(light.shape, bool), variance)
        y = np.arange(65) - 32
        assert np.sum(wide * y[:, None] ** 2) == pytest.approx(variance, rel=1e-9)
        assert wide.sum() == pytest.approx(1)
        assert valid.all()
    hole = np.ones(light.shape, bool)
    hole[10, 10] = False
    _, valid = blurred(light, hole, 1.0)
    assert 9 < np.count_nonzero(~valid) < 60


def test_what_is_round_saturated_stars_is_shown_and_not_learnt():
    frames = []
    for number, shift in enumerate(DITHERS[:2]):
        light = draw(shift=shift, brightest=40000)
        places = moved(np.array([[60.0, 50.0]]), shift, 0)[0].astype(int)
        y, x = np.mgrid[:SIDE, :SIDE] - places[:, None, None]
        light += 1e5 * np.exp(-(y**2 + x**2) / 2 / 1.7**2)
        frames.append(new_exposure(f'e{number}', np.minimum(noisy(light, number), 20000)[None]))
    field = open_field('m31', frames)
    pairs, held_out = learn_from(field)
    for one, pair, held in zip(field.exposures, pairs, held_out, strict=True):
        top, left = (part.start for part in box_of(one))
        y, x = (moved(np.array([[60.0, 50.0]]), DITHERS[int(one.name[1])], 0)[0]).astype(int)
        y, x = y - top, x - left
        assert not pair.valid[0, y, x]  # saturated
        assert pair.valid[0, y + 5, x]  # its wing
        assert not pair.counts[0, y - 5 : y + 6, x].any()
        assert pair.counts[0, y + 30, x]
        assert np.isfinite(held.noisy).mean() > 0.99
        assert not pair.counts[~pair.valid].any()


def test_seeing_is_matched_where_stars_tell_it(rng):
    """Stars of other wings, oval, and off by a fifth of a pixel come to the exposure's own."""
    star = ndimage.gaussian_filter
    points = np.zeros((SIDE, SIDE))
    points[tuple(rng.integers(10, SIDE - 10, (2, 60)))] = rng.uniform(2e3, 5e4, 60)
    truth = 0.7 * star(points, 1.6) + 0.3 * star(points, 3.0)
    other = ndimage.shift(star(points, (1.3, 1.6)), (0.2, -0.1), order=5)
    good = np.ones(truth.shape, bool)
    halves = [SKY + other + rng.normal(0, 2, truth.shape) for _ in range(2)]
    noisy_frame = SKY + truth + rng.normal(0, SIGMA, truth.shape)
    matched = match_seeing(noisy_frame, halves, good, SIGMA, SKY)
    bright = truth > 20 * SIGMA
    before, after = (
        np.std((one[0] - SKY - truth)[bright] / truth[bright]) for one in (halves, matched)
    )
    assert after < 0.25 * before
    assert after < 0.05
    calm = truth < 0.1 * SIGMA
    assert np.std((matched[0] - SKY - truth)[calm]) < 3
    assert np.sum(matched[0] - SKY) == pytest.approx(np.sum(halves[0] - SKY), rel=1e-2)
    blank = [half - other for half in halves]
    assert match_seeing(noisy_frame - truth, blank, good, SIGMA, SKY) is blank


def test_messages_are_for_one_line():
    with pytest.raises(PairError) as caught:
        open_field('m31', [exposure('a', 1), exposure('b', 2)])
    assert re.fullmatch(r'[^\n]+', str(caught.value))
