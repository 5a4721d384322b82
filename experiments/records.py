"""Random access to the images of a source, before they are decoded, and their decoding in bulk."""

import hashlib
from typing import Callable, NamedTuple, Sequence

import numpy as np

from experiments.decode import Decoding, Unfit, channels_of, decode
from experiments.errors import UserError, reason

CHUNK = 500  # records read at a time


class Broken(UserError):
    """A record that does not decode; `index` is its place among its records."""

    def __init__(self, message: str, index: int = -1):
        super().__init__(message)
        self.index = index

    def __reduce__(self):  # crosses from a worker process
        return Broken, (str(self), self.index)


class Records:
    """One part of a source: images that lie somewhere, read by index. Base class.

    A source sets or overrides what is named here; an instance is pickled to worker processes.
    """

    name = ''  # of the source and the part, for messages
    labels: np.ndarray | None = None  # int32 [N], or None when only reading the images tells
    size: tuple = (None, None, None)  # (H, W, C) of every image; None: differs, or not known
    upright = False  # turn photographs as their EXIF orientation says
    embedded = False  # costs nothing to read again: not cached
    fingerprint = ''  # of names and sizes: the same wherever the same data lie
    home = ''  # where the files lie
    stamp = ''  # changes with every change of the files, if only of their times
    ranges: dict | None = None  # {file: [(first, end)]} of records, to see that parts are apart

    def __len__(self) -> int:
        raise NotImplementedError

    def fetch(self, indices: Sequence[int]) -> list[tuple]:
        """(bytes of an image file or uint8 [h, w, C], label) of each; raises for a broken one."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """Names a record in a message."""
        return f'record {index}'


class Source(NamedTuple):
    """What a source gives: its parts by name, its classes, and what is said of it.

    Parts are in mixed order: the last images of the train part become the validation part.
    """

    splits: dict[str, Records]  # every part there is, not yet read
    classes: tuple[str, ...]
    note: str  # said beside every number: which data, and how exact
    part: Callable[[str], Records] | None = None  # reads names such as 'train[:90%]' too
    validation: str = ''  # the part to validate on, where the data have one of their own


class Arrays(Records):
    """Images in memory: uint8 [N, H, W, 1 or 3], labels int [N]."""

    embedded = True

    def __init__(self, images: np.ndarray, labels: np.ndarray, name: str = ''):
        self.images, self.labels, self.name = images, np.asarray(labels, np.int32), name
        self.size = images.shape[1:]
        self.fingerprint = digest(images.shape, images.tobytes(), self.labels.tobytes())

    def __len__(self):
        return len(self.labels)

    def fetch(self, indices):
        return [(self.images[index], self.labels[index]) for index in indices]


def digest(*parts) -> str:
    """Sixteen hexadecimal digits of a hash of bytes and of anything with a stable repr."""
    total = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else repr(part).encode()
        total.update(len(part).to_bytes(8, 'little') + part)
    return total.hexdigest()[:16]


def channels(records: Records, looked_at: int = 100) -> int:
    """Channels of the images: given, or 1 if the first hundred are all grey, else 3."""
    if records.size[2]:
        return records.size[2]
    for index in range(min(looked_at, len(records))):
        try:
            (raw, _), = records.fetch([index])
            if channels_of(raw) == 3:
                return 3
        except Exception:  # a broken one is named where it is decoded
            continue
    return 1


def shape(records: Records, how: Decoding) -> tuple[int, int, int]:
    """(H, W, C) of the decoded images, from the first that decodes where nothing says it.

    Raises:
      Broken: none of the first hundred decodes.
    """
    side = how.side or how.resize
    if side:
        return side, side, how.channels
    if records.size[0] and records.size[1]:
        return (*records.size[:2], how.channels)
    for index in range(min(100, len(records))):
        try:
            return one(records, index, how)[0].shape
        except Broken as error:
            first = error
    raise first if len(records) else UserError(f'{records.name} is empty.')


def one(records: Records, index: int, how: Decoding) -> tuple[np.ndarray, int]:
    """The decoded image and label of one record. Broken: it does not decode; UserError: unfit."""
    try:
        (raw, label), = records.fetch([index])
        return decode(raw, how), label
    except UserError:
        raise
    except Unfit as error:
        raise UserError(f'{records.name}: {records.where(index)} {error}.') from error
    except Exception as error:  # every reader and decoder has kinds of its own
        raise Broken(f'{records.name}: {records.where(index)} does not decode '
                     f'({reason(error)}).', index) from error


def many(records: Records, indices: Sequence[int], how: Decoding, shape: tuple, classes: int):
    """Decodes records: (uint8 [n, *shape], int32 [n], faults).

    faults: [(place among the indices, UserError)] of the records that are broken, of another shape
    or labelled outside 0..classes - 1; their places hold zeros.
    """
    images, labels = np.zeros((len(indices), *shape), np.uint8), np.zeros(len(indices), np.int32)
    faults = []
    try:
        fetched = records.fetch(indices)
    except Exception:  # one of them; found below
        fetched = None
    for place, index in enumerate(indices):
        index = int(index)
        try:
            try:
                if fetched is None:
                    raise LookupError
                raw, label = fetched[place]
                image = decode(raw, how)
            except Exception:
                image, label = one(records, index, how)  # again, for the message
            if image.shape != shape:
                raise UserError(
                    f'{records.name}: {records.where(index)} is {_size(image.shape)}, others are '
                    f'{_size(shape)}. Set data.resize to the pixels of the shorter side: the '
                    'centre square is then used of every image.')
            if not 0 <= label < classes:
                raise UserError(f'{records.name}: {records.where(index)} has label {label}, '
                                f'outside 0..{classes - 1}.')
            images[place], labels[place] = image, label
        except UserError as error:
            faults.append((place, error))
    return images, labels, faults


def _size(shape):
    return 'x'.join(map(str, shape))


class Chunks:
    """The decoded records in chunks of CHUNK, by index; read by the feed's workers."""

    def __init__(self, records: Records, rows: np.ndarray, how: Decoding, shape, classes: int):
        self.records, self.rows, self.how = records, rows, how
        self.shape, self.classes = shape, classes

    def __len__(self):
        return -(-len(self.rows) // CHUNK)

    def __getitem__(self, index):
        rows = self.rows[int(index) * CHUNK:(int(index) + 1) * CHUNK]
        images, labels, faults = many(self.records, rows, self.how, self.shape, self.classes)
        return {'image': images, 'label': labels,
                'fault': [(place, int(rows[place]), isinstance(error, Broken), str(error))
                          for place, error in faults]}
