"""C3 of LeNet-5 with the links of Table I, and with all links.

    python -m experiments.run --config configs/lenet_c3.py:small

The claim under test: C3 makes 16 maps of 6 (LeCun et al. 1998, Sec. II-B, Table I). In the paper
each of them reads 3, 4 or 6 maps of S2, which keeps the number of links down and "forces a break of
symmetry": different maps get different inputs. It measures neither. Here the net of 1998 is trained
with its 60 links and with all 96; how alike the maps of C3 are is a measure of each run.

    argument   images    epochs   parameters of C3
    small      15,000    4        1,516 with Table I, 2,416 with all links
    full       54,000    20       the same

Everything else is as in lenet_mnist.py:1998: codes as outputs and their loss.

The results are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Links of C3 in LeNet-5 on MNIST'
    config.data.name = 'mnist'
    config.data.limit = 15_000 if arg == 'small' else 0
    config.data.side = 32
    config.model.name = 'lenet5_1998'
    config.train.loss = 'rbf'
    config.train.batch = 64
    config.train.epochs = 4 if arg == 'small' else 20
    config.protocol.rates = (0.001, 0.003, 0.01)
    config.protocol.selection_seeds = (1000, 1001, 1002)
    config.protocol.widen = 2
    config.measure.names = ('channel_correlations',)
    return config


COMPARISONS = (('links of Table I', 'all links'),)


def sweep(add):
    for label, links in {'links of Table I': 'table', 'all links': 'full'}.items():
        for seed in range(12):
            add(label, model=dict(fields=dict(links=links)), seed=seed)
