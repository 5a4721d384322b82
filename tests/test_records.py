"""Records: broken ones differ from those that cannot be read now, and memory stays bounded."""

import errno

import numpy as np
import pytest
from shaky import Shaky

from experiments.data import records as reading
from experiments.data.decode import Decoding
from experiments.errors import UserError

GREY = Decoding(1)


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.EMFILE, 'Too many open files'),
        OSError(errno.EIO, 'Input/output error'),
        PermissionError(errno.EACCES, 'Permission denied'),
        MemoryError(),
    ],
)
def test_what_cannot_be_read_now_is_not_taken_for_broken(error):
    with pytest.raises(UserError, match='record 7 cannot be read.*never left out') as caught:
        reading.one(Shaky({7: error}), 7, GREY)
    assert not isinstance(caught.value, reading.Broken)


@pytest.mark.parametrize(
    'error', [OSError('image file is truncated'), ValueError('no'), KeyError()]
)
def test_what_does_not_decode_is_broken(error):
    with pytest.raises(reading.Broken, match='record 7 does not decode') as caught:
        reading.one(Shaky({7: error}), 7, GREY)
    assert caught.value.index == 7


def test_one_broken_record_leaves_the_others():
    images, labels, faults = reading.many(
        Shaky({7: ValueError('no')}), range(5, 10), GREY, (4, 4, 1), 1
    )
    assert [place for place, _ in faults] == [2]
    assert images[:, 0, 0, 0].tolist() == [5, 6, 0, 8, 9]


def test_a_file_of_which_nothing_can_be_read_is_one_error():
    records = Shaky({7: UserError('the shard is damaged')})
    with pytest.raises(UserError, match='the shard is damaged'):
        reading.many(records, range(300), GREY, (4, 4, 1), 1)
    assert records.asked == [32]


@pytest.mark.parametrize(
    'images, labels, message',
    [
        (np.zeros((3, 2, 2, 1)), [0, 1, 2], r'are float64 \[3, 2, 2, 1\], they must be uint8'),
        (np.zeros((3, 2, 2), np.uint8), [0, 1, 2], r'are uint8 \[3, 2, 2\], they must be'),
        (np.zeros((3, 2, 2, 4), np.uint8), [0, 1, 2], 'they must be uint8'),
        (
            np.zeros((3, 2, 2, 1), np.uint8),
            [0, 1],
            r'labels of 3 images.*\[2\].*whole numbers \[3\]',
        ),
        (np.zeros((3, 2, 2, 1), np.uint8), [0.5, 1, 2], 'float64'),
        (np.zeros((3, 2, 2, 1), np.uint8), [0, 1, 2**40], 'outside 32 bits'),
    ],
)
def test_arrays_of_another_kind_are_refused(images, labels, message):
    with pytest.raises(UserError, match=message):
        reading.Arrays(images, np.asarray(labels))


def test_a_source_that_gives_fractions_is_named():
    class Fractions(Shaky):
        def fetch(self, indices):
            return [(np.full((4, 4, 1), 0.5), 0) for _ in indices]

    with pytest.raises(UserError, match=r'record 0 is an array of float64 \[4, 4, 1\]'):
        reading.one(Fractions({}), 0, GREY)
