"""A training between two steps as one file, so that an interrupted one can continue.

    points/NAME/checkpoint.msgpack    while a run is trained

Large states are written by large.py instead.

It is a tree of arrays, written by flax.serialization, after a digest of what follows. The weights
of a finished run are written by saved.py; the digest of that file is in the run's row.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import serialization

from experiments.errors import reason
from experiments.files import write_whole
from experiments.train.optim import Control

_DIGEST = 64  # bytes
_VERSION = 2  # of the files; others are left alone and the training starts over
DEVICES = 'devices'  # on which it was trained; another number is said, and does not hinder


class Misfit(Exception):
    """A snapshot whose state is not that of the training: of another structure or other shapes."""


class Snapshot(NamedTuple):
    """A training between two steps; with its config and its data, all that it needs."""

    epoch: int  # epochs done
    step: int  # steps done
    controls: tuple[Control, ...]  # of each of the runs trained together
    validation: tuple[dict[str, float], ...]  # of each, after the last epoch
    state: Any  # the trainer's State, or what flax.serialization.to_state_dict makes of it
    records: tuple[dict[str, Any], ...] = ()  # of each, what its row will hold of the epochs so far
    # inside an epoch, of its steps: {'loss', 'error': float32 [steps, runs], 'seconds': float}
    partial: dict[str, Any] | None = None


def save(path: str | os.PathLike, made_of: dict[str, Any], snapshot: Snapshot) -> None:
    """Writes the file whole or leaves the old one.

    made_of: {what: value} that `read` compares. Raises OSError (disk full, read-only).
    """
    write_whole(path, packed(made_of, snapshot))


def packed(made_of: dict[str, Any], snapshot: Snapshot) -> bytes:
    """The content of the file."""
    header = json.dumps([_VERSION, made_of, *progress_of(snapshot)])
    state = _arrays(jax.device_get(snapshot.state))
    kept = {'header': header, 'state': state}
    if snapshot.partial is not None:
        kept['partial'] = snapshot.partial
    content = serialization.msgpack_serialize(kept)
    return digest_of(content).encode() + content


def read(path: str | os.PathLike, made_of: dict[str, Any]) -> tuple[Snapshot | None, str]:
    """The snapshot of a file or None, and why it cannot be used, '' if there is no file."""
    try:
        data = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return None, ''
    except OSError as error:
        return None, f'{path} cannot be read ({reason(error)}); the training starts over'
    try:
        snapshot, version, of = parsed(data)
        differ = differing(of, made_of)
    except Exception as error:  # msgpack raises many kinds for a damaged file
        return None, f'{path} is damaged ({reason(error)}); the training starts over'
    if version != _VERSION:
        differ = 'version of the file'
    if differ:
        return None, f'{path} is of another {differ}; the training starts over'
    return snapshot, moved(of, made_of)


def parsed(data: bytes) -> tuple[Snapshot, int, dict[str, Any]]:
    """The snapshot in the content of a file, the version of the file, and what it is made of.

    Raises an exception of many kinds for a damaged file.
    """
    found, data = data[:_DIGEST].decode(), data[_DIGEST:]
    if found != digest_of(data):
        raise ValueError('it is not what was written')
    content = serialization.msgpack_restore(data)
    version, of, *progress = json.loads(content['header'])
    return snapshot_of(progress, content['state'], content.get('partial')), version, of


def progress_of(snapshot: Snapshot) -> list[Any]:
    """What `snapshot_of` takes beside the arrays, for JSON."""
    controls = [list(control) for control in snapshot.controls]
    return [snapshot.epoch, snapshot.step, controls, snapshot.validation, snapshot.records]


def snapshot_of(progress: Sequence[Any], state: Any, partial: dict[str, Any] | None) -> Snapshot:
    """A snapshot from the JSON of its first four fields and its records, and its arrays."""
    epoch, step, controls, validation, records = progress
    controls = tuple(Control(*control) for control in controls)
    return Snapshot(epoch, step, controls, tuple(validation), state, tuple(records), partial)


def differing(of: dict[str, Any], made_of: dict[str, Any]) -> str:
    """The names of what a checkpoint is of and a training is not, or ''; but for DEVICES."""
    asked = json.loads(json.dumps(made_of))
    return ', '.join(
        what for what, value in asked.items() if what != DEVICES and of.get(what) != value
    )


def moved(of: dict[str, Any], made_of: dict[str, Any]) -> str:
    """What is said of a training that continues on another number of devices, or ''."""
    before, now = of.get(DEVICES), made_of.get(DEVICES)
    if before in (None, now):  # None: older code did not write it
        return ''
    return (
        f'the checkpoint is of a training on {before} devices, which continues on {now}: sums are '
        'rounded otherwise, and each device draws its own dropout'
    )


def restored(snapshot: Snapshot, like: Any) -> Any:
    """The snapshot's state on the devices where `like`, a state of the same training, is.

    Raises Misfit: it belongs to another training.
    """
    try:
        state = serialization.from_state_dict(like, snapshot.state)
    except (ValueError, KeyError, AttributeError) as error:
        raise Misfit(reason(error)) from error

    def place(like, leaf):
        if (like.shape, like.dtype) != (leaf.shape, leaf.dtype):
            raise Misfit(f'{leaf.dtype}{leaf.shape} instead of {like.dtype}{like.shape}')
        # a copy: the step donates the memory of its arguments
        return jax.device_put(np.array(leaf), like.sharding)

    return jax.tree.map(place, like, state)


def digest_of(content: bytes) -> str:
    """64 hexadecimal digits, by which a file that was damaged or changed is noticed."""
    return hashlib.sha256(content).hexdigest()


def weights_fault(path: str | os.PathLike, digest: str | None) -> str:
    """Why a file of weights is not the one of this digest, or ''. None: of older code."""
    try:
        content = pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return 'missing'
    except OSError as error:
        return reason(error)
    return '' if digest in (None, digest_of(content)) else 'damaged'


def _arrays(tree: Any) -> Any:
    return jax.tree.map(np.asarray, serialization.to_state_dict(tree))
