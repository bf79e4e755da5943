# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Checks of a frame: what they find of good and of planted bad denoisers, what they say and how."""

import json
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from scipy import ndimage
from starframes import noisy_frame

from astrodenoise import check_frame, measure_noise, trustcheck
from astrodenoise.cli import main
from astrodenoise.frames import open_frame
from astrodenoise.inject import SNR_EDGES
from astrodenoise.measures.detections import peaks
from astrodenoise.places import light_map
from astrodenoise.trustbins import DETECTED, Samples
from astrodenoise.trustcheck import examine, open_subject
from astrodenoise.trustresult import FALSE, RULE, TrustCheck

SHAPE = (320, 352)


@pytest.fixture(scope='module')
def subject():
    return open_subject(open_frame(noisy_frame(1, SHAPE, bright=True)))


def checked(subject, denoiser, n_sources=280):
    return examine(subject, lambda planes, first=False: denoiser(planes), n_sources=n_sources)


@pytest.fixture
def few_passes(monkeypatch):
    """Where only the way is tested, not the numbers."""
    monkeypatch.setattr(trustcheck, 'TWINS', 3)
    monkeypatch.setattr(trustcheck, 'BATCHES', (2, 4))


# planted denoisers


@pytest.fixture(scope='module')
def identity(subject):
    return checked(subject, lambda planes: planes)


def test_what_changes_nothing_is_found_to_change_nothing(identity):
    """Fluxes come out as they went in, detections and false sources are the noisy frame's."""
    assert len(identity.samples) >= 150
    for one in identity.bins():
        assert one.completeness == one.completeness_noisy
        assert one.n_new == 0
        assert one.fwhm == pytest.approx(1, abs=0.1)
        assert one.scatter == pytest.approx(one.scatter_noisy, nan_ok=True)
        assert one.offset == pytest.approx(one.offset_noisy, nan_ok=True)
    bright = identity.bins()[-1]
    assert bright.flux == pytest.approx(1, abs=0.02)  # its own light brought noise
    assert bright.completeness > 0.95
    noisy, denoised = identity.false_per_mpx(3.2)
    assert noisy == denoised > 10
    # nothing but the noisy frame's own false sources, a few above S/N 5, stands against it
    rates = {one.low: identity.false_per_mpx(one.low)[0] for one in identity.bins()}
    sound = [
        low for low, rate in rates.items()
        if low >= DETECTED and rate - np.sqrt(rate / identity.plane_area) <= FALSE
    ]
    assert identity.trusted()[0] == min(sound) <= 8


def test_detections_follow_the_nominal_snr(identity):
    """Found above 5: few at 2 to 3.2, about half around 5, nearly all from 8 on."""
    shares = [one.completeness_noisy for one in identity.bins()]
    assert shares[0] < 0.1
    assert 0.5 < shares[2] < 0.97
    assert min(shares[3:]) > 0.85


def test_a_blur_is_found_out(subject):
    """It keeps the light, and spreads it: stars are wider, and the flux of their image is lost."""
    found = checked(subject, lambda planes: ndimage.gaussian_filter(planes, (0, 1.5, 1.5)))
    bright = found.bins()[-1]
    assert bright.flux < 0.8
    assert bright.fwhm > 1.2
    snr, reason = found.trusted()
    assert snr is None
    assert 'flux' in reason
    assert found.verdict.startswith('in this frame trust no source of S/N below 50: flux is ')


def test_a_loss_of_flux_is_measured(subject):
    """Light over the level held at 88 %: found to 1 %."""
    level = np.stack([target.level for target in subject.targets])
    found = checked(subject, lambda planes: level + 0.88 * (planes - level))
    assert found.bins()[-1].flux == pytest.approx(0.88, abs=0.02)
    assert found.trusted()[0] is None


def test_an_eraser_of_faint_sources_is_found_out(subject):
    """What stands below S/N 14 goes: sources above 20 alone can be trusted."""
    target, level = subject.targets[0], subject.smooth[0]

    def erase(planes):
        snr = ndimage.maximum_filter(light_map(planes[0] - target.level, target), 19)
        return np.where(snr > 14, planes[0], level)[None]

    found = checked(subject, erase)
    snr, reason = found.trusted()
    assert snr == 20.0
    assert 'S/N 12.5 to 20' in reason
    assert found.bins()[3].completeness < 0.5  # S/N 8 to 12.5
    assert found.bins()[-1].fault == ''


def test_an_inventor_is_found_out_by_the_twin(subject):
    """Peaks of the noise become stars of S/N 9: no flux is lost, and nothing can be trusted."""
    target = subject.targets[0]

    def invent(planes):
        light = planes[0] - target.level
        y, x, height = peaks(light_map(light, target), 3.0)
        result = planes[0].astype(float)
        for at in zip(y, x, height, strict=True):
            if at[2] < 5 and min(at[:2]) > 12 and at[0] < SHAPE[0] - 13 and at[1] < SHAPE[1] - 13:
                flux = (9 - at[2]) * target.flux_noise(target.psf, *at[:2])
                half = target.image.half
                result[at[0] - half : at[0] + half + 1, at[1] - half : at[1] + half + 1] += (
                    flux * target.psf
                )
        return result[None]

    found = checked(subject, invent)
    noisy, denoised = found.false_per_mpx(8)
    assert noisy < 1 < 50 < denoised
    snr, reason = found.trusted()
    assert snr is None or snr > 8
    assert 'false sources per Mpx' in reason


# the network


@pytest.fixture(scope='module')
def honest():
    """The shipped weights on a simulated frame."""
    return check_frame(noisy_frame(2, (384, 384)), n_sources=196, seed=3)


def test_the_network_passes_on_bright_sources(honest):
    assert honest.model == 'mono'
    for one in honest.bins()[-2:]:
        assert one.fault == '', one
        assert one.flux == pytest.approx(1, abs=0.05)
    snr, _ = honest.trusted()
    assert 5 <= snr <= 20
    noisy, denoised = honest.false_per_mpx(3.2)
    assert denoised < noisy


def test_text_closes_with_the_line(honest):
    lines = str(honest).splitlines()
    assert lines[-1] == honest.verdict
    assert lines[-1].startswith(f'in this frame trust sources above S/N {honest.trusted()[0]:g}')
    assert RULE in lines
    assert any(line.startswith('sky ') for line in lines)
    rows = [line for line in lines if line[:1].isdigit()]
    assert [row.split()[0] for row in rows] == [
        f'{low:g}-{high:g}' for low, high in pairwise(SNR_EDGES)
    ]


def test_json_is_strict(honest):
    content = json.loads(honest.to_json(), parse_constant=pytest.fail)
    assert content['trusted'] == honest.trusted()[0]
    assert [one['low'] for one in content['bins']] == list(SNR_EDGES[:-1])
    assert content['false_per_mpx']['5']['denoised'] == honest.false_per_mpx(5)[1]
    assert set(content['groups']) >= {'sky', 'stars', 'galaxies'}


def test_plot_has_four_panels(honest, tmp_path):
    figure = honest.plot()
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / 'check.png')
    assert (tmp_path / 'check.png').stat().st_size > 10_000


def test_three_planes_go_through_the_colour_model(few_passes):
    """Sources are in all planes with a colour of their own; each plane is a group."""
    frame = np.stack([noisy_frame(4, (192, 192)) * factor for factor in (1.0, 2.0, 0.5)])
    found = check_frame(frame, channels='joint', n_sources=40, seed=1)
    assert found.model == 'colour'
    assert len(found.images) == 3
    assert set(found.groups()) >= {'plane 0', 'plane 1', 'plane 2'}
    snr = found.samples['snr'].reshape(-1, 3)
    assert np.all(np.std(snr, axis=1) > 0)
    assert np.corrcoef(np.log(snr[:, 0]), np.log(snr[:, 2]))[0, 1] > 0.5


def test_same_seed_gives_the_same_check(few_passes):
    frame = noisy_frame(5, (160, 160))
    first, second = (check_frame(frame, n_sources=14, seed=9) for _ in range(2))
    assert np.array_equal(first.samples['flux_denoised'], second.samples['flux_denoised'])
    assert first.to_dict()['bins'] == second.to_dict()['bins']


def test_frame_is_not_changed_and_mask_is_obeyed(few_passes):
    frame = CCDData(noisy_frame(6, (192, 192)), unit='adu')
    frame.mask = np.zeros(frame.shape, bool)
    frame.mask[60:100, 60:100] = True
    frame.data[70, 70] = np.nan
    before = frame.data.copy()
    found = check_frame(frame, n_sources=14, seed=1)
    assert np.array_equal(frame.data, before, equal_nan=True)
    assert len(found.samples)
    assert np.isfinite(found.samples['flux_denoised']).all()


# the twin


def test_twin_has_the_noise_and_the_level_of_the_frame_and_nothing_else(subject):
    seen = []
    checked(subject, lambda planes: seen.append(planes[0]) or planes, n_sources=7)
    twin = seen[-1]
    own, other = subject.noise.planes[0], measure_noise(twin.astype(np.float32)).planes[0]
    assert other.sigma == pytest.approx(own.sigma, rel=0.05)
    assert other.correlation == pytest.approx(own.correlation, abs=0.05)
    pulls = (twin - subject.smooth[0]) / own.sigma_at(subject.smooth[0])
    assert pulls.std() == pytest.approx(1, abs=0.05)
    nebula = np.s_[50:110, 220:280]  # on the nebula the law makes more noise
    assert own.sigma_at(subject.smooth[0])[nebula].mean() > 1.05 * own.sigma
    assert pulls[nebula].std() == pytest.approx(1, abs=0.05)
    assert np.abs(pulls).max() < 5.5  # no star


# the rule


def result_of(rows=(), *, false=((), ()), area=4.0):
    """A check whose measurements are made up: bin -> (sources, found noisy, found, flux)."""
    samples = Samples()
    for number, (n, noisy, denoised, flux) in enumerate(rows):
        for i in range(n):
            samples.add(
                snr=SNR_EDGES[number] * 1.1, place='sky', kind='stars', plane=0, stamp=None,
                flux_noisy=1.0, flux_denoised=flux + 0.02 * (-1) ** i, pull_noisy=0.0,
                pull_denoised=0.0, found_noisy=i < noisy * n, found_denoised=i < denoised * n,
                offset_noisy=0.1, offset_denoised=0.1, old_noisy=False, old_denoised=False,
            )  # fmt: skip
    return TrustCheck(samples, tuple(np.array(part, float) for part in false), area)


GOOD = (40, 1.0, 1.0, 0.99)


@pytest.mark.parametrize(
    ('changed', 'trusted', 'reason'),
    [
        ({}, 5.0, ''),
        ({2: (40, 0.9, 0.85, 0.99)}, 5.0, ''),  # 94 % of what the noisy frame shows
        ({2: (40, 0.9, 0.75, 0.99)}, 8.0, 'shows 75%'),
        ({3: (40, 1, 1, 0.92)}, 12.5, 'flux is 92% at S/N 8 to 12.5'),
        ({3: (40, 1, 1, 0.96)}, 5.0, ''),
        ({6: (40, 1, 1, 1.08)}, None, 'flux is 108%'),
        ({3: (4, 1, 1, 0.99)}, 12.5, 'not testable'),
        ({6: (4, 1, 1, 0.99)}, None, 'not testable'),
        ({0: (40, 0, 0, 0.1), 1: (40, 0.2, 0.0, 0.5)}, 5.0, ''),  # below a detection
    ],
)
def test_rule(changed, trusted, reason):
    """The lowest S/N from which on detections and fluxes are what the text says."""
    rows = [changed.get(number, GOOD) for number in range(len(SNR_EDGES) - 1)]
    snr, why = result_of(rows).trusted()
    assert snr == trusted
    assert reason in why
    assert bool(why) == bool(reason)


def test_rule_on_false_sources():
    """1 per Mpx of the denoised twin and its standard error; the noisy one's do not count."""
    rows = [GOOD] * 7
    assert result_of(rows, false=([6.0] * 100, [6.0] * 6)).trusted() == (5.0, '')
    snr, reason = result_of(rows, false=([], [6.0] * 7)).trusted()
    assert (snr, reason) == (8.0, '1.8 false sources per Mpx above S/N 5')
    snr, reason = result_of(rows, area=0.3).trusted()
    assert snr is None
    assert reason.startswith('not testable')


def test_flux_may_be_wrong_by_two_standard_errors_only():
    """A scatter that hides an error of the flux makes the bin untestable, not good."""
    samples = result_of([GOOD] * 7).samples
    rng = np.random.default_rng(1)
    for row in samples._rows:
        row['flux_denoised'] = 0.8 + rng.normal(0, 0.6)
    check = TrustCheck(samples, (np.array([]), np.array([])), 4.0)
    assert check.trusted()[0] is None
    assert check.trusted()[1].startswith('not testable')


def test_a_kind_of_place_that_fails_is_named():
    samples = result_of([GOOD] * 7).samples
    for row in list(samples._rows):
        samples.add(**row | {'place': 'halos', 'flux_denoised': 0.85 + 0.3 * (row['snr'] > 20)})
    for row in list(samples._rows):  # outvoted by the sky
        if row['place'] == 'sky':
            samples.add(**row)
    verdict = TrustCheck(samples, (np.array([]), np.array([])), 4.0).verdict
    assert verdict.startswith('in this frame trust sources above S/N 5; for halos: flux is ')


def test_too_few_sources_are_not_testable(subject):
    found = checked(subject, lambda planes: planes, n_sources=8)
    assert found.verdict.startswith('in this frame trust cannot be told: not testable')
    json.loads(found.to_json(), parse_constant=pytest.fail)


# what cannot be checked


def test_frame_without_noise_is_refused():
    with pytest.raises(ValueError, match='noise'):
        check_frame(np.full((128, 128), 5.0))


@pytest.mark.parametrize(
    ('options', 'error'),
    [({'n_sources': 0}, ValueError), ({'n_sources': '9'}, TypeError), ({'seed': -1}, ValueError),
     ({'model': 'nonsense'}, ValueError), ({'unheard': 0}, TypeError)],
)  # fmt: skip
def test_wrong_arguments(options, error):
    with pytest.raises(error):
        check_frame(noisy_frame(7, (96, 96)), **options)


def test_lazy_frame_is_refused():
    array = pytest.importorskip('dask.array')
    with pytest.raises(TypeError, match='compute'):
        check_frame(array.zeros((64, 64)))


# the command


@pytest.fixture
def file(tmp_path, few_passes):
    path = tmp_path / 'frame.fits'
    fits.PrimaryHDU(noisy_frame(8, (160, 176))).writeto(path)
    return path


def test_command_prints_the_table_and_writes_files(file, tmp_path, capsys):
    names = tmp_path / 'check.json', tmp_path / 'check.png'
    words = [file, '--sources', 21, '--json', names[0], '--plot', names[1], '-q']
    assert main(['check', *map(str, words)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith('in this frame trust ')
    assert json.loads(names[0].read_text(), parse_constant=pytest.fail)['model'] == 'mono'
    assert names[1].read_bytes().startswith(b'\x89PNG')
    # what exists is kept, in one line
    assert main(['check', *map(str, words)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1
    assert 'check.json' in captured.err


def test_command_prints_json_alone(file, capsys):
    assert main(['check', str(file), '-q', '--sources', '7', '--model', 'fast', '--json']) == 0
    content = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert content['model'] == 'fast'


@pytest.mark.parametrize(
    ('words', 'status', 'said'),
    [
        (['missing.fits'], 1, 'missing.fits'),
        (['FILE', '--ext', '7'], 1, '7'),
        (['FILE', '--model', 'nonsense'], 2, 'nonsense'),
        (['FILE', '--plot', 'check.txt'], 2, '.png'),
        (['FILE', '--json', 'nowhere/check.json'], 2, 'nowhere'),
        (['FILE', '--sources', '0'], 2, 'at least 1'),
        (['FILE', '--seed', '-3'], 2, 'negative'),
        (['FILE', '--channels', 'joint'], 1, 'three planes'),
    ],
)
def test_command_says_what_is_wrong_in_one_line(
    words, status, said, file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(['check', *(str(file) if word == 'FILE' else word for word in words)]) == status
    told = capsys.readouterr().err.strip().splitlines()
    assert said in told[-1]
    assert status == 2 or len(told) == 1
