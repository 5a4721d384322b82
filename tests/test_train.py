"""The step: same result on any number of devices, compiled once per arm, honest about NaN."""

import functools
import gc
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from configs import base
from experiments import bits, data, measures, train
from experiments.data import resident
from experiments.errors import UserError
from experiments.plan import checks
from experiments.plan import config as configs
from experiments.train import checkpoint, loop, optim, parallel, program
from experiments.train.evaluate import normalise


@pytest.fixture(autouse=True)
def _programs(monkeypatch):
    """Tests of one config share its program."""
    monkeypatch.setattr(program, '_KEPT', 64)


@pytest.fixture(scope='module')
def images():
    """Three classes that differ in where the bright band is: a known, learnable answer."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 96).astype(np.int32)
    pixels = rng.integers(0, 60, (96, 32, 32, 1)).astype(np.uint8)
    for index, label in enumerate(labels):
        pixels[index, 4 + 9 * label : 10 + 9 * label] += 180
    part = lambda low, high: data.InMemory(pixels[low:high], labels[low:high])
    mean, std = data.moments(pixels[:64])
    return data.Dataset(
        'bands', part(0, 64), part(64, 80), part(80, 96), tuple('abcdefghij'), mean, std, 'made up'
    )


def config_of(**changes):
    config = base.get_config()
    for path, value in (dict(train__batch=16, train__epochs=2, train__devices=1) | changes).items():
        configs.set_field(config, path.replace('__', '.'), value)
    return config


def trained(config, dataset, steps=3):
    program = train.program_of(config, dataset)
    schedule = optim.schedule_of(config, train.length_of(config, dataset).steps_per_epoch)
    state = program.init(config.seed)
    for step, batch in enumerate(
        list(
            data.train_batches(dataset.train, config.train.batch, program.devices, config.seed, 1)
        )[:steps]
    ):
        state, metrics = program.step(state, batch, np.float32(config.train.rate * schedule(step)))
    return jax.device_get((state.params, state.batch_stats, metrics))


def test_metrics_stay_on_the_device_until_their_epoch_ends(images, monkeypatch):
    fetched, own = [], jax.device_get

    def get(tree):
        if isinstance(tree, list):
            assert all(isinstance(values['loss'], jax.Array) for values in tree)
            fetched.append(len(tree))
        return own(tree)

    monkeypatch.setattr(jax, 'device_get', get)
    train.fit(config_of(train__epochs=3, model__name='mlp_300'), images, final=False)
    # Once an epoch for its four steps, once for the one batch that validates
    assert fetched[:-1] == [4, 1] * 3


@pytest.mark.parametrize('net, devices', [('mlp_300', 2), ('lenet5', 4)])
def test_the_same_global_batch_gives_the_same_parameters_on_any_number_of_devices(
    images, net, devices
):
    changes = dict(model__name=net, model__norm='batch', train__rate=0.02)
    one, many = (trained(config_of(train__devices=n, **changes), images) for n in (1, devices))
    assert jax.tree.leaves(one[1]), 'batch norm is on'
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_the_step_follows_the_update_rule_written_as_a_loop(images):
    config = config_of(train__weight_decay=0.01, train__warmup=1.0, train__rate=0.1)
    params, _, _ = trained(config, images, steps=3)

    net = cnns.build('lenet5')
    program = train.program_of(config, images)
    w = jax.device_get(program.init(0).params)
    v = jax.tree.map(np.zeros_like, w)

    def loss(w, batch):
        x = (batch['image'][0] / 255.0 - images.mean) / images.std
        logits = net.apply({'params': w}, x.astype(np.float32), train=True)
        return -jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch['label'][0][:, None], 1
        ).mean()

    for step, batch in enumerate(list(data.train_batches(images.train, 16, 1, 0, 1))[:3]):
        gradient = jax.jit(jax.grad(loss))(w, batch)
        rate = 0.1 * step / 4  # four steps an epoch, one epoch of warm-up
        v = jax.tree.map(lambda v, g, w: 0.9 * v + g + 0.01 * w, v, gradient, w)
        w = jax.tree.map(lambda w, v, rate=rate: w - rate * v, w, v)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(w), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_what_follows_from_other_fields_is_computed_after_overrides(images):
    config = config_of(model__name='mlp_300', train__batch=32, train__epochs=3)
    row = train.fit(config, images, final=False)
    assert row['steps'] == 3 * 64 // 32


class Noise:
    """A net whose logits are one draw of dropout's key: it shows which key it was given."""

    def apply(self, variables, x, *, train, rngs, mutable):
        return jnp.full((len(x), 3), jax.random.uniform(rngs['dropout'])), {}


def drawn(seed, step, devices=2, micro_batches=1):
    """The mean of Noise's draws over devices and micro-batches."""
    function = parallel.parallel(
        functools.partial(
            train.train_step,
            net=Noise(),
            loss=lambda logits, labels: logits[:, 0],
            micro_batches=micro_batches,
            update=optim.velocity(0.0, {'w': 1.0}, inside=False),
            augmented=lambda key, images, first: images,
        ),
        devices,
        donate=False,
        shared=1,
    )
    state = train.State(
        jnp.int32(step),
        {'w': jnp.float32(1)},
        {},
        {'w': jnp.float32(0)},
        (),
        jax.random.PRNGKey(seed),
    )
    batch = {
        'image': np.zeros((devices, 2, 1, 1, 1), np.uint8),
        'label': np.zeros((devices, 2), np.int32),
    }
    return float(function(state, batch, np.float32(0))[1]['loss'])


def test_dropout_differs_between_devices_steps_and_micro_batches_and_follows_the_seed():
    def key(seed, step, device):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), step), 2**31)
        return jax.random.fold_in(key, device)

    for seed, step in ((0, 0), (0, 1), (5, 1)):
        expected = np.mean([jax.random.uniform(key(seed, step, device)) for device in (0, 1)])
        assert drawn(seed, step) == pytest.approx(expected, abs=1e-6)
    assert len({drawn(0, 0), drawn(0, 1), drawn(5, 1)}) == 3
    expected = np.mean([jax.random.uniform(part) for part in jax.random.split(key(0, 0, 0), 2)])
    assert drawn(0, 0, devices=1, micro_batches=2) == pytest.approx(expected, abs=1e-6)


class Linear:
    """Logits are a matrix times the pixels; the gradient can be written by hand."""

    def apply(self, variables, x, *, train, rngs, mutable):
        return x.reshape(len(x), -1) @ variables['params']['w'], {}


@functools.cache
def linear_steps(steps=2, micro_batches=1, devices=2, decay=0.0):
    """The state after some steps on 8 images of 3 pixels, with the images drawn by augmentation."""
    rng = np.random.default_rng(0)
    w = {'w': jnp.float32(rng.normal(size=(3, 4)))}
    update = optim.velocity(0.9, {'w': 1.0}, inside=True)
    average = optim.average(decay) if decay else None

    def noisy(key, images, first):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(len(images)))
        return images / 255 + jax.vmap(lambda key: jax.random.normal(key, (1, 3, 1)))(keys)

    function = parallel.parallel(
        functools.partial(
            train.train_step,
            net=Linear(),
            loss=optim.smoothed(0.1),
            update=update,
            augmented=noisy,
            micro_batches=micro_batches,
            average=average,
        ),
        devices,
        donate=False,
        shared=1,
    )
    state = train.State(
        jnp.int32(0),
        w,
        {},
        update.init(w),
        average.init((w, {})) if average else (),
        jax.random.PRNGKey(0),
    )
    batch = {
        'image': rng.integers(0, 256, (8, 1, 3, 1)).astype(np.uint8),
        'label': rng.integers(0, 4, 8).astype(np.int32),
    }
    batch = {name: data.shard(array, devices) for name, array in batch.items()}
    seen = []
    for step in range(steps):
        state, metrics = function(state, batch, np.float32(0.5 / (step + 1)))
        seen.append((np.float64(state.params['w']), jax.device_get(metrics)))
    return state, seen


@pytest.mark.parametrize('devices, micro_batches', [(2, 2), (2, 4), (1, 8), (4, 1)])
def test_micro_batches_and_devices_give_the_step_of_the_whole_batch_with_its_draws(
    devices, micro_batches
):
    (whole, one), (cut, many) = (
        linear_steps(devices=1),
        linear_steps(micro_batches=micro_batches, devices=devices),
    )
    np.testing.assert_allclose(cut.params['w'], whole.params['w'], rtol=1e-5)
    for (_, a), (_, b) in zip(one, many):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-5)
        assert a['error'] == b['error']


def test_the_average_over_steps_is_kept_beside_the_parameters():
    state, seen = linear_steps(steps=4, decay=0.7)
    weights = np.array([0.7 ** (3 - index) for index in range(4)])
    mean = sum(weight * w for weight, (w, _) in zip(weights, seen)) / weights.sum()
    params, _ = jax.tree.map(lambda leaf: leaf / (1 - 0.7**4), state.average.ema)
    np.testing.assert_allclose(params['w'], mean, rtol=1e-5)


def test_the_average_is_what_is_evaluated_with_no_trace_of_the_initialisation(images):
    program = train.program_of(config_of(train__ema=0.5, model__name='mlp_300'), images)
    state, seen = program.init(0), []
    for batch in list(data.train_batches(images.train, 16, program.devices, 0, 1))[:3]:
        state, _ = program.step(state, batch, np.float32(0.1))
        seen.append(jax.device_get(state.params))
    mean = jax.tree.map(lambda one, two, three: (one / 4 + two / 2 + three) / 1.75, *seen)
    for a, b, last in zip(
        *map(jax.tree.leaves, (program.variables(state)['params'], mean, seen[-1])), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert np.abs(a - last).max() > 1e-5


def first_loss(images, **changes):
    """The loss of the first step, and what the net gives for its images before: logits, labels."""
    config = config_of(model__name='mlp_300', model__norm='batch', **changes)
    program = train.program_of(config, images)
    state = program.init(0)
    batch = next(iter(data.train_batches(images.train, 16, program.devices, 0, 0)))
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    variables = jax.tree.map(np.array, jax.device_get(variables))
    _, metrics = program.step(state, batch, np.float32(0.1))
    seen = normalise(batch['image'][0], images.mean, images.std)
    net = cnns.build('mlp_300', norm='batch')
    of = lambda part: np.float64(
        jax.nn.log_softmax(net.apply(variables, part, train=True, mutable=['batch_stats'])[0])
    )
    return float(metrics['loss']), of, seen, batch['label'][0]


def test_labels_are_smoothed_in_training(images):
    loss, of, seen, labels = first_loss(images, train__label_smoothing=0.3)
    logs = of(seen)
    expected = -(0.7 * logs[np.arange(16), labels] + 0.3 * logs.mean(1)).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert abs(loss + logs[np.arange(16), labels].mean()) > 2e-3


def test_micro_batches_are_normalised_each_by_itself(images):
    loss, of, seen, labels = first_loss(images, train__accumulate=2)
    logs = np.concatenate([of(seen[:8]), of(seen[8:])])
    assert loss == pytest.approx(-logs[np.arange(16), labels].mean(), rel=1e-4)
    assert abs(loss + of(seen)[np.arange(16), labels].mean()) > 1e-3


@pytest.fixture(scope='module')
def noise():
    """Images and labels without a connection: the views of an image disagree."""
    rng = np.random.default_rng(5)
    part = lambda count: data.InMemory(
        rng.integers(0, 256, (count, 32, 32, 1)).astype(np.uint8),
        rng.integers(0, 10, count).astype(np.int32),
    )
    train_part, validation, test = part(64), part(20), part(300)
    return data.Dataset(
        'noise',
        train_part,
        validation,
        test,
        tuple('abcdefghij'),
        *data.moments(train_part.images),
        'made up',
    )


def noise_config(**changes):
    return config_of(
        **dict(model__name='mlp_300', augment__crop='random', augment__size=28, train__epochs=1)
        | changes
    )


def test_the_test_error_is_that_of_the_views_and_the_centre_error_that_of_the_centre(noise):
    weights = {}
    (row,) = train.fit_together(
        [noise_config(evaluation__views='ten', train__ema=0.9)],
        noise,
        final=True,
        on_end=weights.__setitem__,
    )
    net, labels = cnns.build('mlp_300'), noise.test.labels
    seen = normalise(noise.test.images, noise.mean, noise.std)
    of = lambda part: np.asarray(net.apply(weights[0], part, train=False))
    crops = [
        seen[:, top : top + 28, left : left + 28]
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
    ]
    chances = np.mean(
        [jax.nn.softmax(of(crop[:, :, ::step])) for crop in crops for step in (1, -1)], 0
    )
    wrong = lambda scores: np.mean(scores.argmax(1) != labels)
    assert row['test/error'] == pytest.approx(wrong(chances))
    assert row['test/loss'] == pytest.approx(
        -np.log(chances[np.arange(300), labels]).mean(), rel=1e-4
    )
    assert row['test/centre_error'] == pytest.approx(wrong(of(crops[-1])))
    assert row['test/centre_error'] != row['test/error']


def test_no_field_of_the_test_changes_what_is_validated_on(noise):
    lines, rows = [], []
    for scales in ((), (56,)):
        lines.append([])
        rows.append(
            train.fit(
                noise_config(evaluation__views='ten', evaluation__scales=scales),
                noise,
                lines[-1].append,
                final=True,
            )
        )
    for line in sum(lines, []):
        del line['seconds']
    assert lines[0] == lines[1]
    assert rows[0]['test/loss'] != rows[1]['test/loss']
    assert rows[0]['test/centre_error'] == rows[1]['test/centre_error']


def test_a_plateau_is_one_of_the_validation_error(images):
    # labels that no training image has: nothing of it is ever learned
    blind = images._replace(
        validation=data.InMemory(images.validation.images, np.full(16, 9, np.int32))
    )
    lines = []
    train.fit(
        config_of(
            train__schedule='plateau',
            train__plateau=1,
            train__drops=1,
            train__rate=0.005,
            train__epochs=4,
        ),
        blind,
        lines.append,
        final=False,
    )
    errors = [line['train/error'] for line in lines]
    assert errors[0] > errors[1] and {line['validation/error'] for line in lines} == {1.0}
    assert [line['rate'] for line in lines] == pytest.approx([5e-3, 5e-3, 5e-4, 5e-4])


def test_a_length_in_steps_cuts_the_last_epoch_short(images):
    lines = []
    row = train.fit(
        config_of(
            train__steps=6,
            train__schedule='milestones',
            train__unit='steps',
            train__milestones=(5,),
            train__factors=(0.5,),
        ),
        images,
        lines.append,
        final=False,
    )
    assert (row['steps'], row['epochs']) == (6, 2)
    assert [line['step'] for line in lines] == [4, 6]
    assert [line['rate'] for line in lines] == pytest.approx([0.05, 0.025])


def test_a_plateau_lowers_the_learning_rate_of_the_next_epoch(images):
    lines = []
    train.fit(
        config_of(
            train__schedule='plateau',
            train__plateau=1,
            train__drops=2,
            train__rate=1e-9,
            train__epochs=5,
        ),
        images,
        lines.append,
        final=False,
    )
    # nothing is learned at such a learning rate: every epoch but the first is a stall
    assert [line['rate'] for line in lines] == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11, 1e-11])


def test_the_net_sees_crops_in_training_and_the_views_in_the_test(images):
    config = config_of(
        model__name='mlp_300',
        augment__crop='pad',
        augment__pad=2,
        augment__flip=True,
        train__epochs=1,
        evaluation__views='ten',
    )
    row = train.fit(config, images, final=True)
    assert 0 <= row['test/centre_error'] <= 1 and 'test/error5' in row
    program = train.program_of(config, images)
    one, two = (
        program.step(program.init(seed), batch, np.float32(0.1))[1]['loss']
        for seed in (0, 1)
        for batch in [next(iter(data.train_batches(images.train, 16, program.devices, 0, 1)))]
    )
    assert one != two


def test_a_batch_that_does_not_divide_into_micro_batches_is_an_error(images):
    with pytest.raises(
        UserError, match='train.accumulate=8: the 4 images of a device .a batch of 16 over 4.'
    ):
        train.fit(config_of(train__accumulate=8, train__devices=4), images, final=False)


def test_arms_that_differ_in_their_schedule_share_a_program(images):
    one, two = (
        train.program_of(config_of(train__schedule=schedule, train__epochs=epochs), images)
        for schedule, epochs in (('constant', 2), ('cosine', 3))
    )
    assert one is two


@pytest.mark.parametrize('rule', ['momentum', 'adamw'])
def test_the_step_is_traced_once_for_all_seeds_and_learning_rates_of_an_arm(
    images, monkeypatch, rule
):
    traces = []
    plain = train.train_step
    monkeypatch.setattr(
        program, 'train_step', lambda *args, **given: (traces.append(1), plain(*args, **given))[1]
    )
    program._programs.clear()
    common = dict(model__name='mlp_300', train__rule=rule)
    for seed, rate in ((0, 0.1), (1, 0.1), (2, 0.01)):
        train.fit(config_of(seed=seed, train__rate=rate, **common), images, final=False)
    assert len(traces) == 1
    train.fit(config_of(model__activation='relu', **common), images, final=False)
    assert len(traces) == 2
    program._programs.clear()


def test_seed_and_learning_rate_change_the_result(images):
    losses = {
        train.fit(config_of(seed=s, train__rate=r), images, final=False)['train/loss']
        for s, r in ((0, 0.01), (1, 0.01), (0, 0.02))
    }
    assert len(losses) == 3


def test_the_state_is_donated(images):
    config = config_of()
    program = train.program_of(config, images)
    batches = list(data.train_batches(images.train, 16, 1, 0, 1))
    state, _ = program.step(program.init(0), batches[0], np.float32(0.1))
    program.step(state, batches[1], np.float32(0.1))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    'net, loss, rate', [('lenet5', 'cross_entropy', 0.02), ('lenet5_1998', 'rbf', 0.002)]
)
def test_training_learns_the_known_answer(images, net, loss, rate):
    lines = []
    row = train.fit(
        config_of(model__name=net, train__loss=loss, train__rate=rate, train__epochs=12),
        images,
        lines.append,
        final=True,
    )
    assert row['test/error'] == 0.0 and row['test/count'] == 16
    assert lines[-1]['train/loss'] < 0.5 * lines[0]['train/loss']
    assert [line['step'] for line in lines] == [4 * epoch for epoch in range(1, 13)]


def test_equal_seeds_give_arms_equal_initial_weights(images):
    one, two = (
        train.program_of(config_of(model__pool=pool), images).init(3).params
        for pool in ('average', 'max')
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert (a == b).all()


def test_the_test_split_is_evaluated_once_and_only_when_asked(images, monkeypatch):
    seen = []
    plain = data.eval_batches
    monkeypatch.setattr(
        data,
        'eval_batches',
        lambda split, *rest, **of: (seen.append(split is images.test), plain(split, *rest, **of))[
            1
        ],
    )
    assert 'test/error' not in train.fit(config_of(), images, final=False)
    assert sum(seen) == 0
    train.fit(config_of(), images, final=True)
    assert sum(seen) == 1 and seen[-1]


def test_a_row_says_which_test_images_were_right(images):
    """Against the logits of the final weights, one image after the other."""
    config, weights = config_of(train__epochs=1, train__rate=0.003), {}
    (row,) = train.fit_together([config], images, final=True, on_end=weights.__setitem__)
    net = cnns.build('lenet5', channels=1)
    pixels = normalise(images.test.images, images.mean, images.std)
    right = [
        int(np.argmax(net.apply(weights[0], image[None], train=False))) == label
        for image, label in zip(pixels, images.test.labels)
    ]
    assert bits.unpack(row['test/right'], 16).tolist() == right
    assert 0 < sum(right) < 16


def test_the_curve_inside_an_epoch_is_the_mean_error_of_equal_runs_of_steps(images):
    lines = []
    row = train.fit(config_of(train__curve=3), images, lines.append, final=False)
    steps = [step for step, _ in row['train/curve']]
    assert steps == [2, 3, 4, 6, 7, 8]  # two epochs of four steps, cut into three
    for epoch, line in enumerate(lines):
        (_, first), (_, second), (_, third) = row['train/curve'][3 * epoch : 3 * epoch + 3]
        assert (2 * first + second + third) / 4 == pytest.approx(line['train/error'])


def test_a_curve_has_at_most_one_point_a_step_and_none_without_the_field(images):
    row = train.fit(config_of(train__curve=99, train__epochs=1), images, final=False)
    assert [step for step, _ in row['train/curve']] == [1, 2, 3, 4]
    assert all(error * 16 == round(error * 16) for _, error in row['train/curve'])
    assert 'train/curve' not in train.fit(config_of(train__epochs=1), images, final=False)


def test_a_loss_that_is_not_finite_names_the_step(images):
    with pytest.raises(
        train.Diverged,
        match=r'the loss is (nan|inf) at step \d+ \(epoch \d+\) with '
        r'learning rate 1e\+30',
    ):
        config = config_of(model__name='mlp_300', model__activation='relu', train__rate=1e30)
        train.fit(config, images, final=False)


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            dict(train__batch=18, train__devices=4),
            'batch of 18 images does not divide over 4 devices',
        ),
        (dict(train__batch=65), '64 images, fewer than one batch of 65'),
        (dict(train__devices=99), 'train.devices is 99, this machine has 4'),
    ],
)
def test_what_does_not_fit_together_is_an_error_with_the_numbers(images, changes, message):
    with pytest.raises(UserError, match=message):
        train.fit(config_of(**changes), images, final=False)


def test_a_net_that_cannot_take_the_images_is_an_error(images):
    small = images._replace(train=images.train._replace(images=images.train.images[:, :28, :28]))
    with pytest.raises(UserError, match='lenet5 on bands.*32'):
        train.fit(config_of(), small, final=False)


def test_bfloat16_computes_and_keeps_float32_parameters(images):
    config = config_of(model__name='mlp_300', model__dtype='bfloat16')
    params, _, metrics = trained(config, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
    assert np.isfinite(metrics['loss'])


# --- runs trained together -------------------------------------------------------------------


def assert_alike(one, many):
    """Rows or lines of the same training, but for rounding and time. One image more or less may be
    wrong, of 16 or more."""
    assert one.keys() == many.keys()
    if 'test/right' in one:
        count = one['test/count']
        one_of, many_of = (bits.unpack(row['test/right'], count) for row in (one, many))
        assert (one_of != many_of).sum() <= 1
        assert 1 - many_of.mean() == pytest.approx(many['test/error'])
    for name in one.keys() - {'seconds', 'test/right', 'train/curve'}:
        room = 1 / 16 if 'error' in name else 0
        assert many[name] == pytest.approx(one[name], rel=2e-3, abs=room + 1e-6), name


def both(images, changes, seeds, devices, rates=None):
    """Rows and lines of runs trained alone on one device, and of the same trained together."""
    runs = [
        config_of(seed=seed, train__rate=rate, **changes)
        for seed, rate in zip(seeds, rates or [0.02] * len(seeds))
    ]
    alone, together = ([[] for _ in runs] for _ in range(2))
    rows = [
        train.fit(config, images, lines.append, final=True) for config, lines in zip(runs, alone)
    ]
    for config in runs:
        configs.set_field(config, 'train.devices', devices)
    many = train.fit_together(
        runs, images, lambda index, line: together[index].append(line), final=True
    )
    for one, two in zip([*rows, *sum(alone, [])], [*many, *sum(together, [])], strict=True):
        assert_alike(one, two)
    return many


@pytest.mark.parametrize(
    'changes, count',
    [
        (
            dict(
                train__ema=0.5,
                model__name='mlp_300',
                model__norm='batch',
                augment__crop='pad',
                train__schedule='plateau',
                train__plateau=1,
                train__drops=2,
                train__steps=10,
                train__warmup_error=0.7,
            ),
            1,
        ),
        (
            dict(
                train__together=2,
                model__name='mlp_300',
                train__curve=3,
                measure__names=('dead_units',),
                measure__epochs=(0, 2),
            ),
            2,
        ),
        (
            dict(
                train__rule='adamw',
                train__rate=0.001,
                train__weight_decay=0.1,
                train__bias_decay=0.0,
                train__ema=0.5,
                model__name='mlp_300',
            ),
            1,
        ),
        (dict(train__rule='lion', train__rate=0.001, train__together=2, model__name='mlp_300'), 2),
    ],
)
def test_a_training_that_continues_ends_as_one_that_was_never_interrupted(
    images, tmp_path, changes, count
):
    """After an epoch, inside of one and after the last; the snapshot passes through its file."""
    runs = [config_of(seed=seed, **(dict(train__epochs=3) | changes)) for seed in range(count)]
    kept, weights = {}, {}

    def keep(snapshot):
        made = snapshot()
        whole = made.partial is None
        if (made.epoch, whole) in kept.keys() ^ {(1, True), (1, False), (3, True)}:
            kept[made.epoch, whole] = tmp_path / f'{len(kept)}.msgpack'
            checkpoint.save(kept[made.epoch, whole], {'x': 1}, made)

    def trained(begun=None, **given):
        lines, ended = [], {}
        rows = train.fit_together(
            runs,
            images,
            lambda index, line: lines.append(
                (index, {name: value for name, value in line.items() if name != 'seconds'})
            ),
            final=True,
            begun=begun,
            on_end=ended.__setitem__,
            **given,
        )
        return rows, lines, ended

    steps_done, told = [], []

    def on_step(*given):
        steps_done.append(given[:2])
        told.append((*given[2:4], given[4]()))

    rows, lines, weights = trained(keep=keep, on_step=on_step)
    assert steps_done == [(step, rows[0]['steps']) for step in range(1, rows[0]['steps'] + 1)]
    losses = [loss for *_, loss in told if loss is not None]
    assert all(0 < loss < 10 for loss in losses)  # none, where the machine is busy
    assert {images for images, *_ in told} == {count * 16} and len(told[0][1]) == count
    assert len(kept) == 3 and len(lines) == 3 * count and len(weights) == count
    for (epoch, whole), file in kept.items():
        begun, note = checkpoint.read(file, {'x': 1})
        assert begun.epoch == epoch and not note
        assert whole or (begun.partial['loss'].shape == (1, count) and begun.partial['seconds'] > 0)
        again, others, ended = trained(begun)
        assert again == rows and others == lines[epoch * count :]
        jax.tree.map(np.testing.assert_array_equal, ended, weights)


def test_a_training_continues_on_another_number_of_devices(images, tmp_path):
    def trained(devices, **given):
        config = config_of(model__name='mlp_300', train__epochs=2, train__devices=devices)
        found = {}
        train.fit_together([config], images, final=False, on_end=found.__setitem__, **given)
        return found[0]

    def keep(snapshot):
        made = snapshot()
        if (made.epoch, made.partial) == (1, None):
            checkpoint.save(tmp_path / 'kept', {'devices': 4}, made)

    whole = trained(4, keep=keep)
    assert checkpoint.read(tmp_path / 'kept', {'devices': 4})[1] == ''
    assert checkpoint.moved({}, {'devices': 4}) == ''  # of older code
    begun, said = checkpoint.read(tmp_path / 'kept', {'devices': 1})
    assert 'on 4 devices, which continues on 1: ' in said
    again = trained(1, begun=begun)
    close = lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, again, whole)


@pytest.mark.parametrize(
    'changes, devices, seeds',
    [
        (dict(), 1, (0, 1)),  # two on one device
        (
            dict(model__name='mlp_300', model__norm='batch', train__ema=0.5),
            2,
            (0, 1, 2, 3),
        ),  # two on each
        pytest.param(  # the same with every part that draws or sums: a program that compiles slowly
            dict(
                model__norm='batch',
                augment__crop='pad',
                augment__pad=2,
                train__accumulate=2,
                evaluation__views='ten',
            ),
            2,
            (3, 4, 5, 6),
            marks=pytest.mark.long,
        ),
    ],
)
def test_runs_trained_together_have_the_rows_and_lines_of_runs_trained_alone(
    images, changes, devices, seeds
):
    rows = both(images, changes, seeds, devices)
    assert len({row['train/loss'] for row in rows}) == len(seeds)


def test_learning_rates_are_tried_together_and_each_has_its_own_plateau(images):
    both(
        images,
        dict(
            model__name='mlp_300',
            train__schedule='plateau',
            train__plateau=1,
            train__drops=1,
            train__epochs=3,
        ),
        (0, 0),
        1,
        rates=(0.02, 1e-9),
    )


@pytest.mark.parametrize('devices', [1, 2])
def test_dropout_of_runs_trained_together_is_that_of_runs_trained_alone(devices):
    """The mean of the draws of one device, for two seeds."""
    step = functools.partial(
        train.train_step,
        net=Noise(),
        loss=lambda logits, labels: logits[:, 0],
        update=optim.velocity(0.0, {'w': 1.0}, inside=False),
        axis=None,
        augmented=lambda key, images, first: images,
    )
    shape = devices, 2 // devices
    function = parallel.side_by_side(step, devices, (0, 0, 0), donate=False)
    full = lambda value: np.full(shape, value, np.float32)
    state = train.State(
        np.full(shape, 4, np.int32),
        {'w': full(1)},
        {},
        {'w': full(0)},
        (),
        np.reshape([jax.random.PRNGKey(seed) for seed in (0, 5)], (*shape, 2)),
    )
    batch = {
        'image': np.zeros((*shape, 2, 1, 1, 1), np.uint8),
        'label': np.zeros((*shape, 2), np.int32),
    }
    losses = np.ravel(function(state, batch, full(0))[1]['loss'])
    np.testing.assert_allclose(losses, [drawn(0, 4, devices=1), drawn(5, 4, devices=1)], rtol=1e-6)


def test_a_model_that_diverges_stops_none_of_the_others_and_names_its_step(images):
    changes = dict(model__name='mlp_300', model__activation='relu', train__devices=2)
    lines = []
    bad, good = train.fit_together(
        [config_of(train__rate=rate, seed=1, **changes) for rate in (1e30, 0.02)],
        images,
        lambda index, line: lines.append((index, line['epoch'])),
        final=True,
    )
    alone = config_of(train__rate=1e30, seed=1, **changes | dict(train__devices=1))
    with pytest.raises(train.Diverged) as caught:
        train.fit(alone, images, final=False)
    assert str(bad) == str(caught.value) and 'at step' in str(bad)
    assert lines == [(1, 1), (1, 2)]
    assert good['test/count'] == 16 and np.isfinite(good['test/loss'])


@pytest.mark.parametrize(
    'models, devices, used',
    [(2, 1, 1), (2, 2, 2), (3, 2, 1), (4, 3, 2), (5, 4, 1), (6, 0, 3), (1, 4, 1)],
)
def test_models_are_laid_over_the_most_devices_that_divide_them(models, devices, used):
    config = config_of(train__together=6, train__devices=devices, train__batch=15)
    assert train.device_count(config, models) == used


def test_programs_of_groups_of_other_sizes_are_others(images):
    config = config_of(train__together=3)
    programs = [train.program_of(config, images, models) for models in (1, 2, 3)]
    assert [program.shape for program in programs] == [(1, 1), (1, 2), (1, 3)]
    assert train.program_of(config_of(train__together=3, seed=4), images, 3) is programs[2]


def test_runs_of_different_arms_are_not_trained_together(images):
    with pytest.raises(ValueError, match='differ in model.pool, train.batch;'):
        train.fit_together(
            [config_of(), config_of(seed=1, model__pool='max', train__batch=8)], images, final=False
        )


def test_devices_that_train_a_model_each_do_not_communicate(images):
    program = train.program_of(
        config_of(train__together=2, train__devices=2, model__norm='batch'), images, 2
    )
    shapes = lambda *leaves: [jax.ShapeDtypeStruct((2, 1, *shape), kind) for shape, kind in leaves]
    image, label, rate = shapes(((16, 32, 32, 1), np.uint8), ((16,), np.int32), ((), np.float32))
    text = program.step.lower(program.init(0, 1), {'image': image, 'label': label}, rate).as_text()
    assert 'convolution' in text and not re.search(r'all.reduce|all.gather', text)
    assert 'feature_group_count = 1' in text and 'feature_group_count = 2' not in text


def test_pmap_is_called_in_one_module_only():
    folder = pathlib.Path(train.__file__).parents[2]
    users = [
        path.name
        for part in ('cnns', 'configs', 'experiments')
        for path in (folder / part).rglob('*.py')
        if re.search(r'\bpmap\(', path.read_text())
    ]
    assert users == ['parallel.py']


def test_the_programs_of_a_long_sweep_do_not_stay_in_memory(images, monkeypatch):
    monkeypatch.setattr(program, '_KEPT', 2)
    monkeypatch.setattr(program, '_programs', {})
    alive = []
    for arm in range(6):
        made = train.program_of(config_of(model__name='mlp_300', train__momentum=arm / 10), images)
        made.init(0)
        del made
        gc.collect()
        alive.append(len(jax.local_devices()[0].client.live_executables()))
    assert alive[2] == alive[4] < alive[3] == alive[5]


@pytest.mark.parametrize(
    'field, value, message',
    [
        ('model__name', 'lenet', "'lenet'.*Did you mean 'lenet5'"),
        ('model__pool', 'maxx', "'maxx'"),
        ('train__schedule', 'cosin', "'cosin'. Did you mean 'cosine'"),
        ('train__rate', -1.0, 'learning rate is -1'),
        ('train__batch', 0, 'train.batch is 0'),
        ('augment__crop', 'pads', "'pads'. Did you mean 'pad'"),
    ],
)
def test_a_wrong_field_is_named_to_callers_from_python_too(images, field, value, message):
    config = config_of(**{field: value})
    with pytest.raises(UserError, match=message):
        train.fit(config, images, final=False)
    with pytest.raises(UserError, match=message):
        train.program_of(config, images)


# --- measures --------------------------------------------------------------------------------


def test_measures_are_read_at_the_epochs_asked_for_of_validation_images(images):
    changes = dict(
        model__name='mlp_300',
        measure__names=('shift_errors', 'gradient_norms'),
        measure__epochs=(0, 2),
        measure__images=16,  # all of the validation split
    )
    weights = {}
    config, lines = config_of(**changes), []
    (row,) = train.fit_together(
        [config],
        images,
        lambda index, line: lines.append(line),
        final=True,
        on_end=weights.__setitem__,
    )
    assert {name: list(found) for name, found in row['measures'].items()} == {
        'shift_errors': ['0', '2'],
        'gradient_norms': ['0', '2'],
    }
    first, last = row['measures']['shift_errors'].values()
    assert last['0'] == pytest.approx(lines[-1]['validation/error'])
    assert first['0'] > last['0']
    norms = row['measures']['gradient_norms']['2']
    pixels = normalise(images.validation.images, images.mean, images.std)
    net = cnns.build('mlp_300')
    labels = images.validation.labels
    wanted = measures.gradient_norms(net, weights[0], pixels, labels)
    for layer, value in wanted.items():
        assert norms[layer] == pytest.approx(float(value), rel=1e-3)
    plain = train.fit(config_of(model__name='mlp_300'), images, final=True)
    assert {**row, 'measures': None} == {**plain, 'measures': None}  # reading changes nothing


def test_measures_are_of_final_runs_alone(images):
    config = config_of(measure__names=('dead_units',), train__epochs=1)
    assert 'measures' not in train.fit(config, images, final=False)


def test_without_epochs_measures_are_read_after_the_last(images):
    changes = dict(model__name='mlp_300', model__activation='relu')
    config = config_of(measure__names=('dead_units',), **changes)
    row = train.fit(config, images, final=True)
    assert list(row['measures']['dead_units']) == ['2']


def test_the_loss_that_is_shown_is_of_a_step_that_is_done_and_nothing_is_waited_for():
    class Value:
        def __init__(self, value, done):
            self.value, self.done = value, done

        def is_ready(self):
            return self.done

        def __array__(self, *_, **__):
            assert self.done, 'waited for the device'
            return np.array(self.value)

    steps = [{'loss': Value(*each)} for each in (([1.0], True), ([2.0, 4.0], True), ([9.0], False))]
    assert loop._latest_loss(steps, 2) == 3
    assert loop._latest_loss(steps[2:], 1) is None and loop._latest_loss([], 1) is None


@pytest.mark.parametrize(
    'changes, count',
    [
        (dict(model__norm='batch', augment__crop='pad', train__steps=5, train__curve=2), 1),
        (dict(train__devices=2, train__ema=0.5, train__warmup=1.0), 1),
        (dict(train__together=2, train__curve=3), 2),
    ],
)
def test_several_steps_in_one_dispatch_train_as_single_steps_do(images, tmp_path, changes, count):
    """Two of the three steps of an epoch, then the one that is left; bit for bit on a CPU."""
    save = functools.partial(checkpoint.save, tmp_path / 'kept', {})
    given = dict(model__name='mlp_300', train__rate=0.01) | changes

    def trained(several, begun=None):
        (tmp_path / 'kept').unlink(missing_ok=True)
        runs = [
            config_of(seed=seed, train__batch=20, train__steps_per_dispatch=several, **given)
            for seed in range(count)
        ]
        lines, ended, done, kept = [], {}, [], []
        rows = train.fit_together(
            runs,
            images,
            lambda index, line: lines.append((index, {**line, 'seconds': 0})),
            final=True,
            begun=begun,
            on_step=lambda *given: done.append((given[0], given[2], list(given[3]))),
            keep=lambda snapshot: kept or kept.append(snapshot()) or save(kept[0]),
            on_end=ended.__setitem__,
        )
        return rows, lines, ended, done, kept

    rows, lines, ended, done, _ = trained(1)
    many = trained(2)
    assert many[0] == rows and many[1] == lines
    jax.tree.map(np.testing.assert_array_equal, many[2], ended)
    last = rows[0]['steps']
    ends = [step for step in range(1, last + 1) if step % 3 != 1 or step == last]
    assert many[3] == [done[step - 1] for step in ends]
    inside = many[4][0]
    assert inside.step == 2 and inside.partial['loss'].shape == (2, count)
    again = trained(2, checkpoint.read(tmp_path / 'kept', {})[0])
    assert again[:2] == (rows, lines)
    jax.tree.map(np.testing.assert_array_equal, again[2], ended)


def test_two_steps_of_a_convolutional_net_in_one_dispatch_differ_by_rounding_alone(images):
    params, _, metrics = trained(config_of(), images, steps=2)
    config = config_of(train__steps_per_dispatch=2)
    made = train.program_of(config, images)
    batch = next(program.dispatches([config], images, made, 1, 0))
    schedule = optim.schedule_of(config, train.length_of(config, images).steps_per_epoch)
    rates = np.array([config.train.rate * schedule(step) for step in (0, 1)], np.float32)
    state, found = made.step(made.init(0), batch, rates)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(found['loss'][1], metrics['loss'], rtol=1e-6)


def test_each_process_has_the_images_on_its_own_devices_and_all_rows(images, monkeypatch):
    asked = []
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(resident, 'whole', lambda split, devices: asked.append(devices) or 'images')
    made = types.SimpleNamespace(devices=4, shape=())
    config = config_of(train__steps_per_dispatch=2, train__batch=20)
    batch = next(program.dispatches([config], images, made, 1, 0))
    assert asked == [2] and batch['rows'].shape == batch['label'].shape == (4, 2, 5)


def test_several_steps_in_one_dispatch_need_images_on_the_device(images, monkeypatch):
    config = config_of(train__steps_per_dispatch=2, model__name='mlp_300')
    monkeypatch.setattr(data, 'InMemory', str)  # as if they were streamed
    with pytest.raises(UserError, match='where bands does not fit: it is streamed. Set train.step'):
        train.fit(config, images._replace(mean=images.mean + 1), final=False)
    monkeypatch.undo()
    monkeypatch.setattr(resident, 'whole', lambda split, devices: None)
    with pytest.raises(UserError, match='which has no room for them. Set train.steps_per_dispatch'):
        train.fit(config, images, final=False)
    for field, value in (('data__stream', 'always'), ('data__whole', True)):
        with pytest.raises(UserError, match='decodes them while training. Set train.steps_per_d'):
            checks.resolve(config_of(train__steps_per_dispatch=2, **{field: value}))
