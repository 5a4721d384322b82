"""The figure of an experiment, drawn from its stored rows alone.

    python -m experiments.figures WORKDIR [--out STEM]

writes STEM.png and STEM.svg (default: WORKDIR/figure). Three panels: learning curves, test error
per arm, paired difference of each arm to the baseline (none where there is one arm). An arm has
the same colour everywhere; the figure names every arm or seed that has no result.
"""

import os
import re
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from experiments import style, workdir
from experiments.errors import command
from experiments.options import Parser
from experiments.report.intervals import Interval, interval
from experiments.report.sentences import percent
from experiments.report.summary import arm_rows, finished, summarise
from experiments.style import GREY
from experiments.workdir import Experiment

Summary = list[dict[str, Any]]
Colours = dict[str, str]  # of each arm

WIDTH = 12.0  # inches


def _curve(experiment: Experiment, rows: list[dict[str, Any]], key: str) -> dict[int, list[float]]:
    """{epoch: percents of the runs that have this metric then}, ascending."""
    found: dict[int, list[float]] = {}
    for row in rows:
        for line in experiment.curves.get(row['point'], []):
            if line.get(key) is not None and np.isfinite(line[key]):
                found.setdefault(line['epoch'], []).append(100 * line[key])
    return dict(sorted(found.items()))


def _draw_curves(axes: Axes, experiment: Experiment, colours: Colours) -> None:
    """Means over finished seeds, a band around validation; a run that broke off ends in a cross."""
    validation: list[float] = []
    training: list[float] = []
    for arm, colour in colours.items():
        rows = list(finished(experiment, arm).values())
        curve = _curve(experiment, rows, 'validation/error')
        if curve:
            level = experiment.plan['level']
            mean, low, high, _ = np.array([interval(v, level) for v in curve.values()]).T
            axes.plot(list(curve), mean, color=colour, lw=1.5, marker='.', ms=4)
            axes.fill_between(list(curve), np.maximum(low, 0), high, color=colour, lw=0, alpha=0.18)
            validation.extend(mean)
        curve = _curve(experiment, rows, 'train/error')
        if curve:
            mean = [np.mean(values) for values in curve.values()]
            axes.plot(list(curve), mean, '--', color=colour, lw=1.2, marker='.', ms=3)
            training.extend(mean)
        for row in arm_rows(experiment, arm, 'final'):
            if row['status'] != 'done':
                curve = _curve(experiment, [row], 'validation/error')
                if curve:
                    values = [value for (value,) in curve.values()]
                    axes.plot(list(curve), values, color=colour, lw=0.8, marker='x', markevery=[-1])
                    validation.extend(values)
    axes.set_title('Learning curves')
    if not validation + training:
        axes.set_axis_off()
        axes.text(
            0.5, 0.5, 'no learning curves stored', transform=axes.transAxes, ha='center', color=GREY
        )
        return
    axes.set_xlabel('epoch')
    axes.set_ylabel('error, %')
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    _scale_errors(axes, validation, training)


def _scale_errors(axes: Axes, validation: list[float], training: list[float]) -> None:
    """Vertical axis by the means alone: the band of two seeds can be huge."""
    positive = [value for value in validation or training if value > 0]
    top = max(validation + training)
    if not positive or max(positive) < 10 * min(positive):
        axes.set_ylim(0, 1.1 * top or 1)
        return
    # On a linear axis, a first epoch ten times worse than the last would hide all differences. The
    # training error may leave the panel at the bottom: the validation error matters.
    least = min(value for value in validation + training if value > 0)
    axes.set_yscale('log', nonpositive='clip')
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_ylim(max(0.8 * least, min(positive) / 10), 1.25 * top)


def _draw_interval(axes: Axes, y: float, found: Interval, colour: str) -> None:
    """A dot with its interval, in percent; the dot alone where one seed gives no interval."""
    width = 0 if found.n < 2 else 100 * (found.high - found.mean)
    axes.errorbar(
        100 * found.mean, y, xerr=width or None, fmt='o', color=colour, ms=6, capsize=4, lw=1.8
    )


def _draw_remark(axes: Axes, y: float, text: str) -> None:
    """A remark on the row of an arm, in the middle of the panel whatever its scale."""
    axes.text(
        0.5,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        ha='center',
        va='center',
        color=GREY,
        fontsize=8,
        fontstyle='italic',
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
    )


def _draw_dots(axes: Axes, y: float, values: list[float], colour: str) -> None:
    """Faint dots above the row of an arm, one per seed."""
    percents, rows = [100 * value for value in values], [y + 0.2] * len(values)
    axes.plot(percents, rows, 'o', color=colour, ms=4, alpha=0.4, mew=0)


def _draw_test_error(
    axes: Axes, experiment: Experiment, summary: Summary, colours: Colours
) -> None:
    for y, arm in enumerate(summary):
        values = [row['test/error'] for row in finished(experiment, arm['arm']).values()]
        if values:
            _draw_dots(axes, y, values, colours[arm['arm']])
            _draw_interval(axes, y, arm['test_error'], colours[arm['arm']])
        if arm['missing'] and values:
            _draw_remark(axes, y + 0.4, arm['missing'])
        elif arm['missing']:
            _draw_remark(axes, y, f'no result: {arm["missing"]}')
    if summary[0]['seeds']:
        axes.axvline(100 * summary[0]['test_error'].mean, color=colours[summary[0]['arm']], lw=0.8)
    axes.set_title('Test error')
    axes.set_xlabel('test error, %')


def _draw_differences(
    axes: Axes, experiment: Experiment, summary: Summary, colours: Colours
) -> None:
    baseline = finished(experiment, summary[0]['arm'])
    if any(arm['difference'].n for arm in summary[1:]):
        axes.axvline(0, color='black', lw=0.8)
    _draw_remark(axes, 0, 'baseline')
    for y, arm in enumerate(summary[1:], start=1):
        if not arm['difference'].n:
            _draw_remark(axes, y, 'no seed finished in both arms')
            continue
        apart = [
            row['test/error'] - baseline[seed]['test/error']
            for seed, row in finished(experiment, arm['arm']).items()
            if seed in baseline
        ]
        _draw_dots(axes, y, apart, colours[arm['arm']])
        _draw_interval(axes, y, arm['difference'], colours[arm['arm']])
    axes.set_title('Paired difference')
    axes.set_xlabel('arm minus baseline, percentage points')


def _frame_rows(axes: Axes, drawn: bool) -> None:
    """The look of the two panels with one row per arm; an empty one has no scale."""
    style.frame_rows(axes)
    if drawn:
        axes.margins(x=0.08)
        axes.grid(axis='x', alpha=0.25)
    else:
        axes.set_xticks([])


def _draw_legend(figure: Figure, summary: Summary, colours: Colours) -> None:
    handles, labels = [], []
    for arm in summary:
        n = f'n = {arm["seeds"]}'
        if arm['missing']:
            n += f' of {arm["seeds_expected"]}; {arm["missing"]}'
        handles.append(Line2D([], [], color=colours[arm['arm']], lw=3))
        labels.append(style.wrap(f'{arm["arm"]} ({n})', 130))
    handles += [Line2D([], [], color=GREY, ls='-'), Line2D([], [], color=GREY, ls='--')]
    labels += ['validation, end of epoch', 'training, average during epoch']
    if any('diverged' in arm['missing'] or 'failed' in arm['missing'] for arm in summary):
        handles.append(Line2D([], [], color=GREY, lw=0.8, marker='x'))
        labels.append('a run that broke off')
    longest = max(len(line) for label in labels for line in label.split('\n'))
    columns = max(1, min(3, 160 // (longest + 6)))  # about 160 letters fit in a line
    figure.legend(
        handles, labels, loc='outside lower center', frameon=False, fontsize=8, ncols=columns
    )


def render(experiment: Experiment) -> Figure:
    """The figure of an experiment, however incomplete."""
    plan = experiment.plan
    summary = summarise(experiment)
    colours = {arm: style.colour(index) for index, arm in enumerate(plan['arms'])}

    title = style.wrap(plan['title'], 100)
    note = style.wrap(
        f'{plan["dataset_note"]}. Bands (validation) and intervals: '
        f'{percent(plan["level"])} Student t over seeds, each for itself, not '
        'corrected for several comparisons; they do not cover the sampling of test '
        'images. Faint dots: single seeds.'.replace(' %', '\N{NO-BREAK SPACE}%'),
        200,
    )
    head = 0.3 + 0.24 * (title.count('\n') + 1) + 0.15 * (note.count('\n') + 1)  # inches
    labels = [style.wrap(arm['arm'], 18) for arm in summary]
    row = max(0.6, 0.25 + 0.17 * max(label.count('\n') + 1 for label in labels))
    height = head + max(3.9, 1.6 + row * len(summary))
    figure = style.canvas(WIDTH, height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # as style.canvas sets it
    engine.set(rect=(0, 0, 1, 1 - head / height), w_pad=0.08)
    figure.text(0.012, 1 - 0.12 / height, title, fontsize=13, va='top', linespacing=1.2)
    below = 1 - (0.2 + 0.24 * (title.count('\n') + 1)) / height
    figure.text(0.012, below, note, fontsize=7.5, va='top', color=GREY)

    # One arm has nothing to be compared with: no third panel
    widths = (1.35, 1, 1) if len(summary) > 1 else (1.35, 1)
    left, middle, *others = figure.subplots(1, len(widths), width_ratios=widths)
    _draw_curves(left, experiment, colours)
    _draw_test_error(middle, experiment, summary, colours)
    _frame_rows(middle, any(arm['seeds'] for arm in summary))
    for right in others:
        right.sharey(middle)
        _draw_differences(right, experiment, summary, colours)
        _frame_rows(right, any(arm['difference'].n for arm in summary[1:]))
        right.tick_params(labelleft=False)
    middle.set_yticks(range(len(summary)), labels)
    for label, colour in zip(middle.get_yticklabels(), colours.values(), strict=True):
        label.set_color(colour)
    middle.set_ylim(len(summary) - 0.45, -0.55)
    _draw_legend(figure, summary, colours)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # laid out again at each drawing, it would creep
    return figure


def write(experiment: Experiment, stem: str | os.PathLike) -> tuple[Path, Path]:
    """Writes stem.png and stem.svg and returns their paths. Raises OSError."""
    figure = render(experiment)
    return style.save(figure, f'{stem}.png'), style.save(figure, f'{stem}.svg')


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(
        prog='python -m experiments.figures',
        description='Draws the figure of an experiment from its stored rows.',
    )
    parser.add_argument('workdir', help='work directory of an experiment')
    parser.add_argument(
        '--out', metavar='STEM', help='write STEM.png and STEM.svg (default: WORKDIR/figure)'
    )
    args = parser.parse_args(argv)
    stem = re.sub(r'\.(png|svg)$', '', args.out or str(Path(args.workdir) / 'figure'))
    print(*write(workdir.read_experiment(args.workdir), stem), sep='\n')
    return 0
