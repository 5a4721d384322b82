"""AlexNet: two columns, one column, one tower.

A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep convolutional neural
networks. NIPS 2012, Sec. 3.5, Fig. 2. One tower: A. Krizhevsky: One weird trick for parallelizing
convolutional neural networks. arXiv 1404.5997, 2014.

    layer   kernel  stride  pad  columns  output     parameters  one tower
    input                                 227x227x3
    conv1   11      4       0    1        55x55x96       34,944  64 channels
    norm1   LRN over 5 channels
    pool1   3       2                     27x27x96
    conv2   5       1       2    2        27x27x256     307,456  192 channels
    norm2   LRN over 5 channels
    pool2   3       2                     13x13x256
    conv3   3       1       1    1        13x13x384     885,120  384 channels
    conv4   3       1       1    2        13x13x384     663,936  256 channels
    conv5   3       1       1    2        13x13x256     442,624  256 channels
    pool5   3       2                     6x6x256
    fc6                                   4096       37,752,832
    fc7                                   4096       16,781,312
    fc8                                   1000        4,097,000
                                                     60,965,224  61,100,840
"""

import functools
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
from jax import Array

from cnns import layers
from cnns.axes import unknown


class Row(NamedTuple):
    """A convolution of the table above, and the layers that follow it."""

    name: str
    kernel: int
    stride: int
    padding: int | None  # None: see `stem`
    columns: bool  # reads only its own column
    bias: int  # 1 where the biases of the paper are initialised with 1
    norm: str | None
    pool: str | None


# fmt: off
ROWS = (
    Row('conv1', 11, 4, None, False, 0, 'norm1', 'pool1'),
    Row('conv2',  5, 1, 2,    True,  1, 'norm2', 'pool2'),
    Row('conv3',  3, 1, 1,    False, 0, None,    None),
    Row('conv4',  3, 1, 1,    True,  1, None,    None),
    Row('conv5',  3, 1, 1,    True,  1, None,    'pool5'),
)
# fmt: on
SMALL_ROWS = (ROWS[0]._replace(kernel=5, stride=1, padding=2), *ROWS[1:])  # for 32x32
TWO_COLUMNS = (96, 256, 384, 384, 256)  # widths of conv1 to conv5
ONE_TOWER = (64, 192, 384, 256, 256)

# Standard deviations of the weights and biases: paper Sec. 5; Caffe's bvlc_alexnet; cuda-convnet2's
# layers-imagenet-1gpu. Biases are given for the layers where the paper has 1 instead of 0.
PRESETS: dict[str, dict[str, Any]] = {
    'paper': dict(conv=(0.01,) * 5, dense=0.01, bias=1.0, last_bias=0.0),
    'caffe': dict(conv=(0.01,) * 5, dense=0.005, bias=0.1, last_bias=0.0),
    'one_tower': dict(conv=(0.01, 0.01, 0.03, 0.03, 0.03), dense=0.01, bias=1.0, last_bias=-7.0),
}


def stem(side: int, conv1_padding: int | None) -> tuple[int, tuple[int, int]]:
    """Size of conv1's map and its padding (before, after) for images of this side.

    The author's code counts 1 + ceil((side - 11) / 4) windows and lets the last one run over the
    edge onto zeros: 55 for 227 and for 224. A number in `conv1_padding` pads both sides by it and
    rounds down instead.
    """
    if conv1_padding is None:
        extra = -(side - 11) % 4
        return (side + extra - 11) // 4 + 1, (0, extra)
    return (side + 2 * conv1_padding - 11) // 4 + 1, (conv1_padding, conv1_padding)


class AlexNet(layers.Net):
    """x [N, 227, 227, 3], or 224x224: the same maps from 55x55 on -> [N, classes].

    Axes: `activation` covers every layer but fc8; `pool` and `overlap` cover pool1, pool2 and
    pool5; norm='lrn' is norm1 and norm2, 'batch' covers conv1 to conv5. LRN is by the printed
    formula, with its k of 2; alpha_over_n=True divides alpha by n, as the author's later code does,
    and Caffe with lrn_k=1.0.

    The two columns are the two GPUs of the paper: conv2, conv4 and conv5 read only their
    own column, which is a convolution in 2 groups. groups=1 is one column of the same width
    (62,378,344 parameters).

    small=True is for images of 32x32: conv1 is 5x5 with stride 1 and padding 2, so that the maps
    have sides of 32, 16, 8 and 4; the rest is the same, but fc6 and fc7 have `units` units.

    adaptive=True is torchvision's way with any side from 63: pooling windows that reach over an
    edge are left out, and the maps of pool5 are averaged to 6x6 windows. At 224 and with
    conv1_padding=2 its numbers are those of adaptive=False.

    Differences from the paper:
    - the outputs kept by dropout are doubled in training instead of halved in inference: the same
      expectation;
    - 224x224 images get 3 rows of zeros at the bottom and right, see `stem`; the paper gives no
      rule that makes 55 of 224;
    - one tower: fc6 and fc7 are initialised with standard deviation 0.01; the author's
      file gives none here.

    Raises ValueError for an unknown axis value, or an image size whose pool5 is not 6x6.
    """

    OWN_INITS: ClassVar = tuple(PRESETS)

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'lrn'
    widths: tuple[int, ...] = TWO_COLUMNS
    groups: int = 2  # columns of conv2, conv4 and conv5
    units: int = 4096  # of fc6 and fc7
    alpha_over_n: bool = False
    lrn_k: float = 2.0
    conv1_padding: int | None = None  # None: the author's rule; 2: torchvision's
    dropout: float = 0.5  # share of units that it zeroes; 0: none
    dropout_on: str = 'outputs'  # of fc6 and fc7; 'inputs': torchvision's, another net
    small: bool = False
    adaptive: bool = False  # torchvision's pooling, see above

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        lrn = functools.partial(layers.lrn, k=self.lrn_k, alpha_over_n=self.alpha_over_n)
        layer = layers.Layers(self, x, train=train, lrn=lrn)
        if self.dropout_on not in ('outputs', 'inputs'):
            raise unknown('unknown dropout_on', self.dropout_on, ('outputs', 'inputs'))
        layers.check_counts('widths', self.widths, len(ROWS))
        _check_size(x, self)
        preset = PRESETS.get(self.initialiser, PRESETS['paper'])
        stem_padding = tuple(stem(side, self.conv1_padding)[1] for side in x.shape[1:3])
        rows = SMALL_ROWS if self.small else ROWS
        edges = 'none' if self.adaptive else 'after'
        for row, width, deviation in zip(rows, self.widths, preset['conv'], strict=True):
            x = layer.conv(
                row.name,
                x,
                width,
                row.kernel,
                stride=row.stride,
                padding=stem_padding if row.padding is None else row.padding,
                groups=self.groups if row.columns else 1,
                weights=nn.initializers.normal(deviation),
                bias=row.bias * preset['bias'],
            )
            x = layer.normalise(row.norm, x) if row.norm else x
            x = layer.pool(row.pool, x, edges=edges) if row.pool else x
        x = layers.adaptive_average(x, 4 if self.small else 6) if self.adaptive else x
        dropout = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        weights, bias = nn.initializers.normal(preset['dense']), preset['bias']
        for name in ('fc6', 'fc7'):
            x = dropout()(x) if self.dropout_on == 'inputs' else x
            x = layer.dense(name, x, self.units, weights=weights, bias=bias)
            x = dropout()(x) if self.dropout_on == 'outputs' else x
        weights, bias = nn.initializers.normal(0.01), preset['last_bias']
        x = layer.dense('fc8', x, self.classes, linear=True, weights=weights, bias=bias)
        return layer.result(x, features)


def _check_size(x, net):
    if net.adaptive:
        if min(x.shape[1:3]) < (low := 16 if net.small else 63):
            raise ValueError(
                f'AlexNet with adaptive=True takes sides from {low}, it was given '
                f'{x.shape[1]}x{x.shape[2]}.'
            )
        return

    def pooled(side):
        return side // 8 if net.small else stem(side, net.conv1_padding)[0] // 8

    wanted = 4 if net.small else 6
    if any(pooled(side) != wanted for side in x.shape[1:3]):
        fit = [side for side in range(11, 512) if pooled(side) == wanted]
        raise ValueError(
            f"AlexNet's fc6 reads maps of {wanted}x{wanted}; images of {x.shape[1]}x{x.shape[2]} "
            f'give {pooled(x.shape[1])}x{pooled(x.shape[2])}. Sides from {fit[0]} to {fit[-1]} fit.'
        )
