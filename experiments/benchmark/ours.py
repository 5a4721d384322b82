"""Our side of the benchmark: the compiled step of experiments/train, timed as `fit` runs it.

Sizes are MiB, times seconds. Nothing here prints.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data, train
from experiments.benchmark import cases
from experiments.benchmark.meters import timed
from experiments.train.evaluate import evaluate
from experiments.train.parallel import parallel

_MIB = 2**20


class Side:
    """A case compiled, with its state and its batches."""

    def __init__(
        self, case: cases.Case, *, devices: int = 0, dtype: str = 'float32', fast: bool = True
    ):
        """Compiles; `compile_seconds` are those to the end of the first step.

        Raises UserError for a batch or a number of devices that do not fit.
        """
        self.case = case
        self.config = cases.config_of(case, devices=devices, dtype=dtype, fast=fast)
        self.dataset = cases.dataset_of(case)
        self.program = train.program_of(self.config, self.dataset)
        self.batches = self._train_batches()
        batch = next(self.batches)
        begin = time.perf_counter()
        self.state = self.program.init(0)
        self.step(batch)
        jax.block_until_ready(self.state)
        self.compile_seconds = time.perf_counter() - begin

    def _train_batches(self) -> Iterator:
        for epoch in itertools.count():
            yield from data.train_batches(
                self.dataset.train, self.case.batch, self.program.devices, 0, epoch
            )

    def _eval_batches(self) -> Iterator:
        while True:
            yield from data.eval_batches(self.dataset.test, self.case.batch, self.program.devices)

    def step(self, batch: Any) -> dict[str, jax.Array]:
        """One step; its metrics stay on the device."""
        self.state, values = self.program.step(self.state, batch, np.float32(cases.RATE))
        return values

    def run(self, steps: int) -> tuple[float, float]:
        """(seconds, seconds of them that the loop waited for batches) of an epoch's loop."""
        metrics, waited, begin = [], 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(self.batches)
            waited += time.perf_counter() - asked
            metrics.append(self.step(batch))
        jax.device_get(metrics)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin, waited

    def measure(self, task: str, seconds: float) -> dict[str, Any]:
        """`train` or `infer`, as the task says."""
        return self.train(seconds) if task == 'train' else self.infer(seconds)

    def train(self, seconds: float) -> dict[str, Any]:
        """Steps for about so many seconds, at least 2, after one to warm up."""
        waits: list[float] = []

        def run(steps: int) -> float:
            spent, waited = self.run(steps)
            waits.append(waited)
            return spent

        _, found = timed(run, self.case.batch, seconds)
        return found | {'input_share': waits[-1] / found['seconds']}

    def infer(self, seconds: float) -> dict[str, Any]:
        """The same of evaluation, in batches of the training's size."""
        size, variables = self.case.batch, self.program.variables(self.state)

        def run(count: int) -> float:
            begin = time.perf_counter()
            batches = itertools.islice(self._eval_batches(), count)
            evaluate(self.program.evaluate, variables, batches, count * size)
            return time.perf_counter() - begin

        return timed(run, size, seconds)[1]

    def host(self, seconds: float) -> dict:
        """What calling a step costs beside its operations, as a share of a step.

        It is the time of a program that takes what the step takes, returns what it returns and
        computes nothing. Medians of at least 5 calls and 5 steps.
        """

        def nothing(state, batch, rate):
            del batch
            # Not the arguments themselves, which jax would return without a call
            same = jax.tree.map(lambda leaf: leaf * jnp.ones((), leaf.dtype), state)
            return same, {'loss': rate * 1, 'error': rate * 1}

        fast = self.config.model.fields.get('fast', True)
        empty = parallel(nothing, self.program.devices, donate=True, shared=1, fast=fast)
        batch = next(self.batches)

        def median(step: Callable) -> float:
            spent: list[float] = []
            end = time.perf_counter() + seconds
            while len(spent) < 6 or time.perf_counter() < end and len(spent) < 100:
                begin = time.perf_counter()
                self.state, values = step(self.state, batch, np.float32(cases.RATE))
                jax.block_until_ready((self.state, values))
                spent.append(time.perf_counter() - begin)
            return float(np.median(spent[1:]))

        whole, call = median(self.program.step), median(empty)
        return {'seconds': call, 'step_seconds': whole, 'share': call / whole}

    def compiled(self) -> Any:
        """The executable of the step, which is not compiled again."""
        batch = next(self.batches)
        return self.program.step.compiled(self.state, batch, np.float32(cases.RATE))

    def memory(self) -> dict:
        """MiB of the compiled step on a device, and the highest use of the device so far."""
        found = self.compiled().memory_analysis()
        sizes = {}
        if found:
            for name in ('argument', 'output', 'alias', 'temp'):
                sizes[name] = getattr(found, f'{name}_size_in_bytes') / _MIB
            # outputs that lie in donated arguments take no memory of their own
            sizes['step'] = sizes['argument'] + sizes['output'] - sizes['alias'] + sizes['temp']
        stats = jax.local_devices()[0].memory_stats() or {}
        if 'peak_bytes_in_use' in stats:
            sizes['device_peak'] = stats['peak_bytes_in_use'] / _MIB
        return sizes


def matmul_peak(dtype: str = 'float32', devices: int = 1) -> float:
    """GFLOP/s of a large matrix product on the first devices together, the best of ten."""
    device = jax.local_devices()[0]
    side = 2048 if device.platform == 'cpu' else 8192
    a = jax.device_put(jnp.ones((side, side), dtype), device)
    product = jax.jit(lambda a, b: a @ b)
    best = np.inf
    for _ in range(10):
        begin = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - begin)
    # virtual devices of a CPU share its cores
    return (1 if device.platform == 'cpu' else devices) * 2 * side**3 / best / 1e9
