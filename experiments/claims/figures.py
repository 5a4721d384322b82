"""Figures of claims in the form of the papers' own, from stored rows.

Axes, line styles and order are those of the paper's figure where it has one; the paper's own value
is a grey diamond. Bands and bars are intervals over seeds; the legend says how many.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import style
from experiments.claims import judge, ledger, trained
from experiments.claims.claim import Claim, Verdict
from experiments.plan.runs import training_curve
from experiments.report import figures as general
from experiments.report.intervals import interval
from experiments.report.sentences import percent
from experiments.report.summary import finished
from experiments.style import GREY
from experiments.workdir import Experiment

Rows = dict[int, dict[str, Any]]  # of one arm, by seed


def _seeds(rows: Rows) -> str:
    return f'n = {len(rows)}'


def _band(
    axes: Axes, x, values, level: float, label: str, log: bool = False, /, **look: Any
) -> None:
    """A line through the means of values [seeds, points], with its interval where there is one.

    log: those of the logarithms.
    """
    values = np.log10(values) if log else values
    found = np.array([interval(column, level)[:3] for column in np.transpose(values)])
    found = 10**found if log else found
    (line,) = axes.plot(x, found[:, 0], label=style.plain(label), **look)
    if len(values) > 1:
        axes.fill_between(x, found[:, 1], found[:, 2], color=line.get_color(), alpha=0.18, lw=0)


def _paper(axes: Axes, *at: tuple[float, float]) -> None:
    """The paper's own values at these points, as grey diamonds."""
    axes.plot(*zip(*at), 'D', color=GREY, mfc='none', ms=8, label="the paper's own")


def with_intervals(caption: str, figure: Figure, level: float) -> str:
    """The caption, and what the bands and intervals of the figure cover, if it has any."""
    bands = any(isinstance(one, PolyCollection) for ax in figure.axes for one in ax.collections)
    bars = any(isinstance(one, ErrorbarContainer) for ax in figure.axes for one in ax.containers)
    drawn = ' and '.join(['bands'] * bands + ['intervals'] * (bars and 'Intervals' not in caption))
    return (
        f'{caption} {drawn.capitalize()}: {percent(level)} over seeds, each alone.'
        if drawn
        else caption
    )


# --- curves of training --------------------------------------------------------------------------


def training_curves(
    experiment: Experiment, looks: Mapping[str, dict[str, Any]], threshold: float = 0.25
) -> Figure:
    """Training error over epochs: solid for ReLU, dashed for tanh (AlexNet, Fig. 1).

    A point is the mean over one epoch around it, off which the thresholds are read too.

    looks: {arm: keywords of plot}. The dotted horizontal line is the threshold.
    """
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    for place, (arm, look) in enumerate(looks.items()):
        rows = finished(experiment, arm)
        curves = [training_curve(row) for row in rows.values() if 'train/curve' in row]
        if not curves:
            continue
        steps = np.array([step for step, _ in curves[0]])
        row = next(iter(rows.values()))
        epochs = steps * row['epochs'] / row['steps']
        errors = [[100 * error for _, error in curve] for curve in curves]
        given = {'color': style.colour(place), 'lw': 1.5} | look
        label = f'{arm} ({_seeds(rows)})'
        _band(axes, epochs, errors, experiment.plan['level'], label, **given)
    axes.axhline(100 * threshold, color=GREY, lw=1, ls=':')
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    style.finish(axes, 'epochs', 'training error, %')
    return figure


def depth_curves(
    experiment: Experiment, families: Mapping[str, Sequence[str]], thicker: float = 0.5
) -> Figure:
    """Training error (dashed) and validation error (solid) over epochs, a panel for each family of
    nets; the deeper, the thicker (He et al. 2015, Fig. 6)."""
    figure = style.canvas(4.6 * len(families), 4)
    for axes, (family, arms) in zip(
        figure.subplots(1, len(families), sharey=True, squeeze=False)[0], families.items()
    ):
        for place, arm in enumerate(arms):
            rows = finished(experiment, arm)
            lines = [experiment.curves.get(row['point'], []) for row in rows.values()]
            lines = [own for own in lines if own]
            if not lines:
                continue
            epochs = [line['epoch'] for line in lines[0]]
            look = {'color': style.colour(place), 'lw': 1 + thicker * place}
            for key, ls, words in (('train', '--', ''), ('validation', '-', arm)):
                errors = [[100 * line[f'{key}/error'] for line in own] for own in lines]
                label = f'{words} ({_seeds(rows)})' if words else '_'
                _band(axes, epochs, errors, experiment.plan['level'], label, ls=ls, **look)
        axes.set_title(style.plain(family))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.finish(axes, 'epoch', 'error, % (dashed: training)')
    return figure


def rate_curves(experiment: Experiment, arms: Sequence[str]) -> Figure:
    """Validation error over the learning rates that were tried, a line for each arm: one point for
    each selection seed, the line through their means. A run that diverged is at the top."""
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        tried = judge.trials(experiment, arm)
        rates = sorted(tried)
        if not rates:
            continue
        look: dict[str, Any] = {'color': style.colour(place)}
        means = [float(np.mean(tried[rate])) for rate in rates]
        label = f'{arm} (n = {min(map(len, tried.values()))})'
        axes.plot(rates, means, lw=1.5, label=style.plain(label), **look)
        points = [(rate, error) for rate in rates for error in tried[rate]]
        axes.plot(*zip(*points), 'os^d'[place % 4], ms=4, **look)
    axes.set_xscale('log')
    style.finish(axes, 'learning rate', 'validation error, %')
    return figure


# --- values over a quantity ----------------------------------------------------------------------


def over(
    experiment: Experiment,
    series: Mapping[str, Sequence[tuple[float, str]]],
    metric: Callable[[dict[str, Any]], float | None],
    xlabel: str,
    ylabel: str,
    paper: Sequence[tuple[float, float]] = (),
) -> Figure:
    """A metric over a number that differs between arms: {name of a line: [(x, arm), ...]}.

    LeNet's Fig. 5 and 6: test error over the number of training images. paper: its own points.
    """
    figure = style.canvas(5, 4)
    axes, level = figure.subplots(), experiment.plan['level']
    for place, (name, points) in enumerate(series.items()):
        found, xs, counts = [], [], []
        for x, arm in points:
            values = judge.sample(experiment, arm, metric).values
            if values:
                found.append(interval(values.values(), level))
                xs.append(x)
                counts.append(len(values))
        if found:
            means = [own.mean for own in found]
            room = [own.high - own.mean if own.n > 1 else 0 for own in found]
            label = f'{name} (n = {min(counts)})'
            look: dict[str, Any] = dict(color=style.colour(place), marker='os^d'[place % 4], ms=5)
            axes.errorbar(xs, means, yerr=room, capsize=3, lw=1.5, label=style.plain(label), **look)
    if paper:
        _paper(axes, *paper)
    axes.set_ylim(bottom=0)
    style.finish(axes, xlabel, ylabel)
    return figure


def over_key(
    experiment: Experiment,
    arms: Sequence[str],
    name: str,
    xlabel: str,
    ylabel: str,
    scale=1.0,
    order: Callable[[str], Any] = lambda key: 0,
) -> Figure:
    """A measure of several values after the last epoch, a line for each arm: the values in their
    order, or that of `order`, as the error over the pixels that images are shifted by."""
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        rows = {s: row for s, row in finished(experiment, arm).items() if name in _measures(row)}
        if not rows:
            continue
        keys = sorted(_last(next(iter(rows.values())), name), key=order)
        values = [[scale * _last(row, name)[key] for key in keys] for row in rows.values()]
        look = {'color': style.colour(place), 'marker': 'os^d'[place % 4], 'ms': 4}
        label, level = f'{arm} ({_seeds(rows)})', experiment.plan['level']
        _band(axes, range(len(keys)), values, level, label, **look)
        axes.set_xticks(range(len(keys)), keys)
    axes.set_ylim(bottom=0)
    style.finish(axes, xlabel, ylabel)
    return figure


def _measures(row: dict[str, Any]) -> dict[str, Any]:
    return row.get('measures', {})


def _last(row: dict[str, Any], name: str) -> dict[str, Any]:
    epochs = row['measures'][name]
    return epochs[max(epochs, key=int)]


def by_layer(
    experiment: Experiment,
    arms: Sequence[str],
    name: str,
    ylabel: str,
    keep: Callable[[str], bool] = lambda layer: True,
    epoch: str = '',
    log: bool = False,
) -> Figure:
    """A measure of every layer, from the first to the last (He et al. 2015, Fig. 7, upper part)."""
    figure = style.canvas(6, 4)
    axes = figure.subplots()
    for place, arm in enumerate(arms):
        rows = {s: row for s, row in finished(experiment, arm).items() if name in _measures(row)}
        if not rows:
            continue
        own = [row['measures'][name].get(epoch) or _last(row, name) for row in rows.values()]
        layers = [layer for layer in trained.in_order(own[0]) if keep(layer)]
        values = np.array([[found[layer] for layer in layers] for found in own], float)
        x = np.linspace(0, 1, len(layers)) if len(arms) > 1 else np.arange(1, len(layers) + 1)
        ls = '--' if arm.startswith('plain') else '-'
        label = arm.removeprefix('30 layers, ') if log else f'{arm}, {len(layers)} layers'
        look = {'color': style.colour(place), 'ls': ls, 'lw': 1.4}
        if log:  # a norm of zero ends the line
            known = (values > 0).all(0)
            x, values = x[known], values[:, known]
        _band(axes, x, values, experiment.plan['level'], f'{label} ({_seeds(rows)})', log, **look)
    style.finish(axes, 'depth of the layer, from the first to the last', ylabel)
    if log:
        axes.set_yscale('log')
        if legend := axes.get_legend():
            legend.remove()
            figure.legend(loc='outside lower center', fontsize=8, frameon=False, ncols=2)
    else:
        axes.set_ylim(bottom=0)
    return figure


def branch_map(experiment: Experiment, arm: str) -> Figure:
    """What the absence of each branch of each block costs: points of error, mean over seeds."""
    figure = style.canvas(6, 4)
    axes = figure.subplots()
    rows = {s: row for s, row in finished(experiment, arm).items() if _measures(row)}
    costs = [trained.branch_costs(row) for row in rows.values()]
    if costs:
        blocks, branches = list(costs[0]), list(next(iter(costs[0].values())))
        every = np.array([[[c[b][k] for k in branches] for b in blocks] for c in costs])
        means = every.mean(axis=0)
        middle = (np.min(means) + np.max(means)) / 2
        image = axes.imshow(means, cmap='cividis', aspect='auto')
        for (y, x), value in np.ndenumerate(means):
            shade = 'black' if value > middle else 'white'
            axes.text(x, y, f'{value:+.1f}', ha='center', va='center', fontsize=8, color=shade)
        axes.set_xticks(range(len(branches)), [style.plain(name) for name in branches])
        axes.set_yticks(range(len(blocks)), [style.plain(name[10:]) for name in blocks])
        label = f'points of validation error without it ({_seeds(rows)})'
        figure.colorbar(image, ax=axes, label=label)
    axes.set_xlabel('branch')
    axes.set_ylabel('block')
    return figure


def colours_by_half(experiment: Experiment, arms: Sequence[str]) -> Figure:
    """Filters of conv1, those of the first column above those of the second, of the first seed of
    the first arm; then their colour, a line of dots for each seed (AlexNet, Fig. 3)."""
    figure = style.canvas(4 * (1 + len(arms)), 3.6)
    tiles, *others = figure.subplots(1, 1 + len(arms))
    tiles.set_axis_off()
    for axes, arm in zip(others, arms):
        rows = {
            seed: row
            for seed, row in finished(experiment, arm).items()
            if 'colour_index' in _measures(row)
        }
        seed, row = next(iter(rows.items()), (0, {}))
        if axes is others[0] and 'first_filters' in _measures(row):
            tiles.imshow(_tiled(np.array(_last(row, 'first_filters')['conv1'])))
            tiles.set_title(style.plain(f'{arm}, seed {seed}'))
        for place, row in enumerate(rows.values()):
            colours = np.array(_last(row, 'colour_index')['conv1'])
            for half, values in enumerate(np.array_split(colours, 2)):
                label = f'{("first", "second")[half]} half ({_seeds(rows)})' if not place else '_'
                x = np.full(len(values), place + 0.3 * half)
                axes.plot(x, values, 'os'[half], color=style.colour(half), ms=4, label=label)
        axes.set_xticks(range(len(rows)), [str(seed) for seed in rows])
        axes.set_ylim(-0.05, 1.2)  # room for the legend
        axes.set_title(style.plain(arm))
        style.finish(axes, 'seed', 'colour of a filter, 0: grey')
        if rows:
            axes.legend(fontsize=8, frameon=False, loc='upper center', ncols=2)
    return figure


def _tiled(filters: np.ndarray) -> np.ndarray:
    """Filters [n, h, w, 3] as one picture, each from its least to its largest weight, white around
    it; the second half of the filters begins a new line, lower down."""
    low, high = (end(filters, (1, 2, 3), keepdims=True) for end in (np.min, np.max))
    scaled = (filters - low) / np.maximum(high - low, 1e-12)
    framed = np.pad(scaled, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1)
    blocks, columns = [], math.ceil(len(filters) ** 0.5)
    for half in np.array_split(framed, 2):
        for first in range(0, len(half), columns):
            line = half[first : first + columns]
            empty = np.ones((columns - len(line), *line.shape[1:]))
            blocks.append(np.concatenate([*line, *empty], axis=1))
        blocks.append(np.ones_like(blocks[-1][:2]))
    return np.concatenate(blocks[:-1])


def percentiles(experiment: Experiment, arms: Sequence[str], layer: str) -> Figure:
    """Test accuracy in training, and the 15th, 50th and 85th percentile of a sigmoid's input
    (Ioffe & Szegedy 2015, Fig. 1 a to c)."""
    figure = style.canvas(4 * (1 + len(arms)), 3.6)
    first, *others = figure.subplots(1, 1 + len(arms))
    for place, arm in enumerate(arms):
        rows, level = finished(experiment, arm), experiment.plan['level']
        lines = [experiment.curves.get(row['point'], []) for row in rows.values()]
        lines = [own for own in lines if own]
        if lines:
            look = {'color': style.colour(place), 'ls': '--' if place == 0 else '-'}
            accuracy = [[100 - 100 * line['validation/error'] for line in own] for own in lines]
            steps = [line['step'] for line in lines[0]]
            _band(first, steps, accuracy, level, f'{arm} ({_seeds(rows)})', **look)
    style.finish(first, 'steps', 'validation accuracy, %')
    for axes, arm in zip(others, arms):
        for row in list(finished(experiment, arm).values())[:1]:  # a typical unit, of one run
            found = _measures(row).get('response_percentiles', {})
            epochs = sorted(found, key=int)
            values = np.array([found[epoch][layer] for epoch in epochs])
            for index, share in enumerate((15, 50, 85)):
                x, colour = [int(epoch) for epoch in epochs], style.colour(index)
                axes.plot(x, values[:, index], color=colour, lw=1.3, label=f'{share} %')
        axes.set_title(style.plain(arm))
        style.finish(axes, 'epoch', f'input of the first unit of {layer}')
    return figure


# --- errors by arm -------------------------------------------------------------------------------


def error_bars(experiment: Experiment, metrics: Mapping[str, Callable[..., Any]]) -> Figure:
    """A bar for each arm and metric in percent, {its name: what it is of a row}, from zero."""
    arms, level = experiment.plan['arms'], experiment.plan['level']
    figure = style.canvas(5, 1.1 + 0.3 * len(arms) * len(metrics))
    axes = figure.subplots()
    counts = {arm: len(finished(experiment, arm)) for arm in arms}
    high = 0.8 / len(metrics)
    for place, (name, metric) in enumerate(metrics.items()):
        for y, arm in enumerate(arms):
            found = interval(judge.sample(experiment, arm, metric).values.values(), level)
            if found.n:
                at = y + high * (place - (len(metrics) - 1) / 2)
                room = found.high - found.mean if found.n > 1 else None
                colour, label = style.colour(place), '_' if y else name
                bar: dict[str, Any] = dict(xerr=room, capsize=3, color=colour, label=label)
                axes.barh(at, found.mean, 0.9 * high, **bar)
    names = [
        style.wrap(f'{arm} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{counts[arm]})', 24)
        for arm in arms
    ]
    axes.set_yticks(range(len(arms)), names, fontsize=8)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    style.frame_rows(axes)
    axes.set_xlabel(next(iter(metrics)) + ', %' if len(metrics) == 1 else 'error, %')
    axes.grid(axis='x', alpha=0.25)
    if len(metrics) > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc='outside lower center', fontsize=8, frameon=False, ncols=2
        )
    return figure


def differences(
    experiment: Experiment, pairs: Mapping[str, tuple[str, str]], paper: float | None
) -> Figure:
    """Test error of the second arm minus that of the first, a small dot for each seed, the mean
    with its interval below: {name of a row: (first arm, second arm)}."""
    figure = style.canvas(5, 1.2 + 0.6 * len(pairs))
    axes, names = figure.subplots(), []
    for y, (name, pair) in enumerate(pairs.items()):
        one, other = (judge.sample(experiment, arm, judge.test_error).values for arm in pair)
        apart = [other[seed] - one[seed] for seed in other if seed in one]
        found, colour = interval(apart, experiment.plan['level']), style.colour(y)
        axes.plot(apart, [y - 0.15] * len(apart), 'o', color=colour, ms=5, alpha=0.5, mew=0)
        if apart:
            room = found.high - found.mean if found.n > 1 else None
            axes.errorbar(found.mean, y + 0.15, xerr=room, fmt='o', color=colour, capsize=4, lw=1.8)
        names.append(f'{name} (n = {len(apart)})')
    axes.axvline(0, color='black', lw=0.8)
    if paper is not None:
        _paper(axes, (paper, 0))
    axes.set_yticks(range(len(pairs)), [style.plain(name) for name in names], fontsize=8)
    axes.set_ylim(len(pairs) - 0.5, -0.8)
    style.frame_rows(axes)
    style.finish(axes, 'difference in test error, percentage points', '')
    return figure


def arm_errors(experiment: Experiment) -> Figure:
    """The test error of each arm: its mean with the interval, a faint dot for each seed."""
    figure = dict(general.panels(experiment))['Test error']
    (axes,) = figure.axes
    axes.set_xlim(left=max(0, axes.get_xlim()[0]))  # Student's t knows no least error
    return figure


# --- effects -------------------------------------------------------------------------------------


def effect(claim: Claim, verdict: Verdict) -> Figure:
    """One effect with its interval, the margin as a grey area, the paper's value as a mark.

    An arrow is the end of a ratio that has no bound there.
    """
    figure = style.canvas(5, 1.9)
    axes = figure.subplots()
    nothing = 1.0 if claim.unit == 'times' else 0.0
    margin = claim.margin or 0
    low, high = (1 / margin, margin) if nothing and margin else (-margin, margin)
    below = {'ymax': 0.72}  # the legend
    axes.axvspan(low, high, color='#999999', alpha=0.25, lw=0, label='counts as nothing', **below)
    axes.axvline(nothing, color='black', lw=0.8, **below)
    given = (verdict.low, verdict.effect, verdict.high)
    known = [value for value in given if value or value == 0 and not nothing]  # no ratio is 0
    ends, marks, missing = [min(known), max(known)], ['|', '|'], []
    if verdict.low not in known:
        ends[0], marks[0], missing = ends[0] / 1.25, '<', ['lower']
    if verdict.high not in known:
        ends[1], marks[1], missing = ends[1] * 1.25, '>', [*missing, 'upper']
    colour = style.colour(0)
    axes.plot(ends, [0, 0], color=colour, lw=2)
    for end, mark in zip(ends, marks):
        axes.plot([end], [0], mark, color=colour, ms=10)
    words = f'measured, no {" or ".join(missing)} bound' if missing else 'measured'
    middle, look = (verdict.effect, 'o') if verdict.effect in known else (ends[0], '')
    axes.plot([middle], [0], look, color=colour, label=f'{words}, n = {verdict.seeds}')
    if claim.value is not None and not verdict.other:
        label = "the paper's own"
        axes.plot([claim.value], [0], 'D', color=GREY, mfc='none', ms=8, label=label)
    axes.set_yticks([])
    axes.set_ylim(-1, 1)
    axes.margins(x=0.1)
    style.frame_rows(axes)
    # what is measured beside the effect, 'also ...', is not in this figure
    what = verdict.pair if verdict.other else claim.measure.partition(';')[0]
    axes.set_xlabel(style.wrap(f'{what}, {claim.unit}', 60))
    axes.legend(fontsize=8, frameon=False, loc='upper center', ncols=3)
    return figure


# --- which claim has which -----------------------------------------------------------------------


def _dropout(experiment: Experiment) -> Figure:
    looks = {'no dropout': {'ls': '-'}, 'dropout 0.5': {'ls': '--'}}
    return training_curves(experiment, looks, threshold=0.5)


def _depths(experiment: Experiment) -> Figure:
    families = {'plain': 'plain', 'residual': 'resnet'}
    depths = (20, 32, 56)
    return depth_curves(
        experiment, {key: [f'{net}-{depth}' for depth in depths] for key, net in families.items()}
    )


def _responses(experiment: Experiment, nets: Sequence[str]) -> Figure:
    words = 'response_deviations', 'standard deviation'
    return by_layer(experiment, nets, *words, lambda layer: '/conv' in layer, log=True)


_NETS = ('plain-20', 'plain-56', 'resnet-20', 'resnet-56')
_SIZES = (15_000, 30_000, 54_000)
# Test errors in per cent with 60,000 images, and with distorted ones too: LeCun 1998, Sec. III-B
_LENET_1998 = ((60_000, 0.95), (60_000, 0.8))
_FAMILIES = 'Plain and residual nets, as Fig. 6 of He et al. 2015.'
PAPERS: dict[str, tuple[str, Callable[[Experiment], Figure]]] = {
    'L1': (
        'Error of validation images shifted by so many pixels, mean over four directions.',
        lambda experiment: over_key(
            experiment,
            ('lenet5', 'mlp_300', 'mlp_300_100'),
            'shift_errors',
            'pixels that the images are shifted by',
            'validation error, %',
            100,
        ),
    ),
    'L6': (
        'How alike the maps of a layer are: mean size of the correlation of two of them.',
        lambda experiment: over_key(
            experiment,
            ('links of Table I', 'all links'),
            'channel_correlations',
            'layer',
            'correlation of two maps or units',
            order=lambda layer: int(layer[1:]),  # C1, S2, C3, ...
        ),
    ),
    'L9': (
        'Test error over the number of training images, as Fig. 6 of LeCun et al. 1998.',
        lambda experiment: over(
            experiment,
            {
                'as they are': [(n, f'{n:,} images') for n in _SIZES],
                'distorted': [(n, f'{n:,} images, distorted') for n in _SIZES],
            },
            judge.test_error,
            'training images',
            'test error, %',
            _LENET_1998,
        ),
    ),
    'A1': (
        'Training error: solid with ReLU, dashed with tanh, as Fig. 1 of Krizhevsky et al. 2012.',
        lambda experiment: training_curves(
            experiment,
            {
                'relu': {'ls': '-'},
                'tanh': {'ls': '--'},
                'scaled_tanh': {'ls': '-.'},
                'sigmoid': {'ls': ':'},
            },
        ),
    ),
    'A2a': (
        'Training error without dropout (solid) and with it, of the units that are not dropped.',
        _dropout,
    ),
    'A4b': (
        'Training error without normalisation (solid) and with it.',
        lambda experiment: training_curves(
            experiment,
            {
                'norm none': {'ls': '-'},
                'norm lrn': {'ls': '--'},
                'norm batch': {'ls': '-.'},
                'norm batch+lrn': {'ls': ':'},
            },
            threshold=0.4,
        ),
    ),
    'A4c': (
        'Validation error over the learning rates that were tried.',
        lambda experiment: rate_curves(
            experiment, [f'norm {norm}' for norm in ('none', 'lrn', 'batch', 'batch+lrn')]
        ),
    ),
    'A3d': (
        'What the lack of overlap adds to the error. Dots: seeds, which are paired.',
        lambda experiment: differences(
            experiment,
            {
                f'{kind} pooling': (
                    f'overlapping {kind} pooling',
                    f'non-overlapping {kind} pooling',
                )
                for kind in ('max', 'average')
            },
            ledger.CLAIMS['A3d'].value,
        ),
    ),
    'A5a': (
        'Training error (dashed) and validation error (solid).',
        lambda experiment: depth_curves(experiment, {'': experiment.plan['arms']}, 0),
    ),
    'A6': (
        'Filters of conv1 by column, and their colour, as Fig. 3 of Krizhevsky et al. 2012.',
        lambda experiment: colours_by_half(experiment, ('two columns', 'one column, equal width')),
    ),
    'V3': (
        'Norm of the gradient of each of 30 layers before training, without batch norm.',
        lambda experiment: by_layer(
            experiment,
            [
                f'30 layers, {activation}, {initialiser}, norm none'
                for activation in ('sigmoid', 'tanh', 'relu')
                for initialiser in ('gaussian_0.01', 'he')
            ],
            'gradient_norms',
            'norm of the gradient',
            epoch='0',
            log=True,
        ),
    ),
    'V5': (
        'Training error without dropout (solid) and with it, of the units that are not dropped.',
        _dropout,
    ),
    'V6': (
        'Test error over the number of layers, as Table 3 of Simonyan & Zisserman 2014.',
        lambda experiment: over(
            experiment,
            {
                'batch norm': [(depth, f'VGG-{depth}, batch norm') for depth in (11, 16, 19)],
                'no norm': [(depth, f'VGG-{depth}, no norm') for depth in (11, 19)],
            },
            judge.test_error,
            'layers of the column',
            'test error, %',
        ),
    ),
    'G4': (
        'What the absence of a branch costs, by block.',
        lambda experiment: branch_map(experiment, 'GoogLeNet'),
    ),
    'R1': (_FAMILIES, _depths),
    'R2': (_FAMILIES, _depths),
    'R3': (
        'Norm of the gradient of each layer before training, with batch norm and without.',
        lambda experiment: by_layer(
            experiment,
            [
                f'{net}, norm {norm}'
                for net in ('plain56', 'resnet56')
                for norm in ('batch', 'none')
            ],
            'gradient_norms',
            'norm of the gradient',
            epoch='0',
            log=True,
        ),
    ),
    'R4': (
        'Standard deviation of the responses behind batch norm, as Fig. 7 of He et al. 2015.',
        lambda experiment: _responses(experiment, _NETS),
    ),
    'R7': (
        'Training error of the first steps without a warm-up (solid) and with it.',
        lambda experiment: training_curves(
            experiment, {'no warm-up': {'ls': '-'}, 'warm-up': {'ls': '--'}}, threshold=0.8
        ),
    ),
}

_ERRORS = 'Test error of each arm. Small dots: seeds. Vertical line: the first arm.', arm_errors
ERRORS: dict[str, tuple[str, Callable[[Experiment], Figure]]] = {
    'L1': (
        'Test error of each net.',
        lambda experiment: error_bars(experiment, {'test error': judge.test_error}),
    ),
    'L9': (
        'Training error (dashed) and validation error by epoch, as Fig. 5 of LeCun et al. 1998; '
        'training errors are means during the epoch, on images as they are fed.',
        lambda experiment: depth_curves(
            experiment,
            {
                'as they are': [f'{n:,} images' for n in _SIZES],
                'distorted': [f'{n:,} images, distorted' for n in _SIZES],
            },
        ),
    ),
    'A5a': (
        'Test and training error of each arm, on undistorted images.',
        lambda experiment: error_bars(
            experiment, {'test error': judge.test_error, 'training error': judge.train_error}
        ),
    ),
} | dict.fromkeys(('L3', 'L5', 'A3b', 'A6', 'V1c', 'V2', 'G2', 'G6', 'G7', 'R5'), _ERRORS)

# --- what rows of other configs say of a claim ----------------------------------------------------

# The field that a claim is about, in experiments that are full factorials
FIELDS = {'A1': 'activation', 'A3b': 'pool', 'A3d': 'overlap', 'A4c': 'norm'}

Part = tuple[str, Figure] | None  # a caption and its figure


def _batchnorm(claim: str, experiment: Experiment) -> Part:
    caption = (
        'The net of sigmoids on MNIST: accuracy in training, and the input of a typical sigmoid, '
        'as Fig. 1 of Ioffe & Szegedy 2015.'
    )
    return caption, percentiles(experiment, ('norm none', 'norm batch'), 'fc3')


def _again(words: str) -> Callable[[str, Experiment], Part]:
    """The claim's own figure once more, of other rows, with these words behind its caption."""

    def part(claim: str, experiment: Experiment) -> Part:
        caption, draw = PAPERS[claim]
        return f'{caption} {words}', draw(experiment)

    return part


def _effects(claim: str, experiment: Experiment) -> Part:
    field, title = FIELDS[claim], experiment.plan.get('title', '')
    found = [one for one in trained.effects_of(experiment) if field in one.fields]
    if not found:
        return None
    left = len(trained.without_sigmoid(experiment)) < len(experiment.plan['arms'])
    without = ', without the sigmoid' if left else ''
    caption = f'Effects of {field}, over all settings of the other fields. {title}{without}. '
    caption += (
        'Intervals: 95 % over seeds; thick: uncorrected, thin: for the number of effects (Holm).'
    )
    return caption, general.effects(found, experiment.plan['level'])


# By config, of those in trained.PARTS that have a figure
PARTS: dict[str, Callable[[str, Experiment], Part]] = {
    trained.BATCHNORM: _batchnorm,
    trained.INITIALISATION: _again("With cuda-convnet's initialisation."),
    trained.STANDARDISED: _again('On standardised images.'),
    trained.POOLING: _effects,
    trained.FACTORIAL: _effects,
    trained.RESPONSES: lambda claim, experiment: (
        'The same, with ResNet-110 (He et al. 2015, Fig. 7).',
        _responses(experiment, (*_NETS, 'resnet-110')),
    ),
}
