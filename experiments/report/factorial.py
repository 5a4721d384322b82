"""The effects of a full factorial: a sweep whose arms are all combinations of some fields.

Four arms such as average and max pooling, each with overlap and without, have two main effects and
one interaction. Each main effect rests on all arms: it is a mean over all settings of the others.
"""

import math
from collections.abc import Sequence
from typing import Any

from experiments.errors import counted
from experiments.report import statistics
from experiments.report.statistics import Effect

MOST = 40  # effects that sentences and a figure show
_NONE = 1e-9  # width of an interval, a fraction: values without spread leave one of rounding


def factors(arms: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """{field: values} of the fields whose combinations these arms are, one arm for each.

    arms: what each sets, {'model.pool': 'max', ...}. A field that all set alike is left out. {}
    where the arms are anything else, or differ in one field alone.
    """
    found = {}
    arms = [{field: _level(value) for field, value in arm.items()} for arm in arms]
    for field in dict.fromkeys(field for arm in arms for field in arm):
        if any(field not in arm for arm in arms):
            return {}
        values = list(dict.fromkeys(arm[field] for arm in arms))
        if len(values) > 1:
            found[field] = values
    different = {tuple(arm[field] for field in found) for arm in arms}
    whole = len(arms) == len(different) == math.prod(map(len, found.values()))
    return found if whole and len(found) > 1 else {}


def _level(value: Any) -> Any:
    """A value as a key: a list as its text."""
    return str(value) if isinstance(value, (list, dict)) else value


def effects(
    done: dict[str, dict[int, dict[str, Any]]], level: float, metric: str = 'test/error'
) -> list[Effect]:
    """Main effects and two-way interactions, by least squares over arms or runs.

    done: {arm: {seed: final row}}. In the order of the fields of the sweep, the main effects first;
    in the unit of the metric, errors being fractions. Of a field with the values a, b, c there are
    three: b - a, c - a and c - b. p and `corrected` are Holm's, over all effects; low and high are
    those of one effect alone.

    [] if the sweep is no full factorial, an arm has no row yet, the arms share too few seeds, or
    rows have no spread to judge by.
    """
    firsts = [next(iter(rows.values()), {}) for rows in done.values()]
    given = [row.get('overrides') or {} for row in firsts]
    fields = factors(given)
    if not fields or all(len(rows) < 2 for rows in done.values()):
        return []
    short = {field: field.split('.')[-1] for field in fields}
    if len({*short.values(), 'value', 'seed'}) < len(short) + 2:
        short = {field: field for field in fields}
    rows = [
        {short[field]: _level(arm[field]) for field in fields}
        | {'value': row[metric], 'seed': seed}
        for arm, own in zip(given, done.values(), strict=True)
        for seed, row in own.items()
    ]
    levels = {short[field]: values for field, values in fields.items()}
    try:
        found = statistics.factorial(rows, levels, level)
    except ValueError:
        return []
    if all(one.high - one.low < _NONE for one in found):
        return []
    adjusted, levels_of = statistics.holm([one.p for one in found], level)
    return [
        one._replace(p=p, corrected=one.at(level, own))
        for one, p, own in zip(found, adjusted, levels_of, strict=True)
    ]


def lines(
    found: Sequence[Effect], level: float, field: str = '', arms: str = 'all arms'
) -> list[str]:
    """The effects on the test error in sentences: all main effects, and interactions that hold.

    field: those of this one alone; arms: which the effects are of.
    """
    if not found:
        return []
    own = [one for one in found if not field or field in one.fields]
    held = [one for one in own if len(one.fields) > 1 and one.p < 1 - level]
    rest = sum(len(one.fields) > 1 for one in own) - len(held)
    units = ' over the means of arms' if found[0].units == 'arms' else ''
    how = f'least squares{units}, the seed as a block'
    texts = [
        f'Effects on the test error, in percentage points, over {arms} ({how}), with '
        f'{100 * level:g} % intervals; these and p are corrected over {len(found)} effects (Holm):'
    ]
    told = [*(one for one in own if len(one.fields) == 1), *held]
    surest = {one.name for one in sorted(told, key=lambda one: one.p)[:MOST]}
    for one in told:
        if one.name not in surest:
            continue
        ends = (one.effect, *one.corrected, one.low, one.high)
        mean, low, high, *raw = (f'{100 * value:+z.2f}' for value in ends)
        texts.append(
            f'{one.name}: {mean} [{low}, {high}], p = {one.p:.2g} (uncorrected {" to ".join(raw)})'
        )
    if rest:
        what = f'{"other " * bool(held)}interaction'
        texts.append(f'{counted(rest, what)}: p of {1 - level:.2g} or more')
    if len(told) > MOST:
        texts.append(f'{counted(len(told) - MOST, "more effect")}, of no lower p: not shown')
    return texts
