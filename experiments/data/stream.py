"""A split that is decoded while it is used, after all its records were checked."""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from experiments.data import cache, scan
from experiments.data import records as reading
from experiments.data.crops import Cut, Drawn, Whole, whole_sides
from experiments.data.decode import Decoding, sides_of
from experiments.data.memory import InMemory
from experiments.data.records import Broken, Found, Records

_SAVE = 60.0  # seconds of a long reading after which the findings so far are kept


@dataclasses.dataclass(eq=False)
class Streamed:
    """A split that is decoded while it is used."""

    records: Records
    rows: np.ndarray  # places of its images among the records
    how: Decoding
    shape: tuple[int, ...]  # (H, W, C) of an image, or (k, h, w, C) of its views
    classes: int
    workers: int = 0
    read_labels: np.ndarray | None = None  # int32, of all records, where one reading found them
    seen: reading.Decode | None = None  # in place of `how`, for an evaluation of whole images

    def __len__(self):
        return len(self.rows)

    @property
    def labels(self) -> 'np.ndarray | Unread':
        """int32 [N]; where the records hold them, an object of that length for np.asarray."""
        labels = self.records.labels if self.read_labels is None else self.read_labels
        return Unread(self) if labels is None else labels[self.rows]

    def read(
        self, rows: np.ndarray | slice, drawn: Drawn | None = None, zeros: Callable = np.zeros
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, H, W, C] and int32 [n] of the images at these places, or crops of them.

        zeros: makes the array of the images.

        Raises:
          UserError: one does not decode (named), has another shape or a label of no class.
        """
        how, shape = self.seen or self.how, self.shape
        if drawn:
            how, shape = drawn, (*drawn.crop.size, drawn.how.channels)
        images, labels, faults = reading.many(
            self.records, self.rows[rows], how, shape, self.classes, zeros=zeros
        )
        if faults:
            error = faults[0][1]
            raise error.advised() if isinstance(error, Broken) else error
        return images, labels

    def whole(self, rows: np.ndarray) -> list[np.ndarray]:
        """uint8 [h, w, C], the images at these places as they are, upright.

        Raises UserError: one does not decode.
        """
        how = Decoding(self.how.channels, upright=self.how.upright)
        return [reading.one(self.records, int(row), how)[0] for row in self.rows[rows]]

    def seen_whole(self, short: int) -> list[tuple[np.ndarray, 'Streamed']]:
        """Its images scaled to a shorter side of `short`, as splits of one shape each.

        Each with the places of its images in this split; the largest image last. The longer side is
        that of `crops.whole_sides`.

        Raises:
          UserError: a record that cannot be read.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        size = lambda raw, index: np.array(sides_of(raw, self.how.upright))
        found = reading.each(self.records, self.rows, size)
        for place, (sides, _, fault, _) in enumerate(found):
            if fault is not None:
                raise fault
            groups.setdefault(whole_sides(int(sides[0]), int(sides[1]), short), []).append(place)
        return [
            (
                np.array(groups[sides]),
                dataclasses.replace(
                    self,
                    rows=self.rows[groups[sides]],
                    seen=Whole(self.how, sides),
                    shape=(*sides, self.shape[-1]),
                ),
            )
            for sides in sorted(groups, key=math.prod)
        ]

    def seen_as(self, name: str, size: tuple[int, int], scales: tuple[int, ...]) -> 'Streamed':
        """Its images as the views of `crops.Cut` of them, uint8 [n, k, h, w, C]."""
        views = Cut(self.how, name, size, scales)
        return dataclasses.replace(self, seen=views, shape=(views.views, *size, self.shape[-1]))

    def cut(self, low: int, high: int) -> 'Streamed':
        """The images from place low to place high."""
        return dataclasses.replace(self, rows=self.rows[low:high])


Split = InMemory | Streamed  # a split as training reads it


class Unread:
    """Labels that the records hold: they have a length, and np.asarray reads them."""

    dtype = np.dtype(np.int32)

    def __init__(self, split: Streamed):
        self._split = split
        self.shape = (len(split),)

    def __len__(self):
        return len(self._split)

    def __array__(self, dtype=None, copy=None):
        del copy
        split = self._split
        step, labels = scan.step_of(split.shape), []
        for start in range(0, len(split), step):
            records = split.records.fetch(split.rows[start : start + step])
            labels += [label for _, label in records]
        return np.asarray(labels, dtype or np.int32)


def streamed(
    records: Records,
    how: Decoding,
    shape: tuple,
    classes: int,
    fields: ConfigDict,
    known: bool = False,
) -> tuple[Streamed, Found]:
    """A split to be streamed, without the records that are broken, and what was found.

    Every record is read once, before the first step: a fault that came up in the test split would
    cost the whole training. The findings are kept on disk, also of a reading that was interrupted
    or ended by a fault. fields: a config's `data` group. known: all records are sound.

    Raises:
      UserError: a record that may not be left out, or none that decodes.
    """
    found = Found(np.empty(0, np.int64), None, None, '')
    if records.embedded and records.labels is not None:  # only the labels can be wrong
        bad = np.flatnonzero((records.labels < 0) | (records.labels >= classes))
        if len(bad):
            row = int(bad[0])
            raise reading.label_error(records, row, records.labels[row], classes)
    elif not known:
        found = _look_through(records, how, shape, classes, fields)
        found = found._replace(content='') if records.embedded else found
    rows = np.delete(np.arange(len(records)), found.broken)
    scan.check_some(len(rows), records)
    return Streamed(records, rows, how, shape, classes, fields.workers, found.labels), found


def _look_through(records, how, shape, classes, fields) -> Found:
    """Reads every record."""
    key = 'broken', *scan.key_of(records, how, shape, classes)
    place = fields.cache, f'{records.name} broken', key, (records.fingerprint, records.stamp)
    kept = None if records.embedded else cache.read(*place)
    if kept is None or len(kept['broken']) and not fields.skip_broken:  # named again, or repaired
        kept = {'broken': np.empty(0, np.int64), 'content': np.str_('')}
        kept |= {'labels': np.empty(0, np.int32), 'marks': np.empty(0, np.uint64)}
    found = Found.of(kept)
    parts = [found]  # joined where they are kept or returned: not for every chunk
    done = begun = len(kept['labels'])
    if done == len(records):
        return found
    saved = time.monotonic()

    def joined() -> Found:
        join = lambda name: np.concatenate([getattr(part, name) for part in parts])
        return Found(join('broken'), join('labels'), join('marks'), parts[-1].content)

    def save():
        if not records.embedded and done > begun:
            cache.write(*place, joined().arrays())

    try:
        words = 'reading every record once'
        digest = bytes.fromhex(found.content)
        for chunk in scan.scan(records, how, shape, classes, fields, words, done, digest):
            broken = done + np.flatnonzero(~chunk['good'])
            parts.append(Found(broken, chunk['label'], chunk['mark'], chunk['digest'].hex()))
            done += len(chunk['label'])
            if time.monotonic() - saved > _SAVE:
                save()
                saved = time.monotonic()
    finally:
        save()
    return joined()
