# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of reading and writing files: nothing but the chosen image's pixels may change."""

import contextlib
import errno
import gzip
import io
import logging
import os
import struct
import sys
import tracemalloc
import zlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_array_equal

from astrodenoise import denoise, read_provenance
from astrodenoise.atomic import atomic_write
from astrodenoise.exceptions import AlreadyDenoisedWarning, ClippedWarning
from astrodenoise.filecontext import FrameError
from astrodenoise.files import check_output, read_frame, read_mask_picture, write_frame
from astrodenoise.pictures import at_depth
from astrodenoise.provenance import is_denoised
from helpers import run_python

SHAPE = (40, 56)


@pytest.fixture
def pixels():
    """Positive noise, one pixel without data."""
    data = np.random.default_rng(3).normal(100, 5, SHAPE).astype(np.float32)
    data[3, 4] = np.nan
    return data


def image_header():
    """Cards of an image: some belong to its pixels, most do not."""
    header = fits.Header()
    header['BUNIT'] = ('ADU', 'counts')
    header['OBJECT'] = 'M 51'
    header['CTYPE1'], header['CTYPE2'] = 'RA---TAN', 'DEC--TAN'
    header['LONGTEXT'] = 'a long text ' * 12
    header['HISTORY'] = 'flat-fielded'
    header['COMMENT'] = 'seen through clouds'
    return header


def mef(path, pixels, *, image=fits.ImageHDU, **options):
    """Write a file with a header alone, a table, two chips with ERR and DQ each, in that order."""
    primary = fits.PrimaryHDU()
    primary.header['TELESCOP'] = '1 m'
    table = fits.BinTableHDU.from_columns([fits.Column('x', 'D', array=[1.5, 2.5])], name='CAT')
    hdus = [primary, table]
    for version in (1, 2):
        dq = np.zeros(SHAPE, np.int16)
        dq[version, 5] = 16
        header = image_header()
        header['EXTVER'] = version
        hdus += [
            image(pixels + version, header, name='SCI', **options),
            fits.ImageHDU(np.full(SHAPE, 5.0 + version, np.float32), name='ERR', ver=version),
            fits.ImageHDU(dq, name='DQ', ver=version),
        ]
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path


def changed(ccd):
    """Do what a denoiser does: other pixels, a record in the header."""
    result = ccd.copy()
    data = np.asarray(ccd.data)
    result.data = (data * 0.5).astype(np.float64 if data.dtype.itemsize == 8 else np.float32)
    result.meta['DENOISE'] = 'astrodenoise 1.0'
    result.meta['DENOISED'] = True
    result.meta.add_history('astrodenoise: default model')
    return result


def hdu_bytes(path, index):
    """Read the bytes of one HDU as they lie in the file."""
    with fits.open(path, disable_image_compression=True) as hdus:
        info = hdus[index].fileinfo()
    with open(path, 'rb') as handle:
        handle.seek(info['hdrLoc'])
        return handle.read(info['datLoc'] + info['datSpan'] - info['hdrLoc'])


def test_only_the_chosen_image_changes(tmp_path, pixels):
    """Every other HDU is the same to the byte, every other card of the image the same text."""
    source, target = mef(tmp_path / 'in.fits', pixels), tmp_path / 'out.fits'
    ccd, context = read_frame(source, ext='SCI,2')
    write_frame(target, changed(ccd), context)
    for index in (0, 1, 2, 3, 4, 6, 7):
        assert hdu_bytes(source, index) == hdu_bytes(target, index)
    with fits.open(source) as old, fits.open(target, checksum=True) as new:
        assert_array_equal(new[5].data, (old[5].data * 0.5).astype(np.float32))
        own = ('CHECKSUM', 'DATASUM', 'DENOISE', 'DENOISED', 'HISTORY')
        assert [str(card) for card in old[5].header.cards if card.keyword not in own] == [
            str(card) for card in new[5].header.cards if card.keyword not in own
        ]
        assert list(new[5].header['HISTORY']) == ['flat-fielded', 'astrodenoise: default model']
        assert new[5].header['DENOISED'] is True


def test_checksums_hold(tmp_path, pixels):
    """A file with checksums has right ones afterwards (astropy warns of wrong ones)."""
    for seed in range(8):  # the encoding steps round punctuation for some sums only
        source = mef(tmp_path / f'in{seed}.fits', pixels * (seed + 1))
        target = tmp_path / f'out{seed}.fits'
        ccd, context = read_frame(source)
        write_frame(target, changed(ccd), context)
        with fits.open(target, checksum=True) as hdus:  # a warning would be an error
            assert hdus[2].verify_datasum() == 1
            assert hdus[2].verify_checksum() == 1


def test_companion_planes(tmp_path, pixels):
    """ERR is the uncertainty and DQ the mask of the image of the same version."""
    source = mef(tmp_path / 'in.fits', pixels)
    for version, ext in ((1, None), (2, 'sci,2'), (2, 5), (2, '5')):
        ccd, _ = read_frame(source, ext=ext)
        assert isinstance(ccd.uncertainty, StdDevUncertainty)
        assert_array_equal(ccd.uncertainty.array, 5.0 + version)
        assert list(zip(*np.nonzero(ccd.mask), strict=True)) == [(version, 5)]
        assert ccd.unit == u.adu


def test_uncertainty_can_be_left_out(tmp_path, pixels):
    """Without the uncertainty exactly its HDU is missing."""
    source, target = mef(tmp_path / 'in.fits', pixels), tmp_path / 'out.fits'
    ccd, context = read_frame(source)
    write_frame(target, changed(ccd), context, keep_uncertainty=False)
    with fits.open(target, checksum=True) as hdus:
        names = [(hdu.name, hdu.ver) for hdu in hdus]
        assert names[2:] == [('SCI', 1), ('DQ', 1), ('SCI', 2), ('ERR', 2), ('DQ', 2)]


def test_what_ccddata_writes_is_read(tmp_path, pixels):
    """MASK and UNCERT of CCDData.write come back, of the class that UTYPE names."""
    mask = np.zeros(SHAPE, bool)
    mask[7, 8] = True
    uncertainty = VarianceUncertainty(np.full(SHAPE, 9.0))
    CCDData(pixels, unit='electron', mask=mask, uncertainty=uncertainty).write(tmp_path / 'c.fits')
    ccd, _ = read_frame(tmp_path / 'c.fits')
    assert isinstance(ccd.uncertainty, VarianceUncertainty)
    assert_array_equal(ccd.uncertainty.array, 9.0)
    assert_array_equal(ccd.mask, mask)
    assert ccd.unit == u.electron


def test_plane_of_another_shape_is_not_used(tmp_path, pixels, caplog):
    """A mask of another shape is no mask of this image, and the log says so."""
    hdus = [fits.PrimaryHDU(pixels), fits.ImageHDU(np.ones((5, 5), np.int16), name='DQ')]
    fits.HDUList(hdus).writeto(tmp_path / 'in.fits')
    with caplog.at_level(logging.INFO, 'astrodenoise'):
        ccd, _ = read_frame(tmp_path / 'in.fits')
    assert ccd.mask is None
    assert 'DQ is not used' in caplog.text


@pytest.mark.parametrize(
    ('dtype', 'bitpix'), [('u2', -32), ('i2', -32), ('f4', -32), ('i4', -64), ('f8', -64)]
)
def test_storage_of_the_pixels(tmp_path, dtype, bitpix):
    """Scaled and blank integers become clean floats: no card of the old storage is left."""
    data = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    hdu = fits.PrimaryHDU(data)
    fits.HDUList([hdu]).writeto(tmp_path / 'in.fits')
    ccd, context = read_frame(tmp_path / 'in.fits')
    assert_array_equal(ccd.data, data)
    result = changed(ccd)
    result.data = ccd.data.astype(np.float32 if bitpix == -32 else np.float64)
    write_frame(tmp_path / 'out.fits', result, context)
    with fits.open(tmp_path / 'out.fits', checksum=True) as hdus:
        assert hdus[0].header['BITPIX'] == bitpix
        assert not {'BSCALE', 'BZERO', 'BLANK'} & set(hdus[0].header)
        assert_array_equal(hdus[0].data, data)


def test_blank_and_scaled_integers(tmp_path):
    """BLANK is read as NaN and written as NaN, BSCALE is applied once."""
    hdu = fits.PrimaryHDU(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    hdu.header['BLANK'] = 7
    hdu.header['BSCALE'], hdu.header['BZERO'] = 0.5, 10.0
    raw = hdu.header.tostring() + ''
    body = hdu.data.astype('>i2').tobytes()
    path = tmp_path / 'in.fits'
    path.write_bytes(raw.encode() + body + bytes(-len(body) % 2880))
    ccd, context = read_frame(path)
    write_frame(tmp_path / 'out.fits', changed(ccd), context)
    values = fits.getdata(tmp_path / 'out.fits').ravel()
    assert np.isnan(values[7])
    assert_array_equal(values[8:12], (np.arange(8, 12) * 0.5 + 10) * 0.5)
    assert 'BLANK' not in fits.getheader(tmp_path / 'out.fits')


@pytest.mark.parametrize('compression', ['RICE_1', 'GZIP_2'])
@pytest.mark.parametrize('name', ['out.fits.fz', 'out.fits', 'out.fits.gz'])
def test_compressed_input(tmp_path, pixels, compression, name):
    """The output's name decides how it is stored; what is stored is lossless."""
    source = mef(
        tmp_path / 'in.fits.fz', pixels, image=fits.CompImageHDU, compression_type=compression
    )
    ccd, context = read_frame(source)
    assert ccd.shape == SHAPE
    result = changed(ccd)
    write_frame(tmp_path / name, result, context)
    with fits.open(tmp_path / name, checksum=True) as hdus:
        assert isinstance(hdus[2], fits.CompImageHDU) == name.endswith('.fz')
        assert_array_equal(hdus[2].data, result.data)
        assert hdus[2].header['OBJECT'] == 'M 51'
        assert hdus[2].header['LONGTEXT'] == ('a long text ' * 12).rstrip()
        assert [hdu.name for hdu in hdus][1:] == ['CAT', 'SCI', 'ERR', 'DQ', 'SCI', 'ERR', 'DQ']
        hdus.verify('exception')


def test_plain_input_to_compressed(tmp_path, pixels):
    """A primary image becomes a compressed extension behind an empty primary HDU, and returns."""
    table = fits.BinTableHDU.from_columns([fits.Column('x', 'D', array=[1.5])], name='CAT')
    fits.HDUList([fits.PrimaryHDU(pixels, image_header()), table]).writeto(tmp_path / 'in.fits')
    ccd, context = read_frame(tmp_path / 'in.fits')
    write_frame(tmp_path / 'out.fits.fz', changed(ccd), context)
    again, packed = read_frame(tmp_path / 'out.fits.fz')
    assert packed.hdu == 1
    assert_array_equal(again.data, pixels * np.float32(0.5))
    write_frame(tmp_path / 'back.fits', again, packed)
    with fits.open(tmp_path / 'back.fits') as hdus:
        hdus.verify('exception')
        assert 'SIMPLE' not in hdus[1].header
        assert_array_equal(hdus[1].data, again.data)
        assert hdus[2].name == 'CAT'


def test_packed_primary_with_simple_card(tmp_path, pixels):
    """SIMPLE of a packed primary image must not stand in an extension when it is unpacked."""
    hdu = fits.CompImageHDU(pixels, fits.PrimaryHDU(pixels).header)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / 'in.fits.fz')
    ccd, context = read_frame(tmp_path / 'in.fits.fz')
    for name in ('out.fits', 'out.fits.fz'):
        write_frame(tmp_path / name, changed(ccd), context)
        with fits.open(tmp_path / name) as hdus:
            hdus.verify('exception')
            assert len(hdus) == 2
            assert_array_equal(hdus[1].data, (ccd.data * 0.5).astype(np.float32))


def test_gzipped_file(tmp_path, pixels):
    """A gzipped file is read and written; equal frames give equal files."""
    plain = mef(tmp_path / 'in.fits', pixels)
    packed = tmp_path / 'in.fits.gz'
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    ccd, context = read_frame(packed)
    assert_array_equal(ccd.data, pixels + 1)
    write_frame(tmp_path / 'a.fits.gz', changed(ccd), context)
    write_frame(tmp_path / 'b.fits.gz', changed(ccd), context)
    write_frame(tmp_path / 'c.fits', changed(ccd), context)
    assert (tmp_path / 'a.fits.gz').read_bytes() == (tmp_path / 'b.fits.gz').read_bytes()
    assert gzip.decompress((tmp_path / 'a.fits.gz').read_bytes()) == (
        tmp_path / 'c.fits'
    ).read_bytes()


def test_broken_cards_stay(tmp_path, pixels):
    """Cards that break the standard come out as they went in, beside the new ones."""
    broken = ["FOO     = 'no end", 'BAR     =   1,234', 'lower   = 3', "QQ      ='abc'/x"]
    broken += ['X Y Z   = 3', 'HISTORY \tat 20 \xb0C']
    head = fits.PrimaryHDU(pixels, image_header()).header.tostring(padding=False)[:-80]
    text = head + ''.join(card.ljust(80) for card in broken) + 'END'.ljust(80)
    text += ' ' * (-len(text) % 2880)
    body = pixels.astype('>f4').tobytes()
    path = tmp_path / 'in.fits'
    path.write_bytes(text.encode('latin-1') + body + bytes(-len(body) % 2880))
    ccd, context = read_frame(path)
    write_frame(tmp_path / 'out.fits', changed(ccd), context)
    written = (tmp_path / 'out.fits').read_bytes()
    cards = [written[i : i + 80].decode('latin-1').rstrip() for i in range(0, 2 * 2880, 80)]
    assert [card for card in cards if card in broken] == broken
    assert "DENOISE = 'astrodenoise 1.0'" in cards
    assert cards.count('HISTORY flat-fielded') == 1
    write_frame(tmp_path / 'out.fits.fz', changed(ccd), context)
    again, _ = read_frame(tmp_path / 'out.fits.fz')
    assert_array_equal(again.data, pixels * np.float32(0.5))
    assert again.meta['OBJECT'] == 'M 51'


def test_second_record_replaces_the_first(tmp_path, pixels):
    """The record's keyword is not doubled by a second pass, whatever its length was."""
    fits.PrimaryHDU(pixels, image_header()).writeto(tmp_path / 'in.fits')
    ccd, context = read_frame(tmp_path / 'in.fits')
    first = changed(ccd)
    first.meta['DENOISE'] = 'first, ' * 20
    write_frame(tmp_path / 'first.fits', first, context)
    ccd, context = read_frame(tmp_path / 'first.fits')
    write_frame(tmp_path / 'second.fits', changed(ccd), context)
    header = fits.getheader(tmp_path / 'second.fits')
    assert header['DENOISE'] == 'astrodenoise 1.0'
    assert header['LONGTEXT'] == ('a long text ' * 12).rstrip()
    assert list(header['HISTORY']) == ['flat-fielded'] + 2 * ['astrodenoise: default model']


def test_image_alone(tmp_path, pixels):
    """An extension written alone is a valid file of one HDU with its cards."""
    ccd, context = read_frame(mef(tmp_path / 'in.fits', pixels), ext='SCI,2')
    write_frame(tmp_path / 'residual.fits', changed(ccd), context, alone=True)
    with fits.open(tmp_path / 'residual.fits', checksum=True) as hdus:
        hdus.verify('exception')
        assert len(hdus) == 1
        assert hdus[0].header['OBJECT'] == 'M 51'
        assert_array_equal(hdus[0].data, (ccd.data * 0.5).astype(np.float32))


@pytest.mark.parametrize(
    ('bunit', 'unit'),
    [
        ('ADU', 'adu'),
        ('electrons', 'electron'),
        ('ELECTRONS/S', 'electron/s'),
        ('counts', 'count'),
        ('DN', 'DN'),
        ('MJy/sr', 'MJy/sr'),
    ],
)
def test_units(tmp_path, pixels, caplog, bunit, unit):
    """BUNIT is understood in its usual spellings; a given unit goes before it."""
    fits.PrimaryHDU(pixels, fits.Header({'BUNIT': bunit})).writeto(tmp_path / 'in.fits')
    with caplog.at_level(logging.INFO, 'astrodenoise'):
        assert read_frame(tmp_path / 'in.fits')[0].unit == u.Unit(unit)
        assert read_frame(tmp_path / 'in.fits', unit='nJy')[0].unit == u.nJy
    assert not caplog.text


@pytest.mark.parametrize('bunit', [None, '', 'DN/foo', 'MJY/SR'])
def test_no_unit(tmp_path, pixels, caplog, bunit):
    """Without a unit adu is taken, the log says so, and the card stays as it was."""
    header = fits.Header() if bunit is None else fits.Header({'BUNIT': bunit})
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / 'in.fits')
    with caplog.at_level(logging.INFO, 'astrodenoise'):
        ccd, context = read_frame(tmp_path / 'in.fits')
    assert ccd.unit == u.adu
    assert 'adu is taken' in caplog.text
    write_frame(tmp_path / 'out.fits', changed(ccd), context)
    assert fits.getheader(tmp_path / 'out.fits').get('BUNIT') == bunit


def test_colour_is_named_by_the_file(tmp_path):
    """Three planes are colour only where the header says so."""
    data = np.ones((3, *SHAPE), np.float32)
    fits.PrimaryHDU(data).writeto(tmp_path / 'epochs.fits')
    fits.PrimaryHDU(data, fits.Header({'CTYPE3': 'RGB'})).writeto(tmp_path / 'rgb.fits')
    assert read_frame(tmp_path / 'epochs.fits')[1].channels is None
    assert read_frame(tmp_path / 'rgb.fits')[1].channels == 'joint'


def bad_file(name, tmp_path, pixels):
    """Make a file that holds no frame."""
    path = tmp_path / 'bad.fits'
    table = fits.BinTableHDU.from_columns([fits.Column('x', 'D', array=[1.5])], name='CAT')
    if name == 'text':
        path.write_text('no image at all\n' * 500)
    elif name == 'empty':
        path.touch()
    elif name == 'folder':
        path.mkdir()
    elif name == 'table':
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    elif name == 'no image':
        fits.PrimaryHDU().writeto(path)
    elif name == 'one axis':
        fits.PrimaryHDU(np.ones(500)).writeto(path)
    elif name == 'cut gzip':
        path.write_bytes(gzip.compress(pixels.tobytes())[:500])
    elif name.startswith('cut'):
        mef(path, pixels)
        content = path.read_bytes()
        stop = {'cut header': 2000, 'cut data': len(content) // 3, 'cut end': len(content) - 3000}
        path.write_bytes(content[: stop[name]])
    elif name == 'damaged tiles':
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels)]).writeto(path)
        content = bytearray(path.read_bytes())
        content[8640 : len(content)] = b'\xff' * (len(content) - 8640)
        path.write_bytes(content)
    elif name == 'png':
        path.write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(50))
    elif name == 'tiff':
        path.write_bytes(b'II*\0' + bytes(50))
    return path


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('missing', 'cannot be opened'),
        ('folder', 'cannot be opened'),
        ('empty', 'it is empty'),
        ('text', 'is no FITS'),
        ('table', 'holds no image.*CAT a table'),
        ('no image', 'holds no image'),
        ('one axis', 'holds no image with 2 or 3 axes'),
        ('cut header', 'cannot be read as FITS'),
        ('cut data', 'is truncated'),
        ('cut end', 'is truncated'),
        ('cut gzip', 'is no complete gzip file'),
        ('damaged tiles', 'cannot be read as FITS'),
        ('png', 'cannot be read as PNG'),
        ('tiff', 'cannot be read as TIFF'),
    ],
)
def test_bad_files(tmp_path, pixels, name, reason):
    """One error names the file and the reason."""
    path = bad_file(name, tmp_path, pixels)
    with pytest.raises(FrameError, match=reason) as caught:
        read_frame(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize('ext', ['WHT', 17, 'SCI,3', 'CAT', 0])
def test_no_such_extension(tmp_path, pixels, ext):
    """An extension that is not there, or no image, is named with what there is."""
    source = mef(tmp_path / 'in.fits', pixels)
    with pytest.raises(FrameError, match=r'has no extension.*SCI|extension (CAT|0) is') as caught:
        read_frame(source, ext=ext)
    assert str(ext) in str(caught.value)


def test_missing_padding_is_no_damage(tmp_path, pixels):
    """A file that lacks the last block's padding holds all its pixels."""
    fits.PrimaryHDU(pixels).writeto(tmp_path / 'in.fits')
    content = (tmp_path / 'in.fits').read_bytes()
    (tmp_path / 'in.fits').write_bytes(content[: 2880 + pixels.nbytes])
    ccd, context = read_frame(tmp_path / 'in.fits')
    write_frame(tmp_path / 'out.fits', changed(ccd), context)
    assert (tmp_path / 'out.fits').stat().st_size % 2880 == 0
    assert_array_equal(fits.getdata(tmp_path / 'out.fits'), pixels * np.float32(0.5))


# Writing


def test_existing_file_is_kept(tmp_path):
    """Without overwrite the old file stays, with it the new one replaces it, modes as usual."""
    path = tmp_path / 'a.bin'
    with atomic_write(path) as handle:
        handle.write(b'old')
    with pytest.raises(FileExistsError, match='--overwrite'), atomic_write(path) as handle:
        handle.write(b'new')
    assert path.read_bytes() == b'old'
    with atomic_write(path, overwrite=True) as handle:
        handle.write(b'new')
    assert path.read_bytes() == b'new'
    plain = tmp_path / 'plain'
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ['a.bin', 'plain']


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    """A file that another program wrote at the same time is not replaced."""
    path = tmp_path / 'a.bin'

    def write_at_the_same_time():
        with atomic_write(path) as handle:
            handle.write(b'ours')
            path.write_bytes(b'theirs')

    with pytest.raises(FileExistsError, match='--overwrite'):
        write_at_the_same_time()
    assert path.read_bytes() == b'theirs'
    assert os.listdir(tmp_path) == ['a.bin']


def test_no_hard_links(tmp_path, monkeypatch):
    """File systems without hard links get the file by a rename."""

    def refuse(source, target):
        raise OSError(errno.EPERM, 'not permitted')

    monkeypatch.setattr(os, 'link', refuse)
    with atomic_write(tmp_path / 'a.bin') as handle:
        handle.write(b'new')
    assert (tmp_path / 'a.bin').read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['a.bin']


@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError, OSError])
def test_nothing_is_left_of_an_interrupted_file(tmp_path, error):
    """Neither a partial file nor a temporary one."""

    def write_half():
        with atomic_write(tmp_path / 'a.bin') as handle:
            handle.write(b'half')
            raise error

    with pytest.raises(error):
        write_half()
    assert os.listdir(tmp_path) == []


def test_interrupted_frame(tmp_path, pixels, monkeypatch):
    """A frame interrupted between its pixels leaves the old file as it was."""
    ccd, context = read_frame(mef(tmp_path / 'in.fits', pixels))
    target = tmp_path / 'out.fits'
    target.write_bytes(b'old')

    def interrupted(data, dtype):
        yield bytes(2880)
        raise KeyboardInterrupt

    monkeypatch.setattr('astrodenoise.fitswriter._image_bytes', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_frame(target, changed(ccd), context, overwrite=True)
    assert target.read_bytes() == b'old'
    assert sorted(os.listdir(tmp_path)) == ['in.fits', 'out.fits']


def test_symbolic_link_is_followed(tmp_path):
    """A link stays a link; the file that it names is replaced."""
    (tmp_path / 'real').write_bytes(b'old')
    (tmp_path / 'link').symlink_to('real')
    with atomic_write(tmp_path / 'link', overwrite=True) as handle:
        handle.write(b'new')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'real').read_bytes() == b'new'


def test_targets_that_are_no_files(tmp_path, pixels):
    """A folder, a device and a missing folder are refused with the reason."""
    fits.PrimaryHDU(pixels).writeto(tmp_path / 'in.fits')
    _, context = read_frame(tmp_path / 'in.fits')
    for target in (tmp_path, os.devnull):
        with pytest.raises(FileExistsError, match='no ordinary file'):
            check_output(target, context, overwrite=True)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        check_output(tmp_path / 'none' / 'a.fits', context)
    with pytest.raises(FrameError, match=r'is FITS .* ends in \.fits'):
        check_output(tmp_path / 'a.png', context)


# Pictures


def picture(path, pixels):
    """Write a picture with another program's code: Pillow or tifffile."""
    if path.suffix == '.tif':
        import tifffile

        tifffile.imwrite(path, pixels, photometric='rgb' if pixels.ndim == 3 else 'minisblack')
    else:
        from PIL import Image

        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('colour', [False, True])
def test_pictures(tmp_path, suffix, dtype, colour):
    """Pictures keep type, shape and values; colour is (3, H, W) and joint."""
    top = np.iinfo(dtype).max
    shape = (*SHAPE, 3) if colour else SHAPE
    pixels = np.random.default_rng(2).integers(0, top, shape, dtype=dtype, endpoint=True)
    path = tmp_path / f'in{suffix}'
    if suffix == '.png' and colour and dtype == np.uint16:
        # Pillow cannot write it: go by way of TIFF.
        ccd, context = read_frame(picture(tmp_path / 'in.tif', pixels))
        write_frame(path, ccd, context)
    else:
        picture(path, pixels)
    ccd, context = read_frame(path)
    assert ccd.data.dtype == dtype
    assert context.channels == ('joint' if colour else None)
    assert_array_equal(ccd.data, np.moveaxis(pixels, -1, 0) if colour else pixels)
    result = ccd.copy()
    result.data = ccd.data.astype(np.float32) * 1.2 - 5.3
    outside = np.count_nonzero((result.data < -0.5) | (result.data > top + 0.5))
    for name in ('out.png', 'out.tif'):
        with pytest.warns(ClippedWarning, match=f'{outside} of {pixels.size} pixel values'):
            write_frame(tmp_path / name, result, context)
        again, _ = read_frame(tmp_path / name)
        assert again.data.dtype == dtype
        assert_array_equal(again.data, np.clip(np.rint(result.data), 0, top))


def test_written_png_opens_elsewhere(tmp_path):
    """Pillow reads the high bytes of our 16-bit colour, and the text of the input is kept."""
    from PIL import Image, PngImagePlugin

    pixels = np.random.default_rng(2).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    text = PngImagePlugin.PngInfo()
    text.add_text('Author', 'E. Hubble')
    Image.fromarray(pixels).save(tmp_path / 'in.png', pnginfo=text, dpi=(300, 300))
    ccd, context = read_frame(tmp_path / 'in.png')
    write_frame(tmp_path / 'out.png', ccd, context)
    with Image.open(tmp_path / 'out.png') as image:
        image.verify()
    with Image.open(tmp_path / 'out.png') as image:
        assert_array_equal(np.asarray(image), pixels)
        assert image.text['Author'] == 'E. Hubble'
        assert image.info['dpi'] == pytest.approx((300, 300), rel=1e-3)


def test_floating_point_tiff(tmp_path, pixels):
    """Floats are neither rounded nor clipped; PNG cannot hold them."""
    ccd, context = read_frame(picture(tmp_path / 'in.tif', pixels - 100))
    write_frame(tmp_path / 'out.tif', ccd, context)
    assert_array_equal(read_frame(tmp_path / 'out.tif')[0].data, pixels - 100)
    with pytest.raises(FrameError, match='no floating point'):
        write_frame(tmp_path / 'out.png', ccd, context)


def refused(name):
    """Give the arguments with which tifffile or Pillow writes a picture that is refused."""
    grey, four = np.zeros((8, 9), np.uint8), np.zeros((8, 9, 4), np.uint8)
    table = np.zeros((3, 256), np.uint16)
    return {
        'alpha.tif': (four, {'photometric': 'rgb', 'extrasamples': ['unassalpha']}),
        'pages.tif': (np.zeros((5, 8, 9), np.uint8), {'photometric': 'minisblack'}),
        'signed.tif': (grey.astype(np.int32), {'photometric': 'minisblack'}),
        'half.tif': (grey.astype(np.float16), {'photometric': 'minisblack'}),
        'cmyk.tif': (four, {'photometric': 'separated'}),
        'palette.tif': (grey, {'photometric': 'palette', 'colormap': table}),
        'bilevel.tif': (grey.astype(bool), {'photometric': 'minisblack'}),
        'lossy.tif': (np.zeros((16, 16), np.uint8), {'compression': 'jpeg'}),
        'alpha.png': (four, 'RGBA'),
        'greyalpha.png': (four, 'LA'),
        'palette.png': (four, 'P'),
        'bilevel.png': (four, '1'),
    }[name]


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('alpha.tif', 'alpha channel; flatten it'),
        ('pages.tif', '5 pages; take the one'),
        ('signed.tif', 'type int32'),
        ('half.tif', 'type float16'),
        ('cmyk.tif', 'CMYK.*; convert it to RGB'),
        ('palette.tif', 'palette of colours; convert it to RGB'),
        ('bilevel.tif', '1 bit.*; go back to the original'),
        ('lossy.tif', 'JPEG compression.*; go back to the original'),
        ('alpha.png', 'alpha channel; flatten it'),
        ('greyalpha.png', 'alpha channel; flatten it'),
        ('palette.png', 'palette of colours; convert it to RGB'),
        ('bilevel.png', '1 bit.*; go back to the original'),
    ],
)
def test_refused_pictures(tmp_path, name, reason):
    """What would lose something is refused by its name with what to do, never dropped."""
    path = tmp_path / name
    pixels, options = refused(name)
    if name.endswith('.tif'):
        import tifffile

        tifffile.imwrite(path, pixels, **options)
    else:
        from PIL import Image

        Image.fromarray(pixels).convert(options).save(path)
    with pytest.raises(FrameError, match=f'{reason}.*save it as grey or RGB') as caught:
        read_frame(path)
    assert str(caught.value).startswith(str(path))


def test_jpeg_is_refused_with_advice(tmp_path):
    """The noise of a JPEG is no longer that of the camera."""
    from PIL import Image

    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / 'a.jpg')
    with pytest.raises(FrameError, match=r'is JPEG.*save it as TIFF with 16 bits'):
        read_frame(tmp_path / 'a.jpg')


TIFF_TYPES = [np.uint8, np.uint16, np.uint32, np.float32, np.float64]


@hypothesis.given(
    dtype=st.sampled_from(TIFF_TYPES),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    colour=st.booleans(),
    compression=st.sampled_from([None, 'lzw', 'zlib', 'zstd', 'packbits']),
    tile=st.sampled_from([None, (16, 32)]),
    planar=st.booleans(),
    order=st.sampled_from('<>'),
    bigtiff=st.booleans(),
)
def test_tiff_of_every_make(tmp_path_factory, dtype, size, colour, compression, tile, planar,
                            order, bigtiff):  # fmt: skip
    """Any layout gives the same frame, and what we write has the same pixels elsewhere."""
    import tifffile

    folder = tmp_path_factory.mktemp('tiff')
    rng = np.random.default_rng(1)
    shape = (3, *size) if colour else size
    values = rng.random(shape) * (2 if np.dtype(dtype).kind == 'f' else np.iinfo(dtype).max)
    data = values.astype(dtype)
    interleaved = colour and not planar
    tifffile.imwrite(
        folder / 'in.tif',
        np.moveaxis(data, 0, -1) if interleaved else data,
        photometric='rgb' if colour else 'minisblack',
        planarconfig=('separate' if planar else 'contig') if colour else None,
        compression=compression, tile=tile, byteorder=order, bigtiff=bigtiff,
        metadata=None, iccprofile=b'profile of a camera', description='M 51',
    )  # fmt: skip
    ccd, context = read_frame(folder / 'in.tif')
    assert ccd.data.dtype == dtype
    assert context.channels == ('joint' if colour else None)
    assert_array_equal(ccd.data, data)
    write_frame(folder / 'out.tif', ccd, context)
    with tifffile.TiffFile(folder / 'out.tif') as file:
        assert file.is_bigtiff == bigtiff
        assert file.pages[0].dtype == dtype
        assert_array_equal(file.pages[0].asarray(), np.moveaxis(data, 0, -1) if colour else data)
        assert file.pages[0].iccprofile == b'profile of a camera'
        assert file.pages[0].description == 'M 51'


def test_what_tiff_says_beside_its_pixels(tmp_path, rng):
    """Resolution, turning, texts in any script, XMP and white point come out as they went in."""
    import tifffile

    tags = [
        (274, 3, 1, 6, True),
        (315, 2, 0, 'E. Hubble', True),
        (33432, 2, 0, 'Žofia'.encode() + b'\0', True),
        (318, 5, 2, (3127, 10000, 329, 1000), True),
        (700, 1, 11, b'<x:xmpmeta>', True),
        (34665, 4, 1, 0, True),  # of a folder that is not there
    ]
    tifffile.imwrite(
        tmp_path / 'in.tif', rng.integers(0, 99, SHAPE, dtype=np.uint16), metadata=None,
        description='Žižkov'.encode(), resolution=((300, 1), (301, 2)), resolutionunit=3,
        extratags=tags,
    )  # fmt: skip
    ccd, context = read_frame(tmp_path / 'in.tif')
    write_frame(tmp_path / 'out.tif', ccd, context)
    with (
        tifffile.TiffFile(tmp_path / 'in.tif') as old,
        tifffile.TiffFile(tmp_path / 'out.tif') as new,
    ):
        old, new = old.pages[0].tags, new.pages[0].tags
        for code in (270, 274, 282, 283, 296, 315, 318, 700, 33432):
            assert new[code].value == old[code].value, code
        assert new[305].value == 'astrodenoise'


@pytest.mark.parametrize('dtype', TIFF_TYPES)
def test_strength_zero_changes_no_pixel(tmp_path, rng, dtype):
    """Through the whole of the denoiser, in colour; nothing is rescaled."""
    top = 1 if np.dtype(dtype).kind == 'f' else np.iinfo(dtype).max
    pixels = (rng.normal(0.3, 0.01, (48, 64, 3)) * top).astype(dtype)
    for name in ('a.tif', 'a.png') if pixels.dtype.itemsize < 2 else ('a.tif',):
        ccd, context = read_frame(picture(tmp_path / name, pixels))
        write_frame(tmp_path / f'out_{name}', denoise(ccd, strength=0), context)
        assert_array_equal(read_frame(tmp_path / f'out_{name}')[0].data, np.moveaxis(pixels, -1, 0))


def test_white_is_zero(tmp_path, rng):
    """A negative is read as what it shows."""
    import tifffile

    data = rng.integers(0, 65535, SHAPE, dtype=np.uint16)
    tifffile.imwrite(tmp_path / 'in.tif', data, photometric='miniswhite', metadata=None)
    assert_array_equal(read_frame(tmp_path / 'in.tif')[0].data, 65535 - data)


def test_preview_beside_the_picture(tmp_path, rng):
    """A small copy in the same file is no second page; it is not kept, it shows the noise."""
    import tifffile

    data = rng.integers(0, 65535, SHAPE, dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / 'in.tif') as file:
        file.write(data, metadata=None)
        file.write(data[::4, ::4], subfiletype=1, metadata=None)
    ccd, context = read_frame(tmp_path / 'in.tif')
    write_frame(tmp_path / 'out.tif', ccd, context)
    with tifffile.TiffFile(tmp_path / 'out.tif') as file:
        assert len(file.pages) == 1
        assert_array_equal(file.pages[0].asarray(), data)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_record_in_a_picture(tmp_path, suffix):
    """The record of the denoising is in the picture, once per run, and warns of a second one."""
    from PIL import Image

    pixels = np.random.default_rng(1).normal(30000, 300, (64, 80)).astype(np.uint16)
    path = picture(tmp_path / f'in{suffix}', pixels)
    ccd, context = read_frame(path)
    assert not is_denoised(ccd)
    clean = denoise(ccd, strength=0.5)
    for other in ('.png', '.tif'):
        write_frame(tmp_path / f'once{other}', clean, context)
        once, again = read_frame(tmp_path / f'once{other}')
        with Image.open(tmp_path / f'once{other}') as image:
            text = image.text['astrodenoise'] if other == '.png' else image.tag_v2[37395]
        assert 'strength=0.5' in text
        assert read_provenance(once)['strength'] == 0.5
        assert read_provenance(once) == read_provenance(clean)
        with pytest.warns(AlreadyDenoisedWarning):
            twice = denoise(once, strength=0.25)
        write_frame(tmp_path / f'twice{other}', twice, again)
        records = read_provenance(read_frame(tmp_path / f'twice{other}')[0], every=True)
        assert [record['strength'] for record in records] == [0.5, 0.25]


@pytest.mark.parametrize('names', [('in.png', 'out.tif'), ('in.tif', 'out.png')])
def test_profile_goes_from_one_kind_to_the_other(tmp_path, names):
    """The ICC profile is that of the colours, whatever the file."""
    import tifffile
    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    pixels = np.random.default_rng(1).integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    source, target = (tmp_path / name for name in names)
    if source.suffix == '.png':
        Image.fromarray(pixels).save(source, icc_profile=profile)
    else:
        tifffile.imwrite(source, pixels, photometric='rgb', iccprofile=profile)
    write_frame(target, *read_frame(source))
    with Image.open(target) as image:
        assert image.info['icc_profile'] == profile
        assert_array_equal(np.asarray(image), pixels)


def test_interlaced_colour_of_16_bits(tmp_path):
    """Both bytes of a sample are read where the rows of a PNG are interlaced, too."""
    data = np.random.default_rng(4).integers(0, 65535, (3, 13, 9), dtype=np.uint16)
    path = tmp_path / 'in.png'
    path.write_bytes(interlaced_png(data))
    assert_array_equal(read_frame(path)[0].data, data)


def interlaced_png(data):
    """Write (3, H, W) of 16 bits as PNG in seven passes."""
    height, width = data.shape[1:]
    rows = b''
    for y, x, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
                              (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):  # fmt: skip
        part = np.moveaxis(data[:, y::down, x::right], 0, -1).astype('>u2')
        rows += b''.join(b'\0' + row.tobytes() for row in part if row.size)
    head = struct.pack('>IIBBBBB', width, height, 16, 2, 0, 0, 1)
    chunks = [(b'IHDR', head), (b'IDAT', zlib.compress(rows)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize(
    ('dtype', 'depth', 'new', 'top'),
    [
        (np.uint8, '16', np.uint16, 65535),
        (np.uint8, '32f', np.float32, 1),
        (np.uint16, '32f', np.float32, 1),
        (np.uint32, '32f', np.float32, 1),
        (np.uint16, '16', np.uint16, 65535),
        (np.float32, '32f', np.float32, None),
    ],
)
def test_greater_depth(tmp_path, dtype, depth, new, top):
    """The range of the old depth becomes that of the new one; floating point stays as it is."""
    greatest = 1.5 if top is None else np.iinfo(dtype).max
    pixels = np.linspace(0, greatest, 40 * 50).reshape(40, 50).astype(dtype)
    ccd, context = read_frame(picture(tmp_path / 'in.tif', pixels))
    write_frame(tmp_path / 'out.tif', ccd, at_depth(context, depth))
    data = read_frame(tmp_path / 'out.tif')[0].data
    assert data.dtype == new
    factor = 1 if top is None else top / greatest
    np.testing.assert_allclose(data, pixels * factor, rtol=1e-6)


def test_less_depth_is_refused(tmp_path):
    """Depth is kept or raised; FITS needs none."""
    _, context = read_frame(picture(tmp_path / 'in.tif', np.zeros(SHAPE, np.float32)))
    with pytest.raises(FrameError, match='float32, more than --depth 16'):
        at_depth(context, '16')
    fits.PrimaryHDU(np.zeros(SHAPE, np.float32)).writeto(tmp_path / 'in.fits')
    with pytest.raises(FrameError, match='FITS is always written as floating point'):
        at_depth(read_frame(tmp_path / 'in.fits')[1], '32f')
    _, context = read_frame(picture(tmp_path / 'in.png', np.zeros(SHAPE, np.uint8)))
    with pytest.raises(FrameError, match='no floating point'):
        check_output(tmp_path / 'out.png', at_depth(context, '32f'))
    deep = picture(tmp_path / 'deep.tif', np.zeros(SHAPE, np.uint32))
    with pytest.raises(FrameError, match='16 bits at most'):
        check_output(tmp_path / 'out.png', read_frame(deep)[1])


def test_values_beyond_the_range_are_kept_as_floating_point(tmp_path, recwarn):
    """Nothing is clipped, and nothing said, where the file holds all values."""
    ccd, context = read_frame(picture(tmp_path / 'in.tif', np.full(SHAPE, 65000, np.uint16)))
    ccd.data = ccd.data.astype(np.float32) * 1.1 - np.float32(1.25)
    write_frame(tmp_path / 'out.tif', ccd, at_depth(context, '32f'))
    again = read_frame(tmp_path / 'out.tif')[0].data
    np.testing.assert_allclose(again, ccd.data / 65535, rtol=1e-6)
    assert again.max() > 1
    assert not recwarn


def test_32_bits_are_clipped_to_their_own_range(tmp_path):
    """The greatest 32-bit number has no neighbour above it in floating point of that size."""
    ccd, context = read_frame(picture(tmp_path / 'in.tif', np.zeros((1, 4), np.uint32)))
    ccd.data = np.float32([[-5, 2.0**32, 2.0**33, 7]])
    with pytest.warns(ClippedWarning, match='3 of 4'):
        write_frame(tmp_path / 'out.tif', ccd, context)
    assert_array_equal(read_frame(tmp_path / 'out.tif')[0].data, [[0, 2**32 - 1, 2**32 - 1, 7]])


def test_mask_from_a_picture(tmp_path):
    """White is 1 in every depth, floating point is taken as it is."""
    for dtype in TIFF_TYPES:
        top = np.iinfo(dtype).max if np.dtype(dtype).kind == 'u' else 1
        path = picture(tmp_path / f'{np.dtype(dtype)}.tif', np.full(SHAPE, top, dtype))
        assert_array_equal(read_mask_picture(path, SHAPE, option='--star-mask'), 1)


def huge_png():
    """Give a PNG that declares 60000 x 60000 pixels and holds none."""
    return interlaced_png(np.zeros((3, 1, 1), np.uint16)).replace(
        struct.pack('>II', 1, 1), struct.pack('>II', 60000, 60000), 1
    )


def huge_tiff(**options):
    """Give a TIFF that declares 60000 x 60000 pixels and holds 100."""
    import tifffile

    file = io.BytesIO()
    data = np.zeros((100, 1), np.uint16)
    tifffile.imwrite(file, data, rowsperstrip=100, metadata=None, **options)
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        for code in (256, 257, 278):
            tag = tiff.pages[0].tags[code]
            place, code = tag.valueoffset, {'SHORT': '<H', 'LONG': '<I'}[tag.dtype.name]
            content = bytearray(file.getvalue())
            content[place : place + struct.calcsize(code)] = struct.pack(code, 60000)
            file.seek(0)
            file.write(content)
    return file.getvalue()


@pytest.mark.parametrize(
    ('name', 'make'),
    [
        ('in.png', huge_png),
        ('in.tif', huge_tiff),
        ('in.tif', lambda: huge_tiff(compression='zlib')),
        ('in.tif', lambda: huge_tiff(compression='lzw')),
    ],
)
def test_declared_size_takes_no_memory(tmp_path, name, make):
    """A picture of 7 GB by its header and of a few bytes in truth is damaged, at once."""
    path = tmp_path / name
    path.write_bytes(make())
    tracemalloc.start()
    with pytest.raises(FrameError, match=r'cannot be read as (PNG|TIFF).*are there'):
        read_frame(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_cut_and_damaged_pictures(tmp_path, rng, suffix):
    """Wherever a picture is cut, one error names the file; other bytes never do worse."""
    source = picture(tmp_path / f'in{suffix}', rng.integers(0, 255, SHAPE, dtype=np.uint8))
    content, path = source.read_bytes(), tmp_path / f'bad{suffix}'
    for stop in range(20, len(content) - 20, 97):
        path.write_bytes(content[:stop])
        with pytest.raises(FrameError, match='cannot be read as'):
            read_frame(path)
    for _ in range(150):
        changed_bytes = bytearray(content)
        for place in rng.integers(8, len(content), 4):
            changed_bytes[place] = rng.integers(256)
        path.write_bytes(changed_bytes)
        with contextlib.suppress(FrameError):
            read_frame(path)


def test_picture_has_no_extensions(tmp_path):
    """An extension of a picture is a misunderstanding."""
    path = picture(tmp_path / 'in.png', np.zeros(SHAPE, np.uint8))
    with pytest.raises(FrameError, match='has no extensions'):
        read_frame(path, ext='SCI')


@pytest.mark.parametrize(('module', 'name'), [('PIL', 'in.png'), ('tifffile', 'in.tif')])
def test_missing_library(tmp_path, monkeypatch, module, name):
    """The error says what to install."""
    path = picture(tmp_path / name, np.zeros(SHAPE, np.uint8))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FrameError, match=r"pip install 'astrodenoise\[images\]'"):
        read_frame(path)


def test_missing_codecs(tmp_path):
    """Without imagecodecs deflated TIFF is read and written; LZW says what to install."""
    import tifffile

    for compression in ('lzw', 'zlib'):
        path = tmp_path / f'{compression}.tif'
        tifffile.imwrite(path, np.zeros((90, 80), np.uint16), compression=compression)
    code = """
import sys
sys.modules['imagecodecs'] = None
from astrodenoise.files import read_frame, write_frame
folder = sys.argv[1]
write_frame(f'{folder}/out.tif', *read_frame(f'{folder}/zlib.tif'))
print(read_frame(f'{folder}/out.tif')[0].shape)
try:
    read_frame(f'{folder}/lzw.tif')
except OSError as error:
    print(error)
"""
    shape, error = run_python(code, str(tmp_path)).splitlines()
    assert shape == '(90, 80)'
    assert error.endswith("LZW compression needs imagecodecs: pip install 'astrodenoise[images]'")


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch, tmp_path):
    """Root may write anywhere, so the refusal of the system is simulated."""

    def refuse(path, flags, mode):
        raise PermissionError(errno.EACCES, 'Permission denied', path)

    monkeypatch.setattr('astrodenoise.atomic.os.open', refuse)
    with (
        pytest.raises(OSError, match=r'nothing can be written in .*: Permission denied'),
        atomic_write(tmp_path / 'x.fits'),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
