"""Config files and command lines: read, and set field by field.

A config file holds `get_config(arg)`, optionally `ARGUMENTS` (the values of `arg`; the first is
the default) and `sweep(add)`. checks.py says what a config may hold.
"""

import argparse
import ast
import importlib.util
import inspect
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from configs import base
from experiments.errors import UserError, nearest, one_of, reason, shown

SMOKE = 'smoke'  # argument that every config takes

# Groups whose fields are not listed in configs/base.py: they belong to the net.
OPEN = ('model.fields', 'train.layer_decay')


class ConfigFile(NamedTuple):
    """A loaded config file: `name` is its stem with the argument, `make()` a fresh config."""

    name: str
    make: Callable[[], Any]
    sweep: Callable | None
    arguments: tuple[str, ...] = ()  # that the file lists


def load(spec: str) -> ConfigFile:
    """Loads 'path.py' or 'path.py:argument'; the argument 'smoke', alone or after a comma, makes
    it small (configs.base.smoke).

    Raises:
      UserError: no such file, no `get_config` in it, it fails, or an argument not of its own.
    """
    path_text, _, arg = spec.partition(':')
    path = pathlib.Path(path_text)
    if not path.is_file():
        known = [
            str(p)
            for folder in (path.parent, pathlib.Path('configs'))
            for p in sorted(folder.glob('*.py'))
            if p.stem not in ('__init__', 'base')
        ]
        known = list(dict.fromkeys(known))
        raise UserError(
            f'no config file {path_text!r}.{nearest(path_text, known)} '
            f'There are: {", ".join(known) or "none here"}.'
        )
    if path.suffix != '.py':
        raise UserError(f'a config is a Python file, {path_text!r} is not.')
    module_spec = importlib.util.spec_from_file_location(f'_config_{path.stem}', path)
    assert module_spec and module_spec.loader  # there is one for every name in .py
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f'{path} does not load: {reason(error)}') from error
    if not callable(getattr(module, 'get_config', None)):
        raise UserError(f'{path} has no get_config(); see configs/base.py for what it returns.')
    arguments = getattr(module, 'ARGUMENTS', ())
    if not isinstance(arguments, (tuple, list)) or not all(isinstance(a, str) for a in arguments):
        raise UserError(
            f'ARGUMENTS of {path} is {shown(arguments)}, it must be a tuple of strings.'
        )
    small = False
    if arg not in arguments and arg.split(',')[-1] == SMOKE:
        small, arg = True, arg[: -len(SMOKE)].rstrip(',')
    if arg and arguments and arg not in arguments:
        raise one_of(f'argument of {path}', arg, (*arguments, SMOKE))
    if arg and not inspect.signature(module.get_config).parameters:
        raise UserError(f'{path} takes no argument, it was given {arg!r}.')

    def make():
        try:
            config = module.get_config(*([arg] if arg else []))
        except (Exception, SystemExit) as error:
            raise UserError(f'get_config() of {path} fails: {reason(error)}') from error
        _check_shape(config, path)
        if small:
            base.smoke(config)
        return config.lock()

    suffix = '-'.join(
        filter(None, (arg or (arguments[0] if arguments else ''), SMOKE if small else ''))
    )
    return ConfigFile(
        f'{path.stem}-{suffix}' if suffix else path.stem,
        make,
        getattr(module, 'sweep', None),
        tuple(arguments),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(f'{message}\n{self.format_usage().strip()}')


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with --config, for `parse`; mistakes are UserErrors. Flags are added to it."""
    made = _Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        epilog='--config.GROUP.FIELD=VALUE sets any field of configs/base.py, '
        'as in --config.train.epochs=2',
    )
    made.add_argument('--config', required=True, metavar='FILE[:ARGUMENT]')
    return made


def parse(
    made: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits a command line into a parser's flags and the `--config.field=value` overrides.

    Raises:
      UserError: an unknown flag (with the nearest one), or an override without a value.
    """
    rest, assignments, words = [], [], iter(argv)
    for word in words:
        field = re.fullmatch(r'--config\.([\w.]+)(?:=(.*))?', word, re.DOTALL)
        if not field:
            rest.append(word)
            continue
        value = field[2] if field[2] is not None else next(words, '--')
        if value.startswith('--'):
            raise UserError(f'{word} needs a value: {word}=VALUE')
        assignments.append((field[1], value))
    known = [flag for action in made._actions for flag in action.option_strings]
    for word in rest:
        flag = word.partition('=')[0]
        if flag.startswith('-') and flag not in known:
            raise one_of('flag', flag, known)
    return made.parse_args(rest), assignments


def _check_shape(config, path) -> None:
    """UserError unless a config has the fields of configs/base.py, each of the same type."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f'get_config() of {path} returns {shown(config)}; it must return a '
            'ConfigDict made by configs.base.get_config().'
        )
    model = base.get_config()
    fields, given = flatten(model), flatten(config)
    missing = [name for name in fields if name not in given]
    missing += [
        name for name in OPEN if not isinstance(_look(config, name), ml_collections.ConfigDict)
    ]
    if missing:
        raise UserError(
            f'get_config() of {path} lacks {", ".join(missing[:5])}'
            f'{" and more" if len(missing) > 5 else ""}; start from '
            'configs.base.get_config().'
        )
    for name, default in fields.items():
        *parents, leaf = name.split('.')
        kind = _group(model, parents).get_type(leaf)
        if not (isinstance(given[name], kind) or default is None and given[name] is None):
            raise UserError(
                f'field {name!r} of {path} takes {KINDS[kind]}, it is {shown(given[name])}.'
            )


KINDS = {
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
    str: 'text',
    tuple: 'a list such as 0.1,0.2',
}


def _look(config, path: str):
    """The value at a dotted path, or None."""
    for name in path.split('.'):
        config = config.get(name) if hasattr(config, 'get') else None
    return config


def _group(config, parents):
    for parent in parents:
        config = config[parent]
    return config


def flatten(tree: Mapping | ml_collections.ConfigDict, prefix: str = '') -> dict[str, Any]:
    """{'model': {'pool': 'max'}} -> {'model.pool': 'max'}."""
    flat = {}
    for key, value in tree.items():
        if hasattr(value, 'items'):
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[prefix + key] = value
    return flat


def set_field(config: ml_collections.ConfigDict, path: str, value: object) -> None:
    """Sets one field by its dotted path, in place.

    A string is read as the field's own type, so that overrides can come from a command line; in a
    group of OPEN, as a Python value or else as text.

    Raises:
      UserError: an unknown field (with the nearest one) or a value of another type.
    """
    fields = flatten(config)
    group, _, leaf = path.rpartition('.')
    if group in OPEN and leaf.isidentifier():
        node = _group(config, group.split('.'))
        with node.unlocked(), node.ignore_type():
            node[leaf] = _read_open(value)
        return
    if path not in fields:
        groups = sorted({name.rsplit('.', 1)[0] for name in fields if '.' in name})
        if path in groups:
            inside = [name for name in fields if name.startswith(path + '.')]
            raise UserError(f'{path!r} is a group of fields. Set one of: {", ".join(inside)}.')
        raise one_of('field', path, fields)
    *parents, leaf = path.split('.')
    node = _group(config, parents)
    kind = node.get_type(leaf)
    try:
        node[leaf] = _read(value, kind)
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UserError(
            f'field {path!r} takes {KINDS.get(kind, kind.__name__)}, it was given {shown(value)}.'
        ) from error


def _read(value, kind):
    if kind is not str and isinstance(value, str):
        if value in ('true', 'false'):
            value = value.capitalize()
        value = ast.literal_eval(value)
    if kind is tuple and not isinstance(value, (tuple, list)):
        value = (value,)
    if kind in (int, float) and isinstance(value, bool):
        raise TypeError(value)  # Python would take True for 1
    if kind is tuple:
        return tuple(value)
    return float(value) if kind is float and isinstance(value, int) else value


def _read_open(value):
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.capitalize() if value in ('true', 'false') else value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return tuple(value) if isinstance(value, list) else value
