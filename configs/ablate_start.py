"""Does a net learn five classes better from the weights of a net trained on five others?

    python -m experiments.run --config configs/five_classes.py:imagenette   # leaves the weights
    python -m experiments.run --config configs/ablate_start.py:imagenette

The claim under test: features of the first layers are general, so a net that begins with them and
is trained further does better on other classes than one that begins with random weights (Yosinski
et al. 2014, arXiv 1411.1792, Sec. 4). Nets and data are those of configs/five_classes.py; each arm
has 1,000 images of the other five classes to train on, at most 1,000 to test on, and draws its last
layer.

    arm                            begins with                      trains
    random                         random weights                   all layers
    started                        weights of the first training    all layers
    started, convolutions frozen   weights of the first training    the last layer

One training is started from: the intervals do not cover its seed. Measured with 'imagenette', 3
seeds: 35.7, 28.7 and 40.4 % test error in this order (experiments/stored/README.md).
"""

from configs import base, five_classes

ARGUMENTS = five_classes.ARGUMENTS
CLASSES = {
    # English springer, chain saw, French horn, gas pump, parachute
    'imagenette': ('n02102040', 'n03000684', 'n03394916', 'n03425413', 'n03888257'),
    'cifar10': ('automobile', 'cat', 'dog', 'horse', 'truck'),
}
FROZEN = {
    'imagenette': ('conv1', 'conv2', 'conv3', 'conv4'),
    'cifar10': ('conv1', 'conv2', 'conv3'),
}


def get_config(arg='imagenette'):
    config = five_classes.get_config(arg)
    config.title = config.title.replace('Five', 'Five other') + ', with and without a start'
    config.data.classes = CLASSES[arg]
    config.data.limit = 1_000
    config.train.epochs = 10
    config.train.rate = base.get_config().train.rate  # the grid decides
    config.protocol.rates = (0.003, 0.01, 0.03, 0.1)
    config.protocol.widen = 2
    return config


COMPARISONS = (('random', 'started'), ('random', 'started, convolutions frozen'))


def sweep(add, arg):
    started = dict(start=f'runs/five_classes-{arg}', new_head=True)
    arms = {
        'random': {},
        'started': started,
        'started, convolutions frozen': started | dict(freeze=FROZEN[arg]),
    }
    for label, fields in arms.items():
        for seed in range(3):
            add(label, train=fields, seed=seed)
