# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The ResUNet: encoder, bottleneck and decoder of residual blocks with skips (paper section 2.4).

The network reads a frame in units of its own noise and gives, in the same units, the noise ``r``
that is present and ``s``, its own expected error.  No layer sums over space or over a batch, so a
tile's result depends neither on its batch nor on its size.
"""

import itertools
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = ['ModelConfig', 'ResUNet']


@dataclass(frozen=True)
class ModelConfig:
    """
    The shape of a `ResUNet`.

    Attributes
    ----------
    planes : int
        Image planes seen and denoised together: 1 (mono) or 3 (colour).
    features : int
        Input channels per plane, see `astrodenoise.features`.
    condition : int
        Numbers per plane that describe the noise's correlation.
    widths : tuple of int
        Channels of each level, the finest first.
    blocks : tuple of int
        Residual blocks of each level; the last entry is the bottleneck's.
    """

    planes: int = 1
    features: int = 6
    condition: int = 6
    widths: tuple = (16, 32, 64, 128)
    blocks: tuple = (1, 2, 2, 2)

    def __post_init__(self):
        object.__setattr__(self, 'widths', tuple(int(n) for n in self.widths))
        object.__setattr__(self, 'blocks', tuple(int(n) for n in self.blocks))
        if len(self.widths) != len(self.blocks) or len(self.widths) < 2:
            msg = (
                f'widths {self.widths} and blocks {self.blocks} must have the same length, '
                'at least 2: one entry for each level'
            )
            raise ValueError(msg)
        numbers = (self.planes, self.features, *self.widths, *self.blocks)
        if min(numbers) < 1 or self.condition < 0:
            msg = f'every size of a model must be a positive whole number, got {self}'
            raise ValueError(msg)

    @property
    def stride(self):
        """The tile sizes that fit are multiples of this (int)."""
        return 2 ** (len(self.widths) - 1)

    def to_dict(self):
        """
        Give the configuration as plain types.

        Returns
        -------
        config : dict
            What ``ModelConfig(**config)`` takes.
        """
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


# 100 sigma up, one sigma is less than a step of bfloat16: these convolutions keep float32
EXACT = ('first', 'last')


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        # a block that starts as the identity lets a deep network without normalisation train
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x):
        """Add two convolutions of ``x`` to it."""
        # in place where nobody looks again: memory is what the wide levels wait for
        change = self.conv2(functional.relu_(self.conv1(functional.relu(x))))
        return x + change if change.dtype != x.dtype else change.add_(x)


class Level(nn.Sequential):
    """The residual blocks of one level, conditioned on the noise's correlation."""

    def __init__(self, width, n_blocks, n_condition):
        super().__init__(*(ResidualBlock(width) for _ in range(n_blocks)))
        self.condition = nn.Linear(n_condition, width) if n_condition else None

    def forward(self, x, condition):
        """Shift ``x`` by what the correlation says and pass it through the blocks."""
        if self.condition is not None:
            x = x + self.condition(condition)[:, :, None, None].to(x.dtype)
        for name, block in self.named_children():
            if name != 'condition':
                x = block(x)
        return x


class ResUNet(nn.Module):
    """
    Encoder, bottleneck, decoder of residual blocks with skips (paper section 2.4).

    Parameters
    ----------
    config : `ModelConfig`
        The shape of the network.
    """

    def __init__(self, config=None):
        super().__init__()
        self.config = config = config or ModelConfig()
        n_condition = config.planes * config.condition
        widths, blocks = config.widths, config.blocks
        finer = list(itertools.pairwise(widths))
        self.first = nn.Conv2d(config.planes * config.features, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            Level(w, n, n_condition) for w, n in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(w, v, 2, stride=2) for w, v in finer)
        self.bottleneck = Level(widths[-1], blocks[-1], n_condition)
        self.up = nn.ModuleList(nn.ConvTranspose2d(v, w, 2, stride=2) for w, v in finer)
        self.fuse = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in widths[:-1])
        self.decoder = nn.ModuleList(
            Level(w, n, n_condition) for w, n in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], 2 * config.planes, 3, padding=1)

    def shorten(self, dtype):
        """
        Keep all convolutions but the first and the last in half precision.

        Parameters
        ----------
        dtype : `torch.dtype`
            Of their weights and of what they compute.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and name not in EXACT:
                module.to(dtype)

    def forward(self, features, condition):
        """
        Predict the noise of tiles and the error of that prediction.

        Parameters
        ----------
        features : `torch.Tensor`, (B, planes * features, H, W), float32
            The tiles; H and W multiples of ``config.stride``.
        condition : `torch.Tensor`, (B or 1, planes * condition), float32
            The noise's correlation; one row stands for all tiles.

        Returns
        -------
        r, log_s : `torch.Tensor`, (B, planes, H, W), float32
            The noise that is present and the logarithm of its expected rms error, in units of
            sigma.
        """
        with torch.autocast(features.device.type, enabled=False):
            x = self.first(features.float()).to(self.down[0].weight.dtype)
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            x = level(x, condition)
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x, condition)
        stages = list(zip(self.up, self.fuse, self.decoder, skips, strict=True))
        for up, fuse, level, skip in reversed(stages):
            x = level(fuse(torch.cat((up(x), skip.to(x.dtype)), dim=1)), condition)
        with torch.autocast(features.device.type, enabled=False):
            out = self.last(functional.relu(x).float())
        r, log_s = out.chunk(2, dim=1)
        return r, log_s.clamp(-6, 2)
