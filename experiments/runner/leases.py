"""Leases: which worker trains which run, where several share a work directory.

    leases/NAME    one line of JSON: host, process, since when, and a count that grows

Making the file is the claim: it fails where the file exists, on a network file system too. Its
worker rewrites it while it trains, and removes it at the end. A worker whose lease no longer
changes is dead or stopped, and another one takes the run over. How long nothing changed is measured
by the clock of the worker that looks, in looks a short while apart, so that a clock that jumps, or
differs between machines, does not matter. On the same machine, the lock of the file says at once
that a process is dead.

A lease saves work. That no row is written twice is for the lock of results.jsonl: see
WorkDir.exclusive.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments import files, schema
from experiments.errors import printable

FOLDER = 'leases'
SECONDS = 60.0  # without a change, after which a lease is taken over
_RENEWALS = 6  # in that time
_LONGEST = 86400.0  # seconds that a lease may ask others to wait
_SIZE = 512  # bytes of a lease, so that rewriting one needs no room on a full disk

HOLDER = schema.Schema(
    {'host': schema.LINE, 'process': schema.COUNT, 'token': schema.TEXT},
    {
        'kernel': schema.TEXT,  # another one after each start of a machine
        'since': schema.LINE,
        'held': schema.SECONDS,  # by the clock of its worker that does not jump
        'lease': schema.POSITIVE,  # seconds without a change, after which it may be taken over
        'count': schema.COUNT,
    },
)


class Lost(Exception):
    """Another worker has taken a run over, which this one was training."""


def kernel() -> str:
    """What names the running system: processes of one see each other's locks; '' if unknown."""
    with contextlib.suppress(OSError):
        return Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return ''


def read(path: Path) -> tuple[bytes | None, dict[str, Any]]:
    """The content of a lease, None where there is none, and what it says, {} if it is damaged.

    Raises OSError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, {}
    try:
        said = schema.parse(content)
    except ValueError:
        said = None
    return content, {} if schema.fault(said, HOLDER) else said


def where(holder: dict[str, Any]) -> str:
    """The worker of a lease: 'process 12 on host'."""
    if not holder:
        return 'a worker whose lease is damaged'
    return printable(f'process {holder["process"]} on {holder["host"]}')


def is_dead(path: Path, content: bytes, holder: dict[str, Any]) -> bool:
    """Whether a lease of this content is of a process of this machine that has ended."""
    if not holder.get('kernel') or holder['kernel'] != kernel():
        return False
    try:
        found = os.open(path, os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0))
    except OSError:
        return False
    try:  # the file may be a newer one than the content
        return files.lock(found, wait=False) and os.read(found, len(content)) == content
    finally:
        os.close(found)


@dataclasses.dataclass
class _Own:
    """A lease of this worker."""

    file: int
    said: dict[str, Any]
    start: float
    renewed: float
    lost: bool = False


@dataclasses.dataclass
class _Seen:
    """A lease of another worker, as it was when last looked at."""

    content: bytes | None
    looked: float
    unchanged: float = 0.0  # seconds


class Leases:
    """The leases of this worker in a work directory, and what it has seen of those of others.

    folder: of the leases; it is made with the first. seconds: after which others may take over.
    """

    def __init__(self, folder: Path, seconds: float | None = None):
        self.folder, self.seconds = folder, seconds or SECONDS
        self._own: dict[str, _Own] = {}
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.RLock()  # of _own and its files, which the thread renews
        self._end: threading.Event | None = None

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self.seconds / _RENEWALS

    def claim(self, name: str) -> bool:
        """Whether the run is now this worker's: no one has it, or who had it is gone.

        Raises OSError (disk full, read-only).
        """
        path = self.folder / name
        if not self._is_free(path):
            return False
        self.folder.mkdir(exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # another one was faster
            return False
        try:
            # the lock first: whoever reads the name of this machine may then try it
            files.lock(file, wait=True)
            now = time.monotonic()
            said = {
                'host': socket.gethostname() or 'unknown',
                'process': os.getpid(),
                'kernel': kernel(),
                'token': secrets.token_hex(8),
                'since': datetime.datetime.now().astimezone().isoformat(' ', 'seconds'),
                'lease': self.seconds,
                'count': 0,
                'held': 0.0,
            }
            own = _Own(file, said, now, now)
            self._rewrite(own)
        except BaseException:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._own[name] = own
        if self._end is None:
            self._end = threading.Event()
            threading.Thread(target=self._renew, args=(self._end,), daemon=True).start()
        return True

    def _is_free(self, path: Path) -> bool:
        """Whether there is no lease; one of a worker that is gone is removed."""
        content, holder = read(path)
        if content is None:
            self._seen.pop(path.name, None)
            return True
        now = time.monotonic()
        seen = self._seen.get(path.name)
        if seen is None or seen.content != content:
            seen = self._seen[path.name] = _Seen(content, now)
        # A look after a long pause says little: this process, or the file system, stood still
        seen.unchanged += min(now - seen.looked, self.interval)
        seen.looked = now
        patience = min(holder.get('lease', self.seconds), _LONGEST)
        if seen.unchanged < patience and not is_dead(path, content, holder):
            return False
        gone = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.part')
        if read(path)[0] != content:  # another one was faster
            return False
        try:
            os.rename(path, gone)
        except FileNotFoundError:
            return False
        gone.unlink(missing_ok=True)
        del self._seen[path.name]
        return True

    def any(self) -> bool:
        """Whether there are any leases but this worker's."""
        return bool(self._names())

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.folder)) - self._own.keys()
        except OSError:
            return set()

    def others(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Who has which of these runs, beside this worker: {name: what its lease says}."""
        there, found = self._names(), {}
        for name in names:
            if name in there:
                with contextlib.suppress(OSError):
                    content, holder = read(self.folder / name)
                    if content is not None and not is_dead(self.folder / name, content, holder):
                        found[name] = holder
        return found

    def holds(self, name: str) -> bool:
        """Whether a run is still this worker's, by the file."""
        with self._lock:
            own = self._own.get(name)
            if own is None or own.lost:
                return False
            try:
                own.lost = read(self.folder / name)[1].get('token') != own.said['token']
            except OSError:
                return False
            return not own.lost

    def check(self, names: Iterable[str]) -> None:
        """Raises Lost for a run that is no longer this worker's; asks the file after a pause."""
        for name in names:
            own = self._own.get(name)
            paused = own and time.monotonic() - own.renewed > 2 * self.interval
            if own is None or own.lost or paused and not self.holds(name):
                raise Lost(name)

    def release(self, names: Iterable[str]) -> None:
        """Gives runs back."""
        for name in names:
            with self._lock:
                own = self._own.pop(name, None)
                if own is None:
                    continue
                with contextlib.suppress(OSError):
                    if read(self.folder / name)[1].get('token') == own.said['token']:
                        (self.folder / name).unlink()
                os.close(own.file)

    def close(self) -> None:
        """Gives all back."""
        self.release(list(self._own))
        if self._end:
            self._end.set()
            self._end = None

    def _renew(self, end: threading.Event) -> None:
        while not end.wait(self.interval):
            with self._lock:
                for name, own in self._own.items():
                    if self.holds(name):
                        with contextlib.suppress(OSError):
                            self._rewrite(own)

    def _rewrite(self, own: _Own) -> None:
        """Changes the file that was made at the claim, wherever it is now."""
        now = time.monotonic()
        own.said['count'] += 1
        own.said['held'] = round(now - own.start, 1)
        content = json.dumps(own.said, sort_keys=True).encode().ljust(_SIZE - 1) + b'\n'
        os.lseek(own.file, 0, os.SEEK_SET)
        os.write(own.file, content)
        os.fsync(own.file)
        own.renewed = now
