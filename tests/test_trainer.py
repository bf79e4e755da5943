# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The training loop: its curve, its checkpoints, its processes, its packs."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.model import ModelConfig, ResUNet
from astrodenoise.training import checkpoint, trainer
from astrodenoise.training.config import load_config
from astrodenoise.training.export import export_weights
from astrodenoise.training.library import Library, Scene, make_library
from astrodenoise.training.losses import LossConfig
from astrodenoise.training.pack import read_pack, write_pack
from astrodenoise.training.start import start_from, transfer
from astrodenoise.training.trainer import learning_rate, train
from astrodenoise.training.versions import made_with
from astrodenoise.weights import load_weights
from helpers import ROOT, run_python

# --- the loop ------------------------------------------------------------------------------------


def short(tmp_path, **changes):
    """Give a very short training."""
    config = load_config('smoke')
    optimiser = replace(config.optimiser, **({'steps': 8, 'validate_every': 4} | changes))
    data = replace(config.data, scenes=3, scene_size=128, round_scenes=4)
    return replace(config, optimiser=optimiser, data=data, output=str(tmp_path))


def interrupted_after(steps, config, monkeypatch, clock):
    """Train until a time limit comes after some steps."""
    done = []

    def rate(step, optimiser):
        done.append(step)
        return learning_rate(step, optimiser)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, 'learning_rate', rate)
        patched.setattr(
            trainer.time, 'monotonic', lambda: next(clock) * 1e-9 + 100 * (len(done) >= steps)
        )
        return train(config, precision='float32', time_limit=50)


def test_smoke_training_learns_and_its_weights_can_be_used(tmp_path):
    result = train('smoke', output=tmp_path, precision='float32')
    assert result['step'] == 60
    assert np.mean(result['losses'][-10:]) < 0.7 * np.mean(result['losses'][:10])
    assert result['gains']['mean'] > 1.5
    card = export_weights(tmp_path, tmp_path / 'smoke.safetensors', version='1')
    assert load_weights(tmp_path / 'smoke.safetensors').name == 'smoke'
    assert card['training']['steps'] == 60
    assert card['training']['scenes'] == {'simulated': 8}
    assert not {'material', 'pairs'} & set(card['training']['data'])
    assert card['training']['loss']['pixel'] == 'l2'
    assert (card['training']['seed'], card['training']['precision']) == (1, 'float32')
    assert card['versions'] == made_with()
    assert card['versions']['astropy'] == version('astropy')
    assert {'commit', 'python', 'numpy', 'torch', 'processor'} <= set(card['versions'])
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert any('gain_mean' in line for line in log)


def test_resumed_training_is_the_unbroken_one(tmp_path, monkeypatch):
    unbroken = train(short(tmp_path / 'a'), precision='float32')
    # a clock that passes the limit after five steps
    config, clock = short(tmp_path / 'b'), iter(range(10**6))
    stopped = interrupted_after(5, config, monkeypatch, clock)
    assert stopped['step'] == 5
    resumed = train(config, precision='float32', resume=True)
    assert_allclose(stopped['losses'] + resumed['losses'], unbroken['losses'], rtol=1e-6)
    assert_allclose(resumed['gains']['mean'], unbroken['gains']['mean'], rtol=1e-5)


def test_time_limit_stops_and_keeps_a_checkpoint(tmp_path):
    result = train(short(tmp_path, steps=10**6), precision='float32', time_limit=2)
    assert 0 < result['step'] < 10**6
    assert (tmp_path / 'checkpoint.npz').is_file()
    assert result['tiles_per_second'] > 0


def test_a_checkpoint_is_not_overwritten_by_chance(tmp_path):
    train(short(tmp_path, steps=1))
    with pytest.raises(FileExistsError, match='resume'):
        train(short(tmp_path, steps=1))
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        train(short(tmp_path / 'none'), resume=True)


def test_learning_rate_rises_stays_and_falls():
    optimiser = load_config('default').optimiser
    rates = np.array([learning_rate(step, optimiser) for step in range(optimiser.steps + 1)])
    assert rates.argmax() >= optimiser.warmup_steps - 1
    assert rates.max() == optimiser.learning_rate
    assert rates[-1] == 0
    assert (np.diff(rates[-optimiser.decay_steps :]) < 0).all()


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('steps =', 'no valid TOML'),
        ('[optimiser]\nstep = 3', 'unknown keys'),
        ('[optimizer]\nsteps = 3', 'unknown entries'),
    ],
)
def test_mistakes_in_a_configuration_are_named(tmp_path, text, match):
    path = tmp_path / 'config.toml'
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        load_config(path)
    with pytest.raises(FileNotFoundError, match='smoke'):
        load_config(tmp_path / 'nothing.toml')


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(short(tmp_path, steps=1))
    path = tmp_path / 'checkpoint.npz'
    content = path.read_bytes()
    for damaged in (
        content[: len(content) // 2],
        content[:1000] + b'x' + content[1001:],
        b'',
        b'no',
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match='is damaged'):
            train(short(tmp_path, steps=2), resume=True)


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    train(short(tmp_path, steps=1))
    other = replace(short(tmp_path, steps=2), model=ModelConfig(widths=(8, 8), blocks=(1, 1)))
    with pytest.raises(ValueError, match='another network'):
        train(other, resume=True)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    train(short(tmp_path, steps=1))
    before = (tmp_path / 'checkpoint.npz').read_bytes()

    def full(file, **arrays):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpoint.np, 'savez', full)
    with pytest.raises(OSError, match='No space left'):
        train(short(tmp_path, steps=2), resume=True)
    assert (tmp_path / 'checkpoint.npz').read_bytes() == before
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_with_a_checkpoint(tmp_path, monkeypatch, number):
    done = []

    def rate(step, optimiser):
        done.append(step)
        if len(done) == 3:
            os.kill(os.getpid(), number)
        return learning_rate(step, optimiser)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, 'learning_rate', rate)
        with pytest.raises(KeyboardInterrupt):
            train(short(tmp_path), precision='float32')
    assert checkpoint.read_checkpoint(tmp_path)[0]['step'] == 3
    assert train(short(tmp_path), precision='float32', resume=True)['step'] == 8


def test_training_in_a_thread_leaves_signals_alone(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=train, args=(short(tmp_path, steps=1),))
    thread.start()
    thread.join()
    assert (tmp_path / 'checkpoint.npz').is_file()
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_round_of_less_than_a_batch_is_an_error(tmp_path):
    config = short(tmp_path)
    config = replace(config, optimiser=replace(config.optimiser, batch_size=100))
    with pytest.raises(ValueError, match='less than a batch'):
        train(config)


# --- the loss in the loop ------------------------------------------------------------------------


def test_the_parts_of_the_loss_are_written_down(tmp_path):
    loss = LossConfig(pixel='l1', star_weight=0.5, beta=0.2, gamma=0.1, delta=0.05)
    config = replace(short(tmp_path, steps=2, log_every=1), loss=loss)
    train(config, precision='float32')
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert {'loss', 'pixel', 'ssim', 'brightness', 'tv', 'calibration', 'mse'} <= set(log[0])
    parts = log[0]
    assert parts['loss'] == pytest.approx(
        0.8 * parts['pixel'] + 0.2 * parts['ssim'] + 0.1 * parts['brightness']
        + 0.05 * parts['tv'] + 0.05 * parts['calibration'],
        rel=1e-5,
    )  # fmt: skip


def test_pictures_show_noisy_predicted_clean_and_residual(tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    train(short(tmp_path, steps=4), precision='float32')
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={'images': 0}).Reload()
    (tag,) = events.Tags()['images']
    assert tag == 'noisy, predicted, clean, residual'
    image = events.Images(tag)[0]
    assert (image.width, image.height % 64) == (4 * 64, 0)


@pytest.mark.parametrize('preset', ['default', 'colour', 'fast', 'fast_colour', 'paper', 'smoke'])
def test_presets_are_read(preset):
    config = load_config(preset)
    assert config.data.tile_size % config.model.stride == 0
    if config.start:  # weights that are shipped and fit
        start_from(ResUNet(config.model), config.start)
    if preset == 'paper':  # what the paper gives: sections 2.1, 2.2, 2.5, 2.6
        assert (config.data.tile_size, config.optimiser.batch_size) == (256, 8)
        assert (config.optimiser.learning_rate, config.optimiser.weight_decay) == (1e-4, 0)
        assert (config.model.planes, config.loss.pixel) == (3, 'l1')
        assert min(config.loss.beta, config.loss.gamma, config.loss.delta) > 0
        assert config.loss.star_weight < 1
        assert min(config.noise.blotches, config.noise.banding, config.noise.low_noise) > 0


def test_the_paper_preset_trains(tmp_path):
    config = load_config('paper')
    config = replace(
        config,
        model=replace(config.model, widths=(8, 8), blocks=(1, 1)),
        data=replace(config.data, scenes=2, scene_size=256, round_scenes=2, validation_scenes=1),
        optimiser=replace(config.optimiser, steps=1, batch_size=2),
    )
    assert train(config, output=tmp_path)['step'] == 1


# --- where weights start -------------------------------------------------------------------------


def output_of(network, features, condition):
    with torch.inference_mode():
        return network(features, condition)


def trained(**config):
    """Give a network whose blocks do something."""
    torch.manual_seed(4)
    network = ResUNet(ModelConfig(**config))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    return network


def test_wider_networks_start_where_narrow_ones_are():
    narrow = trained(widths=(8, 16), blocks=(1, 1))
    wide = ResUNet(ModelConfig(widths=(12, 20), blocks=(1, 1)))
    with torch.no_grad():
        transfer(wide, narrow.state_dict())
    # what the new channels say is not listened to
    features, condition = torch.randn(2, 6, 32, 32), torch.randn(2, 6)
    for ours, theirs in zip(
        output_of(wide, features, condition), output_of(narrow, features, condition), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('widths', [(8, 16, 24), (8, 16, 24, 32)])
def test_deeper_networks_start_where_shallow_ones_are(widths):
    shallow = trained(widths=(8, 16), blocks=(1, 2))
    deep = ResUNet(ModelConfig(widths=widths, blocks=(1, 2, *(1 for _ in widths[2:]))))
    with torch.no_grad():
        transfer(deep, shallow.state_dict())
        features, condition = torch.randn(2, 6, 32, 32), torch.randn(2, 6)
        expected, found = (network(features, condition) for network in (shallow, deep))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    # and the new levels learn from the first step on
    deep(features, condition)[0].square().sum().backward()
    assert float(deep.fuse[1].weight.grad[:, : widths[1]].abs().max()) > 0


def test_colour_starts_with_mono_on_the_mean_of_the_planes():
    mono = trained(widths=(8, 16), blocks=(1, 1))
    colour = ResUNet(ModelConfig(planes=3, widths=(8, 16), blocks=(1, 1)))
    with torch.no_grad():
        transfer(colour, mono.state_dict())
    features, condition = torch.randn(2, 18, 32, 32), torch.randn(2, 18)
    r, log_s = output_of(colour, features, condition)
    mean = features.reshape(2, 3, 6, 32, 32).mean(dim=1)
    expected, _ = output_of(mono, mean, condition.reshape(2, 3, 6).mean(dim=1))
    torch.testing.assert_close(r, expected.expand(-1, 3, -1, -1), atol=1e-4, rtol=1e-4)
    assert not log_s.any()


def test_weights_that_do_not_correspond_are_refused():
    mono = trained(widths=(8, 16), blocks=(1, 1)).state_dict()
    colour = trained(planes=3, widths=(8, 16), blocks=(1, 1)).state_dict()
    with pytest.raises(ValueError, match='wider than'):
        transfer(ResUNet(ModelConfig(widths=(8, 8), blocks=(1, 1))), mono)
    with pytest.raises(ValueError, match='other levels or blocks'):
        transfer(ResUNet(ModelConfig(widths=(8, 16), blocks=(1, 2))), mono)
    with pytest.raises(ValueError, match='3 planes do not start'):
        transfer(ResUNet(ModelConfig(widths=(8, 16), blocks=(1, 1))), colour)


def test_fine_tuning_starts_from_weights_and_from_checkpoints(tmp_path):
    train(short(tmp_path / 'a', steps=2))
    export_weights(tmp_path / 'a', tmp_path / 'a.safetensors', version='1')
    average = checkpoint.read_checkpoint(tmp_path / 'a')[1]['average']
    for source in (tmp_path / 'a', tmp_path / 'a.safetensors'):
        network = ResUNet(short(tmp_path).model)
        start_from(network, str(source))
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, average[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match='no model'):
        train(replace(short(tmp_path / 'b'), start='nothing'))


# --- packs ---------------------------------------------------------------------------------------


def scene_with_everything(rng):
    shape = (3, 64, 96)
    image = rng.normal(0, 3, shape).astype(np.float32)
    image[:, 20, 30] = [1e5, -40, 700]
    noisy = image + rng.normal(0, 1, shape).astype(np.float32)
    stars = rng.integers(0, 256, (3, 64, 96)).astype(np.uint8)
    return Scene('m31', image, 0.7, noisy, rng.random(shape) > 0.1, stars)


def test_packs_hold_everything_that_a_training_needs(tmp_path, rng):
    scene = scene_with_everything(rng)
    plain = Scene('stars-1-2', np.zeros((1, 64, 64), np.float32))
    library = Library([plain, scene], [plain], {'simulated': 1})
    counts = write_pack(tmp_path / 'a.pack', library)
    assert (counts['training'], counts['validation']) == (2, 1)
    assert counts['bytes'] == (tmp_path / 'a.pack').stat().st_size
    again = read_pack(tmp_path / 'a.pack')
    assert again.sources == library.sources
    assert [s.name for s in again.scenes] == ['m31', 'stars-1-2']  # real ones first
    found = again.scenes[0]
    assert found.brightest == 0.7
    assert_array_equal(found.valid, scene.valid)
    assert_array_equal(found.stars, scene.stars)
    for ours, theirs in ((found.image, scene.image), (found.noisy, scene.noisy)):
        # half a step of 0.04 sigma at the sky, which grows as photon noise does
        bound = 0.5 * 0.04 * np.sqrt(1 + np.abs(theirs) / 10) * 1.01 + 1e-5 * np.abs(theirs)
        assert (np.abs(ours - theirs) <= bound).all()
    assert again.scenes[1].stars is None
    assert again.scenes[1].noisy is None


def test_simulated_scenes_are_drawn_again_from_a_pack(tmp_path):
    config = replace(short(tmp_path), loss=LossConfig(gamma=0.1))
    library = make_library(config)
    write_pack(tmp_path / 'a.pack', library)
    again = read_pack(tmp_path / 'a.pack')
    for part in ('scenes', 'held_out'):
        for ours, theirs in zip(getattr(again, part), getattr(library, part), strict=True):
            assert (ours.name, ours.brightest) == (theirs.name, theirs.brightest)
            assert_array_equal(ours.image, theirs.image)
            assert_array_equal(ours.stars, theirs.stars)


def test_packs_stay_below_their_size(tmp_path, rng):
    scenes = [
        Scene(f'stars-{n}', rng.normal(0, 1, (1, 64, 64)).astype(np.float32)) for n in range(20)
    ]
    library = Library(scenes[1:], scenes[:1], {})
    counts = write_pack(tmp_path / 'a.pack', library, largest=40_000)
    assert counts['bytes'] <= 40_000
    assert 1 <= counts['training'] < 19
    with pytest.raises(ValueError, match='a pack may have'):
        write_pack(tmp_path / 'b.pack', library, largest=3000)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pack']


def test_damaged_packs_are_named(tmp_path):
    library = Library([Scene('a', np.zeros((1, 64, 64), np.float32))] * 2, [], {})
    path = tmp_path / 'a.pack'
    write_pack(path, library)
    content = path.read_bytes()
    for damaged in (content[:-30], content[:60] + b'xyz' + content[63:], b'', b'text'):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match='no pack, or a damaged one'):
            read_pack(path)
    with pytest.raises(FileNotFoundError, match='--pack'):
        read_pack(tmp_path / 'nothing.pack')


BARE = (
    'import sys\n'
    "for name in ('astropy', 'photutils', 'galsim', 'ccdproc', 'safetensors', 'PIL',\n"
    "             'tensorboard', 'matplotlib'):\n"
    '    sys.modules[name] = None\n'
    'from astrodenoise.training.__main__ import main\n'
    'raise SystemExit(main(sys.argv[1:]))'
)


@pytest.mark.parametrize('packed', [False, True])
def test_training_runs_where_only_torch_numpy_and_scipy_are(tmp_path, packed):
    path, options = tmp_path / 'config.toml', []
    text = (
        '[model]\nwidths = [8, 8]\nblocks = [1, 1]\n'
        '[data]\nscenes = 2\nscene_size = 128\ntile_size = 64\nround_scenes = 2\n'
        'validation_scenes = 1\n[optimiser]\nsteps = 2\nbatch_size = 4\n'
    )
    if packed:  # star masks come with the pack
        text += '[loss]\nstar_weight = 0.5\ngamma = 0.1\ndelta = 0.05\n'
    path.write_text(text)
    if packed:
        write_pack(tmp_path / 'a.pack', make_library(load_config(path)))
        options = ['--data', str(tmp_path / 'a.pack')]
    run_python(BARE, str(path), '--output', str(tmp_path / 'run'), *options)
    state, _ = checkpoint.read_checkpoint(tmp_path / 'run')
    assert state['step'] == 2
    run_python(BARE, str(path), '--output', str(tmp_path / 'run'), '--resume', *options)


def test_star_masks_without_photutils_and_without_a_pack_are_an_error(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'photutils', None)
    with pytest.raises(ValueError, match='--pack'):
        train(replace(short(tmp_path), loss=LossConfig(gamma=0.1)))


# --- several processes ---------------------------------------------------------------------------

TEAM = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from astrodenoise.training import trainer
from astrodenoise.training.config import load_config
from astrodenoise.training.library import make_library
from astrodenoise.training.losses import LossConfig
from astrodenoise.training.team import join_team
from astrodenoise.training.tiles import tile_rounds

torch.set_num_threads(1)
folder = Path(sys.argv[1])
config = load_config('smoke')
config = replace(
    config, data=replace(config.data, scenes=3, scene_size=128, round_scenes=4),
    loss=LossConfig(pixel='l1', star_weight=0.5, beta=0.2, gamma=0.1, delta=0.05),
    optimiser=replace(config.optimiser, steps=3, batch_size=8, validate_every=2),
)
tiles = next(tile_rounds(make_library(config).scenes, 5, round_scenes=4, tile_size=64))


def work(team):  # what the network holds of the team goes before the team does
    weights = trainer._Weights(config, team, 'float32')
    size = 8 // team.size
    weights.gradient(tiles.select(range(team.rank * size, (team.rank + 1) * size)))
    if team.rank == 0:
        gradient = {k: p.grad for k, p in weights.network.named_parameters()}
        torch.save(gradient, folder / f'gradient{team.size}.pt')


with join_team('cpu') as team:
    work(team)
"""


def torchrun(n, tmp_path, *arguments):
    """Run a script in processes that know of each other."""
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(n),
        *map(str, arguments),
    ]  # fmt: skip
    env = os.environ | {
        'OMP_NUM_THREADS': '1',
        'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        'TORCH_CPP_LOG_LEVEL': 'ERROR',
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_have_the_gradient_of_one(tmp_path):
    script = tmp_path / 'team.py'
    script.write_text(TEAM)
    for n in (1, 2):
        torchrun(n, tmp_path, script, tmp_path)
    one, two = (torch.load(tmp_path / f'gradient{n}.pt') for n in (1, 2))
    size = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        assert_allclose(two[name], gradient, rtol=1e-5, atol=1e-5 * size)


def test_processes_train_together_and_resume(tmp_path):
    config = tmp_path / 'config.toml'
    text = (
        '[model]\nwidths = [8, 8]\nblocks = [1, 1]\n'
        '[data]\nscenes = 2\nscene_size = 128\ntile_size = 64\nround_scenes = 2\n'
        'validation_scenes = 1\n[optimiser]\nbatch_size = 4\nsteps = '
    )
    for steps, options in ((2, ()), (4, ('--resume',))):
        config.write_text(text + str(steps))
        torchrun(2, tmp_path, '-m', 'astrodenoise.training', config, '--output', tmp_path, *options)
    state, _ = checkpoint.read_checkpoint(tmp_path)
    assert state['step'] == 4
    assert [place['round'] % 2 for place in state['places']] == [0, 1]
    log = (tmp_path / 'log.jsonl').read_text().splitlines()
    assert len(log) == 2  # one process writes it: the last step of each part is validated
