"""Four interpolations: Pillow's own, of any box, and none leaves a pixel without a source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.preprocess import resample

IMAGE = np.random.default_rng(0).uniform(0, 255, (13, 17, 1)).astype(np.float32)
PILLOW = {'bilinear': 'BILINEAR', 'area': 'BOX', 'nearest': 'NEAREST', 'cubic': 'BICUBIC'}
BOXES = {
    'smaller': (2.3, 1.7, 10.1, 13.4),
    'larger': (4.25, 5.1, 3.4, 4.7),
    'whole': (0, 0, 13, 17),
    'both': (0, 3, 12.6, 5),
    'edge': (10, 12, 3, 5),
}
resize = jax.jit(resample.resize_box, static_argnums=2)


@pytest.mark.parametrize('name', resample.WAYS)
@pytest.mark.parametrize('box', BOXES)
def test_each_way_is_pillows(name, box):
    top, left, height, width = BOXES[box]
    got = resize(IMAGE, jnp.float32(BOXES[box]), (5, 7), resample.WAYS.index(name))
    wanted = Image.fromarray(IMAGE[..., 0]).resize(
        (7, 5), Image.Resampling[PILLOW[name]], box=(left, top, left + width, top + height)
    )
    assert got.shape == (5, 7, 1) and got.dtype == np.float32
    np.testing.assert_allclose(got[..., 0], np.asarray(wanted), atol=2e-3)


def test_the_ways_differ_and_may_differ_within_a_batch():
    images = np.repeat(IMAGE[None], 4, 0)
    box = jnp.float32(BOXES['smaller'])
    got = jax.jit(jax.vmap(lambda image, way: resample.resize_box(image, box, (5, 7), way)))(
        images, jnp.arange(4)
    )
    for way in range(4):
        np.testing.assert_allclose(got[way], resize(IMAGE, box, (5, 7), way), atol=1e-3)
        for other in range(way):
            assert np.abs(got[way] - got[other]).max() > 5


@pytest.mark.parametrize('way', range(4))
def test_rows_of_weights_sum_to_one_wherever_the_box_lies(way):
    function = jax.jit(jax.vmap(lambda start, length: resample.weights(start, length, 9, 32, way)))
    random = np.random.default_rng(1)
    length = np.concatenate([random.uniform(1, 32, 300), np.arange(1, 33)]).astype(np.float32)
    start = (random.uniform(0, 1, len(length)) * (32 - length)).astype(np.float32)
    start[300:] = np.floor(start[300:])  # centres on the pixels' edges
    np.testing.assert_allclose(function(start, length).sum(-1), 1, atol=1e-5)
