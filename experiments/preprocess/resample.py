"""Regions of images scaled by one of four interpolations, which may be drawn inside a step."""

import jax
import jax.numpy as jnp
import numpy as np

WAYS = ('bilinear', 'area', 'nearest', 'cubic')  # Pillow's BILINEAR, BOX, NEAREST and BICUBIC


def resize_box(
    image: jax.Array, box: jax.Array | np.ndarray, size: tuple[int, int], way: int | jax.Array
) -> jax.Array:
    """The region `box` of an image scaled to `size`: [H, W, C] -> float32 [h, w, C].

    box: top, left, height, width, float32 in pixels, inside the image. way: int, a place in WAYS.
    Both may be traced. Where it shrinks, every filter but 'nearest' is as wide as a pixel of the
    result; enlarging, 'area' is 'nearest'. 'cubic' may leave the range of the pixels.
    """
    rows = weights(box[0], box[2], size[0], image.shape[0], way)
    columns = weights(box[1], box[3], size[1], image.shape[1], way)
    image = jnp.einsum('yi,ijc->yjc', rows, image.astype(jnp.float32), precision='highest')
    return jnp.einsum('xj,yjc->yxc', columns, image, precision='highest')


def weights(
    start: float | jax.Array, length: float | jax.Array, size: int, count: int, way: int | jax.Array
) -> jax.Array:
    """float32 [size, count]: what each of `count` pixels gives to each of `size` pixels that the
    line from start to start + length is cut into; rows sum to 1."""
    step = length / size
    centres = start + (jnp.arange(size) + 0.5) * step
    inside = jnp.clip(jnp.floor(centres), 0, count - 1).astype(jnp.int32)
    nearest = (inside[:, None] == jnp.arange(count)).astype(jnp.float32)
    x = (jnp.arange(count) + 0.5 - centres[:, None]) / jnp.maximum(step, 1)
    far = jnp.abs(x)
    triangle = jnp.maximum(1 - far, 0)
    box = ((x > -0.5) & (x <= 0.5)).astype(jnp.float32)
    # Keys 1981 with a = -1/2
    cubic = jnp.where(
        far < 1,
        (1.5 * far - 2.5) * far**2 + 1,
        jnp.where(far < 2, ((-0.5 * far + 2.5) * far - 4) * far + 2, 0),
    )
    made = jnp.stack([triangle, box, nearest, cubic])[way]
    total = made.sum(1, keepdims=True)
    # rounding may leave a box without a pixel
    return jnp.where(total > 0, made / jnp.where(total > 0, total, 1), nearest)
