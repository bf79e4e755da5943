# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of the command line: what it writes, what it says and how it ends."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from numpy.testing import assert_array_equal

import astrodenoise
from astrodenoise import argtypes, cli, console, demo, frametasks, plotting, weights
from astrodenoise.cli import main
from astrodenoise.files import read_frame

SHAPE = (80, 96)
SIGMA = 10.0


@pytest.fixture
def frame(tmp_path):
    """Write a file of sky noise with one star."""
    return sky(tmp_path / 'in.fits')


def sky(path, *, seed=1, dtype=np.float32, header=None):
    """Write a frame of sky noise with one star."""
    y, x = np.indices(SHAPE)
    star = 2000 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 8)
    data = np.random.default_rng(seed).normal(500, SIGMA, SHAPE) + star
    cards = {'BUNIT': 'adu', 'OBJECT': 'M 51', **(header or {})}
    fits.PrimaryHDU(data.astype(dtype), fits.Header(cards)).writeto(path)
    return path


def run(*args):
    """Run the command line in this process; small tiles fit these small frames."""
    small = ['--tile-size', '64'] if args[:1] == ('denoise',) and '--tile-size' not in args else []
    return main([*map(str, args), *small])


def run_process(*args, **options):
    """Run the command line as a process of its own."""
    command = [sys.executable, '-m', 'astrodenoise.cli', *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# What is written


def test_denoise_file(tmp_path, frame, capsys):
    """The sky is smoother, the star and the header stay, the record is in the header."""
    assert run('denoise', frame, '-o', tmp_path / 'out.fits') == 0
    before, after = fits.getdata(frame), fits.getdata(tmp_path / 'out.fits')
    assert np.std(after[:20]) < 0.7 * np.std(before[:20])
    star = np.s_[35:46, 45:56]
    assert after[star].sum() == pytest.approx(before[star].sum(), abs=5 * SIGMA * 11)
    header = fits.getheader(tmp_path / 'out.fits')
    assert header['OBJECT'] == 'M 51'
    assert header['DENOISED'] is True
    captured = capsys.readouterr()
    assert f'{frame} -> {tmp_path / "out.fits"}' in captured.out
    assert not captured.err


def test_same_pixels_as_the_function(tmp_path, frame):
    """The command does what denoise() does, to the bit."""
    options = ('--strength', 0.5, '--overlap', 0.5, '--tile-size', 64, '--noise', SIGMA)
    assert run('denoise', frame, '-o', tmp_path / 'out.fits', *options) == 0
    ccd = CCDData.read(frame)
    expected = astrodenoise.denoise(ccd, 0.5, strength=0.5, tile_size=64, noise=SIGMA)
    assert_array_equal(fits.getdata(tmp_path / 'out.fits'), expected.data)


def test_residual(tmp_path, frame):
    """Output plus residual is the input."""
    out, residual = tmp_path / 'out.fits', tmp_path / 'residual.fits'
    assert run('denoise', frame, '-o', out, '--residual', residual) == 0
    before, after = fits.getdata(frame), fits.getdata(out)
    assert_array_equal(fits.getdata(residual), before - after)
    assert fits.getheader(residual)['OBJECT'] == 'M 51'


def test_integer_frame(tmp_path):
    """Unsigned integers become float32 with a clean header."""
    source = sky(tmp_path / 'in.fits', dtype=np.uint16)
    assert run('denoise', source, '-o', tmp_path / 'out.fits') == 0
    header = fits.getheader(tmp_path / 'out.fits')
    assert header['BITPIX'] == -32
    assert 'BZERO' not in header


@pytest.mark.parametrize('name', ['in.fits.fz', 'in.fits.gz'])
def test_folder_keeps_the_name(tmp_path, frame, name):
    """In a folder the output has the input's name and so its way of storage."""
    data = fits.getdata(frame)
    source = tmp_path / name
    image = fits.CompImageHDU(data) if name.endswith('.fz') else fits.ImageHDU(data)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(source)
    assert run('denoise', source, '-o', f'{tmp_path}/new/') == 0
    with fits.open(tmp_path / 'new' / name) as hdus:
        assert isinstance(hdus[1], fits.CompImageHDU) == name.endswith('.fz')
        assert hdus[1].header['DENOISED'] is True


def test_extension_with_uncertainty_and_mask(tmp_path, frame):
    """SCI is denoised with its ERR and DQ; --uncertainty none leaves ERR out."""
    data = fits.getdata(frame)
    dq = np.zeros(SHAPE, np.int16)
    dq[10, 20] = 4
    planes = {'OTHER': data, 'SCI': data, 'ERR': np.full_like(data, SIGMA), 'DQ': dq}
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    source = tmp_path / 'mef.fits'
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(source)
    assert run('denoise', source, '-o', tmp_path / 'a.fits', '--ext', 'sci') == 0
    options = ('--ext', 2, '--uncertainty', 'none')
    assert run('denoise', source, '-o', tmp_path / 'b.fits', *options) == 0
    with fits.open(tmp_path / 'a.fits') as a, fits.open(tmp_path / 'b.fits') as b:
        assert [hdu.name for hdu in a][1:] == ['OTHER', 'SCI', 'ERR', 'DQ']
        assert [hdu.name for hdu in b][1:] == ['OTHER', 'SCI', 'DQ']
        assert_array_equal(a['OTHER'].data, data)
        assert_array_equal(a['SCI'].data, b['SCI'].data)
        assert a['SCI'].data[10, 20] == data[10, 20]  # masked: as it was
        assert a['SCI'].data[10, 21] != data[10, 21]


def test_picture(tmp_path):
    """A colour picture is denoised as one and keeps its depth."""
    from PIL import Image

    pixels = np.random.default_rng(1).normal(90, 6, (*SHAPE, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'in.png')
    options = ('--channels', 'separate')
    assert run('denoise', tmp_path / 'in.png', '-o', tmp_path / 'out.png', *options) == 0
    with Image.open(tmp_path / 'out.png') as image:
        clean = np.asarray(image)
    assert clean.dtype == np.uint8
    assert clean.shape == pixels.shape
    assert np.std(clean[..., 1]) < 0.8 * np.std(pixels[..., 1])


def test_no_residual_of_a_picture(tmp_path, capsys):
    """A picture cannot hold what is below zero."""
    from PIL import Image

    Image.fromarray(np.full(SHAPE, 9, np.uint8)).save(tmp_path / 'in.png')
    options = ('-o', tmp_path / 'out.png', '--residual', tmp_path / 'residual.png')
    assert run('denoise', tmp_path / 'in.png', *options) == 1
    assert 'give --residual a name that ends in .fits' in capsys.readouterr().err


# Several files, and files that fail


def test_bad_files_do_not_stop_the_others(tmp_path, capsys):
    """Each failed file is named in one line, the others are done, the status is 1."""
    good = [sky(tmp_path / f'{name}.fits', seed=seed) for seed, name in enumerate('ad')]
    text = tmp_path / 'b.fits'
    text.write_text('no image at all')
    missing = tmp_path / 'c.fits'
    out = tmp_path / 'out'
    assert run('denoise', good[0], text, missing, good[1], '-o', out, '-q') == 1
    assert sorted(os.listdir(out)) == ['a.fits', 'd.fits']
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert not captured.out
    assert len(lines) == 3
    assert lines[0].startswith(f'astrodenoise: {text}: is no FITS')
    assert lines[1].startswith(f'astrodenoise: {missing}: cannot be opened')
    assert lines[2] == 'astrodenoise: 2 of 4 files failed'


def test_existing_output(tmp_path, frame, capsys):
    """An existing file is kept, replaced with --overwrite, skipped with --resume if it is ours."""
    out = tmp_path / 'out.fits'
    out.write_bytes(b'mine')
    for options in ([], ['--resume']):
        assert run('denoise', frame, '-o', out, *options) == 1
        assert '--overwrite' in capsys.readouterr().err
        assert out.read_bytes() == b'mine'
    assert run('denoise', frame, '-o', out, '--overwrite') == 0
    assert fits.getheader(out)['DENOISED'] is True
    capsys.readouterr()
    assert run('denoise', frame, '-o', out, '--resume') == 0
    assert 'skipped' in capsys.readouterr().out


def test_existing_residual_stops_before_the_work(tmp_path, frame, monkeypatch):
    """Neither file is touched when one of them exists."""
    residual = tmp_path / 'residual.fits'
    residual.write_bytes(b'mine')

    def unexpected(*args, **keywords):
        pytest.fail('the frame was denoised')

    monkeypatch.setattr(frametasks, '_denoised', unexpected)
    assert run('denoise', frame, '-o', tmp_path / 'out.fits', '--residual', residual) == 1
    assert sorted(os.listdir(tmp_path)) == ['in.fits', 'residual.fits']


def test_resume_does_the_rest(tmp_path):
    """After a stop only the missing outputs are made."""
    sources = [sky(tmp_path / f'{name}.fits') for name in 'ab']
    out = tmp_path / 'out'
    assert run('denoise', sources[0], '-o', f'{out}/') == 0
    first = (out / 'a.fits').stat().st_mtime_ns
    assert run('denoise', *sources, '-o', out, '--resume') == 0
    assert (out / 'a.fits').stat().st_mtime_ns == first
    assert (out / 'b.fits').exists()


def test_error_of_the_function_is_one_line(tmp_path, capsys):
    """What denoise() refuses is told without a traceback; with -vv there is one."""
    source = tmp_path / 'nan.fits'
    fits.PrimaryHDU(np.full(SHAPE, np.nan, np.float32), fits.Header({'BUNIT': 'adu'})).writeto(
        source
    )
    assert run('denoise', source, '-o', tmp_path / 'out.fits') == 1
    error = capsys.readouterr().err
    assert error.startswith(f'astrodenoise: {source}: ')
    assert error.count('\n') == 1
    assert run('denoise', source, '-o', tmp_path / 'out.fits', '-vv') == 1
    assert 'Traceback' in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['nan.fits']


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (MemoryError(), 'not enough memory'),
        (RuntimeError('two\nlines'), 'RuntimeError: two lines'),
        (ZeroDivisionError(), 'ZeroDivisionError:'),
    ],
)
def test_unexpected_errors(tmp_path, frame, monkeypatch, capsys, error, line):
    """Whatever fails is named in one line."""

    def fail(*args, **keywords):
        raise error

    monkeypatch.setattr(frametasks, '_denoised', fail)
    assert run('denoise', frame, '-o', tmp_path / 'out.fits') == 1
    assert capsys.readouterr().err.rstrip() == f'astrodenoise: {frame}: {line}'


def test_warnings_are_one_line(tmp_path, capsys):
    """A constant frame comes back with a warning that names the file."""
    source = tmp_path / 'flat.fits'
    fits.PrimaryHDU(np.ones(SHAPE, np.float32), fits.Header({'BUNIT': 'adu'})).writeto(source)
    assert run('denoise', source, '-o', tmp_path / 'out.fits') == 0
    error = capsys.readouterr().err
    assert error.startswith(f'astrodenoise: {source}: warning: ')
    assert error.count('\n') == 1
    assert_array_equal(fits.getdata(tmp_path / 'out.fits'), 1)


def test_verbose_tells_what_was_decided(tmp_path, capsys):
    """With -v the unit that was taken is told, without it not."""
    source = sky(tmp_path / 'in.fits', header={'BUNIT': 'DN/foo'})
    assert run('denoise', source, '-o', tmp_path / 'a.fits') == 0
    assert 'adu is taken' not in capsys.readouterr().err
    assert run('denoise', source, '-o', tmp_path / 'b.fits', '-v') == 0
    assert 'adu is taken' in capsys.readouterr().err
    assert fits.getheader(tmp_path / 'b.fits')['BUNIT'] == 'DN/foo'


def test_progress_bar_is_not_for_quiet():
    """Quiet has no progress bar; otherwise tqdm wraps the tiles, on stderr."""
    parse = cli.make_parser().parse_args
    assert console.make_progress_bar(parse(['evaluate', 'a', 'b', '-q']), 'a') is None
    bar = console.make_progress_bar(parse(['evaluate', 'a', 'b']), 'a')
    assert list(bar(range(3))) == [0, 1, 2]
    assert bar.keywords['file'] is sys.stderr


# Interruption


def test_interrupt_in_the_work(tmp_path, frame, monkeypatch, capsys):
    """Ctrl-C ends with 130, one line and no file."""

    def interrupt(*args, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(frametasks, '_denoised', interrupt)
    assert run('denoise', frame, '-o', tmp_path / 'out.fits') == 130
    assert capsys.readouterr().err == 'astrodenoise: interrupted\n'
    assert os.listdir(tmp_path) == ['in.fits']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_while_writing(tmp_path, frame, monkeypatch, number):
    """A signal in the middle of a file removes what was written of it."""

    def write_half(data, dtype):
        yield bytes(2880)
        assert any(name.endswith('.part') for name in os.listdir(tmp_path))
        signal.raise_signal(number)
        yield bytes(2880)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr('astrodenoise.fitswriter._image_bytes', write_half)
    assert run('denoise', frame, '-o', tmp_path / 'out.fits') == 130
    assert os.listdir(tmp_path) == ['in.fits']
    assert signal.getsignal(signal.SIGTERM) is handler


# Usage


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--strength', '1.5'], 'must lie in 0 to 1'),
        (['--strength', 'nan'], 'must lie in 0 to 1'),
        (['--strength', 'full'], 'invalid number'),
        (['--overlap', '0.9'], 'must lie in 0 to 0.75'),
        (['--limit', '0'], 'must be at least 0.1'),
        (['--tile-size', '100'], 'multiple of 8'),
        (['--noise', '-1'], 'must be positive'),
        (['--noise', 'inf'], 'must be positive'),
        (['--blend', 'none'], '--overlap 0'),
        (['--gain', '1.5'], 'give both'),
        (['--read-noise', '5'], 'give both'),
        (['--gain', '1', '--read-noise', '5', '--noise', '3'], 'given twice'),
        (['--unit', 'furlong/foo'], '--unit'),
        (['--model', 'none-such'], 'no model'),
        (['--device', 'abacus'], 'device'),
        (['--channels', 'rgb'], 'invalid choice'),
        (['--residual', 'OUT'], 'give another name'),
        (['--residual', 'IN'], 'give another name'),
    ],
)
def test_wrong_usage(tmp_path, frame, capsys, options, reason):
    """Wrong usage is told before any work, with status 2."""
    out = tmp_path / 'out.fits'
    options = [{'OUT': out, 'IN': frame}.get(option, option) for option in options]
    assert run('denoise', frame, '-o', out, *options) == 2
    assert reason in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['in.fits']


def test_wrong_outputs(tmp_path, frame, capsys):
    """An output that is an input, a file for many, equal names and missing folders: status 2."""
    other = tmp_path / 'other'
    other.mkdir()
    twin = sky(other / 'in.fits')
    second = sky(tmp_path / 'second.fits')
    (tmp_path / 'link.fits').symlink_to(frame)
    for args, reason in (
        ([frame, '-o', frame], 'give another name'),
        ([frame, '-o', tmp_path], 'give another name'),
        ([frame, '-o', tmp_path / 'link.fits'], 'give another name'),
        ([frame, twin, '-o', second], 'need a folder'),
        ([frame, twin, '-o', tmp_path / 'out'], 'several inputs are called in.fits'),
        ([frame, second, '-o', tmp_path / 'a' / 'b'], 'make it first'),
        ([frame], 'required'),
        (['-o', tmp_path / 'out.fits'], 'required'),
    ):
        assert run('denoise', *args) == 2
        assert reason in capsys.readouterr().err


def test_missing_folder_of_one_output(tmp_path, frame, capsys):
    """The folder of a single output is not made."""
    assert run('denoise', frame, '-o', tmp_path / 'none' / 'out.fits') == 1
    assert 'there is no folder' in capsys.readouterr().err


def test_gain_and_read_noise_reach_the_function(frame):
    """They are quantities in the unit of the frame."""
    args = cli.make_parser().parse_args(
        ['denoise', 'a', '-o', 'b', '--gain', '1.5', '--read-noise', '6']
    )
    gain, read_noise = frametasks._given_noise(read_frame(frame)[0], args)
    assert gain.unit == 'electron / adu'
    assert gain.value == 1.5
    assert read_noise.unit == 'electron'
    assert read_noise.value == 6.0


@pytest.mark.parametrize(
    ('text', 'seconds'),
    [('90', 90), ('90s', 90), ('9m', 540), ('2h', 7200), ('1h30m', 5400), ('0.5m', 30)],
)
def test_durations(text, seconds):
    """Times are read in the usual ways."""
    assert argtypes.duration(text) == seconds


@pytest.mark.parametrize('text', ['', 'm', '9 m', '9x', '-9m', '9mm', 'soon'])
def test_wrong_durations(text, capsys):
    """What is no time is refused with an example."""
    assert run('train', 'smoke', f'--time-limit={text}') == 2
    assert 'must be a time such as' in capsys.readouterr().err


def test_no_command(capsys):
    """Without a command, with an unknown one: status 2; the version: status 0."""
    assert run() == 2
    assert run('polish') == 2
    capsys.readouterr()
    assert run('--version') == 0
    assert capsys.readouterr().out == f'astrodenoise {astrodenoise.__version__}\n'


def test_help_is_light():
    """Help loads neither torch nor photutils nor Astropy."""
    code = (
        'import sys; from astrodenoise.cli import main; main(["--help"]); '
        'main(["denoise", "--help"]); '
        'print([m for m in ("torch", "photutils", "astropy", "numpy") if m in sys.modules])'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == '[]'
    assert 'Exit status' in result.stdout


def test_module_runs(tmp_path):
    """Python -m astrodenoise.cli ends with the status, and shows no traceback."""
    result = run_process('denoise', tmp_path / 'none.fits', '-o', tmp_path / 'out.fits')
    assert result.returncode == 1
    assert result.stderr.count('\n') == 1
    assert 'cannot be opened' in result.stderr


# models, train


def test_models(capsys):
    """The table names every shipped model, a card gives its SHA-256."""
    assert 'mono' in weights.list_models()
    assert run('models') == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ['name', 'version']
    assert [line.split()[0] for line in table[1:]] == weights.list_models()
    for name in weights.list_models():
        assert run('models', name) == 0
        assert weights.load_weights(name).sha256 in capsys.readouterr().out
    assert run('models', 'none-such') == 2
    assert 'none-such' in capsys.readouterr().err


def test_train(tmp_path, monkeypatch):
    """The options reach the trainer; presets are known by their names."""
    from astrodenoise.training import trainer

    calls = []
    monkeypatch.setattr(trainer, 'train', lambda config, **options: calls.append((config, options)))
    assert run('train', 'smoke', '--resume', '--time-limit', '9m', '-o', tmp_path) == 0
    (config, options), = calls
    assert config.name == 'smoke'
    assert options == {
        'resume': True, 'time_limit': 540.0, 'device': None, 'output': str(tmp_path), 'data': None,
    }


def test_train_without_configuration(tmp_path, capsys):
    """A configuration that is missing or wrong is wrong usage."""
    wrong = tmp_path / 'wrong.toml'
    wrong.write_text('speed = 3')
    for name in ('none-such', wrong):
        assert run('train', name) == 2
        assert str(name) in capsys.readouterr().err


# demo, plotting


def test_demo(tmp_path, capsys):
    """The demo writes its files, measures a gain and changes no bright star's flux."""
    text = demo.run_demo(tmp_path / 'demo', shape=(192, 224))
    assert sorted(os.listdir(tmp_path / 'demo')) == sorted(demo._FILES)
    noisy, clean, residual, truth = (
        fits.getdata(tmp_path / 'demo' / name) for name in demo._FILES[:4]
    )
    assert_array_equal(residual, noisy - clean)
    result = demo.measure(noisy, clean, truth)
    assert result.gain_db > 3
    assert result.sigma_after < result.sigma_before
    assert f'{result.gain_db:.1f} dB' in text
    header = fits.getheader(tmp_path / 'demo' / 'denoised.fits')
    assert header['CTYPE1'] == 'RA---TAN'
    assert header['DENOISED'] is True
    assert run('demo', '-o', tmp_path / 'demo', '-q') == 1
    assert '--overwrite' in capsys.readouterr().err


def test_demo_frame():
    """The noise of the simulated frame is the one that its header states."""
    noisy, truth = demo.simulate_frame((256, 256), seed=3)
    sigma = np.sqrt(truth / demo.GAIN + (demo.READ_NOISE / demo.GAIN) ** 2)
    assert np.std((noisy.data - truth) / sigma) == pytest.approx(1, abs=0.02)
    assert noisy.unit == 'adu'


def test_demo_measures_what_it_should():
    """Half the noise is 6 dB, a lost tenth of the light is a bias of -10 %."""
    noisy, truth = demo.simulate_frame((384, 384), seed=0)
    half = (noisy.data + truth) / 2
    result = demo.measure(noisy.data, half, truth)
    assert result.gain_db == pytest.approx(6.02, abs=0.01)
    assert result.sigma_after == pytest.approx(result.sigma_before / 2)
    assert result.n_stars >= 5
    assert abs(result.bias_before) < 4 * result.error_before
    assert demo.measure(noisy.data, 0.9 * truth, truth).bias_after == pytest.approx(-0.1)


def test_demo_without_matplotlib(tmp_path, monkeypatch):
    """The frames are written all the same, and the text says what to install."""
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    text = demo.run_demo(tmp_path / 'demo', shape=(96, 96))
    assert sorted(os.listdir(tmp_path / 'demo')) == sorted(demo._FILES[:4])
    assert 'pip install matplotlib' in text


def test_compare_shares_one_stretch():
    """Equal values have equal greys in both frames, whatever they are; the residual is linear."""
    rng = np.random.default_rng(1)
    noisy = rng.normal(100, 5, (60, 70))
    noisy[3, 4] = np.nan
    clean = np.full((60, 70), 100.0)
    clean[10, 10], noisy[10, 10] = 130.0, 130.0
    figure = plotting.compare(CCDData(noisy, unit='adu'), clean, truth=clean, sigma=5)
    panels = [ax.images[0].get_array() for ax in figure.axes]
    assert [ax.get_title() for ax in figure.axes] == [
        'noisy', 'denoised', 'residual, ±4 sigma', 'truth'
    ]
    assert panels[0][10, 10] == panels[1][10, 10] == panels[3][10, 10]
    assert panels[1][10, 10] > panels[1][11, 11] > 0
    assert panels[2][20, 20] == pytest.approx(
        np.clip((noisy[20, 20] - 100) / 5 / 8 + 0.5, 0, 1)
    )
    width = figure.axes[0].get_window_extent().width
    assert width == pytest.approx(70)  # one pixel per pixel


def test_compare_on_given_axes_and_colour():
    """Colour frames are drawn on axes of one's own."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(1, 3)
    noisy = np.random.default_rng(1).normal(size=(3, 20, 30))
    assert plotting.compare(noisy, 0.5 * noisy, axes=axes) is figure
    assert axes[0].images[0].get_array().shape == (20, 30, 3)


def test_compare_refuses():
    """Wrong shapes and numbers of axes are named; a frame that did not change is shown."""
    frame = np.arange(12.0).reshape(3, 4)
    plotting.compare(frame, frame)
    for noisy, clean, options, reason in (
        (frame, frame[:2], {}, 'one shape'),
        (frame[0], frame[0], {}, r'\(H, W\)'),
        (frame * np.nan, frame, {}, 'finite'),
        (frame, frame, {'axes': []}, 'must hold 3 axes'),
    ):
        with pytest.raises(ValueError, match=reason):
            plotting.compare(noisy, clean, **options)


def test_compare_without_matplotlib(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(ImportError, match='needs matplotlib'):
        plotting.compare(np.eye(4), np.eye(4))


def test_packs_are_written_and_trained_on(tmp_path, capsys):
    config = tmp_path / 'config.toml'
    config.write_text(
        '[model]\nwidths = [8, 8]\nblocks = [1, 1]\n'
        '[data]\nscenes = 2\nscene_size = 128\ntile_size = 64\nround_scenes = 2\n'
        'validation_scenes = 1\n[optimiser]\nsteps = 1\nbatch_size = 4\n'
    )
    pack = tmp_path / 'a.pack'
    assert main(['train', str(config), '--pack', str(pack)]) == 0
    assert 'a.pack: 2 training, 1 validation' in capsys.readouterr().out
    run = tmp_path / 'run'
    assert main(['train', str(config), '--data', str(pack), '-o', str(run)]) == 0
    assert (run / 'checkpoint.npz').is_file()
    nowhere = tmp_path / 'nowhere' / 'a.pack'
    assert main(['train', str(config), '--pack', str(nowhere)]) == 2
    assert 'there is no folder' in capsys.readouterr().err
