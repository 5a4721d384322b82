"""Which examples each step gets: a function of (seed, epoch, step) alone.

So it is the same after a restart, for any number of worker processes, and for any number of
processes that share the training.
"""

import functools
from typing import NamedTuple

import numpy as np

from experiments.errors import UserError


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` images in an epoch: int64 [count], a function of (seed, epoch) only."""
    return np.random.default_rng((seed, epoch)).permutation(count)


_kept_order = functools.lru_cache(maxsize=16)(order)  # of seeds trained at the same time


def shard(array: np.ndarray, devices: int) -> np.ndarray:
    """[n, ...] -> [devices, n // devices, ...]; UserError when n does not divide."""
    if len(array) % devices:
        each, rest = divmod(len(array), devices)
        raise UserError(
            f'a batch of {len(array)} images does not divide over {devices} devices: {len(array)} '
            f'= {devices} x {each} + {rest}. Change train.batch or train.devices.'
        )
    return array.reshape(devices, len(array) // devices, *array.shape[1:])


def steps_per_epoch(count: int, batch: int) -> int:
    """Full batches in `count` images. UserError when there is not one."""
    if count < batch:
        raise UserError(
            f'the train split has {count} images, fewer than one batch of {batch}. '
            'Lower train.batch or raise data.limit.'
        )
    return count // batch


class BatchPlan(NamedTuple):
    """Which examples each step gets; step `index` counts on through the epochs."""

    examples: int
    batch: int  # over all processes together
    seed: int | None  # None: in order, every example, the last batch filled with padding examples
    process_index: int = 0
    process_count: int = 1

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        if self.seed is None:
            return -(-self.examples // self.batch)
        return steps_per_epoch(self.examples, self.batch)

    def rows(self, index: int) -> np.ndarray:
        """int64 [batch / process_count], this process's examples of a step; -1: padding."""
        epoch, step = divmod(index, self.steps)
        size = self.batch // self.process_count
        start = step * self.batch + self.process_index * size
        if self.seed is not None:
            return _kept_order(self.examples, self.seed, epoch)[start : start + size]
        rows = np.arange(start, start + size)
        return np.where(rows < self.examples, rows, -1)
