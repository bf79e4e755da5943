# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A frame whose truth is known, denoised and measured: needs no input and no network."""

import dataclasses
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astrodenoise.atomic import atomic_write

__all__ = ['Measurement', 'measure', 'run_demo', 'simulate_frame']

GAIN = 1.5  # electrons per adu
READ_NOISE = 6.0  # electrons
SKY = 900.0  # electrons per pixel
FULL_WELL = 65535 * GAIN  # electrons: what a converter of 16 bits can count
SIGMA = np.sqrt(SKY + READ_NOISE**2) / GAIN  # of the sky in adu

_FILES = ('noisy.fits', 'denoised.fits', 'residual.fits', 'truth.fits', 'demo.png')
_APERTURE, _RING = 4.0, (9.0, 13.0)  # px: of the stars and of the sky around them
_BRIGHT = 50.0  # S/N in the aperture from which a star counts as bright


@dataclasses.dataclass(frozen=True)
class Measurement:
    """
    What the denoising of a frame did, measured against the truth.

    Attributes
    ----------
    sigma_before, sigma_after : float
        Root mean square error on the sky in adu.
    gain_db : float
        Ratio of the mean squared errors before and after, both in units of
        each pixel's own sigma, in dB.
    n_stars : int
        Bright stars that were measured.
    bias_before, bias_after : float
        Mean relative error of their fluxes.
    error_before, error_after : float
        Standard errors of these means.
    """

    sigma_before: float
    sigma_after: float
    gain_db: float
    n_stars: int
    bias_before: float
    bias_after: float
    error_before: float
    error_after: float


def run_demo(folder, *, shape=(768, 768), seed=0, overwrite=False, progress_bar=None):
    """
    Make a frame, denoise it, write both with a picture and measure the difference.

    Parameters
    ----------
    folder : str or `~os.PathLike`
        Where to write noisy.fits, denoised.fits, residual.fits, truth.fits and
        demo.png, the last where matplotlib is installed. The folder is made
        if its parent exists.
    shape : tuple of int, optional
        Height and width of the frame.
    seed : int, optional
        Of the scene and its noise.
    overwrite : bool, optional
        Replace files that exist.
    progress_bar : callable, optional
        Wraps the iteration over the tiles, such as `tqdm.tqdm`.

    Returns
    -------
    text : str
        What was measured.

    Raises
    ------
    FileExistsError
        If one of the files exists and ``overwrite`` is not set.
    """
    from astrodenoise import denoise

    folder = Path(folder)
    _make_room(folder, overwrite)
    noisy, truth = simulate_frame(shape, seed=seed)
    denoise(np.random.default_rng(seed).normal(size=(64, 64)))  # loads the network, untimed
    start = time.perf_counter()
    clean = denoise(noisy, progress_bar=progress_bar)
    seconds = time.perf_counter() - start
    result = measure(noisy.data, clean.data, truth)

    _write_fits(folder / 'noisy.fits', noisy.data, noisy.meta, overwrite)
    _write_fits(folder / 'denoised.fits', clean.data, clean.meta, overwrite)
    _write_fits(folder / 'residual.fits', noisy.data - clean.data, noisy.meta, overwrite)
    _write_fits(folder / 'truth.fits', truth, noisy.meta, overwrite)
    has_picture = _write_picture(folder / 'demo.png', noisy, clean, result, overwrite)
    text = _text(result, shape, seconds, folder)
    if not has_picture:
        text += '\n        demo.png needs matplotlib: pip install matplotlib'
    return text


def simulate_frame(shape, *, seed):
    """
    Simulate a calibrated exposure of a CCD.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    seed : int
        Of the scene and its noise.

    Returns
    -------
    noisy : `~astropy.nddata.CCDData`
        The exposure in adu, float32, with world coordinates in its header.
    truth : `~numpy.ndarray`, float32
        The same without noise, in adu.
    """
    from astrodenoise.training.scenes import draw_scene

    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, shape, 'galaxy') + draw_scene(rng, shape, 'nebula')
    electrons = np.clip(SKY + scene.astype(float) * SIGMA * GAIN, 0, FULL_WELL)
    counts = rng.poisson(electrons) + rng.normal(0, READ_NOISE, shape)
    adu = np.clip(np.rint(counts / GAIN), None, FULL_WELL / GAIN)
    noisy = CCDData(adu.astype(np.float32), unit=u.adu, meta=_header(shape))
    return noisy, (electrons / GAIN).astype(np.float32)


def _header(shape):
    """Make the header of the exposure."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = 'RA---TAN', 'DEC--TAN'
    wcs.wcs.crpix = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    wcs.wcs.crval = 202.4696, 47.1953
    wcs.wcs.cdelt = -1 / 3600, 1 / 3600
    header = fits.Header([('OBJECT', 'simulated field'), ('BUNIT', 'adu')])
    header.update(wcs.to_header())
    header['GAIN'] = (GAIN, 'electron/adu')
    header['RDNOISE'] = (READ_NOISE, 'electron')
    return header


def measure(noisy, clean, truth):
    """
    Measure what denoising did to a simulated frame.

    Parameters
    ----------
    noisy, clean, truth : `~numpy.ndarray`, (H, W)
        The frame before and after, and without noise, in adu.

    Returns
    -------
    result : `Measurement`
        The figures.
    """
    sigma = np.sqrt(np.maximum(truth, 0) / GAIN + (READ_NOISE / GAIN) ** 2)
    before, after = (np.asarray(frame, dtype=float) - truth for frame in (noisy, clean))
    # The darkest tenth is sky in any scene, whatever fills the rest of it.
    sky = truth <= np.percentile(truth, 10)
    unsaturated = truth < FULL_WELL / GAIN
    squares = [np.mean((error / sigma)[unsaturated] ** 2) for error in (before, after)]
    positions = _bright_stars(truth)
    reference = _fluxes(truth, positions)
    errors = [_fluxes(frame, positions) / reference - 1 for frame in (noisy, clean)]
    n_stars = len(positions)
    return Measurement(
        sigma_before=_rms(before[sky]),
        sigma_after=_rms(after[sky]),
        gain_db=float(10 * np.log10(squares[0] / squares[1])),
        n_stars=n_stars,
        bias_before=_mean(errors[0]),
        bias_after=_mean(errors[1]),
        error_before=_standard_error(errors[0]),
        error_after=_standard_error(errors[1]),
    )


def _rms(values):
    return float(np.sqrt(np.mean(values**2)))


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _standard_error(values):
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _bright_stars(truth):
    """Find stars that are bright, not saturated and whole within the frame: (N, 2) as x, y."""
    from photutils.detection import find_peaks

    threshold = SKY / GAIN + 3 * SIGMA
    peaks = find_peaks(truth, threshold, box_size=11, border_width=int(_RING[1]) + 1)
    if peaks is None:
        return np.empty((0, 2))
    peaks = peaks[peaks['peak_value'] < 0.9 * FULL_WELL / GAIN]
    positions = np.transpose([peaks['x_peak'], peaks['y_peak']])
    flux = _fluxes(truth, positions)
    noise = np.sqrt(np.maximum(flux, 0) / GAIN + np.pi * _APERTURE**2 * SIGMA**2)
    return positions[flux > _BRIGHT * noise]


def _fluxes(frame, positions):
    """Sum a frame over the stars' apertures, less the sky around them."""
    from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

    if not len(positions):
        return np.empty(0)
    stars, rings = CircularAperture(positions, _APERTURE), CircularAnnulus(positions, *_RING)
    sums = [
        np.asarray(aperture_photometry(frame, aperture)['aperture_sum'], dtype=float)
        for aperture in (stars, rings)
    ]
    return sums[0] - sums[1] * (stars.area / rings.area)


def _text(result, shape, seconds, folder):
    """Put what was measured into words."""
    megapixels = shape[0] * shape[1] / 1e6
    bias_before, error_before, bias_after, error_after = (
        f'{100 * value:.2f} %'
        for value in (
            result.bias_before,
            result.error_before,
            result.bias_after,
            result.error_after,
        )
    )
    return '\n'.join(
        [
            f'frame   {shape[1]} x {shape[0]} px, {GAIN} e/adu, read noise {READ_NOISE:g} e, '
            f'sky {SKY:g} e',
            f'sky     rms error {result.sigma_before:.2f} adu before, '
            f'{result.sigma_after:.2f} adu after',
            f'frame   {result.gain_db:.1f} dB less noise (mean squared error in units of sigma)',
            f'stars   {result.n_stars} with S/N above {_BRIGHT:g}, mean error of the flux: '
            f'{bias_before} +- {error_before} before, {bias_after} +- {error_after} after',
            f'time    {seconds:.2f} s, {megapixels / seconds:.2f} Mpx/s',
            f'files   {", ".join(_FILES)} in {folder}',
        ]
    )


def _make_room(folder, overwrite):
    """Make the folder, and refuse to replace files before any work is done."""
    folder.mkdir(exist_ok=True)
    for name in _FILES:
        if (folder / name).exists() and not overwrite:
            msg = f'{folder / name}: the file exists; give --overwrite to replace it'
            raise FileExistsError(msg)


def _write_picture(path, noisy, clean, result, overwrite):
    """Write the panels at one pixel per pixel; False without matplotlib, which is optional."""
    from astrodenoise.plotting import compare

    titles = [
        f'noisy: sigma {result.sigma_before:.1f} adu',
        f'denoised: {result.gain_db:.1f} dB less noise',
        'residual, ±4 sigma',
    ]
    try:
        figure = compare(noisy, clean, sigma=SIGMA, titles=titles)
    except ImportError:
        return False
    with atomic_write(path, overwrite=overwrite) as handle:
        figure.savefig(handle, format='png')
    return True


def _write_fits(path, data, header, overwrite):
    file = BytesIO()  # astropy tells a full disk in many words, and of no file
    fits.PrimaryHDU(data, header).writeto(file)
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.write(file.getbuffer())
