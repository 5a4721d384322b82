"""VGG's column A or D with a global average on Imagenette: ten classes of ImageNet.

    python -m experiments.run --config configs/vgg_imagenette.py        # column A (VGG-11)
    python -m experiments.run --config configs/vgg_imagenette.py:D      # column D (VGG-16)
    python -m experiments.run --config configs/vgg_imagenette.py:D_from_A     # after column A

Expected: not measured here. Time: not measured here.

Imagenette is ten classes of ImageNet, about 9,500 photographs to train on, here with a shorter side
of 160 pixels; its validation split is the test split. Batch norm and the global
average instead of fc6 and fc7 are ours: 120 million weights are too many for so few images.

D_from_A begins with the first four convolutions and the dense layer of column A that was trained
into its usual work directory, as in Sec. 3.1 of the paper (Simonyan & Zisserman 2014). Another one:
--config.train.start=WORKDIR.
"""

from configs import base

ARGUMENTS = ('A', 'D', 'D_from_A')
FROM_A = ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc8')


def get_config(arg='A'):
    config = base.get_config()
    config.title = f'VGG {arg} on Imagenette'
    config.data.name = 'imagenette/160px-v2'
    config.model.name = {'A': 'vgg11', 'D': 'vgg16'}[arg[0]]
    config.model.norm = 'batch'
    if arg == 'D_from_A':
        config.train.start = 'runs/vgg_imagenette-A'
        config.train.start_layers = FROM_A
    config.model.fields = dict(head='average')
    config.data.test = 'validation'
    config.data.whole = True
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
