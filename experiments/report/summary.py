"""Result rows: how they are stored, read back and summarised.

Rows are lines of JSON that are only ever appended, so a crash can damage at most the last one.
Metrics are stored as fractions (0..1); everything meant for a reader (table, CSV, sentences) is in
percent or percentage points.

What the intervals mean. Every interval is a Student t interval over seeds, so it covers what a seed
changes: initialisation and order of the data. It does not cover the sampling of the test images,
which all seeds share. Each is made for one comparison; none is corrected for several comparisons
being made at once.
"""

import csv
import io
import math
import os
import statistics
from typing import Any, NamedTuple

import numpy as np
import rich.box
import rich.table
import rich.text
import scipy.stats

from experiments.files import write_whole
from experiments.workdir import Experiment


class Interval(NamedTuple):
    """Mean of n values with the two ends of its confidence interval (nan where n is too small)."""

    mean: float
    low: float
    high: float
    n: int


# ---- files


# ---- statistics


def interval(values, level: float = 0.95) -> Interval:
    """Student t interval of the mean: mean +- t(n - 1, (1 + level) / 2) * s / sqrt(n).

    One value has a mean and no interval (nan); no value has neither.

    Raises ValueError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f'level is {level}: it must lie between 0 and 1, e.g. 0.95')
    values = np.asarray(list(values), np.float64)
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(scipy.stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def arm_rows(experiment: Experiment, arm: str, phase: str) -> list[dict[str, Any]]:
    """Rows of one arm in one phase, 'select' or 'final', whatever their status."""
    return [row for row in experiment.rows if row['arm'] == arm and row['phase'] == phase]


def seeds_of(experiment: Experiment, arm: str) -> list[int]:
    """The seeds planned for an arm; not all arms need have all seeds."""
    return experiment.plan.get('arm_seeds', {}).get(arm, experiment.plan['seeds'])


def finished(experiment: Experiment, arm: str) -> dict[int, dict[str, Any]]:
    """{seed: final row} of the seeds of an arm that have a test error, ascending."""
    rows = {
        row['seed']: row
        for row in arm_rows(experiment, arm, 'final')
        if row['status'] == 'done' and 'test/error' in row
    }
    return {seed: rows[seed] for seed in sorted(rows)}


def _failures(experiment, arm):
    """One string per point of the arm that did not finish, the final ones first."""
    texts = []
    for phase in ('final', 'select'):
        for row in arm_rows(experiment, arm, phase):
            if row['status'] != 'done':
                rate = f' at rate {row["learning_rate"]:g} (selection)' if phase == 'select' else ''
                reason = ' '.join(str(row.get('reason') or 'no reason given').split())
                texts.append(f'seed {row["seed"]}{rate} {row["status"]}: {reason}')
    return texts


def _missing(experiment, arm):
    """Why an arm has fewer results than seeds, e.g. '1 diverged, 2 not run'; '' if it has all."""
    final = arm_rows(experiment, arm, 'final')
    select = arm_rows(experiment, arm, 'select')
    started = any(row['learning_rate'] is not None for row in final)
    if not started and select and all(row['status'] != 'done' for row in select):
        return 'diverged or failed at every rate tried'
    counts = {
        status: sum(row['status'] == status for row in final) for status in ('diverged', 'failed')
    }
    counts['not run'] = len(seeds_of(experiment, arm)) - len({row['seed'] for row in final})
    return ', '.join(f'{count} {status}' for status, count in counts.items() if count > 0)


def _seconds_per_epoch(experiment, arm):
    """Median over final points; epoch 1 may contain compilation and counts only if alone."""
    lines = [
        line
        for row in arm_rows(experiment, arm, 'final')
        for line in experiment.curves.get(row['point'], [])
        if 'seconds' in line
    ]
    lines = [line for line in lines if line['epoch'] >= 2] or lines
    return statistics.median(line['seconds'] for line in lines) if lines else None


def _column(rows, name, level):
    return interval([row[name] for row in rows.values() if row.get(name) is not None], level)


def _fields_apart(one, other):
    return sum(one.get(field) != other.get(field) for field in {*one, *other})


def summarise(experiment: Experiment) -> list[dict[str, Any]]:
    """One dict per arm, in the order of the plan; the first is the baseline. Errors are fractions.

    arm: label. level: of all intervals. learning_rate: the chosen one, None before any final point.
    seeds: how many finished. seeds_expected: how many the plan has for it.
    missing: why these two differ, e.g. '1 diverged', or ''.
    test_error, train_error, gap (test minus train, per seed): Interval over finished seeds. Where
        test images were seen in several views and train images in the centre alone, the gap is
        that of the centre.
    centre_error, test_error5: Interval of the test error of the centre alone, where there were
        several views, and of the top-5 test error; of no value (n = 0) where rows have none.
    difference: Interval of test error minus the baseline's, over the seeds that finished in both
        arms (same seed, same data order: paired); None for the baseline itself.
    neighbours: {arm: Interval}, the same against every earlier arm but the baseline from which this
        one differs in one field: the other comparisons of a grid that change one factor.
    seconds_per_epoch: median, None if unknown. parameters: count, None if unknown.
    failures: list of strings, e.g. 'seed 3 diverged: loss is nan at step 40'.
    rate_at_edge: the chosen rate is the lowest or highest of several tried: a better one may lie
        beyond.
    """
    plan = experiment.plan
    level, rates = plan['level'], plan['rates']
    done = {arm: finished(experiment, arm) for arm in plan['arms']}
    overrides = {row['arm']: row.get('overrides', {}) for row in experiment.rows}

    def paired(arm, reference):
        pairs = [seed for seed in done[arm] if seed in done[reference]]
        return interval(
            [done[arm][seed]['test/error'] - done[reference][seed]['test/error'] for seed in pairs],
            level,
        )

    summary = []
    for place, arm in enumerate(plan['arms']):
        rows = done[arm]
        chosen = [
            row['learning_rate']
            for row in arm_rows(experiment, arm, 'final')
            if row['learning_rate'] is not None
        ]  # None: no rate of the grid trained
        counts = [
            row['parameters']
            for row in experiment.rows
            if row['arm'] == arm and row.get('parameters') is not None
        ]
        neighbours = [
            other
            for other in plan['arms'][1:place]
            if _fields_apart(overrides.get(arm, {}), overrides.get(other, {})) == 1
        ]
        summary.append(
            {
                'arm': arm,
                'level': level,
                'learning_rate': chosen[0] if chosen else None,
                'seeds': len(rows),
                'seeds_expected': len(seeds_of(experiment, arm)),
                'missing': _missing(experiment, arm),
                'test_error': interval([row['test/error'] for row in rows.values()], level),
                'train_error': interval([row['train/error'] for row in rows.values()], level),
                'gap': interval(
                    [
                        row.get('test/centre_error', row['test/error']) - row['train/error']
                        for row in rows.values()
                    ],
                    level,
                ),
                'centre_error': _column(rows, 'test/centre_error', level),
                'test_error5': _column(rows, 'test/error5', level),
                'difference': paired(arm, plan['arms'][0]) if place else None,
                'neighbours': {other: paired(arm, other) for other in neighbours},
                'seconds_per_epoch': _seconds_per_epoch(experiment, arm),
                'parameters': counts[0] if counts else None,
                'failures': _failures(experiment, arm),
                'rate_at_edge': bool(chosen)
                and len(rates) > 1
                and any(math.isclose(chosen[0], edge) for edge in (min(rates), max(rates))),
            }
        )
    return summary


# ---- words and tables


def percent(level: float) -> str:
    """0.95 -> '95 %'."""
    return f'{100 * level:g} %'


def _decimals(points):
    """Digits after the point, 1 to 3: enough that neither end nor half width is rounded to 0."""
    ends = (points.high - points.mean, points.low, points.high)
    smallest = min((abs(end) for end in ends if abs(end) > 1e-9), default=abs(points.mean))
    return next((digits for digits in (1, 2) if round(smallest, digits)), 3)


def sentence(arm: dict[str, Any], reference: dict[str, Any], level: float) -> str:
    """What the paired test errors support, in one sentence and no more than that.

    Args: two dicts of `summarise`, reference being the baseline or a neighbour of arm; level is the
    one of their intervals.

    The interval is for this comparison alone, over seeds (see the module docstring).
    """
    name, other = arm['arm'], reference['arm']
    difference = arm['neighbours'].get(other, arm['difference'])
    than = f' than {other}'
    if other in arm['neighbours']:
        name, than = f'{name} against {other}', ''
    for one in (arm, reference):
        if not one['seeds']:
            return f'{name}: no comparison, because {one["arm"]} has no result ({one["missing"]})'
    n, expected = difference.n, arm['seeds_expected']
    if n == 0:
        return f'{name}: no comparison, because no seed finished both here and in {other}'
    points = Interval(*(100 * value for value in difference[:3]), n)
    digits = _decimals(points)
    mean, low, high = (f'{value:+z.{digits}f}' for value in points[:3])
    some = f' ({n} of {expected} planned seeds)' if n < expected else ''
    if n == 1:
        return (
            f'{name}: {mean} points against {other} with 1 seed{some}: one seed gives no '
            'interval, so no conclusion'
        )
    if points.high - points.low < 1e-9:
        same = abs(points.mean) < 1e-9
        what = 'exactly the same test error as' if same else f'{mean} points against'
        return (
            f'{name}: {what} {other} with every one of {n} seeds{some}: no spread between '
            'seeds, so the interval has no width and supports no conclusion'
        )
    text = f'{name}: {mean} points, {percent(level)} interval {low} to {high}: '
    if points.high < 0:
        return f'{text}lower test error{than}{some}'
    if points.low > 0:
        return f'{text}higher test error{than}{some}'
    return f'{text}no detectable difference with {n} seeds{some and f" (of {expected} planned)"}'


def sentences(summary: list[dict[str, Any]]) -> list[str]:
    """One sentence per comparison: every arm with the baseline, then with its neighbours."""
    named = {arm['arm']: arm for arm in summary}
    return [
        sentence(arm, named[other], arm['level'])
        for arm in summary[1:]
        for other in (summary[0]['arm'], *arm['neighbours'])
    ]


def notes(summary: list[dict[str, Any]]) -> list[str]:
    """The small print of a table: what the intervals cover, rates at the edge, failures."""
    texts = [
        f'Intervals: {percent(summary[0]["level"])} Student t over seeds, so they cover '
        'initialisation and data order, not the sampling of test images. Each is for one '
        'comparison, not corrected for several comparisons. Differences are paired by seed, '
        f'to {summary[0]["arm"]}.'
    ]
    texts += views_notes(summary)
    if any(arm['rate_at_edge'] for arm in summary):
        texts.append('* lowest or highest of the rates tried: a better one may lie beyond.')
    texts += [f'{arm["arm"]}: {failure}' for arm in summary for failure in arm['failures']]
    return texts


def views_notes(summary: list[dict[str, Any]]) -> list[str]:
    """What else there is to say of test errors that are of several views."""
    seen = [arm for arm in summary if arm['centre_error'].n]
    if not seen:
        return []
    errors = '; '.join(
        f'{arm["arm"]}: {_error_cell(arm["centre_error"])}, '
        f'{_difference_cell(arm["gap"])} above train'
        for arm in seen
    )
    return [
        'Test errors are of other views of an image than train errors, those of its centre. '
        'The test error of the centre, %, and its points above the train error: '
        f'{errors}.'
    ]


def top5_notes(summary: list[dict[str, Any]]) -> list[str]:
    """The top-5 test errors, where they were counted."""
    seen = [arm for arm in summary if arm['test_error5'].n]
    errors = '; '.join(f'{arm["arm"]}: {_error_cell(arm["test_error5"])}' for arm in seen)
    return [f'Top-5 test error, %: {errors}.'] if seen else []


def _error_cell(error):
    if error.n < 2:
        return f'{100 * error.mean:.2f}' if error.n else '-'
    return f'{100 * error.mean:.2f} ± {100 * (error.high - error.mean):.2f}'


def _difference_cell(difference):
    if difference is None:
        return 'baseline'
    if difference.n < 2:
        return f'{100 * difference.mean:+z.2f}' if difference.n else '-'
    mean, low, high = (f'{100 * value:+z.2f}' for value in difference[:3])
    return f'{mean} [{low}, {high}]'


HEADINGS = (
    'arm',
    'rate',
    'seeds',
    'test error, %',
    'train error, %',
    'difference, points',
    's/epoch',
)


def cells(summary: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table as strings, one tuple per arm, in the order of HEADINGS."""
    rows = []
    for arm in summary:
        rate, seconds = arm['learning_rate'], arm['seconds_per_epoch']
        rows.append(
            (
                arm['arm'],
                '-' if rate is None else f'{rate:g}{"*" if arm["rate_at_edge"] else ""}',
                f'{arm["seeds"]}/{arm["seeds_expected"]}',
                _error_cell(arm['test_error']),
                _error_cell(arm['train_error']),
                _difference_cell(arm['difference']),
                '-' if seconds is None else f'{seconds:.2g}' if seconds < 10 else f'{seconds:.0f}',
            )
        )
    return rows


def table(summary: list[dict[str, Any]]) -> rich.table.Table:
    """Table for a console of 100 columns, with `notes` as its caption."""
    # Text, not str: a label may hold square brackets, which rich would take for markup.
    grid = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        caption_justify='left',
        caption=rich.text.Text('\n'.join(notes(summary))),
        caption_style='dim',
    )
    for index, heading in enumerate(HEADINGS):
        grid.add_column(heading, justify='right' if index else 'left', no_wrap=index > 0)
    for row in cells(summary):
        grid.add_row(*(rich.text.Text(cell) for cell in row))
    return grid


_CSV_INTERVALS = (  # key of the summary, name of the columns, unit
    ('test_error', 'test_error', 'percent'),
    ('train_error', 'train_error', 'percent'),
    ('difference', 'difference_to_baseline', 'points'),
    ('gap', 'test_minus_train', 'points'),
    ('centre_error', 'test_error_of_centre', 'percent'),
    ('test_error5', 'top5_test_error', 'percent'),
)


def write_csv(path: str | os.PathLike, summary: list[dict[str, Any]]) -> None:
    """Writes the summary as CSV, one line per arm, units in the column names, unknown values empty.

    The intervals are over seeds and for single comparisons (see the module docstring). Where test
    images were seen in several views, test_minus_train is that of the centre, as train's is.

    Raises OSError (disk full, read-only).
    """
    lines = []
    for arm in summary:
        line = {key: arm[key] for key in ('arm', 'parameters', 'learning_rate', 'rate_at_edge')}
        line |= {
            'seeds_finished': arm['seeds'],
            'seeds_planned': arm['seeds_expected'],
            'interval_level': arm['level'],
        }
        for key, name, unit in _CSV_INTERVALS:
            value = arm[key] or interval([])
            for part in ('mean', 'low', 'high'):
                number = getattr(value, part)
                known = math.isfinite(number)
                line[f'{name}_{part}_{unit}'] = round(100 * number, 6) if known else None
        line['difference_pairs'] = arm['difference'].n if arm['difference'] else None
        line['seconds_per_epoch'] = arm['seconds_per_epoch']
        line['failures'] = '; '.join(arm['failures'])
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    write_whole(path, text.getvalue())
