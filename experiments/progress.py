"""What a run says while it runs: a live bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_QUIET = 15.0  # seconds without a line after which a run reports its epoch
_SLOW = 60.0  # seconds between two lines inside of an epoch


def reported(chunks: Iterable, what: str, total: int, step: int) -> Iterator:
    """The chunks of a long reading, of `step` images each, `total` together: a line on standard
    error every _QUIET seconds, none where it takes less."""
    start = spoke = time.perf_counter()
    for place, chunk in enumerate(chunks):
        yield chunk
        now, read = time.perf_counter(), min((place + 1) * step, total)
        if now - spoke > _QUIET and read < total:
            spoke = now
            left = (now - start) / read * (total - read)
            print(
                f'{what}: {read:,} of {total:,} images, about {left:.0f} s left',
                file=sys.stderr,
                flush=True,
            )


class Reporter:
    """Context manager over `total` runs."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.finished = console, total, 0
        self._live: Progress | None = None
        self._timer: threading.Timer | None = None
        if console.is_terminal:
            self._live = Progress(
                TextColumn('{task.description}', markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._task = self._live.add_task('starting', total=total)

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        self._compiled()
        if self._live:
            self._live.stop()

    def start(self, what: str, epochs: int) -> None:
        self._what, self._said, self._epochs = what, what, epochs
        self._start = self._spoke = time.perf_counter()
        if self._live:
            self._say(what)
        self._compiled()
        self._timer = threading.Timer(_QUIET, self._say, (f'{what}: compiling the first step',))
        self._timer.daemon = True
        self._timer.start()

    def _compiled(self):
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _say(self, words: str, after: float = 0.0) -> None:
        """Words of the current run: in the bar, or on a line `after` so many seconds of silence."""
        if self._live:
            return self._live.update(self._task, description=words)
        now = time.perf_counter()
        if now - self._spoke > after:
            self._spoke = now
            self.console.print(f'      {words}', markup=False, soft_wrap=True, highlight=False)

    def say(self, words: str) -> None:
        """Prints a line on the current run."""
        self.console.print(
            f'      {self._what}: {words}', markup=False, soft_wrap=True, highlight=False
        )

    def step(self, step: int, steps: int) -> None:
        """step: steps begun of the current run, of `steps`."""
        self._compiled()
        self._say(f'{self._said}, step {step:,} of {steps:,}', _SLOW)

    def epoch(self, line: dict, what: str = '') -> None:
        """what: the run that the line is of, where several are trained together."""
        words = (
            f'{what or self._what}: epoch {line["epoch"]}/{self._epochs}, '
            f'validation error {100 * line["validation/error"]:.2f} %'
        )
        self._compiled()
        self._said = words
        self._say(words, _QUIET)

    def finish(self, words: str, what: str = '', together: int = 1) -> None:
        """Ends a run; its seconds are a share of those of all trained `together` with it."""
        self._compiled()
        self.finished += 1
        seconds = (time.perf_counter() - self._start) / together
        self.console.print(
            f'[{self.finished}/{self.total}] {what or self._what}: {words} ({seconds:.1f} s)',
            markup=False,
            soft_wrap=True,
            highlight=False,
        )
        if self._live:
            self._live.update(self._task, completed=self.finished)


def note(text: str) -> None:
    """Prints a note on standard error, apart from what a command prints as its result."""
    print(f'note: {text}', file=sys.stderr, flush=True)
