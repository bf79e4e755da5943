# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a check of a frame found, as a figure."""

from textwrap import wrap

import numpy as np

from astrodenoise.plotting import new_figure

__all__ = ['draw_check']

NOISY, DENOISED, TRUST = '#888888', '#0b6fb8', '#3a9a5b'
PLACE_COLOURS = ('#1b9e77', '#d95f02', '#7570b3', '#e7298a', '#66a61e', '#e6ab02')


def draw_check(check, *, detected, tolerance, false):
    """
    Draw a check against S/N.

    Parameters
    ----------
    check : `astrodenoise.trustresult.TrustCheck`
        What was found.
    detected, tolerance, false : float
        S/N of a detection, error of a flux and false sources per Mpx that bound trust.

    Returns
    -------
    figure : `~matplotlib.figure.Figure`
        Completeness, flux, scatter and false sources; it needs no display.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure('the plot of a check', figsize=(11, 7.6), dpi=100, layout='constrained')
    axes = figure.subplots(2, 2, sharex=True)
    bins = check.bins()
    snr = np.array([np.sqrt(one.low * one.high) for one in bins])
    _completeness(axes[0, 0], snr, bins, detected)
    _flux(axes[0, 1], snr, bins, check, tolerance)
    _scatter(axes[1, 0], snr, bins)
    _false(axes[1, 1], check, false)
    trusted = check.trusted()[0]
    for ax in axes.flat:
        ax.set_xscale('log')
        ax.set_xticks([2, 5, 10, 20, 50], ['2', '5', '10', '20', '50'])
        ax.tick_params(which='minor', labelbottom=False)
        ax.set_xlim(2, 50)
        ax.grid(alpha=0.25)
        if trusted is not None:
            ax.axvspan(trusted, 50, color=TRUST, alpha=0.08, lw=0)
    for ax in axes[1]:
        ax.set_xlabel('matched-filter S/N before denoising')
    figure.suptitle('\n'.join(wrap(check.verdict, 110)), fontsize=11)
    return figure


def _completeness(ax, snr, bins, detected):
    ax.plot(snr, [one.completeness_noisy for one in bins], 'o--', color=NOISY, label='noisy')
    ax.plot(snr, [one.completeness for one in bins], 'o-', color=DENOISED, label='denoised')
    ax.axvline(detected, color='k', lw=0.6, ls=':')
    ax.set_ylim(-0.03, 1.05)
    ax.set_title(f'sources found above S/N {detected:g}', fontsize=10)
    ax.legend(fontsize=9)


def _flux(ax, snr, bins, check, tolerance):
    ax.axhspan(1 - tolerance, 1 + tolerance, color='k', alpha=0.07, lw=0)
    ax.axhline(1, color='k', lw=0.6)
    for colour, place in zip(PLACE_COLOURS, check.samples.names('place'), strict=False):
        own = check.bins(place=place)
        ax.plot(snr, [one.flux for one in own], '-', lw=0.9, color=colour, label=place)
    ax.errorbar(
        snr, [one.flux for one in bins], [one.flux_error for one in bins], fmt='o-',
        color=DENOISED, lw=2, capsize=3, label='all',
    )  # fmt: skip
    lowest = np.nanmin([one.flux for one in bins] + [0.75])
    ax.set_ylim(max(min(0.75, lowest - 0.05), -0.2), 1.15)
    ax.set_title('recovered flux, denoised over true', fontsize=10)
    ax.legend(fontsize=9, loc='lower right')


def _scatter(ax, snr, bins):
    ax.plot(snr, [one.scatter_noisy for one in bins], 'o--', color=NOISY, label='noisy')
    ax.plot(snr, [one.scatter for one in bins], 'o-', color=DENOISED, label='denoised')
    ax.axhline(1, color='k', lw=0.6)
    ax.set_ylim(bottom=0)
    ax.set_title('scatter of fluxes on the sky, over that of the noise alone', fontsize=10)
    ax.legend(fontsize=9)


def _false(ax, check, allowed):
    edges = np.geomspace(2, 50, 60)
    rates = np.array([check.false_per_mpx(edge) for edge in edges])
    smallest = 1 / check.plane_area
    for rate, style, colour, name in zip(
        rates.T, ('--', '-'), (NOISY, DENOISED), ('noisy twin', 'denoised twin'), strict=True
    ):
        ax.step(edges, np.maximum(rate, smallest / 3), style, color=colour, where='post',
                label=name)  # fmt: skip
    ax.axhline(allowed, color='k', lw=0.6, ls=':')
    ax.set_yscale('log')
    ax.set_ylim(smallest / 2, max(2 * rates.max(), 10 * allowed))
    ax.set_title('false sources per Mpx above S/N', fontsize=10)
    ax.legend(fontsize=9)
