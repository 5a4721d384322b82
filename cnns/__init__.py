"""The CNNs that made the field, as pure Flax modules.

    net = cnns.build('lenet5', activation='relu', pool='max')
    variables = net.init(key, images, train=False)
    logits = net.apply(variables, images, train=False)

To add a net, write its file and name it in NETS. Weights of PyTorch's nets: cnns.convert.
"""

import dataclasses
import importlib.metadata
from typing import Any, NamedTuple

from cnns import axes, convert, fast, layers, weights
from cnns.alexnet import ONE_TOWER, AlexNet
from cnns.cuda_convnet import CudaConvNet, LocalCudaConvNet
from cnns.googlenet import GoogLeNet
from cnns.lenet import LeNet5, LeNet5Original
from cnns.mlp import MLP
from cnns.resnet import CifarResNet, ResNet
from cnns.vgg import VGG

# fmt: off
__all__ = [
    'NETS', 'axes', 'axes_of', 'build', 'convert', 'fast', 'layers', 'names', 'values', 'weights',
]
# fmt: on

try:
    __version__ = importlib.metadata.version('cnns')
except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = '0+unknown'


class Entry(NamedTuple):
    """A named net: its class, the fields that differ from the class's defaults, and its paper."""

    net: type[layers.Net]
    fields: dict[str, Any]
    input: tuple[int, int, int]  # height, width, channels
    paper: str
    year: int
    printed: str = ''  # number of parameters as the paper prints it


_MNIST28, _MNIST32, _CIFAR = (28, 28, 1), (32, 32, 1), (32, 32, 3)
_CROP24, _IMAGENET, _IMAGENET227 = (24, 24, 3), (224, 224, 3), (227, 227, 3)
_LECUN = ('LeCun et al. 1998', 1998)
_IOFFE = ('Ioffe & Szegedy 2015', 2015)
_CUDA = ('Krizhevsky, cuda-convnet', 2011)
_ALEX = ('Krizhevsky et al. 2012', 2012)
_AFTER_ALEX = ('after Krizhevsky et al. 2012', 2012)  # for 32x32
_WEIRD = ('Krizhevsky 2014', 2014)
_VGG = ('Simonyan & Zisserman 2014', 2014)
_AFTER_VGG = ('after Simonyan & Zisserman 2014', 2014)  # for 32x32
_SZEGEDY = ('Szegedy et al. 2014', 2014)
_AFTER_SZEGEDY = ('after Szegedy et al. 2014', 2014)  # for 32x32
_HE = ('He et al. 2015', 2015)
_PLAIN: dict[str, Any] = dict(shortcut='none')

# fmt: off
NETS = {
    'lenet5': Entry(LeNet5, {}, _MNIST32, *_LECUN),
    'lenet5_1998': Entry(LeNet5Original, {}, _MNIST32, *_LECUN, '60,000'),
    'mlp_300': Entry(MLP, dict(hidden=(300,)), _MNIST28, *_LECUN),
    'mlp_1000': Entry(MLP, dict(hidden=(1000,)), _MNIST28, *_LECUN),
    'mlp_300_100': Entry(MLP, dict(hidden=(300, 100)), _MNIST28, *_LECUN),
    'mlp_500_150': Entry(MLP, dict(hidden=(500, 150)), _MNIST28, *_LECUN),
    'mlp_batchnorm': Entry(
        MLP, dict(hidden=(100,) * 3, activation='sigmoid', initialiser='gaussian'), _MNIST28,
        *_IOFFE),
    'cuda_convnet_80sec': Entry(CudaConvNet, dict(file='80sec'), _CIFAR, *_CUDA),
    'cuda_convnet_19pct': Entry(CudaConvNet, dict(file='19pct'), _CIFAR, *_CUDA),
    'cuda_convnet_18pct': Entry(CudaConvNet, dict(file='18pct', norm='lrn'), _CIFAR, *_CUDA),
    'cuda_convnet_13pct': Entry(LocalCudaConvNet, dict(file='13pct'), _CROP24, *_CUDA),
    'cuda_convnet_11pct': Entry(LocalCudaConvNet, dict(file='11pct', norm='lrn'), _CROP24, *_CUDA),
    'alexnet': Entry(AlexNet, {}, _IMAGENET227, *_ALEX, '60 million'),
    'alexnet_ungrouped': Entry(AlexNet, dict(groups=1), _IMAGENET227, *_ALEX),
    'alexnet_one_tower': Entry(
        AlexNet, dict(widths=ONE_TOWER, groups=1, initialiser='one_tower'), _IMAGENET, *_WEIRD),
    'alexnet_32px': Entry(AlexNet, dict(small=True, units=1024, classes=10), _CIFAR, *_AFTER_ALEX),
    'vgg11': Entry(VGG, dict(column='A'), _IMAGENET, *_VGG, '133 million'),
    'vgg11_lrn': Entry(VGG, dict(column='A', norm='lrn'), _IMAGENET, *_VGG, '133 million'),
    'vgg13': Entry(VGG, dict(column='B'), _IMAGENET, *_VGG, '133 million'),
    'vgg16_1x1': Entry(VGG, dict(column='C'), _IMAGENET, *_VGG, '134 million'),
    'vgg16': Entry(VGG, dict(column='D'), _IMAGENET, *_VGG, '138 million'),
    'vgg19': Entry(VGG, dict(column='E'), _IMAGENET, *_VGG, '144 million'),
    'vgg11_32px': Entry(VGG, dict(column='A', head='average', classes=10), _CIFAR, *_AFTER_VGG),
    'vgg16_32px': Entry(VGG, dict(column='D', head='average', classes=10), _CIFAR, *_AFTER_VGG),
    'googlenet': Entry(GoogLeNet, {}, _IMAGENET, *_SZEGEDY),
    'googlenet_32px': Entry(
        GoogLeNet, dict(small=True, aux=False, classes=10), _CIFAR, *_AFTER_SZEGEDY),
    'resnet18': Entry(ResNet, dict(blocks=(2, 2, 2, 2)), _IMAGENET, *_HE),
    'resnet34': Entry(ResNet, dict(blocks=(3, 4, 6, 3)), _IMAGENET, *_HE),
    'resnet50': Entry(ResNet, dict(blocks=(3, 4, 6, 3), bottleneck=True), _IMAGENET, *_HE),
    'resnet101': Entry(ResNet, dict(blocks=(3, 4, 23, 3), bottleneck=True), _IMAGENET, *_HE),
    'resnet152': Entry(ResNet, dict(blocks=(3, 8, 36, 3), bottleneck=True), _IMAGENET, *_HE),
    'plain18': Entry(ResNet, dict(blocks=(2, 2, 2, 2), **_PLAIN), _IMAGENET, *_HE),
    'plain34': Entry(ResNet, dict(blocks=(3, 4, 6, 3), **_PLAIN), _IMAGENET, *_HE),
    'plain50': Entry(ResNet, dict(blocks=(3, 4, 6, 3), bottleneck=True, **_PLAIN), _IMAGENET, *_HE),
    'plain101': Entry(
        ResNet, dict(blocks=(3, 4, 23, 3), bottleneck=True, **_PLAIN), _IMAGENET, *_HE),
    'plain152': Entry(
        ResNet, dict(blocks=(3, 8, 36, 3), bottleneck=True, **_PLAIN), _IMAGENET, *_HE),
    'resnet20': Entry(CifarResNet, dict(blocks=3), _CIFAR, *_HE, '0.27M'),
    'resnet32': Entry(CifarResNet, dict(blocks=5), _CIFAR, *_HE, '0.46M'),
    'resnet44': Entry(CifarResNet, dict(blocks=7), _CIFAR, *_HE, '0.66M'),
    'resnet56': Entry(CifarResNet, dict(blocks=9), _CIFAR, *_HE, '0.85M'),
    'resnet110': Entry(CifarResNet, dict(blocks=18), _CIFAR, *_HE, '1.7M'),
    'resnet1202': Entry(CifarResNet, dict(blocks=200), _CIFAR, *_HE, '19.4M'),
    'plain20': Entry(CifarResNet, dict(blocks=3, **_PLAIN), _CIFAR, *_HE),
    'plain32': Entry(CifarResNet, dict(blocks=5, **_PLAIN), _CIFAR, *_HE),
    'plain44': Entry(CifarResNet, dict(blocks=7, **_PLAIN), _CIFAR, *_HE),
    'plain56': Entry(CifarResNet, dict(blocks=9, **_PLAIN), _CIFAR, *_HE),
    'plain110': Entry(CifarResNet, dict(blocks=18, **_PLAIN), _CIFAR, *_HE),
    'plain1202': Entry(CifarResNet, dict(blocks=200, **_PLAIN), _CIFAR, *_HE),
}
# fmt: on

_FLAX = ('parent', 'name')  # fields every linen module has


def names() -> tuple[str, ...]:
    """The names `build` takes."""
    return tuple(NETS)


def axes_of(name: str) -> dict[str, Any]:
    """The ablation axes of a net and the paper's choice on each: {'activation': 'tanh', ...}."""
    entry = _entry(name)
    fields = {field.name: field.default for field in dataclasses.fields(entry.net)} | entry.fields
    return {axis: value for axis, value in fields.items() if axis in axes.AXES}


def values(name: str, axis: str) -> tuple:
    """The values that an axis of a net takes, its paper's choice among them."""
    net = _entry(name).net
    all_values = (*net.VALUES.get(axis, ()), *axes.AXES[axis])
    return tuple(value for value in all_values if f'{axis}={value}' not in net.LACKS)


def build(name: str, /, **fields: Any) -> layers.Net:
    """Returns the module of a net, with the paper's choice for every field not given.

    fields: of the net, and flax's `name` of the module inside another one.

    Raises:
      ValueError: an unknown name, field or axis value (with the nearest one), or an axis that the
        net does not have (with the reason).
    """
    entry = _entry(name)
    known = list(axes_of(name))  # first, since they are asked for most
    every = [field.name for field in dataclasses.fields(entry.net)]
    known += [field for field in every if field not in (*known, *_FLAX)]
    layers.check_fields(name, entry.net, fields)
    for field in fields:
        if field not in (*known, 'name'):  # that of the module inside another one
            raise axes.unknown(f'{name} has no field', field, known)
    return entry.net(**entry.fields | fields)


def _entry(name: str) -> Entry:
    if name not in NETS:
        raise axes.unknown('unknown net', name, NETS)
    return NETS[name]
