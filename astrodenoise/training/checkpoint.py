# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Checkpoints of a training: safetensors and JSON, nothing that could run."""

import json
import os
from pathlib import Path

__all__ = ['load_checkpoint', 'read_checkpoint', 'save_checkpoint']

FILE = 'checkpoint.safetensors'


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
    """
    from safetensors.torch import save_file

    tensors = {f'network.{k}': v.contiguous() for k, v in network.state_dict().items()}
    tensors |= {f'average.{k}': v.contiguous() for k, v in average.items()}
    for number, moments in optimiser.state_dict()['state'].items():
        tensors |= {f'optimiser.{number}.{k}': v.contiguous() for k, v in moments.items()}
    path = Path(folder) / FILE
    temporary = path.with_name(f'.{path.name}.new')
    save_file(tensors, temporary, metadata={'state': json.dumps(state)})
    os.replace(temporary, path)


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
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        msg = f'there is no checkpoint in {str(folder)!r}: train there first, without --resume'
        raise FileNotFoundError(msg)
    with safe_open(path, framework='pt') as file:
        state = json.loads(file.metadata()['state'])
    parts = {'network': {}, 'average': {}, 'optimiser': {}}
    for key, value in load_file(path).items():
        part, name = key.split('.', 1)
        parts[part][name] = value
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
        If it was written by a network of another shape.
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
