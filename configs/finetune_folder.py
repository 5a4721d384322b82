"""Fine-tune a net on a folder of photographs, one subfolder for each class.

    photographs/robin/1.jpg, photographs/robin/2.jpg, photographs/wren/1.jpg, ...

    python -m experiments.run --config configs/finetune_folder.py
    python -m experiments.run --config configs/finetune_folder.py:all --config.data.name=folder:PATH

The photographs have any size. Beside them, resnet18.pth is needed, the weights of ResNet-18 trained
on ImageNet, which PyTorch's users have or make with

    torch.save(torchvision.models.resnet18(weights='DEFAULT').state_dict(), 'resnet18.pth')

    argument   trains
    head       the last layer; the others keep their weights. For few photographs, and fast
    all        every layer, with a lower learning rate. For some hundreds a class
    scratch    every layer, without resnet18.pth. For some thousands a class, or to try the way

The last layer is drawn anew, for the folder's classes. Notes on standard error say which layers
begin with the weights. Other weights: --config.train.start=FILE, or the work directory of another
training here, with --config.model.name of their net and, for head, its layers in
--config.train.freeze.

Small nets are fast without an accelerator. From the weights for CIFAR-10 of ResNet-20 in
github.com/akamaster/pytorch_resnet_cifar10, and with the argument all:

    --config.model.name=resnet20 --config.train.start=resnet20-12fca82f.th
    --config.data.resize=40 --config.augment.size=32 --config.train.epochs=20

A tenth of the photographs is held out to watch the training and another to test the end, unless the
folder is divided already: experiments/data/README.md. The recipe is ours. Measured once, the last
command on 200 photographs of ten classes (20 each of Imagenette, at many sizes), on two CPU cores:
12 of 25 test images wrong (48 %, 95 % interval 28 to 69 %; chance is 90 %) after 26 s. With
ResNet-18: not measured here.
"""

from configs import base

ARGUMENTS = ('head', 'all', 'scratch')


def get_config(arg='head'):
    config = base.get_config()
    config.title = f'ResNet-18 fine-tuned on a folder ({arg})'
    config.data.name = 'folder:photographs'
    config.data.resize = 256
    config.data.whole = True
    config.model.name = 'resnet18'
    config.augment.crop = 'area'
    config.augment.size = 224
    config.augment.flip = True
    config.train.start = 'resnet18.pth'
    config.train.new_head = True
    config.train.batch = 16
    config.train.epochs = 10
    config.train.rate = 0.01
    if arg == 'head':
        config.train.freeze = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5')
        config.train.rate = 0.05
    if arg == 'scratch':
        config.title = 'ResNet-18 trained on a folder'
        config.train.start = None
        config.train.new_head = False
        config.train.epochs = 30
        config.train.rate = 0.05
    return config
