"""The checkpoint of a group of runs: when it is written, and when it is removed."""

import time
from collections.abc import Callable
from typing import Any

from experiments.plan.runs import Run
from experiments.train import checkpoint
from experiments.workdir import WorkDir, folder_of

KEEP = 60.0  # seconds between two checkpoints of a training, at least
KEEP_TIMES = 20  # and at least so many times the seconds that writing one takes


def remove(workdir: WorkDir, run: Run) -> None:
    """Removes the checkpoint of a group whose first run this is, if there is one."""
    _path(workdir, run).unlink(missing_ok=True)


def _path(workdir: WorkDir, run: Run):
    return workdir.folder / folder_of(run.name) / 'checkpoint.msgpack'


class Checkpoint:
    """The checkpoint of runs that are trained together, in the folder of the first of them.

    `begun` is the snapshot to continue from, or None, where `note` may have the reason.
    """

    def __init__(self, workdir: WorkDir, runs: list[Run], made_of: dict[str, Any]):
        self.workdir = workdir
        self.made_of = {'group of runs': [run.name for run in runs]} | made_of
        self.path = _path(workdir, runs[0])
        self.begun, self.note = checkpoint.read(self.path, self.made_of)
        self._last, self._took = time.monotonic(), 0.0  # the last writing: its end, its length

    def keep(self, snapshot: Callable[[], checkpoint.Snapshot], now: bool = False) -> None:
        """Writes snapshot(), unless the last writing was a short while ago; now: always."""
        start = time.monotonic()
        if not now and start - self._last < max(KEEP, KEEP_TIMES * self._took):
            return
        with self.workdir.writing():
            checkpoint.save(self.path, self.made_of, snapshot())
        self._last = time.monotonic()
        self._took = self._last - start
