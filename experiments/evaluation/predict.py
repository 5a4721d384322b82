"""The five best classes of images, by a net with its weights.

    python -m experiments.predict --weights runs/lenet_mnist-modern digit.png
    python -m experiments.predict --weights resnet50.pth --model resnet50 photographs/

Images are prepared as those of the training were, as weights of ours say. For PyTorch's weights of
photographs that is as for torchvision's: RGB, the shorter side resized to 256 bilinearly, the
middle 224x224, then (x / 255 - mean) / std per channel with ImageNet's mean and std; GoogLeNet's
weights were made for mean 0.5 and std 0.5. What is used is said once, on standard error.
"""

import csv
import io
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from cnns import convert
from configs import base
from experiments import machine
from experiments.data.decode import Unfit, border, open_image, plain, said, turn_upright
from experiments.data.folder import SUFFIXES
from experiments.errors import UserError, command, counted, printable
from experiments.evaluation import ready
from experiments.evaluation.ready import Ready
from experiments.options import Parser
from experiments.preprocess import views
from experiments.progress import note

BEST = 5
_BATCH = 32


def read_image(
    path: str | os.PathLike, shape: Sequence[int], whole: bool = False, side: int = 0
) -> tuple[np.ndarray, bool]:
    """Reads an image of one of decode.FORMATS: uint8 [H, W, C] of this shape, upright.

    whole, side, and what is returned: as in `fit`.

    Raises:
      UserError: no such file, no image, or one too narrow to be resized.
    """
    height, width, _ = shape
    try:
        with said() as texts, open_image(path) as image:
            if not whole:
                image.draft(None, (2 * width, 2 * height))  # as the training decodes a JPEG
            turn_upright(image)
            image = plain(image)
    except FileNotFoundError as error:
        raise UserError(f'there is no image {path}.') from error
    except Unfit as error:
        raise UserError(f'{path} {error}.') from error
    except Exception as error:  # each of Pillow's decoders fails in its own way
        raise UserError(f'{path} cannot be read as an image: {error}') from error
    for text in texts:
        note(f'{path}: {text}')
    return fit(image, path, shape, whole, side)


def fit(
    image: Image.Image, name: object, shape: Sequence[int], whole: bool = False, side: int = 0
) -> tuple[np.ndarray, bool]:
    """Scales and cuts an image: uint8 [H, W, C] of this shape.

    The middle of the image, of the shape's aspect, is scaled to it; with `whole`, the image is
    scaled to the shorter side, whose rounding is that of torchvision, and its middle is taken.
    side: an image that fits into so many pixels gets a border of zeros instead.

    Returns the pixels, and whether colour was turned into grey or grey into colour.

    Raises:
      UserError: it is too narrow to be resized; the message calls it `name`.
    """
    height, width, channels = shape
    mode = 'L' if channels == 1 else 'RGB'
    turned = image.mode != mode
    image = image.convert(mode)
    long, short = max(image.size), min(image.size)
    if long > 100 * short:
        raise UserError(f'{name} is {image.width}x{image.height} pixels, too narrow to be resized.')
    if side and long <= side:
        return border(_array(image), side), turned
    if whole:
        # Pillow widens the filter when it shrinks an image: no aliasing
        size = height * image.width // short, height * image.height // short
        image = image.resize(size, Image.Resampling.BILINEAR)
        corner = round((size[0] - width) / 2), round((size[1] - height) / 2)
        box = (*corner, corner[0] + width, corner[1] + height)
        return _array(image.crop(box)), turned
    if image.size != (width, height):
        scale = min(image.width / width, image.height / height)
        x, y = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        region = (x, y, x + scale * width, y + scale * height)
        image = image.resize((width, height), Image.Resampling.BILINEAR, region)
    return _array(image), turned


def _array(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def files(given: Sequence[str]) -> list[str]:
    """The images that a command line names, those in folders and their subfolders in order.

    Raises:
      UserError: a folder without images.
    """
    found: list[str] = []
    for name in given:
        if not os.path.isdir(name):
            found.append(name)
            continue
        inside = sorted(
            str(path)
            for path in pathlib.Path(name).rglob('*')
            if path.suffix.lower() in SUFFIXES and not path.name.startswith('.') and path.is_file()
        )
        if not inside:
            raise UserError(
                f'the folder {name} has no images: files that end in {", ".join(SUFFIXES)}.'
            )
        found += inside
    return found


def probabilities(
    net: Ready,
    seen: views.Views,
    paths: Sequence[Any],
    batch: int,
    pixels: Sequence[Image.Image] | None = None,
) -> Iterator[tuple[Any, np.ndarray]]:
    """The path and the probabilities, float32 [classes], of each image.

    pixels: the images themselves, where they are read already; `paths` are then their names.

    Raises:
      UserError: an image that cannot be read, or whose scores are not finite.
    """
    scores = ready.jitted(ready.scorer(net, seen), net)
    variables = jax.device_put(net.variables)
    shape, turned = net.trained.shape, 0
    batch = min(batch, len(paths))  # images of a step: each batch has as many, so one compilation
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        images = np.zeros((batch, *shape), np.uint8)
        for index, path in enumerate(some):
            how = shape, net.whole, net.border
            if pixels is None:
                images[index], changed = read_image(path, *how)
            else:
                images[index], changed = fit(pixels[start + index], path, *how)
            turned += changed
        found = np.asarray(jax.nn.softmax(scores(variables, images)))
        for path, row in zip(some, found):
            if not np.isfinite(row).all():
                raise UserError(
                    f'{net.path} gives {path} no probabilities: the logits are not finite.'
                )
            yield path, row
    if turned:
        what = 'grey' if shape[-1] == 1 else 'RGB, their channel repeated'
        note(f'{counted(turned, "image")} turned into {what}, as the net was trained on')


def best(row: np.ndarray, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The most probable classes: class (its index), name ('' if unknown) and probability."""
    places = np.argsort(-row, kind='stable')[:BEST]
    return [
        {'class': int(i), 'name': names[i] if names else '', 'probability': float(row[i])}
        for i in places
    ]


def _lines(path: str, found: list[dict[str, Any]]) -> list[str]:
    lines = [
        f'{100 * one["probability"]:7.2f} %  {one["class"]:5}  {one["name"]}'.rstrip()
        for one in found
    ]
    return [printable(path), *map(printable, lines)]


def _csv(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator='').writerow(cells)
    return text.getvalue()


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog='python -m experiments.predict',
        description='Prints the five best classes of images: per cent, index and name.',
        epilog=f"models of PyTorch's weights: {', '.join(convert.LAYOUTS)}",
    )
    ready.add_arguments(made)
    words = 'of the paper, whose softmax is averaged: '
    made.add_argument(
        '--views',
        choices=base.VIEWS,
        default='centre',
        metavar='NAME',
        help=f'{words}{", ".join(base.VIEWS)} (default: centre)',
    )
    made.add_argument('--batch', type=int, default=_BATCH, help=f'images a step, default {_BATCH}')
    output = made.add_mutually_exclusive_group()
    output.add_argument('--json', action='store_true', help='the same as JSON')
    output.add_argument('--csv', action='store_true', help='the same as CSV, a line for each class')
    made.add_argument('images', nargs='+', metavar='IMAGE', help='a file, or a folder of them')
    return made


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    if args.batch < 1:
        raise UserError(f'--batch is {args.batch}, it must be at least 1 image.')
    paths = files(args.images)
    for path in paths:
        if not os.path.exists(path):  # before anything is compiled
            raise UserError(f'there is no image {path}.')
    machine.prepare()
    machine.check_devices()
    net = ready.read(ready.asked(args))
    seen = views.views(args.views, net.trained)
    found: list[dict[str, Any]] = []
    for index, (path, row) in enumerate(probabilities(net, seen, paths, args.batch)):
        if index == 0:  # a mistake before that is its one line alone
            for line in net.used(seen):
                note(line)
            if args.csv:
                print(_csv(('image', 'rank', 'class', 'name', 'probability')))
        classes = best(row, net.classes)
        if args.json:
            found.append({'image': path, 'best': classes})
        elif args.csv:
            for rank, one in enumerate(classes, start=1):
                print(_csv((path, rank, *one.values())))
        else:
            print(*_lines(path, classes), sep='\n')
    if args.json:
        json.dump(found, sys.stdout, indent=1)
        print()
    return 0
