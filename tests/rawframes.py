# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Raw frames of a simulated camera in a folder, for the pipelines of the tests and of the docs."""

import numpy as np
from astropy.io import fits

SHAPE = (160, 160)
GAIN, READ_NOISE = 1.5, 6.0  # electrons per adu, electrons
BIAS_LEVEL, DARK_CURRENT, EXPOSURE = 300.0, 0.1, 60.0  # adu, electrons per second, seconds
SKY, FWHM = 400.0, 2.8  # electrons per pixel and exposure, px
DITHERS = ((0, 0), (3, -2), (-4, 1), (2, 5), (-1, -3))  # px, rows and columns


def star_positions():
    """Give the rows and columns of the stars in the first light, px."""
    rng = np.random.default_rng(3)
    at = np.arange(20, SHAPE[0] - 12, 20)
    return np.array([(y, x) for y in at for x in at]) + rng.uniform(-3, 3, (at.size**2, 2))


def star_fluxes():
    """Give their electrons in one exposure: S/N 2 to 150 each."""
    n = len(star_positions())
    return np.random.default_rng(4).permutation(np.geomspace(300, 30_000, n))


def star_light(dither=(0, 0)):
    """Give the noiseless stars of one exposure in electrons."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    variance = (FWHM / 2.3548) ** 2
    light = np.zeros(SHAPE)
    for (row, column), flux in zip(star_positions() + dither, star_fluxes(), strict=True):
        distance = (y - row) ** 2 + (x - column) ** 2
        light += flux * np.exp(-distance / (2 * variance)) / (2 * np.pi * variance)
    return light


def detector(rng):
    """Give what a camera does to light: response, dark current per second, bias level."""
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    response = (1 - 0.15 * (x**2 + y**2)) * rng.normal(1, 0.01, SHAPE)
    response /= response.mean()
    dark = np.full(SHAPE, DARK_CURRENT)
    hot = rng.integers(0, SHAPE[0], (2, 40))
    dark[hot[0], hot[1]] += rng.uniform(1, 20, hot.shape[1])
    return response, dark, BIAS_LEVEL + 4 * y


def cosmic_rays(rng):
    """Give the electrons of some hits of one or two pixels."""
    hits = np.zeros(SHAPE)
    for row, column in rng.integers(2, SHAPE[0] - 2, (12, 2)):
        hits[row, column] = rng.uniform(2000, 8000)
        hits[row + 1, column] = hits[row, column] * rng.uniform(0, 0.5)
    return hits


def write_raw_frames(folder, *, seed=1, n_calibration=8):
    """
    Write biases, darks, flats and five dithered lights of a star field.

    Parameters
    ----------
    folder : `pathlib.Path`
        An existing folder.
    seed : int, optional
        Of the camera and its noise.
    n_calibration : int, optional
        How many biases, darks and flats there are.
    """
    rng = np.random.default_rng(seed)
    response, dark, bias = detector(rng)

    def write(kind, number, light, seconds, **cards):
        electrons = rng.poisson(light * response + dark * seconds).astype(float)
        electrons += rng.normal(0, READ_NOISE, SHAPE)
        if kind == 'light':
            electrons += cosmic_rays(rng)
        raw = np.clip(np.round(electrons / GAIN + bias), 0, 65535).astype(np.uint16)
        header = fits.Header([('IMAGETYP', kind), ('EXPTIME', seconds), ('OBJECT', 'field')])
        header.update(cards)
        fits.writeto(folder / f'{kind}_{number}.fits', raw, header)

    for number in range(n_calibration):
        write('bias', number, np.zeros(SHAPE), 0.0)
        write('dark', number, np.zeros(SHAPE), EXPOSURE)
        write('flat', number, np.full(SHAPE, 40_000.0), 1.0)
    for number, dither in enumerate(DITHERS):
        light = SKY + star_light(dither)
        write('light', number, light, EXPOSURE, DITHERY=dither[0], DITHERX=dither[1])
