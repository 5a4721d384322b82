"""Every field of an experiment, named once, with its unit. Other configs change what differs.

Only what a person chooses is stored. What follows from it (steps, warm-up steps, the images of
each split) is computed by the code that needs it, after all overrides.

Every config file takes its own arguments and 'smoke', alone or after another one, which tries the
whole recipe in seconds (see `smoke`):

    python -m experiments.run --config configs/resnet_cifar10.py:smoke
    python -m experiments.run --config configs/resnet_cifar10.py:56,smoke
"""

import ml_collections
from ml_collections.config_dict import placeholder

# Schedules of the learning rate, as factors of its highest value; t is the fraction of steps done.
SCHEDULES = {
    'constant': '1',
    'cosine': '(1 + cos(pi t)) / 2, down to 0',
    'polynomial': '(1 - t) ^ power, down to 0',
    'milestones': 'falls at the given times',
    'every': 'falls at equal distances',
    'plateau': 'falls when the validation error stalls',
}
CROPS = ('none', 'pad', 'random', 'scale', 'area')
OF_WHOLE = ('scale', 'area')  # those that data.whole lets see all of an image
INTERPOLATIONS = ('bilinear', 'random')
SUBTRACT = ('channel', 'channel_std', 'pixel')
VIEWS = ('centre', 'ten', 'dense', 'multiscale', '144', '150')


def get_data() -> ml_collections.ConfigDict:
    """The group `data`: images, read and split by experiments/data. Needs no JAX."""
    data = ml_collections.ConfigDict()
    data.name = 'digits'  # 'digits', or any TFDS name: 'mnist', 'imagenette/160px-v2', ...
    data.dir = placeholder(str)  # TFDS data_dir; None: $TFDS_DATA_DIR, or TFDS's own default
    data.train = 'train'  # name of the split that is divided into train and validation
    data.test = 'test'  # name of the split read once, at the end
    data.validation = 0.1  # fraction of the train split held out: its last images
    data.limit = 0  # images used of every split, the first ones; 0: all
    data.classes = ()  # names of those that are used, labelled in this order; (): all
    data.side = 0  # pixels; smaller images get a border of zeros up to this; 0: as they are
    data.resize = 0  # pixels; shorter side scaled to this, then the centre square; 0: off
    data.whole = False  # crops of 'scale' and 'area', and test views, of all of each image
    data.channels = 0  # 1 (grey) or 3 (colour) that images are turned into; 0: as they are
    data.stream = 'auto'  # decode while training: 'auto' (if too large), 'always', 'never'
    data.workers = 0  # processes that decode a streamed set; 0: the training process itself
    data.cache = placeholder(str)  # folder of decoded sets; None: user's; 'read': unchanged; 'off'
    data.allow_copies = False  # train on a folder that has an image in two splits
    data.skip_broken = False  # leave out records that do not decode, and count them
    return data.lock()


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked base config: modern LeNet-5 on the embedded digits."""
    from cnns import axes  # brings JAX, which the commands of data sets do without

    config = ml_collections.ConfigDict()

    config.title = placeholder(str)  # heading of table, figure and report; None: what is compared

    config.data = get_data()

    # The net: cnns.build(name, **axes). None keeps the paper's own choice.
    config.model = ml_collections.ConfigDict()
    config.model.name = 'lenet5'  # one of cnns.names()
    for axis, values in axes.AXES.items():  # activation, pool, overlap, norm: cnns/axes.py
        config.model[axis] = placeholder(type(next(iter(values))))
    config.model.dtype = 'float32'  # of the computation: 'float32', 'bfloat16'; parameters: float32
    config.model.fields = ml_collections.ConfigDict()  # other fields of the net: dict(shortcut='B')

    # What the net sees of a training image, drawn again every time: experiments/preprocess.
    config.augment = ml_collections.ConfigDict()
    config.augment.crop = 'none'  # 'none', 'pad' (ResNet), 'random' (AlexNet), 'scale', 'area'
    config.augment.size = 0  # pixels, height and width that the net sees; 0: all of the image
    config.augment.pad = 4  # pixels of zeros on every edge before a crop of 'pad'
    config.augment.scales = (256, 512)  # pixels, range of the shorter side of 'scale'
    config.augment.interpolation = 'bilinear'  # of 'area'; 'random': one of four (GoogLeNet)
    config.augment.photometric = False  # random brightness, contrast and colour (Howard 2013)
    config.augment.flip = False  # mirror every second image, at random
    config.augment.colour = 0.0  # standard deviation of PCA colour's alpha (AlexNet: 0.1); 0: off
    config.augment.affine = False  # random shift, scale, squeeze and shear (LeNet-5 1998)
    config.augment.subtract = 'channel_std'  # mean of 'channel' or 'pixel'; '_std': then divide
    config.augment.permute = False  # all pixels in another order, in training and test alike
    config.augment.white = 1.0  # value of a white pixel, black being 0: 1, or 255 (AlexNet, Caffe)

    # The views of a test image, whose softmax is averaged: experiments/preprocess/views.py. Of the
    # train and validation splits the net sees the centre alone, at the scale of the training.
    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.views = 'centre'  # 'centre', 'ten', 'dense', 'multiscale', '144', '150'
    config.evaluation.scales = ()  # pixels, shorter sides of the test images; (): the papers'

    # The training: experiments/train.
    config.train = ml_collections.ConfigDict()
    config.train.loss = 'cross_entropy'  # 'cross_entropy', or 'rbf' (LeNet-5 1998, Eq. 9)
    config.train.label_smoothing = 0.0  # probability spread evenly over all classes; 0: off
    config.train.batch = 128  # images a step, over all devices together
    config.train.accumulate = 1  # micro-batches that a batch is computed in, to save memory
    config.train.epochs = 10  # passes over the train split; the last partial batch is left out
    config.train.steps = 0  # length in steps instead, the last epoch cut short; 0: `epochs`

    # What the training begins with: experiments/train/start.py.
    config.train.start = placeholder(str)  # weights: a file, a work directory, a run; None: drawn
    config.train.start_layers = ()  # those alone are taken, and must fit; (): all that fit
    config.train.new_head = False  # draw the layer of the classes anew, even where it fits
    config.train.freeze = ()  # layers that stay as they are: ('conv1', 'conv2_1'), 'conv2' for all

    # The learning rate is `rate` times the factors of the schedule and of the warm-up.
    config.train.rate = 0.05  # learning rate at its highest
    config.train.schedule = 'cosine'  # one of SCHEDULES
    config.train.unit = 'epochs'  # of `milestones`, `every` and `warmup`: 'epochs' or 'steps'
    config.train.milestones = ()  # units after which the learning rate falls, for 'milestones'
    config.train.every = 8.0  # units between two falls, for 'every' (GoogLeNet: 8 epochs)
    config.train.plateau = 5  # epochs without a lower validation error before a fall of 'plateau'
    config.train.drops = 3  # falls of 'plateau' at most
    config.train.power = 0.5  # of what is left of the training, for 'polynomial'
    config.train.factors = (0.1,)  # of a fall: one for all, or one for each of `milestones`
    config.train.warmup = 0.0  # units of linear rise from 0 to `rate`
    config.train.warmup_error = 0.0  # 0.1 `rate` until an epoch's error is below this; 0: off

    # The update: w moves along a velocity, which the gradient changes; or as optax has it.
    config.train.rule = 'momentum'  # 'momentum' (heavy ball), 'nesterov', or optax's: 'adamw', ...
    config.train.momentum = 0.9  # fraction of the velocity that stays at every step
    config.train.rate_in_velocity = False  # learning rate inside (AlexNet, Caffe) or outside
    config.train.optimiser_fields = ml_collections.ConfigDict()  # of optax's rules: dict(b1=0.95)
    config.train.weight_decay = 0.0  # L2 added to the gradient, biases and norms included;
    # optax's rules with a decay of their own use that: adamw's and lion's is not in the gradient
    config.train.layer_decay = ml_collections.ConfigDict()  # of single layers: dict(fc10=1.0)
    config.train.bias_rate = 1.0  # of biases, as a factor of the learning rate (Caffe: 2)
    config.train.bias_decay = 1.0  # of biases, as a factor of weight_decay (Caffe: 0)
    config.train.clip = 0.0  # largest norm of the gradient of all parameters together; 0: off
    config.train.ema = 0.0  # decay a step of the averaged parameters that are evaluated; 0: off
    config.train.curve = 0  # points of the training curve inside each epoch; 0: none
    config.train.devices = 0  # local devices that share each batch, or `together`; 0: all
    config.train.together = 1  # runs of an arm trained at once, each whole on one device

    config.train.steps_per_dispatch = 1  # steps that the device does in one call, for short ones
    config.train.watch = ()  # told of each epoch: 'tensorboard', 'wandb' (offline); extras
    config.train.profile = 0  # steps, or dispatches, that are profiled, of the first run; 0: none

    # What is read off the nets of final runs beside losses and errors: experiments/measures.py.
    config.measure = ml_collections.ConfigDict()
    config.measure.names = ()  # of experiments.measures.MEASURES: ('gradient_norms', ...)
    config.measure.epochs = ()  # after which they are read, 0: before training; (): after the last
    config.measure.images = 500  # images of the validation split, the first ones

    # The protocol: experiments/plan/runs.py. An empty grid trains every run at train.rate.
    config.protocol = ml_collections.ConfigDict()
    config.protocol.rates = ()  # learning rates tried for each arm, judged on validation error
    config.protocol.selection_seeds = (1000,)  # seeds of those trials, apart from the final ones
    config.protocol.widen = 0  # learning rates added while the lowest or the highest of them wins
    config.protocol.criterion = 'validation_error'  # or 'steps_to_error', of the training error
    config.protocol.threshold = 0.25  # training error, a fraction, that 'steps_to_error' waits for
    config.protocol.level = 0.95  # of the intervals over seeds

    config.seed = 0  # of initialisation and data order

    return config.lock()


# Height and channels of the sets that `smoke` replaces; of the others, data.resize and 3.
_SIZES = {'digits': (32, 1), 'mnist': (28, 1), 'fashion_mnist': (28, 1), 'cifar10': (32, 3)}


def smoke(config) -> None:
    """Makes a config run in seconds on a CPU, in place: two steps on a few synthetic images.

    The nets of ImageNet take a minute or two, most of it to compile.

    The net, the augmentation, the update and the schedule stay; the accuracy means nothing.
    """
    side, channels = _SIZES.get(config.data.name, (config.data.resize or 256, 3))
    if config.title:
        config.title = f'{config.title} (smoke test on synthetic images)'
    config.data.name = f'synthetic:10x{side}x{channels}'
    config.data.train, config.data.test = 'train', 'test'
    config.data.validation = 0.2
    config.data.limit = 0
    config.data.classes = ()
    config.train.batch = 4
    config.train.accumulate = min(config.train.accumulate, 2)
    config.train.devices = 1
    config.train.epochs = 1
    config.train.steps = 2
    config.train.warmup = 0.0
    if config.evaluation.views in ('144', '150'):
        config.evaluation.views = 'ten'
    config.protocol.rates = ()
    config.protocol.widen = 0
    config.protocol.criterion = 'validation_error'
    config.train.start, config.train.start_layers, config.train.new_head = None, (), False
