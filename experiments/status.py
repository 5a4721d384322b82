"""How far an experiment is: what is done, who trains what, and when it will end.

python -m experiments.status runs/ablate_pooling-digits
python -m experiments.status runs/ablate_pooling-digits --json
"""

import collections
import datetime
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from experiments import tables
from experiments.errors import command, counted
from experiments.options import Parser
from experiments.report.compare import noted
from experiments.runner import leases
from experiments.schema import STATUSES
from experiments.workdir import folder_of, read_curve, read_experiment

_LATEST = 100  # finished runs whose seconds are averaged
_COUNTS = (*STATUSES, 'running', 'left')


def parser() -> Parser:
    made = Parser(prog='python -m experiments.status', description='How far an experiment is.')
    made.add_argument('workdir', help='work directory of an experiment')
    made.add_argument('--json', action='store_true', help='print JSON')
    return made


@command
def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    found = survey(Path(args.workdir))
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        show(found, tables.Console())
    return 0


def survey(workdir: Path) -> dict[str, Any]:
    """How far the experiment of a work directory is.

    title. total: runs, without those that will widen a grid. done, diverged, failed, running, left:
    numbers of runs, which add up to it. arms: {label: the same five of each}.
    workers: of each run that is being trained: run (its name), arm, phase, seed, learning_rate;
        host, process; since (text), held (seconds); epoch, epochs; silent (seconds since the last
        sign of life, by the clocks of two machines).
    seconds_per_run: mean of the latest finished runs, None before the first.
    runs_per_hour, seconds_left: at that pace by the workers of now; None where there are none.

    Raises:
      UserError: no work directory of an experiment, or a plan that cannot be used.
    """
    with noted():
        experiment = read_experiment(workdir, with_curves=False)
        plan = experiment.plan
        runs = plan.get('runs') or {row['point']: row for row in experiment.rows}
        held = leases.Leases(workdir / leases.FOLDER).others(runs)
        curves = {name: read_curve(workdir, name) for name in held}
    status = {row['point']: row['status'] for row in experiment.rows} | dict.fromkeys(
        held, 'running'
    )
    arms = {}
    for arm in plan['arms']:
        own = {name: run for name, run in runs.items() if run['arm'] == arm}
        trials = sum(run['phase'] == 'select' for run in own.values())
        total = trials + len(plan.get('arm_seeds', {}).get(arm, plan['seeds']))
        counts = collections.Counter(status[name] for name in own if name in status)
        arms[arm] = {key: counts[key] for key in _COUNTS}
        arms[arm]['left'] = total - counts.total()
    sums = {key: sum(own[key] for own in arms.values()) for key in _COUNTS}
    workers = []
    for name, holder in held.items():
        curve = curves[name]
        workers.append(
            {key: runs[name][key] for key in ('arm', 'phase', 'seed', 'learning_rate')}
            | {key: holder.get(key) for key in ('host', 'process', 'since', 'held')}
            | {
                'run': name,
                'epoch': curve[-1]['epoch'] if curve else 0,
                'epochs': plan.get('epochs'),
                'silent': _silent(workdir / leases.FOLDER / name),
            }
        )
    done = [row['point'] for row in experiment.rows if row['status'] == 'done']
    took = [seconds for name in done[-_LATEST:] if (seconds := _seconds(workdir, name)) is not None]
    mean = statistics.fmean(took) if took else None
    begun = sum(one['epoch'] / one['epochs'] for one in workers if one['epochs'])
    pace = left = None
    if mean is not None and workers:
        pace = 3600 * len(workers) / max(mean, 1e-3)
        left = mean * max(sums['left'] + sums['running'] - begun, 0) / len(workers)
    return {
        'title': plan['title'],
        'total': sum(sums.values()),
        **sums,
        'arms': arms,
        'workers': workers,
        'seconds_per_run': mean,
        'runs_per_hour': pace,
        'seconds_left': left,
    }


def _seconds(workdir: Path, run: str) -> float | None:
    """From the start of a finished run to its last epoch, by the times of its files."""
    folder = workdir / folder_of(run)
    try:
        start, end = ((folder / name).stat() for name in ('environment.json', 'metrics.jsonl'))
    except OSError:
        return None
    return max(end.st_mtime - start.st_mtime, 0.0)


def _silent(path: Path) -> float:
    try:
        return max(time.time() - path.stat().st_mtime, 0.0)
    except OSError:
        return 0.0


def show(found: dict[str, Any], console: tables.Console) -> None:
    """Prints a survey."""
    lines = [(arm, *(str(own[key]) for key in _COUNTS)) for arm, own in found['arms'].items()]
    if len(lines) > 1:
        lines.append(('total', *(str(found[key]) for key in _COUNTS)))
    console.print(tables.Terminal(('arm', *_COUNTS), lines, found['title']))
    lines = []
    for one in found['workers']:
        rate = '' if one['learning_rate'] is None else f', rate {one["learning_rate"]:g}'
        worker = leases.where(one if one['host'] else {})
        if one['silent'] > leases.SECONDS:
            worker += f', no sign for {_clock(one["silent"])}'
        lines.append(
            (
                one['arm'],
                f'{one["phase"]}, seed {one["seed"]}{rate}',
                worker,
                one['since'] or '?',
                '?' if one['held'] is None else _clock(one['held']),
                f'{one["epoch"]}/{one["epochs"] or "?"}',
            )
        )
    if lines:
        headings = ('arm', 'run', 'worker', 'since', 'for', 'epoch')
        console.print(tables.Terminal(headings, lines, 'running'))
    words = (
        f'{found["total"] - found["left"] - found["running"]} of {counted(found["total"], "run")}'
    )
    if found['runs_per_hour'] is not None:
        words += f', {found["runs_per_hour"]:.3g} runs an hour'
        words += f', about {_clock(found["seconds_left"])} to go'
    elif found['left'] and not found['workers']:
        words += ', no worker at work'
    console.print(words)


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


if __name__ == '__main__':
    sys.exit(main())
