# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames side by side, on scales that neither flatter nor hide."""

import functools

import numpy as np
from astropy.stats import mad_std

__all__ = ['compare', 'new_figure']

_DPI = 100
_GAP, _HEAD = 0.08, 0.32  # inches between the panels and for their titles
_PANEL = 3.6  # inches, width of a panel with world coordinates
_FLOOR = 3.0  # sigma below the sky that are black
_LINEAR = 3.0  # sigma around the sky that the stretch shows nearly linearly


def compare(
    noisy,
    clean,
    *,
    truth=None,
    sigma=None,
    stretch=None,
    wcs=None,
    axes=None,
    limit=4.0,
    titles=None,
):
    """
    Show a frame, its denoised version and the residual between them.

    The frames share one stretch, set by the noisy one, so that neither looks
    better by its display; the residual is shown linearly.

    Parameters
    ----------
    noisy, clean : array_like or `~astropy.nddata.NDData`, (H, W) or (3, H, W)
        The frame before and after, in the same unit.
    truth : array_like or `~astropy.nddata.NDData`, optional
        The frame without noise, shown as a last panel.
    sigma : float, optional
        Noise of the sky in the frames' unit. The default is the robust
        standard deviation of the residual.
    stretch : `~astropy.visualization.BaseStretch`, optional
        How the frames are stretched between 3 sigma below the sky and their
        99.9th percentile. The default is an asinh of the height over the sky,
        nearly linear up to 3 sigma.
    wcs : `~astropy.wcs.WCS` or False, optional
        World coordinates for the axes of a new figure. The default are those
        of ``noisy`` where it has any; False: none.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Three axes to draw on, four with ``truth``. The default is a new figure;
        without world coordinates it shows every pixel as one pixel.
    limit : float, optional
        The residual is shown from minus to plus this many sigma.
    titles : sequence of str, optional
        Titles of the panels.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        The figure; it needs no display and is saved by its ``savefig``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If ``stretch`` is no stretch of `astropy.visualization`.
    ValueError
        If the shapes differ, nothing is finite, or the number of axes is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from astrodenoise import denoise
    >>> from astrodenoise.plotting import compare
    >>> noisy = np.random.default_rng(0).normal(100, 5, (96, 96))
    >>> figure = compare(noisy, denoise(noisy))
    >>> len(figure.axes)
    3
    """
    wcs = _celestial(noisy) if wcs is None else wcs
    _check_stretch(stretch)
    noisy, clean = _planes(noisy, 'noisy'), _planes(clean, 'clean')
    frames = [noisy, clean] if truth is None else [noisy, clean, _planes(truth, 'truth')]
    if len({frame.shape for frame in frames}) > 1:
        shapes = ', '.join(str(frame.shape) for frame in frames)
        msg = f'the frames must have one shape, got {shapes}'
        raise ValueError(msg)
    residual = noisy - clean
    good = np.isfinite(residual)
    if not good.any():
        msg = 'noisy and clean have no pixel in common that is finite'
        raise ValueError(msg)
    if sigma is None:
        # A frame that did not change has no residual to take the noise from.
        sigma = mad_std(residual[good]) or np.std(noisy[good]) or 1.0
    stretch = _stretch(noisy, sigma, stretch)
    panels = [stretch(noisy), stretch(clean), _linear(residual / sigma, limit)]
    panels += [stretch(frame) for frame in frames[2:]]
    if titles is None:
        titles = ['noisy', 'denoised', f'residual, ±{limit:g} sigma', 'truth']
    return _draw(panels, titles, axes, wcs)


def new_figure(what, **options):
    """
    Make a figure that needs no display.

    Parameters
    ----------
    what : str
        What it is for, for the message.
    **options
        Of `matplotlib.figure.Figure`.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Without axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = f"{what} needs matplotlib: pip install 'astrodenoise[pictures]'"
        raise ImportError(msg) from error
    return Figure(**options)


def _check_stretch(stretch):
    from astropy.visualization import BaseStretch

    if stretch is not None and not isinstance(stretch, BaseStretch):
        msg = (
            'stretch must be one of astropy.visualization, such as LinearStretch(), '
            f'got {stretch!r}'
        )
        raise TypeError(msg)


def _planes(frame, name):
    """Give a frame's values as float64, masked pixels as NaN."""
    values = np.array(getattr(frame, 'data', frame), dtype=np.float64)
    if values.ndim != 2 and (values.ndim != 3 or len(values) != 3):
        msg = f'{name} must have the shape (H, W) or (3, H, W), got {values.shape}'
        raise ValueError(msg)
    mask = getattr(frame, 'mask', None)
    if mask is not None:
        values[np.broadcast_to(mask, values.shape)] = np.nan
    return values


def _celestial(frame):
    """Give the world coordinates of a frame, None where it has none of the sky."""
    wcs = getattr(frame, 'wcs', None)
    return wcs.celestial if getattr(wcs, 'has_celestial', False) else None


def _stretch(noisy, sigma, given):
    """Make the stretch of the frames, its ends set by the noisy frame."""
    # One sigma above the 16th percentile: the sky even where a nebula fills most of the frame.
    sky = np.nanpercentile(noisy, 16, axis=(-2, -1), keepdims=True) + sigma
    top = max(np.nanpercentile(noisy - sky, 99.9) / sigma, 2 * _FLOOR)
    low, high = np.arcsinh(-_FLOOR / _LINEAR), np.arcsinh(top / _LINEAR)

    def stretch(values):
        heights = (values - sky) / sigma
        if given is None:
            return np.clip((np.arcsinh(heights / _LINEAR) - low) / (high - low), 0, 1)
        return given((heights + _FLOOR) / (top + _FLOOR), clip=True)

    return stretch


def _linear(values, limit):
    return np.clip(values / (2 * limit) + 0.5, 0, 1)


def _draw(panels, titles, axes, wcs):
    bare = axes is None and not wcs
    if axes is None:
        make = _bare_axes if bare else functools.partial(_sky_axes, wcs=wcs)
        axes = make(len(panels), panels[0].shape[-2:])
    if len(axes) != len(panels):
        msg = f'axes must hold {len(panels)} axes, one per panel, got {len(axes)}'
        raise ValueError(msg)
    for ax, panel, title in zip(axes, panels, titles, strict=False):
        picture = panel if panel.ndim == 2 else np.moveaxis(panel, 0, -1)
        # Pixels without data have no grey; FITS rows run upwards.
        ax.imshow(
            np.nan_to_num(picture), cmap='gray', vmin=0, vmax=1, origin='lower',
            interpolation='nearest',
        )
        ax.set_title(title, fontsize=11)
        if bare or not hasattr(ax, 'coords'):
            ax.set_axis_off()
    return axes[0].figure


def _bare_axes(n_panels, shape):
    """Give axes side by side in which a pixel of the frame is one of the figure."""
    height, width = (n / _DPI for n in shape)
    across = n_panels * width + (n_panels - 1) * _GAP
    figure = new_figure('compare()', figsize=(across, height + _HEAD), dpi=_DPI)
    step = (width + _GAP) / across
    size = width / across, height / (height + _HEAD)
    return [figure.add_axes((i * step, 0, *size)) for i in range(n_panels)]


def _sky_axes(n_panels, shape, *, wcs):
    """Give axes side by side that share their world coordinates."""
    height, width = shape
    figure = new_figure(
        'compare()', figsize=(_PANEL * n_panels + 0.8, _PANEL * height / width + 0.7), dpi=_DPI,
        layout='constrained',
    )  # fmt: skip
    axes = [figure.add_subplot(1, n_panels, i + 1, projection=wcs) for i in range(n_panels)]
    for i, ax in enumerate(axes):
        for coord in ax.coords:
            coord.set_ticklabel(size=8)
            coord.set_auto_axislabel(False)
        ax.coords[1].set_ticklabel_visible(i == 0)
    return axes
