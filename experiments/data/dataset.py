"""Data sets by name: read, split, described, and fed to the training.

    python -m experiments.data list
    python -m experiments.data prepare fashion_mnist
    python -m experiments.data show imagenette/160px-v2
    python -m experiments.data check folder:photographs
    python -m experiments.data speed cifar10

Sources are in experiments/sources.py, the two ways to feed (in memory, streamed) in
experiments/feed.py. A set that fits into memory is decoded once and kept on disk
(experiments/cache.py).
"""

import functools
import hashlib
import json
import math
import pathlib
import time
from typing import NamedTuple

import numpy as np

from experiments import progress
from experiments.data import cache, feed, sources
from experiments.data import records as reading
from experiments.data.decode import Decoding
from experiments.data.feed import (
    Split,
    Streamed,
    eval_batches,
    order,
    shard,
    steps_per_epoch,
    train_batches,
)
from experiments.data.records import Arrays, Records, Source
from experiments.data.sources import SOURCES
from experiments.errors import UserError
from experiments.files import digest

__all__ = [
    'Arrays',
    'Dataset',
    'Records',
    'SOURCES',
    'Source',
    'Split',
    'Streamed',
    'eval_batches',
    'load',
    'moments',
    'order',
    'sample',
    'shard',
    'steps_per_epoch',
    'train_batches',
]

MEMORY = 4 * 2**30  # bytes of decoded images above which a set is streamed; or half of what is free
SAMPLE = 100_000  # images above which the statistics are those of a fixed sample
LOOK = 64 * 2**20  # bytes of decoded images that are enough to look at a set
_SAVE = 60.0  # seconds of a long reading after which what was found so far is kept


class Dataset(NamedTuple):
    """What training reads. A part is a feed.Split or a feed.Streamed."""

    name: str
    train: Split | Streamed
    validation: Split | Streamed
    test: Split | Streamed
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 [C], of the train part's images / 255
    std: np.ndarray  # float32 [C]
    note: str
    fingerprint: str = ''  # of the names and sizes of what was read, and how it was decoded
    asked: str = ''  # which source and parts the config names
    found: str = ''  # of the bytes of all records of those parts, before they are decoded
    stamp: str = ''  # changes with the files, if only with their times
    counted: int = SAMPLE  # images of the train part that statistics are of, at most

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the images as they are fed, before any augmentation."""
        return self.train.shape


def parts_of(fields) -> tuple[Source, dict[str, Records]]:
    """The source of a config's `data` group, and its parts by what they are for; nothing is read.

    Raises:
      UserError: an unknown, unprepared or damaged data set, or parts that overlap.
    """
    source = sources.find(fields)
    found = {
        'train': sources.part(source, fields.train, fields),
        'test': sources.part(source, fields.test, fields),
    }
    if source.validation:
        found['validation'] = source.splits[source.validation]
    made_of = {}
    for part, records in found.items():
        sources.check_records(records, fields.name)
        twin = made_of.setdefault(
            (records.name, records.home, records.cut, records.fingerprint), part
        )
        if twin != part:
            raise UserError(
                f'{fields.name}: its {twin} and its {part} part have the same name and '
                'fingerprint, so one would be taken for the other. Give the Records of '
                'every part a name and a fingerprint of its own.'
            )
    _check_apart(found['train'], found['test'])
    return source, found


def asked(fields) -> str:
    """Which source and which parts of it a config's `data` group names."""
    return json.dumps([fields.name, fields.train, fields.test, fields.validation])


def load(fields, look: bool = False, least: int = 0, opened=None) -> Dataset:
    """Opens, splits and describes the data set of a config's `data` group.

    The validation part is the last `validation` of the train part, unless the source has one of
    its own, and `limit` keeps the first images of what is left: both by index, so the same for
    every seed and arm. The mean and standard deviation are those of the images trained on. A set
    whose decoded images fit is read into memory, a larger one streamed (`stream`); batches, mean
    and standard deviation are the same both ways.

    With `look`, for whoever needs a few images only, nothing is decoded beforehand. The mean and
    standard deviation are then those that a training has kept on disk, or else those of a fixed
    sample, which is said; the images and the order are those of a training.

    least: images that the train part must have; known too few are refused before any is read.
    opened: what `parts_of` gave for these fields.

    Raises:
      UserError: an unknown, unprepared or damaged data set, parts that overlap or come out empty,
        images of several sizes without `resize`.
    """
    source, found = opened or parts_of(fields)
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
        notes.append(
            'grey images repeated in 3 channels'
            if native == 1
            else 'colour images turned into grey'
        )
    if how.resize:
        notes.append(f'centre squares scaled to {how.resize}x{how.resize}')
    shape = reading.shape(first, how)
    size = sum(len(records) for records in found.values()) * math.prod(shape)
    streamed = look or fields.stream == 'always' or fields.stream == 'auto' and size > _budget()
    read = functools.partial(_stream, known=look and not fields.skip_broken) if streamed else _read
    parts, contents = {}, []
    for name, records in sorted(found.items()):
        parts[name], skipped, content = read(records, how, shape, len(source.classes), fields)
        contents.append((name, content or records.fingerprint))
        if skipped:
            notes.append(f'{skipped} records of {records.name} that do not decode left out')
            progress.note(notes[-1])
    total = len(parts['train'].labels)
    if 'validation' in parts:
        held_out = len(parts['validation'].labels)
        count = min(total, fields.limit or total)
    else:
        held_out = round(total * fields.validation)
        count = min(total - held_out, fields.limit or total)
        if held_out and count:
            parts['validation'] = _cut(parts['train'], total - held_out, total)
    if not held_out or not count:
        raise UserError(
            f'{fields.name}: {total} images with data.validation={fields.validation} '
            f'leave {count} to train on and {held_out} to validate on; both need some.'
        )
    parts['train'] = _cut(parts['train'], 0, count)
    notes += _without(parts, source.classes)
    fingerprint = digest(
        [found[name].fingerprint for name in sorted(found)],
        tuple(how),
        count,
        [len(parts[name].labels) for name in sorted(parts)],
    )
    dataset = Dataset(
        fields.name,
        parts['train'],
        parts['validation'],
        parts['test'],
        source.classes,
        np.empty(0),
        np.empty(0),
        '',
        fingerprint,
        asked(fields),
        digest(contents),
        first.stamp,
        min(SAMPLE, LOOK // math.prod(shape) + 1) if look else SAMPLE,
    )
    if 'validation' not in found:
        total -= held_out
    if count < total:
        notes.append(f'only the first {count:,} of {total:,} training images')
    if count > SAMPLE:
        notes.append(f'mean and deviation of a fixed sample of {SAMPLE:,}')
    levels = statistic(dataset, fields, 'levels', 'mean and deviation', _count_levels)['levels']
    mean, std = _of_levels(levels)
    return dataset._replace(mean=mean, std=std, note='; '.join(notes))


def _without(parts, classes) -> list[str]:
    """A note on every part that has no image of some class, where the labels are known."""
    notes = []
    for name, part in parts.items():
        if not isinstance(part.labels, np.ndarray):
            continue
        lost = len(classes) - len(np.unique(part.labels))
        if lost:
            notes.append(f'no {name} image of {lost} of the {len(classes)} classes')
    return notes


def _check_apart(one: Records, two: Records) -> None:
    shared = _shared(one, two)
    if shared:
        raise UserError(
            f'{one.name} and {two.name} share {shared} or more images: the test part '
            'must not be trained on. Change data.train or data.test.'
        )
    for part in (one, two):
        own = sum(end - first for ranges in (part.ranges or {}).values() for first, end in ranges)
        if _shared(part, part) > own:
            raise UserError(
                f'{part.name} names some images twice: they would be in the train and '
                'in the validation part, or count twice. Change data.train or '
                'data.test.'
            )


def _shared(one: Records, two: Records) -> int:
    """Images that are in a range of one and in a range of two, for every such pair of ranges."""
    return sum(
        max(min(high, end) - max(low, first), 0)
        for file in set(one.ranges or ()) & set(two.ranges or ())
        for low, high in one.ranges[file]
        for first, end in two.ranges[file]
    )


def _budget() -> float:
    """Bytes that a decoded set may take: MEMORY, or half of what is free where that is less."""
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


def _cut(part, low: int, high: int):
    if isinstance(part, Split):
        return Split(part.images[low:high], part.labels[low:high])
    return Streamed(
        part.records, part.rows[low:high], part.how, part.shape, part.classes, part.workers
    )


def _made_of(records):
    return records.fingerprint, records.stamp


def _read(records: Records, how, shape, classes: int, fields) -> tuple[Split, int, str]:
    """A part decoded into memory, how many records were left out, and a hash of all of them."""
    key = (
        'images',
        records.name,
        records.home,
        records.cut,
        len(records),
        tuple(how),
        shape,
        classes,
        fields.skip_broken,
    )
    kept = (
        None if records.embedded else cache.load(fields.cache, records.name, key, _made_of(records))
    )
    if kept:
        return Split(kept['images'], kept['labels']), int(kept['skipped']), str(kept['content'])
    try:
        images = np.empty((len(records), *shape), np.uint8)
    except MemoryError as error:
        raise UserError(
            f'{records.name}: {len(records):,} images of {shape} do not fit into '
            "memory. Set data.stream to 'auto' or 'always'."
        ) from error
    labels, count, total = np.empty(len(records), np.int32), 0, b''
    chunks = reading.Chunks(records, np.arange(len(records)), how, shape, classes)
    for chunk in _chunks(
        chunks, 0 if records.embedded else fields.workers, f'{records.name}: decoding'
    ):
        good, total = _good(chunk, fields.skip_broken), _chained(total, chunk)
        new = chunk['image'] if good.all() else chunk['image'][good]
        images[count : count + len(new)] = new
        labels[count : count + len(new)] = chunk['label'][good]
        count += len(new)
    _check_some(count, records)
    skipped, content = len(records) - count, '' if records.embedded else total.hex()
    if not records.embedded:
        cache.save(
            fields.cache,
            records.name,
            key,
            _made_of(records),
            {
                'images': images[:count],
                'labels': labels[:count],
                'skipped': np.int64(skipped),
                'content': np.str_(content),
            },
        )
    return Split(images[:count], labels[:count]), skipped, content


def _chained(total: bytes, chunk) -> bytes:
    """A hash of all records so far, from that of all before a chunk; of any length of chunks."""
    hashes = chunk['hash']
    for start in range(0, len(hashes), 32):
        total = hashlib.sha256(total + hashes[start : start + 32]).digest()
    return total


def _chunks(chunks, workers, words: str = ''):
    """All chunks in order; with `words`, what is done is said where it takes long."""
    if not workers or len(chunks.rows) < feed.SHORT:
        found = (chunks[index] for index in range(len(chunks)))
    else:
        found = feed.stream(chunks, workers, 0, len(chunks))
    return progress.told(found, words, len(chunks.rows), chunks.step) if words else found


def _good(chunk, skip_broken: bool) -> np.ndarray:
    """bool [n]: the records that decode. Raises the first fault that may not be skipped."""
    good = np.ones(len(chunk['label']), bool)
    for place, _, broken, message in chunk['fault']:
        if not broken:
            raise UserError(message)
        if not skip_broken:
            raise feed.explained(reading.Broken(message))
        good[place] = False
    return good


def _check_some(count, records):
    if not count:
        raise UserError(f'{records.name}: none of its {len(records)} records decodes.')


def _stream(
    records: Records, how, shape, classes: int, fields, known=False
) -> tuple[Streamed, int, str]:
    """A part to be decoded while it is used, how many records are left out, and a hash of all.

    Every record is read once, before the first step: a fault that came up in the test part would
    cost the whole training. What was found is kept on disk, also of a reading that was interrupted
    or ended by a fault. known: all are taken to be sound.
    """
    rows, content = np.arange(len(records)), ''
    if records.embedded and records.labels is not None:  # only the labels can be wrong
        bad = np.flatnonzero((records.labels < 0) | (records.labels >= classes))
        if len(bad):
            raise reading.label_fault(records, int(bad[0]), records.labels[bad[0]], classes)
    elif not known:
        broken, content = _look_through(records, how, shape, classes, fields)
        content = '' if records.embedded else content
        rows = np.setdiff1d(rows, broken)
        _check_some(len(rows), records)
    return (
        Streamed(records, rows, how, shape, classes, fields.workers),
        len(records) - len(rows),
        content,
    )


def _look_through(records: Records, how, shape, classes: int, fields) -> tuple[np.ndarray, str]:
    """Reads every record: the places of those that do not decode, and a hash of all."""
    key = (
        'broken',
        records.name,
        records.home,
        records.cut,
        len(records),
        tuple(how),
        shape,
        classes,
    )
    place = fields.cache, f'{records.name} broken', key, _made_of(records)
    kept = None if records.embedded else cache.load(*place)
    if kept is None or len(kept['broken']) and not fields.skip_broken:  # named again, or mended
        kept = {'broken': np.empty(0, np.int64), 'done': 0, 'content': ''}
    broken, done = kept['broken'], int(kept['done'])
    total = bytes.fromhex(str(kept['content']))
    if done == len(records):
        return broken, total.hex()
    chunks = reading.Chunks(records, np.arange(done, len(records)), how, shape, classes)
    saved = time.monotonic()

    def save():
        if not records.embedded and done:
            cache.save(
                *place, {'broken': broken, 'done': np.int64(done), 'content': np.str_(total.hex())}
            )

    try:
        for chunk in _chunks(chunks, fields.workers, f'{records.name}: reading every record once'):
            good = _good(chunk, fields.skip_broken)
            broken = np.concatenate([broken, done + np.flatnonzero(~good)])
            total, done = _chained(total, chunk), done + len(good)
            if time.monotonic() - saved > _SAVE:
                save()
                saved = time.monotonic()
    finally:
        save()
    return broken, total.hex()


# --- what describes the images ---------------------------------------------------------------


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [C], of uint8 images / 255.

    Exact for any number of images: sums of the 256 grey levels' counts, no rounding on the way.
    """
    return _of_levels(_levels(images))


def _levels(images) -> np.ndarray:
    """int64 [C, 256]: how often each grey level occurs in each channel."""
    step = reading.step_of(images.shape[1:])  # counting takes many times an image's bytes
    return sum(
        np.stack(
            [
                np.bincount(images[start : start + step, ..., c].ravel(), minlength=256)
                for c in range(images.shape[-1])
            ]
        )
        for start in range(0, len(images), step)
    )


def _of_levels(counts):
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    variance = counts @ levels**2 / counts.sum(1) - mean**2
    # A channel that never changes carries nothing; dividing by 1 keeps it at zero.
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1)
    return mean.astype(np.float32), std.astype(np.float32)


def sampled(part, count: int = SAMPLE) -> np.ndarray:
    """int64 [n], places of all images of a part, or of a fixed sample of `count` of them."""
    total = len(part.labels)
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, count, replace=False))


def sample(part, count: int) -> np.ndarray:
    """uint8 [n, H, W, C]: a fixed sample of `count` images of a part, or all of fewer."""
    return np.concatenate(list(_images(part, sampled(part, count))))


def statistic(dataset: Dataset, fields, what: str, words: str, compute) -> dict:
    """What `compute` makes of the images of the train part, or of a fixed sample of SAMPLE of them.

    compute: iterator of uint8 [n, H, W, C] -> {name: array}; kept on disk where it is slow.
    A data set that was loaded for a look takes what is kept there, or else computes it of
    `dataset.counted` images and says so, with `words` for what it is.
    """
    part = dataset.train
    total = min(len(part.labels), SAMPLE)
    kept_apart = 'statistic', what, dataset.fingerprint, tuple(part.shape), SAMPLE
    place = fields.cache, f'{dataset.name} {what}', kept_apart, (dataset.stamp,)
    slow = total * math.prod(part.shape) > LOOK or (
        isinstance(part, Streamed) and not part.records.embedded
    )
    kept = cache.load(*place) if slow else None
    if kept is None:
        count = min(total, dataset.counted)
        kept = compute(_images(part, sampled(part, count)))
        if count < total:
            progress.note(
                f'{dataset.name}: {words} are those of a fixed sample of {count:,} of its '
                f'{len(part.labels):,} training images; a training uses {total:,}'
            )
        elif slow:
            cache.save(*place, kept)
    return kept


def _images(part, rows):
    """The images at these places of a part, uint8 [n, H, W, C] at a time."""
    if isinstance(part, Streamed) and part.workers:
        chunks = reading.Chunks(part.records, part.rows[rows], part.how, part.shape, part.classes)
        for chunk in _chunks(chunks, part.workers):
            _good(chunk, False)
            yield chunk['image']
        return
    step = reading.step_of(part.shape)
    for start in range(0, len(rows), step):
        yield part.read(rows[start : start + step])[0]


def _count_levels(chunks):
    return {'levels': sum(map(_levels, chunks))}
