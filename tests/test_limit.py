# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The mean change of every box stays in proportion to its noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal

from astrodenoise.limit import BOXES, box_noise, hold_back

WHITE = [0.0] * 6


def worst(r, correlation):
    """Largest mean of any box in units of its noise."""
    ratios = []
    for box in BOXES:
        inside = sliding_window_view(r.astype(np.float64), (box, box))
        ratios.append(np.abs(inside.mean(axis=(2, 3))).max() / box_noise(box, correlation))
    return max(ratios)


def test_noise_itself_passes_untouched(rng):
    r = rng.normal(size=(400, 400)).astype(np.float32)
    r[r > 5.5] = 0
    kept, limited = hold_back(r.copy(), 6.0, WHITE)
    assert limited is None
    assert_array_equal(kept, r)


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.floats(-50, 50),
    width=st.integers(1, 60),
    limit=st.floats(2, 10),
)
def test_every_box_ends_within_the_limit(seed, height, width, limit):
    rng = np.random.default_rng(seed)
    r = rng.normal(size=(96, 110)).astype(np.float32)
    y, x = (int(rng.integers(n)) for n in r.shape)
    r[y : y + width, x : x + width] += height
    kept, _ = hold_back(r.copy(), limit, WHITE)
    assert worst(kept, WHITE) <= limit * 1.0001


def test_a_frame_smaller_than_a_box_is_held_by_the_smaller_boxes():
    kept, _ = hold_back(np.full((20, 11), 3.0, np.float32), 6.0, WHITE)
    assert np.abs(kept).max() <= 6 / 9 * 1.001


def test_only_the_neighbourhood_is_pulled_back(rng):
    r = rng.normal(size=(300, 300)).astype(np.float32).clip(-4, 4)
    r[100:110, 100:110] += 20
    kept, limited = hold_back(r.copy(), 6.0, WHITE)
    assert limited[100:110, 100:110].all()
    assert_array_equal(kept[:40], r[:40])
    assert_array_equal(kept[~limited], r[~limited])


def test_correlated_noise_may_move_further():
    correlated = [0.6, 0.6, 0.4, 0.4, 0.2, 0.2]
    assert box_noise(1, correlated) == 1
    for box in BOXES[1:]:
        assert box_noise(box, correlated) > 1.4 * box_noise(box, WHITE)


@pytest.mark.parametrize('box', BOXES)
def test_noise_of_a_box_of_white_noise(box):
    assert box_noise(box, WHITE) == pytest.approx(1 / box)


def test_patterns_all_over_the_frame_are_noise_and_single_mistakes_are_not(rng):
    nodes = rng.normal(size=(48, 48))
    blotches = 0.4 * np.kron(nodes, np.ones((8, 8)))
    r = (blotches + rng.normal(size=blotches.shape)).astype(np.float32)
    held, limited = hold_back(r.copy(), 6.0, [0.0] * 6)
    assert limited is None or limited.mean() < 0.002
    r[96:120, 96:120] += 3
    held, limited = hold_back(r.copy(), 6.0, [0.0] * 6)
    assert limited[100:116, 100:116].all()
    assert abs(held[96:120, 96:120].mean()) < 1.5


def test_a_shift_of_everything_is_a_mistake(rng):
    r = (0.5 + rng.normal(size=(128, 128))).astype(np.float32)
    held, _ = hold_back(r.copy(), 6.0, [0.0] * 6)
    assert abs(held[48:80, 48:80].mean()) < 6 / 33 * 1.05
