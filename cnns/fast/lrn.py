"""LRN whose sum over neighbouring channels is a product with a banded matrix of 0 and 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnns.fast.common import on_cpu


def lrn(x: Array, n: int, k: float, alpha: float, beta: float) -> Array:
    """x / (k + alpha * sum of x^2 over n neighbouring channels)^beta; x float32 [..., C]."""
    how = n, k, alpha, beta
    return on_cpu(lambda x: _lrn(x, *how), lambda x: plain_lrn(x, *how), x)


def plain_lrn(x: Array, n: int, k: float, alpha: float, beta: float) -> Array:
    """The same by lax.reduce_window and a power."""
    ones, edges = (1,) * (x.ndim - 1), [(0, 0)] * (x.ndim - 1)
    sums = lax.reduce_window(
        jnp.square(x), 0.0, lax.add, (*ones, n), (*ones, 1), [*edges, (n // 2, n // 2)]
    )
    return x * (k + alpha * sums) ** -beta


def _neighbour_sum(x, n):
    """Sums over n neighbouring channels."""
    channels = np.arange(x.shape[-1])
    band = np.abs(channels[:, None] - channels) <= n // 2
    return x @ jnp.asarray(band, x.dtype)


def _power(y, beta):
    if beta == 0.75:
        root = lax.rsqrt(y)
        return root * lax.sqrt(root)
    return y**-beta


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _lrn(x, n, k, alpha, beta):
    return x * _power(k + alpha * _neighbour_sum(jnp.square(x), n), beta)


def _lrn_fwd(x, n, k, alpha, beta):
    y = k + alpha * _neighbour_sum(jnp.square(x), n)
    return x * _power(y, beta), (x, y)


def _lrn_bwd(n, k, alpha, beta, saved, gradient):
    x, y = saved
    scaled = gradient * _power(y, beta)
    return (scaled - 2 * alpha * beta * x * _neighbour_sum(scaled * x / y, n),)


_lrn.defvjp(_lrn_fwd, _lrn_bwd)
