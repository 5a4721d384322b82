"""Every net against its paper: one table of exact numbers, and no net without its row.

The numbers come from arithmetic on the papers' layer tables; where a paper prints a total it is
among them, or rounds to it. Receptive fields follow r + (kernel - 1) * jump, layer by layer.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import alexnet, axes, googlenet, layers, lenet, vgg
from experiments.models import command
from experiments.models import description as models

# name: (parameters, multiply-adds in inference, weight layers, receptive field of the last map)
GOLDEN = {
    'lenet5': (61_706, 416_520, 5, 32),
    'lenet5_1998': (60_000, 326_520, 4, 32),  # its output layer has codes, not weights
    'mlp_300': (238_510, 238_200, 2, None),
    'mlp_1000': (795_010, 794_000, 2, None),
    'mlp_300_100': (266_610, 266_200, 3, None),
    'mlp_500_150': (469_160, 468_500, 3, None),
    'mlp_batchnorm': (99_710, 99_400, 4, None),
    'cuda_convnet_80sec': (145_578, 12_354_176, 5, 43),
    'cuda_convnet_19pct': (89_578, 12_298_240, 4, 43),
    'cuda_convnet_18pct': (89_578, 12_298_240, 4, 55),
    'cuda_convnet_13pct': (1_116_490, 18_517_248, 5, 35),
    'cuda_convnet_11pct': (2_112_970, 19_512_576, 5, 35),
    'alexnet': (60_965_224, 724_406_816, 8, 195),
    'alexnet_ungrouped': (62_378_344, 1_135_256_096, 8, 195),
    'alexnet_one_tower': (61_100_840, 714_188_480, 8, 195),
    'alexnet_32px': (7_561_610, 218_671_104, 8, 51),
    'vgg11': (132_863_336, 7_609_090_048, 11, 150),
    'vgg11_lrn': (132_863_336, 7_609_090_048, 11, 150),
    'vgg13': (133_047_848, 11_308_466_176, 13, 156),
    'vgg16_1x1': (133_638_952, 11_770_888_192, 16, 156),
    'vgg16': (138_357_544, 15_470_264_320, 16, 212),
    'vgg19': (143_667_240, 19_632_062_464, 19, 268),
    'vgg11_32px': (9_225_610, 7_485_456_384 // 49 + 5_120, 9, 150),
    'vgg16_32px': (14_719_818, 15_346_630_656 // 49 + 5_120, 14, 212),
    'googlenet': (6_998_552, 1_582_671_872, 22, 715),
    'googlenet_32px': (5_864_762, 1_447_241_728, 20, 89),
    'resnet18': (11_689_512, 1_814_073_344, 18, 435),
    'resnet34': (21_797_672, 3_663_761_408, 34, 899),
    'resnet50': (25_557_032, 3_857_973_248, 50, 483),
    'resnet101': (44_549_160, 7_570_194_432, 101, 1027),
    'resnet152': (60_192_808, 11_282_415_616, 152, 1507),
    # the same without the projections of option B
    'plain18': (11_515_688, 1_814_073_344 - 3 * 6_422_528, 18, 435),
    'plain34': (21_623_848, 3_663_761_408 - 3 * 6_422_528, 34, 899),
    'plain50': (25_557_032 - 2_776_576, 3_857_973_248 - 359_661_568, 50, 483),
    'plain101': (44_549_160 - 2_776_576, 7_570_194_432 - 359_661_568, 101, 1027),
    'plain152': (60_192_808 - 2_776_576, 11_282_415_616 - 359_661_568, 152, 1507),
    **{
        f'{kind}{6 * n + 2}': (parameters, macs, 6 * n + 2, 28 * n - 3)
        for kind in ('resnet', 'plain')
        for n, parameters, macs in (
            (3, 269_722, 40_551_040),
            (5, 464_154, 68_862_592),
            (7, 658_586, 97_174_144),
            (9, 853_018, 125_485_696),
            (18, 1_727_962, 252_887_680),
            (200, 19_421_274, 2_829_238_912),
        )
    },
}


# Run once: compiling it well would cost more than it saves
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}


def test_no_net_lacks_its_row():
    assert set(GOLDEN) == set(cnns.names())


# Nets of 1,202 layers take as long to trace as all others together
DEEP = ('resnet1202', 'plain1202')


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.long] * (name in DEEP)) for name in GOLDEN]
)
def test_parameters_multiply_adds_layers_and_receptive_field(name):
    net = models.describe(name)
    assert (net['parameters'], net['macs'], net['layers'], net['receptive_field']) == GOLDEN[name]
    assert net['training_parameters'] >= net['parameters']
    assert {'input', 'year', 'paper', 'paper_parameters', 'family'} <= set(net)


@pytest.mark.parametrize('name', DEEP)
def test_each_more_block_adds_as_much_up_to_1202_layers(name):
    small = name.replace('1202', '20')
    assert cnns.NETS[name].fields == cnns.NETS[small].fields | {'blocks': 200}
    one, two = (models.describe(small, blocks=count) for count in (1, 2))
    keys = ('parameters', 'macs', 'layers', 'receptive_field')
    assert tuple(one[key] + 199 * (two[key] - one[key]) for key in keys) == GOLDEN[name]


@pytest.mark.parametrize('absent', [DEEP, pytest.param((), marks=pytest.mark.long)], ids=len)
def test_the_table_of_nets_is_what_the_command_prints(absent, root, capsys, monkeypatch):
    shown = [name for name in cnns.names() if name not in absent]
    monkeypatch.setattr(cnns, 'names', lambda: shown)
    assert command.main(['--markdown']) == 0  # each net is traced once in this file
    lines = (root / 'cnns/README.md').read_text().splitlines()
    rows = {name: line for name in absent for line in lines if line.startswith(f'| {name} |')}
    for name, row in rows.items():
        parameters, macs, layers, field = GOLDEN[name]
        assert f'| {parameters:,} |' in row and f'| {macs:,} | {layers} | {field} |' in row
    assert list(rows) == list(absent)
    others = '\n'.join(line for line in lines if line not in rows.values())
    assert capsys.readouterr().out.strip() in others


# Other choices of the same nets: name, fields, parameters.
CHOICES = [
    ('mlp_batchnorm', dict(norm='batch'), 100_010),
    ('vgg16', dict(norm='batch', bias=True), 138_365_992),
    ('vgg16', dict(norm='batch'), 138_365_992 - 4_224),
    ('vgg16', dict(head='convolutional'), 138_357_544),
    ('resnet18', dict(shortcut='A'), 11_515_688),
    ('resnet34', dict(shortcut='A'), 21_623_848),
    ('resnet18', dict(shortcut='C'), 12_043_816),
    ('resnet34', dict(shortcut='C'), 22_716_840),
    ('resnet50', dict(stride_on='3x3'), 25_557_032),
    ('resnet20', dict(shortcut='B'), 272_474),
    # torchvision's, with batch norm instead of biases; its 3x3 branch must not come out unasked
    ('googlenet', dict(aux=False, norm='batch', third_kernel=3), 6_624_904),
    ('googlenet', dict(norm='batch', third_kernel=3), 13_004_888),
    ('googlenet', dict(norm='batch'), 13_385_816),
    ('googlenet', dict(), 13_378_280),
    ('googlenet', dict(aux=False), 6_998_552),
    # 9 D N + 9 N^2 weights of a pair of 3x3 become 25 D N of a 5x5
    (
        'vgg11_32px',
        dict(column='B', stack='one', widths=(2, 2, 2, 2, 2)),
        25 * (3 * 2 + 4 * 4) + 5 * 2 + 30,
    ),
    ('vgg11_32px', dict(column='B', stack='linear', widths=(2,) * 5), 54 + 9 * 36 + 20 + 30),
    # D with one 7x7 for three 3x3, in three of its blocks
    ('vgg16_32px', dict(stack='one', widths=(1,) * 5), 25 * (3 + 1) + 49 * 3 + 5 + 20),
    # the fully connected head of VGG on the 1x1 maps of images of 32x32
    (
        'vgg11_32px',
        dict(head='dense', fc6_side=1, units=7, widths=(1,) * 5),
        27 + 7 * 9 + 8 + (7 + 7) + (49 + 7) + 80,
    ),
]


@functools.cache
def variables_of(name, side=None, **fields):
    height, width, channels = cnns.NETS[name].input
    images = jax.ShapeDtypeStruct((1, side or height, side or width, channels), jnp.float32)
    net = cnns.build(name, **fields)
    return (
        net,
        images,
        jax.eval_shape(lambda x: net.init(jax.random.PRNGKey(0), x, train=False), images),
    )


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shape_of(name, layer, side=None, **fields):
    net, images, variables = variables_of(name, **fields)
    if side:  # which changes no variable
        images = images.update(shape=(1, side, side, images.shape[-1]))
    return jax.eval_shape(
        lambda v, x: net.apply(v, x, train=False, features=layer), variables, images
    ).shape[1:]


@functools.cache
def rows_of(name, side):
    """{layer: its row}, of one trace."""
    return {row['layer']: row for row in models.describe(name, side)['rows']}


@pytest.mark.parametrize('name, fields, parameters', CHOICES, ids=str)
def test_other_choices_have_their_parameters(name, fields, parameters):
    assert count(variables_of(name, **fields)[2]['params']) == parameters


def test_resnet50_with_the_stride_on_3x3_costs_more():
    net = models.describe('resnet50', stride_on='3x3')
    assert (net['macs'], net['receptive_field']) == (4_089_184_256, 427)


def test_lenet5_layer_by_layer():
    params = variables_of('lenet5_1998')[2]['params']
    assert [count(params[name]) for name in ('C1', 'S2', 'C3', 'S4', 'C5', 'F6')] == [
        156,
        12,
        1516,
        32,
        48120,
        10164,
    ]
    assert [shape_of('lenet5', name)[0] for name in ('C1', 'S2', 'C3', 'S4', 'C5')] == [
        28,
        14,
        10,
        5,
        1,
    ]


def test_lenet5_has_340908_connections():
    sides = {'C1': 28, 'S2': 14, 'C3': 10, 'S4': 5, 'C5': 1}
    inputs = {
        'C1': [25] * 6,
        'S2': [4] * 6,
        'C3': [25 * len(column) for column in lenet.C3_TABLE],
        'S4': [4] * 16,
        'C5': [400] * 120,
    }
    connections = {
        name: sides[name] ** 2 * sum(count + 1 for count in inputs[name]) for name in sides
    }
    connections |= {'F6': 84 * 121, 'OUT': lenet.CODES.size}
    assert connections == dict(C1=122304, S2=5880, C3=151600, S4=2000, C5=48120, F6=10164, OUT=840)
    assert sum(connections.values()) == 340_908


def test_the_c3_table_has_60_links():
    columns = [len(column) for column in lenet.C3_TABLE]
    assert (sum(columns), columns.count(3), columns.count(4), columns.count(6)) == (60, 6, 9, 1)
    assert [sum(row in column for column in lenet.C3_TABLE) for row in range(6)] == [10] * 6


def test_scaled_tanh_has_the_papers_value_and_slope():
    assert axes.scaled_tanh(1.0) == pytest.approx(0.9999973, abs=1e-7)
    assert jax.grad(axes.scaled_tanh)(0.0) == pytest.approx(1.1439333, abs=1e-7)


ALEXNET_MAPS = (
    ('conv1', 55, 96),
    ('pool1', 27, 96),
    ('conv2', 27, 256),
    ('pool2', 13, 256),
    ('conv3', 13, 384),
    ('conv4', 13, 384),
    ('conv5', 13, 256),
    ('pool5', 6, 256),
)


@pytest.mark.parametrize('side', [224, 227])
@pytest.mark.parametrize('name', ['alexnet', 'alexnet_one_tower'])
def test_alexnet_has_the_same_maps_from_224_and_227(name, side):
    widths = dict(zip(('conv1', 'conv2', 'conv3', 'conv4', 'conv5'), cnns.build(name).widths))
    for layer, size, _ in ALEXNET_MAPS:
        width = widths['conv' + layer[-1]]
        assert rows_of(name, side)[layer]['output'] == [size, size, width], layer
    assert count(variables_of(name, side)[2]['params']) == GOLDEN[name][0]


def test_alexnet_layer_by_layer():
    params = variables_of('alexnet')[2]['params']
    assert {name: count(params[name]) for name in params} == dict(
        conv1=34944,
        conv2=307456,
        conv3=885120,
        conv4=663936,
        conv5=442624,
        fc6=37752832,
        fc7=16781312,
        fc8=4097000,
    )
    rows = rows_of('alexnet', None)
    for layer, size, width in ALEXNET_MAPS:
        assert rows[layer]['output'] == [size, size, width]
    assert shape_of('alexnet', 'pool5') == (6, 6, 256)
    fields = [rows[f'conv{i}']['receptive_field'] for i in range(1, 6)]
    assert fields == [11, 51, 99, 131, 163]


def test_alexnet_at_224_rounded_down_would_be_another_net():
    # Floor arithmetic without padding: 54, 26, 12, 5, and 49,430,888 parameters
    side = (224 - 11) // 4 + 1
    assert (side, side // 8) == (54, 6)  # our pools halve, rounding down: 54, 27, 13, 6
    valid = functools.reduce(lambda n, _: (n - 3) // 2 + 1, range(3), side)
    assert valid == 5
    wrong = 60_965_224 - 4096 * 256 * (36 - 25)
    assert wrong == 49_430_888
    assert alexnet.stem(224, None) == (55, (0, 3)) and alexnet.stem(227, None) == (55, (0, 0))
    assert alexnet.stem(224, 2) == (55, (2, 2))
    assert count(variables_of('alexnet', 224)[2]['params']) != wrong


@pytest.mark.parametrize('side, places', [(224, 1), (256, 2), (288, 3), (384, 6), (512, 10)])
def test_the_dense_score_map_of_vgg_has_its_size(side, places):
    assert shape_of('vgg16', 'fc8', side, head='convolutional') == (places, places, 1000)
    assert shape_of('vgg16', False, side, head='convolutional') == (1000,)


def test_vgg_heads_have_the_same_variables():
    trees = [
        jax.tree.map(lambda leaf: leaf.shape, variables_of('vgg16', head=head)[2])
        for head in ('dense', 'convolutional')
    ]
    assert trees[0] == trees[1]


def applied(net, **how):
    """The net as a compiled function of variables and images."""
    return jax.jit(functools.partial(net.apply, **dict(train=False) | how), compiler_options=QUICK)


def test_the_dense_head_equals_the_fully_connected_head_at_224():
    fields = dict(column='A', widths=(2, 2, 4, 4, 8), units=16, classes=5)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 224, 224, 3)).astype(np.float32)
    full = vgg.VGG(**fields)
    shapes = jax.eval_shape(lambda x: full.init(jax.random.PRNGKey(0), x, train=False), images)
    variables = jax.tree.map(
        lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), shapes
    )
    expected, got = (
        applied(net)(variables, images) for net in (full, full.clone(head='convolutional'))
    )
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@functools.cache
def outputs_of_blocks():
    """What the modules of GoogLeNet give, of one trace."""
    net, images, variables = variables_of('googlenet')
    how = dict(train=False, capture_intermediates=True, mutable=['intermediates'])
    return jax.eval_shape(functools.partial(net.apply, **how), variables, images)[1][
        'intermediates'
    ]


@pytest.mark.parametrize(
    'block, width, weights',
    [
        ('3a', 256, 163_328),
        ('3b', 480, 388_096),
        ('4a', 512, 375_552),
        ('4b', 512, 448_512),
        ('4c', 512, 509_440),
        ('4d', 528, 604_672),
        ('4e', 832, 867_328),
        ('5a', 832, 1_042_432),
        ('5b', 1024, 1_442_816),
    ],
)
def test_inception_blocks_have_their_widths_and_weights(block, width, weights):
    params = variables_of('googlenet')[2]['params'][f'inception_{block}']
    kernels = {name: layer['conv']['kernel'].shape for name, layer in params.items()}
    assert sum(map(math.prod, kernels.values())) == weights
    assert kernels['5x5'][:2] == (5, 5)  # the papers' branch, not torchvision's 3x3
    assert outputs_of_blocks()[f'inception_{block}']['__call__'][0].shape[-1] == width
    if block in ('3a', '5b'):
        assert count(params) == {'3a': 163_696, '5b': 1_444_080}[block]


def test_the_auxiliary_classifiers_have_their_parameters_and_are_absent_at_inference():
    net, images, variables = variables_of('googlenet')
    params = variables['params']
    assert (count(params['aux_4a']), count(params['aux_4d'])) == (3_188_840, 3_190_888)
    _, state = jax.eval_shape(
        lambda v, x: net.apply(
            v, x, train=True, rngs={'dropout': jax.random.PRNGKey(0)}, mutable=['auxiliary']
        ),
        variables,
        images,
    )
    assert {name: one.shape for name, one in state['auxiliary'].items()} == dict(
        logits_4a=(1, 1000), logits_4d=(1, 1000)
    )
    _, state = jax.eval_shape(
        lambda v, x: net.apply(v, x, train=False, mutable=['auxiliary']), variables, images
    )
    assert not state.get('auxiliary')
    without = {name: tree for name, tree in params.items() if not name.startswith('aux')}
    jax.eval_shape(
        lambda v, x: net.clone(aux=False).apply(v, x, train=False), {'params': without}, images
    )
    assert googlenet.AUXILIARY_WEIGHT == 0.3


def test_the_naive_block_is_wider_and_the_reduced_one_cheaper():
    assert shape_of('googlenet', 'inception_3a', block='naive', aux=False)[-1] == 416
    naive = variables_of('googlenet', block='naive', aux=False)[2]['params']['inception_3a']
    assert sum(math.prod(layer['conv']['kernel'].shape) for layer in naive.values()) == 387_072


@pytest.mark.parametrize(
    'name, maps',
    [('cuda_convnet_19pct', (32, 16, 16, 8, 8, 4)), ('cuda_convnet_13pct', (24, 12, 12, 6))],
)
def test_cuda_convnet_pools_round_up(name, maps):
    names = [f'{kind}{i}' for i in (1, 2, 3) for kind in ('conv', 'pool')]
    assert tuple(shape_of(name, layer)[0] for layer in names[: len(maps)]) == maps


@pytest.mark.parametrize('depth', range(1, 6))
def test_stacked_3x3_layers_see_2k_plus_1_pixels(depth):
    kernel = jnp.ones((3, 3, 1, 1))

    def centre(x):
        for _ in range(depth):
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
            )
        return x[0, 8, 8, 0]

    seen = np.argwhere(jax.grad(centre)(jnp.zeros((1, 17, 17, 1)))[0, ..., 0])
    assert (seen.max(0) - seen.min(0) + 1).tolist() == [2 * depth + 1] * 2


def test_two_columns_are_one_grouped_convolution():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 9, 9, 8)).astype(np.float32)
    layer = layers.Conv(6, 3, 'relu', 'none', padding=1, groups=2)
    variables = {
        'params': {
            'conv': {
                'kernel': rng.normal(size=(3, 3, 4, 6)).astype(np.float32),
                'bias': rng.normal(size=6).astype(np.float32),
            }
        }
    }
    both = layer.apply(variables, x, train=False)
    single = layers.Conv(3, 3, 'relu', 'none', padding=1)
    for column in range(2):
        own = slice(3 * column, 3 * column + 3)
        half = {'params': jax.tree.map(lambda leaf, own=own: leaf[..., own], variables['params'])}
        alone = single.apply(half, x[..., 4 * column : 4 * column + 4], train=False)
        np.testing.assert_allclose(
            both[..., 3 * column : 3 * column + 3], alone, rtol=1e-5, atol=1e-5
        )


def test_concatenation_of_branches_is_linear():
    # Without activations, the block of Fig. 2b less its pool branch: f(ax + by) = a f(x) + b f(y)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, 5, 5, 4)).astype(np.float32)
    kernels = [rng.normal(size=(k, k, 4, 3)).astype(np.float32) for k in (1, 3, 5)]

    def block(x):
        return jnp.concatenate(
            [
                jax.lax.conv_general_dilated(
                    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
                )
                for kernel in kernels
            ],
            -1,
        )

    np.testing.assert_allclose(
        block(2 * x - 3 * y), 2 * block(x) - 3 * block(y), rtol=1e-4, atol=1e-4
    )


def stack_weights(kernels, inputs, width):
    """Weights without biases of stacked convolutions, read off their parameters."""
    total = 0
    for kernel in kernels:
        layer = layers.Conv(width, kernel, 'relu', 'batch')  # batch norm: no biases
        images = jax.ShapeDtypeStruct((1, kernel, kernel, inputs), jnp.float32)
        params = jax.eval_shape(
            functools.partial(layer.init, train=False), jax.random.PRNGKey(0), images
        )['params']
        total += count(params['conv'])
        inputs = width
    return total


@pytest.mark.parametrize('inputs, largest', [(3, 9), (64, 199), (96, 298), (256, 796)])
def test_five_3x3_layers_save_weights_over_11x11_up_to_this_width(inputs, largest):
    # 9 D N + 36 N^2 < 121 D N holds for N < 28/9 D
    assert stack_weights([3] * 5, inputs, largest) < stack_weights([11], inputs, largest)
    assert stack_weights([3] * 5, inputs, largest + 1) >= stack_weights([11], inputs, largest + 1)


def initialised(name, side, **fields):
    """Freshly initialised parameters as NumPy arrays."""
    net = cnns.build(name, **fields)
    images = np.zeros((1, side, side, net.channels), np.float32)
    init = jax.jit(lambda key: net.init(key, images, train=False)['params'], compiler_options=QUICK)
    return jax.device_get(init(jax.random.PRNGKey(0)))


@pytest.mark.parametrize(
    'preset, conv4, fc6, bias, last',
    [
        ('paper', 0.01, 0.01, 1.0, 0.0),
        ('caffe', 0.01, 0.005, 0.1, 0.0),
        ('one_tower', 0.03, 0.01, 1.0, -7.0),
    ],
)
def test_alexnet_is_initialised_with_its_deviations_and_biases(preset, conv4, fc6, bias, last):
    params = initialised('alexnet_32px', 32, units=64, initialiser=preset)
    assert params['conv1']['conv']['kernel'].std() == pytest.approx(0.01, rel=0.03)
    assert params['conv4']['conv']['kernel'].std() == pytest.approx(conv4, rel=0.03)
    assert params['fc6']['kernel'].std() == pytest.approx(fc6, rel=0.03)
    for layer in ('conv2', 'conv4', 'conv5'):
        assert (params[layer]['conv']['bias'] == np.float32(bias)).all()
    for layer in ('conv1', 'conv3'):
        assert (params[layer]['conv']['bias'] == 0).all()
    assert all((params[layer]['bias'] == np.float32(bias)).all() for layer in ('fc6', 'fc7'))
    assert (params['fc8']['bias'] == last).all()


@pytest.mark.parametrize('initialiser, gain', [('he', 2), ('lecun', 1)])
def test_named_initialisers_scale_with_fan_in_and_zero_the_biases(initialiser, gain):
    params = initialised('alexnet_32px', 32, units=64, initialiser=initialiser)
    # conv4 reads 192 of 384 channels: two columns
    for kernel, fan_in in (
        (params['conv4']['conv']['kernel'], 9 * 192),
        (params['fc6']['kernel'], 4096),
    ):
        assert kernel.std() == pytest.approx(math.sqrt(gain / fan_in), rel=0.03)
    assert all((params[layer]['bias'] == 0).all() for layer in ('fc6', 'fc7', 'fc8'))


def test_glorot_and_caffes_xavier_are_uniform_within_their_bounds(monkeypatch):
    monkeypatch.setattr(googlenet, 'ROWS', {'inception_3a': googlenet.ROWS['inception_3a']})
    kernel = initialised('alexnet_32px', 32, units=64, initialiser='glorot')['fc6']['kernel']
    bound = math.sqrt(6 / (4096 + 64))
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    layer = initialised('googlenet_32px', 8)['inception_3a']['3x3']['conv']
    bound = math.sqrt(3 / (9 * 96))
    assert 0.99 * bound < np.abs(layer['kernel']).max() <= bound
    assert (layer['bias'] == np.float32(0.2)).all()


def test_vggs_paper_has_variance_a_hundredth_and_resnet_is_initialised_as_he():
    vgg_params = initialised('vgg11_32px', 32, widths=(8, 8, 16, 16, 32), initialiser='paper')
    assert vgg_params['conv5_2']['conv']['kernel'].var() == pytest.approx(0.01, rel=0.05)
    kernel = initialised('resnet20', 8, blocks=1)['conv4_1']['conv2']['conv']['kernel']
    assert kernel.var() == pytest.approx(2 / (9 * 64), rel=0.05)


def test_option_a_pads_its_zero_channels_at_the_end_and_takes_the_even_pixels():
    # One channel of pixels 0 to 63; convolutions of zeros leave the shortcut alone
    net = cnns.build('resnet20', blocks=1, width=1, norm='none', channels=1)
    x = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    variables['params']['conv1']['conv']['kernel'][1, 1] = 1
    halved = net.apply(variables, x, train=False, features='conv3_1')
    np.testing.assert_array_equal(halved[0, ..., 0], x[0, ::2, ::2, 0])
    assert halved.shape == (1, 4, 4, 2) and (halved[..., 1] == 0).all()
    last = net.apply(variables, x, train=False, features='conv4_1')
    expected = np.zeros((1, 2, 2, 4))
    expected[0, ..., 0] = [[0, 4], [32, 36]]
    np.testing.assert_array_equal(last, expected)


def test_a_linear_stack_is_linear_inside_of_a_block():
    fields = dict(column='B', stack='linear', widths=(4,) * 5, fast=False)
    net, images, shapes = variables_of('vgg11_32px', **fields)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    x = rng.normal(size=images.shape).astype(np.float32)
    get = lambda net, name: np.asarray(net.apply(variables, x, train=False, features=name))
    assert get(net, 'conv1_1').min() < 0 and get(net, 'conv1_2').min() == 0
    plain = net.clone(stack='nonlinear')
    assert get(plain, 'conv1_1').min() == 0  # which is the ReLU of the linear one
    np.testing.assert_allclose(get(plain, 'conv1_1'), np.maximum(get(net, 'conv1_1'), 0), atol=1e-5)


@pytest.mark.parametrize(
    'name, fields',
    [
        ('alexnet_32px', dict(widths=(2,) * 5, units=50)),
        ('vgg11_32px', dict(head='dense', fc6_side=1, widths=(2,) * 5, units=50)),
    ],
)
def test_dropout_zeroes_its_share_of_the_units_and_none_at_0(name, fields):
    net, images, shapes = variables_of(name, **fields)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), shapes)
    x = np.ones((4, *images.shape[1:]), np.float32)

    def scores(dropout, *keys):
        dropping = applied(net.clone(dropout=dropout), train=True)
        return [dropping(variables, x, rngs={'dropout': jax.random.PRNGKey(key)}) for key in keys]

    calm = applied(net)(variables, x)
    np.testing.assert_allclose(scores(0.0, 0)[0], calm, rtol=1e-5)
    one, other = scores(0.5, 0, 1)
    assert not np.allclose(one, other) and not np.allclose(one, calm)


def test_the_small_googlenet_has_auxiliary_classifiers_on_maps_of_16():
    fields = dict(shrink=32, aux=True)
    net, images, variables = variables_of('googlenet_32px', **fields)
    # 4a has 6 + 6 + 1 + 2 channels; averaged to 4x4, 4 of them, 32 units
    one = variables['params']['aux_4a']
    assert count(one['conv']) == 15 * 4 + 4 and count(one['fc1']) == (16 * 4 + 1) * 32
    rngs = {'dropout': jax.random.PRNGKey(0)}
    _, state = jax.eval_shape(
        lambda v, x: net.apply(v, x, train=True, rngs=rngs, mutable=['auxiliary']),
        variables,
        images,
    )
    assert {name: leaf.shape for name, leaf in state['auxiliary'].items()} == {
        'logits_4a': (1, 10),
        'logits_4d': (1, 10),
    }
    # maps of 8x8 are averaged to 2x2
    params = variables_of('googlenet_32px', 16, **fields)[2]['params']
    assert count(params['aux_4d']['fc1']) == (4 * 4 + 1) * 32
    with pytest.raises(ValueError, match='sides from 10 give; it was given 9x9'):
        variables_of('googlenet_32px', 9, **fields)


def test_shrink_divides_the_widths_of_every_layer_of_googlenet_but_the_last():
    whole, eighth = (
        variables_of('googlenet_32px', shrink=shrink)[2]['params'] for shrink in (1, 8)
    )
    flat = [jax.tree_util.tree_leaves_with_path(tree) for tree in (whole, eighth)]
    for (path, one), (_, other) in zip(*flat, strict=True):
        if path[-1].key == 'bias':
            last = path[0].key == 'fc'
            assert other.shape[0] == (10 if last else max(one.shape[0] // 8, 1)), path


def test_the_fully_connected_head_of_googlenet_reads_every_place_of_the_last_maps():
    params = variables_of('googlenet_32px', shrink=32, head='dense')[2]['params']
    channels = 12 + 12 + 4 + 4
    assert params['fc1']['kernel'].shape == (8 * 8 * channels, 32)
    assert params['fc']['kernel'].shape == (32, 10)


def test_the_small_gaussian_of_an_mlp_is_alexnets():
    net = cnns.build('mlp_300', initialiser='gaussian_0.01')
    params = net.init(jax.random.PRNGKey(0), np.zeros((1, 28, 28, 1)), train=False)['params']
    assert float(params['fc1']['kernel'].std()) == pytest.approx(0.01, rel=0.02)
    assert not params['fc1']['bias'].any()
