"""Multilayer perceptrons: those LeNet-5 was compared with, and the net of batch norm's Fig. 1.

Y. LeCun et al. 1998 (see lenet.py), Sec. III-C 5 and 6, Fig. 9; S. Ioffe, C. Szegedy: Batch
normalization: accelerating deep network training by reducing internal covariate shift.
arXiv 1502.03167, 2015, Sec. 4.1, Fig. 1.

    net             layers                  parameters
    mlp_300         784-300-10                 238,510
    mlp_1000        784-1000-10                795,010
    mlp_300_100     784-300-100-10             266,610
    mlp_500_150     784-500-150-10             469,160
    mlp_batchnorm   784-100-100-100-10          99,710  (100,010 with norm='batch')
"""

from typing import ClassVar

import flax.linen as nn
from jax import Array

from cnns import layers
from cnns.lenet import uniform

_NO_ORDER = 'its units have no order, so none is the neighbour of another'


class MLP(layers.Net):
    """Fully connected layers fc1, fc2, ... and a linear output: x [N, 28, 28, 1] -> [N, classes].

    Any other image size works too; it is fixed by the variables.

    Axes: `activation` and norm='batch' cover every hidden layer. initialiser='paper' is uniform in
    +-2.4 / fan-in (1998), 'gaussian' normal with standard deviation 0.1 and biases 0,
    'gaussian_0.01' with AlexNet's 0.01.

    Differences from the papers:
    - 1998: the output is linear, for softmax and cross-entropy, instead of ten squashed units and
      squared error;
    - batch norm: "small random Gaussian" weights, of a size not stated; 0.1 is ours.
    """

    LACKS: ClassVar = {
        'pool': 'it has no maps',
        'overlap': 'it has no pooling',
        'norm=lrn': _NO_ORDER,
        'norm=batch+lrn': _NO_ORDER,
    }
    OWN_INITS: ClassVar = ('paper', 'gaussian', 'gaussian_0.01')

    activation: str = 'scaled_tanh'
    norm: str = 'none'
    classes: int = 10
    channels: int = 1
    hidden: tuple[int, ...] = (300,)  # units of each hidden layer

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        deviation = 0.01 if self.initialiser == 'gaussian_0.01' else 0.1
        layer = layers.Layers(self, x, train=train, weights=nn.initializers.normal(deviation))
        layers.check_counts('hidden', self.hidden)

        def initialisers(x):
            paper = self.initialiser == 'paper'
            return dict(weights=uniform(), bias=uniform(x.shape[-1])) if paper else {}

        x = layer.keep('input', layers.flat(x))
        for number, units in enumerate(self.hidden, start=1):
            x = layer.dense(f'fc{number}', x, units, norm=True, **initialisers(x))
        last = f'fc{len(self.hidden) + 1}'
        x = layer.dense(last, x, self.classes, linear=True, **initialisers(x))
        return layer.result(x, features)
