# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Any input to planes and back: nothing is lost, nothing of the original is touched."""

import copy
import io
import warnings
from pathlib import Path

import dask.array
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    FlagCollection,
    InverseVariance,
    NDData,
    NDDataArray,
    NDUncertainty,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.utils.exceptions import AstropyUserWarning
from astropy.utils.masked import Masked
from astropy.wcs import WCS

import astrodenoise.frames
from astrodenoise.frames import PLANES, Frame, open_frame

H, W = 5, 7

# public names of NDData and CCDData that are views of their planes
VIEWS = {'shape', 'size', 'dtype', 'ndim', 'header', 'known_invalid_fits_unit_strings'}

KINDS = [StdDevUncertainty, VarianceUncertainty, InverseVariance]
FROM_SIGMA = {
    StdDevUncertainty: lambda s: s,
    VarianceUncertainty: lambda s: s**2,
    InverseVariance: lambda s: 1 / s**2,
}


class Exposure(CCDData):
    """A CCDData with another constructor and more attributes."""

    def __init__(self, exposure_time, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.exposure_time = exposure_time
        self.log = ['taken']
        self.me = self


class Spectrum(NDData):
    """An NDData that cannot be made of data alone."""

    def __init__(self, axis, data, **kwargs):
        super().__init__(data, **kwargs)
        self.axis = axis


def pixels(shape=(H, W), dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def full_ccd(data=None, *, uncertainty=StdDevUncertainty, cls=CCDData, **kwargs):
    """Make a CCDData with everything that it can hold."""
    data = pixels() if data is None else data
    header = fits.Header()
    header['OBJECT'] = 'M 51'
    header['SATURATE'] = 60000
    header['EXTNAME'] = 'SCI'
    header['LONGTEXT'] = 'x' * 150
    header.add_history('flat fielded')
    header.add_comment('a comment')
    header.add_history('cosmic rays removed')
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crval = 10, 20
    mask = np.zeros(data.shape, dtype=bool)
    mask[..., 1, 2] = True
    flags = np.arange(data.size).reshape(data.shape)
    sigma = 1 + np.arange(data.size).reshape(data.shape) / 10
    ccd = cls(
        data=data, unit='adu', mask=mask, flags=flags, meta=header, wcs=wcs, psf=np.eye(3),
        uncertainty=uncertainty(FROM_SIGMA[uncertainty](sigma)), **kwargs,
    )  # fmt: skip
    ccd.test_sigma = sigma
    return ccd


def assert_same(one, other):
    """Compare two objects with all that they hold, and their types."""
    assert type(one) is type(other)
    if isinstance(one, fits.Header):
        assert one.tostring() == other.tostring()
    elif isinstance(one, NDUncertainty):
        assert one.unit == other.unit
        np.testing.assert_array_equal(one.array, other.array)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        if isinstance(one, np.ma.MaskedArray | Masked):
            np.testing.assert_array_equal(one.mask, other.mask)
        assert getattr(one, 'unit', None) == getattr(other, 'unit', None)
    elif isinstance(one, WCS):
        assert one.to_header_string() == other.to_header_string()
    else:
        assert one == other


def assert_untouched(ccd, before, *, but=()):
    for name in PLANES:
        if name not in but and hasattr(before, name):
            assert_same(getattr(ccd, name), getattr(before, name))


def arrays_of(ccd):
    """All arrays that an object holds."""
    found = [getattr(ccd, name, None) for name in ('data', 'mask', 'flags', 'psf')]
    found.append(getattr(getattr(ccd, 'uncertainty', None), 'array', None))
    found.append(ccd if isinstance(ccd, np.ndarray) else None)
    return [np.asarray(array) for array in found if isinstance(array, np.ndarray)]


# --- planes ----------------------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(H, W), (1, H, W), (3, H, W), (1, 1), (3, H, 3), (4, 4, 4)])
def test_two_or_three_axes_become_three(shape):
    frame = open_frame(pixels(shape))
    assert frame.data.shape == frame.valid.shape == (shape if len(shape) == 3 else (1, *shape))
    assert frame.ndim == len(shape)
    np.testing.assert_array_equal(frame.data.reshape(shape), pixels(shape))
    assert frame.valid.all()
    assert frame.close(frame.data).shape == shape


@pytest.mark.parametrize(
    ('dtype', 'planes'),
    [
        ('f2', 'f4'), ('f4', 'f4'), ('f8', 'f8'), ('g', 'f8'),
        ('i1', 'f4'), ('u1', 'f4'), ('i2', 'f4'), ('u2', 'f4'),
        ('i4', 'f8'), ('u4', 'f8'), ('i8', 'f8'), ('u8', 'f8'),
    ],
)  # fmt: skip
@pytest.mark.parametrize('order', ['<', '>'])
def test_the_table_of_dtypes(dtype, planes, order):
    data = pixels(dtype=np.dtype(dtype).newbyteorder(order))
    frame = open_frame(data)
    assert frame.data.dtype == np.dtype(planes)
    assert frame.data.dtype.isnative
    assert frame.integer == (dtype[0] in 'iu')
    result = frame.close(frame.data + 1)
    assert result.dtype == np.dtype(planes)
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, pixels() + 1)


@pytest.mark.parametrize('dtype', [bool, complex, object, 'U3', 'S3', 'M8[s]', [('a', float)]])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match='expected real numbers'):
        open_frame(np.zeros((H, W), dtype=dtype))


@pytest.mark.parametrize('shape', [(), (5,), (2, 3, 4, 5)])
def test_other_numbers_of_axes_are_refused(shape):
    with pytest.raises(ValueError, match=f'ndim={len(shape)}'):
        open_frame(np.zeros(shape))


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (0, 5, 5), (3, 0, 5)])
def test_empty_frames_are_refused(shape):
    with pytest.raises(ValueError, match='empty'):
        open_frame(np.zeros(shape))


@pytest.mark.parametrize('n', [3, 4])
def test_colours_in_the_last_axis_are_refused(n):
    with pytest.raises(ValueError, match=r'moveaxis\(data, -1, 0\)') as caught:
        open_frame(np.zeros((H, W, n)))
    assert ('alpha' in str(caught.value)) == (n == 4)


@pytest.mark.parametrize(
    ('thing', 'advice'),
    [
        ([[1.0, 2.0]], 'numpy.asarray'), (((1.0,),), 'numpy.asarray'), ('a.fits', 'CCDData.read'),
        (Path('a.fits'), 'CCDData.read'), (fits.HDUList(), 'one HDU'),
        (fits.PrimaryHDU(np.ones((3, 3))), 'one HDU'), (None, 'NoneType'), (1.5, 'float'),
    ],
)  # fmt: skip
def test_other_things_are_refused_with_advice(thing, advice):
    with pytest.raises(TypeError, match=advice) as caught:
        open_frame(thing)
    assert type(thing).__name__ in str(caught.value)
    assert 'CCDData, NDData, Quantity or numpy array' in str(caught.value)


def test_foreign_arrays_are_not_converted_silently():
    lazy = dask.array.ones((H, W))
    with pytest.raises(TypeError, match=r'ccd.data.compute\(\)'):
        open_frame(lazy)
    with pytest.raises(TypeError, match=r'ccd.data.compute\(\)'):
        open_frame(CCDData(lazy, unit='adu'))
    tensor = type('Tensor', (), {'__module__': 'torch'})()
    with pytest.raises(TypeError, match=r'tensor.detach\(\).cpu\(\).numpy\(\)'):
        open_frame(tensor)
    ccd = CCDData(pixels(), unit='adu')
    ccd.data = tensor
    with pytest.raises(TypeError, match='holds a Tensor'):
        open_frame(ccd)
    with pytest.raises(TypeError, match='dask'):
        open_frame(NDData(pixels(), mask=lazy > 2))
    with pytest.raises(TypeError, match='dask'):
        open_frame(NDData(pixels(), uncertainty=StdDevUncertainty(lazy)))


@pytest.mark.parametrize(
    ('module', 'advice'), [('cupy', 'cupy.asnumpy'), ('jax.numpy', 'Copy it to the host yourself')]
)
def test_arrays_of_other_libraries_say_how_they_are_converted(module, advice):
    # none of their own is needed: it is never touched
    namespace = {'__module__': module, '__array_namespace__': lambda self: None, 'shape': (H, W)}
    array = type('Array', (), namespace)()
    with pytest.raises(TypeError, match=advice):
        open_frame(array)
    ccd = CCDData(pixels(), unit='adu')
    ccd.data = array
    with pytest.raises(TypeError, match=advice):
        open_frame(ccd)


@pytest.mark.parametrize('card', ['IMAGETYP', 'OBSTYPE', 'FRAME'])
@pytest.mark.parametrize(
    'kind',
    [
        'bias', 'Bias Frame', 'zero', 'DARK', 'Master Dark', 'masterFlat', 'Flat Field',
        'dome flat', 'Twilight Flat', 'FLAT,LAMP', 'darkflat', 'dflat', ' flat ', 'bias_01',
    ],
)  # fmt: skip
def test_calibration_frames_are_refused(card, kind):
    for meta in (fits.Header([(card, kind)]), {card: kind}, {card.lower(): kind}):
        ccd = CCDData(pixels(), unit='adu', meta=meta)
        with pytest.raises(ValueError, match=rf'{card}=.*del ccd.meta\[.{card}.\]'):
            open_frame(ccd)
    del meta[card.lower()]
    assert open_frame(CCDData(pixels(), unit='adu', meta=meta)).valid.all()


@pytest.mark.parametrize(
    'kind',
    [
        'light', 'Light Frame', 'object', 'science', 'sky', 'raw', 'ICRS', '', 5, None, True,
        'flat fielded', 'dark nebula', 'dark subtracted', 'field',
    ],
)  # fmt: skip
def test_frames_of_the_sky_are_not_refused(kind):
    for card in ('IMAGETYP', 'OBSTYPE', 'FRAME'):
        meta = fits.Header([(card, kind)])
        assert open_frame(CCDData(pixels(), unit='adu', meta=meta)).valid.all()
    broken = fits.Header.fromstring('IMAGETYP= dark 2'.ljust(80))
    assert open_frame(CCDData(pixels(), unit='adu', meta=broken)).valid.all()


@pytest.mark.parametrize('unit', [u.mag, u.ABmag, u.dex, u.dB])
def test_logarithmic_units_are_refused(unit):
    with pytest.raises(u.UnitsError, match='logarithmic'):
        open_frame(CCDData(pixels(), unit=unit))
    with pytest.raises(u.UnitsError, match='logarithmic'):
        open_frame(pixels() * unit if unit is not u.ABmag else u.Magnitude(pixels()))


@pytest.mark.parametrize('unit', ['adu', 'electron / s', 'nJy', 'MJy / sr', ''])
def test_linear_units_are_kept(unit):
    frame = open_frame(CCDData(pixels(), unit=unit))
    assert frame.unit == u.Unit(unit)
    assert frame.close(frame.data).unit == u.Unit(unit)


# --- valid -----------------------------------------------------------------------------------


def test_valid_is_neither_masked_nor_non_finite():
    data = pixels()
    data[0, 1:4] = np.nan, np.inf, -np.inf
    mask = np.zeros((H, W), dtype=bool)
    mask[2, 2] = True
    expected = ~mask & np.isfinite(data)
    for ccd in (
        CCDData(data, unit='adu', mask=mask),
        NDData(data, mask=mask.astype(int) * 4),
        np.ma.MaskedArray(data, mask),
        Masked(data, mask),
        Masked(data * u.Jy, mask),
    ):
        frame = open_frame(ccd)
        assert np.array_equal(frame.valid[0], expected)
        np.testing.assert_array_equal(frame.data[0], data)  # the values behind the mask, too


def test_a_mask_may_be_a_scalar_or_of_one_plane():
    mask = np.zeros((H, W), dtype=bool)
    mask[0] = True
    frame = open_frame(NDData(pixels((3, H, W)), mask=mask))
    assert np.array_equal(frame.valid, ~np.stack([mask] * 3))
    assert open_frame(NDData(pixels(), mask=False)).valid.all()
    assert open_frame(np.ma.MaskedArray(pixels())).valid.all()


def test_a_stale_mask_or_uncertainty_is_refused():
    ccd = full_ccd()
    ccd.data = pixels((H + 1, W))  # which CCDData does not check
    with pytest.raises(ValueError, match=r'mask has the shape \(5, 7\).*\(6, 7\)'):
        open_frame(ccd)
    ccd.mask = None
    with pytest.raises(ValueError, match=r'uncertainty has the shape \(5, 7\).*\(6, 7\)'):
        open_frame(ccd)


@pytest.mark.parametrize(
    'ccd',
    [
        CCDData(pixels(), unit='adu', mask=np.ones((H, W), dtype=bool)),
        np.full((H, W), np.nan), np.full((3, H, W), np.inf), np.ma.masked_all((H, W)),
    ],
)  # fmt: skip
def test_a_frame_without_a_valid_pixel_is_refused(ccd):
    with pytest.raises(ValueError, match='masked, NaN or infinite'):
        open_frame(ccd)


def test_one_empty_plane_of_three_is_no_error():
    data = pixels((3, H, W))
    data[1] = np.nan
    assert open_frame(data).valid.any(axis=(1, 2)).tolist() == [True, False, True]


# --- sigma and the header --------------------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
def test_sigma_comes_from_any_class_of_uncertainty(kind):
    ccd = full_ccd(uncertainty=kind)
    frame = open_frame(ccd)
    assert frame.sigma.shape == (1, H, W)
    assert frame.sigma.dtype == np.float32
    np.testing.assert_allclose(frame.sigma[0], ccd.test_sigma, rtol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_sigma_is_in_the_unit_of_the_data(kind):
    sigma = np.full((H, W), 5.0)
    unit = {StdDevUncertainty: u.mJy, VarianceUncertainty: u.mJy**2, InverseVariance: u.mJy**-2}
    ccd = CCDData(pixels(), unit='Jy', uncertainty=kind(FROM_SIGMA[kind](sigma), unit=unit[kind]))
    np.testing.assert_allclose(open_frame(ccd).sigma, 0.005, rtol=1e-6)


def test_a_unit_of_the_uncertainty_that_does_not_fit_is_an_error():
    ccd = full_ccd()
    ccd.unit = 'electron'  # which leaves the uncertainty in adu
    with pytest.raises(u.UnitsError, match=r'adu does not fit the data.*electron'):
        open_frame(ccd)


def test_odd_uncertainties():
    assert open_frame(NDData(pixels())).sigma is None
    assert open_frame(NDData(pixels(), uncertainty=pixels())).sigma is None  # of unknown class
    assert open_frame(NDData(pixels(), uncertainty=StdDevUncertainty())).sigma is None
    scalar = NDData(pixels((2, H, W)), uncertainty=VarianceUncertainty(4.0))
    assert np.all(open_frame(scalar).sigma == 2)
    assert open_frame(scalar).sigma.shape == (2, H, W)
    big_endian = NDData(pixels(), uncertainty=StdDevUncertainty(pixels(dtype='>f8')))
    assert open_frame(big_endian).sigma.dtype == np.float32
    # missing ones stay what they are: the noise model knows
    variance = np.array([[4.0, 0.0, -1.0, np.nan]])
    sigma = open_frame(NDData(pixels((1, 4)), uncertainty=VarianceUncertainty(variance))).sigma
    np.testing.assert_array_equal(sigma[0], [[2, 0, np.nan, np.nan]])
    weight = InverseVariance(np.array([[4.0, 0.0]]))
    sigma = open_frame(NDData(pixels((1, 2)), uncertainty=weight)).sigma
    np.testing.assert_array_equal(sigma[0], [[0.5, np.inf]])
    with pytest.raises(TypeError, match='uncertainty is of dtype complex'):
        open_frame(NDData(pixels(), uncertainty=StdDevUncertainty(pixels(dtype=complex))))


@pytest.mark.parametrize(
    ('value', 'level'),
    [(60000, 60000.0), (1.5e4, 1.5e4), ('UNKNOWN', None), (True, None), (None, None)],
)
@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_the_saturate_card(kind, value, level):
    meta = kind([('SATURATE', value)])
    assert open_frame(CCDData(pixels(), unit='adu', meta=meta)).saturation == level
    assert open_frame(CCDData(pixels(), unit='adu', meta=kind())).saturation is None


def test_a_broken_saturate_card_is_none():
    header = fits.Header.fromstring('SATURATE= 1 2 3'.ljust(80))
    assert open_frame(CCDData(pixels(), unit='adu', meta=header)).saturation is None


def test_a_frame_says_what_it_is():
    data = pixels()
    data[0, 0] = np.nan
    assert repr(open_frame(data)) == '<Frame of a ndarray: (1, 5, 7) float32, 34 valid pixels>'


# --- memory ----------------------------------------------------------------------------------


def test_planes_share_memory_but_cannot_be_written(tmp_path):
    data = pixels()
    frame = open_frame(data)
    assert np.shares_memory(frame.data, data)
    with pytest.raises(ValueError, match='read-only'):
        frame.data[0, 0, 0] = 1
    np.save(tmp_path / 'frame.npy', data)
    mapped = np.load(tmp_path / 'frame.npy', mmap_mode='r')
    frame = open_frame(mapped)
    assert np.shares_memory(frame.data, mapped)
    result = frame.close(np.zeros((1, H, W), dtype=np.float32))
    assert type(result) is np.ndarray
    assert result.flags.writeable


def test_fits_memory_maps_and_strides(tmp_path):
    path = tmp_path / 'frame.fits'
    fits.writeto(path, pixels((3, H, W)))
    with fits.open(path, memmap=True) as hdus:
        frame = open_frame(hdus[0].data[:, ::-1, ::2])
        np.testing.assert_array_equal(frame.data, pixels((3, H, W))[:, ::-1, ::2])
    transposed = open_frame(pixels((H, W, 3)).transpose(2, 0, 1))
    np.testing.assert_array_equal(transposed.close(transposed.data.copy())[2], transposed.data[2])


@pytest.mark.parametrize('uncertainty', ['keep', 'predict', None])
def test_the_result_shares_no_memory_with_the_original(uncertainty):
    sigma = np.ones((1, H, W), dtype=np.float32)
    for ccd in (
        full_ccd(), NDData(pixels(), mask=np.zeros((H, W), bool)), pixels(), pixels() * u.Jy,
        np.ma.MaskedArray(pixels(), pixels() > 3), Masked(pixels(), pixels() > 3),
    ):  # fmt: skip
        frame = open_frame(ccd)
        result = frame.close(frame.data, uncertainty=uncertainty, sigma=sigma)
        for new in arrays_of(result):
            for old in arrays_of(ccd):
                assert not np.shares_memory(new, old)


def test_a_variance_that_is_the_data_stays_the_old_data():
    data = pixels() + 1
    ccd = CCDData(data, unit='adu', uncertainty=VarianceUncertainty(data, copy=False))
    result = open_frame(ccd).close(np.zeros((1, H, W), dtype=np.float32))
    np.testing.assert_array_equal(result.uncertainty.array, pixels() + 1)
    assert not result.data.any()


# --- closing ---------------------------------------------------------------------------------


def test_every_plane_of_nddata_is_known():
    """Fails when Astropy's NDData or CCDData grows an attribute: decide what becomes of it."""
    for cls in (NDData, NDDataArray, CCDData):
        names = {name for name in dir(cls) if not name.startswith('_')}
        names = {name for name in names if not callable(getattr(cls, name))}
        assert names - VIEWS - set(PLANES) == set()
    held = {name.removeprefix('_') for name in vars(CCDData(pixels(), unit='adu'))}
    assert held == set(PLANES)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(H, W), (3, H, W)])
def test_ccddata_keeps_everything_but_its_pixels(kind, shape):
    ccd = full_ccd(pixels(shape, np.uint16), uncertainty=kind)
    before = copy.deepcopy(ccd)
    frame = open_frame(ccd)
    new = -np.ones(frame.data.shape, dtype=np.float32)
    result = frame.close(new)
    assert type(result) is CCDData
    assert_untouched(ccd, before)
    assert_untouched(result, before, but=['data'])
    assert result.data.dtype == np.float32
    assert result.shape == shape
    np.testing.assert_array_equal(result.data, np.where(ccd.mask, 1.0 * ccd.data, -1))
    assert result.uncertainty.parent_nddata is result
    assert ccd.uncertainty.parent_nddata is ccd
    for name, policy in PLANES.items():
        if policy == 'copied' and name != 'unit':
            assert getattr(result, name) is not getattr(ccd, name)
    result.flags[:] = 0
    result.meta['OBJECT'] = 'other'
    result.mask[:] = True
    result.wcs.wcs.crval = 0, 0
    result.psf[:] = 0
    result.uncertainty.array[:] = 0
    assert_untouched(ccd, before)


def test_flag_collections_are_copied():
    flags = FlagCollection(shape=(H, W))
    flags['hot'] = np.zeros((H, W), dtype=bool)
    ccd = CCDData(pixels(), unit='adu', flags=flags)
    result = open_frame(ccd).close(np.zeros((1, H, W)))
    assert type(result.flags) is FlagCollection
    assert result.flags['hot'] is not flags['hot']
    assert_same(result.flags['hot'], flags['hot'])


def test_subclasses_come_back_whole():
    ccd = full_ccd(cls=Exposure, exposure_time=30)
    result = open_frame(ccd).close(np.zeros((1, H, W)))
    assert type(result) is Exposure
    assert result.exposure_time == 30
    assert result.log == ['taken']
    assert result.log is not ccd.log
    assert result.me is result  # what referred to the old object refers to the new one
    spectra = Spectrum(np.arange(W), pixels(), unit='Jy', meta={'a': 1}, mask=pixels() == 3)
    result = open_frame(spectra).close(np.zeros((1, H, W)))
    assert type(result) is Spectrum
    assert_untouched(result, spectra, but=['data'])
    np.testing.assert_array_equal(result.axis, np.arange(W))


@pytest.mark.parametrize('cls', [NDData, NDDataArray])
def test_plain_nddata_keeps_everything_but_its_pixels(cls):
    nddata = cls(
        pixels(), unit='Jy', mask=pixels() == 3, meta={'a': [1]}, psf=np.eye(3),
        uncertainty=VarianceUncertainty(pixels() + 1), wcs=WCS(naxis=2),
    )  # fmt: skip
    result = open_frame(nddata).close(np.zeros((1, H, W)))
    assert type(result) is cls
    assert_same(result.uncertainty, nddata.uncertainty)
    assert_untouched(result, nddata, but=['data', 'wcs'])
    assert type(result.wcs) is type(nddata.wcs)
    assert result.meta['a'] is not nddata.meta['a']
    np.testing.assert_array_equal(result.data, np.where(pixels() == 3, 3, 0))


def test_arrays_and_quantities_keep_their_kind():
    mask = pixels() == 3
    new = np.zeros((1, H, W), dtype=np.float32)
    data = pixels()
    assert_same(open_frame(data).close(new.copy()), new[0])
    assert_same(open_frame(data * u.Jy).close(new.copy()), new[0] * u.Jy)
    masked = np.ma.MaskedArray(data, mask, fill_value=-5)
    result = open_frame(masked).close(new.copy())
    assert_same(result, np.ma.MaskedArray(np.where(mask, 3, new[0]), mask))
    assert result.fill_value == -5
    assert open_frame(np.ma.MaskedArray(data)).close(new.copy()).mask is np.ma.nomask
    result = open_frame(Masked(data * u.Jy, mask)).close(new.copy())
    assert_same(result, Masked(np.where(mask, 3, new[0]) * u.Jy, mask))
    np.testing.assert_array_equal(result.unmasked.value[mask], 3)


def test_pixels_that_are_not_valid_come_back_to_the_bit():
    data = pixels(dtype='>f8')
    data[0, :5] = np.nan, np.inf, -np.inf, -0.0, 1e-320
    mask = np.zeros((H, W), dtype=bool)
    mask[0, 3:5] = True
    frame = open_frame(CCDData(data, unit='adu', mask=mask))
    frame.valid[0, 4, 4] = False  # taken out by a later step
    result = frame.close(np.full((1, H, W), np.pi)).data
    expected = data.astype('f8')
    assert result[0, :5].tobytes() == expected[0, :5].tobytes()
    assert result[4, 4] == expected[4, 4]
    assert np.count_nonzero(result == np.pi) == H * W - 6


def test_new_pixels_are_taken_over_but_the_original_is_not():
    data = pixels()
    frame = open_frame(data)
    new = np.zeros((1, H, W), dtype=np.float32)
    assert np.shares_memory(frame.close(new), new)
    result = frame.close(frame.data)
    assert not np.shares_memory(result, data)
    result[:] = 5
    np.testing.assert_array_equal(data, pixels())
    assert not np.shares_memory(frame.close(data[np.newaxis]), data)
    read_only = np.zeros((1, H, W), dtype=np.float32)
    read_only.flags.writeable = False
    assert frame.close(read_only).flags.writeable


def test_wrong_shapes_and_words_are_refused():
    frame = open_frame(full_ccd())
    with pytest.raises(ValueError, match=r'planes has the shape \(5, 7\); expected.*\(1, 5, 7\)'):
        frame.close(np.zeros((H, W)))
    with pytest.raises(ValueError, match='sigma has the shape'):
        frame.close(np.zeros((1, H, W)), sigma=np.ones((2, H, W)))
    with pytest.raises(ValueError, match=r"uncertainty='drop' is unknown.*keep"):
        frame.close(np.zeros((1, H, W)), uncertainty='drop')
    with pytest.raises(ValueError, match='needs sigma='):
        frame.close(np.zeros((1, H, W)), uncertainty='predict')


# --- uncertainty -----------------------------------------------------------------------------


def test_keep_gives_the_own_uncertainty_before_the_given_sigma():
    ccd = full_ccd(uncertainty=VarianceUncertainty)
    frame = open_frame(ccd)
    result = frame.close(frame.data, sigma=np.full((1, H, W), 9.0))
    assert_same(result.uncertainty, ccd.uncertainty)
    unknown = NDData(pixels(), uncertainty=UnknownUncertainty(pixels()))
    frame = open_frame(unknown)
    result = frame.close(frame.data, sigma=np.full((1, H, W), 9.0))
    assert_same(result.uncertainty, unknown.uncertainty)


@pytest.mark.parametrize('cls', [CCDData, NDData])
@pytest.mark.parametrize('shape', [(H, W), (3, H, W)])
def test_keep_gives_the_sigma_where_there_is_none(cls, shape):
    frame = open_frame(cls(pixels(shape), unit='Jy'))
    assert frame.close(frame.data).uncertainty is None
    result = frame.close(frame.data, sigma=np.full(frame.data.shape, 9.0))
    assert type(result.uncertainty) is StdDevUncertainty
    assert result.uncertainty.unit == u.Jy
    assert result.uncertainty.array.dtype == np.float32
    np.testing.assert_array_equal(result.uncertainty.array, np.full(shape, 9))


@pytest.mark.parametrize('kind', KINDS)
def test_predict_stores_sigma_in_the_class_of_the_input(kind):
    ccd = full_ccd(uncertainty=kind)
    frame = open_frame(ccd)
    result = frame.close(frame.data, uncertainty='predict', sigma=np.full((1, H, W), 4.0))
    assert type(result.uncertainty) is kind
    np.testing.assert_array_equal(result.uncertainty.array, FROM_SIGMA[kind](4.0))
    assert result.uncertainty.unit == ccd.uncertainty.unit
    assert result.uncertainty.parent_nddata is result
    np.testing.assert_array_equal(open_frame(result).sigma, 4)


@pytest.mark.parametrize('uncertainty', [None, UnknownUncertainty(pixels())])
def test_predict_stores_a_standard_deviation_otherwise(uncertainty):
    frame = open_frame(NDData(pixels(), unit='adu', uncertainty=uncertainty))
    result = frame.close(frame.data, uncertainty='predict', sigma=np.full((1, H, W), 4.0))
    assert type(result.uncertainty) is StdDevUncertainty
    np.testing.assert_array_equal(result.uncertainty.array, np.full((H, W), 4))


def test_predicted_certainty_has_infinite_weight():
    frame = open_frame(full_ccd(uncertainty=InverseVariance))
    result = frame.close(frame.data, uncertainty='predict', sigma=np.zeros((1, H, W)))
    assert np.isposinf(result.uncertainty.array).all()


def test_none_gives_no_uncertainty():
    ccd = full_ccd()
    frame = open_frame(ccd)
    result = frame.close(frame.data, uncertainty=None, sigma=np.ones((1, H, W)))
    assert result.uncertainty is None
    assert ccd.uncertainty is not None


# --- metadata --------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', [fits.Header, dict])
@pytest.mark.parametrize('dtype', ['u2', 'f4'])
def test_cards_about_stored_integers_are_gone(kind, dtype):
    meta = kind()
    meta.update({'OBJECT': 'M 51', 'BZERO': 32768, 'BSCALE': 1, 'BLANK': -1, 'FILTER': 'V'})
    ccd = CCDData(pixels(dtype=dtype), unit='adu', meta=meta)
    result = open_frame(ccd).close(np.zeros((1, H, W)))
    assert type(result.meta) is kind
    assert list(result.meta) == ['OBJECT', 'FILTER']
    assert 'BZERO' in ccd.meta


def test_unsigned_files_round_trip(tmp_path):
    fits.writeto(tmp_path / 'raw.fits', pixels(dtype=np.uint16) + np.uint16(40000))
    ccd = CCDData.read(tmp_path / 'raw.fits', unit='adu')
    frame = open_frame(ccd)
    frame.close(frame.data - np.float32(40000.25)).write(tmp_path / 'clean.fits')
    clean = fits.open(io.BytesIO((tmp_path / 'clean.fits').read_bytes()))[0]
    assert clean.header['BITPIX'] == -32
    assert 'BZERO' not in clean.header
    np.testing.assert_array_equal(clean.data, pixels() - np.float32(0.25))


def test_files_with_blank_pixels_round_trip(tmp_path):
    hdu = fits.PrimaryHDU(pixels(dtype=np.int16))
    hdu.header['BLANK'] = 3
    hdu.writeto(tmp_path / 'raw.fits')
    ccd = CCDData.read(tmp_path / 'raw.fits', unit='adu')  # float, but BLANK is still there
    open_frame(ccd).close(np.zeros((1, H, W))).write(tmp_path / 'clean.fits')
    np.testing.assert_array_equal(np.isnan(CCDData.read(tmp_path / 'clean.fits')), pixels() == 3)


def test_broken_cards_are_copied_as_they_are():
    cards = ['OBJECT  = M 51', 'BAD     = 1 2 3', 'lower   = 5', "QUOTE   = 'open", 'NO VALUE HERE']
    with pytest.warns(AstropyUserWarning, match='NO VALUE HERE'):
        header = fits.Header.fromstring(''.join(card.ljust(80) for card in cards))
    ccd = CCDData(pixels(), unit='adu', meta=header)
    result = open_frame(ccd).close(np.zeros((1, H, W)))  # a warning would be an error here
    assert result.meta is not header
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', fits.verify.VerifyWarning)  # writing mends such cards
        assert result.meta.tostring() == header.tostring()


def test_the_record_goes_into_the_metadata_of_the_result(monkeypatch):
    calls = []
    monkeypatch.setattr(astrodenoise.frames, 'write_record', lambda *args: calls.append(args))
    ccd = full_ccd()
    frame = open_frame(ccd)
    assert isinstance(frame, Frame)
    frame.close(frame.data)
    assert calls == []
    result = frame.close(frame.data, record={'model': 'default'}, add_keyword='CLEANED')
    assert calls == [(result.meta, {'model': 'default'}, 'CLEANED')]
    assert calls[0][0] is result.meta
    open_frame(pixels()).close(pixels((1, H, W)), record={'model': 'default'})
    assert len(calls) == 1
