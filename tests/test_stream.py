"""A streamed split: its errors name the record."""

import numpy as np
import pytest

from experiments import data
from experiments.data import readahead
from experiments.data.decode import Decoding
from experiments.errors import UserError


@pytest.fixture(autouse=True)
def close(monkeypatch):
    monkeypatch.setattr(readahead, 'FEW', 0)
    yield
    readahead.close()


class Failing(data.Arrays):
    def fetch(self, rows):
        if 7 in rows:
            raise OSError('no such disk')
        return super().fetch(rows)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_error_while_streaming_names_the_record(workers):
    images = np.zeros((20, 4, 4, 1), np.uint8)
    records = Failing(images, np.arange(20) % 10, 'made up')
    split = data.Streamed(records, np.arange(20), Decoding(1), (4, 4, 1), 10, workers)
    with pytest.raises(
        UserError, match='record 7 does not decode .OSError: no such disk.*experiments.data check'
    ):
        list(data.eval_batches(split, 5, 1))
