"""Does a net learn five classes better from the weights of a net trained on five others?

    python -m experiments.run --config configs/five_classes_cifar10.py   # leaves the weights
    python -m experiments.run --config configs/ablate_start.py

The claim under test: features of the first layers are general, so a net that begins with them and
is trained further does better on other classes than one that begins with random weights (Yosinski
et al. 2014, arXiv 1411.1792, Sec. 4). The net is cuda-convnet's of four layers; each arm has 1,000
images of the other five classes of CIFAR-10 to train on, 1,000 to validate and 1,000 to test on,
and draws its last layer.

    arm                            begins with                      trains
    random                         random weights                   all layers
    started                        weights of the first training    all layers
    started, convolutions frozen   weights of the first training    the last layer

One training is started from: the intervals do not cover its seed.
"""

from configs import base, five_classes_cifar10

CLASSES = ('automobile', 'cat', 'dog', 'horse', 'truck')


def get_config():
    config = five_classes_cifar10.get_config()
    config.title = 'Five other classes of CIFAR-10, with and without a start'
    config.data.classes = CLASSES
    config.data.limit = 1_000
    config.train.epochs = 10
    config.train.rate = base.get_config().train.rate  # the grid decides
    config.protocol.rates = (0.003, 0.01, 0.03, 0.1)
    return config


def sweep(add):
    started = dict(start='runs/five_classes_cifar10', new_head=True)
    arms = {
        'random': {},
        'started': started,
        'started, convolutions frozen': started | dict(freeze=('conv1', 'conv2', 'conv3')),
    }
    for label, fields in arms.items():
        for seed in range(3):
            add(label, train=fields, seed=seed)
