# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Star fields with places of their own, for tests of reports."""

import numpy as np

from astrodenoise.measures.detections import moffat

SKY, SIGMA, FWHM = 500.0, 10.0, 2.8
PSF = moffat(FWHM)
HALF = len(PSF) // 2
STEP = 32  # px between stars


def star(snr, *, sigma=SIGMA):
    """Draw a star of a matched-filter S/N."""
    return PSF * snr * sigma / np.sqrt(np.sum(PSF**2))


def add_star(frame, x, y, snr):
    """Put a star into a frame."""
    frame[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1] += star(snr)


def star_field(shape=(256, 256)):
    """
    Make a frame without noise, with stars of S/N 10 to 1000 on a grid.

    Returns
    -------
    scene : `numpy.ndarray`, (H, W)
        On a level of 500.
    stars : list of (int, int, float)
        x, y and S/N of each.
    """
    scene = np.full(shape, SKY)
    places = [
        (x, y) for y in range(16, shape[0], STEP) for x in range(16, shape[1], STEP)
    ]  # fmt: skip
    snrs = np.random.default_rng(3).permutation(np.geomspace(10, 1000, len(places)))
    for (x, y), snr in zip(places, snrs, strict=True):
        add_star(scene, x, y, snr)
    return scene, [(x, y, float(snr)) for (x, y), snr in zip(places, snrs, strict=True)]


def noisy_field(shape=(256, 256), seed=0):
    """
    The same with noise of sigma 10.

    Returns
    -------
    noisy, scene : `numpy.ndarray`, (H, W)
        With noise and without.
    stars : list of (int, int, float)
        As `star_field` gives them.
    """
    scene, stars = star_field(shape)
    noise = np.random.default_rng(seed).normal(0, SIGMA, shape)
    return scene + noise, scene, stars
