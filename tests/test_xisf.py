# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of XISF: read as others read it, written so that nothing but the pixels changes."""

import contextlib
import hashlib
import re
import struct
import sys
import tracemalloc
import xml.etree.ElementTree as ET
import zlib

import hypothesis
import hypothesis.strategies as st
import lz4.block
import numpy as np
import pytest
import tifffile
import zstandard
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from xisf import XISF

from astrodenoise import denoise, read_provenance
from astrodenoise.blending import blend_files
from astrodenoise.cli import main
from astrodenoise.exceptions import AlreadyDenoisedWarning, ClippedWarning, MosaicWarning
from astrodenoise.filecontext import FrameError
from astrodenoise.files import check_output, frame_writer, open_frames, read_frame, write_frame
from astrodenoise.pictures import at_depth
from helpers import examples

FORMATS = {'u1': 'UInt8', 'u2': 'UInt16', 'u4': 'UInt32', 'f4': 'Float32', 'f8': 'Float64'}
NAMESPACE = '{http://www.pixinsight.com/xisf}'
PACKERS = {
    'zlib': zlib.compress,
    'lz4': lambda data: lz4.block.compress(data, store_size=False),
    'lz4hc': lambda data: lz4.block.compress(data, mode='high_compression', store_size=False),
    'zstd': lambda data: zstandard.compress(data, level=3),
}
KEYWORDS = """
<FITSKeyword name="SIMPLE" value="T" comment="file does conform to FITS standard"/>
<FITSKeyword name="OBJECT" value="'M 51''s arm'" comment="what was aimed at"/>
<FITSKeyword name="EXPTIME" value="300." comment="[s] exposure"/>
<FITSKeyword name="GAIN" value="100" comment=""/>
<FITSKeyword name="CTYPE1" value="'RA---TAN'" comment=""/>
<FITSKeyword name="CTYPE2" value="'DEC--TAN'" comment=""/>
<FITSKeyword name="CRPIX1" value="20.5" comment=""/>
<FITSKeyword name="CRPIX2" value="15.5" comment=""/>
<FITSKeyword name="CRVAL1" value="202.47" comment=""/>
<FITSKeyword name="CRVAL2" value="47.195" comment=""/>
<FITSKeyword name="CD1_1" value="-2.8E-04" comment=""/>
<FITSKeyword name="CD2_2" value="2.8E-04" comment=""/>
<FITSKeyword name="HISTORY" value="" comment="Calibration with PixInsight"/>
<FITSKeyword name="a key that is &lt;odd&gt;" value="&quot;x&quot; &amp; Ž" comment="kept"/>
"""


def shuffled(data, item):
    return np.frombuffer(data, np.uint8).reshape(-1, item).T.tobytes()


def image_block(data, *, storage='Planar', codec=None, order='<', parts=1, checksum=None):
    """Give an image's block and its attributes, made here and not with the code under test."""
    stack = data if data.ndim == 3 else data[None]
    channels, height, width = stack.shape
    code = data.dtype.str[1:]
    attributes = {
        'geometry': f'{width}:{height}:{channels}',
        'sampleFormat': FORMATS[code],
        'colorSpace': 'RGB' if channels == 3 else 'Gray',
        'pixelStorage': storage,
    }
    if code[0] == 'f':
        attributes['bounds'] = '0:1'
    if order == '>':
        attributes['byteOrder'] = 'big'
    block = (np.moveaxis(stack, 0, -1) if storage == 'Normal' else stack).astype(order + code)
    block = block.tobytes()
    if codec is not None:
        name, _, shuffle = codec.partition('+')
        item = data.dtype.itemsize
        attributes['compression'] = f'{codec}:{len(block)}' + (f':{item}' if shuffle else '')
        whole = shuffled(block, item) if shuffle else block
        step = -(-len(whole) // parts)
        pieces = [whole[i : i + step] for i in range(0, len(whole), step)]
        packed = [PACKERS[name](piece) for piece in pieces]
        if len(pieces) > 1:
            pairs = zip(packed, pieces, strict=True)
            attributes['subblocks'] = ':'.join(f'{len(p)},{len(q)}' for p, q in pairs)
        block = b''.join(packed)
    if checksum is not None:
        name = checksum.replace('sha-', 'sha').replace('-', '_')
        attributes['checksum'] = f'{checksum}:{hashlib.new(name, block).hexdigest()}'
    return block, attributes


def make_xisf(path, images, *, inside=KEYWORDS, beside=''):
    """Write an XISF file with one profile per image and one attached property for all."""
    profile, values = b'profile of a camera' * 9, np.arange(1000.0).tobytes()
    blocks, texts, place = [], [], 16384
    for number, (block, attributes) in enumerate(images):
        attributes = {'id': f'image{number}'} | attributes
        places = []
        for content in (block, profile):
            places.append(f'attachment:{place}:{len(content)}')
            blocks.append((place, content))
            place += len(content) + 13  # not aligned: nobody is obliged to
        pairs = ' '.join(f'{name}="{value}"' for name, value in attributes.items())
        texts.append(
            f'<Image {pairs} location="{places[0]}">{inside}'
            f'<ICCProfile location="{places[1]}"/>'
            '<Resolution horizontal="72" vertical="72" unit="inch"/>'
            '<Property id="Instrument:Camera:Name" type="String">ASI &amp; co</Property></Image>'
        )
    blocks.append((place, values))
    header = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- Extensible Image Serialization Format -->\n'
        f'<xisf version="1.0" xmlns="{NAMESPACE[1:-1]}">{"".join(texts)}{beside}'
        f'<Property id="Table" type="F64Vector" length="1000" '
        f'location="attachment:{place}:{len(values)}"/>'
        '<Metadata><Property id="XISF:CreatorApplication" type="String">test</Property></Metadata>'
        '</xisf>'
    ).encode()
    content = bytearray(b'XISF0100' + struct.pack('<II', len(header), 0) + header)
    assert len(content) < 16384
    for start, block in blocks:
        content += bytes(start - len(content)) + block
    path.write_bytes(content)
    return path


def xml_of(path):
    content = path.read_bytes()
    return ET.fromstring(content[16 : 16 + struct.unpack('<I', content[8:12])[0]])


def stripped(path):
    """Give all elements of a header but those of a record, with their blocks for their places."""
    content = path.read_bytes()
    found = []
    for element in xml_of(path).iter():
        attributes = dict(element.attrib)
        name = attributes.get('name', '')
        is_ours = attributes.get('comment', '').startswith(('astrodenoise ', 'true of the frame'))
        if is_ours or name in ('DENOISE', 'DENOISED'):
            continue
        if element.tag != f'{NAMESPACE}Image' and 'location' in attributes:
            _, start, length = attributes['location'].split(':')
            attributes['location'] = content[int(start) : int(start) + int(length)]
        for key in ('location', 'compression', 'subblocks', 'checksum'):
            if element.tag == f'{NAMESPACE}Image':
                attributes.pop(key, None)
        found.append((element.tag, attributes, (element.text or '').strip()))
    return found


def noisy(dtype='f4', shape=(48, 64), seed=1):
    """Give a frame with some stars, in the range of its type."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0.2, 0.01, shape)
    data[..., 20:23, 30:33] += 0.5
    data = np.clip(data, 0, 1)
    top = 1 if dtype[0] == 'f' else np.iinfo(dtype).max
    return (data * top).astype(dtype)


LAYOUTS = st.fixed_dictionaries(
    {
        'storage': st.sampled_from(['Planar', 'Normal']),
        'codec': st.sampled_from([None, *PACKERS, *(f'{name}+sh' for name in PACKERS)]),
        'order': st.sampled_from('<>'),
        'parts': st.integers(1, 3),
        'checksum': st.sampled_from([None, 'sha-1', 'sha-256', 'sha3-512']),
    }
)


@hypothesis.given(
    layout=LAYOUTS,
    code=st.sampled_from([*FORMATS]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    colour=st.booleans(),
    seed=st.integers(0, 99),
)
@examples(100)
def test_any_layout_comes_back(tmp_path_factory, layout, code, size, colour, seed):
    """All pixels are read, written unchanged, and nothing else of the file is changed."""
    folder = tmp_path_factory.mktemp('xisf')
    data = noisy(code, (3, *size) if colour else size, seed) if min(size) > 33 else (
        np.random.default_rng(seed).random((3, *size) if colour else size) * 200
    ).astype(code)  # fmt: skip
    source = make_xisf(folder / 'in.xisf', [image_block(data, **layout)])
    ccd, context = read_frame(source)
    assert ccd.data.dtype == data.dtype
    assert context.channels == ('joint' if colour else None)
    assert_array_equal(ccd.data, data)
    write_frame(folder / 'out.xisf', ccd, context)
    again, _ = read_frame(folder / 'out.xisf')
    assert_array_equal(again.data, data)
    assert repr(again.meta) == repr(ccd.meta)
    assert stripped(folder / 'out.xisf') == stripped(source)
    old, new = (next(xml_of(folder / name).iter(f'{NAMESPACE}Image')).attrib
                for name in ('in.xisf', 'out.xisf'))  # fmt: skip
    for name in ('compression', 'checksum', 'pixelStorage', 'byteOrder'):
        assert new.get(name, '').partition(':')[0] == old.get(name, '').partition(':')[0]


@pytest.mark.parametrize('code', [*FORMATS])
@pytest.mark.parametrize('colour', [False, True])
@pytest.mark.parametrize('codec', [None, 'zlib', 'lz4', 'lz4hc', 'zstd'])
def test_the_package_xisf_reads_and_writes_the_same(tmp_path, code, colour, codec):
    """Another program reads what we write, and we read what it writes."""
    data = noisy(code, (3, 48, 64) if colour else (48, 64))
    pixels = np.moveaxis(data, 0, -1) if colour else data[..., None]
    keywords = {
        'OBJECT': [{'value': 'M 51', 'comment': 'aim'}],
        'HISTORY': [{'value': '', 'comment': 'one'}, {'value': '', 'comment': 'two'}],
    }
    source = tmp_path / 'in.xisf'
    XISF.write(
        str(source), np.ascontiguousarray(pixels), creator_app='test', codec=codec,
        shuffle=codec is not None, image_metadata={'FITSKeywords': keywords},
    )  # fmt: skip
    ccd, context = read_frame(source)
    assert_array_equal(ccd.data, data)
    assert ccd.meta['OBJECT'] == 'M 51'
    assert list(ccd.meta['HISTORY']) == ['one', 'two']
    clean = ccd.copy()
    clean.data = ccd.data // 2 if code[0] == 'u' else ccd.data / 2
    clean.meta['DENOISED'] = True
    write_frame(tmp_path / 'out.xisf', clean, context)
    theirs = XISF(str(tmp_path / 'out.xisf'))
    assert_array_equal(theirs.read_image(0), np.moveaxis(clean.data, 0, -1) if colour
                       else clean.data[..., None])  # fmt: skip
    found = theirs.get_images_metadata()[0]['FITSKeywords']
    assert found['DENOISED'][0]['value'] == 'T'
    assert [entry['comment'] for entry in found['HISTORY']] == ['one', 'two']


def test_header_of_a_frame(tmp_path):
    """FITS keywords become the header, with their types, and its world coordinates."""
    ccd, _ = read_frame(make_xisf(tmp_path / 'in.xisf', [image_block(noisy())]))
    assert ccd.meta['OBJECT'] == "M 51's arm"
    assert ccd.meta.comments['OBJECT'] == 'what was aimed at'
    assert ccd.meta['EXPTIME'] == 300.0
    assert ccd.meta['GAIN'] == 100
    assert isinstance(ccd.meta['GAIN'], int)
    assert ccd.meta['SIMPLE'] is True
    assert list(ccd.meta['HISTORY']) == ['Calibration with PixInsight']
    assert ccd.unit == 'adu'
    sky = WCS(ccd.meta).pixel_to_world(19.5, 14.5)
    assert_allclose([sky.ra.deg, sky.dec.deg], [202.47, 47.195])


def test_raw_mosaic(tmp_path):
    """The pattern of a colour filter array is known, and nothing of it is written twice."""
    filters = '<ColorFilterArray pattern="GBRG" width="2" height="2" name="bayer"/>'
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy('u2'))], inside=filters)
    ccd, context = read_frame(source)
    with pytest.warns(MosaicWarning, match='GBRG'):
        clean = denoise(ccd)
    write_frame(tmp_path / 'out.xisf', clean, context)
    assert stripped(tmp_path / 'out.xisf') == stripped(source)


@pytest.mark.parametrize(('level', 'known'), [(65535, None), (0.9, 0.9)])
def test_saturation_of_another_range(tmp_path, level, known):
    """A level in the numbers of the camera says nothing of pixels from 0 to 1; its card stays."""
    card = f'<FITSKeyword name="SATURATE" value="{level}" comment=""/>'
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy())], inside=card)
    ccd, context = read_frame(source)
    assert ccd.meta.get('SATURATE') == known
    write_frame(tmp_path / 'out.xisf', ccd, context)
    assert stripped(tmp_path / 'out.xisf') == stripped(source)


@pytest.mark.parametrize('codec', ['zlib', 'lz4+sh', 'zstd+sh'])
def test_blocks_too_large_for_one_run_of_a_codec(tmp_path, monkeypatch, codec):
    """They are packed in parts, whose sizes are written and read."""
    monkeypatch.setattr('astrodenoise.xisfblocks._LARGEST', 5000)
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy(), codec=codec)])
    write_frame(tmp_path / 'out.xisf', *read_frame(source))
    image = next(xml_of(tmp_path / 'out.xisf').iter(f'{NAMESPACE}Image'))
    assert len(image.get('subblocks').split(':')) == 3
    assert_array_equal(read_frame(tmp_path / 'out.xisf')[0].data, noisy())


def test_denoised_file(tmp_path):
    """The record is in the file and reads back; a second run warns and adds its own."""
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy(), codec='lz4+sh')])
    ccd, context = read_frame(source)
    clean = denoise(ccd)
    write_frame(tmp_path / 'out.xisf', clean, context)
    once, context = read_frame(tmp_path / 'out.xisf')
    assert_array_equal(once.data, clean.data)
    assert once.data[:10].std() < 0.8 * ccd.data[:10].std()
    assert once.meta['DENOISE'] == clean.meta['DENOISE']
    assert read_provenance(once) == read_provenance(clean)
    assert repr(WCS(once.meta)) == repr(WCS(ccd.meta))
    assert stripped(tmp_path / 'out.xisf') == stripped(source)
    with pytest.warns(AlreadyDenoisedWarning):
        twice = denoise(once, strength=0.5)
    write_frame(tmp_path / 'twice.xisf', twice, context)
    final, _ = read_frame(tmp_path / 'twice.xisf')
    assert [r['strength'] for r in read_provenance(final, every=True)] == [1.0, 0.5]
    names = [e.get('name') for e in xml_of(tmp_path / 'twice.xisf').iter()]
    assert (names.count('DENOISED'), names.count('DENOISE')) == (1, 1)


def test_image_without_content(tmp_path):
    """An element that ends with its start tag is opened for its first keywords."""
    block, attributes = image_block(noisy())
    pairs = ' '.join(f'{name}="{value}"' for name, value in attributes.items())
    header = (
        f'<x:xisf version="1.0" xmlns:x="{NAMESPACE[1:-1]}"><x:Image {pairs} '
        f'location="attachment:4096:{len(block)}"/></x:xisf>'
    ).encode()
    content = b'XISF0100' + struct.pack('<II', len(header), 0) + header
    path = tmp_path / 'in.xisf'
    path.write_bytes(content + bytes(4096 - len(content)) + block)
    ccd, context = read_frame(path)
    ccd.meta['OBJECT'] = ('M "51" & <co>', 'a comment')
    ccd.meta.add_history('seen')
    write_frame(tmp_path / 'out.xisf', ccd, context)
    (image,) = xml_of(tmp_path / 'out.xisf')
    assert [child.tag for child in image] == [f'{NAMESPACE}FITSKeyword'] * 2
    again, _ = read_frame(tmp_path / 'out.xisf')
    assert again.meta['OBJECT'] == 'M "51" & <co>'
    assert list(again.meta['HISTORY']) == ['seen']


def test_signature_of_the_old_file_is_left_out(tmp_path):
    """It holds for the bytes that were signed; all else beside the image stays."""
    signature = '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/></Signature>'
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy())], beside=signature)
    write_frame(tmp_path / 'out.xisf', *read_frame(source))
    assert any(element.tag.endswith('}Signature') for element in xml_of(source))
    names = [element.tag for element in xml_of(source) if not element.tag.endswith('}Signature')]
    assert [element.tag for element in xml_of(tmp_path / 'out.xisf')] == names


def three_images(tmp_path):
    """Write a stacked frame, a map of its rejected pixels, and another frame."""
    layouts = [{}, {'codec': 'zlib+sh'}, {'codec': 'zstd'}]
    images = [
        image_block(noisy(seed=number), **layout) for number, layout in enumerate(layouts)
    ]
    for (_, attributes), name in zip(images, ('integration', 'rejection_high', 'Ha'), strict=True):
        attributes['id'] = name
    return make_xisf(tmp_path / 'in.xisf', images)


@pytest.mark.parametrize(
    ('ext', 'numbers'),
    [(None, [0]), (0, [0]), ('1', [1]), ('Ha', [2]), ('all', [0, 2]), (['Ha', 0], [0, 2])],
)
def test_several_images(tmp_path, ext, numbers):
    """The first frame, or those that are named; of the others not a byte is changed."""
    source = three_images(tmp_path)
    contexts, read = open_frames(source, ext=ext)
    assert [context.hdu for context in contexts] == numbers
    assert contexts[0].n_images == 2  # what was rejected is no frame of the sky
    with frame_writer(tmp_path / 'out.xisf', contexts) as writer:
        for context in contexts:
            ccd = read(context)
            assert_array_equal(ccd.data, noisy(seed=context.hdu))
            ccd.data = ccd.data + 1
            writer.write(ccd, context)
    for number in range(3):
        again, _ = read_frame(tmp_path / 'out.xisf', ext=number)
        assert_array_equal(again.data, noisy(seed=number) + (number in numbers))
    assert stripped(tmp_path / 'out.xisf') == stripped(source)


def test_no_such_image(tmp_path):
    """The images that are there are listed."""
    with pytest.raises(FrameError, match='has no image 7, only: 0 integration 64:48:1, 1 reject'):
        read_frame(three_images(tmp_path), ext=7)


def test_command_line(tmp_path, capsys):
    """XISF in, XISF out; other images and kinds are told of."""
    source = three_images(tmp_path)
    target = tmp_path / 'out.xisf'
    assert main(['denoise', str(source), '-o', str(target)]) == 0
    assert 'integration, the first of 2 images; --ext all takes all' in capsys.readouterr().out
    assert read_provenance(read_frame(target)[0])['strength'] == 1
    assert main(['denoise', str(source), '-o', str(tmp_path / 'out.fits')]) == 1
    assert 'give a name that ends in .xisf' in capsys.readouterr().err
    other = str(tmp_path / 'other.xisf')
    assert main(['denoise', str(source), '-o', other, '--uncertainty', 'predict']) == 1
    assert 'XISF has no place for a predicted error' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['in.xisf', 'in.png', 'in.tif'])
def test_resume_and_like(tmp_path, capsys, name):
    """What an output records of its settings is compared and taken over, as of FITS."""
    data = noisy('u2', (64, 80))
    source, out = tmp_path / name, tmp_path / f'out{name[2:]}'
    make_xisf(tmp_path / 'in.xisf', [image_block(data)])
    Image.fromarray(data).save(tmp_path / 'in.png')
    tifffile.imwrite(tmp_path / 'in.tif', data)
    call = ['denoise', str(source), '-o', str(out), '--resume', '--strength']
    assert main([*call, '0.5']) == 0
    before = out.read_bytes()
    assert main([*call, '0.5']) == 0
    assert 'skipped' in capsys.readouterr().out
    assert main([*call, '0.25']) == 1
    assert 'strength 0.5, asked 0.25' in capsys.readouterr().err
    assert main([*call, '0.5', '--depth', '32f']) == 1
    if name != 'in.png':
        assert 'pixels uint16, asked float32' in capsys.readouterr().err
    assert out.read_bytes() == before
    other = str(tmp_path / f'other{name[2:]}')
    assert main(['denoise', str(source), '-o', other, '--like', str(out)]) == 0
    assert read_provenance(read_frame(other)[0])['strength'] == 0.5
    out.write_bytes(before[:-300])
    assert main([*call, '0.5']) == 1
    assert 'file that can be used' in capsys.readouterr().err


def test_residual_and_star_mask(tmp_path, capsys):
    """Both are floating point, of the one image; another strength can be had from the residual."""
    data = noisy('u2', (64, 80))
    source = make_xisf(tmp_path / 'in.xisf', [image_block(data), image_block(data)])
    names = {name: str(tmp_path / f'{name}.xisf') for name in ('out', 'residual', 'mask', 'half')}
    assert main(['denoise', str(source), '-o', names['out'], '--residual', names['residual'],
                 '--mask', names['mask']]) == 0  # fmt: skip
    residual, mask = read_frame(names['residual'])[0], read_frame(names['mask'])[0]
    assert residual.data.dtype == mask.data.dtype == np.float32
    assert_allclose(residual.data, data - read_frame(names['out'])[0].data.astype(float), atol=0.51)
    assert mask.data.min() >= 0
    assert mask.data[21, 31] > 0.9
    for name in ('residual', 'mask'):
        images = [e for e in xml_of(tmp_path / f'{name}.xisf') if e.tag == f'{NAMESPACE}Image']
        assert len(images) == 1
        low, high = map(float, images[0].get('bounds').split(':'))
        pixels = read_frame(names[name])[0].data
        assert low <= pixels.min() + 1e-6
        assert high >= pixels.max() - 1e-6
    blend_files(source, names['residual'], names['half'], strength=0.5)
    half = read_frame(names['half'])[0]
    assert_allclose(half.data, data - 0.5 * residual.data.astype(float), atol=0.51)
    assert read_provenance(half)['strength'] == 0.5
    assert main(['denoise', str(source), '-o', str(tmp_path / 'stars.xisf'), '--star-mask',
                 names['mask']]) == 0  # fmt: skip


@pytest.mark.parametrize(('code', 'depth'), [('u1', '16'), ('u2', '32f'), ('u4', '32f')])
def test_greater_depth(tmp_path, code, depth):
    """The range of the old depth becomes that of the new one, and its bounds are said."""
    data = noisy(code)
    source = make_xisf(tmp_path / 'in.xisf', [image_block(data, codec='zlib+sh')])
    ccd, context = read_frame(source)
    write_frame(tmp_path / 'out.xisf', ccd, at_depth(context, depth))
    again, new = read_frame(tmp_path / 'out.xisf')
    top = 1 if depth == '32f' else 65535
    assert new.dtype == {'16': np.uint16, '32f': np.float32}[depth]
    assert_allclose(again.data, data.astype(float) * top / np.iinfo(code).max, rtol=1e-6)
    image = next(xml_of(tmp_path / 'out.xisf').iter(f'{NAMESPACE}Image'))
    assert image.get('bounds') == ('0:1' if top == 1 else None)
    assert_array_equal(XISF.read(str(tmp_path / 'out.xisf'))[..., 0], again.data)


def test_clipping_is_told(tmp_path):
    """Values outside the integers of the file are counted; floating point keeps them."""
    ccd, context = read_frame(make_xisf(tmp_path / 'in.xisf', [image_block(noisy('u2'))]))
    ccd.data = ccd.data.astype(np.float32)
    ccd.data[0, :3] = -7, 65536, np.nan
    with pytest.warns(ClippedWarning, match=r'3 of 3072 .* outside 0 to 65535'):
        write_frame(tmp_path / 'out.xisf', ccd, context)
    assert_array_equal(read_frame(tmp_path / 'out.xisf')[0].data[0, :3], [0, 65535, 0])
    source = make_xisf(tmp_path / 'float.xisf', [image_block(noisy() * 2 - np.float32(0.3))])
    ccd, context = read_frame(source)
    write_frame(tmp_path / 'same.xisf', ccd, context)
    assert_array_equal(read_frame(tmp_path / 'same.xisf')[0].data, noisy() * 2 - np.float32(0.3))


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'geometry': '64:48:2'}, 'has an alpha channel .*remove it'),
        ({'geometry': '64:48:4', 'colorSpace': 'RGB'}, 'has an alpha channel'),
        ({'geometry': '64:48:3', 'colorSpace': 'CIELab'}, 'colours are CIELab; convert it to RGB'),
        ({'geometry': '4:4:4:48'}, 'width, height, channels'),
        ({'sampleFormat': 'Complex32'}, 'samples are Complex32; save it as Float32'),
        ({'geometry': '64:48:1', 'colorSpace': 'RGB'}, 'cannot be read as XISF'),
        ({'geometry': 'wide'}, 'cannot be read as XISF'),
        ({'compression': 'bzip2:12288'}, "compression 'bzip2:12288'"),
        ({'compression': 'zlib+sh:12288'}, 'compression'),
        ({'compression': 'zlib:12288'}, 'cannot be read as XISF'),
        ({'compression': 'lz4:12288'}, 'cannot be read as XISF'),
        ({'compression': 'zstd:12288'}, 'cannot be read as XISF'),
        ({'compression': 'zlib:12288', 'subblocks': '5,6'}, 'do not sum up'),
        ({'checksum': 'sha-1:00'}, 'damaged: their sha-1 checksum'),
        ({'geometry': '65:48:1'}, '12480 bytes by its header, and 12288 are there'),
    ],
)
def test_refused_images(tmp_path, changes, reason):
    """What is no grey or RGB image, or damaged, is named with the file and what to do."""
    block, attributes = image_block(noisy())
    path = make_xisf(tmp_path / 'in.xisf', [(block, attributes | changes)])
    with pytest.raises(FrameError, match=reason) as caught:
        read_frame(path)
    assert str(caught.value).startswith(str(path))
    assert '\n' not in str(caught.value)


def test_pixels_elsewhere(tmp_path):
    """Pixels in another file, or as text in the header, are refused with what to do."""
    path = make_xisf(tmp_path / 'in.xisf', [image_block(noisy())])
    for location in ('path(@h/a.xisb):3', 'inline:base64', 'embedded'):
        content = re.sub(rb'attachment:16384:\d+', location.encode().ljust(22), path.read_bytes())
        (tmp_path / 'bad.xisf').write_bytes(content)
        with pytest.raises(FrameError, match='save it as one monolithic'):
            read_frame(tmp_path / 'bad.xisf')


@pytest.mark.parametrize('codec', [None, 'zlib', 'lz4+sh', 'zstd'])
def test_declared_size_takes_no_memory(tmp_path, codec):
    """An image of 14 GB by its header and of a few kB in truth is damaged, at once."""
    block, attributes = image_block(noisy(), codec=codec)
    attributes |= {'geometry': '60000:60000:1'}
    if codec is not None:
        item = ':4' if '+sh' in codec else ''
        attributes['compression'] = f'{codec}:14400000000{item}'
    path = make_xisf(tmp_path / 'in.xisf', [(block, attributes)])
    tracemalloc.start()
    with pytest.raises(FrameError, match='cannot be read as XISF'):
        read_frame(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize(
    ('start', 'reason'),
    [
        ('<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]>', 'declares a document type'),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">', 'declares a document type'),
        ('<open>', 'no XML'),
        ('not XML', 'no XML'),
        ('<other></other>', "'other', expected xisf"),
    ],
)
def test_headers_that_are_none(tmp_path, start, reason):
    """Document types, whose entities may grow without end, are not even looked into."""
    header = start.encode()
    (tmp_path / 'in.xisf').write_bytes(
        b'XISF0100' + struct.pack('<II', len(header), 0) + header
    )
    with pytest.raises(FrameError, match=reason):
        read_frame(tmp_path / 'in.xisf')


def test_cut_and_damaged_files(tmp_path, rng):
    """Wherever a file is cut, one error names it; other bytes never do worse."""
    source = make_xisf(
        tmp_path / 'in.xisf', [image_block(noisy(), codec='zlib+sh', checksum='sha-1')]
    )
    content, path = source.read_bytes(), tmp_path / 'bad.xisf'
    end = 16384 + len(image_block(noisy(), codec='zlib+sh')[0])
    for stop in (8, 12, 15, 16, 100, 3000, 16384, 16500, end - 1):
        path.write_bytes(content[:stop])
        with pytest.raises(FrameError, match='cannot be read as XISF'):
            read_frame(path)
    header_length = 16 + struct.unpack('<I', content[8:12])[0]
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(8, header_length, 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(FrameError):
            read_frame(path)


def test_lost_block_of_another_element(tmp_path):
    """A file that could not be written back whole is refused before the work."""
    source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy())])
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(FrameError, match='is truncated'):
        open_frames(source)


def test_missing_codecs(tmp_path, monkeypatch):
    """Without imagecodecs plain and zlib files work; the others say what to install."""
    monkeypatch.setitem(sys.modules, 'imagecodecs', None)
    for codec in (None, 'zlib+sh'):
        source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy(), codec=codec)])
        write_frame(tmp_path / 'out.xisf', *read_frame(source), overwrite=True)
    for codec in ('lz4', 'lz4hc+sh', 'zstd'):
        source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy(), codec=codec)])
        with pytest.raises(FrameError, match=r"imagecodecs: pip install 'astrodenoise\[images\]'"):
            read_frame(source)


def test_kinds_do_not_cross(tmp_path):
    """Rows run the other way in FITS, and world coordinates with them: it is not guessed."""
    _, context = read_frame(make_xisf(tmp_path / 'in.xisf', [image_block(noisy())]))
    for name in ('out.fits', 'out.tif', 'out.png'):
        with pytest.raises(FrameError, match=r'ends in \.xisf'):
            check_output(tmp_path / name, context)
    fits.PrimaryHDU(noisy()).writeto(tmp_path / 'in.fits')
    with pytest.raises(FrameError, match=r'ends in \.fits'):
        check_output(tmp_path / 'out.xisf', read_frame(tmp_path / 'in.fits')[1])


def test_strength_zero_changes_no_pixel(tmp_path):
    """Through the whole of the denoiser, in every type."""
    for code in FORMATS:
        source = make_xisf(tmp_path / 'in.xisf', [image_block(noisy(code), codec='lz4hc+sh')])
        ccd, context = read_frame(source)
        clean = denoise(ccd, strength=0)
        assert isinstance(clean, CCDData)
        write_frame(tmp_path / 'out.xisf', clean, context, overwrite=True)
        assert_array_equal(read_frame(tmp_path / 'out.xisf')[0].data, noisy(code))
