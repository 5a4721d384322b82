"""What both sides measure with: the time of a call, and the memory of this process.

It needs nothing but Python, as PyTorch's process does.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any


def seconds_of(call: Callable[[], Any], seconds: float) -> float:
    """Of one call, the mean over about so many seconds, after one to warm up."""
    call()
    count, begin = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - begin < seconds:
        call()
        count += 1
    return (time.perf_counter() - begin) / count


def timed(run: Callable[[int], float], batch: int, seconds: float) -> tuple[float, dict[str, Any]]:
    """(seconds of a first step, what is stored of about so many seconds of steps, at least 2).

    run: does so many steps and returns their seconds; batch: images a step.
    """
    reset_highest()
    first = run(1)
    steps = max(2, round(seconds / run(1)))
    spent = run(steps)
    rate = steps * batch / spent
    return first, {'images_per_second': rate, 'steps': steps, 'seconds': spent, 'mib': highest()}


def reset_highest() -> None:
    """Forgets the highest resident size so far, where the system can."""
    with contextlib.suppress(OSError):
        pathlib.Path('/proc/self/clear_refs').write_text('5')


def highest() -> float | None:
    """Highest resident MiB of this process since `reset_highest`; None where unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = pathlib.Path('/proc/self/status').read_text()
        return int(text.partition('VmHWM:')[2].split()[0]) / 1024
    return None
