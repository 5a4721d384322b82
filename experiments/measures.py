"""Measures: what a config asks to be read off a net at chosen epochs, beside losses and errors.

    config.measure.names = ('gradient_norms', 'dead_units')
    config.measure.epochs = (0, 5, 20)    # 0: before the first step; (): after the last epoch

A measure is a pure function of (net, variables, images, labels), with images float32 [N, H, W, C]
as the net sees them, labels int32 [N], and the net's stored batch statistics in use unless it says
otherwise. It returns {name: number or list of numbers}. Its images are the first
config.measure.images of the validation split, so that no measure reads the test split. To add one,
write the function and decorate it: that is its one place.

    row['measures'] = {'gradient_norms': {'0': {'conv1': 0.12, ...}, '20': {...}}}
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from cnns import layers

MEASURES: dict[str, Callable] = {}
SHIFTS = range(6)  # pixels
PERCENTILES = (15, 50, 85)  # of Fig. 1 b and c of the paper on batch norm


def measure(function: Callable) -> Callable:
    MEASURES[function.__name__] = function
    return function


def evaluate(names, net, variables, images, labels) -> dict[str, dict[str, Any]]:
    """The values of all these measures: {measure: {name: float or list}}, NumPy arrays."""
    return {name: MEASURES[name](net, variables, images, labels) for name in names}


def first_line(name: str) -> str:
    """What a measure is, in one line."""
    return (MEASURES[name].__doc__ or name).strip().splitlines()[0].rstrip('.')


# --- gradients -----------------------------------------------------------------------------------


@measure
def gradient_norms(net, variables, images, labels):
    """Norm of the gradient of the loss by layer, of its weights alone.

    With the statistics of the batch where there is batch norm, as in training; without dropout.
    """
    return _norms(_gradient(net, variables, images, labels))


@measure
def branch_gradient_norms(net, variables, images, labels):
    """Norm of the gradient by branch of each block: of the weights of its last convolution."""
    norms = _norms(_gradient(net, variables, images, labels))
    return {branch: norms[branch] for branch in branches(variables['params'])}


def _gradient(net, variables, images, labels):
    rest = {name: value for name, value in variables.items() if name != 'params'}

    def loss(params):
        # dropout that keeps every unit: its rate belongs to the net, so a key alone will not do
        with nn.intercept_methods(_without_dropout):
            logits, _ = net.apply(
                {'params': params, **rest}, images, train=True, mutable=['batch_stats', 'auxiliary']
            )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.grad(loss)(variables['params'])


def _without_dropout(method, args, kwargs, context):
    if isinstance(context.module, nn.Dropout) and context.method_name == '__call__':
        return args[0]
    return method(*args, **kwargs)


def _norms(tree):
    """{layer: norm of its kernel}, in the order of the tree."""
    flat = {path: leaf for path, leaf in flatten_dict(tree).items() if path[-1] == 'kernel'}
    return {_layer(path): _norm(leaf) for path, leaf in flat.items()}


def _norm(leaf):
    """Of a gradient as small as float32 has: the squares of those below 1e-19 would be zero."""
    largest = jnp.abs(leaf).max()
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.linalg.norm(leaf.ravel() / scale)


def _layer(path: tuple[str, ...]) -> str:
    """The name of a layer as its paper's table has it: 'conv2_1/conv1'."""
    return '/'.join(name for name in path[:-1] if name != 'conv')


# --- responses -----------------------------------------------------------------------------------


@measure
def response_deviations(net, variables, images, labels):
    """Standard deviation of the responses by layer: after batch norm, before the activation.

    Layers without batch norm: of the convolution or product itself (He et al. 2015, Fig. 7).
    """
    return {name: value.std() for name, value in _responses(net, variables, images).items()}


@measure
def response_means(net, variables, images, labels):
    """Mean of the responses by layer, as response_deviations has them."""
    return {name: value.mean() for name, value in _responses(net, variables, images).items()}


@measure
def response_percentiles(net, variables, images, labels):
    """15th, 50th and 85th percentile by layer of the responses of its first unit.

    Of the input of the activation (Ioffe & Szegedy 2015, Fig. 1 b and c, a typical unit).
    """
    found = _responses(net, variables, images)
    at = jnp.array(PERCENTILES)
    return {name: jnp.percentile(value[..., 0], at) for name, value in found.items()}


@measure
def channel_correlations(net, variables, images, labels):
    """How alike the channels of a layer are: mean size of the correlation of two of them.

    Over images and places, of the outputs of every hidden layer; constant channels are left out.
    """
    found = {}
    for name, value in _outputs(net, variables, images).items():
        channels = value.reshape(-1, value.shape[-1]).astype(jnp.float32)
        sizes = jnp.abs(jnp.corrcoef(channels, rowvar=False)).reshape(channels.shape[1:] * 2)
        pairs = sizes[jnp.triu_indices(channels.shape[1], 1)]
        found[name] = jnp.nanmean(pairs)
    return found


@measure
def dead_units(net, variables, images, labels):
    """Share of units by layer that no image makes positive, of channels in convolutions."""
    found = {}
    for name, value in _outputs(net, variables, images).items():
        active = (value > 0).reshape(-1, value.shape[-1]).any(0)
        found[name] = 1 - active.mean()
    return found


def _responses(net, variables, images) -> dict[str, jax.Array]:
    norms, sums = (nn.BatchNorm, layers.BatchNorm), (nn.Conv, nn.Dense)
    of_kinds = lambda module, method: isinstance(module, (*norms, *sums))
    _, state = net.apply(variables, images, train=False, capture_intermediates=of_kinds)
    found = {}
    # a norm comes after the sum of its layer and replaces it
    for path, (value,) in flatten_dict(state['intermediates']).items():
        parts = [name for name in path[:-1] if name not in ('conv', 'norm')]
        found['/'.join(parts).removesuffix('_norm')] = value.astype(jnp.float32)
    return found


def _outputs(net, variables, images) -> dict[str, jax.Array]:
    """Every hidden layer's output with weights of its own, in the order of the parameters."""
    names = dict.fromkeys(_layer(path) for path in flatten_dict(variables['params']))
    hidden = [name for name in names if not name.endswith(('/norm', '_norm'))]
    found = {}
    for name in hidden:
        try:
            found[name] = net.apply(variables, images, train=False, features=name)
        except ValueError:  # it has no output of its own name: the norm of a layer
            continue
    return found


# --- errors under changes ------------------------------------------------------------------------


def _error(net, variables, images, labels):
    return (net.apply(variables, images, train=False).argmax(-1) != labels).mean()


@measure
def shift_errors(net, variables, images, labels):
    """Error of images shifted by 0 to 5 pixels: the mean over right, left, down and up.

    What comes in at the edge repeats the edge's pixels.
    """
    most, (height, width) = max(SHIFTS), images.shape[1:3]
    wide = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode='edge')
    cut = lambda down, right: jax.lax.dynamic_slice(
        wide, (0, most - down, most - right, 0), (len(images), height, width, images.shape[-1])
    )
    found = {}
    for shift in SHIFTS:
        moves = ((0, shift), (0, -shift), (shift, 0), (-shift, 0)) if shift else ((0, 0),)
        errors = [_error(net, variables, cut(*move), labels) for move in moves]
        found[str(shift)] = sum(errors) / len(errors)
    return found


@measure
def permuted_error(net, variables, images, labels):
    """Error of the images as they are, and with all pixels in another, fixed order."""
    pixels = images.reshape(len(images), -1, images.shape[-1])
    order = jax.random.permutation(jax.random.key(0), pixels.shape[1])
    moved = pixels[:, order].reshape(images.shape)
    found = {'whole': images, 'permuted': moved}
    return {name: _error(net, variables, own, labels) for name, own in found.items()}


@measure
def branch_errors(net, variables, images, labels):
    """Error with one branch of a block at zero, for each branch of each block; 'whole' without."""
    flat = flatten_dict(variables['params'])
    names = branches(variables['params'])
    owners = [tuple(name.split('/')) for name in names]
    kept = {path: jnp.array([path[: len(owner)] != owner for owner in owners]) for path in flat}

    def error(keep):
        cut = {path: jnp.where(keep[path], leaf, 0) for path, leaf in flat.items()}
        changed = {**variables, 'params': unflatten_dict(cut)}
        return _error(net, changed, images, labels)

    # one program for all branches: a copy of the net for each takes minutes to compile
    errors = jax.lax.map(error, kept)
    return {'whole': _error(net, variables, images, labels), **dict(zip(names, errors))}


def branches(params) -> list[str]:
    """The last convolutions of the branches of Inception blocks: 'inception_3a/5x5'.

    Raises:
      ValueError: the net has none.
    """
    ends = ('1x1', '3x3', '5x5', 'pool_proj')
    blocks = [block for block in params if block.startswith('inception')]
    found = [f'{block}/{end}' for block in blocks for end in ends if end in params[block]]
    if not found:
        raise ValueError('the net has no blocks with branches; this measure is for GoogLeNet')
    return found


# --- filters -------------------------------------------------------------------------------------


@measure
def colour_index(net, variables, images, labels):
    """Colour of each first-layer filter, 0 for a grey one up to 1 (AlexNet, Fig. 3).

    The share of a filter's squared weights that is left after the mean over its input channels is
    taken away: a filter that is the same for red, green and blue has 0.
    """
    layer, kernel = _first_kernel(variables)
    colour = kernel - kernel.mean(2, keepdims=True)
    return {layer: (colour**2).sum((0, 1, 2)) / (kernel**2).sum((0, 1, 2))}


@measure
def first_filters(net, variables, images, labels):
    """Weights of the first-layer filters, [filters, height, width, channels] (AlexNet, Fig. 3)."""
    layer, kernel = _first_kernel(variables)
    return {layer: jnp.moveaxis(kernel, -1, 0)}


def _first_kernel(variables) -> tuple[str, jax.Array]:
    """Name and kernel [height, width, in, out] of the first convolution."""
    flat = flatten_dict(variables['params'])
    path = next(path for path, leaf in flat.items() if path[-1] == 'kernel' and leaf.ndim == 4)
    return _layer(path), flat[path]
