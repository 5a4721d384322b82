"""Rules from rows to verdicts: made-up rows for every outcome."""

import math

import numpy as np
import pytest

from experiments.claims import judge
from experiments.claims.claim import Claim
from experiments.plan.runs import steps_to_error
from experiments.report import statistics
from experiments.workdir import Experiment


def claim(margin=0.3, direction=1, unit='percentage points'):
    return Claim('X1', 'b is above a', 'nowhere', 'b - a', unit, 'no value', margin, direction)


def experiment(arms, rates=(0.01, 0.1, 1.0), chosen=0.1, comparisons=None, seeds=None):
    """arms: {label: [test error in percent, or a status, or a row]}, one for each seed."""
    rows, seeds = [], seeds or max(map(len, arms.values()))
    for arm, values in arms.items():
        for rate in rates:
            rows.append(dict(arm=arm, phase='select', seed=1000, status='done', learning_rate=rate))
        for seed, value in enumerate(values):
            row = dict(arm=arm, phase='final', seed=seed, status='done', learning_rate=chosen)
            if isinstance(value, str):
                row['status'] = value
            elif isinstance(value, dict):
                row |= value
            else:
                row |= {'test/error': value / 100, 'train/error': 0.0}
            rows.append(row)
    plan = dict(
        arms=list(arms), seeds=list(range(seeds)), level=0.95, rates=list(rates), dataset='cifar10'
    )
    if comparisons:
        plan['comparisons'] = comparisons
    return Experiment(plan, rows, {})


LOW, HIGH = [20.0, 20.1, 19.9, 20.05, 19.95], [21.0, 21.1, 20.9, 20.95, 21.05]
NEAR, WIDE = [20.05, 20.1, 19.95, 20.0, 20.02], [19.0, 22.0, 20.5, 18.5, 21.5]


@pytest.mark.parametrize(
    'b, direction, verdict',
    [
        (HIGH, 1, 'supported'),
        (HIGH, -1, 'contradicted'),
        (HIGH, 0, 'contradicted'),
        (NEAR, 1, 'equivalent'),
        (NEAR, 0, 'equivalent'),
        (WIDE, 1, 'not resolved'),
        (WIDE, 0, 'not resolved'),
    ],
)
def test_every_outcome_of_a_difference(b, direction, verdict):
    found = judge.difference(claim(direction=direction), experiment({'a': LOW, 'b': b}), 'a', 'b')
    assert found.verdict == verdict, found.text
    assert found.effect == pytest.approx(np.mean(b) - np.mean(LOW))
    assert found.low < found.effect < found.high
    assert (found.seeds, found.data, found.covers) == (5, 'cifar10', 'seeds')
    assert ('takes about' in found.text) == (verdict == 'not resolved')
    assert (', inside the margin of 0.3.' in found.text) == (verdict == 'equivalent')


def test_what_is_not_resolved_says_how_many_seeds_would_resolve_it():
    found = judge.difference(claim(), experiment({'a': LOW, 'b': WIDE}), 'a', 'b')
    deviation = math.sqrt((np.var(LOW, ddof=1) + np.var(WIDE, ddof=1)) / 2)
    # 90 %: of arms that do not differ both one-sided tests must find so
    about = 2 * (deviation / 0.3) ** 2 * (1.96 + 1.28) ** 2
    count = int(found.text.split('about ')[1].split(' seeds')[0])
    assert about < count < about + 3
    # an effect that is larger than the margin needs fewer
    found = judge.difference(
        claim(), experiment({'a': LOW, 'b': [22.0, 18.5, 24, 19, 24]}), 'a', 'b'
    )
    counts = [int(text.split(' seeds')[0]) for text in found.text.split('about ')[1:]]
    assert f'To tell {found.effect:.3g} percentage points, the effect seen, from none' in found.text
    assert len(counts) == 2 and counts[1] < counts[0] / 20


@pytest.mark.parametrize(
    'b, chosen, words',
    [
        ([*HIGH[:3], 'diverged', 'diverged'], 0.1, '2 of 5 runs of b diverged'),
        (HIGH[:4], 0.1, '4 of 5 runs of b have finished'),
        (HIGH, 1.0, 'the learning rate of a, 1, is at the edge of those tried'),
        (HIGH[:1], 0.1, '1 of 5 runs of b have finished'),
        ([], 0.1, '0 of 5 runs of b have finished'),
    ],
)
def test_what_stands_in_the_way_of_a_verdict_is_said(b, chosen, words):
    found = judge.difference(claim(), experiment({'a': LOW, 'b': b}, chosen=chosen), 'a', 'b')
    assert found.verdict == 'not resolved' and words in found.text


def test_a_grid_of_one_rate_has_no_edge():
    found = judge.difference(claim(), experiment({'a': LOW, 'b': HIGH}, rates=(0.1,)), 'a', 'b')
    assert found.verdict == 'supported'


def test_a_comparison_of_a_family_is_corrected_and_shows_its_own_interval_too():
    arms = {'a': LOW, 'b': [20.3, 20.2, 20.25, 20.0, 20.35], 'c': NEAR, 'd': WIDE}
    pairs = [('a', 'b'), ('a', 'c'), ('a', 'd')]
    alone = judge.difference(claim(0.01), experiment(arms), 'a', 'b')
    family = judge.difference(claim(0.01), experiment(arms, comparisons=pairs), 'a', 'b')
    assert family.low < alone.low and family.high > alone.high
    assert f'uncorrected [{alone.low:+.2f}, {alone.high:+.2f}]' in family.text
    found = judge.comparisons(experiment(arms, comparisons=pairs), judge.test_error)
    assert found['a', 'b'].p == pytest.approx(3 * found['a', 'b'].raw.p)
    assert (found['a', 'b'].p < 0.05) == (found['a', 'b'].corrected.low > 0)


def test_arms_without_rows_still_count_in_the_family():
    arms = {'a': LOW, 'b': HIGH, 'c': [], 'd': []}
    pairs = [('a', 'b'), ('a', 'c'), ('a', 'd')]
    found = judge.comparisons(experiment(arms, comparisons=pairs), judge.test_error)
    assert list(found) == [('a', 'b')]
    assert found['a', 'b'].p == pytest.approx(3 * found['a', 'b'].raw.p)


def curve(*errors):
    """A row whose error falls, a point every 10 steps, which are an epoch."""
    points = [[10 * (place + 1), error] for place, error in enumerate(errors)]
    return {'train/curve': points, 'epochs': len(points), 'test/error': 0.2, 'train/error': 0.1}


def runs(*steps):
    """Rows that reach 25 % after so many steps; None: never."""
    return [curve(*([0.9] * (step // 10 - 1)), 0.2) if step else curve(0.9, 0.8) for step in steps]


FAST, SLOW = runs(100, 110, 120, 110, 100), runs(500, 600, 650, 700, 600)


@pytest.mark.parametrize(
    'b, verdict',
    [
        (SLOW, 'supported'),
        (runs(100, 110, 110, 120, 100), 'equivalent'),
        (runs(20, 30, 30, 20, 20), 'contradicted'),
        (runs(100, 300, 80, 50, 200), 'not resolved'),
        (runs(500, None, None, None, None), 'supported'),
        ([*SLOW[:3], 'diverged', 'diverged'], 'supported'),
        (SLOW[:4], 'not resolved'),
    ],
)
def test_every_outcome_of_a_ratio_of_times(b, verdict):
    made = experiment({'relu': FAST, 'tanh': b})
    times = lambda row: steps_to_error(row, 0.25)
    found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
    assert found.verdict == verdict, found.text


def test_runs_that_never_get_there_are_counted_in_words():
    times = lambda row: steps_to_error(row, 0.25)
    made = experiment({'relu': FAST, 'tanh': runs(500, None, None, None, None)})
    found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
    assert '4 of 5 runs of tanh never got there' in found.text
    assert found.effect is None and found.high is None and found.low > 4
    words = 'the median run of tanh never got there, that of relu did: at least '
    assert words in found.text
    for tanh, relu, words in (
        (runs(*[None] * 5), FAST, 'of tanh never got there, that of relu did. 5 of 5 runs of tanh'),
        (FAST, runs(*[None] * 5), 'of relu never got there, that of tanh did. 5 of 5 runs of relu'),
        (runs(*[None] * 5), runs(*[None] * 5), 'the median runs of relu and tanh never got there.'),
        # nobody knows which of the two is the faster one
        (runs(None, None, None, 100, 100), runs(200, 200, 200, 200, 200), 'did: at least 0.4'),
        (runs(200, 200, 200, 200, 200), runs(None, None, None, 100, 100), 'did: at most 2.'),
        (runs(200, 200, 200, 200, None), FAST, ', no upper bound]'),
        (FAST, runs(200, 200, 200, 200, None), '[no lower bound, '),
    ):
        made = experiment({'relu': relu, 'tanh': tanh})
        found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
        assert words in found.text


def test_a_ratio_of_a_family_is_corrected_and_shows_its_own_interval_too():
    times = lambda row: steps_to_error(row, 0.25)
    arms = {'relu': FAST, 'tanh': runs(100, 130, 110, 150, 120), 'a': [], 'b': []}
    own = claim(1.25, unit='times')
    alone = judge.ratio(own, experiment(arms), 'relu', 'tanh', times)
    pairs = [('tanh', 'relu'), ('relu', 'a'), ('relu', 'b')]  # either way round
    family = judge.ratio(own, experiment(arms, comparisons=pairs), 'relu', 'tanh', times)
    assert family.effect == alone.effect
    assert family.low <= alone.low and family.high > alone.high
    assert f'(uncorrected [{alone.low:.2f}, {alone.high:.2f}])' in family.text
    assert 'uncorrected' not in alone.text


def test_a_ratio_that_is_not_resolved_says_how_many_seeds_would_resolve_it():
    times, scattered = lambda row: steps_to_error(row, 0.25), (100, 300, 80, 50, 200)
    made = experiment({'relu': FAST, 'tanh': runs(*scattered)})
    found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
    spreads = [
        np.var(np.log([times(row) for row in arm]), ddof=1) for arm in (FAST, runs(*scattered))
    ]
    # the variance of a median is pi / 2 times that of a mean
    about = math.pi / 2 * 2 * np.mean(spreads) / math.log(1.25) ** 2 * (1.96 + 1.28) ** 2
    count = int(
        found.text.split('To tell a ratio of 1.25 from none takes about ')[1].split(' seeds')[0]
    )
    assert about < count < about + 3
    # of runs that never get there no spread is known
    made = experiment({'relu': FAST, 'tanh': runs(100, 300, 80, 50, None)})
    assert 'seeds an arm' not in judge.ratio(claim(1.25), made, 'relu', 'tanh', times).text


def test_the_seeds_of_a_ratio_find_the_margin_with_the_stated_power():
    rng, found, words = np.random.default_rng(8), 0, 'takes about '
    scattered = [{'took': own} for own in (40.0, 90.0, 50.0, 70.0, 60.0)]
    took, own = lambda row: row['took'], claim(1.25, unit='times')
    text = judge.ratio(own, experiment({'a': scattered, 'b': scattered}), 'a', 'b', took).text
    n = int(text.split(words)[1].split(' seeds')[0])
    spread = np.std(np.log([row['took'] for row in scattered]), ddof=1)
    for _ in range(200):
        times = {arm: rng.lognormal(math.log(by), spread, n) for arm, by in (('a', 1), ('b', 1.25))}
        arms = {arm: [{'took': one} for one in values] for arm, values in times.items()}
        found += judge.ratio(own, experiment(arms), 'a', 'b', took).verdict == 'supported'
    # 80 % and more: as many find none where there is none
    assert 0.8 < found / 200 < 0.97, (found, n)


def test_where_there_are_seeds_enough_for_the_margin_those_of_the_effect_seen_are_said():
    b = [20.2, 20.0, 20.22, 19.98, 20.15]
    found = judge.difference(claim(0.25), experiment({'a': LOW, 'b': b}), 'a', 'b')
    assert found.verdict == 'not resolved', found
    words = f'To tell {found.effect:.3g} percentage points, the effect seen, from none takes about'
    assert words in found.text


def test_a_ratio_of_values_is_not_one_of_times_and_no_run_that_diverged_counts():
    value, own = lambda row: row['took'], claim(1.1, unit='times')
    arms = {'a': [{'took': 1.0}] * 5, 'b': [{'took': 2.0}] * 5}
    found = judge.ratio(own, experiment(arms), 'a', 'b', value, of_times=False)
    assert found.verdict == 'supported' and found.text.startswith('b has 2.00 times the value of a')
    arms['b'] = [{'took': 2.0}] * 4 + ['diverged']
    found = judge.ratio(own, experiment(arms), 'a', 'b', value, of_times=False)
    assert found.verdict == 'not resolved' and '4 of 5 runs of b' in found.text
    one = experiment({'a': arms['a'][:1], 'b': arms['a'][:1]})
    assert judge.ratio(own, one, 'a', 'b', value).text == 'too few seeds.'


def test_rows_without_what_a_time_is_read_off_leave_a_ratio_open():
    times = lambda row: steps_to_error(row, 0.25)
    lacking = [*SLOW[:4], {'test/error': 0.2, 'train/error': 0.1}]
    made = experiment({'relu': FAST, 'tanh': lacking})
    found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
    assert found.verdict == 'not resolved' and '1 run of tanh has no such value' in found.text


def test_a_learning_rate_at_the_edge_of_its_grid_leaves_a_ratio_open():
    made = experiment({'relu': FAST, 'tanh': SLOW}, chosen=1.0)
    times = lambda row: steps_to_error(row, 0.25)
    found = judge.ratio(claim(1.25, unit='times'), made, 'relu', 'tanh', times)
    assert found.verdict == 'not resolved' and 'at the edge of those tried' in found.text


def test_of_null_families_of_ratios_at_most_five_percent_call_an_effect():
    rng, errors, families = np.random.default_rng(6), 0, 300
    pairs = [('a', other) for other in 'bcd']
    for _ in range(families):
        arms = {arm: [{'took': own} for own in rng.lognormal(4, 0.1, 5)] for arm in 'abcd'}
        made = experiment(arms, comparisons=pairs)
        found = [
            judge.ratio(claim(1.0, unit='times'), made, *pair, lambda row: row['took'])
            for pair in pairs
        ]
        errors += any(one.verdict in ('supported', 'contradicted') for one in found)
    assert errors <= families * 0.05 + 2 * math.sqrt(families * 0.05 * 0.95)


@pytest.mark.parametrize(
    'kinds, verdict',
    [
        (('supported', 'supported'), 'supported'),
        (('supported', 'equivalent'), 'equivalent'),
        (('supported', 'not resolved'), 'not resolved'),
        (('not resolved', 'contradicted'), 'contradicted'),
    ],
)
def test_a_claim_of_parts_holds_if_all_do(kinds, verdict):
    parts = [judge.Verdict(kind, kind, seeds=place) for place, kind in enumerate(kinds, 3)]
    parts = [one._replace(effect=float(place)) for place, one in enumerate(parts)]
    found = judge.all_of(parts)
    assert (found.verdict, found.seeds) == (verdict, 3)
    # the part that decides comes first, and it is said if that is another than the first
    assert found.text == ' '.join(sorted(kinds, key=lambda kind: kind != verdict))
    assert found.other == (kinds[0] != verdict)
    assert found.effect == kinds.index(verdict)  # the numbers of the part that decides


def test_a_measure_is_read_after_the_last_epoch():
    row = {'measures': {'shift_errors': {'0': {'2': 0.9}, '10': {'2': 0.1}, '9': {'2': 0.2}}}}
    assert judge.measured(row, 'shift_errors', '2') == 0.1
    assert judge.measured(row, 'shift_errors', '2', '0') == 0.9


def test_a_planted_effect_of_the_margins_size_is_found_with_the_stated_power():
    rng, found = np.random.default_rng(1), 0
    n = statistics.seeds_needed(0.25, 0.4, 0.95, False)
    for _ in range(300):
        arms = {'a': rng.normal(20, 0.25, n), 'b': rng.normal(20.4, 0.25, n)}
        own = judge.difference(claim(0.4), experiment(arms), 'a', 'b')
        found += own.verdict == 'supported'
    assert 0.74 < found / 300 < 0.9


def test_arms_that_do_not_differ_are_found_equivalent_with_the_stated_power():
    rng, found = np.random.default_rng(1), 0
    n = statistics.seeds_needed(0.25, 0.4, 0.95, False, equivalence=True)
    for _ in range(300):
        arms = {arm: rng.normal(20, 0.25, n) for arm in 'ab'}
        own = judge.difference(claim(0.4, direction=0), experiment(arms), 'a', 'b')
        found += own.verdict == 'equivalent'
    assert 0.74 < found / 300 < 0.9


def test_of_null_families_at_most_five_percent_get_the_verdict_of_an_effect():
    rng, errors, pairs = np.random.default_rng(2), 0, [('a', other) for other in 'bcd']
    for _ in range(150):
        made = experiment({arm: rng.normal(20, 0.25, 5) for arm in 'abcd'}, comparisons=pairs)
        found = [judge.difference(claim(0.0), made, *pair) for pair in pairs]
        errors += any(one.verdict in ('supported', 'contradicted') for one in found)
    assert errors <= 150 * 0.05 + 2 * math.sqrt(150 * 0.05 * 0.95)


def test_the_seeds_needed_are_those_of_the_corrected_interval():
    arms = {'a': LOW, 'b': WIDE, 'c': NEAR, 'd': NEAR}
    count = lambda made: int(
        judge.difference(claim(), made, 'a', 'b').text.split('about ')[1].split(' seeds')[0]
    )
    pairs = [('a', 'b'), ('a', 'c'), ('a', 'd')]
    assert count(experiment(arms, comparisons=pairs)) > 1.2 * count(experiment(arms))
    same = judge.difference(claim(direction=0), experiment(arms), 'a', 'b').text
    assert 'To tell 0.3 percentage points from none takes about' in same


def test_a_comparison_that_is_not_declared_is_one_more_of_the_family():
    arms = {'a': LOW, 'b': HIGH, 'c': WIDE}
    declared = experiment(arms, comparisons=[('a', 'b'), ('a', 'c')])
    other = experiment(arms, comparisons=[('a', 'b')])
    one, two = (judge.difference(claim(), made, 'a', 'c') for made in (declared, other))
    assert (one.low, one.high) == (two.low, two.high)


def test_runs_that_learned_nothing_are_named_and_no_seeds_are_asked_for():
    stuck = [{'test/error': 0.9, 'train/error': 0.9}] * 2
    made = experiment({'a': LOW, 'b': [*HIGH[:3], *stuck]})
    found = judge.difference(claim(), made, 'a', 'b')
    assert found.verdict == 'not resolved' and '2 of 5 runs of b learned nothing.' in found.text
    assert 'takes about' not in found.text


@pytest.mark.parametrize(
    'row', [{'train/error': 0.1}, {'test/error': math.nan, 'train/error': 0.1}]
)
def test_a_row_without_a_number_leaves_a_claim_open(row):
    made = experiment({'a': LOW, 'b': [*HIGH[:4], row]})
    found = judge.difference(claim(), made, 'a', 'b')
    assert found.verdict == 'not resolved' and '1 run of b has no such value' in found.text
