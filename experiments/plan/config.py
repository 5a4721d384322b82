"""From a config file and command-line overrides to one config.

A config file holds `get_config(arg)`, optionally `ARGUMENTS` (the values of `arg`; the first is
the default) and `sweep(add)`. No run starts here.
"""

import argparse
import ast
import copy
import functools
import importlib.util
import inspect
import pathlib
import re
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import cnns
from configs import base
from experiments.errors import UserError, listed, nearest, one_of, reason, shown
from experiments.options import Parser


def flatten(tree, prefix: str = '') -> dict[str, Any]:
    """{'model': {'pool': 'max'}} -> {'model.pool': 'max'}."""
    flat = {}
    for key, value in tree.items():
        if hasattr(value, 'items'):
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[prefix + key] = value
    return flat


AXES = tuple(cnns.axes.AXES)
SMOKE = 'smoke'  # argument that every config takes

# Groups whose fields are not listed in configs/base.py: they belong to the net or to optax.
OPEN = ('model.fields', 'train.layer_decay', 'train.optimiser_fields')

# Fields that may be None, the default: the code, the net or the machine decides
_OPTIONAL = {name for name, value in flatten(base.get_config()).items() if value is None}
_COMMON = 'data.name data.limit model.name train.epochs train.batch train.rate train.devices seed'

KINDS = {
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
    str: 'text',
    tuple: 'a list such as 0.1,0.2',
}


# --- a config file -----------------------------------------------------------------------------


class ConfigFile(NamedTuple):
    """A config file: `name` is its stem with the argument, `make()` returns a fresh config."""

    name: str
    make: Callable[[], ConfigDict]
    sweep: Callable | None
    arguments: tuple[str, ...] = ()  # that the file lists
    small: bool = False  # 'smoke'
    comparisons: tuple[tuple[str, str], ...] = ()  # that the file declares: (arm, arm)


def read_config(spec: str) -> ConfigFile:
    """Reads 'path.py' or 'path.py:argument'.

    The argument 'smoke', alone or after a comma, makes the config small (configs.base.smoke).

    Raises:
      UserError: no such file, no `get_config` in it, it fails, or an argument not of its own.
    """
    path_text, _, arg = spec.partition(':')
    path = _existing(path_text)
    module = _module(path)
    arguments = getattr(module, 'ARGUMENTS', ())
    if not isinstance(arguments, (tuple, list)) or not all(isinstance(a, str) for a in arguments):
        raise UserError(
            f'ARGUMENTS of {path} is {shown(arguments)}, it must be a tuple of strings.'
        )
    small = arg not in arguments and arg.split(',')[-1] == SMOKE
    if small:
        arg = arg[: -len(SMOKE)].rstrip(',')
    if arg and arguments and arg not in arguments:
        raise one_of(f'argument of {path}', arg, (*arguments, SMOKE))
    if arg and not inspect.signature(module.get_config).parameters:
        raise UserError(f'{path} takes no argument, it was given {arg!r}.')

    def make():
        try:
            config = module.get_config(*([arg] if arg else []))
        except (Exception, SystemExit) as error:
            raise UserError(f'get_config() of {path} fails: {reason(error)}') from error
        _check_shape(config, f'get_config() of {path}')
        if small:
            base.smoke(config)
        return config.lock()

    chosen = arg or (arguments[0] if arguments else '')
    name = '-'.join(filter(None, (path.stem, chosen, SMOKE if small else '')))
    sweep = getattr(module, 'sweep', None)
    if sweep is not None and len(inspect.signature(sweep).parameters) > 1:
        sweep = functools.partial(_with_argument, sweep, chosen)
    pairs = _comparisons(getattr(module, 'COMPARISONS', ()), path)
    return ConfigFile(name, make, sweep, tuple(arguments), small, pairs)


def of_config(config: ConfigDict, name: str = 'python') -> ConfigFile:
    """The ConfigFile of a config made in Python, which is copied: one arm with one seed.

    Raises:
      UserError: it has not the fields of configs/base.py.
    """
    _check_shape(config, 'the config')
    kept = copy.deepcopy(config).lock()
    return ConfigFile(name, lambda: copy.deepcopy(kept), None)


def _with_argument(sweep: Callable, argument: str, add: Callable) -> None:
    sweep(add, argument)


def _comparisons(given: Any, path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """COMPARISONS of a config file. Raises UserError unless it holds pairs of labels of arms."""
    pairs = given if isinstance(given, (tuple, list)) else (None,)
    for pair in pairs:
        texts = isinstance(pair, (tuple, list)) and all(isinstance(text, str) for text in pair)
        if not texts or len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(
                f'COMPARISONS of {path} is {shown(given)}, it must be a tuple of pairs of two '
                "labels of arms: (('none', 'batch'), ...)."
            )
    return tuple((one, two) for one, two in pairs)


def _existing(text: str) -> pathlib.Path:
    """The path of a Python file, else the packaged config of that name: 'configs/NAME.py', 'NAME'.

    Raises UserError with the nearest one.
    """
    path, packaged = pathlib.Path(text), pathlib.Path(base.__file__).parent
    name = path.name if path.suffix == '.py' else f'{path.name}.py'
    if path.is_file():
        if path.suffix != '.py':
            raise UserError(f'a config is a Python file, {text!r} is not.')
    elif path.parent in (pathlib.Path('.'), pathlib.Path('configs')) and name in _configs(packaged):
        return packaged / name
    else:
        folders = dict.fromkeys((path.parent, pathlib.Path('configs')))
        own = [str(folder / name) for folder in folders for name in _configs(folder)]
        known = dict.fromkeys([*own, *(f'configs/{name}' for name in _configs(packaged))])
        raise UserError(
            f'no config file {text!r}.{nearest(text, known)} There are: {", ".join(known)}.'
        )
    return path


def _configs(folder: pathlib.Path) -> list[str]:
    """The names of the Python files in a folder that can be configs."""
    return sorted(path.name for path in folder.glob('*.py') if path.stem != '__init__')


def _module(path: pathlib.Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f'_config_{path.stem}', path)
    assert spec and spec.loader  # every .py file has them
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f'{path} does not load: {reason(error)}') from error
    if not callable(getattr(module, 'get_config', None)):
        raise UserError(f'{path} has no get_config(); see configs/base.py for what it returns.')
    return module


def _check_shape(config, what: str) -> None:
    """UserError unless a config has the fields of configs/base.py, each of the same type."""
    if not isinstance(config, ConfigDict):
        raise UserError(
            f'{what} is {shown(config)}; it must be a ConfigDict made by configs.base.get_config().'
        )
    model, fields = _model(base.get_config)
    given = flatten(config)
    missing = [name for name in fields if name not in given]
    missing += [name for name in OPEN if not isinstance(_look(config, name), ConfigDict)]
    if missing:
        raise UserError(f'{what} lacks {listed(missing, 5)}; start from configs.base.get_config().')
    for name, default in fields.items():
        group, _, leaf = name.rpartition('.')
        kind = _look(model, group).get_type(leaf)
        value = given[name]
        if not (isinstance(value, kind) or default is None and value is None):
            raise UserError(f'field {name!r} of {what} takes {KINDS[kind]}, it is {shown(value)}.')


@functools.lru_cache(maxsize=1)
def _model(get_config: Callable) -> tuple[ConfigDict, dict[str, Any]]:
    """The config of configs/base.py, as it is and flat."""
    model = get_config()
    return model, flatten(model)


# --- the command line --------------------------------------------------------------------------


def parser(prog: str, description: str, more: str = '') -> Parser:
    """A parser with --config, for `parse`. Commands add their options; more: ends its help."""
    packaged = _configs(pathlib.Path(base.__file__).parent)
    configs = ', '.join(name[:-3] for name in packaged if name != 'base.py')
    fields = ', '.join(_COMMON.split())
    epilog = f'--config.GROUP.FIELD=VALUE sets any field of configs/base.py, such as {fields}. '
    epilog += f'Configs: {configs}. {more}'
    made = Parser(prog=prog, description=description, epilog=epilog)
    words = 'a config, such as configs/ablate_pooling.py:mnist; every one takes the argument smoke'
    made.add_argument('--config', required=True, metavar='FILE[:ARGUMENT]', help=words)
    return made


def parse(
    made: argparse.ArgumentParser, argv: Iterable[str]
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Splits a command line into a parser's flags and the `--config.field=value` overrides.

    Raises:
      UserError: an unknown option (with the nearest one), or an override without a value.
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
    return made.parse_args(rest), assignments


_NAMES = r'[a-zA-Z][\w./ -]*(,[a-zA-Z][\w./ -]*)*'  # a list of names without quotes

# --- the fields of a config --------------------------------------------------------------------


def _look(config, path: str) -> Any:
    """The value at a dotted path, the config itself for '', or None."""
    for name in path.split('.') if path else ():
        config = config.get(name) if hasattr(config, 'get') else None
    return config


def set_field(config, path: str, value) -> None:
    """Sets one field by its dotted path, in place.

    A string is read as the field's own type, so that overrides can come from a command line; in a
    group of OPEN, as a Python value or else as text.

    Raises:
      UserError: an unknown field (with the nearest one) or a value of another type.
    """
    group, _, leaf = path.rpartition('.')
    if group in OPEN and leaf.isidentifier():
        node = _look(config, group)
        with node.unlocked(), node.ignore_type():
            node[leaf] = _read_open(value)
        return
    node = _look(config, group)  # itself stands for a field that it lacks
    if not isinstance(node, ConfigDict) or isinstance(node.get(leaf, node), ConfigDict):
        fields = flatten(config)
        inside = [name for name in fields if name.startswith(path + '.')]
        if inside:
            raise UserError(f'{path!r} is a group of fields. Set one of: {", ".join(inside)}.')
        raise one_of('field', path, fields)
    kind = node.get_type(leaf)
    try:
        none = path in _OPTIONAL and value in (None, 'None')
        node[leaf] = None if none else _read(value, kind)
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        takes = KINDS.get(kind, kind.__name__)
        raise UserError(f'field {path!r} takes {takes}, it was given {shown(value)}.') from error


def _literal(text: str) -> Any:
    return ast.literal_eval(text.capitalize() if text in ('true', 'false') else text)


def _read(value, kind: type) -> Any:
    if kind is tuple and isinstance(value, str) and re.fullmatch(_NAMES, value):
        return tuple(value.split(','))
    if kind is not str and isinstance(value, str):
        value = _literal(value)
    if kind in (int, float) and isinstance(value, bool):
        raise TypeError(value)  # Python would take True for 1
    if kind is tuple:
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return float(value) if kind is float and isinstance(value, int) else value


def _read_open(value) -> Any:
    if isinstance(value, str):
        try:
            value = _literal(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return tuple(value) if isinstance(value, list) else value


def axes_of(config) -> dict[str, Any]:
    """The axes that the config names itself; the others keep the paper's choice."""
    return {axis: config.model[axis] for axis in AXES if config.model[axis] is not None}


def fields_of(config) -> dict[str, Any]:
    """The fields of the net that the config sets, axes included: what cnns.build takes."""
    return axes_of(config) | config.model.fields.to_dict()
