# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The XML header of an XISF file: read with the place of every element, and changed in place.

What is not changed stays to the byte, whatever it is.
"""

import dataclasses
import re
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

__all__ = ['Element', 'HeaderEdit', 'parse_header', 'read_header', 'tag_text']

SIGNATURE = b'XISF0100'
FIRST = 16  # bytes before the XML: signature, its length, reserved
_TAG = re.compile(rb'<(?:[^<>"\']|"[^"]*"|\'[^\']*\')*>')
_ESCAPED = {'\n': '&#10;', '\r': '&#13;', '\t': '&#9;'}


@dataclasses.dataclass(eq=False)
class Element:
    """
    An element of the header, and where it stands in it.

    Attributes
    ----------
    name : str
        Without a prefix of its namespace.
    tag : str
        As it is written.
    attributes : dict
        Names and values.
    start : int
        Its first byte.
    body : int
        The first byte after its start tag.
    close : int
        The first byte of its end tag; that after it where it has none of its own.
    stop : int
        The first byte after it.
    children : list of Element
        Those directly in it.
    """

    name: str
    tag: str
    attributes: dict
    start: int
    body: int
    close: int = -1
    stop: int = -1
    children: list = dataclasses.field(default_factory=list)

    @property
    def is_empty(self):
        """Whether it ends with its start tag: ``<a/>``."""
        return self.close == self.stop

    def walk(self):
        """
        Give the element and all in it.

        Yields
        ------
        element : Element
            In no special order.
        """
        todo = [self]
        while todo:
            element = todo.pop()
            yield element
            todo += element.children


def read_header(path, size):
    """
    Read the bytes of the XML header.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    size : int
        Of the file, in bytes.

    Returns
    -------
    header : bytes
        Without what fills it up.

    Raises
    ------
    ValueError
        If the file ends before it does.
    """
    with open(path, 'rb') as handle:
        handle.seek(len(SIGNATURE))
        length = int.from_bytes(handle.read(4), 'little')
        if size < FIRST + length:
            msg = f'it is truncated: its header ends at byte {FIRST + length}, the file at {size}'
            raise ValueError(msg)
        handle.seek(FIRST)
        return handle.read(length).rstrip(b'\0')


def parse_header(header):
    """
    Read the elements of the header.

    Parameters
    ----------
    header : bytes
        XML in UTF-8.

    Returns
    -------
    root : Element
        The element that holds all others.

    Raises
    ------
    ValueError
        If it is no XML, or declares a document type, whose entities may grow without end.
    """
    parser = expat.ParserCreate('UTF-8')
    parser.buffer_text = True
    root, opened = [], []

    def refuse(*_):
        msg = 'its header declares a document type, which no XISF file has'
        raise ValueError(msg)

    def begin(tag, attributes):
        start = parser.CurrentByteIndex
        match = _TAG.match(header, start)
        body = match.end() if match else start
        element = Element(tag.rpartition(':')[2], tag, attributes, start, body)
        (opened[-1].children if opened else root).append(element)
        opened.append(element)

    def end(_):
        element = opened.pop()
        if header[element.body - 2 : element.body] == b'/>':
            element.close = element.stop = element.body
        else:
            element.close = parser.CurrentByteIndex
            element.stop = header.index(b'>', element.close) + 1

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    try:
        parser.Parse(header, True)
    except expat.ExpatError as error:
        msg = f'its header is no XML: {error}'
        raise ValueError(msg) from error
    if root[0].name != 'xisf':
        msg = f'its header is {root[0].name!r}, expected xisf'
        raise ValueError(msg)
    return root[0]


def tag_text(tag, attributes, *, is_empty):
    """
    Write a start tag.

    Parameters
    ----------
    tag : str
        The name of the element, with its prefix.
    attributes : dict
        Names and values.
    is_empty : bool
        Whether the element ends with it.

    Returns
    -------
    text : bytes
        UTF-8.
    """
    pairs = ''.join(f' {name}={quoteattr(value, _ESCAPED)}' for name, value in attributes.items())
    return f'<{tag}{pairs}{"/" if is_empty else ""}>'.encode()


class HeaderEdit:
    """
    Changes to a header, made all at once.

    Parameters
    ----------
    header : bytes
        As it was.
    """

    def __init__(self, header):
        self._header, self._changes, self._removed = header, {}, []

    def remove(self, element):
        """
        Leave an element out, with all in it.

        Parameters
        ----------
        element : Element
            Of this header.
        """
        self._removed.append((element.start, element.stop))

    def is_removed(self, element):
        """
        Say whether an element is left out.

        Parameters
        ----------
        element : Element
            Of this header.

        Returns
        -------
        removed : bool
            Whether it is, or one that it lies in.
        """
        return any(start <= element.start < stop for start, stop in self._removed)

    def set_tag(self, element, attributes, *, added=b''):
        """
        Give an element other attributes, and more in it.

        Parameters
        ----------
        element : Element
            Of this header.
        attributes : dict
            All that it will have.
        added : bytes, optional
            XML that is put in as its last children.
        """
        is_empty = element.is_empty and not added
        text = tag_text(element.tag, attributes, is_empty=is_empty)
        if element.is_empty and added:
            text += added + f'</{element.tag}>'.encode()
        self._changes[element.start, element.body] = text
        if added and not element.is_empty:
            self._changes[element.close, element.close] = added

    def apply(self):
        """
        Make the changes.

        Returns
        -------
        header : bytes
            With them.
        """
        changes = {
            span: text
            for span, text in self._changes.items()
            if not any(start <= span[0] < stop for start, stop in self._removed)
        }
        parts, place = [], 0
        for (start, stop), text in sorted((changes | dict.fromkeys(self._removed, b'')).items()):
            if start < place:
                continue  # within an element that is left out
            parts += [self._header[place:start], text]
            place = stop
        return b''.join([*parts, self._header[place:]])
