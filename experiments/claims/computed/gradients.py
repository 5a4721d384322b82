"""The claims on vanishing gradients, at initialisation: V3 (activations) and R3 (batch norm)."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import cnns
from experiments.claims.claim import Verdict, settle
from experiments.claims.computed.reading import apply, drawn, he, noise

DEPTHS = (5, 30)  # hidden layers
ACTIVATIONS = ('sigmoid', 'tanh', 'relu')
INITIALISERS = {  # the standard deviation of the weights of a layer of so many inputs, outputs
    'std 0.01': lambda inputs, outputs: 0.01,  # AlexNet's
    'glorot': lambda inputs, outputs: math.sqrt(2 / (inputs + outputs)),
    'he': he,
}
WIDTH, IMAGES = 128, 16
NETS, NORMS = ('plain56', 'resnet56'), ('batch', 'none')  # of R3
VANISHED = 1 / 1000  # of the gradient that enters at the top: less of it at the bottom is none


def _loss(logits: Array) -> Array:
    """Cross-entropy with the labels 0, 1, 2, ... of as many images."""
    labels = jnp.arange(len(logits)) % logits.shape[-1]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


@functools.cache
def _mlp(depth: int, activation: str) -> tuple[cnns.layers.Net, Callable[[Any], Any]]:
    """An MLP, and the function that gives the gradient of its loss by its variables."""
    net = cnns.build('mlp_300', hidden=(WIDTH,) * depth, activation=activation, fast=False)
    images = noise(IMAGES, 28, 28, 1)
    return net, jax.jit(jax.grad(lambda variables: _loss(apply(net, variables, images))))


@functools.cache  # for the verdict and its figure
def signal(depth: int, activation: str, initialiser: str) -> tuple[float, ...]:
    """Norm of the gradient that reaches each hidden layer of an MLP, from the first to the last.

    Of the loss by the layer's biases: the sum over the images of what backpropagation brings there.
    initialiser: one of INITIALISERS; weights are normal, biases 0. Images: standard normal noise.
    """
    net, gradients = _mlp(depth, activation)
    gradient = gradients(drawn(net, 28, 0.0, INITIALISERS[initialiser]))['params']
    biases = [gradient[f'fc{number}']['bias'] for number in range(1, depth + 1)]
    return tuple(map(_norm, biases))


def _norm(leaf: Array) -> float:
    """In float64: the squares of a gradient below 1e-19 would be zero in float32."""
    return float(np.linalg.norm(np.asarray(leaf, float)))


def per_layer(norms: tuple[float, ...]) -> float:
    """By what each layer multiplies the gradient on its way down, the geometric mean."""
    left = [norm for norm in norms if norm > 1e-30]  # well above the least float32
    return (left[0] / left[-1]) ** (1 / (len(left) - 1))


def _span(values: list[float]) -> str:
    """'0.90 to 0.95', or one number where both ends print alike."""
    ends = [f'{end:.2f}' for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else ' to '.join(ends)


def _slopes(activation: str) -> np.ndarray:
    slope = jax.vmap(jax.grad(lambda x: cnns.layers.activate(x, activation)))
    return np.asarray(slope(jnp.linspace(-6, 6, 1201)))


def v3() -> Verdict:
    steepest = {activation: float(_slopes(activation).max()) for activation in ACTIVATIONS}
    factors = {
        (activation, initialiser): [
            per_layer(signal(depth, activation, initialiser)) for depth in DEPTHS
        ]
        for activation in ACTIVATIONS
        for initialiser in INITIALISERS
    }
    # what is left at the bottom of the deepest, by its factor: float32 has no number so small
    gone = {case: found[-1] ** (DEPTHS[-1] - 1) < VANISHED for case, found in factors.items()}
    shown = '; '.join(
        f'{activation} '
        + ', '.join(f'{_span(factors[activation, one])} ({one})' for one in INITIALISERS)
        for activation in ACTIVATIONS
    )
    lost = ', '.join(' '.join(case) for case in gone if gone[case])
    rectified = np.unique(_slopes('relu'))
    bound = abs(steepest['sigmoid'] - 0.25) < 1e-6
    solved = not any(gone['relu', one] for one in INITIALISERS)
    return settle(
        bound and solved,
        f'The slope of sigmoid is at most {steepest["sigmoid"]:.2f}, of tanh '
        f'{steepest["tanh"]:.0f}, of ReLU {" or ".join(map("{:g}".format, rectified))}: one factor '
        f'of a layer, its weights are the other. In MLPs of {DEPTHS[0]} and {DEPTHS[-1]} layers '
        f'a layer multiplies the gradient by: {shown}. Below {VANISHED:g} after '
        f'{DEPTHS[-1]}: {lost}.',
        factors['relu', 'std 0.01'][-1],
        correction=bound
        and all(gone['sigmoid', one] for one in INITIALISERS)
        and gone['relu', 'std 0.01']
        and not gone['relu', 'he'],
    )


@functools.cache
def kernel_norms(net: str, norm: str, width: int = 8) -> tuple[float, ...]:
    """Norm of the gradient of each 3x3 convolution of a CIFAR net at initialisation, first to last.

    norm: 'batch' or 'none'. Weights: He's, biases 0. Images: standard normal noise of 32x32.
    """
    module, images = cnns.build(net, norm=norm, width=width, fast=False), noise(IMAGES, 32, 32, 3)
    variables = drawn(module, 32, biases=0.0)
    rest = {name: value for name, value in variables.items() if name != 'params'}

    def loss(params):
        logits, _ = module.apply(
            {'params': params, **rest}, images, train=True, mutable=['batch_stats']
        )
        return _loss(logits)

    gradient = jax.grad(loss)(variables['params'])
    layers = [name for name in variables['params'] if name.startswith('conv')]
    order = sorted(layers, key=lambda name: [int(part) for part in name[4:].split('_')])
    kernels = [
        leaf
        for name in order
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient[name])
        if path[-1].key == 'kernel'
    ]
    return tuple(map(_norm, kernels))


def r3() -> Verdict:
    cases = {(net, norm): kernel_norms(net, norm) for net, norm in itertools.product(NETS, NORMS)}
    # through 56 layers rounding grows: no machine shares more digits with another
    least = {case: float(f'{min(norms) / norms[-1]:.2g}') for case, norms in cases.items()}
    first = {case: float(f'{norms[0] / norms[-1]:.2g}') for case, norms in cases.items()}
    own = lambda ratios, norm: ' and '.join(f'{ratios[net, norm]:,g} ({net})' for net in NETS)
    return settle(
        all(least[net, 'batch'] > VANISHED for net in NETS),
        'The least norm of the gradient of a convolution at the start, over that of the last one: '
        f"{own(least, 'batch')} with batch norm, {own(least, 'none')} without; weights are He's. "
        f'With batch norm conv1 has {own(first, "batch")} times the norm of the last one.',
        least['plain56', 'batch'],
    )
