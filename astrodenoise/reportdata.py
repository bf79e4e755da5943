# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A report as data: what was found, and the pixels to show with it."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from astrodenoise._version import __version__

__all__ = ['FAILED', 'NOT_TESTABLE', 'NO_NUMBER', 'PASSED', 'Check', 'Layers', 'Report']

PASSED, FAILED, NOT_TESTABLE = 'passed', 'failed', 'not testable here'
NO_NUMBER = '\u2013'  # a dash
FORMAT = 1  # of what `Report.to_dict` gives


@dataclass(frozen=True)
class Check:
    """
    A check and its verdict.

    Attributes
    ----------
    key : str
        Its name for machines.
    title : str
        Its name.
    tested : str
        What was tested.
    number : str
        What was found.
    bound : str
        What is asked.
    state : {'passed', 'failed', 'not testable here'}
        The verdict.
    words : str
        The same in a sentence.
    value, error : float or None
        The number and its standard error, where it is one.
    positions : tuple of dict
        Where: 'x' and 'y' in px, with what was found there.
    """

    key: str
    title: str
    tested: str
    number: str
    bound: str
    state: str
    words: str
    value: float | None = None
    error: float | None = None
    positions: tuple = ()

    def to_dict(self):
        """
        Give the check as plain types.

        Returns
        -------
        check : dict
            By the names of the attributes.
        """
        return asdict(self) | {'positions': [dict(place) for place in self.positions]}


@dataclass(frozen=True, eq=False)
class Layers:
    """
    The pixels that a report shows.

    Attributes
    ----------
    noisy, denoised : `numpy.ndarray`, (N, H, W)
        The frame before and after.
    truth, error : `numpy.ndarray`, (N, H, W), or None
        The frame without noise, and the error that is predicted for each denoised pixel.
    sky, sigma : list of float
        Level and noise of the sky of each plane.
    full_range : tuple of float or None
        What is black and white in a picture; None for linear data.
    upward : bool
        Whether the first row is the lowest.
    """

    noisy: np.ndarray
    denoised: np.ndarray
    truth: np.ndarray | None
    error: np.ndarray | None
    sky: list
    sigma: list
    full_range: tuple | None = None
    upward: bool = True


@dataclass(frozen=True, eq=False)
class Report:
    """
    What a denoiser did to one frame.

    Attributes
    ----------
    files : dict of str
        'noisy' and, where they were given, 'denoised' and 'truth': what the frames are called.
    shape : tuple of int
        (H, W) or (N, H, W); of a raw colour mosaic that of its four planes.
    names : list of str
        Of the planes, empty where there is one.
    unit : str
        Of the pixels, empty where they have none.
    pixels : dict of int
        'all' and 'valid'.
    checks : list of `~astrodenoise.reportdata.Check`
        'invented', 'lost' and 'moved' first.
    uses : list of dict
        What the frame is fit for, see `~astrodenoise.reportchecks.uses_of`.
    planes : list of dict
        Of each plane its noise, its stars and the curves of its residual.
    provenance : dict
        What the denoised frame's header says of how it was made, empty where it says nothing.
    warnings, notes : tuple of str
        What must be known, and what helps to read the rest.
    evaluation : `~astrodenoise.measures.figures.Evaluation` or None
        Against the truth, where there is one.
    layers : `Layers`
        The pixels; no part of `to_dict`.
    """

    files: dict
    shape: tuple
    names: list
    unit: str
    pixels: dict
    checks: list
    uses: list
    planes: list
    provenance: dict
    warnings: tuple = ()
    notes: tuple = ()
    evaluation: object = None
    layers: Layers | None = field(default=None, repr=False)

    def check(self, key):
        """
        Find a check.

        Parameters
        ----------
        key : str
            Its name, such as 'invented'.

        Returns
        -------
        check : `~astrodenoise.reportdata.Check`
            That check.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        found = {check.key: check for check in self.checks}
        if key not in found:
            msg = f'there is no check {key!r}; expected one of {list(found)}'
            raise KeyError(msg)
        return found[key]

    def to_dict(self):
        """
        Give the report as plain types that strict JSON can hold.

        Returns
        -------
        report : dict
            'format', 'astrodenoise' (version) and the attributes by their names, but the layers.
        """
        return _plain({
            'format': FORMAT,
            'astrodenoise': __version__,
            'files': self.files,
            'shape': self.shape,
            'names': self.names,
            'unit': self.unit,
            'pixels': self.pixels,
            'checks': [check.to_dict() for check in self.checks],
            'uses': self.uses,
            'planes': self.planes,
            'provenance': self.provenance,
            'warnings': self.warnings,
            'notes': self.notes,
            'evaluation': None if self.evaluation is None else self.evaluation.to_dict(),
        })  # fmt: skip

    def to_json(self):
        """
        Give the report as JSON text.

        Returns
        -------
        text : str
            What `to_dict` gives.
        """
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)


def _plain(value):
    """Make numpy's types Python's, and what is no number None."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
