"""Prepared TFDS sets, read without TensorFlow: the published images, and mistakes named."""

import json
import os
import shutil

import numpy as np
import pytest

from experiments import data
from experiments.data import commands, records, sources
from experiments.data.decode import Decoding
from experiments.errors import UserError


def fields(name, dir=None, **changes):
    return sources.fields_of(name, dir, **changes)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def test_an_unknown_name_ends_with_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'mnits'. Did you mean 'mnist'"):
        data.load(fields('mnits'))


def test_an_unprepared_set_ends_with_the_command_to_run(tmp_path):
    with pytest.raises(UserError, match='not prepared.*experiments.data prepare mnist'):
        data.load(fields('mnist', dir=str(tmp_path)))


def test_mnist_is_the_published_one(tfds_dir):
    mnist = data.load(fields('mnist', dir=tfds_dir, side=32, train='test', test='train[:100]'))
    splits = mnist.train, mnist.validation
    assert [len(split.labels) for split in splits] == [9000, 1000]
    # published counts per digit of the test split
    counts = np.bincount(np.concatenate([split.labels for split in splits]))
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.train.images.shape[1:] == (32, 32, 1)
    # 33.791 is the mean grey level of the 28x28 test split; the border adds zeros only
    both = np.concatenate([split.images for split in splits])
    assert abs(both.mean() * 32**2 / 28**2 - 33.791) < 1e-3
    assert both[:, :2].max() == both[:, :, 30:].max() == 0


@pytest.mark.parametrize('name, first_bytes', [('mnist', b'\x89PNG'), ('cifar10', b'\xff\xd8\xff')])
def test_the_note_says_how_the_images_are_stored(tfds_dir, name, first_bytes):
    source = sources.find(fields(name, dir=tfds_dir))
    ((raw, _),) = source.splits['test'].fetch([0])
    stored = {b'\x89PNG': 'PNG', b'\xff\xd8\xff': 'JPEG'}[first_bytes]
    assert raw.startswith(first_bytes)
    assert source.note.endswith(f'as prepared in this TFDS data_dir, images stored as {stored}')


@pytest.mark.long  # as the test split above, with six times the images
def test_the_digits_to_train_on_are_as_many_as_published(tfds_dir):
    records = data.open_splits(fields('mnist', dir=tfds_dir))[1]['train']
    counts = np.bincount([label for _, label in records.fetch(range(len(records)))])
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def split_of(group, name):
    return sources.split_of(sources.find(group), name, group)


def copied(tfds_dir, tmp_path):
    shutil.copytree(f'{tfds_dir}/mnist', tmp_path / 'mnist')
    return tmp_path / 'mnist' / '3.0.1' / 'mnist-test.array_record-00000-of-00001'


def test_a_missing_shard_is_named(tfds_dir, tmp_path):
    shard = copied(tfds_dir, tmp_path)
    shard.unlink()
    with pytest.raises(
        UserError, match='mnist-test.array_record-00000-of-00001 of split .test. is missing'
    ) as caught:
        data.load(fields('mnist', dir=str(tmp_path)))
    # TFDS writes nothing where a set is prepared, and the other splits may be sound
    assert 'prepare the set in another folder: python -m experiments.data prepare mnist' in str(
        caught.value
    )
    assert 'Remove' not in str(caught.value)


def test_a_split_that_nobody_asked_for_may_be_absent_or_empty(tfds_dir, tmp_path, capsys):
    copied(tfds_dir, tmp_path)
    (shard,) = tmp_path.rglob('mnist-train*')  # the larger one, which takes long to show and check
    halves = dict(dir=str(tmp_path), train='test[:50]', test='test[50:90]')
    for change in ('absent', 'empty'):
        if change == 'absent':
            shard.unlink()
        else:
            info = shard.parent / 'dataset_info.json'
            read = json.loads(info.read_text())
            for split in read['splits']:
                if split['name'] == 'train':
                    split['shardLengths'] = []
            info.write_text(json.dumps(read))
        assert len(data.load(fields('mnist', **halves)).train.labels) == 45
        with pytest.raises(UserError, match='is missing|is empty'):
            data.load(fields('mnist', dir=str(tmp_path), test='test[:50]'))
    words = ['mnist', '--data_dir', str(tmp_path)]
    assert commands.main(['show', *words, '--out', str(tmp_path / 'a.png')]) == 0
    out = capsys.readouterr().out
    assert 'test: 10,000 images' in out and "split 'train' is empty" in out
    next(shard.parent.glob('mnist-test*')).unlink()
    assert commands.main(['check', *words]) == 1
    out = capsys.readouterr().out
    assert "of split 'test' is missing" in out and "split 'train' is empty" in out


@pytest.mark.parametrize('way', ['data.dir', 'TFDS_DATA_DIR', 'neither'])
def test_the_users_home_is_meant_by_a_tilde_everywhere(
    tfds_dir, tmp_path, monkeypatch, capsys, way
):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TFDS_DATA_DIR')
    name = 'tensorflow_datasets' if way == 'neither' else 'sets'
    (tmp_path / name).symlink_to(tfds_dir)
    if way == 'TFDS_DATA_DIR':
        monkeypatch.setenv('TFDS_DATA_DIR', '~/sets')
    folder = '~/sets' if way == 'data.dir' else None
    halves = dict(train='train[:50]', test='test[:40]', stream='always', cache=None)
    dataset = data.load(fields('mnist', dir=folder, **halves))
    assert len(dataset.train.read(np.arange(45))[1]) == 45
    words = ['--data_dir', folder] if folder else []
    assert commands.main(['list', *words]) == 0
    out = capsys.readouterr().out
    assert f'prepared in {tmp_path / name}' in out and 'mnist:3.0.1' in out
    with pytest.raises(UserError, match=f'is not prepared in {tmp_path / name}'):
        data.load(fields('svhn_cropped', dir=folder))
    assert not os.path.exists('~')


def test_the_home_of_a_user_that_there_is_not_is_an_error():
    with pytest.raises(UserError, match="the data_dir '~no-such-user/x' cannot be found"):
        data.load(fields('mnist', dir='~no-such-user/x'))


@pytest.mark.parametrize('kept', [0.5, 0.999, 0.0])
def test_a_truncated_shard_is_named(tfds_dir, tmp_path, kept):
    shard = copied(tfds_dir, tmp_path)
    content = shard.read_bytes()
    shard.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match='mnist-test.* is damaged .*bring the file back'):
        split_of(fields('mnist', dir=str(tmp_path)), 'test').fetch([0])


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
        data.load(fields('mnist', dir=str(tmp_path)))
    assert 'damaged' not in str(caught.value) and 'Remove' not in str(caught.value)


def test_a_wrong_split_or_version_is_named(tfds_dir):
    with pytest.raises(
        UserError, match="no split 'tset'. Did you mean 'test'.* It has: train, test"
    ):
        data.load(fields('mnist', dir=tfds_dir, test='tset'))
    with pytest.raises(UserError, match='9.9.9.* Prepared here: mnist:3.0.1') as caught:
        data.load(fields('mnist:9.9.9', dir=tfds_dir))
    assert 'builder_kwargs' not in str(caught.value)


def test_a_test_split_that_overlaps_the_train_split_is_refused(tfds_dir):
    with pytest.raises(UserError, match='share 6000 or more images'):
        data.load(fields('mnist', dir=tfds_dir, train='train[:90%]', test='train[80%:]'))
    with pytest.raises(UserError, match='share 10000 or more images'):
        data.load(fields('mnist', dir=tfds_dir, train='train+test'))
    with pytest.raises(UserError, match='share 100 or more images'):  # not in the last piece
        data.load(
            fields(
                name='mnist', dir=tfds_dir, train='train[:200]+train[900:]', test='train[100:300]'
            )
        )
    with pytest.raises(UserError, match='names some images twice'):
        data.load(fields('mnist', dir=tfds_dir, train='train[:200]+train[100:300]'))


def test_pieces_apart_are_read_in_their_order(tfds_dir):
    apart, whole = (
        data.load(
            fields('mnist', dir=tfds_dir, train=train, test='train[500:510]', stream='always')
        ).train
        for train in ('train[100:110]+train[:10]', 'train[:110]')
    )
    pieces = whole.read(np.arange(8))[0]
    assert (apart.read(np.arange(10, 18))[0] == pieces).all()


def test_an_empty_split_is_named(tfds_dir):
    for split in ('train[:0%]', 'train[90%:10%]'):
        with pytest.raises(UserError, match='is empty'):
            data.load(fields('mnist', dir=tfds_dir, train=split))


def test_splits_are_read_in_the_syntax_of_tfds_and_class_names_kept(tfds_dir):
    cifar10 = data.load(
        fields('cifar10:3.0.2', dir=tfds_dir, train='train[:1%]', test='train[1%:2%]')
    )
    assert [len(split.labels) for split in (cifar10.train, cifar10.validation, cifar10.test)] == [
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

    for name, split in (('cifar10', 'test[:20]'), ('mnist', 'test[:20]')):
        group = fields(name, dir=tfds_dir)
        theirs = tfds.data_source(name, split=split, data_dir=tfds_dir, download=False)
        ours = split_of(group, split)
        for index in range(20):
            image, label = records.one(ours, index, Decoding(ours.size[2]))
            assert (image == theirs[index]['image']).all() and label == theirs[index]['label']


@pytest.mark.parametrize('name', ['', 'mnist:', '../mnist', 'mnist/none', 'huggingface:mnist'])
def test_an_odd_name_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match='data set .* cannot be opened: |unknown data set '):
        data.load(fields(name, dir=str(tmp_path)))


@pytest.mark.parametrize('content', [b'', b'{"name": "mni', bytes(100)])
def test_a_damaged_description_of_a_set_is_named(tmp_path, content):
    (tmp_path / 'mnist' / '3.0.1').mkdir(parents=True)
    (tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json').write_bytes(content)
    with pytest.raises(UserError, match="data set 'mnist' cannot be opened: "):
        data.load(fields('mnist', dir=str(tmp_path)))


def test_prepare_says_what_it_needs(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    assert commands.main(['prepare', 'mnist']) == 2
    assert 'pip install tensorflow' in capsys.readouterr().err
    assert commands.main(['prepare', 'digits']) == 0
