"""Sentences claim what the intervals support, and no more."""

import numpy as np
import pytest
import scipy.stats
from rows import compared, experiment, row

from experiments.report.sentences import notes, sentences, top5_notes, views_notes
from experiments.report.summary import summarise


def said(average, maximum, **given):
    return sentences(compared(average, maximum, **given))[0]


def test_lower_and_higher_need_an_interval_without_zero():
    base = {0: 0.10, 1: 0.11, 2: 0.12}
    lower = said(base, {0: 0.081, 1: 0.090, 2: 0.099})
    # differences -1.9, -2.0, -2.1: s = 0.1, half width 4.303 x 0.1 / sqrt(3) = 0.25
    assert (
        lower
        == 'max: -2.0 percentage points, 95 % interval -2.2 to -1.8: lower test error than average'
    )
    higher = said({0: 0.081, 1: 0.090, 2: 0.099}, base)
    assert (
        higher
        == 'max: +2.0 percentage points, 95 % interval +1.8 to +2.2: higher test error than average'
    )
    neither = said(base, {0: 0.08, 1: 0.12, 2: 0.10})
    # differences -2, +1, -2: mean -1, s = sqrt(3), half width 4.303 x 1
    assert neither == (
        'max: -1.0 percentage points, 95 % interval -5.3 to +3.3: not resolved with 3 seeds'
    )


def test_a_sentence_says_how_many_of_the_planned_seeds_it_rests_on():
    text = said({0: 0.1, 1: 0.11, 2: 0.12}, {0: 0.08, 1: 0.091})
    assert '(2 of 3 planned seeds)' in text
    assert text.count('planned') == 1 and text.count('(') == 1
    text = said({0: 0.1, 1: 0.1, 2: 0.12}, {0: 0.09, 1: 0.11})
    assert text.endswith('not resolved with 2 seeds (of 3 planned)')


def test_an_interval_near_zero_is_not_rounded_to_touch_it():
    text = said({0: 0.1, 1: 0.1}, {0: 0.1003, 1: 0.10031})  # +0.030, +0.031 percentage points
    assert 'higher test error' in text and ' +0.0 to' not in text and '-0.0' not in text


def test_one_seed_gives_no_conclusion():
    text = said({0: 0.1}, {0: 0.05}, seeds=[0])
    assert text == (
        'max: -5.0 percentage points against average with 1 seed: '
        'one seed gives no interval, so no conclusion'
    )


def test_an_interval_of_no_width_gives_no_conclusion():
    equal = said({0: 0.1, 1: 0.2}, {0: 0.1, 1: 0.2}, seeds=[0, 1])
    assert 'exactly the same test error as average' in equal and 'supports no conclusion' in equal
    apart = said({0: 0.1, 1: 0.2}, {0: 0.15, 1: 0.25}, seeds=[0, 1])
    assert '+5.0 percentage points against average' in apart and 'supports no conclusion' in apart
    assert 'interval +' not in apart


def test_without_a_result_the_arm_at_fault_is_named():
    assert said({0: 0.1}, {}) == 'No comparison with max: no result (3 not run)'
    assert said({}, {0: 0.1}) == 'No comparison with average: no result (3 not run)'
    assert said({0: 0.1}, {1: 0.1}) == (
        'max: no comparison, because no seed finished both here and in average'
    )


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
    summary = summarise(experiment(rows, arms=list(settings)))
    assert [sorted(arm['neighbours']) for arm in summary] == [[], [], [], ['b', 'c']]
    d = summary[-1]['neighbours']
    assert d['b'].mean == pytest.approx(0.02 + 0.001) and d['c'].mean == pytest.approx(
        -0.03 + 0.001
    )
    half = 4.302652729911275 * 0.001 / 3**0.5  # t(2, 0.975), deviation 0.001 of 3 differences
    assert d['b'].high - d['b'].mean == pytest.approx(half)
    words = sentences(summary)[:5]  # the effects follow
    assert words[-1].startswith('d against c: -2.9 percentage points') and words[-1].endswith(
        'lower test error'
    )


def test_of_several_views_the_gap_is_that_of_the_centre_and_the_notes_say_so():
    more = {'train/error': 0.1, 'test/centre_error': 0.3}
    summary = summarise(
        experiment(
            [row('average', seed, 0.2, **more) for seed in (0, 1)], arms=['average'], seeds=(0, 1)
        )
    )
    assert summary[0]['gap'].mean == pytest.approx(0.2)  # and not 0.1
    assert summary[0]['centre_error'].mean == pytest.approx(0.3)
    (note,) = views_notes(summary)
    assert 'average: 30.00 ± 0.00, +20.00 [+20.00, +20.00] above train' in note
    assert note in notes(summary)
    assert not views_notes(compared({0: 0.2}, {0: 0.3}))


def test_top5_errors_are_in_the_notes_where_they_were_counted():
    rows = [row('average', 0, 0.2, **{'test/error5': 0.0125}), row('max', 0, 0.2)]
    assert top5_notes(summarise(experiment(rows, seeds=(0,)))) == [
        'Top-5 test error, %: average: 1.25.'
    ]


def test_the_notes_on_one_arm_explain_no_differences():
    rows = [row('net', seed, 0.1 + seed / 100) for seed in (0, 1)]
    text = ' '.join(notes(summarise(experiment(rows, arms=['net'], seeds=(0, 1)))))
    assert 'Student t over seeds' in text and 'sampling of test images' in text
    assert not any(word in text for word in ('ifference', 'paired', 'comparison'))
    assert not notes(summarise(experiment(rows[:1], arms=['net'], seeds=(0,))))  # no interval


def test_the_small_print_says_what_the_intervals_leave_out():
    text = ' '.join(notes(compared({0: 0.1}, {0: 0.1})))
    for words in ('95 %', 'not the sampling of test images', 'not corrected', 'paired by seed'):
        assert words in text


def test_declared_comparisons_have_intervals_that_are_corrected_for_their_number():
    errors = {'a': (0.10, 0.12, 0.11), 'b': (0.08, 0.10, 0.10), 'c': (0.13, 0.13, 0.15)}
    rows = [row(arm, seed, one) for arm, own in errors.items() for seed, one in enumerate(own)]
    made = experiment(rows, arms=errors, comparisons=[['a', 'b'], ['a', 'c']])
    lines = sentences(summarise(made))[-3:]
    # Welch's test alone; c is first, so Bonferroni over two: level 1 - 0.05 / 2
    one, two = np.array(errors['a']), np.array(errors['c'])
    test = scipy.stats.ttest_ind(two, one, equal_var=False)
    low, high = (100 * value for value in test.confidence_interval(1 - 0.05 / 2))
    alone = [100 * value for value in test.confidence_interval(0.95)]
    assert lines[0].startswith('Declared comparisons')
    assert f'c minus a: +2.67 [{low:+.2f}, {high:+.2f}], p = {2 * test.pvalue:.2g} ' in lines[2]
    assert (
        f'uncorrected {alone[0]:+.2f} to {alone[1]:+.2f})' in lines[2] and 'b minus a' in lines[1]
    )


def test_arms_without_a_result_are_one_line():
    arms = ['a', 'b', 'c', 'd', 'e', 'f']
    rows = [row(arm, seed, 0.1 + 0.01 * seed) for arm in arms[:2] for seed in (0, 1)]
    lines = sentences(summarise(experiment(rows, arms=arms, seeds=(0, 1))))
    assert len(lines) == 2 and lines[0].startswith('b: ')
    assert lines[1] == 'No comparison with c; d; e and 1 more: no result (2 not run)'


def test_a_table_of_one_arm_compares_nothing():
    assert sentences(summarise(experiment([], arms=['net'], seeds=(0, 1)))) == []
