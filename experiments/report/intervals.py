"""Confidence intervals over seeds.

Every interval is a Student t interval over seeds, so it covers what a seed changes:
initialisation and order of the data. It does not cover the sampling of the test images, which all
seeds share. Each is made for one comparison; none is corrected for several comparisons.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """Mean of n values with the two ends of its confidence interval (nan where n is too small)."""

    mean: float
    low: float
    high: float
    n: int


@functools.lru_cache(maxsize=1024)
def _standard(level: float, degrees: int) -> tuple[float, float]:
    """The central interval of Student's t of so many degrees of freedom."""
    low, high = scipy.stats.t.interval(level, degrees)
    return float(low), float(high)


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Student t interval of the mean: mean +- t(n - 1, (1 + level) / 2) * s / sqrt(n).

    One value has a mean and no interval (nan); no value has neither.

    Raises ValueError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f'level is {level}: it must lie between 0 and 1, e.g. 0.95')
    found = np.asarray(list(values), np.float64)
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    # The standard interval, scaled here: scipy gives nan for values without spread
    low, high = np.multiply(_standard(level, n - 1), found.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean + float(low), mean + float(high), n)
