"""The claims on GoogLeNet that are arithmetic or algebra (Szegedy et al. 2014, Sec. 4, Table 1)."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

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
# Top-5 error of one net in per cent, ILSVRC-2012 validation: with 10 crops (AlexNet: Table 2,
# GoogLeNet: Table 3, ResNet: Table 3), VGG-16 on the whole image at one scale (Table 3)
TOP5 = {'alexnet': 18.2, 'vgg16': 8.1, 'googlenet': 9.15, 'resnet50': 6.71}
# Fig. 2b: each branch's layers with their kernels
BRANCHES = {
    '1x1': (('1x1', 1),),
    '3x3': (('3x3_reduce', 1), ('3x3', 3)),
    '5x5': (('5x5_reduce', 1), ('5x5', 5)),
    'pool': (('pool', 3), ('pool_proj', 1)),
}


def block_rows(name: str, **fields) -> dict[str, dict]:
    """{layer: row} of one block of GoogLeNet, '3a'."""
    prefix = f'inception_{name}/'
    net = rows('googlenet', **fields)
    return {layer.removeprefix(prefix): net[layer] for layer in net if layer.startswith(prefix)}


def by_branch(block: dict[str, dict], count: Callable[[dict], int]) -> dict[str, int]:
    """{branch: the sum of a count over its layers} of the rows of a block."""
    return {
        branch: sum(count(block[layer]) for layer, _ in parts if layer in block)
        for branch, parts in BRANCHES.items()
    }


def g1() -> Verdict:
    wrong = []
    for name, channels in OUTPUTS.items():
        block = block_rows(name)
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
    own = by_branch(block_rows('3a'), lambda row: row['parameters'])
    counts = [f'{branch} {count:,}' for branch, count in own.items()]
    total = sum(own.values())
    return settle(
        not wrong,
        f'{len(OUTPUTS) - len(wrong)} of {len(OUTPUTS)} blocks have the four branches of Fig. 2b '
        f'and the channels of Table 1. Parameters of 3a by branch: {", ".join(counts)}; '
        f'{total:,} in all.',
        total,
    )


def weights(row: dict) -> int:
    """Of a layer, without its biases; a pool has none."""
    return row['parameters'] - row['output'][-1] if row['kind'] == 'conv' else 0


def g2() -> Verdict:
    block, naive = block_rows('3a'), block_rows('3a', block='naive')
    reduced, plain = (by_branch(part, weights) for part in (block, naive))
    cost, direct = reduced['5x5'], plain['5x5']
    whole, flat = sum(reduced.values()), sum(plain.values())
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


def joined() -> dict[str, tuple[Array, Array]]:
    """{operation on two branches: (it on a sum of two inputs, the same sum of it on each)}."""
    x, y = ([part, -2 * part[..., :1]] for part in noise(2, 1, 5, 5, 3))
    concat = lambda branches: jnp.concatenate(branches, -1)  # as the block joins its branches
    relu = lambda branches: cnns.layers.activate(concat(branches), 'relu')
    mixed = concat([2 * a - 3 * b for a, b in zip(x, y)])
    return {
        'concatenation': (mixed, 2 * concat(x) - 3 * concat(y)),
        'ReLU': (relu([a + b for a, b in zip(x, y)]), relu(x) + relu(y)),
    }


def g5() -> Verdict:
    off, bent = (largest(apart, whole) for whole, apart in joined().values())
    inside = sum(layer.endswith(('_reduce', '_proj')) for layer in block_rows('3a'))
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
