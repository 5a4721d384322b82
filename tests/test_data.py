"""Data: fixed splits, an order that is a function of (seed, epoch), every image where it belongs."""

import shutil

import numpy as np
import pytest

from configs import base
from experiments import data
from experiments.errors import UserError


def fields(**changes):
    group = base.get_config().data
    for name, value in changes.items():
        group[name] = value
    return group


@pytest.fixture(scope='module')
def digits():
    return data.load(fields())


def split(count, side=2):
    return data.Split(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones(
        (1, side, side, 1), np.uint8), np.arange(count, dtype=np.int32))


def test_the_digits_are_1797_images_of_32_pixels_split_without_overlap(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part.labels) for part in parts] == [1293, 144, 360]
    assert all(part.images.shape[1:] == (32, 32, 1) for part in parts)
    from sklearn.datasets import load_digits
    labels = np.concatenate([part.labels for part in parts])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


def test_the_parts_do_not_depend_on_anything_but_the_fields(digits):
    again = data.load(fields())
    for one, two in zip((digits.train, digits.validation, digits.test),
                        (again.train, again.validation, again.test)):
        assert (one.images == two.images).all() and (one.labels == two.labels).all()


def test_limit_keeps_the_first_train_images_and_leaves_validation_alone(digits):
    small = data.load(fields(limit=100))
    assert (small.train.images == digits.train.images[:100]).all()
    assert (small.validation.images == digits.validation.images).all()


def test_the_moments_are_those_of_the_train_part_only(digits):
    pixels = digits.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(digits.mean, pixels.mean(), rtol=1e-6)
    np.testing.assert_allclose(digits.std, pixels.std(), rtol=1e-6)
    everything = np.concatenate([digits.train.images, digits.test.images]) / 255
    assert abs(everything.mean() - digits.mean[0]) > 1e-5


def test_moments_are_per_channel_and_a_constant_channel_keeps_its_zero():
    images = np.zeros((2, 1, 2, 2), np.uint8)
    images[..., 0] = [[[0, 255]], [[0, 255]]]
    images[..., 1] = 51
    mean, std = data.moments(images)
    np.testing.assert_allclose(mean, [0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(std, [0.5, 1.0], rtol=1e-6)


def test_the_order_is_a_function_of_seed_and_epoch():
    assert (data.order(50, 3, 2) == data.order(50, 3, 2)).all()
    assert sorted(data.order(50, 3, 2)) == list(range(50))
    assert not (data.order(50, 3, 2) == data.order(50, 3, 1)).all()
    assert not (data.order(50, 3, 2) == data.order(50, 2, 2)).all()
    assert not (data.order(50, 1, 2) == data.order(50, 2, 1)).all()


def test_batches_follow_the_order_and_keep_image_and_label_together():
    batches = list(data.train_batches(split(10), batch=4, devices=2, seed=0, epoch=1))
    assert [batch['image'].shape for batch in batches] == [(2, 2, 2, 2, 1)] * 2
    seen = np.concatenate([batch['label'].ravel() for batch in batches])
    assert (seen == data.order(10, 0, 1)[:8]).all()
    for batch in batches:
        assert (batch['image'][..., 0, 0, 0] == batch['label']).all()


def test_a_batch_that_does_not_divide_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match='batch of 10 images does not divide over 4 devices: 10 = 4 x 2 [+] 2'):
        data.shard(np.zeros(10), 4)


def test_fewer_images_than_a_batch_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match='3 images, fewer than one batch of 4'):
        next(data.train_batches(split(3), 4, 1, 0, 1))


@pytest.mark.parametrize('count, batch, devices', [(10, 4, 1), (10, 4, 4), (10, 3, 2), (8, 4, 2), (1, 8, 4)])
def test_evaluation_batches_hold_every_image_once_in_order(count, batch, devices):
    batches = list(data.eval_batches(split(count), batch, devices))
    labels = np.concatenate([b['label'].ravel()[b['mask'].ravel() > 0] for b in batches])
    assert (labels == np.arange(count)).all()
    assert len({b['image'].shape for b in batches}) == 1  # one shape: one compilation


def test_smaller_images_get_a_border_and_larger_ones_are_refused():
    padded = data._pad(split(3), 5, 'made up')
    assert padded.images.shape == (3, 5, 5, 1)
    assert (padded.images[2, 1:3, 1:3] == 2).all() and padded.images[2].sum() == 8
    with pytest.raises(UserError, match='2x2 are larger than data.side=1'):
        data._pad(split(3), 1, 'made up')


@pytest.mark.parametrize('changes, message', [
    (dict(validation=0.0001), 'leave 1437 to train on and 0 to validate on'),
    (dict(validation=0.9999), 'leave 0 to train on'),
])
def test_an_empty_part_is_an_error_with_the_numbers(changes, message):
    with pytest.raises(UserError, match=message):
        data.load(fields(**changes))


def test_a_label_outside_the_classes_is_named(monkeypatch):
    bad = split(20)
    raw = data.Raw(bad, bad, tuple('0123456789'), '')
    monkeypatch.setitem(data.SOURCES, 'made_up', lambda _: raw)
    with pytest.raises(UserError, match=r'image 10 of the train part has label 10, outside 0..9'):
        data.load(fields(name='made_up', validation=0.2))


def test_adding_a_source_is_one_function_and_one_line(monkeypatch):
    raw = data.Raw(split(20), split(4), tuple(map(str, range(20))), 'made up')
    monkeypatch.setitem(data.SOURCES, 'made_up', lambda _: raw)
    assert len(data.load(fields(name='made_up', validation=0.2)).train.labels) == 16


# --- TFDS ------------------------------------------------------------------------------------


def test_an_unknown_name_ends_with_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'mnits'. Did you mean 'mnist'"):
        data.load(fields(name='mnits'))


def test_an_unprepared_set_ends_with_the_command_to_run(tmp_path):
    with pytest.raises(UserError, match='not prepared.*\n.*experiments.data prepare mnist'):
        data.load(fields(name='mnist', dir=str(tmp_path)))


def test_mnist_is_the_published_one_in_its_hashed_order(tfds_dir):
    mnist = data.load(fields(name='mnist', dir=tfds_dir, side=32))
    assert [len(part.labels) for part in (mnist.train, mnist.validation, mnist.test)] == [54000, 6000, 10000]
    assert mnist.train.images.shape[1:] == (32, 32, 1)
    # published counts per digit of the two splits
    train = np.bincount(np.concatenate([mnist.train.labels, mnist.validation.labels]))
    assert train.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # 33.318 is the mean grey level of the 28x28 train split; the border adds zeros only
    both = np.concatenate([mnist.train.images, mnist.validation.images])
    assert abs(both.mean() * 32**2 / 28**2 - 33.318) < 1e-3
    assert both[:, :2].max() == both[:, :, 30:].max() == 0


def copied(tfds_dir, tmp_path):
    shutil.copytree(f'{tfds_dir}/mnist', tmp_path / 'mnist')
    return tmp_path / 'mnist' / '3.0.1' / 'mnist-test.array_record-00000-of-00001'


def test_a_missing_shard_is_named(tfds_dir, tmp_path):
    shard = copied(tfds_dir, tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match='mnist-test.array_record-00000-of-00001 of split .test. is missing'):
        data._read(data._builder(fields(name='mnist', dir=str(tmp_path))), 'test', 'mnist')


@pytest.mark.parametrize('kept', [0.5, 0.999, 0.0])
def test_a_truncated_shard_is_named(tfds_dir, tmp_path, kept):
    shard = copied(tfds_dir, tmp_path)
    content = shard.read_bytes()
    shard.write_bytes(content[:int(len(content) * kept)])
    with pytest.raises(UserError, match='cannot be read.*damaged.*mnist-test'):
        data._read(data._builder(fields(name='mnist', dir=str(tmp_path))), 'test', 'mnist')


def test_a_wrong_split_or_version_is_named(tfds_dir):
    with pytest.raises(UserError, match="no split 'tset'. It has: train, test"):
        data.load(fields(name='mnist', dir=tfds_dir, test='tset'))
    with pytest.raises(UserError, match='9.9.9'):
        data.load(fields(name='mnist:9.9.9', dir=tfds_dir))


@pytest.mark.parametrize('name', ['', 'mnist:', '../mnist', 'mnist/none', 'huggingface:mnist'])
def test_an_odd_name_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match='data set .* cannot be opened: '):
        data.load(fields(name=name, dir=str(tmp_path)))


@pytest.mark.parametrize('content', [b'', b'{"name": "mni', bytes(100)])
def test_a_damaged_description_of_a_set_is_named(tmp_path, content):
    (tmp_path / 'mnist' / '3.0.1').mkdir(parents=True)
    (tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json').write_bytes(content)
    with pytest.raises(UserError, match="data set 'mnist' cannot be opened: "):
        data.load(fields(name='mnist', dir=str(tmp_path)))


class Records(list):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Builder:
    """Stands in for a TFDS builder with one split of these records."""

    def __init__(self, *images):
        self.records = Records({'image': image, 'label': 0} for image in images)
        self.info = self
        self.splits = {'train': self}
        self.filepaths, self.num_examples = [], len(images)

    def as_data_source(self, part):
        return self.records


@pytest.mark.parametrize('images, message', [
    ([np.zeros((2, 2, 1), np.uint16)], 'the images are uint16, only sets of 8-bit images'),
    ([np.zeros((2, 2, 1), np.uint8), np.zeros((3, 2, 1), np.uint8)], r'record 1 of .* is \(3, 2, 1\)'),
    ([], 'is empty'),
])
def test_images_that_would_be_read_wrongly_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        data._read(Builder(*images), 'train', 'made_up')


def test_prepare_says_what_it_needs(capsys, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    assert data.main(['prepare', 'mnist']) == 2
    assert "pip install '.[prepare]'" in capsys.readouterr().err
    assert data.main(['prepare', 'digits']) == 0
