"""What a run says while it runs: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_QUIET = 15.0  # seconds without a line after which a running point reports its epoch


def told(parts: Iterator, what: str, total: int, step: int) -> Iterator:
    """The parts of a long reading, of `step` images each, `total` together: a line on standard
    error every _QUIET seconds, none where it takes less."""
    start = spoke = time.perf_counter()
    for place, part in enumerate(parts):
        yield part
        now, read = time.perf_counter(), min((place + 1) * step, total)
        if now - spoke > _QUIET and read < total:
            spoke = now
            left = (now - start) / read * (total - read)
            print(f'{what}: {read:,} of {total:,} images, about {left:.0f} s left',
                  file=sys.stderr, flush=True)


class Reporter:
    """Context manager over one run of `total` points."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.finished = console, total, 0
        self._live = None
        if console.is_terminal:
            self._live = Progress(TextColumn('{task.description}', markup=False), BarColumn(),
                                  MofNCompleteColumn(), TimeElapsedColumn(), console=console)
            self._task = self._live.add_task('starting', total=total)

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def start(self, what: str, epochs: int) -> None:
        self._what, self._epochs = what, epochs
        self._start = self._spoke = time.perf_counter()
        if self._live:
            self._live.update(self._task, description=what)

    def epoch(self, line: dict, what: str = '') -> None:
        """what: the point that the line is of, where several were started together."""
        words = (f'{what or self._what}: epoch {line["epoch"]}/{self._epochs}, '
                 f'validation error {100 * line["validation/error"]:.2f} %')
        if self._live:
            self._live.update(self._task, description=words)
        elif time.perf_counter() - self._spoke > _QUIET:
            self._spoke = time.perf_counter()
            self.console.print(f'      {words}', markup=False, soft_wrap=True, highlight=False)

    def finish(self, words: str, what: str = '', together: int = 1) -> None:
        """Ends a point; its seconds are a share of those of all started `together` with it."""
        self.finished += 1
        seconds = (time.perf_counter() - self._start) / together
        self.console.print(f'[{self.finished}/{self.total}] {what or self._what}: {words} '
                           f'({seconds:.1f} s)',
                           markup=False, soft_wrap=True, highlight=False)
        if self._live:
            self._live.update(self._task, completed=self.finished)
