"""How strong the responses of plain and residual layers are.

    python -m experiments.run --config configs/responses.py:small

The claim under test: responses of residual layers are smaller than those of plain ones, and the
deeper the residual net, the less each of its layers changes the signal. Drawn is the standard
deviation of the responses of each 3x3 layer, behind batch norm and before the activation, of
plain-20, plain-56, ResNet-20, ResNet-56 and ResNet-110 (He et al. 2015, Sec. 4.2, Fig. 7). Here it
is a measure of each run, after the last epoch. ablate_depth.py has it too, of all nets but
ResNet-110.

    argument   width of conv1   images                     epochs
    small      8                15,000, scaled to 16x16    16
    full       16               45,000                     46

The recipe is that of ablate_depth.py, without the paper's warm-up of ResNet-110. Its results are
not measured here.
"""

from configs import ablate_depth

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = ablate_depth.get_config(arg)
    config.title = 'Responses of plain and residual nets on CIFAR-10'
    config.measure.names = ('response_deviations',)
    config.measure.epochs = ()
    return config


COMPARISONS = (
    ('plain-20', 'resnet-20'),
    ('plain-56', 'resnet-56'),
    ('resnet-20', 'resnet-56'),
    ('resnet-56', 'resnet-110'),
)


def sweep(add):
    for net in ('plain-20', 'plain-56', 'resnet-20', 'resnet-56', 'resnet-110'):
        for seed in range(5):
            add(net, model=dict(name=net.replace('-', '')), seed=seed)
