# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Exposures of one field: read, aligned, compared; refused where they did not move.

What is fixed on a detector lies in the same place of all exposures.  Only where the sky moved
against it can two exposures tell it from the sky: else a network learns to keep it.
"""

import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from astrodenoise.estimate import measure_plane
from astrodenoise.measures.shapes import TO_FWHM
from astrodenoise.training.alignment import Alignment, Sighting, align, resample
from astrodenoise.training.blemishes import near_saturated, persistent_spikes
from astrodenoise.training.framefiles import frame_files, read_planes
from astrodenoise.training.pairs import finest_noise
from astrodenoise.training.photometry import KNOWN_SCALE, PairError, relate_frames
from astrodenoise.validity import invalid_pixels

__all__ = ['LEAST_MOVED', 'Exposure', 'Field', 'load_fields', 'new_exposure', 'open_field']

log = logging.getLogger(__name__)

N_THREADS = min(4, os.cpu_count() or 1)
LEAST_MOVED = 5.0  # px, of the sky on the detector between two exposures
MOST_EXPOSURES = 24  # of a field
MOST_PIXELS = 400_000_000  # of a field, in all its exposures
SMALLEST = 96  # px, side of an exposure
SHARPEST = 1.8  # px, FWHM of stars that can be moved by a part of a pixel
COMPARED = 1024  # px, side of the middle in which brightness is compared
FEW_STARS = 20  # from which on they tell the seeing by themselves
HALO = 3.0  # FWHM round a saturated star
MOST_COMPARED = 8  # exposures that tell hot pixels
MOST_REFERENCES = 3  # exposures that others are aligned to, one after the other


@dataclass(eq=False)
class Exposure:
    """
    One exposure of a field.

    Attributes
    ----------
    name : str
        Of the file, without suffix.
    data : `numpy.ndarray`, (P, H, W), float32
        As it was taken: on its own grid, in its own unit.
    valid : `numpy.ndarray`, (P, H, W), bool
        The pixels that are compared: neither hot nor near a saturated star, and shown.
    shown : `numpy.ndarray`, (P, H, W), bool
        The pixels that a network sees: finite, with data, neither masked nor saturated.
    sigma : `numpy.ndarray`, (P,)
        Noise of a pixel at the level of the sky.
    sighting : `astrodenoise.training.alignment.Sighting`
        What it is aligned by.
    seen : `astrodenoise.training.alignment.Alignment` or None
        Where the places of the field's reference exposure lie in it.
    scale : `numpy.ndarray`, (P,)
        Factors on it that give the brightness of the reference.
    narrower : float
        Variance in px^2 by which the reference's stars are wider than its own.
    """

    name: str
    data: np.ndarray
    valid: np.ndarray
    shown: np.ndarray
    sigma: np.ndarray
    sighting: Sighting
    seen: Alignment | None = None
    scale: np.ndarray | None = None
    narrower: float = 0.0

    @property
    def shape(self):
        """Rows and columns (tuple of int)."""
        return self.data.shape[-2:]

    def to(self, other):
        """
        Find where its places lie in another exposure of the field.

        Parameters
        ----------
        other : `Exposure`
            Aligned to the same reference.

        Returns
        -------
        alignment : `astrodenoise.training.alignment.Alignment`
            From this exposure to the other.
        """
        return self.seen.inverse().then(other.seen)


@dataclass(eq=False)
class Field:
    """
    The exposures of one field.

    Attributes
    ----------
    name : str
        Of the folder.
    exposures : list of `Exposure`
        In the order of their names, aligned.
    moved : `numpy.ndarray`, (n, n)
        How far the sky moved between two of them, in px.
    bad : dict of str to str
        Why other exposures are left out.
    """

    name: str
    exposures: list
    moved: np.ndarray
    bad: dict = field(default_factory=dict)

    @property
    def n_planes(self):
        """Planes of each exposure (int)."""
        return len(self.exposures[0].data)


def load_fields(folder):
    """
    Read the exposures of one field, or of several.

    Parameters
    ----------
    folder : str or path-like
        Holds two exposures of one field or more (FITS, TIFF, PNG, JPEG), or a folder of such for
        each field.

    Returns
    -------
    fields : list of `Field`
        One at least.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no frame in it.
    PairError
        If the exposures of a field cannot serve; the message says why.
    """
    folder = Path(folder)
    if not folder.is_dir():
        msg = f'there is no folder {str(folder)!r} with exposures: give the right one'
        raise FileNotFoundError(msg)
    places = [folder] if frame_files(folder) else sorted(p for p in folder.iterdir() if p.is_dir())
    places = [place for place in places if frame_files(place)]
    if not places:
        msg = (
            f'{str(folder)!r} holds no frame: put two exposures of one field there, or more, as '
            'FITS, TIFF, PNG or JPEG files, or a folder of such for each field'
        )
        raise FileNotFoundError(msg)
    fields = [_read_field(place) for place in places]
    if len({one.n_planes for one in fields}) > 1:
        counts = ', '.join(f'{one.name}: {one.n_planes}' for one in fields)
        msg = f'the fields have different numbers of planes ({counts}): give one kind at a time'
        raise PairError(msg)
    return fields


def _read_field(folder):
    """Read the exposures of a folder and open them as a field."""
    files = {name: paths[0] for name, paths in frame_files(folder).items()}
    names = _evenly(sorted(files), MOST_EXPOSURES)
    exposures, bad, room = [], {}, MOST_PIXELS
    for number, name in enumerate(names):
        try:
            exposures.append(_read_exposure(name, files[name]))
        except (OSError, ValueError) as error:
            bad[name] = str(error)
            continue
        room -= exposures[-1].data.size
        if room < exposures[-1].data.size and number + 1 < len(names):
            log.warning('%s: %d exposures of %d are read, more would be too large',
                        folder, number + 1, len(names))
            break
    return open_field(folder.name, exposures, bad)


def _evenly(items, n):
    """At most n of many, evenly spaced."""
    if len(items) <= n:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, n).round().astype(int)]


def _read_exposure(name, path):
    data, valid = read_planes(path, raw_colour=False)
    if len(data) not in (1, 3):
        msg = f'{path}: has {len(data)} planes; expected 1, or 3 of one camera (R, G, B)'
        raise PairError(msg)
    return new_exposure(name, data, valid)


def new_exposure(name, data, valid=None):
    """
    Measure what has to be known of an exposure.

    Parameters
    ----------
    name : str
        What messages call it.
    data : `numpy.ndarray`, (P, H, W)
        Planes in any unit.
    valid : `numpy.ndarray`, (P, H, W), bool, optional
        Which pixels may be used.

    Returns
    -------
    exposure : `Exposure`
        Not aligned yet.

    Raises
    ------
    PairError
        If it is too small or shows no noise.
    """
    data = np.asarray(data, np.float32)
    if min(data.shape[-2:]) < SMALLEST:
        height, width = data.shape[-2:]
        msg = f'is {width} x {height} px, {SMALLEST} px on a side are needed: give larger frames'
        raise PairError(msg)
    valid = np.isfinite(data) if valid is None else valid & np.isfinite(data)
    data = np.where(np.isfinite(data), data, 0)
    valid = np.stack([
        good & ~invalid_pixels(plane, good).invalid for plane, good in zip(data, valid, strict=True)
    ])
    noise = [measure_plane(plane, good) for plane, good in zip(data, valid, strict=True)]
    sigma = np.array([one.sigma for one in noise])
    if not sigma.all():
        msg = 'shows no noise: give exposures as they were taken, not denoised ones'
        raise PairError(msg)
    # planes together, each counting as its noise allows
    weight = 1 / sigma**2 / np.sum(1 / sigma**2)
    together = np.tensordot(weight.astype(np.float32), data, axes=1)
    sighting = Sighting(together, valid.all(axis=0), float(np.sqrt(1 / np.sum(sigma**-2))))
    reach = int(np.ceil(HALO * sighting.fwhm))
    near = [near_saturated(*part, reach) for part in zip(data, valid, sigma, strict=True)]
    return Exposure(name, data, valid & ~np.stack(near), valid, sigma, sighting)


def open_field(name, exposures, bad=None):
    """
    Align the exposures of a field, compare their brightness and seeing, and mask hot pixels.

    Parameters
    ----------
    name : str
        Of the field.
    exposures : list of `Exposure`
        As `new_exposure` gives them.
    bad : dict of str to str, optional
        Why other exposures are left out.

    Returns
    -------
    found : `Field`
        Of those exposures that can be used.

    Raises
    ------
    PairError
        If these are less than two, or none moved far enough against another.
    """
    kept, reasons = _open_exposures(exposures)
    bad = {**(bad or {}), **reasons}
    for other, reason in bad.items():
        log.warning('%s: exposure %s is left out: %s', name, other, reason)
    if len(kept) < 2:
        reasons = '; '.join(f'{other}: {reason}' for other, reason in bad.items())
        msg = (
            f'{name!r} has {len(kept)} exposures that can be used, two at least are needed: give '
            'more exposures of one field' + (f' ({reasons})' if reasons else '')
        )
        raise PairError(msg)
    _check_sampling(name, kept)
    moved = np.array([[one.to(other).moved(one.shape) for other in kept] for one in kept])
    _check_moved(name, kept, moved)
    n_hot = _mask_hot_pixels(kept, moved)
    log.info('%s: %d exposures, moved by up to %.1f px, stars of %.1f px FWHM, %d hot pixels',
             name, len(kept), moved.max(), np.median([one.sighting.fwhm for one in kept]), n_hot)
    return Field(name, kept, moved, bad)


def _open_exposures(exposures):
    """Open all that go with one of them; those, and why the others do not."""
    best = [], {}
    ranked = sorted(exposures, key=lambda one: -len(one.sighting.stars))
    for reference in ranked[:MOST_REFERENCES]:  # the first may be of another field
        bad = {}
        with ThreadPoolExecutor(N_THREADS) as pool:
            kept = list(pool.map(functools.partial(_try_exposure, reference, bad), exposures))
        kept = [one for one in kept if one is not None]
        if len(kept) > len(best[0]):
            best = kept, bad
        if len(kept) > len(exposures) / 2:
            break
    return best


def _try_exposure(reference, bad, one):
    """Open an exposure, or write down why that fails."""
    try:
        return _open_exposure(one, reference)
    except PairError as error:
        bad[one.name] = str(error)
        return None


def _open_exposure(one, reference):
    """Align an exposure to the reference, and measure its brightness and seeing against it."""
    if one.data.shape != reference.data.shape:
        (n, height, width), (m, rows, columns) = one.data.shape, reference.data.shape
        msg = (
            f'has {n} planes of {width} x {height} px, the others {m} of {columns} x {rows}: give '
            'exposures of one camera as it took them'
        )
        raise PairError(msg)
    planes = range(len(one.data))
    if one is reference:
        same = Alignment(np.eye(2), np.zeros(2))
        return replace(one, valid=one.valid.copy(), seen=same, scale=np.ones(len(planes)))
    one = replace(one, seen=align(reference.sighting, one.sighting))
    box = tuple(
        slice(max(0, (n - COMPARED) // 2), min(n, (n + COMPARED) // 2)) for n in one.shape
    )
    relations = [_relate(reference, one, plane, box) for plane in planes]
    scale = np.array([relation.scale for relation in relations])
    narrower = float(np.mean([relation.broader for relation in relations]))
    if min(len(each.sighting.stars) for each in (one, reference)) >= FEW_STARS:
        theirs, ours = (each.sighting.fwhm / TO_FWHM for each in (reference, one))
        narrower = theirs**2 - ours**2
    return replace(one, valid=one.valid.copy(), scale=scale, narrower=narrower)


def _relate(reference, one, plane, box):
    """Compare one plane of an exposure with the reference."""
    ours, good = reference.data[plane][box].astype(np.float64), reference.valid[plane][box]
    moved, known = resample(one.data[plane], one.valid[plane], one.seen, box)
    good = good & known
    if np.mean(good) < 0.2:
        msg = f'shares only {np.mean(good):.0%} of its pixels with {reference.name}'
        raise PairError(msg)
    relation = relate_frames(
        ours, moved, good, finest_noise(ours, good) or reference.sigma[plane],
        finest_noise(moved, good) or one.sigma[plane],
    )  # fmt: skip
    if not relation.scale > 0 or relation.scale_error > KNOWN_SCALE * relation.scale:
        msg = (
            f'shows too little light to compare its brightness with {reference.name} (factor '
            f'{relation.scale:.2f}, error {relation.scale_error:.2f}): give deeper exposures, or '
            'of a field with more stars'
        )
        raise PairError(msg)
    return relation


def _check_sampling(name, exposures):
    """Refuse stars that interpolation would blunt, as a network would then learn to."""
    fwhm = float(np.median([one.sighting.fwhm for one in exposures]))
    if fwhm < SHARPEST:
        msg = (
            f'stars in the exposures of {name!r} have less than {SHARPEST:g} px FWHM: moved to the '
            'grid of another exposure they would lose their peaks; give pairs instead, or '
            'exposures of a longer focal length'
        )
        raise PairError(msg)


def _check_moved(name, exposures, moved):
    """Refuse exposures of which none moved against another."""
    if moved.max() > LEAST_MOVED:
        return
    i, j = np.unravel_index(np.argmax(moved), moved.shape)
    msg = (
        f'the exposures of {name!r} moved by at most {moved.max():.1f} px against each other '
        f'(measured, {exposures[i].name} to {exposures[j].name}), more than {LEAST_MOVED:g} px are '
        'needed: what is fixed on the detector would be learnt as if it were sky; give exposures '
        'that were dithered, or of another night'
    )
    raise PairError(msg)


def _mask_hot_pixels(exposures, moved):
    """Leave out what stands out in the same pixel of exposures that moved; how many they are."""
    chosen = [int(np.argmax(moved.max(axis=1)))]
    for number in np.argsort(-moved[chosen[0]], kind='stable'):
        if len(chosen) < MOST_COMPARED and min(moved[number, chosen]) > LEAST_MOVED:
            chosen.append(int(number))
    n_hot = 0
    for plane in range(len(exposures[0].data)):
        parts = [(exposures[i].data[plane], exposures[i].sigma[plane]) for i in chosen]
        hot = persistent_spikes(*zip(*parts, strict=True))
        n_hot += np.count_nonzero(hot)
        for one in exposures:
            one.valid[plane] = one.valid[plane] & ~hot
    return int(n_hot)
