"""Images a second, decoded and fed, of a data set on this machine; stored as JSON."""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import random
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib import metadata

import numpy as np
from PIL import Image

from experiments.data import readahead, scan, sources
from experiments.data import records as reading
from experiments.data.batches import train_batches
from experiments.data.crops import AREA, ASPECT, Crop, Drawn
from experiments.data.decode import Decoding, image_of, open_image
from experiments.data.memory import InMemory
from experiments.data.records import Records
from experiments.data.stream import Streamed
from experiments.environment import measured_on
from experiments.errors import UserError, check_writable, reason, shown

WORKERS = (1, 2)
_FILES = 4000  # images that the plain loader reads, as files
_QUALITY = 90  # of the JPEG files of --enlarge, about that of ImageNet
_WARM = 3  # batches before the clock starts: processes and caches have started


def speed(args: argparse.Namespace) -> int:
    """Measures the ways of feeding in turn, `rounds` times; prints and stores every number.

    in memory     batches of decoded images, gathered by index
    decode        records read and decoded in this process, nothing else
    streamed, n   train_batches of a streamed split, with n worker processes
    plain, n      PyTorch's DataLoader with n worker processes, on image files read by Pillow;
                  skipped where PyTorch is not installed or the set holds no image files

    With --crops, all but the first give crops of the whole images, of 8 to 100 % of the area and of
    uint8: `plain` by torchvision's RandomResizedCrop, or by the same operations of Pillow where it
    is not installed. With --enlarge, of the first images, enlarged and saved as JPEG of quality 90.
    """
    if args.markdown:
        print(markdown(args.markdown))
        return 0
    if not args.name:
        raise UserError('speed needs the name of a set to measure, or --markdown FILE...')
    if min(args.rounds, args.batch) < 1 or not 0 < args.seconds < math.inf:
        raise UserError('--rounds and --batch must be at least 1, --seconds positive.')
    if args.crops and not args.resize:
        raise UserError('--crops are scaled to --resize pixels: give it, such as --resize 224.')
    sides = _sides(args.enlarge)
    source = sources.find(sources.fields_of(args.name, args.data_dir))
    records = next(iter(source.splits.values()))
    with tempfile.TemporaryDirectory() as place:
        if sides:
            records = Enlarged(records, pathlib.Path(place), sides)
        return _speed(args, source, records)


def _speed(args, source, records) -> int:
    how = Decoding(reading.channels(records), args.resize, upright=records.upright)
    shape = reading.shape(records, how)
    if len(records) < args.batch:
        raise UserError(f'{args.name} has {len(records)} images, fewer than --batch={args.batch}.')
    whole = Streamed(records, np.arange(len(records)), how, shape, len(source.classes))
    if args.out:
        check_writable(args.out)  # before minutes of measuring, not after them
    rates, starts, costs = _rates(args, whole)
    version = _torch_version()
    plainly = f'torch.utils.data.DataLoader {version}'
    if args.crops:
        found = _version('torchvision')
        crop = f'torchvision {found}' if found else 'the operations of torchvision by Pillow'
        plainly = f'RandomResizedCrop of {crop} in {plainly}'
    if not any(way.startswith('plain') for way in rates):
        lacking = 'the set holds no image files' if version else 'PyTorch is not installed'
        plainly = f'skipped, since {lacking}'
    result = {
        'set': args.name + (f', enlarged to {args.enlarge}' if args.enlarge else ''),
        'crops': args.crops,
        'bytes of an image': _bytes(records),
        'shape': [int(size) for size in shape],
        'batch': args.batch,
        'images a second': rates,
        'seconds to the first batch': starts,
        'ms of CPU an image': costs,
        'plain loader': plainly,
        'highest MiB in each epoch': _memory(whole, args) if args.epochs else None,
        'environment': measured_on(),
    }
    print(f'\nplain: {plainly}')
    for name, values in rates.items():
        low, high = min(values), max(values)
        print(
            f'{name:12} median {np.median(values):12,.0f} images/s ({low:,.0f} to {high:,.0f}), '
            f'{np.median(costs[name]):.3g} ms of CPU an image'
        )
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + '\n')
        print(f'stored in {args.out}')
    return 0


def _rates(args, whole: Streamed) -> tuple[dict, dict, dict]:
    """{way: [an entry a round]} of images a second, of seconds to the first batch, and of
    milliseconds of CPU an image, in all processes: what other work on the machine changes little.
    """
    batch, epochs = args.batch, itertools.count(1)
    crop = Crop('area', (args.resize, args.resize)) if args.crops else None
    with tempfile.TemporaryDirectory() as place:
        files = _write_files(whole.records, pathlib.Path(place)) if _torch_version() else []
        ways: dict[str, Callable[[], Generator]] = {}
        if not crop:
            count = min(len(whole), max(batch, 2**30 // int(np.prod(whole.shape))))
            held = InMemory(*whole.read(np.arange(count)))
            ways['in memory'] = functools.partial(_training, held, batch, epochs)
        ways['decode'] = functools.partial(_decoding, whole, batch, crop)
        for workers in (0, *WORKERS):
            split = dataclasses.replace(whole, workers=workers)
            ways[f'streamed, {workers}'] = functools.partial(_training, split, batch, epochs, crop)
        for workers in WORKERS if files else ():
            given = files, whole.how, batch, workers, args.crops
            ways[f'plain, {workers}'] = functools.partial(plain, *given)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        starts: dict[str, list[float]] = {name: [] for name in ways}
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(args.rounds):
            for name, make in ways.items():
                rate, start, cost = _measure(make(), batch, args.seconds)
                rates[name].append(rate)
                starts[name].append(start)
                costs[name].append(cost)
                print(
                    f'round {number + 1}/{args.rounds}  {name:12} {rate:12,.0f} images/s, first '
                    f'batch after {start:.2f} s',
                    flush=True,
                )
    return rates, starts, costs


def _memory(whole: Streamed, args) -> dict[str, list[float]]:
    """{way: [highest MiB of this process and its workers in each epoch]} of the streamed set."""
    import psutil  # start-up cost; comes with grain

    def used():
        own = psutil.Process()
        total = 0
        for process in (own, *own.children(recursive=True)):
            try:
                # shared pages count once; rss where the system does not tell them apart
                info = process.memory_full_info()
                total += getattr(info, 'pss', info.rss)
            except psutil.NoSuchProcess:
                continue
        return round(total / 2**20, 1)

    found = {}
    for workers in WORKERS:
        split, lines = dataclasses.replace(whole, workers=workers), list[float]()
        for epoch in range(args.epochs):
            highest = 0.0
            for step, _ in enumerate(train_batches(split, args.batch, 1, 0, epoch)):
                if step % 20 == 0:
                    highest = max(highest, used())
            lines.append(highest)
            print(
                f'streamed, {workers}: epoch {epoch + 1}/{args.epochs}, at most {highest:,.1f} MiB',
                flush=True,
            )
        readahead.close()
        found[f'streamed, {workers}'] = lines
    return found


# --- stored numbers as a table -----------------------------------------------------------------


def markdown(paths: Iterable[str | os.PathLike]) -> str:
    """Files that `speed` stored as one Markdown table, a column each, and how they were measured.

    Cells are the median of the rounds with the lowest and the highest, images a second; the last
    rows the highest MiB in each epoch of the streamed set. Raises UserError: no such file.
    """
    found = [_stored(path) for path in paths]
    names = [_title(one) for one in found]
    ways = dict.fromkeys(way for one in found for way in one['images a second'])
    rows = [('images a second', *names), ('---', *['---:'] * len(found))]
    rows += [(way, *(_rounds(one, way) for one in found)) for way in ways]
    ways = dict.fromkeys(way for one in found for way in one.get('ms of CPU an image', ()))
    rows += [(f'ms of CPU an image, {way}', *(_cost(one, way) for one in found)) for way in ways]
    ways = dict.fromkeys(way for one in found for way in one['highest MiB in each epoch'] or ())
    rows += [(f'MiB in each epoch, {way}', *(_epochs(one, way) for one in found)) for way in ways]
    origins = {name: _origin(one) for name, one in zip(names, found)}
    if len({*origins.values()}) == 1:
        origins = {'All': origins[names[0]]}
    loads = [f'{one["environment"]["load"][1]:.1f}' for one in found]  # of five minutes
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    lines += ['', *(f'{name}: {words}.' for name, words in origins.items())]
    lines += [f'Processes that wanted a core at the end of the measurement: {", ".join(loads)}.']
    return '\n'.join(lines)


def _title(one) -> str:
    words = 'crops of whole images to ' if one.get('crops') else ''
    return f'{one["set"]}, {words}{"×".join(map(str, one["shape"][:2]))}'


def _stored(path) -> dict:
    try:
        found = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {reason(error)}') from error
    needed = {'images a second', 'plain loader', 'highest MiB in each epoch', 'environment'}
    if not isinstance(found, dict) or not needed <= found.keys():
        raise UserError(f'{path} is no file of python -m experiments.data speed --out.')
    return found


def _rounds(one, way) -> str:
    values = one['images a second'].get(way)
    return f'{np.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})' if values else ''


def _cost(one, way) -> str:
    values = one.get('ms of CPU an image', {}).get(way)
    return f'{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})' if values else ''


def _epochs(one, way) -> str:
    values = (one['highest MiB in each epoch'] or {}).get(way, ())
    return ', '.join(f'{value:,.0f}' for value in values)


def _origin(one) -> str:
    given = one['environment']
    rounds = {len(values) for values in one['images a second'].values()}
    versions = ', '.join(f'{name} {given["versions"][name]}' for name in ('grain', 'Pillow', 'jax'))
    return (
        f'batches of {one["batch"]}, median (lowest to highest) of {max(rounds)} rounds, '
        f'{given["cpu"]}, {given["cores"]} cores, Python {given["python"]}, {versions}, '
        f'{given["date"]}; plain is {one["plain loader"]}'
    )


# --- measuring ---------------------------------------------------------------------------------


def _measure(batches: Generator, batch: int, seconds: float) -> tuple[float, float, float]:
    """(images a second once it runs, seconds to the first batch, milliseconds of CPU an image) of
    batches without an end."""
    begin = time.perf_counter()
    for count, _ in enumerate(batches, 1):
        now = time.perf_counter()
        if count == 1:
            first = now - begin
        if count == _WARM:
            begin, spent = now, _spent()
        if count > _WARM and now - begin > seconds:
            break
    images, spent = (count - _WARM) * batch, _spent() - spent
    batches.close()
    readahead.close()
    return images / (now - begin), first, 1000 * spent / images


def _spent() -> float:
    """Seconds of CPU that this process and those that it has started have taken."""
    import psutil  # start-up cost; comes with grain

    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _training(split, batch, epochs, crop=None):
    for epoch in epochs:
        yield from train_batches(split, batch, 1, 0, epoch, crop=crop)


def _decoding(split, batch, crop):
    drawn = Drawn(split.how, crop, 0, 0) if crop else None
    while True:
        for start in range(0, len(split) - batch + 1, batch):
            yield split.read(np.arange(start, start + batch), drawn)


# --- photographs of another size ---------------------------------------------------------------


class Enlarged(Records):
    """The first images of a set as JPEG files of other sides, in a folder that is there."""

    def __init__(self, records: Records, place: pathlib.Path, sides: tuple[int, int]):
        self.name, self.size = records.name, (*sides, reading.channels(records))
        self.fingerprint, self.place = f'{records.fingerprint} {sides}', place
        how = Decoding(self.size[2], upright=records.upright)
        labels = []
        for row in range(min(_FILES, len(records))):
            image, label = reading.one(records, row, how)
            large = image_of(image).resize(sides[::-1], Image.Resampling.BICUBIC)
            large.save(self._path(row), 'JPEG', quality=_QUALITY)
            labels.append(label)
        self.labels = np.array(labels, np.int32)

    def _path(self, row: int) -> pathlib.Path:
        return self.place / f'{row}.jpg'

    def __len__(self):
        assert self.labels is not None
        return len(self.labels)

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        assert self.labels is not None
        return [(self._path(int(row)).read_bytes(), int(self.labels[row])) for row in indices]


def _sides(words: str | None) -> tuple[int, int] | None:
    """'375x500' -> (375, 500). Raises UserError."""
    if words is None:
        return None
    found = re.fullmatch(r'(\d{1,4})x(\d{1,4})', words)
    if not found or not all(map(int, found.groups())):
        raise UserError(f'--enlarge is {shown(words)}, it must be HEIGHTxWIDTH such as 375x500.')
    return int(found[1]), int(found[2])


def _bytes(records) -> int | None:
    """The mean length of the first image files; None for arrays."""
    raws = [raw for raw, _ in records.fetch(range(min(scan.CHUNK, len(records))))]
    return (
        round(np.mean([*map(len, raws)])) if all(isinstance(raw, bytes) for raw in raws) else None
    )


# --- a plain loader ----------------------------------------------------------------------------


def _write_files(records, place) -> list:
    """The first records as image files, [(path, label)]; [] when they are arrays."""
    files = []
    for start in range(0, min(_FILES, len(records)), scan.CHUNK):
        rows = range(start, min(start + scan.CHUNK, len(records), _FILES))
        for row, (raw, label) in zip(rows, records.fetch(rows)):
            if not isinstance(raw, bytes):
                return []
            path = place / f'{row}.image'
            path.write_bytes(raw)
            files.append((str(path), label))
    return files


class Images:
    """A map-style data set as the PyTorch tutorials write it: centre squares, or random crops."""

    def __init__(self, files, resize: int, channels: int, crops: bool = False):
        self.files, self.resize, self.mode = files, resize, 'L' if channels == 1 else 'RGB'
        self.crop = _random_resized_crop(resize) if crops else None

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        with open_image(path) as file:
            image = file.convert(self.mode)
        if self.crop:
            image = self.crop(image)
        elif self.resize:
            scale = self.resize / min(image.size)
            width, height = (max(self.resize, round(size * scale)) for size in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - self.resize) // 2, (height - self.resize) // 2
            image = image.crop((left, top, left + self.resize, top + self.resize))
        return np.array(image), label


def _random_resized_crop(side: int) -> Callable:
    if _version('torchvision'):
        from torchvision import transforms  # an option of the installation

        return transforms.RandomResizedCrop(side)
    return PillowCrop(side)


class PillowCrop:
    """The operations of torchvision's RandomResizedCrop, where it is not installed."""

    def __init__(self, side: int):
        self.side = side

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        for _ in range(10):
            area = width * height * random.uniform(*AREA)
            aspect = math.exp(random.uniform(*map(math.log, ASPECT)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                box = random.randint(0, width - w), random.randint(0, height - h)
                break
        else:  # the middle, of an aspect that is allowed
            w = round(min(width, height * ASPECT[1]))
            h = round(min(height, width / ASPECT[0]))
            box = (width - w) // 2, (height - h) // 2
        image = image.crop((*box, box[0] + w, box[1] + h))
        return image.resize((self.side, self.side), Image.Resampling.BILINEAR)


def _torch_version() -> str | None:
    return _version('torch')


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def plain(
    files: Sequence[tuple[str, int]], how: Decoding, batch: int, workers: int, crops: bool = False
) -> Generator:
    """Shuffled batches of the image files, decoded in worker processes, for ever."""
    import torch  # an option of the installation

    loader = torch.utils.data.DataLoader(
        Images(files, how.resize, how.channels, crops),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context='spawn',
    )
    while True:
        yield from loader
