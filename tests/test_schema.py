"""What is read back from a work directory is checked in one place."""

import json
import pathlib

import numpy as np
import pytest

from experiments import bits, schema

STORED = pathlib.Path(__file__).parent.parent / 'experiments/stored'
ROW = {
    'point': '0123456789ab',
    'arm': 'max pooling',
    'phase': 'final',
    'seed': 0,
    'status': 'done',
    'learning_rate': 0.1,
    'train/error': 0.1,
    'validation/error': 0.2,
    'test/error': 0.25,
    'test/loss': None,
}
PLAN = {
    'title': 'Pooling',
    'dataset_note': '',
    'arms': ['a', 'b'],
    'seeds': [0, 1],
    'rates': [],
    'level': 0.95,
    'points': ['0123456789ab'],
}


def test_every_stored_file_fits():
    rows = [
        line for path in STORED.rglob('results.jsonl') for line in path.read_text().splitlines()
    ]
    assert len(rows) > 40 and not any(schema.row_fault(schema.parse(row)) for row in rows)
    plans = list(STORED.rglob('plan.json'))
    assert plans and not any(schema.plan_fault(schema.parse(path.read_bytes())) for path in plans)
    curves = [
        line for path in STORED.rglob('metrics.jsonl') for line in path.read_text().splitlines()
    ]
    assert curves and not any(schema.fault(schema.parse(line), schema.CURVE) for line in curves)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(arm=['max']), "arm is ['max'], it must be a line of text"),
        (dict(arm=None), 'arm is None'),
        (dict(arm='a\x1b[31m'), 'a line of text'),
        (dict(learning_rate=10**400), 'a positive number'),
        (dict(seed=10**400), 'a whole number'),
        (dict(seed=None), 'seed is None, it must be a whole number from 0'),
        (dict(seed=True), 'seed is True'),
        (dict(seed=1.0), 'seed is 1.0'),
        (
            dict(learning_rate='fast'),
            "learning_rate is 'fast', it must be a positive number, or null",
        ),
        (dict(learning_rate=0), 'learning_rate is 0'),
        (dict(learning_rate=None), 'learning_rate is null'),
        (dict(status='ok'), 'status'),
        (dict(phase='test'), 'phase'),
        (dict(point='../../etc'), 'twelve hexadecimal digits'),
        ({'test/error': None}, 'test/error is None'),
        ({'test/error': -0.5}, 'test/error is -0.5, it must be a fraction from 0 to 1'),
        ({'test/error': 2.0}, 'test/error is 2.0'),
        ({'test/error': '0.1'}, 'test/error'),
        ({'test/loss': 'nan'}, 'test/loss'),
        (dict(overrides=[]), 'overrides'),
        (dict(parameters=-1), 'parameters'),
    ],
)
def test_what_a_row_must_not_hold_is_named(change, words):
    assert schema.row_fault(ROW) == ''
    assert words in schema.row_fault(ROW | change)


@pytest.mark.parametrize('name', ['point', 'arm', 'phase', 'seed', 'status', 'learning_rate'])
def test_a_row_must_say_which_run_it_is_of(name):
    row = dict(ROW)
    del row[name]
    assert schema.row_fault(row) == f'it lacks {name}'


def test_a_finished_run_has_its_errors_and_others_need_not():
    row = dict(ROW)
    del row['test/error']
    assert 'lacks test/error' in schema.row_fault(row)
    assert schema.row_fault(row | {'status': 'diverged', 'reason': 'nan'}) == ''
    assert schema.row_fault(row | {'phase': 'select', 'validation/loss': 1.0}) == ''


@pytest.mark.parametrize('loss', [{}, {'validation/loss': None}])
def test_a_trial_without_what_chooses_the_learning_rate_is_no_row(loss):
    assert (
        schema.row_fault(ROW | {'phase': 'select'} | loss)
        == 'it is done, but lacks validation/loss'
    )
    trial = ROW | {'phase': 'select', 'status': 'failed', 'reason': '', 'learning_rate': None}
    assert schema.row_fault(trial | loss) == 'it is a trial, but learning_rate is null'


@pytest.mark.parametrize('status', ['diverged', 'failed'])
def test_a_run_that_did_not_finish_says_why(status):
    assert schema.row_fault(ROW | {'status': status}) == f'it is {status}, but lacks reason'


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(arms=[]), 'arms'),
        (dict(arms='ab'), 'arms'),
        (dict(arms=['a', 'a']), 'twice'),
        (dict(arms=['a', 1]), 'arms'),
        (dict(level=0), 'level'),
        (dict(level=True), 'level'),
        (dict(rates=['x']), 'rates'),
        (dict(points=['..']), 'points'),
        (dict(arm_seeds={'a': [0], 'c': [0]}), "differ in 'b'"),
        (dict(title='a\nb'), 'title'),
    ],
)
def test_what_a_plan_must_not_hold_is_named(change, words):
    assert schema.plan_fault(PLAN) == ''
    assert words in schema.plan_fault(PLAN | change)


def test_json_of_any_depth_and_with_nan_is_a_value_error():
    for text in ('[' * 100_000, '{"a": NaN}', '{"a": Infinity}', '{', b'\xff'):
        with pytest.raises(ValueError):
            schema.parse(text)
    assert schema.parse(json.dumps(ROW)) == ROW
    assert schema.fault([], schema.ROW) and schema.fault(None, schema.PLAN)


def test_the_bits_of_the_test_images_fit_the_test_error():
    row = ROW | {'test/count': 4, 'test/right': bits.pack(np.array([True, False, True, True]))}
    assert schema.row_fault(row) == ''
    for change in (
        {'test/error': 0.5},
        {'test/count': 40},
        {'test/count': None},
        {'test/right': 'no base64!'},
        {'test/right': 'IP=='},
    ):
        assert schema.row_fault(row | change)
    row.pop('test/count')
    assert 'test/right does not fit' in schema.row_fault(row)
    assert 'train/curve is [[1]]' in schema.row_fault(ROW | {'train/curve': [[1]]})
