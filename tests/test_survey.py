# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A large plane that is looked at in panels is known as well as one that is looked at whole."""

import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from astrodenoise import survey
from astrodenoise.exceptions import NoiseMismatchWarning
from astrodenoise.frames import open_frame
from astrodenoise.marks import Marks
from astrodenoise.removal import normalise
from astrodenoise.survey import panel_places, survey_frame

SHAPE = (640, 768)


@pytest.fixture
def in_panels(monkeypatch):
    """Divide frames as small as those of the tests."""
    monkeypatch.setattr(survey, 'PANEL', 256)


def field(rng, sky=1000.0):
    """Make a truth with stars and a slope."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = sky + 0.05 * x + 0.02 * y
    for row, column in rng.uniform(0, 640, (60, 2)):
        truth += rng.uniform(20, 3000) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    return truth


def look(data, noise=None, **keys):
    """Survey one plane: what is known, and the frame."""
    frame = open_frame(data)
    return survey_frame(frame, noise, **keys)[0], frame


def sigma_plane(one, frame):
    """Sigma of every pixel."""
    window = frame.window(*(slice(0, n) for n in frame.shape))
    rows, cols = (slice(0, n) for n in frame.shape[1:])
    plane = normalise(window, [one], rows, cols, frame.shape[1:])[0][0]
    return np.broadcast_to(plane.sigma, SHAPE), plane.valid


@given(height=st.integers(1, 9000), width=st.integers(1, 9000))
def test_panels_cover_a_plane_once(height, width):
    places = panel_places((height, width))
    assert sum((r.stop - r.start) * (c.stop - c.start) for r, c in places) == height * width
    assert all(r.start % 16 == c.start % 16 == 0 for r, c in places)


@pytest.mark.parametrize('gain', [0.5, 4.0, 1e6])
def test_noise_that_follows_the_signal(in_panels, rng, gain):
    truth = field(rng)
    sigma = np.sqrt(3 + truth / gain)
    one, frame = look(truth + rng.normal(size=SHAPE) * sigma)
    assert len(panel_places(SHAPE)) == 6
    assert one.noise.sigma == pytest.approx(np.median(sigma), rel=0.02)
    assert one.noise.sky == pytest.approx(np.median(truth), abs=15)
    found, valid = sigma_plane(one, frame)
    assert np.mean(np.abs(found / sigma - 1)[valid] < 0.1) > 0.97
    assert_allclose(one.noise.correlation, 0, atol=0.02)
    assert (len(one.noise.rows), len(one.noise.columns)) == SHAPE


def test_correlated_noise(in_panels, rng):
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 0.6)
    one, _ = look(1000 + 5 * noise / noise.std())
    whole_rho = np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]
    assert one.noise.sigma == pytest.approx(5, rel=0.03)
    assert one.noise.correlation[0] == pytest.approx(whole_rho, abs=0.03)


@pytest.mark.parametrize('edge', [256, 320, 500])
def test_a_mosaic_of_two_depths(in_panels, rng, edge, monkeypatch):
    sigma = np.where(np.arange(SHAPE[1]) < edge, 4.0, 12.0) * np.ones(SHAPE)
    data = field(rng) + rng.normal(size=SHAPE) * sigma
    found, valid = sigma_plane(*look(data))
    monkeypatch.setattr(survey, 'PANEL', 10_000)
    whole, _ = sigma_plane(*look(data))
    right, right_whole = (np.mean(np.abs(s / sigma - 1)[valid] < 0.1) for s in (found, whole))
    assert right > max(0.85, right_whole - 0.03)
    assert_allclose([np.median((found / sigma)[:, :edge]), np.median((found / sigma)[:, edge:])],
                    1, atol=0.04)  # fmt: skip


def test_banding_over_several_panels(in_panels, rng):
    rows = rng.normal(0, 0.5, SHAPE[0])
    one, _ = look(rng.normal(100, 1, SHAPE) + rows[:, None])
    assert np.corrcoef(one.noise.rows, rows)[0, 1] > 0.95
    assert np.std(one.noise.columns) < 0.15


def test_a_value_that_piles_up_in_one_panel_is_saturated_in_all(in_panels, rng):
    data = field(rng) + rng.normal(0, 5, SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    data += 90_000 * np.exp(-((y - 100) ** 2 + (x - 100) ** 2) / 50)
    data[500, 700] = 60_000  # a single pixel elsewhere, at exactly that value
    one, frame = look(np.minimum(data, 60_000).astype(np.float32))
    assert one.marks.top == {60_000}
    _, valid = sigma_plane(one, frame)
    assert not valid[500, 700]
    assert not valid[100, 100]
    assert one.counts['saturated'] == pytest.approx(np.sum(data >= 60_000), abs=1)


def test_a_gap_over_several_panels(in_panels, rng):
    data = (field(rng) + rng.normal(0, 5, SHAPE)).astype(np.float32)
    data[200:300, 180:600] = 7.25
    one, frame = look(data)
    _, valid = sigma_plane(one, frame)
    gap = np.zeros(SHAPE, bool)
    gap[200:300, 180:600] = True
    assert_array_equal(~valid, gap)
    assert one.counts['invalid'] == gap.sum()


def test_masked_panels_are_no_part_of_the_statistics(in_panels, rng):
    data = field(rng) + rng.normal(0, 5, SHAPE)
    data[:, 512:] = 1e5 * rng.random((SHAPE[0], 256))
    mask = np.zeros(SHAPE, bool)
    mask[:, 512:] = True
    one, _ = look(CCDData(data, unit='adu', mask=mask))
    assert one.noise.sigma == pytest.approx(5, rel=0.02)
    assert one.counts['invalid'] == mask.sum()


def test_a_given_sigma_of_each_pixel(in_panels, rng):
    truth = field(rng)
    sigma = np.sqrt(truth / 4) * np.where(np.arange(SHAPE[1]) < 300, 1.0, 2.0)
    data = truth + rng.normal(size=SHAPE) * sigma
    one, frame = look(CCDData(data, unit='adu', uncertainty=StdDevUncertainty(sigma)))
    found, valid = sigma_plane(one, frame)
    assert np.mean(np.abs(found / sigma - 1)[valid] < 0.1) > 0.97
    assert one.noise.source == 'uncertainty'
    with pytest.warns(NoiseMismatchWarning):
        one, frame = look(CCDData(data, unit='adu', uncertainty=StdDevUncertainty(3 * sigma)))
    assert_allclose(np.median(sigma_plane(one, frame)[0] / sigma), 1, atol=0.03)


def test_numbers_and_constant_frames(in_panels, rng):
    data = field(rng) + rng.normal(0, 5, SHAPE)
    one, _ = look(data, 6.0)
    assert (one.noise.sigma, one.noise.source) == (6.0, 'given')
    one, _ = look(np.full(SHAPE, 3.0))
    assert one.missing
    assert one.constant
    few = np.ones(SHAPE, bool)
    few[:20, :20] = False
    with pytest.raises(ValueError, match='too few'):
        look(CCDData(data, unit='adu', mask=few))


@given(
    pixels=hnp.arrays(bool, (40, 50)),
    start=st.tuples(st.integers(0, 39), st.integers(0, 49)),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_marks_remember_pixels_as_they_lie(pixels, start, size):
    place = slice(100, 140), slice(200, 250)
    marks = Marks.of(place, ~pixels, pixels)
    rows, cols = (
        slice(p.start - 10 + a, p.start - 10 + a + n)
        for p, a, n in zip(place, start, size, strict=True)
    )
    data = np.zeros(size)
    valid, saturated = marks.apply(data, np.ones(size, bool), rows, cols)
    whole = np.zeros((300, 300), bool)
    whole[place] = pixels
    assert_array_equal(~valid, whole[rows, cols])
    assert_array_equal(saturated, whole[rows, cols])
