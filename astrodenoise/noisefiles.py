# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What was found in a look at a frame, in a file: the next look costs nothing.

The file is the JSON of `astrodenoise.FrameNoise`, which ``denoise(..., noise=)`` takes for any
frame of that shape.  Beside it stands what else is known of the very frame that was looked at (its
tilt, its pixels without noise), so that a part of it can be denoised as in the whole.
"""

import base64
import hashlib
import json

import numpy as np

from astrodenoise.filecontext import FrameError
from astrodenoise.known import Known
from astrodenoise.marks import Marks
from astrodenoise.noisemodel import FrameNoise

__all__ = ['frame_key', 'known_text', 'read_noise_file']

ROWS = 512  # that are looked at at once


def frame_key(frame):
    """
    Give what the pixels of a frame, and those that count, are known by.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        A frame that was opened and not looked at.

    Returns
    -------
    digits : str
        24 hex digits of a SHA-256.
    """
    digest = hashlib.sha256(repr((frame.shape, frame.dtype.str)).encode())
    height, width = frame.shape[1:]
    for number in range(frame.shape[0]):
        for first in range(0, height, ROWS):
            rows = slice(first, min(first + ROWS, height))
            window = frame.window(slice(number, number + 1), rows, slice(0, width))
            digest.update(np.ascontiguousarray(window.data).view(np.uint8))
            digest.update(np.packbits(window.valid))
    return digest.hexdigest()[:24]


def known_text(frame, known, key, *, saturation=None):
    """
    Write what is known of a frame.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame after the look.
    known : list of `astrodenoise.known.Known`
        Of each plane.
    key : str
        What `frame_key` gave before the look.
    saturation : float, optional
        The level of saturation that was given for the look.

    Returns
    -------
    text : str
        JSON, which `read_noise_file` and `astrodenoise.FrameNoise.from_json` read.

    Raises
    ------
    ValueError
        If the noise is a plane of sigma.
    """
    unit = '' if frame.unit is None else str(frame.unit)
    if any(one.reading is not None for one in known):
        msg = 'the noise of this frame is a sigma of each pixel: it is not saved, give it again'
        raise ValueError(msg)
    content = json.loads(FrameNoise(tuple(one.noise for one in known), unit).to_json())
    content['frame'] = {
        'pixels': key,
        'saturation': saturation,
        'planes': [_as_dict(frame, *pair) for pair in enumerate(known)],
    }
    return json.dumps(content) + '\n'


def read_noise_file(path):
    """
    Read a file that `known_text` or `astrodenoise.FrameNoise.to_json` wrote.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.

    Returns
    -------
    noise : `astrodenoise.FrameNoise`
        The noise.
    known_of : callable
        ``known_of(key, saturation)`` gives the list of `astrodenoise.known.Known` of the frame that
        was looked at, None for any other frame or level of saturation.

    Raises
    ------
    FrameError
        If it is no such file.
    """
    try:
        with open(path, encoding='utf-8') as handle:
            text = handle.read()
        noise, frame = FrameNoise.from_json(text), json.loads(text).get('frame')
        planes = [] if frame is None else [
            _from_dict(*pair) for pair in zip(noise.planes, frame['planes'], strict=True)
        ]  # fmt: skip
    except OSError as error:
        msg = f'{path}: cannot be read: {error.strerror or error}'
        raise FrameError(msg) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f'{path}: is no noise that --save-noise or FrameNoise.to_json() wrote'
        raise FrameError(msg) from error

    def known_of(key, saturation):
        same = frame is not None and (frame['pixels'], frame['saturation']) == (key, saturation)
        return planes if same else None

    return noise, known_of


def _as_dict(frame, number, one):
    """What is known of a plane but its noise, as plain types."""
    marks = one.marks
    if marks is None:  # then they are left out of the frame itself
        place = tuple(slice(0, n) for n in frame.shape[1:])
        marks = Marks.of(place, frame.valid[number], frame.saturated[number])
    return {
        'tilt': [float(value) for value in one.tilt],
        'light': float(one.light),
        'counts': one.counts,
        'n_pixels': int(one.n_pixels),
        'constant': bool(one.constant),
        'saturation': marks.saturation,
        'top': sorted(marks.top),
        'floor': sorted(marks.floor),
        'gaps': [_packed(*panel) for panel in marks.gaps],
        'bright': [_packed(*panel) for panel in marks.bright],
    }


def _from_dict(noise, one):
    marks = Marks(
        one['saturation'], set(one['top']), set(one['floor']),
        *([_unpacked(*panel) for panel in one[name]] for name in ('gaps', 'bright')),
    )  # fmt: skip
    return Known(
        noise, tuple(one['tilt']), one['light'], dict(one['counts']), one['n_pixels'],
        one['constant'], marks=marks,
    )  # fmt: skip


def _packed(rows, cols, pixels):
    ends = (rows.start, rows.stop, cols.start, cols.stop)
    return [*map(int, ends), base64.b64encode(pixels).decode()]


def _unpacked(top, bottom, left, right, text):
    return slice(top, bottom), slice(left, right), base64.b64decode(text)
