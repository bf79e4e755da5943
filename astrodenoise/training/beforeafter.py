# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A held-out frame before and after fine-tuning, as a picture."""

import numpy as np
from scipy import ndimage

__all__ = ['draw_before_after']

SIDE = 256  # px, of what is shown
GAP, HEAD, FOOT = 0.08, 0.36, 0.05  # inches between panels, for their titles, below
DPI = 100


def draw_before_after(path, one, outputs, scores, *, base='shipped', title=''):
    """
    Draw a noisy frame, both denoised ones, what each took out, and what others show.

    Parameters
    ----------
    path : path-like
        PNG file; an existing one is replaced.
    one : `astrodenoise.training.noise2noise.HeldOut`
        The frame.
    outputs : tuple of `numpy.ndarray`, (P, H, W)
        Denoised with the weights that were started from, and with the new ones.
    scores : tuple of float
        Errors on all held-out sky: noisy, before, after.
    base : str, optional
        Name of the weights that were started from.
    title : str, optional
        Of the whole.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    from astrodenoise.atomic import atomic_write
    from astrodenoise.plotting import compare, new_figure

    part = _most_to_see(one)
    planes = 3 if len(one.noisy) == 3 else 1

    def cut(frame):
        frame = np.asarray(frame, float)[(slice(None), *part)]
        frame = np.where(np.isfinite(frame), frame, np.nanmedian(frame))
        return frame if planes == 3 else frame[0]

    noisy, before, after = (cut(frame) for frame in (one.noisy, *outputs))
    others = cut(one.first if one.second is None else (one.first + one.second) / 2)
    height, width = (n / DPI for n in noisy.shape[-2:])
    size = 3 * width + 2 * GAP, 2 * (height + HEAD) + HEAD + FOOT
    figure = new_figure('the figure', figsize=size, dpi=DPI)
    places = [
        figure.add_axes((
            column * (width + GAP) / size[0], (FOOT + (1 - row) * (height + HEAD)) / size[1],
            width / size[0], height / size[1],
        ))
        for row in range(2) for column in range(3)
    ]  # fmt: skip
    sigma = float(np.mean(one.sigma))
    titles = [
        f'noisy, error {scores[0]:.3g}', f'{base}, error {scores[1]:.3g}',
        f'fine-tuned, error {scores[2]:.3g}',
        'mean of others' if one.own is None else 'clean frame',
        f'{base}: residual, ±4 sigma', 'fine-tuned: residual, ±4 sigma',
    ]  # fmt: skip
    for clean, at in ((before, (0, 1, 4)), (after, (0, 2, 5))):
        axes = [places[i] for i in at]
        compare(noisy, clean, axes=axes, sigma=sigma, titles=[titles[i] for i in at])
    # the others on the same stretch, which the noisy frame sets; their residual is drawn over
    spare = figure.add_axes((0, 0, 1e-3, 1e-3))
    compare(
        noisy, others, axes=[places[0], places[3], spare], sigma=sigma,
        titles=[titles[0], titles[3], ''],
    )  # fmt: skip
    spare.remove()
    for place in places:
        place.set_axis_off()
        place.title.set_fontsize(9)
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / size[1])
    with atomic_write(path, overwrite=True) as file:
        figure.savefig(file, format='png')


def _most_to_see(one):
    """Rows and columns of the held-out part where most stands out of the noise."""
    where = one.where.any(axis=0)
    contrast = np.where(where, np.abs(one.first[0] - np.median(one.first[0])) / one.sigma[0], 0)
    dense = ndimage.uniform_filter(np.minimum(contrast, 10.0), 64, mode='constant')
    y, x = np.unravel_index(np.argmax(dense), dense.shape)
    part = []
    for at, n, held in ((y, len(where), where.any(axis=1)), (x, where.shape[1], where.any(axis=0))):
        side = min(SIDE, n)
        ends = np.flatnonzero(held)[[0, -1]]
        low = int(np.clip(at - side // 2, max(0, min(ends[0], n - side)), max(ends[1] - side, 0)))
        low = min(max(low, 0), n - side)
        part.append(slice(low, low + side))
    return tuple(part)
