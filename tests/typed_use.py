# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How the public functions are used, for mypy alone: what it must take, and what it must refuse."""

from typing import Any, assert_type

import numpy as np
from astropy.nddata import CCDData

from astrodenoise import (
    FrameNoise,
    blend,
    check_frame,
    denoise,
    measure_noise,
    read_provenance,
    residual,
    star_mask,
)
from astrodenoise.trustresult import TrustCheck

Plane = np.ndarray[Any, np.dtype[np.float32]]


def takes(ccd: CCDData, plane: Plane) -> None:
    assert_type(denoise(plane, 0.25, strength=0.8, tile_size=256, precision='bfloat16'), Plane)
    assert_type(measure_noise(ccd), FrameNoise)
    assert_type(read_provenance(ccd), dict[str, Any])
    assert_type(read_provenance(ccd, every=True), list[dict[str, Any]])
    assert_type(check_frame(ccd, strength_coarse=0.5), TrustCheck)
    clean = denoise(ccd, noise=measure_noise(ccd), star_mask=star_mask(ccd), channels='joint')
    clean = blend(ccd, residual(ccd, clean), strength=0.5, keep_grain=0.2)
    clean.write('clean.fits')


def refuses(ccd: CCDData, plane: Plane) -> None:
    denoise(plane, 0.25, 'fast')  # type: ignore[call-arg]
    denoise(plane, strength='much')  # type: ignore[arg-type]
    denoise(plane, precision='float8')  # type: ignore[arg-type]
    denoise(plane, blend='cosine')  # type: ignore[arg-type]
    denoise(plane, gain=1.5)  # type: ignore[call-arg]
    _ = denoise(plane).header  # type: ignore[attr-defined]
    star_mask(ccd, sigma=3)  # type: ignore[call-arg]
