"""The error of weights on a split of a data set.

    python -m experiments.evaluate --weights runs/lenet_mnist-modern
    python -m experiments.evaluate --weights resnet20.th --model resnet20 --config.data.name=cifar10

Without a config, weights of ours are evaluated on the data set of their training, with its views;
--config.data.FIELD and --config.evaluation.FIELD change both. The folder that is written is a work
directory with one row, as a training has: experiments.report compares it with others.
"""

import copy
import json
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import base
from experiments import bits, data, machine, tables
from experiments.data import contact
from experiments.environment import environment
from experiments.errors import UserError, command, counted, listed, printable
from experiments.evaluation import figures, measured, page, ready
from experiments.evaluation.measured import Measured
from experiments.evaluation.ready import Ready
from experiments.files import digest, sealed
from experiments.options import Parser
from experiments.plan import config as configs
from experiments.plan.checks import resolve
from experiments.preprocess import views
from experiments.progress import note
from experiments.train.step import loss_of
from experiments.workdir import WorkDir, check_name

PARTS = ('train', 'validation', 'test')
_PRINTED = 20  # classes
_MISTAKES = 24  # images


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog='python -m experiments.evaluate',
        description='Measures the error of weights on a split of a data set and writes a page.',
        epilog='--config.data.FIELD=VALUE and --config.evaluation.FIELD=VALUE set fields of '
        'configs/base.py: data.name, data.resize, evaluation.views and others. Default: those of '
        'the training.',
    )
    ready.add_arguments(made)
    words = 'a config whose data set and views are used'
    made.add_argument('--config', metavar='FILE[:ARGUMENT]', help=words)
    made.add_argument(
        '--part',
        choices=PARTS,
        default='test',
        metavar='NAME',
        help=f'{", ".join(PARTS)}, as a training divides the set (default: test)',
    )
    made.add_argument('--workdir', metavar='DIR', help='default: runs/evaluate-WEIGHTS-DATA-PART')
    made.add_argument('--json', action='store_true', help='print the same as JSON')
    return made


class Evaluation(NamedTuple):
    """Weights on a part of a data set."""

    row: dict[str, Any]  # with the keys of a training's
    found: Measured  # of each image
    classes: tuple[str, ...]  # their names
    split: Any  # the images: split.read(places) -> (uint8 [n, H, W, C], labels)
    texts: list[str]  # what was found, in sentences
    used: list[str]  # how the images were prepared, in lines
    dataset: data.Dataset
    environment: dict[str, Any]

    @property
    def title(self) -> str:
        """'modern LeNet-5 (0123456789ab) on test of digits'."""
        return f'{self.row["arm"]} on {self.row["evaluation"]["part"]} of {self.dataset.name}'

    @property
    def confusion(self) -> np.ndarray:
        """int64 [classes, classes]: images of the class of the row, guessed as the column's."""
        return measured.confusion(self.found)

    @property
    def wrong(self) -> np.ndarray:
        """int64 [n]: places of the images that are misread, the most confident first."""
        return measured.most_wrong(self.found, len(self.found.labels))


def fitted(
    net: Ready, config: ConfigDict, dataset: data.Dataset | None = None
) -> tuple[data.Dataset, views.Views, list[str]]:
    """The data set of a config, its views, and how the images are prepared for a net, in lines.

    dataset: that of config.data, where it is read already.

    Raises:
      UserError: data set, weights and views do not fit together.
    """
    if dataset is None:
        opened = data.open_splits(config.data)
        check_classes(net, config.data.name, tuple(opened[0].classes))  # before images are read
        dataset = data.load(config.data, opened=opened)
    unsaid = check_classes(net, config.data.name, tuple(dataset.classes))
    seen = views.views(
        config.evaluation.views, net.of_shape(dataset.shape), tuple(config.evaluation.scales)
    )
    return dataset, seen, [*net.used(seen), *filter(None, [unsaid])]


def evaluate(
    net: Ready,
    config: ConfigDict,
    part: str,
    dataset: data.Dataset,
    seen: views.Views,
    used: list[str],
) -> Evaluation:
    """Measures weights on a part of a data set; the last three are of `fitted`.

    Raises:
      UserError: the scores of an image are not finite.
    """
    split = getattr(dataset, part)
    found = measured.measure(net, seen, split, loss_of(net.config or config, train=False))
    made_by = environment()
    run = net.run
    where = (net.path.parent if run and net.content is None else net.path).name
    row = row_of(
        net,
        found,
        dataset,
        part,
        {
            'point': digest(net.digest, dataset.found, part, seen.name, used)[:12],
            'experiment': printable(name_of(net, config, part)),
            'arm': printable(f'{run.get("arm", net.name)} ({where})'),
            'seed': run.get('seed', 0),
            'learning_rate': run.get('learning_rate'),
            'git_revision': made_by['git_revision'],
            'code': made_by['code'],
            'evaluation': {'part': part, 'views': seen.name, 'used': used},
        },
    )
    names = tuple(net.classes or dataset.classes)
    return Evaluation(row, found, names, split, findings(found, part), used, dataset, made_by)


def name_of(net: Ready, config: ConfigDict, part: str) -> str:
    """'evaluate-0123456789ab-digits-test'."""
    stem = net.run.get('name') or net.path.stem
    known = config.data.name.rstrip('/')
    short = known.rpartition('/')[2] if known.startswith('folder:') else known
    return f'evaluate-{stem}-{short}-{part}'


def config_of(
    net: Ready,
    config: ConfigDict | None,
    assignments: Sequence[tuple[str, Any]],
    resize: int | None = None,
) -> ConfigDict:
    """The config whose groups `data` and `evaluation` are used.

    config: that is asked for; None: of the training, on its data set or another one.

    Raises:
      UserError: no data set is named, or a field of another group is set.
    """
    for path, _ in assignments:
        if path.partition('.')[0] not in ('data', 'evaluation'):
            raise UserError(
                f'--config.{path} would have no effect: an evaluation reads the groups data and '
                'evaluation.'
            )
    given, side = dict(assignments), 0
    if config is not None:
        config = copy.deepcopy(config)
    else:
        known, name = net.config, given.get('data.name')
        if known is None and name is None:
            raise UserError(
                f'{net.path} does not say which data set it is for: name one with '
                '--config.data.name=NAME.'
            )
        config = base.get_config() if known is None else copy.deepcopy(known)
        if known is None or name not in (None, known.data.name):  # another data set
            side = net.trained.shape[0] if net.trained.shape[0] == net.trained.shape[1] else 0
            border = net.border
            changes = dict(resize=0 if border else side, side=border, channels=net.net.channels)
            config.data.update(base.get_data().to_dict() | changes)
    if resize is not None:
        configs.set_field(config, 'data.resize', resize)
    for path, value in assignments:
        configs.set_field(config, path, value)
    resolve(config)
    if side and resize is None and 'data.resize' not in given:
        _, found = data.open_splits(config.data)
        if found['train'].size[:2] == (side, side):  # they are of that size
            config.data.resize = 0
    return config


def check_classes(net: Ready, name: str, own: tuple[str, ...]) -> str:
    """A note where the weights do not name their classes, or ''.

    Raises:
      UserError: the data set's classes are not those of the weights.
    """
    if net.classes is None and net.count == len(own):
        return (
            f'the weights do not name their {net.count} classes: taken to be those of '
            f'{name}, in its order; --class_names names them'
        )
    if net.classes is not None and tuple(net.classes) == tuple(own):
        return ''
    theirs = counted(net.count, 'class', 'classes')
    if net.classes is not None:
        theirs += f' ({listed(net.classes, 10)})'
    remedy = 'Evaluate on a data set with the same classes'
    if net.classes is not None and set(net.classes) <= set(own):
        remedy = f'Choose them in that order: --config.data.classes={",".join(net.classes)}'
    raise UserError(
        f'{net.path} is for {theirs}, {name} has {len(own)} ({listed(own, 10)}). {remedy}.'
    )


def findings(found: Measured, part: str) -> list[str]:
    """What was found, in sentences."""
    total, wrong = len(found.labels), int((~found.right).sum())
    _, calibration = measured.reliability(found)
    texts = [
        f'{part} error: {page.percents(wrong, total)} %, {wrong:,} of {counted(total, "image")} '
        'wrong (95 % interval over images, Clopper-Pearson; it does not cover the training)'
    ]
    if found.errors5 is not None:
        texts.append(
            f'top-5 error: {page.percents(int(found.errors5.sum()), total)} % (the right class is '
            'not among the five best)'
        )
    sure = 100 * float(found.confidences.mean())
    texts.append(
        f'mean loss {found.losses.mean():.4f}; mean confidence {sure:.2f} %, expected calibration '
        f'error {100 * calibration:.2f} points over {measured.BINS} bins'
    )
    texts += [f'mean {name} {values.mean():.4g}' for name, values in found.others.items()]
    return texts


def row_of(
    net: Ready, found: Measured, dataset: data.Dataset, part: str, made: dict[str, Any]
) -> dict[str, Any]:
    """The row of an evaluation, with the keys of a training's. made: point, arm and so on."""
    total, wrong = len(found.labels), int((~found.right).sum())
    low, high = measured.interval(wrong, total)
    row = made | {
        'phase': 'final',
        'overrides': {},
        'dataset': dataset.name,
        'data_found': dataset.found,
        'model': net.name,
        'weights': net.digest,
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(net.variables['params'])),
        'devices': 1,
        'status': 'done',
        'reason': '',
        f'{part}/loss': float(found.losses.mean()),
        f'{part}/error': wrong / total,
        f'{part}/count': total,
        f'{part}/right': bits.pack(found.right),
    }
    if found.errors5 is not None:
        row[f'{part}/error5'] = float(found.errors5.mean())
    for name, values in found.others.items():
        row[f'{part}/{name}'] = float(values.mean())
    row['evaluation']['interval'] = [low, high]
    return row


def as_json(made: Evaluation) -> dict[str, Any]:
    """What --json prints: the row, each class, the confusion matrix, the calibration."""
    table, names = made.confusion, made.classes
    bins, calibration = measured.reliability(made.found)
    classes = [
        {
            'name': names[one.place],
            'images': one.images,
            'errors': one.errors,
            'taken_for': None if one.taken_for is None else names[one.taken_for],
            'times': one.times,
        }
        for one in measured.per_class(table)
    ]
    return {
        'row': made.row,
        'classes': classes,
        'confusion': table.tolist(),
        'reliability': [one._asdict() for one in bins],
        'calibration_error': calibration,
    }


def plan_of(row: dict[str, Any], title: str, words: str, dataset: data.Dataset) -> dict[str, Any]:
    """plan.json of the work directory, of one arm with one run."""
    arm, rate = row['arm'], row['learning_rate']
    rates = [] if rate is None else [rate]
    run = {key: row[key] for key in ('arm', 'phase', 'seed', 'learning_rate', 'overrides')}
    return {
        'experiment': row['experiment'],
        'title': printable(title),
        'command': printable(words),
        'dataset': printable(dataset.name),
        'dataset_note': printable(dataset.note),
        'model': row['model'],
        'arms': [arm],
        'arm_seeds': {arm: [row['seed']]},
        'seeds': [row['seed']],
        'rates': rates,
        'arm_rates': {arm: rates},
        'level': measured.LEVEL,
        'points': [row['point']],
        'runs': {row['point']: run},
    }


@command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args, assignments = configs.parse(parser(), argv)
    machine.prepare()
    machine.check_devices()
    net = ready.read(ready.asked(args))
    given = configs.read_config(args.config).make() if args.config else None
    config = config_of(net, given, assignments, args.resize)
    name = name_of(net, config, args.part)
    folder = pathlib.Path(args.workdir or 'runs/' + re.sub(r'[^\w.-]+', '_', name))
    check_name(folder)
    fits = fitted(net, config)
    workdir = WorkDir(folder, printable(name))
    for line in fits[-1]:
        note(line)
    made = evaluate(net, config, args.part, *fits)
    row, found, names, split, texts, used, dataset, made_by = made
    title = made.title
    table, words = made.confusion, f'python -m experiments.evaluate {shlex.join(argv)}'
    workdir.write('plan.json', json.dumps(sealed(plan_of(row, title, words, dataset)), indent=1))
    workdir.add(row)
    classes = measured.per_class(table)
    bins, _ = measured.reliability(found)
    wrong = measured.most_wrong(found, _MISTAKES)
    images = split.read(wrong)[0] if len(wrong) else []
    captions = [
        f'{names[found.labels[i]]}, taken for {names[found.guesses[i]]} '
        f'({100 * found.confidences[i]:.1f} %), image {i}'
        for i in wrong
    ]
    with workdir.writing():
        drawn = (classes, table, bins, names)
        written = figures.write(figures.render(title, *drawn), folder / 'figure')
        if len(wrong):
            written.append(_sheet(images, found, wrong, names, folder / 'mistakes.png', title))
        text = page.make(
            title,
            words,
            used,
            texts,
            figures.panels(*drawn),
            page.class_table(classes, names),
            list(zip(images, captions)),
            dataset.note,
            made_by,
        )
    workdir.write('evaluation.html', text)
    written.append(folder / 'evaluation.html')
    worst = sorted(classes, key=lambda one: -one.errors / max(one.images, 1))[:_PRINTED]
    kept = [one for one in classes if one in worst]
    if args.json:
        print(json.dumps(as_json(made) | {'written': list(map(str, written))}, indent=1))
        return 0
    console = tables.Console()
    console.print(tables.Terminal(*page.class_table(kept, names), title=title))
    if len(kept) < len(classes):
        console.print(f'the {len(kept)} worst of {len(classes)} classes; the page has all')
    for line in texts:
        console.print(line)
    console.print(f'written: {", ".join(map(str, written))}')
    return 0


def _sheet(images, found, wrong, names, path, title) -> pathlib.Path:
    """The most wrong images as one PNG, each with its class and what it was taken for."""
    columns = min(8, len(wrong))
    figure, axes, _ = contact.grid(-(-len(wrong) // columns), columns, title, captions=2)
    for axis, image, place in zip(axes.flat, images, wrong):
        contact.show(axis, image / 255)
        right, guess = (names[of[place]] for of in (found.labels, found.guesses))
        axis.set_xlabel(f'{contact.short(right)}\ntaken for {contact.short(guess)}', fontsize=7)
    return contact.write(figure, path)
