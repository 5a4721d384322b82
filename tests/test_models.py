"""The description of the nets against hand counts, gradients, XLA's own count and the papers."""

import itertools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnns
from cnns import layers
from experiments import models
from experiments.errors import UserError


def conv(features, kernel, stride=1, padding=0, name=None, **fields):
    return nn.Conv(
        features, (kernel, kernel), stride, [(padding, padding)] * 2, name=name, **fields
    )


class Toy(nn.Module):
    """A net of one function of (x)."""

    body: callable

    @nn.compact
    def __call__(self, x, *, train):
        return self.body(x)


def rows(body, *input):
    return models.trace(Toy(body), input).rows


def table(net):
    """Rows of `describe` as the sheet prints them, without the kind."""
    return [(row[0], *row[2:]) for row in models.row_cells(net)]


# ---- receptive fields and jumps


def stack(x):
    x = conv(4, 3, 2, 1, 'a', use_bias=False)(x)
    x = nn.max_pool(x, (2, 2), (2, 2))
    return conv(4, 5, 1, 2, 'b', kernel_dilation=2, use_bias=False)(x)


def branches(x):
    x = conv(4, 3, 1, 1, 'stem', use_bias=False)(x)
    wide = conv(4, 5, 2, 2, 'wide', use_bias=False)(conv(4, 1, name='one', use_bias=False)(x))
    pooled = nn.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    x = jnp.concatenate([wide, pooled], -1)
    return conv(8, 3, 1, 1, 'last', use_bias=False)(x) + x


def strided_shortcut(x):
    y = conv(3, 3, 2, 1, 'y', use_bias=False)(x)
    return conv(3, 3, 1, 1, 'z', use_bias=False)(y + x[:, ::2, ::2])


def test_receptive_fields_of_a_stack_are_those_counted_by_hand():
    # a: 3. pool: 3 + 1 * 2 = 5 at jump 4. b, 5 wide with gaps of 2 is 9 wide: 5 + 8 * 4 = 37
    assert [row.receptive_field for row in rows(stack, 64, 64, 3)] == [3, 5, 37]


def test_receptive_fields_of_branches_are_the_widest_branch():
    # stem 3, one 3, wide 3 + 4 = 7 at jump 2, pool 3 + 2 = 5, last 7 + 2 * 2 = 11
    got = {row.layer: row.receptive_field for row in rows(branches, 32, 32, 3)}
    assert got == {'stem': 3, 'one': 3, 'wide': 7, 'average pool': 5, 'last': 11}


@pytest.mark.parametrize('body', [stack, branches, strided_shortcut])
def test_the_receptive_field_is_the_support_of_the_gradient(body):
    side = 96
    net = Toy(body)
    # Weights of one sign, so that nothing cancels; a rising image, so that maxima are one each
    x = jnp.arange(side * side * 3, dtype=jnp.float32).reshape(1, side, side, 3)
    variables = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape),
        jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False)),
    )

    def middle(x):
        y = net.apply(variables, x, train=False)
        return y[0, y.shape[1] // 2, y.shape[2] // 2, 0]

    touched = np.abs(np.asarray(jax.grad(middle)(x))).sum((0, 3)) > 0
    expected = max(row.receptive_field for row in models.trace(net, (side, side, 3)).rows)
    # The maximum of a rising image is the last of the window's two pixels; the first is 2 wide
    lost = 2 if body is stack else 0
    for axis in (0, 1):
        places = np.flatnonzero(touched.any(axis))
        assert places[-1] - places[0] + 1 == expected - lost


def test_a_window_over_channels_keeps_the_receptive_field_and_one_over_space_widens_it():
    (across,) = rows(lambda x: layers.lrn(conv(8, 3, name='c')(x), fast=False), 9, 9, 3)
    assert across.receptive_field == 3
    first, within, last = rows(
        lambda x: conv(8, 3, name='d')(layers.lrn_within(conv(8, 3, name='c')(x), n=5, fast=False)),
        19,
        19,
        3,
    )
    assert (within.kind, within.window.kernel) == ('norm', (5, 5))
    assert (first.receptive_field, within.receptive_field, last.receptive_field) == (3, 7, 9)


def test_height_and_width_have_receptive_fields_of_their_own():
    (row,) = rows(lambda x: nn.Conv(2, (5, 1), (3, 1), 'VALID', name='c')(x), 20, 10, 3)
    assert row.receptive_field == (5, 1)
    assert (row.window.kernel, row.window.stride, row.output) == ((5, 1), (3, 1), (6, 10, 2))


@pytest.mark.parametrize('flat', [lambda x: x.reshape(len(x), -1), lambda x: x.mean((1, 2))])
def test_after_a_flatten_or_a_mean_there_is_no_receptive_field(flat):
    *_, last = rows(lambda x: nn.Dense(5, name='fc')(flat(conv(4, 3, name='c')(x))), 8, 8, 3)
    assert (last.layer, last.receptive_field) == ('fc', None)


def test_a_dense_layer_on_a_map_keeps_it():
    _, last = rows(lambda x: nn.Dense(5, name='fc')(conv(4, 3, name='c')(x)), 8, 8, 3)
    assert (last.output, last.receptive_field, last.macs) == ((6, 6, 5), 3, 6 * 6 * 4 * 5)


def test_reshape_keeps_only_the_axes_that_stay_whole():
    assert models._kept((1, 6, 6, 256), (1, 9216)) == {0: 0}
    assert models._kept((1, 13, 13, 384), (1, 13, 13, 2, 192)) == {0: 0, 1: 1, 2: 2}
    assert models._kept((1, 1, 1, 120), (1, 120)) == {0: 0}
    assert models._kept((2, 3, 4), (6, 4)) == {2: 1}


# ---- multiply-adds and parameters


def test_multiply_adds_are_half_of_the_operations_that_xla_counts():
    def body(x):
        x = conv(6, 3, 2, name='a', use_bias=False)(x)
        x = conv(8, 3, name='b', use_bias=False, feature_group_count=2)(x)
        return nn.Dense(5, name='fc', use_bias=False)(x.reshape(len(x), -1))

    net, x = Toy(body), jax.ShapeDtypeStruct((1, 15, 11, 4), jnp.float32)
    variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
    compiled = jax.jit(lambda v, x: net.apply(v, x, train=False)).lower(variables, x).compile()
    costs = compiled.cost_analysis()
    assert sum(row.macs for row in rows(body, 15, 11, 4)) == costs['flops'] / 2


def test_biases_norms_and_coefficients_belong_to_the_row_that_they_follow():
    def body(x):
        x = conv(4, 3, name='c')(x)
        x = nn.BatchNorm(use_running_average=True, name='norm_of_c')(x)
        return conv(2, 1, name='d', use_bias=False)(jax.nn.relu(x))

    assert [row.parameters for row in rows(body, 8, 8, 3)] == [3 * 3 * 3 * 4 + 4 + 8, 8]


def test_parameters_that_scale_the_image_itself_have_a_row():
    first, second = rows(
        lambda x: conv(4, 3, name='c', use_bias=False)(
            nn.BatchNorm(use_running_average=True, name='input_norm')(x)
        ),
        8,
        8,
        3,
    )
    assert (first.layer, first.kind, first.parameters) == ('input_norm', 'scale', 6)
    assert second.parameters == 108


def test_what_inference_does_not_read_counts_in_training_alone():
    def body(x):
        y = conv(4, 3, name='c', use_bias=False)(x)
        nn.Dense(7, name='head', use_bias=False)(y.reshape(len(y), -1))
        return y

    read = models.trace(Toy(body), (8, 8, 3))
    assert [row.layer for row in read.rows] == ['c']
    assert (read.parameters, read.training_parameters) == (108, 108 + 6 * 6 * 4 * 7)
    assert read.depth == 1


def test_a_convolution_by_constants_counts_nothing():
    def body(x):
        return jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 3, 3)), (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )

    assert models.trace(Toy(body), (8, 8, 3)) == ((), 0, 0, 0)


def test_a_product_of_parameters_alone_counts_nothing():
    class Factored(nn.Module):
        """A dense layer whose kernel is a product of two parameters."""

        @nn.compact
        def __call__(self, x, *, train):
            ones = nn.initializers.ones
            kernel = self.param('a', ones, (192, 2)) @ self.param('b', ones, (2, 5))
            return x.reshape(len(x), -1) @ kernel

    read = models.trace(Factored(), (8, 8, 3))
    assert (len(read.rows), read.rows[0].macs) == (1, 192 * 5)
    assert read.parameters == read.rows[0].parameters == 192 * 2 + 2 * 5


def test_a_locally_connected_layer_is_one_row_with_its_window():
    (row,) = rows(lambda x: nn.ConvLocal(5, (3, 3), 2, 'VALID', name='l')(x), 9, 9, 4)
    assert row == models.Row(
        'l',
        'local',
        models.Window((3, 3), (2, 2)),
        1,
        (4, 4, 5),
        4 * 4 * (36 * 5 + 5),
        4 * 4 * 36 * 5,
        3,
    )


def test_programs_inside_programs_are_read_with_their_names():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jax.jit(jax.nn.relu)(conv(4, 3, 1, 1, 'conv1', use_bias=False)(x))
            return nn.max_pool(x, (3, 3), (1, 1), 'SAME')

    got = [rows(lambda x: kind(name='block')(x), 8, 8, 4) for kind in (Block, nn.remat(Block))]
    assert got[0] == got[1]
    assert [(row.layer, row.receptive_field) for row in got[0]] == [
        ('block/conv1', 3),
        ('block/pool', 5),
    ]
    assert got[0][0].parameters == 144


@pytest.mark.parametrize('name', ['lenet5_1998', 'cuda_convnet_11pct', 'googlenet', 'resnet20'])
def test_one_trace_with_the_start_in_front_reads_what_inference_alone_does(name, monkeypatch):
    net, size = cnns.build(name), cnns.NETS[name].input
    once = models.trace(net, size)

    def hidden(net, x):
        raise models._Hidden

    monkeypatch.setattr(models, '_started', hidden)
    assert models.trace(net, size) == once


def test_depth_is_that_of_the_longest_path():
    def body(x):
        y = conv(3, 3, 1, 1, 'a')(conv(3, 3, 1, 1, 'b')(x))
        return conv(3, 1, name='shortcut')(x) + y

    assert models.trace(Toy(body), (8, 8, 3)).depth == 2


def test_stated_multiply_adds_replace_those_of_the_program():
    class Stated(Toy):
        MACS = {'c': 11, 'codes': 7}

    first, second = models.trace(Stated(lambda x: conv(4, 3, name='c')(x)), (8, 8, 3)).rows
    assert (first.macs, second.layer, second.macs, second.parameters) == (11, 'codes', 7, 0)


def test_a_loop_over_the_image_is_refused_not_miscounted():
    def body(x):
        return jax.lax.scan(lambda carry, _: (carry * 2, None), x, length=3)[0]

    with pytest.raises(NotImplementedError, match='scan'):
        models.trace(Toy(body), (8, 8, 3))


def test_no_weight_is_allocated():
    (row,) = rows(lambda x: nn.Dense(10**8, name='fc')(x.reshape(1, -1)), 100, 100, 10)
    assert (row.parameters, row.macs) == (10**13 + 10**8, 10**13)  # 40 terabytes


# ---- the papers' tables: layer, kernel, stride, padding, groups, output, parameters, MACs, field

LENET5 = """
C1    5 1 0 1 28×28×6       156 117,600  5
S2    2 2 0 1 14×14×6         0       0  6
C3    5 1 0 1 10×10×16    2,416 240,000 14
S4    2 2 0 1 5×5×16          0       0 16
C5    5 1 0 1 1×1×120    48,120  48,000 32
F6    1 1 0 1 84         10,164  10,080
OUT   1 1 0 1 10            850     840
"""
ALEXNET = """
conv1 11 4 0 1 55×55×96      34,944 105,415,200  11
pool1  3 2 0 1 27×27×96           0           0  19
conv2  5 1 2 2 27×27×256    307,456 223,948,800  51
pool2  3 2 0 1 13×13×256          0           0  67
conv3  3 1 1 1 13×13×384    885,120 149,520,384  99
conv4  3 1 1 2 13×13×384    663,936 112,140,288 131
conv5  3 1 1 2 13×13×256    442,624  74,760,192 163
pool5  3 2 0 1 6×6×256            0           0 195
fc6    1 1 0 1 4096      37,752,832  37,748,736
fc7    1 1 0 1 4096      16,781,312  16,777,216
fc8    1 1 0 1 1000       4,097,000   4,096,000
"""
ONE_TOWER = """
conv1 11 4 2 1 55×55×64      23,296  70,276,800  11
pool1  3 2 0 1 27×27×64           0           0  19
conv2  5 1 2 1 27×27×192    307,392 223,948,800  51
pool2  3 2 0 1 13×13×192          0           0  67
conv3  3 1 1 1 13×13×384    663,936 112,140,288  99
conv4  3 1 1 1 13×13×256    884,992 149,520,384 131
conv5  3 1 1 1 13×13×256    590,080  99,680,256 163
pool5  3 2 0 1 6×6×256            0           0 195
fc6    1 1 0 1 4096      37,752,832  37,748,736
fc7    1 1 0 1 4096      16,781,312  16,777,216
fc8    1 1 0 1 1000       4,097,000   4,096,000
"""
VGG_D = """
conv1_1 3 1 1 1 224×224×64        1,792    86,704,128   3
conv1_2 3 1 1 1 224×224×64       36,928 1,849,688,064   5
pool1   2 2 0 1 112×112×64            0             0   6
conv2_1 3 1 1 1 112×112×128      73,856   924,844,032  10
conv2_2 3 1 1 1 112×112×128     147,584 1,849,688,064  14
pool2   2 2 0 1 56×56×128             0             0  16
conv3_1 3 1 1 1 56×56×256       295,168   924,844,032  24
conv3_2 3 1 1 1 56×56×256       590,080 1,849,688,064  32
conv3_3 3 1 1 1 56×56×256       590,080 1,849,688,064  40
pool3   2 2 0 1 28×28×256             0             0  44
conv4_1 3 1 1 1 28×28×512     1,180,160   924,844,032  60
conv4_2 3 1 1 1 28×28×512     2,359,808 1,849,688,064  76
conv4_3 3 1 1 1 28×28×512     2,359,808 1,849,688,064  92
pool4   2 2 0 1 14×14×512             0             0 100
conv5_1 3 1 1 1 14×14×512     2,359,808   462,422,016 132
conv5_2 3 1 1 1 14×14×512     2,359,808   462,422,016 164
conv5_3 3 1 1 1 14×14×512     2,359,808   462,422,016 196
pool5   2 2 0 1 7×7×512               0             0 212
fc6     1 1 0 1 4096        102,764,544   102,760,448
fc7     1 1 0 1 4096         16,781,312    16,777,216
fc8     1 1 0 1 1000          4,097,000     4,096,000
"""


@pytest.mark.parametrize(
    'name, fields, text, parameters, macs',
    [
        ('lenet5', {}, LENET5, 61_706, 416_520),
        ('alexnet', {}, ALEXNET, 60_965_224, 724_406_816),
        ('alexnet_one_tower', {'conv1_padding': 2}, ONE_TOWER, 61_100_840, 714_188_480),
        ('vgg16', {}, VGG_D, 138_357_544, 15_470_264_320),
    ],
)
def test_the_table_of_a_net_is_the_papers_row_by_row(name, fields, text, parameters, macs):
    expected = [tuple((line.split() + [''])[:9]) for line in text.strip().split('\n')]
    *lines, total = table(models.describe(name, **fields))
    assert lines == expected
    assert total == ('total', *[''] * 5, f'{parameters:,}', f'{macs:,}', '')


def resnet50(stride_on):
    """(layer, kernel, stride, side of the map, maps, parameters, MACs, field) after Table 1."""

    def line(name, kernel, stride, side, read, maps):
        nonlocal field
        places = kernel * kernel * read * maps
        field += (kernel - 1) * jump
        return (name, kernel, stride, side, maps, places + 2 * maps, places * side * side, field)

    field, jump = 1, 1
    yield line('conv1', 7, 2, 112, 3, 64)
    jump = 2
    field += 2 * jump
    yield ('pool1', 3, 2, 56, 64, 0, 0, field)
    jump, read, side = 4, 64, 56
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512)), start=2):
        for block in range(1, blocks + 1):
            name, stride = f'conv{stage}_{block}', 2 if stage > 2 and block == 1 else 1
            before, start = side, (field, jump)
            first, second = (stride, 1) if stride_on == '1x1' else (1, stride)
            side //= first
            yield line(f'{name}/conv1', 1, first, side, read, width)
            jump *= first
            side //= second
            yield line(f'{name}/conv2', 3, second, side, width, width)
            jump *= second
            yield line(f'{name}/conv3', 1, 1, side, width, 4 * width)
            if block == 1:
                assert side == before // stride
                end, field = field, start[0]
                yield line(f'{name}/shortcut', 1, stride, side, read, 4 * width)
                field = end
            read = 4 * width


@pytest.mark.parametrize(
    'stride_on, macs, field', [('1x1', 3_857_973_248, 483), ('3x3', 4_089_184_256, 427)]
)
def test_resnet_50_is_table_1_row_by_row_with_either_stride(stride_on, macs, field):
    net = models.describe('resnet50', stride_on=stride_on)
    *lines, average, fc = net['rows']
    assert [
        (
            row['layer'],
            row['kernel'][0],
            row['stride'][0],
            row['output'][0],
            row['output'][2],
            row['parameters'],
            row['macs'],
            row['receptive_field'],
        )
        for row in lines
    ] == list(resnet50(stride_on))
    assert (average['layer'], average['output'], average['macs']) == ('average', [2048], 0)
    assert (fc['layer'], fc['parameters']) == ('fc', 2_049_000)
    assert (net['parameters'], net['macs'], net['layers']) == (25_557_032, macs, 50)
    assert net['receptive_field'] == field


INCEPTION = {  # parameters with biases; output
    '3a': (163_696, 256),
    '3b': (388_736, 480),
    '4a': (376_176, 512),
    '4b': (449_160, 512),
    '4c': (510_104, 512),
    '4d': (605_376, 528),
    '4e': (868_352, 832),
    '5a': (1_043_456, 832),
    '5b': (1_444_080, 1024),
}


def test_googlenets_blocks_are_those_of_table_1_and_its_heads_count_in_training_alone():
    net = models.describe('googlenet')
    assert (net['parameters'], net['training_parameters']) == (6_998_552, 13_378_280)
    assert (net['macs'], net['layers']) == (1_582_671_872, 22)
    for block, (parameters, maps) in INCEPTION.items():
        lines = {
            row['layer'].split('/')[1]: row
            for row in net['rows']
            if row['layer'].startswith(f'inception_{block}/')
        }
        assert len(lines) == 7 and sum(row['parameters'] for row in lines.values()) == parameters
        assert (
            sum(lines[branch]['output'][2] for branch in ('1x1', '3x3', '5x5', 'pool_proj')) == maps
        )
        assert lines['5x5']['kernel'] == [5, 5]


def test_the_original_lenet_counts_the_links_of_table_i_not_the_dense_kernel():
    net = models.describe('lenet5_1998')
    assert {row['layer']: row['parameters'] for row in net['rows']} == {
        'C1': 156,
        'S2': 12,
        'C3': 1516,
        'S4': 32,
        'C5': 48120,
        'F6': 10164,
        'OUT': 0,
    }
    assert (net['parameters'], net['macs']) == (60_000, 326_520)


def test_uneven_padding_is_printed_before_and_after():
    rows = models.describe('alexnet', side=224)['rows']
    assert models._padding(rows[0]['padding']) == '0-3'
    assert models._padding([[1, 1], [0, 2]]) == '1×0-2'


# ---- all nets


@pytest.fixture
def few(monkeypatch):
    """The whole table, made of a few quick nets."""
    names = ('lenet5', 'lenet5_1998', 'mlp_300', 'alexnet', 'vgg11', 'vgg11_lrn', 'resnet20')
    nets = [models.describe(name) for name in names]
    for net in nets:
        del net['rows']
    monkeypatch.setattr(models, 'zoo', lambda: nets)
    return nets


def run(capsys, *words):
    status = models.main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def test_the_json_of_all_nets_is_a_list_of_objects(few, capsys):
    status, out, _ = run(capsys, '--json')
    assert status == 0 and json.loads(out) == few
    first = json.loads(out)[0]
    assert (first['name'], first['input'], first['receptive_field']) == ('lenet5', [32, 32, 1], 32)
    assert json.loads(out)[2]['receptive_field'] is None  # an MLP


def test_markdown_and_console_show_the_same_cells(few, capsys):
    _, text, _ = run(capsys, '--markdown')
    head, rule, *lines = text.splitlines()
    assert head.count('|') == rule.count('|') and set(rule) <= set('|-: ')
    read = [tuple(cell.strip() for cell in line.strip('|').split('|')) for line in lines]
    assert read == models.cells(few)
    assert read[3][:5] == ('alexnet', '227×227×3', '60,965,224', '60 million', '724,406,816')
    status, text, _ = run(capsys)
    assert status == 0
    for line, cells in zip([line for line in text.splitlines() if '×' in line], read, strict=True):
        assert line.split() == ' '.join(cells).split()


def test_a_narrow_console_loses_no_digit(few):
    from rich.console import Console

    console = Console(width=60, record=True, file=open('/dev/null', 'w'))
    with console.file:
        console.print(models.table(models.HEADINGS, models.cells(few)))
    assert '…' not in console.export_text()


def test_one_net_prints_its_rows_and_total(capsys):
    status, text, _ = run(capsys, 'lenet5')
    assert status == 0 and text.startswith('lenet5: ')
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ['C3', 'conv', '5', '1', '0', '1', '10×10×16', '2,416', '240,000', '14'] in lines
    assert ['total', '61,706', '416,520'] in lines
    _, text, _ = run(capsys, 'lenet5', '--markdown')
    assert '| F6 | dense | 1 | 1 | 0 | 1 | 84 | 10,164 | 10,080 |  |' in text


def test_the_json_of_one_net_has_its_rows(capsys):
    status, out, _ = run(capsys, 'lenet5', '--json')
    net = json.loads(out)
    assert status == 0 and net == models.describe('lenet5')
    assert sum(row['parameters'] for row in net['rows']) == net['parameters'] == 61_706
    assert net['rows'][1] == {
        'layer': 'S2',
        'kind': 'average pool',
        'kernel': [2, 2],
        'stride': [2, 2],
        'padding': [[0, 0], [0, 0]],
        'groups': 1,
        'output': [14, 14, 6],
        'parameters': 0,
        'macs': 0,
        'receptive_field': 6,
    }


def test_fields_and_side_change_the_net(capsys):
    _, out, _ = run(capsys, 'lenet5', '--norm=batch', '--classes=7', '--overlap=true', '--json')
    net = json.loads(out)
    # 3 norms have 2 (6 + 16 + 120) parameters for 142 biases; OUT has 3 * 85 fewer
    assert net['parameters'] == 61_706 + 142 - 255
    assert net['rows'][1]['kernel'] == [3, 3]
    _, out, _ = run(capsys, 'resnet20', '--side=16', '--dtype=bfloat16', '--json')
    net = json.loads(out)
    assert (net['input'], net['macs']) == ([16, 16, 3], (40_551_040 - 640) // 4 + 640)


def test_channels_change_the_image_too():
    net = models.describe('lenet5', channels=3)
    assert (net['input'], net['parameters']) == ([32, 32, 3], 61_706 + 2 * 150)


@pytest.mark.parametrize(
    'words, hints',
    [
        (['lenet'], ["'lenet'", "'lenet5'"]),
        (['lenet5', '--nrom=batch'], ["'nrom'", "'norm'"]),
        (['lenet5', '--norm=bach'], ["'bach'", "'batch'"]),
        (['lenet5_1998', '--pool=max'], ['trainable']),
        (['lenet5', '--side=28'], ['28', '32']),
        (['lenet5', '--side=0'], ['--side', 'at least 1']),
        (['lenet5', '--classes=ten'], ['classes', 'int', "'ten'"]),
        (['lenet5', '--overlap=1'], ['overlap', 'True']),
        (['lenet5', '--classes=-1'], []),
        (['alexnet', '--groups=7'], ['7 groups', 'do not divide']),
        (['vgg16', '--widths=64'], ['widths', 'tuple', '(64, 128']),
        (['lenet5', '--dtype=floaty'], ["'floaty'", 'bfloat16']),
        (['lenet5', '--norm'], ["'--norm'", '--FIELD=VALUE']),
        (['lenet5', 'alexnet'], ["'alexnet'"]),
        (['--norm=batch'], ['name it']),
        (['--side=32'], ['name it']),
        (['lenet5', '--figure=x.png'], ['leave out the name']),
        (['--figure=x.jpg'], ['.png or .svg', "'x.jpg'"]),
        (['--figure=no/such/folder/x.png'], ['no/such/folder']),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, hints, few, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, '')
    assert err.startswith('error: ') and 'Traceback' not in err
    for hint in hints:
        assert hint in err
    assert not list(tmp_path.iterdir())


def test_describe_raises_the_nets_own_words():
    with pytest.raises(UserError, match="Did you mean 'alexnet'"):
        models.describe('alexnt')


# ---- figure


def crowd():
    """48 nets in a few knots, some of them at the same point."""
    places = itertools.product((1e6, 1.2e6, 1e9, 1.05e9), (1e5, 1.1e5, 2e7, 2.1e7, 2.2e7, 1e8))
    return [
        {
            'name': f'net_number_{i}{twin}',
            'family': f'Family{i % 11}',
            'macs': macs,
            'parameters': parameters,
        }
        for i, (macs, parameters) in enumerate(places)
        for twin in ('', '_twin')
    ]


def labels(figure):
    figure.draw_without_rendering()
    return {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}


def test_every_net_is_named_once_inside_the_canvas_and_over_no_other():
    nets = crowd()
    figure = models.render(nets)
    boxes = labels(figure)
    names = [name for text in boxes for name in text.split(', ')]
    assert sorted(names) == sorted(net['name'] for net in nets)
    for box in boxes.values():
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0
        assert box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes.values(), 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width <= 1 or height <= 1


def test_families_have_looks_of_their_own_and_axes_their_units(few):
    figure = models.render(few)
    (axes,) = figure.axes
    assert axes.get_xscale() == axes.get_yscale() == 'log'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('multiply-adds per image', 'parameters')
    legend = axes.get_legend()
    looks = [(line.get_color(), line.get_marker()) for line in legend.legend_handles]
    assert [text.get_text() for text in legend.get_texts()] == [
        'LeNet5',
        'LeNet5Original',
        'MLP',
        'AlexNet',
        'VGG',
        'CifarResNet',
    ]
    assert len(set(looks)) == 6


def test_the_figure_is_written_as_its_ending_says(few, tmp_path, capsys):
    for name, start in (('a.png', b'\x89PNG'), ('a.svg', b'<?xml')):
        status, out, _ = run(capsys, '--figure', str(tmp_path / name))
        assert status == 0 and out.strip() == str(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
