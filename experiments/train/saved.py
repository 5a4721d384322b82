"""The weights of a finished training with all that is needed to use them.

    points/NAME/weights.safetensors    of a finished run; read by cnns.weights.load

Beside the keys of cnns.weights the metadata hold

    shape      [H, W, C] of the images as the data set gives them, before a crop
    config     the resolved config, flat, without what has no part in the run's name
    run        title, experiment, arm, phase, seed, learning_rate, name and data set of the run

Nothing in them depends on when or where the run was trained: the same run gives the same bytes.
Where a mean image was subtracted (augment.subtract='pixel'), it is the tensor 'input/mean_image',
float32 [H, W, C] of pixels in 0..1, and there is no mean of the channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

import cnns
from cnns import weights
from experiments import data
from experiments.plan.checks import NOT_IN_THE_NAME, resolve
from experiments.plan.config import fields_of
from experiments.preprocess import augment

_OURS = ('parent', 'name', 'axis_name', 'dtype', 'param_dtype')  # no fields of the net itself


def pack(
    variables: Mapping[str, Any], config: Any, dataset: data.Dataset, run: Mapping[str, Any]
) -> bytes:
    """The content of the file. variables: {'params': ..., 'batch_stats': ...}, of arrays."""
    needs = augment.needs(dataset.shape, **config.augment) & {'mean_image'}
    statistics = data.statistics_of(dataset, needs)
    given = {name: tree for name, tree in variables.items() if tree}
    if statistics.mean_image is not None:
        given['input'] = {'mean_image': statistics.mean_image}
    return weights.to_bytes(given, metadata_of(config, dataset, run))


def metadata_of(config: Any, dataset: data.Dataset, run: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says beside its tensors."""
    name, fields, channels = config.model.name, config.augment, dataset.shape[-1]
    size = augment.augmentation(
        dataset.shape,
        data.Statistics(dataset.mean, dataset.std, np.zeros(dataset.shape, np.float32)),
        **fields.to_dict() | {'colour': 0.0},
    ).size
    std = dataset.std if fields.subtract == 'channel_std' else np.full(channels, 1 / fields.white)
    made = {
        'net': name,
        'fields': _fields(config, len(dataset.classes), channels),
        'class_names': list(dataset.classes),
        'mean': list(map(float, dataset.mean)),
        'std': list(map(float, std)),
        'shape': list(map(int, dataset.shape)),
        'config': {k: v for k, v in resolve(config).items() if k not in NOT_IN_THE_NAME},
        'run': {**run, 'data': dataset.name},
    }
    if fields.subtract == 'pixel':
        del made['mean']
    if size[0] == size[1]:
        made['resolution'] = int(size[0])
    return made


def _fields(config: Any, classes: int, channels: int) -> dict[str, Any]:
    """The fields in which the trained net differs from its own choices."""
    name = config.model.name
    net = cnns.build(name, **fields_of(config), classes=classes, channels=channels)
    own = cnns.build(name)
    names = [field.name for field in dataclasses.fields(net) if field.name not in _OURS]
    found = {name: getattr(net, name) for name in names if getattr(net, name) != getattr(own, name)}
    if jnp.dtype(config.model.dtype) != jnp.float32:
        found['dtype'] = config.model.dtype
    return found
