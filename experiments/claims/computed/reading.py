"""What the claims read off a net: its table, shapes and variables."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import cnns
from experiments.models import description


def rows(name: str, **fields: Any) -> dict[str, dict[str, Any]]:
    """{layer: its row, as experiments.models.description has it}, in the order of the net."""
    return {row['layer']: row for row in description.describe(name, **fields)['rows']}


def parameters(name: str, **fields: Any) -> int:
    return description.describe(name, **fields)['parameters']


def macs(name: str, **fields: Any) -> int:
    """Multiply-adds of one image."""
    return description.describe(name, **fields)['macs']


def shape(name: str, layer: str | bool, side: int, **fields: Any) -> tuple[int, ...]:
    """The shape of a layer's output for one image of side x side pixels, without the batch."""
    net = cnns.build(name, fast=False, **fields)
    image = jax.ShapeDtypeStruct((1, side, side, net.channels), jnp.float32)
    start = lambda x: net.init_with_output(jax.random.key(0), x, train=False, features=layer)[0]
    return jax.eval_shape(start, image).shape[1:]


def noise(*shape: int, seed: int = 1) -> Array:
    """Standard normal numbers, float32, always the same."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@functools.cache
def _shapes(net: cnns.layers.Net, side: int) -> dict[str, Any]:
    """The variables of a net for images of side x side, without values."""
    image = jax.ShapeDtypeStruct((1, side, side, net.channels), jnp.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), image)


def he(inputs: int, outputs: int) -> float:
    """The standard deviation of He's initial weights (He et al. 2015, Eq. 10)."""
    return math.sqrt(2 / inputs)


def drawn(
    net: cnns.layers.Net, side: int, biases: float = 0.1, weights: Callable[[int, int], float] = he
) -> dict[str, Any]:
    """Variables of a net for images of side x side, normal numbers.

    biases: their standard deviation; weights: that of a layer of so many inputs and outputs.

    NumPy draws them: to compile an initialiser for every shape takes longer than all that is
    computed with them.
    """
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ('scale', 'var'):  # of batch norm
            return jnp.ones(leaf.shape)
        if path[-1].key == 'mean':
            return jnp.zeros(leaf.shape)
        *fans, outputs = leaf.shape
        deviation = weights(math.prod(fans), outputs) if path[-1].key == 'kernel' else biases
        return jnp.asarray(random.standard_normal(leaf.shape) * deviation, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, _shapes(net, side))


def apply(module: nn.Module, variables: Any, x: Array, **given: Any) -> Array:
    """A module's output in inference; features='conv3' of a net: the output of that layer."""
    out: Any = module.apply(variables, x, train=False, **given)
    return out


def largest(a: Any, b: Any) -> float:
    """The largest difference of two arrays, relative to the largest value of the second."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max())


EXACT = 1e-5  # relative difference of two float32 sums in another order


def rounding(off: float) -> str:
    """'within 1e-05' if sums are the same but for float32's rounding, whose digits no machine
    shares with another; else by how much they differ."""
    return f'within {EXACT:.0e}' if off < EXACT else f'off by {off:.0e}'
