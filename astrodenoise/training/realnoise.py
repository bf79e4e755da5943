# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Real noise, cut from differences of raw frames, on simulated scenes.

In the difference of two frames of one camera what is fixed cancels and noise that changes from
frame to frame stays, rows' and columns' offsets with it; divided by the root of two it has the size
of one frame's.  Stars do not cancel and are left out.
"""

import itertools
import logging
from pathlib import Path

import numpy as np
from scipy import ndimage

from astrodenoise.background import local_level
from astrodenoise.estimate import fine_scale_sigma
from astrodenoise.training.material import crops

__all__ = ['load_noise', 'noise_of_difference']

log = logging.getLogger(__name__)

N_SIGMA = 4.0  # of a frame smoothed over 3x3 px, above which it shows a source
GROWTH = 5  # px round a source
FARTHEST = 12.0  # sigma: what differs by more is a cosmic ray
MOST_PAIRS = 40  # of frames


def _sources(frame, level, sigma):
    """Pixels of stars and the like, in either direction, and what lies round them."""
    smooth = ndimage.uniform_filter(frame - level, 3)
    return ndimage.binary_dilation(np.abs(smooth) > N_SIGMA * sigma / 3, iterations=GROWTH)


def noise_of_difference(first, second):
    """
    Cut the noise out of two raw frames.

    Parameters
    ----------
    first, second : `numpy.ndarray`, (H, W)
        Frames of one camera and exposure time; what is fixed on the detector is alike in both.

    Returns
    -------
    noise : `numpy.ndarray`, (H, W), float32
        In units of a frame's own fine-scale noise, without large-scale structure.
    valid : `numpy.ndarray`, (H, W), bool
        False in stars and in what differs too much to be noise.
    """
    everything = np.ones(first.shape, bool)
    difference = (first.astype(np.float64) - second) / np.sqrt(2)
    sigma = fine_scale_sigma(difference)
    valid = everything.copy()
    for frame in (first, second):
        frame = frame.astype(np.float64)
        # the fixed pattern of a raw frame is rougher than its noise
        own = max(fine_scale_sigma(frame), sigma)
        valid &= ~_sources(frame, local_level(frame, everything).fine_whole(), own)
    rows, columns = (np.arange(n) for n in first.shape)
    noise = (difference - local_level(difference, valid).wide_at(rows, columns)) / sigma
    valid &= np.abs(noise) < FARTHEST
    return noise.astype(np.float32), valid


def load_noise(folder, *, size=512):
    """
    Cut real noise from the raw frames of a folder.

    Parameters
    ----------
    folder : str or path-like
        FITS frames of one camera, gain and exposure time; all are cut to their smallest sides.
    size : int, optional
        Largest side of a piece in px.

    Returns
    -------
    pieces : list of (str, `numpy.ndarray`, `numpy.ndarray`)
        Names of both frames, noise of rms 1 and the pixels that count, as `noise_of_difference`
        gives them.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there are no two frames in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        msg = f'there is no folder {str(folder)!r} of raw frames: give the right one, or none'
        raise FileNotFoundError(msg)
    paths = sorted(path for path in folder.iterdir() if '.fit' in path.name.lower())
    if len(paths) < 2:
        msg = f'{str(folder)!r} holds {len(paths)} FITS frames: a difference needs two'
        raise ValueError(msg)
    frames = {path.name: _read(path) for path in paths}
    height, width = (min(frame.shape[axis] for frame in frames.values()) for axis in (0, 1))
    pieces = []
    for one, other in itertools.islice(itertools.combinations(frames, 2), MOST_PAIRS):
        noise, valid = noise_of_difference(
            frames[one][:height, :width], frames[other][:height, :width]
        )
        for piece in crops(np.stack([noise, valid.astype(np.float32)]), size=size):
            pieces.append((f'{one}-{other}', piece[0], piece[1] > 0))
    log.info('%s: %d pieces of real noise', folder, len(pieces))
    return pieces


def _read(path):
    """The first image of a FITS file."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        return np.array(next(h.data for h in hdus if h.data is not None and h.data.ndim == 2))
