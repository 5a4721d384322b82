"""GoogLeNet for 32x32 images on CIFAR-10: nine inception blocks after one convolution.

    python -m experiments.run --config configs/googlenet_cifar10.py

Expected: not measured here. Time: not measured here.

With batch norm, as public repositories train it (about 95 % accuracy). --config.model.norm=lrn is
nearer to the paper's net, at a lower learning rate. The recipe is ours.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = 'GoogLeNet (32 pixels) on CIFAR-10'
    config.data.name = 'cifar10'
    config.model.name = 'googlenet_32px'
    config.model.norm = 'batch'
    config.augment.crop = 'pad'
    config.augment.flip = True
    config.train.batch = 128
    config.train.epochs = 60
    config.train.rate = 0.05
    config.train.weight_decay = 5e-4
    return config
