"""Shortcuts A, B and C of ResNet-20, and none.

    python -m experiments.run --config configs/ablate_shortcut.py:small

The claim under test: all three kinds of shortcut are much better than none, and differ little.
With 34 layers on ImageNet, top-1: 28.54 % without, 25.03, 24.52 and 24.19 % with A, B and C (He et
al. 2015, Sec. 4.1, Tables 2 and 3). A pads with zero channels, B projects where the shape changes,
C projects everywhere.

    argument   width of conv1   images                     epochs
    small      8                15,000, scaled to 16x16    16
    full       16               45,000                     46

The recipe is that of ablate_depth.py. The results of small are in experiments/stored/README.md.
"""

from configs import ablate_depth

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = ablate_depth.get_config(arg)
    config.title = 'Shortcuts of ResNet-20 on CIFAR-10'
    config.model.name = 'resnet20'
    return config


COMPARISONS = (
    ('shortcut none', 'shortcut A'),
    ('shortcut A', 'shortcut B'),
    ('shortcut B', 'shortcut C'),
    ('shortcut A', 'shortcut C'),
)


def sweep(add):
    for shortcut in ('none', 'A', 'B', 'C'):
        for seed in range(5):
            add(f'shortcut {shortcut}', model=dict(fields=dict(shortcut=shortcut)), seed=seed)
