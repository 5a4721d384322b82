"""Reading ahead: in worker processes and in a thread, which end when they should."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from grain.multiprocessing import SharedMemoryArray

from experiments import data
from experiments.data import readahead
from experiments.data.sources import fields_of
from experiments.errors import UserError


@pytest.fixture(autouse=True)
def close(monkeypatch):
    monkeypatch.setattr(readahead, 'FEW', 0)
    yield
    readahead.close()


def load(stream='never', workers=0, name='synthetic:70x12x3', **changes):
    return data.load(fields_of(name, stream=stream, workers=workers, cache='off', **changes))


def test_a_worker_that_is_killed_is_an_error_that_says_so():
    import psutil  # comes with grain

    batches = data.train_batches(load('always', 1, 'synthetic:1000x12x3').train, 8, 1, 0, 1)
    next(batches)
    for child in psutil.Process().children(recursive=True):
        if 'spawn_main' in ' '.join(child.cmdline()):
            child.kill()
    with pytest.raises(UserError, match='was ended from outside.*Lower data.workers'):
        for _ in batches:
            pass


# --- the thread that reads ahead ---------------------------------------------------------------


class Signals:
    """What the process that reads it does with signals."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return {
            'blocked': np.array([signal.SIGINT in blocked, signal.SIGTERM in blocked]),
            'ignored': np.array(signal.getsignal(signal.SIGINT) == signal.SIG_IGN),
        }


def test_ctrl_c_never_reaches_a_worker_not_even_while_it_starts():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for found in readahead.stream(Signals(), 2, 0, 4):
        assert found['blocked'].tolist() == [True, False] and found['ignored']
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_workers_end_without_a_word_about_shared_memory(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text("""
from configs import base
from experiments import data

def main():
    fields = base.get_config().data
    fields.name, fields.stream, fields.workers = 'synthetic:5000x28x1', 'always', 1
    for batch, _ in zip(data.train_batches(data.load(fields).train, 64, 1, 0, 0), range(5)):
        pass

if __name__ == '__main__':
    main()
""")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': str(pathlib.Path(data.__file__).parents[2])},
    )
    assert done.returncode == 0 and 'shared_memory' not in done.stderr, done.stderr


@pytest.mark.parametrize('fails', [False, True])
def test_a_batch_of_a_worker_is_shared_and_is_freed_only_where_it_fails(monkeypatch, fails):
    monkeypatch.setattr(SharedMemoryArray, '_del_thread_pool', None)  # free it at once
    readahead._worker.set()
    names = []

    def make():
        with readahead.shared() as zeros:
            array = zeros((2, 3), np.uint8)
            assert array.tolist() == [[0, 0, 0], [0, 0, 0]]
            names.append(array.metadata.name)
            if fails:
                raise ZeroDivisionError

    try:
        make()
    except ZeroDivisionError:
        pass
    finally:
        readahead._worker.clear()
    if fails:
        with pytest.raises(FileNotFoundError):
            SharedMemory(names[0])
    else:  # the one who gets its name frees it
        memory = SharedMemory(names[0])
        memory.close()
        memory.unlink()


def test_outside_of_workers_memory_is_not_shared():
    with readahead.shared() as zeros:
        assert type(zeros((2,), np.uint8)) is np.ndarray


def test_the_next_elements_are_ready_before_they_are_asked_for():
    made = []
    batches = readahead.ahead((made.append(index) or index for index in range(100)), depth=2)
    assert next(batches) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:  # given, two ready, one in hand
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    assert list(batches) == list(range(1, 100))


def test_closing_ends_the_thread_and_the_iterator_in_it():
    ended = []

    def numbers():
        try:
            yield from itertools.count()
        finally:
            ended.append(True)

    batches = readahead.ahead(numbers())
    next(batches)
    batches.close()
    assert ended == [True]


def test_an_error_comes_where_the_element_would_have():
    def numbers():
        yield 1
        raise KeyError('two')

    batches = readahead.ahead(numbers())
    assert next(batches) == 1
    with pytest.raises(KeyError, match='two'):
        next(batches)


SCRIPT = """
import signal, sys, time
import numpy as np
from experiments import data
from experiments.data.decode import Decoding
from experiments.data.sources import Bars

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run with `&` ignores it
    split = data.Streamed(Bars(1000, 16, 1, 0), np.arange(1000), Decoding(1), (16, 16, 1), 10, 1)
    try:
        for step, batch in enumerate(data.train_batches(split, 10, 1, 0, 1)):
            if step == 1:
                print('running', flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        print('interrupted', flush=True)
"""


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interrupted_or_killed_training(stop, tmp_path):
    import psutil  # comes with grain

    (tmp_path / 'script.py').write_text(SCRIPT)
    root = pathlib.Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, tmp_path / 'script.py'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {'PYTHONPATH': str(root)},
    )
    assert process.stdout.readline() == 'running\n'
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 1
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal sends it: to the workers too
    else:
        process.kill()
    out, err = process.communicate(timeout=60)
    if stop == signal.SIGINT:
        assert out == 'interrupted\n' and err == ''
    assert not psutil.wait_procs(children, timeout=20)[1]
