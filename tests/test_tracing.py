"""What is read from a net's program, against hand counts, gradients and XLA's own count."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import layers
from experiments.models import tracing


def conv(features, kernel, stride=1, padding=0, name=None, **fields):
    return nn.Conv(
        features, (kernel, kernel), stride, [(padding, padding)] * 2, name=name, **fields
    )


class Toy(nn.Module):
    """A net of one function of (x)."""

    body: callable

    @nn.compact
    def __call__(self, x, *, train):
        return self.body(x)


def rows(body, *input):
    return tracing.trace(Toy(body), input).rows


# ---- receptive fields and jumps


def stack(x):
    x = conv(4, 3, 2, 1, 'a', use_bias=False)(x)
    x = nn.max_pool(x, (2, 2), (2, 2))
    return conv(4, 5, 1, 2, 'b', kernel_dilation=2, use_bias=False)(x)


def branches(x):
    x = conv(4, 3, 1, 1, 'stem', use_bias=False)(x)
    wide = conv(4, 5, 2, 2, 'wide', use_bias=False)(conv(4, 1, name='one', use_bias=False)(x))
    pooled = nn.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    x = jnp.concatenate([wide, pooled], -1)
    return conv(8, 3, 1, 1, 'last', use_bias=False)(x) + x


def strided_shortcut(x):
    y = conv(3, 3, 2, 1, 'y', use_bias=False)(x)
    return conv(3, 3, 1, 1, 'z', use_bias=False)(y + x[:, ::2, ::2])


def test_receptive_fields_of_a_stack_are_those_counted_by_hand():
    # a: 3. pool: 3 + 1 * 2 = 5 at jump 4. b, 5 wide with gaps of 2 is 9 wide: 5 + 8 * 4 = 37
    assert [row.receptive_field for row in rows(stack, 64, 64, 3)] == [3, 5, 37]


def test_receptive_fields_of_branches_are_the_widest_branch():
    # stem 3, one 3, wide 3 + 4 = 7 at jump 2, pool 3 + 2 = 5, last 7 + 2 * 2 = 11
    got = {row.layer: row.receptive_field for row in rows(branches, 32, 32, 3)}
    assert got == {'stem': 3, 'one': 3, 'wide': 7, 'average pool': 5, 'last': 11}


@pytest.mark.parametrize('body', [stack, branches, strided_shortcut])
def test_the_receptive_field_is_the_support_of_the_gradient(body):
    side = 96
    net = Toy(body)
    # Weights of one sign: nothing cancels. A rising image: each window has one maximum.
    x = jnp.arange(side * side * 3, dtype=jnp.float32).reshape(1, side, side, 3)
    variables = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape),
        jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False)),
    )

    def middle(x):
        y = net.apply(variables, x, train=False)
        return y[0, y.shape[1] // 2, y.shape[2] // 2, 0]

    touched = np.abs(np.asarray(jax.grad(middle)(x))).sum((0, 3)) > 0
    expected = max(row.receptive_field for row in tracing.trace(net, (side, side, 3)).rows)
    # The maximum of a rising image is the last of the window's two pixels; the first is 2 wide
    lost = 2 if body is stack else 0
    for axis in (0, 1):
        places = np.flatnonzero(touched.any(axis))
        assert places[-1] - places[0] + 1 == expected - lost


def test_a_window_over_channels_keeps_the_receptive_field_and_one_over_space_widens_it():
    (across,) = rows(lambda x: layers.lrn(conv(8, 3, name='c')(x), fast=False), 9, 9, 3)
    assert across.receptive_field == 3
    first, within, last = rows(
        lambda x: conv(8, 3, name='d')(layers.lrn_within(conv(8, 3, name='c')(x), n=5, fast=False)),
        19,
        19,
        3,
    )
    assert (within.kind, within.window.kernel) == ('norm', (5, 5))
    assert (first.receptive_field, within.receptive_field, last.receptive_field) == (3, 7, 9)


def test_height_and_width_have_receptive_fields_of_their_own():
    (row,) = rows(lambda x: nn.Conv(2, (5, 1), (3, 1), 'VALID', name='c')(x), 20, 10, 3)
    assert row.receptive_field == (5, 1)
    assert (row.window.kernel, row.window.stride, row.output) == ((5, 1), (3, 1), (6, 10, 2))


@pytest.mark.parametrize('flat', [lambda x: x.reshape(len(x), -1), lambda x: x.mean((1, 2))])
def test_after_a_flatten_or_a_mean_there_is_no_receptive_field(flat):
    *_, last = rows(lambda x: nn.Dense(5, name='fc')(flat(conv(4, 3, name='c')(x))), 8, 8, 3)
    assert (last.layer, last.receptive_field) == ('fc', None)


def test_a_dense_layer_on_a_map_keeps_it():
    _, last = rows(lambda x: nn.Dense(5, name='fc')(conv(4, 3, name='c')(x)), 8, 8, 3)
    assert (last.output, last.receptive_field, last.macs) == ((6, 6, 5), 3, 6 * 6 * 4 * 5)


def test_reshape_keeps_only_the_axes_that_stay_whole():
    assert tracing._kept((1, 6, 6, 256), (1, 9216)) == {0: 0}
    assert tracing._kept((1, 13, 13, 384), (1, 13, 13, 2, 192)) == {0: 0, 1: 1, 2: 2}
    assert tracing._kept((1, 1, 1, 120), (1, 120)) == {0: 0}
    assert tracing._kept((2, 3, 4), (6, 4)) == {2: 1}


# ---- multiply-adds and parameters


def test_multiply_adds_are_half_of_the_operations_that_xla_counts():
    def body(x):
        x = conv(6, 3, 2, name='a', use_bias=False)(x)
        x = conv(8, 3, name='b', use_bias=False, feature_group_count=2)(x)
        return nn.Dense(5, name='fc', use_bias=False)(x.reshape(len(x), -1))

    net, x = Toy(body), jax.ShapeDtypeStruct((1, 15, 11, 4), jnp.float32)
    variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
    compiled = jax.jit(lambda v, x: net.apply(v, x, train=False)).lower(variables, x).compile()
    costs = compiled.cost_analysis()
    assert sum(row.macs for row in rows(body, 15, 11, 4)) == costs['flops'] / 2


def test_biases_norms_and_coefficients_belong_to_the_row_that_they_follow():
    def body(x):
        x = conv(4, 3, name='c')(x)
        x = nn.BatchNorm(use_running_average=True, name='norm_of_c')(x)
        return conv(2, 1, name='d', use_bias=False)(jax.nn.relu(x))

    assert [row.parameters for row in rows(body, 8, 8, 3)] == [3 * 3 * 3 * 4 + 4 + 8, 8]


def test_parameters_that_scale_the_image_itself_have_a_row():
    first, second = rows(
        lambda x: conv(4, 3, name='c', use_bias=False)(
            nn.BatchNorm(use_running_average=True, name='input_norm')(x)
        ),
        8,
        8,
        3,
    )
    assert (first.layer, first.kind, first.parameters) == ('input_norm', 'scale', 6)
    assert second.parameters == 108


def test_what_inference_does_not_read_counts_in_training_alone():
    def body(x):
        y = conv(4, 3, name='c', use_bias=False)(x)
        nn.Dense(7, name='head', use_bias=False)(y.reshape(len(y), -1))
        return y

    read = tracing.trace(Toy(body), (8, 8, 3))
    assert [row.layer for row in read.rows] == ['c']
    assert (read.parameters, read.training_parameters) == (108, 108 + 6 * 6 * 4 * 7)
    assert read.depth == 1


def test_a_convolution_by_constants_counts_nothing():
    def body(x):
        return jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 3, 3)), (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    assert tracing.trace(Toy(body), (8, 8, 3)) == ((), 0, 0, 0)


def test_a_product_of_parameters_alone_counts_nothing():
    class Factored(nn.Module):
        """A dense layer whose kernel is a product of two parameters."""

        @nn.compact
        def __call__(self, x, *, train):
            ones = nn.initializers.ones
            kernel = self.param('a', ones, (192, 2)) @ self.param('b', ones, (2, 5))
            return x.reshape(len(x), -1) @ kernel

    read = tracing.trace(Factored(), (8, 8, 3))
    assert (len(read.rows), read.rows[0].macs) == (1, 192 * 5)
    assert read.parameters == read.rows[0].parameters == 192 * 2 + 2 * 5


def test_a_locally_connected_layer_is_one_row_with_its_window():
    (row,) = rows(lambda x: nn.ConvLocal(5, (3, 3), 2, 'VALID', name='l')(x), 9, 9, 4)
    assert row == tracing.Row(
        'l',
        'local',
        tracing.Window((3, 3), (2, 2)),
        1,
        (4, 4, 5),
        4 * 4 * (36 * 5 + 5),
        4 * 4 * 36 * 5,
        3,
    )


def test_programs_inside_programs_are_read_with_their_names():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jax.jit(jax.nn.relu)(conv(4, 3, 1, 1, 'conv1', use_bias=False)(x))
            return nn.max_pool(x, (3, 3), (1, 1), 'SAME')

    bodies = (lambda x: Block(name='block')(x), lambda x: nn.remat(Block)(name='block')(x))
    got = [rows(body, 8, 8, 4) for body in bodies]
    assert got[0] == got[1]
    assert [(row.layer, row.receptive_field) for row in got[0]] == [
        ('block/conv1', 3),
        ('block/pool', 5),
    ]
    assert got[0][0].parameters == 144


@pytest.mark.parametrize('name', ['lenet5_1998', 'cuda_convnet_11pct', 'googlenet', 'resnet20'])
def test_one_trace_with_the_initialisation_in_front_reads_what_inference_alone_does(
    name, monkeypatch
):
    net, size = cnns.build(name), cnns.NETS[name].input
    once = tracing.trace(net, size)

    def hidden(net, x):
        raise tracing._Hidden

    monkeypatch.setattr(tracing, '_initialised', hidden)
    assert tracing.trace(net, size) == once


def test_depth_is_that_of_the_longest_path():
    def body(x):
        y = conv(3, 3, 1, 1, 'a')(conv(3, 3, 1, 1, 'b')(x))
        return conv(3, 1, name='shortcut')(x) + y

    assert tracing.trace(Toy(body), (8, 8, 3)).depth == 2


def test_stated_multiply_adds_replace_those_of_the_program():
    class Stated(Toy):
        MACS = {'c': 11, 'codes': 7}

    first, second = tracing.trace(Stated(lambda x: conv(4, 3, name='c')(x)), (8, 8, 3)).rows
    assert (first.macs, second.layer, second.macs, second.parameters) == (11, 'codes', 7, 0)


def test_a_loop_over_the_image_is_refused_not_miscounted():
    def body(x):
        return jax.lax.scan(lambda carry, _: (carry * 2, None), x, length=3)[0]

    with pytest.raises(NotImplementedError, match='scan'):
        tracing.trace(Toy(body), (8, 8, 3))


def test_no_weight_is_allocated():
    (row,) = rows(lambda x: nn.Dense(10**8, name='fc')(x.reshape(1, -1)), 100, 100, 10)
    assert (row.parameters, row.macs) == (10**13 + 10**8, 10**13)  # 40 terabytes
