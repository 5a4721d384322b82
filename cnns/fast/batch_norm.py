"""Batch normalisation in training, with a gradient that reads its arrays twice.

It reads them once for two sums and once for the result. The gradient of the separate operations
reads and writes several more arrays.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnns.fast.common import on_cpu


def batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None = None
) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, with the mean and the var of the batch.

    x [..., C] float32; the statistics [C] are over all axes but the last, and over the devices of
    `axis_name`; the variance is the biased one. Returns the result, mean and var.
    """
    epsilon = float(epsilon)
    return on_cpu(
        lambda x, scale, bias: _batch_norm(x, scale, bias, epsilon, axis_name),
        lambda x, scale, bias: plain_batch_norm(x, scale, bias, epsilon, axis_name),
        x,
        scale,
        bias,
    )


def plain_batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None = None
) -> tuple[Array, Array, Array]:
    """The same, with the gradient that JAX makes of it."""
    mean, var = _mean_and_var(x, axis_name)
    var = jnp.maximum(var, 0.0)
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias, mean, var


def _mean_and_var(x, axis_name):
    """Mean and variance; rounding may turn the variance negative."""
    axes = tuple(range(x.ndim - 1))
    sums = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    mean, squares = sums if axis_name is None else lax.pmean(sums, axis_name)
    return mean, squares - jnp.square(mean)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _batch_norm(x, scale, bias, epsilon, axis_name):
    return plain_batch_norm(x, scale, bias, epsilon, axis_name)


def _batch_norm_fwd(x, scale, bias, epsilon, axis_name):
    mean, var = _mean_and_var(x, axis_name)
    # The derivative of the maximum below: one half where both sides are 0
    passed = (jnp.sign(var) + 1) / 2
    var = jnp.maximum(var, 0.0)
    y = (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
    return (y, mean, var), (x, scale, mean, var, passed)


def _batch_norm_bwd(epsilon, axis_name, saved, gradients):
    x, scale, mean, var, passed = saved
    gradient, of_mean, of_var = gradients
    axes = tuple(range(x.ndim - 1))
    inverse = lax.rsqrt(var + epsilon)
    total = gradient.sum(axes)
    product = (gradient * (x - mean)).sum(axes)
    # The gradients of both statistics; var contains -mean^2, whose gradient the term with
    # (x - mean) below includes
    reach = jnp.stack(
        [of_mean - scale * inverse * total, passed * (of_var - 0.5 * scale * inverse**3 * product)]
    )
    count = math.prod(x.shape[:-1])
    if axis_name is not None:
        reach = lax.pmean(reach, axis_name)
    of_mean, of_var = reach / count
    of_x = scale * inverse * gradient + of_mean + 2 * of_var * (x - mean)
    return of_x, inverse * product, total


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)
