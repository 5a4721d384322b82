"""Brightness, contrast and colour of an image turned up or down, as Pillow's ImageEnhance does."""

import itertools

import jax
import jax.numpy as jnp

LOW, HIGH = 0.5, 1.5  # of every factor; 1 changes nothing. After Howard 2013, not checked there
NAMES = ('brightness', 'contrast', 'colour')
ORDERS = tuple(itertools.permutations(range(len(NAMES))))
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's 'L'


def distort(image: jax.Array, factors: jax.Array, order: int | jax.Array) -> jax.Array:
    """float32 [H, W, C] on 0 to 255 -> the same, clipped after each of the three steps.

    factors: float32 [3], in the order of NAMES; order: int, a place in ORDERS. Both may be traced.
    """
    sequence = jnp.array(ORDERS)[order]
    for step in range(len(NAMES)):
        choices = jnp.stack(
            [brightness(image, factors[0]), contrast(image, factors[1]), colour(image, factors[2])]
        )
        image = jnp.clip(choices[sequence[step]], 0, 255)
    return image


def brightness(image: jax.Array, factor: float | jax.Array) -> jax.Array:
    """Away from black (factor above 1) or towards it."""
    return image * factor


def contrast(image: jax.Array, factor: float | jax.Array) -> jax.Array:
    """Away from the mean grey level of the image, or towards it."""
    mean = grey(image).mean()
    return mean + factor * (image - mean)


def colour(image: jax.Array, factor: float | jax.Array) -> jax.Array:
    """Away from the grey of the same pixel, or towards it; grey images stay as they are."""
    own = grey(image)
    return own + factor * (image - own)


def grey(image: jax.Array) -> jax.Array:
    """[H, W, C] -> [H, W, 1]."""
    if image.shape[-1] != 3:
        return image
    return (image * jnp.array(_GREY, jnp.float32)).sum(-1, keepdims=True)
