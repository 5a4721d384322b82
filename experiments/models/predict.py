"""The five best classes of images, by a net with weights from PyTorch.

    python -m experiments.predict --model resnet50 --weights resnet50.pth image.jpg

The weights are a state dict in torchvision's layout, .safetensors or .pth. Images are prepared as
for the training of torchvision's weights: RGB, the shorter side resized to 256 bilinearly, the
middle 224x224, then (x / 255 - mean) / std per channel with ImageNet's mean and std; GoogLeNet's
weights were made for mean 0.5 and std 0.5.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image

from cnns import convert
from experiments import machine
from experiments.data.decode import Unfit, open_image, plain, said, turn_upright
from experiments.errors import UserError, command, one_of, printable
from experiments.options import Parser
from experiments.progress import note
from experiments.train.evaluate import normalise

CROP = convert.SIDE  # pixels
RESIZE = 256  # pixels of the shorter side
_LARGEST = 4096  # pixels of the shorter side
BEST = 5
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std, RGB
NORMALISATION = {'googlenet': ((0.5,) * 3, (0.5,) * 3)}  # where it is another


def read_image(path: str | os.PathLike, resize: int = RESIZE) -> np.ndarray:
    """Reads an image of one of decode.FORMATS: uint8 [224, 224, 3], upright, resized, cropped.

    Raises:
      UserError: no such file, or no image.
    """
    try:
        with said() as texts, open_image(path) as image:
            turn_upright(image)
            image = plain(image).convert('RGB')
    except FileNotFoundError as error:
        raise UserError(f'there is no image {path}.') from error
    except Unfit as error:
        raise UserError(f'{path} {error}.') from error
    except Exception as error:  # each of Pillow's decoders fails in its own way
        raise UserError(f'{path} cannot be read as an image: {error}') from error
    for text in texts:
        note(f'{path}: {text}')
    width, height = image.size
    short = min(width, height)
    if max(width, height) > 100 * short:
        raise UserError(f'{path} is {width}x{height} pixels, too narrow to be resized.')
    width, height = resize * width // short, resize * height // short
    # Pillow widens the filter when it shrinks an image: no aliasing
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - CROP) / 2), round((height - CROP) / 2)
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


def predictor(
    model: str, weights: str | os.PathLike
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Returns (function, classes): uint8 [N, 224, 224, 3] -> probabilities float32 [N, classes].

    Raises:
      UserError: an unknown model, or a file that does not hold its weights.
    """
    if model not in convert.MODELS:
        raise one_of('model', model, convert.MODELS)
    try:
        tensors = convert.load(weights)
        variables = convert.from_torch(model, tensors)
    except FileNotFoundError as error:
        raise UserError(f'there is no file of weights {weights}.') from error
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    sizes = convert.sizes(model, tensors)
    if sizes['channels'] != 3:
        raise UserError(
            f'{weights} is for images of {sizes["channels"]} channels; photographs have 3.'
        )
    net = convert.build(model, **sizes)
    mean, std = NORMALISATION.get(model, IMAGENET)
    variables = jax.device_put(variables)

    @jax.jit
    def probabilities(variables, images):
        images = normalise(images, np.asarray(mean, np.float32), np.asarray(std, np.float32))
        logits: Any = net.apply(variables, images, train=False)
        return jax.nn.softmax(logits)

    return lambda images: np.asarray(probabilities(variables, images)), sizes['classes']


def read_classes(path: str | os.PathLike, count: int) -> list[str]:
    """The names of the classes, one a line.

    Raises:
      UserError: the file cannot be read, or has not `count` lines.
    """
    try:
        names = pathlib.Path(path).read_text(encoding='utf-8').rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'the class names {path} cannot be read: {error}') from error
    if len(names) != count:
        raise UserError(
            f'{path} names {len(names)} classes, the weights have {count}. It should '
            'have one name per line, in the order of the classes.'
        )
    return [name.strip() for name in names]


def best_lines(probabilities: np.ndarray, names: list[str] | None = None) -> list[str]:
    """A line per class, the most probable first: per cent, index and, if known, name."""
    best = np.argsort(-probabilities, kind='stable')[:BEST]
    return [
        f'{100 * probabilities[i]:7.2f} %  {i:5}  {names[i] if names else ""}'.rstrip()
        for i in best
    ]


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog='python -m experiments.predict',
        description='Prints the five best classes of images: per cent, index and name.',
        epilog=f'models: {", ".join(convert.MODELS)}',
    )
    made.add_argument(
        '--model',
        required=True,
        choices=convert.MODELS,
        metavar='NAME',
        help="a net by torchvision's name",
    )
    made.add_argument(
        '--weights',
        required=True,
        metavar='FILE',
        help="state dict in torchvision's layout: .safetensors, .pth or .pt. "
        'Nothing in it is executed.',
    )
    words = 'names of the classes, one per line'
    made.add_argument('--class_names', metavar='FILE', help=words)
    made.add_argument(
        '--resize',
        type=int,
        default=RESIZE,
        metavar='PIXELS',
        help=f'shorter side before the middle {CROP}x{CROP} is taken, '
        f"default {RESIZE}; torchvision's second weights of ResNet-50, 101 "
        'and 152 (IMAGENET1K_V2) were tested with 232',
    )
    made.add_argument('images', nargs='+', metavar='IMAGE')
    return made


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    if not CROP <= args.resize <= _LARGEST:
        raise UserError(
            f'--resize is {args.resize}, it must be between the {CROP} pixels that are '
            f'taken and {_LARGEST}.'
        )
    images = [read_image(path, args.resize) for path in args.images]
    machine.prepare()
    machine.check_devices()
    predict, count = predictor(args.model, args.weights)
    names = read_classes(args.class_names, count) if args.class_names else None
    for path, image in zip(args.images, images, strict=True):
        probabilities = predict(image[None])[0]
        if not np.isfinite(probabilities).all():
            raise UserError(
                f'{args.weights} give {path} no probabilities: the logits are not finite.'
            )
        print(printable(path), *map(printable, best_lines(probabilities, names)), sep='\n')
    return 0
