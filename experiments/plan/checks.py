"""What a config may hold, and what names a run. Nothing here reads a file or starts a run."""

import dataclasses
import hashlib
import json
import math
import typing
from typing import Any

from ml_collections import ConfigDict

import cnns
from configs import base
from experiments.errors import UserError, nearest, one_of, shown
from experiments.plan.config import KINDS, flatten

AXES = tuple(cnns.axes.AXES)


LOSSES = ('cross_entropy', 'rbf')


CHOICES = {
    'data.stream': ('auto', 'always', 'never'),
    'model.dtype': ('float32', 'bfloat16'),
    'augment.crop': base.CROPS,
    'augment.interpolation': base.INTERPOLATIONS,
    'augment.subtract': base.SUBTRACT,
    'evaluation.views': base.VIEWS,
    'train.loss': LOSSES,
    'train.schedule': tuple(base.SCHEDULES),
    'train.unit': ('epochs', 'steps'),
    'train.rule': ('momentum', 'nesterov'),
}

# Fields that cannot change what is learned, so that they do not name a run.
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


def axes_of(config: ConfigDict) -> dict[str, Any]:
    """The axes that the config names itself; the others keep the paper's choice."""
    return {axis: config.model[axis] for axis in AXES if config.model[axis] is not None}


def fields_of(config: ConfigDict) -> dict[str, Any]:
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
    for field in given:
        if field in elsewhere:
            raise UserError(
                f'model.fields.{field} has a place of its own: {elsewhere[field].format(field)}.'
            )
    cnns.build(name, **fields_of(config))
    entry = cnns.NETS[name]
    of_net = dataclasses.fields(entry.net)
    defaults: dict[str, Any] = {field.name: field.default for field in of_net} | entry.fields
    types = {field.name: field.type for field in of_net}
    for field, value in given.items():
        default = defaults[field]
        kinds = [type(default)]
        if default is None:  # as in `int | None`: what stands beside None
            kinds = [kind for kind in typing.get_args(types[field]) if kind is not type(None)]
            if value is None:
                continue
        whole = float in kinds and type(value) is int
        words = ' or '.join(KINDS.get(kind, '') for kind in kinds)
        if not whole and set(kinds) <= set(KINDS) and type(value) not in kinds:
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


def resolve(config: ConfigDict) -> dict[str, Any]:
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
        ('train.together', 1, None, 'a number of runs from 1'),
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
            f'data.train and data.test are both {flat["data.test"]!r}: the test split '
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
            'train.warmup and train.warmup_error are two rules for the same warm-up. '
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
    """Twelve hexadecimal digits that name a run: a hash of its resolved config and phase."""
    named = {key: value for key, value in flat.items() if key not in _NOT_IN_THE_NAME}
    text = json.dumps([phase, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
