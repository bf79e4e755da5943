# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Simulated deep-sky scenes without noise.

Every scene is in units of the sky's sigma in a nominal exposure, with a sky of 0: stars over six
magnitudes and a dense faint population, galaxies, nebulae with dust, clusters, and what is no
noise though it is no object: cosmic rays, hot pixels and trails.
"""

import numpy as np
from scipy import ndimage, special

from astrodenoise.training.stars import (
    PointSpread,
    add_stars,
    cluster_stars,
    faint_stars,
    field_stars,
)

__all__ = ['KINDS', 'draw_scene']

KINDS = ('stars', 'cluster', 'galaxy', 'nebula', 'faint', 'texture', 'blank')
N_LEAVES = 2500  # that cover a frame of 512 px twice over


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


def dead_leaves(rng, shape):
    """
    Draw overlapping ellipses of all sizes: edges and textures of any subject.

    Source: Lee, Mumford and Huang 2001, Int. J. Comput. Vis. 41, 35; sizes fall as their cube.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.

    Returns
    -------
    image : `numpy.ndarray`, (H, W), float64
        Brightness of the order of one, not negative.
    """
    image = np.ones(shape)
    n = max(int(N_LEAVES * shape[0] * shape[1] / 512**2), 20)
    smallest, largest = 4.0, 0.4 * min(shape)
    radii = rng.uniform(largest**-2, smallest**-2, n) ** -0.5
    for radius in np.sort(radii)[::-1] if rng.random() < 0.3 else radii:
        ratio, angle = rng.uniform(0.2, 1), rng.uniform(0, np.pi)
        cy, cx = (rng.uniform(-radius, side + radius) for side in shape)
        rows = slice(max(int(cy - radius), 0), min(int(cy + radius) + 2, shape[0]))
        columns = slice(max(int(cx - radius), 0), min(int(cx + radius) + 2, shape[1]))
        y = np.arange(rows.start, rows.stop)[:, None] - cy
        x = np.arange(columns.start, columns.stop) - cx
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        inside = along**2 + (across / ratio) ** 2 < radius**2
        light = np.exp(rng.normal(0, 0.5))
        if rng.random() < 0.5:  # a slope or stripes on the leaf
            wave = 2 * np.pi / rng.uniform(3, 4 * radius + 3)
            light = light * (1 + rng.uniform(0, 0.5) * np.sin(wave * along + rng.uniform(0, 6.3)))
        image[rows, columns] = np.where(inside, light, image[rows, columns])
    if rng.random() < 0.5:
        grain = random_field(rng, shape, rng.uniform(0.6, 1.6), smallest=rng.uniform(0.6, 1.5))
        image = image * np.exp(rng.uniform(0.05, 0.3) * grain)
    image = ndimage.gaussian_filter(image, np.exp(rng.uniform(np.log(0.5), np.log(2.5))))
    return image - image.min()


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


def faint_patch(rng, shape):
    """
    Draw a patch of light at the edge of sight: a disc, an exponential or a Gaussian.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.

    Returns
    -------
    patch : `numpy.ndarray`, (H, W), float64
        Of an integrated S/N of 2 to 60, its peak at most 3 sigma.
    """
    radius = np.exp(rng.uniform(np.log(3), np.log(0.2 * min(shape))))
    cy, cx = (rng.uniform(0, n) for n in shape)
    ratio, angle = rng.uniform(0.4, 1), rng.uniform(0, np.pi)
    y, x = np.arange(shape[0])[:, None] - cy, np.arange(shape[1]) - cx
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (np.cos(angle) * y - np.sin(angle) * x) / ratio
    r = np.hypot(along, across) / radius
    kind = rng.integers(3)
    if kind == 0:
        edge = rng.uniform(0.7, 0.4 * radius + 1)
        patch = special.expit((1 - r) * radius / edge)
    elif kind == 1:
        patch = np.exp(-1.68 * np.hypot(r, 0.2))
    else:
        patch = np.exp(-0.7 * r**2)
    snr = np.exp(rng.uniform(np.log(2), np.log(60)))
    return patch * min(snr / np.sqrt(np.sum(patch**2)), 3.0 / patch.max())


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
    # half of them where a network is tempted to take them for noise
    height = np.where(
        rng.random(n) < 0.5, rng.uniform(4, 14, n), np.exp(rng.uniform(np.log(4), np.log(100), n))
    )
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


def colour_of(rng, n_planes, spread):
    """
    Draw the relative brightness of a light in each plane.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness; not used for a single plane.
    n_planes : int
        Number of planes.
    spread : float
        Rms of the logarithm.

    Returns
    -------
    colour : `numpy.ndarray`, (P, 1, 1), float64
        Of mean 1; 1 for a single plane.
    """
    if n_planes == 1:
        return np.ones((1, 1, 1))
    colour = np.exp(rng.normal(0, spread, n_planes))
    return (colour / colour.mean())[:, None, None]


def star_colours(rng, n_planes, n):
    """
    Draw the relative flux of stars in each plane, from blue to red with some scatter.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness; not used for a single plane.
    n_planes, n : int
        Number of planes and of stars.

    Returns
    -------
    colours : `numpy.ndarray`, (P, N), float64
        Factors on the flux; 1 for a single plane.
    """
    if n_planes == 1:
        return np.ones((1, n))
    tilt = np.arange(n_planes)[:, None] - (n_planes - 1) / 2
    return np.exp(tilt * rng.normal(0, 0.35, n) + rng.normal(0, 0.08, (n_planes, n)))


def _add_stars(rng, image, psfs, y, x, flux):
    """Add stars to every plane, in each plane's own PSF and colour."""
    colours = star_colours(rng, len(image), len(flux))
    for plane, psf, colour in zip(image, psfs, colours, strict=True):
        add_stars(plane, psf, y, x, flux * colour)


def _add_galaxies(rng, image, density, psf):
    """Add small galaxies in as many populations of a colour as there are planes."""
    for _ in range(len(image)):
        layer = np.zeros(image.shape[1:])
        faint_galaxies(rng, layer, density / len(image), psf)
        image += layer * colour_of(rng, len(image), 0.4)


def _add_patches(rng, image):
    """Add patches of low surface brightness."""
    for _ in range(rng.integers(2, 12)):
        image += faint_patch(rng, image.shape[1:]) * colour_of(rng, len(image), 0.3)


def _add_nebulae(rng, image, low, high):
    """Add nebulosity; in colour up to three lights of their own shape, as emission lines are."""
    n_planes = len(image)
    for _ in range(1 if n_planes == 1 else rng.integers(1, 4)):
        light = nebula(rng, image.shape[1:]) * np.exp(rng.uniform(np.log(low), np.log(high)))
        image += light * colour_of(rng, n_planes, 0.7)


def draw_scene(rng, shape, kind, *, n_planes=None):
    """
    Draw a noiseless scene.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness: the same state gives the same scene.
    shape : tuple of int
        Shape of the frame.
    kind : {'stars', 'cluster', 'galaxy', 'nebula', 'faint', 'texture', 'blank'}
        What the scene shows.
    n_planes : int, optional
        None for one plane (H, W); a number for planes of one field, each with a PSF of its own and
        every object with a colour of its own.

    Returns
    -------
    scene : `numpy.ndarray`, (H, W) or (P, H, W), float32
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
    single, n_planes = n_planes is None, n_planes or 1
    psfs = [psf] if n_planes == 1 else [psf.widened(f) for f in rng.uniform(0.85, 1.2, n_planes)]
    image = np.zeros((n_planes, *shape))
    if kind == 'nebula':
        _add_nebulae(rng, image, 0.3, 30)
    if kind == 'texture':
        light = dead_leaves(rng, shape) * np.exp(rng.uniform(np.log(0.5), np.log(30)))
        image += light * colour_of(rng, n_planes, 0.3)
    if kind == 'galaxy':
        for _ in range(rng.integers(1, 4)):
            light = galaxy(rng, shape) * np.exp(rng.uniform(np.log(0.3), np.log(30)))
            image += light * colour_of(rng, n_planes, 0.3)
        for plane, spread in zip(image, psfs, strict=True):
            ndimage.gaussian_filter(np.minimum(plane, 3000), spread.fwhm / 2.355, output=plane)
    if kind == 'faint' or (kind in ('stars', 'galaxy') and rng.random() < 0.3):
        _add_galaxies(rng, image, np.exp(rng.uniform(np.log(50), np.log(900))), psf)
    if kind == 'faint' and rng.random() < 0.5:  # a stream or cirrus at the edge of sight
        _add_nebulae(rng, image, 0.05, 0.5)
    (apart,) = rng.spawn(1)
    if apart.random() < (0.8 if kind == 'faint' else 0.3):
        _add_patches(apart, image)
    if kind == 'cluster':
        _add_stars(rng, image, psfs, *cluster_stars(rng, shape, psf))
    if kind not in ('blank', 'texture'):
        density = np.exp(rng.uniform(np.log(15), np.log(2500 if kind == 'stars' else 500)))
        _add_stars(rng, image, psfs, *field_stars(rng, shape, psf, density))
        if rng.random() < 0.5:
            density = rng.uniform(200, 2000)
            _add_stars(rng, image, psfs, *faint_stars(rng, shape, psf, density))
    if rng.random() < 0.5:
        for plane in image:
            add_impulses(rng, plane)
    return (image[0] if single else image).astype(np.float32)
