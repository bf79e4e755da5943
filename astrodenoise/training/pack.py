# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A pack: scenes, star masks and pairs of a training in one small file.

Made where photutils and Astropy are installed, read where only torch, NumPy and SciPy are.  Of
simulated scenes a pack holds the star masks and what they are drawn from again.  Noise is drawn and
measured in the training itself, on whole scenes: a pack holds only that of pairs.
"""

import json
import logging
import os
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from astrodenoise.training.library import Library, Scene, simulate

__all__ = ['read_pack', 'write_pack']

log = logging.getLogger(__name__)

LARGEST = 50_000_000  # bytes
STEP, SOFTENING = 0.04, 10.0  # sigma: a step of the values near the sky, and where it grows
VERSION = 1


def _encode(image):
    """Whole numbers of steps that grow as photon noise does, as differences of neighbours."""
    size = 2 * SOFTENING * (np.sqrt(1 + np.abs(image.astype(np.float64)) / SOFTENING) - 1)
    levels = np.round(np.sign(image) * size / STEP).astype(np.int32)
    levels = np.diff(levels, axis=-1, prepend=0)
    levels = np.diff(levels, axis=-2, prepend=0)
    # bytes of equal rank together: those of the high ranks are nearly all alike
    return np.ascontiguousarray(np.moveaxis(levels[..., None].view(np.uint8), -1, 0))


def _decode(code):
    """Undo `_encode`."""
    levels = np.ascontiguousarray(np.moveaxis(code, 0, -1)).view(np.int32)[..., 0]
    levels = np.cumsum(np.cumsum(levels, axis=-2, dtype=np.int32), axis=-1, dtype=np.int32)
    size = np.abs(levels) * STEP
    image = np.sign(levels) * SOFTENING * ((1 + size / (2 * SOFTENING)) ** 2 - 1)
    return image.astype(np.float32)


def _entries(number, scene):
    """Arrays of one scene by their name in the pack."""
    if scene.drawn is None:
        yield f'{number}.image', _encode(scene.image)
    if scene.noisy is not None:
        yield f'{number}.noisy', _encode(scene.noisy)
        yield f'{number}.valid', scene.valid
    if scene.counts is not None:
        yield f'{number}.counts', scene.counts
    if scene.stars is not None:
        yield f'{number}.stars', scene.stars


def write_pack(path, library, *, largest=LARGEST):
    """
    Write a library of scenes to one file.

    Parameters
    ----------
    path : path-like
        The file; an existing one is replaced.
    library : `astrodenoise.training.library.Library`
        The scenes; real ones go first, then simulated ones until the file is full.
    largest : int, optional
        Bytes that the file may have.

    Returns
    -------
    counts : dict of str to int
        Scenes written for training and for validation, and bytes.

    Raises
    ------
    ValueError
        If not even the scenes for validation and one for training fit.
    """
    path = Path(path)
    real = [scene for scene in library.scenes if scene.brightest is not None]
    simulated = [scene for scene in library.scenes if scene.brightest is None]
    held_out = [(True, scene) for scene in library.held_out]
    scenes = held_out + [(False, scene) for scene in real + simulated]
    temporary = path.with_name(f'.{path.name}.new')
    written = []
    try:
        with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for number, (validation, scene) in enumerate(scenes):
                before = archive.start_dir
                for name, array in _entries(number, scene):
                    with archive.open(f'{name}.npy', 'w') as file:
                        np.lib.format.write_array(file, np.ascontiguousarray(array))
                written.append({
                    'name': scene.name, 'brightest': scene.brightest, 'held out': validation,
                    'drawn': scene.drawn, 'own': scene.own,
                    'seeing': scene.seeing,
                })  # fmt: skip
                # the next scene may be half as large again, and the index comes last
                if 2.5 * archive.start_dir - 1.5 * before + 1000 * len(written) > largest:
                    break
            index = {'version': VERSION, 'scenes': written, 'sources': library.sources}
            archive.writestr('index.json', json.dumps(index))
        n_bytes = temporary.stat().st_size
        n_training = sum(not entry['held out'] for entry in written)
        if n_bytes > largest or n_training == 0:
            msg = (
                f'{len(written)} of {len(scenes)} scenes take {n_bytes} bytes, a pack may have '
                f'{largest}: lower [data] validation_scenes or scene_size'
            )
            raise ValueError(msg)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if len(written) < len(scenes):
        log.info('%s holds %d of %d scenes: it is full', path, len(written), len(scenes))
    return {'training': n_training, 'validation': len(written) - n_training, 'bytes': n_bytes}


def _read_array(archive, name):
    """One array; None if the pack has none of that name."""
    if f'{name}.npy' not in archive.NameToInfo:
        return None
    with archive.open(f'{name}.npy') as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_scene(archive, number, entry):
    """One scene of a pack, drawn again or decoded."""
    stars = _read_array(archive, f'{number}.stars')
    if entry['drawn']:
        return replace(simulate(entry['drawn']), stars=stars)
    noisy = _read_array(archive, f'{number}.noisy')
    return Scene(
        entry['name'],
        _decode(_read_array(archive, f'{number}.image')),
        entry['brightest'],
        noisy=None if noisy is None else _decode(noisy),
        valid=_read_array(archive, f'{number}.valid'),
        stars=stars,
        own=entry.get('own', 0.0),
        seeing=entry.get('seeing', Scene.seeing),
        counts=_read_array(archive, f'{number}.counts'),
    )


def read_pack(path):
    """
    Read a pack.

    Parameters
    ----------
    path : path-like
        A file that `write_pack` made.

    Returns
    -------
    library : `astrodenoise.training.library.Library`
        Its scenes, real ones within 0.02 sigma at the sky.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no pack, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        msg = f'there is no pack {str(path)!r}: make it with astrodenoise train CONFIG --pack FILE'
        raise FileNotFoundError(msg)
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read('index.json'))
            if index['version'] != VERSION:
                msg = f'version {index["version"]}, expected {VERSION}'
                raise ValueError(msg)
            with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
                jobs = [
                    pool.submit(_read_scene, archive, number, entry)
                    for number, entry in enumerate(index['scenes'])
                ]
                scenes = [job.result() for job in jobs]
        held_out = [entry['held out'] for entry in index['scenes']]
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        msg = f'{path} is no pack, or a damaged one ({error}): make it again'
        raise ValueError(msg) from error
    return Library(
        [scene for scene, aside in zip(scenes, held_out, strict=True) if not aside],
        [scene for scene, aside in zip(scenes, held_out, strict=True) if aside],
        index['sources'],
    )
