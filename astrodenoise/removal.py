# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The noise is predicted, held back where it runs away, and taken out: block by block.

What happens to a block depends on the frame and on the block's surroundings alone, so that a frame
in memory, one that is read piece by piece and a piece of one on another machine give the same.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from astrodenoise.background import local_level
from astrodenoise.errormap import calibrate, error_at_strength
from astrodenoise.features import NormalisedPlane, condition
from astrodenoise.limit import REACH, hold_back
from astrodenoise.protection import kept_share, stars_of
from astrodenoise.sections import MARGIN, block_edges, widened
from astrodenoise.tiling import Blender, batched

__all__ = ['Removed', 'normalise', 'remove_noise']

WINDOW = 2**25  # px that are normalised at once, all planes together, where there are as many
AROUND = 1500  # px, about what a window holds above and below its blocks
BAND = 16  # blocks; wider frames are taken in bands, so that no array grows with the width
STARS = 256  # px around a block in which its stars are looked for


@dataclass(frozen=True, eq=False)
class Removed:
    """
    A finished block of some planes.

    Attributes
    ----------
    planes, rows, cols : slice
        Where it lies in the frame.
    data : `numpy.ndarray`, (n, h, w)
        The denoised pixels, those that are not valid as they were; or the noise of all of them.
    error : `numpy.ndarray`, (n, h, w), float32, or None
        Standard deviation of each pixel in the unit of the data.
    limited : list of int
        Pixels of each plane that were held back.
    """

    planes: slice
    rows: slice
    cols: slice
    data: np.ndarray
    error: np.ndarray | None
    limited: list


def normalise(window, known, rows, cols, shape, *, in_order=map):
    """
    Bring a window of a frame to units of its noise.

    Parameters
    ----------
    window : object
        ``data``, ``valid``, ``saturated`` and ``sigma`` of the window, (n, h, w).
    known : list of `astrodenoise.known.Known`
        Of each of its planes.
    rows, cols : slice
        Where the window lies; it begins at multiples of 16.
    shape : tuple of int
        (H, W) of the frame.
    in_order : callable, optional
        As for `astrodenoise.features.NormalisedPlane`.

    Returns
    -------
    planes : list of `astrodenoise.features.NormalisedPlane`
        One per plane.
    saturated : list of `numpy.ndarray`, bool, or None
        Saturated pixels of each.
    """
    planes, at_top = [], []
    for number, (data, valid, one) in enumerate(
        zip(window.data, window.valid, known, strict=True)
    ):
        saturated = None if window.saturated is None else window.saturated[number]
        if one.marks is not None:
            valid, saturated = one.marks.apply(data, valid, rows, cols)
        level = one.level if data.shape == tuple(shape) else None
        if level is None:
            first = (rows.start, cols.start)
            level = local_level(
                data, valid, plane=one.tilt, first=first, shape=shape, in_order=in_order
            )
        noise = one.noise.part(rows, cols)
        if one.reading is not None:
            sigma = one.reading.smoothed(window.sigma[number], data, valid, level.fine_whole())
            noise = replace(noise, plane=sigma)
        plane = NormalisedPlane(
            data, valid, noise, level=level, missing=one.missing, in_order=in_order
        )
        planes.append(plane)
        at_top.append(saturated)
    return planes, at_top


def remove_noise(
    frame,
    known,
    engine,
    settings,
    *,
    find_stars=False,
    errors=False,
    as_noise=False,
    region=None,
    as_one=False,
):
    """
    Take the noise out of a frame, or a part of it.

    Parameters
    ----------
    frame : object
        ``frame.shape``, (N, H, W), and ``frame.window(planes, rows, cols)``, which gives a
        `~astrodenoise.frames.Window`.
    known : list of `astrodenoise.known.Known`
        Of each plane.
    engine : `astrodenoise.engine.Engine`
        The network.
    settings : `astrodenoise.options.Options`
        What was asked for.
    find_stars : bool, optional
        Whether stars are looked for that keep their pixels, beside those of the frame's own mask.
    errors : bool, optional
        Whether the standard deviation of the pixels is wanted.
    as_noise : bool, optional
        Give the noise that is removed at full strength in the place of the pixels.
    region : tuple of slice, optional
        Rows and columns to denoise, whole blocks of `astrodenoise.sections.block_edges`.
    as_one : bool, optional
        Take the region as one block, wherever it lies.  Where pixels are held back it may differ
        from what it is in the frame's own blocks: their bounds are measured in the surroundings.

    Yields
    ------
    removed : `Removed`
        The blocks, from above to below.
    """
    height, width = frame.shape[1:]
    region = (slice(0, height), slice(0, width)) if region is None else region
    n_together = engine.weights.config.planes
    for first in range(0, len(known), n_together):
        planes = slice(first, first + n_together)
        walk = _Walk(
            frame, planes, known[planes], engine, settings, find_stars, errors, as_noise, as_one
        )
        for band in _bands(walk.parts(width, region[1])):
            yield from walk.blocks(region[0], band)


class _Walk:
    """The way through some planes that are denoised together."""

    def __init__(
        self, frame, planes, known, engine, settings, find_stars, errors, as_noise, as_one
    ):  # fmt: skip
        self.frame, self.planes, self.known, self.settings = frame, planes, known, settings
        self.find_stars, self.errors, self.as_noise = find_stars, errors, as_noise
        self.as_one = as_one
        self.engine, self.table = engine, engine.weights.calibration
        self.idle = (settings.strength == 0 and not as_noise) or all(one.missing for one in known)
        # the predicted error is blended only where somebody looks at it
        self.n_out = (2 if settings.uncertainty == 'predict' else 1) * len(known)
        predict = engine.predictor(np.concatenate([condition(one.noise) for one in known]))
        self.predict = lambda batch: predict(batch)[:, : self.n_out]

    def parts(self, n, part):
        """Divide a part of an axis into blocks."""
        return [part] if self.as_one else _inside(block_edges(n), part)

    def blocks(self, rows, cols):
        """Denoise the blocks of a region from above to below."""
        self.region_cols = cols
        height, width = self.frame.shape[1:]
        groups = _grouped(self.parts(height, rows), cols, len(self.known))
        self.blender = Blender(
            (height, width),
            n_out=self.n_out,
            tile_size=self.settings.tile_size,
            overlap=self.settings.overlap,
            blend=self.settings.blend,
            columns=(max(cols.start - REACH, 0), min(cols.stop + REACH, width)),
            first_row=max(rows.start - REACH, 0),
        )
        size = self.settings.batch_size or self.engine.batch_size(self.settings.tile_size)
        work = []
        for parts in groups:
            stop = min(parts[-1].stop + REACH, height)
            work.append((parts, batched([] if self.idle else self.blender.hand_out(stop), size)))
        bar = self.settings.progress_bar or iter
        batches = [batch for _, some in work for batch in some]
        area = len(self.known) * (rows.stop - rows.start) * (cols.stop - cols.start)
        steps = iter([] if self.idle else bar(_shares(batches, area)))
        with self.engine.workers() as in_order:
            for parts, batches in work:
                tiles = [tile for batch in batches for tile in batch]
                self._open(slice(parts[0].start, parts[-1].stop), tiles, in_order)
                for needed, prediction in in_order(self._predicted, batches):
                    if needed:
                        self.blender.add(needed, prediction)
                    next(steps)
                for part in parts:
                    yield from self._finish(part, in_order)
        next(steps, None)  # lets a bar see the end

    def _predicted(self, batch):
        """Predict what of a batch is needed; several threads do so at once."""
        tiles = [tile for tile in batch if self._is_needed(tile)]
        return tiles, self.predict(self.blender.cut(tiles, self._cut)) if tiles else None

    def _open(self, part, tiles, in_order):
        """Look at the window that holds rows of blocks and all the tiles that they need."""
        size, shape = self.settings.tile_size, self.frame.shape[1:]
        self.rows, self.cols = (
            widened(_hull(along, [tile[axis] for tile in tiles], size, n), MARGIN, n)
            for axis, (along, n) in enumerate(zip((part, self.region_cols), shape, strict=True))
        )
        window = self.frame.window(self.planes, self.rows, self.cols)
        self.stars = window.stars
        self.normalised, self.saturated = normalise(
            window, self.known, self.rows, self.cols, shape, in_order=in_order
        )
        self.blender.reserve(tiles)

    def _is_needed(self, tile):
        """Whether any pixel of a tile counts: what is left out takes no prediction."""
        (top, left), size = tile, self.settings.tile_size
        rows = slice(max(top - self.rows.start, 0), max(top + size - self.rows.start, 0))
        cols = slice(max(left - self.cols.start, 0), max(left + size - self.cols.start, 0))
        return any(
            plane.everything or plane.valid[rows, cols].any()
            for plane in self.normalised if not plane.missing
        )

    def _cut(self, rows, cols):
        """Cut the network's input for one tile."""
        rows, cols = rows - self.rows.start, cols - self.cols.start
        return np.concatenate([plane.cut(rows, cols) for plane in self.normalised])

    def _finish(self, part, in_order):
        """Take the noise out of a row of blocks, all of whose tiles are there."""
        height, width = self.frame.shape[1:]
        blended, first = None, None
        if not self.idle:
            rows = slice(max(part.start - REACH, 0), min(part.stop + REACH, height))
            blended = self.blender.rows(rows.start, rows.stop, keep=max(part.stop - REACH, 0))
            first = rows.start, max(self.region_cols.start - REACH, 0)

        def block(cols):
            wide = tuple(
                slice(max(s.start - REACH, 0), min(s.stop + REACH, n))
                for s, n in zip((part, cols), (height, width), strict=True)
            )
            out = None if blended is None else blended[:, *_moved(wide, first)]
            return self._block((part, cols), wide, out)

        yield from in_order(block, self.parts(width, self.region_cols))

    def _block(self, block, wide, out):
        """Take the noise out of one block."""
        first = self.rows.start, self.cols.start
        here, around = _moved(block, first), _moved(wide, first)
        inner = _moved(block, tuple(s.start for s in wide))
        data, error, limited = [], [], []
        for number, plane in enumerate(self.normalised):
            pixels = np.array(plane.data[here])
            sigma = plane.sigma[here] if isinstance(plane.sigma, np.ndarray) else plane.sigma
            s, held = 1.0, 0
            noise = np.zeros_like(pixels) if self.as_noise else None
            if out is not None and not plane.missing:
                valid = plane.valid[here]
                r, held = self._held_back(out[number].copy(), plane, around, inner, valid)
                share = self._share(number, plane, block, r)
                take = r * (share * np.float32(plane.noise.shown))
                whole = _as_difference(pixels, sigma * take.astype(pixels.dtype))
                # pixels without noise to remove are copied, never computed
                if self.as_noise:
                    np.copyto(noise, whole, where=valid)
                else:
                    taken = pixels - float(self.settings.strength) * whole
                    np.copyto(pixels, taken, where=valid)
                if self.settings.uncertainty == 'predict':
                    log_s = out[len(self.normalised) + number][inner]
                    strength = np.float32(self.settings.strength) * share
                    s = _error(plane, valid, log_s, self.table, strength)
            pixels = noise if self.as_noise else pixels
            data.append(pixels)
            limited.append(held)
            if self.errors:
                error.append(np.broadcast_to(np.float32(sigma * s), pixels.shape))
        return Removed(
            self.planes, *block, np.stack(data), np.stack(error) if error else None, limited
        )

    def _held_back(self, r, plane, around, inner, valid):
        """Noise to remove from a block, and how many of its pixels were held back."""
        r[~plane.valid[around]] = 0
        limited = None
        if self.settings.limit is not None:
            r, limited = hold_back(r, self.settings.limit, plane.noise.correlation)
        held = 0 if limited is None else int(np.count_nonzero(limited[inner] & valid))
        return r[inner], held

    def _share(self, number, plane, block, r):
        """Share of the noise that may be removed, of each pixel where stars are protected."""
        here = _moved(block, (self.rows.start, self.cols.start))
        if self.find_stars:
            mask = self._found_stars(number, plane, block)
        elif self.stars is not None:
            mask = self.stars[number][here]
        else:
            return np.float32(1)
        return 1 - kept_share(mask, plane, here, r)

    def _found_stars(self, number, plane, block):
        """Mask of the stars of a block, looked for in its surroundings, too."""
        wide = tuple(
            slice(max(s.start - STARS, 0), min(s.stop + STARS, n))
            for s, n in zip(block, self.frame.shape[1:], strict=True)
        )
        there = _moved(wide, (self.rows.start, self.cols.start))
        mask = stars_of(plane, there, self.saturated[number])
        return mask[_moved(block, tuple(s.start for s in wide))]


def _shares(batches, area):
    """Share out the pixels of a region among batches: what a bar counts, if it counts pixels."""
    ends = np.cumsum([0] + [len(batch) for batch in batches])
    return np.diff(ends * area // max(int(ends[-1]), 1)).tolist()


def _bands(blocks):
    """Divide a row of blocks into as few and as equal bands as go."""
    n_bands = -(-len(blocks) // BAND)
    bands = [blocks[i * len(blocks) // n_bands : (i + 1) * len(blocks) // n_bands]
             for i in range(n_bands)]  # fmt: skip
    return [slice(band[0].start, band[-1].stop) for band in bands]


def _grouped(parts, cols, n_planes):
    """Put rows of blocks together as long as their window is no large one."""
    most = WINDOW // n_planes // (cols.stop - cols.start)
    groups = []
    for part in parts:
        if groups and part.stop - groups[-1][0].start + AROUND <= most:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _hull(part, starts, size, n):
    """What tiles and the surroundings of a part cover of an axis."""
    first = min([part.start - REACH, *starts])
    stop = max([part.stop + REACH, *(start + size for start in starts)])
    return slice(max(first, 0), min(stop, n))


def _inside(edges, part):
    """Blocks between ``edges`` that lie in a part of the axis."""
    return [slice(a, b) for a, b in pairwise(edges) if a >= part.start and b <= part.stop]


def _moved(part, first):
    """Slices counted from ``first`` on."""
    return tuple(slice(s.start - n, s.stop - n) for s, n in zip(part, first, strict=True))


def _as_difference(pixels, noise):
    """
    Round noise such that pixels less it are pixels from which they differ by it, to the bit.

    So the residual of a denoised frame is what was removed, and every other strength follows from
    it.  A second round is needed where pixels and noise are of one size, and it is the last:
    ``x - (x - (x - n))`` stays what it is (Knuth, The Art of Computer Programming, 4.2.2, D).
    """
    with np.errstate(invalid='ignore'):  # infinity minus infinity, in pixels that do not count
        for _ in range(2):
            noise = pixels - (pixels - noise).astype(pixels.dtype, copy=False)
    return noise


def _error(plane, valid, log_s, table, strength):
    """Expected error of each pixel in units of sigma; pixels that stay keep their noise."""
    s = calibrate(log_s, plane.noise.correlation, table) * np.float32(plane.noise.shown)
    return np.where(valid, error_at_strength(s, strength), 1)
