"""Trains the runs of a plan that are not finished yet, and draws what they found."""

import dataclasses
import json
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import train
from experiments.data import Dataset
from experiments.environment import environment, now
from experiments.errors import UserError, listed
from experiments.files import sealed, unsealed
from experiments.plan import start
from experiments.plan.runs import FINAL, SELECT, Arm, Plan, Run, choose_learning_rate
from experiments.progress import Reporter, note
from experiments.runner import checkpoints, follow, interrupts, leases, lengths, watch
from experiments.runner import team as teams
from experiments.runner.rows import Row, label, outcome_columns, plan_file, row_of, words
from experiments.train import checkpoint, saved
from experiments.workdir import WorkDir, folder_of, read_experiment

_LOOK = 2.0  # seconds between two looks at what other workers do
_NAMED = 3  # runs that are waited for, in a note
# The plan is written anew for final runs whose learning rate is known now, for many arms at once
# where there are many: so many times in all, and where so many seconds have passed.
_PLAN_TIMES, _PLAN_SECONDS = 100, 60.0
_DRAWING = 'drawing'  # the lease of what is drawn
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
    team: teams.Team = dataclasses.field(default_factory=teams.Team)
    environment: dict[str, Any] = dataclasses.field(default_factory=environment)
    asked: dict[str, Run] = dataclasses.field(default_factory=dict)  # so far, by this call
    ended: set[str] = dataclasses.field(default_factory=set)  # of those
    unsound: list[str] = dataclasses.field(default_factory=list)  # weights of finished runs
    shared: bool = False  # whether other workers were seen at work
    current: str = 'the first run'
    # runs that had failed before this call, and how many rows each had
    _again: dict[str, int] = dataclasses.field(default_factory=dict)
    _waited: set[str] = dataclasses.field(default_factory=set)  # what was said to be waited for
    _planned: set[str] = dataclasses.field(default_factory=set)  # runs that plan.json names
    _written: float = 0.0  # time.monotonic() when it was
    _trained: bool = False  # whether this call has trained any run
    _unwritten: int = 0  # times since that it did not name runs

    def __post_init__(self):
        self.leases = leases.Leases(self.workdir.folder / leases.FOLDER)
        self.team.on_end = self.leases.close

    def run(self) -> None:
        """Trains all runs, an arm at a time: its runs share one compilation.

        Other workers may train runs of the same work directory meanwhile. What they have is waited
        for, or taken over where they end.
        """
        self.workdir.refresh()
        self._write_plan()
        self._check_phases()
        watch.check(self.plan)
        if shorter := lengths.not_continued(self.plan, self.workdir):
            note(shorter)
        # What failed before is tried again once, by one of the workers that begin together
        if not self._held(self.plan.arms):
            names = [name for name, row in self.workdir.rows.items() if row['status'] == 'failed']
            self._again = {name: self.workdir.counts[name] for name in names}
        with Reporter(self.console, self.plan.size) as self.reporter:
            try:
                self._run_arms()
            finally:
                self.leases.close()
        self.current = 'the table and figures'
        if self.unsound:
            more = f' (and {len(self.unsound) - 1} more)' if len(self.unsound) > 1 else ''
            note(
                f'{self.unsound[0]}{more}. The row of the finished run stands; name another '
                '--workdir to train it again.'
            )

    def _run_arms(self) -> None:
        """Trains arms that no other worker is at first, then helps with the others."""
        left = list(self.plan.arms)
        while left:
            trained = len(self.ended)
            for arm in self._others_last(left):
                if self._run_arm(arm):
                    left.remove(arm)
                if len(self.ended) > trained:
                    break
            else:
                if left:
                    self._wait(left)

    def _others_last(self, arms: Iterable[Arm]) -> Iterator[Arm]:
        """These arms in their order, but those last that another worker is at when they come."""
        held = []
        for arm in list(arms):
            if self._held([arm]):
                held.append(arm)
            else:
                yield arm
        yield from held

    def _held(self, arms: Iterable[Arm]) -> dict[str, str]:
        """The runs of arms that other workers train: {label of the run: its worker}."""
        runs: dict[str, Run] = {}
        if not self.leases.any():
            return {}
        for arm in arms:
            trials = self.plan.trials(arm, self.workdir.rows)
            rates = {run.learning_rate for run in trials} or {None}
            finals = [run for rate in rates for run in self.plan.finals(arm, rate)]
            runs |= {run.name: run for run in (*trials, *finals)}
        held = self.leases.others(runs)
        return {label([runs[name]]): leases.where(holder) for name, holder in held.items()}

    def _wait(self, arms: Sequence[Arm]) -> None:
        """Waits a moment for what other workers train, and says so once."""
        self._check_phases()
        self.shared = True
        if held := self._held(arms):
            self.current = f'waiting for {next(iter(held))}'
            new = {name: worker for name, worker in held.items() if name not in self._waited}
            if new:
                self._waited |= new.keys()
                words = [f'{name} by {worker}' for name, worker in new.items()]
                note(f'waits for runs of other workers: {listed(words, _NAMED, "; ")}')
        time.sleep(min(_LOOK, self.leases.interval))

    def _check_phases(self) -> None:
        """UserError if the final runs alone are asked for before their learning rates are known."""
        if SELECT in self.plan.phases:
            return
        missing = []
        for arm in self.plan.arms:
            trials = self.plan.trials(arm, self.workdir.rows)
            left = [run.name for run in trials if run.name not in self.workdir.rows]
            if len(left) > len(self.leases.others(left)):  # others are at work on the rest
                missing.append(arm.label)
        if missing:
            raise UserError(
                f'the learning rates of {len(missing)} arms (such as {missing[0]}) are not chosen '
                f'yet: their trials are not finished in {self.workdir.folder}. Run the command '
                f'with --only phase={SELECT} first.'
            )

    def _run_arm(self, arm: Arm) -> bool:
        """Trains what no other worker has of an arm; whether all of it has ended."""
        learning_rate = None
        if arm.learning_rates:
            trials = self._run_trials(arm)
            if trials is None:
                return False
            learning_rate = choose_learning_rate(
                trials, self.workdir.rows, self.plan.config.protocol
            )
            if learning_rate is None:
                if FINAL in self.plan.phases:
                    self._no_learning_rate(arm)
                return True
        if FINAL not in self.plan.phases:
            return True
        finals = self.plan.finals(arm, learning_rate)
        self._name(finals)
        return self._run_phase(finals)

    def _name(self, runs: list[Run]) -> None:
        """Has plan.json name these runs, so that `status` and figures know them as they train."""
        if any(run.name not in self._planned for run in runs):
            self._unwritten += 1
            late = time.monotonic() - self._written > _PLAN_SECONDS
            if late or self._unwritten >= len(self.plan.arms) / _PLAN_TIMES:
                self._write_plan()

    def _run_trials(self, arm: Arm) -> list[Run] | None:
        """Trains the trials of an arm, those that widen its grid too.

        Returns them all, None where other workers have some of them.
        """
        while True:
            self.workdir.refresh()
            trials = self.plan.trials(arm, self.workdir.rows)
            if SELECT not in self.plan.phases:
                rows = self.workdir.rows
                return trials if all(run.name in rows for run in trials) else None
            new = [run for run in trials if run.name not in self.asked]
            beyond = [run for run in new if run.learning_rate not in arm.learning_rates]
            if beyond:
                self.reporter.more(len(beyond))
                rates = ', '.join(f'{rate:g}' for rate in {run.learning_rate for run in beyond})
                note(
                    f'{arm.label}: the edge of the grid won, so learning rate {rates} is tried too'
                )
            self._name(beyond)
            if not self._run_phase(trials):
                return None
            if not new:
                return trials

    def _run_phase(self, runs: list[Run]) -> bool:
        """Trains runs of one arm and phase that no other worker has, and adds their rows.

        Repeats only those that had failed before. Returns whether all have ended.
        """
        waiting = []
        for run in runs:
            before = run.name not in self.asked
            self.asked[run.name] = run
            if self._has_ended(run, before):
                continue
            with self.workdir.writing():
                claimed = self.leases.claim(run.name)
            if claimed and self._has_ended(run, before):  # between the look and the claim
                self.leases.release([run.name])
            elif claimed:
                waiting.append(run)
            if len(waiting) == run.of.config.train.together:
                self._train(waiting)
                waiting = []
        if waiting:
            self._train(waiting)
        return all(run.name in self.ended for run in runs)

    def _has_ended(self, run: Run, before: bool) -> bool:
        """Whether a run has a row that stands; says so at the first time.

        before: this call has not looked at it yet.
        """
        if run.name in self.ended:
            return True
        self.workdir.refresh()  # another process may have trained it meanwhile
        row = self.workdir.rows.get(run.name)
        if row is None or self.workdir.counts[run.name] == self._again.get(run.name):
            return False
        self.ended.add(run.name)
        self._start([run])
        self.shared |= not before
        end = 'finished before, skipped' if before else f'{words(row)}, by another worker'
        if row['status'] == 'diverged':
            end = f'diverged before: {row["reason"]}'
        self.reporter.finish(end)
        if row['status'] != 'failed':  # of a group that it was once the first of
            checkpoints.remove(self.workdir, run)
        self._check_weights(run, row)
        return True

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
        epochs = train.length_of(runs[0].of.config, self.datasets[runs[0].arm]).epochs
        self.reporter.start(self.current, epochs, len(runs))

    def _train(self, runs: list[Run]) -> None:
        """Trains these runs at once and adds the row of each."""
        self._start(runs)
        made_by = self.environment | {'date': now()}
        for run in runs:
            for name, content in (('config', run.resolved), ('environment', made_by)):
                text = json.dumps(content, indent=1, sort_keys=True)
                self.workdir.write(f'{folder_of(run.name)}/{name}.json', text)
        kept = self._checkpoint(runs)
        weights: dict[int, Any] = {}
        try:
            try:
                outcomes = self._outcomes(runs, kept, weights)
            finally:
                kept.close()
            added = self._keep_outcomes(runs, outcomes, kept, weights)
        except leases.Lost:
            added = []
        self.leases.release([run.name for run in runs])
        for index, row in added:
            self.ended.add(runs[index].name)
            self.reporter.finish(words(row), label([runs[index]]), len(runs))
        if interrupts.stops():  # it came after the last step
            raise KeyboardInterrupt
        if len(added) < len(runs):
            self.reporter.say(
                'another worker took over meanwhile, since this one showed no sign of life; what '
                'was trained here is dropped'
            )

    def _keep_outcomes(
        self,
        runs: list[Run],
        outcomes: Sequence[Row | Exception],
        kept: checkpoints.Checkpoint,
        weights: dict[int, Any],
    ) -> list[tuple[int, Row]]:
        """Writes weights and rows of the runs that are still this worker's: (index, columns)."""
        columns = [outcome_columns(outcome) for outcome in outcomes]
        packed = {
            index: self._packed(runs[index], variables)
            for index, variables in weights.items()
            if runs[index].phase == FINAL
        }
        with self.workdir.exclusive():
            # The rows of a group together: its checkpoint is of all of them.
            with interrupts.uninterrupted():
                own = [index for index, run in enumerate(runs) if self._is_own(run)]
                # The weights first: what has a row is never trained again.
                for index in own:
                    if index in packed:
                        self.workdir.write(_weights(runs[index].name), packed[index])
                        columns[index]['weights'] = checkpoint.digest_of(packed[index])
                for index in own:
                    self._add(runs[index], columns[index])
                if 0 in own and (kept.begun or all(row['status'] != 'failed' for row in columns)):
                    # what failed on the way continues from its checkpoint, but only once
                    checkpoints.remove(self.workdir, runs[0])
        return [(index, columns[index]) for index in own]

    def _is_own(self, run: Run) -> bool:
        """Whether this worker may write the row of a run: it was not taken over."""
        row, again = self.workdir.rows.get(run.name), self._again.get(run.name)
        unwritten = row is None or self.workdir.counts[run.name] == again
        return unwritten and self.leases.holds(run.name)

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
            'kind of device': self.environment['device_kind'],
            'jax': self.environment['jax'],
            'code': self.environment['code'],
        }
        devices = train.device_count(runs[0].config, len(runs))
        made_of[checkpoint.DEVICES] = devices
        if runs[0].config.train.together > 1:  # whose states are cut by device
            made_of['number of devices'] = devices
        kept = checkpoints.Checkpoint(self.workdir, runs, made_of)
        if kept.note:
            note(kept.note)
        if kept.begun:
            step = f', step {kept.begun.step}' if kept.begun.partial else ''
            self.reporter.say(f'continues after epoch {kept.begun.epoch}{step}')
        return kept

    def _outcomes(
        self, runs: list[Run], kept: checkpoints.Checkpoint, weights: dict[int, Any]
    ) -> Sequence[Row | Exception]:
        """The metrics of each run, or the reason for none; puts the variables into `weights`."""

        names = [run.name for run in runs]
        folders = [self.workdir.folder / folder_of(name) for name in names]
        profile = 0 if self._trained else runs[0].of.config.train.profile
        watched, self._trained = watch.Watched(runs, folders, profile), True

        def on_keep(snapshot):
            self.leases.check(names)
            kept.keep(snapshot, now=interrupts.stops())

        def on_step(*step, **given):  # after on_keep
            self.leases.check(names)
            if interrupts.stops():
                raise KeyboardInterrupt
            watched.step()
            self.reporter.step(*step, **given)

        def on_epoch(index, line):
            self.leases.check(names)
            self.workdir.append(f'{folder_of(runs[index].name)}/metrics.jsonl', line)
            watched.epoch(index, line)
            self.reporter.epoch(line, label([runs[index]]))
            # what the handler raised inside of a callback is lost
            if signal.SIGINT in interrupts.interrupted:
                raise KeyboardInterrupt

        try:
            self.team.send(*follow.task(runs, self.datasets, self.environment, kept))
            with interrupts.patient(), self.team.training(), watched:
                return train.fit_together(
                    [run.config for run in runs],
                    self.datasets[runs[0].arm],
                    on_epoch,
                    final=runs[0].phase == FINAL,
                    on_step=on_step,
                    begun=kept.begun,
                    keep=on_keep,
                    on_end=weights.__setitem__,
                )
        except checkpoint.Misfit as error:  # raised only where kept.begun is given
            note(f'{kept.path} does not fit ({error}); the training starts over')
            kept.begun = None
            return self._outcomes(runs, kept, weights)
        except (UserError, leases.Lost):
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
        row = {'status': 'failed', 'reason': 'no learning rate of the grid trained'}
        for run in self.plan.finals(arm):
            self.asked[run.name] = run
            self.ended.add(run.name)
            self.reporter.start(label([run]), 0)
            with self.workdir.exclusive(), interrupts.uninterrupted():
                if run.name not in self.workdir.rows:
                    self._add(run, row)
            self.reporter.finish(words(row))

    def _plan_file(self) -> dict[str, Any]:
        return plan_file(self.whole, self.datasets, self.command, self.workdir.rows)

    def _write_plan(self, **more: Any) -> None:
        """more: 'drawn', how many bytes of the rows are in table and figure."""
        content = self._plan_file() | more
        self.workdir.write('plan.json', json.dumps(sealed(content), indent=1))
        self._planned, self._unwritten = set(content['points']), 0
        self._written = time.monotonic()

    def finish(self) -> int:
        """Prints the table and the sentences; writes CSV, figure and report. Returns the status."""
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
            try:
                found, paths = self._draw_once()
            finally:
                self.leases.close()
        for part in found:
            self.console.print(part)
        if paths:
            self.console.print(f'written: {", ".join(map(str, paths))}')
        else:
            self.console.print('table, figure and report were drawn by another worker')
        status = 0
        for run in self.asked.values():
            row = self.workdir.rows[run.name]
            if row['status'] != 'done':
                print(f'{row["status"]}: {label([run])}: {row["reason"]}', file=sys.stderr)
                # A trial may diverge: a learning rate of a grid may be too high for an arm.
                status |= row['phase'] == FINAL or row['status'] == 'failed'
        return int(status)

    def _draw_once(self) -> tuple[list[Any], list[Path]]:
        """Writes plan, CSV, figure and report; returns table and sentences, and the files.

        Without files where another worker has drawn all rows.
        """
        # Here, since matplotlib and statsmodels take seconds to import
        from experiments.report import figures, page, result_table
        from experiments.report.sentences import sentences
        from experiments.report.summary import summarise

        while True:
            with self.workdir.writing():
                if self.leases.claim(_DRAWING):
                    break
            self.shared = True
            time.sleep(min(_LOOK, self.leases.interval))
        self.workdir.refresh()
        folder = self.workdir.folder
        shown = lambda summary: [result_table.terminal(summary), *sentences(summary)]
        if self.shared and self._is_drawn():
            return shown(summarise(read_experiment(folder))), []
        for _ in range(_DRAWN):
            drawn = self.workdir.read
            self._write_plan()
            experiment = read_experiment(folder)
            summary = summarise(experiment)
            with self.workdir.writing():
                result_table.write_csv(folder / 'results.csv', summary)
                drawings = figures.write(experiment, folder / 'figure')
                paths = [folder / 'results.csv', *drawings, page.write(folder)]
            self._write_plan(drawn=drawn)
            if not self.workdir.refresh():
                break
        return shown(summary), paths

    def _is_drawn(self) -> bool:
        """Whether the files are of this plan and of all rows."""
        content = self._plan_file() | {'drawn': self.workdir.read}
        try:
            found = unsealed((self.workdir.folder / 'plan.json').read_bytes(), 'plan')
        except (OSError, ValueError):
            return False
        return {**found, 'command': ''} == json.loads(json.dumps({**content, 'command': ''}))


def _weights(run: str) -> str:
    """The file of a run's weights, inside of the work directory."""
    return f'{folder_of(run)}/weights.safetensors'
