"""Dropout in fully connected layers, and none.

    python -m experiments.run --config configs/ablate_dropout.py:small
    python -m experiments.run --config configs/ablate_dropout.py:small_vgg

The claims under test: without dropout AlexNet "exhibits substantial overfitting", with it it takes
about twice the steps to converge (Krizhevsky et al. 2012, Sec. 4.2); dropout regularises VGG
(Simonyan & Zisserman 2014, Sec. 3.1). Half of the units of fc6 and fc7 are dropped, as in both
papers. The gap between test and training error is measured without dropout, after the training.

    argument    net                                            images    epochs
    small       AlexNet for 32x32, a quarter of its widths     10,000    15
    small_vgg   VGG-11 with fully connected layers, 16 to 64   10,000    15
                channels
    full        AlexNet for 32x32                              45,000    60
    full_vgg    VGG-11 with fully connected layers             45,000    60

CIFAR-10 without augmentation or weight decay, which work against overfitting too. He's initial
weights. The results of small and small_vgg are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'small_vgg', 'full', 'full_vgg')


def get_config(arg='small'):
    config = base.get_config()
    scale, _, vgg = arg.partition('_')
    small = scale == 'small'
    config.title = f'Dropout in {"VGG-11" if vgg else "AlexNet"} on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if small else 0
    fields = dict(initialiser='he')
    if vgg:
        config.model.name = 'vgg11'
        fields |= dict(fc6_side=1)
        fields |= dict(widths=(16, 32, 64, 64, 64), units=256) if small else dict(units=1024)
    else:
        config.model.name = 'alexnet_32px'
        fields |= dict(widths=(24, 64, 96, 96, 64), units=256) if small else {}
    config.model.fields = fields
    config.train.batch = 64 if small else 128
    config.train.epochs = 15 if small else 60
    config.train.curve = 4
    config.protocol.rates = (0.003, 0.01, 0.03)
    config.protocol.widen = 2
    return config


COMPARISONS = (('dropout 0.5', 'no dropout'),)


def sweep(add):
    for label, dropout in {'no dropout': 0.0, 'dropout 0.5': 0.5}.items():
        for seed in range(5):
            add(label, model=dict(fields=dict(dropout=dropout)), seed=seed)
