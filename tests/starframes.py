# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames of stars whose light is known, for the tests of sources and checks."""

import numpy as np

from astrodenoise.psfmodel import StarImage

STAR = StarImage(2.8, 3.0)
LEVEL, GAIN = 400.0, 4.0


def put(image, star, y, x, peak_snr):
    """Add a star of a matched-filter S/N in noise of 1, cut at the border."""
    stamp = star.stamp(y - round(y), x - round(x))
    light = peak_snr * stamp / np.sqrt(np.sum(stamp**2))
    top, left = round(y) - star.half, round(x) - star.half
    rows, cols = (
        slice(max(at, 0), min(at + len(stamp), n))
        for at, n in zip((top, left), image.shape, strict=True)
    )
    image[rows, cols] += light[
        rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
    ]


def star_field(rng, shape=(400, 480), star=STAR, n=60):
    """Stars over a wide range of brightness, without noise."""
    image = np.zeros(shape)
    places = np.column_stack([rng.uniform(15, side - 15, n) for side in shape])
    for (y, x), snr in zip(places, np.minimum(8 * rng.random(n) ** -1.4, 600), strict=True):
        put(image, star, y, x, snr)
    return image


def noisy_frame(seed, shape, *, bright=False):
    """Stars and a nebula with Poisson noise, sigma 10 on the sky; with a bright star."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = star_field(rng, shape, n=max(8, shape[0] * shape[1] // 3200))
    if bright:
        light += 20 * np.exp(-0.5 * ((y - 80) ** 2 + (x - 250) ** 2) / 40**2)
        put(light, STAR, 230, 90, 3000)
    electrons = GAIN * (LEVEL + 10 * light)
    return (rng.poisson(electrons) / GAIN).astype(np.float32)
