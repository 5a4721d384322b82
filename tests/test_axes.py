"""Every net on every axis: nothing leaks from one value into another, one factor at a time.

Nets that differ in nothing but the number of blocks or units run the same code: the smallest of
them is tested here, and each has its exact numbers in test_nets.py.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnns
from cnns import axes, googlenet, layers

SIZES = ('blocks', 'hidden')  # fields that repeat the same code


def _families():
    first = {}
    for name, entry in cnns.NETS.items():
        code = {field: value for field, value in entry.fields.items() if field not in SIZES}
        first.setdefault((entry.net, entry.input, str(sorted(code.items()))), name)
    return tuple(first.values())


NAMES = _families()
# Nets that run the code of another one on other rows, without some or with some more (a head, the
# shortcuts).
OTHER_ROWS = (
    'cuda_convnet_80sec',
    'cuda_convnet_19pct',
    'cuda_convnet_13pct',
    'alexnet',
    'alexnet_ungrouped',
    'alexnet_one_tower',
    'vgg11',
    'vgg11_lrn',
    'vgg13',
    'vgg16_1x1',
    'vgg16',
    'vgg19',
    'vgg16_32px',
    'googlenet',
    'resnet50',
    'plain18',
    'plain50',
    'plain20',
)
OWN_CODE = tuple(name for name in NAMES if name not in OTHER_ROWS)
CHEAP = ('lenet5', 'lenet5_1998', 'mlp_300', 'mlp_batchnorm')  # a step takes a second to compile
CASES = [
    (name, axis, value)
    for name in NAMES
    for axis in cnns.axes_of(name)
    for value in cnns.values(name, axis)
]
FLIPS = [(name, axis, value) for name, axis, value in CASES if value != cnns.axes_of(name)[axis]]
# What a jaxpr shows of an activation: a primitive, or an inner function, that few others use.
MARKS = ('tanh', 'relu', 'logistic')


def inside(jaxpr):
    """The equations of a jaxpr, however deep."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, 'jaxpr') or hasattr(v, 'eqns'),
        ):
            inner = getattr(value, 'jaxpr', value)
            if hasattr(inner, 'eqns'):
                yield from inside(inner)


def marks(jaxpr):
    """Names of all primitives and inner functions; windows by what they cover.

    'reduce_window_max by 2' is a downsampling pool, 'by 1' keeps the size, 'by 3' is the average
    of GoogLeNet's auxiliary classifiers; a window over channels is LRN's.
    """
    found = set()
    for equation in inside(jaxpr):
        name = equation.primitive.name
        if 'window_dimensions' in equation.params:
            over_space = max(equation.params['window_dimensions'][:-1]) > 1
            stride = max(equation.params['window_strides'])
            name += f' by {stride}' if over_space else ' over channels'
        found |= {name, str(equation.params.get('name', ''))}
    return found


def images_of(name, side=None, count=2):
    height, width, channels = cnns.NETS[name].input
    return jax.ShapeDtypeStruct((count, side or height, side or width, channels), jnp.float32)


def init(net, images):
    return jax.eval_shape(lambda x: net.init(jax.random.PRNGKey(0), x, train=False), images)


@functools.cache
def traced(name, **fields):
    """Variables, marks and shape of the logits; of one trace, which initialises and trains."""
    # The plain forms: a fast one shows the operations of every platform
    net, keys = cnns.build(name, **fields, fast=False), jax.random.split(jax.random.PRNGKey(0))
    jaxpr, (logits, variables) = jax.make_jaxpr(
        lambda x: net.init_with_output(dict(zip(('params', 'dropout'), keys)), x, train=True),
        return_shape=True,
    )(images_of(name))
    return variables, marks(jaxpr.jaxpr), logits.shape


def count(variables):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables['params']))


def every_axis_flipped(name):
    return {axis: value for other, axis, value in FLIPS if other == name}


# One axis flipped (all of them at once where the code is another net's: one by one is long); and
# every pool with every norm, since both are windows.
SETTINGS = (
    [(name, {}) for name in NAMES]
    + [(name, every_axis_flipped(name)) for name in OTHER_ROWS]
    + [
        pytest.param(name, {axis: value}, marks=[pytest.mark.long] * (name in OTHER_ROWS))
        for name, axis, value in FLIPS
    ]
    + [
        (name, dict(pool=pool, norm=norm, activation='tanh', overlap=True))
        for name in ('lenet5', 'alexnet_32px', 'googlenet_32px', 'cuda_convnet_11pct')
        for pool, norm in itertools.product(axes.POOLS, axes.NORMS)
    ]
)


def test_the_activations_of_the_papers_have_their_marks():
    shown = {
        name: [mark for mark in MARKS if mark in marks(jax.make_jaxpr(function)(1.0).jaxpr)]
        for name, function in axes.ACTIVATIONS.items()
    }
    assert (
        shown
        | {'tanh': ['tanh'], 'scaled_tanh': ['tanh'], 'relu': ['relu'], 'sigmoid': ['logistic']}
        == shown
    )


@pytest.mark.parametrize('name, changes', SETTINGS, ids=str)
def test_no_axis_leaks(name, changes):
    settings = cnns.axes_of(name) | changes
    variables, found, _ = traced(name, **settings)
    own = marks(jax.make_jaxpr(axes.ACTIVATIONS[settings['activation']])(1.0).jaxpr)
    for mark in MARKS:
        assert (mark in found) == (mark in own), mark
    if 'pool' in settings:
        assert ('reduce_window_max by 2' in found) == (settings['pool'] in ('max', 'mixed'))
        assert ('reduce_window_sum by 2' in found) == (settings['pool'] in ('average', 'mixed'))
    if 'norm' in settings:
        assert ('batch_stats' in variables) == (settings['norm'] in ('batch', 'batch+lrn'))
        assert ('rsqrt' in found) == (settings['norm'] in ('batch', 'batch+lrn'))
        lrn = 'reduce_window_sum by 1' if '18pct' in name else 'reduce_window_sum over channels'
        assert (lrn in found) == (settings['norm'] in ('lrn', 'batch+lrn'))


@pytest.mark.parametrize(
    'name', [*OWN_CODE, *(pytest.param(name, marks=pytest.mark.long) for name in OTHER_ROWS)]
)
def test_one_factor_at_a_time(name):
    usual = cnns.axes_of(name)
    variables, _, shape = traced(name, **usual)
    assert shape == (2, cnns.build(name).classes)
    for axis in set(usual) - {'norm'}:
        for value in set(cnns.values(name, axis)) - {usual[axis]}:
            changed, _, got = traced(name, **usual | {axis: value})
            assert count(changed) == count(variables) and got == shape, (axis, value)


def test_a_new_activation_is_one_line_of_axes(monkeypatch):
    monkeypatch.setitem(axes.ACTIVATIONS, 'softsign', jax.nn.soft_sign)
    assert 'softsign' in cnns.values('lenet5', 'activation')
    cnns.build('lenet5', activation='softsign')
    x = jnp.asarray([-3.0, 1.0])
    np.testing.assert_allclose(layers.activate(x, 'softsign'), [-0.75, 0.5])
    test_no_axis_leaks('lenet5', {'activation': 'softsign'})  # it needs no line of its own


def test_norm_changes_the_parameters_of_lenet5_by_scale_and_shift_less_the_bias():
    counts = {
        norm: count(init(cnns.build('lenet5', norm=norm), images_of('lenet5')))
        for norm in axes.NORMS
    }
    channels = 6 + 16 + 120
    batch = 61706 - channels + 2 * channels
    assert counts == {'none': 61706, 'lrn': 61706, 'batch': batch, 'batch+lrn': batch}


def test_batch_norm_and_lrn_together_are_one_after_the_other_with_the_activation_between():
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 5)).astype(np.float32)
    layer = layers.Conv(7, 3, 'relu', 'batch+lrn', fast=False)
    variables = layer.init(jax.random.PRNGKey(0), x, train=True)
    got, _ = layer.apply(variables, x, train=True, mutable=['batch_stats'])
    kernel = variables['params']['conv']['kernel']
    sums = np.zeros((3, 2, 2, 7), np.float32)
    for r, c in itertools.product(range(2), range(2)):
        sums[:, r, c] = np.tensordot(x[:, r : r + 3, c : c + 3], kernel, 3)
    active = (sums - sums.mean((0, 1, 2))) / np.sqrt(sums.var((0, 1, 2)) + 1e-5)
    active = np.maximum(active, 0)
    wanted = np.zeros_like(active)
    for i in range(7):
        near = (active[..., max(i - 2, 0) : i + 3] ** 2).sum(-1)
        wanted[..., i] = active[..., i] / (2 + 1e-4 * near) ** 0.75
    np.testing.assert_allclose(got, wanted, atol=1e-5)


# A step is run once: compiling it well would cost more than it saves.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
# Fields that keep the code of a net and shrink what a step costs, and the side of its images.
SMALL = {
    'AlexNet': (dict(widths=(8, 8, 12, 12, 8), units=16), None),
    'VGG': (dict(widths=(4, 4, 8, 8, 8), units=16), None),
    'GoogLeNet': (dict(), None),
    'ResNet': (dict(blocks=(1, 1), width=4), 64),
    'CifarResNet': (dict(blocks=1, width=4), 16),
}


def shrunk(name, monkeypatch, **fields):
    """The net with few channels and blocks, and images for it."""
    kind = cnns.NETS[name].net.__name__
    small, side = SMALL.get(kind, ({}, None))
    if kind == 'GoogLeNet':  # narrow, and one block only, with its auxiliary classifier
        rows = {
            layer: widths and googlenet.Widths(*(max(width // 16, 1) for width in widths))
            for layer, widths in googlenet.ROWS.items()
            if widths is None or layer[-2:] == '4a'
        }
        monkeypatch.setattr(googlenet, 'ROWS', rows)
    net = cnns.build(name, **small | fields, classes=10)
    shape = images_of(name, side, count=4).shape
    return net, np.random.default_rng(0).normal(size=shape).astype(np.float32)


def filled(net, images):
    """Variables of a net, filled by NumPy with He's deviation: compiles nothing."""
    numbers = np.random.default_rng(0)

    def fill(path, leaf):
        name = path[-1].key
        if name in ('scale', 'var'):
            return np.ones(leaf.shape, np.float32)
        fan_in = max(np.prod(leaf.shape[:-1]), 1)
        deviation = 0.1 if name == 'bias' else np.sqrt(2 / fan_in)
        return (deviation * numbers.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, init(net, images))


def flips_of(name):
    return [{axis: value} for other, axis, value in FLIPS if other == name]


def flips_side_by_side(name):
    """Every value of every axis in few settings: overlap by itself, which no mark shows above."""
    others = [
        [{axis: value} for other, axis, value in FLIPS if (other, axis) == (name, one)]
        for one in cnns.axes_of(name)
        if one != 'overlap'
    ]
    together = [
        dict(pair for flip in flips if flip for pair in flip.items())
        for flips in itertools.zip_longest(*others)
    ]
    return [flip for flip in flips_of(name) if 'overlap' in flip] + together


# Every setting is a program to compile. The nets that take longest have two of them in the next
# test, which runs each value of their axes but some activations; those are one function in layers.
@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=[pytest.mark.long] * (name not in CHEAP)) for name in OWN_CODE],
)
def test_one_step_lowers_the_loss_at_every_value_of_every_axis(name, monkeypatch):
    settings = flips_side_by_side(name)
    assert {pair for setting in settings for pair in setting.items()} == {
        pair for flip in flips_of(name) for pair in flip.items()
    }
    train_a_step(name, [{}, *settings], monkeypatch)


# Of OTHER_ROWS the bottleneck; the long test has them all
@pytest.mark.parametrize('name', [*(name for name in OWN_CODE if name not in CHEAP), 'resnet50'])
def test_one_step_lowers_the_loss_as_published_and_with_every_axis_flipped(name, monkeypatch):
    train_a_step(name, [{}, every_axis_flipped(name)], monkeypatch)


@pytest.mark.long  # minutes, for code that the tests above have run
@pytest.mark.parametrize('name', NAMES)
def test_one_step_lowers_the_loss_at_every_value_by_itself(name, monkeypatch):
    train_a_step(name, [{}, *flips_of(name)], monkeypatch)


def train_a_step(name, settings, monkeypatch):
    labels = np.arange(4) % 10
    seen = {}
    for changes in settings:
        net, images = shrunk(name, monkeypatch, **changes)
        variables = filled(net, images)
        stats = variables.get('batch_stats', {})

        @functools.partial(jax.jit, compiler_options=QUICK)
        @functools.partial(jax.value_and_grad, has_aux=True)
        def loss(params, net=net, stats=stats, images=images):
            logits, state = net.apply(
                {'params': params, 'batch_stats': stats},
                images,
                train=True,
                rngs={'dropout': jax.random.PRNGKey(1)},
                mutable=['batch_stats', 'auxiliary'],
            )
            every = [logits, *state.get('auxiliary', {}).values()]
            return sum(
                optax.softmax_cross_entropy_with_integer_labels(one, labels).mean() for one in every
            ), logits

        (before, logits), gradient = jax.device_get(loss(variables['params']))
        squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradient))
        rate = 0.02 * before / squares  # to first order: 2 % off the loss
        (after, _), _ = loss(
            jax.tree.map(lambda p, g, r=rate: p - r * g, variables['params'], gradient)
        )
        assert np.isfinite(logits).all() and logits.dtype == np.float32, changes
        assert after < before, changes
        seen[str(changes)] = logits
    for one, other in itertools.combinations(seen, 2):
        assert not np.array_equal(seen[one], seen[other]), (one, other)


@pytest.mark.parametrize('name', NAMES)
def test_bfloat16_computes_with_float32_parameters_and_float32_logits(name, monkeypatch):
    net, images = shrunk(name, monkeypatch)
    # the fast LRN has a product of its own, in float32 by design
    half = net.clone(dtype=jnp.bfloat16, fast=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(init(half, images))} == {np.dtype('float32')}
    jaxpr = jax.make_jaxpr(lambda v, x: half.apply(v, x, train=False))(init(half, images), images)
    assert jaxpr.out_avals[0].dtype == np.float32
    weighted = [
        equation
        for equation in inside(jaxpr.jaxpr)
        if equation.primitive.name in ('conv_general_dilated', 'dot_general')
        and equation.outvars[0].aval.shape[:1] == images.shape[:1]
    ]
    assert weighted
    assert {equation.outvars[0].aval.dtype for equation in weighted} == {np.dtype('bfloat16')}


def test_bfloat16_is_close_to_float32():
    for name in ('lenet5', 'lenet5_1998'):
        images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
        variables = filled(cnns.build(name), images)
        nets = cnns.build(name), cnns.build(name, dtype=jnp.bfloat16)
        exact, half = (
            jax.jit(functools.partial(net.apply, train=False))(variables, images) for net in nets
        )
        assert 0 < np.abs(half - exact).max() < 0.05 * np.abs(exact).max() + 0.05
