"""Batch norm trains a net of sigmoids faster, and keeps what its activations see steady.

    python -m experiments.run --config configs/batchnorm_mnist.py:full

The claim under test: a net with batch norm reaches a higher accuracy, sooner, and the distribution
of the inputs of a typical sigmoid moves less while it trains (Ioffe & Szegedy 2015, Sec. 4.1,
Fig. 1 a to c). The net is the paper's: 28x28 binary digits in the paper, here MNIST's grey ones,
three hidden layers of 100 sigmoids, 50,000 steps of 60 images. The paper gives no learning rate;
each arm chooses its own.

    argument   steps
    small      9,000
    full       50,000

The results are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')
PER_EPOCH = 54_000 // 60


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Batch norm in a net of sigmoids on MNIST'
    config.data.name = 'mnist'
    config.model.name = 'mlp_batchnorm'
    config.train.batch = 60
    config.train.epochs = 10
    config.train.steps = 0 if arg == 'small' else 50_000
    config.train.schedule = 'constant'
    config.train.curve = 10
    config.protocol.rates = (0.01, 0.03, 0.1, 0.3, 1.0)
    config.protocol.selection_seeds = (1000, 1001, 1002)
    config.protocol.widen = 2
    config.measure.names = ('response_percentiles', 'response_deviations')
    config.measure.epochs = tuple(range(11 if arg == 'small' else 56))
    return config


COMPARISONS = (('norm none', 'norm batch'),)


def sweep(add):
    for norm in ('none', 'batch'):
        for seed in range(5):
            add(f'norm {norm}', model=dict(norm=norm), seed=seed)
