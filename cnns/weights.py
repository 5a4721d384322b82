"""Our own files of weights: the variables of a net with what is needed to use them.

    save('mine.safetensors', variables, dict(net='resnet20', fields=dict(classes=5), ...))
    variables, metadata = load('mine.safetensors')
    logits = build(metadata).apply(variables, images, train=False)

A file is a safetensors file, so other programs read its tensors, named 'params/conv1/conv/kernel'.
Its header keeps the metadata as JSON, and a digest of metadata and tensors: a file with a changed
bit is refused.

    net           name of cnns.NETS; fields: those of it that differ from the net's own
    class_names   list of texts, in the order of the classes
    mean, std     what the net's images were normalised by, per channel, of pixels in 0..1
    resolution    side of the images in pixels
    run           what made the weights: free, for people

All but net may be missing, and others may be added. Where the training subtracted a mean image,
the tensor 'input/mean_image', float32 [H, W, C] of pixels in 0..1, takes the place of mean; the
nets ignore it.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import numpy as np

import cnns
from cnns import layers, tensors

_KEY = 'cnns'  # of the header, with the metadata
_DIGEST = 'sha256'


def save(path: str | os.PathLike, variables: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Writes a .safetensors file of variables {'params': ..., ...} and metadata, values as JSON.

    Raises:
      ValueError: metadata without a net's name, wrong for it, or not JSON; another suffix.
    """
    path = pathlib.Path(path)
    if path.suffix != '.safetensors':
        raise ValueError(f'{path}: weights are written as .safetensors; change the name.')
    path.write_bytes(to_bytes(variables, metadata))


def load(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads such a file: variables of read-only numpy arrays with their dtypes, and metadata.

    Raises:
      ValueError: another kind of file, a damaged one, or metadata that are wrong.
      OSError: the file cannot be read.
    """
    data = tensors.read_bytes(path)
    try:
        return from_bytes(data)
    except ValueError as error:
        raise ValueError(f'{path} cannot be read: {error}') from error


def to_bytes(variables: Mapping[str, Any], metadata: dict[str, Any]) -> bytes:
    """The content of the file that save writes."""
    check(metadata)
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f'metadata of weights have to be JSON: {error}.') from error
    flat = flax.traverse_util.flatten_dict(flax.core.unfreeze(dict(variables)), sep='/')
    arrays = {name: np.asarray(array) for name, array in flat.items()}
    header = {'format': 'cnns', _KEY: text, _DIGEST: _digest(text, arrays)}
    return tensors.to_bytes(arrays, header)


def from_bytes(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inverse of to_bytes. Raises ValueError as load does."""
    if data[:2] == b'PK' or (what := tensors.what(data)):
        kind = 'it is a zip archive, as torch.save writes' if data[:2] == b'PK' else what
        raise ValueError(f"{kind}; weights of our own are read here, PyTorch's by cnns.convert.")
    arrays = tensors.read_safetensors(data, widen=False)
    header = tensors.metadata(data)
    text = header.get(_KEY)
    if text is None:
        raise ValueError(
            'it has tensors, but not what they are for: weights of our own are read here, '
            "PyTorch's by cnns.convert."
        )
    if header.get(_DIGEST) != _digest(text, arrays):
        raise ValueError('its content is not what was written: the file is damaged.')
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError('its metadata are not JSON.') from error
    check(metadata)
    return flax.traverse_util.unflatten_dict(arrays, sep='/'), metadata


def build(metadata: Mapping[str, Any]) -> layers.Net:
    """The net that metadata are about.

    Raises:
      ValueError: an unknown net or field, with the nearest one.
    """
    fields = metadata.get('fields', {})
    # JSON has no tuples
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return cnns.build(metadata['net'], **tuples)


def check(metadata: Any) -> None:
    """Raises ValueError where the keys that are known above have other kinds of values."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get('net'), str):
        raise ValueError("metadata of weights need 'net', the name of a net.")
    if not isinstance(metadata.get('fields', {}), dict):
        raise ValueError("metadata of weights: fields have to be a dict of the net's fields.")
    net = build(metadata)
    names = metadata.get('class_names')
    if names is not None and not (
        isinstance(names, list | tuple)
        and all(isinstance(name, str) for name in names)
        and len(names) == net.classes
    ):
        raise ValueError(
            f'metadata of weights: class_names have to be {net.classes} texts, as the net has '
            'classes.'
        )
    for key in ('mean', 'std'):
        values = metadata.get(key)
        if values is not None and not (
            isinstance(values, list | tuple)
            and len(values) == net.channels
            and all(type(v) in (int, float) for v in values)
            and (key == 'mean' or min(values) > 0)
        ):
            raise ValueError(
                f'metadata of weights: {key} has to be {net.channels} numbers'
                f'{", above 0" if key == "std" else ""}, one for each channel.'
            )
    side = metadata.get('resolution')
    if side is not None and not (type(side) is int and side > 0):
        raise ValueError('metadata of weights: resolution has to be a number of pixels.')


def _digest(text, arrays):
    digest = hashlib.sha256(str(text).encode(errors='replace'))
    for name, array in arrays.items():
        digest.update(repr((name, array.dtype.name, array.shape)).encode(errors='replace'))
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
