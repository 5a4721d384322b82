"""What a net says of every image of a split, and the numbers that follow from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from experiments import data
from experiments.errors import UserError
from experiments.evaluation import ready
from experiments.evaluation.ready import Ready
from experiments.preprocess import views
from experiments.train.evaluate import METRICS, TOP, rank

LEVEL = 0.95  # of the intervals over images
BINS = 10  # of the reliability diagram
_BATCH, _PIXELS = 500, 2**22  # images of a batch, or fewer where they have more pixels together


class Measured(NamedTuple):
    """One value for each image of a split, in its order."""

    labels: np.ndarray  # int32 [n]
    guesses: np.ndarray  # int32 [n], the most probable class
    ranks: np.ndarray  # int32 [n], how many classes come before the right one
    confidences: np.ndarray  # float32 [n], the probability of the guess
    losses: np.ndarray  # float32 [n]
    others: dict[str, np.ndarray]  # of train.evaluate.METRICS
    classes: int

    @property
    def right(self) -> np.ndarray:
        """bool [n]: the right class comes first."""
        return self.ranks == 0

    @property
    def errors5(self) -> np.ndarray | None:
        """bool [n]: the right class is not among the five best; None with five classes or fewer."""
        return self.ranks >= TOP if self.classes > TOP else None


def measure(net: Ready, seen: views.Views, split: data.InMemory | Any, loss: Callable) -> Measured:
    """Looks at all images of a split. loss: (logits, labels) -> [n].

    Raises:
      UserError: the scores of an image are not finite.
    """
    scores = ready.scorer(net, seen)

    def of_batch(variables, images, labels):
        logits = scores(variables, images)
        chances = jax.nn.softmax(logits)
        others = {name: function(logits, labels) for name, function in METRICS.items()}
        guesses = jnp.argmax(logits, -1)
        values = (guesses, rank(logits, labels), chances.max(-1), loss(logits, labels), others)
        return values, jnp.isfinite(logits).all(-1)

    step = ready.jitted(of_batch, net)
    pixels = max(group.size[0] * group.size[1] for group in seen.groups)
    size = max(min(_BATCH, _PIXELS // pixels, len(split.labels)), 1)
    variables = jax.device_put(net.variables)
    found, labels, real = [], [], []
    for batch in data.eval_batches(split, size, 1):
        images, own, mask = (batch[name][0] for name in ('image', 'label', 'mask'))
        found.append(jax.device_get(step(variables, images, own)))
        labels.append(np.asarray(own))
        real.append(np.asarray(mask) > 0)
    kept = np.concatenate(real)
    (guesses, ranks, confidences, losses, others), finite = jax.tree.map(
        lambda *parts: np.concatenate(parts)[kept], *found
    )
    if not finite.all():
        place = int(np.argmin(finite))
        raise UserError(
            f'{net.path} gives image {place} and {np.sum(~finite) - 1} others no probabilities: '
            'the logits are not finite.'
        )
    every = np.concatenate(labels)[kept]
    return Measured(every, guesses, ranks, confidences, losses, others, net.count)


def interval(errors: int, images: int) -> tuple[float, float]:
    """The 95 % interval of an error, over images (Clopper & Pearson 1934), as fractions.

    It covers the sampling of the images, not that of the training. Of no image: all of 0 to 1.
    """
    if not images:
        return 0.0, 1.0
    found = scipy.stats.binomtest(int(errors), int(images)).proportion_ci(LEVEL, method='exact')
    return float(found.low), float(found.high)


def confusion(found: Measured) -> np.ndarray:
    """int64 [classes, classes]: images of the class of the row, guessed as that of the column."""
    table = np.zeros((found.classes, found.classes), np.int64)
    np.add.at(table, (found.labels, found.guesses), 1)
    return table


class Class(NamedTuple):
    """What is found of the images of one class."""

    place: int
    images: int
    errors: int
    taken_for: int | None  # the class that its errors are most often given
    times: int  # how often


def per_class(table: np.ndarray) -> list[Class]:
    """Of each class, from `confusion`."""
    found = []
    for index, row in enumerate(table):
        wrong = row.copy()
        wrong[index] = 0
        most = int(wrong.argmax()) if wrong.any() else None
        times = int(wrong.max(initial=0))
        found.append(Class(index, int(row.sum()), int(wrong.sum()), most, times))
    return found


class Bin(NamedTuple):
    """The images whose confidence is in one of BINS equal parts of 0 to 1."""

    images: int
    confidence: float  # mean
    right: float  # fraction


def reliability(found: Measured) -> tuple[list[Bin], float]:
    """The bins that have images, and the expected calibration error, a fraction.

    That is the mean of |confidence - fraction right| over bins, weighted by their images (Guo et
    al. 2017, On calibration of modern neural networks, Eq. 3). A confidence belongs to the bin
    (low, high].
    """
    places = np.clip(np.ceil(found.confidences * BINS).astype(int) - 1, 0, BINS - 1)
    guessed = found.guesses == found.labels
    bins = []
    for place in range(BINS):
        own = places == place
        if own.any():
            confidence = float(found.confidences[own].astype(np.float64).mean())
            bins.append(Bin(int(own.sum()), confidence, float(guessed[own].mean())))
    total = len(found.labels)
    return bins, sum(one.images * abs(one.confidence - one.right) for one in bins) / total


def most_wrong(found: Measured, count: int) -> np.ndarray:
    """int64 [<= count]: places of the wrong images, the most confident first."""
    wrong = np.flatnonzero(~found.right)
    return wrong[np.argsort(-found.confidences[wrong], kind='stable')][:count]
