"""The training of a run, or of several at once: the loop over epochs.

With train.together > 1 the runs of an arm are trained at once, each whole on one device: no batch
is shared and nothing is averaged over devices. States, batches and learning rates then have leading
axes [devices, models], models being those of one device.
"""

import functools
import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import data
from experiments.plan.config import flatten
from experiments.train import checkpoint, optim
from experiments.train.evaluate import evaluate
from experiments.train.program import length_of, program_of, stacked


class Diverged(Exception):
    """The training loss is no longer finite; the message names the step."""


def fit(
    config: ConfigDict,
    dataset: data.Dataset,
    on_epoch: Callable[[dict], None] = lambda line: None,
    *,
    read_test: bool,
) -> dict:
    """Trains one run and returns its row of metrics.

    Errors are fractions. 'train/error' and 'validation/error' of the row are measured after the
    last epoch, on all images, of which the net sees the centre at the scale of the training; no
    epoch is selected. The test split is read only if `read_test`, after the last step: with
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
    """Trains the runs of these configs at once; returns the row of each, in their order.

    The configs differ in seed and train.rate only. Rows and lines are those of `fit`, within the
    rounding of floating point, as if each run were trained alone on one device: every seed has
    its own initialisation, draws and order of the data. A run that diverges has a Diverged in place
    of its row and no line from that epoch on, and stops none of the others. `on_epoch` gets the
    config's index before the line; 'seconds' are the run's share, all divided by the runs.
    `on_step` gets, after each step, the steps begun and those of the whole training. `on_end` gets
    the index and the final variables, NumPy arrays, of each config that has a row.

    `keep` gets, after an epoch in which none diverged, a function that makes a Snapshot of it.
    Given as `begun`, later or elsewhere, the training continues after that epoch and ends with the
    same rows, bit for bit on the same machine.

    Raises:
      ValueError: the configs differ in something else.
      checkpoint.Misfit: `begun` is of another training.
      UserError: batch, devices, data and net do not fit together.
    """
    _check_alike(configs)
    training = _Training(configs, dataset, begun)
    for epoch in range(training.first, training.length.epochs + 1):
        line = training.train_epoch(epoch, on_step)
        if not training.running:
            return training.ended
        training.validate(line, on_epoch)
        if len(training.running) == len(configs):
            keep(functools.partial(training.snapshot, epoch))
    training.end(read_test)
    for index, variables in training.final_variables():
        on_end(index, variables)
    return training.ended


class _Training:
    """Runs that are trained at once: their state, and what is known of each."""

    def __init__(self, configs: Sequence, dataset: data.Dataset, begun: checkpoint.Snapshot | None):
        self.configs, self.dataset, self.count = configs, dataset, len(configs)
        self.program = program_of(configs[0], dataset, self.count)
        self.length = length_of(configs[0], dataset)
        self.schedule = optim.schedule_of(configs[0], self.length.steps_per_epoch)
        self.controls = [optim.control_of(configs[0])] * self.count
        self.validation: list[dict] = []
        self.outcomes: list[dict | Diverged | None] = [None] * self.count
        self.state, self.done, self.first = self.program.init(*(c.seed for c in configs)), 0, 1
        if begun:
            self.state = checkpoint.restored(begun, self.state)
            self.done, self.first = begun.step, begun.epoch + 1
            self.controls, self.validation = list(begun.controls), list(begun.validation)

    @property
    def running(self) -> list[int]:
        """Indices of the runs that have neither ended nor diverged."""
        return [index for index in range(self.count) if self.outcomes[index] is None]

    @property
    def ended(self) -> list[dict | Diverged]:
        """The outcomes, when none of the runs is running any more."""
        assert not self.running
        return [outcome for outcome in self.outcomes if outcome is not None]

    def snapshot(self, epoch: int) -> checkpoint.Snapshot:
        controls, validation = tuple(self.controls), tuple(self.validation)
        return checkpoint.Snapshot(epoch, self.done, controls, validation, self.state)

    def train_epoch(self, epoch: int, on_step) -> list[dict]:
        """Trains an epoch; the line of each run on it. Runs with a loss that is not finite end."""
        metrics: list[dict] = []
        start, rates = time.perf_counter(), [0.0] * self.count
        batches = _train_batches(self.configs, self.dataset, self.program, epoch)
        # One step is one dispatch. The host's share of it is under 3 % even of LeNet-5's step on a
        # CPU, and in a loop on the device XLA's CPU convolutions are many times slower.
        for batch in itertools.islice(batches, self.length.steps - self.done):
            factor = self.schedule(self.done + len(metrics))
            rates = [
                config.train.rate * control.scale * factor
                for config, control in zip(self.configs, self.controls, strict=True)
            ]
            shaped = np.asarray(rates, np.float32).reshape(self.program.shape)
            self.state, values = self.program.step(self.state, batch, shaped)
            metrics.append(values)  # stays on the device until the epoch ends
            on_step(self.done + len(metrics), self.length.steps)
        metrics = jax.device_get(metrics)
        seconds = (time.perf_counter() - start) / self.count
        losses, errors = (
            np.array([np.ravel(values[name]) for values in metrics], np.float64)
            for name in ('loss', 'error')
        )  # [steps, models]
        for index in self.running:
            finite = np.isfinite(losses[:, index])
            if not finite.all():
                bad = int(np.argmin(finite))
                self.outcomes[index] = Diverged(
                    f'the loss is {losses[bad, index]} at step {self.done + bad + 1} (epoch '
                    f'{epoch}) with learning rate {self.configs[index].train.rate:g}'
                )
        self.done += len(metrics)
        return [
            {
                'epoch': epoch,
                'step': self.done,
                'rate': rates[index],
                'train/loss': float(losses[:, index].mean()),
                'train/error': float(errors[:, index].mean()),
                'seconds': seconds,
            }
            for index in range(self.count)
        ]

    def validate(self, lines: list[dict], on_epoch) -> None:
        """Measures the validation split and hands on the line of each run."""
        self.validation = self.measure(self.dataset.validation)
        for index in self.running:
            line, own = lines[index], self.validation[index]
            self.controls[index] = optim.after_epoch(
                self.configs[0], self.controls[index], line['train/error'], own['error']
            )
            on_epoch(index, line | _columns('validation', own, ('loss', 'error')))

    def measure(self, split, step=None, size: int = 0) -> list[dict]:
        """Metrics of each run on a split: of the centre, or of the views of another step."""
        step, size = step or self.program.evaluate, size or self.program.eval_batch
        batches = data.eval_batches(split, size, self.program.shared)
        found = evaluate(step, self.program.variables(self.state), batches, len(split.labels))
        each = {name: np.broadcast_to(np.ravel(value), self.count) for name, value in found.items()}
        return [
            {name: values[index].item() for name, values in each.items()}
            for index in range(self.count)
        ]

    def end(self, read_test: bool) -> None:
        """Measures what the rows hold. The test split is read here and nowhere else."""
        program, train = self.program, self.measure(self.dataset.train)
        for index in self.running:
            if not math.isfinite(train[index]['loss'] + self.validation[index]['loss']):
                self.outcomes[index] = Diverged(
                    f'the loss on the train or validation split is not finite after step '
                    f'{self.done} with learning rate {self.configs[index].train.rate:g}'
                )
        test = centre = None
        if read_test and self.running:
            test = self.measure(self.dataset.test, program.test, program.test_batch)
            if program.test is not program.evaluate:
                centre = self.measure(self.dataset.test)
        for index in self.running:
            row = {
                'epochs': self.length.epochs,
                'steps': self.done,
                'devices': program.shared,
                'parameters': program.parameters,
                **_columns('train', train[index]),
                **_columns('validation', self.validation[index]),
            }
            if test:
                row |= _columns('test', test[index]) | {'test/count': test[index]['count']}
            if centre:
                row['test/centre_error'] = centre[index]['error']
            self.outcomes[index] = row

    def final_variables(self) -> Iterator[tuple[int, Any]]:
        """(index, variables as NumPy arrays) of each run that has a row."""
        shape = len(self.program.shape)
        variables = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(self.count, *leaf.shape[shape:]),
            jax.device_get(self.program.variables(self.state)),
        )
        for index, outcome in enumerate(self.outcomes):
            if isinstance(outcome, dict):
                yield index, jax.tree.map(operator.itemgetter(index), variables)


def _check_alike(configs) -> None:
    first = flatten(configs[0])
    for config in configs[1:]:
        other = flatten(config)
        differ = {name for name in {*first, *other} if first.get(name) != other.get(name)}
        differ -= {'seed', 'train.rate'}
        if differ:
            raise ValueError(
                f'runs trained together differ in {", ".join(sorted(differ))}; '
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
        [jax.tree.map(lambda leaf: leaf[0], batch) for batch in batches]
        for batches in zip(*own, strict=True)
    )
    return (stacked([batches[place] for place in places], program.shape) for batches in squeezed)


def _columns(split: str, metrics: dict, names=('loss', 'error', 'error5')) -> dict:
    return {f'{split}/{name}': metrics[name] for name in names if name in metrics}
