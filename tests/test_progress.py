"""Progress: plain lines where there is no terminal, and not too many of them; a bar on one."""

import io
import re
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
    text = reported(False, [0, 31, 40], monkeypatch, labels=['a [dim]b'])
    first, last = text.splitlines()
    assert first.strip() == 'a [dim]b: epoch 2/5, validation error 12.50 %'
    assert last == '[1/1] a [dim]b: test error 1.50 % (40.0 s)'


def trained(monkeypatch, every, steps, total=1, width=None, label='a', before=()):
    """The output of a run whose every `every`-th step is seen, 0.1 s a step, and a group of
    losses that were asked for. width: of a terminal; None: there is none."""
    now, asked = [0.0], []
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: now[0])
    out = io.StringIO()
    console = Console(file=out, width=width or 200, force_terminal=bool(width))
    with progress.Reporter(console, total) as reporter:
        for other in before:
            reporter.start(other, 5)
            reporter.finish('finished before, skipped')
        reporter.start(label, 5)
        now[0] += 100  # compilation, which is no measure of what is to come
        start = now[0]
        for step in range(1, steps, every):
            now[0] = start + step / 10
            loss = lambda step=step: asked.append(step) or 1 / step
            reporter.step(step, steps, 128, [0.1], loss)
        drawn = Console(file=io.StringIO(), width=width or 200)
        for part in reporter._live.get_renderables() if width else ():
            drawn.print(part)
    return out.getvalue(), asked, drawn.file.getvalue()


def test_a_long_epoch_says_now_and_then_what_to_steer_by(monkeypatch):
    text, asked, _ = trained(monkeypatch, 10, 64_000)
    lines = text.splitlines()
    # 1 / 301; 128 images in 0.1 s; 63,700 steps more
    first = 'a, step 301 of 64,000, loss 0.003322, learning rate 0.1, 1,280 images/s, '
    assert lines[0].strip() == f'{first}1:46:10 to go'
    # of 6400 s, a line every 30, and the loss is fetched for these lines alone
    assert 200 < len(lines) <= 6400 / 30 and len(asked) == len(lines)


def test_the_time_to_go_is_that_of_the_run_and_of_all_runs(monkeypatch):
    text, _, _ = trained(monkeypatch, 10, 1000, total=4, before=['done before'])
    line = text.splitlines()[1]
    # 70 s more of this run, and two that take 200 s each, compilation included
    assert line.endswith(
        'step 301 of 1,000, loss 0.003322, learning rate 0.1, 1,280 images/s, '
        '0:01:10 to go, all runs about 0:07:50'
    )


@pytest.mark.parametrize('width', [60, 80, 100, 200])
@pytest.mark.parametrize(
    'label', ['a', 'overlapping average pooling (final, seed 0, rate 0.05) ' * 3]
)
def test_a_bar_counts_steps_and_keeps_its_numbers_on_every_width(monkeypatch, width, label):
    _, asked, drawn = trained(monkeypatch, 1, 64_000, total=32, width=width, label=label)
    lines = drawn.splitlines()
    assert all(len(line) <= width for line in lines)
    assert ' '.join(label.split()) in ' '.join(drawn.split())
    assert 'learning rate 0.1, 1,280 images/s' in drawn
    steps, runs = lines[-2:]
    assert re.search('[━╸] 63,9[89][0-9]/64,000 steps 0:00:0[0-2] to go', steps)
    assert re.search('^ +0/32 runs +about 2 days, 7:[0-9:]+ to go', runs)
    assert len(asked) <= 6400  # once a second at most


def test_the_rounds_of_validation_are_no_part_of_the_images_a_second(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: now[0])
    out = io.StringIO()
    with progress.Reporter(Console(file=out, width=200), 1) as reporter:
        reporter.start('a', 2)
        for step in range(1, 101):
            now[0] += 1
            reporter.step(step, 100, 10)
            if step == 50:
                now[0] += 1000
                reporter.epoch(LINE)
    speeds = re.findall('([0-9.,]+) images/s', out.getvalue())
    assert len(speeds) == 2 and set(speeds) == {'10'}


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv('TERM', 'dumb')
    reporter = progress.Reporter(Console(file=io.StringIO(), force_terminal=True), 1)
    assert reporter._live is None


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
    assert '1/1 run' in bar and 'a [bold]b[/]' in bar  # in the bar too, a label is no markup


def test_an_error_inside_stops_the_bar():
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt), progress.Reporter(console, 1) as reporter:
        reporter.start('a', 1)
        raise KeyboardInterrupt
    assert not reporter._live.live.is_started
