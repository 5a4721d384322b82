"""Files of tensors: made by hand, damaged, malicious, and by the packages of the formats."""

import json
import os
import pickle
import re
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from cnns import tensors, torch_files

# --- files made by hand: opcodes of pickle protocol 2, no torch ------------------------------


def name_of(module, name):
    return f'c{module}\n{name}\n'.encode()


def text(value):
    return b'X' + len(value.encode()).to_bytes(4, 'little') + value.encode()


def number(value):
    return b'J' + value.to_bytes(4, 'little', signed=True)


def group(*parts):
    return b'(' + b''.join(parts) + b't'


def tensor(
    shape=(2, 3),
    strides=(3, 1),
    offset=0,
    count=6,
    kind='FloatStorage',
    key='0',
    function='_rebuild_tensor_v2',
    legacy=False,
):
    storage = (
        group(
            text('storage'),
            name_of('torch', kind),
            text(key),
            text('cpu'),
            number(count),
            *([b'N'] if legacy else []),
        )
        + b'Q'
    )
    return (
        name_of('torch._utils', function)
        + group(
            storage,
            number(offset),
            group(*map(number, shape)),
            group(*map(number, strides)),
            *(
                []
                if function == '_rebuild_tensor'
                else [b'\x89', name_of('collections', 'OrderedDict') + b')R']
            ),
        )
        + b'R'
    )


def state(**entries):
    items = b''.join(text(key) + value + b's' for key, value in entries.items())
    return b'\x80\x02}' + items + b'.'


SIX = np.arange(6, dtype='<f4')
SIX_BYTES = SIX.tobytes()


def zip_file(path, pickled, values=SIX_BYTES, compression=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in {'data.pkl': pickled, 'data/0': values, **more}.items():
            archive.writestr(f'any/{name}', data)
    return path


def legacy_file(path, pickled, values=SIX_BYTES):
    machine = pickle.dumps({'protocol_version': 1001, 'little_endian': True}, 2)
    path.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + machine
        + pickled
        + pickle.dumps(['0'], 2)
        + (6).to_bytes(8, 'little')
        + values
    )
    return path


def safetensors_file(path, header, data=SIX_BYTES):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, 'little') + header + data)
    return path


def entry(dtype='F32', shape=(2, 3), span=(0, 24)):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': list(span)}


def files(folder):
    """One good file of each format, with the same tensor {'a': [[0, 1, 2], [3, 4, 5]]}."""
    return [
        safetensors_file(folder / 'a.safetensors', {'a': entry()}),
        zip_file(folder / 'a.pth', state(a=tensor())),
        legacy_file(folder / 'b.pth', state(a=tensor(function='_rebuild_tensor', legacy=True))),
    ]


def test_each_format_is_read(tmp_path):
    for path in files(tmp_path):
        loaded = tensors.load(path)
        assert list(loaded) == ['a']
        assert loaded['a'].dtype == np.float32
        assert loaded['a'].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    'fields, expected',
    [
        (dict(shape=(3, 2), strides=(1, 3)), [[0, 3], [1, 4], [2, 5]]),  # transposed
        (dict(shape=(2,), strides=(2,), offset=1), [1, 3]),
        (dict(shape=(2, 2), strides=(0, 1), offset=4), [[4, 5], [4, 5]]),  # expanded
        (dict(shape=(), strides=(), offset=5), 5),
        (dict(shape=(0, 3), strides=(3, 1), offset=6), []),
    ],
)
def test_strides_and_offsets_pick_the_right_values(tmp_path, fields, expected):
    got = tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor(**fields))))['a']
    assert got.shape == fields['shape']
    assert got.tolist() == expected


def test_shapes_that_old_files_give_as_torch_size_are_read(tmp_path):
    shape = group(number(2), number(3))
    pickled = state(a=tensor(strides=(1, 2)))
    assert pickled.count(shape) == 1
    pickled = pickled.replace(shape, name_of('torch', 'Size') + group(shape) + b'R')
    got = tensors.load(zip_file(tmp_path / 'a.pth', pickled))['a']
    assert got.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    'fields',
    [
        dict(offset=1),
        dict(shape=(3, 3)),
        dict(strides=(4, 1)),
        dict(shape=(), strides=(), offset=6),
        dict(shape=(7,), strides=(1,)),
        dict(shape=(2,), strides=(2**31 - 1,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, fields):
    with pytest.raises(ValueError, match="a.pth cannot be read: 'a' of .* beyond its storage"):
        tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor(**fields))))


@pytest.mark.parametrize(
    'fields',
    [dict(offset=-1), dict(strides=(-3, 1)), dict(shape=(-2, 3)), dict(shape=(6,)), dict(count=-6)],
)
def test_negative_or_unequal_numbers_are_refused(tmp_path, fields):
    with pytest.raises(ValueError, match='describes a (tensor|storage) wrongly'):
        tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor(**fields))))


# --- malice ----------------------------------------------------------------------------------


class Touch:
    """Unpickled by the pickle module, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('write', [zip_file, legacy_file])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, write):
    evil = pickle.dumps({'a': Touch(tmp_path / 'ran')}, 2)
    with pytest.raises(ValueError, match=r"'a' \(\w+\.mkdir\)\. Nothing was executed"):
        tensors.load(write(tmp_path / 'a.pth', evil))
    assert not (tmp_path / 'ran').exists()
    pickle.loads(evil)  # it would have run
    assert (tmp_path / 'ran').exists()


def test_code_in_the_other_pickles_of_the_old_format_does_not_run(tmp_path):
    path, evil = legacy_file(tmp_path / 'a.pth', state(a=tensor(legacy=True))), tmp_path / 'ran'
    good = path.read_bytes()
    for pickled in (pickle.dumps(1001, 2), pickle.dumps(['0'], 2)):
        assert good.count(pickled) == 1
        path.write_bytes(good.replace(pickled, pickle.dumps(Touch(evil), 2)))
        with pytest.raises(ValueError, match='unknown version|list of storages is none'):
            tensors.load(path)
    assert not evil.exists()


@pytest.mark.parametrize(
    'module, name',
    [
        ('builtins', 'eval'),
        ('torch.nn.modules.linear', 'Linear'),
        ('torch', 'load'),
        ('torch._utils', '_rebuild_qtensor'),
        ('collections', 'OrderedDict.fromkeys'),
        ('collections', 'namedtuple'),
        ('numpy', 'ndarray'),
        ('torch', 'ComplexFloatStorage'),
    ],
)
def test_every_other_name_is_not_looked_up_and_named(tmp_path, module, name):
    for pickled in (
        b'\x80\x04' + text(module) + text(name) + b'\x93.',
        b'\x80\x04' + name_of(module, name) + b')R.',  # called
        b'\x80\x04' + name_of(module, name) + b')\x81}b.',  # made and given a state
        b'\x80\x04(' + name_of(module, name) + b'o.',
        b'\x80\x04(i' + name_of(module, name)[1:] + b'.',
    ):
        with pytest.raises(ValueError, match=re.escape(f'it holds one {module}.{name}, where')):
            tensors.load(zip_file(tmp_path / 'a.pth', pickled))


@pytest.mark.parametrize(
    'target',
    [
        name_of('torch._utils', '_rebuild_tensor_v2'),
        name_of('collections', 'OrderedDict'),
        name_of('torch', 'Size'),
        tensor(),
    ],
)
@pytest.mark.parametrize('attribute', ['__call__', '__class__', 'items', 'shape', '__setitem__'])
def test_a_pickle_cannot_set_attributes_of_what_it_is_given(tmp_path, target, attribute):
    change = b'(' + b'N}' + text(attribute) + name_of('collections', 'OrderedDict') + b'st' + b'b'
    entries = text('b') + target + change + b's' + text('a') + tensor() + b's.'
    got = tensors.load(zip_file(tmp_path / 'a.pth', b'\x80\x02}' + entries))
    assert got['a'].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_tensors_are_read_beside_code_which_does_not_run(tmp_path):
    evil = pickle.dumps(Touch(tmp_path / 'ran'), 2)[2:-1]
    got = tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor(), b=evil)))
    assert list(got) == ['a'] and not (tmp_path / 'ran').exists()
    assert re.fullmatch(r"left out, and not made: 'b' \(\w+\.mkdir\)", *got.notes)


def deep(start, count=60, step=b'2\x86'):
    """A value that holds itself twice, `count` times over: 2**count values in 2 * count bytes."""
    return start + step * count


HANGS = {  # pickles of a few hundred bytes whose values are endless to print, hash or compare
    'tuple': b'\x80\x02' + deep(b')') + b'.',
    'tuple_key': b'\x80\x02}' + deep(b')', 300) + text('a') + b's.',
    'tuples_as_keys': b'\x80\x02}(' + deep(b')') + b'N' + deep(b')') + b'Nu.',
    'tuple_in_dict': b'\x80\x02}(' + deep(b')') + b'Nd.',
    'frozenset_key': b'\x80\x04}(' + deep(b')') + b'\x91' + text('a') + b's.',
    'frozenset_of_frozensets': b'\x80\x04}' + b'(' * 60 + b'N' + b'\x91' * 60 + text('a') + b's.',
    'set': b'\x80\x04\x8f(' + deep(b')') + b'\x90.',
    'list_in_itself': b'\x80\x02]2a.',
    'dict_in_itself': b'\x80\x02}q\0' + text('a') + b'h\0s.',
    'entry': state(a=deep(b')'), b=tensor()),
    'shape': state(a=tensor().replace(group(number(2), number(3)), deep(b')'))),
    'storage': state(a=deep(b')') + b'Q'),
    'called': state(a=name_of('torch', 'Size') + deep(b')') + b'R'),
    'pairs': state(a=name_of('collections', 'OrderedDict') + b']' + deep(b')') + b'a\x85R'),
    'dicts': b'\x80\x02}'
    + b''.join(b'}' + b'(' + text('a') + b'}' + b'u' for _ in range(60))
    + b'.',
}


def test_small_files_cannot_take_time_or_memory(tmp_path):
    for name, pickled in HANGS.items():
        assert len(pickled) < 1500
        zip_file(tmp_path / f'{name}.pth', pickled)
        legacy_file(tmp_path / f'{name}_old.pth', pickled)
    legacy = legacy_file(tmp_path / 'keys.pth', state(a=tensor(legacy=True))).read_bytes()
    keys = pickle.dumps(['0'], 2)
    (tmp_path / 'keys.pth').write_bytes(legacy.replace(keys, b'\x80\x02]' + deep(b')') + b'a.'))
    (tmp_path / 'version.pth').write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + HANGS['tuple'])
    zip_file(tmp_path / 'zero_strides.pth', state(a=tensor((50_000, 50_000), (0, 0))))
    zip_file(tmp_path / 'one_zero_stride.pth', state(a=tensor((2**30, 6), (0, 1))))
    zip_file(tmp_path / 'axes.pth', state(a=tensor((1,) * 2000, (1,) * 2000)))
    os.mkfifo(tmp_path / 'pipe.pth')
    script = (
        'import sys\n'
        'from cnns import tensors\n'
        'for path in sys.argv[1:]:\n'
        '    try:\n'
        '        print(path, list(tensors.load(path)))\n'
        '    except ValueError as error:\n'
        '        print(error)\n'
    )
    paths = sorted(map(str, tmp_path.iterdir()))
    # In a process of its own, since a file that is not refused hangs or takes all memory
    done = subprocess.run(
        [sys.executable, '-c', script, *paths],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (2**32, 2**32)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    read = [line.removeprefix(str(tmp_path)) for line in lines if 'cannot be read: it' not in line]
    refused = [line for line in read if 'cannot be read: ' in line]
    assert [line for line in read if line not in refused] == [
        f"/{name}.pth ['b']" for name in ('entry', 'entry_old')
    ]
    assert len(refused) == 2 and all("'a' of shape" in line for line in refused)
    assert len(lines) == len(paths) and max(map(len, lines)) < 400


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'a' of shape \(7, 1\) is larger than its storage of 6"):
        tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor((7, 1), (0, 1)))))


def test_the_operations_of_a_pickle_are_counted(tmp_path, monkeypatch):
    path = zip_file(tmp_path / 'a.pth', state(a=tensor(), b=b'N0' * 100 + b'N'))
    assert list(tensors.load(path)) == ['a']
    monkeypatch.setattr(torch_files, 'OPERATIONS', 200)
    with pytest.raises(ValueError, match='more than 200 operations'):
        tensors.load(path)


@pytest.mark.parametrize(
    'huge',
    [
        b'r\xff\xff\xff\xff',
        b'p4294967295\n',
        b'\x95' + b'\xff' * 7 + b'\x0f',
        b'\x8e' + b'\xff' * 7 + b'\x0f',
        b'\x96' + b'\xff' * 7 + b'\x0f',
    ],
)
def test_a_few_bytes_cannot_ask_for_all_memory(tmp_path, huge):
    with pytest.raises(ValueError, match='its pickle is damaged|no tensors by name'):
        tensors.load(zip_file(tmp_path / 'a.pth', b'\x80\x04}' + huge + b'.'))


def test_an_ordered_dict_cannot_hide_its_content(tmp_path):
    made = name_of('collections', 'OrderedDict') + b')R' + text('a') + number(7) + b's'
    hidden = b'}' + text('items') + name_of('collections', 'OrderedDict') + b's' + b'b'
    with pytest.raises(ValueError, match=r"no tensors by name but 'a' \(int\)"):
        tensors.load(zip_file(tmp_path / 'a.pth', b'\x80\x02' + made + hidden + b'.'))


@pytest.mark.parametrize(
    'pickled, match',
    [
        (
            state(epoch=number(3), b=b'}'),
            r"by name but 'epoch' \(int\), 'b' \(dict\)\..*state_dict",
        ),
        (b'\x80\x02' + tensor() + b'.', 'it holds one tensor, where tensors by name'),
        (b'\x80\x02]' + tensor() + b'a.', 'it holds one list'),
        (state(a=text('b')), r"'a' \(str\)"),
        (b'\x80\x02}' + number(1) + tensor() + b's.', r'1 \(tensor\)'),
        (b'', 'pickle is damaged'),
        (b'\x80\x02', 'pickle is damaged'),
        (b'\xff' * 9, 'damaged'),
    ],
)
def test_a_pickle_of_anything_but_named_tensors_is_refused(tmp_path, pickled, match):
    with pytest.raises(ValueError, match=match):
        tensors.load(zip_file(tmp_path / 'a.pth', pickled))


# --- damage ----------------------------------------------------------------------------------


def test_every_truncation_of_every_format_is_refused(tmp_path):
    for path in files(tmp_path):
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f'{path.name} cannot be read'):
                tensors.load(path)


def test_a_changed_byte_is_refused_or_gives_arrays_and_never_another_error(tmp_path):
    for path in files(tmp_path):
        whole = path.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= (0x01, 0x80, 0xFF)[place % 3]
            path.write_bytes(damaged)
            try:
                loaded = tensors.load(path)
            except ValueError:
                continue
            assert all(isinstance(array, np.ndarray) for array in loaded.values())


@pytest.mark.parametrize(
    'header, match',
    [
        ({'a': entry('F8_E4M3')}, "'a' has dtype 'F8_E4M3'; F64, F32"),
        ({'a': entry(shape=(2, 2))}, r"'a' of shape \[2, 2\] lies at bytes 0 to 24 of 24"),
        ({'a': entry(shape=(-2, -3))}, 'whole numbers'),
        ({'a': entry(shape=(True, 6))}, 'whole'),
        ({'a': entry(span=(4, 28))}, 'is the file complete'),
        ({'a': entry(span=(24, 0))}, 'complete'),
        ({'a': entry(shape=(3,), span=(0, 12))}, '12 bytes at its end belong to no tensor'),
        ({'a': entry(), 'b': entry(shape=(3,), span=(12, 24))}, 'overlap'),
        ({'a': entry(shape=(1,), span=(0, 4)), 'b': entry(shape=(1,), span=(20, 24))}, 'a hole'),
        ({'a': {'dtype': 'F32'}}, 'not described by'),
        ({'a': 3}, 'not described by'),
        ({'a': entry(dtype=['F32'])}, 'has dtype'),
        (b'{"a": 1, "a": 2}', 'gives a name twice'),
        (b'[]', 'not a JSON object'),
        (b'{nonsense', 'is not JSON'),
        (b'\xff\xfe', 'is not JSON'),
        (b'[' * 100_000, 'is not JSON'),
    ],
)
def test_a_wrong_safetensors_header_is_refused(tmp_path, header, match):
    with pytest.raises(ValueError, match=match):
        tensors.load(safetensors_file(tmp_path / 'a.safetensors', header))


def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(b'\xff' * 8 + b'{}')
    with pytest.raises(ValueError, match='header should be 18446744073709551615 bytes'):
        tensors.load(path)


@pytest.mark.parametrize(
    'changed, match',
    [
        (dict(values=SIX_BYTES + b'\0'), 'data/0 has 25 bytes, not 6 values'),
        (dict(values=SIX[:5].tobytes()), 'data/0 has 20 bytes'),
        (dict(compression=zipfile.ZIP_DEFLATED), 'is compressed'),
        (dict(compression=zipfile.ZIP_DEFLATED, big=bytes(10_000)), 'are compressed or overlap'),
        (dict(byteorder=b'middle'), 'byte order'),
        ({'x/data.pkl': b''}, 'has 2 data.pkl'),
    ],
)
def test_a_wrong_archive_is_refused(tmp_path, changed, match):
    with pytest.raises(ValueError, match=match):
        tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor()), **changed))


def test_a_missing_storage_and_another_zip_are_refused(tmp_path):
    with pytest.raises(ValueError, match="part 'data/9' is missing"):
        tensors.load(zip_file(tmp_path / 'a.pth', state(a=tensor(key='9'))))
    with zipfile.ZipFile(tmp_path / 'b.pth', 'w') as archive:
        archive.writestr('word/document.xml', 'text')
    with pytest.raises(ValueError, match='not one of torch.save: it has 0 data.pkl'):
        tensors.load(tmp_path / 'b.pth')


def test_a_missing_file_and_nonsense_are_refused(tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'\xfe\xff\0\1')
    with pytest.raises(ValueError, match='does not begin like a file of torch.save'):
        tensors.load(tmp_path / 'a.pth')
    with pytest.raises(FileNotFoundError):
        tensors.load(tmp_path / 'none.pth')


def test_big_endian_storages_are_read(tmp_path):
    path = zip_file(
        tmp_path / 'a.pth', state(a=tensor()), SIX.astype('>f4').tobytes(), byteorder=b'big'
    )
    assert tensors.load(path)['a'].tolist() == SIX.reshape(2, 3).tolist()


# --- against the packages that define the formats --------------------------------------------

ARRAYS = {
    'float32': np.float32([[1.5, -2, np.inf], [0, 1e-40, 3]]),
    'float64': np.float64([1 / 3]),
    'int64': np.int64(-(2**62)),
    'uint8': np.arange(5, dtype=np.uint8),
    'bool': np.array([True, False]),
    'empty': np.zeros((0, 4), np.float32),
    'strided': np.arange(12, dtype=np.float32).reshape(3, 4)[::2, 1:],
    'transposed': np.arange(6, dtype=np.int32).reshape(2, 3).T,
}


def same(got, expected):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        np.testing.assert_array_equal(got[name], array)


def test_what_is_saved_is_loaded_again(tmp_path):
    tensors.save(tmp_path / 'a.safetensors', ARRAYS)
    same(tensors.load(tmp_path / 'a.safetensors'), ARRAYS)
    tensors.save(tmp_path / 'b.safetensors', {})
    assert tensors.load(tmp_path / 'b.safetensors') == {}


def test_safetensors_reads_what_is_saved_and_the_reverse(tmp_path):
    package = pytest.importorskip('safetensors.numpy', reason='needs safetensors')
    tensors.save(tmp_path / 'a.safetensors', ARRAYS)
    read = package.load_file(tmp_path / 'a.safetensors')
    same({name: read[name] for name in ARRAYS}, ARRAYS)
    contiguous = {name: np.array(array, order='C') for name, array in ARRAYS.items()}
    package.save_file(contiguous, tmp_path / 'b.safetensors', {'format': 'pt'})
    read = tensors.load(tmp_path / 'b.safetensors')
    same({name: read[name] for name in ARRAYS}, ARRAYS)


def test_only_storable_tensors_are_saved(tmp_path):
    with pytest.raises(ValueError, match="'a' of complex64 cannot be stored"):
        tensors.save(tmp_path / 'a.safetensors', {'a': np.zeros(2, np.complex64)})
    with pytest.raises(ValueError, match='only .safetensors is written'):
        tensors.save(tmp_path / 'a.pth', {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('zipped', [True, False])
def test_what_torch_saves_is_read(tmp_path, zipped):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    base = torch.arange(12.0)
    made = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items() if array.ndim}
    made |= {
        'scalar': torch.tensor(3),
        'half': torch.tensor([0.1, -65504]).half(),
        'brain': torch.tensor([0.1, -3e38, float('nan')]).bfloat16(),
        'view': base[4:8],
        'columns': base.reshape(3, 4)[:, 1::2],
        'turned': base.reshape(3, 4).T,
        'shared': base,
        'parameter': torch.nn.Parameter(torch.ones(2)),
        'buffer': torch.zeros(0),
    }
    torch.save(made, tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(tmp_path / 'a.pth') == zipped
    same(
        tensors.load(tmp_path / 'a.pth'),
        {
            name: (value.float() if value.dtype in (torch.half, torch.bfloat16) else value)
            .detach()
            .numpy()
            for name, value in made.items()
        },
    )


@pytest.mark.parametrize('zipped', [True, False])
def test_a_state_dict_is_read_and_a_whole_module_is_refused(tmp_path, zipped):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    torch.save(net.state_dict(), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    same(tensors.load(tmp_path / 'a.pth'), {k: v.numpy() for k, v in net.state_dict().items()})
    torch.save(net, tmp_path / 'b.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match='holds one torch.nn.modules.container.Sequential'):
        tensors.load(tmp_path / 'b.pth')


def test_16_bit_safetensors_become_float32(tmp_path):
    data = np.float16([0.1, -2]).tobytes() + np.array([0x3F80, 0xC040], '<u2').tobytes()
    loaded = tensors.load(
        safetensors_file(
            tmp_path / 'a.safetensors',
            {'half': entry('F16', (2,), (0, 4)), 'brain': entry('BF16', (2,), (4, 8))},
            data,
        )
    )
    same(loaded, {'half': np.float32(np.float16([0.1, -2])), 'brain': np.float32([1, -3])})


def test_loaded_arrays_cannot_be_written_into(tmp_path):
    for path in files(tmp_path):
        with pytest.raises(ValueError, match='read-only'):
            tensors.load(path)['a'][0, 0] = 1


# --- checkpoints and other files -------------------------------------------------------------


def inside(**entries):
    """A dictionary inside a pickle."""
    return b'}' + b''.join(text(key) + value + b's' for key, value in entries.items())


TENSORS = inside(a=tensor())
OPTIMIZER = inside(state=b'}', param_groups=b']')
NAMESPACE = name_of('argparse', 'Namespace') + b')\x81' + inside(lr=number(1)) + b'b'
NUMBER = (  # a NumPy scalar
    name_of('numpy.core.multiarray', 'scalar')
    + group(name_of('numpy', 'dtype') + group(text('f8')) + b'R', text('12345678'))
    + b'R'
)
CALLBACKS = inside(stop=name_of('my.project', 'Thing') + b')R')


@pytest.mark.parametrize(
    'entries, part, said',
    [
        (dict(epoch=number(3), arch=text('r'), state_dict=TENSORS, best_acc1=tensor((), ()),
              optimizer=OPTIMIZER), 'state_dict',
         "'epoch' (int), 'arch' (str), 'best_acc1' (tensor), 'optimizer' (dict)"),
        (dict(model=TENSORS, args=NAMESPACE), 'model', "'args' (argparse.Namespace)"),
        (dict(model=TENSORS, best=NUMBER), 'model', "'best' (numpy.core.multiarray.scalar)"),
        (dict(callbacks=CALLBACKS, state_dict=TENSORS), 'state_dict', "'callbacks' (dict)"),
        (dict(teacher=TENSORS, epoch=number(3)), 'teacher', "'epoch' (int)"),
        (dict(deep=inside(net=TENSORS), epoch=number(3)), 'deep/net', "'epoch' (int)"),
        (dict(model=TENSORS, model_ema=TENSORS), 'model',
         "'model_ema' (dict); part= takes one of 'model_ema'"),
        (dict(a=tensor(), best=NUMBER), '', "'best' (numpy.core.multiarray.scalar)"),
    ],
)  # fmt: skip
def test_the_tensors_of_a_checkpoint_are_read_and_the_rest_is_named(tmp_path, entries, part, said):
    for write in (zip_file, legacy_file):
        got = tensors.load(write(tmp_path / 'a.pth.tar', state(**entries)))
        assert list(got) == ['a'] and got['a'].tolist() == [[0, 1, 2], [3, 4, 5]]
        where = [f'the tensors are those of {part!r} in the file'] if part else []
        assert list(got.notes) == [*where, f'left out, and not made: {said}']


def test_a_bare_state_dict_has_no_notes(tmp_path):
    assert [tensors.load(path).notes for path in files(tmp_path)] == [(), (), ()]


def test_another_part_is_read_by_name_and_none_is_guessed(tmp_path):
    ema = inside(b=tensor())
    path = zip_file(tmp_path / 'a.ckpt', state(model=TENSORS, model_ema=inside(of=ema)))
    assert list(tensors.load(path)) == ['a']
    assert list(tensors.load(path, part='model_ema/of')) == ['b']
    with pytest.raises(ValueError, match="no tensors in 'ema'; part= takes one of 'model', 'model"):
        tensors.load(path, part='ema')
    path = zip_file(tmp_path / 'b.ckpt', state(student=TENSORS, teacher=inside(b=tensor())))
    with pytest.raises(ValueError, match="several sets of tensors; part= takes one of 'student', "):
        tensors.load(path)
    with pytest.raises(ValueError, match="no parts, 'model' cannot be taken"):
        tensors.load(safetensors_file(tmp_path / 'a.safetensors', {'a': entry()}), part='model')


def test_shards_are_read_by_their_index(tmp_path):
    safetensors_file(tmp_path / 'x-1.safetensors', {'a': entry()})
    safetensors_file(
        tmp_path / 'x-2.safetensors', {'b': entry(), 'c': entry('F32', (0,), (24, 24))}
    )
    index = tmp_path / 'x.safetensors.index.json'

    def write(**shards):
        index.write_text(json.dumps({'metadata': {'total_size': 48}, 'weight_map': shards}))

    write(b='x-2.safetensors', a='x-1.safetensors', c='x-2.safetensors')
    got = tensors.load(index)
    assert list(got) == ['b', 'a', 'c'] and got['a'].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert got.notes == ('read from 2 files: x-2.safetensors, x-1.safetensors',)
    for shards, match in (
        (dict(a='x-3.safetensors'), "'x-3.safetensors' is not beside it"),
        (dict(a='x-2.safetensors'), "'a' is not in 'x-2.safetensors'"),
        (dict(a='../x-1.safetensors'), 'no file beside it'),
        (dict(a=str(tmp_path / 'x-1.safetensors')), 'no file beside it'),
        (dict(a=index.name), 'no file beside it'),
        (dict(a=3), 'no file beside it'),
        (dict(a=['x']), 'no index of tensors'),
    ):
        write(**shards)
        with pytest.raises(ValueError, match=match):
            tensors.load(index)


POINTER = (
    b'version https://git-lfs.github.com/spec/v1\noid sha256:'
    + b'4d7a2146' * 8
    + b'\nsize 102540417\n'
)


@pytest.mark.parametrize(
    'data, said',
    [
        (b'\n<!DOCTYPE html>\n<html lang="en"><body>Sign in</body></html>', 'a web page (HTML);'),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'text in XML or HTML;'),
        (POINTER, 'a Git LFS pointer to a file of 102,540,417 bytes,'),
        (b'', 'empty.'),
        (b'\x1f\x8b\x08\0' + bytes(9), 'a gzip archive;'),
        (b'\x89HDF\r\n\x1a\n', 'an HDF5 file,'),
        (b'\x89PNG\r\n\x1a\n', 'a PNG image.'),
        (b'\xff\xd8\xff\xe0', 'a JPEG image.'),
        (pickle.dumps({'a': 1}, 4), 'a pickle, but not one of torch.save.'),
        (bytes(257) + b'ustar' + bytes(250), 'a tar archive;'),
        (b'Not Found', "a text that begins 'Not Found'."),
        (b'{"error": "unauthorised"}', 'a text that begins'),
        (b'{"weight_map": ', 'no index of tensors;'),
        (b'\x82\xa6params\x81', 'looks like msgpack'),
        (b'PK\x03\x04' + bytes(90), 'no whole zip archive; is it complete? It has 94 bytes,'),
    ],
)
def test_what_a_wrong_file_is_is_said_in_one_line(tmp_path, data, said):
    for name in ('a.pth', 'a.safetensors'):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError) as raised:
            tensors.load(tmp_path / name)
        message = str(raised.value)
        assert said in message and message.startswith(f'{tmp_path / name} cannot be read: it ')
        assert message.isprintable()


QUANTIZED = name_of('torch._utils', '_rebuild_qtensor') + b')R'


@pytest.mark.parametrize(
    'pickled, said',
    [
        (state(state=b'}', param_groups=b']'), 'the state of an optimizer and no weights'),
        (state(epoch=number(3), optimizer=OPTIMIZER), 'the state of an optimizer and no weights'),
        (state(a=QUANTIZED, scale=tensor()), 'its tensors are quantized'),
        (state(model=inside(a=QUANTIZED, scale=tensor()), epoch=number(3)), 'are quantized'),
        (state(a=QUANTIZED), 'its tensors are quantized'),
        (b'\x80\x02' + name_of('torchvision.models.resnet', 'ResNet') + b')\x81}b.',
         'it holds one torchvision.models.resnet.ResNet, where'),
        (state(model=name_of('my', 'Net\x1b[2J') + b')R'), "by name but 'model' (my.Net?["),
    ],
)  # fmt: skip
def test_what_a_file_of_torch_holds_instead_of_weights_is_said(tmp_path, pickled, said):
    with pytest.raises(ValueError) as raised:
        tensors.load(zip_file(tmp_path / 'a.pth', pickled))
    assert said in str(raised.value) and str(raised.value).isprintable()


def test_a_folder_and_a_program_of_torchscript_are_refused(tmp_path):
    with pytest.raises(ValueError, match='it is a folder, not a file'):
        tensors.load(tmp_path)
    program = zip_file(tmp_path / 'a.pt', state(a=tensor()), **{'constants.pkl': b'\x80\x02).'})
    with pytest.raises(ValueError, match='it is a TorchScript program'):
        tensors.load(program)


@pytest.mark.parametrize('zipped', [True, False])
def test_what_training_programs_save_with_torch_is_read(tmp_path, zipped):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    import argparse

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    expected = {key: value.numpy() for key, value in net.state_dict().items()}
    averaged = torch.optim.swa_utils.AveragedModel(net)
    own = {f'module.{key}': array for key, array in expected.items()}
    common = dict(optimizer=optimizer.state_dict(), lr_scheduler=schedule.state_dict(), epoch=3)
    for made, wanted in (
        (dict(common, arch='r', state_dict=net.state_dict(), best=torch.tensor(3.0)), expected),
        (dict(common, model=net.state_dict(), args=argparse.Namespace(device='cpu')), expected),
        (dict(common, model=net.state_dict(), model_ema=averaged.state_dict()), expected),
        (
            {'pytorch-lightning_version': '2', 'state_dict': net.state_dict(), 'loops': {'a': {}},
             'optimizer_states': [optimizer.state_dict()], 'hyper_parameters': {'lr': 0.1}},
            expected,
        ),
        (dict(net.state_dict(), best=np.float64(0.5), many=np.arange(3)), expected),
        (averaged.state_dict(), {'n_averaged': np.int64(0)} | own),
    ):  # fmt: skip
        path = tmp_path / 'a.pth.tar'
        torch.save(made, path, _use_new_zipfile_serialization=zipped)
        same(tensors.load(path), wanted)
