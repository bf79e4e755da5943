# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Training tiles: clean scenes, synthetic noise, the estimator of `astrodenoise.estimate`, tiles.

Every tile is a pure function of the seed and its place in the stream, so that a resumed training
sees what an unbroken one does.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from astrodenoise.estimate import measure_plane
from astrodenoise.features import NormalisedPlane, condition
from astrodenoise.noisemodel import MAP_BLOCK, NOISELESS, PlaneNoise
from astrodenoise.training.scenes import draw_scene
from astrodenoise.training.synthesis import NoiseRanges, observe

__all__ = ['Scene', 'Tiles', 'normalise', 'scene_library', 'split_by_scene', 'tile_rounds']

VALIDATION_SEED = 10**6  # scenes above it are never trained on


@dataclass(frozen=True)
class Scene:
    """
    A clean scene and what may be done with it.

    Attributes
    ----------
    name : str
        Object or kind; all scenes of one object go to the same side of the split.
    image : `numpy.ndarray`, (H, W), float32
        In sigma over a sky of 0.
    brightest : float or None
        Upper limit of the brightness factor, for scenes that are only nearly clean.
    """

    name: str
    image: np.ndarray
    brightest: float | None = None


@dataclass
class Tiles:
    """
    A stack of training tiles.

    Attributes
    ----------
    features : `torch.Tensor`, (N, 6, H, W), float32
        The network's input.
    condition : `torch.Tensor`, (N, 6), float32
        The noise's correlation.
    target : `torch.Tensor`, (N, 1, H, W), float32
        The noise that is present, in units of the sigma that the network is told.
    weight : `torch.Tensor`, (N, 1, H, W), float32
        What each pixel counts.
    """

    features: torch.Tensor
    condition: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def __len__(self):
        return len(self.target)

    def select(self, index):
        """
        Choose tiles.

        Parameters
        ----------
        index : sequence of int
            Which ones.

        Returns
        -------
        tiles : `Tiles`
            In that order.
        """
        index = torch.as_tensor(np.asarray(index))
        return Tiles(*(value[index] for value in vars(self).values()))

    @classmethod
    def join(cls, stacks):
        """
        Put stacks together.

        Parameters
        ----------
        stacks : list of `Tiles`
            At least one.

        Returns
        -------
        tiles : `Tiles`
            All of them.
        """
        names = cls.__dataclass_fields__
        return cls(*(torch.cat([getattr(stack, name) for stack in stacks]) for name in names))


def split_by_scene(name, share=0.2):
    """
    Tell whether all tiles of an object are for validation (paper section 2.6: 80 to 20).

    Parameters
    ----------
    name : str
        The object.
    share : float, optional
        Share of objects for validation.

    Returns
    -------
    validation : bool
        The same for every call with that name.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], 'big') < share * 2**32


def scene_library(n_scenes, *, size=512, seed=0, kinds=None, material=None, n_threads=2):
    """
    Draw the simulated scenes of a training and add the real ones.

    Parameters
    ----------
    n_scenes : int
        Number of simulated scenes.
    size : int, optional
        Their side in px.
    seed : int, optional
        First of their seeds.
    kinds : dict, optional
        Relative frequency of each kind.
    material : list of (str, `numpy.ndarray`), optional
        Real clean scenes, see `astrodenoise.training.material`; those for validation are left out.
    n_threads : int, optional
        Scenes drawn at once.

    Returns
    -------
    scenes : list of `Scene`
        The library.
    """
    kinds = kinds or {'stars': 3, 'cluster': 2, 'galaxy': 3, 'nebula': 4, 'faint': 2, 'blank': 0.5}
    names = list(kinds)
    share = np.array([kinds[name] for name in names], float)

    def draw(number):
        rng = np.random.default_rng((seed, number))
        kind = str(rng.choice(names, p=share / share.sum()))
        return Scene(f'{kind}-{seed}-{number}', draw_scene(rng, (size, size), kind))

    with ThreadPoolExecutor(n_threads) as pool:
        scenes = list(pool.map(draw, range(n_scenes)))
    for name, image in material or ():
        if not split_by_scene(name):
            scenes.append(Scene(name, image, brightest=1.0))
    return scenes


def _told_noise(measured, seen):
    """The noise as a user tells it: sigma at the sky, the law and the map that are true."""
    depth = seen.depth.numpy()
    step = MAP_BLOCK // 2
    grid = [[1.0]] if np.ptp(depth) == 0 else depth[step::MAP_BLOCK, step::MAP_BLOCK].tolist()
    sigma = float(torch.median(seen.sigma)) if seen.shot_gain == 0 else 1.0
    if measured.sigma < NOISELESS * sigma:
        measured = PlaneNoise(measured.shape, 0.0, sigma)
    return measured.told(
        sigma, sky=0.0, levels=[0.0], law=[1.0], slope=seen.shot_gain, grid=grid
    )


def normalise(seen):
    """
    Make the network's input and its target from what a camera saw.

    Parameters
    ----------
    seen : `astrodenoise.training.synthesis.Observation`
        Truth and data of a whole scene.

    Returns
    -------
    features : `numpy.ndarray`, (6, H, W), float32
        The network's input.
    correlation : `numpy.ndarray`, (6,), float32
        The noise's correlation.
    target, weight : `numpy.ndarray`, (H, W), float32
        The noise in units of sigma, and what each pixel counts; pixels whose noise was told too
        small do not count more than others.
    """
    noisy, clean, valid = seen.noisy.numpy(), seen.clean.numpy(), seen.valid.numpy()
    try:
        noise = measure_plane(noisy, valid)
    except ValueError:
        noise = PlaneNoise(noisy.shape, 0.0, 0.0)
    if seen.told or noise.sigma == 0:
        noise = _told_noise(noise, seen)
    plane = NormalisedPlane(noisy, valid, noise)
    target = np.where(valid, (noisy - clean) / plane.sigma, 0).astype(np.float32)
    weight = np.minimum(1, plane.sigma / np.maximum(seen.sigma.numpy(), 1e-6)) ** 2 * valid
    return plane.whole(), condition(noise), target, weight.astype(np.float32)


def _turn(image, number):
    """One of the eight flips and quarter turns."""
    image = np.rot90(image, number % 4)
    return np.ascontiguousarray(image[:, ::-1] if number >= 4 else image)


def scene_tiles(scene, seed, *, tile_size=128, ranges=None):
    """
    Add noise to one scene and cut it into tiles.

    Parameters
    ----------
    scene : `Scene`
        The clean scene.
    seed : int or tuple of int
        Decides on turns, noise and the tiles' origin.
    tile_size : int, optional
        Side of the tiles in px.
    ranges : `astrodenoise.training.synthesis.NoiseRanges`, optional
        How often and how strong each kind of noise is.

    Returns
    -------
    tiles : `Tiles`
        All full tiles from a random origin.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    clean = torch.from_numpy(_turn(scene.image, int(rng.integers(8))))
    seen = observe(clean, rng, generator, ranges=ranges, brightest=scene.brightest)
    features, correlation, target, weight = normalise(seen)
    stack = np.concatenate([features, target[None], weight[None]])
    counts = [n // tile_size for n in clean.shape]
    spare = (n - c * tile_size for n, c in zip(clean.shape, counts, strict=True))
    y, x = (int(rng.integers(n + 1)) for n in spare)
    stack = stack[:, y : y + counts[0] * tile_size, x : x + counts[1] * tile_size]
    stack = stack.reshape(len(stack), counts[0], tile_size, counts[1], tile_size)
    stack = stack.transpose(1, 3, 0, 2, 4).reshape(-1, len(stack), tile_size, tile_size)
    stack = torch.from_numpy(np.ascontiguousarray(stack))
    n_features = len(features)
    conditions = torch.from_numpy(correlation).expand(len(stack), -1).contiguous()
    return Tiles(
        stack[:, :n_features].contiguous(),
        conditions,
        stack[:, n_features : n_features + 1].contiguous(),
        stack[:, n_features + 1 :].contiguous(),
    )


def tile_rounds(scenes, seed, *, start=0, round_scenes=32, tile_size=128, ranges=None, n_threads=2):
    """
    Give rounds of shuffled tiles without end.

    Parameters
    ----------
    scenes : list of `Scene`
        The library.
    seed : int
        Of the whole stream.
    start : int, optional
        First round.
    round_scenes : int, optional
        Scenes in one round.
    tile_size : int, optional
        Side of the tiles in px.
    ranges : `astrodenoise.training.synthesis.NoiseRanges`, optional
        How often and how strong each kind of noise is.
    n_threads : int, optional
        Scenes prepared at once.

    Yields
    ------
    tiles : `Tiles`
        The tiles of one round, shuffled.
    """
    ranges = ranges or NoiseRanges()
    number = start
    with ThreadPoolExecutor(n_threads) as pool:
        while True:
            rng = np.random.default_rng((seed, number))
            chosen = rng.integers(len(scenes), size=round_scenes)
            jobs = [
                pool.submit(
                    scene_tiles,
                    scenes[index],
                    (seed, number, place),
                    tile_size=tile_size,
                    ranges=ranges,
                )
                for place, index in enumerate(chosen)
            ]
            tiles = Tiles.join([job.result() for job in jobs])
            yield tiles.select(rng.permutation(len(tiles)))
            number += 1
