# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Kinds of place in a frame: sky, nebulosity, crowding, halos of bright stars.

A place is told by what the frame itself shows there: its local level, and the sources that a
matched filter finds.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, spatial

from astrodenoise.measures.detections import matched_filter, peaks
from astrodenoise.noisemap import sky_of_cells

__all__ = ['PLACES', 'Places', 'find_places', 'light_map']

PLACES = {  # kind -> how it is told
    'sky': 'nothing but sky',
    'nebulosity': 'light of more than 0.7 sigma per pixel on 20 px',
    'crowding': 'at least 4 sources within 8 FWHM',
    'halos': '3 to 10 FWHM from a star whose peak exceeds 100 sigma',
}
LIGHT = 0.7  # sigma, of nebulosity
CROWD, CROWD_RADIUS = 4, 8.0  # sources, FWHM
HALO, BRIGHT = (3.0, 10.0), 100.0  # FWHM; sigma
SEEN, CLEAR = 4.5, 2.0  # matched-filter S/N of a source, and FWHM that are kept clear around it
GAP = 3.0  # FWHM that are kept clear around pixels that do not count
SPIKE = 0.7  # share of the light of 3x3 px that a hot pixel's middle has


@dataclass(frozen=True, eq=False)
class Places:
    """
    Where in a frame something can be put, and of which kind the place is.

    Attributes
    ----------
    kind : `numpy.ndarray`, (H, W), uint8
        0 where nothing can be put, else 1 + number of the kind in ``PLACES``.
    y, x : `numpy.ndarray`, (n,), int
        The sources that the frame shows, in px.
    """

    kind: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def share(self, name):
        """
        Give the share of the frame that is of a kind and free.

        Parameters
        ----------
        name : str
            A kind of ``PLACES``.

        Returns
        -------
        share : float
            0 to 1.
        """
        return float(np.mean(self.kind == self.number(name)))

    @staticmethod
    def number(name):
        """
        Give the number that stands for a kind.

        Parameters
        ----------
        name : str
            A kind of ``PLACES``.

        Returns
        -------
        number : int
            From 1 on.
        """
        return list(PLACES).index(name) + 1


def light_map(light, target, part=(slice(None), slice(None))):
    """
    Filter light with the image of a star, in units of the noise that the filter leaves.

    Parameters
    ----------
    light : `numpy.ndarray`, (h, w)
        A plane, or a part of one, without its local level.
    target : `astrodenoise.inject.Target`
        The plane.
    part : tuple of slice, optional
        Rows and columns of the part.

    Returns
    -------
    snr : `numpy.ndarray`, (h, w)
        S/N of a star at each pixel, the correlation of the noise included.
    """
    snr = matched_filter(light * target.valid[part], target.psf, target.sigma[part])
    return snr / target.psf_noise


def find_places(targets, *, saturated=None, margin=None):
    """
    Tell what kind of place every pixel of a frame is.

    Halos go before crowding, crowding before nebulosity.  Places in which nothing can be put are
    left out: near the border, near pixels that do not count and on sources that the frame shows.

    Parameters
    ----------
    targets : list of `astrodenoise.inject.Target`
        The planes, which show the same field.
    saturated : `numpy.ndarray`, (H, W), bool, optional
        Saturated pixels: the cores of bright stars.
    margin : int, optional
        Pixels along the border that are left out; by default what the largest star's image needs.

    Returns
    -------
    places : `Places`
        Of the frame.
    """
    fwhm = max(target.image.fwhm for target in targets)
    valid = np.all([target.valid for target in targets], axis=0)
    margin = max(target.image.half for target in targets) + 2 if margin is None else margin
    contrasts = [(t.data - t.level) * t.valid / t.sigma for t in targets]
    snr = sum(light_map(c * t.sigma, t) for c, t in zip(contrasts, targets, strict=True))
    y, x, _ = peaks(snr / np.sqrt(len(targets)), SEEN, where=valid)
    contrast = sum(contrasts) / np.sqrt(len(targets))
    star = ~_spikes(contrast, y, x)
    shape = valid.shape
    near_bright = _halos(contrast, y[star], x[star], saturated, fwhm)
    kind = np.full(shape, Places.number('sky'), np.uint8)
    rise = np.mean([_rise(target) for target in targets], axis=0)
    kind[rise > LIGHT] = Places.number('nebulosity')
    kind[_crowded(y[star], x[star], shape, fwhm)] = Places.number('crowding')
    kind[near_bright] = Places.number('halos')
    free = _away(~valid, GAP * fwhm) & _away(_marked(y, x, shape), CLEAR * fwhm)
    if saturated is not None and saturated.any():
        free &= _away(saturated, HALO[0] * fwhm)
    bright = _bright(contrast, y, x)
    free &= _away(_marked(y[bright], x[bright], shape), HALO[0] * fwhm)
    free[:margin] = free[shape[0] - margin :] = False
    free[:, :margin] = free[:, shape[1] - margin :] = False
    return Places(np.where(free, kind, 0).astype(np.uint8), y, x)


def _spikes(contrast, y, x):
    """Which peaks are single pixels."""
    padded = np.pad(contrast, 1)
    around = sum(padded[y + dy, x + dx] for dy in range(3) for dx in range(3))
    return contrast[y, x] > SPIKE * np.maximum(around, 0)


def _bright(contrast, y, x):
    return contrast[y, x] > BRIGHT


def _marked(y, x, shape):
    mark = np.zeros(shape, bool)
    mark[y, x] = True
    return mark


def _away(mark, distance):
    """Pixels that are further from all marked ones."""
    if not mark.any():
        return np.ones(mark.shape, bool)
    return ndimage.distance_transform_edt(~mark) > distance


def _halos(contrast, y, x, saturated, fwhm):
    """Surroundings of bright stars."""
    bright = _bright(contrast, y, x)
    core = _marked(y[bright], x[bright], contrast.shape)
    if saturated is not None:
        core |= saturated
    return ~_away(core, HALO[1] * fwhm)


def _crowded(y, x, shape, fwhm):
    """Pixels with several sources around them."""
    crowded = np.zeros(shape, bool)
    if len(y) < CROWD:
        return crowded
    step = max(1, int(fwhm))
    rows, columns = (np.arange(step // 2, n, step) for n in shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing='ij'), axis=-1)
    tree = spatial.cKDTree(np.column_stack([y, x]))
    count = tree.query_ball_point(
        grid.reshape(-1, 2), CROWD_RADIUS * fwhm, return_length=True
    ).reshape(grid.shape[:2])
    at = [np.minimum(np.arange(n) // step, m - 1) for n, m in zip(shape, count.shape, strict=True)]
    return count[np.ix_(*at)] >= CROWD


def _rise(target):
    """Level on 20 px above the sky, in sigma: whatever slopes evenly is no light."""
    sigma = target.noise.sigma
    height, width = target.level.shape
    line = [np.linspace(-0.5, 0.5, n) for n in (height, width)]
    slope = [n * part for n, part in zip((height, width), target.slope, strict=True)]
    tilt = slope[0] * line[0][:, None] + slope[1] * line[1]
    rise = np.inf
    for level in (target.level, target.level - tilt):
        sky = sky_of_cells(level[::8, ::8].ravel(), sigma)
        rise = np.minimum(rise, (level - sky) / sigma)
    return rise
