"""Prepared TFDS data sets, read from their array_record files without TensorFlow."""

import io
import logging
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.data.cache import stamp_of
from experiments.data.decode import open_image
from experiments.data.records import Records, Source
from experiments.errors import UserError, nearest, reason
from experiments.files import digest

_DIR = '~/tensorflow_datasets'
# The extra [prepare] by its content: a name of it would need to know how this was installed
_TENSORFLOW = f'pip install {"tensorflow" if sys.platform == "darwin" else "tensorflow-cpu"}'


def prepared(fields: ConfigDict) -> Source:
    """The set `fields.name` ('name', 'name/config', 'name:version') under `fields.dir`.

    Its splits are TFDS's, and what TFDS's own syntax makes of them: 'train[:90%]',
    'train+test'. It needs an 'image' of 8 bits and a 'label' that is a class.

    Raises:
      UserError: a set that is unknown, not prepared, or none to train a classifier on.
    """
    folder = data_dir(fields.dir)
    builder = open_builder(fields.name, folder)
    form = getattr(builder.info.file_format, 'value', builder.info.file_format)
    if form != 'array_record':
        raise UserError(
            f'{fields.name} is prepared as {form} files in {builder.data_path}; only '
            'array_record files are read. Prepare it a second time, in another '
            f'folder: {_elsewhere(fields.name)}'
        )
    features = builder.info.features
    if not {'image', 'label'} <= set(features):
        raise UserError(
            f'{fields.name} has the features {", ".join(features)}; training a '
            "classifier needs 'image' and 'label'."
        )
    if not hasattr(features['label'], 'names'):
        raise UserError(
            f"{fields.name}: its 'label' is a {type(features['label']).__name__}, no "
            'name of a class; only classification sets are read.'
        )
    if not hasattr(features['image'], 'shape') or features['image'].np_dtype != np.uint8:
        raise UserError(
            f"{fields.name}: its 'image' is {features['image']}; only sets of 8-bit "
            'images are read.'
        )
    size = (*features['image'].shape[:2], features['image'].shape[-1])

    def split(name: str) -> Records:
        return PreparedRecords(builder, fields.name, folder, size, name)

    return Source(
        Splits(list(builder.info.splits), split),
        tuple(features['label'].names),
        f'{fields.name} {builder.version} as prepared in this TFDS data_dir'
        f'{_stored_as(split, builder.info.splits)}',
        split,
    )


def _stored_as(split: Callable[[str], Records], names: Iterable[str]) -> str:
    """The format of the first image, since a data_dir may hold a lossy copy of a set."""
    for name in names:
        try:
            ((raw, _),) = split(name).fetch([0])
            return f', images stored as {open_image(io.BytesIO(raw)).format}'
        except Exception:  # a damaged split is named where it is read
            continue
    return ''


class Splits(Mapping):
    """{name: its Records}, opened when asked for: a split that is empty or not there harms none."""

    def __init__(self, names: list[str], opened: Callable[[str], Records]):
        self._names, self._opened = names, opened

    def __getitem__(self, name: str) -> Records:
        if name not in self._names:
            raise KeyError(name)
        return self._opened(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class PreparedRecords(Records):
    """The records of one split or sub-split; every process that reads it opens it again."""

    def __init__(self, builder, name: str, folder: str, size: tuple, split: str):
        self._set, self._dir, self._split = name, folder, split
        self.name = f'{name} {split!r}'
        self.size = (*size[:2], size[2] if size[2] in (1, 3) else None)
        self._opened: Any = None  # a data source of TFDS
        try:
            info = builder.info.splits[split]
            instructions = info.file_instructions
        except Exception as error:  # ValueError, KeyError, AssertionError by the kind of mistake
            raise UserError(
                f'{name} has no split {split!r}.{nearest(split, builder.info.splits)} It has: '
                f"{', '.join(builder.info.splits)}, and slices of them such as 'train[:90%]'. "
                'Set data.train or data.test.'
            ) from error
        self._count = info.num_examples
        files = [pathlib.Path(piece.filename) for piece in instructions]
        self.home = str(files[0].parent.resolve()) if files else ''
        self.ranges, self._pieces = {}, []
        self._files: dict[str, int] = {}
        for path, piece in zip(files, instructions, strict=True):
            count = piece.take if piece.take >= 0 else piece.examples_in_shard - piece.skip
            self.ranges.setdefault(path.name, []).append((piece.skip, piece.skip + count))
            self._pieces.append((path.name, piece.skip, count))
            self._files[str(path)] = piece.examples_in_shard
        # TFDS writes nothing where a set is prepared; other splits of the set may be sound
        self._again = (
            'Name splits that are sound (data.train, data.test), bring the file back, '
            f'or prepare the set in another folder: {_elsewhere(name)}'
        )
        for path in files:
            if not path.is_file():
                words = f'{name}: the file {path} of split {split!r} is missing.'
                raise UserError(f'{words} {self._again}')
        if self._count <= 0:  # below: a slice such as train[90%:10%]
            raise UserError(f'{name}: split {split!r} is empty. Set data.train or data.test.')
        stats = [path.stat() for path in files]
        sizes = [stat.st_size for stat in stats]
        self.fingerprint = digest(builder.info.full_name, split, self._pieces, sizes)
        self.stamp = stamp_of(files, stats)

    def __len__(self):
        return self._count

    def __getstate__(self):
        return self.__dict__ | {'_opened': None}

    def where(self, index: int) -> str:
        for name, first, count in self._pieces:
            if index < count:
                return f'record {first + index} of {name}'
            index -= count
        return f'record {index}'

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        if self._opened is None:
            self._opened = self._open()
        found = self._opened.__getitems__([int(index) for index in indices])
        return [(record['image'], int(record['label'])) for record in found]

    def _open(self):
        import tensorflow_datasets as tfds  # start-up cost

        for path, count in self._files.items():
            self._check(path, count)
        try:
            source = open_builder(self._set, self._dir).as_data_source(
                self._split, decoders={'image': tfds.decode.SkipDecoding()}
            )
            if len(source.data_source) != self._count:
                raise ValueError(f'{len(source.data_source)} records instead of {self._count}')
        except UserError:
            raise
        except Exception as error:  # array_record raises many kinds
            words = f'{self.name} cannot be read ({reason(error)}).'
            raise UserError(f'{words} {self._again}') from error
        return source

    def _check(self, path: str, expected: int) -> None:
        """UserError for a file that cannot be opened now, or whose index at its end is damaged."""
        from array_record.python import array_record_module  # start-up cost

        try:
            open(path, 'rb').close()
        except OSError as error:
            raise UserError(
                f'{self.name}: the file {path} cannot be read ({reason(error)}). Repair '
                'that and run the same command again.'
            ) from error
        try:
            reader = array_record_module.ArrayRecordReader(path)
            count, sound = reader.num_records(), reader.ok()
            reader.close()
            if not sound or count != expected:
                raise ValueError(f'{count} records instead of {expected}')
        except Exception as error:  # array_record raises many kinds
            words = f'{self.name}: the file {path} is damaged ({reason(error)}).'
            raise UserError(f'{words} {self._again}') from error


def data_dir(folder: str | None) -> str:
    """data.dir or --data_dir -> the folder that is read: $TFDS_DATA_DIR or TFDS's own for None.

    Raises UserError for the home of a user that does not exist.
    """
    given = folder or os.environ.get('TFDS_DATA_DIR') or _DIR
    try:
        return str(pathlib.Path(given).expanduser())
    except RuntimeError as error:
        raise UserError(f'the data_dir {given!r} cannot be found: {error}') from error


def open_builder(name: str, folder: str | None = None):
    """The TFDS builder of a prepared set in `data_dir(folder)`.

    Raises:
      UserError: an unknown name (with the nearest), a version, config or package that is not
        there, or a set that is not prepared (with the command that prepares it).
    """
    logging.getLogger('absl').setLevel(logging.ERROR)  # its advice on decoders is not ours to give
    import tensorflow_datasets as tfds  # start-up cost

    try:
        builder = tfds.builder(name, data_dir=data_dir(folder))
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name, tfds, folder) from error
    except Exception as error:
        if not re.fullmatch(r'\w+(/[\w.+-]+)?(:[\w.*]+)?', name):  # no name of any set
            raise _unknown(name, tfds, folder) from error
        # an unknown version or config, a package or a file that it lacks
        words = f'data set {name!r} cannot be opened: {_first_line(error)}.'
        raise UserError(words + _variants(name, folder)) from error
    if not builder.is_prepared():
        raise UserError(
            f'data set {name!r} is not prepared in {where(folder)}.{_variants(name, folder)} '
            f'Prepare it once with "{_TENSORFLOW} && python -m experiments.data prepare '
            f'{name}{_into(folder)}", or point TFDS_DATA_DIR (or --config.data.dir) to a data_dir '
            'that holds it.'
        )
    return builder


def _into(folder):
    return f' --data_dir {shlex.quote(data_dir(folder))}' if folder else ''


def _elsewhere(name):
    return f'python -m experiments.data prepare {name} --data_dir DIR'


def names(folder: str | None = None) -> list[str]:
    """'name/config:version' of every set prepared under a data_dir."""
    root = pathlib.Path(data_dir(folder))
    found = sorted(root.glob('*/**/dataset_info.json'))
    words = [path.parent.relative_to(root).parts for path in found]
    return [f'{"/".join(one[:-1])}:{one[-1]}' for one in words if 2 <= len(one) <= 3]


def prepare(name: str, folder: str | None = None) -> str:
    """Downloads and prepares a TFDS data set as array_record files; returns where it is.

    Raises:
      UserError: TensorFlow is not installed, or TFDS cannot prepare the set (its reason is given).
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        words = 'preparing a data set needs TensorFlow (reading one does not)'
        raise UserError(f'{words}: {_TENSORFLOW}') from error
    import tensorflow_datasets as tfds  # start-up cost

    try:
        builder = tfds.builder(name, data_dir=data_dir(folder), file_format='array_record')
        builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name, tfds, folder) from error
    except Exception as error:
        raise UserError(f'TFDS could not prepare {name!r}: {_first_line(error)}') from error
    return f'{name} is prepared in {builder.data_path}'


def _unknown(name, tfds, folder):
    known = [*names(folder), *tfds.list_builders(with_community_datasets=False)]
    bare = [text.partition(':')[0] for text in known]
    close = nearest(name, ('digits', 'synthetic', *bare))
    return UserError(
        f'unknown data set {name!r}.{close} Allowed: digits, synthetic, folder:PATH, '
        'and every TFDS name.'
    )


def _variants(name, folder):
    stem = name.partition(':')[0].partition('/')[0]
    there = [known for known in names(folder) if known.split(':')[0].split('/')[0] == stem]
    return f' Prepared here: {", ".join(there)}.' if stem and there else ''


def where(folder: str | None) -> str:
    """The data_dir that is read, in words."""
    unset = '' if folder or os.environ.get('TFDS_DATA_DIR') else ' (TFDS_DATA_DIR is not set)'
    return data_dir(folder) + unset


def _first_line(error: Exception) -> str:
    text = re.sub(r'^Failed to construct dataset .*?, builder_kwargs .*?}": ', '', str(error))
    lines = text.strip().splitlines()
    return f'{type(error).__name__}: {lines[0].rstrip(".")}' if lines else type(error).__name__
