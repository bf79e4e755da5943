# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Frames side by side, on scales that neither flatter nor hide."""

import numpy as np
from astropy.stats import mad_std

__all__ = ['compare']

_DPI = 100
_GAP, _HEAD = 0.08, 0.32  # inches between the panels and for their titles
_FLOOR = 3.0  # sigma below the sky that are black
_LINEAR = 3.0  # sigma around the sky that the stretch shows nearly linearly


def compare(noisy, clean, *, truth=None, sigma=None, axes=None, limit=4.0, titles=None):
    """
    Show a frame, its denoised version and the residual between them.

    The frames share one asinh stretch, set by the noisy one, so that neither
    looks better by its display; the residual is shown linearly.

    Parameters
    ----------
    noisy, clean : array_like or `~astropy.nddata.NDData`, (H, W) or (3, H, W)
        The frame before and after, in the same unit.
    truth : array_like or `~astropy.nddata.NDData`, optional
        The frame without noise, shown as a last panel.
    sigma : float, optional
        Noise of the sky in the frames' unit. The default is the robust
        standard deviation of the residual.
    axes : sequence of `~matplotlib.axes.Axes`, optional
        Three axes to draw on, four with ``truth``. The default is a new figure
        that shows every pixel of the frames as one pixel.
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
    ValueError
        If the shapes differ, nothing is finite, or the number of axes is wrong.
    """
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
    stretch = _stretch(noisy, sigma)
    panels = [stretch(noisy), stretch(clean), _linear(residual / sigma, limit)]
    panels += [stretch(frame) for frame in frames[2:]]
    if titles is None:
        titles = ['noisy', 'denoised', f'residual, ±{limit:g} sigma', 'truth']
    return _draw(panels, titles, axes)


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


def _stretch(noisy, sigma):
    """Make the stretch of the frames: asinh above the sky, its ends set by the noisy frame."""
    # One sigma above the 16th percentile: the sky even where a nebula fills most of the frame.
    sky = np.nanpercentile(noisy, 16, axis=(-2, -1), keepdims=True) + sigma
    low = np.arcsinh(-_FLOOR / _LINEAR)
    top = np.nanpercentile(noisy - sky, 99.9) / sigma
    high = np.arcsinh(max(top, 2 * _FLOOR) / _LINEAR)

    def stretch(values):
        return np.clip((np.arcsinh((values - sky) / (sigma * _LINEAR)) - low) / (high - low), 0, 1)

    return stretch


def _linear(values, limit):
    return np.clip(values / (2 * limit) + 0.5, 0, 1)


def _draw(panels, titles, axes):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = 'compare() needs matplotlib: pip install matplotlib'
        raise ImportError(msg) from error
    if axes is None:
        height, width = panels[0].shape[-2:]
        across = len(panels) * width / _DPI + (len(panels) - 1) * _GAP
        figure = Figure(figsize=(across, height / _DPI + _HEAD), dpi=_DPI)
        step = (width / _DPI + _GAP) / across
        size = width / _DPI / across, height / _DPI / (height / _DPI + _HEAD)
        axes = [figure.add_axes((i * step, 0, *size)) for i in range(len(panels))]
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
        ax.set_axis_off()
    return axes[0].figure
