"""One training step: a pure function of (state, batch), whatever the number of devices.

The state has no device axis: it enters the pmapped step with in_axes=None and leaves with
out_axes=None, so nothing is replicated by hand. With norm='batch' the mean and variance of a batch
are those of the global batch (flax averages them over the axis): the number of devices is no hidden
variable.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

import cnns
import cnns.lenet
from cnns.googlenet import AUXILIARY_WEIGHT
from experiments.train import optim
from experiments.train.parallel import AXIS

_DROPOUT = 2**31  # what the key is folded with for dropout, apart from all that augment.py uses


class State(NamedTuple):
    """All that the devices keep from step to step. The seed is an input: a new one compiles
    nothing."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # running statistics of batch norm, {} without it
    velocity: Any  # state of the update
    average: Any  # moving average of (params, batch_stats), () without train.ema
    key: jax.Array  # uint32 [2], from the seed


def train_step(
    state: State,
    batch: dict[str, jax.Array],
    rate: jax.Array,
    *,
    net: nn.Module,
    loss: Callable,
    update: optax.GradientTransformationExtraArgs,
    augmented: Callable,
    parts: int = 1,
    average: optax.GradientTransformation | None = None,
    axis: str | None = AXIS,
) -> tuple[State, dict[str, jax.Array]]:
    """One step of gradient descent on this device's share of the global batch.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n]}; rate: float32, the learning rate.
    Gradients, batch statistics and metrics are averaged over the device axis. Every device has n
    images, so the mean of their means is the mean of the global batch.

    parts: micro-batches of n / parts images that the gradient is computed in, one after the other.
    The images are drawn for the whole batch before, so the gradient is the same, up to rounding,
    unless a layer looks at more than its image: batch norm normalises each micro-batch by its own
    statistics, and dropout draws anew for each.

    augmented: function(key, images, first) of augment.augmentation; average: of optim.average, or
    None; axis: name of the device axis, None where the batch is not shared.
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

    def one(batch_stats, micro_batch):
        (_, (metrics, batch_stats)), gradient = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch_stats, *micro_batch
        )
        return batch_stats, (gradient, metrics)

    if parts == 1:
        batch_stats, (gradient, metrics) = one(state.batch_stats, (images, batch['label'], dropout))
    else:

        def add(carry, micro_batch):
            batch_stats, total = carry
            batch_stats, new = one(batch_stats, micro_batch)
            return (batch_stats, jax.tree.map(jnp.add, total, new)), None

        split = lambda array: array.reshape(parts, count // parts, *array.shape[1:])
        cut = split(images), split(batch['label']), jax.random.split(dropout, parts)
        zero = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(one, state.batch_stats, jax.tree.map(lambda leaf: leaf[0], cut))[1],
        )
        # A loop is what saves memory; on a CPU, XLA's gradient of a convolution in a loop takes a
        # hundred times as long as outside, so there it is written out
        written = parts if jax.default_backend() == 'cpu' else 1
        (batch_stats, total), _ = jax.lax.scan(add, (state.batch_stats, zero), cut, unroll=written)
        gradient, metrics = jax.tree.map(lambda leaf: leaf / parts, total)

    if axis and jax.lax.axis_size(axis) > 1:  # else a copy of everything
        gradient, batch_stats, metrics = jax.lax.pmean((gradient, batch_stats, metrics), axis)
    moves, velocity = update.update(gradient, state.velocity, state.params, rate=rate)
    params = optax.apply_updates(state.params, moves)
    averaged = ()
    if average:
        _, averaged = average.update((params, batch_stats), state.average)
    return State(state.step + 1, params, batch_stats, velocity, averaged, state.key), metrics


def loss_of(config: ConfigDict, *, train: bool) -> Callable:
    """(logits [n, classes], labels [n]) -> losses [n]; labels are smoothed in training only."""
    if config.train.loss == 'rbf':
        return cnns.lenet.rbf_loss
    if train and config.train.label_smoothing:
        return optim.smoothed(config.train.label_smoothing)
    return optax.softmax_cross_entropy_with_integer_labels
