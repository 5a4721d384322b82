"""The loop over the epochs of one training, or of several at once.

With train.together > 1 the runs of an arm are trained at once, each whole on one device: no batch
is shared and nothing is averaged over devices. States, batches and learning rates then have leading
axes [devices, models], models being those of one device.
"""

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import bits, data
from experiments.plan.checks import resolve
from experiments.plan.config import flatten
from experiments.train import checkpoint, optim
from experiments.train.evaluate import evaluate
from experiments.train.program import dispatches, length_of, program_of, stacked


class Diverged(Exception):
    """The loss is no longer finite; the message names the step."""


def fit(
    config: ConfigDict,
    dataset: data.Dataset,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
    *,
    final: bool,
) -> dict[str, Any]:
    """Trains one run and returns its row of metrics.

    Errors are fractions. 'train/error' and 'validation/error' of the row are measured after the
    last epoch, on all images, in the centre view at the scale of the training; no epoch is
    selected. Of a `final` run the measures are read too, and after the last step the test split:
    with config.evaluation, and where that is another view, for 'test/centre_error' as the others.
    `on_epoch` gets one line per epoch: its train metrics are averaged during the epoch, its
    'seconds' cover the training without the evaluation, and its 'rate' is that of the last step.

    Raises:
      Diverged: the loss of a step, or after the last one that of the train or validation split, is
        not finite.
      UserError: a field that no run could use, or batch, devices, data and net do not fit together.
    """
    on_line = lambda index, line: on_epoch(line)
    (outcome,) = fit_together([config], dataset, on_line, final=final)
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def fit_together(
    configs: Sequence[Any],
    dataset: data.Dataset,
    on_epoch: Callable[[int, dict[str, Any]], None] = lambda index, line: None,
    *,
    final: bool,
    on_step: Callable[..., None] = lambda *_: None,
    begun: checkpoint.Snapshot | None = None,
    keep: Callable[[Callable[[], checkpoint.Snapshot]], None] = lambda snapshot: None,
    on_end: Callable[[int, Any], None] = lambda index, variables: None,
) -> list[dict[str, Any] | Diverged]:
    """Trains the runs of these configs at once; returns the row of each, in their order.

    The configs differ in seed and train.rate only. Rows and lines are those of `fit`, within the
    rounding of floating point, as if each run were trained alone on one device: every seed has its
    own initialisation, draws and order of the data. A run that diverges has a Diverged in place of
    its row and no line from that epoch on, and stops none of the others. `on_epoch` gets the
    config's index before the line; 'seconds' are the run's share, the same for all. `on_step` gets,
    after each step, the steps done and those of the whole training, the images of a step, the
    learning rates, and a function for the loss of the last step that the device has done (None:
    there is none yet), which does not wait for it. `on_end` gets the index and the
    final variables, NumPy arrays, of each config that has a row.

    `keep` gets, after each step and each epoch as long as no epoch found that a run diverged, a
    function that returns a Snapshot. Given as `begun`, later or elsewhere, the training continues
    after that step and ends with the same rows, bit for bit on the same machine.

    Raises:
      ValueError: the configs differ in something else.
      checkpoint.Misfit: `begun` is of another training.
      UserError: a field that no run could use, or batch, devices, data and net do not fit together.
    """
    group = _Group(configs, dataset, begun, final)
    while group.epoch < group.length.epochs:
        metrics = group.train_epoch(on_step, keep)
        if not group.running():
            return group.outcomes
        group.validate(metrics, on_epoch)
        group.read_measures()
        if group.is_whole():
            keep(group.snapshot)
    group.finish(on_end)
    return group.outcomes


class _Group:
    """Runs that are trained at once: how far they are, and their outcomes.

    `validation` holds the measures of the last epoch, of each run.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        dataset: data.Dataset,
        begun: checkpoint.Snapshot | None,
        final: bool,
    ):
        self.configs, self.dataset, self.count = configs, dataset, len(configs)
        self.final = final
        for config in configs:
            resolve(config)
        _check_alike(configs)
        config = configs[0]
        self.program = program_of(config, dataset, self.count)
        self.length = length_of(config, dataset)
        self.schedule = optim.schedule_of(config, self.length.steps_per_epoch)
        self.controls = [optim.control_of(config)] * self.count
        self.validation: list[dict[str, float]] = []
        self.outcomes: list[Any] = [None] * self.count
        # of each run, what its row will hold of the epochs so far
        self.records: list[dict[str, Any]] = [{} for _ in configs]
        self.epoch = self.done = 0  # epochs and steps
        self.partial: dict[str, Any] | None = None  # of the steps that a snapshot had in its epoch
        self.state = self.program.init(*(config.seed for config in configs))
        if begun:
            self.state = checkpoint.restored(begun, self.state)
            self.epoch, self.done = begun.epoch, begun.step
            self.controls, self.validation = list(begun.controls), list(begun.validation)
            self.records = copy.deepcopy(list(begun.records))
            self.partial = begun.partial
        else:
            self.read_measures()

    def running(self) -> list[int]:
        """Indices of the runs that have no outcome yet."""
        return [index for index in range(self.count) if self.outcomes[index] is None]

    def is_whole(self) -> bool:
        """Whether no run has an outcome yet."""
        return len(self.running()) == self.count

    def snapshot(self, partial: dict[str, Any] | None = None) -> checkpoint.Snapshot:
        """partial: what `train_epoch` has of the epoch's steps so far, inside of one."""
        kept = tuple(self.controls), tuple(self.validation), self.state
        records = copy.deepcopy(tuple(self.records))
        epoch = self.epoch - (partial is not None)
        return checkpoint.Snapshot(epoch, self.done, *kept, records, partial)

    def train_epoch(self, on_step, keep) -> dict[str, Any]:
        """Trains one epoch; a run whose loss is not finite gets its outcome.

        Returns {'loss', 'error': float64 [steps, models], 'rates': of the last step, 'seconds'}.
        """
        self.epoch += 1
        start, metrics = time.perf_counter(), []
        before, self.partial = self.partial, None
        first = self.done - (self.epoch - 1) * self.length.steps_per_epoch
        given = self.configs, self.dataset, self.program, self.epoch, first
        several = self.configs[0].train.steps_per_dispatch > 1
        batches = dispatches(*given) if several else _train_batches(*given)
        images = self.count * self.configs[0].train.batch
        # One step is one dispatch, unless the config says otherwise. The host's part of it is under
        # 3 % even of LeNet-5's step on a CPU, and in a loop on the device XLA's CPU convolutions
        # are many times slower.
        while self.done < self.length.steps and (batch := next(batches, None)) is not None:
            steps = 1
            if several:
                steps = min(batch['rows'].shape[-2], self.length.steps - self.done)
                batch |= {name: batch[name][..., :steps, :] for name in ('rows', 'label')}
            each = [self._rates(self.done + step) for step in range(steps)]
            rates = each[-1]
            shape = (*self.program.shape, steps) if several else self.program.shape
            by_model = np.asarray(each, np.float32).T.reshape(shape)
            self.state, values = self.program.step(self.state, batch, by_model)
            metrics.append(values)  # stays on the device until the epoch ends
            self.done += steps
            if self.is_whole():
                keep(lambda: self.snapshot(self._partial(metrics, start, before)))
            latest = functools.partial(_latest_loss, metrics, self.count)
            on_step(self.done, self.length.steps, images, rates, latest)
        found = self._partial(metrics, start, before)
        seconds = found.pop('seconds') / self.count
        found = {name: values.astype(np.float64) for name, values in found.items()}
        for index in self.running():
            losses = found['loss'][:, index]
            if not np.isfinite(losses).all():
                bad = int(np.argmin(np.isfinite(losses)))
                step = self.done - len(losses) + bad + 1
                self._diverged(index, f'is {losses[bad]} at step {step} (epoch {self.epoch})')
        self._extend_curves(found['error'])
        return found | {'rates': self._rates(self.done - 1), 'seconds': seconds}

    def _rates(self, step: int) -> list[float]:
        """The learning rate of each run in a step of this epoch."""
        factor = self.schedule(step)
        pairs = zip(self.configs, self.controls)
        return [config.train.rate * control.scale * factor for config, control in pairs]

    def _partial(self, metrics: list, start: float, before: dict[str, Any] | None):
        """{'loss', 'error': float32 [steps, models], 'seconds'} of the epoch's steps so far.

        metrics: of those since `start`; before: the same of those before them, if there are any.
        """
        metrics = jax.device_get(metrics)
        found: dict[str, Any] = {
            name: np.concatenate(
                [np.reshape(values[name], (self.count, -1)).T for values in metrics]
                or [np.empty((0, self.count))]
            ).astype(np.float32)
            for name in ('loss', 'error')
        }
        found['seconds'] = time.perf_counter() - start
        if before is None:
            return found
        joined = {name: np.concatenate([before[name], found[name]]) for name in ('loss', 'error')}
        return joined | {'seconds': before['seconds'] + found['seconds']}

    def _extend_curves(self, errors: np.ndarray) -> None:
        """Adds the points of an epoch, whose errors are [steps, models], to the curves."""
        points = min(self.configs[0].train.curve, len(errors))
        if points:
            ends = self.done - len(errors)
            for part in np.array_split(errors, points):
                ends += len(part)
                for record, error in zip(self.records, part.mean(0)):
                    record.setdefault('train/curve', []).append([ends, float(error)])

    def read_measures(self) -> None:
        """Reads the measures off final runs, if their config asks for them after this epoch."""
        fields = self.configs[0].measure
        epochs = fields.epochs or (self.length.epochs,)
        if not (self.final and fields.names and self.epoch in epochs):
            return
        chosen = np.arange(min(fields.images, len(self.dataset.validation.labels)))
        images, labels = self.dataset.validation.read(chosen)
        variables = jax.device_get(self.program.variables(self.state))
        for index in self.running():
            own = _model(variables, index, self.program.shape)
            found = jax.device_get(self.program.measure(own, {'image': images, 'label': labels}))
            for name, values in found.items():
                values = {key: _plain(value) for key, value in values.items()}
                known = self.records[index].setdefault('measures', {}).setdefault(name, {})
                known[str(self.epoch)] = values

    def _diverged(self, index: int, how: str) -> None:
        rate = self.configs[index].train.rate
        self.outcomes[index] = Diverged(f'the loss {how} with learning rate {rate:g}')

    def measure(self, split, step: Callable, size: int) -> list[dict[str, Any]]:
        """The means and 'right' of `evaluate` on a split in batches of this size, for each run."""
        devices, processes = _own_devices(self.program.shared)
        batches = data.eval_batches(split, size, devices, **processes)
        found = evaluate(step, self.program.variables(self.state), batches, len(split.labels))
        right = np.broadcast_to(found.pop('right'), (*self.program.shape, len(split.labels)))
        right = right.reshape(self.count, -1)
        each = {name: np.broadcast_to(np.ravel(value), self.count) for name, value in found.items()}
        return [
            {name: values[run].item() for name, values in each.items()} | {'right': right[run]}
            for run in range(self.count)
        ]

    def measure_test(self) -> list[dict[str, Any]]:
        """The numbers of `measure` of the test split, joined where it is read in parts."""
        parts = self.program.parts(self.dataset.test)
        found = [self.measure(part, self.program.test, size) for _, part, size in parts]
        if len(found) == 1:
            return found[0]
        places = np.concatenate([own for own, _, _ in parts])
        return [_joined(each, places) for each in zip(*found, strict=True)]

    def centre(self, split) -> list[dict[str, float]]:
        """The numbers of `measure` with the centre view, as between epochs."""
        found = self.measure(split, self.program.evaluate, self.program.eval_batch)
        return [{name: each[name] for name in each if name != 'right'} for each in found]

    def validate(self, metrics: dict[str, Any], on_epoch) -> None:
        """Measures the validation split, adapts the learning rates, gives the epoch's lines."""
        self.validation = self.centre(self.dataset.validation)
        for index in self.running():
            error, own = float(metrics['error'][:, index].mean()), self.validation[index]
            control = self.controls[index]
            self.controls[index] = optim.after_epoch(self.configs[0], control, error, own['error'])
            line = {
                'epoch': self.epoch,
                'step': self.done,
                'rate': metrics['rates'][index],
                'train/loss': float(metrics['loss'][:, index].mean()),
                'train/error': error,
                'validation/loss': own['loss'],
                'validation/error': own['error'],
                'seconds': metrics['seconds'],
            }
            on_epoch(index, line)

    def finish(self, on_end) -> None:
        """Measures the finished runs; their rows are their outcomes."""
        program, dataset = self.program, self.dataset
        train = self.centre(dataset.train)
        for index in self.running():
            if not math.isfinite(train[index]['loss'] + self.validation[index]['loss']):
                how = f'on the train or validation split is not finite after step {self.done}'
                self._diverged(index, how)
        test = centre = None
        if self.final and self.running():
            test = self.measure_test()
            centre = self.centre(dataset.test) if program.test is not program.evaluate else None
        variables = jax.device_get(program.variables(self.state))
        for index in self.running():
            row: dict[str, Any] = {
                'epochs': self.length.epochs,
                'steps': self.done,
                'devices': program.shared,
                'parameters': program.parameters,
                **_columns('train', train[index]),
                **_columns('validation', self.validation[index]),
            }
            if test:
                row |= _columns('test', test[index]) | {'test/count': test[index]['count']}
                row['test/right'] = bits.pack(test[index]['right'])
            if centre:
                row['test/centre_error'] = centre[index]['error']
            self.outcomes[index] = row | self.records[index]
            on_end(index, _model(variables, index, program.shape))


def _plain(value: Any) -> Any:
    """A number or list of numbers for JSON, which has no infinity: None in its place."""
    if np.ndim(value):
        return [_plain(one) for one in value]
    return float(value) if np.isfinite(value) else None


def _joined(parts: Sequence[dict[str, Any]], places: np.ndarray) -> dict[str, Any]:
    """Means and 'right' of a split from those of its parts; places: of their images, in order."""
    count = len(places)
    means = {
        name: sum(part[name] * part['count'] for part in parts) / count
        for name in parts[0]
        if name != 'right'
    }
    right = np.empty(count, bool)
    right[places] = np.concatenate([part['right'] for part in parts])
    return means | {'count': count, 'right': right}


def _latest_loss(metrics: Sequence[dict[str, Any]], count: int) -> float | None:
    """The loss of the last step that the device has done, a mean over the `count` models; does not
    wait."""
    done = (values['loss'] for values in reversed(metrics) if values['loss'].is_ready())
    return next((float(np.asarray(loss).reshape(count, -1)[:, -1].mean()) for loss in done), None)


def _model(variables, index: int, shape: tuple[int, ...]):
    """The variables of one of the models, whose leaves are [*shape, ...]."""
    place = np.unravel_index(index, shape) if shape else ()
    return jax.tree.map(lambda leaf: np.asarray(leaf)[place], variables)


def _check_alike(configs) -> None:
    first = flatten(configs[0])
    for config in configs[1:]:
        other = flatten(config)
        differ = {name for name in {*first, *other} if first.get(name) != other.get(name)}
        if names := ', '.join(sorted(differ - {'seed', 'train.rate'})):
            raise ValueError(
                f'runs trained together differ in {names}; only seed and train.rate may differ.'
            )


def _train_batches(configs, dataset, program, epoch: int, start: int) -> Iterator[dict[str, Any]]:
    """One epoch's batches for `program.step` from step `start` on; each of several models in the
    order of its seed."""
    batch, seeds = configs[0].train.batch, [config.seed for config in configs]
    # a seed is read once, however many learning rates it is tried with
    read = list(dict.fromkeys(seeds))
    devices, processes = _own_devices(program.shared)
    fixed = dataset.train, batch, devices
    given: dict[str, Any] = dict(start=start, crop=program.crop, **processes)
    own = [data.train_batches(*fixed, seed, epoch, **given) for seed in read]
    if not program.shape:
        return own[0]
    places = [read.index(seed) for seed in seeds]
    squeezed = (
        [jax.tree.map(lambda leaf: leaf[0], batch) for batch in batches]
        for batches in zip(*own, strict=True)
    )
    return (stacked([batches[place] for place in places], program.shape) for batches in squeezed)


def _own_devices(devices: int) -> tuple[int, dict[str, int]]:
    """Of the devices that share a batch those of this process; the processes that share it."""
    count = jax.process_count()
    return devices // count, {'process_index': jax.process_index(), 'process_count': count}


def _columns(split: str, metrics: dict[str, float]) -> dict[str, float]:
    names = [name for name in metrics if name not in ('count', 'right')]
    return {f'{split}/{name}': metrics[name] for name in names}
