# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a training tells: numbers in a JSON file, curves and pictures in TensorBoard."""

import json
from pathlib import Path

import torch

__all__ = ['Journal', 'panel']

N_PICTURES = 6


def panel(network, tiles, device):
    """
    Show tiles as noisy, predicted, clean and residual, side by side (paper section 2.6).

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        The network.
    tiles : `astrodenoise.training.tiles.Tiles`
        What to show; one row each.
    device : str
        Where the network is.

    Returns
    -------
    picture : `torch.Tensor`, (3, N * H, 4 * W), float32
        In [0, 1]: asinh of the contrast, and the residual on a linear scale of 4 sigma either way.
    """
    tiles = tiles.to(device)
    with torch.inference_mode():
        r, _ = network(tiles.features, tiles.condition)
    noisy, clean = tiles.noisy, tiles.clean
    columns = [torch.asinh(image / 2) / 4 + 0.3 for image in (noisy, noisy - r, clean)]
    columns.append(r / 8 + 0.5)
    rows = torch.cat(columns, dim=3).clamp(0, 1)
    picture = torch.cat(list(rows), dim=1).float().cpu()
    return picture if len(picture) == 3 else picture[:1].expand(3, -1, -1)


class Journal:
    """
    The record of a training.

    Parameters
    ----------
    folder : path-like
        Gets ``log.jsonl`` and, where tensorboard is installed, its event files.
    """

    def __init__(self, folder):
        self.path = Path(folder) / 'log.jsonl'
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder))
        except ImportError:
            self.board = None

    def write(self, step, **values):
        """
        Write named numbers of a step.

        Parameters
        ----------
        step : int
            The step.
        **values : float
            The numbers.
        """
        with self.path.open('a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, **values}) + '\n')
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def show(self, step, network, tiles, device):
        """
        Show the first tile of each kind of scene.

        Parameters
        ----------
        step : int
            The step.
        network : `astrodenoise.model.ResUNet`
            The network.
        tiles : dict of str to `astrodenoise.training.tiles.Tiles`
            By kind of scene.
        device : str
            Where the network is.
        """
        if self.board is None:
            return
        chosen = [stack.select([0]) for stack in list(tiles.values())[:N_PICTURES]]
        picture = panel(network, type(chosen[0]).join(chosen), device)
        self.board.add_image('noisy, predicted, clean, residual', picture, step)

    def close(self):
        """Close the files."""
        if self.board is not None:
            self.board.close()
