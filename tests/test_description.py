"""The description of the nets against the papers' tables.

Columns of the tables: layer, kernel, stride, padding, groups, output, parameters, multiply-adds,
receptive field.
"""

import pytest

from experiments.errors import UserError
from experiments.models import description


def table(net):
    """Rows of `describe` as the sheet prints them, without the kind."""
    return [(row[0], *row[2:]) for row in description.row_cells(net)]


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
    *lines, total = table(description.describe(name, **fields))
    assert lines == expected
    assert total == ('total', *[''] * 5, f'{parameters:,}', f'{macs:,}', '')


def resnet50(stride_on):
    """(layer, kernel, stride, side, channels, parameters, multiply-adds, field) after Table 1."""

    def line(name, kernel, stride, side, read, width):
        nonlocal field
        places = kernel * kernel * read * width
        field += (kernel - 1) * jump
        return (name, kernel, stride, side, width, places + 2 * width, places * side * side, field)

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
    net = description.describe('resnet50', stride_on=stride_on)
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
    net = description.describe('googlenet')
    assert (net['parameters'], net['training_parameters']) == (6_998_552, 13_378_280)
    assert (net['macs'], net['layers']) == (1_582_671_872, 22)
    for block, (parameters, channels) in INCEPTION.items():
        lines = {
            row['layer'].split('/')[1]: row
            for row in net['rows']
            if row['layer'].startswith(f'inception_{block}/')
        }
        assert len(lines) == 7 and sum(row['parameters'] for row in lines.values()) == parameters
        assert (
            sum(lines[branch]['output'][2] for branch in ('1x1', '3x3', '5x5', 'pool_proj'))
            == channels
        )
        assert lines['5x5']['kernel'] == [5, 5]


def test_the_original_lenet_counts_the_links_of_table_i_not_the_dense_kernel():
    net = description.describe('lenet5_1998')
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
    rows = description.describe('alexnet', side=224)['rows']
    assert description._padding(rows[0]['padding']) == '0-3'
    assert description._padding([[1, 1], [0, 2]]) == '1×0-2'


def test_channels_change_the_image_too():
    net = description.describe('lenet5', channels=3)
    assert (net['input'], net['parameters']) == ([32, 32, 3], 61_706 + 2 * 150)


def test_describe_raises_the_nets_own_words():
    with pytest.raises(UserError, match="Did you mean 'alexnet'"):
        description.describe('alexnt')
