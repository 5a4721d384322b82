"""Measures, each against a value computed by hand or by a plain loop."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnns
from cnns import layers
from cnns.googlenet import Inception, Widths
from experiments import measures, run
from experiments.claims.computed.reading import drawn


def made(name, count=6, side=None, **fields):
    net, (height, width, channels) = cnns.build(name, **fields), cnns.NETS[name].input
    rng = np.random.default_rng(0)
    shape = (count, side or height, side or width, channels)
    images = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, net.classes, count).astype(np.int32)
    return net, drawn(net, shape[1], biases=0.0), images, labels


def of(measure, net, *arrays):
    """What a measure finds, in its order; compiled, as in training."""
    names = []

    def values(*arrays):
        found = measure(net, *arrays)
        names.extend(found)
        return list(found.values())

    found = jax.jit(values)(*arrays)
    return dict(zip(names, found, strict=True))


MLP = dict(name='mlp_300', hidden=(5,), activation='relu')


def by_hand(variables, images):
    """Inputs, sums and outputs of the two layers of an MLP."""
    p = jax.tree.map(np.asarray, variables['params'])
    x = images.reshape(len(images), -1)
    sums = x @ p['fc1']['kernel'] + p['fc1']['bias']
    hidden = np.maximum(sums, 0)
    return p, x, sums, hidden, hidden @ p['fc2']['kernel'] + p['fc2']['bias']


def test_gradient_norms_are_those_of_the_chain_rule_by_hand():
    net, variables, images, labels = made(**MLP)
    p, x, sums, hidden, logits = by_hand(variables, images)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    delta = (softmax - np.eye(10)[labels]) / len(labels)
    back = delta @ p['fc2']['kernel'].T * (sums > 0)
    got = of(measures.gradient_norms, net, variables, images, labels)
    assert list(got) == ['fc1', 'fc2']
    assert float(got['fc1']) == pytest.approx(np.linalg.norm(x.T @ back), rel=1e-4)
    assert float(got['fc2']) == pytest.approx(np.linalg.norm(hidden.T @ delta), rel=1e-4)


class Dropping(layers.Net):
    activation: str = 'relu'
    norm: str = 'batch'

    @nn.compact
    def __call__(self, x, *, train):
        layer = layers.Layers(self, x, train=train, weights=nn.initializers.normal(0.5))
        x = layer.dense('fc1', x, 7, norm=True)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return layer.dense('fc2', x, 10, linear=True)


def test_the_norm_of_a_gradient_whose_squares_are_below_float32_is_not_zero():
    net, variables, images, labels = made(**MLP)
    small = jax.tree.map(lambda leaf: leaf, variables)
    small['params']['fc2']['kernel'] = small['params']['fc2']['kernel'] * 1e-25
    at_once = of(measures.gradient_norms, net, small, images, labels)['fc1']
    # the logits, and so the softmax, are those of a zero kernel: the gradient is in proportion
    small['params']['fc2']['kernel'] = small['params']['fc2']['kernel'] * 1e10
    assert 0 < at_once < 1e-20
    other = of(measures.gradient_norms, net, small, images, labels)['fc1']
    np.testing.assert_allclose(at_once * 1e10, other, rtol=1e-5)


def test_gradient_norms_are_without_dropout_and_with_the_statistics_of_the_batch():
    _, _, images, labels = made(**MLP)
    net = Dropping(channels=1)
    variables = net.init(jax.random.PRNGKey(0), images, train=False)
    got = of(measures.gradient_norms, net, variables, images, labels)
    p = jax.tree.map(np.asarray, variables['params'])

    def loss(kernel):
        sums = images.reshape(len(images), -1) @ p['fc1']['kernel']
        sums = (sums - sums.mean(0)) / np.sqrt(sums.var(0) + 1e-5)
        logits = np.maximum(sums, 0) @ kernel + p['fc2']['bias']
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    wanted = np.linalg.norm(np.ravel(jax.grad(loss)(p['fc2']['kernel'])))
    assert float(got['fc2']) == pytest.approx(wanted, rel=1e-4)


def test_the_correlation_of_channels_is_that_of_each_pair_by_hand():
    net, variables, images, labels = made(**MLP)
    variables['params']['fc1']['bias'] = jnp.ones(5)  # no unit is dead
    _, _, _, hidden, _ = by_hand(variables, images)
    wanted = np.mean(
        [
            abs(np.corrcoef(hidden[:, i], hidden[:, j])[0, 1])
            for i in range(5)
            for j in range(i)
            if hidden[:, i].std() and hidden[:, j].std()
        ]
    )
    got = of(measures.channel_correlations, net, variables, images, labels)
    assert float(got['fc1']) == pytest.approx(wanted, rel=1e-3)


def test_responses_are_the_sums_before_the_activation():
    net, variables, images, labels = made(**MLP)
    _, _, sums, _, logits = by_hand(variables, images)
    got = of(measures.response_deviations, net, variables, images, labels)
    assert float(got['fc1']) == pytest.approx(sums.std(), rel=1e-4)
    assert float(got['fc2']) == pytest.approx(logits.std(), rel=1e-4)
    means = of(measures.response_means, net, variables, images, labels)
    assert float(means['fc1']) == pytest.approx(sums.mean(), rel=1e-3)
    percentiles = of(measures.response_percentiles, net, variables, images, labels)
    wanted = np.percentile(sums[:, 0], [15, 50, 85])
    np.testing.assert_allclose(percentiles['fc1'], wanted, rtol=1e-3)


def test_responses_of_a_layer_with_batch_norm_are_those_after_it():
    net, variables, images, labels = made('resnet20', blocks=1, width=2)
    names = of(measures.response_deviations, net, variables, images, labels)
    assert list(names)[:3] == ['conv1', 'conv2_1/conv1', 'conv2_1/conv2'] and 'fc' in names
    doubled = jax.tree.map(lambda leaf: leaf, variables)
    doubled['params']['conv4_1']['conv2']['norm']['scale'] *= 2
    again = of(measures.response_deviations, net, doubled, images, labels)
    assert float(again['conv4_1/conv2']) == pytest.approx(
        2 * float(names['conv4_1/conv2']), rel=1e-4
    )
    assert again['conv4_1/conv1'] == names['conv4_1/conv1']


def test_a_unit_is_dead_if_no_image_makes_it_positive():
    net, variables, images, labels = made(**MLP)
    variables['params']['fc1']['bias'] = jnp.array([-1e6, 0.0, 1e6, -1e6, 0.0])
    got = of(measures.dead_units, net, variables, images, labels)
    assert float(got['fc1']) == pytest.approx(2 / 5)
    net, variables, images, labels = made('lenet5', activation='relu')
    variables['params']['C3']['conv']['bias'] = jnp.full(16, -1e6).at[0].set(1e6)
    assert float(of(measures.dead_units, net, variables, images, labels)['C3']) == pytest.approx(
        15 / 16
    )


class Corner:
    """Stands in for a net: an image's class is whether its pixel at (2, 2) is above a half."""

    def apply(self, variables, x, *, train):
        return jax.nn.one_hot((x[:, 2, 2, 0] > 0.5).astype(int), 2)


def test_shifted_images_are_moved_as_often_as_said_and_repeat_their_edge():
    images = np.zeros((1, 5, 5, 1), np.float32)
    images[0, 2, 3] = images[0, 3, 2] = images[0, 2, 0] = 1  # the first is one pixel to the right
    got = measures.shift_errors(Corner(), {}, images, np.array([1]))
    # 0: pixel (2, 2) is dark, wrong. 1: left brings (2, 3), up brings (3, 2): two of four right.
    # 2: right brings (2, 0). 3, 4, 5: right repeats the edge, (2, 0): one of four right
    wanted = {'0': 1, '1': 0.5, '2': 0.75, '3': 0.75, '4': 0.75, '5': 0.75}
    assert {name: float(value) for name, value in got.items()} == wanted


class Inceptions(layers.Net):
    """Two of GoogLeNet's blocks and its classifier, with few channels."""

    activation: str = 'relu'
    classes: int = 10

    @nn.compact
    def __call__(self, x, *, train, features=False):
        layer = layers.Layers(self, x, train=train, weights=nn.initializers.normal(0.5))
        for name in ('inception_3a', 'inception_3b'):
            x = layer.block(name, Inception, x, widths=Widths(2, 2, 3, 2, 4, 5))
        x = layer.global_average('average', x)
        return layer.result(layer.dense('fc', x, self.classes, linear=True), features)


@pytest.fixture(scope='module')
def blocks():
    net, rng = Inceptions(), np.random.default_rng(0)
    images = rng.normal(size=(6, 4, 4, 3)).astype(np.float32)
    labels = rng.integers(0, 10, 6)
    init = jax.jit(functools.partial(net.init, train=False))
    return net, init(jax.random.PRNGKey(1), images), images, labels


EDGES = {'1x1': (0, 2), '3x3': (2, 5), '5x5': (5, 9), 'pool_proj': (9, 14)}


def test_a_branch_at_zero_gives_the_block_without_its_channels(blocks):
    """Of the last block, whose channels the classifier averages: by NumPy."""
    net, variables, images, labels = blocks
    apply = jax.jit(functools.partial(net.apply, train=False, features='inception_3b'))
    block = np.asarray(apply(variables, images))
    fc = jax.tree.map(np.asarray, variables['params']['fc'])
    got = of(measures.branch_errors, net, variables, images, labels)
    assert list(got) == ['whole', *measures.branches(variables['params'])] and len(got) == 9
    for branch, (low, high) in EDGES.items():
        x = block.copy()
        x[..., low:high] = 0
        logits = x.mean((1, 2)) @ fc['kernel'] + fc['bias']
        assert float(got[f'inception_3b/{branch}']) == pytest.approx(
            (logits.argmax(1) != labels).mean()
        )
    logits = block.mean((1, 2)) @ fc['kernel'] + fc['bias']
    assert float(got['whole']) == pytest.approx((logits.argmax(1) != labels).mean())
    assert len({float(value) for value in got.values()}) > 1


def test_gradients_by_branch_are_those_of_its_last_convolution(blocks):
    net, variables, images, labels = blocks

    def loss(kernel):
        v = jax.tree.map(lambda x: x, variables)
        v['params']['inception_3a']['3x3']['conv']['kernel'] = kernel
        logits = net.apply(v, images, train=False)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    kernel = variables['params']['inception_3a']['3x3']['conv']['kernel']
    wanted = np.linalg.norm(np.ravel(jax.jit(jax.grad(loss))(kernel)))
    got = of(measures.branch_gradient_norms, net, variables, images, labels)
    assert float(got['inception_3a/3x3']) == pytest.approx(wanted, rel=1e-4)
    assert list(got) == measures.branches(variables['params'])


def test_the_branches_of_googlenet_are_four_of_each_of_its_nine_blocks():
    net = cnns.build('googlenet_32px')
    init = lambda key: net.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
    own = measures.branches(jax.eval_shape(init, jax.random.PRNGKey(0))['params'])
    assert len(own) == 36 and own[:2] == ['inception_3a/1x1', 'inception_3a/3x3']


def test_a_net_without_branches_is_told_so():
    net, variables, images, labels = made(**MLP)
    with pytest.raises(ValueError, match='no blocks with branches'):
        measures.branch_errors(net, variables, images, labels)


def test_a_grey_filter_has_no_colour_and_one_of_opposite_colours_is_all_colour():
    net, variables, images, labels = made('cuda_convnet_19pct', count=1)
    kernel = np.asarray(variables['params']['conv1']['conv']['kernel']).copy()
    kernel[..., 0] = kernel[:, :, :1, 0]  # equal in red, green and blue
    kernel[:, :, :, 1] = np.array([1.0, -1.0, 0.0])
    kernel[:, :, :, 2] = np.array([2.0, 0.0, 1.0])  # mean 1: what is left is 1, -1, 0
    variables['params']['conv1']['conv']['kernel'] = jnp.asarray(kernel)
    got = measures.colour_index(net, variables, images, labels)['conv1']
    assert got.shape == (kernel.shape[-1],)
    np.testing.assert_allclose(got[:3], [0, 1, 2 / 5], atol=1e-6)
    filters = measures.first_filters(net, variables, images, labels)['conv1']
    np.testing.assert_array_equal(filters[1], kernel[..., 1])


def test_the_error_of_permuted_images_is_that_of_the_pixel_that_comes_to_the_same_place():
    images = np.zeros((25, 5, 5, 1), np.float32)
    images.reshape(25, 25)[np.arange(25), np.arange(25)] = 1  # each lights another pixel
    # Corner sees one pixel, so that one image of all is right, after any permutation too
    labels = np.ones(25, np.int64)
    got = measures.permuted_error(Corner(), {}, images, labels)
    assert {name: float(error) for name, error in got.items()} == pytest.approx(
        {'whole': 24 / 25, 'permuted': 24 / 25}
    )
    one_by_one = [
        measures.permuted_error(Corner(), {}, images[[place]], labels[:1]) for place in range(25)
    ]
    right = {
        name: [place for place, found in enumerate(one_by_one) if not found[name]]
        for name in ('whole', 'permuted')
    }
    assert right['whole'] == [12]  # the pixel at (2, 2)
    assert len(right['permuted']) == 1 and right['permuted'] != [12]


def test_every_measure_says_what_it_is_in_one_line():
    assert len(measures.MEASURES) == 12
    for name in measures.MEASURES:
        assert 20 < len(measures.first_line(name)) < 100


def test_the_help_lists_every_measure_with_what_it_is(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit):
        run.main(['--help'])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    listed = lines[lines.index('Measures, for --config.measure.names:') + 1 :]
    assert [line.split(':')[0] for line in listed if line[2] != ' '] == [
        f'  {name}' for name in measures.MEASURES
    ]
    text = ' '.join(' '.join(listed).split())
    for name in measures.MEASURES:
        assert f'{name}: {measures.first_line(name)}' in text
