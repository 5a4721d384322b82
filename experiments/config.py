"""From a config file and command-line overrides to one checked, resolved, named config.

A config file holds `get_config(arg)`, optionally `ARGUMENTS` (the values of `arg`; the first is
the default) and `sweep(add)`. Everything here is a function of plain values: no run is started.
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib.util
import inspect
import json
import math
import pathlib
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

import cnns
from configs import base
from experiments.errors import UserError, nearest, one_of, reason, shown

AXES = tuple(cnns.axes.AXES)
LOSSES = ('cross_entropy', 'rbf')
CHOICES = {
    'data.stream': ('auto', 'always', 'never'),
    'model.dtype': ('float32', 'bfloat16'),
    'augment.crop': ('none', 'pad', 'random', 'scale', 'area'),
    'augment.interpolation': ('bilinear', 'random'),
    'augment.subtract': ('channel', 'channel_std', 'pixel'),
    'evaluation.views': ('centre', 'ten', 'dense', 'multiscale', '144', '150'),
    'train.loss': LOSSES,
    'train.schedule': tuple(base.SCHEDULES),
    'train.unit': ('epochs', 'steps'),
    'train.rule': ('momentum', 'nesterov'),
}

SMOKE = 'smoke'  # argument that every config takes

# Groups whose fields are not listed in configs/base.py: they belong to the net.
OPEN = ('model.fields', 'train.layer_decay')

# Fields that cannot change what is learned, so that they do not name a point.
_NOT_IN_THE_NAME = (
    'title',
    'data.dir',
    'data.stream',
    'data.workers',
    'data.cache',
    'train.devices',
    'train.together',
    'protocol.rates',
    'protocol.selection_seeds',
    'protocol.level',
)


class Source(NamedTuple):
    """A loaded config file: `name` is its stem with the argument, `make()` a fresh config."""

    name: str
    make: Callable[[], Any]
    sweep: Callable | None
    arguments: tuple[str, ...] = ()  # that the file lists


def load(spec: str) -> Source:
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
    return Source(
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


def parse(made: argparse.ArgumentParser, argv) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
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
                f'field {name!r} of {path} takes {_KINDS[kind]}, it is {shown(given[name])}.'
            )


_KINDS = {
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


def flatten(tree, prefix='') -> dict[str, Any]:
    """{'model': {'pool': 'max'}} -> {'model.pool': 'max'}."""
    flat = {}
    for key, value in tree.items():
        if hasattr(value, 'items'):
            flat.update(flatten(value, f'{prefix}{key}.'))
        else:
            flat[prefix + key] = value
    return flat


def set_field(config, path: str, value) -> None:
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
            f'field {path!r} takes {_KINDS.get(kind, kind.__name__)}, it was given {shown(value)}.'
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


def axes_of(config) -> dict[str, Any]:
    """The axes that the config names itself; the others keep the paper's choice."""
    return {axis: config.model[axis] for axis in AXES if config.model[axis] is not None}


def fields_of(config) -> dict[str, Any]:
    """What the config says of the net: the fields that cnns.build takes, axes included."""
    return axes_of(config) | config.model.fields.to_dict()


def _check_fields(config) -> None:
    """UserError for a field of the net that is set elsewhere, or has another type."""
    name, given = config.model.name, config.model.fields.to_dict()
    elsewhere = dict.fromkeys(AXES, 'model.{}') | dict(
        dtype='model.dtype',
        classes='the data',
        channels='the data (data.channels)',
        axis_name='the trainer',
        param_dtype='float32 always',
    )
    for field, value in given.items():
        if field in elsewhere:
            raise UserError(
                f'model.fields.{field} has a place of its own: {elsewhere[field].format(field)}.'
            )
    cnns.build(name, **fields_of(config))
    entry = cnns.NETS[name]
    of_net = dataclasses.fields(entry.net)
    defaults = {field.name: field.default for field in of_net} | entry.fields
    types = {field.name: field.type for field in of_net}
    for field, value in given.items():
        default = defaults[field]
        kinds = [type(default)]
        if default is None:  # as in `int | None`: what stands beside None
            kinds = [kind for kind in typing.get_args(types[field]) if kind is not type(None)]
            if value is None:
                continue
        whole = float in kinds and type(value) is int
        words = ' or '.join(_KINDS.get(kind, '') for kind in kinds)
        if not whole and set(kinds) <= set(_KINDS) and type(value) not in kinds:
            raise UserError(
                f'model.fields.{field} of {name} takes {words}, such as '
                f'{shown(default)}; it was given {shown(value)}.'
            )
        for one, like in (
            zip(value, (default[:1] or (1,)) * len(value))
            if kinds == [tuple]
            else [(value, default)]
        ):
            if type(like) is int and like > 0 and not (type(one) is int and one >= 1):
                raise UserError(
                    f'model.fields.{field} of {name} takes whole numbers from 1, such '
                    f'as {shown(default)}; it was given {shown(value)}.'
                )
            if type(one) in (int, float) and not 0 <= one < math.inf:
                raise UserError(
                    f'model.fields.{field} of {name} is {shown(value)}, it must be a number from 0.'
                )


def _check_axes(config) -> None:
    """UserError unless the `model` group holds the axes of cnns/axes.py and nothing unknown."""
    given, own = set(config.model.keys()), {'name', 'dtype', 'fields'}
    for axis in AXES:
        if axis not in given:
            raise UserError(
                f'the config has no model.{axis}, an axis of cnns/axes.py. Give it a '
                f'placeholder in configs/base.py: config.model.{axis} = '
                'placeholder(...).'
            )
    strange = sorted(given - own - set(AXES))
    if strange:
        raise UserError(
            f'model.{strange[0]} would have no effect: it is no axis of AXES in '
            f'cnns/axes.py.{nearest(strange[0], AXES)} Fields of one net are set as '
            f'model.fields.{strange[0]}.'
        )


def resolve(config) -> dict[str, Any]:
    """Checks a config and returns it as a flat dict with the net's own axis values filled in.

    Raises:
      UserError: a value that no run could use, or an axis that the net lacks.
    """
    flat = flatten(config)
    _check_axes(config)
    try:
        _check_fields(config)
        defaults = cnns.axes_of(config.model.name)
    except (ValueError, TypeError) as error:  # TypeError: a value that cannot be looked up
        raise UserError(str(error)) from error
    for path, value in flat.items():
        if path.startswith('train.layer_decay.') and not (
            type(value) in (int, float) and 0 <= value < math.inf
        ):
            raise UserError(f'{path} is {shown(value)}, it must be a number from 0.')
    for axis in AXES:
        if flat[f'model.{axis}'] is None:
            flat[f'model.{axis}'] = defaults.get(axis)
    for path, allowed in CHOICES.items():
        if flat[path] not in allowed:
            raise one_of(f'value of {path}', flat[path], allowed)
    if flat['train.loss'] == 'rbf' and flat['model.name'] != 'lenet5_1998':
        raise UserError(
            "train.loss 'rbf' reads distances to LeNet-5's output codes; "
            f"{flat['model.name']!r} has none. Use 'cross_entropy'."
        )
    for path, low, high, words in (
        ('train.batch', 1, None, 'at least 1 image'),
        ('train.epochs', 1, 10**6, 'between 1 and 1000000'),
        ('train.devices', 0, None, '0 (all) or a number of devices'),
        ('train.together', 1, None, 'a number of points from 1'),
        ('train.steps', 0, 10**9, '0 (train.epochs decides) or a number of steps'),
        ('train.accumulate', 1, flat['train.batch'], 'between 1 and train.batch'),
        ('train.warmup', 0, None, 'a number from 0'),
        ('train.warmup_error', 0, 1, 'an error between 0 (off) and 1'),
        ('train.plateau', 1, None, 'a number of epochs from 1'),
        ('train.drops', 0, None, 'a number from 0'),
        ('train.power', 0, None, 'a number from 0'),
        ('train.momentum', 0, 1, 'between 0 and 1'),
        ('train.bias_rate', 0, None, 'a factor from 0'),
        ('train.bias_decay', 0, None, 'a factor from 0'),
        ('train.clip', 0, None, '0 (off) or a norm'),
        ('train.weight_decay', 0, None, 'a number from 0'),
        ('data.limit', 0, None, '0 (all) or a number of images'),
        ('data.side', 0, 4096, '0 (as they are) or a number of pixels up to 4096'),
        ('data.resize', 0, 4096, '0 (as they are) or a number of pixels up to 4096'),
        ('data.workers', 0, 1024, '0 (the training process itself) or a number of processes'),
        ('augment.size', 0, 4096, '0 (all of the image) or a number of pixels up to 4096'),
        ('augment.pad', 0, 4096, 'a number of pixels from 0 to 4096'),
        ('augment.colour', 0, None, '0 (off) or a standard deviation'),
        ('seed', 0, 2**31 - 1, 'between 0 and 2147483647'),
    ):
        value = flat[path]
        if not (value >= low and (high is None or value <= high) and math.isfinite(value)):
            raise UserError(f'{path} is {value}, it must be {words}.')
    if flat['data.channels'] not in (0, 1, 3):
        raise UserError(
            f'data.channels is {flat["data.channels"]}, it must be 0 (as they are), '
            '1 (grey) or 3 (colour).'
        )
    _check_augment(flat)
    _check_schedule(flat)
    if not 0 < flat['data.validation'] < 1:
        raise UserError(
            f'data.validation is {flat["data.validation"]}, it must be a fraction '
            'between 0 and 1: learning rates are chosen on it.'
        )
    if flat['data.train'] == flat['data.test']:
        raise UserError(
            f'data.train and data.test are both {flat["data.test"]!r}: the test part '
            'must not be trained on.'
        )
    check_protocol(flat)
    return flat


def _check_augment(flat: dict[str, Any]) -> None:
    """UserError unless the `augment` and `evaluation` groups can be used."""
    scales = flat['augment.scales']
    if len(scales) != 2 or not _rising(scales) or scales[0] < 1:
        raise UserError(
            f'augment.scales is {shown(scales)}, it must be a lowest and a highest '
            'number of pixels such as 256,512; equal for one scale.'
        )
    views = flat['evaluation.scales']
    if not _rising(views) or views and views[0] < 1:
        raise UserError(
            f'evaluation.scales is {shown(views)}, it must be rising numbers of '
            "pixels such as 256,384,512, or () for the paper's."
        )
    if flat['augment.crop'] == 'scale' and flat['augment.size'] > scales[0]:
        raise UserError(
            f'augment.scales starts at {scales[0]} pixels, where augment.size='
            f'{flat["augment.size"]} does not fit.'
        )
    if not 0 < flat['augment.white'] < math.inf:
        raise UserError(
            f'augment.white is {flat["augment.white"]}, it must be a positive number: 1 or 255.'
        )
    if flat['augment.white'] != 1 and flat['augment.subtract'] == 'channel_std':
        raise UserError(
            "augment.white would have no effect: augment.subtract='channel_std' "
            "divides by the standard deviation. Use 'channel' or 'pixel'."
        )


def _rising(values) -> bool:
    """Whether these are whole numbers, none below the one before it."""
    return all(type(value) is int for value in values) and all(
        a <= b for a, b in zip(values, values[1:])
    )


def _check_schedule(flat: dict[str, Any]) -> None:
    """UserError unless the schedule's fields fit together."""
    schedule, factors = flat['train.schedule'], flat['train.factors']
    milestones = flat['train.milestones']
    number = lambda value: type(value) in (int, float) and 0 < value < math.inf
    if not factors or not all(map(number, factors)):
        raise UserError(f'train.factors is {shown(factors)}, it must hold positive numbers.')
    if not all(map(number, milestones)) or any(a >= b for a, b in zip(milestones, milestones[1:])):
        raise UserError(
            f'train.milestones is {shown(milestones)}, it must hold rising positive numbers.'
        )
    if schedule == 'milestones' and not milestones:
        raise UserError(
            "train.schedule is 'milestones', but train.milestones is empty. Set when "
            'the rate falls, or another schedule.'
        )
    allowed = (1, len(milestones)) if schedule == 'milestones' else (1,)
    if len(factors) not in allowed:
        raise UserError(
            f'train.factors holds {len(factors)} numbers, it must hold '
            f'{" or ".join(map(str, sorted(set(allowed))))}: one for all falls'
            f'{", or one for each of train.milestones" if len(allowed) == 2 else ""}.'
        )
    if not 0 < flat['train.every'] < math.inf:
        raise UserError(f'train.every is {flat["train.every"]}, it must be a positive number.')
    in_steps = flat['train.unit'] == 'steps'
    length = flat['train.steps'] if flat['train.steps'] else flat['train.epochs']
    if in_steps == bool(flat['train.steps']) and flat['train.warmup'] > length:
        raise UserError(
            f'train.warmup is {flat["train.warmup"]}, it must be between 0 and the '
            f'length of the training, {length} {flat["train.unit"]}.'
        )
    if flat['train.warmup'] and flat['train.warmup_error']:
        raise UserError(
            'train.warmup and train.warmup_error are two rules for the same start. '
            'Set one of them to 0.'
        )
    for path in ('train.label_smoothing', 'train.ema'):
        if not 0 <= flat[path] < 1:
            raise UserError(f'{path} is {flat[path]}, it must be between 0 (off) and below 1.')
    if flat['train.label_smoothing'] and flat['train.loss'] != 'cross_entropy':
        raise UserError(
            'train.label_smoothing belongs to cross-entropy; train.loss is '
            f'{flat["train.loss"]!r}. Set it to 0.'
        )
    if flat['train.batch'] % flat['train.accumulate']:
        raise UserError(
            f'train.batch={flat["train.batch"]} does not divide into train.accumulate='
            f'{flat["train.accumulate"]} equal micro-batches.'
        )


def check_protocol(flat: dict[str, Any]) -> None:
    """UserError unless the `protocol` group and the learning rate can be used."""
    if not 0 < flat['protocol.level'] < 1:
        raise UserError(f'protocol.level is {flat["protocol.level"]}, it must lie between 0 and 1.')
    for rate in (flat['train.rate'], *flat['protocol.rates']):
        if type(rate) not in (int, float) or not 0 < rate < math.inf:
            raise UserError(f'a learning rate is {shown(rate)}, it must be a positive number.')
    if len(set(flat['protocol.rates'])) != len(flat['protocol.rates']):
        raise UserError(f'protocol.rates names a rate twice: {flat["protocol.rates"]}.')
    seeds = flat['protocol.selection_seeds']
    if flat['protocol.rates'] and not (
        seeds and all(type(s) is int and s >= 0 for s in seeds) and len(set(seeds)) == len(seeds)
    ):
        raise UserError(
            f'protocol.selection_seeds is {shown(seeds)}, it must hold different whole '
            'numbers from 0.'
        )


# Read on the host only, between steps: arms that differ in these alone share a compiled program.
_ON_THE_HOST = tuple(
    f'train.{name}'
    for name in (
        'rate',
        'schedule',
        'unit',
        'milestones',
        'every',
        'plateau',
        'drops',
        'power',
        'factors',
        'warmup',
        'warmup_error',
        'epochs',
        'steps',
    )
)


def compiled(flat: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that a compiled program may depend on."""
    return {
        name: value
        for name, value in flat.items()
        if name not in ('seed', 'title', *_ON_THE_HOST) and not name.startswith('protocol.')
    }


def digest(flat: dict[str, Any], phase: str) -> str:
    """Twelve hexadecimal digits that name a point: a hash of its resolved config and phase."""
    named = {key: value for key, value in flat.items() if key not in _NOT_IN_THE_NAME}
    text = json.dumps([phase, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
