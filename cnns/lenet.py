"""LeNet-5, modern and original.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document
recognition. Proc. IEEE 86(11), 1998, Sec. II-B, Fig. 2, Table I.

    layer  what                                     output     original  modern
    input                                           32x32x1
    C1     convolution 5x5                          28x28x6         156     156
    S2     subsampling 2x2                          14x14x6          12       0
    C3     convolution 5x5 (original: Table I)      10x10x16      1,516   2,416
    S4     subsampling 2x2                          5x5x16           32       0
    C5     convolution 5x5                          1x1x120      48,120  48,120
    F6     fully connected                          84           10,164  10,164
    OUT    original: distances to fixed codes       10                0     850
                                                                 60,000  61,706  parameters
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from cnns import layers

SIDE = 32  # pixels; on a larger input C5 gives a map, which the classifier does not take


def _check_size(x):
    if x.ndim != 4 or x.shape[1:3] != (SIDE, SIDE):
        raise ValueError(
            f'LeNet-5 takes images [N, {SIDE}, {SIDE}, C], it was given '
            f'{tuple(x.shape)}; pad or resize them to {SIDE}x{SIDE}.'
        )


def uniform(fan_in: Any = None) -> Callable:
    """Uniform in +-2.4 / fan-in (App. A).

    fan_in: a number, or one for each place of the parameter's last axis; None: that of a kernel
    [..., in, out] itself.
    """

    def init(key, shape, dtype=jnp.float32):
        bound = 2.4 / np.asarray(math.prod(shape[:-1]) if fan_in is None else fan_in, np.float32)
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype)

    return init


def _paper(fan_in: int) -> dict[str, Any]:
    return dict(weights=uniform(), bias=uniform(fan_in))


class LeNet5(layers.Net):
    """The usual modern form: 61,706 parameters, softmax output; x [N, 32, 32, C] -> [N, classes].

    Axes: `activation` covers C1, C3, C5 and F6; `pool` and `overlap` cover S2 and S4; `norm`
    covers the convolutions C1, C3 and C5. initialiser='paper' is uniform in +-2.4 / fan-in.

    Differences from the paper:
    - C3 reads all channels of S2: 2,416 parameters instead of 1,516;
    - S2 and S4 pool without trainable coefficient, bias or activation;
    - the activation is a plain tanh;
    - the output is linear, for softmax and cross-entropy, instead of distances to codes;
    - the initialisation is LeCun normal for weights, 0 for biases.

    Raises ValueError for an unknown axis value or another image size.
    """

    activation: str = 'tanh'
    pool: str = 'average'
    overlap: bool = False
    norm: str = 'none'
    classes: int = 10
    channels: int = 1
    initialiser: str = 'lecun'

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        layer = layers.Layers(self, x, train=train)
        _check_size(x)
        x = layer.conv('C1', x, 6, 5, lrn=True, **_paper(fan_in=25))
        x = layer.pool('S2', x)
        x = layer.conv('C3', x, 16, 5, lrn=True, **_paper(fan_in=150))
        x = layer.pool('S4', x)
        x = layer.conv('C5', x, 120, 5, lrn=True, **_paper(fan_in=400))
        x = layer.dense('F6', x, 84, **_paper(fan_in=120))
        x = layer.dense('OUT', x, self.classes, linear=True, **_paper(fan_in=84))
        return layer.result(x, features)


# Table I: the channels of S2 that each of the 16 channels of C3 reads.
# fmt: off
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5),
    (0, 1, 2, 5), (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
# fmt: on


class PartialConv(nn.Module):
    """C3: a 5x5 convolution with the links of Table I alone; 60 * 25 + 16 parameters.

    x [N, H, W, 6] -> [N, H - 4, W - 4, 16], before the activation.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    fast: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        links = [(i, o) for o, column in enumerate(C3_TABLE) for i in column]
        place = np.zeros((len(links), 6, 16), np.float32)
        for link, (i, o) in enumerate(links):
            place[link, i, o] = 1
        fan_in = [25 * len(column) for column in C3_TABLE]
        init = uniform([fan_in[o] for _, o in links])
        kernel = self.param('kernel', init, (5, 5, len(links)), self.param_dtype)
        bias = self.param('bias', uniform(fan_in), (16,), self.param_dtype)
        # Only existing weights are parameters; the dense kernel has zeros elsewhere
        dense = jnp.einsum('hwl,lio->hwio', kernel, place).astype(self.dtype)
        x = layers.convolve(x, dense, fast=self.fast)
        return x + bias.astype(self.dtype)


class Subsampling(nn.Module):
    """S2, S4: the sum of each 2x2 block times one coefficient per channel, plus one bias each.

    x [N, H, W, C] -> [N, H / 2, W / 2, C], before the activation.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    fast: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[-1:]
        coefficient = self.param('coefficient', uniform(4), shape, self.param_dtype)
        bias = self.param('bias', uniform(4), shape, self.param_dtype)
        sums = 4 * layers.pool(x, 'average', overlap=False, fast=self.fast)
        return sums * coefficient.astype(self.dtype) + bias.astype(self.dtype)


# Ten output codes, 7 wide and 12 high: +1 is ink, -1 is background.
_BITMAPS = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..###..  ...#...  ..###..  ..###..  ....##.  .#####.  ..####.  #######  ..###..  ..###..
.##.##.  ..##...  .#...#.  .#...#.  ...###.  .#.....  .##....  ......#  .#...#.  .#...#.
.#...#.  .###...  #.....#  ......#  ..##.#.  .#.....  .#.....  .....##  #.....#  #.....#
##...##  ...#...  ......#  ......#  .##..#.  .####..  #......  .....#.  #.....#  #.....#
#.....#  ...#...  .....##  ...###.  .#...#.  .#..##.  #.####.  ....##.  .#...#.  #....##
#.....#  ...#...  ....##.  .....#.  ##...#.  .....##  ##...##  ....#..  ..###..  .######
##...##  ...#...  ...##..  ......#  #######  ......#  #.....#  ...##..  .#...#.  .....#.
.#...#.  ...#...  ..##...  ......#  .....#.  ......#  #.....#  ...#...  #.....#  .....#.
.##.##.  ...#...  .##....  .#...#.  .....#.  #....##  .#...#.  ..##...  .#...#.  ....##.
..###..  .#####.  #######  ..###..  .....#.  .#####.  ..###..  ..#....  ..###..  ..##...
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""
_INK = np.array([list(row) for row in _BITMAPS.split()]).reshape(12, 10, 7) == '#'
CODES = np.where(_INK.swapaxes(0, 1).reshape(10, 84), 1, -1).astype(np.float32)


class LeNet5Original(layers.Net):
    """The net of 1998: 60,000 parameters, 340,908 connections; x [N, 32, 32, 1] -> [N, 10].

    Returns the negative squared distances of F6 to the ten codes (Eq. 7), float32, so that the
    largest is the answer; train it with `rbf_loss`.

    Axes: `activation` covers every layer up to F6, subsampling too. The others do not exist here,
    see LACKS.

    Three fields take one choice of the paper back, for ablations. links='full' lets every map of C3
    read all maps of S2 (2,416 parameters). subsampling='average' and 'max' are pools without
    coefficient, bias or activation in S2 and S4. head='linear' has 850 weights and biases in the
    place of the codes; its output is for softmax and cross-entropy.

    Differences from the paper:
    - the codes are drawn after Fig. 3's description (7x12, one stylised bitmap per class), and
      for the ten digits only;
    - the scaling of the input (background -0.1, ink 1.175) is the caller's.

    Raises ValueError for an unknown activation or choice, another image size, or classes other
    than 10.
    """

    LACKS: ClassVar = {
        'pool': 'its subsampling layers S2 and S4 are trainable (sum, coefficient, bias)',
        'overlap': 'its subsampling layers S2 and S4 read disjoint 2x2 blocks by definition',
        'norm': 'it has no normalisation layers',
    }
    CHOICES: ClassVar = {
        'links': ('table', 'full'),
        'subsampling': ('trainable', 'average', 'max'),
        'head': ('codes', 'linear'),
    }

    activation: str = 'scaled_tanh'
    classes: int = 10
    channels: int = 1
    links: str = 'table'  # of C3: those of Table I; 'full': all
    subsampling: str = 'trainable'  # S2 and S4; 'average', 'max'
    head: str = 'codes'  # 'linear'

    @property
    def MACS(self) -> dict[str, int]:
        """Multiply-adds of what is computed densely: the links of Table I, and the distances."""
        links = {'C3': 60 * 25 * 10 * 10} if self.links == 'table' else {}
        return links | ({'OUT': 84 * 10} if self.head == 'codes' else {})

    @nn.compact
    def __call__(self, x: Array, train: bool, features: bool | str = False) -> Array:
        if self.classes != 10 or self.channels != 1 or x.shape[-1] != 1:
            raise ValueError(
                'the original LeNet-5 has codes for 10 classes and reads 1 channel; it was given '
                f'{self.classes} classes and {x.shape[-1]} channels. Use the modern form.'
            )
        layer = layers.Layers(self, x, train=train)
        _check_size(x)
        if self.initialiser != 'paper':
            raise ValueError(
                f'initialiser {self.initialiser!r}: the original LeNet-5 takes '
                "initialiser='paper' alone. Use the modern form."
            )
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype, fast=self.fast)
        x = layer.conv('C1', x, 6, 5, **_paper(fan_in=25))

        def subsample(name, x):
            if self.subsampling == 'trainable':
                return layer.activate(name, Subsampling(**types, name=name)(x))
            return layer.pool(name, x, kind=self.subsampling, overlap=False)

        x = subsample('S2', x)
        if self.links == 'full':
            x = layer.conv('C3', x, 16, 5, **_paper(fan_in=150))
        else:
            x = layer.activate('C3', PartialConv(**types, name='C3')(x))
        x = subsample('S4', x)
        x = layer.conv('C5', x, 120, 5, **_paper(fan_in=400))
        x = layer.dense('F6', x, 84, **_paper(fan_in=120))
        if self.head == 'linear':
            x = layer.dense('OUT', x, self.classes, linear=True, **_paper(fan_in=84))
            return layer.result(x, features)
        with jax.named_scope('OUT'):
            distances = jnp.square(x.astype(jnp.float32)[:, None] - CODES).sum(-1)
        return layer.result(layer.keep('OUT', -distances), features)


def rbf_loss(logits: Array, labels: Array, *, j: float = 0.1) -> Array:
    """The discriminative loss of Sec. II-C, Eq. 9, per image: float32 [N].

    y_label + log(exp(-j) + sum_i exp(-y_i)), y = -logits [N, classes], labels int [N]. The
    paper gives no value for j > 0, which keeps classes that are far enough from being pushed
    further; 0.1 is ours. Without exp(-j) this is cross-entropy.
    """
    correct = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    constant = jnp.full_like(logits[:, :1], -j)
    return jax.nn.logsumexp(jnp.concatenate([constant, logits], -1), axis=-1) - correct
