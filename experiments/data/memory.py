"""A split in memory: decoded once, kept on disk; and how much memory it may take."""

import math
import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.data import cache, scan
from experiments.data.decode import Decoding
from experiments.data.records import Found, Records
from experiments.errors import UserError

MEMORY = 4 * 2**30  # bytes of decoded images above which a set is streamed; or half of what is free


class InMemory(NamedTuple):
    """A split in memory."""

    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of an image."""
        return self.images.shape[1:]

    def read(self, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, H, W, C] and int32 [n] of the images at these places."""
        return self.images[rows], self.labels[rows]

    def cut(self, low: int, high: int) -> 'InMemory':
        """The images from place low to place high."""
        return InMemory(self.images[low:high], self.labels[low:high])


def decoded(
    records: Records, how: Decoding, shape: tuple, classes: int, fields: ConfigDict
) -> tuple[InMemory, Found]:
    """A split decoded into memory, without the records that are broken, and what was found.

    fields: a config's `data` group.

    Raises:
      UserError: no memory, a record that may not be left out, or none that decodes.
    """
    key = 'images', *scan.key_of(records, how, shape, classes), fields.skip_broken
    place = fields.cache, records.name, key, (records.fingerprint, records.stamp)
    kept = None if records.embedded else cache.read(*place)
    if kept:
        found = Found.of(kept)
        return InMemory(kept['images'], np.delete(kept['labels'], found.broken)), found
    try:
        images = np.empty((len(records), *shape), np.uint8)
    except MemoryError as error:
        words = f'{records.name}: {len(records):,} images of {shape} do not fit into memory.'
        raise UserError(f"{words} Set data.stream to 'auto' or 'always'.") from error
    labels, marks = np.empty(len(records), np.int32), np.empty(len(records), np.uint64)
    count, done, digest, broken = 0, 0, b'', np.empty(0, np.int64)
    for chunk in scan.scan(records, how, shape, classes, fields, 'decoding'):
        good, digest = chunk['good'], chunk['digest']
        new = chunk['image'] if good.all() else chunk['image'][good]
        images[count : count + len(new)] = new
        count += len(new)
        labels[done : done + len(good)] = chunk['label']
        marks[done : done + len(good)] = chunk['mark']
        broken = np.concatenate([broken, done + np.flatnonzero(~good)])
        done += len(good)
    scan.check_some(count, records)
    found = Found(broken, labels, marks, '' if records.embedded else digest.hex())
    split = InMemory(images[:count], np.delete(labels, broken))
    if not records.embedded:
        cache.write(*place, {'images': split.images} | found.arrays())
    return split, found


def budget() -> float:
    """Bytes that a decoded set may take: MEMORY or half of the free memory, the lower."""
    free = math.inf
    try:
        words = pathlib.Path('/proc/meminfo').read_text().partition('MemAvailable:')[2].split()
        free = int(words[0]) * 1024
        free = min(free, _container())
    except (OSError, ValueError, IndexError, KeyError):  # another system, or no limit
        pass
    return min(MEMORY, free / 2)


def _container(folder: str = '/sys/fs/cgroup') -> int:
    """Bytes that this container may still take. ValueError: it has no limit."""
    place = pathlib.Path(folder)
    limit, used = (int((place / f'memory.{name}').read_text()) for name in ('max', 'current'))
    stat = dict(line.split() for line in (place / 'memory.stat').read_text().splitlines())
    # pages of files that were read count as used, and are given back as soon as they are needed
    return limit - used + int(stat['inactive_file']) + int(stat['active_file'])
