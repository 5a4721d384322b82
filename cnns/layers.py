"""The layers that every net is made of, and the base class of the nets.

Order: convolution -> batch norm -> activation -> LRN -> pool; but GoogLeNet's first LRN and those
of the cuda-convnet files that pool first follow the pool, as in the originals. Batch norm comes
before the activation and takes the place of the convolution's bias (Ioffe & Szegedy 2015,
Sec. 3.2); LRN comes after it (Krizhevsky et al. 2012, Sec. 3.3).
"""

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from cnns import fast as forms
from cnns.axes import ACTIVATIONS, AXES, NORMS, check_axes, unknown

# 'he': normal, variance 2 / fan-in (He et al. 2015, Eq. 10). 'glorot': uniform, variance
# 2 / (fan-in + fan-out) (Glorot & Bengio 2010, Eq. 16). 'lecun': normal, variance 1 / fan-in.
# Biases are 0.
INITS: dict[str, Callable] = {
    'he': nn.initializers.variance_scaling(2.0, 'fan_in', 'normal'),
    'glorot': nn.initializers.glorot_uniform(),
    'lecun': nn.initializers.lecun_normal(),
}

# Products of maps and of vectors, by the field `fast`
_CONVS = {True: forms.conv, False: forms.apart(lax.conv_general_dilated)}
_dot = forms.apart(lax.dot_general)
_local = forms.apart(lax.conv_general_dilated_local)


def activate(x: Array, activation: str) -> Array:
    """Applies the named activation to x, any shape."""
    check_axes(activation=activation)
    return ACTIVATIONS[activation](x)


EDGES = ('after', 'before', 'up', 'none')


def pool(
    x: Array, kind: str, overlap: bool, stride: int = 2, *, edges: str = 'after', fast: bool = True
) -> Array:
    """Pooling with a stride: [N, H, W, C] -> [N, H // stride, W // stride, C], dtype kept.

    Both values of `overlap` give the same size on every map. The window is `stride` wide, or
    stride + 1 if overlapping. Where an overlapping window would reach over the bottom or right
    edge (even maps, at stride 2) it takes fewer pixels there. A last row that does not
    fill a non-overlapping window is left out. Padding VALID would give maps of 16 and 15 from 32,
    and SAME maps of 7 from 13 where AlexNet has 6: neither changes the window alone.

    This is edges='after'. The others are PyTorch's windows on maps that a stride does not divide:
    'up' rounds the size up (ceil_mode); 'before' does too, and overlapping windows begin one pixel
    before the map (the padding of 1 in ResNet's stem); 'none' leaves out every window that reaches
    over an edge, so that the two overlaps differ in size on even maps.

    Max pooling ignores padding (-inf); average pooling divides by the pixels that exist.

    Raises:
      ValueError: an unknown kind or `edges`, or a map smaller than the stride.
    """
    check_axes(pool=kind, overlap=overlap)
    if edges not in EDGES:
        raise unknown('unknown edges', edges, EDGES)
    height, width = x.shape[1:3]
    if min(height, width) < stride:
        raise ValueError(
            f'a map of {height}x{width} cannot be pooled with stride {stride}; use a larger input.'
        )
    window = stride + overlap
    first = int(overlap and edges == 'before')
    if edges == 'none':
        counts = [(n - window) // stride + 1 for n in (height, width)]
    else:
        counts = [
            -(-n // stride) if edges in ('before', 'up') else n // stride for n in (height, width)
        ]
    # Only as much as the last window needs
    last = [
        max((count - 1) * stride + window - first - n, 0)
        for count, n in zip(counts, (height, width))
    ]
    padding = [(first, extra) for extra in last]
    return pool_windows(x, kind, window, stride, padding, fast=fast)


def pool_windows(
    x: Array, kind: str, window: int, stride: int, padding: Sequence, *, fast: bool = True
) -> Array:
    """Max or average pooling of [N, H, W, C]; `padding` ((top, bottom), (left, right)).

    Max pooling ignores padding, average pooling divides by the pixels that exist. `fast` allows
    other forms of the same operation, see cnns/fast.
    """
    if kind == 'max':
        return (forms.max_pool if fast else forms.plain_max_pool)(x, window, stride, padding)
    sums = (forms.sum_pool if fast else forms.plain_sum_pool)(x, window, stride, padding)
    rows, columns = (
        _pixels(size, low, high, window, stride) for size, (low, high) in zip(x.shape[1:3], padding)
    )
    counts = np.outer(rows, columns)
    return sums / jnp.asarray(counts[..., None], x.dtype)


def _pixels(size, low, high, window, stride):
    """How many pixels that exist each window has, along one side of the map."""
    exists = np.pad(np.ones(size), (low, high))
    return np.lib.stride_tricks.sliding_window_view(exists, window)[::stride].sum(-1)


def adaptive_average(x: Array, side: int) -> Array:
    """[N, H, W, C] -> [N, side, side, C], as PyTorch's AdaptiveAvgPool2d.

    Window i of n pixels is from floor(i n / side) to ceil((i + 1) n / side).
    """
    for axis in (1, 2):
        n = x.shape[axis]
        spans = [(i * n // side, -(-(i + 1) * n // side)) for i in range(side)]
        parts = [jax.lax.slice_in_dim(x, *span, axis=axis).mean(axis) for span in spans]
        x = jnp.stack(parts, axis) if n != side else x
    return x


def lrn(
    x: Array,
    *,
    n: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    alpha_over_n: bool = False,
    fast: bool = True,
) -> Array:
    """Local response normalisation across channels; x [..., C], shape and dtype kept.

    b_i = a_i / (k + alpha * sum_j a_j^2)^beta, j from i - n//2 to i + n//2 within the channels
    (Krizhevsky et al. 2012, Sec. 3.3, with its constants as defaults). This is the formula as
    printed. The author's later code, Caffe and PyTorch divide alpha by n: `alpha_over_n=True`
    does too, so PyTorch's LocalResponseNorm(5) is lrn(x, k=1.0, alpha_over_n=True).

    Raises:
      ValueError: n is not a positive odd number.
    """
    if n < 1 or n % 2 == 0:
        raise ValueError(
            f'the window n of LRN is {n}; it must be odd, the channel with its '
            'neighbours on both sides.'
        )
    # In float32: beside k = 2, bfloat16 rounds away any alpha * sum below 1/128
    form = forms.lrn if fast else forms.plain_lrn
    alpha = alpha / n if alpha_over_n else alpha
    return form(x.astype(jnp.float32), n, k, alpha, beta).astype(x.dtype)


def lrn_within(
    x: Array,
    *,
    n: int = 3,
    k: float = 1.0,
    alpha: float = 5e-5,
    beta: float = 0.75,
    fast: bool = True,
) -> Array:
    """Response normalisation within each map; x [N, H, W, C], shape and dtype kept.

    b = a / (k + alpha / n^2 * sum of a^2 over the n x n pixels around)^beta: the layer 'rnorm' of
    cuda-convnet, with the constants of its file layers-18pct. It is not LRN.
    """
    a = x.astype(jnp.float32)
    edge = (n // 2, n - 1 - n // 2)
    sums = (forms.sum_pool if fast else forms.plain_sum_pool)(jnp.square(a), n, 1, (edge, edge))
    return (a * (k + alpha / n**2 * sums) ** -beta).astype(x.dtype)


def flat(x: Array) -> Array:
    """[N, ...] -> [N, features]; N may be 0, or a symbol of jax.export."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def convolve(x: Array, kernel: Array, *, fast: bool = True) -> Array:
    """[N, H, W, C] by a kernel [h, w, C, features], stride 1, no padding."""
    return _CONVS[fast](
        x, kernel, (1, 1), ((0, 0), (0, 0)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


class Conv(nn.Module):
    """Convolution -> batch norm -> activation -> LRN; [N, H, W, C] -> [N, H', W', features].

    `padding` is one number for all four edges, or flax's pairs. activation=None leaves the
    activation to the caller (residual blocks add first). With batch norm the convolution has no
    bias unless `bias` is True. The statistics of batch norm are over all axes but the last,
    averaged over the devices of `axis_name` if that is given; inference uses running averages
    (decay 0.9) of the mean and of the biased variance. The paper's Alg. 2 has the unbiased
    variance there, a factor m/(m-1) with m values per channel (Ioffe & Szegedy 2015).
    """

    features: int
    kernel: int
    activation: str | None
    norm: str
    stride: int = 1
    padding: int | tuple = 0
    groups: int = 1
    bias: bool | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    lrn: Callable = lrn
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    fast: bool = True

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        check_axes(norm=self.norm)
        padding, batch = self.padding, 'batch' in NORMS[self.norm]
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            [(padding, padding)] * 2 if isinstance(padding, int) else padding,
            feature_group_count=self.groups,
            use_bias=not batch if self.bias is None else self.bias,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            conv_general_dilated=_CONVS[self.fast],
            name='conv',
        )(x)
        if batch:
            x = batch_norm(self, train)(x)
        if self.activation is not None:
            x = activate(x, self.activation)
        return self.lrn(x) if 'lrn' in NORMS[self.norm] else x


def batch_norm(fields: Any, train: bool, name: str = 'norm') -> nn.Module:
    """Batch normalisation as every net here uses it; `fields` is a Conv or a Net."""
    same = dict(momentum=0.9, epsilon=fields.epsilon, axis_name=fields.axis_name, name=name)
    same |= dict(dtype=fields.dtype, param_dtype=fields.param_dtype)
    if train and fields.fast:
        return BatchNorm(**same)
    return nn.BatchNorm(use_running_average=not train, **same)


class BatchNorm(nn.Module):
    """flax's nn.BatchNorm in training, with its parameters and statistics, by fast.batch_norm."""

    momentum: float
    epsilon: float
    axis_name: str | None
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        averages = (
            self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32),
            self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32),
        )
        scale = self.param('scale', nn.initializers.ones, shape, self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, shape, self.param_dtype)
        common = jnp.result_type(x, scale, bias, jnp.float32)  # float32 at least, as in flax
        x, scale, bias = (array.astype(common) for array in (x, scale, bias))
        axis_name = None if self.is_initializing() else self.axis_name
        y, *statistics = forms.batch_norm(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            for average, new in zip(averages, statistics, strict=True):
                average.value = self.momentum * average.value + (1 - self.momentum) * new
        return y.astype(self.dtype)


class LocalConv(nn.Module):
    """flax's nn.ConvLocal, a kernel and a bias for each place; [N, H, W, C] -> [N, H', W', C'].

    The fast form keeps the bias out of the product: with such a bias, which differs from place to
    place, oneDNN computes the product by its reference code, about 30 times slower.
    """

    features: int
    kernel: int
    padding: int
    kernel_init: Callable
    bias_init: Callable
    dtype: DTypeLike
    param_dtype: DTypeLike
    fast: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size, edges = (self.kernel, self.kernel), [(self.padding, self.padding)] * 2
        places = [n + 2 * self.padding - self.kernel + 1 for n in x.shape[1:3]]
        shape = (*places, self.kernel**2 * x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
        bias = self.param('bias', self.bias_init, (*places, self.features), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        layout = ('NHWC', 'HWIO', 'NHWC')
        y = _local(x, kernel, (1, 1), edges, size, dimension_numbers=layout)
        return forms.alone(y) + bias if self.fast else y + bias


class SlidingDense(nn.Module):
    """A dense layer that reads window x window maps, as a convolution over a larger map.

    [N, H, W, C] -> [N, H', W', features]. Its kernel [window * window * C, features] is that of
    flax's Dense, read as [window, window, C, features].
    """

    features: int
    window: int
    kernel_init: Callable
    bias_init: Callable
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Array) -> Array:
        rows = self.window**2 * x.shape[-1]
        kernel = self.param('kernel', self.kernel_init, (rows, self.features), self.param_dtype)
        bias = self.param('bias', self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        kernel = kernel.reshape(self.window, self.window, x.shape[-1], self.features)
        return bias + convolve(x, kernel, fast=False)


class Net(nn.Module):
    """The fields that every net has. A net adds the axes, with its paper's choices as defaults.

    Call: net.apply(variables, x, train=...) with x float [N, H, W, channels] gives float32 logits
    [N, classes]. features=True gives the last hidden layer instead, features='conv3' the output of
    that layer; the names are those of the parameter tree and of the paper's table.

    LACKS: {axis: reason} for the axes that the net does not have.
    VALUES: {axis: values} that this net takes beside those of AXES.
    OWN_INITS: names that `initialiser` takes beside those of INITS.
    CHOICES: {field: values} of other fields that take one of a few values.
    """

    LACKS: ClassVar[dict[str, str]] = {}
    VALUES: ClassVar[dict[str, tuple]] = {}
    OWN_INITS: ClassVar[tuple[str, ...]] = ('paper',)
    CHOICES: ClassVar[dict[str, tuple]] = {}

    classes: int = 1000
    channels: int = 3
    initialiser: str = 'paper'  # of the weights: one of OWN_INITS or INITS
    axis_name: str | None = None  # mapped axis over which batch norm averages its statistics
    dtype: DTypeLike = jnp.float32  # of the computation
    param_dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-5  # added to the variance by batch norm
    fast: bool = True  # allow other forms of the same operations, see cnns/fast


def check_fields(name: str, net: type[Net], fields: dict) -> None:
    """Raises ValueError for an axis that the net lacks, or a value that it cannot take."""
    for field, value in fields.items():
        if field in ('classes', 'channels') and not (type(value) is int and value > 0):
            raise ValueError(f'{name}: {field} is {value!r}, it must be a whole number from 1.')
        for lacked, what in ((field, 'axis'), (f'{field}={value}', 'choice')):
            if lacked in net.LACKS:
                raise ValueError(
                    f'{name} has no {what} {lacked!r}: {net.LACKS[lacked]}. Leave it out.'
                )
        if field in AXES and value not in net.VALUES.get(field, ()):
            check_axes(**{field: value})
        if value not in (allowed := net.CHOICES.get(field, (value,))):
            raise unknown(f'unknown {field}', value, allowed)
    if fields.get('initialiser', 'he') not in (*net.OWN_INITS, *INITS):
        raise unknown('unknown initialiser', fields['initialiser'], (*net.OWN_INITS, *INITS))


def check_counts(what: str, values: tuple[int, ...], length: int | None = None) -> None:
    """Raises ValueError unless there are `length` numbers (None: some), each at least 1."""
    if not values or len(values) != (length or len(values)) or min(values) < 1:
        wanted = f'{length} numbers' if length else 'one or more numbers'
        raise ValueError(f'{what} is {values}, it must be {wanted}, each at least 1.')


class Layers:
    """The layers of one call of a net: one method for each kind, given the layer's name first.

    They read axes, initialiser and types from the fields of the net, so that a net's own code is
    its table, and they record every output for `features`.

    `weights` and `bias` are the paper's initialisers (bias: a number, or an initialiser), for all
    layers or for one; initialiser='he' and the like replace them.
    """

    def __init__(
        self,
        net: Net,
        x: Array,
        *,
        train: bool,
        lrn: Callable = lrn,
        weights: Callable | None = None,
        bias: float | Callable = 0.0,
    ):
        """Raises ValueError for fields or images [N, H, W, C] that the net cannot take."""
        self.axes = {axis: getattr(net, axis) for axis in AXES if hasattr(net, axis)}
        chosen = {field: getattr(net, field) for field in (*net.CHOICES, 'initialiser')}
        check_fields(type(net).__name__, type(net), {**self.axes, **chosen})
        if x.ndim != 4 or x.shape[-1] != net.channels:
            remedy = f'Set channels={x.shape[-1]}, or convert the images' if x.ndim == 4 else ''
            raise ValueError(
                f'{type(net).__name__} was built for images [N, H, W, {net.channels}], it was '
                f'given {tuple(x.shape)}. {remedy or "One image is a batch too: images[None]"}.'
            )
        self.net, self.train = net, train
        self.norm = self.axes.get('norm', 'none')
        self.has_batch, self.has_lrn = (kind in NORMS[self.norm] for kind in ('batch', 'lrn'))
        self.outputs: dict[str, Array] = {}
        self._lrn = functools.partial(lrn, fast=net.fast)
        self._weights, self._bias = weights, bias
        self._path = ''

    def conv(
        self,
        name: str,
        x: Array,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | tuple = 0,
        groups: int = 1,
        linear: bool = False,
        lrn: bool = False,
        weights: Callable | None = None,
        bias: float | Callable | None = None,
    ) -> Array:
        """Convolution, batch norm, activation unless `linear`; with `lrn`, LRN: where norm says."""
        if x.shape[-1] % groups or width % groups:
            raise ValueError(
                f'{name} turns {x.shape[-1]} into {width} channels, which {groups} '
                'groups do not divide. Change groups.'
            )
        layer = Conv(
            width,
            kernel,
            None if linear else self.axes['activation'],
            self.norm if lrn else 'batch' if self.has_batch else 'none',
            stride,
            padding,
            groups,
            getattr(self.net, 'bias', None),
            lrn=self._lrn,
            epsilon=self.net.epsilon,
            axis_name=self.net.axis_name,
            fast=self.net.fast,
            name=name,
            **self._fields(weights, bias),
        )
        return self.keep(name, layer(x, train=self.train))

    def local(
        self, name: str, x: Array, width: int, kernel: int, *, padding: int, weights: Callable
    ) -> Array:
        """Locally connected layer, a kernel and bias of its own at every place; activation."""
        fields = self._fields(weights, None) | dict(fast=self.net.fast, name=name)
        x = LocalConv(width, kernel, padding, **fields)(x)
        return self.keep(name, activate(x, self.axes['activation']))

    def dense(
        self,
        name: str,
        x: Array,
        units: int,
        *,
        window: int | None = None,
        linear: bool = False,
        norm: bool = False,
        weights: Callable | None = None,
        bias: float | Callable | None = None,
    ) -> Array:
        """Fully connected, activation unless `linear`; [N, ...] is flattened to [N, features].

        With `norm`, batch norm where norm has it. With `window`, the layer of window x window maps
        with the same variables slides over a larger map: [N, H, W, C] -> [N, H', W', units].
        """
        fields = self._fields(weights, bias)
        norm = norm and self.has_batch
        if window is not None:
            x = SlidingDense(units, window, name=name, **fields)(x)
        else:
            x = nn.Dense(units, not norm, dot_general=_dot, name=name, **fields)(flat(x))
        if norm:
            x = batch_norm(self.net, self.train, f'{name}_norm')(x)
        return self.keep(name, x if linear else activate(x, self.axes['activation']))

    def pool(
        self,
        name: str,
        x: Array,
        *,
        kind: str | None = None,
        overlap: bool | None = None,
        edges: str = 'after',
    ) -> Array:
        """Pooling with stride 2, of the net's own kind and overlap unless others are given."""
        kind = self.axes['pool'] if kind is None else kind
        overlap = self.axes['overlap'] if overlap is None else overlap
        with jax.named_scope(name):
            return self.keep(name, pool(x, kind, overlap, edges=edges, fast=self.net.fast))

    def global_average(self, name: str, x: Array) -> Array:
        """[N, H, W, C] -> [N, C]."""
        with jax.named_scope(name):
            return self.keep(name, x.mean((1, 2)))

    def normalise(self, name: str, x: Array) -> Array:
        """LRN where norm has it, nothing otherwise."""
        with jax.named_scope(name):
            return self.keep(name, self._lrn(x)) if self.has_lrn else x

    def activate(self, name: str, x: Array, *, lrn: bool = False) -> Array:
        """The activation alone, after a sum of branches; `lrn` as in conv."""
        with jax.named_scope(name):
            x = activate(x, self.axes['activation'])
            return self.keep(name, self._lrn(x) if lrn and self.has_lrn else x)

    def block(self, name: str, kind: Callable, x: Array, **fields: Any) -> Array:
        """A module whose field `layer` makes its layers, which are recorded as 'name/layer'."""
        layer = copy.copy(self)
        layer._path = f'{self._path}{name}/'
        return self.keep(name, kind(layer=layer, name=name, **fields)(x))

    def keep(self, name: str, x: Array) -> Array:
        """Records x as the output of the layer `name`, and returns it."""
        self.outputs[self._path + name] = x
        return x

    def result(self, logits: Array, features: bool | str) -> Array:
        """What the net returns: logits in float32, or the layer that `features` asks for.

        Raises ValueError for a layer that does not exist.
        """
        if features is False:
            return logits.astype(jnp.float32)
        if features is True:
            return list(self.outputs.values())[-2]
        if features not in self.outputs:
            raise unknown('unknown layer', features, self.outputs)
        return self.outputs[features]

    def _fields(self, weights, bias):
        """The fields of a flax layer: its initialisers and types."""
        net = self.net
        types = dict(dtype=net.dtype, param_dtype=net.param_dtype)
        if net.initialiser in INITS:
            return types | dict(kernel_init=INITS[net.initialiser], bias_init=nn.initializers.zeros)
        weights = self._weights if weights is None else weights
        bias = self._bias if bias is None else bias
        if weights is None:
            raise ValueError(
                f'{type(net).__name__} gives a layer no initial weights of its '
                f'own, which initialiser={net.initialiser!r} asks for. Pass '
                f'weights= to the layer, or set initialiser to {", ".join(INITS)}.'
            )
        bias_init = bias if callable(bias) else nn.initializers.constant(bias)
        return types | dict(kernel_init=weights, bias_init=bias_init)
