# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
How much of the noise that was found is taken: arithmetic on what one run of the network removes.

The noise that is removed at full strength is split by an exact partition: its colour, which is what
three planes of one camera have beside their luminance, and of the rest what varies over more than
`COARSE` px and what does not.  Each part is taken in its own proportion.

The luminance has the weights of Rec. 709 and is the same in all three planes, in the unit of the
data.  So what stays is grey in a picture whose colours are calibrated.  Shared in proportion to the
noise of each plane it would have a tint: on four pictures 3 to 25 % of its rms.

Every pixel of the result depends on the noise within `RADIUS` px of it and on nothing else, so that
frames in memory, in files and of dask have the same bits.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ['COARSE', 'RADIUS', 'Controls', 'less_noise', 'share_of']

COARSE = 8.0  # px, FWHM of the Gaussian that tells coarse from fine
SIGMA = COARSE / np.sqrt(8 * np.log(2))
RADIUS = 14  # px, where the Gaussian ends: four sigma
LUMINANCE = 0.2126, 0.7152, 0.0722  # of red, green and blue: Rec. 709
STRIP = 2**20  # px of all planes that are worked on at once
THREADS = 2


@dataclass(frozen=True)
class Controls:
    """
    Shares of the noise to remove.

    Attributes
    ----------
    strength : float
        Of all of it, 0 to 1.
    strength_chroma : float or None
        Of its colour, coarse or fine: what the planes of one camera have beside their luminance.
        None: ``strength``.
    strength_coarse : float or None
        Of what varies over more than 8 px and is no colour; None: ``strength``.
    keep_grain : float
        Share of the fine, colourless grain that stays of what would be taken, 0 to 1.
    """

    strength: float = 1.0
    strength_chroma: float | None = None
    strength_coarse: float | None = None
    keep_grain: float = 0.0

    @property
    def usual(self):
        """Whether all of the noise is taken (bool)."""
        return self.plain and self.strength == 1

    @property
    def plain(self):
        """Whether one number says all (bool)."""
        others = self.strength_chroma, self.strength_coarse
        return self.keep_grain == 0 and all(one in (None, self.strength) for one in others)

    def check(self, n_planes, *, joint):
        """
        Refuse what a frame of this kind cannot have.

        Parameters
        ----------
        n_planes : int
            Planes of the frame.
        joint : bool
            Whether they are colours of one camera.

        Raises
        ------
        ValueError
            If there are not three colours of one camera for what is about colour.
        """
        if joint and n_planes != 3:
            msg = (
                f"channels='joint' needs three planes of one camera, the frame has {n_planes}: "
                "drop an alpha plane, data[:3], or pass channels='separate'"
            )
            raise ValueError(msg)
        if self.strength_chroma is not None and not joint:
            advice = "pass channels='joint', or " if n_planes == 3 else ''
            msg = (
                'strength_chroma is about three planes that are colours of one camera; the frame '
                f'has {n_planes} that are taken each by itself: {advice}leave it out'
            )
            raise ValueError(msg)

    def told(self, record):
        """
        Write the shares into a record of what was done.

        Parameters
        ----------
        record : dict
            Of a run, with ``strength``.

        Returns
        -------
        record : dict
            With those that are not as usual behind it.
        """
        usual = {'strength': None, 'keep_grain': 0}  # the others are as strength is
        given = {
            name: float(value)
            for name, value in vars(self).items()
            if value is not None and value != usual.get(name, self.strength)
        }
        told = {}
        for key, value in record.items():
            if key == 'strength':
                told |= given
            elif key not in vars(self):
                told[key] = value
        return told


def share_of(noise, controls, *, joint=False):
    """
    Give what is taken of the noise.

    Parameters
    ----------
    noise : `numpy.ndarray`, (N, H, W)
        What is removed at full strength; 0 where nothing is, as in pixels that are not valid.  Its
        outermost `RADIUS` px are the surroundings of the rest, but for the frame's own borders.
    controls : `Controls`
        The shares.
    joint : bool, optional
        Whether three planes are colours of one camera.

    Returns
    -------
    taken : `numpy.ndarray`, (N, H, W)
        Of the dtype of ``noise``, 0 where that is 0.
    """
    strength, chroma, coarse = (
        float(controls.strength if one is None else one)
        for one in (controls.strength, controls.strength_chroma, controls.strength_coarse)
    )
    if not any((strength, chroma, coarse)):
        return np.zeros_like(noise)
    if controls.plain:
        return strength * noise
    fine = strength * (1 - float(controls.keep_grain))
    there = noise != 0
    if joint:
        light, any_there = _luminance(noise, there), there.any(axis=0)
        taken = chroma * noise + _weighted(light, any_there, fine - chroma, coarse - fine)
    else:
        taken = np.stack([
            _weighted(*plane, fine, coarse - fine) for plane in zip(noise, there, strict=True)
        ])  # fmt: skip
    taken[~there] = 0
    return taken


def _weighted(plane, there, whole, smooth):
    """Add shares of a plane and of what is coarse in it."""
    taken = whole * plane
    if smooth:
        taken += smooth * _smoothed(plane, there)
    return taken


def _luminance(noise, there):
    """Luminance of three planes; where some of them have none, of the others."""
    light = sum(weight * plane for weight, plane in zip(LUMINANCE, noise, strict=True))
    if there.all():
        return light
    weights = np.asarray(LUMINANCE, noise.dtype)
    weight = np.where(there.all(axis=0), 1, np.tensordot(weights, there.astype(noise.dtype), 1))
    return light / np.where(weight > 0, weight, 1).astype(noise.dtype)


def _smoothed(light, there):
    """Mean of the pixels that have any, under a Gaussian."""
    smooth = _gaussian(light)
    if there.all():
        return smooth
    # single precision is 1 to the bit where nothing is missing
    weight = _gaussian(there.astype(np.float32))
    return smooth / np.where(there, weight, 1)


def _gaussian(plane):
    return ndimage.gaussian_filter(plane, SIGMA, mode='nearest', radius=RADIUS)


def less_noise(read, noise, controls, *, joint=False):
    """
    Take noise out of a frame, strip by strip.

    Parameters
    ----------
    read : callable
        Takes rows, a slice, and gives the frame's planes there, (N, h, W).
    noise : array, (N, H, W)
        As for `share_of`, of the whole frame; gives an array when it is sliced.  The rows that were
        yielded may be overwritten.
    controls : `Controls`
        The shares.
    joint : bool, optional
        Whether three planes are colours of one camera.

    Yields
    ------
    rows : slice
        Of the frame, from above to below.
    result : `numpy.ndarray`, (N, h, W)
        The frame less the share of ``noise``; where that is 0 the pixels stay as they were.
    """
    n_planes, height, width = noise.shape
    planes, cols = slice(0, n_planes), slice(0, width)
    step = max(RADIUS, STRIP // (n_planes * width))
    above = np.empty((n_planes, 0, width), noise.dtype)
    working = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            here = noise[planes, slice(start, min(rows.stop + RADIUS, height)), cols]
            window = np.concatenate([above, here], axis=1)  # a copy: rows may be overwritten
            inner = slice(above.shape[1], above.shape[1] + rows.stop - start)
            above = window[:, max(inner.stop - RADIUS, 0) : inner.stop]
            share = pool.submit(share_of, window, controls, joint=joint)
            working.append((rows, inner, share))
            if len(working) > THREADS:
                yield _less(read, *working.popleft())
        while working:
            yield _less(read, *working.popleft())


def _less(read, rows, inner, share):
    return rows, read(rows) - share.result()[:, inner]
