"""From the rows of an experiment to a verdict: the rules, the same for every claim.

An effect is a difference of two arms or a ratio of two times, with its interval. The margin is
declared before the runs: an effect inside of it counts as nothing.

    the interval lies inside the margin                         equivalent
    it lies on the claimed side of nothing                      supported
    it lies on the other side                                   contradicted
    otherwise                                                   not resolved, and the seeds it takes

So "supported" and "contradicted" tell the side of an effect. They do not say that it is larger than
the margin: its interval does.

A claim that there is no difference (direction 0) is equivalent inside the margin, contradicted
outside of it, and not resolved where the interval crosses the margin. Whatever the interval, a
comparison is not resolved while an arm lacks seeds, while a run diverged (where the metric cannot
count it), or while a chosen learning rate is the lowest or the highest that was tried.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.claim import (
    CONTRADICTED,
    EQUIVALENT,
    NOT_RESOLVED,
    SUPPORTED,
    Claim,
    Verdict,
    unit_of,
)
from experiments.errors import counted
from experiments.report import family, statistics
from experiments.report.family import LEAST, Comparison
from experiments.report.images import by_image
from experiments.report.summary import arm_rows, finished, seeds_of
from experiments.workdir import Experiment

Row = dict[str, Any]
CHANCE = 0.85  # train error, a fraction, of a run that learned nothing about ten classes


def test_error(row: Row) -> float | None:
    """In percent."""
    return 100 * row['test/error']


def train_error(row: Row) -> float | None:
    """Measured after the training, in percent."""
    return 100 * row['train/error']


def gap(row: Row) -> float | None:
    """Test error minus train error, in percentage points."""
    return 100 * (row.get('test/centre_error', row['test/error']) - row['train/error'])


def measured(row: Row, name: str, key: str, epoch: str = '') -> float:
    """A value of a measure, after the last epoch unless another is given."""
    return values_of(row, name, epoch)[key]


def values_of(row: Row, name: str, epoch: str = '') -> dict[str, Any]:
    """All values of a measure, after the last epoch unless another is given."""
    epochs = row['measures'][name]
    return epochs[epoch or max(epochs, key=int)]


class Sample(NamedTuple):
    """The final runs of one arm."""

    values: dict[int, float]  # of the seeds that finished
    trouble: str  # why they cannot be judged as they are, or ''
    stuck: str  # how many learned nothing, or ''


def _value(metric: Callable[[Row], float | None], row: Row) -> float | None:
    """A metric of a row; None where the row lacks what it is made of, or holds no number."""
    return metric(row) if _has(metric, row) else None


def _has(metric: Callable[[Row], float | None], row: Row) -> bool:
    """Whether a row has what a metric is made of, and no value that is no number."""
    try:
        value = metric(row)
    except KeyError:
        return False
    return value is None or math.isfinite(value)


def sample(experiment: Experiment, arm: str, metric: Callable[[Row], float | None]) -> Sample:
    """The values of a metric of one arm, by seed."""
    rows = arm_rows(experiment, arm, 'final')
    values = {row['seed']: _value(metric, row) for row in rows if row['status'] == 'done'}
    known = {seed: value for seed, value in values.items() if value is not None}
    stuck = sum(row['status'] == 'done' and row.get('train/error', 0) >= CHANCE for row in rows)
    planned = len(seeds_of(experiment, arm))
    others = [row['status'] for row in rows if row['status'] != 'done']
    if others:
        trouble = f'{len(others)} of {planned} runs of {arm} {others[0]}'
    elif len(values) < planned:
        trouble = f'{len(values)} of {planned} runs of {arm} have finished'
    elif len(known) < len(values):
        trouble = _lacks(len(values) - len(known), arm)
    else:
        trouble = edge(experiment, arm)
    return Sample(known, trouble, f'{stuck} of {planned} runs of {arm}' if stuck else '')


def edge(experiment: Experiment, arm: str) -> str:
    """Why an arm's learning rate may not be the best one, or ''."""
    tried = {row['learning_rate'] for row in arm_rows(experiment, arm, 'select')}
    chosen = {row['learning_rate'] for row in arm_rows(experiment, arm, 'final')}
    ends = {min(tried), max(tried)} if len(tried) > 1 else set()
    if chosen & ends:
        return f'the learning rate of {arm}, {min(chosen):g}, is at the edge of those tried'
    return ''


def trials(experiment: Experiment, arm: str) -> dict[float, list[float]]:
    """Validation errors in percent by learning rate, of its trials: 100 if diverged."""
    found: dict[float, list[float]] = {}
    for row in arm_rows(experiment, arm, 'select'):
        error = 100 * row['validation/error'] if row['status'] == 'done' else 100.0
        found.setdefault(row['learning_rate'], []).append(error)
    return found


def comparisons(
    experiment: Experiment,
    metric: Callable[[Row], float | None],
    pairs: Sequence[tuple[str, str]] = (),
) -> dict[tuple[str, str], family.Comparison]:
    """The family of comparisons that the experiment declares, unless other pairs are given."""
    pairs = [(a, b) for a, b in pairs or experiment.plan.get('comparisons', ())]
    arms = {arm: sample(experiment, arm, metric).values for pair in pairs for arm in pair}
    return family.comparisons(pairs, arms, experiment.plan['level'])


def decided(low: float, high: float, margin: float, direction: int) -> str:
    """The verdict of an interval; margin 0 or more, direction of the claim +1, -1 or 0."""
    if -margin < low and high < margin:
        return EQUIVALENT
    if not direction:
        return CONTRADICTED if low > margin or high < -margin else NOT_RESOLVED
    if direction * low > 0 and direction * high > 0:
        return SUPPORTED
    return CONTRADICTED if direction * low < 0 and direction * high < 0 else NOT_RESOLVED


def difference(
    claim: Claim,
    experiment: Experiment,
    a: str,
    b: str,
    metric: Callable[[Row], float | None] = test_error,
) -> Verdict:
    """The verdict on arm b minus arm a, with Holm's correction over the plan's family.

    A comparison that the plan does not declare is one more of them.
    """
    samples = [sample(experiment, arm, metric) for arm in (a, b)]
    data, least = experiment.plan.get('dataset', ''), min(len(own.values) for own in samples)
    if least < LEAST:
        text = next((own.trouble for own in samples if own.trouble), 'too few seeds')
        return Verdict(NOT_RESOLVED, f'{text}.', seeds=least, data=data)
    # the same comparison may be declared the other way round
    declared = [tuple(pair) for pair in experiment.plan.get('comparisons', ())]
    pairs = [(a, b) if {a, b} == set(pair) else pair for pair in declared]
    found = comparisons(experiment, metric, list(dict.fromkeys([*pairs, (a, b)])))[a, b]
    margin, level = claim.margin or 0.0, experiment.plan['level']
    own = found.corrected
    verdict = decided(own.low, own.high, margin, claim.direction)
    text = f'{b} minus {a}: {own.effect:+.2f} {claim.unit}, {_interval(own)} ({_method(found)})'
    text += f', inside the margin of {margin:g}.' if verdict == EQUIVALENT else '.'
    rows = finished(experiment, a), finished(experiment, b)
    if metric is test_error and (images := by_image(*rows, found.raw.paired)):
        low, high = images.widened(found.raw.low / 100, found.raw.high / 100, level)
        text += f' Over seeds and test images, uncorrected: [{100 * low:+.2f}, {100 * high:+.2f}].'
    trouble = next((one.trouble for one in samples if one.trouble), '')
    stuck = ' and '.join(one.stuck for one in samples if one.stuck)
    text += f' {stuck} learned nothing.' if stuck else ''
    if trouble:
        verdict, text = NOT_RESOLVED, f'{text} {trouble}.'
    elif verdict == NOT_RESOLVED and margin and not stuck:
        text += _needed(own, margin, found.level, claim)
    pair = f'{b} minus {a}'
    return Verdict(verdict, text, own.effect, own.low, own.high, own.n, data, 'seeds', pair)


def _needed(own: statistics.Difference, margin: float, level: float, claim: Claim) -> str:
    """How many seeds would tell an effect of the margin's size from none, whichever it is.

    Beside it those that would find the effect seen, where that is larger than the margin, or where
    there are seeds enough for the margin. Where an effect is there and its size is open, those that
    would tell it from the margin. Sizes of ratios are their logarithms.
    """
    crosses = own.low <= 0 <= own.high
    sizes = [(margin, '{} from none'), (abs(own.effect), '{}, the effect seen, from none')]
    if not crosses:  # there is an effect; what is open is whether it counts
        sizes = [(abs(margin - abs(own.effect)), 'the effect seen from the margin')]
    texts: list[str] = []
    for size, what in sizes:
        if texts and size <= margin:
            break
        same = crosses and size == margin
        count = statistics.seeds_needed(own.deviation, size, level, own.paired, same) if size else 0
        if count > own.n:
            number = f'{math.exp(size) if claim.unit == "times" else size:.3g}'
            if claim.unit == 'times':
                many = f'a ratio of {number}'
            else:
                many = f'{number} {unit_of(number, claim.unit)}'
            texts.append(f' To tell {what.format(many)} takes about {count:,} seeds an arm.')
    return ''.join(texts)


def _interval(own: statistics.Difference) -> str:
    return f'[{own.low:+.2f}, {own.high:+.2f}]'


def _method(found: Comparison) -> str:
    how = 'paired by seed' if found.raw.paired else 'unpaired'
    if not math.isnan(found.raw.correlation):
        how += f', correlation {found.raw.correlation:+.2f}'
    raw, own = found.raw, found.corrected
    if (raw.low, raw.high) != (own.low, own.high):
        how += f'; uncorrected {_interval(raw)}'
    return how


def ratio(
    claim: Claim,
    experiment: Experiment,
    a: str,
    b: str,
    times: Callable[[Row], float | None],
    of_times: bool = True,
) -> Verdict:
    """The verdict on how many times as long arm b takes as arm a; None is a run that never does.

    of_times: or, if not, on how many times as large its value is. A run that diverged never gets
    to a training error, but has no value.

    claim.margin is a factor above 1: a ratio between 1 / margin and margin counts as nothing. A
    bootstrap has no p value for Holm's procedure, so the interval is Bonferroni's, over the plan's
    family and this comparison.
    """
    arms, troubles = [], []
    data = experiment.plan.get('dataset', '')
    for arm in (a, b):
        rows = arm_rows(experiment, arm, 'final')
        # a run that diverged never reached the threshold either
        counts = ('done', 'diverged') if of_times else ('done',)
        ended = [row for row in rows if row['status'] in counts]
        known = [row for row in ended if row['status'] == 'diverged' or _has(times, row)]
        arms.append([times(row) if row['status'] == 'done' else None for row in known])
        planned = len(seeds_of(experiment, arm))
        if len(known) < len(ended):
            troubles.append(_lacks(len(ended) - len(known), arm))
        elif len(ended) < planned:
            troubles.append(f'{len(ended)} of {planned} runs of {arm} have finished')
        elif edge(experiment, arm):
            troubles.append(edge(experiment, arm))
    least = min(map(len, arms))
    if least < LEAST:
        text = troubles[0] if troubles else 'too few seeds'
        return Verdict(NOT_RESOLVED, f'{text}.', seeds=least, data=data)
    level = experiment.plan['level']
    family = {frozenset(pair) for pair in experiment.plan.get('comparisons', ())} | {
        frozenset((a, b))
    }
    own = 1 - (1 - level) / len(family)
    found = statistics.times_ratio(arms[0], arms[1], own)
    margin = math.log(claim.margin or 1.0)
    with np.errstate(divide='ignore'):
        low, high = np.log([found.low, found.high])
    verdict = decided(low, high, margin, claim.direction)
    text = _took(
        found, a, b, 'takes {} times as long as' if of_times else 'has {} times the value of'
    )
    if len(family) > 1 and 0 < found.effect < math.inf:
        text += f' (uncorrected {_bounds(statistics.times_ratio(arms[0], arms[1], level))})'
    text += '.'
    for arm, count, all_ in zip((a, b), found.censored, map(len, arms)):
        if count:
            text += f' {count} of {all_} runs of {arm} never got there.'
    if troubles:
        verdict, text = NOT_RESOLVED, f'{text} {troubles[0]}.'
    elif verdict == NOT_RESOLVED and margin and not any(found.censored):
        # the variance of a median is pi / 2 times that of a mean
        spread = math.sqrt(math.pi / 2 * np.mean([np.var(np.log(arm), ddof=1) for arm in arms]))
        logs = statistics.Difference(
            math.log(found.effect), low, high, math.nan, least, False, math.nan, spread
        )
        text += _needed(logs, margin, own, claim)
    return Verdict(
        verdict, text, _finite(found.effect), _finite(found.low), _finite(found.high), least, data,
        'seeds', f'{b} over {a}',
    )  # fmt: skip


def _lacks(count: int, arm: str) -> str:
    return f'{counted(count, "run")} of {arm} {"has" if count == 1 else "have"} no such value'


def _took(found: statistics.Ratio, a: str, b: str, words: str) -> str:
    """A ratio in words; 0, infinity and nan are of arms whose median run never got there."""
    never = 'the median run of {} never got there, that of {} did'
    if math.isnan(found.effect):
        return f'the median runs of {a} and {b} never got there'
    if math.isinf(found.effect):
        bound = f': at least {found.low:.2f} times as long' if 0 < found.low < math.inf else ''
        return never.format(b, a) + bound
    if not found.effect:
        bound = f': at most {found.high:.2f} times as long' if 0 < found.high < math.inf else ''
        return never.format(a, b) + bound
    return f'{b} {words.format(f"{found.effect:.2f}")} {a}, {_bounds(found)}'


def _bounds(found: statistics.Ratio) -> str:
    low = f'{found.low:.2f}' if found.low else 'no lower bound'
    high = f'{found.high:.2f}' if math.isfinite(found.high) else 'no upper bound'
    return f'[{low}, {high}]'


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim of several parts: contradicted if any is, supported only if all are.

    The numbers are those of the first part that decides, whose text comes first.
    """
    kinds = [one.verdict for one in verdicts]
    order = (CONTRADICTED, NOT_RESOLVED, EQUIVALENT)
    verdict = next((kind for kind in order if kind in kinds), SUPPORTED)
    place = kinds.index(verdict)
    parts = [verdicts[place], *verdicts[:place], *verdicts[place + 1 :]]
    text = ' '.join(one.text for one in parts)
    seeds = min(one.seeds for one in verdicts)
    return parts[0]._replace(text=text, seeds=seeds, other=place > 0)
