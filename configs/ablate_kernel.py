"""Pairs of 3x3 convolutions against one of 5x5, with and without the ReLU between them.

    python -m experiments.run --config configs/ablate_kernel.py:small

Two claims under test. Small filters are better: a pair of 3x3 has the receptive field of a 5x5,
and a net with 5x5 in their place had a top-1 error 7 points higher (Simonyan & Zisserman 2014, Sec.
2.3 and 4.1). And a stack has more non-linearity, which lowers the error: column C, with 1x1
convolutions added to B, 28.1 % against 28.7 %, and D, with 3x3 in their place, 27.0 % (Table 3).

    arm                     kernels of a block
    3x3 pairs               3 3, column B
    5x5                     5, of the same width: 25 weights for 18
    5x5, equal parameters   5, of 0.9 times the width
    3x3 pairs, linear       3 3 without a ReLU between them: one linear map, as a 5x5 is
    column C                3 3 and in the last three blocks 1
    column D                3 3 and in the last three blocks 3

    argument   widths of the five blocks   images    epochs
    small      16, 32, 64, 64, 64          10,000    8
    full       64, 128, 256, 512, 512      45,000    40

VGG for 32x32 with a global average, on CIFAR-10 without augmentation; He's initial weights, no
norm, as in the paper.
"""

from configs import base

ARGUMENTS = ('small', 'full')
WIDTHS = {'small': (16, 32, 64, 64, 64), 'full': (64, 128, 256, 512, 512)}
# 18 of 25 weights, and the first convolution: within 1 % of the parameters of the pairs
NARROW = {'small': (14, 29, 58, 58, 58), 'full': (57, 115, 230, 460, 460)}


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Kernels of VGG on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if arg == 'small' else 0
    config.model.name = 'vgg11_32px'
    config.model.fields = dict(initialiser='he', widths=WIDTHS[arg])
    config.train.batch = 64 if arg == 'small' else 128
    config.train.epochs = 8 if arg == 'small' else 40
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.widen = 2
    return config


COMPARISONS = (
    ('3x3 pairs', '5x5'),
    ('3x3 pairs', '5x5, equal parameters'),
    ('3x3 pairs', '3x3 pairs, linear'),
    ('column C', '3x3 pairs'),
    ('column D', 'column C'),
)


def sweep(add, arg):
    for label, fields in {
        '3x3 pairs': dict(column='B'),
        '5x5': dict(column='B', stack='one'),
        '5x5, equal parameters': dict(column='B', stack='one', widths=NARROW[arg]),
        '3x3 pairs, linear': dict(column='B', stack='linear'),
        'column C': dict(column='C'),
        'column D': dict(column='D'),
    }.items():
        for seed in range(5):
            add(label, model=dict(fields=fields), seed=seed)
