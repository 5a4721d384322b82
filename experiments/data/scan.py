"""Reads all records of a split once, in order: decoded in chunks, with faults and a digest."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments import progress
from experiments.data import readahead
from experiments.data import records as reading
from experiments.data.decode import Decoding
from experiments.data.records import Broken, Records
from experiments.errors import UserError

CHUNK = 128  # records read at a time, at most
_TOLD = 5  # warnings of different texts that are printed
_BYTES = 64 * 2**20  # of decoded images read at a time; one image may have more


def step_of(shape: Sequence[int]) -> int:
    """How many images of this shape are read at a time, so that memory does not grow with it."""
    return max(1, min(CHUNK, _BYTES // max(math.prod(shape), 1)))


class Chunks:
    """The decoded records in chunks of `step_of` images, by index; worker processes read them.

    A chunk: 'image', uint8 [n, *shape]; 'label', int32 [n]; 'hash', 32 bytes a record; 'mark',
    uint64 [n], equal for equal pixels; 'fault', [(place in the chunk, whether the record is broken,
    message)]; 'heard', [(name of a record, warning)].
    """

    def __init__(
        self, records: Records, rows: np.ndarray, how: Decoding, shape: tuple, classes: int
    ):
        self.records, self.rows, self.how = records, rows, how
        self.shape, self.classes, self.step = shape, classes, step_of(shape)

    def __len__(self):
        return -(-len(self.rows) // self.step)

    def __getitem__(self, index):
        return self.chunk(self.rows[int(index) * self.step : (int(index) + 1) * self.step])

    def chunk(self, rows) -> dict:
        """The chunk of these records."""
        hashes: list[bytes] = []
        marks: list[int] = []
        heard: list[tuple[str, str]] = []
        images, labels, faults = reading.many(
            self.records, rows, self.how, self.shape, self.classes, hashes, marks, heard
        )
        return {
            'image': images,
            'label': labels,
            'hash': b''.join(hashes),
            'mark': np.array(marks, np.uint64),
            'heard': heard,
            'fault': [(place, isinstance(error, Broken), str(error)) for place, error in faults],
        }


def read(chunks: Chunks, workers: int, words: str = '', few: int | None = None) -> Iterator[dict]:
    """All chunks in order; with `words`, a long reading reports how far it is.

    few: records below which no worker processes are started; default: readahead.FEW.
    """
    found: Iterator[dict] = map(chunks.__getitem__, range(len(chunks)))
    if workers and len(chunks.rows) >= (readahead.FEW if few is None else few):
        found = readahead.stream(chunks, workers, 0, len(chunks))
    if not words:
        return found
    return _told(progress.reported(found, words, len(chunks.rows), chunks.step), chunks.records)


def _told(chunks: Iterator[dict], records: Records) -> Iterator[dict]:
    """Passes on the chunks; then notes every warning, with the record it came first from."""
    heard: dict[str, tuple[str, int]] = {}
    try:
        for chunk in chunks:
            for where, text in chunk['heard']:
                first, count = heard.get(text, (where, 0))
                heard[text] = first, count + 1
            yield chunk
    finally:
        for text, (where, count) in list(heard.items())[:_TOLD]:
            others = f' (and {count - 1:,} other records)' if count > 1 else ''
            progress.note(f'{records.name}: {where}: {text.rstrip(".")}{others}')
        if len(heard) > _TOLD:
            progress.note(f'{records.name}: {len(heard) - _TOLD:,} other warnings')


def scan(
    records: Records,
    how: Decoding,
    shape: tuple,
    classes: int,
    fields: ConfigDict,
    words: str,
    first: int = 0,
    digest: bytes = b'',
) -> Iterator[dict]:
    """Yields chunks, each with 'good', bool [n], the records that decode, and 'digest', of all
    records so far.

    fields: a config's `data` group. first: the record to begin with; digest: that of the records
    before it. The digest is the same for chunks of any length.

    Raises:
      UserError: a record that may not be left out: a broken one only with data.skip_broken.
    """
    chunks = Chunks(records, np.arange(first, len(records)), how, shape, classes)
    workers = 0 if records.embedded else fields.workers
    for chunk in read(chunks, workers, f'{records.name}: {words}'):
        chunk['good'] = good_of(chunk, fields.skip_broken)
        for start in range(0, len(chunk['hash']), 32):
            digest = hashlib.sha256(digest + chunk['hash'][start : start + 32]).digest()
        yield chunk | {'digest': digest}


def good_of(chunk: dict, skip_broken: bool) -> np.ndarray:
    """bool [n]: the records that decode. Raises the first fault that may not be left out."""
    good = np.ones(len(chunk['label']), bool)
    for place, broken, message in chunk['fault']:
        if not broken:
            raise UserError(message)
        if not skip_broken:
            raise Broken(message).advised()
        good[place] = False
    return good


def check_some(count: int, records: Records) -> None:
    """UserError if none of the records decodes."""
    if not count:
        raise UserError(f'{records.name}: none of its {len(records)} records decodes.')


def key_of(records: Records, how: Decoding, shape: tuple, classes: int) -> tuple:
    """What names a scan in the cache: which records, and how they were decoded."""
    return records.name, records.home, records.cut, len(records), tuple(how), shape, classes
