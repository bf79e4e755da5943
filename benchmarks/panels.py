# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Panels to look at: noisy, ours, BM3D, OIDN and our residual, pixel for pixel and three times larger.

``python benchmarks/panels.py OUT.png`` draws simulated scenes, ``--real`` real frames of the folder
``--data``.  Frames and residuals are stretched alike in a row; white in a residual is +4 sigma.
"""

import argparse
import sys
from pathlib import Path

import fidelity
import numpy as np
import peers
import scenes
import variants
from PIL import Image, ImageDraw

CROP, ZOOM, GAP, TITLE = 180, 3, 4, 18  # px
METHODS = ('noisy', 'ours (measured)', 'bm3d', 'oidn')
SIMULATED = ('stars', 'cluster', 'galaxy', 'nebula', 'faint', 'colour')
REAL = ('decam', 'm13', 'seestar', 'm51', 'picture', 'stretched')
REACH = 4.0  # sigma, of the residual


def chosen_scenes(options):
    """
    Make the scenes of the panels.

    Parameters
    ----------
    options : `argparse.Namespace`
        The command line's.

    Yields
    ------
    scene : `scenes.Scene`, `scenes.Pair` or `variants.Colour`
        One of each kind.
    """
    if not options.real:
        for kind in SIMULATED:
            make = variants.make_variant if kind in variants.KINDS else scenes.make_scene
            yield make(kind, 'mid', 0)
        return
    for kind in REAL:
        if kind in scenes.PAIR_KINDS:
            yield next(iter(scenes.real_pairs(options.data, kinds=[kind])))
        else:
            yield next(iter(scenes.real_scenes(options.data, kinds=[kind], levels=['mid'])))


def middle(image):
    """
    Find the most interesting crop of a frame: that of the most light, not at the border.

    Parameters
    ----------
    image : `numpy.ndarray`, (H, W)
        The frame.

    Returns
    -------
    window : tuple of slice
        Of ``CROP`` px.
    """
    light = np.sqrt(np.maximum(np.nan_to_num(image) - np.nanmedian(image), 0))
    sums = np.pad(light, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    boxes = (sums[CROP:, CROP:] - sums[:-CROP, CROP:] - sums[CROP:, :-CROP] + sums[:-CROP, :-CROP])
    y, x = np.unravel_index(np.argmax(boxes), boxes.shape)
    return slice(y, y + CROP), slice(x, x + CROP)


def picture(planes, black, white):
    """
    Stretch a frame to 8 bits.

    Parameters
    ----------
    planes : `numpy.ndarray`, (H, W) or (3, H, W)
        In sigma above the sky.
    black, white : float
        In sigma; between them the stretch is an asinh of softening 3 sigma.

    Returns
    -------
    grey : `numpy.ndarray`, (H, W, 3), uint8
        The picture.
    """
    planes = np.broadcast_to(planes, (3, *planes.shape[-2:]))
    low, high = np.arcsinh(np.array([black, white]) / 3)
    share = (np.arcsinh(np.nan_to_num(planes) / 3) - low) / (high - low)
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def row(scene, model):
    """
    Draw the panels of a scene.

    Parameters
    ----------
    scene : `scenes.Scene`, `scenes.Pair` or `variants.Colour`
        What is denoised.
    model : dict
        Keywords of ours.

    Returns
    -------
    panels : list of `numpy.ndarray`
        (CROP, CROP, 3) uint8: the methods and our residual.
    """
    scene, noisy = fidelity.observe(scene, None)
    results = [peers.run(name, noisy, scene.sigma, scene.gain, scene.read_noise,
                         autocorrelation=getattr(scene, 'autocorrelation', None),
                         **(model if name.startswith('ours') else {}))[0] for name in METHODS]
    sky, sigma = np.median(noisy, axis=(-2, -1), keepdims=True), np.median(scene.sigma)
    ours = (results[1] - sky) / sigma
    window = (..., *middle(ours if ours.ndim == 2 else ours.mean(0)))
    white = max(np.nanquantile(ours[window], 0.997), 12.0)
    panels = [picture(((result - sky) / sigma)[window], -2.0, white) for result in results]
    residual = ((noisy - results[1]) / scene.sigma)[window]
    grey = np.clip(127.5 + 127.5 * np.nan_to_num(residual) / REACH, 0, 255).astype(np.uint8)
    return [*panels, np.broadcast_to(grey, (3, CROP, CROP)).transpose(1, 2, 0)]


def enlarged(panel):
    """
    Enlarge the middle of a panel without smoothing.

    Parameters
    ----------
    panel : `numpy.ndarray`, (CROP, CROP, 3)
        A panel.

    Returns
    -------
    panel : `numpy.ndarray`, (CROP, CROP, 3)
        Its middle third.
    """
    start = (CROP - CROP // ZOOM) // 2
    part = panel[start : start + CROP // ZOOM, start : start + CROP // ZOOM]
    return part.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def sheet(rows):
    """
    Put panels on one sheet.

    Parameters
    ----------
    rows : list of tuple
        Title and panels of each row.

    Returns
    -------
    sheet : `PIL.Image.Image`
        Each row twice: pixel for pixel, and enlarged.
    """
    n, step = len(METHODS) + 1, CROP + GAP
    image = Image.new('RGB', (n * step - GAP, len(rows) * (2 * step + TITLE)), (20, 20, 20))
    pen = ImageDraw.Draw(image)
    for number, (title, panels) in enumerate(rows):
        top = number * (2 * step + TITLE)
        for column, panel in enumerate(panels):
            name = (*METHODS, 'residual of ours')[column]
            pen.text((column * step + 3, top + 3), f'{title}: {name}', fill=(230, 230, 230))
            image.paste(Image.fromarray(np.ascontiguousarray(panel)), (column * step, top + TITLE))
            image.paste(Image.fromarray(np.ascontiguousarray(enlarged(panel))),
                        (column * step, top + TITLE + step))
    return image


def main(arguments=None):
    """
    Draw the panels.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('output', type=Path, help='PNG or JPEG file')
    parser.add_argument('--real', action='store_true', help='real frames')
    parser.add_argument('--model', default='default', help='name or file of our weights')
    parser.add_argument('--data', type=Path, default=fidelity.ROOT.parent / 'shared' / 'data',
                        help='folder of real frames')
    options = parser.parse_args(arguments)
    sheet([(scene.name, row(scene, {'model': options.model}))
           for scene in chosen_scenes(options)]).save(options.output)
    return 0


if __name__ == '__main__':
    sys.exit(main())
