"""Crops, mirror images and PCA colour, each alone and together, in a net of four layers.

    python -m experiments.run --config configs/ablate_augmentation.py:small

The claim under test: augmentation prevents overfitting (Krizhevsky et al. 2012, Sec. 4.1: without
it "substantial overfitting"; PCA colour lowers the top-1 error by over 1 point). The gap between
test and training error is measured on undistorted images, after the training.

    argument   images    epochs
    small      10,000    20
    full       45,000    100

The net is cuda-convnet's of four layers (19pct), on CIFAR-10: crops of 32 from images with 4 pixels
of zeros around, mirror images, and colour with the paper's standard deviation of 0.1. Measured with
'small': the gap falls from 12.5 points to 4.2 with crops and mirror images; the test error falls
with mirror images alone, by 1.4 points (experiments/stored/README.md).
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Augmentation in a net of four layers on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if arg == 'small' else 0
    config.model.name = 'cuda_convnet_19pct'
    config.model.fields = dict(initialiser='he')
    config.train.batch = 128
    config.train.epochs = 20 if arg == 'small' else 100
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.widen = 2
    return config


COMPARISONS = (
    ('none', 'flip'),
    ('none', 'crop'),
    ('none', 'flip and crop'),
    ('flip and crop', 'flip, crop and colour'),
)


def sweep(add):
    for label, fields in {
        'none': {},
        'flip': dict(flip=True),
        'crop': dict(crop='pad'),
        'flip and crop': dict(flip=True, crop='pad'),
        'flip, crop and colour': dict(flip=True, crop='pad', colour=0.1),
    }.items():
        for seed in range(5):
            add(label, augment=fields, seed=seed)
