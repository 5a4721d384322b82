"""A summary says what the rows hold, and counts what is missing."""

import numpy as np
import pytest
import scipy.stats
from rows import compared, experiment, row

from experiments.report import result_table
from experiments.report.summary import summarise


@pytest.mark.parametrize('level', [0.95, 0.8])
def test_the_difference_is_that_of_a_paired_t_test(level):
    rng = np.random.default_rng(3)
    one, two = rng.random(6), rng.random(6)
    summary = compared(dict(enumerate(one)), dict(enumerate(two)), seeds=range(6), level=level)
    expected = scipy.stats.ttest_rel(two, one)
    ends = expected.confidence_interval(level)
    got = summary[1]['difference']
    assert got.mean == pytest.approx((two - one).mean())
    assert (got.low, got.high) == pytest.approx((ends.low, ends.high))
    assert summary[0]['difference'] is None


def test_only_seeds_that_finished_in_both_arms_are_paired():
    summary = compared({0: 0.10, 1: 0.20, 3: 0.9}, {1: 0.21, 0: 0.12, 2: 0.5}, seeds=range(4))
    difference = summary[1]['difference']
    assert difference.n == 2  # +0.02 and +0.01, in any order of the rows
    assert difference.mean == pytest.approx(0.015)
    assert summary[1]['test_error'].n == 3 and summary[1]['test_error'].mean == pytest.approx(
        0.83 / 3
    )


def test_the_gap_is_test_minus_train_by_seed():
    summary = compared({0: 0.2, 1: 0.4}, {})
    assert summary[0]['gap'].mean == pytest.approx(0.15)
    assert summary[0]['train_error'].mean == pytest.approx(0.15)


def test_what_is_missing_is_counted_and_every_failure_kept():
    rows = [
        row('average', 0, 0.1),
        row('average', 1, 0, 'diverged', reason='nan at\nstep 7'),
        row('average', 1000, 0, 'failed', 'select', 0.3, reason='MemoryError'),
    ]
    first, second = summarise(experiment(rows, seeds=range(4), rates=(0.1, 0.3)))
    assert first['missing'] == '1 diverged, 2 not run'
    assert first['failures'] == [
        'seed 1 diverged: nan at step 7',
        'seed 1000 at learning rate 0.3 (trial) failed: MemoryError',
    ]
    assert (second['missing'], second['seeds'], second['learning_rate']) == ('4 not run', 0, None)


def test_an_arm_that_plans_fewer_seeds_misses_none_of_the_others():
    rows = [row('average', seed, 0.1) for seed in range(3)] + [row('max', 0, 0.1)]
    summary = summarise(experiment(rows, arm_seeds={'average': [0, 1, 2], 'max': [0]}))
    assert [(arm['missing'], arm['seeds_expected']) for arm in summary] == [('', 3), ('', 1)]


def test_an_arm_that_no_learning_rate_trained_has_none_and_says_why():
    rows = [row('average', 1000, 0, 'diverged', 'select', rate) for rate in (0.1, 0.3)]
    rows += [row('average', seed, 0, 'failed', rate=None, reason='none trained') for seed in (0, 1)]
    summary = summarise(experiment(rows, rates=(0.1, 0.3)))[0]
    assert summary['learning_rate'] is None and not summary['rate_at_edge']
    assert summary['missing'] == 'diverged or failed at every learning rate tried'


@pytest.mark.parametrize(
    'rate, rates, edge',
    [
        (0.1, (0.03, 0.1, 0.3), False),
        (0.3, (0.03, 0.1, 0.3), True),
        (0.03, (0.1, 0.03), True),
        (0.1, (0.1,), False),
        (0.1, (), False),
    ],
)
def test_a_learning_rate_at_the_edge_of_its_grid_is_marked(rate, rates, edge):
    rows = [row('average', 0, 0.1, rate=rate)]
    made = experiment(rows, rates=rates)
    assert summarise(made)[0]['rate_at_edge'] is edge
    assert ('*' in result_table.cells(summarise(made))[0][1]) is edge


def test_time_per_epoch_leaves_out_the_first_epoch_which_compiles():
    rows = [row('average', 0, 0.1), row('max', 0, 0.1)]
    curves = {
        rows[0]['point']: [
            {'epoch': 1, 'seconds': 60.0},
            {'epoch': 2, 'seconds': 2.0},
            {'epoch': 3, 'seconds': 4.0},
        ],
        rows[1]['point']: [{'epoch': 1, 'seconds': 9.0}],
    }
    summary = summarise(experiment(rows, curves=curves))
    assert [arm['seconds_per_epoch'] for arm in summary] == [3.0, 9.0]


def test_the_edge_of_a_grid_is_that_of_the_arms_own_grid():
    rows = [row('average', 0, 0.1, rate=0.1), row('max', 0, 0.1, rate=0.1)]
    own = {'average': [0.01, 0.1], 'max': [0.01, 0.1, 1.0]}
    made = experiment(rows, rates=(0.01, 0.1, 1.0), arm_rates=own)
    assert [arm['rate_at_edge'] for arm in summarise(made)] == [True, False]
