"""Figures of the claims that are computed, each from the values that its verdict is computed of.

Nothing is trained and nothing stored is read. Where weights are needed they are drawn at random;
the captions say so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import cnns
from cnns.lenet import C3_TABLE
from experiments import style
from experiments.claims.computed import alexnet, googlenet, gradients, lenet, resnet, vgg
from experiments.claims.computed.reading import macs, parameters, rows
from experiments.data.crops import corners
from experiments.style import GREY

DIVERGING, SEQUENTIAL = 'PuOr', 'cividis'  # colour-blind safe


def _by_row(axes: Axes, names: Sequence[str]) -> None:
    """A named row for each bar, from the top to the bottom."""
    axes.set_yticks(range(len(names)), [style.wrap(name, 32) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    style.frame_rows(axes)


def _same(axes: Axes, *values: Any) -> None:
    """The line on which both axes have the same value."""
    ends = [min(map(np.min, values)), max(map(np.max, values))]
    axes.plot(ends, ends, color=GREY, lw=0.8, zorder=0)


def _layers(net: str, marked: Sequence[str] = (), paper: dict[str, int] | None = None) -> Figure:
    """Bars of the parameters of each layer, named with its map; those of `marked` in colour.

    paper: the parameters that the paper has.
    """
    table = rows(net)
    figure = style.canvas(5, 0.9 + 0.3 * len(table))
    axes = figure.subplots()
    for y, (layer, row) in enumerate(table.items()):
        colour = style.colour(0) if not marked or layer in marked else style.COLOURS[11]
        count = row['parameters']
        axes.barh(y, count, color=colour, height=0.6)
        axes.text(max(count, 1) * (1.9 if paper else 1.3), y, f'{count:,}', va='center', fontsize=8)
    if paper:
        known = [(count, y) for y, count in enumerate(paper.values()) if count]
        axes.plot(*zip(*known), 'D', color=GREY, mfc='none', ms=8, label='the paper')
    names = [f'{layer} {"x".join(map(str, row["output"]))}' for layer, row in table.items()]
    _by_row(axes, names)
    axes.set_xscale('log')
    axes.set_xlim(1, 50 * max(row['parameters'] for row in table.values()))
    style.finish(axes, 'parameters', loc='lower right')
    return figure


# --- LeNet-5 --------------------------------------------------------------------------------------


def l3() -> Figure:
    figure = style.canvas(5, 3.2)
    axes = figure.subplots()
    x = np.linspace(-4, 4, 201)
    for place, activation in enumerate(('scaled_tanh', 'tanh')):
        y = cnns.layers.activate(jnp.asarray(x), activation)
        axes.plot(x, y, '-' if place == 0 else '--', color=style.colour(place), label=activation)
    style.finish(axes, 'sum of the inputs of a unit', 'state of the unit', loc='upper left')
    return figure


def l5() -> Figure:
    table = rows('lenet5_1998')
    figure = style.canvas(5, 2.8)
    axes = figure.subplots()
    names: list[str] = []
    for place, layer in enumerate(('S2', 'S4')):
        row, maps = table[layer], table[layer]['output'][-1]
        counts = {
            'trainable coefficient and bias': row['parameters'],
            'a 2x2 filter with its bias on each map': 5 * maps,
            'plain average': 0,
        }
        for kind, count in counts.items():
            axes.barh(len(names), count, color=style.colour(place), height=0.6)
            axes.text(count + 1, len(names), f'{count}', va='center', fontsize=8)
            names.append(f'{layer}: {kind}')
    _by_row(axes, names)
    axes.set_xlim(0, 92)
    style.finish(axes, 'parameters')
    return figure


def l6() -> Figure:
    figure = style.canvas(5, 2.6)
    axes = figure.subplots()
    links = np.zeros((6, len(C3_TABLE)))
    for column, read in enumerate(C3_TABLE):
        links[list(read), column] = 1
    axes.imshow(links, cmap='Greys', vmax=1.6)
    axes.set_xticks(range(links.shape[1]))
    axes.set_yticks(range(links.shape[0]))
    axes.set_xticks(np.arange(-0.5, links.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, links.shape[0]), minor=True)
    axes.grid(which='minor', color=GREY, lw=0.5)
    axes.tick_params(which='minor', length=0)
    axes.tick_params(labelsize=8)
    axes.set_xlabel('map of C3')
    axes.set_ylabel('map of S2')
    return figure


def l7() -> Figure:
    image = lenet.line_of_digits()
    scores = np.asarray(lenet.scores_of(image))[0]  # [places, classes]
    figure = style.canvas(5, 4.2)
    above, below = figure.subplots(2, height_ratios=(1, 1.4), sharex=True)
    above.imshow(image, cmap='gray_r', aspect='auto', extent=(0, image.shape[1], 32, 0))
    above.add_patch(Rectangle((0.5, 0.5), 31, 31, fill=False, color=style.colour(1), lw=2))
    above.set_ylabel('pixel')
    half = lenet.STEP / 2
    ends = (16 - half, image.shape[1] - 16 + half, 9.5, -0.5)  # a place stands at its middle
    shown = below.imshow(scores.T, cmap=SEQUENTIAL, aspect='auto', extent=ends)
    below.set_yticks(range(scores.shape[1]))
    below.tick_params(labelsize=8)
    below.set_xlabel('middle of the 32 pixels that the net sees, pixel')
    below.set_ylabel('class')
    below.set_xlim(0, image.shape[1])
    figure.colorbar(shown, ax=(above, below), label='score', shrink=0.6)
    return figure


# --- AlexNet --------------------------------------------------------------------------------------


def a0() -> Figure:
    known = alexnet.ILSVRC_2012 | {'one AlexNet (validation set)': alexnet.ONE_NET}
    figure = style.canvas(5, 2.6)
    axes = figure.subplots()
    for y, (entry, error) in enumerate(known.items()):
        colour = style.colour(0) if 'AlexNet' in entry else GREY
        axes.barh(y, error, color=colour, height=0.6, alpha=0.5 if 'validation' in entry else 1)
        axes.text(error + 0.4, y, f'{error:g}', va='center', fontsize=8)
    _by_row(axes, list(known))
    axes.set_xlim(0, 1.15 * max(known.values()))
    style.finish(axes, 'top-5 error, %')
    return figure


def a2b() -> Figure:
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    found = alexnet.masked()
    for place, (layer, (once, mean)) in enumerate(found.items()):
        label = f'{layer}, {len(once)} {("units", "scores")[place]}'
        look: dict[str, Any] = dict(color=style.colour(place), ms=(4, 7)[place], alpha=0.7, mew=0)
        axes.plot(once, mean, 'os'[place], label=label, **look)
    _same(axes, *(values for pair in found.values() for values in pair))
    style.finish(axes, 'in inference, all units', f'mean over {alexnet.MASKS} dropout masks')
    return figure


def a3a() -> Figure:
    figure = style.canvas(5, 3.6)
    axes = figure.subplots()
    names: list[str] = []
    for place, net in enumerate(alexnet.POOLED):
        for before, after in alexnet.pools(net):
            y, colour = len(names), style.colour(place)
            ends = [row['output'][0] for row in (before, after)]
            arrow = dict(arrowstyle='->', lw=1.5, shrinkA=0, shrinkB=0, color=colour)
            axes.annotate('', (ends[1], y), (ends[0], y), arrowprops=arrow)
            axes.plot(ends, [y, y], 'o', ms=3, color=colour)
            for end, side in zip(ends, ('left', 'right')):
                gap = 1.08 if side == 'left' else 1 / 1.08
                axes.text(end * gap, y, str(end), ha=side, va='center', fontsize=8)
            names.append(f'{net} {after["layer"]}')
    _by_row(axes, names)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set_xlim(3, 400)
    style.finish(axes, 'side of the map before and behind the pool, pixels')
    return figure


def a3c() -> Figure:
    figure = style.canvas(5, 3.4)
    for axes, overlap in zip(figure.subplots(2, sharex=True), (False, True)):
        read = alexnet.windows(overlap)[:, 0].any(-1)  # [windows, pixels] along one side
        for y, line in enumerate(read):
            pixels = np.flatnonzero(line)
            axes.barh(y, len(pixels), 0.7, pixels[0], color=style.colour(y), alpha=0.7)
        counts = read.sum(0)
        for pixel, count in enumerate(counts):
            colour = style.colour(1) if count > 1 else GREY
            axes.text(pixel + 0.5, -0.8, str(count), ha='center', fontsize=8, color=colour)
        first, second = (np.flatnonzero(line) for line in read[:2])
        z, s, net = len(first), second[0] - first[0], 'AlexNet' if overlap else 'LeNet-5'
        axes.set_title(f'z = {z}, s = {s}, as in {net}', fontsize=9)
        axes.set_xticks(range(len(counts) + 1))
        axes.set_yticks(range(len(read)), [str(number + 1) for number in range(len(read))])
        axes.set_ylim(len(read) - 0.4, -1.3)
        axes.set_ylabel('window')
        axes.grid(axis='x', alpha=0.4)
    axes.set_xlabel('pixel; above: how many windows read it')
    return figure


def a4a() -> Figure:
    jacobian = alexnet.lrn_jacobian()
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    off = np.abs(jacobian - np.diag(np.diag(jacobian))).max()  # the diagonal is ten times as large
    values = np.ma.masked_equal(jacobian, 0)
    shown = axes.imshow(values, DIVERGING, aspect='auto', vmin=-off, vmax=off)
    axes.set_facecolor('#dddddd')
    figure.colorbar(shown, ax=axes, label='derivative of i by j', extend='max')
    axes.set_xlabel('channel j, whose activation rises')
    axes.set_ylabel('channel i of the response')
    return figure


def a5b() -> Figure:
    figure = style.canvas(5, 4.4)
    axes = figure.subplots()
    image, size = 256, 224
    axes.add_patch(Rectangle((0, 0), image, image, fill=False, lw=2))
    for place, (top, left, high, wide) in enumerate(corners((image, image), (size, size))):
        names = ('top left', 'top right', 'bottom left', 'bottom right', 'middle')
        look: dict[str, Any] = dict(
            fill=False, lw=1.5, color=style.colour(place), ls='-' if place < 4 else '--'
        )
        axes.add_patch(Rectangle((left, top), wide, high, label=names[place], **look))
    count = alexnet.places(size)
    words = f'{count} x {count} corners of random crops'
    axes.add_patch(Rectangle((0, 0), count - 1, count - 1, color=GREY, alpha=0.35, label=words))
    axes.set_xlim(-6, image + 6)
    axes.set_ylim(image + 6, -6)
    axes.set_aspect('equal')
    style.finish(axes, 'pixel', 'pixel', loc='center')
    return figure


def a6() -> Figure:
    nets = {'two groups': 'alexnet', 'one group': 'alexnet_ungrouped'}
    tables = {label: rows(net) for label, net in nets.items()}
    layers = [layer for layer, row in rows('alexnet').items() if row['macs']]
    figure = style.canvas(5, 3.6)
    axes = figure.subplots()
    for place, (label, table) in enumerate(tables.items()):
        values = [table[layer]['macs'] / 1e6 for layer in layers]
        words = f'{label}, {macs(nets[label]) / 1e6:,.0f} million in all'
        y = np.arange(len(layers)) + 0.4 * place - 0.2
        axes.barh(y, values, 0.38, color=style.colour(place), label=words)
    _by_row(axes, layers)
    style.finish(axes, 'multiply-adds of one image, millions', loc='lower right')
    return figure


def a7() -> Figure:
    sides = alexnet.conv1_sides()
    figure = style.canvas(5, 2.2)
    axes = figure.subplots()
    axes.axvline(alexnet.MAPS['conv1'][0], color=GREY, lw=1.2, ls=(0, (1, 1)), label='the paper')
    for y, side in enumerate(sides.values()):
        axes.plot([side], [y], 'o', ms=8, color=style.colour(0))
    _by_row(axes, list(sides))
    axes.set_xlim(min(sides.values()) - 1, max(sides.values()) + 1)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    style.finish(axes, "side of conv1's map, pixels", loc='lower right')
    return figure


# --- VGG ------------------------------------------------------------------------------------------


def v1a() -> Figure:
    figure = style.canvas(6, 3.2)
    stacks = {'five 3x3': vgg.support(5), 'one 11x11': vgg.support(1, 11)}
    panels = figure.subplots(1, 2)
    for axes, (name, gradient) in zip(panels, stacks.items()):
        share = np.ma.masked_equal(gradient / gradient.max(), 0)
        axes.imshow(share, cmap=SEQUENTIAL, norm='log', vmin=1e-4, vmax=1)
        axes.set_facecolor('#dddddd')
        used = np.flatnonzero(gradient.any(0))
        axes.set_title(f'{name}: {len(used)} pixels', fontsize=9)
        axes.set_xlabel('pixel')
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    panels[0].set_ylabel('pixel')
    label = 'share of the largest gradient'
    figure.colorbar(panels[0].images[0], ax=panels, label=label, shrink=0.8)
    return figure


def v1b() -> Figure:
    one, first, rest = vgg.break_even()
    depth = np.array([0.0, 256.0])
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    bound, notes = (one - first) / rest * depth, float(vgg.NOTES_RATIO) * depth
    axes.fill_between(depth, 0, bound, color=style.colour(2), alpha=0.25, lw=0)
    words = f'N = {(one - first)}/{rest} D = {(one - first) / rest:.2f} D'
    axes.plot(depth, bound, color=style.colour(2), lw=1.5, label=words)
    axes.plot(
        depth,
        notes,
        '--',
        color=style.colour(1),
        lw=1.5,
        label=f'N = {float(vgg.NOTES_RATIO)} D, the notes',
    )
    (*_, inputs), conv1 = cnns.NETS['alexnet'].input, rows('alexnet')['conv1']['output'][-1]
    words = f"AlexNet's conv1: D {inputs}, N {conv1}"
    axes.plot([inputs], [conv1], 'D', color='black', ms=6, label=words)
    axes.text(150, 150, 'five 3x3 have\nfewer weights', fontsize=9)
    axes.set_xlim(-4, depth[-1])
    axes.set_ylim(0, notes[-1])
    style.finish(axes, 'channels in, D', 'channels out, N', loc='upper left')
    return figure


def v3() -> Figure:
    figure = style.canvas(5, 4.4)
    axes = figure.subplots()
    depth = gradients.DEPTHS[-1]
    for place, activation in enumerate(gradients.ACTIVATIONS):
        for ls, initialiser in zip((':', '--', '-'), gradients.INITIALISERS):
            norms = np.array(gradients.signal(depth, activation, initialiser))
            norms[norms < 1e-30] = np.nan  # well above the least float32
            look: dict[str, Any] = dict(color=style.colour(place), ls=ls, lw=1.5)
            axes.plot(range(1, depth + 1), norms, label=f'{activation}, {initialiser}', **look)
    axes.set_yscale('log')
    style.finish(axes, 'layer, from the first to the last', 'norm of the gradient', legend=False)
    figure.legend(loc='outside lower center', fontsize=8, frameon=False, ncols=3)
    return figure


def v4() -> Figure:
    dense, sliding, larger = vgg.both_heads()
    figure = style.canvas(6.4, 3.2)
    left, right = figure.subplots(1, 2)
    left.plot(dense, sliding, 'o', color=style.colour(0), ms=3, alpha=0.6, mew=0, rasterized=True)
    _same(left, dense)
    left.set_title(f'224x224: {len(dense):,} classes', fontsize=9)
    style.finish(left, 'score, fully connected head', 'score, convolutional head')
    best = np.argmax(larger.mean((0, 1)))
    shown = right.imshow(larger[:, :, best], cmap=SEQUENTIAL)
    right.set_title(f'384x384: {larger.shape[0]}x{larger.shape[1]} scores', fontsize=9)
    right.set_xlabel('place, 32 pixels apart')
    right.set_ylabel('place')
    figure.colorbar(shown, ax=right, label='score of one class')
    return figure


# --- GoogLeNet ------------------------------------------------------------------------------------


def g1() -> Figure:
    figure = style.canvas(5, 3.8)
    axes = figure.subplots()
    for y, block in enumerate(googlenet.OUTPUTS):
        counts = googlenet.by_branch(googlenet.block_rows(block), lambda row: row['parameters'])
        left = 0.0
        for place, (branch, count) in enumerate(counts.items()):
            colour, label = style.colour(place), '_' if y else f'branch {branch}'
            axes.barh(y, count / 1e3, 0.7, left, color=colour, label=label)
            left += count / 1e3
    _by_row(axes, list(googlenet.OUTPUTS))
    style.finish(axes, 'parameters, thousands', 'block', loc='upper right')
    return figure


def g2() -> Figure:
    reduced, naive = (
        googlenet.by_branch(googlenet.block_rows('3a', **fields), googlenet.weights)
        for fields in ({}, {'block': 'naive'})
    )
    figure = style.canvas(5, 2.8)
    axes = figure.subplots()
    cases = {'with 1x1 reduction': reduced, 'without': naive}
    for place, (label, counts) in enumerate(cases.items()):
        y = np.arange(len(counts)) + 0.4 * place - 0.2
        values = [count / 1e3 for count in counts.values()]
        words = f'{label}, {sum(values):,.0f} thousand in all'
        axes.barh(y, values, 0.38, color=style.colour(place), label=words)
        for at, value in zip(y, values):
            axes.text(value + 2, at, f'{value:,.1f}', va='center', fontsize=8)
    _by_row(axes, list(reduced))
    axes.margins(x=0.12)
    style.finish(axes, 'weights of 3a, thousands', 'branch', loc='lower right')
    return figure


def g3() -> Figure:
    nets = {'LeNet-5': 'lenet5', 'AlexNet': 'alexnet', 'VGG-16': 'vgg16'}
    nets |= {'GoogLeNet': 'googlenet', 'ResNet-50': 'resnet50'}
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    for place, (label, net) in enumerate(nets.items()):
        count, error = parameters(net) / 1e6, googlenet.TOP5.get(net)
        colour = style.colour(place)
        if error is None:
            axes.axvline(count, ls=':', color=colour)
            axes.text(count * 1.15, 1, f'{label}: digits alone', fontsize=8, color=colour)
        else:
            axes.plot([count], [error], 'o', ms=8, color=colour)
            words = f'{label}\n{count:,.1f} M'
            axes.text(count, error + 0.5, words, ha='center', fontsize=8, color=colour)
    axes.set_xscale('log')
    axes.set_xlim(0.03, 600)
    axes.set_ylim(0, 1.25 * max(googlenet.TOP5.values()))
    axes.xaxis.set_major_formatter('{x:g}')
    style.finish(axes, 'parameters, millions', 'top-5 error of one net, % (ILSVRC-2012)')
    return figure


def g5() -> Figure:
    figure = style.canvas(5, 4)
    axes = figure.subplots()
    found = googlenet.joined()
    for place, (name, (whole, apart)) in enumerate(found.items()):
        look: dict[str, Any] = dict(color=style.colour(place), ms=(4, 5)[place], alpha=0.7, mew=0)
        axes.plot(np.ravel(whole), np.ravel(apart), 'os'[place], label=name, **look)
    _same(axes, *(values for pair in found.values() for values in pair))
    style.finish(axes, 'f of the combined inputs', 'f of each input, combined')
    return figure


# --- ResNet ---------------------------------------------------------------------------------------


def r3() -> Figure:
    figure = style.canvas(5, 4.2)
    axes = figure.subplots()
    for place, net in enumerate(gradients.NETS):
        for norm, ls in zip(gradients.NORMS, ('-', '--')):
            norms = gradients.kernel_norms(net, norm)
            words = f'{net}, {"batch norm" if norm == "batch" else "no norm"}'
            look: dict[str, Any] = dict(color=style.colour(place), ls=ls, lw=1.5)
            axes.plot(range(1, len(norms) + 1), norms, label=words, **look)
    axes.set_yscale('log')
    style.finish(
        axes, 'convolution, from the first to the last', 'norm of the gradient', legend=False
    )
    figure.legend(loc='outside lower center', fontsize=8, frameon=False, ncols=2)
    return figure


def r6() -> Figure:
    figure = style.canvas(5, 3.4)
    above, below = figure.subplots(2, height_ratios=(3, 2))
    nets = {'ResNet-34': 'resnet34', 'ResNet-50': 'resnet50'}
    cases = (
        (above, {name: resnet.weights(own) / 1e3 for name, own in resnet.blocks().items()}),
        (below, {label: macs(net) / 1e9 for label, net in nets.items()}),
    )
    words = ('weights of a block, thousands', 'multiply-adds of one image, billions')
    for (axes, values), label in zip(cases, words):
        for y, (name, value) in enumerate(values.items()):
            deep = name in ('bottleneck on 256', 'ResNet-50')
            axes.barh(y, value, 0.6, color=style.colour(0) if deep else GREY)
            axes.text(value, y, f' {value:,.1f}', va='center', fontsize=8)
        _by_row(axes, list(values))
        axes.margins(x=0.15)
        style.finish(axes, label)
    return figure


_RANDOM = 'Random weights.'
DRAWINGS: dict[str, tuple[str, Callable[[], Figure]]] = {
    'L2': (
        'Parameters of each layer, with its maps, and those of LeCun et al. 1998.',
        lambda: _layers(
            'lenet5_1998', paper={k: count for k, (_, count, _) in lenet.PAPER.items()}
        ),
    ),
    'L3': ('The activation of the net of 1998, and plain tanh.', l3),
    'L4': ('Parameters of each layer, with its maps: C1.', lambda: _layers('lenet5_1998', ['C1'])),
    'L5': ('Parameters of S2 and S4: as in LeCun et al. 1998, as a filter, as an average.', l5),
    'L6': ('The maps of S2 that each map of C3 reads, as Table I of LeCun et al. 1998.', l6),
    'L7': (
        'LeNet-5 slides over an image of 32x96: the scores of the ten classes at each place, the '
        f'first one framed. {_RANDOM}',
        l7,
    ),
    'L8': ('Parameters of each layer, with its maps: F6.', lambda: _layers('lenet5_1998', ['F6'])),
    'A0': ('Top-5 errors of ILSVRC 2012, as cited in Table 2 of Krizhevsky et al. 2012.', a0),
    'A2b': (
        'One image: inference against the mean over dropout masks, behind one dropout (fc6) and at '
        f'the end (fc8). {_RANDOM} Grey line: both are equal.',
        a2b,
    ),
    'A3a': ('Maps before and behind every pool; the arrow points at the smaller map.', a3a),
    'A3c': ('The pixels that each window of our pools reads, along one side of a map.', a3c),
    'A4a': (
        'Jacobian of LRN. Orange: the response falls; purple: it rises; grey: nothing changes. '
        'The diagonal is above the scale.',
        a4a,
    ),
    'A5b': (
        'Crops of 224 from 256: the five of testing, each mirrored too, and where those of '
        'training begin.',
        a5b,
    ),
    'A6': ('Multiply-adds of each layer of AlexNet with its two groups and without.', a6),
    'A7': ("Side of conv1's map by the side of the image and the rule of its last window.", a7),
    'A8': ('Parameters of each layer of AlexNet, with its maps.', lambda: _layers('alexnet')),
    'V1a': (
        'Gradient of one unit by the pixels, all weights 1. Grey: none. Both see the same square.',
        v1a,
    ),
    'V1b': ('Where five 3x3 convolutions have fewer weights than one 11x11.', v1b),
    'V3': (
        'Norm of the gradient at each of 30 layers of an MLP before training, on noise. Lines end '
        'at 1e-30.',
        v3,
    ),
    'V4': (
        'Both heads of a narrow VGG-11 on one image, and the scores of the convolutional head on a '
        f'larger one. {_RANDOM} Grey line: both are equal.',
        v4,
    ),
    'G1': ('Parameters of the nine blocks by branch.', g1),
    'G2': ('Weights of block 3a by branch, with its reductions and without.', g2),
    'G3': ('Our parameters, and the top-5 error of the papers: 10 crops, VGG-16 at one scale.', g3),
    'G5': (
        'Across: the operation on a sum of two inputs. Up: the sum of the operation on each. '
        'Concatenation lies on the grey line, where both are equal; ReLU does not.',
        g5,
    ),
    'R3': ('Norm of the gradient of each convolution before training, on noise.', r3),
    'R6': ('Two 3x3 convolutions against a bottleneck, and the nets that are made of them.', r6),
}
