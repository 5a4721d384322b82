"""Reads the program that JAX traces for a net: its layers, parameters and receptive fields.

No weight is allocated, and nothing runs. The conventions are those of description.py.
"""

import contextlib
import gc
import math
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Window(NamedTuple):
    """A window that slides over a feature map; each entry is (height, width)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))


class Row(NamedTuple):
    """One line of a net's table: a weighted layer, or one that pools over space.

    kind: 'conv', 'local' (a convolution whose weights are not shared), 'dense', 'max pool',
        'average pool', 'norm' (over a window in space), or 'fixed' (computes without parameters).
    output: its shape without the batch. receptive_field: None where it is not defined.
    window, groups: None where nothing slides.
    """

    layer: str
    kind: str
    window: Window | None
    groups: int | None
    output: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: int | tuple[int, int] | None


class Trace(NamedTuple):
    """A net read from its program. depth: weighted rows on the longest path."""

    rows: tuple[Row, ...]
    depth: int
    parameters: int
    training_parameters: int


class _Value(NamedTuple):
    """What is known of one array of the program."""

    image: bool = False  # does it depend on the image?
    parameters: int = 0  # bit i: it depends on parameter i
    rows: int = 0  # bit i: row i has its part in it
    last: int = -1  # the row that it comes from
    depth: int = 0
    axes: dict[int, tuple[int, int]] = {}  # of each axis still in space: receptive field, jump
    window: Window | None = None  # of image patches before their weights are applied
    squared: bool = False


# Programs inside a program: their equations count as if they stood in the outer one
_CALLS = """
    jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr
""".split()
_WINDOWS = {'reduce_window_max': 'max pool', 'reduce_window_sum': 'average pool'}
_REDUCTIONS = {'reduce_max': 'max pool', 'reduce_sum': 'average pool'}


def trace(net: nn.Module, input: tuple[int, int, int]) -> Trace:
    """Reads a linen module's program for inference on one image [H, W, C], without running it.

    A parameter belongs to the row whose result it is applied to first, so a row's count holds
    the biases, norms and coefficients that follow it. A class may carry MACS = {layer: count},
    for layers whose program computes more than the paper's (a sparse layer as a dense one) or
    multiplies by no parameter; a layer that has no row gets one.

    Raises what the net raises; NotImplementedError for a loop over the image or a dilated input.
    """
    x = jax.ShapeDtypeStruct((1, *input), jnp.float32)
    image = _Value(True, axes={1: (1, 1), 2: (1, 1)})
    reader = _Reader()
    try:
        program, result, variables, places = _initialised(net, x)
        values, sizes = _parameters(variables)
        outputs = reader.run(program, [image], '', dict(zip(places, values, strict=True)))
    except _Hidden:
        program, result, variables = _inference(net, x)
        values, sizes = _parameters(variables)
        reader = _Reader()
        outputs = reader.run(program, [*values, image], '')
    outputs = outputs[: len(jax.tree.leaves(result))]
    used, live = _union(outputs), _union(outputs, 'rows')

    def count(bits):
        return sum(size for i, size in enumerate(sizes) if bits >> i & 1)

    rows = [
        row._replace(parameters=count(owned & used))
        for i, (row, owned) in enumerate(zip(reader.rows, reader.owned, strict=True))
        if live >> i & 1
    ]
    # A pool without a scope of its own has the name of its block, which holds other rows too
    blocks = {row.layer.rpartition('/')[0] for row in rows}
    rows = [row._replace(layer=f'{row.layer}/pool') if row.layer in blocks else row for row in rows]
    macs = dict(getattr(net, 'MACS', {}))
    rows = [row._replace(macs=macs.pop(row.layer, row.macs)) for row in rows]
    shape = jax.tree.leaves(result)[0].shape[1:]
    rows += [Row(layer, 'fixed', None, None, shape, 0, n, None) for layer, n in macs.items()]
    return Trace(tuple(rows), max(value.depth for value in outputs), count(used), sum(sizes))


class _Hidden(Exception):
    """A parameter is made inside a program within the program."""


def _inference(net, x):
    """The program of (variables, image), the shapes of its result and of the variables."""
    with _no_collection():
        variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
        program, result = jax.make_jaxpr(
            lambda variables, x: net.apply(variables, x, train=False), return_shape=True
        )(variables, x)
    return program.jaxpr, result, variables


def _initialised(net, x):
    """The same with the variables' initialisation in front, and where each of them is made.

    One trace instead of two halves the time. What flax computes only to initialise (an auxiliary
    head that inference does not call) does not reach the result.
    """
    with _no_collection():
        program, (result, variables) = jax.make_jaxpr(
            lambda x: net.init_with_output(jax.random.key(0), x, train=False), return_shape=True
        )(x)
    places = program.jaxpr.outvars[len(jax.tree.leaves(result)) :]
    if any(hasattr(var, 'val') for var in places) or len(set(places)) < len(places):
        raise _Hidden
    return program.jaxpr, result, variables, places


def _parameters(variables):
    """The value of each variable, and the sizes of those that are parameters."""
    values: list[_Value] = []
    sizes: list[int] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if path[0].key == 'params':
            values.append(_Value(parameters=1 << len(sizes)))
            sizes.append(math.prod(leaf.shape))
        else:
            values.append(_CONSTANT)
    return values, sizes


@contextlib.contextmanager
def _no_collection():
    """Stops Python's search for cyclic garbage: a third of the time of a deep net's trace."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Reader:
    """Carries a _Value through every equation and collects the rows."""

    def __init__(self):
        self.rows, self.owned, self.taken = [], [], 0

    def run(self, jaxpr, arguments, scope, variables=types.MappingProxyType({})):
        """The values of a jaxpr's outputs, given those of its inputs.

        variables: values known beforehand, whatever computes them.
        """
        known = dict(variables) | dict(zip(jaxpr.invars, arguments, strict=True))

        def look(var):
            return _CONSTANT if hasattr(var, 'val') else known.get(var, _CONSTANT)  # val: literals

        for eqn in jaxpr.eqns:
            ins = [look(var) for var in eqn.invars]
            if any(value.image for value in ins):
                if variables and any(var in variables for var in eqn.outvars):
                    raise _Hidden
                names = (scope, str(eqn.source_info.name_stack))
                outs = self.step(eqn, ins, '/'.join(filter(None, names)))
            else:
                outs = [_Value(parameters=_union(ins))] * len(eqn.outvars)
            known.update(
                (var, value)
                for var, value in zip(eqn.outvars, outs, strict=True)
                if var not in variables
            )
        return [look(var) for var in jaxpr.outvars]

    def step(self, eqn, ins, scope):
        """The values of the outputs of one equation that reads the image."""
        name = eqn.primitive.name
        programs = (getattr(param, 'jaxpr', param) for param in eqn.params.values())
        inner = [program for program in programs if hasattr(program, 'eqns')]
        if name in _CALLS:
            return self.run(inner[0], ins, scope)
        if inner and not name.startswith('reduce'):
            raise NotImplementedError(f'{name} in {scope}: a loop or branch over the image')
        before = [value for value in ins if value.image]
        weights = _union(value for value in ins if not value.image)
        shape = eqn.outvars[0].aval.shape
        value = _Value(
            True,
            _union(ins),
            _union(before, 'rows'),
            max(v.last for v in before),
            max(v.depth for v in before),
            _axes(eqn, ins),
            before[0].window if len(before) == 1 else None,
            _squares(eqn),
        )
        if name == 'conv_general_dilated':
            value = self.convolve(eqn, value, weights, scope)
        elif name == 'dot_general' and weights:
            value = self.multiply(eqn, ins, value, scope)
        elif name.startswith('reduce_window') and before[0].axes != value.axes:  # over space
            window, _ = _pooling(eqn, before[0].axes)
            kind = 'norm' if before[0].squared else _WINDOWS.get(name, 'pool')
            value = self.add(value, scope, kind, window, shape)
        elif name in _REDUCTIONS and before[0].axes and not value.axes and not before[0].squared:
            sizes = tuple(eqn.invars[0].aval.shape[axis] for axis in sorted(before[0].axes))
            value = self.add(value, scope, _REDUCTIONS[name], Window(sizes), shape)
        fresh = weights & ~self.taken
        if fresh:
            if value.last < 0:  # parameters applied to the image itself
                value = self.add(value, scope, 'scale', None, shape, groups=None)
            self.owned[value.last] |= fresh
            self.taken |= fresh
        return [value] * len(eqn.outvars)

    def add(self, value, scope, kind, window, shape, groups=1, macs=0, weighted=False):
        """Appends a row and returns the value that leaves it."""
        index = len(self.rows)
        fields = tuple(value.axes[axis][0] for axis in sorted(value.axes))
        field = (fields[0] if len(set(fields)) == 1 else fields) if fields else None
        self.rows.append(
            Row(_layer(scope) or kind, kind, window, groups, tuple(shape[1:]), 0, macs, field)
        )
        self.owned.append(0)
        return value._replace(
            rows=value.rows | 1 << index, last=index, window=None, depth=value.depth + weighted
        )

    def convolve(self, eqn, value, weights, scope):
        kernel, params = eqn.invars[1].aval.shape, eqn.params
        spec = params['dimension_numbers'].rhs_spec
        window = Window(
            tuple(kernel[axis] for axis in spec[2:]),
            tuple(params['window_strides']),
            tuple(map(tuple, params['padding'])),
        )
        if not weights:  # a convolution by constants cuts the patches of a local layer
            return value._replace(window=window)
        shape = eqn.outvars[0].aval.shape
        macs = math.prod(shape) * math.prod(window.kernel) * kernel[spec[1]]
        batch, features, *space = params['dimension_numbers'].out_spec
        shape = [shape[axis] for axis in (batch, *space, features)]
        groups = params['feature_group_count']
        return self.add(value, scope, 'conv', window, shape, groups, macs, weighted=True)

    def multiply(self, eqn, ins, value, scope):
        side = 0 if ins[0].image else 1
        (contracted, batch) = (pair[side] for pair in eqn.params['dimension_numbers'])
        read, shape = eqn.invars[side].aval.shape, eqn.outvars[0].aval.shape
        macs = math.prod(shape) * math.prod(read[axis] for axis in contracted)
        local = any(axis in batch for axis in ins[side].axes)
        if local:  # the batch of images comes after the places
            places = tuple(shape[axis] for axis in sorted(value.axes))
            shape = (1, *places, math.prod(shape) // math.prod(places))
        kind, window = 'local' if local else 'dense', value.window or Window()
        return self.add(value, scope, kind, window, shape, macs=macs, weighted=True)


_CONSTANT = _Value()


def _union(values, field='parameters'):
    bits = 0
    for value in values:
        bits |= getattr(value, field)
    return bits


def _layer(scope):
    """'Net/conv4_3/conv1/conv' -> 'conv4_3/conv1': without the net, methods and einsums."""
    parts = [part for part in scope.split('/')[1:] if '.' not in part and '->' not in part]
    return '/'.join(parts[:-1] if len(parts) > 1 and parts[-1] in ('conv', 'dense') else parts)


def _squares(eqn):
    name, ins = eqn.primitive.name, eqn.invars
    if name == 'integer_pow':
        return eqn.params['y'] == 2
    return name == 'square' or name == 'mul' and ins[0] is ins[1]


# ---- receptive fields


def _slide(axis, kernel, stride):
    """Receptive field and jump of an axis after a window."""
    field, jump = axis
    return field + (kernel - 1) * jump, jump * stride


def _axes(eqn, ins):
    """{axis: (receptive field, jump)} of the result of one equation."""
    name, params = eqn.primitive.name, eqn.params
    side = next(i for i, value in enumerate(ins) if value.image)
    axes, shape = ins[side].axes, eqn.invars[side].aval.shape
    out = eqn.outvars[0].aval.shape
    if name == 'conv_general_dilated':
        return _convolution(eqn, ins) if side == 0 else {}
    if name.startswith('reduce_window'):
        return _pooling(eqn, axes)[1]
    if name == 'dot_general':
        contracted, batch = (pair[side] for pair in params['dimension_numbers'])
        free = [axis for axis in range(len(shape)) if axis not in contracted and axis not in batch]
        first = len(out) - len(free) if side else len(batch)
        place = {axis: i for i, axis in enumerate(batch)}
        place |= {axis: first + i for i, axis in enumerate(free)}
    elif name == 'slice':
        strides = params['strides'] or (1,) * len(shape)
        return {axis: _slide(state, 1, strides[axis]) for axis, state in axes.items()}
    elif name == 'transpose':
        place = {axis: i for i, axis in enumerate(params['permutation'])}
    elif name == 'broadcast_in_dim':
        place = dict(enumerate(params['broadcast_dimensions']))
    elif name == 'reshape':
        place = _kept(shape, out)
    elif name == 'squeeze' or name.startswith(('reduce_', 'arg')) and 'precision' not in name:
        gone = params['dimensions' if name == 'squeeze' else 'axes']
        place = {axis: i for i, axis in enumerate(a for a in range(len(shape)) if a not in gone)}
    elif name in ('pad', 'concatenate', 'dynamic_slice'):
        return _largest(ins)
    else:  # element by element; anything else that changes an axis ends it
        return {
            axis: state
            for axis, state in _largest(ins).items()
            if len(shape) == len(out) and shape[axis] == out[axis]
        }
    return {place[axis]: state for axis, state in axes.items() if axis in place}


def _largest(ins):
    axes: dict[int, tuple[int, int]] = {}
    for value in ins:
        for axis, state in value.axes.items():
            field, jump = axes.get(axis, state)
            axes[axis] = max(state[0], field), max(state[1], jump)
    return axes


def _convolution(eqn, ins):
    params, kernel = eqn.params, eqn.invars[1].aval.shape
    numbers = params['dimension_numbers']
    if any(n != 1 for n in params['lhs_dilation']):
        raise NotImplementedError('a convolution with a dilated input')
    out = {}
    for i, (read, size, write) in enumerate(zip(*(spec[2:] for spec in numbers), strict=True)):
        if read in ins[0].axes:
            reach = (kernel[size] - 1) * params['rhs_dilation'][i] + 1
            out[write] = _slide(ins[0].axes[read], reach, params['window_strides'][i])
    return out


def _pooling(eqn, axes):
    """The window of a reduce_window over space, and the axes after it."""
    space = sorted(axes)
    sizes, strides, padding = (
        eqn.params[name] for name in ('window_dimensions', 'window_strides', 'padding')
    )
    window = Window(*(tuple(of[axis] for axis in space) for of in (sizes, strides, padding)))
    return window, {axis: _slide(axes[axis], sizes[axis], strides[axis]) for axis in space}


def _kept(shape, out):
    """{axis: new axis} of the axes that a reshape leaves as they are."""
    place, i, j = {}, 0, 0
    while i < len(shape) and j < len(out):
        if shape[i] == out[j]:
            place[i] = j
            i, j = i + 1, j + 1
            continue
        left, right = shape[i], out[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * shape[i], i + 1
            else:
                right, j = right * out[j], j + 1
    return place
