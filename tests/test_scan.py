"""Scans: all records in order, few bytes at a time."""

import numpy as np
import pytest

from experiments.data import records as reading
from experiments.data import scan
from experiments.data.decode import Decoding

GREY = Decoding(1)


class Shaky(reading.Records):
    """Grey images; some raise when they are read."""

    name, size, fingerprint = 'shaky', (4, 4, 1), 'made up'

    def __init__(self, faults):
        self.faults, self.asked = faults, []

    def __len__(self):
        return 300

    def fetch(self, indices):
        self.asked.append(len(indices))
        for index in indices:
            if index in self.faults:
                raise self.faults[index]
        return [(np.full((4, 4, 1), index % 250, np.uint8), 0) for index in indices]


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
