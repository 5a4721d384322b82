"""Trains every point of a config and ends with a table, a figure and a report.

    python -m experiments.run --config configs/ablate_pooling.py
    python -m experiments.run --config configs/ablate_pooling.py:mnist --only pool=max,seed=0
    python -m experiments.run --config configs/lenet_mnist.py --config.train.epochs=2 --dry_run

The same command again continues where it stopped: finished points are skipped. Exit status: 0 all
well, 1 some point diverged or failed, 2 a mistake in what was asked, 130 interrupted.
"""

import argparse
import pathlib
import shlex
import signal
import sys

if __name__ == '__main__':  # until main takes over, Ctrl-C in the imports ends without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import data, machine, train
from experiments.errors import UserError, reason
from experiments.plan import config as configs
from experiments.plan import sweep
from experiments.runner import inputs, interrupts, runner
from experiments.train import optim
from experiments.workdir import Store

_WORKDIRS = 'runs'
_WIDTH = 120  # columns, where no terminal says how wide it is


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    interrupts.interrupted.clear()
    machine.prepare()
    previous = {
        number: signal.signal(number, interrupts.interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return _main(argv, console)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:  # of the terminal or a pipe: files of the work directory say their own
        print(
            f'error: the output cannot be written ({reason(error)}). Finished points are kept; '
            'run the same command again to continue.',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print('interrupted before the first point', file=sys.stderr)
        return 130
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _main(argv, console) -> int:
    args, assignments = parse(argv)
    source = configs.load(args.config)
    whole = sweep.plan(source, assignments)
    made = sweep.only(whole, ','.join(args.only or ()))
    workdir = pathlib.Path(args.workdir or pathlib.Path(_WORKDIRS) / source.name)
    _say_plan(made, workdir, console)
    if args.dry_run:
        _say_points(made, console)
        return 0
    machine.keep_compiled(args.compilation_cache)
    opened = {}
    for arm in made.arms:  # what can be wrong without a look at the images is said at once
        config = made.finals(arm, None)[0].config
        train.device_count(config, min(config.train.together, len(arm.seeds)))
        key = inputs.key(config.data)
        opened[key] = opened.get(key) or data.open_splits(config.data)
    store = Store(workdir, source.name)
    datasets = inputs.read_data(made, opened)
    inputs.check_data(whole, datasets, store)
    said = {}  # what is the same for several arms is said once
    for arm in made.arms:  # the batch, the devices, the net and the images fit, before any training
        config, dataset = made.finals(arm, None)[0].config, datasets[arm.label]
        steps_per_epoch = train.length_of(config, dataset).steps_per_epoch
        optim.schedule_of(config, steps_per_epoch)
        late = optim.never(config, steps_per_epoch)
        if late:
            said[late] = None
        models = min(config.train.together, len(arm.seeds))
        devices = train.program_of(config, dataset, models).devices
        said[
            f'data: {dataset.note}; {len(dataset.train.labels):,} train, '
            f'{len(dataset.validation.labels):,} validation, '
            f'{len(dataset.test.labels):,} test images, '
            f'{"streamed" if isinstance(dataset.train, data.Streamed) else "in memory"}'
        ] = None
        layout = (
            f'batch {config.train.batch} = {devices} x {config.train.batch // devices}'
            if config.train.together == 1
            else f'{models} points together = {devices} x '
            f'{models // devices}, each with batches of {config.train.batch}'
        )
        said[f'devices: {devices} ({jax.local_devices()[0].device_kind}); {layout}'] = None
        said |= dict.fromkeys(inputs.channels(config, dataset))
    for line in sorted(said):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    sweeper = runner.Runner(whole, made, datasets, store, console, shlex.join(argv))
    other = inputs.other_code(store.rows.values(), sweeper.environment)
    if other:
        print(other, file=sys.stderr)
    try:
        sweeper.run()
        return sweeper.finish()
    except KeyboardInterrupt:
        kept = sum(name in store.rows for name in sweeper.names)
        print(
            f'\ninterrupted in {sweeper.current}; finished points kept in {workdir}: {kept}. '
            'Run the same command again to continue.',
            file=sys.stderr,
        )
        return 130


def parse(argv) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits the command line into its flags and the `--config.field=value` overrides."""
    parser = configs.parser('python -m experiments.run', __doc__.split('\n')[0])
    parser.add_argument('--workdir', metavar='DIR', help=f'default: {_WORKDIRS}/CONFIG-ARGUMENT')
    parser.add_argument(
        '--only', action='append', metavar='KEY=VALUE,...', help='run a part of the sweep'
    )
    parser.add_argument(
        '--compilation_cache',
        metavar='DIR',
        help="folder of compiled programs, or 'off'; default: the user's cache",
    )
    parser.add_argument('--dry_run', action='store_true', help='print the points and stop')
    return configs.parse(parser, argv)


def _say_plan(made: sweep.Plan, workdir, console) -> None:
    trials = len(made.rates) * len(made.config.protocol.selection_seeds) if made.rates else 0
    finals = sum(len(arm.seeds) for arm in made.arms)
    arms = f'{len(made.arms)} {"arm" if len(made.arms) == 1 else "arms"}'
    points = f'{trials * len(made.arms) + finals} points'
    table = Table(title=Text(f'{made.config.title}: {arms}, {points}'), title_justify='left')
    for column in ('arm', 'changes', 'learning rate', 'final seeds'):
        table.add_column(column)
    for arm in made.arms:
        changes = ', '.join(f'{path}={value}' for path, value in arm.overrides.items())
        rate = (
            f'chosen on validation from {", ".join(f"{r:g}" for r in made.rates)}'
            if made.rates
            else f'{made.finals(arm, None)[0].rate:g}'
        )
        table.add_row(Text(arm.label), Text(changes or '-'), rate, ', '.join(map(str, arm.seeds)))
    console.print(table)
    console.print(f'results: {workdir}', highlight=False)


def _say_points(made: sweep.Plan, console) -> None:
    """Every point in the order of the run; a name needs the rate, which selection chooses."""
    table = Table(title='points', title_justify='left')
    for column in ('arm', 'phase', 'seed', 'learning rate', 'name'):
        table.add_column(column)
    for arm in made.arms:
        for point in (*made.selections(arm), *made.finals(arm, None)):
            known = point.rate is not None
            table.add_row(
                Text(arm.label),
                point.phase,
                str(point.seed),
                f'{point.rate:g}' if known else 'the chosen one',
                point.name if known else '',
            )
    console.print(table)


if __name__ == '__main__':
    sys.exit(main())
