"""Files of named tensors: safetensors, and those of torch.save, read without unpickling objects.

    tensors = load('resnet18.pth')  # {'conv1.weight': float32 [64, 3, 7, 7], ...}

A pickle is a program: loading one may run anything. Here the pickles inside .pth files go through
an unpickler that knows a few names, which can only describe a tensor; a file
that asks for another name is refused before anything is made. A safetensors file is read by the
package of that name; it is 8 bytes of length, a header in JSON, and the data.
"""

import collections
import io
import json
import math
import os
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import safetensors

SUFFIXES = ('.safetensors', '.pth', '.pt')

# numpy has no bfloat16: its bits are read
_BFLOAT16 = 'bfloat16'
# fmt: off
_SAFETENSORS = {
    'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': _BFLOAT16,
    'I64': '<i8', 'I32': '<i4', 'I16': '<i2', 'I8': 'i1',
    'U64': '<u8', 'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?',
}
_STORAGES = {
    'DoubleStorage': '<f8', 'FloatStorage': '<f4', 'HalfStorage': '<f2',
    'BFloat16Storage': _BFLOAT16, 'LongStorage': '<i8', 'IntStorage': '<i4',
    'ShortStorage': '<i2', 'CharStorage': 'i1', 'ByteStorage': 'u1', 'BoolStorage': '?',
}
# fmt: on

# The first pickle of a file that torch.save wrote before version 1.6: one number
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = pickle.dumps(_LEGACY_MAGIC, 2)


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a .safetensors, .pth or .pt file: {name: array}, in the order of the file.

    float16 and bfloat16 become float32, other dtypes are kept. Arrays may be views of one buffer,
    and are read-only.

    Raises:
      ValueError: another kind of file, a damaged one, or one that holds anything but tensors (what
        was found is named). Nothing from the file is executed in any case.
      OSError: the file cannot be read.
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f'{path} is no file of tensors by its name; {", ".join(SUFFIXES)} can be read.'
        )
    data = path.read_bytes()
    try:
        if suffix == '.safetensors':
            return _read_safetensors(data)
        if data.startswith(b'PK'):
            return _read_zip(data)
        if data.startswith(_LEGACY_START):
            return _read_legacy(data)
        raise ValueError('it does not begin like a file of torch.save; is it complete?')
    except ValueError as error:
        raise ValueError(f'{path} cannot be read: {error}') from error


def save(path: str | os.PathLike, tensors: dict[str, np.ndarray]) -> None:
    """Writes a .safetensors file, which PyTorch users load with safetensors.torch.load_file.

    Raises:
      ValueError: a name or a dtype that the format lacks, or another suffix.
    """
    path = pathlib.Path(path)
    if path.suffix != '.safetensors':
        raise ValueError(f'{path}: only .safetensors is written; change the name.')
    kinds = {np.dtype(dtype): kind for kind, dtype in _SAFETENSORS.items() if dtype != _BFLOAT16}
    header, parts, end = {}, [], 0
    for name, tensor in tensors.items():
        tensor = np.asarray(tensor)
        if tensor.dtype not in kinds or name == '__metadata__':
            raise ValueError(f'{name!r} of {tensor.dtype} cannot be stored as safetensors.')
        begin, end = end, end + tensor.nbytes
        dtype, shape = kinds[tensor.dtype], tensor.shape
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}
        parts.append(tensor)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # the data begin at a multiple of 8
    with open(path, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for tensor in parts:
            file.write(tensor.tobytes())


def _values(data: Any, dtype: str, count: int, offset: int = 0, order: str = '<') -> np.ndarray:
    """`count` values of a buffer, [count]; 16-bit floats become float32, which is exact."""
    if dtype == _BFLOAT16:
        bits = np.frombuffer(data, order + 'u2', count, offset).astype(np.uint32)
        values = (bits << 16).view(np.float32)
    else:
        values = np.frombuffer(data, dtype.replace('<', order), count, offset)
        native = np.float32 if dtype == '<f2' else values.dtype.newbyteorder('=')
        values = values.astype(native, copy=False)
    values.flags.writeable = False
    return values


def _bytes_per_value(dtype: str) -> int:
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize


def _whole(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


# --- safetensors -----------------------------------------------------------------------------


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        read = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError as error:
        raise ValueError(_fault(data) or f'{error}.') from error
    tensors = {}
    for name in _header(data):  # the package does not keep the order
        dtype, shape = read[name]['dtype'], read[name]['shape']
        if dtype not in _SAFETENSORS:
            raise ValueError(_other_dtype(name, dtype))
        values = _values(read[name]['data'], _SAFETENSORS[dtype], math.prod(shape))
        tensors[name] = values.reshape(shape)
    return tensors


def _header(data: bytes) -> dict[str, Any]:
    """The description of each tensor. Raises ValueError for what is no header."""

    def unique(pairs):
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            raise ValueError('its header gives a name twice.')
        return mapping

    length = int.from_bytes(data[:8], 'little')
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(
            f'its header should be {length} bytes long, the file has {len(data)}; is '
            'it complete, and is it safetensors?'
        )
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError('its header is not JSON; is it safetensors?') from error
    if not isinstance(header, dict):
        raise ValueError('its header is not a JSON object; is it safetensors?')
    header.pop('__metadata__', None)
    return header


def _fault(data: bytes) -> str:
    """What is wrong with a file that the package refuses; '' where nothing here finds it."""
    try:
        header = _header(data)
    except ValueError as error:
        return str(error)
    size = len(data) - 8 - int.from_bytes(data[:8], 'little')
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or not {'dtype', 'shape', 'data_offsets'} <= set(entry):
            return f'{name!r} is not described by dtype, shape and data_offsets.'
        dtype, shape, span = entry['dtype'], entry['shape'], entry['data_offsets']
        if not isinstance(dtype, str) or dtype not in _SAFETENSORS:
            return _other_dtype(name, dtype)
        lists = isinstance(shape, list) and isinstance(span, list) and len(span) == 2
        if not lists or not _whole(*shape, *span):
            return f'{name!r} has shape {shape} at {span}: whole numbers are expected.'
        begin, end = span
        expected = math.prod(shape) * _bytes_per_value(_SAFETENSORS[dtype])
        if end - begin != expected or end > size:
            return (
                f'{name!r} of shape {shape} lies at bytes {begin} to {end} of {size}; is the file '
                'complete?'
            )
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            return f'its tensors overlap or leave a hole at byte {min(begin, position)}.'
        position = end
    return f'{size - position} bytes at its end belong to no tensor.' if position < size else ''


def _other_dtype(name: str, dtype: Any) -> str:
    return f'{name!r} has dtype {dtype!r}; {", ".join(_SAFETENSORS)} can be read.'


# --- torch.save ------------------------------------------------------------------------------


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int  # in values


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it; its values are looked up after the pickle was read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values, not bytes


class _Rebuild:
    """Stands for torch's functions that build a tensor. No attribute of it can be set."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *rest):
        # rest: requires_grad, hooks, metadata; none changes the values
        if not (
            isinstance(storage, _Storage)
            and type(shape) is tuple
            and type(strides) is tuple
            and len(shape) == len(strides)
            and _whole(offset, *shape, *strides)
        ):
            raise ValueError('it describes a tensor wrongly.')
        return _Tensor(storage, offset, shape, strides)


class _Parameter:
    """Stands for torch's function that wraps a tensor as a parameter."""

    __slots__ = ()

    def __call__(self, tensor, *rest):
        if not isinstance(tensor, _Tensor):
            raise ValueError('it describes a parameter wrongly.')
        return tensor


class _Unpickler(pickle.Unpickler):
    """Knows the names below and no others.

    What find_class gives out can neither run code nor be changed by the pickle: immutable objects
    and two built-in types. A tensor becomes an array only when the pickle has been read to its end.
    """

    def find_class(self, module, name):
        if (module, name) == ('collections', 'OrderedDict'):
            return collections.OrderedDict
        if (module, name) == ('torch', 'Size'):
            return tuple
        if module == 'torch._utils' and name in ('_rebuild_tensor', '_rebuild_tensor_v2'):
            return _Rebuild()
        if module == 'torch._utils' and name == '_rebuild_parameter':
            return _Parameter()
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        raise ValueError(
            f'it holds {module}.{name}, which is no tensor. Nothing was executed. '
            'Save the tensors alone: torch.save(model.state_dict(), FILE).'
        )

    def persistent_load(self, pid):
        # ('storage', type, key, device, count), in old files with the part of another storage that
        # this one is
        kind, dtype, key, _, count, *view = pid
        if (
            kind != 'storage'
            or dtype not in _STORAGES.values()
            or type(key) is not str
            or not _whole(count)
            or view not in ([], [None])
        ):
            raise ValueError('it describes a storage wrongly.')
        return _Storage(key, dtype, count)


def _unpickle(file: io.BytesIO) -> Any:
    """Reads the next pickle of a file in memory."""
    start, size = file.tell(), len(file.getbuffer())
    try:
        # A memo index is memory: the unpickler makes room for it and for all below it
        for opcode, value, _ in pickletools.genops(file):
            sized = opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'FRAME')
            if sized and (value is None or value > size):
                raise ValueError(f'{opcode.name} of {value}')
    except Exception as error:  # bytes that are no pickle may raise anything
        raise ValueError(f'its pickle is damaged ({error}).') from error
    file.seek(start)
    try:
        return _Unpickler(file).load()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f'its pickle is damaged ({error}).') from error


def _described(state: Any) -> dict[str, _Tensor]:
    """Checks that what was unpickled is tensors by name, all of it."""
    if not isinstance(state, dict):
        raise ValueError(
            f'it holds one {_kind(state)}, where tensors by name are expected. Save '
            'them so: torch.save(model.state_dict(), FILE).'
        )
    items = list(dict.items(state))  # a pickle can hide an OrderedDict's own method
    others = [(k, v) for k, v in items if not (isinstance(k, str) and isinstance(v, _Tensor))]
    if not others:
        return dict(items)
    found = ', '.join(f'{key!r} ({_kind(value)})' for key, value in others[:5])
    found += f' and {len(others) - 5} more' if len(others) > 5 else ''
    remedy = 'torch.save(model.state_dict(), FILE)'
    for key, value in others:
        values = list(dict.values(value)) if isinstance(value, dict) else []
        if values and all(isinstance(part, _Tensor) for part in values):
            remedy = f'torch.save(torch.load(FILE)[{key!r}], NEW)'
            break
    raise ValueError(f'it holds more than tensors: {found}. Save the tensors alone: {remedy}.')


def _kind(value):
    return 'tensor' if isinstance(value, _Tensor) else type(value).__name__


def _build(described: dict[str, _Tensor], values: Callable) -> dict[str, np.ndarray]:
    """Arrays of described tensors; values(storage) gives the storage's values, [count]."""
    arrays = {}
    for name, (storage, offset, shape, strides) in described.items():
        flat = values(storage)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
        if 0 not in shape and last >= len(flat):
            raise ValueError(
                f'{name!r} of shape {shape} reaches beyond its storage: value {last} '
                f'of {len(flat)}.'
            )
        if 0 in shape:
            offset, strides = 0, (0,) * len(shape)
        try:
            steps = [stride * flat.itemsize for stride in strides]
            strided = np.lib.stride_tricks.as_strided
            arrays[name] = strided(flat[offset:], shape, steps, writeable=False)
        except (ValueError, OverflowError) as error:
            raise ValueError(f'{name!r} has the impossible shape {shape}.') from error
    return arrays


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # a damaged directory fails in many ways
        raise ValueError('it is no whole zip archive; is it complete?') from error
    with archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError(
                f'it is a zip archive, but not one of torch.save: it has {len(pickles)} data.pkl.'
            )
        folder = pickles[0].removesuffix('data.pkl')

        def read(name):
            entry = entries.get(folder + name)
            if entry is None:
                raise ValueError(f'its part {name!r} is missing.')
            # torch.save compresses nothing: so no part is larger than the file
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'its part {name!r} is compressed, which torch.save never does.')
            try:
                return archive.read(entry)
            except Exception as error:
                raise ValueError(f'its part {name!r} is damaged ({error}).') from error

        orders = {b'little': '<', b'big': '>'}
        order = read('byteorder') if folder + 'byteorder' in entries else b'little'
        if order not in orders:
            raise ValueError(f'its byte order is {order[:20]!r}.')
        order, stored = orders[order], {}

        def values(storage):
            if storage not in stored:
                part = read(f'data/{storage.key}')
                if len(part) != storage.size * _bytes_per_value(storage.dtype):
                    raise ValueError(
                        f'its part data/{storage.key} has {len(part)} bytes, not '
                        f'{storage.size} values; is the file complete?'
                    )
                stored[storage] = _values(part, storage.dtype, storage.size, order=order)
            return stored[storage]

        return _build(_described(_unpickle(io.BytesIO(read('data.pkl')))), values)


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """The form of torch.save before version 1.6: five pickles, then the storages one by one."""
    file = io.BytesIO(data)
    if _unpickle(file) != _LEGACY_MAGIC or _unpickle(file) != 1001:
        raise ValueError('it is of an unknown version.')
    _unpickle(file)  # about the machine that wrote it; the values are little-endian always
    described = _described(_unpickle(file))
    keys = _unpickle(file)
    storages = {tensor.storage.key: tensor.storage for tensor in described.values()}
    if (
        type(keys) is not list
        or sorted(map(str, keys)) != sorted(storages)
        or not all(type(key) is str for key in keys)
    ):
        raise ValueError('its tensors and its storages differ.')
    stored, position = {}, file.tell()
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(data[position : position + 8], 'little')
        size = storage.size * _bytes_per_value(storage.dtype)
        if count != storage.size or position + 8 + size > len(data):
            raise ValueError(
                f'its storage {key} should have {storage.size} values; is the file complete?'
            )
        stored[storage] = _values(data, storage.dtype, count, position + 8)
        position += 8 + size

    def values(storage):
        if storage not in stored:
            raise ValueError(f'its storage {storage.key} is described in two ways.')
        return stored[storage]

    return _build(described, values)
