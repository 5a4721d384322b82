"""The checkpoint of a group of runs: when it is written, and when it is removed."""

import contextlib
import shutil
import time
from collections.abc import Callable
from typing import Any

from experiments.plan.runs import Run
from experiments.train import checkpoint
from experiments.train import large as larges
from experiments.workdir import WorkDir, folder_of

KEEP = 60.0  # seconds between two checkpoints of a training, at least
KEEP_TIMES = 20  # and at least so many times the seconds that the training waits for one
_LARGE = 'checkpoints'  # beside the file: the folder of orbax


def remove(workdir: WorkDir, run: Run) -> None:
    """Removes the checkpoint of a group whose first run this is, if there is one."""
    path = _path(workdir, run)
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(_LARGE), ignore_errors=True)


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
        self._large: larges.Large | None = None
        folder = self.path.with_name(_LARGE)
        if folder.is_dir():
            self._large = larges.Large(folder)
            self.begun, self.note = self._large.read(self.made_of)
        else:
            self.begun, self.note = checkpoint.read(self.path, self.made_of)
        self._last, self._took = time.monotonic(), 0.0  # the last writing: its end, its length

    def keep(self, snapshot: Callable[[], checkpoint.Snapshot], now: bool = False) -> None:
        """Writes snapshot(), unless the last writing was a short while ago; now: always."""
        start = time.monotonic()
        if not now and start - self._last < max(KEEP, KEEP_TIMES * self._took):
            return
        with self.workdir.writing():
            taken = snapshot()
            if self._large is None and larges.size_of(taken) >= larges.FROM:
                self._large = larges.Large(self.path.with_name(_LARGE))
            if self._large:
                self._large.save(self.made_of, taken, wait=now)
            else:
                checkpoint.save(self.path, self.made_of, taken)
        self._last = time.monotonic()
        self._took = self._last - start

    def packed(self) -> bytes | None:
        """`begun` as bytes for `checkpoint.parsed`."""
        return None if self.begun is None else checkpoint.packed(self.made_of, self.begun)

    def close(self) -> None:
        """Waits for what is being written."""
        if self._large:
            with contextlib.suppress(Exception):  # what could not be written is not needed now
                self._large.close()
            self._large = None
