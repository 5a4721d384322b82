"""What the fast forms share: the choice by platform, sizes, padding, and the phases of a map."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType


def on_cpu(fast: Callable, plain: Callable, *arrays: Array) -> Any:
    """fast(*arrays) where the program is compiled for a CPU, plain(*arrays) elsewhere.

    plain(*arrays) under explicit sharding too, for which the fast forms' reshapes give no sharding.
    """
    if any(AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types for array in arrays):
        return plain(*arrays)
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)


def apart(function: Callable) -> Callable:
    """The same function of arrays, its bfloat16 results outside of all fusions on a CPU.

    For convolutions and matrix products: where XLA's CPU compiler (jaxlib 0.12) puts two of them
    into one fusion of YNNPACK, in bfloat16, the second reads memory that nobody has written. Other
    platforms and types are left alone.
    """

    @functools.wraps(function)
    def separate(*args, **kwargs):
        y = function(*args, **kwargs)
        return alone(y) if y.dtype == jnp.bfloat16 else y

    return separate


def alone(y: Array) -> Array:
    """y, on a CPU outside of all fusions."""
    return on_cpu(lax.optimization_barrier, lambda y: y, y)


def pairs(padding: Iterable) -> tuple[tuple[int, int], ...]:
    """Padding as a tuple of Python's numbers, which a custom_vjp can hash."""
    return tuple((int(low), int(high)) for low, high in padding)


def output_size(size: int, low: int, high: int, window: int, stride: int) -> int:
    """Number of windows along one side of a map with `low` and `high` pixels of padding."""
    return (size + low + high - window) // stride + 1


def pad(x: Array, padding: Iterable, value: float = 0) -> Array:
    """x [N, H, W, C] with ((top, bottom), (left, right)) more pixels; negative numbers crop."""
    edges = ((0, 0, 0), *((*edge, 0) for edge in padding), (0, 0, 0))
    return lax.pad(x, jnp.full((), value, x.dtype), edges)


def interleave(phase: Callable, stride: int, height: int, width: int) -> Array:
    """The map [N, height, width, C] whose pixels (p, q) modulo the stride are phase(p, q)."""
    phases = [[phase(p, q) for q in range(stride)] for p in range(stride)]
    if stride == 1:
        return phases[0][0]
    rows = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    n, high, _, wide, _, channels = rows.shape
    return rows.reshape(n, high * stride, wide * stride, channels)[:, :height, :width]
