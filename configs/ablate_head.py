"""GoogLeNet with a global average before its classifier, and with a fully connected layer.

    python -m experiments.run --config configs/ablate_head.py:small

The claim under test: average pooling replaces the fully connected layers, which lowers the top-1
error by 0.6 points (Szegedy et al. 2014, Sec. 5). The fully connected layer has 1024 units (divided
as all widths are) on the last maps, 8x8 or 4x4, and no batch norm, which all convolutions have;
dropout follows in both arms, as in the paper.

The net, the images and the epochs are those of ablate_branches.py. The results of small are in
experiments/stored/README.md.
"""

from configs import ablate_branches

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = ablate_branches.get_config(arg)
    config.title = 'Head of GoogLeNet on CIFAR-10'
    config.measure.names = ()
    config.measure.images = 500
    return config


COMPARISONS = (('global average', 'fully connected'),)


def sweep(add):
    for label, head in {'global average': 'average', 'fully connected': 'dense'}.items():
        for seed in range(5):
            add(label, model=dict(fields=dict(head=head)), seed=seed)
