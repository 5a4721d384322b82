"""The claims on VGG that are arithmetic or algebra (Simonyan & Zisserman 2014, Sec. 2.3, 3.2)."""

import functools
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cnns
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
    shape,
)

NOTES_RATIO = Fraction('3.6')  # "iff N < 3.6 D", in the notes
DEPTHS = (3, 64, 96, 256)  # channels D that a first layer may read
DENSE_SIDES = (224, 256, 288, 384, 512)  # Q of Sec. 3.2


def _stack(kernels, inputs: int, width: int, activation: str | None = None) -> list:
    """Modules of a stack of convolutions of stride 1, without biases, and their inputs' widths."""
    common: dict[str, Any] = dict(bias=False, kernel_init=jax.nn.initializers.ones, fast=False)
    return [
        (cnns.layers.Conv(width, kernel, activation, 'none', **common), width if index else inputs)
        for index, kernel in enumerate(kernels)
    ]


def weights(kernels, inputs: int, width: int) -> int:
    """Weights of a stack of convolutions that reads `inputs` channels and is `width` wide."""
    total = 0
    for module, read in _stack(kernels, inputs, width):
        image = jax.ShapeDtypeStruct((1, 16, 16, read), jnp.float32)
        start = lambda x, module=module: module.init(jax.random.key(0), x, train=False)
        leaves = jax.tree.leaves(jax.eval_shape(start, image))
        total += sum(math.prod(leaf.shape) for leaf in leaves)
    return total


def support(count: int, kernel: int = 3) -> np.ndarray:
    """Gradient of one unit above `count` convolutions, all of weight 1, by the pixels of an image
    of ones, two pixels wider on each side than it needs: [side, side]."""
    side = count * (kernel - 1) + 5

    def unit(image):
        x = image
        for module, _ in _stack([kernel] * count, 1, 1, 'relu'):
            ones = {'params': {'conv': {'kernel': jnp.ones((kernel, kernel, 1, 1))}}}
            x = apply(module, ones, x)
        return x[0, 2, 2, 0]

    return np.asarray(jax.grad(unit)(jnp.ones((1, side, side, 1))))[0, :, :, 0]


def seen(count: int, kernel: int = 3) -> int:
    """Side of the square of pixels on which one unit above `count` convolutions depends; 0 if they
    are no square."""
    gradient = support(count, kernel)
    ends = [np.flatnonzero(gradient.any(axis)) for axis in (0, 1)]
    down, across = (int(end[-1] - end[0] + 1) for end in ends)
    return down if down == across and gradient.astype(bool).sum() == down**2 else 0


def v1a() -> Verdict:
    sides = [seen(count) for count in range(1, 6)]
    first = rows('alexnet')['conv1']
    kernel, stride = first['kernel'][0], first['stride'][0]
    return settle(
        sides == [2 * count + 1 for count in range(1, 6)] and sides[-1] == kernel,
        'The gradient of one unit above 1 to 5 convolutions of 3x3 is not zero on '
        f'{", ".join(f"{side}x{side}" for side in sides)} pixels. At stride 1 only: the '
        f"{kernel}x{kernel} of AlexNet's conv1 has stride {stride}, where a stack would have maps "
        f'of {227 - 5 * 2} instead of {first["output"][0]}.',
        sides[-1],
    )


def break_even() -> tuple[int, int, int]:
    """(a, b, c): one 11x11 has a D N weights, five 3x3 have b D N + c N^2."""
    one, first = weights([11], 1, 1), weights([3], 1, 1)
    return one, first, weights([3] * 5, 1, 1) - first


def v1b() -> Verdict:
    one, first, rest = break_even()
    ratio = Fraction(one - first, rest)

    def saves(depth, width):
        return weights([3] * 5, depth, width) < weights([11], depth, width)

    def last(bound):
        """The widest N below bound * D, for each D."""
        return [math.ceil(bound * depth) - 1 for depth in DEPTHS]

    right = all(
        saves(depth, width) and not saves(depth, width + 1)
        for depth, width in zip(DEPTHS, last(ratio))
    )
    stack, layer = weights([3] * 5, 3, 96), weights([11], 3, 96)
    widest = ', '.join(f'{width} (D {depth})' for depth, width in zip(DEPTHS, last(ratio)))
    return settle(
        all(map(saves, DEPTHS, last(NOTES_RATIO))),
        f'{one} D N > {first} D N + {rest} N^2 if and only if N < {one - first}/{rest} D = '
        f'{float(ratio):.2f} D; {float(NOTES_RATIO)} comes of a wrong sign. The widest N that '
        f"saves: {widest}. For AlexNet's conv1 (D 3, N 96) the stack has {stack:,} weights instead "
        f'of {layer:,}: {stack / layer:.1f} times more.',
        ratio,
        correction=right,
    )


@functools.cache
def both_heads() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a narrow VGG-11 with a fully connected and with a convolutional head, [1000] each,
    of one image of 224x224; and those of the latter on one of 384x384, [6, 6, 1000]."""
    fields = dict(column='A', widths=(2, 2, 2, 2, 4), units=8, fast=False)
    dense, sliding = (cnns.build('vgg11', head=head, **fields) for head in cnns.vgg.HEADS[:2])
    variables, image = drawn(dense, 224), noise(1, 224, 224, 3)
    scores = [apply(net, variables, image)[0] for net in (dense, sliding)]
    larger = apply(sliding, variables, noise(1, 384, 384, 3), features='fc8')[0]
    return np.asarray(scores[0]), np.asarray(scores[1]), np.asarray(larger)


def v4() -> Verdict:
    scores, slid, _ = both_heads()
    off = largest(slid, scores)
    counts = {head: parameters('vgg16', head=head) for head in cnns.vgg.HEADS[:2]}
    maps = [
        shape('vgg11', 'fc8', side, head='convolutional', widths=(1,) * 5, units=1)[0]
        for side in DENSE_SIDES
    ]
    same = off < EXACT and len(set(counts.values())) == 1
    return settle(
        not same,
        f'With the same variables both heads give the same scores at 224 ({rounding(off)}), and '
        f'both have {counts["dense"]:,} parameters: nothing is replaced. VGG trains fully '
        'connected layers and slides them in testing alone; images of '
        f'{", ".join(map(str, DENSE_SIDES))} give maps of {", ".join(map(str, maps))}.',
        counts['convolutional'] - counts['dense'],
        correction=same and maps == [side // 32 - 6 for side in DENSE_SIDES],
    )


# --- beside trained claims ---------------------------------------------------------------------


def v1c_weights() -> str:
    pair, single = weights([3, 3], 1, 1), weights([5], 1, 1)
    return f'At equal width the pair has {pair} weights where the 5x5 has {single}.'


def additivity() -> tuple[float, float]:
    """How far two 3x3 convolutions are from one linear map, without and with the ReLU between.

    The largest |f(x + y) - f(x) - f(y)| relative to |f(x + y)|.
    """
    kernels, (x, y) = noise(2, 3, 3, 4, 4, seed=2), noise(2, 1, 9, 9, 4)

    def stacked(images, activation):
        between = cnns.layers.convolve(images, kernels[0], fast=False)
        between = cnns.layers.activate(between, activation) if activation else between
        return cnns.layers.convolve(between, kernels[1], fast=False)

    off = [largest(stacked(x, a) + stacked(y, a), stacked(x + y, a)) for a in (None, 'relu')]
    return off[0], off[1]


def v2_linear() -> str:
    linear, rectified = additivity()
    return (
        'Without the inner ReLU two 3x3 convolutions are one 5x5 (additivity '
        f'{rounding(linear)}); with it they are not (off by {100 * rectified:.0f} %).'
    )


def v6_sizes() -> str:
    names = ('vgg11', 'vgg13', 'vgg16', 'vgg19')
    sizes = ', '.join(f'{name} {parameters(name):,}' for name in names)
    return (
        f'Parameters of the nets for ImageNet: {sizes}. The paper trains them for 370,000 steps, '
        'and begins the deep ones with layers of a trained vgg11.'
    )
