"""Tables and the console: no column lost, no number cut or broken, at every width."""

import io
import re
import sys
from html import unescape

import markdown_it
import pytest
import rich.console
from speeds import TWO

from experiments import errors, progress, run, tables
from experiments.benchmark import tables as speeds
from experiments.models import description
from experiments.plan import config, runs
from experiments.tables import Terminal

WIDTHS = [60, 80, 100, 200]


def printed(table, width):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def check(table, width):
    """Every cell is there, whole where it is no text, in a line of its own row."""
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    words = ' '.join(' '.join(lines).split())
    for heading in table.headings:
        assert all(word in words for word in heading.split()), heading
    for key, *cells in table.lines:
        begun = [line for line in lines if line.startswith(key.split()[0])]
        assert begun, key
        for heading, cell in zip(table.headings[1:], cells):
            if heading in tables._WORDS:
                assert all(word in words for word in cell.split()), cell
            else:
                assert any(f' {cell}' in line for line in begun), (key, cell)


@pytest.fixture(scope='module')
def few():
    return [description.describe(name) for name in ('lenet5', 'vgg16', 'googlenet')]


@pytest.mark.parametrize('width', WIDTHS)
def test_the_tables_of_nets_keep_every_column_and_number(width, few):
    check(Terminal(description.HEADINGS, description.cells(few)), width)
    check(Terminal(description.ROW_HEADINGS, description.row_cells(few[1])), width)


@pytest.mark.parametrize('width', WIDTHS)
def test_the_tables_of_speeds_keep_every_column_and_number(width):
    for headings, lines in speeds.tables_of(TWO):
        check(Terminal(headings, lines), width)


@pytest.mark.parametrize('width', WIDTHS)
def test_the_tables_of_a_plan_keep_every_column_and_number(width, root, monkeypatch):
    plan = runs.plan_of(config.read_config('configs/ablate_pooling.py'))
    seen = []
    console = rich.console.Console(width=width, file=io.StringIO())
    monkeypatch.setattr(console, 'print', lambda table: seen.append(table))
    run._print_plan(plan, 'runs/x', console)
    run._print_runs(plan, console)
    arms, where, every = seen
    assert where == 'results: runs/x' and len(every.lines) == plan.size
    check(arms, width)
    check(every, width)


def test_what_fits_is_one_table_and_what_does_not_repeats_the_first_column():
    table = Terminal(('net', 'a', 'b'), [('one', '1' * 10, '2' * 10), ('total', '3', '4')], 'title')
    assert printed(table, 30) == [
        'title',
        'net             a           b',
        '─' * 29,
        'one    1111111111  2222222222',
        '',
        'total           3           4',
    ]
    assert printed(table, 20) == [
        'title',
        'net             a',
        '─' * 17,
        'one    1111111111',
        '',
        'total           3',
        '',
        'net             b',
        '─' * 17,
        'one    2222222222',
        '',
        'total           4',
    ]


def test_a_label_of_one_long_word_leaves_room_for_numbers():
    lines = printed(Terminal(('arm', 'error'), [('x' * 200, '12.34 ± 0.56')]), 40)
    assert '12.34 ± 0.56' in ' '.join(lines) and ''.join(lines).count('x') == 200


def test_cells_are_neither_markup_nor_escape_sequences():
    table = Terminal(('arm', 'n'), [('[bold]a[/]\x1b[2J\nb\ud800', '1')], 'a [red]t[/]', '[i]c')
    text = '\n'.join(printed(table, 80))
    for part in (r'[bold]a[/]\x1b[2J b\ud800', 'a [red]t[/]', '[i]c'):
        assert part in text
    markdown = tables.markdown(('arm', 'n'), [('a|b\nc', '1')])
    assert markdown == '| arm | n |\n| --- | ---: |\n| a\\|b c | 1 |\n'


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize('made', [Screen, io.StringIO])
def test_a_live_bar_moves_the_cursor_of_a_terminal_and_of_nothing_else(made, monkeypatch):
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('FORCE_COLOR', '1')
    out = made()
    monkeypatch.setattr(sys, 'stdout', out)

    @errors.command
    def main():
        console = tables.Console()
        with progress.Reporter(console, 1) as reporter:
            reporter.start('a\x1b[2J', 1)
            for step in range(1, 4):
                reporter.step(step, 3, 10)
            print('a line\x1b[3J')
            reporter.finish('done')
        console.print('[b] \x1b[4J')
        return 0

    assert main() == 0
    text = out.getvalue()
    assert ('\x1b[1A' in text) == (made is Screen) and r'\x1b[1A' not in text
    assert not re.search('\x1b\\[[234]J', text) and r'[1/1] a\x1b[2J: done' in text
    assert r'[b] \x1b[4J' in text and ('\x1b' in text) == (made is Screen)


def test_the_base_config_is_one_arm_and_one_run():
    assert run_of('configs/base.py') == 'lenet5 on digits: 1 arm, 1 run'


def run_of(path):
    """The title of its plan."""
    seen = []
    console = type('Console', (), {'print': lambda self, table: seen.append(table)})()
    run._print_plan(runs.plan_of(config.read_config(path)), 'x', console)
    return seen[0].title


@pytest.mark.parametrize(
    'text',
    [
        '<b>max</b>',
        'a $y$',
        '`x` | y',
        '[a](http://b)',
        '*a* and **b**',
        '_a_',
        '~~a~~',
        '&lt;',
        r'\<b>',
    ]
    + ['max_pool', '0.03*', '0.9 [0.8, 1.0]', 'x < 3 & y'],
)
def test_a_markdown_table_shows_a_text_as_it_is(text):
    made = tables.markdown(['arm', 'rate'], [[text, '1']])
    html = markdown_it.MarkdownIt('commonmark').enable(['table', 'strikethrough']).render(made)
    cell = re.search('<td.*?>(.*?)</td>', html)[1].replace('<span>$</span>', '$')
    assert '<' not in cell and unescape(cell) == text
    assert not re.search(r'(?<!<span>)\$', made)  # else GitHub sets a formula
