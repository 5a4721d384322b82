"""One training by many processes: process 0 decides, writes and prints, the others train with it.

    --distributed auto                   what JAX finds: Slurm, a TPU pod, Open MPI, Kubernetes
    --distributed HOST:PORT,INDEX,COUNT  the address of process 0, this process, how many there are

All processes are given the same command. Process 0 leases a run, sends the others what it trains,
and all of them call train.fit_together. Messages go through the key-value store of JAX's
coordination service, which process 0 serves. A thread of every process renews a count there; where
one no longer grows, or a process says that it failed, the others end. How long nothing changed is
measured by the clock of the process that looks.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.errors import UserError, printable, reason, shown
from experiments.progress import note
from experiments.runner import interrupts, leases
from experiments.train import checkpoint

_START = 300  # seconds in which all processes have to be there
LOST = 30.0  # seconds without a sign of life, after which a process is taken to be gone
_LOOK = 1.0  # seconds between two looks
_GRACE = 10.0  # seconds in which the others have to end
# of JAX's own heartbeat, which ends a process without naming the one that is gone
_HEARTBEAT = 50
_AGAIN = 'Run the same command again to continue.'


def parse(setting: str) -> dict[str, Any]:
    """--distributed -> the arguments of jax.distributed.initialize.

    Raises:
      UserError: it is neither 'auto' nor HOST:PORT,INDEX,COUNT.
    """
    if setting == 'auto':
        return {}
    try:
        address, index, count = setting.split(',')
        host, port = address.rsplit(':', 1)
        given = dict(coordinator_address=address, process_id=int(index), num_processes=int(count))
        good = host and 0 < int(port) < 65536 and 0 <= int(index) < int(count)
    except ValueError:
        good = False
    if not good:
        raise UserError(
            f"--distributed is {shown(setting)}, it must be 'auto' or HOST:PORT,INDEX,COUNT such "
            'as 10.0.0.1:1234,0,2: the address of process 0, the index of this process from 0, and '
            'how many there are.'
        )
    return given


class Team:
    """The processes of a training, as one of them sees it.

    `lead` is whether this one is process 0; `alone` whether there are no others.
    """

    def __init__(self, setting: str | None = None):
        """Joins the others; waits for them for _START seconds. None: there are none.

        Raises:
          UserError: the processes do not find each other.
        """
        self.alone, self.lead = setting is None, True
        self.on_end: Callable[[], None] = lambda: None  # called before this process ends early
        if setting is None:
            return
        given = parse(setting)
        if 'jax_enable_preemption_service' in jax.config.values:  # SIGTERM is ours
            jax.config.update('jax_enable_preemption_service', False)
        self._hosts: dict[int, str] = {}
        self._setting = setting
        _on_abort(self._aborted)
        try:
            if given.get('process_id'):
                _wait_for(given['coordinator_address'])
            jax.distributed.initialize(
                **given, initialization_timeout=_START, heartbeat_timeout_seconds=_HEARTBEAT
            )
        except Exception as error:
            raise UserError(self._apart(reason(error)[:300])) from error
        self.index, self.count = jax.process_index(), jax.process_count()
        self.lead = self.index == 0
        from jax._src import distributed  # no public name gives the key-value store

        self.client: Any = distributed.global_state.client
        self._tasks, self._training, self._told, self._left = 0, False, False, False
        self._lock = threading.Lock()  # one thread alone ends the process
        self._errors = sys.stderr
        self._set(f'host/{self.index}', socket.gethostname() or 'unknown')
        multihost_utils.sync_global_devices('joined')
        self._hosts = self._all('host')
        threading.Thread(target=self._watch, daemon=True).start()

    # --- what process 0 sends ---

    def send(self, task: dict[str, Any], content: bytes | None = None) -> None:
        """Gives the other processes something to train; content: of the checkpoint it begins at."""
        if self.alone:
            return
        self._set(f'task/{self._tasks}', task | {'size': None if content is None else len(content)})
        self._tasks += 1
        if content is not None:
            _broadcast(content, len(content))

    def tasks(self) -> Iterator[tuple[dict[str, Any], bytes | None]]:
        """What process 0 sends, until it sends its exit status."""
        while True:
            try:
                found = self.client.blocking_key_value_get(f'cnns/task/{self._tasks}', 1000)
            except jax.errors.JaxRuntimeError as error:
                if 'DEADLINE_EXCEEDED' in str(error):
                    continue
                self._lost([0])
                raise
            task = json.loads(found)
            if 'status' in task:
                self._left = True
                jax.distributed.shutdown()
                return
            self._tasks += 1
            size = task.pop('size')
            yield task, None if size is None else _broadcast(None, size)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The code inside trains with the others: an error of its own ends all of them."""
        self._training = True
        try:
            yield
        except checkpoint.Misfit:  # all of them have found the same
            self._training = False
            raise
        except leases.Lost as error:
            if self.alone:
                raise
            raise UserError(
                f'another worker took run {error} over, since this one showed no sign of life. '
                f'{_AGAIN}'
            ) from error
        except Exception as error:
            if not self.alone and not (self.lead and isinstance(error, UserError)):
                self._failed(error)
            raise
        self._training = False

    def leave(self, status: int) -> int:
        """Ends the other processes with this exit status, and returns it; of process 0."""
        if self.alone or not self.lead:
            return status
        if not self._training:
            self._left = True
            self._set(f'task/{self._tasks}', {'status': status})
            jax.distributed.shutdown()
            return status
        # they may wait for this process inside of a step
        with self._lock:
            self._set('end/0', {'status': status})
            deadline = time.monotonic() + _GRACE
            while len(self._all('gone')) < self.count - 1 and time.monotonic() < deadline:
                time.sleep(_LOOK / 10)
            _exit(status)
        return status

    # --- how the processes watch each other ---

    def _set(self, name: str, value: Any) -> None:
        self.client.key_value_set(f'cnns/{name}', json.dumps(value), allow_overwrite=True)

    def _all(self, kind: str) -> dict[int, Any]:
        """{process: value} of all that have set it."""
        found = self.client.key_value_dir_get(f'cnns/{kind}/')
        return {int(name.rsplit('/', 1)[1]): json.loads(value) for name, value in found}

    def _name(self, index: int) -> str:
        return f'process {index} of {self.count} (on {self._hosts.get(index, "an unknown host")})'

    def _watch(self) -> None:
        """Renews the sign of life of this process, and ends it where another one is gone."""
        signs: dict[int, Any] = {}
        looked = time.monotonic()
        changed = dict.fromkeys(range(self.count), looked)
        renewed = 0
        while not self._left:
            try:
                renewed += 1
                self._set(f'alive/{self.index}', renewed)
                if interrupts.stops() and not self._told:
                    self._set(f'stop/{self.index}', True)
                    self._told = True
                alive, ends, stops = self._all('alive'), self._all('end'), self._all('stop')
            except jax.errors.JaxRuntimeError:
                if not self._left:
                    self._lost([0])
                return
            now = time.monotonic()
            for index in changed:
                # a look after a long pause says little: this process stood still
                if alive.get(index) != signs.get(index) or now - looked > LOST / 2:
                    changed[index] = now
            signs, looked = alive, now
            self._end_with(ends)
            if stops and self.lead and not interrupts.stops():
                interrupts.interrupted.append(signal.SIGTERM)
            if lost := [index for index, last in changed.items() if now - last > LOST]:
                self._lost(lost)
            time.sleep(_LOOK)

    def _end_with(self, ends: dict[int, Any]) -> None:
        """Ends this process where another one says that it has ended."""
        for index, end in ends.items():
            if index == self.index:
                continue
            with self._lock:
                if self.lead:
                    self._end(f'{self._name(index)}: {end["words"]}', end['status'])
                self._set(f'gone/{self.index}', True)
                _exit(end['status'])

    def _lost(self, lost: list[int]) -> None:
        with self._lock:
            names = ' and '.join(map(self._name, lost))
            self._end(f'{names} gave no sign of life and is taken to be gone. {_AGAIN}', 2)

    def _failed(self, error: Exception) -> None:
        """Ends all processes after an error of this one, which may come of another one's end."""
        if isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(LOST + 5 * _LOOK)  # the thread that watches ends the process if it was so
        words = printable(reason(error)[:500])
        if self.lead:
            with self._lock:
                self._end(f'{self._name(0)}: {words}', 2)
        self._set(f'end/{self.index}', {'status': 2, 'words': words})
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:  # process 0 may end in order meanwhile
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                found = self.client.blocking_key_value_get(f'cnns/task/{self._tasks}', 1000)
                if 'status' in json.loads(found):
                    self._left = True
                    jax.distributed.shutdown()
                    break
        _exit(2)

    def _end(self, words: str, status: int) -> None:
        """Says why, and ends this process and those that wait for it."""
        print(f'error: {words}', file=self._errors, flush=True)
        with contextlib.suppress(Exception):
            self.on_end()
        if self.lead:
            with contextlib.suppress(Exception):
                self._set('end/0', {'status': status})
                time.sleep(2 * _LOOK)  # this process serves the store that the others read
        _exit(status)

    def _apart(self, why: str) -> str:
        return (
            f'--distributed {self._setting}: the processes do not find each other ({why}). Start '
            f'all of them within {_START} seconds, with the same HOST:PORT and COUNT and another '
            'INDEX each.'
        )

    def _aborted(self) -> None:
        """JAX ends a process that no others join, or whose connection to process 0 breaks."""
        if not self._hosts:
            words = self._apart('not all of them came')
        elif not self.lead:
            words = f'{self._name(0)} is gone. {_AGAIN}'
        else:
            return
        os.write(2, f'error: {words}\n'.encode(errors='replace'))


def quiet() -> None:
    """Nothing that this process prints is seen from here on, but why it ends."""
    sys.stdout = sys.stderr = open(os.devnull, 'w')


def _wait_for(address: str) -> None:
    """Until process 0 listens there. OSError: it does not within _START seconds.

    JAX's client would end this process instead.
    """
    host, _, port = address.rpartition(':')
    began, said = time.monotonic(), False
    while True:
        try:
            return socket.create_connection((host.strip('[]'), int(port)), timeout=_LOOK).close()
        except OSError as error:
            if time.monotonic() - began > _START:
                raise
            if not said:
                note(f'waiting for process 0 at {address} ({reason(error)})')
            said = True
        time.sleep(_LOOK)


def _exit(status: int) -> None:
    """Ends the process now: its main thread may wait for ever for another process."""
    from multiprocessing import active_children

    for child in active_children():
        child.terminate()
    with contextlib.suppress(Exception):
        sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


def _broadcast(content: bytes | None, size: int) -> bytes:
    """The bytes of process 0 in every process."""
    own = np.zeros(size, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    found = multihost_utils.broadcast_one_to_all(own, is_source=content is not None)
    return np.asarray(found, np.uint8).tobytes()


_handlers: list[Any] = []  # kept alive, since C calls them


def _on_abort(function: Callable[[], None]) -> None:
    """Calls the function where C++ code aborts the process, then ends it with status 2.

    JAX's client does so in a thread of its own, and gives Python no other chance.
    """

    def ended(number: int) -> None:
        function()
        os._exit(2)

    made = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)
    _handlers.append(made)
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(made, ctypes.c_void_p))
