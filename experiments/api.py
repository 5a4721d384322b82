"""Training, evaluation and prediction from Python and notebooks.

    from configs import resnet_cifar10
    from experiments.api import evaluate, predict, train

    result = train(resnet_cifar10.get_config('20'))
    print(result.row['test/error'], result.curve[-1]['validation/error'])
    print(predict(result, ['frog.jpg'])[0]['best'][0]['name'])

The numbers are those of the commands `python -m experiments.run`, `evaluate` and `predict` with the
same config. Nothing is written but by `Result.save`, and where config.data.cache names a folder. No
flags and no signals are read or changed, and any thread may call. A mistake is a `UserError`, whose
text is the line that the command prints.

Tables and figures over arms and seeds, interruption and several workers are of experiments.run.
"""

import copy
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from experiments import data, machine
from experiments import train as training
from experiments.data.decode import image_of
from experiments.environment import environment
from experiments.errors import UserError, one_of, shown
from experiments.evaluation import command, ready
from experiments.evaluation import predict as prediction
from experiments.evaluation.command import PARTS, Evaluation
from experiments.evaluation.ready import Ready
from experiments.files import write_whole
from experiments.plan import config as configs
from experiments.plan import runs
from experiments.preprocess import views as looks
from experiments.progress import note
from experiments.runner import inputs, rows
from experiments.train import checkpoint, saved
from experiments.train.loop import Diverged

__all__ = ['Diverged', 'Evaluation', 'Ready', 'Result', 'UserError', 'evaluate', 'load', 'predict']
__all__ += ['prepare', 'train']


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a training gives.

    rows: of every run as in results.jsonl; those that chose the learning rate come first.
    curves: {row['point']: a dict for each epoch}. weights: the final net, ready for images.
    dataset: that it was trained on, as its splits.
    """

    rows: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    weights: Ready
    dataset: data.Dataset
    config: ConfigDict  # a copy of the one that was given

    @property
    def row(self) -> dict[str, Any]:
        """The row of the final run: 'test/error' and others, errors as fractions."""
        return self.rows[-1]

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The epochs of the final run: 'epoch', 'train/loss', 'validation/error', ..."""
        return self.curves[self.row['point']]

    @property
    def net(self):
        """The Flax module: net.apply(variables, prepare(images), train=False) gives logits."""
        return self.weights.net

    @property
    def variables(self) -> dict[str, Any]:
        """{'params': ..., 'batch_stats': ...} of NumPy arrays, float32."""
        return self.weights.variables

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.dataset.classes

    @property
    def mean(self) -> np.ndarray:
        """float32 [C], of the training images / 255."""
        return self.dataset.mean

    @property
    def std(self) -> np.ndarray:
        """float32 [C], of the training images / 255."""
        return self.dataset.std

    def prepare(self, images: Any) -> np.ndarray:
        """What the net sees of images, as `prepare` says."""
        return prepare(self, images)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the weights as experiments.run does; every command takes the file.

        Raises:
          UserError: the name does not end in .safetensors.
          OSError: it cannot be written.
        """
        if pathlib.Path(path).suffix != '.safetensors':
            raise UserError(f'{path}: weights are written as .safetensors; change the name.')
        assert self.weights.content is not None  # of every result
        write_whole(path, self.weights.content)


def train(
    config: ConfigDict, on_epoch: Callable[[dict[str, Any]], None] = lambda line: None
) -> Result:
    """Trains the net of a config: of configs.base.get_config() or of any recipe in configs/.

    With config.protocol.rates, the learning rate is chosen among them first. config.seed is the
    seed of the final run. on_epoch gets the line of each epoch, as in Result.curve.

    Raises:
      UserError: a field that no run could use; data set, net, batch and devices do not fit.
      Diverged: the loss of the final run is no longer finite.
    """
    plan = runs.plan_of(configs.of_config(config))
    (arm,) = plan.arms
    machine.check_devices()
    with jax.enable_x64(False):
        training.device_count(arm.config, arm.together)
        dataset = _dataset(arm.config.data, arm.config.train.batch)
        inputs.describe(plan, {arm.label: dataset})  # checks, and says what the weights begin with
        made_by = environment()
        found: dict[str, dict[str, Any]] = {}
        curves: dict[str, list[dict[str, Any]]] = {}

        def fit(run: runs.Run) -> Any:
            """Trains a run, keeps its row, returns its variables."""
            curve = curves[run.name] = []

            def on_line(index, line):
                curve.append(line)
                on_epoch(line)

            kept: dict[int, Any] = {}
            (outcome,) = training.fit_together(
                [run.config],
                dataset,
                on_line,
                final=run.phase == runs.FINAL,
                on_end=kept.__setitem__,
            )
            columns = rows.outcome_columns(outcome)
            found[run.name] = rows.row_of(run, plan.name, dataset, made_by, columns)
            if isinstance(outcome, Diverged) and run.phase == runs.FINAL:
                raise outcome
            return kept.get(0)

        while new := [run for run in plan.trials(arm, found) if run.name not in found]:
            for run in new:
                fit(run)
        trials = plan.trials(arm, found)
        rate = runs.choose_learning_rate(trials, found, arm.config.protocol)
        if trials and rate is None:
            raise Diverged(
                f'no learning rate of the grid trained: {found[trials[-1].name]["reason"]}'
            )
        (run,) = plan.finals(arm, rate)
        variables = fit(run)
        of = {key: getattr(run, key) for key in ('arm', 'phase', 'seed', 'learning_rate', 'name')}
        of |= {'title': plan.title, 'experiment': plan.name}
        content = saved.pack(variables, run.config, dataset, of)
        found[run.name]['weights'] = checkpoint.digest_of(content)
        weights = ready.of_content(content, pathlib.Path(f'run {run.name}'))
    return Result([*found.values()], curves, weights, dataset, copy.deepcopy(run.config))


def load(
    path: str | os.PathLike,
    *,
    model: str | None = None,
    fields: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: int | None = None,
    classes: Sequence[str] | None = None,
) -> Ready:
    """Weights in a file, a work directory or a run of it; what is used is printed as notes.

    model: the net of PyTorch's weights; fields: of that net. mean, std: one number for each
    channel, of pixels in 0..1. resize: pixels of the shorter side. classes: their names.

    Raises:
      UserError: no such file, no weights, weights of another net; numbers or names do not fit.
    """
    words = tuple(f'{name}={value}' for name, value in (fields or {}).items())
    net = ready.read(
        ready.Asked(os.fspath(path), model, words, _text(mean), _text(std), resize=resize)
    )
    if classes is not None:
        if len(classes) != net.count:
            raise UserError(f'{len(classes)} classes are named, the weights have {net.count}.')
        net = dataclasses.replace(net, classes=tuple(classes))
    for line in net.used(looks.views('centre', net.trained)):
        note(line)
    return net


def evaluate(
    weights: Result | Ready | str | os.PathLike,
    config: ConfigDict | None = None,
    *,
    part: str = 'test',
    fields: Mapping[str, Any] | None = None,
) -> Evaluation:
    """The error of weights on a part of a data set: 'train', 'validation' or 'test'.

    weights: the result of `train`, of `load`, or a path. config: whose data set and views are
    used; None: those of the training. fields: changes to it, {'data.name': 'cifar10'}.

    Raises:
      UserError: weights, data set and views do not fit together.
    """
    if part not in PARTS:
        raise one_of('part', part, PARTS)
    net = _ready(weights)
    if config is not None:
        config = configs.of_config(config).make()
    machine.check_devices()
    with jax.enable_x64(False):
        made = command.config_of(net, config, [*(fields or {}).items()])
        fits = command.fitted(net, made, _dataset(made.data))
        return command.evaluate(net, made, part, *fits)


def predict(
    weights: Result | Ready | str | os.PathLike,
    images: Any,
    *,
    views: str = 'centre',
    batch: int = 32,
) -> list[dict[str, Any]]:
    """The five best classes of images: {'image': its path, 'best': [{'class', 'name',
    'probability'}, ...]} of each.

    images: paths of images of any size or of folders of them, one or several; or arrays uint8
    [H, W, C], one [n, H, W, C] or a list of them. Arrays are called by their place. views: of the
    paper, whose softmax is averaged, one of configs.base.VIEWS.

    Raises:
      UserError: an image that cannot be read, or weights that cannot be used.
    """
    if views not in configs.base.VIEWS:
        raise one_of('views', views, configs.base.VIEWS)
    net = _ready(weights)
    names, pixels = _given(images)
    machine.check_devices()
    with jax.enable_x64(False):
        seen = looks.views(views, net.trained)
        found = prediction.probabilities(net, seen, names, batch, pixels)
        return [{'image': name, 'best': prediction.best(row, net.classes)} for name, row in found]


def prepare(weights: Result | Ready | str | os.PathLike, images: Any) -> np.ndarray:
    """What a net sees of images, which are given as in `predict`: float32 [n, h, w, C].

    Scaled, their middle cut out, and normalised as in the training: what `net.apply` takes, and the
    files that experiments.export writes.

    Raises:
      UserError: an image that cannot be read, or weights that cannot be used.
    """
    net = _ready(weights)
    names, pixels = _given(images)
    how = net.trained.shape, net.whole, net.border
    read = (
        [prediction.read_image(name, *how)[0] for name in names]
        if pixels is None
        else [prediction.fit(image, name, *how)[0] for name, image in zip(names, pixels)]
    )
    with jax.enable_x64(False):
        (prepared,) = looks.views('centre', net.trained)(np.stack(read))
        return np.asarray(prepared)


def _given(images: Any) -> tuple[Sequence[Any], list[Image.Image] | None]:
    """The paths of images, or their places and the images where arrays are given.

    Raises:
      UserError: no image is given, or a folder has none, or an array is none of an image.
    """
    if isinstance(images, str | os.PathLike):
        images = [images]
    if not len(images):
        raise UserError('no image is given: name files or folders, or give arrays.')
    if any(isinstance(image, str | os.PathLike) for image in images):
        return prediction.files([os.fspath(image) for image in images]), None
    return range(len(images)), [_image(image) for image in images]


def _ready(weights: Any) -> Ready:
    if isinstance(weights, Result):
        return weights.weights
    return weights if isinstance(weights, Ready) else load(weights)


def _text(numbers: Sequence[float] | None) -> str | None:
    return None if numbers is None else ','.join(map(str, numbers))


def _image(array: Any) -> Image.Image:
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise UserError(
            f'an image is {array.dtype} {shown(list(array.shape))}, it must be uint8 [H, W, 1] or '
            '[H, W, 3] of values 0 to 255.'
        )
    return image_of(array)


_kept: dict[str, data.Dataset] = {}  # the latest one: several calls in a row read one set


def _dataset(fields: ConfigDict, least: int = 0) -> data.Dataset:
    """`data.load` that keeps the latest set in memory, and on disk only where that is asked for."""
    if fields.cache is None:
        fields = copy.deepcopy(fields)
        fields.cache = 'read'
    source, found = opened = data.open_splits(fields)
    stamps = {use: (split.fingerprint, split.stamp) for use, split in found.items()}
    key = json.dumps([fields.to_dict(), stamps, source.classes], sort_keys=True)
    dataset = _kept.get(key)
    if dataset is None:
        _kept.clear()
        dataset = data.load(fields, least=least, opened=opened)
        _kept[key] = dataset
    return dataset
