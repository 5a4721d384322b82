"""Trains the runs of a plan that are not finished yet, and draws what they found."""

import dataclasses
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import train
from experiments.data import Dataset
from experiments.environment import environment
from experiments.errors import UserError
from experiments.files import sealed
from experiments.plan import start
from experiments.plan.runs import FINAL, SELECT, Arm, Plan, Run, choose_learning_rate
from experiments.progress import Reporter, note
from experiments.report import figures, page, result_table
from experiments.report.sentences import sentences
from experiments.report.summary import summarise
from experiments.runner import checkpoints, interrupts, lengths
from experiments.runner.rows import Row, label, outcome_columns, plan_file, row_of, words
from experiments.train import checkpoint, saved
from experiments.workdir import WorkDir, folder_of, read_experiment

_DRAWN = 3  # times at most, where another process adds rows while table and figure are drawn


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
    unsound: list[str] = dataclasses.field(default_factory=list)  # weights of finished runs
    current: str = 'the first run'

    def run(self) -> None:
        """Trains all runs, an arm at a time: its runs share one compilation."""
        self.workdir.refresh()
        self._write_plan()
        self._check_phases()
        if shorter := lengths.not_continued(self.plan, self.workdir):
            note(shorter)
        with Reporter(self.console, self.plan.size) as self.reporter:
            for arm in self.plan.arms:
                self._run_arm(arm)
        self.current = 'the table and figures'
        if self.unsound:
            more = f' (and {len(self.unsound) - 1} more)' if len(self.unsound) > 1 else ''
            note(
                f'{self.unsound[0]}{more}. The row of the finished run stands; name another '
                '--workdir to train it again.'
            )

    def _check_phases(self) -> None:
        """UserError if the final runs alone are asked for before their learning rates are known."""
        if SELECT in self.plan.phases:
            return
        missing = [
            arm.label
            for arm in self.plan.arms
            if any(
                run.name not in self.workdir.rows
                for run in self.plan.trials(arm, self.workdir.rows)
            )
        ]
        if missing:
            raise UserError(
                f'the learning rates of {len(missing)} arms (such as {missing[0]}) are not chosen '
                f'yet: their trials are not finished in {self.workdir.folder}. Run the command '
                f'with --only phase={SELECT} first.'
            )

    def _run_arm(self, arm: Arm) -> None:
        learning_rate = None
        if arm.learning_rates:
            trials = self._run_trials(arm)
            learning_rate = choose_learning_rate(
                trials, self.workdir.rows, self.plan.config.protocol
            )
            if learning_rate is None:
                if FINAL in self.plan.phases:
                    self._no_learning_rate(arm)
                return
            self._write_plan()  # names the final runs, so that their curves can be drawn meanwhile
        if FINAL in self.plan.phases:
            self._run_phase(self.plan.finals(arm, learning_rate))

    def _run_trials(self, arm: Arm) -> list[Run]:
        """Trains the trials of an arm, those that widen its grid too; returns them all."""
        trials: list[Run] = []
        while True:
            self.workdir.refresh()
            found = self.plan.trials(arm, self.workdir.rows)
            new = found[len(trials) :]
            if not new or SELECT not in self.plan.phases:
                return found
            beyond = [run for run in new if run.learning_rate not in arm.learning_rates]
            if beyond:
                self.reporter.more(len(beyond))
                rates = ', '.join(f'{rate:g}' for rate in {run.learning_rate for run in beyond})
                note(
                    f'{arm.label}: the edge of the grid won, so learning rate {rates} is tried too'
                )
            trials = found
            self._run_phase(new)

    def _run_phase(self, runs: list[Run]) -> None:
        """Trains runs of one arm and phase and adds their rows; repeats only those that failed."""
        waiting = []
        for run in runs:
            self.asked.append(run)
            self._start([run])
            self.workdir.refresh()  # another process may have trained it meanwhile
            old = self.workdir.rows.get(run.name)
            if old and old['status'] in ('done', 'diverged'):
                end = 'finished before, skipped'
                if old['status'] == 'diverged':
                    end = f'diverged before: {old["reason"]}'
                self.reporter.finish(end)
                checkpoints.remove(self.workdir, run)  # of a group that it was once the first of
                self._check_weights(run, old)
                continue
            waiting.append(run)
            if len(waiting) == run.config.train.together:
                self._train(waiting)
                waiting = []
        if waiting:
            self._train(waiting)

    def _check_weights(self, run: Run, row: Row) -> None:
        """Notes where the weights of a finished run are not there, or not those of its row."""
        if run.phase == FINAL and row['status'] == 'done':
            folder = self.workdir.folder / folder_of(run.name)
            path = start.weights_of(folder) or self.workdir.folder / _weights(run.name)
            fault = checkpoint.weights_fault(path, row.get('weights'))
            if fault:
                self.unsound.append(f'{path} is {fault}')

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
        rows = [outcome_columns(outcome) for outcome in outcomes]
        # The weights first: what has a row is never trained again.
        for index, variables in weights.items():
            if runs[index].phase == FINAL:
                packed = self._packed(runs[index], variables)
                self.workdir.write(_weights(runs[index].name), packed)
                rows[index]['weights'] = checkpoint.digest_of(packed)
        # The rows of a group together: its checkpoint is of all of them.
        with interrupts.uninterrupted():
            for run, row in zip(runs, rows, strict=True):
                self._add(run, row)
            if kept.begun or all(row['status'] != 'failed' for row in rows):
                # what failed on the way continues from its checkpoint, but only once
                checkpoints.remove(self.workdir, runs[0])
        for run, row in zip(runs, rows):
            self.reporter.finish(words(row), label([run]), len(runs))

    def _packed(self, run: Run, variables: Any) -> bytes:
        made_by = {
            'title': self.whole.title,
            'experiment': self.plan.name,
            'arm': run.arm,
            'phase': run.phase,
            'seed': run.seed,
            'learning_rate': run.learning_rate,
            'name': run.name,
        }
        return saved.pack(variables, run.config, self.datasets[run.arm], made_by)

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
            if interrupts.interrupted:  # what the handler raised inside of a callback is lost
                raise KeyboardInterrupt

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
        content = plan_file(self.whole, self.datasets, self.command, self.workdir.rows)
        self.workdir.write('plan.json', json.dumps(sealed(content), indent=1))

    def finish(self) -> int:
        """Prints the table and the sentences; writes CSV, figure and report. Returns the status."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
            self.workdir.refresh()
            for _ in range(_DRAWN):
                summary, paths = self._draw()
                if not self.workdir.refresh():
                    break
        self.console.print(result_table.terminal(summary))
        for sentence in sentences(summary):
            self.console.print(sentence)
        written = ', '.join(map(str, paths))
        self.console.print(f'written: {written}')
        status = 0
        for run in self.asked:
            row = self.workdir.rows[run.name]
            if row['status'] != 'done':
                print(f'{row["status"]}: {label([run])}: {row["reason"]}', file=sys.stderr)
                # A trial may diverge: a learning rate of a grid may be too high for an arm.
                status |= row['phase'] == FINAL or row['status'] == 'failed'
        return int(status)

    def _draw(self) -> tuple[list[dict[str, Any]], list[Path]]:
        """Writes plan, CSV, figure and report; returns the summary and the files."""
        self._write_plan()
        folder = self.workdir.folder
        experiment = read_experiment(folder)
        summary = summarise(experiment)
        with self.workdir.writing():
            result_table.write_csv(folder / 'results.csv', summary)
            drawn = figures.write(experiment, folder / 'figure')
            return summary, [folder / 'results.csv', *drawn, page.write(folder)]


def _weights(run: str) -> str:
    """The file of a run's weights, inside of the work directory."""
    return f'{folder_of(run)}/weights.safetensors'
