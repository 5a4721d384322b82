"""Ctrl-C and SIGTERM: an interrupted call ends in one line, never between two rows of a group.

SIGTERM is what a cluster sends before it takes a machine away: a training finishes its step first,
and writes its checkpoint. A second signal ends the process at once.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator

CONTINUE = 75  # exit status after SIGTERM: EX_TEMPFAIL, run the same command again

interrupted: list[int] = []  # signals that came
_patient = False  # whether SIGTERM waits for the end of a step


def interrupt(number: int, frame) -> None:
    """Handler of Ctrl-C and SIGTERM. A second one ends the process at once."""
    interrupted.append(number)
    signal.signal(number, signal.SIG_DFL)
    if number != signal.SIGTERM or not _patient:
        raise KeyboardInterrupt


def stops() -> bool:
    """Whether SIGTERM has come."""
    return signal.SIGTERM in interrupted


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """SIGTERM raises nothing inside: the code asks `stops` where it can end."""
    global _patient
    before, _patient = _patient, True
    try:
        yield
    finally:
        _patient = before


@contextlib.contextmanager
def _handler(handler: Callable) -> Iterator[None]:
    """Ctrl-C and SIGTERM have this handler inside."""
    before = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt inside."""
    interrupted.clear()
    with _handler(interrupt):
        yield


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect after the code inside."""
    came: list[int] = []
    with _handler(lambda number, frame: came.append(number)):
        yield
    if came:
        interrupt(came[0], None)
