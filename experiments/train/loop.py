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

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from experiments import data
from experiments.plan.config import flatten
from experiments.train import checkpoint, optim
from experiments.train.evaluate import evaluate
from experiments.train.program import length_of, program_of, stacked


class Diverged(Exception):
    """The training loss is no longer finite; the message names the step."""


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
    return (stacked([parts[place] for place in places], program.shape) for parts in squeezed)


def _columns(part: str, metrics: dict) -> dict:
    return {
        f'{part}/{name}': metrics[name] for name in ('loss', 'error', 'error5') if name in metrics
    }
