# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Photometry of real frames before and after: the same stars, the same apertures.

``python benchmarks/photometry.py`` denoises the raw mosaics of a star field (a DSLR, two exposures)
and a cut-out of a survey (DECam), and compares fluxes and centroids with photutils; ``--figure
FILE`` plots them.  Stars are found in the frame as it was.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tables
from astropy.io import fits
from astropy.nddata import CCDData
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture
from photutils.centroids import centroid_quadratic, centroid_sources
from photutils.detection import find_peaks
from scipy import ndimage, spatial

from astrodenoise import denoise, measure_noise
from astrodenoise.mosaic import split_mosaic

ROOT = Path(__file__).resolve().parent.parent
RADIUS, ANNULUS = 2.5, (6.0, 10.0)  # px
APART, BORDER = 8.0, 15  # px
LEAST, BRIGHT = 5.0, 20.0  # aperture S/N
FULL = 0.9  # of the brightest pixel: above it a star may be saturated


@dataclass(frozen=True)
class Field:
    """
    What was measured of one plane.

    Attributes
    ----------
    name : str
        Frame and plane.
    snr : `numpy.ndarray`, (n,)
        Aperture S/N of the stars before.
    change : `numpy.ndarray`, (n,)
        Flux after minus before, over the error of the flux before.
    percent : `numpy.ndarray`, (n,)
        The same over the flux.
    shift : `numpy.ndarray`, (n,)
        Of the centroid in px.
    """

    name: str
    snr: np.ndarray
    change: np.ndarray
    percent: np.ndarray
    shift: np.ndarray


def find_stars(image, sky, sigma):
    """
    Find isolated stars that are not saturated.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The frame.
    sky, sigma : float
        Level and noise.

    Returns
    -------
    places : `numpy.ndarray`, (n, 2)
        x, y in px.
    """
    smooth = ndimage.gaussian_filter(image - sky, 1.0)
    found = find_peaks(smooth, 1.5 * sigma, box_size=5, border_width=BORDER)
    if found is None:
        return np.empty((0, 2))
    places = np.column_stack([found['x_peak'], found['y_peak']]).astype(float)
    distance = spatial.cKDTree(places).query(places, k=2)[0][:, 1]
    x, y = places.astype(int).T
    brightest = ndimage.maximum_filter(image, 5)[y, x]
    return places[(distance > APART) & (brightest < FULL * image.max())]


def fluxes(image, places):
    """
    Measure stars in circles over the median of a ring.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The frame.
    places : `numpy.ndarray`, (n, 2)
        x, y in px.

    Returns
    -------
    flux : `numpy.ndarray`, (n,)
        In the unit of the frame.
    """
    if not len(places):
        return np.empty(0)
    circles, rings = CircularAperture(places, RADIUS), CircularAnnulus(places, *ANNULUS)
    return circles.do_photometry(image)[0] - ApertureStats(image, rings).median * circles.area


def compare(name, before, after):
    """
    Measure the stars of a frame before and after.

    Parameters
    ----------
    name : str
        Of the frame.
    before, after : `numpy.ndarray`, (H, W)
        The frame, and what was made of it.

    Returns
    -------
    field : `Field`
        Of the stars over an aperture S/N of 5.
    """
    noise = measure_noise(before).planes[0]
    places = find_stars(before, noise.sky, noise.sigma)
    old, new = fluxes(before, places), fluxes(after, places)
    error = noise.sigma * np.sqrt(np.pi) * RADIUS
    kept = old > LEAST * error
    places, old, new = places[kept], old[kept], new[kept]
    centres = [np.transpose(centroid_sources(image - noise.sky, *places.T, box_size=5,
                                             centroid_func=centroid_quadratic))
               for image in (before, after)]
    shift = np.hypot(*(centres[1] - centres[0]).T)
    return Field(name, old / error, (new - old) / error, 100 * (new - old) / old, shift)


def fields(data):
    """
    Denoise the frames and measure them.

    Parameters
    ----------
    data : `pathlib.Path`
        Folder of real frames.

    Yields
    ------
    field : `Field`
        Each plane of each frame.
    """
    for path in sorted((data / 'check' / 'real_dslr').glob('*.fits.fz')):
        frame = CCDData(np.asarray(fits.getdata(path, 1), np.float32), unit='adu')
        clean = denoise(frame, bayer='RGGB')
        planes = zip(('red', 'green 1', 'green 2', 'blue'), split_mosaic(frame.data),
                     split_mosaic(clean.data), strict=True)
        for colour, before, after in planes:
            yield compare(f'DSLR {path.name.split(".")[0]}, {colour}', before, after)
    for path in sorted((data / 'check' / 'real_decam').glob('*single_ref.fits.fz')):
        frame = np.asarray(fits.getdata(path, 1), np.float32)
        yield compare('DECam', frame, denoise(frame))


def lines_of(found):
    """
    Write the table as reStructuredText.

    Parameters
    ----------
    found : list of `Field`
        What was measured.

    Returns
    -------
    lines : list of str
        Of a simple table.
    """
    cells = [['frame', 'stars', 'change / error', 'scatter / error', 'over S/N 20', 'change %',
              'centroid px']]
    for field in found:
        bright = field.snr > BRIGHT
        middle = np.median(field.change)
        scatter = 1.4826 * np.median(abs(field.change - middle))
        error = 1.2533 * scatter / np.sqrt(len(field.change))
        percent, shift = np.median(field.percent[bright]), np.nanmedian(field.shift[bright])
        cells.append([field.name, str(len(field.snr)), f'{middle:+.2f}±{error:.2f}',
                      f'{scatter:.2f}', str(bright.sum()), f'{percent:+.2f}', f'{shift:.3f}'])
    return tables.as_rst(tables.aligned(cells))


def draw(found, path):
    """
    Plot every star.

    Parameters
    ----------
    found : list of `Field`
        What was measured.
    path : `pathlib.Path`
        Of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    snr, change = (np.concatenate([getattr(field, name) for field in found])
                   for name in ('snr', 'change'))
    left.axhspan(-1, 1, color='0.9')
    left.plot(snr, change, '.', ms=3, alpha=0.6)
    left.set(xscale='log', xlabel='aperture S/N before', ylim=(-5, 5),
             ylabel='change of the flux / its error')
    right.hist(change, np.linspace(-5, 5, 51), orientation='horizontal')
    right.set(xlabel='stars')
    FigureCanvasAgg(figure).print_png(path, metadata={'Software': None})


def main(arguments=None):
    """
    Measure, print and plot.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0, or 2 where there are no frames.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--data', type=Path, default=ROOT.parent / 'shared' / 'data',
                        help='folder of real frames')
    parser.add_argument('--figure', type=Path, help='PNG file to plot the stars to')
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of centroids that cannot be fitted: they are left out
        found = list(fields(options.data))
    if not found:
        print(f'there are no frames in {options.data}', file=sys.stderr)
        return 2
    print('\n'.join(lines_of(found)))
    if options.figure:
        draw(found, options.figure)
    return 0


if __name__ == '__main__':
    sys.exit(main())
