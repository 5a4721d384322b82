"""Evaluation counts every image exactly once, whatever the batch and device count."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import data
from experiments.preprocess import augment, views
from experiments.train import evaluate, parallel


class Linear:
    """Stands in for a net: logits from the mean grey level, no flax in the way."""

    def apply(self, variables, x, *, train):
        assert train is False
        mean = x.mean((1, 2, 3))[:, None]
        return variables['w'] * mean + jnp.arange(3.0) * mean**2


@pytest.mark.parametrize(
    'batch, devices', [(1, 1), (4, 1), (7, 1), (100, 1), (4, 2), (5, 4), (64, 4)]
)
def test_sums_equal_a_plain_loop_over_the_images(batch, devices):
    rng = np.random.default_rng(0)
    split = data.InMemory(
        rng.integers(0, 256, (23, 4, 4, 1), dtype=np.uint8), rng.integers(0, 3, 23).astype(np.int32)
    )
    weights = np.array([0.3, -0.2, 0.1], np.float32)
    step = parallel.parallel(
        functools.partial(
            evaluate.eval_step,
            net=Linear(),
            loss=optax.softmax_cross_entropy_with_integer_labels,
            mean=np.float32([0.4]),
            std=np.float32([0.2]),
        ),
        devices,
        donate=False,
    )
    got = evaluate.evaluate(step, {'w': weights}, data.eval_batches(split, batch, devices), 23)

    losses, right = [], []
    for image, label in zip(*split):
        mean = ((image / 255 - 0.4) / 0.2).mean()
        logits = weights * mean + np.arange(3) * mean**2
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        right.append(logits.argmax() == label)
    assert got['count'] == 23
    assert got['right'].tolist() == right  # in the order of the split, no padding examples
    assert got['error'] == pytest.approx(1 - np.mean(right), abs=1e-7)
    assert got['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_padding_examples_that_give_an_infinite_loss_do_not_count():
    split = data.InMemory(np.full((3, 1, 1, 1), 255, np.uint8), np.zeros(3, np.int32))

    def loss(logits, labels):
        return jnp.where(logits[:, 2] > 0, 1.0, jnp.inf)

    step = parallel.parallel(
        functools.partial(
            evaluate.eval_step, net=Linear(), loss=loss, mean=np.float32([0]), std=np.float32([1])
        ),
        2,
        donate=False,
    )
    got = evaluate.evaluate(step, {'w': np.zeros(3, np.float32)}, data.eval_batches(split, 4, 2), 3)
    assert got['loss'] == 1.0


def test_a_lost_image_is_an_error():
    step = lambda variables, batch: {'loss': 0.0, 'errors': 0.0, 'count': batch['mask'].sum()}
    split = data.InMemory(np.zeros((5, 1, 1, 1), np.uint8), np.zeros(5, np.int32))
    with pytest.raises(RuntimeError, match='evaluated 4 images of a split of 5'):
        evaluate.evaluate(step, {}, list(data.eval_batches(split, 4, 1))[:1], 5)


def test_rank_counts_the_classes_before_the_right_one():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 4, (200, 9)).astype(np.float32)  # with many ties
    labels = rng.integers(0, 9, 200)
    wanted = [
        np.argsort(-row, kind='stable').tolist().index(label) for row, label in zip(logits, labels)
    ]
    np.testing.assert_array_equal(evaluate.rank(logits, labels), wanted)
    np.testing.assert_array_equal(evaluate.rank(logits, labels) > 0, logits.argmax(-1) != labels)


def test_scores_that_are_no_numbers_are_wrong():
    logits = np.full((2, 7), np.nan, np.float32)
    np.testing.assert_array_equal(evaluate.rank(logits, np.array([0, 6])), [6, 6])


class Table:
    """Stands in for a net: the scores of 7 classes are written in the image's first row."""

    def apply(self, variables, x, *, train):
        return x[:, 0, :7, 0] * 255


@pytest.mark.parametrize('devices', [1, 2])
def test_the_label_may_be_among_five_where_there_are_more_classes(devices):
    rng = np.random.default_rng(2)
    images = np.stack([rng.permutation(56).reshape(1, 56)[:, :7] for _ in range(23)])
    split = data.InMemory(
        images[..., None].astype(np.uint8), rng.integers(0, 7, 23).astype(np.int32)
    )
    step = parallel.parallel(
        functools.partial(
            evaluate.eval_step,
            net=Table(),
            loss=optax.softmax_cross_entropy_with_integer_labels,
            mean=np.float32([0]),
            std=np.float32([1]),
        ),
        devices,
        donate=False,
    )
    got = evaluate.evaluate(step, {}, data.eval_batches(split, 3 * devices, devices), 23)
    best = [set(np.argsort(-image[0, :, 0].astype(int))[:5]) for image in split.images]
    wrong = sum(label not in five for label, five in zip(split.labels, best))
    assert 0 < wrong < 23
    assert got['error5'] == pytest.approx(wrong / 23)
    assert got['error5'] < got['error']


def test_the_five_best_of_few_classes_are_not_counted():
    split = data.InMemory(np.zeros((3, 1, 1, 1), np.uint8), np.zeros(3, np.int32))
    step = parallel.parallel(
        functools.partial(
            evaluate.eval_step,
            net=Linear(),
            loss=optax.softmax_cross_entropy_with_integer_labels,
            mean=np.float32([0]),
            std=np.float32([1]),
        ),
        1,
        donate=False,
    )
    got = evaluate.evaluate(step, {'w': np.zeros(3, np.float32)}, data.eval_batches(split, 4, 1), 3)
    assert set(got) == {'loss', 'error', 'count', 'right'}


def test_ten_views_of_a_masked_batch_on_two_devices_equal_the_loop_over_images():
    rng = np.random.default_rng(3)
    split = data.InMemory(
        rng.integers(0, 256, (7, 6, 6, 1), dtype=np.uint8), rng.integers(0, 3, 7).astype(np.int32)
    )
    statistics = data.Statistics(np.float32([0.4]), np.float32([0.2]))
    seen = views.views('ten', augment.augmentation((6, 6, 1), statistics, crop='random', size=4))
    step = parallel.parallel(
        functools.partial(
            evaluate.eval_step,
            net=Linear(),
            loss=optax.softmax_cross_entropy_with_integer_labels,
            views=seen,
        ),
        2,
        donate=False,
    )
    weights = np.array([0.9, -0.8, 0.1], np.float32)
    got = evaluate.evaluate(step, {'w': weights}, data.eval_batches(split, 4, 2), 7)
    losses, wrong = [], 0
    for image, label in zip(*split):
        total = 0
        for top, left in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1)):  # the mirror has the same mean
            mean = ((image[top : top + 4, left : left + 4] / 255 - 0.4) / 0.2).mean()
            softmax = np.exp(weights * mean + np.arange(3) * mean**2)
            total = total + softmax / softmax.sum() / 5
        losses.append(-np.log(total[label]))
        wrong += int(total.argmax() != label)
    assert got['count'] == 7
    assert got['error'] == pytest.approx(wrong / 7)
    assert got['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_an_evaluation_keeps_few_batches_waiting():
    waiting, most = [0], [0]

    def step(variables, batch):
        return {'loss': np.float32(0), 'errors': np.float32(0), 'count': batch['mask'].sum()}

    def batches():
        for _ in range(20):
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
            yield {'mask': np.ones(2)}

    fetch = evaluate.jax.device_get
    with pytest.MonkeyPatch.context() as patch:

        def device_get(value):
            waiting[0] -= len(value) if isinstance(value, list) else 1
            return fetch(value)

        patch.setattr(evaluate.jax, 'device_get', device_get)
        evaluate.evaluate(step, {}, batches(), 40)
    assert most[0] <= 5
