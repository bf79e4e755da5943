# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Losses, as pure functions of tensors."""

import torch

__all__ = ['calibration_loss', 'residual_loss']


def residual_loss(r, target, weight):
    """
    Mean squared error of the predicted noise, in units of sigma squared.

    Its minimum is the posterior mean, so fluxes are unbiased; an L1 loss would give the median,
    which is darker for faint stars.

    Parameters
    ----------
    r, target : `torch.Tensor`, (B, planes, H, W)
        Predicted and true noise in units of sigma.
    weight : `torch.Tensor`, (B, planes, H, W)
        0 for pixels that do not count.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Weighted mean.
    """
    return torch.sum(weight * (r - target) ** 2) / torch.clamp(weight.sum(), min=1)


def calibration_loss(log_s, r, target, weight):
    """
    Negative log-likelihood of the error under a Gaussian of width s; r itself gets no gradient.

    Its minimum is s = rms of (r - target) given what the network sees.

    Parameters
    ----------
    log_s : `torch.Tensor`, (B, planes, H, W)
        Logarithm of the network's expected error in units of sigma.
    r, target, weight : `torch.Tensor`, (B, planes, H, W)
        As for `residual_loss`.

    Returns
    -------
    loss : `torch.Tensor`, ()
        Weighted mean.
    """
    error = (r.detach() - target) ** 2
    likelihood = 0.5 * error * torch.exp(-2 * log_s) + log_s
    return torch.sum(weight * likelihood) / torch.clamp(weight.sum(), min=1)
