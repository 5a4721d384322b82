"""A whole ablation before and after: with plain operations, with fast ones, and started again.

    python -m experiments.benchmark --ablation [CONFIG] [--out FILE.json]

Each of RUNS is `python -m experiments.run` in a process of its own, one after the other, with a new
work directory and, but for the second start, an empty compilation cache. What is compared is the
wall time, start-up and figures included, and what the tables conclude.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from experiments import tables
from experiments.benchmark import measure as benchmark
from experiments.errors import UserError
from experiments.report import summary as results
from experiments.workdir import load, read_points

CONFIG = 'configs/ablate_pooling.py'
# Words for experiments.run, and whose compilation cache it finds
RUNS = {
    'plain': (['--config.model.fields.fast=False'], 'plain'),
    'fast': ([], 'fast'),
    'fast, second start': ([], 'fast'),
    'fast, 5 points at once': (['--config.train.together=5'], 'together'),
}
TIMES = ('run', 'seconds', 'plain / it', 'conclusions')


def run(args) -> int:
    """Runs those of RUNS that are not stored yet, and prints the tables."""
    if len(args.names) > 1:
        raise UserError(f'--ablation takes one config, it was given {", ".join(args.names)}.')
    config = args.names[0] if args.names else CONFIG
    result = benchmark.begun(args, 'ablation', {'config': config}, 'runs', RUNS)
    if any(name not in result['runs'] for name in RUNS):
        benchmark.go_on(result, ('runs',), benchmark.environment())
    try:
        _run_all(config, result, args)
    except KeyboardInterrupt:
        return benchmark.interrupted(args, f'{len(result["runs"])} of {len(RUNS)} runs')
    print_tables(result)
    if args.out:
        print(f'stored in {args.out}')
    return 0


def _run_all(config, result, args):
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in RUNS if name not in result['runs']]:
            words, cache = RUNS[name]
            if name == 'fast, second start' and not (Path(folder) / cache).exists():
                _measure(config, words, Path(folder) / 'first', Path(folder) / cache)
            result['runs'][name] = _measure(
                config, words, Path(folder) / f'run {len(name)}', Path(folder) / cache
            )
            benchmark.store(result, args.out)
            print(f'{name}: {result["runs"][name]["seconds"]:.0f} s', flush=True)


def _measure(config, words, workdir, cache) -> dict:
    """{'seconds', 'points', 'sentences'} of one run."""
    begin = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'experiments.run',
            '--config',
            config,
            *words,
            '--workdir',
            workdir,
            '--compilation_cache',
            cache,
        ],
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        last = (done.stderr.strip() or 'no message').splitlines()[-1]
        raise UserError(
            f'experiments.run --config {config} {" ".join(words)} ended with '
            f'{done.returncode}: {last.removeprefix("error: ")}'
        )
    experiment = load(workdir)
    return {
        'seconds': seconds,
        'points': len(read_points(workdir)),
        'sentences': results.sentences(results.summarise(experiment)),
    }


# --- showing -----------------------------------------------------------------------------------


def conclusions(one: dict) -> dict[str, str]:
    """{comparison: what it says at its end}, such as 'lower test error than ...'."""
    return {
        sentence.partition(': ')[0]: sentence.rpartition(': ')[2] for sentence in one['sentences']
    }


def time_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per run in the order of TIMES."""
    plain = result['runs'].get('plain')
    lines = []
    for name, one in result['runs'].items():
        lines.append(
            (
                name,
                f'{one["seconds"]:.0f}',
                f'{plain["seconds"] / one["seconds"]:.2f}' if plain else '',
                _verdict(one, plain),
            )
        )
    return lines


def _verdict(one, plain):
    if one is plain or not plain:
        return ''
    if not conclusions(one) and not conclusions(plain):
        return 'none'
    return 'the same' if conclusions(one) == conclusions(plain) else 'DIFFERENT'


def notes(result: dict) -> list[str]:
    """On what it was measured, and the sentences of the plain and of the fast run."""
    where = result['environment']
    found = [
        f'{result["settings"]["config"]}, {where["cpu"]}, {where["cores"]} cores, Python '
        f'{where["python"]}, jax {where["versions"]["jax"]}, load before '
        f'{where["load"][0]:.1f}, {where["date"]}.'
    ]
    return found + [
        f'{name}: {sentence}'
        for name in ('plain', 'fast')
        for sentence in result['runs'].get(name, {'sentences': []})['sentences']
    ]


def markdown(result: dict) -> str:
    """README's table and list."""
    return '\n'.join(
        [
            tables.markdown(TIMES, time_cells(result)),
            ''.join(f'- {line}\n' for line in notes(result)),
        ]
    )


def print_tables(result: dict) -> None:
    """The same for a terminal."""
    Console(width=None if sys.stdout.isatty() else 120).print(
        tables.table(TIMES, time_cells(result))
    )
    for line in notes(result):
        print(line)


def draw(found: list[dict], path: str) -> None:
    """Raises UserError: there is nothing to draw."""
    raise UserError('an ablation before and after is a table: print it with --show or --markdown.')
