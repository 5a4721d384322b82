"""All four axes at once: the full factorial of activation, pool, overlap and norm in LeNet-5.

    python -m experiments.run --config configs/ablate_all.py:small

None of the papers did this. Each changed several things at once, so that the effect of one is known
only beside the others. Here every combination is trained, 3 x 2 x 2 x 3 = 36 arms with 5 paired
seeds: the main effect of an axis is its mean over all settings of the others, an interaction is how
much it depends on one of them.

    argument   data            images    epochs
    small      Fashion-MNIST   20,000    5
    full       Fashion-MNIST   54,000    20

The figure has all main effects and two-way interactions, by least squares with the seed as a block.

Sigmoid and tanh are the activations before ReLU; average and max pooling, with overlap or without;
no norm, LRN and batch norm. Every arm chooses its own learning rate.

Measured with 'small', 5 seeds (experiments/stored/README.md): with tanh and ReLU max pooling has a
test error 0.87 points lower on average [0.46, 1.27] and batch norm 1.10 [0.59, 1.60]. Not resolved
are LRN, overlap, ReLU against tanh and all interactions. Of 20 runs of the sigmoid with LRN, 4
learn nothing.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Four axes of LeNet-5 on Fashion-MNIST'
    config.data.name = 'fashion_mnist'
    config.data.limit = 20_000 if arg == 'small' else 0
    config.data.side = 32
    config.train.batch = 64
    config.train.epochs = 5 if arg == 'small' else 20
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.selection_seeds = (1000, 1001, 1002)
    config.protocol.widen = 2
    return config


def sweep(add):
    for activation in ('tanh', 'relu', 'sigmoid'):
        for pool in ('average', 'max'):
            for overlap in (False, True):
                for norm in ('none', 'lrn', 'batch'):
                    for seed in range(5):
                        windows = 'overlapping' if overlap else 'non-overlapping'
                        axes = dict(activation=activation, pool=pool, overlap=overlap, norm=norm)
                        label = f'{activation}, {windows} {pool} pooling, norm {norm}'
                        add(label, model=axes, seed=seed)
