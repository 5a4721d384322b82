"""The result table: a line for each arm, for a terminal, Markdown and CSV."""

import csv
import io
import math
import os
from typing import Any

from experiments import tables
from experiments.errors import printable
from experiments.files import write_whole
from experiments.report.intervals import Interval, interval
from experiments.report.sentences import (
    data_note,
    difference_text,
    error_text,
    notes,
    sentences,
    views_notes,
)

HEADINGS = (
    'arm',
    'rate',
    'seeds',
    'test error, %',
    'train error, %',
    'difference, points',
    's/epoch',
)


def table(summary: list[dict[str, Any]]) -> tables.Table:
    """Headings and cells; one arm has no difference to another, and no column for it."""
    headings = [*HEADINGS, *(f'test {name}' for name in summary[0]['further'])]
    kept = [n for n, head in enumerate(headings) if len(summary) > 1 or 'difference' not in head]
    lines = [[line[n] for n in kept] for line in cells(summary)]
    return [headings[n] for n in kept], lines


def cells(summary: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table as strings, one tuple per arm, in the order of HEADINGS, then further metrics."""
    rows: list[tuple[str, ...]] = []
    for arm in summary:
        rate, seconds = arm['learning_rate'], arm['seconds_per_epoch']
        rows.append(
            (
                arm['arm'],
                '-' if rate is None else f'{rate:g}{"*" if arm["rate_at_edge"] else ""}',
                f'{arm["seeds"]}/{arm["seeds_expected"]}',
                error_text(arm['test_error']),
                error_text(arm['train_error']),
                difference_text(arm['difference']),
                '-' if seconds is None else f'{seconds:.2g}' if seconds < 10 else f'{seconds:.0f}',
                *map(_plain, arm['further'].values()),
            )
        )
    return rows


def _plain(value: Interval) -> str:
    """An interval in the unit that it is stored in: '0.0312 ± 0.0021'."""
    if not value.n:
        return '-'
    half = (value.high - value.low) / 2
    return f'{value.mean:.3g}' + (f' ± {half:.2g}' if math.isfinite(half) else '')


def terminal(summary: list[dict[str, Any]]) -> tables.Terminal:
    """The table for a console, with the notes as its caption."""
    caption = '\n'.join([data_note(summary), *notes(summary)])
    return tables.Terminal(*table(summary), caption=caption)


def markdown(summary: list[dict[str, Any]]) -> str:
    """The table and its sentences as Markdown."""
    lines = [data_note(summary), *sentences(summary), *views_notes(summary)]
    listed = ''.join(f'- {tables.as_markdown(line)}\n' for line in lines)
    return f'{tables.markdown(*table(summary))}\n{listed}'


_CSV_INTERVALS = (  # key of the summary, name of the columns, unit
    ('test_error', 'test_error', 'percent'),
    ('train_error', 'train_error', 'percent'),
    ('difference', 'difference_to_baseline', 'points'),
    ('gap', 'test_minus_train', 'points'),
    ('centre_error', 'test_error_of_centre', 'percent'),
    ('test_error5', 'top5_test_error', 'percent'),
)


def _cell(text: str) -> str:
    """A text that a spreadsheet shows as it is: one that it would compute gets an apostrophe."""
    text = printable(text)
    return f"'{text}" if text.lstrip().startswith(('=', '+', '-', '@')) else text


def write_csv(path: str | os.PathLike, summary: list[dict[str, Any]]) -> None:
    """Writes the summary as CSV, one line per arm, units in the column names, unknown values empty.

    The intervals are over seeds and for single comparisons (see intervals.py). Where test
    images were seen in several views, test_minus_train is that of the centre, as train's is.

    Raises OSError (disk full, read-only).
    """
    lines = []
    for arm in summary:
        line: dict[str, Any] = {
            key: arm[key] for key in ('arm', 'parameters', 'learning_rate', 'rate_at_edge')
        }
        line |= {'seeds_finished': arm['seeds'], 'seeds_planned': arm['seeds_expected']}
        line['interval_level'] = arm['level']
        for key, name, unit in _CSV_INTERVALS:
            value = arm[key] or interval([])
            for part in ('mean', 'low', 'high'):
                number = getattr(value, part)
                known = math.isfinite(number)
                line[f'{name}_{part}_{unit}'] = round(100 * number, 6) if known else None
        for name, value in arm['further'].items():
            for part in ('mean', 'low', 'high'):
                number = getattr(value, part)
                line[f'test_{name}_{part}'] = number if math.isfinite(number) else None
        line['difference_pairs'] = arm['difference'].n if arm['difference'] else None
        line['seconds_per_epoch'] = arm['seconds_per_epoch']
        line['failures'] = '; '.join(arm['failures'])
        lines.append(
            {key: _cell(value) if isinstance(value, str) else value for key, value in line.items()}
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    write_whole(path, text.getvalue())
