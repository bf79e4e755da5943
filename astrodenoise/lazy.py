# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A dask array to a lazily denoised one.

The statistics of the frame are taken at once, in one pass over its panels, because the header tells
of them.  The pixels come when they are computed: each chunk of the result from its part of the
frame and what surrounds it, with the same bits as from the whole frame in memory.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from astropy.nddata import NDData

from astrodenoise.controls import RADIUS, share_of
from astrodenoise.limit import REACH
from astrodenoise.pieces import PiecewiseFrame
from astrodenoise.sections import MARGIN, block_edges, widened

__all__ = ['LazyFrame']

CHUNK = 4  # blocks along a side of a chunk


class LazyFrame(PiecewiseFrame):
    """
    A frame whose pixels are a dask array.

    Parameters
    ----------
    ccd : `~astropy.nddata.NDData` or `dask.array.Array`
        The frame; its mask and uncertainty may be dask arrays or not.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.pieces.PiecewiseFrame`, and if the sizes of its chunks are not known.
    """

    def __init__(self, ccd):
        pixels = ccd.data if isinstance(ccd, NDData) else ccd
        if any(np.isnan(n) for n in pixels.shape):
            msg = (
                f'the frame has the shape {pixels.shape}: call compute_chunk_sizes() of the dask '
                'array first'
            )
            raise ValueError(msg)
        super().__init__(ccd)
        self._blocks = {}

    def each(self, function, places, windows):
        """
        Call a function for several places of the frame, where dask computes.

        Parameters
        ----------
        function : callable
            Takes a frame and a place.
        places : list
            What it is called with.
        windows : list of tuple of slice
            Planes, rows and columns that it looks at for each of them.

        Returns
        -------
        results : list
            In the order of ``places``.
        """
        import dask

        call = dask.delayed(_call, pure=False)
        pairs = zip(places, windows, strict=True)
        tasks = [call(function, place, **self._task(window)) for place, window in pairs]
        return list(dask.compute(*tasks))

    def filled(
        self, remove_noise, known, engine, settings, *, find_stars=False, errors=False,
        as_noise=False,
    ):  # fmt: skip
        """
        Have the noise removed when the pixels are computed.

        Parameters
        ----------
        remove_noise : callable
            `astrodenoise.removal.remove_noise`.
        known : list of `astrodenoise.known.Known`
            Of each plane.
        engine : `astrodenoise.engine.Engine`
            The network; another process loads its own.
        settings : `astrodenoise.options.Options`
            What was asked for; its progress bar is left out.
        find_stars, errors, as_noise : bool, optional
            As for `astrodenoise.removal.remove_noise`.

        Returns
        -------
        result : `dask.array.Array`, (N, H, W)
            The new pixels, or the noise that is removed from them, in chunks of about 4096 px.
        sigma : `dask.array.Array`, (N, H, W), float32, or None
            Standard deviation of each pixel, where ``errors`` asks for it.
        limited : None
            How many pixels are held back is not known before they are computed.
        """
        import dask
        import dask.array as da

        n_together = engine.weights.config.planes
        settings = replace(settings, progress_bar=None)
        reach = REACH + settings.tile_size + MARGIN
        rows, cols = (_chunks(n) for n in self.shape[1:])
        call = dask.delayed(_denoised, pure=False, nout=2)
        blocks = []
        for first in range(0, self.shape[0], n_together):
            planes = slice(first, first + n_together)
            mine = dask.delayed(known[planes], traverse=False)
            for region in ((down, across) for down in rows for across in cols):
                wide = (widened(s, reach, n) for s, n in zip(region, self.shape[1:], strict=True))
                pair = call(
                    remove_noise, mine, engine, settings, find_stars, errors, as_noise, region,
                    **self._task((planes, *wide)),
                )  # fmt: skip
                shape = (n_together, *(s.stop - s.start for s in region))
                blocks.append([
                    da.from_delayed(part, shape, dtype)
                    for part, dtype in zip(pair, (self.dtype, np.float32), strict=True)
                ])  # fmt: skip
        n_blocks = self.shape[0] // n_together, len(rows), len(cols)
        result, sigma = (_laid(list(parts), n_blocks) for parts in zip(*blocks, strict=True))
        return result, sigma if errors else None, None

    def less(self, noise, controls, *, joint=False, keep=False):
        """
        Give the frame less a share of the noise that was found in it, when it is computed.

        Parameters
        ----------
        noise : `dask.array.Array`, (N, H, W)
            What is removed at full strength, as `filled` gave it.
        controls : `astrodenoise.controls.Controls`
            The shares.
        joint : bool, optional
            Whether three planes are colours of one camera.
        keep : bool, optional
            Nothing is overwritten in any case.

        Returns
        -------
        result : `dask.array.Array`, (N, H, W)
            The new pixels.
        """
        del keep
        noise = noise.rechunk({0: -1} if joint else {})
        taken = noise.map_overlap(
            share_of, depth=(0, RADIUS, RADIUS), boundary='none', dtype=self.dtype,
            meta=np.empty((0, 0, 0), self.dtype), controls=controls, joint=joint,
        )  # fmt: skip
        pixels = self._pixels.reshape(self.shape).astype(self.dtype)
        return pixels.rechunk(taken.chunks) - taken

    def _task(self, window):
        """What a task needs of the frame to look at a window; dask arrays are computed for it."""
        part = window[3 - self._pixels.ndim :]
        task = {
            'shape': (window[0].stop - window[0].start, *self.shape[1:]),
            'first': tuple(s.start for s in window[1:]),
            'pixels': self._part('pixels', self._pixels, part),
            'stars': None if self.stars is None else self.stars[window],
            'saturation': self.saturation,
        }
        if not isinstance(self.original, NDData):
            return task
        task |= {'unit': self.unit, 'mask': self._part('mask', self.original.mask, part)}
        if self.sigma is not None:
            uncertainty = self.original.uncertainty
            task |= {
                'kind': type(uncertainty),
                'values': self._part('values', uncertainty.array, part),
                'values_unit': uncertainty.unit,
            }
        return task

    def _part(self, name, array, part):
        """
        Give a part of a plane: of dask the chunks that hold it, put together by the task.

        Slices of dask arrays would be fused with what makes each chunk, which every window that
        touches it would then do again.
        """
        import dask

        if array is None or np.isscalar(array):
            return array
        if not hasattr(array, 'dask'):
            return array[part]
        if name not in self._blocks:
            self._blocks[name] = array.to_delayed(optimize_graph=False)
        index, inner = [], []
        for s, sizes in zip(part, array.chunks, strict=True):
            ends = np.cumsum(sizes)
            first, last = np.searchsorted(ends, [s.start, s.stop - 1], side='right')
            index.append(slice(first, last + 1))
            start = int(ends[first] - sizes[first])
            inner.append(slice(s.start - start, s.stop - start))
        blocks = self._blocks[name][tuple(index)].tolist()
        return dask.delayed(_joined, pure=False)(blocks, tuple(inner))


def _joined(blocks, inner):
    return np.block(blocks)[inner]


def _chunks(n):
    """Whole blocks that are about as long as a chunk."""
    edges = block_edges(n)
    inner = edges[:-1:CHUNK]
    return [slice(*ends) for ends in pairwise([*inner, n])]


def _laid(blocks, n_blocks):
    """Lay chunks side by side; they come plane by plane and row by row."""
    import dask.array as da

    _, down, across = n_blocks
    return da.block([
        [blocks[i : i + across] for i in range(plane, plane + down * across, across)]
        for plane in range(0, len(blocks), down * across)
    ])  # fmt: skip


class _Offset:
    """A part of an array, sliced as the whole would be."""

    def __init__(self, part, first, shape):
        self._part, self._first = part, first
        self.shape, self.dtype = shape[3 - part.ndim :], part.dtype
        self.ndim, self.size = part.ndim, int(np.prod(self.shape))

    def __getitem__(self, window):
        inner = tuple(
            slice(s.start - n, s.stop - n) for s, n in zip(window[-2:], self._first, strict=True)
        )
        return self._part[(*window[:-2], *inner)]

    def __array__(self, dtype=None, copy=None):
        msg = 'a part of a frame stands for no whole one'
        raise TypeError(msg)


def _piece(shape, first, pixels, *, saturation, stars=None, unit=None, mask=None, kind=None,
           values=None, values_unit=None):  # fmt: skip
    """Make a frame of which only a window is there."""
    whole = NDData(_Offset(pixels, first, shape), unit=unit)
    if mask is not None:
        whole.mask = mask if np.isscalar(mask) else _Offset(mask, first, shape)
    if kind is not None:
        whole.uncertainty = kind(_Offset(values, first, shape), unit=values_unit)
    frame = PiecewiseFrame(whole)
    frame.saturation = saturation
    if stars is not None:
        frame.stars = _Offset(stars, first, shape)
    return frame


def _call(function, place, **task):
    return function(_piece(**task), place)


def _denoised(
    remove_noise, known, engine, settings, find_stars, errors, as_noise, region, **task
):  # fmt: skip
    """Denoise one chunk: its pixels or their noise and, where they are asked for, its errors."""
    frame = _piece(**task)
    shape = (len(known), *(s.stop - s.start for s in region))
    data = np.empty(shape, frame.dtype)
    sigma = np.empty(shape, np.float32) if errors else None
    for block in remove_noise(
        frame, known, engine, settings, find_stars=find_stars, errors=errors, as_noise=as_noise,
        region=region,
    ):  # fmt: skip
        at = (block.planes, *(
            slice(s.start - part.start, s.stop - part.start)
            for s, part in zip((block.rows, block.cols), region, strict=True)
        ))  # fmt: skip
        data[at] = block.data
        if errors:
            sigma[at] = block.error
    return data, sigma
