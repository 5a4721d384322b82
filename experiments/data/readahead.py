"""Reads ahead: in worker processes, through grain, or in a thread of this process."""

import atexit
import contextlib
import gc
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.errors import UserError

AHEAD = 2  # elements ready before they are asked for, in this process and in each worker
FEW = 4000  # images; fewer are read before worker processes would have started
_LIVE = 2  # iterators kept running between epochs: training and validation


class _Live(NamedTuple):
    iterator: Any  # grain's
    next: int
    items: Any  # kept alive, since its key holds an id


_live: dict[tuple, _Live] = {}
_started = threading.Event()  # this process has started workers
_worker = threading.Event()  # this process is one


def stream(items, workers: int, first: int, count: int, period: int = 0) -> Iterator[dict]:
    """items[first], ..., items[first + count - 1], read ahead by grain in `workers` processes.

    0 workers: a thread of this process. Items with a `key` keep their processes after the last
    element, ready for the next call that continues there; with a `period`, also for a call that
    begins a multiple of it away, where the elements are the same.

    Raises:
      UserError: a worker process was ended from outside.
    """
    key = getattr(items, 'key', None)
    live = _live.pop(key, None) if key else None
    if live and live.next != first and not (period and (live.next - first) % period == 0):
        live.iterator.close()
        live = None
    iterator = live.iterator if live else _grain(items, workers, first)
    place = live.next if live else first
    begun = live is not None or not workers
    try:
        for _ in range(count):
            value = next(iterator) if begun else _first(iterator)
            begun = True
            if workers:  # out of grain's shared memory, which must be given back before the end
                copied = lambda item: np.array(item) if isinstance(item, np.ndarray) else item
                value = {name: copied(item) for name, item in value.items()}
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
        iterator.close()
        return
    _live[key] = _Live(iterator, place, items)
    while len(_live) > _LIVE:
        _live.pop(next(iter(_live))).iterator.close()


def _first(iterator):
    """The first element of an iterator that starts processes, protected from Ctrl-C: a process
    that ended before it had read its task would leave its parent waiting for ever.

    A process inherits the blocked signals of the thread that starts it.
    """
    from multiprocessing import resource_tracker  # start-up cost: only workers need it

    found: list[tuple] = []
    if not _started.is_set():
        _started.set()
        atexit.register(
            _end
        )  # again, to run before multiprocessing, now imported, ends the workers

    def work():
        resource_tracker.ensure_running()  # once started, it leaves the thread's signals alone
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            found.append((next(iterator), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():  # an end to every wait: Ctrl-C is noticed between two
            thread.join(timeout=0.2)
    except BaseException:
        thread.join(timeout=10)
        found.clear()
        raise
    value, error = found.pop()
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


def _grain(items, workers, first):
    import grain  # start-up cost: a second, and sets in memory do without
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads its own when it starts processes
    # one element is a whole batch: the order cannot depend on the workers, and few are held
    # no thread in a worker: what it had read and not handed on would leave shared memory behind
    reading = grain.ReadOptions(
        num_threads=0 if workers else 1, prefetch_buffer_size=0 if workers else AHEAD
    )
    steps = grain.MapDataset.source(items)[first:].to_iter_dataset(reading)
    if workers:
        options = grain.multiprocessing.MultiprocessingOptions(workers, AHEAD)
        steps = steps.mp_prefetch(options, worker_init_fn=_start_worker)
    return iter(steps)


@contextlib.contextmanager
def shared() -> Iterator[Callable]:
    """np.zeros; in a worker that of an array in shared memory, which grain hands on uncopied.

    An array belongs to the one who gets it. After an error nobody does, and its memory is freed.
    """
    if not _worker.is_set():
        yield np.zeros
        return
    from grain.multiprocessing import SharedMemoryArray  # loaded, in a worker

    made = []

    def zeros(shape, dtype):
        made.append(SharedMemoryArray(shape, dtype))
        return made[-1]

    try:
        yield zeros
    except BaseException:
        for array in made:
            array.unlink_on_del()
        raise


def _start_worker(index, count):
    """In a worker: leave Ctrl-C to the parent, and end when the parent has ended."""
    import multiprocessing  # start-up cost: only workers need it
    from multiprocessing import connection

    del index, count
    _worker.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()
    assert parent  # a worker has one

    def watch():
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_reading: set = set()  # (event that ends it, thread) of every thread that reads ahead


def ahead(iterator: Iterator, depth: int = AHEAD) -> Iterator:
    """The elements of an iterator; a thread reads up to `depth` of them in advance.

    Its errors are raised where the element would have come. Closing ends the thread, and the
    iterator in it.
    """
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

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
