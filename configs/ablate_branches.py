"""Which branches of its blocks a trained GoogLeNet needs.

    python -m experiments.run --config configs/ablate_branches.py:small

The claim under test: the net chooses by itself how important each size of filter is (the notes; the
paper has it as a motivation, Szegedy et al. 2014, Sec. 2 and 4). After the training each branch of
each block is set to zero in turn, and the error measured; the norm of the gradient by branch too.
One arm: the comparison is between branches, over seeds.

    argument   widths        images                     epochs
    small      an eighth     10,000, scaled to 16x16    10
    full       the paper's   45,000                     60

GoogLeNet for small images on CIFAR-10, with batch norm, with which the narrow net trains. The
results of small are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Branches of GoogLeNet on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if arg == 'small' else 0
    config.data.resize = 16 if arg == 'small' else 0
    config.model.name = 'googlenet_32px'
    config.model.norm = 'batch'
    config.model.fields = dict(shrink=8 if arg == 'small' else 1)
    config.train.batch = 64 if arg == 'small' else 128
    config.train.epochs = 10 if arg == 'small' else 60
    config.protocol.rates = (0.03, 0.1, 0.3)
    config.protocol.widen = 2
    config.measure.names = ('branch_errors', 'branch_gradient_norms')
    config.measure.images = 1000
    return config


def sweep(add):
    for seed in range(5):
        add('GoogLeNet', seed=seed)
