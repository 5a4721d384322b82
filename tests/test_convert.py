"""Weights in torchvision's layout: whole nets against PyTorch, names, shapes and errors."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnns import convert

PARAMETERS = {  # as published with torchvision's weights
    'alexnet': 61_100_840,
    'vgg11': 132_863_336,
    'vgg13': 133_047_848,
    'vgg16': 138_357_544,
    'vgg19': 143_667_240,
    'vgg11_bn': 132_868_840,
    'vgg13_bn': 133_053_736,
    'vgg16_bn': 138_365_992,
    'vgg19_bn': 143_678_248,
    'googlenet': 13_004_888,
    'resnet18': 11_689_512,
    'resnet34': 21_797_672,
    'resnet50': 25_557_032,
    'resnet101': 44_549_160,
    'resnet152': 60_192_808,
}


@pytest.fixture
def torch_nets():
    pytest.importorskip('torch', reason='needs PyTorch')
    from experiments.benchmark import torch_nets

    return torch_nets


def shapes(name, **fields):
    """Shapes of our variables, nothing allocated: {'params/conv1/conv/kernel': ...}."""
    net = convert.build(name, **fields)
    images = jnp.zeros((1, 224, 224, fields.get('channels', 3)))
    tree = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
    return flax.traverse_util.flatten_dict(tree, sep='/')


def flat(variables):
    return flax.traverse_util.flatten_dict(variables, sep='/')


@functools.cache
def example(name):
    """A state dict of 5 classes whose arrays hold one number each and take no memory."""
    variables = {
        path: np.broadcast_to(np.float32(i), leaf.shape)
        for i, (path, leaf) in enumerate(shapes(name, classes=5).items())
    }
    made = convert.to_torch(name, flax.traverse_util.unflatten_dict(variables, sep='/'))
    return {key: np.broadcast_to(array.flat[0], array.shape) for key, array in made.items()}


# --- against PyTorch -------------------------------------------------------------------------


def test_the_models_are_those_with_published_numbers_of_parameters():
    assert set(convert.MODELS) == set(PARAMETERS)


@pytest.mark.parametrize('name', PARAMETERS)
def test_names_shapes_and_values_survive_both_ways(torch_nets, name):
    net = torch_nets.build(name, 'meta', classes=1000)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]  # of the reference itself
    theirs = torch_nets.build(name, 'meta', classes=7).state_dict()
    given = {
        key: np.broadcast_to(np.float32(i), tuple(tensor.shape))
        for i, (key, tensor) in enumerate(theirs.items())
    }
    variables = convert.from_torch(name, given)
    assert {path: array.shape for path, array in flat(variables).items()} == {
        path: leaf.shape for path, leaf in shapes(name, classes=7).items()
    }
    back = convert.to_torch(name, variables)
    assert list(back) == list(given)  # in PyTorch's order
    for i, (key, tensor) in enumerate(theirs.items()):
        assert back[key].shape == tuple(tensor.shape)
        assert (back[key] == (0 if key.endswith('num_batches_tracked') else i)).all()


@pytest.mark.parametrize(
    'name, side',
    [('alexnet', 224), ('vgg11', 224), ('googlenet', 224), ('resnet18', 224), ('resnet50', 96)],
)
def test_a_whole_net_gives_pytorchs_logits_and_its_weights_come_back_exactly(
    torch_nets, name, side
):
    import torch

    theirs = torch_nets.randomise(torch_nets.build(name, classes=10))
    images = np.random.default_rng(1).normal(size=(1, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    state_dict = theirs.state_dict()
    variables = convert.from_torch(name, state_dict)
    net = convert.build(name, classes=10)
    got = jax.jit(lambda variables: net.apply(variables, images, train=False))(variables)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    back = convert.to_torch(name, variables)
    assert list(back) == list(state_dict)
    assert all(np.array_equal(back[key], state_dict[key]) for key in back)


def test_googlenet_comes_with_or_without_its_auxiliary_classifiers(torch_nets):
    given = {
        key: np.broadcast_to(np.float32(1), tuple(tensor.shape))
        for key, tensor in torch_nets.build('googlenet', 'meta', classes=7, aux=False)
        .state_dict()
        .items()
    }
    variables = convert.from_torch('googlenet', given)
    assert not any('aux' in path for path in flat(variables))
    assert list(convert.to_torch('googlenet', variables)) == list(given)
    net = convert.build('googlenet', classes=7)
    out = jax.eval_shape(
        lambda v: net.apply(v, jnp.zeros((1, 224, 224, 3)), train=False), variables
    )
    assert out.shape == (1, 7)


# --- the conventions, by hand ----------------------------------------------------------------


@pytest.mark.parametrize(
    'name, layer, maps',
    [
        ('alexnet', ('classifier.1', 'fc6'), (256, 6, 6)),
        ('googlenet', ('aux2.fc1', 'aux_4d/fc1'), (128, 4, 4)),
    ],
)
def test_the_first_matrix_reads_channel_height_width_there_and_height_width_channel_here(
    name, layer, maps
):
    channels, height, width = maps
    theirs, ours = layer
    weight = np.zeros(example(name)[f'{theirs}.weight'].shape, np.float32)
    places = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (channels - 1, height - 2, width - 1)]
    for number, (c, h, w) in enumerate(places, start=1):
        weight[number, (c * height + h) * width + w] = number
    variables = convert.from_torch(name, {**example(name), f'{theirs}.weight': weight})
    kernel = flat(variables)[f'params/{ours}/kernel'].reshape(height, width, channels, -1)
    for number, (c, h, w) in enumerate(places, start=1):
        assert kernel[h, w, c, number] == number
    assert np.count_nonzero(kernel) == len(places)


def test_kernels_matrices_and_statistics_change_places_only():
    rng = np.random.default_rng(0)
    given = {
        key: rng.normal(size=array.shape).astype(np.float32)
        for key, array in example('resnet18').items()
    }
    variables = convert.from_torch('resnet18', given)
    got = flat(variables)
    kernel, weight = got['params/conv3_1/conv2/conv/kernel'], given['layer2.0.conv2.weight']
    assert kernel[2, 0, 5, 7] == weight[7, 5, 2, 0]
    assert got['params/fc/kernel'][9, 4] == given['fc.weight'][4, 9]
    for ours, theirs in (
        ('params/conv1/norm/scale', 'bn1.weight'),
        ('params/conv1/norm/bias', 'bn1.bias'),
        ('batch_stats/conv1/norm/mean', 'bn1.running_mean'),
        ('batch_stats/conv3_1/shortcut/norm/var', 'layer2.0.downsample.1.running_var'),
        ('params/fc/bias', 'fc.bias'),
    ):
        assert (got[ours] == given[theirs]).all()
    back = convert.to_torch('resnet18', jax.tree.map(jnp.asarray, variables))
    for key in given:
        if not key.endswith('num_batches_tracked'):
            np.testing.assert_array_equal(back[key], given[key])
            assert back[key].dtype == np.float32 and back[key].flags.writeable


def test_the_counters_of_batches_are_ignored_and_written():
    given = {
        key: array
        for key, array in example('resnet18').items()
        if not key.endswith('num_batches_tracked')
    }
    back = convert.to_torch('resnet18', convert.from_torch('resnet18', given))
    counters = set(back) - set(given)
    assert len(counters) == 20 and 'layer1.0.bn1.num_batches_tracked' in counters
    assert all(back[key].dtype == np.int64 and back[key].shape == () for key in counters)


def test_bfloat16_variables_become_float32():
    given = example('resnet18') | {'fc.bias': np.float32([1, -2, 0.5, 3, 1 + 2**-7])}
    variables = convert.from_torch('resnet18', given)
    rounded = jax.tree.map(lambda array: array.astype(jnp.bfloat16), variables)
    back = convert.to_torch('resnet18', rounded)
    assert all(array.dtype == np.float32 for array in back.values() if array.ndim)
    assert (back['fc.bias'] == given['fc.bias']).all()  # bfloat16 has these numbers


def test_classes_and_channels_are_those_of_the_tensors():
    given = example('resnet18') | {'conv1.weight': np.zeros((64, 2, 7, 7), np.float32)}
    assert convert.sizes('resnet18', given) == {'classes': 5, 'channels': 2}
    got = flat(convert.from_torch('resnet18', given))
    assert got['params/conv1/conv/kernel'].shape == (7, 7, 2, 64)
    assert got['params/fc/kernel'].shape == (512, 5)


def test_a_file_goes_both_ways(tmp_path):
    variables = convert.from_torch('resnet18', example('resnet18'))
    convert.save(tmp_path / 'a.safetensors', convert.to_torch('resnet18', variables))
    again = convert.from_torch('resnet18', convert.load(tmp_path / 'a.safetensors'))
    assert flat(again).keys() == flat(variables).keys()
    for path, array in flat(again).items():
        np.testing.assert_array_equal(array, flat(variables)[path])


# --- errors ----------------------------------------------------------------------------------


def test_every_missing_left_over_misshaped_or_wrongly_typed_tensor_is_named():
    given = dict(example('resnet18'))
    del given['layer1.1.bn2.running_var'], given['fc.bias']
    given |= {
        'fc.scale': np.zeros(5, np.float32),
        'layer3.9.conv1.weight': np.zeros(1, np.float32),
        'bn1.bias': np.zeros((1, 64), np.float32),
        'bn1.weight': np.zeros(64, np.int32),
    }
    with pytest.raises(ValueError) as raised:
        convert.from_torch('resnet18', given)
    assert str(raised.value) == (
        'these tensors are not those of resnet18: missing: layer1.1.bn2.running_var, fc.bias; '
        'left over: fc.scale, layer3.9.conv1.weight; of another shape: bn1.bias (1, 64) instead '
        'of (64,); not floating-point: bn1.weight (int32).'
    )


def test_weights_of_another_model_are_refused_with_the_first_names_and_a_count():
    with pytest.raises(
        ValueError,
        match='not those of alexnet: missing: features.0.weight, .* and '
        '6 more; left over: conv1.weight, .* more',
    ):
        convert.from_torch('alexnet', example('resnet18'))
    with pytest.raises(ValueError, match='not those of resnet18: missing: conv1.weight'):
        convert.from_torch('resnet18', {})


def test_the_prefix_of_dataparallel_is_pointed_out():
    given = {f'module.{key}': array for key, array in example('resnet18').items()}
    with pytest.raises(ValueError, match="prefix 'module.' has to be taken off"):
        convert.from_torch('resnet18', given)


def test_wrong_variables_are_named_too():
    variables = convert.from_torch('resnet18', example('resnet18'))
    params = dict(variables['params'], extra={'kernel': np.zeros((1, 1), np.float32)})
    with pytest.raises(
        ValueError,
        match='these variables are not those of resnet18: missing: '
        'batch_stats/conv1/norm/mean, .*; left over: '
        'params/extra/kernel',
    ):
        convert.to_torch('resnet18', {'params': params})


@pytest.mark.parametrize(
    'call',
    [
        convert.build,
        lambda name: convert.from_torch(name, {}),
        lambda name: convert.to_torch(name, {}),
        lambda name: convert.sizes(name, {}),
    ],
)
def test_an_unknown_model_gets_the_nearest_name(call):
    with pytest.raises(ValueError, match="unknown model 'resnet52'. Did you mean 'resnet152'"):
        call('resnet52')
