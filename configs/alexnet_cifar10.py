"""AlexNet for 32x32 images on CIFAR-10: five convolutions, LRN, overlapping pools, dropout.

    python -m experiments.run --config configs/alexnet_cifar10.py

Expected: not measured here. Time: not measured here.

The paper's net with a first convolution of 5x5 at stride 1 and 1024 units in fc6 and fc7. Weights
are initialised as He et al. do: the paper's deviation of 0.01 is for pixels of 0 to 255. The recipe
(padding, crop, mirror, a cosine over 60 epochs) is ours, for comparisons of nets and axes.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = 'AlexNet (32 pixels) on CIFAR-10'
    config.data.name = 'cifar10'
    config.model.name = 'alexnet_32px'
    config.model.fields = dict(initialiser='he')
    config.augment.crop = 'pad'
    config.augment.flip = True
    config.train.batch = 128
    config.train.epochs = 60
    config.train.rate = 0.02
    config.train.weight_decay = 5e-4
    config.train.rate_in_velocity = True
    return config
