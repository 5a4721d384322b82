"""The style of every figure: palette, canvas, text, and how it is written."""

import io
import os
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.errors import UserError
from experiments.files import write_whole

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, too pale
# for a line; then seven more, so that many arms are at least not drawn alike.
# fmt: off
COLOURS = (
    '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000',
    '#7B3294', '#8C510A', '#B2182B', '#7FA300', '#999999', '#00441B', '#F4A6A0',
)
# fmt: on
GREY = '#666666'


def colour(index: int) -> str:
    """The colour of line number `index`; the palette repeats after its end."""
    return COLOURS[index % len(COLOURS)]


def canvas(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which belongs to no window."""
    figure = Figure((width, height), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def plain(text: object) -> str:
    """The text with its dollar signs escaped: matplotlib reads $...$ as mathematics."""
    return str(text).replace('$', r'\$')


def wrap(text: object, width: int) -> str:
    """The plain text in lines of at most `width` letters."""
    return '\n'.join(textwrap.wrap(plain(text), width))


def frame_rows(axes: Axes) -> None:
    """The look of a panel that has a named row for each arm or net: no box and no tick marks."""
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)


def check_ending(path: str | os.PathLike) -> None:
    """Raises UserError unless the path ends in .png or .svg."""
    if Path(path).suffix not in ('.png', '.svg'):
        raise UserError(f'the figure is a .png or .svg, {str(path)!r} is neither: name it so.')


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes any figure as .png or .svg and returns the path.

    Raises UserError for another ending, OSError.
    """
    check_ending(path)
    write_whole(path, svg(figure) if Path(path).suffix == '.svg' else png(figure))
    return Path(path)


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format='png')
    return out.getvalue()


def svg(figure: Figure) -> str:
    """The figure as SVG text: the same figure gives the same bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context({'svg.hashsalt': 'experiments.figures'}):  # otherwise random ids
        figure.savefig(out, format='svg', metadata={'Date': None})
    return out.getvalue().decode()
