"""Trains the runs of a plan that are not finished yet and adds their rows."""

import json
import sys
from typing import Any

from rich.console import Console

from experiments import train
from experiments.data import Dataset
from experiments.environment import environment
from experiments.errors import UserError, reason
from experiments.plan import runs as planning
from experiments.plan.runs import Arm, Plan, Run
from experiments.progress import Reporter
from experiments.runner import interrupts
from experiments.runner.checkpoints import GroupCheckpoint, path_of
from experiments.train import checkpoint
from experiments.workdir import WorkDir


class Runner:
    """Trains the runs of `plan`, a part of the plan `whole`, train.together of an arm at once.

    datasets: {label of an arm: its data set}. command: what the plan's file says how it was run.
    """

    def __init__(
        self,
        whole: Plan,
        plan: Plan,
        datasets: dict[str, Dataset],
        workdir: WorkDir,
        console: Console,
        command: str,
    ):
        self.whole, self.plan, self.datasets = whole, plan, datasets
        self.workdir, self.console, self.command = workdir, console, command
        self.names: list[str] = []  # of the runs this call asks for, as they become known
        self.current = 'the first run'
        self.environment = environment()

    def run(self) -> None:
        """Trains arm by arm: the runs of an arm share one compilation."""
        trials = sum(len(self.plan.trials(arm)) for arm in self.plan.arms)
        self.write_plan()
        with Reporter(
            self.console, trials + sum(len(arm.seeds) for arm in self.plan.arms)
        ) as self.reporter:
            for arm in self.plan.arms:
                self.run_arm(arm)
        self.current = 'the table and figures'
        self.write_plan()

    def run_arm(self, arm: Arm) -> None:
        """Trains the trials of an arm, chooses its learning rate, trains its final runs."""
        rate = None
        if self.plan.rates:
            trials = self.plan.trials(arm)
            self.run_all(trials)
            rate = planning.choose_rate(trials, self.workdir.rows)
            if rate is None:
                return self.without_rate(arm)
        self.run_all(self.plan.finals(arm, rate))

    def without_rate(self, arm: Arm) -> None:
        """Adds the rows of final runs for which no learning rate is left."""
        for run in self.plan.finals(arm, None):
            self.names.append(run.name)
            self.reporter.start(f'{run.arm} (final, seed {run.seed})', 0)
            row = {'status': 'failed', 'reason': 'no learning rate of the grid trained'}
            if run.name not in self.workdir.rows:
                self.add(run, row)
            self.reporter.finish(in_words(row))

    def run_all(self, runs: list[Run]) -> None:
        """Trains runs of one arm and phase and adds their rows. Finished ones are skipped, failed
        ones tried again."""
        waiting = []
        for run in runs:
            self.names.append(run.name)
            self.announce([run])
            old = self.workdir.rows.get(run.name)
            if old and old['status'] in ('done', 'diverged'):
                self.reporter.finish(
                    'finished before, skipped'
                    if old['status'] == 'done'
                    else f'diverged before: {old["reason"]}'
                )
                path_of(self.workdir, run).unlink(missing_ok=True)  # of a group it was the first of
            else:
                waiting.append(run)
        for start in range(0, len(waiting), runs[0].config.train.together):
            self.run_group(waiting[start : start + runs[0].config.train.together])

    def announce(self, runs: list[Run]) -> None:
        self.current = label(runs)
        length = train.length_of(runs[0].config, self.datasets[runs[0].arm])
        self.reporter.start(self.current, length.epochs)

    def run_group(self, runs: list[Run]) -> None:
        """Trains these runs at once and adds the row of each."""
        self.announce(runs)
        self.describe(runs)
        kept = self.checkpoint_of(runs)
        weights: dict[int, Any] = {}
        try:
            outcomes = self.fit(runs, kept, weights)
        except UserError:
            raise
        except Exception as error:  # one bad run must not cost the others
            if interrupts.interrupted:  # some C++ code turns an interrupt into an error of its own
                raise KeyboardInterrupt from error
            outcomes = [error] * len(runs)
        # The weights first: what has a row is never trained again. The rows of a group together:
        # its checkpoint is of all of them
        if runs[0].phase == planning.FINAL:
            for index, variables in weights.items():
                self.workdir.write(
                    f'points/{runs[index].name}/weights.msgpack', checkpoint.weights(variables)
                )
        rows = [row_of(outcome) for outcome in outcomes]
        with interrupts.uninterrupted():
            for run, row in zip(runs, rows, strict=True):
                self.add(run, row)
            if kept.begun or all(row['status'] != 'failed' for row in rows):
                kept.remove()  # what failed on the way continues from there, but only once
        for run, row in zip(runs, rows, strict=True):
            self.reporter.finish(in_words(row), label([run]), len(runs))

    def describe(self, runs: list[Run]) -> None:
        """Writes the config and the environment of each run."""
        for run in runs:
            for name, content in (('config', run.resolved), ('environment', self.environment)):
                text = json.dumps(content, indent=1, sort_keys=True)
                self.workdir.write(f'points/{run.name}/{name}.json', text)

    def checkpoint_of(self, runs: list[Run]) -> GroupCheckpoint:
        kept = GroupCheckpoint(
            self.workdir,
            runs,
            {
                'data set': self.datasets[runs[0].arm].found,
                'number of devices': train.device_count(runs[0].config, len(runs)),
                'kind of device': self.environment['device_kind'],
                'jax': self.environment['jax'],
                'code': self.environment['code'],
            },
        )
        if kept.note:
            print(f'note: {kept.note}', file=sys.stderr)
        if kept.begun:
            self.reporter.say(f'continues after epoch {kept.begun.epoch}')
        return kept

    def fit(self, runs: list[Run], kept: GroupCheckpoint, weights: dict[int, Any]) -> list:
        """The outcome of each run; `weights` gets the variables of those that have a row."""

        def on_epoch(index, line):
            self.workdir.append(f'points/{runs[index].name}/metrics.jsonl', line)
            self.reporter.epoch(line, label([runs[index]]))

        def fit():
            return train.fit_together(
                [run.config for run in runs],
                self.datasets[runs[0].arm],
                on_epoch,
                read_test=runs[0].phase == planning.FINAL,
                on_step=self.reporter.step,
                begun=kept.begun,
                keep=kept.keep,
                on_end=weights.__setitem__,
            )

        try:
            return fit()
        except checkpoint.Misfit as error:
            print(
                f'note: {kept.path} does not fit ({error}); the training starts over',
                file=sys.stderr,
            )
            kept.begun = None
            return fit()

    def add(self, run: Run, row: dict[str, Any]) -> None:
        """Adds the row of a run to the work directory."""
        dataset = self.datasets[run.arm]
        self.workdir.add(
            {
                'point': run.name,
                'experiment': self.plan.file.name,
                'phase': run.phase,
                'arm': run.arm,
                'overrides': run.overrides,
                'seed': run.seed,
                'learning_rate': run.rate,
                'dataset': dataset.name,
                'data_found': dataset.found,
                'git_revision': self.environment['git_revision'],
                'code': self.environment['code'],
                'model': run.config.model.name,
                **row,
            }
        )

    def write_plan(self) -> None:
        """plan.json: what the tables and figures need to know beside the rows.

        It lists the runs of the whole experiment, so that parts run with --only add up to it.
        """
        whole, config = self.whole, self.whole.config
        sets = self.datasets.values()
        plan = {
            'experiment': whole.file.name,
            'title': config.title,
            'command': f'python -m experiments.run {self.command}',
            'dataset': ', '.join(dict.fromkeys(dataset.name for dataset in sets)),
            'dataset_note': '; '.join(dict.fromkeys(dataset.note for dataset in sets)),
            'model': config.model.name,
            'arms': [arm.label for arm in whole.arms],
            'arm_seeds': {arm.label: arm.seeds for arm in whole.arms},
            'seeds': sorted({seed for arm in whole.arms for seed in arm.seeds}),
            'rates': list(whole.rates),
            'level': config.protocol.level,
            'epochs': train.length_of(config, next(iter(sets))).epochs,
            'points': known_names(whole, self.workdir.rows),
        }
        self.workdir.write('plan.json', json.dumps(plan, indent=1))

    def bad_rows(self) -> list[dict[str, Any]]:
        """Rows of the runs this call asked for that are not done."""
        rows = (self.workdir.rows[name] for name in self.names)
        return [row for row in rows if row['status'] != 'done']


def known_names(plan: Plan, rows: dict[str, dict]) -> list[str]:
    """The names of all runs of a plan that are known: of final runs only once every trial of their
    arm has a row."""
    names = []
    for arm in plan.arms:
        trials = plan.trials(arm)
        names += [run.name for run in trials]
        if all(run.name in rows for run in trials):
            rate = planning.choose_rate(trials, rows) if trials else None
            names += [run.name for run in plan.finals(arm, rate)]
    return names


def label(runs: list[Run]) -> str:
    """Names runs of one arm and phase: 'max pooling (final, seeds 0, 1, rate 0.05)'."""
    words = [runs[0].phase]
    for name, values in (
        ('seed', [str(run.seed) for run in runs]),
        ('rate', [f'{run.rate:g}' for run in runs]),
    ):
        different = dict.fromkeys(values)
        words.append(f'{name}{"s" if len(different) > 1 else ""} {", ".join(different)}')
    return f'{runs[0].arm} ({", ".join(words)})'


def row_of(outcome: dict[str, Any] | Exception) -> dict[str, Any]:
    """What the row of a run says of its training."""
    if isinstance(outcome, train.Diverged):
        return {'status': 'diverged', 'reason': str(outcome)}
    if isinstance(outcome, Exception):
        return {'status': 'failed', 'reason': reason(outcome)[:500]}
    return outcome | {'status': 'done', 'reason': ''}


def in_words(row: dict[str, Any]) -> str:
    """The outcome of a run, for the line that ends it."""
    if row['status'] != 'done':
        return f'{row["status"].upper()}: {row["reason"]}'
    split = 'test' if 'test/error' in row else 'validation'
    return f'{split} error {100 * row[f"{split}/error"]:.2f} %'
