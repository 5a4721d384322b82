"""The figure of an experiment, drawn from its stored rows alone.

    python -m experiments.figures WORKDIR [WORKDIR ...] [--out STEM]

writes STEM.png and STEM.svg (default: WORKDIR/figure). Three panels: learning curves, test error
per arm, paired difference of each arm to the baseline (none where there is one arm). An arm has
the same colour everywhere; the figure names every arm or seed that has no result. Runs that are
still running are drawn as far as they are, and marked. Of a full factorial with many arms, one
panel: the effects of its fields.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from experiments import style
from experiments.errors import UserError, check_writable, command
from experiments.options import Parser
from experiments.report import compare
from experiments.report.factorial import MOST
from experiments.report.intervals import Interval, interval
from experiments.report.sentences import percent
from experiments.report.statistics import Effect
from experiments.report.summary import MANY, arm_rows, drawn, finished, summarise, unfinished
from experiments.style import GREY
from experiments.workdir import Experiment

Summary = list[dict[str, Any]]
Colours = dict[str, str]  # of each arm

WIDTH = 12.0  # inches
PANEL_WIDTH = 4.0  # inches, of a panel that is drawn alone
_NAME_WIDTH = 70  # letters in a line of the name of an effect, left of its row

# What a line of the learning curves is: the look in a word, its meaning, its style
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    'validation': ('solid', 'validation, end of epoch', {'lw': 1.5}),
    'training': ('dashed', 'training, average during epoch', {'lw': 1.2, 'ls': '--'}),
    'broken': ('cross', 'a run that broke off', {'lw': 0.8, 'marker': 'x'}),
    'running': ('ring', 'a run that has not finished', {'lw': 0.8, 'marker': 'o', 'mfc': 'none'}),
    'trial': ('dotted', 'a trial of a learning rate', {'lw': 1.2, 'ls': ':'}),
}


def colours_of(experiment: Experiment) -> Colours:
    return {arm: style.colour(index) for index, arm in enumerate(experiment.plan['arms'])}


def _curve(experiment: Experiment, runs: list[str], key: str) -> dict[int, list[float]]:
    """{epoch: percents of the runs that have this metric then}, ascending."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for line in experiment.curves.get(run, []):
            if line.get(key) is not None and np.isfinite(line[key]):
                found.setdefault(line['epoch'], []).append(100 * line[key])
    return dict(sorted(found.items()))


def _runs_drawn(experiment: Experiment, arm: str) -> dict[str, list[str]]:
    """{kind of line: names of the runs of an arm with a curve}; trials where no final run has."""
    rows = arm_rows(experiment, arm, 'final')
    found = {
        'validation': [row['point'] for row in finished(experiment, arm).values()],
        'broken': [row['point'] for row in rows if row['status'] != 'done'],
        'running': unfinished(experiment, arm, 'final'),
    }
    if not any(run in experiment.curves for runs in found.values() for run in runs):
        found['trial'] = [row['point'] for row in arm_rows(experiment, arm, 'select')]
        found['trial'] += unfinished(experiment, arm, 'select')
    return {
        kind: kept
        for kind, runs in found.items()
        if (kept := [run for run in runs if run in experiment.curves])
    }


def _running(experiment: Experiment) -> set[str]:
    """Names of the runs that have epochs, but no row yet."""
    return {
        run
        for arm in experiment.plan['arms']
        for phase in ('select', 'final')
        for run in unfinished(experiment, arm, phase)
    }


def kinds_of(experiment: Experiment) -> list[str]:
    """Keys of KINDS that the learning curves hold; none where there are no curves."""
    found = {kind for arm in experiment.plan['arms'] for kind in _runs_drawn(experiment, arm)}
    if 'validation' in found:
        found.add('training')
    if _running(experiment) & {
        run
        for arm in experiment.plan['arms']
        for run in _runs_drawn(experiment, arm).get('trial', [])
    }:
        found.add('running')
    return [kind for kind in KINDS if kind in found]


def _draw_curves(axes: Axes, experiment: Experiment, colours: Colours) -> None:
    """Means over finished seeds with a band around validation; other runs one by one."""
    validation: list[float] = []
    training: list[float] = []
    running = _running(experiment)
    for arm, colour in colours.items():
        drawn = _runs_drawn(experiment, arm)
        done = drawn.pop('validation', [])
        curve = _curve(experiment, done, 'validation/error')
        if curve:
            level = experiment.plan['level']
            mean, low, high, _ = np.array([interval(v, level) for v in curve.values()]).T
            dots: dict[str, Any] = {'marker': '.', 'ms': 4} if len(curve) <= 30 else {}
            axes.plot(list(curve), mean, color=colour, **KINDS['validation'][2], **dots)
            axes.fill_between(list(curve), np.maximum(low, 0), high, color=colour, lw=0, alpha=0.18)
            validation.extend(mean)
        curve = _curve(experiment, done, 'train/error')
        if curve:
            mean = [np.mean(values) for values in curve.values()]
            axes.plot(list(curve), mean, color=colour, **KINDS['training'][2])
            training.extend(mean)
        for kind, run in ((kind, run) for kind, runs in drawn.items() for run in runs):
            curve = _curve(experiment, [run], 'validation/error')
            if curve:
                values = [value for (value,) in curve.values()]
                look = KINDS[kind][2]
                if run in running:
                    look = KINDS['running'][2] | look
                elif len(curve) == 1:
                    look = {'marker': '.'} | look
                axes.plot(list(curve), values, color=colour, **look, markevery=[-1])
                validation.extend(values)
    if not validation + training:
        axes.set_axis_off()
        axes.text(
            0.5, 0.5, 'no learning curves stored', transform=axes.transAxes, ha='center', color=GREY
        )
        return
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
    axes.set_ylabel(f'error, %{_scale_errors(axes, validation, training)}')


def _scale_errors(axes: Axes, validation: list[float], training: list[float]) -> str:
    """Scales the vertical axis by the means alone; returns what the axis' label must say of it.

    On an axis from 0, the first epochs rule the scale and hide the differences between arms. The
    band of two seeds can be huge, and the training error may leave at the bottom: the validation
    error matters.
    """
    top = max(validation + training)
    positive = [value for value in validation or training if value > 0]
    if not positive:
        axes.set_ylim(0, 1.1 * top or 1)
        return ''
    least = min(value for value in validation + training if value > 0)
    low = max(least, min(positive) / 4)
    if top < 1.5 * low:
        pad = 0.1 * (top - low) or 0.1 * top
        axes.set_ylim(max(0, low - pad), top + pad)
        return ' (axis not from 0)' if low > pad else ''
    bottom, top = low * (low / top) ** 0.06, top * (top / low) ** 0.06
    axes.set_yscale('log', nonpositive='clip')
    axes.set_yticks(_ticks(bottom, top))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_ylim(bottom, top)
    return ' (log scale)' if least == low else ' (log scale, cut below)'


def _ticks(bottom: float, top: float) -> list[float]:
    """Round numbers for a log axis, four at least where they exist."""
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        powers = range(int(np.floor(np.log10(bottom))), int(np.ceil(np.log10(top))))
        marks = (step * 10.0**power for power in powers for step in steps)
        found = [mark for mark in marks if bottom <= mark <= top]
        if len(found) >= 4:
            break
    return found


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
        fontsize=8.5,
        fontstyle='italic',
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
    )


def _draw_dots(axes: Axes, y: float, values: list[float], colour: str) -> None:
    """Faint dots below the interval of an arm, one per seed where there are several."""
    if len(values) < 2:
        return
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
            _draw_remark(axes, y, style.wrap(f'no result: {arm["missing"]}', 40))
    if summary[0]['seeds'] and len(summary) > 1:
        axes.axvline(100 * summary[0]['test_error'].mean, color=colours[summary[0]['arm']], lw=0.8)
    axes.set_xlabel('test error, %')
    _frame_rows(axes, any(arm['seeds'] for arm in summary))


def _draw_differences(
    axes: Axes, experiment: Experiment, summary: Summary, colours: Colours
) -> None:
    baseline = finished(experiment, summary[0]['arm'])
    if any(arm['difference'].n for arm in summary[1:]):
        axes.axvline(0, color='black', lw=0.8)
    _draw_remark(axes, 0, 'baseline')
    for y, arm in enumerate(summary[1:], start=1):
        if not arm['difference'].n:
            same = arm['data'] == summary[0]['data']
            why = 'no seed finished in both arms' if same else 'other data than the baseline'
            _draw_remark(axes, y, why)
            continue
        apart = [
            row['test/error'] - baseline[seed]['test/error']
            for seed, row in finished(experiment, arm['arm']).items()
            if seed in baseline
        ]
        _draw_dots(axes, y, apart, colours[arm['arm']])
        _draw_interval(axes, y, arm['difference'], colours[arm['arm']])
    axes.set_xlabel('arm minus baseline, percentage points')
    _frame_rows(axes, any(arm['difference'].n for arm in summary[1:]))


def _frame_rows(axes: Axes, drawn: bool) -> None:
    """The look of the two panels with one row per arm; an empty one has no scale."""
    style.frame_rows(axes)
    if drawn:
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.grid(axis='x', alpha=0.25)
    else:
        axes.set_xticks([])


def _name_rows_above(axes: Axes, labels: Sequence[str], colours: Iterable[str], **look) -> None:
    """The label of each row above it, where a panel is too narrow to have it on the left."""
    for y, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        axes.text(
            0,
            y - 0.17,
            label,
            transform=axes.get_yaxis_transform(),
            va='bottom',
            color=colour,
            linespacing=1.05,
            bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5},
            **look,
        )
    axes.set_yticks([])


def _largest(found: Sequence[Effect]) -> list[Effect]:
    """The effects that a figure shows, the largest first."""
    return sorted(found, key=lambda one: -abs(one.effect))[:MOST]


def effects(found: Sequence[Effect], level: float, axes: Axes | None = None) -> Figure:
    """Effects of a factorial on the test error, sorted by their size: what matters is at the top.

    Of very many the largest. axes: None draws a panel that is legible on a phone.
    """
    ordered = _largest(found)
    narrow = axes is None
    names = [style.wrap(one.name, 52 if narrow else _NAME_WIDTH) for one in ordered]
    # no colour of an arm: the page has the arms beside it
    colours = ['#000000' if len(one.fields) == 1 else GREY for one in ordered]
    lines = max(name.count('\n') + 1 for name in names)
    if axes is None:
        axes = style.canvas(PANEL_WIDTH, 1 + (0.2 + 0.16 * lines) * len(ordered)).subplots()
    axes.axvline(0, color='black', lw=0.8)
    for y, (one, colour) in enumerate(zip(ordered, colours, strict=True)):
        axes.errorbar(
            100 * one.effect,
            y,
            xerr=[[100 * (one.effect - one.low)], [100 * (one.high - one.effect)]],
            fmt='o' if len(one.fields) == 1 else 's',
            mfc=colour if one.p < 1 - level else 'white',
            color=colour,
            ms=5,
            capsize=2,
            lw=1.8,
        )
        axes.plot([100 * end for end in one.corrected], [y, y], color=colour, lw=0.6)
    axes.set_ylim(len(ordered) - 0.6, -0.75 - 0.05 * lines if narrow else -0.6)
    _frame_rows(axes, drawn=True)
    if narrow:
        _name_rows_above(axes, names, colours, fontsize=8)
    else:
        axes.set_yticks(range(len(ordered)), names, fontsize=8)
    what = f'effect on the test error, percentage points, {percent(level)} intervals'
    marks = "circles: main effects, squares: interactions; thin lines and filled: Holm's correction"
    words = [what, marks]
    if len(found) > len(ordered):
        words.append(f'the {len(ordered)} largest of {len(found):,} effects')
    axes.set_xlabel(
        '\n'.join(style.wrap(text, 60 if narrow else 120) for text in words), fontsize=8.5
    )
    figure = axes.get_figure(root=True)
    assert figure  # of the axes above, or of those given
    return figure


def arm_words(arm: dict[str, Any]) -> str:
    """The label of an arm with its number of seeds and what it lacks, for a legend."""
    n = f'n = {arm["seeds"]}'
    if arm['missing']:
        n += f' of {arm["seeds_expected"]}; {arm["missing"]}'
    return f'{arm["arm"]} ({n})'


def small_print(experiment: Experiment, summary: Summary) -> str:
    """What the marks of the figure mean, and what its intervals leave out."""
    texts = []
    if any(arm['seeds'] > 1 for arm in summary):
        several = ', each for itself, not corrected for several comparisons'
        texts.append(
            f'Bands (validation) and intervals: {percent(summary[0]["level"])} Student t over '
            f'seeds{several if len(summary) > 1 else ""}; they do not cover the sampling of test '
            'images. Faint dots: single seeds.'
        )
    if len(summary) > 1 and summary[0]['seeds']:
        texts.append('Vertical lines: the baseline.')
    if of := experiment.plan.get('arms_in_all'):
        texts.append(
            f'Of {of:,} arms, the baseline and the {len(summary) - 1} with the lowest test error.'
        )
    return ' '.join(texts).replace(' %', '\N{NO-BREAK SPACE}%')


def _draw_legend(
    figure: Figure, experiment: Experiment, summary: Summary, colours: Colours
) -> None:
    handles = [Line2D([], [], color=colours[arm['arm']], lw=3) for arm in summary]
    labels = [style.wrap(arm_words(arm), 110) for arm in summary]
    for kind in kinds_of(experiment):
        handles.append(Line2D([], [], color=GREY, **KINDS[kind][2]))
        labels.append(KINDS[kind][1])
    longest = max(len(line) for label in labels for line in label.split('\n'))
    columns = max(1, min(3, 145 // (longest + 6)))  # about 145 letters fit in a line
    figure.legend(
        handles, labels, loc='outside lower center', frameon=False, fontsize=9.5, ncols=columns
    )


def _laid_out(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # laid out again at each drawing, it would creep
    return figure


def _headed(experiment: Experiment, words: Sequence[str], body: float) -> Figure:
    """A canvas with title and note above `body` inches for the panels."""
    title = style.wrap(experiment.plan['title'], 100)
    data = experiment.plan['dataset_note'].strip().rstrip('.')
    parts = [f'{data}.', *words, *experiment.plan.get('remarks', [])]
    note = style.wrap(' '.join(filter(None, parts)), 160)
    head = 0.3 + 0.24 * (title.count('\n') + 1) + 0.18 * (note.count('\n') + 1)  # inches
    height = head + body
    figure = style.canvas(WIDTH, height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # as style.canvas sets it
    engine.set(rect=(0, 0, 1, 1 - head / height), w_pad=0.08)
    figure.text(0.012, 1 - 0.12 / height, title, fontsize=13, va='top', linespacing=1.2)
    below = 1 - (0.2 + 0.24 * (title.count('\n') + 1)) / height
    figure.text(0.012, below, note, fontsize=9, va='top', color=GREY)
    return figure


def _effects_note(summary: Summary) -> str:
    """What an effect is, and what its interval covers."""
    seeds, found = sum(arm['seeds'] for arm in summary), summary[0]['effects']
    units = ' over the means of arms' if found and found[0].units == 'arms' else ''
    return (
        f'Least squares{units}, the seed as a block: {seeds} runs of {len(summary)} arms. A main '
        'effect is a mean over all settings of the other fields, an interaction how much it '
        'depends on one of them. '
        'Thick intervals are uncorrected, thin ones corrected for the number of effects (Holm). '
        'They do not cover the sampling of test images.'
    )


def render(experiment: Experiment) -> Figure:
    """The figure of an experiment, however incomplete.

    Of many arms the best (`drawn`), or the effects of a full factorial.
    """
    summary = summarise(experiment)
    if (found := summary[0]['effects']) and len(summary) > MANY:
        names = [style.wrap(one.name, _NAME_WIDTH) for one in _largest(found)]
        row = 0.1 + 0.14 * max(name.count('\n') + 1 for name in names)
        figure = _headed(experiment, [_effects_note(summary)], 1.1 + row * len(names))
        effects(found, summary[0]['level'], figure.subplots())
        return _laid_out(figure)
    experiment, summary = drawn(experiment, summary)
    colours = colours_of(experiment)
    labels = [style.wrap(arm['arm'], 18) for arm in summary]
    row = max(0.6, 0.25 + 0.17 * max(label.count('\n') + 1 for label in labels))
    words = [small_print(experiment, summary)]
    figure = _headed(experiment, words, max(4.2, 1.8 + row * len(summary)))

    # One arm has nothing to be compared with: no third panel
    widths = (1.35, 1, 1) if len(summary) > 1 else (1.35, 1)
    left, middle, *others = figure.subplots(1, len(widths), width_ratios=widths)
    left.set_title('Learning curves')
    _draw_curves(left, experiment, colours)
    middle.set_title('Test error')
    _draw_test_error(middle, experiment, summary, colours)
    for right in others:
        right.sharey(middle)
        right.set_title('Paired difference')
        _draw_differences(right, experiment, summary, colours)
        right.tick_params(labelleft=False)
    middle.set_yticks(range(len(summary)), labels)
    for label, colour in zip(middle.get_yticklabels(), colours.values(), strict=True):
        label.set_color(colour)
    pad = 0.55 if len(summary) > 1 else 0.9  # around one arm alone
    middle.set_ylim(len(summary) - 1 + pad, -pad)
    _draw_legend(figure, experiment, summary, colours)
    return _laid_out(figure)


def panels(experiment: Experiment) -> list[tuple[str, Figure]]:
    """[(heading, figure)]: the same panels one by one, legible on a phone and side by side.

    Without legend and heading, which a page has as text, and without a panel that would be empty.
    """
    experiment, summary = drawn(experiment, summarise(experiment))
    colours = colours_of(experiment)
    found = []
    if kinds_of(experiment):
        figure = style.canvas(PANEL_WIDTH, min(5, 3.2 + 0.15 * len(summary)))
        _draw_curves(figure.subplots(), experiment, colours)
        found.append(('Learning curves', _laid_out(figure)))
    labels = [style.wrap(arm['arm'], 42) for arm in summary]
    lines = max(label.count('\n') + 1 for label in labels)
    row = 0.62 + 0.17 * lines  # inches
    drawers = {'Test error': _draw_test_error, 'Paired difference': _draw_differences}
    for heading, draw in list(drawers.items())[: len(summary)]:
        figure = style.canvas(PANEL_WIDTH, max(1.8, 0.6 + row * len(summary)))
        axes = figure.subplots()
        draw(axes, experiment, summary, colours)
        _name_rows_above(axes, labels, colours.values())
        axes.set_ylim(len(summary) - 0.45, -0.25 - 0.19 * lines / row)
        found.append((heading, _laid_out(figure)))
    if summary[0]['effects']:
        figure = effects(summary[0]['effects'], summary[0]['level'])
        place = 0 if 'arms_in_all' in experiment.plan else len(found)  # of many arms they say most
        found.insert(place, ('Effects', _laid_out(figure)))
    return found


def write(experiment: Experiment, stem: str | os.PathLike) -> tuple[Path, Path]:
    """Writes stem.png and stem.svg and returns their paths. Raises OSError."""
    figure = render(experiment)
    return style.save(figure, f'{stem}.png'), style.save(figure, f'{stem}.svg')


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = Parser(
        prog='python -m experiments.figures',
        description='Draws the figure of an experiment from its stored rows, or one of several.',
    )
    compare.add_arguments(parser)
    parser.add_argument(
        '--out',
        metavar='STEM',
        help='write STEM.png and STEM.svg (default: WORKDIR/figure; of several work directories '
        f'{compare.FOLDER}/figure)',
    )
    args = parser.parse_args(argv)
    stem = compare.out(args) / 'figure' if args.out is None else Path(_stem(args.out))
    experiment = compare.read(args.workdir)
    for ending in ('.png', '.svg'):
        check_writable(f'{stem}{ending}')
    print(*write(experiment, stem), sep='\n')
    return 0


def _stem(out: str) -> str:
    """--out without an ending. Raises UserError if nothing is left of it."""
    stem = re.sub(r'\.(png|svg)$', '', out)
    if not stem or stem.endswith(os.sep):
        raise UserError(f'--out {out!r} names no file: give a name such as --out runs/figure.')
    return stem
