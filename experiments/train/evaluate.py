"""Evaluation that counts every image once, whatever the batch size and the number of devices."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.preprocess.views import Views
from experiments.train.parallel import AXIS

TOP = 5  # the five best classes may hold the right one: the second error, of ImageNet's papers
_AHEAD = 4  # batches that wait on the device at most


# Metrics beside loss and errors: {name: function}. A row has their means as 'split/name', and those
# of the test split are in table, CSV file and page.
METRICS: dict[str, Callable] = {}


def metric(function: Callable) -> Callable:
    """Adds a metric: (logits float32 [n, classes], labels int32 [n]) -> [n], a value per image."""
    METRICS[function.__name__] = function
    return function


def normalise(images, mean, std, dtype=jnp.float32) -> jax.Array:
    """uint8 [..., C] -> (images / 255 - mean) / std per channel, as `dtype`."""
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def rank(logits, labels) -> jax.Array:
    """How many classes come before the right one: int32 [n], 0 where it is the best.

    logits [n, classes], labels int [n]. Equal scores keep their order, as in argmax; a score that
    is not a number comes before all others.
    """
    own = jnp.take_along_axis(logits, labels[:, None], -1)
    first = jnp.arange(logits.shape[-1]) < labels[:, None]
    # negated, since every comparison with nan is false
    before = jnp.where(first, ~(own > logits), ~(own >= logits))
    return jnp.where(jnp.arange(logits.shape[-1]) == labels[:, None], False, before).sum(-1)


def eval_step(
    variables: dict,
    batch: dict[str, jax.Array],
    *,
    net: nn.Module,
    loss: Callable,
    mean=None,
    std=None,
    views: Views | None = None,
    axis: str | None = AXIS,
) -> dict:
    """Sums over one batch, on all devices: {'loss', 'errors', 'count'}, float32 scalars, and
    'errors5', of labels not among the five best, where there are more than five classes; those of
    METRICS; and 'right', bool [images of the batch], padding examples included, in the order of the
    batch.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n], 'mask': float32 [n]}, this device's
    share; images with mask 0 are padding examples and count for nothing. Batch norm uses its stored
    statistics. views: the `views.Views` that the net looks at; without, the images as they are,
    normalised by mean and std. With several views, the loss is of their mean softmax. axis: name
    of the device axis, None where the batch is whole.
    """

    apply: Callable = functools.partial(net.apply, variables, train=False)
    if views is None:
        logits = apply(normalise(batch['image'], mean, std))
    else:
        logits = views.logits(apply, batch['image'])
    mask, place = batch['mask'], rank(logits, batch['label'])
    # where, not a product: padding examples may give a loss that is not finite
    losses = jnp.where(mask > 0, loss(logits, batch['label']), 0)
    sums = {'loss': losses.sum(), 'errors': ((place > 0) * mask).sum(), 'count': mask.sum()}
    if logits.shape[-1] > TOP:
        sums['errors5'] = ((place >= TOP) * mask).sum()
    for name, function in METRICS.items():
        values = function(logits, batch['label'])
        sums[name] = jnp.where(mask > 0, values, 0).astype(jnp.float32).sum()
    right = place == 0
    if axis:
        sums, right = jax.lax.psum(sums, axis), jax.lax.all_gather(right, axis, tiled=True)
    return sums | {'right': right}


def evaluate(
    step: Callable, variables: dict, batches: Iterable[dict], count: int
) -> dict[str, Any]:
    """Mean loss, error (fraction) and image count over all batches; 'error5' if the step counts it.

    'right': bool [count], which images are classified correctly, in the order of the split, if the
    step says so. Where the step evaluates several models, its sums are arrays of equal shapes, and
    so are the means, as nested lists; 'right' has these axes first.

    Raises:
      RuntimeError: the masks do not sum to `count`, the size of the split.
    """
    sums, real = [], []
    for batch in batches:
        sums.append(step(variables, batch))
        real.append(np.ravel(batch['mask']) > 0)
        if len(sums) > _AHEAD:  # otherwise a fast feed would fill the device with waiting images
            sums[-_AHEAD - 1] = jax.device_get(sums[-_AHEAD - 1])
    sums = jax.device_get(sums)
    if jax.process_count() > 1:  # masks are those of this process: padding examples come last
        real = [np.ones(batch['right'].shape[-1:], bool) for batch in sums if 'right' in batch]
    right = [batch['right'][..., own] for batch, own in zip(sums, real) if 'right' in batch]
    total = {
        key: np.asarray(sum(np.asarray(batch[key], np.float64) for batch in sums))
        for key in {'loss', 'errors', 'count'}.union(*sums) - {'right'}
    }
    if (total['count'] != count).any():
        raise RuntimeError(f'evaluated {total["count"].max():.0f} images of a split of {count}')
    names = {'errors': 'error', 'errors5': 'error5'}
    means = {
        names.get(key, key): (value / count).tolist()
        for key, value in total.items()
        if key != 'count'
    }
    return (
        means
        | {'count': count}
        | ({'right': np.concatenate(right, -1)[..., :count]} if right else {})
    )
