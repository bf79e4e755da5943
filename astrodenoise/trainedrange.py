# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Whether a frame is of the kind that the weights were trained on."""

import numpy as np

from astrodenoise.errormap import neighbour_correlation

__all__ = ['frame_range', 'outside', 'star_fwhm']

SAMPLE = 512  # px, side of the piece in which stars are measured
BRIGHT = 30.0  # matched-filter S/N of the stars that tell the FWHM
FEWEST = 5  # stars, below which nothing is said
NAMES = {  # key of a card's trained range -> what a user calls it
    'fwhm': 'the FWHM of stars in px',
    'correlation': 'the correlation of neighbouring pixels',
    'sigma_per_step': "the noise over the step of the data's values",
    'level': 'the level of extended light in sigma',
    'masked': 'the share of pixels that are left out',
}


def star_fwhm(plane):
    """
    Measure the FWHM of a plane's bright stars in its middle.

    Parameters
    ----------
    plane : `astrodenoise.features.NormalisedPlane`
        The plane.

    Returns
    -------
    fwhm : float
        In px; NaN where fewer than 5 stars tell it.
    """
    from astrodenoise.measures.detections import find_stars  # imports half of scipy

    rows, columns = (
        np.arange(max(0, (n - SAMPLE) // 2), min(n, (n + SAMPLE) // 2)) for n in plane.data.shape
    )
    if min(rows.size, columns.size) < 64:
        return np.nan
    contrast = np.sinh(plane.cut(rows, columns)[0].astype(float))
    valid = plane.valid[np.ix_(rows, columns)]
    y, _, fwhm = find_stars(contrast, 1.0, threshold=BRIGHT, valid=valid)
    return fwhm if len(y) >= FEWEST else np.nan


def frame_range(known, planes):
    """
    Measure what a card's trained range speaks of.

    Parameters
    ----------
    known : list of `astrodenoise.known.Known`
        What is known of the planes that are denoised together.
    planes : list of `astrodenoise.features.NormalisedPlane`
        Their middles, or the whole planes.

    Returns
    -------
    found : dict of str to `numpy.ndarray`
        Key of the range to the values of the planes; what cannot be told is left out.
    """
    pairs = [pair for pair in zip(known, planes, strict=True) if not pair[0].missing]
    if not pairs:
        return {}
    noises = [one.noise for one, _ in pairs]
    found = {
        'fwhm': np.array([star_fwhm(plane) for _, plane in pairs]),
        'correlation': np.array([neighbour_correlation(noise.correlation) for noise in noises]),
        'sigma_per_step': np.array([noise.sigma / noise.step for noise in noises if noise.step]),
        'level': np.array([one.light / one.noise.sigma for one, _ in pairs]),
        'masked': np.array([one.counts['invalid'] / one.n_pixels for one, _ in pairs]),
    }
    return {key: values[np.isfinite(values)] for key, values in found.items()}


def outside(trained, known, planes):
    """
    Name what of a frame lies outside the trained range.

    Parameters
    ----------
    trained : dict or None
        Key to [low, high] of the weights' card, None for no bound.
    known, planes : list
        As for `frame_range`.

    Returns
    -------
    outside : list of str
        Such as 'the FWHM of stars in px is 12.3, trained were 1.3 to 8'.
    """
    if not trained:
        return []
    texts = []
    for key, values in frame_range(known, planes).items():
        low, high = trained.get(key, (None, None))
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        wrong = values[(values < low) | (values > high)]
        if wrong.size:
            texts.append(f'{NAMES[key]} is {wrong[0]:.3g}, trained were {_span(low, high)}')
    return texts


def _span(low, high):
    if np.isinf(low):
        return f'at most {high:g}'
    return f'at least {low:g}' if np.isinf(high) else f'{low:g} to {high:g}'
