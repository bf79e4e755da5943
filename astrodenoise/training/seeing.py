# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Exposures of unlike seeing brought to the same: else a network learns to blur, or to sharpen.

First a Gaussian of the difference of the stars' variances; then a kernel of a few Gaussians and
their derivatives that is fitted to the stars, which also takes up what is left of a shift.
"""

import numpy as np
from scipy import ndimage

from astrodenoise.background import fill_nearest

__all__ = ['blurred', 'match_seeing']

WIDTHS = (0.7, 1.2, 2.2, 4.0)  # px, sigma of the Gaussians
SHAPE = 1.0  # px, of the one whose derivatives shift it and make it oval
BRIGHT, BRIGHTEST = (20.0, 8.0), 300.0  # sigma, of pixels that tell, of one mean and of two
SEEING = 0.03  # of a pixel's light: what stays different
LEAST = 400  # px that tell
RIDGE = 100.0  # holds terms back that hardly any light tells
ROUNDS = 3
FAR = 4.0  # of the usual deviation: such pixels tell nothing


def blurred(plane, valid, variance):
    """
    Blur a plane so that its stars become wider by a variance.

    Parameters
    ----------
    plane : `numpy.ndarray`, (H, W)
        Any.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that count.
    variance : float
        In px^2, along each axis; nothing is done below 0.02.

    Returns
    -------
    plane : `numpy.ndarray`, (H, W)
        Blurred.
    valid : `numpy.ndarray`, (H, W), bool
        The pixels that nothing invalid was blurred into.
    """
    if variance < 0.02 or not valid.any():
        return plane, valid
    n_passes = int(np.ceil(variance / 0.5))
    share = variance / n_passes  # a kernel of three pixels has just this variance
    kernel = np.array([share / 2, 1 - share, share / 2])
    plane = fill_nearest(plane, valid)
    for _ in range(n_passes):
        for axis in (0, 1):
            plane = ndimage.convolve1d(plane, kernel, axis=axis, mode='nearest')
    if not valid.all():
        reach = 1 + int(2 * np.sqrt(variance))
        valid = ndimage.binary_erosion(valid, iterations=reach, border_value=1)
    return plane, valid


def _terms(light):
    """What a kernel of the sum 1 may be made of beside the delta function, applied to a plane."""
    for width in WIDTHS:
        yield ndimage.gaussian_filter(light, width, mode='nearest') - light
    for order in ((1, 0), (0, 1), (1, 1)):
        yield ndimage.gaussian_filter(light, SHAPE, order=order, mode='nearest')
    yy, xx = (ndimage.gaussian_filter(light, SHAPE, order=o, mode='nearest')
              for o in ((2, 0), (0, 2)))  # fmt: skip
    yield yy - xx


def match_seeing(noisy, others, good, sigma, sky):
    """
    Bring means of other exposures to the seeing of one; no light is lost.

    Parameters
    ----------
    noisy : `numpy.ndarray`, (H, W)
        The exposure.
    others : list of `numpy.ndarray`, (H, W)
        One mean of others or two, in its unit, of the same seeing, over the same sky.
    good : `numpy.ndarray`, (H, W), bool
        Pixels that can be compared.
    sigma, sky : float
        Noise of a pixel of the exposure, and level of the sky.

    Returns
    -------
    others : list of `numpy.ndarray`, (H, W)
        The same kernel applied to each; as they were where too few stars tell it.
    """
    lights = [np.where(good, one - sky, 0) for one in others]
    height = ndimage.gaussian_filter(np.mean(lights, axis=0), 1.0) / sigma
    tell = ndimage.binary_erosion(good, iterations=2, border_value=1)
    # far above the others' noise, which would choose itself
    tell &= (height > BRIGHT[len(lights) - 1]) & (height < BRIGHTEST)
    if np.count_nonzero(tell) < LEAST:
        return others
    one = np.full(np.count_nonzero(tell), sigma)
    matrices = [np.stack([*(t[tell] for t in _terms(light)), one], axis=1) for light in lights]
    first, last = matrices[0], matrices[-1]
    target = noisy[tell] - sky - np.mean([light[tell] for light in lights], axis=0)
    weight = 1 / (1 + height[tell] / 10 + (SEEING * height[tell]) ** 2)
    for _ in range(ROUNDS):
        # the noise of two means is independent: it drops out of their products
        normal = (first * weight[:, None]).T @ last
        normal = (normal + normal.T) / 2 + RIDGE * sigma**2 * np.eye(len(normal))
        values = np.linalg.solve(normal, ((first + last) / 2 * weight[:, None]).T @ target)
        rest = np.abs(target - (first + last) / 2 @ values) * np.sqrt(weight)
        weight = np.where(rest > FAR * 1.4826 * np.median(rest), 0, weight)
    return [
        sky + light + sum(v * t for v, t in zip(values[:-1], _terms(light), strict=True))
        for light in lights
    ]
