"""Ctrl-C and SIGTERM: an interrupted call ends in one line, never between two rows of a group."""

import contextlib
import signal
from collections.abc import Callable, Iterator

interrupted: list[int] = []  # signals that came


def interrupt(number: int, frame) -> None:
    """Handler of Ctrl-C and SIGTERM. A second one ends the process at once."""
    interrupted.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


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
