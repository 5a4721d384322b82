"""The checkpoint of runs that are trained together, written between their epochs."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

from experiments.plan.runs import Run
from experiments.train import checkpoint
from experiments.workdir import WorkDir

_INTERVAL = 60.0  # seconds between two checkpoints, at least
_INTERVAL_FACTOR = 20  # and so many times as long as writing one takes


def path_of(workdir: WorkDir, run: Run) -> pathlib.Path:
    """Where the checkpoint of a run, or of a group with it as its first, lies."""
    return workdir.folder / 'points' / run.name / 'checkpoint.msgpack'


class GroupCheckpoint:
    """The checkpoint of a group of runs, in the folder of the first of them.

    `begun` is the snapshot to continue from, or None, where `note` may give the reason.
    """

    def __init__(self, workdir: WorkDir, runs: list[Run], made_of: dict[str, Any]):
        self.workdir, self.made_of = workdir, {'group of points': [run.name for run in runs]}
        self.made_of |= made_of
        self.path = path_of(workdir, runs[0])
        self.begun, self.note = checkpoint.load(self.path, self.made_of)
        self._last, self._took = time.monotonic(), 0.0  # the last writing: its end, its length

    def keep(self, snapshot: Callable[[], checkpoint.Snapshot]) -> None:
        """Writes what snapshot() gives, unless that was done a short while ago."""
        start = time.monotonic()
        if start - self._last < max(_INTERVAL, _INTERVAL_FACTOR * self._took):
            return
        try:
            checkpoint.save(self.path, self.made_of, snapshot())
        except OSError as error:
            self.workdir.fail(error)
        self._last = time.monotonic()
        self._took = self._last - start

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
