"""Two columns of AlexNet against one: at equal width, at equal parameters, at half the width.

    python -m experiments.run --config configs/ablate_groups.py:small

The claim under test: two columns that read each other's maps in few layers lower the top-1 error by
1.7 points and the top-5 error by 1.2, against one column of half the width; the filters of the two
become different, one set for colour and one without, in every run (Krizhevsky et al. 2012, Sec.
3.2, 3.5 and 6.1, Fig. 3). The filters of conv1 and their colour are measures of every run.

    arm                              groups   widths (small)
    two columns                      2        24, 64, 96, 96, 64
    one column, equal width          1        24, 64, 96, 96, 64
    one column, equal parameters     1        18, 49, 73, 73, 64
    one column, half the width       1        12, 32, 48, 48, 64, the last as wide as in the paper's

    argument   widths         images    epochs
    small      a quarter      10,000    10
    full       the paper's    45,000    60

AlexNet for 32x32 on CIFAR-10, with its LRN and dropout; He's initial weights. The results of small
are in experiments/stored/README.md.
"""

from configs import base

ARGUMENTS = ('small', 'full')
ARMS = {
    'two columns': dict(groups=2),
    'one column, equal width': dict(groups=1),
    'one column, equal parameters': dict(groups=1),
    'one column, half the width': dict(groups=1),
}
WIDTHS = {
    'small': (
        (24, 64, 96, 96, 64),
        (24, 64, 96, 96, 64),
        (18, 49, 73, 73, 64),
        (12, 32, 48, 48, 64),
    ),
    'full': (
        (96, 256, 384, 384, 256),
        (96, 256, 384, 384, 256),
        (75, 200, 300, 300, 256),
        (48, 128, 192, 192, 256),
    ),
}


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Columns of AlexNet on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if arg == 'small' else 0
    config.model.name = 'alexnet_32px'
    config.model.fields = dict(initialiser='he')
    if arg == 'small':
        config.model.fields.units = 256
    config.train.batch = 64 if arg == 'small' else 128
    config.train.epochs = 10 if arg == 'small' else 60
    config.protocol.rates = (0.003, 0.01, 0.03)
    config.protocol.widen = 2
    config.measure.names = ('colour_index', 'first_filters')
    return config


COMPARISONS = tuple(('two columns', label) for label in list(ARMS)[1:])


def sweep(add, arg):
    for (label, fields), widths in zip(ARMS.items(), WIDTHS[arg], strict=True):
        for seed in range(5):
            add(label, model=dict(fields=dict(widths=widths, **fields)), seed=seed)
