"""Forms of layers that compile to faster code, with the meaning of the plain ones.

Each is chosen by the platform when the program is compiled: the fast form on a CPU, the plain one
elsewhere. The net field `fast=False` turns all of them off.

Max pooling: XLA computes the gradient of reduce_window by select-and-scatter, which on a CPU takes
far longer than the rest of the layer. Here the forward pass keeps which pixel of each window is the
maximum, and the gradient is put together from the windows that reach each pixel: pixels at the same
place modulo the stride, a phase, are reached by the same few windows.

Sums over windows, for average pooling: a sum of strided slices, its gradient by phases too; that
of reduce_window slides over a map with holes.

LRN: the sum over neighbouring channels is a product with a banded matrix of zeros and ones.

Batch norm, in training: its gradient reads the maps twice, once for two sums and once for the
result, where that of the separate operations writes and reads several maps more.

Convolution: the gradient of the weights contracts over the images, for which XLA turns whole
activations around; a few images at a time stay in the cache. The gradient of the input of a strided
convolution is computed phase by phase instead of over a map with holes. Kernels of few weights are
products of matrices, with several neighbouring outputs in a row of the product; strided ones of few
channels first fold blocks of pixels into channels. Where the kernel is larger than a map (3x3 on
2x2), XLA has a loop without blocks, a hundred times slower than the rest: there, and for layers of
one output pixel, every output pixel is a product of its own, up to 64 of them. Groups are
convolutions of their own.

All have gradients, and gradients of gradients, in reverse; jax.jvp and jax.jacfwd of them raise a
TypeError, on any platform, as custom_vjp does. Forward mode needs `fast=False`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_CHUNK = 2**21  # bytes of activations and gradients that a part of the weights' gradient takes
_FEWEST, _LOWEST = 8, 4  # images and rows of their maps that it takes at least
_FEW_WEIGHTS = 32  # of one output: kernels up to this are matrix products
_FEW_PIXELS = 64  # of a result: up to this each may be a product of its own
_FEW_CHANNELS = 4  # strided kernels up to this fold pixels into channels


def _on_cpu(fast, plain, *arrays):
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)


def _pairs(padding):
    return tuple((int(low), int(high)) for low, high in padding)


def _outputs(size: int, low: int, high: int, window: int, stride: int) -> int:
    return (size + low + high - window) // stride + 1


def _interleave(phases, stride: int, height: int, width: int):
    """The map of which phases[p][q] holds the pixels (p, q) modulo the stride."""
    if stride == 1:
        return phases[0][0]
    rows = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    n, high, _, wide, _, channels = rows.shape
    return rows.reshape(n, high * stride, wide * stride, channels)[:, :height, :width]


# --- pooling -----------------------------------------------------------------------------------


def max_pool(x, window: int, stride: int, padding):
    """Maxima over windows of [N, H, W, C]; `padding` ((top, bottom), (left, right)) never wins.

    The gradient goes to the first maximum of a window, row by row, as in lax.reduce_window.
    """
    how = window, stride, _pairs(padding)
    return _on_cpu(lambda x: _max_pool(x, *how), lambda x: plain_max_pool(x, *how), x)


def plain_max_pool(x, window: int, stride: int, padding):
    """The same by lax.reduce_window."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        ((0, 0), *padding, (0, 0)),
    )


def sum_pool(x, window: int, stride: int, padding):
    """Sums over windows of [N, H, W, C]."""
    how = window, stride, _pairs(padding)
    return _on_cpu(lambda x: _sum_pool(x, *how), lambda x: plain_sum_pool(x, *how), x)


def plain_sum_pool(x, window: int, stride: int, padding):
    """The same by lax.reduce_window."""
    return lax.reduce_window(
        x, 0.0, lax.add, (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *padding, (0, 0))
    )


def _clipped(x, window, stride, padding):
    """As _pixels with zeros around the map, which only the slices that need them get.

    So the map is not written once more with its edges. Maxima, whose gradient reads the map again,
    are slower this way.
    """
    n, height, width, channels = x.shape

    def spans(size, low, high):
        """Of each pixel of a window: the outputs before and after those where it is on the map."""
        count = _outputs(size, low, high, window, stride)
        for offset in range(window):
            first = min(max(-(-(low - offset) // stride), 0), count)
            last = max(min((size - 1 + low - offset) // stride + 1, count), first)
            yield first, count - last, first * stride + offset - low, last - first

    rows, columns = (list(spans(size, *edges)) for size, edges in zip((height, width), padding))
    zero = jnp.zeros((), x.dtype)
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
            yield lax.pad(part, zero, ((0, 0, 0), (above, below, 0), (before, after, 0), (0, 0, 0)))


def _pixels(x, window, stride, padding, filling):
    """Of every window its pixel (0, 0), then (0, 1), ...: arrays as large as the result."""
    (top, bottom), (left, right) = padding
    n, height, width, channels = x.shape
    rows = _outputs(height, top, bottom, window, stride)
    columns = _outputs(width, left, right, window, stride)
    x = lax.pad(
        x, jnp.array(filling, x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    )
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
    return _maxima(x, window, stride, padding)[0]


def _maxima(x, window, stride, padding):
    """The maxima, and the number of the first pixel that has it in its window."""
    best = first = None
    numbers = jnp.uint8 if window <= 16 else jnp.uint32
    for number, pixel in enumerate(_pixels(x, window, stride, padding, -np.inf)):
        if best is None:
            best, first = pixel, jnp.zeros(pixel.shape, numbers)
        else:
            first = jnp.where(pixel > best, numbers(number), first)
            best = jnp.maximum(best, pixel)  # of a nan: nan
    return best, first


def _save_maxima(x, window, stride, padding):
    best, first = _maxima(x, window, stride, padding)
    return best, (first, x)


def _max_pool_gradient(window, stride, padding, saved, gradient):
    first, x = saved

    def reaching(i, j):
        return jnp.where(first == i * window + j, gradient, jnp.zeros((), gradient.dtype))

    return (_from_windows(reaching, x.shape, window, stride, padding, gradient),)


_max_pool.defvjp(_save_maxima, _max_pool_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sum_pool(x, window, stride, padding):
    return functools.reduce(jnp.add, _clipped(x, window, stride, padding))


def _save_sums(x, window, stride, padding):
    # Not _sum_pool: what it calls is differentiated too, in products with the Hessian
    return functools.reduce(jnp.add, _clipped(x, window, stride, padding)), x


def _sum_pool_gradient(window, stride, padding, x, gradient):
    return (_from_windows(lambda i, j: gradient, x.shape, window, stride, padding, gradient),)


_sum_pool.defvjp(_save_sums, _sum_pool_gradient)


def _from_windows(reaching, shape, window, stride, padding, gradient):
    """What a map of this shape gets when every window gives its pixel (i, j) reaching(i, j).

    reaching gives an array like `gradient`, a number for each window.
    """
    n, height, width, channels = shape
    (top, _), (left, _) = padding
    rows, columns = gradient.shape[1:3]
    high, wide = -(-height // stride), -(-width // stride)
    zero = jnp.zeros((), gradient.dtype)

    def phase(p, q):
        """Of the pixels (p, q) modulo the stride; pixel t of them is in window t + down - u."""
        (down, i), (right, j) = divmod(p + top, stride), divmod(q + left, stride)
        total = jnp.zeros((n, high, wide, channels), gradient.dtype)
        for u in range(-(-(window - i) // stride)):
            for v in range(-(-(window - j) // stride)):
                total += lax.pad(
                    reaching(i + u * stride, j + v * stride),
                    zero,
                    (
                        (0, 0, 0),
                        (u - down, high - rows - u + down, 0),
                        (v - right, wide - columns - v + right, 0),
                        (0, 0, 0),
                    ),
                )
        return total

    return _interleave(
        [[phase(p, q) for q in range(stride)] for p in range(stride)], stride, height, width
    )


# --- local response normalisation --------------------------------------------------------------


def lrn(x, n: int, k: float, alpha: float, beta: float):
    """x / (k + alpha * sum of x^2 over n neighbouring channels)^beta; x float32 [..., C]."""
    return _on_cpu(
        lambda x: _lrn(x, n, k, alpha, beta), lambda x: plain_lrn(x, n, k, alpha, beta), x
    )


def plain_lrn(x, n: int, k: float, alpha: float, beta: float):
    """The same by lax.reduce_window and a power."""
    ones = (1,) * (x.ndim - 1)
    sums = lax.reduce_window(
        jnp.square(x),
        0.0,
        lax.add,
        (*ones, n),
        (*ones, 1),
        [(0, 0)] * len(ones) + [(n // 2, n // 2)],
    )
    return x * (k + alpha * sums) ** -beta


def _band(x, n):
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
    return x * _power(k + alpha * _band(jnp.square(x), n), beta)


def _save_lrn(x, n, k, alpha, beta):
    y = k + alpha * _band(jnp.square(x), n)
    return x * _power(y, beta), (x, y)


def _lrn_gradient(n, k, alpha, beta, saved, gradient):
    x, y = saved
    scaled = gradient * _power(y, beta)
    return (scaled - 2 * alpha * beta * x * _band(scaled * x / y, n),)


_lrn.defvjp(_save_lrn, _lrn_gradient)


# --- batch normalisation -----------------------------------------------------------------------


def batch_norm(x, scale, bias, epsilon: float, axis_name: str | None = None):
    """(x - mean) / sqrt(var + epsilon) * scale + bias, with the mean and the var of the batch.

    x [..., C] float32; the statistics [C] are over all axes but the last, and over the devices of
    `axis_name`; the variance is the biased one. Returns the result, mean and var.
    """
    how = float(epsilon), axis_name
    return _on_cpu(
        lambda *arrays: _batch_norm(*arrays, *how),
        lambda *arrays: plain_batch_norm(*arrays, *how),
        x,
        scale,
        bias,
    )


def plain_batch_norm(x, scale, bias, epsilon: float, axis_name: str | None = None):
    """The same, with the gradient that JAX makes of it."""
    mean, var = _moments(x, axis_name)
    var = jnp.maximum(var, 0.0)
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias, mean, var


def _moments(x, axis_name):
    """Mean and variance; rounding may turn the variance negative."""
    axes = tuple(range(x.ndim - 1))
    sums = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    mean, squares = sums if axis_name is None else lax.pmean(sums, axis_name)
    return mean, squares - jnp.square(mean)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _batch_norm(x, scale, bias, epsilon, axis_name):
    return plain_batch_norm(x, scale, bias, epsilon, axis_name)


def _save_batch_norm(x, scale, bias, epsilon, axis_name):
    mean, var = _moments(x, axis_name)
    # What the maximum passes on of its gradient: half of it where both sides are 0
    passed = (jnp.sign(var) + 1) / 2
    var = jnp.maximum(var, 0.0)
    y = (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
    return (y, mean, var), (x, scale, mean, var, passed)


def _batch_norm_gradient(epsilon, axis_name, saved, gradients):
    x, scale, mean, var, passed = saved
    gradient, of_mean, of_var = gradients
    axes = tuple(range(x.ndim - 1))
    inverse = lax.rsqrt(var + epsilon)
    total = gradient.sum(axes)
    product = (gradient * (x - mean)).sum(axes)
    # What reaches the two statistics: var holds -mean^2, which (x - mean) below puts right
    reach = jnp.stack(
        [of_mean - scale * inverse * total, passed * (of_var - 0.5 * scale * inverse**3 * product)]
    )
    count = math.prod(x.shape[:-1])
    if axis_name is not None:
        reach = lax.pmean(reach, axis_name)
    of_mean, of_var = reach / count
    of_x = scale * inverse * gradient + of_mean + 2 * of_var * (x - mean)
    return of_x, inverse * product, total


_batch_norm.defvjp(_save_batch_norm, _batch_norm_gradient)


# --- convolution -------------------------------------------------------------------------------


def conv(
    x,
    kernel,
    strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    **others,
):
    """lax.conv_general_dilated for flax's nn.Conv, of maps [N, H, W, C] and explicit padding.

    kernel [h, w, C / groups, features]. A dilation, a precision, strides that differ, and arrays or
    results without elements keep the plain form.
    """

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            **others,
        )

    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    asked = any(value is not None for value in others.values())  # precision and the like
    if (
        x.ndim != 4
        or dilated
        or asked
        or isinstance(padding, str)
        or strides[0] != strides[1]
        or dimension_numbers is None  # which means channels first
        or 0 in (x.size, kernel.size, jax.eval_shape(plain, x, kernel).size)
    ):
        return plain(x, kernel)
    how = int(strides[0]), _pairs(padding)

    def grouped(x, kernel):
        parts = zip(
            jnp.split(x, feature_group_count, -1), jnp.split(kernel, feature_group_count, -1)
        )
        return jnp.concatenate([_form(*part, *how) for part in parts], -1)

    fast = grouped if feature_group_count > 1 else lambda x, kernel: _form(x, kernel, *how)
    return _on_cpu(fast, plain, x, kernel)


def _form(x, kernel, stride, padding):
    height, width, channels, _ = kernel.shape
    if stride > 1 and height == width == 1:
        (top, bottom), (left, right) = padding
        x = lax.pad(
            x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
        )
        return _conv(x[:, ::stride, ::stride], kernel, 1, ((0, 0), (0, 0)))
    if _exceeds(x.shape[1:3], (height, width), stride, padding):
        return _by_pixel(x, kernel, stride, padding)
    if stride > 1 and channels <= _FEW_CHANNELS:
        return _folded(x, kernel, stride, padding)
    if stride == 1 and 1 < height * width * channels <= _FEW_WEIGHTS and x.dtype == jnp.float32:
        return _product(x, kernel, padding)
    return _conv(x, kernel, stride, padding)


def plain_conv(x, kernel, stride: int, padding):
    """lax.conv_general_dilated of maps [N, H, W, C] by a kernel [h, w, C, features]."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _exceeds(map_size, kernel_size, stride, padding) -> bool:
    """Whether a kernel is larger than its map, in the layer or in the gradient of the input."""
    sizes = [
        _outputs(size, *edges, window, stride)
        for size, window, edges in zip(map_size, kernel_size, padding)
    ]
    return 0 < math.prod(sizes) <= _FEW_PIXELS and any(
        window > size or -(-window // stride) > out
        for window, size, out in zip(kernel_size, map_size, sizes)
    )


def _by_pixel(x, kernel, stride, padding):
    """Every pixel of the result: what its window covers, times that part of the kernel."""
    features = kernel.shape[3]

    def covers(size, window, low, high):
        """Of every window its pixels on the map, and its part of the kernel: two slices."""
        for out in range(_outputs(size, low, high, window, stride)):
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
        return seen.reshape(x.shape[0], math.prod(seen.shape[1:])) @ kernel[
            row[1], column[1]
        ].reshape(-1, features)

    return jnp.stack([jnp.stack([pixel(row, column) for column in columns], 1) for row in rows], 1)


def _folded(x, kernel, stride, padding):
    """Blocks of stride x stride pixels become channels; the convolution then has stride 1."""
    h, w, channels, features = kernel.shape
    high, wide = -(-h // stride), -(-w // stride)
    sizes = [
        _outputs(size, low, up, k, stride)
        for size, (low, up), k in zip(x.shape[1:3], padding, (h, w))
    ]
    need = [(size - 1 + k) * stride for size, k in zip(sizes, (high, wide))]
    x = lax.pad(
        x,
        jnp.zeros((), x.dtype),
        (
            (0, 0, 0),
            *((low, n - size - low, 0) for n, size, (low, _) in zip(need, x.shape[1:3], padding)),
            (0, 0, 0),
        ),
    )
    kernel = jnp.pad(kernel, ((0, high * stride - h), (0, wide * stride - w), (0, 0), (0, 0)))

    def fold(array, lead):
        shape = array.shape
        split = (
            *shape[:lead],
            shape[lead] // stride,
            stride,
            shape[lead + 1] // stride,
            stride,
            *shape[lead + 2 :],
        )
        order = (*range(lead), lead, lead + 2, lead + 1, lead + 3, *range(lead + 4, len(split)))
        array = array.reshape(split).transpose(order)
        return array.reshape(
            *array.shape[: lead + 2], stride**2 * channels, *array.shape[lead + 5 :]
        )

    return _conv(fold(x, 1), fold(kernel, 0), 1, ((0, 0), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, stride, padding):
    return plain_conv(x, kernel, stride, padding)


def _save_conv(x, kernel, stride, padding):
    return plain_conv(x, kernel, stride, padding), (x, kernel)


def _conv_gradient(stride, padding, saved, gradient):
    x, kernel = saved
    return (
        _input_gradient(x, kernel, stride, padding, gradient),
        _weight_gradient(x, kernel, stride, padding, gradient),
    )


_conv.defvjp(_save_conv, _conv_gradient)


def _input_gradient(x, kernel, stride, padding, gradient):
    if stride == 1:
        return jax.linear_transpose(lambda x: plain_conv(x, kernel, 1, padding), x)(gradient)[0]
    height, width = x.shape[1:3]
    high, wide = -(-height // stride), -(-width // stride)
    zero = jnp.zeros((), gradient.dtype)

    def phase(p, q):
        """Pixel t of a phase is reached by row i + m * stride of the kernel at output t + d - m."""
        (down, i), (right, j) = (divmod(a + low, stride) for a, (low, _) in zip((p, q), padding))
        part = kernel[i::stride, j::stride][::-1, ::-1].swapaxes(2, 3)
        if part.shape[0] == 0 or part.shape[1] == 0:
            return jnp.zeros((x.shape[0], high, wide, x.shape[3]), gradient.dtype)
        m, k = part.shape[0] - 1, part.shape[1] - 1
        edges = (
            (0, 0, 0),
            (m - down, high + down - gradient.shape[1], 0),
            (k - right, wide + right - gradient.shape[2], 0),
            (0, 0, 0),
        )
        return plain_conv(lax.pad(gradient, zero, edges), part, 1, ((0, 0), (0, 0)))

    return _interleave(
        [[phase(p, q) for q in range(stride)] for p in range(stride)], stride, height, width
    )


def _weight_gradient(x, kernel, stride, padding, gradient):
    """Summed over parts of so few images and rows that they stay in a core's cache."""
    n, rows = gradient.shape[:2]
    # Else XLA repeats what computed them in every part
    x, gradient = lax.optimization_barrier((x, gradient))
    row = (x[0].size + gradient[0].size) * x.dtype.itemsize / rows
    count = min(n, max(2 ** int(math.log2(max(_CHUNK / (row * rows), 1))), _FEWEST))
    high = min(rows, max(round(_CHUNK / (row * count)), _LOWEST))
    if high < rows:  # parts of the rows are cut out of the map with its edges
        x = lax.pad(
            x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*edge, 0) for edge in padding), (0, 0, 0))
        )
        padding = ((0, 0), (0, 0))
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
    # Apart from the convolutions: oneDNN cannot add to every result, and ends the process
    return functools.reduce(jnp.add, lax.optimization_barrier(parts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x, kernel, padding):
    return _save_product(x, kernel, padding)[0]


def _together(columns):
    """How many neighbouring outputs a row of the product computes."""
    return next(count for count in (4, 2, 1) if columns % count == 0)


def _save_product(x, kernel, padding):
    h, w, channels, features = kernel.shape
    (top, bottom), (left, right) = padding
    rows = _outputs(x.shape[1], top, bottom, h, 1)
    columns = _outputs(x.shape[2], left, right, w, 1)
    count = _together(columns)
    wide, groups = w + count - 1, columns // count
    windows = lax.pad(
        x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0))
    )
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


def _product_gradient(padding, saved, gradient):
    x, kernel, windows = saved
    h, w, channels, features = kernel.shape
    count = _together(gradient.shape[2])
    shifted = windows.T @ gradient.reshape(len(windows), -1)
    shifted = shifted.reshape(h, w + count - 1, channels, count, features)
    weights = functools.reduce(jnp.add, [shifted[:, i : i + w, :, i] for i in range(count)])
    return _input_gradient(x, kernel, 1, padding, gradient), weights


_product.defvjp(_save_product, _product_gradient)
