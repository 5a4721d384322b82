"""A convolutional net against fully connected ones: fewer weights, fewer errors, shifts tolerated.

    python -m experiments.run --config configs/lenet_shift.py:small
    python -m experiments.run --config configs/lenet_shift.py:small_permuted

The claim under test: research on digits began from the limits of fully connected nets, which have
many weights and know nothing of shifts (LeCun et al. 1998, Sec. II; Fig. 9: 4.7 % with 300 hidden
units, 3.05 % with 300 and 100, 0.95 % for LeNet-5). The error of validation images shifted by 0 to
5 pixels is a measure of every run. In 'permuted' all pixels of all images are in one other order:
a fully connected net cannot tell, LeNet-5 loses what it knows of neighbours.

    argument         images    epochs
    small            20,000    6
    small_permuted   20,000    6
    full             54,000    20
    full_permuted    54,000    20

All nets see images padded to 32x32: a shift of 2 pixels cuts no ink off, those of 4 and 5 some. So
LeNet-5, the modern form, has 61,706 parameters, the others 310,510 and 338,610 (238,510 and 266,610
on images of 28x28).

The results are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'small_permuted', 'full', 'full_permuted')


def get_config(arg='small'):
    config = base.get_config()
    scale, _, permuted = arg.partition('_')
    config.title = (
        f'LeNet-5 and fully connected nets on MNIST{", pixels permuted" * bool(permuted)}'
    )
    config.data.name = 'mnist'
    config.data.limit = 20_000 if scale == 'small' else 0
    config.data.side = 32
    config.augment.permute = bool(permuted)
    config.model.activation = 'tanh'
    config.train.batch = 64
    config.train.epochs = 6 if scale == 'small' else 20
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.selection_seeds = (1000, 1001, 1002)
    config.protocol.widen = 2
    config.measure.names = ('shift_errors',)
    config.measure.images = 2000
    return config


COMPARISONS = (('lenet5', 'mlp_300'), ('lenet5', 'mlp_300_100'))


def sweep(add):
    for name in ('lenet5', 'mlp_300', 'mlp_300_100'):
        for seed in range(5):
            add(name, model=dict(name=name), seed=seed)
