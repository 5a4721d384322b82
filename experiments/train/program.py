"""The compiled functions of an arm: initialisation, step, evaluation."""

import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import cnns
from experiments import data, measures
from experiments.data import resident
from experiments.data.batch_plan import BatchPlan
from experiments.errors import UserError
from experiments.plan.checks import compiled, resolve
from experiments.plan.config import fields_of
from experiments.preprocess import augment, views
from experiments.train import optim, start
from experiments.train.evaluate import eval_step
from experiments.train.parallel import AXIS, Parallel, parallel, side_by_side
from experiments.train.step import State, loss_of, steps, train_step

# Of evaluation, over all devices: 500 images, or fewer where they have more pixels together
_EVAL_BATCH, _EVAL_PIXELS = 500, 2**22
_EVAL_BYTES = 2**26  # of a batch of views that were cut out where the images were decoded, about


class Program(NamedTuple):
    """The compiled functions that all seeds and learning rates of an arm share.

    Where models are trained together, `shape` is (devices, models of each); states, batches of
    `step`, learning rates and results have these axes first. Batches of evaluation: [1, n, ...].
    """

    init: Callable  # seed, or one for each model -> State
    step: Parallel  # (State, batch [devices, n, ...], learning rate) -> (State, {'loss', 'error'})
    # with train.steps_per_dispatch several `steps`, of batches of `dispatches`
    evaluate: Callable  # (variables, batch [devices, n, ...]) -> sums, of the centre alone
    test: Callable  # the same of config.evaluation.views
    parts: Callable  # test split -> [(places in it, what `test` reads of them, images of a batch)]
    measure: Callable  # (variables of one model, batch) -> {measure: {name: value}}
    variables: Callable  # State -> the variables to evaluate, averaged ones with train.ema
    shape: tuple[int, ...]  # (): one model, on all devices
    devices: int  # that are used
    shared: int  # devices that share a batch, those of other processes included
    parameters: int
    eval_batch: int  # images of `evaluate`, over all devices
    crop: data.Crop | None  # of the batches of `step`, where the feed cuts out crops
    notes: tuple[str, ...] = ()  # on the weights that the training begins with


def _whole(config, models: int) -> bool:
    """Whether a model is trained on one device, beside others.

    So is a single run of a config that trains together, with the draws of the arm's other runs.
    """
    return models > 1 or config.train.together > 1


def device_count(config: ConfigDict, models: int = 1) -> int:
    """Devices that this number of runs trained together uses.

    With train.together=1, the devices that share a batch; else the largest number that divides
    the models evenly, each of which has the whole batch.

    Raises:
      UserError: more than there are, or the batch does not divide over them and their
        micro-batches.
    """
    available, processes = jax.device_count(), jax.process_count()
    devices, micro_batches = config.train.devices or available, config.train.accumulate
    if devices > available:
        raise UserError(f'train.devices is {devices}, this machine has {available}.')
    if processes > 1 and devices < available:
        raise UserError(
            f'train.devices is {devices}: {processes} processes train with all their {available} '
            'devices. Leave it out, or start fewer processes.'
        )
    if processes > 1 and _whole(config, models):
        raise UserError(
            f'train.together is {config.train.together}: runs trained together share no batch, so '
            f'{processes} processes have nothing to share. Set train.together=1, or start each '
            'process without --distributed.'
        )
    if _whole(config, models):
        return max(count for count in range(1, devices + 1) if models % count == 0)
    each = len(data.shard(np.empty(config.train.batch), devices)[0])  # raises with the numbers
    if each % micro_batches:
        raise UserError(
            f'train.accumulate={micro_batches}: the {each} images of a device (a batch of '
            f'{config.train.batch} over {devices}) do not divide into that many equal '
            'micro-batches. Change train.batch or train.accumulate.'
        )
    return devices


def length_of(config, dataset: data.Dataset) -> optim.Length:
    """Steps and epochs of a training on this data set."""
    steps_per_epoch = data.steps_per_epoch(len(dataset.train.labels), config.train.batch)
    return optim.length_of(config, steps_per_epoch)


_programs: dict[str, Program] = {}
_KEPT = 4  # programs at most; an arm needs one for each number of runs that it trains together


def program_of(config, dataset: data.Dataset, models: int = 1) -> Program:
    """The compiled functions for a config and a data set; built once per arm of a sweep.

    models: runs that are trained at once, up to train.together of them.

    Raises:
      UserError: a field that no run could use, or batch, devices, data and net do not fit together.
    """
    resolve(config)
    statistics = dataset.mean.tolist(), dataset.std.tolist(), dataset.fingerprint
    known = device_count(config, models), models, dataset.shape, dataset.classes, *statistics
    arm = json.dumps([compiled(config), *known], sort_keys=True)
    if arm not in _programs:
        if len(_programs) >= _KEPT:
            # pmap keeps what it compiled for as long as the process lives, unless JAX forgets all
            _programs.clear()
            jax.clear_caches()
        _programs[arm] = _build(config, dataset, models)
    return _programs[arm]


def _build(config, dataset: data.Dataset, models: int) -> Program:
    devices = device_count(config, models)
    shape = (devices, models // devices) if _whole(config, models) else ()
    axis = None if shape else AXIS
    augmented = augment.of_config(config, dataset)
    size = (*augmented.size, dataset.shape[-1])
    net, parameters = _net(config, dataset, size, axis if devices > 1 else None)
    update = start.held(config, optim.update_of(config, parameters), parameters)
    begun = start.start_of(config, net, dataset.classes, size)
    average = optim.average(config.train.ema) if config.train.ema else None
    loss, count = loss_of(config, train=True), config.train.accumulate
    common: dict[str, Any] = dict(update=update, average=average)
    trained = start.Held(net, config.train.freeze) if config.train.freeze else net
    step = functools.partial(
        train_step,
        net=trained,
        loss=loss,
        augmented=augmented,
        micro_batches=count,
        axis=axis,
        **common,
    )
    # Between epochs the net sees the centre at the scale of the training: so no field of the test
    # changes the errors that a plateau depends on
    centre = views.views('centre', augmented, ())
    evaluate, eval_batch = test, test_batch = _evaluation(config, net, centre, devices, shape)
    name, scales = config.evaluation.views, config.evaluation.scales
    if name != 'centre' and augmented.cut:
        # raises before the training, not after it
        views.net_for(views.views(name, augmented, scales), net, config.model.name)
        test, parts = _of_whole(config, net, augmented, devices, shape)
    else:
        if name != 'centre' or scales:
            seen = views.views(name, augmented, scales)
            test, test_batch = _evaluation(config, net, seen, devices, shape)
        parts = lambda split: [(np.arange(len(split.labels)), split, test_batch)]
    init = functools.partial(_init, net=net, size=size, **common)
    measure = functools.partial(_measure, tuple(config.measure.names), net, centre)
    axes: Any = 0
    if config.train.steps_per_dispatch > 1:
        if not isinstance(dataset.train, data.InMemory):
            raise UserError(
                f'train.steps_per_dispatch={config.train.steps_per_dispatch} takes its images from '
                f'the memory of the device, where {dataset.name} does not fit: it is streamed. Set '
                'train.steps_per_dispatch=1.'
            )
        step = functools.partial(steps, step=step)
        axes = {'images': None, 'rows': 0, 'label': 0}
    if shape:
        mapped = side_by_side(step, devices, (0, axes, 0), donate=True, fast=net.fast)
    else:
        mapped = parallel(step, devices, donate=True, shared=1, fast=net.fast)
    return Program(
        init=_initialise(init, begun.given, devices, shape, net.fast),
        step=mapped,
        evaluate=evaluate,
        test=test,
        parts=parts,
        measure=jax.jit(measure),
        variables=functools.partial(_variables, ema=config.train.ema),
        shape=shape,
        devices=devices,
        shared=1 if shape else devices,
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters)),
        eval_batch=eval_batch,
        crop=augmented.cut,
        notes=begun.notes,
    )


_nets: dict[str, tuple[Any, Any]] = {}
_NETS = 64  # at most


def _net(config, dataset: data.Dataset, size, axis: str | None) -> tuple[Any, Any]:
    """The net of a config for images of this size, and the shapes of its parameters.

    Raises:
      UserError: classes, channels or a size that the net cannot take.
    """
    given = fields_of(config) | {
        'classes': len(dataset.classes),
        'channels': size[-1],
        'dtype': config.model.dtype,
        'axis_name': axis,
    }
    # Arms of a sweep that differ in the update alone share a net; tracing one takes long
    key = json.dumps([config.model.name, given, size], sort_keys=True)
    if key not in _nets:
        try:
            net = cnns.build(config.model.name, **given | {'dtype': jnp.dtype(given['dtype'])})
            init = functools.partial(net.init, train=False)
            images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
            shapes = jax.eval_shape(init, jax.random.PRNGKey(0), images)
        except ValueError as error:
            raise UserError(f'{config.model.name} on {dataset.name}: {error}') from error
        if len(_nets) >= _NETS:
            _nets.clear()
        _nets[key] = net, shapes['params']
    return _nets[key]


def _init(seed, given: start.Arrays, *, net, size, update, average) -> State:
    """The state of one model before its first step; given: variables that are not drawn."""
    key = jax.random.PRNGKey(seed)
    variables = net.init(key, jnp.zeros((1, *size), jnp.float32), train=False)
    variables = start.begun(variables, given) if given else variables
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    averaged = average.init((params, batch_stats)) if average else ()
    return State(jnp.int32(0), params, batch_stats, update.init(params), averaged, key)


def _initialise(
    init: Callable, given: start.Arrays, devices: int, shape: tuple[int, ...], fast: bool
) -> Callable:
    """seed, or one for each model -> State, where the step leaves the next ones.

    Elsewhere, the step would compile twice.
    """
    # On a CPU, the random numbers of a net take far longer to compile well than to draw
    quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
    made = jax.jit(init, compiler_options=quick if jax.default_backend() == 'cpu' else None)
    make = lambda seed: made(seed, given)
    if shape:
        place = side_by_side(lambda state: state, devices, (0,), donate=False, fast=fast)
        return lambda *seeds: place(stacked([make(seed) for seed in seeds], shape))
    place = parallel(lambda state, batch: state, devices, donate=False, fast=fast)
    return lambda seed: place(make(seed), np.zeros(devices))


def _variables(state: State, *, ema: float) -> dict[str, Any]:
    params, batch_stats = state.params, state.batch_stats
    if ema:
        # optax keeps the average that begins at 0, and corrects it only in what it returns
        weight = 1 - ema ** int(np.ravel(state.average.count)[0])
        params, batch_stats = jax.tree.map(lambda leaf: leaf / weight, state.average.ema)
    return {'params': params, 'batch_stats': batch_stats}


def _measure(names, net, centre: views.Views, variables, batch) -> dict[str, Any]:
    """Measures on a whole batch {'image': uint8 [n, H, W, C], 'label': int32 [n]}."""
    (images,) = centre(batch['image'])
    own = net.clone(axis_name=None)  # batch statistics are those of this batch
    return measures.evaluate(names, own, variables, images, batch['label'])


def _evaluation(
    config, net, seen: views.Views, devices: int, shape: tuple[int, ...]
) -> tuple[Callable, int]:
    """The mapped evaluation of these views, and the images of its batches."""
    own, loss = views.net_for(seen, net, config.model.name), loss_of(config, train=False)
    axis = None if shape else AXIS
    function = functools.partial(eval_step, net=own, views=seen, loss=loss, axis=axis)
    pixels = max(math.prod(group.size) for group in seen.groups)
    pixels *= shape[1] if shape else 1  # every model of a device has its own activations
    batch = max(min(_EVAL_BATCH, _EVAL_PIXELS // pixels), 1)
    if isinstance(seen, views.CutViews):
        batch = max(min(batch, _EVAL_BYTES // (len(seen.groups[0].boxes) * pixels)), 1)
    if not shape:
        return parallel(function, devices, donate=False, fast=net.fast), batch

    def first(variables, batch):  # [1, n, ...] of a feed for one device
        return function(variables, jax.tree.map(lambda leaf: leaf[0], batch))

    return side_by_side(first, devices, (0, None), donate=False, fast=net.fast), batch


def _of_whole(
    config, net, augmented: augment.Augmentation, devices: int, shape: tuple[int, ...]
) -> tuple[Callable, Callable]:
    """`test` and `parts` of a Program whose test images are seen whole.

    There is a mapped evaluation for every shape of the images.
    """
    evaluations: dict[tuple[int, ...], tuple[Callable, int]] = {}

    def parts(split):
        found = []
        name, scales = config.evaluation.views, config.evaluation.scales
        for places, part, seen in views.parts(name, augmented, scales, split):
            if part.shape not in evaluations:
                evaluations[part.shape] = _evaluation(config, net, seen, devices, shape)
            found.append((places, part, evaluations[part.shape][1]))
        return found

    def test(variables, batch):
        return evaluations[batch['image'].shape[2:]][0](variables, batch)  # [devices, n, ...]

    return test, parts


def dispatches(
    configs: Sequence[Any], dataset: data.Dataset, program: Program, epoch: int, start: int
) -> Iterator[dict[str, Any]]:
    """What `program.step` takes with train.steps_per_dispatch, for an epoch from step `start` on.

    {'images': of the devices of this process; 'rows', 'label': int32 [*shape, steps, n], without a
    shape [devices of all processes, steps, n]}. The last one of the epoch has the steps that are
    left.

    Raises:
      UserError: the accelerators have no room for the images.
    """
    fields, split = configs[0].train, dataset.train
    assert isinstance(split, data.InMemory)  # `_build` has refused others
    images = resident.whole(split, program.devices // jax.process_count())
    if images is None:
        raise UserError(
            f'train.steps_per_dispatch={fields.steps_per_dispatch} needs the images of '
            f'{dataset.name} in the memory of the device, which has no room for them. Set '
            'train.steps_per_dispatch=1.'
        )
    count = len(split.labels)
    plans = [BatchPlan(count, fields.batch, config.seed) for config in configs]
    ends = range(start, plans[0].steps, fields.steps_per_dispatch)
    for index in ends:
        own = range(index, min(index + fields.steps_per_dispatch, plans[0].steps))
        found = [[plan.rows(epoch * plan.steps + step) for step in own] for plan in plans]
        rows = np.array(found, np.int32)  # [models, steps, batch]
        if program.shape:
            rows = rows.reshape(*program.shape, *rows.shape[1:])
        else:
            rows = rows[0].reshape(len(own), program.devices, -1).swapaxes(0, 1)
        yield {'images': images, 'rows': rows, 'label': split.labels[rows]}


def stacked(trees: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Trees of arrays, one for each model, as one tree whose leaves are [*shape, ...]."""

    def stack(*leaves):
        own = np if isinstance(leaves[0], np.ndarray) else jnp
        return own.stack(leaves).reshape(*shape, *leaves[0].shape)

    return jax.tree.map(stack, *trees)
