"""GoogLeNet on ImageNet (Szegedy et al. 2014), after its paper or as Caffe's quick copy.

    python -m experiments.run --config configs/googlenet_imagenet.py          # the paper
    python -m experiments.run --config configs/googlenet_imagenet.py:quick    # Caffe's quick copy

Expected: not measured here. The paper's single net has 10.07 % top-5 error with one crop, 9.15 %
with 10 and 7.89 % with 144 (Table 3); Caffe's quick copy 31.3 / 11.1 % top-1 / top-5 with the
centre alone. Time: not measured here.

The paper (Sec. 6, 7): momentum 0.9, the learning rate 4 % lower every 8 epochs, averaged weights in
the test; crops of 8 to 100 % of the area, random interpolation, Howard's photometric distortions;
144 crops in the test. It gives no first learning rate, batch, length or decay: 0.01, 32, 250 epochs
and 0.0002 are those of Caffe's copy. 'quick' is Caffe's quick solver: 2.4 million steps, the
learning rate falls with the square root of what is left, biases with twice that and no decay,
crops of 224 of 256, LRN with k = 1 and alpha / n.

Differences from the paper:
- its average is 'Polyak averaging' without a number; here an exponential one with decay 0.9999;
- random interpolation, which the paper began late, from the first step on; the ranges of the
  photometric distortions are Howard's (factors of 0.5 to 1.5 in random order, then AlexNet's PCA
  colour), since the paper gives only his name;
- weights are initialised as in Caffe's copy ("xavier"), whose readme names it as a difference;
- 2 % of the training images are held out to validate on;
- 'quick' sees the centre square; Caffe's script squeezes the whole image into a square;
- synchronous instead of asynchronous steps.
"""

from configs import base

ARGUMENTS = ('paper', 'quick')


def get_config(arg='paper'):
    config = base.get_config()
    config.title = f'GoogLeNet on ImageNet, recipe: {arg}'
    config.data.name = 'imagenet2012'
    config.data.test = 'validation'
    config.data.validation = 0.02
    config.data.whole = True
    config.data.resize = 256
    config.model.name = 'googlenet'
    config.augment.crop = 'area'
    config.augment.size = 224
    config.augment.interpolation = 'random'
    config.augment.photometric = True
    config.augment.flip = True
    config.augment.colour = 0.1
    config.augment.subtract = 'channel'
    config.augment.white = 255.0
    config.evaluation.views = '144'
    config.train.batch = 32
    config.train.rate = 0.01
    config.train.rate_in_velocity = True
    config.train.weight_decay = 2e-4
    config.train.ema = 0.9999
    if arg == 'paper':
        config.train.epochs = 250
        config.train.schedule = 'every'
        config.train.every = 8.0
        config.train.factors = (0.96,)
    else:
        config.model.fields = dict(alpha_over_n=True, lrn_k=1.0)
        config.data.whole = False
        config.augment.crop = 'random'
        config.augment.interpolation = 'bilinear'
        config.augment.photometric = False
        config.augment.colour = 0.0
        config.evaluation.views = 'centre'
        config.train.steps = 2_400_000
        config.train.schedule = 'polynomial'
        config.train.power = 0.5
        config.train.bias_rate = 2.0
        config.train.bias_decay = 0.0
        config.train.ema = 0.0
    return config
