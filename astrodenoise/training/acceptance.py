# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Whether fine-tuned weights may take the place of those that they started from.

On held-out sky the error of a denoised frame d is the mean of (d - B1) (d - B2), B1 and B2 being
the means of other exposures: their noise drops out.  On simulated stars fluxes and detections are
compared with the truth.  Where either got worse by more than its error the weights are refused.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from astrodenoise.estimate import measure_plane
from astrodenoise.measures import detections, pixels, sources
from astrodenoise.measures.comparison import open_comparison, whole
from astrodenoise.measures.figures import bootstrap_error, combine_figures, mean_ratio
from astrodenoise.training.library import simulate
from astrodenoise.training.pairs import light_difference
from astrodenoise.training.synthesis import NoiseRanges, observe_planes

__all__ = ['Measured', 'Row', 'Verdict', 'judge', 'measure_weights', 'simulated_stars']

N_SCENES, SCENE_SIZE = 24, 512
KINDS = {'stars': 3, 'cluster': 1, 'faint': 2}
TABLE_SEED = 4_321_000
N_ERRORS = 3.0  # errors of a difference: of seven figures chance refuses one in a hundred times
BRIGHTEST = 100.0  # sigma, of the pixels that count
SMOOTH = 1.5  # px, of the others, which tell the level
BLOCK = 32  # px, that the errors of scores are told by
FAINT = 1.0  # sigma, below which the noise of a single other frame is told
LEAST_SIGMA = 0.1  # of the usual one
BLANK_SNR = 0.5  # of the truth's own light, below which a peak is false


@dataclass(frozen=True, eq=False)
class Measured:
    """
    What was measured of weights.

    Attributes
    ----------
    scores : `numpy.ndarray`, (n, 3)
        Sums over blocks of held-out sky: of the error's power, of that of the noisy frame, of the
        weights of the pixels.
    groups : `numpy.ndarray`, (n,), int
        The place of each block.
    own : float
        Power of the others' own noise, in the same unit; 0 where it drops out.
    stars : dict of str to `astrodenoise.measures.figures.Figure`
        Of simulated stars.
    shown : list of `numpy.ndarray`
        The first held-out frame, denoised; then no more.
    """

    scores: np.ndarray
    groups: np.ndarray
    own: float
    stars: dict
    shown: list


@dataclass(frozen=True)
class Row:
    """
    One figure of both weights.

    Attributes
    ----------
    label, unit : str
        What it is.
    before, after : float
        Of the weights that were started from, and of the new ones.
    change, error : float
        How much worse it became (negative: better), and the standard error of that.
    limit : float
        How much worse it may be.
    """

    label: str
    unit: str
    before: float
    after: float
    change: float
    error: float
    limit: float

    @property
    def worse(self):
        """Whether it is worse by more than it may be (bool)."""
        return bool(self.change > self.limit)


@dataclass(frozen=True)
class Verdict:
    """
    What became of the new weights.

    Attributes
    ----------
    rows : list of `Row`
        The score on held-out sky first, then the simulated stars.
    noisy : float
        Score of the noisy frames.
    """

    rows: list
    noisy: float

    @property
    def refused(self):
        """Figures that are worse by more than they may be (list of `Row`)."""
        return [row for row in self.rows if row.worse]

    @property
    def accepted(self):
        """Whether no figure is worse by more than its error (bool)."""
        return not self.refused

    @property
    def improved(self):
        """Whether the score on held-out sky is better by more than its error (bool)."""
        return bool(self.rows[0].change < -N_ERRORS * self.rows[0].error)

    def reason(self):
        """
        Say in a line what became of the weights.

        Returns
        -------
        text : str
            With figures.
        """
        if self.refused:
            figures = '; '.join(
                f'{row.label} {_pair(row)} (worse by {row.change:.3g} ± {row.error:.2g}, allowed '
                f'{row.limit:.2g})'
                for row in self.refused
            )
            return f'refused: {figures}'
        score = self.rows[0]
        text = f'accepted: {score.label} {_pair(score)} (change {score.change:+.2g} ± '
        text += f'{score.error:.1g})'
        return text if self.improved else f'{text}, no better than before within its error'

    def __str__(self):
        lines = [('', 'before', 'fine-tuned', 'worse by', 'allowed', '')]
        lines += [
            (f'{row.label} ({row.unit})', f'{row.before:.4g}', f'{row.after:.4g}',
             f'{row.change:+.3g} ± {row.error:.2g}',
             f'{row.limit:.2g}' if np.isfinite(row.limit) else 'any',
             'REFUSED' if row.worse else 'ok')
            for row in self.rows
        ]  # fmt: skip
        widths = [max(len(line[i]) for line in lines) for i in range(6)]
        return '\n'.join(
            '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def to_dict(self):
        """
        Give all of it as plain types.

        Returns
        -------
        verdict : dict
            'accepted', 'improved', 'noisy' and 'figures'.
        """
        return {
            'accepted': self.accepted,
            'improved': self.improved,
            'noisy': self.noisy,
            'figures': [
                {k: v if v == v and v not in (np.inf, -np.inf) else None
                 for k, v in vars(row).items()} | {'worse': row.worse}
                for row in self.rows
            ],
        }


def _pair(row):
    return f'{row.before:.4g} -> {row.after:.4g} {row.unit}'.rstrip()


# --- simulated stars -----------------------------------------------------------------------------


def simulated_stars(n_planes, *, n_scenes=None, size=None):
    """
    Draw star fields with noise, whose truth is known; never those of a training.

    Parameters
    ----------
    n_planes : int
        Planes of each.
    n_scenes : int, optional
        How many.
    size : int, optional
        Side in px.

    Returns
    -------
    scenes : list of list of `astrodenoise.training.synthesis.Observation`
        Planes of each scene; the same for every call.
    """
    ranges = replace(
        NoiseRanges(), low_noise=0, sharpened=0, stretched=0, pictures=0, quantised=0, saturated=0,
        clipped=0, masked=0, planes=0, told=0, missing=0, blotches=0,
    )  # fmt: skip
    side = size or SCENE_SIZE
    drawn = {'seed': TABLE_SEED, 'kinds': KINDS, 'size': side, 'planes': n_planes}
    scenes = []
    for number in range(n_scenes or N_SCENES):
        rng = np.random.default_rng((TABLE_SEED, number))
        generator = torch.Generator().manual_seed(TABLE_SEED + number)
        clean = torch.from_numpy(simulate(drawn | {'number': number}).image)
        scenes.append(observe_planes(clean, rng, generator, ranges=ranges))
    return scenes


def _star_figures(seen, denoised):
    """Fluxes and detections of one plane."""
    parts = (seen.clean.numpy().astype(float), seen.noisy.numpy().astype(float), denoised)
    sigma = seen.sigma.numpy()
    sigma = np.maximum(sigma, LEAST_SIGMA * np.median(sigma))  # no count expected, no noise
    scene = open_comparison(*parts, seen.valid.numpy(), sigma=sigma)
    flux = sources.aperture_flux(
        scene.truth, scene.noisy, scene.denoised, scene.stars, sigma=scene.sigma
    )
    figures = {key: value for key, value in flux.items() if key.startswith('percent')}
    noise = detections.filter_noise(scene.filtered(scene.noisy - scene.truth), scene.sky)
    maps = [scene.filtered(f - scene.background) / noise for f in (scene.noisy, scene.denoised)]
    blank = scene.valid & (np.abs(scene.strength) < BLANK_SNR)
    figures['false'] = detections.false_peaks(maps[1], blank)
    y, x = whole(scene.y), whole(scene.x)
    inside = (y >= 0) & (x >= 0) & (y < blank.shape[0]) & (x < blank.shape[1])
    y, x = y[inside], x[inside]
    error = scene.filtered(scene.denoised - scene.truth)
    for low, high in ((3, 5), (5, 10)):
        figures[f'recovered {low}-{high}'] = detections.recovered_flux(
            error, y, x, scene.strength[y, x], low=low, high=high
        )
    figures['gain'] = pixels.region_gains(
        scene.before, scene.after, scene.level, valid=scene.valid
    )['all']
    return figures


STAR_ROWS = {  # key: label, unit, how bad a value is
    'percent 5-12': ('flux bias of simulated stars, S/N 5-12', '%', abs),
    'percent 12-50': ('flux bias of simulated stars, S/N 12-50', '%', abs),
    'percent >50': ('flux bias of simulated stars, S/N >50', '%', abs),
    'recovered 3-5': ('light left of simulated stars, S/N 3-5', '', lambda v: abs(1 - v)),
    'recovered 5-10': ('light left of simulated stars, S/N 5-10', '', lambda v: abs(1 - v)),
    'false': ('false peaks on simulated sky', 'per Mpx', float),
}


# --- held-out sky --------------------------------------------------------------------------------


def _score(one, denoised, number):
    """Sums over blocks of one held-out frame, their places, and the others' own power."""
    sums, places, own = [], [], []
    for plane, where in enumerate(one.where):
        noisy = np.where(where, one.noisy[plane], 0).astype(float)
        first = one.first[plane].astype(float)
        second = first if one.second is None else one.second[plane].astype(float)
        finite = np.isfinite(one.noisy[plane])
        noise = measure_plane(np.where(finite, one.noisy[plane], 0), finite)
        level = ndimage.gaussian_filter((first + second) / 2, SMOOTH)
        sigma = noise.sigma_at(level).astype(float)
        height = (level - noise.sky) / noise.sigma
        # where seeing makes more difference than noise, a pixel counts accordingly less
        light = np.maximum(height, 0) * noise.sigma
        seeing = light_difference((noisy - noise.sky) / noise.sigma, light / noise.sigma, where)
        weight = where * (height < BRIGHTEST) / (1 + (seeing * light / sigma) ** 2)
        powers = [
            (frame - first) * (frame - second) / sigma**2
            for frame in (np.where(where, denoised[plane], 0), noisy)
        ]
        if one.second is None:
            calm = where & (height < FAINT)
            spread = np.percentile(((noisy - first) / sigma)[calm if calm.any() else where],
                                   [15.87, 84.13])  # fmt: skip
            own.append((np.ptp(spread) / 2) ** 2 - 1)
        for y in range(0, where.shape[0], BLOCK):
            for x in range(0, where.shape[1], BLOCK):
                part = (slice(y, y + BLOCK), slice(x, x + BLOCK))
                if where[part].any():
                    sums.append([np.sum((weight * p)[part]) for p in powers] + [weight[part].sum()])
                    places.append((number, y // BLOCK, x // BLOCK))
    if one.own is not None:
        return sums, places, one.own
    return sums, places, max(0.0, float(np.mean(own))) if own else 0.0


def measure_weights(denoise, held_out, scenes):
    """
    Measure weights on held-out sky and on simulated stars.

    Parameters
    ----------
    denoise : callable
        Planes (P, H, W) to denoised planes; NaN at pixels that do not count.
    held_out : list of list of `astrodenoise.training.noise2noise.HeldOut`
        Frames of each field.
    scenes : list
        As `simulated_stars` gives them.

    Returns
    -------
    measured : `Measured`
        For `judge`.
    """
    sums, places, own, shown = [], [], [], []
    for number, frames in enumerate(held_out):
        for one in frames:
            denoised = np.asarray(denoise(one.noisy))
            found = _score(one, denoised, number)
            sums += found[0]
            places += found[1]
            own.append(found[2])
            if not shown:
                shown.append(denoised)
    _, groups = np.unique(np.array(places), axis=0, return_inverse=True)
    figures = {}
    for seen in scenes:
        denoised = np.asarray(denoise(np.stack([plane.noisy.numpy() for plane in seen])), float)
        planes = [_star_figures(*pair) for pair in zip(seen, denoised, strict=True)]
        for key in planes[0]:
            figures.setdefault(key, []).append(
                combine_figures([plane[key] for plane in planes], planes=True)
            )
    stars = {key: combine_figures(values) for key, values in figures.items()}
    return Measured(np.array(sums), groups.ravel(), float(np.mean(own)), stars, shown)


def judge(before, after):
    """
    Compare two weights.

    Parameters
    ----------
    before, after : `Measured`
        Of the weights that were started from, and of the new ones, on the same frames.

    Returns
    -------
    verdict : `Verdict`
        Whether the new ones may be used.
    """
    both = np.column_stack([after.scores[:, 0] - before.scores[:, 0], before.scores[:, 2]])
    change, error = mean_ratio(both), bootstrap_error(mean_ratio, both, before.groups)
    values = [mean_ratio(one.scores[:, [0, 2]]) - one.own for one in (before, after)]
    noisy = mean_ratio(before.scores[:, [1, 2]]) - before.own
    own = bootstrap_error(mean_ratio, before.scores[:, [0, 2]], before.groups)
    values, change = map(float, values), float(change)
    limit = _limit(error, own)
    rows = [Row('error on held-out sky', 'sigma^2', *values, change, error, limit)]
    for key, (label, unit, badness) in STAR_ROWS.items():
        old, new = before.stars[key], after.stars[key]
        if old.testable and new.testable:
            rows.append(_star_row(old, new, label, unit, badness))
    # what is general may pay for what is one's own: told, not judged
    gain = _star_row(before.stars['gain'], after.stars['gain'],
                     'gain on simulated stars, told only', 'dB', lambda value: -value)  # fmt: skip
    rows.append(replace(gain, limit=np.inf))
    return Verdict(rows, float(noisy))


def _star_row(old, new, label, unit, badness):
    """Compare a figure star by star."""
    samples = np.column_stack([old.samples, new.samples])
    width = old.samples.shape[1]
    worse = functools.partial(_worse, old.statistic, badness, width)
    change, error = float(worse(samples)), bootstrap_error(worse, samples, old.groups)
    return Row(label, unit, old.value, new.value, change, error, _limit(error, old.error))


def _limit(error, own):
    """How much worse a figure may be: by chance, or by less than it is known to itself."""
    if not np.isfinite(error):
        return np.inf
    return float(max(N_ERRORS * error, own if np.isfinite(own) else 0.0))


def _worse(statistic, badness, width, samples):
    """By how much a statistic of the last columns is worse than that of the first."""
    return badness(statistic(samples[:, width:])) - badness(statistic(samples[:, :width]))
