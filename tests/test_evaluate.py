# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The command ``astrodenoise evaluate``: what it measures, what it says and how it ends."""

import json

import numpy as np
import pytest
from astropy.io import fits

from astrodenoise.cli import main

SHAPE = (128, 128)
SIGMA = 10.0


@pytest.fixture
def truth():
    """Stars on a sky of 500."""
    y, x = np.indices(SHAPE)
    places = [(30, 40), (64, 100), (100, 30), (90, 90)]
    return 500 + sum(
        flux * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 4)
        for (a, b), flux in zip(places, (100, 300, 900, 2000), strict=True)
    )


def save(path, data):
    path.parent.mkdir(exist_ok=True)
    fits.PrimaryHDU(np.asarray(data, np.float32)).writeto(path)
    return path


@pytest.fixture
def files(tmp_path, truth):
    """Files of a truth, a noisy frame, a second one, and one of half the noise."""
    rng = np.random.default_rng(7)
    noise, other = rng.normal(0, SIGMA, (2, *SHAPE))
    frames = {
        'truth': truth, 'noisy': truth + noise, 'second': truth + other,
        'half': truth + noise / 2,
    }  # fmt: skip
    return {name: save(tmp_path / f'{name}.fits', data) for name, data in frames.items()}


def run(*args):
    return main(['evaluate', *map(str, args)])


def row(text, label):
    """The cells of a line of the table."""
    line = next(line for line in text.splitlines() if line.startswith(label))
    return line.removeprefix(label).split()


def test_three_files(files, capsys):
    """The table has the gain that the frames have."""
    assert run(files['truth'], files['noisy'], files['half']) == 0
    captured = capsys.readouterr()
    assert row(captured.out, 'gain, all')[0] == '6.02'
    assert 'error over predicted error: no error map was given' in captured.out
    assert not captured.err


def test_noisy_frame_is_denoised(files, capsys):
    """Without DENOISED the model is measured, and its error map."""
    assert run(files['truth'], files['noisy'], '--quiet', '--json') == 0
    figures = json.loads(capsys.readouterr().out)['frames']['noisy.fits']['figures']
    assert figures['gain.sky']['value'] > 8
    assert figures['calibration.sky rms']['value'] > 0


def test_pair(files, capsys):
    """A second exposure tells the gain, without knowing the truth."""
    assert run(files['second'], files['noisy'], files['half'], '--pair', '--json') == 0
    figures = json.loads(capsys.readouterr().out)['frames']['noisy.fits']['figures']
    gain = figures['gain.all']
    assert gain['value'] == pytest.approx(6.02, abs=4 * gain['error'])
    assert figures['shape']['not_testable'] == 'needs a truth'


def test_json_file(files, tmp_path, capsys):
    """The table is printed and the figures are written; a file that exists is kept."""
    target = tmp_path / 'figures.json'
    three = files['truth'], files['noisy'], files['half']
    assert run(*three, '--json', target) == 0
    assert row(capsys.readouterr().out, 'gain, all')[0] == '6.02'
    content = json.loads(target.read_text())
    assert content['frames']['noisy.fits']['figures']['gain.all']['value'] == pytest.approx(6.0206)
    assert run(*three, '--json', target) == 1
    assert 'the file exists' in capsys.readouterr().err
    assert run(*three, '--json', target, '--overwrite') == 0


def test_json_into_no_folder(files, tmp_path, capsys):
    assert run(files['truth'], files['noisy'], '--json', tmp_path / 'no' / 'a.json') == 2
    assert 'there is no folder' in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path, truth):
    """Folders of three frames each."""
    rng = np.random.default_rng(8)
    for name in ('a', 'b', 'c'):
        noise = rng.normal(0, SIGMA, SHAPE)
        for folder, share in (('truth', 0), ('noisy', 1), ('half', 0.5)):
            save(tmp_path / folder / f'{name}.fits', truth + share * noise)
    (tmp_path / 'noisy' / 'notes.txt').write_text('no frame')
    return [tmp_path / name for name in ('truth', 'noisy', 'half')]


def test_folders(folders, capsys):
    """Frames of equal names belong together; their figures are pooled."""
    assert run(*folders) == 0
    out = capsys.readouterr().out
    assert out.startswith('3 frames\n')
    assert row(out, 'gain, all') == ['6.02', '±', '0.00', 'dB', '49152', 'px']
    assert 'a.fits' not in out
    assert run(*folders, '-v', '--json') == 0
    content = json.loads(capsys.readouterr().out)
    assert sorted(content['frames']) == ['a.fits', 'b.fits', 'c.fits']
    assert content['all']['scenes'] == 3


def test_each_frame_is_told_with_v(folders, capsys):
    assert run(*folders, '-v') == 0
    assert capsys.readouterr().out.count('gain, all') == 4


def test_missing_partner_names_both(folders, capsys):
    """The other frames are measured all the same."""
    (folders[0] / 'b.fits').unlink()
    assert run(*folders) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert f'{folders[1] / "b.fits"} has no partner' in line
    assert str(folders[0] / 'b.fits') in line
    assert captured.out.startswith('2 frames')


def test_shapes_that_differ_name_both(files, tmp_path, truth, capsys):
    small = save(tmp_path / 'small.fits', truth[1:])
    assert run(small, files['noisy'], files['half']) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f'{files["noisy"]} has the shape (128, 128), {small} (127, 128)' in line


def test_file_that_is_none(files, tmp_path, capsys):
    assert run(files['truth'], tmp_path / 'missing.fits') == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'missing.fits' in line


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (('--model', 'mono'), 'DENOISED is given'),
        (('--quality', 'high'), 'unrecognized'),
    ],
)
def test_wrong_usage(files, options, reason, capsys):
    assert run(files['truth'], files['noisy'], files['half'], *options) == 2
    assert reason in capsys.readouterr().err


def test_unknown_model(files, capsys):
    assert run(files['truth'], files['noisy'], '--model', 'no-such') == 2
    assert 'no-such' in capsys.readouterr().err


def test_folder_and_file(files, tmp_path, capsys):
    assert run(tmp_path, files['noisy']) == 2
    assert 'give files or folders' in capsys.readouterr().err


def test_folder_without_frames(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    assert run(tmp_path, tmp_path / 'empty') == 2
    assert 'no FITS, PNG or TIFF file' in capsys.readouterr().err


def test_masked_pixels_do_not_count(files, tmp_path, truth, capsys):
    """A mask in any of the files leaves its pixels out."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:28] = 1
    bad = np.where(mask, 1e6, fits.getdata(files['half'])).astype(np.float32)
    hdus = [fits.PrimaryHDU(bad), fits.ImageHDU(mask, name='MASK')]
    path = tmp_path / 'masked.fits'
    fits.HDUList(hdus).writeto(path)
    assert run(files['truth'], files['noisy'], path, '--json') == 0
    figures = json.loads(capsys.readouterr().out)['frames']['noisy.fits']['figures']
    assert figures['gain.all']['value'] == pytest.approx(6.02, abs=0.01)
    assert figures['gain.all']['count'] == 100 * 128
