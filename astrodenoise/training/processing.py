# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What is done to a frame before it is denoised late: sharpening, a stretch, whole steps, JPEG."""

import numpy as np
import torch
from scipy import fft, ndimage

__all__ = ['jpeg', 'midtones', 'sharpen']

JPEG_STEPS = np.array([  # of the luminance at quality 50 (ITU-T T.81, table K.1)
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip


def sharpen(image, amount, width):
    """
    Sharpen a frame by an unsharp mask; linear, so signal and noise can be sharpened apart.

    Parameters
    ----------
    image : `torch.Tensor`, (H, W)
        The frame.
    amount : float
        Share of the difference to the blurred frame that is added.
    width : float
        Of the Gaussian in px.

    Returns
    -------
    sharp : `torch.Tensor`, (H, W)
        Of the same mean.
    """
    blurred = torch.from_numpy(ndimage.gaussian_filter(image.cpu().numpy(), width))
    return image + amount * (image - blurred.to(image.device))


def midtones(value, midtone):
    """
    Stretch values of 0 to 1 by a midtones transfer function.

    Parameters
    ----------
    value : `torch.Tensor`
        Values; outside of 0 to 1 they are held there.
    midtone : float
        The value that becomes 1/2.

    Returns
    -------
    stretched : `torch.Tensor`
        In 0 to 1.
    """
    value = value.clamp(0, 1)
    return (midtone - 1) * value / ((2 * midtone - 1) * value - midtone)


def jpeg(picture, quality):
    """
    Pass a picture through the quantisation of JPEG.

    Parameters
    ----------
    picture : `numpy.ndarray`, (H, W), float32
        Grey levels of 0 to 255; sides that are no multiple of 8 are left as they are at the end.
    quality : int
        1 to 100.

    Returns
    -------
    picture : `numpy.ndarray`, (H, W), float32
        What a reader gives, before its rounding.
    """
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    steps = np.maximum(np.round(JPEG_STEPS * scale), 1).astype(np.float32)
    height, width = (n // 8 * 8 for n in picture.shape)
    blocks = picture[:height, :width].reshape(height // 8, 8, width // 8, 8) - 128
    spectrum = fft.dctn(blocks, axes=(1, 3), norm='ortho')
    spectrum = np.round(spectrum / steps[:, None, :]) * steps[:, None, :]
    result = picture.copy()
    blocks = fft.idctn(spectrum, axes=(1, 3), norm='ortho')
    result[:height, :width] = blocks.reshape(height, width) + 128
    return result
