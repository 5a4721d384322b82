"""A split in memory: decoded once, kept on disk; and how much memory it may take."""

import math
import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.data import cache, scan
from experiments.data.decode import Decoding
from experiments.data.records import Records
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
) -> tuple[InMemory, int, str]:
    """A split decoded into memory, how many records were left out, and a digest of all of them.

    fields: a config's `data` group.

    Raises:
      UserError: no memory, a record that may not be left out, or none that decodes.
    """
    key = 'images', *scan.key_of(records, how, shape, classes), fields.skip_broken
    place = fields.cache, records.name, key, (records.fingerprint, records.stamp)
    kept = None if records.embedded else cache.read(*place)
    if kept:
        return InMemory(kept['images'], kept['labels']), int(kept['skipped']), str(kept['content'])
    try:
        images = np.empty((len(records), *shape), np.uint8)
    except MemoryError as error:
        words = f'{records.name}: {len(records):,} images of {shape} do not fit into memory.'
        raise UserError(f"{words} Set data.stream to 'auto' or 'always'.") from error
    labels, count, digest = np.empty(len(records), np.int32), 0, b''
    for chunk in scan.scan(records, how, shape, classes, fields, 'decoding'):
        good, digest = chunk['good'], chunk['digest']
        new = chunk['image'] if good.all() else chunk['image'][good]
        images[count : count + len(new)] = new
        labels[count : count + len(new)] = chunk['label'][good]
        count += len(new)
    scan.check_some(count, records)
    split, skipped = InMemory(images[:count], labels[:count]), len(records) - count
    if records.embedded:
        return split, skipped, ''
    arrays = {'images': split.images, 'labels': split.labels}
    arrays |= {'skipped': np.asarray(skipped), 'content': np.asarray(digest.hex())}
    cache.write(*place, arrays)
    return split, skipped, digest.hex()


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
