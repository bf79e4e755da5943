# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Whether a denoised frame can be trusted, found out on the frame itself.

Known sources are put into the frame, it is denoised with them and without, and what comes out is
measured.  A twin of the frame, its large-scale level and its noise drawn anew and nothing else,
tells how many sources denoising makes of noise.
"""

import time
import warnings
from dataclasses import dataclass, field

import numpy as np
from astropy.nddata import CCDData

from astrodenoise.background import BLOCK, local_level
from astrodenoise.core import denoise
from astrodenoise.estimate import MIN_PIXELS, measure_plane
from astrodenoise.exceptions import AstrodenoiseWarning
from astrodenoise.frames import is_lazy, open_frame
from astrodenoise.inject import Target, add_sources, draw_batches
from astrodenoise.measures.detections import filter_noise, peaks
from astrodenoise.mosaic import as_mosaic
from astrodenoise.noisefield import NoiseField, noise_twin
from astrodenoise.noisemodel import FrameNoise
from astrodenoise.options import check_number
from astrodenoise.places import Places, find_places, light_map
from astrodenoise.preparation import model_of, saturation_level
from astrodenoise.psfmodel import measure_star_image
from astrodenoise.removal import normalise
from astrodenoise.survey import survey_frame
from astrodenoise.trustbins import DETECTED, Samples
from astrodenoise.trustresult import TrustCheck

__all__ = ['Subject', 'check_frame', 'examine', 'open_subject']

N_SOURCES = 1000
BATCH_AREA, BATCHES = 16.0, (4, 40)  # Mpx that are denoised with sources, in how many passes
TWIN_AREA, TWINS = 4.0, 16  # Mpx of twins that are wanted, and how many there are at most
LOWEST = 2.0  # S/N of the faintest peaks that are counted
AREA = 2.5  # FWHM, radius of the disc in which a flux is measured over its own background
UNREST = 1.2  # ratio of the sky's noise on the scale of stars to the twin's that is worth a note


def check_frame(
    ccd,
    *,
    model='default',
    strength=1.0,
    channels=None,
    bayer=None,
    noise=None,
    saturation=None,
    n_sources=N_SOURCES,
    seed=0,
    device='auto',
    precision='auto',
    progress_bar=None,
    **options,
):
    """
    Find out on a frame which of its sources can be trusted once it is denoised.

    Stars with the image that was measured on the frame, and galaxies with its seeing, are put in at
    random places: sky, nebulosity, crowding and halos of bright stars in equal parts, far from each
    other, at matched-filter S/N 2 to 50, with the noise that their light brings.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame before it is denoised, (H, W) or (N, H, W).  Not changed.
    model, strength, channels, bayer, noise, saturation : optional
        As in `astrodenoise.denoise`: the frame is denoised as it will be.
    n_sources : int, optional
        Sources that are put in, at most.
    seed : int, optional
        Of places, fluxes and noise.
    device, precision : str, optional
        As in `astrodenoise.denoise`.
    progress_bar : callable, optional
        Wraps an iterable of the passes and returns one, for example `tqdm.tqdm`.
    **options : object
        Other arguments of `astrodenoise.denoise`, such as ``strength_coarse``.

    Returns
    -------
    check : `astrodenoise.trustresult.TrustCheck`
        It prints itself as a table that closes with the S/N above which sources can be trusted.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If an argument is of the wrong type, value or unit, the frame has no noise or is too small.
    """
    check_number('n_sources', n_sources, 1, np.inf)
    check_number('seed', seed, 0, np.inf)
    if is_lazy(ccd):
        msg = 'the frame is a dask array: pass ccd.compute(), or a part of it'
        raise TypeError(msg)
    frame = as_mosaic(open_frame(ccd), bayer, channels=channels)
    subject = open_subject(frame, noise=noise, saturation=saturation_level(saturation, frame))
    options |= {
        'model': model, 'strength': strength, 'channels': channels, 'device': device,
        'precision': precision, 'noise': subject.noise,
    }  # fmt: skip

    def denoiser(planes, *, first=False):
        planes = planes if frame.shape[0] > 1 else planes[0]
        mask = ~subject.valid if frame.shape[0] > 1 else ~subject.valid[0]
        meta = frame.meta if first else None  # what it says is warned of once
        one = CCDData(planes, unit='adu', mask=mask, meta=meta)
        with warnings.catch_warnings():
            if not first:
                warnings.simplefilter('ignore', AstrodenoiseWarning)
            clean = denoise(one, uncertainty=None, bayer=False, add_keyword=False, **options)
        return clean.data.reshape(-1, *clean.shape[-2:])

    result = examine(
        subject, denoiser, n_sources=int(n_sources), seed=int(seed), progress_bar=progress_bar
    )
    result.model = model_of(model, joint=channels == 'joint')
    return result


@dataclass(frozen=True, eq=False)
class Subject:
    """
    A frame that is examined.

    Attributes
    ----------
    targets : list of `astrodenoise.inject.Target`
        Its planes.
    valid : `numpy.ndarray`, (N, H, W), bool
        The pixels that count.
    places : `astrodenoise.places.Places`
        Its kinds of place.
    smooth : list of `numpy.ndarray`, (H, W)
        Large-scale level of each plane.
    noise : `astrodenoise.noisemodel.FrameNoise`
        Its noise.
    """

    targets: list
    valid: np.ndarray
    places: Places
    smooth: list = field(repr=False)
    noise: FrameNoise


def open_subject(frame, *, noise=None, saturation=None):
    """
    Measure once what is needed of a frame: noise, levels, star images, places.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        An opened frame.
    noise : optional
        As in `astrodenoise.denoise`.
    saturation : float, optional
        Level of saturation, in the unit of the data.

    Returns
    -------
    subject : `Subject`
        What `examine` takes.

    Raises
    ------
    ValueError
        If a plane has no noise.
    """
    known = survey_frame(frame, noise, saturation=saturation)
    shape = frame.shape[1:]
    rows, cols = (slice(0, n) for n in shape)
    planes, at_top = normalise(frame.window(slice(None), rows, cols), known, rows, cols, shape)
    if any(plane.missing for plane in planes):
        msg = (
            'a plane shows no noise that could be removed: there is nothing to check '
            '(pass noise= with the sigma of a pixel where the frame is noiseless)'
        )
        raise ValueError(msg)
    targets = [_target(plane, integer=frame.integer) for plane in planes]
    saturated = None if at_top[0] is None else np.any(at_top, axis=0)
    return Subject(
        targets=targets,
        valid=np.stack([target.valid for target in targets]),
        places=find_places(targets, saturated=saturated),
        smooth=[plane.level.wide_at(*_pixels(shape)) for plane in planes],
        noise=FrameNoise(tuple(target.noise for target in targets)),
    )


def _pixels(shape):
    return tuple(np.arange(n) for n in shape)


def _target(plane, *, integer):
    """Measure what is needed of a plane."""
    pixels, level = _pixels(plane.data.shape), plane.level
    fine, wide = level.fine_at(*pixels), level.wide_at(*pixels)
    data = np.where(plane.valid, plane.data, fine).astype(plane.data.dtype)
    sigma = np.asarray(plane.noise.sigma_at(fine), float)
    law = plane.noise
    # a sigma of each pixel says nothing of what more light would bring
    silent = law.source != 'measured' and len(law.law) == 1 and not law.slope
    if silent and np.count_nonzero(plane.valid) >= MIN_PIXELS:
        law = measure_plane(plane.data, plane.valid, integer=integer, level=level)
    _, slope_y, slope_x = level.plane
    return Target(
        data=data, valid=plane.valid, level=fine, slope=(slope_y / BLOCK, slope_x / BLOCK),
        noise=plane.noise, law=law, sigma=sigma, field=NoiseField(plane.noise),
        image=measure_star_image(data, plane.valid, level=fine, background=wide, sigma=sigma),
    )  # fmt: skip


def examine(subject, denoiser, *, n_sources=N_SOURCES, seed=0, progress_bar=None):
    """
    Put sources in, denoise, measure.

    Parameters
    ----------
    subject : `Subject`
        The frame.
    denoiser : callable
        ``denoiser(planes, first=False)`` takes and gives (N, H, W); its noise is fixed.
    n_sources : int, optional
        Sources that are put in, at most.
    seed : int, optional
        Of places, fluxes and noise.
    progress_bar : callable, optional
        Wraps an iterable of the passes.

    Returns
    -------
    check : `astrodenoise.trustresult.TrustCheck`
        What was found.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    targets = subject.targets
    area = np.count_nonzero(subject.valid[0]) / 1e6
    most = int(np.clip(BATCH_AREA / max(area * len(targets), 1e-9), *BATCHES))
    batches, missing = draw_batches(targets, subject.places, rng, n_sources, most=most)
    n_twins = int(np.clip(np.ceil(TWIN_AREA / max(area * len(targets), 1e-9)), 1, TWINS))
    steps = iter((progress_bar or iter)(range(1 + len(batches) + n_twins)))
    next(steps)
    planes = np.stack([target.data for target in targets])
    before = _Views(planes, denoiser(planes, first=True), targets)
    samples = Samples()
    for batch in batches:
        next(steps)
        planes = add_sources(targets, batch, rng)
        after = _Views(planes, denoiser(planes), targets, like=before)
        for source in batch:
            for number, target in enumerate(targets):
                samples.add(**_measured(source, number, target, before, after))
    false, unrest = _false_peaks(subject, denoiser, rng, n_twins, steps, before)
    next(steps, None)
    return TrustCheck(
        samples=samples, false=false, area=area * n_twins, missing=missing,
        shares={name: subject.places.share(name) for name in samples.names('place')},
        images=[target.image.source for target in targets],
        fwhm=[target.image.fwhm for target in targets], notes=_notes(targets, unrest),
        seconds=time.perf_counter() - start,
    )  # fmt: skip


class _Views:
    """A frame before and after denoising, each with its local level."""

    def __init__(self, noisy, denoised, targets, *, like=None):
        self.frames = np.asarray(noisy, float), np.asarray(denoised, float)
        if like is not None:  # sources do not move the level
            self.levels = like.levels
            return
        self.levels = [
            [local_level(plane, t.valid).fine_whole() for plane, t in zip(f, targets, strict=True)]
            for f in self.frames
        ]

    def light(self, which, number, part=(slice(None), slice(None))):
        """Light over the local level: which is 0 for the noisy frame, 1 for the denoised one."""
        return self.frames[which][number][part] - self.levels[which][number][part]


def _measured(source, number, target, before, after):
    """Measure one source in one plane, in the noisy frame (0) and in the denoised one (1)."""
    stamp, flux = source.stamps[number], source.flux[number]
    part, noise = source.part(number), target.flux_noise(stamp, *source.pixel)
    found = {
        'snr': source.snr[number], 'place': source.place, 'plane': number,
        'kind': 'galaxies' if source.galaxy else 'stars', 'stamp': None,
    }  # fmt: skip
    fwhm = target.image.fwhm
    lowered = _lowered(stamp, fwhm)
    for which, name in enumerate(('noisy', 'denoised')):
        change = after.frames[which][number][part] - before.frames[which][number][part]
        found[f'flux_{name}'] = float(np.sum(change * stamp) / np.sum(stamp**2)) / flux
        light = after.light(which, number, part)
        plain = float(np.sum(light * lowered) / np.sum(stamp * lowered))
        found[f'pull_{name}'] = (plain - flux) / noise
        own, old = (_seen(view, which, number, source, target) for view in (after, before))
        found[f'found_{name}'] = np.isfinite(own)
        found[f'offset_{name}'] = own
        found[f'old_{name}'] = np.isfinite(old)
        if which and not source.galaxy:
            found['stamp'] = np.stack([stamp, change / flux]).astype(np.float32)
    return found


def _lowered(stamp, fwhm):
    """Template of a fit with a background of its own: what is constant in a disc does not count."""
    half = stamp.shape[0] // 2
    at = np.arange(-half, half + 1)
    disc = np.hypot(at[:, None], at) <= max(AREA * fwhm, 2.5)
    return np.where(disc, stamp - stamp[disc].mean(), 0.0)


def _seen(view, which, number, source, target):
    """Distance in px from a source's place to the peak that detects it; NaN where none does."""
    radius = max(target.image.fwhm, 1.5)
    half = target.image.half + int(np.ceil(radius)) + 2
    (y, x), shape = source.pixel, target.level.shape
    rows, cols = (
        slice(max(at - half, 0), min(at + half + 1, n)) for at, n in zip((y, x), shape, strict=True)
    )
    snr = light_map(view.light(which, number, (rows, cols)), target, (rows, cols))
    py, px, height = peaks(snr, DETECTED)
    if not len(py):
        return np.nan
    py, px = _between_pixels(snr, py, px)
    distance = np.hypot(py + rows.start - source.y, px + cols.start - source.x)
    near = distance <= radius
    return float(distance[near][np.argmax(height[near])]) if near.any() else np.nan


def _between_pixels(snr, y, x):
    """Places of peaks to a part of a pixel: a parabola along each axis."""
    padded = np.pad(snr, 1, mode='edge')
    places = []
    for at, (dy, dx) in ((y, (1, 0)), (x, (0, 1))):
        low, high = (padded[y + 1 + s * dy, x + 1 + s * dx] for s in (-1, 1))
        bend = 2 * snr[y, x] - low - high
        places.append(at + np.clip(0.5 * (high - low) / np.maximum(bend, 1e-9), -0.5, 0.5))
    return places


def _false_peaks(subject, denoiser, rng, n_twins, steps, before):
    """Heights of the peaks of twins, noisy and denoised, and how restless the sky is."""
    heights, noises = ([], []), []
    targets = subject.targets
    for _ in range(n_twins):
        next(steps)
        twin = np.stack([
            noise_twin(level, target.noise, rng).astype(target.data.dtype)
            for level, target in zip(subject.smooth, targets, strict=True)
        ])  # fmt: skip
        views = _Views(twin, denoiser(twin), targets)
        for number, target in enumerate(targets):
            for which in range(2):
                snr = light_map(views.light(which, number), target)
                heights[which].append(peaks(snr, LOWEST, where=target.valid)[2])
                if not which:
                    noises.append((number, filter_noise(snr, target.valid)))
    sky = subject.places.kind == Places.number('sky')
    unrest = []
    for number, target in enumerate(targets):
        own = filter_noise(light_map(before.light(0, number), target), sky)
        unrest.append(own / np.mean([noise for n, noise in noises if n == number]))
    return tuple(np.concatenate(part) for part in heights), unrest if sky.sum() >= 100 else []


def _notes(targets, unrest):
    """What a reader of the figures must know."""
    notes = []
    if any(target.image.kind == 'assumed' for target in targets):
        notes.append('the image of a star was assumed, not measured: figures hold for such stars')
    if any(value > UNREST for value in unrest):
        notes.append(
            f'the sky of this frame has {max(unrest):.2f} times the noise of its twin on the scale '
            'of stars: unseen stars, structure, or noise that the model does not know; of the '
            'last the twin makes no false sources'
        )
    if all(len(target.law.law) == 1 and not target.law.slope for target in targets):
        notes.append('the noise shows no dependence on the signal: added light brought no noise')
    return notes
