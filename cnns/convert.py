"""Weights between PyTorch and these nets, in torchvision's layout, both ways.

    net = convert.build('resnet18')
    variables = convert.from_torch('resnet18', convert.load('resnet18.pth'))
    logits = net.apply(variables, images, train=False)  # images [N, 224, 224, 3], normalised

    convert.save('mine.safetensors', convert.to_torch('resnet18', variables))

Kernels change from [out, in, height, width] to [height, width, in, out] and matrices from
[out, in] to [in, out]; the inputs of the matrix that reads a map change from channel, height, width
to height, width, channel. No value is changed, so both ways are exact.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

import cnns
from cnns import layers
from cnns.axes import unknown
from cnns.tensors import load, save

__all__ = ['MODELS', 'build', 'from_torch', 'load', 'save', 'sizes', 'to_torch']

SIDE = 224  # pixels of the images that the fully connected layers are made for

_NAMED = 10  # tensors of each kind that an error names


class _Layer(NamedTuple):
    """One layer in both vocabularies."""

    ours: str  # 'inception_3a/3x3'
    theirs: str  # prefix of the convolution or matrix
    norm: str | None = None  # prefix of the batch norm
    map_shape: tuple[int, int, int] | None = None  # channels, height, width that a matrix reads


# --- names -----------------------------------------------------------------------------------


def _alexnet():
    for i, place in enumerate((0, 3, 6, 8, 10), start=1):
        yield _Layer(f'conv{i}', f'features.{place}')
    yield _Layer('fc6', 'classifier.1', map_shape=(256, 6, 6))
    yield _Layer('fc7', 'classifier.4')
    yield _Layer('fc8', 'classifier.6')


def _vgg(blocks, batch_norm):
    place = 0  # in one list of convolutions, batch norms, activations and pools
    for i, count in enumerate(blocks, start=1):
        for j in range(1, count + 1):
            norm = f'features.{place + 1}' if batch_norm else None
            yield _Layer(f'conv{i}_{j}', f'features.{place}', norm)
            place += 3 if batch_norm else 2
        place += 1
    yield _Layer('fc6', 'classifier.0', map_shape=(512, 7, 7))
    yield _Layer('fc7', 'classifier.3')
    yield _Layer('fc8', 'classifier.6')


def _googlenet():
    def conv(ours, theirs):
        return _Layer(ours, f'{theirs}.conv', f'{theirs}.bn')

    for ours, theirs in (('conv1', 'conv1'), ('conv2_reduce', 'conv2'), ('conv2', 'conv3')):
        yield conv(ours, theirs)
    here = ('1x1', '3x3_reduce', '3x3', '5x5_reduce', '5x5', 'pool_proj')
    there = ('branch1', 'branch2.0', 'branch2.1', 'branch3.0', 'branch3.1', 'branch4.1')
    for block in ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b'):
        for ours, theirs in zip(here, there, strict=True):
            yield conv(f'inception_{block}/{ours}', f'inception{block}.{theirs}')
    for ours, theirs in (('aux_4a', 'aux1'), ('aux_4d', 'aux2')):
        yield conv(f'{ours}/conv', f'{theirs}.conv')
        yield _Layer(f'{ours}/fc1', f'{theirs}.fc1', map_shape=(128, 4, 4))
        yield _Layer(f'{ours}/fc2', f'{theirs}.fc2')
    yield _Layer('fc', 'fc')


def _resnet(blocks, convs):
    yield _Layer('conv1', 'conv1', 'bn1')
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            ours, theirs = f'conv{stage + 1}_{block + 1}', f'layer{stage}.{block}'
            for i in range(1, convs + 1):
                yield _Layer(f'{ours}/conv{i}', f'{theirs}.conv{i}', f'{theirs}.bn{i}')
            if block == 0 and (stage > 1 or convs == 3):  # where the width changes
                yield _Layer(f'{ours}/shortcut', f'{theirs}.downsample.0', f'{theirs}.downsample.1')
    yield _Layer('fc', 'fc')


# torchvision's name: (our net, the fields that make it compute the same, what yields the layers).
_ALEXNET = dict(norm='none', conv1_padding=2, dropout_on='inputs', adaptive=True)
_GOOGLENET = dict(norm='batch', epsilon=1e-3, third_kernel=3, last_overlap=False)
MODELS: dict[str, tuple[str, dict[str, Any], Callable[[], Iterator[_Layer]]]] = {
    'alexnet': ('alexnet_one_tower', _ALEXNET, _alexnet),
    'googlenet': ('googlenet', _GOOGLENET, _googlenet),
}
_VGGS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
for _name, _convs in ((f'vgg{depth}', convs) for depth, convs in _VGGS.items()):
    _head = dict(head='adaptive')
    _normed = dict(norm='batch', bias=True, **_head)
    MODELS[_name] = _name, _head, functools.partial(_vgg, _convs, False)
    MODELS[f'{_name}_bn'] = _name, _normed, functools.partial(_vgg, _convs, True)
for _name, _blocks, _kernels in (
    ('resnet18', (2, 2, 2, 2), 2),
    ('resnet34', (3, 4, 6, 3), 2),
    ('resnet50', (3, 4, 6, 3), 3),
    ('resnet101', (3, 4, 23, 3), 3),
    ('resnet152', (3, 8, 36, 3), 3),
):
    _fields = dict(stride_on='3x3') if _kernels == 3 else {}
    MODELS[_name] = _name, _fields, functools.partial(_resnet, _blocks, _kernels)


def _check_model(model):
    if model not in MODELS:
        raise unknown('unknown model', model, MODELS)


def build(model: str, **fields: Any) -> layers.Net:
    """The net that computes what torchvision's net of this name does, in inference.

    On images of every size that both take. Training differs: the running variance there is
    the unbiased one, and GoogLeNet has other dropout and other pools before its auxiliary
    classifiers. `fields` are those of cnns.build, classes and channels above all.

    Raises:
      ValueError: an unknown model or field, with the nearest one.
    """
    _check_model(model)
    name, own, _ = MODELS[model]
    return cnns.build(name, **{**own, **fields})


def sizes(model: str, state_dict: Mapping[str, Any]) -> dict[str, int]:
    """The fields that a state dict is for: {'classes': ..., 'channels': ...}, read from its ends.

    1000 and 3 where the last or the first weight is missing or is none.
    """
    _check_model(model)
    first, *_, last = MODELS[model][-1]()
    ends = [state_dict.get(f'{layer.theirs}.weight') for layer in (first, last)]
    return _sizes(*ends, channel_axis=1, class_axis=0)


def from_torch(model: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Turns a torchvision state dict {name: array or CPU tensor} into variables of `build(model)`.

    Returns {'params': ..., 'batch_stats': ...} (the latter where the net has batch norm) of numpy
    arrays, values and dtypes kept, views of the given ones where possible. Classes and channels
    are those of the state dict. GoogLeNet may come without its auxiliary classifiers: inference
    needs none.

    Raises:
      ValueError: an unknown model, or tensors that are not the model's: all that are missing, left
        over, of another shape or not floating-point are named.
    """
    given = {
        name: np.asarray(tensor)
        for name, tensor in state_dict.items()
        if not name.endswith('.num_batches_tracked')
    }
    aux = any(name.startswith('aux') for name in given)
    table = _table(model, aux=aux, **sizes(model, given))
    expected = {entry.theirs: entry.their_shape for entry in table}
    _check(f'these tensors are not those of {model}', given, expected)
    return flax.traverse_util.unflatten_dict(
        {entry.ours: _to_ours(given[entry.theirs], entry.map_shape) for entry in table}
    )


def to_torch(model: str, variables: dict | flax.core.FrozenDict) -> dict[str, np.ndarray]:
    """Turns variables of `build(model)` into a torchvision state dict, in torchvision's order.

    The inverse of from_torch. 16-bit floats become float32, other dtypes are kept. The counters
    `num_batches_tracked`, which torchvision's nets do not use, are 0.

    Raises:
      ValueError: an unknown model, or variables that are not the model's, named as in from_torch.
    """
    _check_model(model)
    flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(variables), sep='/')
    given = {path: np.asarray(array) for path, array in flat.items()}
    first, *_, last = MODELS[model][-1]()
    ends = [given.get(f'params/{name}/kernel') for name in (f'{first.ours}/conv', last.ours)]
    found = _sizes(*ends, channel_axis=2, class_axis=1)
    table = _table(model, aux=any(path.startswith('params/aux') for path in given), **found)
    expected = {'/'.join(entry.ours): entry.shape for entry in table}
    _check(f'these variables are not those of {model}', given, expected)
    state_dict = {}
    for entry in table:
        array = given['/'.join(entry.ours)]
        if array.dtype.itemsize == 2:
            array = array.astype(np.float32)
        # A copy: PyTorch may write into it
        state_dict[entry.theirs] = np.array(_to_theirs(array, entry.map_shape), order='C')
        if entry.theirs.endswith('.running_var'):
            counter = entry.theirs.removesuffix('running_var') + 'num_batches_tracked'
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


# --- tensors ---------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """One tensor in both vocabularies."""

    ours: tuple[str, ...]  # ('params', 'inception_3a', '3x3', 'conv', 'kernel')
    theirs: str
    shape: tuple[int, ...]  # ours
    their_shape: tuple[int, ...]
    map_shape: tuple[int, int, int] | None


_CONV = (('params', 'kernel', 'weight'), ('params', 'bias', 'bias'))
_NORM = (
    ('params', 'scale', 'weight'),
    ('params', 'bias', 'bias'),
    ('batch_stats', 'mean', 'running_mean'),
    ('batch_stats', 'var', 'running_var'),
)


@functools.lru_cache(maxsize=4)
def _table(model, *, classes, channels, aux):
    """All tensors of a model, in torchvision's order. The shapes are those of our net."""
    net = build(model, classes=classes, channels=channels)
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, channels), np.float32)
    shapes = flax.traverse_util.flatten_dict(
        jax.eval_shape(lambda key, x: net.init(key, x, train=False), jax.random.key(0), images)
    )
    table = []
    for layer in MODELS[model][-1]():
        if layer.ours.startswith('aux') and not aux:
            continue
        path = tuple(layer.ours.split('/'))
        is_conv = ('params', *path, 'conv', 'kernel') in shapes
        parts: list[tuple] = [(layer.theirs, ('conv',) if is_conv else (), _CONV)]
        if layer.norm:
            parts.append((layer.norm, ('norm',), _NORM))
        for prefix, part, leaves in parts:
            for collection, ours, theirs in leaves:
                leaf = (collection, *path, *part, ours)
                if leaf in shapes:  # a layer with batch norm may have no bias
                    shape = shapes[leaf].shape
                    their_shape = (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
                    table.append(
                        _Entry(leaf, f'{prefix}.{theirs}', shape, their_shape, layer.map_shape)
                    )
    return tuple(table)


def _to_theirs(array, map_shape):
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2 and map_shape:
        channels, height, width = map_shape
        array = array.reshape(height, width, channels, -1).transpose(3, 2, 0, 1)
        return array.reshape(len(array), -1)
    return array.T


def _to_ours(array, map_shape):
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2 and map_shape:
        return array.reshape(-1, *map_shape).transpose(2, 3, 1, 0).reshape(-1, len(array))
    return array.T


def _sizes(first, last, *, channel_axis, class_axis):
    def size(weight, ndim, axis, usual):
        shape = () if weight is None else tuple(weight.shape)
        return shape[axis] if len(shape) == ndim and 0 not in shape else usual

    return {'classes': size(last, 2, class_axis, 1000), 'channels': size(first, 4, channel_axis, 3)}


def _check(what, given, expected):
    """Raises ValueError that starts with `what` and names every array that is not as expected.

    given: {name: array}, expected: {name: shape}.
    """
    both = [name for name in expected if name in given]
    left_over = [name for name in given if name not in expected]
    faults = {
        'missing': [name for name in expected if name not in given],
        'left over': left_over,
        'of another shape': [
            f'{name} {given[name].shape} instead of {expected[name]}'
            for name in both
            if given[name].shape != tuple(expected[name])
        ],
        'not floating-point': [
            f'{name} ({given[name].dtype})'
            for name in both
            if not jax.dtypes.issubdtype(given[name].dtype, np.floating)
        ],
    }
    texts = []
    for fault, names in faults.items():
        more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
        if names:
            texts.append(f'{fault}: {", ".join(names[:_NAMED])}{more}')
    if not texts:
        return
    hint = ''
    if all(name.startswith('module.') for name in left_over) and left_over:
        hint = ". DataParallel's prefix 'module.' has to be taken off the names"
    raise ValueError(f'{what}: {"; ".join(texts)}{hint}.')
