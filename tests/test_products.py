# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Residuals: an object like the frame, that says what it is the residual of."""

import copy

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.utils.masked import Masked
from astropy.wcs import WCS

import astrodenoise
from astrodenoise import denoise, read_provenance, residual
from astrodenoise.provenance import is_denoised, read_residual_of

SHAPE = (48, 64)


@pytest.fixture
def data(rng):
    return np.round(rng.normal(100, 5, SHAPE)).astype(np.float32)


@pytest.fixture
def ccd(data):
    """A frame with everything in it, some of its pixels masked or without a value."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5, 6] = True
    data[5, 6] = 60000
    data[7, 8] = np.nan
    data[9, 10] = np.inf
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    header = fits.Header([('OBJECT', 'M 51'), ('GAIN', 1.5)])
    header.add_history('flat fielded')
    return CCDData(
        data, unit='adu', mask=mask, flags=np.arange(data.size).reshape(SHAPE), wcs=wcs,
        psf=np.eye(3), meta=header, uncertainty=StdDevUncertainty(np.full(SHAPE, 5.0)),
    )  # fmt: skip


def test_a_residual_is_the_difference_and_keeps_the_rest(ccd):
    clean = denoise(ccd)
    before, clean_before = copy.deepcopy(ccd), copy.deepcopy(clean)
    removed = residual(ccd, clean)
    assert type(removed) is CCDData
    usable = np.isfinite(ccd.data)
    np.testing.assert_array_equal(removed.data[usable], ccd.data[usable] - clean.data[usable])
    assert 4 < removed.data[usable].std() < 6
    assert removed.data[5, 6] == 0  # masked: nothing was taken out
    assert np.isnan(removed.data[[7, 9], [8, 10]]).all()
    for plane in ('mask', 'flags', 'psf'):
        np.testing.assert_array_equal(getattr(removed, plane), getattr(ccd, plane))
        assert not np.shares_memory(getattr(removed, plane), getattr(ccd, plane))
    np.testing.assert_array_equal(removed.uncertainty.array, ccd.uncertainty.array)
    assert removed.wcs.to_header_string() == ccd.wcs.to_header_string()
    assert removed.unit == u.adu
    removed.data[:] = removed.meta['OBJECT'] = 0
    for now, then in ((ccd, before), (clean, clean_before)):
        np.testing.assert_array_equal(now.data, then.data)
        assert now.meta.tostring() == then.meta.tostring()


def test_a_residual_says_what_it_is_of(ccd):
    clean = denoise(ccd)
    removed = residual(ccd, clean)
    cards = [str(card) for card in removed.meta.cards]
    n_before = len(ccd.meta)
    assert cards[:n_before] == [str(card) for card in ccd.meta.cards]
    assert list(removed.meta['HISTORY'])[1:3] == [
        'residual: the frame minus its denoised version',
        f'of {clean.meta["DENOISE"]}',
    ]
    assert all(card.startswith('HISTORY residual ') for card in cards[n_before + 2 :])
    assert not is_denoised(removed)
    assert read_provenance(removed) == {}
    record = read_residual_of(removed.meta)
    frame = record.pop('frame')
    assert record == read_provenance(clean)
    # of pixels alone, however they are stored
    ccd.data = ccd.data.astype('>f4')
    ccd.meta['OBJECT'] = 'M 101'
    assert read_residual_of(residual(ccd, clean).meta)['frame'] == frame
    ccd.data[0, 0] += 1
    assert read_residual_of(residual(ccd, clean).meta)['frame'] != frame


def test_in_a_dict_it_is_a_string(data, tmp_path):
    ccd = CCDData(data, unit='adu', meta={'OBJECT': 'M 51'})
    clean = denoise(ccd)
    removed = residual(ccd, clean)
    assert set(removed.meta) == {'OBJECT', 'RESIDUAL', 'RESIDREC'}
    assert removed.meta['RESIDUAL'] == f'of {clean.meta["DENOISE"]}'
    assert read_residual_of(removed.meta).items() >= read_provenance(clean).items()
    removed.write(tmp_path / 'residual.fits')
    assert fits.getval(tmp_path / 'residual.fits', 'RESIDUAL') == removed.meta['RESIDUAL']


def test_without_a_record_the_denoiser_is_unknown(data):
    ccd = CCDData(data, unit='adu', meta=fits.Header())
    removed = residual(ccd, CCDData(data - 1, unit='adu'))
    assert removed.meta['HISTORY'][1] == 'of an unknown denoiser: it left no record'
    assert np.all(removed.data == 1)
    with astrodenoise.conf.set_temp('auto_logging', False):
        assert len(residual(ccd, CCDData(data - 1, unit='adu')).meta) == 0


@pytest.mark.parametrize(
    'kind',
    [
        np.asarray, NDData, lambda a: a * u.Jy, lambda a: np.ma.MaskedArray(a, a > 110),
        lambda a: Masked(a, a > 110), lambda a: np.stack([a, a]),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ('dtype', 'planes'), [('>u2', 'f4'), ('f4', 'f4'), ('>f8', 'f8'), ('i4', 'f8')]
)
def test_any_frame_has_a_residual_of_its_kind(data, kind, dtype, planes):
    frame = kind(data.astype(dtype))
    removed = residual(frame, denoise(frame, strength=0))
    assert type(removed) is type(frame)
    pixels = np.asarray(np.ma.getdata(getattr(removed, 'data', removed)))
    assert not pixels.any()
    if not isinstance(frame, u.Quantity):  # which makes floats of integers
        assert pixels.dtype == np.dtype(planes)


def test_frames_that_do_not_belong_together_are_refused(data, ccd):
    clean = denoise(ccd)
    with pytest.raises(ValueError, match=r'shape \(48, 63\) and clean \(48, 64\)'):
        residual(CCDData(data[:, 1:], unit='adu'), clean)
    with pytest.raises(ValueError, match=r'shape \(1, 48, 64\) and clean \(48, 64\)'):
        residual(CCDData(data[np.newaxis], unit='adu'), clean)
    with pytest.raises(u.UnitsError, match='ccd is in electron and clean in adu'):
        residual(CCDData(data, unit='electron'), clean)
    with pytest.raises(u.UnitsError, match='ccd is in no unit and clean in adu'):
        residual(data, clean)
    with pytest.raises(TypeError, match=r'CCDData\.read'):
        residual(ccd, 'clean.fits')
