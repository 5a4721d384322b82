"""GoogLeNet as published, 224x224 with its auxiliary losses, on Imagenette.

    python -m experiments.run --config configs/googlenet_imagenette.py

Expected: not measured here. Time: not measured here.

Imagenette is ten classes of ImageNet, about 9,500 photographs to train on, here with a shorter side
of 160 pixels enlarged to 256; its validation split is the test split. Batch norm is
ours; --config.model.norm=lrn is the paper's net.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = 'GoogLeNet on Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.model.name = 'googlenet'
    config.model.norm = 'batch'
    config.data.test = 'validation'
    config.data.whole = True
    config.data.resize = 256
    config.augment.crop = 'area'
    config.augment.size = 224
    config.augment.flip = True
    config.evaluation.views = 'ten'
    config.train.batch = 64
    config.train.epochs = 40
    config.train.rate = 0.02
    config.train.weight_decay = 2e-4
    return config
