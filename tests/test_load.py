# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Many calls in one process: at once they give what they give alone, and nothing grows."""

import gc
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.skipif(not Path('/proc/self/fd').is_dir(), reason='there is no /proc here')
def test_nothing_grows():
    """Neither open files nor memory, once caches are warm."""
    given = frames(8)
    for number, frame in enumerate(given):
        work(number, frame)
    n_files = len(os.listdir('/proc/self/fd'))
    tracemalloc.start()
    try:
        for _ in range(20):
            work(0, given[0])
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(30):
            work(0, given[0])
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(os.listdir('/proc/self/fd')) <= n_files
    assert after - before < 60_000  # bytes; a frame has 37 000
