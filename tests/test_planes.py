# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Every plane through `denoise`: what comes back, and that the input stays as it is.

Objects are drawn from all that they can be made of, such that every pair of two choices occurs.
"""

import copy
from collections import OrderedDict
from itertools import combinations, product

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
from astropy.utils.masked import Masked
from astropy.wcs import WCS, DistortionLookupTable, Sip

from astrodenoise import denoise, read_provenance
from astrodenoise.engine import Engine
from astrodenoise.frames import PLANES

SHAPE = (40, 48)
SKY, SIGMA = 60.0, 6.0  # adu
SHARE = 0.5  # of sigma that the network of these tests takes off each pixel
N_OBJECTS = 240


class Exposure(CCDData):
    """A CCDData of somebody else."""


CHOICES = {
    'cls': (CCDData, Exposure, NDData, NDDataArray),
    'dtype': ('f2', 'f4', 'f8', 'i2', 'u2', 'i4'),
    'order': ('<', '>'),
    'cube': (False, True),
    'mask': ('none', 'array', 'scalar'),
    'uncertainty': (
        None, StdDevUncertainty, VarianceUncertainty, InverseVariance, UnknownUncertainty,
    ),
    'uncertainty_dtype': ('f4', '>f8'),
    'flags': ('none', 'array', 'collection'),
    'psf': ('none', 'array'),
    'wcs': ('none', 'sip', 'table'),
    'meta': (fits.Header, dict, OrderedDict),
    'strength': (0, 1),
}  # fmt: skip
ARRAYS = {
    'array': np.asarray,
    'quantity': lambda data: data * u.adu,
    'masked array': lambda data: np.ma.MaskedArray(data, bad_pixels(data.shape), fill_value=7),
    'masked': lambda data: Masked(data, bad_pixels(data.shape)),
    'masked quantity': lambda data: Masked(data * u.adu, bad_pixels(data.shape)),
}


def draw_objects():
    """Draw what each object is made of."""
    rng = np.random.default_rng(5)
    return [
        {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
        for _ in range(N_OBJECTS)
    ]


OBJECTS = draw_objects()


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """Put a network in place that sees `SHARE` sigma of noise everywhere."""

    def predictor(self, condition):
        def predict(batch):
            shape = len(batch), self.weights.config.planes, *batch.shape[2:]
            return np.concatenate([np.full(shape, SHARE, 'f4'), np.zeros(shape, 'f4')], axis=1)

        return predict

    monkeypatch.setattr(Engine, 'predictor', predictor)


def bad_pixels(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[..., 3:5, 10] = True
    return mask


def pixels(dtype, order='<', *, cube=False):
    shape = (2, *SHAPE) if cube else SHAPE
    data = np.random.default_rng(8).normal(SKY, SIGMA, shape)
    return np.round(data).astype(np.dtype(dtype).newbyteorder(order))


def make_wcs(kind):
    if kind == 'none':
        return None
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN-SIP', 'DEC--TAN-SIP'
    wcs.wcs.crval = 202.5, 47.2
    wcs.wcs.crpix = 20, 20
    wcs.wcs.cd = [[-1e-4, 1e-6], [1e-6, 1e-4]]
    if kind == 'sip':
        a = np.zeros((3, 3))
        a[2, 0] = 1e-5
        wcs.sip = Sip(a, -a, None, None, (20, 20))
    else:
        wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
        table = np.linspace(0, 0.5, 25, dtype=np.float32).reshape(5, 5)
        wcs.cpdis1 = DistortionLookupTable(table, (1, 1), (1, 1), (10, 10))
    wcs.wcs.set()
    return wcs


def make_meta(kind):
    meta = kind()
    meta['OBJECT'] = 'M 51'
    meta['EXPTIME'] = 30.0
    meta['EXTNAME'] = 'SCI'
    meta['LONGTEXT'] = 'x' * 150
    if kind is fits.Header:
        meta['HIERARCH ESO DET CHIP'] = ('e2v', 'a comment')
        meta.add_history('flat fielded')
        meta.add_comment('a comment')
        meta.add_history('cosmic rays removed')
    else:
        meta['nested'] = {'list': [1, 2]}
    return meta


def make_flags(kind, shape):
    if kind == 'none':
        return None
    bits = np.arange(np.prod(shape)).reshape(shape)
    if kind == 'array':
        return bits
    flags = FlagCollection(shape=shape)
    flags['hot'] = bits
    return flags


def make_uncertainty(kind, dtype, shape):
    if kind is None:
        return None
    sigma = np.full(shape, SIGMA)
    sigma += np.linspace(-0.1, 0.1, SHAPE[1])
    power = {VarianceUncertainty: 2, InverseVariance: -2}.get(kind, 1)
    return kind((sigma**power).astype(dtype))


def make_object(made_of):
    """Make an NDData or CCDData from one choice of each kind."""
    data = pixels(made_of['dtype'], made_of['order'], cube=made_of['cube'])
    mask = {'none': None, 'array': bad_pixels(data.shape), 'scalar': np.False_}[made_of['mask']]
    if made_of['cls'] is not NDData and made_of['mask'] == 'scalar':
        mask = np.broadcast_to(mask, data.shape)  # what the others make of it
    uncertainty = make_uncertainty(made_of['uncertainty'], made_of['uncertainty_dtype'], data.shape)
    result = made_of['cls'](
        data, unit='adu', mask=mask, uncertainty=uncertainty, meta=make_meta(made_of['meta']),
        wcs=make_wcs(made_of['wcs']), psf=np.eye(3) if made_of['psf'] == 'array' else None,
    )  # fmt: skip
    if made_of['cls'] is not NDData:
        result.flags = make_flags(made_of['flags'], data.shape)
    return result


def raw(array):
    """Values of any kind of array, those behind a mask, too."""
    return np.asarray(np.ma.getdata(getattr(array, 'unmasked', array)))


def assert_same(one, other):
    """Compare two planes in all that they hold, and their types."""
    assert type(one) is type(other)
    if isinstance(one, fits.Header):
        assert one.tostring() == other.tostring()
    elif isinstance(one, NDUncertainty):
        assert one.unit == other.unit
        assert_same(one.array, other.array)
    elif isinstance(one, FlagCollection):
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    elif isinstance(one, Masked | np.ma.MaskedArray | u.Quantity | np.ndarray):
        assert one.dtype == other.dtype
        assert raw(one).tobytes() == raw(other).tobytes()
        assert np.array_equal(getattr(one, 'mask', None), getattr(other, 'mask', None))
        assert getattr(one, 'unit', None) == getattr(other, 'unit', None)
    elif isinstance(one, WCS):
        x, y = np.meshgrid(np.arange(0.0, 48, 7), np.arange(0.0, 40, 7))
        assert one.to_header_string(relax=True) == other.to_header_string(relax=True)
        assert np.array_equal(one.all_pix2world(x, y, 0), other.all_pix2world(x, y, 0))
    elif hasattr(one, 'low_level_wcs'):  # as NDData wraps it
        assert_same(one.low_level_wcs, other.low_level_wcs)
    else:
        assert one == other


def without_ours(meta):
    """Take what `denoise` writes out of metadata."""
    left = copy.deepcopy(meta)
    if isinstance(left, fits.Header):
        ours = [i for i, card in enumerate(left.cards) if 'astrodenoise' in str(card)]
        for i in reversed(ours):
            del left[i]
        return left
    for key in ('DENOISE', 'DENOISED', 'DENOIS01'):
        del left[key]
    return left


def assert_untouched(thing, before):
    for plane in PLANES:
        if hasattr(before, plane):
            assert_same(getattr(thing, plane), getattr(before, plane))


def expected_dtype(dtype):
    return np.dtype('f8' if dtype in ('f8', 'i4') else 'f4')


@pytest.mark.parametrize(('one', 'other'), [*combinations(CHOICES, 2)])
def test_every_pair_of_choices_is_drawn(one, other):
    drawn = {(made_of[one], made_of[other]) for made_of in OBJECTS}
    assert drawn == set(product(CHOICES[one], CHOICES[other]))


@pytest.mark.parametrize('number', range(N_OBJECTS))
def test_an_object_keeps_everything_but_its_noise(number):
    made_of = OBJECTS[number]
    ccd = make_object(made_of)
    before = copy.deepcopy(ccd)
    clean = denoise(ccd, strength=made_of['strength'], limit=None)

    assert_untouched(ccd, before)
    assert type(clean) is made_of['cls']
    assert clean.data.dtype == expected_dtype(made_of['dtype'])
    assert clean.data.dtype.isnative
    change = (ccd.data - clean.data) / SIGMA
    valid = np.broadcast_to(~np.asarray(False if ccd.mask is None else ccd.mask), ccd.data.shape)
    assert not change[~valid].any()
    np.testing.assert_allclose(change[valid], SHARE * made_of['strength'], rtol=0.15)
    if made_of['strength'] == 0:
        assert np.array_equal(clean.data, ccd.data)
    for plane in ('mask', 'flags', 'wcs', 'psf', 'unit'):
        if hasattr(ccd, plane):
            assert_same(getattr(clean, plane), getattr(ccd, plane))
    if made_of['uncertainty'] is None:
        assert type(clean.uncertainty) is StdDevUncertainty
        np.testing.assert_allclose(clean.uncertainty.array, SIGMA, rtol=0.15)
    else:
        assert_same(clean.uncertainty, ccd.uncertainty)
    assert clean.uncertainty.parent_nddata is clean
    assert type(clean.meta) is made_of['meta']
    assert read_provenance(clean)['strength'] == made_of['strength']
    assert_same(without_ours(clean.meta), ccd.meta)


@pytest.mark.parametrize('number', range(0, N_OBJECTS, 4))
def test_nothing_is_shared_with_the_input(number):
    ccd = make_object(OBJECTS[number])
    before = copy.deepcopy(ccd)
    clean = denoise(ccd, strength=0)
    clean.data[:] = 0
    if isinstance(clean.mask, np.ndarray):
        clean.mask[:] = True
    clean.uncertainty.array[:] = 0
    clean.meta['OBJECT'] = 'other'
    if 'nested' in clean.meta:
        clean.meta['nested']['list'].append(3)
    if clean.psf is not None:
        clean.psf[:] = 0
    flags = getattr(clean, 'flags', None)
    if flags is not None:
        (flags['hot'] if isinstance(flags, FlagCollection) else flags)[:] = 0
    if clean.wcs is not None:
        getattr(clean.wcs, 'low_level_wcs', clean.wcs).wcs.crval = 0, 0
    assert_untouched(ccd, before)


@pytest.mark.parametrize('kind', ARRAYS)
@pytest.mark.parametrize('dtype', CHOICES['dtype'])
@pytest.mark.parametrize('order', CHOICES['order'])
def test_an_array_comes_back_as_its_kind(kind, dtype, order):
    frame = ARRAYS[kind](pixels(dtype, order))
    before = copy.deepcopy(frame)
    for strength in CHOICES['strength']:
        clean = denoise(frame, strength=strength, limit=None)
        assert_same(frame, before)
        assert type(clean) is type(frame)
        if raw(frame).dtype.kind == np.dtype(dtype).kind:  # Quantity makes floats of integers
            assert clean.dtype == expected_dtype(dtype)
        assert clean.dtype.isnative
        mask = np.asarray(getattr(frame, 'mask', np.zeros(SHAPE, dtype=bool)))
        change = (raw(frame) - raw(clean)) / SIGMA
        np.testing.assert_allclose(change[~mask], SHARE * strength, rtol=0.15)
        assert not change[mask].any()
        assert np.array_equal(getattr(clean, 'mask', None), getattr(frame, 'mask', None))
        assert getattr(clean, 'unit', None) == getattr(frame, 'unit', None)


@pytest.mark.parametrize('kind', [StdDevUncertainty, VarianceUncertainty, InverseVariance])
@pytest.mark.parametrize('how', ['keep', 'predict', None])
def test_the_class_of_the_uncertainty_stays(kind, how):
    ccd = CCDData(pixels('f4'), unit='adu', uncertainty=make_uncertainty(kind, 'f8', SHAPE))
    clean = denoise(ccd, uncertainty=how, limit=None)
    if how is None:
        assert clean.uncertainty is None
        return
    assert type(clean.uncertainty) is kind
    assert clean.uncertainty.unit == ccd.uncertainty.unit
    if how == 'keep':
        assert np.array_equal(clean.uncertainty.array, ccd.uncertainty.array)
