"""The claims on AlexNet that are arithmetic or algebra (Krizhevsky et al. 2012)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import cnns
from cnns.alexnet import stem
from experiments.claims.claim import Verdict, settle
from experiments.claims.computed.reading import (
    EXACT,
    apply,
    drawn,
    largest,
    macs,
    noise,
    parameters,
    rounding,
    rows,
    shape,
)
from experiments.data.statistics import Statistics
from experiments.preprocess import augment, views

# ILSVRC-2012, top-5 error in per cent on the test set, as Table 2 cites it; the entries of AlexNet
# were the first and the second line
ILSVRC_2012 = {
    '7 AlexNets, two of them pre-trained on other images': 15.3,
    '5 AlexNets': 16.4,
    'second-best entry': 26.2,
}
ONE_NET = 18.2  # the same on the validation set; a single net was not tested

# Sec. 3.5 and Fig. 2: the maps of each layer after its pooling, the parameters of each layer
# fmt: off
MAPS = {
    'conv1': (55, 55, 96), 'pool1': (27, 27, 96), 'conv2': (27, 27, 256), 'pool2': (13, 13, 256),
    'conv3': (13, 13, 384), 'conv4': (13, 13, 384), 'conv5': (13, 13, 256), 'pool5': (6, 6, 256),
    'fc6': (4096,), 'fc7': (4096,), 'fc8': (1000,),
}
# fmt: on
POOLED = ('lenet5', 'alexnet', 'vgg16')
VIEWS = 2048  # "increases the size of our training set by a factor of 2048", Sec. 4.1
MASKS = 300  # of dropout, over which its mean is drawn


def a0() -> Verdict:
    winner = min(ILSVRC_2012, key=lambda entry: ILSVRC_2012[entry])
    best, second = ILSVRC_2012[winner], ILSVRC_2012['second-best entry']
    return settle(
        'AlexNet' in winner,
        f'Cited, not measured: {winner} {best} %, the second-best entry {second} %. A single '
        f'AlexNet has {ONE_NET} % on the validation set.',
        second - best,
        data="ILSVRC-2012 test, the paper's Table 2",
    )


def _small():
    """The 32x32 AlexNet, narrow enough to run at once, on two images."""
    fields = dict(widths=(8, 16, 24, 24, 16), units=256, fast=False)
    net, images = cnns.build('alexnet_32px', **fields), noise(2, 32, 32, 3)
    return net, drawn(net, 32), images


def a2b() -> Verdict:
    net, variables, images = _small()
    rates = set()

    def dropped(train):
        """What each dropout layer lets through, in the order of the net."""

        def kept(module, _):
            if isinstance(module, nn.Dropout):
                rates.add(module.rate)
                return True
            return False

        _, seen = net.apply(
            variables,
            images,
            train=train,
            rngs={'dropout': jax.random.key(2)},
            capture_intermediates=kept,
            mutable=['intermediates'],
        )
        return [np.asarray(out) for out in jax.tree.leaves(seen['intermediates'])]

    layer = np.asarray(apply(net, variables, images, features='fc6'))
    on = layer > 0  # where ReLU itself gives 0, dropout cannot be seen
    factors = np.unique((dropped(train=True)[0][on] / layer[on]).round(5))
    used = 100 * np.mean(dropped(train=False)[0][on] == layer[on])
    again = [apply(net, variables, images) for _ in range(2)]
    (rate,) = rates or (0.0,)
    expectation = (1 - rate) * factors.max()
    return settle(
        used == 100 and (again[0] == again[1]).all() and factors.min() == 0 and expectation == 1,
        f'Inference uses {used:.0f} % of the units and gives the same logits twice. Training '
        f'multiplies each by {" or ".join(f"{factor:g}" for factor in factors)}, {expectation:g} '
        'in expectation: what the next linear layer sees is that of inference on average, after '
        "a non-linearity only about so. The paper's halving in inference is the same ratio.",
        used,
    )


def masked(masks: int = MASKS) -> dict[str, tuple[Array, Array]]:
    """{layer: (its values in inference, their means over so many dropout masks)}.

    Of one image: fc6 behind its dropout [units], and fc8 [classes], which come after a ReLU.
    """
    net, variables, images = _small()

    @jax.jit  # in one piece it compiles faster than its operations one by one
    def train(many):
        return net.apply(
            variables,
            many,
            train=True,
            rngs={'dropout': jax.random.key(2)},
            capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
            mutable=['intermediates'],
        )

    logits, seen = train(jnp.repeat(images[:1], masks, 0))  # each image has masks of its own
    first = jax.tree.leaves(seen['intermediates'])[0]
    return {
        'fc6': (apply(net, variables, images, features='fc6')[0], first.mean(0)),
        'fc8': (apply(net, variables, images)[0], logits.mean(0)),
    }


def pools(name: str) -> list[tuple[dict, dict]]:
    """(the row before, the pool's row) of every pool of a net without branches."""
    listed = list(rows(name).values())
    return [pair for pair in zip(listed, listed[1:]) if pair[1]['kind'].endswith('pool')]


def a3a() -> Verdict:
    pairs = [(b['output'][0], a['output'][0]) for name in POOLED for b, a in pools(name)]
    area = min((before / after) ** 2 for before, after in pairs)
    slow = rows('googlenet')['inception_4b/pool']  # stride 1
    strided = rows('resnet20')['conv3_1/conv1']
    return settle(
        all(after == before // 2 for before, after in pairs),
        f'All {len(pairs)} pools of {", ".join(POOLED)} halve the side: at least {area:.2f} times '
        f'smaller maps. It is their stride of 2 that does: the pools '
        f'of stride {slow["stride"][0]} in GoogLeNet keep {slow["output"][0]}, a convolution of '
        f'stride {strided["stride"][0]} in ResNet makes 32 to {strided["output"][0]}.',
        area,
    )


def windows(overlap: bool, side: int = 8) -> np.ndarray:
    """Which pixels each window of our pool reads, on a square map: bool [k, k, side, side]."""
    pool = lambda x: cnns.layers.pool(x[None, :, :, None], 'average', overlap, fast=False)
    return np.asarray(jax.jacobian(pool)(jnp.ones((side, side))) != 0)[0, :, :, 0]


def a3c() -> Verdict:
    sizes, overlaps = {}, {}
    for label, name in (('LeNet-5', 'lenet5'), ('AlexNet', 'alexnet')):
        row = pools(name)[0][1]
        sizes[label] = row['kernel'][0], row['stride'][0]
        overlaps[label] = windows(cnns.axes_of(name)['overlap']).sum((0, 1)).max() > 1
    window, stride = sizes['LeNet-5']
    found = ', '.join(
        f'{label} has window {z}, stride {s} and {"overlaps" if overlaps[label] else "does not"}'
        for label, (z, s) in sizes.items()
    )
    return settle(
        stride < window and not overlaps['LeNet-5'],
        f'Windows overlap if and only if the stride is smaller than the window: {found}.',
        sizes['AlexNet'][0] - sizes['AlexNet'][1],
        correction=all(overlaps[label] == (s < z) for label, (z, s) in sizes.items())
        and overlaps == {'LeNet-5': False, 'AlexNet': True},
    )


def lrn_jacobian(channels: int = 12) -> np.ndarray:
    """d b_i / d a_j of our LRN at positive activations near 30, [channels, channels]."""
    activations = 30 * jnp.exp(noise(channels) / 4)
    return np.asarray(jax.jacobian(lambda a: cnns.layers.lrn(a, fast=False))(activations))


def a4a() -> Verdict:
    jacobian = lrn_jacobian()
    distance = np.abs(np.subtract.outer(*[np.arange(len(jacobian))] * 2))
    lowered = jacobian < 0
    near = (distance > 0) & (distance <= 2)
    middle = len(jacobian) // 2
    flat = jnp.full(9, 30.0)
    less = 1 - cnns.layers.lrn(flat.at[4].set(60.0))[3] / cnns.layers.lrn(flat)[3]
    return settle(
        (lowered == near).all() and (jacobian[distance > 2] == 0).all(),
        f'Raising one channel lowers {lowered[:, middle].sum()} others and leaves those more than '
        f'2 away as they are: the sign of every entry of the Jacobian. Where all are at 30, '
        f'doubling one lowers its neighbour by {100 * less:.1f} %.',
        lowered[:, middle].sum(),
    )


@functools.cache
def places(size: int, side: int = 256) -> int:
    """At how many places our random crop can begin along one side, by drawing many."""
    kind = augment.random_crop((side, side, 3), (size, size))
    tops = jax.vmap(lambda key: kind.draw(key)['box'][0])(jax.random.split(jax.random.key(0), 4096))
    return len(np.unique(tops))


def a5b() -> Verdict:
    found = {size: places(size) for size in (224, 227)}
    trained = augment.augmentation(
        (256, 256, 3), Statistics(np.zeros(3), np.ones(3)), crop='random', size=224, flip=True
    )
    ten = views.views('ten', trained).count
    # The paper counts 32 x 32 x 2, one place fewer along each side than there are
    counted = {size: 2 * (number - 1) ** 2 for size, number in found.items()}
    exist = {size: 2 * number**2 for size, number in found.items()}
    return settle(
        counted[227] == VIEWS,
        f"The paper's {VIEWS:,} = 32 x 32 x 2 is that of crops of 224 from 256; crops of 227 would "
        f'give {counted[227]:,}. In fact there are {found[224]} x {found[224]} x 2 = '
        f'{exist[224]:,} views. Its test averages {ten} of them.',
        exist[224],
        correction=counted[224] == VIEWS and ten == 10,
    )


def a6() -> Verdict:
    net, variables, images = _small()
    off, crossing = 0.0, []
    before = {'conv2': 'pool1', 'conv3': 'pool2', 'conv4': 'conv3', 'conv5': 'conv4'}
    for layer, source in before.items():
        own = variables['params'][layer]['conv']
        x = apply(net, variables, images, features=source)
        if own['kernel'].shape[2] == x.shape[-1]:
            crossing.append(layer)
            continue
        parts = []
        for part, kernel, bias in zip(
            *(jnp.split(one, 2, -1) for one in (x, own['kernel'], own['bias']))
        ):
            size, width = kernel.shape[0], kernel.shape[-1]
            half = cnns.layers.Conv(width, size, net.activation, 'none', padding=size // 2)
            parts.append(apply(half, {'params': {'conv': dict(kernel=kernel, bias=bias)}}, part))
        whole = apply(net, variables, images, features=layer)
        off = max(off, largest(jnp.concatenate(parts, -1), whole))
    two, one = (macs(name) for name in ('alexnet', 'alexnet_ungrouped'))
    saved = 100 * (1 - two / one)
    return settle(
        off < EXACT and crossing == ['conv3'],
        f'conv2, conv4 and conv5 in two shards that see nothing of each other are the convolution '
        f'in 2 groups ({rounding(off)}); {", ".join(crossing)} and the fully connected layers read '
        f'both. Groups save {saved:.1f} % of the multiply-adds ({one / 1e6:,.0f} to '
        f'{two / 1e6:,.0f} million) and {parameters("alexnet_ungrouped") - parameters("alexnet"):,}'
        ' parameters.',
        saved,
    )


CUT = '224, rounded down'


def conv1_sides() -> dict[str, int]:
    """Side of conv1's map in pixels, by the side of the image and the rule of its last window."""
    return {
        '227': shape('alexnet', 'conv1', 227)[0],
        '224, last window over the edge': shape('alexnet', 'conv1', 224)[0],
        '224, padded by 2': shape('alexnet', 'conv1', 224, conv1_padding=2)[0],
        CUT: stem(224, 0)[0],
    }


def a7() -> Verdict:
    sides = dict(conv1_sides())
    cut = sides.pop(CUT)
    return settle(
        sides['227'] == 55 and all(side != 55 for rule, side in sides.items() if rule != '227'),
        f'conv1 has maps of {", ".join(f"{side} ({rule})" for rule, side in sides.items())}. Only '
        f'224 without padding, rounded down, gives {cut}.',
        sides['227'],
        correction=set(sides.values()) == {55} and cut == 54,
    )


def a8() -> Verdict:
    net = rows('alexnet')
    found = {layer: tuple(row['output']) for layer, row in net.items()}
    normed, pooled = (shape('alexnet', layer, 227)[0] for layer in ('norm1', 'pool1'))
    first = 'LRN comes before' if normed == net['conv1']['output'][0] else 'LRN follows'
    differ = [layer for layer in {**MAPS, **found} if MAPS.get(layer) != found.get(layer)]
    right = not differ and parameters('alexnet') == 60_965_224
    dense = sum(row['parameters'] for row in net.values() if row['kind'] == 'dense')
    return settle(
        right and normed == pooled,
        f'{len(found) - len(differ)} of {len(MAPS)} shapes are those of the paper, with '
        f'{parameters("alexnet"):,} parameters, {100 * dense / parameters("alexnet"):.1f} % of '
        f'them fully connected. {first} pool1: it has maps of {normed}, pool1 of {pooled}.',
        parameters('alexnet'),
        correction=right and normed != pooled,
    )


# --- beside trained claims ---------------------------------------------------------------------


def a3b_choices() -> str:
    kinds = {name: cnns.axes_of(name).get('pool') for name in ('lenet5', 'alexnet')}
    count = rows('lenet5_1998')['S2']['parameters']
    return (
        'The notes name the two and do not say which is better. As they say, LeNet-5 has '
        f'{kinds["lenet5"]} pooling (of 1998: trainable, {count} parameters in S2), AlexNet '
        f'{kinds["alexnet"]} pooling.'
    )
