"""Recipes: every one resolves, fits its net, has its paper's numbers; the cheap ones train."""

import functools
import pathlib
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from experiments import data, run, train
from experiments.plan import config as configs
from experiments.plan import runs
from experiments.preprocess import augment, views
from experiments.train import optim

FOLDER = pathlib.Path(__file__).parent.parent / 'configs'
# Height, channels and images of the train split, classes, of the sets as TFDS has them
SETS = {
    'digits': (32, 1, 1437, 10),
    'mnist': (28, 1, 60000, 10),
    'fashion_mnist': (28, 1, 60000, 10),
    'cifar10': (32, 3, 50000, 10),
    'imagenette/160px-v2': (None, 3, 9469, 10),
    'imagenet2012': (None, 3, 1281167, 1000),
    'folder:photographs': (None, 3, 200, 5),  # any number of any
}


def recipes():
    for path in sorted(FOLDER.glob('*.py')):
        if path.stem not in ('__init__', 'base') and not path.stem.startswith('ablate'):
            for argument in configs.read_config(str(path)).arguments or ('',):
                yield f'{path.stem}:{argument}'.rstrip(':')


def config_file(recipe):
    name, _, argument = recipe.partition(':')
    return configs.read_config(f'{FOLDER / name}.py:{argument}'.rstrip(':'))


def leave_weights(recipe, folder):
    """The weights that a recipe starts from, where it does; only their digest is asked for."""
    if start := config_file(recipe).make().train.start:
        place = folder / start / 'points/0123456789ab'
        place.mkdir(parents=True, exist_ok=True)
        (place / 'weights.msgpack').write_bytes(b'')


def dataset(config):
    """One grey image in place of the set, of the shape that it would have."""
    side, channels, _, classes = SETS[config.data.name]
    side = config.data.resize or max(side, config.data.side)
    part = data.InMemory(np.full((1, side, side, channels), 99, np.uint8), np.zeros(1, np.int32))
    mean, std = data.moments(part.images)
    return data.Dataset(
        config.data.name, part, part, part, tuple(map(str, range(classes))), mean, std, 'made up'
    )


def steps_per_epoch(config):
    return int(SETS[config.data.name][2] * (1 - config.data.validation)) // config.train.batch


@pytest.mark.parametrize('recipe', recipes())
def test_the_recipe_resolves_and_its_net_takes_what_the_augmentation_gives(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    leave_weights(recipe, tmp_path)
    plan = runs.plan_of(config_file(recipe))
    config = plan.config
    assert plan.name == recipe.replace(':', '-')
    images = dataset(config)
    statistics = data.statistics_of(images, augment.needs(images.shape, **config.augment))
    augmentation = augment.augmentation(images.shape, statistics, **config.augment)
    size = *augmentation.size, images.shape[-1]
    published = cnns.NETS[config.model.name].input
    fields = configs.fields_of(config)
    if size != published or config.model.fields or config.train.layer_decay:
        net = cnns.build(
            config.model.name, **fields, classes=len(images.classes), channels=size[-1]
        )
        shapes = jax.eval_shape(
            functools.partial(net.init, train=False),
            jax.random.PRNGKey(0),
            jax.ShapeDtypeStruct((1, *size), jnp.float32),
        )
        optim.decays_of(config, shapes['params'])  # raises for a layer that the net lacks
    assert views.views(config.evaluation.views, augmentation, config.evaluation.scales).count in (
        1,
        2,
        10,
        144,
    )
    given = jax.eval_shape(
        augmentation, jax.random.PRNGKey(0), jax.ShapeDtypeStruct((2, *images.shape), jnp.uint8)
    )
    assert given.shape == (2, *size)
    optim.schedule_of(config, steps_per_epoch(config))


@pytest.mark.parametrize('recipe', recipes())
def test_smoke_makes_every_recipe_two_steps_on_synthetic_images_of_the_sets_size(recipe):
    whole = config_file(recipe).make()
    separator = ',' if ':' in recipe else ':'
    plan = runs.plan_of(config_file(f'{recipe}{separator}smoke'))
    config = plan.config
    assert plan.name == recipe.replace(':', '-') + '-smoke'
    assert config.train.steps == 2 and not plan.learning_rates
    assert config.data.name.startswith('synthetic:10x')
    side, channels = map(int, config.data.name.split('x')[1:])
    side = config.data.resize or max(side, config.data.side)
    assert (side, channels) == dataset(whole).shape[1:]
    for group in ('model', 'augment'):
        assert config[group] == whole[group]


# batch, learning rate, momentum, decay, learning rate inside, its factors for weights and biases,
# the decay of biases: Sec. 5 of AlexNet, 3.1 of VGG, 3.4 and 4.2 of ResNet, the files of
# cuda-convnet and Caffe.
@pytest.mark.parametrize(
    'recipe, numbers',
    [
        ('alexnet_imagenet:paper', (128, 0.01, 0.9, 5e-4, True, 1, 1)),
        ('alexnet_imagenet:caffe', (256, 0.01, 0.9, 5e-4, True, 2, 0)),
        ('vgg_imagenet:D', (256, 0.01, 0.9, 5e-4, True, 1, 1)),
        ('googlenet_imagenet:paper', (32, 0.01, 0.9, 2e-4, True, 1, 1)),
        ('googlenet_imagenet:quick', (32, 0.01, 0.9, 2e-4, True, 2, 0)),
        ('resnet_imagenet:34', (256, 0.1, 0.9, 1e-4, False, 1, 1)),
        ('resnet_cifar10:20', (128, 0.1, 0.9, 1e-4, False, 1, 1)),
        ('cuda_convnet_cifar10:18pct', (128, 0.001, 0.9, 0.004, True, 2, 0)),
    ],
)
def test_the_update_has_the_papers_numbers(recipe, numbers):
    fields = config_file(recipe).make().train
    assert (
        fields.batch,
        fields.rate,
        fields.momentum,
        fields.weight_decay,
        fields.rate_in_velocity,
        fields.bias_rate,
        fields.bias_decay,
    ) == numbers


# What the net sees: resize, crop, its size, flip, deviation of PCA colour, photometric, what is
# subtracted, value of white, views of the test. Sec. 2, 4.1 of AlexNet, 3.1, 3.2 of VGG, 6, 7 of
# GoogLeNet (and Howard 2013), 3.4 and 4.2 of ResNet; the files of cuda-convnet and Caffe.
@pytest.mark.parametrize(
    'recipe, numbers',
    [
        ('alexnet_imagenet:paper', (256, 'random', 227, True, 0.1, False, 'pixel', 255, 'ten')),
        ('alexnet_imagenet:caffe', (256, 'random', 227, True, 0, False, 'pixel', 255, 'centre')),
        ('vgg_imagenet:D', (256, 'scale', 224, True, 0.1, False, 'channel', 255, 'dense')),
        ('vgg_imagenet:E-jitter', (384, 'scale', 224, True, 0.1, False, 'channel', 255, 'dense')),
        ('googlenet_imagenet:paper', (256, 'area', 224, True, 0.1, True, 'channel', 255, '144')),
        (
            'googlenet_imagenet:quick',
            (256, 'random', 224, True, 0, False, 'channel', 255, 'centre'),
        ),
        ('resnet_imagenet:34', (368, 'scale', 224, True, 0.1, False, 'pixel', 1, 'ten')),
        ('resnet_cifar10:20', (0, 'pad', 0, True, 0, False, 'pixel', 1, 'centre')),
        ('cuda_convnet_cifar10:80sec', (0, 'none', 0, False, 0, False, 'pixel', 255, 'centre')),
        ('cuda_convnet_cifar10:11pct', (0, 'random', 24, True, 0, False, 'pixel', 255, 'ten')),
    ],
)
def test_the_net_sees_what_the_papers_let_it_see(recipe, numbers):
    config = config_file(recipe).make()
    fields = config.augment
    assert (
        config.data.resize,
        fields.crop,
        fields.size,
        fields.flip,
        fields.colour,
        fields.photometric,
        fields.subtract,
        fields.white,
        config.evaluation.views,
    ) == numbers
    assert not fields.affine


def test_ranges_and_lengths_that_a_single_recipe_has():
    make = lambda recipe: config_file(recipe).make()
    assert tuple(make('vgg_imagenet:D').augment.scales) == (256, 256)
    assert tuple(make('vgg_imagenet:D-jitter').augment.scales) == (256, 512)
    assert tuple(make('resnet_imagenet:50').augment.scales) == (256, 480)
    assert make('resnet_imagenet:50').train.steps == 600_000
    assert make('resnet_cifar10:56').augment.pad == 4
    assert make('googlenet_imagenet:paper').augment.interpolation == 'random'
    assert make('googlenet_imagenet:paper').train.ema == 0.9999
    assert make('alexnet_imagenet:paper').train.epochs == 90
    for recipe in ('alexnet_imagenet:paper', 'vgg_imagenet:D', 'resnet_imagenet:18'):
        fields = make(recipe).train
        assert (fields.schedule, fields.drops, fields.factors) == ('plateau', 3, (0.1,))
    assert make('lenet_mnist:distorted').augment.affine
    assert make('lenet_mnist:1998').data.side == 32


@pytest.mark.parametrize('argument', ['small', 'full'])
def test_responses_are_measured_at_the_end_in_the_nets_of_the_papers_figure(argument):
    plan = runs.plan_of(config_file(f'responses:{argument}'))
    nets = [arm.resolved['model.name'] for arm in plan.arms]
    assert nets == ['plain20', 'plain56', 'resnet20', 'resnet56', 'resnet110']
    assert all(arm.seeds == (0, 1, 2, 3, 4) for arm in plan.arms)
    measure = plan.config.measure
    assert (measure.names, measure.epochs) == (('response_deviations',), ())
    depth = config_file(f'ablate_depth:{argument}').make()
    assert plan.config.train == depth.train and plan.config.data == depth.data


@pytest.mark.parametrize(
    'recipe, fields',
    [
        ('alexnet_imagenet:caffe', dict(initialiser='caffe', alpha_over_n=True, lrn_k=1.0)),
        ('googlenet_imagenet:quick', dict(alpha_over_n=True, lrn_k=1.0)),
    ],
)
def test_caffes_copies_are_built_as_caffes(recipe, fields):
    config = config_file(recipe).make()
    assert config.model.fields.to_dict() == fields
    net = cnns.build(config.model.name, **fields)
    assert all(getattr(net, name) == value for name, value in fields.items())


@pytest.mark.parametrize(
    'recipe, epochs, rates',
    [
        # (epoch, learning rate in it)
        ('cuda_convnet_cifar10:80sec', 10, ((0, 1e-3), (7, 1e-3), (8, 1e-4), (9, 1e-4))),
        ('cuda_convnet_cifar10:18pct', 140, ((119, 1e-3), (120, 1e-4), (129, 1e-4), (130, 1e-5))),
        ('cuda_convnet_cifar10:11pct', 520, ((499, 1e-3), (500, 1e-4), (510, 1e-5))),
        ('googlenet_imagenet:paper', 250, ((7, 0.01), (8, 0.0096), (16, 0.01 * 0.96**2))),
    ],
)
def test_learning_rates_that_fall_by_epochs_are_the_papers(recipe, epochs, rates):
    config = config_file(recipe).make()
    schedule = optim.schedule_of(config, steps_per_epoch(config))
    assert optim.length_of(config, steps_per_epoch(config)).epochs == epochs
    for epoch, rate in rates:
        assert config.train.rate * schedule(epoch * steps_per_epoch(config)) == pytest.approx(rate)


@pytest.mark.parametrize(
    'recipe, steps, rates',
    [
        ('alexnet_imagenet:caffe', 450_000, ((99_999, 0.01), (100_000, 0.001), (400_000, 1e-6))),
        ('googlenet_imagenet:quick', 2_400_000, ((0, 0.01), (600_000, 0.01 * 0.75**0.5))),
        ('resnet_cifar10:110', 64_000, ((31_999, 0.1), (32_000, 0.01), (48_000, 0.001))),
        ('vgg_imagenet:A', 370_000, ((0, 0.01), (369_999, 0.01))),  # except the plateaus
    ],
)
def test_learning_rates_that_fall_by_steps_are_the_papers(recipe, steps, rates):
    config = config_file(recipe).make()
    schedule = optim.schedule_of(config, steps_per_epoch(config))
    assert optim.length_of(config, steps_per_epoch(config)).steps == steps
    for step, rate in rates:
        assert config.train.rate * schedule(step) == pytest.approx(rate, rel=1e-9)


def test_the_decay_of_every_layer_of_cuda_convnets_files():
    read = {}
    for argument, layers in (
        ('80sec', ('conv1', 'fc64', 'fc10')),
        ('19pct', ('conv3', 'fc10')),
        ('18pct', ('conv3', 'fc10')),
        ('13pct', ('conv2', 'local3', 'fc10')),
        ('11pct', ('conv1', 'local4', 'fc10')),
    ):
        config = config_file(f'cuda_convnet_cifar10:{argument}').make()
        params = {layer: {'kernel': 0, 'bias': 0} for layer in ('conv1', 'conv2', *layers)}
        decays = optim.decays_of(config, params)
        assert not any(layer['bias'] for layer in decays.values())
        read[argument] = tuple(decays[layer]['kernel'] for layer in layers)
    assert read == {
        '80sec': (0.004, 0.03, 0.03),
        '19pct': (0.004, 3.0),
        '18pct': (0.004, 1.0),
        '13pct': (0.0, 0.004, 0.004),
        '11pct': (0.0, 0.004, 0.01),
    }


def test_only_resnet_110_and_its_plain_net_have_a_slow_first_phase():
    slow = [recipe for recipe in recipes() if config_file(recipe).make().train.warmup_error]
    assert slow == ['resnet_cifar10:110', 'resnet_cifar10:plain110']


def test_every_recipe_names_a_command_that_works_and_what_to_expect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(FOLDER)
    for recipe in recipes():
        leave_weights(recipe, tmp_path)
    for path in sorted({FOLDER / f'{recipe.partition(":")[0]}.py' for recipe in recipes()}):
        text = path.read_text().split('"""')[1]
        commands = re.findall(r'^ +python -m experiments.run (.+)$', text, re.M)
        assert f'--config configs/{path.name}' in text and commands, path.name
        for words in commands:  # as they would be pasted, remarks included
            assert run.main([*shlex.split(words, comments=True), '--dry_run']) == 0, words
        assert 'not measured here' in text or 'README' in text, path.name


@pytest.mark.parametrize(
    'recipe',
    [pytest.param('cuda_convnet_cifar10:80sec', marks=pytest.mark.long), 'lenet_mnist:distorted'],
)  # the long one takes the same way with another net
def test_a_cheap_recipe_trains_as_a_smoke_test(recipe):
    config = config_file(f'{recipe},smoke').make()
    row = train.fit(config, data.load(config.data), final=True)
    assert row['steps'] == 2 and row['test/count'] == 2
    assert np.isfinite([row['train/loss'], row['test/loss']]).all()


@pytest.mark.parametrize('size, least, most', [(1, 1.0001, 1.01), (64, 1.5, 99)])
def test_lrn_divides_the_responses_of_pixels_to_255_and_hardly_those_of_standardised(
    size, least, most
):
    """At the initial weights, on noise of this standard deviation; the divisor by a plain loop."""
    config = configs.read_config('configs/ablate_normalization.py:small_standardised').make()
    net = cnns.build('cuda_convnet_19pct', norm='lrn', **config.model.fields)
    noise = np.random.default_rng(0).standard_normal((8, 32, 32, 3))
    images = jnp.asarray(size * noise, jnp.float32)
    variables = net.init(jax.random.key(0), images, train=False)
    maps = np.asarray(net.apply(variables, images, train=False, features='pool1'))
    sums = [(maps[..., max(c - 4, 0) : c + 5] ** 2).sum(-1) for c in range(maps.shape[-1])]
    assert least < ((1 + 1e-3 / 9 * np.stack(sums)) ** 0.75).mean() < most
