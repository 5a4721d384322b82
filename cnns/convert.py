"""Weights between PyTorch and these nets, in the layouts of others, both ways.

    net, variables, notes = convert.read('resnet18.pth', 'resnet18')
    logits = net.apply(variables, images, train=False)  # images [N, 224, 224, 3], normalised

    convert.save('mine.safetensors', convert.to_torch('resnet18', variables))

The layouts are those of torchvision; of github.com/akamaster/pytorch_resnet_cifar10 for the CIFAR
ResNets; and of LeNet-5 as most save it.

Kernels change from [out, in, height, width] to [height, width, in, out] and matrices from
[out, in] to [in, out]; the inputs of the matrix that reads a map change from channel, height, width
to height, width, channel; the channels of the CIFAR ResNets change places, since their shortcuts
pad on both sides and ours at the end. No value is changed, so both ways are exact.
"""

import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

import cnns
from cnns import layers, layouts
from cnns.axes import unknown
from cnns.layouts import LAYOUTS
from cnns.tensors import load, save
from cnns.torch_files import printable

__all__ = [
    'LAYOUTS', 'MODELS', 'Weights', 'build', 'from_torch', 'load', 'read', 'save', 'sizes',
    'to_torch',
]  # fmt: skip

MODELS = layouts.TORCHVISION  # those for photographs, with torchvision's names

SIDE = 224  # pixels of the images that the fully connected layers of MODELS are made for

_NAMED = 10  # tensors of each kind that an error names
_WRAPPERS = ('module', '_orig_mod')  # of DataParallel, averaged models and torch.compile


class Weights(NamedTuple):
    """A net, its variables of numpy arrays, and what was changed or left out on the way."""

    net: layers.Net
    variables: dict[str, Any]
    notes: tuple[str, ...]


def build(model: str, **fields: Any) -> layers.Net:
    """The net that computes what the net of this name in LAYOUTS does, in inference.

    On images of every size that both take. Training differs: the running variance there is
    the unbiased one, and GoogLeNet has other dropout and other pools before its auxiliary
    classifiers. `fields` are those of cnns.build, classes and channels above all.

    Raises:
      ValueError: an unknown model or field, with the nearest one.
    """
    layout = _layout(model)
    return cnns.build(layout.net, **{**layout.fields, **fields})


def read(
    path: str | os.PathLike,
    model: str,
    *,
    part: str = '',
    prefix: str | None = None,
    classifier: bool = True,
    channels: int | None = None,
    **fields: Any,
) -> Weights:
    """Reads a file of weights (see load) into a net: its variables, and notes for the user.

    part: of a checkpoint, see load. prefix, classifier, channels, fields: see from_torch. LeNet-5
    needs activation and pool, which no weights tell.

    Raises:
      ValueError: what load and from_torch raise, in one line; a field that has to be named.
      OSError: the file cannot be read.
    """
    lacking = [field for field in _layout(model).unsaid if field not in fields]
    if lacking:
        raise ValueError(
            f'weights of {model} do not tell its {" and ".join(lacking)}: name them, for example '
            f'{", ".join(f"{field}={cnns.axes_of(model)[field]!r}" for field in lacking)}.'
        )
    tensors = load(path, part=part)
    try:
        found = _find(model, tensors, prefix, classifier, channels, fields)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    net = build(model, **{**found.sizes, **fields})
    return Weights(net, _variables(found), (*tensors.notes, *found.notes))


def sizes(model: str, state_dict: Mapping[str, Any]) -> dict[str, int]:
    """The fields that a state dict is for: {'classes': ..., 'channels': ...}, read from its ends.

    Those of the net's paper where the last or the first weight is missing or is none.
    """
    return _choose(model, _arrays(state_dict)[0], None, ())[1]


def from_torch(
    model: str,
    state_dict: Mapping[str, Any],
    *,
    prefix: str | None = None,
    classifier: bool = True,
    channels: int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Turns a state dict {name: array or CPU tensor} into variables of `build(model, **fields)`.

    Returns {'params': ..., 'batch_stats': ...} (the latter where the net has batch norm) of numpy
    arrays, values and dtypes kept, views of the given ones where possible. Classes and channels
    are those of the state dict. GoogLeNet may come without its auxiliary classifiers: inference
    needs none. Names may have the prefixes of DataParallel, torch.compile and averaged models, and
    any other that leaves exactly the net's own names; tensors outside it are left out.

    prefix: which one, where several fit. classifier=False leaves out the layers whose outputs are
    the classes, or does without them. channels=1 for weights of 3: the sum of the first kernels
    over them, which is exact for grey images that are repeated in three channels. fields: those
    of the net that the weights were made for, where they are not the layout's.

    Raises:
      ValueError: an unknown model or field; weights of another net, by its name; tensors that are
        no net's: all that are missing, left over, of another shape, not floating-point or not
        finite are named; classes or channels that the weights do not have.
    """
    return _variables(_find(model, state_dict, prefix, classifier, channels, fields))


def to_torch(
    model: str, variables: dict | flax.core.FrozenDict, **fields: Any
) -> dict[str, np.ndarray]:
    """Turns variables of `build(model, **fields)` into a state dict, in the order of its layout.

    The inverse of from_torch. 16-bit floats become float32, other dtypes are kept. The counters
    `num_batches_tracked`, which no net here uses, are 0.

    Raises:
      ValueError: an unknown model, or variables that are not the model's, named as in from_torch.
    """
    flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(variables), sep='/')
    given = {path: np.asarray(array) for path, array in flat.items()}
    first, *_, last = _layout(model).layers()
    ends = [given.get(f'params/{name}/kernel') for name in (f'{first.ours}/conv', last.ours)]
    found = _sizes(model, *ends, channel_axis=2, class_axis=1)
    aux = any(path.startswith('params/aux') for path in given)
    table = _table(model, aux, tuple(sorted((found | fields).items())))
    expected = {'/'.join(entry.ours): entry.shape for entry in table}
    if faults := _faults(given, expected):
        raise ValueError(f'these variables are not those of {model}: {faults}.')
    state_dict = {}
    for entry in table:
        array = given['/'.join(entry.ours)]
        if array.dtype.itemsize == 2:
            array = array.astype(np.float32)
        # A copy: PyTorch may write into it
        state_dict[entry.theirs] = np.array(_to_theirs(array, entry), order='C')
        if entry.theirs.endswith('.running_var'):
            counter = entry.theirs.removesuffix('running_var') + 'num_batches_tracked'
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


# --- finding the tensors of a net --------------------------------------------------------------


class _Found(NamedTuple):
    """The tensors of a net by the names of its layout, and its table."""

    given: dict[str, np.ndarray]
    table: tuple['_Entry', ...]
    sizes: dict[str, int]
    notes: list[str]


def _layout(model):
    if model not in LAYOUTS:
        raise unknown('unknown model', model, LAYOUTS)
    return LAYOUTS[model]


def _array(tensor):
    if hasattr(tensor, 'detach'):  # PyTorch's, which has bfloat16 and gradients
        tensor = tensor.detach()
        tensor = tensor.float() if str(tensor.dtype) == 'torch.bfloat16' else tensor
    return np.asarray(tensor)


def _arrays(state_dict):
    """The arrays by names without wrappers, and notes. Counters of batches are not weights."""
    given = {
        name: _array(tensor)
        for name, tensor in state_dict.items()
        if name.rpartition('.')[-1] != 'num_batches_tracked'
    }
    notes = []
    bare = ['.'.join(p for p in name.split('.') if p not in _WRAPPERS) for name in given]
    changed = sum(name != was for name, was in zip(bare, given))
    if changed and len(set(bare)) == len(given):
        used = [w for w in _WRAPPERS if any(w in name.split('.') for name in given)]
        texts = ' and '.join(f"'{wrapper}.'" for wrapper in used)
        notes.append(f'{texts} was taken off {changed} names')
        given = dict(zip(bare, given.values()))
        if given.get('n_averaged', np.ones(1)).ndim == 0:
            del given['n_averaged']
            notes.append("left out: 'n_averaged', a counter")
    return given, notes


def _choose(model, given, prefix, fields):
    """Takes off the prefix under which the names fit.

    Returns the tensors under it, sizes and table of the net that they could be, the prefix. It is
    '' where none fits, so that the errors are about the names as they are.
    """
    layout = _layout(model)
    if layout.by_order:
        given = _by_order(model, given)
    core = [
        f'{layer.theirs}.weight' for layer in layout.layers() if not (layer.head or layer.optional)
    ]
    ends = [name.removesuffix(core[0]) for name in given if name.endswith(core[0])]
    fitting = [end for end in ends if all(end + name in given for name in core)]
    if prefix is not None:
        wanted = prefix.rstrip('.') + '.' if prefix else ''
        if wanted not in fitting:
            raise ValueError(f'no weights of {model} have the prefix {printable(prefix)!r}.')
        fitting = [wanted]
    if '' not in fitting and len(fitting) > 1:
        several = ', '.join(repr(printable(end)) for end in fitting[:_NAMED])
        raise ValueError(f'the names fit under several prefixes: {several}; prefix= takes one.')
    chosen = fitting[0] if fitting and '' not in fitting else ''
    under = {name[len(chosen) :]: array for name, array in given.items() if name.startswith(chosen)}
    first, *_, last = layout.layers()
    found = _sizes(
        model,
        *(under.get(f'{layer.theirs}.weight') for layer in (first, last)),
        channel_axis=1,
        class_axis=0,
    )
    aux = any(name.startswith('aux') for name in under)
    return under, found, chosen, (model, aux, tuple(sorted((found | dict(fields)).items())))


def _find(model, state_dict, prefix, classifier, channels, fields):
    if any(name.startswith('params/') for name in state_dict):
        raise ValueError(
            'these are variables of a net of cnns, not of PyTorch: cnns.weights.load reads them.'
        )
    given, notes = _arrays(state_dict)
    classes = fields.get('classes')
    fields = {name: value for name, value in fields.items() if name not in layouts.SIZES}
    under, found, chosen, key = _choose(model, given, prefix, fields.items())
    table = _table(*key)
    heads = [layer.theirs + '.' for layer in _layout(model).layers() if layer.head]
    if not classifier:
        table = tuple(entry for entry in table if not entry.layer.head)
        left = [name for name in under if name.startswith(tuple(heads))]
        under = {name: array for name, array in under.items() if name not in left}
        notes.append(f'the classifier was left out: {_listed(left) or "the file has none"}')
    expected = {entry.theirs: entry.their_shape for entry in table}
    if faults := _faults(under, expected):
        missing = {name for name in expected if name not in under}
        if missing and missing == {name for name in expected if name.startswith(tuple(heads))}:
            raise ValueError(
                f'the classifier of {model} is missing ({_listed(missing)}); classifier=False does '
                'without it.'
            )
        whose = next(_whose(given), None)
        if whose:
            raise ValueError(f'these tensors are those of {whose}, not of {_said(model, fields)}.')
        raise ValueError(f'these tensors are not those of {model}: {faults}.')
    if chosen:
        outside = [name for name in given if not name.startswith(chosen)]
        notes.append(f'the prefix {printable(chosen)!r} was taken off {len(under)} names')
        if outside:
            notes.append(f'left out, without that prefix: {_listed(outside)}')
    under = {entry.theirs: under[entry.theirs] for entry in table}
    spoilt = [
        f'{name} ({count:,} of {array.size:,} values)'
        for name, array in under.items()
        if (count := array.size - int(np.isfinite(array).sum()))
    ]
    if spoilt:
        raise ValueError(f'these tensors have values that are not finite: {_listed(spoilt)}.')
    if channels not in (None, found['channels']):
        if (channels, found['channels']) != (1, 3):
            raise ValueError(
                f'the weights read {found["channels"]} channels, {channels} are asked for; only 3 '
                'can become 1, by their sum (channels=1).'
            )
        first = f'{next(_layout(model).layers()).theirs}.weight'
        under[first] = under[first].sum(axis=1, keepdims=True)
        notes.append(f'{first} was summed over its 3 input channels into 1')
        found['channels'] = 1
    if classes not in (None, found['classes']):
        if classifier:
            raise ValueError(
                f'the weights have {found["classes"]} classes, {classes} are asked for; '
                'classifier=False leaves their classifier out.'
            )
        found['classes'] = classes
    return _Found(under, table, found, notes)


def _variables(found):
    return flax.traverse_util.unflatten_dict(
        {entry.ours: _to_ours(found.given[entry.theirs], entry) for entry in found.table}
    )


def _by_order(model, given):
    """The same tensors by the layout's names, where their number, order and shapes say which."""
    if len(given) != 2 * len(list(_layout(model).layers())):  # a weight and a bias each
        return given
    arrays = list(given.values())
    ends = _sizes(model, arrays[0], arrays[-2], channel_axis=1, class_axis=0)
    renamed = {}
    for array, entry in zip(arrays, _table(model, False, tuple(sorted(ends.items())))):
        if entry.layer.map_shape and array.shape[1:] == entry.layer.map_shape:
            array = array.reshape(len(array), -1)  # a convolution that reads the whole map
        if array.shape != entry.their_shape:
            return given
        renamed[entry.theirs] = array
    return renamed


def _whose(given):
    """The models, and fields of them, that the tensors are exactly those of."""
    for model, layout in LAYOUTS.items():
        for fields in ({}, *layout.variants):
            try:
                under, _, _, key = _choose(model, given, None, fields.items())
            except ValueError:  # under several prefixes
                continue
            core = [f'{la.theirs}.weight' for la in layout.layers() if not la.optional]
            if all(name in under for name in core):
                expected = {entry.theirs: entry.their_shape for entry in _table(*key)}
                if not _faults(under, expected):
                    yield _said(model, fields)


def _said(model, fields):
    texts = [f'{name}={value!r}' for name, value in fields.items()]
    return f'{model} with {", ".join(texts)}' if texts else model


def _listed(names):
    names = [printable(name) for name in names]
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more


# --- tensors ---------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """One tensor in both vocabularies."""

    ours: tuple[str, ...]  # ('params', 'inception_3a', '3x3', 'conv', 'kernel')
    theirs: str
    shape: tuple[int, ...]  # ours
    their_shape: tuple[int, ...]
    layer: layouts.Layer


_CONV = (('params', 'kernel', 'weight'), ('params', 'bias', 'bias'))
_NORM = (
    ('params', 'scale', 'weight'),
    ('params', 'bias', 'bias'),
    ('batch_stats', 'mean', 'running_mean'),
    ('batch_stats', 'var', 'running_var'),
)


@functools.lru_cache(maxsize=8)
def _table(model, aux, fields):
    """All tensors of a model, in the order of its layout. The shapes are those of our net."""
    net = build(model, **dict(fields))
    height, width, _ = cnns.NETS[_layout(model).net].input
    images = jax.ShapeDtypeStruct((1, height, width, net.channels), np.float32)
    shapes = flax.traverse_util.flatten_dict(
        jax.eval_shape(lambda key, x: net.init(key, x, train=False), jax.random.key(0), images)
    )
    table = []
    for layer in _layout(model).layers():
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
                    if len(shape) == 4 and layer.map_shape:
                        their_shape = (shape[-1], int(np.prod(shape[:-1])))
                    table.append(_Entry(leaf, f'{prefix}.{theirs}', shape, their_shape, layer))
    return tuple(table)


def _to_theirs(array, entry):
    layer = entry.layer
    if layer.writes:
        array = np.take(array, np.argsort(layer.writes), axis=-1)
    if len(entry.shape) == 1:
        return array
    if layer.reads:
        array = np.take(array, np.argsort(layer.reads), axis=-2)
    if layer.map_shape:
        channels, height, width = layer.map_shape
        array = array.reshape(height, width, channels, -1)
    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return array.reshape(entry.their_shape)


def _to_ours(array, entry):
    layer = entry.layer
    if len(entry.shape) > 1:
        array = array.reshape(-1, *layer.map_shape) if layer.map_shape else array
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        array = array.reshape(entry.shape) if layer.map_shape else array
        array = np.take(array, layer.reads, axis=-2) if layer.reads else array
    return np.take(array, layer.writes, axis=-1) if layer.writes else array


def _sizes(model, first, last, *, channel_axis, class_axis):
    net = build(model)

    def size(weight, ndim, axis, usual):
        shape = () if weight is None else tuple(weight.shape)
        return shape[axis] if len(shape) == ndim and 0 not in shape else usual

    return {
        'classes': size(last, 2, class_axis, net.classes),
        'channels': size(first, 4, channel_axis, net.channels),
    }


def _faults(given, expected):
    """Every array that is not as expected, by the kind of fault; '' where there is none.

    given: {name: array}, expected: {name: shape}.
    """
    both = [name for name in expected if name in given]
    faults = {
        'missing': [name for name in expected if name not in given],
        'left over': [name for name in given if name not in expected],
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
    return '; '.join(f'{fault}: {_listed(names)}' for fault, names in faults.items() if names)
