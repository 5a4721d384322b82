"""The comparisons that an experiment declares, each alone and as one of the family."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.report import statistics

LEAST = 2  # seeds of an arm, below which there is no interval


class Comparison(NamedTuple):
    """Arm b minus arm a, alone and as one of a family."""

    a: str
    b: str
    raw: statistics.Difference
    corrected: statistics.Difference  # at the level of Holm's procedure
    p: float  # Holm's
    level: float  # of the corrected interval


def comparisons(
    pairs: Sequence[tuple[str, str]], arms: Mapping[str, Mapping[int, float]], level: float
) -> dict[tuple[str, str], Comparison]:
    """The comparisons (a, b) of those arms, {seed: value}, that have seeds enough.

    Holm's correction counts all of the family, those without values as well.
    """
    known = [pair for pair in pairs if min(len(arms[arm]) for arm in pair) >= LEAST]
    raw = {(a, b): statistics.difference(arms[a], arms[b], level) for a, b in known}
    p = [raw[pair].p if pair in raw else 1.0 for pair in pairs]
    adjusted, levels = statistics.holm(p, level) if pairs else ([], [])
    found = {}
    for pair, own, own_level in zip(pairs, adjusted, levels):
        if pair in raw:
            a, b = pair
            paired = raw[pair].paired
            corrected = statistics.difference(arms[a], arms[b], own_level, paired)
            found[pair] = Comparison(a, b, raw[pair], corrected, own, own_level)
    return found
