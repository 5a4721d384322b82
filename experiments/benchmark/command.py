"""The command that measures speed.

    python -m experiments.benchmark                                   every case of CASES
    python -m experiments.benchmark lenet5 resnet20 --against torch --out runs/speed.json
    python -m experiments.benchmark lenet5 --profile                  where the step's time goes
    python -m experiments.benchmark --sizes --out runs/sizes.json     time against size and devices
    python -m experiments.benchmark --operations                      operations beside PyTorch's
    python -m experiments.benchmark --ablation                        an ablation before and after
    python -m experiments.benchmark --all --out runs/benchmark       everything, 9 minutes at a time
    python -m experiments.benchmark --show FILE.json                  the table again
    python -m experiments.benchmark --markdown FILE.json              as README has it
    python -m experiments.benchmark --figure OUT.png FILE.json [FILE2.json ...]

With --out, each finished case is stored at once, and the same command again continues from there;
--again measures the named cases again.
"""

import argparse
import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from matplotlib.figure import Figure

from experiments import machine, style, tables
from experiments.benchmark import (
    ablation,
    cases,
    every,
    figure,
    measure,
    operations,
    profile,
    sizes,
    stored,
)
from experiments.benchmark import tables as speed_tables
from experiments.benchmark.stored import Result
from experiments.errors import UserError, command
from experiments.options import Parser


class Kind(NamedTuple):
    """What the command does with one kind of result."""

    run: Callable[[argparse.Namespace], Result]  # measures what is not stored yet
    shown: Any  # module: tables_of(result), and notes(result) under them
    render: Callable[[list[Result]], Figure] | None = None
    words: Callable[[Result], str] | None = None  # instead of the tables on a terminal


KINDS = {
    'benchmark': Kind(measure.run, speed_tables, figure.render),
    'together': Kind(every.together, every),
    'profile': Kind(profile.run, profile, profile.render, profile.words),
    'sizes': Kind(sizes.run, sizes, sizes.render),
    'operations': Kind(operations.run, operations),
    'ablation': Kind(ablation.run, ablation),
}
# What is done, and the options that it takes; the plain benchmark takes all
_OPTIONS = {
    'profile': 'devices dtype batch out again'.split(),
    'sizes': 'rounds seconds dtype out again'.split(),
    'operations': 'torch_python rounds seconds dtype out again'.split(),
    'ablation': ['out', 'again'],
    'all': 'torch_python rounds seconds devices batch budget out'.split(),
    'show': [],
    'markdown': [],
    'figure': [],
}


def parser() -> Parser:
    """The command line. Its defaults are those of a plain benchmark of all cases."""
    made = Parser(
        prog='python -m experiments.benchmark',
        # argparse of Python 3.11 breaks no line between options that exclude each other
        usage='python -m experiments.benchmark [CASE ...] [options]',
        description='Measures how fast the nets train, beside PyTorch.',
        epilog=f'Cases: {", ".join(cases.CASES)}.',
    )
    made.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help='cases (default: all); with --show, --markdown and --figure: stored files',
    )
    made.add_argument(
        '--against',
        nargs='+',
        default=[],
        choices=('torch', 'plain'),
        metavar='KIND',  # argparse wraps no list of choices that may be repeated
        help='measure these beside ours: torch, plain',
    )
    made.add_argument(
        '--torch_python',
        default=sys.executable,
        metavar='PATH',
        help='interpreter with PyTorch (default: this one)',
    )
    made.add_argument(
        '--compile',
        default='small',
        choices=('none', 'small', 'all'),
        help='cases that torch.compile is tried on (default: the small nets)',
    )
    made.add_argument('--rounds', type=int, default=5)
    made.add_argument(
        '--seconds',
        type=float,
        default=3.0,
        help='length of each measurement (of single operations: a quarter of it)',
    )
    made.add_argument(
        '--devices',
        type=int,
        help='devices that share a batch, virtual ones on a CPU (default: all)',
    )
    made.add_argument(
        '--dtype', default='float32', choices=('float32', 'bfloat16'), help='of the computation'
    )
    made.add_argument('--batch', type=int, help="images a step (default: the case's own)")
    made.add_argument('--out', metavar='FILE', help='where the numbers are stored, a .json')
    made.add_argument(
        '--budget', type=float, default=540.0, metavar='SECONDS', help='of --all (default: 540)'
    )
    made.add_argument('--again', action='store_true', help='measure again what --out holds')
    what = made.add_mutually_exclusive_group()
    flag = functools.partial(what.add_argument, action='store_true')
    flag('--profile', help="print where the step's time goes, by kind of operation")
    flag('--sizes', help='measure time against batch, image side, depth and number of devices')
    flag('--operations', help="measure single operations beside PyTorch's")
    flag(
        '--ablation',
        help='run a whole ablation with plain and with fast operations; NAME is its config',
    )
    flag('--all', help='measure everything in the time of --budget; --out is a folder')
    flag('--show', help='print stored numbers')
    flag('--markdown', help='the same as a GitHub table')
    what.add_argument('--figure', metavar='FILE', help='draw stored numbers, .png or .svg')
    return made


def check(args: argparse.Namespace) -> None:
    """Raises UserError for options that do not fit each other."""
    for name in ('rounds', 'batch', 'devices'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f'--{name} is {value}, it must be at least 1.')
    if not 0 < args.seconds < math.inf:
        raise UserError(f'--seconds is {args.seconds:g}, it must be positive and finite.')
    shows = args.show or args.markdown or args.figure
    for name in args.names:
        if name.endswith('.json') and not shows:
            raise UserError(f'{name} is a stored file: add --show, --markdown or --figure OUT.png.')
    for what, useful in _OPTIONS.items():
        for name, default in vars(parser().parse_args([])).items() if getattr(args, what) else ():
            if getattr(args, name) != default and name not in (what, 'names', *useful):
                raise UserError(f'--{what} has no use for --{name}: leave it out.')
    plain = not any(getattr(args, what) for what in _OPTIONS)
    usual = {'torch_python': sys.executable, 'compile': 'small'}
    for name, default in usual.items() if plain and 'torch' not in args.against else ():
        if getattr(args, name) != default:
            raise UserError(
                f'--{name} has no use without --against torch: add that, or leave it out.'
            )
    if args.all and not args.out:
        raise UserError('--all stores what it measures: name a folder with --out.')
    if plain and args.budget != parser().get_default('budget'):
        raise UserError('--budget has no use without --all: add that, or leave it out.')
    if not 0 < args.budget < math.inf:
        raise UserError(f'--budget is {args.budget:g}, it must be positive and finite.')
    if args.again and not args.out:
        raise UserError('--again measures again what --out FILE.json holds: name the file.')
    if args.out:
        folder = Path(args.out).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder} cannot be written to: name another place for --out.')


def _start_devices(count: int | None) -> None:
    """Makes so many virtual devices of a CPU, unless devices have been touched already."""
    machine.prepare()
    jax.config.update('jax_enable_compilation_cache', False)  # compilation is measured
    if count:
        try:
            jax.config.update('jax_num_cpu_devices', count)
        except RuntimeError:  # the devices exist; train.device_count raises if they are too few
            pass
    machine.check_devices()


def markdown(result: Result) -> str:
    """The tables and notes of a result as GitHub reads them."""
    kind = KINDS[result['kind']]
    printed = [tables.markdown(*table) for table in kind.shown.tables_of(result)]
    return '\n'.join([*printed, ''.join(f'- {line}\n' for line in kind.shown.notes(result))])


def show(result: Result) -> None:
    """Prints a result for a terminal."""
    kind = KINDS[result['kind']]
    if kind.words:
        print(kind.words(result))
        return
    for headings, lines in kind.shown.tables_of(result):
        tables.show(tables.Terminal(headings, lines))
    for line in kind.shown.notes(result):
        print(line)


def _render(found: list[Result]) -> Figure:
    """The figure of stored results of one kind; of several files, that of speeds alone."""
    name = found[0]['kind']
    draw = KINDS[name].render
    if draw is None:
        raise UserError(f'{name}: a table, not a figure. Print it with --show or --markdown.')
    if len(found) > 1 and name != 'benchmark':
        raise UserError(f'{name}: a figure takes one file.')
    return draw(found)


def _show_stored(args: argparse.Namespace) -> None:
    """--show, --markdown and --figure."""
    if not args.names:
        raise UserError('name the stored FILE.json.')
    found = [stored.read(path) for path in args.names]
    if len({one['kind'] for one in found}) > 1:
        raise UserError('the files are of several kinds: draw or print each kind by itself.')
    try:
        if args.figure:
            style.check_ending(args.figure)
            Path(args.figure).parent.mkdir(parents=True, exist_ok=True)
            print(style.save(_render(found), args.figure))
            return
        for one in found:
            if args.markdown:
                print(markdown(one), end='')
            else:
                show(one)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f'{", ".join(args.names)}: not what --out writes ({error!r}). Measure again.'
        ) from error


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    check(args)
    if args.show or args.markdown or args.figure:
        _show_stored(args)
        return 0
    _start_devices(args.devices)
    (name,) = [name for name in KINDS if getattr(args, name, False)] or ['benchmark']
    try:
        results = every.run(args) if args.all else [KINDS[name].run(args)]
    except stored.Interrupted as interrupt:
        print(interrupt, file=sys.stderr)
        return 130
    for result in results:
        show(result)
    if args.out:
        print(f'stored in {args.out}')
    return 0
