# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Checkpoints of a training: safetensors and JSON, nothing that could run."""

import json
import os
from pathlib import Path

__all__ = ['load_checkpoint', 'save_checkpoint']

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
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        msg = f'there is no checkpoint in {str(folder)!r} to resume from: start without --resume'
        raise FileNotFoundError(msg)
    tensors = load_file(path)
    with safe_open(path, framework='pt') as file:
        state = json.loads(file.metadata()['state'])

    def part(name):
        start = f'{name}.'
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

    try:
        network.load_state_dict(part('network'))
    except RuntimeError as error:
        msg = f'the checkpoint in {str(folder)!r} is of another network: {error}'
        raise ValueError(msg) from error
    for name, value in part('average').items():
        average[name].copy_(value)
    moments = {}
    for name, value in part('optimiser').items():
        number, key = name.split('.', 1)
        moments.setdefault(int(number), {})[key] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({'state': moments, 'param_groups': whole['param_groups']})
    return state
