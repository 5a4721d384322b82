"""Images a second, decoded and fed, of a data set on this machine; stored as JSON."""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib import metadata

import numpy as np
from PIL import Image

from experiments.data import readahead, scan, sources
from experiments.data import records as reading
from experiments.data.batches import train_batches
from experiments.data.decode import Decoding, open_image
from experiments.data.memory import InMemory
from experiments.data.stream import Streamed
from experiments.environment import measured_on
from experiments.errors import UserError, check_writable, reason

WORKERS = (1, 2)
_FILES = 4000  # images that the plain loader reads, as files
_WARM = 3  # batches before the clock starts: processes and caches have started


def speed(args: argparse.Namespace) -> int:
    """Measures the ways of feeding in turn, `rounds` times; prints and stores every number.

    in memory     batches of decoded images, gathered by index
    decode        records read and decoded in this process, nothing else
    streamed, n   train_batches of a streamed split, with n worker processes
    plain, n      PyTorch's DataLoader with n worker processes, on image files read by Pillow;
                  skipped where PyTorch is not installed or the set holds no image files
    """
    if args.markdown:
        print(markdown(args.markdown))
        return 0
    if not args.name:
        raise UserError('speed needs the name of a set to measure, or --markdown FILE...')
    if min(args.rounds, args.batch) < 1 or not 0 < args.seconds < math.inf:
        raise UserError('--rounds and --batch must be at least 1, --seconds positive.')
    source = sources.find(sources.fields_of(args.name, args.data_dir))
    records = next(iter(source.splits.values()))
    how = Decoding(reading.channels(records), args.resize, upright=records.upright)
    shape = reading.shape(records, how)
    if len(records) < args.batch:
        raise UserError(f'{args.name} has {len(records)} images, fewer than --batch={args.batch}.')
    whole = Streamed(records, np.arange(len(records)), how, shape, len(source.classes))
    if args.out:
        check_writable(args.out)  # before minutes of measuring, not after them
    rates, starts = _rates(args, whole)
    version = _torch_version()
    plainly = f'torch.utils.data.DataLoader {version}'
    if not any(way.startswith('plain') for way in rates):
        lacking = 'the set holds no image files' if version else 'PyTorch is not installed'
        plainly = f'skipped, since {lacking}'
    result = {
        'set': args.name,
        'shape': [int(size) for size in shape],
        'batch': args.batch,
        'images a second': rates,
        'seconds to the first batch': starts,
        'plain loader': plainly,
        'highest MiB in each epoch': _memory(whole, args) if args.epochs else None,
        'environment': measured_on(),
    }
    print(f'\nplain: {plainly}')
    for name, values in rates.items():
        low, high = min(values), max(values)
        print(f'{name:12} median {np.median(values):12,.0f} images/s ({low:,.0f} to {high:,.0f})')
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + '\n')
        print(f'stored in {args.out}')
    return 0


def _rates(args, whole: Streamed) -> tuple[dict, dict]:
    """({way: [images a second]}, {way: [seconds to the first batch]}), an entry a round."""
    batch, epochs = args.batch, itertools.count(1)
    count = min(len(whole), max(batch, 2**30 // int(np.prod(whole.shape))))
    held = InMemory(*whole.read(np.arange(count)))
    with tempfile.TemporaryDirectory() as place:
        files = _write_files(whole.records, pathlib.Path(place)) if _torch_version() else []
        ways: dict[str, Callable[[], Generator]] = {
            'in memory': functools.partial(_training, held, batch, epochs),
            'decode': functools.partial(_decoding, whole, batch),
        }
        for workers in (0, *WORKERS):
            split = dataclasses.replace(whole, workers=workers)
            ways[f'streamed, {workers}'] = functools.partial(_training, split, batch, epochs)
        for workers in WORKERS if files else ():
            ways[f'plain, {workers}'] = functools.partial(plain, files, whole.how, batch, workers)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        starts: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(args.rounds):
            for name, make in ways.items():
                rate, start = _measure(make(), batch, args.seconds)
                rates[name].append(rate)
                starts[name].append(start)
                print(
                    f'round {number + 1}/{args.rounds}  {name:12} {rate:12,.0f} images/s, first '
                    f'batch after {start:.2f} s',
                    flush=True,
                )
    return rates, starts


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
    names = [f'{one["set"]}, {"×".join(map(str, one["shape"][:2]))}' for one in found]
    ways = dict.fromkeys(way for one in found for way in one['images a second'])
    rows = [('images a second', *names), ('---', *['---:'] * len(found))]
    rows += [(way, *(_rounds(one, way) for one in found)) for way in ways]
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


def _measure(batches: Generator, batch: int, seconds: float) -> tuple[float, float]:
    """(images a second once it runs, seconds to the first batch) of batches without an end."""
    begin = time.perf_counter()
    for count, _ in enumerate(batches, 1):
        now = time.perf_counter()
        if count == 1:
            first = now - begin
        if count == _WARM:
            begin = now
        if count > _WARM and now - begin > seconds:
            break
    batches.close()
    readahead.close()
    return (count - _WARM) * batch / (now - begin), first


def _training(split, batch, epochs):
    for epoch in epochs:
        yield from train_batches(split, batch, 1, 0, epoch)


def _decoding(split, batch):
    while True:
        for start in range(0, len(split) - batch + 1, batch):
            yield split.read(np.arange(start, start + batch))


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
    """A map-style data set as the PyTorch tutorials write it."""

    def __init__(self, files, resize: int, channels: int):
        self.files, self.resize, self.mode = files, resize, 'L' if channels == 1 else 'RGB'

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        with open_image(path) as file:
            image = file.convert(self.mode)
        if self.resize:
            scale = self.resize / min(image.size)
            width, height = (max(self.resize, round(size * scale)) for size in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - self.resize) // 2, (height - self.resize) // 2
            image = image.crop((left, top, left + self.resize, top + self.resize))
        return np.array(image), label


def _torch_version() -> str | None:
    try:
        return metadata.version('torch')
    except metadata.PackageNotFoundError:
        return None


def plain(files: Sequence[tuple[str, int]], how: Decoding, batch: int, workers: int) -> Generator:
    """Shuffled batches of the image files, decoded in worker processes, for ever."""
    import torch  # an option of the installation

    loader = torch.utils.data.DataLoader(
        Images(files, how.resize, how.channels),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context='spawn',
    )
    while True:
        yield from loader
