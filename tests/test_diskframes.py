# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files go through piece by piece with the bytes that they have from memory."""

import os

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_array_equal

from astrodenoise import diskframes, frametasks, removal, sections, survey
from astrodenoise.cli import main
from astrodenoise.diskframes import DiskPlanes

SHAPE = (300, 270)


@pytest.fixture
def small_blocks(monkeypatch):
    """Divide frames as small as those of the tests."""
    monkeypatch.setattr(sections, 'BLOCK', 64)
    monkeypatch.setattr(survey, 'PANEL', 128)
    monkeypatch.setattr(removal, 'WINDOW', 1)


def image(rng):
    """Make a field with stars and a gap."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = np.full(SHAPE, 900.0)
    for row, column in rng.uniform(0, 270, (30, 2)):
        truth += rng.uniform(20, 900) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    frame = truth + rng.normal(size=SHAPE) * np.sqrt(truth / 9)
    frame[200:, 150:] = 0
    return frame.astype(np.float32)


def hdus_of(kind, rng):
    """Make the HDUs of a file."""
    data = image(rng)
    header = fits.Header([('BUNIT', 'adu'), ('OBJECT', 'made')])
    if kind == 'unsigned':
        return [fits.PrimaryHDU(data.round().astype(np.uint16), header)]
    if kind == 'blank':
        header['BLANK'] = 0
        return [fits.PrimaryHDU(data.round().astype(np.int32), header)]
    if kind == 'cube':
        return [fits.PrimaryHDU(np.stack([data, 2 * data, data / 2]), header)]
    if kind == 'double':
        return [fits.PrimaryHDU(data.astype(np.float64), header)]
    hdus = [fits.PrimaryHDU(data, header)]
    if kind == 'planes':
        mask = np.zeros(SHAPE, np.uint8)
        mask[50:53, 20:200] = 1
        sigma = np.sqrt(np.maximum(data, 400) / 9)
        hdus += [fits.ImageHDU(mask, name='MASK'), fits.ImageHDU(sigma, name='UNCERT')]
    return hdus


@pytest.mark.usefixtures('small_blocks')
@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        ('plain', []),
        ('plain', ['--star-mask']),
        ('plain', ['--uncertainty', 'predict']),
        ('unsigned', []),
        ('blank', []),
        ('double', []),
        ('cube', []),
        ('cube', ['--channels', 'joint']),
        ('planes', []),
        ('planes', ['--uncertainty', 'predict']),
        ('planes', ['--uncertainty', 'none']),
    ],
)
def test_pieces_give_the_bytes_of_the_whole(kind, options, rng, tmp_path, monkeypatch):
    source, outputs = tmp_path / 'in.fits', []
    fits.HDUList(hdus_of(kind, rng)).writeto(source)
    for large in (2**24, 1000):
        monkeypatch.setattr(frametasks, 'LARGE', large)
        output = tmp_path / f'{large}.fits'
        arguments = ['--model', 'fast', '--tile-size', '64', '-q', *options]
        assert main(['denoise', str(source), '-o', str(output), *arguments]) == 0
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]
    assert sorted(os.listdir(tmp_path)) == ['1000.fits', '16777216.fits', 'in.fits']


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('out.fits.fz', []),
        ('out.fits', ['--residual', 'res.fits']),
        ('out.fits', ['--bayer', 'RGGB']),
    ],
)
def test_what_needs_the_whole_frame_is_done_in_memory(
    name, options, rng, tmp_path, monkeypatch
):  # fmt: skip
    fits.HDUList(hdus_of('plain', rng)).writeto(tmp_path / 'in.fits')
    monkeypatch.setattr(frametasks, 'LARGE', 1000)
    monkeypatch.setattr(diskframes, 'DiskFrame', None)
    monkeypatch.chdir(tmp_path)
    arguments = ['--model', 'fast', '-q', *options]
    assert main(['denoise', 'in.fits', '-o', name, *arguments]) == 0
    assert (tmp_path / name).exists()


def test_a_disk_that_is_full_leaves_nothing(rng, tmp_path, monkeypatch, capsys):
    fits.HDUList(hdus_of('plain', rng)).writeto(tmp_path / 'in.fits')
    monkeypatch.setattr(frametasks, 'LARGE', 1000)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'posix_fallocate', full)
    output = tmp_path / 'out.fits'
    assert main(['denoise', str(tmp_path / 'in.fits'), '-o', str(output), '-q']) == 1
    assert 'No space left' in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['in.fits']


def test_planes_on_disk(rng, tmp_path):
    values = rng.normal(size=(2, 37, 23)).astype(np.float32)
    planes = DiskPlanes(values.shape, values.dtype, tmp_path)
    for rows in (slice(0, 16), slice(16, 37)):
        for cols in (slice(0, 10), slice(10, 23)):
            planes[slice(0, 1), rows, cols] = values[:1, rows, cols]
        planes[slice(1, 2), rows, slice(0, 23)] = values[1:, rows]
    assert_array_equal(np.asarray(planes), values)
    assert_array_equal(np.asarray(planes[1]), values[1])
    row = planes[1].reshape(-1)
    assert len(row) == values[1].size
    assert_array_equal(row[30:200], values[1].ravel()[30:200])
    assert os.listdir(tmp_path) == []  # it has no name
    with pytest.raises(ValueError, match=r'reshape\(-1\)'):
        planes.reshape((2, -1))
