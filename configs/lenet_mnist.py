"""LeNet-5 on MNIST (LeCun et al. 1998, Sec. III): three seeds at a rate chosen on validation.

    python -m experiments.run --config configs/lenet_mnist.py           the modern form
    python -m experiments.run --config configs/lenet_mnist.py:1998      the original

The paper reports 0.95 % test error for the original after 20 passes of stochastic diagonal
Levenberg-Marquardt at batch 1; here both forms are trained with momentum SGD. Measured test
errors and times stand in README, generated from the stored rows.
"""

from configs import base

ARGUMENTS = ('modern', '1998')


def get_config(arg='modern'):
    config = base.get_config()
    config.title = f'LeNet-5 ({arg}) on MNIST'
    config.data.name = 'mnist'
    config.data.side = 32  # the paper's 28x28 digits with a 2-pixel border
    config.train.epochs = 10
    config.train.batch = 64
    config.train.weight_decay = 5e-4
    config.protocol.rates = (0.03, 0.1)
    if arg == '1998':
        config.model.name = 'lenet5_1998'
        config.train.loss = 'rbf'
        config.train.epochs = 5
        config.train.weight_decay = 0.0
        config.protocol.rates = (0.001, 0.003)
    return config


def sweep(add):
    for seed in range(3):
        add('LeNet-5', seed=seed)
