# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The FITS keywords of an image in XISF, to a FITS header and back."""

import contextlib
import re

import numpy as np
from astropy.io import fits

from astrodenoise.xisfheader import tag_text

__all__ = ['header_of', 'keyword_text', 'keywords_of']


def keywords_of(image):
    """
    Give the elements of the FITS keywords of an image.

    Parameters
    ----------
    image : `~astrodenoise.xisfheader.Element`
        The image.

    Returns
    -------
    elements : list of `~astrodenoise.xisfheader.Element`
        In their order.
    """
    return [element for element in image.children if element.name == 'FITSKeyword']


def header_of(image):
    """
    Make a FITS header of the keywords of an image.

    Parameters
    ----------
    image : `~astrodenoise.xisfheader.Element`
        The image.

    Returns
    -------
    header : `~astropy.io.fits.Header`
        Without what no header can hold.
    """
    header = fits.Header()
    for element in keywords_of(image):
        texts = (element.attributes.get(name, '') for name in ('name', 'value', 'comment'))
        name, value, comment = (re.sub(r'[^ -~]', '?', text).strip() for text in texts)
        if name.upper() in ('', 'HISTORY', 'COMMENT'):
            header.append((name.upper(), _value_of(value) if value else comment), end=True)
            continue
        with contextlib.suppress(ValueError, fits.VerifyError):
            header.append((name, _value_of(value), comment), end=True)
    _mend(header, image)
    return header


def _mend(header, image):
    """Say in FITS what XISF says elsewhere: a mosaic's pattern, and that the range is another."""
    filters = [child.attributes for child in image.children if child.name == 'ColorFilterArray']
    if filters and 'BAYERPAT' not in header and len(filters[0].get('pattern', '')) == 4:
        header['BAYERPAT'] = filters[0]['pattern']
    top, level = image.attributes.get('bounds', '').rpartition(':')[2], header.get('SATURATE')
    is_number = isinstance(level, int | float) and isinstance(_value_of(top), int | float)
    if is_number and level > _value_of(top):
        del header['SATURATE']  # in the camera's numbers, before the range was changed


def _value_of(text):
    """Read a value as a FITS card has it."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'").rstrip()
    if text in ('T', 'F'):
        return text == 'T'
    if re.fullmatch(r'[+-]?\d+', text):
        return int(text)
    if re.fullmatch(r'[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?', text):
        return float(text.upper().replace('D', 'E'))
    return text or None


def keyword_text(prefix, card):
    """
    Write a card as an element.

    Parameters
    ----------
    prefix : str
        Of the elements' namespace, with its colon; empty where they have none.
    card : `~astropy.io.fits.Card`
        Of a header.

    Returns
    -------
    text : bytes
        XML.
    """
    value, comment = card.value, card.comment
    if card.keyword in ('HISTORY', 'COMMENT', ''):
        value, comment = '', str(card.value)
    elif isinstance(value, bool | np.bool_):
        value = 'T' if value else 'F'
    elif isinstance(value, str):
        value = "'" + value.replace("'", "''") + "'"
    else:
        value = '' if value is None or isinstance(value, fits.card.Undefined) else str(value)
    attributes = {'name': card.keyword, 'value': value, 'comment': comment}
    return tag_text(f'{prefix}FITSKeyword', attributes, is_empty=True)
