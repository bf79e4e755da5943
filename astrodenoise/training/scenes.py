# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Simulated deep-sky scenes without noise.

Every scene is in units of the sky's sigma in a nominal exposure, with a sky of 0: stars over six
magnitudes and a dense faint population, galaxies, nebulae with dust, clusters, and what is no
noise though it is no object: cosmic rays, hot pixels and trails.
"""

import numpy as np
from scipy import ndimage

__all__ = ['KINDS', 'draw_scene']

KINDS = ('stars', 'cluster', 'galaxy', 'nebula', 'faint', 'blank')
SMALL, LARGE, HUGE = 10, 40, 120  # half sizes of star stamps in px


class PointSpread:
    """
    The image of a star: an elliptical Moffat profile, sometimes with diffraction spikes.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Draws FWHM (1.4 to 6 px), beta, ellipticity and spikes.
    """

    def __init__(self, rng):
        self.fwhm = float(np.exp(rng.uniform(np.log(1.5), np.log(5.5))))
        self.beta = float(rng.uniform(2.2, 5.0))
        self.axis_ratio = float(1 - 0.25 * rng.random() ** 2)
        self.angle = float(rng.uniform(0, np.pi))
        self.alpha = self.fwhm / (2 * np.sqrt(2 ** (1 / self.beta) - 1))
        self.spikes = float(rng.uniform(0.002, 0.02)) if rng.random() < 0.4 else 0.0
        self.spike_angle = float(rng.uniform(0, np.pi / 2))
        self.matched = self._matched_area()

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
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        r2 = (along**2 * self.axis_ratio + across**2 / self.axis_ratio) / self.alpha**2
        return (self.beta - 1) / (np.pi * self.alpha**2) * (1 + r2) ** -self.beta

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


def random_field(rng, shape, exponent, *, smallest=0.0):
    """
    Draw a Gaussian random field with a power-law spectrum.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the field.
    exponent : float
        Of the amplitude against the spatial frequency.
    smallest : float, optional
        Gaussian smoothing in px.

    Returns
    -------
    field : `numpy.ndarray`, float64
        Mean 0, rms 1.
    """
    ky = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.rfftfreq(shape[1])
    k = np.hypot(ky, kx)
    k[0, 0] = 1
    amplitude = k**-exponent * np.exp(-2 * (np.pi * smallest * k) ** 2)
    amplitude[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * amplitude
    field = np.fft.irfft2(spectrum, shape)
    return field / field.std()


def nebula(rng, shape):
    """
    Draw an emission nebula with filaments and dust.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.

    Returns
    -------
    image : `numpy.ndarray`, (H, W), float64
        Brightness of the order of one.
    """
    large = tuple(2 * n for n in shape)  # half of a periodic field does not repeat
    smallest = rng.uniform(0.6, 2.5)
    cut = tuple(slice(0, n) for n in shape)
    smooth = random_field(rng, large, rng.uniform(1.6, 2.4), smallest=smallest)[cut]
    image = np.exp(rng.uniform(0.4, 1.1) * smooth)
    if rng.random() < 0.7:  # ridges of a field make filaments and fronts
        ridge = random_field(rng, large, rng.uniform(1.3, 2.0), smallest=smallest)[cut]
        sharp = np.exp(rng.uniform(np.log(2), np.log(12)))
        image = image * (0.3 + rng.uniform(0.3, 2) * np.exp(-sharp * np.abs(ridge)))
    if rng.random() < 0.6:
        dust = random_field(rng, large, rng.uniform(1.4, 2.0), smallest=smallest)[cut]
        image = image * np.exp(-rng.uniform(0.5, 3) * np.maximum(dust - rng.uniform(0, 1), 0))
    if rng.random() < 0.4:  # an edge: a shell or an ionisation front
        front = random_field(rng, large, 2.2, smallest=smallest)[cut]
        image = image / (1 + np.exp(-front / rng.uniform(0.01, 0.3)))
    return image - np.quantile(image, 0.02)


def galaxy(rng, shape, *, radius=None, centre=None):
    """
    Draw a Sersic galaxy, at times with spiral arms, knots and a dust lane.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.
    radius : float, optional
        Half-light radius in px.
    centre : tuple of float, optional
        Position in px.

    Returns
    -------
    image : `numpy.ndarray`, (H, W), float64
        Brightness 1 at the half-light radius.
    """
    radius = radius or np.exp(rng.uniform(np.log(12), np.log(0.3 * min(shape))))
    cy, cx = centre or (rng.uniform(0.1, 0.9) * n for n in shape)
    index = rng.uniform(0.5, 4.5)
    ratio, angle = rng.uniform(0.25, 1), rng.uniform(0, np.pi)
    y = np.arange(shape[0])[:, None] - cy
    x = np.arange(shape[1]) - cx
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (np.cos(angle) * y - np.sin(angle) * x) / ratio
    r = np.hypot(along, across)
    b = 2 * index - 1 / 3
    image = np.exp(-b * ((np.maximum(r, 0.6) / radius) ** (1 / index) - 1))
    if rng.random() < 0.6 and radius > 8:
        image = image * _arms(rng, along, across, r, radius)
    if rng.random() < 0.4 and radius > 8:
        texture = random_field(rng, shape, rng.uniform(0.8, 1.5), smallest=rng.uniform(0.8, 2))
        image = image * np.exp(rng.uniform(0.1, 0.5) * texture)
    if rng.random() < 0.3 and ratio < 0.6:
        lane = np.exp(-0.5 * ((across * ratio - 0.1 * radius) / (0.08 * radius + 1)) ** 2)
        image = image * (1 - rng.uniform(0.3, 0.8) * lane)
    return image


def _arms(rng, along, across, r, radius):
    """Logarithmic spiral arms with knots."""
    theta = np.arctan2(across, along)
    n_arms = rng.integers(2, 5)
    pitch = np.tan(np.radians(rng.uniform(10, 30)))
    phase = n_arms * (theta - np.log(np.maximum(r, 1) / radius) / pitch) + rng.uniform(0, 6.3)
    wave = (0.5 + 0.5 * np.cos(phase)) ** rng.uniform(1, 6)
    knots = np.maximum(random_field(rng, r.shape, 0.4, smallest=rng.uniform(0.8, 2)), 0) ** 2
    arms = rng.uniform(0.5, 3) * wave * (1 + rng.uniform(0, 1.5) * knots)
    return 1 + arms * (1 - np.exp(-r / (0.4 * radius)))


def faint_galaxies(rng, image, density, psf):
    """
    Add small galaxies to an image.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    image : `numpy.ndarray`, (H, W)
        Changed in place.
    density : float
        Galaxies per Mpx.
    psf : `PointSpread`
        Their images are blurred to its FWHM.
    """
    half = 24
    for _ in range(rng.poisson(density * image.size / 1e6)):
        cy, cx = (int(rng.integers(-half // 2, n + half // 2)) for n in image.shape)
        radius = np.exp(rng.uniform(np.log(1.0), np.log(7)))
        centre = tuple(half + rng.uniform(-0.5, 0.5, 2))
        stamp = galaxy(rng, (2 * half + 1, 2 * half + 1), radius=radius, centre=centre)
        stamp = ndimage.gaussian_filter(np.minimum(stamp, 50), psf.fwhm / 2.355, mode='constant')
        snr = np.exp(rng.uniform(np.log(1.5), np.log(80)))
        stamp *= snr / np.sqrt(np.sum(stamp**2))
        rows = slice(max(cy - half, 0), min(cy + half + 1, image.shape[0]))
        cols = slice(max(cx - half, 0), min(cx + half + 1, image.shape[1]))
        if rows.start < rows.stop and cols.start < cols.stop:
            image[rows, cols] += stamp[
                rows.start - cy + half : rows.stop - cy + half,
                cols.start - cx + half : cols.stop - cx + half,
            ]


def add_impulses(rng, image):
    """
    Add cosmic rays, hot pixels and a trail: sharp, no noise, not to be removed.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    image : `numpy.ndarray`, (H, W)
        Changed in place.
    """
    n = rng.poisson(np.exp(rng.uniform(np.log(3), np.log(150))) * image.size / 2.6e5)
    y, x = (rng.integers(0, side, n) for side in image.shape)
    height = np.exp(rng.uniform(np.log(4), np.log(100), n))
    np.add.at(image, (y, x), np.where(rng.random(n) < 0.15, -0.3, 1) * height)
    for i in np.flatnonzero(rng.random(n) < 0.3):  # tracks of a few pixels
        angle, length = rng.uniform(0, 2 * np.pi), rng.integers(1, 8)
        for step in range(1, length):
            row = round(y[i] + step * np.sin(angle))
            col = round(x[i] + step * np.cos(angle))
            if 0 <= row < image.shape[0] and 0 <= col < image.shape[1]:
                image[row, col] += height[i] * rng.uniform(0.3, 1)
    if rng.random() < 0.3:
        angle, offset = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9, 2) * image.shape
        rows = np.arange(image.shape[0])[:, None] - offset[0]
        cols = np.arange(image.shape[1]) - offset[1]
        distance = rows * np.cos(angle) - cols * np.sin(angle)
        along = rows * np.sin(angle) + cols * np.cos(angle)
        width = rng.uniform(0.6, 2.5)
        height = np.exp(rng.uniform(np.log(0.5), np.log(20)))
        trail = height * np.exp(-0.5 * (distance / width) ** 2)
        image += trail * (along < rng.uniform(-0.3, 1) * image.shape[0])


def draw_scene(rng, shape, kind):
    """
    Draw a noiseless scene.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness: the same state gives the same scene.
    shape : tuple of int
        Shape of the frame.
    kind : {'stars', 'cluster', 'galaxy', 'nebula', 'faint', 'blank'}
        What the scene shows.

    Returns
    -------
    scene : `numpy.ndarray`, (H, W), float32
        In units of the sky's sigma in a nominal exposure, over a sky of 0.

    Raises
    ------
    ValueError
        If ``kind`` is none of the above.
    """
    if kind not in KINDS:
        msg = f'kind must be one of {KINDS}, got {kind!r}'
        raise ValueError(msg)
    psf = PointSpread(rng)
    image = np.zeros(shape)
    if kind == 'nebula':
        image += nebula(rng, shape) * np.exp(rng.uniform(np.log(0.3), np.log(30)))
    if kind == 'galaxy':
        for _ in range(rng.integers(1, 4)):
            image += galaxy(rng, shape) * np.exp(rng.uniform(np.log(0.3), np.log(30)))
        image = ndimage.gaussian_filter(np.minimum(image, 3000), psf.fwhm / 2.355)
    if kind == 'faint' or (kind in ('stars', 'galaxy') and rng.random() < 0.3):
        density = np.exp(rng.uniform(np.log(50), np.log(900)))
        faint_galaxies(rng, image, density, psf)
    if kind == 'faint' and rng.random() < 0.5:  # a stream or cirrus at the edge of sight
        image += nebula(rng, shape) * rng.uniform(0.05, 0.5)
    if kind == 'cluster':
        add_stars(image, psf, *cluster_stars(rng, shape, psf))
    if kind != 'blank':
        density = np.exp(rng.uniform(np.log(15), np.log(2500 if kind == 'stars' else 500)))
        add_stars(image, psf, *field_stars(rng, shape, psf, density))
        if rng.random() < 0.5:
            density = rng.uniform(200, 2000)
            add_stars(image, psf, *faint_stars(rng, shape, psf, density))
    if rng.random() < 0.5:
        add_impulses(rng, image)
    return image.astype(np.float32)
