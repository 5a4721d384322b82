"""VGG of 11, 16 and 19 layers, with batch norm and without.

    python -m experiments.run --config configs/ablate_vgg_depth.py:small

The claim under test: depth helps, from column A (11 layers, 29.6 % top-1) over D (16, 27.0 %) to E
(19, 27.3 %) at one scale (Simonyan & Zisserman 2014, Table 3). The paper began the deep columns
with layers of a trained A. Here all begin with He's weights; batch norm came after VGG, and lets
the deep ones train at higher rates.

    argument   widths of the five blocks   images    epochs
    small      16, 32, 64, 64, 64          10,000    10
    full       64, 128, 256, 512, 512      45,000    60

VGG for 32x32 with a global average, on CIFAR-10 without augmentation: the layers are 9, 14 and 17
with it, since two fully connected ones are left out. The results of small are in
experiments/stored/README.md.
"""

from configs import ablate_kernel, base

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = base.get_config()
    config.title = 'Depth of VGG on CIFAR-10'
    config.data.name = 'cifar10'
    config.data.limit = 10_000 if arg == 'small' else 0
    config.model.name = 'vgg11_32px'
    config.model.fields = dict(initialiser='he', widths=ablate_kernel.WIDTHS[arg])
    config.train.batch = 64 if arg == 'small' else 128
    config.train.epochs = 10 if arg == 'small' else 60
    config.protocol.rates = (0.01, 0.03, 0.1)
    config.protocol.widen = 2
    return config


COMPARISONS = (
    ('VGG-19, batch norm', 'VGG-11, batch norm'),
    ('VGG-16, batch norm', 'VGG-11, batch norm'),
    ('VGG-19, no norm', 'VGG-11, no norm'),
)


def sweep(add):
    for norm, depths in {'batch': (11, 16, 19), 'none': (11, 19)}.items():
        for depth in depths:
            column = {11: 'A', 16: 'D', 19: 'E'}[depth]
            label = f'VGG-{depth}, {"batch norm" if norm == "batch" else "no norm"}'
            for seed in range(5):
                add(label, model=dict(norm=norm, fields=dict(column=column)), seed=seed)
