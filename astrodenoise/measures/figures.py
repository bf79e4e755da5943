# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Figures with standard errors: one number, what it was made of, and how far chance moves it.

A figure keeps its samples (sums over blocks of a frame, or one row per star), so that figures of
many scenes are pooled exactly: the statistic is taken over all samples together.  Its standard
error is that of a bootstrap over blocks of one frame, or over scenes where there are several.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

__all__ = [
    'BLOCK',
    'Evaluation',
    'Figure',
    'block_numbers',
    'block_sums',
    'blocks_of',
    'bootstrap_error',
    'combine',
    'combine_figures',
]

BLOCK = 64  # px, side of the blocks that are drawn within one frame
N_DRAWS = 200
LOST_DRAWS = 0.1  # share of draws without a value above which there is no error
SEED = 20


# Blocks of a frame


def block_numbers(shape, side=BLOCK):
    """
    Number the blocks of a frame.

    Parameters
    ----------
    shape : tuple of int
        Height and width in px.
    side : int, optional
        Of a block in px; those at the right and bottom may be smaller.

    Returns
    -------
    numbers : `numpy.ndarray`, (H, W), int
        The block of each pixel, from 0 on.
    """
    across = -(-shape[1] // side)
    return (np.arange(shape[0]) // side * across)[:, None] + np.arange(shape[1]) // side


def blocks_of(y, x, shape, side=BLOCK):
    """
    Give the blocks in which sources lie.

    Parameters
    ----------
    y, x : `numpy.ndarray`, (n,)
        Positions in px.
    shape : tuple of int
        Height and width of the frame in px.
    side : int, optional
        Of a block in px.

    Returns
    -------
    numbers : `numpy.ndarray`, (n,), int
        As `block_numbers` has them.
    """
    rows, columns = (np.clip(np.round(np.asarray(at)).astype(int), 0, n - 1) // side
                     for at, n in zip((y, x), shape, strict=True))  # fmt: skip
    return rows * -(-shape[1] // side) + columns


def block_sums(planes, where, side=BLOCK):
    """
    Sum planes over the chosen pixels of each block.

    Parameters
    ----------
    planes : sequence of (`numpy.ndarray` or float)
        (H, W) each; a number stands for a plane of it.
    where : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    side : int, optional
        Of a block in px.

    Returns
    -------
    sums : `numpy.ndarray`, (n, k), float64
        Of the blocks that have a pixel: k planes.
    numbers : `numpy.ndarray`, (n,), int
        The blocks.
    """
    number = block_numbers(where.shape, side)[where]
    count = np.bincount(number)
    sums = [
        np.bincount(number, np.broadcast_to(plane, where.shape)[where], count.size)
        for plane in planes
    ]
    filled = np.flatnonzero(count)
    return np.stack(sums, axis=1)[filled], filled


# One figure


def bootstrap_error(statistic, samples, groups):
    """
    Estimate the standard error of a statistic by drawing groups of samples with replacement.

    Parameters
    ----------
    statistic : callable
        Gives a number for an array of samples.
    samples : `numpy.ndarray`, (n, k)
        One row per sample.
    groups : `numpy.ndarray`, (n,), int
        What is drawn together: the block or the scene of each sample.

    Returns
    -------
    error : float
        Standard deviation over 200 draws, corrected for a small number of groups; NaN for fewer
        than two groups, or where a tenth of the draws gives no number.
    """
    names, counts = np.unique(groups, return_counts=True)
    if names.size < 2:
        return np.nan
    members = np.split(np.argsort(groups, kind='stable'), np.cumsum(counts)[:-1])
    draws = np.random.default_rng(SEED).integers(0, names.size, (N_DRAWS, names.size))
    with np.errstate(invalid='ignore', divide='ignore'):
        trials = [statistic(samples[np.concatenate([members[i] for i in draw])]) for draw in draws]
    trials = np.array(trials, float)
    known = np.isfinite(trials)
    if np.mean(known) < 1 - LOST_DRAWS:
        return np.nan
    return float(np.std(trials[known]) * np.sqrt(names.size / (names.size - 1)))


@dataclass(frozen=True, eq=False)
class Figure:
    """
    One number with its standard error, or the reason why it cannot be measured.

    Attributes
    ----------
    label : str
        What it is.
    statistic : callable or None
        Gives the number for samples; NaN where they do not tell.
    samples : `numpy.ndarray`, (n, k)
        Sums over blocks, or one row per source.
    groups : `numpy.ndarray`, (n,), int
        Block or scene of each sample: what the bootstrap draws.
    unit : str
        Of the number.
    decimals : int
        That are printed.
    count : int
        Pixels, sources or the like that it rests on.
    least : int
        Below this count there is no figure.
    of : str
        What is counted.
    reason : str
        Why the figure cannot be measured, empty where only the count decides.
    scenes : int
        Number of scenes that were pooled.
    """

    label: str
    statistic: Callable | None = None
    samples: np.ndarray = field(default_factory=lambda: np.empty((0, 1)), repr=False)
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, int), repr=False)
    unit: str = ''
    decimals: int = 3
    count: int = 0
    least: int = 1
    of: str = 'px'
    reason: str = ''
    scenes: int = 1

    @cached_property
    def value(self):
        """The number (float), NaN where it cannot be measured."""
        if self.statistic is None or self.count < self.least or not len(self.samples):
            return np.nan
        with np.errstate(invalid='ignore', divide='ignore'):
            return float(self.statistic(self.samples))

    @cached_property
    def error(self):
        """Its standard error (float), NaN where it is not known."""
        if not self.testable:
            return np.nan
        return bootstrap_error(self.statistic, self.samples, self.groups)

    @property
    def testable(self):
        """Whether there is a number (bool)."""
        return bool(np.isfinite(self.value))

    @property
    def why(self):
        """Why there is no number (str), empty where there is one."""
        if self.testable:
            return ''
        if self.count < self.least and not (self.reason and self.statistic is None):
            return f'{self.count} {self.of}, {self.least} are needed'
        return self.reason or 'the samples do not tell it'

    def __str__(self):
        if not self.testable:
            return f'not testable here: {self.why}'
        text = f'{self.value:.{self.decimals}f}'
        if np.isfinite(self.error):
            text += f' ± {self.error:.{self.decimals}f}'
        return f'{text} {self.unit}'.rstrip()

    def to_dict(self):
        """
        Give the figure as plain types.

        Returns
        -------
        figure : dict
            'label', 'unit', 'value', 'error' (None where it is not known), 'count', 'of',
            'scenes', and 'not_testable' with the reason where there is no value.
        """
        known = {
            'label': self.label, 'unit': self.unit, 'value': _plain(self.value),
            'error': _plain(self.error), 'count': int(self.count), 'of': self.of,
            'scenes': self.scenes,
        }  # fmt: skip
        return known if self.testable else known | {'not_testable': self.why}


def _plain(value):
    return float(value) if np.isfinite(value) else None


def combine_figures(figures, *, planes=False):
    """
    Pool one figure over scenes.

    The statistic is taken over all samples together; its error is that of a bootstrap over the
    scenes, over the blocks of the one scene that has samples, where there is but one.

    Parameters
    ----------
    figures : sequence of `Figure`
        The same figure of several scenes.
    planes : bool, optional
        They are those of the planes of one frame: blocks are drawn, in all planes at once.

    Returns
    -------
    figure : `Figure`
        Of all of them.

    Raises
    ------
    ValueError
        If there is none.
    """
    figures = list(figures)
    if not figures:
        msg = 'there is no figure to combine: give one at least'
        raise ValueError(msg)
    filled = [figure for figure in figures if figure.statistic is not None and len(figure.samples)]
    if not filled:
        return figures[0]
    groups = [figure.groups for figure in filled]
    if not planes and len(filled) > 1:
        # what was combined before keeps its scenes apart
        groups, first = [], 0
        for figure in filled:
            own = figure.groups if figure.scenes > 1 else np.zeros(len(figure.groups), int)
            groups.append(first + own)
            first += int(own.max()) + 1
    return replace(
        filled[0],
        samples=np.concatenate([figure.samples for figure in filled]),
        groups=np.concatenate(groups),
        count=sum(figure.count for figure in filled),
        scenes=1 if planes else sum(figure.scenes for figure in filled),
    )


# All figures of a frame


@dataclass(frozen=True, eq=False)
class Evaluation:
    """
    What a denoiser did to a frame: figures, and the positions of what it invented or lost.

    It prints itself as a table.

    Attributes
    ----------
    figures : dict of `Figure`
        By key, such as 'gain.sky'.
    noisy : dict of `Figure`
        The same figures of the noisy frame, where they say something.
    positions : dict of list
        'invented' and 'lost' -> [x, y] in px, of several frames [scene, x, y].
    notes : tuple of str
        What a reader must know of these figures.
    scenes : int
        Number of frames.
    """

    figures: dict
    noisy: dict = field(default_factory=dict)
    positions: dict = field(default_factory=dict)
    notes: tuple = ()
    scenes: int = 1

    def __str__(self):
        rows = [('', 'noisy', 'denoised', 'from')]
        missing = []
        for key, figure in self.figures.items():
            if not figure.testable:
                missing.append(f'  {figure.label}: {figure.why}')
                continue
            before = self.noisy.get(key)
            before = str(before) if before is not None and before.testable else ''
            rows.append((figure.label, before, str(figure), f'{figure.count} {figure.of}'))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        rows.insert(1, tuple('-' * width for width in widths))
        lines = [
            '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        for name, places in self.positions.items():
            lines += [f'{name} at ' + ', '.join(map(str, place)) for place in places]
        if missing:
            lines += ['', 'not testable here:', *missing]
        return '\n'.join([*lines, *(f'note: {note}' for note in self.notes)])

    def to_dict(self):
        """
        Give all of it as plain types.

        Returns
        -------
        evaluation : dict
            'scenes', 'figures' and 'noisy' (by key, see `Figure.to_dict`), 'positions', 'notes'.
        """
        return {
            'scenes': self.scenes,
            'figures': {key: figure.to_dict() for key, figure in self.figures.items()},
            'noisy': {key: figure.to_dict() for key, figure in self.noisy.items()},
            'positions': {key: [list(map(float, p)) for p in places]
                          for key, places in self.positions.items()},
            'notes': list(self.notes),
        }  # fmt: skip

    def to_json(self):
        """
        Give all of it as JSON text.

        Returns
        -------
        text : str
            What `to_dict` gives.
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def combine(evaluations, *, planes=False):
    """
    Pool the evaluations of several scenes.

    Parameters
    ----------
    evaluations : sequence of `Evaluation`
        One per scene.
    planes : bool, optional
        They are those of the planes of one frame, see `combine_figures`.

    Returns
    -------
    evaluation : `Evaluation`
        Every figure pooled with `combine_figures`.

    Raises
    ------
    ValueError
        If there is none.
    """
    evaluations = list(evaluations)
    if not evaluations:
        msg = 'there is no evaluation to combine: give one at least'
        raise ValueError(msg)
    if len(evaluations) == 1:
        return evaluations[0]
    pooled = {}
    for name in ('figures', 'noisy'):
        parts = [getattr(evaluation, name) for evaluation in evaluations]
        keys = dict.fromkeys(key for part in parts for key in part)
        pooled[name] = {
            key: combine_figures([part[key] for part in parts if key in part], planes=planes)
            for key in keys
        }
    positions = {}
    for number, evaluation in enumerate(evaluations):
        for key, places in evaluation.positions.items():
            positions.setdefault(key, []).extend([number, *place] for place in places)
    notes = dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes)
    scenes = 1 if planes else sum(evaluation.scenes for evaluation in evaluations)
    return Evaluation(**pooled, positions=positions, notes=tuple(notes), scenes=scenes)


# Statistics of samples


def mean_ratio(sums):
    """Divide the first column's sum by the second's."""
    return np.sum(sums[:, 0]) / np.sum(sums[:, 1])


def root_ratio(sums):
    """Take the root of `mean_ratio`."""
    return np.sqrt(mean_ratio(sums))


def decibels(sums):
    """Express the first column's sum over the second's in dB, NaN where one is not positive."""
    before, after = np.sum(sums[:, 0]), np.sum(sums[:, 1])
    return 10 * np.log10(before / after) if before > 0 and after > 0 else np.nan


def median(samples):
    """Take the median of the first column."""
    return np.nanmedian(samples[:, 0]) if np.isfinite(samples[:, 0]).any() else np.nan


def total(samples):
    """Sum the first column."""
    return np.sum(samples[:, 0])
