"""Progress: plain lines where there is no terminal, and not too many of them; a bar on one."""

import io
import time

import pytest
from rich.console import Console

from experiments import progress

LINE = {'epoch': 2, 'validation/error': 0.125}


def reported(terminal, clock, monkeypatch, labels=('max [bold]pooling[/]', 'b')):
    times = iter(clock)
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(times))
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal)
    with progress.Reporter(console, len(labels)) as reporter:
        for label in labels:
            reporter.start(label, 5)
            reporter.epoch(LINE)
            reporter.finish('test error 1.50 %')
    return out.getvalue()


def test_every_run_ends_with_one_plain_line_and_its_time(monkeypatch):
    # start; epoch asks for the time once; finish
    text = reported(False, [0, 1, 3.25, 10, 11, 14], monkeypatch)
    assert text.splitlines() == [
        '[1/2] max [bold]pooling[/]: test error 1.50 % (3.2 s)',
        '[2/2] b: test error 1.50 % (4.0 s)',
    ]


def test_a_long_run_reports_its_epoch_now_and_then(monkeypatch):
    text = reported(False, [0, 16, 20], monkeypatch, labels=['a [dim]b'])
    first, last = text.splitlines()
    assert first.strip() == 'a [dim]b: epoch 2/5, validation error 12.50 %'
    assert last == '[1/1] a [dim]b: test error 1.50 % (20.0 s)'


def test_a_long_epoch_reports_its_steps_and_a_short_one_does_not(monkeypatch):
    times = iter([0, 30, 61, 100, 122, 123])
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(times))
    out = io.StringIO()
    with progress.Reporter(Console(file=out, width=100), 1) as reporter:
        reporter.start('a', 5)
        for step in (1000, 2000, 3000, 4000):
            reporter.step(step, 90_000)
        reporter.finish('done')
    assert [line.strip() for line in out.getvalue().splitlines()] == [
        'a, step 2,000 of 90,000',
        'a, step 4,000 of 90,000',
        '[1/1] a: done (123.0 s)',
    ]


@pytest.mark.parametrize('steps', [0, 1])
def test_a_long_compilation_is_reported(monkeypatch, steps):
    monkeypatch.setattr(progress, '_QUIET', 0.05)
    out = io.StringIO()
    with progress.Reporter(Console(file=out, width=100), 1) as reporter:
        reporter.start('a', 5)
        for step in range(steps):
            reporter.step(step, 10)
        time.sleep(0.3)
    assert ('a: compiling the first step' in out.getvalue()) == (not steps)


def test_a_terminal_gets_a_bar_that_ends_at_the_total():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with progress.Reporter(console, 1) as reporter:
        reporter.start('a [bold]b[/]', 5)
        reporter.epoch(LINE)
        reporter.finish('done')
    text = out.getvalue()
    assert '[1/1] a [bold]b[/]: done' in text
    bar = text.replace('[1/1] a [bold]b[/]: done', '')
    assert '1/1' in bar and 'a [bold]b[/]' in bar  # in the bar too, a label is no markup


def test_an_error_inside_stops_the_bar():
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt), progress.Reporter(console, 1) as reporter:
        reporter.start('a', 1)
        raise KeyboardInterrupt
    assert not reporter._live.live.is_started
