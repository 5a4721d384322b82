"""Tables for a terminal and for Markdown."""

import sys
from collections.abc import Sequence

import rich.box
import rich.table
import rich.text
from rich.console import Console

# headings of columns aligned to the left
_WORDS = ('net', 'layer', 'kind', 'paper', 'arm', 'claim', 'verdict', 'effect', 'the notes say')

Lines = Sequence[Sequence[str]]
Table = tuple[Sequence[str], Lines]  # headings and lines


def markdown(headings: Sequence[str], lines: Lines) -> str:
    """A table as GitHub reads it, with a newline at its end."""
    rules = ['---' if heading in _WORDS else '---:' for heading in headings]
    return ''.join(f'| {" | ".join(line)} |\n' for line in (headings, rules, *lines))


def terminal(
    headings: Sequence[str],
    lines: Lines,
    title: str | None = None,
    caption: str | None = None,
    fold: bool = True,
) -> rich.table.Table:
    """The same for a console. A last line 'total' stands apart.

    On a narrow console the cells fold and lose no digit; without `fold` only the first column's do.
    """
    # Text, not str: rich would take square brackets for markup
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify='left',
        title=rich.text.Text(title) if title else None,
        caption_justify='left',
        caption=rich.text.Text(caption) if caption else None,
        caption_style='dim',
    )
    for index, heading in enumerate(headings):
        table.add_column(
            heading,
            justify='left' if heading in _WORDS else 'right',
            overflow='fold' if fold else 'ellipsis',
            no_wrap=index > 0 and not fold,
        )
    for line in lines:
        last = line[0] == 'total' and line is lines[-1]
        if last:
            table.add_section()
        table.add_row(*(rich.text.Text(cell) for cell in line), style='bold' if last else None)
    return table


def show(table: rich.table.Table) -> None:
    """Prints a table as wide as the terminal, or within 200 columns where there is none."""
    Console(width=None if sys.stdout.isatty() else 200).print(table)
