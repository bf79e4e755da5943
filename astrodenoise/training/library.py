# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The library of clean scenes: simulated ones, real ones, pairs; their star masks; their split.

A library is drawn and read once, before the training, or comes from a pack.
"""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from astrodenoise.starmask import LUMINANCE, mask_stars
from astrodenoise.training.scenes import draw_scene

__all__ = [
    'STAR_EXPOSURES',
    'Library',
    'Scene',
    'make_library',
    'mixed_library',
    'recipe',
    'simulate',
    'split_by_scene',
    'with_stars',
]

log = logging.getLogger(__name__)

VALIDATION_SEED = 10**6  # scenes above it are never trained on
NOISE_SEED = 2 * 10**6  # of the scenes under real noise
STAR_EXPOSURES = (0.4, 1.0, 2.5)  # factors on the brightness that star masks are made for
OWN_NOISE = 0.2  # of a clean frame, in units of the noise that is added, at most


@dataclass(frozen=True)
class Scene:
    """
    A clean scene and what may be done with it.

    Attributes
    ----------
    name : str
        Object or kind; all scenes of one object go to the same side of the split.
    image : `numpy.ndarray`, (P, H, W), float32
        In sigma over a sky of 0.
    brightest : float or None
        Upper limit of the brightness factor, for scenes that are only nearly clean.
    noisy : `numpy.ndarray`, (P, H, W), float32, or None
        A real noisy frame of the scene, in units of its sigma.
    valid : `numpy.ndarray`, (P, H, W), bool, or None
        Pixels of ``noisy`` and ``image`` that may be compared.
    stars : `numpy.ndarray`, (3, H, W), uint8, or None
        Star masks (255 in a core) for the exposures of ``STAR_EXPOSURES``.
    drawn : dict or None
        What `simulate` draws it from, for simulated scenes.
    own : float
        Variance of the noise that ``image`` has of its own, in units of that of ``noisy``.
    seeing : float
        Share of the light by which ``noisy`` and ``image`` differ beside their noise.
    counts : `numpy.ndarray`, (P, H, W), bool, or None
        Pixels of ``noisy`` whose noise is learnt, if not all that are valid.
    """

    name: str
    image: np.ndarray
    brightest: float | None = None
    noisy: np.ndarray | None = None
    valid: np.ndarray | None = None
    stars: np.ndarray | None = None
    drawn: dict | None = None
    own: float = 0.0
    seeing: float = 0.05
    counts: np.ndarray | None = None


@dataclass(frozen=True)
class Library:
    """
    What a training is fed with.

    Attributes
    ----------
    scenes, held_out : list of `Scene`
        For training and for validation; no object is in both.
    sources : dict of str to int
        Number of scenes by source.
    """

    scenes: list
    held_out: list
    sources: dict


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


def with_stars(scene):
    """
    Make a scene's star masks, from its clean luminance (paper section 2.3).

    Parameters
    ----------
    scene : `Scene`
        Any; photutils is needed.

    Returns
    -------
    scene : `Scene`
        The same with its masks: stars above 5 times the noise of each exposure.
    """
    n_planes = len(scene.image)
    factors = np.full(n_planes, 1 / n_planes) if n_planes != 3 else np.array(LUMINANCE)
    image = np.tensordot(factors, scene.image, axes=1)
    sigma = float(np.sqrt(np.sum(factors**2)))
    masks = [mask_stars(image, sigma / exposure) for exposure in STAR_EXPOSURES]
    return replace(scene, stars=np.round(255 * np.stack(masks)).astype(np.uint8))


def recipe(data, seed, n_planes):
    """
    Say what the simulated scenes of a training have in common.

    Parameters
    ----------
    data : `astrodenoise.training.config.DataConfig`
        What is trained on.
    seed, n_planes : int
        Seed of all scenes, and planes of each.

    Returns
    -------
    alike : dict
        What `simulate` takes, but for the scene's number.
    """
    return {'seed': seed, 'kinds': dict(data.kinds), 'size': data.scene_size, 'planes': n_planes}


def simulate(drawn):
    """
    Draw a simulated scene.

    Parameters
    ----------
    drawn : dict
        'seed' and 'number', which decide everything; 'kinds' and their relative frequency; 'size'
        in px; 'planes'.

    Returns
    -------
    scene : `Scene`
        The same for every call.
    """
    rng = np.random.default_rng((drawn['seed'], drawn['number']))
    kinds, share = zip(*drawn['kinds'].items(), strict=True)
    kind = str(rng.choice(kinds, p=np.array(share) / sum(share)))
    image = draw_scene(rng, (drawn['size'], drawn['size']), kind, n_planes=drawn['planes'])
    return Scene(f'{kind}-{drawn["seed"]}-{drawn["number"]}', image, drawn=drawn)


def _simulated(n_scenes, data, seed, n_planes, pool):
    """Draw simulated scenes; each is a pure function of the seed and its number."""
    alike = recipe(data, seed, n_planes)
    return list(pool.map(simulate, [alike | {'number': number} for number in range(n_scenes)]))


def _real(data, n_planes):
    """Read real clean frames and pairs where the configuration names folders."""
    scenes, sources = [], {}
    if data.material:
        from astrodenoise.training.material import load_material

        crops, sources = load_material(data.material, n_planes=n_planes)
        scenes += [Scene(name, image, brightest=1.0) for name, image in crops]
    if data.pairs:
        from astrodenoise.training.pairs import load_pairs

        pairs, _ = load_pairs(data.pairs, noise2noise=data.noise2noise)
        pairs = [pair for pair in pairs if len(pair.noisy) == n_planes]
        if not pairs:
            msg = f'no pair in {data.pairs!r} has {n_planes} planes: set [model] planes to theirs'
            raise ValueError(msg)
        unit = min(128, data.tile_size)
        scenes += [s for pair in pairs for s in _pair_scenes(pair, data.tile_size, unit)]
        sources |= {'pairs': len(pairs)}
    if data.noise:
        noise = list(_noise_scenes(data, n_planes))
        scenes, sources = scenes + noise, sources | {'noise': len(noise)}
    return scenes, sources


def _noise_scenes(data, n_planes):
    """Simulated scenes under real noise, one for each piece of it."""
    from astrodenoise.training.realnoise import load_noise

    if n_planes != 1:
        msg = f'real noise is of one plane, and the network has {n_planes}: set [data] noise to ""'
        raise ValueError(msg)
    for number, (name, noise, valid) in enumerate(load_noise(data.noise, size=data.scene_size)):
        drawn = recipe(data, NOISE_SEED + data.seed, n_planes) | {'number': number}
        image = simulate(drawn).image[:, : noise.shape[0], : noise.shape[1]]
        yield Scene(f'noise-{name}', image, noisy=image + noise, valid=valid[None])


def _pair_scenes(pair, tile_size, unit):
    """Cut a pair into scenes: real noise as it is, and synthetic noise on the clean frame."""
    if min(pair.noisy.shape[-2:]) < tile_size:
        msg = (
            f'pair {pair.name!r} is {pair.noisy.shape[-2:]} px, less than a tile: lower [data] '
            f'tile_size ({tile_size})'
        )
        raise ValueError(msg)
    from astrodenoise.training.material import crops

    brightest = OWN_NOISE / max(pair.cleanness, 1e-6)
    own, seeing = pair.own, pair.seeing
    parts = (pair.noisy, pair.clean, pair.valid, pair.compared)
    stack = np.concatenate(parts, dtype=np.float32)
    size = max(512, tile_size)
    for crop in crops(stack, size=size, smallest=tile_size, unit=unit):
        noisy, clean, valid, counts = np.split(crop, 4)
        counts = None if pair.counts is None else counts > 0
        yield Scene(
            pair.name, clean, brightest, noisy, valid > 0, own=own, seeing=seeing, counts=counts
        )


def _divide(scenes):
    """Divide real scenes by object; of two objects and more at least one is held out."""
    held_out = [scene for scene in scenes if split_by_scene(scene.name)]
    names = sorted({scene.name for scene in scenes})
    if not held_out and len(names) > 1:
        last = max(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        held_out = [scene for scene in scenes if scene.name == last]
    chosen = {scene.name for scene in held_out}
    return [scene for scene in scenes if scene.name not in chosen], held_out


def make_library(config, *, n_threads=2):
    """
    Draw, read and divide the scenes of a training.

    Parameters
    ----------
    config : `astrodenoise.training.config.TrainingConfig`
        What is trained.
    n_threads : int, optional
        Scenes drawn at once.

    Returns
    -------
    library : `Library`
        With star masks where the loss looks at them.

    Raises
    ------
    ValueError
        If there is nothing to train on, or star masks are needed and photutils is missing.
    """
    data, n_planes = config.data, config.model.planes
    real, sources = _real(data, n_planes)
    scenes, held_out = _divide(real)
    with ThreadPoolExecutor(n_threads) as pool:
        scenes = _simulated(data.scenes, data, data.seed, n_planes, pool) + scenes
        n_real = max(data.validation_scenes // 3, 1)
        seed = VALIDATION_SEED + data.seed
        held_out = (
            _simulated(data.validation_scenes, data, seed, n_planes, pool) + held_out[:n_real]
        )
        if not scenes or not held_out:
            msg = (
                f'{len(scenes)} scenes for training and {len(held_out)} for validation: set [data] '
                'scenes and validation_scenes, or give more material or pairs'
            )
            raise ValueError(msg)
        if config.loss.needs_stars:
            try:
                import photutils  # told here, before threads run into it
            except ImportError as error:
                msg = (
                    'the loss looks at star masks, and these need photutils: install it, or make '
                    'a pack where it is installed (astrodenoise train CONFIG --pack FILE)'
                )
                raise ValueError(msg) from error
            log.info('star masks by photutils %s', photutils.__version__)
            scenes, held_out = (list(pool.map(with_stars, part)) for part in (scenes, held_out))
    return Library(scenes, held_out, {'simulated': data.scenes, **sources})


def mixed_library(config, pairs, *, n_threads=2):
    """
    Put pairs that are read already beside simulated scenes, for fine-tuning.

    Parameters
    ----------
    config : `astrodenoise.training.config.TrainingConfig`
        What is trained; its folders are not looked at.
    pairs : list of `astrodenoise.training.pairs.Pair`
        What nothing of is held out any more.
    n_threads : int, optional
        Scenes drawn at once.

    Returns
    -------
    library : `Library`
        Simulated scenes alone are held out.
    """
    data, n_planes = config.data, config.model.planes
    with ThreadPoolExecutor(n_threads) as pool:
        scenes = _simulated(data.scenes, data, data.seed, n_planes, pool)
        seed = VALIDATION_SEED + data.seed
        held_out = _simulated(data.validation_scenes, data, seed, n_planes, pool)
    scenes += [scene for pair in pairs for scene in _pair_scenes(pair, data.tile_size, 2)]
    return Library(scenes, held_out, {'simulated': data.scenes, 'pairs': len(pairs)})
