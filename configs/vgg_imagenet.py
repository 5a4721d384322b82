"""The VGG nets on ImageNet (Simonyan & Zisserman 2014).

    python -m experiments.run --config configs/vgg_imagenet.py                # column D (VGG-16)
    python -m experiments.run --config configs/vgg_imagenet.py:E-jitter       # scales 256 to 512
    python -m experiments.run --config configs/vgg_imagenet.py:A              # and then from it,
    python -m experiments.run --config configs/vgg_imagenet.py:D_from_A       # as in the paper

    argument   top-1 / top-5 error of the paper, one scale, dense (Table 3)
    A          29.6 / 10.4 %
    A-LRN      29.7 / 10.5 %
    B          28.7 / 9.9 %
    C          28.1 / 9.4 %      C-jitter   27.3 / 8.8 %
    D          27.0 / 8.8 %      D-jitter   25.6 / 8.1 %
    E          27.3 / 9.0 %      E-jitter   25.5 / 8.0 %

Expected: not measured here. Time: not measured here; the paper's was 2 to 3 weeks on four GPUs of
2013.

The paper (Sec. 3.1): crops of 224 of an image with shorter side 256, or one drawn from 256 to 512
with 'jitter', mirror, PCA colour, the mean colour subtracted; batch 256, 370,000 steps, learning
rate 0.01 divided by 10 when the validation error stalls, three times; weight decay 0.0005.

Differences from the paper:
- weights are initialised as Glorot & Bengio do, which a footnote of Sec. 3.1 recommends; those of
  B_from_A to E_from_A begin, as the paper's did, with the first four convolutions and the three
  dense layers of the trained column A in runs/vgg_imagenet-A (another one: --config.train.start).
  The four are conv1_1, conv2_1, conv3_1 and conv3_2 in all columns, by their shapes. The layers
  between are Glorot's; the paper's variance of 0.01 explodes in 512 channels;
- the jittered forms are trained like the others, from scratch; the paper fine-tunes them from a net
  trained at a single scale of 384 (Sec. 3.1), which itself began with one of 256;
- PCA colour is computed and added on pixels of 0 to 1, with a deviation of 0.1, before they are
  turned into 0 to 255; the papers do not say on which scale;
- the learning rate falls after 5 epochs without a better validation error, of 2 % of the training
  images held out; the paper gives no number;
- the gradient of a batch is computed in 4 micro-batches, to fit one GPU of 80 GB: the same
  gradient, with other draws of dropout. Lower train.accumulate with more GPUs.
"""

from configs import base

NETS = {
    'D': 'vgg16',
    'A': 'vgg11',
    'A-LRN': 'vgg11_lrn',
    'B': 'vgg13',
    'C': 'vgg16_1x1',
    'E': 'vgg19',
}
FROM_A = ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc6', 'fc7', 'fc8')
ARGUMENTS = (
    'D', 'A', 'A-LRN', 'B', 'C', 'E', 'C-jitter', 'D-jitter', 'E-jitter',
    'B_from_A', 'C_from_A', 'D_from_A', 'E_from_A',
)  # fmt: skip


def get_config(arg='D'):
    column = arg.removesuffix('-jitter').removesuffix('_from_A')
    config = base.get_config()
    config.title = f'VGG {arg} on ImageNet'
    config.data.name = 'imagenet2012'
    config.data.test = 'validation'
    config.data.validation = 0.02
    config.data.whole = True
    config.data.resize = 256
    config.model.name = NETS[column]
    config.augment.crop = 'scale'
    config.augment.scales = (256, 256)
    config.augment.size = 224
    if arg.endswith('_from_A'):
        config.train.start = 'runs/vgg_imagenet-A'
        config.train.start_layers = FROM_A
    if arg.endswith('-jitter'):
        config.data.resize = 384
        config.augment.scales = (256, 512)
    config.augment.flip = True
    config.augment.colour = 0.1
    config.augment.subtract = 'channel'
    config.augment.white = 255.0
    config.evaluation.views = 'dense'
    config.train.batch = 256
    config.train.accumulate = 4
    config.train.steps = 370_000
    config.train.rate = 0.01
    config.train.schedule = 'plateau'
    config.train.plateau = 5
    config.train.drops = 3
    config.train.rate_in_velocity = True
    config.train.weight_decay = 5e-4
    return config
