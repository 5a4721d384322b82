"""Stored rows survive crashes; intervals equal those of scipy; words claim what intervals support."""

import csv
import json
import math

import numpy as np
import pytest
import scipy.stats

from experiments import files
from experiments import workdir as workdirs
from experiments.errors import UserError
from experiments.report import summary as results
from experiments.workdir import Experiment

ARMS = ('average', 'max')


def row(arm, seed, test, status='done', phase='final', rate=0.1, **more):
    made = {
        'point': f'{arm}-{phase}-{seed}-{rate}',
        'arm': arm,
        'seed': seed,
        'phase': phase,
        'status': status,
        'learning_rate': rate,
        'reason': '',
    }
    if status == 'done':
        made |= {'train/error': test / 2, 'validation/error': test, 'parameters': 61706}
        if phase == 'final':
            made['test/error'] = test
    return made | more


def experiment(rows, arms=ARMS, seeds=(0, 1, 2), level=0.95, rates=(0.1,), curves=None, **plan):
    return Experiment(
        {
            'title': 't',
            'dataset_note': 'made up',
            'arms': list(arms),
            'seeds': list(seeds),
            'rates': list(rates),
            'level': level,
            'points': [r['point'] for r in rows],
        }
        | plan,
        list(rows),
        curves or {},
    )


def compared(average, maximum, **given):
    """Summary of two arms with these test errors, {seed: fraction}."""
    rows = [
        row(arm, seed, value)
        for arm, errors in zip(ARMS, (average, maximum))
        for seed, value in errors.items()
    ]
    return results.summarise(experiment(rows, **given))


# ---- files


def test_rows_come_back_as_they_were_appended(tmp_path):
    rows = [{'a': 1, 'b': 'ü\n"'}, {'a': 0.1 + 0.2}]
    for one in rows:
        files.append(tmp_path / 'r.jsonl', one)
    assert files.read(tmp_path / 'r.jsonl') == rows
    assert (tmp_path / 'r.jsonl').read_bytes().count(b'\n') == 2


def test_no_file_is_no_rows(tmp_path):
    assert files.read(tmp_path / 'none.jsonl') == []


def test_a_truncated_last_line_is_skipped_with_a_warning_that_names_it(tmp_path):
    path = tmp_path / 'r.jsonl'
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    with pytest.warns(UserWarning, match=r'r\.jsonl, line 3: not a complete row'):
        assert files.read(path) == [{'a': 1}, {'a': 2}]


@pytest.mark.parametrize('fragment', [b'{"a": ', b'{"a": "\xc3', b'17', b'\x00\x00'])
def test_a_row_appended_after_a_fragment_is_whole(tmp_path, fragment):
    path = tmp_path / 'r.jsonl'
    path.write_bytes(b'{"a": 1}\n' + fragment)
    files.append(path, {'a': 3})
    assert path.read_bytes().startswith(b'{"a": 1}\n' + fragment)  # only ever added to
    with pytest.warns(UserWarning, match='line 2'):
        assert files.read(path) == [{'a': 1}, {'a': 3}]


def test_a_number_that_is_not_finite_is_stored_as_null(tmp_path):
    files.append(tmp_path / 'r.jsonl', {'loss': math.nan, 'top': math.inf, 'n': 1, 'e': 0.5})
    refuse = lambda word: pytest.fail(f'{word} is no JSON')
    stored = json.loads((tmp_path / 'r.jsonl').read_text(), parse_constant=refuse)
    assert stored == {'loss': None, 'top': None, 'n': 1, 'e': 0.5}


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / 'f'
    files.write_whole(path, 'old')

    def broken(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(results.os, 'replace', broken)
    with pytest.raises(OSError):
        files.write_whole(path, 'new')
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['f']


PLAN = {
    'title': 't',
    'dataset_note': 'd',
    'arms': ['average'],
    'seeds': [0],
    'rates': [],
    'level': 0.95,
    'points': ['average-final-0-0.1'],
}


def test_loading_keeps_the_last_row_of_the_points_of_the_plan(tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps(PLAN))
    for one in (
        row('average', 0, 0, 'failed'),
        row('average', 7, 0.5),
        row('average', 0, 0.25),
        {'no': 'point'},
    ):
        files.append(tmp_path / 'results.jsonl', one)
    folder = tmp_path / 'points' / PLAN['points'][0]
    folder.mkdir(parents=True)
    for epoch, value in ((1, 0.9), (2, 0.8), (1, 0.7)):  # started over: the later line counts
        files.append(folder / 'metrics.jsonl', {'epoch': epoch, 'validation/error': value})
    with pytest.warns(UserWarning, match='a row without point, arm'):
        loaded = workdirs.load(tmp_path)
    assert [one['test/error'] for one in loaded.rows] == [0.25]
    assert [line['validation/error'] for line in loaded.curves[PLAN['points'][0]]] == [0.7, 0.8]


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'no plan.json'),
        ('{', 'is not JSON'),
        ('[]', 'lacks title'),
        (json.dumps({**PLAN, 'arms': []}), 'names no arm'),
        (json.dumps({k: v for k, v in PLAN.items() if k != 'level'}), 'lacks level'),
    ],
)
def test_a_folder_without_a_usable_plan_is_an_error_that_says_what_to_do(
    tmp_path, content, message
):
    if content is not None:
        (tmp_path / 'plan.json').write_text(content)
    with pytest.raises(UserError, match=f'(?s){message}.*(give the work directory|run the exp)'):
        workdirs.load(tmp_path)


# ---- statistics


def test_the_interval_is_the_one_worked_out_by_hand():
    # 1..5: mean 3, s = sqrt(2.5), t(4, 0.975) = 2.776445 (printed tables: 2.776)
    mean, low, high, n = results.interval([1, 2, 3, 4, 5])
    assert (mean, n) == (3, 5)
    assert high - mean == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    # two values: t(1, 0.975) = 12.7062, s / sqrt(2) = half their distance
    assert results.interval([0, 2]).high == pytest.approx(1 + 12.7062, rel=1e-5)
    assert results.interval([0, 2], 0.5).high == pytest.approx(1 + 1)  # t(1, 0.75) = tan(pi / 4)


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = results.interval([0.25]), results.interval([])
    assert one.mean == 0.25 and math.isnan(one.low) and math.isnan(one.high) and one.n == 1
    assert math.isnan(none.mean) and none.n == 0


@pytest.mark.parametrize('level', [0, 1, 95, math.nan])
def test_a_level_outside_0_to_1_is_refused(level):
    with pytest.raises(ValueError, match='between 0 and 1'):
        results.interval([1, 2], level)


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
    assert difference.n == 2  # +0.02 and +0.01, in whatever order the rows came
    assert difference.mean == pytest.approx(0.015)
    assert summary[1]['test_error'].n == 3 and summary[1]['test_error'].mean == pytest.approx(
        0.83 / 3
    )


def test_the_gap_is_test_minus_train_by_seed():
    summary = compared({0: 0.2, 1: 0.4}, {})
    assert summary[0]['gap'].mean == pytest.approx(0.15)
    assert summary[0]['train_error'].mean == pytest.approx(0.15)


def test_of_several_views_the_gap_is_that_of_the_centre_and_the_notes_say_so():
    more = {'train/error': 0.1, 'test/centre_error': 0.3}
    summary = results.summarise(
        experiment(
            [row('average', seed, 0.2, **more) for seed in (0, 1)], arms=['average'], seeds=(0, 1)
        )
    )
    assert summary[0]['gap'].mean == pytest.approx(0.2)  # and not 0.1
    assert summary[0]['centre_error'].mean == pytest.approx(0.3)
    (note,) = results.views_notes(summary)
    assert 'average: 30.00 ± 0.00, +20.00 [+20.00, +20.00] above train' in note
    assert note in results.notes(summary)
    assert not results.views_notes(compared({0: 0.2}, {0: 0.3}))


def test_top5_errors_are_told_where_they_were_counted():
    rows = [row('average', 0, 0.2, **{'test/error5': 0.0125}), row('max', 0, 0.2)]
    assert results.top5_notes(results.summarise(experiment(rows, seeds=(0,)))) == [
        'Top-5 test error, %: average: 1.25.'
    ]


def test_what_is_missing_is_counted_and_every_failure_kept():
    rows = [
        row('average', 0, 0.1),
        row('average', 1, 0, 'diverged', reason='nan at\nstep 7'),
        row('average', 1000, 0, 'failed', 'select', 0.3, reason='MemoryError'),
    ]
    first, second = results.summarise(experiment(rows, seeds=range(4), rates=(0.1, 0.3)))
    assert first['missing'] == '1 diverged, 2 not run'
    assert first['failures'] == [
        'seed 1 diverged: nan at step 7',
        'seed 1000 at rate 0.3 (selection) failed: MemoryError',
    ]
    assert (second['missing'], second['seeds'], second['learning_rate']) == ('4 not run', 0, None)


def test_an_arm_that_plans_fewer_seeds_misses_none_of_the_others():
    rows = [row('average', seed, 0.1) for seed in range(3)] + [row('max', 0, 0.1)]
    summary = results.summarise(experiment(rows, arm_seeds={'average': [0, 1, 2], 'max': [0]}))
    assert [(arm['missing'], arm['seeds_expected']) for arm in summary] == [('', 3), ('', 1)]


def test_an_arm_that_no_rate_trained_has_no_rate_and_says_why():
    rows = [row('average', 1000, 0, 'diverged', 'select', rate) for rate in (0.1, 0.3)]
    rows += [row('average', seed, 0, 'failed', rate=None, reason='none trained') for seed in (0, 1)]
    summary = results.summarise(experiment(rows, rates=(0.1, 0.3)))[0]
    assert summary['learning_rate'] is None and not summary['rate_at_edge']
    assert summary['missing'] == 'diverged or failed at every rate tried'


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
def test_a_rate_at_the_edge_of_its_grid_is_marked(rate, rates, edge):
    rows = [row('average', 0, 0.1, rate=rate)]
    made = experiment(rows, rates=rates)
    assert results.summarise(made)[0]['rate_at_edge'] is edge
    assert ('*' in results.cells(results.summarise(made))[0][1]) is edge


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
    summary = results.summarise(experiment(rows, curves=curves))
    assert [arm['seconds_per_epoch'] for arm in summary] == [3.0, 9.0]


# ---- words


def said(average, maximum, **given):
    return results.sentences(compared(average, maximum, **given))[0]


def test_lower_and_higher_are_said_only_when_the_interval_leaves_out_zero():
    base = {0: 0.10, 1: 0.11, 2: 0.12}
    lower = said(base, {0: 0.081, 1: 0.090, 2: 0.099})
    # differences -1.9, -2.0, -2.1 points: s = 0.1, half width 4.303 x 0.1 / sqrt(3) = 0.25
    assert lower == 'max: -2.0 points, 95 % interval -2.2 to -1.8: lower test error than average'
    higher = said({0: 0.081, 1: 0.090, 2: 0.099}, base)
    assert higher == 'max: +2.0 points, 95 % interval +1.8 to +2.2: higher test error than average'
    neither = said(base, {0: 0.08, 1: 0.12, 2: 0.10})
    # differences -2, +1, -2: mean -1, s = sqrt(3), half width 4.303 x 1
    assert neither == (
        'max: -1.0 points, 95 % interval -5.3 to +3.3: no detectable difference with 3 seeds'
    )


def test_a_sentence_says_how_many_of_the_planned_seeds_it_rests_on():
    text = said({0: 0.1, 1: 0.11, 2: 0.12}, {0: 0.08, 1: 0.091})
    assert '(2 of 3 planned seeds)' in text
    assert text.count('planned') == 1 and text.count('(') == 1
    text = said({0: 0.1, 1: 0.1, 2: 0.12}, {0: 0.09, 1: 0.11})
    assert text.endswith('no detectable difference with 2 seeds (of 3 planned)')


def test_an_interval_near_zero_is_not_rounded_to_touch_it():
    text = said({0: 0.1, 1: 0.1}, {0: 0.1003, 1: 0.10031})  # +0.030, +0.031 points
    assert 'higher test error' in text and ' +0.0 to' not in text and '-0.0' not in text


def test_one_seed_gives_no_conclusion():
    text = said({0: 0.1}, {0: 0.05}, seeds=[0])
    assert text == (
        'max: -5.0 points against average with 1 seed: one seed gives no interval, so no conclusion'
    )


def test_an_interval_of_no_width_gives_no_conclusion():
    equal = said({0: 0.1, 1: 0.2}, {0: 0.1, 1: 0.2}, seeds=[0, 1])
    assert 'exactly the same test error as average' in equal and 'supports no conclusion' in equal
    apart = said({0: 0.1, 1: 0.2}, {0: 0.15, 1: 0.25}, seeds=[0, 1])
    assert '+5.0 points against average' in apart and 'supports no conclusion' in apart
    assert 'interval +' not in apart


def test_without_a_result_the_arm_at_fault_is_named():
    assert said({0: 0.1}, {}) == 'max: no comparison, because max has no result (3 not run)'
    assert said({}, {0: 0.1}) == 'max: no comparison, because average has no result (3 not run)'
    assert said({0: 0.1}, {1: 0.1}) == (
        'max: no comparison, because no seed finished both here and in average'
    )


def test_the_table_fits_its_console_and_reads_labels_literally():
    from rich.console import Console

    arms = ('non-overlapping [bold]average[/] pooling', 'overlapping max pooling')
    rows = [row(arm, seed, 0.1 + seed / 100) for arm in arms for seed in range(3)]
    console = Console(width=120, record=True, file=open('/dev/null', 'w'))
    console.print(results.table(results.summarise(experiment(rows, arms=arms))))
    text = console.export_text()
    assert '[bold]' in text and '…' not in text
    for heading in results.HEADINGS:
        assert heading in text
    # 10, 11, 12 %: s = 1, half width 4.3027 / sqrt(3) = 2.484
    assert '11.00 ± 2.48' in text and '5.50 ± 1.24' in text


def test_the_small_print_says_what_the_intervals_leave_out():
    text = ' '.join(results.notes(compared({0: 0.1}, {0: 0.1})))
    for words in ('95 %', 'not the sampling of test images', 'not corrected', 'paired by seed'):
        assert words in text


def test_the_csv_has_units_in_its_columns_and_nothing_for_the_unknown(tmp_path):
    rows = [
        row('average', 0, 0.10),
        row('average', 1, 0.12),
        row('max', 0, 0.09),
        row('max', 1, 0, 'diverged', reason='nan, "at" step 3'),
    ]
    results.write_csv(tmp_path / 'r.csv', results.summarise(experiment(rows, seeds=[0, 1])))
    with open(tmp_path / 'r.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert [first['arm'], second['arm']] == list(ARMS)
    assert float(first['test_error_mean_percent']) == pytest.approx(11)
    # half width 12.7062 x 1 point
    assert float(first['test_error_high_percent']) == pytest.approx(11 + 12.7062, rel=1e-5)
    assert float(first['train_error_mean_percent']) == pytest.approx(5.5)
    assert first['difference_to_baseline_mean_points'] == '' == first['difference_pairs']
    assert float(second['difference_to_baseline_mean_points']) == pytest.approx(-1)
    assert second['difference_to_baseline_low_points'] == ''  # one pair: no interval
    assert [
        second[k] for k in ('seeds_finished', 'seeds_planned', 'difference_pairs', 'failures')
    ] == ['1', '2', '1', 'seed 1 diverged: nan, "at" step 3']
    assert 'nan' not in ','.join(first.values())


def test_arms_one_factor_apart_are_compared_with_each_other_too():
    settings = {'a': (0, 0), 'b': (0, 1), 'c': (1, 0), 'd': (1, 1)}
    rows = [
        row(
            arm,
            seed,
            (0.10 + 0.02 * one - 0.03 * two + 0.001 * seed * (arm == 'd')),
            overrides={'model.one': one, 'model.two': two},
        )
        for arm, (one, two) in settings.items()
        for seed in (0, 1, 2)
    ]
    summary = results.summarise(experiment(rows, arms=list(settings)))
    assert [sorted(arm['neighbours']) for arm in summary] == [[], [], [], ['b', 'c']]
    d = summary[-1]['neighbours']
    assert d['b'].mean == pytest.approx(0.02 + 0.001) and d['c'].mean == pytest.approx(
        -0.03 + 0.001
    )
    half = 4.302652729911275 * 0.001 / 3**0.5  # t(2, 0.975), deviation 0.001 of 3 differences
    assert d['b'].high - d['b'].mean == pytest.approx(half)
    words = results.sentences(summary)
    assert len(words) == 5
    assert words[-1].startswith('d against c: -2.9 points') and words[-1].endswith(
        'lower test error'
    )
