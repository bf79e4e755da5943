# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A network on a device: batches, and devices that give out."""

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from astrodenoise import denoise, engine, read_provenance
from astrodenoise.devices import Device
from astrodenoise.engine import Engine, load_engine
from astrodenoise.exceptions import DeviceWarning
from astrodenoise.features import N_CONDITION, N_FEATURES
from astrodenoise.training.scenes import draw_scene
from astrodenoise.weights import load_weights

SIGMA = 5.0  # adu


class Gpu(Device):
    """A GPU made of the processor, with little memory and a short life."""

    def __init__(self, *, n_tiles=99, side=9999, lost_at=None, error=None, precision='float32'):
        super().__init__('cuda:0', precision)
        self.n_tiles, self.side = n_tiles, side  # what its memory holds
        self.lost_at, self.error = lost_at, error  # at which batch it breaks, how
        self.sizes, self.n_freed = [], 0
        self.network_fits, self.overflows = True, False

    def load(self, network):
        if not self.network_fits:
            raise self.out_of_memory()
        return Device('cpu', 'float32').load(network)

    def run(self, network, features, condition):
        self.sizes.append((len(features), features.shape[-1]))
        if self.lost_at is not None and len(self.sizes) > self.lost_at:
            raise self.error or torch.AcceleratorError('CUDA error: unspecified launch failure')
        if len(features) > self.n_tiles or features.shape[-1] > self.side:
            raise self.out_of_memory()
        result = Device('cpu', 'float32').run(network, features, condition)
        if self.overflows and self.precision == 'float16':
            result[0, 0, 0, 0] = np.inf
        return result

    def free(self):
        self.n_freed += 1

    def at(self, precision):
        other = super().at(precision)
        other.sizes = self.sizes
        return other

    @staticmethod
    def out_of_memory():
        return torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')


@pytest.fixture(scope='module')
def weights():
    """Give the weights of the smallest network."""
    return load_weights('fast')


@pytest.fixture(scope='module')
def batch():
    """Give five tiles."""
    return np.random.default_rng(0).normal(size=(5, N_FEATURES, 64, 64)).astype(np.float32)


@pytest.fixture(scope='module')
def condition():
    """Give the description of slightly correlated noise."""
    return np.full(N_CONDITION, 0.1, np.float32)


@pytest.fixture(scope='module')
def expected(weights, batch, condition):
    """Give what the processor makes of the tiles in float32."""
    return Engine(weights, Device('cpu', 'float32')).predictor(condition)(batch)


@pytest.fixture(scope='module')
def frame():
    """Give a frame of four tiles of 256 px, in adu."""
    rng = np.random.default_rng(4)
    scene = draw_scene(rng, (300, 280), 'galaxy').clip(0, 300)
    return (100 + SIGMA * (scene + rng.normal(size=scene.shape))).astype(np.float32)


@pytest.fixture(scope='module')
def on_processor(frame):
    """Give that frame, denoised on the processor in float32."""
    return denoise(frame, model='fast', tile_size=256, device='cpu', precision='float32')


@pytest.fixture
def plug_in(monkeypatch):
    """Give a function that makes 'cuda' of the machine a device."""
    monkeypatch.setattr(engine, '_ENGINES', {})
    choose = engine.choose_precision

    def plug(gpu):
        def device(name, precision):
            return gpu if name == 'cuda' else Device(name, precision)

        def precision(precision, name):
            return gpu.precision if name == 'cuda' else choose(precision, name)

        monkeypatch.setattr(engine, 'choose_device', lambda name: 'cuda')
        monkeypatch.setattr(engine, 'choose_precision', precision)
        monkeypatch.setattr(engine, 'Device', device)
        return gpu

    return plug


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


# --- a sound device ------------------------------------------------------------------------------


@pytest.mark.parametrize('side', [64, 128])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_bits_do_not_depend_on_the_batch(condition, rng, precision, side):
    predict = load_engine('mono', 'cpu', precision).predictor(condition)
    tiles = rng.normal(size=(4, N_FEATURES, side, side)).astype(np.float32)
    together = predict(tiles)
    assert together.shape == (4, 2, side, side)
    assert together.dtype == np.float32
    assert_array_equal(np.concatenate([predict(tiles[:1]), predict(tiles[1:])]), together)
    assert_array_equal(np.concatenate([predict(tiles[:2]), predict(tiles[2:])]), together)


def test_a_second_call_reads_no_file(monkeypatch):
    first = load_engine('mono', 'cpu', 'float32')
    monkeypatch.setattr('astrodenoise.engine.load_weights', None)
    assert load_engine('mono', 'cpu', 'float32') is first


def test_few_engines_are_kept(monkeypatch):
    monkeypatch.setattr(engine, '_ENGINES', {})
    monkeypatch.setattr(engine, 'MAX_ENGINES', 2)
    first, second = (load_engine('fast', 'cpu', name) for name in ('float32', 'bfloat16'))
    load_engine('mono', 'cpu', 'float32')
    assert load_engine('fast', 'cpu', 'bfloat16') is second
    assert load_engine('fast', 'cpu', 'float32') is not first


def test_an_engine_says_where_it_computes(weights):
    sound = Engine(weights, Gpu(precision='float16'))
    assert (sound.device, sound.precision, sound.part_size) == ('cuda:0', 'float16', None)
    assert not sound.short_of_memory


# --- memory runs out -----------------------------------------------------------------------------


def test_batches_are_halved_where_memory_runs_out(weights, batch, condition, expected, caplog):
    caplog.set_level(logging.INFO)
    gpu = Gpu(n_tiles=2)
    predict = Engine(weights, gpu).predictor(condition)
    assert_array_equal(predict(batch), expected)
    assert caplog.text.count('ran out') == 2  # 5 tiles, 3, 2
    assert gpu.n_freed == 2
    gpu.sizes.clear()
    assert_array_equal(predict(batch), expected)
    assert [n for n, _ in gpu.sizes] == [2, 2, 1]  # it does not try again


def test_a_tile_that_does_not_fit_is_computed_in_parts(frame, on_processor, plug_in):
    gpu = plug_in(Gpu(side=200))
    with pytest.warns(DeviceWarning, match='parts of 128 px: pass tile_size=128') as caught:
        clean = denoise(frame, model='fast', tile_size=256)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert gpu.sizes[-1] == (1, 128)
    assert rms(clean - on_processor) < 0.02 * SIGMA
    assert load_engine('fast').device == 'cuda:0'


def test_parts_fit_the_stride(weights, condition, rng):
    tile = rng.normal(size=(1, N_FEATURES, 168, 168)).astype(np.float32)
    small = Engine(weights, Gpu(side=167))
    with pytest.warns(DeviceWarning, match='parts of 80 px'):
        small.predictor(condition)(tile)
    assert small.part_size == 80


def test_parts_keep_their_least_size(weights, batch, condition, expected):
    gpu = Gpu(side=63)
    small = Engine(weights, gpu)
    with pytest.warns(DeviceWarning, match='memory of cuda:0 ran out: the processor'):
        result = small.predictor(condition)(batch)
    assert {side for _, side in gpu.sizes} == {64}
    assert_array_equal(result, expected)
    assert (small.device, small.precision) == ('cpu', 'float32')


@pytest.mark.parametrize('side', [0, 100])
def test_a_frame_is_complete_whatever_the_memory(frame, on_processor, plug_in, side):
    plug_in(Gpu(side=side, n_tiles=1))
    with pytest.warns(DeviceWarning) as caught:
        clean = denoise(np.stack([frame, frame]), model='fast', tile_size=256)
    assert len(caught) == 1  # of two planes
    assert rms(clean - on_processor) < 0.02 * SIGMA


def test_the_next_frame_tries_again(frame, on_processor, plug_in):
    gpu = plug_in(Gpu(side=0))
    with pytest.warns(DeviceWarning):
        first = denoise(frame, model='fast', tile_size=256)
    assert_array_equal(first, on_processor)
    gpu.side = 9999  # what filled the memory has ended
    gpu.sizes.clear()
    assert_array_equal(denoise(frame, model='fast', tile_size=256), on_processor)
    assert gpu.sizes
    assert load_engine('fast').device == 'cuda:0'


def test_memory_that_holds_no_network(frame, on_processor, plug_in):
    gpu = plug_in(Gpu())
    gpu.network_fits = False
    with pytest.warns(DeviceWarning, match=r'cuda:0 cannot be used \(CUDA out of memory') as caught:
        clean = denoise(frame, model='fast', tile_size=256)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_array_equal(clean, on_processor)


def test_memory_of_the_processor_that_runs_out_is_an_error(weights, batch, condition):
    sizes = []

    class Full(Device):
        def run(self, network, features, condition):
            sizes.append(len(features))
            msg = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            raise RuntimeError(msg)

    predict = Engine(weights, Full('cpu', 'float32')).predictor(condition)
    with pytest.raises(MemoryError, match=r'one tile of 64 px .* pass a smaller tile_size'):
        predict(batch)
    assert sizes == [5, 3, 2, 1]


# --- the device fails ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    'error', [None, RuntimeError('CUDA error: an illegal memory access was encountered\nCompile')]
)
def test_a_lost_device_ends_in_a_run_on_the_processor(frame, on_processor, plug_in, error):
    gpu = plug_in(Gpu(lost_at=2, error=error))
    with pytest.warns(DeviceWarning, match='cuda:0 failed .* the processor computes') as caught:
        clean = denoise(frame, model='fast', tile_size=256, batch_size=1)
    assert len(caught) == 1
    assert '\n' not in str(caught[0].message)
    assert_array_equal(clean, on_processor)
    assert gpu.n_freed == 0  # it is not touched again
    # the next frame does not ask it either
    n_calls = len(gpu.sizes)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert_array_equal(denoise(frame, model='fast', tile_size=256), on_processor)
    assert len(gpu.sizes) == n_calls


def test_the_record_says_where_it_ended(frame, plug_in):
    from astropy.nddata import CCDData

    plug_in(Gpu(lost_at=1, precision='bfloat16'))
    with pytest.warns(DeviceWarning):
        clean = denoise(CCDData(frame, unit='adu'), model='fast', tile_size=256, batch_size=1)
    record = read_provenance(clean.meta)
    assert record['device'] == 'cpu'
    assert record['precision'] == engine.choose_precision('auto', 'cpu')


def test_float16_that_overflows_is_left_for_float32(weights, batch, condition, expected):
    gpu = Gpu(precision='float16')
    gpu.overflows = True
    flooded = Engine(weights, gpu)
    assert_array_equal(flooded.predictor(condition)(batch), expected)
    assert (flooded.device, flooded.precision) == ('cuda:0', 'float32')


def test_a_device_that_computes_nonsense_is_left(weights, batch, condition, expected):
    class Broken(Gpu):
        def run(self, network, features, condition):
            return super().run(network, features, condition) * np.float32(np.nan)

    with pytest.warns(DeviceWarning, match='no finite numbers'):
        result = Engine(weights, Broken()).predictor(condition)(batch)
    assert_array_equal(result, expected)


def test_what_happened_later_goes_to_the_log(weights, condition, rng, caplog):
    tiles = rng.normal(size=(1, N_FEATURES, 128, 128)).astype(np.float32)
    gpu = Gpu(side=64)
    predict = Engine(weights, gpu).predictor(condition)
    with pytest.warns(DeviceWarning, match='parts of 64 px'):
        predict(tiles)
    gpu.lost_at = 0
    predict(tiles)
    assert 'the processor computes' in caplog.text


def test_a_mistake_is_raised(weights, batch, condition):
    sound = Engine(weights, Gpu())
    with pytest.raises(RuntimeError, match='channels'):
        sound.predictor(condition)(batch[:, :3])
    assert sound.device == 'cuda:0'


def test_one_thread_alone_changes_the_plan(weights, batch, condition, expected, monkeypatch):
    both, networks = threading.Barrier(2), []
    new_network = Engine._new_network

    class Dying(Gpu):
        def run(self, network, features, condition):
            both.wait()
            return super().run(network, features, condition)

    def count(self):
        networks.append(new_network(self))
        return networks[-1]

    monkeypatch.setattr(Engine, '_new_network', count)
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(2) as pool:
        warnings.simplefilter('always')
        predict = Engine(weights, Dying(lost_at=0)).predictor(condition)
        for result in pool.map(predict, [batch, batch]):
            assert_array_equal(result, expected)
    assert len(networks) == 2  # the device's and the processor's
    assert len(caught) == 1


@pytest.mark.parametrize('trouble', [{'n_tiles': 1}, {'lost_at': 3}])
def test_threads_share_an_engine(weights, batch, condition, expected, trouble):
    shared = Engine(weights, Gpu(**trouble))
    start = threading.Barrier(4)

    def work(_):
        predict = shared.predictor(condition)
        start.wait()
        return [predict(batch) for _ in range(3)]

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter('always')
        results = [result for each in pool.map(work, range(4)) for result in each]
    assert len(results) == 12
    for result in results:
        assert_array_equal(result, expected)
    assert [one.category for one in caught] == [DeviceWarning] * ('lost_at' in trouble)
