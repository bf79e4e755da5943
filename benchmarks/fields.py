# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Fields and noises for `bounds.py`: they share no code with what makes training scenes.

Fields are in units of sigma, without sky; noises have an rms of 1 unless they say otherwise.
"""

import galsim
import numpy as np
import scenes
from scipy import ndimage

__all__ = [
    'BANDS', 'FIELD_SNR', 'SIZE', 'blank_noises', 'draw_psf', 'drizzled', 'posterior_correlation',
    'posterior_mean', 'random', 'stacked', 'star_field', 'walking',
]

SIZE = 1024  # px, side of a field
FWHM = (2.2, 4.0)  # px
FIELD_SNR = (2.0, 400.0)  # matched-filter S/N of stars, log-uniform
SKY_LEVELS = (2.0, 20.0, 2000.0)  # electrons of Poisson noise
BANDS = 0.2  # sigma rms of the offsets of rows


def random(*words):
    """
    Make a source of chance.

    Parameters
    ----------
    *words : int
        What it is for.

    Returns
    -------
    rng : `numpy.random.Generator`
        The same for the same words.
    """
    return np.random.default_rng([0xB0D5, *words])


def draw_psf(rng):
    """
    Draw a PSF.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.

    Returns
    -------
    psf : `galsim.GSObject`
        Of flux 1.
    fwhm, unit : float
        FWHM in px, and the matched-filter S/N of flux 1 in white noise of sigma 1.
    """
    fwhm = float(rng.uniform(*FWHM))
    psf = galsim.Moffat(beta=scenes.BETA, fwhm=fwhm).shear(g1=0.0, g2=0.0)
    stamp = psf.drawImage(nx=41, ny=41, scale=1.0, method='no_pixel').array
    return psf, fwhm, float(np.sqrt(np.sum(stamp**2)))


def star_field(rng, density, *, snr=FIELD_SNR, size=SIZE, placed=None):
    """
    Draw a field of stars.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    density : float
        Stars per Mpx.
    snr : tuple of float, optional
        Range of matched-filter S/N, log-uniform.
    size : int, optional
        Side in px.
    placed : float, optional
        Distance in px of a grid with jitter, instead of random places.

    Returns
    -------
    truth : `numpy.ndarray`, (size, size)
        In sigma, without sky.
    stars : `numpy.ndarray`, (n, 2)
        x, y in px.
    strength : `numpy.ndarray`, (n,)
        Matched-filter S/N.
    fwhm : float
        In px.
    """
    psf, fwhm, unit = draw_psf(rng)
    if placed:
        line = np.arange(placed, size - placed, placed)
        places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        places = places + rng.uniform(-0.5, 0.5, places.shape)
    else:
        places = rng.uniform(0, size - 1, (rng.poisson(density * size**2 / 1e6), 2))
    strength = np.exp(rng.uniform(*np.log(snr), len(places)))
    stars = [(*place, value / unit) for place, value in zip(places, strength, strict=True)]
    return scenes.star_light(size, psf, stars), places, strength, fwhm


def posterior_mean(density, low, high, *, fwhm=2.8, n=400):
    """
    Give the share of a source's flux that the exact posterior mean keeps, by calculation.

    One source in a patch of one over the density, Gaussian PSF, white noise, position unknown, S/N
    log-uniform over `FIELD_SNR`: the median of the mean's matched filter at the true place over
    the source's.

    Parameters
    ----------
    density : float
        Sources per Mpx.
    low, high : float
        Range of the S/N.
    fwhm : float, optional
        In px.
    n : int, optional
        Draws.

    Returns
    -------
    share : float
        1 where nothing is lost.
    """
    rng, width = random(9, int(density)), fwhm / 2.3548
    half = int(np.sqrt(1e6 / density) / 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    overlap = np.exp(-(y**2 + x**2) / (4 * width**2))  # of two images of a source
    strengths = np.exp(np.linspace(*np.log(FIELD_SNR), 40))
    # whitened matched filter: noise correlated as the overlap itself
    spectrum = np.sqrt(np.maximum(np.fft.rfft2(np.fft.ifftshift(overlap)).real, 0))
    kept = []
    for _ in range(n):
        snr = rng.uniform(low, high)
        noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=y.shape)) * spectrum, y.shape)
        seen = snr * overlap + noise
        logs = seen[None] * strengths[:, None, None] - 0.5 * strengths[:, None, None] ** 2
        weight = np.exp(logs - logs.max())
        weight /= weight.sum()
        mean = np.sum(weight * strengths[:, None, None] * overlap)
        kept.append(mean / snr)
    return float(np.median(kept))


def posterior_correlation(density, *, fwhm=2.8, n=400):
    """
    Give the correlation of residual and output that the exact posterior mean has on blank sky.

    White noise and no star in a patch of one over the density, where one of S/N log-uniform over
    `FIELD_SNR` is as likely as none, anywhere in it, with a Gaussian PSF.

    Parameters
    ----------
    density : float
        Sources per Mpx that are expected.
    fwhm : float, optional
        In px.
    n : int, optional
        Draws.

    Returns
    -------
    correlation : float
        Of (noisy - output) with the output, about zero.
    """
    rng, side = random(15, int(density)), int(np.sqrt(1e6 / density))
    y, x = (np.minimum(part, side - part) for part in np.indices((side, side)))
    psf = np.exp(-(y**2 + x**2) / (2 * (fwhm / 2.3548) ** 2))
    spectrum = np.fft.rfft2(psf / np.sqrt(np.sum(psf**2)))
    strengths = np.exp(np.linspace(*np.log(FIELD_SNR), 40))[:, None, None]
    sums = np.zeros(3)
    for _ in range(n):
        noise = rng.normal(size=psf.shape)
        seen = np.fft.irfft2(np.fft.rfft2(noise) * spectrum, psf.shape)
        weight = np.exp(seen * strengths - 0.5 * strengths**2) / (strengths.size * seen.size)
        expected = np.sum(weight * strengths, axis=0) / (1 + weight.sum())
        mean = np.fft.irfft2(np.fft.rfft2(expected) * spectrum, psf.shape)
        residual = noise - mean
        sums += np.sum(residual * mean), np.sum(residual**2), np.sum(mean**2)
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def stacked(rng, shape):
    """
    Draw the noise of four exposures that were shifted, or debayered and shifted, and averaged.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    shape : tuple of int
        Of the frame.

    Returns
    -------
    noise : `numpy.ndarray`, (H, W)
        Of rms 1.
    """
    mosaic, order = rng.random() < 0.5, int(rng.choice([1, 3]))
    grid, total = np.indices(shape), np.zeros(shape)
    for _ in range(4):
        white = rng.normal(size=shape)
        if mosaic:  # green: every other pixel, the others are the mean of their neighbours
            white *= (grid[0] + grid[1]) % 2
            white = ndimage.correlate(white, [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]],
                                      mode='wrap')
        total += ndimage.shift(white, rng.uniform(0, 1, 2), order=order, mode='grid-wrap')
    return total / total.std()


def drizzled(rng, shape):
    """
    Draw the noise of six exposures of a coarser camera, drizzled to pixels of half the size.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    shape : tuple of int
        Of the frame.

    Returns
    -------
    noise : `numpy.ndarray`, (H, W)
        Of rms 1.
    """
    total = np.zeros(shape)
    for _ in range(6):
        coarse = rng.normal(size=tuple(n // 2 + 1 for n in shape))
        fine = np.kron(coarse, np.ones((2, 2)))[: shape[0], : shape[1]]
        total += ndimage.shift(fine, rng.uniform(0, 2, 2), order=1, mode='grid-wrap')
    return total / total.std()


def walking(rng, shape):
    """
    Draw what hot pixels leave in a stack of 40 exposures that drifted.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of chance.
    shape : tuple of int
        Of the frame.

    Returns
    -------
    noise : `numpy.ndarray`, (H, W)
        Of rms 1.
    """
    fixed = np.where(rng.random(shape) < 0.01, rng.exponential(5, shape), 0)
    fixed = fixed * rng.choice([-1, 1], shape) + 0.2 * rng.normal(size=shape)
    step, total = rng.uniform(-1, 1, 2), np.zeros(shape)
    for number in range(40):
        total += np.roll(fixed, np.round(number * step).astype(int), (0, 1))
    return total / total.std()


def blank_noises():
    """
    Name the noises of a blank sky.

    Returns
    -------
    noises : dict
        Name to a function of a source of chance and a shape that gives a frame whose sky is 0.
    """
    def poisson(level):
        return lambda rng, shape: rng.poisson(level, shape) - level

    return {
        'white': lambda rng, shape: rng.normal(size=shape),
        **{f'Poisson of {level:g} electrons': poisson(level) for level in SKY_LEVELS},
        'shifted or debayered': stacked,
        'drizzled': drizzled,
        'banded': lambda rng, shape: (rng.normal(size=shape)
                                      + BANDS * rng.normal(size=(shape[0], 1))),
        'walking': lambda rng, shape: rng.normal(size=shape) + BANDS * walking(rng, shape),
    }
