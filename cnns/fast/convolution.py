"""Convolution by im2col, by space-to-depth, one output at a time, and with gradients in parts.

- The gradient of the weights contracts over the images, for which XLA transposes whole activations;
  a few images at a time stay in the cache.
- The gradient of the input of a strided convolution is a dilated convolution, over a map that is
  mostly zeros. Here it is computed phase by phase: the pixels at one place modulo the stride are
  reached by one part of the kernel, in a convolution with stride 1.
- im2col: kernels of few weights are products of matrices, with several neighbouring outputs in a
  row of the product.
- Space-to-depth: strided kernels of few channels read blocks of pixels as channels, with stride 1.
- Where the kernel is larger than a map (3x3 on 2x2), XLA has a loop without blocks, a hundred times
  slower than the rest: there, and for layers of one output pixel, each output pixel is a product of
  its own, up to 64 of them.
- Groups are convolutions of their own.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnns.fast.common import apart, interleave, on_cpu, output_size, pad, pairs

_CACHE_BYTES = 2**21  # of activations and gradients in a part of the gradient of the weights
_MIN_IMAGES, _MIN_ROWS = 8, 4  # images, and rows of their maps, in such a part
_FEW_WEIGHTS = 32  # of one output: im2col up to this
_FEW_OUTPUTS = 64  # pixels of a result: up to this each may be a product of its own
_FEW_CHANNELS = 4  # space-to-depth up to this, for strided kernels
_NO_PADDING = ((0, 0), (0, 0))


@apart
def conv(x: Array, kernel: Array, strides: Sequence[int], padding: Any, **fields: Any) -> Array:
    """lax.conv_general_dilated for flax's nn.Conv, of maps [N, H, W, C] and explicit padding.

    kernel [h, w, C / groups, features]. A dilation, a precision, strides that differ, and arrays or
    results without elements keep the plain form.
    """

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, strides, padding, **fields)

    others = dict(fields)
    layout = others.pop('dimension_numbers', None)
    groups = others.pop('feature_group_count', 1)
    dilations = [others.pop(f'{side}_dilation', None) or () for side in ('lhs', 'rhs')]
    if (
        x.ndim != 4
        or any(d != 1 for dilation in dilations for d in dilation)
        or any(value is not None for value in others.values())  # precision and the like
        or isinstance(padding, str)
        or strides[0] != strides[1]
        or layout is None  # which means channels first
        or 0 in (x.size, kernel.size, jax.eval_shape(plain, x, kernel).size)
    ):
        return plain(x, kernel)
    stride, padded = int(strides[0]), pairs(padding)

    def fast(x, kernel):
        if groups == 1:
            return _form(x, kernel, stride, padded)
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1))
        return jnp.concatenate([_form(*part, stride, padded) for part in parts], -1)

    return on_cpu(fast, plain, x, kernel)


def _form(x, kernel, stride, padding):
    """The convolution in the form that is fastest for its sizes."""
    height, width, channels, _ = kernel.shape
    if stride > 1 and height == width == 1:
        return _direct(pad(x, padding)[:, ::stride, ::stride], kernel, 1, _NO_PADDING)
    if _exceeds_map(x.shape[1:3], (height, width), stride, padding):
        return _per_output(x, kernel, stride, padding)
    if stride > 1 and channels <= _FEW_CHANNELS:
        return _space_to_depth(x, kernel, stride, padding)
    if stride == 1 and 1 < height * width * channels <= _FEW_WEIGHTS and x.dtype == jnp.float32:
        return _im2col(x, kernel, padding)
    return _direct(x, kernel, stride, padding)


def plain_conv(x: Array, kernel: Array, stride: int, padding: Sequence) -> Array:
    """lax.conv_general_dilated of maps [N, H, W, C] by a kernel [h, w, C, features]."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _exceeds_map(map_size, kernel_size, stride, padding):
    """Whether a kernel is larger than its map, in the layer or in the gradient of the input."""
    sizes = [
        output_size(size, low, high, window, stride)
        for size, window, (low, high) in zip(map_size, kernel_size, padding)
    ]
    return 0 < math.prod(sizes) <= _FEW_OUTPUTS and any(
        window > size or -(-window // stride) > out
        for window, size, out in zip(kernel_size, map_size, sizes)
    )


def _per_output(x, kernel, stride, padding):
    """Each pixel of the result: the part of its window on the map, times that of the kernel."""

    def covers(size, window, low, high):
        """For every window two slices: its pixels on the map, and their part of the kernel."""
        for out in range(output_size(size, low, high, window, stride)):
            begin = out * stride - low
            first = min(max(begin, 0), size)
            last = max(min(begin + window, size), first)
            yield slice(first, last), slice(first - begin, last - begin)

    rows, columns = (
        [*covers(size, window, *edges)]
        for size, window, edges in zip(x.shape[1:3], kernel.shape[:2], padding)
    )

    def pixel(row, column):
        seen = x[:, row[0], column[0]]
        seen = seen.reshape(x.shape[0], math.prod(seen.shape[1:]))
        return seen @ kernel[row[1], column[1]].reshape(-1, kernel.shape[3])

    return jnp.stack([jnp.stack([pixel(row, column) for column in columns], 1) for row in rows], 1)


def _space_to_depth(x, kernel, stride, padding):
    """Blocks of stride x stride pixels become channels; the convolution then has stride 1."""
    sizes, edges = [], []
    for size, (low, up), k in zip(x.shape[1:3], padding, kernel.shape):
        blocks = -(-k // stride)  # that the kernel covers
        need = (output_size(size, low, up, k, stride) - 1 + blocks) * stride
        sizes.append((0, blocks * stride - k))
        edges.append((low, need - size - low))

    def fold(array, axis):
        before, (height, width, channels, *after) = array.shape[:axis], array.shape[axis:]
        high, wide = height // stride, width // stride
        array = array.reshape(*before, high, stride, wide, stride, channels, *after)
        array = array.swapaxes(axis + 1, axis + 2)
        return array.reshape(*before, high, wide, stride**2 * channels, *after)

    x, kernel = pad(x, edges), jnp.pad(kernel, (*sizes, (0, 0), (0, 0)))
    return _direct(fold(x, 1), fold(kernel, 0), 1, _NO_PADDING)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _direct(x, kernel, stride, padding):
    return plain_conv(x, kernel, stride, padding)


def _direct_fwd(x, kernel, stride, padding):
    return plain_conv(x, kernel, stride, padding), (x, kernel)


def _direct_bwd(stride, padding, saved, gradient):
    x, kernel = saved
    return (
        _input_gradient(x, kernel, stride, padding, gradient),
        _weight_gradient(x, kernel, stride, padding, gradient),
    )


_direct.defvjp(_direct_fwd, _direct_bwd)


def _input_gradient(x, kernel, stride, padding, gradient):
    if stride == 1:
        return jax.linear_transpose(lambda x: plain_conv(x, kernel, 1, padding), x)(gradient)[0]
    height, width = x.shape[1:3]
    high, wide = -(-height // stride), -(-width // stride)

    def phase(p, q):
        """Pixel t of a phase is reached by row i + m * stride of the kernel at output t + d - m."""
        (down, i), (right, j) = (divmod(a + low, stride) for a, (low, _) in zip((p, q), padding))
        part = kernel[i::stride, j::stride][::-1, ::-1].swapaxes(2, 3)
        if part.shape[0] == 0 or part.shape[1] == 0:
            return jnp.zeros((x.shape[0], high, wide, x.shape[3]), gradient.dtype)
        m, k = part.shape[0] - 1, part.shape[1] - 1
        edges = (
            (m - down, high + down - gradient.shape[1]),
            (k - right, wide + right - gradient.shape[2]),
        )
        return plain_conv(pad(gradient, edges), part, 1, _NO_PADDING)

    return interleave(phase, stride, height, width)


def _weight_gradient(x, kernel, stride, padding, gradient):
    """Summed over parts of so few images and rows that they stay in a core's cache."""
    n, rows = gradient.shape[:2]
    # Without it, XLA computes them again for every part
    x, gradient = lax.optimization_barrier((x, gradient))
    row = (x[0].size + gradient[0].size) * x.dtype.itemsize / rows
    count = min(n, max(2 ** int(math.log2(max(_CACHE_BYTES / (row * rows), 1))), _MIN_IMAGES))
    high = min(rows, max(round(_CACHE_BYTES / (row * count)), _MIN_ROWS))
    if high < rows:  # parts of the rows are cut out of the padded map
        x, padding = pad(x, padding), _NO_PADDING
    parts = []
    for first in range(0, n, count):
        for top in range(0, rows, high):
            part = gradient[first : first + count, top : top + high]
            images = x[first : first + count]
            if high < rows:
                end = (top + part.shape[1] - 1) * stride + kernel.shape[0]
                images = images[:, top * stride : end]

            def run(kernel, images=images):
                return plain_conv(images, kernel, stride, padding)

            parts.append(jax.linear_transpose(run, kernel)(part)[0])
    # The barrier keeps the sum out of the convolutions: oneDNN cannot add to every result, and
    # ends the process
    return functools.reduce(jnp.add, lax.optimization_barrier(parts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _im2col(x, kernel, padding):
    return _im2col_fwd(x, kernel, padding)[0]


def _outputs_per_row(columns):
    """How many neighbouring outputs a row of the product computes."""
    return next(count for count in (4, 2, 1) if columns % count == 0)


def _im2col_fwd(x, kernel, padding):
    h, w, channels, features = kernel.shape
    (top, bottom), (left, right) = padding
    rows = output_size(x.shape[1], top, bottom, h, 1)
    columns = output_size(x.shape[2], left, right, w, 1)
    count = _outputs_per_row(columns)
    wide, groups = w + count - 1, columns // count
    windows = pad(x, padding)
    windows = jnp.stack(
        [lax.slice_in_dim(windows, j, j + (groups - 1) * count + 1, count, 2) for j in range(wide)],
        3,
    )
    windows = windows.reshape(*windows.shape[:2], groups, wide * channels)
    windows = jnp.stack([windows[:, i : i + rows] for i in range(h)], 3)
    windows = windows.reshape(x.shape[0] * rows * groups, h * wide * channels)
    shifted = jnp.stack(
        [jnp.pad(kernel, ((0, 0), (i, count - 1 - i), (0, 0), (0, 0))) for i in range(count)], 3
    )
    y = windows @ shifted.reshape(-1, count * features)
    return y.reshape(x.shape[0], rows, columns, features), (x, kernel, windows)


def _im2col_bwd(padding, saved, gradient):
    x, kernel, windows = saved
    h, w, channels, features = kernel.shape
    count = _outputs_per_row(gradient.shape[2])
    shifted = windows.T @ gradient.reshape(len(windows), -1)
    shifted = shifted.reshape(h, w + count - 1, channels, count, features)
    weights = functools.reduce(jnp.add, [shifted[:, i : i + w, :, i] for i in range(count)])
    return _input_gradient(x, kernel, 1, padding, gradient), weights


_im2col.defvjp(_im2col_fwd, _im2col_bwd)
