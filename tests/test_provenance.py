# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What was done to a frame: written, and read back the same."""

import math

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from hypothesis import example, given
from hypothesis import strategies as st

import astrodenoise
import astrodenoise.provenance
from astrodenoise.provenance import check_keyword, is_denoised, read_provenance, write_record

RECORD = {
    'version': '0.1.0',
    'torch': '2.13.0+cpu',
    'model': 'default',
    'model_version': '1',
    'weights': '0123456789ab',
    'overlap': 0.25,
    'tile': 256,
    'blend': 'gaussian',
    'strength': 1.0,
    'limit': 6.0,
    'channels': 'separate',
    'precision': 'float32',
    'device': 'cpu',
    'star_mask': None,
    'joint': False,
    'sky': [1034.0625, -0.1, 1e-30],
    'sigma': [12.25, 0.1, 1.5e-31],
    'noise': ['measured', 'uncertainty', 'given'],
    'correlation': [[0.5, 0.25], [0.0, 0.1], [0.0, 0.0]],
    'invalid': [12, 0, 3],
    'saturated': [0, 0, 1],
    'limited': [0, 5, 0],
    'planes': [{'sky': 1034.5, 'noise': 'measured', 'correlation': [0.1, -0.2]}, {'sky': None}],
}

TEXT = st.text(max_size=200)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT,
    st.text(alphabet=" 'x&/=\\\"é\n\x7f", max_size=200),
    st.from_regex(r'[A-Za-z0-9_.:/+-]{1,90}', fullmatch=True),
)  # fmt: skip
RECORDS = st.dictionaries(
    st.from_regex(r'[A-Za-z_][A-Za-z0-9_]{0,90}', fullmatch=True),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=6,
)


REAL_SWITCH = astrodenoise.provenance._auto_logging


@pytest.fixture(autouse=True)
def logging_is_on(monkeypatch):
    """Do not depend on the configuration of who runs the tests."""
    monkeypatch.setattr(astrodenoise.provenance, '_auto_logging', lambda: True)


def observation(kind=fits.Header):
    """Metadata as an observatory writes them."""
    meta = kind()
    meta['OBJECT'] = 'M 51'
    meta['EXPTIME'] = 30.0
    return meta


def same(one, other):
    """Equality with NaN, types and the sign of zero."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, float):
        return type(other) is float and (repr(one) == repr(other))
    return type(one) is type(other) and one == other


def through_text(header):
    return fits.Header.fromstring(header.tostring())


def through_file(header, path):
    fits.writeto(path, np.zeros((3, 3), np.float32), header)
    return fits.getheader(path)


# --- what stands in a header -----------------------------------------------------------------


def test_a_header_reads_like_a_header():
    header = observation()
    write_record(header, RECORD)
    assert header['DENOISE'] == 'astrodenoise 0.1.0 default 0123456789ab overlap=0.25 tile=256'
    assert header['DENOISED'] is True
    assert list(header)[:5] == ['OBJECT', 'EXPTIME', 'DENOISE', 'DENOISED', 'HISTORY']
    history = list(header['HISTORY'])
    assert history[0] == 'astrodenoise 1/12 version=0.1.0 torch=2.13.0+cpu model=default'
    assert all(len(line) <= 72 and line.startswith('astrodenoise ') for line in history)
    text = ' '.join(line.split(' ', 2)[2] for line in history[:10])
    for item in ('weights=0123456789ab', 'overlap=0.25', 'device=cpu', 'star_mask=null',
                 'joint=false', 'sky=[1034.0625,-0.1,1e-30]', 'limited=[0,5,0]',
                 'noise=["measured","uncertainty","given"]'):  # fmt: skip
        assert item in text.split(' ')
    assert history[10] == 'astrodenoise 11/12 planes=[{"sky":1034.5,"noise":"measured",'
    assert history[11] == 'astrodenoise 12/12+"correlation":[0.1,-0.2]},{"sky":null}]'


def test_every_card_is_one_line_of_a_file():
    header = observation()
    write_record(header, RECORD)
    assert 'CONTINUE' not in header.tostring()
    assert all(len(str(card)) == 80 for card in header.cards)


def test_the_summary_fits_one_card_whatever_the_names():
    for record in (
        {**RECORD, 'model': 'x' * 300, 'version': '10.20.30.dev12345+gabcdef0.d20260101'},
        {**RECORD, 'model': "Åström's\nmodel", 'overlap': 1 / 3, 'weights': 'f' * 64},
        {},
    ):
        header = fits.Header()
        write_record(header, record)
        assert len(header['DENOISE']) <= 68
        assert 'CONTINUE' not in header.tostring()
        assert through_text(header)['DENOISE'] == header['DENOISE']
        assert read_provenance(through_text(header)) == record


def test_the_original_cards_stay_in_order():
    header = observation()
    header.add_history('flat fielded')
    header.add_comment('a comment')
    before = [str(card) for card in header.cards]
    write_record(header, RECORD)
    left = [str(card) for card in header.cards if 'DENOISE' not in card.keyword]
    assert [card for card in left if 'astrodenoise' not in card] == before


@pytest.mark.parametrize('cards', [['GAIN'], ['GAIN', 'RDNOISE'], ['EGAIN', 'READNOIS']])
def test_detector_cards_are_said_to_be_of_before(cards):
    header = observation()
    header.update(dict.fromkeys(cards, 1.5))
    write_record(header, RECORD)
    write_record(header, RECORD)
    note = f'true of the frame before denoising only: {", ".join(cards)}'
    assert list(header['HISTORY']).count(note) == 1
    assert read_provenance(header) == RECORD
    assert len(read_provenance(header, every=True)) == 2
    plain = observation()
    write_record(plain, RECORD)
    assert not any('before denoising' in line for line in plain['HISTORY'])


# --- and back --------------------------------------------------------------------------------


def test_a_record_survives_a_file(tmp_path):
    header = observation()
    write_record(header, RECORD)
    for back in (header, through_text(header), through_file(header, tmp_path / 'a.fits')):
        assert same(read_provenance(back), RECORD)
        assert is_denoised(back)


def test_a_record_survives_a_ccddata_in_a_file(tmp_path):
    for kind in (fits.Header, dict):
        ccd = CCDData(np.zeros((3, 3)), unit='adu', meta=observation(kind))
        write_record(ccd.meta, RECORD)
        assert same(read_provenance(ccd), RECORD)
        ccd.write(tmp_path / f'{kind.__name__}.fits')
        back = CCDData.read(tmp_path / f'{kind.__name__}.fits')
        assert back.meta['OBJECT'] == 'M 51'
        assert back.meta['DENOISE'] == ccd.meta['DENOISE']
        assert same(read_provenance(back), RECORD)
        assert is_denoised(back)


@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_denoised_twice_keeps_both_records(kind, tmp_path):
    second = {**RECORD, 'model': 'fast', 'strength': 0.5}
    ccd = CCDData(np.zeros((3, 3)), unit='adu', meta=observation(kind))
    write_record(ccd.meta, RECORD)
    write_record(ccd.meta, second)
    ccd.write(tmp_path / 'twice.fits')
    for meta in (ccd.meta, fits.getheader(tmp_path / 'twice.fits')):
        assert meta['DENOISE'].split()[2] == 'fast'
        assert same(read_provenance(meta), second)
        assert same(read_provenance(meta, every=True), [RECORD, second])


def test_denoised_as_dict_and_again_as_header(tmp_path):
    ccd = CCDData(np.zeros((3, 3)), unit='adu', meta=observation(dict))
    write_record(ccd.meta, RECORD)
    ccd.write(tmp_path / 'once.fits')
    header = fits.getheader(tmp_path / 'once.fits')
    write_record(header, {'model': 'fast'})
    assert same(read_provenance(header, every=True), [RECORD, {'model': 'fast'}])


def test_eleven_records_of_a_dict_are_in_order():
    meta = {}
    for i in range(11):
        write_record(meta, {'run': i})
    assert read_provenance(meta) == {'run': 10}
    assert [record['run'] for record in read_provenance(meta, every=True)] == list(range(11))


@given(record=RECORDS)
@example(record={'a': ' ' * 200, 'b': 'x' * 500, 'c': "'" * 150, 'd': '&' * 150})
@example(record={'a': "'/", 'b': '\x7f'})
@example(record={'version': '1.0', 'weights': '123456789012', 'x': '1e5', 'y': 'null', 'z': 'NaN'})
@example(record={'a': math.nan, 'b': math.inf, 'c': -math.inf, 'd': -0.0, 'e': 5e-324, 'f': 'NaNa'})
@example(record={'a': 'b=c', 'c': 'x d=1', 'd': '', 'e': [], 'f': '\ud800', 'g': '"', 'h': '\\u00'})
def test_any_record_survives_headers_dicts_and_files(record):
    header = fits.Header()
    write_record(header, record)
    assert all(len(line) <= 72 for line in header['HISTORY'])
    assert same(read_provenance(header), record)
    assert same(read_provenance(through_text(header)), record)
    meta = {}
    write_record(meta, record)
    assert same(read_provenance(meta), record)
    hdus = CCDData(np.zeros((2, 2)), unit='adu', meta=meta).to_hdu()
    assert same(read_provenance(through_text(hdus[0].header)), record)


def test_a_record_in_all_cases_of_a_line_break():
    for n in range(1, 150):
        for record in ({'a': 'x' * n, 'b': 'y z'}, {'a': 'x ' * n + 'y'}, {'k' * n: [1.5] * 9}):
            header = fits.Header()
            write_record(header, record)
            assert read_provenance(through_text(header)) == record, n


def test_numpy_values_come_back_as_python():
    record = {
        'a': np.float64(0.1), 'b': np.float32(0.5), 'c': np.int64(7), 'd': np.bool_(True),
        'e': np.arange(3), 'f': [np.float32(0.25)], 'g': (1, 2), 'h': np.str_('text'),
    }  # fmt: skip
    header = fits.Header()
    write_record(header, record)
    expected = {'a': 0.1, 'b': 0.5, 'c': 7, 'd': True, 'e': [0, 1, 2], 'f': [0.25], 'g': [1, 2]}
    assert same(read_provenance(header), {**expected, 'h': 'text'})


@pytest.mark.parametrize('record', [{'a b': 1}, {'a=': 1}, {'': 1}, {1: 1}, {'é': 1}, {'1a': 1}])
def test_keys_must_be_words(record):
    header = fits.Header()
    with pytest.raises(ValueError, match='expected a word'):
        write_record(header, record)
    assert len(header) == 0


def test_values_must_be_plain():
    header = fits.Header()
    with pytest.raises(TypeError, match='holds a object; expected'):
        write_record(header, {'a': object()})
    assert len(header) == 0


# --- reading what is not ours ----------------------------------------------------------------


@pytest.mark.parametrize('meta', [fits.Header(), {}, observation(), None, NDData(np.ones((2, 2)))])
def test_without_a_record_there_is_an_empty_one(meta):
    assert read_provenance(meta) == {}
    assert read_provenance(meta, every=True) == []
    assert is_denoised(meta) is False


@pytest.mark.parametrize('thing', ['a.fits', 5, [1], np.ones((2, 2))])
def test_things_without_metadata_are_refused(thing):
    for function in (read_provenance, is_denoised):
        with pytest.raises(TypeError, match=type(thing).__name__):
            function(thing)


def test_histories_of_others_do_not_matter():
    header = observation()
    header.add_history('astrodenoise was here')
    header.add_history('astrodenoise 2/3 a=1')
    lines = fits.Header()
    write_record(lines, RECORD)
    for line in lines['HISTORY']:
        header.add_history(line)
        header.add_history('another tool between the lines')
    header.add_history('')
    header.add_history('astrodenoise 1/2 a=1')
    assert same(read_provenance(header), RECORD)


def test_a_record_with_a_missing_line_is_left_out():
    header = fits.Header()
    write_record(header, {'model': 'first'})
    write_record(header, RECORD)
    lines = list(header['HISTORY'])
    assert len(lines) == 13
    for missing in lines[1:]:
        damaged = fits.Header([('HISTORY', line) for line in lines if line != missing])
        assert read_provenance(damaged) == {'model': 'first'}
    two_halves = lines[1:4] + [line.replace('/12', '/11') for line in lines[4:]]
    assert read_provenance(fits.Header([('HISTORY', line) for line in two_halves])) == {}


@pytest.mark.parametrize('value', [False, 'T', 1, None, 'yes'])
def test_denoised_is_true_or_nothing(value):
    assert is_denoised(fits.Header([('DENOISED', value)])) is False
    assert is_denoised({'DENOISED': value}) is False


def test_a_broken_flag_is_none():
    assert is_denoised(fits.Header.fromstring('DENOISED= 1 2 3'.ljust(80))) is False
    assert is_denoised({'DENOISED': np.True_}) is True


# --- add_keyword -----------------------------------------------------------------------------


@pytest.mark.parametrize('nothing', [False, None, '', {}])
@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_switched_off_nothing_is_written(nothing, kind):
    meta = observation(kind)
    write_record(meta, RECORD, nothing)
    assert list(meta) == ['OBJECT', 'EXPTIME']


@pytest.mark.parametrize('kind', [fits.Header, dict])
def test_the_configuration_switches_off_what_was_not_asked_for(kind, monkeypatch):
    monkeypatch.setattr(astrodenoise.provenance, '_auto_logging', lambda: False)
    meta = observation(kind)
    write_record(meta, RECORD, True)
    assert list(meta) == ['OBJECT', 'EXPTIME']
    write_record(meta, RECORD, {'CLEANED': 5})
    assert list(meta) == ['OBJECT', 'EXPTIME', 'CLEANED']


def test_the_configuration_is_that_of_the_package():
    for value in (True, False):
        with astrodenoise.conf.set_temp('auto_logging', value):
            assert REAL_SWITCH() is value


@pytest.mark.parametrize('key', ['short', 'toolongforfits', 'with space', 'HIERARCH my key'])
def test_a_string_is_a_keyword_without_a_value(key):
    header = observation()
    write_record(header, RECORD, key)
    name = key.removeprefix('HIERARCH ')
    assert name in header
    assert header[name] is None
    assert name in through_text(header)
    assert 'DENOISE' not in header
    assert same(read_provenance(header), RECORD)
    assert is_denoised(header)


def test_a_ccdproc_keyword():
    header = observation()
    write_record(header, RECORD, ccdproc.Keyword('filter', value='V'))
    assert header['filter'] == 'V'
    write_record(header, RECORD, ccdproc.Keyword('noise', value=5.5 * u.electron))
    assert header['noise'] == 5.5
    assert header.comments['noise'] == '[electron]'
    meta = {}
    write_record(meta, RECORD, ccdproc.Keyword('noise', value=5.5 * u.electron))
    assert meta['noise'] == 5.5 * u.electron
    write_record(header, RECORD, {'a_long_keyword_for_a_header': 5.5 * u.electron / u.pix / u.s})
    assert header['a_long_keyword_for_a_header'] == 5.5
    assert len(str(header.cards['a_long_keyword_for_a_header'])) == 80
    assert 'DENOISE' not in meta
    assert is_denoised(meta)


@pytest.mark.parametrize('kind', [dict, fits.Header])
def test_a_dict_of_keywords(kind):
    items = kind()
    items.update({'process': 'noise removed', 'n_images': 1, 'temp': 42.9, 'clean': True})
    header = observation()
    write_record(header, RECORD, items)
    for key, value in items.items():
        assert header[key] == value
    header = through_text(header)
    assert header['temp'] == 42.9
    assert header['clean'] is True


@pytest.mark.parametrize(
    ('value', 'stored'),
    [
        (np.float32(0.5), 0.5), (np.int16(3), 3), (np.bool_(True), True), (math.nan, 'nan'),
        (-math.inf, '-inf'), ([1, 2], '[1, 2]'), ('Å\n', r'\xc5\n'), ('x' * 200, 'x' * 200),
        ("it's a \\", "it's a \\"), (np.arange(2) * u.m, '[0. 1.] m'), (2 * u.m, 2.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize('key', ['short', 'longkeyword'])
def test_values_are_made_such_that_fits_can_hold_them(key, value, stored):
    header = observation()
    write_record(header, RECORD, {key: value})
    assert header[key] == stored
    assert through_text(header)[key] == stored


@pytest.mark.parametrize('wrong', [15, 1.5, [1], np.ones(2)[:1]])
@pytest.mark.parametrize('meta', [fits.Header(), {}])
def test_other_types_are_refused_before_anything_is_written(wrong, meta):
    for call in (lambda: write_record(meta, RECORD, wrong), lambda: check_keyword(wrong, meta)):
        with pytest.raises(TypeError, match=f'add_keyword is a {type(wrong).__name__}'):
            call()
    assert len(meta) == 0


@pytest.mark.parametrize('key', ['Å', 'a\nb', 'x' * 90, 'SIMPLE=', '='])
def test_keywords_that_no_header_can_have_are_refused_beforehand(key):
    header = fits.Header()
    with pytest.raises(ValueError, match='which no FITS header can have'):
        check_keyword({'GOOD': 1, key: 1}, header)
    with pytest.raises(ValueError, match='which no FITS header can have'):
        write_record(header, RECORD, {'GOOD': 1, key: 1})
    assert len(header) == 0
    check_keyword(key, {})  # a dict can
    with pytest.raises(TypeError, match='keyword 5; expected a string'):
        check_keyword({5: 1}, header)


@pytest.mark.parametrize('good', [True, False, None, 'KEY', {'a': 1}, ccdproc.Keyword('K', None)])
def test_good_keywords_pass_the_check_and_change_nothing(good):
    header = observation()
    check_keyword(good, header)
    check_keyword(good)
    assert list(header) == ['OBJECT', 'EXPTIME']
