"""Sources made by code: the same images every time, with an answer that can be seen in them."""

import pickle

import numpy as np
import pytest

from experiments.data import records, sources
from experiments.data.decode import Decoding
from experiments.data.sources import fields_of
from experiments.errors import UserError


def read(source, split, count):
    return records.many(source.splits[split], range(count), Decoding(3), (40, 40, 3), 10)


@pytest.fixture(scope='module')
def bars():
    return sources.find(fields_of('synthetic:500x40x3'))


def test_the_label_of_a_synthetic_image_is_the_tenth_that_is_bright(bars):
    images, labels, faults = read(bars, 'train', 500)
    assert not faults
    rows = images.astype(float).mean((2, 3)).reshape(500, 10, 4).mean(2)
    assert (rows.argmax(1) == labels).all()
    assert np.bincount(labels, minlength=10).min() > 25


def test_synthetic_images_are_a_function_of_split_and_index(bars):
    again = pickle.loads(pickle.dumps(sources.find(fields_of('synthetic:500x40x3'))))
    for split in ('train', 'test'):
        one, two = read(bars, split, 100), read(again, split, 100)
        assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
        assert bars.splits[split].fingerprint == again.splits[split].fingerprint
    train, test = read(bars, 'train', 100)[0], read(bars, 'test', 100)[0]
    assert len({image.tobytes() for image in np.concatenate([train, test])}) == 200
    assert bars.splits['train'].fingerprint != bars.splits['test'].fingerprint


def test_a_synthetic_set_of_any_size_takes_no_room():
    source = sources.find(fields_of('synthetic:9000000x1000x3'))
    assert len(source.splits['train']) == 9_000_000
    assert source.splits['train'].fetch([8_999_999])[0][0].shape == (1000, 1000, 3)


@pytest.mark.parametrize('size', ['', '10', '10x10', '4x10x1', '10x9x1', '10x10x2', '10x10x1x1'])
def test_an_impossible_size_says_what_is_allowed(size):
    if not size:
        assert len(sources.find(fields_of('synthetic:')).splits['train']) == 1000
    else:
        with pytest.raises(UserError, match='synthetic takes COUNTxSIDExCHANNELS'):
            sources.find(fields_of(f'synthetic:{size}'))


def test_faults_are_distinguished_and_leave_zeros():
    images = np.full((4, 3, 3, 1), 9, np.uint8)
    part = records.Arrays(images, [0, 5, 1, -1], 'made up')
    got, labels, faults = records.many(part, [0, 1, 2, 3], Decoding(1), (3, 3, 1), 2)
    assert [place for place, _ in faults] == [1, 3]
    assert 'record 1 has label 5, outside 0..1' in str(faults[0][1])
    assert got[[0, 2]].min() == 9 and got[[1, 3]].max() == 0 and labels.tolist() == [0, 0, 1, 0]


def test_a_broken_record_keeps_its_index_across_processes():
    error = pickle.loads(pickle.dumps(records.Broken('record 3 does not decode', 3)))
    assert error.index == 3 and str(error) == 'record 3 does not decode'


def test_arrays_differ_in_their_fingerprint_when_they_differ_in_a_pixel():
    images = np.zeros((2, 3, 3, 1), np.uint8)
    one = records.Arrays(images, [0, 1]).fingerprint
    assert one == records.Arrays(images.copy(), [0, 1]).fingerprint
    assert one != records.Arrays(images, [1, 0]).fingerprint
    images[1, 2, 2, 0] = 1
    assert one != records.Arrays(images, [0, 1]).fingerprint


def test_digits_take_nothing_after_their_name():
    with pytest.raises(UserError, match="digits takes nothing after its name, .*'digits:5'"):
        sources.find(fields_of('digits:5'))
