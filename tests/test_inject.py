# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Known sources into a frame: their image, flux, S/N, noise and places."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from starframes import STAR, put, star_field

from astrodenoise import measure_noise
from astrodenoise.frames import open_frame
from astrodenoise.inject import SNR_EDGES, add_sources, draw_batches, galaxy_stamp
from astrodenoise.measures.detections import matched_filter
from astrodenoise.noisefield import NoiseField, noise_twin
from astrodenoise.noisemodel import LAGS, PlaneNoise
from astrodenoise.places import PLACES, Places
from astrodenoise.psfmodel import StarImage
from astrodenoise.trustcheck import open_subject

SHAPE = (400, 480)


def shifted_noise(rng, shape):
    """Noise of rms 1 that neighbours share, as after registration."""
    noise = ndimage.shift(rng.normal(size=shape), (0.5, 0.3), order=1, mode='wrap')
    return noise / noise.std()


def subject_of(image, **options):
    return open_subject(open_frame(image.astype(np.float32)), **options)


@pytest.fixture(scope='module')
def subject():
    """A frame of stars in white noise, examined."""
    rng = np.random.default_rng(1)
    return subject_of(100 + star_field(rng) + rng.normal(size=SHAPE))


# the image of a star


@pytest.mark.parametrize(('fwhm', 'beta', 'shear'), [(1.3, 3, (0, 0)), (2.8, 2.5, (0.08, 0.05))])
def test_star_image_is_that_of_the_frame(fwhm, beta, shear):
    """Measured between the pixels: it fits stars that were not used, to a few % of their peak."""
    rng = np.random.default_rng(2)
    true = StarImage(fwhm, beta, shear)
    image = 50 + star_field(rng, star=true, n=90) + rng.normal(size=SHAPE)
    found = subject_of(image).targets[0].image
    assert found.kind == 'stars'
    assert found.fwhm == pytest.approx(fwhm, rel=0.03)
    at = np.arange(-6, 7.0)
    for y, x in rng.uniform(-0.5, 0.5, (5, 2)):
        own, other = (one.light((at - y)[:, None], at - x) for one in (true, found))
        assert np.abs(other - own).max() < 0.05 * own.max()


def test_few_stars_give_a_profile_and_none_an_assumed_one():
    rng = np.random.default_rng(3)
    image = rng.normal(size=SHAPE)
    assert subject_of(image).targets[0].image.kind == 'assumed'
    for y, x in rng.uniform(40, 360, (7, 2)):
        put(image, STAR, y, x, 150)
    found = subject_of(image).targets[0].image
    assert found.kind == 'profile'
    assert found.fwhm == pytest.approx(STAR.fwhm, rel=0.05)
    assert 'Moffat' in found.source


def test_hot_pixels_are_no_stars():
    """Many bright single pixels do not make the image of a star one pixel wide."""
    rng = np.random.default_rng(4)
    image = star_field(rng, n=60) + rng.normal(size=SHAPE)
    y, x = (rng.integers(5, n - 5, 100) for n in SHAPE)
    image[y, x] += 60
    assert subject_of(image).targets[0].image.fwhm == pytest.approx(STAR.fwhm, rel=0.1)


def test_star_between_pixels_is_the_star_shifted():
    """The centroid of a stamp lies where the star was put."""
    at = np.arange(-STAR.half, STAR.half + 1)
    for y, x in ((0.3, -0.4), (-0.5, 0.25)):
        stamp = STAR.stamp(y, x)
        assert stamp.sum() == pytest.approx(1)
        core = stamp**2  # the wings are cut, the core is not
        assert np.sum(core * at[:, None]) / core.sum() == pytest.approx(y, abs=0.02)
        assert np.sum(core * at) / core.sum() == pytest.approx(x, abs=0.02)


# galaxies


def test_galaxy_of_no_size_is_a_star():
    stamp = galaxy_stamp(STAR, 0.2, -0.4, radius=0.05, half=STAR.half)
    assert stamp == pytest.approx(STAR.stamp(0.2, -0.4), abs=0.01 * stamp.max())


def test_galaxy_is_the_profile_blurred():
    """The exponential's own second moment is added to the star's."""
    star = StarImage(3.0, 12.0)
    radius = 4.0  # half of the light; the scale is a factor of 1.678 smaller
    stamp = galaxy_stamp(star, 0, 0, radius=radius, half=40)
    at = np.arange(-40, 41)
    point = star.light(at[:, None].astype(float), at.astype(float))
    moments = [np.sum(one * at**2) / one.sum() for one in (stamp, point)]
    assert moments[0] - moments[1] == pytest.approx(3 * (radius / 1.678) ** 2, rel=0.06)


# noise drawn anew


@pytest.mark.parametrize('kind', ['white', 'shifted', 'banded'])
def test_drawn_noise_is_like_what_was_measured(kind):
    """Rms, correlation at all lags, and the noise of a matched filter, within 5 %."""
    rng = np.random.default_rng(5)
    shape = (600, 640)
    noise = shifted_noise(rng, shape) if kind == 'shifted' else rng.normal(size=shape)
    if kind == 'banded':
        noise += 0.25 * rng.normal(size=(shape[0], 1))
    noise /= noise.std()
    measured = measure_noise(noise.astype(np.float32)).planes[0]
    field = NoiseField(measured)
    drawn = field.draw(rng, shape)
    assert drawn.std() == pytest.approx(1, abs=0.03)
    for (dy, dx), rho in zip(LAGS, measured.correlation, strict=True):
        assert np.mean(drawn * np.roll(drawn, (dy, dx), (0, 1))) == pytest.approx(rho, abs=0.05)
    if kind == 'banded':
        assert field.bands[1] is None
        assert field.bands[0].std() == pytest.approx(0.25 / np.hypot(1, 0.25), rel=0.15)
        return  # along a band a filter's noise depends on the rows that it meets
    snr = matched_filter(noise, STAR.stamp(), 1.0)
    assert snr.std() == pytest.approx(field.filter_noise(STAR.stamp()), rel=0.05)


def test_twin_has_map_law_and_rounding_of_the_frame():
    """Sigma over field and level as the model has it, and the data's own steps."""
    shape = (480, 512)
    grid = np.broadcast_to(np.linspace(0.7, 1.4, 64), (60, 64))
    noise = PlaneNoise(
        shape, 100.0, 6.0, levels=[100.0, 400.0], law=[1.0, 4.0], grid=grid.tolist(), step=1.0
    )
    level = np.where(np.arange(shape[0])[:, None] < 240, 100.0, 400.0) + np.zeros(shape)
    twin = noise_twin(level, noise, np.random.default_rng(6))
    assert np.array_equal(twin, np.round(twin))
    pulls = (twin - level) / noise.sigma_at(level)
    for part in (np.s_[:240, :128], np.s_[:240, 384:], np.s_[240:, :128], np.s_[240:, 384:]):
        assert pulls[part].std() == pytest.approx(1, abs=0.05)
    again = measure_noise(twin.astype(np.float32)).planes[0]
    assert again.sigma_at(level)[::40, ::40] == pytest.approx(
        noise.sigma_at(level)[::40, ::40], rel=0.12
    )


# sources


def test_flux_is_exact(subject):
    """The sum of what is added is the flux, and nothing else changes."""
    (batch, *_), _ = draw_batches(subject.targets, subject.places, np.random.default_rng(1), 40)
    target = replace(subject.targets[0], data=subject.targets[0].data.astype(float))
    change = add_sources([target], batch, None)[0] - target.data
    for source in batch:
        assert change[source.part(0)].sum() == pytest.approx(source.flux[0], rel=1e-9)
    assert change.sum() == pytest.approx(sum(source.flux[0] for source in batch), rel=1e-9)


@pytest.mark.parametrize('correlated', [False, True])
def test_snr_is_what_a_matched_filter_measures(correlated):
    """Over many draws of the noise: the mean flux over its scatter, within 5 %."""
    rng = np.random.default_rng(8)

    def noise():
        return shifted_noise(rng, SHAPE) if correlated else rng.normal(size=SHAPE)

    one = subject_of(20 + star_field(rng) + noise())
    batches, _ = draw_batches(one.targets, one.places, np.random.default_rng(2), 60)
    sources = [source for batch in batches for source in batch]
    flux = []
    for _ in range(60):
        frame = noise()
        flux.append([
            source.flux[0] + np.sum(frame[source.part(0)] * source.stamps[0])
            / np.sum(source.stamps[0] ** 2)
            for source in sources
        ])  # fmt: skip
    flux = np.array(flux)
    for galaxy in (False, True):
        chosen = np.array([source.galaxy == galaxy for source in sources])
        nominal = np.array([source.snr[0] for source in sources])[chosen]
        # each source has another template: the scatter over its own S/N's unit is pooled
        unit = np.array([source.flux[0] for source in sources])[chosen] / nominal
        scatter = np.sqrt(np.mean(np.var(flux[:, chosen], axis=0, ddof=1) / unit**2))
        assert scatter == pytest.approx(1, abs=0.05)


def test_added_noise_follows_the_law(subject):
    """Its variance is the law's at level and light less that at the level; here light over gain."""
    noise = PlaneNoise(SHAPE, 100.0, 10.0, levels=[100.0], law=[1.0], slope=0.02)
    target = replace(
        subject.targets[0], noise=noise, law=noise, field=NoiseField(noise),
        sigma=np.full(SHAPE, 10.0), level=np.full(SHAPE, 100.0), data=np.zeros(SHAPE),
    )  # fmt: skip
    batches, _ = draw_batches([target], subject.places, np.random.default_rng(3), 60)
    source = max(batches[0], key=lambda one: one.flux[0])
    rng = np.random.default_rng(4)
    light = source.flux[0] * source.stamps[0]
    draws = [add_sources([target], [source], rng)[0][source.part(0)] for _ in range(1500)]
    bright = light > 0.2 * light.max()
    assert np.var(draws, axis=0)[bright] == pytest.approx(2.0 * light[bright], rel=0.25)
    assert np.sum(np.var(draws, axis=0)) == pytest.approx(2.0 * light.sum(), rel=0.04)
    # a stretched frame: brighter pixels are quieter, and noise that is there stays
    falling = replace(target, law=replace(noise, levels=[100.0, 300.0], law=[1.0, 0.5], slope=0.0))
    assert not falling.own_variance(source.part(0), light).any()


def test_batches_are_sparse_and_in_equal_parts(subject):
    batches, missing = draw_batches(subject.targets, subject.places, np.random.default_rng(5), 210)
    assert set(missing) | {'sky'} <= set(PLACES)
    fwhm = subject.targets[0].image.fwhm
    for batch in batches:
        at = np.array([(source.y, source.x) for source in batch])
        distance = np.hypot(*(at[:, None] - at).transpose(2, 0, 1)) + 1e9 * np.eye(len(at))
        assert distance.min() > max(8 * fwhm, 48)
    sources = [source for batch in batches for source in batch]
    snr = np.array([source.snr[0] for source in sources])
    counts = np.histogram(snr, SNR_EDGES)[0]
    assert counts.min() > 0.7 * counts.max()
    assert np.mean([source.galaxy for source in sources]) == pytest.approx(0.25, abs=0.05)
    phases = np.array([(source.y % 1, source.x % 1) for source in sources])
    assert np.histogram(phases, 5, (0, 1))[0].min() > 0.6 * phases.size / 5  # not on whole pixels


def test_same_seed_gives_the_same_sources(subject):
    first, second = (
        draw_batches(subject.targets, subject.places, np.random.default_rng(5), 30)[0]
        for _ in range(2)
    )
    assert [s.flux for b in first for s in b] == [s.flux for b in second for s in b]


def test_masked_and_saturated_pixels_are_kept_clear_of():
    """No source within 3 FWHM of a masked pixel, nor of a saturated one."""
    rng = np.random.default_rng(10)
    image = (100 + star_field(rng) + rng.normal(size=SHAPE)).astype(np.float32)
    image[150:190, 200:260] = np.nan
    one = open_subject(open_frame(image), saturation=200.0)
    invalid = ~one.valid[0]
    assert invalid.sum() > 40 * 60  # the gap, and saturated cores
    distance = ndimage.distance_transform_edt(~invalid)
    batches, _ = draw_batches(one.targets, one.places, np.random.default_rng(6), 200)
    near = [distance[source.pixel] for batch in batches for source in batch]
    assert len(near) > 100
    assert min(near) > 3 * one.targets[0].image.fwhm


def test_kinds_of_place_are_told():
    """A frame that has all four kinds, each in a corner of its own."""
    rng = np.random.default_rng(11)
    shape = (512, 512)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 6 * np.exp(-0.5 * ((y - 120) ** 2 + (x - 380) ** 2) / 45**2)
    for at in rng.uniform((300, 40), (480, 220), (130, 2)):
        put(image, STAR, *at, 25)
    for at in rng.uniform((20, 20), (480, 480), (25, 2)):
        put(image, STAR, *at, 60)
    put(image, STAR, 380, 400, 5000)
    image += 0.01 * y  # a gradient is no light
    one = subject_of(200 + image + rng.normal(size=shape))
    kinds = one.places.kind

    def most(rows, cols):
        """The kind of most places of a part."""
        count = np.bincount(kinds[rows, cols].ravel(), minlength=5)
        return list(PLACES)[np.argmax(count[1:])]

    assert most(slice(20, 200), slice(20, 200)) == 'sky'
    assert most(slice(90, 150), slice(350, 410)) == 'nebulosity'
    assert most(slice(330, 450), slice(70, 190)) == 'crowding'
    assert most(slice(365, 395), slice(385, 415)) == 'halos'
    assert kinds[380, 400] == 0  # on the star itself nothing can be put
    _, missing = draw_batches(one.targets, one.places, np.random.default_rng(7), 40)
    assert not missing


def test_missing_kinds_are_said():
    rng = np.random.default_rng(12)
    one = subject_of(rng.normal(size=(256, 256)))
    batches, missing = draw_batches(one.targets, one.places, rng, 40)
    assert {source.place for batch in batches for source in batch} == {'sky'}
    assert set(missing) == {'nebulosity', 'crowding', 'halos'}
    assert one.places.share('sky') > 0.5
    assert Places.number('sky') == 1
