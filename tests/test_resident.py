"""Images that stay in the memory of the devices: the same batches, where there is room."""

import jax
import numpy as np

from experiments import data
from experiments.data import resident
from experiments.data.sources import fields_of


def load():
    return data.load(fields_of('synthetic:70x12x3', cache='off'))


def numpy(batches):
    return [{name: np.array(array) for name, array in batch.items()} for batch in batches]


def equal(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two):
        assert a.keys() == b.keys() == {'image', 'label', 'mask'}
        for name in a:
            assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
            assert a[name].tobytes() == b[name].tobytes(), name


def test_images_on_the_devices_are_gathered_into_the_same_batches(monkeypatch):
    dataset, devices = load(), jax.local_devices()[:2]
    train, test = (
        numpy(batches)
        for batches in (
            data.train_batches(dataset.train, 8, 2, 5, 1),
            data.eval_batches(dataset.test, 8, 2),
        )
    )
    monkeypatch.setattr(resident, 'accelerators', lambda count: devices)
    monkeypatch.setattr(resident, '_free', lambda device: 1e9)
    batches = list(data.train_batches(dataset.train, 8, 2, 5, 1))
    assert all(isinstance(array, jax.Array) for array in batches[0].values())
    assert [shard.device for shard in batches[0]['image'].addressable_shards] == devices
    equal(numpy(batches), train)
    equal(numpy(data.eval_batches(dataset.test, 8, 2)), test)
    doubled = jax.pmap(lambda batch: batch['image'] * 2, devices=devices)(batches[0])
    assert (np.asarray(doubled) == train[0]['image'] * 2).all()


def test_images_that_the_devices_lack_room_for_stay_on_the_host(monkeypatch):
    dataset, devices = load(), jax.local_devices()[:2]
    train = numpy(data.train_batches(dataset.train, 8, 2, 5, 1))
    monkeypatch.setattr(resident, 'accelerators', lambda count: devices)
    monkeypatch.setattr(resident, '_free', lambda device: dataset.train.images.nbytes)
    monkeypatch.setattr(resident, 'gather', None)
    batches = list(data.train_batches(dataset.train, 8, 2, 5, 1))
    assert [shard.device for shard in batches[0]['image'].addressable_shards] == devices
    equal(numpy(batches), train)


def test_images_on_the_devices_are_let_go_with_the_data_set(monkeypatch):
    dataset = load()
    monkeypatch.setattr(resident, 'accelerators', lambda count: jax.local_devices()[:1])
    monkeypatch.setattr(resident, '_free', lambda device: 1e9)
    before = len(resident._residents)
    list(data.train_batches(dataset.train, 8, 1, 5, 1))
    assert len(resident._residents) == before + 1
    del dataset
    assert len(resident._residents) == before
