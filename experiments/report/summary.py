"""The summary of an experiment: what its rows say of each arm.

Metrics are stored as fractions (0 to 1); a summary holds fractions too. What is meant for a reader
(sentences.py, result_table.py, figures.py) is in percent, differences are in percentage points.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any

from experiments.errors import printable
from experiments.report import factorial
from experiments.report.family import comparisons
from experiments.report.intervals import Interval, interval
from experiments.schema import METRICS
from experiments.workdir import Experiment

MANY = 30  # arms: of more, figures show the best, and sentences compare with the baseline


def arm_rows(experiment: Experiment, arm: str, phase: str) -> list[dict[str, Any]]:
    """Rows of one arm in one phase, 'select' or 'final', whatever their status."""
    return experiment.rows_of.get((arm, phase), [])


def unfinished(experiment: Experiment, arm: str, phase: str) -> list[str]:
    """Names of the runs of one arm and phase that have epochs, but no row yet."""
    return experiment.unfinished.get((arm, phase), [])


def seeds_of(experiment: Experiment, arm: str) -> list[int]:
    """The seeds planned for an arm; not all arms need have all seeds."""
    return experiment.plan.get('arm_seeds', {}).get(arm, experiment.plan['seeds'])


def rates_of(experiment: Experiment, arm: str) -> list[float]:
    """The learning rates tried for an arm; not all arms of several experiments have the same."""
    return experiment.plan.get('arm_rates', {}).get(arm, experiment.plan['rates'])


def unfinished_words(experiment: Experiment, arm: str) -> list[str]:
    """One string per run of the arm that is running or was interrupted: 'seed 3, epoch 4 of 10'."""
    plan, texts = experiment.plan, []
    epochs = plan.get('arm_epochs', {}).get(arm, plan.get('epochs'))
    for phase in ('final', 'select'):
        for name in unfinished(experiment, arm, phase):
            run = plan['runs'][name]
            rate = (
                f' at learning rate {run["learning_rate"]:g} (trial)' if phase == 'select' else ''
            )
            reached = experiment.curves[name][-1]['epoch']
            of = f' of {epochs}' if epochs else ''
            texts.append(f'seed {run["seed"]}{rate}, epoch {reached}{of}')
    return texts


def finished(experiment: Experiment, arm: str) -> dict[int, dict[str, Any]]:
    """{seed: final row} of the seeds of an arm that have a test error, ascending."""
    rows = {
        row['seed']: row
        for row in arm_rows(experiment, arm, 'final')
        if row['status'] == 'done' and 'test/error' in row
    }
    return {seed: rows[seed] for seed in sorted(rows)}


def drawn(
    experiment: Experiment, summary: list[dict[str, Any]]
) -> tuple[Experiment, list[dict[str, Any]]]:
    """What a figure shows of an experiment and its summary: all, or of more than MANY arms the
    baseline and those with the lowest test errors, in the order of the plan.

    The plan then has how many there are, as 'arms_in_all'.
    """
    if len(summary) <= MANY:
        return experiment, summary
    order = sorted(summary[1:], key=lambda arm: (not arm['seeds'], arm['test_error'].mean))
    kept = {arm['arm'] for arm in (summary[0], *order[: MANY - 1])}
    arms = [arm for arm in experiment.plan['arms'] if arm in kept]
    plan = experiment.plan | {'arms': arms, 'arms_in_all': len(summary)}
    return experiment._replace(plan=plan), [arm for arm in summary if arm['arm'] in kept]


def column(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """The values of one key, of the rows that have one."""
    return [row[name] for row in rows if row.get(name) is not None]


def _failures(experiment: Experiment, arm: str) -> list[str]:
    """One string per run of the arm that did not finish, the final runs first."""
    texts = []
    for phase in ('final', 'select'):
        for row in arm_rows(experiment, arm, phase):
            if row['status'] != 'done':
                rate = ''
                if phase == 'select':
                    rate = f' at learning rate {row["learning_rate"]:g} (trial)'
                reason = printable(' '.join((row.get('reason') or 'no reason given').split()))
                texts.append(f'seed {row["seed"]}{rate} {row["status"]}: {reason}')
    return texts


def _missing(experiment: Experiment, arm: str) -> str:
    """Why an arm has fewer results than seeds, e.g. '1 diverged, 2 not run'; '' if it has all."""
    final = arm_rows(experiment, arm, 'final')
    select = arm_rows(experiment, arm, 'select')
    started = any(row['learning_rate'] is not None for row in final)
    if not started and select and all(row['status'] != 'done' for row in select):
        return 'diverged or failed at every learning rate tried'
    counts = {
        status: sum(row['status'] == status for row in final) for status in ('diverged', 'failed')
    }
    counts['unfinished'] = len(unfinished(experiment, arm, 'final'))
    rest = len(seeds_of(experiment, arm)) - len({row['seed'] for row in final})
    counts['not run'] = rest - counts['unfinished']
    return ', '.join(f'{count} {status}' for status, count in counts.items() if count > 0)


def _seconds_per_epoch(experiment: Experiment, arm: str) -> float | None:
    """Median over final runs; epoch 1 may contain compilation and counts only if alone."""
    lines = [
        line
        for row in arm_rows(experiment, arm, 'final')
        for line in experiment.curves.get(row['point'], [])
        if 'seconds' in line
    ]
    lines = [line for line in lines if line['epoch'] >= 2] or lines
    return statistics.median(line['seconds'] for line in lines) if lines else None


def _fields_apart(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many fields two arms differ in."""
    return sum(one.get(field) != other.get(field) for field in {*one, *other})


def _further(experiment: Experiment) -> list[str]:
    """Names of the metrics of test images that only rows know: those of train.evaluate.METRICS."""
    names = dict.fromkeys(name for row in experiment.rows for name in row)
    splits = [name.partition('/') for name in names]
    return sorted(name for split, _, name in splits if split == 'test' and name not in METRICS)


def summarise(experiment: Experiment) -> list[dict[str, Any]]:
    """One dict per arm, in the order of the plan; the first is the baseline. Errors are fractions.

    arm: label. level: of all intervals. learning_rate: the chosen one, None before any final run.
    seeds: how many finished. finished: {seed: row} of these. seeds_expected: how many the plan has.
    missing: why these two differ, e.g. '1 diverged, 1 unfinished' (running or interrupted), or ''.
    test_error, train_error, gap (test minus train, per seed): Interval over finished seeds. Where
        test images were seen in several views and train images in the centre alone, the gap is
        that of the centre.
    centre_error, test_error5: Interval of the test error of the centre alone, where there were
        several views, and of the top-5 test error; of no value (n = 0) where rows have none.
    difference: Interval of test error minus the baseline's, over the seeds that finished in both
        arms (same seed, same data order: paired); None for the baseline itself.
    neighbours: {arm: Interval}, the same against every earlier arm but the baseline from which this
        one differs in one field: the other comparisons of a grid that change one factor; none
        where there are more than MANY arms.
    effects: of all arms together, where they are a full factorial (factorial.py); else []. Arms of
        several experiments have none: they may differ in more than their fields.
    declared: {arm a: Comparison of this arm with a}, of the comparisons that the config declares.
    further: {metric: Interval over finished seeds} of the test split, of metrics that are none of
        the above, as they are stored.
    seconds_per_epoch: median, None if unknown. parameters: count, None if unknown.
    failures: list of strings, e.g. 'seed 3 diverged: loss is nan at step 40'.
    unfinished: list of strings, e.g. 'seed 3, epoch 4 of 10', of runs that are running or stopped.
    data: the data set, where several experiments are compared; arms of another one have no pairs.
    images: which images it has, with the limit on their number where there is one.
    rate_at_edge: the chosen learning rate is the lowest or highest of several tried: a better one
        may lie beyond.
    """
    plan = experiment.plan
    level, origin = plan['level'], plan.get('origin', {})
    done = {arm: finished(experiment, arm) for arm in plan['arms']}
    overrides = {row['arm']: row.get('overrides', {}) for row in experiment.rows}

    def data_of(arm: str) -> str:
        return origin.get(arm, {}).get('data', '')

    def paired(arm: str, reference: str) -> Interval:
        """Test error of an arm minus that of another, over the seeds that both have."""
        same = data_of(arm) == data_of(reference)
        pairs = [seed for seed in done[arm] if same and seed in done[reference]]
        return interval(
            [done[arm][seed]['test/error'] - done[reference][seed]['test/error'] for seed in pairs],
            level,
        )

    pairs = [(a, b) for a, b in plan.get('comparisons', ())]
    errors = {
        arm: {seed: row['test/error'] for seed, row in rows.items()} for arm, rows in done.items()
    }
    declared: dict[str, dict[str, Any]] = {}
    for (a, b), found in comparisons(pairs, errors, level).items():
        declared.setdefault(b, {})[a] = found
    further = _further(experiment)
    effects = [] if origin else factorial.effects(done, level)
    # Every arm beside every other one: of many, more than anyone reads
    grid = plan['arms'][1:] if len(plan['arms']) <= MANY else []
    summary = []
    for place, arm in enumerate(plan['arms']):
        rows = list(done[arm].values())
        rates = rates_of(experiment, arm)
        # None: no learning rate of the grid trained
        chosen = column(arm_rows(experiment, arm, 'final'), 'learning_rate')
        counts = [
            count
            for phase in ('select', 'final')
            for count in column(arm_rows(experiment, arm, phase), 'parameters')
        ]
        gaps = [
            row.get('test/centre_error', row['test/error']) - row['train/error']
            for row in rows
            if 'train/error' in row  # an evaluation has none
        ]
        neighbours = [
            other
            for other in grid[: max(place - 1, 0)]
            if origin.get(arm, {}).get('name') == origin.get(other, {}).get('name')
            and _fields_apart(overrides.get(arm, {}), overrides.get(other, {})) == 1
        ]
        summary.append(
            {
                'arm': arm,
                'level': level,
                'learning_rate': chosen[0] if chosen else None,
                'seeds': len(rows),
                'finished': done[arm],
                'seeds_expected': len(seeds_of(experiment, arm)),
                'missing': _missing(experiment, arm),
                'test_error': interval(column(rows, 'test/error'), level),
                'train_error': interval(column(rows, 'train/error'), level),
                'gap': interval(gaps, level),
                'centre_error': interval(column(rows, 'test/centre_error'), level),
                'test_error5': interval(column(rows, 'test/error5'), level),
                'difference': paired(arm, plan['arms'][0]) if place else None,
                'neighbours': {other: paired(arm, other) for other in neighbours},
                'effects': effects,
                'declared': declared.get(arm, {}),
                'further': {
                    name: interval(column(rows, f'test/{name}'), level) for name in further
                },
                'seconds_per_epoch': _seconds_per_epoch(experiment, arm),
                'parameters': counts[0] if counts else None,
                'failures': _failures(experiment, arm),
                'unfinished': unfinished_words(experiment, arm),
                'data': data_of(arm),
                'images': origin.get(arm, {}).get('images', plan['dataset_note']),
                'rate_at_edge': bool(chosen)
                and len(rates) > 1
                and any(math.isclose(chosen[0], edge) for edge in (min(rates), max(rates))),
            }
        )
    return summary
