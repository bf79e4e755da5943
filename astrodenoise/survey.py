# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What is known of a frame before any of it is denoised: invalid pixels, level and noise.

A plane of up to 1919 px on a side is looked at as a whole.  A larger one is looked at in panels of
about 1280 px, so that no array grows with it and every core has something to do.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from astrodenoise.background import BLOCK, local_level
from astrodenoise.estimate import MIN_PIXELS, check_size
from astrodenoise.frames import NOTHING_VALID, Frame
from astrodenoise.known import Known, is_constant, light_of
from astrodenoise.marks import RUN, Marks
from astrodenoise.noise import (
    check_kind,
    fitted,
    frame_noise,
    leave_out_invalid,
    noise_as_told,
    noise_of_plane,
    sigma_of,
)
from astrodenoise.noisemodel import FrameNoise
from astrodenoise.panels import measure_panel, merge_panels
from astrodenoise.sections import block_edges, widened
from astrodenoise.sigmaplane import SAMPLE, level_factor, sample_of, sigma_plane
from astrodenoise.validity import NOISY, SATURATED

__all__ = [
    'Look',
    'look_at_panel',
    'panel_places',
    'put_together',
    'read_noise',
    'surroundings',
    'survey_frame',
]

PANEL = 1280  # px, about the side of a panel
LIGHT_STEP = 16  # px between the samples of the level


def survey_frame(frame, noise, *, saturation=None):
    """
    Look at a whole frame.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        An opened frame; from one that is looked at as a whole, pixels that carry no noise are left
        out of its ``valid``.
    noise : object
        As `astrodenoise.denoise` takes it.
    saturation : float, optional
        Level at and above which pixels are saturated, in the unit of the data.

    Returns
    -------
    known : list of `Known`
        One per plane.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.noise.frame_noise`.
    """
    if len(panel_places(frame.shape[1:])) == 1:
        if frame.data is None:
            return _survey_pieces(frame, noise, saturation)
        return _survey_whole(frame, noise, saturation)
    told = read_noise(frame, noise)
    places = panel_places(frame.shape[1:])
    saturation = frame.saturation if saturation is None else saturation
    jobs = [(slice(n, n + 1), place) for n in range(frame.shape[0]) for place in places]
    windows = [(plane, *surroundings(place, frame.shape[1:])) for plane, place in jobs]
    looks = frame.each(partial(look_at_panel, saturation=saturation), jobs, windows)
    looks = [looks[i : i + len(places)] for i in range(0, len(looks), len(places))]
    return put_together(frame, told, looks)


def _survey_whole(frame, noise, saturation):
    """Look at planes that are small enough to be looked at as a whole."""
    frame.saturated = leave_out_invalid(frame, saturation=saturation)
    levels = [local_level(*plane) for plane in zip(frame.data, frame.valid, strict=True)]
    measured = frame_noise(frame, noise, levels)
    return [
        Known(
            noise=plane,
            tilt=level.plane,
            light=light_of(level.fine),
            counts={
                'invalid': int(np.count_nonzero(~valid)),
                'saturated': int(np.count_nonzero(saturated)),
            },
            n_pixels=valid.size,
            constant=is_constant(data[valid]),
            level=level,
        )
        for plane, level, data, valid, saturated in zip(
            measured.planes, levels, frame.data, frame.valid, frame.saturated, strict=True
        )
    ]


def _survey_pieces(frame, noise, saturation):
    """Look at a small frame whose pixels are read piece by piece: all of it is one piece."""
    window = frame.window(*(slice(0, n) for n in frame.shape))
    if not window.valid.any():
        raise ValueError(NOTHING_VALID)
    whole = Frame(
        window.data, window.valid.copy(), window.sigma, frame.unit, frame.integer, frame.saturation,
        frame.meta, frame.original,
    )  # fmt: skip
    known = _survey_whole(whole, noise, saturation)
    read_noise(frame, noise)
    place = tuple(slice(0, n) for n in frame.shape[1:])
    return [
        replace(one, marks=Marks.of(place, valid, saturated))
        for one, valid, saturated in zip(known, whole.valid, whole.saturated, strict=True)
    ]


def panel_places(shape):
    """
    Divide a plane into panels.

    Parameters
    ----------
    shape : tuple of int
        Of the plane.

    Returns
    -------
    places : list of tuple of slice
        Rows and columns of each, row by row.
    """
    rows, cols = (
        [slice(*ends) for ends in pairwise(block_edges(n, size=PANEL))] for n in shape
    )
    return [(down, across) for down in rows for across in cols]


@dataclass(frozen=True, eq=False)
class Look:
    """
    What a look at one panel tells.

    Attributes
    ----------
    panel : `astrodenoise.panels.Panel`
        Its noise.
    marks : `astrodenoise.marks.Marks`
        Its pixels without noise.
    tilt : tuple of float
        ``LocalLevel.plane`` of the panel.
    fine : `numpy.ndarray`
        Its level on 20 px, every 16 px.
    counts : dict of int
        As in `Known`.
    ends : tuple of float
        Smallest and largest valid value; NaN where there is none.
    given, sample : `numpy.ndarray`
        Where a sigma of each pixel was given: a sample of the signal and of what was given; and of
        the level, of the smoothed sigma and of the frame's own.
    """

    panel: object
    marks: Marks
    tilt: tuple
    fine: np.ndarray
    counts: dict
    ends: tuple
    given: np.ndarray
    sample: np.ndarray


def surroundings(place, shape):
    """
    Give what must be seen of a plane to look at a panel.

    Parameters
    ----------
    place : tuple of slice
        Rows and columns of the panel.
    shape : tuple of int
        Of the plane.

    Returns
    -------
    wide : tuple of slice
        Rows and columns.
    """
    return tuple(widened(s, RUN, n) for s, n in zip(place, shape, strict=True))


def look_at_panel(frame, job, *, saturation=None):
    """
    Look at one panel of one plane.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    job : tuple
        The plane, a slice, and rows and columns of the panel.
    saturation : float, optional
        As for `survey_frame`.

    Returns
    -------
    look : `Look`
        What `put_together` takes.
    """
    plane, place = job
    wide = surroundings(place, frame.shape[1:])
    window = frame.window(plane if frame.shape[0] > 1 else slice(0, 1), *wide)
    inner = tuple(
        slice(s.start - w.start, s.stop - w.start) for s, w in zip(place, wide, strict=True)
    )
    marks = Marks(saturation)
    reason = marks.look(window.data[0], window.valid[0], inner, place)
    data, valid = window.data[0][inner], window.valid[0][inner]
    valid = valid & (reason == NOISY)
    level = local_level(data, valid)
    panel = measure_panel(*place, data, valid, level, integer=frame.integer)
    values = data[valid]
    ends = (float(values.min()), float(values.max())) if values.size else (np.nan, np.nan)
    given, sample = np.empty((2, 0)), np.empty((3, 0))
    if window.sigma is not None and values.size:
        given, sample = _given_sigma(window.sigma[0][inner], data, valid, level, panel)
    every = [np.arange(BLOCK // 2, n, LIGHT_STEP) for n in data.shape]
    counts = {
        'invalid': int(np.count_nonzero(~valid)),
        'saturated': int(np.count_nonzero(reason == SATURATED)),
    }
    return Look(panel, marks, level.plane, level.fine_at(*every), counts, ends, given, sample)


def _given_sigma(sigma, data, valid, level, panel):
    """Samples of a given sigma, see `Look`."""
    background = level.fine_whole()
    given = sample_of(sigma, data, valid, background)
    if not given.size:
        return given, np.empty((3, 0))
    smooth = sigma_plane(given).smoothed(sigma, data, valid, background)[valid]
    own = np.broadcast_to(panel.noise.sigma_at(background), data.shape)[valid]
    step = max(1, smooth.size // (10 * given.shape[1]), smooth.size // SAMPLE)
    return given[:, :: max(1, given.shape[1] // SAMPLE)], np.stack(
        [background[valid][::step], smooth[::step], own[::step]]
    )


def read_noise(frame, noise):
    """
    Read what was given as the noise; a sigma of each pixel becomes the frame's own.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame; its ``sigma`` is None afterwards unless there is one of each pixel.
    noise : object
        As `astrodenoise.denoise` takes it.

    Returns
    -------
    told : tuple
        (source, what was given): a number, a pair, a `FrameNoise`, 'measure' or 'plane'.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.noise.sigma_of`.
    """
    if noise is None:
        return 'uncertainty', 'measure' if frame.sigma is None else 'plane'
    check_kind(noise)
    if isinstance(noise, FrameNoise):
        noise = fitted(noise, frame)
    if not isinstance(noise, FrameNoise | str | tuple):
        noise = sigma_of(noise, frame)
        if noise.ndim:
            frame.sigma = noise
            return 'given', 'plane'
        noise = float(noise)
    frame.sigma = None
    return 'given', noise


def put_together(frame, told, looks):
    """
    Make what is known of a frame of the looks at its panels.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    told : tuple
        As `read_noise` gives it.
    looks : list of list of `Look`
        Of each plane, its panels row by row.

    Returns
    -------
    known : list of `Known`
        One per plane.

    Raises
    ------
    ValueError
        If the noise cannot be measured and was not given.
    """
    if not any(one.panel.n_valid for plane in looks for one in plane):
        raise ValueError(NOTHING_VALID)
    known = []
    for number, plane in enumerate(looks):
        noise, reading = _noise_together(frame, told, number, plane)
        tilt = _tilt_together(plane, frame.shape[1:])
        known.append(
            Known(
                noise=noise,
                tilt=tilt,
                light=_light_together(plane, tilt, frame.shape[1:]),
                counts={key: sum(one.counts[key] for one in plane) for key in plane[0].counts},
                n_pixels=int(np.prod(frame.shape[1:])),
                constant=len({end for one in plane for end in one.ends if end == end}) < 2,
                reading=reading,
                marks=_marks_together([one.marks for one in plane]),
            )
        )
    return known


def _noise_together(frame, told, number, looks):
    """Noise of a plane, and how a given sigma of each of its pixels is read."""
    source, noise = told
    if isinstance(noise, FrameNoise):
        return noise.planes[number], None
    shape = tuple(frame.shape[1:])
    n_valid = sum(one.panel.n_valid for one in looks)
    if noise == 'measure':
        check_size(n_valid, shape)
    n_across = sum(one.panel.rows.start == 0 for one in looks)
    panels = [one.panel for one in looks]
    rows = [panels[i : i + n_across] for i in range(0, len(panels), n_across)]
    measured = merge_panels(rows, shape, frame.dtype) if n_valid >= MIN_PIXELS else None
    if noise == 'measure':
        return measured, None
    sky = float(np.median([one.tilt[0] for one in looks])) if measured is None else measured.sky
    if noise != 'plane':
        return noise_as_told(noise, frame, measured, source, shape, sky), None
    reading = sigma_plane(np.concatenate([one.given for one in looks], axis=1))
    background, smooth, own = np.concatenate([one.sample for one in looks], axis=1)
    if measured is not None:
        factor = level_factor(float(np.median(smooth)), float(np.median(own)), measured)
        reading = replace(reading, factor=factor)
    near_sky = background <= np.median(background)
    at_sky = float(np.median(smooth[near_sky])) / reading.factor
    return noise_of_plane(at_sky, measured, source, shape, sky), reading


def _tilt_together(looks, shape):
    """One plane through those of all panels: level at the centre, slopes per fine block."""
    points, values = [], []
    centre = [(-(-n // BLOCK) - 1) / 2 for n in shape]
    for one in looks:
        if not one.panel.n_valid:
            continue
        level, slope_y, slope_x = one.tilt
        half = [(-(-n // BLOCK) - 1) / 2 for n in one.panel.noise.shape]
        first = one.panel.rows.start // BLOCK, one.panel.cols.start // BLOCK
        for y in (-half[0], half[0]):
            for x in (-half[1], half[1]):
                points.append((1, first[0] + half[0] + y - centre[0],
                               first[1] + half[1] + x - centre[1]))  # fmt: skip
                values.append(level + slope_y * y + slope_x * x)
    if not points:
        return (0.0, 0.0, 0.0)
    # about their middle: a level may be far from 0
    middle = float(np.median(values))
    level, slope_y, slope_x = np.linalg.lstsq(points, np.subtract(values, middle), rcond=None)[0]
    return float(level + middle), float(slope_y), float(slope_x)


def _light_together(looks, tilt, shape):
    """Level of extended light, from samples of all panels."""
    values = []
    for one in looks:
        ny, nx = one.fine.shape
        y = (one.panel.rows.start + LIGHT_STEP * np.arange(ny)) / BLOCK - shape[0] / BLOCK / 2
        x = (one.panel.cols.start + LIGHT_STEP * np.arange(nx)) / BLOCK - shape[1] / BLOCK / 2
        values.append((one.fine - tilt[0] - tilt[1] * y[:, None] - tilt[2] * x).ravel())
    values = np.concatenate(values)
    return light_of(values)


def _marks_together(marks):
    """Rules of all panels: what piles up in one is no ordinary value in another."""
    levels = [one.saturation for one in marks if one.saturation is not None]
    return Marks(
        min(levels, default=None),
        set().union(*(one.top for one in marks)),
        set().union(*(one.floor for one in marks)),
        [gap for one in marks for gap in one.gaps],
    )
