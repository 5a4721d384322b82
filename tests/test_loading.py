"""Loading: fixed splits that overlap nowhere, images and labels that are checked, notes on them."""

import copy

import numpy as np
import pytest

from configs import base
from experiments import data
from experiments.data import memory, statistics
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


def test_the_digits_are_1797_images_of_32_pixels_split_without_overlap(digits):
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split.labels) for split in splits] == [1293, 144, 360]
    assert all(split.images.shape[1:] == (32, 32, 1) for split in splits)
    from sklearn.datasets import load_digits

    labels = np.concatenate([split.labels for split in splits])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


def test_the_splits_do_not_depend_on_anything_but_the_fields(digits):
    again = data.load(fields())
    for one, two in zip(
        (digits.train, digits.validation, digits.test), (again.train, again.validation, again.test)
    ):
        assert (one.images == two.images).all() and (one.labels == two.labels).all()


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_limit_keeps_the_first_images_of_every_split(digits, stream):
    small = data.load(fields(limit=100, stream=stream))
    for split in ('train', 'validation', 'test'):
        images, labels = getattr(small, split).read(np.arange(100))
        whole = getattr(digits, split)
        assert len(getattr(small, split).labels) == 100
        assert (images == whole.images[:100]).all() and (labels == whole.labels[:100]).all()
    assert 'only the first 100 of 1,293 train, 100 of 144 validation, 100 of 360 test' in small.note


def test_results_of_another_limit_do_not_pass_for_results_of_these_images():
    # rows of code that limited the train split alone have the same name and the digest without it
    limited, other, whole = (data.load(fields(limit=limit)) for limit in (100, 120, 0))
    assert len({limited.found, other.found, whole.found}) == 3
    assert limited.content == other.content == whole.content == whole.found


def made_up(train, test=None, classes=10, **rest):
    """A source of these splits, as SOURCES takes it; the test split is a renamed copy."""
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
def test_an_empty_split_is_an_error_with_the_numbers(changes, message):
    with pytest.raises(UserError, match=message):
        data.load(fields(**changes))


@pytest.mark.parametrize('stream', ['never', 'always'])
@pytest.mark.parametrize('label', [10, -1])
def test_a_label_outside_the_classes_is_named(monkeypatch, stream, label):
    split = arrays(20)
    split.labels[13] = label
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    with pytest.raises(UserError, match=rf'record 13 has label {label}, outside 0..9'):
        data.load(fields(name='made_up', validation=0.2, stream=stream))


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_adding_a_source_is_one_function_and_one_line(monkeypatch, stream):
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20)))
    dataset = data.load(fields(name='made_up', validation=0.2, stream=stream))
    assert len(dataset.train.labels) == 16 and dataset.shape == (2, 2, 1)
    with pytest.raises(UserError, match="unknown split of made_up 'tset'. Did you mean 'test'"):
        data.load(fields(name='made_up', test='tset'))


@pytest.mark.parametrize(
    'channels, wanted, note',
    [(1, 3, 'grey images repeated in 3 channels'), (3, 1, 'colour images turned into grey')],
)
def test_channels_are_converted_with_a_note(monkeypatch, channels, wanted, note):
    split = arrays(20, channels=channels)
    split.images[..., 0] += 100
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    kept, turned = (data.load(fields(name='made_up', channels=value)) for value in (0, wanted))
    assert kept.shape == (2, 2, channels) and turned.shape == (2, 2, wanted)
    assert note in turned.note and note not in kept.note
    weights = [0.299, 0.587, 0.114] if channels == 3 else [1]
    grey = kept.train.images.astype(float) @ weights
    assert np.abs(turned.train.images.mean(-1) - grey).max() <= 1


def test_streamed_and_in_memory_describe_the_same_data_set(monkeypatch):
    monkeypatch.setattr(statistics, 'SAMPLE', 50)
    one, two = (
        data.load(fields(name='synthetic:200x16x3', stream=stream, limit=120))
        for stream in ('never', 'always')
    )
    assert isinstance(one.train, data.InMemory) and isinstance(two.train, data.Streamed)
    assert one.fingerprint == two.fingerprint and one.note == two.note
    assert 'sample of 50' in one.note
    assert (one.mean == two.mean).all() and (one.std == two.std).all()
    for a, b in zip((one.train, one.validation, one.test), (two.train, two.validation, two.test)):
        assert (np.asarray(a.labels) == np.asarray(b.labels)).all() and len(a.labels)
        for x, y in zip(a.read(np.arange(len(a.labels))), b.read(np.arange(len(b.labels)))):
            assert (x == y).all()


def test_what_does_not_fit_is_streamed(monkeypatch):
    monkeypatch.setattr(memory, 'MEMORY', 1000)
    load = lambda **changes: data.load(fields(name='synthetic:50x16x1', **changes)).train
    assert isinstance(load(), data.Streamed) and isinstance(load(stream='never'), data.InMemory)
    monkeypatch.setattr(memory, 'MEMORY', 10**6)
    assert isinstance(load(), data.InMemory)


def test_two_splits_that_cannot_be_distinguished_are_refused(monkeypatch):
    split = arrays(20)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split, split))
    with pytest.raises(UserError, match='train and its test split have the same name and finger'):
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
    split = Made(label=lambda index: label if index == 13 else index % 10)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
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
    split = Made()
    vars(split).update(change)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    with pytest.raises(UserError, match=message):
        data.load(fields(name='made_up', validation=0.2, cache='off'))


@pytest.mark.parametrize(
    'source, message',
    [
        (lambda _: None, 'gives None, it must give a Source'),
        (lambda _: data.Source({}, ('a',), ''), 'it must give a Source with at least one split'),
        (lambda _: data.Source({'train': Made()}, (), ''), 'the classes of made_up are'),
        (
            lambda _: data.Source({'train': Made()}, ('a',), '', validation='dev'),
            "split to validate on.*'dev'.*Allowed: train",
        ),
    ],
)
def test_a_source_that_gives_something_odd_is_refused(monkeypatch, source, message):
    monkeypatch.setitem(data.SOURCES, 'made_up', source)
    with pytest.raises(UserError, match=message):
        data.load(fields(name='made_up'))


def test_labels_of_embedded_splits_are_checked_before_they_are_used(monkeypatch):
    test = arrays(20)
    test.name, test.labels[7] = 'other', 12
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(arrays(20), test))
    with pytest.raises(UserError, match='record 7 has label 12, outside 0..9'):
        data.load(fields(name='made_up', validation=0.2, stream='always'))


@pytest.mark.parametrize('stream', ['never', 'always'])
@pytest.mark.parametrize('split', [arrays(20), Made()])
def test_a_split_without_a_class_is_noted(monkeypatch, stream, split):
    test = copy.copy(split)
    test.name, test.fingerprint = 'other', 'other'
    plain = test.fetch
    test.fetch = lambda indices: [(image + 100, label) for image, label in plain(indices)]
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split, test))
    note = data.load(fields(name='made_up', validation=0.2, stream=stream)).note
    assert note == 'made up; no validation image of 6 of the 10 classes'
    assert 'classes' not in data.load(fields(name='synthetic:1000x16x1')).note


def test_too_few_images_are_refused_before_any_is_read(monkeypatch):
    split = Made()
    split.fetch = lambda indices: pytest.fail('read')
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    for changes, count in ((dict(), 16), (dict(limit=5), 5)):
        with pytest.raises(UserError, match=f'has {count} images, fewer than one batch of 17'):
            data.load(
                fields(name='made_up', validation=0.2, channels=1, cache='off', **changes), least=17
            )


def test_what_was_found_is_a_digest_of_the_bytes_however_they_are_read(monkeypatch):
    found = lambda **changes: data.load(fields(name='made_up', validation=0.2, **changes)).found
    split = Made()
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    ways = [
        dict(stream='never'),
        dict(stream='always'),
        dict(stream='never'),
        dict(stream='always', resize=1),
        dict(stream='always', cache='off'),
    ]
    assert len({found(**way) for way in ways}) == 1
    plain = split.fetch
    before = found(cache='off')
    split.fetch = lambda indices: [
        (image + (index == 3), label) for index, (image, label) in zip(indices, plain(indices))
    ]
    assert found(cache='off') != before
    split.fetch = lambda indices: [
        (image, 9 if index == 3 else label)
        for index, (image, label) in zip(indices, plain(indices))
    ]
    assert found(cache='off') != before


def test_an_interrupted_reading_of_all_records_continues(monkeypatch):
    split, read = Made(count=1000), []
    plain = split.fetch

    def fetch(indices):
        if len(read) == 22:
            raise KeyboardInterrupt
        read.append(len(indices))
        return plain(indices)

    split.fetch = fetch
    other = Made('other')
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(other, split))
    load = lambda **changes: data.load(fields(name='made_up', stream='always', **changes))
    with pytest.raises(KeyboardInterrupt):
        load()
    assert sum(read) == 704
    read.append(0)
    dataset = load()
    assert sum(read) == 704 + 360  # whole chunks are kept: 640 of the first 704 records
    assert dataset.found == load(cache='off').found


def test_a_source_without_a_fingerprint_is_refused(monkeypatch):
    split = arrays(20)
    split.fingerprint = ''
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(split))
    with pytest.raises(UserError, match='its source gives no fingerprint'):
        data.load(fields(name='made_up', validation=0.2))


def test_a_limit_is_noted_beside_every_number():
    whole, limited, all_of_it = (
        data.load(fields(name='synthetic:200x16x1', validation=0.2, limit=n)) for n in (0, 50, 160)
    )
    assert 'only the first 50 of 160 train images' in limited.note
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


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_equal_images_of_a_set_with_splits_of_its_own_are_counted(monkeypatch, stream):
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(Made()))
    dataset = data.load(fields(name='made_up', validation=0.2, stream=stream, cache='off'))
    words = '16 test images also in the train split, such as record 0 = record 0; 4 test images'
    assert f'{words} also in the validation split' in dataset.note
    assert 'another class' not in dataset.note
    other = Made('other', label=lambda index: (index + (index == 3)) % 10)
    monkeypatch.setitem(data.SOURCES, 'made_up', made_up(Made(), other))
    note = data.load(fields(name='made_up', validation=0.2, stream=stream, cache='off')).note
    assert '1 image equals one of another class, such as record 3 = record 3' in note
