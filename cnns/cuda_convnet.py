"""The small CIFAR-10 nets of AlexNet's author, to which that paper's footnote 3 points.

A. Krizhevsky: cuda-convnet, 2011, the files layers-*.cfg of its example-layers. AlexNet's Fig. 1
and its LRN result on CIFAR-10 (Sec. 3.3) were measured on nets of this kind.

    80sec, 19pct, 18pct: 32x32x3             13pct, 11pct: 24x24x3, crops
    conv1   5x5, pad 2     32x32x32          conv1   5x5, pad 2      24x24x64
    pool1   max 3/2        16x16             pool1   max 3/2         12x12
    norm1   18pct          within maps       norm1   11pct           LRN
    conv2   5x5, pad 2     16x16x32          conv2   5x5, pad 2      12x12x64
    pool2   average 3/2    8x8               norm2   11pct           LRN
    norm2   18pct          within maps       pool2   max 3/2         6x6
    conv3   5x5, pad 2     8x8x64            local3  3x3, pad 1      6x6x32 (11pct: 64)
    pool3   average 3/2    4x4               local4  3x3, pad 1      6x6x32
    fc64    80sec          64
    fc10                   10                fc10                    10
    parameters  145,578 (80sec), 89,578      1,116,490 (13pct), 2,112,970 (11pct)
"""

import functools

import flax.linen as nn

from cnns import layers

# Name, maps or units, standard deviation of the weights; the pools' kinds where pool='mixed'.
SHALLOW = (
    ('conv1', 32, 1e-4),
    ('pool1', 'max'),
    ('norm1',),
    ('conv2', 32, 0.01),
    ('pool2', 'average'),
    ('norm2',),
    ('conv3', 64, 0.01),
    ('pool3', 'average'),
)
DEEP = (
    ('conv1', 64, 1e-4),
    ('pool1', 'max'),
    ('norm1',),
    ('conv2', 64, 0.01),
    ('norm2',),
    ('pool2', 'max'),
)
ROWS = {
    '80sec': (*SHALLOW, ('fc64', 64, 0.1), ('fc10', None, 0.1)),
    '19pct': (*SHALLOW, ('fc10', None, 0.01)),
    '18pct': (*SHALLOW, ('fc10', None, 0.01)),
    '13pct': (*DEEP, ('local3', 32, 0.04), ('local4', 32, 0.04), ('fc10', None, 0.01)),
    '11pct': (*DEEP, ('local3', 64, 0.04), ('local4', 32, 0.04), ('fc10', None, 0.01)),
}
ACROSS = dict(n=9, k=1.0, alpha=1e-3, beta=0.75, alpha_over_n=True)  # 11pct's 'cmrnorm'


class CudaConvNet(layers.Net):
    """The net of the files 80sec, 19pct and 18pct: x [N, 32, 32, 3] -> [N, classes].

    Axes: `activation` covers every layer but fc10; `pool` and `overlap` cover all pools, and
    pool='mixed' is the files' own choice (max, average, average); norm='lrn' stands at norm1 and
    norm2: response normalisation within maps in 18pct (layers.lrn_within), across channels with
    11pct's constants in the others; 'batch' covers the convolutions.

    Differences from the files:
    - pool1 comes after the activation, in the files before: the same for max pooling with a
      monotone activation.

    The number of parameters depends on the side, which can be any from 8 (4 for the other files).
    Raises ValueError for an unknown file or axis value, or a smaller side.
    """

    VALUES = {'pool': ('mixed',)}
    FILES = ('80sec', '19pct', '18pct')

    activation: str = 'relu'
    pool: str = 'mixed'
    overlap: bool = True
    norm: str = 'none'
    classes: int = 10
    file: str = '19pct'

    @nn.compact
    def __call__(self, x, *, train: bool, features: bool | str = False):
        if self.file not in self.FILES:
            raise layers.unknown('unknown file', self.file, self.FILES)
        lrn = layers.lrn_within if self.file == '18pct' else functools.partial(layers.lrn, **ACROSS)
        make = layers.Maker(self, x, train=train, lrn=lrn)
        for name, *row in ROWS[self.file]:
            weights = nn.initializers.normal(row[-1]) if len(row) == 2 else None
            if name.startswith('conv'):
                x = make.conv(name, x, row[0], 5, padding=2, weights=weights)
            elif name.startswith('pool'):
                x = make.pool(name, x, kind=row[0] if self.pool == 'mixed' else None)
            elif name.startswith('norm'):
                x = make.normalise(name, x)
            elif name.startswith('local'):
                x = make.local(name, x, row[0], 3, padding=1, weights=weights)
            else:
                x = make.dense(
                    name, x, row[0] or self.classes, linear=row[0] is None, weights=weights
                )
        return make.result(x, features)


class LocalCudaConvNet(CudaConvNet):
    """The net of the files 13pct and 11pct: x [N, 24, 24, 3] -> [N, classes].

    Its local3 and local4 have a kernel of their own at every place. Axes as in CudaConvNet, but all
    its pools are max pools and norm='lrn' has 11pct's constants. The two files differ not only in
    LRN: local3 has 32 and 64 maps. Toggle `norm` of one file to measure LRN.
    """

    VALUES = {}
    FILES = ('13pct', '11pct')

    pool: str = 'max'
    file: str = '13pct'
