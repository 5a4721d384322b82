"""Rows: labels of runs, the columns of every end of a training, and plan.json."""

import types

import pytest

from experiments import train
from experiments.plan import config as configs
from experiments.plan import runs
from experiments.runner import rows


@pytest.fixture
def plan(root):
    file = configs.read_config('configs/ablate_pooling.py')
    return runs.plan_of(file, [('protocol.rates', '0.02,0.05')])


def test_a_label_names_each_seed_and_learning_rate_once(plan):
    arm = plan.arms[0]
    trials = [run for run in plan.trials(arm) if run.seed == plan.trials(arm)[0].seed]
    seed = trials[0].seed
    assert rows.label(trials) == f'{arm.label} (select, seed {seed}, learning rates 0.02, 0.05)'
    finals = plan.finals(arm, 0.05)[:2]
    assert rows.label(finals) == f'{arm.label} (final, seeds 0, 1, learning rate 0.05)'
    assert rows.label(plan.finals(arm)[:1]) == f'{arm.label} (final, seed 0)'


@pytest.mark.parametrize(
    'outcome, status, words',
    [
        ({'test/error': 0.015, 'validation/error': 0.5}, 'done', 'test error 1.50 %'),
        ({'validation/error': 0.5}, 'done', 'validation error 50.00 %'),
        (train.Diverged('the loss is nan'), 'diverged', 'DIVERGED: the loss is nan'),
        (MemoryError('no room'), 'failed', 'FAILED: MemoryError: no room'),
    ],
)
def test_every_end_of_a_training_has_its_status_and_words(outcome, status, words):
    row = rows.outcome_columns(outcome)
    assert row['status'] == status and rows.words(row) == words
    assert bool(row['reason']) == (status != 'done')


def test_the_plan_lists_final_runs_once_their_learning_rate_is_known(plan):
    labels = types.SimpleNamespace(labels=range(1000))
    dataset = types.SimpleNamespace(name='digits', note='a note', train=labels)
    datasets = {arm.label: dataset for arm in plan.arms}
    listed = lambda stored: rows.plan_file(plan, datasets, '--x', stored)['points']
    trials = [[run.name for run in plan.trials(arm)] for arm in plan.arms]
    assert listed({}) == sum(trials, [])
    done = {'status': 'done', 'validation/error': 0.1, 'validation/loss': 1.0}
    stored = dict.fromkeys(trials[0], done)
    finals = [run.name for run in plan.finals(plan.arms[0], 0.02)]  # a tie: the lower one
    assert listed(stored) == [*trials[0], *finals, *sum(trials[1:], [])]


def test_what_cannot_be_printed_is_escaped_in_the_plan(plan):
    labels = types.SimpleNamespace(labels=range(1000))
    dataset = types.SimpleNamespace(name='folder:\x1b[31m', note='two\nlines', train=labels)
    datasets = {arm.label: dataset for arm in plan.arms}
    made = rows.plan_file(plan, datasets, '--x=\udcff', {})
    assert made['command'] == r'python -m experiments.run --x=\udcff'
    assert (made['dataset'], made['dataset_note']) == (r'folder:\x1b[31m', 'two lines')
