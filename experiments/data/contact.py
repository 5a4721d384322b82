"""A contact sheet: images in rows, with their classes."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments import style
from experiments.errors import UserError
from experiments.files import write_whole

LINE = 0.2  # inches, a line of text
CELL = 1.5  # inches, an image with its margin


def samples(
    images: np.ndarray | Sequence[np.ndarray],
    labels: Sequence[int] | np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike,
    title: str = '',
    columns: int = 8,
) -> Path:
    """Writes a sheet of images with their classes, row by row; returns the path of the PNG.

    images: uint8 [n, H, W, C] or a list of [h, w, C] of any sizes, C 1 or 3; labels: int [n];
    classes: their names. Raises UserError where the file cannot be written.
    """
    columns = max(1, min(columns, len(images)))
    figure, axes, _ = grid(-(-len(images) // columns), columns, title, captions=1)
    for axis, image, label in zip(axes.flat, images, labels):
        show(axis, np.asarray(image) / 255)
        axis.set_xlabel(short(classes[label]), fontsize=7)
    return write(figure, path)


def grid(
    rows: int, columns: int, title: str, captions: int = 0, titles: bool = False
) -> tuple[Figure, np.ndarray, list[Axes]]:
    """(figure, axes [rows, columns], a text axis above each row)."""
    width = max(columns * CELL, 6 if titles else 4)  # inches; the longest title of a row fits
    lines = style.wrap(title, int(width * 13)).splitlines()
    top = LINE * (len(lines) + 0.5)
    heads = LINE * 1.6 if titles else 0
    below = LINE * (0.4 + 0.6 * captions) if captions else 0
    row = CELL + heads + below
    first = LINE * (0.4 if titles or captions else 1.2)  # the titles of the columns
    height = top + first + rows * row
    figure = Figure((width, height), dpi=120)
    FigureCanvasAgg(figure)
    figure.text(0.08 / width, 1 - 0.08 / height, '\n'.join(lines), va='top', fontsize=10)
    left = 0.0 if titles or captions else LINE * 1.5  # the classes beside the rows
    cell = (width - left) / columns
    axes, frames = np.empty((rows, columns), object), []

    def add(x, y, wide, high):  # inches
        axis = figure.add_axes((x / width, y / height, wide / width, high / height))
        axis.set_axis_off()
        return axis

    for i in range(rows):
        bottom = height - top - first - (i + 1) * row + below
        for j in range(columns):
            axes[i, j] = add(left + j * cell + 0.05, bottom + 0.05, cell - 0.1, CELL - 0.1)
        frames.append(add(0.08, bottom + CELL, 0.9 * width, heads or 0.01))
    return figure, axes, frames


def show(axis: Axes, image: np.ndarray) -> None:
    """Shows float [h, w, C] on [0, 1]; small images keep their pixels."""
    image = np.clip(image, 0, 1)
    if image.shape[-1] != 3:
        image = image[..., :1].repeat(3, -1)
    axis.imshow(image, interpolation='nearest' if image.shape[0] <= 64 else 'antialiased')
    axis.set_axis_on()
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.5)


def short(text: object) -> str:
    """A text that fits below an image."""
    text = style.plain(str(text))
    return text if len(text) <= 22 else text[:20] + '...'


def write(figure: Figure, path: str | os.PathLike) -> Path:
    """Writes a figure as PNG, whole or not at all; returns the path. Raises UserError."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, style.png(figure))
    except OSError as error:
        words = f'the sheet cannot be written to {path}: {error.strerror}. Give another --out.'
        raise UserError(words) from error
    return path
