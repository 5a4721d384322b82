"""Progress of long work: a live bar on a terminal, plain lines elsewhere, and notes."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.errors import printable

_QUIET = 15.0  # seconds without a line after which a run reports its epoch
_SLOW = 60.0  # seconds between two lines inside of an epoch


def reported(chunks: Iterable, what: str, total: int, step: int) -> Iterator:
    """Passes on the chunks of a long reading and prints a line on standard error every _QUIET
    seconds. Every chunk has `step` images, all together have `total`."""
    start = printed = time.perf_counter()
    for place, chunk in enumerate(chunks):
        yield chunk
        now, read = time.perf_counter(), min((place + 1) * step, total)
        if now - printed > _QUIET and read < total:
            printed = now
            left = (now - start) / read * (total - read)
            line = f'{what}: {read:,} of {total:,} images, about {left:.0f} s left'
            print(line, file=sys.stderr, flush=True)


class Reporter:
    """Context manager that reports the progress of `total` runs."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.finished = console, total, 0
        self._live: Progress | None = None
        self._timer: threading.Timer | None = None
        if console.is_terminal:
            text = TextColumn('{task.description}', markup=False)
            columns = text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
            self._live = Progress(*columns, console=console)
            self._task = self._live.add_task('starting', total=total)

    def __enter__(self) -> 'Reporter':
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._compiled()
        if self._live:
            self._live.stop()

    def start(self, what: str, epochs: int) -> None:
        """Begins a run, or several that are trained together; what: its label."""
        self._what, self._latest, self._epochs = what, what, epochs
        self._start = self._printed = time.perf_counter()
        if self._live:
            self._show(what)
        self._compiled()
        self._timer = threading.Timer(_QUIET, self._show, (f'{what}: compiling the first step',))
        self._timer.daemon = True
        self._timer.start()

    def _compiled(self):
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _show(self, words: str, after: float = 0.0) -> None:
        """Shows words in the bar, or prints them `after` so many seconds without a line."""
        if self._live:
            return self._live.update(self._task, description=words)
        now = time.perf_counter()
        if now - self._printed > after:
            self._printed = now
            self._print(f'      {words}')

    def _print(self, words: str) -> None:
        self.console.print(words, markup=False, soft_wrap=True, highlight=False)

    def say(self, words: str) -> None:
        """Prints words about the run on a line of their own."""
        self._print(f'      {self._what}: {words}')

    def step(self, step: int, steps: int) -> None:
        """step: steps done of the run, of `steps`."""
        self._compiled()
        self._show(f'{self._latest}, step {step:,} of {steps:,}', _SLOW)

    def epoch(self, line: dict, what: str = '') -> None:
        """what: the label of the run, where several were started together."""
        error = 100 * line['validation/error']
        epoch = f'{what or self._what}: epoch {line["epoch"]}/{self._epochs}'
        self._compiled()
        self._latest = f'{epoch}, validation error {error:.2f} %'
        self._show(self._latest, _QUIET)

    def finish(self, words: str, what: str = '', together: int = 1) -> None:
        """Ends a run; its seconds are a share of those of all started `together` with it."""
        self._compiled()
        self.finished += 1
        seconds = (time.perf_counter() - self._start) / together
        run = f'[{self.finished}/{self.total}] {what or self._what}'
        self._print(f'{run}: {words} ({seconds:.1f} s)')
        if self._live:
            self._live.update(self._task, completed=self.finished)


def note(text: str) -> None:
    """Prints a note on standard error, apart from what a command prints as its result."""
    print(f'note: {printable(text)}', file=sys.stderr, flush=True)
