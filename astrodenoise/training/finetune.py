# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Fine-tuning: the shipped weights go on with frames of one's own, and are taken or refused.

The frames share the stream with simulated scenes, so that nothing is forgotten; the rate is low
and stays as it is, since the moving average of the weights can be taken at any time.
"""

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass, fields
from pathlib import Path

from astrodenoise.training.acceptance import Verdict, judge, measure_weights, simulated_stars
from astrodenoise.training.checkpoint import FILE, read_checkpoint
from astrodenoise.training.config import DataConfig, OptimiserConfig, TrainingConfig
from astrodenoise.training.library import mixed_library
from astrodenoise.training.ownframes import read_material
from astrodenoise.training.pairs import PairError
from astrodenoise.training.synthesis import NoiseRanges
from astrodenoise.training.trainer import train

__all__ = ['Outcome', 'fine_tune']

log = logging.getLogger(__name__)

SHARE = 0.25  # of the tiles, from the user's frames
RATE, WARMUP, AVERAGE = 3e-4, 20, 0.99
BATCH, TILE, SMALL_TILE = 8, 128, 64
N_SIMULATED, N_VALIDATION = 64, 6
WITHOUT_END = 10**6  # steps
N_CALIBRATION = 32  # scenes that tell the size of the predicted errors
TRAINING = 0.25  # of the time limit, at least
PLAN, FIGURE, NUMBERS = 'finetune.json', 'before_after.png', 'acceptance.json'


@dataclass(frozen=True, eq=False)
class Outcome:
    """
    What fine-tuning came to.

    Attributes
    ----------
    weights : `~pathlib.Path`
        The weights file, whose card lies beside it; it ends in ``.rejected`` where it was refused.
    verdict : `astrodenoise.training.acceptance.Verdict`
        Why.
    steps : int
        That the training has made, in all.
    figure : `~pathlib.Path` or None
        Before and after; None where matplotlib is missing.
    """

    weights: Path
    verdict: Verdict
    steps: int
    figure: Path | None


def fine_tune(
    output, *, base, denoiser, pairs=None, exposures=None, time_limit=900.0, steps=None,
    resume=False, device=None, licence=None,
):
    """
    Fine-tune weights on frames of one's own, and take or refuse the result.

    Parameters
    ----------
    output : str or path-like
        Folder for the weights, which get its name, the checkpoint, the log and the figure.
    base : callable
        Number of planes to the model to start from: a shipped model's name or a weights file.
    denoiser : callable
        A model to a callable that takes planes (P, H, W) and gives them denoised.
    pairs, exposures : str or path-like, optional
        As `astrodenoise.training.ownframes.read_material` takes them.
    time_limit : float, optional
        Seconds, reading and measuring included; at least a quarter of them are for the training.
    steps : int, optional
        After which the training ends in any case.
    resume : bool, optional
        Go on from the checkpoint in the folder, with the same frames.
    device : str, optional
        'cuda' where there is one, else 'cpu'.
    licence : str, optional
        Of the new weights, which depends on the frames; the base's by default.

    Returns
    -------
    outcome : `Outcome`
        Where the weights are, and why.

    Raises
    ------
    FileExistsError
        If the folder holds a checkpoint and ``resume`` is False.
    FileNotFoundError
        If there is none and ``resume`` is True, or no frame.
    ValueError
        If the frames cannot serve, or are not those of the checkpoint.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    began = time.monotonic()
    folder = Path(output)
    _check_folder(folder, resume)
    material = read_material(pairs=pairs, exposures=exposures)
    config, card = _recipe(folder, material, base(material.n_planes), steps)
    _check_plan(folder, material, card, resume)
    library = mixed_library(config, material.pairs)
    scenes = simulated_stars(material.n_planes)
    measuring = time.monotonic()
    before = measure_weights(denoiser(config.start), material.held_out, scenes)
    spent = time.monotonic() - measuring
    left = time_limit - (measuring - began) - 2.2 * spent - 1.0 * N_CALIBRATION
    left = max(left, TRAINING * time_limit)
    log.info('%d pairs of %d planes, %d held-out frames; training from %s for %.0f s',
             len(material.pairs), material.n_planes, sum(map(len, material.held_out)),
             card['name'], left)
    result = train(config, resume=resume, time_limit=left, device=device, data=library)
    _check_sound(folder)
    candidate = _export(folder, material, card, licence, result['step'])
    try:
        after = measure_weights(denoiser(str(candidate)), material.held_out, scenes)
        verdict = judge(before, after)
        weights = _settle(folder, candidate, verdict)
    finally:
        _remove(candidate)
    log.info('%s', f'error of the noisy frames {verdict.noisy:.4g}\n{verdict}')
    figure = _draw(folder, material, card['name'], before, after, verdict)
    return Outcome(weights, verdict, result['step'], figure)


# --- the recipe ----------------------------------------------------------------------------------


def _recipe(folder, material, base, steps):
    """Configuration of the training, and the card of the weights that it starts from."""
    from astrodenoise.weights import describe, load_weights

    card, weights = describe(base), load_weights(base)
    if weights.config.planes != material.n_planes:
        msg = (
            f'the frames have {material.n_planes} planes, the weights {base!r} take '
            f'{weights.config.planes}: start from weights of as many'
        )
        raise ValueError(msg)
    sides = [min(pair.noisy.shape[-2:]) for pair in material.pairs]
    tile = TILE if min(sides) >= TILE else SMALL_TILE
    if min(sides) < tile:
        msg = f'a pair to learn from has {min(sides)} px on a side, {tile} are needed'
        raise PairError(msg)
    data = DataConfig(
        scenes=N_SIMULATED, validation_scenes=N_VALIDATION, tile_size=tile, pair_share=1.0,
        real_share=SHARE, seed=_seed(material), kinds=card['training'].get('data', {}).get('kinds')
        or DataConfig().kinds,
    )  # fmt: skip
    optimiser = OptimiserConfig(
        steps=steps or WITHOUT_END, batch_size=BATCH, learning_rate=RATE, warmup_steps=WARMUP,
        decay_steps=0, average=AVERAGE, validate_every=200, log_every=20, checkpoint_minutes=2.0,
    )  # fmt: skip
    config = TrainingConfig(
        name=folder.resolve().name, output=str(folder), start=str(base), model=weights.config,
        data=data, noise=_noise_of(card), optimiser=optimiser,
    )  # fmt: skip
    return config, card


def _seed(material):
    """The same frames give the same stream; not that of the shipped weights."""
    digest = hashlib.sha256('\n'.join(material.names).encode()).digest()
    return 1000 + int.from_bytes(digest[:2], 'big')


def _noise_of(card):
    """The noise that the weights were trained on, as far as their card tells."""
    known = {entry.name for entry in fields(NoiseRanges)}
    told = card['training'].get('noise', {})
    return NoiseRanges(**{
        key: tuple(value) if isinstance(value, list) else value
        for key, value in told.items() if key in known
    })  # fmt: skip


# --- the folder ----------------------------------------------------------------------------------


def _check_folder(folder, resume):
    """Refuse before minutes of reading what would be refused after."""
    there = (folder / FILE).exists()
    if there and not resume:
        msg = f'{str(folder)!r} holds a checkpoint: resume it, or name another output folder'
        raise FileExistsError(msg)
    if resume and not there:
        msg = f'there is no checkpoint in {str(folder)!r}: fine-tune there first, without --resume'
        raise FileNotFoundError(msg)
    folder.mkdir(parents=True, exist_ok=True)


def _check_plan(folder, material, card, resume):
    """Write down what is fine-tuned on what; on the way back, compare."""
    plan = {'base': card['sha256'], 'kind': material.kind, 'frames': material.names}
    path = folder / PLAN
    if resume:
        try:
            before = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            msg = f'{path} cannot be read ({error}): fine-tune in another folder'
            raise ValueError(msg) from error
        for key, what in (('base', 'other weights'), ('kind', 'another kind of frames'),
                          ('frames', 'other frames')):  # fmt: skip
            if before.get(key) != plan[key]:
                msg = (
                    f'the checkpoint in {str(folder)!r} is of {what}: give those that it was '
                    'made with, or another output folder'
                )
                raise ValueError(msg)
        return
    _write_json(path, plan)


def _check_sound(folder):
    """Say so where the training came to nothing."""
    average = read_checkpoint(folder)[1]['average']
    if not all(bool(value.isfinite().all()) for value in average.values()):
        msg = (
            f'the training in {str(folder)!r} went astray (weights that are no finite numbers): '
            'look for strange values in the frames, and fine-tune in another folder'
        )
        raise ValueError(msg)


def _write_json(path, content):
    from astrodenoise.atomic import atomic_write

    with atomic_write(path, overwrite=True) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + '\n').encode())


def _export(folder, material, card, licence, steps):
    """Write the averaged weights under a name that they do not keep."""
    from astrodenoise.training.export import export_weights

    name = folder.resolve().name
    extra = {
        'name': name,
        'base': {key: card[key] for key in ('name', 'version', 'sha256')},
        'fine_tuned_on': {
            'kind': material.kind, 'frames': material.names, 'planes': material.n_planes,
            'Mpx': round(sum(pair.compared.sum() for pair in material.pairs) / 1e6, 3),
            'share of the tiles': SHARE,
        },
        'licences': {
            'weights that were started from': card['licence'], 'frames': licence or 'not stated',
        },
        'trained_range': _widened_range(card.get('trained_range'), material),
    }  # fmt: skip
    if 'calibration' in card:
        extra['calibration'] = card['calibration']
    candidate = folder / f'candidate-{os.getpid()}-{steps}-{time.monotonic_ns()}.safetensors'
    keywords = {
        'version': f'{card["version"]}+{steps}', 'licence': licence or card['licence'],
        'extra': extra,
    }  # fmt: skip
    if 'calibration' in extra and N_CALIBRATION:
        try:
            own = {k: v for k, v in extra.items() if k != 'calibration'}
            export_weights(folder, candidate, n_scenes=N_CALIBRATION, n_range=0,
                           **keywords | {'extra': own})  # fmt: skip
        except ValueError as error:  # too little to calibrate by: that of the base stays
            log.info('the predicted errors keep their calibration: %s', error)
        else:
            return candidate
    export_weights(folder, candidate, **keywords)
    return candidate


def _widened_range(ranges, material):
    """The range that the base was trained on, and these frames."""
    if not ranges:
        return None
    from astrodenoise.estimate import measure_plane
    from astrodenoise.features import NormalisedPlane
    from astrodenoise.known import Known
    from astrodenoise.trainedrange import frame_range

    ranges = {key: list(pair) for key, pair in ranges.items()}
    for pair in material.pairs:
        planes = [
            NormalisedPlane(noisy, valid, measure_plane(noisy, valid))
            for noisy, valid in zip(pair.noisy, pair.valid, strict=True)
        ]
        for key, values in frame_range([Known.of_plane(p) for p in planes], planes).items():
            if key == 'masked' or not len(values) or key not in ranges:
                continue  # what is masked here was masked for the training
            low, high = ranges[key]
            ranges[key] = [
                None if low is None else min(low, float(f'{values.min():.3g}')),
                None if high is None else max(high, float(f'{values.max():.3g}')),
            ]
    return ranges


def _settle(folder, candidate, verdict):
    """Give the weights the name that they may bear; the card tells how they did."""
    name = folder.resolve().name
    card = json.loads(candidate.with_suffix('.json').read_text(encoding='utf-8'))
    card['metrics']['fine-tuning'] = verdict.to_dict()
    _write_json(candidate.with_suffix('.json'), card)
    _write_json(folder / NUMBERS, verdict.to_dict())
    ending = '' if verdict.accepted else '.rejected'
    for suffix in ('.safetensors', '.json'):
        os.replace(candidate.with_suffix(suffix), folder / f'{name}{suffix}{ending}')
        if verdict.accepted:
            (folder / f'{name}{suffix}.rejected').unlink(missing_ok=True)
    return folder / f'{name}.safetensors{ending}'


def _remove(candidate):
    for suffix in ('.safetensors', '.json'):
        candidate.with_suffix(suffix).unlink(missing_ok=True)


def _draw(folder, material, base, before, after, verdict):
    """Draw the figure; None where it cannot be drawn."""
    from astrodenoise.training.beforeafter import draw_before_after

    score = verdict.rows[0]
    one = material.held_out[0][0]
    path = folder / FIGURE
    try:
        draw_before_after(
            path, one, (before.shown[0], after.shown[0]),
            (verdict.noisy, score.before, score.after), base=base,
            title=f'{one.name}, held-out part: {"accepted" if verdict.accepted else "refused"}; '
                  f'errors in sigma^2, change {score.change:+.2g} ± {score.error:.1g}',
        )  # fmt: skip
    except ImportError as error:
        log.warning('no figure: %s', error)
        return None
    return path
