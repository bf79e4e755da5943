# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files of frames to train on: which of a folder they are, what they are called, their planes."""

import numpy as np

from astrodenoise.training.photometry import PairError

__all__ = ['frame_files', 'frame_name', 'read_planes']

SUFFIXES = ('.fits', '.fit', '.fts', '.fz', '.tif', '.tiff', '.png', '.jpg', '.jpeg')
PACKED = ('.gz', '.fz')  # may stand behind another suffix


def frame_files(folder):
    """
    Find the frames of a folder.

    Parameters
    ----------
    folder : `~pathlib.Path`
        Any folder.

    Returns
    -------
    files : dict of str to list of `~pathlib.Path`
        By name, in order; several files may bear one name.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        name = frame_name(path)
        if name and path.is_file():
            files.setdefault(name, []).append(path)
    return files


def frame_name(path):
    """
    Give the name of a frame.

    Parameters
    ----------
    path : `~pathlib.Path`
        A file.

    Returns
    -------
    name : str or None
        Without the suffixes; None where the file is no frame.
    """
    name = path.name
    if name.startswith('.'):
        return None
    packed = name.lower().endswith(PACKED)
    if packed:
        inner = name[:-3]
        if inner.lower().endswith(SUFFIXES):
            return inner.rpartition('.')[0]
    return name.rpartition('.')[0] if name.lower().endswith(SUFFIXES) else None


def read_planes(path, *, raw_colour=True):
    """
    Read a frame.

    Parameters
    ----------
    path : `~pathlib.Path`
        FITS, TIFF, PNG or JPEG.
    raw_colour : bool, optional
        Whether a raw colour mosaic is taken as a plane like any other.

    Returns
    -------
    data : `numpy.ndarray`, (P, H, W)
        Planes in the unit of the file.
    valid : `numpy.ndarray`, (P, H, W), bool
        Which pixels are finite, not masked and not saturated.

    Raises
    ------
    PairError
        If it is no frame to train on.
    """
    if path.suffix.lower() in ('.jpg', '.jpeg'):
        data = _read_jpeg(path)
        return data, np.ones(data.shape, bool)
    from astrodenoise.files import read_frame
    from astrodenoise.frames import open_frame

    ccd, _ = read_frame(path)
    try:
        frame = open_frame(ccd)
    except (TypeError, ValueError) as error:
        msg = f'{path}: {error}'
        raise PairError(msg) from error
    if not raw_colour:
        _refuse_mosaic(path, frame)
    valid = frame.valid
    if frame.saturation is not None:
        valid = valid & ~(frame.data >= frame.saturation)
    return frame.data, valid


def _refuse_mosaic(path, frame):
    """A mosaic that moved by an odd number of pixels shows other colours in the same pixels."""
    from astrodenoise.mosaic import read_pattern

    if len(frame.data) == 1 and read_pattern(frame.meta, frame.data.shape[-2]) is not None:
        msg = (
            f'{path}: is a raw colour mosaic by its header; debayer the exposures first (as '
            '(3, H, W), for the colour weights), or take the pattern out of the header if it is '
            'one plane'
        )
        raise PairError(msg)


def _read_jpeg(path):
    """Planes of a JPEG picture, grey or RGB."""
    try:
        from PIL import Image
    except ImportError as error:
        msg = f'{path}: reading JPEG needs Pillow: pip install pillow'
        raise PairError(msg) from error
    with Image.open(path) as picture:
        if picture.mode not in ('L', 'RGB'):
            msg = f'{path}: is JPEG of mode {picture.mode}; save it as grey or RGB'
            raise PairError(msg)
        pixels = np.asarray(picture, np.float32)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
