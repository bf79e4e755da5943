# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of FITS files on the command line: what is used of them, what changes, what is said."""

import dataclasses
import gzip
import inspect
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.testing import assert_allclose, assert_array_equal

import astrodenoise
from astrodenoise import core, frametasks, mosaic
from astrodenoise.cli import main
from astrodenoise.options import Options

SHAPE = (72, 96)
SIGMA = 10.0
OURS = ('DENOISE', 'DENOISED', 'HISTORY', 'CHECKSUM', 'DATASUM')


def sky(seed=1, *, level=500.0):
    """Draw sky noise with one star."""
    y, x = np.indices(SHAPE)
    star = 2000 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 8)
    return (np.random.default_rng(seed).normal(level, SIGMA, SHAPE) + star).astype(np.float32)


def write(path, *hdus, primary=None):
    """Write extensions, (name, version, data) or (name, version, data, cards), with checksums."""
    images = [
        fits.ImageHDU(data, fits.Header(*cards), name=name, ver=version)
        for name, version, data, *cards in hdus
    ]
    head = fits.PrimaryHDU(header=fits.Header(primary or {}))
    fits.HDUList([head, *images]).writeto(path, checksum=True)
    return path


@pytest.fixture
def hst(tmp_path):
    """Write two chips as HST does: one saturated and one hot pixel each, and a lookup table."""
    hdus = []
    for version in (1, 2):
        dq = np.zeros(SHAPE, np.int16)
        dq[10, 20], dq[11, 20] = 256, 16
        hdus += [
            ('SCI', version, sky(version), {'BUNIT': 'ELECTRONS'}),
            ('ERR', version, np.full(SHAPE, SIGMA, np.float32)),
            ('DQ', version, dq),
        ]
    hdus.append(('WCSDVARR', 1, np.zeros((64, 64), np.float32)))
    primary = {'TELESCOP': 'HST', 'INSTRUME': 'ACS'}
    return write(tmp_path / 'flt.fits', *hdus, primary=primary)


def run(source, target, *options):
    """Denoise on the command line in this process, with tiles for small frames."""
    options = [str(option) for option in options]
    small = [] if '--tile-size' in options else ['--tile-size', '64']
    return main(['denoise', str(source), '-o', str(target), *small, *options])


def hdu_bytes(path):
    """Read the bytes of each HDU."""
    content = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        infos = [hdu.fileinfo() for hdu in hdus]
    return [content[info['hdrLoc'] : info['datLoc'] + info['datSpan']] for info in infos]


def changed_hdus(before, after):
    """Number the HDUs that are not the same to the byte."""
    pairs = zip(hdu_bytes(before), hdu_bytes(after), strict=True)
    return [index for index, (old, new) in enumerate(pairs) if old != new]


def other_cards(header):
    return [str(card) for card in header.cards if card.keyword not in OURS]


@pytest.fixture
def asked(monkeypatch):
    """Give what each frame is denoised with, which is done all the same."""
    calls = []
    denoise_frame = core.denoise_frame

    def listen(frame, settings, **keywords):
        calls.append(vars(settings) | keywords | {'ccd': frame.original})
        return denoise_frame(frame, settings, **(keywords | {'star_mask': None}))

    monkeypatch.setattr(core, 'denoise_frame', listen)
    return calls


# Several images


@pytest.mark.parametrize('ext', [['all'], ['SCI,1', 'SCI,2'], ['4', 'SCI', 'sci,2']])
def test_several_images(tmp_path, hst, ext):
    """Each image is what it is when it is done alone, all else is the same to the byte."""
    out = tmp_path / 'out.fits'
    assert run(hst, out, *(word for one in ext for word in ('--ext', one))) == 0
    assert changed_hdus(hst, out) == [1, 4]
    for version, index in ((1, 1), (2, 4)):
        one = tmp_path / f'{version}.fits'
        assert run(hst, one, '--ext', f'SCI,{version}') == 0
        assert hdu_bytes(one)[index] == hdu_bytes(out)[index]
    with fits.open(hst) as old, fits.open(out, checksum=True) as new:
        new.verify('exception')
        for index in (1, 4):
            assert np.std(new[index].data[:20]) < 0.7 * SIGMA
            assert other_cards(old[index].header) == other_cards(new[index].header)
            assert new[index].data[10, 20] == old[index].data[10, 20]  # saturated
            assert new[index].data[11, 20] != old[index].data[11, 20]  # warm, but usable


def test_products_of_several_images(tmp_path, hst):
    """Residuals and masks are extensions of the images' names in one file each."""
    out, residual, mask = (tmp_path / f'{name}.fits' for name in ('out', 'residual', 'mask'))
    assert run(hst, out, '--ext', 'all', '--residual', residual, '--mask', mask) == 0
    for path in (residual, mask):
        with fits.open(path, checksum=True) as hdus:
            hdus.verify('exception')
            assert [(hdu.name, hdu.ver) for hdu in hdus[1:]] == [('SCI', 1), ('SCI', 2)]
    for version in (1, 2):
        key = ('SCI', version)
        before, after = fits.getdata(hst, key), fits.getdata(out, key)
        assert_array_equal(fits.getdata(residual, key), before - after)
        assert fits.getheader(residual, key)['BUNIT'] == 'ELECTRONS'
        assert 'DENOISED' not in fits.getheader(residual, key)


@pytest.mark.parametrize('suffix', ['.fits.gz', '.fits.fz'])
def test_several_packed_images(tmp_path, hst, suffix):
    """Both kinds of packing hold several images, in and out."""
    first, second = tmp_path / f'a{suffix}', tmp_path / f'b{suffix}'
    assert run(hst, first, '--ext', 'all') == 0
    assert run(first, second, '--ext', 'all', '--strength', 0) == 0
    with fits.open(first) as a, fits.open(second, checksum=True) as b:
        assert [hdu.name for hdu in b] == [hdu.name for hdu in a]
        for index in (1, 4):
            assert_array_equal(a[index].data, b[index].data)


def test_first_of_several_is_told(tmp_path, hst, capsys):
    """Who does not know that there are two chips learns of it."""
    assert run(hst, tmp_path / 'out.fits') == 0
    assert '(SCI,1, the first of 2 images; --ext all takes all)' in capsys.readouterr().out
    assert changed_hdus(hst, tmp_path / 'out.fits') == [1]
    assert run(hst, tmp_path / 'all.fits', '--ext', 'all') == 0
    assert 'first of' not in capsys.readouterr().out


def test_bad_one_of_several_is_named(tmp_path, capsys):
    """The whole file fails, and nothing is left of it."""
    nothing = np.full(SHAPE, np.nan, np.float32)
    source = write(tmp_path / 'in.fits', ('N4', 1, sky()), ('S4', 1, nothing))
    assert run(source, tmp_path / 'out.fits', '--ext', 'all') == 1
    assert capsys.readouterr().err.startswith(f'astrodenoise: {source}[S4,1]: Every pixel')
    assert os.listdir(tmp_path) == ['in.fits']


# Companion planes


def test_weight_of_a_drizzled_image(tmp_path, asked, capsys):
    """Its shape is used, its level is that of the frame, and nobody is warned of a mismatch."""
    weight = np.full(SHAPE, 350.0, np.float32)
    weight[:, :4] = 0
    hdus = [('SCI', 1, sky()), ('WHT', 1, weight), ('CTX', 1, np.ones(SHAPE, np.int32))]
    source = write(tmp_path / 'drz.fits', *hdus)
    assert run(source, tmp_path / 'out.fits') == 0
    assert not capsys.readouterr().err
    ccd = asked[0]['ccd']
    assert_allclose(ccd.uncertainty.array[:, 4:], SIGMA**-2, rtol=0.2)
    assert changed_hdus(source, tmp_path / 'out.fits') == [1]
    assert_array_equal(fits.getdata(tmp_path / 'out.fits')[:, :4], sky()[:, :4])


@pytest.mark.parametrize(
    ('option', 'value'), [('--err', SIGMA), ('--var', SIGMA**2), ('--weight', 7.0)]
)
def test_planes_from_other_files(tmp_path, asked, option, value):
    """Each says the same of the noise; none of it gets into the output."""
    fits.PrimaryHDU(sky()).writeto(tmp_path / 'in.fits')
    other = write(tmp_path / 'other.fits', ('X', 1, np.full(SHAPE, value, np.float32)))
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 6] = 1
    fits.PrimaryHDU(mask).writeto(tmp_path / 'bad.fits')
    options = (option, f'{other}[X]', '--dq', tmp_path / 'bad.fits')
    assert run(tmp_path / 'in.fits', tmp_path / 'out.fits', *options) == 0
    ccd = asked[0]['ccd']
    sigma = ccd.uncertainty.represent_as(StdDevUncertainty).array
    assert_allclose(sigma, SIGMA, rtol=0.1)
    assert np.argwhere(ccd.mask).tolist() == [[5, 6]]
    with fits.open(tmp_path / 'out.fits') as hdus:
        assert len(hdus) == 1
        assert hdus[0].data[5, 6] == sky()[5, 6]


def test_given_bits(tmp_path, hst, asked):
    assert run(hst, tmp_path / 'out.fits', '--dq-bits', '16') == 0
    assert np.argwhere(asked[0]['ccd'].mask).tolist() == [[11, 20]]


def test_wrong_planes_are_one_line(tmp_path, hst, capsys):
    fits.PrimaryHDU(np.ones((5, 5))).writeto(tmp_path / 'small.fits')
    for option in ('--err', '--var', '--weight', '--dq', '--star-mask'):
        assert run(hst, tmp_path / 'out.fits', option, tmp_path / 'small.fits') == 1
        error = capsys.readouterr().err
        assert f'{option} {tmp_path}/small.fits: its shape is (5, 5)' in error
        assert error.count('\n') == 1
    assert run(hst, tmp_path / 'out.fits', '--dq-bits', 'SAT') == 1
    assert '--dq-bits: SAT is no mask plane' in capsys.readouterr().err


# The predicted error


@pytest.mark.parametrize('name', ['out.fits', 'out.fits.fz'])
def test_predicted_error_is_an_extension_of_its_own(tmp_path, hst, name):
    """It stands at the end; ERR is what it was, and all numbers of HDUs are."""
    out = tmp_path / name
    assert run(hst, out, '--ext', 'all', '--uncertainty', 'predict') == 0
    ccd = CCDData(sky(2), unit='electron', uncertainty=StdDevUncertainty(np.full(SHAPE, SIGMA)))
    ccd.mask = np.zeros(SHAPE, bool)
    ccd.mask[10, 20] = True
    expected = astrodenoise.denoise(ccd, tile_size=64, uncertainty='predict').uncertainty.array
    with fits.open(hst) as old, fits.open(out, checksum=True) as new:
        new.verify('exception')
        assert [hdu.name for hdu in new] == [hdu.name for hdu in old] + 2 * ['PRED_ERR']
        assert_array_equal(new['ERR', 2].data, old['ERR', 2].data)
        assert_array_equal(new['PRED_ERR', 2].data, expected)
        assert new['PRED_ERR', 2].header['BUNIT'] == 'ELECTRONS'
        assert 'DENOISED' not in new['PRED_ERR', 2].header
        assert not np.array_equal(new['PRED_ERR', 1].data, expected)


@pytest.mark.parametrize('name', ['VARIANCE', 'IVAR'])
def test_predicted_error_is_a_sigma(tmp_path, name):
    """Whatever the input's own uncertainty is."""
    value = {'VARIANCE': SIGMA**2, 'IVAR': 1.0}[name]
    source = write(tmp_path / 'in.fits', ('IMAGE', 1, sky()), (name, 1, np.full(SHAPE, value)))
    assert run(source, tmp_path / 'out.fits', '--uncertainty', 'predict') == 0
    predicted = fits.getdata(tmp_path / 'out.fits', 'PRED_ERR')
    assert 0 < np.median(predicted) < 0.5 * SIGMA


def test_predicted_error_of_an_earlier_run_is_replaced(tmp_path):
    fits.PrimaryHDU(sky()).writeto(tmp_path / 'in.fits')
    options = ('--uncertainty', 'predict')
    assert run(tmp_path / 'in.fits', tmp_path / 'a.fits', *options) == 0
    assert run(tmp_path / 'a.fits', tmp_path / 'b.fits', *options, '--strength', '0') == 0
    with fits.open(tmp_path / 'b.fits') as hdus:
        hdus.verify('exception')
        assert [hdu.name for hdu in hdus] == ['PRIMARY', 'PRED_ERR']
        assert not np.array_equal(hdus[1].data, fits.getdata(tmp_path / 'a.fits', 1))


def test_uncertainty_left_out_of_several(tmp_path, hst):
    assert run(hst, tmp_path / 'out.fits', '--ext', 'all', '--uncertainty', 'none') == 0
    with fits.open(tmp_path / 'out.fits') as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ['SCI', 'DQ', 'SCI', 'DQ', 'WCSDVARR']


# Stars


def test_mask_is_that_of_the_function(tmp_path, asked):
    """It comes in FITS with the frame's coordinates, and denoise takes it when it is given."""
    cards = {'CTYPE1': 'RA---TAN', 'BUNIT': 'adu'}
    fits.PrimaryHDU(sky(), fits.Header(cards)).writeto(tmp_path / 'in.fits')
    mask = tmp_path / 'mask.fits'
    assert run(tmp_path / 'in.fits', tmp_path / 'a.fits', '--mask', mask) == 0
    assert asked[0]['star_mask'] is None
    values, header = fits.getdata(mask, header=True)
    assert_array_equal(values, astrodenoise.star_mask(sky()))
    assert values[40, 50] > 0.9
    assert values[10, 10] < 0.1
    assert header['CTYPE1'] == 'RA---TAN'
    assert 'BUNIT' not in header
    again = tmp_path / 'again.fits'
    assert run(tmp_path / 'in.fits', tmp_path / 'b.fits', '--star-mask', mask, '--mask', again) == 0
    assert_array_equal(asked[1]['star_mask'], values)
    assert_array_equal(fits.getdata(again), values)
    assert run(tmp_path / 'in.fits', tmp_path / 'c.fits', '--star-mask') == 0
    assert asked[2]['star_mask'] is True


def test_mask_of_each_image(tmp_path, hst, asked):
    """A file of several masks gives each image its own."""
    mask = tmp_path / 'mask.fits'
    assert run(hst, tmp_path / 'a.fits', '--ext', 'all', '--mask', mask) == 0
    assert run(hst, tmp_path / 'b.fits', '--ext', 'all', '--star-mask', mask) == 0
    for version in (1, 2):
        given = asked[1 + version]['star_mask']
        assert_array_equal(given, fits.getdata(mask, ('SCI', version)))


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--mask', 'mask.fits'], 'no header for the record of a --mask'),
        (['--uncertainty', 'predict'], 'no place for a predicted error'),
        (['--dq', 'dq.fits'], 'has no companion planes'),
        (['--ext', 'all'], 'has no extensions'),
    ],
)
def test_pictures_have_no_planes(tmp_path, capsys, options, reason):
    from PIL import Image

    Image.fromarray(np.full(SHAPE, 9, np.uint8)).save(tmp_path / 'in.png')
    options = [tmp_path / word if word.endswith('.fits') else word for word in options]
    assert run(tmp_path / 'in.png', tmp_path / 'out.png', *options) == 1
    assert reason in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['in.png']


# The settings of another frame


@pytest.fixture
def like(tmp_path, hst):
    """Denoise a frame with unusual settings."""
    path = tmp_path / 'like.fits'
    options = ('--strength', 0.5, '--overlap', 0.5, '--limit', 5.5, '--precision', 'float32')
    assert run(hst, path, '--ext', 'SCI,2', *options) == 0
    return path


def test_like(tmp_path, hst, like, asked, capsys):
    """The same command without its options gives the same file."""
    capsys.readouterr()
    assert (
        main(
            [
                'denoise',
                str(hst),
                '-o',
                f'{tmp_path}/again.fits',
                '--ext',
                'SCI,2',
                '--like',
                str(like),
            ]
        )
        == 0
    )
    assert not capsys.readouterr().err
    assert (tmp_path / 'again.fits').read_bytes() == like.read_bytes()
    assert (asked[0]['tile_size'], asked[0]['limit']) == (64, 5.5)


def test_options_go_before_the_record(tmp_path, hst, like, asked):
    options = ('--like', f'{like}[SCI,2]', '--strength', 1, '--model', 'mono')
    assert run(hst, tmp_path / 'out.fits', *options) == 0
    assert asked[0]['strength'] == 1
    assert asked[0]['overlap'] == 0.5


def test_usual_settings(tmp_path, hst, asked):
    """What is neither given nor recorded is what the function takes."""
    assert main(['denoise', str(hst), '-o', f'{tmp_path}/out.fits', '-q']) == 0
    usual = inspect.signature(astrodenoise.denoise).parameters
    names = {field.name for field in dataclasses.fields(Options)} - {'progress_bar'}
    assert {name: asked[0][name] for name in names} == {name: usual[name].default for name in names}
    assert {name: getattr(Options(), name) for name in names} == {
        name: usual[name].default for name in names
    }


def test_like_what_was_never_denoised(tmp_path, hst, capsys):
    (tmp_path / 'text').write_text('nothing')
    for name, reason in (
        (hst, 'no header of it has a record'),
        (f'{hst}[XYZ]', 'has no extension XYZ'),
        (tmp_path / 'text', 'is no FITS, XISF, PNG or TIFF file'),
        (tmp_path / 'none.fits', 'No such file'),
    ):
        assert run(hst, tmp_path / 'out.fits', '--like', name) == 2
        error = capsys.readouterr().err
        assert f'--like {name}: ' in error
        assert reason in error


def rewritten(like, old, new):
    """Change a word of the record."""
    content = like.read_bytes()
    assert content.count(old) == 1
    like.write_bytes(content.replace(old, new))


def test_like_of_other_weights(tmp_path, hst, like, capsys):
    """Weights that have changed are warned of, those that are not here are asked for."""
    sha = astrodenoise.weights.describe('mono')['sha256'][:12]
    with fits.open(like, mode='update') as hdus:
        lines = list(hdus[4].header['HISTORY'])
        del hdus[4].header['HISTORY']
        for line in lines:
            hdus[4].header.add_history(line.replace(sha, '0' * 12))
    assert run(hst, tmp_path / 'a.fits', '--like', like) == 0
    assert f'it was made with other weights of model mono: 000000000000, not {sha}' in (
        capsys.readouterr().err
    )
    rewritten(like, b'model=mono ', b'model=mine ')
    assert run(hst, tmp_path / 'b.fits', '--like', like) == 2
    assert 'was made with the weights file mine; give it with --model' in capsys.readouterr().err
    assert run(hst, tmp_path / 'b.fits', '--like', like, '--model', 'mono') == 0


def test_like_of_a_given_noise(tmp_path, capsys):
    """A number of sigma belongs to its frame; whoever repeats the rest is told."""
    fits.PrimaryHDU(sky()).writeto(tmp_path / 'in.fits')
    like = tmp_path / 'like.fits'
    assert run(tmp_path / 'in.fits', like, '--noise', SIGMA) == 0
    assert run(tmp_path / 'in.fits', tmp_path / 'a.fits', '--like', like) == 0
    assert 'its noise was given' in capsys.readouterr().err
    assert run(tmp_path / 'in.fits', tmp_path / 'b.fits', '--like', like, '--noise', SIGMA) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--err', 'a', '--var', 'b'], 'not allowed with'),
        (['--err', 'a', '--noise', '3'], 'given twice'),
        (['--weight', 'a', '--gain', '1', '--read-noise', '3'], 'given twice'),
        (['--dq-bits', '-4'], "must be 'all', or bits"),
        (['--dq-bits', '1.5'], "must be 'all', or bits"),
        (['--bayer', 'RGB'], 'must be RGGB'),
        (['--uncertainty', 'drop'], 'invalid choice'),
        (['--mask', 'OUT'], 'give another name'),
    ],
)
def test_wrong_usage(tmp_path, hst, capsys, options, reason):
    out = tmp_path / 'out.fits'
    options = [out if option == 'OUT' else option for option in options]
    assert run(hst, out, *options) == 2
    assert reason in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['flt.fits']


@pytest.mark.parametrize(
    ('word', 'bayer'), [('grbg', 'GRBG'), ('header', True), ('none', False), (None, None)]
)
def test_mosaic_pattern(hst, word, bayer, monkeypatch):
    """It reaches the function as the function has it."""
    asked = []
    monkeypatch.setattr(mosaic, 'as_mosaic', lambda _, given, **__: asked.append(given))
    options = [] if word is None else ['--bayer', word]
    run(hst, hst.with_name('out.fits'), *options)
    assert asked[0] is bayer or asked[0] == bayer == 'GRBG'


# Every way to store an image


def scaled(tmp_path, bitpix, bscale, bzero, blank=None):
    """Write whole numbers with the cards that scale them, by hand."""
    stored = np.rint((sky() - bzero) / bscale).astype(f'>i{bitpix // 8}')
    if blank is not None:
        stored[3, 4] = blank
    hdu = fits.PrimaryHDU(stored)
    hdu.header['BSCALE'], hdu.header['BZERO'] = bscale, bzero
    if blank is not None:
        hdu.header['BLANK'] = blank
    body = stored.tobytes()
    content = hdu.header.tostring().encode() + body + bytes(-len(body) % 2880)
    (tmp_path / 'in.fits').write_bytes(content)
    return tmp_path / 'in.fits'


@pytest.mark.parametrize(
    ('bitpix', 'bscale', 'bzero', 'blank'),
    [(16, 1.0, 32768.0, None), (16, 0.1, 500.0, -32768), (32, 1.0, 0.0, None), (16, 1.0, 0.0, -9)],
)
def test_scaled_integers(tmp_path, bitpix, bscale, bzero, blank):
    """Unsigned 16 bits, BSCALE and BLANK: the output is of plain floats, blank ones are NaN."""
    source = scaled(tmp_path, bitpix, bscale, bzero, blank)
    assert run(source, tmp_path / 'out.fits') == 0
    before = fits.getdata(source)
    after, header = fits.getdata(tmp_path / 'out.fits', header=True)
    assert not {'BSCALE', 'BZERO', 'BLANK'} & set(header)
    assert np.isnan(after[3, 4]) == (blank is not None)
    assert np.std(after[:20, 10:]) < 0.7 * SIGMA
    assert_allclose(np.nanmean(after), np.nanmean(before), atol=1)


@pytest.mark.parametrize('dtype', ['>f4', '>f8', '>i2', '<f4'])
@pytest.mark.parametrize('name', ['in.fits', 'in.fits.gz', 'in.fits.fz'])
def test_ways_of_storage(tmp_path, dtype, name):
    """Plain, memory-mapped, gzipped and tile-compressed files give the same pixels."""
    data = sky().astype(dtype)
    source = tmp_path / name
    if name.endswith('.fz'):
        lossless = {'compression_type': 'GZIP_2', 'quantize_level': 0}
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(data.astype(dtype[1:]), **lossless)]
    else:
        hdus = [fits.PrimaryHDU(data)]
    fits.HDUList(hdus).writeto(tmp_path / 'plain.fits')
    content = (tmp_path / 'plain.fits').read_bytes()
    source.write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
    assert run(source, tmp_path / 'out.fits') == 0
    expected = astrodenoise.denoise(data, tile_size=64)
    index = int(name.endswith('.fz'))
    result = fits.getdata(tmp_path / 'out.fits', index)
    assert_array_equal(result, expected)
    assert result.dtype == ('>f8' if dtype == '>f8' else '>f4')


@pytest.mark.parametrize(
    ('bunit', 'unit', 'scale', 'level'),
    [
        ('counts', 'count', 1, 500),
        ('ELECTRONS', 'electron', 1.7, 500),
        ('ELECTRONS/S', 'electron / s', 1e-3, 0),
        ('nJy', 'nJy', 0.3, -0.1),
        ('MJy/sr', 'MJy / sr', 1e-3, 0.2),
        ('erg/s/cm2/Angstrom', 'erg / (Angstrom s cm2)', 1e-18, 0),
    ],
)
def test_units(tmp_path, asked, bunit, unit, scale, level):
    """Any linear unit, with the sky in or subtracted: the same noise is taken, the card stays."""
    data = (sky(level=level) * np.float32(scale)).astype(np.float32)
    fits.PrimaryHDU(data, fits.Header({'BUNIT': bunit})).writeto(tmp_path / 'in.fits')
    assert run(tmp_path / 'in.fits', tmp_path / 'out.fits', '--precision', 'float32') == 0
    assert asked[0]['ccd'].unit == unit
    after, header = fits.getdata(tmp_path / 'out.fits', header=True)
    assert header['BUNIT'] == bunit
    reference = astrodenoise.denoise(sky(level=500), tile_size=64, precision='float32')
    assert_allclose(after / scale - level, reference - 500, atol=0.02 * SIGMA)


COORDINATES = {
    'CD': ["CTYPE1  = 'RA---TAN'", 'CD1_1   =               -1.4E-05 / [deg]', 'CD1_2=1.0E-7'],
    'PC': ['PC1_1   = 0.99999999999999999', 'CDELT1  =  -1.3888888888889D-05'],
    'SIP': ["CTYPE1  = 'RA---TAN-SIP'", 'A_ORDER =                    3', 'A_2_0   =  2.9E-06'],
    'TPV': ["CTYPE1  = 'RA---TPV'", 'PV1_0   = -0.00000012 / TPV', 'PV1_39  = 1.'],
    'lookup table': ["CPDIS1  = 'LOOKUP'", "DP1     = 'EXTVER: 1'", "DP1     = 'NAXES: 2'",
                     "DP1     = 'AXIS.1: 1'", "D2IMDIS1= 'Lookup'"],
    'TAB': ["CTYPE1  = 'RA---TAB'", "PS1_0   = 'WCS-TAB '", "PS1_1   = 'COORDS'"],
    'broken': ["TARGET  = 'no end", 'OBS-LAT =   -30,24', 'EQUINOX = J2000'],
}  # fmt: skip


@pytest.mark.parametrize('kind', COORDINATES)
@pytest.mark.parametrize('in_primary', [True, False])
def test_coordinates_stay_as_written(tmp_path, kind, in_primary):
    """Cards are copied as text, in their order, however they are written."""
    cards = [card.ljust(80) for card in COORDINATES[kind]]
    hdu = (fits.PrimaryHDU if in_primary else fits.ImageHDU)(sky())
    head = hdu.header.tostring(padding=False)[:-80] + ''.join(cards) + 'END'.ljust(80)
    body = hdu.data.astype('>f4').tobytes()
    first = b'' if in_primary else fits.PrimaryHDU().header.tostring().encode()
    content = (head + ' ' * (-len(head) % 2880)).encode() + body + bytes(-len(body) % 2880)
    (tmp_path / 'in.fits').write_bytes(first + content)
    assert run(tmp_path / 'in.fits', tmp_path / 'out.fits') == 0
    written = (tmp_path / 'out.fits').read_bytes()[len(first) :]
    texts = [written[i : i + 80].decode('latin-1') for i in range(0, 2880, 80)]
    start = texts.index(cards[0])
    assert texts[start : start + len(cards)] == cards
    assert texts[:start] == [head[i : i + 80] for i in range(0, 80 * start, 80)]


def test_checksums_are_brought_up_to_date(tmp_path, hst):
    """Where the file has them; Astropy warns of wrong ones, which is an error here."""
    options = ('--ext', 'all', '--uncertainty', 'predict')
    assert run(hst, tmp_path / 'out.fits', *options) == 0
    with fits.open(tmp_path / 'out.fits', checksum=True) as hdus:
        for hdu in hdus:
            assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)
    fits.PrimaryHDU(sky()).writeto(tmp_path / 'without.fits')
    assert run(tmp_path / 'without.fits', tmp_path / 'b.fits', '--uncertainty', 'predict') == 0
    with fits.open(tmp_path / 'b.fits') as hdus:
        assert not any('CHECKSUM' in hdu.header for hdu in hdus)


def test_nothing_is_held_open(tmp_path, hst, monkeypatch):
    """The output is opened when there is something to write, so that a kill leaves no part."""

    def look(*args, **keywords):
        assert os.listdir(tmp_path) == ['flt.fits']
        raise KeyboardInterrupt

    monkeypatch.setattr(frametasks, '_denoised', look)
    assert run(hst, tmp_path / 'out.fits') == 130
