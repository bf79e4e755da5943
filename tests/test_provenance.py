# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What was done is written into the metadata, survives a file, and is read back."""

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from hypothesis import given
from hypothesis import strategies as st

import astrodenoise
from astrodenoise import provenance
from astrodenoise.provenance import check_keyword, is_denoised, read_provenance, write_record

RECORD = {
    'version': '0.1.0',
    'model': 'mono',
    'weights': '0123456789ab',
    'overlap': 0.25,
    'tile': 256,
    'limit': None,
    'planes': [{'sky': 1034.5, 'sigma': 12.25, 'correlation': [0.1, -0.2], 'noise': 'measured'}],
}


def through_a_file(header, tmp_path):
    """Write a header to a file and read it."""
    path = tmp_path / 'frame.fits'
    fits.PrimaryHDU(np.zeros((2, 2)), header=header).writeto(path)
    return fits.getheader(path)


@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_round_trip(kind):
    meta = kind()
    write_record(meta, RECORD)
    assert read_provenance(meta) == RECORD
    assert is_denoised(meta)
    assert 'mono 0123456789ab overlap=0.25 tile=256' in meta['DENOISE']


def test_round_trip_through_a_file(tmp_path):
    header = fits.Header()
    header['OBJECT'] = 'M 51'
    header['HISTORY'] = 'flat fielded'
    write_record(header, RECORD)
    read = through_a_file(header, tmp_path)
    assert read_provenance(read) == RECORD
    assert read['OBJECT'] == 'M 51'
    assert 'flat fielded' in list(read['HISTORY'])


def test_a_frame_with_dict_metadata_can_be_written(tmp_path):
    ccd = CCDData(np.zeros((3, 3)), unit='adu')
    ccd.meta = {'OBJECT': 'x'}
    write_record(ccd.meta, RECORD)
    ccd.write(tmp_path / 'frame.fits')
    assert is_denoised(fits.getheader(tmp_path / 'frame.fits'))
    assert read_provenance(ccd) == RECORD


@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_a_second_run_keeps_the_first_record(kind):
    meta = kind()
    write_record(meta, RECORD)
    write_record(meta, RECORD | {'overlap': 0.5})
    assert [record['overlap'] for record in read_provenance(meta, every=True)] == [0.25, 0.5]
    assert read_provenance(meta)['overlap'] == 0.5
    assert 'overlap=0.5' in meta['DENOISE']


def test_every_card_is_a_plain_one():
    header = fits.Header()
    long = RECORD | {'model': 'm' * 300, 'note': 'ü\n  two  spaces\x7f', 'wide': list(range(80))}
    write_record(header, long)
    assert read_provenance(header) == long
    assert all(len(card.image) == 80 and card.image.isascii() for card in header.cards)
    assert 'CONTINUE' not in header


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r'[a-z][a-z0-9_]{0,12}', fullmatch=True), values, max_size=8))
def test_any_record_round_trips(record):
    for meta in (fits.Header(), {}):
        write_record(meta, record)
        assert read_provenance(meta) == record
    header = fits.Header()
    write_record(header, record)
    assert read_provenance(fits.Header.fromstring(header.tostring())) == record


def test_numpy_values_become_plain_ones():
    meta = {}
    write_record(meta, {'sigma': np.float64(1.5), 'n': np.int64(3), 'rho': np.array([0.5, 0.25])})
    assert read_provenance(meta) == {'sigma': 1.5, 'n': 3, 'rho': [0.5, 0.25]}


@pytest.mark.parametrize('add_keyword', [False, None])
def test_nothing_is_written_when_it_is_not_wanted(add_keyword):
    header = fits.Header()
    write_record(header, RECORD, add_keyword)
    assert len(header) == 0
    assert read_provenance(header) == {}
    assert not is_denoised(header)


@pytest.mark.parametrize(
    ('add_keyword', 'value'),
    [
        ('CLEANED', None),
        (ccdproc.Keyword('CLEANED', value='yes'), 'yes'),
        ({'CLEANED': 3}, 3),
        ({'CLEANED': 5 * u.adu}, 5 * u.adu),
    ],
)
def test_keywords_of_ones_own(add_keyword, value):
    header = fits.Header()
    write_record(header, RECORD, add_keyword)
    assert header['CLEANED'] == getattr(value, 'value', value)
    assert read_provenance(header) == RECORD


def test_wrong_keywords_are_found_before_the_work():
    with pytest.raises(TypeError, match='add_keyword is a int'):
        check_keyword(3)
    with pytest.raises(ValueError, match='no FITS header'):
        check_keyword({'ÄÖ': 1}, fits.Header())
    check_keyword({'ÄÖ': 1}, {})


def test_logging_can_be_switched_off():
    header = fits.Header()
    with astrodenoise.conf.set_temp('auto_logging', False):
        write_record(header, RECORD)
    assert len(header) == 0


def test_damaged_records_are_left_out():
    header = fits.Header()
    write_record(header, RECORD)
    lines = [str(line) for line in header['HISTORY']]
    assert len(lines) > 1
    del header['HISTORY']
    header['HISTORY'] = lines[0]
    assert read_provenance(header) == {}


def test_what_has_no_metadata_is_refused():
    with pytest.raises(TypeError, match='expected a FITS header'):
        read_provenance(3)
    assert provenance.read_provenance(CCDData(np.zeros((2, 2)), unit='adu')) == {}


def test_records_have_words_as_keys():
    header = fits.Header()
    with pytest.raises(ValueError, match='a word'):
        write_record(header, {'two words': 1})
    assert len(header) == 0
