"""Every field of an experiment, named once, with its unit. Other configs change what differs.

Only what a person chooses is stored. What follows from it (steps, warm-up steps, the images of
each split) is computed by the code that needs it, after all overrides.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
    """Returns the locked base config: modern LeNet-5 on the embedded digits."""
    config = ml_collections.ConfigDict()

    config.title = 'LeNet-5 on the embedded digits'  # heading of the table, figure and report

    # The data: read and split by experiments/data.py.
    config.data = ml_collections.ConfigDict()
    config.data.name = 'digits'  # 'digits', or any TFDS name: 'mnist', 'imagenette/160px-v2', ...
    config.data.dir = placeholder(str)  # TFDS data_dir; None: $TFDS_DATA_DIR, or TFDS's own default
    config.data.train = 'train'  # name of the split that is divided into train and validation
    config.data.test = 'test'  # name of the split read once, at the end
    config.data.validation = 0.1  # fraction of the train split held out: its last images
    config.data.limit = 0  # images used of the train part, the first ones; 0: all
    config.data.side = 0  # pixels; smaller images get a border of zeros up to this; 0: as they are

    # The net: cnns.build(name, **axes). None keeps the paper's own choice.
    config.model = ml_collections.ConfigDict()
    config.model.name = 'lenet5'  # one of cnns.names()
    config.model.activation = placeholder(str)  # 'tanh', 'relu', 'sigmoid', 'scaled_tanh'
    config.model.pool = placeholder(str)  # 'average', 'max'
    config.model.overlap = placeholder(bool)  # pooling window = stride + 1 (True) or stride (False)
    config.model.norm = placeholder(str)  # 'none', 'lrn', 'batch'
    config.model.dtype = 'float32'  # of the computation: 'float32', 'bfloat16'; parameters: float32

    # The training: experiments/train.py.
    config.train = ml_collections.ConfigDict()
    config.train.loss = 'cross_entropy'  # 'cross_entropy', or 'rbf' (LeNet-5 1998, Eq. 9)
    config.train.batch = 128  # images a step, over all devices together
    config.train.epochs = 10  # passes over the train part; the last partial batch is left out
    config.train.rate = 0.05  # learning rate at its highest
    config.train.schedule = 'cosine'  # 'constant', or 'cosine' down to 0 at the last step
    config.train.warmup = 0.0  # epochs of linear rise from 0 to `rate`
    config.train.momentum = 0.9  # of heavy-ball SGD, the learning rate outside the velocity
    config.train.weight_decay = 0.0  # L2 added to the gradient, biases and norms included
    config.train.devices = 0  # local devices that share each batch; 0: all

    # The protocol: experiments/sweep.py. An empty grid trains every point at train.rate.
    config.protocol = ml_collections.ConfigDict()
    config.protocol.rates = ()  # learning rates tried for each arm, judged on validation error
    config.protocol.selection_seeds = (1000,)  # seeds of those trials, apart from the final ones
    config.protocol.level = 0.95  # of the intervals over seeds

    config.seed = 0  # of initialisation and data order

    return config.lock()
