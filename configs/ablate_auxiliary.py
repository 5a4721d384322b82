"""GoogLeNet with and without its auxiliary classifiers.

    python -m experiments.run --config configs/ablate_auxiliary.py:small

The claim under test: two classifiers on blocks 4a and 4d, whose losses count 0.3 each, help to
train the net (Szegedy et al. 2014, Sec. 5; the paper has no table of it). Their maps are averaged
to 4x4 in the paper and on images of 32x32, to 2x2 on those of 16x16.

The net, the images and the epochs are those of ablate_branches.py. The results of small are in
experiments/stored/README.md.
"""

from configs import ablate_branches

ARGUMENTS = ('small', 'full')


def get_config(arg='small'):
    config = ablate_branches.get_config(arg)
    config.title = 'Auxiliary classifiers of GoogLeNet on CIFAR-10'
    config.measure.names = ()
    config.measure.images = 500
    return config


COMPARISONS = (('auxiliary classifiers', 'no auxiliary classifiers'),)


def sweep(add):
    for label, aux in {'no auxiliary classifiers': False, 'auxiliary classifiers': True}.items():
        for seed in range(5):
            add(label, model=dict(fields=dict(aux=aux)), seed=seed)
