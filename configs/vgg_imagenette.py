"""VGG's column A or D with a global average on Imagenette: ten classes of ImageNet.

    python -m experiments.run --config configs/vgg_imagenette.py        # column A (VGG-11)
    python -m experiments.run --config configs/vgg_imagenette.py:D      # column D (VGG-16)

Expected: not measured here. Time: not measured here.

Imagenette is ten classes of ImageNet, about 9,500 photographs to train on, here with a shorter side
of 160 pixels; its validation split is the test split. Batch norm and the global
average instead of fc6 and fc7 are ours: 120 million weights are too many for so few images.
"""

from configs import base

ARGUMENTS = ('A', 'D')


def get_config(arg='A'):
    config = base.get_config()
    config.title = f'VGG {arg} on Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.model.name = {'A': 'vgg11', 'D': 'vgg16'}[arg]
    config.model.norm = 'batch'
    config.model.fields = dict(head='average')
    config.data.test = 'validation'
    config.data.resize = 160
    config.augment.crop = 'area'
    config.augment.size = 128
    config.augment.flip = True
    config.evaluation.views = 'ten'
    config.train.batch = 64
    config.train.epochs = 40
    config.train.rate = 0.02
    config.train.weight_decay = 5e-4
    return config
