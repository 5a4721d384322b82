"""Time of a training step against batch, image side and depth, and on several devices.

    python -m experiments.benchmark --sizes [NAME ...] [--out FILE.json]
    python -m experiments.benchmark --figure OUT.png FILE.json

NAME is one of SERIES or 'devices'. Time = a * size^b is fitted by least squares on logarithms; b is
given with its standard error. On several virtual devices of a CPU, which share its cores, the
time of the step stands beside that of its all-reduce alone: the mean over the devices of a tree of
the net's gradients and metrics. Each number of devices is measured in a process of its own.
"""

import json
import math
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.ticker
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from experiments import machine, style, tables
from experiments.benchmark import measure as benchmark
from experiments.benchmark import ours as benchmark_ours
from experiments.benchmark import tables as benchmark_show
from experiments.benchmark.cases import CASES, Case
from experiments.errors import UserError, one_of, reason
from experiments.train.evaluate import AXIS
from experiments.train.parallel import parallel


class Series(NamedTuple):
    """Cases that differ in one size."""

    size: str  # what the sizes are
    cases: dict[int, Case]


_BATCHES = (16, 32, 64, 128, 256, 512)
SERIES = {
    'lenet5_batch': Series('batch', {n: CASES['lenet5']._replace(batch=n) for n in _BATCHES}),
    'four_layer_batch': Series(
        'batch', {n: CASES['four_layer']._replace(batch=n) for n in _BATCHES}
    ),
    'resnet18_side': Series(
        'side',
        {n: Case('resnet18', 8, side=n, small=False) for n in (32, 64, 96, 128, 160, 192, 224)},
    ),
    'resnet_depth': Series('depth', {n: Case(f'resnet{n}', 128) for n in (20, 56, 110)}),
}
UNITS = {'batch': 'images a step', 'side': 'image side, pixels', 'depth': 'weight layers'}
DEVICES = (1, 2, 4)
SCALED = ('lenet5', 'four_layer')
HEADINGS = ('net', 'size', 'ms a step', 'images/s')
DEVICE_HEADINGS = ('net', 'devices', 'ms a step', 'all-reduce alone, ms', 'of the step, %')


class Fit(NamedTuple):
    """time = factor * size^exponent, seconds; error: the exponent's standard error."""

    exponent: float
    error: float
    factor: float


def fit(sizes, seconds) -> Fit:
    """Least squares on logarithms; the error is nan for two points."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float))
    spread = ((x - x.mean()) ** 2).sum()
    exponent = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    left = y - y.mean() - exponent * (x - x.mean())
    freedom = len(x) - 2
    error = math.sqrt((left**2).sum() / freedom / spread) if freedom > 0 else math.nan
    return Fit(exponent, error, float(np.exp(y.mean() - exponent * x.mean())))


# --- measuring ---------------------------------------------------------------------------------


def run(args) -> int:
    """Measures the series that are not stored yet, and prints them."""
    for name in args.names:
        if name not in SERIES and name != 'devices':
            raise one_of('series', name, (*SERIES, 'devices'))
    settings = {name: getattr(args, name) for name in ('dtype', 'rounds', 'seconds')}
    result = benchmark.begun(args, 'sizes', settings, 'series', args.names or SERIES)
    result.setdefault('devices', {})
    if args.again and (not args.names or 'devices' in args.names):
        result['devices'] = {}
    benchmark.go_on(result, ('series', 'devices'), benchmark.environment())
    try:
        for name, series in SERIES.items():
            if not args.names or name in args.names:
                _measure_series(name, series, result, args)
        if not args.names or 'devices' in args.names:
            _measure_devices(result, args)
    except KeyboardInterrupt:
        return benchmark.interrupted(args, 'what was measured')
    print_tables(result)
    if args.out:
        print(f'stored in {args.out}')
    return 0


def _measure_series(name, series, result, args):
    stored = result['series'].setdefault(name, {'size': series.size, 'points': {}})
    for size, case in series.cases.items():
        if str(size) in stored['points']:
            continue
        side = benchmark_ours.Side(case, devices=1, dtype=args.dtype)
        rounds = [side.train(args.seconds) for _ in range(args.rounds)]
        times = [case.batch / one['images_per_second'] for one in rounds]
        stored['points'][str(size)] = {
            'seconds': times,
            'batch': case.batch,
            'compile_seconds': side.compile_seconds,
        }
        benchmark.store(result, args.out)
        print(f'{name}: {series.size} {size}: {1000 * np.median(times):,.1f} ms a step', flush=True)


def _measure_devices(result, args):
    for net in SCALED:
        for devices in DEVICES:
            if str(devices) in result['devices'].setdefault(net, {}):
                continue
            words = [
                sys.executable,
                '-m',
                'experiments.benchmark.sizes',
                net,
                str(devices),
                str(args.rounds),
                str(args.seconds),
                args.dtype,
            ]
            done = subprocess.run(words, capture_output=True, text=True, start_new_session=True)
            if done.returncode:
                last = (done.stderr.strip() or 'no message').splitlines()[-1]
                print(f'{net} on {devices} devices left out: {last}', flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            result['devices'][net][str(devices)] = found
            benchmark.store(result, args.out)
            print(
                f'{net} on {devices} devices: {1000 * np.median(found["seconds"]):,.1f} ms a '
                f'step, its all-reduce alone {1000 * np.median(found["all_reduce"]):,.2f} ms',
                flush=True,
            )


def scaled(net: str, devices: int, rounds: int, seconds: float, dtype: str) -> dict:
    """{'seconds', 'all_reduce'}: those of a step and of its all-reduce alone, per round."""
    side = benchmark_ours.Side(CASES[net], devices=devices, dtype=dtype)

    def mean(tree, part):
        # different on each device, so that there is something to reduce
        return jax.lax.pmean(jax.tree.map(lambda leaf: leaf + part.astype(leaf.dtype), tree), AXIS)

    together = parallel(mean, devices, donate=False)
    tree = (side.state.params, side.state.batch_stats, jnp.zeros(2))
    parts = np.arange(devices, dtype=np.float32)
    found = {'seconds': [], 'all_reduce': []}
    for _ in range(2):  # compiled for where the first tree lies, and for where its mean does
        tree = jax.block_until_ready(together(tree, parts))
    for _ in range(rounds):
        found['seconds'].append(side.case.batch / side.train(seconds)['images_per_second'])
        count, begin = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - begin < seconds / 2:
            jax.block_until_ready(together(tree, parts))
            count += 1
        found['all_reduce'].append((time.perf_counter() - begin) / count)
    return found


# --- showing -----------------------------------------------------------------------------------


def _points(stored):
    """(sizes, median seconds), ascending."""
    pairs = sorted(
        (int(size), float(np.median(point['seconds']))) for size, point in stored['points'].items()
    )
    return [size for size, _ in pairs], [seconds for _, seconds in pairs]


def _net(name, stored):
    """What a series is of: its name without its size."""
    return name.removesuffix(f'_{stored["size"]}')


def series_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per point in the order of HEADINGS."""
    lines = []
    for name, stored in result['series'].items():
        for size, seconds in zip(*_points(stored), strict=True):
            batch = stored['points'][str(size)]['batch']
            lines.append(
                (
                    _net(name, stored),
                    f'{stored["size"]} {size}',
                    f'{1000 * seconds:,.1f}',
                    f'{batch / seconds:,.0f}',
                )
            )
    return lines


def device_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per net and number of devices in the order of DEVICE_HEADINGS."""
    lines = []
    for net, found in result['devices'].items():
        for devices, one in sorted(found.items(), key=lambda item: int(item[0])):
            step, together = np.median(one['seconds']), np.median(one['all_reduce'])
            lines.append(
                (
                    net,
                    devices,
                    f'{1000 * step:,.1f}',
                    f'{1000 * together:,.2f}',
                    f'{100 * together / step:.1f}',
                )
            )
    return lines


def notes(result: dict) -> list[str]:
    """The fitted exponents in words."""
    return [
        f'{_net(name, stored)}: time ~ {stored["size"]}^{_exponent(fit(*_points(stored)))}'
        for name, stored in result['series'].items()
        if len(stored['points']) > 1
    ]


def _exponent(fitted):
    if math.isnan(fitted.error):
        return f'{fitted.exponent:.2f}'
    return f'{fitted.exponent:.2f} ± {fitted.error:.2f}'


def markdown(result: dict) -> str:
    """README's tables."""
    printed = [
        tables.markdown(headings, lines)
        for headings, lines in (
            (HEADINGS, series_cells(result)),
            (DEVICE_HEADINGS, device_cells(result)),
        )
        if lines
    ]
    lines = [*notes(result), benchmark_show.where(result)]
    return '\n'.join([*printed, ''.join(f'- {line}\n' for line in lines)])


def print_tables(result: dict) -> None:
    """The same for a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for headings, lines in (
        (HEADINGS, series_cells(result)),
        (DEVICE_HEADINGS, device_cells(result)),
    ):
        if lines:
            console.print(tables.table(headings, lines))
    for line in notes(result):
        print(line)


def render(result: dict) -> Figure:
    """Step time against each kind of size, logarithmic, with the fitted lines; and on devices.

    Raises UserError where nothing is stored.
    """
    kinds = list(
        dict.fromkeys(stored['size'] for stored in result['series'].values() if stored['points'])
    )
    scaling = {net: found for net, found in result['devices'].items() if found}
    count = len(kinds) + bool(scaling)
    if not count:
        raise UserError('the file holds no measurement: measure with --sizes --out FILE.json.')
    figure = Figure((3.6 * count + 0.6, 4.2), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    panels = list(np.atleast_1d(figure.subplots(1, count)))
    for axes, kind in zip(panels, kinds):
        _draw_series(axes, kind, result)
    if scaling:
        _draw_devices(panels[-1], scaling)
    figure.suptitle(
        f'Time of a training step, {benchmark_show.label(result)}', fontsize=11, x=0.01, ha='left'
    )
    return figure


def _draw_series(axes, kind, result):
    chosen = {
        name: stored
        for name, stored in result['series'].items()
        if stored['size'] == kind and stored['points']
    }
    ticks = set()
    for index, (name, stored) in enumerate(chosen.items()):
        sizes, seconds = _points(stored)
        ticks |= set(sizes)
        milli = 1000 * np.array(seconds)
        rounds = (
            1000
            * np.array(
                [
                    [min(point['seconds']), max(point['seconds'])]
                    for point in (stored['points'][str(size)] for size in sizes)
                ]
            ).T
        )
        words = _net(name, stored).replace('_', ' ')
        line = fit(sizes, seconds) if len(sizes) > 1 else None
        words += f': exponent {_exponent(line)}' if line else ''
        colour = style.COLOURS[index]
        axes.errorbar(
            sizes,
            milli,
            yerr=np.abs(rounds - milli),
            fmt='o',
            ms=4,
            color=colour,
            capsize=2,
            lw=1.2,
            label=words,
        )
        if line:
            axes.plot(
                sizes,
                1000 * line.factor * np.array(sizes, float) ** line.exponent,
                color=colour,
                lw=1,
                alpha=0.7,
            )
    axes.set_xscale('log')
    _frame(axes, sorted(ticks), UNITS[kind])


def _draw_devices(axes, scaling):
    for index, (net, found) in enumerate(scaling.items()):
        devices = sorted(map(int, found))
        for key, marker, words in (('seconds', 'o-', 'step'), ('all_reduce', 's--', 'all-reduce')):
            axes.plot(
                devices,
                [1000 * np.median(found[str(n)][key]) for n in devices],
                marker,
                ms=4,
                lw=1.2,
                color=style.COLOURS[index],
                label=f'{net.replace("_", " ")}: {words}',
            )
    axes.set_xscale('log')
    _frame(axes, sorted({int(n) for found in scaling.values() for n in found}), 'devices')


def _frame(axes, ticks, words):
    axes.set_yscale('log')
    while len(ticks) > 6:
        ticks = ticks[::2] if ticks[-1] == ticks[::2][-1] else [*ticks[::2], ticks[-1]]
    axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(ticks))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter('%d'))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter('%g'))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.margins(x=0.08)
    axes.set_xlabel(words)
    axes.set_ylabel('ms a step')
    axes.grid(alpha=0.25)
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.1, high * (high / low) ** 0.35)  # room for the legend
    axes.legend(frameon=False, fontsize=8, loc='upper left')


def draw(found: list[dict], path: str) -> None:
    """Writes the figure of one stored file as .png or .svg."""
    if len(found) > 1:
        raise UserError('sizes are drawn one file at a time.')
    style.save(render(found[0]), path)


def main(argv=None) -> int:
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
