"""The style of every figure: its colours, and how it is written."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from experiments.errors import UserError
from experiments.files import write_whole

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, too pale
# for a line; then seven more, so that many arms are at least not drawn alike.
COLOURS = (
    '#0072B2',
    '#D55E00',
    '#009E73',
    '#CC79A7',
    '#E69F00',
    '#56B4E9',
    '#000000',
    '#7B3294',
    '#8C510A',
    '#B2182B',
    '#7FA300',
    '#999999',
    '#00441B',
    '#F4A6A0',
)


GREY = '#666666'


def check_ending(path) -> None:
    """Raises UserError unless the path ends in .png or .svg."""
    if Path(path).suffix not in ('.png', '.svg'):
        raise UserError(f'the figure is a .png or .svg, {str(path)!r} is neither: name it so.')


def save(figure: Figure, path) -> None:
    """Writes any figure as .png or .svg. Raises UserError for another ending, OSError."""
    check_ending(path)
    if Path(path).suffix == '.svg':
        write_whole(path, svg(figure))
    else:
        png = io.BytesIO()
        figure.savefig(png, format='png')
        write_whole(path, png.getvalue())


def svg(figure: Figure) -> str:
    """The figure as SVG text: the same figure gives the same bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context({'svg.hashsalt': 'experiments.figures'}):  # otherwise random ids
        figure.savefig(out, format='svg', metadata={'Date': None})
    return out.getvalue().decode()
