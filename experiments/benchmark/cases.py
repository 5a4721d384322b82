"""What the benchmark measures: nets with their batches, as configs and random images.

A case is trained as experiments.run would train it: a config, a data set held in memory, and the
compiled functions that experiments/train makes of the two. The images are random bytes, since
no speed depends on what they show.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

import cnns
from configs import base
from experiments import data
from experiments.errors import UserError, one_of
from experiments.models import description as models
from experiments.plan.config import AXES

_BYTES = 2**25  # of all images of a case together, unless 8 batches are more
_BATCHES = 8
_IMAGES = 8192  # more would only make the order of an epoch longer
RATE = 1e-3


class Case(NamedTuple):
    """One net at one batch size."""

    net: str  # one of cnns.names()
    batch: int  # images a step
    fields: dict[str, Any] = {}  # of the net, axes and others
    classes: int = 10
    side: int = 0  # pixels; 0: that of the net's entry
    small: bool = True  # torch.compile takes seconds, not many minutes

    @property
    def input(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        height, width, channels = cnns.NETS[self.net].input
        return (self.side or height, self.side or width, channels)


def _four(**fields: Any) -> Case:
    return Case('cuda_convnet_19pct', 128, fields)


def _large(net: str, batch: int) -> Case:
    return Case(net, batch, classes=1000, small=False)


CASES = {
    'lenet5': Case('lenet5', 128),
    'four_layer': _four(),  # max pooling, then average pooling twice, over overlapping windows
    'four_layer_lrn': _four(norm='lrn'),
    'four_layer_batch': _four(norm='batch'),
    'four_layer_average': _four(pool='average', overlap=False),
    'four_layer_average_overlapping': _four(pool='average', overlap=True),
    'four_layer_max': _four(pool='max', overlap=False),
    'four_layer_max_overlapping': _four(pool='max', overlap=True),
    'resnet20': Case('resnet20', 128),
    'alexnet': _large('alexnet', 16),
    'vgg11': _large('vgg11', 8),
    'googlenet': _large('googlenet', 16),
    'resnet18': _large('resnet18', 16),
}


def _others() -> dict[str, Case]:
    """Cases of the nets that CASES does not have by name; of those that differ in depth, one."""
    found, seen = {}, set()
    for name, entry in cnns.NETS.items():
        code = {
            key: value for key, value in entry.fields.items() if key not in ('blocks', 'hidden')
        }
        kind = (entry.net, entry.input, str(sorted(code.items())))
        if kind not in seen and name not in CASES:
            large = entry.input[0] > 32
            found[name] = _large(name, 8) if large else Case(name, 64)
        seen.add(kind)
    return found


# Measured by name, or all of them with CASES by the name 'nets'
OTHERS = _others()
KNOWN = CASES | OTHERS


def chosen(
    names: Collection[str], batch: int | None = None, devices: int | None = None
) -> dict[str, Case]:
    """The cases of these names in the order of KNOWN: CASES for none, all for 'nets'.

    `batch` replaces theirs.

    Raises UserError for an unknown name, or a batch that the devices cannot share.
    """
    for name in names:
        if name not in (*KNOWN, 'nets'):
            raise one_of('case', name, KNOWN)
    names = KNOWN if 'nets' in names else names or CASES
    found = {
        name: case._replace(batch=batch) if batch else case
        for name, case in KNOWN.items()
        if name in names
    }
    for name, case in found.items():
        if case.batch % (devices or 1):
            raise UserError(
                f'{devices} devices cannot share the {case.batch} images of a '
                f'step of {name} equally: name another --devices, or --batch.'
            )
    return found


def config_of(
    case: Case, *, devices: int = 0, dtype: str = 'float32', fast: bool = True
) -> ConfigDict:
    """The config that trains the case; devices: 0 for all, dtype: of the computation."""
    config = base.get_config()
    with config.unlocked():
        config.title = f'benchmark of {case.net}'
        config.data.name = 'random images'
        config.model.name = case.net
        config.model.dtype = dtype
        for field, value in case.fields.items():
            group = config.model if field in AXES else config.model.fields
            group[field] = value
        if not fast:
            config.model.fields.fast = False
        config.train.batch = case.batch
        config.train.devices = devices
        config.train.schedule = 'constant'
        config.train.rate = RATE
    return config


def dataset_of(case: Case) -> data.Dataset:
    """Random images and labels in memory, the same for every call with this case."""
    shape = case.input
    count = max(min(_BYTES // int(np.prod(shape)), _IMAGES), _BATCHES * case.batch)
    count -= count % case.batch  # every batch is full, of evaluation too
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    part = data.InMemory(images, rng.integers(0, case.classes, count).astype(np.int32))
    classes = tuple(map(str, range(case.classes)))
    # of random bytes: no need to count millions of them
    mean, std = np.full(shape[-1], 0.5, np.float32), np.full(shape[-1], 0.29, np.float32)
    return data.Dataset('random images', part, part, part, classes, mean, std, 'random bytes')


class Work(NamedTuple):
    """Floating-point operations of one image, a multiplication and an addition being two."""

    train: int
    infer: int
    macs: int
    parameters: int  # in training


def work_of(case: Case) -> Work:
    """Read from the net's traced program, convolutions and matrix products alone.

    A layer's gradients, of its weights and of its input, each cost as much as the layer itself;
    the first layer needs no gradient of its input. GoogLeNet's auxiliary heads, 0.5 % of its
    work, are not counted.
    """
    net = models.describe(case.net, case.side or None, classes=case.classes, **case.fields)
    first = next(row['macs'] for row in net['rows'] if row['macs'])
    return Work(
        6 * net['macs'] - 2 * first, 2 * net['macs'], net['macs'], net['training_parameters']
    )
