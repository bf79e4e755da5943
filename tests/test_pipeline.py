# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""`denoise` as a step of ccdproc: raw frames of a simulated camera to a catalogue."""

import warnings
from collections.abc import Mapping

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from photutils.aperture import CircularAperture, aperture_photometry
from photutils.segmentation import SourceCatalog, detect_sources
from rawframes import GAIN, READ_NOISE, star_fluxes, star_light, star_positions, write_raw_frames
from scipy import ndimage

from astrodenoise import denoise, measure_noise, read_provenance
from astrodenoise.exceptions import AlreadyDenoisedWarning, NoiseMismatchWarning
from astrodenoise.provenance import is_denoised

EDGE = 8  # px, what dithers leave uncovered in some exposures


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
    """Give the folder of the raw frames as a collection."""
    folder = tmp_path_factory.mktemp('raw')
    write_raw_frames(folder)
    return ccdproc.ImageFileCollection(folder)


def frames_of(collection, kind):
    return collection.ccds(imagetyp=kind, ccd_kwargs={'unit': 'adu'})


def moved(plane, shift):
    """Shift by whole pixels; beyond the edge a mask is set."""
    return ndimage.shift(plane, shift, order=0, cval=plane.dtype == bool)


@pytest.fixture(scope='module')
def calibration(raw):
    """Give bias, dark and flat."""
    bias = ccdproc.combine(frames_of(raw, 'bias'), method='average')
    darks = [ccdproc.subtract_bias(ccd, bias) for ccd in frames_of(raw, 'dark')]
    dark = ccdproc.combine(darks, method='median')
    flats = [ccdproc.subtract_bias(ccd, bias) for ccd in frames_of(raw, 'flat')]
    flat = ccdproc.combine(flats, method='average', scale=lambda image: 1 / np.median(image))
    return bias, dark, flat


@pytest.fixture(scope='module')
def registered(raw, calibration):
    """Give the calibrated lights without cosmic rays on the grid of the first."""
    bias, dark, flat = calibration
    lights = []
    for light in frames_of(raw, 'light'):
        ccd = ccdproc.subtract_bias(light, bias)
        ccd = ccdproc.subtract_dark(ccd, dark, exposure_time='EXPTIME', exposure_unit=u.s)
        ccd = ccdproc.flat_correct(ccd, flat)
        ccd = ccdproc.gain_correct(ccd, GAIN * u.electron / u.adu)
        ccd = ccdproc.cosmicray_lacosmic(ccd, readnoise=READ_NOISE * u.electron, sigclip=6)
        shift = -ccd.header['DITHERY'], -ccd.header['DITHERX']
        lights.append(ccdproc.transform_image(ccd, moved, shift=shift))
    return lights


@pytest.fixture(scope='module')
def combined(registered):
    return ccdproc.combine(registered, method='average')


@pytest.fixture(scope='module')
def clean(combined):
    return denoise(combined)


def fluxes(ccd, sky, positions, radius=4.0):
    apertures = CircularAperture(positions, radius)
    return np.array(aperture_photometry(ccd.data - sky, apertures)['aperture_sum'])


def test_the_denoised_frame_is_the_combined_one_with_less_noise(combined, clean):
    assert type(clean) is CCDData
    assert clean.unit == u.electron
    np.testing.assert_array_equal(clean.mask, combined.mask)
    np.testing.assert_array_equal(clean.uncertainty.array, combined.uncertainty.array)
    inner = np.s_[EDGE:-EDGE, EDGE:-EDGE]
    sky = np.median(combined.data)
    truth = sky + star_light()
    errors = [np.std((ccd.data - truth)[inner]) for ccd in (combined, clean)]
    assert errors[1] < 0.5 * errors[0]
    assert clean.data[inner].mean() == pytest.approx(combined.data[inner].mean(), rel=1e-3)


def test_the_header_tells_the_whole_reduction(combined, clean):
    keywords = [key for key in combined.header if key not in ('BZERO', 'BSCALE')]
    assert list(clean.header)[: len(keywords)] == keywords
    assert clean.header['IMAGETYP'] == 'light'
    assert {'SUBBIAS', 'SUBDARK', 'FLATCOR', 'GAINCOR'} < set(clean.header)
    assert is_denoised(clean)
    assert not is_denoised(combined)
    assert read_provenance(clean)['planes'][0]['noise'] == 'uncertainty'


def test_stars_are_found_in_the_denoised_frame_and_measured_in_the_combined(combined, clean):
    plane = measure_noise(combined).planes[0]
    found = detect_sources(clean.data, plane.sky + 1.5 * plane.sigma, 5, mask=clean.mask)
    positions = SourceCatalog(combined.data - plane.sky, found).centroid
    truth = np.flip(star_positions(), axis=1)
    distance = np.hypot(*(truth[:, None] - positions).transpose(2, 0, 1))
    assert np.count_nonzero(distance.min(axis=0) > 2) <= 1  # nothing is invented
    seen = distance.min(axis=1) < 1
    snr = star_fluxes() / (plane.sigma * np.sqrt(4 * np.pi) * 2.8 / 2.3548)
    assert seen[snr > 10].all()
    assert np.mean(seen) > 0.9
    nearest = distance.argmin(axis=1)[seen]
    measured = fluxes(combined, plane.sky, positions[nearest])
    expected = fluxes(CCDData(star_light(), unit='electron'), 0, truth[seen])
    bright = snr[seen] > 25
    np.testing.assert_allclose((measured / expected)[bright], 1, atol=0.15)
    assert np.median(measured / expected) == pytest.approx(1, abs=0.02)


def test_the_noise_of_a_combination_is_checked_and_not_believed(registered):
    combiner = ccdproc.Combiner(registered)
    average = denoise(combiner.average_combine())
    assert isinstance(average.meta, Mapping)
    assert average.meta['NCOMBINE'] == 5
    assert is_denoised(average)
    # the scatter of five values is far too small a sigma of their median
    with pytest.warns(NoiseMismatchWarning, match='the measured level is used'):
        median = denoise(combiner.median_combine())
    own = measure_noise(combiner.median_combine()).planes[0].sigma
    assert read_provenance(median)['planes'][0]['sigma'] == pytest.approx(own, rel=0.05)


@pytest.mark.parametrize('kind', ['bias', 'dark', 'flat'])
def test_calibration_frames_are_refused(raw, kind):
    for ccd in frames_of(raw, kind):
        with pytest.raises(ValueError, match=f"IMAGETYP='{kind}'.*light frame"):
            denoise(ccd)
        break


def test_a_denoised_frame_is_warned_of(combined, clean, tmp_path):
    clean.write(tmp_path / 'clean.fits')
    again = CCDData.read(tmp_path / 'clean.fits')
    with pytest.warns(AlreadyDenoisedWarning, match='denoised before'):
        twice = denoise(again, noise=1.0)
    assert len(read_provenance(twice, every=True)) == 2
    assert isinstance(twice.meta, fits.Header)


def test_a_loop_over_exposures_that_are_the_product(raw, calibration, tmp_path):
    """Give each calibrated exposure back under its name; ccds() writes nothing itself."""
    bias, _, flat = calibration
    calibrated = {}
    out = tmp_path / 'clean'
    out.mkdir()
    loop = raw.ccds(
        imagetyp='light', ccd_kwargs={'unit': 'adu'}, save_location=out, return_fname=True
    )
    for ccd, name in loop:
        calibrated[name] = ccdproc.flat_correct(ccdproc.subtract_bias(ccd, bias), flat)
        denoise(calibrated[name], noise='measure').write(out / name, overwrite=True)
    done = ccdproc.ImageFileCollection(out, keywords=['imagetyp', 'denoised', 'ditherx'])
    assert len(done.summary) == 5
    assert all(done.summary['denoised'])
    assert set(done.summary['imagetyp']) == {'light'}
    for ccd, name in done.ccds(return_fname=True):
        original = calibrated[name]
        assert ccd.data.dtype.kind == 'f'
        assert ccd.header['DITHERX'] == original.header['DITHERX']
        assert ccd.data.std() < original.data.std()
        assert np.median(ccd.data) == pytest.approx(np.median(original.data), abs=2)


def test_denoised_exposures_make_a_worse_stack(rng):
    """Nine exposures denoised one by one lose the faint stars that their stack shows."""
    truth = np.full((160, 160), 400.0)
    positions = np.array([(x, y) for y in range(16, 160, 16) for x in range(16, 160, 16)])
    for x, y in positions:
        near = np.s_[y - 8 : y + 9, x - 8 : x + 9]
        truth[near] += 45 * np.exp(-np.sum(np.mgrid[-8:9, -8:9] ** 2, axis=0) / 3)
    exposures = [rng.poisson(truth).astype(np.float32) for _ in range(9)]
    stack = np.mean(exposures, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        right = denoise(stack)
        wrong = np.mean([denoise(exposure) for exposure in exposures], axis=0)
    expected = fluxes(CCDData(truth, unit='electron'), 400, positions).mean()
    light = [
        fluxes(CCDData(image, unit='electron'), 400, positions).mean() / expected
        for image in (stack, right, wrong)
    ]
    assert light[0] == pytest.approx(1, abs=0.08)
    assert light[1] > 0.85
    assert light[2] < 0.8
    errors = [np.mean((image - truth) ** 2) for image in (stack, right, wrong)]
    assert errors[1] < 0.3 * errors[2] < errors[0]
