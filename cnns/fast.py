"""Forms of layers that compile to faster code, with the meaning of the plain ones.

Each is chosen by the platform when the program is compiled: the fast form on a CPU, the plain one
elsewhere. The net field `fast=False` turns all of them off.

Max pooling: XLA computes the gradient of reduce_window by select-and-scatter, which on a CPU takes
far longer than the rest of the layer. Here the forward pass keeps which pixel of each window is the
maximum, and the gradient is put together from the windows that reach each pixel: pixels at the same
place modulo the stride, a phase, are reached by the same few windows.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(x, window: int, stride: int, padding):
    """Maxima over windows of [N, H, W, C]; `padding` ((top, bottom), (left, right)) never wins.

    The gradient goes to the first maximum of a window, row by row, as in lax.reduce_window.
    """
    padding = tuple(map(tuple, padding))
    return lax.platform_dependent(
        x, cpu=lambda x: _max_pool(x, window, stride, padding),
        default=lambda x: plain_max_pool(x, window, stride, padding))


def plain_max_pool(x, window: int, stride: int, padding):
    """The same by lax.reduce_window."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1),
                             ((0, 0), *padding, (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, padding):
    return _forward(x, window, stride, padding)[0]


def _forward(x, window, stride, padding):
    """The maxima, and the number of the first pixel that has it in its window."""
    (top, bottom), (left, right) = padding
    n, height, width, channels = x.shape
    rows = (height + top + bottom - window) // stride + 1
    columns = (width + left + right - window) // stride + 1
    lowest = jnp.array(-jnp.inf, x.dtype)
    x = lax.pad(x, lowest, ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))
    best = first = None
    for number in range(window**2):
        i, j = divmod(number, window)
        pixel = lax.slice(x, (0, i, j, 0), (n, i + (rows - 1) * stride + 1,
                                            j + (columns - 1) * stride + 1, channels),
                          (1, stride, stride, 1))
        if best is None:
            best, first = pixel, jnp.zeros(pixel.shape, jnp.uint8)
        else:
            first = jnp.where(pixel > best, jnp.uint8(number), first)
            best = jnp.maximum(best, pixel)  # of a nan: nan
    return best, first


def _save(x, window, stride, padding):
    best, first = _forward(x, window, stride, padding)
    return best, (first, x)


def _gradient(window, stride, padding, saved, gradient):
    first, x = saved
    n, height, width, channels = x.shape
    (top, bottom), (left, right) = padding
    rows, columns = gradient.shape[1:3]
    # Sizes of a phase of the padded input, large enough for every window's last pixel
    reach = -(-window // stride)
    high = max(-(-(height + top + bottom) // stride), rows + reach - 1)
    wide = max(-(-(width + left + right) // stride), columns + reach - 1)

    def phase(p, q):
        total = jnp.zeros((n, high, wide, channels), gradient.dtype)
        for u in range(reach):
            for v in range(reach):
                i, j = p + u * stride, q + v * stride
                if i < window and j < window:
                    part = jnp.where(first == i * window + j, gradient, 0)
                    total += jnp.pad(part, ((0, 0), (u, high - rows - u), (v, wide - columns - v),
                                            (0, 0)))
        return total

    phases = jnp.stack([jnp.stack([phase(p, q) for q in range(stride)], 3)
                        for p in range(stride)], 2)
    whole = phases.reshape(n, high * stride, wide * stride, channels)
    return (whole[:, top:top + height, left:left + width],)


_max_pool.defvjp(_save, _gradient)
