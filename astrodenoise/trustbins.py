# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What was measured of the sources of a check, and its sum by ranges of S/N."""

from dataclasses import dataclass

import numpy as np

from astrodenoise.places import PLACES

__all__ = ['DETECTED', 'FLUX', 'Bin', 'Samples']

DETECTED = 5.0  # S/N from which on a peak is a detection, in the noisy and the denoised frame alike
FEWEST = 10  # sources of a bin, below which it is not testable
KEPT, FLUX = 0.9, 0.05  # share of the noisy frame's detections, error of the flux
TO_SIGMA = 1.4826  # of the median of absolute deviations
N_DRAWS = 50  # of the stack of stars, for the error of its width


class Samples:
    """The measurements of all sources, one entry for each source and plane."""

    def __init__(self):
        self._rows = []

    def add(self, **row):
        """
        Add a measurement.

        Parameters
        ----------
        **row : object
            Its values by name.
        """
        self._rows.append(row)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, name):
        values = [row[name] for row in self._rows]
        return values if name == 'stamp' else np.array(values)

    def marked(self, name):
        """
        Give values that are true or false.

        Parameters
        ----------
        name : str
            Their name.

        Returns
        -------
        values : `numpy.ndarray`, (n,), bool
            One for each measurement.
        """
        return self[name].astype(bool)

    def names(self, key):
        """
        Give the different values of a key.

        Parameters
        ----------
        key : str
            'place', 'kind' or 'plane'.

        Returns
        -------
        names : list
            In the order of the places, else sorted.
        """
        found = {row[key] for row in self._rows}
        return [name for name in PLACES if name in found] if key == 'place' else sorted(found)

    def chosen(self, low, high, **wanted):
        """
        Choose measurements.

        Parameters
        ----------
        low, high : float
            Range of S/N.
        **wanted : object
            Values by name.

        Returns
        -------
        samples : `Samples`
            Those.
        """
        part = Samples()
        part._rows = [
            row for row in self._rows
            if low <= row['snr'] < high and all(row[key] == value for key, value in wanted.items())
        ]  # fmt: skip
        return part


@dataclass(frozen=True)
class Bin:
    """
    What was found of the sources of a range of S/N.

    Attributes
    ----------
    low, high : float
        The range.
    n : int
        Sources, once for each plane.
    n_noisy, n_kept, n_new : int
        Detected in the noisy frame, of these in the denoised frame, and in the latter alone.
    n_clear : int
        Sources that could be detected: nothing else was there before.
    flux, flux_error : float
        Median of the recovered over the true flux, and its standard error.
    scatter_noisy, scatter : float
        Scatter of fluxes of stars on the sky over what the noise alone makes, noisy and denoised.
    offset_noisy, offset : float
        Median distance of the detected peak from the source's place, in px.
    fwhm, fwhm_error : float
        Of the stack of denoised stars over that of the same stars as they were put in.
    """

    low: float
    high: float
    n: int
    n_clear: int
    n_noisy: int
    n_kept: int
    n_new: int
    flux: float
    flux_error: float
    scatter_noisy: float
    scatter: float
    offset_noisy: float
    offset: float
    fwhm: float
    fwhm_error: float

    @property
    def completeness_noisy(self):
        """Share of the sources that the noisy frame shows (float)."""
        return self.n_noisy / self.n_clear if self.n_clear else np.nan

    @property
    def completeness(self):
        """Share of the sources that the denoised frame shows (float)."""
        return (self.n_kept + self.n_new) / self.n_clear if self.n_clear else np.nan

    @property
    def fault(self):
        """What is wrong with it (str), empty where nothing is."""
        if self.n < FEWEST or not self.flux_error <= FLUX:
            return f'not testable, too few sources at S/N {self.low:g} to {self.high:g}'
        if self.completeness < KEPT * self.completeness_noisy:
            return (
                f'the denoised frame shows {self.completeness:.0%} of the sources at S/N '
                f'{self.low:g} to {self.high:g}, the noisy one {self.completeness_noisy:.0%}'
            )
        if abs(self.flux - 1) > max(FLUX, 2 * self.flux_error):
            return f'flux is {self.flux:.0%} at S/N {self.low:g} to {self.high:g}'
        return ''

    @classmethod
    def of(cls, samples, low, high, *, fwhm, **wanted):
        """
        Sum up the measurements of a range of S/N.

        Parameters
        ----------
        samples : `Samples`
            All measurements.
        low, high : float
            The range.
        fwhm : float
            Of a star in px.
        **wanted : object
            What they must have, by name.

        Returns
        -------
        found : `Bin`
            Of these.
        """
        part = samples.chosen(low, high, **wanted)
        names = ('noisy', 'denoised')
        clear = ~np.any([part.marked(f'old_{name}') for name in names], axis=0)
        noisy, denoised = (part.marked(f'found_{name}') & clear for name in names)
        flux, flux_error = _median(part['flux_denoised'])
        on_sky = part.chosen(low, high, place='sky', kind='stars')
        scatters = [_scatter(on_sky[f'pull_{name}']) for name in names]
        offsets = [
            _median(part[f'offset_{name}'][seen])[0]
            for name, seen in zip(names, (noisy, denoised), strict=True)
        ]
        width = _stack_width([stamp for stamp in part['stamp'] if stamp is not None], fwhm)
        return cls(
            low, high, len(part), int(clear.sum()), int(noisy.sum()), int((noisy & denoised).sum()),
            int((denoised & ~noisy).sum()), flux, flux_error, *scatters, *offsets, *width,
        )  # fmt: skip

    def to_dict(self):
        """
        Give it as plain types.

        Returns
        -------
        found : dict
            None where there is no number.
        """
        found = {name: _plain(value) for name, value in vars(self).items()}
        return found | {
            'completeness_noisy': _plain(self.completeness_noisy),
            'completeness': _plain(self.completeness),
        }


def _plain(value):
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if np.isfinite(value) else None


def _median(values):
    """Median and its standard error."""
    if not len(values):
        return np.nan, np.nan
    middle = np.median(values)
    spread = TO_SIGMA * np.median(np.abs(values - middle))
    return float(middle), float(1.2533 * spread / np.sqrt(len(values)))


def _scatter(values):
    if len(values) < FEWEST:
        return np.nan
    return float(np.subtract(*np.percentile(values, [84.13, 15.87])) / 2)


def _stack_width(stamps, fwhm):
    """Width of a stack of denoised stars over that of the true ones, and its standard error."""
    if len(stamps) < FEWEST:
        return np.nan, np.nan
    side = min(stamp.shape[1] for stamp in stamps)
    cut = [slice((stamp.shape[1] - side) // 2, (stamp.shape[1] + side) // 2) for stamp in stamps]
    stamps = np.stack([stamp[:, c, c] for stamp, c in zip(stamps, cut, strict=True)])
    draws = np.random.default_rng(0).integers(0, len(stamps), (N_DRAWS, len(stamps)))
    stacks = [stamps.mean(axis=0), *(stamps[draw].mean(axis=0) for draw in draws)]
    true, found = _widths(np.concatenate(stacks), fwhm).reshape(-1, 2).T
    with np.errstate(invalid='ignore'):
        ratios = found / true
    known = np.isfinite(ratios[1:])
    if not np.isfinite(ratios[0]) or np.mean(known) < 0.9:
        return np.nan, np.nan
    return float(ratios[0]), float(np.std(ratios[1:][known]))


def _widths(stacks, fwhm):
    """Widths of stacks by moments under a Gaussian that stays: it does not shrink to a pixel."""
    half = stacks.shape[1] // 2
    square = np.sum(np.mgrid[-half : half + 1, -half : half + 1] ** 2, axis=0)
    weight = (max(1.5 * fwhm, 2.5) / 2.355) ** 2
    light = stacks * np.exp(-0.5 * square / weight)
    with np.errstate(invalid='ignore', divide='ignore'):
        moment = np.sum(light * square, axis=(1, 2)) / np.sum(light, axis=(1, 2))
        return (2 / moment - 1 / weight) ** -0.5
