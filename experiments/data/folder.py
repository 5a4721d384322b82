"""A folder of images with one subfolder per class as a data set.

    photographs/daisy/1.jpg        photographs/train/daisy/1.jpg
    photographs/rose/2.png    or   photographs/validation/daisy/2.jpg   ('val', 'valid', 'dev' too)
                                   photographs/test/daisy/3.jpg

Classes are the subfolders' names in alphabetical order; deeper folders belong to their class, but
for hidden folders. A split that has no folder of its own is taken from the training images by a
hash of 'class/file name', so that it is the same everywhere and when files are added.
"""

import hashlib
import os
import pathlib
import stat
import unicodedata
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from ml_collections import ConfigDict

from experiments.data.cache import stamp_of
from experiments.data.records import Records, Source
from experiments.errors import UserError, nearest, reason
from experiments.files import digest

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
# Names of the folders of the splits, in upper or lower case
_FOLDERS = {
    'train': ('train', 'training'),
    'validation': ('validation', 'val', 'valid', 'dev'),
    'test': ('test', 'testing'),
}


class Files(Records):
    """Image files in the order of the hash of their names: a mixture of all classes."""

    upright = True
    labels: np.ndarray
    fetch_size = 1  # photographs may be large, and are files of their own

    def __init__(
        self, name: str, root: pathlib.Path, files: list[str], labels: list[int], cut: str = ''
    ):
        self.name, self._root, self._files, self.cut = name, str(root), files, cut
        self.home = str(root.resolve())
        self.labels = np.asarray(labels, np.int32)
        paths = [os.path.join(root, file) for file in files]
        stats = [_stat(path) for path in paths]
        sizes = [one.st_size for one in stats]
        self.fingerprint = digest('files', files, sizes, self.labels.tobytes())
        self.stamp = stamp_of(paths, stats)

    def __len__(self):
        return len(self._files)

    def where(self, index: int) -> str:
        return os.path.join(self._root, self._files[index])

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        labels = self.labels
        return [(pathlib.Path(self.where(i)).read_bytes(), int(labels[i])) for i in indices]


def folder(fields: ConfigDict) -> Source:
    """'folder:PATH': its splits 'train', 'validation' and 'test', each given or taken by hash.

    Raises:
      UserError: no such folder, no classes, an empty class, or a class that train lacks.
    """
    root = _root(fields.name)
    given = _splits(root)
    classes = _classes(given['train'])
    ignored: list[str] = []
    seen: dict[str, str] = {}
    found = {split: _files(place, classes, ignored, seen) for split, place in given.items()}
    taken = [split for split in ('test', 'validation') if split not in given]
    if fields.test in found:
        taken = [split for split in taken if split != 'test']
    if fields.train in ('validation', 'test'):  # then nothing else is held out of that split
        taken = [split for split in taken if split in (fields.train, fields.test)]
    pool = found['train']
    for number, split in enumerate(taken):
        low, high = number * fields.validation, (number + 1) * fields.validation
        found[split] = [item for item in pool if low <= item[0] < high]
        found['train'] = [item for item in found['train'] if not low <= item[0] < high]
        if not found[split] or not found['train']:
            raise UserError(
                f'{root}: {len(pool)} images with data.validation={fields.validation:g} leave '
                f'{len(found["train"])} to train on and {len(found[split])} for the {split} split, '
                f'which has no folder of its own; both need some. Raise data.validation, add '
                f"images, or divide them into folders 'train', 'validation' and 'test'."
            )
    cut = f'{taken} {fields.validation}' if taken else ''
    splits = {}
    for split, items in found.items():
        _, files, labels = zip(*sorted(items))
        place = given.get(split, given['train'])
        splits[split] = Files(f'{root} {split!r}', place, list(files), list(labels), cut)
    note = f'images in the folder {root.name}'
    if taken:
        note += f"; {' and '.join(taken)} split taken by the hash of the files' names"
    if ignored:
        note += f'; {len(ignored)} other files ignored, such as {printable(ignored[0])}'
    stray = [
        os.path.relpath(os.path.join(place, name), root)
        for place in {root, *given.values()}
        for name in sorted(os.listdir(place))
        if _is_image(name) and not os.path.isdir(os.path.join(place, name))
    ]
    if stray:
        words = f'{len(stray)} images lie in no folder of a class and are'
        if len(stray) == 1:
            words = '1 image lies in no folder of a class and is'
        note += f'; {words} ignored, such as {printable(min(stray))}'
    # the validation folder may be the one that is tested or trained on
    own = 'validation' in splits and 'validation' not in (fields.train, fields.test)
    validation = 'validation' if own else ''
    return Source(splits, classes, note, validation=validation, refuse_copies=True)


def _splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """{split: its folder}; {'train': root} where the folders of the classes are in root itself."""
    inside = _subfolders(root)
    found = {
        split: [root / name for name in inside if name.lower() in names]
        for split, names in _FOLDERS.items()
    }
    given = {split: places[0] for split, places in found.items() if places}
    others = [name for name in inside if root / name not in given.values()]
    if not given or others and not any(_subfolders(place) for place in given.values()):
        _check_classes(root, inside)
        return {'train': root}  # classes may be named as splits are, such as 'train' beside 'bus'
    twice = next((places for places in found.values() if len(places) > 1), None)
    if twice:
        raise UserError(
            f'{root} has {twice[0].name!r} and {twice[1].name!r}, two folders for one '
            'split. Rename or remove one of them.'
        )
    if 'train' not in given:
        raise UserError(
            f'{root}: it has a folder {next(iter(given.values())).name!r} but none '
            "named 'train' for the classes to be trained on."
        )
    if others:
        names = ', '.join(name for names in _FOLDERS.values() for name in names)
        raise UserError(
            f'{root / others[0]} lies beside {given["train"].name!r} and is no split of the data '
            f'by its name. Splits are named {names}. Rename it, or move it elsewhere.'
        )
    return given


def _check_classes(root, names) -> None:
    """UserError where folders look like splits: none holds images, all hold the same folders."""
    inside = [_subfolders(root / name) for name in names]
    alike = len(names) > 1 and len(inside[0]) > 1 and all(one == inside[0] for one in inside)
    if alike and not any(_is_image(file) for name in names for file in os.listdir(root / name)):
        outer, inner = ', '.join(names[:3]), ', '.join(inside[0][:3])
        raise UserError(
            f'{root}: its folders {outer} hold no images but the same folders {inner}. If those '
            "are the classes, name the folders above them 'train', 'validation' and 'test'; if "
            f"{outer} are, move them into a folder 'train'."
        )


def _is_image(name: str) -> bool:
    return not name.startswith('.') and name.lower().endswith(SUFFIXES)


def _root(name: str) -> pathlib.Path:
    path = name.partition(':')[2]
    advice = 'Name one as data.name=folder:PATH; it holds one subfolder of images per class.'
    try:
        root = pathlib.Path(path).expanduser()
        if not path or not root.is_dir():
            raise UserError(f'{name}: there is no such folder. {advice}')
        _checked(str(root))
    except (RuntimeError, ValueError, OSError) as error:  # no such home, a null byte, no rights
        words = str(error).rstrip('.')
        raise UserError(f'{name}: that folder cannot be found ({words}). {advice}') from error
    return root


def _stat(path):
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return found
        kind = 'a pipe, a socket or a device and no file'  # reading one might never end
        raise UserError(f'{printable(path)} is {kind}. Take it out of the folder.')
    except FileNotFoundError as error:
        words = 'is a link to a file or folder that is not there. Repair or remove it.'
        raise UserError(f'{printable(path)} {words}') from error
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(
        f'{printable(str(error.filename))} cannot be read ({reason(error)}). Repair that, or '
        'take it out of the folder.'
    ) from error


def _walk(place, seen: dict[str, str]):
    """(folder, file name) of all files below, links to folders followed, hidden folders left out.

    seen: {real folder: its name} of all that were walked, of other classes and splits too.

    Raises UserError: a folder that cannot be read, or that was met before.
    """
    for base, folders, files in os.walk(place, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            raise UserError(
                f'{base} and {seen[real]} are one and the same folder, {real}: its '
                'images would count twice. Remove the link.'
            )
        seen[real] = base
        folders[:] = [name for name in folders if not name.startswith('.')]
        yield from ((base, name) for name in files)


def _subfolders(place):
    try:
        entries = [entry for entry in os.scandir(place) if not entry.name.startswith('.')]
        found = sorted(entry.name for entry in entries if entry.is_dir())
        for entry in entries:  # such as a class on a disk that is not there now
            if entry.is_symlink() and entry.name not in found:
                _stat(entry.path)
    except OSError as error:
        _unreadable(error)
    return [_checked(name) for name in found]


def _checked(name: str) -> str:
    """UserError for a name that cannot be printed or stored in one line of text."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'{os.fsencode(name)!r}: the name of this file or folder is not UTF-8. Rename it.'
        ) from error
    if printable(name) != name:
        raise UserError(
            f'{name!r}: the name of this file or folder holds a character that controls a '
            'terminal, such as the end of a line. Rename it.'
        )
    return name


def printable(name: str) -> str:
    """The name on one line: control characters and bytes that are no UTF-8 are escaped."""
    bad = ('Cc', 'Cs', 'Zl', 'Zp')
    return ''.join(
        repr(letter)[1:-1] if unicodedata.category(letter) in bad else letter for letter in name
    )


def _classes(place):
    classes = tuple(_subfolders(place))
    if not classes:
        raise UserError(f'{place} has no subfolders: it needs one per class, with its images.')
    if len(classes) < 2:
        raise UserError(
            f'{place} has one subfolder only, {classes[0]!r}: a classifier needs two '
            'classes or more. Name the folder whose subfolders are the classes.'
        )
    return classes


def _files(place, classes, ignored, seen):
    """[(number in [0, 1) from the name's hash, 'class/name', label)]"""
    items: list[tuple[float, str, int]] = []
    there = set(_subfolders(place))
    strange = sorted(there.difference(classes))
    lost = [name for name in classes if name not in there]
    if lost:
        raise UserError(
            f'{place} has no folder {lost[0]!r}, a class of the training split: every '
            'split needs images of every class. Add it, or remove the class.'
        )
    if strange:
        raise UserError(
            f'{place / strange[0]}: no class of the training split.{nearest(strange[0], classes)}'
        )
    for label, name in enumerate(classes):
        count = len(items)
        for base, file in _walk(place / name, seen):
            relative = pathlib.Path(base, file).relative_to(place).as_posix()
            if _is_image(file):
                items.append((_mark(_checked(relative)), relative, label))
            else:
                ignored.append(relative)
        if len(items) == count:
            raise UserError(
                f'{place / name}: the class folder holds no images '
                f'({", ".join(suffix[1:] for suffix in SUFFIXES)}). Remove it, or add some.'
            )
    return items


def _mark(name: str) -> float:
    hashed = hashlib.sha256(name.encode(errors='surrogateescape')).digest()
    return int.from_bytes(hashed[:6], 'big') / 2**48
