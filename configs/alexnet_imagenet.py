"""AlexNet on ImageNet (Krizhevsky et al. 2012), as its paper or as Caffe's copy trains it.

    python -m experiments.run --config configs/alexnet_imagenet.py            # the paper
    python -m experiments.run --config configs/alexnet_imagenet.py:caffe      # Caffe's copy

Expected: not measured here. The paper's single net has 40.7 / 18.2 % top-1 / top-5 error on the
validation split of ILSVRC-2012 with ten crops; Caffe's copy 42.9 / 19.8 % with the centre alone,
after 360,000 of its 450,000 steps. Time: not measured here; the paper's was 5 to 6 days on two GPUs
of 2012.

The paper (Sec. 2, 4, 5): shorter side scaled to 256, centre square, random crop, mirror, PCA
colour, the mean image subtracted from pixels of 0 to 255; batch 128, 90 epochs, learning rate 0.01
divided by 10 when the validation error stalls, three times; learning rate and weight decay inside
the velocity. Caffe: batch 256, a tenth every 100,000 of 450,000 steps, biases with twice the
learning rate and no decay, no colour; biases are initialised with 0.1 instead of 1, fc6 and fc7
with deviation 0.005 instead of 0.01; LRN with k = 1 and alpha / n.

Differences from the paper:
- crops of 227, which give the printed sizes of the feature maps; the paper says 224;
- PCA colour is computed and added on pixels of 0 to 1, with a deviation of 0.1, before they are
  turned into 0 to 255; the paper does not say on which scale;
- the learning rate falls after 5 epochs without a better validation error, of 2 % of the training
  images held out; the paper gives no number;
- 'caffe' sees the centre square too; Caffe's script squeezes the whole image into a square;
- the test split is the validation split of ILSVRC, read once: the real one has no labels.
"""

from configs import base

ARGUMENTS = ('paper', 'caffe')


def get_config(arg='paper'):
    config = base.get_config()
    config.title = f'AlexNet on ImageNet, recipe: {arg}'
    config.data.name = 'imagenet2012'
    config.data.test = 'validation'
    config.data.validation = 0.02
    config.data.resize = 256
    config.model.name = 'alexnet'
    config.augment.crop = 'random'
    config.augment.size = 227
    config.augment.flip = True
    config.augment.colour = 0.1
    config.augment.subtract = 'pixel'
    config.augment.white = 255.0
    config.evaluation.views = 'ten'
    config.train.batch = 128
    config.train.rate = 0.01
    config.train.schedule = 'plateau'
    config.train.plateau = 5
    config.train.drops = 3
    config.train.rate_in_velocity = True
    config.train.weight_decay = 5e-4
    if arg == 'paper':
        config.train.epochs = 90
    else:
        config.model.fields = dict(initialiser='caffe', alpha_over_n=True, lrn_k=1.0)
        config.augment.colour = 0.0
        config.evaluation.views = 'centre'
        config.train.batch = 256
        config.train.steps = 450_000
        config.train.schedule = 'every'
        config.train.unit = 'steps'
        config.train.every = 100_000.0
        config.train.bias_rate = 2.0
        config.train.bias_decay = 0.0
    return config
