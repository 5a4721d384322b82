"""From a net to ONNX: the traced inference, one operation after another.

    data = to_onnx(net, variables, (32, 32, 3), {'mean': '[0.5]'})   # bytes of a .onnx file

What depends on the weights alone is computed here and stored as a constant. The batch is the symbol
N, and images keep our order [N, H, W, C]: convolutions and pools, which ONNX has in the order
[N, C, H, W] alone, stand between two transpositions, most of which a runtime takes out again.

OPERATIONS has the operations that the nets need; to add one, write its function.
"""

import math
import string
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend
import numpy as np

from experiments.errors import UserError

INPUT, OUTPUT, BATCH = 'images', 'logits', 'N'
OPSET, IR = 17, 8  # of 2022: whatever reads ONNX today reads them
_END = np.iinfo(np.int64).max  # of an axis, whatever its length

Value = Any  # the name of a value in the graph, or a NumPy array where it is known already


def missing() -> UserError:
    """The error where a package that ONNX needs is not installed."""
    return UserError("ONNX needs two packages: python -m pip install -e '.[onnx]'")


def to_onnx(
    net: Any, variables: Mapping[str, Any], size: tuple[int, ...], metadata: Mapping[str, str]
) -> bytes:
    """The inference of a net on images float32 [N, *size], with its weights, as an ONNX model.

    The net has fast=False and computes in float32. metadata: texts, its metadata_props.

    Raises:
      UserError: onnx is not installed, or the net has an operation that is not in OPERATIONS.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing() from error
    (batch,) = jax.export.symbolic_shape(BATCH)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    images = jax.ShapeDtypeStruct((batch, *size), np.float32)
    traced = jax.make_jaxpr(lambda variables, x: net.apply(variables, x, train=False))(
        shapes, images
    )
    graph = _Graph(onnx)
    with jax.default_matmul_precision('highest'):
        (logits,) = graph.run(traced, [*map(np.asarray, jax.tree.leaves(variables)), INPUT])
    graph.nodes.append(onnx.helper.make_node('Identity', [logits], [OUTPUT]))
    real = onnx.TensorProto.FLOAT
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            type(net).__name__,
            [onnx.helper.make_tensor_value_info(INPUT, real, [BATCH, *size])],
            [onnx.helper.make_tensor_value_info(OUTPUT, real, [BATCH, net.classes])],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid('', OPSET)],
        ir_version=IR,
        producer_name='cnns',
    )
    onnx.helper.set_model_props(made, dict(metadata))
    onnx.checker.check_model(made)
    return made.SerializeToString()


class _Graph:
    """The nodes and constants of an ONNX graph so far."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def name(self, value: Value) -> str:
        """The name of a value; an array becomes a constant of the graph."""
        if isinstance(value, str):
            return value
        name = f'constant_{len(self.constants)}'
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node of this kind with one output, whose name is returned."""
        names = [self.name(value) for value in inputs]
        output = f'{kind.lower()}_{len(self.nodes)}'
        self.nodes.append(self.onnx.helper.make_node(kind, names, [output], **attributes))
        return output

    def transpose(self, value: Value, order: Any) -> Value:
        order = [int(axis) for axis in order]
        if isinstance(value, np.ndarray):
            return value.transpose(order)
        return value if order == sorted(order) else self.add('Transpose', value, perm=order)

    def run(self, traced: Any, inputs: list[Value]) -> list[Value]:
        """Adds the equations of a traced function; returns its outputs."""
        known = dict(zip(traced.jaxpr.constvars, map(np.asarray, traced.consts)))
        known |= dict(zip(traced.jaxpr.invars, inputs))
        of = lambda atom: (
            np.asarray(atom.val) if isinstance(atom, jax.extend.core.Literal) else known[atom]
        )
        for equation in traced.jaxpr.eqns:
            outputs = self._equation(equation, [of(atom) for atom in equation.invars])
            known |= dict(zip(equation.outvars, outputs))
        return [of(atom) for atom in traced.jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        fields, name = equation.params, equation.primitive.name
        inner = fields.get('jaxpr') or fields.get('call_jaxpr')
        if inner:
            return self.run(inner, inputs)
        shapes = [out.aval.shape for out in equation.outvars]
        if not any(isinstance(value, str) for value in inputs) and _whole(*shapes):
            found = equation.primitive.bind(*inputs, **fields)
            return [
                np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])
            ]
        if name in SAME:
            return [self.add(SAME[name], *inputs)]
        if name not in OPERATIONS:
            _check(False, f'the operation {name}')
        return [OPERATIONS[name](self, equation, *inputs)]


def _whole(*shapes: Any) -> bool:
    return all(isinstance(size, int) for shape in shapes for size in shape)


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise UserError(f'{what} cannot be written as ONNX. --to stablehlo takes every net.')


# --- operations --------------------------------------------------------------------------------

# Operations that ONNX has too
SAME = {
    'add': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'div': 'Div', 'neg': 'Neg', 'pow': 'Pow',
    'tanh': 'Tanh', 'logistic': 'Sigmoid', 'exp': 'Exp', 'log': 'Log', 'erf': 'Erf', 'abs': 'Abs',
    'sqrt': 'Sqrt', 'min': 'Min',
}  # fmt: skip

# The others: functions of the graph, the traced equation, and its inputs
OPERATIONS: dict[str, Callable] = {}


def _operation(*names: str) -> Callable:
    def add(function: Callable) -> Callable:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return add


def _sizes(sizes: Any, unknown: int) -> np.ndarray:
    """A shape for ONNX; unknown: in the place of the batch."""
    return np.array([size if isinstance(size, int) else unknown for size in sizes], np.int64)


@_operation('max')
def _max(graph, equation, x, y):
    relu = isinstance(y, np.ndarray) and not y.any()
    return graph.add('Relu', x) if relu else graph.add('Max', x, y)


@_operation('square')
def _square(graph, equation, x):
    return graph.add('Mul', x, x)


@_operation('transpose')
def _transpose(graph, equation, x):
    return graph.transpose(x, equation.params['permutation'])


@_operation('reshape', 'squeeze')
def _reshape(graph, equation, x):
    return graph.add('Reshape', x, _sizes(equation.outvars[0].aval.shape, -1))


@_operation('broadcast_in_dim')
def _broadcast(graph, equation, x):
    places, sizes = equation.params['broadcast_dimensions'], equation.outvars[0].aval.shape
    own = dict(zip(places, equation.invars[0].aval.shape))
    single = [own.get(axis, 1) for axis in range(len(sizes))]
    if isinstance(x, np.ndarray):  # along the batch, as whatever reads it does
        return x.reshape(single)
    y = graph.add('Reshape', x, _sizes(single, -1))
    wide = _sizes(sizes, 1)
    return y if (_sizes(single, 1) == wide).all() else graph.add('Expand', y, wide)


@_operation('concatenate')
def _concatenate(graph, equation, *parts):
    return graph.add('Concat', *parts, axis=equation.params['dimension'])


@_operation('slice')
def _slice(graph, equation, x):
    fields = equation.params
    starts, ends = _sizes(fields['start_indices'], 0), _sizes(fields['limit_indices'], _END)
    steps = _sizes(fields['strides'] or [1] * len(ends), 1)
    return graph.add('Slice', x, starts, ends, np.arange(len(ends)), steps)


@_operation('pad')
def _pad(graph, equation, x, value):
    low, high, between = zip(*equation.params['padding_config'])
    _check(not any(between), 'padding between the pixels')
    return graph.add('Pad', x, np.array([*low, *high]), value)


@_operation('reduce_sum')
def _reduce_sum(graph, equation, x):
    return graph.add('ReduceSum', x, np.array(equation.params['axes']), keepdims=0)


@_operation('dot_general')
def _dot(graph, equation, x, y):
    (sums_x, sums_y), (batch_x, batch_y) = equation.params['dimension_numbers']
    ranks = [len(atom.aval.shape) for atom in equation.invars]
    if (ranks, [*sums_x], [*sums_y], [*batch_x]) == ([2, 2], [1], [0], []):
        return graph.add('MatMul', x, y)
    # One letter for each axis, the same for both of a pair
    letters = string.ascii_letters[: ranks[0]]
    pairs = dict(zip((*batch_y, *sums_y), (*batch_x, *sums_x)))
    others = iter(string.ascii_letters[ranks[0] :])
    second = [letters[pairs[axis]] if axis in pairs else next(others) for axis in range(ranks[1])]
    free = [letter for axis, letter in enumerate(letters) if axis not in (*batch_x, *sums_x)]
    free += [letter for axis, letter in enumerate(second) if axis not in pairs]
    result = [letters[axis] for axis in batch_x] + free
    words = f'{letters},{"".join(second)}->{"".join(result)}'
    return graph.add('Einsum', x, y, equation=words)


@_operation('conv_general_dilated')
def _conv(graph, equation, x, kernel):
    fields = equation.params
    images, kernels, results = fields['dimension_numbers']
    plain = {*fields['lhs_dilation'], fields['batch_group_count']} == {1}
    _check(plain, 'a transposed convolution')
    y = graph.add(
        'Conv',
        graph.transpose(x, images),
        graph.transpose(kernel, kernels),
        strides=fields['window_strides'],
        pads=_pads(fields['padding']),
        dilations=fields['rhs_dilation'],
        group=fields['feature_group_count'],
    )
    return graph.transpose(y, np.argsort(results))


@_operation('reduce_window_max')
def _max_pool(graph, equation, x):
    return _pool(graph, equation, x, 'MaxPool')


@_operation('reduce_window_sum')
def _sum_pool(graph, equation, x):
    means = _pool(graph, equation, x, 'AveragePool', count_include_pad=1)
    count = math.prod(equation.params['window_dimensions'])
    return graph.add('Mul', means, np.float32(count))


def _pool(graph, equation, x, kind, **attributes):
    fields = equation.params
    sizes, strides, padding = (
        fields[key] for key in ('window_dimensions', 'window_strides', 'padding')
    )
    plain = {*fields['base_dilation'], *fields['window_dilation']} == {1}
    axes = [axis for axis in range(len(sizes)) if (sizes[axis], *padding[axis]) != (1, 0, 0)]
    _check(plain and len(sizes) == 4 and len(axes) <= 2, 'a pool over such windows')
    # ONNX pools the last two axes; one over the channels takes another one with it
    others = [axis for axis in range(4) if axis not in axes]
    axes = sorted([*axes, *others[len(others) - (2 - len(axes)) :]])
    order = [*(axis for axis in range(4) if axis not in axes), *axes]
    y = graph.add(
        kind,
        graph.transpose(x, order),
        kernel_shape=[sizes[axis] for axis in axes],
        strides=[strides[axis] for axis in axes],
        pads=_pads([padding[axis] for axis in axes]),
        **attributes,
    )
    return graph.transpose(y, np.argsort(order))


def _pads(padding: Any) -> list[int]:
    """((low, high), ...) in the order of ONNX: all low ones first."""
    low, high = zip(*padding)
    return [int(size) for size in (*low, *high)]
