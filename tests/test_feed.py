"""Feeding: one order for both ways, any number of workers and processes; and it ends when asked."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import base
from experiments import data
from experiments.data import feed
from experiments.data.decode import Decoding
from experiments.errors import UserError

WAYS = [('never', 0), ('always', 0), ('always', 1), ('always', 2)]


@pytest.fixture(autouse=True)
def close(monkeypatch):
    monkeypatch.setattr(feed, 'SHORT', 0)
    yield
    feed.close()


def load(stream='never', workers=0, name='synthetic:70x12x3', **changes):
    fields = base.get_config().data
    changes |= dict(name=name, stream=stream, workers=workers, cache='off')
    for key, value in changes.items():
        fields[key] = value
    return data.load(fields)


def numpy(batches):
    return [{name: np.array(array) for name, array in batch.items()} for batch in batches]


def equal(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two):
        assert a.keys() == b.keys() == {'image', 'label', 'mask'}
        for name in a:
            assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
            assert a[name].tobytes() == b[name].tobytes(), name


def by_hand(dataset, batch, devices, seed, epoch):
    """The batches of an epoch as a plain loop over the images in memory."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(len(dataset.train.labels))
    for start in range(0, len(shuffled) - batch + 1, batch):
        rows = shuffled[start : start + batch]
        yield {
            'image': np.stack([dataset.train.images[row] for row in rows]).reshape(
                devices, batch // devices, 12, 12, 3
            ),
            'label': dataset.train.labels[rows].reshape(devices, -1),
            'mask': np.ones((devices, batch // devices), np.float32),
        }


@pytest.mark.parametrize('stream, workers', WAYS)
def test_every_way_to_feed_gives_the_same_batches(stream, workers):
    plain, dataset = load(), load(stream, workers)
    for epoch in (1, 2):  # the second goes on with the same workers
        equal(
            numpy(data.train_batches(dataset.train, 8, 2, 5, epoch)),
            list(by_hand(plain, 8, 2, 5, epoch)),
        )
    for _ in range(2):
        equal(
            numpy(data.eval_batches(dataset.test, 4, 2)), numpy(data.eval_batches(plain.test, 4, 2))
        )


@pytest.mark.parametrize('stream, workers', WAYS[:2] + WAYS[3:])
def test_a_restart_inside_an_epoch_goes_on_with_the_same_batches(stream, workers):
    dataset = load(stream, workers)
    whole = numpy(data.train_batches(load().train, 8, 1, 3, 4))
    stopped = data.train_batches(dataset.train, 8, 1, 3, 4)
    equal(numpy(itertools.islice(stopped, 3)), whole[:3])
    stopped.close()
    feed.close()
    equal(numpy(data.train_batches(dataset.train, 8, 1, 3, 4, start=3)), whole[3:])


def test_few_images_are_evaluated_without_starting_workers(monkeypatch):
    monkeypatch.setattr(feed, 'SHORT', 64)
    started, plain = [], feed._grain
    monkeypatch.setattr(
        feed,
        '_grain',
        lambda source, workers, first: (started.append(workers), plain(source, 0, first))[1],
    )
    part = load('always', 2).test
    one = numpy(data.eval_batches(part, 4, 1))
    feed.close()
    monkeypatch.setattr(feed, 'SHORT', 14)
    equal(numpy(data.eval_batches(part, 4, 1)), one)
    assert len(part.labels) == 14 and started == [0, 2]


def test_what_was_read_before_the_start_is_not_read_again(monkeypatch):
    dataset, read = load('always'), []
    plain = feed.read_step
    monkeypatch.setattr(
        feed,
        'read_step',
        lambda part, plan, index: (read.append(index), plain(part, plan, index))[1],
    )
    list(data.train_batches(dataset.train, 8, 1, 0, 1, start=5))
    assert min(read) == 1 * (63 // 8) + 5


@pytest.mark.parametrize(
    'stream, workers, count', [('never', 0, 2), ('never', 0, 4), ('always', 0, 4), ('always', 1, 2)]
)
def test_processes_read_their_own_part_and_together_the_whole_batch(stream, workers, count):
    dataset, whole = load(stream, workers), load()
    for name, batches in (
        ('train', lambda d, n, **k: data.train_batches(d.train, 8, n, 1, 2, **k)),
        ('test', lambda d, n, **k: data.eval_batches(d.test, 8, n, **k)),
    ):
        one = numpy(batches(whole, count))
        parts = [
            numpy(batches(dataset, 1, process_index=index, process_count=count))
            for index in range(count)
        ]
        together = [
            {key: np.concatenate([part[key] for part in step]) for key in step[0]}
            for step in zip(*parts)
        ]
        equal(together, one)
    assert sum(batch['mask'].sum() for part in parts for batch in part) == 14


def test_a_process_decodes_no_image_of_another(monkeypatch):
    dataset, fetched = load('always'), []
    fetch = type(dataset.train.records).fetch
    monkeypatch.setattr(
        type(dataset.train.records),
        'fetch',
        lambda self, rows: (fetched.extend(rows), fetch(self, rows))[1],
    )
    list(data.train_batches(dataset.train, 8, 1, 0, 1, process_index=1, process_count=2))
    own = {row for step in range(7) for row in data.order(63, 0, 1)[8 * step + 4 : 8 * step + 8]}
    others = {row for step in range(7) for row in data.order(63, 0, 1)[8 * step : 8 * step + 4]}
    assert own <= set(fetched) and not others & set(fetched[:28])


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(process_count=3), 'batch of 8 images does not divide over 3 processes'),
        (dict(process_index=2, process_count=2), 'process 2 of 2'),
        (dict(batch=64), '63 images, fewer than one batch of 64'),
        (dict(devices=3), 'does not divide over 3 devices'),
    ],
)
@pytest.mark.parametrize('stream', ['never', 'always'])
def test_what_does_not_divide_is_an_error_with_the_numbers(stream, changes, message):
    given = dict(batch=8, devices=1, seed=0, epoch=1) | changes
    with pytest.raises(UserError, match=message):
        next(data.train_batches(load(stream).train, **given))


def test_images_on_the_devices_are_gathered_into_the_same_batches(monkeypatch):
    dataset, devices = load(), jax.local_devices()[:2]
    train, test = (
        numpy(batches)
        for batches in (
            data.train_batches(dataset.train, 8, 2, 5, 1),
            data.eval_batches(dataset.test, 8, 2),
        )
    )
    monkeypatch.setattr(feed, 'accelerators', lambda count: devices)
    monkeypatch.setattr(feed, '_free', lambda device: 1e9)
    resident = list(data.train_batches(dataset.train, 8, 2, 5, 1))
    assert all(isinstance(array, jax.Array) for array in resident[0].values())
    assert [shard.device for shard in resident[0]['image'].addressable_shards] == devices
    equal(numpy(resident), train)
    equal(numpy(data.eval_batches(dataset.test, 8, 2)), test)
    doubled = jax.pmap(lambda batch: batch['image'] * 2, devices=devices)(resident[0])
    assert (np.asarray(doubled) == train[0]['image'] * 2).all()


def test_images_that_the_devices_lack_room_for_stay_on_the_host(monkeypatch):
    dataset, devices = load(), jax.local_devices()[:2]
    train = numpy(data.train_batches(dataset.train, 8, 2, 5, 1))
    monkeypatch.setattr(feed, 'accelerators', lambda count: devices)
    monkeypatch.setattr(feed, '_free', lambda device: dataset.train.images.nbytes)
    monkeypatch.setattr(feed, '_on_device', None)
    batches = list(data.train_batches(dataset.train, 8, 2, 5, 1))
    assert [shard.device for shard in batches[0]['image'].addressable_shards] == devices
    equal(numpy(batches), train)


def test_images_on_the_devices_are_let_go_with_the_data_set(monkeypatch):
    dataset = load()
    monkeypatch.setattr(feed, 'accelerators', lambda count: jax.local_devices()[:1])
    monkeypatch.setattr(feed, '_free', lambda device: 1e9)
    before = len(feed._residents)
    list(data.train_batches(dataset.train, 8, 1, 5, 1))
    assert len(feed._residents) == before + 1
    del dataset
    assert len(feed._residents) == before


class Failing(data.Arrays):
    def fetch(self, rows):
        if 7 in rows:
            raise OSError('no such disk')
        return super().fetch(rows)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_error_while_streaming_names_the_record(workers):
    images = np.zeros((20, 4, 4, 1), np.uint8)
    records = Failing(images, np.arange(20) % 10, 'made up')
    part = data.Streamed(records, np.arange(20), Decoding(1), (4, 4, 1), 10, workers)
    with pytest.raises(
        UserError, match='record 7 does not decode .OSError: no such disk.*experiments.data check'
    ):
        list(data.eval_batches(part, 5, 1))


def test_a_worker_that_is_killed_is_an_error_that_says_so():
    import psutil  # comes with grain

    batches = data.train_batches(load('always', 1, 'synthetic:4000x12x3').train, 8, 1, 0, 1)
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


@pytest.mark.parametrize('workers', [1, 2])
def test_ctrl_c_never_reaches_a_worker_not_even_while_it_starts(workers):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for found in feed.stream(Signals(), workers, 0, 4):
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


def test_the_next_elements_are_ready_before_they_are_asked_for():
    made = []
    batches = feed.ahead((made.append(index) or index for index in range(100)), depth=2)
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

    batches = feed.ahead(numbers())
    next(batches)
    batches.close()
    assert ended == [True]


def test_an_error_comes_where_the_element_would_have():
    def numbers():
        yield 1
        raise KeyError('two')

    batches = feed.ahead(numbers())
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run by `&` has it ignored
    part = data.Streamed(Bars(1000, 16, 1, 0), np.arange(1000), Decoding(1), (16, 16, 1), 10, 1)
    try:
        for step, batch in enumerate(data.train_batches(part, 10, 1, 0, 1)):
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
