# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How exposures of one field lie to each other, to a small part of a pixel.

Stars are matched by the triangles that they form (astroalign); all stars that both show then refine
the map.  Where there are too few, the peak of the cross-correlation tells a shift.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage, spatial

from astrodenoise.background import fill_nearest, local_level
from astrodenoise.measures.detections import matched_filter, moffat, peaks
from astrodenoise.measures.shapes import adaptive_moments, stamps_at
from astrodenoise.training.photometry import PairError
from astrodenoise.training.registration import COARSE, MAX_SHIFT_ERROR, measure_shift

__all__ = ['Alignment', 'Sighting', 'align', 'resample']

LEAST_SNR = 12.0  # matched filter, of stars that are matched
WIDTH = 3.0  # px, FWHM that stars are searched with
SHARP, WIDE = 0.6, 2.5  # of the common FWHM: what is narrower is no star, what is wider neither
SPIKE, SHARED = 5.0, 0.2  # sigma, and the share of it that the neighbours of a star's core have
MOST = 30  # brightest stars that form triangles
BRIGHTEST = 100  # stars that tell the seeing
LARGEST = 1000  # stars of an exposure
FEWEST = 5  # stars, below which no map is made of them
AFFINE = 12  # stars, from which on shear is fitted, too
NEAR = 3.0  # px, of a star from where it is expected, at first
ROUNDS = 6
CENTRE = 0.03  # px, to which a centroid is known at best
MAX_ERROR = 0.15  # px, of a map that is taken
ORDER = 5  # of the splines: stars of 2 px FWHM lose 3 % of their peaks at most, 6 % with 3
GROWTH = 2  # px, round pixels that do not count, that the interpolation reaches


@dataclass(frozen=True, eq=False)
class Sighting:
    """
    What an exposure shows for its alignment.

    Attributes
    ----------
    plane : `numpy.ndarray`, (H, W)
        The exposure, its planes together.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    sigma : float
        Noise of a pixel.
    """

    plane: np.ndarray
    valid: np.ndarray
    sigma: float

    @cached_property
    def stars(self):
        """Positions y, x of stars, the brightest first, and their S/N (array, (n, 3))."""
        return self._found[0]

    @cached_property
    def fwhm(self):
        """Of a star in px (float); a usual one where no star tells it."""
        return self._found[1]

    @cached_property
    def _found(self):
        level = local_level(self.plane, self.valid).fine_whole()
        light = _without_spikes(np.where(self.valid, self.plane - level, 0.0), self.sigma)
        half = int(np.ceil(2 * WIDTH))
        snr = matched_filter(light, moffat(WIDTH), self.sigma)
        inner = np.zeros(light.shape, bool)
        inner[half:-half, half:-half] = True
        whole = ndimage.minimum_filter(self.valid, 2 * half - 1)  # saturated stars have no centre
        y, x, height = peaks(snr, LEAST_SNR, where=inner & whole)
        order = np.argsort(-height, kind='stable')[:LARGEST]
        y, x, height = y[order], x[order], height[order]
        shapes = adaptive_moments(stamps_at(light, y, x, half), WIDTH)
        known = np.isfinite(shapes.fwhm)
        if not known.any():
            return np.empty((0, 3)), WIDTH
        common = float(np.median(shapes.fwhm[known]))
        star = known & (shapes.fwhm > SHARP * common) & (shapes.fwhm < WIDE * common)
        found = np.column_stack([y + shapes.y, x + shapes.x, height])[star]
        return found, float(np.median(shapes.fwhm[star][:BRIGHTEST]))


@dataclass(frozen=True, eq=False)
class Alignment:
    """
    Where the places of one exposure lie in another: ``matrix @ (y, x) + offset``.

    Attributes
    ----------
    matrix : `numpy.ndarray`, (2, 2)
        Rotation, scale and shear.
    offset : `numpy.ndarray`, (2,)
        In px.
    error : float
        In px, at the frame's corners.
    """

    matrix: np.ndarray
    offset: np.ndarray
    error: float = 0.0

    def __call__(self, places):
        """
        Map places.

        Parameters
        ----------
        places : `numpy.ndarray`, (..., 2)
            As y, x in px of the one exposure.

        Returns
        -------
        places : `numpy.ndarray`, (..., 2)
            In the other.
        """
        return places @ self.matrix.T + self.offset

    def inverse(self):
        """
        Give the way back.

        Returns
        -------
        alignment : `Alignment`
            From the other exposure to the one.
        """
        matrix = np.linalg.inv(self.matrix)
        return Alignment(matrix, -matrix @ self.offset, self.error)

    def then(self, other):
        """
        Go on to a third exposure.

        Parameters
        ----------
        other : `Alignment`
            From the other exposure to the third.

        Returns
        -------
        alignment : `Alignment`
            From the one to the third.
        """
        matrix, offset = other.matrix @ self.matrix, other(self.offset)
        return Alignment(matrix, offset, float(np.hypot(self.error, other.error)))

    def moved(self, shape):
        """
        Tell how far the sky moved on the detector.

        Parameters
        ----------
        shape : tuple of int
            Of the exposure.

        Returns
        -------
        moved : float
            In px, the median over the frame.
        """
        places = _grid(shape)
        return float(np.median(np.hypot(*(self(places) - places).T)))


def _without_spikes(light, sigma):
    """Single pixels that their neighbours do not share, such as hot ones, replaced by these."""
    cross = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    around = ndimage.convolve(light, cross, mode='nearest')
    spike = (light > SPIKE * sigma) & (around < SHARED * light)
    return np.where(spike, around, light)


def _grid(shape, n=9):
    """Places y, x all over a frame, (n * n, 2)."""
    lines = (np.linspace(0, side - 1, n) for side in shape)
    return np.stack(np.meshgrid(*lines, indexing='ij'), axis=-1).reshape(-1, 2)


def align(here, there):
    """
    Find where the places of one exposure lie in another.

    Parameters
    ----------
    here, there : `Sighting`
        Two exposures of one field, of one shape.

    Returns
    -------
    alignment : `Alignment`
        From the first to the second.

    Raises
    ------
    PairError
        If neither stars nor the cross-correlation tell it.
    """
    found = _by_stars(here, there)
    reason = '' if found is None else f'; stars tell it to {found.error:.2f} px only'
    if found is None or found.error > MAX_ERROR:
        found = _by_correlation(here, there) or found
    if found is None or found.error > MAX_SHIFT_ERROR:
        msg = (
            f'cannot be aligned: {len(there.stars)} and {len(here.stars)} stars over '
            f'{LEAST_SNR:g} sigma show no common pattern of {FEWEST} at least, and no shift stands '
            f'out of the cross-correlation{reason}; give exposures of one field that are deep '
            'enough to show stars'
        )
        raise PairError(msg)
    return found


def _by_stars(here, there):
    """Map by stars; None where they have no common pattern."""
    if min(len(here.stars), len(there.stars)) < FEWEST:
        return None
    try:
        import astroalign
    except ImportError as error:
        msg = "aligning by stars needs astroalign: pip install 'astrodenoise[train]'"
        raise ImportError(msg) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of packages that astroalign loads
            found, _ = astroalign.find_transform(here.stars[:MOST, :2], there.stars[:MOST, :2])
    except (astroalign.MaxIterError, TypeError, ValueError, IndexError):
        return None
    matrix = np.asarray(found.params, float)
    return _refined(Alignment(matrix[:2, :2], matrix[:2, 2]), here, there)


def _refined(alignment, here, there):
    """Fit the map to all stars that both show; None where these are too few."""
    tree, near = spatial.cKDTree(there.stars[:, :2]), NEAR
    for _ in range(ROUNDS):
        distance, partner = tree.query(alignment(here.stars[:, :2]))
        # of several stars that have one partner the nearest counts
        order = np.argsort(distance, kind='stable')
        _, first = np.unique(partner[order], return_index=True)
        chosen = order[first]
        chosen = chosen[distance[chosen] < near]
        if len(chosen) < FEWEST:
            return None
        ours, theirs = here.stars[chosen], there.stars[partner[chosen]]
        spread = [CENTRE**2 + (WIDTH / stars[:, 2]) ** 2 for stars in (ours, theirs)]
        alignment = _fitted(ours[:, :2], theirs[:, :2], 1 / sum(spread), here.plane.shape)
        rest = np.hypot(*(alignment(ours[:, :2]) - theirs[:, :2]).T)
        near = max(4 * 1.2 * np.median(rest), 0.3)  # the median is 1.2 sigma of a coordinate
    return alignment


def _fitted(ours, theirs, weight, shape):
    """Weighted least squares: an affine map, of few stars a similarity."""
    middle = (np.array(shape) - 1) / 2
    y, x = (ours - middle).T
    one, none = np.ones(len(y)), np.zeros(len(y))
    if len(y) >= AFFINE:
        rows = np.stack([y, x, one, none, none, none]), np.stack([none, none, none, y, x, one])
    else:  # y' = a y - b x + c, x' = b y + a x + d
        rows = np.stack([y, -x, one, none]), np.stack([x, y, none, one])
    terms = np.concatenate([part.T for part in rows])
    root = np.sqrt(np.concatenate([weight, weight]))
    target = np.concatenate([theirs[:, 0], theirs[:, 1]])
    values, *_ = np.linalg.lstsq(terms * root[:, None], target * root, rcond=None)
    rest = (terms @ values - target) * root
    covariance = np.linalg.pinv((terms * root[:, None]).T @ (terms * root[:, None]))
    covariance *= np.sum(rest**2) / max(len(rest) - len(values), 1)
    if len(values) == 6:
        matrix, shift = np.array([values[:2], values[3:5]]), values[[2, 5]]
    else:
        a, b = values[:2]
        matrix, shift = np.array([[a, -b], [b, a]]), values[2:]
    corners = _grid(shape, 2) - middle
    error = max(_error_at(corner, covariance) for corner in corners)
    return Alignment(matrix, shift - matrix @ middle, error)


def _error_at(place, covariance):
    """Error in px of where a place is mapped to."""
    y, x = place
    if len(covariance) == 6:
        rows = np.array([[y, x, 1, 0, 0, 0], [0, 0, 0, y, x, 1]])
    else:
        rows = np.array([[y, -x, 1, 0], [x, y, 0, 1]])
    return float(np.sqrt(np.trace(rows @ covariance @ rows.T)))


def _by_correlation(here, there):
    """A shift, where one stands out; None else."""
    good = here.valid & there.valid
    shift, error = measure_shift(
        here.plane, there.plane, good, point=COARSE, max_lag=max(here.plane.shape)
    )
    return Alignment(np.eye(2), np.array(shift), error) if np.isfinite(error) else None


def resample(plane, valid, alignment, box):
    """
    Show a part of an exposure on the grid of another.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W)
        The exposure that is resampled.
    valid : `numpy.ndarray`, (H, W), bool
        Its pixels that count.
    alignment : `Alignment`
        From the grid to the exposure.
    box : tuple of slice
        Rows and columns of the grid.

    Returns
    -------
    moved : `numpy.ndarray`, (h, w), float64
        By splines; 0 where nothing counts.
    valid : `numpy.ndarray`, (h, w), bool
        Which pixels have a value, from pixels that count alone.
    """
    shape = tuple(part.stop - part.start for part in box)
    first = np.array([part.start for part in box])
    corners = alignment(_grid(shape, 2) + first)
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 16, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 17, plane.shape)
    if (high - low < 4).any():
        return np.zeros(shape), np.zeros(shape, bool)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    plane, valid = plane[part].astype(np.float64), valid[part]
    offset = alignment(first) - low
    if not valid.any():
        return np.zeros(shape), np.zeros(shape, bool)
    middle = np.median(plane[valid])
    plane = fill_nearest(plane, valid) - middle
    moved = ndimage.affine_transform(
        plane, alignment.matrix, offset, shape, order=ORDER, mode='nearest'
    )
    bad = ndimage.binary_dilation(~valid, iterations=GROWTH) if not valid.all() else ~valid
    known = ndimage.affine_transform(
        (~bad).astype(np.float32), alignment.matrix, offset, shape, order=1, cval=0.0
    )
    good = known > 0.99
    return np.where(good, moved + middle, 0.0), good
