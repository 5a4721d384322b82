"""What rows of several seeds say of a difference, and how surely.

Errors are fractions in rows; the functions take any numbers and keep their unit. scipy and
statsmodels do the statistics: this file only says which of theirs answers which question.

    difference      mean of one arm minus another's: paired or not, Student t
    equivalent      two one-sided tests against a margin
    seeds_needed    how many seeds resolve a difference of a margin's size
    holm            a family of comparisons: p values, intervals without zero where it rejects
    widened         an interval over seeds made one over seeds and test images
    mcnemar         two nets, image by image
    times_ratio     how many times faster one arm reaches a threshold; runs that never do count
    factorial       main effects and two-way interactions, over arms or over runs
"""

import gc
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

POWER = 0.8  # with which a difference of the margin's size is to be found
RESAMPLES = 4000  # of a bootstrap
SPARE = 5  # arms beyond the numbers of a factorial's model that its arms take to be the units
_ROUNDING = 1e-9  # of a value: differences below it are those of rounding


class Difference(NamedTuple):
    """The mean of arm b minus that of arm a."""

    effect: float
    low: float
    high: float
    p: float  # of no difference, two-sided
    n: int  # seeds of the smaller arm
    paired: bool
    correlation: float  # over the seeds that both have; nan if it is not defined
    deviation: float  # of the differences if paired, else pooled over the arms


def difference(
    a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95, paired: bool | None = None
) -> Difference:
    """b minus a, of {seed: value}, with a Student t interval of this level.

    Paired over the seeds that both have, or Welch's test over all. paired=None pairs only where
    pairing helps: where the correlation over at least 5 seeds is above zero at the 1 % level
    (one-sided; at 5 % the choice itself would make false effects more frequent). Elsewhere a
    shared seed removes no noise, and pairing only halves the degrees of freedom.

    Raises:
      ValueError: fewer than two values in an arm.
    """
    shared = sorted(a.keys() & b.keys())
    if min(len(a), len(b)) < 2 or (paired and len(shared) < 2):
        raise ValueError('a difference needs two seeds of each arm')
    one, two = (np.array([arm[seed] for seed in shared], float) for arm in (a, b))
    correlation, helps = math.nan, False
    if len(shared) > 2 and _varies(one) and _varies(two):
        found = scipy.stats.pearsonr(one, two, alternative='greater')
        correlation, helps = float(found.statistic), len(shared) >= 5 and found.pvalue < 0.01
    if paired is None:
        paired = helps
    if not paired:
        one, two = (np.array(list(arm.values()), float) for arm in (a, b))
    effect = float((two - one).mean() if paired else two.mean() - one.mean())
    spreads = [(two - one).var(ddof=1)] if paired else [one.var(ddof=1), two.var(ddof=1)]
    weights = [1] if paired else [len(one) - 1, len(two) - 1]
    deviation, n = math.sqrt(np.average(spreads, weights=weights)), min(len(one), len(two))
    if deviation < _ROUNDING * float(np.abs(np.concatenate([one, two])).max()):
        # equal values: no noise was seen, so none can be stated
        p = 1.0 if effect == 0 else 0.0
        return Difference(effect, effect, effect, p, n, paired, correlation, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # of an arm whose values are all equal
        if paired:
            test = scipy.stats.ttest_rel(two, one)
        else:
            test = scipy.stats.ttest_ind(two, one, equal_var=False)
    low, high = test.confidence_interval(level)
    low, high, p = float(low), float(high), float(test.pvalue)
    return Difference(effect, low, high, p, n, paired, correlation, deviation)


def _varies(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > _ROUNDING * np.abs(values).max())


def equivalent(
    a: Mapping[int, float], b: Mapping[int, float], margin: float, level: float, paired: bool
) -> bool:
    """Whether b - a surely lies between -margin and margin: two one-sided t tests.

    Each is at half of 1 - level, so that it is so if the interval of `difference` lies inside.
    """
    found = difference(a, b, level, paired)
    if not found.deviation:
        return abs(found.effect) < margin
    seeds = [a.keys() & b.keys()] * 2 if paired else [a.keys(), b.keys()]
    one, two = (np.array([arm[s] for s in sorted(own)]) for arm, own in zip((a, b), seeds))
    if paired:
        p = ttost_paired(two, one, -margin, margin)[0]
    else:
        p = ttost_ind(two, one, -margin, margin, usevar='unequal')[0]
    return bool(p < (1 - level) / 2)


def seeds_needed(
    deviation: float, margin: float, level: float, paired: bool, equivalence: bool = False
) -> int:
    """Seeds of each arm that find a difference of `margin` with a probability of 80 %.

    equivalence: or that find arms which do not differ to be so, within the margin. Both of the two
    one-sided tests (`equivalent`) must then hold, so that each may fail half as often.
    """
    if not deviation:
        return 2
    solver = TTestPower() if paired else TTestIndPower()
    power = (1 + POWER) / 2 if equivalence else POWER
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it warns where two seeds are more than enough
        found = solver.solve_power(margin / deviation, alpha=1 - level, power=power)
    return max(math.ceil(float(np.ravel(found)[0])), 2)


def holm(p: Sequence[float], level: float = 0.95) -> tuple[list[float], list[float]]:
    """Holm's p values of a family, and the level of each comparison's interval.

    An interval of that level excludes zero where Holm's procedure rejects, and only there: it is
    1 - (1 - level) / (m - i) for the i-th smallest p value of m, i from 0, as long as all smaller
    ones are rejected; the first that is not, and all after it, have the level at which it stopped.
    These intervals need not all cover their effects at once: Bonferroni's, which do, are wider.
    """
    gc.freeze()  # or its garbage collection takes 0.2 s with the objects of JAX in memory
    try:
        adjusted = multipletests(p, alpha=1 - level, method='holm')[1]
    finally:
        gc.unfreeze()
    levels, stopped = [level] * len(p), 0.0
    for place, index in enumerate(np.argsort(p, kind='stable')):
        alpha = stopped or (1 - level) / (len(p) - place)
        if p[index] > alpha:
            stopped = alpha
        levels[index] = 1 - alpha
    return [float(value) for value in adjusted], levels


def image_error(a: np.ndarray, b: np.ndarray, paired: bool) -> float:
    """Standard error of error b - error a over test images, of the mean over all seeds.

    Images differ in how often seeds have them right, and, of few seeds, by chance. An interval
    over seeds covers that chance already, so that it is taken off here.

    a, b: bool [seeds, images], which images were right; the images are the same.
    """
    one, two = a.astype(float), b.astype(float)
    parts = [two - one] if paired else [one, two]
    chance = sum(own.var(0, ddof=1).mean() / len(own) for own in parts)
    apart = (two.mean(0) - one.mean(0)).var(ddof=1)
    return math.sqrt(max(float(apart - chance), 0.0) / a.shape[1])


def widened(low: float, high: float, error: float, level: float) -> tuple[float, float]:
    """An interval over seeds that covers test images too, of this standard error (`image_error`).

    Seeds and images are drawn independently, so that squares of half widths add up. A bootstrap of
    both would be narrower than Student's t over seeds alone: it takes five seeds for all there are.
    """
    half = math.hypot((high - low) / 2, scipy.stats.norm.ppf((1 + level) / 2) * error)
    return (low + high) / 2 - half, (low + high) / 2 + half


def mcnemar(a: np.ndarray, b: np.ndarray) -> tuple[int, int, float]:
    """Images that only net a has right, that only b has right, and the exact p of no difference.

    a, b: bool [images].
    """
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    return only_a, only_b, float(_mcnemar(table, exact=True).pvalue)


class Ratio(NamedTuple):
    """How many times as long the runs of arm b take as those of arm a: a ratio of medians."""

    effect: float  # inf or 0 where the median of b or of a is never reached, nan for both
    low: float
    high: float
    censored: tuple[int, int]  # runs of a and b that never reached it


def times_ratio(
    a: Sequence[float | None], b: Sequence[float | None], level: float = 0.95, seed: int = 0
) -> Ratio:
    """Median time of b over that of a, with a bootstrap interval over the runs of each arm.

    None is a run that never reached the threshold. It is longer than every run that did, which is
    all that a median asks of it. A resample with both medians unknown says nothing: it counts as
    0 at the lower end and as infinity at the upper one.

    Raises:
      ValueError: fewer than two runs in an arm.
    """
    arms = [np.array([math.inf if t is None else t for t in arm], float) for arm in (a, b)]
    if min(map(len, arms)) < 2:
        raise ValueError('a ratio needs two runs of each arm')
    rng = np.random.default_rng(seed)
    medians = [_median(arm[rng.integers(len(arm), size=(RESAMPLES, len(arm)))]) for arm in arms]
    with np.errstate(invalid='ignore'):
        ratios = medians[1] / medians[0]
        effect = float(_median(arms[1]) / _median(arms[0]))
    low = np.quantile(
        np.nan_to_num(ratios, nan=0.0, posinf=np.inf), (1 - level) / 2, method='lower'
    )
    high = np.quantile(np.where(np.isnan(ratios), np.inf, ratios), (1 + level) / 2, method='higher')
    counts = tuple(int(np.isinf(arm).sum()) for arm in arms)
    return Ratio(effect, float(low), float(high), (counts[0], counts[1]))


def _median(values: np.ndarray) -> np.ndarray:
    """The median over the last axis; of an even number the upper of the two in the middle if one
    of them is infinite."""
    return np.median(values, axis=-1)


class Effect(NamedTuple):
    """An effect of a factorial: a main effect, or an interaction of two factors."""

    name: str  # 'norm batch - none', 'pool max - average x overlap True - False'
    effect: float
    low: float
    high: float
    p: float
    fields: tuple[str, ...]  # the factors: one, or two of an interaction
    freedom: float  # degrees of it, of the t distribution of the interval
    units: str = 'runs'  # that the interval is over: 'runs' or 'arms'
    corrected: tuple[float, float] = (math.nan, math.nan)  # the interval after Holm's correction

    def at(self, level: float, other: float) -> tuple[float, float]:
        """The interval at another level than the one it was computed at."""
        now, then = (scipy.stats.t.ppf((1 + own) / 2, self.freedom) for own in (level, other))
        half = (self.high - self.low) / 2 * then / now
        return self.effect - half, self.effect + half


def factorial(
    rows: Sequence[Mapping[str, Any]], factors: Mapping[str, Sequence], level: float = 0.95
) -> list[Effect]:
    """Main effects and two-way interactions, by least squares with the seed as a block.

    The arms are the units, each with its mean over the seeds, where there are 5 more of them than
    numbers in the model. For they differ by more than the seeds explain: each has a learning rate
    that was chosen by a few noisy trials, and interactions of three factors are left out. Smaller
    factorials leave nothing to judge that by: their units are the runs, with White's errors HC2,
    since arms need not be equally noisy, and they hold for the learning rates chosen.

    rows: {'value': number, 'seed': int, factor: level, ...}; factors: {name: levels}, the first
    level being the reference. The model has all main effects, all two-way interactions and the
    seeds; what is left is noise and higher interactions. A main effect is the difference of two
    levels, averaged over all settings of the others. An interaction is how much that difference
    changes from one level of the other factor to another (a difference of differences).

    Raises:
      ValueError: a combination of two levels has no row, the arms share too few seeds to tell the
        effects from those of the seeds, or no row is left to judge by.
    """
    contrasts = {name: _contrasts(levels) for name, levels in factors.items()}
    for one, two in itertools.combinations(factors, 2):
        seen = {(row[one], row[two]) for row in rows}
        for pair in itertools.product(factors[one], factors[two]):
            if pair not in seen:
                raise ValueError(f'no row has {one} {pair[0]} and {two} {pair[1]}')
    columns: list[tuple[tuple[str, ...], np.ndarray]] = []
    coded = {name: np.array([contrasts[name][row[name]] for row in rows]) for name in factors}
    for name in factors:
        columns += [((name,), column) for column in coded[name].T]
    for one, two in itertools.combinations(factors, 2):
        products = itertools.product(coded[one].T, coded[two].T)
        columns += [((one, two), first * second) for first, second in products]
    seeds = sorted({row['seed'] for row in rows})
    blocks = [np.array([row['seed'] == seed for row in rows], float) for seed in seeds]
    matrix = np.stack([*blocks, *(column for _, column in columns)], axis=1)
    if len(rows) <= matrix.shape[1] or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise ValueError('the rows are too few, or their arms share too few seeds')
    values = np.array([row['value'] for row in rows], float)
    fit, others, units = OLS(values, matrix).fit(cov_type='HC2'), len(blocks), 'runs'
    arms = list(dict.fromkeys(tuple(row[name] for name in factors) for row in rows))
    if len(arms) >= len(columns) + 1 + SPARE:
        of = np.array([arms.index(tuple(row[name] for name in factors)) for row in rows])
        whole = np.stack([*blocks, *np.eye(len(arms))[1:, of]], axis=1)
        if np.linalg.matrix_rank(whole) < whole.shape[1]:
            raise ValueError('the arms share too few seeds')
        # less what the seeds do; the first arm is the zero of the others
        means = np.insert(OLS(values, whole).fit().params[len(blocks) :], 0, 0.0)
        firsts = [int(np.argmax(of == place)) for place in range(len(arms))]
        own = np.stack([column[firsts] for _, column in columns], axis=1)
        fit, others, units = OLS(means, np.insert(own, 0, 1.0, axis=1)).fit(), 1, 'arms'
    owners = [None] * others + [owner for owner, _ in columns]
    labels, every_weight = [], []
    every: list[tuple[str, ...]] = [(name,) for name in factors]
    for names in (*every, *itertools.combinations(factors, 2)):
        steps = [list(itertools.combinations(factors[name], 2)) for name in names]
        for pairs in itertools.product(*steps):
            ends = [contrasts[name][b] - contrasts[name][a] for name, (a, b) in zip(names, pairs)]
            weights = np.zeros(len(owners))
            weights[[owner == names for owner in owners]] = np.ravel(
                ends[0] if len(ends) == 1 else np.outer(*ends)
            )
            every_weight.append(weights)
            label = ' x '.join(f'{name} {b} - {a}' for name, (a, b) in zip(names, pairs))
            labels.append((label, names))
    # All at once: fit.t_test would compute how all of them vary together, too
    asked = np.array(every_weight)
    means = asked @ fit.params
    spreads = np.sqrt(np.einsum('ij,ij->i', asked @ fit.cov_params(), asked))
    with np.errstate(divide='ignore', invalid='ignore'):  # of values that a model fits exactly
        chance = 2 * scipy.stats.t.sf(np.abs(means / spreads), fit.df_resid)
    half = scipy.stats.t.ppf((1 + level) / 2, fit.df_resid) * spreads
    numbers = np.stack([means, means - half, means + half, chance], axis=1).tolist()
    return [
        Effect(name, mean, low, high, p, own, fit.df_resid, units)
        for (name, own), (mean, low, high, p) in zip(labels, numbers, strict=True)
    ]


def _contrasts(levels: Sequence) -> dict[Any, np.ndarray]:
    """Codes of the levels that sum to zero, so that a main effect is a mean over the others."""
    codes = np.vstack([np.eye(len(levels) - 1), -np.ones(len(levels) - 1)])
    return dict(zip(levels, codes, strict=True))
