# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Scenes with a known truth, for the benchmarks alone.

This generator shares neither code nor parameters with the one that makes training scenes, so that
a gain measured here is no gain on one's own simulator.  It is frozen: `fidelity.py` prints the
SHA-256 of this file beside its table, and figures made with different hashes do not compare.

Five kinds are simulated (`make_scene`); real frames with added noise and real pairs of exposures
come from a folder of check frames (`real_scenes`, `real_pairs`).  Everything is in electrons with
the sky still in, except the pictures that keep their stretch.
"""

from dataclasses import dataclass
from pathlib import Path

import galsim
import numpy as np
from astropy.io import fits
from PIL import Image
from scipy import ndimage, signal

__all__ = [
    'KINDS', 'LEVELS', 'PAIR_KINDS', 'REAL_KINDS', 'Pair', 'Scene', 'make_scene', 'real_pairs',
    'real_scenes',
]

KINDS = ('stars', 'cluster', 'galaxy', 'nebula', 'faint')
REAL_KINDS = ('m51', 'picture', 'stretched')
PAIR_KINDS = ('decam', 'm13', 'seestar')
LEVELS = {'low': 4.0, 'mid': 1.0, 'high': 0.25}  # noise level -> exposure, 1 = middle

BETA = 3.2  # of the Moffat PSF
FLUX_RANGE = (100.0, 25_000.0)  # electrons at the middle level: 6 mag
FLUX_SLOPE = 2.2  # dN/dF ~ F**-slope
STAR_EDGE = 0.01  # electrons per pixel at the middle level where a star's image is cut
MARGIN = 32  # px, of extended light round the frame, so that the PSF has something to carry in

M51_NOISE = 2.0  # ADU, noise left in the M51 frame
M51_SHARE = 1 / 15  # of the added noise at the low level that this may be
PICTURE_SIGMA = {'low': 10.0, 'mid': 18.0, 'high': 32.0}  # grey levels added to stretched pictures
PICTURE_STRETCH = 8.0  # of the asinh stretch that is undone
PICTURE_FULL_SCALE = 4000.0  # electrons at the middle level of a full-scale grey level
PICTURES = {  # rows, columns of the corner of the crop, after binning
    '2011_m27.jpg': (470, 800), '2013_NGC6914.jpg': (200, 60), '2014_arp78.jpg': (110, 160),
}


@dataclass
class Scene:
    """
    A noiseless scene and the noise that a frame of it has.

    Attributes
    ----------
    name, kind, level : str
        What it is.
    seed : int
        Seed of the scene and of its noise.
    truth_electrons : `numpy.ndarray`
        (H, W) float64, the expected signal with the sky in, in electrons (grey levels for
        stretched pictures).
    sky : float
        Level of the sky in the same unit.
    read_noise : float
        Rms of the Gaussian part of the noise, in the same unit.
    stars : `numpy.ndarray`
        Structured array with x, y (px, 0-based), flux (electrons), fwhm (px).
    gain : float or None
        Electrons per unit of the data; None for noise that does not depend on the signal.
    """

    name: str
    kind: str
    level: str
    seed: int
    truth_electrons: np.ndarray
    sky: float
    read_noise: float
    stars: np.ndarray
    gain: float | None = 1.0

    @property
    def sigma(self):
        """
        The true noise of each pixel.

        Returns
        -------
        sigma : `numpy.ndarray`
            (H, W) float64, in the unit of the truth.
        """
        if self.gain is None:
            return np.full(self.truth_electrons.shape, self.read_noise)
        return np.sqrt(self.truth_electrons / self.gain + self.read_noise**2)

    def observe(self, rng):
        """
        Draw one frame of the scene.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of the noise.

        Returns
        -------
        noisy : `numpy.ndarray`
            (H, W) float32: Poisson counts, if the noise depends on the signal, plus Gaussian read
            noise.
        """
        counts = self.truth_electrons
        if self.gain is not None:
            counts = rng.poisson(counts * self.gain) / self.gain
        return (counts + rng.normal(0.0, self.read_noise, counts.shape)).astype(np.float32)


@dataclass
class Pair:
    """
    A real exposure and two references of the same field, of which no two share noise.

    The unit is that in which the exposure's fitted noise law, linear in the signal, is Poisson's:
    variance = pixel.  Where the law shows no dependence on the signal, ``gain`` is None and the
    unit is the file's own.

    Attributes
    ----------
    name, kind, level : str
        What it is; the level is always 'mid'.
    frame, first, second : `numpy.ndarray`
        (H, W) float32, the exposure and its references, scaled to its flux and sky.
    valid : `numpy.ndarray`
        (H, W) bool, where the three may be compared.
    sigma : `numpy.ndarray`
        (H, W) float64, noise of the exposure by that law.
    sky : float
        Level of the exposure's sky.
    gain, read_noise : float or None
        As for a `Scene`.
    """

    name: str
    kind: str
    frame: np.ndarray
    first: np.ndarray
    second: np.ndarray
    valid: np.ndarray
    sigma: np.ndarray
    sky: float
    gain: float | None = 1.0
    read_noise: float = 0.0
    level: str = 'mid'


# ------------------------------------------------------------------------------ simulated scenes

def make_scene(kind, level, seed, *, size=512):
    """
    Make one simulated scene.

    The same kind and seed give the same sky, objects and PSF at every level; only the exposure
    differs.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    level : str
        One of `LEVELS`.
    seed : int
        Seed of the scene; 0 has a PSF of FWHM 2.8 px, the others one of 2.2 to 4 px.
    size : int, optional
        Side of the frame in px.

    Returns
    -------
    scene : `Scene`
        The scene, in electrons.

    Raises
    ------
    ValueError
        If ``kind`` or ``level`` is unknown.
    """
    if kind not in KINDS or level not in LEVELS:
        msg = f'got scene {kind!r} at level {level!r}, expected one of {KINDS} at {tuple(LEVELS)}'
        raise ValueError(msg)
    rng = np.random.default_rng([0x5CE4E, KINDS.index(kind), seed])
    sky, read_noise = rng.uniform(60.0, 120.0), rng.uniform(3.0, 5.0)
    fwhm = 2.8 if seed == 0 else rng.uniform(2.2, 4.0)
    psf = galsim.Moffat(beta=BETA, fwhm=fwhm).shear(g1=rng.normal(0, 0.01), g2=rng.normal(0, 0.01))
    light, stars = MAKERS[kind](rng, size, psf)
    stars = [(x, y, flux * LEVELS[level], fwhm) for x, y, flux in stars]
    stars = np.array(stars, dtype=[(name, float) for name in ('x', 'y', 'flux', 'fwhm')])
    truth = LEVELS[level] * (sky + np.maximum(light, 0.0))
    return Scene(f'{kind}-{seed}', kind, level, seed, truth, LEVELS[level] * sky, read_noise, stars)


def star_fluxes(rng, n):
    """
    Draw fluxes from a power law over 6 mag.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    n : int
        How many.

    Returns
    -------
    flux : `numpy.ndarray`
        (n,) electrons at the middle level.
    """
    low, high = np.power(FLUX_RANGE, 1.0 - FLUX_SLOPE)
    return (low + rng.random(n) * (high - low)) ** (1.0 / (1.0 - FLUX_SLOPE))


def draw(image, profile, x, y, radius):
    """
    Add a profile to an image, cut at a radius.

    Parameters
    ----------
    image : `galsim.Image`
        Changed in place.
    profile : `galsim.GSObject`
        The light, PSF included.
    x, y : float
        Its place in px, 0-based.
    radius : float
        Half of the side of its stamp in px.
    """
    centre, radius = galsim.PositionI(round(x), round(y)), int(np.ceil(radius))
    box = galsim.BoundsI(centre.x - radius, centre.x + radius, centre.y - radius,
                         centre.y + radius) & image.bounds
    if box.isDefined():
        profile.drawImage(image[box], method='no_pixel', add_to_image=True,
                          center=galsim.PositionD(x, y))


def blank(size):
    """
    Make an empty image whose first pixel is (0, 0).

    Parameters
    ----------
    size : int
        Side in px.

    Returns
    -------
    image : `galsim.Image`
        Zero everywhere.
    """
    return galsim.ImageD(size, size, xmin=0, ymin=0, scale=1.0, init_value=0.0)


def star_light(size, psf, stars):
    """
    Draw a list of stars.

    Parameters
    ----------
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.
    stars : list of tuple
        x, y, flux of each.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons.
    """
    image, peak, alpha = blank(size), psf.max_sb, psf.original.scale_radius
    for x, y, flux in stars:
        radius = alpha * max(flux * peak / STAR_EDGE, 1.0) ** (0.5 / BETA)
        draw(image, psf * flux, x, y, min(max(radius, 12.0), size))
    return image.array


def scatter(rng, size, n):
    """
    Scatter stars evenly over the frame and a little beyond.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    n : float
        Stars per million pixels.

    Returns
    -------
    stars : list of tuple
        x, y, flux of each.
    """
    side = size + 20
    n = rng.poisson(n * side**2 / 1e6)
    x, y = rng.uniform(-10.0, size + 10.0, (2, n))
    return list(zip(x, y, star_fluxes(rng, n), strict=True))


def blur(light, psf):
    """
    Convolve extended light with the PSF and cut its margin off.

    Parameters
    ----------
    light : `numpy.ndarray`
        (H, W) with a margin of ``MARGIN`` px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        Without the margin.
    """
    kernel = psf.drawImage(nx=2 * MARGIN + 1, ny=2 * MARGIN + 1, scale=1.0, method='no_pixel').array
    return signal.fftconvolve(light, kernel / kernel.sum(), 'valid')


def fractal(rng, side, slope):
    """
    Draw a Gaussian random field with a power-law spectrum.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    side : int
        Side in px.
    slope : float
        The power falls as the spatial frequency to minus this.

    Returns
    -------
    field : `numpy.ndarray`
        (side, side), mean 0, rms 1.
    """
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * frequency ** (-slope / 2)
    field = np.fft.irfft2(spectrum, s=(side, side))
    return (field - field.mean()) / field.std()


def star_field(rng, size, psf):
    """
    Make a sparse to normal field of stars.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons without the sky.
    stars : list of tuple
        x, y, flux of each star.
    """
    stars = scatter(rng, size, 10 ** rng.uniform(2.5, 3.2))
    return star_light(size, psf, stars), stars


def star_cluster(rng, size, psf):
    """
    Make a crowded cluster over its unresolved members.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons without the sky.
    stars : list of tuple
        x, y, flux of each resolved star.
    """
    centre, core = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(0.13, 0.22) * size

    def members(n):
        radius = core * np.sqrt(1.0 / rng.uniform(0.04, 1.0, n) - 1.0)  # a Plummer sphere, seen
        angle = rng.uniform(0.0, 2.0 * np.pi, n)
        return centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)

    n = int(3500 * size**2 / 1e6)
    x, y = members(int(0.8 * n))
    stars = list(zip(x, y, star_fluxes(rng, x.size), strict=True))
    stars += scatter(rng, size, 0.2 * 3500)
    side = size + 2 * MARGIN
    x, y = members(5 * n)
    faint = np.histogram2d(y + MARGIN, x + MARGIN, side, [[0, side], [0, side]],
                           weights=FLUX_RANGE[0] * rng.uniform(0.02, 0.8, x.size) ** 1.5)[0]
    return star_light(size, psf, stars) + blur(faint, psf), stars


def spiral(rng, size):
    """
    Make the light of a large spiral galaxy before the PSF.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.

    Returns
    -------
    light : `numpy.ndarray`
        (side, side) electrons, with the margin.
    """
    side = size + 2 * MARGIN
    y, x = np.mgrid[:side, :side] - side / 2 - rng.uniform(-0.1, 0.1, (2, 1, 1)) * size
    angle, axis = rng.uniform(0, np.pi), rng.uniform(0.35, 0.9)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius, azimuth = np.hypot(along, across / axis), np.arctan2(across / axis, along)
    scale = rng.uniform(0.07, 0.11) * size
    pitch, n_arms = np.tan(np.deg2rad(rng.uniform(12, 28))), int(rng.integers(2, 4))
    wrap = 0.5 * fractal(rng, side, 3.4) + azimuth * n_arms - n_arms * np.log(radius + 3.0) / pitch
    arms = np.exp(1.6 * (np.cos(wrap) - 1.0)) * (1.0 - np.exp(-((radius / scale) ** 2)))
    dust = rng.uniform(0.3, 0.9) * np.exp(2.5 * (np.cos(wrap + 0.7) - 1.0))
    disc = rng.uniform(60, 160) * np.exp(-radius / scale)
    clumps = np.exp(0.6 * fractal(rng, side, 2.4) - 0.18)
    light = disc * (0.45 + 1.6 * arms * clumps) * np.exp(-dust * np.exp(-radius / (2 * scale)))
    effective, flat = rng.uniform(0.02, 0.035) * size, np.hypot(along, across / max(axis, 0.7))
    light += rng.uniform(200, 900) * np.exp(-2.7 * ((flat / effective + 0.05) ** 0.55))
    chance = (disc * arms * clumps).ravel()
    knots = rng.choice(chance.size, int(rng.uniform(80, 250)), p=chance / chance.sum())
    for row, column in zip(*np.unravel_index(knots, light.shape), strict=True):
        width, flux = rng.uniform(0.4, 1.8), 10 ** rng.uniform(2.3, 3.6)
        rows = slice(max(row - 8, 0), row + 9)
        columns = slice(max(column - 8, 0), column + 9)
        distance = (y[rows, columns] - y[row, 0]) ** 2 + (x[rows, columns] - x[0, column]) ** 2
        knot = np.exp(-distance / (2 * width**2))
        light[rows, columns] += flux * knot / knot.sum()
    return light


def big_galaxy(rng, size, psf):
    """
    Make a large spiral with knots, dust and field stars.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons without the sky.
    stars : list of tuple
        x, y, flux of each star.
    """
    light = blur(spiral(rng, size), psf)
    stars = scatter(rng, size, 10 ** rng.uniform(2.2, 2.8))
    return light + star_light(size, psf, stars), stars


def filaments(rng, side):
    """
    Make fractal filaments: the ridges of warped random fields.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    side : int
        Side in px.

    Returns
    -------
    light : `numpy.ndarray`
        (side, side), between 0 and about 1.
    """
    shift = 0.06 * side * np.stack([fractal(rng, side, 3.6), fractal(rng, side, 3.6)])
    place = np.mgrid[:side, :side] + shift
    light = np.zeros((side, side))
    for slope, width, weight in ((3.4, 0.12, 0.65), (3.1, 0.20, 0.35)):
        ridge = np.exp(-np.abs(fractal(rng, side, slope)) / width)
        light += weight * ndimage.map_coordinates(ridge, place, order=1, mode='wrap')
    return light


def emission_nebula(rng, size, psf):
    """
    Make a filamentary emission nebula with dust and stars, over more than half of the frame.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons without the sky.
    stars : list of tuple
        x, y, flux of each star.
    """
    side = size + 2 * MARGIN
    glow = np.exp(0.9 * fractal(rng, side, 3.6))
    light = glow * (0.35 + filaments(rng, side)) * np.exp(0.12 * fractal(rng, side, 2.6))
    light = np.maximum(light - np.quantile(light, rng.uniform(0.05, 0.25)), 0.0)
    depth = rng.uniform(0.5, 1.5) * np.maximum(fractal(rng, side, 3.3) - 0.4, 0.0) ** 1.5
    light = blur(rng.uniform(80, 220) * light * np.exp(-depth) / np.quantile(light, 0.99), psf)
    stars = []
    for x, y, flux in scatter(rng, size, 10 ** rng.uniform(2.5, 3.0)):
        row, column = np.clip([y + MARGIN, x + MARGIN], 0, side - 1).astype(int)
        behind = rng.random() < 0.6
        stars.append((x, y, flux * np.exp(-depth[row, column] if behind else 0.0)))
    return light + star_light(size, psf, stars), stars


def faint_field(rng, size, psf):
    """
    Make a deep empty field: dim galaxies, a tidal stream, a few stars.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    size : int
        Side of the frame in px.
    psf : `galsim.GSObject`
        The point-spread function.

    Returns
    -------
    light : `numpy.ndarray`
        (size, size) electrons without the sky.
    stars : list of tuple
        x, y, flux of each star.
    """
    image = blank(size)
    for _ in range(int(350 * size**2 / 1e6)):
        x, y = rng.uniform(0, size, 2)
        half_light = np.exp(rng.normal(np.log(2.6), 0.35))
        galaxy = galsim.Sersic(n=rng.choice([0.8, 1.0, 1.5, 2.5]), half_light_radius=half_light)
        galaxy = galaxy.shear(q=rng.uniform(0.35, 1.0), beta=rng.uniform(0, 180) * galsim.degrees)
        flux = 10 ** rng.uniform(2.2, 3.3) * (half_light / 2.6)
        draw(image, galsim.Convolve(galaxy, psf) * flux, x, y, 12 * half_light + 10)
    y, x = np.mgrid[:size, :size] / size
    centre, radius = rng.uniform(-0.3, 0.3, 2) + 0.5, rng.uniform(0.25, 0.5)
    distance = np.hypot(y - centre[0], (x - centre[1]) * rng.uniform(0.7, 1.3)) - radius
    along = np.cos(np.arctan2(y - centre[0], x - centre[1]) - rng.uniform(0, 2 * np.pi))
    stream = np.exp(-0.5 * (distance / rng.uniform(0.012, 0.03)) ** 2)
    stream *= np.clip(along + 0.3, 0.0, 1.0)
    stars = scatter(rng, size, 100)
    light = image.array + rng.uniform(2.0, 7.0) * stream + star_light(size, psf, stars)
    return light, stars


MAKERS = {'stars': star_field, 'cluster': star_cluster, 'galaxy': big_galaxy,
          'nebula': emission_nebula, 'faint': faint_field}


# ------------------------------------------------------------- real frames as nearly clean truth

def real_scenes(data_dir, *, kinds=REAL_KINDS, levels=tuple(LEVELS)):
    """
    Make scenes from real frames whose own noise is far below what is added.

    Parameters
    ----------
    data_dir : path-like
        The folder that holds ``check``; nothing comes of one that does not exist.
    kinds : sequence of str, optional
        Those of `REAL_KINDS` to make: 'm51' (a CCD frame, scaled), 'picture' (photographs with
        their stretch undone), 'stretched' (the same with their stretch).
    levels : sequence of str, optional
        Those of `LEVELS` to make.

    Yields
    ------
    scene : `Scene`
        One scene after the other.
    """
    check = Path(data_dir) / 'check'
    frame = check / 'linear' / 'M51_pix.fits.fz'
    if 'm51' in kinds and frame.exists():
        for level in levels:
            yield m51_scene(fits.getdata(frame, 1), level)
    for seed, (name, corner) in enumerate(PICTURES.items()):
        path = check / 'pictures' / name
        for kind in ('picture', 'stretched'):
            for level in levels if kind in kinds and path.exists() else ():
                yield picture_scene(path, corner, kind, level, seed)


def no_stars():
    """
    Make a star table without a star.

    Returns
    -------
    stars : `numpy.ndarray`
        As in a `Scene`, empty.
    """
    return np.empty(0, dtype=[(name, float) for name in ('x', 'y', 'flux', 'fwhm')])


def m51_scene(counts, level):
    """
    Scale the M51 frame so that its own noise is a small share of what is added.

    Parameters
    ----------
    counts : `numpy.ndarray`
        (H, W) the frame in ADU.
    level : str
        One of `LEVELS`.

    Returns
    -------
    scene : `Scene`
        In electrons.
    """
    sky, read_noise = 90.0 * LEVELS[level], 4.0
    low_sigma = np.hypot(np.sqrt(90.0 * LEVELS['low']), read_noise)
    scale = M51_SHARE * low_sigma / M51_NOISE * LEVELS[level] / LEVELS['low']
    light = np.maximum(counts - np.quantile(counts, 0.01), 0.0) * scale
    return Scene('m51-0', 'm51', level, 0, sky + light, sky, read_noise, no_stars())


def picture_scene(path, corner, kind, level, seed):
    """
    Make a scene of a photograph: binned, luminance, with or without its stretch.

    Parameters
    ----------
    path : path-like
        The photograph.
    corner : tuple of int
        Row and column of the 512 px crop in the binned picture.
    kind, level : str
        'picture' or 'stretched', and one of `LEVELS`.
    seed : int
        Its number.

    Returns
    -------
    scene : `Scene`
        In electrons ('picture') or grey levels ('stretched').
    """
    grey = np.asarray(Image.open(path).convert('RGB'), float) @ [0.2126, 0.7152, 0.0722]
    height, width = (side // 2 * 2 for side in grey.shape)
    grey = grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    grey = grey[corner[0]:corner[0] + 512, corner[1]:corner[1] + 512]
    floor, name = np.quantile(grey, 0.02), f'{kind}-{seed}'
    if kind == 'stretched':
        return Scene(name, kind, level, seed, grey, floor, PICTURE_SIGMA[level], no_stars(), None)
    unit = np.clip((grey - floor) / (255.0 - floor), 0.0, 1.0)
    light = np.sinh(np.arcsinh(PICTURE_STRETCH * 100) * unit) / (PICTURE_STRETCH * 100)
    truth = LEVELS[level] * (90.0 + PICTURE_FULL_SCALE * light)
    return Scene(name, kind, level, seed, truth, LEVELS[level] * 90.0, 4.0, no_stars())


# ------------------------------------------------------------------ real pairs without a truth

def real_pairs(data_dir, *, kinds=PAIR_KINDS):
    """
    Read single exposures with two independent references each.

    Parameters
    ----------
    data_dir : path-like
        The folder that holds ``check``; nothing comes of one that does not exist.
    kinds : sequence of str, optional
        Those of `PAIR_KINDS` to read.

    Yields
    ------
    pair : `Pair`
        One pair after the other.
    """
    check = Path(data_dir) / 'check'
    for kind in kinds:
        folder = check / PAIR_FOLDERS[kind]
        if folder.exists():
            yield from READERS[kind](folder)


def read_decam(folder):
    """
    Read the DECam cutout: one exposure and the stacks of two halves of the others.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the frames are.

    Yields
    ------
    pair : `Pair`
        One.
    """
    frames = [fits.getdata(folder / f'DECam_OBS04_{name}.fits.fz', 1).astype(float)
              for name in ('single_ref', 'halfA', 'halfB')]
    yield make_pair('decam-i', 'decam', *frames)


def read_m13(folder):
    """
    Read the M13 exposure with real banding and two single exposures as references.

    The stack of the other four holds both of these, so it is not used: two exposures that share
    nothing need no estimate of the reference's own noise.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the frames are.

    Yields
    ------
    pair : `Pair`
        One.
    """
    frame = fits.getdata(folder / 'M13_SSDSI_blue_single_ref.fits.gz').astype(float)
    others = [fits.getdata(folder / f'M13_blue_000{i}.fits.fz', 1).astype(float) for i in (1, 2)]
    yield make_pair('m13-blue', 'm13', frame, *(register([other], frame)[0] for other in others))


def read_seestar(folder):
    """
    Read the Seestar exposure, plane by plane, with one and the mean of two others as references.

    The telescope did not move between them, so that fixed pattern counts as signal.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where the frames are.

    Yields
    ------
    pair : `Pair`
        One for each of the planes.
    """
    planes = fits.getdata(folder / 'aligned_NGC7023_2024_single_ref.fits.fz', 1).astype(float)
    others = []
    for path in sorted(folder.glob('Light_*.fits.fz')):
        if not path.name.endswith('224459.fits.fz'):  # that one is the exposure itself
            raw = fits.getdata(path, 1).astype(float)
            green = (raw[0::2, 0::2] + raw[1::2, 1::2]) / 2
            others.append(register([raw[0::2, 1::2], green, raw[1::2, 0::2]], planes.mean(0)))
    for i, name in enumerate('rgb'):
        yield make_pair(f'seestar-{name}', 'seestar', planes[i], others[0][i],
                        (others[1][i] + others[2][i]) / 2)


PAIR_FOLDERS = {'decam': 'real_decam', 'm13': 'real_banding_m13', 'seestar': 'real_seestar_ngc7023'}
READERS = {'decam': read_decam, 'm13': read_m13, 'seestar': read_seestar}
SATURATED = 60_000.0  # counts, of 16-bit frames
BRIGHTEST_FITTED = 4.0  # sigma of a pixel: the highest signal used for a noise law
LEFT_OUT = 8.0  # sigma of the references' difference beyond which a pixel says nothing


def register(planes, reference):
    """
    Bring the planes of an exposure onto the grid of another by their stars.

    Parameters
    ----------
    planes : list of `numpy.ndarray`
        (H, W) planes of one exposure.
    reference : `numpy.ndarray`
        (h, w) frame on whose grid they shall be.

    Returns
    -------
    planes : list of `numpy.ndarray`
        (h, w) float64 planes, interpolated by cubic splines.
    """
    frame = np.mean(planes, axis=0)
    shape = np.maximum(frame.shape, reference.shape)
    sharp, target = (detail(image) for image in (frame, reference))
    spectrum = np.fft.rfft2(target, shape).conj() * np.fft.rfft2(sharp, shape)
    shift = np.array(np.unravel_index(np.argmax(np.fft.irfft2(spectrum, shape)), shape))
    shift = np.where(shift > shape / 2, shift - shape, shift)
    here, there = matched_peaks(target, sharp, shift)
    keep = np.ones(len(here), bool)
    for _ in range(4):  # an affine map, outliers left out
        design = np.column_stack([here, np.ones(len(here))])
        affine = np.linalg.lstsq(design[keep], there[keep], rcond=None)[0]
        miss = np.linalg.norm(design @ affine - there, axis=1)
        keep = miss < max(3.0 * np.median(miss), 0.1)
    return [ndimage.affine_transform(plane, affine[:2].T, affine[2], reference.shape, order=3,
                                     mode='nearest') for plane in planes]


def detail(image):
    """
    Keep what is as wide as a star.

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W) frame.

    Returns
    -------
    sharp : `numpy.ndarray`
        (H, W) without hot pixels and background, smoothed, its brightest stars capped.
    """
    smooth = ndimage.gaussian_filter(ndimage.median_filter(image, 3), 1.5)
    sharp = smooth - ndimage.uniform_filter(smooth, 41)
    return np.clip(sharp, 0.0, 40.0 * 1.4826 * np.median(np.abs(sharp)))


def matched_peaks(target, sharp, shift, *, n=200, reach=3):
    """
    Find the same stars in two frames.

    Parameters
    ----------
    target, sharp : `numpy.ndarray`
        Frames as `detail` makes them.
    shift : `numpy.ndarray`
        (2,) whole px from the first to the second.
    n : int, optional
        Number of stars, the brightest.
    reach : int, optional
        Half of the side in px of the box in which a star's centre of light is taken.

    Returns
    -------
    here, there : `numpy.ndarray`
        (n, 2) places in the first and in the second.
    """
    peaks = (target == ndimage.maximum_filter(target, 9)) & (target < target.max())
    places = np.argwhere(peaks)
    places = places[np.argsort(target[peaks])[::-1]][:n]

    def centre(image, place):
        for _ in range(3):
            row, column = (round(v) for v in place)
            box = image[row - reach:row + reach + 1, column - reach:column + reach + 1]
            if row < reach or column < reach or box.shape != (2 * reach + 1,) * 2 or not box.any():
                return None
            place = np.array([row, column]) - reach + np.array(ndimage.center_of_mass(box))
        return place

    found = [(centre(target, place), centre(sharp, place + shift)) for place in places]
    found = np.array([pair for pair in found if pair[0] is not None and pair[1] is not None])
    return found[:, 0], found[:, 1]


def robust_sigma(values):
    """
    Estimate a standard deviation from the median absolute deviation.

    Parameters
    ----------
    values : `numpy.ndarray`
        Any shape.

    Returns
    -------
    sigma : float
        In the unit of the values.
    """
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def clipped_variance(values):
    """
    Estimate a variance with its tails, gross outliers left out.

    Parameters
    ----------
    values : `numpy.ndarray`
        Any shape.

    Returns
    -------
    variance : float
        In the unit of the values, squared.
    """
    near = np.abs(values - np.median(values)) < LEFT_OUT * robust_sigma(values)
    return np.var(values[near])


def match_flux(reference, frame, good):
    """
    Scale a reference to an exposure: its flux by what stands out, its sky by the median.

    Parameters
    ----------
    reference, frame : `numpy.ndarray`
        (H, W).
    good : `numpy.ndarray`
        (H, W) bool, pixels that may be used.

    Returns
    -------
    reference : `numpy.ndarray`
        (H, W) scaled.
    """
    smooth = [ndimage.gaussian_filter(image, 2.0) for image in (frame, reference)]
    smooth = [image - np.median(image[good]) for image in smooth]
    bright = good & (smooth[1] > 5.0 * robust_sigma(smooth[1][good]))
    scale = np.sum(smooth[0][bright] * smooth[1][bright]) / np.sum(smooth[1][bright] ** 2)
    scaled = scale * reference
    return scaled + np.median((frame - scaled)[good])


def noise_law(error, half, level, good):
    """
    Fit the variance of an exposure as a straight line in its signal.

    Bright pixels are left out of the fit: there a change of seeing passes for noise.

    Parameters
    ----------
    error : `numpy.ndarray`
        (H, W) exposure minus the mean of its references.
    half : `numpy.ndarray`
        (H, W) half of the difference of the references: as noisy as their mean.
    level : `numpy.ndarray`
        (H, W) smoothed signal above the sky.
    good : `numpy.ndarray`
        (H, W) bool, pixels that may be used.

    Returns
    -------
    slope, base : float
        Variance per unit of signal (0 where it is not significant) and at the sky.
    spread : `numpy.ndarray`
        (H, W) standard deviation of ``half``.
    """
    bins = np.array_split(np.argsort(level[good]), max(good.sum() // 2000, 8))
    levels = np.array([np.median(level[good][b]) for b in bins])
    own, other = (np.array([robust_sigma(image[good][b]) ** 2 for b in bins])
                  for image in (error, half))
    fit = levels < BRIGHTEST_FITTED * np.sqrt(np.median(own))
    (slope, base), cov = np.polyfit(levels[fit], (own - other)[fit], 1, cov=True)
    if slope < 3.0 * np.sqrt(cov[0, 0]):
        slope, base = 0.0, np.median((own - other)[fit])
    tails = clipped_variance(error[good & (level < 0)]) / robust_sigma(error[good & (level < 0)])**2
    return tails * slope, tails * base, np.sqrt(np.interp(level, levels, tails * other))


def make_pair(name, kind, frame, first, second):
    """
    Match the references to an exposure, fit its noise law and mark what compares.

    Parameters
    ----------
    name, kind : str
        What it is.
    frame, first, second : `numpy.ndarray`
        (H, W) in counts, on one grid.

    Returns
    -------
    pair : `Pair`
        In the unit that its noise law defines.
    """
    saturated = np.maximum(np.maximum(first, second), frame) > SATURATED
    good = ~ndimage.binary_dilation(saturated, iterations=10)
    good[:8], good[-8:], good[:, :8], good[:, -8:] = False, False, False, False
    first, second = (match_flux(image, frame, good) for image in (first, second))
    mean = (first + second) / 2
    level = ndimage.gaussian_filter(mean, 1.5)
    sky = np.median(level[good])
    level, half = level - sky, (first - second) / 2  # half has the noise of the mean, no signal
    slope, base, spread = noise_law(frame - mean, half, level, good)
    valid = good & (np.abs(half) < LEFT_OUT * spread)
    sigma = np.sqrt(np.maximum(base + slope * level, 0.5 * base))
    frames = [frame, first, second]
    if slope == 0.0:
        frames = [image.astype(np.float32) for image in frames]
        return Pair(name, kind, *frames, valid, sigma, sky, None, np.sqrt(base))
    frames = [((image - sky) / slope + base / slope**2).astype(np.float32) for image in frames]
    return Pair(name, kind, *frames, valid, sigma / slope, base / slope**2)
