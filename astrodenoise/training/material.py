# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Real frames that are clean enough to add noise to.

No real frame is noiseless: each is used at a scale where its own noise is at most a fifth of the
noise that is added.
"""

import itertools
import logging
from pathlib import Path

import numpy as np
from scipy import ndimage

from astrodenoise.estimate import fine_scale_sigma
from astrodenoise.starmask import LUMINANCE

__all__ = ['crops', 'load_material']

log = logging.getLogger(__name__)

OWN_NOISE = 0.2  # of the added noise, at most
MAX_CLIPPED = 1e-3  # share of a picture's crop at 0 or full scale
MAX_MOTTLE = 2.5  # grey levels of colour mottle in the binned picture
CROP = 512
MIN_CROP = 256


def crops(image, *, size=CROP, smallest=MIN_CROP, unit=128):
    """
    Cut an image into pieces.

    Parameters
    ----------
    image : `numpy.ndarray`, (..., H, W)
        Any.
    size, smallest : int, optional
        Longest and shortest side of a piece in px.
    unit : int, optional
        The sides are multiples of it.

    Yields
    ------
    crop : `numpy.ndarray`
        Views.
    """
    counts = [max(1, n // size) for n in image.shape[-2:]]
    for rows in np.array_split(np.arange(image.shape[-2]), counts[0]):
        for cols in np.array_split(np.arange(image.shape[-1]), counts[1]):
            side_y, side_x = (min(len(a), size) // unit * unit for a in (rows, cols))
            if min(side_y, side_x) >= smallest:
                yield image[..., rows[0] : rows[0] + side_y, cols[0] : cols[0] + side_x]


def _picture_scenes(path, n_planes):
    """Clean crops of a stretched 8-bit picture, binned 2x2, in units of five times its noise."""
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.moveaxis(np.asarray(picture.convert('RGB'), np.float32), -1, 0)
    if 'stellarium' in path.parent.name:  # their edges fade to black
        height, width = pixels.shape[1:]
        pixels = pixels[:, height // 6 : -(height // 6), width // 6 : -(width // 6)]
    height, width = (n // 2 * 2 for n in pixels.shape[1:])
    pixels = pixels[:, :height, :width]
    clipped = np.any((pixels <= 0) | (pixels >= 255), axis=0)
    binned = pixels.reshape(3, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    clipped = clipped.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3))
    stack = np.concatenate([binned, clipped[None]])
    for crop in crops(stack, size=384, smallest=128):
        if crop[3].mean() > MAX_CLIPPED * 10 or _colour_mottle(crop[:3]) > MAX_MOTTLE:
            continue
        planes = crop[:3] if n_planes == 3 else np.tensordot(LUMINANCE, crop[:3], axes=1)[None]
        # binned 8-bit levels are rounded, too
        noise = max(*(fine_scale_sigma(plane) for plane in planes), 0.3)
        sky = np.quantile(planes, 0.05, axis=(1, 2), keepdims=True)
        yield ((planes - sky) / (noise / OWN_NOISE)).astype(np.float32)


def _colour_mottle(crop):
    """Rms of red minus green on scales of 1 to 6 px, stars left out."""
    difference = crop[0] - crop[1]
    band = ndimage.gaussian_filter(difference, 1) - ndimage.gaussian_filter(difference, 6)
    return 1.4826 * float(np.median(np.abs(band - np.median(band))))


def _frame_scenes(path, n_planes):
    """Clean crops of a linear FITS frame, which has one plane, in units of five times its noise."""
    if n_planes != 1:
        return
    from astropy.io import fits

    with fits.open(path) as hdus:
        data = next(hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
        data = np.asarray(data, np.float32)
    for crop in crops(data):
        if not np.isfinite(crop).all():
            continue
        noise = fine_scale_sigma(crop)
        if noise <= 0:
            continue
        scene = (crop - np.quantile(crop, 0.1)) / (noise / OWN_NOISE)
        if np.quantile(scene, 0.99) > 2:  # else nothing stands out of the noise that is added
            yield scene[None].astype(np.float32)


PLATES = ('HorseHead', 'M6707HH', 'NGC6819-DSS')  # photographic grain is no clean sky
MAX_CROPS = 4  # of one object, so that none rules

SOURCES = {  # source: pattern, reader
    'pictures': ('pictures/*.jpg', _picture_scenes),
    'pictures_stellarium': ('pictures_stellarium/*.png', _picture_scenes),
    'linear': ('linear/*.fits.fz', _frame_scenes),
    'real_sao_bulge': ('real_sao_bulge/aligned_stack_others.fits.fz', _frame_scenes),
}


def load_material(folder, *, n_planes=1):
    """
    Read clean scenes from a folder of real frames.

    Parameters
    ----------
    folder : str or path-like
        Holds the folders of ``SOURCES``; those that are missing are left out.
    n_planes : {1, 3}, optional
        Luminance and linear frames, or red, green and blue of the pictures.

    Returns
    -------
    scenes : list of (str, `numpy.ndarray`)
        Name of the object (file) and a scene, (P, H, W) float32, in units of the smallest noise
        to add.
    passed : dict
        Number of crops that passed, by source.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        msg = f'there is no folder {str(folder)!r} with real frames: give the right one, or none'
        raise FileNotFoundError(msg)
    scenes, passed = [], {}
    for source, (pattern, read) in SOURCES.items():
        before = len(scenes)
        for path in sorted(folder.glob(pattern)):
            if not path.name.startswith(PLATES):
                chosen = itertools.islice(read(path, n_planes), MAX_CROPS)
                scenes.extend((path.name, scene) for scene in chosen)
        passed[source] = len(scenes) - before
        log.info('%s: %d clean crops', source, passed[source])
    return scenes, passed
