"""Average or max pooling, overlapping or not: one net, four arms, paired seeds.

    python -m experiments.run --config configs/ablate_pooling.py
    python -m experiments.run --config configs/ablate_pooling.py:fashion_mnist
    python -m experiments.run --config configs/ablate_pooling.py:small

The claim under test: overlapping pooling lowers the error (Krizhevsky et al. 2012, Sec. 3.4:
0.4 points top-1, 0.3 top-5 on ILSVRC-2010, against 2x2 pooling with the same output size), and
max pooling is better than LeNet's average pooling. Without an argument the data are scikit-learn's
handwritten digits; the other data sets are read from a prepared TFDS data_dir.

'small' and 'full' take a net nearer to AlexNet, cuda-convnet's of four layers (its 19pct, all three
pools alike), on 10,000 or all 45,000 training images of CIFAR-10. The learning rate rises over the
first epoch, so that pools are not compared by which of them survives a high rate at the start.

Measured with 'small', 5 seeds (experiments/stored/README.md): max pooling has a test error 2.2
points higher than average pooling, [+1.6, +2.9] over both settings of overlap, and overlap changes
it by -0.4, [-1.0, +0.3]. In LeNet-5 on Fashion-MNIST max pooling is the better one.
"""

from configs import base

ARGUMENTS = ('digits', 'mnist', 'fashion_mnist', 'cifar10', 'small', 'full')


def get_config(arg='digits'):
    config = base.get_config()
    if arg in ('small', 'full'):
        return _four_layers(config, arg)
    config.title = f'Pooling in LeNet-5 on {arg}'
    config.data.name = arg
    config.data.side = 32  # LeNet-5's input; CIFAR-10 and the enlarged digits are 32x32 already
    config.train.batch = 64
    config.train.epochs = 6
    config.protocol.rates = (0.01, 0.03, 0.1)
    if arg == 'digits':
        config.train.epochs = 12
        config.protocol.rates = (0.03, 0.1, 0.3)
        config.data.validation = (
            0.2  # of 1,437 images: a tenth is too few to choose a learning rate
        )
    return config


def _four_layers(config, scale):
    config.title = 'Pooling in a net of four layers on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if scale == 'small' else 0
    config.model.name = 'cuda_convnet_19pct'
    config.model.fields = dict(initialiser='he')
    config.train.weight_decay = 5e-4  # AlexNet's
    config.train.epochs = 12 if scale == 'small' else 40
    config.train.warmup = 1.0
    config.train.curve = 4
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.widen = 2
    return config


# The two claims, and what overlap does to the pooling of LeNet's kind
COMPARISONS = (
    ('non-overlapping max pooling', 'overlapping max pooling'),
    ('overlapping average pooling', 'overlapping max pooling'),
    ('non-overlapping average pooling', 'non-overlapping max pooling'),
    ('non-overlapping average pooling', 'overlapping average pooling'),
)


def sweep(add):
    for pool in ('average', 'max'):
        for overlap in (False, True):
            for seed in range(5):
                add(
                    f'{"overlapping" if overlap else "non-overlapping"} {pool} pooling',
                    model=dict(pool=pool, overlap=overlap),
                    seed=seed,
                )
