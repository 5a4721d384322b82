"""The four axes against plain loops and the golden values of the papers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnns import axes, layers


def image(height, width, seed=0, low=-9):
    values = np.random.default_rng(seed).uniform(low, low + 8, (2, height, width, 3))
    return values.astype(np.float32)


pool = jax.jit(layers.pool, static_argnames=('kind', 'overlap', 'stride'))


def pool_loop(x, kind, window, stride):
    """Pooling written as four loops; a window is cut off at the bottom and right edge."""
    n, height, width, channels = x.shape
    out = np.empty((n, height // stride, width // stride, channels), np.float32)
    for b in range(n):
        for i in range(height // stride):
            for j in range(width // stride):
                block = x[b, i * stride : i * stride + window, j * stride : j * stride + window]
                out[b, i, j] = block.max((0, 1)) if kind == 'max' else block.mean((0, 1))
    return out


@pytest.mark.parametrize('kind', axes.POOLS)
@pytest.mark.parametrize('overlap', [False, True])
@pytest.mark.parametrize('size', [(2, 2), (3, 5), (4, 4), (7, 6), (13, 13), (28, 28)])
def test_pooling_equals_the_loop_on_even_and_odd_maps(kind, overlap, size):
    x = image(*size)  # negative everywhere: a padding of zeros would win every maximum
    got = pool(x, kind, overlap)
    assert got.shape == (2, size[0] // 2, size[1] // 2, 3)
    np.testing.assert_allclose(got, pool_loop(x, kind, 2 + overlap, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('overlap', [False, True])
def test_pooling_with_stride_3_equals_the_loop(overlap):
    x = image(10, 9)
    np.testing.assert_allclose(
        pool(x, 'average', overlap, stride=3), pool_loop(x, 'average', 3 + overlap, 3), rtol=1e-5
    )


@pytest.mark.parametrize('n, out', [(55, 27), (27, 13), (13, 6), (32, 16), (28, 14), (10, 5)])
def test_both_overlaps_give_the_papers_map_sizes(n, out):
    for overlap in (False, True):
        made = jax.eval_shape(
            lambda x, o=overlap: layers.pool(x, 'max', o), jnp.zeros((1, n, n, 1))
        )
        assert made.shape == (1, out, out, 1)


def test_average_pooling_of_ones_is_one_in_the_padded_corner_too():
    assert (layers.pool(jnp.ones((1, 6, 6, 1)), 'average', True) == 1).all()


def test_overlap_changes_the_result():
    x = image(8, 8)
    for kind in axes.POOLS:
        assert not np.allclose(pool(x, kind, True), pool(x, kind, False))


@pytest.mark.parametrize('kind', axes.POOLS)
@pytest.mark.parametrize('overlap', [False, True])
def test_the_gradient_of_pooling_is_finite_and_shares_out_the_whole(kind, overlap):
    gradient = jax.grad(lambda x: pool(x, kind, overlap).sum())(image(6, 6))
    np.testing.assert_allclose(gradient.sum(), 2 * 3 * 3 * 3, rtol=1e-5)  # one for each output


def test_a_map_smaller_than_the_stride_is_refused():
    with pytest.raises(ValueError, match='map of 1x4 cannot be pooled with stride 2'):
        layers.pool(jnp.zeros((1, 1, 4, 1)), 'max', False)


# --- LRN -------------------------------------------------------------------------------------

TENS = np.arange(10, 70, 10, dtype=np.float32)


@pytest.mark.parametrize(
    'values, constants, expected',
    [
        (TENS, {}, [5.651838, 10.708635, 14.866753, 17.999544, 22.735027, 27.944183]),
        (
            TENS,
            dict(alpha_over_n=True),
            [5.884357, 11.631335, 17.135998, 22.295521, 27.946353, 33.745586],
        ),
        (
            TENS,
            dict(alpha_over_n=True, k=1.0),
            [9.795016, 19.144790, 27.741441, 35.330394, 44.388891, 53.888599],
        ),
        (TENS / 10, dict(alpha=1.0), [0.125000, 0.148651, 0.144616, 0.134654, 0.174024, 0.226428]),
    ],
)
def test_lrn_gives_the_golden_values(values, constants, expected):
    np.testing.assert_allclose(layers.lrn(values, **constants), expected, rtol=1e-6, atol=5e-7)


@pytest.mark.parametrize('n', [1, 3, 5, 9])
@pytest.mark.parametrize('alpha_over_n', [False, True])
def test_lrn_equals_the_printed_formula_as_a_loop(n, alpha_over_n):
    a = np.random.default_rng(1).normal(0, 30, (2, 3, 7))
    b = np.empty_like(a)
    for i in range(7):
        window = range(max(0, i - n // 2), min(6, i + n // 2) + 1)
        total = sum(a[..., j] ** 2 for j in window)
        b[..., i] = a[..., i] / (1.5 + 0.01 / (n if alpha_over_n else 1) * total) ** 0.6
    got = layers.lrn(
        a.astype(np.float32), n=n, k=1.5, alpha=0.01, beta=0.6, alpha_over_n=alpha_over_n
    )
    np.testing.assert_allclose(got, b, rtol=2e-5)


def test_lrn_is_lateral_inhibition_by_two_neighbours_on_each_side():
    a = jnp.full(9, 50.0)
    jacobian = np.asarray(jax.jacobian(layers.lrn)(a))
    for i in range(9):
        for j in range(9):
            if i == j:
                assert jacobian[i, j] > 0
            elif abs(i - j) <= 2:
                assert jacobian[i, j] < 0
            else:
                assert jacobian[i, j] == 0


def test_lrn_of_bfloat16_is_the_rounded_lrn_of_float32():
    x = jnp.linspace(1, 4, 8).astype(jnp.bfloat16)
    got = layers.lrn(x)
    assert got.dtype == jnp.bfloat16
    assert (got == layers.lrn(x.astype(jnp.float32)).astype(jnp.bfloat16)).all()


@pytest.mark.parametrize('n', [0, 4, -1])
def test_a_window_without_a_middle_is_refused(n):
    with pytest.raises(ValueError, match=f'window n of LRN is {n}; it must be odd'):
        layers.lrn(TENS, n=n)


# --- activation and norm ---------------------------------------------------------------------


def test_scaled_tanh_has_the_papers_value_and_slope():
    assert float(axes.scaled_tanh(1.0)) == pytest.approx(0.9999973, abs=2e-7)
    assert float(axes.scaled_tanh(-1.0)) == pytest.approx(-0.9999973, abs=2e-7)
    assert float(jax.grad(axes.scaled_tanh)(0.0)) == pytest.approx(1.1439333, abs=2e-7)


@pytest.mark.parametrize(
    'name, formula',
    [
        ('tanh', np.tanh),
        ('relu', lambda x: np.maximum(x, 0)),
        ('sigmoid', lambda x: 1 / (1 + np.exp(-x))),
        ('scaled_tanh', lambda x: 1.7159 * np.tanh(2 * x / 3)),
    ],
)
def test_activations_are_their_formulas(name, formula):
    x = np.linspace(-4, 4, 33)
    np.testing.assert_allclose(layers.activate(x, name), formula(x), rtol=1e-5, atol=1e-6)


def conv(norm):
    return layers.Conv(4, 3, 'relu', norm, padding=1)


def convolved(x, kernel):
    return np.asarray(
        jax.lax.conv_general_dilated(
            x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
    )


def test_the_order_is_convolution_batch_norm_activation_lrn():
    x = image(5, 5, low=-4)
    key = jax.random.PRNGKey(0)
    plain, state = conv('none').init_with_output(key, x, train=True)
    linear = convolved(x, state['params']['conv']['kernel'])
    np.testing.assert_allclose(plain, np.maximum(linear, 0), atol=1e-5)
    normed, _ = conv('lrn').init_with_output(key, x, train=True)
    np.testing.assert_allclose(normed, layers.lrn(np.maximum(linear, 0)), atol=1e-5)
    variables = conv('batch').init(key, x, train=True)
    batch, _ = conv('batch').apply(variables, x, train=True, mutable=['batch_stats'])
    hand = (linear - linear.mean((0, 1, 2))) / np.sqrt(linear.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(batch, np.maximum(hand, 0), atol=2e-5)


def test_batch_norm_takes_the_place_of_the_bias():
    shapes = {
        norm: jax.eval_shape(
            functools.partial(conv(norm).init, train=True), jax.random.PRNGKey(0), image(4, 4)
        )
        for norm in axes.NORMS
    }
    assert set(shapes['batch']['params']['conv']) == {'kernel'}
    assert set(shapes['batch']) == {'params', 'batch_stats'}
    for norm in ('none', 'lrn'):
        assert set(shapes[norm]) == {'params'}
        assert set(shapes[norm]['params']['conv']) == {'kernel', 'bias'}


def test_running_statistics_decay_by_a_tenth_and_serve_inference():
    x = image(5, 5, low=-4)
    variables = conv('batch').init(jax.random.PRNGKey(0), x, train=True)
    _, new = conv('batch').apply(variables, x, train=True, mutable=['batch_stats'])
    stats = new['batch_stats']['norm']
    linear = convolved(x, variables['params']['conv']['kernel'])
    np.testing.assert_allclose(stats['mean'], 0.1 * linear.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * linear.var((0, 1, 2)), rtol=1e-3)
    out = conv('batch').apply({**variables, **new}, x, train=False)
    hand = (linear - stats['mean']) / np.sqrt(stats['var'] + 1e-5)
    np.testing.assert_allclose(out, np.maximum(hand, 0), atol=2e-5)


@pytest.mark.parametrize(
    'axis, value, hint',
    [
        ('activation', 'rleu', "'relu'"),
        ('pool', 'avg', 'average'),
        ('pool', 'maxx', "'max'"),
        ('overlap', 1, 'False, True'),
        ('overlap', 'yes', 'False, True'),
        ('norm', 'bach', "'batch'"),
        ('norm', None, 'none, lrn, batch'),
    ],
)
def test_an_unknown_axis_value_names_what_is_allowed(axis, value, hint):
    with pytest.raises(ValueError, match=f'unknown {axis} .*{hint}'):
        axes.check_axes(**{axis: value})


# --- locally connected -------------------------------------------------------------------------


@pytest.mark.parametrize('fast', [True, False])
def test_a_locally_connected_layer_is_that_of_flax(fast):
    types = dict(dtype=jnp.float32, param_dtype=jnp.float32)
    inits = dict(kernel_init=nn.initializers.normal(0.1), bias_init=nn.initializers.normal(1.0))
    own = layers.LocalConv(5, 3, 1, fast=fast, **types, **inits)
    there = nn.ConvLocal(5, (3, 3), padding=[(1, 1)] * 2, **types, **inits)
    x = image(6, 7)
    variables = own.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, there.init(jax.random.key(0), x))
    assert variables['params']['bias'].shape == (6, 7, 5)
    np.testing.assert_allclose(own.apply(variables, x), there.apply(variables, x), 1e-5, 1e-5)
    # The bias is added to a finished product: in one with it oneDNN has no kernel
    text = jax.jit(own.apply).lower(variables, x).as_text()
    assert ('optimization_barrier' in text) == fast
