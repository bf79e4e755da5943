# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""A network on a device: precision, batches, memory."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.engine import Engine, choose_device, choose_precision, load_engine
from astrodenoise.features import N_CONDITION, N_FEATURES
from astrodenoise.weights import load_weights


@pytest.fixture(scope='module')
def batch():
    """Give five tiles."""
    return np.random.default_rng(0).normal(size=(5, N_FEATURES, 64, 64)).astype(np.float32)


@pytest.fixture(scope='module')
def condition():
    """Give the description of slightly correlated noise."""
    return np.full(N_CONDITION, 0.1, np.float32)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_bits_do_not_depend_on_the_batch(batch, condition, precision):
    predict = load_engine('mono', 'cpu', precision).predictor(condition)
    together = predict(batch)
    assert together.shape == (5, 2, 64, 64)
    assert together.dtype == np.float32
    assert_array_equal(np.concatenate([predict(batch[:2]), predict(batch[2:])]), together)


def test_precisions_agree(batch, condition):
    a, b = (
        load_engine('mono', 'cpu', precision).predictor(condition)(batch)[:, 0]
        for precision in ('float32', 'bfloat16')
    )
    assert np.sqrt(np.mean((a - b) ** 2)) < 0.02 * max(1, a.std())


def test_a_second_call_reads_no_file(monkeypatch):
    first = load_engine('mono', 'cpu', 'float32')
    monkeypatch.setattr('astrodenoise.engine.load_weights', None)
    assert load_engine('mono', 'cpu', 'float32') is first


def test_batches_are_halved_where_memory_runs_out(batch, condition, monkeypatch, caplog):
    engine = Engine(load_weights('mono'), 'cpu', 'float32')
    expected = engine.predictor(condition)(batch)
    network, sizes = engine.network, []

    class Small(torch.nn.Module):
        def forward(self, features, description):
            sizes.append(len(features))
            if len(features) > 2:
                raise torch.OutOfMemoryError
            return network(features, description)

    engine.network = Small()
    predict = engine.predictor(condition)
    assert_allclose(predict(batch), expected, atol=1e-6)
    assert max(sizes[-2:]) <= 2
    assert caplog.text.count('memory ran out') == 2
    sizes.clear()
    predict(batch)
    assert max(sizes) <= 2  # it does not try again


def test_memory_that_runs_out_for_one_tile_is_an_error(batch, condition):
    engine = Engine(load_weights('mono'), 'cpu', 'float32')

    class Full(torch.nn.Module):
        def forward(self, features, description):
            raise torch.OutOfMemoryError

    engine.network = Full()
    with pytest.raises(torch.OutOfMemoryError):
        engine.predictor(condition)(batch)


def test_devices_and_precisions():
    assert choose_device('cpu') == 'cpu'
    assert choose_device('auto') in ('cpu', 'cuda', 'mps')
    assert choose_precision('float32', 'cpu') == 'float32'
    assert choose_precision('auto', 'mps') == 'float32'
    with pytest.raises(ValueError, match='device must be one of'):
        choose_device('abacus')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='not there'):
            choose_device('cuda:0')
