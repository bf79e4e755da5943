# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a denoiser did to one frame, as data: evidence first, then what it is fit for, then the rest.

`make_report` measures; `astrodenoise.reportpage` and `astrodenoise.reportpicture` draw it.
"""

import warnings

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty

from astrodenoise.background import local_level
from astrodenoise.exceptions import AstrodenoiseWarning, WeightsError
from astrodenoise.features import NormalisedPlane
from astrodenoise.frames import open_frame
from astrodenoise.measures.examination import examine_plane
from astrodenoise.mosaic import MosaicFrame, as_mosaic, split_mosaic
from astrodenoise.noise import leave_out_invalid
from astrodenoise.noisemodel import LAGS
from astrodenoise.provenance import read_provenance
from astrodenoise.reportchecks import judge, uses_of
from astrodenoise.reportdata import Layers, Report
from astrodenoise.survey import survey_frame

__all__ = ['make_report']

COLOURS = ('red', 'green', 'blue')
LIMIT = 6.0  # to which boxes are held where nothing else is recorded
STARS = 600  # of a plane that are drawn


def make_report(
    noisy,
    clean=None,
    *,
    truth=None,
    error_map=None,
    model='default',
    channels=None,
    noise=None,
    saturation=None,
    names=None,
    full_range=None,
    progress_bar=None,
):
    """
    Measure what a denoiser did to a frame, of which no truth need be known.

    The noise is measured on ``noisy`` itself, whatever the denoiser was told.  Pixels that are
    masked, not finite, without data, saturated or clipped do not count.

    Parameters
    ----------
    noisy : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity` or \
            `numpy.ndarray`
        The frame before, (H, W) or (N, H, W).
    clean : object, optional
        The denoised frame, of the same shape and in the same unit; of any denoiser.  Without it
        ``noisy`` is denoised.
    truth : object, optional
        The frame without noise.
    error_map : `numpy.ndarray`, optional
        Error of each pixel of ``clean`` that its maker predicts, in the unit of the frames.
    model : str, optional
        What denoises, as in `astrodenoise.denoise`.
    channels : {None, 'separate', 'joint'}, optional
        The same.
    noise : optional
        Sigma of a pixel, as `astrodenoise.denoise` takes it.  The default lets it take the frame's
        own uncertainty, and measures for the report.
    saturation : float or `~astropy.units.Quantity`, optional
        As in `astrodenoise.denoise`.
    names : dict of str, optional
        What to call the frames: 'noisy', 'denoised', 'truth'.
    full_range : tuple of float, optional
        Black and white of a picture, whose first row is the uppermost.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Returns
    -------
    report : `~astrodenoise.reportdata.Report`
        Its ``to_dict`` and ``to_json`` give it to machines.

    Raises
    ------
    TypeError
        If a frame is of another type.
    ValueError
        If the shapes differ, or there is nothing to denoise or to compare.
    `~astropy.units.UnitsError`
        If the units differ.
    """
    told = []
    given = {'noisy': noisy, 'denoised': clean, 'truth': truth}
    files = {name: (names or {}).get(name, name) for name, one in given.items() if one is not None}
    if clean is None:
        if not isinstance(noisy, NDData):  # an array has no place for an error, nor for a record
            noisy = CCDData(noisy, unit=getattr(noisy, 'unit', u.dimensionless_unscaled))
        clean, told = _denoised(noisy, model, channels, noise, saturation, progress_bar)
        error_map = clean.uncertainty.represent_as(StdDevUncertainty).array
    record = read_provenance(clean) if isinstance(clean, NDData) else {}
    frame, other, third = _opened((noisy, clean, truth), files, record.get('bayer'))
    level = None if saturation is None else float(frame.value_of(saturation, 'saturation'))
    leave_out_invalid(frame, saturation=level)
    valid = frame.valid & other.valid & (True if third is None else third.valid)
    known, views = _survey(frame, noise, level)
    planes = [
        None if view is None or not ok.any() else examine_plane(
            data, after, one.noise, view.sigma, ok, limit=record.get('limit') or LIMIT,
            tiles=(record['tile'], record['overlap']) if 'tile' in record else None,
        )
        for data, after, ok, one, view in zip(
            frame.data, other.data, valid, known, views, strict=True
        )
    ]  # fmt: skip
    checks = judge(
        planes, [None if one is None else one.noise for one in known],
        limit=record.get('limit') or LIMIT, strength=record.get('strength', 1.0),
        held_back=sum(one.get('limited') or 0 for one in record.get('planes', [])),
    )  # fmt: skip
    error = None
    if error_map is not None:
        error = split_mosaic(error_map) if 'bayer' in record else np.reshape(error_map, frame.shape)
    if not told:
        told = _outside(record, known, views)
    evaluation, notes = _evaluated(frame, other, third, error, valid)
    names_of_planes = _plane_names(frame)
    return Report(
        files=files,
        shape=tuple(frame.shape) if names_of_planes else tuple(frame.shape[3 - frame.ndim :]),
        names=names_of_planes,
        unit='' if frame.unit is None else str(frame.unit),
        pixels={'all': int(valid.size), 'valid': int(np.count_nonzero(valid))},
        checks=checks,
        uses=uses_of(checks),
        planes=[
            _told(*parts, record, i) for i, parts in enumerate(zip(known, planes, strict=True))
        ],
        provenance=record,
        warnings=tuple(told),
        notes=tuple(notes + _notes(planes, record)),
        evaluation=evaluation,
        layers=_layers(frame, other, third, error, known, full_range),
    )


def _opened(frames, files, bayer):
    """Open the frames; those of a raw colour mosaic as four planes."""
    noisy, clean, truth = (None if one is None else open_frame(one) for one in frames)
    _check_frames([(files.get(name), one) for name, one in
                   (('noisy', noisy), ('denoised', clean), ('truth', truth))])  # fmt: skip
    opened = [noisy, clean, truth]
    if bayer is not None:
        opened = [None if one is None else as_mosaic(one, bayer) for one in opened]
    return opened


def _plane_names(frame):
    """Name the planes of a frame: colours where there are three; none where there is one."""
    if isinstance(frame, MosaicFrame):
        return [f'{colour} {i}' for i, colour in enumerate(frame.pattern, start=1)]
    n = frame.shape[0]
    if n == 1:
        return []
    return list(COLOURS) if n == len(COLOURS) else [f'plane {i}' for i in range(n)]


def _denoised(noisy, model, channels, noise, saturation, progress_bar):
    """Denoise the frame, and keep what it warns of."""
    from astrodenoise import denoise

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        clean = denoise(
            noisy, model=model, channels=channels, noise=noise, saturation=saturation,
            uncertainty='predict', progress_bar=progress_bar,
        )  # fmt: skip
    for one in caught:
        warnings.warn(one.message, stacklevel=3)
    ours = [one for one in caught if issubclass(one.category, AstrodenoiseWarning)]
    return clean, [' '.join(str(one.message).split()) for one in ours]


def _check_frames(frames):
    """Refuse frames that are not of one scene."""
    (first, frame), *others = ((name, one) for name, one in frames if one is not None)
    for name, other in others:
        if other.shape != frame.shape or other.ndim != frame.ndim:
            shapes = [one.shape[3 - one.ndim :] for one in (other, frame)]
            msg = (
                f'{name} has the shape {shapes[0]} and {first} {shapes[1]}; expected frames of one '
                'scene, which have the same'
            )
            raise ValueError(msg)
        if other.unit != frame.unit:
            msg = (
                f'{name} is in {other.unit or "no unit"} and {first} in {frame.unit or "no unit"}; '
                'expected the same: convert one of them'
            )
            raise u.UnitsError(msg)


def _survey(frame, noise, saturation):
    """Noise of each plane and the plane in its units; None where it cannot be measured."""
    try:
        known = survey_frame(frame, 'measure' if noise is None else noise, saturation=saturation)
    except ValueError:  # too few pixels
        return [None] * frame.shape[0], [None] * frame.shape[0]
    views = []
    for one, data, valid in zip(known, frame.data, frame.valid, strict=True):
        level = one.level or local_level(data, valid, plane=one.tilt)
        views.append(None if one.missing else NormalisedPlane(data, valid, one.noise, level=level))
    known = [None if view is None else one for one, view in zip(known, views, strict=True)]
    return known, views


def _outside(record, known, views):
    """Name what of the frame the weights of a record were not trained on."""
    from astrodenoise.trainedrange import outside
    from astrodenoise.weights import load_weights

    try:
        weights = load_weights(record['model'])
    except (KeyError, WeightsError):
        return []
    pairs = [pair for pair in zip(known, views, strict=True) if pair[1] is not None]
    if weights.sha256[:12] != record.get('weights') or not pairs:
        return []
    texts = outside(weights.trained_range, *(list(part) for part in zip(*pairs, strict=True)))
    return [f'the frame is unlike what model {weights.name!r} was trained on: {text}'
            for text in texts]  # fmt: skip


def _evaluated(frame, other, third, error, valid):
    """Measure against the truth."""
    if third is None:
        return None, []
    from astrodenoise.quality import evaluate

    single = frame.shape[0] == 1
    planes = [one[0] if single else one for one in (third.data, frame.data, other.data, valid)]
    if error is not None and single:
        error = error[0]
    try:
        return evaluate(*planes[:3], error_map=error, valid=planes[3]), []
    except ValueError as problem:
        return None, [f'nothing was measured against the truth: {problem}']


def _told(known, plane, record, number):
    """What a report holds of one plane."""
    recorded = record.get('planes', [])
    told = {'noise': None if known is None else _noise_of(known.noise)}
    if number < len(recorded):
        told['recorded'] = recorded[number]
    if plane is None:
        return told
    stars = plane.stars
    step = max(1, len(stars.snr) // STARS)
    return told | {
        'fwhm': plane.evidence.fwhm,
        'fwhm_stars': plane.evidence.stars,
        'sources': {'shown': plane.evidence.n_shown, 'seen': plane.evidence.n_seen},
        'quiet': plane.quiet,
        'histogram': plane.histogram,
        'spectra': plane.spectra,
        'correlations': plane.correlations,
        'stars': {'snr': stars.snr[::step], 'change': stars.change[::step]},
        'widths': {'before': stars.before[:STARS], 'after': stars.after[:STARS]},
    }


def _noise_of(noise):
    """Give the noise model of a plane in a few numbers."""
    grid = np.asarray(noise.grid, float)
    return {
        'sky': noise.sky,
        'sigma': noise.sigma,
        'source': noise.source,
        'step': noise.step,
        'ratio': noise.ratio,
        'correlation': [{'dy': dy, 'dx': dx, 'rho': rho}
                        for (dy, dx), rho in zip(LAGS, noise.correlation, strict=True)],
        'law': {'levels': noise.levels, 'variance': noise.law, 'slope': noise.slope},
        'map': [float(v) for v in np.quantile(grid, (0.05, 0.95))],
        'banding': {'rows': float(np.std(noise.rows or 0.0)),
                    'columns': float(np.std(noise.columns or 0.0))},
    }  # fmt: skip


def _notes(planes, record):
    """What helps to read the figures."""
    notes = []
    if 'bayer' in record:
        notes.append(
            f'this is a raw colour mosaic ({record["bayer"]}): positions and sizes are those of '
            'its four planes, of half the size'
        )
    for plane in planes:
        if plane is None:
            notes.append('the noise of a plane cannot be measured: nothing of it is testable here')
            continue
        if not plane.evidence.stars:
            notes.append(
                f'no star tells the FWHM: the matched filter is made for {plane.evidence.fwhm:g} px'
            )
        sides = [part.stop - part.start for part in plane.middle]
        if plane.middle[0].start or plane.middle[1].start:
            notes.append(
                f'stars, curves and figures of the residual are those of the middle {sides[1]} x '
                f'{sides[0]} px; invented, lost and moved are those of the whole frame'
            )
    return list(dict.fromkeys(notes))


def _layers(frame, other, third, error, known, full_range):
    """The pixels to show, with the level and the noise that they are shown in."""
    sky, sigma = [], []
    for one, data, valid in zip(known, frame.data, frame.valid, strict=True):
        values = data[valid] if valid.any() else np.zeros(1)
        sky.append(float(np.median(values)) if one is None else one.noise.sky)
        sigma.append(float(np.std(values)) or 1.0 if one is None else one.noise.sigma)
    return Layers(
        frame.data, other.data, None if third is None else third.data, error, sky, sigma,
        full_range, upward=full_range is None,
    )  # fmt: skip
