# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The configuration of a training, read from TOML."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from astrodenoise.model import ModelConfig
from astrodenoise.training.losses import LossConfig
from astrodenoise.training.synthesis import NoiseRanges

__all__ = ['DataConfig', 'OptimiserConfig', 'TrainingConfig', 'config_from', 'load_config']

PRESETS = Path(__file__).parent / 'presets'


@dataclass(frozen=True)
class DataConfig:
    """
    What is trained on.

    Attributes
    ----------
    scenes : int
        Simulated scenes in the library.
    scene_size, tile_size : int
        Sides in px.
    kinds : dict
        Relative frequency of the simulated kinds.
    material : str
        Folder of real clean frames; empty for none.
    pairs : str
        Folder of real pairs, see `astrodenoise.training.pairs`; empty for none.
    noise : str
        Folder of raw frames of one camera whose differences are real noise, see
        `astrodenoise.training.realnoise`; empty for none.
    noise2noise : bool
        Whether the second frames of the pairs are as noisy as the first.
    pair_share : float
        How often a pair, or a scene with real noise, is shown with that noise; else noise is added
        to its clean frame.
    real_share : float
        Share of the tiles that come from pairs and scenes with real noise; 0: as many as there are
        of them among the scenes.
    seed : int
        Of scenes, noise and order.
    round_scenes : int
        Scenes whose tiles are shuffled together.
    validation_scenes : int
        Simulated scenes that are held out.
    """

    scenes: int = 600
    scene_size: int = 512
    tile_size: int = 128
    kinds: dict = field(
        default_factory=lambda: {
            'stars': 3, 'cluster': 2, 'galaxy': 3, 'nebula': 4, 'faint': 3, 'texture': 1.5,
            'blank': 0.5,
        }
    )
    material: str = ''
    pairs: str = ''
    noise: str = ''
    noise2noise: bool = False
    pair_share: float = 0.5
    real_share: float = 0.0
    seed: int = 1
    round_scenes: int = 32
    validation_scenes: int = 24


@dataclass(frozen=True)
class OptimiserConfig:
    """
    How the weights move.

    Attributes
    ----------
    steps, batch_size : int
        Length of the training and tiles in a step.
    learning_rate : float
        After the warm-up.
    warmup_steps, decay_steps : int
        The rate rises linearly over the first and falls to zero as a half cosine over the last.
    weight_decay, clip_norm : float
        AdamW's decay (0: Adam, as in the paper) and the largest norm of a gradient.
    average : float
        Decay per step of the moving average of the weights, which is what is kept.
    validate_every, log_every : int
        Steps between validations and between lines of the log.
    checkpoint_minutes : float
        Time between checkpoints.
    """

    steps: int = 6000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_steps: int = 1500
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    average: float = 0.999
    validate_every: int = 500
    log_every: int = 50
    checkpoint_minutes: float = 3.0


@dataclass(frozen=True)
class TrainingConfig:
    """
    A whole training.

    Attributes
    ----------
    name : str
        Of the model that is trained.
    output : str
        Folder of checkpoints and logs.
    model : `astrodenoise.model.ModelConfig`
        The network.
    data : `DataConfig`
        What is trained on.
    noise : `astrodenoise.training.synthesis.NoiseRanges`
        What noise is added.
    loss : `astrodenoise.training.losses.LossConfig`
        What is made small.
    optimiser : `OptimiserConfig`
        How the weights move.
    start : str
        Model or weights file to start from; empty for random weights.
    """

    name: str = 'mono'
    output: str = 'runs/mono'
    start: str = ''
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    noise: NoiseRanges = field(default_factory=NoiseRanges)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def to_dict(self):
        """
        Give the configuration as plain types.

        Returns
        -------
        config : dict
            Tables of the TOML file.
        """
        return asdict(self)


SECTIONS = {
    'model': ModelConfig,
    'data': DataConfig,
    'noise': NoiseRanges,
    'loss': LossConfig,
    'optimiser': OptimiserConfig,
}


def _section(name, kind, content):
    """Make one section; an unknown key is an error that lists the known ones."""
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(content) - known)
    if unknown:
        msg = f'[{name}] has unknown keys {unknown}; known are {sorted(known)}'
        raise ValueError(msg)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return kind(**values)


def config_from(content):
    """
    Make a configuration from plain types, such as `TrainingConfig.to_dict` gives.

    Parameters
    ----------
    content : dict
        Tables of a TOML file.

    Returns
    -------
    config : `TrainingConfig`
        With the defaults for what is left out.

    Raises
    ------
    ValueError
        If there are unknown tables or keys.
    """
    content = dict(content)
    sections = {
        name: _section(name, kind, content.pop(name, {})) for name, kind in SECTIONS.items()
    }
    unknown = sorted(set(content) - {'name', 'output', 'start'})
    if unknown:
        known = ['name', 'output', 'start', *SECTIONS]
        msg = f'unknown entries {unknown}; known are {known}'
        raise ValueError(msg)
    return TrainingConfig(**content, **sections)


def load_config(path):
    """
    Read a training's configuration.

    Parameters
    ----------
    path : str or path-like
        A TOML file, or the name of a preset: 'default', 'colour', 'fast', 'fast_colour', 'paper' or
        'smoke'.

    Returns
    -------
    config : `TrainingConfig`
        With the defaults for what the file leaves out.

    Raises
    ------
    FileNotFoundError
        If there is no such file or preset.
    ValueError
        If the file is no TOML or has unknown tables or keys.
    """
    file = Path(path)
    if not file.suffix and (PRESETS / f'{path}.toml').is_file():
        file = PRESETS / f'{path}.toml'
    if not file.is_file():
        presets = sorted(preset.stem for preset in PRESETS.glob('*.toml'))
        msg = f'there is no configuration {str(path)!r}: give a TOML file or one of {presets}'
        raise FileNotFoundError(msg)
    try:
        content = tomllib.loads(file.read_text(encoding='utf-8'))
    except tomllib.TOMLDecodeError as error:
        msg = f'{file} is no valid TOML: {error}'
        raise ValueError(msg) from error
    try:
        return config_from(content)
    except ValueError as error:
        msg = f'{file}: {error}'
        raise ValueError(msg) from error
