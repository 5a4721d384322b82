"""ResNet for ImageNet and for CIFAR-10, and their plain counterparts.

K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. arXiv 1512.03385,
2015, Sec. 3.3, 3.4, 4.2, Tables 1 and 6.

    ImageNet            output   18     34     50          101         152
    conv1     7x7/2     112x112  64 maps
    pool1     3x3/2     56x56
    conv2_x             56x56    basic  basic  bottleneck  bottleneck  bottleneck
              blocks             2      3      3           3           3      64 maps
    conv3_x             28x28    2      4      4           4           8      128
    conv4_x             14x14    2      6      6           23          36     256
    conv5_x             7x7      2      3      3           3           3      512
    average, fc         1000
    parameters, millions (B)     11.7   21.8   25.6        44.5        60.2

    CIFAR-10            output   20     32     44     56     110    1202
    conv1     3x3       32x32    16 maps
    conv2_x   basic     32x32    3      5      7      9      18     200     16 maps
    conv3_x   basic     16x16    the same number of blocks                  32
    conv4_x   basic     8x8      the same number of blocks                  64
    average, fc         10
    parameters, millions (A)     0.27   0.46   0.66   0.85   1.73   19.4

    basic: 3x3, 3x3. bottleneck: 1x1, 3x3, 1x1 to 4 times the maps.
"""

import flax.linen as nn
import jax.numpy as jnp

from cnns import layers

SHORTCUTS = ('A', 'B', 'C', 'none')


def basic(make, x, maps, stride, shortcut, stride_on):
    """Two 3x3 convolutions and the shortcut (Fig. 5 left)."""
    del stride_on  # bottlenecks only
    y = make.conv('conv1', x, maps, 3, stride=stride, padding=1, lrn=True)
    y = make.conv('conv2', y, maps, 3, padding=1, linear=True)
    return _join(make, x, y, stride, shortcut)


def bottleneck(make, x, maps, stride, shortcut, stride_on):
    """1x1, 3x3 and 1x1 to four times the maps, and the shortcut (Fig. 5 right)."""
    first, second = (stride, 1) if stride_on == '1x1' else (1, stride)
    y = make.conv('conv1', x, maps, 1, stride=first, lrn=True)
    y = make.conv('conv2', y, maps, 3, stride=second, padding=1, lrn=True)
    y = make.conv('conv3', y, 4 * maps, 1, linear=True)
    return _join(make, x, y, stride, shortcut)


def _join(make, x, y, stride, shortcut):
    """Adds the shortcut of x and applies the activation."""
    changes = x.shape != y.shape
    if shortcut == 'C' or (shortcut == 'B' and changes):
        x = make.conv('shortcut', x, y.shape[-1], 1, stride=stride, linear=True)
    elif shortcut == 'A' and changes:
        x = x[:, ::stride, ::stride]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
    return make.activate('out', y if shortcut == 'none' else x + y, lrn=True)


def stages(make, x, maps, blocks, block, shortcut, stride_on='1x1'):
    """The stages conv2_x, conv3_x, ...; each but the first starts with stride 2."""
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage and not number else 1
            x = make.block(
                f'conv{stage + 2}_{number + 1}',
                block,
                x,
                maps * 2**stage,
                stride,
                shortcut=shortcut,
                stride_on=stride_on,
            )
    return x


class ResNet(layers.Net):
    """The ImageNet form: x [N, 224, 224, 3] -> [N, classes]; any side from 32.

    Axes: `activation` covers conv1 and every block; `pool` and `overlap` cover pool1; norm='batch'
    covers every convolution, 'lrn' stands after every activation, 'none' leaves the convolutions
    with biases.

    shortcut, where the shape changes: 'A' strides and adds zero maps, 'B' projects by a 1x1
    convolution; 'C' projects in every block; 'none' is the plain net. stride_on says which
    convolution of a bottleneck strides: '1x1' as in the paper, '3x3' as in torchvision.

    Differences from the paper:
    - option A: the paper does not say on which side zero maps are added; here they come last;
    - pool1 has its padding of 1 at the top and left, where alone the windows reach it.

    Raises ValueError for an unknown shortcut, stride_on or axis value, or a side below 32.
    """

    OWN_INITS = ()

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'batch'
    initialiser: str = 'he'
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    shortcut: str = 'B'
    stride_on: str = '1x1'
    maps: int = 64  # of conv1 and conv2_x

    @nn.compact
    def __call__(self, x, *, train: bool, features: bool | str = False):
        make = layers.Maker(self, x, train=train)
        _check(x, self.shortcut, 32)
        if self.stride_on not in ('1x1', '3x3'):
            raise layers.unknown('unknown stride_on', self.stride_on, ('1x1', '3x3'))
        layers.check_counts('blocks', self.blocks)
        x = make.conv('conv1', x, self.maps, 7, stride=2, padding=3, lrn=True)
        x = make.pool('pool1', x, before=True)
        x = stages(
            make,
            x,
            self.maps,
            self.blocks,
            bottleneck if self.bottleneck else basic,
            self.shortcut,
            self.stride_on,
        )
        x = make.global_average('average', x)
        return make.result(make.dense('fc', x, self.classes, linear=True), features)


class CifarResNet(layers.Net):
    """The CIFAR-10 form, of depth 6n + 2 with n `blocks`: x [N, 32, 32, 3] -> [N, classes].

    Any side from 4. Axes: `activation` and `norm` as in ResNet; it has no pooling but the global
    average. `shortcut` as in ResNet, the paper's choice here is 'A' everywhere.

    Differences from the paper: the side of option A's zero maps, as in ResNet.

    Raises ValueError for an unknown shortcut or axis value, or a side below 4.
    """

    LACKS = {'pool': 'it shrinks its maps by strides', 'overlap': 'it has no pooling windows'}
    OWN_INITS = ()

    activation: str = 'relu'
    norm: str = 'batch'
    classes: int = 10
    initialiser: str = 'he'
    blocks: int = 3
    shortcut: str = 'A'
    maps: int = 16  # of conv1 and conv2_x

    @nn.compact
    def __call__(self, x, *, train: bool, features: bool | str = False):
        make = layers.Maker(self, x, train=train)
        _check(x, self.shortcut, 4)
        layers.check_counts('blocks', (self.blocks,))
        x = make.conv('conv1', x, self.maps, 3, padding=1, lrn=True)
        x = stages(make, x, self.maps, (self.blocks,) * 3, basic, self.shortcut)
        x = make.global_average('average', x)
        return make.result(make.dense('fc', x, self.classes, linear=True), features)


def _check(x, shortcut, low):
    if shortcut not in SHORTCUTS:
        raise layers.unknown('unknown shortcut', shortcut, SHORTCUTS)
    if min(x.shape[1:3]) < low:
        raise ValueError(
            f'this ResNet takes sides from {low}, it was given {x.shape[1]}x{x.shape[2]}.'
        )
