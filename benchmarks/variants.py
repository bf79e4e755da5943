# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Scenes of `scenes.py` as they look after a camera and a reduction that are less than ideal.

Like `scenes.py` this file is frozen: `fidelity.py` prints its SHA-256 beside the tables.  It shares
neither code nor parameters with what makes training scenes.

``gradients``
    noise that does not depend on the signal, on a level of 10, 100 or 1000 sigma with a slope.
``stack``
    dithered exposures, resampled to one grid and added: shifted by linear or cubic interpolation,
    drizzled from a camera of half the resolution, or debayered and shifted.  Everything is done to
    the exposures themselves, so the truth is what the same steps make of noiseless exposures.
``colour``
    three planes of one camera with colour blotches and offsets of rows that nobody is told of.
"""

from dataclasses import dataclass, fields, replace

import galsim
import numpy as np
import scenes
from scipy import ndimage

__all__ = [
    'KINDS', 'Colour', 'Stack', 'blotch_pattern', 'colour_scene', 'cropped', 'make_variant',
    'observe_colour', 'planes_of', 'random',
]

KINDS = ('gradients', 'stack', 'colour')

GRADIENT_KINDS = ('stars', 'galaxy')
GRADIENT_LEVELS = ((100.0, 0.1), (10.0, 0.02), (1000.0, 0.5))  # sigma, sigma per px at most
N_EXPOSURES = (4, 16)  # fewest and most
DITHER = 3.0  # px, largest shift along an axis
PROCESSES = ('shifted', 'drizzled', 'debayered')
REACH = 6  # px, largest distance at which noise counts as correlated
PIXFRAC = 0.8  # side of a drizzled drop over that of the camera's pixel, which is 2 px
COLOUR_KINDS = ('nebula', 'stars', 'galaxy')
BLOTCH, BLOTCH_CELLS = 0.3, (8, 16)  # sigma rms in each plane, px between the nodes
BANDING = 0.2  # sigma rms of the offsets of rows
STAR_COLOUR = 0.4  # mag rms, of one plane to the next
EXTENDED_COLOUR = (1.2, 1.0, 0.7)  # brightness of extended light in the three planes
SKY_COLOUR = (1.1, 1.0, 0.8)  # brightness of the sky
PLANES = ('R', 'G', 'B')
SIZE = 512  # px, side of the frames


def random(*words):
    """
    Make a source of chance.

    Parameters
    ----------
    *words : int
        What it is for.

    Returns
    -------
    rng : `numpy.random.Generator`
        The same for the same words.
    """
    return np.random.default_rng([0xC1A, *words])


def make_variant(kind, level, seed):
    """
    Make one scene.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    level : str
        One of `scenes.LEVELS`.
    seed : int
        Seed of the scene; kinds of objects, levels and processes follow each other with it.

    Returns
    -------
    scene : `scenes.Scene`, `Stack` or `Colour`
        With ``observe(rng)`` to draw a frame.

    Raises
    ------
    ValueError
        If ``kind`` is unknown.
    """
    makers = {'gradients': gradient_scene, 'stack': stack_scene, 'colour': blotched_scene}
    if kind not in makers:
        msg = f'got variant {kind!r}, expected one of {KINDS}'
        raise ValueError(msg)
    return makers[kind](level, seed)


def planes_of(scene):
    """
    Take a scene apart.

    Parameters
    ----------
    scene : `scenes.Scene`, `scenes.Pair` or `Colour`
        A scene.

    Returns
    -------
    planes : tuple
        Its planes, or itself alone.
    """
    return getattr(scene, 'planes', (scene,))


def cropped(scene, side):
    """
    Cut the middle out of a scene.

    Parameters
    ----------
    scene : `scenes.Scene`, `scenes.Pair`, `Stack` or `Colour`
        A scene; what comes back can be measured, not observed.
    side : int
        Of the crop in px.

    Returns
    -------
    scene : same type
        Its arrays cut.
    window : tuple of slice
        Of rows and columns, to cut frames with.
    """
    height, width = planes_of(scene)[0].sigma.shape
    corner = [max(n - side, 0) // 2 for n in (height, width)]
    window = tuple(slice(start, start + side) for start in corner)
    changed = {}
    for each in fields(scene):
        value = getattr(scene, each.name)
        if each.name == 'planes':
            changed['planes'] = tuple(cropped(plane, side)[0] for plane in value)
        elif each.name == 'stars':
            stars = value.copy()
            stars['y'] -= corner[0]
            stars['x'] -= corner[1]
            changed['stars'] = stars
        elif isinstance(value, np.ndarray) and value.shape[-2:] == (height, width):
            changed[each.name] = value[..., *window]
    return replace(scene, **changed), window


# -------------------------------------------------------------------------- levels and gradients

def gradient_scene(level, seed):
    """
    Put stars or a galaxy on a high level that changes over the frame.

    Parameters
    ----------
    level : str
        One of `scenes.LEVELS`.
    seed : int
        Of the scene, the slope and its direction.

    Returns
    -------
    scene : `scenes.Scene`
        Its ``sky`` is the (H, W) level; the noise is that of the scene's sky everywhere.
    """
    kind = GRADIENT_KINDS[seed % len(GRADIENT_KINDS)]
    offset, slope = GRADIENT_LEVELS[seed % len(GRADIENT_LEVELS)]
    scene, rng = scenes.make_scene(kind, level, 100 + seed), random(20, seed)
    sigma = np.sqrt(scene.sky + scene.read_noise**2)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    y, x = np.indices(scene.truth_electrons.shape) - (SIZE - 1) / 2
    ramp = rng.uniform(0.5, 1.0) * slope * (x * np.cos(angle) + y * np.sin(angle))
    pedestal = sigma * (offset + ramp)
    return replace(scene, name=f'{kind}+{offset:g}-{seed}', kind='gradients', seed=seed,
                   truth_electrons=scene.truth_electrons + pedestal, sky=scene.sky + pedestal,
                   read_noise=sigma, gain=None)


# --------------------------------------------------------------------------------------- stacks

@dataclass
class Exposure:
    """
    One exposure and how it comes onto the grid of the stack: ``rows @ camera @ columns.T``.

    Attributes
    ----------
    light : `numpy.ndarray`
        (h, w) expected electrons in the camera.
    read_noise : float
        Rms in electrons.
    rows, columns : `numpy.ndarray`
        (H, h) and (W, w).
    """

    light: np.ndarray
    read_noise: float
    rows: np.ndarray
    columns: np.ndarray


@dataclass
class Stack(scenes.Scene):
    """
    A stack of exposures whose noise is correlated from pixel to pixel.

    ``gain`` and ``read_noise`` are those of the noise law that fits the stack's sky; the noise of
    each pixel follows from the steps themselves.

    Attributes
    ----------
    exposures : tuple of `Exposure`
        What is added.
    weight : `numpy.ndarray`
        (H, W) what the sum is divided by.
    variance : `numpy.ndarray`
        (H, W) of the noise.
    """

    exposures: tuple = ()
    weight: np.ndarray = None
    variance: np.ndarray = None

    @property
    def sigma(self):
        """
        The true noise of each pixel.

        Returns
        -------
        sigma : `numpy.ndarray`
            (H, W) float64.
        """
        return np.sqrt(self.variance)

    def observe(self, rng):
        """
        Expose, resample and add.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of the noise.

        Returns
        -------
        noisy : `numpy.ndarray`
            (H, W) float32.
        """
        total = 0.0
        for one in self.exposures:
            camera = rng.poisson(one.light) + rng.normal(0.0, one.read_noise, one.light.shape)
            total = total + one.rows @ camera @ one.columns.T
        return (total / self.weight).astype(np.float32)

    def correlation(self, down, right):
        """
        Give the correlation of the noise of pixels at a distance.

        Parameters
        ----------
        down, right : int
            The distance in px, not negative.

        Returns
        -------
        correlation : float
            Their covariance over their variance, both averaged over the frame.
        """
        height, width = self.variance.shape
        total = 0.0
        for one in self.exposures:
            camera = one.light + one.read_noise**2
            rows = one.rows[:height - down] * one.rows[down:]
            columns = one.columns[:width - right] * one.columns[right:]
            total = total + rows @ camera @ columns.T
        total /= self.weight[:height - down, :width - right] * self.weight[down:, right:]
        return total.mean() / self.variance.mean()

    @property
    def autocorrelation(self):
        """
        The correlation of the noise by distance, as if it were the same everywhere.

        Returns
        -------
        correlation : `numpy.ndarray`
            (2 `REACH` + 1,) twice, 1 in the middle.
        """
        total = 0.0
        for one in self.exposures:
            sides = []
            for matrix in (one.rows, one.columns):
                n = matrix.shape[0]
                half = [np.mean(matrix[:n - lag] * matrix[lag:]) for lag in range(REACH + 1)]
                sides.append([*half[:0:-1], *half])
            total = total + np.outer(*sides)
        return total / total[REACH, REACH]


def shift_matrix(n, shift, order):
    """
    Write the shift of a row by splines as a matrix.

    Parameters
    ----------
    n : int
        Length of the row in px.
    shift : float
        To higher coordinates, in px.
    order : int
        Of the spline: 1 is linear interpolation, 3 cubic.

    Returns
    -------
    matrix : `numpy.ndarray`
        (n, n), which multiplies the row.
    """
    return ndimage.shift(np.eye(n), (shift, 0.0), order=order, mode='nearest')


def drizzle_matrix(n, shift):
    """
    Write the drizzling of a row of pixels of 2 px onto pixels of 1 px as a matrix.

    Parameters
    ----------
    n : int
        Length of the finer row.
    shift : float
        Of the drops to higher coordinates, in fine px.

    Returns
    -------
    matrix : `numpy.ndarray`
        (n, n / 2): how much of each fine pixel each drop covers.
    """
    pixel = np.arange(n)[:, None]
    centre = 2.0 * np.arange(n // 2) + 0.5 + shift
    low, high = centre - PIXFRAC, centre + PIXFRAC
    return np.clip(np.minimum(pixel + 0.5, high) - np.maximum(pixel - 0.5, low), 0.0, None)


def debayer_matrix(n, phase):
    """
    Write bilinear debayering of a row as a matrix.

    Parameters
    ----------
    n : int
        Length of the row.
    phase : {0, 1}
        Of the first pixel that has the colour, which every second one has.

    Returns
    -------
    matrix : `numpy.ndarray`
        (n, n); the other pixels' columns are 0.
    """
    sites = np.arange(phase, n, 2)
    return np.stack([np.interp(np.arange(n), sites, row) for row in np.eye(n)[:, sites]], axis=1)


def make_exposure(truth, read_noise, n, process, order, rng):
    """
    Make one of n exposures of a scene.

    Parameters
    ----------
    truth : `numpy.ndarray`
        (H, W) electrons of all exposures together.
    read_noise : float
        Of all exposures together, per pixel of the truth.
    n : int
        Number of exposures.
    process : str
        One of `PROCESSES`.
    order : int
        Of the interpolation.
    rng : `numpy.random.Generator`
        Source of the dither.

    Returns
    -------
    exposure : `Exposure`
        It adds up to the truth with the others.
    """
    side = truth.shape[0]
    dither = rng.uniform(-DITHER, DITHER, 2)
    there = [shift_matrix(side, shift, 3) for shift in dither]
    light = np.maximum(there[0] @ truth @ there[1].T, 0.0) / n
    read_noise /= np.sqrt(n)
    if process == 'drizzled':
        light = light.reshape(side // 2, 2, side // 2, 2).sum((1, 3))
        back = [drizzle_matrix(side, -shift) for shift in dither]
        return Exposure(light, 2.0 * read_noise, *back)
    back = [shift_matrix(side, -shift, order) for shift in dither]
    if process == 'debayered':
        back = [matrix @ debayer_matrix(side, 0) for matrix in back]
    return Exposure(light, read_noise, *back)


def stack_scene(level, seed, *, process=None):
    """
    Expose a scene several times, dithered, and stack.

    The exposures share the light and the variance of the read noise of the single frame.

    Parameters
    ----------
    level : str
        One of `scenes.LEVELS`.
    seed : int
        Of the scene and the dither.
    process : str, optional
        One of `PROCESSES`; by default they follow each other with the seed.

    Returns
    -------
    scene : `Stack`
        Its truth is the stack of noiseless exposures.
    """
    process = process or PROCESSES[seed % len(PROCESSES)]
    kind = scenes.KINDS[seed % len(scenes.KINDS)]
    scene, rng = scenes.make_scene(kind, level, 200 + seed), random(21, seed)
    n = int(rng.integers(N_EXPOSURES[0], N_EXPOSURES[1] + 1))
    order = 1 if rng.random() < 0.5 else 3
    exposures = tuple(make_exposure(scene.truth_electrons, scene.read_noise, n, process, order, rng)
                      for _ in range(n))
    weight = np.ones_like(scene.truth_electrons)
    if process == 'drizzled':  # a pixel of the camera holds the light of four
        weight = 4.0 / n * sum(np.outer(one.rows.sum(1), one.columns.sum(1)) for one in exposures)
    truth = sum(one.rows @ one.light @ one.columns.T for one in exposures) / weight
    variance = sum(one.rows**2 @ (one.light + one.read_noise**2) @ (one.columns**2).T
                   for one in exposures) / weight**2
    share = np.median(variance / (truth + scene.read_noise**2))
    return Stack(f'{process}-{kind}-{seed}', 'stack', level, seed, truth, scene.sky,
                 scene.read_noise * np.sqrt(share), scene.stars, 1.0 / share, exposures, weight,
                 variance)


# --------------------------------------------------------------------------------------- colour

def colour_scene(kind, level, seed, boost=1.0):
    """
    Make a scene in three planes of one camera.

    Each star has a colour of its own; extended light and sky have one each.

    Parameters
    ----------
    kind, level : str
        Of `scenes.KINDS` and `scenes.LEVELS`.
    seed : int
        Of the scene.
    boost : float, optional
        By how much stars are brighter than those of `scenes.make_scene`.

    Returns
    -------
    planes : tuple of `scenes.Scene`
        R, G and B.
    """
    rng = random(2, scenes.KINDS.index(kind), seed)
    sky, read_noise, fwhm = rng.uniform(60, 120), rng.uniform(3, 5), rng.uniform(2.2, 4.0)
    psf = galsim.Moffat(beta=scenes.BETA, fwhm=fwhm).shear(g1=0.0, g2=0.0)
    light, stars = scenes.MAKERS[kind](rng, SIZE, psf)
    extended = np.maximum(light - scenes.star_light(SIZE, psf, stars), 0.0)
    redness, exposure, planes = rng.normal(0, STAR_COLOUR, len(stars)), scenes.LEVELS[level], []
    for i, name in enumerate(PLANES):
        own = [(x, y, boost * flux * 10 ** (0.4 * (1 - i) * red))
               for (x, y, flux), red in zip(stars, redness, strict=True)]
        plane = SKY_COLOUR[i] * sky + EXTENDED_COLOUR[i] * extended
        plane = exposure * (plane + scenes.star_light(SIZE, psf, own))
        table = np.array([(x, y, flux * exposure, fwhm) for x, y, flux in own],
                         dtype=scenes.no_stars().dtype)
        planes.append(scenes.Scene(f'{kind}-{seed}-{name}', kind, level, seed, plane,
                                   exposure * SKY_COLOUR[i] * sky, read_noise, table))
    return tuple(planes)


def observe_colour(planes, seed):
    """
    Draw a frame of three planes.

    Parameters
    ----------
    planes : tuple of `scenes.Scene`
        As `colour_scene` makes them.
    seed : int
        Of the noise.

    Returns
    -------
    noisy : `numpy.ndarray`
        (3, H, W) float32.
    """
    rng = random(3, scenes.KINDS.index(planes[0].kind), seed)
    return np.stack([plane.observe(rng) for plane in planes])


def blotch_pattern(shape, cell, rng):
    """
    Draw colour fluctuations without luminance.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    cell : int
        Px from node to node.
    rng : `numpy.random.Generator`
        Source of chance.

    Returns
    -------
    pattern : `numpy.ndarray`
        (3, H, W), rms `BLOTCH` in each plane, zero in the mean of the planes.
    """
    nodes = rng.normal(size=(3, *(n // cell + 2 for n in shape)))
    pattern = np.stack([ndimage.zoom(plane, cell)[:shape[0], :shape[1]] for plane in nodes])
    pattern -= pattern.mean(0)
    return BLOTCH * pattern / pattern.std((1, 2), keepdims=True)


@dataclass
class Colour:
    """
    Three planes of one camera with blotches and banding beside the noise.

    Attributes
    ----------
    name, kind, level : str
        What it is.
    seed : int
        Of the scene.
    planes : tuple of `scenes.Scene`
        R, G and B.
    blotches, banding : `numpy.ndarray`
        (3, H, W) in sigma of each plane's sky.
    """

    name: str
    kind: str
    level: str
    seed: int
    planes: tuple
    blotches: np.ndarray
    banding: np.ndarray

    @property
    def sigma(self):
        """
        The noise of each pixel without blotches and banding.

        Returns
        -------
        sigma : `numpy.ndarray`
            (3, H, W) float64.
        """
        return np.stack([plane.sigma for plane in self.planes])

    @property
    def gain(self):
        """
        Electrons per unit.

        Returns
        -------
        gain : float
            The same in all planes.
        """
        return self.planes[0].gain

    @property
    def read_noise(self):
        """
        Gaussian part of the noise.

        Returns
        -------
        read_noise : float
            The same in all planes.
        """
        return self.planes[0].read_noise

    def observe(self, rng):
        """
        Draw one frame.

        Parameters
        ----------
        rng : `numpy.random.Generator`
            Source of the noise.

        Returns
        -------
        noisy : `numpy.ndarray`
            (3, H, W) float32.
        """
        noisy = [plane.observe(rng) for plane in self.planes]
        unit = [np.sqrt(plane.sky / plane.gain + plane.read_noise**2) for plane in self.planes]
        extra = np.reshape(unit, (3, 1, 1)) * (self.blotches + self.banding)
        return np.stack(noisy) + extra.astype(np.float32)


def blotched_scene(level, seed):
    """
    Make a colour scene with blotches of 0.3 sigma and offsets of rows of 0.2 sigma.

    Parameters
    ----------
    level : str
        One of `scenes.LEVELS`.
    seed : int
        Of the scene and its patterns.

    Returns
    -------
    scene : `Colour`
        The offsets differ from plane to plane.
    """
    kind = COLOUR_KINDS[seed % len(COLOUR_KINDS)]
    planes, rng = colour_scene(kind, level, 300 + seed), random(22, seed)
    shape = planes[0].truth_electrons.shape
    blotches = blotch_pattern(shape, BLOTCH_CELLS[seed % len(BLOTCH_CELLS)], rng)
    rows = BANDING * rng.normal(size=(3, shape[0], 1))
    banding = np.broadcast_to(rows, blotches.shape)
    return Colour(f'colour-{kind}-{seed}', 'colour', level, seed, planes, blotches, banding)
