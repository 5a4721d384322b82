"""PyTorch forms of the nets, to compare with: those of torchvision's layout, and the benchmark's.

They share no code with the nets of cnns. `build(name, classes=..., **fields)` takes every name of
cnns.convert.MODELS, with the names and shapes of torchvision's state dicts, and the nets of
BENCHMARKED, which compute what cnns' own nets compute. Images are [N, C, H, W], logits
[N, classes]. This file needs PyTorch alone.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def _conv_relu(inputs, outputs, kernel, stride=1, padding=0, groups=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    return nn.Sequential(conv, nn.ReLU())


class AlexNet(nn.Module):
    """One tower, no LRN; dropout comes before the layers that it feeds."""

    def __init__(self, classes=1000):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            *_conv_relu(3, 64, 11, 4, 2),
            pool(),
            *_conv_relu(64, 192, 5, 1, 2),
            pool(),
            *_conv_relu(192, 384, 3, 1, 1),
            *_conv_relu(384, 256, 3, 1, 1),
            *_conv_relu(256, 256, 3, 1, 1),
            pool(),
        )
        layers = []
        for width in (256 * 6 * 6, 4096):
            layers += [nn.Dropout(), nn.Linear(width, 4096), nn.ReLU()]
        self.classifier = nn.Sequential(*layers, nn.Linear(4096, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def _classifier(inputs, classes):
    """Three dense layers; dropout follows the activations."""
    layers = []
    for width in (inputs, 4096):
        layers += [nn.Linear(width, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, classes))


class VGG(nn.Module):
    """`convs`: how many 3x3 convolutions each of the five blocks has; they keep their biases."""

    def __init__(self, convs, batch_norm, classes=1000):
        super().__init__()
        stack, width = [], 3
        for count, wider in zip(convs, (64, 128, 256, 512, 512)):
            for _ in range(count):
                stack.append(nn.Conv2d(width, wider, 3, padding=1))
                if batch_norm:
                    stack.append(nn.BatchNorm2d(wider))
                stack.append(nn.ReLU())
                width = wider
            stack.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*stack)
        self.classifier = _classifier(512 * 7 * 7, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


class ConvBNReLU(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """The widths are a row of the paper's Table 1. `kernel`: kernel of the third branch.

    torchvision's form has batch norm and a 3x3 third branch; that of the paper's Fig. 2b biases
    and a 5x5.
    """

    def __init__(self, conv, kernel, inputs, one, reduce3, three, reduce5, five, proj):
        super().__init__()
        self.branch1 = conv(inputs, one, 1)
        self.branch2 = nn.Sequential(conv(inputs, reduce3, 1), conv(reduce3, three, 3, padding=1))
        self.branch3 = nn.Sequential(
            conv(inputs, reduce5, 1), conv(reduce5, five, kernel, padding=kernel // 2)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, proj, 1))

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.children()], 1)


class Auxiliary(nn.Module):
    """torchvision's form: batch norm, 14x14 averaged to 4x4 over windows of 4."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.conv = ConvBNReLU(inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.7, self.training))


WIDTHS = {
    '3a': (192, 64, 96, 128, 16, 32, 32),
    '3b': (256, 128, 128, 192, 32, 96, 64),
    '4a': (480, 192, 96, 208, 16, 48, 64),
    '4b': (512, 160, 112, 224, 24, 64, 64),
    '4c': (512, 128, 128, 256, 24, 64, 64),
    '4d': (512, 112, 144, 288, 32, 64, 64),
    '4e': (528, 256, 160, 320, 32, 128, 128),
    '5a': (832, 256, 160, 320, 32, 128, 128),
    '5b': (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """With batch norm, without LRN; the last of the max pools is 2x2."""

    def __init__(self, classes=1000, aux=True):
        super().__init__()
        self.conv1 = ConvBNReLU(3, 64, 7, 2, 3)
        self.conv2 = ConvBNReLU(64, 64, 1)
        self.conv3 = ConvBNReLU(64, 192, 3, padding=1)
        for name, widths in WIDTHS.items():
            self.add_module(f'inception{name}', Inception(ConvBNReLU, 3, *widths))
        self.aux = aux
        if aux:
            self.aux1 = Auxiliary(512, classes)
            self.aux2 = Auxiliary(528, classes)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        def pool(x, window=3):
            return F.max_pool2d(x, window, 2, ceil_mode=True)

        x = pool(self.conv1(x))
        x = pool(self.conv3(self.conv2(x)))
        x = pool(self.inception3b(self.inception3a(x)))
        for name in ('4a', '4b', '4c', '4d', '4e'):
            x = getattr(self, f'inception{name}')(x)
        x = pool(x, 2)
        x = self.inception5b(self.inception5a(x)).mean((2, 3))
        return self.fc(F.dropout(x, 0.2, self.training))


class Block(nn.Module):
    """Basic (two 3x3) or bottleneck (1x1, 3x3 with the stride, 1x1 four times as wide)."""

    def __init__(self, inputs, width, stride, bottleneck):
        super().__init__()
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        outputs = 4 * width if bottleneck else width
        widths = (inputs, *[width] * (len(kernels) - 1), outputs)
        self.depth = len(kernels)
        for i, kernel in enumerate(kernels):
            strided = stride if i == self.depth - 2 else 1
            self.add_module(
                f'conv{i + 1}',
                nn.Conv2d(widths[i], widths[i + 1], kernel, strided, kernel // 2, bias=False),
            )
            self.add_module(f'bn{i + 1}', nn.BatchNorm2d(widths[i + 1]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(y))
            y = F.relu(y) if i < self.depth else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck, classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            stack = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                stack.append(Block(inputs, width, stride, bottleneck))
                inputs = 4 * width if bottleneck else width
            self.add_module(f'layer{stage + 1}', nn.Sequential(*stack))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def lenet5(classes=10):
    """The usual modern form: tanh, average pooling, 32x32 images."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, classes),
    )


def four_layer(classes=10, pool='mixed', overlap=True, norm='none'):
    """cuda-convnet's layers-19pct for 32x32 images; `norm` and the pools as in cnns.

    pool: 'mixed' (max, average, average), 'max' or 'average'.
    """
    stack, width, window = [], 3, 3 if overlap else 2
    kinds = ('max', 'average', 'average') if pool == 'mixed' else (pool,) * 3
    for number, (outputs, kind) in enumerate(zip((32, 32, 64), kinds)):
        stack.append(nn.Conv2d(width, outputs, 5, padding=2, bias=norm != 'batch'))
        if norm == 'batch':
            stack.append(nn.BatchNorm2d(outputs))
        stack.append(nn.ReLU())
        if kind == 'max':
            stack.append(nn.MaxPool2d(window, 2, ceil_mode=overlap))
        else:
            stack.append(nn.AvgPool2d(window, 2, ceil_mode=overlap, count_include_pad=False))
        if norm == 'lrn' and number < 2:
            stack.append(nn.LocalResponseNorm(9, alpha=1e-3, beta=0.75, k=1.0))
        width = outputs
    return nn.Sequential(*stack, nn.Flatten(), nn.Linear(4 * 4 * 64, classes))


class ShortcutA(nn.Module):
    """Every second pixel and zero channels up to `outputs`: no parameters (He et al., option A)."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, ::2, ::2]
        return F.pad(x, (0, 0, 0, 0, 0, self.outputs - x.shape[1]))


class CifarResNet(nn.Module):
    """The form for 32x32 images, of depth 6 * blocks + 2."""

    def __init__(self, blocks, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stack, width = [], 16
        for stage in range(3):
            for block in range(blocks):
                outputs = 16 * 2**stage
                one = Block(width, outputs, 2 if stage and not block else 1, False)
                if one.downsample is not None:
                    one.downsample = ShortcutA(outputs)
                stack.append(one)
                width = outputs
        self.blocks = nn.Sequential(*stack)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(F.relu(self.bn1(self.conv1(x)))).mean((2, 3)))


def printed_lrn() -> nn.Module:
    """AlexNet's formula as printed, where alpha is not divided by the 5 channels."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def two_columns(classes=1000):
    """AlexNet as in its paper, for 227x227 images: LRN, two columns, overlapping pools."""
    pool = lambda: nn.MaxPool2d(3, 2)
    return nn.Sequential(
        *_conv_relu(3, 96, 11, 4),
        printed_lrn(),
        pool(),
        *_conv_relu(96, 256, 5, padding=2, groups=2),
        printed_lrn(),
        pool(),
        *_conv_relu(256, 384, 3, padding=1),
        *_conv_relu(384, 384, 3, padding=1, groups=2),
        *_conv_relu(384, 256, 3, padding=1, groups=2),
        pool(),
        nn.Flatten(),
        *_classifier(256 * 6 * 6, classes),
    )


def _paper_auxiliary(inputs, classes):
    return nn.Sequential(
        nn.AvgPool2d(5, 3),
        _conv_relu(inputs, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024),
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(1024, classes),
    )


class PaperGoogLeNet(nn.Module):
    """GoogLeNet as in its paper, with LRN. In training: logits and those of the two heads."""

    def __init__(self, classes=1000):
        super().__init__()
        pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
        self.stem = nn.Sequential(
            _conv_relu(3, 64, 7, 2, 3),
            pool(),
            printed_lrn(),
            _conv_relu(64, 64, 1),
            _conv_relu(64, 192, 3, 1, 1),
            printed_lrn(),
            pool(),
        )
        self.blocks = nn.ModuleDict(
            {name: Inception(_conv_relu, 5, *widths) for name, widths in WIDTHS.items()}
        )
        self.pool = pool()
        self.aux = nn.ModuleDict(
            {'4a': _paper_auxiliary(512, classes), '4d': _paper_auxiliary(528, classes)}
        )
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        x, others = self.stem(x), []
        for name, block in self.blocks.items():
            x = block(self.pool(x) if name in ('4a', '5a') else x)
            if self.training and name in self.aux:
                others.append(self.aux[name](x))
        logits = self.fc(self.dropout(x.mean((2, 3))))
        return (logits, *others) if self.training else logits


CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

NETS = {
    'alexnet': (AlexNet, ()),
    'googlenet': (GoogLeNet, ()),
    **{f'vgg{depth}': (VGG, (convs, False)) for depth, convs in CONVS.items()},
    **{f'vgg{depth}_bn': (VGG, (convs, True)) for depth, convs in CONVS.items()},
    **{f'resnet{depth}': (ResNet, (blocks, depth >= 50)) for depth, blocks in BLOCKS.items()},
}
BENCHMARKED = {  # by the names of cnns, where torchvision has another net of that name or none
    'lenet5': (lenet5, ()),
    'cuda_convnet_19pct': (four_layer, ()),
    'resnet20': (CifarResNet, (3,)),
    'alexnet': (two_columns, ()),
    'googlenet': (PaperGoogLeNet, ()),
    'vgg11': NETS['vgg11'],
    'resnet18': NETS['resnet18'],
}


def build(name: str, device: str = 'cpu', nets: dict = NETS, **fields: Any) -> nn.Module:
    """A net in inference mode; device 'meta' gives shapes without memory."""
    net, arguments = nets[name]
    with torch.device(device):
        return net(*arguments, **fields).eval()


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Fills weights, biases and running statistics so that every one of them shows in the output.

    Weights are He normal, so the signal neither dies nor explodes on its way. Large tensors repeat
    a million values, which is faster; no row of theirs is like another.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        values = torch.empty(min(tensor.numel(), 1_000_003))
        if tensor.ndim > 1:
            values.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(('running_var', 'weight')):
            values.uniform_(0.6, 1.4, generator=generator)
        else:
            values.normal_(0, 0.2, generator=generator)
        flat = tensor.view(-1)
        for start in range(0, len(flat), len(values)):
            part = flat[start : start + len(values)]
            part.copy_(values[: len(part)])
    return net
