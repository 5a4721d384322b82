"""A folder of images as a data set: all kinds of files, given and taken splits, mistakes named."""

import errno
import itertools
import os
import pathlib
import re
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from configs import base
from experiments import data
from experiments.errors import UserError

COLOURS = {'blue': (0, 0, 255), 'red': (255, 0, 0)}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def fields(root, **changes):
    group = base.get_config().data
    for name, value in dict(name=f'folder:{root}', validation=0.2, **changes).items():
        group[name] = value
    return group


NUMBERS = itertools.count()


def draw(root, count=20, size=(12, 12), classes=COLOURS, kind='png'):
    """Images of their class's colour; three blocks, a little greener, hold another number each."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = Image.new('RGB', size, COLOURS.get(name, (9, 9, 9)))
            red, _, blue = COLOURS.get(name, (9, 9, 9))
            left, low = (size[0] - 12) // 2, size[1] - 4
            for place, digit in enumerate(f'{next(NUMBERS) % 1000:03}'):
                green = (red, int(digit), blue)
                image.paste(green, (left + 4 * place, low, left + 4 * place + 4, low + 4))
            image.save(root / name / f'{index}.{kind}')
    return root


def splits_of(dataset):
    return {name: getattr(dataset, name) for name in ('train', 'validation', 'test')}


def names_of(root, **changes):
    """{split: set of the files in it}, through the streamed split that remembers them."""
    dataset = data.load(fields(root, stream='always', **changes))
    return {
        name: {split.records.where(int(row)) for row in split.rows}
        for name, split in splits_of(dataset).items()
    }


def test_images_and_classes_stay_together(tmp_path):
    dataset = data.load(fields(draw(tmp_path / 'set')))
    assert dataset.classes == ('blue', 'red') and dataset.shape == (12, 12, 3)
    counts = [len(split.labels) for split in splits_of(dataset).values()]
    assert sum(counts) == 40 and min(counts[1:]) >= 2
    for split in splits_of(dataset).values():
        assert (split.images[:, 0, 0, 0] == 255 * split.labels).all()
        assert 0 < split.labels.mean() < 1  # mixed, so that data.limit keeps both


def test_files_keep_their_split_when_others_are_added_or_the_folder_moves(tmp_path):
    root = draw(tmp_path / 'set')
    before = names_of(root)
    assert len(set().union(*before.values())) == 40 == sum(map(len, before.values()))
    moved = names_of(root.rename(tmp_path / 'moved'))
    strip = lambda names, root: {name.removeprefix(str(root)) for name in names}
    for split in before:
        assert strip(moved[split], tmp_path / 'moved') == strip(before[split], root)
    draw(tmp_path / 'moved', 30)
    after = names_of(tmp_path / 'moved')
    held = lambda found: strip(found['test'], tmp_path / 'moved')
    assert held(moved) < held(after)
    assert not strip(before['train'], root) & held(after)


@pytest.mark.parametrize('name', ['validation', 'val'])
def test_given_splits_are_used_as_they_are(tmp_path, name):
    for split, count in (('train', 8), (name, 3), ('test', 4)):
        draw(tmp_path / 'set' / split, count)
    dataset = data.load(fields(tmp_path / 'set'))
    assert [len(split.labels) for split in splits_of(dataset).values()] == [16, 6, 8]
    assert 'hash' not in dataset.note


def test_a_split_that_is_not_given_is_taken_from_the_training_images(tmp_path):
    draw(tmp_path / 'set' / 'train', 40)
    draw(tmp_path / 'set' / 'val', 3)
    dataset = data.load(fields(tmp_path / 'set'))
    counts = {name: len(split.labels) for name, split in splits_of(dataset).items()}
    assert counts['validation'] == 6 and counts['train'] + counts['test'] == 80
    assert 4 <= counts['test'] <= 30 and 'test split taken by the hash' in dataset.note
    # the validation folder as the test split: another validation split is held out
    dataset = data.load(fields(tmp_path / 'set', test='validation'))
    counts = {name: len(split.labels) for name, split in splits_of(dataset).items()}
    assert counts == {'train': 64, 'validation': 16, 'test': 6}


def odd_images(root):
    """One class with a file of every kind, another with plain ones."""
    draw(root, 10, size=(30, 20))
    place = root / 'red'
    red = Image.new('RGB', (50, 40), (255, 0, 0))
    red.save(place / 'a photograph.JPG', 'JPEG')
    red.convert('P').save(place / 'palette.png')
    red.convert('RGBA').save(place / 'alpha.png')
    Image.new('CMYK', (40, 70), (0, 255, 255, 0)).save(place / 'cmyk.jpeg')
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(place / 'turned.jpg', exif=exif)
    Image.new('L', (17, 99), 76).save(place / 'grey.png')
    Image.new('I;16', (17, 99), 76 * 256).save(place / 'grey16.png')
    (place / 'deeper').mkdir()
    red.save(place / 'deeper' / 'bitmap.bmp')
    (place / 'notes.txt').write_text('no image')
    (place / '.hidden.png').write_bytes(b'')
    return root


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_files_of_every_kind_and_size_become_one_shape(tmp_path, stream):
    root = odd_images(tmp_path / 'set')
    dataset = data.load(fields(root, resize=16, stream=stream, allow_copies=True))
    assert dataset.shape == (16, 16, 3)
    assert '2 other files ignored' in dataset.note
    total = 0
    for split in splits_of(dataset).values():
        images, labels = split.read(np.arange(len(split.labels)))
        total += len(labels)
        for image, label in zip(images.astype(int), labels):
            grey = (image == 76).all()
            assert (
                grey and label == 1 or np.abs(image - ((0, 0, 255), (255, 0, 0))[label]).max() < 12
            )
    assert total == 28


def test_both_ways_to_feed_give_the_same_from_a_folder(tmp_path):
    root = odd_images(tmp_path / 'set')
    one, two = (
        data.load(fields(root, resize=16, stream=stream, allow_copies=True))
        for stream in ('never', 'always')
    )
    assert (one.mean == two.mean).all() and one.fingerprint == two.fingerprint
    for a, b in zip(
        data.train_batches(one.train, 4, 2, 0, 1),
        data.train_batches(two.train, 4, 2, 0, 1),
        strict=True,
    ):
        assert all((a[name] == b[name]).all() for name in ('image', 'label', 'mask'))


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_mixed_sizes_name_the_file_and_the_remedy(tmp_path, stream):
    root = draw(tmp_path / 'set')
    Image.new('RGB', (20, 12)).save(root / 'red' / '3.png')
    with pytest.raises(UserError, match='red/3.png is 12x20x3, others are 12x12x3. Set data.res'):
        data.load(fields(root, stream=stream))


def test_grey_folders_have_one_channel_until_colour_is_asked_for(tmp_path):
    root = tmp_path / 'set'
    for label, name in enumerate(('one', 'two')):
        (root / name).mkdir(parents=True)
        for index in range(10):
            Image.new('L', (8, 8), 40 + 10 * label + index).save(root / name / f'{index}.png')
    assert data.load(fields(root)).shape == (8, 8, 1)
    assert data.load(fields(root, channels=3)).shape == (8, 8, 3)


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_a_broken_file_is_named_and_left_out_only_if_asked(tmp_path, stream, capsys):
    root = draw(tmp_path / 'set')
    content = (root / 'red' / '7.png').read_bytes()
    for name, kept in (('red/7', len(content) // 2), ('blue/11', 0), ('blue/4', 20)):
        (root / f'{name}.png').write_bytes(content[:kept])
    with pytest.raises(UserError, match=r'(7|11|4).png does not decode .*skip_broken=true'):
        data.load(fields(root, stream=stream))
    dataset = data.load(fields(root, stream=stream, skip_broken=True))
    assert sum(len(split.labels) for split in splits_of(dataset).values()) == 37
    assert 'that do not decode left out' in dataset.note
    assert 'that do not decode left out' in capsys.readouterr().err
    for split in splits_of(dataset).values():
        images, labels = split.read(np.arange(len(split.labels)))
        assert (images[:, 0, 0, 0] == 255 * labels).all()


def test_leaving_out_broken_files_gives_the_same_batches_both_ways(tmp_path):
    root = draw(tmp_path / 'set')
    (root / 'red' / '7.png').write_bytes(b'')
    one, two = (
        data.load(fields(root, stream=stream, skip_broken=True)) for stream in ('never', 'always')
    )
    for a, b in zip(
        data.train_batches(one.train, 4, 1, 0, 1),
        data.train_batches(two.train, 4, 1, 0, 1),
        strict=True,
    ):
        assert all((a[name] == b[name]).all() for name in ('image', 'label'))


@pytest.mark.parametrize(
    'name, message',
    [
        ('folder:', 'no such folder.*folder:PATH'),
        ('folder', 'no such folder.*folder:PATH'),
        ('folder:{}/nothing', 'no such folder'),
        ('folder:{}/empty', 'has no subfolders'),
        ('folder:{}/hollow', 'hollow/red: the class folder holds no images'),
        (
            'folder:{}/strange',
            "strange/test/reed: no class of the training split. Did you mean 'red'",
        ),
        ('folder:{}/single', "one subfolder only, 'red'"),
        ('folder:{}/named', "it has a folder 'test' but none named 'train'"),
        ('folder:{}/few', 'few: 2 images with data.validation=0.2 leave'),
        ('folder:~no-such-user/x', 'that folder cannot be found'),
        ('folder:{}/linked', 'linked/red/gone.png is a link to a file or folder that is not there'),
        ('folder:{}/unplugged', 'unplugged/green is a link to a file or folder that is not there'),
        ('folder:{}/lacking', "lacking/test has no folder 'red', a class of the training split"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_named(tmp_path, name, message):
    (tmp_path / 'empty').mkdir()
    draw(tmp_path / 'hollow')
    for file in (tmp_path / 'hollow' / 'red').iterdir():
        file.unlink()
    draw(tmp_path / 'strange' / 'train', 3)
    draw(tmp_path / 'strange' / 'test', 3, classes=('blue', 'red', 'reed'))
    draw(tmp_path / 'few', 1)
    draw(tmp_path / 'single', classes=('red',))
    draw(tmp_path / 'linked', 3)
    (tmp_path / 'linked' / 'red' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    draw(tmp_path / 'unplugged', 3)
    (tmp_path / 'unplugged' / 'green').symlink_to(tmp_path / 'nowhere')
    draw(tmp_path / 'lacking' / 'train', 3)
    draw(tmp_path / 'lacking' / 'test', 3, classes=('blue',))
    draw(tmp_path / 'named' / 'test', 3)
    draw(tmp_path / 'named' / 'learning', 3)
    with pytest.raises(UserError, match=message):
        group = fields('')
        group.name = name.format(tmp_path)
        data.load(group)


def test_names_that_are_not_utf_8_are_named(tmp_path):
    root = draw(tmp_path / 'set')
    os.rename(root / 'red' / '0.png', os.fsencode(root / 'red') + b'/\xff.png')
    with pytest.raises(UserError, match=r"xff.png': the name of this file or folder is not UTF-8"):
        data.load(fields(root))


@pytest.mark.parametrize('hidden', ['', 'red', 'red/deeper'])
def test_a_folder_that_cannot_be_listed_is_named_and_never_left_out(tmp_path, monkeypatch, hidden):
    root = draw(tmp_path / 'set')
    (root / 'red' / 'deeper').mkdir()
    plain = os.scandir

    def scandir(path):
        if os.fspath(path) == str(root / hidden):
            raise PermissionError(13, 'Permission denied', str(path))
        return plain(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(UserError, match=f'{root / hidden} cannot be read .*Permission denied'):
        data.load(fields(root))


@pytest.mark.parametrize(
    'names', [('Training', 'Test'), ('train', 'valid', 'testing'), ('TRAIN', 'dev', 'Test')]
)
def test_splits_are_known_by_their_usual_names(tmp_path, names):
    for name in names:
        draw(tmp_path / 'set' / name, 20)
    dataset = data.load(fields(tmp_path / 'set'))
    assert dataset.classes == ('blue', 'red') and len(dataset.test.labels) == 40
    assert len(names) == 2 or len(dataset.validation.labels) == 40


@pytest.mark.parametrize(
    'names, message',
    [
        (('train', 'test', 'extra'), "extra lies beside 'train' and is no split"),
        (('train', 'val', 'valid'), "'val' and 'valid', two folders for one split"),
        (('first', 'second'), 'hold no images but the same folders blue, red'),
    ],
)
def test_a_layout_that_could_mean_something_else_is_refused(tmp_path, names, message):
    for name in names:
        draw(tmp_path / 'set' / name, 5)
    with pytest.raises(UserError, match=message):
        data.load(fields(tmp_path / 'set'))


def test_hidden_folders_are_left_out_and_links_followed(tmp_path):
    root = draw(tmp_path / 'set')
    draw(tmp_path / 'elsewhere', 5, classes=('red',))
    (root / 'red' / '.ipynb_checkpoints').mkdir()
    for name in ('1', '2'):
        shutil.copy(root / 'red' / f'{name}.png', root / 'red' / '.ipynb_checkpoints')
    assert sum(map(len, names_of(root).values())) == 40
    (root / 'red' / 'more').symlink_to(tmp_path / 'elsewhere' / 'red')
    assert sum(map(len, names_of(root).values())) == 45
    (root / 'red' / 'more').unlink()
    (root / 'red' / 'again').symlink_to(root / 'red')
    with pytest.raises(UserError, match='red/again and .*set/red are one and the same folder'):
        data.load(fields(root))


def test_files_are_read_one_by_one_since_each_may_be_large(tmp_path):
    dataset = data.load(fields(draw(tmp_path / 'set'), stream='always'))
    records, asked = dataset.train.records, []
    plain = records.fetch
    records.fetch = lambda indices: (asked.append(len(indices)), plain(indices))[1]
    dataset.train.read(np.arange(len(dataset.train)))
    assert asked == [1] * len(dataset.train)


@pytest.mark.parametrize('link, target', [('test', 'train'), ('train/green', 'train/red')])
def test_a_folder_cannot_be_two_splits_or_two_classes(tmp_path, link, target):
    root = draw(tmp_path / 'set' / 'train').parent
    (root / link).symlink_to(root / target)
    with pytest.raises(UserError, match='are one and the same folder'):
        data.load(fields(root))


def test_other_pixels_in_files_of_the_same_names_and_sizes_are_other_data(tmp_path):
    root = draw(tmp_path / 'set', kind='bmp')
    before = data.load(fields(root))
    Image.new('RGB', (12, 12), (1, 2, 3)).save(root / 'red' / '3.bmp')
    os.utime(root / 'red' / '3.bmp', ns=(1, 1))
    after = data.load(fields(root))
    assert before.fingerprint == after.fingerprint and before.found != after.found
    assert data.load(fields(root, stream='always')).found == after.found


def test_a_class_may_be_named_as_a_split_is(tmp_path):
    root = draw(tmp_path / 'set', classes=('bus', 'train', 'test'))
    dataset = data.load(fields(root))
    assert dataset.classes == ('bus', 'test', 'train')
    assert sum(len(split.labels) for split in splits_of(dataset).values()) == 60


def test_training_on_the_validation_folder_holds_out_other_images(tmp_path):
    for split in ('train', 'validation', 'test'):
        draw(tmp_path / 'set' / split, 20)
    found = names_of(tmp_path / 'set', train='validation')
    assert len(found['train']) == 32 and len(found['validation']) == 8
    assert not found['train'] & found['validation']


@pytest.mark.parametrize('split', ['validation', 'test'])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_broken_streamed_record_is_named_before_the_first_step(tmp_path, split, workers):
    for name in ('train', 'validation', 'test'):
        draw(tmp_path / 'set' / name, 5)
    broken = tmp_path / 'set' / split / 'red' / '3.png'
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(UserError, match=f'{broken} does not decode.*skip_broken'):
        data.load(fields(tmp_path / 'set', stream='always', workers=workers))
    with pytest.raises(UserError, match=f'{broken} does not decode'):  # nothing was kept of it
        data.load(fields(tmp_path / 'set', stream='always', workers=workers))
    dataset = data.load(fields(tmp_path / 'set', stream='always', skip_broken=True))
    assert len(getattr(dataset, split)) == 9
    with pytest.raises(UserError, match=f'{broken} does not decode'):  # known to be broken
        data.load(fields(tmp_path / 'set', stream='always'))


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_a_file_that_cannot_be_read_is_never_left_out(tmp_path, monkeypatch, stream):
    root = draw(tmp_path / 'set')
    plain = pathlib.Path.read_bytes

    def read(path):
        if path.name == '7.png':
            raise OSError(errno.EMFILE, 'Too many open files', str(path))
        return plain(path)

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, 'read_bytes', read)
        with pytest.raises(UserError, match='7.png cannot be read.*Too many open files'):
            data.load(fields(root, stream=stream, skip_broken=True))
    dataset = data.load(fields(root, stream=stream, skip_broken=True))
    assert sum(len(split.labels) for split in splits_of(dataset).values()) == 40


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_a_pipe_or_a_device_under_an_images_name_is_named_and_not_waited_for(tmp_path, stream):
    root = draw(tmp_path / 'set')
    os.mkfifo(root / 'red' / 'x.png')
    with pytest.raises(UserError, match='red/x.png is a pipe, a socket or a device and no file'):
        data.load(fields(root, stream=stream))
    (root / 'red' / 'x.png').unlink()
    (root / 'red' / 'x.png').symlink_to('/dev/zero')
    with pytest.raises(UserError, match='red/x.png is a pipe, a socket or a device and no file'):
        data.load(fields(root, stream=stream))


def test_images_beside_the_folders_of_the_classes_are_said(tmp_path):
    root = given(tmp_path / 'set')
    assert 'ignored' not in data.load(fields(root)).note
    for name in ('train/lost.png', 'train/other.JPG', 'test/lost.png', 'lost.png'):
        (root / name).write_bytes(b'never read')
    assert (
        '4 images lie in no folder of a class and are ignored, such as lost'
        in data.load(fields(root)).note
    )
    plain = draw(tmp_path / 'plain')
    (plain / 'lost.png').write_bytes(b'never read')
    assert '1 image lies in no folder of a class and is ignored' in data.load(fields(plain)).note


@pytest.mark.parametrize('name', ['new\nline.png', 'esc\x1b[31mred.png', 'two\u2028lines.png'])
def test_names_that_control_a_terminal_are_errors_of_one_line(tmp_path, name):
    root = draw(tmp_path / 'set')
    shutil.copy(root / 'red' / '3.png', root / 'red' / 'deep.txt')
    os.rename(root / 'red' / '3.png', root / 'red' / name)
    with pytest.raises(UserError, match='holds a character that controls a terminal') as caught:
        data.load(fields(root))
    assert str(caught.value).isprintable()
    os.rename(root / 'red' / name, root / 'red' / '3.png')
    (root / name.removesuffix('.png')).mkdir()
    with pytest.raises(UserError, match='holds a character that controls a terminal') as caught:
        data.load(fields(root))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize('name', [b'Icon\r', b'\xff.txt', b'two\nlines.txt'])
def test_odd_names_of_files_that_are_no_images_do_no_harm(tmp_path, name):
    root = draw(tmp_path / 'set')
    with open(os.fsencode(root / 'red') + b'/' + name, 'wb'):
        pass
    note = data.load(fields(root)).note
    assert '1 other files ignored, such as red/' in note and note.isprintable()


def test_a_link_to_nothing_of_an_odd_name_is_an_error_of_one_line(tmp_path):
    root = draw(tmp_path / 'set')
    os.symlink(b'nowhere', os.fsencode(root) + b'/\xff\n')
    with pytest.raises(UserError, match='a link to a file or folder that is not there') as caught:
        data.load(fields(root))
    assert str(caught.value).isprintable()


def test_a_root_that_is_not_utf_8_is_named(tmp_path):
    os.rename(draw(tmp_path / 'set'), os.fsencode(tmp_path) + b'/\xff')
    group = fields('')
    group.name = os.fsdecode(b'folder:' + os.fsencode(tmp_path) + b'/\xff')
    with pytest.raises(UserError, match='is not UTF-8. Rename it') as caught:
        data.load(group)
    str(caught.value).encode()


def test_loops_of_links_are_errors_of_one_line(tmp_path):
    root = draw(tmp_path / 'set')
    for name in ('red/loop.png', 'loop'):
        (root / name).symlink_to(root / name)
        with pytest.raises(UserError, match=f'{name} cannot be read .*ELOOP|Too many levels'):
            data.load(fields(root))
        (root / name).unlink()


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_warnings_of_pillow_come_with_the_files_name_and_once(tmp_path, stream, capsys):
    root = draw(tmp_path / 'set', kind='jpg', size=(16, 16))
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\xff\0\0\0\0'  # says more than it has
    for name in ('red/3.jpg', 'red/5.jpg'):
        Image.open(root / name).save(root / name, exif=exif)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', module=r'PIL\.')
        data.load(fields(root, stream=stream, allow_copies=True))
    notes = [line for line in capsys.readouterr().err.splitlines() if 'EXIF' in line]
    assert notes and all(re.search('note: .*red/[35].jpg: .*EXIF', line) for line in notes)


# --- images that stand in it twice ---------------------------------------------------------------


def given(root):
    """A folder of three splits, ten images each."""
    for split in ('train', 'validation', 'test'):
        draw(root / split, 5)
    return root


@pytest.mark.parametrize('stream', ['never', 'always'])
@pytest.mark.parametrize('one, two', [('train', 'test'), ('train', 'validation')])
@pytest.mark.parametrize('way', [shutil.copy, os.symlink, os.link])
def test_an_image_in_two_splits_is_refused_by_name(tmp_path, stream, one, two, way):
    root = given(tmp_path / 'set')
    way(root / one / 'red' / '3.png', root / two / 'red' / 'again.png')
    with pytest.raises(UserError) as caught:
        data.load(fields(root, stream=stream))
    message = str(caught.value)
    assert f'1 {two} image equals one of the {one} split' in message and '\n' not in message
    assert f'{root}/{one}/red/3.png = {root}/{two}/red/again.png' in message
    dataset = data.load(fields(root, stream=stream, allow_copies=True))
    assert f'1 {two} image also in the {one} split' in dataset.note
    with pytest.raises(UserError, match='equals one of'):  # when the pixels are kept, too
        data.load(fields(root, stream=stream))


def test_copies_are_found_in_another_file_format_and_in_taken_splits(tmp_path):
    root = given(tmp_path / 'set')
    Image.open(root / 'train' / 'red' / '3.png').save(root / 'test' / 'red' / 'again.bmp')
    with pytest.raises(UserError, match='red/3.png = .*again.bmp'):
        data.load(fields(root))
    root = draw(tmp_path / 'other')
    for index in range(20):
        shutil.copy(root / 'red' / f'{index}.png', root / 'red' / f'{index} (copy).png')
    with pytest.raises(UserError, match='images equal one of the .* and [0-9]+ more'):
        data.load(fields(root))


@pytest.mark.parametrize('stream', ['never', 'always'])
def test_an_image_in_two_classes_is_said(tmp_path, stream):
    root = given(tmp_path / 'set')
    assert 'class' not in data.load(fields(root, stream=stream)).note
    shutil.copy(root / 'train' / 'red' / '3.png', root / 'train' / 'blue' / 'again.png')
    note = data.load(fields(root, stream=stream)).note
    assert '1 image equals one of another class, such as' in note
    assert 'train/red/3.png' in note and 'train/blue/again.png' in note


def test_a_copy_that_is_left_out_as_broken_is_no_copy(tmp_path):
    root = given(tmp_path / 'set')
    for split in ('train', 'test'):
        (root / split / 'red' / 'broken.png').write_bytes(b'')
    for stream in ('never', 'always'):
        dataset = data.load(fields(root, stream=stream, skip_broken=True))
        assert 'also in' not in dataset.note and len(dataset.test.labels) == 10
