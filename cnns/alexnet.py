"""AlexNet: two columns, one column, one tower.

A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep convolutional neural
networks. NIPS 2012, Sec. 3.5, Fig. 2. One tower: A. Krizhevsky: One weird trick for parallelizing
convolutional neural networks. arXiv 1404.5997, 2014.

    layer   kernel  stride  pad  columns  output     parameters  one tower
    input                                 227x227x3
    conv1   11      4       0    1        55x55x96       34,944  64 maps
    norm1   LRN over 5 channels
    pool1   3       2                     27x27x96
    conv2   5       1       2    2        27x27x256     307,456  192 maps
    norm2   LRN over 5 channels
    pool2   3       2                     13x13x256
    conv3   3       1       1    1        13x13x384     885,120  384 maps
    conv4   3       1       1    2        13x13x384     663,936  256 maps
    conv5   3       1       1    2        13x13x256     442,624  256 maps
    pool5   3       2                     6x6x256
    fc6                                   4096       37,752,832
    fc7                                   4096       16,781,312
    fc8                                   1000        4,097,000
                                                     60,965,224  61,100,840
"""

import functools

import flax.linen as nn

from cnns import layers

# Name, kernel, padding, read in columns, bias, followed by.
ROWS = (
    ('conv1', 11, 0, False, 0, ('norm1', 'pool1')),
    ('conv2', 5, 2, True, 1, ('norm2', 'pool2')),
    ('conv3', 3, 1, False, 0, ()),
    ('conv4', 3, 1, True, 1, ()),
    ('conv5', 3, 1, True, 1, ('pool5',)),
)
TWO_COLUMNS = (96, 256, 384, 384, 256)  # maps of conv1 to conv5
ONE_TOWER = (64, 192, 384, 256, 256)

# Standard deviations of the weights and biases: paper Sec. 5; Caffe's bvlc_alexnet; cuda-convnet2's
# layers-imagenet-1gpu. Biases are given for the layers where the paper has 1 instead of 0.
PRESETS = {
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

    The two columns are the two GPUs of the paper: conv2, conv4 and conv5 read only the maps of
    their own column, which is a convolution in 2 groups. groups=1 is one column of the same width
    (62,378,344 parameters).

    small=True is for images of 32x32: conv1 is 5x5 with stride 1 and padding 2, so that the maps
    are 32, 16, 8, 4 wide; the rest is the same, but fc6 and fc7 have `units` units.

    Differences from the paper:
    - the outputs kept by dropout are doubled in training instead of halved in inference: the same
      expectation;
    - 224x224 images get 3 rows of zeros at the bottom and right, see `stem`; the paper gives no
      rule that makes 55 of 224;
    - one tower: fc6 and fc7 start with standard deviation 0.01, which the file leaves open here.

    Raises ValueError for an unknown axis value, or an image size of which pool5 does not make 6x6.
    """

    OWN_INITS = tuple(PRESETS)

    activation: str = 'relu'
    pool: str = 'max'
    overlap: bool = True
    norm: str = 'lrn'
    maps: tuple[int, ...] = TWO_COLUMNS
    groups: int = 2  # columns of conv2, conv4 and conv5
    units: int = 4096  # of fc6 and fc7
    alpha_over_n: bool = False
    lrn_k: float = 2.0
    conv1_padding: int | None = None  # None: the author's rule; 2: torchvision's
    dropout_on: str = 'outputs'  # of fc6 and fc7; 'inputs': torchvision's, another net
    small: bool = False

    @nn.compact
    def __call__(self, x, *, train: bool, features: bool | str = False):
        make = layers.Maker(
            self,
            x,
            train=train,
            lrn=functools.partial(layers.lrn, k=self.lrn_k, alpha_over_n=self.alpha_over_n),
        )
        if self.dropout_on not in ('outputs', 'inputs'):
            raise layers.unknown('unknown dropout_on', self.dropout_on, ('outputs', 'inputs'))
        layers.check_counts('maps', self.maps, len(ROWS))
        _check_size(x, self)
        preset = PRESETS.get(self.initialiser, PRESETS['paper'])
        for row, maps, deviation in zip(ROWS, self.maps, preset['conv'], strict=True):
            name, kernel, padding, columns, bias, following = row
            stride = 1
            if name == 'conv1' and self.small:
                kernel, padding = 5, 2
            elif name == 'conv1':
                stride = 4
                padding = tuple(stem(side, self.conv1_padding)[1] for side in x.shape[1:3])
            x = make.conv(
                name,
                x,
                maps,
                kernel,
                stride=stride,
                padding=padding,
                groups=self.groups if columns else 1,
                bias=bias * preset['bias'],
                weights=nn.initializers.normal(deviation),
            )
            for then in following:
                x = make.normalise(then, x) if 'norm' in then else make.pool(then, x)
        for name in ('fc6', 'fc7'):
            x = make.dropout(x, 0.5) if self.dropout_on == 'inputs' else x
            x = make.dense(
                name,
                x,
                self.units,
                bias=preset['bias'],
                weights=nn.initializers.normal(preset['dense']),
            )
            x = make.dropout(x, 0.5) if self.dropout_on == 'outputs' else x
        x = make.dense(
            'fc8',
            x,
            self.classes,
            linear=True,
            bias=preset['last_bias'],
            weights=nn.initializers.normal(0.01),
        )
        return make.result(x, features)


def _check_size(x, net):
    def pooled(side):
        return side // 8 if net.small else stem(side, net.conv1_padding)[0] // 8

    wanted = 4 if net.small else 6
    if any(pooled(side) != wanted for side in x.shape[1:3]):
        fit = [side for side in range(11, 512) if pooled(side) == wanted]
        raise ValueError(
            f"AlexNet's fc6 reads maps of {wanted}x{wanted}; images of "
            f'{x.shape[1]}x{x.shape[2]} give {pooled(x.shape[1])}x'
            f'{pooled(x.shape[2])}. Sides from {fit[0]} to {fit[-1]} fit.'
        )
