"""Trains all runs of a config and ends with a table, a figure and a report.

    python -m experiments.run --config configs/ablate_pooling.py
    python -m experiments.run --config configs/ablate_pooling.py:mnist --only pool=max,seed=0
    python -m experiments.run --config configs/lenet_mnist.py --config.train.epochs=2 --dry_run

The same command again continues where it stopped: finished runs are skipped. Exit status: 0 all
well, 1 some run diverged or failed, 2 a mistake in what was asked, 130 interrupted.
"""

import argparse
import pathlib
import shlex
import signal
import sys
from collections.abc import Sequence

if __name__ == '__main__':  # until main takes over, Ctrl-C in the imports ends without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import machine
from experiments.errors import UserError, reason
from experiments.plan import config as configs
from experiments.plan import runs as planning
from experiments.plan.runs import Plan
from experiments.runner import inputs, interrupts, outputs
from experiments.runner.runner import Runner
from experiments.workdir import WorkDir

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
            f'error: the output cannot be written ({reason(error)}). Finished runs are kept; '
            'run the same command again to continue.',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print('interrupted before the first run', file=sys.stderr)
        return 130
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _main(argv, console) -> int:
    args, assignments = parse(argv)
    file = configs.load(args.config)
    whole = planning.plan(file, assignments)
    plan = planning.only(whole, ','.join(args.only or ()))
    folder = pathlib.Path(args.workdir or pathlib.Path(_WORKDIRS) / file.name)
    _print_plan(plan, folder, console)
    if args.dry_run:
        _print_runs(plan, console)
        return 0
    machine.keep_compiled(args.compilation_cache)
    opened = inputs.open_data(plan)
    workdir = WorkDir(folder, file.name)
    datasets = inputs.read_data(plan, opened)
    inputs.check_data(whole, datasets, workdir)
    for line in inputs.describe(plan, datasets):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    runner = Runner(whole, plan, datasets, workdir, console, shlex.join(argv))
    other = inputs.other_code(workdir.rows.values(), runner.environment)
    if other:
        print(other, file=sys.stderr)
    try:
        runner.run()
        outputs.write(workdir, console)
        return outputs.status(runner.bad_rows())
    except KeyboardInterrupt:
        kept = sum(name in workdir.rows for name in runner.names)
        print(
            f'\ninterrupted in {runner.current}; finished runs kept in {folder}: {kept}. '
            'Run the same command again to continue.',
            file=sys.stderr,
        )
        return 130


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits the command line into its flags and the `--config.field=value` overrides."""
    parser = configs.parser('python -m experiments.run', __doc__.split('\n')[0])
    parser.add_argument('--workdir', metavar='DIR', help=f'default: {_WORKDIRS}/CONFIG-ARGUMENT')
    parser.add_argument(
        '--only', action='append', metavar='KEY=VALUE,...', help='train a part of the runs'
    )
    parser.add_argument(
        '--compilation_cache',
        metavar='DIR',
        help="folder of compiled programs, or 'off'; default: the user's cache",
    )
    parser.add_argument('--dry_run', action='store_true', help='print the runs and stop')
    return configs.parse(parser, argv)


def _print_plan(plan: Plan, folder, console) -> None:
    count = sum(len(plan.trials(arm)) + len(arm.seeds) for arm in plan.arms)
    arms = f'{len(plan.arms)} {"arm" if len(plan.arms) == 1 else "arms"}'
    runs = f'{count} {"run" if count == 1 else "runs"}'
    table = Table(title=Text(f'{plan.config.title}: {arms}, {runs}'), title_justify='left')
    for column in ('arm', 'changes', 'learning rate', 'final seeds'):
        table.add_column(column)
    grid = ', '.join(f'{rate:g}' for rate in plan.rates)
    for arm in plan.arms:
        changes = ', '.join(f'{path}={value}' for path, value in arm.overrides.items())
        rate = f'chosen on validation from {grid}' if grid else f'{arm.config.train.rate:g}'
        table.add_row(Text(arm.label), Text(changes or '-'), rate, ', '.join(map(str, arm.seeds)))
    console.print(table)
    console.print(f'results: {folder}', highlight=False)


def _print_runs(plan: Plan, console) -> None:
    """Every run in its order; the name of a final run needs the learning rate, once chosen."""
    table = Table(title='runs', title_justify='left')
    for column in ('arm', 'phase', 'seed', 'learning rate', 'name'):
        table.add_column(column)
    for arm in plan.arms:
        for run in (*plan.trials(arm), *plan.finals(arm, None)):
            known = run.rate is not None
            table.add_row(
                Text(arm.label),
                run.phase,
                str(run.seed),
                f'{run.rate:g}' if known else 'the chosen one',
                run.name if known else '',
            )
    console.print(table)


if __name__ == '__main__':
    sys.exit(main())
