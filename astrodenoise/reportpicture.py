# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A report as one picture: the answers, the frame before and after, and the figures."""

import textwrap

import numpy as np

from astrodenoise.atomic import atomic_write
from astrodenoise.plotting import compare, new_figure
from astrodenoise.reportdata import FAILED, PASSED

__all__ = ['draw_report', 'write_picture']

DPI = 110
SIZE = 14.0, 11.4  # inches
PANEL = 640  # px, side to which frames are binned
GROUND, PANEL_COLOUR, TEXT, SOFT, RULE = '#0a0c10', '#12161d', '#d7dbe2', '#9aa4b2', '#2a323e'
BEFORE, AFTER, RESIDUAL = '#7f8a99', '#e3b15c', '#6fb7d6'
STATES = {PASSED: '#7cc99a', FAILED: '#ff8f7a'}
COLUMN = 44  # characters


def write_picture(path, report, *, overwrite=False):
    """
    Write the picture of a report as PNG.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file; it appears when it is complete, or not at all.
    report : `~astrodenoise.reportdata.Report`
        The report.
    overwrite : bool, optional
        Replace a file of that name.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set.
    ImportError
        If matplotlib is not installed.
    """
    figure = draw_report(report)
    with atomic_write(path, overwrite=overwrite) as handle:
        figure.savefig(handle, format='png', facecolor=GROUND)


def draw_report(report):
    """
    Draw a report.

    Parameters
    ----------
    report : `~astrodenoise.reportdata.Report`
        The report.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Of several planes the first has the figures.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure('the picture of a report', figsize=SIZE, dpi=DPI, facecolor=GROUND)
    content = report.to_dict()
    figure.text(0.035, 0.967, content['files']['noisy'], color=TEXT, size=17, weight='bold')
    figure.text(0.965, 0.967, 'astrodenoise report', color=AFTER, size=11, ha='right')
    for i, check in enumerate(report.checks[:3]):
        _answer(figure, 0.035 + 0.32 * i, check)
    _frames(figure, report.layers)
    axes = [figure.add_axes((0.065 + 0.24 * i, 0.155, 0.185, 0.18)) for i in range(4)]
    draw = (_histogram, _spectra, _correlations, _stars)
    for ax, one in zip(axes, draw, strict=True):
        ax.set_facecolor(PANEL_COLOUR)
        ax.tick_params(colors=SOFT, labelsize=8)
        for spine in ax.spines.values():
            spine.set_color(RULE)
        one(ax, content['planes'][0])
        ax.title.set_color(TEXT)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_color(SOFT)
    for i, check in enumerate(report.checks[3:]):
        x, y = 0.035 + 0.24 * (i % 4), 0.083 - 0.042 * (i // 4)
        colour = STATES.get(check.state, SOFT)
        figure.text(x, y, f'{check.title}: {check.state}', color=colour, size=9.5)
        figure.text(x, y - 0.017, f'{check.number}   (bound {check.bound})', color=SOFT, size=8.5)
    return figure


def _answer(figure, x, check):
    """Write one of the three answers."""
    figure.text(x, 0.925, check.title, color=TEXT, size=13, weight='bold')
    figure.text(x + 0.27, 0.925, check.state, color=STATES.get(check.state, SOFT), size=11,
                ha='right')  # fmt: skip
    figure.text(x, 0.885, check.number, color=TEXT, size=21)
    words = textwrap.fill(check.words, COLUMN)
    figure.text(x, 0.873, words, color=SOFT, size=10, va='top', linespacing=1.4)


def _frames(figure, layers):
    """Show the frame before and after, and what was removed."""
    frames = [layers.noisy, layers.denoised]
    frames += [] if layers.truth is None else [layers.truth]
    shown = [_small(frame, layers.upward) for frame in frames]
    n_axes = len(shown) + 1
    width = (0.93 - 0.012 * (n_axes - 1)) / n_axes
    axes = [figure.add_axes((0.035 + i * (width + 0.012), 0.375, width, 0.40))
            for i in range(n_axes)]  # fmt: skip
    titles = ['noisy', 'denoised', 'residual, ±4 sigma', 'truth'][:n_axes]
    side = max(1, round(layers.noisy.shape[-1] / shown[0].shape[-1]))
    sigma = float(np.median(layers.sigma)) / side
    compare(*shown[:2], truth=shown[2] if layers.truth is not None else None, sigma=sigma,
            axes=axes, titles=titles, wcs=False)  # fmt: skip
    for ax in axes:
        ax.set_axis_off()
        ax.title.set_color(TEXT)


def _small(frame, upward):
    """Bin a frame to what a panel can show; the first row is the lowest."""
    frame = np.asarray(frame if len(frame) == 3 else frame[0], float)
    side = max(1, -(-max(frame.shape[-2:]) // PANEL))
    *planes, height, width = frame.shape
    frame = frame[..., : height - height % side, : width - width % side]
    frame = frame.reshape(*planes, height // side, side, width // side, side).mean(axis=(-3, -1))
    return frame if upward else frame[..., ::-1, :]


def _untold(ax, title):
    ax.set_title(title, size=10)
    ax.text(0.5, 0.5, 'not testable here', color=SOFT, size=9, ha='center', transform=ax.transAxes)
    ax.set_xticks([])
    ax.set_yticks([])


def _legend(ax):
    ax.legend(fontsize=7, frameon=False, labelcolor=SOFT)


def _histogram(ax, plane):
    data = plane.get('histogram')
    if data is None:
        _untold(ax, 'residual against the noise')
        return
    edges, counts = np.array(data['edges']), np.array(data['counts'])
    middles = (edges[1:] + edges[:-1]) / 2
    normal = data['pixels'] * np.diff(edges) * np.exp(-0.5 * middles**2) / np.sqrt(2 * np.pi)
    ax.stairs(np.maximum(counts, 0.5), edges, fill=True, color=RESIDUAL, alpha=0.5,
              label='residual')  # fmt: skip
    ax.plot(middles, normal, color=TEXT, ls='--', lw=1, label='noise')
    ax.set_yscale('log')
    ax.set_ylim(0.5, 30 * max(counts.max(), 1))
    ax.set_xlabel('residual / sigma', size=8)
    ax.set_title('residual against the noise', size=10)
    _legend(ax)


def _spectra(ax, plane):
    data = plane.get('spectra')
    if data is None:
        _untold(ax, 'noise power')
        return
    for name, colour, style in (('noisy', BEFORE, '-'), ('denoised', AFTER, '-'),
                                ('residual', RESIDUAL, '-'), ('noise', TEXT, '--')):  # fmt: skip
        power = np.array([np.nan if v is None else v for v in data[name]], float)
        ax.plot(data['frequency'], np.maximum(power, 1e-4), style, color=colour, lw=1.2, label=name)
    ax.set_yscale('log')
    ax.set_xlabel('cycles / px', size=8)
    ax.set_title('noise power', size=10)
    _legend(ax)


def _correlations(ax, plane):
    data, noise = plane.get('correlations'), plane.get('noise')
    if data is None or noise is None:
        _untold(ax, 'autocorrelation of the residual')
        return
    ax.plot(data['lag'], data['x'], color=RESIDUAL, lw=1.2, label='along x')
    ax.plot(data['lag'], data['y'], color=AFTER, lw=1.2, label='along y')
    own = {(one['dy'], one['dx']): one['rho'] for one in noise['correlation']}
    ax.plot([1, 1, 2, 2], [own[lag] for lag in ((0, 1), (1, 0), (0, 2), (2, 0))], 'o',
            mfc='none', color=TEXT, ms=5, label='the noise')  # fmt: skip
    reach = max(0.1, 1.2 * np.max(np.abs([*data['x'], *data['y'], *own.values()])))
    ax.set_ylim(-reach, reach)
    ax.set_xlabel('lag / px', size=8)
    ax.set_title('autocorrelation of the residual', size=10)
    _legend(ax)


def _stars(ax, plane):
    stars = plane.get('stars')
    if stars is None or len(stars['snr']) < 3:
        _untold(ax, 'photometry before and after')
        return
    snr, change = (np.array(stars[key], float) for key in ('snr', 'change'))
    reach = max(2.0, 1.3 * float(np.quantile(abs(change), 0.95)))
    at = np.geomspace(snr.min(), 1.2 * snr.max(), 60)
    ax.plot(snr, change, '.', color=AFTER, ms=4)
    for sign in (1, -1):
        ax.plot(at, sign * 100 / at, '--', color=TEXT, lw=1)
    ax.set_xscale('log')
    ax.minorticks_off()
    ax.set_ylim(-reach, reach)
    ax.set_xlabel('S/N in the original', size=8)
    ax.set_title('change of flux / %', size=10)
