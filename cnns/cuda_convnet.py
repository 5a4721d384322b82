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
from typing import ClassVar

import flax.linen as nn
from jax import Array

from cnns import layers
from cnns.axes import unknown

# 11pct's 'cmrnorm'
_LRN = functools.partial(layers.lrn, n=9, k=1.0, alpha=1e-3, beta=0.75, alpha_over_n=True)
_normal = nn.initializers.normal


class CudaConvNet(layers.Net):
    """The net of the files 80sec, 19pct and 18pct: x [N, 32, 32, 3] -> [N, classes].

    Axes: `activation` covers every layer but fc10; `pool` and `overlap` cover all pools, and
    pool='mixed' is the files' own choice (max, average, average); norm='lrn' is norm1 and
    norm2: response normalisation within maps in 18pct (layers.lrn_within), across channels with
    11pct's constants in the others; 'batch' covers the convolutions.

    Differences from the files:
    - pool1 comes after the activation, in the files before: the same for max pooling with a
      monotone activation.

    The number of parameters depends on the side, which can be any from 8 (4 for the other files).
    Raises ValueError for an unknown file or axis value, or a smaller side.
    """

    VALUES: ClassVar = {'pool': ('mixed',)}
    FILES: ClassVar[tuple[str, ...]] = ('80sec', '19pct', '18pct')

    activation: str = 'relu'
    pool: str = 'mixed'
    overlap: bool = True
    norm: str = 'none'
    classes: int = 10
    file: str = '19pct'

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = self._layers(x, train)
        first, others = ('max', 'average') if self.pool == 'mixed' else (self.pool, self.pool)
        x = layer.conv('conv1', x, 32, 5, padding=2, weights=_normal(1e-4))
        x = layer.pool('pool1', x, kind=first)
        x = layer.normalise('norm1', x)
        x = layer.conv('conv2', x, 32, 5, padding=2, weights=_normal(0.01))
        x = layer.pool('pool2', x, kind=others)
        x = layer.normalise('norm2', x)
        x = layer.conv('conv3', x, 64, 5, padding=2, weights=_normal(0.01))
        x = layer.pool('pool3', x, kind=others)
        if self.file == '80sec':
            x = layer.dense('fc64', x, 64, weights=_normal(0.1))
        weights = _normal(0.1 if self.file == '80sec' else 0.01)
        x = layer.dense('fc10', x, self.classes, linear=True, weights=weights)
        return layer.result(x, features)

    @nn.nowrap
    def _layers(self, x, train):
        if self.file not in self.FILES:
            raise unknown('unknown file', self.file, self.FILES)
        lrn = layers.lrn_within if self.file == '18pct' else _LRN
        return layers.Layers(self, x, train=train, lrn=lrn)


class LocalCudaConvNet(CudaConvNet):
    """The net of the files 13pct and 11pct: x [N, 24, 24, 3] -> [N, classes].

    Its local3 and local4 have a kernel of their own at every place. Axes as in CudaConvNet, but all
    its pools are max pools and norm='lrn' has 11pct's constants. The two files differ not only in
    LRN: local3 has 32 and 64 channels. Toggle `norm` of one file to measure LRN.
    """

    VALUES: ClassVar = {}
    FILES: ClassVar = ('13pct', '11pct')

    pool: str = 'max'
    file: str = '13pct'

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = self._layers(x, train)
        x = layer.conv('conv1', x, 64, 5, padding=2, weights=_normal(1e-4))
        x = layer.pool('pool1', x)
        x = layer.normalise('norm1', x)
        x = layer.conv('conv2', x, 64, 5, padding=2, weights=_normal(0.01))
        x = layer.normalise('norm2', x)
        x = layer.pool('pool2', x)
        width = 64 if self.file == '11pct' else 32
        x = layer.local('local3', x, width, 3, padding=1, weights=_normal(0.04))
        x = layer.local('local4', x, 32, 3, padding=1, weights=_normal(0.04))
        x = layer.dense('fc10', x, self.classes, linear=True, weights=_normal(0.01))
        return layer.result(x, features)
