"""LeNet-5 with scaled tanh, tanh and ReLU, and with a linear output instead of codes.

    python -m experiments.run --config configs/lenet_activation.py:small

The claim under test: the activation of every layer is tanh (LeCun et al. 1998, Sec. II-B, Eq. 5 to
7). In the paper it is 1.7159 tanh(2x/3) up to F6, so that a unit at +-1 is not saturated: F6 has to
reach codes of +-1. The output is the distance to these codes. Here the net of 1998 is trained with
the plain tanh, which never reaches a code, and with ReLU, which cannot reach their -1; and each of
them with a linear output and cross-entropy, which asks for no codes. All have the paper's initial
weights, which suit a tanh and are small for ReLU.

    argument   images    epochs
    small      15,000    4
    full       54,000    20

The two kinds of output have losses of another size, and so learning rates of their own.

The results are in experiments/stored/README.md.
"""

from configs import lenet_c3

ARGUMENTS = ('small', 'full')
LINEAR_RATES = (0.01, 0.03, 0.1)


def get_config(arg='small'):
    config = lenet_c3.get_config(arg)
    config.title = 'Activation and output of LeNet-5 on MNIST'
    config.measure.names = ()
    config.protocol.selection_seeds = (1000, 1001, 1002)
    return config


COMPARISONS = (
    ('scaled_tanh', 'tanh'),
    ('scaled_tanh', 'relu'),
    ('scaled_tanh', 'scaled_tanh, linear output'),
    ('scaled_tanh, linear output', 'tanh, linear output'),
    ('scaled_tanh, linear output', 'relu, linear output'),
)


def sweep(add):
    for head in ('codes', 'linear'):
        for activation in ('scaled_tanh', 'tanh', 'relu'):
            model = dict(activation=activation, fields=dict(head=head))
            linear = head == 'linear'
            label = f'{activation}{", linear output" * linear}'
            rates = LINEAR_RATES if linear else None
            loss = 'cross_entropy' if linear else 'rbf'
            for seed in range(5):
                add(label, model=model, train=dict(loss=loss), rates=rates, seed=seed)
