"""Sources of images, found by data.name: functions from the `data` fields of a config to a Source.

    'digits'             the digits embedded in scikit-learn
    'synthetic[:...]'    made from a formula, with a known answer
    'folder:PATH'        a folder of images, one subfolder per class (folder.py)
    anything else        a prepared TFDS set, 'name/config:version' (tfds.py)

To add a source, write such a function and name it in SOURCES. What follows the first
colon of data.name is the function's to read.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from experiments.data.folder import folder
from experiments.data.records import Arrays, Records, Source
from experiments.data.tfds import prepared
from experiments.errors import UserError, one_of, shown
from experiments.files import digest


def find(fields: ConfigDict) -> Source:
    """The source that data.name names. UserError: there is none, or it cannot be read."""
    source = SOURCES.get(fields.name.partition(':')[0], prepared)(fields)
    if not isinstance(source, Source) or not source.splits:
        raise UserError(
            f'the source of {fields.name} gives {shown(source)}, it must give a Source '
            'with at least one split.'
        )
    if source.validation and source.validation not in source.splits:
        words = f'split to validate on, given by the source of {fields.name},'
        raise one_of(words, source.validation, source.splits)
    if not source.classes or not all(isinstance(name, str) for name in source.classes):
        words = f'the classes of {fields.name} are {shown(source.classes)}'
        raise UserError(f'{words}, they must be names.')
    return source


def check_records(records: Records, name: str) -> None:
    """UserError unless the Records of a source have a fingerprint and labels of their type."""
    what = records.name or name
    if not records.fingerprint:
        raise UserError(
            f'{what}: its source gives no fingerprint, so results of other data could not be told '
            'from these. Set fingerprint of its Records to a digest of what the images are.'
        )
    labels = records.labels
    if labels is not None and not (
        isinstance(labels, np.ndarray)
        and labels.ndim == 1
        and np.issubdtype(labels.dtype, np.integer)
        and len(labels) == len(records)
    ):
        raise UserError(
            f'{what}: labels of its Records are {shown(labels)}, they must be an array '
            f'of {len(records)} whole numbers, or None.'
        )


def split_of(source: Source, name: str, fields: ConfigDict) -> Records:
    """One split of a source by its name. UserError: there is none of that name."""
    if name in source.splits:
        return source.splits[name]
    if source.sub_split:
        return source.sub_split(name)
    raise one_of(f'split of {fields.name}', name, source.splits)


def digits(fields: ConfigDict) -> Source:
    """scikit-learn's handwritten digits, 1,797 of 8x8 pixels, enlarged to 32x32 bilinearly.

    The order of the set follows its writers, so the images are shuffled once, with a fixed seed,
    before the last fifth becomes the test split.
    """
    if ':' in fields.name:
        raise UserError(f'digits takes nothing after its name, it was given {shown(fields.name)}.')
    from sklearn.datasets import load_digits  # start-up cost

    read = load_digits()
    grey = np.round(read.images * (255 / 16)).astype(np.uint8)
    bilinear = Image.Resampling.BILINEAR
    large = [np.asarray(Image.fromarray(image).resize((32, 32), bilinear)) for image in grey]
    images = np.stack(large)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], read.target[order].astype(np.int32)
    cut = len(images) * 4 // 5
    return Source(
        {
            'train': Arrays(images[:cut], labels[:cut], 'digits train'),
            'test': Arrays(images[cut:], labels[cut:], 'digits test'),
        },
        tuple('0123456789'),
        "scikit-learn's 1,797 handwritten digits, 8x8 enlarged to 32x32; fixed random split",
    )


class Bars(Records):
    """Noise with one bright bar; the label is the tenth of the height that the bar is in.

    Every image is a function of (split, index) alone, so that a set of any size takes no room.
    """

    embedded = True
    labels: np.ndarray

    def __init__(self, count: int, side: int, channels: int, split: int):
        self.count, self.split, self.size = count, split, (side, side, channels)
        self.name = f'synthetic {("train", "test")[split]}'
        self.labels = np.random.default_rng(split).integers(0, 10, count).astype(np.int32)
        self.fingerprint = digest('bars', count, self.size, split)

    def __len__(self):
        return self.count

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[tuple]:
        return [(self._image(int(index)), self.labels[index]) for index in indices]

    def _image(self, index):
        side = self.size[0]
        image = np.random.default_rng((self.split, index)).integers(0, 128, self.size, np.uint8)
        label = int(self.labels[index])
        image[side * label // 10 : max(side * (label + 1) // 10, side * label // 10 + 1)] += 120
        return image


def synthetic(fields: ConfigDict) -> Source:
    """'synthetic', or 'synthetic:COUNTxSIDExCHANNELS': that many training images, a fifth to test.

    The known answer: the label is the tenth of the height that is bright. Default: 1000x32x1.
    """
    asked = fields.name.partition(':')[2] or '1000x32x1'
    match = re.fullmatch(r'(\d{1,9})x(\d{1,4})x([13])', asked)
    if not match or int(match[1]) < 5 or int(match[2]) < 10:
        raise UserError(
            f'synthetic takes COUNTxSIDExCHANNELS, such as synthetic:1000x32x1, with '
            f'at least 5 images of 10 pixels and 1 or 3 channels; not {shown(asked)}.'
        )
    count, side, channels = map(int, match.groups())
    return Source(
        {'train': Bars(count, side, channels, 0), 'test': Bars(count // 5, side, channels, 1)},
        tuple('0123456789'),
        'synthetic images: a bright bar in one tenth of the height, made by a formula',
    )


SOURCES: dict[str, Callable] = {'digits': digits, 'synthetic': synthetic, 'folder': folder}


def fields_of(name: str, data_dir: str | None = None, **changes: Any) -> ConfigDict:
    """The `data` fields of configs/base.py for a set, with changes."""
    fields = base.get_data()
    fields.update(name=name, dir=data_dir, **changes)
    return fields
