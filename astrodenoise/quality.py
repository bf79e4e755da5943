# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a denoiser did to a frame, in numbers.

`evaluate` compares a denoised frame with the truth, `evaluate_pair` with a second exposure that
shares no noise with it.  Every figure is defined by the function that measures it: in
`astrodenoise.measures`, errors of pixels in ``pixels``, the sky in ``residuals``, light in
``sources``, shapes in ``shapes``, detection in ``detections``.
"""

import numpy as np
from scipy import spatial

from astrodenoise.measures import detections, pixels, residuals, shapes, sources
from astrodenoise.measures.comparison import (
    isolated,
    open_comparison,
    seam_figure,
    whiteness,
    whole,
)
from astrodenoise.measures.figures import Evaluation, Figure, combine
from astrodenoise.measures.truthfree import measure_pair

__all__ = ['evaluate', 'evaluate_pair']

SHAPE_SNR, RING_SNR = 30.0, 100.0  # matched-filter S/N from which on
STACK_SNR = 5.0, 12.0
COLOUR_SNR = 50.0  # of the aperture
DETECTION_BINS = ((3, 5), (5, 10))  # matched-filter S/N
BLANK_SNR = 0.5  # of the truth's own light, below which a detection is false
NEEDS_MORE = {  # what frames alone do not tell -> what measures it
    'response': ('response to a source', 'needs the denoiser: sources.response'),
    'leakage': ('leakage between planes', 'needs sources in one plane: sources.band_leakage'),
    'patches': ('flux of patches', 'needs their positions: sources.patch_flux'),
    'pattern': (
        'share left of bands and blotches',
        'needs the true ones: residuals.banding_left, residuals.blotches_left',
    ),
}


def evaluate(
    truth,
    noisy,
    denoised,
    *,
    sigma=None,
    stars=None,
    fwhm=None,
    error_map=None,
    sky=None,
    valid=None,
    galaxies=None,
):
    """
    Measure what a denoiser did to a frame whose truth is known.

    Parameters
    ----------
    truth, noisy, denoised : `numpy.ndarray`, (H, W) or (N, H, W)
        Frames in one unit.
    sigma : float or `numpy.ndarray`, optional
        True rms noise of each pixel of ``noisy``. The default measures it: the noise law of the
        noisy frame, at the level of the truth, scaled to (noisy - truth).
    stars : `numpy.ndarray`, (n, 2), or table, optional
        Positions x, y in px of all stars, or a table with columns ``x`` and ``y``. The default
        finds them in the truth.
    fwhm : float, optional
        Of a star in px. The default measures it in the truth.
    error_map : `numpy.ndarray`, optional
        The error of each pixel of ``denoised`` that its maker predicts, in the unit of the frames.
    sky : float or `numpy.ndarray`, optional
        Level of the sky. The default is the 5 % quantile of the truth smoothed by 2 px.
    valid : `numpy.ndarray`, bool, optional
        The pixels that count. The default is all that are finite in all frames.
    galaxies : `numpy.ndarray`, (n, 3), optional
        Positions x, y and radii of galaxies in px.

    Returns
    -------
    evaluation : `~astrodenoise.measures.figures.Evaluation`
        It prints itself as a table. Figures of several planes are pooled.

    Raises
    ------
    ValueError
        If the shapes do not agree, or the noise must be measured and cannot be.
    """
    frames = [np.asarray(frame, float) for frame in (truth, noisy, denoised)]
    _check_shapes(dict(zip(('truth', 'noisy', 'denoised'), frames, strict=True)))
    finite = np.all([np.isfinite(frame) for frame in frames], axis=0)
    valid = finite if valid is None else finite & valid
    options = {'sigma': sigma, 'error_map': error_map, 'sky': sky}
    scenes = [
        open_comparison(*parts, **own, stars=stars, fwhm=fwhm)
        for parts, own in _planes([*frames, valid], options)
    ]
    found = combine([_measure(scene, galaxies) for scene in scenes], planes=True)
    found.figures.update(_colours(scenes))
    for key, (label, reason) in NEEDS_MORE.items():
        found.figures[key] = Figure(label, reason=reason)
    return found


def evaluate_pair(first, second, denoised, *, sigma=None, sigma_second=None, fwhm=None, valid=None):
    """
    Measure what a denoiser did to a real frame, with a second exposure of the same field.

    Parameters
    ----------
    first, second : `numpy.ndarray`, (H, W) or (N, H, W)
        Exposures of equal photometry and seeing on the same pixels, with independent noise.
    denoised : `numpy.ndarray`
        What was made of ``first``.
    sigma, sigma_second : float or `numpy.ndarray`, optional
        Rms noise of each pixel of both. The default measures it, scaled to (first - second).
    fwhm : float, optional
        Of a star in px. The default measures it in the mean of both exposures.
    valid : `numpy.ndarray`, bool, optional
        The pixels that count. The default is all that are finite in all frames.

    Returns
    -------
    evaluation : `~astrodenoise.measures.figures.Evaluation`
        Figures that need a truth say so.

    Raises
    ------
    ValueError
        If the shapes do not agree, or the noise must be measured and cannot be.
    """
    frames = [np.asarray(frame, float) for frame in (first, second, denoised)]
    _check_shapes(dict(zip(('first', 'second', 'denoised'), frames, strict=True)))
    finite = np.all([np.isfinite(frame) for frame in frames], axis=0)
    valid = finite if valid is None else finite & valid
    options = {'sigma': sigma, 'sigma_second': sigma_second}
    return combine(
        [measure_pair(*parts, **own, fwhm=fwhm)
         for parts, own in _planes([*frames, valid], options)],
        planes=True,
    )  # fmt: skip


def _check_shapes(frames):
    """Raise unless all frames are planes of one shape."""
    given = ', '.join(f'{name} {frame.shape}' for name, frame in frames.items())
    if len({frame.shape for frame in frames.values()}) > 1:
        msg = f'the frames must have one shape, got {given}'
        raise ValueError(msg)
    if next(iter(frames.values())).ndim not in (2, 3):
        msg = f'the frames must be (H, W) or (N, H, W), got {given}'
        raise ValueError(msg)


def _planes(frames, options):
    """Split frames, and what goes with them, into planes."""
    if frames[0].ndim == 2:
        yield frames, options
        return
    for number in range(len(frames[0])):
        own = {
            name: value[number] if np.ndim(value) == 3 else value for name, value in options.items()
        }
        yield [frame[number] for frame in frames], own


# With a truth


def _measure(scene, galaxies):
    """Take all figures of a plane."""
    figures = {
        **_named('gain', pixels.region_gains(
            scene.before, scene.after, scene.level, valid=scene.valid)),
        **_calibration(scene),
        'sky shift': residuals.sky_shift(scene.after, scene.sky),
        'block scatter': residuals.block_scatter(scene.before, scene.after, scene.sky),
        'mottle': residuals.mottle(scene.before, scene.after, scene.sky),
        **_bands(scene.after, scene.sky),
    }  # fmt: skip
    noisy = {'sky shift': residuals.sky_shift(scene.before, scene.sky)}
    noisy |= _bands(scene.before, scene.sky)
    output = scene.denoised / scene.sigma
    for found, kept in zip(
        whiteness(scene.residual, scene.before, output, scene.sky), (figures, noisy), strict=True
    ):
        kept |= found
    figures['seams'] = seam_figure(scene.after, scene.truth / scene.sigma, scene.valid)
    for found, before in (_fluxes(scene, galaxies), _shapes(scene), _detections(scene)):
        figures |= found
        noisy |= before
    lost, positions = detections.invented_and_lost(
        *_maps(scene), radius=scene.fwhm, valid=scene.valid
    )
    return Evaluation(figures | lost, noisy, positions, scene.notes)


def _named(prefix, figures):
    return {f'{prefix}.{key}': figure for key, figure in figures.items()}


def _bands(error, sky):
    return {
        'banding rows': residuals.banding_amplitude(error, sky),
        'banding columns': residuals.banding_amplitude(error, sky, axis=1),
    }


def _calibration(scene):
    """Whether the error map tells errors and residual."""
    if scene.error_map is None:
        figure = Figure('error over predicted error', reason='no error map was given')
        return {'calibration': figure}
    known = scene.valid & (scene.error_map > 0) & np.isfinite(scene.error_map)
    predicted = np.where(known, scene.error_map / scene.sigma, 1.0)
    return {
        **_named('calibration', pixels.error_calibration(
            scene.after, predicted, scene.level, valid=known)),
        **_named('residual', pixels.residual_power(
            scene.residual, predicted, scene.level, valid=known)),
    }  # fmt: skip


def _fluxes(scene, galaxies):
    """Fluxes of stars and galaxies, and rings round bright stars."""
    stars = scene.stars
    bright = stars[scene.strength[whole(stars.y), whole(stars.x)] > RING_SNR]
    error = np.where(scene.valid, scene.after, np.nan)
    figures = {
        **_named('flux', sources.aperture_flux(
            scene.truth, scene.noisy, scene.denoised, stars, sigma=scene.sigma)),
        **_named('rings', sources.rings(error, bright.y, bright.x, scene.fwhm)),
    }  # fmt: skip
    if galaxies is None:
        figures['galaxies'] = Figure('galaxies', reason='no positions were given')
        return figures, {}
    x, y, radius = np.asarray(galaxies, float).reshape(-1, 3).T
    level = np.median(scene.truth[scene.sky]) if scene.sky.any() else np.min(scene.truth)
    noisy = {}
    for frame, kept in ((scene.denoised, figures), (scene.noisy, noisy)):
        kept |= _named('galaxies', sources.galaxy_light(
            scene.truth, frame, y, x, radius, background=level))  # fmt: skip
    return figures, noisy


def _shapes(scene):
    """Shapes of bright stars, and of a stack of faint ones."""
    stars = isolated(scene.stars)
    strength = scene.strength[whole(stars.y), whole(stars.x)]
    bright = stars[strength > SHAPE_SNR]
    faint = stars[(strength >= STACK_SNR[0]) & (strength < STACK_SNR[1])]
    return tuple(
        {
            **_named('shape', shapes.shape_changes(
                scene.truth, frame, bright.y, bright.x, fwhm=scene.fwhm,
                background=bright.background)),
            'shape.stack': shapes.stacked_width(
                scene.truth, frame, faint.y, faint.x, fwhm=scene.fwhm,
                background=faint.background),
        }
        for frame in (scene.denoised, scene.noisy)
    )  # fmt: skip


def _maps(scene):
    """Matched-filter S/N of the noisy and the denoised frame, in the input's filter noise."""
    noise = detections.filter_noise(scene.filtered(scene.noisy - scene.truth), scene.sky)
    return [scene.filtered(f - scene.background) / noise for f in (scene.noisy, scene.denoised)]


def _detections(scene):
    """Completeness, false peaks and recovered flux."""
    noisy, denoised = _maps(scene)
    blank = scene.valid & (np.abs(scene.strength) < BLANK_SNR)
    y, x = whole(scene.y), whole(scene.x)
    inside = (y >= 0) & (x >= 0) & (y < blank.shape[0]) & (x < blank.shape[1])
    y, x = y[inside], x[inside]
    strength = scene.strength[y, x]
    error = scene.filtered(scene.denoised - scene.truth)
    figures, own = {}, {}
    for snr, kept in ((denoised, figures), (noisy, own)):
        for low, high in DETECTION_BINS:
            kept[f'completeness {low}-{high}'] = detections.completeness(
                snr, y, x, strength, low=low, high=high, blank=blank, radius=scene.fwhm
            )
        kept['false peaks'] = detections.false_peaks(snr, blank)
    for low, high in DETECTION_BINS:
        figures[f'recovered {low}-{high}'] = detections.recovered_flux(
            error, y, x, strength, low=low, high=high
        )
    return figures, own


def _colours(scenes):
    """Colours of stars, where there are several planes."""
    if len(scenes) == 1:
        return {'colour': Figure('colour of stars', reason='there is one plane')}
    stars = max((scene.stars for scene in scenes), key=len)
    kept, fluxes = np.ones(len(stars), bool), []
    for scene in scenes:
        own = sources.measure_stars(scene.truth, stars.y, stars.x, stars.fwhm)
        flux = np.zeros(len(stars))
        if len(own):
            # those without flux in this plane were left out
            distance, match = spatial.cKDTree(np.column_stack([own.y, own.x])).query(
                np.column_stack([stars.y, stars.x])
            )
            flux = np.where(distance < 1e-6, own.flux[match], 0.0)
        noise = sources.aperture_noise(
            scene.noisy - scene.truth, scene.sigma, stars.y, stars.x, stars.radius
        )
        kept &= flux > COLOUR_SNR * noise
        fluxes.append(flux)
    truth, denoised = (np.stack([getattr(s, k) for s in scenes]) for k in ('truth', 'denoised'))
    stars, fluxes = stars[kept], np.array(fluxes)[:, kept]
    return sources.star_colour(truth, denoised, stars.y, stars.x, fluxes, radius=stars.radius)
