"""Files of named tensors: safetensors, and those of torch.save, read without running anything.

    tensors = load('resnet18.pth')  # {'conv1.weight': float32 [64, 3, 7, 7], ...}
    tensors.notes                   # what was unwrapped and left out, in words

A safetensors file is read by the package of that name; it is 8 bytes of length, a header in JSON,
and the data. Files of torch.save: see torch_files. What a file is is read from its first bytes;
its name says nothing.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors

from cnns import torch_files
from cnns.torch_files import BFLOAT16, Tensor, kind, numbers, printable, whole

# fmt: off
_SAFETENSORS = {
    'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': BFLOAT16,
    'I64': '<i8', 'I32': '<i4', 'I16': '<i2', 'I8': 'i1',
    'U64': '<u8', 'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?',
}
# fmt: on

# Where training programs keep the weights in what they save, the most telling name first
_USUAL = ('state_dict', 'model_state_dict', 'model_state', 'model', 'net', 'network', 'weights')
_DEPTH = 3  # of dictionaries in dictionaries that are searched for tensors
_SHOWN = 8  # names that an error or a note shows


class Tensors(dict[str, np.ndarray]):
    """{name: array} of a file; `notes` says what was unwrapped and what was left out."""

    def __init__(self, arrays: Mapping[str, np.ndarray], notes: tuple[str, ...] = ()):
        super().__init__(arrays)
        self.notes = notes


def load(path: str | os.PathLike, *, part: str = '') -> Tensors:
    """Reads a file of safetensors or torch.save (.pth, .pt, .th, .pth.tar, .ckpt, ...), or the
    index.json of sharded ones: {name: array}, in the order of the file.

    A checkpoint that holds more than tensors is unwrapped: its state dict is read, the rest is left
    out without being made, and `notes` says both. `part` names another of its dictionaries
    ('model_ema'; 'a/b' for one inside another).

    float16 and bfloat16 become float32, other dtypes are kept. Arrays may be views of one buffer,
    and are read-only; none is larger than its storage in the file.

    Raises:
      ValueError: another kind of file (which is said), a damaged one, one without tensors by name,
        or with several sets of them of which none is the usual. Nothing from the file is executed
        in any case.
      OSError: the file cannot be read.
    """
    path = pathlib.Path(path)
    data = read_bytes(path)
    notes: list[str] = []
    select = lambda state: _select(state, part, notes)
    try:
        if data.startswith(b'PK'):
            return Tensors(torch_files.read_zip(data, select), tuple(notes))
        if data.startswith(torch_files.LEGACY_START):
            return Tensors(torch_files.read_legacy(data, select), tuple(notes))
        if part:
            raise ValueError(f'it has no parts, {part!r} cannot be taken from it.')
        if data.lstrip()[:1] == b'{' and b'"weight_map"' in data:
            return _read_shards(path, data)
        if kind_ := what(data):
            raise ValueError(f'{kind_}.')
        if path.suffix == '.safetensors' or data[8:9] == b'{':
            return Tensors(read_safetensors(data))
        raise ValueError(
            'it does not begin like a file of torch.save or safetensors; is it complete?'
        )
    except ValueError as error:
        raise ValueError(f'{path} cannot be read: {error}') from error


def save(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a .safetensors file, which PyTorch users load with safetensors.torch.load_file.

    metadata: texts that its header keeps beside the tensors.

    Raises:
      ValueError: a name or a dtype that the format lacks, or another suffix.
    """
    path = pathlib.Path(path)
    if path.suffix != '.safetensors':
        raise ValueError(f'{path}: only .safetensors is written; change the name.')
    data = to_bytes(tensors, metadata)
    path.write_bytes(data)


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a .safetensors file. Raises as save does."""
    kinds = {np.dtype(dtype): name for name, dtype in _SAFETENSORS.items() if dtype != BFLOAT16}
    header: dict[str, Any] = {'__metadata__': dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name, tensor in tensors.items():
        tensor = np.asarray(tensor)
        dtype = 'BF16' if tensor.dtype.name == BFLOAT16 else kinds.get(tensor.dtype)
        if dtype is None or name == '__metadata__':
            raise ValueError(f'{name!r} of {tensor.dtype} cannot be stored as safetensors.')
        begin, end = end, end + tensor.nbytes
        header[name] = {'dtype': dtype, 'shape': tensor.shape, 'data_offsets': [begin, end]}
        parts.append(tensor.tobytes())
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # the data begin at a multiple of 8
    return b''.join([len(text).to_bytes(8, 'little'), text, *parts])


# --- what a file is --------------------------------------------------------------------------

_STARTS = {
    b'\x1f\x8b': 'a gzip archive; unpack it',
    b'BZh': 'a bzip2 archive; unpack it',
    b'\xfd7zXZ': 'an xz archive; unpack it',
    b'\x89HDF': 'an HDF5 file, as Keras writes; only PyTorch and safetensors are read',
    b'\x93NUMPY': 'a NumPy array, not tensors by name',
    b'GGUF': 'a GGUF file, whose tensors are quantized',
    b'\x89PNG': 'a PNG image',
    b'\xff\xd8\xff': 'a JPEG image',
    b'%PDF': 'a PDF document',
    b'\x80': 'a pickle, but not one of torch.save',
}


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a file. Raises ValueError for what is none (a pipe would be waited for)."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f'{path} cannot be read: it is a {_special(path)}, not a file.')
    return path.read_bytes()


def _special(path):
    names = {'folder': path.is_dir, 'pipe': path.is_fifo, 'socket': path.is_socket}
    return next((name for name, test in names.items() if test()), 'device')


def what(data: bytes) -> str:
    """'it is ...' for data of a known other kind, '' for others and for safetensors."""
    if not data:
        return 'it is empty'
    if data[5:9] == b'\0\0\0{':  # a header in JSON, of less than a terabyte
        return ''
    text = data[:200].lstrip(b'\xef\xbb\xbf \t\r\n')
    if text.startswith(b'version https://git-lfs'):
        size = data[:400].partition(b'\nsize ')[2].partition(b'\n')[0][:20]
        stands = f' of {int(size):,} bytes' if size.isdigit() else ''
        return f'it is a Git LFS pointer to a file{stands}, not the file; get it by git lfs pull'
    if text.startswith(b'<'):
        page = 'web page (HTML)' if b'<html' in data[:1000].lower() else 'text in XML or HTML'
        return f'it is a {page}; download the file itself, not the page about it'
    for start, name in _STARTS.items():
        if data.startswith(start):
            return f'it is {name}'
    if data[257:262] == b'ustar':
        return 'it is a tar archive; unpack it'
    if data[0] & 0xF0 == 0x80 and data[1:2] and data[1] & 0xE0 == 0xA0:
        return 'it looks like msgpack, as flax writes; only PyTorch and safetensors are read'
    if all(32 <= byte < 127 or byte in b'\t\r\n' for byte in data[:200]):
        return f'it is a text that begins {printable(data[:40].decode("ascii"))!r}'
    return ''


# --- checkpoints -----------------------------------------------------------------------------


def _select(state: Any, part: str, notes: list[str]) -> dict[str, Tensor]:
    """The tensors by name among what a file holds; what that meant is appended to notes."""
    if type(state) is not dict:
        raise ValueError(
            f'it holds one {kind(state)}, where tensors by name are expected. Nothing was executed.'
            ' In PyTorch, save them so: torch.save(net.state_dict(), FILE).'
        )
    found = dict(_state_dicts(state))
    path = tuple(part.split('/')) if part else _usual(found, state)
    if path not in found:
        raise ValueError(f'it has no tensors in {part!r}; {_parts(found)}.')
    if path:
        notes.append(f'the tensors are those of {_name(path)!r} in the file')
    here: Any = state
    left_out = []
    for step in (*path, None):
        left_out += [
            (key, value)
            for key, value in here.items()
            if key != step and not (step is None and type(key) is str and isinstance(value, Tensor))
        ]
        here = here[step] if step is not None else here
    if any(kind(value) == torch_files.QUANTIZED for value in here.values()):
        raise ValueError(_QUANTIZED)
    if left_out:
        others = [other for other in found if other and other != path]
        hint = f'; {_parts(others)}' if others else ''
        notes.append(f'left out, and not made: {_listed(left_out)}{hint}')
    return {k: v for k, v in here.items() if type(k) is str and isinstance(v, Tensor)}


_QUANTIZED = (
    'its tensors are quantized, which these nets do not compute with; save the weights of the net '
    'before it was quantized.'
)


def _usual(found, state):
    """The path of the set of tensors that is meant where none is named."""
    if not found:
        inside = [state, *state.values()]
        if any(kind(part) == torch_files.QUANTIZED for part in inside):
            raise ValueError(_QUANTIZED)
        if any(_is_optimizer(part) for part in inside):
            raise ValueError(
                'it holds the state of an optimizer and no weights of a net '
                f'({_listed(state.items())}).'
            )
        raise ValueError(
            f'it holds no tensors by name but {_listed(state.items()) or "nothing"}. Nothing was '
            'executed. In PyTorch, save them so: torch.save(net.state_dict(), FILE).'
        )
    for name in _USUAL:
        if (name,) in found:
            return (name,)
    counts = {
        path: sum(isinstance(value, Tensor) for value in part.values())
        for path, part in found.items()
    }
    own = counts.pop((), 0)  # tensors beside the dictionaries: the weights, or a loss among them
    if own > max(counts.values(), default=0):
        return ()
    if len(counts) > 1:
        raise ValueError(f'it has several sets of tensors; {_parts(counts)}.')
    return next(iter(counts))


def _state_dicts(state: dict) -> Iterator[tuple[tuple[str, ...], dict]]:
    """The dictionaries with tensors by name, each once, by the keys that lead to it."""
    level: list[tuple[tuple[str, ...], dict]] = [((), state)]
    seen = {id(state)}
    for _ in range(_DEPTH):
        below = []
        for path, part in level:
            if _is_optimizer(part):
                continue
            if any(type(key) is str and isinstance(v, Tensor) for key, v in part.items()):
                yield path, part
            for key, value in part.items():
                if type(key) is str and type(value) is dict and id(value) not in seen:
                    seen.add(id(value))
                    below.append(((*path, key), value))
        level = below


def _is_optimizer(part):
    return type(part) is dict and 'param_groups' in part


def _name(path):
    return printable('/'.join(path))


def _parts(paths):
    names = [repr(_name(path)) for path in paths if path][:_SHOWN]
    return f'part= takes one of {", ".join(names)}' if names else 'it has no parts'


def _listed(items):
    texts = []
    for key, value in items:
        text = kind(key) if isinstance(key, torch_files.Opaque) else printable(repr(key))
        texts.append(f'{text} ({kind(value)})')
        if len(texts) > _SHOWN:
            return f'{", ".join(texts[:_SHOWN])} and {len(items) - _SHOWN} more'
    return ', '.join(texts)


# --- safetensors -----------------------------------------------------------------------------


def _read_shards(path: pathlib.Path, data: bytes) -> Tensors:
    """The tensors of all files that an index names; they lie in its folder."""
    try:
        shards = json.loads(data)['weight_map']
        names = list(dict.fromkeys(shards.values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError('it is no index of tensors; is it complete?') from error
    arrays = {}
    for name in names:
        # An index leads nowhere but to files beside it, and not to other indices
        if type(name) is not str or pathlib.PurePath(name).name != name or name.endswith('.json'):
            raise ValueError(f'it names {printable(name)!r}, which is no file beside it.')
        shard = path.with_name(name)
        if not shard.exists():
            raise ValueError(f'its part {printable(name)!r} is not beside it.')
        arrays[name] = load(shard)
    missing = [name for name, shard in shards.items() if name not in arrays[shard]]
    if missing:
        raise ValueError(f'{printable(missing[0])!r} is not in {shards[missing[0]]!r} as it says.')
    read = {name: arrays[shard][name] for name, shard in shards.items()}
    return Tensors(read, (f'read from {len(names)} files: {", ".join(names[:_SHOWN])}',))


def read_safetensors(data: bytes, *, widen: bool = True) -> dict[str, np.ndarray]:
    """The arrays of a file's content; widen: 16-bit floats become float32.

    Raises ValueError for what is no safetensors file.
    """
    try:
        read = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError as error:
        raise ValueError(_fault(data) or f'{error}.') from error
    tensors = {}
    for name in _header(data):  # the package does not keep the order
        dtype, shape = read[name]['dtype'], read[name]['shape']
        if dtype not in _SAFETENSORS:
            raise ValueError(_other_dtype(name, dtype))
        values = numbers(read[name]['data'], _SAFETENSORS[dtype], math.prod(shape), widen=widen)
        tensors[name] = values.reshape(shape)
    return tensors


def metadata(data: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file's content, {} where there are none."""
    texts = _json_header(data).get('__metadata__', {})
    return texts if isinstance(texts, dict) else {}


def _header(data: bytes) -> dict[str, Any]:
    """The description of each tensor. Raises ValueError for what is no header."""
    header = _json_header(data)
    header.pop('__metadata__', None)
    return header


def _json_header(data: bytes) -> dict[str, Any]:
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
        said = repr(printable(name))
        if not isinstance(entry, dict) or not {'dtype', 'shape', 'data_offsets'} <= set(entry):
            return f'{said} is not described by dtype, shape and data_offsets.'
        dtype, shape, span = entry['dtype'], entry['shape'], entry['data_offsets']
        if not isinstance(dtype, str) or dtype not in _SAFETENSORS:
            return _other_dtype(name, dtype)
        lists = isinstance(shape, list) and isinstance(span, list) and len(span) == 2
        if not lists or len(shape) > 32 or not whole(*shape, *span):
            texts = printable(shape), printable(span)
            return f'{said} has shape {texts[0]} at {texts[1]}: whole numbers are expected.'
        begin, end = span
        expected = math.prod(shape) * torch_files.bytes_per_value(_SAFETENSORS[dtype])
        if end - begin != expected or end > size:
            return (
                f'{said} of shape {printable(shape)} lies at bytes {begin} to {end} of {size}; is '
                'the file complete?'
            )
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            return f'its tensors overlap or leave a hole at byte {min(begin, position)}.'
        position = end
    return f'{size - position} bytes at its end belong to no tensor.' if position < size else ''


def _other_dtype(name: str, dtype: Any) -> str:
    return (
        f'{printable(name)!r} has dtype {printable(dtype)!r}; {", ".join(_SAFETENSORS)} can be '
        'read.'
    )
