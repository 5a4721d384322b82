"""Statistics of rows, against textbook formulas, plain loops and planted effects."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from experiments.report import statistics

A = dict(enumerate([0.20, 0.22, 0.19, 0.25, 0.21]))
B = dict(enumerate([0.23, 0.24, 0.20, 0.30, 0.22]))


def by_hand(deltas, level=0.95):
    mean, error = np.mean(deltas), np.std(deltas, ddof=1) / math.sqrt(len(deltas))
    room = scipy.stats.t.ppf((1 + level) / 2, len(deltas) - 1) * error
    return mean, mean - room, mean + room


def test_a_paired_difference_is_the_t_interval_of_the_differences():
    got = statistics.difference(A, B, paired=True)
    assert got[:3] == pytest.approx(by_hand([0.03, 0.02, 0.01, 0.05, 0.01]))
    assert (
        got.n == 5
        and got.paired
        and got.correlation == pytest.approx(np.corrcoef(list(A.values()), list(B.values()))[0, 1])
    )


def test_an_unpaired_difference_is_welchs():
    one, two = np.array(list(A.values())), np.array(list(B.values()))
    got = statistics.difference(A, B, paired=False)
    errors = one.var(ddof=1) / 5, two.var(ddof=1) / 5
    freedom = sum(errors) ** 2 / sum(error**2 / 4 for error in errors)
    room = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(sum(errors))
    assert got[:3] == pytest.approx((0.024, 0.024 - room, 0.024 + room))
    assert got.deviation == pytest.approx(math.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2))


def test_pairing_is_used_where_seeds_go_together_and_only_there():
    assert statistics.difference(A, B).paired
    shuffled = dict(enumerate([0.30, 0.20, 0.24, 0.22, 0.23]))
    got = statistics.difference(A, shuffled)
    assert not got.paired and got.correlation < 0.5
    few = statistics.difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.1, 1: 2.1, 2: 3.2})
    assert not few.paired and few.correlation > 0.9


def test_seeds_that_only_one_arm_has_count_where_it_is_not_paired():
    more = A | {7: 0.5}
    assert statistics.difference(more, B, paired=True)[:3] == pytest.approx(
        statistics.difference(A, B, paired=True)[:3]
    )
    got = statistics.difference(more, B, paired=False)
    assert got.effect == pytest.approx(np.mean(list(B.values())) - np.mean(list(more.values())))


def test_values_without_spread_give_a_difference_without_width():
    got = statistics.difference({0: 0.5, 1: 0.5}, {0: 0.75, 1: 0.75})
    assert got[:4] == (0.25, 0.25, 0.25, 0.0)
    assert statistics.difference({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}).p == 1
    assert statistics.equivalent({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}, 0.1, 0.95, False)


def test_one_seed_is_no_difference():
    with pytest.raises(ValueError, match='two seeds'):
        statistics.difference({0: 1.0}, A)


@pytest.mark.parametrize('paired', [True, False])
def test_equivalence_is_an_interval_inside_the_margin(paired):
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        one = dict(enumerate(rng.normal(0, 1, 6)))
        two = dict(enumerate(rng.normal(rng.choice([0, 0.5]), 1, 6)))
        margin = rng.uniform(0.5, 3)
        got = statistics.difference(one, two, paired=paired)
        inside = -margin < got.low and got.high < margin
        assert statistics.equivalent(one, two, margin, 0.95, paired) == inside
        seen.add(inside)
    assert seen == {True, False}


@pytest.mark.parametrize('paired', [True, False])
def test_the_seeds_needed_find_the_margin_with_the_stated_power(paired):
    deviation, margin = 0.25, 0.4
    n = statistics.seeds_needed(deviation, margin, 0.95, paired)
    rng, found = np.random.default_rng(1), [0, 0]
    for _ in range(800):
        for place, count in enumerate((n, max(n - 2, 2))):
            noise = deviation / (1 if not paired else math.sqrt(2))
            one = dict(enumerate(rng.normal(0, noise, count)))
            two = dict(enumerate(rng.normal(margin, noise, count)))
            found[place] += statistics.difference(one, two, paired=paired).p < 0.05
    assert found[0] / 800 > 0.76
    assert found[1] / 800 < 0.8


def test_an_arm_of_equal_values_is_compared_by_the_noise_of_the_other():
    stuck, noisy = dict(enumerate([0.8865] * 5)), {0: 0.02, 1: 0.03, 2: 0.02, 3: 0.03, 4: 0.025}
    found = statistics.difference(stuck, noisy)
    assert (found.effect, found.low, found.high) == pytest.approx(
        (-0.8615, *(value - 0.8865 for value in by_hand(list(noisy.values()), 0.95)[1:]))
    )


def test_the_seeds_needed_are_those_of_the_notes():
    """0.25 points: 0.51 with 5, 0.38 with 8, 0.34 with 10 seeds (two-sided 5 %, unpaired)."""
    for n, resolved in ((5, 0.51), (8, 0.38), (10, 0.34)):
        assert statistics.seeds_needed(0.25, resolved + 0.006, 0.95, False) <= n
        assert statistics.seeds_needed(0.25, resolved - 0.015, 0.95, False) > n


def test_holms_levels_give_intervals_that_exclude_zero_exactly_where_it_rejects():
    rng, both = np.random.default_rng(2), set()
    for _ in range(200):
        count = rng.integers(1, 6)
        arms = [rng.normal(rng.choice([0, 2]), 1, 8) for _ in range(count)]
        p = [scipy.stats.ttest_1samp(arm, 0).pvalue for arm in arms]
        adjusted, levels = statistics.holm(p)
        order = np.argsort(p)
        plain = np.maximum.accumulate([p[i] * (count - k) for k, i in enumerate(order)])
        assert np.array(adjusted)[order] == pytest.approx(np.minimum(plain, 1))
        for arm, own, level in zip(arms, adjusted, levels):
            _, low, high = by_hand(arm, level)
            assert (low > 0 or high < 0) == (own < 0.05)
            both.add(own < 0.05)
    assert both == {True, False}


def test_of_null_families_at_most_five_percent_call_an_effect():
    rng, errors = np.random.default_rng(3), 0
    for _ in range(1000):
        base = dict(enumerate(rng.normal(0, 1, 6)))
        arms = [dict(enumerate(rng.normal(0, 1, 6))) for _ in range(3)]
        p = [statistics.difference(base, arm).p for arm in arms]
        errors += min(statistics.holm(p)[0]) < 0.05
    assert errors <= 1000 * 0.05 + 2 * math.sqrt(1000 * 0.05 * 0.95)


def test_of_null_experiments_five_percent_call_an_effect_with_and_without_correlation():
    for shared in (0.0, 0.9):
        rng, errors = np.random.default_rng(4), 0
        for _ in range(1000):
            common = rng.normal(0, 1, 6) * shared
            one, two = (dict(enumerate(common + rng.normal(0, 1, 6))) for _ in range(2))
            errors += statistics.difference(one, two).p < 0.05
        assert errors <= 1000 * 0.05 + 2 * math.sqrt(1000 * 0.05 * 0.95)


def test_an_interval_over_seeds_and_images_covers_the_difference_on_all_images():
    """That of the seeds alone does so too seldom: it is of the difference on these images."""
    rng, covered, narrow = np.random.default_rng(5), 0, 0
    for _ in range(300):
        easy, hard = rng.beta(8, 2, 400), rng.beta(7.5, 2.5, 400)  # means 0.80 and 0.75
        one, two = (
            rng.random((5, 400)) < np.clip(own + rng.normal(0, 0.005, (5, 1)), 0, 1)
            for own in (easy, hard)
        )
        seeds = statistics.difference(*(dict(enumerate(1 - arm.mean(1))) for arm in (one, two)))
        error = statistics.image_error(one, two, seeds.paired)
        low, high = statistics.widened(*seeds[1:3], error, 0.95)
        assert low < seeds.low and seeds.high < high
        covered += low < 0.05 < high
        narrow += seeds.low < 0.05 < seeds.high
    assert 0.98 * 300 >= covered >= 0.93 * 300 > narrow, (covered, narrow)


@pytest.mark.parametrize('paired', [False, True])
def test_the_error_over_images_is_that_of_how_often_all_seeds_have_them_right(paired):
    """Of planted rates; of few seeds, the images scatter by chance as well."""
    rng = np.random.default_rng(2)
    rates = rng.beta(2, 1, 20000), rng.beta(1, 1, 20000)
    planted = scipy.stats.sem(rates[1] - rates[0])
    for seeds in (2, 5):
        one, two = (rng.random((seeds, 20000)) < own for own in rates)
        found = statistics.image_error(one, two, paired)
        assert found == pytest.approx(planted, rel=0.03)
        assert scipy.stats.sem(one.mean(0) - two.mean(0)) > 1.1 * planted
    assert statistics.image_error(one, one, paired) == 0
    assert statistics.widened(0.1, 0.3, 0.0, 0.95) == pytest.approx((0.1, 0.3))
    # half widths 3 and 4 make 5
    error = 4 / scipy.stats.norm.ppf(0.975)
    assert statistics.widened(-2.0, 4.0, error, 0.95) == pytest.approx((-4.0, 6.0))


def test_mcnemar_counts_the_images_that_one_net_has_right():
    one = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], bool)
    two = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1, 0], bool)
    only_one, only_two, p = statistics.mcnemar(one, two)
    assert (only_one, only_two) == (5, 1)
    assert p == pytest.approx(scipy.stats.binomtest(1, 6).pvalue)


def test_the_ratio_of_times_is_that_of_the_medians():
    got = statistics.times_ratio([10, 11, 12, 13, 14], [60, 66, 72, 78, 84])
    assert got.effect == pytest.approx(6)
    assert 10 / 14 * 6 <= got.low < 6 < got.high <= 84 / 10
    assert got.censored == (0, 0)


def test_runs_that_never_reach_the_threshold_are_longer_and_not_dropped():
    got = statistics.times_ratio([10, 11, 12, 13, 14], [60, 66, None, None, None])
    assert got.effect == math.inf and got.censored == (0, 3)
    assert 4 < got.low < math.inf and got.high == math.inf
    none = statistics.times_ratio([None] * 4, [None] * 4)
    assert math.isnan(none.effect) and (none.low, none.high) == (0, math.inf)
    dropped = statistics.times_ratio([10, 11, 12], [60, 66, None])
    assert dropped.effect == pytest.approx(6) and dropped.high == math.inf


def test_the_interval_of_a_ratio_covers_the_true_one():
    rng, covered = np.random.default_rng(6), 0
    for trial in range(300):
        one, two = (np.exp(rng.normal(mean, 0.15, 8)) for mean in (0, math.log(2)))
        got = statistics.times_ratio(one, two, seed=trial)
        covered += got.low <= 2 <= got.high
    assert covered >= 300 * 0.92


def planted(noise=0.0, seeds=4):
    rng = np.random.default_rng(7)
    rows = []
    for pool, overlap, norm in itertools.product('am', (False, True), ('none', 'lrn', 'batch')):
        value = 10 - 1.0 * (pool == 'm') - 0.5 * (norm == 'batch')
        value += 0.8 * (pool == 'm') * overlap
        for seed in range(seeds):
            given = dict(pool=pool, overlap=overlap, norm=norm, seed=seed)
            rows.append(given | dict(value=value + 0.3 * seed + rng.normal(0, noise)))
    return rows, dict(pool='am', overlap=(False, True), norm=('none', 'lrn', 'batch'))


def test_effects_of_a_factorial_are_means_of_differences_over_the_other_factors():
    found = {effect.name: effect for effect in statistics.factorial(*planted())}
    assert found['pool m - a'].effect == pytest.approx(-1.0 + 0.8 / 2)
    assert found['overlap True - False'].effect == pytest.approx(0.8 / 2)
    assert found['norm batch - none'].effect == pytest.approx(-0.5)
    assert found['norm lrn - none'].effect == pytest.approx(0, abs=1e-9)
    assert found['norm batch - lrn'].effect == pytest.approx(-0.5)
    assert found['pool m - a x overlap True - False'].effect == pytest.approx(0.8)
    assert found['pool m - a x norm batch - none'].effect == pytest.approx(0, abs=1e-9)
    assert len(found) == 1 + 1 + 3 + 1 + 3 + 3


def test_the_interval_of_a_balanced_factorial_is_that_of_the_differences_of_means():
    rows, factors = planted(noise=0.2)
    found = {effect.name: effect for effect in statistics.factorial(rows, factors)}
    values = lambda **own: [
        row['value'] for row in rows if all(row[name] == own[name] for name in own)
    ]
    got = found['pool m - a']
    assert got.effect == pytest.approx(np.mean(values(pool='m')) - np.mean(values(pool='a')))
    assert got.low < -0.6 < got.high and got.p < 1e-6
    assert found['norm lrn - none'].low < 0 < found['norm lrn - none'].high
    # 48 rows; columns: 4 seeds, main effects 1 + 1 + 2, interactions 1 + 2 + 2
    freedom = 48 - 4 - 4 - 5
    room = (got.high - got.low) / 2 / scipy.stats.t.ppf(0.975, freedom)
    residual = room / math.sqrt(2 / 24)
    assert 0.12 < residual < 0.3


def test_intervals_of_a_factorial_hold_where_some_arms_are_noisier():
    """One noise for all would be too little for batch norm here, and too much for the others."""
    rng, covered = np.random.default_rng(0), {}
    factors = dict(pool='am', norm=('none', 'lrn', 'batch'))
    for _ in range(300):
        rows = [
            dict(pool=pool, norm=norm, seed=seed, value=rng.normal(0, 4 if norm == 'batch' else 1))
            for pool, norm in itertools.product(*factors.values())
            for seed in range(6)
        ]
        for one in statistics.factorial(rows, factors):
            covered.setdefault(one.name, []).append(one.low < 0 < one.high)
    assert 0.92 < np.mean(covered['norm batch - none']) < 0.98
    assert 0.92 < np.mean(covered['norm lrn - none']) < 0.98


def test_a_combination_without_rows_is_named():
    rows, factors = planted()
    rows = [row for row in rows if not (row['pool'] == 'm' and row['norm'] == 'lrn')]
    with pytest.raises(ValueError, match='no row has pool m and norm lrn'):
        statistics.factorial(rows, factors)
