"""Blocks of GoogLeNet with and without their 1x1 reductions.

    python -m experiments.run --config configs/ablate_bottleneck.py:small

The claim under test: 1x1 convolutions before the 3x3 and 5x5 ones reduce the cost and keep the
information (Szegedy et al. 2014, Sec. 4, Fig. 2a and b). The cost is arithmetic; here the error is
measured of both kinds of block. Without reductions the pool's branch passes all of its channels on,
so that the maps grow from block to block.

The net, the images and the epochs are those of ablate_branches.py.
"""

from configs import ablate_branches

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = ablate_branches.get_config(arg)
    config.title = '1x1 reductions of GoogLeNet on CIFAR-10'
    config.measure.names = ()
    config.measure.images = 500
    return config


COMPARISONS = (('naive', 'reduced'),)


def sweep(add):
    for block in ('reduced', 'naive'):
        for seed in range(5):
            add(block, model=dict(fields=dict(block=block)), seed=seed)
