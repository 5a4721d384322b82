"""From the `data` group of a config to a data set: opened, split, read and described."""

import functools
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from experiments import progress
from experiments.data import classes, copies, memory, sources, statistics, stream
from experiments.data import records as reading
from experiments.data.batch_plan import steps_per_epoch
from experiments.data.dataset import Dataset
from experiments.data.decode import Decoding
from experiments.data.records import Records, Source
from experiments.errors import UserError
from experiments.files import digest

_TURNED = {1: 'grey images repeated in 3 channels', 3: 'colour images turned into grey'}


def open_splits(fields: ConfigDict) -> tuple[Source, dict[str, Records]]:
    """The source of a config's `data` group, and its splits by their use; no image is read.

    Raises:
      UserError: an unknown, unprepared or damaged data set, or splits that overlap.
    """
    source = sources.find(fields)
    names = {'train': fields.train, 'test': fields.test}
    found = {use: sources.split_of(source, name, fields) for use, name in names.items()}
    if source.validation:
        found['validation'] = source.splits[source.validation]
    for records in found.values():
        sources.check_records(records, fields.name)
    if fields.classes:
        source, found = classes.kept(source, found, fields)
    seen: dict[tuple, str] = {}
    for split, records in found.items():
        key = records.name, records.home, records.cut, records.fingerprint
        twin = seen.setdefault(key, split)
        if twin != split:
            raise UserError(
                f'{fields.name}: its {twin} and its {split} split have the same name and '
                'fingerprint, so one would be taken for the other. Give the Records of '
                'every split a name and a fingerprint of its own.'
            )
    _check_apart(found['train'], found['test'])
    return source, found


def asked(fields: ConfigDict) -> str:
    """Which source, and which splits and classes of it, a config's `data` group names."""
    kept = [list(fields.classes)] if fields.classes else []
    return json.dumps([fields.name, fields.train, fields.test, fields.validation, *kept])


def found_of(content: str, limit: int) -> str:
    """What a row says it was trained and tested on. content: Dataset.content; limit: data.limit.

    Rows of code that limited the train split alone hold the content alone.
    """
    return digest(content, limit) if limit else content


def load(
    fields: ConfigDict,
    look: bool = False,
    least: int = 0,
    opened: tuple[Source, dict[str, Records]] | None = None,
) -> Dataset:
    """Opens, splits and describes the data set of a config's `data` group.

    The validation split is the last `validation` of the train split, unless the source has one of
    its own, and `limit` keeps the first images of each split: both by index, so the same for every
    seed and arm. Equal images in two splits are refused in a folder, and said of other sources
    (`copies`); those of all splits are looked for, before `limit`. The mean and standard deviation
    are those of the images trained on. A set whose decoded images fit is read into memory, a larger
    one streamed (`stream`); batches, mean and standard deviation are the same both ways. Whole
    images are always streamed.

    look: for whoever needs a few images only. Nothing is decoded beforehand. The mean and
    standard deviation are then those that a training has kept on disk, or else those of a fixed
    sample, with a printed note; the images and the order are those of a training.
    least: images that the train split must have; too few are refused before any is read.
    opened: what `open_splits` gave for these fields.

    Raises:
      UserError: an unknown, unprepared or damaged data set, splits that overlap or are empty,
        images of several sizes without `resize`.
    """
    source, found = opened or open_splits(fields)
    first, notes = found['train'], [source.note]
    most = len(first) if source.validation else len(first) - round(len(first) * fields.validation)
    if least:
        steps_per_epoch(min(most, fields.limit or most), least)  # raises with the numbers
    native = reading.channels(first)
    how = Decoding(
        fields.channels or native,
        fields.resize,
        fields.side,
        first.upright,
        grey_only=not fields.channels and native == 1 and not first.size[2],
    )
    if how.channels != native:
        notes.append(_TURNED[native])
    if fields.whole:
        notes.append('crops and test views of whole images')
    if how.resize:
        words = ' for mean, validation and train error' if fields.whole else ''
        notes.append(f'centre squares scaled to {how.resize}x{how.resize}{words}')
    shape = reading.shape(first, how)
    size = sum(len(records) for records in found.values()) * math.prod(shape)
    streams = look or fields.whole or fields.stream == 'always'
    streams = streams or fields.stream == 'auto' and size > memory.budget()
    known = look and not fields.skip_broken
    read: Callable = functools.partial(stream.streamed, known=known) if streams else memory.decoded
    splits: dict[str, stream.Split] = {}
    parts: dict[str, copies.Part] = {}
    contents = []
    for name, records in sorted(found.items()):
        split, seen = read(records, how, shape, len(source.classes), fields)
        splits[name] = split
        contents.append((name, seen.content or records.fingerprint))
        if seen.marks is not None:
            rows = np.delete(np.arange(len(records)), seen.broken)
            parts[name] = copies.Part(records, rows, np.asarray(split.labels), seen.marks[rows])
        if len(seen.broken):
            words = f'{len(seen.broken)} records of {records.name} that do not decode left out'
            notes.append(words)
            progress.note(words)
    total = len(splits['train'].labels)
    own = 'validation' in splits
    held_out = len(splits['validation'].labels) if own else round(total * fields.validation)
    left = total if own else total - held_out
    if not held_out or not left:
        raise UserError(
            f'{fields.name}: {total} images with data.validation={fields.validation} '
            f'leave {left} to train on and {held_out} to validate on; both need some.'
        )
    if not own:
        splits['validation'] = splits['train'].cut(left, total)
        splits['train'] = splits['train'].cut(0, left)
        if 'train' in parts:
            parts['validation'] = parts['train'].cut(left, total)
            parts['train'] = parts['train'].cut(0, left)
    if len(parts) == len(splits):  # every split was read
        parts = {name: parts[name] for name in ('train', 'validation', 'test')}
        notes += copies.check(fields.name, parts, source.refuse_copies and not fields.allow_copies)
    whole = {name: len(splits[name].labels) for name in ('train', 'validation', 'test')}
    kept = {name: min(count, fields.limit or count) for name, count in whole.items()}
    splits = {name: splits[name].cut(0, count) for name, count in kept.items()}
    for name, split in splits.items():
        if isinstance(split.labels, np.ndarray):  # known without reading the records
            lost = len(source.classes) - len(np.unique(split.labels))
            if lost:
                notes.append(f'no {name} image of {lost} of the {len(source.classes)} classes')
    less = [
        f'{kept[name]:,} of {whole[name]:,} {name}' for name in kept if kept[name] < whole[name]
    ]
    if less:
        notes.append(f'only the first {", ".join(less)} images')
    count = kept['train']
    if count > statistics.SAMPLE:
        notes.append(f'mean and deviation of a fixed sample of {statistics.SAMPLE:,}')
    fingerprints = [found[name].fingerprint for name in sorted(found)]
    counts = [len(splits[name].labels) for name in sorted(splits)]
    dataset = Dataset(
        fields.name,
        **splits,
        classes=source.classes,
        mean=np.empty(0),
        std=np.empty(0),
        note='; '.join(notes),
        fingerprint=digest(fingerprints, tuple(how), count, counts),
        asked=asked(fields),
        content=digest(contents),
        found=found_of(digest(contents), fields.limit),
        stamp=first.stamp,
        counted=statistics.LOOK // math.prod(shape) + 1 if look else None,
        cache=fields.cache,
    )
    mean, std = statistics.moments_of(dataset)
    return dataset._replace(mean=mean, std=std)


def _check_apart(train: Records, test: Records) -> None:
    shared = _shared(train, test)
    if shared:
        raise UserError(
            f'{train.name} and {test.name} share {shared} or more images: the test split '
            'must not be trained on. Change data.train or data.test.'
        )
    for records in (train, test):
        ranges = itertools.chain.from_iterable((records.ranges or {}).values())
        if _shared(records, records) > sum(end - first for first, end in ranges):
            raise UserError(
                f'{records.name} names some images twice: they would be in the train and in the '
                'validation split, or count twice. Change data.train or data.test.'
            )


def _shared(one: Records, two: Records) -> int:
    """Images that are in a range of one and in a range of two, for every such pair of ranges."""
    ranges, others = one.ranges or {}, two.ranges or {}
    return sum(
        max(min(high, end) - max(low, first), 0)
        for file in set(ranges) & set(others)
        for low, high in ranges[file]
        for first, end in others[file]
    )
