# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Synthetic noise on clean scenes (paper section 2.2).

A scene comes in units of the sky's sigma; so does everything here.  Noise is drawn on whole
scenes, because an estimator of whole frames has to see it before tiles are cut.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from astrodenoise.training.camera import stacked_noise, walking_noise
from astrodenoise.training.processing import jpeg, midtones, sharpen

__all__ = ['NoiseRanges', 'Observation', 'observe', 'observe_planes']

STEPS = 0.1, 1.5  # sigma, of values that come in whole steps


@dataclass(frozen=True)
class NoiseRanges:
    """
    How often each kind of noise appears and how strong it is.

    Attributes
    ----------
    exposure : tuple of float
        Range of the factor on the scene's brightness, log-uniform.
    shot : float
        Share of frames with photon noise.
    shot_gain : tuple of float
        Range of the variance added per sigma of signal, log-uniform.
    correlated : float
        Share of frames whose noise is correlated (registration, drizzle, debayering).
    walking : float
        Share of frames that drifted without being dithered.
    walking_sigma : tuple of float
        Rms in sigma of the pattern that this leaves.
    banding, blotches : float
        Share of frames with row or column banding, and with low-resolution blotches; where planes
        are seen together the blotches are of chroma: their sum over the planes is zero.
    banding_sigma, blotch_sigma : tuple of float
        Their rms in sigma.
    depth : float
        Share of frames whose depth varies over the field.
    low_noise : float
        Share of frames with 0 to 0.5 of the stated noise (identity and low-noise variants).
    sharpened, stretched, pictures, quantised, saturated, clipped, masked, planes : float
        Share of frames that are sharpened, stretched, made into pictures of 8 bit (at times JPEG),
        come in whole steps, have saturated stars, are cut off below, have bad pixels, stand on a
        level or gradient.
    told : float
        Share of frames whose noise is told instead of measured.
    unlike, missing : float
        Of planes that are seen together, the share of frames whose planes have noise of different
        kinds, and of those that lack a plane.
    """

    exposure: tuple = (0.3, 3.0)
    shot: float = 0.85
    shot_gain: tuple = (0.001, 0.4)
    correlated: float = 0.55
    walking: float = 0.06
    walking_sigma: tuple = (0.05, 0.3)
    banding: float = 0.2
    banding_sigma: tuple = (0.03, 0.4)
    blotches: float = 0.1
    blotch_sigma: tuple = (0.1, 0.5)
    depth: float = 0.25
    low_noise: float = 0.2
    sharpened: float = 0.04
    stretched: float = 0.06
    pictures: float = 0.06
    quantised: float = 0.1
    saturated: float = 0.2
    clipped: float = 0.04
    masked: float = 0.25
    planes: float = 0.3
    told: float = 0.4
    unlike: float = 0.3
    missing: float = 0.06


@dataclass
class Observation:
    """
    A scene as a camera saw it.

    Attributes
    ----------
    clean, noisy, sigma : `torch.Tensor`, (H, W), float32
        Truth, data and the true rms noise of each pixel.
    valid : `torch.Tensor`, (H, W), bool
        False for bad and saturated pixels.
    depth : `torch.Tensor`, (H, W), float32
        Relative noise of the sky over the field.
    shot_gain : float
        Variance added per sigma of signal.
    told : bool
        Whether the noise has to be told, because the frame does not show it or by chance.
    exposure : float
        Factor on the scene's brightness.
    """

    clean: torch.Tensor
    noisy: torch.Tensor
    sigma: torch.Tensor
    valid: torch.Tensor
    depth: torch.Tensor
    shot_gain: float
    told: bool
    exposure: float = 1.0


def _log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _normal(shape, generator, like):
    return torch.randn(shape, generator=generator, device=like.device)


def depth_map(rng, shape):
    """
    Draw the relative noise over the field: vignette, slope, hard-edged mosaic, dither borders.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.
    shape : tuple of int
        Shape of the frame.

    Returns
    -------
    depth : `numpy.ndarray`, (H, W), float32
        Relative rms, about 1.
    """
    y = np.linspace(-1, 1, shape[0])[:, None]
    x = np.linspace(-1, 1, shape[1])[None, :]
    kind = rng.integers(4)
    if kind == 0:
        cy, cx = rng.uniform(-0.4, 0.4, 2)
        depth = 1 + rng.uniform(0.1, 1.0) * ((y - cy) ** 2 + (x - cx) ** 2)
    elif kind == 1:
        depth = np.exp(rng.uniform(-0.5, 0.5) * y + rng.uniform(-0.5, 0.5) * x)
    elif kind == 2:
        angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        side = np.cos(angle) * x + np.sin(angle) * y > rng.uniform(-0.6, 0.6)
        depth = np.where(side, rng.uniform(1.2, 3.0), 1.0)
    else:
        depth = _dither_borders(rng, shape)
    return np.broadcast_to(depth / np.median(depth), shape).astype(np.float32)


def _dither_borders(rng, shape):
    """Relative noise where fewer of a stack's dithered exposures reach."""
    n_exposures, reach = int(rng.integers(3, 30)), rng.uniform(3, 40)
    count = np.zeros(shape, np.float32)
    for dy, dx in np.round(rng.normal(0, reach / 2, (n_exposures, 2))).astype(int):
        rows = slice(max(dy, 0), max(shape[0] + min(dy, 0), 0))
        columns = slice(max(dx, 0), max(shape[1] + min(dx, 0), 0))
        count[rows, columns] += 1
    return 1 / np.sqrt(np.maximum(count, 1))


def correlation_kernel(rng):
    """
    Draw the kernel by which registration, drizzle or debayering correlates noise.

    Parameters
    ----------
    rng : `numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    kernel : `numpy.ndarray`, (7, 7), float32
        Of unit norm, so that unit white noise keeps its rms.
    """
    at = np.arange(-3, 4)
    if rng.random() < 0.4:  # a bilinear shift by part of a pixel
        lines = [np.maximum(0, 1 - np.abs(at - rng.uniform(0, 0.5))) for _ in range(2)]
    elif rng.random() < 0.5:  # a smooth kernel: drizzle, cubic, many dithered frames
        width = rng.uniform(0.3, 1.1)
        widths = (width, width * rng.uniform(0.8, 1.25))
        lines = [np.exp(-0.5 * (at / w) ** 2) for w in widths]
    else:  # debayering by averages of neighbours, then a shift
        share = rng.uniform(0.1, 0.5)
        base = np.array([0, 0, share, 1, share, 0, 0])
        lines = []
        for _ in range(2):
            shift = rng.uniform(0, 0.5)
            lines.append((1 - shift) * base + shift * np.roll(base, 1))
    kernel = np.outer(*lines)
    return (kernel / np.sqrt(np.sum(kernel**2))).astype(np.float32)


def _convolve(image, kernel):
    """Convolve with reflected borders."""
    kernel = torch.as_tensor(kernel, device=image.device)
    pad = kernel.shape[-1] // 2
    padded = functional.pad(image[None, None], (pad, pad, pad, pad), mode='reflect')
    return functional.conv2d(padded, kernel[None, None])[0, 0]


def _shot_noise(rng, generator, clean, depth, gain):
    """Noise of photons and electronics, and its sigma; true Poisson counts where they are few."""
    if 1 / gain**2 < 200 and rng.random() < 0.7:  # electrons of the sky: sigma is their root
        electrons = 1 / gain**2
        counts = torch.clamp(electrons + clean / gain, min=0)
        noise = (torch.poisson(counts, generator=generator) - counts) * gain
        return noise, torch.sqrt(counts) * gain, torch.ones_like(depth)
    sigma = depth * torch.sqrt(1 + gain * torch.clamp(clean, min=0))
    return sigma * _normal(clean.shape, generator, clean), sigma, depth


def _banding(rng, generator, clean, ranges):
    """Offsets of rows or of columns (paper: fixed-pattern variations)."""
    axis = int(rng.integers(2))
    lines = _normal((clean.shape[axis],), generator, clean)
    if rng.random() < 0.4:
        width = int(rng.integers(2, 12))
        lines = functional.avg_pool1d(
            functional.pad(lines[None, None], (width, width), mode='reflect'), 2 * width + 1, 1
        )[0, 0]
        lines = lines / lines.std()
    lines = lines * float(rng.uniform(*ranges.banding_sigma))
    return lines[:, None].expand(clean.shape) if axis == 0 else lines.expand(clean.shape)


def _blotches(rng, generator, clean, ranges):
    """Low-resolution fluctuations brought up to the frame's size (paper: chroma blocks)."""
    block = int(rng.integers(4, 17))
    size = tuple(n // block + 2 for n in clean.shape)
    blotches = functional.interpolate(
        _normal((1, 1, *size), generator, clean), scale_factor=block, mode='bicubic'
    )[0, 0, : clean.shape[0], : clean.shape[1]]
    return blotches / blotches.std() * float(rng.uniform(*ranges.blotch_sigma))


def _bad_pixels(rng, shape):
    """Draw masked columns, blocks, borders and scattered pixels (True where good)."""
    valid = np.ones(shape, bool)
    kind = rng.integers(4)
    if kind == 0:
        for _ in range(rng.integers(1, 6)):
            column = rng.integers(shape[1])
            valid[rng.integers(shape[0]) :, column : column + rng.integers(1, 4)] = False
    elif kind == 1:
        for _ in range(rng.integers(1, 8)):
            y, x = (rng.integers(n) for n in shape)
            valid[y : y + rng.integers(3, 40), x : x + rng.integers(3, 40)] = False
    elif kind == 2:
        border = int(rng.integers(4, max(5, shape[0] // 4)))
        view = np.rot90(valid, rng.integers(4))
        view[:border] = False
    else:
        valid &= rng.random(shape) > rng.uniform(0.0005, 0.02)
    return valid


def _gradient(rng, shape):
    """A level and a slope of either sign, up to 1000 sigma and 1 sigma per pixel."""
    y = np.arange(shape[0])[:, None] - shape[0] / 2
    x = np.arange(shape[1]) - shape[1] / 2
    slopes = rng.choice([-1, 1], 2) * np.exp(rng.uniform(np.log(1e-3), 0, 2))
    level = rng.choice([-1, 1]) * _log_uniform(rng, 1, 1000)
    return (level + slopes[0] * y + slopes[1] * x).astype(np.float32)


def _chroma_blotches(rng, generator, clean, ranges):
    """Blotches of each plane that cancel in the planes' sum (paper: chroma block noise)."""
    state = int(rng.integers(2**62))
    fields = torch.stack(
        [_blotches(np.random.default_rng(state), generator, plane, ranges) for plane in clean]
    )
    return fields - fields.mean(dim=0)


def observe_planes(clean, rng, generator, *, ranges=None, brightest=None):
    """
    Add noise to a scene of several planes.

    Parameters
    ----------
    clean : `torch.Tensor`, (P, H, W), float32
        The scene in sigma over a sky of 0.
    rng : `numpy.random.Generator`
        Draws what happens.
    generator : `torch.Generator`
        Draws the noise.
    ranges : `NoiseRanges`, optional
        How often and how strong.
    brightest : float, optional
        Upper limit of the factor on the scene's brightness, for scenes that are only nearly clean.

    Returns
    -------
    observations : list of `Observation`
        One for each plane: of one camera, so of one kind of noise, but of unequal depth; of some
        frames each plane is of a kind of its own, and of some a plane is missing.
    """
    ranges = ranges or NoiseRanges()
    n_planes = len(clean)
    if n_planes == 1:
        return [observe(clean[0], rng, generator, ranges=ranges, brightest=brightest)]
    chroma = [None] * n_planes
    if rng.random() < ranges.blotches:
        chroma = _chroma_blotches(rng, generator, clean, ranges)
    states = rng.integers(2**62, size=n_planes)
    if rng.random() >= ranges.unlike:
        states[:] = states[0]
    depths = np.exp(rng.normal(0, 0.4, n_planes))
    if brightest is not None:
        depths = np.minimum(depths / depths.max(), 1)
    observations = [
        observe(
            plane * float(depth), np.random.default_rng(int(state)), generator,
            ranges=replace(ranges, blotches=0.0), brightest=brightest, extra=extra, colour=number,
        )
        for number, (plane, depth, state, extra) in enumerate(
            zip(clean, depths, states, chroma, strict=True)
        )
    ]  # fmt: skip
    if rng.random() < ranges.missing:
        observations[rng.integers(n_planes)].valid[:] = False
    return observations


def _correlate(rng, generator, noise, sigma, colour):
    """Correlate noise by a stack's steps or, with true counts in it, by a kernel."""
    if rng.random() < 0.6:
        shape, device = tuple(noise.shape), noise.device
        return sigma * stacked_noise(rng, generator, shape, plane=colour % 3, device=device)
    return _convolve(noise, correlation_kernel(rng))


def _walking(rng, generator, clean, ranges):
    """What a drift leaves; streaks are held below what is a trail."""
    noise = walking_noise(rng, generator, tuple(clean.shape), device=clean.device)
    return noise.clamp(-8, 8) * float(rng.uniform(*ranges.walking_sigma))


def _sharpen(rng, noisy, clean, sigma):
    """Sharpen data and truth; the noise grows by one factor."""
    amount, width = float(rng.uniform(0.2, 1.5)), float(rng.uniform(0.7, 2.5))
    before = (noisy - clean).std()
    noisy, clean = sharpen(noisy, amount, width), sharpen(clean, amount, width)
    return noisy, clean, sigma * ((noisy - clean).std() / before.clamp(min=1e-6))


def _stretch(rng, noisy, clean, sigma):
    """Stretch by asinh."""
    soft = _log_uniform(rng, 3, 50)
    sigma = sigma / torch.sqrt(1 + (clean / soft) ** 2)
    noisy, clean = (soft * torch.asinh(a / soft) for a in (noisy, clean))
    return noisy, clean, sigma


def _picture(rng, noisy, clean, sigma):
    """Make a picture of 8 bit by a midtones stretch, at times JPEG; white and black are cut off."""
    black, white = float(rng.uniform(3, 15)), 10 ** float(rng.uniform(1.7, 3.5))
    sky, goal = black / (black + white), float(rng.uniform(0.08, 0.3))
    midtone = (goal - 1) * sky / ((2 * goal - 1) * sky - goal)

    def levels(image):
        return 255 * midtones((image + black) / (black + white), midtone)

    slope = levels(clean + 0.5) - levels(clean - 0.5)
    seen, truth = levels(noisy), levels(clean)
    if rng.random() < 0.5:
        picture = jpeg(seen.cpu().numpy(), int(rng.integers(88, 101)))
        seen = torch.from_numpy(picture).to(seen.device)
    seen = torch.round(seen).clamp(0, 255)
    valid = (seen > 0) & (seen < 255)
    unit = float(levels(clean.new_tensor(0.5)) - levels(clean.new_tensor(-0.5)))
    sigma = torch.sqrt((slope * sigma) ** 2 + 1 / 12) / unit
    return seen / unit, torch.where(valid, truth, seen) / unit, sigma, valid


def observe(clean, rng, generator, *, ranges=None, brightest=None, extra=None, colour=1):
    """
    Add noise to a clean scene the way cameras and pipelines do.

    Parameters
    ----------
    clean : `torch.Tensor`, (H, W), float32
        The scene in sigma over a sky of 0.
    rng : `numpy.random.Generator`
        Draws what happens.
    generator : `torch.Generator`
        Draws the noise.
    ranges : `NoiseRanges`, optional
        How often and how strong.
    brightest : float, optional
        Upper limit of the factor on the scene's brightness, for scenes that are only nearly clean.
    extra : `torch.Tensor`, (H, W), optional
        A pattern that is added to the noise.
    colour : int, optional
        Which of a camera's planes this is: 0 red, 1 green, 2 blue.

    Returns
    -------
    observation : `Observation`
        Truth, data and what is known of the noise.
    """
    ranges = ranges or NoiseRanges()
    exposure = _log_uniform(rng, *ranges.exposure)
    exposure = min(exposure, brightest or exposure)
    clean = clean * exposure
    noise, sigma, depth, gain = _noise(rng, generator, clean, ranges, colour)
    patterns = [] if extra is None else [extra]
    for share, pattern in (
        (ranges.banding, _banding), (ranges.walking, _walking), (ranges.blotches, _blotches)
    ):  # fmt: skip
        if rng.random() < share:
            patterns.append(pattern(rng, generator, clean, ranges))
    for pattern in patterns:
        noise = noise + pattern
        sigma = torch.sqrt(sigma**2 + pattern.var())
    told = rng.random() < ranges.told
    if rng.random() < ranges.low_noise:
        # the half of them without any noise: the identity variant
        noise, told = noise * max(0.0, float(rng.uniform(-0.5, 0.5))), True
    noisy, clean, sigma, valid = _process(rng, clean + noise, clean, sigma, ranges, told)
    if rng.random() < ranges.planes:
        plane = torch.as_tensor(_gradient(rng, clean.shape), device=clean.device)
        noisy, clean = noisy + plane, clean + plane
        told = told and gain == 0  # a law told for a sky of 0 does not hold on a pedestal
    if rng.random() < ranges.quantised and not told:
        step = float(rng.uniform(*STEPS))
        noisy = torch.round(noisy / step) * step
        sigma = torch.sqrt(sigma**2 + step**2 / 12)
    if rng.random() < ranges.masked:
        good = torch.as_tensor(_bad_pixels(rng, tuple(clean.shape)), device=clean.device)
        valid = valid & good
    return Observation(clean, noisy, sigma, valid, depth, gain, told, exposure)


def _noise(rng, generator, clean, ranges, colour):
    """Noise of photons, electronics and the stack's steps; its sigma, depth and gain."""
    depth, gain = torch.ones_like(clean), 0.0
    if rng.random() < ranges.depth:
        depth = torch.as_tensor(depth_map(rng, clean.shape), device=clean.device)
    if rng.random() < ranges.shot:
        gain = _log_uniform(rng, *ranges.shot_gain)
        noise, sigma, depth = _shot_noise(rng, generator, clean, depth, gain)
    else:
        noise, sigma = depth * _normal(clean.shape, generator, clean), depth
    if rng.random() < ranges.correlated:
        noise = _correlate(rng, generator, noise, sigma, colour)
    return noise, sigma, depth, gain


def _process(rng, noisy, clean, sigma, ranges, told):
    """Pass data and truth through what cuts them off and what is done to them late."""
    valid = torch.ones_like(clean, dtype=torch.bool)
    if rng.random() < ranges.sharpened and not told:
        noisy, clean, sigma = _sharpen(rng, noisy, clean, sigma)
    if rng.random() < ranges.saturated:
        full = 10 ** float(rng.uniform(1.2, 3.5))
        noisy = torch.clamp(noisy, max=full)
        valid = noisy < full
        clean = torch.where(valid, clean, noisy)
    if rng.random() < ranges.stretched and not told:
        noisy, clean, sigma = _stretch(rng, noisy, clean, sigma)
    elif rng.random() < ranges.pictures and not told:
        noisy, clean, sigma, seen = _picture(rng, noisy, clean, sigma)
        valid = valid & seen
    if rng.random() < ranges.clipped:
        floor = -float(rng.uniform(0.8, 3.0))
        noisy = torch.clamp(noisy, min=floor)
        valid = valid & (noisy > floor)
        clean = torch.where(valid, clean, noisy)
    return noisy, clean, sigma, valid
