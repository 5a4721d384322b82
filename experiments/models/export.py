"""Weights for other programs: StableHLO, ONNX or PyTorch's layout, checked before writing.

    python -m experiments.export --weights weights.safetensors --to onnx --out net.onnx
    python -m experiments.export --weights r.pth --model resnet18 --to onnx --out r.onnx

    stablehlo  by jax.export, for CPU, CUDA, ROCm and TPU: jax.export.deserialize of the same jax or
               a newer one reads it
    onnx       opset 17; needs the extra [onnx]
    torch      a state dict as .safetensors, in the layout that cnns.convert has for the net

The first two hold the net with its weights. They take images float32 [N, H, W, C], any N, of one
size and normalised as in the training, and give logits float32 [N, classes]. What is written
computes in float32. On random images, in batches of several sizes, its logits are compared with
those of the weights as given; where they differ by more than rounding, nothing is written. The
command ends with the lines of Python that read the file, LINES.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cnns
from cnns import convert, layers, tensors, weights
from experiments import files, machine
from experiments.errors import UserError, check_writable, command, printable, reason
from experiments.models.to_onnx import INPUT, missing, to_onnx
from experiments.options import Parser, field
from experiments.plan import start
from experiments.progress import note
from experiments.train.start import is_own, nameless

SUFFIXES = {'stablehlo': '.stablehlo', 'onnx': '.onnx', 'torch': '.safetensors'}
# Python that reads a file {path} of each format; images: float32 [N, H, W, C], normalised
LINES = {
    'onnx': (
        'import onnxruntime',
        "logits = onnxruntime.InferenceSession({path!r}).run(None, {{'images': images}})[0]",
    ),
    'stablehlo': (
        'import jax.export',
        "logits = jax.export.deserialize(bytearray(open({path!r}, 'rb').read())).call(images)",
    ),
    'torch': (
        'import safetensors.torch',
        'model.load_state_dict(safetensors.torch.load_file({path!r}))',
    ),
}
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
BATCHES = (1, 3)
# Of the largest logit. Float32 has 6e-8, and a deep net rounds hundreds of times.
ROUNDING = 1e-4

# Fields that change no logit of an inference, or not more than rounding
_FREE = ('parent', 'name', 'axis_name', 'dtype', 'param_dtype', 'fast', 'initialiser', 'dropout_on')

Logits = Callable[[np.ndarray], np.ndarray]  # images float32 [N, H, W, C] -> float32 [N, classes]


class Given(NamedTuple):
    """Weights as they were read."""

    net: layers.Net  # in float32, with the forms of every platform
    variables: dict[str, Any]
    metadata: dict[str, Any]  # of cnns.weights
    size: tuple[int, int, int]  # of the images: height, width, channels


def read(path: str, model: str | None, fields: dict[str, Any], side: int | None) -> Given:
    """Reads weights of our own, or those of PyTorch's net `model` with these fields.

    path: a file, a work directory with one run, or a run of it.
    side: of the images in pixels; None: that of the training, or else of the net's paper.

    Raises:
      UserError: no such file, not the weights of the net, or a net that takes no such images.
    """
    path = str(start.file_of(path, '--weights'))
    try:
        own = is_own(path)
        if own and (model or fields):
            option = '--model' if model else '--field'
            raise UserError(f'{path} says what its net is: leave out {option}.')
        if model:
            net, variables, notes = convert.read(path, model, **fields)
            for text in notes:
                note(f'{path}: {text}')
            metadata: dict[str, Any] = {'net': convert.LAYOUTS[model].net}
            metadata['fields'] = _fields(net, cnns.build(metadata['net']))
        elif own:
            variables, metadata = weights.load(path)
            net = weights.build(metadata)
        else:
            raise nameless(path, convert.load(path))
    except OSError as error:
        raise UserError(f'{path} cannot be read ({reason(error)}).') from error
    except ValueError as error:
        raise UserError(str(error)) from error
    net = net.clone(dtype=jnp.float32, param_dtype=jnp.float32, axis_name=None, fast=False)
    # What is not the net's, such as a mean image, stays behind
    variables = {name: variables[name] for name in ('params', 'batch_stats') if name in variables}
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables)
    side = side or metadata.get('resolution')
    height, width, _ = cnns.NETS[metadata['net']].input
    size = (side or height, side or width, net.channels)
    try:
        jax.eval_shape(
            lambda v, x: net.apply(v, x, train=False),
            variables,
            jax.ShapeDtypeStruct((1, *size), np.float32),
        )
    except Exception as error:
        raise UserError(f'{metadata["net"]} on images of {size[1]}x{size[0]}: {error}') from error
    return Given(net, variables, metadata, size)


def logits_of(net: layers.Net, variables: dict[str, Any]) -> Logits:
    """The logits of a net with these weights, by its fast forms."""
    own = net.clone(fast=True)
    apply = jax.jit(lambda variables, images: own.apply(variables, images, train=False))
    return lambda images: np.asarray(apply(variables, images))


def compare(given: Given, other: Logits) -> tuple[float, float]:
    """The largest difference between our logits and others, on random images, and our largest.

    Raises:
      UserError: ours are not finite.
    """
    ours, draws = logits_of(given.net, given.variables), np.random.default_rng(0)
    difference = largest = 0.0
    for count in BATCHES:
        images = draws.standard_normal((count, *given.size), np.float32)
        expected = ours(images)
        found = np.asarray(other(images))
        if not np.isfinite(expected).all():
            raise UserError('the weights give random images logits that are not finite.')
        apart = np.abs(expected - found).max() if found.shape == expected.shape else np.nan
        difference = max(difference, float(apart) if np.isfinite(apart) else np.inf)
        largest = max(largest, float(np.abs(expected).max()))
    return difference, largest


# --- formats -----------------------------------------------------------------------------------


def to_stablehlo(given: Given) -> tuple[bytes, Logits]:
    """The net with its weights, for PLATFORMS and any batch, as jax.export writes it."""
    (batch,) = jax.export.symbolic_shape('N')
    apply = jax.jit(lambda images: given.net.apply(given.variables, images, train=False))
    images = jax.ShapeDtypeStruct((batch, *given.size), np.float32)
    data = bytes(jax.export.export(apply, platforms=PLATFORMS)(images).serialize())
    back = jax.export.deserialize(bytearray(data))
    return data, lambda images: np.asarray(back.call(images))


def to_onnx_model(given: Given) -> tuple[bytes, Logits]:
    """The net with its weights as an ONNX model, and its logits by onnxruntime.

    Raises UserError where a package is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing() from error
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in given.metadata.items()
    }
    data = to_onnx(given.net, given.variables, given.size, texts)
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return data, lambda images: session.run(None, {INPUT: images})[0]


def to_torch(given: Given) -> tuple[bytes, tuple[float, float], str]:
    """The state dict in the layout of LAYOUTS that computes the same, `compare` of it, its name.

    Raises:
      UserError: there is none, with what each of the net's layouts has differently.
    """
    net, reasons = given.net, []
    for model, layout in convert.LAYOUTS.items():
        if layout.net != given.metadata['net']:
            continue
        for fields in ({}, *layout.variants):
            fields = fields | {field: getattr(net, field) for field in layout.unsaid}
            same = convert.build(model, classes=net.classes, channels=net.channels, **fields)
            try:
                data = tensors.to_bytes(convert.to_torch(model, given.variables, **fields))
                back = convert.from_torch(model, tensors.read_safetensors(data), **fields)
                found = compare(given, logits_of(same, back))
            except ValueError:
                found = np.inf, 0.0
            if _fits(*found):
                texts = ', '.join(f'{key}={value}' for key, value in fields.items())
                return data, found, f'{model}{f" with {texts}" if texts else ""}'
            differ = ', '.join(
                f'{key}={value!r}' for key, value in _fields(same, net).items() if key not in fields
            )
            reasons.append(f'{model} there has {differ or "other windows at this side"}')
    if not reasons:
        known = dict.fromkeys(layout.net for layout in convert.LAYOUTS.values())
        reasons = [f'layouts are known of {", ".join(known)}']
    raise UserError(
        f'no layout of PyTorch has what this {given.metadata["net"]} computes: '
        f'{"; ".join(reasons)}. --to onnx and stablehlo take every net.'
    )


def _fields(net: layers.Net, other: layers.Net) -> dict[str, Any]:
    """The fields of a net in which it differs from another one."""
    names = [field.name for field in dataclasses.fields(net) if field.name not in _FREE]
    return {
        name: getattr(net, name) for name in names if getattr(net, name) != getattr(other, name)
    }


def _fits(difference: float, largest: float) -> bool:
    return difference <= ROUNDING * largest


# --- the command -------------------------------------------------------------------------------


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog='python -m experiments.export',
        description='Writes a net with its weights for other programs, checked against our own '
        'logits.',
        epilog=f'models: {", ".join(convert.LAYOUTS)}',
    )
    words = 'weights of our own (.safetensors), or with --model of PyTorch'
    made.add_argument('--weights', required=True, metavar='FILE', help=words)
    made.add_argument(
        '--model', choices=convert.LAYOUTS, metavar='NAME', help="the net of PyTorch's weights"
    )
    words = 'a field of that net, such as pool=max; may be given several times'
    made.add_argument('--field', action='append', default=[], metavar='NAME=VALUE', help=words)
    words = 'the format: stablehlo, onnx, or torch (the layout of torchvision)'
    made.add_argument('--to', required=True, choices=SUFFIXES, metavar='FORMAT', help=words)
    endings = ', '.join(SUFFIXES.values())
    made.add_argument('--out', required=True, metavar='FILE', help=f'what is written: {endings}')
    words = 'the net takes N x N images; default: those of the training, or of its paper'
    made.add_argument('--side', type=int, metavar='N', help=words)
    return made


def describe(given: Given) -> list[str]:
    """Lines on what the net takes and gives."""
    metadata, size = given.metadata, given.size
    names = metadata.get('class_names')
    fields = ''.join(f', {key}={value}' for key, value in metadata.get('fields', {}).items())
    lines = [f'net: {metadata["net"]}{fields}']
    lines.append(f'classes: {", ".join(names) if names else f"{given.net.classes}, not named"}')
    how = 'normalised as in the training, which the weights do not tell'
    mean, std = (metadata.get(key) for key in ('mean', 'std'))
    if std:
        mean = f'mean {_numbers(mean)}' if mean else "the tensor 'input/mean_image' of the weights"
        how = f'pixels / 255, {mean} subtracted, divided by {_numbers(std)}'
    shorter = min((metadata.get('shape') or size)[:2])
    cut = f'the middle of images of a shorter side of {shorter}, ' if shorter > size[0] else ''
    lines.append(f'images: float32 [N, {", ".join(map(str, size))}], {cut}{how}')
    return [printable(line) for line in lines]


def _numbers(values: list[float]) -> str:
    return ', '.join(f'{value:.4g}' for value in values)


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(argv)
    out = pathlib.Path(args.out)
    if out.suffix != SUFFIXES[args.to]:
        raise UserError(f'--out is {out}; --to {args.to} writes {SUFFIXES[args.to]}.')
    if args.side is not None and args.side < 1:
        raise UserError(f'--side is {args.side}, it must be at least 1 pixel.')
    machine.prepare()
    machine.check_devices()
    check_writable(out)
    given = read(args.weights, args.model, dict(map(field, args.field)), args.side)
    layout = ''
    # A CPU rounds to float32, an accelerator may not; every machine with JAX has one
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
        if args.to == 'torch':
            data, (difference, largest), layout = to_torch(given)
        else:
            data, logits = (to_onnx_model if args.to == 'onnx' else to_stablehlo)(given)
            difference, largest = compare(given, logits)
    if not _fits(difference, largest):
        raise UserError(
            f'the logits differ by {difference:.2g}, where the largest is {largest:.3g}: more than '
            f'rounding explains. {out} is not written.'
        )
    files.write_whole(out, data)
    print(*describe(given), sep='\n')
    if layout:
        print(f'layout: {layout}')
    batches = ' and '.join(map(str, BATCHES))
    words = f'logits of up to {largest:.3g} differ by at most {difference:.1e}'
    print(f'checked with batches of {batches}: {words}')
    print(f'written: {printable(out)} ({len(data) / 1e6:.1f} MB). In Python:')
    for line in LINES[args.to]:
        print('   ', printable(line.format(path=str(out))))
    return 0
