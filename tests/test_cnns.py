"""build and names: an explicit dictionary whose errors name the nearest valid thing."""

import dataclasses
import functools
import pathlib
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import cnns


@pytest.mark.parametrize('name', ['lenet5', 'mlp_300', 'resnet20', 'lenet5_1998', 'vgg11_32px'])
def test_a_net_takes_a_batch_of_any_size_none_and_a_symbol_included(name):
    net, size = cnns.build(name), cnns.NETS[name].input
    variables = jax.eval_shape(
        lambda: net.init(jax.random.PRNGKey(0), jnp.zeros((1, *size)), train=False)
    )
    apply = lambda variables, x: net.apply(variables, x, train=False)
    assert jax.eval_shape(apply, variables, jnp.zeros((0, *size))).shape == (0, 10)
    (count,) = jax.export.symbolic_shape('n')
    exported = jax.export.export(jax.jit(apply))(
        variables, jax.ShapeDtypeStruct((count, *size), jnp.float32)
    )
    assert str(exported.out_avals[0].shape[0]) == 'n' and exported.out_avals[0].shape[1] == 10


def test_build_takes_every_name_and_the_default_is_the_papers_choice():
    assert cnns.axes_of('lenet5') == dict(
        activation='tanh', pool='average', overlap=False, norm='none'
    )
    assert cnns.axes_of('lenet5_1998') == dict(activation='scaled_tanh')
    assert cnns.axes_of('alexnet') == dict(activation='relu', pool='max', overlap=True, norm='lrn')
    assert cnns.axes_of('vgg11_lrn') == dict(
        activation='relu', pool='max', overlap=False, norm='lrn'
    )
    assert cnns.axes_of('resnet20') == dict(activation='relu', norm='batch')
    assert cnns.axes_of('cuda_convnet_19pct')['pool'] == 'mixed'
    for name in cnns.names():
        assert type(cnns.build(name)) is cnns.NETS[name].net


@pytest.mark.parametrize(
    'name, fields, message',
    [
        (
            'lenet',
            {},
            r"unknown net 'lenet'. Did you mean 'lenet5'\? Allowed: lenet5, lenet5_1998, ",
        ),
        (
            'lenet5',
            dict(poool='max'),
            r"no field 'poool'. Did you mean 'pool'\? Allowed: activation",
        ),
        ('lenet5', dict(parent=None), "no field 'parent'"),
        ('lenet5', dict(pool='mean'), "unknown pool 'mean'.*Allowed: average, max"),
        ('lenet5_1998', dict(pool='max'), "lenet5_1998 has no axis 'pool': .*trainable"),
        ('lenet5_1998', dict(overlap=True), "no axis 'overlap': .*disjoint"),
        ('lenet5_1998', dict(norm='none'), "no axis 'norm': "),
        (
            'resnet20',
            dict(pool='average'),
            "resnet20 has no axis 'pool': it shrinks its maps by strides",
        ),
        ('mlp_300', dict(norm='lrn'), "mlp_300 has no choice 'norm=lrn': its units have no order"),
        ('vgg16', dict(pool='mixed'), "unknown pool 'mixed'"),
        ('vgg16', dict(initialiser='xavier'), "unknown initialiser 'xavier'.*paper, he, glorot"),
        ('resnet50', dict(initialiser='paper'), "unknown initialiser 'paper'.*he"),
    ],
)
def test_a_mistake_names_what_is_allowed(name, fields, message):
    with pytest.raises(ValueError, match=message):
        cnns.build(name, **fields)


def test_cnns_imports_nothing_of_ours_and_only_array_libraries():
    allowed = {'cnns', 'jax', 'flax', 'numpy', 'safetensors'} | sys.stdlib_module_names
    folder = pathlib.Path(cnns.__file__).parent
    for path in folder.rglob('*.py'):
        for package in re.findall(r'^(?:from|import) (\w+)', path.read_text(), re.M):
            assert package in allowed, path


@functools.cache
def initialised(name):
    """The net, the shapes of two images, and of its variables."""
    net, images = cnns.build(name), jax.ShapeDtypeStruct((2, *cnns.NETS[name].input), jnp.float32)
    init = functools.partial(net.init, train=False)
    return net, images, jax.eval_shape(init, jax.random.PRNGKey(0), images)


def shapes(name, side=None, **fields):
    height, width, channels = cnns.NETS[name].input
    images = jax.ShapeDtypeStruct((2, side or height, side or width, channels), jnp.float32)
    net = cnns.build(name, **fields)
    return jax.eval_shape(
        lambda x: net.init_with_output({'params': jax.random.PRNGKey(0)}, x, train=False)[0], images
    )


@pytest.mark.parametrize(
    'name, side, message',
    [
        (
            'alexnet',
            64,
            'fc6 reads maps of 6x6; images of 64x64 give 1x1. Sides from 196 to 227 fit',
        ),
        ('alexnet_32px', 64, 'fc6 reads maps of 4x4'),
        ('vgg16', 192, "head='dense' takes sides from 224 to 255, it was given 192x192"),
        ('vgg16_32px', 16, 'takes sides from 32'),
        ('googlenet', 160, 'auxiliary classifiers read 14x14 maps.*Set aux=False'),
        ('resnet18', 16, 'takes sides from 32'),
        ('resnet20', 2, 'takes sides from 4'),
    ],
)
def test_a_side_that_does_not_fit_is_refused_with_those_that_do(name, side, message):
    with pytest.raises(ValueError, match=message):
        shapes(name, side)


@pytest.mark.parametrize(
    'name, fields, message',
    [
        (
            'alexnet',
            dict(widths=(1, 2)),
            r'widths is \(1, 2\), it must be 5 numbers, each at least 1',
        ),
        ('vgg16', dict(widths=(8, 8)), 'widths is .* 5 numbers'),
        ('vgg11', dict(widths=(8, 8, 8, 8, 0)), 'widths'),
        ('resnet18', dict(blocks=()), 'blocks is .*one or more numbers'),
        ('resnet20', dict(blocks=0), 'blocks is'),
        ('lenet5', dict(classes=-1), 'classes is -1, it must be a whole number from 1'),
        ('lenet5', dict(channels=1.0), 'channels is 1.0'),
        ('mlp_300', dict(hidden=()), 'hidden is'),
        ('alexnet', dict(groups=7), 'which 7 groups do not divide'),
    ],
)
def test_counts_that_make_no_net_are_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        shapes(name, **fields)


@pytest.mark.parametrize(
    'name, side, fields',
    [
        ('alexnet', 224, {}),
        ('alexnet', 200, {}),
        ('vgg11', 250, {}),
        ('vgg11_32px', 64, {}),
        ('vgg11', 384, dict(head='convolutional')),
        ('googlenet', 160, dict(aux=False)),
        ('resnet18', 160, {}),
        ('resnet20', 24, {}),
        ('cuda_convnet_13pct', 32, {}),
        ('mlp_300', 16, {}),
    ],
)
def test_other_sides_give_logits_where_the_net_allows_them(name, side, fields):
    assert shapes(name, side, classes=7, **fields).shape == (2, 7)


@pytest.mark.parametrize('name', cnns.names())
def test_images_with_other_channels_are_refused_with_the_remedy(name):
    height, width, channels = cnns.NETS[name].input
    images = jax.ShapeDtypeStruct((2, height, width, channels + 1), jnp.float32)
    with pytest.raises(ValueError, match='channels'):
        jax.eval_shape(
            lambda x: cnns.build(name).init(jax.random.PRNGKey(0), x, train=False), images
        )


def test_one_image_without_a_batch_is_refused_with_the_remedy():
    with pytest.raises(
        ValueError, match=r'given \(32, 32, 1\). One image is a batch too: images\['
    ):
        jax.eval_shape(
            lambda x: cnns.build('lenet5').init(jax.random.PRNGKey(0), x, train=False),
            jax.ShapeDtypeStruct((32, 32, 1), jnp.float32),
        )


def test_features_are_the_last_hidden_layer_or_a_named_one():
    net = cnns.build('lenet5', norm='batch')
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    variables = jax.jit(functools.partial(net.init, train=False))(jax.random.PRNGKey(0), images)
    apply = lambda v, x, **asked: net.apply(v, x, train=False, **asked)
    hidden, logits, pooled = jax.jit(
        lambda v, x: (apply(v, x, features=True), apply(v, x), apply(v, x, features='S2'))
    )(variables, images)
    assert hidden.shape == (2, 84)
    last = jax.device_get(variables['params']['OUT'])
    expected = np.asarray(hidden) @ last['kernel'] + last['bias']
    np.testing.assert_allclose(expected, logits, rtol=1e-5, atol=1e-5)
    assert pooled.shape == (2, 14, 14, 6)
    with pytest.raises(ValueError, match="unknown layer 'conv1'. Allowed: C1, S2"):
        net.apply(variables, images, train=False, features='conv1')


@pytest.mark.parametrize(
    'name, layer, shape',
    [
        ('alexnet', True, (2, 4096)),
        ('alexnet', 'conv3', (2, 13, 13, 384)),
        ('vgg16', True, (2, 4096)),
        ('googlenet', True, (2, 1024)),
        ('googlenet', 'inception_4a/3x3', (2, 14, 14, 208)),
        ('resnet50', True, (2, 2048)),
        ('resnet50', 'conv4_3/conv2', (2, 14, 14, 256)),
        ('resnet50', 'conv3_4', (2, 28, 28, 512)),
        ('resnet20', True, (2, 64)),
        ('mlp_300_100', True, (2, 100)),
        ('lenet5_1998', True, (2, 84)),
        ('cuda_convnet_13pct', True, (2, 6, 6, 32)),
    ],
)
def test_any_layer_or_block_can_be_asked_for_by_name(name, layer, shape):
    net, images, variables = initialised(name)
    got = jax.eval_shape(
        lambda v, x: net.apply(v, x, train=False, features=layer), variables, images
    )
    assert got.shape == shape


def test_train_has_no_default():
    with pytest.raises(TypeError, match="'train'"):
        cnns.build('lenet5').init(jax.random.PRNGKey(0), np.zeros((1, 32, 32, 1)))


def test_a_fresh_import_has_the_submodules_and_the_version():
    code = (
        'import cnns; cnns.convert.MODELS, cnns.layers.Net, cnns.fast.conv, cnns.axes.AXES; '
        'assert cnns.__version__; assert all(hasattr(cnns, name) for name in cnns.__all__)'
    )
    root = pathlib.Path(cnns.__file__).parent.parent
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True, timeout=300)
    assert (root / 'cnns' / 'py.typed').is_file()


@pytest.mark.parametrize(
    'name, path, shape',
    [
        ('lenet5', 'C3/conv/kernel', (5, 5, 6, 16)),
        ('mlp_300', 'fc2/kernel', (300, 10)),
        ('cuda_convnet_13pct', 'local3/kernel', (6, 6, 576, 32)),
        ('googlenet_32px', 'inception_3a/1x1/conv/kernel', (1, 1, 192, 64)),
        ('googlenet', 'aux_4d/fc1/kernel', (2048, 1024)),
        ('resnet50', 'conv3_1/shortcut/conv/kernel', (1, 1, 256, 512)),
        ('resnet20', 'conv2_1/conv1/norm/scale', (16,)),
    ],
)
def test_parameters_keep_the_paths_that_stored_weights_have(name, path, shape):
    leaf = initialised(name)[2]
    for part in ('params', *path.split('/')):
        leaf = leaf[part]
    assert leaf.shape == shape


def test_a_block_lists_its_layers_before_itself():
    net = cnns.build('resnet20', blocks=1, shortcut='B')
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with pytest.raises(ValueError, match='unknown layer') as error:
        jax.eval_shape(
            lambda x: net.init_with_output(jax.random.PRNGKey(0), x, train=False, features='conv9'),
            images,
        )
    names = str(error.value).split('Allowed: ')[1].rstrip('.').split(', ')
    block = [f'conv3_1/{layer}' for layer in ('conv1', 'conv2', 'shortcut', 'out')]
    at = names.index('conv3_1/conv1')
    assert names[at : at + 5] == [*block, 'conv3_1']
    assert names[0] == 'conv1' and names[-2:] == ['average', 'fc']


def test_a_net_takes_flaxs_name_inside_another_module():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            net = cnns.build('lenet5', name='backbone')
            return nn.Dense(3, name='head')(net(x, train=False, features=True))

    shapes = jax.eval_shape(lambda x: Two().init(jax.random.key(0), x), jnp.zeros((1, 32, 32, 1)))
    assert set(shapes['params']) == {'backbone', 'head'}
    assert 'C1' in shapes['params']['backbone']


@pytest.mark.parametrize('name', ['resnet20', 'vgg11_32px', 'lenet5'])
def test_remat_of_a_nets_class_changes_no_gradient(name):
    net = cnns.build(name, **{'resnet20': dict(blocks=1, width=4)}.get(name, {}))
    own = {field.name for field in dataclasses.fields(net)} - {'parent', 'name'}
    fields = {field: getattr(net, field) for field in own}
    again = nn.remat(type(net), static_argnums=(2,))(**fields)
    x = jnp.ones((1, *cnns.NETS[name].input))
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, False), x)

    def loss(net):
        return lambda v, x: net.apply(v, x, False).sum()

    jaxprs = [str(jax.make_jaxpr(jax.grad(loss(one)))(shapes, x)) for one in (net, again)]
    assert ['remat' in text or 'checkpoint' in text for text in jaxprs] == [False, True]
    if name == 'lenet5':
        v = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
        one, other = (jax.jit(jax.grad(loss(net)))(v, x) for net in (net, again))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), one, other)


def test_googlenet_in_inference_takes_every_side_with_auxiliary_classifiers_too():
    net, _, shapes = initialised('googlenet')
    at = lambda side: jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    for side in (192, 256):
        logits = jax.eval_shape(lambda v, x: net.apply(v, x, False), shapes, at(side))
        assert logits.shape == (1, 1000)
    with pytest.raises(ValueError, match='auxiliary classifiers read 14x14'):
        jax.eval_shape(
            lambda v, x: net.apply(v, x, True, rngs={'dropout': jax.random.key(0)}), shapes, at(256)
        )


@pytest.mark.parametrize('platforms', [['cpu'], ['cuda'], ['tpu'], ['cpu', 'cuda', 'tpu']])
def test_an_exported_net_computes_the_same_and_has_a_choice_only_between_platforms(platforms):
    net, x = cnns.build('lenet5', pool='max'), np.ones((2, 32, 32, 1), np.float32)
    variables = net.init(jax.random.key(0), x, False)
    apply = jax.jit(lambda v, x: net.apply(v, x, False))
    exported = jax.export.export(apply, platforms=platforms)(variables, x)
    text = exported.mlir_module()
    assert ('platform_index' in text) == (len(platforms) > 1)
    assert ('reduce_window' in text) == (platforms != ['cpu'])  # the plain max pooling
    if 'cpu' in platforms:
        np.testing.assert_allclose(exported.call(variables, x), apply(variables, x), 1e-5, 1e-6)


@pytest.mark.parametrize('name', ['lenet5', 'cuda_convnet_13pct', 'resnet20', 'vgg11_32px'])
def test_without_fast_forms_a_program_has_operations_of_one_platform_alone(name):
    # What converters of traced programs need, to ONNX for one: they know no platform_index
    net = cnns.build(name, fast=False, **{'resnet20': dict(blocks=1)}.get(name, {}))
    x = jax.ShapeDtypeStruct((1, *cnns.NETS[name].input), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, False), x)
    text = str(jax.make_jaxpr(lambda v, x: net.apply(v, x, False))(shapes, x))
    assert not any(
        word in text for word in ('platform_index', 'custom_vjp', 'optimization_barrier')
    )
