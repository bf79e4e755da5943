# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Tests of the tiles: placing, cutting, blending, and the check that would see them go wrong."""

import itertools
import math
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise import tiling
from astrodenoise.tiling import blend_tiles, fitting_tile, n_tiles, tile_starts, window
from helpers import examples


def noise_frame(shape, planes=2):
    """Make a frame of unit noise, bright in its corner pixels, where tiles are thinnest."""
    frame = np.random.default_rng(20).normal(size=(planes, *shape)).astype(np.float32)
    frame[:, ::max(1, shape[0] - 1), ::max(1, shape[1] - 1)] += 50
    return frame


def cutter(frame):
    """Make the ``cut`` of a frame in memory."""
    return lambda rows, cols: frame[:, rows[:, np.newaxis], cols]


def first_plane(batch):
    """Predict the first input plane."""
    return batch[:, :1]


def ramped(batch):
    """Predict two planes that depend on the place in the tile, so that the weights matter."""
    ramp = np.linspace(-1, 2, batch.shape[-1], dtype=np.float32)
    return np.stack([batch[:, 0] * ramp + ramp[:, np.newaxis], np.sin(batch[:, 1]) - ramp], axis=1)


def assert_gives_back(shape, **tiles):
    """Partition of unity: the predicted first plane comes back to 1e-6 of its maximum."""
    frame = noise_frame(shape)
    blended = blend_tiles(shape, cutter(frame), first_plane, n_out=1, **tiles)
    assert blended.shape == (1, *shape)
    assert blended.dtype == np.float32
    assert_allclose(blended[0], frame[0], rtol=0, atol=1e-6 * np.abs(frame[0]).max())


class TestPartitionOfUnity:
    SHAPES = [(1, 1), (1, 300), (2, 3), (33, 32), (64, 64), (65, 63), (100, 257), (256, 256),
              (191, 193), (448, 320), (517, 389), (1000, 700)]

    @pytest.mark.parametrize('shape', SHAPES)
    @pytest.mark.parametrize('overlap', [0, 0.1, 0.25, 0.3, 0.5, 0.75])
    def test_plane_comes_back(self, shape, overlap):
        """Every shape and overlap gives the plane back, whatever tiles meet in a pixel."""
        tile_size = 64 if max(shape) < 600 else 128
        assert_gives_back(shape, tile_size=tile_size, overlap=overlap, batch_size=4)

    @pytest.mark.parametrize('shape', [(1, 1), (300, 200), (1000, 700)])
    def test_plane_comes_back_with_the_defaults(self, shape):
        """256 px tiles at 0.25, also where the frame is much smaller than a tile."""
        assert_gives_back(shape)

    @pytest.mark.parametrize('shape', SHAPES)
    def test_naive_tiles_keep_every_bit(self, shape):
        """Without blending nothing is weighted: the plane comes back bit for bit."""
        frame = noise_frame(shape)
        blended = blend_tiles(shape, cutter(frame), first_plane, n_out=1, tile_size=64,
                              overlap=0, blend='none')
        assert_array_equal(blended[0], frame[0])

    @examples(80)
    @given(shape=st.tuples(st.integers(1, 260), st.integers(1, 260)),
           overlap=st.floats(0, 0.75), tile_size=st.sampled_from([64, 65, 96, 131]),
           batch_size=st.integers(1, 5))
    def test_plane_comes_back_for_any_grid(self, shape, overlap, tile_size, batch_size):
        """The property itself: no shape, overlap, odd tile or batch breaks it."""
        assert_gives_back(shape, overlap=overlap, tile_size=tile_size, batch_size=batch_size)


def add_with_fault(monkeypatch, fault):
    """Have the tiler add its fifth tile with ``fault(add, arguments)``, all others rightly."""
    add, count = tiling._add_tile, itertools.count(1)

    def add_tile(*arguments):
        if next(count) == 5:
            fault(add, arguments)
        else:
            add(*arguments)

    monkeypatch.setattr(tiling, '_add_tile', add_tile)
    return count


class TestPlantedFaults:
    """The check of `TestPartitionOfUnity` is worth something: it sees what could go wrong."""

    GRID = {'shape': (200, 180), 'tile_size': 64, 'overlap': 0.25}

    def assert_is_caught(self):
        with pytest.raises(AssertionError, match='Not equal to tolerance'):
            assert_gives_back(**self.GRID)

    @pytest.mark.parametrize('fault', [
        pytest.param(lambda add, a: add(*a[:3], a[3] + 1, a[4]), id='one pixel down'),
        pytest.param(lambda add, a: add(*a[:4], a[4] - 1), id='one pixel left'),
        pytest.param(lambda add, a: add(*a[:2], 1.0001 * a[2], *a[3:]), id='weight wrong by 1e-4'),
        pytest.param(lambda add, a: add(a[0], a[1].swapaxes(1, 2), *a[2:]), id='transposed'),
        pytest.param(lambda add, a: (add(*a), add(*a)), id='added twice'),
        pytest.param(lambda add, a: None, id='skipped'),
    ])
    def test_faulty_tile(self, monkeypatch, fault):
        """One tile that is shifted, weighted wrongly, turned, doubled or left out is caught."""
        count = add_with_fault(monkeypatch, fault)
        self.assert_is_caught()
        assert next(count) > 5  # the fault was planted

    def test_sound_tile(self, monkeypatch):
        """The planting itself changes nothing: without a fault the check passes."""
        add_with_fault(monkeypatch, lambda add, arguments: add(*arguments))
        assert_gives_back(**self.GRID)

    def test_wrong_sum_of_weights(self, monkeypatch):
        """A weight map that is one pixel off against the tiles is caught."""
        lay_tiles = tiling._lay_tiles

        def shifted(n, weights, overlap):
            firsts, total = lay_tiles(n, weights, overlap)
            return firsts, np.roll(total, 1)

        monkeypatch.setattr(tiling, '_lay_tiles', shifted)
        self.assert_is_caught()

    def test_wrong_cut(self, monkeypatch):
        """Tiles that are cut one pixel off from where they are put are caught."""
        mirrored = tiling._mirrored
        monkeypatch.setattr(tiling, '_mirrored', lambda start, *rest: mirrored(start + 1, *rest))
        self.assert_is_caught()


class TestGrid:
    def test_the_papers_numbers(self):
        """256 px at 0.25: a step of 192, and 32 px of padding on either side at least."""
        starts, pad_before, padded_length = tile_starts(1000, 256, 0.25)
        assert_array_equal(starts, [0, 192, 384, 576, 768, 960])
        assert (pad_before, padded_length) == (32, 960 + 256)
        assert tile_starts(192 * 5, 256, 0.25)[2] == 192 * 5 + 64  # fits without a rest

    def test_overlap_is_rounded_to_pixels(self):
        """0.2 and 0.3 of 256 px are no whole pixels: the step is rounded."""
        assert tile_starts(1000, 256, 0.2)[0][1] == 205
        assert tile_starts(1000, 256, 0.3)[0][1] == 179

    @examples(300)
    @given(n=st.integers(1, 5000), tile_size=st.integers(64, 600), overlap=st.floats(0, 0.75))
    def test_every_tile_is_needed_and_enough(self, n, tile_size, overlap):
        """No tile lies outside the frame, none is missing, and the padding is on both sides."""
        starts, pad, padded_length = tile_starts(n, tile_size, overlap)
        step = round(tile_size * (1 - overlap))
        assert pad == (tile_size - step) // 2
        assert_array_equal(np.diff(starts), step)
        assert starts[0] == 0
        assert starts[-1] + tile_size == padded_length
        assert starts[0] + tile_size > pad  # the first and the last tile see the frame
        assert starts[-1] < pad + n
        assert padded_length >= n + 2 * pad
        assert len(starts) == 1 or padded_length - step < n + 2 * pad  # one tile less: too short

    @pytest.mark.parametrize(('shape', 'tile_size', 'overlap', 'count'), [
        ((1, 1), 256, 0.25, 1), ((192, 192), 256, 0.25, 1), ((193, 192), 256, 0.25, 2),
        ((4000, 6000), 256, 0.25, 21 * 32), ((128, 65), 64, 0, 4), ((128, 64), 64, 0.75, 8 * 4)])
    def test_n_tiles(self, shape, tile_size, overlap, count):
        """The number of tiles is the number that is cut."""
        assert n_tiles(shape, tile_size, overlap) == count

    @pytest.mark.parametrize('overlap', [0, 0.1, 0.25, 0.3, 0.5, 0.75])
    @given(shape=st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
    def test_fitting_tile(self, overlap, shape):
        """No more work than the paper's tiles, all tiles on one grid, the seams no narrower."""
        tile_size, share = fitting_tile(shape, overlap)
        common = share * tile_size
        work = n_tiles(shape, tile_size, share) * tile_size**2
        assert work <= n_tiles(shape, 256, common / 256) * 256**2
        assert tile_size % 32 == 0
        assert 256 <= tile_size <= 512
        assert 128 * overlap <= common < 128 * overlap + 32
        for n in shape:
            starts, pad, _ = tile_starts(n, tile_size, share)
            assert not ((starts - pad) % 16).any()

    def test_n_tiles_are_cut(self):
        """`blend_tiles` cuts as many tiles as `n_tiles` says."""
        cuts = []
        frame = noise_frame((150, 310))

        def cut(rows, cols):
            cuts.append((rows[0], cols[0]))
            return cutter(frame)(rows, cols)

        blend_tiles((150, 310), cut, first_plane, n_out=1, tile_size=64, overlap=0.3)
        assert len(cuts) == n_tiles((150, 310), 64, 0.3)


def cut_indices(shape, **tiles):
    """Collect the index arrays that ``cut`` is given, in order."""
    asked = []

    def cut(rows, cols):
        asked.append((rows, cols))
        return np.zeros((1, len(rows), len(cols)), dtype=np.float32)

    blend_tiles(shape, cut, first_plane, n_out=1, **tiles)
    return asked


def padded_indices(n, per_tile, tile_size, overlap):
    """Put the index arrays of an axis's tiles together to the padded axis."""
    starts, pad_before, padded_length = tile_starts(n, tile_size, overlap)
    indices = np.full(padded_length, -1)
    for start, of_tile in zip(starts, per_tile, strict=True):
        indices[start:start + tile_size] = of_tile
    return indices, pad_before


class TestPadding:
    @pytest.mark.parametrize('n', [1, 2, 5, 40, 64, 150, 333])
    @pytest.mark.parametrize('overlap', [0, 0.25, 0.6])
    def test_mirror_without_the_edge(self, n, overlap):
        """Padding is NumPy's "reflect": no edge twice, repeated, one pixel alone repeats."""
        columns = [cols for _, cols in cut_indices((1, n), tile_size=64, overlap=overlap)]
        indices, pad_before = padded_indices(n, columns, 64, overlap)
        after = len(indices) - pad_before - n
        assert_array_equal(indices, np.pad(np.arange(n), (pad_before, after), mode='reflect'))

    def test_rows_and_columns_are_indices_of_the_frame(self):
        """``cut`` gets integer arrays that index a frame of any two sides, rows first."""
        shape = (70, 410)
        for rows, cols in cut_indices(shape, tile_size=128, overlap=0.5):
            for indices, n in zip((rows, cols), shape, strict=True):
                assert np.issubdtype(indices.dtype, np.integer)
                assert indices.shape == (128,)
                assert 0 <= indices.min() <= indices.max() < n

    @pytest.mark.parametrize(('shape', 'tile_size', 'overlap'), [
        ((300, 500), 256, 0.25), ((200, 150), 64, 0.5), ((140, 190), 128, 0.25)])
    def test_the_rim_of_a_tile_does_not_reach_the_frame(self, shape, tile_size, overlap):
        """What a network does in the outer 3 % of its tile is below 7 % of any pixel.

        Without padding it would be all of the frame's outer pixels.  In an interior pixel at the
        rim of one tile the other tile has 97 % of the weight along an axis.
        """
        rim = round(0.03 * tile_size)
        prediction = np.ones((1, 1, tile_size, tile_size), dtype=np.float32)
        prediction[..., rim:-rim, rim:-rim] = 0
        share = blend_tiles(shape, cutter(noise_frame(shape)), lambda batch: prediction,
                            n_out=1, tile_size=tile_size, overlap=overlap, batch_size=1)
        assert 0 < share.max() < 0.07
        assert share[0, 0].max() < 0.07
        assert share[0, :, 0].max() < 0.07

    def test_least_weight_of_a_pixel(self):
        """At 0.25 the least weight is a tile's own, half the overlap in from its edge.

        That is 0.071 of the centre's along an axis and its square in the frame's very corner,
        30000 times a tile's corner; amid an overlap two tiles meet with about as much each.
        """
        weights = window(256)
        starts, pad, padded_length = tile_starts(1344, 256, 0.25)
        total = np.zeros(padded_length)
        for start in starts:
            total[start:start + 256] += weights
        within = total[pad:pad + 1344] / weights.max()
        assert within.min() == within[0] == pytest.approx(0.0714, abs=0.0002)
        assert within[pad:-pad].min() == pytest.approx(2 * within[0], rel=0.05)
        assert (within.min() * weights.max()) ** 2 > 30000 * weights[0] ** 2


class TestWindow:
    @pytest.mark.parametrize('tile_size', [64, 65, 256, 2048])
    def test_gaussian(self, tile_size):
        """Positive inside, symmetric, rising to the centre: a Gaussian minus what it is outside."""
        weights = window(tile_size)
        assert weights.shape == (tile_size,)
        assert weights.dtype == np.float32
        assert weights.min() > 0
        assert_array_equal(weights, weights[::-1])
        assert (np.diff(weights[:(tile_size + 1) // 2]) > 0).all()
        centre, sigma = (tile_size - 1) / 2, tile_size / 6
        for i in (0, tile_size // 3, tile_size // 2):
            expected = math.exp(-0.5 * ((i - centre) / sigma) ** 2) - math.exp(-4.5)
            assert weights[i] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize('tile_size', [64, 256, 2048])
    def test_no_step_at_the_edge(self, tile_size):
        """From nothing outside to the edge pixel is less than on to the next pixel."""
        weights = window(tile_size).astype(float)
        assert weights[0] < weights[1] - weights[0]
        # a full Gaussian would have 1.1 % of its peak left there
        assert weights[0] < 0.11 / tile_size * weights.max()

    def test_none(self):
        """The naive mode weighs every pixel alike."""
        assert_array_equal(window(96, 'none'), np.ones(96, dtype=np.float32))
        assert window(96, 'none').dtype == np.float32


@pytest.mark.parametrize('shape', [(384, 576), (448, 256), (576, 640)])
def test_equal_to_monai(shape):
    """MONAI's sliding window over the same padded frame, with our window, gives the same planes.

    MONAI shifts its last tile inwards, so the padded sides must be 192 k + 64.
    """
    torch = pytest.importorskip('torch')
    inferers = pytest.importorskip('monai.inferers')
    frame = noise_frame(shape)
    tiles = {'tile_size': 256, 'overlap': 0.25}
    asked = cut_indices(shape, **tiles)
    across = len(tile_starts(shape[1], **tiles)[0])
    rows, top = padded_indices(shape[0], [rows for rows, _ in asked[::across]], **tiles)
    cols, left = padded_indices(shape[1], [cols for _, cols in asked[:across]], **tiles)
    padded = cutter(frame)(rows, cols)
    assert [(n - 64) % 192 for n in padded.shape[1:]] == [0, 0]

    theirs = inferers.sliding_window_inference(
        torch.from_numpy(padded[np.newaxis]), (256, 256), 3,
        lambda batch: torch.from_numpy(ramped(batch.numpy())), overlap=0.25,
        roi_weight_map=torch.from_numpy(np.outer(window(256), window(256))))
    theirs = theirs.numpy()[0, :, top:top + shape[0], left:left + shape[1]]
    ours = blend_tiles(shape, cutter(frame), ramped, n_out=2, **tiles)
    assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    naive = blend_tiles(shape, cutter(frame), ramped, n_out=2, overlap=0, blend='none')
    assert np.abs(ours - naive).max() > 0.1  # the blend matters to this predictor


class TestBatches:
    SHAPE = (150, 140)  # 4 x 3 tiles of 64 px at 0.25

    def blended(self, **tiles):
        return blend_tiles(self.SHAPE, cutter(noise_frame(self.SHAPE)), ramped, n_out=2,
                           tile_size=64, **tiles)

    @pytest.mark.parametrize('overlap', [0.25, 0.75])
    def test_batch_size_changes_no_bit(self, overlap):
        """Batches of 1, 2, 3, 5, 12 and more tiles than there are: the same bits."""
        reference = self.blended(batch_size=1, overlap=overlap)
        for batch_size in (2, 3, 5, 12, 700):
            blended = self.blended(batch_size=batch_size, overlap=overlap)
            assert_array_equal(blended.view(np.int32), reference.view(np.int32))

    def test_row_major_order(self):
        """Tiles are cut from left to right and then down, in any batch size."""
        shape, grid = (150, 170), {'tile_size': 64, 'overlap': 0.5}
        for batch_size in (1, 3, 8):
            ids = []
            for rows, cols in cut_indices(shape, batch_size=batch_size, **grid):
                # the pixel at the padding's end is no mirrored one
                ids.append((rows[16], cols[16]))
            assert ids == sorted(ids)
            assert len(set(ids)) == len(ids) == n_tiles(shape, **grid)

    def test_sum_is_in_row_major_order(self):
        """The bits are those of a plain loop over the tiles, rows outermost, and of no other."""
        frame, weights = noise_frame(self.SHAPE), window(64)
        padded_shape = [tile_starts(n, 64, 0.75)[2] for n in self.SHAPE]
        padded = np.pad(frame, [(0, 0), *((24, padded - n - 24) for n, padded
                                          in zip(self.SHAPE, padded_shape, strict=True))],
                        mode='reflect')
        corners = list(itertools.product(*(range(0, n - 63, 16) for n in padded_shape)))

        def blended_in(order):
            total = np.zeros(padded.shape, dtype=np.float32)
            sums = [np.zeros(n) for n in padded_shape]
            for y, x in order:
                tile = (slice(None), slice(y, y + 64), slice(x, x + 64))
                total[tile] += ramped(padded[tile][np.newaxis])[0] * np.outer(weights, weights)
            for axis, summed in enumerate(sums):
                for start in sorted({corner[axis] for corner in order}):
                    summed[start:start + 64] += weights
            total /= np.outer(*sums)
            return total[:, 24:24 + self.SHAPE[0], 24:24 + self.SHAPE[1]]

        blended = self.blended(overlap=0.75)
        assert_array_equal(blended, blended_in(corners))
        assert (blended != blended_in(sorted(corners, key=lambda corner: corner[::-1]))).any()

    @pytest.mark.parametrize('batch_size', [1, 5, 12, 20])
    def test_sizes_of_batches(self, batch_size):
        """Only the last batch may be smaller, and no tile is predicted twice."""
        arrays = []

        def predict(batch):
            arrays.append(batch)
            return first_plane(batch)

        blend_tiles(self.SHAPE, cutter(noise_frame(self.SHAPE)), predict, n_out=1, tile_size=64,
                    batch_size=batch_size)
        sizes = [len(array) for array in arrays]
        assert sum(sizes) == n_tiles(self.SHAPE, 64, 0.25)
        assert all(size == min(batch_size, sum(sizes)) for size in sizes[:-1])
        assert 1 <= sizes[-1] <= batch_size
        assert {array.shape[1:] for array in arrays} == {(2, 64, 64)}

    def test_predict_may_work_in_place(self):
        """A predictor that writes into its batch spoils no later tile."""
        def predict(batch):
            result = ramped(batch)
            batch[:] = np.nan
            return result

        shape = self.SHAPE
        blended = blend_tiles(shape, cutter(noise_frame(shape)), predict, n_out=2, tile_size=64,
                              batch_size=5)
        assert_array_equal(blended, self.blended(batch_size=5))

    def test_double_predictions(self):
        """A predictor that answers in float64 still gives float32 planes."""
        blended = blend_tiles((80, 80), cutter(noise_frame((80, 80))),
                              lambda batch: first_plane(batch).astype(float), n_out=1,
                              tile_size=64)
        assert blended.dtype == np.float32
        assert_allclose(blended[0], noise_frame((80, 80))[0], rtol=0, atol=5e-5)


def offset_of_each_tile(columns):
    """Make a predictor with a bias of its own in every tile: 0 and 1 like a chessboard."""
    count = itertools.count()

    def predict(batch):
        i = next(count)
        return first_plane(batch) + np.float32((i // columns + i % columns) % 2)

    return predict


def test_seams():
    """Biased tiles: naive tiling steps at each border and nowhere else, feathering nowhere.

    At 0.25 the share of a tile changes by at most 3.2 % a pixel, amid the overlap.
    """
    shape = (480, 700)
    flat = cutter(np.zeros((1, *shape), dtype=np.float32))
    naive = blend_tiles(shape, flat, offset_of_each_tile(3), n_out=1, overlap=0, blend='none',
                        batch_size=1)[0]
    down, across = np.abs(np.diff(naive, axis=0)), np.abs(np.diff(naive, axis=1))
    assert_array_equal(np.flatnonzero(across.any(axis=0)), [255, 511])
    assert_array_equal(np.flatnonzero(down.any(axis=1)), [255])
    assert (across[:, [255, 511]] == 1).all()
    assert (down[255] == 1).all()

    columns = len(tile_starts(shape[1], 256, 0.25)[0])
    smooth = blend_tiles(shape, flat, offset_of_each_tile(columns), n_out=1, batch_size=1)[0]
    assert smooth.min() == 0
    assert smooth.max() == pytest.approx(1)
    for axis in (0, 1):
        assert np.abs(np.diff(smooth, axis=axis)).max() < 0.033
        assert np.abs(np.diff(smooth, n=2, axis=axis)).max() < 0.004  # no kink either


def test_memory():
    """One buffer of the frame's size: no weight map, no padded copy, no second result."""
    shape = (1500, 2000)
    tile = np.ones((1, 64, 64), dtype=np.float32)
    one_buffer = 4 * math.prod(shape)
    tracemalloc.start()
    try:
        blended = blend_tiles(shape, lambda rows, cols: tile, first_plane, n_out=1, tile_size=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blended.nbytes == one_buffer
    assert peak < 1.15 * one_buffer


@pytest.mark.parametrize('batch_size', [1, 5, 12, 20])
def test_progress_bar(batch_size):
    """The bar wraps something with a length, the number of batches, and is run to its end."""
    seen = []

    def progress_bar(batches):
        seen.append(len(batches))
        for batch in batches:
            yield batch
            seen.append('done')

    blended = blend_tiles((150, 140), cutter(noise_frame((150, 140))), ramped, n_out=2,
                          tile_size=64, batch_size=batch_size, progress_bar=progress_bar)
    n_batches = math.ceil(12 / batch_size)
    assert seen == [n_batches] + ['done'] * n_batches
    assert_array_equal(blended, TestBatches().blended())


class TestErrors:
    FRAME = noise_frame((90, 90))

    def blend(self, predict=first_plane, cut=None, shape=(90, 90), **tiles):
        tiles = {'n_out': 1, 'tile_size': 64} | tiles
        return blend_tiles(shape, cut or cutter(self.FRAME), predict, **tiles)

    @pytest.mark.parametrize(('tiles', 'message'), [
        ({'overlap': -0.01}, r'overlap=-0.01 .* 0 to 0.75'),
        ({'overlap': 0.76}, r'overlap=0.76 .* 0 to 0.75'),
        ({'overlap': math.nan}, r'overlap=nan .* 0 to 0.75'),
        ({'blend': 'mean'}, r"blend='mean' is unknown; give one of \('gaussian', 'none'\)"),
        ({'blend': 'none', 'overlap': 0.25}, r"blend='none' .* overlap=0.25; give overlap=0"),
        ({'tile_size': 63}, 'tile_size=63 .* 64 to 2048'),
        ({'tile_size': 2049}, 'tile_size=2049 .* 64 to 2048'),
        ({'batch_size': 0}, 'batch_size was given as 0'),
        ({'n_out': 0}, 'n_out was given as 0'),
        ({'shape': (90,)}, r'shape=\(90,\) has 1 axes'),
        ({'shape': (3, 90, 90)}, 'has 3 axes'),
        ({'shape': (0, 90)}, 'axis of the frame was given as 0'),
    ])
    def test_wrong_value(self, tiles, message):
        """Each wrong value is named with what is possible, before anything is predicted."""
        def predict(batch):
            pytest.fail('a tile was predicted')

        with pytest.raises(ValueError, match=message):
            self.blend(predict, **tiles)

    @pytest.mark.parametrize('tiles', [{'tile_size': 64.0}, {'batch_size': 2.5}, {'n_out': '1'},
                                       {'shape': (90.0, 90)}])
    def test_wrong_type(self, tiles):
        """Counts are whole numbers: others are no silent rounding but a TypeError."""
        with pytest.raises(TypeError, match='integer'):
            self.blend(**tiles)

    @pytest.mark.parametrize(('predict', 'shape'), [
        (lambda batch: batch, (4, 2, 64, 64)),
        (lambda batch: batch[:, 0], (4, 64, 64)),
        (lambda batch: batch[:, :1, :-1], (4, 1, 63, 64)),
        (lambda batch: batch[:3, :1], (3, 1, 64, 64)),
        (lambda batch: np.float32(0), ()),
    ])
    def test_wrong_prediction(self, predict, shape):
        """A prediction of another shape is not broadcast: the error names both shapes."""
        message = f'predict gave an array of shape {shape}; expected (4, 1, 64, 64)'
        with pytest.raises(ValueError, match=re.escape(message)):
            self.blend(predict)

    @pytest.mark.parametrize(('tile', 'shape'), [
        (np.zeros((2, 64, 63)), (2, 64, 64)), (np.zeros((64, 64)), (1, 64, 64))])
    def test_wrong_cut(self, tile, shape):
        """A cut of another shape is named with the one that was asked for."""
        message = f'cut gave an array of shape {tile.shape}; expected {shape}'
        with pytest.raises(ValueError, match=re.escape(message)):
            self.blend(cut=lambda rows, cols: tile)

    def test_cut_with_changing_planes(self):
        """One plane after two is not broadcast into both."""
        planes = itertools.chain([2], itertools.repeat(1))
        with pytest.raises(ValueError, match=r'shape \(1, 64, 64\); expected \(2, 64, 64\)'):
            self.blend(cut=lambda rows, cols: cutter(self.FRAME)(rows, cols)[:next(planes)])

    @pytest.mark.parametrize('call', [
        lambda: tile_starts(0, 64, 0.25), lambda: tile_starts(100, 32, 0.25),
        lambda: tile_starts(100, 64, 0.8), lambda: n_tiles((100,), 64, 0.25),
        lambda: n_tiles((100, -1), 64, 0.25), lambda: window(4096),
        lambda: window(64, 'gauss')])
    def test_helpers(self, call):
        """The helpers check what they are given by themselves."""
        with pytest.raises(ValueError, match='give'):
            call()
