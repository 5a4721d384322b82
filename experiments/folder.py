"""A folder of images with one subfolder per class as a data set.

    photographs/daisy/1.jpg        photographs/train/daisy/1.jpg
    photographs/rose/2.png    or   photographs/validation/daisy/2.jpg   ('val' too)
                                   photographs/test/daisy/3.jpg

Classes are the subfolders' names in alphabetical order. A part that has no folder of its own is
taken from the training images by a hash of 'class/file name', so that it is the same everywhere and
stays the same when files are added.
"""

import hashlib
import os
import pathlib

import numpy as np

from experiments.errors import UserError, nearest, reason
from experiments.records import Records, Source, digest

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
_FOLDERS = {'train': ('train',), 'validation': ('validation', 'val'), 'test': ('test',)}


class Files(Records):
    """Image files in the order of the hash of their names: a mixture of all classes."""

    upright = True

    def __init__(self, name: str, root: pathlib.Path, files: list[str], labels: list[int],
                 cut: str = ''):
        self.name, self._root, self._files, self.cut = name, str(root), files, cut
        self.home = str(root.resolve())
        self.labels = np.asarray(labels, np.int32)
        stats = [_stat(os.path.join(root, file)) for file in files]
        self.fingerprint = digest('files', files, [stat.st_size for stat in stats],
                                  self.labels.tobytes())
        self.stamp = digest([stat.st_mtime_ns for stat in stats])

    def __len__(self):
        return len(self._files)

    def where(self, index):
        return os.path.join(self._root, self._files[index])

    def fetch(self, indices):
        return [(pathlib.Path(self.where(index)).read_bytes(), int(self.labels[index]))
                for index in indices]


def folder(fields) -> Source:
    """'folder:PATH': its parts 'train', 'validation' and 'test', each given or taken by hash.

    Raises:
      UserError: no such folder, no classes, an empty class, or a class that train lacks.
    """
    root = _root(fields.name)
    inside = _subfolders(root)
    given = {part: root / found for part, names in _FOLDERS.items()
             if (found := next((name for name in names if name in inside), None))}
    others = [name for name in inside if root / name not in given.values()]
    if given and others and not any(_subfolders(place) for place in given.values()):
        given = {'train': root}  # classes that happen to be named so, such as 'train' beside 'bus'
    elif 'train' not in given:
        if given:
            raise UserError(f"{root}: it has a folder {next(iter(given.values())).name!r} but none "
                            "named 'train' for the classes to be trained on.")
        given = {'train': root}
    classes = _classes(given['train'])
    found, ignored = {}, []
    for part, place in given.items():
        found[part] = _files(place, classes, ignored)
    taken = [part for part in ('test', 'validation') if part not in given]
    if fields.test in found:
        taken = [part for part in taken if part != 'test']
    if fields.train in ('validation', 'test'):  # then nothing else is held out of that part
        taken = [part for part in taken if part in (fields.train, fields.test)]
    pool = found['train']
    for number, part in enumerate(taken):
        low, high = number * fields.validation, (number + 1) * fields.validation
        found[part] = [item for item in pool if low <= item[0] < high]
        found['train'] = [item for item in found['train'] if not low <= item[0] < high]
        if not found[part] or not found['train']:
            raise UserError(
                f'{root}: {len(pool)} images with data.validation={fields.validation:g} leave '
                f'{len(found["train"])} to train on and {len(found[part])} for the {part} part, '
                f'which has no folder of its own; both need some. Raise data.validation, add '
                f"images, or divide them into folders 'train', 'validation' and 'test'.")
    splits = {part: Files(f'{root} {part!r}', given.get(part, given['train']),
                          [file for _, file, _ in sorted(items)],
                          [label for _, _, label in sorted(items)],
                          f'{taken} {fields.validation}' if taken else '')
              for part, items in found.items()}
    note = f'images in the folder {root.name}'
    if taken:
        note += f"; {' and '.join(taken)} part taken by the hash of the files' names"
    if ignored:
        note += f'; {len(ignored)} other files ignored, such as {ignored[0]}'
    # the part to validate on may be the one that is tested or trained on
    own = 'validation' if ('validation' in splits
                           and 'validation' not in (fields.train, fields.test)) else ''
    return Source(splits, classes, note, validation=own)


def _root(name: str) -> pathlib.Path:
    path = name.partition(':')[2]
    advice = ('Name one as data.name=folder:PATH; it holds one subfolder of images per class.')
    try:
        root = pathlib.Path(path).expanduser()
        if not path or not root.is_dir():
            raise UserError(f'{name}: there is no such folder. {advice}')
    except (RuntimeError, ValueError, OSError) as error:  # no such home, a null byte, no rights
        raise UserError(f'{name}: that folder cannot be found ({str(error).rstrip(".")}). {advice}'
                        ) from error
    return root


def _stat(path):
    try:
        return os.stat(path)
    except FileNotFoundError as error:
        raise UserError(f'{path} is a link to a file that is not there. Mend or remove it.'
                        ) from error
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(f'{error.filename} cannot be read ({reason(error)}). Change its rights, or '
                     'take it out of the folder.')


def _raise(error):
    raise _unreadable(error) from error


def _subfolders(place):
    try:
        found = sorted(entry.name for entry in os.scandir(place)
                       if entry.is_dir() and not entry.name.startswith('.'))
    except OSError as error:
        raise _unreadable(error) from error
    _check_name(*found)
    return found


def _check_name(*names):
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:  # bytes that are no UTF-8: cannot be printed or stored
            raise UserError(f'{os.fsencode(name)!r}: the name of this file or folder is not '
                            'UTF-8. Rename it.') from error


def _classes(place):
    classes = tuple(_subfolders(place))
    if not classes:
        raise UserError(f'{place} has no subfolders: it needs one per class, with its images.')
    if len(classes) < 2:
        raise UserError(f'{place} has one subfolder only, {classes[0]!r}: a classifier needs two '
                        'classes or more. Name the folder whose subfolders are the classes.')
    return classes


def _files(place, classes, ignored):
    """[(number in [0, 1) from the name's hash, 'class/name', label)]"""
    items = []
    there = set(_subfolders(place))
    strange, lost = sorted(there - set(classes)), [name for name in classes if name not in there]
    if lost:
        raise UserError(f'{place} has no folder {lost[0]!r}, a class of the training part: every '
                        'part needs images of every class. Add it, or remove the class.')
    if strange:
        raise UserError(f'{place / strange[0]}: no class of the training part.'
                        f'{nearest(strange[0], classes)}')
    for label, name in enumerate(classes):
        count = len(items)
        for base, _, files in os.walk(place / name, onerror=_raise):
            for file in files:
                _check_name(file)
                path = pathlib.Path(base, file)
                if file.startswith('.') or not file.lower().endswith(SUFFIXES):
                    ignored.append(path.relative_to(place).as_posix())
                    continue
                relative = path.relative_to(place).as_posix()
                items.append((_mark(relative), relative, label))
        if len(items) == count:
            raise UserError(f'{place / name}: the class folder holds no images '
                            f'({", ".join(suffix[1:] for suffix in SUFFIXES)}). Remove it, or add '
                            'some.')
    return items


def _mark(name: str) -> float:
    hashed = hashlib.sha256(name.encode(errors='surrogateescape')).digest()
    return int.from_bytes(hashed[:6], 'big') / 2**48
