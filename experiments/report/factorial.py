"""The effects of a full factorial: a sweep whose arms are all combinations of some fields.

Four arms such as average and max pooling, each with overlap and without, have two main effects and
one interaction. Each main effect rests on all arms: it is a mean over all settings of the others.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.errors import counted
from experiments.report import statistics


class Effect(NamedTuple):
    """A main effect, or an interaction of two fields, in the unit of the values."""

    name: str  # 'norm batch - none', 'pool max - average x overlap True - False'
    effect: float
    low: float  # of the interval of this effect alone
    high: float
    p: float  # Holm's, over all effects

    @property
    def fields(self) -> list[str]:
        """The fields that it is about: one, or two of an interaction."""
        return [part.split()[0] for part in self.name.split(' x ')]


def factors(arms: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """{field: values} of the fields whose combinations these arms are, one arm for each.

    arms: what each sets, {'model.pool': 'max', ...}. A field that all set alike is left out. {}
    where the arms are anything else, or differ in one field alone.
    """
    found = {}
    for field in dict.fromkeys(field for arm in arms for field in arm):
        if any(field not in arm or isinstance(arm[field], (list, dict)) for arm in arms):
            return {}
        values = list(dict.fromkeys(arm[field] for arm in arms))
        if len(values) > 1:
            found[field] = values
    different = {tuple(arm[field] for field in found) for arm in arms}
    whole = len(arms) == len(different) == math.prod(map(len, found.values()))
    return found if whole and len(found) > 1 else {}


def effects(
    done: dict[str, dict[int, dict[str, Any]]], level: float, metric: str = 'test/error'
) -> list[Effect]:
    """Main effects and two-way interactions, by least squares with the seed as a block.

    done: {arm: {seed: final row}}. In the order of the fields of the sweep, the main effects first;
    in the unit of the metric, errors being fractions. Of a field with the values a, b, c there are
    three: b - a, c - a and c - b. [] if the sweep is no full factorial, or an arm has no row yet.
    """
    firsts = [next(iter(rows.values()), {}) for rows in done.values()]
    fields = factors([row.get('overrides') or {} for row in firsts])
    if not fields or all(len(rows) < 2 for rows in done.values()):  # no spread to judge by
        return []
    short = {field: field.split('.')[-1] for field in fields}
    if len(set(short.values())) < len(short):
        short = {field: field for field in fields}
    rows = [
        {short[field]: row['overrides'][field] for field in fields}
        | {'value': row[metric], 'seed': seed}
        for own in done.values()
        for seed, row in own.items()
    ]
    levels = {short[field]: values for field, values in fields.items()}
    found = statistics.factorial(rows, levels, level)
    adjusted, _ = statistics.holm([one.p for one in found])
    return [Effect(*one[:4], p) for one, p in zip(found, adjusted, strict=True)]


def lines(found: Sequence[Effect], level: float, field: str = '') -> list[str]:
    """The effects on the test error in sentences: all main effects, and interactions that hold.

    field: those of this one alone.
    """
    if not found:
        return []
    own = [one for one in found if not field or field in one.fields]
    held = [one for one in own if len(one.fields) > 1 and one.p < 1 - level]
    rest = sum(len(one.fields) > 1 for one in own) - len(held)
    texts = [
        f'Effects on the test error, in percentage points, over all arms (least squares, the seed '
        f"as a block), with {100 * level:g} % intervals of each alone; p after Holm's correction "
        f'over {len(found)} effects:'
    ]
    for one in [*(one for one in own if len(one.fields) == 1), *held]:
        mean, low, high = (f'{100 * value:+z.2f}' for value in one[1:4])
        texts.append(f'{one.name}: {mean} [{low}, {high}], p = {one.p:.2g}')
    if rest:
        what = f'{"other " * bool(held)}interaction'
        texts.append(f'{counted(rest, what)}: p of {1 - level:.2g} or more')
    return texts
