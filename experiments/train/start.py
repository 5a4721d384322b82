"""What a training begins with instead of drawn weights, and the layers of a net that do not move.

Layers are named as cnns names them: 'conv1', 'conv2_1/conv2', 'fc8'. A name also means what it
begins, up to a slash or an underscore: 'conv2' is conv2_1 and conv2_2, but not conv20.

A layer fits if the file has the same arrays under its name, of the same shapes. The layers of the
classes (the head) do not fit another number of classes; nor, unless train.start_layers names them,
weights that say they are for other classes, or of a run on another data set. They are drawn anew,
as every layer that does not fit, and the notes say so.

A frozen layer keeps its parameters. Its batch norm uses the running statistics that it began with,
in training as in inference, and does not change them: so it computes the same in both.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnns import convert, layers, tensors, weights
from experiments.errors import UserError, listed, one_of, reason
from experiments.plan import start as files

_NAMED = 8  # layers or classes that a message names

Arrays = dict[tuple[str, ...], np.ndarray]  # {('params', 'conv1', 'conv', 'kernel'): array}


class Start(NamedTuple):
    """The variables that a training begins with, others being drawn, and what that means."""

    given: Arrays = {}
    notes: tuple[str, ...] = ()


class _Read(NamedTuple):
    """The content of a file of weights."""

    arrays: Arrays
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]
    data: tuple[str, list[str]] | None = None  # data.name and data.classes of the run they are of


def covers(name: str, layer: str) -> bool:
    """Whether the name of a layer, or of what begins with it, means this layer."""
    return layer.startswith(name) and layer[len(name) : len(name) + 1] in ('', '/', '_')


# --- what a training begins with ---------------------------------------------------------------


def start_of(config, net: layers.Net, classes: tuple[str, ...], size: tuple) -> Start:
    """What config.train.start gives for a net of images [*, *size] and these classes.

    Raises:
      UserError: a file that is no weights, none or not all of the layers asked for fit.
    """
    fields = config.train
    if fields.start is None:
        return Start()
    path = files.file_of(fields.start)
    read = _read(path, net, config.model.name)
    ours, theirs = _shapes(net, size), _by_layer(read.arrays)
    asked = tuple(fields.start_layers)
    _check_names('train.start_layers', asked, ours, config.model.name)
    heads = _heads(net, size)
    taken, new = [], {}
    for layer, shapes in ours.items():
        if asked and not any(covers(name, layer) for name in asked):
            new[layer] = 'not in train.start_layers'
        elif layer not in theirs:
            new[layer] = 'not in the file'
        elif differ := _differ(shapes, theirs[layer]):
            new[layer] = differ
        elif layer in heads and fields.new_head:
            new[layer] = 'train.new_head'
        elif layer in heads and not asked and (other := _others(read, config.data, classes)):
            new[layer] = other
        else:
            taken.append(layer)
    for name in asked:
        # several layers may have the name, as a convolution and its batch norm have
        unfit = [layer for layer in new if covers(name, layer) and layer not in heads]
        if unfit:
            raise UserError(
                f'train.start_layers names {name}, but {unfit[0]} of {path} does not fit '
                f'{config.model.name}: {new[unfit[0]]}. Leave it out, or start from another file.'
            )
    if not taken:
        raise UserError(
            f'no layer of {path} fits {config.model.name}. The file has {listed(theirs, _NAMED)}; '
            f'the net has {listed(ours, _NAMED)}.'
        )
    given = {
        place: np.asarray(array, np.float32)
        for place, array in read.arrays.items()
        if _layer(place) in taken
    }
    left = [layer for layer in theirs if layer not in taken]
    notes = [
        f'start: {path} ({files.digest(path)}), {len(taken)} of {len(ours)} layers of '
        f'{config.model.name} begin with it: {", ".join(_merged(taken, ours))}',
        *(f'start: {path}: {text}' for text in read.notes),
        *(f'start: drawn anew: {", ".join(_merged(which, ours))} ({why})' for why, which in
          _grouped(new).items()),
    ]  # fmt: skip
    if left:
        notes.append(f'start: left in the file: {", ".join(_merged(left, theirs))}')
    return Start(given, tuple(notes))


def _others(read: _Read, fields, classes: tuple[str, ...]) -> str:
    """Why the head of a file is for other classes than these, or ''."""
    if read.class_names:
        names = listed(read.class_names, _NAMED)
        return '' if read.class_names == classes else f'the file is for other classes: {names}'
    if read.data in (None, (fields.name, list(map(str, fields.classes)))):
        return ''
    name, kept = read.data
    return f'the file is of a run on {name}{f", {listed(kept, _NAMED)}" if kept else ""}'


def begun(variables: Mapping[str, Any], given: Arrays) -> dict[str, Any]:
    """Drawn variables of a net with the given ones in their places."""
    flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(dict(variables)))
    return flax.traverse_util.unflatten_dict(flat | given)


def _layer(place: tuple[str, ...]) -> str:
    return '/'.join(place[1:-1])


def _by_layer(arrays: Mapping[tuple[str, ...], Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """{layer: {name of an array: its shape}}, in the order of the arrays."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for place, array in arrays.items():
        found.setdefault(_layer(place), {})[place[-1]] = tuple(array.shape)
    return found


def _shapes(net, size) -> dict[str, dict[str, tuple[int, ...]]]:
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = lambda key, images: net.init(key, images, train=False)
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0), images)
    return _by_layer(flax.traverse_util.flatten_dict(shapes))


def _heads(net, size) -> set[str]:
    """The layers whose shapes depend on the number of classes."""
    try:
        own, other = _shapes(net, size), _shapes(net.clone(classes=net.classes + 1), size)
    except ValueError:  # LeNet-5 of 1998 has output codes for ten classes only, and no parameters
        return set()
    return {layer for layer in own if own[layer] != other[layer]}


def _differ(ours, theirs) -> str:
    """'kernel 3x3x64x64 here, 3x3x3x64 in the file', or ''."""
    said = []
    for name in sorted({*ours, *theirs}, key=lambda name: (name != 'kernel', name)):
        if ours.get(name) != theirs.get(name):
            words = (
                'x'.join(map(str, of[name])) if name in of else 'none' for of in (ours, theirs)
            )
            said.append('{} {} here, {} in the file'.format(name, *words))
    return '; '.join(said)


def _grouped(new: dict[str, str]) -> dict[str, list[str]]:
    """{reason: its layers}."""
    found: dict[str, list[str]] = {}
    for layer, why in new.items():
        found.setdefault(why, []).append(layer)
    return found


def _merged(chosen: Iterable[str], every: Iterable[str]) -> list[str]:
    """The names of layers, one for all parts of a block or layer that are chosen as a whole."""
    wanted, found = set(chosen), []
    block = lambda layer: layer.partition('/')[0]
    for layer in chosen:
        whole = all(other in wanted for other in every if block(other) == block(layer))
        found.append(block(layer) if whole else layer)
    return list(dict.fromkeys(found))


def _check_names(field: str, names, known: Iterable[str], net: str) -> None:
    """UserError for a name that means no layer of a net."""
    parts = [layer.split('/') for layer in known]
    allowed = sorted({'/'.join(part[:end]) for part in parts for end in range(1, len(part) + 1)})
    for name in names:
        if not any(covers(name, layer) for layer in known):
            raise one_of(f'layer of {net} in {field}', name, allowed)


# --- reading a file of weights -------------------------------------------------------------------


def _read(path: pathlib.Path, net: layers.Net, name: str) -> _Read:
    """Reads our own weights, or PyTorch's as those of this net, else of any that they are of.

    Raises:
      UserError: it cannot be read, or is none of these.
    """
    try:
        read = _own(path) or _of_torch(path, net, name)
    except ValueError as error:
        raise UserError(f'train.start: {error}') from error
    except OSError as error:
        raise UserError(f'train.start: {path} cannot be read ({reason(error)}).') from error
    spoilt = [place for place, array in read.arrays.items() if not np.isfinite(array).all()]
    if spoilt:
        names = listed(dict.fromkeys(map(_layer, spoilt)), _NAMED)
        raise UserError(f'train.start: {path} has values that are not finite, in {names}.')
    return read


def _own(path: pathlib.Path) -> _Read | None:
    """Weights that a run left; None where the file is none."""
    if path.suffix == '.msgpack':
        try:
            variables = flax.serialization.msgpack_restore(path.read_bytes())
            return _Read(_flat(variables), None, (), _data(path.parent / 'config.json'))
        except OSError:
            raise
        except Exception as error:  # msgpack raises many kinds for a damaged file
            raise ValueError(f'{path} is no file of weights, or damaged.') from error
    try:
        ours = 'cnns' in tensors.metadata(tensors.read_bytes(path))
    except ValueError:  # no safetensors
        ours = False
    if not ours:
        return None
    variables, metadata = weights.load(path)
    variables.pop('input', None)  # the mean image: the new training subtracts its own
    names = metadata.get('class_names')
    notes = (f'weights of {metadata["net"]}',)
    return _Read(_flat(variables), tuple(names) if names else None, notes)


def _data(path: pathlib.Path) -> tuple[str, list[str]] | None:
    """The data that a run was trained on, by the config beside its weights; None: unknown."""
    try:
        config = json.loads(path.read_bytes())
        return str(config['data.name']), [str(name) for name in config.get('data.classes', ())]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _flat(variables) -> Arrays:
    """Raises ValueError for what is no {'params': ..., ...} of arrays."""
    flat = flax.traverse_util.flatten_dict(variables)
    arrays = {place: np.asarray(array) for place, array in flat.items()}
    known = {'params', 'batch_stats'}
    if not all(place[0] in known and array.dtype.kind in 'fV' for place, array in arrays.items()):
        raise ValueError('it holds other things than variables of a net')
    return arrays


def _of_torch(path: pathlib.Path, net: layers.Net, name: str) -> _Read:
    """Weights of PyTorch in a layout of cnns.convert: the net's own if there is one, else any."""
    loaded = convert.load(path)
    own = [model for model, layout in convert.LAYOUTS.items() if layout.net == name]
    first = None
    for model in dict.fromkeys([*own, *likely(loaded)]):
        layout = convert.LAYOUTS[model]
        unsaid = {field: getattr(net, field) for field in layout.unsaid if hasattr(net, field)}
        if len(unsaid) < len(layout.unsaid):
            continue
        for fields in ({}, *layout.variants):
            for classifier in (True, False):
                given: dict[str, Any] = {**unsaid, **fields, 'classifier': classifier}
                given |= {'channels': 1} if net.channels == 1 else {}
                try:
                    variables = convert.from_torch(model, loaded, **given)
                except ValueError as error:
                    first = first or error
                    continue
                notes = convert.read(path, model, **given).notes
                text = ', '.join(f'{key}={value!r}' for key, value in fields.items())
                said = f'read as weights of {model} of PyTorch{text and f" with {text}"}'
                return _Read(_flat(variables), None, (said, *notes))
    known = f'it has tensors of no net that is read from PyTorch: {", ".join(convert.LAYOUTS)}.'
    raise ValueError(f'{path}: {first or known}')


def likely(loaded: Iterable[str]) -> list[str]:
    """The models all of whose layers the names have, the largest first."""
    ends = {
        '.'.join(parts[start:])
        for parts in (name.split('.') for name in loaded)
        for start in range(len(parts))
    }
    found = {}
    for model, layout in convert.LAYOUTS.items():
        core = [layer for layer in layout.layers() if not (layer.head or layer.optional)]
        if layout.by_order or all(f'{layer.theirs}.weight' in ends for layer in core):
            found[model] = len(core)
    return sorted(found, key=lambda model: -found[model])


def is_own(path: str | os.PathLike) -> bool:
    """Whether a file begins as weights of our own do, whole or not. Raises OSError."""
    try:
        return 'cnns' in tensors.metadata(tensors.read_bytes(path))
    except ValueError:  # no safetensors
        return False


def nameless(path: object, loaded: Iterable[str]) -> UserError:
    """The error for PyTorch's weights of these names without --model."""
    close = likely(loaded)
    hint = f' It looks like {close[0]}: add --model {close[0]}.' if close else ''
    return UserError(
        f"{path} holds PyTorch's weights, which do not say their net.{hint}"
        f'{"" if close else " Add --model with one of " + ", ".join(convert.LAYOUTS) + "."}'
    )


# --- layers that do not move ---------------------------------------------------------------------


def held(config, update: optax.GradientTransformationExtraArgs, params: Any) -> Any:
    """An update that leaves the parameters of config.train.freeze as they are.

    Their gradients are 0 to the update, so that a bound on its norm is that of the others, and
    nothing computes them. params: a tree of these parameters, shapes suffice.

    Raises:
      UserError: train.freeze names a layer that the net does not have, or all of them.
    """
    names = tuple(config.train.freeze)
    if not names:
        return update
    known = list(dict.fromkeys('/'.join(p[:-1]) for p in flax.traverse_util.flatten_dict(params)))
    _check_names('train.freeze', names, known, config.model.name)
    mask = flax.traverse_util.path_aware_map(
        lambda path, _: frozen(names, map(str, path[:-1])), params
    )
    if all(jax.tree.leaves(mask)):
        raise UserError(f'train.freeze={names} leaves no layer of {config.model.name} to train.')
    still = lambda tree: jax.tree.map(lambda x, fix: jnp.zeros_like(x) if fix else x, tree, mask)

    def move(updates, state, params=None, **given):
        moves, state = update.update(still(updates), state, params, **given)
        return still(moves), state

    return optax.GradientTransformationExtraArgs(update.init, move)


def frozen(names: Iterable[str], path: Iterable[str]) -> bool:
    """Whether a layer, as the path of its module, is one of the names."""
    layer = '/'.join(path)
    return any(covers(name, layer) for name in names)


class Held:
    """A net whose batch norms in frozen layers use and keep their running statistics."""

    def __init__(self, net: layers.Net, names: Iterable[str]):
        self.net, self.names = net, tuple(names)

    def apply(self, *args, **given):
        with nn.intercept_methods(self._intercept):
            return self.net.apply(*args, **given)

    def _intercept(self, call: Callable, args, given, context: Any):
        norm = context.module
        of_ours = isinstance(norm, (layers.BatchNorm, nn.BatchNorm))
        if not of_ours or not frozen(self.names, map(str, norm.path)):
            return call(*args, **given)
        mean, var = (norm.get_variable('batch_stats', name) for name in ('mean', 'var'))
        scale, bias = (norm.get_variable('params', name) for name in ('scale', 'bias'))
        x = args[0].astype(jnp.result_type(args[0], jnp.float32))
        y = (x - mean) * (jax.lax.rsqrt(var + norm.epsilon) * scale) + bias
        return y.astype(norm.dtype)
