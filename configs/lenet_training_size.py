"""LeNet-5's error falls with the number of training images, and with distorted ones.

    python -m experiments.run --config configs/lenet_training_size.py:small

The claim under test: LeNet-5 reaches 0.95 % on MNIST; with 15,000 and 30,000 training images its
error is higher, with distorted images lower, 0.8 % (LeCun et al. 1998, Sec. III-B, Fig. 5 and 6,
where the errors with 15,000 and 30,000 images are drawn and not printed). Of the images that the
paper trained on, a tenth is held out here: 54,000 are left.

    argument   epochs   distortions: shift, scale, squeeze and shear, drawn anew
    small      5        three arms of six
    full       20       three arms of six

The net is the modern form of LeNet-5. Every arm sees its images equally often, so fewer images are
fewer steps, as in the paper.

The results are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Training images of LeNet-5 on MNIST'
    config.data.name = 'mnist'
    config.data.side = 32
    config.train.batch = 64
    config.train.epochs = 5 if arg == 'small' else 20
    config.train.weight_decay = 5e-4
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.selection_seeds = (1000, 1001, 1002)
    config.protocol.widen = 2
    return config


COMPARISONS = (
    ('54,000 images', '15,000 images'),
    ('54,000 images', '30,000 images'),
    ('30,000 images', '15,000 images'),
    ('54,000 images, distorted', '54,000 images'),
)


def sweep(add):
    for images in (15_000, 30_000, 0):
        for affine in (False, True):
            label = f'{images or 54_000:,} images{", distorted" * affine}'
            for seed in range(5):
                add(label, data=dict(limit=images), augment=dict(affine=affine), seed=seed)
