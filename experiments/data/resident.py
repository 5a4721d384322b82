"""Batches on accelerators: placed there, or gathered from images that stay in their memory."""

import weakref
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.data.batch_plan import shard
from experiments.data.memory import InMemory

_SHARE = 0.25  # of an accelerator's free memory that the images of a split may take


class Resident(NamedTuple):
    """A split on accelerators."""

    images: list[jax.Array]  # uint8 [1, N, H, W, C], a copy on each device
    labels: np.ndarray  # int32 [N]


_residents: dict[tuple, Resident | None] = {}  # by id of the images, and devices


def accelerators(devices: int) -> list[jax.Device]:
    """The first local devices, or [] where they are the CPU, whose memory is the host's."""
    found = jax.local_devices()[:devices]
    return [] if found[0].platform == 'cpu' or len(found) < devices else found


def place(batch: dict, devices: list[jax.Device]) -> dict:
    """The arrays [devices, n, ...] of a batch, a slice on each device."""
    return jax.device_put(batch, _sharding(devices))


def resident(split: InMemory, devices: list[jax.Device]) -> Resident | None:
    """The split with its images on each of the devices, or None where they do not fit."""
    key = (id(split.images), tuple(devices))
    if key not in _residents:
        fits = all(split.images.nbytes <= _SHARE * _free(device) for device in devices)
        _residents[key] = _placed(split, devices) if fits else None
        weakref.finalize(split.images, _residents.pop, key, None)
    return _residents[key]


def _placed(split: InMemory, devices: list[jax.Device]) -> Resident:
    copies = [jax.device_put(split.images[None], device) for device in devices]
    return Resident(copies, split.labels)


def whole(split: InMemory, devices: int) -> jax.Array | None:
    """All images, uint8 [devices, N, H, W, C], a copy on each of the first devices.

    None where accelerators lack the room; CPUs take them as they come.
    """
    if targets := accelerators(devices):
        found = resident(split, targets)
    else:
        targets = jax.local_devices()[:devices]
        key = (id(split.images), 'whole', tuple(targets))
        if key not in _residents:
            _residents[key] = _placed(split, targets)
            weakref.finalize(split.images, _residents.pop, key, None)
        found = _residents[key]
    if found is None:
        return None
    shape = (len(targets), *split.images.shape)
    return jax.make_array_from_single_device_arrays(shape, _sharding(targets), found.images)


def gather(split: Resident, rows: np.ndarray, devices: list[jax.Device]) -> dict:
    """The batch of these examples, as `batches.read_step` has it, [devices, n, ...]."""
    real = rows >= 0
    places = shard(np.where(real, rows, len(split.labels)).astype(np.int32), len(devices))
    pieces = [
        _take(images, jax.device_put(own, device))
        for images, own, device in zip(split.images, places, devices, strict=True)
    ]
    sharding = _sharding(devices)
    images = jax.make_array_from_single_device_arrays(
        (len(devices), *pieces[0].shape[1:]), sharding, pieces
    )
    rest = {
        'label': shard(np.where(real, split.labels[rows], 0).astype(np.int32), len(devices)),
        'mask': shard(real.astype(np.float32), len(devices)),
    }
    return {'image': images} | jax.device_put(rest, sharding)


@jax.jit
def _take(images, rows):
    # a place beyond the end, as padding examples have, gives zeros
    return jnp.take(images[0], rows, axis=0, mode='fill', fill_value=0)[None]


def _sharding(devices):
    return NamedSharding(Mesh(np.array(devices), ('devices',)), PartitionSpec('devices'))


def _free(device) -> float:
    stats = device.memory_stats() or {}
    return stats.get('bytes_limit', 0) - stats.get('bytes_in_use', 0)
