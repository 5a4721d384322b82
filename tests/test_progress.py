"""Progress: plain lines where there is no terminal, and not too many of them; a bar on one."""

import io

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


def test_every_point_ends_with_one_plain_line_and_its_time(monkeypatch):
    # start; epoch asks for the time once; finish
    text = reported(False, [0, 1, 3.25, 10, 11, 14], monkeypatch)
    assert text.splitlines() == ['[1/2] max [bold]pooling[/]: test error 1.50 % (3.2 s)',
                                 '[2/2] b: test error 1.50 % (4.0 s)']


def test_a_long_point_says_where_it_is_now_and_then(monkeypatch):
    text = reported(False, [0, 16, 16, 20], monkeypatch, labels=['a [dim]b'])
    first, last = text.splitlines()
    assert first.strip() == 'a [dim]b: epoch 2/5, validation error 12.50 %'
    assert last == '[1/1] a [dim]b: test error 1.50 % (20.0 s)'


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
