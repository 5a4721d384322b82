"""Ctrl-C and SIGTERM: an interrupted call ends in one line, never inside a group of rows."""

import contextlib
import signal
import types
from collections.abc import Iterator
from typing import NoReturn

interrupted: list[int] = []  # signals that came


def interrupt(number: int, frame: types.FrameType | None) -> NoReturn:
    """Handler of Ctrl-C and SIGTERM. A second one ends the process at once."""
    interrupted.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect after what is inside."""
    came = []
    handlers = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        interrupt(came[0], None)
