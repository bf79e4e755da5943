# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The report: what it finds in honest results and in planted faults, what it says, how it ends."""

import base64
import json
import re
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from scipy import ndimage
from starfields import SIGMA, SKY, add_star, noisy_field

from astrodenoise import denoise
from astrodenoise.cli import main
from astrodenoise.exceptions import UnlikeTrainingWarning
from astrodenoise.measures import findings
from astrodenoise.measures.curves import (
    axis_correlations,
    noise_spectrum,
    power_spectra,
    residual_histogram,
)
from astrodenoise.measures.examination import examine_plane
from astrodenoise.measures.residuals import tile_lines
from astrodenoise.noisemodel import PlaneNoise
from astrodenoise.report import make_report
from astrodenoise.reportchecks import judge
from astrodenoise.reportdata import FAILED, NOT_TESTABLE, PASSED, Layers
from astrodenoise.reportfigures import FIGURES, draw_figures
from astrodenoise.reportpage import command_of, make_page, write_page
from astrodenoise.reportpicture import draw_report
from astrodenoise.reportpixels import NOTHING, PIECE, pack_layers

SHAPE = (256, 256)
SPOT = (96, 160)  # x, y between the stars


@pytest.fixture(scope='module')
def honest():
    """A noisy frame, what `denoise` makes of it, and its truth."""
    noisy, scene, stars = noisy_field(SHAPE)
    noisy = CCDData(noisy.astype('f4'), unit='adu')
    return SimpleNamespace(
        noisy=noisy, clean=denoise(noisy, model='fast'), scene=scene, stars=stars
    )


@pytest.fixture(scope='module')
def report(honest):
    """The report of an honest result."""
    return make_report(honest.noisy, honest.clean)


def changed(honest, data):
    """The denoised frame with other pixels, without a record of how it was made."""
    return CCDData(np.asarray(data, 'f4'), unit='adu')


def places(check):
    return [(place['x'], place['y']) for place in check.positions]


def nearest(check, x, y):
    """Distance of the nearest position of a check, in px."""
    return min(np.hypot(a - x, b - y) for a, b in places(check))


# Honest results


def test_honest_result_has_no_finding(report):
    for key in ('invented', 'lost', 'moved', 'flux', 'fwhm', 'size', 'residual'):
        assert report.check(key).state == PASSED, report.check(key)
    assert not report.check('invented').positions
    assert not report.check('lost').positions
    assert [use['state'] for use in report.uses] == ['yes'] * 4


def test_largest_box_of_every_size_is_listed(honest, report):
    """And its change is that of the box, in the noise of its mean: white noise here."""
    moved = report.check('moved').positions
    assert {move['box'] for move in moved} == {1, 3, 5, 9, 17, 33}
    change = honest.clean.data - honest.noisy.data
    sigma = report.planes[0]['noise']['sigma']
    box = next(move for move in moved if move['box'] == 9)
    part = change[box['y'] - 4 : box['y'] + 5, box['x'] - 4 : box['x'] + 5]
    assert box['change'] == pytest.approx(9 * part.mean() / sigma, rel=0.15)


def test_the_truth_itself_is_not_called_invented():
    """Of true sources near the limit some lack evidence: as many as chance explains."""
    found, expected = 0, 0.0
    for seed in range(4):
        scene = np.full(SHAPE, SKY)
        rng = np.random.default_rng(seed)
        for y in range(12, 180, 14):
            for x in range(12, 180, 14):
                add_star(scene, x, y, rng.uniform(4.2, 6))
        noisy = scene + rng.normal(0, SIGMA, SHAPE)
        plane = examine_plane(noisy, scene, PlaneNoise(SHAPE, SKY, SIGMA), SIGMA,
                              np.ones(SHAPE, bool))  # fmt: skip
        own = plane.evidence
        assert judge([plane], [PlaneNoise(SHAPE, SKY, SIGMA)])[0].state == PASSED
        found += len(own.invented)
        expected += own.invented_by_chance
    assert found > 0
    assert found <= expected + 4 * np.sqrt(expected)


def test_noise_peaks_are_expected_as_often_as_they_come(monkeypatch):
    """If all is taken away, every noise peak is lost: as many as chance was said to give."""
    monkeypatch.setattr(findings, 'SEEN', 3.7)
    shape = (700, 700)
    noisy = np.random.default_rng(11).normal(0, 1, shape)
    own = findings.weigh_sources(
        noisy, np.zeros(shape), np.ones(shape), np.ones(shape, bool), fwhm=2.8
    )
    assert own.n_shown == 0
    assert own.lost_by_chance == pytest.approx(len(own.lost), rel=0.5)
    assert len(own.lost) > 10
    assert own.lost[0].chance < own.lost[-1].chance


# Planted faults


def test_painted_star_is_named_as_invented(honest):
    data = honest.clean.data.copy()
    add_star(data, *SPOT, 12)
    check = make_report(honest.noisy, changed(honest, data)).check('invented')
    assert check.state == FAILED
    assert len(check.positions) == 1
    assert nearest(check, *SPOT) <= 1
    place = check.positions[0]
    assert place['shown'] == pytest.approx(12, abs=2)
    assert place['evidence'] < 3


def test_erased_star_is_named_as_lost(honest):
    data = honest.clean.data.copy()
    x, y, snr = min(honest.stars, key=lambda one: abs(one[2] - 15))
    data[y - 9 : y + 10, x - 9 : x + 10] = SKY
    found = make_report(honest.noisy, changed(honest, data))
    check = found.check('lost')
    assert check.state == FAILED
    assert places(check) == [(pytest.approx(x, abs=1), pytest.approx(y, abs=1))]
    assert check.positions[0]['evidence'] == pytest.approx(snr, abs=4)
    assert [use['state'] for use in found.uses] == ['no', 'no', 'yes', 'no']


def test_shifted_region_is_named_as_moved(honest):
    data = honest.clean.data.copy()
    data[40:90, 140:190] += SIGMA
    found = make_report(honest.noisy, changed(honest, data))
    check = found.check('moved')
    assert check.state == FAILED
    worst = check.positions[0]
    assert worst['box'] == 33
    assert worst['sigma'] == pytest.approx(1, abs=0.2)
    assert 40 <= worst['y'] < 90
    assert 140 <= worst['x'] < 190
    assert all(abs(move['change']) > 6 for move in check.positions)
    assert found.uses[3]['state'] == 'no'


def test_dimmed_stars_are_no_photometry(honest):
    """Three per cent of the light is missing: too little for any box, enough for the stars."""
    data = honest.clean.data - 0.03 * (honest.scene - SKY)
    found = make_report(honest.noisy, changed(honest, data))
    assert found.check('flux').state == FAILED
    assert found.check('flux').value == pytest.approx(-3, abs=0.5)
    assert found.uses[3]['state'] == 'no'
    assert found.uses[2]['state'] == 'yes'


def test_smeared_stars_are_wider(honest):
    data = ndimage.gaussian_filter(honest.clean.data, 0.5)
    check = make_report(honest.noisy, changed(honest, data)).check('fwhm')
    assert check.state == FAILED
    assert check.value > 5


def test_smooth_residual_is_no_noise(honest):
    """What only took away blotches did not take away noise."""
    removed = 0.5 * ndimage.gaussian_filter(honest.noisy.data - honest.scene, 2)
    check = make_report(honest.noisy, changed(honest, honest.noisy.data - removed)).check(
        'residual'
    )
    assert check.state == FAILED
    assert check.value > 0.5


def test_lifted_sky_is_seen(honest, report):
    check = make_report(honest.noisy, changed(honest, honest.clean.data + 1)).check('sky')
    assert check.state == FAILED
    assert check.value == pytest.approx(report.check('sky').value + 0.1, abs=0.002)


def test_doubled_residual_took_more_than_noise(honest):
    data = 2 * honest.clean.data - honest.noisy.data
    assert make_report(honest.noisy, changed(honest, data)).check('size').state == FAILED


def test_seams_of_known_tiles():
    """A step at the tiles' edges is seen where the tiles are known."""
    rng = np.random.default_rng(4)
    shape = (320, 320)
    noisy = rng.normal(0, 1, shape)
    smooth = 0.01 * ndimage.gaussian_filter(noisy, 1)
    noise, valid = PlaneNoise(shape, 0.0, 1.0), np.ones(shape, bool)
    edge = tile_lines(320, tile_size=128, overlap=0.25)[2]
    stepped = smooth + 0.02 * (np.arange(320) >= edge)
    states = {}
    for name, data in (('smooth', smooth), ('stepped', stepped)):
        plane = examine_plane(noisy, data, noise, 1.0, valid, tiles=(128, 0.25))
        states[name] = judge([plane], [noise])[-1].value
    assert states['smooth'] == pytest.approx(1, abs=0.1)
    assert states['stepped'] > 1.2
    plane = examine_plane(noisy, stepped, noise, 1.0, valid)
    assert 'not known' in judge([plane], [noise])[-1].words


def test_source_of_one_plane_is_named_with_it(honest):
    """Three planes are one frame: a fault is said once, with the planes that have it."""
    planes = [[f.data[:128, :192]] * 3 for f in (honest.noisy, honest.clean)]
    noisy, clean = (CCDData(np.stack(three), unit='adu') for three in planes)
    add_star(clean.data[1], 96, 96, 12)
    add_star(clean.data[1], 64, 32, 12)
    add_star(clean.data[2], 64, 32, 12)
    check = make_report(noisy, clean).check('invented')
    assert check.state == FAILED
    found = {32 * round(place['x'] / 32): place['planes'] for place in check.positions}
    assert found == {96: [1], 64: [1, 2]}
    assert check.number.startswith('2 of')


# What cannot be told


def test_frame_that_is_too_small_says_so():
    rng = np.random.default_rng(0)
    noisy = rng.normal(0, 1, (24, 24))
    report = make_report(noisy, np.zeros((24, 24)))
    assert {check.state for check in report.checks} == {NOT_TESTABLE}
    assert all(check.words.startswith('Not testable here') for check in report.checks)
    assert [use['state'] for use in report.uses] == ['not shown', 'not shown', 'yes', 'not shown']
    assert 'cannot be measured' in report.notes[0]
    assert make_page(report).count('Not testable here') >= len(report.checks)


def test_empty_sky_tells_nothing_of_stars():
    rng = np.random.default_rng(1)
    noisy = rng.normal(100, 1, (128, 128))
    report = make_report(noisy, np.full((128, 128), 100.0))
    assert report.check('invented').state == PASSED
    for key in ('lost', 'flux', 'faint flux', 'fwhm', 'seams'):
        assert report.check(key).state == NOT_TESTABLE, key
        assert report.check(key).words.startswith('Not testable here'), key
    assert any('no star tells the FWHM' in note for note in report.notes)


def test_frame_that_was_not_changed(honest):
    """Nothing is invented or lost, and nothing is said of what was not removed."""
    report = make_report(honest.noisy, changed(honest, honest.noisy.data))
    assert report.check('invented').state == report.check('lost').state == PASSED
    assert report.check('moved').value == 0
    assert report.check('residual').state == NOT_TESTABLE
    make_page(report)


def test_pixels_without_values_do_not_count(honest):
    noisy, clean = honest.noisy.copy(), honest.clean.copy()
    noisy.data[100:120, 100:120] = np.nan
    clean.data[100:120, 100:120] = np.nan
    report = make_report(noisy, clean)
    assert report.pixels == {'all': 256 * 256, 'valid': 256 * 256 - 400}
    assert report.check('moved').state == PASSED
    assert json.loads(report.to_json())


# The object


def refuse(constant):
    raise AssertionError(constant)


def test_json_is_strict_and_equals_the_object(report):
    text = report.to_json()
    assert json.loads(text, parse_constant=refuse) == report.to_dict()
    assert report.to_dict()['checks'][0]['key'] == 'invented'
    assert report.provenance['model'] == 'fast'


def test_unknown_check(report):
    with pytest.raises(KeyError, match=r"no check 'none'; expected one of .*'invented'"):
        report.check('none')


def test_without_a_denoised_frame_it_is_denoised(honest):
    """An array, too; then the predicted error is a layer."""
    report = make_report(honest.noisy.data, model='fast')
    assert report.layers.error.shape == (1, *SHAPE)
    assert 0 < np.median(report.layers.error) < SIGMA / 2
    assert report.files == {'noisy': 'noisy'}
    expected = denoise(honest.noisy, model='fast').data
    np.testing.assert_array_equal(report.layers.denoised[0], expected)


def test_warnings_are_kept_and_given():
    """Of the run itself and, where that was before, of what the weights' card says."""
    noisy = CCDData(np.random.default_rng(0).normal(500, 10, (96, 96)), unit='adu')
    noisy.mask = np.zeros(noisy.shape, bool)
    noisy.mask[:, :48] = True
    with pytest.warns(UnlikeTrainingWarning, match='left out'):
        report = make_report(noisy, model='fast')
    with pytest.warns(UnlikeTrainingWarning):
        clean = denoise(noisy, model='fast')
    for one in (report, make_report(noisy, clean)):
        assert len(one.warnings) == 1
        assert 'the share of pixels that are left out is 0.5' in one.warnings[0]
        assert 'Warning.' in make_page(one)


def test_frames_that_do_not_belong_together(honest):
    with pytest.raises(ValueError, match=r'b\.fits has the shape \(20, 30\) and a\.fits'):
        make_report(honest.noisy, np.zeros((20, 30)) * u.adu,
                    names={'noisy': 'a.fits', 'denoised': 'b.fits'})  # fmt: skip
    with pytest.raises(ValueError, match='truth has the shape'):
        make_report(honest.noisy, honest.clean, truth=np.zeros((1, *SHAPE)) * u.adu)
    with pytest.raises(u.UnitsError, match='denoised is in electron and noisy in adu'):
        make_report(honest.noisy, CCDData(honest.clean.data, unit='electron'))


# Curves


def test_curves_of_white_noise():
    """The power of white noise is 1 at every frequency, its autocorrelation 0."""
    values = np.random.default_rng(2).normal(0, 1, (512, 512))
    quiet = np.ones(values.shape, bool)
    spectra = power_spectra({'residual': values}, quiet)
    power = [v for v in spectra['residual'] if v is not None]
    np.testing.assert_allclose(power[1:], 1, atol=0.15)
    assert np.mean(power[1:]) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(noise_spectrum([0.0] * 6)[1:], 1)
    found = axis_correlations(values, quiet)
    np.testing.assert_allclose([found['x'], found['y']], 0, atol=0.01)
    histogram = residual_histogram(values, quiet)
    assert histogram['rms'] == pytest.approx(1, abs=0.01)
    assert sum(histogram['counts']) == histogram['pixels'] == values.size


def test_curves_of_correlated_noise():
    """A mean of two neighbours: correlation 0.5 along x at lag 1, no power at the highest."""
    values = np.random.default_rng(2).normal(0, 1, (512, 513))
    values = (values[:, 1:] + values[:, :-1]) / np.sqrt(2)
    quiet = np.ones(values.shape, bool)
    found = axis_correlations(values, quiet)
    assert found['x'][0] == pytest.approx(0.5, abs=0.01)
    assert found['y'][0] == pytest.approx(0, abs=0.01)
    spectra = power_spectra({'residual': values}, quiet)
    model = noise_spectrum([0.5, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(spectra['residual'][2:], model[2:], atol=0.3)


def test_sources_are_no_part_of_curves():
    quiet = np.zeros((512, 512), bool)
    values = np.full(quiet.shape, 1e6)
    quiet[:, :256] = True
    values[quiet] = np.random.default_rng(2).normal(0, 1, np.count_nonzero(quiet))
    assert power_spectra({'a': values}, quiet)['pieces'] == 32
    assert axis_correlations(values, quiet)['x'][0] == pytest.approx(0, abs=0.02)
    assert residual_histogram(values, quiet)['rms'] == pytest.approx(1, abs=0.02)


def test_curves_need_pixels():
    quiet = np.zeros((100, 100), bool)
    assert power_spectra({'a': np.zeros((100, 100))}, quiet) is None
    assert axis_correlations(np.zeros((100, 100)), quiet) is None
    assert residual_histogram(np.zeros((100, 100)), quiet) is None


def test_figures_say_what_they_lack(report):
    drawn = draw_figures({'noise': None})
    assert [svg for _, svg, _ in drawn] == [''] * len(FIGURES)
    assert all(caption.startswith('Not testable here') for *_, caption in drawn)
    full = {title: svg for title, svg, _ in draw_figures(report.to_dict()['planes'][0])}
    for title in list(FIGURES)[:5]:
        assert full[title].startswith('<svg'), title
        assert 'nan' not in full[title], title


# Pixels of the page


def unpacked(scene, name, about, n_planes=1):
    """What the page makes of a packed layer, in noise."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(scene.layers[name])), np.uint8)
    low, high = raw.reshape(2, -1).astype(np.int64)
    words = (low + 256 * high - 32896) & 65535
    words = words.reshape(n_planes, scene.height, scene.width)
    if name != 'residual':
        words = np.cumsum(words, axis=-1) & 65535
    codes = words - 65536 * (words > 32767)
    values = about['soft'] * np.sinh(codes * about['steps'][name] / scene.bin / about['soft'])
    return np.where(codes == NOTHING, np.nan, values)


def test_packed_pixels_are_the_frame(honest):
    noisy, clean = (np.array(f.data, float)[None] for f in (honest.noisy, honest.clean))
    noisy[0, 5, 7] = clean[0, 5, 7] = np.nan
    clean[0, 9, 9] = 1e30
    scenes, about = pack_layers(Layers(noisy, clean, None, None, [SKY], [SIGMA]))
    (scene,) = scenes
    assert (scene.bin, scene.x, scene.y, scene.width, scene.height) == (1, 0, 0, 256, 256)
    denoised = unpacked(scene, 'denoised', about)[0][::-1]  # rows of the page run down
    residual = unpacked(scene, 'residual', about)[0][::-1]
    assert np.isnan(denoised[5, 7])
    good = np.isfinite(denoised)
    good[9, 9] = False
    true = (clean[0] - SKY) / SIGMA
    step = about['steps']['denoised'] * np.sqrt(1 + (true / about['soft']) ** 2)
    assert (abs(denoised - true)[good] <= 0.51 * step[good]).all()
    true = (noisy[0] - clean[0]) / SIGMA
    step = about['steps']['residual'] * np.sqrt(1 + (true / about['soft']) ** 2)
    assert (abs(residual - true)[good] <= 0.51 * step[good]).all()


def test_picture_is_shown_the_way_it_lies():
    frame = np.zeros((3, 40, 50))
    frame[:, 0] = 9
    layers = Layers(frame, frame, None, None, [0.0] * 3, [1.0, 2.0, 4.0], (0, 255), upward=False)
    scenes, about = pack_layers(layers)
    denoised = unpacked(scenes[0], 'denoised', about, 3)
    np.testing.assert_allclose(denoised[:, 0], 9 / 2, rtol=0.02)  # one scale keeps the colours
    assert about['white'] == [255 / 2] * 3


def test_large_frames_are_binned_with_pieces_in_full_size():
    rng = np.random.default_rng(0)
    clean = np.zeros((1, 901, 1200))
    noisy = clean + rng.normal(0, 1, clean.shape)
    error = np.full(clean.shape, 0.25)
    places = [(40, 30), (60, 40), (1150, 890)]
    budget = 400_000
    layers = Layers(noisy, clean, None, error, [0.0], [1.0])
    (whole, *pieces), about = pack_layers(layers, places, budget=budget)
    assert whole.bin > 1
    size = sum(len(text) for scene in (whole, *pieces) for text in scene.layers.values()) * 3 / 4
    assert size <= budget
    assert len(pieces) == 3  # two places share one, and the middle has one
    for x, y in places:
        top = 900 - y  # counted from above
        assert any(
            p.bin == 1 and p.x <= x < p.x + PIECE and p.y <= top < p.y + PIECE for p in pieces
        )
    residual = unpacked(whole, 'residual', about)
    assert residual.std() == pytest.approx(1 / whole.bin, rel=0.05)
    np.testing.assert_allclose(unpacked(whole, 'error', about), 0.25, atol=0.02)


# The page


def test_page_needs_no_other_file(report):
    page = make_page(report)
    assert 'http://' not in page.replace('http-equiv', '')
    assert 'https://' not in page
    assert not re.search(r'\b(src|srcset|action|formaction|poster)\s*=', page)
    assert {target[0] for target in re.findall(r'href="([^"]*)"', page)} == {'#'}
    assert not re.search(
        r'@import|url\(|fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon', page
    )
    assert "default-src 'none'" in page
    assert not re.search(r'\{\{\w+\}\}', page)


def test_page_says_what_the_report_says(report):
    page = make_page(report)
    for check in report.checks:
        assert check.title in page
        assert check.state in page
    assert '--strength {1}' in page
    assert 'prefers-color-scheme: light' in page


def test_names_cannot_break_the_page(report):
    name = '</script><b onclick=alert(1)>.fits'
    page = make_page(replace(report, files={'noisy': name}))
    assert '<b onclick' not in page
    assert page.count('</script>') == make_page(report).count('</script>')


def test_command_repeats_the_run(report):
    assert command_of(report) == (
        'astrodenoise denoise noisy -o noisy-denoised.fits --like denoised --strength {1}'
    )
    colour = replace(report, files={'noisy': 'a b.fits.gz'}, shape=(3, *SHAPE))
    assert command_of(colour) == (
        "astrodenoise denoise 'a b.fits.gz' -o 'a b-denoised.fits' --model fast "
        '--channels separate --strength {1}'
    )
    unknown = replace(report, provenance={})
    assert command_of(unknown) == 'noisy - {1} * (noisy - denoised)'


def test_strength_of_the_page_is_a_share_of_the_run(honest):
    """A run of half strength says so; a share of it is what a run of that strength gives."""
    half, quarter = (denoise(honest.noisy, model='fast', strength=s) for s in (0.5, 0.25))
    report = make_report(honest.noisy, half)
    assert command_of(report).endswith('--strength {0.5}')
    assert report.check('size').state == PASSED
    assert report.check('size').bound == 'at most 0.53'
    blended = honest.noisy.data - 0.5 * (honest.noisy.data - half.data)
    np.testing.assert_allclose(blended, quarter.data, atol=1e-3 * SIGMA)


def test_raw_mosaic_is_seen_as_its_four_planes(honest):
    """Where the record says that it was denoised so."""
    data = honest.noisy.data
    mosaic = CCDData(np.kron(data[:128, :128], np.ones((2, 2))).astype('f4'), unit='adu')
    mosaic.data += np.random.default_rng(1).normal(0, SIGMA, mosaic.shape).astype('f4')
    clean = denoise(mosaic, model='fast', bayer='RGGB')
    report = make_report(mosaic, clean)
    assert report.shape == (4, 128, 128)
    assert report.names == ['R 1', 'G 2', 'G 3', 'B 4']
    assert report.check('moved').state == PASSED
    assert 'raw colour mosaic (RGGB)' in report.notes[0]
    assert 'R 1' in make_page(report)


def test_planes_of_other_numbers_have_a_choice(honest):
    noisy, clean = (np.stack([f.data] * 2) for f in (honest.noisy, honest.clean))
    page = make_page(make_report(noisy, clean))
    assert '"colour": false' in page
    assert 'plane 1' in page
    assert 'id="figures-1" hidden' in page


def test_page_is_written_whole(report, tmp_path):
    path = tmp_path / 'page.html'
    write_page(path, report)
    assert path.read_text(encoding='utf-8') == make_page(report)
    with pytest.raises(FileExistsError):
        write_page(path, report)


def test_picture_shows_all_answers(report, honest):
    figure = draw_report(report)
    texts = ' '.join(text.get_text() for text in figure.texts)
    for check in report.checks:
        assert check.title in texts
    small = make_report(honest.noisy.data[:24, :24], honest.clean.data[:24, :24])
    axes = draw_report(small).axes
    assert sum('not testable here' in t.get_text() for ax in axes for t in ax.texts) == 4


# The command


@pytest.fixture
def files(honest, tmp_path):
    """The noisy frame, the denoised one with its predicted error, and the truth."""
    clean = denoise(honest.noisy, model='fast', uncertainty='predict')
    error = fits.ImageHDU(clean.uncertainty.array, name='PRED_ERR')
    fits.PrimaryHDU(honest.noisy.data).writeto(tmp_path / 'noisy.fits')
    image = fits.PrimaryHDU(clean.data, clean.meta and fits.Header())
    for line in clean.meta.get('HISTORY', []):
        image.header.add_history(line)
    fits.HDUList([image, error]).writeto(tmp_path / 'denoised.fits')
    fits.PrimaryHDU(honest.scene).writeto(tmp_path / 'truth.fits')
    return tmp_path


def run(*args):
    return main(['report', *map(str, args)])


def test_command_writes_page_picture_and_json(files, capsys):
    out = [files / name for name in ('r.html', 'r.png', 'r.json')]
    status = run(files / 'noisy.fits', files / 'denoised.fits', '--truth', files / 'truth.fits',
                 '-o', out[0], '--png', out[1], '--json', out[2])  # fmt: skip
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert captured.out.startswith('Invented?')
    assert str(out[2]) in captured.out
    assert out[1].read_bytes().startswith(b'\x89PNG')
    content = json.loads(out[2].read_text(), parse_constant=refuse)
    assert content['files'] == {
        'noisy': 'noisy.fits', 'denoised': 'denoised.fits', 'truth': 'truth.fits'
    }  # fmt: skip
    figures = content['evaluation']['figures']
    assert figures['gain.all']['value'] > 5
    assert figures['calibration.all rms']['value'] > 0
    page = out[0].read_text(encoding='utf-8')
    assert 'id="pixels-0-error"' in page  # PRED_ERR of the denoised file
    assert 'id="pixels-0-truth"' in page
    assert 'Against the truth' in page


@pytest.mark.parametrize('name', ['alone.png', 'alone.json'])
def test_picture_or_json_alone(files, name, capsys):
    assert run(files / 'noisy.fits', files / 'denoised.fits', '-o', files / name, '-q') == 0
    assert not capsys.readouterr().out
    start = (files / name).read_bytes()[:4]
    assert start in (b'\x89PNG', b'{\n "')


def test_command_denoises(files):
    out = files / 'r.json'
    assert run(files / 'noisy.fits', '--model', 'fast', '--json', out, '-q') == 0
    content = json.loads(out.read_text())
    assert content['provenance']['model'] == 'fast'
    assert content['files'] == {'noisy': 'noisy.fits'}


def test_picture_of_colours(files, honest):
    """A PNG keeps its own black and white, and its first row stays above."""
    from PIL import Image

    values = np.clip(honest.scene[:128, :160, None] / 10 + np.random.default_rng(0).normal(
        0, 4, (128, 160, 3)), 0, 255)  # fmt: skip
    Image.fromarray(values.astype(np.uint8)).save(files / 'noisy.png')
    assert run(files / 'noisy.png', '-o', files / 'p.html', '--model', 'fast_colour', '-q') == 0
    page = (files / 'p.html').read_text(encoding='utf-8')
    about = json.loads(re.search(r'id="about">(.*?)</script>', page, re.DOTALL)[1])
    assert about['colour'] is True
    assert about['upward'] is False
    assert about['white'] is not None


def test_extension_is_chosen(files, honest):
    for name in ('noisy', 'denoised'):
        data = fits.getdata(files / f'{name}.fits')
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((8, 8)), name='OTHER'),
                fits.ImageHDU(data, name='SCI')]  # fmt: skip
        fits.HDUList(hdus).writeto(files / f'{name}-mef.fits')
    out = files / 'r.json'
    for ext in ('SCI', '2'):
        assert run(files / 'noisy-mef.fits', files / 'denoised-mef.fits', '--ext', ext,
                   '--json', out, '-q', '--overwrite') == 0  # fmt: skip
        assert json.loads(out.read_text())['shape'] == list(SHAPE)


def test_files_of_one_name_are_told_apart(files, capsys):
    for folder, shape in (('a', (64, 64)), ('b', (32, 32))):
        (files / folder).mkdir()
        fits.PrimaryHDU(np.ones(shape, 'f4')).writeto(files / folder / 'frame.fits')
    assert run(files / 'a/frame.fits', files / 'b/frame.fits', '-o', files / 'r.html') == 1
    error = capsys.readouterr().err
    assert str(files / 'a/frame.fits') in error
    assert '(32, 32)' in error
    assert not (files / 'r.html').exists()


def test_existing_files_are_kept_before_any_work(files, monkeypatch, capsys):
    def unexpected(*args, **options):
        raise AssertionError

    monkeypatch.setattr('astrodenoise.report.make_report', unexpected)
    for option, name in (('-o', 'r.html'), ('--png', 'r.png'), ('--json', 'r.json')):
        (files / name).write_text('kept')
        assert run(files / 'noisy.fits', option, files / name) == 1
        assert '--overwrite' in capsys.readouterr().err
        assert (files / name).read_text() == 'kept'


def test_missing_and_broken_files(files, capsys):
    assert run(files / 'none.fits', '-o', files / 'r.html') == 1
    assert 'none.fits: cannot be opened' in capsys.readouterr().err
    (files / 'text.fits').write_text('no frame')
    assert run(files / 'noisy.fits', files / 'text.fits', '-o', files / 'r.html') == 1
    assert 'text.fits: is no FITS' in capsys.readouterr().err
    assert not (files / 'r.html').exists()


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ((), 'nothing to write'),
        (('-o', 'noisy.fits'), 'one of the others'),
        (('-o', 'r.html', '--png', 'r.html'), 'one of the others'),
        (('-o', 'r.png', '--png', 's.png'), 'goes to'),
        (('-o', 'none/r.html'), 'there is no folder'),
        (('-o', 'r.html', '--model', 'none'), "no model 'none'"),
        (('denoised.fits', '-o', 'r.html', '--model', 'fast'), 'leave one of them out'),
    ],
)
def test_wrong_usage(files, monkeypatch, capsys, options, reason):
    monkeypatch.chdir(files)
    assert run('noisy.fits', *options) == 2
    assert reason in capsys.readouterr().err
    assert fits.getdata('noisy.fits').shape == SHAPE


def test_real_frame_has_no_finding(shared_data):
    """A galaxy field with correlated noise: its own denoiser invents and loses nothing."""
    ccd = CCDData.read(
        shared_data / 'check' / 'real_decam' / 'DECam_OBS04_single_ref.fits.fz', unit='adu', hdu=1
    )
    report = make_report(ccd.data.astype('f4'))
    assert [check.state for check in report.checks[:3]] == [PASSED] * 3
    assert report.planes[0]['sources']['shown'] > 20
