"""Plain nets get worse with depth, residual nets better.

    python -m experiments.run --config configs/ablate_depth.py:small

The claim under test: on CIFAR-10 a plain net of 56 layers has a higher training error than one of
20; with shortcuts the deeper net has the lower error (He et al. 2015, Sec. 1 and 4.2, Fig. 1 and 6,
Table 6: 8.75 % with 20 layers, 7.51 % with 32, 6.97 % with 56).

    argument   width of conv1   images                     epochs
    small      8                15,000, scaled to 16x16    16
    full       16               45,000                     46

The recipe of Sec. 4.2 at another length: mean image subtracted, padded crops (4 pixels on 32x32, 2
on 16x16), mirror images, batch 128, learning rate 0.1 that falls to a tenth after one half and
after three quarters, weight decay 0.0001. 'full' is a quarter of the paper's 64,000 steps. As in
the paper, no learning rate is tuned. The standard deviation of every layer's responses (Fig. 7) and
the norm of its gradient are measures of each run.

Measured with 'small', 5 seeds, 1,872 steps (experiments/stored/README.md): the training error of
plain-56 is 31 points above that of plain-20. ResNet-56 is 28 points better than plain-56 and 7
worse than ResNet-20: the opposite of the paper, after a 34th of its steps.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    small = arg == 'small'
    config.title = 'Depth of plain and residual nets on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 15_000 if small else 0
    config.data.resize = 16 if small else 0
    config.model.name = 'plain20'
    config.model.fields = dict(width=8 if small else 16)
    config.augment.crop = 'pad'
    config.augment.pad = 2 if small else 4
    config.augment.flip = True
    config.augment.subtract = 'pixel'
    config.train.batch = 128
    config.train.epochs = 16 if small else 46
    config.train.rate = 0.1
    config.train.schedule = 'milestones'
    config.train.milestones = (8, 12) if small else (23, 34)
    config.train.weight_decay = 1e-4
    config.train.curve = 4
    config.measure.names = ('response_deviations', 'gradient_norms')
    config.measure.epochs = (0, config.train.epochs)
    return config


COMPARISONS = (
    ('plain-20', 'plain-56'),
    ('resnet-20', 'resnet-56'),
    ('plain-56', 'resnet-56'),
    ('plain-20', 'resnet-20'),
)


def sweep(add):
    for family in ('plain', 'resnet'):
        for depth in (20, 32, 56):
            for seed in range(5):
                add(f'{family}-{depth}', model=dict(name=f'{family}{depth}'), seed=seed)
