"""The nets in numbers, read from their traced programs.

Everything comes from the program that JAX traces for inference on one image, not from what a net
says about itself. Conventions, those of the papers' tables:

parameters       what inference reads; auxiliary heads that inference drops count in training alone
multiply-adds    of convolutions and matrix products of the image by parameters; biases, pooling
                 and normalisation count nothing
receptive field  of one output unit, in pixels of the input, not cut at the border; a unit
                 that sees all of the input by construction (after a flatten or a mean) has none
layers           convolutions and matrix products on the longest path
"""

import copy
import dataclasses
import functools
import json
import sys
from typing import Any

import rich.progress
from rich.console import Console

import cnns
from experiments.errors import UserError
from experiments.models.tracing import Row, Window, trace


def describe(name: str, side: int | None = None, **fields: Any) -> dict[str, Any]:
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
def _as_published(name: str) -> dict[str, Any]:
    return _describe(name, None, {})


def _describe(name: str, side: int | None, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        # The plain forms: the program of a fast one holds the operations of every platform
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


def _check_types(name: str, entry: cnns.Entry, fields: dict[str, Any]) -> None:
    """Raises UserError for a value of another type than the field's usual one."""
    defaults = {field.name: field.default for field in dataclasses.fields(entry.net)}
    for field, value in fields.items():
        usual = entry.fields.get(field, defaults[field])
        kind = type(usual)
        if kind in (bool, int, str, tuple) and type(value) is not kind:
            raise UserError(
                f'field {field} of {name} takes a {kind.__name__} such as {usual!r}, '
                f'it was given {value!r}.'
            )


def _plain(row: Row) -> dict[str, Any]:
    """A row as JSON has it, its window spelled as kernel, stride and padding."""
    window = row.window._asdict() if row.window else dict.fromkeys(Window._fields)
    fields = {'layer': row.layer, 'kind': row.kind} | window | row._asdict()
    del fields['window']
    return json.loads(json.dumps(fields))  # tuples become lists


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
            times(net['input']),
            f'{net["parameters"]:,}',
            net['paper_parameters'],
            f'{net["macs"]:,}',
            str(net['layers']),
            times(net['receptive_field']),
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
            times(row['kernel']),
            times(row['stride']),
            _padding(row['padding']),
            times(row['groups']),
            times(row['output'], False),
            f'{row["parameters"]:,}',
            f'{row["macs"]:,}',
            times(row['receptive_field']),
        )
        for row in net['rows']
    ]
    return [*lines, ('total', *[''] * 6, f'{net["parameters"]:,}', f'{net["macs"]:,}', '')]


def times(sizes: Any, short: bool = True) -> str:
    """[3, 3] -> '3', [3, 1] -> '3×1', [55, 55, 96] -> '55×55×96', None -> ''."""
    if sizes is None:
        return ''
    sizes = sizes if isinstance(sizes, list) else [sizes]
    if short and len(sizes) == 2 and sizes[0] == sizes[1]:
        sizes = sizes[:1]
    return '×'.join(map(str, sizes))


def _padding(padding: list[list[int]] | None) -> str:
    """[[1, 1], [1, 1]] -> '1', [[0, 3], [0, 3]] -> '0-3'."""
    if padding is None:
        return ''
    return times([str(low) if low == high else f'{low}-{high}' for low, high in padding])
