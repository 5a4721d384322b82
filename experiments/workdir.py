"""The files of a work directory: its plan, its rows, and the files of each run."""

import collections
import contextlib
import functools
import json
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments import files, schema
from experiments.errors import UserError, reason, shown
from experiments.files import append, read, unsealed, write_whole
from experiments.progress import note


class _Content(NamedTuple):
    plan: dict[str, Any]
    rows: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]


class Experiment(_Content):
    """What a work directory holds.

    plan: the content of plan.json.
    rows: last row of each run of the plan, in the order of plan['points'].
    curves: {name of a run: [one dict per epoch, ascending]}, for the runs that stored any.
    """

    @functools.cached_property
    def rows_of(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """{(arm, phase): its rows}."""
        found = collections.defaultdict(list)
        for row in self.rows:
            found[row['arm'], row['phase']].append(row)
        return dict(found)

    @functools.cached_property
    def unfinished(self) -> dict[tuple[str, str], list[str]]:
        """{(arm, phase): names of its runs that have epochs, but no row yet}.

        They are running, or were interrupted. Plans of older code do not list their runs: {} then.
        """
        ended, runs = {row['point'] for row in self.rows}, self.plan.get('runs', {})
        found = collections.defaultdict(list)
        for name, run in runs.items():
            if name in self.curves and name not in ended:
                found[run['arm'], run['phase']].append(name)
        return dict(found)


JOBS = 'jobs'  # logs of workers and what was submitted, of experiments.launch
_FILES = (
    'plan.json results.jsonl results.csv figure.png figure.svg report.html points leases jobs '
    'evaluation.html mistakes.png'
).split()
_LONG = 10.0  # seconds of waiting for the lock of the rows, after which it is said
_ANEW = 'run the experiment again to replace it; finished runs are kept'


def default_folder(experiment: str) -> Path:
    """The work directory of an experiment unless another is asked for, in the current folder."""
    return Path('runs') / experiment


def folder_of(run: str) -> str:
    """The folder of a run, named by its hash, inside of the work directory."""
    return f'points/{run}'


def read_rows(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of results.jsonl in order, without those that do not fit the schema, with a warning."""
    return _rows_from(Path(workdir), 0)[0]


def _rows_from(workdir: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """`read_rows` from a byte on, and the byte where to go on later."""
    path = workdir / 'results.jsonl'
    found, end = files.read_from(path, start)
    rows = []
    for row in found:
        fault = schema.row_fault(row)
        if fault:
            name = row.get('point') if isinstance(row, dict) else None
            of = f' of run {name}' if schema.NAME.fits(name) else ''
            warnings.warn(f'{path}: a row{of} is left out: {fault}', stacklevel=3)
        else:
            rows.append(row)
    return rows, end


def read_curve(workdir: Path, run: str) -> list[dict[str, Any]]:
    """The epochs of a run, ascending; what does not fit the schema is left out with a warning."""
    metrics = workdir / folder_of(run) / 'metrics.jsonl'
    epochs = {}
    for line in read(metrics):
        fault = schema.fault(line, schema.CURVE)
        if fault:
            warnings.warn(f'{metrics}: an epoch is left out: {fault}', stacklevel=2)
        else:
            epochs[line['epoch']] = line
    return [epochs[epoch] for epoch in sorted(epochs)]


def read_experiment(workdir: str | os.PathLike, with_curves: bool = True) -> Experiment:
    """Reads a work directory, without rows and curves of runs that the plan does not name.

    Raises UserError if there is no plan.json, or one that cannot be used.
    """
    workdir = Path(workdir)
    path = workdir / 'plan.json'
    try:
        plan = unsealed(path.read_bytes(), 'plan')
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f'no plan.json in {workdir}: give the work directory that experiments.run printed'
        ) from None
    except ValueError as error:
        raise UserError(f'{path} cannot be used ({error}): {_ANEW}') from None
    fault = schema.plan_fault(plan)
    if fault:
        raise UserError(f'{path} cannot be used ({fault}): {_ANEW}')
    last = {row['point']: row for row in read_rows(workdir)}
    rows = [_of_plan(last[name], plan, path) for name in plan['points'] if name in last]
    curves = {}
    for run in plan['points'] if with_curves else ():
        if curve := read_curve(workdir, run):
            curves[run] = curve
    return Experiment(plan, [row for row in rows if row], curves)


def _of_plan(row: dict[str, Any], plan: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """The row with the arm, seed and phase that the plan gives its run, since labels may change.

    None, with a warning, where it is no run of the plan. Plans of older code do not list runs.
    """
    runs = plan.get('runs')
    if runs is not None:
        return row | runs[row['point']]
    if row['arm'] in plan['arms']:
        return row
    warnings.warn(f'{path} has no arm {row["arm"]!r}: its row is left out', stacklevel=3)
    return None


def _strange(folder: Path) -> list[str]:
    """Names in a folder that are not those of a work directory, one being made included."""
    names = os.listdir(folder) if folder.is_dir() else []
    ours = _FILES if 'plan.json' in names else (JOBS,)  # its logs come before the first worker
    return sorted(name for name in names if name not in ours and not files.is_temporary(name))


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a row is added to a file, the file and its size first; None without one."""
    try:
        with open(path, 'rb') as file:  # opened, since a network file system asks its server then
            found = os.fstat(file.fileno())
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def check_name(folder: Path) -> None:
    """UserError for a folder whose name cannot be printed as it is."""
    if not str(folder).isprintable():
        raise UserError(
            f'the work directory is {str(folder)!a}: its name must be text without control '
            'characters. Name another --workdir.'
        )


class WorkDir:
    """A work directory that is written to. It only ever adds: nothing finished is overwritten.

    `rows` holds the last row of every run, by the name of the run; `counts` how many it has;
    `read` so many bytes of their file hold them.
    """

    def __init__(self, folder: Path, experiment: str):
        """Opens or makes the folder.

        Raises:
          UserError: it holds another experiment or other files, or cannot be written.
        """
        self.folder = folder
        plan = folder / 'plan.json'
        found = None
        self._seen = _state_of(folder / 'results.jsonl')
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                rows, self.read = _rows_from(folder, 0)
            try:
                found = str(schema.parse(plan.read_bytes())['experiment'])
            except (FileNotFoundError, NotADirectoryError):
                pass
            except (ValueError, KeyError, TypeError) as error:  # damaged: the rows name it too
                note(f'{plan}: {reason(error)}')
            if found is None and rows:
                found = rows[-1].get('experiment')
            strange = _strange(folder) if found is None else []
            if strange:
                raise UserError(
                    f'{folder} is not empty and holds no experiment of ours '
                    f'({shown(strange[0])}). Name another --workdir.'
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
            note(str(warning.message))
        self.rows: dict[str, dict[str, Any]] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self._take(rows)
        self._made = False
        with self.writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._made = True
            for place in (folder, *folder.glob('points/*')):
                files.sweep(place)
            if (
                found is None or not plan.exists()
            ):  # marks the folder as ours, whatever happens next
                write_whole(plan, json.dumps({'experiment': experiment}))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Raises a UserError where the code inside cannot write to the folder."""
        try:
            yield
        except OSError as error:
            remedy = 'Free space or permissions, or name another --workdir'
            if self._made and not self.folder.is_dir():
                remedy = 'The folder was removed or renamed meanwhile: bring it back if you can'
            raise UserError(
                f'cannot write to {error.filename or self.folder}: {error.strerror or error}. '
                f'Finished runs kept: {len(self.kept())}. {remedy}; then run the same command '
                'again.'
            ) from error

    def kept(self) -> set[str]:
        """The runs that have a row in the folder now: it may have been removed meanwhile."""
        with contextlib.suppress(OSError):
            return {row['point'] for row in self._stored(0)[0]}
        return set()

    def refresh(self) -> bool:
        """Reads the rows that other processes have added; whether the file has changed."""
        before, self._seen = self._seen, _state_of(self.folder / 'results.jsonl')
        if self._seen == before:
            return False
        same = before and self._seen and before[0] == self._seen[0] and before[1] <= self._seen[1]
        if not same:
            self.read = 0
            self.counts.clear()
        rows, self.read = self._stored(self.read)
        self._take(rows)
        return True

    def _stored(self, start: int) -> tuple[list[dict[str, Any]], int]:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # damaged lines were named when the folder was opened
            return _rows_from(self.folder, start)

    def _take(self, rows: list[dict[str, Any]]) -> None:
        self.rows |= {row['point']: row for row in rows}
        self.counts.update(row['point'] for row in rows)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """No other process adds rows meanwhile, and all that are there have been read.

        Where the file system has no locks, they may all the same.

        Raises:
          UserError: the folder cannot be written to.
        """
        path = self.folder / 'results.jsonl'
        words = f'waits for another process, which has locked {path}'
        timer = threading.Timer(_LONG, note, [words])
        timer.daemon = True
        with self.writing(), open(path, 'ab') as file:
            timer.start()
            try:
                files.lock(file.fileno(), wait=True)
            finally:
                timer.cancel()
            self.refresh()
            yield

    def write(self, name: str, text: str | bytes) -> None:
        """Writes a whole file, or leaves the old one as it was."""
        path = self.folder / name
        with self.writing():
            if path.parent != self.folder:
                (self.folder / 'points').mkdir(exist_ok=True)  # but never the folder anew
                path.parent.mkdir(exist_ok=True)
            write_whole(path, text)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Adds a row to a file of JSON lines."""
        with self.writing():
            append(self.folder / name, row)

    def add(self, row: dict[str, Any]) -> None:
        """Adds the row of a run."""
        self.append('results.jsonl', row)
        self.rows[row['point']] = row  # counted when it is read
