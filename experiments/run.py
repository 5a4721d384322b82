"""Trains every point of a config and ends with a table, a figure and a report.

    python -m experiments.run --config configs/ablate_pooling.py
    python -m experiments.run --config configs/ablate_pooling.py:mnist --only pool=max,seed=0
    python -m experiments.run --config configs/lenet_mnist.py --config.train.epochs=2 --dry_run

The same command again continues where it stopped: finished points are skipped. Exit status: 0 all
well, 1 some point diverged or failed, 2 a mistake in what was asked, 130 interrupted.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shlex
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

if __name__ == '__main__':  # until main takes over, Ctrl-C in the imports ends without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import flax
import jax
import jaxlib
import numpy
from rich.console import Console
from rich.table import Table
from rich.text import Text

import cnns
from experiments import checkpoint, data, figures, machine, optim, report, results, sweep, train
from experiments import config as configs
from experiments.errors import UserError, reason
from experiments.progress import Reporter
from experiments.records import digest

_WORKDIRS = 'runs'
_KEEP = 60.0  # seconds between two checkpoints of a training, at least
_KEEP_PART = 20  # and so many times what writing one takes
_WIDTH = 120  # columns, where no terminal says how wide it is


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    _interrupted.clear()
    machine.prepare()
    previous = {
        number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)
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


_interrupted: list[int] = []  # signals that came


def _interrupt(number, frame):
    """Handler of Ctrl-C and SIGTERM. A second one ends the process at once."""
    _interrupted.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


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
        key = _key(config.data)
        opened[key] = opened.get(key) or data.parts_of(config.data)
    store = Store(workdir, source.name)
    datasets = read_data(made, opened)
    _check_data(whole, datasets, store)
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
        said |= dict.fromkeys(_channels(config, dataset))
    for line in sorted(said):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    runner = Runner(whole, made, datasets, store, console, shlex.join(argv))
    other = _other_code(store.rows.values(), runner.environment)
    if other:
        print(other, file=sys.stderr)
    try:
        runner.run()
        return runner.finish()
    except KeyboardInterrupt:
        kept = sum(name in store.rows for name in runner.names)
        print(
            f'\ninterrupted in {runner.current}; finished points kept in {workdir}: {kept}. '
            'Run the same command again to continue.',
            file=sys.stderr,
        )
        return 130


def _channels(config, dataset) -> list[str]:
    """A line where the images have other channels than the net's paper."""
    name, own = config.model.name, dataset.shape[-1]
    papers = cnns.NETS[name].input[-1]
    if own == papers:
        return []
    instead = 'repeats grey images' if papers == 3 else 'turns the images into grey'
    channels = f'{papers} input channel{"s" if papers > 1 else ""}'
    return [
        f'net: {name} has {channels} in its paper and is built for the {own} of '
        f'{dataset.name}; --config.data.channels={papers} {instead}'
    ]


def _key(fields) -> str:
    return json.dumps(fields.to_dict(), sort_keys=True)


def read_data(made: sweep.Plan, opened: dict | None = None) -> dict[str, data.Dataset]:
    """The data set of every arm, by its label; arms with equal `data` fields share one.

    opened: what data.parts_of gave, by the `_key` of its fields.
    """
    read, datasets = {}, {}
    for arm in made.arms:
        config = made.finals(arm, None)[0].config
        key = _key(config.data)
        if key not in read:
            read[key] = data.load(
                config.data, least=config.train.batch, opened=(opened or {}).get(key)
            )
        datasets[arm.label] = read[key]
    return datasets


def _check_data(whole: sweep.Plan, datasets, store: 'Store') -> None:
    """UserError if finished points were trained on data that have changed under the same name.

    A point's name says which data it asks for, not what they were. Points that this call leaves
    out are compared too, where they ask for the same set and parts as one that it trains.
    """
    if not store.rows:
        return
    now = {dataset.asked: dataset for dataset in datasets.values()}
    changed, unknown, kept = [], 0, 0
    left = {name for name, row in store.rows.items() if row['status'] != 'failed'}
    for arm in whole.arms:
        dataset = now.get(data.asked(whole.finals(arm, None)[0].config.data))
        trials = whole.selections(arm)
        finals = [point for rate in whole.rates or (None,) for point in whole.finals(arm, rate)]
        for point in (*trials, *finals):
            row = store.rows.get(point.name)
            if row is None or row['status'] == 'failed':
                continue
            left.discard(point.name)
            if dataset is None:
                continue
            kept += 1
            unknown += 'data_found' not in row
            if row.get('data_found', dataset.found) != dataset.found:
                changed.append((row, dataset))
    if changed:
        row, dataset = changed[0]
        raise UserError(
            f'{dataset.name} has changed: {len(changed)} of {kept} finished points in '
            f'{store.folder} were trained on other images of that name (such as {row["arm"]}, seed '
            f'{row["seed"]}: digest {row["data_found"]}, now {dataset.found}). Results of the two '
            'must not stand in one table: name another --workdir, or bring the old data back.'
        )
    if left:
        print(
            f'note: {len(left)} finished points in {store.folder} are of another config, or of '
            'code whose configs had other fields; they are left alone and stand in no table',
            file=sys.stderr,
        )
    if unknown:
        print(
            f'note: {unknown} of {kept} finished points do not say which images they were '
            'trained on; they are taken to be those of today',
            file=sys.stderr,
        )


def _other_code(rows, now: dict[str, Any]) -> str:
    """A note on finished points of other code than that of this environment, or ''."""
    others = sorted(
        {
            _short(row.get('git_revision'))
            for row in rows
            if row.get('code') not in (None, now['code'])
        }
    )
    return (
        f'note: finished points were trained by other code, of revision {", ".join(others)}; '
        f'this is {_short(now["git_revision"])}; name another --workdir to train all of them '
        'anew'
        if others
        else ''
    )


def _short(revision: str | None) -> str:
    """The first digits of a revision, and whether files had been changed since."""
    commit, plus, changes = (revision or 'unknown').partition('+')
    return commit[:12] + plus + changes


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


class Store:
    """The files of a work directory. It only ever adds: nothing finished is overwritten."""

    def __init__(self, folder: pathlib.Path, experiment: str):
        """Opens or makes the folder.

        Raises:
          UserError: it holds another experiment or other files, or cannot be written.
        """
        self.folder = folder
        plan = folder / 'plan.json'
        found = None
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                rows = results.read_points(folder)
            try:
                found = json.loads(plan.read_text())['experiment']
            except (FileNotFoundError, NotADirectoryError):
                pass
            except (ValueError, KeyError, TypeError) as error:  # damaged: the rows know it too
                print(f'note: {plan}: {reason(error)}', file=sys.stderr)
            if found is None and rows:
                found = rows[-1].get('experiment')
            if found is None and folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f'{folder} is not empty and holds no experiment of ours. '
                    'Name another --workdir.'
                )
        except OSError as error:
            raise UserError(
                f'cannot read {folder}: {error.strerror or error}. Name another --workdir.'
            ) from error
        if found not in (None, experiment):
            raise UserError(
                f'{folder} holds the experiment {found!r}, this one is '
                f'{experiment!r}. Name another --workdir.'
            )
        for warning in caught:
            print(f'note: {warning.message}', file=sys.stderr)
        self.rows = {row['point']: row for row in rows}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not plan.exists():  # marks the folder as ours, whatever happens next
                results.write_whole(plan, json.dumps({'experiment': experiment}))
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError):
        """Raises the UserError for a folder that cannot be written."""
        kept = len(getattr(self, 'rows', {}))
        raise UserError(
            f'cannot write to {error.filename or self.folder}: '
            f'{error.strerror or error}. Finished '
            f'points kept: {kept}. Free space or permissions, or name another '
            '--workdir; then run the same command again.'
        ) from error

    def write(self, name: str, text: str) -> None:
        """Writes a whole file, or leaves the old one as it was."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            results.write_whole(path, text)
        except OSError as error:
            self.fail(error)

    def append(self, name: str, row: dict) -> None:
        try:
            results.append(self.folder / name, row)
        except OSError as error:
            self.fail(error)

    def keep_weights(self, name: str, variables) -> None:
        try:
            checkpoint.save_weights(self.folder / name, variables)
        except OSError as error:
            self.fail(error)

    def add(self, row: dict) -> None:
        self.append('results.jsonl', row)
        self.rows[row['point']] = row


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
        self.environment = environment()

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
            if _interrupted:  # some C++ code turns an interrupt into an error of its own
                raise KeyboardInterrupt from error
            outcomes = [error] * len(points)
        # The weights first: what has a row is never trained again. The rows of a group together:
        # its checkpoint is of all of them
        for index, variables in ended.items():
            if points[index].phase == sweep.FINAL:
                self.store.keep_weights(f'points/{points[index].name}/weights.msgpack', variables)
        rows = [_row(outcome) for outcome in outcomes]
        with _uninterrupted():
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
        experiment = results.load(self.store.folder)
        summary = results.summarise(experiment)
        self.console.print(results.table(summary))
        for sentence in results.sentences(summary):
            self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        try:
            results.write_csv(self.store.folder / 'results.csv', summary)
            paths = figures.draw(experiment, self.store.folder / 'figure')
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


@contextlib.contextmanager
def _uninterrupted():
    """Ctrl-C and SIGTERM take effect after what is inside."""
    came = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        _interrupt(came[0], None)


def _words(row: dict) -> str:
    if row['status'] != 'done':
        return f'{row["status"].upper()}: {row["reason"]}'
    part = 'test' if 'test/error' in row else 'validation'
    return f'{part} error {100 * row[f"{part}/error"]:.2f} %'


def environment() -> dict[str, Any]:
    """Versions, devices and the code's git revision ('+changes' when the tree is not clean)."""

    def git(*words):
        done = subprocess.run(
            ['git', *words], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        revision = git('rev-parse', 'HEAD')
        if revision and git('status', '--porcelain', '--untracked-files=no'):
            revision += '+changes'
    except OSError:  # no git on this machine
        revision = None
    return {
        'python': platform.python_version(),
        'platform': platform.platform(),
        'cpu_count': os.cpu_count(),
        'jax': jax.__version__,
        'jaxlib': jaxlib.__version__,
        'flax': flax.__version__,
        'numpy': numpy.__version__,
        'device_kind': jax.local_devices()[0].device_kind,
        'backend': jax.default_backend(),
        'device_count': jax.local_device_count(),
        'git_revision': revision,
        'code': _code_digest(),
    }


def _code_digest() -> str:
    """Of the Python files of the project: what the revision says, and what is not committed."""
    root = pathlib.Path(__file__).parent.parent
    files = [path for folder in ('cnns', 'experiments') for path in (root / folder).glob('*.py')]
    return digest(
        [(path.relative_to(root).as_posix(), path.read_bytes()) for path in sorted(files)]
    )


if __name__ == '__main__':
    sys.exit(main())
