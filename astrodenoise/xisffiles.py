# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
XISF: images out of a file and back, with all else in it as it was.

Monolithic files of grey and RGB images. The FITS keywords of an image are the header of its frame;
its other properties, profiles and blocks are copied, and the text of the XML header is kept but for
what is true of the old pixels only.
"""

import contextlib
import re
from collections import Counter

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from astrodenoise.filecontext import FrameContext, FrameError
from astrodenoise.pictures import in_range
from astrodenoise.xisfblocks import attached_span, pack_block, read_block
from astrodenoise.xisfheader import FIRST, SIGNATURE, HeaderEdit, parse_header, read_header
from astrodenoise.xisfkeywords import header_of, keyword_text, keywords_of

__all__ = ['XisfImages', 'xisf_writer']

_FORMATS = {
    'UInt8': 'u1', 'UInt16': 'u2', 'UInt32': 'u4', 'Float32': 'f4', 'Float64': 'f8',
    'Byte': 'u1', 'UShort': 'u2', 'UInt': 'u4', 'Float': 'f4', 'Double': 'f8',
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in reversed(_FORMATS.items())}
_CHANNELS = {'Gray': 1, 'RGB': 3}
# beside a stacked frame: what was rejected from it, its weights
_NO_SKY = re.compile(r'(binary)?(rejection|slope|weight|defect)', re.IGNORECASE)
_ALIGNED = 4096  # blocks begin at multiples of it, as PixInsight has them
_COPY = 1 << 22  # bytes copied at once
_RECORD = {'DENOISE', 'DENOISED'}  # keywords of which the newest denoising owns the value


class XisfImages:
    """
    The chosen images of an XISF file.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    ext : int, str or list, optional
        As for `astrodenoise.files.open_frames`; numbers begin at 0.
    unit : str or `~astropy.units.Unit`, optional
        The unit of the pixels, adu by default.

    Attributes
    ----------
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        One per image, in the order of the file.

    Raises
    ------
    FrameError
        If the file is damaged or has no such image.
    """

    def __init__(self, path, *, ext=None, unit=None):
        self._path = path
        self._unit = u.adu if unit is None else u.Unit(unit)
        size = path.stat().st_size
        root = parse_header(read_header(path, size))
        _check_blocks(root, size)
        self._images = _images_of(root)
        frames = [i for i, image in enumerate(self._images) if _is_frame(image)]
        frames = frames or list(range(len(self._images)))
        self.contexts = [
            self._context(i, len(frames)) for i in _choose(self._images, frames, ext, path)
        ]

    def read(self, context):
        """
        Read one of the images.

        Parameters
        ----------
        context : `~astrodenoise.filecontext.FrameContext`
            One of ``contexts``.

        Returns
        -------
        ccd : `~astropy.nddata.CCDData`
            The frame.
        """
        image = self._images[context.hdu]
        dtype = _stored_dtype(image.attributes)
        n_bytes = dtype.itemsize * int(np.prod(context.shape, dtype=object))
        block = read_block(self._path, image.attributes, n_bytes)
        samples = np.frombuffer(block, dtype)
        if len(context.shape) == 3 and _is_interleaved(image.attributes):
            samples = np.moveaxis(samples.reshape(*context.shape[1:], -1), -1, 0)
        data = samples.reshape(context.shape).astype(dtype.newbyteorder('='))
        return CCDData(data, unit=self._unit, meta=header_of(image))

    def headers(self):
        """
        Give the headers of all images of the file.

        Returns
        -------
        headers : list of ((str, int), `~astropy.io.fits.Header`)
            With the keys of their contexts.
        """
        return [(_key(i, image), header_of(image)) for i, image in enumerate(self._images)]

    def _context(self, index, n_frames):
        image = self._images[index]
        attributes = image.attributes
        dtype = _dtype(attributes, self._path)
        shape = _shape(attributes, self._path)
        return FrameContext(
            path=self._path,
            kind='xisf',
            dtype=dtype,
            channels='joint' if len(shape) == 3 else None,
            shape=shape,
            hdu=index,
            key=_key(index, image),
            label=attributes.get('id') or str(index),
            n_images=n_frames,
            keywords=tuple(header_of(image).keys()),
        )


def _key(index, image):
    name = image.attributes.get('id', '')
    return name, 1 if name else index


def _check_blocks(root, size):
    """Refuse a file that lacks a block: it could not be written back."""
    spans = [attached_span(element.attributes) for element in root.walk()]
    stop = max((start + length for start, length in filter(None, spans)), default=0)
    if stop > size:
        msg = f'it is truncated: its data blocks end at byte {stop}, the file at {size}'
        raise ValueError(msg)


def _images_of(root):
    return [element for element in root.children if element.name == 'Image']


def _is_frame(image):
    names = image.attributes.get('id', ''), image.attributes.get('imageType', '')
    return not any(map(_NO_SKY.match, names))


def _choose(images, frames, ext, path):
    """Numbers of the images to read, in the order of the file."""
    wanted = list(ext) if isinstance(ext, list | tuple) else [ext]
    if ext is None or 'all' in wanted:
        if not frames:
            msg = f'{path}: holds no image, only: {_listing(images)}'
            raise FrameError(msg)
        return frames[:1] if ext is None else frames
    names = [image.attributes.get('id') for image in images]
    found = set()
    for one in wanted:
        number = int(one) if str(one).isdecimal() else None
        if number is None and one in names:
            number = names.index(one)
        if number is None or number >= len(images):
            msg = f'{path}: has no image {one}, only: {_listing(images)}'
            raise FrameError(msg)
        found.add(number)
    return sorted(found)


def _listing(images):
    texts = [
        f'{i} {image.attributes.get("id", "(no name)")} {image.attributes.get("geometry", "")}'
        for i, image in enumerate(images)
    ]
    return ', '.join(texts) or 'nothing'


def _dtype(attributes, path):
    text = attributes.get('sampleFormat')
    if text not in _FORMATS:
        msg = f'{path}: its samples are {text}; save it as Float32 or UInt16'
        raise FrameError(msg)
    return np.dtype(_FORMATS[text])


def _stored_dtype(attributes):
    dtype = np.dtype(_FORMATS[attributes['sampleFormat']])
    return dtype.newbyteorder('>' if attributes.get('byteOrder') == 'big' else '<')


def _is_interleaved(attributes):
    return attributes.get('pixelStorage', 'Planar').lower() == 'normal'


def _shape(attributes, path):
    """Give (H, W) or (3, H, W)."""
    text = attributes.get('geometry', '')
    numbers = text.split(':')
    if not all(number.isdecimal() and int(number) for number in numbers):
        msg = f'its geometry is {text!r}'
        raise ValueError(msg)
    if len(numbers) != 3:
        msg = f'{path}: its geometry is {text}, and width, height, channels are expected'
        raise FrameError(msg)
    width, height, channels = map(int, numbers)
    colours = attributes.get('colorSpace', 'Gray')
    if colours not in _CHANNELS:
        msg = f'{path}: its colours are {colours}; convert it to RGB and save it again'
        raise FrameError(msg)
    if channels < _CHANNELS[colours]:
        msg = f'its geometry is {text}, and its colours are {colours}'
        raise ValueError(msg)
    if channels > _CHANNELS[colours]:
        msg = (
            f'{path}: has an alpha channel ({channels} channels, {colours}); remove it and save '
            'the image again'
        )
        raise FrameError(msg)
    return (height, width) if channels == 1 else (channels, height, width)


@contextlib.contextmanager
def xisf_writer(handle, path, contexts, *, alone=False):
    """
    Write an XISF file with some of its images exchanged.

    Parameters
    ----------
    handle : file object
        Open for writing bytes.
    path : str or `~os.PathLike`
        Its final name, for messages.
    contexts : list of `~astrodenoise.filecontext.FrameContext`
        Of the images that will be written, all of one file.
    alone : bool, optional
        Write the images without the others, their pixels as floating point.

    Yields
    ------
    writer : object
        ``writer.write(ccd, context)`` for each context.
    """
    writer = _Writer(path, contexts, alone=alone)
    yield writer
    writer.finish(handle)


class _Writer:
    """Keeps the new images packed, and writes all when the last one is there."""

    def __init__(self, path, contexts, *, alone):
        self.path, self.alone, self.source = path, alone, contexts[0].path
        header = read_header(self.source, self.source.stat().st_size)
        self.root = parse_header(header)
        self.images = _images_of(self.root)
        self.edit = HeaderEdit(header)
        self.new = {}  # element of the image: its attributes, what is added in it, its block
        for element in self.root.children:
            if element.name == 'Signature':  # of the file as it was, true no more
                self.edit.remove(element)
        if alone:
            taken = {context.hdu for context in contexts}
            beside = [image for i, image in enumerate(self.images) if i not in taken]
            previews = [
                child for image in self.images for child in image.children
                if child.name == 'Thumbnail'
            ]  # fmt: skip
            for element in beside + previews:
                self.edit.remove(element)

    def write(self, ccd, context):
        """Take an image in the place of the one that it was made of."""
        image = self.images[context.hdu]
        old = image.attributes
        samples = np.asarray(ccd.data) if self.alone else in_range(ccd.data, context, self.path)
        height, width = samples.shape[-2:]
        attributes = old | {'sampleFormat': _NAMES[samples.dtype.newbyteorder('=')]}
        if samples.ndim == 2:
            attributes |= {'geometry': f'{width}:{height}:1', 'colorSpace': 'Gray'}
        if self.alone:
            known = samples[np.isfinite(samples)]
            attributes['bounds'] = f'{known.min(initial=0):.9g}:{known.max(initial=1):.9g}'
        elif context.scale != 1:
            attributes.pop('bounds', None)
            attributes |= {'bounds': '0:1'} if samples.dtype.kind == 'f' else {}
        if samples.ndim == 3 and _is_interleaved(old):
            samples = np.moveaxis(samples, 0, -1)
        order = _stored_dtype(attributes).byteorder
        data = samples.astype(samples.dtype.newbyteorder(order), copy=False).tobytes()
        block, attributes = pack_block(
            data, attributes, self.path, item_size=samples.dtype.itemsize
        )
        self.new[image] = attributes, self._keywords(image, ccd.meta, context), block

    def _keywords(self, image, meta, context):
        """Take out keywords that the newest denoising owns; give those that are new, as XML."""
        for element in keywords_of(image):
            if element.attributes.get('name', '').strip() in _RECORD:
                self.edit.remove(element)
        prefix = image.tag.removesuffix('Image')
        before = Counter(name for name in context.keywords if name not in _RECORD)
        added = []
        for card in fits.Header(meta).cards:
            if before[card.keyword]:
                before[card.keyword] -= 1  # commentary repeats: the first ones are the file's own
            else:
                added.append(keyword_text(prefix, card))
        return b''.join(added)

    def finish(self, handle):
        """Write the file: its header, the new blocks, and the others as they were."""
        blocks, owners = {}, {}  # old place or image: length; and the elements that have it
        for element in self.root.walk():
            if self.edit.is_removed(element):
                continue
            if element in self.new:
                blocks[element] = len(self.new[element][2])
                owners[element] = element
            elif (span := attached_span(element.attributes)) is not None:
                blocks[span] = span[1]
                owners[element] = span
        header, places = self._header_and_places(blocks, owners)
        handle.write(SIGNATURE + len(header).to_bytes(4, 'little') + bytes(4) + header)
        position = FIRST + len(header)
        with open(self.source, 'rb') as original:
            for block, start in places.items():
                handle.write(bytes(start - position))
                if block in self.new:
                    handle.write(self.new[block][2])
                else:
                    _copy(original, handle, *block)
                position = start + blocks[block]

    def _header_and_places(self, blocks, owners):
        """Find places for the blocks behind a header whose length they are part of."""
        length = 0
        while True:
            places, position = {}, FIRST + length
            for block, size in blocks.items():
                position = -(-position // _ALIGNED) * _ALIGNED
                places[block] = position
                position += size
            for element, block in owners.items():
                attributes, added, _ = self.new.get(element, (element.attributes, b'', None))
                location = f'attachment:{places[block]}:{blocks[block]}'
                self.edit.set_tag(element, attributes | {'location': location}, added=added)
            header = self.edit.apply()
            if len(header) == length:
                return header, places
            length = len(header)  # grows with the digits of the places, then stays


def _copy(source, target, start, length):
    source.seek(start)
    while length:
        part = source.read(min(_COPY, length))
        if not part:
            msg = f'{source.name}: was cut while it was copied'
            raise FrameError(msg)
        target.write(part)
        length -= len(part)
