"""Trains the runs of a plan that are not finished yet, and draws what they found."""

import dataclasses
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from experiments import train
from experiments.data import Dataset
from experiments.environment import environment
from experiments.errors import UserError
from experiments.files import sealed
from experiments.plan.runs import FINAL, Arm, Plan, Run, choose_learning_rate
from experiments.progress import Reporter, note
from experiments.report import figures, page, result_table
from experiments.report.sentences import sentences
from experiments.report.summary import summarise
from experiments.runner import checkpoints, interrupts
from experiments.runner.rows import Row, label, outcome_columns, plan_file, row_of, words
from experiments.train import checkpoint
from experiments.workdir import WorkDir, folder_of, read_experiment


@dataclasses.dataclass
class Runner:
    """Trains the runs of a plan that are not finished yet, train.together of an arm at once.

    whole: the plan without --only; command: the words of the command line.
    """

    whole: Plan
    plan: Plan
    datasets: dict[str, Dataset]  # of each arm, by its label
    workdir: WorkDir
    console: Console
    command: str
    environment: dict[str, Any] = dataclasses.field(default_factory=environment)
    asked: list[Run] = dataclasses.field(default_factory=list)  # so far, by this call
    current: str = 'the first run'

    def run(self) -> None:
        """Trains all runs, an arm at a time: its runs share one compilation."""
        self._write_plan()
        with Reporter(self.console, self.plan.size) as self.reporter:
            for arm in self.plan.arms:
                self._run_arm(arm)
        self.current = 'the table and figures'
        self._write_plan()

    def _run_arm(self, arm: Arm) -> None:
        learning_rate = None
        if self.plan.learning_rates:
            trials = self.plan.trials(arm)
            self._run_phase(trials)
            learning_rate = choose_learning_rate(trials, self.workdir.rows)
            if learning_rate is None:
                self._no_learning_rate(arm)
                return
            self._write_plan()  # names the final runs, so that their curves can be drawn meanwhile
        self._run_phase(self.plan.finals(arm, learning_rate))

    def _run_phase(self, runs: list[Run]) -> None:
        """Trains runs of one arm and phase and adds their rows; repeats only those that failed."""
        waiting = []
        for run in runs:
            self.asked.append(run)
            self._start([run])
            old = self.workdir.rows.get(run.name)
            if old and old['status'] in ('done', 'diverged'):
                end = 'finished before, skipped'
                if old['status'] == 'diverged':
                    end = f'diverged before: {old["reason"]}'
                self.reporter.finish(end)
                checkpoints.remove(self.workdir, run)  # of a group that it was once the first of
                continue
            waiting.append(run)
            if len(waiting) == run.config.train.together:
                self._train(waiting)
                waiting = []
        if waiting:
            self._train(waiting)

    def _start(self, runs: list[Run]) -> None:
        self.current = label(runs)
        epochs = train.length_of(runs[0].config, self.datasets[runs[0].arm]).epochs
        self.reporter.start(self.current, epochs, len(runs))

    def _train(self, runs: list[Run]) -> None:
        """Trains these runs at once and adds the row of each."""
        self._start(runs)
        for run in runs:
            for name, content in (('config', run.resolved), ('environment', self.environment)):
                text = json.dumps(content, indent=1, sort_keys=True)
                self.workdir.write(f'{folder_of(run.name)}/{name}.json', text)
        kept = self._checkpoint(runs)
        weights: dict[int, Any] = {}
        outcomes = self._outcomes(runs, kept, weights)
        # The weights first: what has a row is never trained again.
        for index, variables in weights.items():
            if runs[index].phase == FINAL:
                name = f'{folder_of(runs[index].name)}/weights.msgpack'
                self.workdir.write(name, checkpoint.weights(variables))
        rows = [outcome_columns(outcome) for outcome in outcomes]
        # The rows of a group together: its checkpoint is of all of them.
        with interrupts.uninterrupted():
            for run, row in zip(runs, rows, strict=True):
                self._add(run, row)
            if kept.begun or all(row['status'] != 'failed' for row in rows):
                # what failed on the way continues from its checkpoint, but only once
                checkpoints.remove(self.workdir, runs[0])
        for run, row in zip(runs, rows):
            self.reporter.finish(words(row), label([run]), len(runs))

    def _checkpoint(self, runs: list[Run]) -> checkpoints.Checkpoint:
        made_of = {
            'data set': self.datasets[runs[0].arm].found,
            'number of devices': train.device_count(runs[0].config, len(runs)),
            'kind of device': self.environment['device_kind'],
            'jax': self.environment['jax'],
            'code': self.environment['code'],
        }
        kept = checkpoints.Checkpoint(self.workdir, runs, made_of)
        if kept.note:
            note(kept.note)
        if kept.begun:
            self.reporter.say(f'continues after epoch {kept.begun.epoch}')
        return kept

    def _outcomes(
        self, runs: list[Run], kept: checkpoints.Checkpoint, weights: dict[int, Any]
    ) -> Sequence[Row | Exception]:
        """The metrics of each run, or the reason for none; puts the variables into `weights`."""

        def on_epoch(index, line):
            self.workdir.append(f'{folder_of(runs[index].name)}/metrics.jsonl', line)
            self.reporter.epoch(line, label([runs[index]]))

        try:
            return train.fit_together(
                [run.config for run in runs],
                self.datasets[runs[0].arm],
                on_epoch,
                read_test=runs[0].phase == FINAL,
                on_step=self.reporter.step,
                begun=kept.begun,
                keep=kept.keep,
                on_end=weights.__setitem__,
            )
        except checkpoint.Misfit as error:  # raised only where kept.begun is given
            note(f'{kept.path} does not fit ({error}); the training starts over')
            kept.begun = None
            return self._outcomes(runs, kept, weights)
        except UserError:
            raise
        except Exception as error:  # one bad run must not cost the others
            if interrupts.interrupted:  # some C++ code turns an interrupt into an error of its own
                raise KeyboardInterrupt from error
            return [error] * len(runs)

    def _add(self, run: Run, columns: Row) -> None:
        dataset = self.datasets[run.arm]
        self.workdir.add(row_of(run, self.plan.name, dataset, self.environment, columns))

    def _no_learning_rate(self, arm: Arm) -> None:
        """Rows for the final runs of an arm that no learning rate of the grid trained."""
        for run in self.plan.finals(arm):
            self.asked.append(run)
            self.reporter.start(label([run]), 0)
            row = {'status': 'failed', 'reason': 'no learning rate of the grid trained'}
            if run.name not in self.workdir.rows:
                self._add(run, row)
            self.reporter.finish(words(row))

    def _write_plan(self) -> None:
        self.workdir.refresh()
        content = plan_file(self.whole, self.datasets, self.command, self.workdir.rows)
        self.workdir.write('plan.json', json.dumps(sealed(content), indent=1))

    def finish(self) -> int:
        """Prints the table and the sentences; writes CSV, figure and report. Returns the status."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
            self._draw()
        status = 0
        for run in self.asked:
            row = self.workdir.rows[run.name]
            if row['status'] != 'done':
                print(f'{row["status"]}: {label([run])}: {row["reason"]}', file=sys.stderr)
                # A trial may diverge: a learning rate of a grid may be too high for an arm.
                status |= row['phase'] == FINAL or row['status'] == 'failed'
        return int(status)

    def _draw(self) -> None:
        folder = self.workdir.folder
        experiment = read_experiment(folder)
        summary = summarise(experiment)
        self.console.print(result_table.terminal(summary))
        for sentence in sentences(summary):
            self.console.print(sentence)
        with self.workdir.writing():
            result_table.write_csv(folder / 'results.csv', summary)
            drawn = figures.write(experiment, folder / 'figure')
            paths = [folder / 'results.csv', *drawn, page.write(folder)]
        written = ', '.join(map(str, paths))
        self.console.print(f'written: {written}')
