"""ResNets and plain nets of the ImageNet form on Imagenette, crops of 128x128.

    python -m experiments.run --config configs/resnet_imagenette.py              # ResNet-18
    python -m experiments.run --config configs/resnet_imagenette.py:resnet34     # ResNet-34

Expected: the whole recipe is not measured here. Two epochs of resnet18 at 64 pixels, one seed
(`--config.data.whole=false --config.train.epochs=2 --config.train.warmup=0.2
--config.augment.size=64 --config.evaluation.views=centre`), are in experiments/stored/README.md,
generated from the stored row.

Imagenette is ten classes of ImageNet, about 9,500 photographs to train on, here with a shorter side
of 160 pixels; its validation split is the test split. The recipe is ours.
"""

from configs import base

ARGUMENTS = ('resnet18', 'resnet34', 'resnet50', 'plain18', 'plain34')


def get_config(arg='resnet18'):
    config = base.get_config()
    config.title = f'{arg} on Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.model.name = arg
    config.data.test = 'validation'
    config.data.whole = True
    config.data.resize = 160
    config.augment.crop = 'area'
    config.augment.size = 128
    config.augment.flip = True
    config.evaluation.views = 'ten'
    config.train.batch = 64
    config.train.epochs = 40
    config.train.rate = 0.05
    config.train.warmup = 1.0
    config.train.weight_decay = 1e-4
    return config
