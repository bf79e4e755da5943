# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A part of a frame has the bits that it has in the whole; what was found is found once."""

import copy
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from astrodenoise import (
    FrameNoise,
    denoise,
    frametasks,
    noisefiles,
    preparation,
    read_provenance,
    sections,
    survey,
)
from astrodenoise.cli import main
from astrodenoise.files import read_frame
from astrodenoise.frames import open_frame
from astrodenoise.mosaic import as_mosaic
from astrodenoise.noisefiles import frame_key, known_text, read_noise_file
from astrodenoise.preview import Preview, moved_cards, part_around
from astrodenoise.survey import survey_frame

SHAPE = (420, 380)
KEYS = {'model': 'fast', 'precision': 'float32'}
FAST = ('--model', 'fast', '--precision', 'float32', '-q')


def run(*arguments):
    return main([str(argument) for argument in arguments])


def field(seed):
    """Make a field with stars, a nebula, a gap and saturated pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truth = 500 + 0.1 * x + 200 * np.exp(-((y - 200) ** 2 + (x - 150) ** 2) / 2 / 60**2)
    for row, column in rng.uniform(0, 380, (40, 2)):
        truth += 10 ** rng.uniform(1, 3.3) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 6)
    frame = truth + rng.normal(size=SHAPE) * np.sqrt(truth / 6)
    frame[350:, 300:] = 0
    return np.minimum(frame, 1500).astype(np.float32)


@pytest.fixture(scope='module')
def frame():
    return field(4)


@pytest.fixture(params=[False, True], ids=['whole', 'blocks'])
def blocks(request, monkeypatch):
    """Divide frames as small as those of the tests, or not."""
    if request.param:
        monkeypatch.setattr(sections, 'BLOCK', 128)
        monkeypatch.setattr(survey, 'PANEL', 128)


PLACES = [(150, 200, 64), (0, 0, 50), (379, 419, 90), (310, 340, 33)]


def cut(array, preview, place):
    rows, cols = part_around(preview._frame, *place)
    return array[..., rows, cols]


@pytest.mark.usefixtures('blocks')
@pytest.mark.parametrize('changes', [
    {'strength': 0.6, 'strength_coarse': 0.9, 'keep_grain': 0.3},
    {'tile_size': 64, 'overlap': 0.5, 'precision': 'bfloat16'},
])  # fmt: skip
def test_a_part_has_the_bits_of_the_whole(frame, changes):
    keys = KEYS | changes
    whole, preview = denoise(frame, **keys), Preview(frame, **keys)
    for place in PLACES:
        part = preview.cutout(*place)
        assert part.shape == (place[2], place[2])
        assert_array_equal(part, cut(whole, preview, place))


@pytest.mark.filterwarnings('ignore::astrodenoise.exceptions.LimitedWarning')
def test_what_is_held_back_in_a_part_is_nearly_that_of_the_whole(frame, monkeypatch):
    """Bounds are measured in the surroundings: where they bind, another part has others."""
    monkeypatch.setattr(sections, 'BLOCK', 128)
    keys = KEYS | {'limit': 3.0}
    whole, preview = denoise(frame, **keys), Preview(frame, **keys)
    n_limited, change = 0, []
    for place in PLACES:
        part = preview.cutout(*place)
        change.append((part - cut(whole, preview, place)).ravel())
        n_limited += np.count_nonzero(part - cut(denoise(frame, **KEYS), preview, place))
    assert n_limited > 100
    assert np.sqrt(np.mean(np.concatenate(change) ** 2)) < 0.02 * 9


def test_parts_of_colour_and_of_any_width(frame):
    colour = np.stack([frame, field(5), field(6)])
    keys = {'channels': 'joint', 'strength': 0.6, 'strength_chroma': 1.0, 'model': 'fast',
            'limit': None}  # fmt: skip
    whole, preview = denoise(colour, **keys), Preview(colour, **keys)
    part = preview.cutout(200, 100, 70, 40)
    assert part.shape == (3, 40, 70)
    assert_array_equal(part, whole[:, 80:120, 165:235])
    assert preview.cutout(5, 5, 1000, 20).shape == (3, 20, 380)  # as wide as the frame is


def test_stars_are_kept_in_a_part(frame):
    for mask in (True, (frame > 800).astype(np.float32)):
        keys = KEYS | {'star_mask': mask}
        whole, preview = denoise(frame, **keys), Preview(frame, **keys)
        part = preview.cutout(150, 200, 80)
        expected = cut(whole, preview, (150, 200, 80))
        if mask is True:  # what is found depends on its surroundings
            assert np.sqrt(np.mean((part - expected) ** 2)) < 0.02 * 9
        else:
            assert_array_equal(part, expected)


def test_parts_of_a_mosaic_begin_with_its_pattern(frame):
    mosaic = frame[:419, :379]
    whole = denoise(CCDData(mosaic, unit='adu'), bayer='GRBG', **KEYS)
    preview = Preview(CCDData(mosaic, unit='adu'), bayer='GRBG', **KEYS)
    for x, y, size in ((151, 201, 64), (378, 418, 31)):
        part = preview.cutout(x, y, size)
        x0, y0, width, height = (record := read_provenance(part))['part']
        assert (x0 % 2, y0 % 2) == (0, 0)
        assert size <= width <= size + 2
        assert_array_equal(part.data, whole.data[y0 : y0 + height, x0 : x0 + width])
        planes = [plane['invalid'] for plane in record['planes']]
        assert planes == [plane['invalid'] for plane in read_provenance(whole)['planes']]
        assert record['bayer'] == 'GRBG'


def make_ccd(frame):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crpix = ('RA---TAN', 'DEC--TAN'), (100.5, 200.25)
    wcs.wcs.cdelt, wcs.wcs.crval = (-1e-4, 1e-4), (202.0, 47.0)
    header = wcs.to_header()
    header['LTV1'], header['LTV2'], header['OBJECT'] = -3.0, 7.0, 'made'
    mask = np.zeros(SHAPE, bool)
    mask[100:104, 30:200] = True
    sigma = np.sqrt(np.maximum(frame, 300) / 6)
    return CCDData(frame, unit='adu', mask=mask, uncertainty=StdDevUncertainty(sigma), meta=header)


@pytest.mark.parametrize('uncertainty', ['keep', 'predict', None])
def test_a_part_keeps_what_belongs_to_it(frame, uncertainty):
    ccd = make_ccd(frame)
    before = copy.deepcopy(ccd)
    whole = denoise(ccd, uncertainty=uncertainty, noise='measure', **KEYS)
    part = Preview(ccd, uncertainty=uncertainty, noise='measure', **KEYS).cutout(120, 110, 60, 40)
    assert type(part) is CCDData
    at = np.s_[90:130, 90:150]
    assert_array_equal(part.data, whole.data[at])
    assert_array_equal(part.mask, ccd.mask[at])
    if uncertainty is None:
        assert part.uncertainty is None
    else:
        assert_array_equal(part.uncertainty.array, whole.uncertainty.array[at])
    assert part.unit == u.adu
    record = read_provenance(part)
    assert record.pop('part') == [90, 90, 60, 40]
    expected = read_provenance(whole)
    for planes in (record['planes'], expected['planes']):
        planes[0].pop('limited')
    assert record == expected
    # the same pixel is at the same place of the sky
    assert (part.meta['LTV1'], part.meta['LTV2'], part.meta['OBJECT']) == (-93, -83, 'made')
    worlds = [WCS(one.meta).pixel_to_world_values(x, y) for one, x, y in
              ((ccd, 97, 111), (part, 7, 21))]  # fmt: skip
    assert_allclose(*worlds, rtol=1e-12)
    assert ccd.meta.tostring() == before.meta.tostring()
    assert_array_equal(ccd.data, before.data)


@pytest.mark.parametrize(
    'kind', [lambda a: a * u.Jy, lambda a: np.ma.MaskedArray(a, a > 1400), NDData, np.float64]
)
def test_parts_are_of_the_kind_of_the_frame(frame, kind):
    whole = kind(frame)
    part, expected = Preview(whole, **KEYS).cutout(150, 200, 30), denoise(whole, **KEYS)
    assert type(part) is type(expected)
    pixels = [np.ma.getdata(np.asanyarray(getattr(one, 'data', one))) for one in (part, expected)]
    assert_array_equal(np.asarray(pixels[0]), np.asarray(pixels[1])[185:215, 135:165])


@pytest.mark.parametrize(
    ('place', 'error', 'text'),
    [
        ((380, 5, 10), ValueError, 'x must be 0 to 379 in this frame, got 380'),
        ((5, -1, 10), ValueError, 'y must be 0 to 419'),
        ((5, 5, 0), ValueError, 'size must be at least 1'),
        ((5.5, 5, 10), TypeError, 'x must be a whole number'),
        ((5, 5, True), TypeError, 'size must be a whole number'),
    ],
)
def test_wrong_places_are_refused(frame, place, error, text):
    with pytest.raises(error, match=text):
        part_around(open_frame(frame), *place)


def test_what_a_preview_refuses(frame):
    da = pytest.importorskip('dask.array')
    with pytest.raises(TypeError, match=r'denoise\(ccd\)\[y0:y1, x0:x1\]'):
        Preview(da.from_array(frame))
    with pytest.raises(ValueError, match='strength must be from 0 to 1'):
        Preview(frame, strength=2)
    with pytest.raises(TypeError, match='frobnicate'):
        Preview(frame, frobnicate=2)


def test_cards_that_cannot_be_read_stay():
    part = slice(20, 40), slice(30, 60)
    cards = ('CRPIX1  =  100.5 / centre', 'CRPIX2A =  7', 'CRPIX1  = what', 'CRVAL1  = 5.0',
             "CRPIX2  = 'text'")  # fmt: skip
    moved = moved_cards([card.ljust(80) for card in cards], part)
    assert [len(card) for card in moved] == 5 * [80]
    assert fits.Card.fromstring(moved[0]).value == 70.5
    assert fits.Card.fromstring(moved[0]).comment == 'centre'
    assert fits.Card.fromstring(moved[1]).value == -13
    assert [card.rstrip() for card in moved[2:]] == list(cards[2:])


# what was found in a look


@pytest.mark.usefixtures('blocks')
@pytest.mark.parametrize('mosaic', [False, True])
def test_a_saved_look_tells_the_same(frame, mosaic, tmp_path):
    ccd = make_ccd(frame)
    ccd.uncertainty = None
    bayer = 'RGGB' if mosaic else None
    opened = as_mosaic(open_frame(ccd), bayer)
    key = frame_key(opened)
    known = survey_frame(opened, None)
    path = tmp_path / 'noise.json'
    path.write_text(known_text(opened, known, key))
    noise, known_of = read_noise_file(path)
    assert noise.to_json() == FrameNoise(tuple(one.noise for one in known), 'adu').to_json()
    assert FrameNoise.from_json(path.read_text()).to_json() == noise.to_json()
    again = as_mosaic(open_frame(ccd), bayer)
    found = known_of(frame_key(again), None)
    assert len(found) == len(known)
    for one, other in zip(found, known, strict=True):
        for name in ('tilt', 'light', 'counts', 'n_pixels', 'constant'):
            assert getattr(one, name) == getattr(other, name), name
    # of other pixels, another mask, another saturation it is the noise alone
    assert known_of(frame_key(again), 900.0) is None
    ccd.mask[0, 0] = True
    assert known_of(frame_key(as_mosaic(open_frame(ccd), bayer)), None) is None
    ccd.mask[0, 0] = False
    ccd.data = ccd.data.copy()
    ccd.data[0, 0] += 1
    assert known_of(frame_key(as_mosaic(open_frame(ccd), bayer)), None) is None


def test_a_noise_of_each_pixel_is_not_saved(frame):
    ccd = make_ccd(frame)
    opened = open_frame(ccd)
    key = frame_key(opened)
    with pytest.raises(ValueError, match='sigma'):
        known_text(opened, survey_frame(opened, None), key)


@pytest.mark.parametrize(
    'text', ['', '{}', '[1]', '{"unit": "", "planes": [{"a": 1}]}', '{"planes"']
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / 'noise.json'
    path.write_text(text)
    with pytest.raises(noisefiles.FrameError, match='is no noise that --save-noise'):
        read_noise_file(path)
    with pytest.raises(noisefiles.FrameError, match='cannot be read: No such file'):
        read_noise_file(tmp_path / 'missing.json')


# the command line


@pytest.fixture
def source(frame, tmp_path):
    ccd = make_ccd(frame)
    hdus = [fits.PrimaryHDU(frame, ccd.meta), fits.ImageHDU(ccd.mask.astype('u1'), name='MASK')]
    fits.HDUList(hdus).writeto(tmp_path / 'in.fits')
    return tmp_path / 'in.fits'


@pytest.mark.usefixtures('blocks')
def test_preview_of_a_file(source, tmp_path, monkeypatch):
    whole, part, again = (tmp_path / f'{name}.fits' for name in ('whole', 'part', 'again'))
    noise = tmp_path / 'noise.json'
    shares = ('--strength', 0.7, '--strength-coarse', 1)
    assert run('denoise', source, '-o', whole, *FAST, *shares) == 0
    place = ('--preview', '310,200,60x40')
    assert run('denoise', source, '-o', part, *place, '--save-noise', noise, *FAST, *shares) == 0
    data, header = fits.getdata(part, header=True)
    assert_array_equal(data, fits.getdata(whole)[180:220, 280:340])
    with fits.open(part) as hdus:
        assert len(hdus) == 1
        hdus.verify('exception')
    original = fits.getheader(source)
    assert header['CRPIX1'] == original['CRPIX1'] - 280
    assert header['CRPIX2'] == original['CRPIX2'] - 180
    assert header['LTV1'] == original['LTV1'] - 280
    worlds = [WCS(one).pixel_to_world_values(x, y) for one, x, y in
              ((original, 285, 190), (header, 5, 10))]  # fmt: skip
    assert_allclose(*worlds, rtol=1e-12)
    assert read_provenance(header)['part'] == [280, 180, 60, 40]
    # with what was saved, the frame is not measured again: for parts, and for the whole
    monkeypatch.setattr(preparation, 'survey_frame', None)
    assert run('denoise', source, '-o', again, *place, '--noise-file', noise, *FAST, *shares) == 0
    assert again.read_bytes() == part.read_bytes()
    full = tmp_path / 'full.fits'
    assert run('denoise', source, '-o', full, '--noise-file', noise, *FAST, *shares) == 0
    assert full.read_bytes() == whole.read_bytes()


def test_noise_of_another_frame_is_its_noise(source, tmp_path, frame):
    noise, other = tmp_path / 'noise.json', tmp_path / 'other.fits'
    assert run('denoise', source, '-o', tmp_path / 'a.fits', '--save-noise', noise, *FAST) == 0
    fits.PrimaryHDU(field(9) + 3, fits.Header([('BUNIT', 'adu')])).writeto(other)
    for saved in ('--noise-file', noise), ():
        out = tmp_path / f'out{len(saved)}.fits'
        assert run('denoise', other, '-o', out, *saved, *FAST) == 0
    expected = denoise(CCDData(field(9) + 3, unit='adu'),
                       noise=FrameNoise.from_json(noise.read_text()), **KEYS)  # fmt: skip
    assert_array_equal(fits.getdata(tmp_path / 'out2.fits'), expected.data)
    assert (fits.getdata(tmp_path / 'out0.fits') != expected.data).any()


def test_large_files_are_saved_alike(source, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, 'PANEL', 128)
    files = []
    for large in (2**24, 1000):
        monkeypatch.setattr(frametasks, 'LARGE', large)
        out, noise = tmp_path / f'{large}.fits', tmp_path / f'{large}.json'
        assert run('denoise', source, '-o', out, '--save-noise', noise, *FAST) == 0
        files.append((out.read_bytes(), json.loads(noise.read_text())))
    assert files[0] == files[1]


def test_preview_of_a_picture(tmp_path, frame):
    pixels = np.clip(np.stack([frame, field(5), field(6)], axis=-1) / 6, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'in.png')
    options = ('--model', 'fast', '-q', '--limit', 1000)
    assert run('denoise', tmp_path / 'in.png', '-o', tmp_path / 'whole.png', *options) == 0
    place = ('--preview', '100,90,50')
    assert run('denoise', tmp_path / 'in.png', '-o', tmp_path / 'part.png', *place, *options) == 0
    whole, part = (np.asarray(Image.open(tmp_path / f'{n}.png')) for n in ('whole', 'part'))
    assert_array_equal(part, whole[65:115, 75:125])


def test_preview_of_xisf_is_fits(tmp_path, frame, capsys):
    source = make_xisf(tmp_path / 'in.xisf', frame / 2000)
    options = ('--model', 'fast', '-q', '--saturation', 0.75)
    assert run('denoise', source, '-o', tmp_path / 'whole.xisf', *options) == 0
    place = ('--preview', '100,90,50')
    assert run('denoise', source, '-o', tmp_path / 'part.fits', *place, *options) == 0
    whole, _ = read_frame(tmp_path / 'whole.xisf')
    with fits.open(tmp_path / 'part.fits') as hdus:
        hdus.verify('exception')
        assert_array_equal(hdus[0].data, whole.data[65:115, 75:125])
        assert hdus[0].header['CRPIX1'] == 50.5 - 75
        assert hdus[0].header['OBJECT'] == 'made'
    assert run('denoise', source, '-o', tmp_path / 'part.xisf', *place, *options) == 1
    assert 'is written as FITS: give a name that ends in .fits' in capsys.readouterr().err


def make_xisf(path, data):
    """Write a grey XISF file with a few keywords."""
    height, width = data.shape
    words = ''.join(
        f'<FITSKeyword name="{name}" value="{value}" comment=""/>'
        for name, value in (('CRPIX1', 50.5), ('OBJECT', "'made'"))
    )
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">'
        f'<Image geometry="{width}:{height}:1" sampleFormat="Float32" bounds="0:1" '
        f'colorSpace="Gray" location="attachment:4096:{data.nbytes}">{words}</Image></xisf>'
    ).encode()
    start = b'XISF0100' + len(head).to_bytes(4, 'little') + bytes(4) + head
    path.write_bytes(start.ljust(4096, b'\0') + data.astype('<f4').tobytes())
    return path


@pytest.mark.parametrize(
    ('options', 'status', 'text'),
    [
        (('--preview', '5,5'), 2, 'must be X,Y,SIZE or X,Y,WIDTHxHEIGHT'),
        (('--preview', '5,5,0'), 2, 'must be X,Y,SIZE'),
        (('--preview', '5,5,9', '--residual', 'r.fits'), 2, 'gives a part of the image'),
        (('--preview', '5,5,9', '--resume'), 2, 'gives a part of the image'),
        (('--preview', '5,500,9'), 1, 'in.fits: y must be 0 to 419 in this frame, got 500'),
        (('--noise-file', 'n.json', '--noise', '5'), 2, 'the noise is given twice'),
        (('--noise-file', 'missing.json'), 1, 'missing.json: cannot be read'),
        (('--save-noise', 'in.fits'), 1, 'in.fits: the file exists'),
        (('--save-noise', 'no/n.json'), 1, 'no/n.json: there is no folder'),
    ],
)
def test_wrong_usage(source, tmp_path, monkeypatch, capsys, options, status, text):
    monkeypatch.chdir(tmp_path)
    assert run('denoise', 'in.fits', '-o', 'out.fits', *FAST, *options) == status
    assert text in capsys.readouterr().err
    assert not (tmp_path / 'out.fits').exists()


def test_noise_is_saved_of_one_input(source, tmp_path, capsys):
    arguments = (source, source.parent / 'b.fits', '-o', f'{tmp_path}/out/')
    assert run('denoise', *arguments, '--save-noise', 'n.json') == 2
    assert 'is of one input, and there are 2' in capsys.readouterr().err
