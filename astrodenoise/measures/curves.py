# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
What a residual looks like, as curves to draw: histogram, power spectra, autocorrelation.

All frames are in units of each pixel's noise.
"""

import numpy as np

from astrodenoise.noisemodel import LAGS

__all__ = ['axis_correlations', 'noise_spectrum', 'power_spectra', 'residual_histogram']

REACH, STEP = 6.0, 0.25  # sigma, of the histogram
WINDOW = 64  # px, side of the pieces whose power is averaged
WINDOWS = 256  # pieces at most
QUIET = (0.98, 0.8)  # share of a piece without sources: the better ones if they are many
FEWEST = 8  # pieces
FREQUENCIES = 32  # bins from 0 to 0.5 cycles per px
LONGEST = 8  # px, of the autocorrelation
LEAST = 400  # px


def residual_histogram(residual, quiet):
    """
    Count the values of a residual where there are no sources.

    Parameters
    ----------
    residual : `numpy.ndarray`, (H, W)
        Noisy minus denoised, in sigma.
    quiet : `numpy.ndarray`, (H, W), bool
        The pixels that count.

    Returns
    -------
    histogram : dict or None
        'edges' in sigma (what lies beyond is in the outermost bins), 'counts', 'pixels', 'rms' in
        sigma; None for fewer than 400 px.
    """
    values = residual[quiet]
    if values.size < LEAST:
        return None
    edges = np.arange(-REACH, REACH + STEP / 2, STEP)
    counts, _ = np.histogram(np.clip(values, -REACH, REACH), edges)
    return {
        'edges': edges.tolist(),
        'counts': counts.tolist(),
        'pixels': int(values.size),
        'rms': float(np.sqrt(np.mean(np.square(values, dtype=float)))),
    }


def power_spectra(frames, quiet):
    """
    Average the power of frames over pieces of 64 px without sources.

    Parameters
    ----------
    frames : dict of `numpy.ndarray`, (H, W)
        Frames without their level, in sigma.
    quiet : `numpy.ndarray`, (H, W), bool
        The pixels without sources; the others count as 0.

    Returns
    -------
    spectra : dict or None
        'frequency' in cycles per px, the power of each frame by its name (1 is that of white noise
        of one sigma), 'pieces'; None where fewer than 8 pieces are free of sources.
    """
    places = _places(quiet)
    if len(places) < FEWEST:
        return None
    taper = np.hanning(WINDOW + 2)[1:-1]
    taper = np.outer(taper, taper)
    power = {name: np.zeros((WINDOW, WINDOW // 2 + 1)) for name in frames}
    for y, x in places:
        at = slice(y, y + WINDOW), slice(x, x + WINDOW)
        weight = taper * quiet[at]
        for name, frame in frames.items():
            piece = np.where(quiet[at], frame[at], 0).astype(float)
            piece = (piece - np.sum(piece * weight) / np.sum(weight)) * weight
            power[name] += np.abs(np.fft.rfft2(piece)) ** 2 / np.sum(weight**2)
    means = {name: _radial(part / len(places)) for name, part in power.items()}
    return {'frequency': _centres(), **means, 'pieces': len(places)}


def _places(quiet):
    """Corners of the pieces that are used, spread over the frame."""
    corners = [
        (y, x)
        for y in range(0, quiet.shape[0] - WINDOW + 1, WINDOW)
        for x in range(0, quiet.shape[1] - WINDOW + 1, WINDOW)
    ]
    shares = np.array([np.mean(quiet[y : y + WINDOW, x : x + WINDOW]) for y, x in corners])
    for least in QUIET:
        used = [corner for corner, share in zip(corners, shares, strict=True) if share >= least]
        if len(used) >= FEWEST:
            break
    step = max(1, len(used) / WINDOWS)
    return [used[int(i * step)] for i in range(min(len(used), WINDOWS))]


def noise_spectrum(correlation):
    """
    Give the power spectrum of noise that has a correlation, and none beyond its lags.

    Parameters
    ----------
    correlation : sequence of float
        At `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    power : list of float
        At the frequencies of `power_spectra`.
    """
    fy, fx = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)
    power = 1 + 2 * sum(
        rho * np.cos(2 * np.pi * (fy * dy + fx * dx))
        for (dy, dx), rho in zip(LAGS, correlation, strict=True)
    )
    return _radial(np.maximum(power, 0))


def _centres():
    return ((np.arange(FREQUENCIES) + 0.5) * 0.5 / FREQUENCIES).tolist()


def _radial(power):
    """Mean over rings of equal frequency."""
    fy, fx = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)
    number = (np.hypot(fy, fx) / 0.5 * FREQUENCIES).astype(int)
    number[0, 0] = FREQUENCIES  # the mean was taken off
    number, power = number.ravel(), power.ravel()
    inside = number < FREQUENCIES
    count = np.bincount(number[inside], minlength=FREQUENCIES)
    total = np.bincount(number[inside], power[inside], FREQUENCIES)
    return [float(v) if n else None for v, n in zip(total / np.maximum(count, 1), count,
                                                    strict=True)]  # fmt: skip


def axis_correlations(values, quiet):
    """
    Measure the autocorrelation of a frame along both axes.

    Parameters
    ----------
    values : `numpy.ndarray`, (H, W)
        In sigma.
    quiet : `numpy.ndarray`, (H, W), bool
        The pixels that count: pairs of which both do.

    Returns
    -------
    correlation : dict or None
        'lag' in px, 1 to 8, 'x' and 'y'; None for fewer than 400 px.
    """
    if np.count_nonzero(quiet) < LEAST or min(values.shape) <= LONGEST:
        return None
    values = np.where(quiet, values - np.mean(values[quiet], dtype=float), 0)
    found = {'lag': list(range(1, LONGEST + 1))}
    for name, axis in (('x', 1), ('y', 0)):
        image, where = (np.moveaxis(plane, axis, 0) for plane in (values, quiet))
        found[name] = [_at_lag(image, where, lag) for lag in found['lag']]
    return found


def _at_lag(image, where, lag):
    both = where[lag:] & where[:-lag]
    near, far = image[lag:][both].astype(float), image[:-lag][both].astype(float)
    power = np.sum(near**2) + np.sum(far**2)
    return float(2 * np.sum(near * far) / power) if power > 0 else 0.0
