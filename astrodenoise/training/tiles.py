# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Training tiles: clean scenes, synthetic noise, the estimator of `astrodenoise.estimate`, tiles.

Every tile is a pure function of the seed and its place in the stream, so that a resumed training
sees what an unbroken one does.
"""

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from astrodenoise.background import local_level
from astrodenoise.estimate import measure_plane
from astrodenoise.features import N_CONDITION, N_FEATURES, NormalisedPlane, condition
from astrodenoise.noisemodel import MAP_BLOCK, PlaneNoise
from astrodenoise.training.library import STAR_EXPOSURES
from astrodenoise.training.synthesis import NoiseRanges, Observation, observe_planes

__all__ = ['Tiles', 'normalise', 'normalised_plane', 'scene_tiles', 'tile_rounds']

UNKNOWN = 1e6  # sigma, of pixels that are shown and do not count


@dataclass
class Tiles:
    """
    A stack of training tiles.

    Attributes
    ----------
    features : `torch.Tensor`, (N, P * 6, H, W), float32
        The network's input.
    condition : `torch.Tensor`, (N, P * 6), float32
        The noise's correlation.
    target : `torch.Tensor`, (N, P, H, W), float32
        The noise that is present, in units of the sigma that the network is told.
    weight : `torch.Tensor`, (N, P, H, W), float32
        What each pixel counts.
    stars : `torch.Tensor`, (N, 1, H, W), float32
        The star mask of the clean tile; 0 where none was made.
    own : `torch.Tensor`, (N, P), float32
        Variance of the target's own noise in units of sigma; 0 where it is the truth.
    """

    features: torch.Tensor
    condition: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    stars: torch.Tensor
    own: torch.Tensor

    @property
    def noisy(self):
        """Contrast of the noisy tiles to their local level, in sigma (tensor, (N, P, H, W))."""
        return torch.sinh(self.features[:, ::N_FEATURES])

    @property
    def clean(self):
        """Contrast of the clean tiles to the same level, in sigma (tensor, (N, P, H, W))."""
        return self.noisy - self.target

    @property
    def ground_truth(self):
        """Clean planes and star mask together (tensor, (N, P + 1, H, W); paper section 2.3)."""
        return torch.cat((self.clean, self.stars), dim=1)

    def to(self, device):
        """
        Bring the tiles to a device.

        Parameters
        ----------
        device : str or `torch.device`
            Which one.

        Returns
        -------
        tiles : `Tiles`
            There, the features with their channels last.
        """
        tiles = Tiles(*(value.to(device) for value in vars(self).values()))
        tiles.features = tiles.features.contiguous(memory_format=torch.channels_last)
        return tiles

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


def _told_noise(measured, seen):
    """The noise as a user tells it: sigma at the sky, the law and the map that are true."""
    depth = seen.depth.numpy()
    step = MAP_BLOCK // 2
    grid = [[1.0]] if np.ptp(depth) == 0 else depth[step::MAP_BLOCK, step::MAP_BLOCK].tolist()
    sigma = float(torch.median(seen.sigma)) if seen.shot_gain == 0 else 1.0
    if measured.evidence(sigma) < 1:
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
        Truth and data of a plane.

    Returns
    -------
    features : `numpy.ndarray`, (6, H, W), float32
        The network's input; zeros for a plane that is missing.
    correlation : `numpy.ndarray`, (6,), float32
        The noise's correlation.
    target, weight : `numpy.ndarray`, (H, W), float32
        The noise in units of sigma, and what each pixel counts; pixels whose noise was told too
        small do not count more than others.
    """
    noisy, clean, valid = seen.noisy.numpy(), seen.clean.numpy(), seen.valid.numpy()
    if not valid.any():
        nothing = np.zeros((N_FEATURES, *noisy.shape), np.float32)
        return nothing, np.zeros(N_CONDITION, np.float32), nothing[0], nothing[0]
    plane = normalised_plane(seen)
    target = np.where(valid, (noisy - clean) / plane.sigma, 0).astype(np.float32)
    weight = np.minimum(1, plane.sigma / np.maximum(seen.sigma.numpy(), 1e-6)) ** 2 * valid
    return plane.whole(), condition(plane.noise), target, weight.astype(np.float32)


def normalised_plane(seen):
    """
    Measure the noise of what a camera saw, or take what is told, as `astrodenoise.denoise` does.

    Parameters
    ----------
    seen : `astrodenoise.training.synthesis.Observation`
        Truth and data of a plane that has valid pixels.

    Returns
    -------
    plane : `astrodenoise.features.NormalisedPlane`
        What the network's input is cut from.
    """
    noisy, valid = seen.noisy.numpy(), seen.valid.numpy()
    level = local_level(noisy, valid)
    try:
        noise = measure_plane(noisy, valid, level=level)
    except ValueError:
        noise = PlaneNoise(noisy.shape, 0.0, 0.0)
    if seen.told or noise.sigma == 0:
        noise = _told_noise(noise, seen)
    return NormalisedPlane(noisy, valid, noise, level=level)


def _turn(image, number):
    """One of the eight flips and quarter turns."""
    image = np.rot90(image, number % 4, axes=(-2, -1))
    return np.ascontiguousarray(image[..., ::-1] if number >= 4 else image)


def _as_taken(scene, turn):
    """What the real noisy frame of a pair shows: its noise is there, and is measured."""
    counts = scene.valid if scene.counts is None else scene.counts
    noisy, clean, valid, counts = (
        torch.from_numpy(_turn(a, turn)) for a in (scene.noisy, scene.image, scene.valid, counts)
    )
    # where seeing makes more than noise does, a pixel counts accordingly less
    sigma = torch.sqrt(1 + (scene.seeing * torch.clamp(clean, min=0)) ** 2)
    sigma = torch.where(counts | ~valid, sigma, UNKNOWN)
    return [
        Observation(c, n, s, v, torch.ones_like(c), 0.0, told=False)
        for c, n, s, v in zip(clean, noisy, sigma, valid, strict=True)
    ]


def _star_mask(scene, exposure, turn):
    """The scene's star mask for about that exposure; zeros where none was made."""
    if scene.stars is None:
        return np.zeros(_turn(scene.image[0], turn).shape, np.float32)
    nearest = int(np.argmin(np.abs(np.log(np.array(STAR_EXPOSURES) / exposure))))
    return _turn(scene.stars[nearest], turn) / np.float32(255)


def scene_tiles(scene, seed, *, tile_size=128, ranges=None, pair_share=0.5):
    """
    Add noise to one scene and cut it into tiles.

    Parameters
    ----------
    scene : `astrodenoise.training.library.Scene`
        The clean scene.
    seed : int or tuple of int
        Decides on turns, noise and the tiles' origin.
    tile_size : int, optional
        Side of the tiles in px.
    ranges : `astrodenoise.training.synthesis.NoiseRanges`, optional
        How often and how strong each kind of noise is.
    pair_share : float, optional
        How often a scene that has a real noisy frame is shown with that one.

    Returns
    -------
    tiles : `Tiles`
        All full tiles from a random origin.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    turn = int(rng.integers(8))
    as_taken = scene.noisy is not None and rng.random() < pair_share
    if as_taken:
        seen = _as_taken(scene, turn)
    else:
        clean = torch.from_numpy(_turn(scene.image, turn))
        seen = observe_planes(clean, rng, generator, ranges=ranges, brightest=scene.brightest)
    features, correlation, target, weight = zip(*map(normalise, seen), strict=True)
    exposure = float(np.mean([plane.exposure for plane in seen]))
    stars = _star_mask(scene, exposure, turn)[None]
    parts = [np.concatenate(features), np.stack(target), np.stack(weight), stars]
    features, target, weight, stars = _cut(parts, rng, tile_size)
    conditions = torch.from_numpy(np.concatenate(correlation)).expand(len(features), -1)
    own = torch.full((len(features), len(seen)), scene.own if as_taken else 0.0)
    return Tiles(features, conditions.contiguous(), target, weight, stars, own)


def _cut(parts, rng, tile_size):
    """Cut arrays (C, H, W) into the same full tiles (N, C, tile, tile) from a random origin."""
    shape = parts[0].shape[-2:]
    counts = [n // tile_size for n in shape]
    spare = (n - c * tile_size for n, c in zip(shape, counts, strict=True))
    y, x = (int(rng.integers(n + 1)) for n in spare)
    for part in parts:
        part = part[:, y : y + counts[0] * tile_size, x : x + counts[1] * tile_size]
        part = part.reshape(len(part), counts[0], tile_size, counts[1], tile_size)
        part = part.transpose(1, 3, 0, 2, 4).reshape(-1, len(part), tile_size, tile_size)
        yield torch.from_numpy(np.ascontiguousarray(part))


def _chances(scenes, share, tile_size):
    """How often each scene is drawn, so that real ones make up a share of the tiles."""
    real = np.array([scene.noisy is not None for scene in scenes])
    if real.all() or not real.any():
        return np.full(len(scenes), 1 / len(scenes))
    counts = np.array([np.prod([n // tile_size for n in s.image.shape[-2:]]) for s in scenes])
    chances = np.where(real, share / counts[real].sum(), (1 - share) / counts[~real].sum())
    return chances / chances.sum()


def tile_rounds(
    scenes, seed, *, start=0, every=1, round_scenes=32, tile_size=128, ranges=None, pair_share=0.5,
    real_share=0.0, n_threads=2, ahead=0,
):
    """
    Give rounds of shuffled tiles without end.

    Parameters
    ----------
    scenes : list of `astrodenoise.training.library.Scene`
        The library.
    seed : int
        Of the whole stream.
    start, every : int, optional
        First round, and the distance to the next: processes that train together share the rounds.
    round_scenes : int, optional
        Scenes in one round.
    tile_size : int, optional
        Side of the tiles in px.
    ranges : `astrodenoise.training.synthesis.NoiseRanges`, optional
        How often and how strong each kind of noise is.
    pair_share : float, optional
        How often a scene that has a real noisy frame is shown with that one.
    real_share : float, optional
        Share of the tiles that come from scenes with a real noisy frame; 0 draws all scenes alike.
    n_threads : int, optional
        Scenes prepared at once.
    ahead : int, optional
        Rounds prepared while earlier ones are in use (paper section 2.6); pays where the network
        runs on another device than the preparation.

    Yields
    ------
    tiles : `Tiles`
        The tiles of one round, shuffled.
    """
    ranges = ranges or NoiseRanges()
    chances = _chances(scenes, real_share, tile_size) if real_share else None

    def begin(number):
        rng = np.random.default_rng((seed, number))
        if chances is None:
            chosen = rng.integers(len(scenes), size=round_scenes)
        else:
            chosen = rng.choice(len(scenes), size=round_scenes, p=chances)
        jobs = [
            pool.submit(
                scene_tiles,
                scenes[index],
                (seed, number, place),
                tile_size=tile_size,
                ranges=ranges,
                pair_share=pair_share,
            )
            for place, index in enumerate(chosen)
        ]
        return rng, jobs

    with ThreadPoolExecutor(n_threads) as pool:
        begun = deque(begin(start + every * i) for i in range(ahead))
        for number in itertools.count(start + every * ahead, every):
            begun.append(begin(number))
            rng, jobs = begun.popleft()
            tiles = Tiles.join([job.result() for job in jobs])
            yield tiles.select(rng.permutation(len(tiles)))
