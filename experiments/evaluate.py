"""Evaluation that counts every image once, whatever the batch size and the number of devices."""

from typing import Callable, Iterable

import jax
import jax.numpy as jnp

AXIS = 'devices'  # name of the pmapped axis, here and in train.py


def normalise(images, mean, std, dtype=jnp.float32):
    """uint8 [..., C] -> (images / 255 - mean) / std per channel, as `dtype`."""
    return ((images.astype(jnp.float32) / 255 - mean) / std).astype(dtype)


def eval_step(variables, batch, *, net, loss: Callable, mean, std) -> dict:
    """Sums over one batch, on all devices: {'loss', 'errors', 'count'}, float32 scalars.

    batch: {'image': uint8 [n, H, W, C], 'label': int32 [n], 'mask': float32 [n]}, this device's
    part; images with mask 0 are filling and count for nothing. Statistics are the stored ones.
    """
    logits = net.apply(variables, normalise(batch['image'], mean, std), train=False)
    mask = batch['mask']
    wrong = jnp.argmax(logits, -1) != batch['label']
    # where, not a product: filling of zeros may give a loss that is not finite
    losses = jnp.where(mask > 0, loss(logits, batch['label']), 0)
    sums = {'loss': losses.sum(), 'errors': (wrong * mask).sum(), 'count': mask.sum()}
    return jax.lax.psum(sums, AXIS)


def evaluate(step: Callable, variables, batches: Iterable[dict], count: int) -> dict[str, float]:
    """Mean loss, error (fraction) and image count over all batches.

    Raises:
      RuntimeError: the masks do not sum to `count`, the size of the split.
    """
    sums = jax.device_get([step(variables, batch) for batch in batches])
    total = {key: float(sum(float(part[key]) for part in sums))
             for key in ('loss', 'errors', 'count')}
    if total['count'] != count:
        raise RuntimeError(f'evaluated {total["count"]:.0f} images of a split of {count}')
    return {'loss': total['loss'] / count, 'error': total['errors'] / count, 'count': count}
