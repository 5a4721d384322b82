"""Decoded sets on disk: read again, never wrong, and never in the way of the training."""

import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import base
from experiments import data
from experiments.data import cache, records, statistics
from experiments.data import folder as folder_source
from experiments.errors import UserError
from experiments.files import cache_folder

ARRAYS = {'images': np.arange(6000, dtype=np.uint8).reshape(10, 600), 'labels': np.arange(10)}
MADE_OF = ('fingerprint', 'stamp')


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home' / 'cnns'


def save(setting=None, what='a set', key=('key', 1), made_of=MADE_OF):
    cache.write(setting, what, key, made_of, ARRAYS)


def load(setting=None, what='a set', key=('key', 1), made_of=MADE_OF):
    return cache.read(setting, what, key, made_of)


def files(folder):
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_what_is_saved_is_read_again(home):
    assert load() is None
    save()
    assert len(files(home)) == 1 and files(home)[0].name.startswith('a_set-')
    got = load()
    assert got.keys() == ARRAYS.keys()
    assert all((got[name] == ARRAYS[name]).all() for name in ARRAYS)


def test_another_key_is_another_file(home):
    save()
    assert load(key=('key', 2)) is None
    save(key=('key', 2))
    assert len(files(home)) == 2


def test_the_folder_is_named_or_switched_off(tmp_path, home):
    save(str(tmp_path / 'other'))
    assert load(str(tmp_path / 'other')) and load() is None and files(home) == []
    save('off')
    assert load('off') is None and files(home) == []


def test_read_takes_what_is_there_and_writes_nothing(home):
    save('read')
    assert load('read') is None and not home.exists()
    save()
    assert load('read').keys() == ARRAYS.keys()
    save('read', key=('key', 2))
    assert len(files(home)) == 1


@pytest.mark.parametrize('made_of', [('other', 'stamp'), ('fingerprint', 'later')])
def test_a_stale_file_is_noticed_and_made_again(made_of, capsys, home):
    save()
    assert load(made_of=made_of) is None
    assert 'not of the data as they are now' in capsys.readouterr().err
    save(made_of=made_of)
    assert load(made_of=made_of) and len(files(home)) == 1


def test_a_truncated_file_is_noticed_wherever_it_ends(capsys, home):
    save()
    (file,) = files(home)
    content = file.read_bytes()
    for kept in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:kept])
        assert load() is None, kept
        assert 'is damaged' in capsys.readouterr().err


def test_a_changed_byte_never_gives_wrong_images(home):
    save()
    (file,) = files(home)
    content = bytearray(file.read_bytes())
    for place in range(0, len(content), 37):
        content[place] ^= 0x10
        file.write_bytes(content)
        content[place] ^= 0x10
        got = load()
        if got is not None:  # in a part of the file that says nothing, such as a time
            assert got.keys() == ARRAYS.keys(), place
            assert all((got[name] == ARRAYS[name]).all() for name in ARRAYS), place


def test_a_disk_without_room_is_a_note(monkeypatch, capsys, home):
    room = shutil._ntuple_diskusage(10**9, 10**9, 5000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: room)
    save()
    assert 'decoded images are not kept' in capsys.readouterr().err and files(home) == []


def test_a_disk_that_fills_up_while_writing_is_a_note(monkeypatch, capsys, home):
    def full(file, **arrays):
        file.write(b'some of it')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', full)
    save()
    assert 'No space left on device' in capsys.readouterr().err and files(home) == []


def test_a_folder_that_cannot_be_made_is_a_note(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    save(str(tmp_path / 'file' / 'folder'))
    assert load(str(tmp_path / 'file' / 'folder')) is None
    assert 'decoded images are not kept' in capsys.readouterr().err


def test_an_unfinished_file_of_long_ago_is_removed(home):
    home.mkdir(parents=True)
    for name, age in (('.a-1.npz.77', 10**6), ('.a-2.npz.78', 10)):
        (home / name).write_bytes(b'half')
        os.utime(home / name, (cache.time.time() - age,) * 2)
    save()
    assert [file.name for file in files(home)][0] == '.a-2.npz.78' and len(files(home)) == 2


# --- as the data sets use it -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(('dark', 'light')):
        (tmp_path / 'set' / name).mkdir(parents=True)
        for index in range(20):
            Image.new('L', (8, 8), 100 * label + index).save(
                tmp_path / 'set' / name / f'{index}.png'
            )
    return tmp_path / 'set'


def read(folder, look=False, **changes):
    fields = base.get_config().data
    for name, value in (dict(name=f'folder:{folder}', validation=0.2) | changes).items():
        fields[name] = value
    return data.load(fields, look)


@pytest.fixture
def decoded(monkeypatch):
    """The records decoded since the start, by name."""
    seen = []
    plain = records.many
    monkeypatch.setattr(
        records,
        'many',
        lambda records, rows, *rest, **named: (
            seen.extend(records.where(int(row)) for row in rows),
            plain(records, rows, *rest, **named),
        )[1],
    )
    return seen


def test_a_second_start_decodes_nothing_and_gives_the_same(folder, decoded):
    first = read(folder)
    assert len(decoded) == 40
    second = read(folder)
    assert len(decoded) == 40
    for one, two in zip(
        (first.train, first.validation, first.test), (second.train, second.validation, second.test)
    ):
        assert (one.images == two.images).all() and (one.labels == two.labels).all()
        assert one.images.dtype == two.images.dtype and one.labels.dtype == two.labels.dtype


def test_a_changed_file_is_decoded_again(folder, decoded, capsys):
    read(folder)
    image = folder / 'light' / '3.png'
    size = image.stat().st_size
    Image.new('L', (8, 8), 250).save(image)
    os.utime(image, ns=(1, 1))
    assert image.stat().st_size == size  # only the time tells
    dataset = read(folder)
    assert 'made again' in capsys.readouterr().err
    splits = dataset.train, dataset.validation, dataset.test
    assert max(split.images.max() for split in splits) == 250


@pytest.mark.parametrize('told_by', ['times', 'bytes'])
@pytest.mark.parametrize('stream', ['never', 'always'])
def test_files_replaced_by_others_of_the_same_size_and_time_are_other_data(
    folder, monkeypatch, told_by, stream
):
    if told_by == 'times':
        monkeypatch.setattr(cache, '_CHEAP', 0)
    else:  # a disk on which all times and inodes look alike
        plain = os.stat
        alike = lambda path: os.stat_result((33188, 1, 1, 1, 0, 0, plain(path).st_size, 0, 0, 0))
        monkeypatch.setattr(folder_source, '_stat', alike)
    paths = [*folder.glob('*/*.png')]
    for path in paths:
        Image.open(path).save(path, 'BMP')  # all of one size
    before = read(folder, stream=stream)
    assert read(folder, stream=stream).found == before.found
    rows = np.arange(len(before.train.labels))
    images = before.train.read(rows)[0]
    for path in paths:
        was = path.stat()
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path, 'BMP')
        assert path.stat().st_size == was.st_size
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    after = read(folder, stream=stream)
    assert after.found != before.found and after.fingerprint == before.fingerprint
    assert (after.train.read(rows)[0] == 255 - images).all()


def test_other_ways_to_decode_are_kept_apart(folder, decoded):
    shapes = [
        read(folder, **changes).shape
        for changes in (dict(), dict(resize=4), dict(side=10), dict(channels=3), dict(resize=4))
    ]
    assert shapes == [(8, 8, 1), (4, 4, 1), (10, 10, 1), (8, 8, 3), (4, 4, 1)]
    assert len(decoded) == 4 * 40


def test_the_moments_of_a_streamed_set_are_kept(folder, decoded):
    first = read(folder, stream='always')
    count = len(decoded)
    assert count == 40 + len(first.train.labels)  # every record was looked at, then the moments
    assert (read(folder, stream='always').mean == first.mean).all() and len(decoded) == count


def sums_of(dataset):
    statistics._known.clear()
    return statistics.sums_of(dataset)


@pytest.mark.parametrize('most', [statistics.SAMPLE, 7])
def test_statistics_are_the_same_streamed_and_in_memory(folder, monkeypatch, most):
    monkeypatch.setattr(statistics, 'SAMPLE', most)
    one, two = (read(folder, stream=stream, cache='off') for stream in ('never', 'always'))
    assert (one.mean == two.mean).all() and (one.std == two.std).all()
    sums, others = sums_of(one), sums_of(two)
    assert sums[0] == min(most, len(one.train.labels))
    for own, other in zip(sums, others):
        np.testing.assert_array_equal(own, other)


def test_a_look_decodes_a_sample_and_says_so(folder, decoded, capsys, monkeypatch):
    monkeypatch.setattr(statistics, 'LOOK', 5 * 64)  # bytes, of images of 8x8
    dataset = read(folder, look=True)
    assert dataset.counted == 6 and len(decoded) == 6
    assert 'mean and deviation are those of a fixed sample of 6' in capsys.readouterr().err
    assert sums_of(dataset)[0] == 6
    assert 'mean image and colour components' in capsys.readouterr().err


def test_a_look_after_a_training_has_the_trainings_statistics(folder, capsys, monkeypatch):
    monkeypatch.setattr(statistics, 'LOOK', 5 * 64)
    trained = read(folder)
    sums = sums_of(trained)
    dataset = read(folder, look=True)
    assert (dataset.mean == trained.mean).all() and (dataset.std == trained.std).all()
    for own, other in zip(sums, sums_of(dataset)):
        np.testing.assert_array_equal(own, other)
    rows = np.arange(3)
    assert (dataset.train.read(rows)[0] == trained.train.images[rows]).all()
    assert capsys.readouterr().err == ''
    os.utime(folder / 'light' / '3.png', ns=(1, 1))
    read(folder, look=True)
    assert 'made again' in capsys.readouterr().err


def test_another_fraction_to_validate_on_is_another_split_and_not_changed_data(folder, capsys):
    for fraction in (0.2, 0.3, 0.2):
        read(folder, validation=fraction)
    assert capsys.readouterr().err == ''


def test_a_folder_without_rights_is_a_note(tmp_path, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(pathlib.Path, 'is_file', refuse)
    assert cache.read(str(tmp_path), 'a', (1,), ('x', 'y')) is None
    assert 'cannot be read (PermissionError' in capsys.readouterr().err


def test_the_home_of_a_user_that_there_is_not_is_an_error():
    with pytest.raises(UserError, match="data.cache is '~no-such-user/x'"):
        cache_folder('~no-such-user/x')


def test_embedded_sets_are_not_kept(home):
    fields = base.get_config().data
    data.load(fields)
    data.load(fields, look=True)
    assert files(home) == []
