"""Trains the runs of a plan that are not finished yet, and draws what they found."""

import json
import pathlib
import sys
import time
import warnings
from typing import Any

from experiments import environment as environments
from experiments import train
from experiments import workdir as workdirs
from experiments.errors import UserError, reason
from experiments.plan import sweep
from experiments.progress import Reporter
from experiments.report import figures, result_table
from experiments.report import page as report
from experiments.report.sentences import sentences
from experiments.report.summary import summarise
from experiments.runner import interrupts
from experiments.train import checkpoint
from experiments.workdir import Store

_KEEP = 60.0  # seconds between two checkpoints of a training, at least


_KEEP_PART = 20  # and so many times what writing one takes


def _checkpoint_of(store: Store, point: sweep.Point) -> pathlib.Path:
    return store.folder / 'points' / point.name / 'checkpoint.msgpack'


class Checkpoint:
    """The checkpoint of points that are trained together, in the folder of the first of them.

    `begun` is the snapshot to go on from, or None, where `note` may say why.
    """

    def __init__(self, store: Store, points: list[sweep.Point], made_of: dict[str, Any]):
        names = [point.name for point in points]
        self.store, self.made_of = store, {'group of points': names} | made_of
        self.path = _checkpoint_of(store, points[0])
        self.begun, self.note = checkpoint.load(self.path, self.made_of)
        self._last, self._took = time.monotonic(), 0.0  # the last writing: its end, its length

    def keep(self, snapshot) -> None:
        """Writes what snapshot() gives, unless that was done a short while ago."""
        start = time.monotonic()
        if start - self._last < max(_KEEP, _KEEP_PART * self._took):
            return
        try:
            checkpoint.save(self.path, self.made_of, snapshot())
        except OSError as error:
            self.store.fail(error)
        self._last = time.monotonic()
        self._took = self._last - start

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Runner:
    """Runs the points of a plan that are not finished yet, train.together of an arm at once."""

    def __init__(self, whole, made, datasets, store, console, command):
        self.whole, self.made, self.datasets = whole, made, datasets
        self.store, self.console, self.command = store, console, command
        self.names: list[str] = []  # of the points this call asks for, as they become known
        self.current = 'the first point'
        self.environment = environments.environment()

    def run(self) -> None:
        trials = [point for arm in self.made.arms for point in self.made.selections(arm)]
        total = len(trials) + sum(len(arm.seeds) for arm in self.made.arms)
        self.write_plan()
        with Reporter(self.console, total) as reporter:
            for arm in self.made.arms:  # an arm at a time: its points share one compilation
                rate = None
                if self.made.rates:
                    points = self.made.selections(arm)
                    self.points(points, reporter)
                    rate = sweep.choose_rate(points, self.store.rows)
                    if rate is None:
                        self.no_rate(arm, reporter)
                        continue
                self.points(self.made.finals(arm, rate), reporter)
        self.current = 'the table and figures'
        self.write_plan()

    def points(self, points: list[sweep.Point], reporter) -> None:
        """Trains the points of one arm and phase and adds their rows. Finished ones are skipped,
        failed ones tried again."""
        waiting = []
        for point in points:
            self.names.append(point.name)
            self.start([point], reporter)
            old = self.store.rows.get(point.name)
            if old and old['status'] in ('done', 'diverged'):
                reporter.finish(
                    'finished before, skipped'
                    if old['status'] == 'done'
                    else f'diverged before: {old["reason"]}'
                )
                # of a group that it was once the first of
                _checkpoint_of(self.store, point).unlink(missing_ok=True)
                continue
            waiting.append(point)
            if len(waiting) == point.config.train.together:
                self.train(waiting, reporter)
                waiting = []
        if waiting:
            self.train(waiting, reporter)

    def start(self, points: list[sweep.Point], reporter) -> None:
        self.current = _label(points)
        arm = points[0].arm
        reporter.start(self.current, train.length_of(points[0].config, self.datasets[arm]).epochs)

    def train(self, points: list[sweep.Point], reporter) -> None:
        """Trains these points at once and adds the row of each."""
        self.start(points, reporter)
        for point in points:
            folder = f'points/{point.name}'
            self.store.write(
                f'{folder}/config.json', json.dumps(point.resolved, indent=1, sort_keys=True)
            )
            self.store.write(
                f'{folder}/environment.json', json.dumps(self.environment, indent=1, sort_keys=True)
            )

        ended = {}
        kept = Checkpoint(
            self.store,
            points,
            {
                'data set': self.datasets[points[0].arm].found,
                'number of devices': train.device_count(points[0].config, len(points)),
                'kind of device': self.environment['device_kind'],
                'jax': self.environment['jax'],
                'code': self.environment['code'],
            },
        )
        if kept.note:
            print(f'note: {kept.note}', file=sys.stderr)
        if kept.begun:
            reporter.say(f'goes on after epoch {kept.begun.epoch}')

        def on_epoch(index, line):
            self.store.append(f'points/{points[index].name}/metrics.jsonl', line)
            reporter.epoch(line, _label([points[index]]))

        def fit():
            return train.fit_together(
                [point.config for point in points],
                self.datasets[points[0].arm],
                on_epoch,
                read_test=points[0].phase == sweep.FINAL,
                on_step=reporter.step,
                begun=kept.begun,
                keep=kept.keep,
                on_end=ended.__setitem__,
            )

        try:
            try:
                outcomes = fit()
            except checkpoint.Misfit as error:
                print(
                    f'note: {kept.path} does not fit ({error}); the training starts over',
                    file=sys.stderr,
                )
                kept.begun = None
                outcomes = fit()
        except UserError:
            raise
        except Exception as error:  # one bad point must not cost the others
            if interrupts.interrupted:  # some C++ code turns an interrupt into an error of its own
                raise KeyboardInterrupt from error
            outcomes = [error] * len(points)
        # The weights first: what has a row is never trained again. The rows of a group together:
        # its checkpoint is of all of them
        for index, variables in ended.items():
            if points[index].phase == sweep.FINAL:
                self.store.write(
                    f'points/{points[index].name}/weights.msgpack', checkpoint.weights(variables)
                )
        rows = [_row(outcome) for outcome in outcomes]
        with interrupts.uninterrupted():
            for point, row in zip(points, rows, strict=True):
                self.add(point, row)
            if kept.begun or all(row['status'] != 'failed' for row in rows):
                kept.remove()  # what failed on the way goes on from there, but only once
        for point, row in zip(points, rows):
            reporter.finish(_words(row), _label([point]), len(points))

    def add(self, point: sweep.Point, row: dict[str, Any]) -> None:
        self.store.add(
            {
                'point': point.name,
                'experiment': self.made.source.name,
                'phase': point.phase,
                'arm': point.arm,
                'overrides': point.overrides,
                'seed': point.seed,
                'learning_rate': point.rate,
                'dataset': self.datasets[point.arm].name,
                'data_found': self.datasets[point.arm].found,
                'git_revision': self.environment['git_revision'],
                'code': self.environment['code'],
                'model': point.config.model.name,
                **row,
            }
        )

    def no_rate(self, arm: sweep.Arm, reporter) -> None:
        for point in self.made.finals(arm, None):
            self.names.append(point.name)
            reporter.start(f'{point.arm} (final, seed {point.seed})', 0)
            row = {'status': 'failed', 'reason': 'no learning rate of the grid trained'}
            if point.name not in self.store.rows:
                self.add(point, row)
            reporter.finish(_words(row))

    def write_plan(self) -> None:
        """plan.json: what the tables and figures need to know beside the rows.

        It lists the points of the whole experiment, so that parts run with --only add up to it.
        """
        known = []
        for arm in self.whole.arms:
            points = self.whole.selections(arm)
            known += [point.name for point in points]
            rate = None
            if points:
                if any(point.name not in self.store.rows for point in points):
                    continue
                rate = sweep.choose_rate(points, self.store.rows)
            known += [point.name for point in self.whole.finals(arm, rate)]
        config = self.whole.config
        self.store.write(
            'plan.json',
            json.dumps(
                {
                    'experiment': self.whole.source.name,
                    'title': config.title,
                    'command': f'python -m experiments.run {self.command}',
                    'dataset': ', '.join(dict.fromkeys(d.name for d in self.datasets.values())),
                    'dataset_note': '; '.join(
                        dict.fromkeys(d.note for d in self.datasets.values())
                    ),
                    'model': config.model.name,
                    'arms': [arm.label for arm in self.whole.arms],
                    'arm_seeds': {arm.label: arm.seeds for arm in self.whole.arms},
                    'seeds': sorted({seed for arm in self.whole.arms for seed in arm.seeds}),
                    'rates': list(self.whole.rates),
                    'level': config.protocol.level,
                    'epochs': train.length_of(config, next(iter(self.datasets.values()))).epochs,
                    'points': known,
                },
                indent=1,
            ),
        )

    def finish(self) -> int:
        """Prints the table and the sentences; writes CSV, figure and report. Returns the status."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
            return self._finish()

    def _finish(self) -> int:
        experiment = workdirs.load(self.store.folder)
        summary = summarise(experiment)
        self.console.print(result_table.terminal(summary))
        for sentence in sentences(summary):
            self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        try:
            result_table.write_csv(self.store.folder / 'results.csv', summary)
            paths = figures.write(experiment, self.store.folder / 'figure')
            paths = [self.store.folder / 'results.csv', *paths, report.write(self.store.folder)]
        except OSError as error:
            self.store.fail(error)
        self.console.print(
            'written: ' + ', '.join(str(path) for path in paths), highlight=False, soft_wrap=True
        )
        bad = [
            self.store.rows[name]
            for name in self.names
            if self.store.rows[name]['status'] != 'done'
        ]
        for row in bad:
            rate = '' if row['learning_rate'] is None else f', rate {row["learning_rate"]:g}'
            print(
                f'{row["status"]}: {row["arm"]} ({row["phase"]}, seed {row["seed"]}{rate}): '
                f'{row["reason"]}',
                file=sys.stderr,
            )
        # A rate of the grid may be too high for an arm: that is what a grid is for.
        return int(any(row['phase'] == sweep.FINAL or row['status'] == 'failed' for row in bad))


def _label(points: list[sweep.Point]) -> str:
    """Names points of one arm and phase: 'max pooling (final, seeds 0, 1, rate 0.05)'."""
    parts = [points[0].phase]
    for name, values in (
        ('seed', [str(point.seed) for point in points]),
        ('rate', [f'{point.rate:g}' for point in points]),
    ):
        values = dict.fromkeys(values)
        parts.append(f'{name}{"s" if len(values) > 1 else ""} {", ".join(values)}')
    return f'{points[0].arm} ({", ".join(parts)})'


def _row(outcome) -> dict[str, Any]:
    """What a point's row says of its training."""
    if isinstance(outcome, train.Diverged):
        return {'status': 'diverged', 'reason': str(outcome)}
    if isinstance(outcome, Exception):
        return {'status': 'failed', 'reason': reason(outcome)[:500]}
    return outcome | {'status': 'done', 'reason': ''}


def _words(row: dict) -> str:
    if row['status'] != 'done':
        return f'{row["status"].upper()}: {row["reason"]}'
    part = 'test' if 'test/error' in row else 'validation'
    return f'{part} error {100 * row[f"{part}/error"]:.2f} %'
