# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A corpus of files as they go wrong: cut, damaged, odd, of no sense; small and always the same."""

import gzip
import io
import re
import struct
import warnings
import zlib

import numpy as np
import tifffile
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

BLOCK = 2880
SHAPE = 72, 96
SKY, SIGMA = 500.0, 12.0


def scene(shape=SHAPE, seed=1, dtype=np.float32):
    """Draw a few stars over a noisy sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    stars = sum(
        flux * np.exp(-((y - cy * shape[-2]) ** 2 + (x - cx * shape[-1]) ** 2) / 4.5)
        for cy, cx, flux in ((0.3, 0.4, 900), (0.7, 0.2, 300), (0.5, 0.8, 2500))
    )
    return (SKY + stars + rng.normal(0, SIGMA, shape)).astype(dtype)


def saved(*hdus):
    """Give the bytes of a FITS file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', VerifyWarning)
        fits.HDUList(list(hdus)).writeto(stream, output_verify='ignore')
    return stream.getvalue()


def card(text):
    return text.ljust(80).encode('latin-1')


def raw(cards, data=b'', *, end=True, pad=True):
    """Give a file of any cards, standard or not."""
    head = b''.join(card(text) for text in cards) + (card('END') if end else b'')
    if pad:
        head = head.ljust(-(-len(head) // BLOCK) * BLOCK)
        data = data.ljust(-(-len(data) // BLOCK) * BLOCK, b'\0')
    return head + data


def image_cards(bitpix=-32, axes=SHAPE[::-1], **more):
    cards = ['SIMPLE  =                    T', f'BITPIX  = {bitpix:20}']
    cards += [f'NAXIS   = {len(axes):20}']
    cards += [f'NAXIS{i:<3d}= {n:20}' for i, n in enumerate(axes, start=1)]
    return cards + [f'{key:8}= {value!s:>20}' for key, value in more.items()]


def big_endian(array):
    return array.astype(array.dtype.newbyteorder('>')).tobytes()


def changed(data, old, new):
    """Replace a card's text by another of the same length."""
    assert data.count(old) >= 1
    return data.replace(old, new.ljust(len(old))[: len(old)], 1)


GOOD = saved(fits.PrimaryHDU(scene()))
WITH_PLANES = saved(
    fits.PrimaryHDU(),
    fits.ImageHDU(scene(), name='SCI'),
    fits.ImageHDU(np.full(SHAPE, SIGMA, np.float32), name='ERR'),
    fits.ImageHDU(np.zeros(SHAPE, np.int16), name='DQ'),
)


def packed(kind, dtype=np.float32, **options):
    """Give a tile-compressed file."""
    data = scene(dtype=dtype)
    whole = saved(fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type=kind, **options))
    # each gzip tile bears the time of its making
    return re.sub(rb'(?s)(?<=\x1f\x8b\x08\0)....', bytes(4), whole) if 'GZIP' in kind else whole


def deadly_tile():
    """Give a file with a tile of HCOMPRESS that says to have -1 x 10^8 pixels."""
    whole = packed('HCOMPRESS_1')
    at = whole.rindex(b'XTENSION')
    at = whole.index(b'\xdd\x99', at)  # the first tile
    return whole[: at + 2] + struct.pack('>ii', -1, 10**8) + whole[at + 10 :]


# --- cut -----------------------------------------------------------------------------------------


def cut():
    for n in (0, 1, 6, 80, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(GOOD) // 2,
              len(GOOD) - BLOCK, len(GOOD) - BLOCK - 1, len(GOOD) - 1):  # fmt: skip
        yield f'plain at {n}', GOOD[:n]
    with fits.open(io.BytesIO(WITH_PLANES)) as hdus:
        places = [(i, hdu.fileinfo()) for i, hdu in enumerate(hdus)]
    for i, info in places:
        for what in ('hdrLoc', 'datLoc'):
            for shift in (-1, 0, 1, 1000):
                n = info[what] + shift
                if 0 < n < len(WITH_PLANES):
                    yield f'planes HDU {i} {what} {shift:+d}', WITH_PLANES[:n]
        yield f'planes HDU {i} mid data', WITH_PLANES[: info['datLoc'] + info['datSpan'] // 2]
    for kind in ('RICE_1', 'GZIP_1', 'GZIP_2', 'HCOMPRESS_1', 'PLIO_1'):
        dtype = np.int16 if kind == 'PLIO_1' else np.float32
        data = packed(kind, dtype)
        for share in (0.3, 0.6, 0.9, 0.97):
            yield f'{kind} at {share}', data[: int(share * len(data))]
    whole = gzip.compress(GOOD, mtime=0)
    for n in (2, 10, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        yield f'gz at {n}', whole[:n]


# --- headers -------------------------------------------------------------------------------------


def headers():
    pixels = big_endian(scene())
    for old, new in (
        (b'NAXIS   =                    2', b'NAXIS   =                    1'),
        (b'NAXIS   =                    2', b'NAXIS   =                    3'),
        (b'NAXIS   =                    2', b'NAXIS   =                    0'),
        (b'NAXIS   =                    2', b'NAXIS   =                   -2'),
        (b'NAXIS   =                    2', b'NAXIS   =                 1000'),
        (b'NAXIS   =                    2', b'NAXIS   =                  two'),
        (b'NAXIS   =                    2', b'NAXIX   =                    2'),
        (b'NAXIS1  =                   96', b'NAXIS1  =                   95'),
        (b'NAXIS1  =                   96', b'NAXIS1  =                    0'),
        (b'NAXIS1  =                   96', b'NAXIS1  =                  -96'),
        (b'NAXIS1  =                   96', b'NAXIS1  =                 96.5'),
        (b'NAXIS1  =                   96', b"NAXIS1  = '96'               "),
        (b'NAXIS1  =                   96', b'NAXIS1  =                     '),
        (b'NAXIS1  =                   96', b'NAXIS9  =                   96'),
        (b'NAXIS2  =                   72', b'NAXIS2  =                  720'),
        (b'NAXIS2  =                   72', b'NAXIS2  =           2000000000'),
        (b'NAXIS2  =                   72', b'NAXIS2  = 99999999999999999999'),
        (b'BITPIX  =                  -32', b'BITPIX  =                   32'),
        (b'BITPIX  =                  -32', b'BITPIX  =                  -33'),
        (b'BITPIX  =                  -32', b'BITPIX  =                    0'),
        (b'BITPIX  =                  -32', b'BITPIX  =                  128'),
        (b'BITPIX  =                  -32', b'BITPIX  =                 none'),
        (b'BITPIX  =                  -32', b'BITPIX  =                  -64'),
        (b'SIMPLE  =                    T', b'SIMPLE  =                    F'),
        (b'SIMPLE  =                    T', b'SIMPLE  =                    X'),
        (b'SIMPLE  =                    T', b'SIMPEL  =                    T'),
    ):  # fmt: skip
        yield f'{new.decode().strip()}', changed(GOOD, old, new)
    yield 'no END', raw(image_cards(), pixels, end=False)
    yield 'no END and no data', raw(image_cards(), end=False)
    yield 'END twice', raw([*image_cards(), 'END'], pixels)
    yield 'no SIMPLE', raw(image_cards()[1:], pixels)
    yield 'no BITPIX', raw([c for c in image_cards() if 'BITPIX' not in c], pixels)
    yield 'no NAXIS', raw([c for c in image_cards() if not c.startswith('NAXIS ')], pixels)
    yield 'no NAXIS2', raw([c for c in image_cards() if not c.startswith('NAXIS2')], pixels)
    yield 'only SIMPLE', raw(['SIMPLE  =                    T'])
    yield 'not padded', raw(image_cards(), pixels, pad=False)
    yield 'every card twice', raw([*image_cards(), *image_cards()], pixels)
    yield 'NAXIS1 twice', raw([*image_cards(), 'NAXIS1  =                   48'], pixels)
    yield 'EXPTIME twice', raw([*image_cards(), *(f'EXPTIME = {n}' for n in (60, 90))], pixels)
    yield 'axes in another order', raw([*image_cards()[:3], *image_cards()[:2:-1]], pixels)
    yield 'lower case', raw([c.lower() for c in image_cards()], pixels)
    yield 'no equals signs', raw([c.replace('= ', '  ') for c in image_cards()], pixels)
    yield 'tabs', raw([*image_cards(), "OBJECT\t= 'M 31'"], pixels)
    yield 'letters with accents', raw([*image_cards(), "OBSERVER= 'Ångström née Müller'"], pixels)
    yield 'bytes over 127', GOOD.replace(card('EXTEND  =                    T'), b'\xff' * 80, 1)
    yield 'bytes of 0', raw([*image_cards(), '\0' * 40], pixels)
    yield 'open quote', raw([*image_cards(), "OBJECT  = 'M 31"], pixels)
    yield 'no value', raw([*image_cards(), 'EXPTIME =', 'GAIN    = '], pixels)
    yield 'number of no sense', raw([*image_cards(), 'EXPTIME = 1.2.3', 'GAIN    = 1e999'], pixels)
    yield 'CONTINUE of nothing', raw([*image_cards(), "CONTINUE  'and so on'"], pixels)
    yield 'HIERARCH', raw([*image_cards(), 'HIERARCH ESO DET OUT1 GAIN = 1.5'], pixels)
    yield 'comments alone', raw([*image_cards(), *['COMMENT ' + 'x' * 72] * 2000], pixels)
    for key, value in (
        ('BUNIT', "'counts per fortnight'"), ('BUNIT', '5'), ('BUNIT', "''"), ('BUNIT', "'%'"),
        ('BSCALE', '0'), ('BSCALE', "'one'"), ('BSCALE', 'NaN'), ('BSCALE', '1E300'),
        ('BSCALE', '-1'), ('BZERO', '1E38'), ('BZERO', "'zero'"), ('BLANK', '0'), ('BLANK', '1.5'),
        ('SATURATE', '-5'), ('SATURATE', "'high'"), ('SATURATE', '0'), ('GAIN', '-1'),
        ('GAIN', "'low'"), ('DENOISED', 'T'), ('DENOISED', "'maybe'"), ('GROUPS', 'T'),
        ('PCOUNT', '100'), ('PCOUNT', '-1'), ('GCOUNT', '3'), ('EXTEND', 'F'), ('CHECKSUM', "'0'"),
        ('DATASUM', "'12345'"), ('BAYERPAT', "'XYZW'"), ('BAYERPAT', "'RGGB'"), ('ZIMAGE', 'T'),
        ('XTENSION', "'IMAGE'"), ('EXTNAME', '7'), ('EXTVER', "'one'"), ('BITPIX', '16'),
        ('CRPIX1', 'NaN'), ('CRVAL1', "'north'"), ('CTYPE1', '12'), ('CTYPE1', "'RA---XYZ'"),
        ('CTYPE1', "'RA---TAN'"), ('CD1_1', '0'), ('CDELT1', '0'), ('WCSAXES', '7'),
        ('WCSAXES', '-1'), ('LONPOLE', "'x'"), ('A_ORDER', '1000'), ('DATE-OBS', "'yesterday'"),
        ('MJD-OBS', 'NaN'), ('STACKCNT', '-3'), ('STACKCNT', "'many'"), ('IMAGETYP', '3'),
        ('IMAGETYP', "'MASTER DARK'"), ('CFITSIO', 'T'),
    ):  # fmt: skip
        name = f'{key} = {value}'
        yield name, raw([*image_cards(), f'{key:8}= {value:>20}'], pixels)


# --- shapes and types ----------------------------------------------------------------------------


def shapes():
    for axes in (
        (0,), (0, 0), (0, 5), (5, 0), (1,), (300,), (1, 1), (2, 2), (3, 200), (200, 3), (7, 7),
        (15, 15), (31, 31), (4000, 1), (1, 4000), (4000, 8), (33, 65),
    ):  # fmt: skip
        data = scene((1, *axes[::-1]) if len(axes) == 1 else axes[::-1]).reshape(axes[::-1])
        yield f'axes {axes}', raw(image_cards(axes=axes), big_endian(data))
    for first in ((1,), (2,), (3,), (5,), (1, 1), (2, 3), (1, 1, 1), (2, 1, 2), (0,)):
        shape = (*first, *SHAPE)
        yield f'shape {shape}', raw(image_cards(axes=shape[::-1]), big_endian(scene(shape)))
    yield 'colours last', raw(image_cards(axes=(3, *SHAPE[::-1])), big_endian(scene((*SHAPE, 3))))
    for axes in ((100_000, 100_000), (2_000_000, 3_000_000), (50_000, 50_000, 30), (1, 2**40),
                 (2**31 - 1, 2**31 - 1), (2**62, 2**62)):  # fmt: skip
        yield f'declared {axes}', raw(image_cards(axes=axes), big_endian(scene()))
    huge = ["XTENSION= 'IMAGE   '", *image_cards(axes=(90_000, 90_000))[1:],
            'PCOUNT  =                    0', 'GCOUNT  =                    1']  # fmt: skip
    yield 'declared in an extension', GOOD + raw(huge)
    yield 'declared alone in an extension', saved(fits.PrimaryHDU()) + raw(huge)
    tiles = fits.CompImageHDU(np.zeros((64, 64), np.int16), compression_type='RICE_1')
    data = saved(fits.PrimaryHDU(), tiles)
    for key in (b'ZNAXIS1', b'ZNAXIS2', b'ZTILE1', b'ZTILE2'):
        at = data.index(key.ljust(8) + b'=')
        new = data[: at + 10] + b'%20d' % 2_000_000_000 + data[at + 30 :]
        yield f'declared {key.decode()}', new


def types():
    rng = np.random.default_rng(3)
    for bitpix, dtype in ((8, np.uint8), (16, np.int16), (32, np.int32), (64, np.int64),
                          (-32, np.float32), (-64, np.float64)):  # fmt: skip
        data = np.clip(scene(dtype=np.float64) / (4 if bitpix == 8 else 1), 0, 30000)
        data = np.clip(data, 0, 255 if bitpix == 8 else 30000).astype(dtype)
        yield f'BITPIX {bitpix}', raw(image_cards(bitpix), big_endian(data))
        yield f'BITPIX {bitpix} scaled', raw(
            image_cards(bitpix, BSCALE=0.01, BZERO=-3.5), big_endian(data)
        )
        if bitpix > 0:
            info = np.iinfo(dtype)
            yield f'BITPIX {bitpix} unsigned', raw(
                image_cards(bitpix, BSCALE=1, BZERO=2 ** (bitpix - 1)),
                big_endian((data.astype(np.int64) // 8).astype(dtype)),
            )
            yield f'BITPIX {bitpix} all blank', raw(
                image_cards(bitpix, BLANK=7), big_endian(np.full(SHAPE, 7, dtype))
            )
            some = np.where(rng.random(SHAPE) < 0.2, info.max, data).astype(dtype)
            yield f'BITPIX {bitpix} some blank', raw(
                image_cards(bitpix, BLANK=info.max), big_endian(some)
            )
            yield f'BITPIX {bitpix} blank out of range', raw(
                image_cards(bitpix, BLANK=2**70), big_endian(data)
            )
            yield f'BITPIX {bitpix} random bits', raw(
                image_cards(bitpix), rng.bytes(dtype().itemsize * data.size)
            )
        else:
            yield f'BITPIX {bitpix} random bits', raw(
                image_cards(bitpix), rng.bytes(dtype().itemsize * data.size)
            )


def pixels():
    def file(data):
        return raw(image_cards(-64 if data.dtype == np.float64 else -32), big_endian(data))

    good, info = scene(), np.finfo(np.float32)
    rng = np.random.default_rng(4)
    for name, value in (
        ('zero', 0), ('-0.0', -0.0), ('one', 1), ('NaN', np.nan), ('inf', np.inf),
        ('-inf', -np.inf), ('largest', info.max), ('denormal', 1e-45),
    ):  # fmt: skip
        yield f'all {name}', file(np.full(SHAPE, value, np.float32))
        one = good.copy()
        one[30, 40] = value
        yield f'one {name}', file(one)
        half = good.copy()
        half[:, :48] = value
        yield f'half {name}', file(half)
        yield f'scattered {name}', file(
            np.where(rng.random(SHAPE) < 0.3, value, good).astype(np.float32)
        )
    for value in (1e30, -1e30, 1e20, 70000):
        one = good.copy()
        one[20, 20] = value
        yield f'hot {value:g}', file(one)
    yield 'two values', file(np.where(rng.random(SHAPE) < 0.5, 100, 101).astype(np.float32))
    yield 'two values far apart', file(np.where(rng.random(SHAPE) < 0.5, -1e30, 1e30).astype('f4'))
    yield 'a ramp', file(np.add.outer(np.arange(72.0), np.arange(96.0)).astype(np.float32))
    yield 'a chessboard', file((np.indices(SHAPE).sum(axis=0) % 2 * 100).astype(np.float32))
    yield 'rows', file(np.repeat(rng.normal(0, 1, (72, 1)), 96, axis=1).astype(np.float32))
    yield 'saturated', file(np.minimum(good, 480).astype(np.float32))
    yield 'denormals', file((good * 1e-43).astype(np.float32))
    yield 'tiny', file((good * 1e-36).astype(np.float32))
    yield 'huge', file((good * 1e35).astype(np.float32))
    yield 'beyond float32', file(good.astype(np.float64) * 1e200)
    yield 'below float32', file(good.astype(np.float64) * 1e-200)
    yield 'below float64', file(good.astype(np.float64) * 1e-310)
    yield 'beyond float64', file(good.astype(np.float64) * 1e304)
    yield 'a level of 1e7', file(good + np.float32(1e7))
    yield 'one good pixel', file(np.where(np.arange(72 * 96).reshape(SHAPE) == 9, good, np.nan))
    yield 'one good row', file(
        np.where(np.arange(72)[:, None] == 9, good, np.nan).astype(np.float32)
    )
    yield 'cosmic rays', file(np.where(rng.random(SHAPE) < 0.02, 60000, good).astype(np.float32))


# --- extensions, compression, other formats ------------------------------------------------------


def extensions():
    columns = [fits.Column('x', 'E', array=np.arange(5.0)), fits.Column('n', '5A', array=['a'] * 5)]
    table = fits.BinTableHDU.from_columns(columns, name='CAT')
    text = fits.TableHDU.from_columns([fits.Column('x', 'E15.7', array=np.arange(5.0))])
    image = fits.ImageHDU(scene(), name='SCI')
    yield 'header alone', saved(fits.PrimaryHDU())
    yield 'table alone', saved(fits.PrimaryHDU(), table)
    yield 'text table alone', saved(fits.PrimaryHDU(), text)
    yield 'table, then image', saved(fits.PrimaryHDU(), table, image)
    yield 'empty images', saved(fits.PrimaryHDU(), fits.ImageHDU(), fits.ImageHDU(name='SCI'))
    yield 'two images of one name', saved(fits.PrimaryHDU(), image, image.copy())
    for name in ('ERR', 'UNCERT', 'WHT', 'VAR', 'DQ', 'MASK'):
        for what, plane in (
            ('of another shape', np.ones((7, 9), np.float32)),
            ('of three axes', np.ones((2, *SHAPE), np.float32)),
            ('of NaN', np.full(SHAPE, np.nan, np.float32)),
            ('of zeros', np.zeros(SHAPE, np.float32)),
            ('negative', np.full(SHAPE, -1.0, np.float32)),
            ('of ones', np.ones(SHAPE, np.int32)),
        ):
            yield f'{name} {what}', saved(
                fits.PrimaryHDU(), image.copy(), fits.ImageHDU(plane, name=name)
            )
        yield f'{name} is a table', saved(
            fits.PrimaryHDU(), image.copy(), fits.BinTableHDU.from_columns(columns, name=name)
        )
    yield 'foreign extension', GOOD + raw([
        "XTENSION= 'FOREIGN '", 'BITPIX  =                    8', 'NAXIS   =                    1',
        'NAXIS1  =                 2880', 'PCOUNT  =                    0',
        'GCOUNT  =                    1',
    ], b'x' * BLOCK)  # fmt: skip
    at = WITH_PLANES.index(b'XTENSION') + 24
    yield 'XTENSION with rubbish', WITH_PLANES[:at] + b'rubbish' + WITH_PLANES[at + 7 :]
    for kind in (fits.BinTableHDU, fits.TableHDU):
        names = kind.from_columns([fits.Column('a', 'A5' if kind is fits.TableHDU else '5A',
                                               array=['one', 'two'])])  # fmt: skip
        names.name = 'PRIMARY'
        told = kind.__name__
        yield f'{told} by the name of PRIMARY', saved(fits.PrimaryHDU(scene()), names)
        yield f'{told} by the name of PRIMARY alone', saved(fits.PrimaryHDU(), names)
    yield 'header of blanks', GOOD + card('').ljust(BLOCK - 80) + card('END').ljust(BLOCK)
    yield 'signs of a table in the primary HDU', raw(
        [*image_cards(), "XTENSION= 'BINTABLE'", 'ZIMAGE  =                    T',
         "ZCMPTYPE= 'PLIO_1  '"], big_endian(scene()),
    )  # fmt: skip
    yield 'no XTENSION', GOOD + raw(image_cards()[1:], big_endian(scene()))
    at = WITH_PLANES.index(b'XTENSION')
    yield 'blanks before XTENSION', WITH_PLANES[:at] + b' ' * 1680 + WITH_PLANES[at:]
    yield 'rubbish behind', GOOD + b'rubbish' * 1000
    yield 'rubbish extension', WITH_PLANES[: len(WITH_PLANES) // 3] + b'\x07' * 20_000
    yield 'random groups', raw([*image_cards(axes=(0, 4, 4)), 'GROUPS  =                    T',
                                'PCOUNT  =                    2', 'GCOUNT  =                    3'],
                               b'\0' * 216)  # fmt: skip


def compressed():
    for kind in ('RICE_1', 'GZIP_1', 'GZIP_2', 'HCOMPRESS_1'):
        for dtype in (np.float32, np.int16, np.uint16):
            yield f'{kind} {np.dtype(dtype)}', packed(kind, dtype)
        yield f'{kind} coarse', packed(kind, quantize_level=0.2)
        yield f'{kind} dithered', packed(kind, quantize_level=8, quantize_method=1, dither_seed=5)
        data = bytearray(packed(kind))
        for i in range(len(data) - 4000, len(data) - 2000, 7):  # in the heap
            data[i] ^= 0x55
        yield f'{kind} damaged heap', bytes(data)
        whole = packed(kind)
        name = f"'{kind}".encode()
        yield f'{kind} of no known kind', whole.replace(name, name[:-1] + b'9')
        for key in (b'ZBITPIX', b'ZNAXIS', b'ZNAXIS1', b'TFIELDS', b'PCOUNT'):
            at = whole.rindex(key.ljust(8) + b'=')
            yield f'{kind} {key.decode()} wrong', (
                whole[: at + 10] + b'%20d' % -7 + whole[at + 30 :]
            )
    whole = packed('RICE_1')
    for key in (b'ZNAXIS', b'ZNAXIS1', b'ZTILE2', b'ZBITPIX'):
        at = whole.index(key.ljust(8) + b'=')
        for value in (b"'96'", b'96.5', b'T', b''):
            new = whole[: at + 10] + value.ljust(70) + whole[at + 80 :]
            yield f'{key.decode()} = {value.decode()}', new
        yield f'no {key.decode()}', whole[:at] + b'COMMENT '.ljust(80) + whole[at + 80 :]
    whole = packed('PLIO_1', np.int16)
    with fits.open(io.BytesIO(whole), disable_image_compression=True) as hdus:
        heap = hdus[1].fileinfo()['datLoc'] + hdus[1].header['NAXIS1'] * hdus[1].header['NAXIS2']
    yield 'PLIO_1', whole
    yield 'PLIO_1 tile without end', whole[: heap + 4] + b'\x7f\xff' + whole[heap + 6 :]
    whole = packed('HCOMPRESS_1')
    at = whole.index(b'ZNAXIS1 =') + 10
    yield 'HCOMPRESS_1 of other tiles', whole[:at] + b'%20d' % 92 + whole[at + 20 :]
    yield 'HCOMPRESS_1 of negative size', deadly_tile()
    at = whole.index(b'\xdd\x99', whole.rindex(b'XTENSION')) + 40
    inside = bytes(byte ^ 0x55 for byte in whole[at : at + 160])
    yield 'HCOMPRESS_1 damaged inside', whole[:at] + inside + whole[at + 160 :]
    at = whole.index(b"'BINTABLE'")
    for other in (b"'A3DTABLE'", b"'BINTABLX'", b"'IMAGE   '"):
        yield f'HCOMPRESS_1 in {other[1:-1].decode().rstrip()}', (
            whole[:at] + other + whole[at + len(other) :]
        )
    at = whole.index(b'ZIMAGE  =') + 10
    for value in (b'5', b"'T'", b'F'):
        yield f'HCOMPRESS_1, ZIMAGE = {value.decode()}', (
            whole[:at] + value.rjust(20) + whole[at + 20 :]
        )
    yield 'gzipped', gzip.compress(GOOD, mtime=0)
    yield 'gzipped twice', gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0)
    damaged = bytearray(gzip.compress(GOOD, mtime=0))
    damaged[len(damaged) // 2] ^= 0xFF
    yield 'gzipped and damaged', bytes(damaged)
    yield 'gzipped text', gzip.compress(b'no frame', mtime=0)
    huge = raw(image_cards(axes=(40_000, 40_000))) + bytes(200_000_000)
    yield 'a bomb', gzip.compress(huge, 9, mtime=0)


def strangers():
    rng = np.random.default_rng(5)
    yield 'text', b'this is not a frame\n' * 50
    yield 'random bytes', rng.bytes(20_000)
    yield 'zeros', bytes(20_000)
    yield 'SIMPLE and random bytes', card('SIMPLE  =                    T') + rng.bytes(9_000)
    yield 'zip', b'PK\3\4' + rng.bytes(500)
    yield 'web page', b'<!DOCTYPE html><html><body>404 Not Found</body></html>'
    yield 'pickle', b'\x80\x04\x95' + rng.bytes(300)


def pictures():
    """Other formats by name: suffix with the name."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.clip(scene(), 0, 65535).astype(np.uint16), compression='zlib')
    tiff = stream.getvalue()
    for n in (4, 8, 100, len(tiff) // 2, len(tiff) - 10):
        yield f'cut at {n}.tif', tiff[:n]
    damaged = bytearray(tiff)
    damaged[200:260] = b'\xaa' * 60
    yield 'damaged.tif', bytes(damaged)
    yield 'directory elsewhere.tif', tiff[:4] + struct.pack('<I', 10**9) + tiff[8:]
    bits = tiff.index(struct.pack('<HHI', 258, 3, 1)) + 8
    yield 'samples of no bits.tif', tiff[:bits] + bytes(2) + tiff[bits + 2 :]
    yield 'page of no tags in a circle.tif', b'II*\0' + struct.pack('<IHI', 8, 0, 8) + b'\0'
    with tifffile.TiffFile(io.BytesIO(tiff)) as file:
        first = file.pages[0].offset
        behind = first + 2 + 12 * len(file.pages[0].tags)
    circle = tiff[:behind] + struct.pack('<I', first) + tiff[behind + 4 :]
    yield 'page in a circle.tif', circle
    yield 'directory of itself.tif', b'II*\0' + struct.pack('<I', 8) + struct.pack('<H', 65535)

    def chunk(kind, data):
        size, total = len(data), zlib.crc32(kind + data)
        return struct.pack('>I', size) + kind + data + struct.pack('>I', total)

    magic = b'\x89PNG\r\n\x1a\n'
    head = struct.pack('>IIBBBBB', 96, 72, 16, 0, 0, 0, 0)
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in scene())
    end = chunk(b'IEND', b'')
    good = magic + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + end
    for n in (8, 20, 40, len(good) // 2, len(good) - 13):
        yield f'cut at {n}.png', good[:n]
    yield 'wrong sum.png', good[:-20] + b'\0\0\0\0' + good[-16:]
    yield 'no data.png', magic + chunk(b'IHDR', head) + end
    huge = struct.pack('>IIBBBBB', 2**31 - 1, 2**31 - 1, 16, 0, 0, 0, 0)
    yield 'declared.png', magic + chunk(b'IHDR', huge) + chunk(b'IDAT', zlib.compress(rows)) + end
    odd = struct.pack('>IIBBBBB', 96, 72, 7, 9, 3, 3, 9)
    yield 'odd.png', magic + chunk(b'IHDR', odd) + chunk(b'IDAT', zlib.compress(rows)) + end

    def xisf(header, data=b''):
        text = header.encode()
        return b'XISF0100' + struct.pack('<II', len(text), 0) + text + data

    body = scene().astype('<f4').tobytes()
    start = 1024  # of the pixels, behind a header that is filled up with blanks
    image = (
        f'<Image geometry="96:72:1" sampleFormat="Float32" bounds="0:1" '
        f'location="attachment:{start}:{len(body)}"/>'
    )
    frame = (
        '<?xml version="1.0"?>'
        '<xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">{}</xisf>'
    )

    def with_image(text):
        return xisf(frame.format(text).ljust(start - 16), body)

    good = with_image(image)
    yield 'good.xisf', good
    for n in (8, 12, 16, 100, len(good) // 2):
        yield f'cut at {n}.xisf', good[:n]
    for number, (old, new) in enumerate((
        ('96:72:1', '96:72'), ('96:72:1', '9600000:7200000:1'), ('96:72:1', '-96:72:1'),
        ('96:72:1', 'a:b:c'), ('Float32', 'Float48'), ('Float32', 'Complex32'), ('0:1', '1:0'),
        ('0:1"', 'x"'), ('attachment:1024', 'inline:nothing'), ('attachment:1024', 'attachment:-5'),
        ('attachment:1024', 'url(http://example.org/frame)'), ('attachment:1024:27648', ''),
    )):  # fmt: skip
        yield f'header {number}.xisf', with_image(image.replace(old, new, 1))
    yield 'no image.xisf', xisf(frame.format(''))
    yield 'no xml.xisf', xisf('this is no XML')
    yield 'length.xisf', b'XISF0100' + struct.pack('<II', 2**32 - 1, 0) + b'<xisf/>'
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + ''.join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi', strict=True)
    ) + ']>'
    yield 'bomb.xisf', xisf('<?xml version="1.0"?>' + entities + '<xisf>&i;</xisf>')


KINDS = {
    'cut': cut, 'header': headers, 'shape': shapes, 'type': types, 'pixels': pixels,
    'extension': extensions, 'compressed': compressed, 'stranger': strangers,
}  # fmt: skip


def write_corpus(folder):
    """
    Write the files of the corpus.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where to.

    Returns
    -------
    files : dict of str to `pathlib.Path`
        What each is, and where.
    """
    files = {}
    for kind, make in KINDS.items():
        for name, data in make():
            path = folder / f'{kind}-{len(files):03d}.fits'
            path.write_bytes(data)
            files[f'{kind}: {name}'] = path
    for name, data in pictures():
        path = folder / f'picture-{len(files):03d}{name[name.rindex("."):]}'
        path.write_bytes(data)
        files[f'picture: {name}'] = path
    return files
