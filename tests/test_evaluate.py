"""Evaluation counts every image exactly once, whatever the batch and device count."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import data, evaluate, train


class Linear:
    """Stands in for a net: logits from the mean grey level, no flax in the way."""

    def apply(self, variables, x, *, train):
        assert train is False
        mean = x.mean((1, 2, 3))[:, None]
        return variables['w'] * mean + jnp.arange(3.0) * mean**2


@pytest.mark.parametrize('batch, devices', [(1, 1), (4, 1), (7, 1), (100, 1), (4, 2), (5, 4), (64, 4)])
def test_sums_equal_a_plain_loop_over_the_images(batch, devices):
    rng = np.random.default_rng(0)
    split = data.Split(rng.integers(0, 256, (23, 4, 4, 1), dtype=np.uint8),
                       rng.integers(0, 3, 23).astype(np.int32))
    weights = np.array([0.3, -0.2, 0.1], np.float32)
    step = train.parallel(functools.partial(
        evaluate.eval_step, net=Linear(), loss=optax.softmax_cross_entropy_with_integer_labels,
        mean=np.float32([0.4]), std=np.float32([0.2])), devices, donate=False)
    got = evaluate.evaluate(step, {'w': weights}, data.eval_batches(split, batch, devices), 23)

    losses, wrong = [], 0
    for image, label in zip(*split):
        mean = ((image / 255 - 0.4) / 0.2).mean()
        logits = weights * mean + np.arange(3) * mean**2
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        wrong += int(logits.argmax() != label)
    assert got['count'] == 23
    assert got['error'] == pytest.approx(wrong / 23, abs=1e-7)
    assert got['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_filling_that_gives_an_infinite_loss_does_not_count():
    split = data.Split(np.full((3, 1, 1, 1), 255, np.uint8), np.zeros(3, np.int32))

    def loss(logits, labels):
        return jnp.where(logits[:, 2] > 0, 1.0, jnp.inf)

    step = train.parallel(functools.partial(
        evaluate.eval_step, net=Linear(), loss=loss, mean=np.float32([0]), std=np.float32([1])),
        2, donate=False)
    got = evaluate.evaluate(step, {'w': np.zeros(3, np.float32)}, data.eval_batches(split, 4, 2), 3)
    assert got['loss'] == 1.0


def test_a_lost_image_is_an_error():
    step = lambda variables, batch: {'loss': 0.0, 'errors': 0.0, 'count': batch['mask'].sum()}
    split = data.Split(np.zeros((5, 1, 1, 1), np.uint8), np.zeros(5, np.int32))
    with pytest.raises(RuntimeError, match='evaluated 4 images of a split of 5'):
        evaluate.evaluate(step, {}, list(data.eval_batches(split, 4, 1))[:1], 5)
