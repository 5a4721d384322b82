"""ReLU against tanh: how many epochs a net of four layers needs to 25 % training error.

    python -m experiments.run --config configs/ablate_activation.py:small
    python -m experiments.run --config configs/ablate_activation.py:small_paper

The claim under test: a net with ReLU reaches 25 % training error on CIFAR-10 six times faster than
the same net with tanh (Krizhevsky et al. 2012, Sec. 3.1, Fig. 1). As there: four layers (its
footnote 3 points to cuda-convnet), no regularisation, no augmentation, and each arm's learning rate
is the one that learns fastest. The figure says nothing of test errors; they are measured here too.

    argument      images    batch   epochs   seeds   initialisation
    small         10,000    64      20       5       He et al. 2015
    small_paper   10,000    64      20       5       cuda-convnet's: Gaussian, 0.0001 in conv1, then
                                                     0.01; pixels from 0 to 255 minus the mean image
    full          45,000    128     40       8       as small
    full_paper    45,000    128     40       8       as small_paper

The paper names neither its initialisation nor its learning rates. The one of cuda-convnet is made
for ReLU and for inputs of that size, so both are shown.

Measured with 'small', 5 seeds (experiments/stored/README.md): to 25 % tanh needs 0.98 times as many
steps as ReLU, [0.82, 1.02]; to 10 % only tanh gets. At these learning rates, chosen for speed, ReLU
has a test error 2.0 points lower. With 'small_paper', 5 seeds, only ReLU gets to 25 %; to 40 % tanh
needs 3.30 times as many steps, [3.00, no upper bound].
"""

from configs import base

ARGUMENTS = ('small', 'small_paper', 'full', 'full_paper')


def get_config(arg='small'):
    config = base.get_config()
    scale, _, initialisation = arg.partition('_')
    config.title = 'Activations in a net of four layers on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if scale == 'small' else 0
    config.model.name = 'cuda_convnet_19pct'
    config.train.batch = 64 if scale == 'small' else 128  # as many steps as with 20,000 images
    config.train.epochs = 20 if scale == 'small' else 40
    config.train.schedule = 'constant'
    config.train.curve = 8
    config.protocol.criterion = 'steps_to_error'
    config.protocol.threshold = 0.25
    config.protocol.widen = 2
    config.protocol.rates = (0.01, 0.03, 0.1)
    if initialisation:
        config.augment.subtract = 'pixel'
        config.augment.white = 255.0
        config.train.rate_in_velocity = True
        config.protocol.rates = (0.001, 0.003, 0.01)
    else:
        config.model.fields = dict(initialiser='he')
    return config


COMPARISONS = (('relu', 'tanh'), ('relu', 'scaled_tanh'), ('relu', 'sigmoid'))


def sweep(add, arg):
    for activation in ('relu', 'tanh', 'scaled_tanh', 'sigmoid'):
        for seed in range(5 if arg.startswith('small') else 8):
            add(activation, model=dict(activation=activation), seed=seed)
