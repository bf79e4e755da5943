# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Another strength from a frame and its residual: the bits of a run, without the network."""

import json
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import astrodenoise
from astrodenoise import (
    blend,
    controls,
    denoise,
    frametasks,
    read_provenance,
    residual,
    sections,
    survey,
)
from astrodenoise.cli import main
from astrodenoise.provenance import is_denoised, read_residual_of
from helpers import run_python

SHAPE = (150, 130)
FAST = ('--model', 'fast', '--tile-size', 64, '--precision', 'float32', '-q')
MIXED = ('--strength', 0.6, '--strength-coarse', 0.9, '--keep-grain', 0.3)
COLOUR = ('--strength', 0.6, '--strength-chroma', 1, '--keep-grain', 0.3)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def image(rng):
    """Make a field with stars, a gap and noise that follows the signal."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = np.full(SHAPE, 900.0)
    for row, column in rng.uniform(0, 130, (15, 2)):
        truth += rng.uniform(20, 900) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    frame = truth + rng.normal(size=SHAPE) * np.sqrt(truth / 9)
    frame[110:, 90:] = 0
    return frame.astype(np.float32)


def hdus_of(kind, rng):
    """Make the HDUs of a file."""
    data = image(rng)
    header = fits.Header([('BUNIT', 'adu'), ('OBJECT', 'made'), ('CRPIX1', 5.0), ('CTYPE1', 'X')])
    if kind == 'unsigned':
        return [fits.PrimaryHDU(data.round().astype(np.uint16), header)]
    if kind == 'wide':
        header['BLANK'] = 0
        return [fits.PrimaryHDU(data.round().astype(np.int32), header)]
    if kind == 'double':
        data[30:33, 20:40] = np.nan
        return [fits.PrimaryHDU(data.astype(np.float64), header)]
    if kind == 'cube':
        return [fits.PrimaryHDU(np.stack([data, 2 * data, 0.5 * image(rng)]), header)]
    if kind == 'odd':
        header['BAYERPAT'] = 'RGGB'
        return [fits.PrimaryHDU(data[:-1, :-1], header)]
    hdus = [fits.PrimaryHDU(data, header)]
    if kind == 'planes':
        mask = np.zeros(SHAPE, np.uint8)
        mask[50:53, 20:100] = 1
        sigma = np.sqrt(np.maximum(data, 400) / 9)
        hdus += [fits.ImageHDU(mask, name='MASK'), fits.ImageHDU(sigma, name='UNCERT')]
    if kind == 'several':
        hdus = [fits.PrimaryHDU()] + [
            fits.ImageHDU(image(rng), header, name='SCI', ver=version) for version in (1, 2)
        ]
    return hdus


@pytest.mark.parametrize(
    ('kind', 'options', 'shares'),
    [
        ('plain', (), ('--strength', 0.35)),
        ('plain', ('--star-mask',), MIXED),
        ('unsigned', (), MIXED),
        ('wide', (), MIXED),
        ('double', (), MIXED),
        ('planes', (), MIXED),
        ('cube', (), MIXED),
        ('cube', ('--channels', 'joint', '--model', 'default'), COLOUR),
        ('odd', ('--bayer', 'header'), MIXED),
        ('several', ('--ext', 'all'), MIXED),
        ('several', ('--ext', 'SCI,2'), MIXED),
    ],
)
def test_blend_writes_the_bytes_of_a_run(kind, options, shares, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fits.HDUList(hdus_of(kind, rng)).writeto('in.fits')
    options = (*FAST, *options)

    def bytes_of(*arguments):
        assert run(*arguments) == 0
        return (tmp_path / arguments[arguments.index('-o') + 1]).read_bytes()

    # whatever is taken, the residual is that of full strength
    denoise, residual = ('denoise', 'in.fits', '-o'), ('--residual', 'r.fits', '--overwrite')
    first = bytes_of(*denoise, 'first.fits', *residual, *options, *shares)
    blend = ('blend', 'in.fits', 'r.fits', '-q', '-o')
    assert first == bytes_of(*denoise, 'run.fits', *options, *shares)
    assert first == bytes_of(*blend, 'blend.fits', *shares)
    usual = bytes_of(*denoise, 'usual.fits', *residual, *options)
    assert usual == bytes_of(*denoise, 'again.fits', *options)
    assert usual == bytes_of(*blend, 'whole.fits')
    assert first == bytes_of(*blend, 'blend.fits', '--overwrite', *shares)


@pytest.mark.parametrize(
    ('suffix', 'depth'), [('png', ()), ('tif', ()), ('tif', ('--depth', '16'))]
)
def test_pictures_blend_with_a_residual_in_fits(suffix, depth, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.stack([image(rng), image(rng), image(rng)], axis=-1)
    source, clean, mixed = (f'{name}.{suffix}' for name in ('in', 'clean', 'mixed'))
    Image.fromarray(np.clip(pixels / 5, 0, 255).astype(np.uint8)).save(source)
    options = ('--model', 'fast', '-q', '--limit', 1000)
    args = ('denoise', source, '-o', clean, '--residual', 'r.fits', *options, *depth)
    assert run(*args) == 0
    assert fits.getdata('r.fits').shape == (3, *SHAPE)
    assert run('denoise', source, '-o', mixed, *options, *depth, *COLOUR) == 0
    assert run('blend', source, 'r.fits', '-o', f'b.{suffix}', '-q', *depth, *COLOUR) == 0
    assert (tmp_path / f'b.{suffix}').read_bytes() == (tmp_path / mixed).read_bytes()
    assert (tmp_path / mixed).read_bytes() != (tmp_path / clean).read_bytes()
    # in a folder it is called so, too
    (tmp_path / 'folder').mkdir()
    args = ('denoise', source, '-o', 'out/', '--residual', 'folder', *options)
    assert run(*args) == 0
    assert [path.name for path in (tmp_path / 'folder').iterdir()] == ['in.fits']


@pytest.mark.parametrize('suffix', ['fits.fz', 'fits.gz'])
def test_packed_files_blend_alike(suffix, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fits.HDUList(hdus_of('several', rng)).writeto('in.fits')
    options = (*FAST, '--ext', 'all')
    source = f'in.{suffix}'
    assert run('denoise', 'in.fits', '-o', source, *options, '--strength', 0) == 0
    run('denoise', source, '-o', 'run.fits', '--residual', f'r.{suffix}', *options, *MIXED)
    assert run('blend', source, f'r.{suffix}', '-o', 'out.fits', '-q', *MIXED) == 0
    assert (tmp_path / 'out.fits').read_bytes() == (tmp_path / 'run.fits').read_bytes()


@pytest.mark.parametrize('kind', ['plain', 'cube', 'unsigned'])
def test_pieces_have_the_bits_of_the_whole(kind, rng, tmp_path, monkeypatch):
    """A large frame goes through the disk with all shares, and blends as a small one does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sections, 'BLOCK', 64)
    monkeypatch.setattr(survey, 'PANEL', 128)
    monkeypatch.setattr(controls, 'STRIP', 3000)
    fits.HDUList(hdus_of(kind, rng)).writeto('in.fits')
    shares = ('--channels', 'joint', *COLOUR) if kind == 'cube' else MIXED
    run('denoise', 'in.fits', '-o', 'whole.fits', '--residual', 'r.fits', *FAST, *shares)
    monkeypatch.setattr(frametasks, 'LARGE', 1000)
    assert run('denoise', 'in.fits', '-o', 'pieces.fits', *FAST, *shares) == 0
    assert run('blend', 'in.fits', 'r.fits', '-o', 'blend.fits', '-q',
               *(COLOUR if kind == 'cube' else MIXED)) == 0  # fmt: skip
    files = [(tmp_path / f'{name}.fits').read_bytes() for name in ('whole', 'pieces', 'blend')]
    assert files[0] == files[1] == files[2]


def test_the_network_is_not_loaded(rng, tmp_path):
    source, removed, out = (tmp_path / f'{name}.fits' for name in ('in', 'r', 'out'))
    fits.HDUList(hdus_of('plain', rng)).writeto(source)
    assert run('denoise', source, '-o', tmp_path / 'o.fits', '--residual', removed, *FAST) == 0
    code = """
import json, sys
from astrodenoise.cli import main
status = main(['blend', *sys.argv[1:], '--strength', '0.5', '--strength-coarse', '1', '-q'])
print(json.dumps([status, sorted({name.partition('.')[0] for name in sys.modules})]))
"""
    status, loaded = json.loads(run_python(code, str(source), str(removed), '-o', str(out)))
    assert status == 0
    assert out.exists()
    assert 'numpy' in loaded
    assert not {'torch', 'photutils', 'dask', 'safetensors'} & set(loaded)


@pytest.fixture
def ccd(rng):
    """Give a frame with a header."""
    header = fits.Header([('OBJECT', 'M 51')])
    sigma = StdDevUncertainty(10 * np.ones(SHAPE))
    return CCDData(image(rng), unit='adu', meta=header, uncertainty=sigma)


KEYS = {'model': 'fast', 'tile_size': 64, 'precision': 'float32'}


@pytest.mark.parametrize('kind', [lambda c: c, lambda c: c.data, lambda c: c.data * u.adu])
def test_function_blends_any_kind_of_frame(ccd, kind):
    frame = kind(ccd)
    whole = denoise(frame, **KEYS)
    removed = residual(frame, whole)
    half = blend(frame, removed, strength=0.5, strength_coarse=0.8)
    asked = denoise(frame, strength=0.5, strength_coarse=0.8, **KEYS)
    assert type(half) is type(asked)
    pixels, expected = (np.asarray(getattr(one, 'data', one)) for one in (half, asked))
    assert_array_equal(pixels, expected)
    again = blend(frame, removed)
    assert_array_equal(*(np.asarray(getattr(one, 'data', one)) for one in (again, whole)))
    if isinstance(half, CCDData):
        assert half.meta.tostring() == asked.meta.tostring()
        assert_array_equal(half.uncertainty.array, ccd.uncertainty.array)
        assert read_provenance(half)['strength_coarse'] == 0.8
        assert is_denoised(half)
        assert not is_denoised(ccd)


def test_colours_of_arrays_are_said(rng):
    field = image(rng)
    frame = np.stack([field, field[::-1], field[:, ::-1]])[:, :110, :90]
    removed = residual(frame, denoise(frame, channels='joint', limit=None, **KEYS))
    grey = blend(frame, removed, strength=0.5, strength_chroma=1, channels='joint')
    left = (frame - removed - grey)[:, (removed != 0).all(axis=0)]
    assert_allclose(left - left.mean(axis=0), 0, atol=2e-3)
    with pytest.raises(ValueError, match="taken each by itself: pass channels='joint'"):
        blend(frame, removed, strength=0.5, strength_chroma=1)


def test_a_residual_in_a_dict_is_enough(rng):
    ccd = CCDData(image(rng), unit='adu', meta={'OBJECT': 'M 51'})
    removed = residual(ccd, denoise(ccd, **KEYS))
    clean = blend(ccd, removed, strength=0.25)
    assert read_provenance(clean) == read_provenance(denoise(ccd, strength=0.25, **KEYS))
    with astrodenoise.conf.set_temp('auto_logging', False):
        assert dict(blend(ccd, removed, strength=0.25).meta) == {'OBJECT': 'M 51'}


def test_other_frames_are_refused(ccd, rng):
    removed = residual(ccd, denoise(ccd, **KEYS))
    other = CCDData(ccd.data.copy(), unit='adu', meta=fits.Header())
    other.data[3, 4] += 1
    with pytest.raises(ValueError, match='of a frame with other pixels'):
        blend(other, removed)
    with pytest.raises(ValueError, match=r'shape \(150, 130\) and the frame \(149, 130\)'):
        blend(CCDData(ccd.data[1:], unit='adu'), removed)
    with pytest.raises(u.UnitsError, match='residual is in adu and the frame in electron'):
        blend(CCDData(ccd.data, unit='electron'), removed)
    with pytest.raises(ValueError, match=r'run with strength=0\.5, which does not hold all'):
        blend(ccd, residual(ccd, denoise(ccd, strength=0.5, **KEYS)))
    with pytest.raises(ValueError, match=r'keep_grain=0\.5'):
        blend(ccd, residual(ccd, denoise(ccd, keep_grain=0.5, **KEYS)))
    with pytest.raises(ValueError, match='strength must be from 0 to 1'):
        blend(ccd, removed, strength=2)
    with pytest.raises(TypeError, match=r'CCDData\.read'):
        blend('frame.fits', removed)
    assert_array_equal(blend(ccd, removed, strength=0).data, ccd.data)


def test_files_that_do_not_belong_together(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('in.fits', 'other.fits'):
        fits.HDUList(hdus_of('plain', rng)).writeto(name)
    fits.HDUList(hdus_of('several', rng)).writeto('several.fits')
    assert run('denoise', 'in.fits', '-o', 'out.fits', '--residual', 'r.fits', *FAST) == 0

    def refused(status, text, *arguments):
        assert run('blend', *arguments, '-o', 'new.fits', '-q') == status
        error = capsys.readouterr().err
        assert text in error
        assert 'Traceback' not in error
        assert not (tmp_path / 'new.fits').exists()

    refused(1, 'r.fits: the residual is of a frame with other pixels', 'other.fits', 'r.fits')
    refused(1, 'other.fits: has no record of what it is the residual of', 'in.fits', 'other.fits')
    refused(1, 'out.fits: has no record of what it is the residual of', 'in.fits', 'out.fits')
    text = 'r.fits: has 1 images, of which 0 are found in several.fits'
    refused(1, text, 'several.fits', 'r.fits')
    refused(1, 'missing.fits: cannot be opened', 'in.fits', 'missing.fits')
    refused(1, 'strength_chroma is about', 'in.fits', 'r.fits', '--strength-chroma', 0.5)
    refused(2, 'must lie in 0 to 1', 'in.fits', 'r.fits', '--keep-grain', 1.5)
    assert run('blend', 'in.fits', 'r.fits', '-o', 'in.fits', '--overwrite') == 2
    assert 'is read: give another name' in capsys.readouterr().err
    assert run('blend', 'in.fits', 'r.fits', '-o', 'out.fits') == 1
    assert 'out.fits: the file exists' in capsys.readouterr().err
    assert run('blend', 'in.fits', 'r.fits', '-o', 'out.fits', '--overwrite') == 0
    assert capsys.readouterr().out == 'in.fits -> out.fits\n'


def test_a_residual_tells_its_frame_and_its_run(rng, tmp_path):
    source = tmp_path / 'in.fits'
    fits.HDUList(hdus_of('unsigned', rng)).writeto(source)
    shares = ('--strength', 0.5, '--strength-coarse', 0.7)
    assert run('denoise', source, '-o', tmp_path / 'out.fits', '--residual', tmp_path / 'r.fits',
               *FAST, *shares) == 0  # fmt: skip
    record = read_residual_of(fits.getheader(tmp_path / 'r.fits'))
    done = read_provenance(fits.getheader(tmp_path / 'out.fits'))
    assert (done['strength'], done['strength_coarse']) == (0.5, 0.7)
    assert len(record.pop('frame')) == 12
    del done['strength_coarse']
    assert record == done | {'strength': 1.0}
    assert read_provenance(fits.getheader(tmp_path / 'r.fits')) == {}


def test_shares_are_recorded_resumed_and_taken_over(rng, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('in.fits', 'b.fits'):
        fits.HDUList(hdus_of('plain', rng)).writeto(name)
    assert run('denoise', 'in.fits', '-o', 'out.fits', *FAST, *MIXED) == 0
    resume = ('denoise', 'in.fits', '-o', 'out.fits', '--resume', *FAST)
    assert run(*resume, *MIXED) == 0
    assert run(*resume) == 1
    error = capsys.readouterr().err
    assert 'strength 0.6, asked 1.0; strength_coarse 0.9, asked None; keep_grain 0.3' in error
    assert run(*resume, '--like', 'out.fits') == 0
    like = ('--like', 'out.fits', '--keep-grain', 0)
    assert run('denoise', 'b.fits', '-o', 'b_out.fits', *FAST, *like) == 0
    record = read_provenance(fits.getheader('b_out.fits'))
    assert (record['strength'], record['strength_coarse']) == (0.6, 0.9)
    assert 'keep_grain' not in record
    # what is recorded by default, and what is the strength anyway, is no other setting
    assert run('denoise', 'in.fits', '-o', 'plain.fits', *FAST, '--strength', 0.6) == 0
    again = ('denoise', 'in.fits', '-o', 'plain.fits', '--resume', *FAST, '--strength', 0.6)
    assert run(*again, '--strength-coarse', 0.6, '--keep-grain', 0) == 0


def test_predicted_errors_are_for_one_strength(rng, tmp_path, capsys):
    source = tmp_path / 'in.fits'
    fits.HDUList(hdus_of('plain', rng)).writeto(source)
    options = ('--uncertainty', 'predict', '--keep-grain', 0.2)
    assert run('denoise', source, '-o', tmp_path / 'out.fits', *FAST, *options) == 1
    assert 'is known for one strength of all noise' in capsys.readouterr().err


def test_a_denoised_frame_is_blended_once(rng, tmp_path):
    """The blend of another frame's result names both runs, as a run on it would."""
    source, first = tmp_path / 'in.fits', tmp_path / 'first.fits'
    fits.HDUList(hdus_of('plain', rng)).writeto(source)
    assert run('denoise', source, '-o', first, *FAST, '--strength', 0.5) == 0
    removed, again = tmp_path / 'r.fits', tmp_path / 'again.fits'
    assert run('denoise', first, '-o', again, '--residual', removed, *FAST) == 0
    shutil.copy(first, tmp_path / 'moved.fits')
    assert run('blend', tmp_path / 'moved.fits', removed, '-o', tmp_path / 'b.fits', '-q') == 0
    assert (tmp_path / 'b.fits').read_bytes() == again.read_bytes()
    assert len(read_provenance(fits.getheader(tmp_path / 'b.fits'), every=True)) == 2
