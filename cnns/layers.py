"""The four axes of the ablations, spelled once, and the layer that combines them.

    activation  'tanh', 'relu', 'sigmoid', 'scaled_tanh'
    pool        'average', 'max'
    overlap     False: window = stride; True: window = stride + 1, the same output size
    norm        'none', 'lrn', 'batch'

Order, the same in every net: convolution -> batch norm -> activation -> LRN -> pool. Batch norm
stands before the activation and takes the place of the convolution's bias (Ioffe & Szegedy 2015,
Sec. 3.2); LRN stands after it (Krizhevsky et al. 2012, Sec. 3.3).
"""

import difflib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def scaled_tanh(x):
    """1.7159 tanh(2x/3): f(1) = 1 and f(-1) = -1 (LeCun et al. 1998, Eq. 6 and App. A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


ACTIVATIONS = {'tanh': jnp.tanh, 'relu': jax.nn.relu, 'sigmoid': jax.nn.sigmoid,
               'scaled_tanh': scaled_tanh}
POOLS = ('average', 'max')
OVERLAPS = (False, True)
NORMS = ('none', 'lrn', 'batch')
AXES = {'activation': tuple(ACTIVATIONS), 'pool': POOLS, 'overlap': OVERLAPS, 'norm': NORMS}


def check_axes(**values) -> None:
    """Raises ValueError for a value that its axis does not have, naming the nearest one."""
    for axis, value in values.items():
        allowed = AXES[axis]
        # 1 == True in Python; an overlap of 1 would be a window of unknown meaning
        if not any(value == known and type(value) is type(known) for known in allowed):
            close = difflib.get_close_matches(str(value), map(str, allowed), n=1)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise ValueError(f'unknown {axis} {value!r}.{hint} '
                             f'Allowed: {", ".join(map(str, allowed))}.')


def activate(x, activation: str):
    """Applies the named activation to x, any shape."""
    check_axes(activation=activation)
    return ACTIVATIONS[activation](x)


def pool(x, kind: str, overlap: bool, stride: int = 2):
    """Downsamples maps by `stride`: [N, H, W, C] -> [N, H // stride, W // stride, C],
    dtype kept.

    Both values of `overlap` give the same size on every map. The window is `stride` wide, or
    stride + 1 if overlapping; where an overlapping window would run over the bottom or right
    edge (even maps, at stride 2) it takes fewer pixels there. A last row that no window of the
    non-overlapping kind fills is left out. Padding VALID would give maps of 16 and 15 from 32,
    and SAME maps of 7 from 13 where AlexNet has 6: neither changes the window alone.

    Maxima ignore the edge's padding (-inf); averages divide by the pixels that exist.

    Raises:
      ValueError: an unknown kind, or a map smaller than the stride.
    """
    check_axes(pool=kind, overlap=overlap)
    height, width = x.shape[1:3]
    if min(height, width) < stride:
        raise ValueError(f'a map of {height}x{width} cannot be pooled with stride {stride}; '
                         'use a larger input.')
    window = stride + overlap
    # Only as much as the last window needs: 1 on even maps at stride 2, 0 on odd ones
    padding = [(0, max((n // stride - 1) * stride + window - n, 0)) for n in (height, width)]
    window, strides = (1, window, window, 1), (1, stride, stride, 1)
    padding = ((0, 0), *padding, (0, 0))
    if kind == 'max':
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)
    sums = lax.reduce_window(x, 0.0, lax.add, window, strides, padding)
    ones = jnp.ones((1, height, width, 1), x.dtype)
    return sums / lax.reduce_window(ones, 0.0, lax.add, window, strides, padding)


def lrn(x, *, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75,
        alpha_over_n: bool = False):
    """Local response normalisation across channels; x [..., C], shape and dtype kept.

    b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j from i - n//2 to i + n//2 within the channels
    (Krizhevsky et al. 2012, Sec. 3.3, with its constants as defaults). This is the formula as
    printed. The author's later code, Caffe and PyTorch divide alpha by n: `alpha_over_n=True`
    does too, so PyTorch's LocalResponseNorm(5) is lrn(x, k=1.0, alpha_over_n=True).

    Raises:
      ValueError: n is not a positive odd number.
    """
    if n < 1 or n % 2 == 0:
        raise ValueError(f'the window n of LRN is {n}; it must be odd, the channel with its '
                         'neighbours on both sides.')
    # In float32: beside k = 2, bfloat16 rounds away any alpha * sum below 1/128
    a = x.astype(jnp.float32)
    ones = (1,) * (x.ndim - 1)
    sums = lax.reduce_window(jnp.square(a), 0.0, lax.add, (*ones, n), (*ones, 1),
                             [(0, 0)] * len(ones) + [(n // 2, n // 2)])
    return (a * (k + (alpha / n if alpha_over_n else alpha) * sums) ** -beta).astype(x.dtype)


class Norm(nn.Module):
    """Batch normalisation as every net here uses it; x [..., C], the same shape back.

    Training: statistics of the batch over all axes but the last, averaged over the devices of
    `axis_name` if that is given. Inference: running averages (decay 0.9) of the mean and of the
    biased variance; the paper's Alg. 2 uses the unbiased one, a factor m/(m-1) with m values per
    channel (Ioffe & Szegedy 2015).
    """

    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5,
                            axis_name=self.axis_name, dtype=self.dtype,
                            param_dtype=self.param_dtype, name='batch')(x)


class Conv(nn.Module):
    """Convolution -> batch norm -> activation -> LRN; [N, H, W, C] -> [N, H', W', features].

    Stride, padding and groups are flax's. With norm='batch' the convolution has no bias.
    """

    features: int
    kernel: int
    activation: str
    norm: str
    stride: int = 1
    padding: int = 0
    groups: int = 1
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        check_axes(norm=self.norm)
        x = nn.Conv(self.features, (self.kernel, self.kernel), self.stride,
                    [(self.padding, self.padding)] * 2, feature_group_count=self.groups,
                    use_bias=self.norm != 'batch', dtype=self.dtype,
                    param_dtype=self.param_dtype, name='conv')(x)
        if self.norm == 'batch':
            x = Norm(self.axis_name, self.dtype, self.param_dtype, name='norm')(x, train=train)
        x = activate(x, self.activation)
        return lrn(x) if self.norm == 'lrn' else x
