# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The pixels of a report, packed for its page.

The denoised frame and the residual are rounded to a fraction of the noise, in asinh so that bright
stars fit in 16 bits, and deflated; the page adds them up to the noisy frame.  A frame that is too
large is shown binned, with pieces in full resolution round what is listed.
"""

import base64
import math
import zlib
from dataclasses import dataclass

import numpy as np

__all__ = ['Scene', 'pack_layers']

SOFT = 16.0  # sigma up to which values are rounded evenly
STEPS = {'denoised': 1 / 32, 'residual': 1 / 8, 'truth': 1 / 32, 'error': 1 / 32}  # sigma
NOTHING = -32768  # stands for pixels without a value
BUDGET = 18_000_000  # bytes of deflated pixels: a third more as text
PIECE = 256  # px, side of a piece in full resolution
PIECES = 16
QUANTILES = (0.005, 0.5, 0.995, 0.999, 1.0)  # of the noisy frame, that tell how it is stretched
SAMPLE = 2_000_000  # px that they are taken from


@dataclass(frozen=True)
class Scene:
    """
    A rectangle of the frame, binned or not, as the page takes it.

    Attributes
    ----------
    x, y : int
        Its first column, and its first row counted from the top of the picture, in px.
    width, height : int
        Of its layers, in binned px.
    bin : int
        Side of a binned px.
    layers : dict of str
        'denoised', 'residual' and, where there are any, 'truth' and 'error': base64 of deflated
        bytes.
    """

    x: int
    y: int
    width: int
    height: int
    bin: int
    layers: dict


def pack_layers(layers, places=(), *, budget=BUDGET):
    """
    Pack the pixels of a report.

    Parameters
    ----------
    layers : `astrodenoise.reportdata.Layers`
        The pixels.
    places : sequence of (int, int), optional
        Positions x, y in px that are to be seen in full resolution.
    budget : int, optional
        Bytes that the deflated pixels may have.

    Returns
    -------
    scenes : list of `Scene`
        The whole frame, and pieces of it where that is binned.
    about : dict
        How the page makes values of them: 'soft', 'steps', 'sky', 'scale', 'sigma', 'quantiles',
        'black', 'white' of each plane.
    """
    _, height, width = layers.noisy.shape
    scale = list(layers.sigma)
    if len(scale) == 3:  # one camera's colours keep their balance
        scale = [float(np.median(scale))] * 3
    planes = _in_noise(layers, scale)
    about = {
        'soft': SOFT, 'steps': STEPS, 'sky': layers.sky, 'scale': scale,
        'sigma': [a / b for a, b in zip(layers.sigma, scale, strict=True)],
        'quantiles': _quantiles(planes), **_range(layers, scale),
    }  # fmt: skip
    whole = (0, 0, height, width)
    # a packed sample has a byte at least: what cannot fit need not be tried
    side = max(1, math.ceil(math.sqrt(layers.noisy.size / budget)))
    scene = _scene(planes, whole, side, layers.upward)
    if side == 1 and _size(scene) <= budget:
        return [scene], about
    corners = _corners(places, height, width)
    pieces = [_scene(planes, (y, x, PIECE, PIECE), 1, layers.upward) for y, x in corners]
    left = max(budget - sum(map(_size, pieces)), budget // 4)
    while _size(scene) > left or side == 1:
        side += 1
        scene = _scene(planes, whole, side, layers.upward)
    return [scene, *pieces], about


def _size(scene):
    return sum(len(text) for text in scene.layers.values()) * 3 // 4


def _in_noise(layers, scale):
    """Layers in units of the noise, as functions of a part of a plane."""

    def level(frame, number, at):
        return (frame[number][at].astype(float) - layers.sky[number]) / scale[number]

    planes = {
        'denoised': lambda i, at: level(layers.denoised, i, at),
        'residual': lambda i, at: (
            (layers.noisy[i][at].astype(float) - layers.denoised[i][at]) / scale[i]
        ),
    }
    if layers.error is not None:
        planes['error'] = lambda i, at: layers.error[i][at] / scale[i]
    if layers.truth is not None:
        planes['truth'] = lambda i, at: level(layers.truth, i, at)
    return {'count': len(scale), 'shape': layers.noisy.shape[1:], 'layers': planes}


def _quantiles(planes):
    """Quantiles of the noisy frame, in its noise."""
    step = max(1, math.isqrt(math.prod(planes['shape']) // SAMPLE))
    at = (slice(None, None, step), slice(None, None, step))
    layers, found = planes['layers'], []
    for number in range(planes['count']):
        with np.errstate(invalid='ignore'):
            values = layers['denoised'](number, at) + layers['residual'](number, at)
        values = values[np.isfinite(values)]
        found.append(np.quantile(values, QUANTILES).tolist() if values.size else [0.0] * 5)
    return found


def _range(layers, scale):
    """Black and white of a picture, in the noise of each plane."""
    if layers.full_range is None:
        return {'black': None, 'white': None}
    ends = [
        [(end - sky) / one for sky, one in zip(layers.sky, scale, strict=True)]
        for end in layers.full_range
    ]
    return {'black': ends[0], 'white': ends[1]}


def _corners(places, height, width):
    """First row and column of the pieces that show all places, and the middle of the frame."""
    corners = []
    for x, y in [*places, (width // 2, height // 2)]:
        inside = any(
            row + PIECE // 8 <= y < row + 7 * PIECE // 8
            and col + PIECE // 8 <= x < col + 7 * PIECE // 8
            for row, col in corners
        )
        if not inside and len(corners) < PIECES:
            corners.append((
                min(max(int(y) - PIECE // 2, 0), max(height - PIECE, 0)),
                min(max(int(x) - PIECE // 2, 0), max(width - PIECE, 0)),
            ))  # fmt: skip
    return corners


def _scene(planes, part, side, upward):
    """Pack a part of the frame: first row and column, height and width."""
    row, col, height, width = part
    rows, cols = (
        slice(first, min(first + length, n) - (min(first + length, n) - first) % side)
        for first, length, n in zip((row, col), (height, width), planes['shape'], strict=True)
    )
    shape = (rows.stop - rows.start) // side, (cols.stop - cols.start) // side
    packed = {}
    for name, values_of in planes['layers'].items():
        codes = np.empty((planes['count'], *shape), np.int16)
        bins = 2 * side if name == 'error' else side  # it is smooth: half as fine will do
        for number in range(planes['count']):
            values = _binned(values_of(number, (rows, cols)), bins)
            if bins > side:
                values = values.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
            codes[number] = _coded(values, STEPS[name] / side)[:: -1 if upward else 1]
        packed[name] = _deflated(codes, smooth=name != 'residual')
    top = planes['shape'][0] - rows.stop if upward else rows.start
    return Scene(cols.start, top, shape[1], shape[0], side, packed)


def _binned(values, side):
    """Means of squares of pixels; those at the end may be smaller."""
    if side == 1:
        return values
    rows, cols = (np.arange(0, n, side) for n in values.shape)
    total, count = (
        np.add.reduceat(np.add.reduceat(plane, rows, axis=0), cols, axis=1)
        for plane in (np.nan_to_num(values, nan=0, posinf=0, neginf=0),
                      np.isfinite(values).astype(float))
    )  # fmt: skip
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _coded(values, step):
    """Round values to steps that grow with them, as 16-bit numbers."""
    known = np.isfinite(values)
    codes = np.arcsinh(np.where(known, values, 0) / SOFT) * (SOFT / step)
    codes = np.clip(np.rint(codes), -32767, 32767)
    return np.where(known, codes, NOTHING).astype(np.int16)


def _deflated(codes, *, smooth):
    """Deflate codes: differences to the left where that helps, low bytes first, then high bytes."""
    if smooth:
        codes = np.diff(codes, axis=-1, prepend=np.int16(0))  # wraps, as adding up does
    # small numbers of both signs have the same high byte then
    words = (codes.view(np.uint16) + np.uint16(32768 + 128)).astype('<u2')
    parts = words.reshape(-1, 1).view(np.uint8)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(parts.T).tobytes(), 6)).decode()
