"""The command that describes the nets.

python -m experiments.models                                  one line per net
python -m experiments.models --json | --markdown
python -m experiments.models --figure FILE                    FILE.png or FILE.svg
python -m experiments.models NAME [--FIELD=VALUE ...] [--side=N] [--json | --markdown]
"""

import argparse
import ast
import json
import re
from typing import Any

import jax.numpy as jnp

from experiments import machine, style, tables
from experiments.errors import UserError, command
from experiments.models import description, figure
from experiments.options import Parser


def _fields(words: list[str]) -> dict[str, Any]:
    """['--norm=batch', '--classes=10'] -> {'norm': 'batch', 'classes': 10}."""
    fields: dict[str, Any] = {}
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


def parser() -> Parser:
    made = Parser(
        prog='python -m experiments.models',
        others=True,
        description='Describes the nets: all of them, or one layer by layer. Read from the traced '
        'programs; no weights are allocated.',
        epilog='Any field of the net can be set: --norm=batch --classes=10.',
    )
    made.add_argument('name', nargs='?', help='a net, for its table of layers (default: all)')
    made.add_argument('--side', type=int, metavar='N', help='with NAME: read N x N images')
    output = made.add_mutually_exclusive_group()
    output.add_argument('--json', action='store_true', help='the same as JSON')
    output.add_argument('--markdown', action='store_true', help='the same as a GitHub table')
    output.add_argument(
        '--figure',
        metavar='FILE',
        help='draw parameters against multiply-adds of all nets, .png or .svg',
    )
    return made


def _one(args: argparse.Namespace, fields: dict[str, Any]) -> str | tables.Terminal:
    """What is printed of one net."""
    net = description.describe(args.name, args.side, **fields)
    if args.json:
        return json.dumps(net, indent=2)
    lines = description.row_cells(net)
    if args.markdown:
        return tables.markdown(description.ROW_HEADINGS, lines)
    given = ''.join(f', {field}={value}' for field, value in fields.items())
    return tables.Terminal(
        description.ROW_HEADINGS,
        lines,
        f'{net["name"]}{given}: {net["family"]}, {net["paper"]}; '
        f'input {description.times(net["input"])}, {net["layers"]} weight layers',
    )


def _all(args: argparse.Namespace) -> str | tables.Terminal:
    """What is printed of all nets."""
    if args.figure:
        style.check_ending(args.figure)
        return str(style.save(figure.render(description.zoo()), args.figure))
    nets = description.zoo()
    if args.json:
        return json.dumps(nets, indent=2)
    if args.markdown:
        return tables.markdown(description.HEADINGS, description.cells(nets))
    return tables.Terminal(description.HEADINGS, description.cells(nets))


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args, words = parser().parse_known_args(argv)
    fields = _fields(words)
    if args.name is None and (fields or args.side is not None):
        raise UserError('fields and --side are for one net: name it first.')
    if args.name is not None and args.figure:
        raise UserError('--figure draws all nets: leave out the name.')
    if args.side is not None and args.side < 1:
        raise UserError(f'--side is {args.side}, it must be at least 1 pixel.')
    machine.check_devices()
    shown = _all(args) if args.name is None else _one(args, fields)
    if isinstance(shown, str):
        print(shown.rstrip('\n'))
    else:
        tables.show(shown)
    return 0
