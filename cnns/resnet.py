"""ResNet for ImageNet and for CIFAR-10, and their plain counterparts.

K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. arXiv 1512.03385,
2015, Sec. 3.3, 3.4, 4.2, Tables 1 and 6.

    ImageNet            output   18     34     50          101         152         width
    conv1     7x7/2     112x112                                                    64
    pool1     3x3/2     56x56
    conv2_x             56x56    basic  basic  bottleneck  bottleneck  bottleneck
              blocks             2      3      3           3           3           64
    conv3_x             28x28    2      4      4           4           8           128
    conv4_x             14x14    2      6      6           23          36          256
    conv5_x             7x7      2      3      3           3           3           512
    average, fc         1000
    parameters, millions (B)     11.7   21.8   25.6        44.5        60.2

    CIFAR-10            output   20     32     44     56     110    1202           width
    conv1     3x3       32x32                                                      16
    conv2_x   basic     32x32    3      5      7      9      18     200            16
    conv3_x   basic     16x16    the same number of blocks                         32
    conv4_x   basic     8x8      the same number of blocks                         64
    average, fc         10
    parameters, millions (A)     0.27   0.46   0.66   0.85   1.73   19.4

    basic: 3x3, 3x3. bottleneck: 1x1, 3x3, 1x1 to 4 times the width.
"""

import functools
from collections.abc import Iterator
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from cnns import layers
from cnns.axes import unknown

SHORTCUTS = ('A', 'B', 'C', 'none')


class Residual(nn.Module):
    """What both kinds of block share: their fields, and how the shortcut of x is added to y."""

    layer: layers.Layers
    width: int
    stride: int
    shortcut: str

    @nn.nowrap
    def add_shortcut(self, x, y):
        changes = x.shape != y.shape
        if self.shortcut == 'none':
            return y
        if self.shortcut == 'C' or (self.shortcut == 'B' and changes):
            x = self.layer.conv('shortcut', x, y.shape[-1], 1, stride=self.stride, linear=True)
        elif changes:  # A
            # no index: that of a batch of symbolic size would become a gather
            x = lax.slice(x, (0,) * 4, x.shape, (1, self.stride, self.stride, 1))
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        return x + y


class Basic(Residual):
    """Two 3x3 convolutions and the shortcut (Fig. 5 left)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = self.layer.conv('conv1', x, self.width, 3, stride=self.stride, padding=1, lrn=True)
        y = self.layer.conv('conv2', y, self.width, 3, padding=1, linear=True)
        y = self.add_shortcut(x, y)
        return self.layer.activate('out', y, lrn=True)


class Bottleneck(Residual):
    """1x1, 3x3 and 1x1 to four times the width, and the shortcut (Fig. 5 right)."""

    stride_on: str = '1x1'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        first, second = (self.stride, 1) if self.stride_on == '1x1' else (1, self.stride)
        y = self.layer.conv('conv1', x, self.width, 1, stride=first, lrn=True)
        y = self.layer.conv('conv2', y, self.width, 3, stride=second, padding=1, lrn=True)
        y = self.layer.conv('conv3', y, 4 * self.width, 1, linear=True)
        y = self.add_shortcut(x, y)
        return self.layer.activate('out', y, lrn=True)


def rows(width: int, blocks: tuple[int, ...]) -> Iterator[tuple[str, int, int]]:
    """Name, width and stride of each block; a stage but the first begins with stride 2."""
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage and not number else 1
            yield f'conv{stage + 2}_{number + 1}', width * 2**stage, stride


class ResNet(layers.Net):
    """The ImageNet form: x [N, 224, 224, 3] -> [N, classes]; any side from 32.

    Axes: `activation` covers conv1 and every block; `pool` and `overlap` cover pool1; norm='batch'
    covers every convolution, 'lrn' follows every activation, 'none' leaves the convolutions
    with biases.

    shortcut, where the shape changes: 'A' strides and pads with zero channels, 'B' projects by a
    1x1 convolution; 'C' projects in every block; 'none' is the plain net. stride_on is the
    convolution of a bottleneck that has the stride: '1x1' as in the paper, '3x3' as in torchvision.

    Differences from the paper:
    - option A: the paper does not say on which side the zero channels are; here they come last;
    - pool1 begins one pixel before the map, as in torchvision; the paper gives its size alone. At
      224x224 no window reaches over the bottom and right.

    Raises ValueError for an unknown shortcut, stride_on or axis value, or a side below 32.
    """

    OWN_INITS: ClassVar = ()

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'batch'
    initialiser: str = 'he'
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    shortcut: str = 'B'
    stride_on: str = '1x1'
    width: int = 64  # of conv1 and conv2_x

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = layers.Layers(self, x, train=train)
        _check(x, self.shortcut, 32)
        if self.stride_on not in ('1x1', '3x3'):
            raise unknown('unknown stride_on', self.stride_on, ('1x1', '3x3'))
        layers.check_counts('blocks', self.blocks)
        bottleneck = functools.partial(Bottleneck, stride_on=self.stride_on)
        block = functools.partial(bottleneck if self.bottleneck else Basic, shortcut=self.shortcut)
        x = layer.conv('conv1', x, self.width, 7, stride=2, padding=3, lrn=True)
        x = layer.pool('pool1', x, edges='before')
        for name, width, stride in rows(self.width, self.blocks):
            x = layer.block(name, block, x, width=width, stride=stride)
        x = layer.global_average('average', x)
        x = layer.dense('fc', x, self.classes, linear=True)
        return layer.result(x, features)


class CifarResNet(layers.Net):
    """The CIFAR-10 form, of depth 6n + 2 with n `blocks`: x [N, 32, 32, 3] -> [N, classes].

    Any side from 4. Axes: `activation` and `norm` as in ResNet; it has no pooling but the global
    average. `shortcut` as in ResNet, the paper's choice here is 'A' everywhere.

    Differences from the paper:
    - option A: the zero channels come last, as in ResNet.

    Raises ValueError for an unknown shortcut or axis value, or a side below 4.
    """

    LACKS: ClassVar = {
        'pool': 'it shrinks its maps by strides',
        'overlap': 'it has no pooling windows',
    }
    OWN_INITS: ClassVar = ()

    activation: str = 'relu'
    norm: str = 'batch'
    classes: int = 10
    initialiser: str = 'he'
    blocks: int = 3
    shortcut: str = 'A'
    width: int = 16  # of conv1 and conv2_x

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = layers.Layers(self, x, train=train)
        _check(x, self.shortcut, 4)
        layers.check_counts('blocks', (self.blocks,))
        block = functools.partial(Basic, shortcut=self.shortcut)
        x = layer.conv('conv1', x, self.width, 3, padding=1, lrn=True)
        for name, width, stride in rows(self.width, (self.blocks,) * 3):
            x = layer.block(name, block, x, width=width, stride=stride)
        x = layer.global_average('average', x)
        x = layer.dense('fc', x, self.classes, linear=True)
        return layer.result(x, features)


def _check(x, shortcut, low):
    if shortcut not in SHORTCUTS:
        raise unknown('unknown shortcut', shortcut, SHORTCUTS)
    if min(x.shape[1:3]) < low:
        raise ValueError(
            f'this ResNet takes sides from {low}, it was given {x.shape[1]}x{x.shape[2]}.'
        )
