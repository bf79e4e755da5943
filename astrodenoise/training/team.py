# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Processes that train one network together, as ``torchrun`` starts them."""

import contextlib
import gc
import os

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

__all__ = ['Team', 'join_team']


class Team:
    """
    The processes of a training; one alone where ``torchrun`` did not start more.

    Parameters
    ----------
    rank, size : int
        Number of this process and number of all.
    device : str
        Where this process trains.
    """

    def __init__(self, rank, size, device):
        self.rank, self.size, self.device = rank, size, device

    def wrap(self, network):
        """
        Let the gradients of a network be averaged over the team.

        Parameters
        ----------
        network : `torch.nn.Module`
            The same in every process.

        Returns
        -------
        model : `torch.nn.Module`
            To be called in its place.
        """
        if self.size == 1:
            return network
        index = torch.device(self.device).index
        return DistributedDataParallel(network, device_ids=None if index is None else [index])

    def any(self, flag):
        """
        Tell whether something holds for any process.

        Parameters
        ----------
        flag : bool
            Whether it holds here.

        Returns
        -------
        any : bool
            The same in every process.
        """
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return bool(value)

    def gather(self, value):
        """
        Collect a value of every process.

        Parameters
        ----------
        value : object
            Of plain types.

        Returns
        -------
        values : list
            By rank, the same in every process.
        """
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


@contextlib.contextmanager
def join_team(device=None):
    """
    Join the processes that ``torchrun`` started.

    Parameters
    ----------
    device : str, optional
        'cuda' where there is one, else 'cpu', by default.

    Yields
    ------
    team : `Team`
        This process in it.
    """
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size == 1:
        yield Team(0, 1, device)
        return
    if device == 'cuda':
        device = f'cuda:{os.environ["LOCAL_RANK"]}'
        torch.cuda.set_device(device)
    distributed.init_process_group('nccl' if device.startswith('cuda') else 'gloo')
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), device)
        distributed.barrier()  # none leaves while another still talks to it
    finally:
        gc.collect()  # a wrapped network holds the group in a cycle; its threads must end before us
        distributed.destroy_process_group()
