"""The weights of a finished run carry what is needed to use them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import weights
from configs import base
from experiments import data
from experiments.errors import UserError
from experiments.evaluation import ready
from experiments.plan import config as configs
from experiments.preprocess import augment, views
from experiments.train import saved

RUN = dict(title='t', arm='a', seed=3, name='0123456789ab')


def dataset(shape=(16, 16, 3)):
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    part = data.InMemory(images, np.arange(20, dtype=np.int32) % 3)
    return data.Dataset('made', part, part, part, ('a', 'b', 'c'), *data.moments(images), 'made up')


def config_of(**changes):
    config = base.get_config()
    for path, value in (dict(model__name='mlp_300') | changes).items():
        configs.set_field(config, path.replace('__', '.'), value)
    return config


def write(path, config, images, side=16):
    """Writes the file of a run of this config; returns its variables."""
    classes, channels = len(images.classes), images.shape[-1]
    net = cnns.build(
        config.model.name, **configs.fields_of(config), classes=classes, channels=channels
    )
    blank = jnp.zeros((1, side, side, channels))
    variables = jax.tree.map(np.asarray, net.init(jax.random.key(0), blank, train=False))
    path.write_bytes(saved.pack(variables, config, images, RUN))
    return variables


@pytest.mark.parametrize(
    'fields',
    [
        {},
        dict(augment__subtract='channel', augment__white=255.0),
        dict(augment__subtract='pixel', augment__colour=0.1),
        dict(augment__permute=True, augment__crop='random', augment__size=12),
        dict(augment__crop='scale', augment__scales=(14, 20), augment__size=12),
    ],
    ids=lambda fields: ' '.join(map(str, fields.values())) or 'plain',
)
def test_a_file_alone_prepares_images_as_the_training_did(tmp_path, fields):
    images, config = dataset(), config_of(**fields)
    side = config.augment.size or 16
    variables = write(tmp_path / 'weights.safetensors', config, images, side)
    net = ready.read(ready.Asked(str(tmp_path)))
    statistics = data.statistics_of(images, augment.needs(images.shape, **config.augment))
    trained = augment.augmentation(images.shape, statistics, **config.augment)
    (theirs,) = views.views('centre', trained)(images.test.images)
    seen = views.views('centre', net.trained)
    np.testing.assert_array_equal(seen(images.test.images)[0], theirs)
    own = cnns.build('mlp_300', classes=3, channels=3)
    expected = own.apply(variables, theirs, train=False)
    got = ready.jitted(ready.scorer(net, seen), net)(net.variables, images.test.images)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert net.classes == ('a', 'b', 'c') and net.run == RUN | {'data': 'made'}


def test_mean_and_deviation_in_the_file_are_those_that_images_are_divided_by(tmp_path):
    images = dataset()
    metadata = saved.metadata_of(config_of(), images, RUN)
    np.testing.assert_array_equal(np.float32(metadata['mean']), images.mean)
    np.testing.assert_array_equal(np.float32(metadata['std']), images.std)
    changes = dict(augment__subtract='channel', augment__white=255.0)
    assert saved.metadata_of(config_of(**changes), images, RUN)['std'] == [1 / 255] * 3
    metadata = saved.metadata_of(config_of(augment__subtract='pixel'), images, RUN)
    assert 'mean' not in metadata and metadata['std'] == [1] * 3
    path = tmp_path / 'weights.safetensors'
    write(path, config_of(augment__subtract='pixel'), images)
    expected = images.train.images.mean(0) / 255
    np.testing.assert_allclose(weights.load(path)[0]['input']['mean_image'], expected, atol=1e-6)


def test_fields_of_the_net_are_those_that_differ_from_its_own_choice():
    changes = dict(
        model__name='resnet20', model__norm='batch', model__dtype='bfloat16', train__together=2,
        train__freeze=('conv1',), **{'model.fields.shortcut': 'B'},
    )  # fmt: skip
    metadata = saved.metadata_of(config_of(**changes), dataset((32, 32, 3)), RUN)
    assert metadata['fields'] == dict(shortcut='B', classes=3, dtype='bfloat16')
    net = cnns.build('resnet20', shortcut='B', classes=3, dtype='bfloat16')
    assert weights.build(metadata) == net
    assert metadata['resolution'] == 32


def test_what_says_where_a_run_was_trained_is_not_in_its_weights():
    here = dict(data__cache='/a', data__dir='/b', train__devices=1, train__together=3)
    images = dataset()
    one = saved.metadata_of(config_of(), images, RUN)
    assert saved.metadata_of(config_of(**here), images, RUN) == one


def test_a_mean_image_belongs_to_its_size(tmp_path):
    write(tmp_path / 'weights.safetensors', config_of(augment__subtract='pixel'), dataset())
    with pytest.raises(UserError, match='subtracts a mean image of 16x16 pixels: leave out'):
        ready.read(ready.Asked(str(tmp_path), resize=20))
    net = ready.read(ready.Asked(str(tmp_path), mean='0.5', std='0.25'))
    assert np.unique(net.trained.prepare(np.full((1, 16, 16, 3), 51, np.uint8))) == np.float32(-0.3)
