"""The numbers of stored speeds: ratios and tables.

A side's number is the median of its rounds. The ratio to PyTorch is ours / theirs within each round
of the variant of theirs that has the highest median; its median, lowest and highest are shown.
"""

import statistics
from typing import NamedTuple

from experiments.tables import Table


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


def _speeds(name: str, entry: dict) -> dict[str, str]:
    """{heading: cell} of a case."""
    theirs, tested = best(entry), best(entry, 'infer')
    return {
        'net': name,
        'batch': str(entry['batch']),
        'images/s': _rate(entry, 'ours'),
        'PyTorch': _rate(entry, theirs),
        'its form': (theirs or '').removeprefix('torch '),
        'ratio': _ratio(entry, theirs),
        'plain flax': _rate(entry, 'plain'),
        'ratio to plain': _ratio(entry, 'plain'),
        'inference images/s': _rate(entry, 'ours', 'infer'),
        'PyTorch inference': _rate(entry, tested, 'infer'),
        'ratio in inference': _ratio(entry, tested, 'infer'),
    }


def _costs(name: str, entry: dict, peak: float) -> dict[str, str]:
    """{heading: cell} of a case; peak: GFLOP/s of a large matrix product."""
    side = entry['sides']['ours']
    gflops = statistics.median(rates(entry, 'ours')) * entry['flop_train'] / 1e9
    waited = statistics.median([round['input_share'] for round in side['train']])
    step = side['memory_mib'].get('step')
    return {
        'net': name,
        'compile, s': f'{side["compile_seconds"]:.1f}',
        'step, MiB': '' if step is None else f'{step:,.0f}',
        'GFLOP/s': f'{gflops:,.0f}' if gflops >= 10 else f'{gflops:.1f}',
        'of the peak, %': f'{100 * gflops / peak:.1f}',
        'input, %': f'{100 * waited:.1f}',
        'host, %': f'{100 * side["host"]["share"]:.1f}',
    }


def _rate(entry: dict, side: str | None, task: str = 'train') -> str:
    found = rates(entry, side, task) if side else []
    if not found:
        return ''
    value = statistics.median(found)
    return f'{value:,.0f}' if value >= 100 else f'{value:.1f}'


def _ratio(entry: dict, other: str | None, task: str = 'train') -> str:
    return str(ratio(entry, other, task) or '')


def tables_of(result: dict) -> list[Table]:
    """The table of speeds and that of costs, without columns that no line fills."""
    found = result['cases'].items()
    speeds = [_speeds(name, entry) for name, entry in found]
    costs = [_costs(name, entry, result['peak_gflops']) for name, entry in found]
    tables: list[Table] = []
    for lines in (speeds, costs):
        kept = [key for key in (lines[0] if lines else ()) if any(line[key] for line in lines)]
        tables.append((kept, [tuple(line[key] for key in kept) for line in lines]))
    return tables


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
    slow = [
        f'{name} in {words} ({compared})'
        for name, entry in result['cases'].items()
        for task, words in (('train', 'training'), ('infer', 'inference'))
        if (compared := ratio(entry, 'plain', task)) and compared.high < 1
    ]
    if slow:
        found.append(f'Slower than plain flax in every round: {", ".join(slow)}.')
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
