"""Max and sum pooling whose gradients need neither select-and-scatter nor a dilated map.

XLA computes the gradient of max pooling by select-and-scatter, which on a CPU takes far longer than
the rest of the layer. Here the forward pass keeps which pixel of each window is the maximum, and
the gradient of a pixel is the sum over the windows that cover it: pixels at the same place modulo
the stride, a phase, are covered by the same few windows.

Sum pooling, for average pooling, is a sum of strided slices; its gradient is computed by phases
too, while that of reduce_window slides over a dilated map.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnns.fast.common import interleave, on_cpu, output_size, pad, pairs


def max_pool(x: Array, window: int, stride: int, padding: Sequence) -> Array:
    """Max pooling of [N, H, W, C]; `padding` ((top, bottom), (left, right)) is never the maximum.

    The gradient goes to the first maximum of a window, row by row, as in lax.reduce_window.
    """
    how = window, stride, pairs(padding)
    return on_cpu(lambda x: _max_pool(x, *how), lambda x: plain_max_pool(x, *how), x)


def plain_max_pool(x: Array, window: int, stride: int, padding: Sequence) -> Array:
    """The same by lax.reduce_window."""
    return _reduce_window(x, -jnp.inf, lax.max, window, stride, padding)


def sum_pool(x: Array, window: int, stride: int, padding: Sequence) -> Array:
    """Sums over windows of [N, H, W, C]."""
    how = window, stride, pairs(padding)
    return on_cpu(lambda x: _sum_pool(x, *how), lambda x: plain_sum_pool(x, *how), x)


def plain_sum_pool(x: Array, window: int, stride: int, padding: Sequence) -> Array:
    """The same by lax.reduce_window."""
    return _reduce_window(x, 0.0, lax.add, window, stride, padding)


def _reduce_window(x, start, reducer, window, stride, padding):
    windows, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, start, reducer, windows, strides, ((0, 0), *padding, (0, 0)))


def _clipped_slices(x, window, stride, padding):
    """As _padded_slices with zeros, added only to the slices that reach over an edge.

    So no padded copy of the map is written. Max pooling, whose gradient reads the map again, is
    slower this way.
    """
    n, height, width, channels = x.shape

    def spans(size, low, high):
        """For each pixel of a window: outputs before and after those where it is on the map."""
        count = output_size(size, low, high, window, stride)
        for offset in range(window):
            first = min(max(-(-(low - offset) // stride), 0), count)
            last = max(min((size - 1 + low - offset) // stride + 1, count), first)
            yield first, count - last, first * stride + offset - low, last - first

    rows, columns = (list(spans(size, *edges)) for size, edges in zip((height, width), padding))
    for above, below, row, high in rows:
        for before, after, column, wide in columns:
            if not high or not wide:
                yield jnp.zeros((n, above + high + below, before + wide + after, channels), x.dtype)
                continue
            part = lax.slice(
                x,
                (0, row, column, 0),
                (n, row + (high - 1) * stride + 1, column + (wide - 1) * stride + 1, channels),
                (1, stride, stride, 1),
            )
            yield pad(part, ((above, below), (before, after)))


def _padded_slices(x, window, stride, padding, value):
    """Pixel (0, 0) of every window, then (0, 1), ...: arrays as large as the result."""
    (top, bottom), (left, right) = padding
    n, height, width, channels = x.shape
    rows = output_size(height, top, bottom, window, stride)
    columns = output_size(width, left, right, window, stride)
    x = pad(x, padding, value)
    for i in range(window):
        for j in range(window):
            yield lax.slice(
                x,
                (0, i, j, 0),
                (n, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, channels),
                (1, stride, stride, 1),
            )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, padding):
    return _max_and_number(x, window, stride, padding)[0]


def _max_and_number(x, window, stride, padding):
    """The maximum of each window, and the number of the first of its pixels that has it."""
    pixels = _padded_slices(x, window, stride, padding, -np.inf)
    best = next(pixels)
    numbers = jnp.uint8 if window <= 16 else jnp.uint32
    first = jnp.zeros(best.shape, numbers)
    for number, pixel in enumerate(pixels, start=1):
        first = jnp.where(pixel > best, numbers(number), first)
        best = jnp.maximum(best, pixel)  # nan where a pixel is nan
    return best, first


def _max_pool_fwd(x, window, stride, padding):
    best, first = _max_and_number(x, window, stride, padding)
    return best, (first, x)


def _max_pool_bwd(window, stride, padding, saved, gradient):
    first, x = saved

    def of_pixel(i, j):
        return jnp.where(first == i * window + j, gradient, jnp.zeros((), gradient.dtype))

    return (_unpool(of_pixel, x.shape, window, stride, padding, gradient),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sum_pool(x, window, stride, padding):
    return functools.reduce(jnp.add, _clipped_slices(x, window, stride, padding))


def _sum_pool_fwd(x, window, stride, padding):
    # Not _sum_pool: what it calls is differentiated too, in products with the Hessian
    return functools.reduce(jnp.add, _clipped_slices(x, window, stride, padding)), x


def _sum_pool_bwd(window, stride, padding, x, gradient):
    return (_unpool(lambda i, j: gradient, x.shape, window, stride, padding, gradient),)


_sum_pool.defvjp(_sum_pool_fwd, _sum_pool_bwd)


def _unpool(of_pixel, shape, window, stride, padding, gradient):
    """The gradient of a map of this shape; of_pixel(i, j) is that of pixel (i, j) of each window.

    of_pixel returns an array like `gradient`, one number for each window.
    """
    n, height, width, channels = shape
    (top, _), (left, _) = padding
    rows, columns = gradient.shape[1:3]
    high, wide = -(-height // stride), -(-width // stride)

    def phase(p, q):
        """Of the pixels (p, q) modulo the stride; pixel t of them is in window t + down - u."""
        (down, i), (right, j) = divmod(p + top, stride), divmod(q + left, stride)
        total = jnp.zeros((n, high, wide, channels), gradient.dtype)
        for u in range(-(-(window - i) // stride)):
            for v in range(-(-(window - j) // stride)):
                edges = (
                    (u - down, high - rows - u + down),
                    (v - right, wide - columns - v + right),
                )
                total += pad(of_pixel(i + u * stride, j + v * stride), edges)
        return total

    return interleave(phase, stride, height, width)
