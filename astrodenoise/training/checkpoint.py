# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Checkpoints of a training: arrays and JSON in a NumPy archive, nothing that could run.

NumPy alone reads and writes them, so that a training goes on where only torch is installed; the
archive's checksums tell a damaged file.
"""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

__all__ = ['load_checkpoint', 'read_checkpoint', 'save_checkpoint']

FILE = 'checkpoint.npz'


def save_checkpoint(folder, network, average, optimiser, state):
    """
    Write a checkpoint; the one before it stays until the new one is whole.

    Parameters
    ----------
    folder : path-like
        Where to.
    network : `torch.nn.Module`
        The network in training.
    average : dict
        The moving average of its weights.
    optimiser : `torch.optim.Optimizer`
        Its state goes along.
    state : dict
        Place in the training, and its configuration; plain types.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written to; the file before it is kept.
    """
    tensors = {f'network.{k}': v for k, v in network.state_dict().items()}
    tensors |= {f'average.{k}': v for k, v in average.items()}
    for number, moments in optimiser.state_dict()['state'].items():
        tensors |= {f'optimiser.{number}.{k}': v for k, v in moments.items()}
    arrays = {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
    path = Path(folder) / FILE
    temporary = path.with_name(f'.{path.name}.new')
    try:
        with temporary.open('wb') as file:
            np.savez(file, state=np.array(json.dumps(state)), **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(folder):
    """
    Read a checkpoint.

    Parameters
    ----------
    folder : path-like
        Where the checkpoint is.

    Returns
    -------
    state : dict
        Place in the training, and its configuration.
    parts : dict of str to dict
        Tensors by name of 'network', 'average' and 'optimiser'.

    Raises
    ------
    FileNotFoundError
        If the folder holds no checkpoint.
    ValueError
        If it is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        msg = f'there is no checkpoint in {str(folder)!r}: train there first, without --resume'
        raise FileNotFoundError(msg)
    parts = {'network': {}, 'average': {}, 'optimiser': {}}
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            state = json.loads(str(archive['state']))
            for key in archive.files:
                if key != 'state':
                    part, name = key.split('.', 1)
                    parts[part][name] = torch.from_numpy(archive[key])
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        msg = (
            f'the checkpoint {path} is damaged ({error}): remove it and train anew, or start from '
            'weights that were exported before (start = "FILE.safetensors" in the configuration)'
        )
        raise ValueError(msg) from error
    return state, parts


def load_checkpoint(folder, network, average, optimiser):
    """
    Bring a training back to where it was.

    Parameters
    ----------
    folder : path-like
        Where the checkpoint is.
    network : `torch.nn.Module`
        Changed in place.
    average : dict
        The moving average of its weights; changed in place.
    optimiser : `torch.optim.Optimizer`
        Changed in place.

    Returns
    -------
    state : dict
        Place in the training.

    Raises
    ------
    FileNotFoundError
        If the folder holds no checkpoint.
    ValueError
        If it is damaged, or was written by a network of another shape.
    """
    state, parts = read_checkpoint(folder)
    try:
        network.load_state_dict(parts['network'])
    except RuntimeError as error:
        msg = f'the checkpoint in {str(folder)!r} is of another network: {error}'
        raise ValueError(msg) from error
    for name, value in parts['average'].items():
        average[name].copy_(value)
    moments = {}
    for name, value in parts['optimiser'].items():
        number, key = name.split('.', 1)
        moments.setdefault(int(number), {})[key] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({'state': moments, 'param_groups': whole['param_groups']})
    return state
