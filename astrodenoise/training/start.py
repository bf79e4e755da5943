# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Weights to start a training from: fine-tuning, and colour from mono."""

from pathlib import Path

import torch

from astrodenoise.training.checkpoint import FILE, read_checkpoint

__all__ = ['start_from', 'transfer']


def _per_plane(value, n_planes, axis, *, share):
    """Repeat what belongs to one plane for each of several; inputs share the weight."""
    repeated = torch.cat([value] * n_planes, dim=axis)
    return repeated / n_planes if share else repeated


def _widened(name, value, n_planes):
    """Bring a tensor of a one-plane network to one of several planes."""
    if name == 'first.weight':
        return _per_plane(value, n_planes, 1, share=True)
    if name.endswith('condition.weight'):
        return _per_plane(value, n_planes, 1, share=True)
    if name.startswith('last.'):  # all r come before all s; what s was for one plane is void
        r, s = value.chunk(2, dim=0)
        return torch.cat(
            [_per_plane(half, n_planes, 0, share=False) for half in (r, torch.zeros_like(s))]
        )
    return value


def _place(value, target):
    """Put a tensor into a larger one; new inputs do not disturb the outputs that are taken over."""
    if target.ndim > 1:
        target[: value.shape[0]] = 0
    target[tuple(slice(n) for n in value.shape)] = value


def _n_levels(tensors):
    """Levels of a network, the finest and the bottleneck among them."""
    finer = [int(name.split('.')[1]) for name in tensors if name.startswith('down.')]
    return 2 + max(finer, default=-1)


def _deepened(tensors, own):
    """
    Bring tensors to a network of more levels, so that it does what it did.

    The bottleneck becomes the encoder of its level, whose skip is passed on as it is; what comes up
    from the new levels counts nothing at first.
    """
    n_before, n_levels = _n_levels(tensors), _n_levels(own)
    if n_before >= n_levels:
        return tensors
    names = {name: name.replace('bottleneck', f'encoder.{n_before - 1}', 1) for name in tensors}
    tensors = {names[name]: value for name, value in tensors.items()}
    for name, value in own.items():
        part, level, *_ = name.split('.')
        if part == 'bottleneck' or (level.isdigit() and int(level) >= n_before - 1):
            tensors.setdefault(name, value.clone())
    for level in range(n_before - 1, n_levels - 1):
        fuse = tensors[f'fuse.{level}.weight']
        fuse.zero_()
        width = fuse.shape[0]
        fuse[:, width:, 0, 0] = torch.eye(width)
        for name in (f'fuse.{level}.bias', *_conditions(tensors, f'decoder.{level}')):
            tensors[name].zero_()
    return tensors


def _conditions(tensors, level):
    return [name for name in tensors if name.startswith(f'{level}.condition')]


def transfer(network, tensors):
    """
    Set a network's weights from those of another, where they correspond.

    A network of several planes takes those of a one-plane network for the mean of its planes; a
    wider one keeps its own start in the channels that the other lacks; one of more levels does what
    the other did until its new levels have learned.

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        Changed in place.
    tensors : dict of str to `torch.Tensor`
        Weights of a network of at most as many levels, at most as wide.

    Raises
    ------
    ValueError
        If the networks do not correspond.
    """
    own, planes = network.state_dict(), network.config.planes
    planes_there = tensors['last.bias'].numel() // 2 if 'last.bias' in tensors else 0
    if planes != planes_there:
        if planes_there != 1:
            msg = f'weights of {planes_there} planes do not start a network of {planes}'
            raise ValueError(msg)
        tensors = {name: _widened(name, value, planes) for name, value in tensors.items()}
    tensors = _deepened(tensors, own)
    if set(own) != set(tensors):
        names = sorted(set(own) ^ set(tensors))[:3]
        msg = f'the weights to start from have other levels or blocks, for example {names}'
        raise ValueError(msg)
    for name, target in own.items():
        value = tensors[name].to(target.dtype)
        if any(n > m for n, m in zip(value.shape, target.shape, strict=True)):
            msg = f'the weights to start from are wider than the network: {name}'
            raise ValueError(msg)
        if name.startswith('fuse') and target.ndim > 1:  # what comes up, and the skip beside it
            for part, place in zip(value.chunk(2, dim=1), target.chunk(2, dim=1), strict=True):
                _place(part, place)
        elif name.startswith('up') and target.ndim > 1:  # a transposed one: inputs come first
            _place(value.transpose(0, 1), target.transpose(0, 1))
        else:
            _place(value, target)


def start_from(network, source):
    """
    Set a network's weights from a model, a weights file or a checkpoint.

    Parameters
    ----------
    network : `astrodenoise.model.ResUNet`
        Changed in place.
    source : str or path-like
        A shipped model's name, the path of a safetensors file, or the folder of a checkpoint, of
        which the averaged weights are taken.

    Raises
    ------
    ValueError
        If there is no such source, or its network does not correspond.
    """
    if (Path(source) / FILE).is_file():
        tensors = read_checkpoint(source)[1]['average']
    else:
        from astrodenoise.weights import load_weights

        tensors = load_weights(str(source)).tensors
    with torch.no_grad():
        transfer(network, tensors)
