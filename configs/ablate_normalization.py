"""No normalisation, LRN, batch norm and both, over a grid of learning rates.

    python -m experiments.run --config configs/ablate_normalization.py:small

Two claims under test. LRN makes the net converge faster (the paper says that it aids
generalisation, 1.4 points top-1: Krizhevsky et al. 2012, Sec. 3.3; VGG found no gain: Simonyan &
Zisserman 2014, Table 3). And batch norm has taken its place: it reaches a lower error, bears higher
learning rates, and makes LRN unnecessary (Ioffe & Szegedy 2015, Sec. 4.2.1).

    argument             images    epochs   seeds   pixels
    small                10,000    12       5       0 to 255 minus the mean image
    full                 45,000    60       10      the same
    small_standardised   10,000    12       5       standardised; He's initial weights

The net is cuda-convnet's of four layers (19pct), on CIFAR-10 without augmentation or weight decay,
which are of their own effect. LRN has the constants of cuda-convnet's file 11pct, n = 9 and alpha =
0.001, and follows pool1 and pool2; batch norm comes before each activation. These constants are
made for pixels from 0 to 255: on standardised images LRN divides by 1.01 at most on average, and
does next to nothing. All learning rates of the grid are trained for every arm, and shown. Each arm
then takes the one with the lowest validation error. Speed is the number of steps to a training
error of 40 %: 25 %, as in AlexNet's Fig. 1, was meant first, but on standardised images 'small'
does not get there without batch norm, at any learning rate.

Measured, 5 seeds (experiments/stored/README.md): with 'small' neither LRN nor batch norm is shown
to lower the test error, and the net is about as fast without LRN as with it. With
'small_standardised' batch norm lowers the test error by 7.5 points. The grid of 'small' got 0.03,
its last rate, after most runs, as batch norm was almost alike at 0.003 and 0.01; no arm chose it.
"""

from configs import base

ARGUMENTS = ('small', 'full', 'small_standardised')


def get_config(arg='small'):
    config = base.get_config()
    scale, _, standardised = arg.partition('_')
    config.title = 'Normalisation in a net of four layers on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if scale == 'small' else 0
    config.model.name = 'cuda_convnet_19pct'
    config.train.batch = 128
    config.train.epochs = 12 if scale == 'small' else 60
    config.train.curve = 8
    config.protocol.widen = 2
    if standardised:
        config.model.fields = dict(initialiser='he')
        config.protocol.rates = (0.003, 0.01, 0.03, 0.1, 0.3)
    else:
        config.augment.subtract = 'pixel'
        config.augment.white = 255.0
        config.protocol.rates = (0.0003, 0.001, 0.003, 0.01, 0.03)
    return config


COMPARISONS = (
    ('norm none', 'norm lrn'),
    ('norm lrn', 'norm batch'),
    ('norm none', 'norm batch'),
    ('norm batch', 'norm batch+lrn'),
)


def sweep(add, arg):
    for norm in ('none', 'lrn', 'batch', 'batch+lrn'):
        for seed in range(5 if arg.startswith('small') else 10):
            add(f'norm {norm}', model=dict(norm=norm), seed=seed)
