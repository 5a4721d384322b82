"""The page of an evaluation: evaluation.html, which needs nothing else, no network, no scripts."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.data.decode import image_of
from experiments.errors import counted
from experiments.evaluation.measured import Class, interval
from experiments.report.page import document, escape, html_list, html_table, panel

_SIDE = 160  # pixels of the longer side of an image in the page


def percents(errors: int, images: int) -> str:
    """'18.97 [18.21, 19.75]'."""
    low, high = interval(errors, images)
    return f'{100 * errors / images:.2f} [{100 * low:.2f}, {100 * high:.2f}]' if images else '-'


def class_table(
    classes: Sequence[Class], names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Headings and a line for each class."""
    lines = []
    for one in classes:
        most = '-' if one.taken_for is None else f'{names[one.taken_for]} ({one.times:,})'
        lines.append(
            [
                names[one.place],
                f'{one.images:,}',
                f'{one.errors:,}',
                percents(one.errors, one.images),
                most,
            ]
        )
    return ['class', 'images', 'wrong', 'error, % [95 %]', 'most often taken for'], lines


def _mistake(image: np.ndarray, words: str) -> str:
    picture = image_of(image)
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, format='PNG')
    text = base64.b64encode(out.getvalue()).decode()
    # small images keep their pixels
    look = (
        'width: 100%; image-rendering: pixelated' if max(image.shape[:2]) <= 64 else 'width: 100%'
    )
    return (
        f'<figure><img alt="{escape(words)}" style="{look}" src="data:image/png;base64,{text}">'
        f'<figcaption style="font-weight: 400; font-size: 0.8rem">{escape(words)}</figcaption>'
        '</figure>'
    )


def make(
    title: str,
    command: str,
    used: Sequence[str],
    findings: Sequence[str],
    drawn: Sequence[tuple[str, Figure]],
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    mistakes: Sequence[tuple[np.ndarray, str]],
    data_note: str,
    environment: dict[str, object],
) -> str:
    """The page. mistakes: uint8 [H, W, C] and words, the most confident first."""
    rows = [(key, str(value)) for key, value in sorted(environment.items())]
    wrong = ''.join(_mistake(image, words) for image, words in mistakes)
    grid = 'display: grid; gap: 0.8rem; max-width: 60rem; '
    grid += 'grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr))'
    body = [
        f'<h1>{escape(title)}</h1>',
        f'<p>Made by <code>{escape(command)}</code></p>',
        '<h2>What was found</h2>',
        html_list(findings),
        '<h2>What was used</h2>',
        html_list(used),
        '<h2>Figure</h2>',
        f'<div class="panels">{"".join(panel(head, title, one) for head, one in drawn)}</div>',
        '<p class="notes">Matrix: each row is shaded by its share of images, by the square root. '
        'Reliability: a perfectly calibrated net is on the dashed line; vertical lines are 95 % '
        'intervals over images.</p>',
        '<h2>Classes</h2>',
        html_table(*table),
        '<h2>The images it is most wrong about</h2>',
        f'<p>{counted(len(mistakes), "wrong image")} with the highest probability of the wrong '
        f'class.</p><div style="{grid}">{wrong}</div>'
        if mistakes
        else '<p>None is wrong.</p>',
        '<h2>Data</h2>',
        f'<p>{escape(data_note)}</p>',
        '<h2>Environment</h2>',
        html_table(('what', 'value'), rows, texts=True),
    ]
    return document(html.unescape(escape(title)), body)
