"""Time of a training step against batch, image side and depth, and on several devices.

    python -m experiments.benchmark --sizes [NAME ...] [--out FILE.json]
    python -m experiments.benchmark --figure OUT.png FILE.json

NAME is one of SERIES or 'devices'. Time = a * size^b is fitted by least squares on logarithms; b is
given with its standard error. On several virtual devices of a CPU, which share its cores, the
time of the step stands beside that of its all-reduce alone: the mean over the devices of a tree of
the net's gradients and metrics. Each number of devices is measured in a process of its own.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.ticker
import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import machine, style
from experiments.benchmark import ours, stored
from experiments.benchmark.cases import CASES, Case
from experiments.benchmark.meters import seconds_of
from experiments.benchmark.tables import label, where
from experiments.errors import UserError, one_of, reason
from experiments.tables import Table
from experiments.train.evaluate import AXIS
from experiments.train.parallel import parallel


class Series(NamedTuple):
    """Cases that differ in one size."""

    size: str  # 'batch', 'side' or 'depth'
    cases: dict[int, Case]


SCALED = ('lenet5', 'four_layer')
_BATCHES = (16, 32, 64, 128, 256, 512)
_SIDES = (32, 64, 96, 128, 160, 192, 224)
SERIES = {
    f'{name}_batch': Series('batch', {n: CASES[name]._replace(batch=n) for n in _BATCHES})
    for name in SCALED
} | {
    'resnet18_side': Series('side', {n: Case('resnet18', 8, side=n) for n in _SIDES}),
    'resnet_depth': Series('depth', {n: Case(f'resnet{n}', 128) for n in (20, 56, 110)}),
}
UNITS = {'batch': 'images a step', 'side': 'image side, pixels', 'depth': 'weight layers'}
DEVICES = (1, 2, 4)
HEADINGS = ('net', 'size', 'ms a step', 'images/s')
DEVICE_HEADINGS = ('net', 'devices', 'ms a step', 'all-reduce alone, ms', 'of the step, %')


class Fit(NamedTuple):
    """time = factor * size^exponent, seconds; error: the exponent's standard error."""

    exponent: float
    error: float
    factor: float

    def __str__(self):
        if math.isnan(self.error):
            return f'{self.exponent:.2f}'
        return f'{self.exponent:.2f} ± {self.error:.2f}'


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares on logarithms; the error is nan for two sizes."""
    line = scipy.stats.linregress(np.log(sizes), np.log(seconds))
    error = float(line.stderr) if len(sizes) > 2 else math.nan
    return Fit(float(line.slope), error, float(np.exp(line.intercept)))


# --- measuring ---------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> stored.Result:
    """Measures the series that are not stored yet, and returns all of the result."""
    for name in args.names:
        if name not in SERIES and name != 'devices':
            raise one_of('series', name, (*SERIES, 'devices'))
    settings = {name: getattr(args, name) for name in ('dtype', 'rounds', 'seconds')}
    result = stored.begun(args, 'sizes', settings, args.names or SERIES)
    result.setdefault('devices', {})
    if args.again and (not args.names or 'devices' in args.names):
        result['devices'] = {}
    stored.go_on(result)
    with stored.interruptible(args, result):
        for name, series in SERIES.items():
            if not args.names or name in args.names:
                _measure_series(name, series, result, args)
        if not args.names or 'devices' in args.names:
            _measure_devices(result, args)
    return result


def _measure_series(
    name: str, series: Series, result: stored.Result, args: argparse.Namespace
) -> None:
    points = result['series'].setdefault(name, {'size': series.size, 'points': {}})['points']
    for size, case in series.cases.items():
        if str(size) in points:
            continue
        side = ours.Side(case, devices=1, dtype=args.dtype)
        rounds = [side.train(args.seconds) for _ in range(args.rounds)]
        times = [case.batch / one['images_per_second'] for one in rounds]
        points[str(size)] = {
            'seconds': times,
            'batch': case.batch,
            'compile_seconds': side.compile_seconds,
        }
        stored.store(result, args.out)
        print(f'{name}: {series.size} {size}: {1000 * np.median(times):,.1f} ms a step', flush=True)


def _measure_devices(result: stored.Result, args: argparse.Namespace) -> None:
    for net in SCALED:
        for devices in DEVICES:
            if str(devices) in result['devices'].setdefault(net, {}):
                continue
            words = (net, devices, args.rounds, args.seconds, args.dtype)
            command = [sys.executable, '-m', 'experiments.benchmark.sizes', *map(str, words)]
            done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
            if done.returncode:
                last = (done.stderr.strip() or 'no message').splitlines()[-1]
                print(f'{net} on {devices} devices left out: {last}', flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            result['devices'][net][str(devices)] = found
            stored.store(result, args.out)
            print(
                f'{net} on {devices} devices: {1000 * np.median(found["seconds"]):,.1f} ms a '
                f'step, its all-reduce alone {1000 * np.median(found["all_reduce"]):,.2f} ms',
                flush=True,
            )


def scaled(net: str, devices: int, rounds: int, seconds: float, dtype: str) -> dict:
    """{'seconds', 'all_reduce'}: those of a step and of its all-reduce alone, per round."""
    side = ours.Side(CASES[net], devices=devices, dtype=dtype)

    def mean(tree, number):
        # different on each device, so that there is something to reduce
        moved = jax.tree.map(lambda leaf: leaf + number.astype(leaf.dtype), tree)
        return jax.lax.pmean(moved, AXIS)

    together = parallel(mean, devices, donate=False)
    tree = (side.state.params, side.state.batch_stats, jnp.zeros(2))
    numbers = np.arange(devices, dtype=np.float32)
    found: dict[str, list[float]] = {'seconds': [], 'all_reduce': []}
    for _ in range(2):  # compiled for where the first tree lies, and for where its mean does
        tree = jax.block_until_ready(together(tree, numbers))
    for _ in range(rounds):
        found['seconds'].append(side.case.batch / side.train(seconds)['images_per_second'])
        found['all_reduce'].append(
            seconds_of(lambda: jax.block_until_ready(together(tree, numbers)), seconds / 2)
        )
    return found


# --- showing -----------------------------------------------------------------------------------


def _points(series: dict) -> dict[int, float]:
    """{size: median seconds}, ascending."""
    points = sorted((int(size), point['seconds']) for size, point in series['points'].items())
    return {size: float(np.median(seconds)) for size, seconds in points}


def _fit(series: dict) -> Fit | None:
    """The fit to the medians; None for one size."""
    points = _points(series)
    return fit(list(points), list(points.values())) if len(points) > 1 else None


def _net(name: str, series: dict) -> str:
    """The net of a series: its name without its size."""
    return name.removesuffix(f'_{series["size"]}')


def tables_of(result: dict) -> list[Table]:
    """Headings and lines of the tables that have any: of the series, and of the devices."""
    sized: list[tuple[str, ...]] = []
    for name, series in result['series'].items():
        for size, seconds in _points(series).items():
            rate = series['points'][str(size)]['batch'] / seconds
            words = f'{series["size"]} {size}', f'{1000 * seconds:,.1f}', f'{rate:,.0f}'
            sized.append((_net(name, series), *words))
    shared: list[tuple[str, ...]] = []
    for net, found in result['devices'].items():
        for devices, one in sorted(found.items(), key=lambda item: int(item[0])):
            step, together = np.median(one['seconds']), np.median(one['all_reduce'])
            share = f'{100 * together / step:.1f}'
            shared.append((net, devices, f'{1000 * step:,.1f}', f'{1000 * together:,.2f}', share))
    found = ((HEADINGS, sized), (DEVICE_HEADINGS, shared))
    return [(headings, lines) for headings, lines in found if lines]


def notes(result: dict) -> list[str]:
    """The fitted exponents in words, then the machine."""
    fitted = [
        f'{_net(name, series)}: time ~ {series["size"]}^{line}'
        for name, series in result['series'].items()
        if (line := _fit(series))
    ]
    return [*fitted, where(result)]


def render(results: list[dict]) -> Figure:
    """Step time against each kind of size, logarithmic, with the fitted lines; and on devices.

    It takes one result. Raises UserError where nothing is stored.
    """
    (result,) = results
    series = result['series'].values()
    kinds = list(dict.fromkeys(one['size'] for one in series if one['points']))
    scaling = {net: found for net, found in result['devices'].items() if found}
    count = len(kinds) + bool(scaling)
    if not count:
        raise UserError('the file holds no measurement: measure with --sizes --out FILE.json.')
    figure = style.canvas(3.6 * count + 0.6, 4.2)
    panels = list(np.atleast_1d(figure.subplots(1, count)))
    for axes, kind in zip(panels, kinds):
        _draw_series(axes, kind, result)
    if scaling:
        _draw_devices(panels[-1], scaling)
    figure.suptitle(f'Time of a training step, {label(result)}', fontsize=11, x=0.01, ha='left')
    return figure


def _draw_series(axes: Axes, kind: str, result: dict) -> None:
    ticks: set[int] = set()
    chosen = [(name, one) for name, one in result['series'].items() if one['size'] == kind]
    for index, (name, series) in enumerate(item for item in chosen if item[1]['points']):
        points = _points(series)
        ticks.update(points)
        sizes = np.array(list(points))
        milli = 1000 * np.array(list(points.values()))
        rounds = [series['points'][str(size)]['seconds'] for size in points]
        ends = 1000 * np.array([[min(times), max(times)] for times in rounds]).T
        line, words = _fit(series), _net(name, series).replace('_', ' ')
        words += f': exponent {line}' if line else ''
        colour, bars = style.colour(index), abs(ends - milli)
        axes.errorbar(
            sizes, milli, bars, fmt='o', ms=4, color=colour, capsize=2, lw=1.2, label=words
        )
        if line:
            fitted = 1000 * line.factor * sizes.astype(float) ** line.exponent
            axes.plot(sizes, fitted, color=colour, lw=1, alpha=0.7)
    axes.set_xscale('log')
    _frame(axes, sorted(ticks), UNITS[kind])


def _draw_devices(axes: Axes, scaling: dict[str, dict]) -> None:
    for index, (net, found) in enumerate(scaling.items()):
        devices = sorted(map(int, found))
        for key, marker, words in (('seconds', 'o-', 'step'), ('all_reduce', 's--', 'all-reduce')):
            axes.plot(
                devices,
                [1000 * np.median(found[str(n)][key]) for n in devices],
                marker,
                ms=4,
                lw=1.2,
                color=style.colour(index),
                label=f'{net.replace("_", " ")}: {words}',
            )
    axes.set_xscale('log')
    _frame(axes, sorted({int(n) for found in scaling.values() for n in found}), 'devices')


def _frame(axes: Axes, ticks: list[int], words: str) -> None:
    axes.set_yscale('log')
    while len(ticks) > 6:
        ticks = ticks[::2] if ticks[-1] == ticks[::2][-1] else [*ticks[::2], ticks[-1]]
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.margins(x=0.08)
    axes.set_xlabel(words)
    axes.set_ylabel('ms a step')
    axes.grid(alpha=0.25)
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.1, high * (high / low) ** 0.35)  # room for the legend
    axes.legend(frameon=False, fontsize=8, loc='upper left')


def main(argv: list[str] | None = None) -> int:
    """One number of devices in a process of its own: NET DEVICES ROUNDS SECONDS DTYPE."""
    net, devices, rounds, seconds, dtype = sys.argv[1:] if argv is None else argv
    try:
        machine.prepare()
        jax.config.update('jax_num_cpu_devices', int(devices))
        print(json.dumps(scaled(net, int(devices), int(rounds), float(seconds), dtype)))
    except Exception as error:
        print(reason(error), file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
