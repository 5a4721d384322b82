"""Batches: one order for both ways, for any number of workers and processes."""

import itertools

import numpy as np
import pytest

from experiments import data
from experiments.data import batches as feeding
from experiments.data import readahead
from experiments.data.sources import fields_of
from experiments.errors import UserError

WAYS = [('never', 0), ('always', 0), ('always', 2)]


@pytest.fixture(autouse=True)
def close(monkeypatch):
    monkeypatch.setattr(readahead, 'FEW', 0)
    yield
    readahead.close()


def counted(count, side=2):
    return data.InMemory(
        np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
        * np.ones((1, side, side, 1), np.uint8),
        np.arange(count, dtype=np.int32),
    )


def load(stream='never', workers=0, name='synthetic:70x12x3', **changes):
    return data.load(fields_of(name, stream=stream, workers=workers, cache='off', **changes))


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


def test_batches_follow_the_order_and_keep_image_and_label_together():
    batches = list(data.train_batches(counted(10), batch=4, devices=2, seed=0, epoch=1))
    assert [batch['image'].shape for batch in batches] == [(2, 2, 2, 2, 1)] * 2
    seen = np.concatenate([batch['label'].ravel() for batch in batches])
    assert (seen == data.order(10, 0, 1)[:8]).all()
    for batch in batches:
        assert (batch['image'][..., 0, 0, 0] == batch['label']).all()


def test_fewer_images_than_a_batch_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match='3 images, fewer than one batch of 4'):
        next(data.train_batches(counted(3), 4, 1, 0, 1))


@pytest.mark.parametrize(
    'count, batch, devices', [(10, 4, 1), (10, 4, 4), (10, 3, 2), (8, 4, 2), (1, 8, 4)]
)
def test_evaluation_batches_hold_every_image_once_in_order(count, batch, devices):
    batches = list(data.eval_batches(counted(count), batch, devices))
    labels = np.concatenate([b['label'].ravel()[b['mask'].ravel() > 0] for b in batches])
    assert (labels == np.arange(count)).all()
    assert len({b['image'].shape for b in batches}) == 1  # one shape: one compilation


@pytest.mark.parametrize('stream, workers', WAYS)
def test_every_way_to_feed_gives_the_same_batches(stream, workers):
    plain, dataset = load(), load(stream, workers)
    for epoch in (1, 2):  # the second continues with the same workers
        equal(
            numpy(data.train_batches(dataset.train, 8, 2, 5, epoch)),
            list(by_hand(plain, 8, 2, 5, epoch)),
        )
    for _ in range(2):
        equal(
            numpy(data.eval_batches(dataset.test, 4, 2)), numpy(data.eval_batches(plain.test, 4, 2))
        )


@pytest.mark.parametrize('stream, workers', WAYS)
def test_a_restart_inside_an_epoch_continues_with_the_same_batches(stream, workers):
    dataset = load(stream, workers)
    whole = numpy(data.train_batches(load().train, 8, 1, 3, 4))
    stopped = data.train_batches(dataset.train, 8, 1, 3, 4)
    equal(numpy(itertools.islice(stopped, 3)), whole[:3])
    stopped.close()
    readahead.close()
    equal(numpy(data.train_batches(dataset.train, 8, 1, 3, 4, start=3)), whole[3:])


def test_few_images_are_evaluated_without_starting_workers(monkeypatch):
    monkeypatch.setattr(readahead, 'FEW', 64)
    started, plain = [], readahead._grain
    monkeypatch.setattr(
        readahead,
        '_grain',
        lambda items, workers, first: (started.append(workers), plain(items, 0, first))[1],
    )
    split = load('always', 2).test
    one = numpy(data.eval_batches(split, 4, 1))
    readahead.close()
    monkeypatch.setattr(readahead, 'FEW', 14)
    equal(numpy(data.eval_batches(split, 4, 1)), one)
    assert len(split.labels) == 14 and started == [0, 2]


def test_what_was_read_before_the_start_is_not_read_again(monkeypatch):
    dataset, read = load('always'), []
    plain = feeding.read_step
    monkeypatch.setattr(
        feeding,
        'read_step',
        lambda split, plan, index, *crop: (read.append(index), plain(split, plan, index, *crop))[1],
    )
    list(data.train_batches(dataset.train, 8, 1, 0, 1, start=5))
    assert min(read) == 1 * (63 // 8) + 5


@pytest.mark.parametrize(
    'stream, workers, count',
    [
        ('never', 0, 2),
        ('never', 0, 4),
        ('always', 0, 4),
        # four pools of workers: what they read is in test_every_way_..., of which part above
        pytest.param('always', 1, 2, marks=pytest.mark.long),
    ],
)
def test_processes_read_their_own_examples_and_all_of_them_the_whole_batch(stream, workers, count):
    dataset, whole = load(stream, workers), load()
    for batches in (
        lambda d, n, **k: data.train_batches(d.train, 8, n, 1, 2, **k),
        lambda d, n, **k: data.eval_batches(d.test, 8, n, **k),
    ):
        one = numpy(batches(whole, count))
        own = [
            numpy(batches(dataset, 1, process_index=index, process_count=count))
            for index in range(count)
        ]
        whole_batches = [
            {key: np.concatenate([batch[key] for batch in step]) for key in step[0]}
            for step in zip(*own)
        ]
        equal(whole_batches, one)
    assert sum(batch['mask'].sum() for batches in own for batch in batches) == 14


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
