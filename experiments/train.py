"""Training of one point: the step, its compilation over the devices, and the loop over epochs.

This is the only module that calls pmap. The step itself is a pure function of (state, batch) and
does not know how many devices there are. The state has no device axis: it enters the pmapped
step with in_axes=None and leaves with out_axes=None, so nothing is replicated by hand.

Batch statistics: with norm='batch' the mean and variance of a batch are those of the whole
global batch (flax averages them over the axis), so the number of devices is no hidden variable.
"""

import functools
import json
import math
import time
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import cnns
import cnns.lenet
from cnns.googlenet import AUXILIARY_WEIGHT
from experiments import data
from experiments.config import axes_of, resolve
from experiments.errors import UserError
from experiments.evaluate import AXIS, eval_step, evaluate, normalise

_EVAL_BATCH = 500  # images, over all devices


class Diverged(Exception):
    """The training loss is no longer finite; the message names the step."""


class State(NamedTuple):
    """All that a step reads and writes. Seed and rate are inputs: a change compiles nothing."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # running statistics of batch norm, {} without it
    velocity: Any  # optimiser state
    key: jax.Array  # uint32 [2], from the seed
    rate: jax.Array  # float32, the learning rate at its highest


class Program(NamedTuple):
    """The compiled functions that all seeds and rates of an arm share."""

    init: Callable  # (seed, rate) -> State
    step: Callable  # (State, batch [devices, n, ...]) -> (State, {'loss', 'error'})
    evaluate: Callable  # (variables, batch [devices, n, ...]) -> sums
    devices: int
    parameters: int


def train_step(state: State, batch, *, net, loss, optimizer, schedule, mean, std):
    """One step of gradient descent on this device's part of the global batch.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n]}. Gradients, batch statistics and
    metrics are averaged over the device axis; since every part has n images, the mean of the
    parts' means is the mean of the global batch.
    Returns (state, {'loss', 'error'}), float32 scalars before the update.
    """
    key = jax.random.fold_in(state.key, state.step)
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))

    def objective(params):
        images = normalise(batch['image'], mean, std)
        logits, updated = net.apply({'params': params, 'batch_stats': state.batch_stats}, images,
                                    train=True, rngs={'dropout': key},
                                    mutable=['batch_stats', 'auxiliary'])
        error = jnp.mean(jnp.argmax(logits, -1) != batch['label'])
        value = loss(logits, batch['label']).mean()
        for others in updated.get('auxiliary', {}).values():
            value += AUXILIARY_WEIGHT * loss(others, batch['label']).mean()
        return value, (error, updated.get('batch_stats', {}))

    (value, (error, batch_stats)), gradient = jax.value_and_grad(objective, has_aux=True)(
        state.params)
    gradient, batch_stats, metrics = jax.lax.pmean(
        (gradient, batch_stats, {'loss': value, 'error': error}), AXIS)
    direction, velocity = optimizer.update(gradient, state.velocity, state.params)
    rate = state.rate * schedule(state.step)
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    return State(state.step + 1, params, batch_stats, velocity, state.key, state.rate), metrics


def parallel(function, devices: int, *, donate: bool):
    """pmaps function(state, batch) over the first `devices` local devices; see this file's head."""
    return jax.pmap(function, axis_name=AXIS, in_axes=(None, 0), out_axes=None,
                    devices=jax.local_devices()[:devices], donate_argnums=(0,) if donate else ())


def device_count(config) -> int:
    """Devices that share a batch. UserError: more than there are, or the batch does not divide."""
    available = jax.local_device_count()
    devices = config.train.devices or available
    if devices > available:
        raise UserError(f'train.devices is {devices}, this machine has {available}.')
    data.shard(np.empty(config.train.batch), devices)  # raises with the numbers
    return devices


def schedule_of(config, steps_per_epoch: int) -> Callable:
    """step -> factor of the learning rate, in [0, 1]."""
    steps = config.train.epochs * steps_per_epoch
    warmup = round(config.train.warmup * steps_per_epoch)
    if config.train.schedule == 'cosine':
        after = optax.cosine_decay_schedule(1.0, max(steps - warmup, 1))
    else:
        after = optax.constant_schedule(1.0)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])


def loss_of(config) -> Callable:
    """(logits [n, classes], labels [n]) -> losses [n]."""
    return {'cross_entropy': optax.softmax_cross_entropy_with_integer_labels,
            'rbf': cnns.lenet.rbf_loss}[config.train.loss]


def program_of(config, dataset: data.Dataset) -> Program:
    """The compiled functions for a config and data set; built once per arm of a sweep."""
    fields = {name: value for name, value in resolve(config).items()
              if name not in ('seed', 'title', 'train.rate') and not name.startswith('protocol.')}
    arm = json.dumps([fields, device_count(config), dataset.train.images.shape, dataset.classes,
                      dataset.mean.tolist(), dataset.std.tolist()], sort_keys=True)
    if arm not in _programs:
        if len(_programs) == _KEPT:
            _programs.pop(next(iter(_programs)))
        _programs[arm] = _build(config, dataset)
    return _programs[arm]


_programs: dict[str, Program] = {}
_KEPT = 8  # programs; an older one is compiled again if it is asked for


def _build(config, dataset: data.Dataset) -> Program:
    devices = device_count(config)
    sample = jnp.zeros((1, *dataset.train.images.shape[1:]), jnp.float32)
    try:
        net = cnns.build(config.model.name, **axes_of(config), classes=len(dataset.classes),
                         channels=dataset.train.images.shape[-1],
                         dtype=jnp.dtype(config.model.dtype), axis_name=AXIS)
        jax.eval_shape(functools.partial(net.init, train=False), jax.random.PRNGKey(0), sample)
    except ValueError as error:  # classes, channels or a size that the net cannot take
        raise UserError(f'{config.model.name} on {dataset.name}: {error}') from error
    optimizer = optax.chain(optax.add_decayed_weights(config.train.weight_decay),
                            optax.trace(config.train.momentum))
    schedule = schedule_of(config, data.steps_per_epoch(len(dataset.train.labels),
                                                        config.train.batch))
    given = dict(net=net, loss=loss_of(config), mean=dataset.mean, std=dataset.std)

    def init(seed_and_rate, part):
        del part  # only says on how many devices the state is made
        seed, rate = seed_and_rate
        key = jax.random.PRNGKey(seed)
        variables = net.init(key, sample, train=False)
        params = variables['params']
        return State(jnp.int32(0), params, variables.get('batch_stats', {}),
                     optimizer.init(params), key, jnp.float32(rate))

    parameters = sum(math.prod(leaf.shape)
                     for leaf in jax.tree.leaves(jax.eval_shape(init, (0, 1.0), None).params))
    step = functools.partial(train_step, **given, optimizer=optimizer, schedule=schedule)
    # The first state is made where the step leaves the next ones: else the step compiles twice
    make = parallel(init, devices, donate=False)
    return Program(lambda seed, rate: make((seed, rate), np.zeros(devices)),
                   parallel(step, devices, donate=True),
                   parallel(functools.partial(eval_step, **given), devices, donate=False),
                   devices, parameters)


def fit(config, dataset: data.Dataset, on_epoch: Callable[[dict], None] = lambda line: None,
        *, read_test: bool) -> dict:
    """Trains one point and returns its row of metrics.

    Errors are fractions. 'train/error' and 'validation/error' of the row are measured after the
    last epoch, on all images; there is no best epoch. The test part is read only if `read_test`,
    once, after the last step. `on_epoch` gets one line per epoch, whose train metrics are
    averaged during the epoch and whose 'seconds' cover its training, not its evaluation.

    Raises:
      Diverged: a step's loss is not finite.
      UserError: batch, devices, data and net do not fit together.
    """
    program = program_of(config, dataset)
    state = program.init(config.seed, config.train.rate)
    batch, done = config.train.batch, 0

    def measure(split):
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        batches = data.eval_batches(split, _EVAL_BATCH, program.devices)
        return evaluate(program.evaluate, variables, batches, len(split.labels))

    for epoch in range(1, config.train.epochs + 1):
        start, metrics = time.perf_counter(), []
        for part in data.train_batches(dataset.train, batch, program.devices, config.seed, epoch):
            state, values = program.step(state, part)
            metrics.append(values)  # stays on the device until the epoch ends
        metrics = jax.device_get(metrics)
        seconds = time.perf_counter() - start
        losses = np.array([values['loss'] for values in metrics], np.float64)
        if not np.isfinite(losses).all():
            step = done + int(np.argmin(np.isfinite(losses))) + 1
            raise Diverged(f'the loss is {losses[step - done - 1]} at step {step} (epoch {epoch}) '
                           f'with learning rate {config.train.rate:g}')
        done += len(metrics)
        validation = measure(dataset.validation)
        on_epoch({'epoch': epoch, 'step': done, 'train/loss': float(losses.mean()),
                  'train/error': float(np.mean([values['error'] for values in metrics])),
                  'validation/loss': validation['loss'], 'validation/error': validation['error'],
                  'seconds': seconds})
    train = measure(dataset.train)
    if not math.isfinite(train['loss'] + validation['loss']):
        raise Diverged(f'the loss on the train or validation part is not finite after step {done} '
                       f'with learning rate {config.train.rate:g}')
    row = {'epochs': config.train.epochs, 'steps': done, 'devices': program.devices,
           'parameters': program.parameters,
           'train/loss': train['loss'], 'train/error': train['error'],
           'validation/loss': validation['loss'], 'validation/error': validation['error']}
    if read_test:
        test = measure(dataset.test)
        row |= {'test/loss': test['loss'], 'test/error': test['error'], 'test/count': test['count']}
    return row
