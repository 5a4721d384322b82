"""Files of torch.save, read without PyTorch: the tensors are found, nothing else is made.

A pickle is a program: loading one may run anything. Here its operations are followed one by one
and none of them calls what the file names. What describes a tensor becomes a description of one,
dictionaries, lists, tuples and plain values become themselves, and everything else becomes an
`Opaque` that holds a name. So the cost is that of the bytes of the file: no text, hash or copy of
what a file nested is ever asked for.
"""

import io
import math
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax import dtypes

BFLOAT16 = 'bfloat16'  # numpy alone has none: its bits are read
STORAGES = {
    'DoubleStorage': '<f8',
    'FloatStorage': '<f4',
    'HalfStorage': '<f2',
    'BFloat16Storage': BFLOAT16,
    'LongStorage': '<i8',
    'IntStorage': '<i4',
    'ShortStorage': '<i2',
    'CharStorage': 'i1',
    'ByteStorage': 'u1',
    'BoolStorage': '?',
}

# The first pickle of a file that torch.save wrote before version 1.6: one number
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = pickle.dumps(_LEGACY_MAGIC, 2)

OPERATIONS = 4_000_000  # of one pickle; ResNet-1202 with its optimiser has under one million


class Opaque:
    """What was not made: an object, function or class of the file, by its name."""

    __slots__ = ('name',)

    def __init__(self, name: str):
        self.name = name


class Storage(NamedTuple):
    key: str
    dtype: str
    size: int  # in values


class Tensor(NamedTuple):
    """A tensor as the pickle describes it; its values are looked up after the pickle was read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values, not bytes


def kind(value: Any) -> str:
    """What a value of a file is, in a word or a name; never the text of its content."""
    if isinstance(value, Opaque):
        return printable(value.name)
    return 'tensor' if isinstance(value, Tensor) else type(value).__name__


def printable(text: Any, length: int = 80) -> str:
    """The text of a name that a file gives, safe for a terminal and of a bounded length."""
    text = str(text)
    cut = text if len(text) <= length else text[: length - 3] + '...'
    return ''.join(letter if letter.isprintable() else '?' for letter in cut)


def whole(*values: Any) -> bool:
    """Whether all are numbers of values or bytes: int, not negative."""
    return all(type(value) is int and 0 <= value <= sys.maxsize for value in values)


def bytes_per_value(dtype: str) -> int:
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def numbers(
    data: Any, dtype: str, count: int, offset: int = 0, order: str = '<', widen: bool = True
) -> np.ndarray:
    """`count` values of a buffer, [count]; widen: 16-bit floats become float32, which is exact."""
    if dtype == BFLOAT16 and not widen:
        values = np.frombuffer(data, order + 'u2', count, offset).view(dtypes.bfloat16)
    elif dtype == BFLOAT16:
        bits = np.frombuffer(data, order + 'u2', count, offset).astype(np.uint32)
        values = (bits << 16).view(np.float32)
    else:
        values = np.frombuffer(data, dtype.replace('<', order), count, offset)
        native = np.float32 if dtype == '<f2' and widen else values.dtype.newbyteorder('=')
        values = values.astype(native, copy=False)
    values.flags.writeable = False
    return values


# --- pickles ---------------------------------------------------------------------------------

_TENSORS = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
_PARAMETERS = (
    'torch._utils._rebuild_parameter',
    'torch._utils._rebuild_parameter_with_state',
    'torch.nn.parameter.Parameter',
    'torch.nn.parameter.Buffer',
)
QUANTIZED = 'torch._utils._rebuild_qtensor'


def _call(function, arguments):
    """What a call of the file gives. The function is not called, whatever it is."""
    name = function.name if isinstance(function, Opaque) else kind(function)
    arguments = arguments if type(arguments) is tuple else ()
    if name in _TENSORS:
        return _tensor(*arguments[:4])
    if name in _PARAMETERS and arguments:
        if not isinstance(arguments[0], Tensor):
            raise ValueError('it describes a parameter wrongly.')
        return arguments[0]
    if name in ('collections.OrderedDict', 'collections.defaultdict'):
        made: dict = {}
        pairs = arguments[0] if arguments and type(arguments[0]) is list else []
        for pair in pairs:  # as Python 2 wrote them
            _set(made, *(pair if type(pair) in (list, tuple) and len(pair) == 2 else ()))
        return made
    if name == 'torch.Size' and arguments and type(arguments[0]) is tuple:
        return arguments[0]
    return Opaque(name)


def _tensor(storage=None, offset=None, shape=None, strides=None):
    # what follows in the file (requires_grad, hooks, metadata) does not change the values
    if not (
        isinstance(storage, Storage)
        and type(shape) is tuple
        and type(strides) is tuple
        and len(shape) == len(strides) <= 32  # numpy 1 has no more axes
        and whole(offset, *shape, *strides)
    ):
        raise ValueError('it describes a tensor wrongly.')
    return Tensor(storage, offset, shape, strides)


def _set(target, key, value):
    if type(target) is dict:
        # The hash of a nested tuple or of a long int may take for ever: only plain keys are hashed
        plain = type(key) in (str, bytes, float, bool, type(None)) or (
            type(key) is int and -(2**63) <= key < 2**64
        )
        target[key if plain else Opaque(kind(key))] = value
    elif not isinstance(target, Opaque):
        raise ValueError(f'it sets an item of a {kind(target)}')


def _extend(target, values):
    if type(target) is list:
        target.extend(values)
    elif not isinstance(target, Opaque):
        raise ValueError(f'it appends to a {kind(target)}')


class _Machine:
    """The stack and the memo of a pickle. Each method is one of its operations."""

    def __init__(self):
        self.stack: list = []
        self.below: list[list] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage | Opaque] = {}  # all that the pickle names

    def mark(self):
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self):
        values, self.stack = self.stack, self.below.pop()
        return values

    def take(self, count):
        if len(self.stack) < count:
            raise ValueError('its stack is empty')
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def pop(self):
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def persistent(self, pid):
        """What torch.save keeps outside the pickle: storages, and in old files sources of classes.

        ('storage', type, key, device, count), in old files with the part of another storage that
        this one is; ('module', class, file, source).
        """
        word, global_, key, *rest = pid if type(pid) is tuple and len(pid) > 3 else ('', '', '')
        if type(word) is str and type(key) is str and isinstance(global_, Opaque):
            library, _, name = kind(global_).partition('.')
            count: Any = rest[1] if len(rest) > 1 else None
            parts = all(part is None for part in rest[2:])
            if word == 'storage' and library == 'torch' and whole(count) and parts:
                known = name in STORAGES  # those of complex numbers are not
                storage = Storage(key, STORAGES[name], count) if known else Opaque(f'torch.{name}')
                self.storages.setdefault(key, storage)
                return storage
            if word == 'module':
                return global_
        raise ValueError('it describes a storage wrongly.')

    def run(self, name, argument):
        """One operation of pickletools' name, with its argument in the file."""
        push = self.stack.append
        if name in _VALUES:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in ('BINGET', 'LONG_BINGET', 'GET'):
            push(self.memo[argument])
        elif name in ('BINPUT', 'LONG_BINPUT', 'PUT'):
            self.memo[argument] = self.stack[-1]
        elif name == 'MEMOIZE':
            self.memo[len(self.memo)] = self.stack[-1]
        elif name == 'MARK':
            self.mark()
        elif name in ('EMPTY_DICT', 'EMPTY_LIST'):
            push({} if name == 'EMPTY_DICT' else [])
        elif name == 'EMPTY_SET':
            push(Opaque('set'))
        elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
            push(tuple(self.take(int(name[-1]))))
        elif name == 'TUPLE':
            values = self.since_mark()
            self.stack.append(tuple(values))
        elif name == 'LIST':
            values = self.since_mark()
            self.stack.append(values)
        elif name == 'FROZENSET':
            self.since_mark()
            self.stack.append(Opaque('frozenset'))
        elif name == 'ADDITEMS':
            self.since_mark()
        elif name == 'APPEND':
            (value,) = self.take(1)
            _extend(self.stack[-1], [value])
        elif name == 'APPENDS':
            values = self.since_mark()
            _extend(self.stack[-1], values)
        elif name == 'SETITEM':
            pair = self.take(2)
            _set(self.stack[-1], *pair)
        elif name in ('SETITEMS', 'DICT'):
            values = self.since_mark()
            if name == 'DICT':
                self.stack.append({})
            for key, value in zip(values[::2], values[1::2], strict=True):
                _set(self.stack[-1], key, value)
        elif name == 'GLOBAL':
            push(Opaque(argument.replace(' ', '.', 1)))
        elif name == 'STACK_GLOBAL':
            parts = self.take(2)
            if not all(type(part) is str for part in parts):
                raise ValueError('a name of it is no text')
            push(Opaque('.'.join(parts)))
        elif name in ('REDUCE', 'NEWOBJ'):
            push(_call(*self.take(2)))
        elif name == 'NEWOBJ_EX':
            push(_call(*self.take(3)[:2]))
        elif name in ('INST', 'OBJ'):
            function, *arguments = (
                self.since_mark() if name == 'OBJ' else [None, *self.since_mark()]
            )
            if name == 'INST':
                function = Opaque(argument.replace(' ', '.', 1))
            self.stack.append(_call(function, tuple(arguments)))
        elif name == 'BUILD':
            self.take(1)  # the state of an object, which stays as it is
        elif name in ('BINPERSID', 'PERSID'):
            push(self.persistent(self.take(1)[0] if name == 'BINPERSID' else argument))
        elif name == 'POP':
            self.pop()
        elif name == 'POP_MARK':
            self.since_mark()
        elif name == 'DUP':
            push(self.stack[-1])
        elif name not in ('PROTO', 'FRAME', 'STOP'):
            raise ValueError(f'{name} is not expected')


_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_VALUES = frozenset(
    code.name
    for code in pickletools.opcodes
    if code.arg is not None
    and len(code.stack_after) == 1
    and not code.stack_before
    and code.name not in ('GET', 'BINGET', 'LONG_BINGET', 'GLOBAL', 'PERSID', 'NEXT_BUFFER')
    and not code.name.startswith('EXT')
)


def _unpickle(file: io.BytesIO) -> tuple[Any, dict[str, Storage | Opaque]]:
    """Reads the next pickle of a file in memory: what it holds, and all its storages by key."""
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            if count == OPERATIONS:
                raise ValueError(f'it has more than {OPERATIONS:,} operations')
            machine.run(code.name, argument)
        result = machine.stack[-1]
    except Exception as error:  # bytes that are no pickle may raise anything
        text = str(error)
        if isinstance(error, ValueError) and text.startswith('it describes'):
            raise
        raise ValueError(
            f'its pickle is damaged ({printable(text)}); is the file complete?'
        ) from error
    return result, machine.storages


# --- archives --------------------------------------------------------------------------------


def _arrays(described: dict[str, Tensor], values: Callable) -> dict[str, np.ndarray]:
    """Arrays of described tensors; values(storage) gives the storage's values, [count]."""
    arrays = {}
    for name, (storage, offset, shape, strides) in described.items():
        flat = values(storage)
        said = f'{printable(name)!r} of shape {shape}'
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
        if 0 not in shape and last >= len(flat):
            raise ValueError(f'{said} reaches beyond its storage: value {last} of {len(flat)}.')
        if math.prod(shape) > len(flat):
            raise ValueError(
                f'{said} is larger than its storage of {len(flat)} values: an expanded view. Save '
                'its clone().'
            )
        if 0 in shape:
            offset, strides = 0, (0,) * len(shape)
        try:
            steps = [stride * flat.itemsize for stride in strides]
            strided = np.lib.stride_tricks.as_strided
            arrays[name] = strided(flat[offset:], shape, steps, writeable=False)
        except (ValueError, OverflowError) as error:
            raise ValueError(f'{said} is impossible.') from error
    return arrays


def read_zip(data: bytes, select: Callable[[Any], dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The arrays of the tensors that `select` picks from what the archive's pickle holds."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # a damaged directory fails in many ways
        raise ValueError(
            f'it is no whole zip archive; is it complete? It has {len(data)} bytes, the directory '
            'at the end is missing or damaged.'
        ) from error
    with archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError(
                f'it is a zip archive, but not one of torch.save: it has {len(pickles)} data.pkl.'
            )
        folder = pickles[0].removesuffix('data.pkl')
        if folder + 'constants.pkl' in entries:
            raise ValueError(
                'it is a TorchScript program, not weights alone. In PyTorch: '
                'torch.save(torch.jit.load(FILE).state_dict(), NEW).'
            )
        if sum(entry.file_size for entry in entries.values()) > len(data):
            # torch.save compresses nothing and stores every part once
            raise ValueError('its parts are compressed or overlap, which torch.save never does.')

        def read(name):
            entry = entries.get(folder + name)
            if entry is None:
                raise ValueError(f'its part {printable(name)!r} is missing.')
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f'its part {name!r} is compressed, which torch.save never does.')
            try:
                return archive.read(entry)
            except Exception as error:
                raise ValueError(f'its part {printable(name)!r} is damaged ({error}).') from error

        orders = {b'little': '<', b'big': '>'}
        order = read('byteorder') if folder + 'byteorder' in entries else b'little'
        if order not in orders:
            raise ValueError(f'its byte order is {order[:20]!r}.')
        order, stored = orders[order], {}

        def values(storage):
            if storage not in stored:
                part = read(f'data/{storage.key}')
                if len(part) != storage.size * bytes_per_value(storage.dtype):
                    raise ValueError(
                        f'its part data/{printable(storage.key)} has {len(part)} bytes, not '
                        f'{storage.size} values; is the file complete?'
                    )
                stored[storage] = numbers(part, storage.dtype, storage.size, order=order)
            return stored[storage]

        return _arrays(select(_unpickle(io.BytesIO(read('data.pkl')))[0]), values)


def read_legacy(data: bytes, select: Callable[[Any], dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """The form of torch.save before version 1.6: five pickles, then the storages one by one."""
    file = io.BytesIO(data)
    for expected in (_LEGACY_MAGIC, 1001):
        version, _ = _unpickle(file)
        if type(version) is not int or version != expected:
            raise ValueError('it is of an unknown version.')
    _unpickle(file)  # about the machine that wrote it; the values are little-endian always
    state, storages = _unpickle(file)
    described = select(state)
    keys, _ = _unpickle(file)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError('its list of storages is none.')
    if len(set(keys)) < len(keys) or set(keys) != set(storages):
        raise ValueError('its tensors and its storages differ.')
    stored: dict[Storage, int] = {}
    position = file.tell()
    for key in keys:
        storage = storages[key]
        if isinstance(storage, Opaque):
            raise ValueError(f'it holds values of {kind(storage)}, which cannot be read or passed.')
        count = int.from_bytes(data[position : position + 8], 'little')
        size = storage.size * bytes_per_value(storage.dtype)
        if count != storage.size or position + 8 + size > len(data):
            raise ValueError(
                f'its storage {printable(key)} should have {storage.size} values; is the file '
                'complete?'
            )
        stored[storage] = position + 8
        position += 8 + size
    made: dict[Storage, np.ndarray] = {}

    def values(storage):
        if storage not in stored:
            raise ValueError(f'its storage {printable(storage.key)} is described in two ways.')
        if storage not in made:
            made[storage] = numbers(data, storage.dtype, storage.size, stored[storage])
        return made[storage]

    return _arrays(described, values)
