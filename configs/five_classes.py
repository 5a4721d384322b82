"""A net trained on five of ten classes, whose weights configs/ablate_start.py takes.

    python -m experiments.run --config configs/five_classes.py:imagenette
    python -m experiments.run --config configs/five_classes.py:cifar10

    argument     net                                          images        epochs
    imagenette   ResNet-20 with 8 channels in conv1, crops    about 4,300   15
                 of 64x64 from whole photographs
    cifar10      cuda-convnet's of four layers (its 19pct)    24,000        6

The initial weights are He's, and the recipe is ours. Measured with 'imagenette', one seed: a
test error of 16.3 % (experiments/stored/README.md); 'cifar10' was not measured.
"""

from configs import base

ARGUMENTS = ('imagenette', 'cifar10')
CLASSES = {
    # tench, cassette player, church, garbage truck, golf ball
    'imagenette': ('n01440764', 'n02979186', 'n03028079', 'n03417042', 'n03445777'),
    'cifar10': ('airplane', 'bird', 'deer', 'frog', 'ship'),
}


def get_config(arg='imagenette'):
    config = base.get_config()
    config.data.classes = CLASSES[arg]
    config.augment.flip = True
    if arg == 'cifar10':
        config.title = 'Five classes of CIFAR-10'
        config.data.name = 'cifar10'
        config.data.validation = 0.04
        config.model.name = 'cuda_convnet_19pct'
        config.model.fields = dict(initialiser='he')
        config.train.batch = 64
        config.train.epochs = 6
        config.train.rate = 0.02
        config.train.weight_decay = 5e-4
        return config
    config.title = 'Five classes of Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.data.test = 'validation'
    config.data.resize = 72
    config.data.whole = True
    config.augment.crop = 'area'
    config.augment.size = 64
    config.model.name = 'resnet20'
    config.model.fields = dict(width=8)
    config.train.batch = 32
    config.train.epochs = 15
    config.train.rate = 0.1
    config.train.weight_decay = 1e-4
    return config
