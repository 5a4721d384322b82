"""Tables for a terminal and for Markdown."""

import rich.box
import rich.table
import rich.text

_WORDS = ('net', 'layer', 'kind', 'paper')  # aligned to the left


def markdown(headings, lines) -> str:
    """A table as GitHub reads it, with a newline at its end."""
    rules = ['---' if heading in _WORDS else '---:' for heading in headings]
    return ''.join(f'| {" | ".join(line)} |\n' for line in (headings, rules, *lines))


def table(headings, lines, title=None) -> rich.table.Table:
    """The same for a console; a narrow one folds cells and loses no digit."""
    # Text, not str: rich would take square brackets for markup
    grid = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify='left',
        title=title and rich.text.Text(title),
    )
    for heading in headings:
        grid.add_column(heading, justify='left' if heading in _WORDS else 'right', overflow='fold')
    for line in lines:
        last = line[0] == 'total' and line is lines[-1]
        if last:
            grid.add_section()
        grid.add_row(*(rich.text.Text(cell) for cell in line), style='bold' if last else None)
    return grid
