"""What the single test images say of two arms: rows hold one bit for each image.

An interval over seeds does not know that other test images would give another error. One over seeds
and test images does; two nets alone are compared image by image.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments import bits
from experiments.report import statistics

Rows = Mapping[int, dict[str, Any]]  # of the final runs of an arm, by seed


class ByImage(NamedTuple):
    """Arm b beside arm a on the same test images."""

    error: float  # standard error of their difference over images, a fraction; nan of one net
    only_a: int = 0  # images that net a alone has right, where each arm is one net
    only_b: int = 0
    p: float = math.nan  # McNemar's, of these two numbers: chance alone; nan of several nets

    def widened(self, low: float, high: float, level: float) -> tuple[float, float]:
        """The interval over seeds, in fractions, made one over seeds and test images."""
        return statistics.widened(low, high, self.error, level)


def by_image(a: Rows, b: Rows, paired: bool) -> ByImage | None:
    """None where rows lack their bits, are of other test images, or too few.

    paired: of the seeds that both arms have.
    """
    if paired:
        shared = sorted(a.keys() & b.keys())
        a, b = ({seed: rows[seed] for seed in shared} for rows in (a, b))
    every = [*a.values(), *b.values()]
    if not (a and b) or any('test/right' not in row for row in every):
        return None
    if len({(row.get('dataset'), row['test/count']) for row in every}) > 1:
        return None
    one, two = (
        np.array([bits.unpack(row['test/right'], row['test/count']) for row in rows.values()])
        for rows in (a, b)
    )
    if len(one) == len(two) == 1:
        return ByImage(math.nan, *statistics.mcnemar(one[0], two[0]))
    if min(len(one), len(two), one.shape[1]) < 2:
        return None
    return ByImage(statistics.image_error(one, two, paired))
