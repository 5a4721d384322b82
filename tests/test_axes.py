"""Every net on every axis: nothing leaks from one value into another, one factor at a time."""

import itertools

import jax
import numpy as np
import pytest

import cnns
from cnns import layers

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
CASES = [(name, axis, value) for name in cnns.names() for axis in cnns.axes(name)
         for value in layers.AXES[axis]]
# What a jaxpr shows of each activation: the primitive, which no other one uses.
MARKS = {'tanh': 'tanh', 'scaled_tanh': 'tanh', 'relu': 'relu', 'sigmoid': 'logistic'}


def primitives(jaxpr):
    """Names of all primitives and inner functions of a jaxpr, however deep.

    A window over channels alone is LRN's, not a pool's: it gets a name of its own.
    """
    found = set()
    for equation in jaxpr.eqns:
        window = equation.params.get('window_dimensions', ())
        over_channels = bool(window) and max(window[:-1]) == 1
        found |= {equation.primitive.name + ' over channels' * over_channels,
                  str(equation.params.get('name', ''))}
        for value in jax.tree.leaves(list(equation.params.values()),
                                     is_leaf=lambda v: hasattr(v, 'jaxpr') or hasattr(v, 'eqns')):
            inner = getattr(value, 'jaxpr', value)
            if hasattr(inner, 'eqns'):
                found |= primitives(inner)
    return found


def traced(net, images=IMAGES):
    variables = jax.eval_shape(lambda: net.init(jax.random.PRNGKey(0), images, train=False))
    jaxpr = jax.make_jaxpr(lambda v, x: net.apply(v, x, train=True, mutable=['batch_stats']))(
        variables, images)
    return variables, primitives(jaxpr.jaxpr), jaxpr.out_avals[0].shape


def filled(net, images=IMAGES):
    """Variables of a net, filled by NumPy: an initialisation that compiles nothing."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.PRNGKey(0), images, train=False))
    numbers = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: numbers.uniform(-0.1, 0.1, leaf.shape).astype(leaf.dtype), shapes)


def count(variables):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables['params']))


# One axis flipped; and every pool with every norm, since both are windows.
SETTINGS = [(name, {axis: value}) for name, axis, value in CASES] + [
    (name, dict(pool=pool, norm=norm, activation='relu', overlap=True)) for name in cnns.names()
    if {'pool', 'norm'} <= set(cnns.axes(name))
    for pool, norm in itertools.product(layers.POOLS, layers.NORMS)]


@pytest.mark.parametrize('name, changes', SETTINGS, ids=str)
def test_no_axis_leaks(name, changes):
    settings = cnns.axes(name) | changes
    variables, found, _ = traced(cnns.build(name, **settings))
    wanted = MARKS[settings['activation']]
    for mark in MARKS.values():
        assert (mark in found) == (mark == wanted), mark
    if 'pool' in settings:
        assert ('reduce_window_max' in found) == (settings['pool'] == 'max')
        assert ('reduce_window_sum' in found) == (settings['pool'] == 'average')
    if 'norm' in settings:
        assert ('batch_stats' in variables) == (settings['norm'] == 'batch')
        assert ('rsqrt' in found) == (settings['norm'] == 'batch')
        assert ('reduce_window_sum over channels' in found) == (settings['norm'] == 'lrn')


@pytest.mark.parametrize('name, axis, value', [c for c in CASES if c[1] != 'norm'])
def test_one_factor_at_a_time(name, axis, value):
    default, _, shape = traced(cnns.build(name))
    changed, _, changed_shape = traced(cnns.build(name, **{axis: value}))
    assert count(changed) == count(default) and changed_shape == shape == (2, 10)


def test_norm_changes_the_parameters_of_lenet5_by_scale_and_shift_less_the_bias():
    counts = {norm: count(traced(cnns.build('lenet5', norm=norm))[0]) for norm in layers.NORMS}
    channels = 6 + 16 + 120
    assert counts == {'none': 61706, 'lrn': 61706, 'batch': 61706 - channels + 2 * channels}


@pytest.mark.parametrize('name, axis, value', CASES)
def test_every_value_changes_the_output_unless_it_is_the_default(name, axis, value):
    def logits(**fields):
        net = cnns.build(name, **fields)
        return net.apply(filled(net), IMAGES, train=True, mutable=['batch_stats'])[0]

    changed = logits(**{axis: value})
    assert np.array_equal(changed, logits()) == (value == cnns.axes(name)[axis])
    assert np.isfinite(changed).all()


@pytest.mark.parametrize('name', cnns.names())
def test_bfloat16_computes_with_float32_parameters_and_float32_logits(name):
    net = cnns.build(name, dtype=jax.numpy.bfloat16)
    variables = filled(net)  # in the dtypes that init declares
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}
    logits = net.apply(variables, IMAGES, train=False)
    exact = cnns.build(name).apply(variables, IMAGES, train=False)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max() + 0.05


@pytest.mark.parametrize('name', cnns.names())
def test_train_is_a_required_keyword(name):
    with pytest.raises(TypeError, match='train'):
        cnns.build(name).init(jax.random.PRNGKey(0), IMAGES)
    with pytest.raises(TypeError):
        cnns.build(name).init(jax.random.PRNGKey(0), IMAGES, False)
