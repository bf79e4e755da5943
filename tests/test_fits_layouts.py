# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of what belongs to an image of a FITS file: uncertainty, weight, data quality."""

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise import denoise
from astrodenoise.companions import PlaneFiles, split_name
from astrodenoise.filecontext import FrameError
from astrodenoise.files import open_frames, read_frame, read_mask_picture
from astrodenoise.fitslayouts import find_images, read_bits
from astrodenoise.weightmap import fit_level

SHAPE = (64, 96)


@pytest.fixture
def pixels(rng):
    return rng.normal(100, 5, SHAPE).astype(np.float32)


def plane(value, dtype=np.float32):
    return np.full(SHAPE, value, dtype)


def read_all(path):
    """Read the first frame as the command line does: weights, too."""
    contexts, read = open_frames(path)
    return read(contexts[0]), contexts[0]


def write(path, *hdus, primary=None):
    """Write extensions, (name, version, data) or (name, version, data, cards), behind a primary."""
    images = [
        fits.ImageHDU(data, fits.Header(*cards), name=name, ver=version)
        for name, version, data, *cards in hdus
    ]
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary or {})), *images]).writeto(path)
    return path


# Which images, which planes


@pytest.mark.parametrize(
    ('names', 'frames'),
    [
        (['SCI', 'ERR', 'DQ', 'SCI', 'ERR', 'DQ', 'D2IMARR', 'WCSDVARR'], [1, 4]),
        (['SCI', 'WHT', 'CTX'], [1]),
        (['SCI', 'ERR', 'DQ', 'AREA', 'VAR_POISSON', 'VAR_RNOISE', 'VAR_FLAT'], [1]),
        (['IMAGE', 'MASK', 'VARIANCE'], [1]),
        (['N4', 'S4', 'N5'], [1, 2, 3]),
        (['MASK', 'N4'], [2]),
        (['WHT'], [1]),
    ],
)
def test_frames_of_a_file(names, frames):
    """Companions and tables of coordinates are no frames, unless there is nothing else."""
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), *(fits.ImageHDU(plane(1), name=name) for name in names)]
    )
    assert find_images(hdus) == frames


def test_sigma_goes_before_variance_and_weight(tmp_path, pixels):
    """JWST files have all three: ERR is the sum of the variances."""
    hdus = [('SCI', 1, pixels), ('WHT', 1, plane(7)), ('VAR_POISSON', 1, plane(9))]
    hdus += [('VARIANCE', 1, plane(16)), ('ERR', 1, plane(5))]
    ccd, context = read_frame(write(tmp_path / 'jwst.fits', *hdus))
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    assert_array_equal(ccd.uncertainty.array, 5)
    assert not context.weight


@pytest.mark.parametrize('name', ['VARIANCE', 'VAR'])
def test_variance(tmp_path, pixels, name):
    source = write(tmp_path / 'lsst.fits', ('IMAGE', 1, pixels), (name, 1, plane(25)))
    ccd, _ = read_frame(source)
    assert isinstance(ccd.uncertainty, VarianceUncertainty)
    assert ccd.uncertainty.unit == ccd.unit**2


@pytest.mark.parametrize('name', ['IVAR', 'WHT', 'WEIGHT', 'WT', 'WGT'])
def test_weight(tmp_path, pixels, name):
    """Where the weight is zero nothing was observed: such pixels are masked."""
    weight = plane(1)
    weight[3, :5], weight[4, 0] = 0, np.nan
    source = write(tmp_path / 'drz.fits', ('SCI', 1, pixels), (name, 1, weight))
    assert read_frame(source)[0].uncertainty is None  # its level is not known
    ccd, context = read_all(source)
    assert isinstance(ccd.uncertainty, InverseVariance)
    assert context.weight
    assert_array_equal(ccd.mask, ~(weight > 0))


def test_planes_go_by_version(tmp_path, pixels):
    hdus = [(name, v, plane(v + k)) for v in (1, 2) for k, name in enumerate(['SCI', 'ERR'])]
    source = write(tmp_path / 'two.fits', *hdus)
    contexts, read = open_frames(source, ext='all')
    assert [context.label for context in contexts] == ['SCI,1', 'SCI,2']
    assert [read(context).uncertainty.array[0, 0] for context in contexts] == [2, 3]


# The level of weights


@pytest.mark.parametrize('factor', [1e-12, 0.04, 1e6])
def test_level_of_a_weight_is_fitted(tmp_path, factor):
    """Sigma doubles across the frame; the weight says where, the frame how much."""
    sigma = np.where(np.arange(128) < 64, 5.0, 10.0) * np.ones((128, 1))
    data = np.random.default_rng(4).normal(0, 1, sigma.shape) * sigma
    hdus = [('SCI', 1, data.astype(np.float32)), ('WHT', 1, factor / sigma**2)]
    ccd, _ = read_all(write(tmp_path / 'in.fits', *hdus))
    fit_level(ccd)
    fitted = ccd.uncertainty.represent_as(StdDevUncertainty).array
    assert_allclose(fitted, sigma, rtol=0.06)


def test_factor_of_a_weight_does_not_matter(tmp_path):
    """The result is the same, and nothing is warned of."""
    data = np.random.default_rng(4).normal(0, 1, (96, 96)).astype(np.float32)
    weight = np.ones_like(data)
    results = []
    for number, factor in enumerate((1, 2.0**30)):
        hdus = [('SCI', 1, data), ('WHT', 1, factor * weight)]
        ccd, _ = read_all(write(tmp_path / f'{number}.fits', *hdus))
        fit_level(ccd)
        results.append(denoise(ccd, tile_size=64, precision='float32').data)
    assert_allclose(results[0], results[1], atol=1e-4)


def test_planes_of_a_cube_have_levels_of_their_own(tmp_path):
    sigma = np.array([1.0, 20.0]).reshape(2, 1, 1)
    data = np.random.default_rng(4).normal(0, 1, (2, 96, 96)) * sigma
    hdus = [('SCI', 1, data.astype(np.float32)), ('WHT', 1, np.ones(data.shape))]
    ccd, _ = read_all(write(tmp_path / 'in.fits', *hdus))
    fit_level(ccd)
    assert_allclose(ccd.uncertainty.array[:, 0, 0] ** -0.5, [1, 20], rtol=0.06)


# Data quality

HST = {'TELESCOP': 'HST', 'INSTRUME': 'ACS'}
DECAM = {'INSTRUME': 'DECam', 'PLVER': 'V4.8.2'}
LSST = {'MP_BAD': 0, 'MP_SAT': 1, 'MP_CR': 3, 'HIERARCH MP_DETECTED': 5, 'HIERARCH MP_NO_DATA': 8}


@pytest.mark.parametrize(
    ('primary', 'cards', 'bad', 'usable'),
    [
        pytest.param(HST, {}, [256, 2, 4, 2048, 8192, 256 + 16], [16, 32, 64, 1024], id='HST'),
        pytest.param(HST | {'INSTRUME': 'WFPC2'}, {}, [8, 16], [256, 1024], id='WFPC2'),
        pytest.param(HST | {'INSTRUME': 'NICMOS'}, {}, [1, 1024], [0], id='another of HST'),
        pytest.param({'TELESCOP': 'JWST'}, {}, [1, 2, 513], [4, 32, 2**20], id='JWST'),
        pytest.param({}, LSST, [1, 2, 256, 2 + 32], [8, 32], id='LSST'),
        pytest.param(DECAM, {}, [1, 2, 3, 4, 5], [6, 7, 8], id='DECam codes'),
        pytest.param(DECAM | {'PLVER': 'V3.4.1'}, {}, [1, 2, 64, 3], [4, 128], id='DECam bits'),
        pytest.param({'INSTRUME': 'DECam'}, {}, [1, 128], [0], id='another of DECam'),
        pytest.param({}, {}, [1, 16, 255], [0], id='unknown'),
    ],
)
def test_bits_that_count(tmp_path, pixels, primary, cards, bad, usable):
    """Saturated pixels and those without data are masked, usable ones are not."""
    dq = np.zeros(SHAPE, np.int32)
    dq[0, : len(bad)], dq[1, : len(usable)] = bad, usable
    source = write(tmp_path / 'in.fits', ('SCI', 1, pixels), ('DQ', 1, dq, cards), primary=primary)
    mask = read_frame(source)[0].mask
    assert mask[0, : len(bad)].all()
    assert np.count_nonzero(mask) == len(bad)


def test_mask_planes_of_des(tmp_path, pixels):
    msk = np.zeros(SHAPE, np.int32)
    msk[0, :4] = 2, 64, 4, 32
    source = write(
        tmp_path / 'in.fits', ('SCI', 1, pixels), ('MSK', 1, msk), primary={'INSTRUME': 'DECam'}
    )
    assert_array_equal(read_frame(source)[0].mask[0, :4], [True, True, False, False])


@pytest.mark.parametrize(
    ('text', 'bits'),
    [
        ('256', (256,)),
        ('256+2048', (256, 2048)),
        ('1, 0x10', (1, 16)),
        ('sat+NO_DATA', ('SAT', 'NO_DATA')),
        ('all', ('all',)),
        ('0', (0,)),
    ],
)
def test_bits_are_read(text, bits):
    assert read_bits(text) == bits


@pytest.mark.parametrize('text', ['', '~4', '1.5', '-1', '256,', 'a b'])
def test_wrong_bits(text):
    with pytest.raises(ValueError, match='must be'):
        read_bits(text)


@pytest.mark.parametrize(
    ('text', 'cards', 'primary', 'bad'),
    [
        ('16', {}, HST, [16, 17]),
        ('0', {}, HST, []),
        ('all', {}, HST, [1, 2, 3, 6, 16, 17]),
        ('CR', LSST | {'MP_CR': 4}, {}, [16, 17]),
        ('3,6', {}, DECAM, [3, 6]),  # codes, no bits
        ('2', {}, {}, [2, 3, 6]),
    ],
)
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint32, np.float32])
def test_given_bits(tmp_path, pixels, text, cards, primary, bad, dtype):
    """Bits that are given go before those of the layout, whatever the plane is stored as."""
    dq = plane(0, dtype)
    dq[0, :6] = 1, 2, 3, 6, 16, 17
    source = write(tmp_path / 'in.fits', ('SCI', 1, pixels), ('DQ', 1, dq, cards), primary=primary)
    ccd, _ = read_frame(source, planes=PlaneFiles(dq_bits=read_bits(text)))
    assert dq[ccd.mask].tolist() == bad


def test_unknown_mask_plane(tmp_path, pixels):
    for number, (cards, reason) in enumerate(((LSST, 'only BAD, SAT'), ({}, 'give numbers'))):
        source = write(
            tmp_path / f'{number}.fits', ('SCI', 1, pixels), ('DQ', 1, plane(0, np.int16), cards)
        )
        with pytest.raises(FrameError, match=f'SATURATED is no mask plane.*{reason}'):
            read_frame(source, planes=PlaneFiles(dq_bits=('SATURATED',)))


# Planes of other files


@pytest.fixture
def image(tmp_path, pixels):
    """Write two images, called as DECam calls them, of one version."""
    return write(tmp_path / 'ooi.fits', ('N4', 1, pixels), ('S4', 1, pixels))


def test_planes_of_other_files_go_by_name(tmp_path, image):
    """Weight and data quality of the DECam pipeline are files of their own, alike in structure."""
    oow = write(tmp_path / 'oow.fits', ('S4', 1, plane(4)), ('N4', 1, plane(2)))
    codes = [plane(0, np.int16), plane(0, np.int16)]
    codes[0][1, 1], codes[1][2, 2] = 3, 7
    ood = write(tmp_path / 'ood.fits', ('N4', 1, codes[0]), ('S4', 1, codes[1]), primary=DECAM)
    planes = PlaneFiles(('weight', str(oow)), str(ood))
    contexts, read = open_frames(image, ext='all', planes=planes)
    assert [context.weight for context in contexts] == [True, True]
    first, second = map(read, contexts)
    assert_array_equal(first.uncertainty.array, 2)
    assert_array_equal(second.uncertainty.array, 4)
    assert np.argwhere(first.mask).tolist() == [[1, 1]]
    assert not second.mask.any()
    assert [context.version for context in contexts] == [1, 2]  # EXTVER would be 1 twice


@pytest.mark.parametrize('ext', ['', '[2]', '[B]', '[B,1]', '/'])
def test_names_of_other_files(tmp_path, image, ext):
    """The first image, an extension in brackets, or the file of the same name in a folder."""
    folder = tmp_path / 'sigma'
    folder.mkdir()
    other = write(folder / 'ooi.fits', ('A', 1, plane(1)), ('B', 1, plane(2)))
    name = f'{folder}/' if ext == '/' else f'{other}{ext}'
    ccd, _ = read_frame(image, planes=PlaneFiles(('sigma', name)))
    assert_array_equal(ccd.uncertainty.array, 1 if ext in ('', '/') else 2)


def test_brackets_in_a_file_name(tmp_path):
    (tmp_path / 'a[1].fits').touch()
    (tmp_path / 'b[1]').touch()
    assert split_name(str(tmp_path / 'b[1]')) == (str(tmp_path / 'b[1]'), None)
    assert split_name(f'{tmp_path}/a[1].fits[SCI,2]') == (f'{tmp_path}/a[1].fits', 'SCI,2')


def test_a_given_plane_goes_before_that_of_the_file(tmp_path, pixels):
    source = write(tmp_path / 'in.fits', ('SCI', 1, pixels), ('ERR', 1, plane(5)))
    other = write(tmp_path / 'err.fits', ('ERR', 1, plane(6)))
    ccd, context = read_frame(source, planes=PlaneFiles(('variance', str(other))))
    assert isinstance(ccd.uncertainty, VarianceUncertainty)
    assert_array_equal(ccd.uncertainty.array, 6)
    assert context.uncertainty_span is not None  # that of the file is still its own


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('small.fits', r'--err .*: its shape is \(5, 5\), that of the image \(64, 96\)'),
        ('small.fits[Q]', r'--err .*: has no image Q'),
        ('small.fits[0]', r'--err .*: has no image 0'),
        ('empty.fits', '--err .*: has no image'),
        ('text.fits', '--err .*: cannot be read as FITS'),
        ('missing.fits', '--err .*: cannot be read as FITS: No such file'),
    ],
)
def test_wrong_planes_are_named(tmp_path, image, name, reason):
    write(tmp_path / 'small.fits', ('ERR', 1, np.ones((5, 5))))
    write(tmp_path / 'empty.fits')
    (tmp_path / 'text.fits').write_text('no image at all')
    with pytest.raises(FrameError, match=reason) as caught:
        read_frame(image, planes=PlaneFiles(('sigma', f'{tmp_path}/{name}')))
    assert '\n' not in str(caught.value)


def test_picture_has_no_planes(tmp_path):
    from PIL import Image

    Image.fromarray(plane(9, np.uint8)).save(tmp_path / 'in.png')
    with pytest.raises(FrameError, match='has no companion planes'):
        read_frame(tmp_path / 'in.png', planes=PlaneFiles(dq='dq.fits'))


def test_masks_painted_as_pictures(tmp_path):
    """White is 1, whatever the depth."""
    from PIL import Image

    Image.fromarray(plane(51, np.uint8)).save(tmp_path / 'mask.png')
    mask = read_mask_picture(tmp_path / 'mask.png', SHAPE, option='--star-mask')
    assert_allclose(mask, 0.2)
    with pytest.raises(FrameError, match=r'--star-mask .*: its shape is'):
        read_mask_picture(tmp_path / 'mask.png', (3, 5, 6), option='--star-mask')


def test_log_says_what_was_read(tmp_path, pixels, caplog):
    hdus = [('SCI', 1, pixels), ('ERR', 1, plane(5)), ('DQ', 1, plane(0, np.int16))]
    with caplog.at_level(logging.INFO, 'astrodenoise'):
        read_frame(write(tmp_path / 'in.fits', *hdus), unit='nJy')
    assert 'sigma from ERR,1' in caplog.text
    assert '0 pixels masked by DQ,1' in caplog.text
