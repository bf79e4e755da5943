# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Simulated frames that the tutorials start from, with what is really there."""

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.wcs import WCS

GAIN, READ_NOISE = 1.5, 6.0  # electrons per adu, electrons
BIAS, DARK_CURRENT = 300.0, 0.05  # adu, electrons per second
EXPOSURE, SKY = 120.0, 350.0  # seconds, electrons per pixel
FWHM = 3.0  # px


def moffat(shape, table, *, fwhm=FWHM, beta=3.0):
    """Give the light of the stars of a table with the columns x, y and flux."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = np.zeros(shape)
    for star in table:
        r2 = (y - star['y']) ** 2 + (x - star['x']) ** 2
        light += star['flux'] * (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta
    return light


def star_table(rng, shape, n_stars, *, faintest, brightest):
    """Draw stars at places of their own, at least 10 px apart, fluxes even in the logarithm."""
    places = []
    while len(places) < n_stars:
        place = rng.uniform(12, np.array(shape) - 12)
        if all(np.hypot(*(place - other)) > 10 for other in places):
            places.append(place)
    y, x = np.transpose(places)
    return Table({'x': x, 'y': y, 'flux': np.geomspace(faintest, brightest, n_stars)})


def write_night(folder, *, shape=(320, 320), n_lights=6, n_stars=200, seed=1):
    """Write biases, darks, flats and dithered lights of one field; give the table of its stars."""
    rng = np.random.default_rng(seed)
    stars = star_table(rng, shape, n_stars, faintest=150, brightest=6_000)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    response = (1 - 0.1 * (x**2 + y**2)) * rng.normal(1, 0.01, shape)
    response /= response.mean()
    dark = np.full(shape, DARK_CURRENT)
    dark[tuple(rng.integers(0, shape[0], (2, 150)))] += rng.uniform(1, 15, 150)

    def write(name, kind, light, seconds, **cards):
        electrons = rng.poisson(light * response + dark * seconds)
        electrons = electrons + rng.normal(0, READ_NOISE, shape)
        header = fits.Header([('IMAGETYP', kind), ('EXPTIME', seconds), ('OBJECT', 'field')])
        header['GAIN'], header['RDNOISE'] = (GAIN, 'electron/adu'), (READ_NOISE, 'electron')
        header.update(cards)
        raw = np.clip(np.round(electrons / GAIN + BIAS), 0, 65535).astype(np.uint16)
        fits.writeto(folder / name, raw, header)

    for i in range(8):
        write(f'bias{i}.fits', 'bias', 0.0, 0.0)
        write(f'dark{i}.fits', 'dark', 0.0, EXPOSURE)
        write(f'flat{i}.fits', 'flat', 40_000.0, 3.0)
    for i in range(n_lights):
        dither = rng.integers(-5, 6, 2) if i else np.zeros(2, int)
        moved = stars.copy()
        moved['y'] += dither[0]
        moved['x'] += dither[1]
        light = SKY + moffat(shape, moved)
        write(f'light{i}.fits', 'light', light, EXPOSURE, DITHERY=dither[0], DITHERX=dither[1])
    return stars


def colour_stack(*, shape=(384, 512), seed=9, n_exposures=20):
    """
    Give the stack of a one-shot-colour camera and the same without noise.

    Debayering, registration and stacking are done to the noise, which is therefore correlated, and
    the light of a town colours the sky.
    """
    import torch

    from astrodenoise.training.camera import stacked_noise
    from astrodenoise.training.scenes import draw_scene

    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    scene = 1.2 * draw_scene(rng, shape, 'nebula', n_planes=3)
    sky = np.array([320.0, 260.0, 180.0])[:, None, None] / 20
    sigma = np.array([1.2, 0.8, 1.1])[:, None, None]  # two greens, one red, one blue
    truth = scene + sky
    noise = [
        np.asarray(stacked_noise(rng, generator, shape, plane=plane)) for plane in range(3)
    ]
    noisy = truth + sigma * np.stack(noise) * np.sqrt(1 + np.clip(scene, 0, None) / 60)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.crval = 312.75, 44.37
    wcs.wcs.cdelt = -2 / 3600, 2 / 3600
    header = wcs.to_header()
    header['OBJECT'], header['STACKCNT'] = 'nebula', n_exposures
    stack = CCDData((20 * noisy).astype(np.float32), unit=u.adu, meta=header)
    return stack, (20 * truth).astype(np.float32)


def write_exposures(folder, *, shape=(320, 320), n_exposures=6, seed=11):
    """
    Write dithered exposures of a camera whose electronics hum; give the field without noise.

    The hum is a wave along the rows, as strong as the noise of a pixel, of a new phase in every
    row.
    """
    rng = np.random.default_rng(seed)
    large = shape[0] + 40, shape[1] + 40
    stars = star_table(rng, large, 160, faintest=200, brightest=40_000)
    light = SKY + moffat(large, stars)
    sigma = np.sqrt(SKY + READ_NOISE**2)
    fields = []
    for i in range(n_exposures):
        y, x = 20 + 7 * i % 20, 20 - 9 * i % 20
        scene = light[y : y + shape[0], x : x + shape[1]]
        phase = rng.uniform(0, 2 * np.pi, (shape[0], 1))
        hum = np.sqrt(2) * sigma * np.sin(2 * np.pi * np.arange(shape[1]) / 5.3 + phase)
        frame = rng.poisson(scene) + rng.normal(0, READ_NOISE, shape) + hum
        header = fits.Header([('IMAGETYP', 'light'), ('EXPTIME', EXPOSURE), ('BUNIT', 'electron')])
        fits.writeto(folder / f'exposure{i}.fits', frame.astype(np.float32), header)
        fields.append(scene)
    return fields
