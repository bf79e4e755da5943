# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The attached data blocks of an XISF file: compression, shuffled bytes, checksums."""

import hashlib
import zlib

import numpy as np

from astrodenoise.filecontext import missing_package

__all__ = ['attached_span', 'pack_block', 'read_block']

_CODECS = ('zlib', 'lz4', 'lz4hc', 'zstd')
# bytes that one byte can stand for at most: what declares more is damaged, and nothing is allocated
_MOST = {'zlib': 1040, 'lz4': 256, 'lz4hc': 256, 'zstd': 1 << 16}
_HASHES = {'sha1': 'sha1', 'sha256': 'sha256', 'sha512': 'sha512', 'sha3256': 'sha3_256',
           'sha3512': 'sha3_512'}  # fmt: skip
_LARGEST = 1 << 30  # bytes that are compressed at once: lz4 takes less than 2 GiB


def attached_span(attributes):
    """
    Give the place of an attached block.

    Parameters
    ----------
    attributes : dict
        Of an element of the header.

    Returns
    -------
    span : (int, int) or None
        Its first byte and its length; None where the element has no attached block.

    Raises
    ------
    ValueError
        If the place is no pair of numbers.
    """
    method, *numbers = attributes.get('location', '').split(':')
    if method != 'attachment':
        return None
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        msg = f'a data block has the location {attributes["location"]!r}'
        raise ValueError(msg)
    return int(numbers[0]), int(numbers[1])


def read_block(path, attributes, n_bytes):
    """
    Read an attached block, checked and unpacked.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    attributes : dict
        Of the element that the block belongs to.
    n_bytes : int
        How many bytes it must give.

    Returns
    -------
    data : bytes-like
        Unpacked.

    Raises
    ------
    ValueError
        If it is missing, damaged or of another size.
    FrameError
        If the package that unpacks it is missing.
    """
    span = attached_span(attributes)
    if span is None:
        place = attributes.get('location', '')
        msg = (
            f'its pixels are no block of this file (location={place[:40]!r}); save it as one '
            'monolithic XISF file'
        )
        raise ValueError(msg)
    start, length = span
    codec, unpacked, item = _codec(attributes)
    if codec and unpacked != n_bytes:
        msg = f'its pixels are {unpacked} bytes when unpacked, and its geometry takes {n_bytes}'
        raise ValueError(msg)
    if n_bytes > length * _MOST.get(codec, 1):
        msg = f'its pixels are {n_bytes} bytes by its header, and {length} are there'
        raise ValueError(msg)
    with open(path, 'rb') as handle:
        handle.seek(start)
        data = handle.read(length)
    _check_sum(data, attributes)
    if codec is None:
        return data[:n_bytes]
    parts = _unpacked(data, codec, _subblocks(attributes, length, n_bytes), path)
    return _unshuffled(b''.join(parts), item)


def pack_block(data, attributes, path, *, item_size):
    """
    Pack a block as another was packed.

    Parameters
    ----------
    data : bytes
        What it holds.
    attributes : dict
        Of the element: compression and checksum are made in its way.
    path : `~pathlib.Path`
        The file that will be written, for messages.
    item_size : int
        Bytes of one sample, where they are shuffled.

    Returns
    -------
    packed : bytes
        The block.
    attributes : dict
        Those of the element, but for the location.

    Raises
    ------
    FrameError
        If the package that packs it is missing.
    """
    attributes = dict(attributes)
    codec, _, item = _codec(attributes)
    item = item_size if item else None
    attributes.pop('subblocks', None)
    if codec is not None:
        attributes['compression'] = f'{attributes["compression"].partition(":")[0]}:{len(data)}'
        attributes['compression'] += f':{item}' if item else ''
        whole = _shuffled(data, item)
        pieces = [whole[i : i + _LARGEST] for i in range(0, len(whole), _LARGEST)]
        packed = [_packed(piece, codec, path) for piece in pieces]
        if len(pieces) > 1:
            sizes = zip(packed, pieces, strict=True)
            attributes['subblocks'] = ':'.join(f'{len(one)},{len(two)}' for one, two in sizes)
        data = b''.join(packed)
    if 'checksum' in attributes:
        name = attributes.pop('checksum').partition(':')[0]
        digest = _hash(name, data)
        attributes |= {} if digest is None else {'checksum': f'{name}:{digest}'}
    return data, attributes


def _codec(attributes):
    """Name of the codec, bytes when unpacked, size of the items that are shuffled; or None."""
    text = attributes.get('compression')
    if text is None:
        return None, None, None
    name, *numbers = text.split(':')
    codec, _, shuffled = name.partition('+')
    is_known = codec in _CODECS and shuffled in ('', 'sh')
    if not is_known or len(numbers) != (2 if shuffled else 1):
        msg = f'its pixels have the compression {text!r}; save it without, or with zlib'
        raise ValueError(msg)
    if not all(number.isdecimal() for number in numbers) or int(numbers[-1]) == 0:
        msg = f'its pixels have the compression {text!r}'
        raise ValueError(msg)
    return codec, int(numbers[0]), int(numbers[1]) if shuffled else None


def _subblocks(attributes, length, n_bytes):
    """Sizes of the parts of a block, packed and unpacked."""
    if not attributes.get('subblocks'):
        return [(length, n_bytes)]
    pairs = [pair.split(',') for pair in attributes['subblocks'].split(':')]
    if all(len(pair) == 2 and pair[0].isdecimal() and pair[1].isdecimal() for pair in pairs):
        sizes = [(int(packed), int(unpacked)) for packed, unpacked in pairs]
        if [sum(column) for column in zip(*sizes, strict=True)] == [length, n_bytes]:
            return sizes
    msg = 'the parts of its pixels do not sum up to their block'
    raise ValueError(msg)


def _unpacked(data, codec, sizes, path):
    place = 0
    for length, n_bytes in sizes:
        part = _unpack(data[place : place + length], codec, n_bytes, path)
        if len(part) != n_bytes:
            msg = f'its pixels are damaged: {len(part)} of {n_bytes} bytes could be unpacked'
            raise ValueError(msg)
        yield part
        place += length


def _unpack(data, codec, n_bytes, path):
    if codec == 'zlib':
        return zlib.decompressobj().decompress(data, n_bytes)
    imagecodecs = _import_imagecodecs(codec, path)
    if codec == 'zstd':
        return imagecodecs.zstd_decode(data, out=n_bytes)
    return imagecodecs.lz4_decode(data, header=False, out=n_bytes)


def _packed(data, codec, path):
    if codec == 'zlib':
        return zlib.compress(data, 6)
    imagecodecs = _import_imagecodecs(codec, path)
    if codec == 'zstd':
        return imagecodecs.zstd_encode(data, level=3)
    if codec == 'lz4hc':
        return imagecodecs.lz4_encode(data, level=9, header=False, hc=True)
    return imagecodecs.lz4_encode(data, header=False)


def _import_imagecodecs(codec, path):
    try:
        import imagecodecs
    except ImportError as error:
        raise missing_package(path, f'XISF compressed with {codec}', 'imagecodecs') from error
    return imagecodecs


def _shuffled(data, item):
    """Put the first bytes of all items before their second bytes, and so on."""
    if not item or item == 1:
        return data
    whole = len(data) // item * item
    values = np.frombuffer(data, np.uint8, count=whole).reshape(-1, item)
    return values.T.tobytes() + bytes(data[whole:])


def _unshuffled(data, item):
    if not item or item == 1:
        return data
    whole = len(data) // item * item
    values = np.frombuffer(data, np.uint8, count=whole).reshape(item, -1)
    return values.T.tobytes() + data[whole:]


def _hash(name, data):
    known = _HASHES.get(name.lower().replace('-', ''))
    return None if known is None else hashlib.new(known, data, usedforsecurity=False).hexdigest()


def _check_sum(data, attributes):
    name, _, expected = attributes.get('checksum', '').partition(':')
    found = _hash(name, data)
    if found is not None and found != expected.strip().lower():
        msg = f'its pixels are damaged: their {name} checksum is another than the header says'
        raise ValueError(msg)
