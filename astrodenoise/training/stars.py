# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The stars of simulated scenes: their image, where they stand and how bright they are."""

import copy

import numpy as np
from scipy import special

__all__ = ['PointSpread', 'add_stars', 'cluster_stars', 'faint_stars', 'field_stars']

SMALL, LARGE, HUGE = 10, 40, 120  # half sizes of star stamps in px


class PointSpread:
    """
    The image of a star: an elliptical Moffat profile or rarely an Airy pattern.

    Some have diffraction spikes, coma, or the trail of a mount that did not follow.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Draws FWHM (1.3 to 8 px), beta, ellipticity, spikes, coma and trail.
    """

    def __init__(self, rng):
        self.beta = float(rng.uniform(2.2, 5.0))
        self.axis_ratio = float(1 - 0.25 * rng.random() ** 2)
        self.angle = float(rng.uniform(0, np.pi))
        (rare,) = rng.spawn(1)  # what few stars have is drawn apart: it moves no other draw
        self.airy = rare.random() < 0.06
        self.parts = self._draw_parts(rare)
        usual = rare.random() < 0.8  # sampling
        low, high = (1.5, 5.5) if usual else (1.3, 8.0)
        self._set_fwhm(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
        self.spikes = float(rng.uniform(0.002, 0.02)) if rng.random() < 0.4 else 0.0
        self.spike_angle = float(rng.uniform(0, np.pi / 2))
        self.matched = self._matched_area()

    @staticmethod
    def _draw_parts(rng):
        """Places in FWHM, relative widths and shares of the profiles that make a star."""
        kind, angle = rng.random(), rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        if kind < 0.07:  # a trail: profiles along a line
            places = np.linspace(-0.5, 0.5, 5) * rng.uniform(0.3, 1.8)
            return [(*(place * direction), 1.0, 0.2) for place in places]
        if kind < 0.14:  # coma: fainter, wider and further out
            reach = rng.uniform(0.2, 0.7)
            return [
                (*(k * reach * direction), 1 + 0.5 * k, share)
                for k, share in enumerate((0.6, 0.27, 0.13))
            ]
        return [(0.0, 0.0, 1.0, 1.0)]

    def _set_fwhm(self, fwhm):
        self.fwhm = fwhm
        self.alpha = fwhm / (2 * np.sqrt(2 ** (1 / self.beta) - 1))

    def widened(self, factor):
        """
        Give the image of the same stars in another filter.

        Parameters
        ----------
        factor : float
            On the FWHM.

        Returns
        -------
        psf : `PointSpread`
            With everything else alike.
        """
        other = copy.copy(self)
        other._set_fwhm(self.fwhm * factor)
        other.matched = other._matched_area()
        return other

    def profile(self, dy, dx):
        """
        Evaluate the profile of unit flux.

        Parameters
        ----------
        dy, dx : `numpy.ndarray`
            Distances from the star in px.

        Returns
        -------
        profile : `numpy.ndarray`
            Flux per square pixel.
        """
        return sum(
            share * self._one_profile(dy - y * self.fwhm, dx - x * self.fwhm, width)
            for y, x, width, share in self.parts
        )

    def _one_profile(self, dy, dx, width):
        """An elliptical profile of unit flux, widened by a factor."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        r2 = along**2 * self.axis_ratio + across**2 / self.axis_ratio
        if self.airy:
            scale = np.pi * 1.029 / (self.fwhm * width)  # FWHM is 1.029 wavelengths per aperture
            v = scale * np.sqrt(r2) + 1e-9
            return scale**2 / np.pi * (special.j1(v) / v) ** 2
        alpha = self.alpha * width
        return (self.beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -self.beta

    def _matched_area(self):
        """Root of the sum of the squared profile: peak S/N of a matched filter per unit flux."""
        grid = np.arange(-15, 16)
        return float(np.sqrt(np.sum(self.profile(grid[:, None], grid[None, :]) ** 2)))

    def stamps(self, y, x, half):
        """
        Draw stars of unit flux on stamps.

        Parameters
        ----------
        y, x : `numpy.ndarray`, (N,)
            Positions in px.
        half : int
            Half size of the stamps.

        Returns
        -------
        rows, cols : `numpy.ndarray`, (N, 2 * half + 1)
            Indices of the stamps' pixels.
        stamps : `numpy.ndarray`, (N, 2 * half + 1, 2 * half + 1)
            The stars.
        """
        offset = np.arange(-half, half + 1)
        iy, ix = np.round(y).astype(int), np.round(x).astype(int)
        dy = offset - (y - iy)[:, None]
        dx = offset - (x - ix)[:, None]
        if self.fwhm < 2.6 and half <= SMALL:
            stamps = sum(
                self.profile(dy[:, :, None] + a, dx[:, None, :] + b)
                for a in (-1 / 3, 0, 1 / 3)
                for b in (-1 / 3, 0, 1 / 3)
            ) / 9
        else:
            stamps = self.profile(dy[:, :, None], dx[:, None, :])
        if self.spikes and half > SMALL:
            stamps = stamps + self._spike_stamps(dy, dx)
        return iy[:, None] + offset, ix[:, None] + offset, stamps

    def _spike_stamps(self, dy, dx):
        """Two crossed spikes that fade with the distance."""
        spikes = 0
        for angle in (self.spike_angle, self.spike_angle + np.pi / 2):
            along = np.cos(angle) * dx[:, None, :] + np.sin(angle) * dy[:, :, None]
            across = np.cos(angle) * dy[:, :, None] - np.sin(angle) * dx[:, None, :]
            width = 0.35 * self.fwhm
            spikes = spikes + np.exp(-0.5 * (across / width) ** 2) / (1 + np.abs(along) / 4) ** 1.5
        return self.spikes * spikes / (width * 20)


def add_stars(image, psf, y, x, flux):
    """
    Add stars to an image.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        Changed in place.
    psf : `PointSpread`
        The stars' profile.
    y, x, flux : `numpy.ndarray`, (N,)
        Positions in px and total fluxes.
    """
    height, width = image.shape
    small = 40 * psf.fwhm
    peaks = flux * psf.profile(0.0, 0.0)
    classes = (
        (SMALL, peaks <= small),
        (LARGE, (peaks > small) & (peaks <= 60 * small)),
        (HUGE, peaks > 60 * small),
    )
    for half, chosen in classes:
        index = np.flatnonzero(chosen)
        for part in np.array_split(index, max(1, index.size * (2 * half + 1) ** 2 // 2_000_000)):
            if not part.size:
                continue
            rows, cols, stamps = psf.stamps(y[part], x[part], half)
            stamps = stamps * flux[part][:, None, None]
            inside = ((rows >= 0) & (rows < height))[:, :, None] & (
                (cols >= 0) & (cols < width)
            )[:, None, :]
            flat = (rows[:, :, None] * width + cols[:, None, :])[inside]
            image += np.bincount(flat, stamps[inside], height * width).reshape(image.shape)


def _positions(rng, n, shape):
    """Even positions over the frame and 30 px around it."""
    return [rng.uniform(-30, side + 30, n) for side in shape]


def field_stars(rng, shape, psf, density):
    """
    Draw positions and fluxes of field stars over six magnitudes and more.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.
    psf : `PointSpread`
        Turns matched-filter S/N into flux.
    density : float
        Stars per Mpx above S/N 5.

    Returns
    -------
    y, x, flux : `numpy.ndarray`, (N,)
        Positions in px and total fluxes.
    """
    n = rng.poisson(density * (shape[0] + 60) * (shape[1] + 60) / 1e6)
    slope = rng.uniform(0.5, 1.0)  # of the cumulative counts, as in the sky
    snr = np.minimum(5 * rng.random(n) ** (-1 / slope), 10 ** rng.uniform(3, 5))
    return *_positions(rng, n, shape), snr / psf.matched


def faint_stars(rng, shape, psf, density):
    """
    Draw positions and fluxes of stars at the edge of detection: flat in S/N from 1 to 15.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.
    psf : `PointSpread`
        Turns matched-filter S/N into flux.
    density : float
        Stars per Mpx.

    Returns
    -------
    y, x, flux : `numpy.ndarray`, (N,)
        Positions in px and total fluxes.
    """
    n = rng.poisson(density * (shape[0] + 60) * (shape[1] + 60) / 1e6)
    return *_positions(rng, n, shape), rng.uniform(1, 15, n) / psf.matched


def cluster_stars(rng, shape, psf):
    """
    Draw positions and fluxes of a crowded cluster.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.
    psf : `PointSpread`
        Turns matched-filter S/N into flux.

    Returns
    -------
    y, x, flux : `numpy.ndarray`, (N,)
        Positions in px and total fluxes.
    """
    n = int(np.exp(rng.uniform(np.log(200), np.log(6000))) * shape[0] * shape[1] / 2.6e5)
    core = rng.uniform(0.03, 0.3) * min(shape)
    radius = core * np.sqrt((1 - rng.random(n) * 0.98) ** (-1 / rng.uniform(0.6, 1.2)) - 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    y = rng.uniform(0.2, 0.8) * shape[0] + radius * np.sin(angle)
    x = rng.uniform(0.2, 0.8) * shape[1] + radius * np.cos(angle)
    snr = np.minimum(2 * rng.random(n) ** (-1 / rng.uniform(0.5, 1.1)), 10 ** rng.uniform(2.5, 4.5))
    return y, x, snr / psf.matched
