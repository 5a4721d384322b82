"""The command `python -m experiments.data`: lists, prepares, shows, checks and times data sets.

python -m experiments.data list
python -m experiments.data prepare fashion_mnist
python -m experiments.data show imagenette/160px-v2
python -m experiments.data check folder:photographs
python -m experiments.data speed cifar10
"""

import argparse
import pathlib
import re
import signal
from collections.abc import Iterator

import numpy as np
from PIL import Image

from experiments import progress
from experiments.data import copies, readahead, scan, sources, statistics, tfds
from experiments.data import records as reading
from experiments.data import speed as data_speed
from experiments.data.decode import Decoding, image_of
from experiments.errors import UserError, check_writable, command, counted, listed, printable
from experiments.options import Parser

_LOOKED_AT = 5000  # images of each split that `show` decodes
_SHEET = 32  # most images of a sheet
_SHOWN = 256  # most pixels of a side of an image there


def list_sets(args: argparse.Namespace) -> int:
    """Prints the data sets that are ready to use."""
    print('embedded:  digits, synthetic[:COUNTxSIDExCHANNELS]')
    print('folders:   folder:PATH, one subfolder of images per class')
    if own := sorted(sources.SOURCES.keys() - {'digits', 'synthetic', 'folder'}):
        print(f'others:    {", ".join(own)}')
    found = tfds.names(args.data_dir)
    where = tfds.where(args.data_dir)
    print(f'prepared in {where}:' if found else f'prepared in {where}: none')
    for name in found:
        try:
            builder = tfds.open_builder(name, args.data_dir)
            splits = builder.info.splits.items()
            words = ', '.join(f'{split} {info.num_examples:,}' for split, info in splits)
        except UserError as error:
            words = f'cannot be read: {error}'
        print(f'    {name:32} {words}')
    return 0


def show(args: argparse.Namespace) -> int:
    """Prints what describes a data set and writes a sheet of its images."""
    slug = re.sub(r'[^\w.-]+', '_', args.name).strip('_.')[-100:]
    out = pathlib.Path(args.out or f'{slug or "sheet"}.png')
    if out.suffix.lower() != '.png':
        raise UserError(f'a sheet is a PNG image; --out is {args.out}. Let it end in .png.')
    source = sources.find(sources.fields_of(args.name, args.data_dir))
    check_writable(out)  # before the minutes that reading may take
    print(printable(source.note))
    print(f'{counted(len(source.classes), "class", "classes")}: {listed(source.classes, 20)}')
    for split, records in _opened(source):
        if isinstance(records, UserError):
            print(f'\n{split}: {records}')
            continue
        rows = np.sort(np.random.default_rng(0).permutation(len(records))[:_LOOKED_AT])
        how = _decoding(records, args.resize)
        levels = np.zeros((how.channels, 256), np.int64)
        sizes, labels, broken = [], [], 0
        for row in progress.reported(rows, f'{split}: reading', len(rows), 1):
            try:
                image, label = reading.one(records, int(row), how)
            except reading.Broken:
                broken += 1
                continue
            levels = levels + statistics.levels_of(image[None])
            sizes.append(image.shape[:2])
            labels.append(label)
        of = '' if len(rows) == len(records) else f'; of a sample of {len(rows):,}:'
        print(f'\n{split}: {counted(len(records), "image")}{of}')
        if not sizes:
            print('  none decodes')
            continue
        known = labels if records.labels is None else records.labels
        _print_split(source.classes, sizes, levels, known, how.channels)
        if broken:
            line = f'python -m experiments.data check {args.name}'
            print(f'  not decoded: {broken:,}; name them with {line}')
    _sheet(source, args, out)
    print(f'\nsheet of images: {out}')
    return 0


def _opened(source) -> Iterator[tuple[str, reading.Records | UserError]]:
    """Yields (name, its Records, or why there are none) of every split."""
    for split in source.splits:
        try:
            yield split, source.splits[split]
        except UserError as error:
            yield split, error


def _decoding(records: reading.Records, resize: int = 0) -> Decoding:
    return Decoding(reading.channels(records), resize, upright=records.upright)


def _print_split(classes, sizes, levels, labels, channels):
    heights, widths = (
        f'{values[0]} to {values[-1]}, median {values[len(sizes) // 2]}'
        for values in map(sorted, zip(*sizes))
    )
    if len(set(sizes)) == 1:
        print(f'  size     {sizes[0][0]}x{sizes[0][1]}x{channels}')
    else:
        words = f'{channels} channels; mixed sizes: set data.resize'
        print(f'  height   {heights}; width {widths}; {words}')
    mean, variance = statistics.mean_and_variance(levels)
    of_255 = ' '.join(f'{255 * value:.2f}' for value in mean)
    print(f'  mean     {" ".join(f"{value:.4f}" for value in mean)} (of 1; of 255: {of_255})')
    print(f'  std      {" ".join(f"{value:.4f}" for value in np.sqrt(variance))}')
    labels = np.asarray(labels)
    inside = labels[(labels >= 0) & (labels < len(classes))]
    counts = np.bincount(inside, minlength=len(classes))
    print('  a class  ' + listed([f'{name} {count}' for name, count in zip(classes, counts)], 20))
    if len(inside) < len(labels):
        outside = counted(len(labels) - len(inside), 'label')
        print(f'  {outside} outside 0..{len(classes) - 1}')


def _sheet(source, args, out):
    """Writes a sheet with images of the first split, as they are decoded, and their classes."""
    from experiments.data import contact  # start-up cost: matplotlib

    found = [records for _, records in _opened(source) if not isinstance(records, UserError)]
    if not found:
        raise UserError(f'{args.name}: no split can be read.')
    records = found[0]
    how = _decoding(records, args.resize)
    images, labels = [], []
    for place in np.random.default_rng(0).permutation(len(records))[: 4 * _SHEET]:
        try:
            image, label = reading.one(records, int(place), how)
        except reading.Broken:
            continue
        if 0 <= label < len(source.classes):
            if max(image.shape[:2]) > _SHOWN:  # photographs are shown smaller than they are
                small = image_of(image)
                small.thumbnail((_SHOWN, _SHOWN), Image.Resampling.BILINEAR, reducing_gap=2)
                image = np.asarray(small).reshape(*small.size[::-1], image.shape[-1])
            images.append(image)
            labels.append(label)
        if len(images) == _SHEET:
            break
    if not images:
        raise UserError(f'{args.name}: no image that decodes and has a class.')
    contact.samples(images, labels, source.classes, out, source.note)


def check(args: argparse.Namespace) -> int:
    """Reads every record and names those that are broken or copies of another; 1 if there are any.

    Equal images in two splits count in a folder alone, whose user can repair it.
    """
    source = sources.find(sources.fields_of(args.name, args.data_dir))
    bad, say = 0, lambda words: print(printable(words), flush=True)
    say(source.note)
    parts = {}
    for split, records in _opened(source):
        if isinstance(records, UserError):
            say(f'{split}: {records}')
            bad += 1
            continue
        how, rows = _decoding(records), np.arange(len(records))
        chunks = Checked(records, rows, how, (), len(source.classes))
        found, sides, seen = 0, [], []
        try:
            for chunk in scan.read(chunks, args.workers, f'{split}: reading', few=0):
                sides.append(chunk['sides'])
                found += len(chunk['faults'])
                seen.append(chunk['sound'])
                for message in chunk['faults']:
                    say(message)
        except UserError as error:  # of a whole file: none of its records can be read
            say(f'{split}: {error}')
            bad += 1
            continue
        say(f'{split}: {counted(len(records), "record")} read, {found:,} of them broken')
        low, high = np.min(sides, 0)[0], np.max(sides, 0)[1]
        if (low < high).any():
            say(
                f'{split}: sizes differ, height {low[0]} to {high[0]}, width {low[1]} to '
                f'{high[1]}: set data.resize to train on them'
            )
        bad += found
        places, labels, marks = np.concatenate(seen).T
        parts[split] = copies.Part(records, places.astype(int), labels, marks)
    for one, two, same in copies.between_splits(parts):
        for twins in same:
            say(' = '.join(twins))
        say(f'{len(same):,} {two} images also in the {one} split')
        bad += len(same) if source.refuse_copies else 0
    for twins in copies.between_classes(parts):
        say(f'{" = ".join(twins)}, of another class')
    return 1 if bad else 0


_LARGEST = np.iinfo(np.int32).max  # pixels


class Checked(scan.Chunks):
    """Chunks of records of any size: what is wrong with them ('faults', messages), the lowest and
    highest height and width ('sides', int [2, 2]), and place, label and mark of the others
    ('sound', uint64 [n, 3])."""

    def chunk(self, rows):
        faults, shapes, sound = [], [], []
        heard: list[tuple[str, str]] = []
        read = reading.each(self.records, rows, self.how, heard)
        for row, (image, label, fault, _) in zip(rows, read):
            if fault is None and not 0 <= label < self.classes:
                fault = reading.label_error(self.records, row, label, self.classes)
            if fault:
                faults.append(str(fault))
            else:
                sound.append((row, label, reading.mark_of(image)))
            if image is not None:
                shapes.append(image.shape[:2])
        # without an image, what changes neither the lowest nor the highest
        sides = [np.min(shapes or [(_LARGEST,) * 2], 0), np.max(shapes or [(0, 0)], 0)]
        found = np.array(sound, np.uint64).reshape(-1, 3)
        return {'faults': faults, 'sides': np.array(sides), 'sound': found, 'heard': heard}


COMMANDS = {'list': list_sets, 'show': show, 'check': check, 'speed': data_speed.speed}


# --- command line ------------------------------------------------------------------------------


def prepare(name: str, data_dir: str | None = None) -> str:
    """tfds.prepare, but for sources that need none."""
    if name.partition(':')[0] in sources.SOURCES:
        return f'{name} needs no preparation'
    return tfds.prepare(name, data_dir)


def parser() -> Parser:
    """The command line."""
    whole = Parser(prog='python -m experiments.data', description='Data sets.')
    commands = whole.add_subparsers(dest='command', required=True)

    def add(command, words, **name):
        made = commands.add_parser(command, help=words, description=words)
        if command != 'list':
            words = "'digits', 'folder:PATH', or a TFDS name such as 'imagenette/160px-v2'"
            made.add_argument('name', help=words, metavar='NAME', **name)
        made.add_argument('--data_dir', help="of TFDS sets; default: $TFDS_DATA_DIR, or TFDS's own")
        return made

    add('list', 'the data sets that are ready to use')
    words = 'download a TFDS data set and write it as array_record files'
    add('prepare', f'{words} (needs TensorFlow)')
    show = add('show', 'classes, counts, sizes, mean and deviation, and a sheet of images')
    show.add_argument('--resize', type=int, default=0, metavar='PIXELS', help='as data.resize')
    show.add_argument('--out', metavar='FILE', help='the sheet, a .png; default: NAME.png')
    check = add('check', 'read every record and name the broken ones (status 1 if any)')
    check.add_argument('--workers', type=int, default=0, help='processes that decode')
    speed = add('speed', 'measure images a second, decoded and fed', nargs='*')
    speed.add_argument('--resize', type=int, default=0, metavar='PIXELS', help='as data.resize')
    speed.add_argument('--batch', type=int, default=128)
    speed.add_argument('--rounds', type=int, default=5, help='repetitions of each measurement')
    speed.add_argument('--seconds', type=float, default=10.0, help='length of each at most')
    words = 'random crops of whole images, scaled to --resize, not their centre squares'
    speed.add_argument('--crops', action='store_true', help=words)
    words = 'of the first images, enlarged to HEIGHTxWIDTH and saved as JPEG'
    speed.add_argument('--enlarge', metavar='SIDES', help=words)
    words = 'also: memory in each of so many epochs of the streamed set'
    speed.add_argument('--epochs', type=int, default=0, help=words)
    speed.add_argument('--out', metavar='FILE', help='where the numbers are stored, a .json')
    words = 'print the stored numbers of the files NAME as a GitHub table; measure nothing'
    speed.add_argument('--markdown', action='store_true', help=words)
    return whole


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    if args.command == 'speed':
        names = args.name
        if args.markdown and not names:
            raise UserError('--markdown prints stored numbers: name their files.')
        args.markdown = names if args.markdown else []
        if len(names) > 1 and not args.markdown:
            raise UserError(f'speed measures one set, it was given {", ".join(names)}.')
        args.name = names[0] if names else None
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if args.command == 'prepare':
            print(prepare(args.name, args.data_dir))
            return 0
        for flag, most in (('resize', 4096), ('workers', 1024), ('epochs', 10**6)):
            value = getattr(args, flag, 0)
            if not 0 <= value <= most:
                raise UserError(f'--{flag} is {value}, it must be between 0 and {most}.')
        return COMMANDS[args.command](args)
    finally:
        readahead.close()
