"""Our own files of weights: what is written is read, by us and by others, or refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

import cnns
from cnns import convert, tensors, weights

METADATA = {
    'net': 'mlp_300_100',
    'fields': {'classes': 3, 'channels': 1, 'hidden': [4, 2]},
    'class_names': ['cat', 'Gänse', '=1+1'],
    'mean': [0.1307],
    'std': [0.3081],
    'resolution': 28,
    'run': {'point': '92f1de71b314', 'seed': 0},
}


def variables(dtype=jnp.float32):
    net = weights.build(METADATA)
    made = net.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), train=False)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), made)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
def test_what_is_saved_is_loaded_with_its_dtypes_and_metadata(tmp_path, dtype):
    saved = variables(dtype)
    weights.save(tmp_path / 'a.safetensors', saved, METADATA)
    got, metadata = weights.load(tmp_path / 'a.safetensors')
    assert metadata == METADATA
    assert jax.tree.structure(got) == jax.tree.structure(saved)
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(saved)):
        assert isinstance(mine, np.ndarray) and mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine.astype(np.float32), theirs.astype(np.float32))


def test_a_file_alone_gives_the_net_and_its_logits(tmp_path):
    saved = variables()
    weights.save(tmp_path / 'a.safetensors', saved, METADATA)
    got, metadata = weights.load(tmp_path / 'a.safetensors')
    net = weights.build(metadata)
    assert net == cnns.build('mlp_300_100', classes=3, channels=1, hidden=(4, 2))
    images = jax.random.normal(jax.random.key(1), (2, 28, 28, 1))
    assert (net.apply(got, images, train=False) == net.apply(saved, images, train=False)).all()


def test_the_package_of_safetensors_reads_tensors_and_metadata(tmp_path):
    path = tmp_path / 'a.safetensors'
    saved = variables()
    weights.save(path, saved, METADATA)
    read = load_file(path)
    flat = {'/'.join(key.key for key in keys): x for keys, x in jax.tree.leaves_with_path(saved)}
    assert read.keys() == flat.keys()
    assert all((read[name] == flat[name]).all() for name in flat)
    with safetensors.safe_open(path, 'numpy') as file:
        assert json.loads(file.metadata()['cnns']) == METADATA


def test_every_changed_bit_of_a_file_is_noticed():
    data = weights.to_bytes({'params': {'a': {'kernel': np.float32([[1, 2]])}}}, METADATA)
    assert weights.from_bytes(data)[1] == METADATA
    harmless = 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            read, metadata = weights.from_bytes(bytes(damaged))
        except ValueError:
            continue
        harmless += 1  # in words of the header that say nothing about the content
        assert metadata == METADATA
        assert read['params']['a']['kernel'].tolist() == [[1, 2]]
    assert harmless < 30


@pytest.mark.parametrize(
    'changed, match',
    [
        (dict(net=None), "need 'net'"),
        (dict(net='resnet21'), "unknown net 'resnet21'. Did you mean 'resnet"),
        (dict(fields=[3]), 'fields have to be a dict'),
        (dict(fields={'clases': 3}), "has no field 'clases'"),
        (dict(class_names=['cat']), 'class_names have to be 3 texts'),
        (dict(class_names=[1, 2, 3]), 'class_names have to be 3 texts'),
        (dict(mean=[0.1, 0.2, 0.3]), 'mean has to be 1 numbers'),
        (dict(std=[0]), 'std has to be 1 numbers, above 0'),
        (dict(resolution='28'), 'resolution has to be a number of pixels'),
        (dict(run=float('nan')), 'have to be JSON'),
        (dict(run=np.ones(2)), 'have to be JSON'),
    ],
)
def test_wrong_metadata_are_refused_before_anything_is_written(tmp_path, changed, match):
    with pytest.raises(ValueError, match=match):
        weights.save(tmp_path / 'a.safetensors', variables(), METADATA | changed)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused_and_said(tmp_path):
    with pytest.raises(ValueError, match='weights are written as .safetensors'):
        weights.save(tmp_path / 'a.pth', variables(), METADATA)
    path = tmp_path / 'a.safetensors'
    tensors.save(path, {'conv1.weight': np.ones(2)})
    with pytest.raises(ValueError, match="not what they are for: .* PyTorch's by cnns.convert"):
        weights.load(path)
    for data, match in (
        (b'PK\x03\x04', 'a zip archive, as torch.save writes'),
        (b'<html>', 'a web page'),
        (weights.to_bytes(variables(), METADATA)[:-1], 'complete'),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f'a.safetensors cannot be read: .*{match}'):
            weights.load(path)
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / 'none.safetensors')


def test_converting_a_file_of_our_own_says_what_reads_it(tmp_path):
    weights.save(tmp_path / 'a.safetensors', variables(), METADATA)
    with pytest.raises(ValueError, match='cnns.weights.load reads them'):
        convert.read(tmp_path / 'a.safetensors', 'resnet20')
