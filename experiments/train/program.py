"""The compiled functions of an arm: initialisation, step, evaluation."""

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import cnns
import cnns.lenet
from experiments import data
from experiments.errors import UserError
from experiments.plan.checks import compiled, fields_of
from experiments.plan.config import flatten
from experiments.preprocess import augment, views
from experiments.train import optim
from experiments.train.evaluate import eval_step
from experiments.train.parallel import AXIS, Parallel, parallel, side_by_side
from experiments.train.step import State, loss_of, train_step

# Of evaluation, over all devices: 500 images, or as many as have this many pixels together
_EVAL_BATCH, _EVAL_PIXELS = 500, 2**22


class Program(NamedTuple):
    """The compiled functions that all seeds and learning rates of an arm share.

    Where models are trained together, `shape` is (devices, models of each), states, batches of
    `step`, rates and results have these leading axes, and a batch of evaluation is [1, n, ...].
    """

    init: Callable  # seed, or one for each model -> State
    step: Parallel  # (State, batch [devices, n, ...], rate) -> (State, {'loss', 'error'})
    evaluate: Callable  # (variables, batch [devices, n, ...]) -> sums, of the centre alone
    test: Callable  # the same of config.evaluation.views
    variables: Callable  # State -> the variables to evaluate, averaged ones with train.ema
    shape: tuple[int, ...]  # (): one model, on all devices
    devices: int  # that are used
    shared: int  # devices that share a batch
    parameters: int
    eval_batch: int  # images of `evaluate`, over all devices
    test_batch: int


def _alone(config, models: int) -> bool:
    """Whether a model is trained on one device, beside others. A group of one of a config that
    trains together is too: its draws are those of the other runs of its arm."""
    return models > 1 or config.train.together > 1


def device_count(config: ConfigDict, models: int = 1) -> int:
    """Devices that this number of runs trained together uses.

    With train.together=1, the devices that share a batch; else the largest number that divides
    the models evenly, each of which has the whole batch.

    Raises:
      UserError: more than there are, or the batch does not divide over them and their
        micro-batches.
    """
    available = jax.local_device_count()
    devices, parts = config.train.devices or available, config.train.accumulate
    if devices > available:
        raise UserError(f'train.devices is {devices}, this machine has {available}.')
    if _alone(config, models):
        return max(count for count in range(1, devices + 1) if models % count == 0)
    each = len(data.shard(np.empty(config.train.batch), devices)[0])  # raises with the numbers
    if each % parts:
        raise UserError(
            f'train.accumulate={parts}: the {each} images of a device (a batch of '
            f'{config.train.batch} over {devices}) do not divide into that many equal '
            'micro-batches. Change train.batch or train.accumulate.'
        )
    return devices


def length_of(config: ConfigDict, dataset: data.Dataset) -> optim.Length:
    """Steps and epochs of a training on this data set."""
    return optim.length_of(
        config, data.steps_per_epoch(len(dataset.train.labels), config.train.batch)
    )


def program_of(config: ConfigDict, dataset: data.Dataset, models: int = 1) -> Program:
    """The compiled functions for a config and data set; built once per arm of a sweep.

    models: runs that are trained at once, up to train.together of them.
    """
    arm = json.dumps(
        [
            compiled(flatten(config)),
            device_count(config, models),
            models,
            dataset.shape,
            dataset.classes,
            dataset.mean.tolist(),
            dataset.std.tolist(),
            getattr(dataset, 'fingerprint', None),
        ],
        sort_keys=True,
    )
    if arm not in _programs:
        if len(_programs) == _KEPT:
            _programs.pop(next(iter(_programs)))
        _programs[arm] = _build(config, dataset, models)
    return _programs[arm]


_programs: dict[str, Program] = {}
_KEPT = 8  # programs; an older one is compiled again if it is asked for


def _build(config, dataset: data.Dataset, models: int) -> Program:
    devices = device_count(config, models)
    shape = (devices, models // devices) if _alone(config, models) else ()
    axis, shared = (None, 1) if shape else (AXIS, devices)
    statistics = data.statistics_of(dataset, augment.needs(dataset.shape, **config.augment))
    augmented = augment.augmentation(dataset.shape, statistics, **config.augment)
    sample = jnp.zeros((1, *augmented.size, dataset.shape[-1]), jnp.float32)
    net, shapes = _net(config, dataset, sample, axis if devices > 1 else None)
    update = optim.update_of(config, shapes['params'])
    average = optim.average(config.train.ema) if config.train.ema else None
    init, variables = _state_functions(net, sample, update, average, config.train.ema)
    one_step = functools.partial(
        train_step,
        net=net,
        loss=loss_of(config, train=True),
        update=update,
        average=average,
        augmented=augmented,
        parts=config.train.accumulate,
        axis=axis,
    )
    # Between epochs the net sees the centre at the scale of the training, so that no field of the
    # test changes what a plateau of the schedule sees
    names = ('centre', ()), (config.evaluation.views, tuple(config.evaluation.scales))
    (evaluate, size), *others = (
        _evaluator(config, net, views.views(name, augmented, scales), axis, devices, shape)
        for name, scales in dict.fromkeys(names)
    )
    test, test_size = others[0] if others else (evaluate, size)
    # The first state is put where the step leaves the next ones: else the step compiles twice
    first: Callable[..., State]
    if shape:
        place = side_by_side(lambda state: state, devices, (0,), donate=False, fast=net.fast)
        first = lambda *seeds: place(stacked([init(seed) for seed in seeds], shape))
        step = side_by_side(one_step, devices, (0, 0, 0), donate=True, fast=net.fast)
    else:
        place = parallel(lambda state, batch: state, devices, donate=False, fast=net.fast)
        first = lambda seed: place(init(seed), np.zeros(devices))
        step = parallel(one_step, devices, donate=True, shared=1, fast=net.fast)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))
    return Program(
        first, step, evaluate, test, variables, shape, devices, shared, count, size, test_size
    )


def _net(config, dataset: data.Dataset, sample, axis_name: str | None):
    """The net of a config for the classes and channels of a data set, and its variables' shapes."""
    try:
        net = cnns.build(
            config.model.name,
            **fields_of(config),
            classes=len(dataset.classes),
            channels=sample.shape[-1],
            dtype=jnp.dtype(config.model.dtype),
            axis_name=axis_name,
        )
        init = functools.partial(net.init, train=False)
        return net, jax.eval_shape(init, jax.random.PRNGKey(0), sample)
    except ValueError as error:  # classes, channels or a size that the net cannot take
        raise UserError(f'{config.model.name} on {dataset.name}: {error}') from error


def _state_functions(net, sample, update, average, decay: float) -> tuple[Callable, Callable]:
    """(seed -> State, State -> the variables to evaluate)."""

    def init(seed):
        key = jax.random.PRNGKey(seed)
        variables = net.init(key, sample, train=False)
        params, batch_stats = variables['params'], variables.get('batch_stats', {})
        averaged = average.init((params, batch_stats)) if average else ()
        return State(jnp.int32(0), params, batch_stats, update.init(params), averaged, key)

    def variables(state):
        params, batch_stats = state.params, state.batch_stats
        if average:
            # optax keeps the average biased towards its initial zeros; this removes the bias
            weight = 1 - decay ** int(np.ravel(state.average.count)[0])
            params, batch_stats = jax.tree.map(lambda leaf: leaf / weight, state.average.ema)
        return {'params': params, 'batch_stats': batch_stats}

    # On a CPU, the random numbers of a net take far longer to compile well than to draw
    quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
    options = quick if jax.default_backend() == 'cpu' else None
    return jax.jit(init, compiler_options=options), variables


def _evaluator(config, net, seen, axis, devices: int, shape: tuple) -> tuple[Callable, int]:
    """The mapped evaluation of these views, and how many images a batch of it has."""
    function = functools.partial(
        eval_step,
        net=views.net_for(seen, net, config.model.name),
        views=seen,
        loss=loss_of(config, train=False),
        axis=axis,
    )
    if shape:
        mapped = side_by_side(_first(function), devices, (0, None), donate=False, fast=net.fast)
    else:
        mapped = parallel(function, devices, donate=False, fast=net.fast)
    pixels = max(math.prod(group.size) for group in seen.groups)
    pixels *= shape[1] if shape else 1  # every model of a device has its own activations
    return mapped, max(min(_EVAL_BATCH, _EVAL_PIXELS // pixels), 1)


def _first(function):
    """function(variables, batch [n, ...]) for the batch [1, n, ...] for one device."""
    return lambda variables, batch: function(variables, jax.tree.map(lambda leaf: leaf[0], batch))


def stacked(trees: Sequence, shape: tuple[int, int]):
    """Trees of arrays, one a model, as one tree whose leaves are [*shape, ...]."""

    def stack(*leaves):
        own = np if isinstance(leaves[0], np.ndarray) else jnp
        return own.stack(leaves).reshape(*shape, *leaves[0].shape)

    return jax.tree.map(stack, *trees)
