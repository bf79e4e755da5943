# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a check of a frame found: a table, and the line that closes it."""

import json
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from astrodenoise.inject import SNR_EDGES
from astrodenoise.trustbins import DETECTED, FLUX, Bin, Samples

__all__ = ['RULE', 'TrustCheck']

GROUP_EDGES = (5.0, 12.5, 50.0)  # S/N, of kinds of place: fewer sources, wider bins
WIDER = 2.5  # times the S/N that is trusted, to where kinds of place are looked at first
FALSE = 1.0  # false sources per Mpx
LEAST_AREA = 0.5  # Mpx of twins, below which false sources are not testable
RULE = (
    'S/N: that of a matched filter with the image of a star of this frame, in the noise of the '
    'frame before it was denoised. X is the lowest S/N, 5 at least, from which on the denoised '
    'frame shows 90 % or more of the sources that the noisy frame shows, their median flux is '
    'right within 5 % or 2 standard errors, and the denoised twin of the frame has no more than 1 '
    'false source per Mpx, or no more beyond the standard error of their number.'
)


@dataclass(eq=False)
class TrustCheck:
    """
    What a check of a frame found.

    It prints itself as a table and closes with the S/N above which sources can be trusted.

    Attributes
    ----------
    samples : `Samples`
        All measurements.
    false : tuple of `numpy.ndarray`
        S/N of the peaks of the twins, noisy and denoised.
    area : float
        Of the twins in Mpx.
    missing : dict of str
        Kinds of place that were left out -> why.
    shares : dict of float
        Kind of place -> its share of the frame.
    images : list of str
        What the image of a star of each plane rests on.
    fwhm : list of float
        Of a star of each plane in px.
    notes : list of str
        What a reader must know.
    seconds : float
        That it took.
    model : str
        What denoised.
    """

    samples: Samples
    false: tuple
    area: float
    missing: dict = field(default_factory=dict)
    shares: dict = field(default_factory=dict)
    images: list = field(default_factory=list)
    fwhm: list = field(default_factory=lambda: [3.0])
    notes: list = field(default_factory=list)
    seconds: float = 0.0
    model: str = ''

    def bins(self, edges=SNR_EDGES, **wanted):
        """
        Sum up by S/N.

        Parameters
        ----------
        edges : sequence of float, optional
            Of the bins.
        **wanted : object
            What sources must have: ``place='sky'``, ``kind='stars'``, ``plane=0``.

        Returns
        -------
        bins : list of `Bin`
            One between each two edges.
        """
        fwhm = float(np.mean(self.fwhm))
        return [Bin.of(self.samples, *ends, fwhm=fwhm, **wanted) for ends in pairwise(edges)]

    def groups(self, edges=GROUP_EDGES):
        """
        Sum up by kind of place, kind of source and plane.

        Parameters
        ----------
        edges : sequence of float, optional
            Of the bins of S/N.

        Returns
        -------
        groups : dict of list of `Bin`
            Name -> its bins.
        """
        n_planes = len(self.fwhm)
        wanted = {name: {'place': name} for name in self.samples.names('place')}
        wanted |= {name: {'kind': name} for name in self.samples.names('kind')}
        if n_planes > 1:
            wanted |= {f'plane {number}': {'plane': number} for number in range(n_planes)}
        return {name: self.bins(edges, **chosen) for name, chosen in wanted.items()}

    def false_per_mpx(self, snr):
        """
        Count false sources.

        Parameters
        ----------
        snr : float
            That they exceed.

        Returns
        -------
        noisy, denoised : float
            Peaks per Mpx of the twins, all planes together.
        """
        return tuple(float(np.count_nonzero(p > snr) / self.plane_area) for p in self.false)

    @property
    def plane_area(self):
        """Mpx of the twins, each plane for itself (float)."""
        return max(self.area * len(self.fwhm), 1e-9)

    def trusted(self, bins=None):
        """
        Give the S/N above which sources can be trusted, see ``RULE``.

        Parameters
        ----------
        bins : list of `Bin`, optional
            By default those of all sources.

        Returns
        -------
        snr : float or None
            None where there is none, or it cannot be told.
        reason : str
            Why there is none, or no lower one; empty where there is nothing to say.
        """
        bins = self.bins() if bins is None else bins
        if self.plane_area < LEAST_AREA:
            return None, f'not testable, the twins have {self.plane_area:.2f} Mpx in all'
        trusted, reason = None, ''
        for one in reversed([one for one in bins if one.low >= DETECTED]):
            reason = one.fault
            rate = self.false_per_mpx(one.low)[1]
            if not reason and rate - np.sqrt(rate / self.plane_area) > FALSE:
                reason = f'{rate:.1f} false sources per Mpx above S/N {one.low:g}'
            if reason:
                break
            trusted = one.low
        return trusted, reason

    @property
    def verdict(self):
        """The line that closes a check (str)."""
        snr, reason = self.trusted()
        if snr is None:
            if reason.startswith('not testable'):
                return f'in this frame trust cannot be told: {reason}'
            return f'in this frame trust no source of S/N below {SNR_EDGES[-1]:g}: {reason}'
        line = f'in this frame trust sources above S/N {snr:g}'
        if reason:
            line += f' (below: {reason})'
        return '; '.join([line, *self.too_low_for(snr)])

    def too_low_for(self, snr):
        """
        Name the kinds of place and of source, and the planes, for which a limit is too low.

        Parameters
        ----------
        snr : float
            From which on all sources together can be trusted.

        Returns
        -------
        told : list of str
            Such as 'for halos: flux is 88% at S/N 8 to 20'.
        """
        middle = min(WIDER * snr, np.sqrt(snr * SNR_EDGES[-1]))
        edges = (snr, round(float(middle), 1), SNR_EDGES[-1])
        told = []
        for name, bins in self.groups(edges).items():
            faults = [one.fault for one in bins if one.fault]
            if faults:
                told.append(f'for {name}: {faults[0]}')
        return told

    def __str__(self):
        lines = [f'model {self.model}'] if self.model else []
        names = ['image of a star'] if len(self.images) == 1 else [
            f'image of a star, plane {number}' for number in range(len(self.images))
        ]  # fmt: skip
        lines += [f'{name}: {told}' for name, told in zip(names, self.images, strict=True)]
        lines += ['', *_table(self._bin_rows()), '', *_table(self._group_rows())]
        lines += [f'left out: {name}, {why}' for name, why in self.missing.items()]
        lines += [f'note: {note}' for note in self.notes]
        return '\n'.join([*lines, '', RULE, '', self.verdict])

    def _bin_rows(self):
        yield ('S/N', 'sources', 'found', '', 'flux', 'scatter', '', 'offset px', '', 'FWHM',
               'false per Mpx', '')  # fmt: skip
        yield ('', '', 'noisy', 'denoised', 'denoised', 'noisy', 'denoised', 'noisy', 'denoised',
               'denoised', 'noisy', 'denoised')  # fmt: skip
        for one in self.bins():
            false = self.false_per_mpx(one.low)
            yield (
                f'{one.low:g}-{one.high:g}', str(one.n), _percent(one.completeness_noisy),
                _percent(one.completeness), _percent(one.flux, one.flux_error),
                _number(one.scatter_noisy), _number(one.scatter), _number(one.offset_noisy),
                _number(one.offset), _percent(one.fwhm, one.fwhm_error),
                *(f'{rate:.3g}' for rate in false),
            )  # fmt: skip

    def _group_rows(self):
        yield ('', 'of the frame', 'S/N 5-12.5', '', '', '', 'S/N 12.5-50', '', '', '')
        yield ('', '', *2 * ('sources', 'noisy', 'denoised', 'flux'))
        for name, bins in self.groups().items():
            share = f'{self.shares[name]:.1%}' if name in self.shares else ''
            cells = []
            for one in bins:
                cells += [
                    str(one.n), _percent(one.completeness_noisy), _percent(one.completeness),
                    _percent(one.flux, one.flux_error),
                ]  # fmt: skip
            yield (name, share, *cells)

    def to_dict(self):
        """
        Give all of it as plain types.

        Returns
        -------
        check : dict
            'trusted' (None where there is none), 'reason', 'verdict', 'rule', 'bins', 'groups',
            'false_per_mpx' by least S/N, 'twin_mpx', 'missing', 'shares', 'star_images', 'fwhm',
            'notes', 'model', 'seconds'.
        """
        snr, reason = self.trusted()
        false = {f'{edge:g}': self.false_per_mpx(edge) for edge in SNR_EDGES}
        return {
            'trusted': snr, 'reason': reason, 'verdict': self.verdict, 'rule': RULE,
            'bins': [one.to_dict() for one in self.bins()],
            'groups': {n: [one.to_dict() for one in b] for n, b in self.groups().items()},
            'false_per_mpx': {
                edge: {'noisy': noisy, 'denoised': denoised}
                for edge, (noisy, denoised) in false.items()
            },
            'twin_mpx': self.area, 'missing': dict(self.missing), 'shares': dict(self.shares),
            'star_images': list(self.images), 'fwhm': [float(value) for value in self.fwhm],
            'notes': list(self.notes), 'model': self.model, 'seconds': round(self.seconds, 1),
        }  # fmt: skip

    def to_json(self):
        """
        Give all of it as JSON text.

        Returns
        -------
        text : str
            What `to_dict` gives.
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def plot(self):
        """
        Draw what was found against S/N.

        Returns
        -------
        figure : `~matplotlib.figure.Figure`
            Completeness, flux, scatter and false sources; it is saved by its ``savefig``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from astrodenoise.trustplot import draw_check

        return draw_check(self, detected=DETECTED, tolerance=FLUX, false=FALSE)


def _percent(value, error=np.nan):
    if not np.isfinite(value):
        return '-'
    return f'{100 * value:.0f} %' if not np.isfinite(error) else (
        f'{100 * value:.1f} ± {100 * error:.1f} %'
    )  # fmt: skip


def _number(value):
    return f'{value:.2f}' if np.isfinite(value) else '-'


def _table(rows):
    """Set rows in columns."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        '  '.join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
