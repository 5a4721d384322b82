"""The nets in numbers, read off their traced programs.

    python -m experiments.models                                  one line per net
    python -m experiments.models --json | --markdown
    python -m experiments.models --figure FILE                    FILE.png or FILE.svg
    python -m experiments.models NAME [--FIELD=VALUE ...] [--side=N] [--json | --markdown]

Everything comes from the program that JAX traces for inference on one image, not from what a net
says about itself, and no weight is allocated. Conventions, those of the papers' tables:

parameters       what inference reads; auxiliary heads that inference drops count in training alone
multiply-adds    of convolutions and matrix products of the image by parameters; biases, pooling
                 and normalisation count nothing
receptive field  of one output unit, in pixels of the input, not cut at the border; a unit
                 that sees all of the input by construction (after a flatten or a mean) has none
layers           convolutions and matrix products on the longest path
"""

import argparse
import ast
import contextlib
import copy
import dataclasses
import functools
import gc
import json
import math
import re
import sys
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.ticker
import numpy as np
import rich.box
import rich.progress
import rich.table
import rich.text
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

import cnns
from experiments import style, tables
from experiments.errors import UserError, command

# ---- reading a program


class Window(NamedTuple):
    """What slides over the map; each entry is (along the height, along the width)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))


class Row(NamedTuple):
    """One line of a net's table: a weighted layer, or one that pools over space.

    kind: 'conv', 'local' (a convolution whose weights are not shared), 'dense', 'max pool',
        'average pool', 'norm' (over a window in space), or 'fixed' (computes without parameters).
    output: its shape without the batch. receptive_field: None where there is none.
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
    """A net read off its program. depth: weighted rows on the longest path."""

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
    window: Window | None = None  # of patches that await their weights
    squared: bool = False


# Programs inside a program, which run as if they stood there themselves
_CALLS = (
    'jit',
    'pjit',
    'closed_call',
    'core_call',
    'remat',
    'remat2',
    'checkpoint',
    'custom_jvp_call',
    'custom_vjp_call',
    'custom_vjp_call_jaxpr',
)
_WINDOWS = {'reduce_window_max': 'max pool', 'reduce_window_sum': 'average pool'}
_REDUCTIONS = {'reduce_max': 'max pool', 'reduce_sum': 'average pool'}


def trace(net, input: tuple[int, int, int]) -> Trace:
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
        program, result, variables, places = _started(net, x)
        values, sizes = _parameters(variables)
        outputs = reader.run(program, [image], '', dict(zip(places, values, strict=True)))
    except _Hidden:
        program, result, variables = _inference(net, x)
        values, sizes = _parameters(variables)
        reader = _Reader()
        outputs = reader.run(program, [*values, image], '')
    outputs = outputs[: len(jax.tree.leaves(result))]
    used = live = 0
    for value in outputs:
        used |= value.parameters
        live |= value.rows

    def count(bits):
        return sum(size for i, size in enumerate(sizes) if bits >> i & 1)

    rows = [
        row._replace(parameters=count(owned & used))
        for i, (row, owned) in enumerate(zip(reader.rows, reader.owned, strict=True))
        if live >> i & 1
    ]
    # A pool without a scope of its own bears the name of its block, which holds other rows
    blocks = {row.layer.rpartition('/')[0] for row in rows}
    rows = [row._replace(layer=f'{row.layer}/pool') if row.layer in blocks else row for row in rows]
    macs = dict(getattr(net, 'MACS', {}))
    rows = [row._replace(macs=macs.pop(row.layer, row.macs)) for row in rows]
    shape = jax.tree.leaves(result)[0].shape[1:]
    rows += [Row(layer, 'fixed', None, None, shape, 0, n, None) for layer, n in macs.items()]
    return Trace(tuple(rows), max(value.depth for value in outputs), count(used), sum(sizes))


class _Hidden(Exception):
    """A parameter is made where only a part of the program sees it."""


def _inference(net, x):
    """The program of (variables, image), the shapes of its result and of the variables."""
    with _no_collection():
        variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
        program, result = jax.make_jaxpr(
            lambda variables, x: net.apply(variables, x, train=False), return_shape=True
        )(variables, x)
    return program.jaxpr, result, variables


def _started(net, x):
    """The same with the variables' start in front, and where in the program each is made.

    One trace instead of two, which halves the time; what flax does only on starting (to make an
    auxiliary head that inference does not call) has no part in the result.
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
    values, sizes = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if path[0].key == 'params':
            values.append(_Value(parameters=1 << len(sizes)))
            sizes.append(math.prod(leaf.shape))
        else:
            values.append(_CONSTANT)
    return values, sizes


@contextlib.contextmanager
def _no_collection():
    """Holds Python's search for cyclic garbage, a third of the time of a deep net's trace."""
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
                outs = self.step(eqn, ins, _join(scope, str(eqn.source_info.name_stack)))
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
        inner = next(
            (
                jaxpr
                for jaxpr in (getattr(param, 'jaxpr', param) for param in eqn.params.values())
                if hasattr(jaxpr, 'eqns')
            ),
            None,
        )
        if name in _CALLS:
            return self.run(inner, ins, scope)
        if inner is not None and not name.startswith('reduce'):
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
        elif name.startswith('reduce_window') and _moved(before[0], value):
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
        return self.add(
            value,
            scope,
            'conv',
            window,
            _nhwc(shape, params),
            weighted=True,
            groups=params['feature_group_count'],
            macs=macs,
        )

    def multiply(self, eqn, ins, value, scope):
        side = 0 if ins[0].image else 1
        (contracted, batch) = (pair[side] for pair in eqn.params['dimension_numbers'])
        read, shape = eqn.invars[side].aval.shape, eqn.outvars[0].aval.shape
        macs = math.prod(shape) * math.prod(read[axis] for axis in contracted)
        local = any(axis in batch for axis in ins[side].axes)
        if local:  # the batch of images comes after the places
            places = tuple(shape[axis] for axis in sorted(value.axes))
            shape = (1, *places, math.prod(shape) // math.prod(places))
        return self.add(
            value,
            scope,
            'local' if local else 'dense',
            value.window or Window(),
            shape,
            macs=macs,
            weighted=True,
        )


_CONSTANT = _Value()


def _union(values, field='parameters'):
    bits = 0
    for value in values:
        bits |= getattr(value, field)
    return bits


def _join(*scopes):
    return '/'.join(scope for scope in scopes if scope)


def _layer(scope):
    """'Net/conv4_3/conv1/conv' -> 'conv4_3/conv1': without the net, methods and einsums."""
    parts = [part for part in scope.split('/')[1:] if '.' not in part and '->' not in part]
    return '/'.join(parts[:-1] if len(parts) > 1 and parts[-1] in ('conv', 'dense') else parts)


def _nhwc(shape, params):
    batch, features, *space = params['dimension_numbers'].out_spec
    return tuple(shape[axis] for axis in (batch, *space, features))


def _squares(eqn):
    name, ins = eqn.primitive.name, eqn.invars
    return (
        name == 'square'
        or name == 'integer_pow'
        and eqn.params['y'] == 2
        or name == 'mul'
        and ins[0] is ins[1]
    )


def _moved(before, after):
    """Did a window slide over space, rather than over channels alone?"""
    return before.axes != after.axes


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
    axes = {}
    for value in ins:
        for axis, state in value.axes.items():
            axes[axis] = tuple(map(max, state, axes.get(axis, state)))
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
    sizes, strides, padding = (
        eqn.params[f'window_{what}'] if what != 'padding' else eqn.params['padding']
        for what in ('dimensions', 'strides', 'padding')
    )
    space = sorted(axes)
    window = Window(
        *(
            tuple(entry[axis] for axis in space)
            for entry in (sizes, strides, tuple(map(tuple, padding)))
        )
    )
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


# ---- describing a net


def describe(name: str, side: int | None = None, **fields) -> dict[str, Any]:
    """One net of cnns as plain data.

    name, family (class), input [H, W, C], parameters, training_parameters, macs, layers,
    receptive_field, year, paper, paper_parameters (as printed, or ''), and rows, a list of dicts
    with the fields of Row, its window spelled as kernel, stride and padding.

    Args: side: height and width of another input; fields: of the net, beside its entry's.

    Raises UserError for what the net does not take, with its own words.
    """
    if side is None and not fields:
        return copy.deepcopy(_as_published(name))
    return _describe(name, side, fields)


@functools.cache
def _as_published(name):
    return _describe(name, None, {})


def _describe(name, side, fields):
    try:
        # The plain forms: a fast one shows the operations of every platform
        net = cnns.build(name, **fields | {'fast': False})
    except (ValueError, TypeError) as error:  # TypeError: a value that cannot be looked up
        raise UserError(str(error)) from error
    entry = cnns.NETS[name]
    _check_types(name, entry, fields)
    height, width, _ = entry.input
    shape = (side or height, side or width, net.channels)
    try:
        read = trace(net, shape)
    except ValueError as error:
        raise UserError(str(error)) from error
    except Exception as error:
        if not fields:
            raise
        given = ', '.join(f'{field}={value!r}' for field, value in fields.items())
        raise UserError(
            f'{name} cannot be made with {given} ({type(error).__name__}: {error}); '
            'leave a field out to have its default.'
        ) from error
    rows = [_plain(row) for row in read.rows]
    seen = [row['receptive_field'] for row in rows if row['receptive_field'] is not None]
    return {
        'name': name,
        'family': type(net).__name__,
        'input': list(shape),
        'parameters': read.parameters,
        'training_parameters': read.training_parameters,
        'macs': sum(row['macs'] for row in rows),
        'layers': read.depth,
        'receptive_field': max(seen, default=None),
        'year': entry.year,
        'paper': entry.paper,
        'paper_parameters': entry.printed,
        'rows': rows,
    }


def _check_types(name, entry, fields):
    defaults = {field.name: field.default for field in dataclasses.fields(entry.net)}
    for field, value in fields.items():
        usual = entry.fields.get(field, defaults[field])
        kind = type(usual)
        if kind in (bool, int, str, tuple) and type(value) is not kind:
            raise UserError(
                f'field {field} of {name} takes a {kind.__name__} such as {usual!r}, '
                f'it was given {value!r}.'
            )


def _plain(row):
    window = row.window._asdict() if row.window else dict.fromkeys(Window._fields)
    fields = row._asdict() | window
    del fields['window']
    order = (
        'layer',
        'kind',
        *Window._fields,
        'groups',
        'output',
        'parameters',
        'macs',
        'receptive_field',
    )
    return json.loads(json.dumps({key: fields[key] for key in order}))  # tuples become lists


def zoo() -> list[dict[str, Any]]:
    """Every net as `describe` gives it, without its rows; on a terminal, with a progress bar."""
    names = rich.progress.track(
        cnns.names(),
        'tracing',
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    nets = [describe(name) for name in names]
    for net in nets:
        del net['rows']
    return nets


# ---- tables

HEADINGS = (
    'net',
    'input',
    'parameters',
    'paper says',
    'multiply-adds',
    'layers',
    'receptive field',
    'year',
    'paper',
)
ROW_HEADINGS = (
    'layer',
    'kind',
    'kernel',
    'stride',
    'padding',
    'groups',
    'output',
    'parameters',
    'multiply-adds',
    'receptive field',
)


def cells(nets: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table of all nets as text, one tuple per net in the order of HEADINGS."""
    return [
        (
            net['name'],
            _times(net['input']),
            f'{net["parameters"]:,}',
            net['paper_parameters'],
            f'{net["macs"]:,}',
            str(net['layers']),
            _times(net['receptive_field']),
            str(net['year']),
            net['paper'],
        )
        for net in nets
    ]


def row_cells(net: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of one net as text, in the order of ROW_HEADINGS; the last row is the total."""
    lines = [
        (
            row['layer'],
            row['kind'],
            _times(row['kernel']),
            _times(row['stride']),
            _padding(row['padding']),
            _times(row['groups']),
            _times(row['output'], False),
            f'{row["parameters"]:,}',
            f'{row["macs"]:,}',
            _times(row['receptive_field']),
        )
        for row in net['rows']
    ]
    return [*lines, ('total', *[''] * 6, f'{net["parameters"]:,}', f'{net["macs"]:,}', '')]


def _times(sizes, short=True):
    """[3, 3] -> '3', [3, 1] -> '3×1', [55, 55, 96] -> '55×55×96', None -> ''."""
    if sizes is None:
        return ''
    sizes = sizes if isinstance(sizes, list) else [sizes]
    if short and len(sizes) == 2 and sizes[0] == sizes[1]:
        sizes = sizes[:1]
    return '×'.join(map(str, sizes))


def _padding(padding):
    """[[1, 1], [1, 1]] -> '1', [[0, 3], [0, 3]] -> '0-3'."""
    if padding is None:
        return ''
    return _times([str(low) if low == high else f'{low}-{high}' for low, high in padding])


# ---- figure

MARKERS = 'osD^vP*Xph<>d8'


def render(nets: list[dict[str, Any]]) -> Figure:
    """Parameters against multiply-adds, both logarithmic; every net is named once.

    Nets at the same point share a label.
    """
    figure = Figure((12, 8), dpi=150, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale('log')
    axes.set_yscale('log')
    families = list(dict.fromkeys(net['family'] for net in nets))
    points, colours = {}, {}
    for i, family in enumerate(families):
        members = [net for net in nets if net['family'] == family]
        colour = style.COLOURS[i % len(style.COLOURS)]
        axes.plot(
            [net['macs'] for net in members],
            [net['parameters'] for net in members],
            MARKERS[i % len(MARKERS)],
            color=colour,
            ms=7,
            mec='white',
            mew=0.6,
            label=family,
        )
        for net in members:
            place = net['macs'], net['parameters']
            points.setdefault(place, []).append(net['name'])
            colours.setdefault(place, colour)
    axes.set_xlabel('multiply-adds per image')
    axes.set_ylabel('parameters')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(matplotlib.ticker.EngFormatter(sep='\N{NO-BREAK SPACE}'))
        axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    axes.set_title(
        'Parameters and multiply-adds of the nets, each at its own input size, for one image',
        fontsize=11,
        loc='left',
    )
    axes.legend(loc='upper left', frameon=False, fontsize=8)
    _label(figure, axes, points, colours)
    return figure


_SIZE = 6.5  # of a label, points
_ANGLES = np.arange(0, 360, 15)
_RADII = (9, 16, 26, 40, 58, 80, 110, 145)  # pixels from the point to its label


def _label(figure, axes, points, colours):
    """Writes each label where it covers least, by a greedy choice that is revised a few times."""
    figure.draw_without_rendering()  # so that the axes have their final place
    figure.set_layout_engine('none')
    renderer, inside = figure.canvas.get_renderer(), axes.get_window_extent()
    places = axes.transData.transform(np.array(list(points), float))
    texts = [
        axes.text(*place, ', '.join(names), fontsize=_SIZE, color=colours[place])
        for place, names in points.items()
    ]
    sizes = [text.get_window_extent(renderer) for text in texts]
    legend = axes.get_legend().get_window_extent(renderer)
    marks = np.concatenate([places - 8, places + 8], axis=1)
    fixed = np.vstack([marks, [legend.x0, legend.y0, legend.x1, legend.y1]])
    candidates = [
        _candidates(place, size.width, size.height)
        for place, size in zip(places, sizes, strict=True)
    ]
    costs = []
    for boxes, reach in candidates:
        outside = ((boxes[:, :2] < inside.min + 4) | (boxes[:, 2:] > inside.max - 4)).any(1)
        costs.append(reach + 1e6 * outside + 20 * _overlap(_wider(boxes), fixed).sum(1))
    # The most crowded points choose first
    near = np.linalg.norm(places[:, None] - places, axis=-1)
    order = np.argsort(-(near < 150).sum(1), kind='stable')
    chosen = {}
    for _ in range(6):
        for i in order:
            boxes, _reach = candidates[i]
            others = np.array([candidates[j][0][k] for j, k in chosen.items() if j != i])
            cost = costs[i]
            if len(others):
                placed = np.array([places[j] for j in chosen if j != i])
                cost = cost + 20 * _overlap(_wider(boxes), others).sum(1)
                cost = cost + 60 * _struck(_lines(places[i], boxes), others).sum(1)
                cost = cost + 60 * _struck(_lines(placed, others), boxes).sum(0)
            chosen[i] = int(np.argmin(cost))
    invert = axes.transData.inverted()
    for i, text in enumerate(texts):
        boxes, reach = candidates[i]
        box = boxes[chosen[i]]
        text.set_position(invert.transform(box[:2]))
        text.set_verticalalignment('bottom')
        if reach[chosen[i]] > _RADII[1]:
            end = np.clip(places[i], box[:2], box[2:])
            line = invert.transform([places[i], end])
            axes.plot(
                *line.T,
                color=text.get_color(),
                lw=0.5,
                alpha=0.6,
                zorder=1,
                scalex=False,
                scaley=False,
            )


def _candidates(place, width, height):
    """Boxes [n, 4] (left, bottom, right, top) around a point, and how far each is from it."""
    boxes, reach = [], []
    for radius in _RADII:
        for angle in np.radians(_ANGLES):
            dx, dy = math.cos(angle), math.sin(angle)
            left = place[0] + radius * dx - width * (1 - dx) / 2
            bottom = place[1] + radius * dy - height * (1 - dy) / 2
            boxes.append((left, bottom, left + width, bottom + height))
            reach.append(radius)
    return np.array(boxes), np.array(reach, float)


def _wider(boxes):
    return boxes + np.array([-3, -1, 3, 1])


def _overlap(boxes, others):
    """Common area, [len(boxes), len(others)], square pixels."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1)


def _lines(places, boxes):
    """Points [n, 20, 2] on the line from a place to the nearest spot of each box."""
    ends = np.clip(places, boxes[:, :2], boxes[:, 2:])
    part = np.linspace(0, 1, 20)[:, None]
    return np.broadcast_to(places, ends.shape)[:, None] * (1 - part) + ends[:, None] * part


def _struck(lines, boxes):
    """Does a line pass through a box? bool [len(lines), len(boxes)]."""
    points = lines[:, None]
    inside = (points >= boxes[None, :, None, :2]) & (points <= boxes[None, :, None, 2:])
    return inside.all(-1).any(-1)


def draw(nets: list[dict[str, Any]], path: str) -> None:
    """Writes the figure as .png or .svg. Raises UserError for another ending, OSError."""
    style.check_ending(path)
    style.save(render(nets), path)


# ---- command line


def _fields(words):
    """['--norm=batch', '--classes=10'] -> {'norm': 'batch', 'classes': 10}."""
    fields = {}
    for word in words:
        match = re.fullmatch(r'--(\w+)=(.*)', word, re.S)
        if not match:
            raise UserError(
                f'{word!r} is not understood: a field of the net is set as --FIELD=VALUE.'
            )
        field, text = match.groups()
        text = {'true': 'True', 'false': 'False', 'none': 'None'}.get(text, text)
        try:
            fields[field] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            fields[field] = text  # a word, e.g. relu
        if field in ('dtype', 'param_dtype'):
            try:
                fields[field] = jnp.dtype(text)
            except TypeError:
                raise UserError(
                    f'{field} {text!r} is not known. Allowed: float32, bfloat16, float16.'
                ) from None
    return fields


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m experiments.models',
        allow_abbrev=False,
        description='Describes the nets: all of them, or one layer by layer. Read off the traced '
        'programs; no weights are allocated.',
        epilog='Any field of the net can be set: --norm=batch --classes=10.',
    )
    parser.add_argument('name', nargs='?', help='a net, for its table of layers (default: all)')
    parser.add_argument('--side', type=int, metavar='N', help='with NAME: read N x N images')
    output = parser.add_mutually_exclusive_group()
    output.add_argument('--json', action='store_true', help='the same as JSON')
    output.add_argument('--markdown', action='store_true', help='the same as a GitHub table')
    output.add_argument(
        '--figure',
        metavar='FILE',
        help='draw parameters against multiply-adds of all nets, .png or .svg',
    )
    return parser


def _one(args, fields):
    net = describe(args.name, args.side, **fields)
    if args.json:
        return json.dumps(net, indent=2)
    lines = row_cells(net)
    if args.markdown:
        return tables.markdown(ROW_HEADINGS, lines)
    given = ''.join(f', {field}={value}' for field, value in fields.items())
    return tables.table(
        ROW_HEADINGS,
        lines,
        f'{net["name"]}{given}: {net["family"]}, {net["paper"]}; '
        f'input {_times(net["input"])}, {net["layers"]} weight layers',
    )


def _all(args):
    nets = zoo()
    if args.figure:
        draw(nets, args.figure)
        return args.figure
    if args.json:
        return json.dumps(nets, indent=2)
    if args.markdown:
        return tables.markdown(HEADINGS, cells(nets))
    return tables.table(HEADINGS, cells(nets))


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args, words = _parser().parse_known_args(argv)
    fields = _fields(words)
    if args.name is None and (fields or args.side is not None):
        raise UserError('fields and --side are for one net: name it first.')
    if args.name is not None and args.figure:
        raise UserError('--figure draws all nets: leave out the name.')
    if args.side is not None and args.side < 1:
        raise UserError(f'--side is {args.side}, it must be at least 1 pixel.')
    shown = _all(args) if args.name is None else _one(args, fields)
    if isinstance(shown, str):
        print(shown.rstrip('\n'))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(shown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
