"""Trains every run of a config and ends with a table, a figure and a report.

    python -m experiments.run --config configs/ablate_pooling.py
    python -m experiments.run --config configs/ablate_pooling.py:mnist --only pool=max,seed=0
    python -m experiments.run --config configs/lenet_mnist.py --config.train.epochs=2 --dry_run

The same command again continues where it stopped: finished runs are skipped. Started several times
on one work directory, here or on other machines that see it, it shares the runs.
"""

import argparse
import pathlib
import shlex
import signal
import sys

if __name__ == '__main__':  # until main takes over, Ctrl-C in the imports ends without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from experiments import machine, measures, tables
from experiments.errors import UserError, command, counted, reason, status_of
from experiments.plan import config, runs
from experiments.progress import note
from experiments.runner import follow, inputs, interrupts
from experiments.runner.runner import Runner
from experiments.runner.team import Team, quiet
from experiments.workdir import check_name, default_folder

_STATUSES = (
    'Exit status: 0 all well, 1 some run diverged or failed, 2 a mistake in what was asked, '
    f'{interrupts.CONTINUE} ended by SIGTERM after a step and its checkpoint: run the same command '
    'again to continue, 130 interrupted, 141 nobody reads the output any more.'
)


@command
def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    console = tables.Console()
    machine.prepare()
    with interrupts.handled():
        args, assignments = parse(argv)
        team = Team(None if args.dry_run else args.distributed)
        if not team.lead:
            return _follow(team, args, assignments)
        return team.leave(status_of(_lead, team, argv, console))


def _lead(team: Team, argv: list[str], console: tables.Console) -> int:
    """What the process does that alone writes and prints."""
    try:
        return _main(team, argv, console)
    except KeyboardInterrupt:
        if not interrupts.stops():
            raise
        print('interrupted. Run the same command again to continue.', file=sys.stderr)
        return interrupts.CONTINUE
    except OSError as error:  # of the terminal or a file; the work directory words its own
        raise UserError(
            f'the output cannot be written ({reason(error)}). Run the same '
            'command again to continue.'
        ) from error


def _follow(team: Team, args: argparse.Namespace, assignments: list[tuple[str, str]]) -> int:
    """What the other processes of a training do."""
    quiet()
    with interrupts.patient(), team.training():
        plan = runs.plan_of(config.read_config(args.config), assignments)
        machine.keep_compiled(args.compilation_cache)
        return follow.follow(team, plan)


def _main(team: Team, argv: list[str], console: tables.Console) -> int:
    args, assignments = parse(argv)
    whole = runs.plan_of(config.read_config(args.config), assignments)
    plan = runs.only(whole, ','.join(args.only or ()))
    folder = workdir_of(args, plan)
    _print_plan(plan, folder, console)
    if args.dry_run:
        _print_runs(plan, console)
        return 0
    machine.check_devices()
    machine.keep_compiled(args.compilation_cache)
    workdir, datasets = inputs.prepare(whole, plan, folder)
    for line in inputs.describe(plan, datasets):
        console.print(line)
    runner = Runner(whole, plan, datasets, workdir, console, shlex.join(argv), team)
    if other := inputs.other_code(workdir.rows.values(), runner.environment):
        note(other)
    try:
        runner.run()
        return runner.finish()
    except KeyboardInterrupt:
        names = workdir.kept()
        kept = sum(name in names for name in runner.asked)
        end = f'finished runs kept in {folder}: {kept}. Run the same command again to continue.'
        print(f'\ninterrupted in {runner.current}; {end}', file=sys.stderr)
        return interrupts.CONTINUE if interrupts.stops() else 130


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits the command line into its flags and the `--config.field=value` overrides."""
    words = 'Trains every run of a config and ends with a table, a figure and a report.'
    measured = (f'  {name}: {measures.first_line(name)}' for name in measures.MEASURES)
    errors = 'The steps to a training error need no measure: they are read off config.train.curve.'
    heading = 'Measures, for --config.measure.names:'
    more = '\n'.join([f'{_STATUSES}\n\n{errors}\n\n{heading}', *measured])
    parser = config.parser('python -m experiments.run', words, more)
    add_arguments(parser)
    parser.add_argument('--dry_run', action='store_true', help='print the runs and stop')
    parser.add_argument(
        '--distributed',
        metavar='WHERE',
        help="train with other processes: 'auto' (Slurm, a TPU pod) or HOST:PORT,INDEX,COUNT",
    )
    return config.parse(parser, argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of whoever trains a plan."""
    default = default_folder('CONFIG-ARGUMENT')
    parser.add_argument('--workdir', metavar='DIR', help=f'default: {default}')
    parser.add_argument(
        '--only',
        action='append',
        metavar='KEY=VALUE,...',
        help="run a part: 'arm', 'seed', 'phase' (select or final), or a field of the sweep",
    )
    parser.add_argument(
        '--compilation_cache',
        metavar='DIR',
        help="folder of compiled programs, or 'off'; default: the user's cache",
    )


def workdir_of(args: argparse.Namespace, plan: runs.Plan) -> pathlib.Path:
    """The work directory that is asked for, or the default.

    Raises:
      UserError: its name cannot be printed.
    """
    folder = pathlib.Path(args.workdir or default_folder(plan.name))
    check_name(folder)
    return folder


def _print_plan(plan: runs.Plan, folder: pathlib.Path, console: tables.Console) -> None:
    title = f'{plan.title}: {counted(len(plan.arms), "arm")}, {counted(plan.size, "run")}'
    lines = []
    for arm in plan.arms:
        changes = ', '.join(f'{path}={value}' for path, value in arm.overrides.items())
        learning_rate = f'{arm.config.train.rate:g}'
        if arm.learning_rates:
            grid = ', '.join(f'{rate:g}' for rate in arm.learning_rates)
            learning_rate = f'{_criterion(arm.config.protocol)} of {grid}'
        seeds = ', '.join(map(str, arm.seeds))
        lines.append((arm.label, changes or '-', learning_rate, seeds))
    headings = ('arm', 'changes', 'learning rates', 'final seeds')
    console.print(tables.Terminal(headings, lines, title))
    console.print(f'results: {folder}')


def _criterion(protocol) -> str:
    if protocol.criterion == 'steps_to_error':
        return f'the first to {100 * protocol.threshold:g} % training error'
    return 'the lowest validation error'


def _print_runs(plan: runs.Plan, console: tables.Console) -> None:
    """Every run in its order; a name needs the learning rate, which selection chooses."""
    lines = []
    for run in plan.runs():
        known = run.learning_rate is not None
        learning_rate = f'{run.learning_rate:g}' if known else 'the chosen one'
        name = run.name if known else ''
        lines.append((run.arm, run.phase, str(run.seed), learning_rate, name))
    console.print(tables.Terminal(('arm', 'phase', 'seed', 'learning rate', 'name'), lines, 'runs'))


if __name__ == '__main__':
    sys.exit(main())
