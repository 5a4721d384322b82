"""Brightness, contrast and colour: Pillow's own but for rounding, in the order asked for."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from experiments.preprocess import photometric

IMAGE = np.random.default_rng(0).integers(0, 256, (11, 9, 3), np.uint8)
PILLOW = {
    'brightness': ImageEnhance.Brightness,
    'contrast': ImageEnhance.Contrast,
    'colour': ImageEnhance.Color,
}


@pytest.mark.parametrize('factor', [0.5, 0.9, 1.0, 1.5])
@pytest.mark.parametrize('name', photometric.NAMES)
def test_each_is_pillows(name, factor):
    got = np.clip(getattr(photometric, name)(IMAGE.astype(np.float32), factor), 0, 255)
    wanted = np.asarray(PILLOW[name](Image.fromarray(IMAGE)).enhance(factor), np.float32)
    assert np.abs(got - wanted).max() < 1.6  # Pillow rounds the grey, its mean and the result


def loop(image, factors, order):
    image = image.astype(np.float64)
    for which in photometric.ORDERS[order]:
        grey = np.empty(image.shape[:2])
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                pixel = image[y, x]
                grey[y, x] = pixel @ [0.299, 0.587, 0.114] if len(pixel) == 3 else pixel[0]
        base = [0, grey.mean(), grey[..., None]][which]
        image = np.clip(base + factors[which] * (image - base), 0, 255)
    return image


@pytest.mark.parametrize('channels', [1, 3])
def test_all_three_in_every_order_equal_a_plain_loop(channels):
    image, factors = IMAGE[..., :channels], np.float32([1.4, 0.6, 1.5])
    step = jax.jit(photometric.distort)
    made = [np.asarray(step(image.astype(np.float32), factors, order)) for order in range(6)]
    for order, got in enumerate(made):
        np.testing.assert_allclose(got, loop(image, factors, order), atol=1e-2)
    if channels == 3:
        assert len({got.tobytes() for got in made}) == 6


def test_factors_of_one_change_nothing():
    distort = functools.partial(photometric.distort, IMAGE.astype(np.float32))
    np.testing.assert_allclose(distort(np.ones(3, np.float32), 3), IMAGE, atol=1e-3)
