"""Weights in torchvision's layout: whole nets against PyTorch, names, shapes and errors."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
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
    height, width, _ = cnns.NETS[convert.LAYOUTS[name].net].input
    images = jnp.zeros((1, height, width, net.channels))
    tree = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
    return flax.traverse_util.flatten_dict(tree, sep='/')


def flat(variables):
    return flax.traverse_util.flatten_dict(variables, sep='/')


@functools.cache
def example(name, **fields):
    """A state dict of 5 classes whose arrays hold one number each and take no memory."""
    variables = {
        path: np.broadcast_to(np.float32(i), leaf.shape)
        for i, (path, leaf) in enumerate(shapes(name, classes=5, **fields).items())
    }
    variables = flax.traverse_util.unflatten_dict(variables, sep='/')
    made = convert.to_torch(name, variables, **fields)
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


def test_tensors_of_no_net_are_refused_with_the_first_names_and_a_count():
    given = dict(example('resnet18'))
    del given['fc.weight']
    with pytest.raises(
        ValueError,
        match='not those of alexnet: missing: features.0.weight, .* and '
        '6 more; left over: conv1.weight, .* more',
    ):
        convert.from_torch('alexnet', given)
    with pytest.raises(ValueError, match='not those of resnet18: missing: conv1.weight'):
        convert.from_torch('resnet18', {})


@pytest.mark.parametrize(
    'given, model, said',
    [
        ('resnet34', 'resnet18', 'resnet34, not of resnet18'),
        ('vgg11_bn', 'vgg11', 'vgg11_bn, not of vgg11'),
        ('resnet32', 'resnet20', 'resnet32, not of resnet20'),
        ('resnet20', 'resnet18', 'resnet20, not of resnet18'),
        ('lenet5', 'resnet18', 'lenet5, not of resnet18'),
        ('alexnet', 'lenet5', 'alexnet, not of lenet5'),
    ],
)
def test_weights_of_another_of_our_nets_are_told_its_name(given, model, said):
    for prefix in ('', 'module.', 'net.'):
        named = {prefix + key: array for key, array in example(given).items()}
        with pytest.raises(ValueError, match=f'^these tensors are those of {said}.$'):
            convert.from_torch(model, named)


def test_googlenets_two_kernels_are_told_apart_and_both_load():
    """torchvision's third branch is 3x3, the paper's 5x5."""
    small, large = example('googlenet'), example('googlenet', third_kernel=5)
    with pytest.raises(ValueError, match='those of googlenet with third_kernel=5, not of googlen'):
        convert.from_torch('googlenet', large)
    with pytest.raises(ValueError, match='of googlenet, not of googlenet with third_kernel=5'):
        convert.from_torch('googlenet', small, third_kernel=5)
    kernels = [
        flat(convert.from_torch('googlenet', given, **fields))[
            'params/inception_3a/5x5/conv/kernel'
        ]
        for given, fields in ((small, {}), (large, dict(third_kernel=5)))
    ]
    assert [kernel.shape for kernel in kernels] == [(3, 3, 16, 32), (5, 5, 16, 32)]


def test_variables_of_our_own_are_told_so():
    ours = flat(convert.from_torch('resnet20', example('resnet20')))
    with pytest.raises(ValueError, match='of a net of cnns, not of PyTorch: cnns.weights.load'):
        convert.from_torch('resnet20', ours)


# --- as others save them ---------------------------------------------------------------------


@pytest.mark.parametrize(
    'model, rename, note',
    [
        ('resnet18', lambda key: f'module.{key}', "'module.' was taken off 102 names"),
        ('resnet18', lambda key: f'_orig_mod.{key}', "'_orig_mod.' was taken off 102 names"),
        ('resnet18', lambda key: f'model.{key}', "the prefix 'model.' was taken off 102 names"),
        ('resnet18', lambda key: f'backbone.{key}', "the prefix 'backbone.' was taken off 102"),
        ('resnet18', lambda key: f'a.net.module.{key}', "the prefix 'a.net.' was taken off 102"),
        ('vgg11', lambda key: key.replace('features.', 'features.module.'), "'module.' was"),
        ('resnet20', lambda key: f'module.{key}', "'module.' was taken off 97 names"),
        ('googlenet', lambda key: f'model.{key}', "the prefix 'model.' was taken off"),
    ],
)  # fmt: skip
def test_prefixes_are_taken_off_where_the_names_then_fit(tmp_path, model, rename, note):
    given = {rename(key): array for key, array in example(model).items()}
    expected = flat(convert.from_torch(model, example(model)))
    got = flat(convert.from_torch(model, given))
    assert got.keys() == expected.keys()
    assert all((got[path] == expected[path]).all() for path in expected)
    assert convert.sizes(model, given)['classes'] == 5
    if model == 'resnet20':  # a small file
        convert.save(tmp_path / 'a.safetensors', given)
        assert convert.read(tmp_path / 'a.safetensors', model).notes == (note,)
    else:
        assert convert._find(model, given, None, True, None, {}).notes[-1].startswith(note)


def test_a_checkpoint_of_a_training_program_is_read_and_its_notes_say_how(tmp_path):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    given = {f'module.{k}': torch.tensor(np.asarray(v)) for k, v in example('resnet20').items()}
    torch.save({'epoch': 90, 'arch': 'resnet20', 'state_dict': given}, tmp_path / 'best.pth.tar')
    net, variables, notes = convert.read(tmp_path / 'best.pth.tar', 'resnet20')
    assert notes == (
        "the tensors are those of 'state_dict' in the file",
        "left out, and not made: 'epoch' (int), 'arch' (str)",
        "'module.' was taken off 97 names",
    )
    assert net.classes == 5
    expected = flat(convert.from_torch('resnet20', example('resnet20')))
    assert all((array == expected[path]).all() for path, array in flat(variables).items())
    with pytest.raises(
        ValueError, match='^.*best.pth.tar: these tensors are those of resnet20, no'
    ):
        convert.read(tmp_path / 'best.pth.tar', 'resnet56')


def test_what_lies_outside_the_prefix_is_left_out_and_named(tmp_path):
    given = {f'model.{key}': array for key, array in example('resnet20').items()}
    given |= {'loss.weight': np.ones(3, np.float32), 'n_averaged': np.int64(3)}
    convert.save(tmp_path / 'a.safetensors', given)
    net, variables, notes = convert.read(tmp_path / 'a.safetensors', 'resnet20')
    assert notes[-1] == 'left out, without that prefix: loss.weight, n_averaged'
    assert net.classes == variables['params']['fc']['bias'].size == 5


def test_an_averaged_model_is_read_without_its_counter(tmp_path):
    given = {f'module.{key}': array for key, array in example('resnet20').items()}
    convert.save(tmp_path / 'a.safetensors', {'n_averaged': np.int64(7), **given})
    notes = convert.read(tmp_path / 'a.safetensors', 'resnet20').notes
    assert notes == ("'module.' was taken off 97 names", "left out: 'n_averaged', a counter")


def test_two_nets_in_a_file_are_taken_by_their_prefix_and_none_is_guessed():
    given = {
        f'{prefix}.{key}': array + np.float32(i)
        for i, prefix in enumerate(('student', 'teacher'))
        for key, array in example('resnet20').items()
    }
    with pytest.raises(ValueError, match="several prefixes: 'student.', 'teacher.'; prefix= takes"):
        convert.from_torch('resnet20', given)
    got = convert.from_torch('resnet20', given, prefix='teacher')['params']['fc']['bias']
    assert (got == example('resnet20')['linear.bias'] + 1).all()
    with pytest.raises(ValueError, match="no weights of resnet20 have the prefix 'other'"):
        convert.from_torch('resnet20', given, prefix='other')


def test_a_net_is_read_without_its_classifier_for_other_classes(tmp_path):
    whole = example('resnet20')
    bare = {key: array for key, array in whole.items() if not key.startswith('linear')}
    convert.save(tmp_path / 'bare.safetensors', bare)
    convert.save(tmp_path / 'whole.safetensors', whole)
    with pytest.raises(ValueError, match=r'classifier of resnet20 is missing .*classifier=False'):
        convert.read(tmp_path / 'bare.safetensors', 'resnet20')
    with pytest.raises(ValueError, match='have 5 classes, 37 are asked for; classifier=False'):
        convert.read(tmp_path / 'whole.safetensors', 'resnet20', classes=37)
    for name, note in (('bare', 'the file has none'), ('whole', 'linear.weight, linear.bias')):
        net, variables, notes = convert.read(
            tmp_path / f'{name}.safetensors', 'resnet20', classifier=False, classes=37
        )
        assert net.classes == 37 and notes == (f'the classifier was left out: {note}',)
        full = jax.eval_shape(
            lambda net=net: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
        )
        lacking = set(flat(full)) - set(flat(variables))
        assert lacking == {'params/fc/kernel', 'params/fc/bias'}


def test_googlenet_without_classifiers_keeps_the_rest_of_its_auxiliary_ones():
    got = flat(convert.from_torch('googlenet', example('googlenet'), classifier=False))
    whole = flat(convert.from_torch('googlenet', example('googlenet')))
    assert set(whole) - set(got) == {
        f'params/{layer}/{leaf}'
        for layer in ('fc', 'aux_4a/fc2', 'aux_4d/fc2')
        for leaf in ('kernel', 'bias')
    }


def test_three_channels_become_one_by_their_sum_where_asked(tmp_path):
    rng = np.random.default_rng(0)
    given = {k: rng.random(np.shape(v)).astype(np.float32) for k, v in example('resnet20').items()}
    convert.save(tmp_path / 'a.safetensors', given)
    colour, grey = (
        convert.read(tmp_path / 'a.safetensors', 'resnet20', channels=channels)
        for channels in (None, 1)
    )
    assert (colour.net.channels, grey.net.channels) == (3, 1) and colour.notes == ()
    assert grey.notes == ('conv1.weight was summed over its 3 input channels into 1',)
    images = rng.normal(size=(2, 16, 16, 1)).astype(np.float32)
    apply = lambda read, x: jax.jit(lambda v: read.net.apply(v, x, train=False))(read.variables)
    expected, got = apply(colour, images.repeat(3, axis=-1)), apply(grey, images)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    with pytest.raises(ValueError, match='read 3 channels, 4 are asked for; only 3 can become 1'):
        convert.read(tmp_path / 'a.safetensors', 'resnet20', channels=4)


def test_values_that_are_not_finite_are_named_at_loading():
    given = dict(example('resnet20'))
    given['layer1.0.bn1.weight'] = np.float32([np.nan, np.inf, *[1] * 14])
    with pytest.raises(ValueError, match=r'not finite: layer1.0.bn1.weight \(2 of 16 values\)\.$'):
        convert.from_torch('resnet20', given)


def test_half_precision_is_read(tmp_path):
    torch = pytest.importorskip('torch', reason='needs PyTorch')
    given = {k: torch.tensor(np.asarray(v)) for k, v in example('resnet20').items()}
    given['linear.bias'] = torch.tensor([0.1, 1, 2, 3, -4], requires_grad=True)
    for dtype in (torch.float16, torch.bfloat16):
        low = {key: tensor.to(dtype) for key, tensor in given.items()}
        torch.save(low, tmp_path / 'a.pth')
        exact = low['linear.bias'].detach().float().numpy()
        for variables in (
            convert.from_torch('resnet20', low),
            convert.read(tmp_path / 'a.pth', 'resnet20').variables,
        ):
            assert (variables['params']['fc']['bias'] == exact).all()


# --- the CIFAR ResNets -----------------------------------------------------------------------


def convolve(x, kernel, stride):
    """x [N, C, H, W] with kernel [O, C, 3, 3], padding 1, in float64."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum('nchwij,ocij->nohw', windows[:, :, ::stride, ::stride], kernel, optimize=True)


def their_cifar_resnet(given, x, blocks, option='A'):
    """Logits of the net of akamaster/pytorch_resnet_cifar10, written in NumPy from its layout."""

    def norm(x, name):
        scale, bias, mean, var = (
            given[f'{name}.{part}'][:, None, None].astype(np.float64)
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    x = np.maximum(norm(convolve(x, given['conv1.weight'], 1), 'bn1'), 0)
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f'layer{stage}.{block}', 2 if stage > 1 and not block else 1
            y = norm(convolve(x, given[f'{name}.conv1.weight'], stride), f'{name}.bn1')
            y = norm(convolve(np.maximum(y, 0), given[f'{name}.conv2.weight'], 1), f'{name}.bn2')
            if stride == 2 and option == 'B':
                kernel = given[f'{name}.shortcut.0.weight'][:, :, 0, 0]
                x = np.einsum('nchw,oc->nohw', x[:, :, ::2, ::2], kernel)
                x = norm(x, f'{name}.shortcut.1')
            elif stride == 2:  # a quarter of the new channels on each side
                side = y.shape[1] // 4
                x = np.pad(x[:, :, ::2, ::2], ((0, 0), (side, side), (0, 0), (0, 0)))
            x = np.maximum(x + y, 0)
    return x.mean((2, 3)) @ given['linear.weight'].T + given['linear.bias']


@pytest.mark.parametrize('model, option', [('resnet20', 'A'), ('resnet32', 'A'), ('resnet20', 'B')])
def test_cifar_resnets_give_the_logits_of_their_layout(model, option):
    fields = {} if option == 'A' else dict(shortcut='B')
    rng = np.random.default_rng(0)
    given = {}
    for key, array in example(model, **fields).items():
        fan_in = max(1, np.prod(array.shape[1:]))
        made = rng.normal(size=array.shape) / np.sqrt(fan_in) if array.ndim > 1 else None
        made = rng.uniform(0.5, 1, array.shape) if made is None else made
        given[key] = made.astype(np.float32) if array.ndim else array
    images = rng.normal(size=(2, 12, 12, 3)).astype(np.float32)
    blocks = {'resnet20': 3, 'resnet32': 5}[model]
    expected = their_cifar_resnet(given, images.transpose(0, 3, 1, 2), blocks, option)
    variables = convert.from_torch(model, given, **fields)
    net = convert.build(model, classes=5, **fields)
    got = jax.jit(lambda variables: net.apply(variables, images, train=False))(variables)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
    back = convert.to_torch(model, variables, **fields)
    assert list(back) == list(given)
    assert all((back[key] == given[key]).all() for key in given)


def test_cifar_resnets_of_the_other_shortcut_are_told_so():
    with pytest.raises(ValueError, match="those of resnet20 with shortcut='B', not of resnet20"):
        convert.from_torch('resnet20', example('resnet20', shortcut='B'))


# --- LeNet-5 ---------------------------------------------------------------------------------

LENET_NAMES = {
    'by_layer': ['conv1', 'conv2', 'fc1', 'fc2', 'fc3'],
    'by_place': ['features.0', 'features.3', 'classifier.0', 'classifier.2', 'classifier.4'],
    'by_paper': ['module.c1', 'module.c3', 'module.c5', 'module.f6', 'module.output'],
}


@pytest.mark.parametrize('names', LENET_NAMES.values(), ids=LENET_NAMES)
@pytest.mark.parametrize('convolution', [False, True])
def test_lenet5_loads_where_shapes_and_order_fit(tmp_path, names, convolution):
    rng = np.random.default_rng(0)
    shapes = [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (7, 84)]
    given = {}
    for name, shape in zip(names, shapes):
        shape = (120, 16, 5, 5) if convolution and shape == (120, 400) else shape
        given[f'{name}.weight'] = rng.normal(size=shape).astype(np.float32) / 9
        given[f'{name}.bias'] = rng.normal(size=shape[0]).astype(np.float32)
    convert.save(tmp_path / 'a.safetensors', given)
    with pytest.raises(ValueError, match='do not tell its pool: name them'):
        convert.read(tmp_path / 'a.safetensors', 'lenet5', activation='relu')
    net, variables, _ = convert.read(
        tmp_path / 'a.safetensors', 'lenet5', activation='relu', pool='max'
    )
    images = rng.normal(size=(2, 32, 32, 1)).astype(np.float32)
    got = jax.jit(lambda variables: net.apply(variables, images, train=False))(variables)
    weights = [array.astype(np.float64) for array in given.values()]
    x = images.transpose(0, 3, 1, 2)
    for kernel, bias in (weights[:2], weights[2:4]):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.einsum('nchwij,ocij->nohw', windows, kernel) + bias[:, None, None]
        n, c, h, w = x.shape
        x = np.maximum(x, 0).reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
    x = x.reshape(2, -1)
    for matrix, bias in (weights[4:6], weights[6:8], weights[8:]):
        last = x @ matrix.reshape(len(matrix), -1).T + bias
        x = np.maximum(last, 0)
    np.testing.assert_allclose(got, last, rtol=1e-4, atol=1e-4)
    back = convert.to_torch('lenet5', variables)
    assert list(back) == [
        f'{n}.{leaf}' for n in LENET_NAMES['by_layer'] for leaf in ('weight', 'bias')
    ]
    assert (back['fc1.weight'] == given[f'{names[2]}.weight'].reshape(120, 400)).all()


def test_lenet5_for_images_without_padding_is_refused():
    given = dict(example('lenet5'))
    given['fc1.weight'] = np.zeros((120, 256), np.float32)
    with pytest.raises(ValueError, match=r'fc1.weight \(120, 256\) instead of \(120, 400\)'):
        convert.from_torch('lenet5', given)


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
