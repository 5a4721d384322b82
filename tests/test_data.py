"""Data: fixed splits, an order that is a function of (seed, epoch), images where they belong."""

import copy
import shutil

import numpy as np
import pytest

from configs import base
from experiments import data
from experiments.data import commands, dataset, records, sources
from experiments.data.decode import Decoding
from experiments.errors import UserError


def fields(**changes):
    group = base.get_config().data
    for name, value in changes.items():
        group[name] = value
    return group


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def digits():
    return data.load(fields())


def split(count, side=2):
    return data.Split(
        np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
        * np.ones((1, side, side, 1), np.uint8),
        np.arange(count, dtype=np.int32),
    )


def test_the_digits_are_1797_images_of_32_pixels_split_without_overlap(digits):
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part.labels) for part in parts] == [1293, 144, 360]
    assert all(part.images.shape[1:] == (32, 32, 1) for part in parts)
    from sklearn.datasets import load_digits

    labels = np.concatenate([part.labels for part in parts])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


def test_the_parts_do_not_depend_on_anything_but_the_fields(digits):
    again = data.load(fields())
    for one, two in zip(
        (digits.train, digits.validation, digits.test), (again.train, again.validation, again.test)
    ):
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
    with pytest.raises(
        UserError, match='batch of 10 images does not divide over 4 devices: 10 = 4 x 2 [+] 2'
    ):
        data.shard(np.zeros(10), 4)


def test_fewer_images_than_a_batch_is_an_error_with_the_numbers():
    with pytest.raises(UserError, match='3 images, fewer than one batch of 4'):
        next(data.train_batches(split(3), 4, 1, 0, 1))


@pytest.mark.parametrize(
    'count, batch, devices', [(10, 4, 1), (10, 4, 4), (10, 3, 2), (8, 4, 2), (1, 8, 4)]
)
def test_evaluation_batches_hold_every_image_once_in_order(count, batch, devices):
    batches = list(data.eval_batches(split(count), batch, devices))
    labels = np.concatenate([b['label'].ravel()[b['mask'].ravel() > 0] for b in batches])
    assert (labels == np.arange(count)).all()
    assert len({b['image'].shape for b in batches}) == 1  # one shape: one compilation


def made_up(train, test=None, classes=10, **rest):
    """A source of these parts, as SOURCES takes it; the test part is a copy under another name."""
    if test is None:
        test = copy.copy(train)
        test.name = f'{train.name}, test'
    return lambda _: data.Source(
        {'train': train, 'test': test}, tuple(map(str, range(classes))), 'made up', **rest
    )


def arrays(count, side=2, channels=1):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return data.Arrays(np.tile(images, (1, side, side, channels)), np.arange(count) % 10, 'made up')


def test_smaller_images_get_a_border_and_larger_ones_are_refused(monkeypatch):
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20)))
    test = data.load(fields(name='made_up', side=5)).test
    assert test.images.shape == (20, 5, 5, 1)
    assert (test.images[2, 1:3, 1:3] == 2).all() and test.images[2].sum() == 8
    with pytest.raises(UserError, match='record 0 is 2x2, larger than data.side=1'):
        data.load(fields(name='made_up', side=1))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(validation=0.0001), 'leave 1437 to train on and 0 to validate on'),
        (dict(validation=0.9999), 'leave 0 to train on'),
    ],
)
def test_an_empty_part_is_an_error_with_the_numbers(changes, message):
    with pytest.raises(UserError, match=message):
        data.load(fields(**changes))


@pytest.mark.parametrize('stream', ['never', 'always'])
@pytest.mark.parametrize('label', [10, -1])
def test_a_label_outside_the_classes_is_named(monkeypatch, stream, label):
    part = arrays(20)
    part.labels[13] = label
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    with pytest.raises(UserError, match=rf'record 13 has label {label}, outside 0..9'):
        data.load(fields(name='made_up', validation=0.2, stream=stream))


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_adding_a_source_is_one_function_and_one_line(monkeypatch, stream):
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20)))
    dataset = data.load(fields(name='made_up', validation=0.2, stream=stream))
    assert len(dataset.train.labels) == 16 and dataset.shape == (2, 2, 1)
    with pytest.raises(UserError, match="unknown part of made_up 'tset'. Did you mean 'test'"):
        data.load(fields(name='made_up', test='tset'))


@pytest.mark.parametrize(
    'channels, wanted, note',
    [(1, 3, 'grey images repeated in 3 channels'), (3, 1, 'colour images turned into grey')],
)
def test_channels_are_converted_and_it_is_said(monkeypatch, channels, wanted, note):
    part = arrays(20, channels=channels)
    part.images[..., 0] += 100
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    kept, turned = (data.load(fields(name='made_up', channels=value)) for value in (0, wanted))
    assert kept.shape == (2, 2, channels) and turned.shape == (2, 2, wanted)
    assert note in turned.note and note not in kept.note
    weights = [0.299, 0.587, 0.114] if channels == 3 else [1]
    grey = kept.train.images.astype(float) @ weights
    assert np.abs(turned.train.images.mean(-1) - grey).max() <= 1


def test_streamed_and_in_memory_describe_the_same_data_set(monkeypatch):
    monkeypatch.setattr(dataset, 'SAMPLE', 50)
    one, two = (
        data.load(fields(name='synthetic:200x16x3', stream=stream, limit=120))
        for stream in ('never', 'always')
    )
    assert isinstance(one.train, data.Split) and isinstance(two.train, data.Streamed)
    assert one.fingerprint == two.fingerprint and one.note == two.note
    assert 'sample of 50' in one.note
    assert (one.mean == two.mean).all() and (one.std == two.std).all()
    for a, b in zip((one.train, one.validation, one.test), (two.train, two.validation, two.test)):
        assert (np.asarray(a.labels) == np.asarray(b.labels)).all() and len(a.labels)
        for x, y in zip(a.read(np.arange(len(a.labels))), b.read(np.arange(len(b.labels)))):
            assert (x == y).all()


def test_what_does_not_fit_is_streamed(monkeypatch):
    monkeypatch.setattr(dataset, 'MEMORY', 1000)
    load = lambda **changes: data.load(fields(name='synthetic:50x16x1', **changes)).train
    assert isinstance(load(), data.Streamed) and isinstance(load(stream='never'), data.Split)
    monkeypatch.setattr(dataset, 'MEMORY', 10**6)
    assert isinstance(load(), data.Split)


def test_pages_that_the_system_can_give_back_count_as_free(tmp_path):
    (tmp_path / 'memory.max').write_text('1000\n')
    (tmp_path / 'memory.current').write_text('900\n')
    (tmp_path / 'memory.stat').write_text('anon 300\ninactive_file 400\nactive_file 200\n')
    assert dataset._container(str(tmp_path)) == 700
    (tmp_path / 'memory.max').write_text('max\n')
    with pytest.raises(ValueError):
        dataset._container(str(tmp_path))


def test_two_parts_that_cannot_be_told_apart_are_refused(monkeypatch):
    part = arrays(20)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part, part))
    with pytest.raises(UserError, match='train and its test part have the same name and finger'):
        data.load(fields(name='made_up', validation=0.2))


class Made(data.Records):
    """Records of a user's own, whose fetch may give anything."""

    size = (2, 2, 1)

    def __init__(self, name='mine', label=lambda index: index % 10, count=20):
        self.name, self.label, self.count, self.fingerprint = name, label, count, f'1 {name}'

    def __len__(self):
        return self.count

    def fetch(self, indices):
        return [(np.full((2, 2, 1), index % 250, np.uint8), self.label(index)) for index in indices]


@pytest.mark.parametrize('stream', ['never', 'always'])
@pytest.mark.parametrize('label', [0.75, '3', None, [1]])
def test_a_label_that_is_no_whole_number_is_named(monkeypatch, stream, label):
    part = Made(label=lambda index: label if index == 13 else index % 10)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    with pytest.raises(UserError, match='record 13 has label .*, which is no whole number'):
        data.load(fields(name='made_up', validation=0.2, stream=stream, cache='off'))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(labels=[0] * 20), r'labels of its Records are \[0.*an array of 20 whole numbers'),
        (dict(labels=np.zeros(3, int)), 'an array of 20 whole numbers'),
        (dict(fingerprint=''), 'gives no fingerprint'),
    ],
)
def test_records_that_say_something_odd_are_refused(monkeypatch, change, message):
    part = Made()
    vars(part).update(change)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    with pytest.raises(UserError, match=message):
        data.load(fields(name='made_up', validation=0.2, cache='off'))


@pytest.mark.parametrize(
    'source, message',
    [
        (lambda _: None, 'gives None, it must give a Source'),
        (lambda _: data.Source({}, ('a',), ''), 'it must give a Source with at least one part'),
        (lambda _: data.Source({'train': Made()}, (), ''), 'the classes of made_up are'),
        (
            lambda _: data.Source({'train': Made()}, ('a',), '', validation='dev'),
            "part to validate on.*'dev'.*Allowed: train",
        ),
    ],
)
def test_a_source_that_gives_something_odd_is_refused(monkeypatch, source, message):
    monkeypatch.setitem(data.SOURCES, 'made_up', source)
    with pytest.raises(UserError, match=message):
        data.load(fields(name='made_up'))


def test_labels_of_embedded_parts_are_checked_before_they_are_used(monkeypatch):
    test = arrays(20)
    test.name, test.labels[7] = 'other', 12
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20), test))
    with pytest.raises(UserError, match='record 7 has label 12, outside 0..9'):
        data.load(fields(name='made_up', validation=0.2, stream='always'))


def test_a_part_without_a_class_is_said(monkeypatch):
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20)))
    note = data.load(fields(name='made_up', validation=0.2)).note
    assert note == 'made up; no validation image of 6 of the 10 classes'
    assert 'classes' not in data.load(fields(name='synthetic:1000x16x1')).note


def test_too_few_images_are_refused_before_any_is_read(monkeypatch):
    part = Made()
    part.fetch = lambda indices: pytest.fail('read')
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    for changes, count in ((dict(), 16), (dict(limit=5), 5)):
        with pytest.raises(UserError, match=f'has {count} images, fewer than one batch of 17'):
            data.load(
                fields(name='made_up', validation=0.2, channels=1, cache='off', **changes), least=17
            )


def test_what_was_found_is_a_digest_of_the_bytes_however_they_are_read(monkeypatch):
    found = lambda **changes: data.load(fields(name='made_up', validation=0.2, **changes)).found
    part = Made()
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    ways = [
        dict(stream='never'),
        dict(stream='always'),
        dict(stream='never'),
        dict(limit=3),
        dict(stream='always', resize=1),
        dict(stream='always', cache='off'),
    ]
    assert len({found(**way) for way in ways}) == 1
    plain = part.fetch
    before = found(cache='off')
    part.fetch = lambda indices: [
        (image + (index == 3), label) for index, (image, label) in zip(indices, plain(indices))
    ]
    assert found(cache='off') != before
    part.fetch = lambda indices: [
        (image, 9 if index == 3 else label)
        for index, (image, label) in zip(indices, plain(indices))
    ]
    assert found(cache='off') != before


def test_a_long_look_through_that_was_interrupted_goes_on(monkeypatch):
    part, read = Made(count=1000), []
    plain = part.fetch

    def fetch(indices):
        if len(read) == 22:
            raise KeyboardInterrupt
        read.append(len(indices))
        return plain(indices)

    part.fetch = fetch
    other = Made('other')
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(other, part))
    load = lambda **changes: data.load(fields(name='made_up', stream='always', **changes))
    with pytest.raises(KeyboardInterrupt):
        load()
    assert sum(read) == 704
    read.append(0)
    dataset = load()
    assert sum(read) == 704 + 360  # whole chunks are kept: 640 of the first 704 records
    assert dataset.found == load(cache='off').found


def test_a_source_without_a_fingerprint_is_refused(monkeypatch):
    part = arrays(20)
    part.fingerprint = ''
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(part))
    with pytest.raises(UserError, match='its source gives no fingerprint'):
        data.load(fields(name='made_up', validation=0.2))


def test_a_part_of_a_set_is_said_beside_every_number():
    whole, part, all_of_it = (
        data.load(fields(name='synthetic:200x16x1', validation=0.2, limit=n)) for n in (0, 50, 160)
    )
    assert 'only the first 50 of 160 training images' in part.note
    assert 'only' not in whole.note and 'only' not in all_of_it.note


def test_the_fingerprint_changes_with_what_is_trained_on():
    prints = [
        data.load(fields(name='synthetic:200x16x1', **changes)).fingerprint
        for changes in (
            dict(),
            dict(side=20),
            dict(resize=12),
            dict(channels=3),
            dict(limit=50),
            dict(validation=0.3),
        )
    ]
    prints.append(data.load(fields(name='synthetic:201x16x1')).fingerprint)
    assert len(set(prints)) == len(prints)


def test_a_sample_is_fixed_and_of_different_images(digits):
    drawn = data.sample(digits.train, 100)
    assert drawn.shape == (100, 32, 32, 1) and (drawn == data.sample(digits.train, 100)).all()
    assert len({image.tobytes() for image in drawn}) > 95
    assert len(data.sample(digits.train, 10**6)) == len(digits.train.labels)


# --- TFDS ------------------------------------------------------------------------------------


def test_an_unknown_name_ends_with_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'mnits'. Did you mean 'mnist'"):
        data.load(fields(name='mnits'))


def test_an_unprepared_set_ends_with_the_command_to_run(tmp_path):
    with pytest.raises(UserError, match='not prepared.*\n.*experiments.data prepare mnist'):
        data.load(fields(name='mnist', dir=str(tmp_path)))


def test_mnist_is_the_published_one_in_its_hashed_order(tfds_dir):
    # published counts per digit of the two splits; the labels are read without decoding an image
    parts = data.parts_of(fields(name='mnist', dir=tfds_dir))[1]
    counts = {
        name: np.bincount([label for _, label in records.fetch(range(len(records)))])
        for name, records in parts.items()
    }
    assert counts['train'].tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts['test'].tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    mnist = data.load(fields(name='mnist', dir=tfds_dir, side=32, train='test', test='train[:100]'))
    assert [len(part.labels) for part in (mnist.train, mnist.validation)] == [9000, 1000]
    assert mnist.train.images.shape[1:] == (32, 32, 1)
    # 33.791 is the mean grey level of the 28x28 test split; the border adds zeros only
    both = np.concatenate([mnist.train.images, mnist.validation.images])
    assert abs(both.mean() * 32**2 / 28**2 - 33.791) < 1e-3
    assert both[:, :2].max() == both[:, :, 30:].max() == 0


def part_of(group, name):
    return sources.part(sources.find(group), name, group)


def copied(tfds_dir, tmp_path):
    shutil.copytree(f'{tfds_dir}/mnist', tmp_path / 'mnist')
    return tmp_path / 'mnist' / '3.0.1' / 'mnist-test.array_record-00000-of-00001'


def test_a_missing_shard_is_named(tfds_dir, tmp_path):
    shard = copied(tfds_dir, tmp_path)
    shard.unlink()
    with pytest.raises(
        UserError, match='mnist-test.array_record-00000-of-00001 of split .test. is missing'
    ) as told:
        data.load(fields(name='mnist', dir=str(tmp_path)))
    # TFDS writes nothing where a set is prepared, so preparing alone would not help
    assert f'Remove the folder {shard.parent}' in str(told.value)
    assert f'prepare mnist --data_dir {tmp_path}' in str(told.value)


@pytest.mark.parametrize('kept', [0.5, 0.999, 0.0])
def test_a_truncated_shard_is_named(tfds_dir, tmp_path, kept):
    shard = copied(tfds_dir, tmp_path)
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match='mnist-test.* is damaged .*Remove the folder'):
        part_of(fields(name='mnist', dir=str(tmp_path)), 'test').fetch([0])


def test_a_shard_without_rights_is_named_and_never_left_out(tfds_dir, tmp_path, monkeypatch):
    shard, plain = copied(tfds_dir, tmp_path), open

    def refuse(path, *rest, **given):
        if str(path) == str(shard):
            raise PermissionError(13, 'Permission denied', str(path))
        return plain(path, *rest, **given)

    monkeypatch.setattr('builtins.open', refuse)
    with pytest.raises(
        UserError, match='mnist-test.* cannot be read .*Permission denied'
    ) as caught:
        data.load(
            fields(
                name='mnist',
                dir=str(tmp_path),
                skip_broken=True,
                train='test[:50%]',
                test='test[50%:]',
            )
        )
    assert 'Remove' not in str(caught.value)


def test_a_set_in_another_format_is_not_called_damaged(tfds_dir, tmp_path):
    copied(tfds_dir, tmp_path)
    place = tmp_path / 'mnist' / '3.0.1'
    text = (place / 'dataset_info.json').read_text()
    (place / 'dataset_info.json').write_text(text.replace('array_record', 'tfrecord'))
    for shard in place.glob('*array_record*'):
        shard.rename(place / shard.name.replace('array_record', 'tfrecord'))
    with pytest.raises(
        UserError, match='is prepared as tfrecord files.*only array_record'
    ) as caught:
        data.load(fields(name='mnist', dir=str(tmp_path)))
    assert 'damaged' not in str(caught.value) and 'Remove' not in str(caught.value)


def test_a_wrong_split_or_version_is_named(tfds_dir):
    with pytest.raises(
        UserError, match="no split 'tset'. Did you mean 'test'.* It has: train, test"
    ):
        data.load(fields(name='mnist', dir=tfds_dir, test='tset'))
    with pytest.raises(UserError, match='9.9.9.* Prepared here: mnist:3.0.1') as told:
        data.load(fields(name='mnist:9.9.9', dir=tfds_dir))
    assert 'builder_kwargs' not in str(told.value)


def test_a_test_part_that_overlaps_the_train_part_is_refused(tfds_dir):
    with pytest.raises(UserError, match='share 6000 or more images'):
        data.load(fields(name='mnist', dir=tfds_dir, train='train[:90%]', test='train[80%:]'))
    with pytest.raises(UserError, match='share 10000 or more images'):
        data.load(fields(name='mnist', dir=tfds_dir, train='train+test'))
    with pytest.raises(UserError, match='share 100 or more images'):  # not in the last piece
        data.load(
            fields(
                name='mnist', dir=tfds_dir, train='train[:200]+train[900:]', test='train[100:300]'
            )
        )
    with pytest.raises(UserError, match='names some images twice'):
        data.load(fields(name='mnist', dir=tfds_dir, train='train[:200]+train[100:300]'))


def test_pieces_apart_are_read_in_their_order(tfds_dir):
    apart, whole = (
        data.load(
            fields(name='mnist', dir=tfds_dir, train=train, test='train[500:510]', stream='always')
        ).train
        for train in ('train[100:110]+train[:10]', 'train[:110]')
    )
    pieces = whole.read(np.arange(8))[0]
    assert (apart.read(np.arange(10, 18))[0] == pieces).all()


def test_an_empty_part_is_named(tfds_dir):
    for part in ('train[:0%]', 'train[90%:10%]'):
        with pytest.raises(UserError, match='is empty'):
            data.load(fields(name='mnist', dir=tfds_dir, train=part))


def test_splits_are_read_in_the_syntax_of_tfds_and_class_names_kept(tfds_dir):
    cifar10 = data.load(
        fields(name='cifar10:3.0.2', dir=tfds_dir, train='train[:1%]', test='train[1%:2%]')
    )
    assert [len(part.labels) for part in (cifar10.train, cifar10.validation, cifar10.test)] == [
        450,
        50,
        500,
    ]
    assert cifar10.classes == (
        'airplane',
        'automobile',
        'bird',
        'cat',
        'deer',
        'dog',
        'frog',
        'horse',
        'ship',
        'truck',
    )


def test_pixels_are_those_that_tfds_decodes(tfds_dir):
    import tensorflow_datasets as tfds

    for name, part in (('cifar10', 'test[:20]'), ('mnist', 'test[:20]')):
        group = fields(name=name, dir=tfds_dir)
        theirs = tfds.data_source(name, split=part, data_dir=tfds_dir, download=False)
        ours = part_of(group, part)
        for index in range(20):
            image, label = records.one(ours, index, Decoding(ours.size[2]))
            assert (image == theirs[index]['image']).all() and label == theirs[index]['label']


@pytest.mark.parametrize('name', ['', 'mnist:', '../mnist', 'mnist/none', 'huggingface:mnist'])
def test_an_odd_name_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match='data set .* cannot be opened: |unknown data set '):
        data.load(fields(name=name, dir=str(tmp_path)))


@pytest.mark.parametrize('content', [b'', b'{"name": "mni', bytes(100)])
def test_a_damaged_description_of_a_set_is_named(tmp_path, content):
    (tmp_path / 'mnist' / '3.0.1').mkdir(parents=True)
    (tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json').write_bytes(content)
    with pytest.raises(UserError, match="data set 'mnist' cannot be opened: "):
        data.load(fields(name='mnist', dir=str(tmp_path)))


def test_prepare_says_what_it_needs(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    assert commands.main(['prepare', 'mnist']) == 2
    assert "pip install '.[prepare]'" in capsys.readouterr().err
    assert commands.main(['prepare', 'digits']) == 0
