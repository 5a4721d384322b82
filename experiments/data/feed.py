"""Batches from a part of a data set: gathered in memory, or streamed through grain.

Both ways give the same batches. Which images a step gets is a function of (seed, epoch, step)
alone (`Plan`), so it is the same after a restart, for any number of worker processes, and for any
number of processes that share the training: each reads its own rows of the global batch only.
"""

import atexit
import functools
import gc
import os
import queue
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from experiments.data import records as reading
from experiments.data.decode import Decoding
from experiments.errors import UserError

_AHEAD = 2  # batches ready before they are asked for, in this process and in each worker
SHORT = 4000  # images to evaluate; fewer are read before worker processes would have started
_LIVE = 2  # streams kept running between epochs: training and validation
_RESIDENT = 0.25  # of an accelerator's free memory that a part's images may take


# --- parts -----------------------------------------------------------------------------------


class Split(NamedTuple):
    """A part in memory."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def read(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, H, W, C] and int32 [n] of the images at these places."""
        return self.images[rows], self.labels[rows]


class Streamed:
    """A part that stays where it is and is decoded while it is used."""

    def __init__(
        self,
        records: reading.Records,
        rows: np.ndarray,
        how: Decoding,
        shape: tuple[int, int, int],
        classes: int,
        workers: int = 0,
    ):
        self.records, self.rows, self.how = records, np.asarray(rows), how
        self.shape, self.classes, self.workers = tuple(shape), classes, workers

    def __len__(self):
        return len(self.rows)

    @property
    def labels(self):
        """int32 [N]; where only reading tells, an object of that length that np.asarray reads."""
        if self.records.labels is None:
            return Unread(self)
        return self.records.labels[self.rows]

    def read(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, H, W, C] and int32 [n] of the images at these places.

        Raises:
          UserError: one does not decode (named), has another shape or a label of no class.
        """
        images, labels, faults = reading.many(
            self.records, self.rows[rows], self.how, self.shape, self.classes
        )
        if faults:
            raise explained(faults[0][1])
        return images, labels


class Unread:
    """Labels that lie in the records: a length, and an array when it is asked for."""

    dtype = np.dtype(np.int32)

    def __init__(self, part: Streamed):
        self._part = part
        self.shape = (len(part),)

    def __len__(self):
        return len(self._part)

    def __array__(self, dtype=None, copy=None):
        del copy
        part = self._part
        step = reading.step_of(part.shape)
        labels = [
            label
            for start in range(0, len(part), step)
            for _, label in part.records.fetch(part.rows[start : start + step])
        ]
        return np.asarray(labels, dtype or np.int32)


def explained(error: UserError) -> UserError:
    """The error with what can be done about it, when it is a broken record's."""
    if not isinstance(error, reading.Broken):
        return error
    return reading.Broken(
        f'{error} Name all such records with python -m experiments.data check '
        'NAME; mend or prepare them again, or leave them out with '
        '--config.data.skip_broken=true.',
        error.index,
    )


# --- which images a step gets ----------------------------------------------------------------


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` images in an epoch: int64 [count], a function of (seed, epoch) only."""
    return np.random.default_rng((seed, epoch)).permutation(count)


_kept_order = functools.lru_cache(maxsize=16)(order)  # of seeds trained together


def shard(array: np.ndarray, devices: int) -> np.ndarray:
    """[n, ...] -> [devices, n // devices, ...]; UserError when n does not divide."""
    if len(array) % devices:
        raise UserError(
            f'a batch of {len(array)} images does not divide over {devices} devices: '
            f'{len(array)} = {devices} x {len(array) // devices} + '
            f'{len(array) % devices}. Change train.batch or train.devices.'
        )
    return array.reshape(devices, len(array) // devices, *array.shape[1:])


def steps_per_epoch(count: int, batch: int) -> int:
    """Full batches in `count` images. UserError when there is not one."""
    if count < batch:
        raise UserError(
            f'the train part has {count} images, fewer than one batch of {batch}. '
            'Lower train.batch or raise data.limit.'
        )
    return count // batch


class Plan(NamedTuple):
    """Which images each step gets; step `index` counts on through the epochs."""

    count: int
    batch: int  # over all processes together
    seed: int | None  # None: in order, every image, the last batch filled up
    process_index: int = 0
    process_count: int = 1

    @property
    def steps(self) -> int:
        if self.seed is None:
            return -(-self.count // self.batch)
        return steps_per_epoch(self.count, self.batch)

    def rows(self, index: int) -> np.ndarray:
        """int64 [batch / process_count], this process's images of a step; -1: filling."""
        epoch, step = divmod(index, self.steps)
        size = self.batch // self.process_count
        start = step * self.batch + self.process_index * size
        if self.seed is not None:
            return _kept_order(self.count, self.seed, epoch)[start : start + size]
        rows = np.arange(start, start + size)
        return np.where(rows < self.count, rows, -1)


def read_step(part, plan: Plan, index: int) -> dict[str, np.ndarray]:
    """{'image': uint8 [n, H, W, C], 'label': int32 [n], 'mask': float32 [n]} of one step."""
    rows = plan.rows(index)
    if rows[-1] >= 0:
        images, labels = part.read(rows)
        return {'image': images, 'label': labels, 'mask': np.ones(len(rows), np.float32)}
    real = rows >= 0
    images = np.zeros((len(rows), *part.shape), np.uint8)
    labels = np.zeros(len(rows), np.int32)
    if real.any():
        images[real], labels[real] = part.read(rows[real])
    return {'image': images, 'label': labels, 'mask': real.astype(np.float32)}


# --- batches ---------------------------------------------------------------------------------


def train_batches(
    part,
    batch: int,
    devices: int,
    seed: int,
    epoch: int,
    *,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict]:
    """Full batches of one epoch: {'image', 'label', 'mask'} as [devices, n, ...].

    image: uint8 [devices, n, H, W, C]; label: int32 [devices, n]; mask: float32 ones. `batch` is
    that of all processes together, `devices` those of this one: n = batch / process_count /
    devices. The last, partial batch of the epoch's order is left out; another epoch leaves out
    others. `start` is the first step, to go on inside an epoch: what lies before is not read.
    On a CPU the arrays are NumPy's, on an accelerator they lie there already, one part a device.

    Raises:
      UserError: fewer images than a batch, or a batch that does not divide.
    """
    _check_processes(batch, process_index, process_count)
    plan = Plan(len(part.labels), batch, seed, process_index, process_count)
    return _batches(part, plan, devices, epoch * plan.steps + start, plan.steps - start)


def eval_batches(
    part, batch: int, devices: int, *, process_index: int = 0, process_count: int = 1
) -> Iterator[dict]:
    """All images in order, {'image', 'label', 'mask'}; the last batch is filled up, masked 0."""
    together = devices * process_count
    plan = Plan(
        len(part.labels), -(-batch // together) * together, None, process_index, process_count
    )
    return _batches(part, plan, devices, 0, plan.steps)


def _check_processes(batch, index, count):
    if not 0 <= index < count:
        raise UserError(f'process {index} of {count}: processes count from 0 to {count - 1}.')
    if batch % count:
        raise UserError(
            f'a batch of {batch} images does not divide over {count} processes. Change train.batch.'
        )


def _batches(part, plan, devices, first, count):
    shard(np.empty(plan.batch // plan.process_count), devices)  # raises with the numbers
    targets = accelerators(devices)
    if isinstance(part, Split):
        resident = _resident(part, targets)
        if resident:
            return (
                _on_device(resident, plan.rows(index), targets)
                for index in range(first, first + count)
            )
        # a gather takes less time than handing its result from thread to thread
        batches = (
            _place(read_step(part, plan, index), devices, targets)
            for index in range(first, first + count)
        )
        return ahead(batches) if targets else batches
    workers = 0 if plan.seed is None and plan.count < SHORT else part.workers
    return ahead(
        _placed(stream(Steps(part, plan), workers, first, count, plan.steps), devices, targets)
    )


def accelerators(devices: int) -> list:
    """The first local devices, or [] where they are the CPU, whose memory is the host's."""
    import jax

    found = jax.local_devices()[:devices]
    return [] if found[0].platform == 'cpu' or len(found) < devices else found


def _sharding(targets):
    import jax

    return jax.sharding.NamedSharding(
        jax.sharding.Mesh(np.array(targets), ('devices',)), jax.sharding.PartitionSpec('devices')
    )


def _placed(batches, devices, targets):
    try:
        for batch in batches:
            yield _place(batch, devices, targets)
    finally:
        batches.close()


def _place(batch, devices, targets):
    batch = {name: shard(array, devices) for name, array in batch.items()}
    if targets:
        import jax

        batch = jax.device_put(batch, _sharding(targets))
    return batch


# --- in the memory of an accelerator ---------------------------------------------------------

_residents: dict = {}  # {(id of images, devices): [images on each device]}


def _resident(part: Split, targets: list):
    """The part's images on each of the devices, or None where they do not fit."""
    if not targets:
        return None
    key = (id(part.images), tuple(targets))
    if key not in _residents:
        import jax

        fits = all(part.images.nbytes <= _RESIDENT * _free(device) for device in targets)
        copies = [jax.device_put(part.images, device) for device in targets] if fits else None
        _residents[key] = (copies, part.labels) if fits else None
        weakref.finalize(part.images, _residents.pop, key, None)
    return _residents[key]


def _free(device) -> float:
    stats = device.memory_stats() or {}
    return stats.get('bytes_limit', 0) - stats.get('bytes_in_use', 0)


@functools.cache
def _gather():
    import jax
    import jax.numpy as jnp

    # what lies beyond the end, as filling does, is read as zero
    return jax.jit(
        lambda images, rows: jnp.take(images, rows, axis=0, mode='fill', fill_value=0)[None]
    )


def _on_device(resident, rows, targets):
    import jax

    copies, labels = resident
    real = rows >= 0
    places = shard(np.where(real, rows, len(labels)).astype(np.int32), len(targets))
    pieces = [
        _gather()(images, jax.device_put(place, device))
        for images, place, device in zip(copies, places, targets, strict=True)
    ]
    sharding = _sharding(targets)
    images = jax.make_array_from_single_device_arrays(
        (len(targets), *pieces[0].shape[1:]), sharding, pieces
    )
    rest = {
        'label': shard(np.where(real, labels[rows], 0).astype(np.int32), len(targets)),
        'mask': shard(real.astype(np.float32), len(targets)),
    }
    return {'image': images} | jax.device_put(rest, sharding)


# --- streaming -------------------------------------------------------------------------------


class Steps:
    """The steps of a plan as a random-access source for grain, read in whatever process."""

    def __init__(self, part: Streamed, plan: Plan):
        self.part, self.plan = part, plan
        self.key = (id(part), plan)

    def __len__(self):
        return 2**40  # epochs have no last one

    def __getitem__(self, index):
        return read_step(self.part, self.plan, int(index))


class _Live(NamedTuple):
    iterator: object
    next: int
    source: object  # holds on to what its id names


_live: dict[tuple, _Live] = {}
_started = threading.Event()  # this process has started workers


def stream(source, workers: int, first: int, count: int, period: int = 0) -> Iterator:
    """source[first], ..., source[first + count - 1], read ahead by grain in `workers` processes.

    0 workers: a thread of this process. A source with a `key` keeps its processes after the last
    element, ready for the next call that goes on from there; with a `period`, elements that far
    apart are the same or continue each other.
    """
    key = getattr(source, 'key', None)
    live = _live.pop(key, None)
    if (
        live
        and live.next != first
        and not (source.plan.seed is None and (live.next - first) % period == 0)
    ):
        live.iterator.close()
        live = None
    iterator = live.iterator if live else _grain(source, workers, first)
    place = live.next if live else first
    begun = live is not None or not workers
    try:
        for _ in range(count):
            value = next(iterator) if begun else _first(iterator)
            begun = True
            if workers:  # out of grain's shared memory, which must be given back before the end
                value = {
                    name: np.array(item) if isinstance(item, np.ndarray) else item
                    for name, item in value.items()
                }
            place += 1
            yield value
    except BaseException as error:
        iterator.close()
        if isinstance(error, RuntimeError) and 'terminated unexpectedly' in str(error):
            raise UserError(
                'a process that decodes images was ended from outside, often for lack '
                'of memory. Lower data.workers or train.batch.'
            ) from error
        raise
    if key is None:
        return iterator.close()
    _live[key] = _Live(iterator, place, source)
    while len(_live) > _LIVE:
        _live.pop(next(iter(_live))).iterator.close()


def _first(iterator):
    """The first element of an iterator that starts processes, which Ctrl-C must not reach yet: one
    that ended before it had read what it is to do would leave its parent waiting for ever.

    A process has the signals blocked that the thread had which started it.
    """
    from multiprocessing import resource_tracker

    found = queue.Queue()
    if not _started.is_set():
        _started.set()
        atexit.register(_end)  # once more: before multiprocessing, now imported, ends the workers

    def work():
        resource_tracker.ensure_running()  # once started, it leaves the thread's signals alone
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            found.put((next(iterator), None))
        except BaseException as error:
            found.put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            try:
                value, error = found.get(timeout=0.2)
                break
            except queue.Empty:
                continue
    except BaseException:
        thread.join(timeout=10)
        found.queue.clear()
        raise
    if error is not None:
        raise error
    return value


def close() -> None:
    """Ends all worker processes that wait for another epoch."""
    while _live:
        _live.popitem()[1].iterator.close()


@atexit.register
def _end() -> None:
    for stop, _ in list(_reading):
        stop.set()
    for _, thread in list(_reading):
        thread.join(timeout=5)
    close()
    if _started.is_set():
        _started.clear()
        gc.collect()
        time.sleep(1)  # grain's thread gives shared memory back; it does not wait for itself


def _grain(source, workers, first):
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads its own when it starts processes
    # one element is a whole batch: the order cannot depend on the workers, and few are held
    steps = grain.MapDataset.source(source)[first:].to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if workers else _AHEAD)
    )
    if workers:
        steps = steps.mp_prefetch(
            grain.multiprocessing.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=_AHEAD
            ),
            worker_init_fn=_start_worker,
        )
    return iter(steps)


def _start_worker(index, count):
    """In a worker: leave Ctrl-C to the parent, and end when the parent has ended."""
    import multiprocessing
    from multiprocessing import connection

    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()

    def watch():
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_reading: set = set()  # (event that ends it, thread) of every thread that reads ahead


def ahead(iterator: Iterator, depth: int = _AHEAD) -> Iterator:
    """The elements of an iterator that a thread reads up to `depth` of in advance.

    Its errors are raised where the element would have come. Closing ends the thread, and the
    iterator in it.
    """
    ready, stop = queue.Queue(depth), threading.Event()

    def put(item):
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work():
        try:
            for value in iterator:
                put((value, None))
                if stop.is_set():
                    break
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))
        finally:
            getattr(iterator, 'close', lambda: None)()
            _reading.discard(own)

    thread = threading.Thread(target=work, daemon=True)
    own = stop, thread
    _reading.add(own)
    thread.start()
    try:
        while True:
            value, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield value
    finally:
        stop.set()
        thread.join(timeout=5)
