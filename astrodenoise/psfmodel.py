# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The image of a star, measured on a frame.

Bright, isolated, unsaturated stars are fitted together with an elliptical Moffat profile, each at
its own place between the pixels.  What the profile leaves is collected at twice the sampling of the
pixels, where there are stars enough: spikes, coma and undersampled cores are in it.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import ndimage, optimize, spatial

from astrodenoise.measures.detections import matched_filter, moffat, peaks
from astrodenoise.measures.shapes import stamps_at

__all__ = ['StarImage', 'measure_star_image']

REACH = 4.0  # FWHM, how far a star's image goes
FIRST_WIDTH = DEFAULT_WIDTH = 3.0  # px, FWHM: looked for first, and where no star tells it
DEFAULT_BETA, BETA_SPREAD = 3.0, 0.3  # of most telescopes, and how far their logarithms scatter
TRIAL_WIDTHS = (0.7, 0.9, 1.2, 1.6, 2.1, 2.8, 3.7, 4.9, 6.4, 8.5, 12.0)  # px; the last is no star's
WRONG = 1.8  # ratio of the fitted to the trial's width from which on no stars were fitted
TRIAL_HALF = 10  # px, half of a side on which they are compared
NARROW = 3.5  # px, FWHM up to which stars do not move the level on 20 px
SMALLEST = 6  # px, half of the side on which stars are fitted, at least
BRIGHT, FAINT, FAINTEST = 50.0, 20.0, 5.0  # matched-filter S/N of the stars that are fitted
CALM = 0.03  # of a star's peak, by which what is around it may scatter beside the noise
TOGETHER = 15.0  # S/N of all of the faintest together, below which they tell nothing
MANY, FEW = 15, 4  # stars that tell the image pixel by pixel, and a profile
MOST = 40  # stars that are fitted, the brightest
NEIGHBOUR, APART = 0.1, 4.0  # share of a star's peak, and FWHM within which no other one has it
FINE = 2  # samples of the leftover image across a pixel
ROUNDS = 3  # places and profile are fitted in turn
BETAS = (2.0, 12.0)  # bounds of the fit
TO_SIGMA = 1.4826  # of the median of absolute deviations


@dataclass(frozen=True, eq=False)
class StarImage:
    """
    The image of a star of a frame.

    Attributes
    ----------
    fwhm : float
        Of the profile in px, geometric mean of its axes.
    beta : float
        How fast its wings fall.
    shear : tuple of float
        Ellipticity (1 - q) / (1 + q) along the axes and the diagonals, q the ratio of the axes.
    kind : {'stars', 'profile', 'assumed'}
        Measured pixel by pixel, a profile fitted to few stars, or a round one of 3 px because no
        star tells.
    n_stars : int
        Stars that it rests on.
    rest : `numpy.ndarray` or None
        What the profile leaves, sampled twice per pixel; light per square pixel of a star of unit
        flux.
    """

    fwhm: float
    beta: float = DEFAULT_BETA
    shear: tuple = (0.0, 0.0)
    kind: str = 'assumed'
    n_stars: int = 0
    rest: np.ndarray | None = None

    @property
    def half(self):
        """Half of a stamp's side in px (int): 4 FWHM."""
        return int(np.ceil(REACH * self.fwhm))

    @property
    def source(self):
        """What it was measured on, in words (str)."""
        told = f'FWHM {self.fwhm:.2f} px'
        if self.kind == 'stars':
            return f'{told}, image of {self.n_stars} stars'
        if self.kind == 'profile':
            return f'{told}, Moffat profile fitted to {self.n_stars} stars'
        return f'{told} assumed: too few bright stars stand alone'

    def light(self, dy, dx):
        """
        Give the light of a star of unit flux in pixels.

        Parameters
        ----------
        dy, dx : `numpy.ndarray`
            Distances of the pixels' middles from the star in px; they are broadcast.

        Returns
        -------
        light : `numpy.ndarray`
            Flux per pixel; the sum over a stamp is near 1.
        """
        light = _profile(dy, dx, self.fwhm, self.beta, self.shear)
        if self.rest is not None:
            middle = (self.rest.shape[0] - 1) / 2
            at = np.broadcast_arrays(*(FINE * np.asarray(d, float) + middle for d in (dy, dx)))
            light = light + ndimage.map_coordinates(self.rest, at, order=1, mode='constant')
        return light

    def stamp(self, y=0.0, x=0.0):
        """
        Draw a star.

        Parameters
        ----------
        y, x : float, optional
            Its place from the middle of the stamp's middle pixel, in px.

        Returns
        -------
        stamp : `numpy.ndarray`, (s, s)
            Of odd side, 4 FWHM to either side, sum 1.
        """
        at = np.arange(-self.half, self.half + 1.0)
        stamp = self.light((at - y)[:, None], at - x)
        return stamp / stamp.sum()


def _profile(dy, dx, fwhm, beta, shear):
    """Moffat profile of unit flux, integrated over each pixel."""
    samples = 5 if fwhm < 2 else 3 if fwhm < 5 else 1
    parts = (np.arange(samples) - (samples - 1) / 2) / samples
    (g1, g2), square = shear, shear[0] ** 2 + shear[1] ** 2
    a, c, b = (n / (1 - square) for n in (1 + square - 2 * g1, 1 + square + 2 * g1, -4 * g2))
    scale = (4 * (2 ** (1 / beta) - 1)) / fwhm**2
    light = 0.0
    for y in parts:
        for x in parts:
            v, u = dy + y, dx + x
            light = light + (1 + scale * (a * u**2 + b * u * v + c * v**2)) ** -beta
    # of all the light, to where the wings end far outside of any stamp
    total = np.pi / scale / (beta - 1) * (1 - (1 + scale * (20 * fwhm) ** 2) ** (1 - beta))
    return light / samples**2 / total


def measure_star_image(data, valid, *, level, background, sigma):
    """
    Measure the image of a star on a frame.

    Parameters
    ----------
    data : `numpy.ndarray`, (H, W)
        One plane; finite where it is valid.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count; saturated ones do not.
    level, background : `numpy.ndarray`, (H, W)
        Local level on 20 px, over which stars are searched, and on 110 px, over which wide ones
        are measured.
    sigma : `numpy.ndarray`, (H, W), or float
        Noise of a pixel, in the unit of the data.

    Returns
    -------
    image : `StarImage`
        Of the stars, or an assumed one.
    """
    narrow, wide = (np.where(valid, data - under, 0.0) for under in (level, background))
    found = _stars(narrow, wide, valid, sigma)
    if found is None:
        return StarImage(DEFAULT_WIDTH)
    y, x, strength, fwhm = found
    light = narrow if fwhm < NARROW else wide
    image, trial = StarImage(fwhm), fwhm
    for _ in range(2):  # the trial's width may be too small for the stamps
        fwhm, half = image.fwhm, max(image.half, SMALLEST)
        inside = [(at >= half) & (at < n - half) for at, n in zip((y, x), data.shape, strict=True)]
        inside = np.all(inside, axis=0)
        if np.count_nonzero(inside) < FEW:
            break
        stamps = stamps_at(light, y[inside], x[inside], half).astype(float)
        image = _fit(stamps, np.minimum(strength[inside], 10 * BRIGHT), fwhm)
        if image.fwhm < 1.2 * fwhm:
            break
    return image if image.fwhm < WRONG * trial else StarImage(DEFAULT_WIDTH)


def _stars(narrow, wide, valid, sigma):
    """Places, S/N and common width of bright stars that stand alone; None where too few do."""
    half, fwhm = TRIAL_HALF, FIRST_WIDTH
    if min(valid.shape) < 4 * half:
        return None
    inner = np.zeros(valid.shape, bool)
    inner[half:-half, half:-half] = True
    inner &= ndimage.minimum_filter(valid, 5)
    for _ in range(2):  # the first time the width is a guess
        light = narrow if fwhm < NARROW else wide
        y, x, height = _peaks(light, inner, sigma, fwhm)
        found = _alike_stars(light / sigma, y, x, height)
        if found is None:
            break
        star, fwhm = found
    if found is not None:
        return y[star], x[star], height[star], fwhm
    if len(y) < FEW or np.sum(height**2) < TOGETHER**2:
        return None
    return y[:MOST], x[:MOST], height[:MOST], fwhm


def _peaks(light, inner, sigma, fwhm):
    """Places and S/N of what stands alone, the brightest first."""
    y, x, height = peaks(matched_filter(light, moffat(fwhm), sigma), FAINTEST)
    chosen = np.flatnonzero(inner[y, x] & _alone(y, x, height, fwhm))
    best = chosen[np.argsort(height[chosen])[::-1][: 5 * MOST]]
    return y[best], x[best], height[best]


def _alike_stars(unit, y, x, height):
    """Which of these are stars, and their width; None where too few are bright and alike."""
    stamps = stamps_at(unit, y, x, TRIAL_HALF)
    calm = _calm(stamps)
    for least, enough in ((BRIGHT, MANY), (FAINT, FEW)):
        for wanted in (calm, np.ones_like(calm)):
            sure = np.flatnonzero((height > least) & wanted)
            if sure.size < enough:
                continue
            star, fwhm = _alike(_trial_widths(stamps[sure]))
            if np.count_nonzero(star) >= enough:
                return sure[star][:MOST], fwhm
    return None


def _calm(stamps):
    """Which of the stars, in units of sigma, have nothing but noise around them."""
    far = np.hypot(*np.mgrid[-TRIAL_HALF : TRIAL_HALF + 1, -TRIAL_HALF : TRIAL_HALF + 1]) > 7
    ring, middle = stamps[:, far], stamps[:, TRIAL_HALF, TRIAL_HALF]
    spread = TO_SIGMA * np.median(np.abs(ring - np.median(ring, axis=1, keepdims=True)), axis=1)
    return spread < 1.3 + CALM * np.maximum(middle, 0)


def _trial_widths(stamps):
    """Find which of the trial widths fits each star best; 0 is that of a single pixel."""
    at = np.arange(-TRIAL_HALF, TRIAL_HALF + 1.0)
    phases = np.linspace(-0.4, 0.4, 5)
    spike = np.zeros((1, at.size, at.size))
    spike[0, TRIAL_HALF, TRIAL_HALF] = 1
    trials = [spike]
    for image in map(StarImage, TRIAL_WIDTHS):
        stars = [image.light((at - y)[:, None], at - x) for y in phases for x in phases]
        trials.append(np.array(stars))
    near = np.hypot(at[:, None], at) <= TRIAL_HALF
    stars = stamps[:, near] - stamps[:, near].mean(axis=1, keepdims=True)
    fits = []
    for trial in trials:
        shapes = trial[:, near] - trial[:, near].mean(axis=1, keepdims=True)
        shapes /= np.sqrt(np.sum(shapes**2, axis=1, keepdims=True))
        fits.append((stars @ shapes.T).max(axis=1))
    return np.argmax(fits, axis=0)


def _alike(widths):
    """Tell which stars have about the width that most have, and this width in px."""
    counts = np.bincount(widths, minlength=len(TRIAL_WIDTHS) + 1).astype(float)
    counts[0] = counts[-1] = 0  # hot pixels and cosmic rays; knots of nebulae and galaxies
    around = counts + 0.5 * (np.append(counts[1:], 0) + np.append(0, counts[:-1]))
    common = np.argmax(around[1:]) + 1
    return (widths > 0) & (np.abs(widths - common) <= 1), TRIAL_WIDTHS[common - 1]


def _alone(y, x, height, fwhm):
    """Whether no neighbour disturbs a star."""
    alone = np.ones(len(y), bool)
    if len(y) > 1:
        tree = spatial.cKDTree(np.column_stack([y, x]))
        i, j = tree.query_pairs(APART * fwhm, output_type='ndarray').T
        alone[i[height[j] > NEIGHBOUR * height[i]]] = False
        alone[j[height[i] > NEIGHBOUR * height[j]]] = False
    return alone


def _fit(stamps, strength, fwhm):
    """Fit one profile to all stars, each with its own flux, place and background."""
    half = stamps.shape[1] // 2
    at = np.arange(-half, half + 1.0)
    radius = np.hypot(at[:, None], at)
    near = radius <= max(2 * fwhm, 3)
    ring = (radius > max(2.5 * fwhm, 3)) & (radius <= half)
    level = np.median(stamps[:, ring], axis=1)
    stars, tiny = stamps[:, near] - level[:, None], np.finfo(float).tiny
    area = np.sqrt(1 / np.sum(moffat(fwhm) ** 2))
    # as far as the trial width is off, and no wider than the stamp
    values = np.array([np.log(fwhm), np.log(DEFAULT_BETA), 0.0, 0.0])
    low = (np.log(fwhm / 1.6), np.log(BETAS[0]), -0.5, -0.5)
    high = (np.log(fwhm * 1.6), np.log(BETAS[1]), 0.5, 0.5)

    def lights(values, places):
        dy, dx = (at - place[:, None] for place in places.T)
        image = StarImage(*np.exp(values[:2]), tuple(values[2:]))
        return image.light(dy[:, :, None], dx[:, None, :])

    def scaled(values, places):
        """Model of unit flux and fluxes of the stars; their backgrounds taken off both."""
        model = lights(values, places)
        model = model[:, near] - np.median(model[:, ring], axis=1, keepdims=True)
        return model, np.sum(model * stars, axis=1) / np.sum(model**2, axis=1)

    def misfit(values, places, spread=1.0):
        model, flux = scaled(values, places)
        rest = (stars - flux[:, None] * model) * (area * strength / np.maximum(flux, tiny))[:, None]
        # stars in a crowd share their errors: many of them are no surer of the wings
        prior = spread * len(stars) * (values[1] - np.log(DEFAULT_BETA)) / BETA_SPREAD
        return np.append(rest.ravel(), prior)

    places = _placed(stamps, np.zeros((len(stamps), 2)), partial(lights, values), near)
    for round_ in range(ROUNDS):
        if round_:  # without what is no star, or does not stand alone
            kept = _well_fitted(misfit(values, places)[:-1].reshape(len(stars), -1), strength)
            stamps, stars, level = stamps[kept], stars[kept], level[kept]
            strength, places = strength[kept], places[kept]
        spread = max(TO_SIGMA * np.median(np.abs(misfit(values, places))), 1e-12)
        values = optimize.least_squares(
            misfit, values, bounds=(low, high), loss='soft_l1', f_scale=3 * spread,
            x_scale=(0.1, 0.3, 0.1, 0.1), args=(places, spread),
        ).x  # fmt: skip
        places = _placed(stamps, places, partial(lights, values), near)
    _, flux = scaled(values, places)
    sound = (flux > 0) & (np.hypot(*places.T) < max(fwhm, 1.5))
    image = StarImage(*np.exp(values[:2]).tolist(), tuple(values[2:].tolist()), 'profile',
                      int(sound.sum()))  # fmt: skip
    if sound.sum() < MANY or np.median(strength) < BRIGHT:
        return image
    model = lights(values, places)
    level -= flux * np.median(model[:, ring], axis=1)
    rest = (stamps - level[:, None, None]) / flux[:, None, None] - model
    rest = _collected(rest[sound], places[sound], image)
    return replace(image, kind='stars', rest=rest)


def _well_fitted(misfits, strength):
    """Which stars the common profile fits as well as it does most; half of them at least."""
    rest = np.sqrt(np.mean(misfits**2, axis=1))
    share = np.sqrt(np.maximum(rest**2 - np.min(rest) ** 2, 0)) / strength
    return share <= max(2 * np.median(share), 0.02)


def _placed(stamps, places, lights, near):
    """Move each star to where its model fits best."""
    step = 0.05
    middle = lights(places)[:, near]
    slopes = [
        (lights(places + shift)[:, near] - lights(places - shift)[:, near]) / (2 * step)
        for shift in (np.array([step, 0]), np.array([0, step]))
    ]
    moved = places.copy()
    for i, star in enumerate(stamps[:, near]):
        columns = np.column_stack([middle[i], slopes[0][i], slopes[1][i], np.ones(star.size)])
        flux, dy, dx, _ = np.linalg.lstsq(columns, star, rcond=None)[0]
        if flux > 0:
            moved[i] += np.clip([dy / flux, dx / flux], -0.5, 0.5)
    return moved


def _collected(rest, places, image):
    """Medians of what is left of all stars, on a grid of half pixels, as far as they are sure."""
    half = rest.shape[1] // 2
    n = 2 * FINE * half + 1
    at = np.arange(-half, half + 1)
    rows, columns = (
        np.round(FINE * (at - place[:, None])).astype(int) + FINE * half for place in places.T
    )
    cell = rows[:, :, None] * n + columns[:, None, :]
    inside = ((rows >= 0) & (rows < n))[:, :, None] & ((columns >= 0) & (columns < n))[:, None, :]
    order = np.argsort(cell[inside], kind='stable')
    cells, values = cell[inside][order], rest[inside][order]
    names, first = np.unique(cells, return_index=True)
    grid, sure = np.zeros(n * n), np.zeros(n * n)
    for name, part in zip(names, np.split(values, first[1:]), strict=True):
        if part.size < 3:
            continue
        middle = np.median(part)
        error = 1.25 * TO_SIGMA * np.median(np.abs(part - middle)) / np.sqrt(part.size)
        grid[name] = middle
        # what is no more than its error is none
        sure[name] = max(0.0, 1 - 2 * error**2 / max(middle**2, 1e-300))
    grid = (grid * sure).reshape(n, n)
    radius = np.hypot(*np.mgrid[-(n // 2) : n // 2 + 1, -(n // 2) : n // 2 + 1]) / FINE
    grid *= np.clip((REACH * image.fwhm - radius) / image.fwhm, 0, 1)
    return ndimage.gaussian_filter(grid, 0.5)
