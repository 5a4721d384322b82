"""The claims on ResNet that are arithmetic (He et al. 2015, Sec. 3.3, 4.1, 4.2, Fig. 5)."""

from experiments.claims.claim import Verdict, settle
from experiments.claims.computed.reading import macs, parameters, rows


def _block(net: str, block: str) -> list[dict]:
    """The convolutions of one block, without its shortcut."""
    parts = (f'{block}/conv{number}' for number in (1, 2, 3))
    table = rows(net)
    return [table[part] for part in parts if part in table]


def blocks() -> dict[str, list[dict]]:
    return {
        'bottleneck on 256': _block('resnet50', 'conv2_2'),
        'two 3x3 on 64': _block('resnet34', 'conv2_2'),  # as Fig. 5 left
        'two 3x3 on 256': _block('resnet34', 'conv4_2'),  # channels as the bottleneck reads
    }


def weights(block: list[dict]) -> int:
    """Without biases and batch norm: multiply-adds at one place."""
    return sum(row['macs'] // (row['output'][0] * row['output'][1]) for row in block)


def r6() -> Verdict:
    kernels = lambda block: [row['kernel'][0] for row in block]
    bottleneck, narrow, wide = blocks().values()
    small, same, large = map(weights, (bottleneck, narrow, wide))
    channels = bottleneck[-1]['output'][-1], wide[-1]['output'][-1]
    shallow, deep = macs('resnet34'), macs('resnet50')
    return settle(
        kernels(bottleneck) == [1, 3, 1] and channels[0] == channels[1] and small < same < large,
        f'On {channels[0]} channels the bottleneck has {small:,} weights where two 3x3 have '
        f'{large:,} ({large / small:.1f} times more); two 3x3 on a quarter of the channels have '
        f'{same:,}. ResNet-50 takes {deep / 1e9:.2f} billion multiply-adds, ResNet-34 '
        f'{shallow / 1e9:.2f}.',
        large / small,
    )


# --- beside trained claims ---------------------------------------------------------------------


def r2_sizes() -> str:
    depths = (20, 32, 44, 56)
    plain, residual = (
        [parameters(f'{family}{depth}') for depth in depths] for family in ('plain', 'resnet')
    )
    counts = ', '.join(f'{depth}: {count:,}' for depth, count in zip(depths, residual))
    same = 'the same' if plain == residual else 'not the same'
    return (
        f"The paper's plain and residual nets have {same} number of parameters ({counts}). It "
        'trains them for 64,000 steps.'
    )


def r5_sizes() -> str:
    counts = [f'{option} {parameters("resnet20", shortcut=option):,}' for option in 'ABC']
    return f"Parameters of the paper's ResNet-20: {', '.join(counts)}."
