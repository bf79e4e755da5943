# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The expected error of each pixel of a denoised frame.

The network predicts it; a table that was measured on held-out scenes, and stands in the card of the
weights, brings it to the size of the errors that were found there.
"""

import numpy as np

from astrodenoise.noisemodel import LAGS

__all__ = [
    'CLASSES',
    'calibrate',
    'correlation_class',
    'error_at_strength',
    'neighbour_correlation',
]

# the largest correlation of neighbours, of either sign, that each class of noise has
CLASSES = {'white': 0.08, 'weak': 0.4, 'strong': np.inf}
N_NEIGHBOURS = sum(abs(dy) + abs(dx) == 1 for dy, dx in LAGS)


def neighbour_correlation(correlation):
    """
    Give the mean correlation of a pixel's noise with its direct neighbours'.

    Parameters
    ----------
    correlation : sequence of float
        Autocorrelation at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    rho : float
        -1 to 1.
    """
    return float(np.mean(correlation[:N_NEIGHBOURS]))


def correlation_class(correlation):
    """
    Name the class of a plane's noise by its correlation.

    Parameters
    ----------
    correlation : sequence of float
        Autocorrelation at `astrodenoise.noisemodel.LAGS`.

    Returns
    -------
    name : {'white', 'weak', 'strong'}
        By the size of the correlation of direct neighbours.
    """
    size = abs(neighbour_correlation(correlation))
    return next(name for name, largest in CLASSES.items() if size <= largest)


def calibrate(log_s, correlation, table):
    """
    Bring the network's expected error to the size that errors were measured to have.

    Parameters
    ----------
    log_s : `numpy.ndarray`, (H, W), float32
        Logarithm of the expected error in units of sigma, as the network gives it.
    correlation : sequence of float
        Autocorrelation of the noise at `astrodenoise.noisemodel.LAGS`.
    table : dict or None
        'log_s': centres of the bins; 'factor': class of correlation to one factor per bin.  None
        leaves the errors as they are.

    Returns
    -------
    s : `numpy.ndarray`, (H, W), float32
        Expected rms error in units of sigma.
    """
    s = np.exp(log_s)
    if table is None:
        return s
    factor = table['factor'][correlation_class(correlation)]
    return s * np.interp(log_s, table['log_s'], factor).astype(np.float32)


def error_at_strength(s, strength):
    """
    Give the error of a pixel of which a share of the noise was removed.

    With r the removed noise and e = r - noise uncorrelated with it, as for a posterior mean, the
    error at strength k is ``sqrt((1 - k)^2 + (1 - (1 - k)^2) s^2)``.

    Parameters
    ----------
    s : `numpy.ndarray`
        Expected error at full strength in units of sigma.
    strength : float
        0 to 1.

    Returns
    -------
    error : `numpy.ndarray`
        In units of sigma: 1 at strength 0, ``s`` at strength 1.
    """
    left = (1 - strength) ** 2
    return np.sqrt(left + (1 - left) * s**2)
