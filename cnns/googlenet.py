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

import flax.linen as nn
import jax.numpy as jnp

from cnns import layers

# 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj; None: a pool.
ROWS = {
    'inception_3a': (64, 96, 128, 16, 32, 32),
    'inception_3b': (128, 128, 192, 32, 96, 64),
    'pool3': None,
    'inception_4a': (192, 96, 208, 16, 48, 64),
    'inception_4b': (160, 112, 224, 24, 64, 64),
    'inception_4c': (128, 128, 256, 24, 64, 64),
    'inception_4d': (112, 144, 288, 32, 64, 64),
    'inception_4e': (256, 160, 320, 32, 128, 128),
    'pool4': None,
    'inception_5a': (256, 160, 320, 32, 128, 128),
    'inception_5b': (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {'inception_4a': 'aux_4a', 'inception_4d': 'aux_4d'}
AUXILIARY_WEIGHT = 0.3  # of each auxiliary loss beside the net's own (Sec. 5)


def inception(make, x, ones, reduce3, threes, reduce5, fives, proj, *, third=5):
    """The block of Fig. 2b: four branches read x and are concatenated over channels."""
    weights = dict(weights=_XAVIER, bias=_BIAS)
    y1 = make.conv('1x1', x, ones, 1, **weights)
    y3 = make.conv('3x3_reduce', x, reduce3, 1, **weights)
    y3 = make.conv('3x3', y3, threes, 3, padding=1, **weights)
    y5 = make.conv('5x5_reduce', x, reduce5, 1, **weights)
    y5 = make.conv('5x5', y5, fives, third, padding=third // 2, **weights)
    yp = make.conv('pool_proj', _neighbours(make, x), proj, 1, **weights)
    return jnp.concatenate([y1, y3, y5, yp], -1)


def naive_inception(make, x, ones, _, threes, __, fives, ___, *, third=5):
    """The block of Fig. 2a: no 1x1 reductions, the pool's maps pass as they are."""
    weights = dict(weights=_XAVIER, bias=_BIAS)
    y1 = make.conv('1x1', x, ones, 1, **weights)
    y3 = make.conv('3x3', x, threes, 3, padding=1, **weights)
    y5 = make.conv('5x5', x, fives, third, padding=third // 2, **weights)
    return jnp.concatenate([y1, y3, y5, _neighbours(make, x)], -1)


def auxiliary(make, x, classes):
    """A classifier on 4a or 4d (Sec. 5): 14x14 maps -> average 5x5/3 -> 4x4 -> logits."""
    x = layers.pool_windows(x, 'average', 5, 3, ((0, 0), (0, 0)), fast=make.net.fast)
    x = make.conv('conv', x, 128, 1, weights=_XAVIER, bias=_BIAS)
    x = make.dense('fc1', x, 1024, weights=_XAVIER, bias=_BIAS)
    x = make.dropout(x, 0.7)
    return make.dense('fc2', x, classes, linear=True, weights=_XAVIER)


class GoogLeNet(layers.Net):
    """x [N, 224, 224, 3] -> [N, classes]; any side from 32 without auxiliary classifiers.

    Axes: `activation` covers every convolution and the first dense layer of each auxiliary
    classifier; `pool` and `overlap` cover pool1 to pool4, not the pool branch inside the blocks
    nor the averages of the classifiers; norm='lrn' is norm1 and norm2, 'batch' covers every
    convolution, those of the auxiliary classifiers too.

    aux=True: in training the two auxiliary classifiers' logits are sown into the collection
    'auxiliary', {'logits_4a': ..., 'logits_4d': ...}, when that is mutable; their losses count
    AUXILIARY_WEIGHT each. Inference does not compute them.

    block='naive' is the block of Fig. 2a. third_kernel=3 is what torchvision has in the place of
    the 5x5 convolutions; last_overlap=False makes pool4 2x2, as there too.

    small=True is for images of 32x32: conv1 is 3x3 with stride 1 straight to 192 maps, norm1
    follows, and pool1, conv2_reduce, conv2, norm2 and pool2 are left out: the maps are 32, 16, 8
    wide. It has no auxiliary classifiers.

    Differences from the paper:
    - LRN stands where Caffe's copy has it, after pool1 and after conv2; Table 1 does not list it.
      Its constants are AlexNet's; with alpha_over_n=True and lrn_k=1.0 they are Caffe's;
    - weights start as in Caffe's copy, uniform in +-sqrt(3 / fan-in), biases at 0.2; the paper does
      not say;
    - Table 1's parameters for conv1 (2.7K) do not follow from a 7x7 convolution (9.4K); nor do
      those of 4a, 4c, 4d, 4e, 5a and 5b follow from their widths: the widths are kept.

    Raises ValueError for an unknown block or axis value, or a side that is too small.
    """

    OWN_INITS = ('caffe',)

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'lrn'
    initialiser: str = 'caffe'
    aux: bool = True  # auxiliary classifiers in training
    block: str = 'reduced'
    third_kernel: int = 5
    last_overlap: bool | None = None  # of pool4; None: as the others
    alpha_over_n: bool = False  # LRN's alpha divided by n
    lrn_k: float = 2.0
    small: bool = False

    @nn.compact
    def __call__(self, x, *, train: bool, features: bool | str = False):
        make = layers.Maker(
            self,
            x,
            train=train,
            lrn=functools.partial(layers.lrn, k=self.lrn_k, alpha_over_n=self.alpha_over_n),
        )
        blocks = {'reduced': inception, 'naive': naive_inception}
        if self.block not in blocks:
            raise layers.unknown('unknown block', self.block, blocks)
        _check_size(x, self)
        weights = dict(weights=_XAVIER, bias=_BIAS)
        if self.small:
            x = make.normalise('norm1', make.conv('conv1', x, 192, 3, padding=1, **weights))
        else:
            x = make.conv('conv1', x, 64, 7, stride=2, padding=3, **weights)
            x = make.normalise('norm1', make.pool('pool1', x))
            x = make.conv('conv2_reduce', x, 64, 1, **weights)
            x = make.conv('conv2', x, 192, 3, padding=1, **weights)
            x = make.pool('pool2', make.normalise('norm2', x))
        for name, widths in ROWS.items():
            if widths is None:
                x = make.pool(name, x, overlap=self.last_overlap if name == 'pool4' else None)
                continue
            x = make.block(name, blocks[self.block], x, *widths, third=self.third_kernel)
            if name in AUXILIARY and self.aux and (train or self.is_initializing()):
                logits = make.block(AUXILIARY[name], auxiliary, x, classes=self.classes)
                if not self.is_initializing():
                    self.sow(
                        'auxiliary',
                        f'logits_{name[-2:]}',
                        logits.astype(jnp.float32),
                        reduce_fn=lambda _, new: new,
                        init_fn=lambda: None,
                    )
        x = make.global_average('average', x)
        x = make.dropout(x, 0.4)
        x = make.dense('fc', x, self.classes, linear=True, weights=_XAVIER)
        return make.result(x, features)


_XAVIER = nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')  # +-sqrt(3 / fan-in)
_BIAS = 0.2


def _neighbours(make, x):
    """The pool branch: the maximum of each pixel's 3x3 neighbours, size kept."""
    return layers.pool_windows(x, 'max', 3, 1, ((1, 1), (1, 1)), fast=make.net.fast)


def _check_size(x, net):
    if net.third_kernel < 1 or net.third_kernel % 2 == 0:
        raise ValueError(
            f'third_kernel is {net.third_kernel}, it must be odd: the branches of a '
            'block have maps of one size.'
        )
    if net.small and net.aux:
        raise ValueError('the small GoogLeNet has no auxiliary classifiers: set aux=False.')
    if net.aux and x.shape[1:3] != (224, 224):
        raise ValueError(
            "GoogLeNet's auxiliary classifiers read 14x14 maps, which images of "
            f'224x224 give; it was given {x.shape[1]}x{x.shape[2]}. Set aux=False.'
        )
    low = 8 if net.small else 32
    if min(x.shape[1:3]) < low:
        raise ValueError(
            f'GoogLeNet takes sides from {low}, it was given {x.shape[1]}x{x.shape[2]}.'
        )
