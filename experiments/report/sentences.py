"""The summary in sentences: what the test errors support, and the notes on a table."""

import math
from typing import Any

from experiments.errors import listed, printable
from experiments.report import factorial
from experiments.report.images import by_image
from experiments.report.intervals import Interval
from experiments.report.summary import MANY


def percent(level: float) -> str:
    """0.95 -> '95 %'."""
    return f'{100 * level:g} %'


def _decimals(scaled: Interval) -> int:
    """Digits after the point, 1 to 3: enough that neither end nor half width is rounded to 0."""
    ends = (scaled.high - scaled.mean, scaled.low, scaled.high)
    smallest = min((abs(end) for end in ends if abs(end) > 1e-9), default=abs(scaled.mean))
    return next((digits for digits in (1, 2) if round(smallest, digits)), 3)


def sentence(arm: dict[str, Any], reference: dict[str, Any]) -> str:
    """What the paired test errors support, in one sentence and no more than that.

    Args: two dicts of `summarise`, both with results; reference is the baseline or a neighbour.

    The interval is for this comparison alone, over seeds (see intervals.py).
    """
    name, other = arm['arm'], reference['arm']
    difference = arm['neighbours'].get(other, arm['difference'])
    than = f' than {other}'
    if other in arm['neighbours']:
        name, than = f'{name} against {other}', ''
    n, expected = difference.n, arm['seeds_expected']
    if arm['data'] != reference['data']:
        return f'{name}: no comparison, because its data set is not that of {other}'
    if n == 0:
        return f'{name}: no comparison, because no seed finished both here and in {other}'
    scaled = Interval(100 * difference.mean, 100 * difference.low, 100 * difference.high, n)
    digits = _decimals(scaled)
    mean, low, high = (f'{value:+z.{digits}f}' for value in scaled[:3])
    some = f' ({n} of {expected} planned seeds)' if n < expected else ''
    images = by_image(reference['finished'], arm['finished'], paired=True)
    if n == 1:
        single = (
            f'{name}: {mean} percentage points against {other} with 1 seed{some}: one seed gives '
            'no interval, so no conclusion'
        )
        if images and not math.isnan(images.p):
            rows = [row for one in (arm, reference) for row in one['finished'].values()]
            what = 'evaluations' if all('evaluation' in row for row in rows) else 'nets'
            single += (
                f' beyond these two {what}, of which {images.only_b:,} test images are right by '
                f'the first alone and {images.only_a:,} by the second '
                f"(McNemar's p = {images.p:.2g})"
            )
        return single
    if scaled.high - scaled.low < 1e-9:
        same = abs(scaled.mean) < 1e-9
        what = 'exactly the same test error as' if same else f'{mean} percentage points against'
        return (
            f'{name}: {what} {other} with every one of {n} seeds{some}: no spread between '
            'seeds, so the interval has no width and supports no conclusion'
        )
    text = f'{name}: {mean} percentage points, {percent(arm["level"])} interval {low} to {high}'
    if images:
        ends = images.widened(difference.low, difference.high, arm['level'])
        wide = 100 * ends[0], 100 * ends[1]
        fine = max(digits, _decimals(Interval(scaled.mean, wide[0], wide[1], n)))
        text += f' (over seeds and test images {wide[0]:+z.{fine}f} to {wide[1]:+z.{fine}f})'
        if wide[0] <= 0 <= wide[1]:
            than += ' on these test images'
    text += ': '
    if scaled.high < 0:
        return f'{text}lower test error{than}{some}'
    if scaled.low > 0:
        return f'{text}higher test error{than}{some}'
    return f'{text}not resolved with {n} seeds{some and f" (of {expected} planned)"}'


def sentences(summary: list[dict[str, Any]]) -> list[str]:
    """One sentence per comparison: every arm with the baseline, then with its neighbours.

    Arms without a result are named together. Of a full factorial with more than MANY arms, the
    effects of its fields stand in the place of the arms.
    """
    effects = factorial.lines(summary[0]['effects'], summary[0]['level'])
    if effects and len(summary) > MANY:
        return [printable(line) for line in effects + _family(summary)]
    named = {arm['arm']: arm for arm in summary if arm['seeds']}
    lines = [
        sentence(named[arm], named[other])
        for arm in named
        if arm != summary[0]['arm']
        for other in (summary[0]['arm'], *named[arm]['neighbours'])
        if other in named
    ]
    lacking: dict[str, list[str]] = {}
    for arm in summary:
        if not arm['seeds']:
            lacking.setdefault(arm['missing'], []).append(arm['arm'])
    if len(summary) > 1:
        lines += [
            f'No comparison with {listed(arms, between="; ")}: no result ({missing})'
            for missing, arms in lacking.items()
        ]
    return [printable(line) for line in lines + effects + _family(summary)]


def _family(summary: list[dict[str, Any]]) -> list[str]:
    """The declared comparisons, with intervals at the levels of Holm's procedure."""
    found = [one for arm in summary for one in arm['declared'].values()]
    if not found:
        return []
    level = percent(summary[0]['level'])
    lines = [
        f'Declared comparisons, in percentage points, with {level} intervals at the levels of '
        "Holm's procedure, which corrects for their number:"
    ]
    for one in found:
        low, high = (100 * value for value in one.corrected[1:3])
        how = 'paired by seed' if one.raw.paired else 'unpaired'
        if not math.isnan(one.raw.correlation):
            how += f', correlation {one.raw.correlation:+.2f}'
        if one.raw[1:3] != one.corrected[1:3]:
            how += f'; uncorrected {100 * one.raw.low:+.2f} to {100 * one.raw.high:+.2f}'
        lines.append(
            f'{one.b} minus {one.a}: {100 * one.raw.effect:+.2f} [{low:+.2f}, {high:+.2f}], '
            f'p = {one.p:.2g} ({how})'
        )
    return lines


def notes(summary: list[dict[str, Any]]) -> list[str]:
    """What a table does not say: what the intervals cover, learning rates at the edge, failures."""
    text = (
        f'Intervals: {percent(summary[0]["level"])} Student t over seeds, so they cover '
        'initialisation and data order, not the sampling of test images.'
    )
    if len(summary) > 1:
        text += (
            ' Each is for one comparison, not corrected for several comparisons. Differences are '
            f'in percentage points, paired by seed, to {summary[0]["arm"]}.'
        )
    # Without an interval there is nothing to explain
    several = any(arm['seeds_expected'] > 1 for arm in summary)
    texts = [text] if several or len(summary) > 1 else []
    texts += views_notes(summary)
    if any(arm['rate_at_edge'] for arm in summary):
        texts.append(
            '* lowest or highest of the learning rates tried: a better one may lie beyond.'
        )
    texts += [f'{arm["arm"]}: {failure}' for arm in summary for failure in arm['failures']]
    return texts


def data_note(summary: list[dict[str, Any]]) -> str:
    """Which images the numbers are about, and how many of them where their number was limited."""
    images = dict.fromkeys(arm['images'].strip().rstrip('.') for arm in summary)
    return f'Data: {"; ".join(images)}.'


def views_notes(summary: list[dict[str, Any]]) -> list[str]:
    """The errors of the centre, where test errors are over several views."""
    seen = [arm for arm in summary if arm['centre_error'].n]
    if not seen:
        return []
    errors = '; '.join(
        f'{arm["arm"]}: {error_text(arm["centre_error"])}, '
        f'{difference_text(arm["gap"])} above train'
        for arm in seen
    )
    return [
        'Test errors are over several views of an image, train errors over its centre alone. '
        'The test error of the centre, %, and by how many percentage points it is above the train '
        f'error: {errors}.'
    ]


def top5_notes(summary: list[dict[str, Any]]) -> list[str]:
    """The top-5 test errors, where they were counted."""
    seen = [arm for arm in summary if arm['test_error5'].n]
    errors = '; '.join(f'{arm["arm"]}: {error_text(arm["test_error5"])}' for arm in seen)
    return [f'Top-5 test error, %: {errors}.'] if seen else []


def error_text(error: Interval) -> str:
    """An error in percent with the half width of its interval; '-' without a value."""
    if error.n < 2:
        return f'{100 * error.mean:.2f}' if error.n else '-'
    return f'{100 * error.mean:.2f} ± {100 * (error.high - error.mean):.2f}'


def difference_text(difference: Interval | None) -> str:
    """A difference in percentage points with both ends; 'baseline' for None."""
    if difference is None:
        return 'baseline'
    if difference.n < 2:
        return f'{100 * difference.mean:+z.2f}' if difference.n else '-'
    mean, low, high = (f'{100 * value:+z.2f}' for value in difference[:3])
    return f'{mean} [{low}, {high}]'
