"""S2 and S4 of LeNet-5: trainable subsampling, plain average pooling, max pooling.

    python -m experiments.run --config configs/lenet_subsampling.py:small

The claim under test: S2 is a 2x2 filter of stride 2 (LeCun et al. 1998, Sec. II-B). In the paper
it is the sum of four inputs times a trainable coefficient, plus a bias, squashed. Here the net of
1998 is trained so, and with pools that have no parameters and no activation.

    argument   images    epochs
    small      15,000    4
    full       54,000    20

Everything else is as in lenet_mnist.py:1998: codes as outputs and their loss.

The results are in experiments/stored/README.md.
"""

from configs import lenet_c3

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = lenet_c3.get_config(arg)
    config.title = 'Subsampling in LeNet-5 on MNIST'
    config.measure.names = ()
    return config


COMPARISONS = (('trainable', 'average'), ('trainable', 'max'))


def sweep(add):
    for subsampling in ('trainable', 'average', 'max'):
        for seed in range(12):
            add(subsampling, model=dict(fields=dict(subsampling=subsampling)), seed=seed)
