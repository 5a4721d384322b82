"""The figure of an evaluation: the error of each class, the confusion matrix, the reliability."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import style
from experiments.evaluation.measured import BINS, Bin, Class, interval

_MOST = 30  # classes that a panel names
_NUMBERED = 12  # classes up to which the cells of the matrix have their numbers
_WIDTH = 4.6  # inches of a panel
_BLUE, _ORANGE = style.COLOURS[:2]


def _name(text: str, length: int = 18) -> str:
    text = style.plain(text)
    return text if len(text) <= length else text[: length - 3] + '...'


def _worst(classes: Sequence[Class]) -> list[Class]:
    """The classes that have images, those with the highest error first; the first _MOST of them."""
    known = [one for one in classes if one.images]
    return sorted(known, key=lambda one: (-one.errors / one.images, one.place))[:_MOST]


def _draw_classes(axes: Axes, classes: Sequence[Class], names: Sequence[str]) -> None:
    chosen = _worst(classes)
    for row, one in enumerate(chosen):
        low, high = interval(one.errors, one.images)
        axes.plot([100 * low, 100 * high], [row, row], color=_BLUE, linewidth=2)
        axes.plot(100 * one.errors / one.images, row, 'o', color=_BLUE, markersize=4)
    axes.set_yticks(range(len(chosen)), [_name(names[one.place]) for one in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel('error, %, with 95 % intervals over images')
    axes.grid(axis='x', alpha=0.3)
    style.frame_rows(axes)


def _draw_confusion(axes: Axes, table: np.ndarray, names: Sequence[str]) -> None:
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    shown = np.zeros((*table.shape, 4))
    shown[..., :3] = to_rgb(_ORANGE)
    shown[np.arange(len(table)), np.arange(len(table)), :3] = to_rgb(_BLUE)
    shown[..., 3] = 0.75 * np.sqrt(share)  # transparent, so that a page's own background is below
    axes.imshow(shown, interpolation='nearest', aspect='auto')
    if len(table) <= _NUMBERED:
        for (row, column), count in np.ndenumerate(table):
            if count:
                text = str(count) if count < 100_000 else f'{count:.0e}'
                axes.text(column, row, text, ha='center', va='center', fontsize=6)
    if len(table) <= _MOST:
        places = range(len(table))
        labels = [_name(name, 12) for name in names]
        axes.set_xticks(places, labels, rotation=90, fontsize=7)
        axes.set_yticks(places, labels, fontsize=7)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel('taken for')
    axes.set_ylabel('class')


def _draw_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    total = sum(one.images for one in bins)
    x = [one.confidence for one in bins]
    axes.bar(
        x,
        [one.images / total for one in bins],
        width=0.5 / BINS,
        color=style.GREY,
        alpha=0.35,
        label='share of the images',
    )
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle='--')
    for one in bins:
        right = round(one.right * one.images)
        axes.plot([one.confidence] * 2, interval(right, one.images), color=_BLUE, linewidth=1.5)
    axes.plot(x, [one.right for one in bins], 'o-', color=_BLUE, markersize=4, label='right')
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel('confidence: probability of the best class')
    axes.set_ylabel('fraction right')
    axes.legend(fontsize=8, frameon=False, loc='upper left')
    axes.grid(alpha=0.3)


def panels(
    classes: Sequence[Class], table: np.ndarray, bins: Sequence[Bin], names: Sequence[str]
) -> list[tuple[str, Figure]]:
    """[(heading, figure)]: the panels one by one, as a page has them."""
    found = []
    for heading, draw, height in _parts(classes, table, bins, names):
        figure = style.canvas(_WIDTH, height)
        draw(figure.subplots())
        found.append((heading, figure))
    return found


def _parts(classes, table, bins, names):
    some = len(_worst(classes))
    of = f'Error of the {some} worst classes' if some < len(classes) else 'Error of each class'
    rows = max(2.0, 0.9 + 0.22 * some)
    yield of, lambda axes: _draw_classes(axes, classes, names), rows
    yield 'Confusion matrix', lambda axes: _draw_confusion(axes, table, names), _WIDTH
    yield 'Reliability', lambda axes: _draw_reliability(axes, bins), 3.6


def render(
    title: str,
    classes: Sequence[Class],
    table: np.ndarray,
    bins: Sequence[Bin],
    names: Sequence[str],
) -> Figure:
    """All panels side by side."""
    parts = list(_parts(classes, table, bins, names))
    figure = style.canvas(_WIDTH * len(parts), max(_WIDTH, *(height for *_, height in parts)) + 0.4)
    for axes, (heading, draw, _) in zip(figure.subplots(1, len(parts)), parts, strict=True):
        draw(axes)
        axes.set_title(heading)
    figure.suptitle(style.wrap(title, 110))
    return figure


def write(figure: Figure, stem: str | os.PathLike) -> list[Path]:
    """Writes stem.png and stem.svg. Raises OSError."""
    return [style.save(figure, f'{stem}{ending}') for ending in ('.png', '.svg')]
