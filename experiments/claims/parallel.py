"""Claims on all cores: most of their time goes into compiling small programs, one at a time."""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from experiments import environment
from experiments.errors import UserError

_MOST = 8  # processes: each takes half a gigabyte
_prepared = False


def prepare() -> None:
    """Sets up a process that judges claims once and does nothing else, before JAX has threads.

    JAX runs on the CPU: two processes cannot share a TPU, and each would reserve most of a GPU's
    memory. What is computed is small: to optimise it takes longer than to run it.
    """
    global _prepared
    _prepared = True
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_disable_most_optimizations', True)


def each(function: Callable[[Any], Any], values: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """(place, function(value)) of each value as it is ready.

    In a process that is prepared, on Linux, up to 8 cores work on them, the last values first:
    claims of ResNet take longest. Elsewhere this process computes one after another: once JAX has
    threads it cannot be forked, nor can any process of macOS be, and one that imports all anew
    takes as long as it saves.

    Raises what the function raises, and UserError where a process is killed.
    """
    global _prepared
    ready, _prepared = _prepared and sys.platform == 'linux', False
    processes = min(len(values), environment.cores() or 1, _MOST)
    if processes < 2 or not ready:
        yield from enumerate(map(function, values))
        return
    fork = multiprocessing.get_context('fork')
    with concurrent.futures.ProcessPoolExecutor(processes, fork, _begin, (os.getpid(),)) as pool:
        asked = {pool.submit(function, values[place]): place for place in range(len(values))[::-1]}
        try:
            for done in concurrent.futures.as_completed(asked):
                yield asked[done], done.result()
        except concurrent.futures.BrokenExecutor as error:
            raise UserError(
                'a process that judged claims was killed, maybe for lack of memory. Ask for one '
                'claim at a time, or allow fewer cores: taskset -c 0 python -m experiments.claims.'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the others do not begin


def _begin(parent: int) -> None:
    """Sets up a worker: when interrupted it ends without a word, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
