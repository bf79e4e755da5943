# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""From a training's checkpoint to weights with a card."""

from datetime import UTC, datetime
from pathlib import Path

from astrodenoise.model import ModelConfig, ResUNet
from astrodenoise.training.calibration import calibration_table, measure_errors, trained_range
from astrodenoise.training.checkpoint import read_checkpoint
from astrodenoise.training.config import config_from

__all__ = ['export_weights']

FULL_PRECISION = ('first.', 'last.', 'condition.')  # what runs in float32 is kept in float32


def export_weights(
    folder, path, *, version, metrics=None, licence='BSD-3-Clause', n_scenes=0, n_range=200,
    extra=None,
):
    """
    Write the averaged weights of a checkpoint with their card.

    Parameters
    ----------
    folder : path-like
        Holds the checkpoint.
    path : path-like
        Ends in .safetensors; its stem is the model's name.
    version : str
        Of the weights.
    metrics : dict, optional
        What was measured of them, beside the last validation.
    licence : str, optional
        Of the weights.
    n_scenes : int, optional
        Held-out scenes on which the predicted errors are calibrated; 0 leaves them as they are.
    n_range : int, optional
        Frames that tell the trained range; with ``n_scenes`` 0 none is measured, with ``n_range`` 0
        neither.
    extra : dict, optional
        More entries of the card, or others in place of these.

    Returns
    -------
    card : dict
        What was written beside the weights.

    Raises
    ------
    FileNotFoundError
        If the folder holds no checkpoint.
    """
    from astrodenoise.weights import save_weights

    state, parts = read_checkpoint(folder)
    tensors = {
        name: value.float() if any(part in name for part in FULL_PRECISION) else value.half()
        for name, value in parts['average'].items()
    }
    config = state['config']
    # folders are those of one machine
    data = {k: v for k, v in config['data'].items() if k not in ('material', 'pairs', 'noise')}
    card = {
        'name': Path(path).stem,
        'version': version,
        'licence': licence,
        'made': datetime.now(UTC).date().isoformat(),
        'training': {
            'steps': state['step'],
            'tiles': state['step'] * config['optimiser']['batch_size'],
            'scenes': state['sources'],
            'data': data,
            'noise': config['noise'],
            'loss': config['loss'],
            'start': Path(config['start']).stem,
            'optimiser': config['optimiser'],
            'seed': data['seed'],
            # of checkpoints from before these and the versions were kept, nothing is known
            **{key: state.get(key) for key in ('precision', 'device', 'processes', 'threads')},
        },
        'metrics': {'validation gain in dB': state.get('gains', {}), **(metrics or {})},
        'versions': state.get('versions', {}),
    }
    if n_scenes:
        card |= _measured(state['config'], tensors, n_scenes, n_range)
    card |= extra or {}
    return save_weights(path, tensors, ModelConfig(**config['model']), card)


def _measured(config, tensors, n_scenes, n_range):
    """Calibration of the predicted errors and trained range, with the weights as they ship."""
    config = config_from(config)
    network = ResUNet(config.model)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    errors = measure_errors(network.eval(), config, n_scenes=n_scenes)
    found = {'calibration': {**calibration_table(errors), 'scenes': n_scenes}}
    if n_range:
        found['trained_range'] = trained_range(config, n_scenes=n_range)
    return found
