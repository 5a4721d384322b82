"""The claims on LeNet-5 that are arithmetic (LeCun et al. 1998, Sec. II-B, Fig. 2, Table I)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import cnns
from cnns.lenet import C3_TABLE, CODES
from experiments.claims.claim import Verdict, settle
from experiments.claims.computed.reading import (
    EXACT,
    apply,
    drawn,
    largest,
    noise,
    parameters,
    rounding,
    rows,
)

# Fig. 2 and Sec. II-B: layer, output, trainable parameters, connections
# fmt: off
PAPER = {
    'C1': ((28, 28, 6),     156, 122_304),
    'S2': ((14, 14, 6),      12,   5_880),
    'C3': ((10, 10, 16),  1_516, 151_600),
    'S4': ((5, 5, 16),       32,   2_000),
    'C5': ((1, 1, 120),  48_120,  48_120),
    'F6': ((84,),        10_164,  10_164),
    'OUT': ((10,),            0,     840),
}
# fmt: on


def _connections(row: dict) -> int:
    """Connections of a layer as the paper counts them: with the bias of each unit."""
    units = math.prod(row['output'])
    if row['kind'].endswith('pool'):
        return units * (row['kernel'][0] * row['kernel'][1] + 1)
    if row['kind'] == 'fixed':
        return row['macs']
    return row['parameters'] * units // row['output'][-1]


def l2() -> Verdict:
    net = rows('lenet5_1998')
    found = {
        layer: (tuple(row['output']), row['parameters'], _connections(row))
        for layer, row in net.items()
    }
    differ = [layer for layer in {**PAPER, **found} if PAPER.get(layer) != found.get(layer)]
    total = sum(count for _, count, _ in found.values())
    connections = sum(count for *_, count in found.values())
    against = f'differs in {", ".join(differ)}' if differ else 'the same in every layer'
    return settle(
        list(found) == list(PAPER) and not differ,
        f'{"-".join(found)}: {total:,} parameters, {connections:,} connections. Against the '
        f"paper's table: {against}.",
        total,
    )


def l4() -> Verdict:
    row = rows('lenet5_1998')['C1']
    side, kernel, padded = row['output'][0], row['kernel'][0], any(map(any, row['padding']))
    same = cnns.layers.Conv(row['output'][-1], kernel, None, 'none', padding=kernel // 2)
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    start = lambda x: same.init_with_output(jax.random.key(0), x, train=False)[0]
    kept = jax.eval_shape(start, image).shape[1]
    return settle(
        (kernel, row['output'][-1], padded) == (5, 6, False) and side == 32 - kernel + 1,
        f'C1 makes {row["output"][-1]} maps of {side}x{side} with kernels of {kernel}x{kernel}: '
        f'32 - {kernel} + 1 = {side} without padding. Padded by {kernel // 2} they would keep '
        f'{kept}x{kept}.',
        side,
    )


def through_c5(images):
    """C1 to C5 of our LeNet-5 as modules of their own, which take any side: {layer: output}."""
    net = cnns.build('lenet5', fast=False)
    variables = drawn(net, 32)
    outputs, x = {}, images
    for layer in ('C1', 'S2', 'C3', 'S4', 'C5'):
        if layer.startswith('S'):
            x = cnns.layers.pool(x, net.pool, net.overlap, fast=False)
        else:
            *_, kernel, _, width = variables['params'][layer]['conv']['kernel'].shape
            module = cnns.layers.Conv(width, kernel, net.activation, net.norm, fast=False)
            x = apply(module, {'params': variables['params'][layer]}, x)
        outputs[layer] = x
    return net, variables, outputs


STEP = 4  # pixels of the image from one place of C5 to the next: the strides of S2 and S4


def scores_of(image):
    """Scores of the ten classes at each place that our LeNet-5 can take on an image.

    image [H, W] of at least 32x32 -> [(H - 32) / STEP + 1, (W - 32) / STEP + 1, 10].
    """
    net, variables, outputs = through_c5(image[None, :, :, None])
    x = outputs['C5']
    for layer in ('F6', 'OUT'):
        own = variables['params'][layer]
        x = x @ own['kernel'] + own['bias']
        x = cnns.layers.activate(x, net.activation) if layer == 'F6' else x
    return x[0]


def line_of_digits(digits=(3, 1, 4)):
    """An image of 32 x 32 pixels a digit: its output code, each pixel doubled, on a background of
    -0.1; ink is 1.175, as in the paper."""
    codes = np.kron(CODES[list(digits)].reshape(-1, 12, 7), np.ones((1, 2, 2)))
    fields = np.pad(codes, ((0, 0), (4, 4), (9, 9)), constant_values=-1)
    return jnp.asarray(np.where(np.hstack(list(fields)) > 0, 1.175, -0.1), jnp.float32)


def l7() -> Verdict:
    images = noise(2, 32, 32, 1)
    net, variables, outputs = through_c5(images)
    c5 = variables['params']['C5']['conv']
    dense = outputs['S4'].reshape(len(images), -1) @ c5['kernel'].reshape(-1, c5['kernel'].shape[3])
    off = largest(
        cnns.layers.activate(dense + c5['bias'], net.activation),
        apply(net, variables, images, features='C5')[:, 0, 0],
    )
    kernel, side = c5['kernel'].shape[0], outputs['S4'].shape[1]
    larger = through_c5(noise(1, 36, 36, 1))[2]['C5'].shape[1]
    return settle(
        kernel == side and outputs['C5'].shape[1] == 1 and off < EXACT and larger > 1,
        f'The kernels of C5 are {kernel}x{kernel}, its input is {side}x{side}: one place, and the '
        f'same numbers as a fully connected layer ({rounding(off)}). It is a convolution: on '
        f'images of 36x36 it gives {larger}x{larger}.',
        larger,
    )


def l8() -> Verdict:
    net = rows('lenet5_1998')
    units, inputs = net['F6']['output'][-1], net['C5']['output'][-1]
    count, (classes, pixels) = net['F6']['parameters'], CODES.shape
    return settle(
        units == 84 == pixels and count == (inputs + 1) * units and net['F6']['kind'] == 'dense',
        f'F6 has {units} units and ({inputs} + 1) x {units} = {count:,} parameters. Each unit is a '
        f'pixel of the {classes} codes of 7 x 12 = {pixels} that the output compares it with.',
        count,
    )


# --- with a trained half ------------------------------------------------------------------------


def l3() -> Verdict:
    """The activation up to F6, and the output."""
    net, modern = (cnns.axes_of(name)['activation'] for name in ('lenet5_1998', 'lenet5'))
    slope = float(jax.grad(lambda x: cnns.layers.activate(x, net))(0.0))
    distances = rows('lenet5_1998')['OUT']['kind'] == 'fixed'
    return settle(
        net == 'tanh' and not distances,
        f'The net of 1998 has {net} up to F6 (slope {slope:.3f} at 0; tanh has 1) and distances to '
        f'fixed codes at the end, the modern form {modern} and a linear output.',
        slope,
        correction=net == 'scaled_tanh' and distances,
    )


def l5() -> Verdict:
    """What S2 and S4 are made of: a filter of 2x2 on one map would have 4 weights and a bias."""
    net = rows('lenet5_1998')
    own = {layer: (net[layer]['parameters'], net[layer]['output'][-1]) for layer in ('S2', 'S4')}
    sides = [net[layer]['output'][0] for layer in ('C1', 'S2', 'C3', 'S4')]
    each = ', '.join(f'{layer} {count}' for layer, (count, _) in own.items())
    return settle(
        all(count == 5 * maps for count, maps in own.values()),
        f'Sides {sides[0]} to {sides[1]} and {sides[2]} to {sides[3]}. Trainable parameters: '
        f'{each}, two of each map. A filter of 2x2 on each map would have five; a plain average '
        'has none.',
        sum(count for count, _ in own.values()),
        correction=all(count == 2 * maps for count, maps in own.values())
        and sides[0] == 2 * sides[1]
        and sides[2] == 2 * sides[3],
    )


def l6() -> Verdict:
    """The links of C3."""
    partial, full = (rows(name)['C3']['parameters'] for name in ('lenet5_1998', 'lenet5'))
    reads = [len(column) for column in C3_TABLE]
    links = sum(reads)
    return settle(
        partial == full,
        f'C3 has {partial:,} parameters with the links of Table I, {full:,} with all. Its '
        f'{len(reads)} maps read {", ".join(map(str, sorted({*reads})))} maps of S2: {links} '
        f'links of {len(reads) * max(reads)}.',
        partial,
        correction=len(reads) == 16 and partial == links * 25 + len(reads),
    )


# --- beside a trained claim ---------------------------------------------------------------------


def l1_sizes() -> str:
    names = {'784-300-10': 'mlp_300', '784-300-100-10': 'mlp_300_100', 'LeNet-5': 'lenet5_1998'}
    counts = [f'{label} {parameters(name):,}' for label, name in names.items()]
    return f"The paper's nets, on 28x28 but for LeNet-5: {', '.join(counts)}."
