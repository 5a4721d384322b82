"""The numbers of a stored benchmark: ratios, tables and a figure.

A side's number is the median of its rounds. The ratio to PyTorch is ours / theirs within each round
of the variant of theirs that has the highest median; its median, lowest and highest are shown.
"""

import statistics
from typing import Any, NamedTuple

import matplotlib.ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from experiments import style, tables
from experiments.errors import UserError

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
        side: median(values) for side, values in found.items() if values and len(values) == full
    }
    return max(medians, key=medians.get, default=None)


def ratio(entry: dict, other: str | None, task: str = 'train', side: str = 'ours') -> Ratio | None:
    """`side` / `other`, round by round; None where one of them was not measured."""
    if other is None:
        return None
    pairs = [one / two for one, two in zip(rates(entry, side, task), rates(entry, other, task))]
    return Ratio(median(pairs), min(pairs), max(pairs)) if pairs else None


def geometric_mean(result: dict, other: str | None = None, task: str = 'train'):
    """(mean, cases) of the median ratios to the best of PyTorch, or to `other`; (None, 0)."""
    found = [ratio(entry, other or best(entry, task), task) for entry in result['cases'].values()]
    found = [one.median for one in found if one]
    return (statistics.geometric_mean(found), len(found)) if found else (None, 0)


# --- tables ------------------------------------------------------------------------------------


def speed_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per case in the order of SPEED."""
    lines = []
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
    lines = []
    for name, entry in result['cases'].items():
        side = entry['sides']['ours']
        gflops = median(rates(entry, 'ours')) * entry['flop_train'] / 1e9
        waited = median([round['input_share'] for round in side['train']])
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


def _rate(entry, side, task='train'):
    value = median(rates(entry, side, task)) if side else None
    if value is None:
        return ''
    return f'{value:,.0f}' if value >= 100 else f'{value:.1f}'


def _text(value: Any) -> str:
    return '' if value is None else str(value)


def _without_empty(headings, lines):
    """The table without columns that no line fills."""
    kept = [i for i in range(len(headings)) if any(line[i] for line in lines)]
    return [headings[i] for i in kept], [tuple(line[i] for i in kept) for line in lines]


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


def where(result: dict) -> str:
    """The machine, the versions and the date of a result."""
    found = result['environment']
    parts = [
        found['cpu'] if found['platform'] == 'cpu' else found['device'],
        f'{found["cores"]} cores',
        f'Python {found["python"]}',
        f'jax {found["versions"]["jax"]}',
    ]
    if 'torch' in found:
        parts.append(f'PyTorch {found["torch"]["torch"]} ({found["torch"]["threads"]} threads)')
    devices = result['settings'].get('devices')
    parts += [f'{devices} devices'] if devices else []
    parts += [result['settings']['dtype']]
    if 'peak_gflops' in result:
        parts += [f'large matrix product {result["peak_gflops"]:,.0f} GFLOP/s']
    return ', '.join([*parts, f'load before {found["load"][0]:.1f}', found['date']]) + '.'


def markdown(result: dict) -> str:
    """README's tables of a stored benchmark."""
    printed = [
        tables.markdown(*_without_empty(headings, lines))
        for headings, lines in ((SPEED, speed_cells(result)), (COST, cost_cells(result)))
    ]
    return '\n'.join([*printed, ''.join(f'- {line}\n' for line in notes(result))])


def print_tables(result: dict) -> None:
    """The same for a terminal."""
    import sys

    console = Console(width=None if sys.stdout.isatty() else 200)
    for headings, lines in ((SPEED, speed_cells(result)), (COST, cost_cells(result))):
        console.print(tables.table(*_without_empty(headings, lines)))
    for line in notes(result):
        print(line)


# --- figure ------------------------------------------------------------------------------------


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


def render(found: list[dict]) -> Figure:
    """Ratio to PyTorch of every case: a dot with the spread of its rounds, a colour per file.

    Where plain flax was measured too, its ratio is a hollow square. Raises UserError where no file
    has a ratio.
    """
    names = list(
        dict.fromkeys(
            name
            for result in found
            for name, entry in result['cases'].items()
            if ratio(entry, best(entry))
        )
    )
    if not names:
        raise UserError('the files hold no ratio to PyTorch: measure with --against torch.')
    height = 1.6 + len(names) * (0.22 + 0.16 * len(found))
    figure = Figure((9, height), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(1, color='black', lw=0.8)
    ends = [1.0]
    for index, result in enumerate(found):
        colour = style.COLOURS[index % len(style.COLOURS)]
        shift = (index - (len(found) - 1) / 2) * 0.7 / len(found)
        mean, count = geometric_mean(result)
        where = result['environment']
        words = (f'{where["cpu"]}, ' if where['platform'] == 'cpu' else '') + label(result)
        plain = f'plain flax, {words}'
        words += f' (geometric mean of {count}: {mean:.2f})' if count > 1 else ''
        for name, entry in result['cases'].items():
            one, other = ratio(entry, best(entry)), ratio(entry, best(entry), side='plain')
            if not one:
                continue
            y = names.index(name) + shift
            axes.errorbar(
                one.median,
                y,
                xerr=[[one.median - one.low], [one.high - one.median]],
                fmt='o',
                color=colour,
                ms=5,
                capsize=3,
                lw=1.4,
                label=words,
            )
            words = None
            ends += [one.low, one.high]
            if other:
                axes.plot(other.median, y, 's', color=colour, mfc='white', ms=4, label=plain)
                plain = None
                ends.append(other.median)
    axes.set_xscale('log', base=2)
    axes.set_xlim(min(ends) / 1.15, max(ends) * 1.15)
    axes.xaxis.set_major_locator(
        matplotlib.ticker.FixedLocator(
            [tick for tick in _TICKS if min(ends) / 1.15 <= tick <= max(ends) * 1.15]
        )
    )
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter('%g'))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_yticks(range(len(names)), [name.replace('_', ' ') for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)
    axes.grid(axis='x', alpha=0.25)
    axes.set_xlabel(
        'training images/s, ours / PyTorch (median, lowest and highest round); '
        'right of 1, ours is faster'
    )
    axes.set_title('Training step beside the best of PyTorch', loc='left', fontsize=11)
    entries = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True),
        key=lambda entry: entry[1].startswith('plain'),
    )
    figure.legend(
        *zip(*entries, strict=True), loc='outside lower center', frameon=False, fontsize=8, ncols=1
    )
    return figure


_TICKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 50)


def draw(found: list[dict], path: str) -> None:
    """Writes the figure as .png or .svg."""
    style.save(render(found), path)
