"""ResNets and plain nets on ImageNet (He et al. 2015).

    python -m experiments.run --config configs/resnet_imagenet.py:34
    python -m experiments.run --config configs/resnet_imagenet.py:plain34

    argument   top-1 error of the paper, ten crops (Tables 2 and 3)
    plain18    27.94 %     18    27.88 %
    plain34    28.54 %     34A   25.03 %    34    24.52 %    34C   24.19 %
                           50    22.85 %    101   21.75 %    152   21.43 %

Expected: not measured here. Time: not measured here.

The paper (Sec. 3.4): shorter side drawn from 256 to 480, crop of 224, mirror, PCA colour, the mean
image subtracted; batch 256, learning rate 0.1 divided by 10 when the error stalls, 600,000 steps at
most, weight decay 0.0001. 18 has option A in its Table 2 and B here, as 34 and the deeper ones.

Differences from the paper:
- the mean image is that of the centre squares, scaled to the crop;
- the learning rate falls after 5 epochs without a better validation error, of 2 % of the training
  images held out, three times at most; the paper gives no number;
- the ten crops are those of a shorter side of 256.
"""

from configs import base

ARGUMENTS = ('18', '34', '34A', '34C', '50', '101', '152', 'plain18', 'plain34')


def get_config(arg='18'):
    config = base.get_config()
    plain = arg.startswith('plain')
    name = arg if plain else f'resnet{arg.rstrip("AC")}'
    config.title = f'{arg if plain else f"ResNet-{arg}"} on ImageNet'
    config.data.name = 'imagenet2012'
    config.data.test = 'validation'
    config.data.validation = 0.02
    config.data.whole = True
    config.data.resize = 368
    config.model.name = name
    if arg[-1] in 'AC':
        config.model.fields = dict(shortcut=arg[-1])
    config.augment.crop = 'scale'
    config.augment.scales = (256, 480)
    config.augment.size = 224
    config.augment.flip = True
    config.augment.colour = 0.1
    config.augment.subtract = 'pixel'
    config.evaluation.views = 'ten'
    config.evaluation.scales = (256,)
    config.train.batch = 256
    config.train.steps = 600_000
    config.train.rate = 0.1
    config.train.schedule = 'plateau'
    config.train.plateau = 5
    config.train.drops = 3
    config.train.weight_decay = 1e-4
    return config
