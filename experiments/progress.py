"""Progress of long work: a live bar on a terminal, plain lines elsewhere, and notes."""

import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from experiments.errors import counted, printable

_QUIET = 30.0  # seconds between two lines of a run where there is no terminal
_FRESH = 1.0  # seconds between two numbers on a terminal


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


class _Bars(Progress):
    """The run's label, its last epoch and its numbers, then the bars of its steps and of all runs.

    Lines fold where they must; the counts and clocks beside the bars keep their room.
    """

    what = epoch = numbers = ''

    def get_renderables(self):
        yield from (Text(words) for words in (self.what, self.epoch, self.numbers) if words)
        yield self.make_tasks_table(self.tasks)


class Reporter:
    """Context manager that reports the progress of `total` runs."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.finished = console, total, 0
        self._trained, self._seconds = 0, 0.0  # runs of this call, and how long they took
        self._live: _Bars | None = None
        self._timer: threading.Timer | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            columns = [
                TextColumn(
                    f'{{task.fields[{name}]}}', markup=False, table_column=Column(no_wrap=True)
                )
                for name in ('done', 'left')
            ]
            self._live = _Bars(
                BarColumn(None),
                *columns,
                console=console,
                expand=True,
                refresh_per_second=1,
                transient=True,
            )
            self._steps = self._live.add_task('', total=1, done='', left='')
            self._runs = self._live.add_task('', total=total, done='', left='')

    def __enter__(self) -> 'Reporter':
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._compiled()
        if self._live:
            self._live.stop()

    def start(self, what: str, epochs: int, together: int = 1) -> None:
        """Begins a run, or several that are trained `together`; what: its label."""
        self._what, self._epochs, self._together = printable(what), epochs, together
        self._latest = self._what  # and its last epoch
        self._start = self._printed = time.perf_counter()
        self._first: tuple[int, float] | None = None  # steps done and time, once it is compiled
        self._previous: tuple[int, float] | None = None  # the same when last shown
        if self._live:
            self._live.what, self._live.epoch, self._live.numbers = self._what, '', ''
            self._live.update(self._steps, completed=0, done='', left='')
            self._count()
        self._compiled()
        self._timer = threading.Timer(
            _QUIET / 2, self._show, ('compiling the first step', self._what)
        )
        self._timer.daemon = True
        self._timer.start()

    def _compiled(self):
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _count(self, left: float | None = None) -> None:
        """Shows how many runs are finished, and the time to go of all."""
        if self._live:
            words = '' if left is None else f'about {_clock(left)} to go'
            done = f'{self.finished:,}/{counted(self.total, "run")}'
            self._live.update(self._runs, completed=self.finished, done=done, left=words)

    def _show(self, words: str, what: str, after: float = 0.0) -> None:
        """Shows words above the bars, or prints them `after` so many seconds without a line."""
        self._latest = f'{printable(what)}: {words}'
        if self._live:
            self._live.epoch = words if what == self._what else self._latest
            return
        now = time.perf_counter()
        if now - self._printed > after:
            self._printed = now
            self._print(f'      {self._latest}')

    def _print(self, words: str) -> None:
        self.console.print(Text(words), soft_wrap=True)

    def say(self, words: str) -> None:
        """Prints words about the run on a line of their own."""
        self._print(f'      {self._what}: {printable(words)}')

    def step(
        self,
        step: int,
        steps: int,
        images: int = 0,
        rates: Iterable[float] = (),
        loss: Callable[[], float | None] = lambda: None,
    ) -> None:
        """step: steps done of the run, of `steps`; images: of a step.

        rates: its learning rates. loss: that of a step which the device has done, asked for only
        where it is shown; it does not wait for the device.
        """
        self._compiled()
        now = time.perf_counter()
        if self._first is None:  # the time of the first step is that of its compilation
            self._first = step, now
        self._previous = self._previous or (step, now)
        (first, start), (before, then) = self._first, self._previous
        wait = _FRESH if self._live else _QUIET
        if step == before or now - max(self._printed, start) < wait and step < steps:
            return
        self._previous, self._printed = (step, now), now
        left = (now - start) / (step - first) * (steps - step)
        everything = self._left(now, left)
        numbers = self._numbers(loss(), rates, images * (step - before) / max(now - then, 1e-9))
        if self._live:
            self._live.numbers = numbers
            done = f'{step:,}/{steps:,} steps'
            togo = f'{_clock(left)} to go'
            self._live.update(self._steps, total=steps, completed=step, done=done, left=togo)
            self._count(everything)
        elif step < steps:
            togo = f'{_clock(left)} to go'
            if self.total > 1:
                togo += f', all runs about {_clock(everything)}'
            self._print(f'      {self._latest}, step {step:,} of {steps:,}, {numbers}, {togo}')

    @staticmethod
    def _numbers(loss: float | None, rates: Iterable[float], speed: float) -> str:
        """'loss 0.5, learning rate 0.1, 1,234 images/s'; speed: images a second."""
        words = [] if loss is None else [f'loss {loss:.4g}']
        if some := sorted(set(rates)):
            words.append(
                f'learning rate {" to ".join(f"{r:.3g}" for r in some[:: len(some) - 1 or 1])}'
            )
        return ', '.join(
            [*words, f'{speed:,.0f} images/s' if speed >= 10 else f'{speed:.2g} images/s']
        )

    def _left(self, now: float, left: float) -> float:
        """Seconds to go of all runs; left: of those that are being trained.

        Runs to come are taken to last as long as those of this call, or as these will have.
        """
        waiting = max(self.total - self.finished - self._together, 0)
        each = (now - self._start + left) / self._together
        return left + waiting * (self._seconds / self._trained if self._trained else each)

    def epoch(self, line: dict, what: str = '') -> None:
        """what: the label of the run, where several were started together."""
        self._compiled()
        self._previous = None  # the validation is no part of images/s
        words = f'epoch {line["epoch"]}/{self._epochs}'
        words += f', validation error {100 * line["validation/error"]:.2f} %'
        self._show(words, what or self._what, _QUIET)

    def finish(self, words: str, what: str = '', together: int = 1) -> None:
        """Ends a run; its seconds are a share of those of all started `together` with it."""
        self._compiled()
        self.finished += 1
        seconds = (time.perf_counter() - self._start) / together
        if self._first is not None:
            self._trained, self._seconds = self._trained + 1, self._seconds + seconds
        run = f'[{self.finished}/{self.total}] {printable(what) or self._what}'
        self._print(f'{run}: {printable(words)} ({seconds:.1f} s)')
        self._count()


def _clock(seconds: float) -> str:
    """'0:01:05', or '2 days, 3:04:05'."""
    return str(datetime.timedelta(seconds=round(seconds)))


def note(text: str) -> None:
    """Prints a note on standard error, apart from what a command prints as its result."""
    print(f'note: {printable(text)}', file=sys.stderr, flush=True)
