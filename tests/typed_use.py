# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""How the public functions are used: read by mypy, which must take it, and never run."""

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
