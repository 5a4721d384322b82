"""How far the gradient gets in deep nets at the start: activation, initial weights, batch norm.

    python -m experiments.run --config configs/gradient_flow.py:small

Two claims under test. ReLU solves the vanishing gradient, because sigmoid multiplies it by at most
1/4 in every layer (the notes on VGG; not in the paper): that is one of two factors of a layer, its
weights are the other. And the degradation of deep plain nets is not one of vanishing gradients,
since batch norm keeps their norms healthy (He et al. 2015, Sec. 4.1).

Nothing is trained: each run takes one step. The norm of the gradient of every layer is a measure,
read before this step, on CIFAR-10.

    nets      fully connected, 5 and 30 hidden layers of 128 units: sigmoid, tanh and ReLU; weights
              of standard deviation 0.01 (AlexNet's), Glorot's, He's; with and without batch norm.
              Plain and residual nets of 56 layers, with and without it.

    argument  width of the nets of 56 layers   images measured   training images
    small     8                                100               1,000
    full      16                               500               5,000

Measured with 'small', 3 seeds (experiments/stored/README.md): with standard deviation 0.01 the
gradients of ReLU's weights are near 1e-32 in all of 30 layers, with He's between 0.8 and 40.
ResNet-56 without batch norm has no finite loss after one step.
"""

from configs import base

ARGUMENTS = ('small', 'full')
DEPTHS = (5, 30)  # hidden layers
INITIALISERS = ('gaussian_0.01', 'glorot', 'he')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Gradients at the start of a training'
    config.data.name = 'cifar10'
    config.data.limit = 1_000 if arg == 'small' else 5_000
    config.model.name = 'mlp_300'
    config.train.steps = 1
    config.train.rate = 0.001
    config.train.schedule = 'constant'
    config.measure.names = ('gradient_norms',)
    config.measure.epochs = (0,)
    config.measure.images = 100 if arg == 'small' else 500
    return config


def sweep(add, arg):
    for depth in DEPTHS:
        for activation in ('sigmoid', 'tanh', 'relu'):
            for initialiser in INITIALISERS:
                for norm in ('none', 'batch'):
                    fields = dict(hidden=(128,) * depth, initialiser=initialiser)
                    model = dict(activation=activation, norm=norm, fields=fields)
                    label = f'{depth} layers, {activation}, {initialiser}, norm {norm}'
                    for seed in range(3):
                        add(label, model=model, seed=seed)
    for net in ('plain56', 'resnet56'):
        for norm in ('none', 'batch'):
            fields = dict(width=8 if arg == 'small' else 16)
            for seed in range(3):
                add(
                    f'{net}, norm {norm}', model=dict(name=net, norm=norm, fields=fields), seed=seed
                )
