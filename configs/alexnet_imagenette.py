"""AlexNet as published, 227x227, on Imagenette: ten classes of ImageNet.

    python -m experiments.run --config configs/alexnet_imagenette.py

Expected: not measured here. Time: not measured here.

Imagenette is ten classes of ImageNet, about 9,500 photographs to train on, here with a shorter side
of 160 pixels enlarged to 256; its validation split is the test split. Crops,
mirror, colour and ten crops are the paper's. Weights are initialised as He et al. do: the paper's
deviation of 0.01 is for pixels of 0 to 255 and 90 epochs of a million images.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = 'AlexNet on Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.model.name = 'alexnet'
    config.model.fields = dict(initialiser='he')
    config.data.test = 'validation'
    config.data.resize = 256
    config.augment.crop = 'random'
    config.augment.size = 227
    config.augment.flip = True
    config.evaluation.views = 'ten'
    config.train.batch = 64
    config.train.epochs = 40
    config.augment.colour = 0.1
    config.train.rate = 0.01
    config.train.weight_decay = 5e-4
    config.train.rate_in_velocity = True
    return config
