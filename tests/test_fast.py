"""The fast forms equal the plain ones: values and gradients, odd sizes, ties, bf16, transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import fast, layers

# height, width, window, stride, padding
SHAPES = [
    (8, 8, 2, 2, ((0, 0), (0, 0))), (9, 7, 2, 2, ((0, 0), (0, 0))), (8, 6, 3, 2, ((0, 1), (0, 1))),
    (9, 9, 3, 2, ((0, 0), (0, 0))), (8, 8, 3, 2, ((1, 0), (1, 0))), (7, 6, 3, 1, ((1, 1), (1, 1))),
    (11, 10, 4, 3, ((0, 0), (0, 2))), (5, 5, 5, 3, ((0, 0), (0, 0))), (6, 6, 2, 3, ((0, 0), (0, 0))),
]


def both(function, x):
    """Values, and the gradient of a sum with different weights, as one function of x."""
    def weighted(x):
        y = function(x)
        weights = jnp.arange(y.size, dtype=jnp.float32).reshape(y.shape) % 7 + 1
        return (y.astype(jnp.float32) * weights).sum(), y
    (_, y), gradient = jax.jit(jax.value_and_grad(weighted, has_aux=True))(x)
    return y, gradient


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('height, width, window, stride, padding', SHAPES)
@pytest.mark.parametrize('levels', [3, 10**6])  # three levels: nearly every window has a tie
def test_max_pooling_equals_reduce_window(height, width, window, stride, padding, levels, dtype):
    numbers = np.random.default_rng(0).integers(-levels, levels, (2, height, width, 3))
    x = jnp.asarray(numbers / 8, dtype)
    expected = both(lambda x: fast.plain_max_pool(x, window, stride, padding), x)
    got = both(lambda x: fast.max_pool(x, window, stride, padding), x)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_array_equal(one, other)


def test_ties_go_to_the_first_pixel_of_the_window():
    gradient = jax.grad(lambda x: fast.max_pool(x, 2, 2, ((0, 0), (0, 0))).sum())(
        jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, ..., 0], [[1, 0], [0, 0]])


def test_a_nan_is_not_lost():
    x = jnp.ones((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(fast.max_pool(x, 2, 2, ((0, 0), (0, 0)))).sum() == 1


def test_it_holds_under_vmap_pmap_and_checkpoint():
    x = jnp.asarray(np.random.default_rng(0).integers(-3, 3, (2, 2, 7, 6, 3)), jnp.float32)

    def gradient(pool):
        return jax.grad(lambda x: (pool(x, 3, 2, ((0, 0), (0, 1)))**2).sum())

    expected = jnp.stack([gradient(fast.plain_max_pool)(part) for part in x])
    np.testing.assert_array_equal(jax.vmap(gradient(fast.max_pool))(x), expected)
    np.testing.assert_array_equal(jax.pmap(gradient(fast.max_pool))(x), expected)
    kept = jax.checkpoint(lambda x: (fast.max_pool(x, 3, 2, ((0, 0), (0, 1)))**2).sum())
    np.testing.assert_array_equal(jax.jit(jax.grad(kept))(x[0]), expected[0])


@pytest.mark.parametrize('name, fields', [
    ('lenet5', dict(pool='max', overlap=True)), ('cuda_convnet_18pct', {}),
    ('resnet18', dict(blocks=(1, 1, 1, 1), maps=4))])
def test_a_net_is_the_same_with_and_without_fast_forms(name, fields):
    height, width, channels = cnns.NETS[name].input
    side = min(height, 64)
    numbers = np.random.default_rng(0)
    images = numbers.normal(size=(2, side, side, channels)).astype(np.float32)
    nets = [cnns.build(name, **fields, fast=chosen) for chosen in (True, False)]
    shapes = jax.eval_shape(lambda x: nets[0].init(jax.random.PRNGKey(0), x, train=False), images)
    variables = jax.tree.map(lambda leaf: numbers.uniform(0.01, 0.2, leaf.shape).astype(np.float32)
                             - 0.08 * (len(leaf.shape) > 1), shapes)

    def gradient(net):
        return jax.grad(lambda params: (net.apply(variables | {'params': params}, images,
                                                  train=False)**2).sum())(variables['params'])

    one, other = (jax.jit(lambda net=net: gradient(net))() for net in nets)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_one_field_turns_the_fast_forms_off():
    x = jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)
    for chosen in (True, False):
        jaxpr = jax.make_jaxpr(lambda x, f=chosen: layers.pool(x, 'max', False, fast=f))(x)
        assert ('platform_index' in str(jaxpr)) == chosen
