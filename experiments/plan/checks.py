"""Which configs a run can use, and what names a run: functions of plain values."""

import dataclasses
import functools
import hashlib
import json
import math
import typing
from collections.abc import Callable
from typing import Any

import cnns
from configs import base
from experiments.errors import UserError, nearest, one_of, shown
from experiments.measures import MEASURES
from experiments.plan import optimisers, start
from experiments.plan.config import AXES, KINDS, fields_of, flatten

CHOICES = {
    'data.stream': ('auto', 'always', 'never'),
    'model.dtype': ('float32', 'bfloat16'),
    'augment.crop': base.CROPS,
    'augment.interpolation': base.INTERPOLATIONS,
    'augment.subtract': base.SUBTRACT,
    'evaluation.views': base.VIEWS,
    'train.loss': ('cross_entropy', 'rbf'),
    'train.schedule': tuple(base.SCHEDULES),
    'train.unit': ('epochs', 'steps'),
    'train.rule': (*optimisers.OURS, *optimisers.names()),
    'protocol.criterion': ('validation_error', 'steps_to_error'),
}

WATCHERS = ('tensorboard', 'wandb')  # of experiments/runner/watch.py

# --- what a run can use ------------------------------------------------------------------------

_ELSEWHERE = {axis: f'model.{axis}' for axis in AXES} | dict(
    dtype='model.dtype',
    classes='the data',
    channels='the data (data.channels)',
    axis_name='the trainer',
    param_dtype='float32 always',
)


def _check_fields(config) -> None:
    """UserError for a field of the net that is set elsewhere, or has another type."""
    name, given = config.model.name, config.model.fields.to_dict()
    for field in given:
        if field in _ELSEWHERE:
            raise UserError(f'model.fields.{field} has a place of its own: {_ELSEWHERE[field]}.')
    cnns.build(name, **fields_of(config))
    entry = cnns.NETS[name]
    of_net = {field.name: field for field in dataclasses.fields(entry.net)}
    for field, value in given.items():
        default, kind = entry.fields.get(field, of_net[field].default), of_net[field].type
        _check_field(f'model.fields.{field} of {name}', value, default, kind)


def _check_field(field: str, value, default, annotation) -> None:
    """UserError unless the value is like the default; annotation: of the field, as `int | None`."""
    kinds: list[type] = [type(default)]
    if default is None:
        if value is None:
            return
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    such = f'such as {shown(default)}; it was given {shown(value)}'
    whole = float in kinds and type(value) is int
    if not whole and set(kinds) <= set(KINDS) and type(value) not in kinds:
        words = ' or '.join(KINDS[kind] for kind in kinds)
        raise UserError(f'{field} takes {words}, {such}.')
    pairs = [(value, default)]
    if kinds == [tuple]:
        pairs = list(zip(value, (default[:1] or (1,)) * len(value)))
    for one, like in pairs:
        if type(like) is int and like > 0 and not (type(one) is int and one >= 1):
            raise UserError(f'{field} takes whole numbers from 1, {such}.')
        if type(one) in (int, float) and not _is_number(one):
            raise UserError(f'{field} is {shown(value)}, it must be a number from 0.')


def _check_axes(config) -> None:
    """UserError unless the `model` group holds the axes of cnns and nothing unknown."""
    given, own = set(config.model.keys()), {'name', 'dtype', 'fields'}
    for axis in AXES:
        if axis not in given:
            raise UserError(
                f'the config has no model.{axis}, an axis of cnns. Start from '
                'configs.base.get_config(), which has all of them.'
            )
    strange = sorted(given - own - set(AXES))
    if strange:
        raise UserError(
            f'model.{strange[0]} would have no effect: it is no axis of AXES in cnns.'
            f'{nearest(strange[0], AXES)} Fields of one net are set as model.fields.{strange[0]}.'
        )


def spelled_out(config) -> dict[str, Any]:
    """A config as a flat dict, with the net's own choice for every axis that it leaves open."""
    flat, defaults = flatten(config), cnns.axes_of(config.model.name)
    left = [axis for axis in AXES if flat[f'model.{axis}'] is None]
    return flat | {f'model.{axis}': defaults.get(axis) for axis in left}


def resolve(config) -> dict[str, Any]:
    """Checks a config and returns it `spelled_out`.

    Raises:
      UserError: a value that no run could use, or an axis that the net lacks.
    """
    _check_axes(config)
    try:
        _check_fields(config)
        flat = spelled_out(config)
    except (ValueError, TypeError) as error:  # TypeError: a value that cannot be looked up
        raise UserError(str(error)) from error
    for path, value in flat.items():
        if path.startswith('train.layer_decay.'):
            _must(flat, path, _is_number(value), 'a number from 0')
    for path, allowed in CHOICES.items():
        if flat[path] not in allowed:
            raise one_of(f'value of {path}', flat[path], allowed)
    if flat['train.loss'] == 'rbf' and flat['model.name'] != 'lenet5_1998':
        raise UserError(
            "train.loss 'rbf' reads distances to LeNet-5's output codes; "
            f"{flat['model.name']!r} has none. Use 'cross_entropy'."
        )
    for path, low, high, words in (*_RANGES, ('train.accumulate', 1, flat['train.batch'], _SHARE)):
        value = flat[path]
        good = value >= low and (high is None or value <= high) and math.isfinite(value)
        _must(flat, path, good, words)
    for name in flat['train.watch']:
        if name not in WATCHERS:
            raise one_of('name in train.watch', name, WATCHERS)
    for name in flat['measure.names']:
        if name not in MEASURES:
            raise one_of('name in measure.names', name, MEASURES)
    good = all(type(epoch) is int and epoch >= 0 for epoch in flat['measure.epochs'])
    _must(flat, 'measure.epochs', good, 'whole numbers from 0', verb='hold')
    _must(flat, 'data.channels', flat['data.channels'] in (0, 1, 3), _CHANNELS)
    title = flat['title'] or ' - '
    _must(flat, 'title', title.isprintable(), 'one line of text without control characters')
    _check_augment(flat)
    _check_schedule(flat)
    _check_training(flat)
    words = 'a fraction between 0 and 1: learning rates are chosen on it'
    _must(flat, 'data.validation', 0 < flat['data.validation'] < 1, words)
    if flat['data.train'] == flat['data.test']:
        raise UserError(
            f'data.train and data.test are both {flat["data.test"]!r}: the test split '
            'must not be trained on.'
        )
    check_protocol(flat)
    return flat | start.check(flat)


_CHANNELS = '0 (as they are), 1 (grey) or 3 (colour)'
_SHARE = 'between 1 and train.batch'
_RANGES = (
    ('train.batch', 1, None, 'at least 1 image'),
    ('train.epochs', 1, 10**6, 'between 1 and 1000000'),
    ('train.devices', 0, None, '0 (all) or a number of devices'),
    ('train.together', 1, None, 'a number of runs from 1'),
    ('train.steps_per_dispatch', 1, 10**6, 'a number of steps from 1 to 1000000'),
    ('train.steps', 0, 10**9, '0 (train.epochs decides) or a number of steps'),
    ('train.warmup', 0, None, 'a number from 0'),
    ('train.warmup_error', 0, 1, 'an error between 0 (off) and 1'),
    ('train.plateau', 1, None, 'a number of epochs from 1'),
    ('train.drops', 0, None, 'a number from 0'),
    ('train.power', 0, None, 'a number from 0'),
    ('train.momentum', 0, 1, 'between 0 and 1'),
    ('train.bias_rate', 0, None, 'a factor from 0'),
    ('train.bias_decay', 0, None, 'a factor from 0'),
    ('measure.images', 1, None, 'a number of images from 1'),
    ('train.profile', 0, 10**6, '0 (none) or a number of steps'),
    ('train.curve', 0, None, '0 (off) or a number of points in an epoch'),
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
)


def is_seed(value: Any) -> bool:
    """Whether `resolve` takes it as a seed."""
    return type(value) is int and 0 <= value < 2**31


def _must(flat: dict[str, Any], path: str, good: bool, words: str, verb: str = 'be') -> None:
    """UserError unless the value of a field is good; words: what it must be."""
    if not good:
        raise UserError(f'{path} is {shown(flat[path])}, it must {verb} {words}.')


def _is_number(value, positive: bool = False) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf and (value > 0 or not positive)


def _check_augment(flat: dict[str, Any]) -> None:
    """UserError unless the `augment` and `evaluation` groups can be used."""
    low_high, scales = flat['augment.scales'], flat['evaluation.scales']
    words = 'a lowest and a highest number of pixels such as 256,512; equal for one scale'
    _must(flat, 'augment.scales', len(low_high) == 2 and _rising(low_high), words)
    words = "rising numbers of pixels such as 256,384,512, or () for the paper's"
    _must(flat, 'evaluation.scales', _rising(scales), words)
    if flat['augment.crop'] == 'scale' and flat['augment.size'] > low_high[0]:
        raise UserError(
            f'augment.scales starts at {low_high[0]} pixels, where augment.size='
            f'{flat["augment.size"]} does not fit.'
        )
    if flat['data.whole'] and flat['data.stream'] == 'never':
        raise UserError(
            "data.whole cuts crops out of images while they are decoded, so data.stream='never' "
            "cannot keep them. Set it to 'auto'."
        )
    if flat['data.whole'] and flat['data.side']:
        raise UserError(
            f'data.side={flat["data.side"]} adds a border to the whole image, data.whole crops it. '
            'Set data.side=0, or data.whole=false.'
        )
    white = flat['augment.white']
    _must(flat, 'augment.white', 0 < white < math.inf, 'a positive number: 1 or 255')
    if white != 1 and flat['augment.subtract'] == 'channel_std':
        raise UserError(
            "augment.white would have no effect: augment.subtract='channel_std' "
            "divides by the standard deviation. Use 'channel' or 'pixel'."
        )


def _rising(values) -> bool:
    """Whether these are whole numbers from 1, none below the one before it."""
    whole = all(type(value) is int and value >= 1 for value in values)
    return whole and list(values) == sorted(values)


def _check_schedule(flat: dict[str, Any]) -> None:
    """UserError unless the schedule's fields fit together."""
    schedule, factors = flat['train.schedule'], flat['train.factors']
    milestones = flat['train.milestones']
    rising = all(a < b for a, b in zip(milestones, milestones[1:]))
    positive = lambda values: all(_is_number(value, positive=True) for value in values)
    good = len(factors) > 0 and positive(factors)
    _must(flat, 'train.factors', good, 'positive numbers', verb='hold')
    good = rising and positive(milestones)
    _must(flat, 'train.milestones', good, 'rising positive numbers', verb='hold')
    if schedule == 'milestones' and not milestones:
        raise UserError(
            "train.schedule is 'milestones', but train.milestones is empty. Set when "
            'the learning rate falls, or another schedule.'
        )
    allowed = (1, len(milestones)) if schedule == 'milestones' else (1,)
    if len(factors) not in allowed:
        raise UserError(
            f'train.factors holds {len(factors)} numbers, it must hold '
            f'{" or ".join(map(str, sorted(set(allowed))))}: one for all falls'
            f'{", or one for each of train.milestones" if len(allowed) == 2 else ""}.'
        )
    _must(flat, 'train.every', 0 < flat['train.every'] < math.inf, 'a positive number')
    in_steps = flat['train.unit'] == 'steps'
    length = flat['train.steps'] or flat['train.epochs']
    if in_steps == bool(flat['train.steps']):
        words = f'between 0 and the length of the training, {length} {flat["train.unit"]}'
        _must(flat, 'train.warmup', flat['train.warmup'] <= length, words)
    if flat['train.warmup'] and flat['train.warmup_error']:
        raise UserError(
            'train.warmup and train.warmup_error are two rules for the same first steps. '
            'Set one of them to 0.'
        )


def _check_training(flat: dict[str, Any]) -> None:
    """UserError unless the fields of the update, the loss and the batch fit together."""
    given = optimisers.check(flat)
    for path, (value, default) in given.items():
        _check_field(f'{path} of optax.{flat["train.rule"]}', value, default, float | str | None)
    for path in ('train.label_smoothing', 'train.ema'):
        _must(flat, path, 0 <= flat[path] < 1, 'between 0 (off) and below 1')
    if flat['train.label_smoothing'] and flat['train.loss'] != 'cross_entropy':
        raise UserError(
            'train.label_smoothing belongs to cross-entropy; train.loss is '
            f'{flat["train.loss"]!r}. Set it to 0.'
        )
    if flat['train.steps_per_dispatch'] > 1 and (
        flat['data.stream'] == 'always' or flat['data.whole']
    ):
        field = "data.stream='always'" if flat['data.stream'] == 'always' else 'data.whole'
        raise UserError(
            f'train.steps_per_dispatch={flat["train.steps_per_dispatch"]} takes its images from '
            f'the memory of the device, {field} decodes them while training. Set '
            'train.steps_per_dispatch=1.'
        )
    if flat['train.batch'] % flat['train.accumulate']:
        raise UserError(
            f'train.batch={flat["train.batch"]} does not divide into train.accumulate='
            f'{flat["train.accumulate"]} equal micro-batches.'
        )


def check_protocol(flat: dict[str, Any]) -> None:
    """UserError unless the `protocol` group and the learning rate can be used."""
    _must(flat, 'protocol.level', 0 < flat['protocol.level'] < 1, 'between 0 and 1', verb='lie')
    rates, seeds = flat['protocol.rates'], flat['protocol.selection_seeds']
    for rate in (flat['train.rate'], *rates):
        if not _is_number(rate, positive=True):
            raise UserError(f'a learning rate is {shown(rate)}, it must be a positive number.')
    if len(set(rates)) != len(rates):
        raise UserError(f'protocol.rates names a learning rate twice: {rates}.')
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    good = not rates or bool(seeds and whole and len(set(seeds)) == len(seeds))
    words = 'different whole numbers from 0'
    _must(flat, 'protocol.selection_seeds', good, words, verb='hold')
    widen, threshold = flat['protocol.widen'], flat['protocol.threshold']
    _must(flat, 'protocol.widen', widen >= 0, 'a number of learning rates from 0')
    _must(flat, 'protocol.threshold', 0 < threshold < 1, 'a fraction', verb='lie between 0 and 1:')
    if widen and len(rates) == 1:
        raise UserError(
            'protocol.widen has no step to take: protocol.rates holds one learning rate. Give it '
            'two or more, or set protocol.widen=0.'
        )
    if flat['protocol.criterion'] == 'steps_to_error' and not flat['train.curve']:
        raise UserError(
            "protocol.criterion='steps_to_error' reads the training curve inside the epochs. Set "
            'train.curve, the points of an epoch, such as train.curve=8.'
        )


# --- what has an effect ------------------------------------------------------------------------

_Read = tuple[Callable[[dict[str, Any]], bool], str]
_MADE = ('digits', 'synthetic')  # sets that no file is read for


def _with(field: str, *values: Any) -> _Read:
    """A field is read where another one has one of these values."""
    words = ' or '.join(map(repr, values))
    return lambda flat: flat[field] in values, f'with {field}={words}'


def _kind(flat: dict[str, Any]) -> str:
    return flat['data.name'].partition(':')[0]


def _ours(flat: dict[str, Any]) -> bool:
    return flat['train.rule'] in optimisers.OURS


def _decays(flat: dict[str, Any]) -> bool:
    layers = [name for name in flat if name.startswith('train.layer_decay.')]
    return any(flat[name] for name in ('train.weight_decay', *layers))


# {field: (whether it is read in a config, when it is)}; a field that is not here is always read
_OURS = "with train.rule='momentum' or 'nesterov'"
_START: _Read = (lambda flat: flat['train.start'] is not None, 'with train.start')
_GRID: _Read = (lambda flat: bool(flat['protocol.rates']), 'with a grid, protocol.rates')
_MEASURE: _Read = (lambda flat: bool(flat['measure.names']), 'with measure.names')
_READ: dict[str, _Read] = {
    'train.milestones': _with('train.schedule', 'milestones'),
    'train.every': _with('train.schedule', 'every'),
    'train.plateau': _with('train.schedule', 'plateau'),
    'train.drops': _with('train.schedule', 'plateau'),
    'train.power': _with('train.schedule', 'polynomial'),
    'train.factors': _with('train.schedule', 'milestones', 'every', 'plateau'),
    'train.unit': (
        lambda flat: flat['train.schedule'] in ('milestones', 'every') or flat['train.warmup'] > 0,
        "with train.warmup, or train.schedule='milestones' or 'every'",
    ),
    'train.rule': (
        lambda flat: flat['train.momentum'] > 0 or not _ours(flat),
        'with train.momentum above 0',
    ),
    'train.momentum': (_ours, _OURS),
    'train.rate_in_velocity': (
        lambda flat: _ours(flat) and flat['train.momentum'] > 0,
        f'with train.momentum above 0, {_OURS}',
    ),
    'train.start_layers': _START,
    'train.new_head': _START,
    'train.bias_decay': (_decays, 'with train.weight_decay or train.layer_decay above 0'),
    'train.epochs': (
        lambda flat: not flat['train.steps'],
        'with train.steps=0. Set that too to count epochs, or train.steps to another number of '
        'steps',
    ),
    'train.rate': (
        lambda flat: not flat['protocol.rates'],
        'without a grid of learning rates. Set --config.protocol.rates=RATE for a single one, or '
        '--config.protocol.rates=() for train.rate as it is',
    ),
    'data.whole': _with('augment.crop', *base.OF_WHOLE),
    'augment.pad': _with('augment.crop', 'pad'),
    'augment.scales': _with('augment.crop', 'scale'),
    'augment.interpolation': _with('augment.crop', 'area'),
    'protocol.selection_seeds': _GRID,
    'protocol.widen': _GRID,
    'protocol.criterion': _GRID,
    'protocol.threshold': _with('protocol.criterion', 'steps_to_error'),
    'measure.epochs': _MEASURE,
    'measure.images': _MEASURE,
    'data.dir': (lambda flat: _kind(flat) not in (*_MADE, 'folder'), 'with data sets of TFDS'),
    'data.allow_copies': (lambda flat: _kind(flat) not in _MADE, 'with data sets of files'),
    'data.skip_broken': (
        lambda flat: _kind(flat) not in _MADE,
        'with data sets that are read from files',
    ),
    'data.workers': (
        lambda flat: flat['data.stream'] != 'never' and _kind(flat) not in _MADE,
        "with data sets that are read from files, unless data.stream='never'",
    ),
}


def idle(path: str, flat: dict[str, Any]) -> str:
    """Why a field has no effect in a flat config, or ''."""
    is_read, when = _READ.get(path, (lambda flat: True, ''))
    return '' if is_read(flat) else f'{path} is read {when}.'


# --- what names a run, and what names a compiled program -----------------------------------------

# Fields that cannot change what is learned, so that they do not name a run. Of train.start, the
# digest of its content does.
NOT_IN_THE_NAME = set(
    'title data.dir data.stream data.workers data.cache data.allow_copies train.devices '
    'train.watch train.profile train.together train.steps_per_dispatch train.start protocol.rates '
    'protocol.selection_seeds protocol.widen protocol.criterion protocol.threshold '
    'protocol.level'.split()
)

# Fields of `train` that are read on the host only, between steps: arms that differ in these alone
# share a compiled program.
_ON_THE_HOST = (
    'rate schedule unit milestones every plateau drops power factors warmup warmup_error '
    'epochs steps curve watch profile'
)


# Fields that always name a run: those of the first stored rows. One that was added later names a
# run only where it is not at its default, so that older rows keep their names: leave this list as
# it is.
_FIRST_FIELDS = set(
    (
        'augment.affine augment.colour augment.crop augment.flip augment.interpolation '
        'augment.pad augment.photometric augment.scales augment.size augment.subtract '
        'augment.white data.channels data.limit data.name data.resize data.side data.skip_broken '
        'data.test data.train data.validation evaluation.scales evaluation.views model.activation '
        'model.dtype model.name model.norm model.overlap model.pool seed train.accumulate '
        'train.batch train.bias_decay train.bias_rate train.clip train.drops train.ema '
        'train.epochs train.every train.factors train.label_smoothing train.loss train.milestones '
        'train.momentum train.plateau train.power train.rate train.rate_in_velocity train.rule '
        'train.schedule train.steps train.unit train.warmup train.warmup_error train.weight_decay'
    ).split()
)


def digest(flat: dict[str, Any], phase: str) -> str:
    """Twelve hexadecimal digits that name a run: a hash of its resolved config and phase."""
    later = _later(base.get_config, flat['model.name'])
    named = {
        key: value
        for key, value in flat.items()
        if key not in NOT_IN_THE_NAME and not (key in later and value == later[key])
    }
    text = json.dumps([phase, named], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=256)
def _later(get_config: Callable, model: str) -> dict[str, Any]:
    """The defaults of the fields that were added later, for a net."""
    defaults = flatten(get_config())
    if any(f'model.{axis}' not in _FIRST_FIELDS for axis in AXES):  # a later axis
        own = cnns.axes_of(model)
        defaults |= {f'model.{axis}': own.get(axis) for axis in AXES}
    return {key: value for key, value in defaults.items() if key not in _FIRST_FIELDS}


def compiled(config) -> dict[str, Any]:
    """The part of a config, `spelled_out`, that a compiled program may depend on."""
    left_out = {'seed', 'title', *(f'train.{name}' for name in _ON_THE_HOST.split())}
    flat = spelled_out(config)
    names = [name for name in flat if name not in left_out and not name.startswith('protocol.')]
    return {name: flat[name] for name in names}
