"""The numbers of stored speeds: ratios and tables.

A side's number is the median of its rounds. The ratio to PyTorch is ours / theirs within each round
of the variant of theirs that has the highest median; its median, lowest and highest are shown.
"""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.tables import Lines, Table

SPEED = (
    'net',
    'batch',
    'images/s',
    'PyTorch',
    'its form',
    'ratio',
    'plain flax',
    'ratio to plain',
    'inference images/s',
    'PyTorch inference',
    'ratio in inference',
)
COST = ('net', 'compile, s', 'step, MiB', 'GFLOP/s', 'of the peak, %', 'input, %', 'host, %')


class Ratio(NamedTuple):
    """Median, lowest and highest of the rounds' ratios."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f'{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]'


def rates(entry: dict, side: str, task: str = 'train') -> list[float]:
    """Images/s of each round of one side of a case; [] where it was not measured."""
    stored = entry['sides'].get(side, {})
    return [round['images_per_second'] for round in stored.get(task, [])]


def median(values: list[float]) -> float | None:
    """None of no values."""
    return statistics.median(values) if values else None


def best(entry: dict, task: str = 'train') -> str | None:
    """The PyTorch variant whose median is the highest, among those measured in every round."""
    found = {
        side: rates(entry, side, task)
        for side, stored in entry['sides'].items()
        if side.startswith('torch') and 'error' not in stored
    }
    full = max(map(len, found.values()), default=0)
    medians = {
        side: statistics.median(values)
        for side, values in found.items()
        if values and len(values) == full
    }
    return max(medians, key=lambda side: medians[side], default=None)


def ratio(entry: dict, other: str | None, task: str = 'train', side: str = 'ours') -> Ratio | None:
    """`side` / `other`, round by round; None where one of them was not measured."""
    if other is None:
        return None
    pairs = [one / two for one, two in zip(rates(entry, side, task), rates(entry, other, task))]
    return spread(pairs) if pairs else None


def spread(ratios: list[float]) -> Ratio:
    """The ratios of the rounds, at least one."""
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def geometric_mean(
    result: dict, other: str | None = None, task: str = 'train'
) -> tuple[float | None, int]:
    """(mean, cases) of the median ratios to the best of PyTorch, or to `other`; (None, 0)."""
    ratios = [ratio(entry, other or best(entry, task), task) for entry in result['cases'].values()]
    found = [one.median for one in ratios if one]
    return (statistics.geometric_mean(found), len(found)) if found else (None, 0)


# --- tables ------------------------------------------------------------------------------------


def speed_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per case in the order of SPEED."""
    lines: list[tuple[str, ...]] = []
    for name, entry in result['cases'].items():
        theirs, tested = best(entry), best(entry, 'infer')
        lines.append(
            (
                name,
                str(entry['batch']),
                _rate(entry, 'ours'),
                _rate(entry, theirs),
                (theirs or '').removeprefix('torch '),
                _text(ratio(entry, theirs)),
                _rate(entry, 'plain'),
                _text(ratio(entry, 'plain')),
                _rate(entry, 'ours', 'infer'),
                _rate(entry, tested, 'infer'),
                _text(ratio(entry, tested, 'infer')),
            )
        )
    return lines


def cost_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per case in the order of COST."""
    lines: list[tuple[str, ...]] = []
    for name, entry in result['cases'].items():
        side = entry['sides']['ours']
        gflops = statistics.median(rates(entry, 'ours')) * entry['flop_train'] / 1e9
        waited = statistics.median([round['input_share'] for round in side['train']])
        step = side['memory_mib'].get('step')
        lines.append(
            (
                name,
                f'{side["compile_seconds"]:.1f}',
                '' if step is None else f'{step:,.0f}',
                f'{gflops:,.0f}' if gflops >= 10 else f'{gflops:.1f}',
                f'{100 * gflops / result["peak_gflops"]:.1f}',
                f'{100 * waited:.1f}',
                f'{100 * side["host"]["share"]:.1f}',
            )
        )
    return lines


def _rate(entry: dict, side: str | None, task: str = 'train') -> str:
    value = median(rates(entry, side, task)) if side else None
    if value is None:
        return ''
    return f'{value:,.0f}' if value >= 100 else f'{value:.1f}'


def _text(value: Any) -> str:
    return '' if value is None else str(value)


def _without_empty(headings: Sequence[str], lines: Lines) -> Table:
    """The table without columns that no line fills."""
    kept = [i for i in range(len(headings)) if any(line[i] for line in lines)]
    return [headings[i] for i in kept], [tuple(line[i] for i in kept) for line in lines]


def tables_of(result: dict) -> list[Table]:
    """Headings and lines of both tables, without empty columns."""
    return [_without_empty(SPEED, speed_cells(result)), _without_empty(COST, cost_cells(result))]


def notes(result: dict) -> list[str]:
    """The means under the table, and on what it was measured."""
    found = []
    for words, other, task in (
        ('PyTorch', None, 'train'),
        ('plain flax', 'plain', 'train'),
        ('PyTorch in inference', None, 'infer'),
    ):
        mean, count = geometric_mean(result, other, task)
        if mean is not None:
            found.append(f'Geometric mean of the ratios to {words} over {count} nets: {mean:.2f}.')
    return [*found, where(result)]


def label(result: dict) -> str:
    """What tells one stored benchmark from another: its device, versions, devices and type."""
    where, settings = result['environment'], result['settings']
    parts = [f'jax {where["versions"]["jax"]}', f'Python {where["python"]}']
    if where['platform'] != 'cpu':
        parts.insert(0, where['device'])
    if settings.get('devices'):
        parts.append(f'{settings["devices"]} devices')
    if settings['dtype'] != 'float32':
        parts.append(settings['dtype'])
    return ', '.join(parts)


def where(result: dict) -> str:
    """The machine, the versions and the date of a result."""
    found, settings = result['environment'], result['settings']
    parts = [
        found['cpu'] if found.get('platform', 'cpu') == 'cpu' else found['device'],
        f'{found["cores"]} cores',
        f'Python {found["python"]}',
        f'jax {found["versions"]["jax"]}',
    ]
    if 'torch' in found:
        parts.append(f'PyTorch {found["torch"]["torch"]} ({found["torch"]["threads"]} threads)')
    if settings.get('devices'):
        parts.append(f'{settings["devices"]} devices')
    if 'dtype' in settings:
        parts.append(settings['dtype'])
    if 'peak_gflops' in result:
        parts += [f'large matrix product {result["peak_gflops"]:,.0f} GFLOP/s']
    return ', '.join([*parts, f'load before {found["load"][0]:.1f}', found['date']]) + '.'
