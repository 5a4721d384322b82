"""A net with its weights, ready for images: how they are prepared, and what its outputs mean.

Weights are a file of ours, a work directory or a run of it, or PyTorch's (with the model's name).
Ours say how the images of the training were prepared. PyTorch's do not: photographs are prepared as
for torchvision's weights and CIFAR's images as akamaster's programs do, unless mean, std and
resize say otherwise. What is used is told by `Ready.used`.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import cnns
from cnns import convert, layers, weights
from configs import base
from experiments import data, machine
from experiments.errors import UserError, counted, listed, printable, reason, shown
from experiments.options import field
from experiments.plan import start
from experiments.plan.config import flatten, set_field
from experiments.preprocess import augment, views
from experiments.preprocess.augment import Augmentation
from experiments.train import saved
from experiments.train.start import is_own, nameless

LARGEST = 4096  # pixels of the shorter side of an image
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std, RGB
# Where PyTorch's weights were made with others; None: nobody knows
NORMALISATION = {'googlenet': ((0.5,) * 3, (0.5,) * 3), 'lenet5': None}
_SHORTER = {224: 256}  # pixels of the shorter side before the middle of such a side is taken


@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """A net with its weights."""

    path: pathlib.Path
    name: str  # of the net
    net: layers.Net
    variables: dict[str, Any]
    classes: tuple[str, ...] | None  # None: not known
    trained: Augmentation  # what is done to images uint8 [n, H, W, C] of its shape
    normalised: str  # in words
    config: ConfigDict | None = None  # of the training, where it is known
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    whole: bool = False  # images are scaled as a whole and then cut, as torchvision does
    mean_image: bool = False  # that is what is subtracted
    border: int = 0  # smaller images get a border of zeros up to this side
    content: bytes | None = None  # of a file that was not written, to `path`

    @property
    def count(self) -> int:
        """The number of classes."""
        return self.net.classes

    @functools.cached_property
    def digest(self) -> str:
        """Of the file of weights."""
        if self.content is not None:
            return start.digest_of(hashlib.sha256(self.content).digest())
        return start.digest(self.path)

    def of_shape(self, shape: Sequence[int]) -> Augmentation:
        """The preparation of images [H, W, C] of another size than those of the training.

        Raises:
          UserError: the net does not take them.
        """
        if tuple(shape) == self.trained.shape:
            return self.trained
        height, width, _ = shape
        size = self.trained.size
        if shape[-1] != self.net.channels or height < size[0] or width < size[1]:
            raise UserError(
                f'{self.path} sees {_kind(self.net.channels)} images of at least '
                f'{augment.times(size)}, the given ones are {augment.times(shape)} and '
                f'{_kind(shape[-1])}. Set data.resize to at least {max(size)}, or data.channels.'
            )
        if self.mean_image:
            raise UserError(
                f'{self.path} subtracts a mean image of {augment.times(self.trained.shape)}, the '
                f'given images are {augment.times(shape)}. Set data.resize, or --mean and --std.'
            )
        scaled = self.config is not None and self.config.augment.crop == 'scale'
        scales = self.trained.scales if scaled else (min(height, width),) * 2
        return dataclasses.replace(self.trained, shape=tuple(shape), scales=scales)

    def used(self, seen: views.Views) -> list[str]:
        """What is used, in lines: for whoever has to trust a prediction."""
        words = [f'{self.name} of {self.path}']
        run = self.run
        if run:
            of = [
                str(run[key]) if key == 'arm' else f'{key.replace("_", " ")} {run[key]}'
                for key in ('arm', 'seed', 'learning_rate')
                if run.get(key) is not None
            ]
            trained_on = f', trained on {run["data"]}' if run.get('data') else ''
            words.append(f'run {run.get("name", "")}: {", ".join(of)}{trained_on}')
        named = f': {listed(self.classes, 10)}' if self.classes else ', not named'
        words.append(f'{counted(self.count, "class", "classes")}{named}')
        height, width, channels = self.trained.shape
        sees = f'{width}x{height} {_kind(channels)}'
        if self.trained.size != (height, width):
            sees += f', of which the net sees {augment.times(self.trained.size)}'
        look = counted(seen.count, 'view') if seen.count > 1 else 'the middle'
        words.append(f'images: {sees}; {look} ({seen.name}); {self.normalised}')
        return [*map(printable, words), *self.notes]


def scorer(
    ready: Ready, seen: views.Views
) -> Callable[[dict[str, Any], np.ndarray | jax.Array], jax.Array]:
    """(variables, images uint8 [n, H, W, C]) -> scores float32 [n, classes], for `jitted`.

    A score is a logit; with several views the logarithm of the mean probability.

    Raises:
      UserError: the net does not take images of the views' sizes.
    """
    net = views.net_for(seen, ready.net, ready.name)
    if seen.name not in views.DENSE:
        _check_size(net, seen, ready)

    def scores(variables, images):
        apply = functools.partial(net.apply, variables, train=False)
        return seen.logits(apply, images).astype(jnp.float32)

    return scores


def jitted(function: Callable, ready: Ready) -> Callable:
    """jax.jit with the compiler options of evaluation steps."""
    return jax.jit(function, compiler_options=machine.options(ready.net.fast) or None)


def _check_size(net, seen, ready) -> None:
    """UserError unless the net takes images of this size with its weights."""
    size = (*seen.trained.size, seen.trained.shape[-1])
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    try:
        jax.eval_shape(lambda v, x: net.apply(v, x, train=False), ready.variables, images)
    except (ValueError, flax.errors.FlaxError) as error:
        words = ' '.join(str(error).split())
        raise UserError(
            f'{ready.name} of {ready.path} does not take images of {augment.times(size)}: {words}'
        ) from error


# --- reading -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a command line says of the weights."""

    weights: str
    model: str | None = None  # of PyTorch's weights
    fields: tuple[str, ...] = ()  # of that net, 'NAME=VALUE'
    mean: str | None = None
    std: str | None = None
    resize: int | None = None
    class_names: str | None = None


def add_arguments(parser) -> None:
    """The options of `Asked`."""
    words = (
        'a file of ours (.safetensors), a work directory or a run of it (DIR/points/RUN), or '
        "PyTorch's weights with --model. Nothing in a file is executed."
    )
    parser.add_argument('--weights', required=True, metavar='FILE', help=words)
    parser.add_argument(
        '--model', choices=convert.LAYOUTS, metavar='NAME', help="the net of PyTorch's weights"
    )
    words = 'a field of that net, such as third_kernel=5; may be given several times'
    parser.add_argument('--field', action='append', default=[], metavar='NAME=VALUE', help=words)
    words = 'subtracted from pixels in 0..1: a number, or one for each channel, such as 0.5,0.5,0.5'
    parser.add_argument('--mean', metavar='NUMBERS', help=words)
    parser.add_argument('--std', metavar='NUMBERS', help='divides them then; as --mean')
    words = 'shorter side before the middle is taken; default: that of the training, 256 for '
    words += "PyTorch's weights of photographs (IMAGENET1K_V2 of torchvision: 232)"
    parser.add_argument('--resize', type=int, metavar='PIXELS', help=words)
    parser.add_argument('--class_names', metavar='FILE', help='names of the classes, one per line')


def asked(args) -> Asked:
    """The `Asked` of parsed arguments."""
    return Asked(
        args.weights,
        args.model,
        tuple(args.field),
        args.mean,
        args.std,
        args.resize,
        args.class_names,
    )


def read(given: Asked) -> Ready:
    """Reads the weights that a command line names.

    Raises:
      UserError: no such file, no weights, weights of another net, a number that is none.
    """
    path = start.file_of(given.weights, '--weights')
    try:
        own = _own(path)
        made = _of_torch(path, given) if own is None else _ready(path, *own, given)
    except OSError as error:
        raise UserError(f'{path} cannot be read ({reason(error)}).') from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if given.class_names:
        names = read_classes(given.class_names, made.count)
        made = dataclasses.replace(made, classes=tuple(names))
    return made


def of_content(content: bytes, path: pathlib.Path) -> Ready:
    """Of what experiments.train.saved packs; path: where it would lie, for messages."""
    made = _ready(path, *weights.from_bytes(content), Asked(str(path)))
    return dataclasses.replace(made, content=content)


def read_classes(path: str, count: int) -> list[str]:
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


def _own(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Variables and metadata of a file of ours; None where it is none."""
    if path.suffix == '.msgpack':
        return _older(path)
    return weights.load(path) if is_own(path) else None


def _older(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the weights.msgpack of a run of older code, whose config and data say the rest."""
    try:
        variables = flax.serialization.msgpack_restore(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # msgpack raises many kinds for a damaged file
        raise UserError(f'{path} is no file of weights, or damaged.') from error
    try:
        flat = json.loads((path.parent / 'config.json').read_bytes())
        config = _config(flat)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} has tensors alone, and the config.json that says what they are for cannot be '
            f'read beside it ({reason(error)}). Give the folder of the run as it was written.'
        ) from error
    dataset = data.load(config.data)
    packed = saved.pack(variables, config, dataset, {'name': path.parent.name, 'seed': config.seed})
    return weights.from_bytes(packed)


def _config(flat: dict[str, Any]) -> ConfigDict:
    """A config of these fields; fields that are no longer known are left out."""
    config = base.get_config()
    known = flatten(config)
    for name, value in flat.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in known or name.startswith('model.fields.'):
            set_field(config, name, value)
    return config


def _numbers(option: str, text: str | None, channels: int) -> tuple[float, ...] | None:
    """'0.5,0.4,0.3' -> (0.5, 0.4, 0.3), one for each channel."""
    if text is None:
        return None
    try:
        values = tuple(map(float, text.split(',')))
    except ValueError:
        values = ()
    values = values * channels if len(values) == 1 else values
    low = 0 if option == '--mean' else 1e-6
    if len(values) != channels or not all(low <= value <= 1 for value in values):
        raise UserError(
            f'{option} is {shown(text)}, it must be {counted(channels, "number")} from '
            f'{"0" if option == "--mean" else "above 0"} to 1, of pixels in 0..1 (divide numbers '
            'of 0..255 by 255).'
        )
    return values


def _ready(path, variables, metadata, given: Asked) -> Ready:
    """Of weights of ours."""
    if given.model or given.fields:
        option = '--model' if given.model else '--field'
        raise UserError(f'{path} says that its net is {metadata["net"]}: leave out {option}.')
    variables = dict(variables)
    image = variables.pop('input', {}).get('mean_image')
    net, names = weights.build(metadata), metadata.get('class_names')
    config = _config(metadata['config']) if isinstance(metadata.get('config'), dict) else None
    height, width, _ = cnns.NETS[metadata['net']].input
    side = metadata.get('resolution')
    size = (side, side) if side else (height, width)
    shape = tuple(metadata.get('shape') or (*size, net.channels))
    fields: dict[str, Any] = config.augment.to_dict() if config else {}
    fields['colour'] = 0.0  # drawn in training only
    mean, std = (
        _numbers(f'--{key}', getattr(given, key), net.channels) or metadata.get(key)
        for key in ('mean', 'std')
    )
    if given.mean or given.std or config is None:
        fields |= {'subtract': 'channel_std', 'white': 1.0}
    if given.mean:
        image = None
    if image is not None:
        if given.std:
            raise UserError(f'{path} subtracts a mean image: --std needs --mean beside it.')
        mean = image.mean((0, 1))
    for key, values in (('mean', mean), ('std', std)):
        if values is None:
            raise UserError(f'{path} does not say the {key} of its images: give --{key}.')
    if given.resize is not None:
        if image is not None:
            raise UserError(
                f'{path} subtracts a mean image of {augment.times(image.shape)} pixels: leave out '
                '--resize.'
            )
        resize = _resize(given.resize, max(size))
        shape = (resize, resize, net.channels)
        fields |= {'crop': 'random' if resize > max(size) else 'none', 'size': max(size)}
    statistics = data.Statistics(np.asarray(mean, np.float32), np.asarray(std, np.float32), image)
    trained = augment.augmentation(shape, statistics, **fields)
    return Ready(
        path,
        metadata['net'],
        net,
        variables,
        tuple(names) if names else None,
        trained,
        _normalised(mean, std, image, given),
        config,
        metadata['run'] if isinstance(metadata.get('run'), dict) else {},
        mean_image=image is not None,
        border=config.data.side if config else 0,
    )


def _of_torch(path: pathlib.Path, given: Asked) -> Ready:
    """Of PyTorch's weights."""
    loaded = convert.load(path)
    model = given.model
    if model is None:
        raise nameless(path, loaded)
    fields = dict(map(field, given.fields))
    net, variables, notes = convert.read(path, model, **fields)
    side = cnns.NETS[convert.LAYOUTS[model].net].input[0]
    given_numbers = [_numbers(f'--{k}', getattr(given, k), net.channels) for k in ('mean', 'std')]
    usual = NORMALISATION.get(model, IMAGENET)
    if usual is None or net.channels != len(usual[0]):
        for key, value in zip(('mean', 'std'), given_numbers):
            if value is None:
                raise UserError(
                    f'{path} does not say what the images of {model} of '
                    f'{counted(net.channels, "channel")} were normalised by: give --{key}, of '
                    'pixels in 0..1.'
                )
        usual = IMAGENET
    mean, std = (own or other for own, other in zip(given_numbers, usual))
    resize = _SHORTER.get(side, side) if given.resize is None else given.resize
    resize = _resize(resize, side)
    trained = augment.augmentation(
        (resize, resize, net.channels),
        data.Statistics(np.asarray(mean, np.float32), np.asarray(std, np.float32)),
        crop='random' if resize > side else 'none',
        size=side,
    )
    normalised = _normalised(mean, std, None, given)
    if not (given.mean and given.std):
        whose = "torchvision's GoogLeNet" if model == 'googlenet' else "ImageNet's"
        which = {(True, False): 'std', (False, True): 'mean'}.get(
            (bool(given.mean), bool(given.std)), 'mean and std'
        )
        normalised += f" ({which}: {whose}, since PyTorch's weights do not tell; --mean and --std)"
    return Ready(path, model, net, variables, None, trained, normalised, notes=notes, whole=True)


def _resize(pixels: int, side: int) -> int:
    if not side <= pixels <= LARGEST:
        raise UserError(
            f'--resize is {pixels}, it must be between the {side} pixels that are taken and '
            f'{LARGEST}.'
        )
    return pixels


def _normalised(mean, std, image, given: Asked) -> str:
    text = lambda values: ', '.join(f'{value:.4g}' for value in values)
    what = 'its mean image' if image is not None else f'mean {text(mean)}'
    of = ' and '.join(f'--{key}' for key in ('mean', 'std') if getattr(given, key))
    return f'pixels / 255, {what}, std {text(std)}{f" ({of})" if of else ""}'


def _kind(channels: int) -> str:
    return 'grey' if channels == 1 else 'RGB' if channels == 3 else f'of {channels} channels'
