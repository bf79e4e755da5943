# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames of one's own to fine-tune on: pairs or exposures, a part of each held out."""

from dataclasses import dataclass, replace

import numpy as np

from astrodenoise.training.exposures import load_fields
from astrodenoise.training.library import split_by_scene
from astrodenoise.training.noise2noise import BORDER, LEAST, HeldOut, held_out_band, learn_from
from astrodenoise.training.pairs import load_pairs

__all__ = ['Material', 'read_material']

MANY_PAIRS = 5  # from which on whole pairs are held out


@dataclass(frozen=True, eq=False)
class Material:
    """
    Frames to fine-tune on.

    Attributes
    ----------
    pairs : list of `astrodenoise.training.pairs.Pair`
        To learn from.
    held_out : list of list of `astrodenoise.training.noise2noise.HeldOut`
        To score with, by field.
    kind : str
        'pairs' or 'exposures'.
    names : list of str
        Of all frames.
    """

    pairs: list
    held_out: list
    kind: str
    names: list

    @property
    def n_planes(self):
        """Planes of each frame (int)."""
        return len(self.pairs[0].noisy)


def read_material(*, pairs=None, exposures=None):
    """
    Read frames to fine-tune on, and hold a part of them out.

    Parameters
    ----------
    pairs : str or path-like, optional
        Folder with ``noisy`` and ``clean``.
    exposures : str or path-like, optional
        Folder of exposures of one field, or of such folders; one of both is given.

    Returns
    -------
    material : `Material`
        Of one or of three planes throughout.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or no frame in it.
    ValueError
        If the frames cannot serve; the message says why.
    """
    if exposures is not None:
        opened = load_fields(exposures)
        learnt = [learn_from(one) for one in opened]
        return Material(
            [pair for part, _ in learnt for pair in part], [held for _, held in learnt],
            'exposures', [f'{one.name}/{e.name}' for one in opened for e in one.exposures],
        )  # fmt: skip
    found, _ = load_pairs(pairs)
    if len({len(pair.noisy) for pair in found}) > 1:
        msg = f'{str(pairs)!r} holds pairs of one plane and of three: fine-tune on one kind'
        raise ValueError(msg)
    kept, held = _divide(found)
    if not kept or not held:
        msg = f'the pairs in {str(pairs)!r} are too small to hold a part of them out'
        raise ValueError(msg)
    return Material(kept, [[one] for one in held], 'pairs', [pair.name for pair in found])


def _divide(pairs):
    """Hold out whole pairs where there are many, else a part of each."""
    if len(pairs) >= MANY_PAIRS:
        held = [pair for pair in pairs if split_by_scene(pair.name)] or pairs[-1:]
        kept = [pair for pair in pairs if pair not in held]
        if kept:
            return kept, [_scored(pair, pair.valid) for pair in held]
    kept, held = [], []
    for pair in pairs:
        band, rest = held_out_band(pair.noisy.shape[-2:])
        where = np.zeros_like(pair.valid)
        where[(slice(None), *_inside(band, pair.noisy.shape[-2:]))] = True
        where &= pair.valid
        at = (slice(None), *rest)
        part = replace(pair, **{k: getattr(pair, k)[at] for k in ('noisy', 'clean', 'valid')})
        if min(np.count_nonzero(where), np.count_nonzero(part.valid)) >= LEAST:
            kept.append(part)
            held.append(_scored(pair, where))
    return kept, held


def _inside(band, shape):
    """A held-out band without its border to what is learnt from."""
    return tuple(
        slice(s.start + BORDER * (s.start > 0), s.stop - BORDER * (s.stop < n))
        for s, n in zip(band, shape, strict=True)
    )


def _scored(pair, where):
    noisy = np.where(pair.valid, pair.noisy, np.nan)
    return HeldOut(pair.name, noisy, pair.clean, None, where, np.ones(len(noisy)), pair.own)
