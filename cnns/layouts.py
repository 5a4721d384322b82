"""How others save the weights of these nets: the names of the layers, theirs and ours.

To add a layout, write a function that yields its layers in their order, and name it in LAYOUTS.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

SIZES = ('classes', 'channels')  # fields that the weights themselves tell


class Layer(NamedTuple):
    """One layer in both vocabularies."""

    ours: str  # 'inception_3a/3x3'
    theirs: str  # prefix of the convolution or matrix
    norm: str | None = None  # prefix of the batch norm
    map_shape: tuple[int, int, int] | None = None  # channels, height, width that a matrix reads
    # Our channel j is their channel reads[j] of the maps it reads, writes[j] of those it writes
    reads: tuple[int, ...] | None = None
    writes: tuple[int, ...] | None = None
    head: bool = False  # its outputs are the classes
    optional: bool = False  # not in every file


class Layout(NamedTuple):
    """One net as others save it."""

    net: str  # a name of cnns.NETS
    fields: dict[str, Any]  # those that make it compute the same
    layers: Callable[[], Iterator[Layer]]
    variants: tuple[dict[str, Any], ...] = ()  # other fields under which such files are found
    by_order: bool = False  # its shapes say which tensor is which: names are free
    unsaid: tuple[str, ...] = ()  # fields that weights do not tell and papers do not settle


def _alexnet():
    for i, place in enumerate((0, 3, 6, 8, 10), start=1):
        yield Layer(f'conv{i}', f'features.{place}')
    yield Layer('fc6', 'classifier.1', map_shape=(256, 6, 6))
    yield Layer('fc7', 'classifier.4')
    yield Layer('fc8', 'classifier.6', head=True)


def _vgg(blocks, batch_norm):
    place = 0  # in one list of convolutions, batch norms, activations and pools
    for i, count in enumerate(blocks, start=1):
        for j in range(1, count + 1):
            norm = f'features.{place + 1}' if batch_norm else None
            yield Layer(f'conv{i}_{j}', f'features.{place}', norm)
            place += 3 if batch_norm else 2
        place += 1
    yield Layer('fc6', 'classifier.0', map_shape=(512, 7, 7))
    yield Layer('fc7', 'classifier.3')
    yield Layer('fc8', 'classifier.6', head=True)


def _googlenet():
    def conv(ours, theirs):
        return Layer(ours, f'{theirs}.conv', f'{theirs}.bn')

    for ours, theirs in (('conv1', 'conv1'), ('conv2_reduce', 'conv2'), ('conv2', 'conv3')):
        yield conv(ours, theirs)
    here = ('1x1', '3x3_reduce', '3x3', '5x5_reduce', '5x5', 'pool_proj')
    there = ('branch1', 'branch2.0', 'branch2.1', 'branch3.0', 'branch3.1', 'branch4.1')
    for block in ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b'):
        for ours, theirs in zip(here, there, strict=True):
            yield conv(f'inception_{block}/{ours}', f'inception{block}.{theirs}')
    for ours, theirs in (('aux_4a', 'aux1'), ('aux_4d', 'aux2')):
        yield conv(f'{ours}/conv', f'{theirs}.conv')._replace(optional=True)
        yield Layer(f'{ours}/fc1', f'{theirs}.fc1', map_shape=(128, 4, 4), optional=True)
        yield Layer(f'{ours}/fc2', f'{theirs}.fc2', head=True, optional=True)
    yield Layer('fc', 'fc', head=True)


def _resnet(blocks, convs):
    yield Layer('conv1', 'conv1', 'bn1')
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            ours, theirs = f'conv{stage + 1}_{block + 1}', f'layer{stage}.{block}'
            for i in range(1, convs + 1):
                yield Layer(f'{ours}/conv{i}', f'{theirs}.conv{i}', f'{theirs}.bn{i}')
            if block == 0 and (stage > 1 or convs == 3):  # where the width changes
                yield Layer(f'{ours}/shortcut', f'{theirs}.downsample.0', f'{theirs}.downsample.1')
    yield Layer('fc', 'fc', head=True)


def _orders(width):
    """Which of their channels each of ours is, in the three stages; None: all stay.

    Their option A pads a quarter of the new channels on each side, ours pads all at the end. So the
    channels that come from the stage before are first, and those that begin as zeros follow.
    """
    order: list[tuple[int, ...] | None] = [None]
    carried = list(range(width))
    for _ in range(2):
        new = 2 * len(carried)
        kept = [new // 4 + channel for channel in carried]
        carried = [*kept, *(channel for channel in range(new) if channel not in kept)]
        order.append(tuple(carried))
    return order


def _cifar_resnet(blocks):
    order = _orders(16)
    yield Layer('conv1', 'conv1', 'bn1')
    before = None
    for stage, here in enumerate(order, start=1):
        for block in range(blocks):
            ours, theirs = f'conv{stage + 1}_{block + 1}', f'layer{stage}.{block}'
            yield Layer(f'{ours}/conv1', f'{theirs}.conv1', f'{theirs}.bn1', reads=before)
            yield Layer(f'{ours}/conv2', f'{theirs}.conv2', f'{theirs}.bn2', writes=here)
            if block == 0 and stage > 1:  # option B
                shortcut = f'{theirs}.shortcut'
                norm = f'{shortcut}.1'
                yield Layer(
                    f'{ours}/shortcut', f'{shortcut}.0', norm, None, before, here, optional=True
                )
            before = here
    yield Layer('fc', 'linear', reads=before, head=True)


def _lenet5():
    yield Layer('C1', 'conv1')
    yield Layer('C3', 'conv2')
    yield Layer('C5', 'fc1', map_shape=(16, 5, 5))
    yield Layer('F6', 'fc2')
    yield Layer('OUT', 'fc3', head=True)


# --- the nets of torchvision, by its names -----------------------------------------------------

_ALEXNET = dict(norm='none', conv1_padding=2, dropout_on='inputs', adaptive=True)
# torchvision has 3x3 where the paper has 5x5
_GOOGLENET = dict(norm='batch', epsilon=1e-3, third_kernel=3, last_overlap=False)
TORCHVISION: dict[str, Layout] = {
    'alexnet': Layout('alexnet_one_tower', _ALEXNET, _alexnet),
    'googlenet': Layout('googlenet', _GOOGLENET, _googlenet, (dict(third_kernel=5),)),
}
_VGGS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
for _name, _convs in ((f'vgg{depth}', convs) for depth, convs in _VGGS.items()):
    _head = dict(head='adaptive')
    _normed = dict(norm='batch', bias=True, **_head)
    TORCHVISION[_name] = Layout(_name, _head, functools.partial(_vgg, _convs, False))
    TORCHVISION[f'{_name}_bn'] = Layout(_name, _normed, functools.partial(_vgg, _convs, True))
for _name, _blocks, _kernels in (
    ('resnet18', (2, 2, 2, 2), 2),
    ('resnet34', (3, 4, 6, 3), 2),
    ('resnet50', (3, 4, 6, 3), 3),
    ('resnet101', (3, 4, 23, 3), 3),
    ('resnet152', (3, 8, 36, 3), 3),
):
    _fields = dict(stride_on='3x3') if _kernels == 3 else {}
    TORCHVISION[_name] = Layout(_name, _fields, functools.partial(_resnet, _blocks, _kernels))

# --- others ------------------------------------------------------------------------------------

LAYOUTS: dict[str, Layout] = {
    **TORCHVISION,
    # conv1, conv2, fc1 to fc3, as PyTorch's tutorial and most programs after it
    'lenet5': Layout('lenet5', {}, _lenet5, by_order=True, unsaid=('activation', 'pool')),
}
# The layout of github.com/akamaster/pytorch_resnet_cifar10
for _name, _count in (
    ('resnet20', 3),
    ('resnet32', 5),
    ('resnet44', 7),
    ('resnet56', 9),
    ('resnet110', 18),
    ('resnet1202', 200),
):
    _option_b = (dict(shortcut='B'),)
    LAYOUTS[_name] = Layout(_name, {}, functools.partial(_cifar_resnet, _count), _option_b)
