"""Data sets as plain arrays, split by index, and the batches made from them.

    python -m experiments.data prepare fashion_mnist

Sources: the digits embedded in scikit-learn, and every prepared TFDS data set, read through
`tfds.data_source` (array_record files; TensorFlow is needed to prepare a set, not to read one).
To add a source, write a function that returns a `Raw` and name it in `SOURCES`.
"""

import argparse
import logging
import os
import pathlib
import shlex
import sys
from typing import Callable, Iterator, NamedTuple

import numpy as np

from experiments.errors import UserError, nearest

_READ = 1000  # records decoded at a time


class Split(NamedTuple):
    images: np.ndarray  # uint8 [N, H, W, C]
    labels: np.ndarray  # int32 [N]


class Raw(NamedTuple):
    """What a source gives: a part to train and validate on, a test part, and the class names."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    note: str  # said beside every number: which data, and how exact


class Dataset(NamedTuple):
    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 [C], of train.images / 255
    std: np.ndarray  # float32 [C]
    note: str


def load(fields) -> Dataset:
    """Reads, splits and describes the data set of a config's `data` group.

    The validation part is the last `validation` of the train split, and `limit` keeps the first
    images of what is left: both by index, so the same for every seed and arm. The mean and
    standard deviation are those of the images trained on.

    Raises:
      UserError: an unknown, unprepared or damaged data set, or parts that come out empty.
    """
    source = SOURCES.get(fields.name, _tfds)
    raw = source(fields)
    raw = raw._replace(**{part: _pad(getattr(raw, part), fields.side, fields.name)
                          for part in ('train', 'test')})
    total = len(raw.train.labels)
    held_out = round(total * fields.validation)
    count = min(total - held_out, fields.limit or total)
    if not held_out or not count:
        raise UserError(f'{fields.name}: {total} images with data.validation={fields.validation} '
                        f'leave {count} to train on and {held_out} to validate on; both need some.')
    train = Split(*(array[:count] for array in raw.train))
    validation = Split(*(array[total - held_out:] for array in raw.train))
    for part, split in (('train', train), ('validation', validation), ('test', raw.test)):
        outside = (split.labels < 0) | (split.labels >= len(raw.classes))
        if outside.any():
            raise UserError(f'{fields.name}: image {int(outside.argmax())} of the {part} part has '
                            f'label {split.labels[outside][0]}, outside 0..{len(raw.classes) - 1}.')
    mean, std = moments(train.images)
    return Dataset(fields.name, train, validation, raw.test, raw.classes, mean, std, raw.note)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [C], of images / 255.

    Exact for any number of images: sums of the 256 grey levels' counts, no rounding on the way.
    """
    levels = np.arange(256) / 255
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256)
                       for c in range(images.shape[-1])])
    mean = counts @ levels / counts.sum(1)
    variance = counts @ levels**2 / counts.sum(1) - mean**2
    # A channel that never changes carries nothing; dividing by 1 keeps it at zero.
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0)), 1)
    return mean.astype(np.float32), std.astype(np.float32)


def _pad(split: Split, side: int, name: str) -> Split:
    height, width = split.images.shape[1:3]
    if not side or (height, width) == (side, side):
        return split
    if max(height, width) > side:
        raise UserError(f'{name}: images of {height}x{width} are larger than data.side={side}. '
                        f'Set data.side to 0 or at least {max(height, width)}.')
    top, left = (side - height) // 2, (side - width) // 2
    border = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))
    return split._replace(images=np.pad(split.images, border))


# --- sources ---------------------------------------------------------------------------------


def _digits(fields) -> Raw:
    """scikit-learn's handwritten digits, 1,797 of 8x8 pixels, enlarged to 32x32 bilinearly.

    The order of the set follows its writers, so the images are shuffled once, with a fixed seed,
    before the last fifth becomes the test part.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.BILINEAR))
                       for image in grey])[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], digits.target[order].astype(np.int32)
    cut = len(images) * 4 // 5
    return Raw(Split(images[:cut], labels[:cut]), Split(images[cut:], labels[cut:]),
               tuple('0123456789'),
               "scikit-learn's 1,797 handwritten digits, 8x8 enlarged to 32x32; fixed random split")


def _tfds(fields) -> Raw:
    """A prepared TFDS data set with 'image' and 'label' features and images of one size."""
    builder = _builder(fields)
    missing = [part for part in (fields.train, fields.test) if part not in builder.info.splits]
    if missing:
        raise UserError(f'{fields.name} has no split {missing[0]!r}. '
                        f'It has: {", ".join(builder.info.splits)}. Set data.train or data.test.')
    features = builder.info.features
    if not {'image', 'label'} <= set(features):
        raise UserError(f"{fields.name} has the features {', '.join(features)}; training a "
                        "classifier needs 'image' and 'label'.")
    if not hasattr(features['label'], 'names'):
        raise UserError(f"{fields.name}: its 'label' is a {type(features['label']).__name__}, no "
                        'name of a class; only classification sets are read.')
    train, test = (_read(builder, part, fields.name) for part in (fields.train, fields.test))
    return Raw(train, test, tuple(features['label'].names),
               f'{fields.name} {builder.version} as prepared in this TFDS data_dir')


def _builder(fields):
    logging.getLogger('absl').setLevel(logging.ERROR)  # its advice on decoders is not ours to give
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(fields.name, data_dir=fields.dir)
    except tfds.core.DatasetNotFoundError as error:
        known = (*SOURCES, *tfds.list_builders(with_community_datasets=False))
        raise UserError(f'unknown data set {fields.name!r}.{nearest(fields.name, known)} '
                        f'Allowed: {", ".join(SOURCES)}, and every TFDS name.') from error
    except Exception as error:  # an unknown version or config, a package or a file that it lacks
        raise UserError(f'data set {fields.name!r} cannot be opened: '
                        f'{_first_line(error)}') from error
    if not builder.is_prepared():
        where = fields.dir or os.environ.get('TFDS_DATA_DIR') or "TFDS's default data_dir"
        into = f' --data_dir {shlex.quote(fields.dir)}' if fields.dir else ''
        raise UserError(
            f'data set {fields.name!r} is not prepared in {where}. Prepare it once with\n'
            "    pip install '.[prepare]' && python -m experiments.data prepare "
            f'{fields.name}{into}\n'
            'or point TFDS_DATA_DIR (or --config.data.dir) to a data_dir that holds it.')
    return builder


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _read(builder, part: str, name: str) -> Split:
    info = builder.info.splits[part]
    lost = [str(path) for path in info.filepaths if not pathlib.Path(path).is_file()]
    if lost:
        raise UserError(f'{name}: the file {lost[0]} of split {part!r} is missing. '
                        f'Prepare it again: python -m experiments.data prepare {name}')
    images, labels, position = None, np.empty(info.num_examples, np.int32), 0
    try:
        records = builder.as_data_source(part)
        if len(records) != info.num_examples:
            raise ValueError(f'{len(records)} records instead of {info.num_examples}')
        for position in range(0, len(records), _READ):
            chunk = records.__getitems__(range(position, min(position + _READ, len(records))))
            for offset, record in enumerate(chunk):
                if record['image'].dtype != np.uint8:
                    raise UserError(f'{name}: the images are {record["image"].dtype}, only sets '
                                    'of 8-bit images are read.')
                if images is None:
                    images = np.empty((len(records), *record['image'].shape), np.uint8)
                if record['image'].shape != images.shape[1:]:
                    raise UserError(
                        f'{name}: record {position + offset} of {part!r} is '
                        f'{record["image"].shape}, the first is {images.shape[1:]}. '
                        'Only sets with images of one size are read into memory.')
                images[position + offset] = record['image']
                labels[position + offset] = record['label']
    except UserError:
        raise
    except Exception as error:  # array_record and the decoders raise many kinds
        raise UserError(
            f'{name}: split {part!r} cannot be read near record {position} '
            f'({_first_line(error)}). A file of it is damaged: '
            f'{", ".join(str(path) for path in info.filepaths)}. '
            f'Prepare it again: python -m experiments.data prepare {name}') from error
    if images is None:
        raise UserError(f'{name}: split {part!r} is empty.')
    return Split(images, labels)


SOURCES: dict[str, Callable] = {'digits': _digits}


# --- batches ---------------------------------------------------------------------------------


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` images in an epoch: int64 [count], a function of (seed, epoch) only."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def shard(array: np.ndarray, devices: int) -> np.ndarray:
    """[n, ...] -> [devices, n // devices, ...]; UserError when n does not divide."""
    if len(array) % devices:
        raise UserError(f'a batch of {len(array)} images does not divide over {devices} devices: '
                        f'{len(array)} = {devices} x {len(array) // devices} + '
                        f'{len(array) % devices}. Change train.batch or train.devices.')
    return array.reshape(devices, len(array) // devices, *array.shape[1:])


def steps_per_epoch(count: int, batch: int) -> int:
    """Full batches in `count` images. UserError when there is not one."""
    if count < batch:
        raise UserError(f'the train part has {count} images, fewer than one batch of {batch}. '
                        'Lower train.batch or raise data.limit.')
    return count // batch


def train_batches(split: Split, batch: int, devices: int, seed: int, epoch: int) -> Iterator[dict]:
    """Full batches of one epoch, {'image', 'label'} as [devices, batch // devices, ...].

    The last, partial batch of the epoch's order is left out; another epoch leaves out others.
    """
    indices = order(len(split.labels), seed, epoch)
    for step in range(steps_per_epoch(len(indices), batch)):
        chosen = indices[step * batch:(step + 1) * batch]
        yield {'image': shard(split.images[chosen], devices),
               'label': shard(split.labels[chosen], devices)}


def eval_batches(split: Split, batch: int, devices: int) -> Iterator[dict]:
    """All images in order, {'image', 'label', 'mask'}; the last batch is filled up, masked 0."""
    batch = -(-batch // devices) * devices
    for start in range(0, len(split.labels), batch):
        images, labels = (array[start:start + batch] for array in split)
        empty = batch - len(labels)
        mask = np.arange(batch) < len(labels)
        images = np.pad(images, ((0, empty), (0, 0), (0, 0), (0, 0)))
        yield {'image': shard(images, devices), 'label': shard(np.pad(labels, (0, empty)), devices),
               'mask': shard(mask.astype(np.float32), devices)}


# --- command line ----------------------------------------------------------------------------


def prepare(name: str, data_dir: str | None = None) -> str:
    """Downloads and prepares a TFDS data set as array_record files; returns where it lies.

    Raises:
      UserError: TensorFlow is not installed, or TFDS cannot prepare the set (its reason is given).
    """
    if name in SOURCES:
        return f'{name} is embedded: nothing to prepare'
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UserError("preparing a data set needs TensorFlow (reading one does not): "
                        "pip install '.[prepare]'") from error
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise UserError(f'TFDS has no data set {name!r}.{nearest(name, known)}') from error
    except Exception as error:
        raise UserError(f'TFDS could not prepare {name!r}: {_first_line(error)}') from error
    return f'{name} is prepared in {builder.data_path}'


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog='python -m experiments.data', description='Data sets.')
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('prepare', help='download a TFDS data set and write it as '
                                  'array_record files (needs TensorFlow: .[prepare])')
    command.add_argument('name', help="a TFDS name, such as 'fashion_mnist'")
    command.add_argument('--data_dir', help="default: $TFDS_DATA_DIR, or TFDS's own")
    args = parser.parse_args(argv)
    try:
        print(prepare(args.name, args.data_dir))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; run the same command again to continue', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
