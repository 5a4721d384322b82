"""A training begins with weights of a file, layer by layer, and frozen layers stay as they are."""

import json
import pathlib
import shutil

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnns
from cnns import convert, weights
from configs import base
from experiments import data, run, train
from experiments.errors import UserError
from experiments.plan import checks
from experiments.plan import config as configs
from experiments.train import optim, start

CLASSES = tuple('abcdefghij')
ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (96, 32, 32, 1), np.uint8), np.arange(96) % 10
    labels = labels.astype(np.int32)
    part = lambda low, high: data.InMemory(pixels[low:high], labels[low:high])
    mean, std = data.moments(pixels[:64])
    return data.Dataset(
        'noise', part(0, 64), part(64, 80), part(80, 96), CLASSES, mean, std, 'made up'
    )


def config_of(**changes):
    config = base.get_config()
    defaults = dict(train__batch=16, train__epochs=1, train__devices=1, model__norm='batch')
    for path, value in (defaults | changes).items():
        configs.set_field(config, path.replace('__', '.'), value)
    return config


def drawn(name='lenet5', seed=7, side=32, **fields):
    """Variables of a net, every array of them random: statistics and biases too."""
    net = cnns.build(name, **{'channels': 1, **fields})
    init = lambda key, images: net.init(key, images, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, side, side, net.channels)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.float32(rng.uniform(0.1, 0.5, leaf.shape)), shapes)


def msgpack(folder, variables):
    path = folder / 'weights.msgpack'
    path.write_bytes(flax.serialization.msgpack_serialize(jax.tree.map(np.asarray, variables)))
    return str(path)


def flat(variables):
    return flax.traverse_util.flatten_dict(flax.core.unfreeze(variables), sep='/')


def begun(config, dataset):
    """The variables that a training begins with, and the notes on them."""
    program = train.program_of(config, dataset)
    state = program.init(config.seed)
    return flat(jax.device_get(dict(params=state.params, batch_stats=state.batch_stats))), program


def assert_from(found, given, only=None):
    for name, array in found.items():
        same = name in given and np.array_equal(array, given[name])
        assert same == (only is None or only(name)), name


# --- which weights a training begins with --------------------------------------------------------


def test_a_training_begins_with_the_whole_file_statistics_included(images, tmp_path):
    given = drawn(norm='batch')
    found, program = begun(config_of(train__start=msgpack(tmp_path, given)), images)
    assert_from(found, flat(given))
    (note,) = program.notes
    assert '8 of 8 layers of lenet5 begin with it: C1, C3, C5, F6, OUT' in note


def test_models_trained_together_all_begin_with_the_file(images, tmp_path):
    given = drawn(norm='batch')
    config = config_of(train__start=msgpack(tmp_path, given), train__together=2)
    state = train.program_of(config, images, 2).init(0, 1)
    found = np.asarray(state.params['C1']['conv']['kernel'])
    assert found.shape[:2] == (1, 2)
    np.testing.assert_array_equal(found[0, 0], given['params']['C1']['conv']['kernel'])
    np.testing.assert_array_equal(found[0, 1], given['params']['C1']['conv']['kernel'])


def test_another_number_of_classes_gets_the_head_that_its_seed_draws(images, tmp_path):
    given = drawn(norm='batch', classes=3)
    found, program = begun(config_of(train__start=msgpack(tmp_path, given)), images)
    assert_from(found, flat(given), lambda name: not name.startswith('params/OUT'))
    alone, _ = begun(config_of(), images)
    np.testing.assert_array_equal(found['params/OUT/kernel'], alone['params/OUT/kernel'])
    assert (
        'start: drawn anew: OUT (kernel 84x10 here, 84x3 in the file; bias 10 here, 3 in the file)'
        in program.notes
    )
    assert 'start: left in the file: OUT' in program.notes


@pytest.mark.parametrize('names, taken', [(CLASSES, True), (tuple('klmnopqrst'), False)])
def test_a_head_for_as_many_other_classes_is_drawn_anew(images, tmp_path, names, taken):
    path, given = tmp_path / 'mine.safetensors', drawn(norm='batch')
    fields = dict(norm='batch', channels=1)
    weights.save(path, given, dict(net='lenet5', fields=fields, class_names=names))
    found, program = begun(config_of(train__start=str(path)), images)
    assert_from(found, flat(given), lambda name: taken or not name.startswith('params/OUT'))
    assert ('the file is for other classes: k, l, m' in str(program.notes)) is not taken


@pytest.mark.parametrize(
    'name, kept, layers, taken',
    [
        ('digits', (), (), True),
        ('mnist', (), (), False),
        ('digits', tuple('1234567890'), (), False),
        ('mnist', (), ('OUT',), True),  # asked for
    ],
)
def test_a_run_on_another_data_set_gives_its_head_only_where_it_is_asked_for(
    images, tmp_path, name, kept, layers, taken
):
    given = drawn(norm='batch')
    path = msgpack(tmp_path, given)
    text = json.dumps({'data.name': name, 'data.classes': kept})
    (tmp_path / 'config.json').write_text(text)
    config = config_of(train__start=path, train__start_layers=layers)
    found, program = begun(config, images)
    same = np.array_equal(found['params/OUT/kernel'], given['params']['OUT']['kernel'])
    assert same == taken
    assert (f'drawn anew: OUT (the file is of a run on {name}' in str(program.notes)) is not taken


def test_a_new_head_is_drawn_where_it_is_asked_for(images, tmp_path):
    given = drawn(norm='batch')
    config = config_of(train__start=msgpack(tmp_path, given), train__new_head=True)
    found, _ = begun(config, images)
    assert_from(found, flat(given), lambda name: not name.startswith('params/OUT'))


def test_only_the_layers_asked_for_are_taken(images, tmp_path):
    given = drawn(norm='batch')
    layers = ('C1', 'C3/conv')
    config = config_of(train__start=msgpack(tmp_path, given), train__start_layers=layers)
    found, program = begun(config, images)
    assert_from(found, flat(given), lambda name: name.split('/', 1)[1].startswith(layers))
    assert 'begin with it: C1, C3/conv' in program.notes[0]


def test_pytorchs_weights_of_another_depth_give_the_layers_that_fit(images, tmp_path):
    given = drawn('resnet20')
    path = tmp_path / 'resnet20.safetensors'
    convert.save(path, convert.to_torch('resnet20', given))
    config = config_of(model__name='resnet32', train__start=str(path))
    found, program = begun(config, images)
    assert_from(found, flat(given), lambda name: name in flat(given))
    words = ' '.join(program.notes)
    assert 'read as weights of resnet20 of PyTorch' in words
    assert 'drawn anew: conv2_4, conv2_5, conv3_4' in words and '(not in the file)' in words


def test_weights_for_colour_begin_a_net_for_grey_images_by_their_sum(images, tmp_path):
    given = drawn('resnet20', channels=3)
    path = tmp_path / 'resnet20.safetensors'
    convert.save(path, convert.to_torch('resnet20', given))
    found, program = begun(config_of(model__name='resnet20', train__start=str(path)), images)
    kernel = given['params']['conv1']['conv']['kernel'].sum(2, keepdims=True)
    np.testing.assert_allclose(found['params/conv1/conv/kernel'], kernel, rtol=1e-6)
    assert 'summed over its 3 input channels' in ' '.join(program.notes)


def test_the_deep_column_of_vgg_begins_with_four_convolutions_and_the_dense_layer_of_a(images):
    """Simonyan & Zisserman 2014, Sec. 3.1. Without the net itself: its shapes are large."""
    from configs import vgg_cifar10, vgg_imagenet

    config = vgg_imagenet.get_config('D_from_A')
    assert config.train.start == 'runs/vgg_imagenet-A' and config.model.name == 'vgg16'
    shallow = flat(jax.eval_shape(lambda: drawn_shapes('vgg11')))
    deep = flat(jax.eval_shape(lambda: drawn_shapes('vgg16')))
    taken = [
        name.removeprefix('params/').removesuffix('/kernel').removesuffix('/conv')
        for name, leaf in deep.items()
        if name.endswith('/kernel')
        and any(start.covers(layer, name[7:]) for layer in config.train.start_layers)
    ]
    assert taken == ['conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc6', 'fc7', 'fc8']
    convolutions = [name for name in shallow if name.endswith('conv/kernel')]
    assert [name[7:14] for name in convolutions[:4]] == taken[:4]
    for layer in taken:
        for name in (f'params/{layer}/conv/kernel', f'params/{layer}/kernel'):
            assert (name in deep) == (name in shallow)
            assert name not in deep or deep[name].shape == shallow[name].shape
    assert vgg_cifar10.get_config('D_from_A').train.start == 'runs/vgg_cifar10-A'


def drawn_shapes(name):
    net = cnns.build(name)
    return net.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False)


# --- what names a run ----------------------------------------------------------------------------


def name_of(path, **changes):
    return checks.digest(checks.resolve(config_of(train__start=str(path), **changes)), 'final')


def test_another_file_is_another_run_and_the_same_file_elsewhere_is_not(tmp_path):
    one, two, three = (tmp_path / name for name in ('one.pth', 'two.pth', 'three.pth'))
    one.write_bytes(b'1')
    two.write_bytes(b'2')
    shutil.copy(one, three)
    assert name_of(one) == name_of(three)
    assert len({name_of(one), name_of(two), name_of(one, train__freeze=('C1',))}) == 3
    assert name_of(one) != checks.digest(checks.resolve(config_of()), 'final')
    before = name_of(one)
    one.write_bytes(b'other')
    assert name_of(one) != before


def test_a_shard_that_changes_makes_another_run(tmp_path):
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps(dict(weight_map={'a': 'shard.safetensors'})))
    (tmp_path / 'shard.safetensors').write_bytes(b'1')
    before = name_of(index)
    (tmp_path / 'shard.safetensors').write_bytes(b'22')
    assert name_of(index) != before


def test_a_work_directory_and_a_run_of_it_mean_its_weights(tmp_path):
    for name in ('0123456789ab', '123456789abc'):
        (tmp_path / 'points' / name).mkdir(parents=True)
    file = tmp_path / 'points/0123456789ab/weights.msgpack'
    file.write_bytes(b'1')
    assert name_of(tmp_path) == name_of(file.parent) == name_of(file)
    (tmp_path / 'points/123456789abc/weights.msgpack').write_bytes(b'2')
    runs = {'0123456789ab': dict(arm='max pooling', seed=3)}
    (tmp_path / 'plan.json').write_text(json.dumps(dict(runs=runs)))
    with pytest.raises(UserError, match=r'several weights; name one: .*0123456789ab \(max pooling'):
        name_of(tmp_path)


# --- what cannot be begun with -------------------------------------------------------------------


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(train__start='runs/none'), "train.start is 'runs/none': there is no such file"),
        (dict(train__freeze=(1,)), r'train.freeze is \(1,\), it must hold layers'),
    ],
)
def test_a_field_that_no_start_could_use_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        checks.resolve(config_of(**changes))


@pytest.mark.parametrize(
    'content, message',
    [
        (b'<!DOCTYPE html><html>', 'weights.pth cannot be read: it is a web page'),
        (b'', 'weights.pth cannot be read: it is empty'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'it is a Git LFS pointer'),
    ],
)
def test_a_file_that_is_no_weights_is_one_line_that_says_what_it_is(
    images, tmp_path, content, message
):
    (tmp_path / 'weights.pth').write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        train.program_of(config_of(train__start=str(tmp_path / 'weights.pth')), images)
    assert '\n' not in str(error.value)


def test_damaged_and_spoilt_weights_are_named(images, tmp_path):
    given = drawn(norm='batch')
    given['params']['C3']['conv']['kernel'][0] = np.nan
    path = msgpack(tmp_path, given)
    with pytest.raises(UserError, match='values that are not finite, in C3/conv'):
        train.program_of(config_of(train__start=path), images)
    pathlib.Path(path).write_bytes(b'\x81\xa6params')
    with pytest.raises(UserError, match='is no file of weights, or damaged'):
        train.program_of(config_of(train__start=path), images)


def test_weights_of_a_net_of_which_nothing_fits_say_what_both_have(images, tmp_path):
    path = msgpack(tmp_path, drawn('resnet20'))
    with pytest.raises(
        UserError, match='no layer of .* fits lenet5. The file has .*conv2_1/conv1.* the net has C1'
    ):
        train.program_of(config_of(train__start=path), images)


@pytest.mark.parametrize(
    'layers, message',
    [
        (('C2',), "unknown layer of lenet5 in train.start_layers 'C2'"),
        (('C1', 'C3'), 'train.start_layers names C1, but C1/norm of .* not in the file'),
    ],
)
def test_layers_asked_for_must_be_there(images, tmp_path, layers, message):
    path = msgpack(tmp_path, drawn(norm='none'))
    with pytest.raises(UserError, match=message):
        train.program_of(config_of(train__start=path, train__start_layers=layers), images)


# --- layers that do not move ---------------------------------------------------------------------


@pytest.mark.parametrize('rule, rate', [('momentum', 0.05), ('adamw', 0.01)])
def test_frozen_layers_keep_parameters_and_statistics_bit_for_bit(images, rule, rate):
    config = config_of(
        model__name='mlp_batchnorm',
        train__freeze=('fc1', 'fc2'),
        train__rule=rule,
        train__weight_decay=0.1,
        train__clip=1.0,
    )
    before, program = begun(config, images)
    state = program.init(config.seed)
    for batch in data.train_batches(images.train, 16, 1, 0, 1):
        state, _ = program.step(state, batch, np.float32(rate))
    after = flat(jax.device_get(dict(params=state.params, batch_stats=state.batch_stats)))
    assert before.keys() == after.keys() and 'batch_stats/fc1_norm/mean' in before
    for name, array in before.items():
        fixed = name.split('/')[1][:3] in ('fc1', 'fc2')
        assert np.array_equal(array, after[name]) == fixed, name


def test_frozen_batch_norm_computes_in_training_what_it_computes_in_inference(images, tmp_path):
    given = drawn(norm='batch')
    config = config_of(train__start=msgpack(tmp_path, given), train__freeze=('C1', 'C3', 'C5'))
    program = train.program_of(config, images)
    batch = next(data.train_batches(images.train, 16, 1, 0, 1))
    _, metrics = program.step(program.init(0), batch, np.float32(0.01))
    net = cnns.build('lenet5', norm='batch', channels=1)
    seen = (batch['image'][0] / np.float32(255) - images.mean) / images.std
    logits = net.apply(given, seen, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'][0])
    assert float(metrics['loss']) == pytest.approx(float(losses.mean()), rel=1e-4)


def test_the_bound_on_the_gradient_is_that_of_the_layers_that_move():
    config = config_of(train__clip=0.5, train__freeze=('a',))
    params = dict(a=dict(kernel=np.float32([3.0])), b=dict(kernel=np.float32([1.0, 2.0])))
    gradient = dict(a=dict(kernel=np.float32([100.0])), b=dict(kernel=np.float32([0.6, 0.8])))
    update = start.held(config, optim.update_of(config, params), params)
    moves, _ = update.update(gradient, update.init(params), params, learning_rate=0.1)
    np.testing.assert_array_equal(moves['a']['kernel'], [0.0])
    np.testing.assert_allclose(moves['b']['kernel'], [-0.03, -0.04], rtol=1e-6)


def test_a_name_means_what_it_begins_up_to_a_slash_or_an_underscore():
    known = ('conv2', 'conv2_1/conv1', 'conv2/norm', 'conv20', 'conv20_1', 'conv')
    assert [layer for layer in known if start.covers('conv2', layer)] == list(known[:3])


@pytest.mark.parametrize(
    'names, message',
    [
        (('C2',), "unknown layer of lenet5 in train.freeze 'C2'. Allowed: C1, C1/conv"),
        (('C1', 'C3', 'C5', 'F6', 'OUT'), 'leaves no layer of lenet5 to train'),
    ],
)
def test_layers_to_freeze_must_be_there_and_leave_some(images, names, message):
    with pytest.raises(UserError, match=message):
        train.program_of(config_of(train__freeze=names), images)


@pytest.mark.usefixtures('undrawn')
def test_a_training_starts_from_the_work_directory_of_another_and_says_so(tmp_path, capsys):
    command = ['--config', str(ROOT / 'configs/base.py'), '--compilation_cache', 'off']
    fields = ['model.name=mlp_300', 'train.steps=2', 'data.limit=128', 'train.devices=1']
    command += [f'--config.{field}' for field in fields]
    assert run.main([*command, '--workdir', str(tmp_path / 'one')]) == 0
    capsys.readouterr()
    more = [f'--config.train.start={tmp_path / "one"}', "--config.train.freeze='fc1'"]
    assert run.main([*command, *more, '--workdir', str(tmp_path / 'two')]) == 0
    assert 'note: start: ' in capsys.readouterr().err
    before, after = (
        weights.load(next(path.glob('points/*/*.safetensors')))[0]
        for path in (tmp_path / 'one', tmp_path / 'two')
    )
    same = jax.tree.map(np.array_equal, before['params'], after['params'])
    assert all(same['fc1'].values()) and not any(same['fc2'].values())
    (config,) = (tmp_path / 'two').glob('points/*/config.json')
    file = start.files.file_of(str(tmp_path / 'one'))
    assert json.loads(config.read_text())['train.start_digest'] == start.files.digest(file)
