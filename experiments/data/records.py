"""Images of a source by index, before they are decoded, and their decoding one by one."""

import contextlib
import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from experiments.data.decode import Decoding, Unfit, channels_of, said
from experiments.errors import UserError, reason, shown
from experiments.files import digest


class Decode(Protocol):
    """What decodes a record; it can be sent to worker processes."""

    def __call__(self, raw: bytes | np.ndarray, index: int) -> np.ndarray:
        """What `fetch` gave of the record at this place -> uint8 pixels, or views of them."""


class Broken(UserError):
    """A record that does not decode; `index` is its place among its records."""

    def __init__(self, message: str, index: int = -1):
        super().__init__(message)
        self.index = index

    def __reduce__(self):  # crosses from a worker process
        return Broken, (str(self), self.index)

    def advised(self) -> 'Broken':
        """The same error, with what can be done about it."""
        return Broken(
            f'{self} Name all such records with python -m experiments.data check '
            'NAME; repair or prepare them again, or leave them out with '
            '--config.data.skip_broken=true.',
            self.index,
        )


class Records:
    """The images of one split of a source, read by index. Base class.

    A source sets or overrides these attributes and methods; worker processes get a pickled copy.
    """

    name = ''  # of the source and the split, for messages
    labels: np.ndarray | None = None  # int32 [N], or None where `fetch` alone gives them
    size: tuple = (None, None, None)  # (H, W, C) of every image; None: differs, or not known
    upright = False  # turn photographs as their EXIF orientation says
    embedded = False  # costs nothing to read again: not cached
    fingerprint = ''  # of names and sizes: the same wherever the same data are; never left empty
    home = ''  # folder of the files
    cut = ''  # rule by which the split was taken from those files, where there is one
    stamp = ''  # changes with every change of the files, if only of their times
    ranges: dict | None = None  # {file: [(first, end)]} of records, to find splits that overlap
    fetch_size = 32  # most records of one `fetch`, whose bytes are in memory at the same time

    def __len__(self) -> int:
        raise NotImplementedError

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        """(bytes of an image file or uint8 [h, w, C], label) of each; raises for a broken one."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """Names a record in a message."""
        return f'record {index}'


class Found(NamedTuple):
    """What one reading of all records of a split found, by their places among the records."""

    broken: np.ndarray  # int64, places of the records that do not decode
    labels: np.ndarray | None  # int32 [N]; None: not read
    marks: np.ndarray | None  # uint64 [N], equal where the decoded pixels are equal; None: not read
    content: str  # digest of the bytes of all records; '': their fingerprint is one

    @classmethod
    def of(cls, kept: Mapping[str, np.ndarray]) -> 'Found':
        """From its `arrays`."""
        return cls(kept['broken'], kept['labels'], kept['marks'], str(kept['content']))

    def arrays(self) -> dict[str, np.ndarray]:
        """As arrays, to be kept on disk."""
        assert self.labels is not None and self.marks is not None
        parts = {'broken': self.broken, 'labels': self.labels, 'marks': self.marks}
        return parts | {'content': np.asarray(self.content)}


class Source(NamedTuple):
    """What a source gives: its splits by name, its classes, and a note on the data.

    Splits are in mixed order: the last images of the train split become the validation split.
    """

    splits: Mapping[str, Records]  # all splits, not yet read
    classes: tuple[str, ...]
    note: str  # printed beside every number: which data, and how exact
    sub_split: Callable[[str], Records] | None = None  # opens names such as 'train[:90%]' too
    validation: str = ''  # name of the validation split, where the data have one of their own
    refuse_copies: bool = False  # an image in two splits is the user's mistake, to be repaired


class Arrays(Records):
    """Images in memory: uint8 [N, H, W, 1 or 3], labels int [N].

    Raises:
      UserError: arrays of other types or shapes, or not one label an image.
    """

    embedded = True
    labels: np.ndarray

    def __init__(self, images: np.ndarray, labels: np.ndarray, name: str = ''):
        images, labels = np.asarray(images), np.asarray(labels)
        what = f'images of {name}' if name else 'images'
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(
                f'{what} are {images.dtype} {list(images.shape)}, they must be uint8 '
                '[N, H, W, 1 or 3] with values from 0 to 255: grey images need a last '
                'axis of 1, fractions of 1 must be multiplied by 255 and rounded.'
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
            raise UserError(
                f'labels of {len(images)} {what} are {labels.dtype} '
                f'{list(labels.shape)}, they must be whole numbers [{len(images)}].'
            )
        if len(labels) and not -(2**31) <= labels.min() <= labels.max() < 2**31:
            raise UserError(
                f'labels of {what} lie outside 32 bits: {labels.min()} to {labels.max()}.'
            )
        self.images, self.labels, self.name = images, labels.astype(np.int32), name
        self.size = images.shape[1:]
        self.fingerprint = digest(images.shape, images, self.labels)

    def __len__(self):
        return len(self.labels)

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        return [(self.images[index], self.labels[index]) for index in indices]


_LOOKED_AT = 100  # records that tell channels and shape where the source does not


def channels(records: Records) -> int:
    """Channels of the images: given, or 1 if the first hundred are all grey, else 3."""
    if records.size[2]:
        return records.size[2]
    for index in range(min(_LOOKED_AT, len(records))):
        try:
            ((raw, _),) = records.fetch([index])
            if channels_of(raw) == 3:
                return 3
        except Exception:  # a broken one is named where it is decoded
            continue
    return 1


def shape(records: Records, how: Decoding) -> tuple[int, int, int]:
    """(H, W, C) of the decoded images; where the source does not tell, of the first that decodes.

    Raises:
      Broken: none of the first hundred decodes.
    """
    side = how.side or how.resize
    if side:
        return side, side, how.channels
    if records.size[0] and records.size[1]:
        return (*records.size[:2], how.channels)
    for index in range(min(_LOOKED_AT, len(records))):
        try:
            return one(records, index, how)[0].shape
        except Broken as error:
            first = error
    raise first if len(records) else UserError(f'{records.name} is empty.')


def one(records: Records, index: int, how: Decode) -> tuple[np.ndarray, int]:
    """The decoded image and label of one record.

    Raises:
      Broken: it does not decode.
      UserError: it is unfit, or cannot be read at all, which may pass: no rights, a disk that
        fails, too many open files, no memory.
    """
    try:
        ((raw, label),) = records.fetch([index])
        return how(raw, index), label
    except UserError:
        raise
    except Unfit as error:
        raise UserError(f'{records.name}: {records.where(index)} {error}.') from error
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is None:  # Pillow's, of damaged bytes
            raise _broken(records, index, error) from error
        raise UserError(
            f'{records.name}: {records.where(index)} cannot be read ({reason(error)}). Mend that '
            'and run the same command again; such a record is never left out.'
        ) from error
    except Exception as error:  # every reader and decoder has kinds of its own
        raise _broken(records, index, error) from error


def _broken(records, index, error):
    words = f'does not decode ({reason(error)}).'
    return Broken(f'{records.name}: {records.where(index)} {words}', index)


def each(
    records: Records,
    indices: Sequence[int] | np.ndarray,
    how: Decode,
    heard: list[tuple[str, str]] | None = None,
) -> Iterator[tuple]:
    """Yields (image, label, fault, raw) of every record.

    image: decoded, uint8; label: int; fault: UserError of a broken record; raw: what `fetch` gave.
    What is missing is None. `heard` gets (name of the record, text) of every warning of Pillow;
    then one thread alone may read.

    Raises:
      UserError: none can be read.
    """
    listen = contextlib.nullcontext if heard is None else said
    for start in range(0, len(indices), records.fetch_size):
        some = [int(index) for index in indices[start : start + records.fetch_size]]
        fetched = _fetch_all(records, some)
        for place, index in enumerate(some):
            raw = label = image = fault = None
            try:
                with listen() as texts:
                    try:
                        ((raw, label),) = [fetched[place]] if fetched else records.fetch([index])
                        image = how(raw, index)
                    except Exception:
                        image, label = one(records, index, how)  # again, for the message
                label = _whole(records, index, label)
            except UserError as error:
                fault = error
            if heard is not None and texts:
                heard += [(records.where(index), text) for text in texts]
            yield image, label, fault, raw


def many(
    records: Records,
    indices: Sequence[int] | np.ndarray,
    how: Decode,
    shape: tuple,
    classes: int,
    hashes: list[bytes] | None = None,
    marks: list[int] | None = None,
    heard: list[tuple[str, str]] | None = None,
    zeros: Callable = np.zeros,
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, UserError]]]:
    """Decodes records: (uint8 [n, *shape], int32 [n], faults).

    faults: [(place among the indices, UserError)] of the records that are broken, of another shape
    or labelled outside 0..classes - 1; their places hold zeros. `hashes` gets 32 bytes a record,
    of its bytes before they are decoded and of its label; `marks` a number of 64 bits, of its
    pixels after they are decoded; `heard` is that of `each`; `zeros` makes the array of images.

    Raises:
      UserError: none can be read.
    """
    images, labels = zeros((len(indices), *shape), np.uint8), np.zeros(len(indices), np.int32)
    faults = []
    for place, (image, label, fault, raw) in enumerate(each(records, indices, how, heard)):
        if hashes is not None:
            hashes.append(_hash(raw, label))
        if fault is None and image.shape != shape:
            fault = UserError(
                f'{records.name}: {records.where(int(indices[place]))} is {_size(image.shape)}, '
                f'others are {_size(shape)}. Set data.resize to the pixels of the shorter side: '
                'the centre square is then used of every image.'
            )
        if fault is None and not 0 <= label < classes:
            fault = label_error(records, int(indices[place]), label, classes)
        if fault is None:
            images[place], labels[place] = image, label
        else:
            faults.append((place, fault))
        if marks is not None:
            marks.append(mark_of(images[place]))
    return images, labels, faults


def mark_of(image: np.ndarray) -> int:
    """64 bits of a hash of the shape and the pixels of an image, uint8 [H, W, C]."""
    hashed = hashlib.sha256(repr(image.shape).encode())
    hashed.update(np.ascontiguousarray(image).data)
    return int.from_bytes(hashed.digest()[:8], 'little')


def label_error(records: Records, index: int, label: int, classes: int) -> UserError:
    """The error of a label outside 0..classes - 1."""
    return UserError(
        f'{records.name}: {records.where(index)} has label {label}, outside 0..{classes - 1}.'
    )


def _hash(raw, label) -> bytes:
    """32 bytes."""
    if isinstance(raw, np.ndarray):
        raw = np.ascontiguousarray(raw).data
    elif not isinstance(raw, bytes):
        raw = repr(raw).encode()
    return hashlib.sha256(hashlib.sha256(raw).digest() + str(label).encode()).digest()


def _whole(records, index, label) -> int:
    try:
        return operator.index(label)
    except TypeError as error:
        words = f'has label {shown(label)}, which is no whole number.'
        raise UserError(f'{records.name}: {records.where(index)} {words}') from error


def _fetch_all(records: Records, indices: Sequence[int]):
    """What `fetch` gives, or None where one of them is broken.

    Raises:
      UserError: none can be read, such as those of a damaged file.
    """
    try:
        return records.fetch(indices)
    except Broken:
        return None
    except UserError:
        raise
    except Exception:  # every reader has kinds of its own
        return None


def _size(shape):
    return 'x'.join(map(str, shape))
