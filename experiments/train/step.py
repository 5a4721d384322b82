"""One training step: a pure function of (state, batch), whatever the number of devices.

Batch statistics: with norm='batch' the mean and variance of a batch are those of the whole global
batch (flax averages them over the axis), so the number of devices is no hidden variable.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnns.googlenet import AUXILIARY_WEIGHT
from cnns.lenet import rbf_loss
from experiments.train import optim
from experiments.train.parallel import AXIS

_DROPOUT = 2**31  # folded into the key for dropout; augment.py uses smaller numbers


class State(NamedTuple):
    """What the devices keep from step to step. A new seed compiles nothing: it is in the key."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # running statistics of batch norm, {} without it
    velocity: Any  # state of the update
    average: Any  # moving average of (params, batch_stats), () without train.ema
    key: jax.Array  # uint32 [2], from the seed


def train_step(
    state: State,
    batch: dict[str, Any],
    learning_rate,
    *,
    net,
    loss: Callable,
    update: optax.GradientTransformationExtraArgs,
    augmented: Callable,
    micro_batches: int = 1,
    average: optax.GradientTransformation | None = None,
    axis: str | None = AXIS,
) -> tuple[State, dict[str, jax.Array]]:
    """One step of gradient descent on this device's share of the global batch.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n]}; learning_rate: float32. Gradients,
    batch statistics and metrics are averaged over the device axis; since every device has n images,
    the mean of the devices' means is the mean of the global batch.

    micro_batches: number of them, of equal size; gradients are accumulated one after the other.
    The images are drawn for the whole batch before, so the gradient is the same, up to rounding,
    unless a layer looks at more than its image: batch norm normalises each micro-batch by its own
    statistics, and dropout draws anew for each.

    augmented: function(key, images, first), the augmentation; average: of optim.average, or None;
    axis: name of the device axis, None where the batch is not shared.
    Returns (state, {'loss', 'error'}), float32 scalars before the update.
    """
    key = jax.random.fold_in(state.key, state.step)
    device, count = jax.lax.axis_index(axis) if axis else 0, len(batch['label'])
    images = augmented(key, batch['image'], device * count)
    dropout = jax.random.fold_in(jax.random.fold_in(key, _DROPOUT), device)

    def objective(params, batch_stats, images, labels, dropout):
        logits, updated = net.apply(
            {'params': params, 'batch_stats': batch_stats},
            images,
            train=True,
            rngs={'dropout': dropout},
            mutable=['batch_stats', 'auxiliary'],
        )
        error = jnp.mean(jnp.argmax(logits, -1) != labels)
        value = loss(logits, labels).mean()
        for others in updated.get('auxiliary', {}).values():
            value += AUXILIARY_WEIGHT * loss(others, labels).mean()
        return value, ({'loss': value, 'error': error}, updated.get('batch_stats', {}))

    def gradient_of(batch_stats, examples):
        gradients = jax.value_and_grad(objective, has_aux=True)
        (_, (metrics, new)), gradient = gradients(state.params, batch_stats, *examples)
        return new, (gradient, metrics)

    batch_stats, (gradient, metrics) = _accumulated(
        gradient_of, micro_batches, state.batch_stats, (images, batch['label'], dropout)
    )
    if axis and jax.lax.axis_size(axis) > 1:  # otherwise everything is copied
        gradient, batch_stats, metrics = jax.lax.pmean((gradient, batch_stats, metrics), axis)
    old = state.velocity, state.params
    moves, velocity = update.update(gradient, *old, learning_rate=learning_rate)
    params = optax.apply_updates(state.params, moves)
    averaged = average.update((params, batch_stats), state.average)[1] if average else ()
    return State(state.step + 1, params, batch_stats, velocity, averaged, state.key), metrics


def steps(state: State, batch: dict[str, Any], learning_rates, *, step: Callable):
    """Steps one after the other, as many as there are learning rates, float32 [steps].

    batch: {'images': uint8 [N, H, W, C], all of the split; 'rows': int32 [steps, n], those of each
    step; 'label': int32 [steps, n]}. Returns what `step` does, its metrics as [steps].
    """

    def one(state, given):
        rows, labels, rate = given
        images = jnp.take(batch['images'], rows, axis=0, mode='clip')
        return step(state, {'image': images, 'label': labels}, rate)

    given = batch['rows'], batch['label'], learning_rates
    return jax.lax.scan(one, state, given, unroll=_written(len(learning_rates)))


def _written(count: int) -> int:
    """How many turns of a loop of `count` are written out.

    On a CPU, XLA's gradient of a convolution in a loop takes far longer than outside.
    """
    return count if jax.default_backend() == 'cpu' else 1


def _accumulated(gradient_of: Callable, micro_batches: int, batch_stats, examples):
    """gradient_of (batch_stats, examples) -> (batch_stats, sums), its mean over micro-batches.

    examples: (images [n, ...], labels [n], key of dropout). batch_stats go from one micro-batch to
    the next.
    """
    if micro_batches == 1:
        return gradient_of(batch_stats, examples)

    def add(carry, examples):
        batch_stats, total = carry
        batch_stats, new = gradient_of(batch_stats, examples)
        return (batch_stats, jax.tree.map(jnp.add, total, new)), None

    images, labels, dropout = examples
    split = lambda array: array.reshape(micro_batches, -1, *array.shape[1:])
    cut = split(images), split(labels), jax.random.split(dropout, micro_batches)
    one = jax.tree.map(lambda leaf: leaf[0], cut)
    sums = jax.eval_shape(gradient_of, batch_stats, one)[1]
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    # A loop is what saves memory
    written = _written(micro_batches)
    (batch_stats, total), _ = jax.lax.scan(add, (batch_stats, zero), cut, unroll=written)
    return batch_stats, jax.tree.map(lambda leaf: leaf / micro_batches, total)


def loss_of(config, *, train: bool) -> Callable:
    """(logits [n, classes], labels [n]) -> losses [n]; labels are smoothed in training only."""
    if config.train.loss == 'rbf':
        return rbf_loss
    if train and config.train.label_smoothing:
        return optim.smoothed(config.train.label_smoothing)
    return optax.softmax_cross_entropy_with_integer_labels
