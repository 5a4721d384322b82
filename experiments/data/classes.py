"""Some of the classes of a data set, as a data set of its own: data.classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments.data import cache
from experiments.data.records import Records, Source
from experiments.errors import UserError, one_of, shown
from experiments.files import digest


class Kept(Records):
    """The records of some classes, in their order; label i is the class places[i] of the whole.

    labels: int32, of all records.
    """

    labels: np.ndarray

    def __init__(self, records: Records, labels: np.ndarray, places: Sequence[int]):
        self._records = records
        self._rows = np.flatnonzero(np.isin(labels, places))
        new = {place: index for index, place in enumerate(places)}
        self.labels = np.array([new[int(label)] for label in labels[self._rows]], np.int32)
        for name in ('name', 'home', 'size', 'upright', 'embedded', 'stamp', 'ranges'):
            setattr(self, name, getattr(records, name))
        self.fetch_size = records.fetch_size
        self.cut = f'{records.cut} classes {",".join(map(str, places))}'
        self.fingerprint = digest('classes', records.fingerprint, list(places))

    def __len__(self):
        return len(self._rows)

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        found = self._records.fetch(self._rows[np.asarray(indices, np.int64)])
        return [(raw, label) for (raw, _), label in zip(found, self.labels[indices], strict=True)]

    def where(self, index: int) -> str:
        return self._records.where(int(self._rows[index]))


def kept(
    source: Source, splits: Mapping[str, Records], fields: ConfigDict
) -> tuple[Source, dict[str, Records]]:
    """A source and its splits with the classes of fields.classes alone, labelled in that order.

    Labels that a source does not hold are read once from its records, and kept on disk.

    Raises:
      UserError: an unknown class, one named twice, fewer than two, or a split without any image.
    """
    names = tuple(map(str, fields.classes))  # a command line reads 1,2 as numbers
    for name in names:
        if name not in source.classes:
            raise one_of(f'class of {fields.name} in data.classes', name, source.classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f'data.classes is {shown(names)}, it must hold at least two, each once.')
    places = [source.classes.index(name) for name in names]
    found: dict[str, Records] = {}
    for use, records in splits.items():
        found[use] = Kept(records, _labels(records, fields.cache), places)
        if not len(found[use]):
            raise UserError(f'{records.name} has no image of the classes {", ".join(names)}.')
    note = f'{source.note}; {len(names)} of its {len(source.classes)} classes'
    return source._replace(classes=names, note=note), found


def _labels(records: Records, setting: str | None) -> np.ndarray:
    if records.labels is not None:
        return records.labels
    place = setting, f'{records.name} labels', (records.name, records.home, len(records))
    made_of = records.fingerprint, records.stamp
    known = cache.read(*place, made_of)
    if known is not None:
        return known['labels']
    step, labels = records.fetch_size, []
    for start in range(0, len(records), step):
        some = range(start, min(start + step, len(records)))
        labels += [int(label) for _, label in records.fetch(some)]
    array = np.asarray(labels, np.int32)
    cache.write(*place, made_of, {'labels': array})
    return array
