# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The measures of the benchmarks on cases whose answer is known."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from helpers import ROOT

# GalSim draws the benchmarks' scenes; the package itself does without
pytest.importorskip('galsim', reason='the benchmarks need GalSim')


@pytest.fixture(scope='module')
def seams():
    """Give the module benchmarks/seams.py, which imports its neighbours by their bare names."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / 'benchmarks')
        import seams

        return seams


def test_lines_are_the_edges_of_all_tiles(seams):
    assert_array_equal(seams.tile_lines(1024, 0), [256, 512, 768])
    assert_array_equal(
        seams.tile_lines(1024, 0.25), [160, 224, 352, 416, 544, 608, 736, 800, 928, 992]
    )


def test_seam_statistic_of_white_noise_is_one_and_of_a_step_its_height(seams):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(1024, 1024))
    lines = tuple(seams.tile_lines(n, 0) for n in image.shape)
    shifts = seams.draw_shifts(lines, image.shape, rng)
    flat = seams.seam_statistic(image, lines, shifts=[0, *shifts])
    assert flat[0] == pytest.approx(1, abs=0.05)
    checks = (np.indices(image.shape) // 256).sum(0) % 2
    stepped = seams.seam_statistic(image + 20 * checks, lines, shifts=[0, *shifts])
    # second differences of white noise are normal with a variance of 6
    assert stepped[0] == pytest.approx(20 / np.sqrt(6 * 2 / np.pi), rel=0.02)
    assert stepped[1:].mean() == pytest.approx(1, abs=0.02)
    assert stepped[1:].std() < 0.05


def test_what_is_not_smooth_does_not_count(seams):
    image = np.zeros((512, 512))
    image[256, 100] = 1e6
    image += np.random.default_rng(4).normal(size=image.shape)
    lines = tuple(seams.tile_lines(n, 0) for n in image.shape)
    smooth = seams.smooth_part(np.where(image > 1e3, image, 0), 1.0)
    assert not smooth[256, 100]
    assert smooth.mean() > 0.99
    assert seams.seam_statistic(image, lines, smooth=smooth)[0] == pytest.approx(1, abs=0.1)
