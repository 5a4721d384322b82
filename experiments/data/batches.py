"""Batches of a split, in memory or streamed, on the host or on accelerators.

All ways give the same batches. Each process that shares a training reads its own examples of the
global batch only.
"""

from collections.abc import Callable, Iterator

import numpy as np

from experiments.data import readahead
from experiments.data.batch_plan import BatchPlan, shard
from experiments.data.crops import Crop, Drawn
from experiments.data.memory import InMemory
from experiments.data.stream import Split, Streamed
from experiments.errors import UserError


def train_batches(
    split: Split,
    batch: int,
    devices: int,
    seed: int,
    epoch: int,
    *,
    crop: Crop | None = None,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict]:
    """Full batches of one epoch: {'image', 'label', 'mask'} as [devices, n, ...].

    image: uint8 [devices, n, H, W, C]; label: int32 [devices, n]; mask: float32 ones. `batch` is
    that of all processes together, `devices` those of this one: n = batch / process_count /
    devices. The last, partial batch of the epoch's order is left out; another epoch leaves out
    others. `crop`: of a streamed split, how the images are cut out of the whole ones while they
    are decoded; the draws follow from seed, epoch and record alone. `start` is the first step, to
    continue inside an epoch: no image before it is read.
    On a CPU the arrays are NumPy's, on accelerators they are there already, a slice on each.

    Raises:
      UserError: fewer images than a batch, or a batch that does not divide.
    """
    if not 0 <= process_index < process_count:
        words = f'processes count from 0 to {process_count - 1}.'
        raise UserError(f'process {process_index} of {process_count}: {words}')
    if batch % process_count:
        raise UserError(
            f'a batch of {batch} images does not divide over {process_count} processes. '
            'Change train.batch.'
        )
    plan = BatchPlan(len(split.labels), batch, seed, process_index, process_count)
    return _batches(split, plan, devices, epoch * plan.steps + start, plan.steps - start, crop)


def eval_batches(
    split: Split, batch: int, devices: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict]:
    """All images in order, {'image', 'label', 'mask'}; padding examples fill the last batch, with
    mask 0."""
    total = devices * process_count
    batch = -(-batch // total) * total
    plan = BatchPlan(len(split.labels), batch, None, process_index, process_count)
    return _batches(split, plan, devices, 0, plan.steps)


def _batches(
    split, plan: BatchPlan, devices: int, first: int, count: int, crop: Crop | None = None
) -> Iterator[dict]:
    # here, not above: it imports jax, and worker processes, which import this module, must not
    from experiments.data import resident

    shard(np.empty(plan.batch // plan.process_count), devices)  # raises with the numbers
    targets = resident.accelerators(devices)

    def placed(batches):
        try:
            for batch in batches:
                batch = {name: shard(array, devices) for name, array in batch.items()}
                yield resident.place(batch, targets) if targets else batch
        finally:
            batches.close()

    indices = range(first, first + count)
    if isinstance(split, InMemory):
        if crop:
            raise ValueError('crops of whole images need a streamed split')
        if targets and (on_device := resident.resident(split, targets)):
            return (resident.gather(on_device, plan.rows(index), targets) for index in indices)
        # a gather takes less time than handing its result from thread to thread
        batches = placed(read_step(split, plan, index) for index in indices)
        return readahead.ahead(batches) if targets else batches
    evaluates = plan.seed is None
    workers = 0 if evaluates and plan.examples < readahead.FEW else split.workers
    period = plan.steps if evaluates else 0  # evaluation repeats itself with every epoch
    steps = readahead.stream(Steps(split, plan, crop), workers, first, count, period)
    return readahead.ahead(placed(steps))


def read_step(
    split: Split, plan: BatchPlan, index: int, crop: Crop | None = None, zeros: Callable = np.zeros
) -> dict[str, np.ndarray]:
    """{'image': uint8 [n, H, W, C], 'label': int32 [n], 'mask': float32 [n]} of one step.

    crop: of the training images of a streamed split; zeros: makes the array of its images.
    """
    rows = plan.rows(index)
    if crop and isinstance(split, Streamed) and plan.seed is not None:
        drawn = Drawn(split.how, crop, plan.seed, index // plan.steps)
        images, labels = split.read(rows, drawn, zeros)  # a training has no padding examples
        return {'image': images, 'label': labels, 'mask': np.ones(len(rows), np.float32)}
    if rows[-1] >= 0:
        given = (None, zeros) if isinstance(split, Streamed) else ()
        images, labels = split.read(rows, *given)
        return {'image': images, 'label': labels, 'mask': np.ones(len(rows), np.float32)}
    real = rows >= 0
    images = np.zeros((len(rows), *split.shape), np.uint8)
    labels = np.zeros(len(rows), np.int32)
    if real.any():
        images[real], labels[real] = split.read(rows[real])
    return {'image': images, 'label': labels, 'mask': real.astype(np.float32)}


class Steps:
    """The steps of a plan by index, for grain, which reads them in any process."""

    def __init__(self, split: Streamed, plan: BatchPlan, crop: Crop | None = None):
        self.split, self.plan, self.crop = split, plan, crop
        self.key = (id(split), plan, crop)

    def __len__(self):
        return 2**40  # epochs have no last one

    def __getitem__(self, index):
        with readahead.shared() as zeros:
            return read_step(self.split, self.plan, int(index), self.crop, zeros)
