"""Updates against plain loops of the papers' formulas; schedules against the papers' numbers."""

import json
import math

import jax
import numpy as np
import optax
import pytest

from configs import base
from experiments.errors import UserError
from experiments.plan import checks, optimisers
from experiments.plan import config as configs
from experiments.train import optim

PARAMS = {
    'conv1': {
        'conv': {'kernel': np.float32([[1.0, -2.0], [0.5, 3.0]]), 'bias': np.float32([0.3, -0.7])}
    },
    'fc10': {'kernel': np.float32([[2.0], [-1.0]]), 'bias': np.float32([0.1])},
}
RATES = (0.1, 0.1, 0.1, 0.01, 0.01, 0.001)  # falls in between


def config_of(**changes):
    config = base.get_config()
    for path, value in changes.items():
        configs.set_field(config, 'train.' + path.replace('__', '.'), value)
    checks.resolve(config)
    return config


def gradients(step):
    """Gradients that do not depend on the parameters, so that loops need no net."""
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda w: rng.normal(size=w.shape).astype(np.float32), PARAMS)


def updated(config, rates=RATES):
    update = optim.update_of(config, PARAMS)
    params, state = PARAMS, update.init(PARAMS)
    move = jax.jit(lambda *given, rate: update.update(*given, learning_rate=rate))
    for step, rate in enumerate(rates):
        moves, state = move(gradients(step), state, params, rate=np.float32(rate))
        params = optax.apply_updates(params, moves)
    return params


def leaves(tree):
    return {
        (path[0].key, path[-1].key): np.float64(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_equal(tree, expected):
    for name, leaf in leaves(tree).items():
        np.testing.assert_allclose(leaf, expected[name], rtol=2e-5, atol=1e-6, err_msg=str(name))


def alexnet(w, name):
    """v <- 0.9 v - 0.0005 e w - e g; w <- w + v (Krizhevsky et al. 2012, Sec. 5)."""
    v = 0 * w
    for step, e in enumerate(RATES):
        v = 0.9 * v - 0.0005 * e * w - e * leaves(gradients(step))[name]
        w = w + v
    return w


def caffe(w, name):
    """AlexNet's rule, biases with twice the learning rate and no decay."""
    v = 0 * w
    double, decay = (2, 0) if name[1] == 'bias' else (1, 0.0005)
    for step, e in enumerate(RATES):
        v = 0.9 * v + double * e * (leaves(gradients(step))[name] + decay * w)
        w = w - v
    return w


def pytorch(w, name):
    """buf = m buf + (g + wd p); p = p - lr buf, as torch.optim.SGD documents it."""
    buf = 0 * w
    for step, e in enumerate(RATES):
        buf = 0.9 * buf + (leaves(gradients(step))[name] + 0.0005 * w)
        w = w - e * buf
    return w


def pytorch_nesterov(w, name):
    buf = 0 * w
    for step, e in enumerate(RATES):
        g = leaves(gradients(step))[name] + 0.0005 * w
        buf = 0.9 * buf + g
        w = w - e * (g + 0.9 * buf)
    return w


def caffe_nesterov(w, name):
    """h = m h + e g; w = w - ((1 + m) h - m h_before), as Caffe's Nesterov solver."""
    h = 0 * w
    for step, e in enumerate(RATES):
        before, h = h, 0.9 * h + e * (leaves(gradients(step))[name] + 0.0005 * w)
        w = w - (1.9 * h - 0.9 * before)
    return w


def cuda_convnet(w, name):
    """Decay 0.004, of fc10's weights 3; biases without decay, their learning rate doubled."""
    v = 0 * w
    double, decay = (2, 0) if name[1] == 'bias' else (1, {'conv1': 0.004, 'fc10': 3}[name[0]])
    for step, e in enumerate(RATES):
        v = 0.9 * v - double * e * decay * w - double * e * leaves(gradients(step))[name]
        w = w + v
    return w


@pytest.mark.parametrize(
    'rule, fields',
    [
        (alexnet, dict(rate_in_velocity=True)),
        (caffe, dict(rate_in_velocity=True, bias_rate=2.0, bias_decay=0.0)),
        (pytorch, {}),
        (pytorch_nesterov, dict(rule='nesterov')),
        (caffe_nesterov, dict(rule='nesterov', rate_in_velocity=True)),
        (
            cuda_convnet,
            dict(
                rate_in_velocity=True,
                bias_rate=2.0,
                bias_decay=0.0,
                weight_decay=0.004,
                layer_decay__fc10=3.0,
            ),
        ),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_the_update_is_the_papers_formula_through_two_falls_of_the_learning_rate(rule, fields):
    params = updated(config_of(**dict(weight_decay=0.0005) | fields))
    assert_equal(params, {name: rule(w, name) for name, w in leaves(PARAMS).items()})


def test_inside_and_outside_are_the_same_until_the_learning_rate_falls():
    inside, outside = config_of(rate_in_velocity=True), config_of()
    assert_equal(updated(inside, RATES[:3]), leaves(updated(outside, RATES[:3])))
    a, b = (leaves(updated(config, RATES[:4]))['conv1', 'kernel'] for config in (inside, outside))
    assert np.abs(a - b).max() > 0.1


def test_a_gradient_longer_than_the_bound_is_scaled_down_as_one_vector_before_the_decay():
    norm = math.sqrt(sum((g**2).sum() for g in leaves(gradients(0)).values()))
    for bound, scale in ((norm / 4, 0.25), (2 * norm, 1.0)):
        params = updated(config_of(clip=bound, weight_decay=0.5), RATES[:1])
        assert_equal(
            params,
            {
                name: w - 0.1 * (scale * leaves(gradients(0))[name] + 0.5 * w)
                for name, w in leaves(PARAMS).items()
            },
        )


def test_the_average_weighs_the_parameters_of_all_steps_and_not_their_start():
    average, values = optim.average(0.8), [3.0, -1.0, 2.0, 5.0]
    state = average.init(np.float32(100))
    for value in values:
        got, state = average.update(np.float32(value), state)
    weights = [0.8 ** (3 - index) for index in range(4)]
    assert got == pytest.approx(np.dot(weights, values) / sum(weights), rel=1e-5)


def test_smoothed_labels_give_the_cross_entropy_to_the_mixed_distribution():
    logits, labels = np.float32([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), np.array([0, 2])
    for row, label, loss in zip(logits, labels, optim.smoothed(0.3)(logits, labels)):
        p = np.exp(row) / np.exp(row).sum()
        q = np.full(3, 0.1)
        q[label] += 0.7
        assert loss == pytest.approx(-(q * np.log(p)).sum(), rel=1e-5)


def test_a_layer_that_the_net_lacks_is_named_with_the_nearest():
    with pytest.raises(
        UserError, match="layer of lenet5 in train.layer_decay 'fc1'. Did you mean 'fc10'"
    ):
        optim.update_of(config_of(layer_decay__fc1=1.0), PARAMS)


# --- optimisers of optax -----------------------------------------------------------------------


def by_optax(rule, given):
    """Plain optax: the rate is a schedule of its own count, the decay its own argument or L2."""
    rate = lambda count: jax.numpy.asarray(RATES, np.float32)[count]
    rate = RATES[0] if rule in UNSCHEDULED else rate
    own = optimisers.decay_field(rule)
    update = getattr(optax, rule)(rate, **given, **({own: 0.01} if own else {}))
    update = update if own else optax.chain(optax.add_decayed_weights(0.01), update)
    params, state = PARAMS, update.init(PARAMS)
    move = jax.jit(update.update)
    for step in range(len(RATES)):
        moves, state = move(gradients(step), state, params)
        params = optax.apply_updates(params, moves)
    return params


UNSCHEDULED = ('sm3', 'fromage')  # take no schedule, in some versions of optax
FIELDS = dict(adamw=dict(b1=0.7, nesterov=True), rmsprop=dict(momentum=0.5, centered=True))


# One of each way to be made: with fields, with a decay of its own, without a schedule, and others
WAYS = ('adam', 'adamw', 'rmsprop', 'lion', 'lamb', 'lars', 'adafactor', 'sm3', 'fromage')


@pytest.mark.parametrize(
    'rule',
    [
        pytest.param(rule, marks=[pytest.mark.long] * (rule not in WAYS))
        for rule in optimisers.names()
    ],
)
def test_an_optimiser_by_name_is_that_of_optax_with_the_rate_as_its_schedule(rule):
    given = FIELDS.get(rule, {})
    changes = {f'optimiser_fields__{name}': value for name, value in given.items()}
    config = config_of(rule=rule, weight_decay=0.01, **changes)
    rates = (RATES[0],) * len(RATES) if rule in UNSCHEDULED else RATES
    assert_equal(updated(config, rates), leaves(by_optax(rule, given)))


def adamw(w, name):
    """m, v: averages of g, g^2; w <- w - e (m' / (sqrt(v') + eps) + d w) (arXiv 1711.05101).

    Biases have twice the learning rate and no decay, fc10 a decay of its own.
    """
    bias = name[1] == 'bias'
    factor, decay = (2, 0) if bias else (1, {'conv1': 0.1, 'fc10': 0.5}[name[0]])
    m = v = 0 * w
    for step, e in enumerate(RATES):
        g = leaves(gradients(step))[name]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        whole = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
        move = m / whole[0] / (np.sqrt(v / whole[1]) + 1e-8)
        w = w - factor * e * (move + decay * w)
    return w


def test_adamw_shrinks_each_parameter_by_its_own_decay_beside_the_gradient():
    fields = dict(bias_rate=2.0, bias_decay=0.0, weight_decay=0.1, layer_decay__fc10=0.5)
    params = updated(config_of(rule='adamw', **fields))
    assert_equal(params, {name: adamw(w, name) for name, w in leaves(PARAMS).items()})


def test_without_weight_decay_adamw_has_none_and_not_the_one_of_optax():
    assert_equal(updated(config_of(rule='adamw')), leaves(updated(config_of(rule='adam'))))


@pytest.mark.parametrize('rule', ['lamb', 'lars', 'adafactor', 'sm3'])
def test_groups_of_parameters_with_optimisers_of_their_own_move_as_under_one(rule):
    one = config_of(rule=rule, weight_decay=0.01)
    groups = config_of(rule=rule, weight_decay=0.01, layer_decay__fc10=0.01 * (1 + 1e-12))
    assert_equal(updated(groups), leaves(updated(one)))


def test_a_new_learning_rate_is_an_argument_of_the_update_and_traces_nothing_again():
    update, traced = optim.update_of(config_of(rule='lion', bias_rate=2.0), PARAMS), []

    @jax.jit
    def step(gradient, state, rate):
        traced.append(rate)
        return update.update(gradient, state, PARAMS, learning_rate=rate)

    state = update.init(PARAMS)
    for number, rate in enumerate(RATES):
        _, state = step(gradients(number), state, np.float32(rate))
    assert len(traced) == 1


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(rule='adamww'), "value of train.rule 'adamww'. Did you mean 'adamw'"),
        (dict(rule='lbfgs'), "unknown value of train.rule 'lbfgs'"),
        (
            dict(rule='lion', optimiser_fields__b3=0.9),
            "unknown field of optax.lion in train.optimiser_fields 'b3'. Allowed: b1, b2, mu",
        ),
        (
            dict(rule='adam', optimiser_fields__b1='high'),
            'train.optimiser_fields.b1 of optax.adam takes a number',
        ),
        (dict(rule='adamw', optimiser_fields__weight_decay=0.1), 'its own: train.weight_decay'),
        (dict(rule='adam', optimiser_fields__learning_rate=0.1), 'its own: train.rate'),
        (dict(optimiser_fields__b1=0.9), "would have no effect: train.rule='momentum'"),
    ],
)
def test_what_an_optimiser_does_not_take_is_one_line_that_says_what_it_takes(changes, message):
    with pytest.raises(UserError, match=message) as error:
        config_of(**changes)
    assert '\n' not in str(error.value)


def test_a_value_that_optax_refuses_is_one_line():
    config = config_of(rule='adam', optimiser_fields__mu_dtype='float31')
    with pytest.raises(
        UserError, match="train.rule='adam' with {'mu_dtype': 'float31'}: TypeError"
    ):
        optim.update_of(config, PARAMS)


# --- schedules -------------------------------------------------------------------------------


def test_resnet_cifar_has_a_tenth_after_32000_and_48000_steps_and_stops_at_64000():
    config = config_of(
        rate=0.1, schedule='milestones', unit='steps', milestones=(32000, 48000), steps=64000
    )
    schedule = optim.schedule_of(config, 351)
    rates = [0.1 * schedule(step) for step in range(64000)]
    np.testing.assert_allclose(rates[:32000], 0.1, rtol=1e-12)
    np.testing.assert_allclose(rates[32000:48000], 0.01, rtol=1e-12)
    np.testing.assert_allclose(rates[48000:], 0.001, rtol=1e-12)
    assert optim.length_of(config, 351) == (64000, 183, 351)  # 182.3 epochs of 45,000 images


def test_googlenet_loses_4_per_cent_every_8_epochs():
    schedule = optim.schedule_of(
        config_of(schedule='every', every=8, factors=(0.96,), epochs=250), 40036
    )
    for epoch in (0, 1, 7, 8, 9, 15, 16, 80, 249):
        for step in (0, 40035):
            assert schedule(epoch * 40036 + step) == 0.96 ** (epoch // 8)


def test_lenet_1998_has_the_papers_learning_rate_in_each_of_its_20_passes():
    schedule = optim.schedule_of(
        config_of(
            rate=5e-4,
            schedule='milestones',
            milestones=(2, 5, 8, 12),
            factors=(0.4, 0.5, 0.5, 0.2),
            epochs=20,
        ),
        60000,
    )
    passes = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    for number, rate in enumerate(passes):
        for step in (0, 59999):
            assert 5e-4 * schedule(number * 60000 + step) == pytest.approx(rate, rel=1e-12)


def test_caffes_quick_googlenet_falls_with_the_root_of_what_is_left():
    schedule = optim.schedule_of(config_of(schedule='polynomial', power=0.5, steps=2400000), 40036)
    for step in (0, 600000, 1800000, 2399999):
        assert schedule(step) == pytest.approx(math.sqrt(1 - step / 2.4e6), rel=1e-9)


def test_cosine_falls_from_one_to_zero_over_the_whole_training():
    schedule = optim.schedule_of(config_of(epochs=2), 10)
    np.testing.assert_allclose(
        [schedule(s) for s in (0, 5, 10, 20)],
        [(1 + np.cos(np.pi * s / 20)) / 2 for s in (0, 5, 10, 20)],
        atol=1e-12,
    )


@pytest.mark.parametrize('unit, warmup', [('epochs', 1.0), ('steps', 10.0)])
def test_a_warm_up_rises_in_a_line_before_the_schedule(unit, warmup):
    flat = optim.schedule_of(config_of(schedule='constant', warmup=warmup, unit=unit), 10)
    assert [flat(step) for step in (0, 5, 10, 19)] == [0, 0.5, 1, 1]
    cosine = optim.schedule_of(config_of(epochs=3, warmup=warmup, unit=unit), 10)
    assert cosine(10) == 1 and cosine(20) == pytest.approx(0.5) and cosine(30) == 0


def test_a_warm_up_longer_than_the_training_is_refused_with_the_numbers():
    with pytest.raises(
        UserError, match='train.warmup is 11 steps, that is 11 steps; the training has 10'
    ):
        optim.schedule_of(config_of(warmup=11.0, unit='steps', epochs=1), 10)


def scales(config, errors, start=None):
    control, seen = start or optim.control_of(config), []
    for train_error, validation_error in errors:
        seen.append(control.scale)
        control = optim.after_epoch(config, control, train_error, validation_error)
    return seen, control


def test_a_plateau_divides_the_learning_rate_by_ten_at_most_three_times():
    config = config_of(schedule='plateau', plateau=2, drops=3, factors=(0.1,))
    errors = [0.9, 0.8, 0.8, 0.85, 0.7, 0.7, 0.71, *[0.7] * 8]
    #         falls after the fourth, seventh and ninth epoch
    seen, control = scales(config, [(0.5, error) for error in errors])
    np.testing.assert_allclose(seen, [1] * 4 + [0.1] * 3 + [0.01] * 2 + [0.001] * 6)
    assert control.falls == 3 and control.best == 0.7


def test_a_plateau_continues_from_stored_numbers_as_if_never_stopped():
    config = config_of(schedule='plateau', plateau=2)
    errors = [(0.5, error) for error in (0.9, 0.9, 0.9, 0.8, 0.9, 0.85, 0.8)]
    whole, end = scales(config, errors)
    for cut in range(len(errors)):
        first, control = scales(config, errors[:cut])
        stored = optim.Control(**json.loads(json.dumps(control._asdict())))
        second, last = scales(config, errors[cut:], stored)
        assert first + second == whole and last == end


def test_resnet_110_has_a_tenth_of_the_learning_rate_until_its_training_error_is_below_80():
    config = config_of(schedule='constant', warmup_error=0.8)
    seen, _ = scales(config, [(0.88, 0.5), (0.8, 0.5), (0.79, 0.5), (0.85, 0.5), (0.3, 0.5)])
    assert seen == [0.1, 0.1, 0.1, 1.0, 1.0]


@pytest.mark.parametrize(
    'changes, late',
    [
        (
            dict(
                train__schedule='milestones',
                train__unit='steps',
                train__milestones=(5, 9, 10, 20),
                train__steps=10,
            ),
            '10, 20 steps',
        ),
        (dict(train__schedule='milestones', train__milestones=(1, 3), train__epochs=3), '3 epochs'),
        (dict(train__schedule='every', train__every=4.0, train__epochs=3), '4 epochs'),
        (dict(train__schedule='every', train__every=2.0, train__epochs=3), ''),
        (dict(train__schedule='cosine', train__milestones=(50,), train__epochs=3), ''),
    ],
)
def test_a_fall_after_the_end_is_reported(changes, late):
    config = base.get_config()
    for path, value in changes.items():
        configs.set_field(config, path.replace('__', '.'), value)
    note = optim.late_falls(config, 7)
    assert (f'before the learning rate falls at {late}' in note) if late else note == ''
