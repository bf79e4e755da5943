# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Figures: their errors, how they are pooled, what they print."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from astrodenoise.measures.figures import (
    Evaluation,
    Figure,
    block_numbers,
    block_sums,
    blocks_of,
    bootstrap_error,
    combine,
    combine_figures,
    decibels,
    mean_ratio,
    median,
    root_ratio,
)


def figure(samples, groups=None, **options):
    samples = np.asarray(samples, float)
    groups = np.arange(len(samples)) if groups is None else groups
    options = {'count': len(samples)} | options
    return Figure('something', mean_ratio, samples, groups, **options)


def with_ones(values):
    return np.column_stack([values, np.ones(len(values))])


# Errors


def test_error_is_the_standard_error_of_the_mean(rng):
    values = rng.normal(3, 2, 400)
    found = figure(with_ones(values))
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(2 / np.sqrt(400), rel=0.2)


def test_error_counts_groups_not_samples(rng):
    groups = np.repeat(np.arange(25), 40)
    values = rng.normal(0, 1, 25)[groups]  # the same forty times
    assert bootstrap_error(mean_ratio, with_ones(values), groups) == pytest.approx(0.2, rel=0.4)


def test_figures_cover_their_truth(rng):
    pulls = []
    for _ in range(60):
        found = figure(with_ones(rng.normal(0, 1, 64)))
        pulls.append(found.value / found.error)
    assert np.std(pulls) == pytest.approx(1, abs=0.25)


def test_one_group_has_no_error():
    found = figure(with_ones([1.0, 3.0]), np.zeros(2, int))
    assert found.value == 2
    assert np.isnan(found.error)
    assert str(found) == '2.000'


def test_error_is_unknown_where_draws_give_no_number():
    samples = np.array([[1.0, 1.0], [1.0, -0.9]])
    assert np.isfinite(decibels(samples))
    assert np.isnan(bootstrap_error(decibels, samples, np.arange(2)))


# Statistics


def test_statistics():
    samples = np.array([[10.0, 1.0], [30.0, 3.0], [160.0, 16.0]])
    assert mean_ratio(samples) == pytest.approx(10)
    assert root_ratio(samples) == pytest.approx(np.sqrt(10))
    assert decibels(samples) == pytest.approx(10)
    assert median(samples) == 30
    assert np.isnan(decibels(-samples))


# Blocks


def test_blocks_cover_the_frame():
    numbers = block_numbers((5, 7), 3)
    assert_array_equal(np.unique(numbers), np.arange(6))
    assert numbers[4, 6] == 5
    assert_array_equal(blocks_of([0.2, 4.4], [2.9, 6.0], (5, 7), 3), [1, 5])


def test_block_sums_add_up_to_the_frame(rng):
    plane, where = rng.normal(0, 1, (70, 130)), rng.random((70, 130)) < 0.3
    sums, numbers = block_sums([plane, 1.0], where)
    assert len(sums) == len(numbers) == 6
    assert_allclose(sums.sum(axis=0), [plane[where].sum(), where.sum()])


# What cannot be measured


def test_too_few_samples_are_told():
    found = figure(with_ones([1.0]), least=10, of='stars')
    assert not found.testable
    assert str(found) == 'not testable here: 1 stars, 10 are needed'
    assert found.to_dict()['value'] is None
    assert found.to_dict()['not_testable'] == '1 stars, 10 are needed'


def test_reason_is_told():
    found = Figure('colour', reason='there is one plane')
    assert not found.testable
    assert found.why == 'there is one plane'


# Many scenes


def test_scenes_are_pooled_and_drawn_whole(rng):
    scenes = [figure(with_ones(rng.normal(level, 0.1, 50))) for level in (0.0, 1.0, 5.0)]
    pooled = combine_figures(scenes)
    assert pooled.value == pytest.approx(np.mean([scene.value for scene in scenes]))
    # the scatter of three scenes counts, not that of their blocks
    levels = np.array([scene.value for scene in scenes])
    assert pooled.error == pytest.approx(levels.std(ddof=1) / np.sqrt(3), rel=0.3)
    assert (pooled.count, pooled.scenes) == (150, 3)


def test_pooling_in_two_steps_gives_the_same(rng):
    scenes = [figure(with_ones(rng.normal(i, 1, 20))) for i in range(4)]
    once = combine_figures(scenes)
    twice = combine_figures([combine_figures(scenes[:2]), combine_figures(scenes[2:])])
    assert twice.value == once.value
    assert twice.error == once.error
    assert twice.scenes == 4


def test_scenes_together_reach_what_one_does_not():
    scenes = [figure(with_ones([1.0, 2.0, 3.0]), least=5)] * 2
    assert not scenes[0].testable
    assert combine_figures(scenes).value == 2


def test_planes_keep_their_blocks(rng):
    plane = figure(with_ones(rng.normal(0, 1, 100)))
    both = combine_figures([plane, plane], planes=True)
    # the same errors twice are no better known
    assert both.error == pytest.approx(plane.error)
    assert both.scenes == 1


def test_a_scene_without_the_figure_is_left_out():
    missing = Figure('something', reason='there is none')
    pooled = combine_figures([missing, figure(with_ones([1.0, 2.0]))])
    assert pooled.value == 1.5
    assert combine_figures([missing, missing]).why == 'there is none'


def test_nothing_to_combine():
    with pytest.raises(ValueError, match='no figure to combine'):
        combine_figures([])
    with pytest.raises(ValueError, match='no evaluation to combine'):
        combine([])


# Evaluations


def evaluation(value):
    figures = {
        'gain': figure(with_ones([value, value]), unit='dB'),
        'colour': Figure('colour', reason='there is one plane'),
    }
    return Evaluation(figures, {'gain': figures['gain']}, {'invented': [[3, 4]]}, ('take care',))


def test_table():
    lines = str(evaluation(2.0)).splitlines()
    assert lines[2].split('  ')[0] == 'something'
    assert lines[2].count('2.000 ± 0.000 dB') == 2
    assert 'invented at 3, 4' in str(evaluation(2.0))
    assert lines[-3:] == ['not testable here:', '  colour: there is one plane', 'note: take care']


def test_json_can_be_read_back():
    content = json.loads(evaluation(2.0).to_json())
    assert content['figures']['gain']['value'] == 2
    assert content['figures']['colour'] == {
        **{'label': 'colour', 'unit': '', 'value': None, 'error': None, 'count': 0, 'of': 'px'},
        **{'scenes': 1, 'not_testable': 'there is one plane'},
    }
    assert content['positions'] == {'invented': [[3.0, 4.0]]}
    assert content['notes'] == ['take care']


def test_evaluations_are_pooled():
    pooled = combine([evaluation(1.0), evaluation(3.0)])
    assert pooled.figures['gain'].value == 2
    assert pooled.noisy['gain'].value == 2
    assert pooled.positions == {'invented': [[0, 3, 4], [1, 3, 4]]}
    assert pooled.notes == ('take care',)
    assert pooled.scenes == 2
