"""What describes the images of the train split: moments, mean image, principal components.

All are exact sums of whole numbers. Those of a large set are of a fixed sample of SAMPLE images.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from experiments import progress
from experiments.data import cache, scan
from experiments.data.dataset import Dataset
from experiments.data.stream import Split, Streamed

SAMPLE = 100_000  # images above which the statistics are those of a fixed sample
LOOK = 64 * 2**20  # bytes of decoded images that are enough to look at a set
_BYTES = 64 * 2**20  # of pixels in float64 at a time


class Components(NamedTuple):
    """Principal components of the pixels of a set, on [0, 1]: the columns of `vectors`."""

    values: np.ndarray  # float32 [C], eigenvalues (variances), the largest first
    vectors: np.ndarray  # float32 [C, C], the largest entry of each column positive


class Statistics(NamedTuple):
    """Of the images of the train split, on [0, 1]."""

    mean: np.ndarray  # float32 [C]
    std: np.ndarray  # float32 [C]
    mean_image: np.ndarray | None = None  # float32 [H, W, C]
    components: Components | None = None


def statistics_of(dataset: Dataset, needs: Collection[str] = ()) -> Statistics:
    """Mean and deviation of a data set, with the other fields of Statistics that `needs` names.

    The first call for a large set reads all images; the result is kept on disk.
    """
    if not needs:
        return Statistics(dataset.mean, dataset.std)
    count, total, products = sums_of(dataset)
    return Statistics(
        dataset.mean,
        dataset.std,
        _mean_image(count, total) if 'mean_image' in needs else None,
        _components(count, total, products) if 'components' in needs else None,
    )


# --- channels ----------------------------------------------------------------------------------


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [C], of uint8 images / 255.

    Exact for any number of images: sums of the 256 grey levels' counts, no rounding on the way.
    """
    return of_levels(levels_of(images))


def moments_of(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The moments of the train split; kept on disk where they are slow to count."""
    compute = lambda chunks: {'levels': sum(map(levels_of, chunks))}
    return of_levels(_kept(dataset, 'levels', 'mean and deviation', compute)['levels'])


def levels_of(images: np.ndarray) -> np.ndarray:
    """int64 [C, 256]: how often each grey level occurs in each channel of uint8 [N, H, W, C]."""
    step = scan.step_of(images.shape[1:])  # counting takes many times an image's bytes
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), step):
        for c in range(images.shape[-1]):
            counts[c] += np.bincount(images[start : start + step, ..., c].ravel(), minlength=256)
    return counts


def of_levels(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [C] on [0, 1], from `levels_of`."""
    mean, variance = mean_and_variance(counts)
    # A channel that never changes carries nothing; dividing by 1 keeps it at zero.
    std = np.where(variance > 1e-12, np.sqrt(variance), 1)
    return mean.astype(np.float32), std.astype(np.float32)


def mean_and_variance(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel, float64 [C] on [0, 1], from `levels_of`."""
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    return mean, np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, 0)


# --- mean image and principal components -------------------------------------------------------


def of_images(images: np.ndarray) -> Statistics:
    """All statistics of uint8 images [N, H, W, C]."""
    sums = _sums([np.asarray(images)])
    return Statistics(*moments(images), _mean_image(*sums[:2]), _components(*sums))


_known: dict[tuple, tuple] = {}  # of the last data set: the arms of a sweep mostly share one


def sums_of(dataset: Dataset) -> tuple[int, np.ndarray, np.ndarray]:
    """For the train split: count of images, their sum [H, W, C], the sum of products [C, C]."""
    key = (dataset.fingerprint, dataset.stamp, dataset.counted, tuple(dataset.shape))
    if dataset.fingerprint and key in _known:
        return _known[key]
    names = 'count', 'total', 'products'
    compute = lambda chunks: dict(zip(names, map(np.asarray, _sums(chunks))))
    found = _kept(dataset, 'sums', 'mean image and colour components', compute)
    sums = int(found['count']), found['total'], found['products']
    _known.clear()
    _known[key] = sums
    return sums


def _sums(chunks: Iterable[np.ndarray]):
    """Count of images, their sum [H, W, C] and the sum of products [C, C] over pixels, exact."""
    count = 0
    total: np.ndarray | int = 0
    products: np.ndarray | int = 0
    for images in chunks:
        count += len(images)
        total += images.sum(0, dtype=np.int64)
        step = max(1, _BYTES // (8 * math.prod(images.shape[1:])))
        for start in range(0, len(images), step):
            # whole numbers, whose sums float64 holds exactly up to 2**53
            pixels = images[start : start + step].reshape(-1, images.shape[-1]).astype(np.float64)
            products += (pixels.T @ pixels).astype(np.int64)
    return count, total, products


def _mean_image(count, total):
    return (total / count / 255).astype(np.float32)


def _components(count, total, products) -> Components:
    pixels = count * total.shape[0] * total.shape[1]
    mean = total.sum((0, 1)) / pixels
    covariance = (products / pixels - np.outer(mean, mean)) / 255**2
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    # an eigenvector's sign is any solver's choice; this makes it the same everywhere
    largest = vectors[np.abs(vectors).argmax(0), np.arange(len(values))]
    return Components(
        values.astype(np.float32), (vectors * np.where(largest < 0, -1, 1)).astype(np.float32)
    )


# --- the images they are of --------------------------------------------------------------------


def sampled(split: Split, count: int) -> np.ndarray:
    """int64 [n], places of all images of a split, or of a fixed sample of `count` of them."""
    total = len(split.labels)
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).choice(total, count, replace=False))


def sample(split: Split, count: int) -> np.ndarray:
    """uint8 [n, H, W, C]: a fixed sample of `count` images of a split, or all of fewer."""
    return np.concatenate(list(_images(split, sampled(split, count))))


def _images(split: Split, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The images at these places of a split, uint8 [n, H, W, C] at a time."""
    if isinstance(split, Streamed) and split.workers:
        chunks = scan.Chunks(split.records, split.rows[rows], split.how, split.shape, split.classes)
        for chunk in scan.read(chunks, split.workers):
            scan.good_of(chunk, False)
            yield chunk['image']
        return
    step = scan.step_of(split.shape)
    for start in range(0, len(rows), step):
        yield split.read(rows[start : start + step])[0]


def _kept(dataset: Dataset, what: str, words: str, compute: Callable) -> dict:
    """What `compute` makes of the images of the train split, or of a fixed sample of SAMPLE.

    compute: iterator of uint8 [n, H, W, C] -> {name: array}; kept on disk where it is slow.
    A data set that was loaded for a look takes what is kept there, or else computes it of
    `dataset.counted` images and prints a note, with `words` for what it is.
    """
    split = dataset.train
    total = min(len(split.labels), SAMPLE)
    key = 'statistic', what, dataset.fingerprint, tuple(split.shape), SAMPLE
    place = dataset.cache, f'{dataset.name} {what}', key, (dataset.stamp,)
    files = isinstance(split, Streamed) and not split.records.embedded
    slow = files or total * math.prod(split.shape) > LOOK
    kept = cache.read(*place) if slow else None
    if kept is None:
        count = min(total, dataset.counted or total)
        kept = compute(_images(split, sampled(split, count)))
        if count < total:
            progress.note(
                f'{dataset.name}: {words} are those of a fixed sample of {count:,} of its '
                f'{len(split.labels):,} training images; a training uses {total:,}'
            )
        elif slow:
            cache.write(*place, kept)
    return kept
