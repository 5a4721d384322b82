"""ResNets and plain nets of 20 to 110 layers on CIFAR-10 (He et al. 2015, Sec. 4.2).

    python -m experiments.run --config configs/resnet_cifar10.py:20
    python -m experiments.run --config configs/resnet_cifar10.py:plain56

A tenth of the length: --config.train.steps=6400 --config.train.milestones=3200,4800.

    argument   test error of the paper (Table 6)
    20         8.75 %
    32         7.51 %
    44         7.17 %
    56         6.97 %
    110        6.43 % (five runs: 6.61 +- 0.16)
    plain...   not tabulated; Fig. 6 shows them higher the deeper they are

Expected: not measured here. Time: not measured here.

The paper: the mean image subtracted, 4 pixels of padding, random crop of 32, mirror; batch 128,
learning rate 0.1, divided by 10 after 32,000 and after 48,000 of 64,000 steps; weight decay 0.0001;
45,000 images to train and 5,000 to validate on. 110 has a learning rate of 0.01 until the training
error is below 80 %, which is judged at the end of an epoch here (351 steps; the paper: about 400).
The paper does not say whether the learning rate is inside the velocity; here it is outside.
"""

from configs import base

ARGUMENTS = ('20', '32', '44', '56', '110', 'plain20', 'plain32', 'plain44', 'plain56', 'plain110')


def get_config(arg='20'):
    config = base.get_config()
    plain = arg.startswith('plain')
    config.title = f'{arg if plain else f"ResNet-{arg}"} on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.validation = 0.1
    config.model.name = arg if plain else f'resnet{arg}'
    config.augment.crop = 'pad'
    config.augment.pad = 4
    config.augment.flip = True
    config.augment.subtract = 'pixel'
    config.train.batch = 128
    config.train.steps = 64_000
    config.train.rate = 0.1
    config.train.schedule = 'milestones'
    config.train.unit = 'steps'
    config.train.milestones = (32_000, 48_000)
    config.train.weight_decay = 1e-4
    if arg.endswith('110'):
        config.train.warmup_error = 0.8
    return config
