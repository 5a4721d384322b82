"""Training of one point: the step, its compilation over the devices, and the loop over epochs.

This is the only module that calls pmap. The step itself is a pure function of (state, batch) and
does not know how many devices there are. The state has no device axis: it enters the pmapped
step with in_axes=None and leaves with out_axes=None, so nothing is replicated by hand.

With train.together > 1 the points of an arm are trained at once, each whole on one device: no
batch is shared and nothing is averaged over devices. States, batches and rates then have leading
axes [devices, models], models being those of one device.

Batch statistics: with norm='batch' the mean and variance of a batch are those of the whole
global batch (flax averages them over the axis), so the number of devices is no hidden variable.
"""

import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import cnns
import cnns.lenet
from cnns.googlenet import AUXILIARY_WEIGHT
from experiments import augment, checkpoint, data, machine, optim, views
from experiments.config import compiled, fields_of, flatten, resolve
from experiments.errors import UserError
from experiments.evaluate import AXIS, eval_step, evaluate

# Of evaluation, over all devices: 500 images, or as many as have this many pixels together
_EVAL_BATCH, _EVAL_PIXELS = 500, 2**22
_DROPOUT = 2**31  # what the key is folded with for dropout, apart from all that augment.py uses


class Diverged(Exception):
    """The training loss is no longer finite; the message names the step."""


class State(NamedTuple):
    """All that the devices keep from step to step. The seed is an input: a new one compiles
    nothing."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # running statistics of batch norm, {} without it
    velocity: Any  # state of the update
    average: Any  # moving average of (params, batch_stats), () without train.ema
    key: jax.Array  # uint32 [2], from the seed


class Program(NamedTuple):
    """The compiled functions that all seeds and rates of an arm share.

    Where models are trained together, `shape` is (devices, models of each), states, batches of
    `step`, rates and results have these leading axes, and a batch of evaluation is [1, n, ...].
    """

    init: Callable  # seed, or one for each model -> State
    step: Callable  # (State, batch [devices, n, ...], rate) -> (State, {'loss', 'error'})
    evaluate: Callable  # (variables, batch [devices, n, ...]) -> sums, of the centre alone
    test: Callable  # the same of config.evaluation.views
    variables: Callable  # State -> the variables to evaluate, averaged ones with train.ema
    shape: tuple[int, ...]  # (): one model, on all devices
    devices: int  # that are used
    shared: int  # devices that share a batch
    parameters: int
    eval_batch: int  # images of `evaluate`, over all devices
    test_batch: int


def train_step(
    state: State,
    batch,
    rate,
    *,
    net,
    loss,
    update,
    augmented=None,
    parts=1,
    average=None,
    axis=AXIS,
):
    """One step of gradient descent on this device's part of the global batch.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n]}; rate: float32, the learning rate.
    Gradients, batch statistics and metrics are averaged over the device axis; since every part has
    n images, the mean of the parts' means is the mean of the global batch.

    parts: micro-batches of n / parts images that the gradient is computed in, one after the other.
    The images are drawn for the whole batch before, so the gradient is the same, up to rounding,
    unless a layer looks at more than its image: batch norm normalises each micro-batch by its own
    statistics, and dropout draws anew for each.

    augmented: function(key, images, first) of augment.of; average: of optim.average, or None;
    axis: name of the device axis, None where the batch is not shared.
    Returns (state, {'loss', 'error'}), float32 scalars before the update.
    """
    key = jax.random.fold_in(state.key, state.step)
    device, count = jax.lax.axis_index(axis) if axis else 0, len(batch['label'])
    images = augmented(key, batch['image'], device * count)
    dropout = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), device)

    def objective(params, batch_stats, images, labels, dropout):
        logits, updated = net.apply(
            {'params': params, 'batch_stats': batch_stats},
            images,
            train=True,
            rngs={'dropout': dropout},
            mutable=['batch_stats', 'auxiliary'],
        )
        error = jnp.mean(jnp.argmax(logits, -1) != labels)
        value = loss(logits, labels).mean()
        for others in updated.get('auxiliary', {}).values():
            value += AUXILIARY_WEIGHT * loss(others, labels).mean()
        return value, ({'loss': value, 'error': error}, updated.get('batch_stats', {}))

    def one(batch_stats, part):
        (_, (metrics, batch_stats)), gradient = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch_stats, *part
        )
        return batch_stats, (gradient, metrics)

    if parts == 1:
        batch_stats, (gradient, metrics) = one(state.batch_stats, (images, batch['label'], dropout))
    else:

        def add(carry, part):
            batch_stats, total = carry
            batch_stats, new = one(batch_stats, part)
            return (batch_stats, jax.tree.map(jnp.add, total, new)), None

        split = lambda array: array.reshape(parts, count // parts, *array.shape[1:])
        cut = split(images), split(batch['label']), jax.random.split(dropout, parts)
        zero = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(one, state.batch_stats, jax.tree.map(lambda leaf: leaf[0], cut))[1],
        )
        # A loop is what saves memory; on a CPU, XLA's gradient of a convolution in a loop takes a
        # hundred times as long as outside, so there it is written out
        written = parts if jax.default_backend() == 'cpu' else 1
        (batch_stats, total), _ = jax.lax.scan(add, (state.batch_stats, zero), cut, unroll=written)
        gradient, metrics = jax.tree.map(lambda leaf: leaf / parts, total)

    if axis and jax.lax.axis_size(axis) > 1:  # else a copy of everything
        gradient, batch_stats, metrics = jax.lax.pmean((gradient, batch_stats, metrics), axis)
    moves, velocity = update.update(gradient, state.velocity, state.params, rate=rate)
    params = optax.apply_updates(state.params, moves)
    averaged = ()
    if average:
        _, averaged = average.update((params, batch_stats), state.average)
    return State(state.step + 1, params, batch_stats, velocity, averaged, state.key), metrics


class Parallel:
    """A pmapped function with compiler options, which jax.pmap itself does not take.

    It is compiled once for every shape of its arguments after the first.
    """

    def __init__(self, mapped, options: dict):
        self.mapped, self.options = mapped, options
        self._known = {}

    def lower(self, *args):
        return self.mapped.lower(*args)

    def compiled(self, *args):
        """The executable for arguments of these shapes; args can be jax.ShapeDtypeStructs."""
        key = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(args[1:]))
        if key not in self._known:
            self._known[key] = machine.compiled(self.lower(*args), self.options)
        return self._known[key]

    def __call__(self, *args):
        return self.compiled(*args)(*args) if self.options else self.mapped(*args)


def parallel(function, devices: int, *, donate: bool, shared: int = 0, fast: bool = True):
    """pmaps function(state, batch, *shared) over the first `devices` local devices.

    Only the batch has a device axis; `shared` arguments after it are the same everywhere. `fast`
    allows the compiler options of machine.py.
    """
    mapped = jax.pmap(
        function,
        axis_name=AXIS,
        in_axes=(None, 0) + (None,) * shared,
        out_axes=None,
        devices=jax.local_devices()[:devices],
        donate_argnums=(0,) if donate else (),
    )
    return Parallel(mapped, machine.options(fast))


def side_by_side(function, devices: int, axes: tuple, *, donate: bool, fast: bool = True):
    """pmaps function(*args) of one model so that it works on [devices, models] of them at once.

    axes: 0 for an argument whose leaves have the two leading axes, the first one always, None for
    one that is the same for all models. Results have both axes. Devices do not wait for each
    other.
    """

    def on_device(*args):
        if len(jax.tree.leaves(args[0])[0]) > 1:
            return jax.vmap(function, in_axes=axes)(*args)
        # vmap would make a grouped convolution of every convolution, which is slower
        alone = [
            arg if axis is None else jax.tree.map(lambda leaf: leaf[0], arg)
            for arg, axis in zip(args, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    mapped = jax.pmap(
        on_device,
        in_axes=axes,
        devices=jax.local_devices()[:devices],
        donate_argnums=(0,) if donate else (),
    )
    return Parallel(mapped, machine.options(fast))


def _whole(config, models: int) -> bool:
    """Whether a model is trained on one device, beside others. A group of one of a config that
    trains together is too: its draws are those of its arm's other points."""
    return models > 1 or config.train.together > 1


def device_count(config, models: int = 1) -> int:
    """Devices that this number of points trained together uses.

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
    if _whole(config, models):
        return max(count for count in range(1, devices + 1) if models % count == 0)
    each = len(data.shard(np.empty(config.train.batch), devices)[0])  # raises with the numbers
    if each % parts:
        raise UserError(
            f'train.accumulate={parts}: the {each} images of a device (a batch of '
            f'{config.train.batch} over {devices}) do not divide into that many equal '
            'micro-batches. Change train.batch or train.accumulate.'
        )
    return devices


def length_of(config, dataset) -> optim.Length:
    """Steps and epochs of a training on this data set."""
    return optim.length_of(
        config, data.steps_per_epoch(len(dataset.train.labels), config.train.batch)
    )


def loss_of(config, *, train: bool) -> Callable:
    """(logits [n, classes], labels [n]) -> losses [n]; labels are smoothed in training only."""
    if config.train.loss == 'rbf':
        return cnns.lenet.rbf_loss
    if train and config.train.label_smoothing:
        return optim.smoothed(config.train.label_smoothing)
    return optax.softmax_cross_entropy_with_integer_labels


def program_of(config, dataset: data.Dataset, models: int = 1) -> Program:
    """The compiled functions for a config and data set; built once per arm of a sweep.

    models: points that are trained at once, up to train.together of them.
    """
    arm = json.dumps(
        [
            compiled(resolve(config)),
            device_count(config, models),
            models,
            augment.shape_of(dataset),
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
    shape = (devices, models // devices) if _whole(config, models) else ()
    axis, shared = (None, 1) if shape else (AXIS, devices)
    size = augment.size_of(config, dataset)
    sample = jnp.zeros((1, *size), jnp.float32)
    try:
        net = cnns.build(
            config.model.name,
            **fields_of(config),
            classes=len(dataset.classes),
            channels=size[-1],
            dtype=jnp.dtype(config.model.dtype),
            axis_name=axis if devices > 1 else None,
        )
        shapes = jax.eval_shape(
            functools.partial(net.init, train=False), jax.random.PRNGKey(0), sample
        )
    except ValueError as error:  # classes, channels or a size that the net cannot take
        raise UserError(f'{config.model.name} on {dataset.name}: {error}') from error
    update = optim.update_of(config, shapes['params'])
    average = optim.average(config.train.ema) if config.train.ema else None

    def init(seed):
        key = jax.random.PRNGKey(seed)
        variables = net.init(key, sample, train=False)
        params, batch_stats = variables['params'], variables.get('batch_stats', {})
        return State(
            jnp.int32(0),
            params,
            batch_stats,
            update.init(params),
            average.init((params, batch_stats)) if average else (),
            key,
        )

    def variables(state):
        params, batch_stats = state.params, state.batch_stats
        if average:
            # optax keeps the average with the pull of its start, and takes it out when asked
            weight = 1 - config.train.ema ** int(np.ravel(state.average.count)[0])
            params, batch_stats = jax.tree.map(lambda leaf: leaf / weight, state.average.ema)
        return {'params': params, 'batch_stats': batch_stats}

    step = functools.partial(
        train_step,
        net=net,
        loss=loss_of(config, train=True),
        update=update,
        average=average,
        augmented=augment.of(config, dataset),
        parts=config.train.accumulate,
        axis=axis,
    )
    centre, tested = _centre(config), config
    evaluators, batches = [], []
    for given in (centre, tested):
        seen = views.of(given, dataset)
        function = functools.partial(
            eval_step,
            net=views.net_of(given, dataset, net),
            views=seen,
            loss=loss_of(config, train=False),
            axis=axis,
        )
        if shape:
            evaluators.append(
                side_by_side(_first(function), devices, (0, None), donate=False, fast=net.fast)
            )
        else:
            evaluators.append(parallel(function, devices, donate=False, fast=net.fast))
        pixels = max(math.prod(group.size) for group in seen.groups)
        pixels *= shape[1] if shape else 1  # every model of a device has its own activations
        batches.append(max(min(_EVAL_BATCH, _EVAL_PIXELS // pixels), 1))
    if config.evaluation.views == 'centre' and not config.evaluation.scales:
        evaluators[1], batches[1] = evaluators[0], batches[0]
    # On a CPU, the random numbers of a net take far longer to compile well than to draw
    quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
    make = jax.jit(init, compiler_options=quick if jax.default_backend() == 'cpu' else None)
    # The first state is put where the step leaves the next ones: else the step compiles twice
    if shape:
        place = side_by_side(lambda state: state, devices, (0,), donate=False, fast=net.fast)
        start = lambda *seeds: place(_stacked([make(seed) for seed in seeds], shape))
        step = side_by_side(step, devices, (0, 0, 0), donate=True, fast=net.fast)
    else:
        place = parallel(lambda state, part: state, devices, donate=False, fast=net.fast)
        start = lambda seed: place(make(seed), np.zeros(devices))
        step = parallel(step, devices, donate=True, shared=1, fast=net.fast)
    return Program(
        start,
        step,
        *evaluators,
        variables,
        shape,
        devices,
        shared,
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params'])),
        *batches,
    )


def _first(function):
    """function(variables, batch [n, ...]) for the batch [1, n, ...] of a feed for one device."""
    return lambda variables, batch: function(variables, jax.tree.map(lambda leaf: leaf[0], batch))


def _stacked(trees: Sequence, shape: tuple[int, int]):
    """Trees of arrays, one a model, as one tree whose leaves are [*shape, ...]."""

    def stack(*leaves):
        own = np if isinstance(leaves[0], np.ndarray) else jnp
        return own.stack(leaves).reshape(*shape, *leaves[0].shape)

    return jax.tree.map(stack, *trees)


def _centre(config):
    """The config with the evaluation that is done between epochs: at the scale of the training, so
    that no field of the test changes what a plateau sees."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.evaluation.views, config.evaluation.scales = 'centre', ()
    return config


def fit(
    config,
    dataset: data.Dataset,
    on_epoch: Callable[[dict], None] = lambda line: None,
    *,
    read_test: bool,
) -> dict:
    """Trains one point and returns its row of metrics.

    Errors are fractions. 'train/error' and 'validation/error' of the row are measured after the
    last epoch, on all images, of which the net sees the centre at the scale of the training; there
    is no best epoch. The test part is read only if `read_test`, after the last step: with
    config.evaluation, and where that is another view, for 'test/centre_error' as the others are.
    `on_epoch` gets one line per epoch, whose train metrics are averaged during the epoch, whose
    'seconds' cover its training, not its evaluation, and whose 'rate' is that of its last step.

    Raises:
      Diverged: a step's loss is not finite.
      UserError: batch, devices, data and net do not fit together.
    """
    (outcome,) = fit_together(
        [config], dataset, lambda index, line: on_epoch(line), read_test=read_test
    )
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def fit_together(
    configs: Sequence,
    dataset: data.Dataset,
    on_epoch: Callable[[int, dict], None] = lambda index, line: None,
    *,
    read_test: bool,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    begun: checkpoint.Snapshot | None = None,
    keep: Callable[[Callable], None] = lambda snapshot: None,
    on_end: Callable[[int, Any], None] = lambda index, variables: None,
) -> list[dict | Diverged]:
    """Trains the points of these configs at once; returns the row of each, in their order.

    The configs differ in seed and train.rate only. Rows and lines are those of `fit`, within the
    rounding of floating point, as if each point were trained alone on one device: every seed has
    its own start, draws and order of the data. A point that diverges has a Diverged in place of
    its row and no line from that epoch on, and stops none of the others. `on_epoch` gets the
    config's index before the line; 'seconds' are the point's share, all divided by the points.
    `on_step` gets, after each step, the steps begun and those of the whole training. `on_end` gets
    the index and the final variables, NumPy arrays, of each config that has a row.

    `keep` gets, after an epoch in which none diverged, a function that makes a Snapshot of it.
    Given as `begun`, later or elsewhere, the training goes on after that epoch and ends with the
    same rows, bit for bit on the same machine.

    Raises:
      ValueError: the configs differ in something else.
      checkpoint.Misfit: `begun` is of another training.
      UserError: batch, devices, data and net do not fit together.
    """
    config, count = configs[0], len(configs)
    _check_alike(configs)
    program = program_of(config, dataset, count)
    length = length_of(config, dataset)
    schedule = optim.schedule_of(config, length.steps_per_epoch)
    controls = [optim.control_of(config)] * count
    outcomes: list[dict | Diverged | None] = [None] * count
    state, done, first = program.init(*(config.seed for config in configs)), 0, 1
    if begun:
        state = checkpoint.restored(begun, state)
        done, first = begun.step, begun.epoch + 1
        controls, validation = list(begun.controls), list(begun.validation)

    def measure(split, step=program.evaluate, size=program.eval_batch):
        batches = data.eval_batches(split, size, program.shared)
        found = evaluate(step, program.variables(state), batches, len(split.labels))
        each = {name: np.broadcast_to(np.ravel(value), count) for name, value in found.items()}
        return [
            {name: values[index].item() for name, values in each.items()} for index in range(count)
        ]

    def running():
        return [index for index in range(count) if outcomes[index] is None]

    for epoch in range(first, length.epochs + 1):
        start, metrics = time.perf_counter(), []
        batches = _train_batches(configs, dataset, program, epoch)
        # One step is one dispatch. The host's part of it is under 3 % even of LeNet-5's step on a
        # CPU, and in a loop on the device XLA's CPU convolutions are many times slower.
        for part in itertools.islice(batches, length.steps - done):
            factor = schedule(done + len(metrics))
            rates = [
                config.train.rate * control.scale * factor
                for config, control in zip(configs, controls)
            ]
            state, values = program.step(state, part, np.float32(rates).reshape(program.shape))
            metrics.append(values)  # stays on the device until the epoch ends
            on_step(done + len(metrics), length.steps)
        metrics = jax.device_get(metrics)
        seconds = (time.perf_counter() - start) / count
        losses, errors = (
            np.array([np.ravel(values[name]) for values in metrics], np.float64)
            for name in ('loss', 'error')
        )  # [steps, models]
        for index in running():
            finite = np.isfinite(losses[:, index])
            if not finite.all():
                bad = int(np.argmin(finite))
                outcomes[index] = Diverged(
                    f'the loss is {losses[bad, index]} at step {done + bad + 1} (epoch {epoch}) '
                    f'with learning rate {configs[index].train.rate:g}'
                )
        done += len(metrics)
        if not running():
            return outcomes
        validation = measure(dataset.validation)
        for index in running():
            error, own = float(errors[:, index].mean()), validation[index]
            controls[index] = optim.after_epoch(config, controls[index], error, own['error'])
            on_epoch(
                index,
                {
                    'epoch': epoch,
                    'step': done,
                    'rate': rates[index],
                    'train/loss': float(losses[:, index].mean()),
                    'train/error': error,
                    'validation/loss': own['loss'],
                    'validation/error': own['error'],
                    'seconds': seconds,
                },
            )
        if len(running()) == count:
            keep(
                lambda: checkpoint.Snapshot(epoch, done, tuple(controls), tuple(validation), state)
            )
    train = measure(dataset.train)
    for index in running():
        if not math.isfinite(train[index]['loss'] + validation[index]['loss']):
            outcomes[index] = Diverged(
                f'the loss on the train or validation part is not finite after step {done} with '
                f'learning rate {configs[index].train.rate:g}'
            )
    if read_test and running():
        test = measure(dataset.test, program.test, program.test_batch)
        other = program.test is not program.evaluate
        centre = measure(dataset.test) if other else None
    variables = jax.device_get(program.variables(state))
    for index in running():
        row = (
            {
                'epochs': length.epochs,
                'steps': done,
                'devices': program.shared,
                'parameters': program.parameters,
            }
            | _columns('train', train[index])
            | _columns('validation', validation[index])
        )
        if read_test:
            row |= _columns('test', test[index]) | {'test/count': test[index]['count']}
            if centre:
                row['test/centre_error'] = centre[index]['error']
        outcomes[index] = row
        on_end(
            index,
            jax.tree.map(
                lambda leaf: np.asarray(leaf).reshape(count, *leaf.shape[len(program.shape) :])[
                    index
                ],
                variables,
            ),
        )
    return outcomes


def _check_alike(configs) -> None:
    first = flatten(configs[0])
    for config in configs[1:]:
        other = flatten(config)
        differ = {name for name in {*first, *other} if first.get(name) != other.get(name)}
        differ -= {'seed', 'train.rate'}
        if differ:
            raise ValueError(
                f'points trained together differ in {", ".join(sorted(differ))}; '
                'only seed and train.rate may differ.'
            )


def _train_batches(configs, dataset, program, epoch) -> Iterator[dict]:
    """One epoch's batches for `program.step`; each of several models has the order of its seed."""
    batch, seeds = configs[0].train.batch, [config.seed for config in configs]
    # a seed is read once, however many learning rates it is tried with
    own = [
        data.train_batches(dataset.train, batch, program.shared, seed, epoch)
        for seed in dict.fromkeys(seeds)
    ]
    if not program.shape:
        return own[0]
    places = [list(dict.fromkeys(seeds)).index(seed) for seed in seeds]
    squeezed = (
        [jax.tree.map(lambda leaf: leaf[0], part) for part in parts]
        for parts in zip(*own, strict=True)
    )
    return (_stacked([parts[place] for place in places], program.shape) for parts in squeezed)


def _columns(part: str, metrics: dict) -> dict:
    return {
        f'{part}/{name}': metrics[name] for name in ('loss', 'error', 'error5') if name in metrics
    }
