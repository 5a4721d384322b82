"""The papers' updates and schedules: how far parameters move, when the learning rate falls.

An update is an optax transformation whose `update` takes the learning rate as an extra argument,
so that a new one compiles nothing:

    update = update_of(config, params)
    state = update.init(params)
    steps, state = update.update(gradient, state, params, learning_rate=0.1)
    params = optax.apply_updates(params, steps)

with g the gradient of the loss, w a parameter, v its velocity, m the momentum, e the learning
rate and d the weight decay:

    outside   v <- m v + g + d w         w <- w - e v     (PyTorch; optax.trace)
    inside    v <- m v - e (g + d w)     w <- w + v       (Krizhevsky et al. 2012; Caffe)

e is outside or inside of the velocity. Both are the same while e is constant. After a fall of e, a
velocity that contains e keeps its old size for about 1 / (1 - m) steps. 'nesterov' looks ahead by
m v in both.

Any other train.rule is optax's optimiser of that name, with its own defaults and weight decay.

A schedule runs on the host: the compiled step is given the learning rate as a number. It depends
on the number of the step, and for 'plateau' and train.warmup_error on the errors of the epochs so
far, which `Control` holds. Control is a tuple of plain numbers: with the state on the devices it is
all that a training needs to continue where it stopped.
"""

import bisect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from experiments.errors import UserError, one_of, reason
from experiments.plan import optimisers

WARM = 0.1  # of the learning rate, until train.warmup_error is reached (He et al. 2015, Sec. 4.2)


# --- updates ---------------------------------------------------------------------------------


def update_of(config, params: Any) -> optax.GradientTransformationExtraArgs:
    """The update of config.train for parameters of this structure (shapes suffice).

    In this order: the gradient is clipped, weight decay is added, the sum changes the velocity. The
    decay is L2 in the gradient, so the momentum carries it on. Where optax's optimiser takes a
    decay itself, it gets it instead: AdamW's never meets the gradient.

    Raises:
      UserError: train.layer_decay names a layer that the net does not have, or optax refuses a
        value of train.optimiser_fields.
    """
    fields = config.train
    decays = decays_of(config, params)
    factor = lambda path, _: fields.bias_rate if _is_bias(path) else 1.0
    factors = jax.tree_util.tree_map_with_path(factor, params)
    parts = [optax.clip_by_global_norm(fields.clip)] if fields.clip else []
    if fields.rule not in optimisers.OURS:
        return optax.chain(*parts, *_of_optax(fields, decays, factors))
    if any(jax.tree.leaves(decays)):
        parts.append(add_decay(decays))
    inside, nesterov = fields.rate_in_velocity, fields.rule == 'nesterov'
    parts.append(velocity(fields.momentum, factors, inside=inside, nesterov=nesterov))
    return optax.chain(*parts)


def _of_optax(fields, decays: Any, factors: Any) -> list[optax.GradientTransformation]:
    """The parts of an update by an optimiser of optax.

    It is built anew in every step, from the learning rate of the step: nothing compiles again.
    Parameters that differ in decay or factor of the learning rate have optimisers of their own,
    which is the same as one: none of optax's looks beyond a single parameter.
    """
    make, given = getattr(optax, fields.rule), fields.optimiser_fields.to_dict()
    own, parts = optimisers.decay_field(fields.rule), []
    if own is None:
        parts = [add_decay(decays)] if any(jax.tree.leaves(decays)) else []
        decays = jax.tree.map(lambda _: 0.0, decays)
    labels = jax.tree.map(lambda decay, factor: f'{decay!r} {factor!r}', decays, factors)
    groups = set(zip(*map(jax.tree.leaves, (labels, decays, factors)), strict=True))

    def built(rate):
        each = {
            label: make(rate * factor, **given, **({own: decay} if own else {}))
            for label, decay, factor in groups
        }
        return optax.partition(each, labels) if len(each) > 1 else each.popitem()[1]

    def update(updates, state, params=None, *, learning_rate):
        return built(learning_rate).update(updates, state, params)

    try:
        init = built(1.0).init
    except (TypeError, ValueError) as error:
        raise UserError(f'train.rule={fields.rule!r} with {given}: {reason(error)}') from error
    return [*parts, optax.GradientTransformationExtraArgs(init, update)]


def decays_of(config, params: Any) -> Any:
    """The weight decay of every parameter, a tree of floats; see train.layer_decay, bias_decay."""
    fields = config.train
    layers = fields.layer_decay.to_dict()
    known: set[str] = set()

    def decay(path, _):
        names = _names(path)
        owners = ['/'.join(names[:end]) for end in range(1, len(names))]
        known.update(owners)
        own = [layers[owner] for owner in owners if owner in layers]
        factor = fields.bias_decay if _is_bias(path) else 1.0
        return (own[-1] if own else fields.weight_decay) * factor

    decays = jax.tree_util.tree_map_with_path(decay, params)
    for layer in layers:
        if layer not in known:
            raise one_of(f'layer of {config.model.name} in train.layer_decay', layer, sorted(known))
    return decays


def add_decay(decays: Any) -> optax.GradientTransformation:
    """gradient + decay * parameter, each parameter with its own decay, a tree of floats."""

    def update(updates, state, params):
        return jax.tree.map(lambda g, d, w: g + d * w if d else g, updates, decays, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def velocity(
    momentum: float, factors: Any, *, inside: bool, nesterov: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Momentum and learning rate; see this file's head. The state is the velocity, from 0.

    factors: a tree of floats that multiply the learning rate of each parameter. inside: the
    learning rate is part of the velocity. nesterov: see the head.
    """

    push = lambda v, p: momentum * v + p

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None, *, learning_rate):
        del params
        rates = jax.tree.map(lambda factor: learning_rate * factor, factors)
        pushes = jax.tree.map(lambda g, e: -e * g, updates, rates) if inside else updates
        state = jax.tree.map(push, state, pushes)
        moves = jax.tree.map(push, state, pushes) if nesterov else state
        if not inside:
            moves = jax.tree.map(lambda v, e: -e * v, moves, rates)
        return moves, state

    return optax.GradientTransformationExtraArgs(init, update)


def _names(path) -> list[str]:
    return [str(getattr(entry, 'key', entry)) for entry in path]


def _is_bias(path) -> bool:
    return bool(path) and _names(path)[-1] == 'bias'


def average(decay: float) -> optax.GradientTransformation:
    """The exponential moving average of what it is given, corrected for its start at 0.

    a <- decay a + (1 - decay) w from a = 0, and a / (1 - decay^t) is the average after t steps: a
    weighted mean of the parameters of all steps. GoogLeNet's paper writes 'Polyak averaging'
    and no more (Szegedy et al. 2014, Sec. 6); a mean over all steps would never forget the first.
    """
    return optax.ema(decay)


# --- losses ----------------------------------------------------------------------------------


def smoothed(smoothing: float) -> Callable:
    """Cross-entropy to (1 - smoothing) of the label and smoothing / classes of every class.

    Returns (logits [n, classes], labels int [n]) -> losses [n] (Szegedy et al. 2015, Sec. 7).
    """

    def loss(logits, labels):
        logs = jax.nn.log_softmax(logits)
        own = jnp.take_along_axis(logs, labels[:, None], -1)[:, 0]
        return -(1 - smoothing) * own - smoothing * logs.mean(-1)

    return loss


# --- schedules -------------------------------------------------------------------------------


class Length(NamedTuple):
    """How long a training is."""

    steps: int
    epochs: int  # the last one may be cut short
    steps_per_epoch: int


def length_of(config: ConfigDict, steps_per_epoch: int) -> Length:
    """The length that train.steps or train.epochs asks for."""
    steps = config.train.steps or config.train.epochs * steps_per_epoch
    return Length(steps, -(-steps // steps_per_epoch), steps_per_epoch)


def schedule_of(config: ConfigDict, steps_per_epoch: int) -> Callable[[int], float]:
    """Steps done so far -> factor of the learning rate in the next step, in float64.

    Raises:
      UserError: the warm-up is longer than the training.
    """
    fields, length = config.train, length_of(config, steps_per_epoch)
    unit = 1 if fields.unit == 'steps' else steps_per_epoch
    warmup = round(fields.warmup * unit)
    if warmup > length.steps:
        raise UserError(
            f'train.warmup is {fields.warmup:g} {fields.unit}, that is {warmup} steps; '
            f'the training has {length.steps}.'
        )
    falls = [round(milestone * unit) for milestone in fields.milestones]
    factors = fields.factors if len(fields.factors) > 1 else fields.factors * max(len(falls), 1)
    rest = max(length.steps - warmup, 1)

    def after(step):
        if fields.schedule == 'milestones':
            return math.prod(factors[: bisect.bisect_right(falls, step)])
        if fields.schedule == 'every':
            # a quotient of whole steps: fractions of epochs would be rounded
            return factors[0] ** (step // max(round(fields.every * unit), 1))
        done = min((step - warmup) / rest, 1.0)
        if fields.schedule == 'cosine':
            return (1 + math.cos(math.pi * done)) / 2
        if fields.schedule == 'polynomial':
            return (1 - done) ** fields.power
        return 1.0  # 'constant'; 'plateau' is Control's

    return lambda step: step / warmup if step < warmup else after(step)


def late_falls(config, steps_per_epoch: int) -> str:
    """A note on falls of the learning rate after the end of the training, or ''."""
    fields, length = config.train, length_of(config, steps_per_epoch)
    unit = 1 if fields.unit == 'steps' else steps_per_epoch
    falls = {'milestones': fields.milestones, 'every': (fields.every,)}.get(fields.schedule, ())
    late = [f'{fall:g}' for fall in falls if round(fall * unit) >= length.steps]
    if not late:
        return ''
    return (
        f'schedule: the training ends after {length.steps:,} steps ({length.steps / unit:g} '
        f'{fields.unit}), before the learning rate falls at {", ".join(late)} {fields.unit}; '
        f'set train.{fields.schedule} to the length'
    )


class Control(NamedTuple):
    """How the errors of the epochs so far have changed the learning rate. Plain numbers."""

    factor: float = 1.0  # of the learning rate: the falls of 'plateau'
    best: float = math.inf  # lowest validation error
    stalled: int = 0  # epochs since then, or since the last fall
    falls: int = 0
    warm: bool = True  # past train.warmup_error

    @property
    def scale(self) -> float:
        """The factor of the schedule's learning rate."""
        return self.factor * (1.0 if self.warm else WARM)


def control_of(config: ConfigDict) -> Control:
    """The control before the first epoch."""
    return Control(warm=not config.train.warmup_error)


def after_epoch(
    config: ConfigDict, control: Control, train_error: float, validation_error: float
) -> Control:
    """The control for the next epoch, from the errors of this one, as fractions.

    'plateau': the learning rate falls by train.factors when the validation error has not gone below
    its lowest for train.plateau epochs, at most train.drops times (Krizhevsky et al. 2012, Sec. 5:
    divided by 10 when the validation error stopped improving, three times). warmup_error: the
    learning rate is a tenth until the training error, averaged during an epoch, is below it (He et
    al. 2015, Sec. 4.2, for 110 layers: below 80 %, after about 400 steps; judged at epochs here).
    """
    fields = config.train
    control = control._replace(warm=control.warm or train_error < fields.warmup_error)
    if fields.schedule != 'plateau':
        return control
    if validation_error < control.best:
        return control._replace(best=validation_error, stalled=0)
    control = control._replace(stalled=control.stalled + 1)
    if control.stalled >= fields.plateau and control.falls < fields.drops:
        factor = control.factor * fields.factors[0]
        return control._replace(factor=factor, stalled=0, falls=control.falls + 1)
    return control
