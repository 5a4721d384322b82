"""A net of four layers on five classes of CIFAR-10, whose weights configs/ablate_start.py takes.

    python -m experiments.run --config configs/five_classes_cifar10.py

Expected: not measured here. Time: not measured here.

The net is cuda-convnet's of four layers (its 19pct) with He's initialisation; the recipe is ours.
"""

from configs import base

CLASSES = ('airplane', 'bird', 'deer', 'frog', 'ship')


def get_config():
    config = base.get_config()
    config.title = 'Five classes of CIFAR-10'
    config.data.name = 'cifar10'
    config.data.classes = CLASSES
    config.data.validation = 0.04
    config.model.name = 'cuda_convnet_19pct'
    config.model.fields = dict(initialiser='he')
    config.augment.flip = True
    config.train.batch = 64
    config.train.epochs = 6
    config.train.rate = 0.02
    config.train.weight_decay = 5e-4
    return config
