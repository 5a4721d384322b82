"""The files of a work directory: its plan, its rows, and what each run has left."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from experiments.errors import UserError, reason
from experiments.files import append, read, write_whole


class Experiment(NamedTuple):
    """What a work directory holds.

    plan: the content of plan.json.
    rows: last row of each run of the plan, in the order of plan['points'].
    curves: {name of a run: [one dict per epoch, ascending]}, for the runs that stored any.
    """

    plan: dict[str, Any]
    rows: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]


_EVERY_ROW = ('point', 'arm', 'phase', 'seed', 'status', 'learning_rate')


def read_points(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """Rows of results.jsonl in order, without those that do not say which run they belong to."""
    path = Path(workdir) / 'results.jsonl'
    rows = []
    for row in read(path):
        missing = [key for key in _EVERY_ROW if key not in row]
        if missing:
            warnings.warn(f'{path}: a row without {", ".join(missing)}, skipped', stacklevel=2)
        else:
            rows.append(row)
    return rows


def load(workdir: str | os.PathLike) -> Experiment:
    """Reads a work directory, without rows and curves of runs that the plan does not name.

    Raises UserError if there is no plan.json, or one that cannot be used.
    """
    workdir = Path(workdir)
    try:
        plan = json.loads((workdir / 'plan.json').read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f'no plan.json in {workdir}: give the work directory that experiments.run printed'
        ) from None
    except ValueError as error:
        raise UserError(
            f'{workdir / "plan.json"} is not JSON ({error}): run the experiment again '
            'to write it anew; finished runs are kept'
        ) from None
    needed = ('title', 'dataset_note', 'arms', 'seeds', 'rates', 'level', 'points')
    missing = [key for key in needed if not isinstance(plan, dict) or key not in plan]
    if missing:
        raise UserError(
            f'{workdir / "plan.json"} lacks {", ".join(missing)}: run the experiment '
            'again to write it anew; finished runs are kept'
        )
    if not plan['arms']:
        raise UserError(
            f'{workdir / "plan.json"} names no arm: run the experiment again to write '
            'it anew; finished runs are kept'
        )
    last = {row['point']: row for row in read_points(workdir)}
    curves = {}
    for name in plan['points']:
        epochs = {
            line['epoch']: line
            for line in read(workdir / 'points' / name / 'metrics.jsonl')
            if isinstance(line.get('epoch'), int)
        }
        if epochs:
            curves[name] = [epochs[epoch] for epoch in sorted(epochs)]
    return Experiment(plan, [last[name] for name in plan['points'] if name in last], curves)


class WorkDir:
    """The files of a work directory. It only ever adds: nothing finished is overwritten."""

    def __init__(self, folder: Path, experiment: str):
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
                rows = read_points(folder)
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
                write_whole(plan, json.dumps({'experiment': experiment}))
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> NoReturn:
        """Raises the UserError for a folder that cannot be written."""
        kept = len(getattr(self, 'rows', {}))
        raise UserError(
            f'cannot write to {error.filename or self.folder}: '
            f'{error.strerror or error}. Finished '
            f'runs kept: {kept}. Free space or permissions, or name another '
            '--workdir; then run the same command again.'
        ) from error

    def write(self, name: str, text: str | bytes) -> None:
        """Writes a whole file, or leaves the old one as it was."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
        except OSError as error:
            self.fail(error)

    def append(self, name: str, row: dict) -> None:
        try:
            append(self.folder / name, row)
        except OSError as error:
            self.fail(error)

    def add(self, row: dict) -> None:
        self.append('results.jsonl', row)
        self.rows[row['point']] = row
