"""LeNet-5: the paper's table, number by number."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import lenet
from experiments.models import description as models

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)


def shapes(net, images=IMAGES):
    variables = jax.eval_shape(lambda: net.init(jax.random.PRNGKey(0), images, train=False))
    return {
        name: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(layer))
        for name, layer in variables['params'].items()
    }


def maps(net):
    """Output shape of every named layer, without the batch."""
    _, state = jax.eval_shape(
        lambda: net.init_with_output(
            jax.random.PRNGKey(0), IMAGES, train=False, capture_intermediates=True, mutable=True
        )
    )
    return {
        name: layer['__call__'][0].shape[1:]
        for name, layer in state['intermediates'].items()
        if name != '__call__'
    }


def test_the_original_has_60000_parameters_layer_by_layer():
    counts = shapes(lenet.LeNet5Original())
    assert counts == dict(C1=156, S2=12, C3=1516, S4=32, C5=48120, F6=10164)
    assert sum(counts.values()) == 60_000


def test_the_modern_form_has_61706_parameters_layer_by_layer():
    counts = shapes(lenet.LeNet5())
    assert counts == dict(C1=156, C3=2416, C5=48120, F6=10164, OUT=850)
    assert sum(counts.values()) == 61_706


def test_the_maps_are_28_14_10_5_1():
    assert maps(lenet.LeNet5Original()) == {
        'C1': (28, 28, 6),
        'S2': (14, 14, 6),
        'C3': (10, 10, 16),
        'S4': (5, 5, 16),
        'C5': (1, 1, 120),
        'F6': (84,),
    }
    assert maps(lenet.LeNet5()) == {
        'C1': (28, 28, 6),
        'C3': (10, 10, 16),
        'C5': (1, 1, 120),
        'F6': (84,),
        'OUT': (10,),
    }


def test_the_original_has_340908_connections():
    """A connection is a weight or bias used at one place; the RBF units' 840 count too."""
    counts, places = shapes(lenet.LeNet5Original()), maps(lenet.LeNet5Original())
    area = {name: int(np.prod(shape[:-1])) for name, shape in places.items()}
    connections = [counts[name] * area[name] for name in ('C1', 'C3', 'C5', 'F6')]
    # a subsampling unit reads 4 inputs and a bias, though it has only 2 parameters
    connections[1:1] = [5 * 6 * area['S2']]
    connections[3:3] = [5 * 16 * area['S4']]
    connections.append(lenet.CODES.size)
    assert connections == [122304, 5880, 151600, 2000, 48120, 10164, 840]
    assert sum(connections) == 340_908


def test_the_c3_table_has_60_links_and_the_papers_symmetry():
    table = lenet.C3_TABLE
    assert len(table) == 16 and sum(map(len, table)) == 60
    assert [sum(len(column) == n for column in table) for n in (3, 4, 6)] == [6, 9, 1]
    assert all(sum(i in column for column in table) == 10 for i in range(6))
    assert len(set(table)) == 16


def test_c3_reads_the_channels_of_the_table_and_no_other():
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 6)).astype(np.float32)
    layer = lenet.PartialConv()
    variables = layer.init(jax.random.PRNGKey(0), x)
    jacobian = jax.jacobian(lambda x: layer.apply(variables, x)[0, 0, 0])(x)  # [16, 1, 5, 5, 6]
    reads = [tuple(np.flatnonzero(np.abs(jacobian[o]).sum((0, 1, 2)))) for o in range(16)]
    assert reads == list(lenet.C3_TABLE)


def test_c3_is_its_convolution_written_as_a_loop():
    x = np.random.default_rng(0).normal(size=(1, 6, 7, 6)).astype(np.float32)
    layer = lenet.PartialConv()
    variables = layer.init(jax.random.PRNGKey(0), x)
    kernel, bias = variables['params']['kernel'], variables['params']['bias']
    out = np.zeros((1, 2, 3, 16), np.float32)
    link = 0
    for o, column in enumerate(lenet.C3_TABLE):
        out[..., o] += bias[o]
        for i in column:
            for r, c in itertools.product(range(2), range(3)):
                out[0, r, c, o] += (x[0, r : r + 5, c : c + 5, i] * kernel[..., link]).sum()
            link += 1
    np.testing.assert_allclose(layer.apply(variables, x), out, atol=1e-5)


def test_subsampling_is_the_sum_of_four_times_a_coefficient_plus_a_bias():
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 2)).astype(np.float32)
    variables = {'params': {'coefficient': np.float32([2, -1]), 'bias': np.float32([0.5, 3])}}
    got = lenet.Subsampling().apply(variables, x)
    for r, c, m in itertools.product(range(2), range(3), range(2)):
        total = x[0, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2, m].sum()
        assert got[0, r, c, m] == pytest.approx([2, -1][m] * total + [0.5, 3][m], abs=1e-5)


def test_every_weight_of_the_original_is_initialised_within_2_4_over_fan_in_and_fills_it():
    net = lenet.LeNet5Original()
    init = jax.jit(lambda key: net.init(key, IMAGES, train=False))
    params = init(jax.random.PRNGKey(0))['params']
    params = jax.tree.map(np.asarray, params)
    bounds = {'C1': 2.4 / 25, 'S2': 2.4 / 4, 'S4': 2.4 / 4, 'C5': 2.4 / 400, 'F6': 2.4 / 120}
    for name, bound in bounds.items():
        leaves = [np.abs(leaf).max() for leaf in jax.tree.leaves(params[name])]
        assert len(leaves) == 2 and max(leaves) <= bound
        assert max(leaves) > 0.5 * bound
    links = [len(column) for column in lenet.C3_TABLE for _ in column]
    per_link = np.abs(params['C3']['kernel']).max((0, 1)) * 25 * np.array(links) / 2.4
    assert (per_link <= 1).all() and (per_link > 0.5).all()


def test_the_codes_are_ten_different_bitmaps_of_plus_and_minus_one():
    assert lenet.CODES.shape == (10, 84) and set(np.unique(lenet.CODES)) == {-1.0, 1.0}
    distances = [(a != b).sum() for a, b in itertools.combinations(lenet.CODES, 2)]
    assert min(distances) >= 8  # pixels: no two digits are nearly the same code


def test_the_original_answers_with_negative_squared_distances_to_the_codes():
    net = lenet.LeNet5Original()
    numbers = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: numbers.uniform(-0.1, 0.1, leaf.shape).astype(np.float32),
        jax.eval_shape(lambda: net.init(jax.random.PRNGKey(0), IMAGES, train=False)),
    )
    logits, state = net.apply(
        variables, IMAGES, train=False, capture_intermediates=True, mutable=True
    )
    f6 = 1.7159 * np.tanh(2 / 3 * np.asarray(state['intermediates']['F6']['__call__'][0]))
    for n, k in itertools.product(range(2), range(10)):
        assert logits[n, k] == pytest.approx(-sum((f6[n] - lenet.CODES[k]) ** 2), rel=1e-5)


def test_the_rbf_loss_is_equation_9():
    y = np.array([[1.0, 3.0, 0.5], [2.0, 0.1, 7.0]])
    labels = np.array([2, 0])
    expected = [
        0.5 + np.log(np.exp(-0.1) + np.exp(-1) + np.exp(-3) + np.exp(-0.5)),
        2.0 + np.log(np.exp(-0.1) + np.exp(-2) + np.exp(-0.1) + np.exp(-7)),
    ]
    np.testing.assert_allclose(lenet.rbf_loss(-y, labels), expected, rtol=1e-5)


def test_the_rbf_loss_and_its_gradient_stay_finite_far_from_every_code():
    value, gradient = jax.value_and_grad(lambda x: lenet.rbf_loss(x, jnp.array([0])).sum())(
        jnp.full((1, 10), -4000.0)
    )
    assert float(value) == pytest.approx(4000 - 0.1, rel=1e-6)
    # far from all codes exp(-j) takes everything: the label is pulled, no other class is pushed
    np.testing.assert_allclose(gradient, [[-1] + [0] * 9], atol=1e-6)


def test_without_the_constant_the_rbf_loss_is_cross_entropy():
    logits = -np.random.default_rng(0).uniform(0, 5, (4, 10)).astype(np.float32)
    labels = np.array([1, 2, 3, 4])
    crossed = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(lenet.rbf_loss(logits, labels, j=1e6), crossed, rtol=1e-5)


@pytest.mark.parametrize('name', ['lenet5', 'lenet5_1998'])
def test_another_image_size_is_refused_with_the_right_one(name):
    with pytest.raises(ValueError, match=r'takes images \[N, 32, 32, C\].*\(2, 28, 28, 1\)'):
        shapes(cnns.build(name), IMAGES[:, :28, :28])


def test_the_original_refuses_what_its_codes_cannot_express():
    with pytest.raises(ValueError, match='codes for 10 classes.*given 7 classes'):
        shapes(lenet.LeNet5Original(classes=7))
    with pytest.raises(ValueError, match='3 channels'):
        shapes(lenet.LeNet5Original(), np.zeros((1, 32, 32, 3)))


def test_each_choice_of_1998_can_be_taken_back_alone():
    own = dict(C1=156, S2=12, C3=1516, S4=32, C5=48120, F6=10164)
    plain = {name: own[name] for name in own if name not in ('S2', 'S4')}
    assert shapes(lenet.LeNet5Original(links='full')) == own | dict(C3=2416)
    for kind in ('average', 'max'):
        assert shapes(lenet.LeNet5Original(subsampling=kind)) == plain
    assert shapes(lenet.LeNet5Original(head='linear')) == own | dict(OUT=850)


def test_plain_pools_have_neither_coefficient_nor_activation():
    numbers = np.random.default_rng(0)
    for kind, reduce in (('average', np.mean), ('max', np.max)):
        net = lenet.LeNet5Original(subsampling=kind)
        made = jax.eval_shape(
            functools.partial(net.init, train=False), jax.random.PRNGKey(0), IMAGES
        )
        variables = jax.tree.map(
            lambda leaf: numbers.uniform(-0.5, 0.5, leaf.shape).astype(np.float32), made
        )
        before, after = (
            net.apply(variables, IMAGES, train=False, features=f) for f in ('C1', 'S2')
        )
        blocks = np.asarray(before).reshape(2, 14, 2, 14, 2, 6)
        np.testing.assert_allclose(after, reduce(blocks, axis=(2, 4)), rtol=1e-4, atol=1e-5)


def test_multiply_adds_follow_the_links_and_the_head():
    macs = {'links': 'full', 'head': 'linear'}
    found = [models.describe('lenet5_1998', **{f: v})['macs'] for f, v in macs.items()]
    assert found == [326_520 + 36 * 25 * 100, 326_520]  # a linear head has as many as the codes


@pytest.mark.parametrize('field', ['links', 'subsampling', 'head'])
def test_an_unknown_choice_names_those_there_are(field):
    with pytest.raises(ValueError, match=f"unknown {field} 'none'.*Allowed: "):
        cnns.build('lenet5_1998', **{field: 'none'})
