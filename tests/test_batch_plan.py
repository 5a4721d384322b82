"""Which examples a step gets: a function of seed and epoch."""

import numpy as np
import pytest

from experiments import data
from experiments.errors import UserError


def test_the_order_is_a_function_of_seed_and_epoch():
    assert (data.order(50, 3, 2) == data.order(50, 3, 2)).all()
    assert sorted(data.order(50, 3, 2)) == list(range(50))
    assert not (data.order(50, 3, 2) == data.order(50, 3, 1)).all()
    assert not (data.order(50, 3, 2) == data.order(50, 2, 2)).all()
    assert not (data.order(50, 1, 2) == data.order(50, 2, 1)).all()


def test_a_batch_that_does_not_divide_is_an_error_with_the_numbers():
    with pytest.raises(
        UserError, match='batch of 10 images does not divide over 4 devices: 10 = 4 x 2 [+] 2'
    ):
        data.shard(np.zeros(10), 4)
