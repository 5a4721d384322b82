"""A whole ablation before and after: with plain operations, with fast ones, and started again.

    python -m experiments.benchmark --ablation [CONFIG] [--out FILE.json]

Each of RUNS is `python -m experiments.run` in a process of its own, one after the other, with a new
work directory and, except for the second start, an empty compilation cache. What is compared is the
wall time, with start-up and figures, and what the sentences conclude.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.benchmark import stored
from experiments.benchmark.tables import where
from experiments.errors import UserError
from experiments.report.sentences import sentences
from experiments.report.summary import summarise
from experiments.tables import Table
from experiments.workdir import read_experiment, read_rows

CONFIG = 'configs/ablate_pooling.py'
# Words for experiments.run, and whose compilation cache it finds
RUNS = {
    'plain': (['--config.model.fields.fast=False'], 'plain'),
    'fast': ([], 'fast'),
    'fast, second start': ([], 'fast'),
    'fast, 5 points at once': (['--config.train.together=5'], 'together'),
}
TIMES = ('run', 'seconds', 'plain / it', 'conclusions')


def run(args: argparse.Namespace) -> stored.Result:
    """Makes those of RUNS that are not stored yet, and returns all of the result."""
    if len(args.names) > 1:
        raise UserError(f'--ablation takes one config, it was given {", ".join(args.names)}.')
    config = args.names[0] if args.names else CONFIG

    def measured(name, *_):
        words, cache = RUNS[name]
        if name == 'fast, second start' and not (folder / cache).exists():
            _measure(config, words, folder / 'first', folder / cache)
        found = _measure(config, words, folder / f'run {len(name)}', folder / cache)
        print(f'{name}: {found["seconds"]:.0f} s', flush=True)
        return found

    with TemporaryDirectory() as place:
        folder = Path(place)
        return stored.completed(args, 'ablation', {'config': config}, RUNS, RUNS, measured)


def _measure(config: str, words: list[str], workdir: Path, cache: Path) -> dict[str, Any]:
    """{'seconds', 'points', 'sentences'} of one call of experiments.run."""
    begin = time.perf_counter()
    command = [sys.executable, '-m', 'experiments.run', '--config', config, *words]
    done = subprocess.run(
        [*command, '--workdir', workdir, '--compilation_cache', cache],
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
    found = sentences(summarise(read_experiment(workdir)))
    return {'seconds': seconds, 'points': len(read_rows(workdir)), 'sentences': found}


# --- showing -----------------------------------------------------------------------------------


def conclusions(one: dict) -> dict[str, str]:
    """{comparison: what it says at its end}, such as 'lower test error than ...'."""
    return {
        sentence.partition(': ')[0]: sentence.rpartition(': ')[2] for sentence in one['sentences']
    }


def time_cells(result: dict) -> list[tuple[str, ...]]:
    """One line per run in the order of TIMES."""
    plain = result['runs'].get('plain')
    lines: list[tuple[str, ...]] = []
    for name, one in result['runs'].items():
        name = name.replace('points', 'runs')  # stored files keep the older word
        ratio = f'{plain["seconds"] / one["seconds"]:.2f}' if plain else ''
        lines.append((name, f'{one["seconds"]:.0f}', ratio, _verdict(one, plain)))
    return lines


def _verdict(one: dict, plain: dict | None) -> str:
    if one is plain or not plain:
        return ''
    if not conclusions(one) and not conclusions(plain):
        return 'none'
    return 'the same' if conclusions(one) == conclusions(plain) else 'DIFFERENT'


def tables_of(result: dict) -> list[Table]:
    """Headings and lines of the table."""
    return [(TIMES, time_cells(result))]


def notes(result: dict) -> list[str]:
    """On what it was measured, and the sentences of the plain and of the fast run."""
    return [f'{result["settings"]["config"]}, {where(result)}'] + [
        f'{name}: {sentence}'
        for name in ('plain', 'fast')
        for sentence in result['runs'].get(name, {'sentences': []})['sentences']
    ]
