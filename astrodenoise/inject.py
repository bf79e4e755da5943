# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Known sources into a frame.

Stars have the image that was measured on the frame, galaxies are blurred by it.  The noise that
their own light brings is added, as the frame's noise law says.  What is put in at once is sparse,
so that no source touches another.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import fft

from astrodenoise.noisefield import NoiseField
from astrodenoise.noisemodel import PlaneNoise
from astrodenoise.places import PLACES, Places
from astrodenoise.psfmodel import StarImage

__all__ = ['SNR_EDGES', 'Source', 'Target', 'add_sources', 'draw_batches', 'galaxy_stamp']

SNR_EDGES = (2.0, 3.2, 5.0, 8.0, 12.5, 20.0, 32.0, 50.0)  # matched filter; five to a decade
APART, LEAST_APART = 8.0, 48.0  # FWHM, px between sources that are put in at once
FEWEST = 30  # sources that a kind of place must have room for
LEAST_ROOM = 25.0  # FWHM squared, the least area of a kind of place
GALAXIES = 0.25  # share of the sources
RADII, AXES, INDICES = (0.5, 1.5), (0.4, 1.0), (0.7, 2.5)  # half-light radius in FWHM; Sersic's n
COLOUR, OWN = 0.35, 0.1  # spread of the logarithm of a source's S/N from plane to plane
TRIES = 40  # times that a place is looked for
OVERSAMPLED = 5  # samples of a galaxy across a pixel, one of them in its middle


@dataclass(frozen=True, eq=False)
class Target:
    """
    A plane that sources are put into.

    Attributes
    ----------
    data : `numpy.ndarray`, (H, W)
        The plane; finite where it is valid.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    level : `numpy.ndarray`, (H, W)
        Its level on 20 px.
    slope : tuple of float
        Of its level, per px down and across.
    noise : `astrodenoise.noisemodel.PlaneNoise`
        Its noise.
    law : `astrodenoise.noisemodel.PlaneNoise`
        Whose law of the signal level the noise of added light follows.
    sigma : `numpy.ndarray`, (H, W)
        Noise of each pixel at the level.
    image : `astrodenoise.psfmodel.StarImage`
        The image of a star.
    field : `astrodenoise.noisefield.NoiseField`
        The correlation of the noise.
    """

    data: np.ndarray
    valid: np.ndarray
    level: np.ndarray
    slope: tuple
    noise: PlaneNoise
    law: PlaneNoise
    sigma: np.ndarray
    image: StarImage
    field: NoiseField

    @cached_property
    def psf(self):
        """Stamp of a star in the middle of a pixel (`numpy.ndarray`)."""
        return self.image.stamp()

    @cached_property
    def psf_noise(self):
        """Noise of the matched filter for stars over what white noise would make (float)."""
        return self.field.filter_noise(self.psf)

    def flux_noise(self, stamp, y, x):
        """
        Give the noise of a flux that is measured by the matched filter.

        Parameters
        ----------
        stamp : `numpy.ndarray`, (s, s)
            What is looked for, of sum 1.
        y, x : int
            Where, in px.

        Returns
        -------
        noise : float
            In the unit of the data; without that of the source's own light.
        """
        ratio = self.field.filter_noise(stamp)
        return float(self.sigma[y, x]) * ratio / float(np.sqrt(np.sum(stamp**2)))

    def own_variance(self, part, light):
        """
        Give the variance that added light brings: that of level and light minus that of the level.

        Parameters
        ----------
        part : tuple of slice
            Rows and columns.
        light : `numpy.ndarray`
            Added there, in the unit of the data.

        Returns
        -------
        variance : `numpy.ndarray`
            Not negative: where brighter pixels are quieter (a stretched frame) noise that is there
            is not taken away.
        """
        level = self.level[part]
        law = replace(self.law, shape=level.shape, sigma=1.0, grid=[[1.0]], plane=None)
        before, after = (law.sigma_at(at).astype(float) ** 2 for at in (level, level + light))
        return np.maximum(after / before - 1, 0) * np.asarray(self.sigma[part], float) ** 2


@dataclass(frozen=True, eq=False)
class Source:
    """
    A source that is put into a frame.

    Attributes
    ----------
    y, x : float
        Its place in px.
    place : str
        Kind of the place.
    galaxy : bool
        Whether it is a galaxy, not a star.
    snr, flux : tuple of float
        Matched-filter S/N and flux in each plane, the latter in the unit of the data.
    stamps : tuple of `numpy.ndarray`
        Its image in each plane, of sum 1, the middle on the pixel nearest to its place.
    """

    y: float
    x: float
    place: str
    galaxy: bool
    snr: tuple
    flux: tuple
    stamps: tuple

    @property
    def pixel(self):
        """The pixel nearest to its place (tuple of int)."""
        return round(self.y), round(self.x)

    def part(self, number):
        """
        Tell which pixels of a plane its stamp covers.

        Parameters
        ----------
        number : int
            The plane.

        Returns
        -------
        part : tuple of slice
            Rows and columns.
        """
        half = self.stamps[number].shape[0] // 2
        return tuple(slice(at - half, at + half + 1) for at in self.pixel)


def galaxy_stamp(image, y, x, *, radius, axis_ratio=1.0, angle=0.0, index=1.0, half=None):
    """
    Draw a Sersic galaxy as the frame's seeing shows it.

    Parameters
    ----------
    image : `astrodenoise.psfmodel.StarImage`
        The image of a star.
    y, x : float
        Its place from the middle of the stamp's middle pixel, in px.
    radius : float
        Half-light radius before the seeing, along the major axis, in px.
    axis_ratio : float, optional
        Of its isophotes.
    angle : float, optional
        Of the major axis from the rows, in radians.
    index : float, optional
        Sersic's n; 1 is an exponential disk.
    half : int, optional
        Half of the stamp's side in px, by default what it needs.

    Returns
    -------
    stamp : `numpy.ndarray`, (s, s)
        Of sum 1.
    """
    half = image.half + int(np.ceil(3 * radius)) if half is None else half
    n = (2 * half + 1) * OVERSAMPLED
    # the samples lie in the middle of equal parts of the pixels
    at = (np.arange(n) + 0.5) / OVERSAMPLED - 0.5 - half
    dy, dx = (at - y)[:, None], at - x
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    b = 2 * index - 1 / 3 + 0.009876 / index
    r = np.sqrt(along**2 + (across / axis_ratio) ** 2 + (0.3 / OVERSAMPLED) ** 2) / radius
    galaxy = np.exp(-b * r ** (1 / index))
    # light of a star, as a pixel sees it, at the same spacing
    reach = np.arange(-image.half * OVERSAMPLED, image.half * OVERSAMPLED + 1.0) / OVERSAMPLED
    star = image.light(reach[:, None], reach)
    side = [fft.next_fast_len(n + reach.size, real=True)] * 2
    blurred = fft.irfft2(fft.rfft2(galaxy, side) * fft.rfft2(star, side), side)
    first = reach.size // 2
    blurred = blurred[first : first + n, first : first + n]
    middle = OVERSAMPLED // 2
    stamp = blurred[middle::OVERSAMPLED, middle::OVERSAMPLED]
    return stamp / stamp.sum()


def draw_batches(targets, places, rng, n_sources, *, most=40):
    """
    Draw sources in batches, each to be put in at once.

    The kinds of place that the frame has get equally many; a quarter are galaxies; S/N is drawn
    flat in its logarithm, equally often in each bin of ``SNR_EDGES``.

    Parameters
    ----------
    targets : list of `Target`
        The planes.
    places : `astrodenoise.places.Places`
        Of the frame.
    rng : `numpy.random.Generator`
        Source of randomness.
    n_sources : int
        How many are wanted; there are fewer where the frame has no room.
    most : int, optional
        Batches at most.

    Returns
    -------
    batches : list of list of `Source`
        No two of a batch are nearer than 8 FWHM or 48 px.
    missing : dict of str
        Kinds of place that were left out -> why.
    """
    fwhm = max(target.image.fwhm for target in targets)
    apart = max(APART * fwhm, LEAST_APART)
    pixels, missing = {}, {}
    for name, how in PLACES.items():
        found = np.flatnonzero(places.kind == Places.number(name))
        # as many as go beside each other, more or less, in all batches; and not at one place alone
        room = most * max(found.size / apart**2, min(found.size, 1))
        if room < FEWEST or found.size < LEAST_ROOM * fwhm**2:
            missing[name] = f'the frame has {"none" if not found.size else "too little"} ({how})'
        else:
            pixels[name] = found
    if not pixels:
        return [], missing
    wanted = [name for name in pixels for _ in range(-(-n_sources // len(pixels)))]
    kinds = {name: _kinds(rng, wanted.count(name)) for name in pixels}
    left = {name: wanted.count(name) for name in pixels}
    batches = []
    while any(left.values()) and len(batches) < most:
        batch = _batch(targets, places, pixels, kinds, left, apart, rng)
        if not batch:
            break
        batches.append(batch)
    return batches, missing


def _kinds(rng, n):
    """Bins of S/N and whether it is a galaxy, for n sources, in random order."""
    n_bins = len(SNR_EDGES) - 1
    bins = np.arange(n) % n_bins
    galaxy = (np.arange(n) // n_bins) % round(1 / GALAXIES) == 0
    order = rng.permutation(n)
    return list(zip(bins[order].tolist(), galaxy[order].tolist(), strict=True))


def _batch(targets, places, pixels, kinds, left, apart, rng):
    """Find places for sources, the kinds in turn, until none is found any more."""
    width = places.kind.shape[1]
    taken, batch = np.empty((0, 2)), []
    open_kinds = {name for name in left if left[name]}
    while open_kinds:
        for name in list(pixels):
            if name not in open_kinds:
                continue
            at = rng.choice(pixels[name], TRIES)
            at = np.column_stack([at // width, at % width]) + rng.uniform(-0.5, 0.5, (TRIES, 2))
            far = np.ones(TRIES, bool)
            if len(taken):
                distance = np.hypot(*(at[:, None] - taken).transpose(2, 0, 1))
                far = distance.min(axis=1) > apart
            if not far.any():
                open_kinds.discard(name)
                continue
            place = at[np.argmax(far)]
            taken = np.vstack([taken, place])
            batch.append(_source(targets, place, name, *kinds[name].pop(), rng))
            left[name] -= 1
            if not left[name]:
                open_kinds.discard(name)
    return batch


def _source(targets, place, name, bin_, galaxy, rng):
    """Make a source at a place."""
    y, x = (float(at) for at in place)
    pixel = round(y), round(x)
    offset = y - pixel[0], x - pixel[1]
    low, high = np.log(SNR_EDGES[bin_ : bin_ + 2])
    snr = np.full(len(targets), np.exp(rng.uniform(low, high)))
    if len(targets) > 1:  # a colour
        tilt = np.linspace(-1, 1, len(targets)) * rng.normal(0, COLOUR)
        snr *= np.exp(tilt + rng.normal(0, OWN, len(targets)))
        snr = np.clip(snr, SNR_EDGES[0], np.nextafter(SNR_EDGES[-1], 0))
    stamps = [target.image.stamp(*offset) for target in targets]
    if galaxy:
        fwhm = min(target.image.fwhm for target in targets)
        shape = {
            'radius': max(fwhm, 1.5) * rng.uniform(*RADII), 'axis_ratio': rng.uniform(*AXES),
            'angle': rng.uniform(0, np.pi), 'index': rng.uniform(*INDICES),
        }  # fmt: skip
        # no larger than the margin of the places allows
        stamps = [
            galaxy_stamp(target.image, *offset, half=target.image.half, **shape)
            for target in targets
        ]
    flux = tuple(
        float(one * target.flux_noise(stamp, *pixel))
        for one, target, stamp in zip(snr, targets, stamps, strict=True)
    )
    return Source(y, x, name, galaxy, tuple(snr.tolist()), flux, tuple(stamps))


def add_sources(targets, sources, rng):
    """
    Put sources into a frame, with the noise that their light brings.

    Parameters
    ----------
    targets : list of `Target`
        The planes, not changed.
    sources : list of `Source`
        What is put in.
    rng : `numpy.random.Generator` or None
        Source of the noise; None adds the light alone.

    Returns
    -------
    planes : `numpy.ndarray`, (N, H, W)
        In the type of the data.
    """
    planes = np.stack([target.data for target in targets])
    for number, target in enumerate(targets):
        for source in sources:
            part = source.part(number)
            light = source.flux[number] * source.stamps[number]
            if rng is not None:
                noise = target.field.draw(rng, light.shape, bands=False)
                light = light + noise * np.sqrt(target.own_variance(part, light))
            planes[number][part] += light.astype(planes.dtype)
    return planes
