# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
# The types of what is loaded on first use; a test compares them with the functions.

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, overload

import numpy as np
from astropy.io.fits import Header
from astropy.nddata import NDData, NDUncertainty
from astropy.units import Quantity

from astrodenoise._config import conf as conf
from astrodenoise._version import __version__ as __version__
from astrodenoise.noisemodel import FrameNoise as FrameNoise
from astrodenoise.trustresult import TrustCheck

__all__ = [
    'FrameNoise',
    '__version__',
    'blend',
    'check_frame',
    'conf',
    'denoise',
    'measure_noise',
    'read_provenance',
    'residual',
    'star_mask',
]

# CCDData, NDData, Quantity, numpy or dask array, most of which have no types; the same comes back
_Frame = TypeVar('_Frame')
_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_Noise: TypeAlias = (
    float
    | Literal['measure']
    | _Array
    | Quantity
    | NDUncertainty
    | tuple[Quantity, Quantity]
    | FrameNoise
)
_Keyword: TypeAlias = Any  # bool, str, mapping or ccdproc.Keyword, which has no types
_Channels: TypeAlias = Literal['separate', 'joint']
_Bayer: TypeAlias = bool | Literal['RGGB', 'BGGR', 'GRBG', 'GBRG']
_Precision: TypeAlias = Literal['auto', 'float32', 'bfloat16', 'float16']
_ProgressBar: TypeAlias = Callable[..., Iterable[Any]]

def denoise(
    ccd: _Frame,
    overlap: float = 0.25,
    *,
    model: str = 'default',
    strength: float = 1.0,
    strength_chroma: float | None = None,
    strength_coarse: float | None = None,
    keep_grain: float = 0.0,
    limit: float | None = 6.0,
    noise: _Noise | None = None,
    star_mask: Literal[True] | _Array | NDData | None = None,
    channels: _Channels | None = None,
    bayer: _Bayer | None = None,
    saturation: float | Quantity | None = None,
    uncertainty: Literal['keep', 'predict'] | None = 'keep',
    tile_size: int | Literal['auto'] = 'auto',
    blend: Literal['gaussian', 'none'] = 'gaussian',
    batch_size: int | None = None,
    device: str = 'auto',
    precision: _Precision = 'auto',
    progress_bar: _ProgressBar | None = None,
    add_keyword: _Keyword = True,
) -> _Frame: ...
def blend(
    ccd: _Frame,
    removed: _Frame,
    *,
    strength: float = 1.0,
    strength_chroma: float | None = None,
    strength_coarse: float | None = None,
    keep_grain: float = 0.0,
    channels: _Channels | None = None,
    add_keyword: _Keyword = True,
) -> _Frame: ...
def measure_noise(
    ccd: Any, *, saturation: float | Quantity | None = None
) -> FrameNoise: ...
def residual(ccd: _Frame, clean: _Frame) -> _Frame: ...
def star_mask(
    ccd: Any,
    *,
    n_sigma: float = 5.0,
    noise: _Noise | None = None,
    saturation: float | Quantity | None = None,
    dilate: float = 1.0,
    blur: float = 1.0,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]: ...
def check_frame(
    ccd: Any,
    *,
    model: str = 'default',
    strength: float = 1.0,
    channels: _Channels | None = None,
    bayer: _Bayer | None = None,
    noise: _Noise | None = None,
    saturation: float | Quantity | None = None,
    n_sources: int = 1000,
    seed: int = 0,
    device: str = 'auto',
    precision: _Precision = 'auto',
    progress_bar: _ProgressBar | None = None,
    **options: Any,
) -> TrustCheck: ...
@overload
def read_provenance(
    header: Header | Mapping[str, Any] | NDData, *, every: Literal[False] = False
) -> dict[str, Any]: ...
@overload
def read_provenance(
    header: Header | Mapping[str, Any] | NDData, *, every: Literal[True]
) -> list[dict[str, Any]]: ...
