"""One bit for each image: what is packed comes back."""

import numpy as np
import pytest

from experiments import bits


@pytest.mark.parametrize('count', [0, 1, 7, 8, 9, 10_000])
def test_what_is_packed_comes_back(count):
    flags = np.random.default_rng(count).random(count) < 0.3
    np.testing.assert_array_equal(bits.unpack(bits.pack(flags), count), flags)


def test_the_first_image_is_the_highest_bit():
    assert bits.pack(np.array([True] + [False] * 6 + [True])) == 'gQ=='  # 0x81


def test_ten_thousand_images_take_1668_characters():
    assert len(bits.pack(np.ones(10_000, bool))) == 1668


@pytest.mark.parametrize('text', ['gQ==', '', 'no base64!'])
def test_bits_of_another_number_of_images_are_refused(text):
    with pytest.raises(ValueError):
        bits.unpack(text, 9)
