# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The figures of a report's page, as SVG that takes its colours from the page.

No library draws them, so that they are crisp at every size, follow the page from dark to light, and
need no network.
"""

import math
from html import escape

import numpy as np

__all__ = ['FIGURES', 'draw_figures']

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 28, 44
N_TICKS = 5
SIGMA, MINUS = '\u03c3', '\u2212'
LEAST_POWER = 1e-4  # of white noise, lower end of the spectra
POINTS = 400  # at most


class _Axes:
    """A coordinate system with its frame, ticks and labels."""

    def __init__(self, x, y, *, labels, log=(False, False)):
        self.log, self.parts = log, []
        self.x, self.y = self._range(*x, log[0]), self._range(*y, log[1])
        self._frame(*labels)

    @staticmethod
    def _range(low, high, is_log):
        if is_log:
            return math.log10(low), math.log10(high)
        return (low, high) if high > low else (low - 1, low + 1)

    def at(self, x, y):
        """Give the place of a point, in the picture's own px."""
        places = []
        for value, ends, is_log, start, length in (
            (x, self.x, self.log[0], LEFT, WIDTH - LEFT - RIGHT),
            (y, self.y, self.log[1], HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM)),
        ):
            value = np.asarray(value, float)
            if is_log:
                value = np.log10(np.maximum(value, 10 ** ends[0]))
            share = np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1)
            places.append(start + share * length)
        return places

    def _frame(self, x_label, y_label):
        for ends, is_log, horizontal in ((self.x, self.log[0], True), (self.y, self.log[1], False)):
            for value, text in _ticks(*ends, is_log):
                if horizontal:
                    x, _ = self.at(value, 1)
                    self.line_at(x, TOP, x, HEIGHT - BOTTOM, 'grid')
                    self.text(x, HEIGHT - BOTTOM + 16, text, 'tick', 'middle')
                else:
                    _, y = self.at(1, value)
                    self.line_at(LEFT, y, WIDTH - RIGHT, y, 'grid')
                    self.text(LEFT - 6, y + 4, text, 'tick', 'end')
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, 'axis', 'middle')
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self.parts.append(
            f'<text class="axis" text-anchor="middle" transform="translate(14 {middle:.0f}) '
            f'rotate(-90)">{escape(y_label)}</text>'
        )

    def line_at(self, x0, y0, x1, y1, kind):
        self.parts.append(
            f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
        )

    def text(self, x, y, text, kind, anchor='start'):
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f'{escape(text)}</text>'
        )

    def line(self, x, y, kind):
        """Draw a line through points; a gap where a value is missing."""
        x, y = np.asarray(x, float), np.array([np.nan if v is None else v for v in y], float)
        px, py = self.at(x, np.nan_to_num(y, nan=1))
        path, pen = [], 'M'
        for a, b, known in zip(px, py, np.isfinite(y), strict=True):
            if known:
                path.append(f'{pen}{a:.1f} {b:.1f}')
            pen = 'L' if known else 'M'
        self.parts.append(f'<path class="{kind}" d="{"".join(path)}"/>')

    def points(self, x, y, kind, radius=2.2):
        px, py = self.at(x, y)
        self.parts += [
            f'<circle class="{kind}" cx="{a:.1f}" cy="{b:.1f}" r="{radius}"/>'
            for a, b in zip(np.atleast_1d(px), np.atleast_1d(py), strict=True)
        ]

    def steps(self, edges, values, kind):
        """Draw a histogram."""
        x = np.repeat(edges, 2)[1:-1]
        px, py = self.at(x, np.repeat(values, 2))
        base = HEIGHT - BOTTOM
        path = ''.join(f'L{a:.1f} {b:.1f}' for a, b in zip(px, py, strict=True))
        self.parts.append(
            f'<path class="{kind}" d="M{px[0]:.1f} {base}{path}L{px[-1]:.1f} {base}Z"/>'
        )

    def legend(self, *entries):
        """Name what is drawn, in a row above the axes."""
        x = LEFT
        for text, kind in entries:
            self.parts.append(
                f'<circle class="{kind}" cx="{x + 11}" cy="10" r="3.5"/>'
                if kind.startswith('dot')
                else f'<line class="{kind}" x1="{x}" y1="10" x2="{x + 22}" y2="10"/>'
            )
            self.text(x + 28, 14, text, 'key')
            x += 44 + 6.4 * len(text)

    def svg(self, description):
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(description, quote=True)}">{"".join(self.parts)}</svg>'
        )


def _ticks(low, high, is_log):
    """Give the values of ticks, and what is written there."""
    if is_log:
        powers = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
        step = max(1, math.ceil(len(powers) / 7))
        return [(10.0**p, f'{10.0**p:g}') for p in powers if p % step == 0]
    raw = (high - low) / N_TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [(i * step, f'{i * step:.10g}'.replace('-', MINUS))
            for i in range(first, math.floor(high / step + 1e-9) + 1)]  # fmt: skip


def _histogram(plane):
    data = plane.get('histogram')
    if data is None:
        return None
    edges, counts = np.array(data['edges']), np.array(data['counts'], float)
    middles = (edges[1:] + edges[:-1]) / 2
    normal = data['pixels'] * np.diff(edges) * np.exp(-0.5 * middles**2) / np.sqrt(2 * np.pi)
    top = 2 * max(counts.max(), normal.max())
    axes = _Axes(
        (edges[0], edges[-1]),
        (0.5, top),
        labels=(f'residual / {SIGMA}', 'pixels'),
        log=(False, True),
    )
    axes.steps(edges, np.maximum(counts, 0.5), 'bars')
    axes.line(middles, np.where(normal > 0.5, normal, np.nan), 'line own')
    axes.legend(('residual', 'line bar'), ('the measured noise', 'line own'))
    text = f'Rms of the residual {data["rms"]:.3f} {SIGMA}, of {data["pixels"]} px without sources.'
    return axes.svg(f'Histogram of the residual. {text}'), text


def _spectra(plane):
    data = plane.get('spectra')
    if data is None:
        return None
    names = ('noisy', 'denoised', 'residual', 'noise')
    values = [v for name in names for v in data[name] if v]
    low = max(LEAST_POWER, 10 ** math.floor(math.log10(min(values))))
    axes = _Axes(
        (0, 0.5), (low, 2 * max(values)), labels=('cycles / px', 'power, white noise is 1'),
        log=(False, True),
    )  # fmt: skip
    for name, kind in zip(names, ('before', 'after', 'residual', 'own'), strict=True):
        axes.line(data['frequency'], data[name], f'line {kind}')
    entries = zip(('noisy', 'denoised', 'residual', 'noise model'),
                  ('before', 'after', 'residual', 'own'), strict=True)  # fmt: skip
    axes.legend(*((text, f'line {kind}') for text, kind in entries))
    text = f'Mean of {data["pieces"]} pieces of 64 px without sources.'
    return axes.svg(f'Power spectra of the sky before and after. {text}'), text


def _correlations(plane):
    data, noise = plane.get('correlations'), plane.get('noise')
    if data is None or noise is None:
        return None
    own = {(one['dy'], one['dx']): one['rho'] for one in noise['correlation']}
    values = [*data['x'], *data['y'], *own.values(), 0.0]
    reach = max(0.1, 1.2 * max(map(abs, values)))
    low = -reach if min(values) < -0.05 * reach else -0.25 * reach
    axes = _Axes((0, 8.5), (low, reach), labels=('lag / px', 'autocorrelation'))
    axes.line([0, 8.5], [0, 0], 'line zero')
    axes.line(data['lag'], data['x'], 'line residual')
    axes.line(data['lag'], data['y'], 'line after')
    axes.points([1, 2], [own[0, 1], own[0, 2]], 'dot own', 5)
    axes.points([1, 2], [own[1, 0], own[2, 0]], 'dot own', 5)
    axes.legend(('residual along x', 'line residual'), ('along y', 'line after'),
                ('own of the noise', 'dot own'))  # fmt: skip
    text = 'A residual that is noise has the autocorrelation of the noise, and no more.'
    return axes.svg(f'Autocorrelation of the residual. {text}'), text


def _fluxes(plane):
    stars = plane.get('stars')
    if stars is None or len(stars['snr']) < 3:
        return None
    snr, change = (np.asarray(stars[key], float)[:POINTS] for key in ('snr', 'change'))
    reach = max(2.0, 1.3 * float(np.quantile(abs(change), 0.95)))
    low, high = 10 ** math.floor(math.log10(snr.min())), 1.3 * snr.max()
    axes = _Axes(
        (low, high), (-reach, reach), labels=('S/N in the original', 'change of flux / %'),
        log=(True, False),
    )  # fmt: skip
    at = np.geomspace(low, high, 60)
    for sign in (1, -1):
        curve = sign * 100 / at
        axes.line(at, np.where(abs(curve) <= reach, curve, np.nan), 'line own')
    axes.line([low, high], [0, 0], 'line zero')
    inside = abs(change) <= reach
    axes.points(snr[inside], change[inside], 'dot star')
    axes.legend(('a star', 'dot star'), (f'noise of the original, ±1 {SIGMA}', 'line own'))
    text = f'{len(snr)} stars; the change holds the noise that was taken out of the aperture.'
    return axes.svg(f'Change of the flux of stars against their S/N. {text}'), text


def _widths(plane):
    stars = plane.get('widths')
    if stars is None or len(stars['before']) < 3:
        return None
    before, after = (np.asarray(stars[key], float)[:POINTS] for key in ('before', 'after'))
    both = np.concatenate([before, after])
    low, high = (float(v) for v in np.quantile(both, (0.01, 0.99)))
    low, high = low - 0.1 * (high - low) - 0.02, high + 0.1 * (high - low) + 0.02
    axes = _Axes((low, high), (low, high), labels=('FWHM before / px', 'FWHM after / px'))
    axes.line([low, high], [low, high], 'line own')
    inside = (before > low) & (before < high) & (after > low) & (after < high)
    axes.points(before[inside], after[inside], 'dot star')
    axes.legend(('a star', 'dot star'), ('unchanged', 'line own'))
    text = f'{len(before)} isolated stars of S/N over 30.'
    return axes.svg(f'FWHM of stars before and after. {text}'), text


def _law(plane):
    noise = plane.get('noise')
    if noise is None or len(noise['law']['levels']) < 2:
        return None
    levels = np.asarray(noise['law']['levels'], float)
    ratios = np.asarray(noise['law']['variance'], float)
    beyond = levels[-1] + 0.25 * (levels[-1] - levels[0])
    levels = np.append(levels, beyond)
    ratios = np.append(ratios, ratios[-1] + noise['law']['slope'] * (beyond - levels[-2]))
    sigma = noise['sigma'] * np.sqrt(np.maximum(ratios, 0))
    axes = _Axes(
        (levels[0], levels[-1]), (0, 1.2 * sigma.max()), labels=('level', f'{SIGMA} of a pixel')
    )
    axes.line(levels, sigma, 'line after')
    axes.points([noise['sky']], [noise['sigma']], 'dot own', 5)
    axes.legend(('law of the noise', 'line after'), ('the sky', 'dot own'))
    text = 'How the noise of a pixel depends on its level, as measured on this frame.'
    return axes.svg(text), text


FIGURES = {  # title -> how it is drawn, and why it may not be
    'Residual against the noise': (_histogram, 'it needs 400 px without sources'),
    'Noise power before and after': (_spectra, 'it needs 8 pieces of 64 px without sources'),
    'Autocorrelation of the residual': (_correlations, 'it needs 400 px without sources'),
    'Photometry before and after': (_fluxes, 'it needs 3 stars of the width of the PSF'),
    'Width of stars before and after': (_widths, 'it needs 3 isolated stars of S/N over 30'),
    'Law of the noise': (_law, 'as far as this frame shows, the noise is the same at every level'),
}


def draw_figures(plane):
    """
    Draw the figures of one plane.

    Parameters
    ----------
    plane : dict
        An entry of ``planes`` of `astrodenoise.reportdata.Report.to_dict`.

    Returns
    -------
    figures : list of tuple of str
        Title, SVG (empty where the frame does not tell it), and caption, of each.
    """
    drawn = []
    for title, (draw, needs) in FIGURES.items():
        made = draw(plane)
        drawn.append((title, *(made or ('', f'Not testable here: {needs}.'))))
    return drawn
