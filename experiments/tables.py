"""Tables for a terminal and for Markdown, and the console that they are printed on."""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import rich.box
import rich.console
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table as Grid
from rich.text import Text

from experiments.errors import Unread, printable

# headings of columns of words: aligned to the left, and folded where a console is narrow
# fmt: off
_WORDS = (
    'net', 'layer', 'kind', 'paper', 'arm', 'changes', 'learning rates', 'final seeds',
    'claim', 'verdict', 'effect', 'measured on', 'the notes say',
    'supported', 'contradicted', 'equivalent', 'not resolved', 'corrected',
)
# fmt: on
_MARKS = re.compile(  # what Markdown acts on
    r'[|`~]|<(?=[A-Za-z/!?])|\*(?=\S)|(?<!\w)_|_(?!\w)|\[(?=[^\]]*\][(\[])|\\(?=[^\w\s])'
)
_GAP = 2  # between two columns
_WIDTH = 200  # columns, where no terminal says how wide it is

Lines = Sequence[Sequence[str]]
Table = tuple[Sequence[str], Lines]  # headings and lines


class Console(rich.console.Console):
    """Standard output for tables and lines: text is no markup, and no colour goes into a file."""

    def __init__(self):
        live = sys.stdout.isatty()
        # what FORCE_COLOR would turn into a terminal is a file all the same
        super().__init__(
            # past the stream that shows escape sequences: those of a live bar are its own
            file=getattr(sys.stdout, 'rich_proxied_file', sys.stdout),
            width=None if live else _WIDTH,
            force_terminal=None if live else False,
            markup=False,
            emoji=False,
            highlight=False,
        )

    def print(self, *objects: Any, **given: Any) -> None:
        """Prints tables, and lines, which the terminal breaks where they are long."""
        for item in objects:
            words = isinstance(item, str)
            shown = Text('\n'.join(map(printable, item.split('\n')))) if words else item
            super().print(shown, **{'soft_wrap': words, **given})

    def on_broken_pipe(self):  # rich would exit with status 1
        raise Unread


def markdown(headings: Sequence[str], lines: Lines) -> str:
    """A table as GitHub reads it, with a newline at its end."""
    rules = ['---' if heading in _WORDS else '---:' for heading in headings]
    cells = ([as_markdown(cell) for cell in line] for line in lines)
    return ''.join(f'| {" | ".join(line)} |\n' for line in (headings, rules, *cells))


def as_markdown(text: str) -> str:
    """The text in one line, so that GitHub shows it as it is: no tag, link, emphasis or formula."""
    text = re.sub('&(?=#?[0-9A-Za-z]+;)', '&amp;', printable(text))
    text = _MARKS.sub(r'\\\g<0>', text)
    # GitHub looks for formulas before it looks for backslashes
    return text.replace('$', '<span>$</span>')


class Terminal:
    """A table for a console of any width.

    Columns of words fold between words where they must. Numbers are never cut nor folded: columns
    that have no room side by side follow below, the first column before them again. A last line
    'total' stands apart.
    """

    def __init__(
        self, headings: Sequence[str], lines: Lines, title: str = '', caption: str = ''
    ) -> None:
        self.headings, self.title, self.caption = headings, title, caption
        self.lines = [[printable(cell) for cell in line] for line in lines]

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> Iterator[rich.console.RenderableType]:
        if self.title:
            yield Text(printable(self.title), 'italic')
        for index, part in enumerate(self._parts(options.max_width)):
            yield from [Text()] * bool(index)
            yield self._grid(part)
        for line in self.caption.splitlines():
            yield Text(printable(line), 'dim')

    def _parts(self, room: int) -> list[dict[int, int]]:
        """The columns of each table below another one, and their widths."""
        widest, least = [], []
        for heading, *cells in zip(self.headings, *self.lines):
            solid = [] if heading in _WORDS else cells
            loose = [heading, *cells] if heading in _WORDS else [heading]
            solid = [*solid, *(word for text in loose for word in text.split())]
            widest.append(max(map(cell_len, (heading, *cells))))
            least.append(min(max(map(cell_len, solid), default=1), room))
        least[0] = min(least[0], room // 2)
        if sum(widest) + _GAP * (len(widest) - 1) <= room:
            return [dict(enumerate(widest))]
        parts = [{0: least[0]}]
        for column, width in list(enumerate(least))[1:]:
            if (
                sum(parts[-1].values()) + width + _GAP * len(parts[-1]) > room
                and len(parts[-1]) > 1
            ):
                parts.append({0: least[0]})
            parts[-1][column] = min(width, room - _GAP - least[0])
        for part in parts:
            left = room - sum(part.values()) - _GAP * (len(part) - 1)
            for column in part:  # what is left goes to words
                more = min(left, widest[column] - part[column])
                part[column], left = part[column] + more, left - more
        return parts

    def _grid(self, widths: dict[int, int]) -> Grid:
        grid = Grid(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for column, width in widths.items():
            heading = self.headings[column]
            side: JustifyMethod = 'left' if heading in _WORDS else 'right'
            grid.add_column(Text(heading), justify=side, width=width, overflow='fold')
        for line in self.lines:
            last = line[0] == 'total' and line is self.lines[-1]
            if last:
                grid.add_section()
            cells = (Text(line[column]) for column in widths)
            grid.add_row(*cells, style='bold' if last else None)
        return grid


def show(table: Terminal) -> None:
    """Prints a table on standard output."""
    Console().print(table)
