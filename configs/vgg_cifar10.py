"""VGG for 32x32 images on CIFAR-10: column A or D with a global average.

    python -m experiments.run --config configs/vgg_cifar10.py        # column A (VGG-11)
    python -m experiments.run --config configs/vgg_cifar10.py:D      # column D (VGG-16)
    python -m experiments.run --config configs/vgg_cifar10.py:D_from_A     # after column A

Expected: not measured here. Time: not measured here.

With batch norm, as public repositories train it (92 to 94 % accuracy for column D): without, 13
convolutions train slowly at first. --config.model.norm=none is the paper's net. The recipe is ours.

D_from_A begins with the first four convolutions and the dense layer of column A that was trained
into its usual work directory, as in Sec. 3.1 of the paper (Simonyan & Zisserman 2014). Another one:
--config.train.start=WORKDIR.
"""

from configs import base

ARGUMENTS = ('A', 'D', 'D_from_A')
FROM_A = ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc8')


def get_config(arg='A'):
    config = base.get_config()
    config.title = f'VGG {arg} (32 pixels) on CIFAR-10'
    config.data.name = 'cifar10'
    config.model.name = {'A': 'vgg11_32px', 'D': 'vgg16_32px'}[arg[0]]
    config.model.norm = 'batch'
    if arg == 'D_from_A':
        config.train.start = 'runs/vgg_cifar10-A'
        config.train.start_layers = FROM_A
    config.augment.crop = 'pad'
    config.augment.flip = True
    config.train.batch = 128
    config.train.epochs = 60
    config.train.rate = 0.05
    config.train.weight_decay = 5e-4
    return config
