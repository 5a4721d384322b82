"""VGG: the columns A, A-LRN, B, C, D and E.

K. Simonyan, A. Zisserman: Very deep convolutional networks for large-scale image recognition.
arXiv 1409.1556, 2014, Sec. 2, Tables 1 and 2.

    block   output       A      A-LRN  B      C       D      E        (kernels of its convolutions)
    input   224x224x3
    conv1   224x224x64   3      3 LRN  3 3    3 3     3 3    3 3
    pool1   112x112x64
    conv2   112x112x128  3      3      3 3    3 3     3 3    3 3
    pool2   56x56x128
    conv3   56x56x256    3 3    3 3    3 3    3 3 1   3 3 3  3 3 3 3
    pool3   28x28x256
    conv4   28x28x512    3 3    3 3    3 3    3 3 1   3 3 3  3 3 3 3
    pool4   14x14x512
    conv5   14x14x512    3 3    3 3    3 3    3 3 1   3 3 3  3 3 3 3
    pool5   7x7x512
    fc6     4096
    fc7     4096
    fc8     1000
    weight layers        11     11     13     16      16     19
    parameters, millions 132.9  132.9  133.0  133.6   138.4  143.7
"""

from typing import ClassVar

import flax.linen as nn
from jax import Array

from cnns import layers
from cnns.axes import unknown

WIDTHS = (64, 128, 256, 512, 512)
# fmt: off
KERNELS = {
    'A': ((3,),   (3,),   (3, 3),       (3, 3),       (3, 3)),
    'B': ((3, 3), (3, 3), (3, 3),       (3, 3),       (3, 3)),
    'C': ((3, 3), (3, 3), (3, 3, 1),    (3, 3, 1),    (3, 3, 1)),
    'D': ((3, 3), (3, 3), (3, 3, 3),    (3, 3, 3),    (3, 3, 3)),
    'E': ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
# fmt: on
HEADS = ('dense', 'convolutional', 'adaptive', 'average')
STACKS = ('nonlinear', 'linear', 'one')


def kernels_of(column: str, stack: str) -> tuple[tuple[int, ...], ...]:
    """The kernels of each block: of the table above, or with stack='one' its 3x3 ones as one.

    k of them see 2k + 1 pixels, which is the side of the one.
    """
    if stack != 'one':
        return KERNELS[column]
    counts = [(kernels.count(3), kernels.count(1)) for kernels in KERNELS[column]]
    return tuple((2 * threes + 1, *(1,) * ones) for threes, ones in counts)


class VGG(layers.Net):
    """x [N, 224, 224, 3] -> [N, classes]; column A-LRN is column='A', norm='lrn'.

    Axes: `activation` covers every layer but fc8; `pool` and `overlap` cover pool1 to pool5;
    norm='lrn' is one LRN after conv1_1, as in A-LRN; 'batch' covers every convolution.

    head='dense' is the trained net. 'convolutional' is the same net with the same variables run
    over larger images (Sec. 3.2): fc6 slides as a 7x7 convolution, fc7 and fc8 as 1x1, and the
    scores are averaged over their map, (side / 32 - 6)^2 places; features='fc8' gives the map.
    'adaptive' is torchvision's way with any side from 32, with the variables and, at 224, the
    numbers of 'dense': the maps of pool5 are averaged to 7x7 windows.
    head='average' replaces pool5's flattening, fc6 and fc7 by a global average: any side from 32.
    fc6_side=1 is for 'dense' on images of 32x32, 'convolutional' on these and larger ones.

    stack='linear' has an activation behind the last convolution of each block alone; 'one' has one
    convolution in the place of a block's 3x3 ones, of the same receptive field: 5x5 for two, 7x7
    for three (Sec. 2.3 and 4.1).

    initialiser='glorot' is the default here (footnote 1 of the paper found that it needs no
    pre-training); 'paper' is normal with variance 0.01, which explodes in the deep columns unless
    they start from a trained A.

    Differences from the paper:
    - the position of A-LRN's LRN, before pool1, is not in the paper's text;
    - the outputs kept by dropout are doubled in training instead of halved in inference.

    Raises ValueError for an unknown column, head or axis value, or a side that the head cannot
    take.
    """

    CHOICES: ClassVar = {'stack': STACKS}

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = False
    norm: str = 'none'
    initialiser: str = 'glorot'
    column: str = 'D'
    head: str = 'dense'
    widths: tuple[int, ...] = WIDTHS  # of the five blocks
    units: int = 4096  # of fc6 and fc7
    fc6_side: int = 7  # of the maps that fc6 reads
    dropout: float = 0.5  # share of units of fc6 and fc7 that it zeroes; 0: none
    stack: str = 'nonlinear'  # of the convolutions of a block, see above
    bias: bool | None = None  # of the convolutions; None: unless norm='batch'; torchvision: True

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = layers.Layers(self, x, train=train, weights=nn.initializers.normal(0.1))
        if self.column not in KERNELS:
            raise unknown('unknown column', self.column, KERNELS)
        layers.check_counts('widths', self.widths, len(WIDTHS))
        _check_size(x, self)
        blocks = kernels_of(self.column, self.stack)
        for block, (width, kernels) in enumerate(zip(self.widths, blocks), start=1):
            for number, kernel in enumerate(kernels, start=1):
                first = (block, number) == (1, 1)
                linear = self.stack == 'linear' and number < len(kernels)
                pad = kernel // 2
                name = f'conv{block}_{number}'
                x = layer.conv(name, x, width, kernel, padding=pad, linear=linear, lrn=first)
            x = layer.pool(f'pool{block}', x)
        slides = self.head == 'convolutional'
        if self.head == 'average':
            x = layer.global_average('average', x)
        else:
            side = self.fc6_side
            x = layers.adaptive_average(x, side) if self.head == 'adaptive' else x
            for name, window in (('fc6', side), ('fc7', 1)):
                x = layer.dense(name, x, self.units, window=window if slides else None)
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = layer.dense('fc8', x, self.classes, window=1 if slides else None, linear=True)
        return layer.result(x.mean((1, 2)) if slides else x, features)


def _check_size(x, net):
    if net.head not in HEADS:
        raise unknown('unknown head', net.head, HEADS)
    layers.check_counts('fc6_side', (net.fc6_side,))
    dense = 32 * net.fc6_side
    low, high = {'dense': (dense, dense + 31), 'convolutional': (dense, None)}.get(
        net.head, (32, None)
    )
    if any(side < low or (high and side > high) for side in x.shape[1:3]):
        raise ValueError(
            f'VGG with head={net.head!r} takes sides from {low}'
            f'{f" to {high}" if high else ""}, it was given {x.shape[1]}x{x.shape[2]}. '
            "head='convolutional' takes larger images, 'adaptive' and 'average' any from 32."
        )
