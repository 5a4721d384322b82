"""Scans: all records in order, few bytes at a time."""

import numpy as np
import pytest
from shaky import Shaky

from experiments.data import scan
from experiments.data.decode import Decoding

GREY = Decoding(1)


@pytest.mark.parametrize(
    'shape, step', [((28, 28, 1), scan.CHUNK), ((1500, 1500, 3), 9), ((9000, 9000, 3), 1)]
)
def test_images_read_at_a_time_are_bounded_in_bytes(shape, step):
    assert scan.step_of(shape) == step
    chunks = scan.Chunks(Shaky({}), np.arange(300), GREY, shape, 1)
    assert len(chunks) == -(-300 // step)
    assert step == 1 or step * np.prod(shape) <= 64 * 2**20


def test_chunks_are_all_records_in_order():
    chunks = scan.Chunks(Shaky({}), np.arange(300)[::-1], GREY, (4, 4, 1), 1)
    read = np.concatenate([chunks[index]['image'] for index in range(len(chunks))])
    assert read[:, 0, 0, 0].tolist() == [index % 250 for index in range(300)][::-1]
