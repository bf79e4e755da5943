# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Many calls in one process: at once they give what they give alone, and nothing grows."""

import gc
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import tracemalloc_domain

from astrodenoise import denoise, measure_noise, star_mask

N_THREADS = 8
SHAPES = [(96, 96), (150, 97), (64, 260), (3, 80, 90)]


def frames(n):
    """Make frames of sky noise with a few stars, of several shapes."""
    made = []
    for number in range(n):
        rng = np.random.default_rng(number)
        shape = SHAPES[number % len(SHAPES)]
        y, x = np.indices(shape[-2:])
        cy, cx = 0.4 * shape[-2], 0.6 * shape[-1]
        star = 3000 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 6)
        made.append((star + rng.normal(400, 5 + number % 7, shape)).astype(np.float32))
    return made


def work(number, frame):
    """Denoise a frame in one of several ways."""
    options = [{'model': 'fast'}, {'model': 'mono'}, {'model': 'fast', 'strength': 0.5}]
    clean = denoise(frame, tile_size=64, precision='float32', **options[number % 3])
    plane = frame if frame.ndim == 2 else frame[0]
    return clean, star_mask(plane), measure_noise(plane).planes[0].sigma


def test_threads_give_what_one_gives():
    """Eight threads at once, with caches in common, give the bits of one after the other."""
    given = frames(2 * N_THREADS)
    with ThreadPoolExecutor(N_THREADS) as pool:
        together = list(pool.map(work, range(len(given)), given))
    alone = list(map(work, range(len(given)), given))
    for (clean, mask, sigma), (clean_2, mask_2, sigma_2) in zip(together, alone, strict=True):
        assert clean.tobytes() == clean_2.tobytes()
        assert mask.tobytes() == mask_2.tobytes()
        assert sigma == sigma_2


def held():
    """Bytes of everything that Python holds, and of arrays alone."""
    gc.collect()
    everything = tracemalloc.take_snapshot()
    arrays = everything.filter_traces([tracemalloc.DomainFilter(True, tracemalloc_domain)])
    return np.array([sum(trace.size for trace in s.traces) for s in (everything, arrays)])


def growth(n_calls):
    """Bytes that are held more after some calls, a call."""
    before = held()
    for _ in range(n_calls):
        work(0, frames(1)[0])
    return (held() - before) / n_calls


@pytest.mark.skipif(
    not Path('/proc/self/fd').is_dir(),
    reason='open files are counted in /proc, which Linux alone has',
)
def test_nothing_grows():
    """Neither open files nor memory, once caches are warm; what leaks does so time and again."""
    for number, frame in enumerate(frames(8)):
        work(number, frame)
    n_files = len(os.listdir('/proc/self/fd'))
    tracemalloc.start()
    try:
        grown = [growth(20) for _ in range(4)]
    finally:
        tracemalloc.stop()
    assert len(os.listdir('/proc/self/fd')) <= n_files
    everything, arrays = np.min(grown, axis=0)
    assert arrays < 100, grown  # bytes; a frame has 37 000
    assert everything < 6000, grown  # coverage keeps 3000 for each thread that ever was
