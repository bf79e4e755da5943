# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What is known of a frame's noise.

One model per plane, made once for the whole frame: a map of the field times a law of the signal
level, with the noise's correlation and its row and column profiles.  ``sigma`` is always the rms
of one pixel's noise, all parts together (white, correlated, banding, rounding).
"""

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np

__all__ = ['LAGS', 'MAP_BLOCK', 'FrameNoise', 'PlaneNoise', 'signal_level']

MAP_BLOCK = 8  # px, side of a block of the noise map
NOISELESS = 0.1  # a frame that shows less than this of what it is told to have has no noise
NOISELESS_FINEST = 0.02  # nor has one whose finest scale has less: the smoothest has 0.08
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))  # (dy, dx) of the correlation


@dataclass(frozen=True)
class PlaneNoise:
    """
    The noise of one plane.

    Attributes
    ----------
    shape : tuple of int
        Shape of the plane in pixels.
    sky : float
        Level of the sky, in the unit of the data.
    sigma : float
        Rms noise of one pixel at the level of the sky, in the unit of the data.
    levels, law : list of float
        Signal levels and the ratio of the noise's variance there to that at the sky; linear in
        between, beyond the last level with ``slope``, below the first constant.
    slope : float
        Change of that ratio per unit of the data above the last level.
    grid : list of list of float, or `numpy.ndarray`
        Relative noise over the field, one value per block of 8 px; [[1.0]] when even.
    correlation : list of float
        Autocorrelation of the noise at the lags (dy, dx) of ``LAGS``.
    ratio : float
        Rms noise of one pixel over what its finest scale alone would make of white noise.
    rows, columns : list of float
        Mean noise of each row and column in units of ``sigma``: banding.  Empty if not measured.
    step : float
        Quantisation step of the data, 0 when there is none.
    source : str
        'measured', 'given', 'uncertainty' or 'gain, read noise'.
    plane : `numpy.ndarray` or None
        A given sigma of each pixel, smoothed; when set, it stands for map and law.
    first : tuple of int
        Row and column of the map with which this part of a plane begins.
    shown : float
        Share of what is predicted that is taken: less than 1 where the frame does not show the
        noise that it is told to have.
    """

    shape: tuple
    sky: float
    sigma: float
    levels: list = field(default_factory=lambda: [0.0])
    law: list = field(default_factory=lambda: [1.0])
    slope: float = 0.0
    grid: list = field(default_factory=lambda: [[1.0]], repr=False)
    correlation: list = field(default_factory=lambda: [0.0] * len(LAGS))
    ratio: float = 1.0
    rows: list = field(default_factory=list, repr=False)
    columns: list = field(default_factory=list, repr=False)
    step: float = 0.0
    source: str = 'measured'
    plane: np.ndarray | None = field(default=None, repr=False)
    shown: float = 1.0
    first: tuple = (0, 0)

    def part(self, rows, cols):
        """
        Give the noise of a part of the plane.

        Parameters
        ----------
        rows, cols : slice
            The part, with its ends.

        Returns
        -------
        noise : `PlaneNoise`
            Of that shape.
        """
        if (rows.start, rows.stop, cols.start, cols.stop) == (0, self.shape[0], 0, self.shape[1]):
            return self
        return replace(
            self,
            shape=(rows.stop - rows.start, cols.stop - cols.start),
            rows=self.rows[rows],
            columns=self.columns[cols],
            plane=None if self.plane is None else self.plane[rows, cols],
            first=(self.first[0] + rows.start, self.first[1] + cols.start),
        )

    @property
    def even(self):
        """Whether sigma is the same for every pixel (bool)."""
        return self.plane is None and len(self.grid) == 1 and len(self.law) == 1 and not self.slope

    def sigma_at(self, level):
        """
        Give the rms noise of each pixel of the whole plane.

        Parameters
        ----------
        level : `numpy.ndarray`, (H, W), float or None
            The plane's signal level, see `signal_level`; None leaves the law out.

        Returns
        -------
        sigma : `numpy.ndarray`, (H, W), float32
            In the unit of the data.
        """
        if self.plane is not None:
            return self.plane
        if level is None or (len(self.law) == 1 and not self.slope):
            relative = np.ones(self.shape, np.float32)
        else:
            variance = np.interp(level, self.levels, self.law)
            if self.slope:
                variance += self.slope * np.maximum(level - self.levels[-1], 0)
            relative = np.sqrt(variance).astype(np.float32)
        if len(self.grid) > 1 or len(self.grid[0]) > 1:
            relative *= _expand(np.asarray(self.grid), self.shape, self.first)
        return (relative * self.sigma).astype(self.sigma_type)

    @property
    def sigma_type(self):
        """Type of sigmas: the unit of the data can leave float32's range."""
        return np.float32 if 1e-30 < abs(self.sigma) < 1e30 else np.float64

    def evidence(self, sigma):
        """
        Tell how much the plane shows of a noise that it is told to have.

        Parameters
        ----------
        sigma : float
            The noise that it is told to have, in the unit of the data.

        Returns
        -------
        evidence : float
            1 where there is noise of that kind; less, down to 0, for a noiseless plane, whose
            structure alone was measured.
        """
        finest = self.sigma / self.ratio
        return min(1.0, self.sigma / (NOISELESS * sigma), finest / (NOISELESS_FINEST * sigma))

    def told(self, sigma, **changes):
        """
        Give the noise with another level; its profiles stay what they are in the data's unit.

        Parameters
        ----------
        sigma : float
            The new level, in the unit of the data.
        **changes
            Other attributes that change.

        Returns
        -------
        noise : `PlaneNoise`
            A new one.
        """
        factor = self.sigma / sigma
        rows, columns = ([factor * v for v in profile] for profile in (self.rows, self.columns))
        return replace(self, sigma=sigma, rows=rows, columns=columns, **changes)

    def to_dict(self):
        """
        Give the noise as plain types; a given plane of sigma is left out.

        Returns
        -------
        noise : dict
            What ``PlaneNoise(**noise)`` takes.
        """
        return asdict(replace(self, plane=None, grid=np.asarray(self.grid, float).tolist()))


@dataclass(frozen=True)
class FrameNoise:
    """
    The noise of a frame, one `PlaneNoise` per plane.

    It prints itself, is saved as JSON and is taken by ``denoise(..., noise=)``: measure once, use
    for as many calls as you like.

    Attributes
    ----------
    planes : tuple of `PlaneNoise`
        In the order of the frame's planes.
    unit : str
        Unit of sky and sigma, empty when the frame has none.
    """

    planes: tuple
    unit: str = ''

    def __str__(self):
        lines = []
        for number, plane in enumerate(self.planes):
            rho = ', '.join(f'{value:+.2f}' for value in plane.correlation)
            lines.append(
                f'plane {number}: sky {plane.sky:.6g}, sigma {plane.sigma:.6g} {self.unit} '
                f'({plane.source}), correlation [{rho}]'
            )
        return '\n'.join(lines)

    def to_json(self):
        """
        Give the noise as JSON text.

        Returns
        -------
        text : str
            What `FrameNoise.from_json` reads.
        """
        if any(plane.plane is not None for plane in self.planes):
            msg = (
                'a noise that holds a given sigma of every pixel is not saved as JSON: keep that '
                'plane as an image and pass it as noise='
            )
            raise ValueError(msg)
        return json.dumps({'unit': self.unit, 'planes': [p.to_dict() for p in self.planes]})

    @classmethod
    def from_json(cls, text):
        """
        Read what `FrameNoise.to_json` gave.

        Parameters
        ----------
        text : str
            JSON text.

        Returns
        -------
        noise : `FrameNoise`
            The same noise.
        """
        content = json.loads(text)
        planes = []
        for entry in content['planes']:
            entry.update({key: tuple(entry[key]) for key in ('shape', 'first') if key in entry})
            planes.append(PlaneNoise(**entry))
        return cls(tuple(planes), content['unit'])


def _expand(grid, shape, first):
    """Blow the map's blocks up to pixels, bilinear (float32)."""
    axes = []
    for n, length, start in zip(grid.shape, shape, first, strict=True):
        at = np.clip((np.arange(start, start + length) + 0.5) / MAP_BLOCK - 0.5, 0, n - 1)
        low = np.minimum(at.astype(np.intp), max(n - 2, 0))
        axes.append((low, np.minimum(low + 1, n - 1), (at - low).astype(np.float32)))
    (y0, y1, fy), (x0, x1, fx) = axes
    grid = grid.astype(np.float32)
    columns = grid[:, x0] * (1 - fx) + grid[:, x1] * fx
    return columns[y0] * (1 - fy)[:, None] + columns[y1] * fy[:, None]


def _smooth3(data):
    """Binomial 3x3 smoothing; the outermost pixels are repeated."""
    for axis in (0, 1):
        data = np.moveaxis(data, axis, 0)
        around = 2 * data
        around[1:] += data[:-1]
        around[:-1] += data[1:]
        around[0] += data[0]
        around[-1] += data[-1]
        around *= 0.25
        data = np.moveaxis(around, 0, axis)
    return data


def signal_level(data, background, sigma):
    """
    Estimate the signal of each pixel without carrying its own noise along.

    Where nothing stands out the local background is the level, in faint sources a 3x3 smoothing,
    in cores of bright stars the pixel itself.  Taken from the pixel alone, sigma would follow the
    pixel's own noise and shift the mean of (pixel - sky)/sigma.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W), float
        The plane; every value finite.
    background : `numpy.ndarray`, (H, W), float
        Its level on 20 px.
    sigma : float or `numpy.ndarray`
        A first guess of the noise.

    Returns
    -------
    level : `numpy.ndarray`, (H, W), float
        In the unit of the data.
    """
    contrast = ((data - background) / sigma).astype(np.float32)
    smooth = _smooth3(contrast)
    # 0.4 is what binomial smoothing leaves of white noise; half weight at 4 of its sigma
    faint = smooth**2 / (smooth**2 + (4 * 0.4) ** 2)
    bright = np.maximum(smooth, 0) ** 2
    bright /= bright + 10.0**2
    return background + faint * (smooth + bright * (contrast - smooth)) * sigma
