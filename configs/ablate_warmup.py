"""The first steps of ResNet-110, with and without a warm-up.

    python -m experiments.run --config configs/ablate_warmup.py:small

The claim under test: at a learning rate of 0.1 ResNet-110 is slow to begin, so it is warmed up at
0.01 until the training error is below 80 %, about 400 steps; without, "it still reaches similar
accuracy" (He et al. 2015, Sec. 4.2, footnote 5). What counts is the number of steps to a training
error of 80 %. Here the warm-up ends with the first epoch whose training error is below 80 %.

    argument   width of conv1   images                    steps
    small      4                5,000, scaled to 16x16    468
    full       16               45,000                    2,000

The recipe of Sec. 4.2: mean image subtracted, mirror images, weight decay 0.0001, learning rate
0.1, which is not tuned and does not fall so soon. Padded crops are of 32x32 alone. The results of
small are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    small = arg == 'small'
    config.title = 'Warm-up of ResNet-110 on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 5_000 if small else 0
    config.data.resize = 16 if small else 0
    config.model.name = 'resnet110'
    config.model.fields = dict(width=4 if small else 16)
    config.augment.crop = 'none' if small else 'pad'
    config.augment.flip = True
    config.augment.subtract = 'pixel'
    config.train.batch = 128
    if small:
        config.train.epochs = 12
    else:
        config.train.steps = 2_000
    config.train.rate = 0.1
    config.train.schedule = 'constant'
    config.train.weight_decay = 1e-4
    config.train.curve = 7 if small else 50
    return config


COMPARISONS = (('warm-up', 'no warm-up'),)


def sweep(add):
    for label, error in {'no warm-up': 0.0, 'warm-up': 0.8}.items():
        for seed in range(5):
            add(label, train=dict(warmup_error=error), seed=seed)
