"""Contact sheets: what a config's augmentation and evaluation make of images of its train split.

    python -m experiments.sheets --config configs/lenet_mnist.py --config.augment.affine=true
    python -m experiments.sheets --config configs/lenet_mnist.py --each
    python -m experiments.sheets --config configs/lenet_mnist.py --views

The plain sheet has a row for each image: the image, then what the net sees of it in several
epochs. --each has a row for each kind of augmentation, as the config sets it or else as its paper
does in proportion to the image, all of one image, with what was drawn; the frames on the left show
where the crops come from. --views has the views that an evaluation averages.

Images are shown as the net gets them, only with the mean of the channels added back and values
outside 0 to 1 cut off.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict

from experiments import data, machine
from experiments.data import contact
from experiments.data.crops import Drawn
from experiments.errors import UserError, command
from experiments.options import Parser
from experiments.plan import checks
from experiments.plan import config as configs
from experiments.preprocess import augment, photometric, resample, views
from experiments.style import COLOURS

MOST = 60  # images of a sheet of views
_SUBTRACTED = {
    'channel': 'mean of each channel subtracted',
    'channel_std': 'each channel to mean 0 and deviation 1',
    'pixel': 'mean of each pixel subtracted',
}


# --- sheets ----------------------------------------------------------------------------------


def augmented(config: ConfigDict, dataset: data.Dataset, count: int = 4, draws: int = 7) -> Figure:
    """A row for each of `count` images of the train split: the image, then `draws` draws of it."""
    augmentation = augment.of_config(config, dataset)
    function = jax.jit(augmentation)
    keys = jax.random.split(jax.random.PRNGKey(config.seed), draws)
    images, labels = chosen(dataset, count, config.seed)
    given: list[np.ndarray] = [images] * draws
    shown = list(images)
    titles = [kind.title for kind in augmentation.kinds]
    if cut := augmentation.cut:
        split, rows = dataset.train, chosen_rows(dataset, count, config.seed)
        assert isinstance(split, data.Streamed)
        shown, titles = split.whole(rows), [cut.title, *titles]
        given = [
            split.read(rows, Drawn(split.how, cut, config.seed, epoch))[0] for epoch in range(draws)
        ]
    made = [as_shown(function(*each), config, dataset) for each in zip(keys, given)]
    seen = np.stack(made, 1)
    drawn = '; then '.join(titles)
    words = f'{dataset.name}, {_SUBTRACTED[config.augment.subtract]}; '
    words += drawn or 'nothing is drawn at random'
    figure, axes, _ = contact.grid(count, draws + 1, words)
    for row, image, draws_of_it, label in zip(axes, shown, seen, labels):
        contact.show(row[0], image / 255)
        row[0].set_ylabel(contact.short(dataset.classes[label]), fontsize=8)
        for axis, drawn in zip(row[1:], draws_of_it):
            contact.show(axis, drawn)
    axes[0, 0].set_title(f'image {augment.times(shown[0].shape)}', fontsize=8)
    axes[0, 1].set_title(f'the net sees {augment.times(seen.shape[2:4])}', fontsize=8, loc='left')
    return figure


def each(config: ConfigDict, dataset: data.Dataset, draws: int = 7) -> Figure:
    """A row for each kind of augmentation, of one image of the train split."""
    images, labels = chosen(dataset, 1, config.seed)
    kinds = every_kind(config, dataset)
    name = f'{dataset.name}, {dataset.classes[labels[0]]}: each kind of augmentation alone'
    figure, axes, frames = contact.grid(len(kinds), draws + 1, name, captions=2, titles=True)
    # without the mean, as in augment.py, so that zeros are the mean here too
    many = np.repeat(images / np.float32(255) - dataset.mean, draws, 0)
    for (paper, kind), row, frame in zip(kinds, axes, frames):
        key = jax.random.fold_in(jax.random.PRNGKey(config.seed + 1), augment.KEYS[kind.name])
        drawn = jax.device_get(kind.draws(key, draws))
        if kind.name == 'photometric':  # comes before the mean is subtracted
            pixels = np.asarray(jax.jit(kind)(key, np.repeat(images, draws, 0))) / 255
        else:
            pixels = np.asarray(jax.jit(kind)(key, many)) + dataset.mean
        frame.text(0, 0.15, f'{paper}: {kind.title}', fontsize=9, weight='bold')
        contact.show(row[0], images[0] / 255)
        row[0].set_xlabel('the image', fontsize=7)
        for i, (axis, image) in enumerate(zip(row[1:], pixels)):
            contact.show(axis, image)
            own = {name: value[i] for name, value in drawn.items()}
            words = caption(own)
            if kind.name == 'crop':
                _frame(row[0], axis, own['box'], COLOURS[i % len(COLOURS)])
            if kind.name == 'colour':
                moved = np.round(255 * np.mean(image - images[0] / 255, (0, 1))) + 0.0  # no -0
                words += f'\n{" ".join(f"{v:+.0f}" for v in moved)} of 255'
            axis.set_xlabel(words, fontsize=7)
        if kind.name == 'crop':
            _widen(row[0], drawn['box'])
    return figure


def viewed(config: ConfigDict, dataset: data.Dataset) -> Figure:
    """The views of config.evaluation of one image of the train split, the image first."""
    images, labels = chosen(dataset, 1, config.seed)
    given, trained = config.evaluation, augment.of_config(config, dataset)
    shown, split = images[0], dataset.train
    if trained.cut and given.views != 'centre' and isinstance(split, data.Streamed):
        rows = chosen_rows(dataset, 1, config.seed)
        one = dataclasses.replace(split, rows=split.rows[rows])
        ((_, part, made),) = views.parts(given.views, trained, given.scales, one)
        images, (shown,) = part.read(np.arange(1))[0], split.whole(rows)
    else:
        made = views.views(given.views, trained, given.scales)
    counts = np.concatenate([group.counts for group in made.groups])
    different = jax.jit(lambda x: made(x))(images)
    title = f'{dataset.name}, {dataset.classes[labels[0]]}: evaluation views {made.name!r}, '
    title += f'{made.count} in all'
    if made.count != len(different):
        title += f', {len(different)} different (xN: occurs N times)'
    if len(different) > MOST:
        title += f'; {len(different) - MOST} are not shown'
    cells = len(different[:MOST]) + 1
    columns = min(cells, 12)
    figure, axes, _ = contact.grid(-(-cells // columns), columns, title, captions=1)
    contact.show(axes.flat[0], shown / 255)
    axes.flat[0].set_xlabel(f'image {augment.times(shown.shape)}', fontsize=7)
    for axis, view, count in zip(list(axes.flat)[1:], different, counts):
        contact.show(axis, as_shown(view, config, dataset)[0])
        times = f' x{count}' if count > 1 else ''
        axis.set_xlabel(augment.times(view.shape[1:3]) + times, fontsize=7)
    return figure


def every_kind(config: ConfigDict, dataset: data.Dataset) -> list[tuple[str, augment.Kind]]:
    """[(paper, kind)] of all kinds: with a config's values where it switches them on, else with
    the papers' in proportion to the image."""
    height, width, _ = shape = dataset.shape
    short, own = min(height, width), augment.of_config(config, dataset)
    on = {kind.name: kind for kind in own.kinds}
    padding, part = max(short // 8, 1), max(short * 7 // 8, 1)
    scales = -(-short * 8 // 7), short * 16 // 7
    crops = {
        'pad': ('ResNet on CIFAR-10', augment.random_crop(shape, (height, width), padding)),
        'random': ('AlexNet', augment.random_crop(shape, (part, part))),
        'scale': ('VGG', augment.scale_jitter(shape, (short, short), scales)),
        'area': ('GoogLeNet', augment.area_crop(shape, own.size, 'random')),
    }
    if config.augment.crop in crops and 'crop' in on:  # not drawn in the feed
        crops[config.augment.crop] = crops[config.augment.crop][0], on['crop']
    components = augment.needed(data.statistics_of(dataset, {'components'}), 'components')
    return [
        *crops.values(),
        ('AlexNet', augment.mirror()),
        ('AlexNet', on.get('colour', augment.pca_colour(components, 0.1))),
        ('Howard 2013', augment.photometric_distortion()),
        ('LeNet-5 of 1998', augment.affine_distortion(shape)),
    ]


def chosen_rows(dataset: data.Dataset, count: int, seed: int) -> np.ndarray:
    """int64 [n], places of the images that `chosen` gives."""
    total = len(dataset.train.labels)
    return np.random.default_rng(seed).choice(total, min(count, total), replace=False)


def chosen(dataset: data.Dataset, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, H, W, C] and int32 [n]: images of the train split, other ones for another seed."""
    images, labels = dataset.train.read(chosen_rows(dataset, count, seed))
    return np.asarray(images), np.asarray(labels)


def as_shown(
    images: jax.Array | np.ndarray, config: ConfigDict, dataset: data.Dataset
) -> np.ndarray:
    """What a net gets, as pixels on [0, 1]: steps 2 and 7 of augment.py undone per channel."""
    pixels = np.asarray(images, np.float32)
    if config.augment.subtract == 'channel_std':
        pixels = pixels * dataset.std
    else:
        pixels = pixels / config.augment.white
    return pixels + dataset.mean


def caption(draws: dict) -> str:
    """What was drawn for one image, in a line or two."""
    if 'mirrored' in draws:
        return 'mirrored' if draws['mirrored'] else 'as it is'
    if 'S' in draws:
        return f'shorter side {draws["S"]}'
    if 'area' in draws:
        way = f'\n{resample.WAYS[draws["way"]]}' if 'way' in draws else ''
        return f'{100 * draws["area"]:.0f} %, aspect {draws["box"][3] / draws["box"][2]:.2f}{way}'
    if 'factors' in draws:
        short = 'bright', 'contrast', 'colour'  # photometric.NAMES, to fit below an image
        words = [f'{name} {factor:.2f}' for name, factor in zip(short, draws['factors'])]
        first, second, third = photometric.ORDERS[draws['order']]
        return f'{words[first]},\n{words[second]}, {words[third]}'
    if 'box' in draws:
        return f'top {draws["box"][0]}, left {draws["box"][1]}'
    if 'alpha' in draws:
        return 'alpha ' + ' '.join(f'{value:+.2f}' for value in draws['alpha'])
    if not draws['shift'].any() and draws['scale'] == draws['squeeze'] == 1:
        return 'as it is'
    return (
        f'shift {draws["shift"][0]:+.1f} {draws["shift"][1]:+.1f}, scale {draws["scale"]:.2f}'
        f'\nsqueeze {draws["squeeze"]:.2f}, shear {draws["shear"]:+.2f}'
    )


# --- frames ----------------------------------------------------------------------------------


def _frame(whole, crop, box, colour):
    """Marks on the image where a crop comes from, in the colour of the crop's own frame."""
    top, left, height, width = box
    line = dict(fill=False, lw=1.2, color=colour, clip_on=False)
    whole.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, **line))
    for spine in crop.spines.values():
        spine.set(color=colour, linewidth=2)


def _widen(whole, boxes):
    """Room around an image for frames that reach into its padding."""
    low = np.minimum(boxes[:, :2].min(0), 0) - 0.5
    right, bottom = whole.get_xlim()[1], whole.get_ylim()[0]
    ends = (boxes[:, :2] + boxes[:, 2:]).max(0) - 0.5
    whole.set_xlim(low[1], max(ends[1], right))
    whole.set_ylim(max(ends[0], bottom), low[0])


# --- command line ----------------------------------------------------------------------------


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """(flags, [(field, value)]) of a command line. Raises UserError."""
    args, assignments = configs.parse(parser(), argv)
    for flag in ('images', 'draws'):
        if not 1 <= getattr(args, flag) <= 50:
            raise UserError(f'--{flag} is {getattr(args, flag)}, it must be between 1 and 50.')
    return args, assignments


def parser() -> Parser:
    """The command line."""
    words = "Draws what a config's augmentation and evaluation make of images of its train split."
    made = configs.parser('python -m experiments.sheets', words)
    made.add_argument('--out', metavar='FILE', help='the sheet, a .png; default: sheet.png')
    made.add_argument('--images', type=int, default=4, metavar='N', help='rows, default 4')
    words = 'draws of each image, default 7'
    made.add_argument('--draws', type=int, default=7, metavar='N', help=words)
    which = made.add_mutually_exclusive_group()
    words = 'one row for each kind of augmentation, of one image'
    which.add_argument('--each', action='store_true', help=words)
    which.add_argument('--views', action='store_true', help='the views of an evaluation')
    return made


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args, assignments = parse(sys.argv[1:] if argv is None else argv)
    config = configs.read_config(args.config).make()
    for path, value in assignments:
        configs.set_field(config, path, value)
    checks.resolve(config)
    machine.prepare()
    machine.check_devices()
    out = Path(args.out or 'sheet.png')
    if out.suffix.lower() != '.png':
        raise UserError(f'a sheet is a PNG image; --out is {args.out}. Let it end in .png.')
    dataset = data.load(config.data, look=True)
    if args.each:
        figure = each(config, dataset, args.draws)
    elif args.views:
        figure = viewed(config, dataset)
    else:
        figure = augmented(config, dataset, args.images, args.draws)
    print(contact.write(figure, out))
    return 0
