"""The claims on GoogLeNet that are arithmetic or algebra (Szegedy et al. 2014, Sec. 4, Table 1)."""

import jax.numpy as jnp
import numpy as np

import cnns
from experiments.claims.claim import Verdict, settle
from experiments.claims.computed.reading import (
    drawn,
    largest,
    macs,
    noise,
    parameters,
    rounding,
    rows,
    shape,
)

# Table 1: channels of each block's output
OUTPUTS = {
    '3a': 256,
    '3b': 480,
    '4a': 512,
    '4b': 512,
    '4c': 512,
    '4d': 528,
    '4e': 832,
    '5a': 832,
    '5b': 1024,
}
# Fig. 2b: each branch's layers with their kernels
BRANCHES = {
    '1x1': (('1x1', 1),),
    '3x3': (('3x3_reduce', 1), ('3x3', 3)),
    '5x5': (('5x5_reduce', 1), ('5x5', 5)),
    'pool': (('pool', 3), ('pool_proj', 1)),
}


def _block(name: str, **fields) -> dict[str, dict]:
    """{layer: row} of one block of GoogLeNet, '3a'."""
    prefix = f'inception_{name}/'
    net = rows('googlenet', **fields)
    return {layer.removeprefix(prefix): net[layer] for layer in net if layer.startswith(prefix)}


def g1() -> Verdict:
    wrong = []
    for name, channels in OUTPUTS.items():
        block = _block(name)
        kernels = {
            branch: tuple(
                (layer, block[layer]['kernel'][0]) for layer, _ in parts if layer in block
            )
            for branch, parts in BRANCHES.items()
        }
        ends = [parts[-1][0] for parts in BRANCHES.values()]
        widths = [block[end]['output'][-1] for end in ends if end in block]
        layers = sum(map(len, BRANCHES.values()))
        if kernels != BRANCHES or len(block) != layers or sum(widths) != channels:
            wrong.append(name)
    block = _block('3a')
    counts = [
        f'{branch} {sum(block[layer]["parameters"] for layer, _ in parts if layer in block):,}'
        for branch, parts in BRANCHES.items()
    ]
    total = sum(row['parameters'] for row in block.values())
    return settle(
        not wrong,
        f'{len(OUTPUTS) - len(wrong)} of {len(OUTPUTS)} blocks have the four branches of Fig. 2b '
        f'and the channels of Table 1. Parameters of 3a by branch: {", ".join(counts)}; '
        f'{total:,} in all.',
        total,
    )


def _weights(row: dict) -> int:
    return row['parameters'] - row['output'][-1]  # without the biases


def g2() -> Verdict:
    block, naive = _block('3a'), _block('3a', block='naive')
    cost, direct = (
        sum(_weights(part[layer]) for layer in ('5x5_reduce', '5x5') if layer in part)
        for part in (block, naive)
    )
    whole, flat = (sum(map(_weights, _conv(part))) for part in (block, naive))
    net = cnns.build('googlenet_32px', fast=False)
    variables = drawn(net, 32)['params']['inception_3a']['5x5_reduce']['conv']
    kernel = np.asarray(variables['kernel'])[0, 0]
    rank = np.linalg.matrix_rank(kernel)
    hidden = np.linalg.svd(kernel.T)[2][-1]  # a direction that the 1x1 convolution maps to zero
    x = noise(1, 4, 4, len(kernel))
    off = largest((x + 10 * hidden) @ kernel, x @ kernel)
    kept = block['5x5_reduce']['output'][:2] == block['1x1']['output'][:2]
    return settle(
        cost < direct and rank == len(kernel),
        f'The cost is true: with its reduction the 5x5 branch of 3a has {cost:,} weights instead '
        f'of {direct:,} ({direct / cost:.1f} times fewer), 3a {whole:,} instead of {flat:,}. '
        f'"Keeps the other information" is false: the rank is {rank} of {len(kernel)} channels, '
        f'and inputs that differ by a hidden direction give the same output ({rounding(off)}). '
        'Only the grid is kept.',
        direct / cost,
        correction=cost < direct and rank < len(kernel) and off < 1e-4 and kept,
    )


def _conv(block):
    return [row for row in block.values() if row['kind'] == 'conv']


def g3() -> Verdict:
    ours, vgg = parameters('googlenet'), parameters('vgg16')
    conv = sum(row['parameters'] for row in rows('vgg16').values() if row['kind'] == 'conv')
    return settle(
        ours < vgg,
        f'{ours:,} parameters against {vgg:,} of VGG-16: {vgg / ours:.1f} times fewer. Most of it '
        f'is the fully connected layers: the convolutions of VGG-16 alone have {conv:,}, '
        f'{conv / ours:.1f} times as many.',
        vgg / ours,
    )


def g5() -> Verdict:
    x, y = ([part, -2 * part[..., :1]] for part in noise(2, 1, 5, 5, 3))
    joined = lambda branches: jnp.concatenate(branches, -1)  # as the block joins its branches
    mixed = joined([2 * a - 3 * b for a, b in zip(x, y)])
    off = largest(2 * joined(x) - 3 * joined(y), mixed)
    relu = lambda branches: cnns.layers.activate(joined(branches), 'relu')
    bent = largest(relu(x) + relu(y), relu([a + b for a, b in zip(x, y)]))
    inside = sum(layer.endswith(('_reduce', '_proj')) for layer in _block('3a'))
    return settle(
        off > 0,
        f'concat(2x - 3y) = 2 concat(x) - 3 concat(y) to {off:g}: concatenation is linear. What is '
        f'not is the ReLU (off by {100 * bent:.0f} % from a sum), and the block adds {inside} of '
        'them after its 1x1 convolutions.',
        off,
        correction=off == 0 < bent,
    )


# --- beside trained claims ---------------------------------------------------------------------


def g7_heads() -> str:
    """What a head of AlexNet's kind would add to GoogLeNet's last maps."""
    head = rows('googlenet')['fc']['parameters']
    side, _, channels = shape('googlenet', 'inception_5b', 224)
    dense = (side * side * channels + 1) * 1024 + head
    return (
        f'After the average the classifier has {head:,} parameters; a fully connected layer of '
        f'1024 units before it, on the {side}x{side} maps, would make them {dense:,}. The net has '
        f'{macs("googlenet") / 1e6:,.0f} million multiply-adds.'
    )
