"""The style of every figure: palette, canvas, text, and how it is written."""

import colorsys
import functools
import io
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from experiments.errors import UserError, printable, shown
from experiments.files import write_whole
from experiments.progress import note

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, too pale
# for a line; then seven more, so that many arms are at least not drawn alike.
# fmt: off
COLOURS = (
    '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000',
    '#7B3294', '#8C510A', '#B2182B', '#7FA300', '#999999', '#00441B', '#F4A6A0',
)
# fmt: on
GREY = '#666666'
DARK = '#16181c'  # the background of a page in dark mode


def colour(index: int) -> str:
    """The colour of line number `index`; the palette repeats after its end."""
    return COLOURS[index % len(COLOURS)]


def canvas(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which belongs to no window."""
    figure = Figure((width, height), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


_UNKNOWN = '\N{REPLACEMENT CHARACTER}'
_named: set[str] = set()  # letters without a glyph, of which there was a note


@functools.cache
def _letters() -> frozenset[int]:
    """The code points that the font of the figures can draw."""
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def plain(text: str) -> str:
    """The text in one line that matplotlib draws as it is: without $...$, which is mathematics.

    Letters that the font lacks are drawn as a replacement character, with a note on standard error.
    """
    text = printable(text)
    lacking = ''.join(sorted({char for char in text if ord(char) not in _letters()}))
    if set(lacking) - _named:
        _named.update(lacking)
        note(
            f'the font of the figures lacks {lacking!r} of {shown(text)}: drawn as {_UNKNOWN}. '
            'Name a font that has it as font.family in your matplotlibrc.'
        )
    for char in lacking:
        text = text.replace(char, _UNKNOWN)
    return text.replace('$', r'\$')


def wrap(text: str, width: int) -> str:
    """The plain text in lines of at most `width` letters."""
    return '\n'.join(textwrap.wrap(plain(text), width))


def frame_rows(axes: Axes) -> None:
    """The look of a panel that has a named row for each arm or net: no box and no tick marks."""
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis='y', length=0)


def finish(axes: Axes, xlabel: str, ylabel: str = '', legend: bool = True, **where: Any) -> None:
    """Names of the axes, a faint grid, and a legend, if asked for, of what has a label.

    where: keywords of the legend.
    """
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, **where)


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


def svg(figure: Figure, **given) -> str:
    """The figure as SVG text: the same figure gives the same bytes. given: as savefig takes."""
    out = io.BytesIO()
    with matplotlib.rc_context({'svg.hashsalt': 'experiments.figures'}):  # otherwise random ids
        figure.savefig(out, format='svg', metadata={'Date': None}, **given)
    return out.getvalue().decode()


def inline(figure: Figure) -> str:
    """The figure as an svg element of a page, which takes its colours from the page.

    Without a background; each colour is a variable, as `variables` defines them.
    """
    text = svg(figure, transparent=True)
    text = re.sub(r'<metadata>.*?</metadata>', '', text[text.index('<svg') :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', '', text)  # HTML knows the namespaces of svg
    text = re.sub(r' id="[a-z]+[\dA-Za-z]*_\d+"', '', text)  # figure_1: once a page
    return re.sub(r'(fill|stroke): #([0-9a-f]{6})', r'\1: var(--c\2)', text)


def variables(page: str) -> str:
    """CSS that defines each colour which a page uses as var(--cRRGGBB), for light and dark mode."""
    found = sorted(set(re.findall(r'var\(--c([0-9a-f]{6})\)', page)))
    light = ' '.join(f'--c{name}: #{name};' for name in found)
    dark = ' '.join(f'--c{name}: {darkened("#" + name)};' for name in found)
    return f':root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n'


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.1, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [value / 255 for value in bytes.fromhex(colour[1:])]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def darkened(colour: str) -> str:
    """The colour for a dark page: white is its background, greys are inverted, others lighter.

    The contrast to the background is 4.5 at least.
    """
    hue, light, full = colorsys.rgb_to_hls(*(value / 255 for value in bytes.fromhex(colour[1:])))
    if light > 0.97:
        return DARK
    if full < 0.1:
        light = 0.92 - 0.6 * light
    while True:
        rgb = colorsys.hls_to_rgb(hue, light, full)
        found = '#' + bytes(round(255 * value) for value in rgb).hex()
        if contrast(found, DARK) >= 4.5:
            return found
        light += 0.02
