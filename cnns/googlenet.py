"""GoogLeNet.

C. Szegedy et al.: Going deeper with convolutions. arXiv 1409.4842, 2014, Table 1, Sec. 5, Fig. 3.

    layer          kernel/stride  output       1x1  3x3    3x3  5x5    5x5  pool
                                                    reduce      reduce      proj
    input                         224x224x3
    conv1          7/2            112x112x64
    pool1          3/2            56x56x64
    norm1          LRN
    conv2_reduce   1/1            56x56x64
    conv2          3/1            56x56x192
    norm2          LRN
    pool2          3/2            28x28x192
    inception_3a                  28x28x256     64   96    128   16     32   32
    inception_3b                  28x28x480    128  128    192   32     96   64
    pool3          3/2            14x14x480
    inception_4a                  14x14x512    192   96    208   16     48   64
    inception_4b                  14x14x512    160  112    224   24     64   64
    inception_4c                  14x14x512    128  128    256   24     64   64
    inception_4d                  14x14x528    112  144    288   32     64   64
    inception_4e                  14x14x832    256  160    320   32    128  128
    pool4          3/2            7x7x832
    inception_5a                  7x7x832      256  160    320   32    128  128
    inception_5b                  7x7x1024     384  192    384   48    128  128
    average        7/1            1024
    fc                            1000
    6,998,552 parameters, and 6,379,728 in the two auxiliary classifiers
"""

import functools
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cnns import layers
from cnns.axes import unknown


class Widths(NamedTuple):
    """Channels of the convolutions of an inception block, as in a row of the table above."""

    ones: int
    reduce3: int
    threes: int
    reduce5: int
    fives: int
    proj: int


# fmt: off
ROWS: dict[str, Widths | None] = {  # None: a pool
    'inception_3a': Widths( 64,  96, 128, 16,  32,  32),
    'inception_3b': Widths(128, 128, 192, 32,  96,  64),
    'pool3': None,
    'inception_4a': Widths(192,  96, 208, 16,  48,  64),
    'inception_4b': Widths(160, 112, 224, 24,  64,  64),
    'inception_4c': Widths(128, 128, 256, 24,  64,  64),
    'inception_4d': Widths(112, 144, 288, 32,  64,  64),
    'inception_4e': Widths(256, 160, 320, 32, 128, 128),
    'pool4': None,
    'inception_5a': Widths(256, 160, 320, 32, 128, 128),
    'inception_5b': Widths(384, 192, 384, 48, 128, 128),
}
# fmt: on
BLOCKS = ('reduced', 'naive')
AUXILIARY = {'inception_4a': 'aux_4a', 'inception_4d': 'aux_4d'}
AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss beside the net's own (Sec. 5)
_XAVIER = nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')  # +-sqrt(3 / fan-in)
_BIAS = 0.2


def _narrow(width: int, shrink: int) -> int:
    return max(width // shrink, 1)


class Inception(nn.Module):
    """The block of Fig. 2b: four branches read x, their outputs are concatenated over channels.

    naive: the block of Fig. 2a, without 1x1 reductions and the projection of the pooled map.
    """

    layer: layers.Layers
    widths: Widths
    third: int = 5  # kernel of the third branch
    naive: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer, width, third = self.layer, self.widths, self.third
        y1 = layer.conv('1x1', x, width.ones, 1)
        y3 = x if self.naive else layer.conv('3x3_reduce', x, width.reduce3, 1)
        y3 = layer.conv('3x3', y3, width.threes, 3, padding=1)
        y5 = x if self.naive else layer.conv('5x5_reduce', x, width.reduce5, 1)
        y5 = layer.conv('5x5', y5, width.fives, third, padding=third // 2)
        yp = layers.pool_windows(x, 'max', 3, 1, ((1, 1), (1, 1)), fast=layer.net.fast)
        yp = yp if self.naive else layer.conv('pool_proj', yp, width.proj, 1)
        return jnp.concatenate([y1, y3, y5, yp], -1)


class Auxiliary(nn.Module):
    """A classifier on 4a or 4d (Sec. 5): [N, 14, 14, C] -> average 5x5/3, 4x4 -> logits."""

    layer: layers.Layers
    classes: int
    shrink: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer = self.layer
        x = layers.pool_windows(x, 'average', 5, 3, ((0, 0), (0, 0)), fast=layer.net.fast)
        x = layer.conv('conv', x, _narrow(128, self.shrink), 1)
        x = layer.dense('fc1', x, _narrow(1024, self.shrink))
        x = nn.Dropout(0.7, deterministic=not layer.train)(x)
        return layer.dense('fc2', x, self.classes, linear=True, bias=0.0)


class GoogLeNet(layers.Net):
    """x [N, 224, 224, 3] -> [N, classes]; any side from 32 in inference and without
    auxiliary classifiers.

    Axes: `activation` covers every convolution and the first dense layer of each auxiliary
    classifier; `pool` and `overlap` cover pool1 to pool4, not the pool branch inside the blocks
    nor the average pools of the classifiers; norm='lrn' is norm1 and norm2, 'batch' covers every
    convolution, those of the auxiliary classifiers too.

    aux=True: in training the two auxiliary classifiers' logits are sown into the collection
    'auxiliary', {'logits_4a': ..., 'logits_4d': ...}, when that is mutable; their losses count
    AUXILIARY_WEIGHT each. Inference does not compute them.

    block='naive' is the block of Fig. 2a. third_kernel=3 is what torchvision has in the place of
    the 5x5 convolutions; last_overlap=False makes pool4 2x2, as there too, and a last
    row or column of an odd map a window of its own.

    small=True is for images of 32x32: conv1 is 3x3 with stride 1 and 192 channels, norm1
    follows, and pool1, conv2_reduce, conv2, norm2 and pool2 are left out: the sides of the maps are
    32, 16 and 8. Its auxiliary classifiers average 16x16 maps to 4x4 too, and take sides from 10.

    shrink divides the width of every layer but the last. head='dense' has a fully connected layer
    of 1024 units on the last maps in the place of the global average; these maps then have one
    size.

    Differences from the paper:
    - LRN is where Caffe's copy has it, after pool1 and after conv2; Table 1 does not list it.
      Its constants are AlexNet's; with alpha_over_n=True and lrn_k=1.0 they are Caffe's;
    - the initialisation is that of Caffe's copy, weights uniform in +-sqrt(3 / fan-in), biases 0.2;
      the paper gives none;
    - Table 1's parameters for conv1 (2.7K) do not follow from a 7x7 convolution (9.4K); nor do
      those of 4a, 4c, 4d, 4e, 5a and 5b follow from their widths: the widths are kept.

    Raises ValueError for an unknown block or axis value, or a side that is too small.
    """

    OWN_INITS: ClassVar = ('caffe',)
    CHOICES: ClassVar = {'head': ('average', 'dense')}

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'lrn'
    initialiser: str = 'caffe'
    aux: bool = True  # auxiliary classifiers in training
    block: str = 'reduced'
    third_kernel: int = 5
    last_overlap: bool | None = None  # of pool4; None: as the others
    alpha_over_n: bool = False  # divide LRN's alpha by n
    lrn_k: float = 2.0
    small: bool = False
    shrink: int = 1  # divides all widths
    head: str = 'average'  # 'dense'

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        lrn = functools.partial(layers.lrn, k=self.lrn_k, alpha_over_n=self.alpha_over_n)
        layer = layers.Layers(self, x, train=train, lrn=lrn, weights=_XAVIER, bias=_BIAS)
        if self.block not in BLOCKS:
            raise unknown('unknown block', self.block, BLOCKS)
        auxiliary = self.aux and (train or self.is_initializing())
        layers.check_counts('shrink', (self.shrink,))
        _check_size(x, self, auxiliary)
        narrow = functools.partial(_narrow, shrink=self.shrink)
        if self.small:
            x = layer.conv('conv1', x, narrow(192), 3, padding=1)
            x = layer.normalise('norm1', x)
        else:
            x = layer.conv('conv1', x, narrow(64), 7, stride=2, padding=3)
            x = layer.pool('pool1', x)
            x = layer.normalise('norm1', x)
            x = layer.conv('conv2_reduce', x, narrow(64), 1)
            x = layer.conv('conv2', x, narrow(192), 3, padding=1)
            x = layer.normalise('norm2', x)
            x = layer.pool('pool2', x)
        naive = self.block == 'naive'
        block = functools.partial(Inception, third=self.third_kernel, naive=naive)
        for name, widths in ROWS.items():
            if widths is None:
                last = self.last_overlap if name == 'pool4' else None
                x = layer.pool(name, x, overlap=last, edges='up' if last is False else 'after')
                continue
            x = layer.block(name, block, x, widths=Widths(*map(narrow, widths)))
            if name in AUXILIARY and auxiliary:
                own = dict(classes=self.classes, shrink=self.shrink)
                logits = layer.block(AUXILIARY[name], Auxiliary, x, **own)
                self._sow(f'logits_{name[-2:]}', logits)
        if self.head == 'dense':
            x = layer.dense('fc1', x, narrow(1024))
        else:
            x = layer.global_average('average', x)
        x = nn.Dropout(0.4, deterministic=not train)(x)
        x = layer.dense('fc', x, self.classes, linear=True, bias=0.0)
        return layer.result(x, features)

    @nn.nowrap
    def _sow(self, name, logits):
        if not self.is_initializing():
            logits, last = logits.astype(jnp.float32), lambda _, new: new
            self.sow('auxiliary', name, logits, reduce_fn=last, init_fn=lambda: None)


def _check_size(x, net, auxiliary):
    if net.third_kernel < 1 or net.third_kernel % 2 == 0:
        raise ValueError(
            f'third_kernel is {net.third_kernel}, it must be odd: the branches of a '
            'block have maps of one size.'
        )
    if auxiliary and not net.small and x.shape[1:3] != (224, 224):
        raise ValueError(
            "GoogLeNet's auxiliary classifiers read 14x14 maps, which images of "
            f'224x224 give; it was given {x.shape[1]}x{x.shape[2]}. Set aux=False.'
        )
    if auxiliary and min(x.shape[1:3]) < 10:
        raise ValueError(
            "GoogLeNet's auxiliary classifiers read 5x5 pixels of a map, which sides from 10 give; "
            f'it was given {x.shape[1]}x{x.shape[2]}. Set aux=False.'
        )
    low = 8 if net.small else 32
    if min(x.shape[1:3]) < low:
        raise ValueError(
            f'GoogLeNet takes sides from {low}, it was given {x.shape[1]}x{x.shape[2]}.'
        )
