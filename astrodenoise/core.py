# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The whole way of a frame: open, measure, cut, predict, blend, close; or its first two steps."""

import warnings

from astrodenoise.exceptions import LimitedWarning
from astrodenoise.frames import is_lazy, open_frame
from astrodenoise.mosaic import MosaicFrame, as_mosaic, check_peaks
from astrodenoise.noisemodel import FrameNoise
from astrodenoise.options import Options
from astrodenoise.preparation import middles, saturation_level, start_of
from astrodenoise.products import whole_residual
from astrodenoise.provenance import check_keyword
from astrodenoise.removal import remove_noise
from astrodenoise.survey import survey_frame

__all__ = ['denoise', 'denoise_frame', 'measure_noise']

MANY_LIMITED = 1e-4  # share of the pixels above which the limit is worth a warning


def denoise(
    ccd,
    overlap=0.25,
    *,
    model='default',
    strength=1.0,
    strength_chroma=None,
    strength_coarse=None,
    keep_grain=0.0,
    limit=6.0,
    noise=None,
    star_mask=None,
    channels=None,
    bayer=None,
    saturation=None,
    uncertainty='keep',
    tile_size='auto',
    blend='gaussian',
    batch_size=None,
    device='auto',
    precision='auto',
    progress_bar=None,
    add_keyword=True,
):
    """
    Remove the noise of a deep-sky frame.

    The last pixel step of a reduction: on the final frame, after calibration, cosmic-ray
    rejection, registration and combination, before detection or display; never on frames that
    are still to be combined.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity`, \
            `numpy.ndarray` or `dask.array.Array`
        The frame, (H, W) or (N, H, W), any float or integer dtype and byte order.  Not changed.
        Dask arrays stay lazy: only statistics are computed at once.
    overlap : float, optional
        Share of a tile's side that neighbouring tiles have in common, 0 to 0.75 (paper section 3);
        with ``tile_size='auto'`` of 128 px.
    model : str, optional
        'default' ('colour' for three planes together, else 'mono'), 'fast' (a quarter of the work:
        'fast_colour', else 'fast'), the name of a shipped model, or the path of a safetensors file
        with its card.
    strength : float, optional
        Share of the noise that is removed, 0 to 1; 0 gives the frame back bit for bit.
    strength_chroma : float, optional
        The same for the colour of the noise: what three planes of one camera (``channels='joint'``)
        have beside their luminance, which is that of Rec. 709.  By default as ``strength``.
    strength_coarse : float, optional
        The same for what of the noise varies over more than 8 px (FWHM of a Gaussian) and is no
        colour.  By default as ``strength``.
    keep_grain : float, optional
        Share of the fine noise without colour that stays of what would be taken, 0 to 1: the
        picture keeps a grain, its blotches and its colour noise go all the same.
    limit : float or None, optional
        The mean change over every box of 1 to 33 px stays within this many times the noise of that
        box's mean.  It bounds damage; it proves no faint source.  None: no limit.
    noise : None, 'measure', float, array, `~astropy.nddata.NDUncertainty`, tuple or FrameNoise, \
            optional
        Sigma of a pixel's noise.  None takes the frame's uncertainty, or measures where there is
        none.  A plane of sigma is smoothed over 5 px and its level checked against the frame.  A
        ``(gain, read_noise)`` tuple of Quantities holds for a single exposure with its sky in.
    star_mask : None, True, array or `~astropy.nddata.NDData`, optional
        Stars that keep their pixels, in the frame's shape or that of one plane: 0 is denoised, 1
        is kept as far as the star's own light outweighs the noise, half of it at 5 sigma, so that
        no disc is left.  True makes the mask as `~astrodenoise.star_mask` does.
    channels : {None, 'separate', 'joint'}, optional
        How planes are taken: each by itself (default), or three together as one camera's red,
        green and blue.
    bayer : {None, True, False, 'RGGB', 'BGGR', 'GRBG', 'GBRG'}, optional
        The frame is a raw colour mosaic, (H, W): its four planes of half the size are denoised
        each by itself and put back.  A pattern names the colours of the first 2 x 2 px, True
        takes it from the header.  False: debayered, whatever the header says; None the same,
        with a warning.
    saturation : float or `~astropy.units.Quantity`, optional
        Pixels at or above it come back as they are; by default the header's SATURATE or the
        frame's own pile-up.
    uncertainty : {'keep', 'predict', None}, optional
        'keep': the frame's own, or the sigma that was used where it has none; the right size for
        sums over apertures, because the errors of denoised pixels are correlated.  'predict': the
        expected error of each single pixel, for maps and thresholds, never to be added in
        quadrature.  None: none.
    tile_size : int or 'auto', optional
        Side of a tile in px, 64 to 2048, a multiple of the network's stride; the paper's is 256.
        'auto' takes 256 to 512, what computes the fewest pixels twice; within 0.01 sigma the same.
    blend : {'gaussian', 'none'}, optional
        'none' with ``overlap=0`` is naive tiling, kept for comparison (paper section 4.2).
    batch_size : int, optional
        Tiles that go through the network at once; does not change the result.  By default what
        fits the processor's cache, or keeps a GPU busy.
    device : str, optional
        'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}, optional
        'auto' takes what the processor or the GPU has circuits for: bfloat16, else float16 (GPUs
        alone), else float32.
    progress_bar : callable, optional
        Wraps an iterable and returns one, for example `tqdm.tqdm`.
    add_keyword : bool, str, `~ccdproc.Keyword` or dict, optional
        As in ccdproc: whether and how the call is recorded in the metadata.

    Returns
    -------
    clean : same type as ``ccd``
        Float32, or float64 for float64 and wide integers; unit, mask, flags, WCS, PSF and metadata
        kept.  Masked, non-finite, no-data and saturated pixels come back exactly as they were.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        If an argument is of the wrong type, value or unit; before any weights are loaded.

    Notes
    -----
    The network is a ResUNet trained on frames in units of their own noise, so the result follows
    any change of scale and level of the frame.  The method is that of Regordosa, *Denoising
    Pipeline for Deep-Sky Astrophotography*, with the changes that linear data need.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import denoise
    >>> noisy = np.random.default_rng(0).normal(100, 5, (96, 96))
    >>> clean = denoise(noisy)
    >>> bool(clean.std() < 1)
    True
    """
    settings = Options(
        overlap, model, strength, limit, channels, uncertainty, tile_size, blend, batch_size,
        device, precision, progress_bar, strength_chroma, strength_coarse, keep_grain,
    )
    settings.check()
    frame = as_mosaic(_open(ccd), bayer, channels=channels)
    return denoise_frame(
        frame, settings, noise=noise, star_mask=star_mask, saturation=saturation,
        add_keyword=add_keyword,
    )  # fmt: skip


def measure_noise(ccd, *, saturation=None):
    """
    Measure the noise of a frame, to be used for as many calls as you like.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.units.Quantity`, \
            `numpy.ndarray` or `dask.array.Array`
        The frame, (H, W) or (N, H, W).
    saturation : float or `~astropy.units.Quantity`, optional
        Level at and above which pixels are saturated; by default what the header or the frame's
        own pile-up says.

    Returns
    -------
    noise : `~astrodenoise.FrameNoise`
        One model per plane, in the unit of the data; ``denoise(..., noise=)`` takes it.

    Raises
    ------
    TypeError
        If the frame is of another type.
    ValueError
        If it has other dimensions, or too few valid pixels.
    """
    frame = _open(ccd)
    known = survey_frame(frame, 'measure', saturation=saturation_level(saturation, frame))
    unit = '' if frame.unit is None else str(frame.unit)
    return FrameNoise(tuple(one.noise for one in known), unit)


def _open(ccd):
    """Open any input as a frame."""
    if not is_lazy(ccd):
        return open_frame(ccd)
    from astrodenoise.lazy import LazyFrame

    return LazyFrame(ccd)


def denoise_frame(frame, settings, *, noise=None, star_mask=None, saturation=None,
                  add_keyword=True, with_residual=False, known=None, looked=None):  # fmt: skip
    """
    Remove the noise of an opened frame: measure, cut, predict, blend, close.

    Parameters
    ----------
    frame : `astrodenoise.frames.Frame`
        The frame.
    settings : `astrodenoise.options.Options`
        What was asked for, checked.
    noise, star_mask, saturation, add_keyword : object, optional
        As in `denoise`.
    with_residual : bool, optional
        Give what full strength removes, too; the frame is in memory and is not used any more.
    known : list of `astrodenoise.known.Known`, optional
        As in `astrodenoise.preparation.start_of`.
    looked : callable, optional
        Is called with the frame and with what is known of it, before its noise is removed.

    Returns
    -------
    clean : object, or tuple of two
        Of the type that the frame was opened from; with the residual if asked for.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As `denoise`.
    """
    check_keyword(add_keyword, frame.meta)
    start = start_of(
        frame, settings, noise=noise, star_mask=star_mask, saturation=saturation, known=known
    )
    settings, known = start.settings, start.known
    if looked is not None:
        looked(frame, known)
    as_noise = with_residual or not settings.controls.plain
    result, sigma, limited = frame.filled(
        remove_noise, known, start.engine, settings, find_stars=start.find_stars,
        errors=frame.wants_sigma(settings.uncertainty), as_noise=as_noise,
    )  # fmt: skip
    if as_noise:
        removed = result
        joint = settings.channels == 'joint'
        result = frame.less(removed, settings.controls, joint=joint, keep=with_residual)
    if isinstance(frame, MosaicFrame):
        check_peaks(middles(frame, known), result)
    _warn_if_limited(limited, known)
    clean = frame.close(
        result, uncertainty=settings.uncertainty, sigma=sigma, record=start.record(frame, limited),
        add_keyword=add_keyword,
    )  # fmt: skip
    return (clean, whole_residual(frame, removed, clean)) if with_residual else clean


def _warn_if_limited(limited, known):
    """Name the pixels that were held back when they are many."""
    if limited is None:  # not known before the pixels are computed
        return
    n_usable = sum(one.n_pixels - one.counts['invalid'] for one in known)
    n_limited = sum(limited)
    if n_limited > max(MANY_LIMITED * n_usable, 1):
        warnings.warn(
            f'{n_limited} of {n_usable} pixels would have moved out of proportion to their '
            'noise and were held back: the frame is unlike what the network knows, or its noise '
            'is not what was given',
            LimitedWarning,
            stacklevel=4,
        )
